package command

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v3"

	"github.com/hedgerow/hedgerow/server/internal/api"
	"github.com/hedgerow/hedgerow/server/internal/config"
	"github.com/hedgerow/hedgerow/server/internal/erasure"
)

// Events deletes single events.
func Events(c *config.Config) *cli.Command {
	return &cli.Command{
		Name:  "events",
		Usage: "delete single events",
		Commands: []*cli.Command{
			{
				Name: "delete", Usage: "permanently delete events in hedgerow, with their content, from all metrics", ArgsUsage: "UUID …",
				Flags: c.SubFlags(projectFlag(), &cli.BoolFlag{Name: "request-person-deletion", Usage: "also ask each connected PostHog to delete the users of the events, with all of their events"}),
				Action: func(ctx context.Context, cmd *cli.Command) error {
					return withControl(ctx, c, cmd, func(ctl *control) error {
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
								fmt.Fprintf(w, "%s: PostHog has no person %s\n", p.Connection, p.DistinctID)
							}
						}
						fmt.Fprintln(w, out.Stays)
						if !in.Persons {
							fmt.Fprintln(w, "PostHog cannot delete single events: what was sent stays there. --request-person-deletion asks it to delete the person.")
						}
						return nil
					})
				},
			},
		},
	}
}
