package charts

import (
	"net/url"
	"time"

	"github.com/a-h/templ"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/web/page"
)

// ListOf is the list of what a measure counts of a page between two times: what comes
// later is not in the figure.
func ListOf(f page.Frame, v *page.View, m query.Measure, from, to time.Time, pairs ...string) templ.SafeURL {
	pairs = append([]string{page.PointMeasure, string(m), "sort", string(m.Info().List)}, pairs...)
	if !from.IsZero() { // of all time there is neither
		pairs = append(pairs, "from", from.Format(time.RFC3339Nano), "to", to.Format(time.RFC3339Nano))
	}
	return v.Link(f, "/events", pairs...)
}

// OfGroup narrows a list of ListOf to one group of a breakdown.
func OfGroup(list templ.SafeURL, by query.GroupBy, key string) templ.SafeURL {
	return list + templ.SafeURL("&"+url.Values{page.PointBy: {string(by)}, page.PointGroup: {key}}.Encode())
}

// totalOf is a measure of totals.
func totalOf(m query.Measure, t query.Totals) query.Number {
	count := func(n int64) query.Number { return event.Some(float64(n)) }
	whole := func(n event.Int) query.Number { return query.Number{Value: float64(n.Value), Known: n.Known} }
	switch m {
	case query.Calls:
		return count(t.Calls)
	case query.Errors:
		return count(t.Errors)
	case query.ErrorRate:
		return t.ErrorRate
	case query.TokensTotal:
		return whole(t.TotalTokens)
	case query.CostUSD:
		return query.Number{Value: t.CostUSD.Value.InexactFloat64(), Known: t.CostUSD.Known}
	case query.CostPerCall:
		n := t.Calls - t.UncostedCalls
		return query.Number{Value: t.PricedUSD.Value.InexactFloat64() / float64(max(n, 1)), Known: t.PricedUSD.Known && n > 0}
	case query.LatencyP50:
		return t.LatencyMS.P50
	case query.LatencyP95:
		return t.LatencyMS.P95
	case query.TTFTP95:
		return t.TTFTMS.P95
	case query.CacheShare:
		return t.CacheHitShare
	}
	return query.Number{}
}

// TotalText writes a measure of totals.
func TotalText(m query.Measure, t query.Totals) string {
	return FigureText(m, totalOf(m, t), m == query.CostUSD && t.CostUSD.Known && t.CostAtLeast)
}

// totalTiles are the tiles of a period, compared with the one before. What is noted of
// a figure is in notes.
func totalTiles(f page.Frame, v *page.View, p *query.Period) []page.Figure {
	t := p.Totals
	notes := map[query.Measure]string{
		query.Calls: page.Plural(t.Events, "event"), query.TokensTotal: page.TokensInOut(t), query.CostUSD: page.Uncosted(t), query.Errors: page.Percent(t.ErrorRate) + " of calls",
		query.LatencyP95: "p50 " + page.Millis(t.LatencyMS.P50), query.TTFTP95: "p50 " + page.Millis(t.TTFTMS.P50),
	}
	var out []page.Figure
	for _, m := range overviewMeasures {
		x := page.Figure{Measure: m, Label: page.Short(m), Text: TotalText(m, t), Note: notes[m], URL: ListOf(f, v, m, p.From, p.To)}
		if p.Compared != nil && p.Previous.Events > 0 {
			x.Change, x.Compared = Against(m, totalOf(m, t), totalOf(m, p.Previous)), comparedWith(v, p)
		}
		out = append(out, x)
	}
	return out
}

// overviewMeasures are those of the tiles of the overview.
var overviewMeasures = []query.Measure{query.Calls, query.TokensTotal, query.CostUSD, query.Errors, query.LatencyP95, query.TTFTP95}

// comparedWith says with which time a period is compared.
func comparedWith(v *page.View, p *query.Period) string {
	return "compared with " + page.Period(v.Zone, p.Compared.From, p.Compared.To)
}
