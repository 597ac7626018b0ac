package query_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/store"
)

// TestExtremeNumbers asks everything of a store whose events have the largest
// numbers that there can be, and of one where counts are as large as the
// engine's columns hold, which no binary of today writes.
func TestExtremeNumbers(t *testing.T) {
	for name, beyond := range map[string]bool{"in range": false, "beyond": true} {
		t.Run(name, func(t *testing.T) { testExtremes(t, beyond) })
	}
}

func testExtremes(t *testing.T, beyond bool) {
	path := filepath.Join(t.TempDir(), "e.duckdb")
	open := func() *store.DuckDB {
		s, err := store.OpenDuckDB(t.Context(), store.Config{Path: path, MemoryBytes: 512 << 20})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	s := open()
	most, usd := event.Some[int64](event.MaxTokens), event.Some(decimal.NewFromInt(event.MaxCostUSD))
	scores := []string{`1e15`, `-1e15`, `1e308`, `"NaN"`, `"Infinity"`, `"-inf"`, `-0.0`, `"1e-400"`}
	var events []*event.Event
	const n = 1000
	for i := range n {
		e := &event.Event{
			UUID: event.NewID(), ProjectID: "default", Name: event.Generation, Timestamp: now.Add(-time.Duration(i) * time.Minute), DistinctID: fmt.Sprint("u", i%7), TraceID: fmt.Sprint("t", i%50), SpanID: fmt.Sprint("s", i),
			SessionID: "c", ModelAsked: "m", PromptName: "p", PromptVersion: fmt.Sprint(1 + i%2), Flags: map[string]string{"f": []string{"a", "b"}[i%2]},
			Usage: event.Usage{Input: most, Output: most, CacheRead: most, CacheWrite: most, CacheExclusive: event.Some(true), Reasoning: most},
			Cost:  event.Cost{Input: usd, Output: usd, Total: usd, CacheSaved: usd}, Latency: event.Some(event.MaxDuration), TimeToFirstToken: event.Some(event.MaxDuration),
			RequestBytes: event.MaxBytes, ResponseBytes: event.MaxBytes,
			Properties: map[string]json.RawMessage{"score": json.RawMessage(scores[i%len(scores)])},
		}
		if i%9 == 0 { // what the engine takes for no JSON: older binaries let it in
			e.Properties["half"] = json.RawMessage(`"\ud800"`)
		}
		switch i % 5 {
		case 3:
			e.Name, e.Usage, e.Cost = "llm_output_rated", event.Usage{}, event.Cost{}
			e.Properties["eval_score"], e.Properties["eval_name"], e.Properties["retry_count"] = json.RawMessage(scores[i/5%2]), json.RawMessage(`"e"`), json.RawMessage("10000000000")
		case 4:
			e.Name, e.Operation = event.Span, "execute_tool"
		}
		events = append(events, e)
	}
	if _, err := s.Write(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	if beyond {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		inFile(t, path)(fmt.Sprintf("UPDATE events SET input_tokens = %d, output_tokens = %d, tokens = %d, total_tokens = %d, cache_read_tokens = %d, latency_us = %d, ttft_us = %d, properties = replace(properties, '1e15', '1e308')",
			math.MaxInt64, math.MaxInt64, math.MaxInt64, math.MinInt64, math.MaxInt64, math.MaxInt64, math.MinInt64))
		inFile(t, path)("CHECKPOINT bench; USE memory; DETACH bench")
		s = open()
	}
	r, err := query.New(s, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	askExtremes(t, r, beyond, beyond)
	roller := &query.Roller{Reader: r, Store: s, Stretch: 300}
	stretches := 0
	for {
		done, err := roller.Roll(t.Context())
		if err != nil {
			t.Fatalf("roll up: %v", err)
		}
		if !done {
			break
		}
		stretches++
	}
	if stretches == 0 {
		t.Fatal("nothing was rolled up")
	}
	askExtremes(t, r, beyond, !beyond)
}

// askExtremes asks every question, and whether its answer can be written as JSON. Of
// series, lists and contributions it asks the odd or the even ones, unless make long
// runs it: what one store is asked before it is rolled up, the other is asked after.
func askExtremes(t *testing.T, r *query.Reader, beyond, odd bool) {
	t.Helper()
	ctx := t.Context()
	asked := 0
	skip := func() bool {
		asked++
		return !long() && (asked%2 != 0) != odd
	}
	check := func(what string, answer any, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		} else if _, err := json.Marshal(answer); err != nil {
			t.Errorf("%s: as JSON: %v", what, err)
		}
	}
	week := query.Filter{From: now.AddDate(0, 0, -7), To: now.Add(time.Hour)}
	for _, by := range []query.GroupBy{query.ByNone, query.ByModel, query.ByUser, query.ByPrompt, query.ByDay, query.ByHour} {
		got, err := r.Stats(ctx, query.StatsQuery{Project: "default", Filter: week, GroupBy: by, Compare: true})
		check("stats by "+string(by), got, err)
		if err != nil {
			continue
		}
		switch in := got.Totals.InputTokens; {
		case !beyond && (in != event.Some[int64](600*3*event.MaxTokens) || got.Totals.TotalTokens != event.Some[int64](600*4*event.MaxTokens)):
			t.Errorf("stats by %s: %v input tokens, %v in all", by, in, got.Totals.TotalTokens)
		case beyond && (in.Known || got.Totals.OutputTokens.Known):
			t.Errorf("stats by %s: %v input tokens, %v output, want unknown: no integer holds them", by, in, got.Totals.OutputTokens)
		}
	}
	for _, ms := range [][]query.Measure{ofCalls, ofTimes, ofOutcomes, ofTools, {query.CostPerTask, query.CacheSaved, query.Evals, query.EvalsJudged}} {
		for _, by := range []query.GroupBy{query.ByNone, query.ByModelAsked, query.ByProperty("score"), query.ByEval} {
			if skip() {
				continue
			}
			got, err := r.Series(ctx, query.SeriesQuery{Project: "default", Filter: week, Measures: ms, By: by, Every: query.ByDay, Compare: true})
			check(fmt.Sprintf("series of %v by %s", ms, by), got, err)
		}
	}
	for _, sort := range []query.Sort{query.SortStart, query.SortDuration, query.SortCost, query.SortTokens, query.SortErrors, query.SortCalls} {
		for _, list := range []struct {
			name string
			ask  func(context.Context, query.ListQuery) (*query.ListPage, error)
		}{{"traces", r.Traces}, {"sessions", r.Sessions}, {"users", r.Users}} {
			if skip() {
				continue
			}
			q := query.ListQuery{Project: "default", Filter: week, Sort: sort, Limit: 3}
			for range 2 {
				got, err := list.ask(ctx, q)
				check(list.name+" by "+string(sort), got, err)
				if err != nil || got.Next == "" {
					break
				}
				q.Cursor = got.Next
			}
		}
	}
	billed, err := r.Billed(ctx, "default", []string{"openai", "anthropic"}, week.From, week.To)
	check("billed calls", billed, err)
	trace, err := r.Trace(ctx, "default", "t1")
	check("trace", trace, err)
	steps, err := r.Steps(ctx, "default", week, 0)
	check("steps", steps, err)
	page, err := r.Events(ctx, query.EventsQuery{Project: "default", Filter: week})
	check("events", page, err)
	x := query.ExperimentQuery{Project: "default", From: week.From, Flag: "f", Variants: []string{"a", "b"}}
	for _, m := range query.ExperimentMeasures() {
		x.Metrics = append(x.Metrics, query.Metric{Measure: m})
	}
	x.Metrics = append(x.Metrics, query.Metric{Event: "llm_output_rated", Property: "score", As: query.AsMean}, query.Metric{Event: "llm_output_rated", Property: "score"})
	got, err := r.Experiment(ctx, x)
	check("experiment", got, err)
	for _, m := range x.Metrics {
		if skip() {
			continue
		}
		one := x
		one.Metrics = []query.Metric{m}
		behind, err := r.ExperimentContributions(ctx, query.ContributionsQuery{ExperimentQuery: one, Variant: "a"})
		check("behind "+string(m.Measure), behind, err)
	}
}
