package prompt

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/template"
	"github.com/hedgerow/hedgerow/server/internal/health"
	"github.com/hedgerow/hedgerow/server/internal/kv"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// Bucket is the name of the key-value bucket in which a server keeps a [Registry].
const Bucket = "prompts"

// Options are a registry's settings.
type Options struct {
	// Audit writes an entry into the audit log; (*project.Registry).Audit does.
	// nil writes none.
	Audit    project.Auditor
	Flags    Flags            // decides PostHog's flags, for rollouts. nil: hedgerow's own percentages alone
	LastGood string           // path of the last-good copy; see kv.Config. "" is without
	Now      func() time.Time // Defaults to time.Now
	Logger   *slog.Logger     // Defaults to none
}

// Registry is the prompts of all projects. Any number of registries, in any
// number of processes, may work on one bucket.
//
// A change returns when the registry itself shows it. Errors are
// [*event.Error]: invalid, not found, conflict, or unavailable when the bucket
// could not be reached. actor is the author of a change, as shown in the audit
// log.
type Registry struct {
	b   *kv.Bucket[*state, *view]
	o   Options
	log *slog.Logger
	now func() time.Time
}

// Prompt is a named prompt.
type Prompt struct {
	Project     string           `json:"-"`
	Name        string           `json:"name"`
	Description string           `json:"description"`
	Labels      map[string]Label `json:"labels"`
	Latest      int              `json:"latest_version"` // the newest version's number
	Created     time.Time        `json:"created_at"`
	Updated     time.Time        `json:"updated_at"` // of the prompt, its labels or its versions
}

// Open reads the prompts from a bucket and begins to watch it. ctx bounds the
// opening only; [Registry.Close] ends the watch.
func Open(ctx context.Context, bucket jetstream.KeyValue, o Options) (*Registry, error) {
	r := &Registry{o: o, log: o.Logger, now: o.Now}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.now == nil {
		r.now = time.Now
	}
	var err error
	r.b, err = kv.Open(ctx, bucket, kv.Config[*state, *view]{
		Name: "prompts", New: newState, Apply: (*state).apply, View: (*state).view, Logger: r.log, LastGood: o.LastGood,
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// Health returns the health of these settings.
func (r *Registry) Health() health.Report { return r.b.Health() }

// Close ends the watch. Prompts in memory remain readable.
func (r *Registry) Close() error { return r.b.Close() }

// The kinds of records in the bucket, by the beginning of their key.
const (
	prefixPrompt  = "prompt."  // prompt.PROJECT.NAME in base64url
	prefixVersion = "version." // version.PROMPT-ID.NUMBER
)

func promptKey(projectID, name string) string {
	return prefixPrompt + projectID + "." + base64.RawURLEncoding.EncodeToString([]byte(name))
}

func versionKey(promptID string, number int) string {
	return prefixVersion + promptID + "." + strconv.Itoa(number)
}

// record is a prompt as the bucket keeps it. Its ID ties versions to it: a prompt
// that takes the name of a deleted one does not take its versions.
type record struct {
	ID          string           `json:"id"`
	Project     string           `json:"project"`
	Name        string           `json:"name"`
	Description string           `json:"description,omitempty"`
	Labels      map[string]Label `json:"labels,omitempty"`
	Created     time.Time        `json:"created_at"`
	Updated     time.Time        `json:"updated_at"`
}

// state is what changes are applied to.
type state struct {
	prompts  map[string]record           // by key
	versions map[string]map[int]*Version // by prompt id and number
	rollouts map[string]*rollout         // by key
}

func newState() *state {
	return &state{prompts: map[string]record{}, versions: map[string]map[int]*Version{}, rollouts: map[string]*rollout{}}
}

func (st *state) apply(key string, value []byte, _ uint64) error {
	switch {
	case strings.HasPrefix(key, prefixPrompt):
		if value == nil {
			delete(st.prompts, key)
			return nil
		}
		var p record
		if err := json.Unmarshal(value, &p); err != nil {
			return err
		}
		st.prompts[key] = p
	case strings.HasPrefix(key, prefixRollout):
		return st.applyRollout(key, value)
	case strings.HasPrefix(key, prefixVersion):
		id, n, _ := strings.Cut(strings.TrimPrefix(key, prefixVersion), ".")
		number, err := strconv.Atoi(n)
		if err != nil {
			return errors.New("the key has no version number")
		}
		if value == nil {
			delete(st.versions[id], number)
			if len(st.versions[id]) == 0 {
				delete(st.versions, id)
			}
			return nil
		}
		v := new(Version)
		if err := json.Unmarshal(value, v); err != nil {
			return err
		}
		v.pattern = template.NewPattern(v.Messages)
		if st.versions[id] == nil {
			st.versions[id] = map[int]*Version{}
		}
		st.versions[id][number] = v
	}
	return nil
}

// view is the prompts as readers see them. Nothing in it changes.
type view struct {
	projects map[string]*projectPrompts
}

// projectPrompts are one project's prompts.
type projectPrompts struct {
	list   []*held // by name
	byName map[string]*held
	byID   map[string]*Version
	match  matcher
}

// held is a prompt in the view with its versions, oldest first.
type held struct {
	Prompt
	id       string
	versions []*Version
	rollout  *rollout // nil: none
}

func (st *state) view() *view {
	w := &view{projects: map[string]*projectPrompts{}}
	for _, p := range st.prompts {
		versions := st.versions[p.ID]
		if len(versions) == 0 {
			continue // its first version is not written yet
		}
		s := w.projects[p.Project]
		if s == nil {
			s = &projectPrompts{byName: map[string]*held{}, byID: map[string]*Version{}}
			w.projects[p.Project] = s
		}
		h := &held{id: p.ID, Prompt: Prompt{
			Project: p.Project, Name: p.Name, Description: p.Description, Labels: cloneLabels(p.Labels), Created: p.Created, Updated: p.Updated}}
		for _, n := range slices.Sorted(maps.Keys(versions)) {
			v := versions[n]
			h.versions = append(h.versions, v)
			h.Latest = v.Number
			if v.Created.After(h.Updated) {
				h.Updated = v.Created
			}
		}
		if ro := st.rollouts[rolloutKey(p.Project, p.Name)]; ro != nil && ro.PromptID == p.ID {
			h.rollout = ro
		}
		s.byName[p.Name] = h
		s.list = append(s.list, h)
	}
	for _, s := range w.projects {
		slices.SortFunc(s.list, func(a, b *held) int { return cmp.Compare(a.Name, b.Name) })
		for _, h := range s.list {
			for _, v := range h.versions {
				s.byID[v.ID] = v
			}
		}
		s.match = newMatcher(s.list)
	}
	return w
}

func (w *view) prompt(projectID, name string) (*held, bool) {
	s := w.projects[projectID]
	if s == nil {
		return nil, false
	}
	h, ok := s.byName[name]
	return h, ok
}

// version finds a version by number, label or id.
func (h *held) version(ref string) (*Version, bool) {
	switch ref {
	case "":
		if l, ok := h.Labels[Production]; ok {
			return h.number(l.Version)
		}
		return h.number(h.Latest)
	case Latest:
		return h.number(h.Latest)
	}
	if l, ok := h.Labels[ref]; ok {
		return h.number(l.Version)
	}
	if n, err := strconv.Atoi(strings.TrimPrefix(ref, "v")); err == nil {
		return h.number(n)
	}
	for _, v := range h.versions {
		if v.ID == ref {
			return v, true
		}
	}
	return nil, false
}

func (h *held) number(n int) (*Version, bool) {
	i, ok := slices.BinarySearchFunc(h.versions, n, func(v *Version, n int) int { return cmp.Compare(v.Number, n) })
	if !ok {
		return nil, false
	}
	return h.versions[i], true
}

// Prompts lists a project's prompts by name.
func (r *Registry) Prompts(projectID string) []Prompt {
	s := r.b.View().projects[projectID]
	if s == nil {
		return nil
	}
	list := make([]Prompt, len(s.list))
	for i, h := range s.list {
		list[i] = h.Prompt
	}
	return list
}

// Prompt returns a project's prompt by name.
func (r *Registry) Prompt(projectID, name string) (Prompt, bool) {
	h, ok := r.b.View().prompt(projectID, name)
	if !ok {
		return Prompt{}, false
	}
	return h.Prompt, true
}

// Versions lists a prompt's versions, newest first.
func (r *Registry) Versions(projectID, name string) []Version {
	h, ok := r.b.View().prompt(projectID, name)
	if !ok {
		return nil
	}
	list := make([]Version, 0, len(h.versions))
	for _, v := range slices.Backward(h.versions) {
		list = append(list, *v)
	}
	return list
}

// Version returns a version of a prompt. ref is its number ("3" or "v3"), a label,
// "latest", or its id (pv_…); "" means the label production or, if there is no such
// label, the newest version.
func (r *Registry) Version(projectID, name, ref string) (Version, bool) {
	h, ok := r.b.View().prompt(projectID, name)
	if !ok {
		return Version{}, false
	}
	v, ok := h.version(ref)
	if !ok {
		return Version{}, false
	}
	return *v, true
}

// promptName is limited to what needs no escaping in a URL or before the @ of X-Hedgerow-Prompt.
var promptName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

const (
	maxDescription = 2000 // characters
	maxPrompts     = 5000 // of one project
)

// Create makes a prompt with its first version, which gets the label
// production: a prompt that is requested without a label always has an answer
// that someone chose.
func (r *Registry) Create(ctx context.Context, actor, projectID, name, description string, d Draft) (Prompt, error) {
	name, description = strings.TrimSpace(name), strings.TrimSpace(description)
	if !promptName.MatchString(name) {
		return Prompt{}, event.Invalid("a prompt's name starts with a letter or digit and has up to 100 letters, digits, _, - and .", "for example support_answer")
	}
	if err := checkDescription(description); err != nil {
		return Prompt{}, err
	}
	d, err := d.check()
	if err != nil {
		return Prompt{}, err
	}
	if s := r.b.View().projects[projectID]; s != nil && len(s.list) >= maxPrompts {
		return Prompt{}, event.Invalid(fmt.Sprintf("a project has at most %d prompts", maxPrompts), "delete unused prompts")
	}
	now := r.now().UTC()
	rec := record{ID: newID("pr"), Project: projectID, Name: name, Description: description, Created: now, Updated: now}
	// The version comes first: a prompt without one would not be shown, and yet
	// hold its name.
	h := &held{id: rec.ID, Prompt: Prompt{Project: projectID, Name: name}}
	v, _, err := r.addVersion(ctx, actor, h, d)
	if err != nil {
		return Prompt{}, err
	}
	rec.Labels = map[string]Label{Production: {Name: Production, Version: v.Number, VersionID: v.ID, Moved: now, By: actor, History: []Move{{To: v.Number, Time: now, By: actor}}}}
	if err := r.b.Create(ctx, promptKey(projectID, name), rec); err != nil {
		if rerr := r.b.Remove(ctx, versionKey(rec.ID, v.Number)); rerr != nil {
			r.log.Warn("a version without a prompt could not be removed", "version", v.ID, "err", rerr)
		}
		if errors.Is(err, kv.ErrExists) {
			return Prompt{}, event.NewError(event.CodeConflict, fmt.Sprintf("a prompt named %q already exists", name), "add a version to it, or choose another name", nil)
		}
		return Prompt{}, err
	}
	r.audit(ctx, actor, "prompt.create", projectID, name, "")
	p, ok := r.Prompt(projectID, name)
	if !ok {
		return Prompt{}, noPrompt(name) // deleted concurrently
	}
	return p, nil
}

func checkDescription(s string) error {
	if event.FirstChars(s, maxDescription) != s {
		return event.Invalid(fmt.Sprintf("the description has more than %d characters", maxDescription), "shorten it")
	}
	return nil
}

// Describe changes a prompt's description.
func (r *Registry) Describe(ctx context.Context, actor, projectID, name, description string) error {
	description = strings.TrimSpace(description)
	if err := checkDescription(description); err != nil {
		return err
	}
	p, ok := r.b.View().prompt(projectID, name)
	if !ok {
		return noPrompt(name)
	}
	err := r.change(ctx, p, func(rec *record) error {
		rec.Description, rec.Updated = description, r.now().UTC()
		return nil
	})
	if err == nil {
		r.audit(ctx, actor, "prompt.update", projectID, name, "description")
	}
	return err
}

// Delete removes a prompt with all its versions and labels. Events keep the names
// and numbers that they have. confirm has to be the prompt's name.
func (r *Registry) Delete(ctx context.Context, actor, projectID, name, confirm string) error {
	p, ok := r.b.View().prompt(projectID, name)
	if !ok {
		return noPrompt(name)
	}
	if confirm != name {
		return event.Invalid("the deletion is not confirmed", "repeat the prompt's name to delete it with all its versions")
	}
	if err := r.remove(ctx, p); err != nil {
		return err
	}
	r.audit(ctx, actor, "prompt.delete", projectID, name, fmt.Sprintf("%d versions", len(p.versions)))
	return nil
}

// Erase removes all prompts of a project that is deleted.
func (r *Registry) Erase(ctx context.Context, projectID string) error {
	s := r.b.View().projects[projectID]
	if s == nil {
		return nil
	}
	for _, h := range s.list {
		if err := r.remove(ctx, h); err != nil {
			return err
		}
	}
	return nil
}

func (r *Registry) remove(ctx context.Context, p *held) error {
	if err := r.b.Remove(ctx, promptKey(p.Project, p.Name)); err != nil {
		return err
	}
	if p.rollout != nil {
		if err := r.b.Remove(ctx, rolloutKey(p.Project, p.Name)); err != nil {
			r.log.Warn("the rollout of a deleted prompt could not be removed", "prompt", p.id, "err", err)
		}
	}
	for _, v := range p.versions {
		if err := r.b.Remove(ctx, versionKey(p.id, v.Number)); err != nil {
			r.log.Warn("a version of a deleted prompt could not be removed", "version", v.ID, "err", err)
		}
	}
	return nil
}

// change changes a prompt's record.
func (r *Registry) change(ctx context.Context, p *held, f func(*record) error) error {
	return r.b.Change(ctx, promptKey(p.Project, p.Name), func(value []byte) (any, error) {
		var rec record
		if value == nil {
			return nil, noPrompt(p.Name)
		}
		if err := json.Unmarshal(value, &rec); err != nil {
			return nil, event.NewError(event.CodeInternal, "the prompt is damaged", "restore a backup", err)
		}
		if rec.ID != p.id {
			return nil, noPrompt(p.Name)
		}
		if err := f(&rec); err != nil {
			return nil, err
		}
		return rec, nil
	})
}

func (r *Registry) audit(ctx context.Context, actor, action, projectID, target, detail string) {
	r.o.Audit.Note(ctx, r.log, project.AuditEntry{Actor: actor, Action: action, ProjectID: projectID, Target: target, Detail: detail})
}

func noPrompt(name string) error {
	return event.NewError(event.CodeNotFound, fmt.Sprintf("no prompt named %q", event.FirstChars(name, 100)), "list the prompts to see which exist", nil)
}

func noVersion(name, ref string) error {
	return event.NewError(event.CodeNotFound, fmt.Sprintf("the prompt %q has no version or label %q", event.FirstChars(name, 100), event.FirstChars(ref, 50)), "see the prompt for its versions and labels", nil)
}
