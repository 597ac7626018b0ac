package stats_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/hedgerow/hedgerow/server/internal/stats"
)

// A 95th percentile that is 1.3 times as high is seen by one sequence on the difference with less
// than half the users of two sequences subtracted, as version 3b558a2 did it.
func TestQuantileRegressionIsSeenEarly(t *testing.T) {
	const experiments, most, every = 20, 12000, 100
	plan := stats.Plan{Alpha: stats.DefaultAlpha, Users: plannedUsers}
	parts := plan
	parts.Alpha /= 2
	levels := levelsAround(0.95)
	var one, two []int
	for i := range experiments {
		rng := rand.New(rand.NewPCG(44, uint64(i)))
		var v [2]variant
		first, second := 0, 0
		for u := 1; u <= most && second == 0; u++ {
			y, _ := latency(rng, 0)
			at := u % 2
			if at == 1 {
				y *= 1.3
			}
			if v[at].values = append(v[at].values, y); u%every != 0 {
				continue
			}
			var q [2]stats.Quantile
			for k := range v {
				v[k].sort()
				q[k] = quantileOf(0.95, levels, v[k].values)
			}
			if plan.QuantileDifference(q[0], q[1]).Lower > 0 && first == 0 {
				first = u
			}
			if parts.Quantile(q[1]).Lower > parts.Quantile(q[0]).Upper {
				second = u
			}
		}
		if first == 0 || second == 0 {
			t.Errorf("experiment %d: seen after %d and %d users", i, first, second)
		}
		one, two = append(one, first), append(two, second)
	}
	slices.Sort(one)
	slices.Sort(two)
	a, b := one[experiments/2], two[experiments/2]
	t.Logf("seen after %d users (median); by two sequences after %d", a, b)
	if a > 3000 || 2*a > b {
		t.Errorf("seen after %d users (median); by two sequences after %d", a, b)
	}
}

// The same 200 users come back every day: 400 looks find a difference in at most 5 % of
// experiments without one. By the number of users, which stays the same, more did.
func TestReturningUsers(t *testing.T) {
	const users, days = 200, 400
	experiments := 200
	if full {
		experiments = 2000
	}
	plan := stats.Plan{Alpha: stats.DefaultAlpha, Users: plannedUsers}
	hits := each(experiments, 10, func(rng *rand.Rand) bool {
		var people [users]struct{ p, y float64 }
		for i := range people {
			people[i].p = 0.3 + 0.4*rng.Float64()
		}
		clock := plan
		for day := 1; day <= days; day++ {
			var m [2]stats.Moments
			for i := range people {
				u := &people[i]
				if rng.Float64() < u.p {
					u.y++
				}
				m[i%2].Add(u.y, float64(day))
			}
			d := stats.Ratio(m[1], stats.Share).Minus(stats.Ratio(m[0], stats.Share))
			if clock.Spread == 0 {
				clock.Spread = d.Variance * d.Users
			}
			if i := clock.Interval(d); i.Lower > 0 || i.Upper < 0 {
				return true
			}
		}
		return false
	})
	t.Logf("%d of %d experiments find a difference that is not there (standard error %.1f %%)", hits, experiments, 100*standardError(0.05, experiments))
	if float64(hits) > atMost(stats.DefaultAlpha, experiments)*float64(experiments) {
		t.Errorf("%d of %d experiments find a difference that is not there", hits, experiments)
	}
}

// Intervals that have nothing in common are of a value that changed.
func TestIntersect(t *testing.T) {
	known := func(lower, upper float64) stats.Interval {
		return stats.Interval{Value: (lower + upper) / 2, Lower: lower, Upper: upper, Known: true, Level: 0.95}
	}
	for _, c := range []struct {
		name         string
		looks        []stats.Interval
		lower, upper float64
		ok           bool
	}{
		{"a bound that was passed stays passed", []stats.Interval{known(0.1, 0.5), {}, known(-0.1, 0.4)}, 0.1, 0.4, true},
		{"one without bounds says nothing", []stats.Interval{known(0.1, 0.5), known(math.Inf(-1), math.Inf(1))}, 0.1, 0.5, true},
		{"nothing in common", []stats.Interval{known(0.1, 0.5), known(-0.4, 0.05)}, -0.4, 0.05, false},
	} {
		got, ok := stats.Intersect(c.looks)
		if ok != c.ok || got.Lower != c.lower || got.Upper != c.upper {
			t.Errorf("%s: %+v, %v", c.name, got, ok)
		}
	}
	if got, ok := stats.Intersect(nil); got.Known || !ok {
		t.Errorf("no looks: %+v, %v", got, ok)
	}
}
