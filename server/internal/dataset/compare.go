package dataset

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/eval"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/stats"
)

// Comparison is two runs side by side. The differences are B − A of the same
// examples. An error of 5 % is shared evenly by the compared figures: Level is that
// of the interval of each, so that the chance of a difference without cause is at
// most 5 % over all of them together.
type Comparison struct {
	A       Run        `json:"a"`
	B       Run        `json:"b"`
	SumA    Summary    `json:"summary_a"`
	SumB    Summary    `json:"summary_b"`
	Figures int        `json:"figures"` // compared: error rate, latency, cost, and the pass rate and score of each check
	Level   float64    `json:"level"`   // 1 − 0.05 / Figures
	Errors  Difference `json:"error_rate_difference"`
	Latency Difference `json:"latency_difference"`
	Cost    Difference `json:"cost_difference"` // of one example
	Evals   []EvalSum  `json:"evals"`
	Pairs   []Pair     `json:"pairs"` // in the order of the dataset; deleted examples come last
}

// Summary is a run's result over the examples that both runs have answered: only
// these can be compared.
type Summary struct {
	Answers   int                        `json:"answers"`
	Errors    int                        `json:"errors"`
	LatencyMS event.Opt[float64]         `json:"mean_latency_ms"`
	CostUSD   event.Opt[decimal.Decimal] `json:"cost_usd"` // of the calls with a known cost
	Tokens    event.Int                  `json:"output_tokens"`
}

// EvalSum is how both runs did at one check, over the examples that it judged in
// both.
type EvalSum struct {
	Name     string             `json:"eval_name"`
	Examples int                `json:"examples"`
	PassA    event.Opt[float64] `json:"pass_rate_a"`
	PassB    event.Opt[float64] `json:"pass_rate_b"`
	ScoreA   event.Opt[float64] `json:"score_a"`
	ScoreB   event.Opt[float64] `json:"score_b"`
	Better   int                `json:"better"` // examples that fail in A and pass in B
	Worse    int                `json:"worse"`
	Pass     *Difference        `json:"pass_rate_difference,omitempty"` // nil if the check says neither passed nor failed
	Score    *Difference        `json:"score_difference,omitempty"`     // nil if it gives no scores
}

// Tally is what one check said of a run's answers.
type Tally struct {
	Name string `json:"eval_name"`
	eval.PassRate
	Scored int                `json:"scored"`         // results with a score
	Score  event.Opt[float64] `json:"score,omitzero"` // their mean
}

// Tallies sums up the results of a run by check, in the order in which the checks
// come up. The pass rate of each has an interval of 95 %.
func Tallies(results []Result) []Tally {
	type counts struct {
		passed, judged int
		score          mean
	}
	at := make(map[string]*counts)
	out := []Tally{}
	for i := range results {
		for _, e := range results[i].Evals {
			c := at[e.Name]
			if c == nil {
				c = new(counts)
				at[e.Name] = c
				out = append(out, Tally{Name: e.Name})
			}
			if e.Passed.Known {
				c.judged++
				if e.Passed.Value {
					c.passed++
				}
			}
			if e.Score.Known {
				c.score.add(e.Score.Value)
			}
		}
	}
	for i := range out {
		c := at[out[i].Name]
		out[i].PassRate = eval.RateOf(c.passed, c.judged, 1-stats.DefaultAlpha)
		out[i].Scored, out[i].Score = c.score.n, c.score.value()
	}
	return out
}

// Pair is one example with both results; nil where a run has none.
type Pair struct {
	Example Example `json:"example"`
	A       *Result `json:"a"`
	B       *Result `json:"b"`
	Same    bool    `json:"same"` // both answered with the same text
}

// Compare compares two runs of one dataset.
func (r *Registry) Compare(ctx context.Context, projectID, a, b string) (*Comparison, error) {
	c := new(Comparison)
	var err error
	if c.A, err = r.Run(projectID, a); err != nil {
		return nil, err
	}
	if c.B, err = r.Run(projectID, b); err != nil {
		return nil, err
	}
	if c.A.SetID != c.B.SetID {
		return nil, event.Invalid("the runs belong to different datasets", "choose two runs of the same dataset")
	}
	examples, err := r.Examples(ctx, projectID, c.A.SetID)
	if err != nil {
		return nil, err
	}
	ra, err := r.Results(ctx, projectID, c.A.ID)
	if err != nil {
		return nil, err
	}
	rb, err := r.Results(ctx, projectID, c.B.ID)
	if err != nil {
		return nil, err
	}
	c.fill(examples, byExample(ra), byExample(rb))
	return c, nil
}

func byExample(list []Result) map[string]*Result {
	out := make(map[string]*Result, len(list))
	for i := range list {
		out[list[i].ExampleID] = &list[i]
	}
	return out
}

func (c *Comparison) fill(examples []Example, a, b map[string]*Result) {
	known := make(map[string]bool, len(examples))
	for _, x := range examples {
		known[x.ID] = true
	}
	gone := make(map[string]bool)
	for id := range a {
		gone[id] = !known[id]
	}
	for id := range b {
		gone[id] = !known[id]
	}
	for _, id := range slices.Sorted(maps.Keys(gone)) {
		if gone[id] {
			examples = append(examples, Example{ID: id})
		}
	}
	var sa, sb sums
	var of compared
	evals := make(map[string]*evalSums)
	c.Pairs = []Pair{}
	for _, x := range examples {
		p := Pair{Example: x, A: a[x.ID], B: b[x.ID]}
		if p.A == nil && p.B == nil {
			continue
		}
		if p.A != nil && p.B != nil {
			p.Same = p.A.Error == "" && p.B.Error == "" && p.A.Output == p.B.Output
			sa.add(p.A)
			sb.add(p.B)
			of.add(p.A, p.B)
			both(evals, p.A, p.B)
		}
		c.Pairs = append(c.Pairs, p)
	}
	c.SumA, c.SumB = sa.summary(), sb.summary()
	c.Figures = 3
	for _, e := range evals {
		c.Figures += min(1, e.passA.n) + min(1, e.scoreA.n)
	}
	c.Level = 1 - stats.DefaultAlpha/float64(c.Figures)
	c.Errors = pairedRate(of.failB, of.failA, sa.Answers, c.Level)
	c.Latency, c.Cost = pairedMean(of.latency, query.UnitMillis, c.Level), pairedMean(of.cost, query.UnitUSD, c.Level)
	c.Evals = []EvalSum{}
	for _, name := range slices.SortedFunc(maps.Keys(evals), func(x, y string) int { return strings.Compare(strings.ToLower(x), strings.ToLower(y)) }) {
		c.Evals = append(c.Evals, evals[name].sum(name, c.Level))
	}
}

type mean struct {
	sum float64
	n   int
}

func (m *mean) add(v float64) { m.sum, m.n = m.sum+v, m.n+1 }

func (m *mean) value() event.Opt[float64] {
	if m.n == 0 {
		return event.Opt[float64]{}
	}
	return event.Some(m.sum / float64(m.n))
}

type sums struct {
	Summary
	latency mean
}

func (s *sums) add(r *Result) {
	s.Answers++
	if r.Error != "" {
		s.Errors++
	}
	if r.LatencyMS.Known {
		s.latency.add(r.LatencyMS.Value)
	}
	if r.CostUSD.Known {
		s.CostUSD = event.Some(s.CostUSD.Value.Add(r.CostUSD.Value))
	}
	if r.OutputTokens.Known {
		s.Tokens = event.Some(s.Tokens.Value + r.OutputTokens.Value)
	}
}

func (s *sums) summary() Summary {
	s.LatencyMS = s.latency.value()
	return s.Summary
}

// compared is how the figures of the same examples differ.
type compared struct {
	failA, failB  int // that fail in this run only
	latency, cost []float64
}

func (c *compared) add(a, b *Result) {
	switch {
	case a.Error != "" && b.Error == "":
		c.failA++
	case a.Error == "" && b.Error != "":
		c.failB++
	}
	if a.LatencyMS.Known && b.LatencyMS.Known {
		c.latency = append(c.latency, b.LatencyMS.Value-a.LatencyMS.Value)
	}
	if a.CostUSD.Known && b.CostUSD.Known {
		c.cost = append(c.cost, b.CostUSD.Value.Sub(a.CostUSD.Value).InexactFloat64())
	}
}

type evalSums struct {
	EvalSum
	passA, passB, scoreA, scoreB mean
	scores                       []float64 // B − A
}

func both(evals map[string]*evalSums, a, b *Result) {
	for _, ea := range a.Evals {
		i := slices.IndexFunc(b.Evals, func(e evalResult) bool { return e.Name == ea.Name })
		if i < 0 {
			continue
		}
		eb := b.Evals[i]
		s := evals[ea.Name]
		if s == nil {
			s = new(evalSums)
			evals[ea.Name] = s
		}
		s.Examples++
		if ea.Passed.Known && eb.Passed.Known {
			s.passA.add(one(ea.Passed.Value))
			s.passB.add(one(eb.Passed.Value))
			switch {
			case !ea.Passed.Value && eb.Passed.Value:
				s.Better++
			case ea.Passed.Value && !eb.Passed.Value:
				s.Worse++
			}
		}
		if ea.Score.Known && eb.Score.Known {
			s.scoreA.add(ea.Score.Value)
			s.scoreB.add(eb.Score.Value)
			s.scores = append(s.scores, eb.Score.Value-ea.Score.Value)
		}
	}
}

func one(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

func (s *evalSums) sum(name string, level float64) EvalSum {
	s.Name = name
	s.PassA, s.PassB, s.ScoreA, s.ScoreB = s.passA.value(), s.passB.value(), s.scoreA.value(), s.scoreB.value()
	if s.passA.n > 0 {
		d := pairedRate(s.Better, s.Worse, s.passA.n, level)
		s.Pass = &d
	}
	if len(s.scores) > 0 {
		d := pairedMean(s.scores, query.UnitScore, level)
		s.Score = &d
	}
	return s.EvalSum
}
