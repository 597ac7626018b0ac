package web

import (
	"net/http"

	"github.com/a-h/templ"

	"github.com/hedgerow/hedgerow/internal/project"
)

// keysPage is how events get into a project, and who may ask for them.
type keysPage struct {
	Project   project.Project
	Keys      []project.APIKey
	Providers []project.ProviderKey
	Known     []string // names of providers
	New       string   // a key that was made this moment: shown once
}

func (s *Web) keys(_ *http.Request, f *frame) (templ.Component, error) { return s.keysPage(f, "") }

func (s *Web) keysPage(f *frame, made string) (templ.Component, error) {
	f.Title = "Keys"
	p, err := s.project(f)
	if err != nil {
		return nil, err
	}
	snap := s.c.Registry.Snapshot()
	page := keysPage{Project: p, Keys: snap.APIKeys(p.ID), Providers: snap.ProviderKeys(p.ID), New: made}
	if s.c.Providers != nil {
		page.Known = s.c.Providers()
	}
	return keys(*f, page), nil
}

func (s *Web) rotateToken(r *http.Request, f *frame) (templ.Component, error) {
	if _, err := s.c.Registry.RotateToken(r.Context(), f.Session.ProjectID); err != nil {
		return nil, err
	}
	return f.done(f.path("/keys"), "The project token is replaced. Whatever sends with the old one is refused from now on.")
}

// createKey shows the key in its answer, which nothing keeps: not a cookie, not
// the next page.
func (s *Web) createKey(r *http.Request, f *frame) (templ.Component, error) {
	plain, _, err := s.c.Registry.CreateAPIKey(r.Context(), f.Session.ProjectID, f.form.Get("name"), project.Role(f.form.Get("role")))
	if err != nil {
		return nil, err
	}
	return s.keysPage(f, plain)
}

func (s *Web) revokeKey(r *http.Request, f *frame) (templ.Component, error) {
	if err := s.c.Registry.RevokeAPIKey(r.Context(), f.Session.ProjectID, r.PathValue("key")); err != nil {
		return nil, err
	}
	return f.done(f.path("/keys"), "The key is revoked.")
}

func (s *Web) setProviderKey(r *http.Request, f *frame) (templ.Component, error) {
	provider := f.form.Get("provider")
	if err := s.c.Registry.SetProviderKey(r.Context(), f.Session.ProjectID, provider, f.form.Get("key")); err != nil {
		return nil, err
	}
	return f.done(f.path("/keys"), "The key of "+provider+" is kept, sealed.")
}

func (s *Web) deleteProviderKey(r *http.Request, f *frame) (templ.Component, error) {
	provider := r.PathValue("provider")
	if err := s.c.Registry.DeleteProviderKey(r.Context(), f.Session.ProjectID, provider); err != nil {
		return nil, err
	}
	return f.done(f.path("/keys"), "The key of "+provider+" is wiped.")
}
