package stats_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/server/internal/stats"
)

// full is what "make stats" runs; without it a short form with the same seeds runs.
var full = os.Getenv("HEDGEROW_STATS") != ""

// The plan of the simulated experiments: the defaults of hedgerow.
const (
	plannedUsers  = 2000
	minUsers      = 50
	mismatchLevel = 0.01
	looksEach     = 30
)

// metric is one kind of figure, and a user's values of it.
type metric struct {
	name     string
	scale    stats.Scale // of rates and scores
	trimmed  bool        // winsorised at a limit that the first users determine
	quantile float64
	user     func(rng *rand.Rand) (y, n float64)
}

func rate(p float64) func(*rand.Rand) (float64, float64) {
	return func(rng *rand.Rand) (float64, float64) {
		if rng.Float64() < p {
			return 1, 1
		}
		return 0, 1
	}
}

func latency(rng *rand.Rand) (float64, float64) { return 1500 * math.Exp(0.7*rng.NormFloat64()), 1 }

// metrics are the nine of the table: the tails are those of findings, lognormal with
// σ = 2 for cost.
func metrics() []metric {
	return []metric{
		{name: "rate 50 %", scale: stats.Share, user: rate(0.5)},
		{name: "rate 10 %", scale: stats.Share, user: rate(0.1)},
		{name: "rate 1 %", scale: stats.Share, user: rate(0.01)},
		{name: "score 0.98", scale: stats.Share, user: func(rng *rand.Rand) (float64, float64) {
			if rng.Float64() < 0.05 {
				return 0.2 + 0.8*rng.Float64()/2, 1 // 0.4 on average
			}
			return 1, 1
		}},
		{name: "count", trimmed: true, user: func(rng *rand.Rand) (y, n float64) {
			// Geometric: many call once, a few very often.
			return math.Floor(math.Log(1-rng.Float64()) / math.Log(0.85)), 1
		}},
		{name: "cost σ = 2", trimmed: true, user: func(rng *rand.Rand) (y, n float64) { return math.Exp(2*rng.NormFloat64() - 4), 1 }},
		{name: "cost per task", trimmed: true, user: func(rng *rand.Rand) (y, n float64) { return spend(1)(rng, false) }},
		{name: "p50", quantile: 0.5, user: latency},
		{name: "p95", quantile: 0.95, user: latency},
	}
}

// variant is what is known of one variant's users.
type variant struct {
	raw, trimmed stats.Moments
	users        [][2]float64
	values       []float64 // of a quantile, sorted at each look
}

// winsorised is the percentile of the users' ratios at which amounts are cut.
const winsorised = 0.95

// game is one experiment, looked at again and again.
type game struct {
	m     metric
	share float64 // of users that get the treatment
	users int     // over both variants
	alpha float64
	lift  func(y float64) float64 // of the treatment; nil: none

	plan     stats.Plan
	limit    float64
	variants [2]variant
}

// add has one user come.
func (g *game) add(rng *rand.Rand) {
	at := 0
	if rng.Float64() < g.share {
		at = 1
	}
	v := &g.variants[at]
	y, n := g.m.user(rng)
	if at == 1 && g.lift != nil {
		y = g.lift(y)
	}
	switch {
	case g.m.quantile > 0:
		v.values = append(v.values, y)
		v.raw.Users++
	case g.m.trimmed && g.limit == 0:
		v.users = append(v.users, [2]float64{y, n})
		v.raw.Add(y, n)
	default:
		v.raw.Add(y, n)
		if g.m.trimmed {
			v.trimmed.Add(min(y, g.limit*n), n)
		}
	}
}

// start fixes what the first look fixes: the limit, and the information that is planned.
func (g *game) start() {
	if g.plan.Alpha != 0 {
		return
	}
	g.plan = stats.Plan{Alpha: g.alpha, Users: plannedUsers}
	if g.m.quantile > 0 {
		return
	}
	if g.m.trimmed {
		var ratios []float64
		for _, v := range g.variants {
			for _, u := range v.users {
				ratios = append(ratios, u[0]/u[1])
			}
		}
		slices.Sort(ratios)
		g.limit = ratios[int(winsorised*float64(len(ratios)-1))]
		for i := range g.variants {
			v := &g.variants[i]
			for _, u := range v.users {
				v.trimmed.Add(min(u[0], g.limit*u[1]), u[1])
			}
			v.users = nil
		}
	}
	d := g.estimate(1).Minus(g.estimate(0))
	g.plan.Spread = d.Variance * d.Users
}

func (g *game) estimate(at int) stats.Estimate {
	if g.m.trimmed {
		return stats.Ratio(g.variants[at].trimmed, stats.Scale{Low: 0, High: g.limit})
	}
	return stats.Ratio(g.variants[at].raw, g.m.scale)
}

// levelsAround are the levels that the store reads (query.levels).
func levelsAround(q float64) []float64 {
	var out []float64
	for i := -40; i <= 40; i++ {
		out = append(out, 1/(1+math.Exp(-(math.Log(q/(1-q))+0.08*float64(i)))))
	}
	out[40] = q
	return out
}

// quantileOf is the quantile of values that are sorted, one of each user.
func quantileOf(q float64, values []float64) stats.Quantile {
	out := stats.Quantile{Level: q, Known: len(values) > 0, Levels: levelsAround(q)}
	at := func(level float64) float64 {
		x := level * float64(len(values)-1)
		i := int(x)
		if i+1 >= len(values) {
			return values[len(values)-1]
		}
		return values[i] + (x-float64(i))*(values[i+1]-values[i])
	}
	for _, l := range out.Levels {
		out.Values = append(out.Values, at(l))
	}
	out.Value = at(q)
	below, _ := slices.BinarySearch(values, math.Nextafter(out.Value, math.Inf(1)))
	b, n := float64(below), float64(len(values))
	out.Below = stats.Moments{Users: n, N: n, NN: n, Y: b, YY: b, NY: b, Third: stats.Third{NNN: n, NNY: b, NYY: b, YYY: b}}
	return out
}

// look is the difference as it is now.
func (g *game) look() stats.Interval {
	g.start()
	if g.m.quantile > 0 {
		for i := range g.variants {
			slices.Sort(g.variants[i].values)
		}
		return g.plan.QuantileDifference(quantileOf(g.m.quantile, g.variants[0].values), quantileOf(g.m.quantile, g.variants[1].values))
	}
	return g.plan.Difference(g.estimate(0), g.estimate(1))
}

// found plays an experiment and returns the users at which an interval first leaves out
// 0, and on which side; 0 is never.
func (g game) found(rng *rand.Rand) (users int, up bool) {
	looks := looksEach
	if g.m.quantile > 0 && g.users > 5000 {
		looks = 10
	}
	every := max(1, g.users/looks)
	for u := 1; u <= g.users; u++ {
		g.add(rng)
		if u%every != 0 || min(g.variants[0].raw.Users, g.variants[1].raw.Users) < minUsers {
			continue
		}
		if i := g.look(); i.Known && (i.Lower > 0 || i.Upper < 0) {
			return u, i.Lower > 0
		}
	}
	return 0, false
}

// each plays many experiments, each with its own seed.
func each(n int, seed uint64, play func(rng *rand.Rand) bool) (hits int) {
	for i := range n {
		if play(rand.New(rand.NewPCG(seed, uint64(i)))) {
			hits++
		}
	}
	return hits
}

// atMost is a share that an error of alpha exceeds by chance in one of a thousand tables of
// 135 cells.
func atMost(alpha float64, n int) float64 {
	return alpha + 4.4*math.Sqrt(alpha*(1-alpha)/float64(n))
}

// No difference is found where there is none, in at most 5 % of experiments: for nine
// metrics, five splits and three sizes, by users of the smaller variant.
func TestNoDifference(t *testing.T) {
	sizes, experiments := []int{60, 250}, 120
	if full {
		sizes, experiments = []int{60, 250, 1000}, 1000
	}
	splits := []float64{0.5, 0.2, 0.1, 0.05, 0.01}
	var table strings.Builder
	fmt.Fprintf(&table, "A/A: %% of %d experiments that find a difference, looked at %d times\n%-14s", experiments, looksEach, "users")
	for _, s := range splits {
		for _, n := range sizes {
			fmt.Fprintf(&table, " %9s", fmt.Sprintf("%.0f/%.0f %d", 100-100*s, 100*s, n))
		}
	}
	for i, m := range metrics() {
		fmt.Fprintf(&table, "\n%-14s", m.name)
		for j, share := range splits {
			for k, size := range sizes {
				if !full && share < 0.05 && size > 60 {
					fmt.Fprintf(&table, " %9s", "")
					continue
				}
				hits := each(experiments, uint64(1000*i+10*j+k), func(rng *rand.Rand) bool {
					users, _ := game{m: m, share: share, users: int(float64(size) / share), alpha: stats.DefaultAlpha}.found(rng)
					return users > 0
				})
				got := float64(hits) / float64(experiments)
				fmt.Fprintf(&table, " %9.1f", 100*got)
				if got > atMost(stats.DefaultAlpha, experiments) {
					t.Errorf("%s, %v, %d: %.1f %% find a difference that is not there", m.name, share, size, 100*got)
				}
			}
		}
	}
	t.Log(table.String())
}
