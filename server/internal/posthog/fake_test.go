package posthog

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/hedgerow/hedgerow/event"
	simposthog "github.com/hedgerow/hedgerow/internal/simulate/posthog"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

const (
	hostUS = "https://us.i.posthog.com"
	hostEU = "https://eu.i.posthog.com"

	// secretWord is in the content of every event of these tests, and nowhere else.
	secretWord = "xyzzy-the-prompt"
)

// queue is an event.Queue in memory that redelivers unended events like the
// journal.
type queue struct {
	ackWait time.Duration

	mu      sync.Mutex
	entries []*entry
	changed chan struct{}
	dropped bool
	err     error // error of the next Fetch
}

type entry struct {
	q        *queue
	e        *event.Event
	state    string // "", "out", "acked", "dead"
	ready    time.Time
	attempts int
	extended int
	reason   string
}

func newQueue() *queue {
	return &queue{ackWait: 30 * time.Second, changed: make(chan struct{})}
}

func (q *queue) signal() {
	close(q.changed)
	q.changed = make(chan struct{})
}

func (q *queue) put(events ...*event.Event) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range events {
		q.entries = append(q.entries, &entry{q: q, e: e})
	}
	q.signal()
}

func (q *queue) fail(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.err = err
	q.signal()
}

func (q *queue) count(state string) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for _, e := range q.entries {
		if e.state == state {
			n++
		}
	}
	return n
}

func (q *queue) reasons() (out []string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range q.entries {
		if e.state == "dead" {
			out = append(out, e.reason)
		}
	}
	return out
}

func (q *queue) maxAttempts() (n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range q.entries {
		n = max(n, e.attempts)
	}
	return n
}

// take returns the ready events, and the time of the next.
func (q *queue) take(n int) (out []event.Delivery, next time.Time) {
	now := time.Now()
	for i, e := range q.entries {
		if e.state == "acked" || e.state == "dead" || len(out) == n {
			continue
		}
		if e.ready.After(now) {
			if next.IsZero() || e.ready.Before(next) {
				next = e.ready
			}
			continue
		}
		e.state, e.ready, e.attempts = "out", now.Add(q.ackWait), e.attempts+1
		out = append(out, event.Delivery{Event: e.e, Seq: uint64(i + 1), Attempt: e.attempts, Bytes: 500 + e.e.Content.Size(), Acker: e})
	}
	return out, next
}

func (q *queue) Fetch(ctx context.Context, n int, wait time.Duration) ([]event.Delivery, error) {
	var out []event.Delivery
	var until time.Time
	for {
		q.mu.Lock()
		if err := q.err; err != nil {
			q.err = nil
			q.mu.Unlock()
			return out, err
		}
		got, next := q.take(n - len(out))
		changed := q.changed
		q.mu.Unlock()
		if out = append(out, got...); len(out) > 0 && until.IsZero() {
			until = time.Now().Add(wait)
		}
		if len(out) == n {
			return out, nil
		}
		if !until.IsZero() && (next.IsZero() || next.After(until)) {
			next = until
		}
		var timer <-chan time.Time
		if !next.IsZero() {
			timer = time.After(time.Until(next))
		}
		select {
		case <-changed:
		case <-timer:
			if !until.IsZero() && !time.Now().Before(until) {
				return out, nil
			}
		case <-ctx.Done():
			if len(out) > 0 {
				return out, nil
			}
			return nil, ctx.Err()
		}
	}
}

func (e *entry) set(f func()) error {
	e.q.mu.Lock()
	defer e.q.mu.Unlock()
	if e.state == "acked" || e.state == "dead" {
		return fmt.Errorf("delivery already ended as %s", e.state)
	}
	f()
	e.q.signal()
	return nil
}

func (e *entry) Ack() error { return e.set(func() { e.state = "acked" }) }
func (e *entry) Retry(after time.Duration) error {
	return e.set(func() { e.state, e.ready = "", time.Now().Add(after) })
}
func (e *entry) Extend() error {
	return e.set(func() { e.ready = time.Now().Add(e.q.ackWait); e.extended++ })
}
func (e *entry) Dead(reason string) error {
	return e.set(func() { e.state, e.reason = "dead", reason })
}

// rig is a manager with settings, queues and PostHogs of a test's own.
type rig struct {
	t      *testing.T
	ph     *simposthog.Server
	hosts  hosts
	m      *Manager
	views  chan view
	queues map[string]*queue
	opened map[string]int
	mu     sync.Mutex
	logs   bytes.Buffer
	cancel context.CancelFunc
	done   chan error
}

// hosts reaches a server by the request's host.
type hosts map[string]http.RoundTripper

func (h hosts) RoundTrip(r *http.Request) (*http.Response, error) {
	if rt := h["https://"+r.URL.Host]; rt != nil {
		return rt.RoundTrip(r)
	}
	return nil, fmt.Errorf("no server for %s", r.URL.Host)
}

// bubble runs f in a synctest bubble with a running manager.
func bubble(t *testing.T, change func(*Config), f func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, change)
		defer r.stop()
		f(r)
	})
}

func newRig(t *testing.T, change func(*Config)) *rig {
	ph := simposthog.New(simposthog.Options{Projects: []simposthog.Project{{Token: simposthog.Token}, {Token: "phc_second"}}, KeepRequests: 100_000})
	r := &rig{t: t, ph: ph, hosts: hosts{hostUS: ph.Transport()}, views: make(chan view), queues: make(map[string]*queue), opened: make(map[string]int), done: make(chan error, 1)}
	c := Config{
		OpenQueue: func(_ context.Context, conn project.Connection) (event.Queue, error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.opened[conn.ID]++
			return r.queueLocked(conn.ID), nil
		},
		DropQueue: func(_ context.Context, id string) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.queues[id] == nil {
				return event.NewError(event.CodeNotFound, "no such queue", "", nil)
			}
			r.queues[id].dropped = true
			delete(r.queues, id)
			return nil
		},
		Client:  ClientConfig{Transport: r.hosts},
		Version: "1.2.3",
		Logger:  slog.New(slog.NewJSONHandler(&lockedWriter{mu: &r.mu, w: &r.logs}, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if change != nil {
		change(&c)
	}
	r.m = NewManager(c)
	r.m.views = func(context.Context) <-chan view { return r.views }
	var ctx context.Context
	ctx, r.cancel = context.WithCancel(t.Context())
	go func() { r.done <- r.m.Run(ctx) }()
	return r
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (w *lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.w.Write(p)
}

func (r *rig) stop() {
	r.t.Helper()
	if r.cancel == nil {
		return
	}
	r.cancel()
	r.cancel = nil
	if err := <-r.done; err != nil {
		r.t.Errorf("Run returned %v, want nil", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range []string{simposthog.Token, "phc_", "phx_", secretWord} {
		if strings.Contains(r.logs.String(), s) {
			r.t.Errorf("the log holds %q:\n%s", s, r.logs.String())
		}
	}
}

func (r *rig) queueLocked(id string) *queue {
	if r.queues[id] == nil {
		r.queues[id] = newQueue()
	}
	return r.queues[id]
}

func (r *rig) isDropped(q *queue) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return q.dropped
}

func (r *rig) openings(id string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.opened[id]
}

func (r *rig) log() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.logs.String()
}

func (r *rig) queue(id string) *queue {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.queueLocked(id)
}

// set makes the given connections the only ones.
func (r *rig) set(conns ...project.Connection) {
	r.views <- view{conns: conns, projects: map[string]project.Project{"default": {ID: "default"}}}
	synctest.Wait()
}

func (r *rig) wait(n int) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 2*time.Hour)
	defer cancel()
	if err := r.ph.WaitFor(ctx, n); err != nil {
		r.t.Fatal(err)
	}
	synctest.Wait()
}

func connection(id string) project.Connection {
	c := project.NewConnection("default", id)
	c.ID, c.ProjectKey = id, project.NewSecret(simposthog.Token)
	return c
}

func events(n int) []*event.Event {
	out := make([]*event.Event, n)
	now := time.Now().UTC().Truncate(time.Second) // PostHog corrects times far ahead
	for i := range out {
		out[i] = &event.Event{UUID: event.NewID(), ProjectID: "default", Name: event.Generation, DistinctID: fmt.Sprintf("user-%d", i), Timestamp: now.Add(time.Duration(i) * time.Millisecond),
			TraceID: fmt.Sprintf("trace-%d", i), SpanID: fmt.Sprintf("span-%d", i), Model: "gpt-4.1-mini", Provider: "openai",
			Content: event.Content{Input: json.RawMessage(`[{"role":"user","content":"` + secretWord + `"}]`)}}
	}
	return out
}

func named(name string, n int) []*event.Event {
	list := events(n)
	for _, e := range list {
		e.Name, e.Content = name, event.Content{}
	}
	return list
}

func sizes(reqs []simposthog.Request) (out []int) {
	for _, r := range reqs {
		out = append(out, len(r.UUIDs))
	}
	return out
}

func gaps(reqs []simposthog.Request) (out []time.Duration) {
	for i := 1; i < len(reqs); i++ {
		out = append(out, reqs[i].At.Sub(reqs[i-1].At))
	}
	return out
}

// once checks that PostHog has each event exactly once, under one envelope.
func (r *rig) once(list []*event.Event) {
	r.t.Helper()
	stored := make(map[string][]simposthog.Event)
	for _, e := range r.ph.Events() {
		stored[e.UUID] = append(stored[e.UUID], e)
	}
	for _, e := range list {
		got := stored[e.UUID]
		if len(got) != 1 {
			r.t.Fatalf("event %s is stored %d times, want once", e.UUID, len(got))
		}
		if got[0].SentTimestamp != event.FormatTime(e.Timestamp) || got[0].DistinctID != e.DistinctID || got[0].Name != e.Name {
			r.t.Errorf("envelope %s %s %s, want %s %s %s", got[0].SentTimestamp, got[0].DistinctID, got[0].Name, event.FormatTime(e.Timestamp), e.DistinctID, e.Name)
		}
	}
}

// plain is a request's JSON.
func plain(t *testing.T, r simposthog.Request) map[string]json.RawMessage {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(r.Body))
	if err != nil {
		t.Fatalf("body is not gzip: %v", err)
	}
	var out map[string]json.RawMessage
	if err := json.NewDecoder(z).Decode(&out); err != nil {
		t.Fatalf("body: %v", err)
	}
	return out
}

func equal[T comparable](t *testing.T, what string, got, want []T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func readAll(t *testing.T, r *http.Request) []byte {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Errorf("read body: %v", err)
	}
	_ = r.Body.Close()
	return b
}

func nopBody(b []byte) io.ReadCloser { return io.NopCloser(bytes.NewReader(b)) }

func unzip(t *testing.T, b []byte) string {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Errorf("gzip: %v", err)
		return ""
	}
	out, err := io.ReadAll(z)
	if err != nil {
		t.Errorf("gzip: %v", err)
	}
	return string(out)
}
