package query_test

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

// ownEvents adds events that an application names: some know their prompt, most
// only their trace, some only their user.
func ownEvents(t testing.TB, f *fixture) {
	t.Helper()
	var more []*event.Event
	for i, e := range f.events {
		if !e.IsCosted() || i%3 > 0 {
			continue
		}
		o := &event.Event{UUID: event.NewID(), ProjectID: "default", Name: "support_ticket_resolved", Timestamp: e.Timestamp.Add(time.Duration(i%50) * time.Minute), Properties: map[string]json.RawMessage{}}
		if o.TraceID, o.DistinctID = e.TraceID, e.DistinctID; i%9 == 0 {
			o.TraceID = ""
		} else if i%9 == 3 {
			o.DistinctID = ""
		}
		if i%4 == 0 {
			o.PromptName, o.PromptVersion = "classify", "2"
		}
		if v := []string{"true", "false", `"true"`, "", "true"}[i%5]; v != "" {
			o.Properties["resolved"] = json.RawMessage(v)
		}
		o.Properties["score"] = json.RawMessage([]string{"5", "3", `"4"`, `"many"`}[i%4])
		more = append(more, o)
	}
	f.write(t, more...)
	f.events = append(f.events, more...)
}

// TestExamples takes points of charts of every measure and finds, in the drawer's
// examples and in the list behind it, as many events as the chart says.
func TestExamples(t *testing.T) {
	f := newFixture(t)
	withOutcomes(t, f)
	ownEvents(t, f)
	tasks := []query.Measure{query.CostPerTask, query.IncompleteCalls, query.TokensCacheNew, query.Evals}
	own := []query.Measure{query.EventCount, query.EventShare, query.EventMean, query.EventTraceRate, query.EventUserRate}
	match := query.EventMatch{Name: "support_ticket_resolved", Property: "resolved"}
	// What the figure of a point is, made of what its examples count; nil where it is
	// no count and no rate.
	counts := func(e *query.Examples) float64 { return float64(e.Count) }
	rates := func(e *query.Examples) float64 { return float64(e.Count) / float64(e.Among) }
	of := map[query.Measure]func(*query.Examples) float64{query.Calls: counts, query.Errors: counts, query.ErrorRate: rates, query.Users: counts, query.Tasks: counts, query.TasksCompleted: counts, query.Rated: counts,
		query.Negative: counts, query.NegativeRate: rates, query.EscalationRate: rates, query.EditRate: rates, query.RetryRate: rates, query.ToolCalls: counts, query.ToolErrors: counts, query.ToolErrorRate: rates,
		query.EventCount: counts, query.EventShare: rates, query.EventTraceRate: rates, query.EventUserRate: rates}
	from, to := now.AddDate(0, 0, -7), now.Add(-time.Hour)
	some := 0
	for _, c := range []struct {
		by query.GroupBy
		of []query.Measure
		f  query.Filter
	}{
		{by: query.ByPrompt, of: callMeasures}, {by: query.ByNone, of: callMeasures[3:]}, {by: query.ByProperty("plan"), of: callMeasures[:6], f: query.Filter{Environment: "staging"}},
		{by: query.ByErrorType, of: callMeasures[:3], f: query.Filter{Kind: query.KindErrors}},
		{by: query.ByPrompt, of: outcomeMeasures}, {by: query.ByModel, of: outcomeMeasures, f: query.Filter{Provider: "openai"}}, {by: query.ByEval, of: outcomeMeasures[:3]},
		{by: query.ByTool, of: toolMeasures}, {by: query.ByNone, of: toolMeasures},
		{by: query.ByPrompt, of: own}, {by: query.ByModelAsked, of: own, f: query.Filter{Provider: "openai"}}, {by: query.ByNone, of: own}, {by: query.ByProperty("score"), of: own[:3]},
		{by: query.ByPrompt, of: tasks},
	} {
		for _, m := range c.of {
			filter := c.f
			filter.From, filter.To = from, to
			s, err := f.Series(t.Context(), query.SeriesQuery{Project: "default", Filter: filter, Measures: []query.Measure{m}, Event: match, By: c.by, Every: query.ByDay, Limit: 3})
			if err != nil {
				t.Fatal(m, err)
			}
			verify := func(what string, n query.Number, p query.Point, at query.Filter) {
				t.Helper()
				p.Measure, p.Event, p.By = m, match, c.by
				got, err := f.Examples(t.Context(), query.ExamplesQuery{Project: "default", Filter: at, Point: p, Limit: 7})
				if err != nil {
					t.Fatalf("%s by %s, %s: %v", m, c.by, what, err)
				}
				var listed []*query.Event
				for q := (query.EventsQuery{Project: "default", Filter: at, Point: &p, Limit: 50}); ; {
					page, err := f.Events(t.Context(), q)
					if err != nil {
						t.Fatal(err)
					}
					if listed = append(listed, page.Events...); page.Next == "" {
						break
					}
					q.Cursor = page.Next
				}
				if int64(len(listed)) != got.Count || int64(len(got.Events)) != min(got.Count, 7) {
					t.Errorf("%s by %s, %s: %d examples of %d, %d in the list", m, c.by, what, len(got.Events), got.Count, len(listed))
				}
				if found, err := f.Found(t.Context(), query.EventsQuery{Project: "default", Filter: at, Point: &p, Sort: m.Info().List}); err != nil || found.Events != int64(len(listed)) || found.Figure.Known != n.Known || math.Abs(found.Figure.Value-n.Value) > 1e-9*max(1, math.Abs(n.Value)) {
					t.Errorf("%s by %s, %s: the list says %+v, the chart %v; %d are listed; %v", m, c.by, what, found, n, len(listed), err)
				}
				for _, e := range got.Events {
					if !slices.ContainsFunc(listed, func(l *query.Event) bool { return l.UUID == e.UUID }) {
						t.Errorf("%s by %s, %s: an example is not in the list", m, c.by, what)
					}
				}
				if of[m] != nil && n.Known {
					if some++; math.Abs(of[m](got)-n.Value) > 1e-9 {
						t.Errorf("%s by %s, %s: the chart says %v, the examples are %d of %d", m, c.by, what, n.Value, got.Count, got.Among)
					}
				}
				if n.Known && n.Value != 0 && got.Count == 0 {
					t.Errorf("%s by %s, %s: no example of %v", m, c.by, what, n.Value)
				}
			}
			var keys []string
			for i, g := range s.Groups {
				if keys = append(keys, g.Key); i > 0 {
					continue
				}
				verify("group "+g.Key, g.Total[m], query.Point{Key: &g.Key}, filter)
				at := filter
				at.From, at.To = s.Starts[3].Start, s.Starts[3].End
				verify("a day of group "+g.Key, g.Points[3][m], query.Point{Key: &g.Key}, at)
			}
			if s.Rest != nil {
				verify("the others", s.Rest.Total[m], query.Point{Not: keys}, filter)
			}
			verify("all", s.Total.Total[m], query.Point{}, filter)
		}
	}
	if some < 60 {
		t.Errorf("only %d figures were compared", some)
	}
}

// TestExamplesOfRetries: the steps that were tried again, the most often tried first.
func TestExamplesOfRetries(t *testing.T) {
	f := newFixture(t)
	at := now.Add(-time.Hour)
	step := func(retries int) *event.Event {
		return &event.Event{UUID: event.NewID(), ProjectID: "default", Name: event.Span, TraceID: "t", SpanID: event.NewID(), Timestamp: at,
			Properties: map[string]json.RawMessage{"agent_step_name": json.RawMessage(`"gather"`), "retry_count": json.RawMessage(strconv.Itoa(retries))}}
	}
	steps := []*event.Event{step(0), step(1), step(4)}
	f.write(t, steps...)
	filter := query.Filter{From: at.Add(-time.Minute), To: at.Add(time.Minute)}
	by := query.ByProperty(query.AgentStep)
	s, err := f.Series(t.Context(), query.SeriesQuery{Project: "default", Filter: filter, Measures: []query.Measure{query.Retries}, By: by, Every: query.ByDay, Limit: 3})
	if err != nil {
		t.Fatal(err)
	}
	if i := slices.IndexFunc(s.Groups, func(g query.Line) bool { return g.Key == "gather" }); i < 0 || s.Groups[i].Total[query.Retries].Value != 5 {
		t.Errorf("groups %+v", s.Groups)
	}
	key := "gather"
	got, err := f.Examples(t.Context(), query.ExamplesQuery{Project: "default", Filter: filter, Point: query.Point{Measure: query.Retries, By: by, Key: &key}})
	if err != nil || got.Count != 2 || got.Among != 3 || got.Of != "steps" || len(got.Events) != 2 || got.Events[0].UUID != steps[2].UUID || got.Events[1].UUID != steps[1].UUID {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestOwnEvents counts again what an application's own events come to.
func TestOwnEvents(t *testing.T) {
	f := newFixture(t)
	ownEvents(t, f)
	from, to := now.AddDate(0, 0, -7), now.Add(-time.Hour)
	in := func(e *event.Event) bool { return !e.Timestamp.Before(from) && e.Timestamp.Before(to) }
	reach := func(e *event.Event) bool {
		return !e.Timestamp.Before(from.AddDate(0, 0, -7)) && e.Timestamp.Before(to.AddDate(0, 0, 7))
	}
	yes := func(e *event.Event) bool {
		v := string(e.Properties["resolved"])
		return v == "true" || v == `"true"`
	}
	var n, known, hits float64
	traces, users := make(map[string]bool), make(map[string]bool)
	for _, e := range f.events {
		if e.Name != "support_ticket_resolved" || e.ProjectID != "default" {
			continue
		}
		if in(e) {
			if n++; e.Properties["resolved"] != nil {
				known++
			}
			if yes(e) {
				hits++
			}
		}
		if yes(e) && reach(e) {
			traces[e.TraceID], users[e.DistinctID] = e.TraceID != "", e.DistinctID != ""
		}
	}
	type unit struct{ all, hit map[string]bool }
	ofTraces, ofUsers := unit{map[string]bool{}, map[string]bool{}}, unit{map[string]bool{}, map[string]bool{}}
	for _, e := range f.events {
		if !e.IsCosted() || !in(e) || e.ProjectID != "default" {
			continue
		}
		if e.TraceID != "" {
			if ofTraces.all[e.TraceID] = true; traces[e.TraceID] {
				ofTraces.hit[e.TraceID] = true
			}
		}
		if e.DistinctID != "" {
			if ofUsers.all[e.DistinctID] = true; users[e.DistinctID] || traces[e.TraceID] {
				ofUsers.hit[e.DistinctID] = true
			}
		}
	}
	ask := func(e query.EventMatch, m query.Measure) query.Number {
		t.Helper()
		s, err := f.Series(t.Context(), query.SeriesQuery{Project: "default", Filter: query.Filter{From: from, To: to}, Measures: []query.Measure{m}, Event: e})
		if err != nil {
			t.Fatal(m, err)
		}
		return s.Total.Total[m]
	}
	resolved := query.EventMatch{Name: "support_ticket_resolved", Property: "resolved"}
	for _, c := range []struct {
		match query.EventMatch
		m     query.Measure
		want  float64
	}{
		{query.EventMatch{Name: "support_ticket_resolved"}, query.EventCount, n}, {resolved, query.EventCount, hits}, {resolved, query.EventShare, hits / known},
		{query.EventMatch{Name: "support_ticket_resolved", Property: "resolved", Value: "false"}, query.EventShare, 1 - hits/known},
		{resolved, query.EventTraceRate, float64(len(ofTraces.hit)) / float64(len(ofTraces.all))}, {resolved, query.EventUserRate, float64(len(ofUsers.hit)) / float64(len(ofUsers.all))},
		{query.EventMatch{Name: "no_such_event"}, query.EventCount, 0}, {query.EventMatch{Name: "no_such_event"}, query.EventTraceRate, 0},
	} {
		if got := ask(c.match, c.m); !got.Known || math.Abs(got.Value-c.want) > 1e-9 {
			t.Errorf("%+v %s = %v, want %v", c.match, c.m, got, c.want)
		}
	}
	if n == hits || hits == 0 || len(ofTraces.hit) == 0 || len(ofTraces.hit) == len(ofTraces.all) {
		t.Error("the events tell nothing apart")
	}
	for _, m := range []query.Measure{query.EventShare, query.EventMean} {
		if _, err := f.Series(t.Context(), query.SeriesQuery{Project: "default", Filter: query.Filter{From: from, To: to}, Measures: []query.Measure{m}, Event: query.EventMatch{Name: "x"}}); err == nil {
			t.Errorf("%s of no property is answered", m)
		}
	}
}
