package traces

import (
	"net/http"
	"strings"

	"github.com/a-h/templ"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/erasure"
	"github.com/hedgerow/hedgerow/server/internal/web/page"
)

// deleteEvent deletes an event locally and, if chosen, requests that PostHog
// delete its user.
func (s *Pages) deleteEvent(r *http.Request, f *page.Frame) (templ.Component, error) {
	switch {
	case s.Erasure == nil:
		return nil, event.NewError(event.CodeUnavailable, "events can only be deleted by a running server", "start hedgerow serve", nil)
	case strings.TrimSpace(f.Form.Get("confirm")) != "delete":
		return nil, event.Invalid("the confirmation does not match", "type delete to permanently delete the event")
	}
	res, err := s.Erasure.Delete(r.Context(), erasure.Request{ProjectID: f.Session.ProjectID, UUIDs: []string{r.PathValue("uuid")}, Persons: f.Form.Get("person") == "on"})
	if err != nil {
		return nil, err
	}
	said := "Event deleted on this server."
	if res.Deleted == 0 {
		said = "The event was no longer stored; it will not be restored."
	}
	for _, p := range res.Persons {
		if p.Requested {
			said += " PostHog (" + p.Connection + ") was asked to delete the person and all of their events. It deletes them asynchronously."
		} else {
			said += " PostHog (" + p.Connection + ") has no such person; its copy of this event stays there."
		}
	}
	return f.Done(f.Path("/events"), said)
}
