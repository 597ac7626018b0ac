package join_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/join"
	"github.com/hedgerow/hedgerow/server/internal/journal"
	"github.com/hedgerow/hedgerow/server/internal/store"
)

func generation(source, completion string) *event.Event {
	return &event.Event{
		UUID: event.NewID(), ProjectID: "default", Name: event.Generation, Source: source, Timestamp: now, DistinctID: "u-" + source, TraceID: "t-" + source, ParentID: "p-" + source,
		Model: "gpt-4.1", CompletionID: completion, Usage: event.Usage{Input: event.Some[int64](7)}, Latency: event.Some(time.Second),
		Content:    event.Content{Input: json.RawMessage(`[]`)},
		Properties: map[string]json.RawMessage{"mine": json.RawMessage(`1`), "$ai_usage": json.RawMessage(`{"a":1}`)},
	}
}

// ended ends deliveries of a test.
type ended struct{}

func (ended) Ack() error                { return nil }
func (ended) Retry(time.Duration) error { return nil }
func (ended) Extend() error             { return nil }
func (ended) Dead(string) error         { return errors.New("no joiner gives up") }

// line is a queue that has some deliveries, and ends with them.
type line struct{ ds []event.Delivery }

func (l *line) Fetch(ctx context.Context, most int, _ time.Duration) ([]event.Delivery, error) {
	if len(l.ds) == 0 {
		return nil, context.Canceled
	}
	n := min(most, len(l.ds))
	out := l.ds[:n]
	l.ds = l.ds[n:]
	return out, nil
}

// deliveries of events, appended at their times.
func deliveries(at func(i int) time.Time, events ...*event.Event) (ds []event.Delivery) {
	for i, e := range events {
		ds = append(ds, event.Delivery{Event: e.Clone(), Seq: uint64(i + 1), Attempt: 1, At: at(i), Acker: ended{}})
	}
	return ds
}

// joining runs a joiner over deliveries, of which so many were there when it began.
func joining(t testing.TB, c join.JoinerConfig, before int, ds []event.Delivery) (*join.Joiner, []join.Merge, []*event.Event) {
	t.Helper()
	k, l := &kept{}, &line{ds: ds}
	c.Journal, c.Registerer = k, prometheus.NewRegistry()
	if c.Now == nil {
		c.Now = func() time.Time { return now }
	}
	c.Open = func(context.Context, time.Time) (event.Queue, error) { return l, nil }
	c.Behind = func(context.Context) (uint64, error) { return uint64(max(0, before-(len(ds)-len(l.ds)))), nil }
	j, err := join.NewJoiner(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Run(t.Context()); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	var merges []join.Merge
	for _, e := range k.events(t) {
		m, ok := join.MergeOf(e)
		if !ok {
			t.Fatalf("appended %+v", e)
		}
		merges = append(merges, m)
	}
	return j, merges, k.events(t)
}

func same(int) time.Time { return now }

// TestJoiner has two captures of a call in either order, before and after a start: the
// gateway's counts, with what the wrapper says of user, trace and itself.
func TestJoiner(t *testing.T) {
	for name, gateway := range map[string]int{"gateway first": 0, "wrapper first": 1} {
		for _, before := range []int{0, 1, 2} {
			t.Run(fmt.Sprintf("%s/%d before the start", name, before), func(t *testing.T) {
				calls := []*event.Event{generation(event.SourceIngest, "chatcmpl-3af2caf059284c98a142c216"), generation(event.SourceIngest, "chatcmpl-3af2caf059284c98a142c216")}
				calls[gateway] = generation(event.SourceGateway, "chatcmpl-3af2caf059284c98a142c216")
				call, other := calls[gateway], calls[1-gateway]
				if before == 1 { // one message at a time
					l := deliveries(same, calls...)
					_, merges, _ := joining(t, join.JoinerConfig{}, 1, l)
					if len(merges) != 1 || merges[0].Call != call.UUID {
						t.Fatalf("%+v", merges)
					}
					return
				}
				_, merges, events := joining(t, join.JoinerConfig{}, before, deliveries(same, calls...))
				if len(merges) != 1 || merges[0].Call != call.UUID || merges[0].Other != other.UUID || merges[0].Trace != call.TraceID {
					t.Fatalf("%+v", merges)
				}
				got := call.Clone()
				join.Apply(events[0], got)
				join.Apply(events[0], got) // again
				if got.DistinctID != other.DistinctID || got.TraceID != other.TraceID || got.ParentID != other.ParentID || got.UUID != call.UUID || got.Source != event.SourceGateway || got.Usage != call.Usage ||
					got.Latency != call.Latency || got.Content.Input == nil || string(got.Properties["mine"]) != "1" || len(got.Properties) != 2 {
					t.Errorf("merged: %+v", got)
				}
				// Events read again with their merge cause no second one.
				if _, again, _ := joining(t, join.JoinerConfig{}, 3, deliveries(same, append(calls, events...)...)); len(again) != 0 {
					t.Errorf("merged again: %+v", again)
				}
			})
		}
	}
}

// TestJoinerApart has captures that are of different calls.
func TestJoinerApart(t *testing.T) {
	const id = "chatcmpl-3af2caf059284c98a142c216"
	for name, c := range map[string]struct {
		calls []*event.Event
		at    func(int) time.Time
	}{
		"one receiver":      {[]*event.Event{generation(event.SourceIngest, id), generation(event.SourceIngest, id)}, same},
		"another project":   {[]*event.Event{generation(event.SourceGateway, id), func() *event.Event { e := generation(event.SourceIngest, id); e.ProjectID = "other"; return e }()}, same},
		"more than an hour": {[]*event.Event{generation(event.SourceGateway, id), generation(event.SourceIngest, id)}, func(i int) time.Time { return now.Add(time.Duration(i) * 61 * time.Minute) }},
		"other ids":         {[]*event.Event{generation(event.SourceGateway, id), generation(event.SourceIngest, id+"0")}, same},
	} {
		t.Run(name, func(t *testing.T) {
			if _, merges, _ := joining(t, join.JoinerConfig{}, 0, deliveries(c.at, c.calls...)); len(merges) != 0 {
				t.Errorf("%+v", merges)
			}
		})
	}
}

// TestJoinerTwoInstrumentations: of two spans of one process with one response id the
// inner one counts, and the outer stays a span; a third capture, the gateway's, counts
// in place of it.
func TestJoinerTwoInstrumentations(t *testing.T) {
	const id = "msg_3af2caf059284c98a142c216"
	outer, inner, call := generation(event.SourceOTLP, id), generation(event.SourceOTLP, id), generation(event.SourceGateway, id)
	outer.SpanID, inner.SpanID, inner.ParentID = "o", "i", "o"
	outer.Properties["otel.scope.name"], inner.Properties["otel.scope.name"] = json.RawMessage(`"pydantic-ai"`), json.RawMessage(`"anthropic"`)
	for _, calls := range [][]*event.Event{{outer, inner}, {inner, outer}} {
		if _, merges, _ := joining(t, join.JoinerConfig{}, 0, deliveries(same, calls...)); len(merges) != 1 || merges[0].Call != inner.UUID || !merges[0].Span {
			t.Errorf("%+v", merges)
		}
	}
	_, merges, _ := joining(t, join.JoinerConfig{}, 0, deliveries(same, inner, outer, call))
	if len(merges) != 2 || merges[1].Call != call.UUID || merges[1].Other != inner.UUID || merges[1].Sent != inner.UUID {
		t.Fatalf("%+v", merges)
	}
}

// hold is how long delivery waits in these tests.
const hold = 20 * time.Second

// TestDecide: what delivery does with each capture, by when they come.
func TestDecide(t *testing.T) {
	const id = "chatcmpl-3af2caf059284c98a142c216"
	for name, c := range map[string]struct {
		known        bool // a wrapper reported the project before
		gatewayFirst bool
		apart        time.Duration
		sent         int // which of the two is sent
		merged, late bool
	}{
		"soon":                            {true, true, time.Second, 0, true, false},
		"soon, wrapper first":             {true, false, time.Second, 1, true, false},
		"late":                            {true, true, 30 * time.Second, 0, true, true},
		"late, wrapper first":             {true, false, 30 * time.Second, 0, false, true},
		"no wrapper known":                {false, true, time.Second, 0, true, true},
		"no gateway known, wrapper first": {false, false, time.Second, 0, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			call, other := generation(event.SourceGateway, id), generation(event.SourceIngest, id)
			pair := []*event.Event{call, other}
			if !c.gatewayFirst {
				pair = []*event.Event{other, call}
			}
			before := []*event.Event{generation(event.SourceGateway, "chatcmpl-a"), generation(event.SourceIngest, "chatcmpl-b")}
			for _, e := range before {
				e.Model = "another"
				if !c.known {
					e.ProjectID = "other"
				}
			}
			at := func(i int) time.Time {
				if i == 3 {
					return now.Add(c.apart)
				}
				return now
			}
			clock := now
			config := join.JoinerConfig{Hold: hold, Now: func() time.Time { return clock }}
			ds := deliveries(at, append(before, pair...)...)
			// First alone: it waits where the other is expected, and not for longer.
			j, _, _ := joining(t, config, 0, slices.Clone(ds[:3]))
			v, err := j.Decide(t.Context(), event.Delivery{Event: ds[2].Event.Clone(), Seq: 3, At: now})
			if err != nil || v.Drop || (v.Wait > 0) != c.known || v.Wait > hold {
				t.Errorf("alone: %+v, %v", v, err)
			}
			clock = now.Add(hold + 2*time.Second)
			if v, err = j.Decide(t.Context(), event.Delivery{Event: ds[2].Event.Clone(), Seq: 3, At: now}); err != nil || v.Drop || v.Wait > 0 {
				t.Errorf("alone, later: %+v, %v", v, err)
			}
			clock = now
			j, merges, _ := joining(t, config, 0, slices.Clone(ds))
			if len(merges) != 1 || merges[0].Late != c.late {
				t.Fatalf("%+v", merges)
			}
			for i, e := range pair {
				got := e.Clone()
				v, err := j.Decide(t.Context(), event.Delivery{Event: got, Seq: uint64(i + 3), At: at(i + 2)})
				if err != nil || v.Wait > 0 || v.Drop == (i == c.sent) {
					t.Errorf("capture %d: %+v, %v", i, v, err)
				}
				if i == c.sent && (got.DistinctID == other.DistinctID && got.Source == event.SourceGateway) != c.merged {
					t.Errorf("sent: %+v", got)
				}
			}
		})
	}
}

// decided asks about an event of the journal, and returns it as it is sent, or nil.
func decided(t *testing.T, j *join.Joiner, d event.Delivery) (*event.Event, time.Duration) {
	t.Helper()
	d.Event = d.Event.Clone()
	v, err := j.Decide(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	if v.Drop || v.Wait > 0 {
		return nil, v.Wait
	}
	return d.Event, 0
}

// TestDecideThree has two wrappers and the gateway, within the hold: one generation is
// sent, the gateway's, with what both wrappers add. Without the gateway's it is the
// first wrapper's, after the hold.
func TestDecideThree(t *testing.T) {
	const id = "chatcmpl-3af2caf059284c98a142c216"
	a, b, call := generation(event.SourceIngest, id), generation(event.SourceOTLP, id), generation(event.SourceGateway, id)
	a.SessionID, b.Properties["plan"] = "s-1", json.RawMessage(`"pro"`)
	known := generation(event.SourceGateway, "chatcmpl-a")
	known.Model = "another"
	at := func(i int) time.Time { return now.Add(time.Duration(i) * 5 * time.Second) }
	clock := now
	config := join.JoinerConfig{Hold: hold, Now: func() time.Time { return clock }}
	ds := deliveries(at, known, a, b, call)

	two, merges, _ := joining(t, config, 0, slices.Clone(ds[:3]))
	if len(merges) != 1 || merges[0].Late || merges[0].Call != a.UUID {
		t.Fatalf("%+v", merges)
	}
	if got, wait := decided(t, two, ds[1]); got != nil || wait == 0 {
		t.Errorf("%+v leaves before the gateway's can come", got)
	}
	if got, _ := decided(t, two, ds[2]); got != nil {
		t.Errorf("both wrappers' captures are sent: %+v", got)
	}
	clock = now.Add(5*time.Second + hold + 2*time.Second)
	if got, _ := decided(t, two, ds[1]); got == nil || got.DistinctID != "u-otlp" || got.SessionID != "s-1" || string(got.Properties["plan"]) != `"pro"` {
		t.Errorf("sent: %+v", got)
	}

	clock = now
	three, merges, _ := joining(t, config, 0, slices.Clone(ds))
	if len(merges) != 2 || merges[1].Late || merges[1].Call != call.UUID {
		t.Fatalf("%+v", merges)
	}
	for _, d := range ds[1:3] {
		if got, wait := decided(t, three, d); got != nil || wait > 0 {
			t.Errorf("a wrapper's capture is sent in addition to the gateway's: %+v, %v", got, wait)
		}
	}
	if got, _ := decided(t, three, ds[3]); got == nil || got.Source != event.SourceGateway || got.DistinctID != "u-otlp" || got.TraceID != "t-otlp" || got.SessionID != "s-1" || string(got.Properties["plan"]) != `"pro"` {
		t.Errorf("sent: %+v", got)
	}
}

// TestDecideAfterLate: after a late merge, what comes later still is merged in hedgerow
// only: PostHog keeps the one generation that it has.
func TestDecideAfterLate(t *testing.T) {
	const id = "chatcmpl-3af2caf059284c98a142c216"
	a, b, call := generation(event.SourceIngest, id), generation(event.SourceOTLP, id), generation(event.SourceGateway, id)
	at := func(i int) time.Time { return now.Add(time.Duration(i) * time.Second) }
	ds := deliveries(at, a, b, call)
	j, merges, _ := joining(t, join.JoinerConfig{Hold: hold}, 0, slices.Clone(ds))
	if len(merges) != 2 || !merges[0].Late || !merges[1].Late || merges[1].Sent != a.UUID {
		t.Fatalf("%+v", merges)
	}
	if got, _ := decided(t, j, ds[0]); got == nil || got.Source != event.SourceIngest {
		t.Errorf("the first is not sent: %+v", got)
	}
	for _, d := range ds[1:] {
		if got, wait := decided(t, j, d); got != nil || wait > 0 {
			t.Errorf("a second generation is sent: %+v, %v", got, wait)
		}
	}
}

// TestDecideNoHold: with no hold nothing waits, and each merge is late.
func TestDecideNoHold(t *testing.T) {
	const id = "chatcmpl-3af2caf059284c98a142c216"
	first, second := generation(event.SourceIngest, "chatcmpl-a"), generation(event.SourceGateway, "chatcmpl-b")
	first.Model, second.Model = "another", "another"
	ds := deliveries(same, first, second, generation(event.SourceGateway, id), generation(event.SourceIngest, id))
	_, merges, _ := joining(t, join.JoinerConfig{}, 0, slices.Clone(ds))
	if len(merges) != 1 || !merges[0].Late {
		t.Fatalf("%+v", merges)
	}
	j, _, _ := joining(t, join.JoinerConfig{}, 0, slices.Clone(ds[:3]))
	if got, wait := decided(t, j, ds[2]); got == nil || wait > 0 {
		t.Errorf("it waits %v", wait)
	}
}

// TestDecideDeleted: of a call of which a capture was deleted nothing is sent.
func TestDecideDeleted(t *testing.T) {
	const id = "chatcmpl-3af2caf059284c98a142c216"
	call, other := generation(event.SourceGateway, id), generation(event.SourceIngest, id)
	ds := deliveries(same, other, call)
	j, _, _ := joining(t, join.JoinerConfig{Deleted: func(project, uuid string) (bool, error) { return project == "default" && uuid == other.UUID, nil }}, 0, slices.Clone(ds))
	if got, wait := decided(t, j, ds[1]); got != nil || wait > 0 {
		t.Errorf("sent: %+v, %v", got, wait)
	}
}

// TestDecideResent: what is appended again for one connection is found by its merges, in
// the index or in the store, though the joiner's queue does not have it.
func TestDecideResent(t *testing.T) {
	const id = "chatcmpl-3af2caf059284c98a142c216"
	call, other := generation(event.SourceGateway, id), generation(event.SourceIngest, id)
	_, _, merges := joining(t, join.JoinerConfig{}, 0, deliveries(same, call, other))
	j, _, _ := joining(t, join.JoinerConfig{Merges: found(merges)}, 0, nil)
	for e, sent := range map[*event.Event]bool{call: true, other: false} {
		if got, wait := decided(t, j, event.Delivery{Event: e, Seq: 1000, Resent: true}); (got != nil) != sent || wait > 0 || sent && got.DistinctID != other.DistinctID {
			t.Errorf("%s: %+v, %v", e.Source, got, wait)
		}
	}
}

// TestDecideOutcome: an outcome that names the gateway's trace and span waits while the
// call does, and is sent with the trace and span that the call has got.
func TestDecideOutcome(t *testing.T) {
	const id = "chatcmpl-3af2caf059284c98a142c216"
	call, other := generation(event.SourceGateway, id), generation(event.SourceIngest, id)
	call.SpanID, other.SpanID = "s-gateway", "s-ingest"
	known := generation(event.SourceIngest, "chatcmpl-a")
	known.Model = "another"
	rated := &event.Event{UUID: event.NewID(), ProjectID: "default", Name: event.Feedback, Timestamp: now, TraceID: call.TraceID, ParentID: call.SpanID}
	click := &event.Event{UUID: event.NewID(), ProjectID: "default", Name: "click", Timestamp: now}
	ds := deliveries(same, known, call, rated, click, other)
	clock := now
	config := join.JoinerConfig{Hold: hold, Now: func() time.Time { return clock }}
	j, _, _ := joining(t, config, 0, slices.Clone(ds[:4]))
	if got, wait := decided(t, j, ds[2]); got != nil || wait == 0 {
		t.Errorf("an outcome is sent before its call: %+v", got)
	}
	if got, _ := decided(t, j, ds[3]); got == nil {
		t.Error("an event of no call waits")
	}
	j, _, _ = joining(t, config, 0, slices.Clone(ds))
	if got, _ := decided(t, j, ds[2]); got == nil || got.TraceID != other.TraceID || got.ParentID != other.SpanID {
		t.Errorf("after the merge: %+v", got)
	}
	clock = now.Add(hold + 2*time.Second)
	j, _, _ = joining(t, config, 0, slices.Clone(ds[:4]))
	if got, _ := decided(t, j, ds[2]); got == nil || got.TraceID != call.TraceID || got.ParentID != call.SpanID {
		t.Errorf("without a merge: %+v", got)
	}
}

// TestOutcomesFollow: an outcome that comes long after a merge finds its call by the trace
// or span that this had before. What is sent keeps them where PostHog has the call there.
func TestOutcomesFollow(t *testing.T) {
	const id = "chatcmpl-3af2caf059284c98a142c216"
	for name, c := range map[string]struct{ gatewayFirst, sent, moves bool }{
		"stored":                          {true, false, true},
		"sent, PostHog has the wrapper's": {false, true, true},
		"sent, PostHog has the gateway's as it was": {true, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			call, other := generation(event.SourceGateway, id), generation(event.SourceIngest, id)
			call.SpanID, other.SpanID, call.PromptName = "s-gateway", "s-ingest", "greet"
			pair := []*event.Event{call, other}
			if !c.gatewayFirst {
				slices.Reverse(pair)
			}
			_, _, merges := joining(t, join.JoinerConfig{}, 0, deliveries(same, pair...))
			o := join.NewOutcomes()
			s := &finding{call: call.Clone()}
			o.Open(s)
			o.Follow(found(merges))
			complete := o.Complete
			if c.sent {
				complete = o.CompleteSent
			}
			rate := func(change func(*event.Event)) *event.Event {
				e := &event.Event{UUID: event.NewID(), ProjectID: "default", Name: event.Feedback, Timestamp: now.Add(time.Hour)}
				change(e)
				if unknown, err := complete(t.Context(), []*event.Event{e}); err != nil || len(unknown) != 0 {
					t.Errorf("%d unknown, %v", len(unknown), err)
				}
				return e
			}
			byTrace := func(e *event.Event) { e.TraceID, e.ParentID = call.TraceID, call.SpanID }
			o.Remember(call)
			if e := rate(byTrace); e.TraceID != call.TraceID || e.PromptName != "greet" {
				t.Errorf("before the merge: %+v", e)
			}
			join.Apply(merges[0], s.call)
			o.Remember(s.call)
			want := []string{call.TraceID, call.SpanID}
			if c.moves {
				want = []string{other.TraceID, other.SpanID}
			}
			if e := rate(byTrace); !slices.Equal([]string{e.TraceID, e.ParentID}, want) || e.PromptName != "greet" {
				t.Errorf("by trace: %+v, want %v", e, want)
			}
			o = join.NewOutcomes() // after a restart
			o.Open(s)
			o.Follow(found(merges))
			complete = o.Complete
			if c.sent {
				complete = o.CompleteSent
			}
			if e := rate(byTrace); !slices.Equal([]string{e.TraceID, e.ParentID}, want) || e.PromptName != "greet" {
				t.Errorf("after a restart: %+v, want %v", e, want)
			}
			lost := &event.Event{UUID: event.NewID(), ProjectID: "default", Name: event.Feedback, Timestamp: now, TraceID: "elsewhere"}
			if unknown, err := complete(t.Context(), []*event.Event{lost}); err != nil || len(unknown) != 1 || lost.TraceID != "elsewhere" {
				t.Errorf("%+v, %v", lost, err)
			}
		})
	}
}

// finding is a store that has one call.
type finding struct{ call *event.Event }

func (f *finding) OfTraces(_ context.Context, _ string, traces, ids []string, _, _ time.Time) ([]*event.Event, bool, error) {
	if slices.Contains(traces, f.call.TraceID) || slices.Contains(ids, f.call.SpanID) {
		return []*event.Event{f.call}, true, nil
	}
	return nil, true, nil
}

func (f found) MergesFrom(_ context.Context, _ string, traces []string) (out []*event.Event, _ error) {
	for _, e := range f {
		if m, ok := join.MergeOf(e); ok && slices.Contains(traces, m.Trace) {
			out = append(out, e)
		}
	}
	return out, nil
}

// found are merges in the store.
type found []*event.Event

func (f found) MergesOf(context.Context, string, string) ([]*event.Event, error) { return f, nil }

// world is a real journal and store with a joiner and a sink over them.
type world struct {
	t     *testing.T
	dir   string
	j     *journal.Journal
	db    *store.DuckDB
	stop  context.CancelFunc
	done  chan error
	sunk  chan error
	merge *join.Joiner
}

func (w *world) start() {
	w.t.Helper()
	var err error
	if w.j, err = journal.Open(w.t.Context(), journal.Config{Dir: w.dir + "/journal"}); err != nil {
		w.t.Fatal(err)
	}
	if w.db, err = store.OpenDuckDB(w.t.Context(), store.Config{Path: w.dir + "/x.duckdb"}); err != nil {
		w.t.Fatal(err)
	}
	w.merge, err = join.NewJoiner(join.JoinerConfig{
		Open: func(ctx context.Context, since time.Time) (event.Queue, error) {
			q, err := w.j.Queue(ctx, "join", journal.QueueOptions{From: journal.FromNow})
			if err == nil {
				_, err = w.j.Rewind(ctx, "join", since)
			}
			return q, err
		},
		Behind:  func(ctx context.Context) (uint64, error) { q, err := w.j.Lag(ctx, "join"); return q.Pending, err },
		Journal: w.j, Merges: w.db,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	q, err := w.j.Queue(w.t.Context(), "store", journal.QueueOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(w.t.Context())
	w.stop, w.done, w.sunk = stop, make(chan error, 1), make(chan error, 1)
	go func() { w.done <- w.merge.Run(ctx) }()
	go func() { w.sunk <- (&store.Sink{Queue: q, Store: w.db, FlushInterval: time.Millisecond}).Run(ctx) }()
}

func (w *world) end() {
	w.stop()
	if err := errors.Join(<-w.done, <-w.sunk, w.j.Close(context.Background()), w.db.Close()); err != nil {
		w.t.Error(err)
	}
}

// row waits until the store has one row, of that source and user, and returns it.
func (w *world) row(source, user string) *event.Event {
	w.t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		rows := w.all()
		if len(rows) == 1 && rows[0].Source == source && rows[0].DistinctID == user {
			return rows[0]
		}
		select {
		case <-deadline:
			w.t.Fatalf("%d rows: %+v", len(rows), rows)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// TestMergedInTheStore: with a journal and a store, a call that was captured
// twice is one row with the gateway's figures and the wrapper's user, in either
// order, with a restart between them or before the merge, and again after the
// store was lost.
func TestMergedInTheStore(t *testing.T) {
	const id = "chatcmpl-3af2caf059284c98a142c216"
	for name, gatewayFirst := range map[string]bool{"gateway first": true, "wrapper first": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := &world{t: t, dir: t.TempDir()}
			w.start()
			pair := []*event.Event{generation(event.SourceGateway, id), generation(event.SourceIngest, id)}
			if !gatewayFirst {
				slices.Reverse(pair)
			}
			if err := w.j.Append(t.Context(), pair[0]); err != nil {
				t.Fatal(err)
			}
			w.row(pair[0].Source, pair[0].DistinctID)
			w.end()
			w.start()
			if err := w.j.Append(t.Context(), pair[1]); err != nil {
				t.Fatal(err)
			}
			check := func() {
				t.Helper()
				got := w.row(event.SourceGateway, "u-ingest")
				if got.TraceID != "t-ingest" || got.ParentID != "p-ingest" || got.Usage.Input != event.Some[int64](7) || string(got.Properties["mine"]) != "1" {
					t.Errorf("%+v", got)
				}
			}
			check()
			// What the journal delivers again changes nothing.
			if err := w.j.Append(t.Context(), pair...); err != nil {
				t.Fatal(err)
			}
			if _, err := w.j.Rewind(t.Context(), "store", time.Time{}); err != nil {
				t.Fatal(err)
			}
			check()
			w.end()
			w.lose()
			w.start()
			if _, err := w.j.Rewind(t.Context(), "store", time.Time{}); err != nil {
				t.Fatal(err)
			}
			check()
			w.end()
		})
	}
}

func (w *world) all() (out []*event.Event) {
	w.t.Helper()
	if err := w.db.Read(w.t.Context(), func(rows *sql.Rows) error {
		for rows.Next() {
			row, err := store.ScanRow(rows)
			if err != nil {
				return err
			}
			out = append(out, row.Event)
		}
		return nil
	}, "SELECT "+store.EventColumns("")+" FROM events"); err != nil {
		w.t.Fatal(err)
	}
	return out
}

// lose deletes the store's files.
func (w *world) lose() {
	files, err := filepath.Glob(w.dir + "/x.duckdb*")
	if err != nil || len(files) == 0 {
		w.t.Fatal(files, err)
	}
	for _, f := range files {
		if err := os.Remove(f); err != nil {
			w.t.Fatal(err)
		}
	}
}
