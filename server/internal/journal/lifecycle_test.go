package journal_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/journal"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
)

// TestClose closes under load: appends either store or return an error, every
// Fetch ends, and acknowledged events and acknowledgments are kept.
func TestClose(t *testing.T) {
	checkLeaks(t)
	dir := t.TempDir()
	j, err := journal.Open(t.Context(), journal.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	q := mustQueue(t, j, "q", journal.QueueOptions{})
	idle := mustQueue(t, j, "idle", journal.QueueOptions{Project: "nobody"})
	var mu sync.Mutex
	stored, ended := make(map[string]bool), make(map[string]bool)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				e := newEvent("p1", 1000)
				if err := j.Append(context.Background(), e); err != nil {
					wantError(t, err, event.CodeUnavailable, "shutting down")
					return
				}
				mu.Lock()
				stored[e.UUID] = true
				mu.Unlock()
			}
		})
	}
	var acked atomic.Int64
	wg.Go(func() {
		for {
			ds, err := q.Fetch(context.Background(), 10, time.Millisecond)
			if err != nil {
				wantError(t, err, event.CodeUnavailable, "shutting down")
				return
			}
			for _, d := range ds {
				if err := d.Ack(); err != nil { // after the end: is redelivered
					continue
				}
				mu.Lock()
				ended[d.Event.UUID] = true
				mu.Unlock()
				acked.Add(1)
			}
		}
	})
	wg.Go(func() {
		_, err := idle.Fetch(context.Background(), 10, time.Hour)
		wantError(t, err, event.CodeUnavailable, "shutting down")
	})
	for acked.Load() < 300 {
		time.Sleep(time.Millisecond)
	}
	start := time.Now()
	for range 2 { // the second changes nothing
		if err := j.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	if d := time.Since(start); d > 30*time.Second {
		t.Errorf("Close took %v", d)
	}
	wantError(t, j.Append(t.Context(), newEvent("p1", 10)), event.CodeUnavailable, "shutting down")
	_, err = q.Fetch(t.Context(), 1, 0)
	wantError(t, err, event.CodeUnavailable, "shutting down")

	j, err = journal.Open(t.Context(), journal.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	seen := drain(t, j, mustQueue(t, j, "all", journal.QueueOptions{}))
	for id := range stored {
		if seen[id] != 1 {
			t.Fatalf("event %s is there %d times", id, seen[id])
		}
	}
	rest := drain(t, j, mustQueue(t, j, "q", journal.QueueOptions{AckWait: 100 * time.Millisecond}))
	again := 0
	for id := range stored {
		switch {
		case rest[id] > 0 && ended[id]:
			again++
		case rest[id] == 0 && !ended[id]:
			t.Fatalf("event %s never reached the queue", id)
		}
	}
	// Only acknowledgements that crossed with the close itself may be lost.
	if again > 10 {
		t.Errorf("%d acknowledgements of %d are lost", again, len(ended))
	}
	closeJournal(t, j)
}

// TestCloseKeepsAcks loses no acknowledgement that was given before Close.
func TestCloseKeepsAcks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for round := range 3 {
		j, err := journal.Open(t.Context(), journal.Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		q := mustQueue(t, j, "q", journal.QueueOptions{})
		for range 20 {
			mustAppend(t, j, newEvent("p1", 10))
		}
		ds := fetchN(t, q, 20)
		if ds[0].Seq != uint64(20*round+1) || ds[0].Attempt != 1 {
			t.Errorf("round %d begins at %d, attempt %d", round, ds[0].Seq, ds[0].Attempt)
		}
		ackAll(t, ds)
		closeJournal(t, j)
	}
}

func TestCloseGivenUp(t *testing.T) {
	t.Parallel()
	j, err := journal.Open(t.Context(), journal.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := j.Close(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	ctx, cancel = context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	j.Close(ctx) // it continued in the background; the folder is free when this returns
	if ctx.Err() != nil {
		t.Error("the close never ends")
	}
}

func TestOpenCanceled(t *testing.T) {
	checkLeaks(t)
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if j, err := journal.Open(ctx, journal.Config{Dir: dir}); err == nil {
		closeJournal(t, j)
		t.Error("opened without a context")
	} else if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	// The canceled open releases the folder.
	for range 500 {
		j, err := journal.Open(t.Context(), journal.Config{Dir: dir})
		if err == nil {
			closeJournal(t, j)
			return
		}
		if event.AsError(err).Code != event.CodeConflict {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("the folder stays locked")
}

// TestLeaks opens, uses and closes journals: nothing runs on.
func TestLeaks(t *testing.T) {
	checkLeaks(t)
	for range 3 {
		j, err := journal.Open(t.Context(), journal.Config{Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		q := mustQueue(t, j, "q", journal.QueueOptions{})
		kill(t, j, q, 3, "p1")
		deadLetters(t, j, journal.DeadFilter{Limit: 1, Before: 2})
		none(t, q, 20*time.Millisecond)
		mustAppend(t, j, newEvent("p1", 10))
		ackAll(t, fetchN(t, q, 1))
		closeJournal(t, j)
	}
}

// gather returns every metric's values: of a histogram, how many it counted.
func gather(t *testing.T, reg *prometheus.Registry) map[string][]float64 {
	t.Helper()
	mfs, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string][]float64)
	for _, mf := range mfs {
		for _, m := range mf.Metric {
			v := m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
			out[mf.GetName()] = append(out[mf.GetName()], v)
		}
	}
	return out
}

func TestMetrics(t *testing.T) {
	one, two := prometheus.NewRegistry(), prometheus.NewRegistry()
	j, err := journal.Open(t.Context(), journal.Config{Dir: t.TempDir(), Registerer: one})
	if err != nil {
		t.Fatal(err)
	}
	// A second journal in this process has its own registry, or a label.
	j2 := open(t, journal.Config{Registerer: prometheus.WrapRegistererWith(prometheus.Labels{"journal": "two"}, two)})
	q := mustQueue(t, j, "q", journal.QueueOptions{})
	mustAppend(t, j, newEvent("p1", 1000), newEvent("p1", 1000))
	mustAppend(t, j, newEvent("p1", 1000))
	j.Append(t.Context(), newEvent("not.a.project", 10))
	ds := fetchN(t, q, 2)
	if err := ds[0].Dead("no use"); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, j2, newEvent("p1", 10))

	waitLag(t, j, "q", func(qi journal.QueueInfo) bool { return qi.AckPending == 1 }) // Dead has ended the other
	m := gather(t, one)
	for name, want := range map[string]float64{
		"hedgerow_journal_up":                1,
		"hedgerow_journal_events":            3,
		"hedgerow_journal_max_bytes":         journal.DefaultMaxBytes,
		"hedgerow_journal_queue_pending":     1,
		"hedgerow_journal_queue_ack_pending": 1,
		"hedgerow_journal_queue_redelivered": 0,
		"hedgerow_journal_queue_dead":        1,
		"hedgerow_journal_appended_total":    3,
		"hedgerow_journal_refused_total":     1,
		"hedgerow_journal_dead_total":        1,
		"hedgerow_journal_append_seconds":    3,
	} {
		if v := m[name]; len(v) != 1 || v[0] != want {
			t.Errorf("%s is %v, want %v", name, v, want)
		}
	}
	for _, name := range []string{"hedgerow_journal_bytes", "hedgerow_journal_queue_lag_seconds"} {
		if v := m[name]; len(v) != 1 || v[0] <= 0 {
			t.Errorf("%s is %v", name, v)
		}
	}
	if v := gather(t, two)["hedgerow_journal_events"]; len(v) != 1 || v[0] != 1 {
		t.Errorf("the second journal has %v events", v)
	}

	// Registering twice is rejected and leaves nothing behind.
	dir := t.TempDir()
	if _, err := journal.Open(t.Context(), journal.Config{Dir: dir, Registerer: one}); err == nil || !strings.Contains(err.Error(), "register metrics") {
		t.Errorf("error %v", err)
	}
	closeJournal(t, j)
	if m := gather(t, one); len(m) != 0 {
		t.Errorf("%d metrics are left after Close", len(m))
	}
	open(t, journal.Config{Dir: dir, Registerer: one})
}

func TestKeyValue(t *testing.T) {
	t.Parallel()
	j := open(t, journal.Config{})
	kv, err := j.KeyValue(t.Context(), "settings", 2)
	if err != nil {
		t.Fatal(err)
	}
	w, err := kv.WatchAll(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	next := func() jetstream.KeyValueEntry {
		t.Helper()
		select {
		case e := <-w.Updates():
			return e
		case <-time.After(time.Minute):
			t.Fatal("the watch is silent")
			return nil
		}
	}
	if e := next(); e != nil {
		t.Errorf("a new bucket has %s", e.Key())
	}
	rev, err := kv.Create(t.Context(), "project.p1", []byte("one"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Create(t.Context(), "project.p1", nil); !errors.Is(err, jetstream.ErrKeyExists) {
		t.Errorf("made twice: %v", err)
	}
	says := func(op jetstream.KeyValueOp, value string) {
		t.Helper()
		if e := next(); e == nil || e.Operation() != op || string(e.Value()) != value {
			t.Errorf("watch says %v, want %v %s", e, op, value)
		}
	}
	says(jetstream.KeyValuePut, "one")
	if _, err := kv.Update(t.Context(), "project.p1", []byte("two"), rev); err != nil {
		t.Fatal(err)
	}
	says(jetstream.KeyValuePut, "two")
	if _, err := kv.Update(t.Context(), "project.p1", []byte("late"), rev); err == nil {
		t.Error("an update of an old revision is taken")
	}
	if err := kv.Delete(t.Context(), "project.p1"); err != nil {
		t.Fatal(err)
	}
	says(jetstream.KeyValueDelete, "")
	// Opened again it is the same bucket, with another depth if requested.
	for _, history := range []uint8{2, 5} {
		again, err := j.KeyValue(t.Context(), "settings", history)
		if err != nil {
			t.Fatal(err)
		}
		if st, err := again.Status(t.Context()); err != nil || st.History() != int64(history) {
			t.Errorf("history %v, %v", st, err)
		}
		if h, err := again.History(t.Context(), "project.p1"); err != nil || len(h) != 2 {
			t.Errorf("%d revisions, %v", len(h), err)
		}
	}
	if _, err := j.KeyValue(t.Context(), "not a bucket", 1); err == nil {
		t.Error("a bucket with blanks in its name")
	}
	// Events do not push settings out.
	if st, err := j.Stats(t.Context()); err != nil || st.Events != 0 {
		t.Errorf("%+v, %v", st, err)
	}
}

// TestExternalNATS uses the user's own server, through its restart.
func TestExternalNATS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := natsServer(t, dir, server.RANDOM_PORT)
	j := open(t, journal.Config{NATSURL: s.ClientURL(), AckTimeout: 2 * time.Second})
	j2 := open(t, journal.Config{NATSURL: s.ClientURL()}) // another replica of hedgerow
	q := mustQueue(t, j, "q", journal.QueueOptions{})
	q2 := mustQueue(t, j2, "q", journal.QueueOptions{})
	e := []*event.Event{newEvent("p1", 10), newEvent("p1", 8<<20-2000)}
	mustAppend(t, j2, e...)
	d := fetchN(t, q, 1)
	d2 := fetchN(t, q2, 1)
	if d[0].Event.UUID != e[0].UUID || d2[0].Event.UUID != e[1].UUID {
		t.Errorf("came %v and %v", uuids(d), uuids(d2))
	}
	ackAll(t, append(d, d2...))
	waitLag(t, j, "q", func(qi journal.QueueInfo) bool { return qi.AckPending == 0 && qi.Pending == 0 })

	fetched := make(chan []event.Delivery, 1)
	go func() { // a sink waits through the restart, and tries again as sinks do
		for {
			ds, err := q.Fetch(t.Context(), 1, 0)
			if err == nil || t.Context().Err() != nil {
				fetched <- ds
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	}()
	port := s.Addr().(*net.TCPAddr).Port
	s.Shutdown()
	s.WaitForShutdown()
	start := time.Now()
	err := j.Append(t.Context(), newEvent("p1", 10))
	if code := event.AsError(err).Code; err == nil || code != event.CodeUnavailable && code != event.CodeTimeout || time.Since(start) > 30*time.Second {
		t.Errorf("without a server: %v after %v", err, time.Since(start))
	}

	natsServer(t, dir, port)
	again := newEvent("p1", 10)
	for start = time.Now(); ; time.Sleep(50 * time.Millisecond) {
		if err = j2.Append(t.Context(), again); err == nil {
			break
		} else if time.Since(start) > 2*time.Minute {
			t.Fatal(err)
		}
	}
	select {
	case ds := <-fetched: // the one above may have got through
		if len(ds) != 1 {
			t.Errorf("came %v", uuids(ds))
		}
		ackAll(t, ds)
	case <-time.After(20 * time.Second):
		t.Error("the queue is silent after the server's restart")
	}
}

// TestBringBack restarts with open deliveries: they are redelivered
// immediately, before new events, and the queue's AckWait is unchanged.
func TestBringBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := journal.QueueOptions{AckWait: time.Hour}
	j, err := journal.Open(t.Context(), journal.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	q := mustQueue(t, j, "q", o)
	var want []string
	for range 5 {
		e := newEvent("p1", 100)
		want = append(want, e.UUID)
		mustAppend(t, j, e)
	}
	ds := fetchN(t, q, 4)
	ackAll(t, ds[:1])
	closeJournal(t, j)

	j = open(t, journal.Config{Dir: dir})
	begin := time.Now()
	q = mustQueue(t, j, "q", o)
	ds = fetchN(t, q, 4)
	if took := time.Since(begin); took > 5*time.Minute {
		t.Errorf("they came after %v", took)
	}
	var got []string
	for _, d := range ds {
		got = append(got, d.Event.UUID)
	}
	if !slices.Equal(got, want[1:]) {
		t.Errorf("%v came, want %v", got, want[1:])
	}
	// Opened again with the same AckWait, nothing is delivered twice.
	none(t, mustQueue(t, j, "q", o), 500*time.Millisecond)
}

// TestOpenedTwice: events that this process has fetched are not redelivered
// when it opens the queue again.
func TestOpenedTwice(t *testing.T) {
	t.Parallel()
	j := open(t, journal.Config{})
	o := journal.QueueOptions{AckWait: time.Hour}
	q := mustQueue(t, j, "q", o)
	mustAppend(t, j, newEvent("p1", 100))
	ds := fetchN(t, q, 1)
	none(t, mustQueue(t, j, "q", o), 500*time.Millisecond)
	ackAll(t, ds)
}
