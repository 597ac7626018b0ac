package journal_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/health"
	"github.com/hedgerow/hedgerow/server/internal/journal"
)

// fill appends until the journal is full and returns how many events it stored.
func fill(t *testing.T, j *journal.Journal, size int) int {
	t.Helper()
	for n := range 10_000 {
		err := j.Append(t.Context(), newEvent("p1", size))
		if err == nil {
			continue
		}
		wantError(t, err, event.CodeFull, "the journal is full: its bound is 2 MiB")
		return n
	}
	t.Fatal("the journal never refuses")
	return 0
}

// waitAppend waits until the journal takes events again.
func waitAppend(t *testing.T, j *journal.Journal, within time.Duration) {
	t.Helper()
	start := time.Now()
	for {
		err := j.Append(t.Context(), newEvent("p1", 20_000))
		if err == nil {
			return
		}
		if event.AsError(err).Code != event.CodeFull {
			t.Fatal(err)
		}
		if time.Since(start) > within {
			t.Fatalf("still refused after %v: %v", within, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// TestFull fills the journal: it rejects events, drops nothing, and accepts
// events again once the slowest queue has advanced, long before the janitor's
// tick.
func TestFull(t *testing.T) {
	t.Parallel()
	j := open(t, journal.Config{MaxBytes: 2 << 20, JanitorEvery: time.Hour})
	slow := mustQueue(t, j, "slow", journal.QueueOptions{})
	fast := mustQueue(t, j, "fast", journal.QueueOptions{})
	other := mustQueue(t, j, "other", journal.QueueOptions{Project: "p2"}) // waits for nothing that is here
	n := fill(t, j, 20_000)
	st, err := j.Stats(t.Context())
	if err != nil || st.Fill() < 0.95 || st.Fill() > 1 || st.Events != uint64(n) || st.MaxBytes != 2<<20 {
		t.Fatalf("%d appended; %+v, %v", n, st, err)
	}
	// A batch that fits in part is stored in part, and the error lists the
	// rest.
	batch := []*event.Event{newEvent("p1", 10), newEvent("p1", 1<<20), newEvent("p1", 10)}
	err = j.Append(t.Context(), batch...)
	var ae *journal.AppendError
	if !errors.As(err, &ae) || len(ae.Failed) != 1 || ae.Failed[0].Index != 1 || ae.Failed[0].Err.Code != event.CodeFull {
		t.Fatalf("error %v", err)
	}

	ackAll(t, fetchN(t, fast, n+2))
	waitLag(t, j, "fast", func(qi journal.QueueInfo) bool { return qi.AckPending == 0 })
	if err := j.Clean(t.Context()); err != nil {
		t.Fatal(err)
	}
	// One sink has not received them: they are kept, and the journal rejects
	// events.
	wantError(t, j.Append(t.Context(), newEvent("p1", 1<<20)), event.CodeFull, "full")
	ds := fetchN(t, slow, n/2)
	ackAll(t, ds)
	waitAppend(t, j, time.Minute)
	rest := fetchN(t, slow, n-n/2+2+1)
	if rest[0].Seq != uint64(n/2+1) {
		t.Errorf("the slow queue goes on at %d, want %d", rest[0].Seq, n/2+1)
	}
	ackAll(t, rest)
	none(t, other, 10*time.Millisecond)

	// Deleting the slowest frees as well.
	fill(t, j, 20_000)
	for _, q := range []string{"slow", "other"} {
		if err := j.DeleteQueue(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	lag, err := j.Lag(t.Context(), "fast")
	if err != nil {
		t.Fatal(err)
	}
	ackAll(t, fetchN(t, fast, int(lag.Pending)))
	waitAppend(t, j, time.Minute)

	// Without any queue nothing is deleted.
	if err := j.DeleteQueue(t.Context(), "fast"); err != nil {
		t.Fatal(err)
	}
	fill(t, j, 20_000)
	before, _ := j.Stats(t.Context())
	if err := j.Clean(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after, _ := j.Stats(t.Context()); after.Events != before.Events {
		t.Errorf("%d events of %d are left", after.Events, before.Events)
	}
}

// TestFullReplay leaves a dead letter where it is when its journal is full.
func TestFullReplay(t *testing.T) {
	j := open(t, journal.Config{MaxBytes: 2 << 20, JanitorEvery: time.Hour})
	q := mustQueue(t, j, "q", journal.QueueOptions{})
	mustAppend(t, j, newEvent("p1", 200_000))
	if err := fetchN(t, q, 1)[0].Dead("no use"); err != nil {
		t.Fatal(err)
	}
	fill(t, j, 20_000)
	if err := j.Clean(t.Context()); err != nil {
		t.Fatal(err)
	}
	fill(t, j, 20_000) // where the dead one had been
	n, err := j.Replay(t.Context(), journal.DeadFilter{})
	wantError(t, err, event.CodeFull, "the journal is full")
	if dead, err := j.DeadLetters(t.Context(), journal.DeadFilter{}); n != 0 || err != nil || len(dead) != 1 {
		t.Errorf("%d replayed, %d left, %v", n, len(dead), err)
	}
}

// TestLagHolds makes one sink lag at an event in the middle: everything from it
// on is kept, older events are deleted.
func TestLagHolds(t *testing.T) {
	t.Parallel()
	j := open(t, journal.Config{Keep: -1, JanitorEvery: time.Hour})
	q := mustQueue(t, j, "q", journal.QueueOptions{})
	mustQueue(t, j, "p2", journal.QueueOptions{Project: "p2", From: journal.FromNow})
	now := mustQueue(t, j, "idle", journal.QueueOptions{Project: "p3", From: journal.FromNow})
	for range 10 {
		mustAppend(t, j, newEvent("p1", 100))
	}
	first := func(want uint64) {
		t.Helper()
		if err := j.Clean(t.Context()); err != nil {
			t.Fatal(err)
		}
		if st, err := j.Stats(t.Context()); err != nil || st.FirstSeq != want {
			t.Errorf("the oldest event is %d, want %d (%v)", st.FirstSeq, want, err)
		}
	}
	first(1)
	ds := fetchN(t, q, 10)
	ackAll(t, append(append([]event.Delivery(nil), ds[:4]...), ds[5:]...)) // all but the fifth
	waitLag(t, j, "q", func(qi journal.QueueInfo) bool { return qi.AckPending == 1 })
	first(5)
	ackAll(t, ds[4:5])
	waitLag(t, j, "q", func(qi journal.QueueInfo) bool { return qi.AckPending == 0 })
	first(11)
	mustAppend(t, j, newEvent("p2", 10), newEvent("p1", 10))
	ackAll(t, fetchN(t, q, 2))
	waitLag(t, j, "q", func(qi journal.QueueInfo) bool { return qi.AckPending == 0 })
	first(11) // p2 has not had it
	if st, err := j.Stats(t.Context()); err != nil || st.Events != 2 || st.LastSeq != 12 {
		t.Errorf("%+v, %v", st, err)
	}
	none(t, now, 10*time.Millisecond)
}

// TestKeep drops acknowledged events by age and by size, and lets a new queue
// begin with those that are kept.
func TestKeep(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var ahead time.Duration
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return time.Now().Add(ahead) }
	j := open(t, journal.Config{Keep: time.Hour, MaxBytes: 64 << 20, KeepBytes: 2 << 20, JanitorEvery: time.Hour, Now: clock})
	q := mustQueue(t, j, "q", journal.QueueOptions{})
	count := func() uint64 {
		t.Helper()
		if err := j.Clean(t.Context()); err != nil {
			t.Fatal(err)
		}
		st, err := j.Stats(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return st.Events
	}
	consume := func(n, size int) {
		t.Helper()
		for range n {
			mustAppend(t, j, newEvent("p1", size))
		}
		ackAll(t, fetchN(t, q, n))
		waitLag(t, j, "q", func(qi journal.QueueInfo) bool { return qi.AckPending == 0 })
	}
	consume(10, 1000)
	if n := count(); n != 10 {
		t.Errorf("%d of 10 events are kept", n)
	}
	if ds := fetchN(t, mustQueue(t, j, "new", journal.QueueOptions{}), 10); len(ds) != 10 {
		t.Errorf("a new queue has %d", len(ds))
	}
	if err := j.DeleteQueue(t.Context(), "new"); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	ahead = 2 * time.Hour
	mu.Unlock()
	if n := count(); n != 0 {
		t.Errorf("%d events are kept beyond their time", n)
	}
	mu.Lock()
	ahead = 0
	mu.Unlock()
	consume(100, 100_000) // 10 MB where 2 MiB are kept
	if n := count(); n < 10 || n > 70 {
		t.Errorf("%d events are kept of 100", n)
	}
}

// TestJanitorRuns frees on its own at its tick.
func TestJanitorRuns(t *testing.T) {
	j := open(t, journal.Config{Keep: -1, JanitorEvery: 10 * time.Millisecond})
	q := mustQueue(t, j, "q", journal.QueueOptions{})
	mustAppend(t, j, newEvent("p1", 10), newEvent("p1", 10))
	ackAll(t, fetchN(t, q, 2))
	for range 500 {
		if st, err := j.Stats(t.Context()); err != nil {
			t.Fatal(err)
		} else if st.Events == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("the events are still there")
}

// TestMuchAppended triggers the janitor long before its tick: blocks that every
// queue has ended use memory until they are deleted.
func TestMuchAppended(t *testing.T) {
	t.Parallel()
	j := open(t, journal.Config{Keep: -1, JanitorEvery: time.Hour})
	q := mustQueue(t, j, "q", journal.QueueOptions{})
	const n, size = 40, 1 << 20
	for range n {
		mustAppend(t, j, newEvent("p1", size))
		ackAll(t, fetchN(t, q, 1))
	}
	for range 500 {
		mustAppend(t, j, newEvent("p1", size)) // triggers another check
		ackAll(t, fetchN(t, q, 1))
		st, err := j.Stats(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if st.FirstSeq > n {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("nothing was purged")
}

// TestGaps: a delivery queue that lags far does not stop recording. It drops the
// oldest events that the store has ended, records them as a gap, and can get them
// again; the store's own queue drops nothing.
func TestGaps(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := journal.Config{Dir: dir, MaxBytes: 2 << 20, JanitorEvery: time.Hour, Keep: -1, Essential: []string{"store"}}
	j := open(t, c)
	store := mustQueue(t, j, "store", journal.QueueOptions{})
	mustQueue(t, j, "slow", journal.QueueOptions{Project: "p1"})
	mustQueue(t, j, "other", journal.QueueOptions{Project: "p2"})
	var ids []string
	send := func(n int) {
		t.Helper()
		for range n {
			e := newEvent("p1", 20_000)
			for start := time.Now(); ; time.Sleep(5 * time.Millisecond) {
				err := j.Append(t.Context(), e)
				if err == nil {
					break
				}
				if event.AsError(err).Code != event.CodeFull || time.Since(start) > 20*time.Second {
					t.Fatal(err)
				}
			}
			ids = append(ids, e.UUID)
			ackAll(t, fetchN(t, store, 1))
		}
	}
	send(300) // three times the bound
	st, err := j.Stats(t.Context())
	if err != nil || st.Fill() > 1 || st.Fill() < 0.5 {
		t.Errorf("fill %v, %v", st.Fill(), err)
	}
	gaps, err := j.Gaps(t.Context())
	if err != nil || len(gaps) != 1 {
		t.Fatalf("gaps %+v, %v", gaps, err)
	}
	g := gaps[0]
	left := 300 - int(g.ToSeq)
	if g.Queue != "slow" || g.Project != "p1" || g.FromSeq != 1 || g.Events != g.ToSeq || left < 50 || left > 100 || g.First.After(g.Last) || g.First.IsZero() {
		t.Errorf("gap %+v", g)
	}
	if h := j.Health(); h.Status != health.Degraded || !strings.Contains(h.Message, "the queue slow skipped about ") {
		t.Errorf("health %+v", h)
	}
	closeJournal(t, j)
	j = open(t, c)
	if again, err := j.Gaps(t.Context()); err != nil || len(again) != 1 || again[0].Events != g.Events || !again[0].First.Equal(g.First) {
		t.Errorf("gaps %+v, %v", again, err)
	}
	if h := j.Health(); h.Status != health.Degraded {
		t.Errorf("health %+v", h)
	}
	store = mustQueue(t, j, "store", journal.QueueOptions{})
	slow := mustQueue(t, j, "slow", journal.QueueOptions{Project: "p1"})
	ds := fetchN(t, slow, left)
	if ds[0].Event.UUID != ids[g.ToSeq] {
		t.Errorf("the queue goes on with another event than the one after the gap")
	}
	ackAll(t, ds)
	waitLag(t, j, "slow", func(qi journal.QueueInfo) bool { return qi.AckPending == 0 && qi.Pending == 0 })

	// Dropped events are redelivered to that queue alone.
	e := newEvent("p1", 100)
	if err := j.Redeliver(t.Context(), "slow", e); err != nil {
		t.Fatal(err)
	}
	if d := fetchN(t, slow, 1)[0]; d.Event.UUID != e.UUID || !d.Resent || ds[0].Resent {
		t.Errorf("came %s, resent: %t, and before: %t", d.Event.UUID, d.Resent, ds[0].Resent)
	} else {
		ackAll(t, []event.Delivery{d})
	}
	none(t, store, 10*time.Millisecond)
	wantError(t, j.Redeliver(t.Context(), "nobody", e), event.CodeNotFound, "queue nobody not found")
	g.Sending, g.Sent = true, 1
	if err := j.NoteGap(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	if again, err := j.Gaps(t.Context()); err != nil || len(again) != 1 || !again[0].Sending || again[0].Sent != 1 {
		t.Errorf("gaps %+v, %v", again, err)
	}
	if h := j.Health(); h.Status != health.Degraded || !strings.Contains(h.Hint, "being resent") {
		t.Errorf("health %+v", h)
	}
	if err := j.CloseGap(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	wantError(t, j.NoteGap(t.Context(), g), event.CodeNotFound, "gap not found")
	wantError(t, j.CloseGap(t.Context(), g), event.CodeNotFound, "gap not found")
	if gaps, err := j.Gaps(t.Context()); err != nil || len(gaps) != 0 {
		t.Errorf("gaps %+v, %v", gaps, err)
	}
	if h := j.Health(); h.Status != health.OK {
		t.Errorf("health %+v", h)
	}

	// A lagging store drops nothing: the journal is full.
	n := fill(t, j, 20_000)
	if err := j.Clean(t.Context()); err != nil { // ended events
		t.Fatal(err)
	}
	n += fill(t, j, 20_000)
	if err := j.Clean(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantError(t, j.Append(t.Context(), newEvent("p1", 1<<20)), event.CodeFull, "full")
	ackAll(t, fetchN(t, store, n))
	waitAppend(t, j, time.Minute)
	if err := j.DeleteQueue(t.Context(), "slow"); err != nil {
		t.Fatal(err)
	}
	if gaps, err := j.Gaps(t.Context()); err != nil || len(gaps) != 0 {
		t.Errorf("gaps %+v, %v", gaps, err)
	}
}
