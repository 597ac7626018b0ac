package firstvalue_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/firstvalue"
)

// bucket is a key-value store in memory.
type bucket struct {
	mu       sync.Mutex
	values   map[string][]byte
	revision map[string]uint64
	last     uint64
	fail     string // the operation that fails
}

func newBucket() *bucket {
	return &bucket{values: make(map[string][]byte), revision: make(map[string]uint64)}
}

var errBucket = errors.New("no bucket")

func (b *bucket) Create(_ context.Context, key string, value []byte) (uint64, bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail == "create" {
		return 0, false, errBucket
	}
	if b.values[key] != nil {
		return 0, false, nil
	}
	return b.put(key, value), true, nil
}

func (b *bucket) Get(_ context.Context, key string) ([]byte, uint64, bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail == "get" {
		return nil, 0, false, errBucket
	}
	v := b.values[key]
	return v, b.revision[key], v != nil, nil
}

func (b *bucket) Update(_ context.Context, key string, value []byte, revision uint64) (uint64, bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail == "update" {
		return 0, false, errBucket
	}
	if b.revision[key] != revision {
		return 0, false, nil
	}
	return b.put(key, value), true, nil
}

func (b *bucket) put(key string, value []byte) uint64 {
	b.last++
	b.values[key], b.revision[key] = value, b.last
	return b.last
}

func (b *bucket) setFail(op string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fail = op
}

// fakeJournal stands for the journal.
type fakeJournal struct {
	mu     sync.Mutex
	calls  int
	events []event.Event
	err    error
	delay  time.Duration
}

func (k *fakeJournal) Append(_ context.Context, events ...*event.Event) error {
	time.Sleep(k.delay)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.calls++
	if k.err != nil {
		return k.err
	}
	for _, e := range events {
		k.events = append(k.events, *e)
	}
	return nil
}

func (k *fakeJournal) uuids() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []string
	for _, e := range k.events {
		out = append(out, e.UUID[len(e.UUID)-1:])
	}
	return strings.Join(out, " ")
}

var at = time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)

// report is a report of user u's milestone, told apart by its uuid's end.
func report(end, project, user string) *event.Event {
	return &event.Event{UUID: "0195c0de-7000-7000-8000-00000000000" + end, ProjectID: project, Name: event.FirstValue, DistinctID: user, Timestamp: at.Add(time.Duration(end[0]) * time.Second)}
}

func TestOnce(t *testing.T) {
	k := &fakeJournal{}
	o := &firstvalue.Deduplicator{Claims: newBucket(), Next: k}
	first, again := report("1", "p", "u"), report("2", "p", "u")
	for _, e := range []*event.Event{first, again, report("3", "q", "u"), report("4", "p", "v"), report("5", "p", "v"), report("6", "p", ""), report("7", "p", "")} {
		if err := o.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	if got := k.uuids(); got != "1 3 4 6 7" {
		t.Errorf("kept %s, want one a user and project, and those without a user", got)
	}
	if again.UUID != first.UUID || !again.Timestamp.Equal(first.Timestamp) {
		t.Error("the second report does not say which one is kept")
	}
}

// Among others, in one call: they keep their order and come first.
func TestOnceInABatch(t *testing.T) {
	k := &fakeJournal{}
	o := &firstvalue.Deduplicator{Claims: newBucket(), Next: k}
	other := func(end string) *event.Event { e := report(end, "p", "u"); e.Name = "prompt_shared"; return e }
	if err := o.Append(t.Context(), other("1"), report("2", "p", "u"), other("3"), report("4", "p", "u"), report("5", "p", "v")); err != nil {
		t.Fatal(err)
	}
	if got := k.uuids(); got != "1 3 2 5" || k.calls != 3 {
		t.Errorf("kept %s in %d calls", got, k.calls)
	}
	if err := o.Append(t.Context(), other("6"), other("7")); err != nil || k.calls != 4 {
		t.Errorf("%v, %d calls", err, k.calls)
	}
	k.err = errors.New("full")
	if err := o.Append(t.Context(), other("8"), report("9", "p", "w")); err == nil {
		t.Error("an error of the journal is lost")
	}
	k.err = nil
	if err := o.Append(t.Context(), other("8"), report("9", "p", "w")); err != nil || k.uuids() != "1 3 2 5 6 7 8 9" {
		t.Errorf("%v, kept %s", err, k.uuids())
	}
}

// What could not be stored is stored by the next report, under the first one's
// uuid and time: should the journal have it after all, both are one.
func TestOnceAfterAFailedAppend(t *testing.T) {
	k := &fakeJournal{err: errors.New("full")}
	o := &firstvalue.Deduplicator{Claims: newBucket(), Next: k}
	if err := o.Append(t.Context(), report("1", "p", "u")); err == nil {
		t.Fatal("no error")
	}
	if err := o.Append(t.Context(), report("2", "p", "u")); err == nil {
		t.Fatal("no error")
	}
	k.err = nil
	if err := o.Append(t.Context(), report("3", "p", "u")); err != nil {
		t.Fatal(err)
	}
	if err := o.Append(t.Context(), report("4", "p", "u")); err != nil {
		t.Fatal(err)
	}
	if len(k.events) != 1 || k.uuids() != "1" || !k.events[0].Timestamp.Equal(report("1", "p", "u").Timestamp) {
		t.Errorf("kept %s", k.uuids())
	}
	// What nobody can store must not be claimed.
	bad := report("5", "p", strings.Repeat("x", 300))
	if err := o.Append(t.Context(), bad); event.AsError(err).Code != event.CodeInvalid {
		t.Errorf("got %v", err)
	}
}

// A report that comes while another is being stored succeeds only after it.
func TestOnceWaitsForTheHolder(t *testing.T) {
	for _, fails := range []bool{false, true} {
		t.Run(fmt.Sprintf("holder fails %t", fails), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBucket()
				slow := &fakeJournal{delay: time.Second}
				if fails {
					slow.err = errors.New("full")
				}
				quick := &fakeJournal{}
				done := make(chan error, 1)
				go func() {
					done <- (&firstvalue.Deduplicator{Claims: b, Next: slow}).Append(t.Context(), report("1", "p", "u"))
				}()
				synctest.Wait()
				start := time.Now()
				if err := (&firstvalue.Deduplicator{Claims: b, Next: quick}).Append(t.Context(), report("2", "p", "u")); err != nil {
					t.Fatal(err)
				}
				if d := time.Since(start); d < time.Second || d > 1100*time.Millisecond {
					t.Errorf("the other report took %v", d)
				}
				if err := <-done; (err != nil) != fails {
					t.Errorf("the first report: %v", err)
				}
				if got := slow.uuids() + quick.uuids(); got != "1" {
					t.Errorf("kept %q", got)
				}
			})
		})
	}
}

// After a crash between the claim and its end, the next report decides. Clocks of
// replicas may differ.
func TestOnceAfterACrash(t *testing.T) {
	for _, skew := range []time.Duration{0, -time.Hour, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			b, k := newBucket(), &fakeJournal{}
			dead := &firstvalue.Deduplicator{Claims: b, Next: &fakeJournal{delay: 1000 * time.Hour}} // never gets to its end
			go func() { _ = dead.Append(context.Background(), report("1", "p", "u")) }()
			synctest.Wait()
			o := &firstvalue.Deduplicator{Claims: b, Next: k, Now: func() time.Time { return time.Now().Add(skew) }}
			start := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if err := o.Append(ctx, report("2", "p", "u")); skew <= 0 && event.AsError(err).Code != event.CodeTimeout {
				t.Errorf("skew %v, within the lease: %v", skew, err)
			}
			for _, end := range []string{"3", "4"} {
				if err := o.Append(t.Context(), report(end, "p", "u")); err != nil {
					t.Fatal(err)
				}
			}
			if d := time.Since(start); d > 6100*time.Millisecond {
				t.Errorf("skew %v: took %v", skew, d)
			}
			if got := k.uuids(); got != "1" {
				t.Errorf("skew %v: kept %q, want the first report's uuid once", skew, got)
			}
			time.Sleep(1001 * time.Hour) // the dead one wakes up: nothing changes
			synctest.Wait()
			if err := o.Append(t.Context(), report("5", "p", "u")); err != nil || k.uuids() != "1" {
				t.Errorf("%v, kept %q", err, k.uuids())
			}
		})
	}
}

func TestOnceWithoutItsBucket(t *testing.T) {
	b, k := newBucket(), &fakeJournal{}
	o := &firstvalue.Deduplicator{Claims: b, Next: k}
	b.setFail("create")
	err := o.Append(t.Context(), report("1", "p", "u"))
	if event.AsError(err).Code != event.CodeUnavailable || k.calls != 0 {
		t.Errorf("%v, %d calls", err, k.calls)
	}
	b.setFail("update") // stored, and not noted
	if err := o.Append(t.Context(), report("1", "p", "u")); err != nil {
		t.Fatal(err)
	}
	b.setFail("get")
	if err := o.Append(t.Context(), report("2", "p", "u")); event.AsError(err).Code != event.CodeUnavailable {
		t.Errorf("%v", err)
	}
	b.setFail("")
	o.Now = func() time.Time { return time.Now().Add(time.Minute) }
	if err := o.Append(t.Context(), report("3", "p", "u")); err != nil || k.uuids() != "1 1" {
		t.Errorf("%v, kept %q: again, under the same uuid", err, k.uuids())
	}
	if !k.events[0].Timestamp.Equal(k.events[1].Timestamp) {
		t.Error("with another time")
	}
	b.put(firstvalue.ClaimKey("p", "w"), []byte("{damaged"))
	if err := o.Append(t.Context(), report("4", "p", "w")); err != nil || k.uuids() != "1 1 4" {
		t.Errorf("%v, kept %q", err, k.uuids())
	}
}

func TestClaimKey(t *testing.T) {
	a := firstvalue.ClaimKey("p", "ann@example.com")
	if strings.Contains(a, "ann") || !strings.HasPrefix(a, "p.") || a == firstvalue.ClaimKey("q", "ann@example.com") || a == firstvalue.ClaimKey("p", "bob") {
		t.Errorf("key %s", a)
	}
}
