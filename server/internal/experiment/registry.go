package experiment

import (
	"cmp"
	"context"
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

// Bucket is the name of the key-value bucket in which a server keeps a [Registry].
const Bucket = "experiments"

// Options are a registry's settings.
type Options struct {
	// Audit writes an entry into the audit log; (*project.Registry).Audit does.
	// nil writes none.
	Audit    project.Auditor
	Ask      Asker            // counts the users whose data is there when a definition changes. nil: not known
	LastGood string           // path of the last-good copy; see kv.Config. "" is without
	Now      func() time.Time // Defaults to time.Now
	Logger   *slog.Logger     // Defaults to none
}

// Registry is the experiments of all projects. Any number of registries, in any
// number of processes, may work on one bucket.
//
// A change returns when the registry itself shows it. Errors are
// [*event.Error]: invalid, not found, conflict, or unavailable when the bucket
// could not be reached. actor is the author of a change, as shown in the audit
// log.
type Registry struct {
	list *kv.Collection[stored]
	o    Options
	log  *slog.Logger
	now  func() time.Time
}

// stored is a definition as the bucket keeps it.
type stored struct {
	Project string `json:"project"`
	Definition
}

func (s stored) definition() Definition {
	s.Definition.Project = s.Project
	return s.Definition
}

// Open reads the experiments from a bucket and begins to watch it. ctx bounds
// the opening only; [Registry.Close] ends the watch.
func Open(ctx context.Context, bucket jetstream.KeyValue, o Options) (*Registry, error) {
	r := &Registry{o: o, log: o.Logger, now: o.Now}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.now == nil {
		r.now = time.Now
	}
	var err error
	r.list, err = kv.OpenCollection[stored](ctx, bucket, kv.CollectionConfig{Noun: "experiment", Prefix: "experiment.", LastGood: o.LastGood, Logger: r.log})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// Health returns the health of these settings.
func (r *Registry) Health() health.Report { return r.list.Health() }

// Close ends the watch. What is in memory stays readable.
func (r *Registry) Close() error { return r.list.Close() }

// Experiments lists a project's experiments or, with "", all, the newest first.
func (r *Registry) Experiments(projectID string) []Definition {
	var out []Definition
	for _, s := range r.list.List(projectID) {
		out = append(out, s.definition())
	}
	slices.SortStableFunc(out, func(a, b Definition) int {
		return cmp.Or(b.Created.Compare(a.Created), strings.Compare(a.ID, b.ID))
	})
	return out
}

// Experiment returns one.
func (r *Registry) Experiment(projectID, id string) (Definition, bool) {
	s, ok := r.list.Get(projectID, id)
	return s.definition(), ok
}

// running lists the experiments of all projects that have begun, and those that
// still have alerts to send.
func (r *Registry) running() []Definition {
	return slices.DeleteFunc(r.Experiments(""), func(d Definition) bool {
		return !d.Running() && !slices.ContainsFunc(d.Breaches, Breach.open)
	})
}

func errNotFound() error {
	return event.NewError(event.CodeNotFound, "experiment not found", "list the experiments to see which exist", nil)
}

// Create makes an experiment. Where Started is set, it begins: at that moment,
// which may lie in the past, so that what came before counts too. Otherwise it
// is a draft. Names are unique within a project, ignoring case.
func (r *Registry) Create(ctx context.Context, actor string, d Definition) (Definition, error) {
	now := r.now().UTC()
	d.ID, d.Created, d.Updated = "x_"+strings.ReplaceAll(event.NewID(), "-", ""), now, now
	d.Stopped, d.StopReason, d.Breaches, d.Versions = time.Time{}, "", nil, nil
	d.Started = d.Started.UTC()
	if d.Started.After(now) {
		return Definition{}, event.Invalid("the start is in the future", "leave out started_at and start it then")
	}
	if d.Project == "" {
		return Definition{}, event.Invalid("the experiment has no project", "")
	}
	if err := d.normalise(); err != nil {
		return Definition{}, err
	}
	if err := r.unique(&d); err != nil {
		return Definition{}, err
	}
	if d.Running() {
		if err := d.seal(actor, now, r.data(ctx, d)); err != nil {
			return Definition{}, err
		}
	}
	if err := r.list.Create(ctx, d.Project, d.ID, stored{d.Project, d}); err != nil {
		return Definition{}, err
	}
	r.audit(ctx, actor, "experiment.create", d, "")
	if d.Running() {
		r.audit(ctx, actor, "experiment.start", d, d.sealed())
	}
	return d, nil
}

func (r *Registry) unique(d *Definition) error {
	for _, other := range r.Experiments(d.Project) {
		if other.ID != d.ID && strings.EqualFold(other.Name, d.Name) {
			return event.NewError(event.CodeConflict, "an experiment with this name already exists", "choose another name", nil)
		}
	}
	return nil
}

// Update changes an experiment. f gets a copy and may be called again when
// another change came first. What a running experiment rests on stays as it is.
func (r *Registry) Update(ctx context.Context, actor, projectID, id string, f func(*Spec) error) (Definition, error) {
	was, _ := r.Experiment(projectID, id)
	users := r.data(ctx, was)
	d, err := r.change(ctx, projectID, id, func(d *Definition) error {
		before := *d
		before.Variants, before.Guardrails, before.Segments = slices.Clone(d.Variants), slices.Clone(d.Guardrails), slices.Clone(d.Segments)
		if err := f(&d.Spec); err != nil {
			return err
		}
		if err := d.normalise(); err != nil {
			return err
		}
		if !before.Started.IsZero() {
			d.keepUnset(&before.Spec)
			if err := before.frozen(&d.Spec); err != nil {
				return err
			}
			if err := d.edited(&before.Spec, actor, r.now().UTC(), users); err != nil {
				return err
			}
		}
		return r.unique(d)
	})
	if err != nil {
		return Definition{}, err
	}
	r.audit(ctx, actor, "experiment.update", d, "")
	return d, nil
}

// Start begins a draft now.
func (r *Registry) Start(ctx context.Context, actor, projectID, id string) (Definition, error) {
	d, err := r.change(ctx, projectID, id, func(d *Definition) error {
		if !d.Started.IsZero() {
			return event.NewError(event.CodeConflict, "the experiment has already started", "create another to start again", nil)
		}
		d.Started = r.now().UTC()
		return d.seal(actor, d.Started, event.Some[int64](0))
	})
	if err == nil {
		r.audit(ctx, actor, "experiment.start", d, d.sealed())
	}
	return d, err
}

// Stop ends an experiment: events from now on do not count. It does not change
// who gets what.
func (r *Registry) Stop(ctx context.Context, actor, projectID, id, reason string) (Definition, error) {
	reason, err := clean("reason", reason, maxText)
	if err != nil {
		return Definition{}, err
	}
	d, err := r.change(ctx, projectID, id, func(d *Definition) error {
		if !d.Running() {
			return event.NewError(event.CodeConflict, "the experiment is not running", "", nil)
		}
		d.Stopped, d.StopReason = r.now().UTC(), reason
		return nil
	})
	if err == nil {
		r.audit(ctx, actor, "experiment.stop", d, reason)
	}
	return d, err
}

// Stopper stops a prompt's rollout, so that everyone gets the control.
type Stopper func(ctx context.Context, actor, projectID, prompt, reason string) error

// StopWith is [Registry.Stop], with the prompt's rollout stopped first where
// that is requested.
func (r *Registry) StopWith(ctx context.Context, actor, projectID, id, reason string, rollout bool, stop Stopper) (Definition, error) {
	if rollout {
		d, ok := r.Experiment(projectID, id)
		switch {
		case !ok:
			return d, errNotFound()
		case d.Prompt == "" || stop == nil:
			return d, event.NewError(event.CodeConflict, "the experiment has no prompt whose rollout could be stopped", "turn the flag off in PostHog, and stop only the experiment", nil)
		}
		if err := stop(ctx, actor, projectID, d.Prompt, "experiment "+d.Name+": "+cmp.Or(reason, "stopped")); err != nil {
			return d, err
		}
	}
	return r.Stop(ctx, actor, projectID, id, reason)
}

// Delete removes an experiment. Its events stay.
func (r *Registry) Delete(ctx context.Context, actor, projectID, id string) error {
	d, ok := r.Experiment(projectID, id)
	if !ok {
		return errNotFound()
	}
	if err := r.list.Delete(ctx, projectID, id); err != nil {
		return err
	}
	r.audit(ctx, actor, "experiment.delete", d, "")
	return nil
}

// change changes a definition by compare-and-swap.
func (r *Registry) change(ctx context.Context, projectID, id string, f func(*Definition) error) (Definition, error) {
	out, err := r.list.Change(ctx, projectID, id, func(s *stored) error {
		d := s.definition()
		created := d.Created
		if err := f(&d); err != nil {
			return err
		}
		d.ID, d.Created, d.Updated = id, created, r.now().UTC()
		s.Definition = d
		return nil
	})
	if err != nil {
		return Definition{}, err
	}
	return out.definition(), nil
}

func (r *Registry) audit(ctx context.Context, actor, action string, d Definition, detail string) {
	r.o.Audit.Note(ctx, r.log, project.AuditEntry{Actor: actor, Action: action, ProjectID: d.Project, Target: d.Name, Detail: detail})
}
