package journal_test

import (
	"slices"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/journal"
)

// TestRewind redelivers ended events of a queue: from whole messages and from
// one that was partly done. Another queue keeps its position, and deleted
// events are not redelivered.
func TestRewind(t *testing.T) {
	t.Parallel()
	j := open(t, journal.Config{Keep: time.Hour})
	if from, err := j.Rewind(t.Context(), "store", time.Time{}); err != nil || !from.IsZero() {
		t.Errorf("a queue that is not made yet: %v, %v", from, err)
	}
	q := mustQueue(t, j, "store", journal.QueueOptions{AckWait: time.Minute})
	other := mustQueue(t, j, "other", journal.QueueOptions{})
	if from, err := j.Rewind(t.Context(), "store", time.Time{}); err != nil || !from.IsZero() {
		t.Errorf("an empty journal: %v, %v", from, err)
	}
	before := time.Now()
	var all []*event.Event
	for range 5 {
		e := newEvent("p1", 100)
		all = append(all, e)
		mustAppend(t, j, e)
	}
	batch := newEvents("p1", 6, 100)
	all = append(all, batch...)
	mustAppend(t, j, batch...)
	ackAll(t, fetchN(t, other, len(all)))
	ackAll(t, fetchN(t, q, len(all)-3)) // half of the last message
	for range 2 {
		from, err := j.Rewind(t.Context(), "store", time.Time{})
		if err != nil || from.Before(before.Add(-time.Second)) || from.After(time.Now()) {
			t.Fatalf("from %v, %v", from, err)
		}
		var got []string
		for _, d := range fetchN(t, q, len(all)) {
			got = append(got, d.Event.UUID)
			if err := d.Ack(); err != nil {
				t.Fatal(err)
			}
		}
		want := uuidsOf(all)
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%d of %d events came again", len(got), len(want))
		}
		waitLag(t, j, "store", func(qi journal.QueueInfo) bool { return qi.AckPending == 0 && qi.Pending == 0 })
	}
	none(t, other, 50*time.Millisecond)
	none(t, q, 50*time.Millisecond)
	more := newEvent("p1", 100)
	mustAppend(t, j, more)
	next := fetchN(t, q, 1)
	if next[0].Event.UUID != more.UUID {
		t.Error("it does not go on")
	}
	ackAll(t, next)
	waitLag(t, j, "store", func(qi journal.QueueInfo) bool { return qi.AckPending == 0 && qi.Pending == 0 })

	// A part of it.
	time.Sleep(20 * time.Millisecond)
	since := time.Now()
	last := newEvent("p1", 100)
	mustAppend(t, j, last)
	ackAll(t, fetchN(t, q, 1))
	waitLag(t, j, "store", func(qi journal.QueueInfo) bool { return qi.AckPending == 0 && qi.Pending == 0 })
	if from, err := j.Rewind(t.Context(), "store", since); err != nil || !from.Equal(since) {
		t.Errorf("from %v, %v", from, err)
	}
	if got := fetchN(t, q, 1); got[0].Event.UUID != last.UUID {
		t.Error("another event came again")
	}
	none(t, q, 50*time.Millisecond)
	if from, err := j.Rewind(t.Context(), "store", time.Now().Add(time.Hour)); err != nil || !from.IsZero() {
		t.Errorf("since a time to come: %v, %v", from, err)
	}
	// A queue that lags is not changed.
	if from, err := j.Rewind(t.Context(), "other", since); err != nil || !from.Equal(since) {
		t.Errorf("from %v, %v", from, err)
	}
	if got := fetchN(t, other, 2); got[0].Event.UUID != more.UUID {
		t.Error("a queue that was behind lost an event")
	}
	if _, err := j.Rewind(t.Context(), "no queue", time.Time{}); event.AsError(err).Code != event.CodeNotFound {
		t.Errorf("a malformed name: %v", err)
	}
}
