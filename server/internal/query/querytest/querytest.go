package querytest

import (
	"cmp"
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

// Outcomes makes outcomes and tool calls for calls: some name their prompt on
// their own, some only their trace, some nothing.
func Outcomes(rng *rand.Rand, calls []*event.Event) (more []*event.Event) {
	one := func(s string) json.RawMessage { return json.RawMessage(s) }
	choose := func(from ...string) string { return from[rng.IntN(len(from))] }
	for i, e := range calls {
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
	return more
}

// Text is a property as text: a string without its quotes, all else as JSON.
func Text(e *event.Event, name string) string {
	var s string
	raw := e.Properties[name]
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}

// IsOutcome reports whether an event reports how a call worked out.
func IsOutcome(e *event.Event) bool {
	return e.Name == "llm_task_completed" || e.Name == "llm_output_rated" || e.Name == event.Metric || e.Name == event.Feedback
}

// IsTool reports whether an event is the call of a tool.
func IsTool(e *event.Event) bool {
	return e.Name == event.Span && (e.Operation == "execute_tool" || strings.EqualFold(Text(e, "$ai_span_type"), "tool"))
}

// Complete sets the fields of outcomes that they inherit from their trace's
// call. Each trace has one call.
func Complete(events []*event.Event) []*event.Event {
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
		if !IsOutcome(e) || c == nil {
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

// Figures is the specification of the measures, without SQL.
func Figures(events []*event.Event) map[query.Measure]query.Number {
	v := make(map[query.Measure]query.Number)
	var calls, tools []*event.Event
	n := make(map[query.Measure]float64)
	for _, m := range []query.Measure{query.Tasks, query.TasksCompleted, query.Rated, query.Negative, query.Evals} {
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
		case IsTool(e):
			tools = append(tools, e)
		case IsOutcome(e):
			if e.Name == "llm_task_completed" {
				n[query.Tasks]++
				done := Text(e, "task_completed") != "false"
				if done {
					n[query.TasksCompleted]++
				}
				share(query.CompletionRate, done, true, shares)
			}
			if cmp.Or(Text(e, "eval_name"), Text(e, "$ai_metric_name"), Text(e, "$ai_evaluation_name")) != "" {
				n[query.Evals]++
			}
			feedback := strings.ToLower(Text(e, "user_feedback"))
			if metric := Text(e, "$ai_metric_value"); feedback == "" && (metric == "good" || metric == "thumbs_down") {
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
				share(m, Text(e, name) == "true", Text(e, name) == "true" || Text(e, name) == "false", shares)
			}
			if r, err := strconv.Atoi(Text(e, "retry_count")); err == nil {
				share(query.RetryRate, r > 0, true, shares)
			}
			for _, name := range []string{"eval_score", "$ai_metric_value"} {
				if s, err := strconv.ParseFloat(Text(e, name), 64); err == nil {
					scores, known = scores+s, known+1
					break
				}
			}
		}
	}
	n[query.EvalsJudged] = shares[query.EvalPassRate][1]
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
	t := Totals(calls)
	v[query.Calls], v[query.Errors], v[query.ErrorRate] = event.Some(float64(t.Calls)), event.Some(float64(t.Errors)), t.ErrorRate
	v[query.LatencyP50], v[query.LatencyP95], v[query.LatencyP99] = t.LatencyMS.P50, t.LatencyMS.P95, t.LatencyMS.P99
	v[query.TTFTP50], v[query.TTFTP95], v[query.TTFTP99] = t.TTFTMS.P50, t.TTFTMS.P95, t.TTFTMS.P99
	whole := func(i event.Int) query.Number { return query.Number{Value: float64(i.Value), Known: i.Known} }
	v[query.TokensIn], v[query.TokensOut], v[query.TokensTotal] = whole(t.InputTokens), whole(t.OutputTokens), whole(t.TotalTokens)
	v[query.CacheShare], v[query.Users] = t.CacheHitShare, event.Some(float64(len(users)))
	for m, of := range map[query.Measure]func(*event.Event) event.Int{
		query.TokensCached: func(e *event.Event) event.Int { return e.Usage.CacheRead }, query.TokensCacheNew: func(e *event.Event) event.Int { return e.Usage.CacheWrite },
		query.TokensReasoning: func(e *event.Event) event.Int { return e.Usage.Reasoning },
	} {
		var sum event.Int
		for _, e := range calls {
			if n := of(e); n.Known {
				sum = event.Some(sum.Value + n.Value)
			}
		}
		v[m] = whole(sum)
	}
	var saved query.Number
	for _, e := range calls {
		if s := e.Cost.CacheSaved; s.Known {
			saved = event.Some(saved.Value + s.Value.InexactFloat64())
		}
	}
	v[query.CacheSaved] = saved
	v[query.IncompleteCalls] = event.Some(float64(t.Incomplete))
	if t.PricedUSD.Known {
		v[query.CostPerCall] = event.Some(t.PricedUSD.Value.InexactFloat64() / float64(t.Calls-t.UncostedCalls))
	}
	if t.CostUSD.Known {
		cost := t.CostUSD.Value.InexactFloat64()
		v[query.CostUSD] = event.Some(cost)
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
	v[query.ToolP95] = Quantiles(took).P95
	return v
}

// Totals is the specification of query.Totals, without SQL.
// Totals are sums over events.
func Totals(events []*event.Event) query.Totals {
	var t query.Totals
	var latency, ttft []float64
	var cacheRead, cacheable int64
	add := func(sum *event.Int, v event.Int) {
		if v.Known {
			*sum = event.Some(sum.Value + v.Value)
		}
	}
	for _, e := range events {
		t.Events++
		if !e.IsCosted() {
			if e.IsError {
				t.OtherErrors++
			}
			continue
		}
		t.Calls++
		if e.IsError {
			t.Errors++
		}
		add(&t.InputTokens, allInput(e.Usage))
		add(&t.OutputTokens, e.Usage.Output)
		add(&t.TotalTokens, e.Usage.Tokens())
		if !e.Usage.Tokens().Known {
			t.UnmeteredCalls++
		}
		known := e.Cost.Sum()
		if e.Cost.Total.Known {
			known = e.Cost.Total
			t.PricedUSD = query.USD(event.Some(t.PricedUSD.Value.Add(known.Value)))
		} else {
			t.UncostedCalls++
			if e.IsError {
				t.UncostedErrors++
			}
			if !e.IsError || known.Known || e.Usage.Tokens().Known {
				t.Incomplete, t.CostAtLeast = t.Incomplete+1, true
			}
		}
		if known.Known {
			t.CostUSD = query.USD(event.Some(t.CostUSD.Value.Add(known.Value)))
		}
		if e.Latency.Known && !e.IsError {
			latency = append(latency, float64(e.Latency.Value.Microseconds())/1000)
		}
		if e.TimeToFirstToken.Known && !e.IsError {
			ttft = append(ttft, float64(e.TimeToFirstToken.Value.Microseconds())/1000)
		}
		if u := e.Usage; u.CacheRead.Known && u.Input.Known {
			cacheRead += u.CacheRead.Value
			cacheable += allInput(u).Value
		}
	}
	if t.Calls > 0 {
		t.ErrorRate = event.Some(float64(t.Errors) / float64(t.Calls))
	}
	if cacheable > 0 {
		t.CacheHitShare = event.Some(float64(cacheRead) / float64(cacheable))
	}
	t.LatencyMS, t.TTFTMS = Quantiles(latency), Quantiles(ttft)
	return t
}

// allInput is the input tokens in sums: the provider's input count, and cached
// tokens that it excludes.
func allInput(u event.Usage) event.Int {
	if !u.Input.Known {
		return event.Int{}
	}
	n := u.Input.Value
	if u.CacheExclusive.Known && u.CacheExclusive.Value {
		n += u.CacheRead.Value + u.CacheWrite.Value
	}
	return event.Some(n)
}

// Quantiles are interpolated between the two nearest values. v is sorted by it.
func Quantiles(v []float64) query.Quantiles {
	if len(v) == 0 {
		return query.Quantiles{}
	}
	slices.Sort(v)
	at := func(q float64) query.Millis {
		pos := q * float64(len(v)-1)
		low := math.Floor(pos)
		high := min(int(low)+1, len(v)-1)
		return event.Some(v[int(low)] + (pos-low)*(v[high]-v[int(low)]))
	}
	return query.Quantiles{P50: at(0.5), P95: at(0.95), P99: at(0.99)}
}
