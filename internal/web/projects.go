package web

import (
	"net/http"
	"net/url"

	"github.com/a-h/templ"

	"github.com/hedgerow/hedgerow/internal/project"
)

// projects lists those that a person may see; administrators add to them.
func (s *Web) projects(_ *http.Request, f *frame) (templ.Component, error) {
	f.Title = "Projects"
	var list []project.Project
	for _, n := range f.Session.Projects {
		if p, ok := s.c.Registry.Snapshot().Project(n.ID); ok {
			list = append(list, p)
		}
	}
	return projects(*f, list), nil
}

func (s *Web) createProject(r *http.Request, f *frame) (templ.Component, error) {
	p, err := s.c.Registry.CreateProject(r.Context(), f.form.Get("name"))
	if err != nil {
		return nil, err
	}
	return f.done("/p/"+url.PathEscape(p.ID)+"/keys", "Project "+p.Name+" is there. Make an API key, or send events with its token.")
}

func (f *frame) admin() bool { return f.Session.Role == project.RoleAdmin }

func (f *frame) member() bool { return f.Session.Role.Can(project.RoleMember) }
