package join

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/rawjson"
)

// fakeStore is a store: its events, and how often it was asked.
type fakeStore struct {
	events []*event.Event
	asked  [][]string
	err    error
	most   int // events of an answer; 0 is all of them
}

func (s *fakeStore) OfTraces(_ context.Context, project string, traces, ids []string, from, to time.Time) (out []*event.Event, generation bool, _ error) {
	s.asked = append(s.asked, append(slices.Clone(traces), ids...))
	if s.err != nil {
		return nil, false, s.err
	}
	for _, e := range s.events {
		if e.ProjectID == project && !e.Timestamp.Before(from) && !e.Timestamp.After(to) &&
			(slices.Contains(traces, e.TraceID) || slices.Contains(ids, e.SpanID) || slices.Contains(ids, e.UUID) || slices.Contains(ids, e.CompletionID)) {
			out = append(out, e)
		}
	}
	if s.most > 0 && len(out) >= s.most {
		return out[:s.most], false, nil
	}
	return out, true, nil
}

// opened returns Outcomes that ask find.
func opened(find Finder) *Outcomes {
	o := NewOutcomes()
	o.Open(find)
	return o
}

// Before the store is open, outcomes whose call is not known wait; once it is, they
// are asked for.
func TestOutcomesBeforeTheStoreIsOpen(t *testing.T) {
	o, e := NewOutcomes(), outcome(time.Second)
	unknown, err := o.Complete(t.Context(), []*event.Event{e})
	if ee := event.AsError(err); len(unknown) != 1 || ee == nil || ee.Code != event.CodeUnavailable {
		t.Errorf("%d unknown, %v", len(unknown), err)
	}
	o.Open(&fakeStore{events: []*event.Event{call("t", "1", 0, prompted("greet", "pv_1"))}})
	if unknown, err = o.Complete(t.Context(), []*event.Event{e}); len(unknown) != 0 || err != nil || e.PromptVersionID != "pv_1" {
		t.Errorf("%d unknown, %v, version %q", len(unknown), err, e.PromptVersionID)
	}
}

var noon = time.Date(2026, 6, 4, 12, 0, 0, 0, time.UTC)

func call(trace, id string, after time.Duration, change ...func(*event.Event)) *event.Event {
	e := &event.Event{UUID: "u-" + id, ProjectID: "p", Name: event.Generation, Timestamp: noon.Add(after), TraceID: trace, SpanID: id, CompletionID: "c-" + id, Provider: "openai", Model: "gpt-4.1-mini"}
	for _, f := range change {
		f(e)
	}
	return e
}

func outcome(after time.Duration, change ...func(*event.Event)) *event.Event {
	e := &event.Event{UUID: "o", ProjectID: "p", Name: "support_ticket_resolved", Timestamp: noon.Add(after), TraceID: "t"}
	for _, f := range change {
		f(e)
	}
	return e
}

func prompted(name, version string) func(*event.Event) {
	return func(e *event.Event) { e.PromptName, e.PromptVersionID = name, version }
}

func prop(name, v string) func(*event.Event) {
	return func(e *event.Event) { _ = e.SetProperty(name, v) }
}

// says is what charts of an outcome need.
func says(e *event.Event) string {
	return fmt.Sprint(e.PromptName, " ", e.PromptVersionID, " ", e.ModelName(), " ", e.Provider, " ", e.Surface, " ", e.Environment, " ", e.TaskType, " ", e.Flags, " ", rawjson.Scalar(e.Properties["agent_config_id"]))
}

func TestComplete(t *testing.T) {
	full := call("t", "a", 0, prompted("support_answer", "pv_1"), prop("agent_config_id", "ac_1"), func(e *event.Event) {
		e.Surface, e.Environment, e.TaskType, e.Flags = "Conversation", "production", "support_reply", map[string]string{"f": "treatment"}
	})
	const all = "support_answer pv_1 gpt-4.1-mini openai Conversation production support_reply map[f:treatment] ac_1"
	root := &event.Event{UUID: "r", ProjectID: "p", Name: event.Trace, Timestamp: noon.Add(-time.Second), TraceID: "t", SpanID: "r", Surface: "Playbook", Environment: "staging"}
	_ = root.SetProperty("agent_config_id", "ac_root")
	second := call("t", "b", time.Minute, prompted("other", "pv_9"), func(e *event.Event) { e.Model, e.Provider = "claude", "anthropic" })
	plain := call("t", "0", -time.Minute, func(e *event.Event) { e.Model = "router" })
	const nothing = "       map[] "
	nameless := func(e *event.Event) { e.TraceID = "" }
	for _, tt := range []struct {
		name  string
		known []*event.Event
		of    *event.Event
		want  string
	}{
		{"by its trace", []*event.Event{full}, outcome(time.Hour), all},
		{"a judgment", []*event.Event{full}, outcome(0, func(e *event.Event) { e.Name = event.Feedback }), all},
		{"six days later", []*event.Event{full}, outcome(6 * 24 * time.Hour), all},
		{"too late", []*event.Event{full}, outcome(8 * 24 * time.Hour), nothing},
		{"the first call that names a prompt", []*event.Event{second, full, plain}, outcome(time.Hour), all},
		{"the first call where none does", []*event.Event{call("t", "z", time.Minute), plain}, outcome(time.Hour), "  router openai    map[] "},
		{"what its call does not say the trace says", []*event.Event{second, root}, outcome(time.Hour), "other pv_9 claude anthropic Playbook staging  map[] ac_root"},
		{"a wrapper's capture", []*event.Event{func() *event.Event { e := call("t", "a", 0, prompted("n", "v")); e.Name = event.Span; return e }()}, outcome(0), "n v gpt-4.1-mini openai    map[] "},

		{"by the span id of its call", []*event.Event{full, second}, outcome(time.Hour, func(e *event.Event) { e.ParentID = "b" }), "other pv_9 claude anthropic Conversation production support_reply map[f:treatment] ac_1"},
		{"by a span id alone", []*event.Event{full, second}, outcome(time.Hour, nameless, func(e *event.Event) { e.ParentID = "a" }), all},
		{"by a uuid alone", []*event.Event{full, second}, outcome(time.Hour, nameless, func(e *event.Event) { e.ParentID = "u-a" }), all},
		{"by a completion id alone", []*event.Event{full, second}, outcome(time.Hour, nameless, func(e *event.Event) { e.ParentID = "c-a" }), all},
		{"by a request id alone", []*event.Event{full, second}, outcome(time.Hour, nameless, prop("request_id", "a"), func(e *event.Event) { e.Name = "llm_task_completed" }), all},
		{"by the caller's own request id", []*event.Event{call("t", "x", 0, prop("request_id", "req_1"), prompted("n", "v"))}, outcome(time.Hour, nameless, prop("request_id", "req_1")), "n v gpt-4.1-mini openai    map[] "},

		{"what it says itself stands", []*event.Event{full}, outcome(time.Hour, prompted("own", "pv_own"), prop("posthog_flag", "x"), prop("agent_config_id", "mine"), func(e *event.Event) { e.Model, e.Surface, e.Environment = "own-model", "Guide", "dev" }),
			"own pv_own own-model  Guide dev support_reply map[] mine"},
		{"what it says as properties stands", []*event.Event{full}, outcome(time.Hour, prop("model", "own"), prop("prompt_version_id", "pv_own")), "    Conversation production support_reply map[f:treatment] ac_1"},
		{"another prompt's version is not its own", []*event.Event{full}, outcome(time.Hour, prompted("own", "")), "own  gpt-4.1-mini openai Conversation production support_reply map[f:treatment] ac_1"},
		{"another project's trace", []*event.Event{func() *event.Event { e := full.Clone(); e.ProjectID = "q"; return e }()}, outcome(time.Hour), nothing},
		{"PostHog's own events", []*event.Event{full}, outcome(time.Hour, func(e *event.Event) { e.Name = "$pageview" }), nothing},
	} {
		for _, way := range []string{"remembered", "looked up"} {
			if way == "looked up" && tt.name == "by the caller's own request id" {
				continue // of a product event, only what is in memory is looked at
			}
			t.Run(tt.name+"/"+way, func(t *testing.T) {
				s := new(fakeStore)
				o := opened(s)
				s.events = tt.known
				if way == "remembered" { // the outcome was seen before, and its call came then
					s.events = nil
					o.Remember(tt.known...)
					if e := tt.of.Clone(); len(named(e)) == 0 {
						_, _ = o.Complete(t.Context(), []*event.Event{e})
						o.Remember(tt.known...)
					} else {
						s.events = tt.known
					}
				}
				e := tt.of.Clone()
				given := e.Properties
				before := fmt.Sprint(given)
				unknown, err := o.Complete(t.Context(), []*event.Event{e, full.Clone()})
				if err != nil {
					t.Fatal(err)
				}
				want := tt.want
				if got := says(e); got != want {
					t.Errorf("got  %q\nwant %q", got, want)
				}
				if fmt.Sprint(given) != before {
					t.Error("the caller's properties were written into")
				}
				if known := tt.want != nothing; (len(unknown) == 0) != known && e.Name[0] != '$' {
					t.Errorf("known %t, but %d are reported as unknown", known, len(unknown))
				}
				again := e.Clone()
				if _, err := o.Complete(t.Context(), []*event.Event{again}); err != nil || !reflect.DeepEqual(again, e.Clone()) {
					t.Errorf("completing twice changes the outcome: %v", err)
				}
			})
		}
	}
}

// The store is asked for a trace once. What is stored later is known without another
// question.
func TestCompleteAsksOnce(t *testing.T) {
	s := &fakeStore{events: []*event.Event{call("t", "a", 0, prompted("n", "v"))}}
	o := opened(s)
	e := outcome(time.Hour)
	if _, err := o.Complete(t.Context(), []*event.Event{e}); err != nil || e.PromptVersionID != "v" {
		t.Fatalf("%v %s", err, says(e))
	}
	early := outcome(0, func(e *event.Event) { e.TraceID = "t2" })
	for range 3 {
		if unknown, err := o.Complete(t.Context(), []*event.Event{outcome(0), early}); err != nil || len(unknown) != 1 || unknown[0] != early {
			t.Fatal(unknown, err)
		}
	}
	if len(s.asked) != 2 {
		t.Errorf("asked for %v", s.asked)
	}
	o.Remember(call("t2", "c", time.Second, prompted("m", "w")))
	if unknown, _ := o.Complete(t.Context(), []*event.Event{early}); len(unknown) != 0 || early.PromptVersionID != "w" {
		t.Errorf("%v %s", unknown, says(early))
	}
}

// A store that cannot be queried is reported, and queried again.
func TestCompleteWithoutStore(t *testing.T) {
	s := &fakeStore{err: errors.New("away"), events: []*event.Event{call("t", "a", 0, prompted("n", "v"))}}
	o := opened(s)
	e := outcome(0)
	if unknown, err := o.Complete(t.Context(), []*event.Event{e}); err == nil || len(unknown) != 1 {
		t.Fatal(unknown, err)
	}
	s.err = nil
	if unknown, err := o.Complete(t.Context(), []*event.Event{e}); err != nil || len(unknown) != 0 || e.PromptVersionID != "v" {
		t.Fatal(unknown, err, says(e))
	}
}

// What is remembered is bounded, and what was forgotten is looked for again.
func TestRemembersSoMany(t *testing.T) {
	s := new(fakeStore)
	o := opened(s)
	var list []*event.Event
	for i := range maxTraces + 10 {
		id := fmt.Sprint("t", i)
		s.events = append(s.events, call(id, id, 0))
		list = append(list, outcome(0, func(e *event.Event) { e.TraceID = id }))
	}
	all := s.events
	for len(list) > 0 {
		n := min(len(list), 500)
		s.events, all = all[:n], all[n:]
		if unknown, err := o.Complete(t.Context(), list[:n]); err != nil || len(unknown) != 0 {
			t.Fatal(len(unknown), err)
		}
		list = list[n:]
	}
	if len(o.traces) != maxTraces || o.recent.Len() != maxTraces || len(o.byID) != 3*maxTraces {
		t.Errorf("%d traces, %d in order, %d ids", len(o.traces), o.recent.Len(), len(o.byID))
	}
	s.events = []*event.Event{call("t0", "t0", 0)}
	e := outcome(0, func(e *event.Event) { e.TraceID = "t0" })
	if unknown, err := o.Complete(t.Context(), []*event.Event{e}); err != nil || len(unknown) != 0 {
		t.Error(unknown, err)
	}
	for i := range 2 * maxCalls {
		o.Remember(call("t0", fmt.Sprint("x", i), 0))
	}
	if n := len(o.traces[key{"p", "t0"}].events); n != maxCalls {
		t.Errorf("%d events of one trace", n)
	}
	for i := range maxIDs {
		o.Remember(call(fmt.Sprint("y", i), fmt.Sprint("y", i), 0))
	}
	if len(o.traceOf) != maxIDs || len(o.ring) != maxIDs {
		t.Errorf("%d ids of recent calls, %d in order", len(o.traceOf), len(o.ring))
	}
}

// What each stored call costs.
func BenchmarkRemember(b *testing.B) {
	o := opened(new(fakeStore))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		id := fmt.Sprintf("%032d", i)
		o.Remember(call(id, id, 0, prompted("support_answer", "pv_1")))
	}
}

func BenchmarkMakeCall(b *testing.B) {
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		id := fmt.Sprintf("%032d", i)
		call(id, id, 0, prompted("support_answer", "pv_1"))
	}
}

// A call that its application reports itself is a call, not an outcome that waits
// for one.
func TestReportedCall(t *testing.T) {
	end := call("t", "r", 0, prompted("support_answer", "pv_3"), func(e *event.Event) { e.Name, e.Status = event.RequestCompleted, event.StatusSuccess })
	begun := call("t", "s", 0, func(e *event.Event) { e.Name = event.RequestStarted })
	o := opened(&fakeStore{events: []*event.Event{begun, end}})
	rated := outcome(time.Minute)
	if unknown, err := o.Complete(t.Context(), []*event.Event{end, begun, rated}); err != nil || len(unknown) > 0 {
		t.Fatalf("%d events wait, %v", len(unknown), err)
	}
	if rated.Model != "gpt-4.1-mini" || rated.PromptVersionID != "pv_3" {
		t.Errorf("the outcome has model %q and prompt version %q", rated.Model, rated.PromptVersionID)
	}
	if len(Named([]*event.Event{end, begun})) > 0 {
		t.Error("a reported call is taken for an outcome")
	}
}

// Outcomes of many long traces have their calls though one answer of the store does
// not hold all of them.
func TestCompleteLongTraces(t *testing.T) {
	s := &fakeStore{most: 50}
	var outcomes []*event.Event
	for i := range 40 {
		id := fmt.Sprint("t", i)
		s.events = append(s.events, call(id, id, 0, prompted("n", "v")))
		for j := range 10 {
			s.events = append(s.events, call(id, fmt.Sprint(id, "-", j), time.Second, func(e *event.Event) { e.Name = event.Span }))
		}
		outcomes = append(outcomes, outcome(time.Hour, func(e *event.Event) { e.TraceID = id }))
	}
	byID := outcome(time.Hour, func(e *event.Event) { e.TraceID, e.ParentID = "", "t39" })
	outcomes = append(outcomes, byID)
	unknown, err := opened(s).Complete(t.Context(), outcomes)
	if err != nil || len(unknown) != 0 {
		t.Errorf("%d of %d have no call, %v", len(unknown), len(outcomes), err)
	}
	for _, e := range outcomes {
		if e.PromptVersionID != "v" {
			t.Errorf("the outcome of %s says %s", e.TraceID, says(e))
		}
	}

	// A question that fails after the first leaves nothing behind that counts as asked.
	o := opened(finder(func(n int) error {
		if n > 3 {
			return errors.New("away")
		}
		return nil
	}, s))
	again := make([]*event.Event, len(outcomes))
	for i := range again {
		again[i] = outcome(time.Hour, func(e *event.Event) { e.TraceID = fmt.Sprint("t", i) })
	}
	again = again[:40]
	if _, err := o.Complete(t.Context(), again); err == nil {
		t.Fatal("no error")
	}
	o.Open(s)
	if unknown, err := o.Complete(t.Context(), again); err != nil || len(unknown) != 0 {
		t.Errorf("%d have no call after the second try, %v", len(unknown), err)
	}
}

// failing is a store of which some questions fail.
type failing struct {
	*fakeStore
	fail func(n int) error
}

func finder(fail func(n int) error, s *fakeStore) *failing { s.asked = nil; return &failing{s, fail} }

func (f *failing) OfTraces(ctx context.Context, project string, traces, ids []string, from, to time.Time) ([]*event.Event, bool, error) {
	if err := f.fail(len(f.asked)); err != nil {
		return nil, false, err
	}
	return f.fakeStore.OfTraces(ctx, project, traces, ids, from, to)
}

// However long the traces are, what is remembered is bounded, and a call has its
// place in a trace that is full of other steps.
func TestRemembersSoManyEvents(t *testing.T) {
	o := opened(new(fakeStore))
	for i := range 2 * maxKnown / maxCalls {
		id := fmt.Sprint("t", i)
		_, _ = o.Complete(t.Context(), []*event.Event{outcome(0, func(e *event.Event) { e.TraceID = id })})
		for j := range maxCalls {
			o.Remember(call(id, fmt.Sprint(id, "-", j), 0, func(e *event.Event) { e.Name = event.Span }))
		}
	}
	if o.count != maxKnown || len(o.byID) != 3*maxKnown || len(o.traces) != maxKnown/maxCalls {
		t.Errorf("%d events, %d ids, %d traces", o.count, len(o.byID), len(o.traces))
	}
	last := fmt.Sprint("t", 2*maxKnown/maxCalls-1)
	o.Remember(call(last, "call", time.Minute, prompted("n", "v")))
	e := outcome(time.Hour, func(e *event.Event) { e.TraceID = last })
	if unknown, err := o.Complete(t.Context(), []*event.Event{e}); err != nil || len(unknown) != 0 || e.PromptVersionID != "v" || o.count != maxKnown {
		t.Errorf("%d unknown, %v, %s, %d events", len(unknown), err, says(e), o.count)
	}
}

// An id that calls of several traces have says nothing alone.
func TestCompleteByIDOfSeveral(t *testing.T) {
	weak := func(e *event.Event) { e.CompletionID = "chatcmpl-5" }
	first, second := call("t1", "a", 0, prompted("one", "v1"), weak), call("t2", "b", time.Minute, prompted("two", "v2"), weak)
	wrapped := call("t3", "c", 0, prompted("two", "v2"), weak, func(e *event.Event) { e.Name = event.Span })
	for _, tt := range []struct {
		name, trace string
		known       []*event.Event
		want        string
	}{
		{"calls of two traces", "", []*event.Event{first, second}, ""},
		{"with the trace", "t2", []*event.Event{first, second}, "v2"},
		{"one call, captured twice", "", []*event.Event{wrapped, first}, "v1"},
	} {
		e := outcome(time.Hour, func(e *event.Event) { e.TraceID = tt.trace; e.ParentID = "chatcmpl-5" })
		_, err := opened(&fakeStore{events: tt.known}).Complete(t.Context(), []*event.Event{e})
		if err != nil || e.PromptVersionID != tt.want || tt.want == "" && e.TraceID != "" {
			t.Errorf("%s: %q of trace %q, %v", tt.name, e.PromptVersionID, e.TraceID, err)
		}
	}
}

// An outcome with a wrong clock does not keep those after it from their call.
func TestCompleteAfterWrongClock(t *testing.T) {
	o := opened(&fakeStore{events: []*event.Event{call("t", "a", 0, prompted("n", "v"))}})
	_, _ = o.Complete(t.Context(), []*event.Event{outcome(-40 * 365 * 24 * time.Hour)})
	e := outcome(time.Hour)
	if unknown, err := o.Complete(t.Context(), []*event.Event{e}); err != nil || len(unknown) != 0 || e.PromptVersionID != "v" {
		t.Error(unknown, err, says(e))
	}
}

// An outcome that names a call by an id alone, for which the store looks long, does
// not keep the others from theirs, and the store is asked for such an id once.
func TestCompleteByIDAlone(t *testing.T) {
	s := &fakeStore{events: []*event.Event{call("t", "a", 0, prompted("n", "v"))}}
	away := true
	o := opened(&failing{s, func(n int) error {
		if n > 0 && away { // the second question
			return context.DeadlineExceeded
		}
		return nil
	}})
	stray := outcome(time.Hour, func(e *event.Event) { e.UUID, e.TraceID, e.ParentID = "stray", "", "c-late" })
	e := outcome(time.Hour)
	if unknown, err := o.Complete(t.Context(), []*event.Event{stray, e}); err == nil || len(unknown) != 1 || unknown[0] != stray || e.PromptVersionID != "v" {
		t.Fatalf("%d unknown, %v, %s", len(unknown), err, says(e))
	}
	away = false
	for range 3 {
		if unknown, err := o.Complete(t.Context(), []*event.Event{stray}); err != nil || len(unknown) != 1 {
			t.Fatal(unknown, err)
		}
	}
	if len(s.asked) != 2 {
		t.Errorf("asked for %v", s.asked)
	}
	late := call("t9", "late", 2*time.Hour, prompted("m", "w"))
	s.events = append(s.events, late)
	o.Remember(late)
	if unknown, err := o.Complete(t.Context(), []*event.Event{stray}); err != nil || len(unknown) != 0 || stray.PromptVersionID != "w" || stray.TraceID != "t9" {
		t.Errorf("%d unknown, %v, %s", len(unknown), err, says(stray))
	}
	for i := range maxMissed + 10 {
		o.miss(uint64(i))
	}
	if len(o.missed) != maxMissed || len(o.missedRing) != maxMissed {
		t.Errorf("%d ids that the store does not have, %d in order", len(o.missed), len(o.missedRing))
	}
}
