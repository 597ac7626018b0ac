package store_test

import (
	"encoding/json"
	"path/filepath"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/join"
	"github.com/hedgerow/hedgerow/server/internal/join/jointest"
	"github.com/hedgerow/hedgerow/server/internal/store"
)

// pairOf returns two captures of a call, and their merge as a joiner makes it.
func pairOf(t *testing.T) (call, half, merge *event.Event) {
	t.Helper()
	at := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	call = &event.Event{UUID: event.NewID(), ProjectID: "p", Name: event.Generation, Source: event.SourceGateway, Timestamp: at, TraceID: "gw", SpanID: "g", CompletionID: "chatcmpl-3af2caf059284c98a142c216",
		Model: "m", Usage: event.Usage{Input: event.Some[int64](7), Output: event.Some[int64](2)}, Content: event.Content{Input: json.RawMessage(`["hi"]`)}}
	half = call.Clone()
	half.UUID, half.Source, half.DistinctID, half.TraceID, half.SpanID = event.NewID(), event.SourceIngest, "ada", "wrapper", "s"
	half.Properties = map[string]json.RawMessage{"plan": json.RawMessage(`"pro"`)}
	return call, half, mergeOf(t, call, half)
}

// mergeOf returns the merge of two captures as a joiner makes it.
func mergeOf(t *testing.T, first, second *event.Event) *event.Event {
	t.Helper()
	merges := jointest.Merges(t, first.Timestamp, join.JoinerConfig{}, first, second)
	if len(merges) != 1 {
		t.Fatal(merges)
	}
	return merges[0]
}

// TestMergeInAnyOrder: in any order, and in one write or three, the store has
// one row, with the content and the outcome of the call in the trace of the
// wrapper; what comes again changes nothing, and once deleted neither half
// comes back.
func TestMergeInAnyOrder(t *testing.T) {
	for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		for _, together := range []bool{false, true} {
			d, err := store.OpenDuckDB(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "m.duckdb")})
			if err != nil {
				t.Fatal(err)
			}
			call, half, merge := pairOf(t)
			all := []*event.Event{call, half, merge}
			rated := &event.Event{UUID: event.NewID(), ProjectID: "p", Name: event.Feedback, Timestamp: call.Timestamp, TraceID: "gw", ParentID: "g"}
			var batch []*event.Event
			for _, i := range order {
				batch = append(batch, all[i])
			}
			batch = append(batch, rated)
			write := func() {
				t.Helper()
				if together {
					if _, err := d.Write(t.Context(), batch); err != nil {
						t.Fatal(err)
					}
					return
				}
				for _, e := range batch {
					if _, err := d.Write(t.Context(), []*event.Event{e}); err != nil {
						t.Fatal(err)
					}
				}
			}
			for range 2 {
				write()
				if n := count(t, d, "SELECT count(*) FROM events WHERE name = '$ai_generation' AND uuid = '"+call.UUID+"' AND source = 'gateway' AND distinct_id = 'ada' AND trace_id = 'wrapper' AND span_id = 's' AND input_tokens = 7 AND content_bytes > 0"); n != 1 {
					t.Errorf("%v, together %v: the merged row is there %d times", order, together, n)
				}
				if n := count(t, d, "SELECT count(*) FROM events"); n != 2 {
					t.Errorf("%v, together %v: %d rows, want 2", order, together, n)
				}
				if n := count(t, d, "SELECT count(*) FROM events WHERE name = '$ai_feedback' AND trace_id = 'wrapper' AND parent_id = 's' AND span_id IS NULL"); n != 1 {
					t.Errorf("%v, together %v: the outcome is not in the call's trace", order, together)
				}
				if n := count(t, d, "SELECT count(*) FROM content"); n != 1 {
					t.Errorf("%v, together %v: %d contents, want 1", order, together, n)
				}
			}
			if _, err := d.DeleteEvents(t.Context(), "p", []string{call.UUID}); err != nil {
				t.Fatal(err)
			}
			write()
			if n := count(t, d, "SELECT count(*) FROM events WHERE name = '$ai_generation'"); n != 0 {
				t.Errorf("%v, together %v: %d generations after the deletion", order, together, n)
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestMergeOfDeleted: a capture that was deleted before the other came takes the other
// with it, and what a wrapper said is not stored again. A recreated store does the same.
func TestMergeOfDeleted(t *testing.T) {
	for _, deleteCall := range []bool{false, true} {
		dir := t.TempDir()
		call, half, merge := pairOf(t)
		first, second := half, call
		if deleteCall {
			first, second = call, half
		}
		for name, writes := range map[string][][]*event.Event{"apart": {{second}, {merge}}, "together": {{second, merge}}, "merge first": {{merge}, {second}}} {
			d, err := store.OpenDuckDB(t.Context(), store.Config{Path: filepath.Join(dir, name+".duckdb")})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := d.Write(t.Context(), []*event.Event{first}); err != nil {
				t.Fatal(err)
			}
			if _, err := d.DeleteEvents(t.Context(), "p", []string{first.UUID}); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				for _, w := range writes {
					if _, err := d.Write(t.Context(), w); err != nil {
						t.Fatal(err)
					}
				}
				if n := count(t, d, "SELECT (SELECT count(*) FROM events) + (SELECT count(*) FROM content) + (SELECT count(*) FROM merges)"); n != 0 {
					t.Errorf("%s, call deleted %t: %d rows, want none", name, deleteCall, n)
				}
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestLateMerges counts late merges by project and time, and returns the uuid under
// which PostHog has a call.
func TestLateMerges(t *testing.T) {
	d, err := store.OpenDuckDB(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "m.duckdb")})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if sent, err := d.SentAs(t.Context(), "p", []string{event.NewID()}); err != nil || len(sent) != 0 {
		t.Errorf("%v, %v", sent, err)
	}
	call, half, merge := pairOf(t) // the first was not held: late
	if _, err := d.Write(t.Context(), []*event.Event{call, half, merge}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		project string
		since   time.Time
		want    int64
	}{{"p", time.Time{}, 1}, {"", time.Time{}, 1}, {"q", time.Time{}, 0}, {"p", time.Now().Add(time.Hour), 0}} {
		if n, err := d.LateMerges(t.Context(), c.project, c.since); err != nil || n != c.want {
			t.Errorf("%q since %v: %d, %v, want %d", c.project, c.since, n, err, c.want)
		}
	}
	if sent, err := d.SentAs(t.Context(), "p", []string{call.UUID, half.UUID}); err != nil || len(sent) != 0 {
		t.Errorf("PostHog has the gateway's capture, which came first: %v, %v", sent, err)
	}
	call, half, _ = pairOf(t)
	if _, err := d.Write(t.Context(), []*event.Event{half, call, mergeOf(t, half, call)}); err != nil {
		t.Fatal(err)
	}
	if sent, err := d.SentAs(t.Context(), "p", []string{call.UUID}); err != nil || len(sent) != 1 || sent[call.UUID] != half.UUID {
		t.Errorf("PostHog has the wrapper's capture, which came first: %v, %v", sent, err)
	}
}
