package traces

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/a-h/templ"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/web/charts"
	"github.com/hedgerow/hedgerow/server/internal/web/page"
)

// listPage is a page of traces, sessions or users.
type listPage struct {
	Title, Sub string
	Kind       string // trace, session or user
	View       *page.View
	Page       *query.ListPage
	Sort       query.Sort
	Cursor     string
	Before     map[string]query.Summary // the same ones in the period before; nil if there is none
}

// below is the address of one of a list, without the project.
func (p listPage) below(id string) string {
	switch p.Kind {
	case "session":
		return "/sessions/" + url.PathEscape(id)
	case "user":
		return "/people/" + url.PathEscape(id)
	}
	return "/traces/" + url.PathEscape(id)
}

// counted is the list of what a measure counts of one of the list: of its whole, in the
// time range.
func (p listPage) counted(f page.Frame, m query.Measure, id string) templ.SafeURL {
	q := url.Values{page.PointMeasure: {string(m)}, map[string]string{"trace": "trace_id", "session": "session_id", "user": "user"}[p.Kind]: {id}}
	if order := m.Info().List; order != query.ByTime {
		q.Set("sort", string(order))
	}
	if p.View != nil && !p.View.From.IsZero() {
		q.Set("from", p.View.From.Format(time.RFC3339Nano))
		q.Set("to", p.View.To.Format(time.RFC3339Nano))
		if p.View.Params["tz"] != nil {
			q["tz"] = p.View.Params["tz"]
		}
	}
	return f.URL("/events?" + q.Encode())
}

// order is the address of the list in another order.
func (p listPage) order(f page.Frame, s query.Sort) templ.SafeURL {
	return p.View.Link(f, p.View.Page, "sort", string(s))
}

func (p listPage) next(f page.Frame) templ.SafeURL {
	return p.View.Link(f, p.View.Page, "sort", string(p.Sort), "cursor", p.Page.Next)
}

func (s *Pages) list(r *http.Request, f *page.Frame, p listPage, page string, ask func(query.ListQuery) (*query.ListPage, error)) (templ.Component, error) {
	var err error
	if p.View, err = s.View(r, page, "7d"); err != nil {
		return nil, err
	}
	f.Title = p.Title
	q := r.URL.Query()
	p.Sort, p.Cursor = query.Sort(q.Get("sort")), q.Get("cursor")
	if p.Page, err = ask(query.ListQuery{Project: f.Session.ProjectID, Filter: p.View.Filter, Sort: p.Sort, Cursor: p.Cursor, Limit: 50}); err != nil {
		return nil, err
	}
	if p.Sort == "" {
		p.Sort = query.SortStart
	}
	if p.Kind == "user" {
		if err = s.firstValues(r.Context(), f, p.Page.Rows); err != nil {
			return nil, err
		}
		if p.Before, err = s.usersBefore(r.Context(), f, p.View, p.Page.Rows); err != nil {
			return nil, err
		}
	}
	return listing(*f, p), nil
}

// usersBefore are the figures of users in the period before, by id. It is nil
// where there is none.
func (s *Pages) usersBefore(ctx context.Context, f *page.Frame, v *page.View, rows []query.Summary) (map[string]query.Summary, error) {
	before, ok, err := charts.PeriodBefore(ctx, s.Query, f, v)
	if err != nil || !ok {
		return nil, err
	}
	out := make(map[string]query.Summary, len(rows))
	if len(rows) == 0 {
		return out, nil
	}
	q := query.ListQuery{Project: f.Session.ProjectID, Filter: before, Limit: len(rows), IDs: []string{}}
	for _, s := range rows {
		q.IDs = append(q.IDs, s.ID)
	}
	page, err := s.Query.Users(ctx, q)
	if err != nil {
		return nil, err
	}
	for _, s := range page.Rows {
		out[s.ID] = s
	}
	return out, nil
}

// firstValues completes users whose first value came before the range that was
// asked about: it comes once, whenever that was.
func (s *Pages) firstValues(ctx context.Context, f *page.Frame, rows []query.Summary) error {
	q := query.ListQuery{Project: f.Session.ProjectID, Filter: query.Filter{Name: event.FirstValue}}
	for _, u := range rows {
		if u.FirstValue == nil {
			q.IDs = append(q.IDs, u.ID)
		}
	}
	if len(q.IDs) == 0 {
		return nil
	}
	q.Limit = len(q.IDs)
	page, err := s.Query.Users(ctx, q)
	if err != nil {
		return err
	}
	for _, known := range page.Rows {
		if i := slices.IndexFunc(rows, func(u query.Summary) bool { return u.ID == known.ID }); i >= 0 {
			rows[i].FirstValue = known.FirstValue
		}
	}
	return nil
}

// number is one of the figures that a table of users compares.
func number(m query.Measure, s query.Summary) query.Number {
	switch m {
	case query.Calls:
		return event.Some(float64(s.Calls))
	case query.Errors:
		return event.Some(float64(s.Errors))
	case query.TokensTotal:
		return query.Number{Value: float64(s.TotalTokens.Value), Known: s.TotalTokens.Known}
	case query.CostUSD:
		return query.Number{Value: s.CostUSD.Value.InexactFloat64(), Known: s.CostUSD.Known}
	}
	return query.Number{}
}

// changed is how a figure of one of the list compares with the period before.
func (p listPage) changed(m query.Measure, s query.Summary) string {
	if p.Before == nil {
		return ""
	}
	return charts.Against(m, number(m, s), number(m, p.Before[s.ID]))
}

func (s *Pages) traces(r *http.Request, f *page.Frame) (templ.Component, error) {
	return s.list(r, f, listPage{Title: "Traces", Sub: "One trace per user request, with all its calls and steps", Kind: "trace"}, "/traces", func(q query.ListQuery) (*query.ListPage, error) { return s.Query.Traces(r.Context(), q) })
}

func (s *Pages) sessions(r *http.Request, f *page.Frame) (templ.Component, error) {
	return s.list(r, f, listPage{Title: "Sessions", Sub: "Conversations that span several traces", Kind: "session"}, "/sessions", func(q query.ListQuery) (*query.ListPage, error) {
		return s.Query.Sessions(r.Context(), q)
	})
}

func (s *Pages) users(r *http.Request, f *page.Frame) (templ.Component, error) {
	return s.list(r, f, listPage{Title: "Users", Sub: "Your product’s users, by distinct ID", Kind: "user"}, "/people", func(q query.ListQuery) (*query.ListPage, error) { return s.Query.Users(r.Context(), q) })
}

// personPage is one user's history.
type personPage struct {
	ID      string
	View    *page.View
	Summary query.Summary
	Before  map[string]query.Summary // the user's figures of the period before, by id; nil if there is none
	Cards   []charts.Card
	Pending bool
	Models  []query.Group
	Prompts []query.Group
	Traces  listPage
}

func (s *Pages) person(r *http.Request, f *page.Frame) (templ.Component, error) {
	id := r.PathValue("id")
	page := "/people/" + url.PathEscape(id)
	v, err := s.View(r, page, "7d")
	if err != nil {
		return nil, err
	}
	f.Title = "User " + id
	v.User = id
	v.Params["user"] = []string{id}
	specs := []charts.Spec{
		{ID: "cost", Title: "Cost by model", Measures: []query.Measure{query.CostUSD}, By: query.ByModelAsked, OverTime: true, Draw: "stack"},
		{ID: "calls", Title: "Calls by prompt version", Measures: []query.Measure{query.Calls}, By: query.ByPrompt, OverTime: true, Draw: "stack"},
	}
	p := personPage{ID: id, View: v, Pending: s.Defers(r, f)}
	if p.Pending {
		p.Cards = charts.Pending(v, specs, nil).Cards
		return personHistory(*f, p), nil
	}
	at, err := s.Query.Snapshot(r.Context(), f.Session.ProjectID)
	if err != nil {
		return nil, err
	}
	found, err := at.Users(r.Context(), query.ListQuery{Project: f.Session.ProjectID, Filter: v.Filter, Limit: 1})
	if err != nil {
		return nil, err
	}
	if err = s.firstValues(r.Context(), f, found.Rows); err != nil {
		return nil, err
	}
	if len(found.Rows) > 0 {
		p.Summary = found.Rows[0]
	}
	if p.Before, err = s.usersBefore(r.Context(), f, v, found.Rows); err != nil {
		return nil, err
	}
	b, err := charts.Load(r.Context(), at, f, v, specs, []query.Measure{query.Calls})
	if err != nil {
		return nil, err
	}
	p.Cards = b.Cards
	for by, into := range map[query.GroupBy]*[]query.Group{query.ByModelAsked: &p.Models, query.ByPrompt: &p.Prompts} {
		st, err := at.Stats(r.Context(), query.StatsQuery{Project: f.Session.ProjectID, Filter: v.Filter, GroupBy: by, LatencyOf: v.LatencyOf, Limit: 10})
		if err != nil {
			return nil, err
		}
		*into = st.Groups
	}
	all := *v
	all.Page = "/traces"
	p.Traces = listPage{Kind: "trace", View: &all, Sort: query.SortCost}
	if p.Traces.Page, err = at.Traces(r.Context(), query.ListQuery{Project: f.Session.ProjectID, Filter: v.Filter, Sort: query.SortCost, Limit: 10}); err != nil {
		return nil, err
	}
	return personHistory(*f, p), nil
}

// summaryMeasures are what the pages of one trace, session or user show first.
var summaryMeasures = []query.Measure{query.Calls, query.TokensTotal, query.CostUSD, query.Errors}

// summaryTiles are the figures of one trace, session or user.
func summaryTiles(f page.Frame, p listPage, s query.Summary) []page.Figure {
	notes := map[query.Measure]string{query.CostUSD: page.Unpriced(s.Incomplete), query.Errors: page.OtherErrors(s.OtherErrors)}
	switch p.Kind {
	case "session":
		notes[query.Calls] = page.Plural(s.Traces, "trace")
	case "user":
		notes[query.Calls] = page.Plural(s.Traces, "trace") + ", " + page.Plural(s.Sessions, "session")
	default:
		notes[query.Calls] = page.Plural(s.Events, "event")
	}
	var out []page.Figure
	for _, m := range summaryMeasures {
		x := page.Figure{Measure: m, Text: charts.FigureText(m, number(m, s), m == query.CostUSD && s.CostUSD.Known && s.CostAtLeast), Note: notes[m], Change: p.changed(m, s), URL: p.counted(f, m, s.ID)}
		if x.Change != "" {
			x.Compared = p.View.Compared()
		}
		out = append(out, x)
	}
	return out
}

// tiles are the figures of the user.
func (p personPage) tiles(f page.Frame) []page.Figure {
	return summaryTiles(f, listPage{Kind: "user", View: p.View, Before: p.Before}, p.Summary)
}

// tiles are the figures of the trace.
func (p tracePage) tiles(f page.Frame) []page.Figure {
	t := p.Trace.Rollup
	return summaryTiles(f, listPage{Kind: "trace"}, query.Summary{ID: p.Trace.ID, Events: int64(t.Events), Calls: int64(t.Calls), Errors: int64(t.Errors), OtherErrors: int64(t.OtherErrors),
		TotalTokens: t.TotalTokens, CostUSD: t.CostUSD, Incomplete: int64(t.Incomplete), CostAtLeast: t.CostAtLeast})
}

func (p personPage) firstValue() string {
	if p.Summary.FirstValue == nil {
		return page.Unknown
	}
	return p.View.In(*p.Summary.FirstValue, "02 Jan 15:04")
}

// turn is one call of a conversation.
type turn struct {
	Event   *query.Event
	Input   []Message // what is new in this turn
	Output  []Message
	Skipped int  // messages of the input that earlier turns have shown
	TooLong bool // the page has shown too much already
}

type sessionPage struct {
	ID    string
	Turns []turn
	Sum   query.Summary
	More  bool
}

// Bounds of one session's page.
const (
	maxTurns        = 100     // calls
	maxConversation = 4 << 20 // bytes of prompts and answers; of the calls after that it shows none
)

func (s *Pages) conversation(r *http.Request, f *page.Frame) (templ.Component, error) {
	id := r.PathValue("id")
	f.Title = "Session " + id
	filter := query.Filter{SessionID: id}
	list, err := s.Query.Sessions(r.Context(), query.ListQuery{Project: f.Session.ProjectID, Filter: filter, Limit: 1})
	if err != nil {
		return nil, err
	}
	if len(list.Rows) == 0 {
		return nil, event.NewError(event.CodeNotFound, "no such session in this project", "it may be older than the project’s retention, or not stored yet", nil)
	}
	p := sessionPage{ID: id, Sum: list.Rows[0]}
	filter.Name = event.Generation
	page, err := s.Query.Events(r.Context(), query.EventsQuery{Project: f.Session.ProjectID, Filter: filter, Limit: maxTurns})
	if err != nil {
		return nil, err
	}
	p.More = page.Next != ""
	opened, said := false, 0
	var before [][]Message // what each earlier call had said at its end
	for i := len(page.Events) - 1; i >= 0; i-- {
		e := page.Events[i]
		t := turn{Event: e}
		if t.TooLong = said > maxConversation; !t.TooLong && e.ContentState == query.ContentKept {
			if e, err = s.Query.Event(r.Context(), f.Session.ProjectID, e.UUID, f.Reads); err != nil {
				return nil, err
			}
			t.Event = e
		}
		if e.Content != nil {
			opened = true
			t.Input, t.Output = Messages(e.Content.Input), Messages(e.Content.Output)
			if len(t.Input)+len(t.Output) <= 10*maxMessages {
				before = append(before, slices.Concat(t.Input, t.Output))
			} else {
				before = append(before, nil) // of no use: the page shows only its beginning
			}
			t.Skipped = repeated(before[:len(before)-1], t.Input)
			t.Input, t.Output = Clipped(t.Input[t.Skipped:], maxSaid), Clipped(t.Output, maxSaid)
			said += len(e.Content.Input) + len(e.Content.Output)
		}
		p.Turns = append(p.Turns, t)
	}
	if opened {
		if err := s.AuditContent(r, f, "session "+id); err != nil {
			return nil, err
		}
	}
	return sessionDetail(*f, p), nil
}

// repeated counts the first messages of an input that an earlier call of the
// conversation began with too; the last message is always new.
func repeated(before [][]Message, input []Message) (most int) {
	for _, b := range before {
		n := 0
		for n < len(b) && n < len(input)-1 && sameMessage(b[n], input[n]) {
			n++
		}
		most = max(most, n)
	}
	return most
}

func sameMessage(a, b Message) bool { return a.Role == b.Role && slices.Equal(a.Parts, b.Parts) }

// errorsPage is failures by message.
type errorsPage struct {
	View   *page.View
	Groups []query.ErrorGroup
	Before []int64 // how often each came in the period before; nil if there is none
}

// changed is how often a group came against the period before.
func (p errorsPage) changed(i int) string {
	if p.Before == nil {
		return ""
	}
	return charts.Against(query.Errors, event.Some(float64(p.Groups[i].Count)), event.Some(float64(p.Before[i])))
}

func (s *Pages) errors(r *http.Request, f *page.Frame) (templ.Component, error) {
	v, err := s.View(r, "/errors", "7d")
	if err != nil {
		return nil, err
	}
	f.Title = "Errors"
	p := errorsPage{View: v}
	if p.Groups, err = s.Query.Errors(r.Context(), f.Session.ProjectID, v.Filter, 50); err != nil {
		return nil, err
	}
	if before, ok, err := charts.PeriodBefore(r.Context(), s.Query, f, v); err != nil {
		return nil, err
	} else if ok {
		filter := v.Filter
		filter.From, filter.To = before.From, before.To
		if p.Before, err = s.Query.ErrorsBefore(r.Context(), f.Session.ProjectID, filter, p.Groups); err != nil {
			return nil, err
		}
	}
	return errorList(*f, p), nil
}

// pattern is a group of errors as people read it: what differs between its
// messages is a sign, where the group's own name has 0 for every number.
func pattern(group string) string { return strings.ReplaceAll(group, "0", "#") }

// tracePage is one trace, with the part that is looked at.
type tracePage struct {
	Trace    *query.Trace
	Lines    []traceLine
	Judged   []judgment
	Selected *query.Event
}

// traceLine is a part of a trace as a row: its depth, and its position on the
// timeline in thousandths.
type traceLine struct {
	Node        *query.Node
	Depth       int
	Start, Wide float64
	First       float64 // width up to the first token
	Point       bool    // it has no duration
}

func lay(t *query.Trace) []traceLine {
	total := max(float64(took(t).Microseconds()), 1)
	var out []traceLine
	var walk func(nodes []*query.Node, depth int)
	walk = func(nodes []*query.Node, depth int) {
		for _, n := range nodes {
			l := traceLine{Node: n, Depth: min(depth, 8), Point: !n.Event.LatencyMS.Known}
			l.Start = 1000 * float64(n.Event.Timestamp.Sub(t.Start).Microseconds()) / total
			l.Wide = max(1000*n.Event.LatencyMS.Value*1000/total, 3)
			if n.Event.TTFTMS.Known {
				l.First = min(1000*n.Event.TTFTMS.Value*1000/total, l.Wide)
			}
			if l.Point {
				l.Wide = 6
			}
			l.Start = min(l.Start, 1000-min(l.Wide, 1000))
			out = append(out, l)
			walk(n.Children, depth+1)
		}
	}
	walk(t.Roots, 0)
	return out
}

// took is the duration of the parts of a trace that have one. A rating an hour
// later is shown at the end of the timeline.
func took(t *query.Trace) time.Duration {
	var end time.Time
	var walk func([]*query.Node)
	walk = func(nodes []*query.Node) {
		for _, n := range nodes {
			if at := n.Event.Timestamp.Add(time.Duration(n.Event.LatencyMS.Value * float64(time.Millisecond))); n.Event.LatencyMS.Known && at.After(end) {
				end = at
			}
			walk(n.Children)
		}
	}
	walk(t.Roots)
	if end.IsZero() {
		end = t.End
	}
	return end.Sub(t.Start)
}

func (s *Pages) trace(r *http.Request, f *page.Frame) (templ.Component, error) {
	t, err := s.Query.Trace(r.Context(), f.Session.ProjectID, r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	f.Title = "Trace " + t.ID
	p := tracePage{Trace: t, Lines: lay(t)}
	if p.Judged, err = s.judged(r, f, t.ID); err != nil {
		return nil, err
	}
	if id := r.URL.Query().Get("span"); id != "" {
		if p.Selected, err = s.Query.Event(r.Context(), f.Session.ProjectID, id, f.Reads); err != nil {
			return nil, err
		}
		if p.Selected.Content != nil {
			if err := s.AuditContent(r, f, "event "+p.Selected.UUID); err != nil {
				return nil, err
			}
		}
	}
	return traceDetail(*f, p), nil
}

// pick is the address of a trace with one step looked at.
func (p tracePage) pick(f page.Frame, id string) templ.SafeURL {
	return f.URL("/traces/" + url.PathEscape(p.Trace.ID) + "?span=" + id + "#step")
}

// choose loads the step into the current page.
func (p tracePage) choose(f page.Frame, id string) templ.Attributes {
	return templ.Attributes{"hx-get": string(f.URL("/traces/" + url.PathEscape(p.Trace.ID) + "?span=" + id)), "hx-target": "#page", "hx-swap": "innerHTML show:#step:top", "hx-push-url": "true"}
}

// link is the address of one of the list; a user's page keeps the time range.
func (p listPage) link(f page.Frame, id string) templ.SafeURL {
	if p.Kind == "user" {
		return p.View.Link(f, p.below(id), "user", "")
	}
	return f.URL(p.below(id))
}

// when is the time that the list is in order of.
func (p listPage) when(s query.Summary) time.Time {
	if p.Kind == "trace" {
		return s.First
	}
	return s.Last
}
