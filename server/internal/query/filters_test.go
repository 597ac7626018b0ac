package query_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/query/querytest"
	"github.com/hedgerow/hedgerow/server/internal/store/storetest"
)

// filterEvents are random events, with outcomes, tool calls, flags and groups.
func filterEvents(n int) []*event.Event {
	g := storetest.NewGenerator(11)
	var out []*event.Event
	for i := range n {
		e := g.Event(now.Add(-time.Duration(i*7919%14400) * time.Minute))
		if i%3 == 0 {
			e.Flags, e.Groups = map[string]string{"new": []string{"on", "off"}[i%2]}, map[string]string{"company": []string{"acme", "other"}[i/3%2]}
		}
		out = append(out, e)
	}
	return append(out, querytest.Outcomes(rand.New(rand.NewPCG(5, 6)), out)...)
}

// filterTexts are the filters of a case file.
func filterTexts(t testing.TB) []string {
	t.Helper()
	cases, err := os.ReadFile("testdata/filters/each.txt")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(cases)), "\n")
}

// TestFilters compares the answers under each filter of testdata/filters with a recount
// in Go: the list of events, totals, a series of calls and of outcomes, traces, errors.
func TestFilters(t *testing.T) {
	p := newPair(t)
	events := filterEvents(800)
	p.write(t, events...)
	if p.roll(t) == 0 {
		t.Fatal("nothing was rolled up")
	}
	from, to := now.AddDate(0, 0, -5), now.Add(-time.Hour)
	within := func(e *event.Event) bool { return !e.Timestamp.Before(from) && e.Timestamp.Before(to) }
	met := 0
	for i, text := range filterTexts(t) {
		x, err := query.ParseFilter(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		f := query.Filter{From: from, To: to}
		f.NarrowBy(x)
		takes := func(e *event.Event) bool { return within(e) && querytest.Meets(e, x) }
		want := newest(events, takes)
		if len(want) > 0 {
			met++
		}
		var these []*event.Event
		traces := make(map[string]bool)
		for _, e := range events {
			if takes(e) {
				these = append(these, e)
				traces[e.TraceID] = e.TraceID != ""
			}
		}
		delete(traces, "")
		var whole []*event.Event // outcomes have fields of their calls
		for _, e := range querytest.Complete(events) {
			if takes(e) {
				whole = append(whole, e)
			}
		}
		totals, figures := querytest.Totals(these), querytest.Figures(whole)
		for name, r := range map[string]*query.Reader{"events": p.askPlain, "roll-ups": p.ask} {
			if !long() && (i%2 == 0) == (name == "events") {
				continue
			}
			page, err := r.Events(t.Context(), query.EventsQuery{Project: "default", Filter: f, Limit: query.MaxLimit})
			if err != nil {
				t.Errorf("%s, by %s: %v", text, name, err)
				continue
			}
			var got []string
			for _, e := range page.Events {
				got = append(got, e.UUID)
			}
			if f.Kind != query.KindOutcomes && !slices.Equal(got, want[:min(len(want), query.MaxLimit)]) {
				t.Errorf("%s, by %s: %d events, want %d", text, name, len(got), len(want))
			}
			if x.Words() {
				if _, err := r.Series(t.Context(), query.SeriesQuery{Project: "default", Filter: f, Measures: []query.Measure{query.Calls}}); event.AsError(err) == nil {
					t.Errorf("%s, by %s: figures are narrowed by words", text, name)
				}
				continue
			}
			stats, err := r.Stats(t.Context(), query.StatsQuery{Project: "default", Filter: f, GroupBy: query.ByModel})
			if err != nil || stats.Totals.Events != totals.Events || stats.Totals.Calls != totals.Calls || fmt.Sprint(stats.Totals.CostUSD) != fmt.Sprint(totals.CostUSD) {
				t.Errorf("%s, by %s: the totals are %v, %v, want %v", text, name, stats, err, totals)
			}
			if i%3 == 0 || long() {
				series, err := r.Series(t.Context(), query.SeriesQuery{Project: "default", Filter: f, Measures: []query.Measure{query.Calls, query.Users, query.Rated, query.CompletionRate, query.ToolCalls}, By: query.ByProvider, Every: query.ByDay})
				if err != nil {
					t.Errorf("%s, by %s: %v", text, name, err)
					continue
				}
				sameValues(t, text+", by "+name, series.Total.Total, figures, []query.Measure{query.Calls, query.Users, query.ToolCalls, query.Rated, query.CompletionRate})
			}
			if i%3 == 1 || long() {
				list, err := r.Traces(t.Context(), query.ListQuery{Project: "default", Filter: f, Limit: query.MaxLimit, Sort: query.SortCost})
				if err != nil || len(list.Rows) != min(len(traces), query.MaxLimit) {
					t.Errorf("%s, by %s: %v, want %d traces", text, name, err, len(traces))
				}
			}
			if i%3 != 2 && !long() {
				continue
			}
			groups, err := r.Errors(t.Context(), "default", f, query.MaxGroups)
			var failed, wantFailed int64
			for _, g := range groups {
				failed += g.Count
			}
			for _, e := range these {
				if e.IsError && (e.IsCosted() || e.ErrorType != "" || e.ErrorMessage != "") {
					wantFailed++
				}
			}
			if err != nil || failed != wantFailed {
				t.Errorf("%s, by %s: %d failures, %v, want %d", text, name, failed, err, wantFailed)
			}
		}
	}
	if met < 80 {
		t.Errorf("only %d filters are met by any event", met)
	}
}

// TestFilterFields asks each field with each of its operators: the store has what it
// compares.
func TestFilterFields(t *testing.T) {
	p := newPair(t)
	p.write(t, filterEvents(300)...)
	if p.roll(t) == 0 {
		t.Fatal("nothing was rolled up")
	}
	for _, field := range query.FilterFields() {
		name := field.Name
		if field.Family {
			name += ".x"
		}
		value := map[string]string{"enum": "", "dollars": "1", "number": "1", "duration": "1s", "bytes": "1KB", "boolean": "true"}[string(field.Type)]
		if value == "" {
			value = "x"
			if len(field.Values) > 0 {
				value = field.Values[0]
			}
		}
		var texts []string
		for _, op := range field.Operators() {
			switch op {
			case "has":
				texts = append(texts, "has:"+name, "-has:"+name)
			case "..":
				texts = append(texts, name+":"+strings.Replace(value, "x", "1", 1)+".."+strings.Replace(value, "x", "1", 1))
			case ">", ">=", "<", "<=":
				texts = append(texts, name+":"+string(op)+strings.Replace(value, "x", "1", 1))
			default:
				texts = append(texts, name+":"+string(op)+value, "-"+name+":"+string(op)+value)
			}
		}
		f := query.Filter{From: now.AddDate(0, 0, -9), To: now}
		if err := f.Narrow("(" + strings.Join(texts, " OR ") + ")"); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, err := p.ask.Series(t.Context(), query.SeriesQuery{Project: "default", Filter: f, Measures: []query.Measure{query.Calls, query.Rated}}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
