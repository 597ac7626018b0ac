package posthog

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/flag"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// FlagsConfig is what [Flags] work with. Connection is required.
type FlagsConfig struct {
	// Connection returns the connection whose PostHog has a project's
	// flags; see [project.Snapshot.FlagConnection]. It is called for each
	// decision.
	Connection func(projectID string) (project.Connection, bool)

	// Append takes $feature_flag_called events. nil sends none.
	Append func(context.Context, ...*event.Event) error

	// OutboundID returns a user's distinct id in a connection's PostHog, which
	// evaluates flags by the ids in events. nil does not change it.
	OutboundID func(c project.Connection, distinctID string) string

	PollEvery time.Duration // interval of refreshing definitions. Defaults to 30 s
	Timeout   time.Duration // of a question. Defaults to 3 s, PostHog's own

	Client             ClientConfig
	AllowInsecureHosts bool
	Version            string
	Logger             *slog.Logger
	Now                func() time.Time
}

const (
	remoteFresh    = 10 * time.Second // how long PostHog's answer for one user is used again
	remoteEntries  = 10_000           // of these are kept
	calledEntries  = 50_000           // users and flags that are remembered as sent
	calledQueue    = 2000             // $feature_flag_called events that wait for the journal
	troubleWait    = 5 * time.Second  // after a failure, until the next request to PostHog
	maxDefinitions = 32 << 20         // bytes of an answer
	maxFlagAnswer  = 4 << 20
)

// How a flag was evaluated.
const (
	DecidedLocally  = "posthog_local"  // here, by PostHog's definitions
	DecidedRemotely = "posthog_remote" // by PostHog
)

// Flags evaluates the feature flags of connected PostHog projects: locally, from
// PostHog's definitions, if the connection has a personal key and the definitions
// suffice; else PostHog evaluates them. It is safe for concurrent use.
//
// Each value is reported to PostHog as $feature_flag_called: once for each user,
// flag, value and groups, until the definitions change or the process ends.
type Flags struct {
	c      FlagsConfig
	log    *slog.Logger
	caller *caller

	mu   sync.Mutex
	defs map[string]*definitions // by connection id

	answers recent[string, heard]
	called  recent[string, struct{}]
	trouble recent[string, time.Time] // by host: when it failed

	queue   chan *event.Event
	refresh sync.WaitGroup
}

type heard struct {
	answer flagsAnswer
	at     time.Time
}

// NewFlags returns flags. [Flags.Run] appends their events to the journal.
func NewFlags(c FlagsConfig) *Flags {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.PollEvery <= 0 {
		c.PollEvery = 30 * time.Second
	}
	if c.Timeout <= 0 {
		c.Timeout = 3 * time.Second
	}
	if c.OutboundID == nil {
		c.OutboundID = func(_ project.Connection, id string) string { return id }
	}
	c.Client.Timeout = c.Timeout
	return &Flags{c: c, log: c.Logger, caller: newCaller(c.Client, c.AllowInsecureHosts, c.Version), defs: make(map[string]*definitions),
		answers: recent[string, heard]{limit: remoteEntries}, called: recent[string, struct{}]{limit: calledEntries},
		trouble: recent[string, time.Time]{limit: 100}, queue: make(chan *event.Event, calledQueue)}
}

// decision is a flag's value for a user, with details for PostHog.
type decision struct {
	value         flag.Value
	local         bool
	known         bool // the flag exists
	id, version   int64
	reason        string
	payload       json.RawMessage
	hasExperiment *bool
	minimal       bool // the server requests the short form of the event
	requestID     string
	evaluatedAt   int64 // by PostHog, in milliseconds
	loadedAt      time.Time
	errors        []string
}

// Decide returns a user's value of a flag, and how it was evaluated. The error is
// an [*event.Error]: invalid if the user has no distinct id, not found if the
// project has no PostHog or PostHog does not have the flag, else that it could
// not be evaluated. It waits for PostHog up to the timeout, and after a failure
// not at all for some seconds.
func (f *Flags) Decide(ctx context.Context, projectID, key string, u flag.User) (flag.Value, string, error) {
	if u.DistinctID == "" {
		return flag.Value{}, "", event.Invalid("a flag needs a distinct id", "send it as distinct_id or X-PostHog-Distinct-Id")
	}
	conn, ok := f.c.Connection(projectID)
	if !ok {
		return flag.Value{}, "", event.NewError(event.CodeNotFound, "the project is connected to no PostHog", "connect one, or use hedgerow's own percentages", nil)
	}
	if u.Now.IsZero() {
		u.Now = f.c.Now()
	}
	asked := u
	asked.DistinctID = f.c.OutboundID(conn, u.DistinctID)
	d, err := f.decide(ctx, conn, key, asked)
	if err != nil {
		return flag.Value{}, "", err
	}
	f.tell(projectID, conn.ID, key, u, d)
	if !d.known {
		return flag.Value{}, "", event.NewError(event.CodeNotFound, "PostHog has no feature flag of this key, or it is deleted", "check the spelling of the key, or create the flag in PostHog", nil)
	}
	if d.local {
		return d.value, DecidedLocally, nil
	}
	return d.value, DecidedRemotely, nil
}

func (f *Flags) decide(ctx context.Context, conn project.Connection, key string, u flag.User) (decision, error) {
	if !conn.PersonalKey.IsZero() {
		if set, loaded := f.definitionsOf(ctx, conn); set != nil {
			if v, err := set.Evaluate(key, u); err == nil {
				def, _ := set.Definition(key)
				return decision{value: v, local: true, known: true, id: def.ID, version: def.Version, reason: "Evaluated locally", payload: set.Payload(key, v),
					hasExperiment: def.HasExperiment, minimal: set.Minimal, loadedAt: loaded}, nil
			}
		}
	}
	return f.remote(ctx, conn, key, u)
}

// TurnOff disables a project's flag in PostHog, for all users. The error is an
// [*event.Error] with the reason that it is still on.
func (f *Flags) TurnOff(ctx context.Context, projectID, key string) error {
	conn, ok := f.c.Connection(projectID)
	switch {
	case !ok:
		return event.NewError(event.CodeNotFound, "the project is connected to no PostHog", "", nil)
	case conn.PersonalKey.IsZero():
		return event.NewError(event.CodeForbidden, "the connection has no personal key", "switch the flag off in PostHog, or add a personal key with the scope Feature Flag Write", nil)
	}
	set, err := f.fetch(ctx, conn, "")
	if err != nil {
		return event.NewError(event.CodeUpstream, "PostHog returned no flag definitions", "switch the flag off in PostHog", err)
	}
	def, ok := set.set.Definition(key)
	if !ok {
		return event.NewError(event.CodeNotFound, "PostHog has no feature flag of this key", "", nil)
	}
	if !def.Active {
		return nil
	}
	a, err := f.patch(ctx, conn, def.ID, map[string]any{"active": false})
	switch {
	case err != nil:
		t := explain(err, AppHost(conn.Host))
		return event.NewError(event.CodeUpstream, t.message, t.hint, err)
	case a.status == http.StatusForbidden || a.status == http.StatusUnauthorized:
		return event.NewError(event.CodeForbidden, "the personal key lacks permission to change flags", "add the scope Feature Flag Write, or turn the flag off in PostHog", nil)
	case a.status != http.StatusOK:
		return event.NewError(event.CodeUpstream, "PostHog did not turn the flag off", "switch it off in PostHog", nil)
	}
	f.forget(conn.ID)
	return nil
}

// Run appends $feature_flag_called events to the journal until ctx ends. It
// returns nil.
func (f *Flags) Run(ctx context.Context) error {
	defer f.caller.http.CloseIdleConnections()
	for {
		select {
		case e := <-f.queue:
			f.append(ctx, e)
		case <-ctx.Done():
			f.refresh.Wait()
			end, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWait)
			defer cancel()
			for {
				select {
				case e := <-f.queue:
					f.append(end, e)
				default:
					return nil
				}
			}
		}
	}
}

func (f *Flags) append(ctx context.Context, e *event.Event) {
	if f.c.Append == nil {
		return
	}
	if err := f.c.Append(ctx, e); err != nil && !errors.Is(err, context.Canceled) {
		f.log.Warn("that a user met a feature flag was not recorded", "err", err)
	}
}

// recent remembers the last entries, between limit and twice that many.
type recent[K comparable, V any] struct {
	limit int

	mu       sync.Mutex
	now, old map[K]V
}

func (r *recent[K, V]) get(key K) (V, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	v, ok := r.now[key]
	if !ok {
		v, ok = r.old[key]
	}
	return v, ok
}

func (r *recent[K, V]) put(key K, v V) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.now == nil || len(r.now) >= r.limit {
		r.now, r.old = make(map[K]V), r.now
	}
	r.now[key] = v
}

func (r *recent[K, V]) drop(match func(K) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range []map[K]V{r.now, r.old} {
		for k := range m {
			if match(k) {
				delete(m, k)
			}
		}
	}
}

// keyOf joins what names an entry.
func keyOf(parts ...string) string { return strings.Join(parts, "\x00") }
