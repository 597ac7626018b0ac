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
	CostUSD         Measure = "cost_usd"          // at least, where IncompleteCalls is above 0
	IncompleteCalls Measure = "incomplete_calls"  // whose cost is unknown, or known only in part
	CostPerCall     Measure = "cost_per_call_usd" // mean over the calls whose cost is known
	CacheSaved      Measure = "cache_saved_usd"   // what input read from a cache saved against input reread, of the calls that hedgerow priced
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
	EvalsJudged    Measure = "evals_judged"    // outcomes that say passed or not: those of EvalPassRate
	Evals          Measure = "evals"           // outcomes that a check or a judge made: those with a name of an evaluation
)

// The measures of tool calls: spans that say that they are one.
const (
	ToolCalls     Measure = "tool_calls"
	ToolErrors    Measure = "tool_errors"
	ToolErrorRate Measure = "tool_error_rate"
	ToolP95       Measure = "tool_p95_ms"
)

// LatencyOf says which calls count where the times of calls are requested:
// their latency and time to first token. Times of tool calls are of all of
// them.
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

// measure is how a measure is computed. Charts take the aggregates, over the rows of
// a source; experiments, what one event adds; lists of examples, the events.
type measure struct {
	kind  kind
	parts []Measure // it is the ratio of the totals of these two, and nothing else is set

	// Sums over the rows of its source, which add up over groups of rows; or, where
	// sums is empty, an aggregate that does not, as the quantiles of durations.
	sums []sqlf.Fragment // aggregates
	from string          // of an expression of the sums, each of which takes a ?
	expr sqlf.Fragment   // where there are no sums, the aggregate
	what string          // of quantiles: the name of the duration in roll-ups
	pick int             // of quantiles: which

	failures bool // groups are ranked by their failures

	y, n sqlf.Fragment // what an event counts, and among what; NULL where it says nothing

	unit  string        // examples are one call for each value of this column
	among sqlf.Fragment // the events of its kind that it is taken of; empty: all
	shown sqlf.Fragment // its examples among them; empty: all
	order sqlf.Fragment // of the examples, the largest first; empty: the newest
}

// by puts the examples in another order.
func (m measure) by(order sqlf.Fragment) measure {
	m.order = order
	return m
}

// only narrows the examples.
func (m measure) only(cond sqlf.Fragment) measure {
	m.shown = cond
	return m
}

// within says that the events that are counted are examples among more.
func (m measure) within(among sqlf.Fragment) measure {
	m.shown, m.among = m.among, among
	return m
}

// of is the source: calls, and quantiles of calls, have different ones.
type of struct {
	kind  kind
	times bool
}

func (m measure) of() of { return of{m.kind, m.what != ""} }

// shares are the quantiles that the dialect's quantiles gives.
var shares = []float64{0.5, 0.95, 0.99}

// outcomeNames are the events that report how a call worked out.
const outcomeNames = "'llm_task_completed', 'llm_output_rated', '" + event.Metric + "', '" + event.Feedback + "', '$ai_evaluation'"

// outcomes reports whether name is one of them.
func isOutcome(name string) bool { return name != "" && strings.Contains(outcomeNames, "'"+name+"'") }

// ratio is the expression of a measure that divides its first sum by its second.
const ratio = "? / nullif(?, 0)"

func countOf(cond sqlf.Fragment) sqlf.Fragment {
	return sqlf.New("count(*) FILTER (WHERE ?)", cond)
}

// terms are the conditions and values of which measures are made.
type terms struct {
	*Reader
	latencyOf LatencyOf

	task, completed sqlf.Fragment // conditions of outcomes
	rated, negative sqlf.Fragment
	retries, score  sqlf.Fragment // values of outcomes
	passed, eval    sqlf.Fragment // of a judgment: "true" or "false", and its name

	again sqlf.Fragment // how often a step was tried again

	hit, known, number sqlf.Fragment // of an event that an application names: see match and number
}

// terms are those of events, and of outcomes as the Reader finds them.
func (r *Reader) terms(latencyOf LatencyOf, e EventMatch) *terms {
	prop := r.constProperty
	metric := sqlf.New("CASE WHEN {name} = '"+event.Metric+"' THEN lower(?) END", prop("$ai_metric_value"))
	feedback := sqlf.New("coalesce(lower(?), CASE WHEN ? IN ("+positiveWords+", "+negativeWords+", 'neutral') THEN ? END)", prop("user_feedback"), metric, metric)
	task := sqlf.New("{name} = 'llm_task_completed'")
	events := *r
	events.facts = false
	t := &terms{
		Reader: r, latencyOf: latencyOf,
		task: task, completed: task.Andf("coalesce(lower(?), 'true') <> 'false'", prop("task_completed")),
		rated: r.sql.oneOf(feedback, positiveWords+", "+negativeWords+", 'neutral'"), negative: r.sql.oneOf(feedback, negativeWords),
		retries: r.sql.number(prop("retry_count")),
		passed:  sqlf.New("lower(coalesce(?, ?))", prop("eval_passed"), prop("$ai_evaluation_result")), eval: r.evalName(),
		score: sqlf.New("coalesce(?, ?, ?)", r.sql.number(prop("eval_score")), r.sql.number(prop("$ai_score")), r.sql.number(metric)),
		again: events.retriesExpr(),
	}
	t.hit, t.known = r.match(e)
	t.number = r.number(e)
	return t
}

// measure is how a measure is computed.
func (t *terms) measure(name Measure) (measure, error) {
	for i := range measures {
		if measures[i].Measure == name {
			return measures[i].sql(t), nil
		}
	}
	return measure{}, event.Invalid("unknown measure", "see the list of measures in the documentation")
}

// evalName is what a judgment is called, in hedgerow's words or PostHog's; NULL
// for outcomes that are none.
func (r *Reader) evalName() sqlf.Fragment {
	return sqlf.New("coalesce(?, ?, ?)", r.constProperty("eval_name"), r.constProperty("$ai_metric_name"), r.constProperty("$ai_evaluation_name"))
}

// yesNo are the conditions that a text says yes, and that it says either, from
// booleans and from the strings that posthog-js makes of them.
func yesNo(text sqlf.Fragment) (yes, known sqlf.Fragment) {
	return sqlf.New("? = 'true'", text), sqlf.New("? IN ('true', 'false')", text)
}

// saysYes is yesNo of a property.
func (r *Reader) saysYes(name string) (yes, known sqlf.Fragment) {
	return yesNo(sqlf.New("lower(?)", r.constProperty(name)))
}

func isKnown(expr sqlf.Fragment) sqlf.Fragment { return sqlf.New("? IS NOT NULL", expr) }

func above0(expr sqlf.Fragment) sqlf.Fragment { return sqlf.New("? > 0", expr) }

// when is an expression where a condition is true, else NULL. An empty one is true.
func when(cond, expr sqlf.Fragment) sqlf.Fragment {
	if cond.IsZero() {
		return expr
	}
	return sqlf.New("CASE WHEN ? THEN ? END", cond, expr)
}

func total(expr sqlf.Fragment) sqlf.Fragment { return sqlf.New("sum(?)", expr) }

// one is a measure that is a number made of sums.
func one(k kind, from string, sums ...sqlf.Fragment) measure {
	return measure{kind: k, sums: sums, from: float(sqlf.Raw(from)).String()}
}

// all counts all events.
func all(k kind) measure { return one(k, "?", allRows) }

// failures counts those that failed.
func failures(k kind) measure {
	m := one(k, "coalesce(?, 0)", failedRows).only(sqlf.Column("is_error"))
	m.failures = true
	return m
}

// failureRate is the share of those that failed.
func failureRate(k kind) measure {
	m := failures(k)
	r := one(k, "coalesce(?, 0) / nullif(?, 0)", failedRows, allRows)
	m.sums, m.from = r.sums, r.from
	m.y, m.n = sqlf.New("CASE WHEN {is_error} THEN 1 ELSE 0 END"), sqlf.Raw("1")
	return m
}

// count counts the events of a condition.
func count(k kind, cond sqlf.Fragment) measure {
	m := one(k, "coalesce(?, 0)", countOf(cond))
	m.among, m.y = cond, when(cond, sqlf.Raw("1"))
	return m
}

// rate is how often a condition is true among the outcomes of another. Those in
// which it is true are the examples.
func (t *terms) rate(yes, among sqlf.Fragment) measure {
	m := one(ofOutcomes, ratio, countOf(yes), countOf(among))
	m.among, m.shown = among, yes
	m.y, m.n = shareOf(yes, among)
	return m
}

// success is a rate of something good: all are examples, those in which it is not
// true first.
func (t *terms) success(yes, among sqlf.Fragment) measure {
	return t.rate(yes, among).only(sqlf.Fragment{}).by(sqlf.New("CASE WHEN NOT coalesce(?, false) THEN 1 ELSE 0 END", yes))
}

// mean is the mean of a value of outcomes.
func (t *terms) mean(value sqlf.Fragment) measure {
	m := one(ofOutcomes, ratio, total(value), sqlf.New("count(?)", value))
	m.among, m.order = isKnown(value), value
	m.y, m.n = meanOf(value, m.among)
	return m
}

// sum is the sum of a column of its source, which is a value of events.
func sum(k kind, column string, value sqlf.Fragment) measure {
	m := one(k, "?", total(sqlf.Column(column)))
	m.among, m.order, m.y = isKnown(value), value, float(value)
	return m
}

// sumOfCalls is the sum of a column of calls.
func sumOfCalls(name string) measure { return sum(ofCalls, name, sqlf.Column(name)) }

// divided is the ratio of the sums of two columns of the source of calls.
func divided(a, b string) measure {
	return measure{kind: ofCalls, sums: []sqlf.Fragment{total(sqlf.Column(a)), total(sqlf.Column(b))}, from: float(sqlf.Raw("?")).String() + " / nullif(?, 0)"}
}

// perCall is the mean of a column of calls, over the calls that another counts.
func perCall(name, calls string) measure {
	m, value := divided(name, calls), sqlf.Column(name)
	m.among, m.order = isKnown(value), value
	m.y, m.n = meanOf(value, m.among)
	return m
}

func cacheShare() measure {
	m := divided("cached_input", "all_input")
	m.among = sqlf.New("{input_tokens} IS NOT NULL AND {cache_read_tokens} IS NOT NULL")
	m.y, m.n = sqlf.Column("cache_read_tokens"), inputExpr
	return m
}

// duration is one of which roll-ups have the times.
type duration struct {
	kind         kind
	what, column string
}

var (
	latencyTimes = duration{ofCalls, "latency", "latency_us"}
	ttftTimes    = duration{ofCalls, "ttft", "ttft_us"}
	toolTimes    = duration{ofTools, "tool", "latency_us"}
)

// times is one of the quantiles of a duration.
func (t *terms) times(d duration, pick int) measure {
	value := sqlf.Column(d.column)
	m := measure{kind: d.kind, what: d.what, pick: pick, among: isKnown(value), order: value}
	if d.kind == ofCalls {
		m.among = m.among.And(t.latencyOf.cond())
	}
	m.expr = sqlf.New(t.sql.quantiles, value, m.among)
	m.y, m.n = meanOf(sqlf.New("? / 1000.0", value), m.among)
	return m
}

// shareOf is what an event adds to a rate.
func shareOf(yes, among sqlf.Fragment) (y, n sqlf.Fragment) {
	return when(among, sqlf.New("CASE WHEN ? THEN 1 ELSE 0 END", yes)), when(among, sqlf.Raw("1"))
}

// meanOf is what an event adds to a mean.
func meanOf(value, among sqlf.Fragment) (y, n sqlf.Fragment) {
	return when(among, float(value)), when(among, sqlf.Raw("1"))
}

// The measures of events that an application names are computed of the columns of
// namedSource and unitSource.

func ownCount(t *terms) measure {
	m := count(ofEvents, sqlf.Column("hit"))
	m.among, m.y = t.hit, sqlf.Fragment{}
	return m
}

func ownShare(t *terms) measure {
	m := one(ofEvents, ratio, countOf(sqlf.Column("hit")), countOf(sqlf.Column("known")))
	m.among, m.shown = t.known, t.hit
	return m
}

func ownMean(t *terms) measure {
	m := one(ofEvents, ratio, total(sqlf.Column("number")), sqlf.New("count({number})"))
	m.among = sqlf.New("(?) IS NOT NULL", t.number)
	m.y, m.n = meanOf(t.number, m.among)
	return m
}

// units is the share of traces or users that have an event.
func units(k kind, column string) measure {
	hit := float(sqlf.New("count(DISTINCT {unit}) FILTER (WHERE {hit})"))
	return measure{kind: k, expr: sqlf.New("? / nullif(count(DISTINCT {unit}), 0)", hit), unit: column, shown: sqlf.Column("hit")}
}

// The values used for thumbs, as package posthog reads them.
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

// inherited are the columns of its call that a question about an outcome
// checks. What it does not check need not be read.
func inherited(f *Filter, by GroupBy) []string {
	var out []string
	for _, c := range []struct {
		needed bool
		names  []string
	}{
		{f.PromptName != "" || f.PromptVersion != "" || f.names("prompt") || f.names("prompt_version") || by == ByPrompt || by == ByPromptName, []string{"prompt_name", "prompt_version", "prompt_version_id"}},
		{f.Provider != "" || f.names("provider") || by == ByProvider, []string{"provider"}},
		{f.Model != "" || f.ModelAsked != "" || f.names("model") || f.names("requested_model") || by == ByModel || by == ByModelAsked, []string{"model", "model_asked"}},
		{f.Operation != "" || f.names("operation") || by == ByOperation, []string{"operation"}},
		{f.Environment != "" || f.names("env") || by == ByEnvironment, []string{"environment"}},
		{f.Surface != "" || f.names("surface") || by == BySurface, []string{"surface"}},
		{f.TaskType != "" || f.names("task") || by == ByTaskType, []string{"task_type"}},
		{f.User != "" || f.names("user") || by == ByUser, []string{"distinct_id"}},
		{f.SessionID != "" || f.names("session"), []string{"session_id"}},
		{f.InputLength != "" || f.names("input_length") || by == ByInputLength, []string{"input_length_bucket"}},
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
		return r.toolExpr()
	case ofSteps:
		return isKnown(r.retriesExpr())
	}
	return sqlf.Fragment{}
}

// toolExpr selects tool calls: what names its tool, and spans whose type
// (OpenTelemetry, PostHog's SDKs) or operation says so.
func (r *Reader) toolExpr() sqlf.Fragment {
	const span = "{name} = '" + event.Span + "'"
	return sqlf.New("("+span+" AND (coalesce(lower(?), '') = 'tool' OR coalesce({operation}, '') = 'execute_tool') OR ("+span+" OR ?) AND coalesce(?, '') <> '')",
		r.constProperty("$ai_span_type"), callExpr, r.constProperty(ToolName))
}

// retriesExpr is how often a step of an agent was tried again, as an event says
// that names the step; NULL for others.
func (r *Reader) retriesExpr() sqlf.Fragment {
	return sqlf.New("CASE WHEN contains({properties}, '"+AgentStep+"') AND ? <> '' THEN ? END", r.constProperty(AgentStep), r.sql.number(r.constProperty("retry_count")))
}
