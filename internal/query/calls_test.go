package query_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

func TestRecentCalls(t *testing.T) {
	f := newFixture(t)
	start := time.Now().Add(-time.Minute)
	call := &event.Event{UUID: event.NewID(), ProjectID: "p1", Name: event.Generation, Source: event.SourceGateway, Timestamp: now, CompletionID: "chatcmpl-1", BaseURL: "http://gw/", Provider: "ollama", ModelAsked: "llama3.2", Model: "llama3.2:1b", Latency: event.Some(1500 * time.Millisecond), Usage: event.Usage{Input: event.Some[int64](7)}}
	bare := &event.Event{UUID: event.NewID(), ProjectID: "p2", Name: event.Embedding, Timestamp: now}
	span := &event.Event{UUID: event.NewID(), ProjectID: "p1", Name: event.Span, Timestamp: now, Properties: map[string]json.RawMessage{"joined": json.RawMessage(`"` + call.UUID + `"`)}}
	f.write(t, call)
	f.write(t, bare)
	f.write(t, span, &event.Event{UUID: event.NewID(), ProjectID: "p1", Name: event.Span, Timestamp: now}, &event.Event{UUID: event.NewID(), ProjectID: "p1", Name: "click", Timestamp: now})
	got, err := f.RecentCalls(t.Context(), start, "joined", 100)
	if err != nil || len(got) < 3 {
		t.Fatalf("%d, %v", len(got), err)
	}
	got = got[len(got)-3:] // the fixture has calls of its own
	if a := got[0]; a.UUID != call.UUID || a.ProjectID != "p1" || a.Source != event.SourceGateway || !a.Timestamp.Equal(now) || a.CompletionID != "chatcmpl-1" || a.BaseURL != "http://gw/" || a.Provider != "ollama" || a.ModelAsked != "llama3.2" || a.Model != "llama3.2:1b" || a.Latency != call.Latency || a.Usage.Input != call.Usage.Input || a.Usage.Output.Known {
		t.Errorf("%+v", a)
	}
	if b := got[1]; b.UUID != bare.UUID || b.CompletionID != "" || b.Source != "" {
		t.Errorf("%+v", b)
	}
	if s := got[2]; s.UUID != span.UUID || s.Name != event.Span || string(s.Properties["joined"]) != `"`+call.UUID+`"` {
		t.Errorf("%+v", s)
	}
	if got, err := f.RecentCalls(t.Context(), start, "joined", 1); err != nil || len(got) != 1 || got[0].UUID != span.UUID {
		t.Errorf("the newest: %v, %v", got, err)
	}
	if got, err := f.RecentCalls(t.Context(), time.Now().Add(time.Hour), "joined", 1); err != nil || len(got) != 0 {
		t.Errorf("of the future: %v, %v", got, err)
	}
}
