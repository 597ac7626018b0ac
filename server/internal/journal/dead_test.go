package journal_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/journal"
)

// kill appends n events of each project and moves them all to the queue's dead
// letters.
func kill(t *testing.T, j *journal.Journal, q *journal.Queue, n int, projects ...string) []*event.Event {
	t.Helper()
	var events []*event.Event
	for range n {
		for _, p := range projects {
			events = append(events, newEvent(p, 500))
		}
	}
	mustAppend(t, j, events...)
	for i, d := range fetchN(t, q, len(events)) {
		if err := d.Dead(fmt.Sprintf("reason %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	return events
}

func deadLetters(t *testing.T, j *journal.Journal, f journal.DeadFilter) []journal.DeadLetter {
	t.Helper()
	ds, err := j.DeadLetters(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	return ds
}

func TestDeadLetters(t *testing.T) {
	t.Parallel()
	j := open(t, journal.Config{})
	if got := deadLetters(t, j, journal.DeadFilter{}); len(got) != 0 {
		t.Errorf("%d dead letters in a new journal", len(got))
	}
	a := mustQueue(t, j, "a", journal.QueueOptions{AckWait: 200 * time.Millisecond})
	mustQueue(t, j, "b", journal.QueueOptions{})
	events := kill(t, j, a, 60, "p1", "p2")
	b := mustQueue(t, j, "b", journal.QueueOptions{})
	ds := fetchN(t, b, len(events))
	if err := ds[0].Retry(0); err != nil {
		t.Fatal(err)
	}
	ackAll(t, ds[1:])
	again := fetchN(t, b, 1)[0]
	if err := again.Dead("line one\nline two\x00 \xff" + strings.Repeat("ä", 1000)); err != nil {
		t.Fatal(err)
	}
	none(t, a, 300*time.Millisecond) // a dead one does not be redelivered

	got := deadLetters(t, j, journal.DeadFilter{Limit: 1})
	if len(got) != 1 {
		t.Fatalf("%d letters", len(got))
	}
	d := got[0]
	if d.ID != 121 || d.Queue != "b" || d.Project != "p1" || d.UUID != events[0].UUID || d.Event != event.Generation || d.Attempts != 2 || d.Seq != 1 ||
		d.Bytes != again.Bytes || time.Since(d.Died) > time.Minute || d.Appended.After(d.Died) || time.Since(d.Appended) > time.Minute {
		t.Errorf("letter %+v", d)
	}
	if !strings.HasPrefix(d.Reason, "line one line two  ?ää") || len(d.Reason) > 1000 {
		t.Errorf("reason %q of %d bytes", d.Reason, len(d.Reason))
	}

	for _, c := range []struct {
		name string
		f    journal.DeadFilter
		want int
	}{
		{"AllByDefault100", journal.DeadFilter{}, 100},
		{"All", journal.DeadFilter{Limit: 1000}, 121},
		{"Queue", journal.DeadFilter{Queue: "b"}, 1},
		{"Project", journal.DeadFilter{Project: "p2", Limit: 1000}, 60},
		{"QueueAndProject", journal.DeadFilter{Queue: "b", Project: "p2"}, 0},
		{"IDs", journal.DeadFilter{IDs: []uint64{3, 5, 9999}}, 2},
		{"Before", journal.DeadFilter{Before: 11}, 10},
		{"NoSuchQueue", journal.DeadFilter{Queue: "c"}, 0},
	} {
		got := deadLetters(t, j, c.f)
		if len(got) != c.want {
			t.Errorf("%s: %d letters, want %d", c.name, len(got), c.want)
		}
		for i := 1; i < len(got); i++ {
			if got[i].ID >= got[i-1].ID {
				t.Errorf("%s: %d after %d, want the newest first", c.name, got[i].ID, got[i-1].ID)
			}
		}
	}
	// Page by page.
	var ids []uint64
	f := journal.DeadFilter{Project: "p1", Limit: 7}
	for {
		page := deadLetters(t, j, f)
		for _, d := range page {
			ids = append(ids, d.ID)
		}
		if len(page) < f.Limit {
			break
		}
		f.Before = page[len(page)-1].ID
	}
	if len(ids) != 61 || ids[0] != 121 || ids[60] != 1 {
		t.Errorf("pages hold %d letters: %v", len(ids), ids)
	}
	counts, err := j.DeadCounts(t.Context())
	if err != nil || counts["a"] != 120 || counts["b"] != 1 || len(counts) != 2 {
		t.Errorf("counts %v, %v", counts, err)
	}
	st, err := j.Stats(t.Context())
	if err != nil || st.Dead != 121 || st.DeadSize < 121*500 {
		t.Errorf("stats %+v, %v", st, err)
	}
	for _, f := range []journal.DeadFilter{{Queue: "a.b"}, {Project: "*"}, {Queue: ">"}} {
		_, err := j.DeadLetters(t.Context(), f)
		wantError(t, err, event.CodeInvalid, "malformed")
	}
}

func TestReplay(t *testing.T) {
	t.Parallel()
	j := open(t, journal.Config{})
	a := mustQueue(t, j, "a", journal.QueueOptions{})
	b := mustQueue(t, j, "b", journal.QueueOptions{From: journal.FromNow})
	p1 := mustQueue(t, j, "p1", journal.QueueOptions{Project: "p1", From: journal.FromNow})
	events := kill(t, j, a, 10, "p1", "p2")
	ackAll(t, fetchN(t, b, 20))
	ackAll(t, fetchN(t, p1, 10))

	if n, err := j.Replay(t.Context(), journal.DeadFilter{IDs: []uint64{4, 2}}); n != 2 || err != nil {
		t.Fatalf("replayed %d, %v", n, err)
	}
	ds := fetchN(t, a, 2)
	if ds[0].Event.UUID != events[1].UUID || ds[1].Event.UUID != events[3].UUID || ds[0].Attempt != 1 {
		t.Errorf("replayed %v", uuids(ds))
	}
	// It may be moved to the dead letters again.
	if err := ds[0].Dead("again"); err != nil {
		t.Fatal(err)
	}
	ackAll(t, ds[1:])
	if got := deadLetters(t, j, journal.DeadFilter{Limit: 1}); got[0].Reason != "again" || got[0].UUID != events[1].UUID || got[0].Project != "p2" {
		t.Errorf("letter %+v", got[0])
	}
	// The remaining ones, replayed concurrently: each is delivered once.
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := j.Replay(t.Context(), journal.DeadFilter{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	seen := make(map[string]int)
	for _, d := range fetchN(t, a, 19) {
		seen[d.Event.UUID]++
		d.Ack()
	}
	none(t, a, 50*time.Millisecond)
	if len(seen) != 19 {
		t.Errorf("%d events came back, want 19", len(seen))
	}
	// The other queues saw nothing of it.
	none(t, b, 20*time.Millisecond)
	none(t, p1, 20*time.Millisecond)
	if got := deadLetters(t, j, journal.DeadFilter{}); len(got) != 0 {
		t.Errorf("%d letters are left", len(got))
	}
	if n, err := j.Replay(t.Context(), journal.DeadFilter{}); n != 0 || err != nil {
		t.Errorf("replayed %d of none, %v", n, err)
	}
}

func TestReplayToDeletedQueue(t *testing.T) {
	j := open(t, journal.Config{})
	kill(t, j, mustQueue(t, j, "a", journal.QueueOptions{}), 3, "p1")
	if err := j.DeleteQueue(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if n, err := j.Replay(t.Context(), journal.DeadFilter{}); n != 0 || err != nil {
		t.Errorf("replayed %d, %v", n, err)
	}
	if got := deadLetters(t, j, journal.DeadFilter{}); len(got) != 3 {
		t.Errorf("%d letters are left", len(got))
	}
	a := mustQueue(t, j, "a", journal.QueueOptions{From: journal.FromNow})
	if n, err := j.Replay(t.Context(), journal.DeadFilter{}); n != 3 || err != nil {
		t.Errorf("replayed %d, %v", n, err)
	}
	ackAll(t, fetchN(t, a, 3))
}

func TestDeleteDead(t *testing.T) {
	t.Parallel()
	j := open(t, journal.Config{})
	q := mustQueue(t, j, "a", journal.QueueOptions{})
	kill(t, j, q, 10, "p1", "p2")
	if n, err := j.DeleteDead(t.Context(), journal.DeadFilter{IDs: []uint64{1, 7}}); n != 2 || err != nil {
		t.Errorf("deleted %d, %v", n, err)
	}
	if n, err := j.DeleteDead(t.Context(), journal.DeadFilter{Project: "p2"}); n != 10 || err != nil {
		t.Errorf("deleted %d, %v", n, err)
	}
	for _, d := range deadLetters(t, j, journal.DeadFilter{}) {
		if d.Project != "p1" || d.ID == 1 || d.ID == 7 {
			t.Errorf("left is %+v", d)
		}
	}
	// Listing and deleting at the same time ends, and two who delete do not fail.
	var wg sync.WaitGroup
	kill(t, j, q, 100, "p1")
	wg.Go(func() {
		if _, err := j.DeleteDead(t.Context(), journal.DeadFilter{}); err != nil {
			t.Error(err)
		}
	})
	wg.Go(func() {
		for range 5 {
			deadLetters(t, j, journal.DeadFilter{})
		}
	})
	wg.Go(func() {
		if _, err := j.DeleteDead(t.Context(), journal.DeadFilter{}); err != nil {
			t.Error(err)
		}
	})
	wg.Wait()
	if n, err := j.DeleteDead(t.Context(), journal.DeadFilter{}); n != 0 || err != nil {
		t.Errorf("deleted %d of none, %v", n, err)
	}
	if st, err := j.Stats(t.Context()); err != nil || st.Dead != 0 || st.DeadSize != 0 {
		t.Errorf("%+v, %v", st, err)
	}
}

// TestDeadBound deletes the oldest dead letters at the limit: dead letters must
// never block sinks.
func TestDeadBound(t *testing.T) {
	j := open(t, journal.Config{DeadMaxBytes: 100_000})
	q := mustQueue(t, j, "a", journal.QueueOptions{})
	events := kill(t, j, q, 300, "p1")
	got := deadLetters(t, j, journal.DeadFilter{Limit: 1000})
	if len(got) < 50 || len(got) > 150 || got[0].UUID != events[299].UUID {
		t.Errorf("%d letters are left", len(got))
	}
}

// TestUnreadable moves undecodable frames, and events stored under another
// project, to the dead letters; events next to them pass.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	j := open(t, journal.Config{})
	q := mustQueue(t, j, "a", journal.QueueOptions{})
	stray, err := newEvent("p2", 10).AppendFrame(nil)
	if err != nil {
		t.Fatal(err)
	}
	good := []*event.Event{newEvent("p1", 10), newEvent("p1", 10)}
	mustAppend(t, j, good[0])
	for _, frame := range [][]byte{nil, []byte("top secret prompt"), []byte("HRE1\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), stray} {
		if err := j.PublishRaw(t.Context(), "events.p1", frame); err != nil {
			t.Fatal(err)
		}
	}
	mustAppend(t, j, good[1])
	ds := fetchN(t, q, 2)
	if ds[0].Event.UUID != good[0].UUID || ds[1].Event.UUID != good[1].UUID {
		t.Errorf("came %v", uuids(ds))
	}
	ackAll(t, ds)
	got := deadLetters(t, j, journal.DeadFilter{})
	if len(got) != 4 {
		t.Fatalf("%d letters, want 4", len(got))
	}
	for i, d := range got {
		if !strings.HasPrefix(d.Reason, "unreadable frame") || strings.Contains(d.Reason, "secret") || d.Project != "p1" || d.Queue != "a" || d.Attempts != 1 {
			t.Errorf("letter %d: %+v", i, d)
		}
	}
	waitLag(t, j, "a", func(qi journal.QueueInfo) bool { return qi.AckPending == 0 && qi.Pending == 0 })
	// Replayed, they become dead letters again: no loop, no loss.
	if n, err := j.Replay(t.Context(), journal.DeadFilter{}); n != 4 || err != nil {
		t.Fatalf("replayed %d, %v", n, err)
	}
	none(t, q, 300*time.Millisecond)
	if got := deadLetters(t, j, journal.DeadFilter{}); len(got) != 4 {
		t.Errorf("%d letters, want 4", len(got))
	}
}
