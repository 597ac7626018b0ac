package dataset

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"gonum.org/v1/gonum/stat/distuv"

	"github.com/hedgerow/hedgerow/server/internal/query"
)

// TestTango holds published intervals and those with a closed form.
func TestTango(t *testing.T) {
	z := distuv.UnitNormal.Quantile(0.975)
	for name, c := range map[string]struct{ b, c, n, low, high float64 }{
		// Fagerland, Lydersen and Laake, Statistics in Medicine 33, 2014: airway
		// responsiveness before and after transplantation.
		"airway":  {1, 7, 21, -0.5172, -0.0260},
		"mirror":  {7, 1, 21, 0.0260, 0.5172},
		"same":    {0, 0, 20, -z * z / (20 + z*z), z * z / (20 + z*z)},
		"all one": {10, 0, 10, (10 - z*z) / (10 + z*z), 1},
	} {
		if low, high := tango(c.b, c.c, c.n, z); math.Abs(low-c.low) > 5e-5 || math.Abs(high-c.high) > 5e-5 {
			t.Errorf("%s: %.4f to %.4f, want %.4f to %.4f", name, low, high, c.low, c.high)
		}
	}
}

func TestPairedRate(t *testing.T) {
	for name, c := range map[string]struct {
		better, worse, n int
		verdict          Verdict
		detectable       float64 // 0: unknown
		warning          string
	}{
		"none":                      {0, 0, 0, TooFew, 0, "0 examples are too few to show any difference"},
		"five of five":              {5, 0, 5, TooFew, 0, "5 examples are too few"},
		"six of six":                {6, 0, 6, Shown, 0.963, ""},
		"the same in all of twenty": {0, 0, 20, NotShown, 0.366, "no difference shown: 20 examples show one of 36.6 points or more (power 80 %)"},
		// The score interval alone excludes 0 here; one in fourteen runs without
		// any difference does as much.
		"seven to one":        {7, 1, 21, NotShown, 0.370, "21 examples"},
		"twelve to two":       {12, 2, 44, Shown, 0.243, ""},
		"many":                {300, 200, 2000, Shown, 0.0325, ""},
		"many, not different": {250, 240, 2000, NotShown, 0.0315, "3.1 points"},
	} {
		d := pairedRate(c.better, c.worse, c.n, 0.95)
		if d.Verdict != c.verdict || d.Detectable.Known != (c.detectable > 0) || math.Abs(d.Detectable.Value-c.detectable) > 0.001 || !strings.Contains(d.Warning, c.warning) || (d.Warning == "") != (c.warning == "") {
			t.Errorf("%s: %+v", name, d)
		}
		if c.n > 0 && !(d.Lower.Value < d.Upper.Value && d.Lower.Value <= d.Value.Value && d.Value.Value <= d.Upper.Value) {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

// TestPairedRateCoverage adds up the chance of every outcome: of a difference shown
// where there is none, which never exceeds 1 − level, and of an interval without
// the true difference, which is approximate.
func TestPairedRateCoverage(t *testing.T) {
	for _, level := range []float64{0.95, 0.99} {
		for _, n := range []int{6, 10, 20, 40} {
			type outcome struct {
				better, worse int
				Difference
			}
			var all []outcome
			for b := 0; b <= n; b++ {
				for c := 0; b+c <= n; c++ {
					o := outcome{b, c, Difference{Level: level}}
					low, high := tango(float64(b), float64(c), float64(n), distuv.UnitNormal.Quantile((1+level)/2))
					if mcNemar(b, c) <= 1-level && low <= 0 && high >= 0 {
						t.Fatalf("n %d, %d to %d: the exact test rejects and the interval %v to %v does not", n, b, c, low, high)
					}
					o.Difference = pairedRate(b, c, n, level)
					all = append(all, o)
				}
			}
			worst, sum, cells := 1.0, 0.0, 0.0
			for _, better := range []float64{0, 0.01, 0.05, 0.1, 0.2, 0.35, 0.5} {
				for _, worse := range []float64{0, 0.01, 0.05, 0.1, 0.2, 0.35, 0.5} {
					held, shown := 0.0, 0.0
					for _, o := range all {
						p := multinomial(n, o.better, o.worse, better, worse)
						if o.Lower.Value-1e-9 <= better-worse && better-worse <= o.Upper.Value+1e-9 {
							held += p
						}
						if o.Verdict == Shown {
							shown += p
						}
					}
					if better == worse && shown > 1-level {
						t.Errorf("n %d, %v change either way: a difference is shown in %.4f of the comparisons at %v", n, better, shown, level)
					}
					worst, sum, cells = min(worst, held), sum+held, cells+1
				}
			}
			t.Logf("n %d at %v: the interval holds in %.4f on average, in %.4f at the least", n, level, sum/cells, worst)
			if sum/cells < level || worst < level-0.035 {
				t.Errorf("n %d at %v: the interval holds in %.4f on average, in %.4f at the least", n, level, sum/cells, worst)
			}
		}
	}
}

// multinomial is the chance of b better and c worse of n.
func multinomial(n, b, c int, better, worse float64) float64 {
	rest := 1 - better - worse
	term := func(k int, p float64) float64 {
		switch {
		case k == 0:
			return 0
		case p <= 0:
			return math.Inf(-1)
		}
		g, _ := math.Lgamma(float64(k) + 1)
		return float64(k)*math.Log(p) - g
	}
	g, _ := math.Lgamma(float64(n) + 1)
	return math.Exp(g + term(b, better) + term(c, worse) + term(n-b-c, rest))
}

// TestDetectable draws runs that differ by the stated difference: eight in ten show
// it, and fewer show half of it.
func TestDetectable(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct{ better, worse, n int }{{2, 1, 20}, {10, 10, 100}, {60, 50, 500}} {
		d := pairedRate(c.better, c.worse, c.n, 0.95)
		shown := func(delta float64) float64 {
			share := max(delta, float64(c.better+c.worse+1)/float64(c.n+2))
			const draws = 4000
			count := 0
			for range draws {
				b, w := 0, 0
				for range c.n {
					switch u := r.Float64(); {
					case u < (share+delta)/2:
						b++
					case u < share:
						w++
					}
				}
				if mcNemar(b, w) <= 0.05 && b > w {
					count++
				}
			}
			return float64(count) / draws
		}
		if got := shown(d.Detectable.Value); got < 0.78 || got > 0.87 {
			t.Errorf("%+v: %.3f show %v", c, got, d.Detectable.Value)
		}
		if got := shown(d.Detectable.Value / 2); got > 0.5 {
			t.Errorf("%+v: %.3f show half of it", c, got)
		}
	}
}

func TestPairedMean(t *testing.T) {
	same := func(v float64, n int) (out []float64) {
		for range n {
			out = append(out, v)
		}
		return out
	}
	seq := func(from, step float64, n int) (out []float64) {
		for i := range n {
			out = append(out, from+step*float64(i))
		}
		return out
	}
	for name, c := range map[string]struct {
		of        []float64
		unit      query.Unit
		verdict   Verdict
		low, high float64
		warning   string
	}{
		"none":                     {nil, query.UnitScore, TooFew, 0, 0, "0 examples are too few"},
		"one score":                {same(0.5, 1), query.UnitScore, TooFew, 0, 0, "1 example"},
		"two equal scores":         {same(0, 2), query.UnitScore, TooFew, -1, 1, "2 examples are too few"},
		"twenty equal scores":      {same(0, 20), query.UnitScore, NotShown, -0.144432, 0.144432, "no difference"},
		"better by .3 each":        {same(0.3, 20), query.UnitScore, Shown, 0.149775, 0.450225, ""},
		"nine latencies":           {seq(1, 1, 9), query.UnitMillis, TooFew, 0, 0, "9 examples are too few"},
		"ten latencies":            {seq(1, 1, 10), query.UnitMillis, Shown, 3.334149, 7.665851, ""}, // R: t.test(1:10)
		"around 0":                 {seq(-4.5, 1, 10), query.UnitMillis, NotShown, -2.165851, 2.165851, "10 examples show one of 3 ms or more"},
		"the same cost":            {same(0, 30), query.UnitUSD, Equal, 0, 0, "differ by the same amount"},
		"one slow answer of forty": {append(seq(-2, 0.1, 39), 60_000), query.UnitMillis, Skewed, 0, 0, "a few examples make most"},
	} {
		d := pairedMean(c.of, c.unit, 0.95)
		known := c.low != 0 || c.high != 0
		if d.Verdict != c.verdict || d.Examples != len(c.of) || d.Lower.Known != known || math.Abs(d.Lower.Value-c.low) > 1e-5 || math.Abs(d.Upper.Value-c.high) > 1e-5 ||
			!strings.Contains(d.Warning, c.warning) || (d.Warning == "") != (c.warning == "") {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

// TestPairedMeanErrors draws runs without a difference, with scores near an end of
// the scale and heavy-tailed latencies: no more show one than stated, with the
// error of 2,000 draws.
func TestPairedMeanErrors(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for name, c := range map[string]struct {
		unit query.Unit
		draw func() float64
	}{
		"scores near 1":  {query.UnitScore, func() float64 { return 1 - math.Pow(r.Float64(), 8) }},
		"scores 0 and 1": {query.UnitScore, func() float64 { return math.Round(r.Float64() + 0.45) }},
		"latencies":      {query.UnitMillis, func() float64 { return 1000 * math.Exp(1.5*r.NormFloat64()) }},
		"normal":         {query.UnitUSD, r.NormFloat64},
	} {
		for _, n := range []int{2, 10, 50, 200} {
			const draws = 2000
			shown := 0
			for range draws {
				d := make([]float64, n)
				for i := range d {
					d[i] = c.draw() - c.draw()
				}
				if pairedMean(d, c.unit, 0.95).Verdict == Shown {
					shown++
				}
			}
			if got := float64(shown) / draws; got > 0.065 {
				t.Errorf("%s of %d examples: a difference is shown in %.4f of the comparisons", name, n, got)
			}
		}
	}
}
