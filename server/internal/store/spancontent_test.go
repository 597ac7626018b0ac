package store_test

import (
	"database/sql"
	"encoding/json"
	"path/filepath"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/store"
)

// TestSpanContent checks that a span's log records become content of its event,
// in either order, in one write or in several, and after a restart.
func TestSpanContent(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	span := func(project, id string) *event.Event {
		return &event.Event{UUID: event.DerivedID(project+id, now), ProjectID: project, Name: event.Generation, Timestamp: now, Source: event.SourceOTLP, TraceID: "5b8efff798038103d269b633813fc60c", SpanID: id}
	}
	told := func(project, id, input, output string, after time.Duration) *event.Event {
		e := &event.Event{UUID: event.DerivedID(project+id+input+output, now), ProjectID: project, Name: event.SpanContent, Timestamp: now.Add(after), Source: event.SourceOTLP, TraceID: "5b8efff798038103d269b633813fc60c", SpanID: id}
		if input != "" {
			e.Content.Input = json.RawMessage(input)
		}
		if output != "" {
			e.Content.Output = json.RawMessage(output)
		}
		return e
	}
	own := func(e *event.Event, input string) *event.Event {
		e.Content.Input = json.RawMessage(input)
		return e
	}
	private := func(e *event.Event) *event.Event { e.Private = true; return e }
	const sys, user, answer = `[{"role":"system"}]`, `[{"role":"user"}]`, `[{"role":"assistant"}]`
	for _, tc := range []struct {
		name          string
		writes        [][]*event.Event
		reopen        bool
		input, output string
	}{
		{name: "span first", writes: [][]*event.Event{{span("p", "a")}, {told("p", "a", user, answer, 0)}}, input: user, output: answer},
		{name: "span last", writes: [][]*event.Event{{told("p", "a", user, answer, 0)}, {span("p", "a")}}, input: user, output: answer},
		{name: "together", writes: [][]*event.Event{{told("p", "a", user, "", 0), span("p", "a"), told("p", "a", "", answer, 1)}}, input: user, output: answer},
		{name: "in pieces around the span", writes: [][]*event.Event{{told("p", "a", sys, "", 0)}, {span("p", "a")}, {told("p", "a", user, "", time.Second)}, {told("p", "a", "", answer, 2*time.Second)}},
			input: `[{"role":"system"},{"role":"user"}]`, output: answer},
		{name: "pieces after the span, the later first", writes: [][]*event.Event{{span("p", "a")}, {told("p", "a", user, "", time.Second)}, {told("p", "a", sys, "", 0)}}, input: `[{"role":"system"},{"role":"user"}]`},
		{name: "told twice", writes: [][]*event.Event{{told("p", "a", user, "", 0)}, {told("p", "a", user, "", 0)}, {span("p", "a")}, {told("p", "a", user, "", 0)}}, input: user},
		{name: "the span comes again", writes: [][]*event.Event{{span("p", "a")}, {told("p", "a", user, "", 0)}, {span("p", "a")}}, input: user},
		{name: "after a restart", reopen: true, writes: [][]*event.Event{{told("p", "a", user, "", 0)}, {span("p", "a")}}, input: user},
		{name: "the span's own words win", writes: [][]*event.Event{{told("p", "a", user, answer, 0)}, {own(span("p", "a"), sys)}}, input: sys, output: answer},
		{name: "the stored span's own words win", writes: [][]*event.Event{{own(span("p", "a"), sys)}, {told("p", "a", user, answer, 0)}}, input: sys, output: answer},
		{name: "another project's", writes: [][]*event.Event{{span("p", "a")}, {told("q", "a", user, "", 0)}, {span("p", "b")}}},
		{name: "another span's", writes: [][]*event.Event{{span("p", "a")}, {told("p", "b", user, "", 0)}}},
		{name: "withheld on purpose", writes: [][]*event.Event{{told("p", "a", user, "", 0)}, {private(span("p", "a"))}, {told("p", "a", "", answer, 0)}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := store.Config{Path: filepath.Join(t.TempDir(), "e.duckdb"), Now: func() time.Time { return now }}
			d, err := store.OpenDuckDB(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = d.Close() })
			for _, events := range tc.writes {
				if tc.reopen {
					if err := d.Close(); err != nil {
						t.Fatal(err)
					}
					if d, err = store.OpenDuckDB(t.Context(), c); err != nil {
						t.Fatal(err)
					}
				}
				res, err := d.Write(t.Context(), events)
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range res.Stored {
					if e.IsSpanContent() {
						t.Error("an event of its own")
					}
				}
			}
			if n := count(t, d, "SELECT count(*) FROM events WHERE name = '"+event.SpanContent+"'"); n != 0 {
				t.Errorf("%d rows of what was told", n)
			}
			var got event.Content
			rows, bytes := 0, 0
			err = d.Read(t.Context(), func(r *sql.Rows) error {
				for r.Next() {
					var body []byte
					if err := r.Scan(&body, &bytes); err != nil {
						return err
					}
					rows++
					if got, err = store.DecodeContent(body); err != nil {
						return err
					}
				}
				return nil
			}, "SELECT c.body, e.content_bytes FROM events e JOIN content c ON c.uuid = e.uuid WHERE e.project_id = 'p'")
			if err != nil {
				t.Fatal(err)
			}
			want := 0
			if tc.input != "" || tc.output != "" {
				want = 1
			}
			if rows != want || string(got.Input) != tc.input || string(got.Output) != tc.output || bytes != got.Size() {
				t.Errorf("%d contents of %d bytes: input %s, output %s", rows, bytes, got.Input, got.Output)
			}
			if tc.name != "span first" {
				return
			}
			// Deleting the event deletes its span content; so does expiry.
			if _, err := d.DeleteEvents(t.Context(), "p", []string{span("p", "a").UUID}); err != nil {
				t.Fatal(err)
			}
			if n := count(t, d, "SELECT count(*) FROM span_content"); n != 0 {
				t.Errorf("%d rows are left of a deleted event", n)
			}
			if _, err := d.Write(t.Context(), []*event.Event{told("p", "x", user, "", 0), told("q", "x", user, "", 0)}); err != nil {
				t.Fatal(err)
			}
			retain := func(want int) {
				t.Helper()
				if _, err := d.Retain(t.Context(), func(id string) store.Retention {
					if id == "q" {
						return store.Retention{Content: time.Nanosecond, Metrics: time.Nanosecond}
					}
					return store.Retention{Content: store.DefaultContentRetention}
				}); err != nil {
					t.Fatal(err)
				}
				if n := count(t, d, "SELECT count(*) FROM span_content"); n != want {
					t.Errorf("%d rows, want %d", n, want)
				}
			}
			retain(1)
			now = now.Add(2 * time.Hour)
			retain(0)
			now = now.Add(-2 * time.Hour)
		})
	}
}
