package eval_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/stat/distuv"

	"github.com/hedgerow/hedgerow/server/internal/eval"
	"github.com/hedgerow/hedgerow/server/internal/stats"
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

// TestPassRateByUser: answers of few users say less than as many independent ones. The
// interval holds the true rate in 95 % of samples although users differ.
func TestPassRateByUser(t *testing.T) {
	of := func(users, each, passed int) (m stats.Moments) {
		for range users {
			m.Add(float64(passed), float64(each))
		}
		return m
	}
	one := eval.RateByUser(of(100, 1, 1))
	if same := eval.RateOf(100, 100, 0.95); one.Lower != same.Lower || one.Upper != same.Upper || one.Judged != 100 {
		t.Errorf("one answer each: %+v, want %+v", one, same)
	}
	if r, few := eval.RateByUser(of(20, 50, 50)), eval.RateOf(15, 15, 0.95); r.Rate.Value != 1 || r.Judged != 1000 || r.Users != 20 || r.Lower.Value > 0.87 || r.Lower.Value < few.Lower.Value {
		t.Errorf("20 users with 50 answers each, all passed: %+v", r)
	}
	if r := eval.RateByUser(of(1, 50, 49)); r.Lower.Value > 0.1 || r.Upper.Value < 0.98 {
		t.Errorf("one user: %+v", r)
	}
	if r := eval.RateByUser(stats.Moments{}); r.Rate.Known || r.Judged != 0 {
		t.Errorf("nothing: %+v", r)
	}
	const samples = 2000
	for _, c := range []struct{ users, most int }{{5, 40}, {30, 20}, {200, 5}} {
		rng := rand.New(rand.NewPCG(3, uint64(c.users)))
		held, independent := 0, 0
		for range samples {
			var m stats.Moments
			for range c.users {
				p, n := 0.99, 1+rng.IntN(c.most) // half of the users always pass nearly, half often
				if rng.IntN(2) == 0 {
					p = 0.61
				}
				y := distuv.Binomial{N: float64(n), P: p, Src: rng}.Rand()
				m.Add(y, float64(n))
			}
			r := eval.RateByUser(m)
			if r.Lower.Value <= 0.8 && 0.8 <= r.Upper.Value {
				held++
			}
			if x := eval.RateOf(r.Passed, r.Judged, 0.95); x.Lower.Value <= 0.8 && 0.8 <= x.Upper.Value {
				independent++
			}
		}
		if share := float64(held) / samples; share < 0.935 {
			t.Errorf("%d users: the interval holds in %.3f", c.users, share)
		}
		if c.most > 10 && float64(independent)/samples > 0.85 {
			t.Errorf("%d users: as independent answers it holds in %d of %d: the simulation shows nothing", c.users, independent, samples)
		}
	}
}
