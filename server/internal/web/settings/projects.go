package settings

import (
	"net/http"
	"net/url"

	"github.com/a-h/templ"

	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/web/page"
)

// projects lists those that a person may see; administrators add to them.
func (s *Pages) projects(_ *http.Request, f *page.Frame) (templ.Component, error) {
	f.Title = "Projects"
	var list []project.Project
	for _, n := range f.Session.Projects {
		if p, ok := s.Registry.Snapshot().Project(n.ID); ok {
			list = append(list, p)
		}
	}
	return projects(*f, projectsPage{Rows: list, Switch: s.Keyless != nil, Keyless: s.keyless()}), nil
}

// projectsPage is the list, and what becomes of calls without a key.
type projectsPage struct {
	Rows    []project.Project
	Switch  bool
	Keyless project.Keyless
}

func (s *Pages) keyless() project.Keyless {
	if s.Keyless == nil {
		return project.Keyless{Refused: true, Fixed: true}
	}
	return s.Keyless()
}

// requireKeys switches whether calls without a key are let through.
func (s *Pages) requireKeys(r *http.Request, f *page.Frame) (templ.Component, error) {
	on := f.Form.Get("require_key") == "true"
	if err := s.setRequireKey(r, on); err != nil {
		return nil, err
	}
	if on {
		return f.Done("/projects", "Saved. Gateway calls without a key are now refused.")
	}
	return f.Done("/projects", "Saved. "+s.keyless().Notice())
}

func (s *Pages) setRequireKey(r *http.Request, on bool) error {
	if k := s.keyless(); k.Fixed && k.Refused != on {
		return project.KeylessFixedError()
	}
	_, err := s.Registry.SetServer(r.Context(), func(c *project.ServerSettings) { c.RequireKey = on })
	return err
}

func (s *Pages) createProject(r *http.Request, f *page.Frame) (templ.Component, error) {
	p, err := s.Registry.CreateProject(r.Context(), f.Form.Get("name"))
	if err != nil {
		return nil, err
	}
	if f.Form.Get("require_key") != "" {
		if err := s.setRequireKey(r, true); err != nil {
			return nil, err
		}
	}
	message := "Project " + p.Name + " created. Create an API key, or send events with its token."
	if words := s.keyless().Notice(); words != "" {
		message += " " + words
	}
	return f.Done("/p/"+url.PathEscape(p.ID)+"/keys", message)
}
