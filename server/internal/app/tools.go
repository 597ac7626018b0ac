package app

import (
	"fmt"
	"net/http"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/api"
	"github.com/hedgerow/hedgerow/server/internal/mcp"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// tools makes the MCP tools of this hedgerow.
func (a *App) tools() *mcp.Server {
	c := mcp.Config{Services: a.Services, Connections: deliveries{a}, Version: a.cfg.Version, PublicURL: a.cfg.PublicURL, Logger: a.log.With("part", "mcp")}
	if a.listener != nil {
		c.Append = a.events
	}
	return mcp.New(c)
}

// socketHandler serves the data folder's socket: the API and the MCP tools,
// both as an administrator.
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
			api.WriteError(w, event.NewError(event.CodeNotFound, fmt.Sprintf("project %q not found", name), "list the projects with hedgerow project list", nil))
			return
		}
		tools.Local(p.ID).ServeHTTP(w, r)
	})
	return mux
}
