package web

import (
	"net/http"
	"strings"

	"github.com/a-h/templ"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/erasure"
)

// deleteEvent deletes an event at home and, where that was chosen, asks PostHog to
// delete its user.
func (s *Web) deleteEvent(r *http.Request, f *frame) (templ.Component, error) {
	switch {
	case s.c.Erasure == nil:
		return nil, event.NewError(event.CodeUnavailable, "events cannot be deleted from here", "start hedgerow serve", nil)
	case strings.TrimSpace(f.form.Get("confirm")) != "delete":
		return nil, event.Invalid("the word does not match", "type delete to delete the event for good")
	}
	res, err := s.c.Erasure.Delete(r.Context(), erasure.Request{ProjectID: f.Session.ProjectID, UUIDs: []string{r.PathValue("uuid")}, Persons: f.form.Get("person") == "on"})
	if err != nil {
		return nil, err
	}
	said := "The event is deleted here."
	if res.Deleted == 0 {
		said = "The event was not stored any more; it will not come back."
	}
	for _, p := range res.Persons {
		if p.Requested {
			said += " PostHog (" + p.Connection + ") was asked to delete the person and all of their events, and does so at a time of its own."
		} else {
			said += " PostHog (" + p.Connection + ") knows no such person: what it has of this event stays there."
		}
	}
	return f.done(f.path("/events"), said)
}
