package charts

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/a-h/templ"

	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/web/page"
)

// Connection is the state of the delivery to one PostHog project.
type Connection struct {
	Name, Host, State, LastError string
	OK                           bool
	Sent, Waiting, Dead          int64
}

// overviewPage answers: what happened today and this week, where does it go,
// and what came last?
type overviewPage struct {
	View        *page.View
	Pending     bool
	Base        string // this server, as SDKs reach it
	Gateway     string // and its gateway
	Today, Week *query.Period
	Days        []query.Group // of the week
	Models      []query.Group // of the week, by requested model: failed calls have no other
	Latest      []*query.Event
	Connections []Connection
}

func (s *Pages) overview(r *http.Request, f *page.Frame) (templ.Component, error) {
	f.Title = "Overview"
	v, err := s.View(r, "/overview", "")
	if err != nil {
		return nil, err
	}
	v = v.Unfiltered()
	p := overviewPage{View: v, Pending: s.Defers(r, f), Base: s.PublicURL, Gateway: cmp.Or(s.GatewayURL, s.PublicURL)}
	if s.Connections != nil {
		p.Connections = s.Connections(f.Session.ProjectID)
	}
	if p.Pending {
		return overview(*f, p), nil
	}
	tz := v.Zone.String()
	at, err := s.Query.Snapshot(r.Context(), f.Session.ProjectID)
	if err != nil {
		return nil, err
	}
	today, err := at.Today(r.Context(), f.Session.ProjectID, tz)
	if err != nil {
		return nil, err
	}
	week, err := at.SevenDays(r.Context(), f.Session.ProjectID, tz)
	if err != nil {
		return nil, err
	}
	days, err := at.Stats(r.Context(), query.StatsQuery{
		Project: f.Session.ProjectID, Filter: query.Filter{From: week.From, To: week.To}, GroupBy: query.ByDay, TimeZone: tz})
	if err != nil {
		return nil, err
	}
	latest, err := at.Events(r.Context(), query.EventsQuery{Project: f.Session.ProjectID, Limit: 10})
	if err != nil {
		return nil, err
	}
	models, err := at.Stats(r.Context(), query.StatsQuery{
		Project: f.Session.ProjectID, Filter: query.Filter{From: week.From, To: week.To}, GroupBy: query.ByModelAsked})
	if err != nil {
		return nil, err
	}
	p.Models = models.Groups
	p.Today, p.Week, p.Days, p.Latest = today, week, days.Groups, latest.Events
	return overview(*f, p), nil
}

// within is the time of the i-th day, as the list of events takes it.
func (p overviewPage) within(i int) string {
	q := url.Values{"to": {p.Week.To.Format(time.RFC3339Nano)}}
	if start := p.Days[i].Start; start != nil {
		q.Set("from", start.Format(time.RFC3339Nano))
	}
	if i+1 < len(p.Days) && p.Days[i+1].Start != nil {
		q.Set("to", p.Days[i+1].Start.Format(time.RFC3339Nano))
	}
	return q.Encode()
}

// day writes a day as the charts do: Sat 21 Nov.
func day(key string) string {
	t, err := time.Parse(time.DateOnly, key)
	if err != nil {
		return key
	}
	return t.Format(dayLayout)
}

// WithCalls leaves out the groups that made no model call, such as that of plain
// requests, which name no model.
func WithCalls(groups []query.Group) []query.Group {
	return slices.DeleteFunc(slices.Clone(groups), func(g query.Group) bool { return g.Totals.Calls == 0 })
}
