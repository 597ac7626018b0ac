package query

import (
	"slices"
	"strconv"
	"strings"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query/sqlf"
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

// LatencyOf says which calls count where the times of calls are asked for: their
// latency and time to first token. Times of tool calls are of all of them.
type LatencyOf string

// The choices of a [LatencyOf].
const (
	OfCompleted LatencyOf = "completed" // calls that did not fail; "" is the same
	OfFailed    LatencyOf = "failed"
	OfAll       LatencyOf = "all"
)

// Check reports what is wrong with a choice.
func (o LatencyOf) Check() error {
	switch o {
	case "", OfCompleted, OfFailed, OfAll:
		return nil
	}
	return event.Invalid("latency cannot be of "+strconv.Quote(string(o)), "use completed (the default), failed or all")
}

// cond is the condition of the calls that count.
func (o LatencyOf) cond() sqlf.Fragment {
	switch o {
	case OfFailed:
		return sqlf.New("{is_error}")
	case OfAll:
		return sqlf.Raw("true")
	}
	return sqlf.New("NOT {is_error}")
}

// bins is the column of a roll-up that has the times of those calls.
func (o LatencyOf) bins(what string) sqlf.Fragment {
	switch o {
	case OfFailed:
		return sqlf.Raw(what + failedTimes)
	case OfAll:
		return sqlf.Raw("nullif(concat_ws(' ', " + what + ", " + what + failedTimes + "), '')")
	}
	return sqlf.Raw(what)
}

// Retries is how often steps of agents were tried again: the sum of retry_count
// over the events that name their step by agent_step_name.
const Retries Measure = "retries"

// CostPerTask is the cost of all calls / completed tasks: what a failed attempt
// cost is part of what a success costs.
const CostPerTask Measure = "cost_per_task_usd"

// kind is the set of events that a measure is taken of.
type kind int

const (
	ofCalls kind = iota
	ofOutcomes
	ofTools
	ofSteps     // events that name a step of an agent, and how often it was tried again
	ofUsers     // of calls, one by one
	ofAll       // every event
	ofEvents    // that an application names itself
	ofTraces    // of calls, one by one
	ofUserUnits // of calls, with whether a user has an event
)

// measure is how a measure is computed: from sums over the rows of its source,
// which add up over groups of rows; or, where sums is empty, by an aggregate that
// does not, as the quantiles of a column's durations.
type measure struct {
	kind kind
	sums []sqlf.Fragment // aggregates
	from string          // of an expression of the sums, each of which takes a ?
	expr sqlf.Fragment   // where there are no sums, the aggregate
	what string          // of quantiles: the name of the duration in roll-ups
	pick int             // of quantiles: which
}

// of is the source: calls, and quantiles of calls, have different ones.
type of struct {
	kind  kind
	times bool
}

func (m measure) of() of { return of{m.kind, m.what != ""} }

// shares are the quantiles that dialect.quantiles gives.
var shares = []float64{0.5, 0.95, 0.99}

// outcomeNames are the events that tell how a call worked out.
const outcomeNames = "'llm_task_completed', 'llm_output_rated', '" + event.Metric + "', '" + event.Feedback + "', '$ai_evaluation'"

// outcomes reports whether name is one of them.
func isOutcome(name string) bool { return name != "" && strings.Contains(outcomeNames, "'"+name+"'") }

// ratio is the expression of a measure that divides its first sum by its second.
const ratio = "? / nullif(?, 0)"

func countOf(cond sqlf.Fragment) sqlf.Fragment {
	return sqlf.New("count(*) FILTER (WHERE ?)", cond)
}

// terms are the conditions and values of an outcome, of which measures and the
// figures of experiments are made.
type terms struct {
	task, completed sqlf.Fragment // conditions
	rated, negative sqlf.Fragment
	retries, score  sqlf.Fragment // values
	passed, eval    sqlf.Fragment // of a judgement: "true" or "false", and its name
}

func (d *dialect) terms() terms {
	prop := d.constProperty
	metric := sqlf.New("CASE WHEN {name} = '"+event.Metric+"' THEN lower(?) END", prop("$ai_metric_value"))
	feedback := sqlf.New("coalesce(lower(?), CASE WHEN ? IN ("+positiveWords+", "+negativeWords+", 'neutral') THEN ? END)", prop("user_feedback"), metric, metric)
	task := sqlf.New("{name} = 'llm_task_completed'")
	return terms{
		task: task, completed: task.Andf("coalesce(lower(?), 'true') <> 'false'", prop("task_completed")),
		rated: d.oneOf(feedback, positiveWords+", "+negativeWords+", 'neutral'"), negative: d.oneOf(feedback, negativeWords),
		retries: d.tryFloat(prop("retry_count")),
		passed:  sqlf.New("lower(coalesce(?, ?))", prop("eval_passed"), prop("$ai_evaluation_result")), eval: d.evalName(),
		score: sqlf.New("coalesce(?, ?, ?)", d.tryFloat(prop("eval_score")), d.tryFloat(prop("$ai_score")), d.tryFloat(metric)),
	}
}

// evalName is what a judgement is called, in hedgerow's words or PostHog's; NULL
// for outcomes that are none.
func (d *dialect) evalName() sqlf.Fragment {
	return sqlf.New("coalesce(?, ?, ?)", d.constProperty("eval_name"), d.constProperty("$ai_metric_name"), d.constProperty("$ai_evaluation_name"))
}

// yesNo are the conditions that a text says yes, and that it says either, from
// booleans and from the strings that posthog-js makes of them.
func yesNo(text sqlf.Fragment) (yes, known sqlf.Fragment) {
	return sqlf.New("? = 'true'", text), sqlf.New("? IN ('true', 'false')", text)
}

// saysYes is yesNo of a property.
func (d *dialect) saysYes(name string) (yes, known sqlf.Fragment) {
	return yesNo(sqlf.New("lower(?)", d.constProperty(name)))
}

func isKnown(expr sqlf.Fragment) sqlf.Fragment { return sqlf.New("? IS NOT NULL", expr) }

// measures of an engine, with the times of some calls.
func (d *dialect) measures(latencyOf LatencyOf) map[Measure]measure {
	t := d.terms()
	one := func(k kind, from string, sums ...sqlf.Fragment) measure {
		return measure{kind: k, sums: sums, from: d.float(sqlf.Raw(from)).String()}
	}
	total := func(expr sqlf.Fragment) sqlf.Fragment { return sqlf.New("sum(?)", expr) }
	sum := func(col string) measure { return one(ofCalls, "?", total(sqlf.Column(col))) }
	share := func(col, among string) measure {
		return one(ofCalls, d.float(sqlf.Raw("?")).String()+" / nullif(?, 0)", total(sqlf.Column(col)), total(sqlf.Column(among)))
	}
	count := func(cond sqlf.Fragment) measure { return one(ofOutcomes, "coalesce(?, 0)", countOf(cond)) }
	rate := func(of, among sqlf.Fragment) measure { return one(ofOutcomes, ratio, countOf(of), countOf(among)) }
	quantile := func(k kind, what, col string, i int) measure {
		cond := isKnown(sqlf.Column(col))
		if k == ofCalls {
			cond = cond.And(latencyOf.cond())
		}
		return measure{kind: k, expr: d.quantiles(sqlf.Column(col), cond), what: what, pick: i}
	}
	events := func(k kind) (all, failed, rate measure) {
		return one(k, "?", allRows), one(k, "coalesce(?, 0)", failedRows), one(k, "coalesce(?, 0) / nullif(?, 0)", failedRows, allRows)
	}
	calls, errors, errorRate := events(ofCalls)
	tools, toolErrors, toolErrorRate := events(ofTools)
	yes := func(name string) measure { return rate(d.saysYes(name)) }
	units := func(k kind) measure {
		return measure{kind: k, expr: sqlf.New("? / nullif(count(DISTINCT {unit}), 0)", d.float(sqlf.New("count(DISTINCT {unit}) FILTER (WHERE {hit})")))}
	}
	hit := countOf(sqlf.Column("hit"))
	return map[Measure]measure{
		Calls: calls, Errors: errors, ErrorRate: errorRate,
		LatencyP50: quantile(ofCalls, "latency", "latency_us", 0), LatencyP95: quantile(ofCalls, "latency", "latency_us", 1), LatencyP99: quantile(ofCalls, "latency", "latency_us", 2),
		TTFTP50: quantile(ofCalls, "ttft", "ttft_us", 0), TTFTP95: quantile(ofCalls, "ttft", "ttft_us", 1), TTFTP99: quantile(ofCalls, "ttft", "ttft_us", 2),
		TokensIn: sum("input_tokens"), TokensOut: sum("output_tokens"), TokensTotal: sum("tokens"), TokensCached: sum("cache_read_tokens"),
		TokensCacheNew: sum("cache_write_tokens"), TokensReasoning: sum("reasoning_tokens"), CostUSD: sum("cost_total"), CacheSaved: sum("cost_cache_saved"),
		CostPerCall: share("cost_total", "costed"), CacheShare: share("cached_input", "all_input"),
		Users: {kind: ofUsers, expr: d.float(sqlf.New("count(DISTINCT {distinct_id})"))},

		EventCount: one(ofEvents, "coalesce(?, 0)", hit), EventShare: one(ofEvents, ratio, hit, countOf(sqlf.Column("known"))),
		EventMean:      one(ofEvents, ratio, total(sqlf.Column("number")), sqlf.New("count({number})")),
		EventTraceRate: units(ofTraces), EventUserRate: units(ofUserUnits),

		Tasks: count(t.task), TasksCompleted: count(t.completed), CompletionRate: rate(t.completed, t.task),
		Rated: count(t.rated), Negative: count(t.negative), NegativeRate: rate(t.negative, t.rated),
		EscalationRate: yes("escalated_to_human"), AcceptanceRate: yes("accepted_output"), EditRate: yes("edited_output"), EvalPassRate: rate(yesNo(t.passed)),
		Evals:     count(isKnown(t.eval)),
		RetryRate: rate(sqlf.New("? > 0", t.retries), isKnown(t.retries)), EvalScore: one(ofOutcomes, ratio, total(t.score), sqlf.New("count(?)", t.score)),

		ToolCalls: tools, ToolErrors: toolErrors, ToolErrorRate: toolErrorRate, ToolP95: quantile(ofTools, "tool", "latency_us", 1),

		Retries: one(ofSteps, "?", total(sqlf.Column("retries"))),
	}
}

// The words in which thumbs are told, as package posthog reads them.
const (
	positiveWords = "'positive', 'good', 'up', 'thumbs_up', 'thumbs-up', 'like', 'liked'"
	negativeWords = "'negative', 'bad', 'down', 'thumbs_down', 'thumbs-down', 'dislike', 'disliked'"
)

// The sums by which groups are ranked, besides.
var (
	allRows    = sqlf.New("sum({n})")
	failedRows = sqlf.New("sum({n}) FILTER (WHERE {is_error})")
)

// distinct are the fragments of a list, each text once.
func distinct(list []sqlf.Fragment) (out []sqlf.Fragment) {
	for _, f := range list {
		if indexOf(out, f) < 0 {
			out = append(out, f)
		}
	}
	return out
}

func indexOf(list []sqlf.Fragment, f sqlf.Fragment) int {
	return slices.IndexFunc(list, func(x sqlf.Fragment) bool { return x.String() == f.String() })
}

// sumsOf are the sums that measures need, each once.
func sumsOf(ms []measure) []sqlf.Fragment {
	var out []sqlf.Fragment
	for _, m := range ms {
		out = append(out, m.sums...)
	}
	return distinct(out)
}

// columnsOf are the expressions of measures, each once. Sums are named by their
// place in a list.
func columnsOf(ms []measure, sums []sqlf.Fragment) []sqlf.Fragment {
	out := make([]sqlf.Fragment, len(ms))
	for i, m := range ms {
		out[i] = m.column(sums)
	}
	return distinct(out)
}

func (m *measure) column(sums []sqlf.Fragment) sqlf.Fragment {
	if len(m.sums) == 0 {
		return m.expr
	}
	var names []any
	for _, s := range m.sums {
		names = append(names, sumOf(indexOf(sums, s)))
	}
	return sqlf.New(m.from, names...)
}

// sumOf adds up a sum, by its place in the list.
func sumOf(i int) sqlf.Fragment { return sqlf.Raw("sum(" + sumName(i) + ")") }

// sumName is the column of a sum, by its place in the list.
func sumName(i int) string { return "s" + strconv.Itoa(i) }

// values turns the columns of columnsOf into figures. binned has, for durations
// of the roll-up, their counts in place of columns.
func values(names []Measure, ms []measure, sums []sqlf.Fragment, columns []any, binned map[string]bins) Values {
	at := columnsOf(ms, sums)
	out := make(Values, len(names))
	for i, m := range ms {
		var n Number
		switch {
		case m.what == "":
			n.Value, n.Known = columns[indexOf(at, m.column(sums))].(float64)
		case binned != nil:
			n = binned[m.what].quantile(shares[m.pick])
		default:
			if list, _ := columns[indexOf(at, m.column(sums))].([]any); m.pick < len(list) {
				n.Value, n.Known = list[m.pick].(float64)
			}
		}
		if m.what != "" {
			n.Value /= 1000
		}
		out[names[i]] = n
	}
	return out
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

// of is the condition of a kind; an empty one of every event.
func (r *Reader) of(k kind) sqlf.Fragment {
	switch k {
	case ofCalls, ofUsers, ofTraces, ofUserUnits:
		return callExpr
	case ofOutcomes:
		return outcomeExpr
	case ofTools:
		return r.sql.toolExpr()
	case ofSteps:
		return isKnown(r.sql.retriesExpr())
	}
	return sqlf.Fragment{}
}

// toolExpr tells tool calls: what names its tool, and spans whose type
// (OpenTelemetry, PostHog's SDKs) or operation says so.
func (d *dialect) toolExpr() sqlf.Fragment {
	const span = "{name} = '" + event.Span + "'"
	return sqlf.New("("+span+" AND (coalesce(lower(?), '') = 'tool' OR coalesce({operation}, '') = 'execute_tool') OR ("+span+" OR ?) AND coalesce(?, '') <> '')",
		d.constProperty("$ai_span_type"), callExpr, d.constProperty(ToolName))
}

// retriesExpr is how often a step of an agent was tried again, as an event says
// that names the step; NULL for others.
func (d *dialect) retriesExpr() sqlf.Fragment {
	return sqlf.New("CASE WHEN contains({properties}, '"+AgentStep+"') AND ? <> '' THEN ? END", d.constProperty(AgentStep), d.tryFloat(d.constProperty("retry_count")))
}
