package settings

import (
	"net/http"
	"slices"
	"time"

	"github.com/a-h/templ"

	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/web/page"
)

// keysPage lists the keys that may send events to a project, and that may read
// them.
type keysPage struct {
	Project   project.Project
	Keys      []project.APIKey
	Providers []project.ProviderKey
	Known     []string // names of providers
	Uses      func(keyID string) (time.Time, bool)
	Now       time.Time
	New       string           // a key that was made this moment: shown once
	Unscoped  []project.APIKey // from before there were scopes, until someone has confirmed what they may do
}

// scopeWords are what a key may do, for the form.
var scopeWords = []struct{ Scope, Label, Hint string }{
	{"read", "Read", "read events, metrics and prompts; content only if the project settings let viewers read it"},
	{"write", "Write", "change prompts, experiments, datasets and connections; read the project token"},
	{"ingest", "Ingest", "send events, feedback and evaluations"},
	{"gateway", "Gateway", "call models through hedgerow with the provider keys stored below"},
	{"admin", "Admin", "everything, including this project’s keys and settings"},
}

// scopesOf words what a key may do.
func scopesOf(k project.APIKey) string { return k.May().String() }

// used words when this server last took a key.
func (p keysPage) used(k project.APIKey) string {
	if at, ok := p.Uses(k.ID); ok {
		return page.Ago(p.Now, at)
	}
	return "not since startup"
}

// pickedScope is what the form of a new key has ticked: what was sent, or what an
// application needs.
func pickedScope(f page.Frame, scope string) bool {
	if f.Problem != nil && f.Form.Has("name") {
		return slices.Contains(f.Form["scope"], scope)
	}
	return scope == "read" || scope == "ingest" || scope == "gateway"
}

func (s *Pages) keys(_ *http.Request, f *page.Frame) (templ.Component, error) {
	return s.keysPage(f, "")
}

func (s *Pages) keysPage(f *page.Frame, made string) (templ.Component, error) {
	f.Title = "Keys"
	p, err := s.project(f)
	if err != nil {
		return nil, err
	}
	snap := s.Registry.Snapshot()
	page := keysPage{Project: p, Keys: snap.APIKeys(p.ID), Providers: snap.ProviderKeys(p.ID), Uses: snap.LastUsed, Now: s.Now(), New: made, Unscoped: snap.UnscopedKeys(p.ID)}
	if s.Providers != nil {
		page.Known = s.Providers()
	}
	return keys(*f, page), nil
}

func (s *Pages) rotateToken(r *http.Request, f *page.Frame) (templ.Component, error) {
	if _, err := s.Registry.RotateToken(r.Context(), f.Session.ProjectID); err != nil {
		return nil, err
	}
	return f.Done(f.Path("/keys"), "Project token rotated. Requests with the old token are now refused.")
}

// createKey shows the key in its answer, which nothing keeps: not a cookie, not
// the next page.
func (s *Pages) createKey(r *http.Request, f *page.Frame) (templ.Component, error) {
	scopes, err := project.ParseScopes(f.Form["scope"]...)
	if err != nil {
		return nil, err
	}
	plain, _, err := s.Registry.CreateKey(r.Context(), project.KeySpec{ProjectID: f.Session.ProjectID, Name: f.Form.Get("name"), Scopes: scopes, Surface: f.Form.Get("surface")})
	if err != nil {
		return nil, err
	}
	return s.keysPage(f, plain)
}

// confirmScopes dismisses the notice about keys from before there were scopes.
func (s *Pages) confirmScopes(r *http.Request, f *page.Frame) (templ.Component, error) {
	if err := s.Registry.ConfirmScopes(r.Context(), f.Session.ProjectID); err != nil {
		return nil, err
	}
	return f.Done(f.Path("/keys"), "")
}

func (s *Pages) setKeySurface(r *http.Request, f *page.Frame) (templ.Component, error) {
	if _, err := s.Registry.SetKeySurface(r.Context(), f.Session.ProjectID, r.PathValue("key"), f.Form.Get("surface")); err != nil {
		return nil, err
	}
	return f.Done(f.Path("/keys"), "Saved. Applies to new calls and events.")
}

func (s *Pages) revokeKey(r *http.Request, f *page.Frame) (templ.Component, error) {
	if err := s.Registry.RevokeAPIKey(r.Context(), f.Session.ProjectID, r.PathValue("key")); err != nil {
		return nil, err
	}
	return f.Done(f.Path("/keys"), "Key revoked.")
}

func (s *Pages) setProviderKey(r *http.Request, f *page.Frame) (templ.Component, error) {
	provider := f.Form.Get("provider")
	if err := s.Registry.SetProviderKey(r.Context(), f.Session.ProjectID, provider, f.Form.Get("key")); err != nil {
		return nil, err
	}
	return f.Done(f.Path("/keys"), "Key for "+provider+" saved, encrypted.")
}

func (s *Pages) deleteProviderKey(r *http.Request, f *page.Frame) (templ.Component, error) {
	provider := r.PathValue("provider")
	if err := s.Registry.DeleteProviderKey(r.Context(), f.Session.ProjectID, provider); err != nil {
		return nil, err
	}
	return f.Done(f.Path("/keys"), "Key for "+provider+" removed.")
}
