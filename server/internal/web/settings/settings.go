package settings

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"github.com/a-h/templ"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/web/page"
)

// Eraser deletes the events of a deleted project from the store.
type Eraser interface {
	Erase(ctx context.Context, projectID string) error
}

// readers are the roles that prompts and answers can be shown to.
var readers = [][2]string{{"viewer", "Everyone in the project"}, {"member", "Members and administrators"}, {"admin", "Administrators"}}

// settings is what a project does with what it gets.
func (s *Pages) settings(_ *http.Request, f *page.Frame) (templ.Component, error) {
	f.Title = "Settings"
	p, err := s.project(f)
	if err != nil {
		return nil, err
	}
	return settings(*f, p, len(f.Session.Projects) > 1), nil
}

// project is the current one; it may have just been deleted.
func (s *Pages) project(f *page.Frame) (project.Project, error) {
	p, ok := s.Registry.Snapshot().Project(f.Session.ProjectID)
	if !ok {
		return p, event.NewError(event.CodeNotFound, "no such project", "it has just been deleted; choose another in the sidebar", nil)
	}
	return p, nil
}

func (s *Pages) saveSettings(r *http.Request, f *page.Frame) (templ.Component, error) {
	contentDays, err := days(f.Form.Get("content_days"))
	if err != nil {
		return nil, err
	}
	metricsDays, err := days(f.Form.Get("metrics_days"))
	if err != nil {
		return nil, err
	}
	on := func(name string) bool { return f.Form.Get(name) != "" }
	_, err = s.Registry.UpdateProject(r.Context(), f.Session.ProjectID, func(p *project.Project) error {
		p.Name = f.Form.Get("name")
		p.Settings.KeepContent, p.Settings.ScrubEmails = on("keep_content"), on("scrub_emails")
		p.Settings.HashDistinctIDs, p.Settings.IncludeUsage = on("hash_distinct_ids"), on("include_usage")
		p.Settings.ContentRole = project.Role(f.Form.Get("content_role"))
		p.Settings.ContentDays, p.Settings.MetricsDays = contentDays, metricsDays
		p.Settings.Surface, p.Settings.AttributionFields = f.Form.Get("surface"), strings.Split(f.Form.Get("attribution_fields"), ",")
		return nil
	})
	if err != nil {
		return nil, err
	}
	return f.Done(f.Path("/settings"), "Saved. Applies to new events.")
}

func days(v string) (int, error) {
	n, err := strconv.Atoi(strings.TrimSpace(v))
	if err != nil {
		return 0, event.Invalid("retention must be a whole number of days", "0 keeps forever")
	}
	return n, nil
}

// deleteProject needs the project's name typed out: nothing brings it back.
func (s *Pages) deleteProject(r *http.Request, f *page.Frame) (templ.Component, error) {
	p, err := s.project(f)
	if err != nil {
		return nil, err
	}
	if strings.TrimSpace(f.Form.Get("confirm")) != p.Name {
		return nil, event.Invalid("the name does not match", "type the project's name, "+p.Name+", to delete it")
	}
	if err := s.Registry.DeleteProject(r.Context(), p.ID); err != nil {
		return nil, err
	}
	message := "Project " + p.Name + " deleted."
	if s.Eraser != nil {
		if err := s.Eraser.Erase(r.Context(), p.ID); err != nil {
			s.Log.Error("the events of a deleted project could not be removed", "project", p.ID, "err", err)
			message += " Its events could not be deleted from the store; see the server log."
		}
	}
	return f.Done("/projects", message)
}
