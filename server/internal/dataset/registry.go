package dataset

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/health"
	"github.com/hedgerow/hedgerow/server/internal/kv"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// The names of the key-value buckets in which a server keeps datasets, their runs and
// the items of runs.
const (
	SetsBucket  = "datasets"
	RunsBucket  = "dataset_runs"
	ItemsBucket = "dataset_items"
)

// Buckets are the three key-value buckets of a registry.
type Buckets struct {
	Sets, Runs jetstream.KeyValue // small records, all of them in memory
	Items      jetstream.KeyValue // examples (x.SET.EXAMPLE) and results (r.RUN.EXAMPLE): read on request
}

// Options are a registry's settings.
type Options struct {
	// Audit notes who changed what. nil notes nothing.
	Audit project.Auditor
	// LastGood returns the path of a bucket's last-good copy by its name;
	// see kv.Config. Nil disables it.
	LastGood func(bucket string) string
	Now      func() time.Time // Defaults to time.Now
	Logger   *slog.Logger     // Defaults to none
}

// Registry stores the datasets of all projects. Its errors are [*event.Error].
type Registry struct {
	sets  *kv.Collection[Set]
	runs  *kv.Collection[Run]
	items jetstream.KeyValue
	o     Options
}

// Open loads sets and runs and begins to watch them.
func Open(ctx context.Context, b Buckets, o Options) (*Registry, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.LastGood == nil {
		o.LastGood = func(string) string { return "" }
	}
	sets, err := kv.OpenCollection[Set](ctx, b.Sets, kv.CollectionConfig{Noun: "dataset", LastGood: o.LastGood(b.Sets.Bucket()), Logger: o.Logger})
	if err != nil {
		return nil, err
	}
	runs, err := kv.OpenCollection[Run](ctx, b.Runs, kv.CollectionConfig{Noun: "run", LastGood: o.LastGood(b.Runs.Bucket()), Logger: o.Logger})
	if err != nil {
		return nil, errors.Join(err, sets.Close())
	}
	return &Registry{sets: sets, runs: runs, items: b.Items, o: o}, nil
}

// Health returns the health of the datasets' settings.
func (r *Registry) Health() []health.Report { return []health.Report{r.sets.Health(), r.runs.Health()} }

// Close ends the watches.
func (r *Registry) Close() error { return errors.Join(r.sets.Close(), r.runs.Close()) }

// Sets returns a project's datasets by name.
func (r *Registry) Sets(projectID string) []Set { return r.sets.ByName(projectID, nameOf) }

// Set returns a project's dataset by its id or its name.
func (r *Registry) Set(projectID, ref string) (Set, error) {
	return r.sets.Find(projectID, ref, nameOf)
}

func nameOf(s Set) string { return s.Name }

// Create adds an empty dataset.
func (r *Registry) Create(ctx context.Context, projectID, name, description string) (Set, error) {
	name, err := cleanName(name)
	if err != nil {
		return Set{}, err
	}
	have := r.sets.List(projectID)
	if len(have) >= MaxSets {
		return Set{}, event.Invalid(fmt.Sprintf("dataset limit reached (%d)", MaxSets), "delete a dataset first")
	}
	if slices.ContainsFunc(have, func(s Set) bool { return strings.EqualFold(s.Name, name) }) {
		return Set{}, event.NewError(event.CodeConflict, fmt.Sprintf("a dataset named %q already exists", name), "use it, or choose another name", nil)
	}
	s := Set{ID: project.NewID("ds"), ProjectID: projectID, Name: name, Description: event.FirstChars(strings.TrimSpace(description), 500), CreatedAt: r.o.Now().UTC()}
	s.UpdatedAt = s.CreatedAt
	if err := r.sets.Create(ctx, projectID, s.ID, s); err != nil {
		return Set{}, err
	}
	r.audit(ctx, "dataset.create", s, "")
	return s, nil
}

// Delete removes a dataset with its examples and runs.
func (r *Registry) Delete(ctx context.Context, projectID, id string) error {
	s, err := r.Set(projectID, id)
	if err != nil {
		return err
	}
	if err := r.wipe(ctx, s); err != nil {
		return err
	}
	r.audit(ctx, "dataset.delete", s, fmt.Sprintf("%d examples", s.Examples))
	return nil
}

// Erase removes every dataset of a project that is being deleted.
func (r *Registry) Erase(ctx context.Context, projectID string) error {
	for _, s := range r.sets.List(projectID) {
		if err := r.wipe(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

func (r *Registry) wipe(ctx context.Context, s Set) error {
	for _, run := range r.Runs(s.ProjectID, s.ID) {
		if err := r.DeleteRun(ctx, s.ProjectID, run.ID); err != nil {
			return err
		}
	}
	if err := r.purge(ctx, exampleKey(s.ID, "*")); err != nil {
		return err
	}
	return r.sets.Delete(ctx, s.ProjectID, s.ID)
}

func exampleKey(set, id string) string { return "x." + set + "." + id }
func resultKey(run, id string) string  { return "r." + run + "." + id }

// purge deletes every item whose key matches.
func (r *Registry) purge(ctx context.Context, pattern string) error {
	keys, err := r.items.ListKeysFiltered(ctx, pattern)
	if err != nil {
		return unavailable(err)
	}
	for k := range keys.Keys() {
		if err := r.items.Purge(ctx, k); err != nil {
			return unavailable(err)
		}
	}
	return nil
}

func unavailable(err error) error {
	return event.NewError(event.CodeUnavailable, "the datasets cannot be read or written", "try again; if it persists, check the server log and the free space of the data folder", err)
}

// encode is v in JSON, with <, > and & as they were written.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return b.Bytes(), err
}

// read loads every item whose key matches, in the order of keys.
func read[T any](ctx context.Context, bucket jetstream.KeyValue, pattern string) ([]T, error) {
	w, err := bucket.Watch(ctx, pattern, jetstream.IgnoreDeletes())
	if err != nil {
		return nil, unavailable(err)
	}
	defer func() { _ = w.Stop() }()
	var out []T
	for {
		select {
		case <-ctx.Done():
			return nil, unavailable(ctx.Err())
		case e, ok := <-w.Updates():
			if !ok {
				return nil, unavailable(errors.New("the watch ended early"))
			}
			if e == nil {
				return out, nil
			}
			var v T
			if err := json.Unmarshal(e.Value(), &v); err != nil {
				return nil, unavailable(fmt.Errorf("read %s: %w", e.Key(), err))
			}
			out = append(out, v)
		}
	}
}

// Add appends examples to a dataset and assigns missing ids. An example with an
// existing id replaces the existing one.
func (r *Registry) Add(ctx context.Context, projectID, set string, examples ...Example) ([]Example, error) {
	s, err := r.Set(projectID, set)
	if err != nil {
		return nil, err
	}
	out := slices.Clone(examples)
	for i := range out {
		x := &out[i]
		if x.ID != "" && !validID(x.ID) {
			return nil, atIndex(event.Invalid("the example's id cannot be used", "leave it out, or use letters, digits, _ and -"), i, len(out))
		}
		if err := x.check(); err != nil {
			return nil, atIndex(err, i, len(out))
		}
		if x.ID == "" {
			x.ID = project.NewID("ex")
		}
		if x.CreatedAt.IsZero() {
			x.CreatedAt = r.o.Now().UTC()
		}
	}
	have, err := r.ids(ctx, exampleKey(s.ID, "*"))
	if err != nil {
		return nil, err
	}
	for _, x := range out {
		have[x.ID] = true
	}
	if len(have) > MaxExamples {
		return nil, event.NewError(event.CodeTooLarge, fmt.Sprintf("the dataset would have %d examples, more than %d", len(have), MaxExamples), "create another dataset", nil)
	}
	for _, x := range out {
		b, err := encode(x)
		if err != nil {
			return nil, err
		}
		if _, err := r.items.Put(ctx, exampleKey(s.ID, x.ID), b); err != nil {
			return nil, unavailable(err)
		}
	}
	if err := r.recount(ctx, s); err != nil {
		return nil, err
	}
	detail := fmt.Sprintf("%d examples", len(out))
	if len(out) == 1 {
		detail = out[0].ID
	}
	r.audit(ctx, "dataset.add", s, detail)
	return out, nil
}

func validID(s string) bool {
	return len(s) <= 60 && !strings.ContainsFunc(s, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-'
	})
}

// atIndex adds the index of an example to an error.
func atIndex(err error, i, of int) error {
	var e *event.Error
	if of == 1 || !errors.As(err, &e) {
		return err
	}
	c := *e
	c.Message = fmt.Sprintf("example %d: %s", i+1, c.Message)
	return &c
}

// ids are the last parts of the keys that match.
func (r *Registry) ids(ctx context.Context, pattern string) (map[string]bool, error) {
	keys, err := r.items.ListKeysFiltered(ctx, pattern)
	if err != nil {
		return nil, unavailable(err)
	}
	out := make(map[string]bool)
	for k := range keys.Keys() {
		out[k[strings.LastIndexByte(k, '.')+1:]] = true
	}
	return out, nil
}

func (r *Registry) recount(ctx context.Context, s Set) error {
	ids, err := r.ids(ctx, exampleKey(s.ID, "*"))
	if err != nil {
		return err
	}
	_, err = r.sets.Change(ctx, s.ProjectID, s.ID, func(s *Set) error {
		s.Examples, s.UpdatedAt = len(ids), r.o.Now().UTC()
		return nil
	})
	return err
}

// Examples returns a dataset's examples, the oldest first.
func (r *Registry) Examples(ctx context.Context, projectID, set string) ([]Example, error) {
	s, err := r.Set(projectID, set)
	if err != nil {
		return nil, err
	}
	list, err := read[Example](ctx, r.items, exampleKey(s.ID, "*"))
	slices.SortStableFunc(list, func(a, b Example) int {
		if c := a.CreatedAt.Compare(b.CreatedAt); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return list, err
}

// Example returns one example.
func (r *Registry) Example(ctx context.Context, projectID, set, id string) (Example, error) {
	s, err := r.Set(projectID, set)
	if err != nil {
		return Example{}, err
	}
	var x Example
	e, err := r.items.Get(ctx, exampleKey(s.ID, id))
	if errors.Is(err, jetstream.ErrKeyNotFound) || errors.Is(err, jetstream.ErrInvalidKey) || err == nil && !validID(id) {
		return x, event.NewError(event.CodeNotFound, "example not found in this dataset", "list the examples to see which exist", nil)
	}
	if err == nil {
		err = json.Unmarshal(e.Value(), &x)
	}
	if err != nil {
		return x, unavailable(err)
	}
	return x, nil
}

// Remove takes an example out. Results of runs stay.
func (r *Registry) Remove(ctx context.Context, projectID, set, id string) error {
	if _, err := r.Example(ctx, projectID, set, id); err != nil {
		return err
	}
	s, err := r.Set(projectID, set)
	if err != nil {
		return err
	}
	if err := r.items.Purge(ctx, exampleKey(s.ID, id)); err != nil {
		return unavailable(err)
	}
	if err := r.recount(ctx, s); err != nil {
		return err
	}
	r.audit(ctx, "dataset.remove", s, id)
	return nil
}

// staleAfter is how long the process of a run may be silent before the run is
// treated as interrupted.
const staleAfter = time.Minute

// Runs returns a dataset's runs, the newest first.
func (r *Registry) Runs(projectID, setID string) []Run {
	list := slices.DeleteFunc(r.runs.List(projectID), func(x Run) bool { return x.SetID != setID })
	slices.SortStableFunc(list, func(a, b Run) int { return b.StartedAt.Compare(a.StartedAt) })
	for i := range list {
		list[i] = r.seen(list[i])
	}
	return list
}

// Run returns one run.
func (r *Registry) Run(projectID, id string) (Run, error) {
	x, ok := r.runs.Get(projectID, id)
	if !ok {
		return x, event.NewError(event.CodeNotFound, "run not found in this project", "list the dataset's runs to see which exist", nil)
	}
	return r.seen(x), nil
}

func (r *Registry) seen(x Run) Run {
	if x.Status == Running && r.o.Now().Sub(x.BeatAt) > staleAfter {
		x.Status, x.Problem = Interrupted, wasInterrupted
	}
	return x
}

// wasInterrupted is the problem of a run whose process was killed.
const wasInterrupted = "hedgerow stopped during the run"

// Interrupted marks every running run as interrupted. Call it at the start of the
// only process: a run of a killed process can then be resumed immediately.
func (r *Registry) Interrupted(ctx context.Context) error {
	for _, x := range r.runs.List("") {
		if x.Status != Running {
			continue
		}
		_, err := r.runs.Change(ctx, x.ProjectID, x.ID, func(x *Run) error {
			if x.Status == Running {
				x.Status, x.Problem, x.EndedAt = Interrupted, wasInterrupted, x.BeatAt
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Results returns a run's results so far.
func (r *Registry) Results(ctx context.Context, projectID, run string) ([]Result, error) {
	x, err := r.Run(projectID, run)
	if err != nil {
		return nil, err
	}
	return read[Result](ctx, r.items, resultKey(x.ID, "*"))
}

// DeleteRun removes a run and its results; one that is running is canceled
// first.
func (r *Registry) DeleteRun(ctx context.Context, projectID, id string) error {
	x, err := r.Run(projectID, id)
	if err != nil {
		return err
	}
	if x.Status == Running {
		return event.NewError(event.CodeConflict, "the run is in progress", "cancel it first", nil)
	}
	if err := r.purge(ctx, resultKey(x.ID, "*")); err != nil {
		return err
	}
	return r.runs.Delete(ctx, projectID, x.ID)
}

// audit notes a change; that it could not be noted does not undo it.
func (r *Registry) audit(ctx context.Context, action string, s Set, detail string) {
	r.o.Audit.Note(ctx, r.o.Logger, project.AuditEntry{Action: action, ProjectID: s.ProjectID, Target: s.Name, Detail: detail})
}
