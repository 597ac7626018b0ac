package project

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/kv"
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

// Keyless is what happens to gateway calls without a hedgerow key.
type Keyless struct {
	Refused bool   // they are answered 401
	Fixed   bool   // by the configuration or the address: the switch of [ServerSettings] changes nothing
	Project string // name of their project, unless they are rejected
}

// Notice explains, if there is more than one project, where calls without a key
// go; "" if they are rejected.
func (k Keyless) Notice() string {
	if k.Refused || k.Project == "" {
		return ""
	}
	return fmt.Sprintf("Calls without a key are recorded in the project %q until you require keys.", k.Project)
}

// KeylessFixedError is the answer to a switch that would change nothing.
func KeylessFixedError() error {
	return event.NewError(event.CodeConflict, "whether calls need a key is set on the server", "by require_key, or because other machines can reach the server: change these and restart", nil)
}

// SetServer changes the choices about the whole server.
func (r *Registry) SetServer(ctx context.Context, f func(*ServerSettings)) (ServerSettings, error) {
	var before, after ServerSettings
	revision, err := kv.Swap(ctx, r.bucket, keyServer, func(old jetstream.KeyValueEntry) ([]byte, error) {
		before = ServerSettings{}
		if old != nil {
			if err := json.Unmarshal(old.Value(), &before); err != nil {
				return nil, event.NewError(event.CodeInternal, "the server's settings are damaged", "restore a backup of the data folder", err)
			}
		}
		after = before
		if f(&after); after == before {
			return nil, errAsItIs
		}
		return json.Marshal(after)
	})
	switch {
	case errors.Is(err, errAsItIs):
		return after, nil
	case err != nil:
		return before, failed("server's settings", "saved", err)
	}
	return after, r.done(ctx, revision, AuditEntry{Action: "server.update", Target: "server", Detail: fmt.Sprintf("require_key: %t → %t", before.RequireKey, after.RequireKey)})
}
