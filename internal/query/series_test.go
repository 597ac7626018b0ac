package query_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/query"
)

// withOutcomes adds outcomes and tool calls to a fixture: some name their prompt
// by themselves, some only their trace, some nothing.
func withOutcomes(t testing.TB, f *fixture) {
	t.Helper()
	rng := rand.New(rand.NewPCG(3, 4))
	one := func(s string) json.RawMessage { return json.RawMessage(s) }
	choose := func(from ...string) string { return from[rng.IntN(len(from))] }
	var more []*event.Event
	for i, e := range f.events {
		switch i % 5 {
		case 0, 1:
			o := &event.Event{UUID: event.NewID(), ProjectID: "default", Name: choose("llm_task_completed", "llm_output_rated", event.Metric), DistinctID: e.DistinctID,
				Timestamp: e.Timestamp.Add(time.Duration(rng.IntN(300)) * time.Second), TraceID: e.TraceID, Properties: map[string]json.RawMessage{}}
			set := func(name string, values ...string) {
				if v := choose(values...); v != "" {
					o.Properties[name] = one(v)
				}
			}
			set("task_completed", "true", "false", `"false"`, "")
			set("user_feedback", `"positive"`, `"negative"`, `"Bad"`, `"neutral"`, "", `"so so"`)
			set("escalated_to_human", "true", "false", "", "null")
			set("accepted_output", "true", "false", "")
			set("edited_output", `"true"`, "false", "")
			set("eval_passed", "true", "false", "")
			set("retry_count", "0", "2", `"1"`, "")
			set("eval_score", "0.5", "0.9", `"0.25"`, `"many"`, "")
			set("eval_name", `"accuracy"`, `"tone"`, "")
			if o.Name == event.Metric {
				set("$ai_metric_value", `"good"`, `"thumbs_down"`, "3", `"7"`, "")
			}
			switch rng.IntN(4) {
			case 0:
				o.PromptName, o.PromptVersion = "classify", "2"
			case 1:
				o.PromptName = "summarise"
			case 2:
				o.PromptName, o.PromptVersionID = "classify", "pv_7"
			}
			if rng.IntN(10) == 0 {
				o.TraceID = ""
			}
			more = append(more, o)
		case 2:
			s := &event.Event{UUID: event.NewID(), ProjectID: "default", Name: event.Span, Timestamp: e.Timestamp, TraceID: e.TraceID, SpanName: choose("search", "fetch", ""),
				Latency: event.Some(time.Duration(rng.IntN(5000)) * time.Millisecond), IsError: rng.IntN(4) == 0, Properties: map[string]json.RawMessage{}}
			switch rng.IntN(3) {
			case 0:
				s.Operation = "execute_tool"
			case 1:
				s.Properties["$ai_span_type"] = one(`"TOOL"`)
				s.Properties["gen_ai.tool.name"] = one(`"lookup"`)
			}
			more = append(more, s)
		}
	}
	f.write(t, more...)
	f.events = append(f.events, more...)
}

func text(e *event.Event, name string) string {
	var s string
	raw := e.Properties[name]
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}

func isOutcome(e *event.Event) bool {
	return e.Name == "llm_task_completed" || e.Name == "llm_output_rated" || e.Name == event.Metric || e.Name == event.Feedback
}

func isTool(e *event.Event) bool {
	return e.Name == event.Span && (e.Operation == "execute_tool" || strings.EqualFold(text(e, "$ai_span_type"), "tool"))
}

// complete gives outcomes what they inherit of the calls of their trace.
func complete(events []*event.Event) []*event.Event {
	first := make(map[string]*event.Event)
	for _, e := range events {
		if e.IsCosted() && e.TraceID != "" {
			first[e.TraceID] = e // the fixture has one call a trace
		}
	}
	out := make([]*event.Event, len(events))
	for i, e := range events {
		out[i] = e
		c := first[e.TraceID]
		if !isOutcome(e) || c == nil {
			continue
		}
		d := e.Clone()
		if d.PromptVersion == "" && d.PromptVersionID == "" && (d.PromptName == "" || d.PromptName == c.PromptName) {
			d.PromptVersion, d.PromptVersionID = c.PromptVersion, c.PromptVersionID
		}
		if d.PromptName == "" {
			d.PromptName = c.PromptName
		}
		d.Provider, d.Model, d.ModelAsked, d.Environment, d.Surface, d.TaskType, d.Operation = c.Provider, c.Model, c.ModelAsked, c.Environment, c.Surface, c.TaskType, c.Operation
		if d.DistinctID == "" {
			d.DistinctID = c.DistinctID
		}
		out[i] = d
	}
	return out
}

// figures is the specification of the measures, without SQL.
func figures(events []*event.Event) map[query.Measure]query.Number {
	v := make(map[query.Measure]query.Number)
	var calls, tools []*event.Event
	n := make(map[query.Measure]float64)
	for _, m := range []query.Measure{query.Tasks, query.TasksCompleted, query.Rated, query.Negative} {
		n[m] = 0
	}
	share := func(m query.Measure, yes, known bool, of map[query.Measure][2]float64) {
		c := of[m]
		if known {
			c[1]++
			if yes {
				c[0]++
			}
		}
		of[m] = c
	}
	shares := make(map[query.Measure][2]float64)
	var scores, known float64
	users := make(map[string]bool)
	for _, e := range events {
		switch {
		case e.IsCosted():
			calls = append(calls, e)
			if e.DistinctID != "" {
				users[e.DistinctID] = true
			}
		case isTool(e):
			tools = append(tools, e)
		case isOutcome(e):
			if e.Name == "llm_task_completed" {
				n[query.Tasks]++
				done := text(e, "task_completed") != "false"
				if done {
					n[query.TasksCompleted]++
				}
				share(query.CompletionRate, done, true, shares)
			}
			feedback := strings.ToLower(text(e, "user_feedback"))
			if metric := text(e, "$ai_metric_value"); feedback == "" && (metric == "good" || metric == "thumbs_down") {
				feedback = metric
			}
			bad := feedback == "negative" || feedback == "bad" || feedback == "thumbs_down"
			if bad || feedback == "positive" || feedback == "neutral" || feedback == "good" {
				n[query.Rated]++
				share(query.NegativeRate, bad, true, shares)
				if bad {
					n[query.Negative]++
				}
			}
			for m, name := range map[query.Measure]string{query.EscalationRate: "escalated_to_human", query.AcceptanceRate: "accepted_output", query.EditRate: "edited_output", query.EvalPassRate: "eval_passed"} {
				share(m, text(e, name) == "true", text(e, name) == "true" || text(e, name) == "false", shares)
			}
			if r, err := strconv.Atoi(text(e, "retry_count")); err == nil {
				share(query.RetryRate, r > 0, true, shares)
			}
			for _, name := range []string{"eval_score", "$ai_metric_value"} {
				if s, err := strconv.ParseFloat(text(e, name), 64); err == nil {
					scores, known = scores+s, known+1
					break
				}
			}
		}
	}
	for m, c := range n {
		v[m] = event.Some(c)
	}
	for _, m := range []query.Measure{query.CompletionRate, query.NegativeRate, query.EscalationRate, query.AcceptanceRate, query.EditRate, query.EvalPassRate, query.RetryRate} {
		v[m] = query.Number{}
		if c := shares[m]; c[1] > 0 {
			v[m] = event.Some(c[0] / c[1])
		}
	}
	if known > 0 {
		v[query.EvalScore] = event.Some(scores / known)
	}
	t := recompute(calls)
	v[query.Calls], v[query.Errors], v[query.ErrorRate] = event.Some(float64(t.Calls)), event.Some(float64(t.Errors)), t.ErrorRate
	v[query.LatencyP50], v[query.LatencyP95], v[query.LatencyP99] = t.LatencyMS.P50, t.LatencyMS.P95, t.LatencyMS.P99
	v[query.TTFTP50], v[query.TTFTP95], v[query.TTFTP99] = t.TTFTMS.P50, t.TTFTMS.P95, t.TTFTMS.P99
	whole := func(i event.Int) query.Number { return query.Number{Value: float64(i.Value), Known: i.Known} }
	v[query.TokensIn], v[query.TokensOut], v[query.TokensTotal] = whole(t.InputTokens), whole(t.OutputTokens), whole(t.TotalTokens)
	v[query.CacheShare], v[query.Users] = t.CacheHitShare, event.Some(float64(len(users)))
	var cached event.Int
	for _, e := range calls {
		if c := e.Usage.CacheRead; c.Known {
			cached = event.Some(cached.Value + c.Value)
		}
	}
	v[query.TokensCached] = whole(cached)
	var saved query.Number
	for _, e := range calls {
		if s := e.Cost.CacheSaved; s.Known {
			saved = event.Some(saved.Value + s.Value.InexactFloat64())
		}
	}
	v[query.CacheSaved] = saved
	if t.CostUSD.Known {
		cost := t.CostUSD.Value.InexactFloat64()
		v[query.CostUSD], v[query.CostPerCall] = event.Some(cost), event.Some(cost/float64(t.Calls-t.UncostedCalls))
		if done := n[query.TasksCompleted]; done > 0 {
			v[query.CostPerTask] = event.Some(cost / done)
		}
	}
	var failed int
	var took []float64
	for _, e := range tools {
		if e.IsError {
			failed++
		}
		took = append(took, float64(e.Latency.Value.Microseconds())/1000)
	}
	v[query.ToolCalls], v[query.ToolErrors] = event.Some(float64(len(tools))), event.Some(float64(failed))
	if len(tools) > 0 {
		v[query.ToolErrorRate] = event.Some(float64(failed) / float64(len(tools)))
	}
	v[query.ToolP95] = quantiles(took).P95
	return v
}

var (
	callMeasures = []query.Measure{query.Calls, query.Errors, query.ErrorRate, query.LatencyP50, query.LatencyP95, query.LatencyP99, query.TTFTP50, query.TTFTP95, query.TTFTP99,
		query.TokensIn, query.TokensOut, query.TokensTotal, query.TokensCached, query.CostUSD, query.CostPerCall, query.CacheSaved, query.CacheShare, query.Users}
	outcomeMeasures = []query.Measure{query.Tasks, query.TasksCompleted, query.CompletionRate, query.Rated, query.Negative, query.NegativeRate, query.EscalationRate,
		query.AcceptanceRate, query.EditRate, query.RetryRate, query.EvalScore, query.EvalPassRate}
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
	all := complete(f.events)
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
		{by: query.ByProperty("plan"), every: query.ByDay, from: week, ms: callMeasures, among: (*event.Event).IsCosted, key: func(e *event.Event) string { return text(e, "plan") }, at: day,
			filter: query.Filter{Environment: "staging", Tag: "beta"}, ok: func(e *event.Event) bool { return e.Environment == "staging" && slices.Contains(e.Tags, "beta") }},
		{by: query.ByPrompt, every: query.ByDay, from: week, ms: outcomeMeasures, among: isOutcome, key: prompt, at: day, limit: 5, compare: true},
		{by: query.ByModel, every: query.ByNone, from: week, ms: outcomeMeasures, among: isOutcome, key: (*event.Event).ModelName, limit: 20,
			filter: query.Filter{Provider: "openai"}, ok: func(e *event.Event) bool { return e.Provider == "openai" }},
		{by: query.ByPrompt, every: query.ByDay, from: week, ms: []query.Measure{query.CostPerTask, query.CostUSD, query.CompletionRate}, among: (*event.Event).IsCosted, key: prompt, at: day, limit: 3},
		{by: query.ByModel, every: query.ByDay, from: week, ms: callMeasures[2:6], among: (*event.Event).IsCosted, key: (*event.Event).ModelName, at: day, limit: 3},
		{by: query.ByProvider, every: query.ByNone, from: week, ms: callMeasures, among: (*event.Event).IsCosted, key: func(e *event.Event) string { return e.Provider }, compare: true},
		{by: query.ByTool, every: query.ByDay, from: week, ms: toolMeasures, among: isTool, at: day, key: func(e *event.Event) string {
			if n := text(e, "gen_ai.tool.name"); n != "" {
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
				case !e.Timestamp.Before(filter.From.Add(-filter.To.Sub(filter.From))) && e.Timestamp.Before(filter.From):
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
				sameValues(t, name, l.Total, figures(pick(in, any)), c.ms)
				if c.compare && (name == "total" || c.every == query.ByNone) {
					sameValues(t, name+" before", l.Previous, figures(pick(before, any)), c.ms)
				}
				if len(l.Total) != len(c.ms) {
					t.Errorf("%s: %d figures, want %d", name, len(l.Total), len(c.ms))
				}
				if name == "total" && c.by != query.ByNone {
					return
				}
				for i, key := range s.Keys {
					sameValues(t, name+" "+key, l.Points[i], figures(pick(in, func(e *event.Event) bool { return c.at(e) == key })), c.ms)
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
