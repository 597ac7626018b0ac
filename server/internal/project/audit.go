package project

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"

	"github.com/hedgerow/hedgerow/event"
)

// auditBound is how many entries the audit log keeps; the oldest go first.
const auditBound = 2000

type actorKey struct{}

// WithActor sets the actor of changes made with ctx: "key hr_ab12…", a
// user's id, "local". The audit log records it.
func WithActor(ctx context.Context, actor string) context.Context {
	return context.WithValue(ctx, actorKey{}, actor)
}

func actorOf(ctx context.Context) string {
	if a, ok := ctx.Value(actorKey{}).(string); ok && a != "" {
		return a
	}
	return "system"
}

// AuditLog returns the newest entries, newest first: at most limit of them (0 is
// all that are kept, up to 2000), of one project or, with "", of all.
func (r *Registry) AuditLog(projectID string, limit int) []AuditEntry {
	list := r.b.View().audit
	if projectID != "" {
		list = slices.DeleteFunc(slices.Clone(list), func(e AuditEntry) bool { return e.ProjectID != projectID })
	}
	if limit > 0 && len(list) > limit {
		list = list[:limit]
	}
	return slices.Clone(list)
}

// Audit adds an entry for an event outside this package, such as a rejected
// sign-in. ID, Time and an empty Actor are set.
func (r *Registry) Audit(ctx context.Context, e AuditEntry) error {
	rev, err := r.appendAudit(ctx, e)
	if err != nil {
		return unavailable("the audit log could not be written", err)
	}
	return r.b.Await(ctx, rev)
}

// Auditor writes an entry into the audit log: [*Registry.Audit] does. A nil one
// writes none.
type Auditor func(context.Context, AuditEntry) error

// Note writes an entry about a change that has been made: that it cannot be
// written does not undo the change, and is in the log of the process.
func (a Auditor) Note(ctx context.Context, log *slog.Logger, e AuditEntry) {
	if a == nil {
		return
	}
	if err := a(ctx, e); err != nil {
		log.Error("an audit log entry could not be written", "action", e.Action, "project", e.ProjectID, "err", err)
	}
}

func (r *Registry) appendAudit(ctx context.Context, e AuditEntry) (uint64, error) {
	e.ID, e.Time = event.NewID(), r.now().UTC()
	if e.Actor == "" {
		e.Actor = actorOf(ctx)
	}
	b, err := json.Marshal(e)
	if err != nil {
		return 0, err
	}
	rev, err := r.bucket.Create(ctx, prefixAudit+e.ID, b)
	if err != nil {
		return 0, err
	}
	if list := r.b.View().audit; len(list) >= auditBound {
		// Replicas may prune the same entries; purging twice does no harm.
		for _, old := range list[auditBound-1:] {
			if err := r.purge(ctx, prefixAudit+old.ID, 0); err != nil {
				r.log.Warn("old audit entries could not be removed", "err", err)
				break
			}
		}
	}
	return rev, nil
}

// done completes a change that is in the bucket: it adds the audit entry and
// waits until the snapshot has both. The bucket is ordered, so the audit
// entry's revision covers the change before it.
func (r *Registry) done(ctx context.Context, revision uint64, e AuditEntry) error {
	rev, err := r.appendAudit(ctx, e)
	if err != nil {
		r.log.Error("an audit log entry could not be written", "action", e.Action, "target", e.Target, "err", err)
	}
	return r.b.Await(ctx, max(revision, rev))
}
