package stats

import "math"

// Quantile is a quantile of the values of one variant, with those around it. Levels
// and Values are ascending. Below counts, of each user, how many of their values (n)
// are not above the estimated quantile (y).
type Quantile struct {
	Level  float64
	Value  float64
	Known  bool
	Levels []float64
	Values []float64
	Below  Moments
}

// share is the estimated share of values below the quantile.
func (q Quantile) share() Estimate {
	e := Ratio(q.Below, Share)
	e.Known = e.Known && q.Known && len(q.Levels) > 0 && len(q.Levels) == len(q.Values)
	return e
}

// between are the values at level − h and level + h. Between the levels that are there
// the outer one is taken; beyond them, 0 and infinity.
func (q Quantile) between(h float64) (low, high float64) {
	high = math.Inf(1)
	for i, l := range q.Levels {
		if l <= q.Level-h {
			low = q.Values[i]
		}
		if l >= q.Level+h {
			return low, q.Values[i]
		}
	}
	return low, high
}

// Quantile is the interval of a quantile, from the quantiles around it.
//
// The share of values below the true quantile is level. Where the interval of
// that share, with the user as cluster, is level ± h, the quantile is between
// the quantiles at level − h and level + h (Woodruff, JASA 47, 1952; with
// confidence sequences Howard and Ramdas, Bernoulli 28, 2022). An upper bound that
// would be beyond the greatest value is infinite.
func (p Plan) Quantile(q Quantile) Interval {
	share := p.Single(q.share())
	if !share.Known {
		return Interval{}
	}
	i := Interval{Value: q.Value, Known: true, Level: share.Level}
	i.Lower, i.Upper = q.between((share.Upper - share.Lower) / 2)
	return i
}

// outer is the fixed-sample level whose interval of a quantile determines its variance.
const outer = 1.959963984540054 // 95 %

// estimate is a quantile with the variance that its interval implies ("outer
// confidence interval": Deng, Knoblich and Lu, KDD 2018, section 4.2):
//
//	Var(Q) = ((U − L) / (2z))²
//
// where L and U are the quantiles at level ± z·√Var(share), and z is 1.96. The
// quantile's own interval is not symmetric: the greater side counts for both, which
// matters where few values lie above. Not known while U is beyond the greatest value.
func (q Quantile) estimate() Estimate {
	e := q.share()
	if !e.Known {
		return Estimate{Users: e.Users}
	}
	low, high := q.between(outer * math.Sqrt(e.Variance))
	if math.IsInf(high, 1) {
		return Estimate{Users: e.Users}
	}
	side := max(q.Value-low, high-q.Value) / outer
	e.Value, e.Variance, e.Third = q.Value, side*side, 0
	return e
}

// QuantileDifference is treatment − control of two quantiles: one sequence on the
// difference, whose variance is the sum of both. Two sequences of half
// the error each, subtracted, would need three times as many users. Spread of
// the plan is not used.
func (p Plan) QuantileDifference(control, treatment Quantile) Interval {
	p.Spread = 0
	d := treatment.estimate().Minus(control.estimate())
	if !d.Known && control.share().Known && treatment.share().Known {
		d = Estimate{Value: treatment.Value - control.Value, Known: true} // without bounds yet
	}
	return p.Interval(d)
}
