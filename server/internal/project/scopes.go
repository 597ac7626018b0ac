package project

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// Scope is one thing that an API key may be used for.
type Scope string

// The scopes, in display order. ScopeAdmin includes the others, because its
// holder could create a key with them. No other scope includes another.
const (
	ScopeRead    Scope = "read"    // reads events, figures, prompts and settings
	ScopeWrite   Scope = "write"   // changes prompts, experiments, datasets and connections; reads the project token
	ScopeIngest  Scope = "ingest"  // sends events: capture, OpenTelemetry, product events, judgments, feedback
	ScopeGateway Scope = "gateway" // calls models through hedgerow, with the provider keys that the project keeps
	ScopeAdmin   Scope = "admin"   // everything; keys, provider keys, alerts and project settings need it
)

// AllScopes returns every scope, in the order in which lists show them.
func AllScopes() []Scope {
	return []Scope{ScopeRead, ScopeWrite, ScopeIngest, ScopeGateway, ScopeAdmin}
}

// Scopes are the permissions of a key.
type Scopes []Scope

// Has reports whether the scopes include every one that is needed.
func (s Scopes) Has(need ...Scope) bool {
	return slices.Contains(s, ScopeAdmin) || !slices.ContainsFunc(need, func(n Scope) bool { return !slices.Contains(s, n) })
}

// String joins the scopes by commas and spaces.
func (s Scopes) String() string {
	words := make([]string, len(s))
	for i, x := range s {
		words[i] = string(x)
	}
	return strings.Join(words, ", ")
}

// Role is the role that the scopes amount to, where one is requested: the least
// role that may read prompts and answers, for example.
func (s Scopes) Role() Role {
	switch {
	case slices.Contains(s, ScopeAdmin):
		return RoleAdmin
	case slices.Contains(s, ScopeWrite):
		return RoleMember
	}
	return RoleViewer
}

// ContentRole is the role by which a key may read prompts and answers, and have
// them sent elsewhere: "", which may not, without the scope read.
func (s Scopes) ContentRole() Role {
	if !s.Has(ScopeRead) {
		return ""
	}
	return s.Role()
}

// Scopes returns the scopes of a key created with the role.
func (r Role) Scopes() Scopes {
	switch r {
	case RoleViewer:
		return Scopes{ScopeRead}
	case RoleMember:
		return Scopes{ScopeRead, ScopeWrite, ScopeIngest, ScopeGateway}
	case RoleAdmin:
		return AllScopes()
	}
	return nil
}

// ParseScopes validates scope names, sorts them and removes duplicates.
func ParseScopes(names ...string) (Scopes, error) {
	var have, out Scopes
	for _, n := range names {
		s := Scope(strings.ToLower(strings.TrimSpace(n)))
		if !slices.Contains(AllScopes(), s) {
			return nil, event.Invalid(fmt.Sprintf("unknown scope %q", event.FirstChars(n, 50)), "use some of "+Scopes(AllScopes()).String())
		}
		have = append(have, s)
	}
	for _, s := range AllScopes() {
		if slices.Contains(have, s) {
			out = append(out, s)
		}
	}
	if len(out) == 0 {
		return nil, event.Invalid("the key has no scope", "use some of "+Scopes(AllScopes()).String())
	}
	return out, nil
}

// MissingScope is the error of a key that lacks a scope. It names those that are
// needed.
func MissingScope(have Scopes, need ...Scope) *event.Error {
	word := "scope "
	if len(need) > 1 {
		word = "scopes "
	}
	return event.NewError(event.CodeForbidden, "this API key needs the "+word+Scopes(need).String()+" and has "+have.String(),
		"use a key with the "+word+Scopes(need).String()+"; an administrator creates one on the Keys page, or with hedgerow project add-key --scopes "+strings.ReplaceAll(Scopes(need).String(), ", ", ","), nil)
}

// May returns the key's scopes. A key older than scopes has those of its
// role.
func (k *APIKey) May() Scopes {
	if len(k.Scopes) > 0 {
		return k.Scopes
	}
	return k.Role.Scopes()
}

// CreateScopedKey is [Registry.CreateAPIKey] for a key with its own scopes.
func (r *Registry) CreateScopedKey(ctx context.Context, projectID, name string, scopes Scopes) (plain string, k APIKey, err error) {
	return r.CreateKey(ctx, KeySpec{ProjectID: projectID, Name: name, Scopes: scopes})
}

// KeySpec describes a key to create: with the scopes of a role or with its
// own scopes.
type KeySpec struct {
	ProjectID, Name string
	Role            Role   // wins over Scopes
	Scopes          Scopes //
	Surface         string // see [APIKey.Surface]
}

// CreateKey makes a key and returns it in plain: the one time that it can be seen.
func (r *Registry) CreateKey(ctx context.Context, spec KeySpec) (plain string, k APIKey, err error) {
	k = APIKey{ProjectID: spec.ProjectID, Name: spec.Name, Surface: spec.Surface}
	if spec.Role != "" {
		if !spec.Role.Valid() {
			return "", APIKey{}, event.Invalid(fmt.Sprintf("unknown role %q", spec.Role), "use admin, member or viewer")
		}
		k.Role, k.Scopes = spec.Role, spec.Role.Scopes()
		return r.createKey(ctx, k)
	}
	words := make([]string, len(spec.Scopes))
	for i, s := range spec.Scopes {
		words[i] = string(s)
	}
	scopes, err := ParseScopes(words...)
	if err != nil {
		return "", APIKey{}, err
	}
	k.Scopes = scopes
	for _, role := range []Role{RoleViewer, RoleMember, RoleAdmin} {
		if slices.Equal(role.Scopes(), scopes) {
			k.Role = role
		}
	}
	return r.createKey(ctx, k)
}

// UnscopedKeys returns the project's keys from before scopes existed, until
// [Registry.ConfirmScopes] is called: they use their role, and their owner
// should review the permissions.
func (s *Snapshot) UnscopedKeys(projectID string) []APIKey {
	return slices.DeleteFunc(slices.Clone(s.APIKeys(projectID)), func(k APIKey) bool { return len(k.Scopes) > 0 })
}

// uses are when API keys were last taken by this process. Noting one costs a load
// and, once a second, a store.
type uses struct{ byKey sync.Map } // id → *atomic.Int64, seconds since 1970

func (u *uses) note(id string, at time.Time) {
	if u == nil {
		return
	}
	v, ok := u.byKey.Load(id)
	if !ok {
		v, _ = u.byKey.LoadOrStore(id, new(atomic.Int64))
	}
	last := v.(*atomic.Int64)
	if now := at.Unix(); last.Load() != now {
		last.Store(now)
	}
}

func (u *uses) last(id string) (time.Time, bool) {
	if u == nil {
		return time.Time{}, false
	}
	v, ok := u.byKey.Load(id)
	if !ok {
		return time.Time{}, false
	}
	return time.Unix(v.(*atomic.Int64).Load(), 0).UTC(), true
}

// ConfirmScopes stores in each key from before scopes existed the scopes of
// its role. Permissions do not change.
func (r *Registry) ConfirmScopes(ctx context.Context, projectID string) error {
	var revision uint64
	var names []string
	for _, k := range r.Snapshot().UnscopedKeys(projectID) {
		k, err := change(ctx, r, k.key(), func(k *APIKey) error { k.Scopes = k.May(); return nil })
		if e := event.AsError(err); err != nil && e.Code == event.CodeNotFound {
			continue // just revoked
		} else if err != nil {
			return err
		}
		revision, names = max(revision, k.Revision), append(names, k.Prefix+"…")
	}
	if len(names) == 0 {
		return nil
	}
	return r.done(ctx, revision, AuditEntry{Action: "key.confirm_scopes", ProjectID: projectID, Detail: strings.Join(names, ", ")})
}
