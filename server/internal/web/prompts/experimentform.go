package prompts

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/experiment"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/web/page"
)

// experimentForm is the form for a new experiment, or for one that is there.
type experimentForm struct {
	experiment.Definition
	New      bool
	Prompts  []string
	Forecast *experiment.Forecast // of a definition that has not begun; nil where the store did not answer
}

// forecastWait bounds the query of a form's forecast.
const forecastWait = 5 * time.Second

// Rows that the form has; more can be had by the API.
const (
	variantRows = 4
	guardRows   = 4
	excludeRows = 2
)

func (s *Pages) newExperiment(r *http.Request, f *page.Frame) (templ.Component, error) {
	f.Title = "New experiment"
	d := experiment.Definition{Spec: experiment.Spec{
		Prompt: r.URL.Query().Get("prompt"), Flag: r.URL.Query().Get("flag"), Variants: []experiment.Variant{{Key: "control", Share: 50}, {Key: "treatment", Share: 50}},
		Primary: experiment.Metric{Metric: query.Metric{Measure: query.CompletionRate}}, Planned: experiment.DefaultPlanned, MinUsers: experiment.DefaultMinUsers, Alpha: experiment.DefaultAlpha,
		Guardrails: []experiment.Guardrail{
			{Metric: experiment.Metric{Metric: query.Metric{Measure: query.EscalationRate}}, Limit: 0.02, Relative: true},
			{Metric: experiment.Metric{Metric: query.Metric{Measure: query.LatencyP95}}, Limit: 4000},
			{Metric: experiment.Metric{Metric: query.Metric{Measure: query.CostPerTask}}, Limit: 0.03},
		},
	}}
	// The form is filled from the rollout.
	if ro, ok := s.Prompts.Rollout(f.Session.ProjectID, d.Prompt); ok {
		d.Flag, d.Variants, d.StopOnBreach = ro.Flag, nil, true
		shares := ro.Shares()
		for _, v := range ro.VariantKeys() {
			d.Variants = append(d.Variants, experiment.Variant{Key: v, Share: cmp.Or(shares[v], 1)})
		}
	}
	return s.experimentForm(r, f, d, true), nil
}

func (s *Pages) experimentForm(r *http.Request, f *page.Frame, d experiment.Definition, fresh bool) templ.Component {
	p := experimentForm{Definition: d, New: fresh}
	for _, pr := range s.Prompts.Prompts(f.Session.ProjectID) {
		p.Prompts = append(p.Prompts, pr.Name)
	}
	if d.Started.IsZero() {
		ctx, cancel := context.WithTimeout(r.Context(), forecastWait)
		defer cancel()
		forecast, err := experiment.ForecastOf(ctx, s.Query, f.Session.ProjectID, d.Spec, s.Reports.Time())
		if err == nil {
			p.Forecast = &forecast
		} else {
			s.Explain(r, err) // the form is there without it
		}
	}
	return experimentFormPage(*f, p)
}

// forecastDays is how long a design takes by the traffic so far.
func forecastDays(f *experiment.Forecast, users event.Opt[float64]) string {
	d := f.Days(users)
	switch {
	case !d.Known:
		return page.Unknown
	case d.Value > 3650:
		return "over 10 years"
	}
	return page.Count(int64(d.Value))
}

func forecastUsers(users event.Opt[float64]) string {
	if !users.Known {
		return page.Unknown
	}
	return page.Count(int64(users.Value))
}

// forecastNote says what a forecast is made of.
func forecastNote(m experiment.Metric, f *experiment.Forecast) string {
	if f.Users == 0 {
		return "No users in the last 28 days, so there is no forecast yet."
	}
	s := fmt.Sprintf("From the last 28 days: %s users, about %s new ones a day.", page.Count(f.Users), page.Count(int64(math.Ceil(f.PerDay))))
	if f.Effect == 0 {
		return s + " None of them has a value of the primary metric that varies, so there is no forecast yet."
	}
	s += fmt.Sprintf(" For a difference of %s with 80 %% power.", m.Points(f.Effect))
	if f.VarianceReduction >= 0.01 {
		s += fmt.Sprintf(" What these users did before (CUPED) saves %s of the users; that is counted in.", page.Percent(event.Some(f.VarianceReduction)))
	}
	return s
}

func (s *Pages) editExperiment(r *http.Request, f *page.Frame) (templ.Component, error) {
	d, err := s.findExperiment(r, f)
	if err != nil {
		return nil, err
	}
	f.Title = "Edit " + d.Name
	return s.experimentForm(r, f, d, false), nil
}

func (s *Pages) createExperiment(r *http.Request, f *page.Frame) (templ.Component, error) {
	d := experiment.Definition{Project: f.Session.ProjectID}
	if err := fillExperiment(&d.Spec, f.Form); err != nil {
		return nil, err
	}
	if f.Form.Get("forecast") != "" {
		f.Title = "New experiment"
		return s.experimentForm(r, f, d, true), nil
	}
	if f.Form.Get("start") != "" {
		d.Started = s.Reports.Time()
	}
	d, err := s.Experiments.Create(r.Context(), f.Session.UserID, d)
	if err != nil {
		return nil, err
	}
	return f.Done(f.Path("/experiments/"+d.ID), "Experiment saved.")
}

func (s *Pages) saveExperiment(r *http.Request, f *page.Frame) (templ.Component, error) {
	id := r.PathValue("experiment")
	_, err := s.Experiments.Update(r.Context(), f.Session.UserID, f.Session.ProjectID, id, func(d *experiment.Spec) error { return fillExperiment(d, f.Form) })
	if err != nil {
		return nil, err
	}
	return f.Done(f.Path("/experiments/"+id), "Experiment saved.")
}

// ownMetric is the choice of a metric that is made of an event.
const ownMetric = "own"

// fillExperiment takes a form's fields. Rates and their limits are typed in
// percent and points, latencies in milliseconds, costs in dollars. What the form
// does not have stays as it is.
func fillExperiment(d *experiment.Spec, form url.Values) error {
	v := func(name string) string { return strings.TrimSpace(form.Get(name)) }
	number := func(name, what string) (float64, error) {
		if v(name) == "" {
			return 0, nil
		}
		n, err := strconv.ParseFloat(strings.ReplaceAll(v(name), ",", "."), 64)
		if err != nil {
			return 0, event.Invalid(what+" is not a number", "enter digits with a decimal point")
		}
		return n, nil
	}
	d.Name, d.Description, d.StopOnBreach = v("name"), v("description"), v("stop_on_guardrail") != ""
	d.Segments = nil
	for _, s := range page.SplitList(v("segments")) {
		d.Segments = append(d.Segments, query.GroupBy(s))
	}
	if form.Has("arm0") { // a running experiment's form has no fields for what is fixed
		d.Flag, d.Prompt, d.Variants = v("flag"), v("prompt"), nil
		for i := range variantRows {
			key := v("arm" + strconv.Itoa(i))
			if key == "" {
				continue
			}
			share, err := number("share"+strconv.Itoa(i), "the share of a variant")
			if err != nil {
				return err
			}
			d.Variants = append(d.Variants, experiment.Variant{Key: key, Share: share})
		}
		var err error
		if d.Primary, err = metricOf(form, "primary"); err != nil {
			return err
		}
		if d.Detect, err = number("detect", "the minimum detectable effect"); err != nil {
			return err
		}
		if d.Primary.IsRate() {
			d.Detect /= 100
		}
		planned, err := number("planned", "the planned number of users")
		if err != nil {
			return err
		}
		least, err := number("min_users", "the minimum number of users")
		if err != nil {
			return err
		}
		d.Planned, d.MinUsers = int(planned), int(least)
		fillExclusion(&d.Exclude, form)
		length, err := number("days", "the number of days")
		if err != nil {
			return err
		}
		looks, err := number("looks", "the number of planned looks")
		if err != nil {
			return err
		}
		d.Design, d.Days, d.Looks, d.CUPED = v("design"), int(length), int(looks), v("cuped")
	}
	guards := d.Guardrails[min(len(d.Guardrails), guardRows):]
	d.Guardrails = nil
	for i := range guardRows {
		g := "guard" + strconv.Itoa(i)
		if v(g) == "" {
			continue
		}
		m, err := metricOf(form, g)
		if err != nil {
			return err
		}
		if v(g+"_limit") == "" {
			return event.Invalid("a guardrail has no limit", "enter a limit, or choose no metric")
		}
		limit, err := number(g+"_limit", "the limit of a guardrail")
		if err != nil {
			return err
		}
		if m.IsRate() {
			limit /= 100
		}
		d.Guardrails = append(d.Guardrails, experiment.Guardrail{Metric: m, Limit: limit, Relative: v(g+"_versus") == "control"})
	}
	d.Guardrails = append(d.Guardrails, guards...)
	return nil
}

// fillExclusion takes the fields of who does not count.
func fillExclusion(e *query.Exclusion, form url.Values) {
	v := func(name string) string { return strings.TrimSpace(form.Get(name)) }
	more := e.Properties[min(len(e.Properties), excludeRows):]
	*e = query.Exclusion{Users: page.SplitList(v("exclude_users")), Mixed: v("exclude_mixed") != ""}
	if v("exclude_bots") == "" {
		e.Bots = query.BotsCount
	}
	for i := range excludeRows {
		row := "exclude" + strconv.Itoa(i)
		c := query.Condition{Property: v(row + "_property"), Operator: v(row + "_operator"), Value: v(row + "_value")}
		if c.Property != "" || c.Value != "" {
			e.Properties = append(e.Properties, c)
		}
	}
	e.Properties = append(e.Properties, more...)
}

// conditionAt is the i-th condition of who does not count.
func conditionAt(p experimentForm, i int) query.Condition {
	if i < len(p.Exclude.Properties) {
		return p.Exclude.Properties[i]
	}
	return query.Condition{}
}

func metricOf(form url.Values, name string) (experiment.Metric, error) {
	v := func(field string) string { return strings.TrimSpace(form.Get(name + field)) }
	m := experiment.Metric{Better: v("_better")}
	if v("") != ownMetric {
		m.Measure, m.Eval = query.Measure(v("")), v("_eval")
		return m, nil
	}
	m.Event, m.Property, m.Value, m.As = v("_event"), v("_property"), v("_value"), v("_as")
	if m.Event == "" {
		return m, event.Invalid("a custom metric has no event", "enter an event name, such as support_ticket_resolved")
	}
	return m, nil
}

// measureOptions are the figures that a metric can be; quantiles only guard.
func measureOptions(guard bool) [][2]string {
	var out [][2]string
	if guard {
		out = append(out, [2]string{"", "none"})
	}
	for _, m := range query.ExperimentMeasures() {
		if guard || (query.Metric{Measure: m}).Quantile() == 0 {
			out = append(out, [2]string{string(m), page.Sentence(experiment.MeasureLabel(m))})
		}
	}
	return append(out, [2]string{ownMetric, "Custom metric (event and property)"})
}

// measureValue is the option that a metric is.
func measureValue(m experiment.Metric) string {
	if m.Event != "" {
		return ownMetric
	}
	return string(m.Measure)
}

// typed writes a value in the form's format.
func typed(m experiment.Metric, v float64) string {
	if m.IsRate() {
		v *= 100
	}
	return strconv.FormatFloat(math.Round(v*1e9)/1e9, 'f', -1, 64)
}

// segmentList is the breakdowns as the form has them.
func segmentList(list []query.GroupBy) string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = string(s)
	}
	return strings.Join(out, ", ")
}

// wholeOrEmpty writes a number of a form; nothing where it is not set.
func wholeOrEmpty(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

func formTarget(f page.Frame, p experimentForm) string {
	if p.New {
		return f.Path("/experiments/new")
	}
	return f.Path("/experiments/" + p.ID + "/edit")
}

func variantLabel(i int) string {
	if i == 0 {
		return "control"
	}
	return "treatment " + strconv.Itoa(i)
}

func variantKey(p experimentForm, i int) string {
	if i < len(p.Variants) {
		return p.Variants[i].Key
	}
	return ""
}

func variantShare(p experimentForm, i int) string {
	if i < len(p.Variants) {
		return strconv.FormatFloat(p.Variants[i].Share, 'f', -1, 64)
	}
	return ""
}

func guardAt(p experimentForm, i int) experiment.Guardrail {
	if i < len(p.Guardrails) {
		return p.Guardrails[i]
	}
	return experiment.Guardrail{}
}

// measureOption is the option that a metric is; one that is none is "none".
func measureOption(m experiment.Metric, guard bool) string {
	if m.Event == "" && m.Measure == "" && !guard {
		return string(query.CompletionRate)
	}
	return measureValue(m)
}

func detectValue(p experimentForm) string {
	if p.Detect == 0 {
		return ""
	}
	return typed(p.Primary, p.Detect)
}

func limitAgainst(g experiment.Guardrail) string {
	if g.Relative {
		return "control"
	}
	return "value"
}

func limitValue(g experiment.Guardrail) string {
	if g.Event == "" && g.Measure == "" {
		return ""
	}
	return typed(g.Metric, g.Limit)
}
