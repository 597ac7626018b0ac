package experiment

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/mail"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// SignatureHeader has what a webhook's receiver checks:
//
//	X-Hedgerow-Signature: t=1764000000,v1=5257a869e7…
//
// t is the time of sending in seconds since 1970, v1 the HMAC-SHA256, in hex,
// of t, a dot and the body as it was sent, with the project's alert secret.
// Receivers that also check t are protected from replayed requests.
const SignatureHeader = "X-Hedgerow-Signature"

// Sign is the value of [SignatureHeader].
func Sign(secret string, at time.Time, body []byte) string {
	t := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(t + "."))
	mac.Write(body)
	return "t=" + t + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}

// Webhook posts alerts as JSON, signed. Client must be one that rejects
// addresses which are not public and follows no redirect.
type Webhook struct {
	Client *http.Client
	URL    string
	Secret project.Secret
	Now    func() time.Time // Defaults to time.Now
}

// Send makes one attempt. Any 2xx answer is a success.
func (w Webhook) Send(ctx context.Context, a Alert) error {
	body, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("encode alert: %w", err)
	}
	now := w.Now
	if now == nil {
		now = time.Now
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL, bytes.NewReader(body))
	if err != nil {
		return event.NewError(event.CodeInvalid, "the webhook URL cannot be used", "set it again on the Alerts page", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "hedgerow")
	req.Header.Set("X-Hedgerow-Delivery", a.ID)
	req.Header.Set(SignatureHeader, Sign(w.Secret.Reveal(), now(), body))
	res, err := w.Client.Do(req)
	if err != nil {
		// The error of net/http quotes the URL, which may hold a secret.
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return event.NewError(event.CodeUnavailable, "the webhook could not be reached", "check its URL", err)
	}
	defer res.Body.Close()
	_, _ = io.CopyN(io.Discard, res.Body, 64<<10)
	if res.StatusCode/100 != 2 {
		return event.NewError(event.CodeUpstream, fmt.Sprintf("the webhook answered with status %d", res.StatusCode), "see the receiver's log", nil)
	}
	return nil
}

// message is the e-mail of an alert.
func (a Alert) message(to []string) mail.Message {
	return mail.Message{ID: a.ID, To: to, Subject: a.Subject(), Text: a.Text()}
}

// Sender sends alerts the ways that projects have set up.
type Sender struct {
	Client  *http.Client // refuses addresses that are not public, follows no redirect
	Mailer  *mail.Sender // nil: no mail server is configured
	Project func(id string) (project.Project, bool)
	URL     string           // base of links to the pages
	Now     func() time.Time // Defaults to time.Now
}

// Ways are a project's ways.
func (s *Sender) Ways(projectID string) (w Ways) {
	p, ok := s.Project(projectID)
	if !ok {
		return Ways{}
	}
	if p.Alerts.WebhookURL != "" {
		w.Webhook = Webhook{Client: s.Client, URL: p.Alerts.WebhookURL, Secret: p.AlertSecret, Now: s.Now}.Send
	}
	if s.Mailer != nil && len(p.Alerts.Emails) > 0 {
		w.Email = func(ctx context.Context, a Alert) error { return s.Mailer.Send(ctx, a.message(p.Alerts.Emails)) }
	}
	return w
}

// Test sends a test alert through each configured channel. Results are "sent",
// "not set up", or the error.
func (s *Sender) Test(ctx context.Context, projectID string) (webhook, email string) {
	now := time.Now
	if s.Now != nil {
		now = s.Now
	}
	a := TestAlert(projectID, s.URL, now())
	try := func(send func(context.Context, Alert) error) string {
		if send == nil {
			return "not set up"
		}
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		if err := send(ctx, a); err != nil {
			return event.AsError(err).Message
		}
		return "sent"
	}
	w := s.Ways(projectID)
	return try(w.Webhook), try(w.Email)
}
