package journal_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/journal"
)

func newEvents(project string, n, size int) []*event.Event {
	out := make([]*event.Event, n)
	for i := range out {
		out[i] = newEvent(project, size)
	}
	return out
}

func uuidsOf(events []*event.Event) []string {
	var out []string
	for _, e := range events {
		out = append(out, e.UUID)
	}
	return out
}

func messages(t *testing.T, j *journal.Journal) int {
	t.Helper()
	st, err := j.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return int(st.LastSeq)
}

func TestBatch(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		config   journal.Config
		events   []*event.Event
		messages int
	}{
		{"Small", journal.Config{}, newEvents("p1", 100, 1000), 1},
		{"One", journal.Config{}, newEvents("p1", 1, 1000), 1},
		{"Many", journal.Config{}, newEvents("p1", 600, 10), 3},
		{"Large", journal.Config{}, newEvents("p1", 20, 100_000), 10},
		{"Huge", journal.Config{}, newEvents("p1", 3, 1_000_000), 3},
		{"LargeAmongSmall", journal.Config{}, slices.Concat(newEvents("p1", 5, 10), newEvents("p1", 1, 1_000_000), newEvents("p1", 5, 10)), 3},
		{"Projects", journal.Config{}, slices.Concat(newEvents("p1", 5, 10), newEvents("p2", 5, 10), newEvents("p1", 5, 10)), 3},
		{"Deduplicated", journal.Config{DedupeWindow: time.Minute}, newEvents("p1", 10, 10), 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			j := open(t, c.config)
			q := mustQueue(t, j, "q", journal.QueueOptions{})
			mustAppend(t, j, c.events...)
			if n := messages(t, j); n != c.messages {
				t.Errorf("%d messages, want %d", n, c.messages)
			}
			qi, err := j.Lag(t.Context(), "q")
			if len(c.events) <= 100 && (err != nil || int(qi.Pending) != len(c.events)) {
				t.Errorf("queue %+v, %v", qi, err)
			}
			ds := fetchN(t, q, len(c.events))
			if !slices.Equal(uuids(ds), uuidsOf(c.events)) {
				t.Error("not the events that were appended, in their order")
			}
			for i, d := range ds {
				if d.Event.ProjectID != c.events[i].ProjectID || string(d.Event.Content.Input) != string(c.events[i].Content.Input) {
					t.Fatalf("event %d is another", i)
				}
			}
			ackAll(t, ds)
			waitLag(t, j, "q", func(qi journal.QueueInfo) bool { return qi.Pending == 0 && qi.AckPending == 0 })
		})
	}
}

// An event that is rejected is named, and takes none of its message with it.
func TestBatchRefusals(t *testing.T) {
	t.Parallel()
	j := open(t, journal.Config{MaxEventBytes: 5000})
	q := mustQueue(t, j, "q", journal.QueueOptions{})
	events := newEvents("p1", 30, 100)
	events[0] = newEvent("p1", 6000)
	events[7].Name = ""
	events[8].Properties = map[string]json.RawMessage{"broken": json.RawMessage("{")}
	events[29] = newEvent("p1", 6000)
	err := j.Append(t.Context(), events...)
	var failed *journal.AppendError
	if !errors.As(err, &failed) {
		t.Fatal(err)
	}
	var got []string
	for _, f := range failed.Failed {
		got = append(got, fmt.Sprintf("%d %s", f.Index, f.Err.Code))
	}
	if want := []string{"0 too_large", "7 invalid", "8 invalid", "29 too_large"}; !slices.Equal(got, want) {
		t.Errorf("failed %q, want %q", got, want)
	}
	good := slices.Concat(events[1:7], events[9:29])
	if ds := fetchN(t, q, len(good)); !slices.Equal(uuids(ds), uuidsOf(good)) {
		t.Error("not the good events in their order")
	}
}

// Fetch returns the requested number of events, regardless of the size of
// messages.
func TestBatchFetchedInParts(t *testing.T) {
	t.Parallel()
	j := open(t, journal.Config{})
	q := mustQueue(t, j, "q", journal.QueueOptions{})
	var all []*event.Event
	for i := range 40 {
		some := newEvents("p1", 1+i%7*11, 300)
		mustAppend(t, j, some...)
		all = append(all, some...)
	}
	var got []string
	for n := 1; len(got) < len(all); n = 1 + n*3%97 {
		ds, err := q.Fetch(t.Context(), n, time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		if len(ds) > n {
			t.Fatalf("%d deliveries where %d were asked for", len(ds), n)
		}
		got = append(got, uuids(ds)...)
		ackAll(t, ds)
	}
	if !slices.Equal(got, uuidsOf(all)) {
		t.Error("not all events in their order")
	}
	waitLag(t, j, "q", func(qi journal.QueueInfo) bool { return qi.Pending == 0 && qi.AckPending == 0 })
}

// Events of one message end each on its own.
func TestBatchEnds(t *testing.T) {
	t.Parallel()
	j := open(t, journal.Config{})
	q := mustQueue(t, j, "q", journal.QueueOptions{})
	other := mustQueue(t, j, "other", journal.QueueOptions{})
	events := newEvents("p1", 12, 100)
	mustAppend(t, j, events...)
	rng := rand.New(rand.NewPCG(1, 2))
	dead := make(map[string]bool)
	ends := make(map[string]int)
	open := make(map[string]bool)
	for _, e := range events {
		open[e.UUID] = true
	}
	for attempt := 1; len(open) > 0; attempt++ {
		ds := fetchN(t, q, len(open))
		if qi, err := j.Lag(t.Context(), "q"); err != nil || qi.AckPending != len(ds) {
			t.Errorf("queue %+v with %d out, %v", qi, len(ds), err)
		}
		rng.Shuffle(len(ds), func(a, b int) { ds[a], ds[b] = ds[b], ds[a] })
		for i, d := range ds {
			id := d.Event.UUID
			if !open[id] || d.Attempt != attempt {
				t.Fatalf("%s came at attempt %d, open: %v", id, d.Attempt, open[id])
			}
			ends[id]++
			var err error
			switch {
			case i%3 == 0:
				err = d.Retry(time.Duration(i) * time.Millisecond)
			case i%3 == 1:
				dead[id] = true
				err = d.Dead("no use")
				delete(open, id)
			default:
				err = errors.Join(d.Extend(), d.Ack())
				delete(open, id)
			}
			if err != nil {
				t.Fatal(err)
			}
			if i == 0 && len(ds) == 1 { // the last of all
				ackAll(t, fetchN(t, q, 1))
				delete(open, id)
			}
		}
	}
	waitLag(t, j, "q", func(qi journal.QueueInfo) bool { return qi.Pending == 0 && qi.AckPending == 0 })
	letters, err := j.DeadLetters(t.Context(), journal.DeadFilter{})
	if err != nil || len(letters) != len(dead) {
		t.Fatalf("%d letters of %d, %v", len(letters), len(dead), err)
	}
	for _, l := range letters {
		if !dead[l.UUID] || l.Event != events[0].Name {
			t.Errorf("letter %+v", l)
		}
	}
	if n, err := j.Replay(t.Context(), journal.DeadFilter{}); n != len(dead) || err != nil {
		t.Fatal(n, err)
	}
	for _, d := range fetchN(t, q, len(dead)) {
		if !dead[d.Event.UUID] {
			t.Errorf("%s came back", d.Event.UUID)
		}
		ackAll(t, []event.Delivery{d})
	}
	// Another queue has none of this.
	if ds := fetchN(t, other, len(events)); !slices.Equal(uuids(ds), uuidsOf(events)) {
		t.Error("the other queue has not all")
	}
}

// Fetched but unreturned events go to the next fetch.
func TestBatchGivenBack(t *testing.T) {
	t.Parallel()
	j := open(t, journal.Config{})
	q := mustQueue(t, j, "q", journal.QueueOptions{})
	events := newEvents("p1", 10, 100)
	mustAppend(t, j, events...)
	ctx, cancel := context.WithCancel(t.Context())
	ds, err := q.Fetch(ctx, 4, time.Millisecond)
	if err != nil || len(ds) != 4 {
		t.Fatal(len(ds), err)
	}
	ackAll(t, ds[:3])
	cancel()
	ackAll(t, ds[3:])
	// Another queue, as after a reconnect: immediately, not after AckWait.
	again := fetchN(t, mustQueue(t, j, "q", journal.QueueOptions{}), 6)
	if !slices.Equal(uuids(again), uuidsOf(events[4:])) {
		t.Error("not what was left")
	}
	ackAll(t, again)
}

// A frame that cannot be read is a dead letter; the others of its message are not.
func TestBatchUnreadable(t *testing.T) {
	t.Parallel()
	j := open(t, journal.Config{})
	q := mustQueue(t, j, "q", journal.QueueOptions{})
	good := newEvents("p1", 2, 100)
	frame := func(e *event.Event) []byte {
		b, err := e.AppendFrame(nil)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	journal.PublishBatch(t, j, "p1", frame(good[0]), []byte("nonsense"), frame(newEvent("p2", 10)), frame(good[1]))
	ds := fetchN(t, q, 2)
	if !slices.Equal(uuids(ds), uuidsOf(good)) {
		t.Error("not the readable ones")
	}
	ackAll(t, ds)
	waitLag(t, j, "q", func(qi journal.QueueInfo) bool { return qi.AckPending == 0 })
	letters, err := j.DeadLetters(t.Context(), journal.DeadFilter{})
	if err != nil || len(letters) != 2 {
		t.Fatal(letters, err)
	}
}

func FuzzSplitBatch(f *testing.F) {
	f.Add([]byte("HRE1"))
	f.Add([]byte("HRB1\x00\x00\x00\x02\x00\x00\x00\x01a\x00\x00\x00\x00"))
	f.Add([]byte("HRB1\xff\xff\xff\xff\x00\x00\x00\x01a"))
	f.Fuzz(func(t *testing.T, b []byte) {
		frames, err := journal.SplitBatch(b)
		if err != nil {
			return
		}
		size := 0
		for _, frame := range frames {
			size += len(frame)
		}
		if size > len(b) || len(frames) != journal.BatchLen(b) {
			t.Errorf("%d frames of %d bytes in %d", len(frames), size, len(b))
		}
	})
}
