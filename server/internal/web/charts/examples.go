package charts

import (
	"cmp"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/a-h/templ"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/web/page"
)

// ofMeasure is the part of an address that names a figure.
func ofMeasure(m query.Measure) url.Values {
	q := url.Values{page.PointMeasure: {string(m)}}
	if order := m.Info().List; order != query.ByTime {
		q.Set("sort", string(order))
	}
	return q
}

// examplesPage has examples of a point: shown in the drawer next to a chart, or
// as a page of its own without scripts.
type examplesPage struct {
	Title, Time, Count, Order string
	Rows                      []example
	Nothing                   bool          // nothing is counted, not even by what a rate divides
	Number                    string        // how many there are
	All                       templ.SafeURL // the list of them, with the same filter
}

// Counted says how many there are, and in which order they come.
func (p examplesPage) Counted() string {
	if len(p.Rows) > 1 {
		return p.Count + ", " + p.Order
	}
	return p.Count
}

// example is one of them: where it leads, and what is worth knowing before.
type example struct {
	URL    templ.SafeURL
	At     time.Time
	Name   string // the model or event
	Result string // how it ended, where that is no success
	Bad    bool
	Facts  []string
}

// amongNouns are what a rate divides by.
var amongNouns = map[string]string{"calls": "calls", "outcomes": "outcomes that report it", "tool_calls": "tool calls", "steps": "steps", "events": "events", "traces": "traces", "users": "users"}

func (s *Pages) examples(r *http.Request, f *page.Frame) (templ.Component, error) {
	v, err := s.View(r, "/examples", "")
	if err != nil {
		return nil, err
	}
	f.Title = "Examples"
	if shape := r.URL.Query().Get(page.PointShape); shape != "" {
		return s.shapeExamples(r, f, v, shape)
	}
	if v.Point == nil {
		return nil, event.Invalid("this is not a chart point", "open a chart and choose one of its points")
	}
	found, err := s.Query.Examples(r.Context(), query.ExamplesQuery{Project: f.Session.ProjectID, Filter: v.Filter, Point: *v.Point})
	if err != nil {
		return nil, err
	}
	info := v.Point.Measure.Info()
	p := examplesPage{Title: page.PointLabel(v.Point), Time: v.Label, Count: page.Sentence(info.Noun) + ": " + page.Count(found.Count), Order: cmp.Or(info.Order, "newest first")}
	if found.Among != found.Count {
		p.Count += " of " + page.Count(found.Among) + " " + amongNouns[found.Of] + " · " + share(found.Count, found.Among)
	}
	if p.Nothing = found.Among == 0; found.Count > 0 {
		p.Number = page.Count(found.Count)
		p.All = v.Link(*f, "/events", "sort", string(info.List))
	}
	for _, e := range found.Events {
		x := example{URL: f.URL("/events/" + e.UUID), At: e.Timestamp, Name: page.Heading(e), Bad: e.IsError}
		if e.TraceID != "" {
			x.URL = f.URL("/traces/" + url.PathEscape(e.TraceID) + "?span=" + e.UUID + "#step")
		}
		if x.Result = page.Description(e); e.IsError {
			x.Result = page.Outcome(e)
		}
		for _, fact := range []string{e.ErrorMessage, page.PromptOf(e), factIf(e.LatencyMS.Known, page.Millis(e.LatencyMS)), factIf(e.TTFTMS.Known, page.Millis(e.TTFTMS)+" TTFT"),
			factIf(e.Usage.Total.Known, page.Tokens(e.Usage.Total)), costFact(e), e.DistinctID} {
			if fact != "" {
				x.Facts = append(x.Facts, fact)
			}
		}
		p.Rows = append(p.Rows, x)
	}
	return examples(*f, p), nil
}

// factIf is a text, or nothing where what it writes is unknown.
func factIf(is bool, text string) string {
	if !is {
		return ""
	}
	return text
}

// shapeExamples are traces of one size.
func (s *Pages) shapeExamples(r *http.Request, f *page.Frame, v *page.View, shape string) (templ.Component, error) {
	size, err := strconv.ParseInt(r.URL.Query().Get(page.PointSize), 10, 64)
	if err != nil {
		return nil, event.Invalid("this is not a trace size", "open the chart and choose one of its bars")
	}
	n, ids, err := s.Query.TracesOfShape(r.Context(), query.ShapeQuery{Project: f.Session.ProjectID, Filter: v.Filter, Of: shape, Size: size, Limit: query.DefaultExamples})
	if err != nil {
		return nil, err
	}
	p := examplesPage{Title: map[string]string{query.ShapeCalls: "Traces with this many calls: ", query.ShapeDepth: "Traces this many levels deep: "}[shape] + page.Count(size), Time: v.Label, Count: "Traces: " + page.Count(n), Order: "newest first"}
	if p.Nothing = len(ids) == 0; p.Nothing {
		return examples(*f, p), nil
	}
	list, err := s.Query.Traces(r.Context(), query.ListQuery{Project: f.Session.ProjectID, Filter: query.Filter{From: v.From, To: v.To}, IDs: ids, Limit: len(ids)})
	if err != nil {
		return nil, err
	}
	for _, t := range list.Rows {
		x := example{URL: f.URL("/traces/" + url.PathEscape(t.ID)), At: t.First, Name: cmp.Or(t.Name, t.ID), Bad: t.Errors > 0, Facts: []string{page.Count(t.Calls) + " calls", page.Millis(query.Millis{Value: t.DurationMS, Known: true}), page.Cost(t.CostUSD, t.CostAtLeast)}}
		if t.Errors > 0 {
			x.Result = page.Count(t.Errors) + " failed"
		}
		if t.User != "" {
			x.Facts = append(x.Facts, t.User)
		}
		p.Rows = append(p.Rows, x)
	}
	return examples(*f, p), nil
}

// costFact is what an event cost; "" where nothing of that is known.
func costFact(e *query.Event) string {
	known, _ := e.Cost.Known()
	return factIf(known.Known, page.CostOf(e))
}
