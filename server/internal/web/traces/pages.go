package traces

import (
	"github.com/hedgerow/hedgerow/server/internal/dataset"
	"github.com/hedgerow/hedgerow/server/internal/erasure"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/web/page"
)

// Pages are the handlers of these pages.
type Pages struct {
	*page.Site
	Query    *query.Reader
	Datasets *dataset.Registry
	Delivery Delivery
	Erasure  *erasure.Eraser // nil: no deletion is offered
	// Price describes today's rates of a price row. nil leaves them out.
	Price func(provider, model string) string
}

// Routes returns the routes of these pages, in the order of the side bar.
func (s *Pages) Routes() []page.Route {
	const viewer, member, admin = project.RoleViewer, project.RoleMember, project.RoleAdmin
	return []page.Route{
		{Pattern: "GET /p/{project}/generations", Need: viewer, Handle: s.generations, Entry: "Generations", Label: "Generations"},
		{Pattern: "GET /p/{project}/events", Need: viewer, Handle: s.events, Entry: "Generations", Label: "All events"},
		{Pattern: "GET /p/{project}/events/{uuid}/sent", Need: viewer, Handle: s.sent},
		{Pattern: "POST /p/{project}/views", Need: member, Handle: s.saveView, Again: s.events},
		{Pattern: "POST /p/{project}/views/{view}/delete", Need: member, Handle: s.deleteView, Again: s.events},
		{Pattern: "GET /p/{project}/events/{uuid}", Need: viewer, Handle: s.Event},
		{Pattern: "POST /p/{project}/events/{uuid}/delete", Need: admin, Handle: s.deleteEvent, Again: s.Event},
		{Pattern: "GET /p/{project}/traces", Need: viewer, Handle: s.traces, Entry: "Traces", Label: "Traces"},
		{Pattern: "GET /p/{project}/traces/{id}", Need: viewer, Handle: s.trace},
		{Pattern: "GET /p/{project}/traces/{id}/download", Need: viewer, Raw: s.traceJSON},
		{Pattern: "GET /p/{project}/sessions", Need: viewer, Handle: s.sessions, Entry: "Traces", Label: "Sessions"},
		{Pattern: "GET /p/{project}/sessions/{id}", Need: viewer, Handle: s.conversation},
		{Pattern: "GET /p/{project}/people", Need: viewer, Handle: s.users, Entry: "Users", Label: "Users"},
		{Pattern: "GET /p/{project}/people/{id}", Need: viewer, Handle: s.person},
		{Pattern: "GET /p/{project}/errors", Need: viewer, Handle: s.errors, Entry: "Errors", Label: "Errors"},
		{Pattern: "GET /p/{project}/events.csv", Need: viewer, Raw: s.eventsCSV},
		// Short forms: a trace_url has no project, and people type these.
		{Pattern: "GET /{$}", Need: viewer, Handle: s.home},
		{Pattern: "GET /overview", Need: viewer, Handle: s.home},
		{Pattern: "GET /events", Need: viewer, Handle: s.toEvents},
		{Pattern: "GET /events/{uuid}", Need: viewer, Handle: s.findEvent},
		{Pattern: "GET /traces/{id}", Need: viewer, Handle: s.findTrace},
	}
}
