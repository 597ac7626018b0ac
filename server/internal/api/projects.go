package api

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// Project is a project as the API shows it.
type Project struct {
	ID           string           `json:"id"`
	Name         string           `json:"name"`
	Token        string           `json:"token,omitempty"` // for the scopes write and admin
	Settings     project.Settings `json:"settings"`
	ProviderKeys []string         `json:"provider_keys"` // providers for which a key is kept
	CreatedAt    time.Time        `json:"created_at"`
}

// ProjectInput changes a project; what is absent stays as it is.
type ProjectInput struct {
	Name            *string `json:"name,omitempty"`
	KeepContent     *bool   `json:"keep_content,omitempty"`
	ScrubEmails     *bool   `json:"scrub_emails,omitempty"`
	HashDistinctIDs *bool   `json:"hash_distinct_ids,omitempty"`
	ContentDays     *int    `json:"content_days,omitempty"`

	// ContentRole is the least role that may read prompts and answers.
	ContentRole  *project.Role `json:"content_role,omitempty"`
	MetricsDays  *int          `json:"metrics_days,omitempty"`
	IncludeUsage *bool         `json:"include_usage,omitempty"`

	// Surface is put on events that name none and came with a key that has none.
	Surface *string `json:"surface,omitempty"`

	// AttributionFields are members of gateway requests that become custom
	// properties and are cut out of the request; the list replaces the one before.
	AttributionFields *[]string `json:"attribution_fields,omitempty"`
}

// CreateInput makes a project; its settings are changed afterwards.
type CreateInput struct {
	Name string `json:"name"`
	// RequireKey is the setting of PATCH /api/v1/server, for the request that
	// creates a second project.
	RequireKey *bool `json:"require_key,omitempty"`
}

// Server are the choices about the whole server.
type Server struct {
	RequireKey bool `json:"require_key"` // as it is in force
	// Fixed: the configuration or the address decides on it, and the switch does not.
	Fixed bool `json:"require_key_fixed"`
	// KeylessProject is the name of the project that calls without a key go to;
	// "" where they are rejected.
	KeylessProject string `json:"keyless_project"`
}

// ServerInput changes the server's settings; what is absent stays as it is.
type ServerInput struct {
	RequireKey *bool `json:"require_key"`
}

// KeyInput makes an API key.
type KeyInput struct {
	Name   string       `json:"name"`
	Role   project.Role `json:"role,omitempty"`   // the scopes of a role; in place of Scopes
	Scopes []string     `json:"scopes,omitempty"` // without Role and Scopes: those of admin

	// Surface is put on calls and events that come with the key and name none.
	Surface string `json:"surface,omitempty"`
}

// KeyChange changes a key; what is absent stays as it is.
type KeyChange struct {
	Surface *string `json:"surface,omitempty"`
}

// ProviderKeyInput keeps a provider's key.
type ProviderKeyInput struct {
	Key string `json:"key"`
}

// APIKey is an API key; Key is there once, in the answer that made it.
type APIKey struct {
	ID        string         `json:"id"`
	Name      string         `json:"name"`
	Prefix    string         `json:"prefix"`
	Role      project.Role   `json:"role"` // "" where the scopes are those of no role
	Scopes    project.Scopes `json:"scopes"`
	Surface   string         `json:"surface"` // "" leaves it to the project's
	CreatedAt time.Time      `json:"created_at"`
	// LastUsedAt is when this process last took the key; null where it has not since
	// its start.
	LastUsedAt *time.Time `json:"last_used_at"`
	Key        string     `json:"key,omitempty"`
}

// ProjectCreated is the answer to the creation of a project.
type ProjectCreated struct {
	Project Project `json:"project"`
	APIKey  APIKey  `json:"api_key"`
	// Notice says where calls without a key go, now that there are several projects.
	Notice string `json:"notice,omitempty"`
}

// SignInLink signs an administrator in once.
type SignInLink struct {
	URL       string    `json:"url"`
	ExpiresAt time.Time `json:"expires_at"`
}

func quoted(s string) string { return strconv.Quote(s) }

func (a *API) view(p project.Project, to Principal) Project {
	v := Project{ID: p.ID, Name: p.Name, Settings: p.Settings, CreatedAt: p.CreatedAt, ProviderKeys: []string{}}
	if v.Settings.AttributionFields == nil {
		v.Settings.AttributionFields = []string{}
	}
	if to.Scopes.Has(project.ScopeWrite) { // with the token one may write
		v.Token = p.Token
	}
	for _, k := range a.c.Registry.Snapshot().ProviderKeys(p.ID) {
		v.ProviderKeys = append(v.ProviderKeys, k.Provider)
	}
	return v
}

func (a *API) keyView(k project.APIKey) APIKey {
	v := APIKey{ID: k.ID, Name: k.Name, Prefix: k.Prefix, Role: k.Role, Scopes: k.May(), Surface: k.Surface, CreatedAt: k.CreatedAt}
	if at, ok := a.c.Registry.Snapshot().LastUsed(k.ID); ok {
		v.LastUsedAt = &at
	}
	return v
}

// findProject finds a project by id or name among those that the caller sees. A
// project of someone else is not there, rather than forbidden.
func (a *API) findProject(name string, p Principal) (string, error) {
	s := a.c.Registry.Snapshot()
	found, ok := s.Project(name)
	if !ok {
		found, ok = s.ProjectByName(name)
	}
	if !ok || !p.Local && found.ID != p.ProjectID {
		return "", noProject(name)
	}
	return found.ID, nil
}

func (a *API) listProjects(_ *http.Request, p Principal) (any, error) {
	list := []Project{}
	for _, pr := range a.c.Registry.Snapshot().Projects() {
		if p.Local || pr.ID == p.ProjectID {
			list = append(list, a.view(pr, p))
		}
	}
	return map[string]any{"projects": list}, nil
}

func (a *API) createProject(r *http.Request, p Principal) (any, error) {
	var in CreateInput
	if err := readJSON(r, &in); err != nil {
		return nil, err
	}
	pr, err := a.c.Registry.CreateProject(r.Context(), in.Name)
	if err != nil {
		return nil, err
	}
	plain, k, err := a.c.Registry.CreateAPIKey(r.Context(), pr.ID, "first key", project.RoleAdmin)
	if err != nil {
		return nil, err
	}
	out := ProjectCreated{Project: a.view(pr, p), APIKey: a.keyView(k)}
	out.APIKey.Key = plain
	if in.RequireKey != nil {
		if err := a.requireKey(r, *in.RequireKey); err != nil {
			return nil, err
		}
	}
	if words := a.keyless().Notice(); words != "" && len(a.c.Registry.Snapshot().Projects()) > 1 {
		out.Notice = words + " hedgerow project require-keys does that."
	}
	return out, nil
}

func (a *API) keyless() project.Keyless {
	if a.c.Keyless == nil {
		return project.Keyless{Refused: true}
	}
	return a.c.Keyless()
}

func (a *API) server(*http.Request, Principal) (any, error) {
	k := a.keyless()
	s := Server{RequireKey: k.Refused, Fixed: k.Fixed}
	if !k.Refused {
		s.KeylessProject = k.Project
	}
	return map[string]any{"server": s}, nil
}

func (a *API) setServer(r *http.Request, p Principal) (any, error) {
	var in ServerInput
	if err := readJSON(r, &in); err != nil {
		return nil, err
	}
	if in.RequireKey != nil {
		if err := a.requireKey(r, *in.RequireKey); err != nil {
			return nil, err
		}
	}
	return a.server(r, p)
}

func (a *API) requireKey(r *http.Request, on bool) error {
	if k := a.keyless(); k.Fixed && k.Refused != on {
		return project.KeylessFixedError()
	}
	_, err := a.c.Registry.SetServer(r.Context(), func(s *project.ServerSettings) { s.RequireKey = on })
	return err
}

func (a *API) updateProject(r *http.Request, p Principal) (any, error) {
	id, err := a.findProject(r.PathValue("project"), p)
	if err != nil {
		return nil, err
	}
	var in ProjectInput
	if err := readJSON(r, &in); err != nil {
		return nil, err
	}
	pr, err := a.c.Registry.UpdateProject(r.Context(), id, func(pr *project.Project) error {
		set(&pr.Name, in.Name)
		set(&pr.Settings.KeepContent, in.KeepContent)
		set(&pr.Settings.ScrubEmails, in.ScrubEmails)
		set(&pr.Settings.HashDistinctIDs, in.HashDistinctIDs)
		set(&pr.Settings.ContentRole, in.ContentRole)
		set(&pr.Settings.ContentDays, in.ContentDays)
		set(&pr.Settings.MetricsDays, in.MetricsDays)
		set(&pr.Settings.IncludeUsage, in.IncludeUsage)
		set(&pr.Settings.Surface, in.Surface)
		set(&pr.Settings.AttributionFields, in.AttributionFields)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return map[string]any{"project": a.view(pr, p)}, nil
}

func set[T any](dst *T, v *T) {
	if v != nil {
		*dst = *v
	}
}

func (a *API) rotateToken(r *http.Request, p Principal) (any, error) {
	id, err := a.findProject(r.PathValue("project"), p)
	if err != nil {
		return nil, err
	}
	pr, err := a.c.Registry.RotateToken(r.Context(), id)
	if err != nil {
		return nil, err
	}
	return map[string]any{"project": a.view(pr, p)}, nil
}

func (a *API) listKeys(r *http.Request, p Principal) (any, error) {
	id, err := a.findProject(r.PathValue("project"), p)
	if err != nil {
		return nil, err
	}
	keys := []APIKey{}
	for _, k := range a.c.Registry.Snapshot().APIKeys(id) {
		keys = append(keys, a.keyView(k))
	}
	return map[string]any{"keys": keys}, nil
}

func (a *API) createKey(r *http.Request, p Principal) (any, error) {
	id, err := a.findProject(r.PathValue("project"), p)
	if err != nil {
		return nil, err
	}
	var in KeyInput
	if err := readJSON(r, &in); err != nil {
		return nil, err
	}
	spec := project.KeySpec{ProjectID: id, Name: in.Name, Surface: in.Surface}
	switch {
	case in.Scopes != nil && in.Role != "":
		return nil, event.Invalid("both a role and scopes are given", "send one of them")
	case in.Scopes != nil:
		if spec.Scopes, err = project.ParseScopes(in.Scopes...); err != nil {
			return nil, err
		}
	default:
		spec.Role = cmp.Or(in.Role, project.RoleAdmin)
	}
	plain, k, err := a.c.Registry.CreateKey(r.Context(), spec)
	if err != nil {
		return nil, err
	}
	v := a.keyView(k)
	v.Key = plain
	return map[string]any{"key": v}, nil
}

func (a *API) updateKey(r *http.Request, p Principal) (any, error) {
	id, err := a.findProject(r.PathValue("project"), p)
	if err != nil {
		return nil, err
	}
	var in KeyChange
	if err := readJSON(r, &in); err != nil {
		return nil, err
	}
	i := slices.IndexFunc(a.c.Registry.Snapshot().APIKeys(id), func(k project.APIKey) bool { return k.ID == r.PathValue("key") })
	if i < 0 {
		return nil, event.NewError(event.CodeNotFound, "API key not found", "GET /api/v1/projects/{project}/keys lists them", nil)
	}
	k := a.c.Registry.Snapshot().APIKeys(id)[i]
	if in.Surface != nil {
		if k, err = a.c.Registry.SetKeySurface(r.Context(), id, k.ID, *in.Surface); err != nil {
			return nil, err
		}
	}
	return map[string]any{"key": a.keyView(k)}, nil
}

func (a *API) revokeKey(r *http.Request, p Principal) (any, error) {
	id, err := a.findProject(r.PathValue("project"), p)
	if err != nil {
		return nil, err
	}
	return done(a.c.Registry.RevokeAPIKey(r.Context(), id, r.PathValue("key")))
}

func (a *API) setProviderKey(r *http.Request, p Principal) (any, error) {
	id, err := a.findProject(r.PathValue("project"), p)
	if err != nil {
		return nil, err
	}
	var in ProviderKeyInput
	if err := readJSON(r, &in); err != nil {
		return nil, err
	}
	return done(a.c.Registry.SetProviderKey(r.Context(), id, r.PathValue("provider"), in.Key))
}

func (a *API) deleteProviderKey(r *http.Request, p Principal) (any, error) {
	id, err := a.findProject(r.PathValue("project"), p)
	if err != nil {
		return nil, err
	}
	return done(a.c.Registry.DeleteProviderKey(r.Context(), id, r.PathValue("provider")))
}

// createSignInLink is for the server's own socket: the web pages show every
// project, an API key only one.
func (a *API) createSignInLink(r *http.Request, p Principal) (any, error) {
	token, expires, err := a.c.Registry.AdminLink(r.Context())
	if err != nil {
		return nil, err
	}
	return SignInLink{URL: SignInURL(a.c.PublicURL, token), ExpiresAt: expires}, nil
}

// SignInURL is the address of a sign-in link under a base URL.
func SignInURL(base, token string) string { return base + "/sign-in?token=" + url.QueryEscape(token) }

func done(err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return map[string]any{"ok": true}, nil
}
