package stats

import (
	"encoding/json"
	"math"

	"gonum.org/v1/gonum/stat/distuv"
)

// DefaultAlpha is the false positive rate: the share of experiments without an
// effect in which a difference is found, however often they are checked.
const DefaultAlpha = 0.05

// targetPower is the power for which the number of users still needed is
// computed.
const targetPower = 0.8

// normal is the standard normal distribution.
var normal = distuv.UnitNormal

// Plan determines the width of intervals. It must be fixed before data is
// collected. Intervals are valid for any plan and narrowest at the planned number
// of users.
type Plan struct {
	Alpha float64 // over 0, below 1
	Users float64 // planned, over both variants; above 0

	// Spread is V·users of the estimate at the start, which says what information
	// the planned users amount to. 0: that of each estimate itself, which is
	// right at a single look and where V falls as 1/users.
	Spread float64
}

// Interval is an estimate with bounds that are valid at all looks of its design
// simultaneously.
type Interval struct {
	Value float64
	Lower float64
	Upper float64
	Known bool
	Level float64 // that it was made with: 0.95 is wrong in at most 5 % of experiments
}

// MarshalJSON writes null for what is unknown, and for a bound that is infinite.
func (i Interval) MarshalJSON() ([]byte, error) {
	if !i.Known {
		return []byte("null"), nil
	}
	bound := func(f float64) *float64 {
		if math.IsInf(f, 0) || math.IsNaN(f) {
			return nil
		}
		return &f
	}
	return json.Marshal(struct {
		Value float64  `json:"value"`
		Lower *float64 `json:"lower"`
		Upper *float64 `json:"upper"`
		Level float64  `json:"level,omitzero"`
	}{i.Value, bound(i.Lower), bound(i.Upper), i.Level})
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

// half is half the width of an interval around an estimate.
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
// where τ² is the variance of the mixture. It has to stay the same while data
// comes in: the clock is the information 1/V and not the number of users, who may
// return. τ² = c · Spread/planned, and c (tuning) makes the interval narrowest at
// the information of the planned users. There it is about one and a half times as
// wide as one that may be checked only once.
//
// The promise is asymptotic. Before means are about normal, the bound is that of a
// sub-gamma sum in place of a normal one, as in empirical-Bernstein bounds
// (Howard, Ramdas, McAuliffe and Sekhon, "Time-uniform, nonparametric, nonasymptotic
// confidence sequences", Annals of Statistics 49, 2021; for bounded scores
// Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting",
// JRSS B 86, 2024). Where the normal bound is half² = V·L, it solves
//
//	half² = L · (V + g·half),   g = 2/3 · |κ₃|/V
//
// which is the sub-gamma boundary of an empirical-Bernstein sequence (Howard et al.,
// theorem 4) with another scale: that theorem takes the largest value that a user can
// have, divided by the users, where |κ₃|/V is taken here. |κ₃|/V never exceeds it, and is
// what matters of it: rare ones of a rate count, a symmetric score costs nothing. κ₃ is
// the third cumulant. It can be computed from sums, of users with any number of calls who
// return; the sequence of Waudby-Smith and Ramdas needs one complete observation after the
// other.
func (p Plan) half(e Estimate) float64 {
	if e.Variance <= 0 {
		return 0
	}
	spread := p.Spread
	if spread <= 0 {
		spread = e.Variance * e.Users
	}
	r := tuning(p.Alpha) * spread / p.Users / e.Variance
	l := (1 + r) / r * (math.Log1p(r) + 2*math.Log(1/p.Alpha))
	return bernstein(l, e)
}

// bernstein is half the width with L times the variance, widened for skewness.
func bernstein(l float64, e Estimate) float64 {
	g := 2.0 / 3 * math.Abs(e.Third) / e.Variance
	return (l*g + math.Sqrt(l*l*g*g+4*l*e.Variance)) / 2
}

// around is the interval of half a width. Where nothing varied yet there are no bounds: an
// interval of width 0 would claim to know.
func around(e Estimate, half, alpha float64) Interval {
	if !e.Known {
		return Interval{}
	}
	if !(half > 0) {
		half = math.Inf(1)
	}
	return Interval{Value: e.Value, Lower: e.Value - half, Upper: e.Value + half, Known: true, Level: 1 - alpha}
}

// Interval is that of an estimate of both variants, such as their difference.
func (p Plan) Interval(e Estimate) Interval { return around(e, p.half(e), p.Alpha) }

// Difference is treatment − control.
func (p Plan) Difference(control, treatment Estimate) Interval {
	return p.Interval(treatment.Minus(control))
}

// Single is the interval of one variant's figure. Planned for both variants, the plan
// is treated as half as many users.
func (p Plan) Single(e Estimate) Interval {
	p.Users /= 2
	return around(e, p.half(e), p.Alpha)
}

// Clamp keeps the bounds of an interval within what a figure can be.
func (i Interval) Clamp(low, high float64) Interval {
	i.Lower, i.Upper = min(max(i.Lower, low), high), min(max(i.Upper, low), high)
	return i
}

// Intersect is the running intersection of intervals of one value that hold
// together: at least as narrow as each, and a bound that was passed stays passed. ok
// is false if they have nothing in common: then the value has changed over time, or
// the error of the level has happened. Unknown intervals say nothing.
func Intersect(looks []Interval) (last Interval, ok bool) {
	lower, upper := math.Inf(-1), math.Inf(1)
	for _, i := range looks {
		if i.Known {
			lower, upper, last = max(lower, i.Lower), min(upper, i.Upper), i
		}
	}
	if lower > upper {
		return last, false
	}
	if last.Known {
		last.Lower, last.Upper = lower, upper
	}
	return last, true
}

// maxNeeded is the greatest number of users that a forecast names.
const maxNeeded = 1e12

// Power is the chance that a look at a given number of users finds an effect, given an
// estimate of the users so far. It leaves out the chance of having found it at an
// earlier look: the true one is a little higher.
func (p Plan) Power(effect float64, e Estimate, users float64) float64 {
	if effect == 0 || users <= 0 || !e.Known {
		return 0
	}
	at := e.With(users)
	if at.Variance <= 0 {
		return 1
	}
	p.Spread = e.Variance * e.Users
	return normal.CDF((math.Abs(effect) - p.half(at)) / math.Sqrt(at.Variance))
}

// Needed is the number of users, over both variants, at which an effect is found
// with a chance of 80 %, given an estimate of the users so far.
func (p Plan) Needed(effect float64, e Estimate) (users float64, ok bool) {
	if effect == 0 || !e.Known {
		return 0, false
	}
	low, high := 1.0, maxNeeded
	if p.Power(effect, e, high) < targetPower {
		return 0, false
	}
	for range 100 {
		mid := math.Sqrt(low * high)
		if p.Power(effect, e, mid) >= targetPower {
			high = mid
		} else {
			low = mid
		}
	}
	return math.Ceil(high - 1e-6), true
}
