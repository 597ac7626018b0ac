package experiment

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/stats"
)

// State is the state of an experiment.
type State string

// The states. [Report.Summary] explains each.
const (
	Draft        State = "draft"            // has not begun
	Collecting   State = "collecting"       // nothing can be concluded yet
	Winner       State = "winner"           // a variant is better, and no guardrail is broken
	Broken       State = "guardrail_broken" // a treatment does harm
	Inconclusive State = "inconclusive"     // no difference was found where one would have been, or the variants cannot be compared
)

// Report is the result of an experiment at one time.
type Report struct {
	At         time.Time `json:"at"`
	State      State     `json:"state"`
	Winner     string    `json:"winner"`  // variant; "" if there is none
	Summary    string    `json:"summary"` // one sentence
	Why        []string  `json:"why"`     // further ones
	Running    bool      `json:"running"`
	Record     Record    `json:"record"`         // of the definition
	Levels     string    `json:"levels"`         // of the intervals, and how the error is shared
	MixedUsers int64     `json:"mixed_users"`    // users who met more than one variant; they count for the first one, or not at all if the definition excludes them
	Excluded   int64     `json:"excluded_users"` // bots and others whom the definition excludes

	Variants    []VariantReport   `json:"arms"` // in the definition's order, the control first
	Primary     MetricReport      `json:"primary"`
	Guardrails  []GuardrailReport `json:"guardrails"`
	SampleRatio RatioReport       `json:"sample_ratio"`
	Mixing      RatioReport       `json:"mixed_ratio"` // the same of the users who met more than one variant, by their first
	Segments    SegmentRatios     `json:"segment_sample_ratios"`
	Power       []PowerReport     `json:"power"` // of each treatment
}

// SegmentRatios is the sample ratio check of each segment of the definition's breakdowns. All
// of them together have the error of one check.
type SegmentRatios struct {
	Checked    int            `json:"checked"`
	Mismatches []SegmentRatio `json:"mismatches"`
}

// SegmentRatio is the sample ratio check of one segment.
type SegmentRatio struct {
	By    query.GroupBy `json:"by"`
	Value string        `json:"value"` // of the breakdown
	RatioReport
}

// VariantReport is the users of one variant.
type VariantReport struct {
	Key       string     `json:"key"`
	Control   bool       `json:"control"`
	Intended  float64    `json:"intended_share"` // of the users, 0 to 1
	Users     int64      `json:"users"`
	Mixed     int64      `json:"mixed_users"`     // met this variant first, and another later
	Excluded  int64      `json:"excluded_users"`  // met it first, and are excluded as bots or otherwise by rule
	Calls     int64      `json:"calls"`           // that its figures count
	Versions  []string   `json:"prompt_versions"` // that really ran
	FirstSeen *time.Time `json:"first_seen"`
	LastSeen  *time.Time `json:"last_seen"`
}

// MetricReport is one metric for all variants.
type MetricReport struct {
	Metric      Metric       `json:"metric"`
	Label       string       `json:"label"`
	Unit        string       `json:"unit"`        // "share", "ms", "usd" or "" (a plain number)
	Values      []Value      `json:"values"`      // of each variant, in order
	Differences []Comparison `json:"differences"` // of each treatment, in order

	Winsorised *Winsorised `json:"winsorised,omitempty"` // of an amount
}

// Winsorised are the limits of an amount, fixed at the start: a user's ratio beyond one counts
// as that limit in differences.
type Winsorised struct {
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

// Value is a metric for one variant.
type Value struct {
	Variant  string   `json:"arm"`
	Users    int64    `json:"users"` // who say anything about it
	Count    float64  `json:"count"` // tasks, calls …: what the figure is a share or mean of
	Interval Interval `json:"interval"`

	Winsorised *Interval `json:"winsorised,omitempty"` // of an amount, with users cut at the metric's limits

	settled bool    // the mean is about normal
	needed  float64 // users at which it is, by its skewness so far
	below   bool    // the winsorised mean is not above the mean
}

// Comparison is a treatment against the control.
type Comparison struct {
	Variant  string   `json:"arm"`
	Interval Interval `json:"interval"` // treatment − control
	Better   string   `json:"better"`   // "yes", "no" or "unclear", by the interval

	Unadjusted        *Interval `json:"unadjusted,omitempty"` // without winsorising and the users' own past, where one of them is used
	VarianceReduction float64   `json:"variance_reduction"`   // part of the variance that the users' own past explains: as many fewer users are needed
	Changed           bool      `json:"changed_over_time"`    // no value agrees with the intervals of all looks

	settled bool
}

// Values of [Comparison.Better].
const (
	Yes     = "yes"
	No      = "no"
	Unclear = "unclear"
)

// GuardrailReport is one guardrail for all treatments.
type GuardrailReport struct {
	MetricReport
	Limit    float64          `json:"limit"`
	Relative bool             `json:"relative"`
	Words    string           `json:"words"` // "at most 2 points more than control"
	Checks   []GuardrailCheck `json:"checks"`
}

// GuardrailCheck is one treatment against a limit.
type GuardrailCheck struct {
	Variant string `json:"arm"`
	Status  string `json:"status"` // "ok", "broken", "unclear" or "no data"
	Words   string `json:"words"`
	Within  bool   `json:"within"` // the estimate itself is within the limit
}

// Statuses of a [GuardrailCheck]. It is ok or broken only if the whole interval
// is on one side of the limit.
const (
	GuardOK      = "ok"
	GuardBroken  = "broken"
	GuardUnclear = "unclear"
	GuardNoData  = "no data"
)

// RatioReport is the check for a sample ratio mismatch.
type RatioReport struct {
	ChiSquare float64 `json:"chi_square"`
	P         float64 `json:"p_at_one_look"`
	AlwaysP   float64 `json:"p_always_valid"`
	Mismatch  bool    `json:"mismatch"`
	Words     string  `json:"words"`
}

// PowerReport is the statistical power and the users still needed.
type PowerReport struct {
	Variant string             `json:"arm"`
	Effect  float64            `json:"effect"`       // that is looked for, in the metric's unit
	Power   event.Opt[float64] `json:"power"`        // of finding it with the users that there are
	Needed  event.Opt[float64] `json:"users_needed"` // over both variants, for a power of 80 %
	Have    int64              `json:"users"`

	NeededPlanned     event.Opt[float64] `json:"users_needed_planned_looks"` // with planned looks in place of a result at any time
	VarianceReduction float64            `json:"variance_reduction"`         // by the users' own past, which the users needed take into account

	PerDay   event.Opt[float64] `json:"users_per_day"` // new users so far
	DaysLeft event.Opt[float64] `json:"days_left"`
}

// Asker runs an experiment's query; *query.Reader implements it.
type Asker interface {
	Experiment(ctx context.Context, q query.ExperimentQuery) (*query.Experiment, error)
}

// Evaluate reads an experiment's variants and reports its result at one time.
func Evaluate(ctx context.Context, ask Asker, d Definition, now time.Time) (*Report, error) {
	r, err := evaluate(ctx, ask, d, now)
	if err != nil || d.Started.IsZero() {
		return r, err
	}
	if r.Segments, err = segmentRatios(ctx, ask, d, now); err != nil {
		return nil, err
	}
	for _, s := range r.Segments.Mismatches {
		r.Why = append(r.Why, s.Words)
	}
	return r, nil
}

// evaluate is Evaluate without the sample ratio of segments.
func evaluate(ctx context.Context, ask Asker, d Definition, now time.Time) (*Report, error) {
	if d.Started.IsZero() {
		return judge(d, new(query.Experiment), now), nil
	}
	x, err := ask.Experiment(ctx, d.question(now, query.ByNone))
	if err != nil {
		return nil, err
	}
	return judge(d, x, now), nil
}

// Segment is an experiment among some of its users.
type Segment struct {
	Value       string          `json:"value"` // of the breakdown, from the user's first event in the variant
	Variants    []VariantReport `json:"arms"`
	SampleRatio RatioReport     `json:"sample_ratio"` // all segments together have the error of one check
	Primary     MetricReport    `json:"primary"`
	Guardrails  []MetricReport  `json:"guardrails"`
}

// Segmented reads the variants by a breakdown. Its intervals are for exploration
// and not for decisions: each is valid on its own, and one of twenty segments
// without a difference shows one by chance.
func Segmented(ctx context.Context, ask Asker, d Definition, by query.GroupBy, now time.Time) ([]Segment, error) {
	if !validSegment(by) {
		return nil, errSegment()
	}
	if d.Started.IsZero() {
		return []Segment{}, nil
	}
	x, err := ask.Experiment(ctx, d.question(now, by))
	if err != nil {
		return nil, err
	}
	out := []Segment{}
	segments := bySegment(x)
	for _, cells := range segments {
		j := newJudge(d, cells, now)
		variants := j.variants()
		s := Segment{Value: cells[0].Segment, Variants: variants, SampleRatio: j.sampleRatio(variants, MismatchLevel/float64(len(segments))), Primary: j.metric(0, d.Primary, j.plan, false), Guardrails: []MetricReport{}}
		for k, g := range d.Guardrails {
			s.Guardrails = append(s.Guardrails, j.metric(k+1, g.Metric, j.guard, false))
		}
		out = append(out, s)
	}
	return out, nil
}

// bySegment are the cells of each segment, which follow each other.
func bySegment(x *query.Experiment) (out [][]query.Cell) {
	for i := 0; i < len(x.Cells); {
		n := 1
		for i+n < len(x.Cells) && x.Cells[i+n].Segment == x.Cells[i].Segment {
			n++
		}
		out = append(out, x.Cells[i:i+n])
		i += n
	}
	return out
}

// judging is one evaluation.
type judging struct {
	d     Definition
	cells []*query.Cell // of each variant; nil where it has no users
	plan  stats.Plan
	guard stats.Plan // of the guardrails
	now   time.Time
}

func newJudge(d Definition, cells []query.Cell, now time.Time) *judging {
	j := &judging{d: d, now: now, cells: make([]*query.Cell, len(d.Variants))}
	for i := range cells {
		if at := slices.IndexFunc(d.Variants, func(a Variant) bool { return a.Key == cells[i].Variant }); at >= 0 {
			j.cells[at] = &cells[i]
		}
	}
	// Each treatment has its part of the error (Bonferroni), and of the plan.
	j.plan = stats.Plan{Alpha: d.Alpha / float64(len(d.Variants)-1), Users: float64(d.Planned) * 2 / float64(len(d.Variants))}
	j.guard = j.plan
	j.guard.Alpha *= guardShare(len(d.Guardrails))
	return j
}

// guardShare is each guardrail's part of the error of an experiment with n of them,
// so that in no more than alpha of the experiments that do no harm, however often
// one looks, any guardrail breaks (Bonferroni). A guardrail breaks on one side
// only, so that an interval which errs on both in alpha of all experiments gives a
// false alarm in half of them: two guardrails need no correction yet.
func guardShare(n int) float64 { return min(1, 2/float64(max(n, 1))) }

func (j *judging) variants() []VariantReport {
	var total float64
	for _, a := range j.d.Variants {
		total += a.Share
	}
	out := []VariantReport{}
	for i, a := range j.d.Variants {
		r := VariantReport{Key: a.Key, Control: i == 0, Intended: a.Share / total, Versions: []string{}}
		if c := j.cells[i]; c != nil {
			r.Users, r.Mixed, r.Excluded, r.Calls, r.Versions = c.Users, c.Mixed, c.Excluded, c.Calls, c.Versions
			if c.Users > 0 {
				r.FirstSeen, r.LastSeen = &c.First, &c.Last
			}
		}
		out = append(out, r)
	}
	return out
}

// figure is metric k in variant i, the k-th that was requested.
func (j *judging) figure(k, i int) query.Figure {
	if c := j.cells[i]; c != nil && k < len(c.Figures) {
		return c.Figures[k]
	}
	return query.Figure{}
}

// enough reports whether variant i has enough users for a conclusion on metric k.
func (j *judging) enough(k, i int) bool {
	return j.figure(k, i).Users >= float64(j.d.MinUsers)
}

func (j *judging) guardrail(k int, g Guardrail) GuardrailReport {
	r := GuardrailReport{MetricReport: j.metric(k, g.Metric, j.guard, false), Limit: g.Limit, Relative: g.Relative, Words: g.Words(j.d.Variants[0].Key), Checks: []GuardrailCheck{}}
	for i := 1; i < len(j.d.Variants); i++ {
		c := GuardrailCheck{Variant: j.d.Variants[i].Key, Status: GuardNoData}
		x, control := r.Values[i].Interval, r.Values[0].Interval
		enough := j.enough(k, i)
		if g.Relative {
			x, enough = r.Differences[i-1].Interval, enough && j.enough(k, 0)
		}
		if !x.Known {
			c.Words = fmt.Sprintf("%s: no data for %s yet", g.Label(), c.Variant)
			r.Checks = append(r.Checks, c)
			continue
		}
		c.Within = x.Value <= g.Limit
		if g.Better == Up {
			c.Within = x.Value >= g.Limit
		}
		c.Status = g.status(r.Values[i])
		if g.Relative {
			c.Status = r.Differences[i-1].status(&g)
		}
		if !enough {
			c.Status = GuardUnclear
		}
		measured := g.Format(x)
		if g.Relative {
			measured = g.FormatDifference(x)
		}
		c.Words = fmt.Sprintf("%s of %s is %s; the limit is %s", g.Label(), c.Variant, measured, g.Words(j.d.Variants[0].Key))
		if v := r.Values[i]; c.Status == GuardUnclear && !g.Relative && !v.settled {
			c.Words += fmt.Sprintf("; it is not known yet whether it holds, because few users have much of the total: about %s users of %s are needed", count(int64(v.needed)), c.Variant)
		}
		if c.Status == GuardBroken && !g.Relative && control.Known && (g.Better == Up) == (control.Value < g.Limit) && control.Value != g.Limit {
			c.Words += fmt.Sprintf("; %s is beyond the limit too, at %s", j.d.Variants[0].Key, g.Number(control.Value))
		}
		r.Checks = append(r.Checks, c)
	}
	return r
}

// judge makes the report.
func judge(d Definition, x *query.Experiment, now time.Time) *Report {
	j := newJudge(d, x.Cells, now)
	r := &Report{At: now.UTC(), Running: d.Running(), Levels: j.levels(), Record: j.record(), Variants: j.variants(), Primary: j.metric(0, d.Primary, j.plan, d.Design == PlannedLooks), Guardrails: []GuardrailReport{}, Segments: SegmentRatios{Mismatches: []SegmentRatio{}}, Power: []PowerReport{}, Why: []string{}}
	for k, g := range d.Guardrails {
		r.Guardrails = append(r.Guardrails, j.guardrail(k+1, g))
	}
	for _, a := range r.Variants {
		r.MixedUsers, r.Excluded = r.MixedUsers+a.Mixed, r.Excluded+a.Excluded
	}
	r.SampleRatio, r.Mixing = j.sampleRatio(r.Variants, MismatchLevel), j.mixing(r.Variants)
	j.power(r)
	j.verdict(r)
	return r
}

func (j *judging) power(r *Report) {
	for i := 1; i < len(j.d.Variants); i++ {
		pairs := j.pairs(0, i)
		last, w := pairs[len(pairs)-1], j.method(0, j.d.Primary)
		control := stats.Ratio(w.of(last.control), w.scale)
		now, gain := j.difference(last, w)
		p := PowerReport{Variant: j.d.Variants[i].Key, Effect: j.d.Primary.effect(j.d.Detect, control), Have: int64(now.Users), VarianceReduction: gain}
		if now.Known && p.Effect > 0 {
			have := now.Users
			looks := stats.Planned{Alpha: j.plan.Alpha, Looks: cmp.Or(j.d.Looks, defaultLooks)}
			p.Power = event.Some(j.plan.Power(p.Effect, now, have))
			if j.d.Design == PlannedLooks {
				p.Power.Value = looks.Power(p.Effect, now, have)
			}
			if n, ok := j.plan.Needed(p.Effect, now); ok {
				p.Needed = event.Some(n)
			}
			if n, ok := looks.Needed(p.Effect, now); ok {
				p.NeededPlanned = event.Some(n)
			}
			needed := p.NeededBy(j.d.Design)
			end := j.now
			if !j.d.Stopped.IsZero() {
				end = j.d.Stopped
			}
			if days := end.Sub(j.d.Started).Hours() / 24; days > 1.0/24 { // before that it says nothing
				p.PerDay = event.Some(have / days)
				if needed.Known && j.d.Running() {
					p.DaysLeft = event.Some(max(0, needed.Value-have) / (have / days))
				}
			}
		}
		r.Power = append(r.Power, p)
	}
}

// NeededBy are the users that a design needs.
func (p *PowerReport) NeededBy(design string) event.Opt[float64] {
	if design == PlannedLooks {
		return p.NeededPlanned
	}
	return p.Needed
}

// nextLook says when the next planned look is, and what was known at the last.
func (j *judging) nextLook(r *Report) string {
	k := 1
	for k < j.d.Looks && !j.d.look(k).After(j.now) {
		k++
	}
	s := fmt.Sprintf("The next planned look is on %s (%d of %d).", j.d.look(k).UTC().Format(time.DateOnly), k, j.d.Looks)
	if k > 1 {
		s += " Not significant at the last one: " + j.differences(r) + "."
	}
	return s
}

// levels says what the intervals' levels are and how the error is shared.
func (j *judging) levels() string {
	looks := "however often you look"
	if j.d.Design == PlannedLooks {
		looks = fmt.Sprintf("over all %d planned looks", j.d.Looks)
	}
	s := fmt.Sprintf("The primary metric’s intervals have a level of %s: of experiments without an effect at most %s find one, %s", Level(1-j.plan.Alpha), Level(j.d.Alpha), looks)
	if n := len(j.d.Variants) - 1; n > 1 {
		s += fmt.Sprintf("; the error is shared among %d treatments", n)
	}
	switch n := len(j.d.Guardrails); {
	case n == 1:
		s += fmt.Sprintf(". The guardrail’s have %s, however often you look", Level(1-j.guard.Alpha))
	case n > 1:
		s += fmt.Sprintf(". Those of each of %d guardrails have %s, so that any of them breaks without harm in at most %s, however often you look", n, Level(1-j.guard.Alpha), Level(j.d.Alpha))
	}
	return s + "."
}

// verdict sets the state and its reasons. A broken guardrail comes first. Then
// there is no result while there is a sample ratio mismatch or there are too few
// users.
func (j *judging) verdict(r *Report) {
	control := j.d.Variants[0].Key
	r.Why = append(r.Why, j.mixed(r)...)
	for _, g := range r.Guardrails {
		for _, c := range g.Checks {
			if c.Status == GuardBroken {
				if r.State = Broken; r.Summary == "" {
					r.Summary = sentence(c.Words)
				} else {
					r.Why = append(r.Why, sentence(c.Words))
				}
			}
		}
	}
	if r.State == Broken {
		return
	}
	if j.d.Started.IsZero() {
		r.State, r.Summary = Draft, "The experiment has not started."
		return
	}
	short := j.short(r)
	if r.SampleRatio.Mismatch {
		r.State, r.Summary = Inconclusive, r.SampleRatio.Words
		return
	}
	if r.Mixing.Mismatch && j.d.Exclude.Mixed {
		r.State, r.Summary = Inconclusive, r.Mixing.Words+" With them excluded the variants cannot be compared: let them count for the variant that they saw first."
		return
	}
	if short != "" {
		if r.State, r.Summary = Collecting, short; !j.d.Stopped.IsZero() {
			r.State, r.Summary = Inconclusive, "Stopped before there were enough users: "+lower(short)
		}
		return
	}

	if slices.ContainsFunc(r.Primary.Differences, func(c Comparison) bool { return c.Changed }) {
		r.State = Inconclusive
		r.Summary = fmt.Sprintf("The effect changed over time: no single difference in %s agrees with what was known at each look, so there is no winner. Now %s.", j.d.Primary.Label(), j.differences(r))
		return
	}

	best, lost := -1, 0
	var held []string
	for i, c := range r.Primary.Differences {
		switch c.Better {
		case No:
			lost++
		case Yes:
			if bad := j.outside(r, i); len(bad) > 0 {
				held = append(held, fmt.Sprintf("%s is better by %s, but cannot win while %s.", c.Variant, j.d.Primary.FormatDifference(c.Interval), strings.Join(bad, " and ")))
				continue
			}
			if best < 0 || better(j.d.Primary, c.Interval, r.Primary.Differences[best].Interval) {
				best = i
			}
		}
	}
	r.Why = append(r.Why, held...)
	switch {
	case best >= 0:
		c := r.Primary.Differences[best]
		r.State, r.Winner = Winner, c.Variant
		r.Summary = fmt.Sprintf("%s is better than %s: %s by %s.", c.Variant, control, j.d.Primary.Label(), j.d.Primary.FormatDifference(c.Interval))
		for _, g := range r.Guardrails {
			if s := g.Checks[best]; s.Status != GuardOK {
				r.Why = append(r.Why, sentence(s.Words)+" It is within the limit so far, but not yet significantly.")
			}
		}
	case lost == len(r.Primary.Differences):
		r.State, r.Winner = Winner, control
		c := r.Primary.Differences[0]
		r.Summary = fmt.Sprintf("%s wins: %s of %s is worse by %s.", control, j.d.Primary.Label(), c.Variant, j.d.Primary.FormatDifference(c.Interval))
		if len(r.Primary.Differences) > 1 {
			r.Summary = fmt.Sprintf("%s wins: every treatment is worse in %s.", control, j.d.Primary.Label())
		}
	case len(held) > 0 && j.d.Running():
		r.State, r.Summary = Collecting, held[0]
		r.Why = slices.DeleteFunc(r.Why, func(s string) bool { return s == held[0] })
	case j.small(r):
		r.State = Inconclusive
		r.Summary = fmt.Sprintf("No effect of the minimum detectable size: %s of each treatment differs from %s by less than %s.", j.d.Primary.Label(), control, j.d.Primary.Points(r.Power[0].Effect))
	case j.d.Design == PlannedLooks && j.d.Stopped.IsZero() && j.d.look(j.d.Looks).After(j.now):
		r.State, r.Summary = Collecting, j.nextLook(r)
	case j.d.Design == PlannedLooks && j.d.Stopped.IsZero():
		r.State = Inconclusive
		r.Summary = "All planned looks have been made without a significant difference: " + j.differences(r) + "."
	case !j.d.Stopped.IsZero():
		r.State = Inconclusive
		r.Summary = "Stopped without a significant difference: " + j.differences(r) + "."
	case j.exhausted(r):
		r.State = Inconclusive
		r.Summary = "Not significant, although there are enough users for the minimum detectable effect: " + j.differences(r) + "."
	default:
		r.State = Collecting
		r.Summary = "Not significant yet: " + j.differences(r) + "."
	}
	if j.d.Stopped.IsZero() && r.State == Collecting {
		for _, p := range r.Power {
			needed := p.NeededBy(j.d.Design)
			if needed.Known && needed.Value > float64(p.Have) {
				w := fmt.Sprintf("Detecting a difference of %s in %s with 80 %% power needs %s users; there are %s.", j.d.Primary.Points(p.Effect), p.Variant, count(int64(needed.Value)), count(p.Have))
				if p.VarianceReduction >= 0.01 {
					w += fmt.Sprintf(" What these users did before saves %s of the users.", percent(p.VarianceReduction, 0))
				}
				if p.DaysLeft.Known {
					w += fmt.Sprintf(" At %s users per day this takes about %s more.", count(int64(math.Round(p.PerDay.Value))), days(p.DaysLeft.Value))
				}
				r.Why = append(r.Why, w)
			}
		}
	}
}

// short names the variants with too few users; "" if there are none.
func (j *judging) short(r *Report) string {
	var few []string
	for i, a := range r.Variants {
		if !j.enough(0, i) {
			few = append(few, fmt.Sprintf("%s has %s", a.Key, count(int64(j.figure(0, i).Users))))
		}
	}
	if len(few) == 0 {
		return ""
	}
	return fmt.Sprintf("Each variant needs %d users with %s before any result: %s.", j.d.MinUsers, j.d.Primary.Label(), strings.Join(few, ", "))
}

// outside lists the guardrails that treatment i is not within, by its estimates.
func (j *judging) outside(r *Report, i int) []string {
	var out []string
	for _, g := range r.Guardrails {
		switch c := g.Checks[i]; {
		case c.Status == GuardNoData:
			out = append(out, "no data for "+g.Label)
		case !c.Within:
			out = append(out, g.Label+" is beyond its limit ("+g.Words+"), although not yet significantly")
		}
	}
	return out
}

func better(m Metric, a, b Interval) bool {
	if m.Better == Down {
		return a.Value < b.Value
	}
	return a.Value > b.Value
}

// small reports whether every difference is known to be smaller than the effect
// to detect.
func (j *judging) small(r *Report) bool {
	for i, c := range r.Primary.Differences {
		e := r.Power[i].Effect
		if !c.Interval.Known || e <= 0 || c.Interval.Lower <= -e || c.Interval.Upper >= e {
			return false
		}
	}
	return true
}

// exhausted reports whether there are twice as many users as were needed.
func (j *judging) exhausted(r *Report) bool {
	for _, p := range r.Power {
		if !p.Needed.Known || float64(p.Have) < 2*p.Needed.Value {
			return false
		}
	}
	return true
}

func (j *judging) differences(r *Report) string {
	var out []string
	for _, c := range r.Primary.Differences {
		out = append(out, fmt.Sprintf("%s of %s differs by %s", j.d.Primary.Label(), c.Variant, j.d.Primary.FormatDifference(c.Interval)))
	}
	return strings.Join(out, ", ")
}

func sentence(s string) string {
	if s != "" && !strings.HasSuffix(s, ".") {
		s += "."
	}
	return strings.ToUpper(s[:min(1, len(s))]) + s[min(1, len(s)):]
}

func lower(s string) string { return strings.ToLower(s[:min(1, len(s))]) + s[min(1, len(s)):] }

func count(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func days(d float64) string {
	switch {
	case d < 1:
		return "1 day"
	case d < 1000:
		return fmt.Sprintf("%d days", int(math.Ceil(d)))
	}
	return "years"
}

func probability(p float64) string {
	if p < 0.0001 {
		return "below 0.0001"
	}
	return strconv.FormatFloat(p, 'g', 2, 64)
}

// Explainer lists the contributions to a figure; *query.Reader does.
type Explainer interface {
	ExperimentContributions(ctx context.Context, q query.ContributionsQuery) ([]query.Contribution, error)
}

// Contributions lists the traces that contribute to a figure of a variant. Metric
// 0 is the primary one, the guardrails follow. by and segment narrow it to one segment.
func Contributions(ctx context.Context, ask Explainer, d Definition, metric int, variant string, by query.GroupBy, segment string, descending bool, now time.Time) ([]query.Contribution, error) {
	if by != query.ByNone && !validSegment(by) {
		return nil, errSegment()
	}
	q := d.question(now, by)
	if metric < 0 || metric >= len(q.Metrics) {
		return nil, event.Invalid("the experiment has no such metric", "0 is the primary one, the guardrails follow")
	}
	if !slices.Contains(q.Variants, variant) {
		return nil, event.Invalid("the experiment has no such variant", "use the key of one of its variants")
	}
	q.Metrics = q.Metrics[metric : metric+1]
	return ask.ExperimentContributions(ctx, query.ContributionsQuery{ExperimentQuery: q, Variant: variant, Segment: segment, Descending: descending, Limit: 100})
}

func errSegment() error {
	return event.Invalid("unknown breakdown", "use model, provider, surface, environment, task_type, operation, prompt, input_length or property:NAME")
}
