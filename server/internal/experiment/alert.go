package experiment

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/http"
	"net/mail"
	"net/smtp"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/event"
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

// Mailer sends mail through one SMTP server.
type Mailer struct {
	addr, host string
	implicit   bool // TLS from the first byte
	auth       smtp.Auth
	from       mail.Address
	now        func() time.Time
	local      bool // the server is on this machine: no TLS needed
}

// NewMailer reads a server's address: smtp://user:password@host:587, which
// requests TLS by STARTTLS unless the host is this machine, or smtps://…:465.
// from is an address, with or without a name. Errors say nothing of the
// password.
func NewMailer(raw, from string, now func() time.Time) (*Mailer, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" || u.Scheme != "smtp" && u.Scheme != "smtps" {
		return nil, event.Invalid("the SMTP server's address cannot be read", "write smtp://user:password@mail.example.com:587 or smtps://user:password@mail.example.com:465")
	}
	addr, err := mail.ParseAddress(from)
	if err != nil {
		return nil, event.Invalid("the sender of alerts is not an e-mail address", "use an address such as hedgerow@example.com")
	}
	m := &Mailer{host: u.Hostname(), implicit: u.Scheme == "smtps", from: *addr, now: now}
	if m.now == nil {
		m.now = time.Now
	}
	port := u.Port()
	switch {
	case port == "" && m.implicit:
		port = "465"
	case port == "":
		port = "587"
	}
	m.addr = net.JoinHostPort(m.host, port)
	ip := net.ParseIP(m.host)
	m.local = m.host == "localhost" || ip != nil && ip.IsLoopback()
	if u.User != nil {
		password, _ := u.User.Password()
		m.auth = smtp.PlainAuth("", u.User.Username(), password, m.host)
	}
	return m, nil
}

// Send makes one attempt to send an alert to all addresses in one message.
func (m *Mailer) Send(ctx context.Context, to []string, a Alert) error {
	if err := m.send(ctx, to, m.message(to, a)); err != nil {
		var e *event.Error
		if errors.As(err, &e) {
			return e
		}
		return event.NewError(event.CodeUnavailable, "the mail server did not accept the alert", "check the server's settings (smtp_url) and its log", err)
	}
	return nil
}

func (m *Mailer) send(ctx context.Context, to []string, message []byte) error {
	conn, err := (&net.Dialer{Timeout: 15 * time.Second}).DialContext(ctx, "tcp", m.addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(30 * time.Second)
	}
	_ = conn.SetDeadline(deadline)
	secure := &tls.Config{ServerName: m.host, MinVersion: tls.VersionTLS12}
	if m.implicit {
		conn = tls.Client(conn, secure)
	}
	c, err := smtp.NewClient(conn, m.host)
	if err != nil {
		return err
	}
	defer c.Close()
	if ok, _ := c.Extension("STARTTLS"); ok && !m.implicit {
		if err := c.StartTLS(secure); err != nil {
			return err
		}
	} else if !m.implicit && !m.local {
		return event.NewError(event.CodeForbidden, "the mail server offers no TLS", "use smtps://, or a server that offers STARTTLS", nil)
	}
	if m.auth != nil {
		if err := c.Auth(m.auth); err != nil {
			return err
		}
	}
	if err := c.Mail(m.from.Address); err != nil {
		return err
	}
	for _, t := range to {
		if err := c.Rcpt(t); err != nil {
			return err
		}
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(message); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	// The server has accepted the message: an error of QUIT changes nothing.
	_ = c.Quit()
	return nil
}

// message is RFC 5322 with a body in quoted-printable. No header takes a line
// break from a name.
func (m *Mailer) message(to []string, a Alert) []byte {
	var b bytes.Buffer
	header := func(name, value string) {
		fmt.Fprintf(&b, "%s: %s\r\n", name, strings.NewReplacer("\r", " ", "\n", " ").Replace(value))
	}
	_, domain, _ := strings.Cut(m.from.Address, "@")
	header("From", m.from.String())
	header("To", strings.Join(to, ", "))
	header("Subject", mime.QEncoding.Encode("utf-8", strings.NewReplacer("\r", " ", "\n", " ").Replace(a.Subject())))
	header("Date", m.now().UTC().Format(time.RFC1123Z))
	header("Message-ID", "<"+a.ID+"@"+domain+">")
	header("MIME-Version", "1.0")
	header("Content-Type", "text/plain; charset=utf-8")
	header("Content-Transfer-Encoding", "quoted-printable")
	b.WriteString("\r\n")
	w := quotedprintable.NewWriter(&b)
	_, _ = w.Write([]byte(strings.ReplaceAll(a.Text(), "\n", "\r\n")))
	_ = w.Close()
	return b.Bytes()
}

// Sender sends alerts the ways that projects have set up.
type Sender struct {
	Client  *http.Client // refuses addresses that are not public, follows no redirect
	Mailer  *Mailer      // nil: no mail server is configured
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
		w.Email = func(ctx context.Context, a Alert) error { return s.Mailer.Send(ctx, p.Alerts.Emails, a) }
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
