package dataset

import (
	"fmt"
	"math"
	"strconv"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/stats"
)

// power is the chance of showing the difference that [Difference.Detectable] states.
const power = 0.8

// minMean is the fewest examples for an interval of a mean without bounds.
const minMean = 10

// Verdict is what a [Difference] shows.
type Verdict string

// The verdicts.
const (
	Shown    Verdict = "shown"     // the interval excludes 0
	NotShown Verdict = "not_shown" // the interval includes 0: either run may be ahead
	TooFew   Verdict = "too_few"   // no difference could be shown with so few examples
	Skewed   Verdict = "skewed"    // a few examples make most of the mean, so that it has no interval
	Equal    Verdict = "equal"     // all examples differ by the same, mostly by nothing, so that a mean has no interval
)

// Difference is B − A over the examples that have the figure in both runs: each
// example is compared with itself, so that examples which are hard for both runs
// do not widen the interval.
type Difference struct {
	Examples   int                `json:"examples"`       // with the figure in both runs
	Unit       query.Unit         `json:"unit"`           // a share of the examples, a check's score from 0 to 1, milliseconds or dollars
	Value      event.Opt[float64] `json:"value,omitzero"` // the mean of the examples' differences
	Lower      event.Opt[float64] `json:"lower,omitzero"`
	Upper      event.Opt[float64] `json:"upper,omitzero"`
	Level      float64            `json:"level"`               // of the interval; see [Comparison]
	Detectable event.Opt[float64] `json:"detectable,omitzero"` // the least true difference, either way, that so many examples show with a chance of 80 %
	Verdict    Verdict            `json:"verdict"`
	Warning    string             `json:"warning,omitempty"` // why no difference is shown, in words
}

// pairedRate is the difference of two shares of the same n examples, of which
// better succeed in B alone and worse in A alone.
//
// The interval is Tango's score interval for paired proportions ("Equivalence test
// and confidence interval for the difference in proportions for the paired-sample
// design", Statistics in Medicine 17, 1998): the differences Δ with
//
//	(b − c − nΔ)² ≤ z² · n · (2q + Δ(1 − Δ))
//
// where q is the most likely share of worse examples given Δ. It has width where
// the runs differ in no example. Its level is approximate, so it is extended to 0
// where the exact form of McNemar's test (Psychometrika 12, 1947), which takes the
// examples that differ as fair coin tosses, does not reject: a difference is shown
// without cause in at most 1 − level of the comparisons, exactly.
func pairedRate(better, worse, n int, level float64) Difference {
	d := Difference{Examples: n, Unit: query.UnitShare, Level: level}
	if n > 0 {
		d.Value = event.Some(float64(better-worse) / float64(n))
		low, high := tango(float64(better), float64(worse), float64(n), distuv.UnitNormal.Quantile((1+level)/2))
		if mcNemar(better, worse) > 1-level {
			low, high = min(low, 0), max(high, 0)
		}
		d.Lower, d.Upper = event.Some(low), event.Some(high)
		d.Detectable = detectableRate(better+worse, n, level)
	}
	return d.judged()
}

// tango finds both bounds by bisection: the score falls as Δ rises.
func tango(b, c, n, z float64) (low, high float64) {
	score := func(delta float64) float64 {
		// Tango 1998, eq. 10: A = 2n, B, C of the quadratic equation of q.
		mid, end := -b-c+(2*n-b+c)*delta, -c*delta*(1-delta)
		q := (math.Sqrt(max(0, mid*mid-8*n*end)) - mid) / (4 * n)
		over := b - c - n*delta
		if v := n * (2*q + delta*(1-delta)); v > 0 {
			return over / math.Sqrt(v)
		}
		return over * math.Inf(1) // NaN at 0, which no bound is beyond
	}
	solve := func(inside, outside, z float64) float64 {
		for range 60 {
			mid := (inside + outside) / 2
			if s := score(mid); math.Abs(s) > z {
				outside = mid
			} else {
				inside = mid
			}
		}
		return inside
	}
	at := (b - c) / n
	return solve(at, -1, z), solve(at, 1, z)
}

// mcNemar is the two-sided p value of McNemar's test in its exact form.
func mcNemar(b, c int) float64 {
	if b+c == 0 {
		return 1
	}
	return min(1, 2*distuv.Binomial{N: float64(b + c), P: 0.5}.CDF(float64(min(b, c))))
}

// detectableRate is the least difference that n examples show with the wanted power
// when as large a share of them differs as did in these runs (with one example
// added that differs and one that does not), or just those that make the difference
// if it is greater. It is unknown if the examples are too few for any. The power is
// that of McNemar's exact test, summed over the number of examples that differ.
func detectableRate(differ, n int, level float64) event.Opt[float64] {
	fail := rejecting(n, level)
	if n == 0 || fail[n] < 0 {
		return event.Opt[float64]{}
	}
	share := float64(differ+1) / float64(n+2)
	low, high := 0.0, 1.0
	for range 15 {
		mid := (low + high) / 2
		if powerOf(mid, max(share, mid), fail) >= power {
			high = mid
		} else {
			low = mid
		}
	}
	return event.Some(high)
}

// LeastDetectable is the least difference between the pass rates of two runs that n
// examples show at 95 % with a chance of 80 %, if one example in five passes in one
// run only; it is greater where more do. Unknown: they show none.
func LeastDetectable(n int) event.Opt[float64] { return detectableRate(n/5, n, 1-stats.DefaultAlpha) }

// rejecting is, for each number of examples that differ up to n, the most of them
// that may be worse for McNemar's exact test to reject; −1 where it never does.
func rejecting(n int, level float64) []int {
	fail := make([]int, n+1)
	last := -1
	for d := range fail {
		if next := last + 1; next <= d && mcNemar(d-next, next) <= 1-level {
			last = next
		}
		fail[d] = last
	}
	return fail
}

// powerOf is the chance that McNemar's exact test rejects in the right direction
// where the rates differ by delta and a share of the examples differs.
func powerOf(delta, share float64, fail []int) float64 {
	n := float64(len(fail) - 1)
	all := distuv.Binomial{N: n, P: share}
	worse := (share - delta) / (2 * share) // of the examples that differ
	reach := 5 * math.Sqrt(n*share*(1-share))
	from, to := max(1, int(n*share-reach)), min(len(fail)-1, int(math.Ceil(n*share+reach)))
	sum := 0.0
	for d := from; d <= to; d++ {
		if fail[d] >= 0 {
			sum += prob(all, d) * distuv.Binomial{N: float64(d), P: worse}.CDF(float64(fail[d]))
		}
	}
	return sum
}

// prob is the chance of k successes, at the ends of P too.
func prob(b distuv.Binomial, k int) float64 {
	if b.P >= 1 {
		if float64(k) == b.N {
			return 1
		}
		return 0
	}
	return b.Prob(float64(k))
}

// pairedMean is the mean of the examples' differences, with Student's interval
// ("The probable error of a mean", Biometrika 6, 1908). Scores are within 0 and 1,
// so their variance is taken with two examples added, one that differs by 1 and one
// by −1: runs whose few scores are the same are not known to be equal.
//
// Latencies and costs have no such bounds. A mean of them has an interval from ten
// examples on, and from 25 G² on, where G is the skewness of the differences
// (Cochran, Sampling Techniques, 3rd ed., section 2.15).
func pairedMean(of []float64, unit query.Unit, level float64) Difference {
	d := Difference{Examples: len(of), Unit: unit, Level: level}
	n := float64(len(of))
	if n == 0 {
		return d.judged()
	}
	d.Value = event.Some(stat.Mean(of, nil))
	least := minMean
	sd := 0.0
	if unit == query.UnitScore {
		least = 2
		sd = stat.StdDev(append([]float64{-1, 1}, of...), nil)
	} else {
		sd = stat.StdDev(of, nil)
	}
	switch {
	case len(of) < least:
		return d.judged()
	case sd == 0:
		d.Verdict = Equal
		return d.judged()
	case unit != query.UnitScore:
		if g := stat.Skew(of, nil); n < 25*g*g {
			d.Verdict = Skewed
			return d.judged()
		}
	}
	t, e := distuv.StudentsT{Mu: 0, Sigma: 1, Nu: n - 1}, sd/math.Sqrt(n)
	half := t.Quantile((1+level)/2) * e
	low, high := d.Value.Value-half, d.Value.Value+half
	d.Detectable = event.Some(half + t.Quantile(power)*e)
	if unit == query.UnitScore {
		low, high = max(low, -1), min(high, 1)
		if d.Detectable.Value > 1 {
			d.Detectable = event.Opt[float64]{}
		}
	}
	d.Lower, d.Upper = event.Some(low), event.Some(high)
	return d.judged()
}

// judged sets the verdict and its warning.
func (d Difference) judged() Difference {
	examples, are := strconv.Itoa(d.Examples)+" examples", " are"
	if d.Examples == 1 {
		examples, are = "1 example", " is"
	}
	switch {
	case d.Verdict == Equal:
		d.Warning = "no interval: all " + examples + " differ by the same amount"
	case d.Verdict == Skewed:
		d.Warning = examples + " are too few for an interval: a few examples make most of the difference"
	case d.Lower.Known && (d.Lower.Value > 0 || d.Upper.Value < 0):
		d.Verdict = Shown
	case d.Detectable.Known:
		d.Verdict = NotShown
		d.Warning = fmt.Sprintf("no difference shown: %s show one of %s or more (power %.0f %%)", examples, amount(d.Unit, d.Detectable.Value), 100*power)
	default:
		d.Verdict = TooFew
		d.Warning = examples + are + " too few to show any difference"
	}
	return d
}

// amount writes the size of a difference.
func amount(u query.Unit, v float64) string {
	switch u {
	case query.UnitShare:
		return strconv.FormatFloat(100*v, 'f', 1, 64) + " points"
	case query.UnitMillis:
		return strconv.FormatFloat(v, 'f', 0, 64) + " ms"
	case query.UnitUSD:
		return "$" + strconv.FormatFloat(v, 'g', 2, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}
