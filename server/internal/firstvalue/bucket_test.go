package firstvalue_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/firstvalue"
	"github.com/hedgerow/hedgerow/server/internal/journal"
)

// flaky fails every so often, sometimes after the journal has the events.
type flaky struct {
	next   firstvalue.Appender
	before float64
	after  float64
}

var errFlaky = errors.New("no answer")

func (f flaky) Append(ctx context.Context, events ...*event.Event) error {
	if rand.Float64() < f.before {
		return errFlaky
	}
	if err := f.next.Append(ctx, events...); err != nil {
		return err
	}
	if rand.Float64() < f.after {
		return errFlaky
	}
	return nil
}

func openJournal(t *testing.T, c journal.Config) *journal.Journal {
	t.Helper()
	j, err := journal.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close(context.Background()) })
	return j
}

func onceOver(t *testing.T, j *journal.Journal, next firstvalue.Appender) *firstvalue.Deduplicator {
	t.Helper()
	kv, err := j.KeyValue(t.Context(), firstvalue.Bucket, 1)
	if err != nil {
		t.Fatal(err)
	}
	return &firstvalue.Deduplicator{Claims: firstvalue.ClaimsIn(kv), Next: next}
}

// milestones reads the whole journal: by user, the frames and the envelopes.
func milestones(t *testing.T, j *journal.Journal) (frames map[string]int, envelopes map[string]map[string]bool) {
	t.Helper()
	q, err := j.Queue(t.Context(), "milestones", journal.QueueOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := j.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	frames, envelopes = make(map[string]int), make(map[string]map[string]bool)
	for n := uint64(0); n < s.Events; {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		ds, err := q.Fetch(ctx, 500, 50*time.Millisecond)
		cancel()
		if err != nil {
			t.Fatalf("after %d of %d events: %v", n, s.Events, err)
		}
		for _, d := range ds {
			n++
			frames[d.Event.DistinctID]++
			if envelopes[d.Event.DistinctID] == nil {
				envelopes[d.Event.DistinctID] = make(map[string]bool)
			}
			envelopes[d.Event.DistinctID][d.Event.UUID+event.FormatTime(d.Event.Timestamp)] = true
			if err := d.Ack(); err != nil {
				t.Fatal(err)
			}
		}
	}
	return frames, envelopes
}

func milestone(user string) *event.Event {
	return &event.Event{UUID: event.NewID(), ProjectID: "default", Name: event.FirstValue, DistinctID: user, Timestamp: time.Now().UTC().Truncate(time.Microsecond)}
}

// Three replicas on one NATS server, each with many requests at once for the same
// users: the journal has each user's milestone once.
func TestFirstValueOnceAcrossReplicas(t *testing.T) {
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true, MaxPayload: 9 << 20})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("the NATS server does not start")
	}
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	const replicas, workers, users = 3, 8, 40
	journals := make([]*journal.Journal, replicas)
	for i := range journals {
		journals[i] = openJournal(t, journal.Config{NATSURL: s.ClientURL()})
	}
	var wg sync.WaitGroup
	for _, j := range journals {
		o := onceOver(t, j, j)
		for range workers {
			wg.Go(func() {
				for u := range users {
					if err := o.Append(t.Context(), milestone(fmt.Sprint("user-", u))); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()
	frames, _ := milestones(t, journals[0])
	if len(frames) != users {
		t.Errorf("%d users, want %d", len(frames), users)
	}
	for u, n := range frames {
		if n != 1 {
			t.Errorf("%s: %d milestones", u, n)
		}
	}
}

// A journal that fails now and then, also after it has stored: nobody's milestone
// is lost, and all frames of a user are one event.
func TestFirstValueThroughFailures(t *testing.T) {
	j := openJournal(t, journal.Config{Dir: t.TempDir()})
	o := onceOver(t, j, flaky{j, 0.4, 0.2})
	var wg sync.WaitGroup
	const users = 60
	for range 6 {
		wg.Go(func() {
			for u := range users {
				for o.Append(t.Context(), milestone(fmt.Sprint("user-", u))) != nil {
					continue // as a caller does that got an error
				}
			}
		})
	}
	wg.Wait()
	_, envelopes := milestones(t, j)
	if len(envelopes) != users {
		t.Errorf("%d users, want %d", len(envelopes), users)
	}
	for u, list := range envelopes {
		if len(list) != 1 {
			t.Errorf("%s: %d different milestones", u, len(list))
		}
	}
}

// The claims outlive the process.
func TestFirstValueAfterARestart(t *testing.T) {
	dir := t.TempDir()
	var first string
	for range 3 {
		j, err := journal.Open(t.Context(), journal.Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		o := onceOver(t, j, j)
		for range 2 {
			e := milestone("user-1")
			if err := o.Append(t.Context(), e); err != nil {
				t.Fatal(err)
			}
			if first == "" {
				first = e.UUID
			}
			if e.UUID != first {
				t.Errorf("uuid %s, want that of the first, %s", e.UUID, first)
			}
		}
		s, err := j.Stats(t.Context())
		if err != nil || s.LastSeq != 1 {
			t.Errorf("the journal has got %d events (%v), want 1", s.LastSeq, err)
		}
		if err := j.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}
