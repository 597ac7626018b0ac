package app

import (
	"context"
	"fmt"
	"net/http"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/api"
	"github.com/hedgerow/hedgerow/server/internal/ledger"
	"github.com/hedgerow/hedgerow/server/internal/mcp"
	"github.com/hedgerow/hedgerow/server/internal/posthog"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// tools makes the MCP tools of this hedgerow.
func (a *App) tools() *mcp.Server {
	c := mcp.Config{Services: a.Services, Connections: toolConnections{a}, Version: a.cfg.Version, PublicURL: a.cfg.PublicURL, Logger: a.log.With("part", "mcp")}
	if a.listener != nil {
		c.Append = a.events
	}
	return mcp.New(c)
}

// socketHandler is what the data folder's socket serves: the API and the tools,
// both to an administrator.
func (a *App) socketHandler(local http.Handler, tools *mcp.Server) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", local)
	mux.HandleFunc("POST /backup", a.backup)
	mux.HandleFunc("GET /readyz", a.ready)
	mux.HandleFunc("/mcp", func(w http.ResponseWriter, r *http.Request) {
		name := r.URL.Query().Get("project")
		if name == "" {
			name = project.DefaultID
		}
		snap := a.Registry.Snapshot()
		p, ok := snap.Project(name)
		if !ok {
			p, ok = snap.ProjectByName(name)
		}
		if !ok {
			api.WriteError(w, event.NewError(event.CodeNotFound, fmt.Sprintf("there is no project %q", name), "hedgerow project list shows them", nil))
			return
		}
		tools.Local(p.ID).ServeHTTP(w, r)
	})
	return mux
}

// toolConnections offers the delivery to the tools.
type toolConnections struct{ a *App }

func (c toolConnections) Test(ctx context.Context, conn project.Connection) posthog.TestResult {
	return posthog.Test(ctx, conn, posthog.TestOptions{Client: c.a.cfg.PostHogClient(0), AllowInsecureHosts: c.a.cfg.AllowInsecurePostHog, Version: c.a.cfg.Version})
}

func (c toolConnections) Delivery(conn project.Connection) mcp.Delivery {
	d := connections(c).Delivery(conn)
	return mcp.Delivery{State: d.State, LastSuccess: d.LastSuccess, LastError: d.LastError,
		Sent: d.Sent, Failed: d.Failed, Retried: d.Retried, Dead: d.Dead, Waiting: d.Waiting, LagSeconds: d.LagSeconds}
}

func (c toolConnections) DropBacklog(ctx context.Context, id string) error {
	return connections(c).DropBacklog(ctx, id)
}

func (c toolConnections) Ledger(ctx context.Context, conn project.Connection) (ledger.Page, error) {
	return c.a.ledgerPage(ctx, conn)
}
