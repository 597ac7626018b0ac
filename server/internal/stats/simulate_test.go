package stats_test

import (
	"math"
	"math/rand/v2"
	"os"
	"slices"

	"github.com/hedgerow/hedgerow/server/internal/stats"
)

// full is what "make stats" runs; without it a short form with the same seeds runs.
var full = os.Getenv("HEDGEROW_STATS") != ""

// The plan of the simulated experiments: the defaults of hedgerow.
const (
	plannedUsers  = 2000
	minUsers      = 50
	mismatchLevel = 0.01
	looksEach     = 30 // of the anytime design
	plannedLooks  = 4
)

// metric is one kind of figure, and a user's values of it. Users have a habit, which is
// standard normal: it is why what they did before says what they will do.
type metric struct {
	scale    stats.Scale // of rates and scores
	trimmed  bool        // winsorised at a limit that the first users determine
	quantile float64
	user     func(rng *rand.Rand, habit float64) (y, n float64)
	lift     func(rng *rand.Rand, y, n float64) float64 // y of a treated user, where there is an effect
}

// rate succeeds in a share p, more often by those of a high habit.
func rate(p float64) func(*rand.Rand, float64) (float64, float64) {
	return func(rng *rand.Rand, habit float64) (float64, float64) {
		q := 0.4 * p
		if habit > 0 {
			q = 1.6 * p
		}
		if rng.Float64() < q {
			return 1, 1
		}
		return 0, 1
	}
}

func latency(rng *rand.Rand, _ float64) (float64, float64) {
	return 1500 * math.Exp(0.7*rng.NormFloat64()), 1
}

// score is 0.98 on average: few are bad.
func score(rng *rand.Rand, habit float64) (float64, float64) {
	if y, _ := rate(0.05*2/3)(rng, habit); y == 1 {
		return 0.2 + 0.4*rng.Float64(), 1 // 0.4 on average
	}
	return 1, 1
}

// calls is geometric, 5.7 on average: many call once, a few very often.
func calls(rng *rand.Rand, habit float64) (float64, float64) {
	mean := 2.3
	if habit > 0 {
		mean = 9.1
	}
	return math.Floor(math.Log(1-rng.Float64()) / math.Log(mean/(1+mean))), 1
}

// cost is lognormal with σ = 2, half of the variance by habit.
func cost(rng *rand.Rand, habit float64) (float64, float64) {
	return math.Exp(math.Sqrt2*habit + math.Sqrt2*rng.NormFloat64() - 4), 1
}

// costPerTask is over 1 to 4 tasks.
func costPerTask(rng *rand.Rand, habit float64) (y, n float64) {
	n = float64(1 + rng.IntN(4))
	for range int(n) {
		y += math.Exp(0.8*rng.NormFloat64() + 0.5*habit - 4)
	}
	return y, n
}

// metrics are the nine of the tables.
var metrics = map[string]metric{
	"rate 50 %": {scale: stats.Share, user: rate(0.5), lift: func(rng *rand.Rand, y, _ float64) float64 { // to 55 %
		if y == 0 && rng.Float64() < 0.1 {
			return 1
		}
		return y
	}},
	"rate 10 %": {scale: stats.Share, user: rate(0.1)},
	"rate 1 %":  {scale: stats.Share, user: rate(0.01)},
	"score": {scale: stats.Share, user: score, lift: func(_ *rand.Rand, y, _ float64) float64 { // bad ones become a little worse
		if y < 1 {
			return y / 2
		}
		return y
	}},
	"count":         {trimmed: true, user: calls, lift: func(_ *rand.Rand, y, _ float64) float64 { return 1.2 * y }},
	"cost":          {trimmed: true, user: cost, lift: func(_ *rand.Rand, y, _ float64) float64 { return 0.75 * y }},
	"cost per task": {trimmed: true, user: costPerTask, lift: func(_ *rand.Rand, y, _ float64) float64 { return 0.9 * y }},
	"p50":           {quantile: 0.5, user: latency},
	"p95":           {quantile: 0.95, user: latency},
}

// variant is what is known of one variant's users.
type variant struct {
	users   stats.Moments // winsorised from the first look on
	early   [][4]float64  // y, n, p and q before it
	values  []float64     // of a quantile; sorted up to sorted
	sorted  int
	scratch []float64
}

// sort sorts the values: those that are new, and then both parts into one.
func (v *variant) sort() {
	slices.Sort(v.values[v.sorted:])
	old, fresh := v.values[:v.sorted], v.values[v.sorted:]
	v.scratch = v.scratch[:0]
	for len(old) > 0 && len(fresh) > 0 {
		if old[0] <= fresh[0] {
			v.scratch, old = append(v.scratch, old[0]), old[1:]
		} else {
			v.scratch, fresh = append(v.scratch, fresh[0]), fresh[1:]
		}
	}
	v.scratch = append(append(v.scratch, old...), fresh...)
	v.values, v.scratch, v.sorted = v.scratch, v.values, len(v.scratch)
}

// winsorised is the percentile of the users' ratios at which amounts are cut.
const winsorised = 0.95

// game is one experiment, looked at again and again.
type game struct {
	metric
	share  float64 // of users that get the treatment
	lifted bool    // there is an effect
	only   *int    // the way that is judged; nil: all

	limit    float64
	variants [2]variant
}

// add has one user come. Of 70 % something is known from before.
func (g *game) add(rng *rand.Rand) {
	at := 0
	if rng.Float64() < g.share {
		at = 1
	}
	v, habit := &g.variants[at], 0.0
	if g.quantile == 0 {
		habit = rng.NormFloat64()
	}
	y, n := g.user(rng, habit)
	if at == 1 && g.lifted {
		y = g.lift(rng, y, n)
	}
	var p, q float64
	if g.quantile == 0 && rng.Float64() < 0.7 {
		p, q = g.user(rng, habit)
	}
	switch {
	case g.quantile > 0:
		v.values = append(v.values, y)
	case g.trimmed && g.limit == 0:
		v.early = append(v.early, [4]float64{y, n, p, q})
	case g.trimmed:
		v.users.AddWithPast(min(y, g.limit*n), n, min(p, g.limit*q), q)
	default:
		v.users.AddWithPast(y, n, p, q)
	}
}

// enough reports whether both variants have the users that a result needs.
func (g *game) enough() bool {
	for _, v := range g.variants {
		if int(v.users.Users)+len(v.early)+len(v.values) < minUsers {
			return false
		}
	}
	return true
}

// fix sets the limit of amounts, at the first look.
func (g *game) fix() {
	if !g.trimmed || g.limit > 0 {
		return
	}
	var ratios []float64
	for _, v := range g.variants {
		for _, u := range v.early {
			ratios = append(ratios, u[0]/u[1])
		}
	}
	slices.Sort(ratios)
	g.limit = ratios[int(winsorised*float64(len(ratios)-1))]
	for i := range g.variants {
		v := &g.variants[i]
		for _, u := range v.early {
			v.users.AddWithPast(min(u[0], g.limit*u[1]), u[1], min(u[2], g.limit*u[3]), u[3])
		}
		v.early = nil
	}
}

// difference is treatment − control, by the users' own past or without it.
func (g *game) difference(cuped bool) stats.Estimate {
	scale := g.scale
	if g.trimmed {
		scale = stats.Scale{Low: 0, High: g.limit}
	}
	if cuped {
		c, t, _ := stats.Adjust(g.variants[0].users, g.variants[1].users, scale)
		return t.Minus(c)
	}
	return stats.Ratio(g.variants[1].users, scale).Minus(stats.Ratio(g.variants[0].users, scale))
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
func quantileOf(q float64, levels, values []float64) stats.Quantile {
	out := stats.Quantile{Level: q, Known: len(values) > 0, Levels: levels}
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

// The ways in which one experiment is judged.
const (
	anytime = iota
	anytimeCUPED
	planned
	plannedCUPED
	ways
)

var wayNames = [ways]string{"anytime", "anytime, CUPED", "planned looks", "planned looks, CUPED"}

// result is what each way finds: at how many users, 0 for never, and whether upwards.
type result [ways]struct {
	users int
	up    bool
}

func (r *result) note(way, users int, i stats.Interval) {
	if i.Known && (i.Lower > 0 || i.Upper < 0) {
		r[way].users, r[way].up = users, i.Lower > 0
	}
}

// judges reports whether a way is to be judged, and has found nothing yet.
func (g *game) judges(way int, r *result) bool {
	return (g.only == nil || *g.only == way) && r[way].users == 0
}

// play plays an experiment of so many users over both variants.
func (g *game) play(rng *rand.Rand, users int) (r result) {
	if g.quantile > 0 {
		return g.playQuantile(rng, users)
	}
	plan := stats.Plan{Alpha: stats.DefaultAlpha, Users: plannedUsers}
	every := max(1, users/looksEach)
	var spread [2]float64 // of the two anytime ways
	var looks [2][]stats.Estimate
	for u := 1; u <= users; u++ {
		if g.only != nil && r[*g.only].users > 0 {
			break
		}
		g.add(rng)
		k := len(looks[0]) + 1
		date := u == users*k/plannedLooks
		if u%every != 0 && !date {
			continue
		}
		enough := g.enough()
		if enough {
			g.fix()
		}
		for cuped := range 2 {
			var d stats.Estimate
			if enough && (g.only == nil || *g.only%2 == cuped) {
				d = g.difference(cuped == 1)
			}
			if u%every == 0 && d.Known && g.judges(anytime+cuped, &r) {
				if spread[cuped] == 0 {
					spread[cuped] = d.Variance * d.Users
				}
				plan.Spread = spread[cuped]
				r.note(anytime+cuped, u, plan.Interval(d))
			}
			if date {
				looks[cuped] = append(looks[cuped], d)
				if crosses(d, k) && g.judges(planned+cuped, &r) {
					design := stats.Planned{Alpha: stats.DefaultAlpha, Looks: plannedLooks}
					r.note(planned+cuped, u, design.Interval(looks[cuped]))
				}
			}
		}
	}
	return r
}

// crosses reports whether an estimate could be beyond the k-th planned look's bound, without
// the integrals: all the error spent until then would have to be spent at this look.
func crosses(e stats.Estimate, k int) bool {
	design := stats.Planned{Alpha: stats.DefaultAlpha, Looks: plannedLooks}
	z := math.Abs(e.Value) / math.Sqrt(e.Variance)
	return e.Known && e.Variance > 0 && math.Erfc(z/math.Sqrt2) <= design.Spent(float64(k)/plannedLooks)
}

// playQuantile looks less often: quantiles are guardrails, which are judged at any time.
func (g *game) playQuantile(rng *rand.Rand, users int) (r result) {
	looks := looksEach
	if users > 5000 {
		looks = 10
	}
	every := max(1, users/looks)
	levels := levelsAround(g.quantile)
	plan := stats.Plan{Alpha: stats.DefaultAlpha, Users: plannedUsers}
	for u := 1; u <= users && r[anytime].users == 0; u++ {
		if g.add(rng); u%every != 0 || !g.enough() {
			continue
		}
		var q [2]stats.Quantile
		for i := range q {
			g.variants[i].sort()
			q[i] = quantileOf(g.quantile, levels, g.variants[i].values)
		}
		r.note(anytime, u, plan.QuantileDifference(q[0], q[1]))
	}
	return r
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

// standardError is that of a share of n simulated experiments.
func standardError(p float64, n int) float64 { return math.Sqrt(p * (1 - p) / float64(n)) }

// atMost is the greatest share of n simulated experiments that agrees with an error of
// alpha: three standard errors more. Seeds are fixed: no run differs from another.
func atMost(alpha float64, n int) float64 { return alpha + 3*standardError(alpha, n) }
