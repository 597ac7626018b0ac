package project

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hedgerow/hedgerow/event"
)

// ServerSettings are choices about the whole server that can be made while it
// runs. A setting of the same name in its configuration wins.
type ServerSettings struct {
	RequireKey bool `json:"require_key"` // the gateway takes no call without a key. Defaults to false
}

const keyServer = "meta.server"

// Server returns the choices about the whole server.
func (s *Snapshot) Server() ServerSettings { return s.server }

// FirstProject returns the project that calls without a key are recorded for:
// "default", or the oldest where that has been deleted.
func (s *Snapshot) FirstProject() (Project, bool) {
	if p := s.projects[DefaultID]; p != nil {
		return *p, true
	}
	var first *Project
	for i := range s.list {
		p := &s.list[i]
		if first == nil || p.CreatedAt.Before(first.CreatedAt) || p.CreatedAt.Equal(first.CreatedAt) && p.ID < first.ID {
			first = p
		}
	}
	return deref(first)
}

// Keyless is what becomes of gateway calls without a hedgerow key.
type Keyless struct {
	Refused bool   // they are answered 401
	Fixed   bool   // by the configuration or the address: the switch of [ServerSettings] changes nothing
	Project string // name of the project that they go to, where they are not refused
}

// Notice tells whoever has more than one project where calls without a key go; ""
// where they go nowhere.
func (k Keyless) Notice() string {
	if k.Refused || k.Project == "" {
		return ""
	}
	return fmt.Sprintf("Calls without a key keep going to the project %q until you require keys.", k.Project)
}

// ErrKeylessFixed is the answer to a switch that would change nothing.
func ErrKeylessFixed() error {
	return event.NewError(event.CodeConflict, "whether calls need a key is set on the server", "by require_key, or because other machines can reach the server: change these and restart", nil)
}

// SetServer changes the choices about the whole server.
func (r *Registry) SetServer(ctx context.Context, f func(*ServerSettings)) (ServerSettings, error) {
	for try := range attempts {
		var before ServerSettings
		var revision uint64
		switch e, err := r.bucket.Get(ctx, keyServer); {
		case err == nil:
			if err := json.Unmarshal(e.Value(), &before); err != nil {
				return before, event.NewError(event.CodeInternal, "the server's settings are damaged", "restore a backup of the data folder", err)
			}
			revision = e.Revision()
		case !errors.Is(err, jetstream.ErrKeyNotFound):
			return before, unavailable("the server's settings could not be read", err)
		}
		after := before
		if f(&after); after == before {
			return after, nil
		}
		b, err := json.Marshal(after)
		if err != nil {
			return before, err
		}
		if revision == 0 {
			revision, err = r.bucket.Create(ctx, keyServer, b)
		} else {
			revision, err = r.bucket.Update(ctx, keyServer, b, revision)
		}
		switch {
		case err == nil:
			return after, r.done(ctx, revision, AuditEntry{Action: "server.update", Target: "server", Detail: fmt.Sprintf("require_key: %t → %t", before.RequireKey, after.RequireKey)})
		case !raced(err):
			return before, unavailable("the server's settings could not be saved", err)
		}
		if !pause(ctx, try) {
			break
		}
	}
	return ServerSettings{}, conflictOf("server's settings")
}
