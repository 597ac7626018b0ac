package query_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/query/querytest"
)

// withOutcomes adds outcomes and tool calls to a fixture.
func withOutcomes(t testing.TB, f *fixture) {
	t.Helper()
	more := querytest.Outcomes(rand.New(rand.NewPCG(3, 4)), f.events)
	f.write(t, more...)
	f.events = append(f.events, more...)
}

var (
	callMeasures = []query.Measure{query.Calls, query.Errors, query.ErrorRate, query.LatencyP50, query.LatencyP95, query.LatencyP99, query.TTFTP50, query.TTFTP95, query.TTFTP99,
		query.TokensIn, query.TokensOut, query.TokensTotal, query.TokensCached, query.CostUSD, query.CostPerCall, query.CacheSaved, query.CacheShare, query.Users}
	outcomeMeasures = []query.Measure{query.Tasks, query.TasksCompleted, query.CompletionRate, query.Rated, query.Negative, query.NegativeRate, query.EscalationRate,
		query.AcceptanceRate, query.EditRate, query.RetryRate, query.EvalScore, query.EvalPassRate, query.EvalsJudged}
	toolMeasures = []query.Measure{query.ToolCalls, query.ToolErrors, query.ToolErrorRate, query.ToolP95}
)

func sameValues(t *testing.T, what string, got query.Values, want map[query.Measure]query.Number, ms []query.Measure) {
	t.Helper()
	for _, m := range ms {
		g, ok := got[m]
		w := want[m]
		if !ok || g.Known != w.Known || math.Abs(g.Value-w.Value) > 1e-9*math.Max(1, math.Abs(w.Value)) {
			t.Errorf("%s: %s = %v (asked %v), want %v", what, m, g, ok, w)
		}
	}
}

// TestSeries recomputes every measure, for every breakdown, point by point.
func TestSeries(t *testing.T) {
	f := newFixture(t)
	withOutcomes(t, f)
	all := querytest.Complete(f.events)
	paris, err := time.LoadLocation("Europe/Paris")
	if err != nil {
		t.Fatal(err)
	}
	day := func(e *event.Event) string { return e.Timestamp.In(paris).Format(time.DateOnly) }
	hour := func(e *event.Event) string { return e.Timestamp.In(paris).Truncate(time.Hour).Format(time.RFC3339) }
	prompt := func(e *event.Event) string {
		version := e.PromptVersion
		if version == "" {
			version = e.PromptVersionID
		}
		if e.PromptName == "" || version == "" {
			return e.PromptName
		}
		return e.PromptName + "@" + version
	}
	week, night := now.AddDate(0, 0, -7), time.Date(2026, 3, 28, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		by      query.GroupBy
		every   query.GroupBy
		from    time.Time
		ms      []query.Measure
		among   func(*event.Event) bool
		key     func(*event.Event) string
		at      func(*event.Event) string
		limit   int
		filter  query.Filter
		ok      func(*event.Event) bool
		compare bool
	}{
		{by: query.ByNone, every: query.ByDay, from: week, ms: callMeasures, among: (*event.Event).IsCosted, at: day, compare: true},
		{by: query.ByModel, every: query.ByDay, from: week, ms: callMeasures, among: (*event.Event).IsCosted, key: (*event.Event).ModelName, at: day, limit: 4, compare: true},
		{by: query.ByProvider, every: query.ByHour, from: night, ms: callMeasures, among: (*event.Event).IsCosted, key: func(e *event.Event) string { return e.Provider }, at: hour},
		{by: query.ByErrorType, every: query.ByNone, from: week, ms: callMeasures[:3], among: (*event.Event).IsCosted, key: func(e *event.Event) string { return e.ErrorType }},
		{by: query.ByProperty("plan"), every: query.ByDay, from: week, ms: callMeasures, among: (*event.Event).IsCosted, key: func(e *event.Event) string { return querytest.Text(e, "plan") }, at: day,
			filter: query.Filter{Environment: "staging", Tag: "beta"}, ok: func(e *event.Event) bool { return e.Environment == "staging" && slices.Contains(e.Tags, "beta") }},
		{by: query.ByPrompt, every: query.ByDay, from: week, ms: outcomeMeasures, among: querytest.IsOutcome, key: prompt, at: day, limit: 5, compare: true},
		{by: query.ByModel, every: query.ByNone, from: week, ms: outcomeMeasures, among: querytest.IsOutcome, key: (*event.Event).ModelName, limit: 20,
			filter: query.Filter{Provider: "openai"}, ok: func(e *event.Event) bool { return e.Provider == "openai" }},
		{by: query.ByPrompt, every: query.ByDay, from: week, ms: []query.Measure{query.CostPerTask, query.CostUSD, query.CompletionRate}, among: (*event.Event).IsCosted, key: prompt, at: day, limit: 3},
		{by: query.ByModel, every: query.ByDay, from: week, ms: callMeasures[2:6], among: (*event.Event).IsCosted, key: (*event.Event).ModelName, at: day, limit: 3},
		{by: query.ByProvider, every: query.ByNone, from: week, ms: callMeasures, among: (*event.Event).IsCosted, key: func(e *event.Event) string { return e.Provider }, compare: true},
		{by: query.ByTool, every: query.ByDay, from: week, ms: toolMeasures, among: querytest.IsTool, at: day, key: func(e *event.Event) string {
			if n := querytest.Text(e, "gen_ai.tool.name"); n != "" {
				return n
			}
			return e.SpanName
		}},
	} {
		t.Run(fmt.Sprintf("%s-%s-%s", c.by, c.every, c.ms[0]), func(t *testing.T) {
			filter := c.filter
			filter.From, filter.To = c.from, now.Add(-time.Hour)
			s, err := f.Series(t.Context(), query.SeriesQuery{Project: "default", Filter: filter, Measures: c.ms, By: c.by, Every: c.every, TimeZone: "Europe/Paris", Compare: c.compare, Limit: c.limit})
			if err != nil {
				t.Fatal(err)
			}
			limit := c.limit
			if limit == 0 {
				limit = query.DefaultLines
			}
			var in, before []*event.Event
			earlier, _ := filter.PreviousPeriod(paris)
			sizes := make(map[string]int)
			for _, e := range all {
				switch {
				case c.ok != nil && !c.ok(e):
				case !e.Timestamp.Before(filter.From) && e.Timestamp.Before(filter.To):
					in = append(in, e)
					if c.key != nil && c.among(e) {
						sizes[c.key(e)]++
						if e.IsError && c.ms[0] == query.ErrorRate {
							sizes[c.key(e)] += 1_000_000 // failures go first
						}
					}
				case !e.Timestamp.Before(earlier.From) && e.Timestamp.Before(earlier.To):
					before = append(before, e)
				}
			}
			if len(in) == 0 || c.compare && len(before) == 0 {
				t.Fatal("nothing to compare")
			}
			keys := slices.SortedFunc(maps2(sizes), func(a, b string) int {
				if sizes[a] != sizes[b] {
					return sizes[b] - sizes[a]
				}
				return strings.Compare(a, b)
			})
			var got []string
			for _, g := range s.Groups {
				got = append(got, g.Key)
			}
			if want := keys[:min(len(keys), limit)]; !slices.Equal(got, want) {
				t.Fatalf("groups %q, want %q", got, want)
			}
			if (s.Rest != nil) != (len(keys) > limit) {
				t.Fatalf("rest %v for %d groups of %d", s.Rest, len(keys), limit)
			}
			check := func(l *query.Line, name string, ok func(*event.Event) bool) {
				t.Helper()
				pick := func(from []*event.Event, more func(*event.Event) bool) (out []*event.Event) {
					for _, e := range from {
						if ok(e) && more(e) {
							out = append(out, e)
						}
					}
					return out
				}
				any := func(*event.Event) bool { return true }
				sameValues(t, name, l.Total, querytest.Figures(pick(in, any)), c.ms)
				if c.compare && (name == "total" || c.every == query.ByNone) {
					sameValues(t, name+" before", l.Previous, querytest.Figures(pick(before, any)), c.ms)
				}
				want := len(c.ms)
				if slices.Contains(c.ms, query.CostUSD) || slices.Contains(c.ms, query.CostPerTask) {
					want++ // with the number of incompletely priced calls
					sameValues(t, name, l.Total, querytest.Figures(pick(in, any)), []query.Measure{query.IncompleteCalls})
				}
				if len(l.Total) != want {
					t.Errorf("%s: %d figures, want %d", name, len(l.Total), want)
				}
				if name == "total" && c.by != query.ByNone {
					return
				}
				for i, key := range s.Keys {
					sameValues(t, name+" "+key, l.Points[i], querytest.Figures(pick(in, func(e *event.Event) bool { return c.at(e) == key })), c.ms)
				}
			}
			check(&s.Total, "total", func(*event.Event) bool { return true })
			for i := range s.Groups {
				check(&s.Groups[i], "group "+s.Groups[i].Key, func(e *event.Event) bool { return c.key(e) == s.Groups[i].Key })
			}
			if s.Rest != nil {
				check(s.Rest, "rest", func(e *event.Event) bool { return !slices.Contains(got, c.key(e)) })
			}
			if c.every != query.ByNone {
				seen := make(map[string]bool)
				for _, k := range s.Keys {
					seen[k] = true
				}
				for _, e := range in {
					if !seen[c.at(e)] {
						t.Fatalf("no point for %s", c.at(e))
					}
				}
				for i, m := range s.Starts[1:] {
					if !m.Start.Equal(s.Starts[i].End) {
						t.Errorf("point %d begins at %v, the one before ends at %v", i+1, m.Start, s.Starts[i].End)
					}
				}
			} else if len(s.Keys) != 0 {
				t.Errorf("points unasked: %v", s.Keys)
			}
		})
	}
}

func maps2(m map[string]int) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func TestSeriesInvalid(t *testing.T) {
	f := newFixture(t)
	good := query.SeriesQuery{Project: "default", Filter: query.Filter{From: now.AddDate(0, 0, -1)}, Measures: []query.Measure{query.Calls}}
	for name, change := range map[string]func(*query.SeriesQuery){
		"NoFrom":     func(q *query.SeriesQuery) { q.From = time.Time{} },
		"Empty":      func(q *query.SeriesQuery) { q.From = now },
		"NoMeasure":  func(q *query.SeriesQuery) { q.Measures = nil },
		"NoProject":  func(q *query.SeriesQuery) { q.Project = "" },
		"NoSuch":     func(q *query.SeriesQuery) { q.Measures = []query.Measure{"calls; DROP TABLE events"} },
		"By":         func(q *query.SeriesQuery) { q.By = "ts" },
		"ByNothing":  func(q *query.SeriesQuery) { q.By = "property:" },
		"Every":      func(q *query.SeriesQuery) { q.Every = query.ByModel },
		"Limit":      func(q *query.SeriesQuery) { q.Limit = -1 },
		"Zone":       func(q *query.SeriesQuery) { q.TimeZone = "Mars" },
		"LongFilter": func(q *query.SeriesQuery) { q.Model = strings.Repeat("x", 2000) },
	} {
		q := good
		change(&q)
		t.Run(name, func(t *testing.T) { wantInvalid(t, second(f.Series(t.Context(), q))) })
	}
	for _, evil := range []string{"'", "' OR 1=1 --", `"`, "\\", "a/b~"} {
		q := good
		q.By = query.ByProperty(evil)
		s, err := f.Series(t.Context(), q)
		if err != nil || len(s.Groups) != 1 || s.Groups[0].Key != "" {
			t.Errorf("property %q: %+v, %v", evil, s, err)
		}
	}
	q := good
	q.Project = "nobody"
	s, err := f.Series(t.Context(), q)
	if err != nil || len(s.Groups) != 0 || s.Total.Total[query.Calls] != event.Some(0.0) {
		t.Errorf("nothing: %+v, %v", s, err)
	}
}

func jsonOf(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
