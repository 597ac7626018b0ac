package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/api"
	"github.com/hedgerow/hedgerow/internal/dataset"
	"github.com/hedgerow/hedgerow/internal/eval"
	"github.com/hedgerow/hedgerow/internal/experiment"
	"github.com/hedgerow/hedgerow/internal/gateway"
	"github.com/hedgerow/hedgerow/internal/ingest"
	"github.com/hedgerow/hedgerow/internal/journal"
	"github.com/hedgerow/hedgerow/internal/otlp"
	"github.com/hedgerow/hedgerow/internal/posthog"
	"github.com/hedgerow/hedgerow/internal/price"
	"github.com/hedgerow/hedgerow/internal/privacy"
	"github.com/hedgerow/hedgerow/internal/project"
	"github.com/hedgerow/hedgerow/internal/prompt"
	"github.com/hedgerow/hedgerow/internal/query"
	"github.com/hedgerow/hedgerow/internal/store"
	"github.com/hedgerow/hedgerow/internal/web"
)

// settingsBucket is the key-value bucket of internal/project.
const settingsBucket = "hedgerow"

// promptsBucket is the key-value bucket of internal/prompt.
const promptsBucket = "prompts"

// storeQueue is the journal queue of the store; each connection has one of its
// own, see connectionQueue.
const storeQueue = "store"

// app is one running hedgerow. start builds it in order; close takes it down in
// the exact reverse. It holds no global state: two fit one process.
type app struct {
	cfg     *config
	log     *slog.Logger
	metrics *prometheus.Registry
	started time.Time

	listener net.Listener // nil when offline
	journal  *journal.Journal
	registry *project.Registry
	prompts  *prompt.Registry
	flags    *posthog.Flags

	experiments *experiment.Registry
	desk        *experiment.Desk
	alerts      *experiment.Sender

	prices   atomic.Pointer[price.Table]
	store    *store.DuckDB
	query    *query.Reader
	doors    *ingest.Joiner                // where every door puts its events
	pace     pace                          // how far the store is behind
	joiner   atomic.Pointer[ingest.Joiner] // doors, for the sinks, which start before it
	gateway  *gateway.Gateway
	ingest   *ingest.Handler
	otlp     *otlp.Handler
	checks   *eval.Registry
	runner   *eval.Runner
	datasets *dataset.Registry
	runs     *dataset.Runner  // nil in subcommands that only change settings
	evals    *eval.Manager    // nil where another process runs the checks
	delivery *posthog.Manager // nil in subcommands that only change settings

	live live // tells the pages of new events

	first     project.FirstStart
	simulated bool
	stopping  atomic.Bool

	closers []closer
	once    sync.Once
}

type closer struct {
	name string
	f    func(context.Context) error
}

// onClose registers what undoes a step; close runs them in reverse.
func (a *app) onClose(name string, f func(context.Context) error) {
	a.closers = append(a.closers, closer{name, f})
}

// start opens everything and serves. When it fails, what it had opened is closed
// again. first is done before anything else.
func start(ctx context.Context, cfg *config, first ...func(*app, context.Context) error) (*app, error) {
	return open(ctx, cfg, append(first, (*app).openListener, (*app).openData, (*app).openChecks, (*app).openPrices, (*app).openStore, (*app).openExperiments, (*app).openSinks, (*app).openEnricher, (*app).openGateway, (*app).openEvals, (*app).openIngest, (*app).openOTLP, (*app).serve)...)
}

// startOffline opens the data folder for a subcommand: settings, journal and
// prices over the folder's socket, no network and no sinks.
func startOffline(ctx context.Context, cfg *config) (*app, error) {
	cfg.SecretKey = os.Getenv("HEDGEROW_SECRET_KEY")
	if cfg.JournalMaxBytes == "" {
		// A subcommand knows the folder only: everything else has its default.
		cfg.JournalMaxBytes, cfg.JournalSync, cfg.LogLevel, cfg.LogFormat, cfg.BufferBudget = "4GiB", "interval", "warn", "text", "256MiB"
	}
	cfg.AllowInsecurePostHog = cfg.AllowInsecurePostHog || os.Getenv("HEDGEROW_ALLOW_INSECURE_POSTHOG") == "1"
	return open(ctx, cfg, (*app).openData, (*app).openChecks, (*app).openPrices, (*app).openStore, (*app).openExperiments, (*app).serve)
}

// startSimulated is start, with pages that say that what they show is made up.
func startSimulated(ctx context.Context, cfg *config) (*app, error) {
	simulated := func(a *app, _ context.Context) error { a.simulated = true; return nil }
	return start(ctx, cfg, simulated)
}

func open(ctx context.Context, cfg *config, steps ...func(*app, context.Context) error) (*app, error) {
	a := &app{cfg: cfg, metrics: prometheus.NewRegistry(), started: time.Now()}
	a.log = newLogger(cfg)
	a.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, step := range steps {
		if err := step(a, ctx); err != nil {
			a.close(context.WithoutCancel(ctx))
			return nil, err
		}
	}
	return a, nil
}

func newLogger(cfg *config) *slog.Logger {
	level, _ := cfg.level()
	o := &slog.HandlerOptions{Level: level}
	if cfg.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, o))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, o))
}

// openListener comes first: a port that is taken is known before anything is
// touched.
func (a *app) openListener(ctx context.Context) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", a.cfg.Listen)
	if err != nil {
		return listenError(a.cfg.Listen, "listen", err)
	}
	a.listener = l
	a.onClose("listener", func(context.Context) error { _ = l.Close(); return nil })
	if a.cfg.PublicURL == "" {
		a.cfg.PublicURL = "http://" + displayAddr(l.Addr().String())
	}
	a.cfg.PublicURL = strings.TrimRight(a.cfg.PublicURL, "/")
	return nil
}

// listenError says what to do about an address that cannot be listened on.
func listenError(addr, flag string, err error) error {
	hint := "choose another address with --" + flag
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		hint = "another program, perhaps another hedgerow, listens there; stop it, or choose another address with --" + flag
	case errors.Is(err, fs.ErrPermission):
		hint = "ports below 1024 need privileges; choose a higher one with --" + flag
	}
	return &exitError{exitListen, event.NewError(event.CodeUnavailable, "cannot listen on "+addr, hint, err)}
}

// displayAddr is an address that a browser can open.
func displayAddr(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}

// dataError gives an error of the data folder its exit code.
func dataError(err error) error {
	if e := event.AsError(err); e.Code == event.CodeConflict {
		return &exitError{exitInUse, err}
	}
	return &exitError{exitData, err}
}

func (a *app) openData(ctx context.Context) error {
	if err := os.MkdirAll(a.cfg.Data, 0o700); err != nil {
		return dataError(event.NewError(event.CodeUnavailable, "the data folder "+a.cfg.Data+" cannot be made", "check that its parent is a folder that you may write to, or name another with --data", err))
	}
	j, err := journal.Open(ctx, journal.Config{
		Dir: a.cfg.path("journal"), NATSURL: a.cfg.NATSURL, MaxBytes: mustSize(a.cfg.JournalMaxBytes),
		// New queues begin with the next event, so that what every sink has would
		// only cost disk and memory.
		Keep:       -1,
		SyncAlways: a.cfg.JournalSync == "always", SyncInterval: a.cfg.JournalSyncInterval,
		Logger: a.log.With("part", "journal"), Registerer: a.metrics,
	})
	if err != nil {
		return dataError(err)
	}
	a.journal = j
	a.onClose("journal", j.Close)
	key, err := project.LoadSecretKey(a.cfg.SecretKey, a.cfg.path("secret.key"))
	if err != nil {
		return dataError(err)
	}
	kv, err := j.KeyValue(ctx, settingsBucket, 1)
	if err != nil {
		return dataError(err)
	}
	a.registry, err = project.Open(ctx, kv, project.Options{SecretKey: key, AllowInsecureHosts: a.cfg.AllowInsecurePostHog, Logger: a.log.With("part", "project")})
	if err != nil {
		return dataError(err)
	}
	a.onClose("settings", func(context.Context) error { return a.registry.Close() })
	if a.first, err = a.registry.Bootstrap(ctx); err != nil {
		return dataError(err)
	}
	if kv, err = j.KeyValue(ctx, promptsBucket, 1); err != nil {
		return dataError(err)
	}
	a.openFlags()
	a.prompts, err = prompt.Open(ctx, kv, prompt.Options{Audit: a.registry.Audit, Flags: a.flags, Logger: a.log.With("part", "prompt")})
	if err != nil {
		return dataError(err)
	}
	a.onClose("prompts", func(context.Context) error { return a.prompts.Close() })
	if a.listener == nil {
		return nil // only the server's environment decides on its connection
	}
	_, _, err = a.registry.SetEnvConnection(ctx, project.DefaultID, project.EnvConnection{
		ProjectKey: a.cfg.PostHogAPIKey, Host: a.cfg.PostHogHost, PersonalKey: a.cfg.PostHogPersonalAPIKey})
	if err != nil {
		e := event.AsError(err)
		return &exitError{exitConfig, event.NewError(e.Code, "POSTHOG_API_KEY, POSTHOG_HOST or POSTHOG_PERSONAL_API_KEY cannot be used: "+e.Message, e.Hint, e.Err)}
	}
	return nil
}

func (a *app) openPrices(context.Context) error {
	if err := a.reloadPrices(); err != nil {
		return &exitError{exitConfig, err}
	}
	return nil
}

func (a *app) openStore(ctx context.Context) (err error) {
	memory, err := a.cfg.storeMemory()
	if err != nil {
		return err
	}
	a.store, err = store.OpenDuckDB(ctx, store.Config{Path: a.cfg.path("hedgerow.duckdb"), MemoryBytes: memory, Logger: a.log.With("part", "store"), Registerer: a.metrics})
	if err != nil {
		return dataError(err)
	}
	a.onClose("store", func(context.Context) error { return a.store.Close() })
	a.query, err = query.New(a.store, nil)
	return err
}

// run starts a loop and registers its end: cancelled, then awaited.
func (a *app) run(name string, f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := f(ctx); err != nil && ctx.Err() == nil {
			a.log.Error("a part of hedgerow stopped", "part", name, "err", err)
		}
	}()
	a.onClose(name, func(ctx context.Context) error {
		cancel()
		select {
		case <-done:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("%s did not stop in time", name)
		}
	})
}

func (a *app) openSinks(ctx context.Context) error {
	if !a.cfg.has(roleSinks) {
		return nil // another process on the same NATS cluster stores and delivers
	}
	q, err := a.journal.Queue(ctx, storeQueue, journal.QueueOptions{FetchBytes: store.DefaultBatchBytes})
	if err != nil {
		return dataError(err)
	}
	sink := &store.Sink{Queue: q, Store: a.store, OnStored: a.stored, Logger: a.log.With("part", "store"), Registerer: a.metrics}
	a.run("store sink", sink.Run)
	a.run("pace", func(ctx context.Context) error { return a.pace.run(ctx, a.journal.Appended, sink.Ended) })
	retain := &store.Retainer{Store: a.store, Policy: a.retention, Logger: a.log.With("part", "store")}
	a.run("retention", retain.Run)
	roller := &query.Roller{Reader: a.query, Store: a.store, Logger: a.log.With("part", "query")}
	a.run("roll-ups", roller.Run)
	return a.openDelivery(ctx)
}

func (a *app) retention(projectID string) store.Retention {
	day := 24 * time.Hour
	p, ok := a.registry.Snapshot().Project(projectID)
	if !ok {
		return store.Retention{Content: store.DefaultContentRetention}
	}
	return store.Retention{Content: time.Duration(p.Settings.ContentDays) * day, Metrics: time.Duration(p.Settings.MetricsDays) * day}
}

// homePolicy is what privacy asks for each event: in memory, no I/O.
func (a *app) homePolicy(projectID string) privacy.HomePolicy {
	p, ok := a.registry.Snapshot().Project(projectID)
	if !ok {
		return privacy.HomePolicy{KeepContent: true}
	}
	return privacy.HomePolicy{KeepContent: p.Settings.KeepContent, ScrubEmails: p.Settings.ScrubEmails}
}

func (a *app) openGateway(context.Context) error {
	a.run("feature flags", a.flags.Run)
	g, err := gateway.New(a.gatewayConfig(a.doors))
	if err != nil {
		return &exitError{exitConfig, err}
	}
	a.gateway = g
	a.onClose("gateway", g.Close)
	return nil
}

func (a *app) reloadPrices() error {
	t, err := loadPrices(a.cfg)
	if err != nil {
		return err
	}
	a.prices.Store(t)
	return nil
}

// serve puts the handlers on the listener and on the data folder's socket.
func (a *app) serve(ctx context.Context) error {
	apiConfig := api.Config{
		Query: a.query, Registry: a.registry, Prompts: a.prompts, Logger: a.log.With("part", "api"), Version: buildVersion(), PublicURL: a.cfg.PublicURL,
		Experiments: a.experiments, Desk: a.desk, Alerts: a.alerts, StopRollout: a.prompts.StopRollout,
		Connections: connections{a}, DeadLetters: deadLetters{a}, Status: a.status, ReloadPrices: a.reloadPrices,
		Checks: a.checks, Runner: a.runner, CheckState: a.checkState, Datasets: a.datasets, Runs: a.runs,
	}
	if a.doors != nil {
		apiConfig.Append = a.doors // a nil *Joiner would be no nil Appender
	}
	tools := a.tools()
	if err := a.serveSocket(ctx, a.socketHandler(api.Local(apiConfig), tools)); err != nil {
		return err
	}
	if a.listener == nil {
		return nil
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", a.ready)
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.metrics, promhttp.HandlerOpts{}))
	if os.Getenv("HEDGEROW_DEBUG_PPROF") == "1" && isLoopback(a.cfg.Listen) {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	}
	if a.cfg.has(roleWeb) {
		mux.Handle("/api/", api.New(apiConfig))
		mux.Handle("/mcp", tools.HTTP())
		proxies, err := a.cfg.proxies()
		if err != nil {
			return err
		}
		mux.Handle("/", web.New(web.Config{
			Query: a.query, Registry: a.registry, Prompts: a.prompts, Connections: a.connectionRows, Delivery: pageDelivery{a}, Price: a.priceWords, Live: a.live.subscribe, Logger: a.log.With("part", "web"),
			Checks: a.checks, Runner: a.runner, CheckState: a.checkState, Datasets: a.datasets, Runs: a.runs,
			Experiments: a.experiments, Desk: a.desk, Alerts: a.alerts, StopRollout: a.prompts.StopRollout,
			Eraser: eraser{a}, Providers: a.providers, PublicURL: a.cfg.PublicURL, Proxies: proxies,
			Simulated: a.simulated, Dropped: a.dropped,
		}))
	}
	srv := &http.Server{
		Handler:           a.route(mux),
		ReadHeaderTimeout: 15 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(a.log.With("part", "http").Handler(), slog.LevelDebug),
	}
	srv.RegisterOnShutdown(a.live.close) // pages that listen would else be waited for
	a.serveOn(srv, a.listener, "server")
	return nil
}

// route keeps the gateway's paths off the mux, which would clean them: a
// provider's path is the provider's business. PostHog's paths come before all:
// the mux would redirect those with a trailing slash, and SDKs turn a redirected
// POST into a GET.
func (a *app) route(rest http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a.cfg.has(roleIngest) && a.ingest.Handles(r.URL.Path) {
			a.ingest.ServeHTTP(w, r)
			return
		}
		if otlp.IsPath(r.URL.Path) {
			if a.cfg.has(roleIngest) {
				a.otlp.ServeHTTP(w, r)
			} else { // never the gateway: telemetry has prompts in it
				api.WriteError(w, event.NewError(event.CodeNotFound, "this process takes no telemetry", "send it to a process with the role ingest", nil))
			}
			return
		}
		if a.cfg.has(roleGateway) && a.gateway.Handles(r.URL.Path) {
			a.gateway.ServeHTTP(w, r)
			return
		}
		rest.ServeHTTP(w, r)
	})
}

func (a *app) serveSocket(ctx context.Context, h http.Handler) error {
	path := a.cfg.socketPath()
	_ = os.Remove(path) // left by a killed process; the journal's lock says that none lives
	l, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if err != nil {
		a.log.Warn("no socket for the hedgerow command: it will need the server to be stopped", "path", path, "err", err)
		return nil
	}
	if err := os.Chmod(path, 0o600); err != nil {
		_ = l.Close()
		return dataError(event.NewError(event.CodeUnavailable, "the data folder does not keep file modes", "choose a folder on a local file system with --data", err))
	}
	a.serveOn(&http.Server{Handler: h, ReadHeaderTimeout: 15 * time.Second}, l, "socket")
	return nil
}

// serveOn serves until close. Calls in flight get two thirds of the grace to
// end; then they are cut, and the gateway records what they had seen.
func (a *app) serveOn(srv *http.Server, l net.Listener, name string) {
	go func() {
		if err := srv.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			a.log.Error("a server stopped", "part", name, "err", err)
		}
	}()
	a.onClose(name, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, a.cfg.ShutdownGrace*2/3)
		defer cancel()
		if err := srv.Shutdown(ctx); err != nil {
			return srv.Close()
		}
		return nil
	})
}

func (a *app) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	switch {
	case a.stopping.Load():
		api.WriteError(w, event.NewError(event.CodeUnavailable, "hedgerow is stopping", "", nil))
	case a.store.Ready(ctx) != nil:
		api.WriteError(w, event.NewError(event.CodeUnavailable, "the store does not answer", "see hedgerow's log", nil))
	default:
		if _, err := a.journal.Stats(ctx); err != nil {
			api.WriteError(w, event.NewError(event.CodeUnavailable, "the journal does not answer", "see hedgerow's log", nil))
			return
		}
		_, _ = w.Write([]byte("ready\n"))
	}
}

// close stops everything within the grace, in the reverse order of opening. What
// does not end in time is left to the journal: nothing acknowledged is lost.
func (a *app) close(ctx context.Context) {
	a.once.Do(func() {
		a.stopping.Store(true)
		grace := a.cfg.ShutdownGrace
		if grace <= 0 {
			grace = 10 * time.Second
		}
		ctx, cancel := context.WithTimeout(ctx, grace)
		defer cancel()
		for i := len(a.closers) - 1; i >= 0; i-- {
			c := a.closers[i]
			if err := c.f(ctx); err != nil {
				a.log.Warn("not closed cleanly", "part", c.name, "err", err)
			}
		}
	})
}
