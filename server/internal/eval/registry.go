package eval

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/health"
	"github.com/hedgerow/hedgerow/server/internal/kv"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// The names of the key-value buckets in which a server keeps checks and what judges
// spend.
const (
	ChecksBucket   = "checks"
	SpendingBucket = "spending"
)

// Options are a registry's settings.
type Options struct {
	// Audit notes who changed what. nil notes nothing.
	Audit    project.Auditor
	LastGood string           // path of the last-good copy; see kv.Config. "" is without
	Now      func() time.Time // Defaults to time.Now
	Logger   *slog.Logger     // Defaults to none
}

// Registry stores the checks of all projects. Its errors are [*event.Error].
type Registry struct {
	checks *kv.Collection[Check]
	ledger Ledger
	o      Options
}

// Open loads the checks from a bucket and watches them. spending is a separate
// bucket with the judges' spending.
func Open(ctx context.Context, bucket, spending jetstream.KeyValue, o Options) (*Registry, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	checks, err := kv.OpenCollection[Check](ctx, bucket, kv.CollectionConfig{Noun: "check", LastGood: o.LastGood, Logger: o.Logger})
	if err != nil {
		return nil, err
	}
	return &Registry{checks: checks, ledger: Ledger{spending}, o: o}, nil
}

// Close ends the watch.
func (r *Registry) Close() error { return r.checks.Close() }

// Health returns the health of the checks' settings.
func (r *Registry) Health() health.Report { return r.checks.Health() }

// Budget is the judges' ledger.
func (r *Registry) Budget() Budget { return r.ledger }

// Checks returns a project's checks by name or, with "", those of all projects.
func (r *Registry) Checks(projectID string) []Check { return r.checks.ByName(projectID, nameOf) }

// Check returns a project's check by its id or its name.
func (r *Registry) Check(projectID, ref string) (Check, error) {
	return r.checks.Find(projectID, ref, nameOf)
}

func nameOf(c Check) string { return c.Name }

// Changed returns a channel that is closed with the next change of any check.
func (r *Registry) Changed() <-chan struct{} { return r.checks.Changed() }

// Create adds a check and assigns its id.
func (r *Registry) Create(ctx context.Context, c Check) (Check, error) {
	if err := c.prepare(); err != nil {
		return c, err
	}
	have := r.checks.List(c.ProjectID)
	if len(have) >= maxChecks {
		return c, event.Invalid(fmt.Sprintf("check limit reached (%d)", maxChecks), "delete a check first")
	}
	if err := onlyOne(have, c); err != nil {
		return c, err
	}
	c.ID = project.NewID("ev")
	c.CreatedAt = r.o.Now().UTC()
	c.UpdatedAt = c.CreatedAt
	if err := r.checks.Create(ctx, c.ProjectID, c.ID, c); err != nil {
		return c, err
	}
	r.audit(ctx, "check.create", c, string(c.Kind))
	return c, nil
}

func onlyOne(have []Check, c Check) error {
	if slices.ContainsFunc(have, func(x Check) bool { return x.ID != c.ID && strings.EqualFold(x.Name, c.Name) }) {
		return event.NewError(event.CodeConflict, fmt.Sprintf("a check named %q already exists", c.Name), "results are identified by name: choose another", nil)
	}
	return nil
}

// Update changes a check. Earlier results do not change.
func (r *Registry) Update(ctx context.Context, projectID, id string, f func(*Check) error) (Check, error) {
	var before Check
	c, err := r.checks.Change(ctx, projectID, id, func(c *Check) error {
		before = *c
		if err := f(c); err != nil {
			return err
		}
		c.ID, c.ProjectID, c.CreatedAt = before.ID, before.ProjectID, before.CreatedAt // are not to be changed
		if err := c.prepare(); err != nil {
			return err
		}
		c.UpdatedAt = r.o.Now().UTC()
		return onlyOne(r.checks.List(projectID), *c)
	})
	if err != nil {
		return c, err
	}
	r.audit(ctx, "check.update", c, changes(before, c))
	return c, nil
}

// changes names the settings that differ.
func changes(a, b Check) string {
	var out []string
	va, vb := reflect.ValueOf(a), reflect.ValueOf(b)
	for i := range va.NumField() {
		f := va.Type().Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name != "updated_at" && !reflect.DeepEqual(va.Field(i).Interface(), vb.Field(i).Interface()) {
			out = append(out, name)
		}
	}
	return strings.Join(out, ", ")
}

// Delete deletes a check. Its results remain with the events.
func (r *Registry) Delete(ctx context.Context, projectID, id string) error {
	c, ok := r.checks.Get(projectID, id)
	if !ok {
		_, err := r.Check(projectID, "")
		return err
	}
	if err := r.checks.Delete(ctx, projectID, id); err != nil {
		return err
	}
	if err := r.ledger.Forget(ctx, budgetName(&c)); err != nil {
		r.o.Logger.Warn("the recorded spending of a deleted check could not be removed", "check", id, "err", err)
	}
	r.audit(ctx, "check.delete", c, "")
	return nil
}

// Erase removes every check of a project that is being deleted.
func (r *Registry) Erase(ctx context.Context, projectID string) error {
	for _, c := range r.checks.List(projectID) {
		if err := r.checks.Delete(ctx, projectID, c.ID); err != nil {
			return err
		}
		if err := r.ledger.Forget(ctx, budgetName(&c)); err != nil {
			return fmt.Errorf("remove a judge's spending: %w", err)
		}
	}
	return nil
}

// audit notes a change; that it could not be noted does not undo it.
func (r *Registry) audit(ctx context.Context, action string, c Check, detail string) {
	r.o.Audit.Note(ctx, r.o.Logger, project.AuditEntry{Action: action, ProjectID: c.ProjectID, Target: c.Name, Detail: detail})
}
