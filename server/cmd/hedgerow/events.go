package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/hedgerow/hedgerow/server/internal/api"
	"github.com/hedgerow/hedgerow/server/internal/erasure"
	"github.com/hedgerow/hedgerow/server/internal/journal"
	"github.com/hedgerow/hedgerow/server/internal/posthog"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// eventsCommand deletes single events.
func eventsCommand() *cli.Command {
	c := new(config)
	return &cli.Command{
		Name:  "events",
		Usage: "delete single events",
		Commands: []*cli.Command{
			{
				Name: "delete", Usage: "delete events at home for good, with their content and in all figures", ArgsUsage: "UUID …",
				Flags: c.subFlags(projectFlag(), &cli.BoolFlag{Name: "request-person-deletion", Usage: "also ask each connected PostHog to delete the users of the events, with all of their events"}),
				Action: func(ctx context.Context, cmd *cli.Command) error {
					return c.withControl(ctx, cmd, func(ctl *control) error {
						in := api.DeleteEventsInput{UUIDs: cmd.Args().Slice(), Persons: cmd.Bool("request-person-deletion")}
						var out erasure.Result
						if err := ctl.call(ctx, "POST", "/api/v1/events/delete"+projectQuery(cmd), in, &out); err != nil {
							return err
						}
						w := cmd.Root().Writer
						fmt.Fprintf(w, "deleted %d of %d events", out.Deleted, len(in.UUIDs))
						if out.DeadLetters > 0 {
							fmt.Fprintf(w, ", and %d undelivered copies", out.DeadLetters)
						}
						fmt.Fprintln(w)
						for _, p := range out.Persons {
							if p.Requested {
								fmt.Fprintf(w, "%s: PostHog was asked to delete the person %s and all of their events\n", p.Connection, p.DistinctID)
							} else {
								fmt.Fprintf(w, "%s: PostHog knows no person %s\n", p.Connection, p.DistinctID)
							}
						}
						fmt.Fprintln(w, out.Stays)
						if !in.Persons {
							fmt.Fprintln(w, "PostHog has no deletion of single events: what was sent stays there. --request-person-deletion asks it to delete the person.")
						}
						return nil
					})
				},
			},
		},
	}
}

// erasure is the deletion of single events, for pages, API and tools.
func (a *app) erasure() *erasure.Eraser {
	return &erasure.Eraser{
		Store: a.store, Users: a.query, Dead: a.deleteDead, Audit: a.registry.Audit, Logger: a.log.With("part", "erasure"),
		Project:     func(id string) (project.Project, bool) { return a.registry.Snapshot().Project(id) },
		Connections: func(projectID string) []project.Connection { return a.registry.Snapshot().Connections(projectID) },
		Person: func(ctx context.Context, c project.Connection, distinctID string) (bool, error) {
			return posthog.DeletePerson(ctx, c, distinctID, posthog.QueryOptions{AllowInsecureHosts: a.cfg.AllowInsecurePostHog, Version: buildVersion(), Client: a.cfg.posthogClient(15 * time.Second)})
		},
	}
}

// deleteDead deletes the dead letters of events.
func (a *app) deleteDead(ctx context.Context, projectID string, uuids []string) (int, error) {
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
