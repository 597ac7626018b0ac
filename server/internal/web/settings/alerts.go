package settings

import (
	"net/http"
	"strings"

	"github.com/a-h/templ"

	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/web/page"
)

// alertsPage is where a project's alerts go.
type alertsPage struct {
	project.Alerts
	MailReady bool
	Secret    string    // shown once
	Tested    [2]string // what became of a test: webhook, e-mail
}

func (s *Pages) alertsPage(f *page.Frame) alertsPage {
	f.Title = "Alerts"
	p, _ := s.Registry.Snapshot().Project(f.Session.ProjectID)
	return alertsPage{Alerts: p.Alerts, MailReady: s.Alerts.Mailer != nil}
}

func (s *Pages) alerts(_ *http.Request, f *page.Frame) (templ.Component, error) {
	return alerts(*f, s.alertsPage(f)), nil
}

// saveAlerts shows a new secret in its answer, which nothing keeps.
func (s *Pages) saveAlerts(r *http.Request, f *page.Frame) (templ.Component, error) {
	_, secret, err := s.Registry.SetAlerts(r.Context(), f.Session.ProjectID, project.Alerts{WebhookURL: f.Form.Get("webhook_url"), Emails: page.SplitList(f.Form.Get("emails"))}, f.Form.Get("rotate") != "")
	if err != nil {
		return nil, err
	}
	if secret.IsZero() {
		return f.Done(f.Path("/alerts"), "Alerts saved.")
	}
	p := s.alertsPage(f)
	p.Secret = secret.Reveal()
	return alerts(*f, p), nil
}

func (s *Pages) testAlerts(r *http.Request, f *page.Frame) (templ.Component, error) {
	p := s.alertsPage(f)
	p.Tested[0], p.Tested[1] = s.Alerts.Test(r.Context(), f.Session.ProjectID)
	return alerts(*f, p), nil
}

func emailList(list []string) string { return strings.Join(list, ", ") }

func emailHelp(ready bool) string {
	if ready {
		return "Comma-separated, at most 10."
	}
	return "Comma-separated, at most 10. E-mail is not configured: the server needs HEDGEROW_SMTP_URL and smtp_from."
}
