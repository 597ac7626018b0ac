package journal_test

import (
	"bytes"
	"context"
	"slices"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/journal"
)

// open opens a journal in dir (a fresh one where dir is empty) and closes it
// with the test.
func open(t testing.TB, c journal.Config) *journal.Journal {
	t.Helper()
	if c.Dir == "" && c.NATSURL == "" {
		c.Dir = t.TempDir()
	}
	j, err := journal.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeJournal(t, j) })
	return j
}

func closeJournal(t testing.TB, j *journal.Journal) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := j.Close(ctx); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// newEvent returns an event whose frame has about size bytes.
func newEvent(project string, size int) *event.Event {
	e := &event.Event{
		UUID:       event.NewID(),
		ProjectID:  project,
		Name:       event.Generation,
		DistinctID: "user-1",
		Timestamp:  time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC),
		Source:     event.SourceGateway,
		Provider:   "openai",
		Model:      "gpt-4.1-mini",
	}
	if size > 0 {
		text := bytes.Repeat([]byte("abcdefghijklmnopqrstuvwxyz"), size/26+1)[:size]
		e.Content.Input = slices.Concat([]byte{'"'}, text, []byte{'"'})
	}
	return e
}

func mustAppend(t testing.TB, j *journal.Journal, events ...*event.Event) {
	t.Helper()
	if err := j.Append(t.Context(), events...); err != nil {
		t.Fatal(err)
	}
}

func mustQueue(t testing.TB, j *journal.Journal, name string, o journal.QueueOptions) *journal.Queue {
	t.Helper()
	q, err := j.Queue(t.Context(), name, o)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// fetchN fetches until it has n deliveries, or fails.
func fetchN(t testing.TB, q event.Queue, n int) []event.Delivery {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var out []event.Delivery
	for len(out) < n {
		ds, err := q.Fetch(ctx, n-len(out), 20*time.Millisecond)
		if err != nil {
			t.Fatalf("Fetch after %d of %d: %v", len(out), n, err)
		}
		out = append(out, ds...)
	}
	return out
}

func TestAppendFetchAck(t *testing.T) {
	j := open(t, journal.Config{})
	q := mustQueue(t, j, "store", journal.QueueOptions{})
	want := []*event.Event{newEvent("p1", 100), newEvent("p2", 0), newEvent("p1", 4000)}
	mustAppend(t, j, want...)
	got := fetchN(t, q, 3)
	for i, d := range got {
		if d.Event.UUID != want[i].UUID || string(d.Event.Content.Input) != string(want[i].Content.Input) {
			t.Errorf("delivery %d is %s, want %s", i, d.Event.UUID, want[i].UUID)
		}
		if d.Attempt != 1 || d.Seq != uint64(i+1) || d.Bytes == 0 {
			t.Errorf("delivery %d: attempt %d, seq %d, bytes %d", i, d.Attempt, d.Seq, d.Bytes)
		}
		if err := d.Ack(); err != nil {
			t.Error(err)
		}
	}
	kv, err := j.KeyValue(t.Context(), "settings", 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.PutString(t.Context(), "a", "b"); err != nil {
		t.Fatal(err)
	}
}
