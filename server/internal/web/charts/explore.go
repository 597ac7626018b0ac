package charts

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/a-h/templ"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/web/page"
)

// The chart builder: a chart is an address. m are its figures, by is what they
// are broken down by, over says whether it runs over time, draw how it looks.
// The filters are those of every page.
const (
	paramMeasure = "m"
	paramBy      = "by"
	paramOver    = "over"
	paramDraw    = "draw"
	paramLimit   = "limit"
	paramOf      = "of"    // also those of matchOf, where a figure is of an application's own events
	ofCalls      = "calls" // of paramOf: a share of all calls; anything else is the figure itself
	overTotal    = "total" // of paramOver; anything else is over time
)

// specParams are those of a chart itself, as against range and filters.
var specParams = []string{paramMeasure, paramBy, paramOver, paramDraw, paramLimit, paramOf, page.EventName, page.EventProperty, page.EventValue}

// maxFigures is how many figures one chart can have.
const maxFigures = 3

// Forms of a chart.
var drawings = [][2]string{{"line", "Lines"}, {"bar", "Bars"}, {"stack", "Stacked bars"}, {"table", "Table"}, {"number", "Number"}}

// figures are what the builder offers, in groups.
var figures = []struct {
	Label    string
	Measures []query.Measure
}{
	{"Calls", []query.Measure{query.Calls, query.Errors, query.ErrorRate, query.Users}},
	{"Cost", []query.Measure{query.CostUSD, query.CostPerCall, query.CostPerTask, query.CacheSaved}},
	{"Latency", []query.Measure{query.LatencyP50, query.LatencyP95, query.LatencyP99, query.TTFTP50, query.TTFTP95, query.TTFTP99}},
	{"Tokens", []query.Measure{query.TokensTotal, query.TokensIn, query.TokensOut, query.TokensReasoning, query.TokensCached, query.TokensCacheNew, query.CacheShare}},
	{"Outcomes", []query.Measure{query.Tasks, query.TasksCompleted, query.CompletionRate, query.Rated, query.Negative, query.NegativeRate, query.EscalationRate, query.AcceptanceRate, query.EditRate, query.RetryRate, query.EvalsJudged, query.EvalScore, query.EvalPassRate}},
	{"Tools", []query.Measure{query.ToolCalls, query.ToolErrors, query.ToolErrorRate, query.ToolP95}},
	{"Custom events", []query.Measure{query.EventCount, query.EventShare, query.EventMean, query.EventTraceRate, query.EventUserRate}},
	{"Agents", []query.Measure{query.Retries}},
}

// KindOf is the kind of the events behind a figure.
func KindOf(m query.Measure) string {
	switch m {
	case query.Errors, query.ErrorRate:
		return query.KindErrors
	case query.ToolCalls, query.ToolErrors, query.ToolErrorRate, query.ToolP95:
		return query.KindTools
	case query.Retries:
		return "" // of any event that names a step
	}
	if slices.Contains(figures[4].Measures, m) || m == query.EventCount || m == query.EventShare || m == query.EventMean {
		return query.KindOutcomes
	}
	return query.KindCalls
}

// specOf reads a chart from an address. Without a figure it counts calls.
func specOf(q url.Values) (Spec, error) {
	sp := Spec{ID: "chart", By: query.GroupBy(q.Get(paramBy)), OverTime: q.Get(paramOver) != overTotal, Draw: q.Get(paramDraw)}
	if sp.By == query.ByProperty("") { // its name is in a separate field
		sp.By = ""
		if name := strings.TrimSpace(q.Get("by_name")); name != "" {
			sp.By = query.ByProperty(name)
		}
	}
	for _, m := range q[paramMeasure] {
		m := query.Measure(m)
		if m == "" || slices.Contains(sp.Measures, m) {
			continue
		}
		if m.Info().Label == "" {
			return Spec{}, event.Invalid("unknown metric: "+string(m), "choose one from the list")
		}
		sp.Measures = append(sp.Measures, m)
	}
	switch {
	case len(sp.Measures) == 0:
		sp.Measures = []query.Measure{query.Calls}
	case len(sp.Measures) > query.MaxMeasures:
		return Spec{}, event.Invalid("the chart has too many metrics", "use "+strconv.Itoa(query.MaxMeasures)+" at most")
	}
	if sp.Draw == "" {
		sp.Draw = "line"
	}
	if !slices.ContainsFunc(drawings, func(d [2]string) bool { return d[0] == sp.Draw }) {
		return Spec{}, event.Invalid("unknown chart type", "use line, bar, stack, table or number")
	}
	// Ignored for other figures, so that choosing one need not reset it.
	sp.Share = q.Get(paramOf) == ofCalls && len(sp.Measures) == 1 && (sp.Measures[0] == query.Calls || sp.Measures[0] == query.Errors)
	if sp.Draw == "number" {
		sp.OverTime, sp.By = false, ""
	}
	if l := q.Get(paramLimit); l != "" {
		n, err := strconv.Atoi(l)
		if err != nil || n < 1 || n > query.MaxGroups {
			return Spec{}, event.Invalid("the number of groups is out of range", "use 1 to "+strconv.Itoa(query.MaxGroups))
		}
		sp.Limit = n
	}
	sp.Event = page.MatchOf(q)
	sp.Title = sp.name()
	return sp, nil
}

// values is a chart as an address says it.
func (sp Spec) values() url.Values {
	q := url.Values{}
	for _, m := range sp.Measures {
		q.Add(paramMeasure, string(m))
	}
	if sp.By != "" {
		q.Set(paramBy, string(sp.By))
	}
	if !sp.OverTime {
		q.Set(paramOver, overTotal)
	}
	q.Set(paramDraw, sp.Draw)
	if sp.Limit > 0 {
		q.Set(paramLimit, strconv.Itoa(sp.Limit))
	}
	if sp.Share {
		q.Set(paramOf, ofCalls)
	}
	if sp.Only != nil {
		var only query.Filter
		sp.Only(&only)
		q.Set("kind", only.Kind)
	}
	maps.Copy(q, page.MatchValues(sp.Event))
	return q
}

// name is the default name of a chart.
func (sp Spec) name() string {
	var names []string
	for _, m := range sp.Measures {
		names = append(names, m.Info().Label)
	}
	out := strings.Join(names, ", ")
	if sp.ofEvents() {
		out += ": " + cmp.Or(sp.Event.Name, "no event name")
		if sp.Event.Property != "" {
			out += ", " + sp.Event.Property + " is " + cmp.Or(sp.Event.Value, "true")
		}
	}
	if sp.Share {
		out += ", share of all calls"
	}
	if property, ok := strings.CutPrefix(string(sp.By), string(query.ByProperty(""))); ok {
		return out + " by " + property
	}
	for _, b := range page.Breakdowns {
		if b[0] == string(sp.By) && b[0] != "" {
			return out + " by " + b[1]
		}
	}
	return out
}

// ofEvents reports whether a figure is of an application's own events.
func (sp Spec) ofEvents() bool {
	return slices.ContainsFunc(sp.Measures, func(m query.Measure) bool { return strings.HasPrefix(string(m), "event_") })
}

// property is the custom property that a chart is broken down by.
func (sp Spec) property() (string, bool) {
	return strings.CutPrefix(string(sp.By), string(query.ByProperty("")))
}

// figure is the i-th figure, "" where there is none.
func (sp Spec) figure(i int) query.Measure {
	if i < len(sp.Measures) {
		return sp.Measures[i]
	}
	return ""
}

// address is a chart with the range and filters of a page: of the builder, or
// of its numbers.
func (c *Card) address(f page.Frame, v *page.View, page string) templ.SafeURL {
	q := v.Values()
	for k, x := range c.values() {
		q[k] = x
	}
	return f.URL(page + "?" + q.Encode())
}

// explorePage is the chart builder.
type explorePage struct {
	View       *page.View
	Card       Card
	Dashboards []dashboardName
	Into       string // the dashboard that the chart belongs to
	Chart      string // its id there, "" for a new one
	Title      string
	Query      string // what is saved
	Unnamed    bool   // a figure of events, of which none is named yet
	Whole      bool   // a share was requested where there is none
}

type dashboardName struct{ ID, Name string }

func (s *Pages) explore(r *http.Request, f *page.Frame) (templ.Component, error) {
	f.Title = "Chart builder"
	v, err := s.View(r, "/explore", "7d")
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	sp, err := specOf(q)
	if err != nil {
		return nil, err
	}
	p := explorePage{View: v, Into: q.Get("dashboard"), Chart: q.Get("chart"), Title: cmp.Or(q.Get("title"), sp.Title), Whole: q.Get(paramOf) == ofCalls && !sp.Share}
	if d, ok := s.Registry.Snapshot().Dashboard(f.Session.ProjectID, p.Into); ok && !q.Has(paramMeasure) {
		// Begun from a chart on a dashboard.
		for _, c := range d.Charts {
			if c.ID == p.Chart {
				return f.Done(f.Path("/explore?"+c.Query+"&"+url.Values{"dashboard": {d.ID}, "chart": {c.ID}, "title": {c.Title}}.Encode()), "")
			}
		}
	}
	if p.Unnamed = sp.ofEvents() && sp.Event.Name == ""; p.Unnamed {
		p.Card = Card{Spec: sp} // nothing to query yet
	} else if p.Card, err = loadCard(r.Context(), s.Query, f, v, sp); err != nil {
		return nil, err
	}
	save := url.Values{}
	for k, x := range v.Params {
		save[k] = x
	}
	save.Del("tz")
	for k, x := range sp.values() {
		save[k] = x
		v.Params[k] = x // the pages' own form keeps the chart
	}
	p.Query = save.Encode()
	for _, name := range []string{"dashboard", "chart", "title"} {
		if x := q.Get(name); x != "" {
			v.Params[name] = []string{x}
		}
	}
	for _, d := range s.Registry.Snapshot().Dashboards(f.Session.ProjectID) {
		p.Dashboards = append(p.Dashboards, dashboardName{d.ID, d.Name})
	}
	return explore(*f, p), nil
}

// rest are the parameters that the builder's form does not show as fields.
func (p explorePage) rest() [][2]string {
	var out [][2]string
	for name, list := range p.View.Values() {
		if slices.Contains(specParams, name) {
			continue
		}
		for _, x := range list {
			out = append(out, [2]string{name, x})
		}
	}
	return out
}

// seriesQuery is a chart's query.
func seriesQuery(f *page.Frame, v *page.View, sp Spec) query.SeriesQuery {
	q := query.SeriesQuery{Project: f.Session.ProjectID, Filter: v.Filter, Measures: sp.Measures, By: sp.By, TimeZone: v.Zone.String(), Compare: true, Event: sp.Event, LatencyOf: v.LatencyOf, Limit: sp.Limit}
	if sp.OverTime {
		q.Every = v.Every()
	}
	if sp.Only != nil {
		sp.Only(&q.Filter)
	}
	return q
}

// loadCard queries one chart, of the moment of at where that is a snapshot.
func loadCard(ctx context.Context, at *query.Reader, f *page.Frame, v *page.View, sp Spec) (Card, error) {
	c := Card{Spec: sp}
	series, err := at.Series(ctx, seriesQuery(f, v, sp))
	if err != nil {
		return c, err
	}
	if !sp.Share {
		c.fill(*f, v, series)
		return c, nil
	}
	q := seriesQuery(f, v, Spec{Measures: []query.Measure{query.Calls}, OverTime: sp.OverTime})
	q.Filter.Kind, q.Filter.Status, q.Filter.ErrorType, q.Filter.ErrorGroup = "", "", "", ""
	all, err := at.Series(ctx, q)
	if err != nil {
		return c, err
	}
	c.counted, c.Measures = sp.Measures[0], []query.Measure{query.ErrorRate} // what it is, while it is written
	c.fill(*f, v, ofAll(series, sp.Measures[0], all.Total))
	c.Measures = sp.Measures
	for i := range c.Columns {
		if c.By == "" || !c.OverTime { // the others have the names of groups
			c.Columns[i].Name = "Share of all calls"
		}
	}
	return c, nil
}

// ofAll makes rates of a count: the share that it has in the calls of all, in
// each point and over the whole.
func ofAll(s *query.Series, m query.Measure, all query.Line) *query.Series {
	rate := func(part, of query.Values) query.Values {
		n, whole := part[m], of[query.Calls]
		if !n.Known || !whole.Known || whole.Value == 0 {
			return query.Values{}
		}
		return query.Values{query.ErrorRate: event.Some(n.Value / whole.Value)}
	}
	line := func(l query.Line) query.Line {
		out := query.Line{Key: l.Key, Total: rate(l.Total, all.Total), Previous: rate(l.Previous, all.Previous)}
		for i := range l.Points {
			out.Points = append(out.Points, rate(l.Points[i], all.Points[i]))
		}
		return out
	}
	out := *s
	out.Total, out.Groups = line(s.Total), make([]query.Line, len(s.Groups))
	for i, g := range s.Groups {
		out.Groups[i] = line(g)
	}
	if s.Rest != nil {
		rest := line(*s.Rest)
		out.Rest = &rest
	}
	return &out
}
