package command

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/shopspring/decimal"
	"github.com/urfave/cli/v3"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/config"
	"github.com/hedgerow/hedgerow/server/internal/reprice"
)

// repriceCommand is hedgerow prices reprice.
func repriceCommand(c *config.Config) *cli.Command {
	return &cli.Command{
		Name:  "reprice",
		Usage: "recompute the costs of recorded calls with current prices: a dry run unless --apply is set",
		Description: `Each call gets the price that was in force at its time. A call without a price stays unknown, and a cost that is known
stays where today's prices have none. The previous total is kept in addition to the new one, as cost.before_usd.

Costs that the provider reported or that were sent with the call stay, unless --include-reported is given.

PostHog cannot change events that it has, and would count a generation that is sent again twice. With --posthog it
gets an event hedgerow_cost_repriced for each day, provider and model instead, with the difference.

The server must be running. Ctrl-C cancels the run; what it has changed stays changed.`,
		Flags: c.SubFlags(projectFlag(),
			&cli.StringFlag{Name: "from", Usage: "first day (2026-11-01, UTC), or time (RFC 3339)"},
			&cli.StringFlag{Name: "to", Usage: "last day (inclusive), or time (exclusive)"},
			&cli.StringFlag{Name: "model", Usage: "only calls with this requested or response model"},
			&cli.BoolFlag{Name: "include-reported", Usage: "also recalculate costs that the provider reported or that were sent with the call"},
			&cli.BoolFlag{Name: "apply", Usage: "apply the changes"},
			&cli.BoolFlag{Name: "posthog", Usage: "with --apply: send the differences to PostHog"},
			&cli.BoolFlag{Name: "cancel", Usage: "cancel the current run"},
		),
		Action: func(ctx context.Context, cmd *cli.Command) error {
			path := "/api/v1/prices/reprice" + projectQuery(cmd)
			return withControl(ctx, c, cmd, func(ctl *control) error {
				var run reprice.Run
				if cmd.Bool("cancel") {
					if err := ctl.call(ctx, "DELETE", path, nil, &run); err != nil {
						return err
					}
					fmt.Fprintf(cmd.Root().Writer, "canceled: %d of %d calls were done\n", run.Done, run.Total)
					return nil
				}
				in := reprice.Request{From: cmd.String("from"), To: cmd.String("to"), Model: cmd.String("model"), Reported: cmd.Bool("include-reported"), Apply: cmd.Bool("apply"), PostHog: cmd.Bool("posthog")}
				if err := ctl.call(ctx, "POST", path, in, &run); err != nil {
					return err
				}
				progress := io.Discard
				if !c.Quiet {
					progress = cmd.Root().ErrWriter
				}
				if err := awaitRun(ctx, ctl, path, &run, progress); err != nil {
					return err
				}
				return printRun(cmd.Root().Writer, &run)
			})
		},
	}
}

const (
	runPoll     = 100 * time.Millisecond
	runProgress = 2 * time.Second // between two lines
)

// awaitRun follows a run to its end, and cancels it when ctx ends.
func awaitRun(ctx context.Context, ctl *control, path string, run *reprice.Run, progress io.Writer) error {
	id, said := run.ID, time.Now()
	for run.Active() {
		select {
		case <-ctx.Done():
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			if err := ctl.call(ctx, "DELETE", path, nil, nil); err != nil {
				return fmt.Errorf("cancel the run: %w", err)
			}
			return event.NewError(event.CodeCanceled, "the run was canceled", "changes already made are kept", nil)
		case <-time.After(runPoll):
		}
		var now reprice.Run
		switch err := ctl.call(ctx, "GET", path, nil, &now); {
		case ctx.Err() != nil:
			continue
		case err != nil:
			return err
		}
		if *run = now; run.ID != id {
			return event.NewError(event.CodeConflict, "another run was started meanwhile", "the audit log says by whom", nil)
		}
		if time.Since(said) >= runProgress {
			said = time.Now()
			fmt.Fprintf(progress, "%d of %d calls\n", run.Done, run.Total)
		}
	}
	return nil
}

// printRun prints a run that has ended.
func printRun(w io.Writer, run *reprice.Run) error {
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(tw, "DAY\tPROVIDER\tMODEL\tCALLS\tCHANGED\tBEFORE\tAFTER\tUNKNOWN\tKEPT")
	for _, r := range append(run.Rows, run.Sum) {
		if r.Day == "" {
			r.Day = "all"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%d\t%d\t%s\t%s\t%s\t%d\n", r.Day, r.Provider, r.Model, r.Calls, r.Changed, sumText(r.Before.Known, r.Before.Value), sumText(r.After.Known, r.After.Value), fromTo(r.UnknownBefore, r.Unknown), r.Kept)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for _, why := range run.Sum.Reasons {
		fmt.Fprintf(w, "unknown or kept: %d calls, %s\n", why.Calls, why.Reason)
	}
	switch {
	case run.Status == reprice.Failed:
		return event.NewError(event.CodeInternal, "the run failed: "+run.Error, "run it again: calls that it has changed are not changed twice", nil)
	case run.Status == reprice.Canceled:
		return event.NewError(event.CodeCanceled, "the run was canceled", "changes already made are kept", nil)
	case !run.Apply:
		fmt.Fprintf(w, "dry run: nothing was changed; --apply changes %d calls\n", run.Sum.Changed)
	default:
		fmt.Fprintf(w, "changed %d calls, as run %s\n", run.Sum.Changed, run.ID)
		if run.PostHog {
			fmt.Fprintf(w, "queued for PostHog: %d events %s\n", run.Sent, reprice.Correction)
		}
	}
	return nil
}

// sumText is a sum in dollars.
func sumText(known bool, sum decimal.Decimal) string {
	if !known {
		return "–"
	}
	return sum.StringFixed(6)
}

// fromTo is a number before and after.
func fromTo(before, after int64) string {
	if before == after {
		return strconv.FormatInt(after, 10)
	}
	return fmt.Sprintf("%d → %d", before, after)
}
