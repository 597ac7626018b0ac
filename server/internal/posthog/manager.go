package posthog

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/privacy"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/supervise"
)

// Config configures a [Manager]. Snapshot, OpenQueue and DropQueue are
// required.
type Config struct {
	// Snapshot returns the current settings, Changes each newer one; see
	// [project.Registry]. Without Changes, Snapshot is called every
	// second.
	Snapshot func() *project.Snapshot
	Changes  func(context.Context) <-chan *project.Snapshot

	// OpenQueue opens a connection's durable queue, or makes it.
	OpenQueue func(context.Context, project.Connection) (event.Queue, error)

	// DropQueue removes a connection's queue. That there is none is no error,
	// or one of code [event.CodeNotFound].
	DropQueue func(ctx context.Context, connectionID string) error

	// Full returns how full the journal is, 0 to 1. May be nil.
	Full func() float64

	// Shape converts a stored event to those sent: filter, sample, privacy,
	// schema. Its results are sent in order; the event is acknowledged when all
	// have been sent. Shape must not change e and must always return the same
	// uuids, timestamps, names and distinct ids. No result means that the event
	// is not for this connection. A nil Shape sends all events unchanged.
	Shape func(conn project.Connection, p project.Project, e *event.Event) Converted

	// Deleted reports whether a user has deleted an event since it was captured:
	// it is then not sent. After an error it is called again. May be nil.
	Deleted func(e *event.Event) (bool, error)

	// Wanted reports whether an event is for any connection at all; others are
	// acknowledged. It may change the event's uuid or time. After an error it is
	// called again. May be nil.
	Wanted func(ctx context.Context, e *event.Event) (bool, error)

	// Decide decides whether an event is sent: never (drop), later (wait), or now, with
	// the fields that another capture of the same call adds, in place. After an error it
	// is called again. May be nil.
	Decide func(ctx context.Context, d event.Delivery) (drop bool, wait time.Duration, err error)

	// Join sets the fields of outcomes among events from their calls, in place,
	// before Shape, and returns those without a known call. It returns an error if
	// it could not search everywhere. May be nil.
	Join func(ctx context.Context, events []*event.Event) (unknown []*event.Event, err error)

	// Ledger takes note of the names of properties that left, and of those that
	// stayed. May be nil.
	Ledger Ledger

	// TraceURL returns the address of the event's trace. May be nil.
	TraceURL func(e *event.Event) string

	Client             ClientConfig
	AllowInsecureHosts bool   // also http:// and addresses that are not public, for tests
	Version            string // hedgerow's, for $lib_version and User-Agent
	Logger             *slog.Logger
	Registerer         prometheus.Registerer
	Now                func() time.Time
}

// Converted is one event to send.
type Converted struct {
	Events   []*event.Event
	Withheld []privacy.Withheld // properties that are not sent
	Block    string             // why nothing may be sent: the event becomes a dead letter
}

// Ledger records names of properties, never their values. Its methods must not
// block.
type Ledger interface {
	// Left records the properties of an event that PostHog accepted. The map must not
	// be kept.
	Left(connectionID string, at time.Time, properties map[string]json.RawMessage)
	// Held records withheld properties, once for each event.
	Held(connectionID string, at time.Time, held []privacy.Withheld)
}

// ClientConfig tunes requests to PostHog. The zero value has every default.
type ClientConfig struct {
	Transport   http.RoundTripper     // replaces the guarded transport, for tests
	AllowHosts  *project.AllowedHosts // hosts that may be private. nil is none
	CA          *x509.CertPool        // trusted for AllowHosts; see [LoadCA]. nil is the system's
	Timeout     time.Duration         // of one request, answer included. Defaults to 30 s
	MaxInFlight int                   // requests of one connection at a time, AI events and others counted apart. Defaults to 8

	BackoffMin   time.Duration // wait before the first retry; then doubled. Defaults to 250 ms
	BackoffMax   time.Duration // Defaults to 30 s
	RefusedEvery time.Duration // between tries while PostHog rejects the key. Defaults to 1 min
	ExtendEvery  time.Duration // interval of extending unended deliveries; less than the queue's acknowledgment wait. Defaults to 10 s
}

func (c *ClientConfig) defaults() {
	set := func(d *time.Duration, def time.Duration) {
		if *d <= 0 {
			*d = def
		}
	}
	set(&c.Timeout, 30*time.Second)
	set(&c.BackoffMin, 250*time.Millisecond)
	set(&c.BackoffMax, 30*time.Second)
	set(&c.RefusedEvery, time.Minute)
	set(&c.ExtendEvery, 10*time.Second)
	if c.MaxInFlight <= 0 {
		c.MaxInFlight = 8
	}
}

const (
	stopWait    = 3 * time.Second        // time that a request in flight has when hedgerow stops
	disableWait = 800 * time.Millisecond // and when its connection is disabled
	fullCheck   = 10 * time.Second       // interval of checks of the journal's size
	fullMark    = 0.5                    // beyond it, disabled connections lose their queues
	noAIFor     = time.Hour              // how long a host's 404 on the AI route is remembered
)

var errDisabled = errors.New("the connection has been disabled or deleted")

// Manager delivers to every enabled connection.
type Manager struct {
	c       Config
	log     *slog.Logger
	http    *http.Client
	metrics *metrics
	views   func(context.Context) <-chan view // the settings; tests replace it

	mu    sync.Mutex
	stats map[string]*stats    // by connection id
	noAI  map[string]time.Time // by host: when it answered 404 on the AI route
}

// view is a manager's part of a snapshot.
type view struct {
	conns    []project.Connection
	projects map[string]project.Project
}

// settings are one connection's, until they are replaced.
type settings struct {
	conn  project.Connection
	proj  project.Project
	stale chan struct{} // closed when they are
}

// NewManager returns a manager; [Manager.Run] starts it.
func NewManager(c Config) *Manager {
	c.Client.defaults()
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Full == nil {
		c.Full = func() float64 { return 0 }
	}
	if c.Shape == nil {
		c.Shape = func(_ project.Connection, _ project.Project, e *event.Event) Converted {
			return Converted{Events: []*event.Event{e}}
		}
	}
	if c.Deleted == nil {
		c.Deleted = func(*event.Event) (bool, error) { return false, nil }
	}
	if c.TraceURL == nil {
		c.TraceURL = func(*event.Event) string { return "" }
	}
	m := &Manager{c: c, log: c.Logger, http: newHTTPClient(c.Client, c.AllowInsecureHosts),
		stats: make(map[string]*stats), noAI: make(map[string]time.Time)}
	m.views = m.snapshots
	m.metrics = newMetrics(m)
	return m
}

// snapshots turns the registry's snapshots into views.
func (m *Manager) snapshots(ctx context.Context) <-chan view {
	out := make(chan view)
	var in <-chan *project.Snapshot
	if m.c.Changes != nil {
		in = m.c.Changes(ctx)
	}
	send := func(s *project.Snapshot) {
		v := view{conns: s.AllConnections(), projects: make(map[string]project.Project)}
		for _, p := range s.Projects() {
			v.projects[p.ID] = p
		}
		select {
		case out <- v:
		case <-ctx.Done():
		}
	}
	go func() {
		defer close(out)
		if in != nil {
			for s := range in {
				send(s)
			}
			return
		}
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for ctx.Err() == nil {
			send(m.c.Snapshot())
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	}()
	return out
}

// runner is a running or stopping deliverer.
type runner struct {
	settings atomic.Pointer[settings]
	stop     context.CancelCauseFunc
	done     chan struct{}
}

// Run delivers until ctx ends; then requests in flight have three seconds to
// end, and unanswered events stay in the queues. It returns nil.
func (m *Manager) Run(ctx context.Context) error {
	m.metrics.register(m.c.Registerer, m.log)
	defer m.metrics.unregister(m.c.Registerer)
	defer m.http.CloseIdleConnections()
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // before the wait, also where this panics

	running := make(map[string]*runner) // enabled connections
	leaving := make(map[string]*runner) // stopping; the next runner waits for them
	known := make(map[string]bool)      // every connection of the last view
	dropped := make(map[string]bool)    // disabled ones whose queue was deleted
	var last view

	stop := func(id string, r *runner) {
		r.stop(errDisabled)
		delete(running, id)
		leaving[id] = r
	}
	apply := func(v view) {
		now := make(map[string]bool, len(v.conns))
		for _, c := range v.conns {
			now[c.ID] = true
			st := m.stat(c.ID)
			r := running[c.ID]
			switch {
			case !c.Enabled && r != nil:
				stop(c.ID, r)
			case c.Enabled && r != nil:
				have := r.settings.Load()
				if !reflect.DeepEqual(have.conn, c) || !reflect.DeepEqual(have.proj, v.projects[c.ProjectID]) {
					r.settings.Store(&settings{conn: c, proj: v.projects[c.ProjectID], stale: make(chan struct{})})
					close(have.stale)
				}
			case c.Enabled:
				delete(dropped, c.ID)
				before := leaving[c.ID]
				delete(leaving, c.ID)
				r := &runner{done: make(chan struct{})}
				r.settings.Store(&settings{conn: c, proj: v.projects[c.ProjectID], stale: make(chan struct{})})
				runCtx, cancel := context.WithCancelCause(ctx)
				r.stop = cancel
				running[c.ID] = r
				st.runners.Add(1)
				wg.Go(func() {
					defer close(r.done)
					defer st.runners.Add(-1)
					defer cancel(nil)
					if before != nil {
						<-before.done
					}
					for wait := 100 * time.Millisecond; ; wait = min(2*wait, 4*time.Second) {
						err := newDeliverer(m, c.ID, r, st).run(runCtx)
						if err == nil || runCtx.Err() != nil {
							return
						}
						m.log.Error("a delivery failed and is started again", "connection", c.ID, "err", err, "wait", wait)
						sleep(runCtx, wait)
					}
				})
			}
		}
		for id := range known {
			if now[id] {
				continue
			}
			if r := running[id]; r != nil {
				stop(id, r)
			}
			r := leaving[id]
			delete(leaving, id)
			delete(dropped, id)
			m.forget(id)
			wg.Go(func() {
				if r != nil {
					<-r.done
				}
				if err := supervise.Catch(func() error { m.drop(ctx, id); return nil }); err != nil {
					m.log.Error("the queue of a PostHog connection could not be dropped", "connection", id, "err", err)
				}
			})
		}
		known, last = now, v
	}
	// relieve deletes the queues of disabled connections once space is
	// short, so that the journal can drop their events.
	relieve := func() {
		for _, c := range last.conns {
			if c.Enabled || dropped[c.ID] {
				continue
			}
			if r := leaving[c.ID]; r != nil {
				select {
				case <-r.done:
				default:
					continue
				}
			}
			if m.c.Full() <= fullMark {
				return
			}
			dropped[c.ID] = true
			if m.drop(ctx, c.ID) {
				m.log.Warn("the journal is more than half full: the queue of a disabled PostHog connection was dropped; its events stay in hedgerow and will not be sent",
					"connection", c.ID, "name", c.Name)
			}
		}
	}

	views := m.views(ctx)
	tick := time.NewTicker(fullCheck)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case v, ok := <-views:
			if !ok {
				views = nil // the registry has closed; continue with the last settings
				continue
			}
			apply(v)
			relieve()
		case <-tick.C:
			relieve()
		}
	}
}

// drop removes a queue and reports whether there was one.
func (m *Manager) drop(ctx context.Context, id string) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	err := m.c.DropQueue(ctx, id)
	var e *event.Error
	switch {
	case err == nil:
		return true
	case errors.As(err, &e) && e.Code == event.CodeNotFound:
	default:
		m.log.Warn("the queue of a PostHog connection could not be dropped", "connection", id, "err", err)
	}
	return false
}

func (m *Manager) stat(id string) *stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.stats[id]
	if s == nil {
		s = new(stats)
		m.stats[id] = s
	}
	return s
}

func (m *Manager) forget(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.stats, id)
}

// Status returns the state of delivery to a connection. An unknown connection
// is disabled.
func (m *Manager) Status(connectionID string) Status {
	m.mu.Lock()
	s := m.stats[connectionID]
	m.mu.Unlock()
	if s == nil {
		return Status{State: StateDisabled}
	}
	return s.status(m.c.Now())
}

// route is where events of a kind go, and how large they may be there.
type route struct {
	path     string
	maxEvent int // bytes of one encoded event
	maxBatch int // target size of a batch in bytes, not PostHog's own limit
}

const (
	aiPath    = "/i/v0/ai/batch/"
	batchPath = "/batch/"
)

var (
	aiRoute    = route{aiPath, event.MaxEventBytes, 5 << 20}
	batchRoute = route{batchPath, 983_040, 2 << 20}
)

// route picks the way of AI events, or of all others, to a host.
func (m *Manager) route(host string, ai bool) route {
	if !ai {
		return batchRoute
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if at, ok := m.noAI[host]; ok {
		if m.c.Now().Sub(at) < noAIFor {
			return batchRoute
		}
		delete(m.noAI, host)
	}
	return aiRoute
}

// setNoAI remembers that a host has no AI route.
func (m *Manager) setNoAI(host string) {
	m.mu.Lock()
	_, had := m.noAI[host]
	m.noAI[host] = m.c.Now()
	m.mu.Unlock()
	if !had {
		m.log.Info("this PostHog has no AI route: AI events go to /batch/", "host", host)
	}
}
