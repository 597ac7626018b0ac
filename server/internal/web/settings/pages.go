package settings

import (
	"github.com/hedgerow/hedgerow/server/internal/experiment"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/reprice"
	"github.com/hedgerow/hedgerow/server/internal/store"
	"github.com/hedgerow/hedgerow/server/internal/web/page"
)

// Pages are the handlers of these pages.
type Pages struct {
	*page.Site
	Store     *store.DuckDB
	Alerts    *experiment.Sender
	Keyless   func() project.Keyless // nil: the switch for it is not shown
	Delivery  Delivery
	Backlog   Backlog
	Gaps      Gaps
	Eraser    Eraser          // nil leaves a deleted project's events to the store
	Providers func() []string // names of the gateway's routes, for the form of provider keys
	Repricer  *reprice.Runner // nil: no server stores events here
	PriceAge  func() string   // of the prices, in words; nil leaves it out
}

// Routes returns the routes of these pages, in the order of the side bar.
func (s *Pages) Routes() []page.Route {
	const viewer, member, admin = project.RoleViewer, project.RoleMember, project.RoleAdmin
	return []page.Route{
		{Pattern: "GET /p/{project}/connections", Need: viewer, Handle: s.connections, Entry: "Connections", Label: "Connections"},
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

		{Pattern: "GET /p/{project}/keys", Need: member, Handle: s.keys, Entry: "Keys", Label: "Keys"},
		{Pattern: "POST /p/{project}/token", Need: admin, Handle: s.rotateToken, Again: s.keys},
		{Pattern: "POST /p/{project}/keys", Need: admin, Handle: s.createKey, Again: s.keys},
		{Pattern: "POST /p/{project}/keys/scopes", Need: admin, Handle: s.confirmScopes, Again: s.keys},
		{Pattern: "POST /p/{project}/keys/{key}/surface", Need: admin, Handle: s.setKeySurface, Again: s.keys},
		{Pattern: "POST /p/{project}/keys/{key}/revoke", Need: admin, Handle: s.revokeKey, Again: s.keys},
		{Pattern: "POST /p/{project}/provider-keys", Need: admin, Handle: s.setProviderKey, Again: s.keys},
		{Pattern: "POST /p/{project}/provider-keys/{provider}/delete", Need: admin, Handle: s.deleteProviderKey, Again: s.keys},
		{Pattern: "GET /p/{project}/settings", Need: admin, Handle: s.settings, Entry: "Project", Label: "General"},
		{Pattern: "POST /p/{project}/settings", Need: admin, Handle: s.saveSettings, Again: s.settings},
		{Pattern: "POST /p/{project}/delete", Need: admin, Handle: s.deleteProject, Again: s.settings},
		{Pattern: "GET /p/{project}/prices", Need: viewer, Handle: s.prices, Entry: "Project", Label: "Prices"},
		{Pattern: "POST /p/{project}/prices/reprice", Need: admin, Handle: s.reprice, Again: s.prices},
		{Pattern: "POST /p/{project}/prices/cancel", Need: admin, Handle: s.cancelReprice, Again: s.prices},
		{Pattern: "GET /p/{project}/alerts", Need: admin, Handle: s.alerts, Entry: "Project", Label: "Alerts"},
		{Pattern: "POST /p/{project}/alerts", Need: admin, Handle: s.saveAlerts, Again: s.alerts},
		{Pattern: "POST /p/{project}/alerts/test", Need: admin, Handle: s.testAlerts, Again: s.alerts},

		{Pattern: "GET /projects", Need: viewer, Handle: s.projects, Entry: "Server", Label: "Projects"},
		{Pattern: "POST /projects", Need: admin, Handle: s.createProject, Again: s.projects},
		{Pattern: "POST /projects/require-key", Need: admin, Handle: s.requireKeys, Again: s.projects},
		{Pattern: "GET /users", Need: admin, Handle: s.users, Entry: "Server", Label: "Members"},
		{Pattern: "POST /users", Need: admin, Handle: s.invite, Again: s.users},
		{Pattern: "GET /users/{user}", Need: admin, Handle: s.user},
		{Pattern: "POST /users/{user}", Need: admin, Handle: s.saveUser, Again: s.user},
		{Pattern: "POST /users/{user}/link", Need: admin, Handle: s.linkUser, Again: s.user},
		{Pattern: "POST /users/{user}/sign-out", Need: admin, Handle: s.signOutUser, Again: s.user},
		{Pattern: "POST /users/{user}/delete", Need: admin, Handle: s.deleteUser, Again: s.user},
		{Pattern: "GET /status", Need: viewer, Handle: s.status, Entry: "Server", Label: "Status"},
		{Pattern: "POST /status/acknowledge", Need: admin, Handle: s.acknowledge, Again: s.status},
		{Pattern: "GET /audit", Need: admin, Handle: s.audit, Entry: "Server", Label: "Audit log"},
	}
}
