package prompts

import (
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/experiment"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/web/page"
)

func (s *Pages) experimentRoutes() []page.Route {
	const viewer, member = project.RoleViewer, project.RoleMember
	return []page.Route{
		{Pattern: "GET /p/{project}/experiments", Need: viewer, Handle: s.experiments, Entry: "Experiments", Label: "Experiments"},
		{Pattern: "GET /p/{project}/experiments/new", Need: member, Handle: s.newExperiment},
		{Pattern: "POST /p/{project}/experiments/new", Need: member, Handle: s.createExperiment, Again: s.newExperiment},
		{Pattern: "GET /p/{project}/experiments/{experiment}", Need: viewer, Handle: s.experiment},
		{Pattern: "GET /p/{project}/experiments/{experiment}/behind", Need: viewer, Handle: s.contributions},
		{Pattern: "GET /p/{project}/experiments/{experiment}/edit", Need: member, Handle: s.editExperiment},
		{Pattern: "POST /p/{project}/experiments/{experiment}/edit", Need: member, Handle: s.saveExperiment, Again: s.editExperiment},
		{Pattern: "POST /p/{project}/experiments/{experiment}/start", Need: member, Handle: s.startExperiment, Again: s.experiment},
		{Pattern: "POST /p/{project}/experiments/{experiment}/stop", Need: member, Handle: s.stopExperiment, Again: s.experiment},
		{Pattern: "POST /p/{project}/experiments/{experiment}/delete", Need: member, Handle: s.deleteExperiment, Again: s.experiment},
	}
}

// experimentRow is an experiment in the list. Report is nil where it could not
// be made.
type experimentRow struct {
	experiment.Definition
	Report *experiment.Report
}

// experimentPage is one experiment.
type experimentPage struct {
	experiment.Definition
	Report   *experiment.Report
	Segments []experiment.Segment // of By, where one is chosen
	By       query.GroupBy
	Zone     *time.Location
	Who      func(actor string) string
}

func (s *Pages) experiments(r *http.Request, f *page.Frame) (templ.Component, error) {
	f.Title = "Experiments"
	var rows []experimentRow
	for _, d := range s.Experiments.Experiments(f.Session.ProjectID) {
		report, err := s.Reports.Report(r.Context(), d)
		if err != nil {
			s.Explain(r, err) // the others are shown
		}
		rows = append(rows, experimentRow{d, report})
	}
	return experiments(*f, rows), nil
}

func (s *Pages) findExperiment(r *http.Request, f *page.Frame) (experiment.Definition, error) {
	d, ok := s.Experiments.Experiment(f.Session.ProjectID, r.PathValue("experiment"))
	if !ok {
		return d, event.NewError(event.CodeNotFound, "No such experiment", "It may have been deleted; see the list of experiments.", nil)
	}
	return d, nil
}

func (s *Pages) experiment(r *http.Request, f *page.Frame) (templ.Component, error) {
	d, err := s.findExperiment(r, f)
	if err != nil {
		return nil, err
	}
	f.Title = d.Name
	v, err := s.View(r, "/experiments/"+d.ID, "")
	if err != nil {
		return nil, err
	}
	p := experimentPage{Definition: d, Zone: v.Zone, Who: s.who, By: query.GroupBy(r.URL.Query().Get("by"))}
	if p.Report, err = s.Reports.Report(r.Context(), d); err != nil {
		return nil, err
	}
	if p.By != query.ByNone {
		if p.Segments, err = experiment.Segmented(r.Context(), s.Query, d, p.By, s.Reports.Time()); err != nil {
			return nil, err
		}
	}
	return experimentView(*f, p), nil
}

func (s *Pages) startExperiment(r *http.Request, f *page.Frame) (templ.Component, error) {
	d, err := s.Experiments.Start(r.Context(), f.Session.UserID, f.Session.ProjectID, r.PathValue("experiment"))
	if err != nil {
		return nil, err
	}
	return f.Done(f.Path("/experiments/"+d.ID), "Experiment started. Events from now on count.")
}

func (s *Pages) stopExperiment(r *http.Request, f *page.Frame) (templ.Component, error) {
	d, err := s.Experiments.StopWith(r.Context(), f.Session.UserID, f.Session.ProjectID, r.PathValue("experiment"), f.Form.Get("reason"), f.Form.Get("rollout") != "", s.StopRollout)
	if err != nil {
		return nil, err
	}
	return f.Done(f.Path("/experiments/"+d.ID), "Experiment stopped. Its result is kept.")
}

func (s *Pages) deleteExperiment(r *http.Request, f *page.Frame) (templ.Component, error) {
	if err := s.Experiments.Delete(r.Context(), f.Session.UserID, f.Session.ProjectID, r.PathValue("experiment")); err != nil {
		return nil, err
	}
	return f.Done(f.Path("/experiments"), "Experiment deleted. Its events are kept.")
}

// segmentChoices are the breakdowns that the page offers: the experiment's own,
// or a few that always make sense.
func (p experimentPage) segmentChoices() []query.GroupBy {
	out := slices.Clone(p.Definition.Segments)
	if len(out) == 0 {
		out = []query.GroupBy{query.ByModel, query.BySurface, query.ByEnvironment, query.ByTaskType}
	}
	if p.By != query.ByNone && !slices.Contains(out, p.By) {
		out = append(out, p.By)
	}
	return out
}

func segmentLabel(g query.GroupBy) string {
	if name, ok := strings.CutPrefix(string(g), "property:"); ok {
		return name
	}
	return strings.ReplaceAll(string(g), "_", " ")
}

// around is the address of a list of what a cell counts: the events, or
// traces, of a variant during the experiment. More parameters narrow it.
func (p experimentPage) around(f page.Frame, path, variant string, more ...string) templ.SafeURL {
	q := url.Values{"from": {p.Started.In(p.Zone).Format(page.LocalTime)}}
	end := p.Stopped
	if end.IsZero() {
		end = p.Report.At
	}
	q.Set("to", end.In(p.Zone).Add(time.Minute).Format(page.LocalTime))
	if p.Flag != "" {
		q.Set("flag", p.Flag)
		q.Set("flag_variant", variant)
	} else {
		q.Set("prompt_name", p.Prompt)
		q.Set("prompt_version", variant)
	}
	for i := 0; i+1 < len(more); i += 2 {
		q.Set(more[i], more[i+1])
	}
	return f.URL(path + "?" + q.Encode())
}

// contributions is the address of the traces that contribute to a metric of a
// variant.
func (p experimentPage) contributions(f page.Frame, metric int, variant string) templ.SafeURL {
	q := url.Values{"metric": {strconv.Itoa(metric)}, "arm": {variant}}
	return f.URL("/experiments/" + p.ID + "/behind?" + q.Encode())
}

// segmentContributions is contributions within one segment.
func (p experimentPage) segmentContributions(f page.Frame, metric int, variant, segment string) templ.SafeURL {
	q := url.Values{"metric": {strconv.Itoa(metric)}, "arm": {variant}, "by": {string(p.By)}, "segment": {segment}}
	return f.URL("/experiments/" + p.ID + "/behind?" + q.Encode())
}

// contributionsPage lists what a figure of a variant is made of.
type contributionsPage struct {
	experiment.Definition
	Metric     experiment.Metric
	At         int // of the metric: 0 is the primary one, then guardrails
	Variant    string
	By         query.GroupBy
	Segment    string
	Descending bool
	Rows       []query.Contribution
	Zone       *time.Location
}

// contributions lists the traces that contribute to a metric, the worst first.
func (s *Pages) contributions(r *http.Request, f *page.Frame) (templ.Component, error) {
	d, err := s.findExperiment(r, f)
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	metric, err := strconv.Atoi(q.Get("metric"))
	if err != nil || metric < 0 || metric > len(d.Guardrails) || d.Started.IsZero() {
		return nil, event.NewError(event.CodeNotFound, "No such metric", "Open the experiment and follow the link of a value.", nil)
	}
	p := contributionsPage{Definition: d, Metric: d.Primary, At: metric, Variant: q.Get("arm"), By: query.GroupBy(q.Get("by")), Segment: q.Get("segment")}
	if metric > 0 {
		p.Metric = d.Guardrails[metric-1].Metric
	}
	p.Descending = p.Metric.Better == experiment.Down
	if o := q.Get("order"); o == "best" {
		p.Descending = !p.Descending
	}
	f.Title = page.Sentence(p.Metric.Label())
	v, err := s.View(r, "/experiments/"+d.ID, "")
	if err != nil {
		return nil, err
	}
	p.Zone = v.Zone
	p.Rows, err = experiment.Contributions(r.Context(), s.Query, d, metric, p.Variant, p.By, p.Segment, p.Descending, s.Reports.Time())
	if err != nil {
		return nil, err
	}
	return contributions(*f, p), nil
}

// turned is the address of the same list in the other order.
func (p contributionsPage) turned(f page.Frame, order string) templ.SafeURL {
	q := url.Values{"metric": {strconv.Itoa(p.At)}, "arm": {p.Variant}}
	if p.By != query.ByNone {
		q.Set("by", string(p.By))
		q.Set("segment", p.Segment)
	}
	if order != "" {
		q.Set("order", order)
	}
	return f.URL("/experiments/" + p.ID + "/behind?" + q.Encode())
}

// worst reports which order the list has.
func (p contributionsPage) worst() bool { return p.Descending == (p.Metric.Better == experiment.Down) }

// value writes what a trace adds to the figure.
func (p contributionsPage) value(b query.Contribution) string {
	if !b.Y.Known {
		return page.Unknown
	}
	if p.Metric.IsRate() {
		return strconv.FormatFloat(b.Y.Value, 'f', -1, 64) + " of " + strconv.FormatFloat(max(b.N.Value, b.Y.Value), 'f', -1, 64)
	}
	if p.Metric.Quantile() > 0 || b.N.Value == 0 {
		return p.Metric.Number(b.Y.Value)
	}
	return p.Metric.Number(b.Y.Value / b.N.Value)
}

// period is the time in which an experiment ran.
func (p experimentPage) period() string {
	at := func(t time.Time) string { return t.In(p.Zone).Format("2006-01-02 15:04") }
	switch {
	case p.Started.IsZero():
		return "not started"
	case p.Stopped.IsZero():
		return "since " + at(p.Started) + ", running"
	}
	return at(p.Started) + " to " + at(p.Stopped)
}

// stateName and stateClass are the name and the CSS class of a state.
func stateName(s experiment.State) string {
	return strings.ReplaceAll(string(s), "_", " ")
}

func stateClass(s experiment.State) string {
	switch s {
	case experiment.Broken:
		return "pill bad"
	case experiment.Winner:
		return "pill"
	}
	return "pill warn"
}

func guardClass(status string) string {
	switch status {
	case experiment.GuardBroken:
		return "pill bad"
	case experiment.GuardOK:
		return "pill"
	}
	return "pill warn"
}

// variantShareOf is a variant's part of all users.
func variantShareOf(list []experiment.VariantReport, i int) string {
	var all int64
	for _, a := range list {
		all += a.Users
	}
	if all == 0 {
		return page.Unknown
	}
	return page.Percent(event.Some(float64(list[i].Users) / float64(all)))
}

// drawing has the positions of an interval on a line of 320 units: its bounds,
// its value, zero, and a limit.
type drawing struct {
	Low, High, At, Zero, Limit string
	HasLimit                   bool
	Label                      string
}

const (
	drawWidth  = 320.0
	drawMargin = 10.0
)

// draw places an interval. Zero, or the limit where it is of no difference, is
// always on the line.
func draw(i experiment.Interval, reference float64, limit *float64, label string) drawing {
	lo, hi := i.Lower, i.Upper
	if math.IsInf(lo, 0) && math.IsInf(hi, 0) {
		lo, hi = i.Value, i.Value // the label says that nothing is known of it yet
	}
	if math.IsInf(hi, 0) {
		hi = i.Value + 2*(i.Value-lo)
	}
	if math.IsInf(lo, 0) {
		lo = i.Value - 2*(hi-i.Value)
	}
	from, to := min(lo, reference), max(hi, reference)
	if limit != nil {
		from, to = min(from, *limit), max(to, *limit)
	}
	span := to - from
	if span == 0 {
		span, from = 1, from-0.5
	}
	x := func(v float64) string {
		return strconv.FormatFloat(drawMargin+(drawWidth-2*drawMargin)*(v-from)/span, 'f', 1, 64)
	}
	d := drawing{Low: x(lo), High: x(hi), At: x(i.Value), Zero: x(reference), Label: label}
	if limit != nil {
		d.Limit, d.HasLimit = x(*limit), true
	}
	return d
}

// powerNote describes the users still needed.
func powerNote(d experiment.Definition, p experiment.PowerReport) []([3]string) {
	m, design, otherDesign, other := d.Primary, experiment.Anytime, experiment.PlannedLooks, "planned looks"
	if d.Design == experiment.PlannedLooks {
		design, otherDesign, other = otherDesign, design, "a result at any time"
	}
	known := func(o event.Opt[float64], f func(float64) string) string {
		if !o.Known {
			return page.Unknown
		}
		return f(o.Value)
	}
	whole := func(v float64) string { return page.Count(int64(math.Ceil(v))) }
	out := [][3]string{
		{"Minimum detectable effect", m.Points(p.Effect), "difference of " + p.Variant + " from control"},
		{"Current power", known(p.Power, func(v float64) string { return page.Percent(event.Some(v)) }), "chance of detecting it with " + page.Count(p.Have) + " users"},
		{"Users needed", known(p.NeededBy(design), whole), "both variants, for 80 % power"},
		{"With " + other, known(p.NeededBy(otherDesign), whole), "users needed with the other design"},
	}
	left := known(p.DaysLeft, func(v float64) string {
		if v == 0 {
			return "none"
		}
		if v <= 1 {
			return "1 day"
		}
		return whole(v) + " days"
	})
	return append(out, [3]string{"Time left", left, known(p.PerDay, func(v float64) string { return "at " + whole(v) + " new users per day" })})
}

// actionText describes the state of an action on a broken guardrail.
func actionText(what string, a experiment.Action, z *time.Location) string {
	switch a.State {
	case experiment.ActionDone:
		return what + " at " + a.Done.In(z).Format("15:04:05")
	case experiment.ActionPending:
		if a.Error != "" {
			return fmt.Sprintf("%s: %d failed attempts (%s); retrying", what, a.Attempts, a.Error)
		}
		return what + ": pending"
	case experiment.ActionFailed:
		return what + ": failed (" + a.Error + ")"
	}
	return what + ": not configured"
}

func (p experimentPage) at(t time.Time) string { return page.Clock(p.Zone, t) }

// usersThen is how many users' data was there at a version.
func usersThen(v experiment.Version) string {
	if !v.Users.Known {
		return page.Unknown
	}
	return page.Count(v.Users.Value)
}

func allUsers(r *experiment.Report) (n int64) {
	for _, a := range r.Variants {
		n += a.Users
	}
	return n
}

func known(v float64) event.Opt[float64] { return event.Some(v) }

func betterWord(m experiment.Metric) string {
	if m.Better == experiment.Up {
		return "more"
	}
	return "less"
}

// guardMark is the limit that a drawing shows.
type guardMark struct {
	Limit    float64
	Relative bool
	Words    string
}

func guardLimit(g experiment.GuardrailReport) *guardMark {
	return &guardMark{g.Limit, g.Relative, g.Words}
}

// notYet is in place of bounds that are not known yet.
const notYet = "not enough data"

func bounds(m experiment.Metric, v experiment.Value) string {
	if !v.Interval.Known {
		return ""
	}
	if math.IsInf(v.Interval.Lower, -1) && math.IsInf(v.Interval.Upper, 1) {
		return notYet
	}
	return m.Number(v.Interval.Lower) + " to " + m.Number(v.Interval.Upper)
}

func difference(m experiment.Metric, c experiment.Comparison) string {
	if !c.Interval.Known {
		return page.Unknown
	}
	return m.Difference(c.Interval.Value)
}

func differenceBounds(m experiment.Metric, c experiment.Comparison) string {
	if !c.Interval.Known {
		return ""
	}
	if math.IsInf(c.Interval.Lower, -1) && math.IsInf(c.Interval.Upper, 1) {
		return notYet
	}
	return m.Signed(c.Interval.Lower) + " to " + m.Difference(c.Interval.Upper)
}

// plainDifference is the difference without winsorising and the users' own past; "" where
// neither is used.
func plainDifference(m experiment.Metric, c experiment.Comparison) string {
	if c.Unadjusted == nil || !c.Unadjusted.Known {
		return ""
	}
	return "unadjusted " + m.Difference(c.Unadjusted.Value)
}

// plainBounds are the bounds of plainDifference.
func plainBounds(m experiment.Metric, c experiment.Comparison) string {
	if c.Unadjusted == nil || !c.Unadjusted.Known {
		return ""
	}
	return differenceBounds(m, experiment.Comparison{Interval: *c.Unadjusted})
}

// adjusted says how differences are adjusted, and what that saves.
func adjusted(p experimentPage, m experiment.MetricReport) string {
	var out []string
	if w := m.Winsorised; w != nil {
		out = append(out, "Differences count a user’s figure above "+m.Metric.Number(w.High)+" as that; unadjusted differences do not.")
	}
	for _, d := range m.Differences {
		if d.VarianceReduction < 0.01 {
			continue
		}
		of := ""
		if len(m.Differences) > 1 {
			of = " of " + d.Variant
		}
		out = append(out, "The difference"+of+" is adjusted for what its users did before (CUPED), which saves "+page.Percent(event.Some(d.VarianceReduction))+" of the users.")
	}
	if p.CUPED == experiment.CUPEDOff {
		out = append(out, "What users did before is not used (CUPED is off).")
	} else if m.Metric.Quantile() == 0 && !slices.ContainsFunc(m.Differences, func(c experiment.Comparison) bool { return c.VarianceReduction >= 0.01 }) {
		out = append(out, "What users did before (CUPED) explains less than 1 % of the difference, so it saves no users.")
	}
	return strings.Join(out, " ")
}

func drawDifference(m experiment.Metric, c experiment.Comparison, limit *guardMark) drawing {
	label := "Difference of " + c.Variant + " from the control: " + difference(m, c) + ", confidence interval " + differenceBounds(m, c)
	if limit == nil {
		return draw(c.Interval, 0, nil, label)
	}
	return draw(c.Interval, 0, &limit.Limit, label+", limit "+limit.Words)
}

func drawValue(m experiment.Metric, v experiment.Value, limit *guardMark) drawing {
	return draw(v.Interval, 0, &limit.Limit, m.Label()+" of "+v.Variant+": "+m.Number(v.Interval.Value)+", confidence interval "+bounds(m, v)+", limit "+limit.Words)
}
