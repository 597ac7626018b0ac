package charts

import (
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/reconcile"
	"github.com/hedgerow/hedgerow/server/internal/web/page"
)

// Pages are the handlers of these pages.
type Pages struct {
	*page.Site
	Query       *query.Reader
	Delivery    Delivery
	Merges      Merges
	Connections func(projectID string) []Connection // nil leaves them out of the overview
	Bills       *reconcile.Bills
	GatewayURL  string // base of the gateway's routes. Defaults to PublicURL
	// Live reports new events of a project, several by one value; stop ends it.
	// nil: pages do not follow new events.
	Live func(projectID string) (changed <-chan struct{}, stop func())
}

// Routes returns the routes of these pages, in the order of the side bar.
func (s *Pages) Routes() []page.Route {
	const viewer, member, admin = project.RoleViewer, project.RoleMember, project.RoleAdmin
	return []page.Route{
		{Pattern: "GET /p/{project}/overview", Need: viewer, Handle: s.overview, Entry: "Overview", Label: "Overview"},
		{Pattern: "GET /p/{project}/traffic", Need: viewer, Handle: s.traffic, Entry: "Dashboards", Label: "Traffic & reliability"},
		{Pattern: "GET /p/{project}/latency-cost", Need: viewer, Handle: s.spending, Entry: "Dashboards", Label: "Latency & cost"},
		{Pattern: "GET /p/{project}/quality", Need: viewer, Handle: s.quality, Entry: "Dashboards", Label: "Quality & outcomes"},
		{Pattern: "GET /p/{project}/agents", Need: viewer, Handle: s.agents, Entry: "Dashboards", Label: "Agents"},
		{Pattern: "GET /p/{project}/models", Need: viewer, Handle: s.models, Entry: "Dashboards", Label: "Models"},
		{Pattern: "GET /p/{project}/dashboards", Need: viewer, Handle: s.dashboards, Entry: "Dashboards", Label: "Custom"},
		{Pattern: "POST /p/{project}/dashboards", Need: member, Handle: s.createDashboard, Again: s.dashboards},
		{Pattern: "GET /p/{project}/dashboards/{dashboard}", Need: viewer, Handle: s.dashboard},
		{Pattern: "POST /p/{project}/dashboards/{dashboard}", Need: member, Handle: s.arrange, Again: s.dashboard},
		{Pattern: "POST /p/{project}/dashboards/{dashboard}/delete", Need: member, Handle: s.deleteDashboard, Again: s.dashboard},
		{Pattern: "GET /p/{project}/explore", Need: viewer, Handle: s.explore, Entry: "Dashboards", Label: "Chart builder"},
		{Pattern: "POST /p/{project}/charts", Need: member, Handle: s.saveChart, Again: s.exploreAgain},
		{Pattern: "GET /p/{project}/examples", Need: viewer, Handle: s.examples},
		{Pattern: "GET /p/{project}/chart.csv", Need: viewer, Raw: s.chartCSV},
		{Pattern: "GET /p/{project}/agents.csv", Need: viewer, Raw: s.agentsCSV},
		{Pattern: "GET /p/{project}/choices", Need: viewer, Raw: s.choices},
		{Pattern: "GET /p/{project}/environments", Need: viewer, Raw: s.environments},
		{Pattern: "GET /p/{project}/analytics", Need: viewer, Handle: s.analytics, Entry: "PostHog sync", Label: "PostHog sync"},
		{Pattern: "GET /p/{project}/analytics/live", Need: viewer, Raw: s.live, Stream: true},
		{Pattern: "GET /p/{project}/reconcile", Need: viewer, Handle: s.reconciliation, Entry: "PostHog sync", Label: "Reconciliation"},
		{Pattern: "POST /p/{project}/reconcile/imports", Need: admin, Handle: s.importBill, Again: s.reconciliation, Form: reconcile.MaxFile},
		{Pattern: "POST /p/{project}/reconcile/imports/{import}/delete", Need: admin, Handle: s.eraseBill, Again: s.reconciliation},
		{Pattern: "POST /p/{project}/reconcile/fetch", Need: admin, Handle: s.fetchBill, Again: s.reconciliation},
		{Pattern: "POST /p/{project}/reconcile/keys", Need: admin, Handle: s.setAdminKey, Again: s.reconciliation},
		{Pattern: "POST /p/{project}/reconcile/keys/{provider}/delete", Need: admin, Handle: s.deleteAdminKey, Again: s.reconciliation},
	}
}
