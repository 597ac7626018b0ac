package experiment

import (
	"cmp"
	"context"
	"math"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/stats"
)

// Forecast is what each design would need to detect the effect of a definition that has not
// begun, by the traffic of the last four weeks.
type Forecast struct {
	Users  int64   // of that time, who would take part
	PerDay float64 // of them
	Effect float64 // in the primary metric's unit

	Anytime      event.Opt[float64] // users over all variants, for a power of 80 %
	PlannedLooks event.Opt[float64]
	Looks        int // of the planned looks

	VarianceReduction float64 // by the users' own past
}

// Baseliner reads the figures of an experiment's users before it begins; *query.Reader does.
type Baseliner interface {
	Baseline(ctx context.Context, q query.ExperimentQuery) (query.Cell, error)
}

// Days is how long that many users take, by the traffic so far.
func (f Forecast) Days(users event.Opt[float64]) event.Opt[float64] {
	if !users.Known || f.PerDay <= 0 {
		return event.Opt[float64]{}
	}
	return event.Some(math.Ceil(users.Value / f.PerDay))
}

// ForecastOf forecasts a definition, which need not be complete: it needs a primary metric.
func ForecastOf(ctx context.Context, ask Baseliner, project string, s Spec, now time.Time) (Forecast, error) {
	f := Forecast{Looks: cmp.Or(s.Looks, defaultLooks)}
	if err := s.Primary.normalise(); err != nil {
		return f, err
	}
	d := Definition{Project: project, Spec: s, Started: now.AddDate(0, 0, -pastDays)}
	d.Guardrails, d.MinUsers = nil, cmp.Or(d.MinUsers, DefaultMinUsers)
	c, err := ask.Baseline(ctx, d.question(now, query.ByNone))
	if err != nil {
		return f, err
	}
	f.Users, f.PerDay = c.Users, float64(c.Users)/pastDays
	// One population in place of two variants.
	j := &judging{d: d, cells: []*query.Cell{&c}, now: now}
	j.d.Variants = []Variant{{}}
	w := j.method(0, s.Primary)
	m := w.of(query.Look{Moments: c.Figures[0].Moments, Trimmed: c.Figures[0].Trimmed})
	e := stats.Ratio(m, w.scale)
	if d.CUPED != CUPEDOff {
		_, e, f.VarianceReduction = stats.Adjust(m, m, w.scale)
	}
	if !e.Known || e.Variance <= 0 {
		return f, nil
	}
	f.Effect = s.Primary.effect(s.Detect, e)
	treated := s.Primary.shifted(e, f.Effect)
	alpha := cmp.Or(s.Alpha, DefaultAlpha) / float64(max(1, len(s.Variants)-1))
	var total float64
	for _, v := range s.Variants {
		total += cmp.Or(v.Share, 1)
	}
	// The treatment that needs the most users decides.
	for i := 1; i < len(s.Variants); i++ {
		control, treatment := cmp.Or(s.Variants[0].Share, 1), cmp.Or(s.Variants[i].Share, 1)
		both := control + treatment
		diff := treated.With(e.Users * treatment / both).Minus(e.With(e.Users * control / both))
		plan := stats.Plan{Alpha: alpha, Users: float64(cmp.Or(s.Planned, DefaultPlanned)) * 2 / float64(len(s.Variants))}
		more := func(have event.Opt[float64], needed float64, ok bool) event.Opt[float64] {
			needed *= total / both
			if !ok || have.Known && have.Value >= needed {
				return have
			}
			return event.Some(math.Ceil(needed))
		}
		n, ok := plan.Needed(f.Effect, diff)
		f.Anytime = more(f.Anytime, n, ok)
		n, ok = stats.Planned{Alpha: alpha, Looks: f.Looks}.Needed(f.Effect, diff)
		f.PlannedLooks = more(f.PlannedLooks, n, ok)
	}
	return f, nil
}

// effect is the difference that is looked for: the one that was chosen, else 5 points of a
// rate, or a tenth of what the control has.
func (m Metric) effect(detect float64, control stats.Estimate) float64 {
	switch {
	case detect > 0:
		return detect
	case m.IsRate():
		return 0.05
	case control.Known:
		return math.Abs(control.Value) / 10
	}
	return 0
}

// shifted is the estimate of a variant in which the effect is there: the variance of a rate
// changes with it.
func (m Metric) shifted(e stats.Estimate, effect float64) stats.Estimate {
	if !m.IsRate() {
		return e
	}
	if m.Better == Down {
		effect = -effect
	}
	before, after := e.Value, min(max(e.Value+effect, 0), 1)
	if before <= 0 || before >= 1 || after <= 0 || after >= 1 {
		return e
	}
	e.Variance *= after * (1 - after) / (before * (1 - before))
	return e
}
