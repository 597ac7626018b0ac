package experiment_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/hedgerow/hedgerow/server/internal/experiment"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

// visitor is a user of an experiment without a difference, some of whose calls
// in the treatment fall back to the control.
type visitor struct {
	calls   []int // the variant of each, 0 or 1
	success float64
}

// first is the variant of the first call; mixed whether others came.
func (v visitor) first() int { return v.calls[0] }

func (v visitor) mixed() bool {
	for _, c := range v.calls {
		if c != v.calls[0] {
			return true
		}
	}
	return false
}

// visit makes a visitor. The more calls users make, the less often they succeed:
// they ask again. The variant makes no difference.
func visit(rng *rand.Rand, fallback float64) (v visitor) {
	assigned, n := rng.IntN(2), 1+int(rng.ExpFloat64()*8)
	v.calls = make([]int, n)
	for i := range v.calls {
		if v.calls[i] = assigned; rng.Float64() < fallback {
			v.calls[i] = 0
		}
	}
	for range n {
		v.success += chance(rng, math.Max(0.2, 0.8-0.03*float64(n)))
	}
	return v
}

// Calls of the treatment that fall back to the control, with the same outcomes
// in both: counting users for the variant that they saw first errs in at most
// alpha of the experiments that are looked at daily. Leaving out users who saw
// both finds a difference far more often, and is not believed then.
func TestFallbackWithoutDifference(t *testing.T) {
	t.Parallel()
	const experiments, days, users = 200, 20, 100
	d := seed()
	d.Guardrails, d.StopOnBreach = nil, false
	d = stored(t, d)
	without := d
	without.Exclude.Mixed = true
	for _, fallback := range []float64{0.01, 0.03} {
		rng := rand.New(rand.NewPCG(7, uint64(1000*fallback)))
		var byFirst, dropped, believed int
		for range experiments {
			var first, pure [2]query.Moments
			var mixed [2]int64
			var wrong, wrongWithout, won bool
			for day := 1; day <= days; day++ {
				for range users {
					v := visit(rng, fallback)
					a, n := v.first(), float64(len(v.calls))
					first[a].Add(v.success, n)
					if v.mixed() {
						mixed[a]++
					} else {
						pure[a].Add(v.success, n)
					}
				}
				look := func(d experiment.Definition, m [2]query.Moments) *experiment.Report {
					var x query.Experiment
					for i, key := range []string{"control", "treatment"} {
						c := cell(key, int64(m[i].Users), query.Figure{Moments: m[i]})
						c.Mixed = mixed[i]
						x.Cells = append(x.Cells, c)
					}
					r, err := experiment.Evaluate(t.Context(), &answer{x: x}, d, began.AddDate(0, 0, day))
					if err != nil {
						t.Fatal(err)
					}
					return r
				}
				wrong = wrong || look(d, first).Primary.Differences[0].Better != experiment.Unclear
				r := look(without, pure)
				wrongWithout = wrongWithout || r.Primary.Differences[0].Better != experiment.Unclear
				won = won || r.State == experiment.Winner
			}
			for _, c := range []struct {
				yes bool
				n   *int
			}{{wrong, &byFirst}, {wrongWithout, &dropped}, {won, &believed}} {
				if c.yes {
					*c.n++
				}
			}
		}
		t.Logf("fallback in %v of the calls: %d of %d experiments err by the first variant, %d without mixed users, of which %d name a winner", fallback, byFirst, experiments, dropped, believed)
		if float64(byFirst) > experiment.DefaultAlpha*experiments {
			t.Errorf("fallback in %v of the calls: by the first variant %d of %d experiments find a difference", fallback, byFirst, experiments)
		}
		if dropped <= 3*byFirst || float64(dropped) < 0.05*experiments {
			t.Errorf("fallback in %v of the calls: without mixed users only %d of %d err: the simulation shows nothing", fallback, dropped, experiments)
		}
		if float64(believed) > experiment.DefaultAlpha*experiments {
			t.Errorf("fallback in %v of the calls: without mixed users %d of %d name a winner", fallback, believed, experiments)
		}
	}
}
