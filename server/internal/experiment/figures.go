package experiment

import (
	"cmp"
	"slices"
	"time"

	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/stats"
)

// Interval is an estimate with bounds, and the level that they were made with.
type Interval = stats.Interval

// DefaultAlpha is [Spec.Alpha] if none is given.
const DefaultAlpha = stats.DefaultAlpha

// method is how a metric is counted.
type method struct {
	scale   stats.Scale // with the ends of a winsorised amount
	trimmed bool        // the sums of users whose ratios are cut at the scale's ends
}

// method is that of metric k, by its kind and the limits that the store fixed at the start.
func (j *judging) method(k int, m Metric) method {
	if m.IsRate() {
		return method{scale: stats.Share}
	}
	var all query.Moments
	var limits stats.Scale
	for i := range j.d.Variants {
		f := j.figure(k, i)
		all, limits = all.Plus(f.Moments), cmp.Or(f.Limits, limits)
	}
	// Scores of 0 to 1: of any other, Σy² would be greater.
	if m.Measure == query.EvalScore && all.Y >= 0 && all.YY <= all.NY*(1+1e-9) {
		return method{scale: stats.Share}
	}
	return method{scale: limits, trimmed: limits.Bounded()}
}

// uncut is the scale of the values before they are cut.
func (w method) uncut() stats.Scale {
	if w.trimmed {
		return stats.Scale{}
	}
	return w.scale
}

// of are the sums of a look that the method counts.
func (w method) of(l query.Look) stats.Moments {
	if w.trimmed {
		return l.Trimmed
	}
	return l.Moments
}

// pair is what was known of the control and a treatment at one time.
type pair struct {
	at                 time.Time
	control, treatment query.Look
}

// pairs are the looks at metric k in the control and variant i, the last of them now.
func (j *judging) pairs(k, i int) []pair {
	looks := func(i int) []query.Look {
		f := j.figure(k, i)
		if len(f.Looks) == 0 {
			return []query.Look{{Moments: f.Moments, Trimmed: f.Trimmed}}
		}
		return f.Looks
	}
	control, treatment := looks(0), looks(i)
	var times []time.Time
	for _, l := range slices.Concat(control, treatment) {
		times = append(times, l.At)
	}
	slices.SortFunc(times, time.Time.Compare)
	var out []pair
	var p pair
	for _, at := range slices.CompactFunc(times, time.Time.Equal) {
		for len(control) > 0 && !control[0].At.After(at) {
			p.control, control = control[0], control[1:]
		}
		for len(treatment) > 0 && !treatment[0].At.After(at) {
			p.treatment, treatment = treatment[0], treatment[1:]
		}
		p.at = at
		out = append(out, p)
	}
	return out
}

// enough reports whether both variants had the users that a conclusion needs.
func (p pair) enough(users int) bool {
	return min(p.control.Users, p.treatment.Users) >= float64(users)
}

// difference is treatment − control as a method counts it, and the part of its variance
// that the users' own past took away.
func (j *judging) difference(p pair, w method) (d stats.Estimate, gain float64) {
	c, t := w.of(p.control), w.of(p.treatment)
	if j.d.CUPED == CUPEDOff {
		return stats.Ratio(t, w.scale).Minus(stats.Ratio(c, w.scale)), 0
	}
	control, treatment, gain := stats.Adjust(c, t, w.scale)
	return treatment.Minus(control), gain
}

// compare is the difference of variant i from the control in metric k.
func (j *judging) compare(k int, m Metric, i int, plan stats.Plan, planned bool) Comparison {
	c := Comparison{Variant: j.d.Variants[i].Key, Better: Unclear}
	if m.Quantile() > 0 {
		c.Interval = plan.QuantileDifference(j.quantile(k, m, 0), j.quantile(k, m, i))
		if c.settled = true; j.enough(k, 0) && j.enough(k, i) {
			c.Better = m.better(c.Interval)
		}
		return c
	}
	w, pairs := j.method(k, m), j.pairs(k, i)
	last := pairs[len(pairs)-1]
	now, gain := j.difference(last, w)
	c.VarianceReduction = gain
	// The clock: the information of the planned users, by the first look with enough of them.
	at := slices.IndexFunc(pairs, func(p pair) bool { return p.enough(j.d.MinUsers) })
	c.settled = true
	switch {
	case at < 0:
		c.Interval = plan.Interval(now)
	case planned:
		c.Interval, c.Changed = j.plannedLooks(pairs, w, plan.Alpha)
	default:
		start, _ := j.difference(pairs[at], w)
		plan.Spread = start.Variance * start.Users
		var looks []Interval
		for _, p := range pairs[at:] {
			d, _ := j.difference(p, w)
			looks = append(looks, plan.Interval(d))
		}
		var ok bool
		c.Interval, ok = stats.Intersect(looks)
		c.Changed = !ok
	}
	if w.trimmed || gain > 0 {
		plain := stats.Ratio(last.treatment.Moments, w.uncut()).Minus(stats.Ratio(last.control.Moments, w.uncut()))
		i := plan.Interval(plain)
		c.Unadjusted = &i
	}
	if m.Amount() && !w.trimmed && w.scale == (stats.Scale{}) {
		c.settled, _ = now.Settled()
	}
	if m.IsRate() {
		c.Interval = c.Interval.Clamp(-1, 1)
	}
	if at >= 0 && c.settled && !c.Changed {
		c.Better = m.better(c.Interval)
	}
	return c
}

// plannedLooks is the interval of the last planned look that has been; unknown before the
// first. Once the experiment is stopped there are no more looks: their data never came.
func (j *judging) plannedLooks(pairs []pair, w method, alpha float64) (last Interval, changed bool) {
	end := j.now
	if !j.d.Stopped.IsZero() && j.d.Stopped.Before(end) {
		end = j.d.Stopped
	}
	var estimates []stats.Estimate
	for k := 1; k <= j.d.Looks; k++ {
		date := j.d.look(k)
		if date.After(end) {
			break
		}
		var p pair
		for _, x := range pairs {
			if !x.at.After(date) {
				p = x
			}
		}
		e, _ := j.difference(p, w)
		e.Known = e.Known && p.enough(j.d.MinUsers)
		estimates = append(estimates, e)
	}
	last, ok := stats.Intersect(stats.Planned{Alpha: alpha, Looks: j.d.Looks}.Intervals(estimates))
	return last, !ok
}

// metric reports metric k for all variants.
func (j *judging) metric(k int, m Metric, plan stats.Plan, planned bool) MetricReport {
	r := MetricReport{Metric: m, Label: m.Label(), Unit: m.Unit(), Values: []Value{}, Differences: []Comparison{}}
	w := j.method(k, m)
	if w.trimmed {
		r.Winsorised = &Winsorised{Low: w.scale.Low, High: w.scale.High}
	}
	for i, a := range j.d.Variants {
		f := j.figure(k, i)
		v := Value{Variant: a.Key, Users: int64(f.Users), Count: f.N, settled: true}
		if m.Quantile() > 0 {
			v.Interval = plan.Quantile(j.quantile(k, m, i))
		} else {
			e := stats.Ratio(f.Moments, w.uncut())
			v.Interval = plan.Single(e)
			if m.Amount() && w.scale != stats.Share {
				v.settled, v.needed = e.Settled()
			}
			if w.trimmed {
				x := plan.Single(stats.Ratio(f.Trimmed, w.scale))
				v.Winsorised, v.below = &x, w.scale.Low == 0
			}
		}
		if m.IsRate() {
			v.Interval = v.Interval.Clamp(0, 1)
		}
		r.Values = append(r.Values, v)
	}
	for i := 1; i < len(j.d.Variants); i++ {
		r.Differences = append(r.Differences, j.compare(k, m, i, plan, planned))
	}
	return r
}

// quantile is metric k, a quantile, in variant i.
func (j *judging) quantile(k int, m Metric, i int) stats.Quantile {
	f := j.figure(k, i)
	return stats.Quantile{Level: m.Quantile(), Value: f.Value.Value, Known: f.Value.Known, Levels: f.Levels, Values: f.Values, Below: f.Moments}
}

// better is what an interval says of a difference.
func (m Metric) better(i Interval) string {
	switch up := m.Better == Up; {
	case !i.Known:
	case up && i.Lower > 0, !up && i.Upper < 0:
		return Yes
	case up && i.Upper < 0, !up && i.Lower > 0:
		return No
	}
	return Unclear
}

// beyond and within are whether the whole interval is on one side of a guardrail's limit.
func (g *Guardrail) beyond(i Interval) bool {
	if g.Better == Up {
		return i.Upper < g.Limit
	}
	return i.Lower > g.Limit
}

func (g *Guardrail) within(i Interval) bool {
	if g.Better == Up {
		return i.Lower >= g.Limit
	}
	return i.Upper <= g.Limit
}

// status is what a guardrail's limit for a treatment's own value says of it. The mean of an
// amount is known only once enough users came for its skewness. Before, it can be
// known to be broken: cutting the highest values does not raise a mean.
func (g *Guardrail) status(v Value) string {
	switch {
	case v.settled && g.beyond(v.Interval):
		return GuardBroken
	case v.settled && g.within(v.Interval):
		return GuardOK
	case v.Winsorised == nil || !v.below:
	case g.Better == Down && g.beyond(*v.Winsorised):
		return GuardBroken
	case g.Better == Up && g.within(*v.Winsorised):
		return GuardOK
	}
	return GuardUnclear
}

// status is what a guardrail's limit for a difference says of it.
func (c *Comparison) status(g *Guardrail) string {
	switch {
	case c.Changed || !c.settled:
	case g.beyond(c.Interval):
		return GuardBroken
	case g.within(c.Interval):
		return GuardOK
	}
	return GuardUnclear
}
