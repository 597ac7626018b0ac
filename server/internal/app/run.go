package app

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/server/internal/api"
	"github.com/hedgerow/hedgerow/server/internal/config"
)

// Run serves until ctx ends, and then stops within the grace. It prints the
// banner to w.
func Run(ctx context.Context, cfg *config.Config, w io.Writer) error {
	a, err := start(ctx, cfg)
	if err != nil {
		return err
	}
	a.greet(ctx, w)
	boundHeap()
	go a.releaseMemory(ctx)
	<-ctx.Done() // nothing else ends a server that has started
	a.log.Info("stopping", "grace", cfg.ShutdownGrace)
	a.Close(context.WithoutCancel(ctx))
	return nil
}

// greet prints the banner. Before the first project exists, it prints the cause
// and a hint, and the banner later.
func (a *App) greet(ctx context.Context, w io.Writer) {
	select {
	case <-a.known:
		a.Banner(w)
		return
	default:
	}
	worst := worstOf(a.reports.all())
	fmt.Fprintf(w, "hedgerow %s listens on %s and forwards calls, but cannot record them yet\n\n  %s\n", a.cfg.Version, a.cfg.PublicURL, cmp.Or(worst.Message, "the settings cannot be written"))
	fmt.Fprintf(w, "  fix: %s\n  The project token and the API key are printed here once that is done; no restart is needed.\n\n", cmp.Or(worst.Hint, "see the log"))
	a.log.Error("hedgerow forwards calls, but cannot record them yet", "component", worst.Component, "problem", worst.Message, "hint", worst.Hint)
	go func() {
		select {
		case <-a.known:
			a.Banner(w)
		case <-ctx.Done():
		}
	}()
}

// Banner prints hedgerow's address and how to use it. The API key and the
// sign-in link are shown only at the first start, because they are not
// stored.
func (a *App) Banner(w io.Writer) {
	base := a.cfg.PublicURL
	p := func(label, value string) { fmt.Fprintf(w, "  %-18s %s\n", label, value) }
	fmt.Fprintf(w, "hedgerow %s listens on %s\n\n", a.cfg.Version, base)
	first := a.firstStart.Load()
	p("project", first.Project.Name)
	p("project token", first.Project.Token)
	if first.First {
		p("API key", first.APIKey.Reveal()+"   (shown this once)")
		p("sign in", api.SignInURL(base, first.SignInToken.Reveal())+"   (works once, for 24 hours)")
	} else {
		p("sign in", "hedgerow project sign-in-link prints a one-time link")
	}
	if a.keyless().Refused {
		key := "a key of hedgerow project add-key --scopes gateway NAME"
		if first.First {
			key = "this API key, or one of hedgerow project add-key --scopes gateway NAME"
		}
		p("calls need", "the header X-Hedgerow-Key with "+key)
	}
	fmt.Fprintln(w)
	p("OpenAI SDK", "base URL "+a.gatewayURL()+"/openai/v1")
	p("Anthropic SDK", "base URL "+a.gatewayURL()+"/anthropic")
	p("OpenRouter", "base URL "+a.gatewayURL()+"/openrouter/api/v1")
	for name := range a.cfg.Upstreams {
		p(name, "base URL "+a.gatewayURL()+"/"+name)
	}
	p("events", "curl -H 'Authorization: Bearer hr_…' "+base+"/api/v1/events")
	if list := a.Registry.Snapshot().Connections(first.Project.ID); len(list) == 0 {
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

// boundHeap makes garbage collection more frequent above heapBound of Go's own
// memory, so that a burst of large bodies leaves less behind. GOMEMLIMIT
// overrides it.
func boundHeap() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(heapBound)
	}
}

// heapBound leaves space for the program itself and for late collections,
// within the gigabyte that hedgerow uses besides the store.
const heapBound = 640 << 20

// giveBack returns unused memory to the system: after the start, and after each
// busy period. Nothing depends on it. It returns when ctx ends.
func (a *App) releaseMemory(ctx context.Context) {
	const (
		settled = 10 * time.Second
		every   = time.Minute
		little  = 300 // calls and events in that time
	)
	wait := time.NewTimer(settled)
	defer wait.Stop()
	var before uint64
	for busy := true; ; {
		select {
		case <-ctx.Done():
			return
		case <-wait.C:
		}
		wait.Reset(every)
		now := uint64(a.gateway.Stats().Calls) + a.appended()
		was := busy
		if busy = now-before > little; was && !busy {
			debug.FreeOSMemory()
			if err := dropStartPages(); err != nil {
				a.log.Debug("give the start's pages back", "err", err)
			}
		}
		before = now
	}
}

// appended is how many events the journal has been given.
func (a *App) appended() uint64 {
	if j := a.taken.Load(); j != nil {
		return j.Appended()
	}
	return 0
}
