package journal_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/journal"
	"github.com/nats-io/nats-server/v2/server"
)

func TestAppendRefuses(t *testing.T) {
	j := open(t, journal.Config{MaxEventBytes: 10_000})
	bad := func(change func(*event.Event)) *event.Event {
		e := newEvent("p1", 10)
		change(e)
		return e
	}
	for _, c := range []struct {
		name string
		e    *event.Event
		code event.Code
		says string
	}{
		{"Nil", nil, event.CodeInvalid, "nil"},
		{"NoProject", bad(func(e *event.Event) { e.ProjectID = "" }), event.CodeInvalid, "no project"},
		{"ProjectOfManyTokens", bad(func(e *event.Event) { e.ProjectID = "a.b" }), event.CodeInvalid, "project id is malformed"},
		{"ProjectWildcard", bad(func(e *event.Event) { e.ProjectID = ">" }), event.CodeInvalid, "project id is malformed"},
		{"ProjectTooLong", bad(func(e *event.Event) { e.ProjectID = strings.Repeat("p", 129) }), event.CodeInvalid, "project id is malformed"},
		{"NoUUID", bad(func(e *event.Event) { e.UUID = "" }), event.CodeInvalid, "uuid"},
		{"BrokenProperty", bad(func(e *event.Event) { e.Properties = map[string]json.RawMessage{"x": json.RawMessage("{")} }), event.CodeInvalid, "cannot be encoded"},
		{"TooLarge", newEvent("p1", 10_000), event.CodeTooLarge, "more than the journal's 10000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			// Its neighbors are still stored.
			good := []*event.Event{newEvent("p1", 10), newEvent("p2", 10)}
			for _, batch := range [][]*event.Event{{c.e}, {good[0], c.e, good[1]}} {
				err := j.Append(t.Context(), batch...)
				wantError(t, err, c.code, c.says)
				var ae *journal.AppendError
				if !errors.As(err, &ae) || ae.Of != len(batch) || len(ae.Failed) != 1 || ae.Failed[0].Index != len(batch)/2 {
					t.Fatalf("error %#v", err)
				}
				if c.e != nil && ae.Failed[0].UUID != c.e.UUID {
					t.Errorf("failure of %s", ae.Failed[0].UUID)
				}
			}
			q := mustQueue(t, j, "q-"+c.name, journal.QueueOptions{})
			got := fetchN(t, q, 2)
			for i, d := range got {
				if d.Event.UUID != good[i].UUID {
					t.Errorf("event %d is %s", i, d.Event.UUID)
				}
				d.Ack()
			}
			st, err := j.Stats(t.Context())
			if err != nil || st.Events != 2 {
				t.Fatalf("%d events, %v", st.Events, err)
			}
			if err := j.DeleteQueue(t.Context(), q.Name()); err != nil {
				t.Fatal(err)
			}
			if err := j.PurgeAll(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
	}
	if err := j.Append(t.Context()); err != nil {
		t.Errorf("appending nothing: %v", err)
	}
}

// TestEventSizes appends and reads events up to the contract's 8 MB.
func TestEventSizes(t *testing.T) {
	t.Parallel()
	j := open(t, journal.Config{})
	q := mustQueue(t, j, "store", journal.QueueOptions{})
	empty, err := newEvent("p1", 1).AppendFrame(nil)
	if err != nil {
		t.Fatal(err)
	}
	overhead := len(empty) + 3 // the content's length takes three bytes more
	for _, size := range []int{0, 1, 1 << 10, 1 << 20, 4 << 20, event.MaxEventBytes - overhead} {
		e := newEvent("p1", size)
		mustAppend(t, j, e)
		d := fetchN(t, q, 1)[0]
		if d.Event.UUID != e.UUID || string(d.Event.Content.Input) != string(e.Content.Input) {
			t.Errorf("%d bytes came back as another event", size)
		}
		if frame, _ := e.AppendFrame(nil); d.Bytes != len(frame) {
			t.Errorf("Bytes is %d of %d", d.Bytes, len(frame))
		}
		d.Ack()
	}
	wantError(t, j.Append(t.Context(), newEvent("p1", event.MaxEventBytes)), event.CodeTooLarge, "more than the journal's 8388608")
	// Dead letters have headers in addition, and replays are complete.
	e := newEvent("p1", event.MaxEventBytes-overhead)
	mustAppend(t, j, e)
	if err := fetchN(t, q, 1)[0].Dead(strings.Repeat("reason ", 1000)); err != nil {
		t.Fatal(err)
	}
	if n, err := j.Replay(t.Context(), journal.DeadFilter{}); n != 1 || err != nil {
		t.Fatalf("replayed %d, %v", n, err)
	}
	if d := fetchN(t, q, 1)[0]; string(d.Event.Content.Input) != string(e.Content.Input) {
		t.Error("the replayed event is another one")
	}
}

// TestAppendMoreThanFits appends batches larger than the in-flight limit from
// several goroutines. None may wait for memory while reserving its own.
func TestAppendMoreThanFits(t *testing.T) {
	j := open(t, journal.Config{AckTimeout: time.Minute})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			batch := make([]*event.Event, 6)
			for i := range batch {
				batch[i] = newEvent("p1", 7<<20)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			if err := j.Append(ctx, batch...); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	st, err := j.Stats(t.Context())
	if err != nil || st.Events != 12 {
		t.Errorf("%d events, %v", st.Events, err)
	}
}

// TestAppendOrder appends from many goroutines and finds every event once, each
// goroutine's own in the order in which it appended them.
func TestAppendOrder(t *testing.T) {
	j := open(t, journal.Config{})
	q := mustQueue(t, j, "store", journal.QueueOptions{})
	const workers, rounds = 16, 30
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			n := 0
			for r := range rounds {
				batch := make([]*event.Event, 1+(r+w)%4)
				for i := range batch {
					batch[i] = newEvent("p1", 100)
					batch[i].DistinctID = fmt.Sprint(w)
					batch[i].RequestBytes = int64(n + 1)
					n++
				}
				if err := j.Append(t.Context(), batch...); err != nil {
					t.Error(err)
					return
				}
				for _, e := range batch {
					e.UUID = "changed after Append returned"
				}
			}
		})
	}
	wg.Wait()
	last := make(map[string]int64)
	seen := make(map[string]bool)
	var seq uint64
	for _, d := range fetchN(t, q, int(j.Appended())) {
		if seen[d.Event.UUID] {
			t.Errorf("%s came twice", d.Event.UUID)
		}
		seen[d.Event.UUID] = true
		if d.Seq != seq && d.Seq != seq+1 { // events of one call may share a position
			t.Errorf("position %d after %d", d.Seq, seq)
		}
		seq = d.Seq
		if d.Event.RequestBytes != last[d.Event.DistinctID]+1 {
			t.Fatalf("worker %s: event %d after %d", d.Event.DistinctID, d.Event.RequestBytes, last[d.Event.DistinctID])
		}
		last[d.Event.DistinctID]++
		d.Ack()
	}
	if len(last) != workers {
		t.Errorf("%d workers", len(last))
	}
}

func TestAppendDedupes(t *testing.T) {
	t.Parallel()
	j := open(t, journal.Config{DedupeWindow: time.Minute})
	e := newEvent("p1", 10)
	mustAppend(t, j, e)
	mustAppend(t, j, e, newEvent("p1", 10), e)
	if st, err := j.Stats(t.Context()); err != nil || st.Events != 2 {
		t.Errorf("%d events, %v", st.Events, err)
	}
}

func TestAppendContext(t *testing.T) {
	j := open(t, journal.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	// The answer may precede the shutdown; otherwise the code reports it.
	for range 20 {
		for _, batch := range [][]*event.Event{{newEvent("p1", 10)}, {newEvent("p1", 10), newEvent("p1", 10)}} {
			if err := j.Append(ctx, batch...); err != nil {
				wantError(t, err, event.CodeCanceled, "timed out or was canceled")
			}
		}
	}
}

// TestAppendWithoutAnswer talks to a NATS server that hangs: every append ends in
// time, a batch after one timeout and not one for each event.
func TestAppendWithoutAnswer(t *testing.T) {
	t.Parallel()
	s := natsServer(t, t.TempDir(), server.RANDOM_PORT)
	url, freeze := freezer(t, s.Addr().String())
	j, err := journal.Open(t.Context(), journal.Config{NATSURL: url, AckTimeout: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	mustAppend(t, j, newEvent("p1", 10))
	freeze()
	for _, n := range []int{1, 50} {
		batch := make([]*event.Event, n)
		for i := range batch {
			batch[i] = newEvent("p1", 1000)
		}
		start := time.Now()
		err = j.Append(t.Context(), batch...)
		wantError(t, err, event.CodeTimeout, "did not answer in time")
		var ae *journal.AppendError
		if errors.As(err, &ae) && len(ae.Failed) != n {
			t.Errorf("%d failures of %d", len(ae.Failed), n)
		}
		if d := time.Since(start); d > time.Minute {
			t.Errorf("%d events took %v", n, d)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	start := time.Now()
	if err := j.Close(ctx); err == nil {
		t.Error("Close says that all is well")
	}
	if d := time.Since(start); d > time.Minute {
		t.Errorf("Close took %v", d)
	}
}
