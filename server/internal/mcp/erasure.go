package mcp

import (
	"context"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/erasure"
)

type deleteEventsIn struct {
	UUIDs   []string `json:"uuids" jsonschema:"uuids of the events, as returned by list_events"`
	Persons bool     `json:"request_person_deletion,omitempty" jsonschema:"also ask each connected PostHog to delete the users of the events, with all of their events; needs personal keys with the scope person:write"`
}

func (s *Server) addErasureTools() {
	add(s, spec{
		name: "delete_events", title: "Delete events", need: admin, destructive: true, open: true,
		description: "Permanently deletes single events on the server, with their content and from all metrics. PostHog cannot delete single events: what was sent stays there unless the person is deleted with all of their events. Ask the user first.",
		input: func(p map[string]*jsonschema.Schema) {
			least, most := 1, erasure.MaxEvents
			p["uuids"].MinItems, p["uuids"].MaxItems = &least, &most
		},
	}, s.deleteEvents)
}

func (s *Server) deleteEvents(ctx context.Context, who caller, in deleteEventsIn) (erasure.Result, error) {
	if s.c.Erasure == nil {
		return erasure.Result{}, event.NewError(event.CodeUnavailable, "events can only be deleted by a running server", "start hedgerow serve", nil)
	}
	return s.c.Erasure.Delete(ctx, erasure.Request{ProjectID: who.projectID, UUIDs: in.UUIDs, Persons: in.Persons})
}
