package query_test

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/query"
	"github.com/hedgerow/hedgerow/internal/store"
	"github.com/hedgerow/hedgerow/internal/store/storetest"
)

// BenchmarkDashboards asks what the pages of charts and lists ask, over 30 days
// with an outcome and a tool call for every eighth call, four events a trace.
// p50-ms and p95-ms are of single questions. HEDGEROW_BENCH_ROWS=1000000 is the
// size that figures are quoted at.
func BenchmarkDashboards(b *testing.B) {
	path := filepath.Join(b.TempDir(), "e.duckdb")
	fill(b, path)
	// Questions have the memory that a server gives them.
	s, err := store.OpenDuckDB(b.Context(), store.Config{Path: path})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	rows := benchRows(b)
	r, err := query.New(s, func() time.Time { return now })
	if err != nil {
		b.Fatal(err)
	}
	month := query.Filter{From: now.AddDate(0, 0, -30), To: now}
	week := query.Filter{From: now.AddDate(0, 0, -7), To: now}
	series := func(f query.Filter, by query.GroupBy, ms ...query.Measure) func(context.Context) error {
		return func(ctx context.Context) error {
			return second(r.Series(ctx, query.SeriesQuery{Project: "default", Filter: f, Measures: ms, By: by, Every: query.ByDay, Compare: true, TimeZone: "Europe/Paris"}))
		}
	}
	list := func(ask func(context.Context, query.ListQuery) (*query.ListPage, error), sort query.Sort) func(context.Context) error {
		return func(ctx context.Context) error {
			return second(ask(ctx, query.ListQuery{Project: "default", Filter: week, Sort: sort}))
		}
	}
	for _, c := range []struct {
		name string
		ask  func(context.Context) error
	}{
		{"CallsByModel", series(month, query.ByModel, query.Calls)},
		{"ErrorRateByPrompt", series(month, query.ByPrompt, query.ErrorRate)},
		{"Latency", series(month, query.ByNone, query.LatencyP50, query.LatencyP95, query.LatencyP99)},
		{"LatencyP95ByModel", series(month, query.ByModel, query.LatencyP95)},
		{"CostByModel", series(month, query.ByModel, query.CostUSD)},
		{"TokensByKind", series(month, query.ByNone, query.TokensIn, query.TokensOut, query.TokensCached, query.TokensCacheNew, query.TokensReasoning)},
		{"CacheShareByModel", series(month, query.ByModel, query.CacheShare)},
		{"CostPerTaskByTaskType", series(month, query.ByTaskType, query.CostPerTask)},
		{"CompletionRateByPrompt", series(month, query.ByPrompt, query.CompletionRate)},
		{"EvalScoreByPrompt", series(month, query.ByPrompt, query.EvalScore)},
		{"ToolErrorRateByTool", series(month, query.ByTool, query.ToolErrorRate)},
		{"ByProperty", series(month, query.ByProperty("plan"), query.Calls)},
		{"CallsByModelWeek", series(week, query.ByModel, query.Calls)},
		{"CompletionRateByPromptWeek", series(week, query.ByPrompt, query.CompletionRate)},
		{"TracesWeek", list(r.Traces, query.SortStart)},
		{"TracesWeekByCost", list(r.Traces, query.SortCost)},
		{"SessionsWeek", list(r.Sessions, query.SortStart)},
		{"UsersWeekByCost", list(r.Users, query.SortCost)},
		{"Errors", func(ctx context.Context) error { return second(r.Errors(ctx, "default", week, 0)) }},
		{"Steps", func(ctx context.Context) error { return second(r.Steps(ctx, "default", week, 0)) }},
		{"Shapes", func(ctx context.Context) error { _, _, err := r.Shapes(ctx, "default", week); return err }},
		{"EventsByCost", func(ctx context.Context) error {
			return second(r.Events(ctx, query.EventsQuery{Project: "default", Filter: month, Sort: query.ByCost}))
		}},
	} {
		b.Run(fmt.Sprintf("%s/rows=%d", c.name, rows), func(b *testing.B) {
			var took []time.Duration
			for b.Loop() {
				begin := time.Now()
				if err := c.ask(b.Context()); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(begin))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(took[len(took)*95/100].Microseconds())/1000, "p95-ms")
		})
	}
}

// fill writes the events, in bulk and so with more memory.
func fill(b *testing.B, path string) {
	s, err := store.OpenDuckDB(b.Context(), store.Config{Path: path, MemoryBytes: 1 << 30})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	g := storetest.NewGenerator(1)
	rows := benchRows(b)
	step := 30 * 24 * time.Hour / time.Duration(rows)
	trace, session := "", ""
	for i := 0; i < rows; i += 1000 {
		batch := make([]*event.Event, 1000)
		for j := range batch {
			e := g.Event(now.Add(-step * time.Duration(rows-i-j)))
			if j%4 == 0 {
				trace, session = e.TraceID, e.SessionID
			}
			e.TraceID, e.SessionID = trace, session
			switch j % 8 {
			case 3:
				e = &event.Event{UUID: e.UUID, ProjectID: e.ProjectID, Name: "llm_task_completed", Timestamp: e.Timestamp, TraceID: trace, DistinctID: e.DistinctID,
					Properties: map[string]json.RawMessage{"task_completed": json.RawMessage([]string{"true", "true", "false"}[j%3]), "eval_score": json.RawMessage("0.8"), "retry_count": json.RawMessage("1")}}
			case 5:
				e = &event.Event{UUID: e.UUID, ProjectID: e.ProjectID, Name: event.Span, Timestamp: e.Timestamp, TraceID: trace, SpanName: []string{"search", "fetch"}[j%2], Operation: "execute_tool",
					Latency: e.Latency, IsError: j%16 == 5}
			}
			batch[j] = e
		}
		if _, err := s.Write(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
}
