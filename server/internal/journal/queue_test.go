package journal_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/journal"
)

// none fails if the queue delivers anything within wait.
func none(t *testing.T, q event.Queue, wait time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	ds, err := q.Fetch(ctx, 100, time.Millisecond)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%d deliveries, error %v; want none and the context's error", len(ds), err)
	}
}

func ackAll(t *testing.T, ds []event.Delivery) {
	t.Helper()
	for _, d := range ds {
		if err := d.Ack(); err != nil {
			t.Error(err)
		}
	}
}

func uuids(ds []event.Delivery) []string {
	var out []string
	for _, d := range ds {
		out = append(out, d.Event.UUID)
	}
	return out
}

// waitLag waits until ok accepts the queue's state: Ack returns before the
// acknowledgment is processed.
func waitLag(t *testing.T, j *journal.Journal, name string, ok func(journal.QueueInfo) bool) journal.QueueInfo {
	t.Helper()
	var qi journal.QueueInfo
	for range 500 {
		var err error
		if qi, err = j.Lag(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		if ok(qi) {
			return qi
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("queue %s stands at %+v", name, qi)
	return qi
}

func TestRedelivery(t *testing.T) {
	t.Parallel()
	j := open(t, journal.Config{})
	const ackWait = 900 * time.Millisecond // longer than pauses of a busy machine
	for _, c := range []struct {
		name   string
		end    func(event.Delivery) error
		after  time.Duration // it does not come before
		before time.Duration // it is redelivered before; 0: it does not come within ackWait*2
	}{
		{"Unended", func(event.Delivery) error { return nil }, ackWait - 20*time.Millisecond, 5 * time.Second},
		{"Ack", event.Delivery.Ack, 0, 0},
		{"RetryNow", func(d event.Delivery) error { return d.Retry(0) }, 0, ackWait},
		{"RetryNegative", func(d event.Delivery) error { return d.Retry(-time.Second) }, 0, ackWait},
		{"RetrySoon", func(d event.Delivery) error { return d.Retry(100 * time.Millisecond) }, 95 * time.Millisecond, ackWait},
		{"RetryLater", func(d event.Delivery) error { return d.Retry(700 * time.Millisecond) }, 690 * time.Millisecond, 5 * time.Second},
		{"Dead", func(d event.Delivery) error { return d.Dead("no use") }, 0, 0},
		{"Extend", func(d event.Delivery) error {
			for range 8 {
				time.Sleep(ackWait / 3)
				if err := d.Extend(); err != nil {
					return err
				}
			}
			return d.Ack()
		}, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			project := "p-" + c.name
			q := mustQueue(t, j, "q-"+c.name, journal.QueueOptions{Project: project, AckWait: ackWait})
			e := newEvent(project, 100)
			mustAppend(t, j, e)
			d := fetchN(t, q, 1)[0]
			if d.Attempt != 1 {
				t.Errorf("attempt %d", d.Attempt)
			}
			start := time.Now()
			if err := c.end(d); err != nil {
				t.Fatal(err)
			}
			if c.before == 0 {
				none(t, q, 2*ackWait)
				waitLag(t, j, q.Name(), func(qi journal.QueueInfo) bool { return qi.AckPending == 0 && qi.OldestUnacked == 0 })
				return
			}
			again := fetchN(t, q, 1)[0]
			took := time.Since(start)
			if again.Event.UUID != e.UUID || again.Attempt != 2 || again.Seq != d.Seq {
				t.Errorf("delivery %+v", again)
			}
			if took < c.after || took > c.before {
				t.Errorf("came again after %v, want between %v and %v", took, c.after, c.before)
			}
			ackAll(t, []event.Delivery{again})
		})
	}
}

func TestQueueFilters(t *testing.T) {
	t.Parallel()
	j := open(t, journal.Config{})
	old := []*event.Event{newEvent("p1", 10), newEvent("p2", 10)}
	mustAppend(t, j, old...)
	queues := map[string]*journal.Queue{
		"all":    mustQueue(t, j, "all", journal.QueueOptions{}),
		"p1":     mustQueue(t, j, "p1", journal.QueueOptions{Project: "p1"}),
		"now":    mustQueue(t, j, "now", journal.QueueOptions{From: journal.FromNow}),
		"p1-now": mustQueue(t, j, "p1-now", journal.QueueOptions{Project: "p1", From: journal.FromNow}),
	}
	// The lag is zero before the first event.
	for _, name := range []string{"now", "p1-now"} {
		if qi, err := j.Lag(t.Context(), name); err != nil || qi.Pending != 0 || qi.OldestUnacked != 0 {
			t.Errorf("lag %+v, %v", qi, err)
		}
	}
	fresh := []*event.Event{newEvent("p2", 10), newEvent("p1", 10)}
	mustAppend(t, j, fresh...)
	for name, want := range map[string][]*event.Event{
		"all":    {old[0], old[1], fresh[0], fresh[1]},
		"p1":     {old[0], fresh[1]},
		"now":    fresh,
		"p1-now": {fresh[1]},
	} {
		ds := fetchN(t, queues[name], len(want))
		for i, d := range ds {
			if d.Event.UUID != want[i].UUID {
				t.Errorf("%s: event %d is of project %s", name, i, d.Event.ProjectID)
			}
		}
		ackAll(t, ds)
		none(t, queues[name], 20*time.Millisecond)
	}

	// Options may change; the place stays.
	q := mustQueue(t, j, "p1", journal.QueueOptions{Project: "p2", AckWait: time.Second, MaxAckPending: 7, From: journal.FromNow})
	mustAppend(t, j, newEvent("p1", 10))
	e := newEvent("p2", 10)
	mustAppend(t, j, e)
	if ds := fetchN(t, q, 1); ds[0].Event.UUID != e.UUID {
		t.Errorf("came an event of %s", ds[0].Event.ProjectID)
	}
	waitLag(t, j, "p1", func(qi journal.QueueInfo) bool { return qi.Project == "p2" && qi.AckPending == 1 })
}

func TestMaxAckPending(t *testing.T) {
	t.Parallel()
	j := open(t, journal.Config{})
	q := mustQueue(t, j, "q", journal.QueueOptions{MaxAckPending: 3})
	for range 5 {
		mustAppend(t, j, newEvent("p1", 10))
	}
	ds := fetchN(t, q, 3)
	none(t, q, 50*time.Millisecond)
	if qi, err := j.Lag(t.Context(), "q"); err != nil || qi.AckPending != 3 || qi.Pending != 2 {
		t.Errorf("lag %+v, %v", qi, err)
	}
	// A retry that waits still counts.
	if err := ds[0].Retry(time.Hour); err != nil {
		t.Fatal(err)
	}
	none(t, q, 50*time.Millisecond)
	ackAll(t, ds[1:])
	ackAll(t, fetchN(t, q, 2))
	qi := waitLag(t, j, "q", func(qi journal.QueueInfo) bool { return qi.AckPending == 1 })
	if qi.OldestUnacked <= 0 || qi.OldestUnacked > time.Minute {
		t.Errorf("oldest is %v old", qi.OldestUnacked)
	}
}

// TestFetchBounds requests many and gets no more bytes than FetchBytes, but at
// least one event, and no more events than max.
func TestFetchBounds(t *testing.T) {
	t.Parallel()
	j := open(t, journal.Config{})
	q := mustQueue(t, j, "q", journal.QueueOptions{FetchBytes: 100_000})
	for _, size := range []int{30_000, 30_000, 30_000, 30_000, 300_000, 10_000, 10, 10, 10} {
		mustAppend(t, j, newEvent("p1", size))
	}
	var sizes []int
	for n := 0; n < 9; {
		ds, err := q.Fetch(t.Context(), 2+n%4, 50*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		sum := 0
		for _, d := range ds {
			sum += d.Bytes
		}
		if len(ds) > 2+n%4 || len(ds) > 1 && sum > 100_000 {
			t.Errorf("%d events of %d bytes", len(ds), sum)
		}
		n += len(ds)
		sizes = append(sizes, len(ds))
		ackAll(t, ds)
	}
	if len(sizes) > 7 {
		t.Errorf("fetches of %v: the bound holds back too much", sizes)
	}
	if _, err := q.Fetch(t.Context(), 0, 0); event.AsError(err).Code != event.CodeInvalid {
		t.Errorf("fetch of none: %v", err)
	}
}

// TestFetchWaits returns the available events after wait, and does not wait if
// it has max.
func TestFetchWaits(t *testing.T) {
	j := open(t, journal.Config{})
	q := mustQueue(t, j, "q", journal.QueueOptions{})
	mustAppend(t, j, newEvent("p1", 10), newEvent("p1", 10))
	start := time.Now()
	if ds, err := q.Fetch(t.Context(), 2, time.Hour); err != nil || len(ds) != 2 {
		t.Fatalf("%d deliveries, %v", len(ds), err)
	}
	if d := time.Since(start); d > time.Minute {
		t.Errorf("waited %v though it had all", d)
	}
	time.AfterFunc(50*time.Millisecond, func() { j.Append(context.Background(), newEvent("p1", 10)) })
	start = time.Now()
	ds, err := q.Fetch(t.Context(), 100, 100*time.Millisecond)
	if d := time.Since(start); err != nil || len(ds) != 1 || d < 140*time.Millisecond || d > time.Minute {
		t.Errorf("%d deliveries after %v, %v", len(ds), d, err)
	}
}

// TestFetchOnBusyMachine fetches large batches with too short a wait: none may be
// lost until AckWait.
func TestFetchOnBusyMachine(t *testing.T) {
	j := open(t, journal.Config{})
	q := mustQueue(t, j, "q", journal.QueueOptions{AckWait: 10 * time.Minute})
	batch := make([]*event.Event, 500)
	for i := range batch {
		batch[i] = newEvent("p1", 20_000)
	}
	const n = 2000
	for range n / len(batch) {
		mustAppend(t, j, batch...)
	}
	start := time.Now()
	for got := 0; got < n; {
		ds, err := q.Fetch(t.Context(), n, time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		got += len(ds)
		ackAll(t, ds)
	}
	if d := time.Since(start); d > 5*time.Minute {
		t.Errorf("took %v", d)
	}
}

func TestSharedQueue(t *testing.T) {
	t.Parallel()
	j := open(t, journal.Config{})
	const n = 500
	var mu sync.Mutex
	seen := make(map[string]int)
	got := make([]int, 2)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for w := range got {
		q := mustQueue(t, j, "shared", journal.QueueOptions{})
		wg.Go(func() {
			for {
				ds, err := q.Fetch(ctx, 10, time.Millisecond)
				if err != nil {
					if ctx.Err() == nil {
						t.Error(err)
					}
					return
				}
				ackAll(t, ds)
				mu.Lock()
				for _, d := range ds {
					seen[d.Event.UUID]++
				}
				got[w] += len(ds)
				if len(seen) == n {
					cancel()
				}
				mu.Unlock()
			}
		})
	}
	for range n / 10 {
		var batch []*event.Event
		for range 10 {
			batch = append(batch, newEvent("p1", 10))
		}
		mustAppend(t, j, batch...)
	}
	wg.Wait()
	if len(seen) != n || got[0]+got[1] != n || got[0] == 0 || got[1] == 0 {
		t.Errorf("%d events in %v deliveries", len(seen), got)
	}
}

// TestRestart closes a journal and opens it again: places, open deliveries and
// their attempts, dead letters and settings are as they were.
func TestRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	opts := journal.QueueOptions{AckWait: 2 * time.Second}
	var want []string
	func() {
		j := open(t, journal.Config{Dir: dir})
		q := mustQueue(t, j, "q", opts)
		mustQueue(t, j, "idle", journal.QueueOptions{From: journal.FromNow})
		for range 10 {
			mustAppend(t, j, newEvent("p1", 1000))
		}
		ds := fetchN(t, q, 7)
		ackAll(t, ds[:5])
		if err := ds[5].Dead("no use"); err != nil {
			t.Fatal(err)
		}
		want = append(want, ds[6].Event.UUID)
		kv, err := j.KeyValue(t.Context(), "settings", 3)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := kv.PutString(t.Context(), "k", "v"); err != nil {
			t.Fatal(err)
		}
		closeJournal(t, j)
	}()
	j := open(t, journal.Config{Dir: dir})
	q := mustQueue(t, j, "q", opts)
	ds := fetchN(t, q, 4) // one that was open, three that had not come
	i := slices.IndexFunc(ds, func(d event.Delivery) bool { return d.Event.UUID == want[0] })
	if i < 0 || ds[i].Attempt != 2 {
		t.Errorf("the delivery that was open is not among %v", uuids(ds))
	}
	ackAll(t, ds)
	none(t, q, 50*time.Millisecond)
	if ds := fetchN(t, mustQueue(t, j, "idle", journal.QueueOptions{From: journal.FromNow}), 10); len(ds) != 10 {
		t.Errorf("the idle queue has %d events", len(ds))
	}
	dead, err := j.DeadLetters(t.Context(), journal.DeadFilter{})
	if err != nil || len(dead) != 1 || dead[0].Reason != "no use" {
		t.Errorf("dead letters %+v, %v", dead, err)
	}
	kv, err := j.KeyValue(t.Context(), "settings", 3)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := kv.Get(t.Context(), "k"); err != nil || string(v.Value()) != "v" {
		t.Errorf("setting %v, %v", v, err)
	}
}

func TestDeleteQueue(t *testing.T) {
	j := open(t, journal.Config{})
	q := mustQueue(t, j, "q", journal.QueueOptions{})
	mustAppend(t, j, newEvent("p1", 10))
	fetchN(t, q, 1)
	waiting := make(chan error, 1)
	go func() {
		_, err := q.Fetch(context.Background(), 1, 0)
		waiting <- err
	}()
	waitLag(t, j, "q", func(qi journal.QueueInfo) bool { return j.Waiting(t.Context(), "q") == 1 })
	if err := j.DeleteQueue(t.Context(), "q"); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-waiting:
		wantError(t, err, event.CodeNotFound, "queue q does not exist any more")
	case <-time.After(time.Minute):
		t.Fatal("a waiting Fetch does not end")
	}
	_, err := q.Fetch(t.Context(), 1, 0)
	wantError(t, err, event.CodeNotFound, "queue q does not exist any more")
	for _, name := range []string{"q", "never", "not.a.name", ""} {
		wantError(t, j.DeleteQueue(t.Context(), name), event.CodeNotFound, "queue "+name+" not found")
		_, err := j.Lag(t.Context(), name)
		wantError(t, err, event.CodeNotFound, "queue "+name+" not found")
	}
	// It starts over.
	if ds := fetchN(t, mustQueue(t, j, "q", journal.QueueOptions{}), 1); ds[0].Attempt != 1 {
		t.Errorf("attempt %d", ds[0].Attempt)
	}
	for _, o := range []struct{ name, project string }{{"a.b", ""}, {"", ""}, {"a b", ""}, {"a*", ""}, {">", ""}, {"ä", ""}, {"../x", ""}, {"q", "a.b"}, {"q", ">"}} {
		_, err := j.Queue(t.Context(), o.name, journal.QueueOptions{Project: o.project})
		wantError(t, err, event.CodeInvalid, "malformed")
	}
}

func TestLag(t *testing.T) {
	t.Parallel()
	now := time.Now()
	var mu sync.Mutex
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	j := open(t, journal.Config{Now: clock})
	q := mustQueue(t, j, "b", journal.QueueOptions{Project: "p1"})
	mustQueue(t, j, "a", journal.QueueOptions{})
	for _, project := range []string{"p2", "p1", "p1", "p2"} {
		mustAppend(t, j, newEvent(project, 10))
	}
	mu.Lock()
	now = time.Now().Add(time.Hour)
	mu.Unlock()
	near := func(d time.Duration) bool { return d > 59*time.Minute && d < 61*time.Minute }
	qs, err := j.Queues(t.Context())
	if err != nil || len(qs) != 2 || qs[0].Name != "a" || qs[1].Name != "b" {
		t.Fatalf("queues %+v, %v", qs, err)
	}
	if qs[0].Pending != 4 || qs[0].Project != "" || !near(qs[0].OldestUnacked) || !qs[0].LastAck.IsZero() {
		t.Errorf("queue %+v", qs[0])
	}
	if qs[1].Pending != 2 || qs[1].Project != "p1" || !near(qs[1].OldestUnacked) {
		t.Errorf("queue %+v", qs[1])
	}
	ds := fetchN(t, q, 2)
	if err := ds[1].Retry(0); err != nil {
		t.Fatal(err)
	}
	ackAll(t, ds[:1])
	again := fetchN(t, q, 1)
	qi := waitLag(t, j, "b", func(qi journal.QueueInfo) bool { return qi.AckPending == 1 })
	if qi.Pending != 0 || qi.Redelivered != 1 || !near(qi.OldestUnacked) || qi.LastAck.IsZero() {
		t.Errorf("queue %+v", qi)
	}
	ackAll(t, again)
	waitLag(t, j, "b", func(qi journal.QueueInfo) bool {
		return qi.AckPending == 0 && qi.OldestUnacked == 0 && qi.Redelivered == 0
	})
}

func TestFetchContext(t *testing.T) {
	t.Parallel()
	j := open(t, journal.Config{})
	q := mustQueue(t, j, "q", journal.QueueOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := q.Fetch(ctx, 1, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	for _, wait := range []time.Duration{0, time.Nanosecond, time.Millisecond, 7 * time.Millisecond, 60 * time.Millisecond} {
		none(t, q, wait)
	}
	// A fetch that ends while collecting events returns those that it has.
	ctx, cancel = context.WithCancel(t.Context())
	mustAppend(t, j, newEvent("p1", 10))
	time.AfterFunc(100*time.Millisecond, cancel)
	start := time.Now()
	ds, err := q.Fetch(ctx, 100, time.Hour)
	if err != nil || len(ds) != 1 || time.Since(start) > time.Minute {
		t.Errorf("%d deliveries after %v, %v", len(ds), time.Since(start), err)
	}
}
