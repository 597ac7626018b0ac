package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/store"
)

// queue is a journal's consumer in memory: events that are retried come again
// after their delay.
type queue struct {
	mu      sync.Mutex
	items   chan event.Delivery
	outcome map[string][]string // uuid → what happened to its deliveries
	ended   chan string
	fail    int // Fetch fails so many times
}

func newQueue(events ...*event.Event) *queue {
	q := &queue{items: make(chan event.Delivery, 10_000), outcome: make(map[string][]string), ended: make(chan string, 10_000)}
	for i, e := range events {
		q.push(e, uint64(i+1), 1)
	}
	return q
}

func (q *queue) push(e *event.Event, seq uint64, attempt int) {
	q.items <- event.Delivery{Event: e, Seq: seq, Attempt: attempt, Acker: &acker{q, e, seq, attempt}}
}

func (q *queue) Fetch(ctx context.Context, max int, wait time.Duration) ([]event.Delivery, error) {
	q.mu.Lock()
	if q.fail > 0 {
		q.fail--
		q.mu.Unlock()
		return nil, errors.New("queue is away")
	}
	q.mu.Unlock()
	var out []event.Delivery
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case d := <-q.items:
		out = append(out, d)
	}
	timeout := time.After(wait)
	for len(out) < max {
		select {
		case d := <-q.items:
			out = append(out, d)
		case <-timeout:
			return out, nil
		case <-ctx.Done():
			return out, nil
		}
	}
	return out, nil
}

func (q *queue) end(id, how string) error {
	q.mu.Lock()
	q.outcome[id] = append(q.outcome[id], how)
	q.mu.Unlock()
	if how != "retry" {
		q.ended <- how
	}
	return nil
}

type acker struct {
	q       *queue
	e       *event.Event
	seq     uint64
	attempt int
}

func (a *acker) Ack() error               { return a.q.end(a.e.UUID, "ack") }
func (a *acker) Extend() error            { return nil }
func (a *acker) Dead(reason string) error { return a.q.end(a.e.UUID, "dead: "+reason) }
func (a *acker) Retry(after time.Duration) error {
	time.AfterFunc(after, func() { a.q.push(a.e, a.seq, a.attempt+1) })
	return a.q.end(a.e.UUID, "retry")
}

// memory is a Writer that rejects chosen events.
type memory struct {
	mu     sync.Mutex
	rows   map[string]bool
	writes []int
	refuse func(batch []*event.Event) error
	began  chan struct{}
	goOn   chan struct{}
}

func (m *memory) Write(ctx context.Context, events []*event.Event) (store.WriteResult, error) {
	if m.began != nil {
		m.began <- struct{}{}
		<-m.goOn
	}
	if err := ctx.Err(); err != nil {
		return store.WriteResult{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writes = append(m.writes, len(events))
	if m.refuse != nil {
		if err := m.refuse(events); err != nil {
			return store.WriteResult{}, err
		}
	}
	if m.rows == nil {
		m.rows = make(map[string]bool)
	}
	var res store.WriteResult
	for _, e := range events {
		if m.rows[e.UUID] {
			res.Duplicates++
			continue
		}
		m.rows[e.UUID] = true
		res.Stored = append(res.Stored, e)
	}
	return res, nil
}

func named(names ...string) []*event.Event {
	var out []*event.Event
	for _, n := range names {
		out = append(out, &event.Event{UUID: n, ProjectID: "p", Name: n})
	}
	return out
}

// run runs a sink until every event given has ended so many times.
func run(t *testing.T, s *store.Sink, q *queue, endings int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	for range endings {
		<-q.ended
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestSinkStores(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, m, reg := newQueue(named("a", "b", "c", "a")...), &memory{}, prometheus.NewRegistry()
		var told []string
		start := time.Now()
		s := &store.Sink{Queue: q, Store: m, Registerer: reg, OnStored: func(es []*event.Event) {
			for _, e := range es {
				told = append(told, e.Name)
			}
			if f, err := reg.Gather(); err != nil || len(f) > 0 && f[0].GetName() != "hedgerow_store_sink_events_total" {
				t.Errorf("metrics %v, %v", f, err)
			}
		}}
		run(t, s, q, 4)
		if got := strings.Join(told, " "); got != "a b c" {
			t.Errorf("told of %q", got)
		}
		if d := time.Since(start); d > 500*time.Millisecond {
			t.Errorf("stored after %v", d)
		}
		if !slices.Equal(m.writes, []int{4}) {
			t.Errorf("writes %v", m.writes)
		}
	})
}

func TestSinkPassesStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		es := named(event.RequestStarted, event.RequestStarted, event.Generation)
		start, own, call := es[0], es[1], es[2]
		own.UUID = event.NewID() // a caller's
		start.StartSent, call.StartSent = true, true
		q, m := newQueue(es...), &memory{}
		var told []string
		run(t, &store.Sink{Queue: q, Store: m, OnStored: func(es []*event.Event) {
			for _, e := range es {
				told = append(told, e.UUID)
			}
		}}, q, 3)
		if !slices.Equal(told, []string{own.UUID, call.UUID}) {
			t.Errorf("stored %v", told)
		}
		if got := q.outcome[start.UUID]; len(got) != 1 || got[0] != "ack" {
			t.Errorf("the start ended with %v", got)
		}
	})
}

// Events that Keep rejects are acknowledged and not stored; those for which it
// fails are retried.
func TestSinkKeeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, m := newQueue(named("kept", "refused", "unknown")...), &memory{}
		asked := make(map[string]int)
		var told []string
		run(t, &store.Sink{Queue: q, Store: m, Keep: func(_ context.Context, e *event.Event) (bool, error) {
			if asked[e.Name]++; e.Name == "unknown" && asked[e.Name] < 3 {
				return false, errors.New("not now")
			}
			return e.Name != "refused", nil
		}, OnStored: func(es []*event.Event) {
			for _, e := range es {
				told = append(told, e.Name)
			}
		}}, q, 3)
		if !slices.Equal(told, []string{"kept", "unknown"}) || asked["unknown"] != 3 {
			t.Errorf("stored %v, asked %v", told, asked)
		}
		for name, want := range map[string]string{"kept": "[ack]", "refused": "[ack]", "unknown": "[retry retry ack]"} {
			if got := fmt.Sprint(q.outcome[name]); got != want {
				t.Errorf("%s ended with %s, want %s", name, got, want)
			}
		}
	})
}

func TestSinkIsolatesPoison(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var names []string
		for i := range 100 {
			names = append(names, fmt.Sprintf("e%d", i))
		}
		events := named(names...)
		events[37].Name, events[38].Name = "poison", "poison"
		q := newQueue(events...)
		var log bytes.Buffer
		m := &memory{refuse: func(batch []*event.Event) error {
			for _, e := range batch {
				if e.Name == "poison" {
					return event.Invalid("an event cannot be stored", "")
				}
			}
			return nil
		}}
		run(t, &store.Sink{Queue: q, Store: m, Logger: slog.New(slog.NewTextHandler(&log, nil))}, q, 100)
		for i, e := range events {
			want := "ack"
			if i == 37 || i == 38 {
				want = "dead: store: an event cannot be stored"
			}
			if got := q.outcome[e.UUID]; len(got) != 1 || got[0] != want {
				t.Errorf("event %d ended as %q, want %q", i, got, want)
			}
		}
		if len(m.writes) > 30 {
			t.Errorf("%d writes to isolate two of 100", len(m.writes))
		}
		if !strings.Contains(log.String(), "uuid=e37") {
			t.Errorf("log: %s", &log)
		}
	})
}

// TestSinkPanics makes the store panic on one event: that one becomes a dead
// letter, the others are stored.
func TestSinkPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		events := named("a", "b", "c", "d", "e")
		q := newQueue(events...)
		m := &memory{refuse: func(batch []*event.Event) error {
			for _, e := range batch {
				if e.UUID == "d" {
					panic("content of a prompt")
				}
			}
			return nil
		}}
		run(t, &store.Sink{Queue: q, Store: m}, q, 5)
		for _, e := range events {
			got := strings.Join(q.outcome[e.UUID], ", ")
			if want := map[bool]string{true: "dead: store: ", false: "ack"}[e.UUID == "d"]; !strings.HasPrefix(got, want) || strings.Contains(got, "content") {
				t.Errorf("%s ended as %q, want %q", e.UUID, got, want)
			}
		}
	})
}

// panicking is a queue whose Fetch panics.
type panicking struct{}

func (panicking) Fetch(context.Context, int, time.Duration) ([]event.Delivery, error) { panic("no") }

// TestSinkEndsAfterPanic has a lane panic: Run ends with an error, for who started
// it to start another, and not with the process.
func TestSinkEndsAfterPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		err := (&store.Sink{Queue: panicking{}, Store: new(memory)}).Run(t.Context())
		if err == nil || err.Error() != "panic: a value of type string" {
			t.Error(err)
		}
	})
}

func TestSinkRetriesTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(named("a", "b", "c")...)
		q.fail = 3
		left := 4
		m := &memory{refuse: func([]*event.Event) error {
			if left--; left >= 0 {
				return errors.New("disk full")
			}
			return nil
		}}
		start := time.Now()
		run(t, &store.Sink{Queue: q, Store: m}, q, 3)
		for id, got := range q.outcome {
			if got[len(got)-1] != "ack" || slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, "dead") }) {
				t.Errorf("%s: %v", id, got)
			}
		}
		if d := time.Since(start); d < 2*time.Second || d > 20*time.Second {
			t.Errorf("seven failures took %v: no backoff, or too much", d)
		}
		if got := len(slices.Collect(maps.Keys(m.rows))); got != 3 {
			t.Errorf("%d rows", got)
		}
	})
}

func TestSinkFinishesBatchInHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(named("a", "b")...)
		m := &memory{began: make(chan struct{}), goOn: make(chan struct{})}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- (&store.Sink{Queue: q, Store: m}).Run(ctx) }()
		<-m.began
		cancel()
		synctest.Wait()
		select {
		case <-done:
			t.Fatal("Run returned in the middle of a write")
		default:
		}
		close(m.goOn)
		if err := <-done; err != nil {
			t.Error(err)
		}
		if fmt.Sprint(q.outcome) != "map[a:[ack] b:[ack]]" {
			t.Errorf("outcome %v", q.outcome)
		}
	})
}

// TestSinkIntoDuckDB: events that no engine can store become dead letters, the
// rest is stored.
func TestSinkIntoDuckDB(t *testing.T) {
	s := openDuck(t, t.TempDir(), nil)
	defer s.Close()
	var events []*event.Event
	for i := range 20 {
		e := &event.Event{UUID: event.NewID(), ProjectID: "p", Name: "x", Timestamp: time.Date(2026, 1, 1, 0, 0, i, 0, time.UTC)}
		if i == 7 {
			e.ErrorMessage = "secret text"
			e.UUID = "secret"
		}
		events = append(events, e)
	}
	q := newQueue(events...)
	run(t, &store.Sink{Queue: q, Store: s}, q, 20)
	if got := q.outcome["secret"]; len(got) != 1 || !strings.HasPrefix(got[0], "dead: ") || strings.Contains(got[0], "secret") {
		t.Errorf("bad event ended as %v", got)
	}
	if got := q.outcome[events[8].UUID]; len(got) != 1 || got[0] != "ack" {
		t.Errorf("its neighbour ended as %v", got)
	}
}

type retainFunc func() (store.RetainResult, error)

func (f retainFunc) Retain(context.Context, func(string) store.Retention) (store.RetainResult, error) {
	return f()
}

func TestRetainerRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var runs []time.Duration
		start := time.Now()
		r := &store.Retainer{Every: time.Hour, Store: retainFunc(func() (store.RetainResult, error) {
			runs = append(runs, time.Since(start))
			if len(runs) == 4 {
				cancel()
			}
			return store.RetainResult{}, errors.New("trouble")
		})}
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
		if len(runs) != 4 || runs[0] != time.Minute {
			t.Fatalf("runs at %v", runs)
		}
		for i := 1; i < len(runs); i++ {
			if d := runs[i] - runs[i-1]; d < time.Hour || d > 66*time.Minute {
				t.Errorf("run %d after %v", i, d)
			}
		}
	})
}

// TestRetainerRunsSoon triggers it every second, as on a nearly full disk: it
// runs, but not all the time.
func TestRetainerRunsSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		soon := make(chan struct{}, 1)
		var runs []time.Duration
		start := time.Now()
		r := &store.Retainer{Every: time.Hour, RunSoon: soon, Store: retainFunc(func() (store.RetainResult, error) {
			runs = append(runs, time.Since(start))
			return store.RetainResult{}, nil
		})}
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		for range 11 * 60 {
			time.Sleep(time.Second)
			select {
			case soon <- struct{}{}:
			default:
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if want := []time.Duration{time.Second, time.Second + store.MinRunInterval, time.Second + 2*store.MinRunInterval}; !slices.Equal(runs, want) {
			t.Errorf("runs at %v, want %v", runs, want)
		}
	})
}

// While there is more than one batch, the next is fetched, and prepared by the
// store, while one is written; a third is not. Where there is less than a batch,
// what comes meanwhile is left to become a larger one.
func TestSinkWorksAhead(t *testing.T) {
	for _, tt := range []struct{ max, began, left int }{{1, 2, 3}, {3, 2, 0}, {10, 1, 0}} {
		synctest.Test(t, func(t *testing.T) {
			q, m := newQueue(named("a", "b", "c", "d", "e")...), &memory{began: make(chan struct{}, 10), goOn: make(chan struct{})}
			s := &store.Sink{Queue: q, Store: m, MaxBatch: tt.max}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- s.Run(ctx) }()
			time.Sleep(time.Second)
			synctest.Wait()
			if began, left := len(m.began), len(q.items); began != tt.began || left != tt.left {
				t.Errorf("at %d a batch %d batches are at work and %d events wait, want %d and %d", tt.max, began, left, tt.began, tt.left)
			}
			cancel()
			close(m.goOn)
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
			if want := 5 - tt.left; len(m.rows) != want || len(q.outcome) != want {
				t.Errorf("stored %v, ended %v: the batches in hand were not finished", m.rows, q.outcome)
			}
		})
	}
}
