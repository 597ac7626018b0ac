package eval_test

import (
	"math"
	"testing"

	"gonum.org/v1/gonum/stat/distuv"

	"github.com/hedgerow/hedgerow/server/internal/eval"
)

// TestPassRate holds known intervals: those of R's binom.test, and for none or all
// passed the closed form 1 − (α/2)^(1/n).
func TestPassRate(t *testing.T) {
	for _, c := range []struct {
		passed, judged int
		level          float64
		lower, upper   float64
	}{
		{0, 10, 0.95, 0, 0.3084971},
		{10, 10, 0.95, 0.6915029, 1},
		{7, 10, 0.95, 0.3475471, 0.9332605},
		{1, 1, 0.95, 0.025, 1},
		{50, 100, 0.95, 0.3983211, 0.6016789},
		{50, 100, 0.99, 0.3688614, 0.6311386},
		{990_000, 1_000_000, 0.95, 0.9898029, 0.9901942},
	} {
		r := eval.RateOf(c.passed, c.judged, c.level)
		if math.Abs(r.Lower.Value-c.lower) > 1e-6 || math.Abs(r.Upper.Value-c.upper) > 1e-6 || r.Rate.Value != float64(c.passed)/float64(c.judged) || r.Level != c.level {
			t.Errorf("%d of %d at %v: %+v, want %v to %v", c.passed, c.judged, c.level, r, c.lower, c.upper)
		}
	}
	for _, c := range [][2]int{{0, 0}, {-1, 3}, {4, 3}} {
		if r := eval.RateOf(c[0], c[1], 0.95); r.Rate.Known || r.Lower.Known || r.Upper.Known {
			t.Errorf("%v: %+v", c, r)
		}
	}
}

// TestPassRateCoverage adds up the chance of each outcome whose interval has the
// true rate: at least the level, whatever the rate and the number of answers.
func TestPassRateCoverage(t *testing.T) {
	for _, n := range []int{1, 2, 5, 10, 20, 50, 200} {
		for _, level := range []float64{0.9, 0.95, 0.99} {
			bounds := make([]eval.PassRate, n+1)
			for x := range bounds {
				if bounds[x] = eval.RateOf(x, n, level); bounds[x].Upper.Value <= bounds[x].Lower.Value {
					t.Fatalf("%d of %d: %+v has no width", x, n, bounds[x])
				}
			}
			for _, rate := range []float64{0.001, 0.01, 0.05, 0.1, 0.3, 0.5, 0.77, 0.9, 0.98, 0.999} {
				held := 0.0
				for x, b := range bounds {
					if b.Lower.Value <= rate && rate <= b.Upper.Value {
						held += distuv.Binomial{N: float64(n), P: rate}.Prob(float64(x))
					}
				}
				if held < level-1e-9 {
					t.Errorf("n %d, rate %v: the interval at %v holds in %.4f", n, rate, level, held)
				}
			}
		}
	}
}
