package query_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

// TestErrorsAreFailedCalls: of ten calls, three of which failed inside failed spans and
// traces, every question says three errors.
func TestErrorsAreFailedCalls(t *testing.T) {
	f := newFixture(t)
	const project = "failing"
	at := now.Add(-time.Hour)
	var events []*event.Event
	for i := range 10 {
		failed := i < 3
		add := func(name, span, parent string) {
			e := &event.Event{UUID: event.NewID(), ProjectID: project, Name: name, Timestamp: at, TraceID: fmt.Sprintf("t%d", i), SpanID: span, ParentID: parent, SessionID: "s", DistinctID: "u", IsError: failed}
			if failed {
				e.Status, e.ErrorMessage = event.StatusError, "overloaded"
			}
			events = append(events, e)
		}
		add(event.Trace, fmt.Sprintf("r%d", i), "")
		add(event.Span, fmt.Sprintf("s%d", i), fmt.Sprintf("r%d", i))
		add(event.Generation, fmt.Sprintf("g%d", i), fmt.Sprintf("s%d", i))
	}
	f.write(t, events...)
	ctx, filter := t.Context(), query.Filter{From: at.Add(-time.Hour), To: now}
	got := make(map[string]int64)
	series, err := f.Series(ctx, query.SeriesQuery{Project: project, Filter: filter, Measures: []query.Measure{query.Errors}})
	if err != nil {
		t.Fatal(err)
	}
	got["tile"] = int64(series.Total.Total[query.Errors].Value)
	stats, err := f.Stats(ctx, query.StatsQuery{Project: project, Filter: filter})
	if err != nil {
		t.Fatal(err)
	}
	got["totals"] = stats.Totals.Errors
	click, err := f.Examples(ctx, query.ExamplesQuery{Project: project, Filter: filter, Point: query.Point{Measure: query.Errors}})
	if err != nil {
		t.Fatal(err)
	}
	got["click"] = click.Count
	for name, ask := range map[string]func() (*query.ListPage, error){
		"traces": func() (*query.ListPage, error) {
			return f.Traces(ctx, query.ListQuery{Project: project, Filter: filter})
		},
		"sessions": func() (*query.ListPage, error) {
			return f.Sessions(ctx, query.ListQuery{Project: project, Filter: filter})
		},
		"users": func() (*query.ListPage, error) {
			return f.Users(ctx, query.ListQuery{Project: project, Filter: filter})
		},
	} {
		list, err := ask()
		if err != nil {
			t.Fatal(err)
		}
		var others int64
		for _, row := range list.Rows {
			got[name] += row.Errors
			others += row.OtherErrors
		}
		if others != 6 {
			t.Errorf("%s: %d other failures, want 6", name, others)
		}
	}
	for i := range 10 {
		trace, err := f.Trace(ctx, project, fmt.Sprintf("t%d", i))
		if err != nil {
			t.Fatal(err)
		}
		got["headers"] += int64(trace.Rollup.Errors)
	}
	for name, n := range got {
		if n != 3 {
			t.Errorf("%s: %d errors, want 3", name, n)
		}
	}
}
