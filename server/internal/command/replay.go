package command

import (
	"context"
	"fmt"
	"net/url"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/api"
	"github.com/hedgerow/hedgerow/server/internal/config"
	"github.com/hedgerow/hedgerow/server/internal/services"
)

// Replay is the command that lists dead letters and sends them again.
func Replay(c *config.Config) *cli.Command {
	flags := func(more ...cli.Flag) []cli.Flag {
		return c.SubFlags(append([]cli.Flag{projectFlag(),
			&cli.StringFlag{Name: "queue", Usage: "only this queue's: store, or posthog-…"}}, more...)...)
	}
	return &cli.Command{
		Name:  "replay",
		Usage: "list the events that were not delivered, and deliver them again",
		Commands: []*cli.Command{
			{
				Name: "list", Usage: "show dead letters with the reason", Flags: flags(&cli.IntFlag{Name: "limit", Value: 100, Usage: "at most this many"}),
				Action: func(ctx context.Context, cmd *cli.Command) error {
					return withControl(ctx, c, cmd, func(ctl *control) error {
						var out struct {
							Dead []services.DeadLetter `json:"dead_letters"`
						}
						q := fmt.Sprintf("&limit=%d&queue=%s", cmd.Int("limit"), url.QueryEscape(cmd.String("queue")))
						if err := ctl.call(ctx, "GET", "/api/v1/dead-letters"+projectQuery(cmd)+q, nil, &out); err != nil {
							return err
						}
						if len(out.Dead) == 0 {
							fmt.Fprintln(cmd.Root().Writer, "no dead letters")
							return nil
						}
						tw := tabwriter.NewWriter(cmd.Root().Writer, 0, 4, 2, ' ', 0)
						fmt.Fprintln(tw, "ID\tQUEUE\tTIME\tEVENT\tUUID\tBYTES\tATTEMPTS\tREASON")
						for _, d := range out.Dead {
							fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\n", d.ID, d.Queue, d.Time.Format(time.RFC3339), d.Event, d.EventID, d.Bytes, d.Attempts, d.Reason)
						}
						return tw.Flush()
					})
				},
			},
			{
				Name: "run", Usage: "retry dead letters, by ID or with --all", ArgsUsage: "[ID …]", Flags: flags(&cli.BoolFlag{Name: "all", Usage: "every dead letter of the project"}),
				Action: func(ctx context.Context, cmd *cli.Command) error {
					return withControl(ctx, c, cmd, func(ctl *control) error {
						in := api.ReplayInput{IDs: cmd.Args().Slice(), Queue: cmd.String("queue"), All: cmd.Bool("all")}
						var out struct {
							Replayed int `json:"replayed"`
						}
						if err := ctl.call(ctx, "POST", "/api/v1/dead-letters/replay"+projectQuery(cmd), in, &out); err != nil {
							return err
						}
						fmt.Fprintf(cmd.Root().Writer, "replayed %d\n", out.Replayed)
						return nil
					})
				},
			},
			gapsCommand(c, flags),
		},
	}
}

// gapsCommand shows what connections were not sent because the journal was full.
func gapsCommand(c *config.Config, flags func(more ...cli.Flag) []cli.Flag) *cli.Command {
	return &cli.Command{
		Name: "gaps", ArgsUsage: "[ID …]",
		Usage: "show events a connection was not sent because its delivery lagged too far; --send sends them from the store, all or by ID",
		Flags: flags(&cli.BoolFlag{Name: "send", Usage: "send it again from the store"}, &cli.BoolFlag{Name: "forget", Usage: "dismiss it without sending"}),
		Action: func(ctx context.Context, cmd *cli.Command) error {
			send, forget := cmd.Bool("send"), cmd.Bool("forget")
			if send && forget {
				return event.Invalid("--send and --forget exclude each other", "choose one")
			}
			return withControl(ctx, c, cmd, func(ctl *control) error {
				ids, w := cmd.Args().Slice(), cmd.Root().Writer
				if send || forget {
					in := api.GapsInput{IDs: ids, Queue: cmd.String("queue"), All: len(ids) == 0}
					route, word := "send", "sending"
					if forget {
						route, word = "forget", "forgotten"
					}
					out := make(map[string]int)
					if err := ctl.call(ctx, "POST", "/api/v1/gaps/"+route+projectQuery(cmd), in, &out); err != nil {
						return err
					}
					fmt.Fprintf(w, "%s: %d\n", word, out[word])
					return nil
				}
				var out struct {
					Gaps []services.Gap `json:"gaps"`
				}
				if err := ctl.call(ctx, "GET", "/api/v1/gaps"+projectQuery(cmd)+"&queue="+url.QueryEscape(cmd.String("queue")), nil, &out); err != nil {
					return err
				}
				if len(out.Gaps) == 0 {
					fmt.Fprintln(w, "no gaps")
					return nil
				}
				tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
				fmt.Fprintln(tw, "ID\tCONNECTION\tABOUT EVENTS\tFROM\tTO\tSENT AGAIN")
				for _, g := range out.Gaps {
					sent := "no"
					if g.Sending {
						sent = fmt.Sprintf("%d so far", g.Sent)
					}
					fmt.Fprintf(tw, "%s\t%s\t%d\t%s\t%s\t%s\n", g.ID, g.Connection, g.Events, g.First.Format(time.RFC3339), g.Last.Format(time.RFC3339), sent)
				}
				return tw.Flush()
			})
		},
	}
}
