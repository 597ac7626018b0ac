package query

import (
	"database/sql"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// Measure is a figure that a [Series] can show.
type Measure string

// The measures of calls. A call is a generation or an embedding.
const (
	Calls           Measure = "calls"
	Errors          Measure = "errors"     // calls that failed
	ErrorRate       Measure = "error_rate" // Errors / Calls
	LatencyP50      Measure = "latency_p50_ms"
	LatencyP95      Measure = "latency_p95_ms"
	LatencyP99      Measure = "latency_p99_ms"
	TTFTP50         Measure = "ttft_p50_ms" // time to first token, of streams
	TTFTP95         Measure = "ttft_p95_ms"
	TTFTP99         Measure = "ttft_p99_ms"
	TokensIn        Measure = "input_tokens"
	TokensOut       Measure = "output_tokens"
	TokensTotal     Measure = "total_tokens"
	TokensCached    Measure = "cache_read_tokens"
	TokensCacheNew  Measure = "cache_write_tokens"
	TokensReasoning Measure = "reasoning_tokens"
	CostUSD         Measure = "cost_usd"          // of the calls whose cost is known
	CostPerCall     Measure = "cost_per_call_usd" // mean over the calls whose cost is known
	CacheSaved      Measure = "cache_saved_usd"   // what input read from a cache saved against input read anew, of the calls that hedgerow priced
	CacheShare      Measure = "cache_hit_share"   // input tokens read from a cache / all input tokens, over calls that report it
	Users           Measure = "users"             // different distinct ids
)

// The measures of outcomes: llm_task_completed, llm_output_rated and PostHog's
// $ai_metric, $ai_feedback and $ai_evaluation. A rate counts only the outcomes
// that say anything about it.
const (
	Tasks          Measure = "tasks"           // llm_task_completed
	TasksCompleted Measure = "tasks_completed" // those whose task_completed is not false
	CompletionRate Measure = "completion_rate"
	Rated          Measure = "rated"    // outcomes with user_feedback
	Negative       Measure = "negative" // those whose user_feedback is negative
	NegativeRate   Measure = "negative_rate"
	EscalationRate Measure = "escalation_rate" // escalated_to_human
	AcceptanceRate Measure = "acceptance_rate" // accepted_output
	EditRate       Measure = "edit_rate"       // edited_output
	RetryRate      Measure = "retry_rate"      // retry_count above 0
	EvalScore      Measure = "eval_score"      // mean of eval_score
	EvalPassRate   Measure = "eval_pass_rate"  // eval_passed
	Evals          Measure = "evals"           // outcomes that a check or a judge made: those with a name of an evaluation
)

// The measures of tool calls: spans that say that they are one.
const (
	ToolCalls     Measure = "tool_calls"
	ToolErrors    Measure = "tool_errors"
	ToolErrorRate Measure = "tool_error_rate"
	ToolP95       Measure = "tool_p95_ms"
)

// CostPerTask is the cost of all calls / completed tasks: what a failed attempt
// cost is part of what a success costs.
const CostPerTask Measure = "cost_per_task_usd"

// kind is the set of events that a measure is taken of.
type kind int

const (
	ofCalls kind = iota
	ofOutcomes
	ofTools
)

// measure is how a measure is computed: a column of a SELECT over its kind's
// events and, where that is a list of quantiles, which of them.
type measure struct {
	kind  kind
	expr  string
	pick  int // -1: the column is a number
	scale float64
}

// outcomeNames are the events that tell how a call worked out.
const outcomeNames = "'llm_task_completed', 'llm_output_rated', '" + event.Metric + "', '" + event.Feedback + "', '$ai_evaluation'"

// outcomes reports whether name is one of them.
func isOutcome(name string) bool { return name != "" && strings.Contains(outcomeNames, "'"+name+"'") }

func rate(of, among string) string {
	return "count(*) FILTER (WHERE " + of + ") / nullif(count(*) FILTER (WHERE " + among + "), 0)"
}

// terms are the conditions and values of an outcome, of which measures and the
// figures of experiments are made.
type terms struct {
	task, completed string // conditions
	rated, negative string
	retries, score  string // values
	passed, eval    string // of a judgement: "true" or "false", and its name
}

func (d *dialect) terms() terms {
	prop := d.constProperty
	metric := "CASE WHEN name = '" + event.Metric + "' THEN lower(" + prop("$ai_metric_value") + ") END"
	feedback := "coalesce(lower(" + prop("user_feedback") + "), CASE WHEN " + metric + " IN (" + positiveWords + ", " + negativeWords + ", 'neutral') THEN " + metric + " END)"
	task := "name = 'llm_task_completed'"
	return terms{
		task: task, completed: task + " AND coalesce(lower(" + prop("task_completed") + "), 'true') <> 'false'",
		rated: feedback + " IN (" + positiveWords + ", " + negativeWords + ", 'neutral')", negative: feedback + " IN (" + negativeWords + ")",
		retries: d.tryFloat(prop("retry_count")),
		passed:  "lower(coalesce(" + prop("eval_passed") + ", " + prop("$ai_evaluation_result") + "))", eval: d.evalName(),
		score: "coalesce(" + d.tryFloat(prop("eval_score")) + ", " + d.tryFloat(prop("$ai_score")) + ", " + d.tryFloat(metric) + ")",
	}
}

// evalName is what a judgement is called, in hedgerow's words or PostHog's; NULL
// for outcomes that are none.
func (d *dialect) evalName() string {
	return "coalesce(" + d.constProperty("eval_name") + ", " + d.constProperty("$ai_metric_name") + ", " + d.constProperty("$ai_evaluation_name") + ")"
}

// yesNo are the conditions that a property says yes, and that it says either,
// from booleans and from the strings that posthog-js makes of them.
func (d *dialect) yesNo(name string) (yes, known string) {
	p := "lower(" + d.constProperty(name) + ")"
	return p + " = 'true'", p + " IN ('true', 'false')"
}

// measures of an engine.
func (d *dialect) measures() map[Measure]measure {
	t := d.terms()
	list := func(m string) string { return d.quantiles(m, m+" IS NOT NULL") }
	number := func(m string) string { return d.float(m) }
	sum := func(col string) measure { return measure{ofCalls, d.float("sum(" + col + ")"), -1, 1} }
	quantile := func(k kind, col string, i int) measure { return measure{k, list(col), i, 0.001} }
	one := func(k kind, expr string) measure { return measure{k, d.float(expr), -1, 1} }
	share := func(name string) measure {
		yes, known := d.yesNo(name)
		return one(ofOutcomes, rate(yes, known))
	}
	allInput := "input_tokens + CASE WHEN cache_exclusive THEN cache_read_tokens + coalesce(cache_write_tokens, 0) ELSE 0 END"
	cached := "FILTER (WHERE cache_read_tokens IS NOT NULL AND input_tokens IS NOT NULL)"
	return map[Measure]measure{
		Calls: one(ofCalls, "count(*)"), Errors: one(ofCalls, "count(*) FILTER (WHERE is_error)"), ErrorRate: one(ofCalls, rate("is_error", "true")),
		LatencyP50: quantile(ofCalls, "latency_us", 0), LatencyP95: quantile(ofCalls, "latency_us", 1), LatencyP99: quantile(ofCalls, "latency_us", 2),
		TTFTP50: quantile(ofCalls, "ttft_us", 0), TTFTP95: quantile(ofCalls, "ttft_us", 1), TTFTP99: quantile(ofCalls, "ttft_us", 2),
		TokensIn: sum("input_tokens"), TokensOut: sum("output_tokens"), TokensTotal: sum("tokens"), TokensCached: sum("cache_read_tokens"),
		TokensCacheNew: sum("cache_write_tokens"), TokensReasoning: sum("reasoning_tokens"), CostUSD: sum("cost_total"), CacheSaved: sum("cost_cache_saved"),
		CostPerCall: {ofCalls, number("sum(cost_total)") + " / nullif(count(cost_total), 0)", -1, 1},
		CacheShare:  {ofCalls, number("sum(cache_read_tokens) "+cached) + " / nullif(" + number("sum("+allInput+") "+cached) + ", 0)", -1, 1},
		Users:       one(ofCalls, "count(DISTINCT distinct_id)"),

		Tasks: one(ofOutcomes, "count(*) FILTER (WHERE "+t.task+")"), TasksCompleted: one(ofOutcomes, "count(*) FILTER (WHERE "+t.completed+")"), CompletionRate: one(ofOutcomes, rate(t.completed, t.task)),
		Rated: one(ofOutcomes, "count(*) FILTER (WHERE "+t.rated+")"), Negative: one(ofOutcomes, "count(*) FILTER (WHERE "+t.negative+")"), NegativeRate: one(ofOutcomes, rate(t.negative, t.rated)),
		EscalationRate: share("escalated_to_human"), AcceptanceRate: share("accepted_output"), EditRate: share("edited_output"), EvalPassRate: one(ofOutcomes, rate(t.passed+" = 'true'", t.passed+" IN ('true', 'false')")),
		Evals:     one(ofOutcomes, "count(*) FILTER (WHERE "+t.eval+" IS NOT NULL)"),
		RetryRate: one(ofOutcomes, rate(t.retries+" > 0", t.retries+" IS NOT NULL")), EvalScore: one(ofOutcomes, "avg("+t.score+")"),

		ToolCalls: one(ofTools, "count(*)"), ToolErrors: one(ofTools, "count(*) FILTER (WHERE is_error)"), ToolErrorRate: one(ofTools, rate("is_error", "true")), ToolP95: quantile(ofTools, "latency_us", 1),
	}
}

// The words in which thumbs are told, as package posthog reads them.
const (
	positiveWords = "'positive', 'good', 'up', 'thumbs_up', 'thumbs-up', 'like', 'liked'"
	negativeWords = "'negative', 'bad', 'down', 'thumbs_down', 'thumbs-down', 'dislike', 'disliked'"
)

// columnsOf are the expressions that measures need, each once.
func columnsOf(ms []measure) []string {
	var out []string
	seen := make(map[string]bool)
	for _, m := range ms {
		if !seen[m.expr] {
			seen[m.expr] = true
			out = append(out, m.expr)
		}
	}
	return out
}

// row reads the columns of measures, with what stands before them.
func scanValues(rows *sql.Rows, names []Measure, ms []measure, before ...any) (Values, error) {
	exprs := columnsOf(ms)
	raw := make([]any, len(exprs))
	dest := before
	at := make(map[string]int, len(exprs))
	for i, e := range exprs {
		dest, at[e] = append(dest, &raw[i]), i
	}
	if err := rows.Scan(dest...); err != nil {
		return nil, fmt.Errorf("scan measures: %w", err)
	}
	out := make(Values, len(names))
	for i, m := range ms {
		v := raw[at[m.expr]]
		if m.pick >= 0 {
			list, _ := v.([]any)
			if len(list) <= m.pick {
				out[names[i]] = Number{}
				continue
			}
			v = list[m.pick]
		}
		f, ok := v.(float64)
		out[names[i]] = Number{Value: f * m.scale, Known: ok}
	}
	return out, nil
}

// from is what a kind's questions select from: the table or, for outcomes, a
// selection of it that completes them. An outcome that says nothing of its
// prompt, model and so on has those of the call that its parent id names or,
// where it names none, of the first call of its trace that names a prompt or,
// where none does, of the first: whoever tells that a task is done seldom knows
// which prompt did it.
func (r *Reader) from(k kind, project string, f *Filter, by GroupBy) (string, []any) {
	names := inherited(f, by)
	if k != ofOutcomes || len(names) == 0 {
		return "events", nil
	}
	var rng, near strings.Builder
	args := []any{project}
	var nearArgs []any
	if !f.From.IsZero() {
		rng.WriteString(" AND ts >= ?")
		args = append(args, f.From.UTC())
		near.WriteString(" AND ts >= ?")
		nearArgs = append(nearArgs, f.From.Add(-outcomeReach).UTC())
	}
	if !f.To.IsZero() {
		rng.WriteString(" AND ts < ?")
		args = append(args, f.To.UTC())
		near.WriteString(" AND ts < ?")
		nearArgs = append(nearArgs, f.To.Add(outcomeReach).UTC())
	}
	own := "SELECT * FROM events WHERE project_id = ? AND name IN (" + outcomeNames + ")" + rng.String()
	traces := "SELECT trace_id FROM events WHERE project_id = ? AND name IN (" + outcomeNames + ") AND trace_id IS NOT NULL" + rng.String()
	var pack []string
	for _, n := range names {
		pack = append(pack, n+" := "+n)
	}
	// One struct a trace: a state for each column would take much more memory.
	const noPrompt = 1 << 62
	first := "arg_min(struct_pack(" + strings.Join(pack, ", ") + "), epoch_us(ts) + CASE WHEN prompt_name IS NULL THEN " + strconv.Itoa(noPrompt) + " ELSE 0 END) AS c"
	// The call that it names, else that of the trace.
	call := func(n string) string { return "struct_extract(coalesce(s.c, t.c), '" + n + "')" }
	var replace []string
	for _, n := range names {
		switch n {
		case "prompt_version", "prompt_version_id":
			replace = append(replace, "CASE WHEN o.prompt_version IS NOT NULL OR o.prompt_version_id IS NOT NULL THEN o."+n+" WHEN o.prompt_name IS NULL OR o.prompt_name = "+call("prompt_name")+" THEN "+call(n)+" END AS "+n)
		default:
			replace = append(replace, "coalesce(o."+n+", "+call(n)+") AS "+n)
		}
	}
	calls := " FROM events WHERE project_id = ? AND " + callExpr + near.String()
	from := "(SELECT o.* REPLACE (" + strings.Join(replace, ", ") + ") FROM (" + own + ") o" +
		" LEFT JOIN (SELECT trace_id, " + first + calls + " AND trace_id IN (" + traces + ") GROUP BY trace_id) t ON t.trace_id = o.trace_id" +
		" LEFT JOIN (SELECT trace_id, span_id, " + first + calls + " AND span_id IN (" + strings.Replace(traces, "trace_id", "parent_id", 1) + " AND parent_id IS NOT NULL AND model_asked IS NULL) GROUP BY trace_id, span_id) s" +
		" ON s.trace_id = o.trace_id AND s.span_id = o.parent_id) AS events"
	some := append(append([]any{project}, nearArgs...), args...)
	return from, append(append(append([]any{}, args...), some...), some...)
}

// inherited are the columns of its call that a question about an outcome looks
// at. What it does not look at need not be read.
func inherited(f *Filter, by GroupBy) []string {
	var out []string
	for _, c := range []struct {
		needed bool
		names  []string
	}{
		{f.PromptName != "" || f.PromptVersion != "" || by == ByPrompt || by == ByPromptName, []string{"prompt_name", "prompt_version", "prompt_version_id"}},
		{f.Provider != "" || by == ByProvider, []string{"provider"}},
		{f.Model != "" || f.ModelAsked != "" || by == ByModel || by == ByModelAsked, []string{"model", "model_asked"}},
		{f.Operation != "" || by == ByOperation, []string{"operation"}},
		{f.Environment != "" || by == ByEnvironment, []string{"environment"}},
		{f.Surface != "" || by == BySurface, []string{"surface"}},
		{f.TaskType != "" || by == ByTaskType, []string{"task_type"}},
		{f.User != "" || by == ByUser, []string{"distinct_id"}},
		{f.SessionID != "", []string{"session_id"}},
		{f.InputLength != "" || by == ByInputLength, []string{"input_length_bucket"}},
	} {
		if c.needed {
			out = append(out, c.names...)
		}
	}
	return out
}

// of adds the condition of a kind.
func (r *Reader) of(k kind, w *where) {
	switch k {
	case ofCalls:
		w.add(callExpr)
	case ofOutcomes:
		w.add("name IN (" + outcomeNames + ")")
	case ofTools:
		w.add(r.sql.toolExpr())
	}
}

// toolExpr tells tool calls: spans whose type (OpenTelemetry, PostHog's SDKs) or
// operation says so.
func (d *dialect) toolExpr() string {
	return "name = '" + event.Span + "' AND (lower(" + d.constProperty("$ai_span_type") + ") = 'tool' OR operation = 'execute_tool')"
}

// outcomeReach is how far from its range a question about outcomes looks for
// the calls that they speak of.
const outcomeReach = 7 * 24 * time.Hour
