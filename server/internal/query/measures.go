package query

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

// Info is what there is to know of a measure beside how it is computed.
type Info struct {
	Measure Measure
	Label   string // for headings: "Latency p95"
	Unit    Unit
	Better  Direction
	// Phrase is the name within a sentence of an experiment's report: "p95 latency".
	// Measures without one are none of an experiment's: only those that are a ratio of
	// two sums or a quantile have an interval.
	Phrase   string
	Quantile float64 // the level of the quantile that it is; 0: none
	Zero     bool    // it is 0 where nothing happened, else unknown
}

// infos are all measures, those of experiments first.
var infos = []Info{
	{CompletionRate, "Completion rate", UnitShare, Higher, "task completion rate", 0, false},
	{EscalationRate, "Escalated", UnitShare, Lower, "escalation rate", 0, false},
	{NegativeRate, "Negative feedback", UnitShare, Lower, "negative feedback rate", 0, false},
	{AcceptanceRate, "Accepted", UnitShare, Higher, "acceptance rate", 0, false},
	{EditRate, "Edited", UnitShare, Lower, "edit rate", 0, false},
	{RetryRate, "Retried", UnitShare, Lower, "retry rate", 0, false},
	{EvalPassRate, "Evals passed", UnitShare, Higher, "evaluation pass rate", 0, false},
	{EvalScore, "Eval score", UnitScore, Higher, "evaluation score", 0, false},
	{ErrorRate, "Error rate", UnitShare, Lower, "error rate", 0, false},
	{CostPerTask, "Cost per completed task", UnitUSD, Lower, "cost per completed task", 0, false},
	{CostPerCall, "Cost per call", UnitUSD, Lower, "cost per call", 0, false},
	{LatencyP50, "Latency p50", UnitMillis, Lower, "median latency", 0.5, false},
	{LatencyP95, "Latency p95", UnitMillis, Lower, "p95 latency", 0.95, false},
	{LatencyP99, "Latency p99", UnitMillis, Lower, "p99 latency", 0.99, false},
	{TTFTP50, "First token p50", UnitMillis, Lower, "median time to first token", 0.5, false},
	{TTFTP95, "First token p95", UnitMillis, Lower, "p95 time to first token", 0.95, false},
	{TTFTP99, "First token p99", UnitMillis, Lower, "p99 time to first token", 0.99, false},

	{Calls, "Calls", UnitCount, Neither, "", 0, true},
	{Errors, "Errors", UnitCount, Lower, "", 0, true},
	{Users, "Users", UnitCount, Neither, "", 0, true},
	{TokensIn, "Input", UnitTokens, Neither, "", 0, false},
	{TokensOut, "Output", UnitTokens, Neither, "", 0, false},
	{TokensTotal, "Tokens", UnitTokens, Neither, "", 0, false},
	{TokensCached, "Cache read", UnitTokens, Neither, "", 0, false},
	{TokensCacheNew, "Cache write", UnitTokens, Neither, "", 0, false},
	{TokensReasoning, "Reasoning", UnitTokens, Neither, "", 0, false},
	{CostUSD, "Cost", UnitUSD, Lower, "", 0, false},
	{CacheShare, "Cache hits", UnitShare, Higher, "", 0, false},
	{CacheSaved, "Cache saved", UnitUSD, Higher, "", 0, false},
	{Tasks, "Tasks", UnitCount, Neither, "", 0, true},
	{TasksCompleted, "Completed", UnitCount, Higher, "", 0, true},
	{Rated, "Ratings", UnitCount, Neither, "", 0, true},
	{Negative, "Negative", UnitCount, Lower, "", 0, true},
	{Evals, "Evaluations", UnitCount, Neither, "", 0, false},
	{EventCount, "Events", UnitCount, Neither, "", 0, true},
	{EventShare, "Share of the events", UnitShare, Neither, "", 0, false},
	{EventMean, "Mean of the property", UnitScore, Neither, "", 0, false},
	{EventTraceRate, "Share of traces with the event", UnitShare, Neither, "", 0, false},
	{EventUserRate, "Share of users with the event", UnitShare, Neither, "", 0, false},
	{ToolCalls, "Tool calls", UnitCount, Neither, "", 0, true},
	{ToolErrors, "Failures", UnitCount, Lower, "", 0, true},
	{ToolErrorRate, "Failure rate", UnitShare, Lower, "", 0, false},
	{ToolP95, "Tool latency p95", UnitMillis, Lower, "", 0.95, false},
	{Retries, "Retries", UnitCount, Lower, "", 0, false},
}

var infoOf = func() map[Measure]Info {
	out := make(map[Measure]Info, len(infos))
	for _, i := range infos {
		out[i.Measure] = i
	}
	return out
}()

// Info tells what there is to know of a measure; nothing of one that there is not.
func (m Measure) Info() Info { return infoOf[m] }

// ExperimentMeasures are the measures that a [Metric] can be.
func ExperimentMeasures() (out []Measure) {
	for _, i := range infos {
		if i.Phrase != "" {
			out = append(out, i.Measure)
		}
	}
	return out
}

// Measures are all measures.
func Measures() []Measure {
	out := make([]Measure, len(infos))
	for i, x := range infos {
		out[i] = x.Measure
	}
	return out
}
