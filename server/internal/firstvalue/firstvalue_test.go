package firstvalue_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
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

var at = time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)

// report is a report of user u's milestone, identified by its uuid's end.
func report(end, project, user string) *event.Event {
	return &event.Event{UUID: "0195c0de-7000-7000-8000-00000000000" + end, ProjectID: project, Name: event.FirstValue, DistinctID: user, Timestamp: at.Add(time.Duration(end[0]) * time.Second)}
}

// keep asks about events, as a reader of the journal does, and returns the ends of
// the uuids of those that are kept.
func keep(t *testing.T, k *firstvalue.Deduplicator, events ...*event.Event) string {
	t.Helper()
	var out []string
	for _, e := range events {
		ok, err := k.Accept(t.Context(), e)
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			out = append(out, e.UUID[len(e.UUID)-1:])
		}
	}
	return strings.Join(out, " ")
}

// The first report of each user and project is kept, by every reader and however
// often it comes; what has no user, and every other event, is kept always.
func TestOnce(t *testing.T) {
	b := newBucket()
	other := report("8", "p", "u")
	other.Name = "prompt_shared"
	journal := func() []*event.Event {
		return []*event.Event{report("1", "p", "u"), report("2", "p", "u"), report("3", "q", "u"), report("4", "p", "v"), report("5", "p", "v"), report("1", "p", "u"), report("6", "p", ""), report("7", "p", ""), other}
	}
	for _, reader := range []string{"the store", "a connection", "after a restart"} {
		if got := keep(t, firstvalue.NewDeduplicator(b), journal()...); got != "1 3 4 1 6 7 8" {
			t.Errorf("%s keeps %s", reader, got)
		}
	}
	if got := len(b.values); got != 3 {
		t.Errorf("%d claims, want one a user and project", got)
	}
}

// A report that its client sends again, dated otherwise, keeps the time of the claim.
func TestOnceHasOneTime(t *testing.T) {
	k := firstvalue.NewDeduplicator(newBucket())
	again := report("1", "p", "u")
	again.Timestamp = at.Add(time.Hour)
	if got := keep(t, k, report("1", "p", "u"), again); got != "1 1" || !again.Timestamp.Equal(report("1", "p", "u").Timestamp) {
		t.Errorf("kept %s, at %v", got, again.Timestamp)
	}
}

// What versions before left in the bucket: a milestone that the journal has, and
// claims of processes that died, or failed, before they knew whether it has.
func TestOnceAfterACrash(t *testing.T) {
	claimed := func(end, state string) []byte {
		r := report(end, "p", "u")
		return fmt.Appendf(nil, `{"uuid":%q,"timestamp":%q,"state":%q,"at":"2026-03-01T12:00:00Z"}`, r.UUID, r.Timestamp.Format(time.RFC3339Nano), state)
	}
	for name, c := range map[string]struct {
		value []byte
		want  string // of the reports 1, 2, 3 and 2 again, by two readers
	}{
		"done":                         {claimed("1", "done"), "1"},
		"done, its report is gone":     {claimed("9", "done"), ""},
		"held, the journal has it":     {claimed("1", "held"), "1"},
		"held, the journal has it not": {claimed("9", "held"), "9"},
		"free":                         {claimed("9", "free"), "9"},
		"damaged":                      {[]byte("{damaged"), "1"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBucket()
			b.put(firstvalue.ClaimKey("p", "u"), c.value)
			for range 2 {
				events := []*event.Event{report("1", "p", "u"), report("2", "p", "u"), report("3", "p", "u"), report("2", "p", "u")}
				if got := keep(t, firstvalue.NewDeduplicator(b), events...); got != c.want {
					t.Errorf("kept %q, want %q", got, c.want)
				}
				if c.want != "" && !events[0].Timestamp.Equal(report(c.want, "p", "u").Timestamp) {
					t.Errorf("kept at %v, want the claim's time", events[0].Timestamp)
				}
			}
		})
	}
}

// While the bucket cannot be reached nothing is decided.
func TestOnceWithoutItsBucket(t *testing.T) {
	b := newBucket()
	k := firstvalue.NewDeduplicator(b)
	b.put(firstvalue.ClaimKey("p", "w"), []byte("{damaged"))
	for op, user := range map[string]string{"get": "u", "create": "u", "update": "w"} {
		b.setFail(op)
		e := report("1", "p", user)
		if ok, err := k.Accept(t.Context(), e); ok || event.AsError(err).Code != event.CodeUnavailable || !errors.Is(err, errBucket) {
			t.Errorf("%s: %v, %v", op, ok, err)
		}
		other := report("2", "p", user)
		other.Name = "prompt_shared"
		if ok, err := k.Accept(t.Context(), other); !ok || err != nil {
			t.Errorf("%s: another event: %v, %v", op, ok, err)
		}
	}
	b.setFail("")
	if got := keep(t, k, report("1", "p", "u"), report("2", "p", "u"), report("3", "p", "w")); got != "1 3" {
		t.Errorf("kept %s", got)
	}
}

// Of many readers at once one claims, and all agree.
func TestOnceConcurrently(t *testing.T) {
	b := newBucket()
	var mu sync.Mutex
	kept := make(map[string]bool)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 9 {
				e := report(fmt.Sprint(i), "p", "u")
				ok, err := firstvalue.NewDeduplicator(b).Accept(t.Context(), e)
				if err != nil {
					t.Error(err)
				}
				if ok {
					mu.Lock()
					kept[e.UUID] = true
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	if len(kept) != 1 {
		t.Errorf("kept %v", kept)
	}
}

func TestClaimKey(t *testing.T) {
	a := firstvalue.ClaimKey("p", "ann@example.com")
	if strings.Contains(a, "ann") || !strings.HasPrefix(a, "p.") || a == firstvalue.ClaimKey("q", "ann@example.com") || a == firstvalue.ClaimKey("p", "bob") {
		t.Errorf("key %s", a)
	}
}
