package query_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// The events of traces are found by the traces' ids, and by what an outcome may name
// a call by.
func TestOfTraces(t *testing.T) {
	f := newFixture(t)
	of := func(project, trace, span string, change func(*event.Event)) *event.Event {
		e := &event.Event{UUID: event.NewID(), ProjectID: project, Name: event.Generation, Timestamp: now, TraceID: trace, SpanID: span, CompletionID: "c-" + span, PromptVersionID: "pv_1",
			Flags: map[string]string{"f": "treatment"}, Properties: map[string]json.RawMessage{"request_id": json.RawMessage(`"req-` + span + `"`), "agent_config_id": json.RawMessage(`"ac"`)}}
		if change != nil {
			change(e)
		}
		return e
	}
	a := of("p1", "ot-1", "ot-a", nil)
	b := of("p1", "ot-1", "ot-b", func(e *event.Event) { e.Name, e.Timestamp = event.Span, now.Add(time.Second) })
	c := of("p1", "ot-2", "ot-c", nil)
	f.write(t, a, b, c, of("p2", "ot-1", "ot-a", nil), of("p1", "ot-1", "ot-d", func(e *event.Event) { e.Name = "support_ticket_resolved" }),
		of("p1", "ot-1", "ot-e", func(e *event.Event) { e.Timestamp = now.Add(-8 * 24 * time.Hour) }))
	ids := func(traces, calls []string) string {
		t.Helper()
		got, whole, err := f.OfTraces(t.Context(), "p1", traces, calls, now.Add(-7*24*time.Hour), now.Add(7*24*time.Hour))
		if err != nil || !whole {
			t.Fatal(whole, err)
		}
		seen := map[string]bool{}
		for _, e := range got {
			if seen[e.SpanID] = true; e.PromptVersionID != "pv_1" || e.Flags["f"] != "treatment" || string(e.Properties["agent_config_id"]) != `"ac"` {
				t.Errorf("%+v", e)
			}
		}
		return strings.Join(slices.Sorted(maps.Keys(seen)), " ")
	}
	for _, tt := range []struct {
		traces, calls []string
		want          string
	}{
		{[]string{"ot-1"}, nil, "ot-a ot-b"},
		{[]string{"ot-1", "ot-2", "nowhere"}, nil, "ot-a ot-b ot-c"},
		{nil, []string{"ot-b"}, "ot-a ot-b"}, // with the rest of its trace
		{nil, []string{c.UUID}, "ot-c"},
		{nil, []string{"c-ot-a"}, "ot-a ot-b"},
		{nil, []string{"req-ot-c", "nowhere"}, "ot-c"},
		{[]string{"ot-2"}, []string{"ot-a"}, "ot-a ot-b ot-c"},
		{[]string{"nowhere"}, []string{"nobody"}, ""},
	} {
		if got := ids(tt.traces, tt.calls); got != tt.want {
			t.Errorf("%v, %v: %s, want %s", tt.traces, tt.calls, got, tt.want)
		}
	}
}

// Of more than one answer holds, calls come first, and it is said that the answer is
// not whole.
func TestOfTracesOfManySteps(t *testing.T) {
	f := newFixture(t)
	events := make([]*event.Event, 5_010)
	for i := range events {
		events[i] = &event.Event{UUID: event.NewID(), ProjectID: "p1", Name: event.Span, Timestamp: now, TraceID: "long"}
	}
	call := &event.Event{UUID: event.NewID(), ProjectID: "p1", Name: event.Generation, Timestamp: now.Add(time.Hour), TraceID: "long"}
	f.write(t, append(events, call)...)
	got, whole, err := f.OfTraces(t.Context(), "p1", []string{"long"}, nil, now.Add(-time.Hour), now.Add(2*time.Hour))
	if err != nil || whole || len(got) != 5_000 || got[0].UUID != call.UUID {
		t.Errorf("%d events, whole %t, %v", len(got), whole, err)
	}
}
