package experiment_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/server/internal/experiment"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/stats"
)

// full is what "make stats" runs; without it a short form runs.
var full = os.Getenv("HEDGEROW_STATS") != ""

// atLimit is a guardrail whose figure is exactly at its limit.
type atLimit struct {
	name     string
	measure  query.Measure
	better   string
	limit    float64
	relative bool
	long     bool // 400 days, in place of 56; of 60 users each
	user     func(rng *rand.Rand) float64
}

func lognormal(sigma float64) func(*rand.Rand) float64 {
	return func(rng *rand.Rand) float64 { return 0.02 * math.Exp(sigma*rng.NormFloat64()-sigma*sigma/2) } // 0.02 on average
}

func guardsAtLimit() []atLimit {
	escalated := func(rng *rand.Rand) float64 { return chance(rng, 0.05) }
	latency := func(rng *rand.Rand) float64 { return 1500 * math.Exp(0.7*rng.NormFloat64()) }
	p95 := 1500 * math.Exp(0.7*1.6448536)
	return []atLimit{
		{name: "rate 5 %", measure: query.EscalationRate, limit: 0.05, user: escalated},
		{name: "rate 98 %", measure: query.CompletionRate, better: experiment.Up, limit: 0.98, user: func(rng *rand.Rand) float64 { return chance(rng, 0.98) }},
		{name: "p95", measure: query.LatencyP95, limit: p95, user: latency},
		{name: "cost, exponential", measure: query.CostPerTask, limit: 0.02, user: func(rng *rand.Rand) float64 { return 0.02 * rng.ExpFloat64() }},
		{name: "cost, σ = 1", measure: query.CostPerTask, limit: 0.02, user: lognormal(1)},
		{name: "cost, σ = 2", measure: query.CostPerTask, limit: 0.02, user: lognormal(2)},
		{name: "cost, σ = 2, longer", measure: query.CostPerTask, limit: 0.02, long: true, user: lognormal(2)},
		{name: "rate, difference", measure: query.EscalationRate, relative: true, user: escalated},
		{name: "p95, difference", measure: query.LatencyP95, relative: true, user: latency},
		{name: "cost, σ = 2, difference", measure: query.CostPerTask, relative: true, user: lognormal(2)},
	}
}

// guarded is a variant of a simulated experiment.
type guarded struct {
	all, cut query.Moments
	values   []float64 // in the order in which users came
	looks    []query.Look
}

// play looks at an experiment again and again and says whether its guardrail was ever broken, and ever
// ok.
func (a *atLimit) play(t *testing.T, rng *rand.Rand, d experiment.Definition, share float64) (broken, ok bool) {
	const users = 60
	var variants [2]guarded
	var limits stats.Scale
	quantile := d.Guardrails[0].Quantile() > 0
	days, every := 56, 2
	if a.long {
		days, every = 400, 8
	}
	for day := 1; day <= days && !(broken && ok); day++ {
		for range users {
			at := 0
			if rng.Float64() < share {
				at = 1
			}
			v, y := &variants[at], a.user(rng)
			v.all.Add(y, 1)
			if limits.Bounded() {
				v.cut.Add(min(y, limits.High), 1)
			}
			if quantile || !limits.Bounded() {
				v.values = append(v.values, y)
			}
		}
		if day%every != 0 {
			continue
		}
		now := began.AddDate(0, 0, day)
		if enough := min(variants[0].all.Users, variants[1].all.Users) >= float64(d.MinUsers); d.Guardrails[0].Amount() && enough && !limits.Bounded() {
			all := slices.Concat(variants[0].values, variants[1].values)
			slices.Sort(all)
			limits.High = all[int(0.95*float64(len(all)-1))]
			for i := range variants {
				for _, y := range variants[i].values {
					variants[i].cut.Add(min(y, limits.High), 1)
				}
			}
		}
		var x query.Experiment
		for i, key := range []string{"control", "treatment"} {
			v := &variants[i]
			if v.all.Users == 0 {
				continue
			}
			f := query.Figure{Moments: v.all, Trimmed: v.cut, Limits: limits}
			switch {
			case quantile:
				slices.Sort(v.values)
				f = ninetyFifth(v.values)
			case a.relative:
				v.looks = append(v.looks, query.Look{At: now, Moments: v.all, Trimmed: v.cut})
				f.Looks = v.looks
			}
			x.Cells = append(x.Cells, cell(key, int64(v.all.Users), shares(math.Round(v.all.Users/2), v.all.Users), f))
		}
		r, err := experiment.Evaluate(t.Context(), &answer{x: x}, d, now)
		if err != nil {
			t.Fatal(err)
		}
		status := r.Guardrails[0].Checks[0].Status
		broken, ok = broken || status == experiment.GuardBroken, ok || status == experiment.GuardOK
	}
	return broken, ok
}

// A guardrail exactly at its limit is neither called broken nor called ok, at any look:
// each is one side of a 95 % interval. Earlier, costs with σ = 2 were called
// ok in 39 %.
func TestSimulatedGuardrails(t *testing.T) {
	splits, experiments := []float64{0.5, 0.1, 0.05}, 400
	if !full {
		splits, experiments = splits[1:2], 10
	}
	most := experiment.DefaultAlpha/2 + 3*math.Sqrt(experiment.DefaultAlpha/2*(1-experiment.DefaultAlpha/2)/float64(experiments))
	guards := guardsAtLimit()
	rows := make([]string, len(guards))
	t.Run("limit", func(t *testing.T) {
		for i, a := range guards {
			t.Run(a.name, func(t *testing.T) {
				t.Parallel()
				if !full && a.long {
					t.Skip("a long one: make stats")
				}
				d := seed()
				g := experiment.Guardrail{Metric: experiment.Metric{Metric: query.Metric{Measure: a.measure}, Better: a.better}, Limit: a.limit, Relative: a.relative}
				d.Guardrails = []experiment.Guardrail{g}
				d = stored(t, d)
				row := fmt.Sprintf("\n%-24s", a.name)
				for j, share := range splits {
					broken, ok := 0, 0
					for k := range experiments {
						b, o := a.play(t, rand.New(rand.NewPCG(uint64(100*i+j), uint64(k))), d, share)
						broken, ok = broken+int(count(b)), ok+int(count(o))
					}
					row += fmt.Sprintf(" %8.1f %8.1f", 100*float64(broken)/float64(experiments), 100*float64(ok)/float64(experiments))
					if float64(max(broken, ok)) > most*float64(experiments) {
						t.Errorf("split %v: of %d experiments with the figure at its limit %d break, %d are ok", share, experiments, broken, ok)
					}
				}
				rows[i] = row
			})
		}
	})
	head := ""
	for _, s := range splits {
		head += fmt.Sprintf(" %17s", fmt.Sprintf("%.0f/%.0f broken ok", 100-100*s, 100*s))
	}
	t.Logf("guardrails exactly at their limit: %% of %d experiments in which one is ever called broken, and ever ok (standard error %.1f at 2.5 %%)\n%-24s%s%s",
		experiments, 100*math.Sqrt(0.025*0.975/float64(experiments)), "", head, strings.Join(rows, ""))
}

func count(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
