package experiment

import (
	"math"

	"github.com/hedgerow/hedgerow/server/internal/stats"
)

// Interval is an estimate with bounds, and the level that they were made with.
type Interval = stats.Interval

// DefaultAlpha is [Spec.Alpha] if none is given.
const DefaultAlpha = stats.DefaultAlpha

// estimate is metric k in variant i, the k-th that was requested.
func (j *judging) estimate(k int, m Metric, i int) stats.Estimate {
	return stats.Ratio(j.figure(k, i).Moments, scale(m))
}

// scale is what a user's value of a metric can be.
func scale(m Metric) stats.Scale {
	if m.IsRate() {
		return stats.Share
	}
	return stats.Scale{}
}

// quantile is metric k, a quantile, in variant i.
func (j *judging) quantile(k int, m Metric, i int) stats.Quantile {
	f := j.figure(k, i)
	return stats.Quantile{Level: m.Quantile(), Value: f.Value.Value, Known: f.Value.Known, Levels: f.Levels, Values: f.Values, Below: f.Moments}
}

// metric reports metric k for all variants.
func (j *judging) metric(k int, m Metric, plan stats.Plan) MetricReport {
	r := MetricReport{Metric: m, Label: m.Label(), Unit: m.Unit(), Values: []Value{}, Differences: []Comparison{}}
	low, high := math.Inf(-1), math.Inf(1)
	if m.IsRate() {
		low, high = 0, 1
	}
	for i, a := range j.d.Variants {
		f := j.figure(k, i)
		v := Value{Variant: a.Key, Users: int64(f.Users), Count: f.N}
		if m.Quantile() > 0 {
			v.Interval = plan.Quantile(j.quantile(k, m, i))
		} else {
			v.Interval = plan.Single(j.estimate(k, m, i)).Clamp(low, high)
		}
		r.Values = append(r.Values, v)
	}
	for i := 1; i < len(j.d.Variants); i++ {
		c := Comparison{Variant: j.d.Variants[i].Key, Better: Unclear}
		if m.Quantile() > 0 {
			c.Interval = plan.QuantileDifference(j.quantile(k, m, 0), j.quantile(k, m, i))
		} else {
			c.Interval = plan.Difference(j.estimate(k, m, 0), j.estimate(k, m, i))
			if m.IsRate() {
				c.Interval = c.Interval.Clamp(-1, 1)
			}
		}
		if c.Interval.Known && j.enough(k, 0) && j.enough(k, i) {
			c.Better = m.better(c.Interval)
		}
		r.Differences = append(r.Differences, c)
	}
	return r
}

// better is what an interval says of a difference.
func (m Metric) better(i Interval) string {
	switch up := m.Better == Up; {
	case up && i.Lower > 0, !up && i.Upper < 0:
		return Yes
	case up && i.Upper < 0, !up && i.Lower > 0:
		return No
	}
	return Unclear
}
