package api

import (
	"net/http"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/erasure"
)

// DeleteEventsInput names the events to delete.
type DeleteEventsInput struct {
	UUIDs   []string `json:"uuids"`
	Persons bool     `json:"request_person_deletion,omitempty"`
}

// deleteEvents deletes events by their uuids: a list of them.
func (a *API) deleteEvents(r *http.Request, p Principal) (any, error) {
	var in DeleteEventsInput
	if err := readJSON(r, &in); err != nil {
		return nil, err
	}
	return a.erase(r, erasure.Request{ProjectID: p.ProjectID, UUIDs: in.UUIDs, Persons: in.Persons})
}

// deleteEvent deletes one event. One that is not stored is no error: it may be on
// its way, and is kept from being stored.
func (a *API) deleteEvent(r *http.Request, p Principal) (any, error) {
	q := erasure.Request{ProjectID: p.ProjectID, UUIDs: []string{r.PathValue("uuid")}}
	switch v := r.FormValue("request_person_deletion"); v {
	case "true":
		q.Persons = true
	case "", "false":
	default:
		return nil, event.Invalid(quoted("request_person_deletion")+" is neither true nor false", "leave it out to delete the event at home only")
	}
	return a.erase(r, q)
}

func (a *API) erase(r *http.Request, q erasure.Request) (any, error) {
	if a.c.Erasure == nil {
		return nil, errNoServer()
	}
	return a.c.Erasure.Delete(r.Context(), q)
}
