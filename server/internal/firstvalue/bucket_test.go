package firstvalue_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/firstvalue"
	"github.com/hedgerow/hedgerow/server/internal/journal"
)

func openJournal(t *testing.T, c journal.Config) *journal.Journal {
	t.Helper()
	j, err := journal.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close(context.Background()) })
	return j
}

func keeperOf(t *testing.T, j *journal.Journal) *firstvalue.Deduplicator {
	t.Helper()
	kv, err := j.KeyValue(t.Context(), firstvalue.Bucket, 1)
	if err != nil {
		t.Fatal(err)
	}
	return firstvalue.NewDeduplicator(firstvalue.NewClaims(kv))
}

// read reads the whole journal by a queue of its own: what is kept, by user and uuid.
func read(t *testing.T, j *journal.Journal, queue string, events int) map[string]map[string]bool {
	t.Helper()
	k := keeperOf(t, j)
	q, err := j.Queue(t.Context(), queue, journal.QueueOptions{})
	if err != nil {
		t.Fatal(err)
	}
	kept := make(map[string]map[string]bool)
	for n := 0; n < events; {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		ds, err := q.Fetch(ctx, 500, 50*time.Millisecond)
		cancel()
		if err != nil {
			t.Fatalf("after %d of %d events: %v", n, events, err)
		}
		for _, d := range ds {
			n++
			ok, err := k.Accept(t.Context(), d.Event)
			if err != nil {
				t.Fatal(err)
			}
			if ok {
				if kept[d.Event.DistinctID] == nil {
					kept[d.Event.DistinctID] = make(map[string]bool)
				}
				kept[d.Event.DistinctID][d.Event.UUID+event.FormatTime(d.Event.Timestamp)] = true
			}
			if err := d.Ack(); err != nil {
				t.Fatal(err)
			}
		}
	}
	return kept
}

func milestone(user string) *event.Event {
	return &event.Event{UUID: event.NewID(), ProjectID: "default", Name: event.FirstValue, DistinctID: user, Timestamp: time.Now().UTC().Truncate(time.Microsecond)}
}

// Three replicas on one NATS server take reports of the same users, and two readers
// read them at once: each user has one milestone, the same for both.
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
	const replicas, workers, users = 3, 3, 20
	journals := make([]*journal.Journal, replicas)
	for i := range journals {
		journals[i] = openJournal(t, journal.Config{NATSURL: s.ClientURL()})
	}
	var wg sync.WaitGroup
	for _, j := range journals {
		for range workers {
			wg.Go(func() {
				for u := range users {
					if err := j.Append(t.Context(), milestone(fmt.Sprint("user-", u))); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()
	read2 := make([]map[string]map[string]bool, 2)
	for i, queue := range []string{"store", "posthog_c1"} {
		wg.Go(func() { read2[i] = read(t, journals[i], queue, replicas*workers*users) })
	}
	wg.Wait()
	for u := range users {
		user := fmt.Sprint("user-", u)
		if a, b := fmt.Sprint(read2[0][user]), fmt.Sprint(read2[1][user]); len(read2[0][user]) != 1 || a != b {
			t.Errorf("%s: one reader keeps %s, the other %s", user, a, b)
		}
	}
}

// The claims outlive the process.
func TestFirstValueAfterARestart(t *testing.T) {
	dir := t.TempDir()
	var first string
	for n := range 3 {
		j, err := journal.Open(t.Context(), journal.Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		if err := j.Append(t.Context(), milestone("user-1"), milestone("user-1")); err != nil {
			t.Fatal(err)
		}
		kept := fmt.Sprint(read(t, j, fmt.Sprint("reader-", n), 2*(n+1)))
		if first == "" {
			first = kept
		}
		if kept != first {
			t.Errorf("%s are kept, want that of the first, %s", kept, first)
		}
		if err := j.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}
