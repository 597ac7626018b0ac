package app

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/hedgerow/hedgerow/internal/price"
	"github.com/hedgerow/hedgerow/server/internal/config"
	"github.com/hedgerow/hedgerow/server/internal/disk"
	"github.com/hedgerow/hedgerow/server/internal/eval"
	"github.com/hedgerow/hedgerow/server/internal/firstvalue"
	"github.com/hedgerow/hedgerow/server/internal/gateway"
	"github.com/hedgerow/hedgerow/server/internal/health"
	"github.com/hedgerow/hedgerow/server/internal/ingest"
	"github.com/hedgerow/hedgerow/server/internal/join"
	"github.com/hedgerow/hedgerow/server/internal/journal"
	"github.com/hedgerow/hedgerow/server/internal/ledger"
	"github.com/hedgerow/hedgerow/server/internal/listen"
	"github.com/hedgerow/hedgerow/server/internal/otlp"
	"github.com/hedgerow/hedgerow/server/internal/outbound"
	"github.com/hedgerow/hedgerow/server/internal/pipeline"
	"github.com/hedgerow/hedgerow/server/internal/posthog"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/prompt"
	"github.com/hedgerow/hedgerow/server/internal/services"
	"github.com/hedgerow/hedgerow/server/internal/store"
	"github.com/hedgerow/hedgerow/server/internal/supervise"
)

// App is a running hedgerow. start builds it in order; close stops it in reverse
// order. It has no global state: a process can run two.
//
// The gateway, ingest and otlp start before their dependencies: they read the
// settings through settings and append through the pipeline, which return
// "unavailable" until the start has set them. Every other field is set by one
// step and read by later ones.
type App struct {
	services.Services // each set by a step of the start

	cfg     *config.Config
	log     *slog.Logger
	metrics *prometheus.Registry
	started time.Time

	listener net.Listener // nil when offline

	gatewayListener net.Listener    // nil where listener serves the gateway
	tls             *tls.Config     // of both; nil without tls_cert
	conns           *listen.Limiter // of both
	share           listen.FileBudget
	gateway         *gateway.Gateway
	submissions     submissions // of batches, for the gateway
	ingest          *ingest.Handler
	otlp            *otlp.Handler
	disk            *disk.Guard
	events          *pipeline.Pipeline               // destination of every receiver
	settings        atomic.Pointer[project.Registry] // registry, once it is open
	library         atomic.Pointer[prompt.Registry]  // prompts, once they are open
	taken           atomic.Pointer[journal.Journal]  // journal, once it is open
	pages           atomic.Pointer[http.Handler]     // pages, API, MCP, once all is open

	journal *journal.Journal
	flags   *posthog.Flags
	lease   *lease // of the store's role; nil where the data folder's lock is enough

	prices       atomic.Pointer[price.Table]
	pricesReport atomic.Pointer[health.Report] // nil while all is well
	deletions    *store.Deletions              // the store's, known before it is open
	opening      atomic.Pointer[store.DuckDB]  // the store, from when it begins to open
	stored       storedEvents                  // events that the store's sinks have ended
	joiner       *join.Joiner                  // reads the journal; nil until delivery is open
	firstValues  *firstvalue.Deduplicator      // for what reads the journal
	outcomes     *join.Outcomes                // fields of outcomes from their calls, once the store is open
	evals        atomic.Pointer[eval.Manager]
	delivery     atomic.Pointer[posthog.Manager]
	ledger       atomic.Pointer[ledger.Ledger]
	allowLists   *outbound.AllowListUpgrade
	gaps         *outbound.Gaps

	sinksOpen atomic.Bool

	live    live // notifies the pages of new events
	reports reports
	retain  chan struct{} // triggers retention

	firstStart atomic.Pointer[project.FirstStart] // nil until the first project is known to exist
	known      chan struct{}                      // closed with the first value of firstStart
	simulated  bool
	opened     *supervise.Task // the steps of the start; nil offline
	serving    atomic.Bool
	stopping   atomic.Bool

	mu      sync.Mutex
	closers []closer
	once    sync.Once
}

type closer struct {
	phase phase
	name  string
	f     func(context.Context) error
}

// phase is when a part is closed: receivers open before the journal, but flush
// their queues to it when hedgerow stops.
type phase int

const (
	closeLast  phase = iota // parts without data
	closeData               // journal, settings, store
	closeSinks              // readers of the journal, and other loops
	closeCalls              // the gateway with its queue, and what calls models through it
	closeFront              // listeners
	closeStart              // the start itself, where it is not over
)

func newApp(cfg *config.Config) *App {
	cfg.Version = cmp.Or(cfg.Version, "dev")
	a := &App{cfg: cfg, log: newLogger(cfg), metrics: prometheus.NewRegistry(), started: time.Now(), outcomes: join.NewOutcomes(), retain: make(chan struct{}, 1), known: make(chan struct{}), deletions: store.NewDeletions(cfg.Path("hedgerow.duckdb"))}
	a.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), &a.reports)
	return a
}

func newLogger(cfg *config.Config) *slog.Logger {
	level, _ := cfg.Level()
	o := &slog.HandlerOptions{Level: level}
	if cfg.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, o))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, o))
}

// onClose registers what undoes a step. Close runs these by phase, in reverse
// order within each.
func (a *App) onClose(at phase, name string, f func(context.Context) error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closers = append(a.closers, closer{at, name, f})
}

// run starts a loop under supervision and registers its end: canceled, then
// awaited.
func (a *App) run(at phase, name string, f func(context.Context) error) {
	a.supervise(at, supervise.Loop{Name: name, Run: f})
}

func (a *App) supervise(at phase, l supervise.Loop) *supervise.Task {
	t := supervise.Start(l, supervise.Options{Logger: a.log})
	a.reports.add(t.Health)
	a.onClose(at, l.Name, t.Stop)
	return t
}

// Close stops everything within the grace: the start, then what lets calls in,
// the gateway, the sinks, the engines. What does not end in time is left to the
// journal: nothing acknowledged is lost.
func (a *App) Close(ctx context.Context) {
	a.once.Do(func() {
		a.stopping.Store(true)
		grace := a.cfg.ShutdownGrace
		if grace <= 0 {
			grace = 10 * time.Second
		}
		ctx, cancel := context.WithTimeout(ctx, grace)
		defer cancel()
		for {
			c, ok := a.nextCloser()
			if !ok {
				return
			}
			// A part that ignores ctx must not delay closing the others.
			done := make(chan error, 1)
			go func() { done <- supervise.Catch(func() error { return c.f(ctx) }) }()
			var err error
			select {
			case err = <-done:
			case <-ctx.Done():
				select {
				case err = <-done:
				case <-time.After(closeSlack):
					err = fmt.Errorf("it did not stop in time: %w", ctx.Err())
				}
			}
			if err != nil {
				a.log.Warn("not closed cleanly", "part", c.name, "err", err)
			}
		}
	})
}

// closeSlack is how long a part may take to notice that its time is over.
const closeSlack = 2 * time.Second

// nextCloser takes the one that is to be closed next.
func (a *App) nextCloser() (closer, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	at := -1
	for i, c := range a.closers {
		if at < 0 || c.phase >= a.closers[at].phase {
			at = i
		}
	}
	if at < 0 {
		return closer{}, false
	}
	c := a.closers[at]
	a.closers = slices.Delete(a.closers, at, at+1)
	return c, true
}
