package app

import (
	"context"
	"slices"
	"time"

	"github.com/hedgerow/hedgerow/server/internal/erasure"
	"github.com/hedgerow/hedgerow/server/internal/journal"
	"github.com/hedgerow/hedgerow/server/internal/posthog"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// newErasure is the deletion of single events, for pages, API and tools.
func (a *App) newErasure() *erasure.Eraser {
	x := &erasure.Eraser{
		Store: a.Store, Users: a.Query, Dead: a.deleteDead, Audit: a.Registry.Audit, Logger: a.log.With("part", "erasure"),
		Project:     func(id string) (project.Project, bool) { return a.Registry.Snapshot().Project(id) },
		Connections: func(projectID string) []project.Connection { return a.Registry.Snapshot().Connections(projectID) },
		Person: func(ctx context.Context, c project.Connection, distinctID string) (bool, error) {
			return posthog.DeletePerson(ctx, c, distinctID, posthog.QueryOptions{AllowInsecureHosts: a.cfg.AllowInsecurePostHog, Version: a.cfg.Version, Client: a.cfg.PostHogClient(15 * time.Second)})
		},
	}
	if a.gateway != nil {
		x.Submitters = a.gateway.ForgetSubmitters
	}
	return x
}

// deleteDead deletes the dead letters of events.
func (a *App) deleteDead(ctx context.Context, projectID string, uuids []string) (int, error) {
	const all = 1 << 20
	letters, err := a.journal.DeadLetters(ctx, journal.DeadFilter{Project: projectID, Limit: all})
	if err != nil {
		return 0, err
	}
	var ids []uint64
	for _, l := range letters {
		if slices.Contains(uuids, l.UUID) {
			ids = append(ids, l.ID)
		}
	}
	if len(ids) == 0 { // a filter without ids is all of them
		return 0, nil
	}
	return a.journal.DeleteDead(ctx, journal.DeadFilter{Project: projectID, IDs: ids})
}
