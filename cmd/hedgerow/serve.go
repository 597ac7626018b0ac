package main

import (
	"cmp"
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
			a.greet(ctx, cmd.Root().Writer)
			a.giveBackStart()
			go a.tuneHeap(ctx)
			<-ctx.Done() // nothing else ends a server that has started
			a.log.Info("stopping", "grace", c.ShutdownGrace)
			a.close(context.WithoutCancel(ctx))
			return nil
		},
	}
}

// greet prints the banner. Where the first project is not made yet, it says what
// is wrong and what to do, and the banner follows once it is.
func (a *app) greet(ctx context.Context, w io.Writer) {
	select {
	case <-a.known:
		a.banner(w)
		return
	default:
	}
	worst := worstOf(a.reports.all())
	fmt.Fprintf(w, "hedgerow %s listens on %s and passes calls, but cannot record them yet\n\n  %s\n", buildVersion(), a.cfg.PublicURL, cmp.Or(worst.Message, "the settings cannot be written"))
	fmt.Fprintf(w, "  to do: %s\n  The project token and the API key follow here once that is done; no restart is needed.\n\n", cmp.Or(worst.Hint, "see the log"))
	a.log.Error("hedgerow passes calls, but cannot record them yet", "component", worst.Component, "problem", worst.Message, "to_do", worst.Hint)
	go func() {
		select {
		case <-a.known:
			a.banner(w)
		case <-ctx.Done():
		}
	}()
}

// banner says where hedgerow listens and how to use it. The API key and the
// sign-in link are shown at the first start only: nobody can show them again.
func (a *app) banner(w io.Writer) {
	base := a.cfg.PublicURL
	p := func(label, value string) { fmt.Fprintf(w, "  %-18s %s\n", label, value) }
	fmt.Fprintf(w, "hedgerow %s listens on %s\n\n", buildVersion(), base)
	first := a.firstStart.Load()
	p("project", first.Project.Name)
	p("project token", first.Project.Token)
	if first.First {
		p("API key", first.APIKey.Reveal()+"   (shown this once)")
		p("sign in", api.SignInURL(base, first.SignInToken.Reveal())+"   (works once, for 24 hours)")
	} else {
		p("sign in", "hedgerow project sign-in-link prints a one-time link")
	}
	fmt.Fprintln(w)
	p("OpenAI SDK", "base URL "+a.gatewayURL()+"/openai/v1")
	p("Anthropic SDK", "base URL "+a.gatewayURL()+"/anthropic")
	p("OpenRouter", "base URL "+a.gatewayURL()+"/openrouter/api/v1")
	for name := range a.cfg.Upstreams {
		p(name, "base URL "+a.gatewayURL()+"/"+name)
	}
	p("events", "curl -H 'Authorization: Bearer hr_…' "+base+"/api/v1/events")
	if list := a.registry.Snapshot().Connections(first.Project.ID); len(list) == 0 {
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
			calls, events := a.gateway.Stats().Calls, a.appended()
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

// appended is how many events the journal has been given.
func (a *app) appended() uint64 {
	if j := a.taken.Load(); j != nil {
		return j.Appended()
	}
	return 0
}
