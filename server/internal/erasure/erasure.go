// Package erasure deletes single events: locally immediately, and in PostHog as
// far as PostHog supports it. The pages, the API, the MCP tools and the command
// share it, so that each has the same effect and writes the same audit log
// entries.
package erasure

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/privacy"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// Bounds of one request.
const (
	MaxEvents  = 1000 // events
	MaxPersons = 20   // users to delete in PostHog per request
)

// Limits of a local deletion.
const (
	CopiesNote = "Dataset examples created from it stay: delete them in the dataset. The journal keeps a copy, which is never shown, until its retention ends, and backups keep theirs."
	// PostHogNote describes PostHog's capabilities.
	PostHogNote = "PostHog cannot delete single events. Queued events are no longer sent; events already sent stay there, unless the person is deleted with all of their events: use request_person_deletion for that."
)

// Store is where events are kept.
type Store interface {
	DeleteEvents(ctx context.Context, projectID string, uuids []string) (int, error)
}

// Users returns the user of an event.
type Users interface {
	// DistinctIDs returns the users of the stored events, each once; events
	// without a user are skipped.
	DistinctIDs(ctx context.Context, projectID string, uuids []string) ([]string, error)
}

// Eraser deletes events. Its fields must not be changed after the first Delete.
type Eraser struct {
	Store Store // required
	Users Users // required
	// Dead deletes the dead letters of events and returns how many; nil if
	// there are none.
	Dead func(ctx context.Context, projectID string, uuids []string) (int, error)
	// Submitters removes the values that are kept of events for the results of
	// the batches that they submitted; nil if none are.
	Submitters func(ctx context.Context, projectID string, uuids []string) error
	// Project returns a project's record, for how its user ids leave.
	Project func(id string) (project.Project, bool)
	// Connections returns the connections of a project.
	Connections func(projectID string) []project.Connection
	// Person requests a connection's PostHog to delete the person with a
	// distinct id and all of their events, and reports whether the person
	// exists.
	Person func(ctx context.Context, c project.Connection, distinctID string) (found bool, err error)
	Audit  project.Auditor
	Logger *slog.Logger // nil: no log
}

// Request selects the events to delete.
type Request struct {
	ProjectID string
	UUIDs     []string // at most MaxEvents
	// Persons also requests PostHog to delete the users of the events, with all
	// of their events. The events must be stored here, so that their users are
	// known.
	Persons bool
}

// Result is the result of a request.
type Result struct {
	Deleted     int      `json:"deleted"`      // events that were stored here
	DeadLetters int      `json:"dead_letters"` // undelivered copies that were deleted
	Persons     []Person `json:"persons"`      // whose deletion was requested
	Stays       string   `json:"stays"`
	PostHog     string   `json:"posthog"`
}

// Person is a request to one PostHog.
type Person struct {
	Connection string `json:"connection"`
	DistinctID string `json:"distinct_id"` // in that PostHog
	Requested  bool   `json:"requested"`   // false if PostHog does not have the person
}

// Delete deletes events locally, with their content and derived data, and
// remembers their uuids, so that none is stored again. Deletion of users in
// PostHog is requested first: if that fails, nothing is deleted locally, and the
// whole call can be repeated.
func (x *Eraser) Delete(ctx context.Context, q Request) (Result, error) {
	res := Result{Persons: []Person{}, Stays: CopiesNote, PostHog: PostHogNote}
	switch {
	case len(q.UUIDs) == 0:
		return res, event.Invalid("no event ids were given", "send the uuids of the events to delete")
	case len(q.UUIDs) > MaxEvents:
		return res, event.NewError(event.CodeTooLarge, fmt.Sprintf("%d event ids were given, at most %d are allowed", len(q.UUIDs), MaxEvents), "delete fewer at a time", nil)
	}
	uuids := make([]string, 0, len(q.UUIDs))
	for _, s := range q.UUIDs {
		id, err := uuid.Parse(strings.TrimSpace(s))
		if err != nil {
			return res, event.Invalid("one of the event ids is not a uuid", "use ids as shown in the list of events")
		}
		if s = id.String(); !slices.Contains(uuids, s) {
			uuids = append(uuids, s)
		}
	}
	log := x.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if q.Persons {
		var err error
		if res.Persons, err = x.persons(ctx, log, q.ProjectID, uuids); err != nil {
			return res, err
		}
	}
	var err error
	if res.Deleted, err = x.Store.DeleteEvents(ctx, q.ProjectID, uuids); err != nil {
		return res, err
	}
	if x.Dead != nil {
		if res.DeadLetters, err = x.Dead(ctx, q.ProjectID, uuids); err != nil {
			return res, fmt.Errorf("the events were deleted, but their undelivered copies were not: %w", err)
		}
	}
	if x.Submitters != nil {
		if err = x.Submitters(ctx, q.ProjectID, uuids); err != nil {
			return res, fmt.Errorf("the events were deleted, but data kept for batch results was not: %w", err)
		}
	}
	target := uuids[0]
	if len(uuids) > 1 {
		target = fmt.Sprintf("%d events, %s first", len(uuids), uuids[0])
	}
	x.Audit.Note(ctx, log, project.AuditEntry{Action: "event.delete", ProjectID: q.ProjectID, Target: target})
	return res, nil
}

// sentID is a user's id as it leaves for a connection.
func sentID(c project.Connection, p project.Project, id string) string {
	if c.HashDistinctIDs || p.Settings.HashDistinctIDs {
		return privacy.HashID([]byte(p.HashKey.Reveal()), id)
	}
	return id
}

// persons requests each PostHog of the project to delete the users of events.
func (x *Eraser) persons(ctx context.Context, log *slog.Logger, projectID string, uuids []string) ([]Person, error) {
	p, ok := x.Project(projectID)
	if !ok {
		return nil, event.NewError(event.CodeNotFound, "project not found", "", nil)
	}
	connections := x.Connections(projectID)
	if len(connections) == 0 {
		return nil, event.Invalid("no PostHog is connected, so there is no person to delete", "delete the events without request_person_deletion")
	}
	for _, c := range connections {
		if c.PersonalKey.IsZero() {
			return nil, event.Invalid("the connection "+c.Name+" has no personal key, which PostHog requires to delete a person; nothing was deleted",
				"create one in PostHog (Settings, Personal API keys) with the scope Person Write and set it on the connection's page, or delete the events in hedgerow only")
		}
	}
	users, err := x.Users.DistinctIDs(ctx, projectID, uuids)
	switch {
	case err != nil:
		return nil, err
	case len(users) == 0:
		return nil, event.Invalid("none of the events has a user: PostHog has no person for them, so nothing was deleted", "delete the events without request_person_deletion; events without a user cannot be deleted in PostHog")
	case len(users) > MaxPersons:
		return nil, event.NewError(event.CodeTooLarge, fmt.Sprintf("the events belong to %d users, at most %d are allowed", len(users), MaxPersons), "delete fewer events at a time", nil)
	}
	out := []Person{}
	for _, c := range connections {
		for _, id := range users {
			id = sentID(c, p, id)
			found, err := x.Person(ctx, c, id)
			if err != nil {
				if len(out) > 0 {
					log.Warn("PostHog accepted the deletion of some persons and rejected others", "project", projectID, "connection", c.Name, "requested", len(out))
				}
				return out, err
			}
			if found {
				x.Audit.Note(ctx, log, project.AuditEntry{Action: "person.delete_requested", ProjectID: projectID, Target: id, Detail: "connection " + c.Name})
			}
			out = append(out, Person{Connection: c.Name, DistinctID: id, Requested: found})
		}
	}
	return out, nil
}
