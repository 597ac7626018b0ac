package page

import (
	"net/url"
	"strings"

	"github.com/a-h/templ"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

// The parameters of a point of a chart: its metric, its breakdown, and its
// group, or all groups except some. The list of events takes them as a filter.
const (
	PointMeasure  = "measure"
	PointBy       = "by"
	PointGroup    = "group"
	PointNot      = "not_group"
	EventName     = "event_name"
	EventProperty = "event_property"
	EventValue    = "event_value"
	PointShape    = "shape" // calls or depth: the point is of traces, by their size
	PointSize     = "size"
)

var pointParams = []string{PointMeasure, PointBy, PointGroup, PointNot, EventName, EventProperty, EventValue}

// readPoint reads a point off an address; nil where it names none.
func (v *View) readPoint(q url.Values) error {
	m := query.Measure(q.Get(PointMeasure))
	if m == "" {
		return nil
	}
	if m.Info().Label == "" {
		return event.Invalid("unknown metric: "+string(m), "choose one from a chart")
	}
	v.Point = &query.Point{Measure: m, Event: MatchOf(q), LatencyOf: v.LatencyOf, By: query.GroupBy(q.Get(PointBy)), Not: q[PointNot]}
	if keys := q[PointGroup]; len(keys) == 1 {
		v.Point.Key = &keys[0]
	} else if len(keys) > 1 {
		v.Point.Keys = keys
	}
	for _, name := range pointParams {
		if q.Has(name) {
			v.Params[name] = q[name]
		}
	}
	return nil
}

// MatchOf reads which events of an application count.
func MatchOf(q url.Values) query.EventMatch {
	return query.EventMatch{Name: strings.TrimSpace(q.Get(EventName)), Property: strings.TrimSpace(q.Get(EventProperty)), Value: strings.TrimSpace(q.Get(EventValue))}
}

// MatchValues is the inverse of MatchOf.
func MatchValues(e query.EventMatch) url.Values {
	q := url.Values{}
	for name, value := range map[string]string{EventName: e.Name, EventProperty: e.Property, EventValue: e.Value} {
		if value != "" {
			q.Set(name, value)
		}
	}
	return q
}

// PointLabel describes what a point shows, apart from its time.
func PointLabel(p *query.Point) string {
	out := p.Measure.Info().Label
	if p.Event.Name != "" {
		out += " of " + p.Event.Name
	}
	by := breakdownName(p.By)
	switch {
	case p.Key != nil && *p.Key == "":
		out += " · " + by + " not set"
	case p.Key != nil:
		out += " · " + by + " " + *p.Key
	case len(p.Keys) > 0:
		out += " · " + by + " " + strings.Join(p.Keys, ", ")
	case len(p.Not) > 0:
		out += " · other " + by
	}
	return out
}

// breakdownName is a breakdown in words.
func breakdownName(by query.GroupBy) string {
	if name, ok := strings.CutPrefix(string(by), string(query.ByProperty(""))); ok {
		return name
	}
	for _, b := range Breakdowns {
		if b[0] == string(by) {
			return b[1]
		}
	}
	return string(by)
}

// without is the address of the page without the point.
func (v *View) withoutPoint(f Frame) templ.SafeURL {
	var pairs []string
	for _, name := range pointParams {
		pairs = append(pairs, name, "")
	}
	return v.Link(f, v.Page, pairs...)
}

// Breakdowns are what the builder offers in addition to custom properties.
var Breakdowns = [][2]string{
	{"", "none"}, {string(query.ByModelAsked), "requested model"}, {string(query.ByModel), "response model"}, {string(query.ByProvider), "provider"}, {string(query.ByPrompt), "prompt version"}, {string(query.ByPromptName), "prompt"},
	{string(query.BySurface), "surface"}, {string(query.ByEnvironment), "environment"}, {string(query.ByUser), "user"}, {string(query.ByTaskType), "task type"}, {string(query.ByStatus), "status"}, {string(query.ByErrorType), "error type"},
	{string(query.ByOperation), "operation"}, {string(query.ByInputLength), "input length"}, {string(query.ByOutput), "output category"}, {string(query.ByTool), "tool"}, {string(query.ByEval), "evaluation"},
}
