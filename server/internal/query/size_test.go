package query_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

// TestLargeEvents lists events and a trace that would be 60 MB.
func TestLargeEvents(t *testing.T) {
	f := newFixture(t)
	const n = 60
	long := json.RawMessage(`"` + strings.Repeat("x", 1<<20-100) + `"`)
	var events []*event.Event
	for i := range n {
		e := &event.Event{UUID: event.NewID(), ProjectID: "large", Name: event.Span, Timestamp: now.Add(time.Duration(i) * time.Second), TraceID: "big", SpanID: fmt.Sprint("s", i), ErrorMessage: strings.Repeat("e", 9000),
			Latency: event.Some(time.Duration(i)), Properties: map[string]json.RawMessage{"long": long}}
		if i%10 == 0 {
			e.Properties = map[string]json.RawMessage{"short": json.RawMessage("1")}
		}
		events = append(events, e)
	}
	f.write(t, events...)
	for _, q := range []query.EventsQuery{{}, {Sort: query.ByLatency}} {
		q.Project, q.Limit = "large", 50
		seen, pages := make(map[string]bool), 0
		for {
			page, err := f.Events(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			b, err := json.Marshal(page)
			if err != nil || len(b) > 12<<20 || len(page.Events) == 0 {
				t.Fatalf("a page of %d events has %d bytes, %v", len(page.Events), len(b), err)
			}
			for _, e := range page.Events {
				if seen[e.UUID] || e.LeftOut {
					t.Errorf("%s comes twice, or lacks something", e.UUID)
				}
				seen[e.UUID] = true
			}
			pages++
			if q.Cursor = page.Next; q.Cursor == "" {
				break
			}
		}
		if len(seen) != n || pages < 5 {
			t.Errorf("%d events on %d pages, want %d", len(seen), pages, n)
		}
	}
	trace, err := f.Trace(t.Context(), "large", "big")
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(trace)
	if err != nil || len(b) > 12<<20 || trace.Rollup.Events != n || trace.Truncated {
		t.Errorf("a trace of %d bytes with %d events, truncated %v, %v", len(b), trace.Rollup.Events, trace.Truncated, err)
	}
	for _, node := range trace.Roots {
		e := node.Event
		if short := e.Properties["short"] != nil; short == e.LeftOut || len(e.ErrorMessage) != map[bool]int{true: 300, false: 9000}[e.LeftOut] {
			t.Errorf("%s: %d properties, left out %v, %d bytes of error", e.SpanID, len(e.Properties), e.LeftOut, len(e.ErrorMessage))
		}
	}
}
