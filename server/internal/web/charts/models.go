package charts

import (
	"context"
	"net/http"

	"github.com/a-h/templ"

	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/web/page"
)

// PeriodBefore is the filter over the period before a page's range. There is none where
// the range is open, or nothing is stored of then: everything would be new.
func PeriodBefore(ctx context.Context, at *query.Reader, f *page.Frame, v *page.View) (query.Filter, bool, error) {
	before, ok := v.PreviousPeriod(v.Zone)
	if !ok {
		return before, false, nil
	}
	page, err := at.Events(ctx, query.EventsQuery{Project: f.Session.ProjectID, Filter: query.Filter{From: before.From, To: before.To}, Limit: 1})
	if err != nil {
		return before, false, err
	}
	return before, len(page.Events) > 0, nil
}

// modelsPage shows models side by side.
type modelsPage struct {
	View    *page.View
	Models  []query.Group
	Lines   map[string]query.Line // outcomes, and what is compared
	Against bool                  // the period before is one to compare with
	Cards   []Card
	Pending bool
}

// changed is how a figure of a model compares with the period before.
func (p modelsPage) changed(key string, m query.Measure) string {
	if !p.Against {
		return ""
	}
	l := p.Lines[key]
	return Against(m, l.Total.Get(m), l.Previous.Get(m))
}

func (s *Pages) models(r *http.Request, f *page.Frame) (templ.Component, error) {
	v, err := s.View(r, "/models", "7d")
	if err != nil {
		return nil, err
	}
	f.Title = "Models"
	specs := []Spec{
		{ID: "latency", Title: "Latency by model", Measures: []query.Measure{query.LatencyP50, query.LatencyP95}, By: query.ByModelAsked, Draw: "bar", Limit: 10},
		{ID: "per-call", Title: "Cost per call", Measures: []query.Measure{query.CostPerCall}, By: query.ByModelAsked, OverTime: true, Draw: "line"},
	}
	p := modelsPage{View: v, Lines: make(map[string]query.Line), Pending: s.Defers(r, f)}
	if p.Pending {
		p.Cards = Pending(v, specs, nil).Cards
		return modelTable(*f, p), nil
	}
	if _, p.Against, err = PeriodBefore(r.Context(), s.Query, f, v); err != nil {
		return nil, err
	}
	filter := v.Filter
	if filter.Kind == "" {
		filter.Kind = query.KindCalls
	}
	at, err := s.Query.Snapshot(r.Context(), f.Session.ProjectID)
	if err != nil {
		return nil, err
	}
	st, err := at.Stats(r.Context(), query.StatsQuery{Project: f.Session.ProjectID, Filter: filter, GroupBy: query.ByModelAsked, LatencyOf: v.LatencyOf, Limit: 12})
	if err != nil {
		return nil, err
	}
	p.Models = st.Groups
	out, err := at.Series(r.Context(), query.SeriesQuery{Project: f.Session.ProjectID, Filter: v.Filter, By: query.ByModelAsked, TimeZone: v.Zone.String(), LatencyOf: v.LatencyOf, Limit: 50, Compare: true,
		Measures: []query.Measure{query.Calls, query.ErrorRate, query.LatencyP95, query.CostUSD, query.CostPerCall, query.CompletionRate, query.NegativeRate, query.EvalScore}})
	if err != nil {
		return nil, err
	}
	for _, g := range out.Groups {
		p.Lines[g.Key] = g
	}
	b, err := Load(r.Context(), at, f, v, specs, []query.Measure{query.Calls})
	if err != nil {
		return nil, err
	}
	p.Cards = b.Cards
	return modelTable(*f, p), nil
}

// modelMeasures are the columns of the models side by side.
var modelMeasures = []query.Measure{query.Calls, query.ErrorRate, query.LatencyP50, query.LatencyP95, query.TTFTP95, query.TokensTotal, query.CostUSD, query.CostPerCall, query.CacheShare,
	query.CompletionRate, query.NegativeRate, query.EvalScore}

// text is a figure of a model.
func (p modelsPage) text(g query.Group, m query.Measure) string {
	switch m {
	case query.CompletionRate, query.NegativeRate, query.EvalScore:
		return FormatNumber(m, p.Lines[g.Key].Total.Get(m))
	}
	return TotalText(m, g.Totals)
}

// GroupCalls is the address of the calls of a group.
func GroupCalls(f page.Frame, v *page.View, q string) templ.SafeURL {
	c := Card{Base: string(v.Link(f, "/events", "kind", query.KindCalls))}
	return c.link(q)
}
