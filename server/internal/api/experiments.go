package api

import (
	"net/http"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/experiment"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

// ExperimentInput makes an experiment.
type ExperimentInput struct {
	experiment.Spec
	Start     bool      `json:"start,omitempty"`     // begin now; else it is a draft
	StartedAt time.Time `json:"started_at,omitzero"` // begin at a moment that has passed: what came since counts too
}

// StopExperimentInput ends an experiment.
type StopExperimentInput struct {
	Reason      string `json:"reason,omitempty"`
	StopRollout bool   `json:"stop_rollout,omitempty"` // also stop the rollout: all users get the control
}

// AlertsInput sets the destination of a project's alerts.
type AlertsInput struct {
	WebhookURL   string   `json:"webhook_url,omitempty"` // "" is none
	Emails       []string `json:"emails,omitempty"`
	RotateSecret bool     `json:"rotate_secret,omitempty"`
}

// Alerts is the destination of a project's alerts; Secret is returned only
// once, when created.
type Alerts struct {
	project.Alerts
	MailReady bool   `json:"mail_ready"` // the server has an SMTP server to send by
	Secret    string `json:"secret,omitempty"`
}

// ExperimentView is an experiment and its state.
type ExperimentView struct {
	Experiment experiment.Definition `json:"experiment"`
	Report     *experiment.Report    `json:"report"`
}

func noExperiment() error {
	return event.NewError(event.CodeNotFound, "experiment not found", "GET /api/v1/experiments lists them", nil)
}

func (a *API) findExperiment(r *http.Request, p Principal) (experiment.Definition, error) {
	d, ok := a.c.Experiments.Experiment(p.ProjectID, r.PathValue("id"))
	if !ok {
		return d, noExperiment()
	}
	return d, nil
}

func (a *API) experimentView(r *http.Request, d experiment.Definition) (any, error) {
	report, err := a.c.Reports.Report(r.Context(), d)
	if err != nil {
		return nil, err
	}
	return ExperimentView{d, report}, nil
}

func (a *API) listExperiments(_ *http.Request, p Principal) (any, error) {
	list := a.c.Experiments.Experiments(p.ProjectID)
	if list == nil {
		list = []experiment.Definition{}
	}
	return map[string]any{"experiments": list}, nil
}

func (a *API) createExperiment(r *http.Request, p Principal) (any, error) {
	var in ExperimentInput
	if err := readJSON(r, &in); err != nil {
		return nil, err
	}
	d := experiment.Definition{Project: p.ProjectID, Spec: in.Spec, Started: in.StartedAt}
	if in.Start && in.StartedAt.IsZero() {
		d.Started = a.c.Reports.Time()
	}
	d, err := a.c.Experiments.Create(r.Context(), p.Actor, d)
	if err != nil {
		return nil, err
	}
	return a.experimentView(r, d)
}

func (a *API) experiment(r *http.Request, p Principal) (any, error) {
	d, err := a.findExperiment(r, p)
	if err != nil {
		return nil, err
	}
	return a.experimentView(r, d)
}

func (a *API) updateExperiment(r *http.Request, p Principal) (any, error) {
	var in experiment.Spec
	if err := readJSON(r, &in); err != nil {
		return nil, err
	}
	d, err := a.c.Experiments.Update(r.Context(), p.Actor, p.ProjectID, r.PathValue("id"), func(s *experiment.Spec) error { *s = in; return nil })
	if err != nil {
		return nil, err
	}
	return a.experimentView(r, d)
}

func (a *API) startExperiment(r *http.Request, p Principal) (any, error) {
	d, err := a.c.Experiments.Start(r.Context(), p.Actor, p.ProjectID, r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	return a.experimentView(r, d)
}

func (a *API) stopExperiment(r *http.Request, p Principal) (any, error) {
	in := StopExperimentInput{}
	if r.ContentLength != 0 {
		if err := readJSON(r, &in); err != nil {
			return nil, err
		}
	}
	d, err := a.c.Experiments.StopWith(r.Context(), p.Actor, p.ProjectID, r.PathValue("id"), in.Reason, in.StopRollout, a.c.StopRollout)
	if err != nil {
		return nil, err
	}
	return a.experimentView(r, d)
}

func (a *API) deleteExperiment(r *http.Request, p Principal) (any, error) {
	return done(a.c.Experiments.Delete(r.Context(), p.Actor, p.ProjectID, r.PathValue("id")))
}

func (a *API) experimentSegments(r *http.Request, p Principal) (any, error) {
	d, err := a.findExperiment(r, p)
	if err != nil {
		return nil, err
	}
	list, err := experiment.Segmented(r.Context(), a.c.Query, d, query.GroupBy(r.PathValue("by")), a.c.Reports.Time())
	if err != nil {
		return nil, err
	}
	return map[string]any{"segments": list}, nil
}

func (a *API) alerts(_ *http.Request, p Principal) (any, error) {
	pr, ok := a.c.Registry.Snapshot().Project(p.ProjectID)
	if !ok {
		return nil, noProject(p.ProjectID)
	}
	return a.alertsView(pr, project.Secret{}), nil
}

func (a *API) alertsView(pr project.Project, secret project.Secret) Alerts {
	out := Alerts{Alerts: pr.Alerts, MailReady: a.c.Alerts.Mailer != nil, Secret: secret.Reveal()}
	if out.Emails == nil {
		out.Emails = []string{}
	}
	return out
}

func (a *API) setAlerts(r *http.Request, p Principal) (any, error) {
	var in AlertsInput
	if err := readJSON(r, &in); err != nil {
		return nil, err
	}
	pr, secret, err := a.c.Registry.SetAlerts(r.Context(), p.ProjectID, project.Alerts{WebhookURL: in.WebhookURL, Emails: in.Emails}, in.RotateSecret)
	if err != nil {
		return nil, err
	}
	return a.alertsView(pr, secret), nil
}

func (a *API) testAlerts(r *http.Request, p Principal) (any, error) {
	webhook, email := a.c.Alerts.Test(r.Context(), p.ProjectID)
	return map[string]string{"webhook": webhook, "email": email}, nil
}
