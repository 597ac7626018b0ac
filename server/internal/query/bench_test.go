package query_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/store"
)

// Time limits of single queries.
const (
	chartTarget = 300 * time.Millisecond
	listTarget  = 100 * time.Millisecond
)

// BenchmarkDashboards runs each page's queries on the file of benchFile: charts
// over 30 days, lists over 7. p50-ms and p95-ms are of single queries, cpu-ms is
// the time of all processors; a chart above 300 ms shows the plans of its
// queries, with the time of each part. HEDGEROW_BENCH_ROWS is the number of
// events, 100,000 by default (make bench-query: 1 and 10 million),
// HEDGEROW_BENCH_MEMORY the store's memory in MiB, the server's default.
func BenchmarkDashboards(b *testing.B) {
	rows := benchRows(b)
	memory, _ := strconv.ParseInt(os.Getenv("HEDGEROW_BENCH_MEMORY"), 10, 64)
	s, err := store.OpenDuckDB(b.Context(), store.Config{Path: benchFile(b, rows), MemoryBytes: memory << 20, QueryTimeout: time.Minute})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	spy := &spy{DuckDB: s}
	r, err := query.New(spy, func() time.Time { return now })
	if err != nil {
		b.Fatal(err)
	}
	month := query.Filter{From: now.AddDate(0, 0, -30), To: now}
	week := query.Filter{From: now.AddDate(0, 0, -7), To: now}
	var last struct{ uuid, trace, session, user string }
	page, err := r.Events(b.Context(), query.EventsQuery{Project: "default", Filter: query.Filter{To: now.AddDate(0, 0, -12)}, Limit: 5})
	if err != nil {
		b.Fatal(err)
	}
	for _, e := range page.Events {
		last.uuid, last.trace, last.user = e.UUID, e.TraceID, e.DistinctID
		if e.SessionID != "" {
			last.session = e.SessionID
		}
	}
	series := func(q query.SeriesQuery) func(context.Context) error {
		q.Project, q.Compare, q.TimeZone = "default", true, "Europe/Paris"
		if q.From.IsZero() {
			q.From, q.To = month.From, month.To
		}
		return func(ctx context.Context) error { return second(r.Series(ctx, q)) }
	}
	over := func(by query.GroupBy, ms ...query.Measure) func(context.Context) error {
		return series(query.SeriesQuery{Measures: ms, By: by, Every: query.ByDay})
	}
	total := func(by query.GroupBy, ms ...query.Measure) func(context.Context) error {
		return series(query.SeriesQuery{Measures: ms, By: by, Limit: 12})
	}
	narrowed := func(ask func(context.Context, query.ListQuery) (*query.ListPage, error), f query.Filter, sort query.Sort) func(context.Context) error {
		return func(ctx context.Context) error {
			return second(ask(ctx, query.ListQuery{Project: "default", Filter: f, Sort: sort}))
		}
	}
	list := func(ask func(context.Context, query.ListQuery) (*query.ListPage, error), sort query.Sort) func(context.Context) error {
		return narrowed(ask, week, sort)
	}
	events := func(q query.EventsQuery) func(context.Context) error {
		q.Project = "default"
		return func(ctx context.Context) error { return second(r.Events(ctx, q)) }
	}
	latencies := []query.Measure{query.LatencyP50, query.LatencyP95, query.LatencyP99}
	sideBySide := []query.Measure{query.CompletionRate, query.NegativeRate, query.EscalationRate, query.AcceptanceRate, query.EditRate, query.RetryRate, query.EvalPassRate}
	config := query.ByProperty("agent_config")
	failed := month
	failed.Kind = query.KindErrors
	productionWeek, failedWeek := week, week
	productionWeek.Environment, failedWeek.ErrorType = "production", "timeout"
	production := month
	production.Environment = "production"
	openai := month
	openai.Provider = "openai"
	one := week
	one.User = last.user
	var fifty []string // a page of users
	for i := range 50 {
		fifty = append(fifty, fmt.Sprintf("user-%d", i))
	}
	for _, c := range []struct {
		name   string
		target time.Duration
		ask    func(context.Context) error
	}{
		{"TrafficTiles", chartTarget, total("", query.Calls, query.Errors, query.ErrorRate, query.Users)},
		{"CallsByModel", chartTarget, over(query.ByModelAsked, query.Calls)},
		{"ErrorRateByPrompt", chartTarget, over(query.ByPrompt, query.ErrorRate)},
		{"FailedByErrorType", chartTarget, series(query.SeriesQuery{Filter: failed, Measures: []query.Measure{query.Calls}, By: query.ByErrorType, Every: query.ByDay})},
		{"ErrorRateByProvider", chartTarget, over(query.ByProvider, query.ErrorRate)},
		{"ErrorRateByEnvironment", chartTarget, over(query.ByEnvironment, query.ErrorRate)},
		{"CallsByPrompt", chartTarget, over(query.ByPromptName, query.Calls)},
		{"CallsBySurface", chartTarget, over(query.BySurface, query.Calls)},
		{"CostTiles", chartTarget, total("", query.CostUSD, query.CostPerTask, query.CacheShare, query.LatencyP50, query.LatencyP95, query.TTFTP95)},
		{"CostByModel", chartTarget, over(query.ByModelAsked, query.CostUSD)},
		{"Latency", chartTarget, over("", latencies...)},
		{"LatencyByModel", chartTarget, over(query.ByModelAsked, query.LatencyP95)},
		{"TTFTByModel", chartTarget, over(query.ByModelAsked, query.TTFTP95)},
		{"LatencyByPrompt", chartTarget, total(query.ByPrompt, latencies...)},
		{"LatencyByInputLength", chartTarget, total(query.ByInputLength, latencies...)},
		{"TokensByKind", chartTarget, over("", query.TokensIn, query.TokensOut, query.TokensCached, query.TokensCacheNew, query.TokensReasoning)},
		{"CacheShareByModel", chartTarget, over(query.ByModelAsked, query.CacheShare)},
		{"CostPerTaskByTaskType", chartTarget, over(query.ByTaskType, query.CostPerTask)},
		{"CostByPrompt", chartTarget, total(query.ByPrompt, query.CostUSD, query.CostPerCall, query.Calls)},
		{"QualityTiles", chartTarget, total("", query.CompletionRate, query.NegativeRate, query.EscalationRate, query.EvalScore, query.AcceptanceRate, query.RetryRate)},
		{"CompletionRateByPrompt", chartTarget, over(query.ByPrompt, query.CompletionRate)},
		{"EvalScoreByPrompt", chartTarget, over(query.ByPrompt, query.EvalScore)},
		{"AcceptedEditedRetried", chartTarget, over("", query.AcceptanceRate, query.EditRate, query.RetryRate)},
		{"TasksByType", chartTarget, over(query.ByTaskType, query.Tasks)},
		{"PromptsSideBySide", chartTarget, total(query.ByPrompt, sideBySide...)},
		{"ModelsSideBySide", chartTarget, total(query.ByModelAsked, sideBySide...)},
		{"AgentTiles", chartTarget, total("", query.ToolCalls, query.ToolErrorRate, query.ToolP95, query.CompletionRate, query.CostPerTask)},
		{"ToolErrorRateByTool", chartTarget, over(query.ByTool, query.ToolErrorRate)},
		{"CompletionRateByConfig", chartTarget, over(config, query.CompletionRate)},
		{"CostPerTaskByConfig", chartTarget, over(config, query.CostPerTask)},
		{"Steps", chartTarget, func(ctx context.Context) error { return second(r.Steps(ctx, "default", week, 25)) }},
		{"Shapes", chartTarget, func(ctx context.Context) error { _, _, err := r.Shapes(ctx, "default", week); return err }},
		{"FilteredCostByModel", chartTarget, series(query.SeriesQuery{Filter: production, Measures: []query.Measure{query.CostUSD}, By: query.ByModelAsked, Every: query.ByDay})},
		{"FilteredLatencyByModel", chartTarget, series(query.SeriesQuery{Filter: production, Measures: []query.Measure{query.LatencyP95}, By: query.ByModelAsked, Every: query.ByDay})},
		{"FilteredCompletionByPrompt", chartTarget, series(query.SeriesQuery{Filter: production, Measures: []query.Measure{query.CompletionRate}, By: query.ByPrompt, Every: query.ByDay})},
		{"FilteredTrafficTiles", chartTarget, series(query.SeriesQuery{Filter: production, Measures: []query.Measure{query.Calls, query.Errors, query.ErrorRate, query.Users}})},
		{"FilteredShapes", chartTarget, func(ctx context.Context) error {
			f := week
			f.Environment = "production"
			_, _, err := r.Shapes(ctx, "default", f)
			return err
		}},
		{"FilteredLatencyByPrompt", chartTarget, series(query.SeriesQuery{Filter: openai, Measures: []query.Measure{query.LatencyP95}, By: query.ByPrompt, Every: query.ByDay})},
		{"FilteredLatency", chartTarget, series(query.SeriesQuery{Filter: openai, Measures: latencies, Every: query.ByDay})},
		{"CallsByProperty", chartTarget, over(query.ByProperty("plan"), query.Calls)},
		{"OneUserCostByModel", chartTarget, series(query.SeriesQuery{Filter: one, Measures: []query.Measure{query.CostUSD}, By: query.ByModelAsked, Every: query.ByDay})},
		{"CallsByModelIndia", chartTarget, func(ctx context.Context) error {
			return second(r.Series(ctx, query.SeriesQuery{Project: "default", Filter: month, Measures: []query.Measure{query.Calls}, By: query.ByModelAsked, Every: query.ByDay, TimeZone: "Asia/Kolkata", Compare: true}))
		}},
		{"Today", chartTarget, func(ctx context.Context) error { return second(r.Today(ctx, "default", "Europe/Paris")) }},
		{"SevenDays", chartTarget, func(ctx context.Context) error { return second(r.SevenDays(ctx, "default", "Europe/Paris")) }},
		{"StatsMonthByModel", chartTarget, func(ctx context.Context) error {
			return second(r.Stats(ctx, query.StatsQuery{Project: "default", Filter: month, GroupBy: query.ByModelAsked}))
		}},
		{"StatsMonthByDay", chartTarget, func(ctx context.Context) error {
			return second(r.Stats(ctx, query.StatsQuery{Project: "default", Filter: month, GroupBy: query.ByDay, TimeZone: "Europe/Paris"}))
		}},
		{"Events", listTarget, events(query.EventsQuery{Filter: month})},
		{"EventsOfUser", listTarget, events(query.EventsQuery{Filter: one})},
		{"EventsFailed", listTarget, events(query.EventsQuery{Filter: failed})},
		{"EventsByCost", listTarget, events(query.EventsQuery{Filter: week, Sort: query.ByCost})},
		{"EventsByLatency", listTarget, events(query.EventsQuery{Filter: week, Sort: query.ByLatency})},
		{"Traces", listTarget, list(r.Traces, query.SortStart)},
		{"TracesByCost", listTarget, list(r.Traces, query.SortCost)},
		{"FilteredTraces", listTarget, narrowed(r.Traces, productionWeek, query.SortStart)},
		{"FilteredRareTraces", listTarget, narrowed(r.Traces, failedWeek, query.SortStart)},
		{"TracesOfUser", listTarget, narrowed(r.Traces, one, query.SortCost)},
		{"UserOverview", listTarget, narrowed(r.Users, one, query.SortStart)},
		{"SessionOverview", listTarget, narrowed(r.Sessions, query.Filter{SessionID: last.session}, query.SortStart)},
		{"Sessions", listTarget, list(r.Sessions, query.SortStart)},
		{"SessionsByCost", listTarget, list(r.Sessions, query.SortCost)},
		{"Users", listTarget, list(r.Users, query.SortStart)},
		{"UsersByCost", listTarget, list(r.Users, query.SortCost)},
		{"Errors", listTarget, func(ctx context.Context) error { return second(r.Errors(ctx, "default", week, 0)) }},
		{"ModelsTable", chartTarget, series(query.SeriesQuery{Filter: week, By: query.ByModelAsked, Limit: 50, Compare: true,
			Measures: []query.Measure{query.Calls, query.ErrorRate, query.LatencyP95, query.CostUSD, query.CostPerCall, query.CompletionRate, query.NegativeRate, query.EvalScore}})},
		{"UsersBefore", listTarget, func(ctx context.Context) error {
			before, _ := week.PreviousPeriod(time.UTC)
			return second(r.Users(ctx, query.ListQuery{Project: "default", Filter: before, IDs: fifty}))
		}},
		{"ErrorsBefore", listTarget, func(ctx context.Context) error { return second(r.ErrorsBefore(ctx, "default", week, nil)) }},
		{"FilterValuesModel", listTarget, func(ctx context.Context) error { return second(r.FilterValues(ctx, "default", "model")) }},
		{"FilterValuesUser", listTarget, func(ctx context.Context) error { return second(r.FilterValues(ctx, "default", "user")) }},
		{"Event", listTarget, func(ctx context.Context) error { return second(r.Event(ctx, "default", last.uuid, true)) }},
		{"Trace", listTarget, func(ctx context.Context) error { return second(r.Trace(ctx, "default", last.trace)) }},
		{"Session", listTarget, events(query.EventsQuery{Filter: query.Filter{SessionID: last.session}})},
	} {
		b.Run(fmt.Sprintf("%s/rows=%d", c.name, rows), func(b *testing.B) {
			var took []time.Duration
			cpu := cpuTime()
			for b.Loop() {
				begin := time.Now()
				if err := c.ask(b.Context()); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(begin))
			}
			b.ReportMetric(float64((cpuTime()-cpu).Microseconds())/1000/float64(len(took)), "cpu-ms")
			slices.Sort(took)
			p95 := took[len(took)*95/100]
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(p95.Microseconds())/1000, "p95-ms")
			b.ReportMetric(0, "ns/op")
			if p95 <= c.target {
				return
			}
			spy.plans = new(strings.Builder)
			err := c.ask(b.Context())
			fmt.Printf("%s: p95 is above %v (%v):\n%s", b.Name(), c.target, err, spy.plans) // Log would cut it off
			spy.plans = nil
		})
	}
}

// cpuTime is the CPU time of the process: compare this figure on a busy machine.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// spy notes, where plans is set, how the engine answers each query.
type spy struct {
	*store.DuckDB
	plans *strings.Builder
}

func (s *spy) Read(ctx context.Context, scan func(*sql.Rows) error, query string, args ...any) error {
	if s.plans != nil {
		fmt.Fprintln(s.plans, query)
		err := s.DuckDB.Read(ctx, func(rows *sql.Rows) error {
			for rows.Next() {
				var key, value string
				if err := rows.Scan(&key, &value); err != nil {
					return err
				}
				fmt.Fprintln(s.plans, value)
			}
			return nil
		}, "EXPLAIN ANALYZE "+query, args...)
		if err != nil {
			return err
		}
	}
	return s.DuckDB.Read(ctx, scan, query, args...)
}
