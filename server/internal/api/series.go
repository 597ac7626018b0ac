package api

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

// Parameters of questions about charts, next to the filters.
var (
	matchParams = []string{"event_name", "event_property", "event_value"}
	pointParams = append([]string{"measure", "by", "group", "not_group"}, matchParams...)
)

// match reads which events of an application count.
func match(v url.Values) query.EventMatch {
	return query.EventMatch{Name: v.Get("event_name"), Property: v.Get("event_property"), Value: v.Get("event_value")}
}

// point reads a point of a chart; nil if none is named.
func point(v url.Values) *query.Point {
	if !v.Has("measure") {
		return nil
	}
	p := &query.Point{Measure: query.Measure(v.Get("measure")), Event: match(v), LatencyOf: query.LatencyOf(v.Get("latency_of")), By: query.GroupBy(v.Get("by")), Not: v["not_group"]}
	if v.Has("group") {
		key := v.Get("group")
		p.Key = &key
	}
	return p
}

// series returns the figures of a chart.
func (a *API) series(r *http.Request, p Principal) (any, error) {
	q := query.SeriesQuery{Project: p.ProjectID, TimeZone: r.FormValue("tz"), By: query.GroupBy(r.FormValue("by")), Every: query.GroupBy(r.FormValue("every")), Compare: r.FormValue("compare") == "true",
		Event: match(r.Form), LatencyOf: query.LatencyOf(r.FormValue("latency_of"))}
	var err error
	if q.Filter, err = filter(r.Form, a.now(), append([]string{"measure", "by", "every"}, matchParams...)...); err != nil {
		return nil, err
	}
	if q.Limit, err = intParam(r.Form, "limit"); err != nil {
		return nil, err
	}
	if q.From.IsZero() {
		q.From = a.now().AddDate(0, 0, -7)
	}
	for m := range strings.SplitSeq(r.FormValue("measure"), ",") {
		if m = strings.TrimSpace(m); m != "" {
			q.Measures = append(q.Measures, query.Measure(m))
		}
	}
	return a.c.Query.Series(r.Context(), q)
}

// examples returns events that a point of a chart counts.
func (a *API) examples(r *http.Request, p Principal) (any, error) {
	at := point(r.Form)
	if at == nil {
		return nil, event.Invalid("no measure is named", "send measure, such as error_rate")
	}
	if r.Form.Has("cursor") {
		return nil, event.Invalid("examples have no further pages", "leave cursor out, or narrow the point by filters; GET /api/v1/events lists all events")
	}
	q := query.ExamplesQuery{Project: p.ProjectID, Point: *at}
	var err error
	if q.Filter, err = filter(r.Form, a.now(), pointParams...); err != nil {
		return nil, err
	}
	if q.Limit, err = intParam(r.Form, "limit"); err != nil {
		return nil, err
	}
	return a.c.Query.Examples(r.Context(), q)
}
