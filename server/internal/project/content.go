package project

import (
	"cmp"
	"context"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// MayRead reports whether a role may read the project's prompts and answers.
func (s Settings) MayRead(r Role) bool { return r.Can(cmp.Or(s.ContentRole, RoleViewer)) }

// ContentForbidden is the error of a role that may not read prompts and answers.
func ContentForbidden(r Role) *event.Error {
	return event.NewError(event.CodeForbidden, "the role "+string(r)+" may not read the prompts and responses of this project",
		"ask an administrator to change who can read content in the project's settings", nil)
}

// openedAgain is how long one who has read a content may read it again without
// another entry in the audit log, which keeps a bounded number of them.
const openedAgain = time.Hour

// OpenContent must be called before prompts or answers are shown. It rejects a
// role that may not read them, and records in the audit log that the actor of
// ctx read target, such as "event 0192…", at most once an hour. If the entry
// cannot be written, the content must not be shown.
func (r *Registry) OpenContent(ctx context.Context, projectID string, role Role, target string) error {
	p, ok := r.Snapshot().Project(projectID)
	if !ok || !p.Settings.MayRead(role) {
		return ContentForbidden(role)
	}
	for _, e := range r.AuditLog(projectID, 0) {
		if r.now().Sub(e.Time) > openedAgain {
			break
		}
		if e.Action == "content.open" && e.Target == target && e.Actor == actorOf(ctx) {
			return nil
		}
	}
	return r.Audit(ctx, AuditEntry{Action: "content.open", ProjectID: projectID, Target: target})
}
