package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/hedgerow/hedgerow/internal/api"
)

// serveCommand is the main job.
func serveCommand() *cli.Command {
	c := new(config)
	return &cli.Command{
		Name:  "serve",
		Usage: "pass LLM calls through, record them, deliver them to PostHog",
		Flags: c.flags(),
		Action: func(ctx context.Context, cmd *cli.Command) error {
			if err := c.load(cmd); err != nil {
				return err
			}
			a, err := start(ctx, c)
			if err != nil {
				return err
			}
			a.banner(cmd.Root().Writer)
			a.giveBackStart()
			go a.tuneHeap(ctx)
			<-ctx.Done()
			a.log.Info("stopping", "grace", c.ShutdownGrace)
			a.close(context.WithoutCancel(ctx))
			return nil
		},
	}
}

// banner says where hedgerow listens and how to use it. The API key and the
// sign-in link are shown at the first start only: nobody can show them again.
func (a *app) banner(w io.Writer) {
	base := a.cfg.PublicURL
	p := func(label, value string) { fmt.Fprintf(w, "  %-18s %s\n", label, value) }
	fmt.Fprintf(w, "hedgerow %s listens on %s\n\n", buildVersion(), base)
	p("project", a.first.Project.Name)
	p("project token", a.first.Project.Token)
	if a.first.First {
		p("API key", a.first.APIKey.Reveal()+"   (shown this once)")
		p("sign in", api.SignInURL(base, a.first.SignInToken.Reveal())+"   (works once, for 24 hours)")
	} else {
		p("sign in", "hedgerow project sign-in-link prints a one-time link")
	}
	fmt.Fprintln(w)
	p("OpenAI SDK", "base URL "+base+"/openai/v1")
	p("Anthropic SDK", "base URL "+base+"/anthropic")
	p("OpenRouter", "base URL "+base+"/openrouter/api/v1")
	for name := range a.cfg.Upstreams {
		p(name, "base URL "+base+"/"+name)
	}
	p("events", "curl -H 'Authorization: Bearer hr_…' "+base+"/api/v1/events")
	if list := a.registry.Snapshot().Connections(a.first.Project.ID); len(list) == 0 {
		p("PostHog", "not connected: POSTHOG_API_KEY=phc_… hedgerow connection set")
	} else {
		var names []string
		for _, c := range list {
			names = append(names, fmt.Sprintf("%s → %s (key …%s)", c.Name, c.Host, c.ProjectKeyLastFour))
		}
		p("PostHog", strings.Join(names, ", "))
	}
	fmt.Fprintln(w)
}

// tuneHeap has garbage collected at a third of the growth that Go allows by default
// while there is little to do, and at two thirds of it while more than busy calls
// pass or events come in a second, when processor time is dearer than memory; and
// harder once Go's own memory passes a quarter of a gigabyte, so that a burst of
// large bodies leaves less behind. GOGC and GOMEMLIMIT override it. It returns when
// ctx ends.
func (a *app) tuneHeap(ctx context.Context) {
	const busy = 1200
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(240 << 20)
	}
	if os.Getenv("GOGC") != "" {
		return
	}
	const little, much = 30, 65 // percent of growth
	percent := little
	debug.SetGCPercent(percent)
	settled := time.After(10 * time.Second) // the first rounds of what works in the background are over
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for callsBefore, eventsBefore := int64(0), uint64(0); ; {
		select {
		case <-ctx.Done():
			return
		case <-settled:
			a.giveBackStart()
		case <-tick.C:
			calls, events := a.gateway.Stats().Calls, a.journal.Appended()
			want := little
			if calls-callsBefore > busy || events-eventsBefore > busy {
				want = much
			}
			if want != percent { // setting it stops the world
				percent = want
				debug.SetGCPercent(percent)
				if percent == much { // what the start needed, the load does not
					a.giveBackStart()
				}
			}
			callsBefore, eventsBefore = calls, events
		}
	}
}

// giveBackStart calls dropStartPages, which is worth a try and nothing more.
func (a *app) giveBackStart() {
	if err := dropStartPages(); err != nil {
		a.log.Debug("give the start's pages back", "err", err)
	}
}
