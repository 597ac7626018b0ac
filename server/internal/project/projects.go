package project

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/provider"
)

const (
	// DefaultID is the id of the project that the first start makes.
	DefaultID = "default"

	tokenPrefix  = "phc_hedgerow_"
	apiKeyPrefix = "hr_"
	apiKeyLen    = len(apiKeyPrefix) + 40

	base62   = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	lowcase  = "0123456789abcdefghijklmnopqrstuvwxyz"
	maxName  = 100 // characters of a name
	maxText  = 200
	maxDays  = 36500
	maxKeyIn = 4096 // bytes of a key in a request
)

// randomString returns n characters of an alphabet, each equally likely.
func randomString(alphabet string, n int) string {
	// Bytes past the last multiple of the alphabet's length are skipped:
	// they would favor its first characters.
	limit := 256 - 256%len(alphabet)
	out, buf := make([]byte, 0, n), make([]byte, 2*n)
	for len(out) < n {
		_, _ = rand.Read(buf)
		for _, b := range buf {
			if int(b) < limit && len(out) < n {
				out = append(out, alphabet[int(b)%len(alphabet)])
			}
		}
	}
	return string(out)
}

// NewID returns a random id such as ev_k3v9…: the prefix, and 16 lower-case
// letters and digits.
func NewID(prefix string) string { return newID(prefix) }

func newID(prefix string) string { return prefix + "_" + randomString(lowcase, 16) }

func cleanName(noun, name string) (string, error) {
	name = strings.TrimSpace(name)
	switch {
	case name == "":
		return "", event.Invalid("the "+noun+" has no name", "give it one")
	case utf8.RuneCountInString(name) > maxName:
		return "", event.Invalid(fmt.Sprintf("the %s's name is longer than %d characters", noun, maxName), "choose a shorter one")
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		return "", event.Invalid("the "+noun+"'s name contains non-printable characters", "use letters, digits and spaces")
	}
	return name, nil
}

// cleanLabel checks a surface or an environment that is put on events.
func cleanLabel(noun, s string) (string, error) {
	s = strings.TrimSpace(s)
	switch {
	case utf8.RuneCountInString(s) > maxName:
		return "", event.Invalid(fmt.Sprintf("the %s's name is longer than %d characters", noun, maxName), "use a short one such as production or Playbook")
	case !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl):
		return "", event.Invalid("the "+noun+"'s name contains non-printable characters", "use letters, digits and spaces")
	}
	return s, nil
}

func newProject(id, name string, now time.Time) Project {
	var hashKey [32]byte
	_, _ = rand.Read(hashKey[:])
	return Project{
		ID: id, Name: name, Token: tokenPrefix + randomString(base62, 32), Settings: DefaultSettings(),
		CreatedAt: now.UTC(), UpdatedAt: now.UTC(), HashKey: NewSecret(hex.EncodeToString(hashKey[:])),
	}
}

// CreateProject makes a project with its own token and default settings. Names
// are unique, ignoring case.
func (r *Registry) CreateProject(ctx context.Context, name string) (Project, error) {
	name, err := cleanName("project", name)
	if err != nil {
		return Project{}, err
	}
	p := newProject(newID("p"), name, r.now())
	return p, r.createProject(ctx, &p)
}

func (r *Registry) createProject(ctx context.Context, p *Project) error {
	if err := r.reserve(ctx, "project", "name", p.Name, p.key()); err != nil {
		return err
	}
	if err := create(ctx, r, p); err != nil {
		return err
	}
	return r.done(ctx, p.Revision, AuditEntry{Action: "project.create", ProjectID: p.ID, Target: p.Name})
}

// UpdateProject changes a project's name and settings. change gets a copy of
// the record and may be called again after a concurrent change; its error
// aborts the update.
func (r *Registry) UpdateProject(ctx context.Context, id string, f func(*Project) error) (Project, error) {
	var before Project
	p, err := change(ctx, r, prefixProject+id, func(p *Project) error {
		before = *p
		if err := f(p); err != nil {
			return err
		}
		p.ID, p.Token, p.CreatedAt, p.HashKey = before.ID, before.Token, before.CreatedAt, before.HashKey
		p.Alerts, p.AlertSecret = before.Alerts, before.AlertSecret // SetAlerts' business
		p.UpdatedAt = r.now().UTC()
		var err error
		if p.Name, err = cleanName("project", p.Name); err != nil {
			return err
		}
		s := p.Settings
		if s.ContentRole != "" && !s.ContentRole.Valid() { // records of older versions have none
			return event.Invalid("unknown role", "content_role is viewer, member or admin")
		}
		if s.ContentDays < 0 || s.MetricsDays < 0 || s.ContentDays > maxDays || s.MetricsDays > maxDays {
			return event.Invalid("a retention must be between 0 and 36500 days", "0 keeps forever")
		}
		if s.MetricsDays > 0 && (s.ContentDays == 0 || s.ContentDays > s.MetricsDays) && s.KeepContent {
			return event.Invalid("content cannot be kept longer than the events that it belongs to", "set content_days to metrics_days or less")
		}
		if p.Settings.Surface, err = cleanLabel("surface", s.Surface); err != nil {
			return err
		}
		if p.Settings.AttributionFields, err = provider.AttributionFields(s.AttributionFields); err != nil {
			return err
		}
		if !strings.EqualFold(p.Name, before.Name) {
			return r.reserve(ctx, "project", "name", p.Name, p.key())
		}
		return nil
	})
	if err != nil {
		return Project{}, err
	}
	if !strings.EqualFold(p.Name, before.Name) {
		r.release(ctx, "project", before.Name, p.key())
	}
	return p, r.done(ctx, p.Revision, AuditEntry{Action: "project.update", ProjectID: p.ID, Target: p.Name, Detail: changed(before, p)})
}

// changed lists which settings an update touched.
func changed(a, b Project) string {
	var out []string
	add := func(name string, was, is any) {
		if was != is {
			out = append(out, fmt.Sprintf("%s: %v → %v", name, was, is))
		}
	}
	add("name", a.Name, b.Name)
	add("keep_content", a.Settings.KeepContent, b.Settings.KeepContent)
	add("scrub_emails", a.Settings.ScrubEmails, b.Settings.ScrubEmails)
	add("hash_distinct_ids", a.Settings.HashDistinctIDs, b.Settings.HashDistinctIDs)
	add("content_role", a.Settings.ContentRole, b.Settings.ContentRole)
	add("content_days", a.Settings.ContentDays, b.Settings.ContentDays)
	add("metrics_days", a.Settings.MetricsDays, b.Settings.MetricsDays)
	add("include_usage", a.Settings.IncludeUsage, b.Settings.IncludeUsage)
	add("surface", a.Settings.Surface, b.Settings.Surface)
	add("attribution_fields", strings.Join(a.Settings.AttributionFields, " "), strings.Join(b.Settings.AttributionFields, " "))
	return strings.Join(out, ", ")
}

// RotateToken replaces a project's token. The old one stops working
// immediately.
func (r *Registry) RotateToken(ctx context.Context, projectID string) (Project, error) {
	p, err := change(ctx, r, prefixProject+projectID, func(p *Project) error {
		p.Token, p.UpdatedAt = tokenPrefix+randomString(base62, 32), r.now().UTC()
		return nil
	})
	if err != nil {
		return Project{}, err
	}
	return p, r.done(ctx, p.Revision, AuditEntry{Action: "project.rotate_token", ProjectID: p.ID, Target: p.Name})
}

// DeleteProject removes a project with its keys and connections. The last
// project stays: hedgerow needs one. Events of the project are the store's.
func (r *Registry) DeleteProject(ctx context.Context, id string) error {
	s := r.Snapshot()
	p, ok := s.Project(id)
	if !ok {
		return missing("project")
	}
	if len(s.Projects()) == 1 {
		return event.NewError(event.CodeConflict, "this is the only project", "create another one first", nil)
	}
	// The project is removed first: then every key and connection stops working,
	// even if the next steps fail.
	if _, err := remove(ctx, r, prefixProject+id, func(*Project) error { return nil }); err != nil {
		return err
	}
	r.release(ctx, "project", p.Name, prefixProject+id)
	if err := r.sweepOrphans(ctx); err != nil {
		return unavailable("the project is deleted, but some of its keys could not be deleted", err)
	}
	return r.done(ctx, 0, AuditEntry{Action: "project.delete", ProjectID: id, Target: p.Name})
}

// CreateAPIKey makes a key with the scopes of a role and returns it in plain: the
// one time that it can be seen.
func (r *Registry) CreateAPIKey(ctx context.Context, projectID, name string, role Role) (plain string, k APIKey, err error) {
	if !role.Valid() {
		return "", k, event.Invalid(fmt.Sprintf("unknown role %q", role), "use admin, member or viewer")
	}
	return r.createKey(ctx, APIKey{ProjectID: projectID, Name: name, Role: role, Scopes: role.Scopes()})
}

func (r *Registry) createKey(ctx context.Context, k APIKey) (plain string, _ APIKey, err error) {
	if _, ok := r.Snapshot().Project(k.ProjectID); !ok {
		return "", k, missing("project")
	}
	if k.Name, err = cleanName("API key", k.Name); err != nil {
		return "", k, err
	}
	if k.Surface, err = cleanLabel("surface", k.Surface); err != nil {
		return "", k, err
	}
	plain = apiKeyPrefix + randomString(base62, 40)
	h := hashOf(plain)
	k.ID, k.Prefix, k.Hash, k.CreatedAt = newID("k"), plain[:10], h[:], r.now().UTC()
	if err := create(ctx, r, &k); err != nil {
		return "", APIKey{}, err
	}
	if err := r.stillWanted(ctx, k.ProjectID, k.key()); err != nil {
		return "", APIKey{}, err
	}
	return plain, k, r.done(ctx, k.Revision, AuditEntry{Action: "key.create", ProjectID: k.ProjectID, Target: k.Prefix + "…", Detail: k.Name + ", " + k.Scopes.String()})
}

// SetKeySurface sets the default surface of calls and events that use a key of
// the project; "" uses the project's default.
func (r *Registry) SetKeySurface(ctx context.Context, projectID, id, surface string) (APIKey, error) {
	surface, err := cleanLabel("surface", surface)
	if err != nil {
		return APIKey{}, err
	}
	var was string
	k, err := change(ctx, r, prefixAPIKey+id, func(k *APIKey) error {
		if k.ProjectID != projectID {
			return missing("API key")
		}
		was, k.Surface = k.Surface, surface
		return nil
	})
	if err != nil {
		return APIKey{}, err
	}
	return k, r.done(ctx, k.Revision, AuditEntry{Action: "key.update", ProjectID: projectID, Target: k.Prefix + "…", Detail: fmt.Sprintf("%s, surface: %v → %v", k.Name, was, surface)})
}

// RevokeAPIKey deletes a key of a project; it stops working immediately.
func (r *Registry) RevokeAPIKey(ctx context.Context, projectID, id string) error {
	k, err := remove(ctx, r, prefixAPIKey+id, func(k *APIKey) error {
		if k.ProjectID != projectID {
			return missing("API key")
		}
		return nil
	})
	if err != nil {
		return err
	}
	return r.done(ctx, 0, AuditEntry{Action: "key.revoke", ProjectID: projectID, Target: k.Prefix + "…", Detail: k.Name})
}

var providerName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,49}$`)

// SetProviderKey keeps, sealed, a provider's key for callers that present a
// hedgerow key in its place.
func (r *Registry) SetProviderKey(ctx context.Context, projectID, provider, key string) error {
	if _, ok := r.Snapshot().Project(projectID); !ok {
		return missing("project")
	}
	if !providerName.MatchString(provider) {
		return event.Invalid("this is not a valid provider name", "use the name of its route: openai, anthropic, openrouter …")
	}
	if err := checkKey("the provider's key", key); err != nil {
		return err
	}
	v := ProviderKey{ProjectID: projectID, Provider: provider, Key: NewSecret(key), UpdatedAt: r.now().UTC()}
	v.LastFour = v.Key.LastFour()
	if id, _, isPair := strings.Cut(key, ":"); isPair && provider == "bedrock" { // an AWS key: the id distinguishes it, and is no secret
		v.LastFour = NewSecret(id).LastFour()
	}
	b, err := encode(*r.ring.Load(), &v)
	if err != nil {
		return err
	}
	rev, err := r.bucket.Put(ctx, v.key(), b)
	if err != nil {
		return unavailable("the provider's key could not be saved", err)
	}
	if err := r.stillWanted(ctx, projectID, v.key()); err != nil {
		return err
	}
	return r.done(ctx, rev, AuditEntry{Action: "provider_key.set", ProjectID: projectID, Target: provider})
}

// DeleteProviderKey wipes a kept key.
func (r *Registry) DeleteProviderKey(ctx context.Context, projectID, provider string) error {
	if !providerName.MatchString(provider) {
		return missing("provider key")
	}
	// Without reading it: a key that cannot be opened any more can be wiped too.
	key := prefixProvider + projectID + "." + provider
	if _, err := r.bucket.Get(ctx, key); err != nil {
		return missing("provider key")
	}
	if err := r.purge(ctx, key, 0); err != nil {
		return unavailable("the provider's key could not be deleted", err)
	}
	return r.done(ctx, 0, AuditEntry{Action: "provider_key.delete", ProjectID: projectID, Target: provider})
}

// checkKey rejects what cannot be sent in a header.
func checkKey(what, key string) error {
	switch {
	case key == "":
		return event.Invalid(what+" is empty", "paste the whole key")
	case len(key) > maxKeyIn:
		return event.Invalid(what+" is too long", "paste the key alone")
	case strings.ContainsFunc(key, func(c rune) bool { return c <= ' ' || c > '~' }):
		return event.Invalid(what+" contains spaces or invalid characters", "paste the key alone, on one line")
	}
	return nil
}
