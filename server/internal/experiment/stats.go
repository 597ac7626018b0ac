package experiment

import (
	"math"

	"github.com/hedgerow/hedgerow/server/internal/query"
)

// DefaultAlpha is the false positive rate: the share of experiments without an
// effect in which a difference is found, however often they are checked.
const DefaultAlpha = 0.05

// targetPower is the power for which the number of users still needed is
// computed.
const targetPower = 0.8

// Plan determines the width of intervals. It must be fixed before data is
// collected. Intervals are valid for any plan and narrowest at the planned number
// of users.
type Plan struct {
	Alpha float64 // over 0, below 1
	Users float64 // planned, over both variants; above 0
}

// Kind is the kind of a figure.
type Kind int

// The kinds of figures.
const (
	Mean Kind = iota // any numbers: a mean, a cost per task
	Rate             // 0 ≤ y ≤ n for every user: a share of something
)

// Estimate is a ratio Y / N with its variance.
type Estimate struct {
	Value    float64
	Variance float64 // of Value, not of the observations
	Users    float64
	Known    bool // there were at least two users and something was counted
}

// Ratio estimates Y / N with the user as cluster. The variance is that of the
// ratio estimator, linearised (Cochran, Sampling Techniques, 3rd ed., eq. 6.13;
// the "delta method" of Deng, Knoblich and Lu, KDD 2018, doi
// 10.1145/3219819.3219919):
//
//	Var(R) = U/(U−1) · Σ(y − R·n)² / (Σn)²,   R = Σy / Σn, over U users
//
// With n = 1 for every user that is the variance of a mean, s²/U.
//
// Of a [Rate], the variance is taken with two users added, one that succeeded
// once and one that failed once ("plus four" of Agresti and Coull, 1998, shared
// out to two variants): without them, a variant in which all succeed would be known
// without any doubt after its second user. The value itself is left as it is.
func Ratio(m query.Moments, k Kind) Estimate {
	e := Estimate{Users: m.Users}
	if m.N <= 0 {
		return e
	}
	e.Value = m.Y / m.N
	if m.Users < 2 {
		return e
	}
	e.Known = true
	if k == Rate {
		m.Add(1, 1)
		m.Add(0, 1)
	}
	r := m.Y / m.N
	// The sum is of squares: below 0 only by rounding.
	sum := max(0, m.YY-2*r*m.NY+r*r*m.NN)
	e.Variance = m.Users / (m.Users - 1) * sum / (m.N * m.N)
	return e
}

// Interval is an estimate with bounds that are valid at all times
// simultaneously.
type Interval struct {
	Value float64
	Lower float64
	Upper float64
	Known bool
}

// tuning is the ratio τ²/V at which the interval is narrowest: the solution of
// r = ln(1+r) + 2·ln(1/α), found by iterating it. See [Plan.half].
func tuning(alpha float64) float64 {
	r := 2 * math.Log(1/alpha)
	for range 60 {
		next := math.Log1p(r) + 2*math.Log(1/alpha)
		if next == r {
			break
		}
		r = next
	}
	return r
}

// half is half the width of an interval around an estimate of variance v that
// comes from the given number of users.
//
// It is Robbins' normal mixture (Robbins, Ann. Math. Statist. 41, 1970), which
// the mixture sequential probability ratio test inverts (Johari, Koomen, Pekelis
// and Walsh, "Always Valid Inference", Operations Research 70, 2022) and which
// is a confidence sequence for estimated variances too (Waudby-Smith, Arbour,
// Sinha, Kennedy and Ramdas, "Time-uniform central limit theory and asymptotic
// confidence sequences", Annals of Statistics 52, 2024):
//
//	half² = V · (1+r)/r · ln((1+r)/α²),   r = τ²/V
//
// where τ² is the variance of the mixture. It has to stay the same while users
// come in. V falls as 1/users, so r = c · users/planned keeps it, and c
// (tuning) makes the interval narrowest at the planned number of users. There
// it is about one and a half times as wide as one that may be checked only
// once.
//
// The promise is asymptotic: it holds from a number of users on at which means
// are about normal. [Definition.MinUsers] sees to that.
func (p Plan) half(v, users float64) float64 {
	if v <= 0 {
		return 0
	}
	r := tuning(p.Alpha) * users / p.Users
	return math.Sqrt(v * (1 + r) / r * (math.Log1p(r) + 2*math.Log(1/p.Alpha)))
}

// Difference is treatment − control.
func (p Plan) Difference(control, treatment Estimate) Interval {
	if !control.Known || !treatment.Known {
		return Interval{}
	}
	d := treatment.Value - control.Value
	h := p.half(control.Variance+treatment.Variance, control.Users+treatment.Users)
	return Interval{Value: d, Lower: d - h, Upper: d + h, Known: true}
}

// Single is the interval of one variant's figure. Planned for both variants, the plan
// is treated as half as many users.
func (p Plan) Single(e Estimate) Interval {
	if !e.Known {
		return Interval{}
	}
	p.Users /= 2
	h := p.half(e.Variance, e.Users)
	return Interval{Value: e.Value, Lower: e.Value - h, Upper: e.Value + h, Known: true}
}

// Clamp keeps the bounds of an interval within what a figure can be.
func (i Interval) Clamp(low, high float64) Interval {
	i.Lower, i.Upper = min(max(i.Lower, low), high), min(max(i.Upper, low), high)
	return i
}

// Quantile is the interval of a quantile, from the quantiles around it: values
// are those at levels, both ascending. below counts, of each user, how many of
// their values (n) are not above the estimated quantile (y).
//
// The share of values below the true quantile is level. Where the interval of
// that share, with the user as cluster, is level ± h, the quantile is between
// the quantiles at level − h and level + h (Woodruff, JASA 47, 1952; with
// confidence sequences Howard and Ramdas, Bernoulli 28, 2022). Between the
// levels that are there the outer one is taken. An upper bound that would be
// beyond the greatest value is infinite.
func (p Plan) Quantile(level, value float64, levels, values []float64, below query.Moments) Interval {
	share := p.Single(Ratio(below, Rate))
	if !share.Known || len(levels) == 0 || len(levels) != len(values) {
		return Interval{}
	}
	h := (share.Upper - share.Lower) / 2
	out := Interval{Value: value, Lower: 0, Upper: math.Inf(1), Known: true}
	for i, l := range levels {
		if l <= level-h {
			out.Lower = values[i]
		}
		if l >= level+h {
			out.Upper = values[i]
			break
		}
	}
	return out
}

// Minus is the interval of the difference of two independent figures whose
// intervals each hold with half the error: it holds with the whole.
func (i Interval) Minus(other Interval) Interval {
	if !i.Known || !other.Known {
		return Interval{}
	}
	return Interval{Value: i.Value - other.Value, Lower: i.Lower - other.Upper, Upper: i.Upper - other.Lower, Known: true}
}

// Power is the chance that a look at a given number of users, at which V is what
// it is now times users/then, finds an effect. It leaves out the chance of having
// found it at an earlier look: the true one is a little higher.
func (p Plan) Power(effect, variance, users, then float64) float64 {
	if effect == 0 || users <= 0 || then <= 0 {
		return 0
	}
	v := variance * users / then
	if v <= 0 {
		return 1
	}
	return normalCDF((math.Abs(effect) - p.half(v, then)) / math.Sqrt(v))
}

// Needed is the number of users, over both variants, at which an effect is found
// with a chance of 80 %, given that the estimate made of users has this variance.
func (p Plan) Needed(effect, variance, users float64) (needed float64, ok bool) {
	if effect == 0 || users <= 0 {
		return 0, false
	}
	low, high := 1.0, 1e12
	if p.Power(effect, variance, users, high) < targetPower {
		return 0, false
	}
	for range 100 {
		mid := math.Sqrt(low * high)
		if p.Power(effect, variance, users, mid) >= targetPower {
			high = mid
		} else {
			low = mid
		}
	}
	return math.Ceil(high - 1e-6), true
}

func normalCDF(x float64) float64 { return math.Erfc(-x/math.Sqrt2) / 2 }

// srmConcentration is the weight of the prior of [SampleRatio]: how near to the
// intended shares a broken assignment is looked for first. 500 users' worth finds
// a split of 52 to 48 in place of 50 to 50 within some thousands of users, and a
// grossly wrong one within a hundred.
const srmConcentration = 500

// SampleRatio compares how users fell to the variants with the shares that were
// intended.
type SampleRatio struct {
	ChiSquare float64 // Pearson's statistic, one degree of freedom fewer than variants
	P         float64 // of ChiSquare, at a single look
	AlwaysP   float64 // valid over all looks together; see CheckRatio
}

// CheckRatio tests counts against shares, which need not add up to 1. Users
// missing from one variant (for example because its calls fail before they are
// recorded) make an experiment worthless, regardless of its intervals.
//
// Looked at daily, a chi-square test finds a mismatch sooner or later if there is
// none. The always valid p-value is therefore one over the Bayes factor of a
// Dirichlet prior around the shares against the shares themselves (Lindon and
// Malek, "Anytime-valid inference for multinomial count data", NeurIPS 2022):
//
//	BF = Γ(k)/Γ(k+n) · Π Γ(k·θᵢ+nᵢ)/Γ(k·θᵢ) / Π θᵢ^nᵢ,   p = min(1, 1/BF)
func CheckRatio(counts, shares []float64) SampleRatio {
	var n, total float64
	for i := range counts {
		n += counts[i]
		total += shares[i]
	}
	out := SampleRatio{P: 1, AlwaysP: 1}
	if n == 0 || total <= 0 || len(counts) < 2 {
		return out
	}
	logBF := lgamma(srmConcentration) - lgamma(srmConcentration+n)
	for i, c := range counts {
		t := shares[i] / total
		if t <= 0 {
			if c > 0 {
				return SampleRatio{ChiSquare: math.Inf(1)}
			}
			continue
		}
		out.ChiSquare += (c - n*t) * (c - n*t) / (n * t)
		logBF += lgamma(srmConcentration*t+c) - lgamma(srmConcentration*t) - c*math.Log(t)
	}
	out.P = chiSquareTail(out.ChiSquare, float64(len(counts)-1))
	out.AlwaysP = min(1, math.Exp(-logBF))
	return out
}

func lgamma(x float64) float64 {
	v, _ := math.Lgamma(x)
	return v
}

// chiSquareTail is the upper tail of the chi-square distribution: the upper
// incomplete gamma function Q(k/2, x/2), by its series below k/2+1 and its
// continued fraction above (Abramowitz and Stegun 6.5.29 and 6.5.31).
func chiSquareTail(x, k float64) float64 {
	if x <= 0 {
		return 1
	}
	a, z := k/2, x/2
	scale := math.Exp(a*math.Log(z) - z - lgamma(a))
	if z < a+1 {
		sum, term := 1/a, 1/a
		for i := 1.0; i < 1000 && term > sum*1e-16; i++ {
			term *= z / (a + i)
			sum += term
		}
		return 1 - sum*scale
	}
	const tiny = 1e-300
	b := z + 1 - a
	c, d := 1/tiny, 1/b
	f := d
	for i := 1.0; i < 1000; i++ {
		an := -i * (i - a)
		b += 2
		d = 1 / nonZero(an*d+b, tiny)
		c = nonZero(b+an/c, tiny)
		f *= d * c
		if math.Abs(d*c-1) < 1e-15 {
			break
		}
	}
	return scale * f
}

func nonZero(x, tiny float64) float64 {
	if math.Abs(x) < tiny {
		return tiny
	}
	return x
}
