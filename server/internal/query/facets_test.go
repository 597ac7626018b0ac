package query_test

import (
	"fmt"
	"slices"
	"strconv"
	"testing"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/query/filter"
	"github.com/hedgerow/hedgerow/server/internal/query/querytest"
)

// rowsOf counts the rows of a list.
func rowsOf(t *testing.T, r *query.Reader, list string, f query.Filter) (n int64) {
	t.Helper()
	ask := map[string]func(query.ListQuery) (*query.ListPage, error){
		query.ListTraces:   func(q query.ListQuery) (*query.ListPage, error) { return r.Traces(t.Context(), q) },
		query.ListSessions: func(q query.ListQuery) (*query.ListPage, error) { return r.Sessions(t.Context(), q) },
		query.ListUsers:    func(q query.ListQuery) (*query.ListPage, error) { return r.Users(t.Context(), q) },
	}[list]
	if ask != nil {
		page, err := ask(query.ListQuery{Project: "default", Filter: f, Limit: query.MaxLimit})
		if err != nil || page.Next != "" {
			t.Fatalf("%v, %v", page, err)
		}
		return int64(len(page.Rows))
	}
	if list == query.ListGenerations {
		if f.Kind != "" {
			t.Fatal("a list of generations has a kind")
		}
		f.Kind = query.KindCalls
	}
	page, err := r.Events(t.Context(), query.EventsQuery{Project: "default", Filter: f, Limit: query.MaxLimit})
	if err != nil || page.Next != "" {
		t.Fatalf("%v, %v", page, err)
	}
	return int64(len(page.Events))
}

// TestFacets selects values of facets: the list has as many rows as the facet counted,
// and a recount in Go agrees.
func TestFacets(t *testing.T) {
	p := newPair(t)
	events := filterEvents(500)
	p.write(t, events...)
	if p.roll(t) == 0 {
		t.Fatal("nothing was rolled up")
	}
	from, to := now.AddDate(0, 0, -6), now
	for i, c := range []struct{ list, field, q string }{
		{query.ListEvents, "status", ""},
		{query.ListEvents, "model", "env:production model:(gpt-4.1,absent) requested_model:~gpt"},
		{query.ListEvents, "kind", "provider:openai"},
		{query.ListEvents, "tag", "-tag:beta"},
		{query.ListEvents, "step", ""},
		{query.ListEvents, "stream", "latency:>500ms"},
		{query.ListEvents, "http", "provider:openai"},
		{query.ListEvents, "property.user_feedback", "kind:outcomes"},
		{query.ListEvents, "env", "env:staging"},
		{query.ListGenerations, "provider", "env:production"},
		{query.ListGenerations, "requested_model", ""},
		{query.ListGenerations, "property.plan", "property.plan:absent"},
		{query.ListGenerations, "tool", "(tool:search OR http:200)"},
		{query.ListGenerations, "flag.new", "status:success"},
		{query.ListGenerations, "group.company", ""},
		{query.ListTraces, "model", "cost:>0.0001"},
		{query.ListTraces, "task", ""},
		{query.ListSessions, "provider", "status:success model:~gpt"},
		{query.ListUsers, "surface", "surface:Test -provider:openai"},
	} {
		x, err := query.ParseFilter(c.q)
		if err != nil {
			t.Fatal(err)
		}
		base := query.Filter{From: from, To: to}
		base.NarrowBy(x)
		bare := query.Filter{From: from, To: to}
		bare.NarrowBy(x.Without(c.field))
		var asked []string
		for _, term := range x.Terms {
			if term.Field == c.field && !term.Not {
				asked = append(asked, term.Values...)
			}
		}
		name := "events"
		r := p.askPlain
		if i%2 == 0 {
			name, r = "roll-ups", p.ask
		}
		what := fmt.Sprintf("%s of %s under %q, by %s", c.field, c.list, c.q, name)
		f, err := r.Facet(t.Context(), query.FacetQuery{Project: "default", Filter: base, List: c.list, Field: c.field})
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if rows := rowsOf(t, r, c.list, bare); f.Rows != rows || rows == 0 {
			t.Errorf("%s: %d rows, want %d", what, f.Rows, rows)
		}
		for j, v := range f.Values {
			if v.Selected != slices.Contains(asked, v.Value) {
				t.Errorf("%s: %s is selected: %v", what, v.Value, v.Selected)
			}
			if j > 2 && !v.Selected {
				continue
			}
			ticked := bare
			ticked.NarrowBy(filter.Expr{Terms: []filter.Term{{Field: c.field, Values: []string{v.Value}}}})
			if c.field == "kind" && c.list == query.ListGenerations {
				continue
			}
			if rows := rowsOf(t, r, c.list, ticked); rows != v.Count {
				t.Errorf("%s: %s is counted %d times, its list has %d rows", what, v.Value, v.Count, rows)
			}
		}
		for _, v := range asked {
			if !slices.ContainsFunc(f.Values, func(have query.FacetValue) bool { return have.Value == v }) {
				t.Errorf("%s: the selected value %s is not there", what, v)
			}
		}
		if c.field != "kind" {
			missing := bare
			missing.NarrowBy(filter.Expr{Terms: []filter.Term{{Field: c.field, Op: filter.Exists, Not: true}}})
			if rows := rowsOf(t, r, c.list, missing); rows != f.Missing {
				t.Errorf("%s: missing %d times, its list has %d rows", what, f.Missing, rows)
			}
		}
		if c.list != query.ListEvents || c.field == "step" {
			continue
		}
		counts := make(map[string]int64)
		for _, e := range events {
			if e.Timestamp.Before(from) || !e.Timestamp.Before(to) || !querytest.Meets(e, x.Without(c.field)) {
				continue
			}
			for _, v := range querytest.Values(e, c.field) {
				counts[v]++
			}
		}
		for _, v := range f.Values {
			if counts[v.Value] != v.Count && v.Value != "incomplete" {
				t.Errorf("%s: %s is counted %d times, want %d", what, v.Value, v.Count, counts[v.Value])
			}
			delete(counts, v.Value)
		}
		if len(counts) > 0 {
			t.Errorf("%s: the values %v are not there", what, counts)
		}
	}
	t.Run("Search", func(t *testing.T) {
		var f query.Filter
		if err := f.Narrow("model:gpt-4.1"); err != nil {
			t.Fatal(err)
		}
		facet, err := p.ask.Facet(t.Context(), query.FacetQuery{Project: "default", Filter: f, Field: "model", Search: "CLAUDE", Limit: 1})
		if err != nil || len(facet.Values) != 2 || facet.More != 1 {
			t.Errorf("%+v, %v", facet, err)
		}
	})
	t.Run("Numbers", func(t *testing.T) {
		for _, c := range []struct {
			field string
			value func(*event.Event) (float64, bool)
		}{
			{"latency", func(e *event.Event) (float64, bool) {
				return float64(e.Latency.Value.Microseconds()) / 1e6, e.Latency.Known
			}},
			{"output_tokens", func(e *event.Event) (float64, bool) { return float64(e.Usage.Output.Value), e.Usage.Output.Known }},
			{"cost", func(e *event.Event) (float64, bool) {
				return e.Cost.Total.Value.InexactFloat64(), e.Cost.Total.Known
			}},
		} {
			f, err := p.ask.Facet(t.Context(), query.FacetQuery{Project: "default", Field: c.field})
			if err != nil || f.Histogram == nil || len(f.Histogram.Buckets) != 32 {
				t.Fatalf("%s: %+v, %v", c.field, f, err)
			}
			var all []float64
			for _, e := range events {
				if v, ok := c.value(e); ok {
					all = append(all, v)
				}
			}
			slices.Sort(all)
			h := f.Histogram
			var n int64
			for i, b := range h.Buckets {
				n += b.N
				var want int64
				for _, v := range all {
					if v >= b.Lo*(1+1e-9) && v < b.Hi*(1-1e-9) { // those on an edge aside
						want++
					}
				}
				if b.N < want || i > 0 && b.Lo != h.Buckets[i-1].Hi {
					t.Errorf("%s: bucket %d is %+v, has %d", c.field, i, b, want)
				}
			}
			if n != int64(len(all)) || f.Missing != int64(len(events)-len(all)) || f.Rows != int64(len(events)) || h.Min != all[0] || h.Max != all[len(all)-1] || h.P50 < all[len(all)*49/100] || h.P50 > all[len(all)*51/100] {
				t.Errorf("%s: %+v of %d values from %g to %g", c.field, f, len(all), all[0], all[len(all)-1])
			}
			above := query.Filter{}
			if err := above.Narrow(c.field + ":>" + map[bool]string{true: strconv.FormatFloat(h.P95*1e6, 'f', 0, 64) + "us", false: strconv.FormatFloat(h.P95, 'f', 12, 64)}[c.field == "latency"]); err != nil {
				t.Fatal(err)
			}
			if rows := rowsOf(t, p.ask, query.ListEvents, above); rows == 0 || rows > int64(len(all)/15) {
				t.Errorf("%s: %d of %d are above p95", c.field, rows, len(all))
			}
		}
	})
	for name, q := range map[string]query.FacetQuery{
		"unknown field": {Field: "modle"}, "text": {Field: "error"}, "list": {List: "spans", Field: "model"}, "limit": {Field: "model", Limit: query.MaxFacet + 1},
	} {
		q.Project = "default"
		if _, err := p.ask.Facet(t.Context(), q); event.AsError(err) == nil || event.AsError(err).HTTPStatus() != 400 {
			t.Errorf("%s: %v", name, err)
		}
	}
}
