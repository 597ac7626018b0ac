package project

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/hedgerow/hedgerow/event"
)

// Alerts configures who is notified when an experiment's guardrail breaks.
type Alerts struct {
	WebhookURL string   `json:"webhook_url"` // https://…; "" is none
	Emails     []string `json:"emails"`      // addresses, at most 10
}

const (
	alertSecretPrefix = "whsec_"
	maxAlertEmails    = 10
)

// SetAlerts sets where a project's alerts go. The secret with which requests to
// the webhook are signed is made when the URL is new, or when rotate requests
// another; it is returned then, and never again.
func (r *Registry) SetAlerts(ctx context.Context, projectID string, a Alerts, rotate bool) (p Project, secret Secret, err error) {
	if a.WebhookURL, err = normalizeWebhook(a.WebhookURL, r.o.AllowInsecureHosts); err != nil {
		return Project{}, Secret{}, err
	}
	if len(a.Emails) > maxAlertEmails {
		return Project{}, Secret{}, event.Invalid(fmt.Sprintf("alerts go to at most %d addresses", maxAlertEmails), "use a mailing list")
	}
	emails := []string{}
	for _, e := range a.Emails {
		e, err := checkEmail(e)
		if err != nil {
			return Project{}, Secret{}, err
		}
		if !slices.Contains(emails, e) {
			emails = append(emails, e)
		}
	}
	a.Emails = emails
	var before Project
	p, err = change(ctx, r, prefixProject+projectID, func(p *Project) error {
		before, secret = *p, Secret{}
		p.Alerts, p.UpdatedAt = a, r.now().UTC()
		switch {
		case a.WebhookURL == "":
			p.AlertSecret = Secret{}
		case rotate || p.AlertSecret.IsZero() || before.Alerts.WebhookURL != a.WebhookURL:
			secret = NewSecret(alertSecretPrefix + randomString(base62, 40))
			p.AlertSecret = secret
		}
		return nil
	})
	if err != nil {
		return Project{}, Secret{}, err
	}
	// A webhook's path may be a secret, and addresses are personal data: the
	// audit log gets neither.
	var detail []string
	if before.Alerts.WebhookURL != a.WebhookURL {
		detail = append(detail, "webhook: "+hostOf(before.Alerts.WebhookURL)+" → "+hostOf(a.WebhookURL))
	}
	if !secret.IsZero() {
		detail = append(detail, "a new signing secret")
	}
	if !slices.Equal(before.Alerts.Emails, a.Emails) {
		detail = append(detail, fmt.Sprintf("e-mail addresses: %d → %d", len(before.Alerts.Emails), len(a.Emails)))
	}
	return p, secret, r.done(ctx, p.Revision, AuditEntry{Action: "project.alerts", ProjectID: p.ID, Target: p.Name, Detail: strings.Join(detail, ", ")})
}

func hostOf(raw string) string {
	if u, err := url.Parse(raw); err == nil && u.Host != "" {
		return u.Host
	}
	return "none"
}

// normalizeWebhook checks a URL that alerts are posted to, by the rules of
// [NormalizeHost]; it may have a query.
func normalizeWebhook(raw string, insecure bool) (string, error) {
	raw = strings.TrimSpace(raw)
	if raw == "" {
		return "", nil
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Hostname() == "" || u.Opaque != "" || len(raw) > 2000:
		return "", event.Invalid("the webhook is not a URL", "use a URL such as https://hooks.example.com/path")
	case u.User != nil:
		return "", event.Invalid("the webhook's URL contains a user name or password", "remove them: the receiver can verify the signature that each request has")
	case u.Scheme != "https" && !(insecure && u.Scheme == "http"):
		return "", event.Invalid("the webhook is not https://", "alerts must be sent encrypted")
	case !insecure && !publicName(u.Hostname()):
		return "", event.Invalid("the webhook is a private or local address", "use a public host: hedgerow does not send to private addresses")
	}
	u.Fragment = ""
	return u.String(), nil
}
