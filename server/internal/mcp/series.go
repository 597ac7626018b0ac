package mcp

import (
	"context"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

// matchIn selects the application's events that the event_ measures count.
type matchIn struct {
	EventName     string `json:"event_name,omitempty" jsonschema:"for event_ measures: name of the application's event, such as support_ticket_resolved"`
	EventProperty string `json:"event_property,omitempty" jsonschema:"for event_ measures: a property such as resolved; default: every event of that name matches"`
	EventValue    string `json:"event_value,omitempty" jsonschema:"for event_ measures: the property's value in matching events; default: true"`
}

func (in matchIn) match() query.EventMatch {
	return query.EventMatch{Name: in.EventName, Property: in.EventProperty, Value: in.EventValue}
}

const byHelp = "model, model_asked, provider, prompt, prompt_name, surface, user, environment, status, error_type, task_type, operation, input_length, tool, eval or property:NAME"

type seriesIn struct {
	filterIn
	matchIn
	Measures  []string `json:"measures" jsonschema:"figures"`
	By        string   `json:"by,omitempty" jsonschema:"breakdown"`
	Every     string   `json:"every,omitempty" jsonschema:"day or hour for values over time; default: totals only"`
	TimeZone  string   `json:"time_zone,omitempty" jsonschema:"IANA name such as Europe/Berlin, for days and hours; default: UTC"`
	LatencyOf string   `json:"latency_of,omitempty" jsonschema:"whose latency and time to first token: completed (the default: calls that did not fail), failed or all"`
	Limit     int      `json:"limit,omitempty" jsonschema:"maximum number of groups, by number of events; default: 6"`
}

// line is one group of a chart.
type line struct {
	Key    string                          `json:"key" jsonschema:"empty: not set"`
	Total  map[string]event.Opt[float64]   `json:"total"`
	Points []map[string]event.Opt[float64] `json:"points,omitempty" jsonschema:"in the order of keys; null: unknown"`
}

type seriesOut struct {
	Keys   []string `json:"keys,omitempty" jsonschema:"of the points: days or hours"`
	Total  line     `json:"total" jsonschema:"over all groups"`
	Groups []line   `json:"groups,omitempty"`
	Rest   *line    `json:"rest,omitempty" jsonschema:"all other groups together"`
}

type examplesIn struct {
	filterIn
	matchIn
	Measure   string   `json:"measure" jsonschema:"the metric: one of those of get_series"`
	By        string   `json:"by,omitempty" jsonschema:"breakdown"`
	Group     *string  `json:"group,omitempty" jsonschema:"the group of the point; empty: not set; omitted: all groups"`
	NotGroups []string `json:"not_groups,omitempty" jsonschema:"the point covers all groups except these"`
	LatencyOf string   `json:"latency_of,omitempty" jsonschema:"whose latency and time to first token: completed (the default), failed or all"`
	Limit     int      `json:"limit,omitempty" jsonschema:"maximum number of examples; default: 10"`
}

type examplesOut struct {
	Count    int64   `json:"count" jsonschema:"number of events that the point counts"`
	Among    int64   `json:"among" jsonschema:"the denominator of a rate; otherwise count"`
	Of       string  `json:"of" jsonschema:"calls, outcomes, tool_calls, events, traces or users"`
	Examples []Event `json:"examples" jsonschema:"most relevant first: failures, slowest, most expensive, lowest scores; otherwise newest"`
}

func (s *Server) addSeriesTools() {
	narrow := func(p map[string]*jsonschema.Schema) {
		narrowFilter(p)
		enum(p["latency_of"], query.OfCompleted, query.OfFailed, query.OfAll)
		p["by"].Description = "breakdown:  " + byHelp
	}
	add(s, spec{
		name: "get_series", title: "Chart", need: read,
		description: "The data of a chart: calls, errors, cost, latency, outcomes, tool calls or the application's own events, over time and broken down by prompt version, model, surface, a custom property and so on. Without from and to: the last seven days. list_examples shows the events behind a point.",
		input: func(p map[string]*jsonschema.Schema) {
			narrow(p)
			p["measures"].Description = "figures: " + query.MeasuresHelp()
			enum(p["every"], query.ByDay, query.ByHour)
			between(p["limit"], 1, query.MaxGroups)
		},
	}, s.getSeries)
	add(s, spec{
		name: "list_examples", title: "List examples of a data point", need: read,
		description: "Events that a point of a chart counts, most relevant first, each with its trace: such as the failed calls behind an error rate, or the negative ratings of a prompt version. from and to are the time of the point.",
		input: func(p map[string]*jsonschema.Schema) {
			narrow(p)
			between(p["limit"], 1, query.MaxExamples)
		},
	}, s.listExamples)
}

func (s *Server) getSeries(ctx context.Context, who caller, in seriesIn) (out seriesOut, err error) {
	if err := inRange("limit", &in.Limit, query.DefaultLines, query.MaxGroups); err != nil {
		return out, err
	}
	f, err := in.week(s.now())
	if err != nil {
		return out, err
	}
	q := query.SeriesQuery{Project: who.projectID, Filter: f, By: query.GroupBy(in.By), Every: query.GroupBy(in.Every), Event: in.match(), LatencyOf: query.LatencyOf(in.LatencyOf), TimeZone: in.TimeZone, Limit: in.Limit}
	for _, m := range in.Measures {
		q.Measures = append(q.Measures, query.Measure(m))
	}
	found, err := s.c.Query.Series(ctx, q)
	if err != nil {
		return out, err
	}
	out = seriesOut{Keys: found.Keys, Total: lineView(&found.Total)}
	for i := range found.Groups {
		out.Groups = append(out.Groups, lineView(&found.Groups[i]))
	}
	if found.Rest != nil {
		rest := lineView(found.Rest)
		out.Rest = &rest
	}
	return out, nil
}

func lineView(l *query.Line) line {
	values := func(v query.Values) map[string]event.Opt[float64] {
		out := make(map[string]event.Opt[float64], len(v))
		for m, n := range v {
			out[string(m)] = n
		}
		return out
	}
	out := line{Key: l.Key, Total: values(l.Total)}
	for _, p := range l.Points {
		out.Points = append(out.Points, values(p))
	}
	return out
}

func (s *Server) listExamples(ctx context.Context, who caller, in examplesIn) (out examplesOut, err error) {
	if err := inRange("limit", &in.Limit, 10, query.MaxExamples); err != nil {
		return out, err
	}
	f, err := in.filter(s.now())
	if err != nil {
		return out, err
	}
	found, err := s.c.Query.Examples(ctx, query.ExamplesQuery{Project: who.projectID, Filter: f, Limit: in.Limit, Point: query.Point{
		Measure: query.Measure(in.Measure), Event: in.match(), LatencyOf: query.LatencyOf(in.LatencyOf), By: query.GroupBy(in.By), Key: in.Group, Not: in.NotGroups}})
	if err != nil {
		return out, err
	}
	out = examplesOut{Count: found.Count, Among: found.Among, Of: found.Of, Examples: make([]Event, len(found.Events))}
	for i, e := range found.Events {
		out.Examples[i] = s.eventView(e)
	}
	return out, nil
}
