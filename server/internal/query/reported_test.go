package query_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

func raw(t testing.TB, props map[string]any) map[string]json.RawMessage {
	t.Helper()
	out := make(map[string]json.RawMessage)
	for name, v := range props {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out[name] = b
	}
	return out
}

// reportedBy makes an event of the application's own, read as it is on its way in.
func reportedBy(t testing.TB, name string, at time.Time, props map[string]any) *event.Event {
	e := &event.Event{UUID: event.NewID(), ProjectID: "default", Name: name, DistinctID: "u", Timestamp: at, Source: event.SourceIngest, Properties: raw(t, props)}
	e.ReadReported()
	if id, ok := props["trace_id"].(string); ok {
		e.TraceID = id
	}
	if e.IsReportedCall() && e.Status == "" {
		e.Status = event.StatusError
	}
	return e
}

// TestReported requests the figures of calls that an application reports
// itself, and of agents by the names of docs/events.md, with roll-ups and
// without.
func TestReported(t *testing.T) {
	p := newPair(t)
	const rounds = 60
	from := now.AddDate(0, 0, -2)
	for i := range rounds {
		at := from.Add(time.Duration(i) * time.Minute)
		trace, id := fmt.Sprint("t", i), fmt.Sprint("r", i)
		call := map[string]any{"trace_id": trace, "request_id": id, "model": "gpt-4.1-mini", "provider": "openai"}
		end := maps.Clone(call)
		maps.Copy(end, map[string]any{"latency_ms": 1000, "input_tokens": 10, "output_tokens": 5, "estimated_cost_usd": 0.001, "status": "success", "output_category": []string{"cited", "plain"}[i%2]})
		tool := &event.Event{UUID: event.NewID(), ProjectID: "default", Name: event.Span, TraceID: trace, SpanID: "s" + id, Timestamp: at, IsError: i%3 == 0, Latency: event.Some(time.Second),
			Properties: raw(t, map[string]any{query.ToolName: "lookup_order", query.AgentStep: "plan", "retry_count": 2})}
		inTool := &event.Event{UUID: event.NewID(), ProjectID: "default", Name: event.Generation, TraceID: trace, SpanID: "g" + id, Timestamp: at, Model: "m", Status: event.StatusSuccess, OutputCategory: "text",
			Properties: raw(t, map[string]any{query.ToolName: "summarise"})}
		config := query.AgentConfigID
		if i%2 == 0 {
			config = query.AgentConfig
		}
		p.write(t,
			reportedBy(t, event.RequestStarted, at, call),
			reportedBy(t, event.RequestCompleted, at.Add(2*time.Second), end),
			reportedBy(t, event.RequestFailed, at.Add(time.Second), map[string]any{"trace_id": trace, "request_id": "f" + id, "status": "timeout", query.ToolName: "search", query.AgentStep: "look", "retry_count": 1}),
			tool, inTool,
			reportedBy(t, event.TaskCompleted, at.Add(3*time.Second), map[string]any{"trace_id": trace, "task_completed": i%4 != 0, config: "cfg_7", "retry_count": 5}))
	}
	open := reportedBy(t, event.RequestStarted, from, map[string]any{"trace_id": "open", "request_id": "open", "model": "m"})
	p.write(t, open)
	joined := reportedBy(t, event.RequestCompleted, from, map[string]any{"trace_id": "t0", "request_id": "other", "status": "success"})
	joined.Status = "" // the gateway has seen this call
	p.write(t, joined)
	if p.roll(t) == 0 {
		t.Fatal("nothing was rolled up")
	}
	for what, r := range map[string]*query.Reader{"rolled up": p.ask, "plain": p.askPlain} {
		series := func(by query.GroupBy, ms ...query.Measure) map[string]query.Values {
			t.Helper()
			s, err := r.Series(t.Context(), query.SeriesQuery{Project: "default", Filter: query.Filter{From: from.Add(-time.Hour)}, Measures: ms, By: by})
			if err != nil {
				t.Fatal(what, err)
			}
			out := map[string]query.Values{"": s.Total.Total}
			for _, g := range s.Groups {
				out[g.Key] = g.Total
			}
			return out
		}
		want := func(got query.Number, n float64, of string) {
			t.Helper()
			if !got.Known || got.Value < n-1e-9 || got.Value > n+1e-9 {
				t.Errorf("%s: %s is %v, want %v", what, of, got, n)
			}
		}
		all := series(query.ByNone, query.Calls, query.Errors, query.CostUSD, query.TokensIn)[""]
		want(all[query.Calls], 3*rounds, "calls")
		want(all[query.Errors], rounds, "errors")
		want(all[query.CostUSD], 0.001*rounds, "cost")
		want(all[query.TokensIn], 10*rounds, "input tokens")
		want(series(query.ByModelAsked, query.Calls)["gpt-4.1-mini"][query.Calls], rounds, "calls of the model")
		category := series(query.ByOutput, query.Calls)
		want(category["cited"][query.Calls], rounds/2, "calls by output category")
		want(category["text"][query.Calls], rounds, "calls by output category")
		tools := series(query.ByTool, query.ToolCalls, query.ToolErrorRate)
		want(tools["lookup_order"][query.ToolErrorRate], 1.0/3, "failure rate of lookup_order")
		want(tools["search"][query.ToolErrorRate], 1, "failure rate of search")
		want(tools["summarise"][query.ToolCalls], rounds, "calls of summarise")
		want(tools[""][query.ToolCalls], 3*rounds, "tool calls")
		retries := series(query.ByProperty(query.AgentStep), query.Retries)
		want(retries["plan"][query.Retries], 2*rounds, "retries of plan")
		want(retries["look"][query.Retries], rounds, "retries of look")
		want(series(query.ByProperty(query.AgentConfig), query.CompletionRate)["cfg_7"][query.CompletionRate], 0.75, "completion rate by agent config")

		stats, err := r.Stats(t.Context(), query.StatsQuery{Project: "default", Filter: query.Filter{From: from.Add(-time.Hour)}, GroupBy: query.ByOutput})
		if err != nil || stats.Totals.Calls != 3*rounds || stats.Totals.Events != 6*rounds+2 || stats.Totals.Errors != rounds {
			t.Errorf("%s: %+v, %v", what, stats.Totals, err)
		}
		steps, err := r.Steps(t.Context(), "default", query.Filter{}, 0)
		if err != nil || len(steps) != 1 || steps[0].Name != "plan" || !steps[0].Tool || steps[0].Runs != rounds {
			t.Errorf("%s: steps %+v, %v", what, steps, err)
		}
		count := func(f query.Filter) int {
			page, err := r.Events(t.Context(), query.EventsQuery{Project: "default", Filter: f, Limit: 1000})
			if err != nil {
				t.Fatal(what, err)
			}
			return len(page.Events)
		}
		for name, c := range map[string]struct {
			f query.Filter
			n int
		}{
			"open calls":                  {query.Filter{Kind: query.KindOpen}, 1},
			"calls":                       {query.Filter{Kind: query.KindCalls}, 3 * rounds},
			"calls of a category":         {query.Filter{Kind: query.KindCalls, Output: "cited"}, rounds / 2},
			"outcomes of a category":      {query.Filter{Kind: query.KindOutcomes, Output: "cited", PromptName: "p"}, 0},
			"outcomes of an agent config": {query.Filter{Kind: query.KindOutcomes, Properties: map[string]string{query.AgentConfig: "cfg_7"}}, rounds},
			"a step":                      {query.Filter{Step: "look"}, rounds},
			"a tool":                      {query.Filter{Step: "lookup_order"}, rounds},
		} {
			if n := count(c.f); n != c.n {
				t.Errorf("%s: %d %s, want %d", what, n, name, c.n)
			}
		}
		if _, err := r.Series(t.Context(), query.SeriesQuery{Project: "default", Filter: query.Filter{From: from, Output: "cited"}, Measures: []query.Measure{query.Calls, query.CompletionRate}, By: query.ByOutput}); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestTraceOfReportedCalls: the start and the end of a call are one step, and
// events that refer to it by its request id are below it.
func TestTraceOfReportedCalls(t *testing.T) {
	p := newPair(t)
	at := now.AddDate(0, 0, -1)
	call := map[string]any{"trace_id": "T", "request_id": "r", "model": "m"}
	end := maps.Clone(call)
	maps.Copy(end, map[string]any{"status": "success", "latency_ms": 1500})
	p.write(t,
		reportedBy(t, event.RequestCompleted, at.Add(2*time.Second), end),
		reportedBy(t, event.RequestStarted, at.Add(100*time.Millisecond), call),
		reportedBy(t, event.OutputRated, at.Add(time.Minute), map[string]any{"trace_id": "T", "request_id": "r", "user_feedback": "positive"}),
		reportedBy(t, event.RequestStarted, at.Add(time.Minute), map[string]any{"trace_id": "T", "request_id": "later", "model": "m"}))
	tr, err := p.ask.Trace(t.Context(), "default", "T")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, n := range tr.Roots {
		names = append(names, n.Event.Name)
	}
	if !slices.Equal(names, []string{event.RequestCompleted, event.RequestStarted}) || len(tr.Roots[0].Children) != 1 {
		t.Fatalf("steps %v", names)
	}
	if r := tr.Rollup; r.Calls != 1 || r.OpenCalls != 1 || r.Events != 4 || !tr.Start.Equal(at.Add(100*time.Millisecond)) || tr.Roots[0].Rollup.Events != 3 {
		t.Errorf("totals %+v from %v", r, tr.Start)
	}
}
