package query

import (
	"strings"

	"github.com/hedgerow/hedgerow/server/internal/query/sqlf"
)

// Unit is what a measure is written in.
type Unit string

// The units of measures.
const (
	UnitCount  Unit = ""
	UnitMillis Unit = "ms"
	UnitUSD    Unit = "usd"
	UnitShare  Unit = "rate" // 0 to 1
	UnitTokens Unit = "tok"
	UnitScore  Unit = "score" // a plain number
)

// Direction says which figures of a measure are good.
type Direction int

// The directions.
const (
	Neither Direction = iota // traffic: more is not better
	Higher
	Lower
)

// Info is what there is to know of a measure next to how it is computed.
type Info struct {
	Measure Measure
	Label   string // for headings: "Latency p95"
	Unit    Unit
	Better  Direction
	Meaning string // its definition, in a sentence or two, the same on pages, in MCP tools and in docs/metrics.md
	// Phrase is the name within a sentence of an experiment's report: "p95 latency".
	// Measures without one are none of an experiment's: only those that are a ratio of
	// two sums or a quantile have an interval.
	Phrase   string
	Quantile float64 // the level of the quantile that it is; 0: none
	Zero     bool    // it is 0 where nothing happened, else unknown

	Noun  string    // what its [Examples] are: "failed calls"
	Order string    // in which order they come; "": the newest first
	List  EventSort // the order of the list of events that is nearest to it
}

// ofCompleted ends the meaning of latencies.
const ofCompleted = "Calls that did not fail, unless failed or all calls are chosen."

// measures has one row for each measure: what there is to know of it, and its SQL,
// of which charts, experiments and lists of examples are made. Those of experiments
// come first.
var measures = []struct {
	Info
	sql func(*terms) measure
}{
	{Info{Measure: CompletionRate, Label: "Completion rate", Unit: UnitShare, Better: Higher, Phrase: "task completion rate", Noun: "tasks", Order: "not completed first",
		Meaning: "Completed tasks divided by tasks."},
		func(t *terms) measure { return t.success(t.completed, t.task) }},
	{Info{Measure: EscalationRate, Label: "Escalation rate", Unit: UnitShare, Better: Lower, Phrase: "escalation rate", Noun: "escalated outcomes",
		Meaning: "Outcomes whose escalated_to_human is true, divided by those in which it is true or false."},
		func(t *terms) measure { return t.rate(t.saysYes("escalated_to_human")) }},
	{Info{Measure: NegativeRate, Label: "Negative feedback", Unit: UnitShare, Better: Lower, Phrase: "negative feedback rate", Noun: "negative ratings",
		Meaning: "Negative ratings divided by ratings."},
		func(t *terms) measure { return t.rate(t.negative, t.rated) }},
	{Info{Measure: AcceptanceRate, Label: "Acceptance rate", Unit: UnitShare, Better: Higher, Phrase: "acceptance rate", Noun: "outcomes", Order: "not accepted first",
		Meaning: "Outcomes whose accepted_output is true, divided by those in which it is true or false."},
		func(t *terms) measure { return t.success(t.saysYes("accepted_output")) }},
	{Info{Measure: EditRate, Label: "Edit rate", Unit: UnitShare, Better: Lower, Phrase: "edit rate", Noun: "edited outcomes",
		Meaning: "Outcomes whose edited_output is true, divided by those in which it is true or false."},
		func(t *terms) measure { return t.rate(t.saysYes("edited_output")) }},
	{Info{Measure: RetryRate, Label: "Retry rate", Unit: UnitShare, Better: Lower, Phrase: "retry rate", Noun: "retried outcomes", Order: "most retries first",
		Meaning: "Outcomes whose retry_count is above 0, divided by those with a retry_count."},
		func(t *terms) measure { return t.rate(above0(t.retries), isKnown(t.retries)).by(t.retries) }},
	{Info{Measure: EvalPassRate, Label: "Eval pass rate", Unit: UnitShare, Better: Higher, Phrase: "evaluation pass rate", Noun: "evaluations", Order: "failed first",
		Meaning: "Evaluations that passed, divided by those that passed or failed."},
		func(t *terms) measure { return t.success(yesNo(t.passed)) }},
	{Info{Measure: EvalScore, Label: "Eval score", Unit: UnitScore, Better: Higher, Phrase: "evaluation score", Noun: "scores", Order: "lowest first",
		Meaning: "The mean score of the outcomes that have one."},
		func(t *terms) measure { return t.mean(t.score).by(sqlf.New("-(?)", t.score)) }},
	{Info{Measure: ErrorRate, Label: "Error rate", Unit: UnitShare, Better: Lower, Phrase: "error rate", Noun: "failed calls",
		Meaning: "Failed calls divided by calls."},
		func(t *terms) measure { return failureRate(ofCalls) }},
	{Info{Measure: CostPerTask, Label: "Cost per completed task", Unit: UnitUSD, Better: Lower, Phrase: "cost per completed task", Noun: "calls with known cost", Order: "highest cost first", List: ByCost,
		Meaning: "The cost of the calls that count, failed attempts included, divided by the completed tasks that count: those of the filters, and in an experiment those of each variant's users."},
		func(t *terms) measure { return measure{parts: []Measure{CostUSD, TasksCompleted}} }},
	{Info{Measure: CostPerCall, Label: "Cost per call", Unit: UnitUSD, Better: Lower, Phrase: "cost per call", Noun: "calls with known cost", Order: "highest cost first", List: ByCost,
		Meaning: "The mean cost of the completely priced calls."},
		func(t *terms) measure { return perCall("cost_total", "costed") }},
	{Info{Measure: LatencyP50, Label: "Latency p50", Unit: UnitMillis, Better: Lower, Phrase: "median latency", Quantile: 0.5, Noun: "calls", Order: "slowest first", List: ByLatency,
		Meaning: "Half of the calls took no longer, from the request to the end of the response. " + ofCompleted},
		func(t *terms) measure { return t.times(latencyTimes, 0) }},
	{Info{Measure: LatencyP95, Label: "Latency p95", Unit: UnitMillis, Better: Lower, Phrase: "p95 latency", Quantile: 0.95, Noun: "calls", Order: "slowest first", List: ByLatency,
		Meaning: "95 % of the calls took no longer, from the request to the end of the response. " + ofCompleted},
		func(t *terms) measure { return t.times(latencyTimes, 1) }},
	{Info{Measure: LatencyP99, Label: "Latency p99", Unit: UnitMillis, Better: Lower, Phrase: "p99 latency", Quantile: 0.99, Noun: "calls", Order: "slowest first", List: ByLatency,
		Meaning: "99 % of the calls took no longer, from the request to the end of the response. " + ofCompleted},
		func(t *terms) measure { return t.times(latencyTimes, 2) }},
	{Info{Measure: TTFTP50, Label: "Time to first token p50", Unit: UnitMillis, Better: Lower, Phrase: "median time to first token", Quantile: 0.5, Noun: "calls", Order: "longest time to first token first", List: ByTTFT,
		Meaning: "Half of the streamed calls had their first token by then. " + ofCompleted},
		func(t *terms) measure { return t.times(ttftTimes, 0) }},
	{Info{Measure: TTFTP95, Label: "Time to first token p95", Unit: UnitMillis, Better: Lower, Phrase: "p95 time to first token", Quantile: 0.95, Noun: "calls", Order: "longest time to first token first", List: ByTTFT,
		Meaning: "95 % of the streamed calls had their first token by then. " + ofCompleted},
		func(t *terms) measure { return t.times(ttftTimes, 1) }},
	{Info{Measure: TTFTP99, Label: "Time to first token p99", Unit: UnitMillis, Better: Lower, Phrase: "p99 time to first token", Quantile: 0.99, Noun: "calls", Order: "longest time to first token first", List: ByTTFT,
		Meaning: "99 % of the streamed calls had their first token by then. " + ofCompleted},
		func(t *terms) measure { return t.times(ttftTimes, 2) }},

	{Info{Measure: Calls, Label: "Calls", Unit: UnitCount, Better: Neither, Zero: true, Noun: "calls",
		Meaning: "Generations, embeddings, and calls that applications report themselves, failed ones included. Spans and traces are not counted."},
		func(t *terms) measure { return all(ofCalls) }},
	{Info{Measure: Errors, Label: "Errors", Unit: UnitCount, Better: Lower, Zero: true, Noun: "failed calls",
		Meaning: "Calls that failed. Failed tools, steps and traces are not counted."},
		func(t *terms) measure { return failures(ofCalls) }},
	{Info{Measure: Users, Label: "Users", Unit: UnitCount, Better: Neither, Zero: true, Noun: "users, with one call each",
		Meaning: "Different distinct IDs with at least one call."},
		func(t *terms) measure {
			return measure{kind: ofUsers, expr: float(sqlf.New("count(DISTINCT {distinct_id})")), unit: "distinct_id"}
		}},
	{Info{Measure: TokensIn, Label: "Input", Unit: UnitTokens, Better: Neither, Noun: "calls", Order: "most input tokens first",
		Meaning: "Input tokens of all calls, those read from and written to a cache included."},
		func(t *terms) measure { return sum(ofCalls, "input_tokens", inputExpr) }},
	{Info{Measure: TokensOut, Label: "Output", Unit: UnitTokens, Better: Neither, Noun: "calls", Order: "most output tokens first",
		Meaning: "Output tokens of all calls, reasoning included."},
		func(t *terms) measure { return sumOfCalls("output_tokens") }},
	{Info{Measure: TokensTotal, Label: "Tokens", Unit: UnitTokens, Better: Neither, Noun: "calls", Order: "most tokens first", List: ByTokens,
		Meaning: "Input and output tokens of all calls. Calls without counts add nothing."},
		func(t *terms) measure { return sumOfCalls("tokens") }},
	{Info{Measure: TokensCached, Label: "Cache read", Unit: UnitTokens, Better: Neither, Noun: "calls", Order: "most cache read tokens first",
		Meaning: "Input tokens that were read from a cache. They are part of the input."},
		func(t *terms) measure { return sumOfCalls("cache_read_tokens") }},
	{Info{Measure: TokensCacheNew, Label: "Cache write", Unit: UnitTokens, Better: Neither, Noun: "calls", Order: "most cache write tokens first",
		Meaning: "Input tokens that were written to a cache. They are part of the input."},
		func(t *terms) measure { return sumOfCalls("cache_write_tokens") }},
	{Info{Measure: TokensReasoning, Label: "Reasoning", Unit: UnitTokens, Better: Neither, Noun: "calls", Order: "most reasoning tokens first",
		Meaning: "Output tokens that were spent on reasoning. They are part of the output."},
		func(t *terms) measure { return sumOfCalls("reasoning_tokens") }},
	{Info{Measure: CostUSD, Label: "Cost", Unit: UnitUSD, Better: Lower, Noun: "calls with known cost", Order: "highest cost first", List: ByCost,
		Meaning: "What all calls cost. Of an incompletely priced call, what is known of its cost: the sum is then \"at least\" that."},
		func(t *terms) measure { return sum(ofCalls, "cost_known", knownCost) }},
	{Info{Measure: IncompleteCalls, Label: "Incompletely priced calls", Unit: UnitCount, Better: Lower, Zero: true, Noun: "incompletely priced calls",
		Meaning: "Calls of which some cost is unknown: without a price, or without a count of tokens. Failed calls that are not known to have used anything are not counted."},
		func(t *terms) measure {
			m := one(ofCalls, "coalesce(?, 0)", total(sqlf.Column("incomplete")))
			m.among = incompleteExpr
			return m
		}},
	{Info{Measure: CacheShare, Label: "Cache hit rate", Unit: UnitShare, Better: Higher, Noun: "calls that report cache reads",
		Meaning: "Input tokens read from a cache, divided by all input tokens, over the calls that report cache reads."},
		func(t *terms) measure { return cacheShare() }},
	{Info{Measure: CacheSaved, Label: "Cache saved", Unit: UnitUSD, Better: Higher, Noun: "calls", Order: "largest savings first",
		Meaning: "What input read from a cache would have cost more as plain input. The cost of cache writes is not deducted."},
		func(t *terms) measure { return sumOfCalls("cost_cache_saved") }},
	{Info{Measure: Tasks, Label: "Tasks", Unit: UnitCount, Better: Neither, Zero: true, Noun: "tasks",
		Meaning: "Events llm_task_completed."},
		func(t *terms) measure { return count(ofOutcomes, t.task) }},
	{Info{Measure: TasksCompleted, Label: "Completed", Unit: UnitCount, Better: Higher, Zero: true, Noun: "completed tasks",
		Meaning: "Tasks whose task_completed is not false."},
		func(t *terms) measure { return count(ofOutcomes, t.completed) }},
	{Info{Measure: Rated, Label: "Ratings", Unit: UnitCount, Better: Neither, Zero: true, Noun: "ratings",
		Meaning: "Outcomes with positive, negative or neutral feedback."},
		func(t *terms) measure { return count(ofOutcomes, t.rated) }},
	{Info{Measure: Negative, Label: "Negative ratings", Unit: UnitCount, Better: Lower, Zero: true, Noun: "negative ratings",
		Meaning: "Ratings with negative feedback."},
		func(t *terms) measure { return count(ofOutcomes, t.negative).within(t.rated) }},
	{Info{Measure: Evals, Label: "Evaluations", Unit: UnitCount, Better: Neither, Noun: "evaluations",
		Meaning: "Outcomes that a check or a judge made: those with the name of an evaluation."},
		func(t *terms) measure { return count(ofOutcomes, isKnown(t.eval)) }},
	{Info{Measure: EvalsJudged, Label: "Pass/fail evaluations", Unit: UnitCount, Better: Neither, Noun: "evaluations that passed or failed",
		Meaning: "Evaluations that say whether the response passed."},
		func(t *terms) measure {
			_, known := yesNo(t.passed)
			return count(ofOutcomes, known)
		}},
	{Info{Measure: EventCount, Label: "Events", Unit: UnitCount, Better: Neither, Zero: true, Noun: "events",
		Meaning: "Your own events with the chosen name and value."},
		func(t *terms) measure { return ownCount(t) }},
	{Info{Measure: EventShare, Label: "Share of the events", Unit: UnitShare, Better: Neither, Noun: "matching events",
		Meaning: "Your own events with the chosen value, divided by those with the property."},
		func(t *terms) measure { return ownShare(t) }},
	{Info{Measure: EventMean, Label: "Mean of the property", Unit: UnitScore, Better: Neither, Noun: "events",
		Meaning: "The mean of the property over your own events."},
		func(t *terms) measure { return ownMean(t) }},
	{Info{Measure: EventTraceRate, Label: "Share of traces with the event", Unit: UnitShare, Better: Neither, Noun: "traces with the event",
		Meaning: "Traces with a matching event, divided by traces with a call."},
		func(t *terms) measure { return units(ofTraces, "trace_id") }},
	{Info{Measure: EventUserRate, Label: "Share of users with the event", Unit: UnitShare, Better: Neither, Noun: "users with the event",
		Meaning: "Users with a matching event, divided by users with a call."},
		func(t *terms) measure { return units(ofUserUnits, "distinct_id") }},
	{Info{Measure: ToolCalls, Label: "Tool calls", Unit: UnitCount, Better: Neither, Zero: true, Noun: "tool calls",
		Meaning: "Spans and calls that name a tool that was run."},
		func(t *terms) measure { return all(ofTools) }},
	{Info{Measure: ToolErrors, Label: "Failures", Unit: UnitCount, Better: Lower, Zero: true, Noun: "failed tool calls",
		Meaning: "Tool calls that failed."},
		func(t *terms) measure { return failures(ofTools) }},
	{Info{Measure: ToolErrorRate, Label: "Failure rate", Unit: UnitShare, Better: Lower, Noun: "failed tool calls",
		Meaning: "Failed tool calls divided by tool calls."},
		func(t *terms) measure { return failureRate(ofTools) }},
	{Info{Measure: ToolP95, Label: "Tool latency p95", Unit: UnitMillis, Better: Lower, Quantile: 0.95, Noun: "tool calls", Order: "slowest first", List: ByLatency,
		Meaning: "95 % of the tool calls took no longer."},
		func(t *terms) measure { return t.times(toolTimes, 1) }},
	{Info{Measure: Retries, Label: "Retries", Unit: UnitCount, Better: Lower, Noun: "retried steps", Order: "most retries first",
		Meaning: "The sum of retry_count over the events that name an agent's step."},
		func(t *terms) measure { return sum(ofSteps, "retries", t.again).only(above0(t.again)) }},
}

var infoOf = func() map[Measure]Info {
	out := make(map[Measure]Info, len(measures))
	for _, m := range measures {
		out[m.Measure] = m.Info
	}
	return out
}()

// Info reports what there is to know of a measure; nothing of one that there is
// not.
func (m Measure) Info() Info { return infoOf[m] }

// ExperimentMeasures are the measures that a [Metric] can be.
func ExperimentMeasures() (out []Measure) {
	for _, m := range measures {
		if m.Phrase != "" {
			out = append(out, m.Measure)
		}
	}
	return out
}

// Measures are all measures.
func Measures() []Measure {
	out := make([]Measure, len(measures))
	for i, m := range measures {
		out[i] = m.Measure
	}
	return out
}

// MeasuresHelp lists all measures with their definitions, for descriptions.
func MeasuresHelp() string {
	var out []string
	for _, m := range measures {
		out = append(out, string(m.Measure)+": "+m.Meaning)
	}
	return strings.Join(out, " ")
}
