package web

import (
	"slices"

	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/web/page"
)

// table has every route of the pages but the static files.
func (s *Web) table() []page.Route {
	const viewer, member, admin = project.RoleViewer, project.RoleMember, project.RoleAdmin
	return slices.Concat([]page.Route{
		{Pattern: "GET /sign-in", Open: s.signInPage},
		{Pattern: "POST /sign-in", Open: s.signIn},
		{Pattern: "POST /sign-in/link", Open: s.signInLink},
		{Pattern: "POST /sign-out", Open: s.signOut},

		{Pattern: "GET /{$}", Need: viewer, Handle: s.home},
		{Pattern: "GET /welcome", Need: viewer, Handle: s.welcome},
		{Pattern: "POST /welcome", Need: viewer, Handle: s.setUp, Again: s.welcome},

		{Pattern: "GET /p/{project}/overview", Need: viewer, Handle: s.overview, Section: "Dashboards", Label: "Overview"},
		{Pattern: "GET /p/{project}/traffic", Need: viewer, Handle: s.traffic, Section: "Dashboards", Label: "Traffic & reliability"},
		{Pattern: "GET /p/{project}/latency-cost", Need: viewer, Handle: s.spending, Section: "Dashboards", Label: "Latency & cost"},
		{Pattern: "GET /p/{project}/quality", Need: viewer, Handle: s.quality, Section: "Dashboards", Label: "Quality & outcomes"},
		{Pattern: "GET /p/{project}/agents", Need: viewer, Handle: s.agents, Section: "Dashboards", Label: "Agents"},
		{Pattern: "GET /p/{project}/dashboards", Need: viewer, Handle: s.dashboards, Section: "Dashboards", Label: "Custom dashboards"},
		{Pattern: "POST /p/{project}/dashboards", Need: member, Handle: s.createDashboard, Again: s.dashboards},
		{Pattern: "GET /p/{project}/dashboards/{dashboard}", Need: viewer, Handle: s.dashboard},
		{Pattern: "POST /p/{project}/dashboards/{dashboard}", Need: member, Handle: s.arrange, Again: s.dashboard},
		{Pattern: "POST /p/{project}/dashboards/{dashboard}/delete", Need: member, Handle: s.deleteDashboard, Again: s.dashboard},
		{Pattern: "GET /p/{project}/explore", Need: viewer, Handle: s.explore, Section: "Dashboards", Label: "Chart builder"},
		{Pattern: "POST /p/{project}/charts", Need: member, Handle: s.saveChart, Again: s.exploreAgain},
		{Pattern: "GET /p/{project}/examples", Need: viewer, Handle: s.examples},
		{Pattern: "GET /p/{project}/chart.csv", Need: viewer, Raw: s.chartCSV},
		{Pattern: "GET /p/{project}/agents.csv", Need: viewer, Raw: s.agentsCSV},
		{Pattern: "GET /p/{project}/events.csv", Need: viewer, Raw: s.eventsCSV},
		{Pattern: "GET /p/{project}/choices", Need: viewer, Raw: s.choices},
		{Pattern: "GET /p/{project}/analytics", Need: viewer, Handle: s.analytics, Section: "Dashboards", Label: "PostHog sync"},
		{Pattern: "GET /p/{project}/analytics/live", Need: viewer, Raw: s.live, Stream: true},
		{Pattern: "GET /p/{project}/models", Need: viewer, Handle: s.models, Section: "Dashboards", Label: "Models"},
		{Pattern: "GET /p/{project}/generations", Need: viewer, Handle: s.generations, Section: "Observe", Label: "Generations"},
		{Pattern: "GET /p/{project}/events", Need: viewer, Handle: s.events, Section: "Observe", Label: "Events"},
		{Pattern: "GET /p/{project}/events/{uuid}/sent", Need: viewer, Handle: s.sent},
		{Pattern: "POST /p/{project}/views", Need: member, Handle: s.saveView, Again: s.events},
		{Pattern: "POST /p/{project}/views/{view}/delete", Need: member, Handle: s.deleteView, Again: s.events},
		{Pattern: "GET /p/{project}/events/{uuid}", Need: viewer, Handle: s.event},
		{Pattern: "POST /p/{project}/events/{uuid}/delete", Need: admin, Handle: s.deleteEvent, Again: s.event},
		{Pattern: "GET /p/{project}/traces", Need: viewer, Handle: s.traces, Section: "Observe", Label: "Traces"},
		{Pattern: "GET /p/{project}/traces/{id}", Need: viewer, Handle: s.trace},
		{Pattern: "GET /p/{project}/traces/{id}/download", Need: viewer, Raw: s.traceJSON},
		{Pattern: "GET /p/{project}/sessions", Need: viewer, Handle: s.sessions, Section: "Observe", Label: "Sessions"},
		{Pattern: "GET /p/{project}/sessions/{id}", Need: viewer, Handle: s.conversation},
		{Pattern: "GET /p/{project}/people", Need: viewer, Handle: s.people, Section: "Observe", Label: "Users"},
		{Pattern: "GET /p/{project}/people/{id}", Need: viewer, Handle: s.person},
		{Pattern: "GET /p/{project}/errors", Need: viewer, Handle: s.errors, Section: "Observe", Label: "Errors"},
		// Short forms: trace_url bears no project, and people type these.
		{Pattern: "GET /overview", Need: viewer, Handle: s.home},
		{Pattern: "GET /events", Need: viewer, Handle: s.toEvents},
		{Pattern: "GET /events/{uuid}", Need: viewer, Handle: s.findEvent},
		{Pattern: "GET /traces/{id}", Need: viewer, Handle: s.findTrace},
	}, s.promptRoutes(), s.rolloutRoutes(), s.experimentRoutes(), s.evalRoutes(), []page.Route{
		{Pattern: "GET /p/{project}/connections", Need: viewer, Handle: s.connections, Section: "Project", Label: "Connections"},
		{Pattern: "POST /p/{project}/connections", Need: member, Handle: s.createConnection, Again: s.connections},
		{Pattern: "GET /p/{project}/connections/{connection}", Need: viewer, Handle: s.connection},
		{Pattern: "POST /p/{project}/connections/{connection}", Need: member, Handle: s.saveConnection, Again: s.connection},
		{Pattern: "POST /p/{project}/connections/{connection}/test", Need: member, Handle: s.testConnection, Again: s.connection},
		{Pattern: "POST /p/{project}/connections/{connection}/toggle", Need: member, Handle: s.toggleConnection, Again: s.connection},
		{Pattern: "POST /p/{project}/connections/{connection}/replay", Need: member, Handle: s.replayDead, Again: s.connection},
		{Pattern: "POST /p/{project}/connections/{connection}/gaps", Need: member, Handle: s.changeGaps, Again: s.connection},
		{Pattern: "GET /p/{project}/connections/{connection}/ledger", Need: viewer, Handle: s.ledger},
		{Pattern: "POST /p/{project}/connections/{connection}/send", Need: member, Handle: s.sendNames, Again: s.connection},
		{Pattern: "POST /p/{project}/connections/{connection}/taken-over", Need: member, Handle: s.settleNames, Again: s.connection},
		{Pattern: "POST /p/{project}/connections/{connection}/delete", Need: member, Handle: s.deleteConnection, Again: s.connection},

		{Pattern: "GET /p/{project}/keys", Need: member, Handle: s.keys, Section: "Project", Label: "Keys"},
		{Pattern: "POST /p/{project}/token", Need: admin, Handle: s.rotateToken, Again: s.keys},
		{Pattern: "POST /p/{project}/keys", Need: admin, Handle: s.createKey, Again: s.keys},
		{Pattern: "POST /p/{project}/keys/scopes", Need: admin, Handle: s.confirmScopes, Again: s.keys},
		{Pattern: "POST /p/{project}/keys/{key}/surface", Need: admin, Handle: s.setKeySurface, Again: s.keys},
		{Pattern: "POST /p/{project}/keys/{key}/revoke", Need: admin, Handle: s.revokeKey, Again: s.keys},
		{Pattern: "POST /p/{project}/provider-keys", Need: admin, Handle: s.setProviderKey, Again: s.keys},
		{Pattern: "POST /p/{project}/provider-keys/{provider}/delete", Need: admin, Handle: s.deleteProviderKey, Again: s.keys},
		{Pattern: "GET /p/{project}/alerts", Need: admin, Handle: s.alerts, Section: "Project", Label: "Alerts"},
		{Pattern: "POST /p/{project}/alerts", Need: admin, Handle: s.saveAlerts, Again: s.alerts},
		{Pattern: "POST /p/{project}/alerts/test", Need: admin, Handle: s.testAlerts, Again: s.alerts},
		{Pattern: "GET /p/{project}/settings", Need: admin, Handle: s.settings, Section: "Project", Label: "Settings"},
		{Pattern: "POST /p/{project}/settings", Need: admin, Handle: s.saveSettings, Again: s.settings},
		{Pattern: "POST /p/{project}/delete", Need: admin, Handle: s.deleteProject, Again: s.settings},

		{Pattern: "GET /projects", Need: viewer, Handle: s.projects, Section: "Server", Label: "Projects"},
		{Pattern: "POST /projects", Need: admin, Handle: s.createProject, Again: s.projects},
		{Pattern: "POST /projects/require-key", Need: admin, Handle: s.requireKeys, Again: s.projects},
		{Pattern: "GET /users", Need: admin, Handle: s.users, Section: "Server", Label: "Members"},
		{Pattern: "POST /users", Need: admin, Handle: s.invite, Again: s.users},
		{Pattern: "GET /users/{user}", Need: admin, Handle: s.user},
		{Pattern: "POST /users/{user}", Need: admin, Handle: s.saveUser, Again: s.user},
		{Pattern: "POST /users/{user}/link", Need: admin, Handle: s.linkUser, Again: s.user},
		{Pattern: "POST /users/{user}/sign-out", Need: admin, Handle: s.signOutUser, Again: s.user},
		{Pattern: "POST /users/{user}/delete", Need: admin, Handle: s.deleteUser, Again: s.user},
		{Pattern: "GET /status", Need: viewer, Handle: s.status, Section: "Server", Label: "Status"},
		{Pattern: "POST /status/acknowledge", Need: admin, Handle: s.acknowledge, Again: s.status},
		{Pattern: "GET /audit", Need: admin, Handle: s.audit, Section: "Server", Label: "Audit log"},

		{Pattern: "GET /account", Need: viewer, Handle: s.account},
		{Pattern: "POST /account", Need: viewer, Handle: s.saveAccount, Again: s.account},
		{Pattern: "POST /account/password", Need: viewer, Handle: s.changePassword, Again: s.account},
		{Pattern: "POST /account/sign-out-everywhere", Need: viewer, Handle: s.signOutEverywhere, Again: s.account},
		{Pattern: "POST /account/sessions/{session}/revoke", Need: viewer, Handle: s.revokeSession, Again: s.account},
	})
}
