package query_test

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/query/querytest"
	"github.com/hedgerow/hedgerow/server/internal/store/storetest"
)

// summarise is the specification of a list, without SQL.
func summarise(events []*event.Event, key func(*event.Event) string, kind string) []query.Summary {
	byKey := make(map[string][]*event.Event)
	for _, e := range events {
		if k := key(e); k != "" {
			byKey[k] = append(byKey[k], e)
		}
	}
	var out []query.Summary
	for k, list := range byKey {
		slices.SortStableFunc(list, func(a, b *event.Event) int { return a.Timestamp.Compare(b.Timestamp) })
		s := query.Summary{ID: k, First: list[0].Timestamp, Last: list[len(list)-1].Timestamp, Events: int64(len(list))}
		traces, sessions := make(map[string]bool), make(map[string]bool)
		begin, end := time.Time{}, time.Time{}
		t := querytest.Totals(list)
		s.Calls, s.Errors, s.OtherErrors, s.TotalTokens, s.CostUSD, s.UncostedCalls = t.Calls, t.Errors, t.OtherErrors, t.TotalTokens, t.CostUSD, t.UncostedCalls
		s.Incomplete, s.CostAtLeast = t.Incomplete, t.CostAtLeast
		for _, e := range list {
			if e.Latency.Known && begin.IsZero() {
				begin = e.Timestamp
			}
			if at := e.Timestamp.Add(e.Latency.Value.Truncate(time.Microsecond)); e.Latency.Known && at.After(end) {
				end = at
			}
			if e.TraceID != "" {
				traces[e.TraceID] = true
			}
			if e.SessionID != "" {
				sessions[e.SessionID] = true
			}
			if e.Name == event.FirstValue && s.FirstValue == nil {
				s.FirstValue = &e.Timestamp
			}
			s.User, s.SessionID = cmp.Or(s.User, e.DistinctID), cmp.Or(s.SessionID, e.SessionID)
		}
		s.DurationMS = float64(end.Sub(begin).Microseconds()) / 1000
		if kind != "trace" {
			s.Traces = int64(len(traces))
		}
		if kind == "user" {
			s.Sessions, s.SessionID = int64(len(sessions)), ""
		}
		out = append(out, s)
	}
	return out
}

func TestLists(t *testing.T) {
	f := newFixture(t)
	withOutcomes(t, f)
	g := f.events[7]
	for i := range 40 { // traces and sessions of several events
		e := f.events[i*3].Clone()
		e.UUID, e.TraceID, e.SessionID, e.SpanID = event.NewID(), g.TraceID, fmt.Sprintf("s-%d", i%4), fmt.Sprint(i)
		f.write(t, e)
		f.events = append(f.events, e)
	}
	first := &event.Event{UUID: event.NewID(), ProjectID: "default", Name: event.FirstValue, DistinctID: g.DistinctID, Timestamp: now.Add(-2 * time.Hour)}
	f.write(t, first)
	f.events = append(f.events, first)
	from, to := now.AddDate(0, 0, -6), now.Add(-30*time.Minute)
	type ask func(query.ListQuery) (*query.ListPage, error)
	asks := map[string]ask{
		"trace":   func(q query.ListQuery) (*query.ListPage, error) { return f.Traces(t.Context(), q) },
		"session": func(q query.ListQuery) (*query.ListPage, error) { return f.Sessions(t.Context(), q) },
		"user":    func(q query.ListQuery) (*query.ListPage, error) { return f.Users(t.Context(), q) },
	}
	keys := map[string]func(*event.Event) string{
		"trace": func(e *event.Event) string { return e.TraceID }, "session": func(e *event.Event) string { return e.SessionID }, "user": func(e *event.Event) string { return e.DistinctID },
	}
	zero := decimal.Decimal{}
	values := map[query.Sort]func(s query.Summary, kind string) float64{
		query.SortStart: func(s query.Summary, kind string) float64 {
			if kind == "trace" {
				return float64(s.First.UnixMicro())
			}
			return float64(s.Last.UnixMicro())
		},
		query.SortDuration: func(s query.Summary, _ string) float64 { return s.DurationMS },
		query.SortCost: func(s query.Summary, _ string) float64 {
			if !s.CostUSD.Known {
				return zero.InexactFloat64()
			}
			return s.CostUSD.Value.InexactFloat64()
		},
		query.SortTokens: func(s query.Summary, _ string) float64 { return float64(s.TotalTokens.Or(0)) },
		query.SortErrors: func(s query.Summary, _ string) float64 { return float64(s.Errors) },
		query.SortCalls:  func(s query.Summary, _ string) float64 { return float64(s.Calls) },
	}
	for kind, ask := range asks {
		for sort, value := range values {
			for _, filter := range []query.Filter{{}, {Provider: "anthropic", Status: "error"}} {
				t.Run(fmt.Sprintf("%s-%s-%s", kind, sort, filter.Provider), func(t *testing.T) {
					hit := make(map[string]bool)
					var in []*event.Event
					for _, e := range f.events {
						if e.Timestamp.Before(from) || !e.Timestamp.Before(to) {
							continue
						}
						in = append(in, e)
						if filter.Provider == "" || e.Provider == filter.Provider && string(e.Status) == filter.Status {
							hit[keys[kind](e)] = true
						}
					}
					want := slices.DeleteFunc(summarise(in, keys[kind], kind), func(s query.Summary) bool { return !hit[s.ID] })
					slices.SortFunc(want, func(a, b query.Summary) int {
						return cmp.Or(cmp.Compare(value(b, kind), value(a, kind)), strings.Compare(a.ID, b.ID))
					})
					filter.From, filter.To = from, to
					var got []query.Summary
					for cursor := ""; ; {
						page, err := ask(query.ListQuery{Project: "default", Filter: filter, Sort: sort, Cursor: cursor, Limit: 97})
						if err != nil {
							t.Fatal(err)
						}
						got = append(got, page.Rows...)
						if cursor = page.Next; cursor == "" {
							break
						}
					}
					if len(got) != len(want) || len(want) < 5 {
						t.Fatalf("%d rows, want %d", len(got), len(want))
					}
					for i := range want {
						w := want[i]
						w.Name = got[i].Name
						if g := got[i]; jsonOf(t, g) != jsonOf(t, w) {
							t.Fatalf("row %d\n got %s\nwant %s", i, jsonOf(t, g), jsonOf(t, w))
						}
					}
				})
			}
		}
		wantInvalid(t, second(ask(query.ListQuery{Project: "default", Sort: "name"})))
		wantInvalid(t, second(ask(query.ListQuery{Project: "default", Cursor: "x"})))
		wantInvalid(t, second(ask(query.ListQuery{Project: "default", Limit: -1})))
		wantInvalid(t, second(ask(query.ListQuery{})))
		if p, err := ask(query.ListQuery{Project: "nobody"}); err != nil || len(p.Rows) != 0 {
			t.Errorf("%s of nobody: %v, %v", kind, p, err)
		}
	}
}

func TestEventsSorted(t *testing.T) {
	f := newFixture(t)
	for i := range 20 {
		e := storetest.NewGenerator(uint64(900 + i)).Event(now.Add(-time.Duration(i) * time.Minute))
		e.Cost = event.Cost{Input: event.Some(decimal.New(int64(i), -4))}
		f.write(t, e)
		f.events = append(f.events, e)
	}
	for sort, value := range map[query.EventSort]func(*event.Event) (decimal.Decimal, bool){
		// Of what is priced in part, the part.
		query.ByCost: func(e *event.Event) (decimal.Decimal, bool) {
			if e.Cost.Total.Known {
				return e.Cost.Total.Value, true
			}
			part := e.Cost.Sum()
			return part.Value, part.Known
		},
		query.ByLatency: func(e *event.Event) (decimal.Decimal, bool) {
			return decimal.NewFromInt(e.Latency.Value.Microseconds()), true
		},
		query.ByTTFT: func(e *event.Event) (decimal.Decimal, bool) {
			return decimal.NewFromInt(e.TimeToFirstToken.Value.Microseconds()), e.TimeToFirstToken.Known
		},
		query.ByTokens: func(e *event.Event) (decimal.Decimal, bool) {
			n := e.Usage.Tokens()
			return decimal.NewFromInt(n.Value), n.Known
		},
	} {
		t.Run(string(sort), func(t *testing.T) {
			var want []*event.Event
			for _, e := range f.events {
				if _, ok := value(e); ok {
					want = append(want, e)
				}
			}
			slices.SortFunc(want, func(a, b *event.Event) int {
				x, _ := value(a)
				y, _ := value(b)
				return cmp.Or(y.Cmp(x), strings.Compare(b.UUID, a.UUID))
			})
			i := 0
			for cursor := ""; ; {
				page, err := f.Events(t.Context(), query.EventsQuery{Project: "default", Sort: sort, Cursor: cursor, Limit: 300})
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range page.Events {
					if i >= len(want) || e.UUID != want[i].UUID {
						t.Fatalf("event %d is out of order", i)
					}
					i++
				}
				if cursor = page.Next; cursor == "" {
					break
				}
			}
			if i != len(want) {
				t.Errorf("%d events, want %d", i, len(want))
			}
			wantInvalid(t, second(f.Events(t.Context(), query.EventsQuery{Project: "default", Sort: sort, Cursor: "eyJz"})))
		})
	}
	wantInvalid(t, second(f.Events(t.Context(), query.EventsQuery{Project: "default", Sort: "name"})))
}

// TestEventsOfKind finds what a chart counted: outcomes also by what they have
// of their call.
func TestEventsOfKind(t *testing.T) {
	f := newFixture(t)
	withOutcomes(t, f)
	all := querytest.Complete(f.events)
	for name, c := range map[string]struct {
		filter query.Filter
		ok     func(*event.Event) bool
	}{
		"Calls":  {query.Filter{Kind: query.KindCalls}, (*event.Event).IsCosted},
		"Errors": {query.Filter{Kind: query.KindErrors}, func(e *event.Event) bool { return e.IsError }},
		"Tools":  {query.Filter{Kind: query.KindTools}, querytest.IsTool},
		"Step": {query.Filter{Kind: query.KindTools, Step: "lookup"}, func(e *event.Event) bool {
			return querytest.IsTool(e) && querytest.Text(e, "gen_ai.tool.name") == "lookup"
		}},
		"Outcomes": {query.Filter{Kind: query.KindOutcomes, Provider: "openai"}, func(e *event.Event) bool { return querytest.IsOutcome(e) && e.Provider == "openai" }},
		"Tasks": {query.Filter{Name: "llm_task_completed", PromptName: "classify", PromptVersion: "pv_7"}, func(e *event.Event) bool {
			return e.Name == "llm_task_completed" && e.PromptName == "classify" && e.PromptVersionID == "pv_7"
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for cursor := ""; ; {
				page, err := f.Events(t.Context(), query.EventsQuery{Project: "default", Filter: c.filter, Cursor: cursor, Limit: 500})
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range page.Events {
					got = append(got, e.UUID)
				}
				if cursor = page.Next; cursor == "" {
					break
				}
			}
			if want := newest(all, c.ok); !slices.Equal(got, want) || len(want) < 10 {
				t.Errorf("%d events, want %d", len(got), len(want))
			}
		})
	}
	wantInvalid(t, second(f.Events(t.Context(), query.EventsQuery{Project: "default", Filter: query.Filter{Kind: "x"}})))
}

func TestErrors(t *testing.T) {
	f := newFixture(t)
	at := now.Add(-3 * time.Hour)
	put := func(message, kind, user string, after time.Duration) string {
		e := &event.Event{UUID: event.NewID(), ProjectID: "default", Name: event.Generation, Timestamp: at.Add(after), DistinctID: user, IsError: true, ErrorType: kind, ErrorMessage: message, Model: "m-" + user}
		f.write(t, e)
		return e.UUID
	}
	put("Rate limit reached for org-A1b2C3d4E5f6: try again in 1.5s (req_011CSHoEeqs5C35K2UUqR7Fy)", "rate_limit", "a", 0)
	put("Rate limit reached for org-Z9y8X7w6V5: try again in 20s (req_99999999999999999999)", "rate_limit", "b", time.Minute)
	last := put("Rate limit reached for org-Q1q1Q1q1: try again in 3s (req_aaaaaaaa1)", "rate_limit", "b", 2*time.Hour)
	put(`Invalid value "blue" for 'colour' in 0192b1c0-7e1a-7c3e-9a51-0123456789ab, id deadbeef12`, "invalid", "a", time.Hour)
	put(`Invalid value "red" for 'size' in 0192b1c0-7e1a-7c3e-9a51-0123456789ac, id 0badcafe9`, "invalid", "a", time.Hour)
	f.write(t, &event.Event{UUID: event.NewID(), ProjectID: "default", Name: event.Trace, Timestamp: at, IsError: true}) // repeats what is below it
	filter := query.Filter{From: now.Add(-24 * time.Hour), To: now}
	groups, err := f.Errors(t.Context(), "default", filter, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]query.ErrorGroup)
	var sum int64
	for i, g := range groups {
		found[g.Message] = g
		sum += g.Count
		var trend int64
		for _, n := range g.Trend {
			trend += n
		}
		if trend != g.Count || len(g.Trend) != query.TrendPoints || i > 0 && groups[i-1].Count < g.Count {
			t.Errorf("group %d: %+v", i, g)
		}
	}
	var failed int64 = 5
	for _, e := range f.events {
		if e.IsError && (e.IsCosted() || e.ErrorType != "") && !e.Timestamp.Before(filter.From) && e.Timestamp.Before(filter.To) {
			failed++
		}
	}
	if sum != failed {
		t.Errorf("groups hold %d failures, want %d", sum, failed)
	}
	limit := found["Rate limit reached for *: try again in 0s (*)"]
	if limit.Count != 3 || limit.Users != 2 || limit.ErrorType != "rate_limit" || limit.LastUUID != last || !slices.Equal(limit.Models, []string{"m-a", "m-b"}) || !limit.First.Equal(at) || limit.Trend[21] != 2 || limit.Trend[23] != 1 {
		t.Errorf("rate limits: %+v", limit)
	}
	if g := found["Invalid value * for * in *, id *"]; g.Count != 2 || !regexp.MustCompile("blue|red").MatchString(g.Example) {
		t.Errorf("invalid values: %+v", groups)
	}
	page, err := f.Events(t.Context(), query.EventsQuery{Project: "default", Filter: query.Filter{ErrorGroup: limit.Message}})
	if err != nil || len(page.Events) != 3 || page.Events[0].UUID != last {
		t.Errorf("events of a group: %v, %v", page, err)
	}
	wantInvalid(t, second(f.Errors(t.Context(), "default", query.Filter{}, 0)))
	wantInvalid(t, second(f.Errors(t.Context(), "default", filter, -1)))
}

func TestAgents(t *testing.T) {
	f := newFixture(t)
	from := now.AddDate(1, 0, 0)
	put := func(trace, span, parent, name, step string, seconds int, failed bool) {
		e := &event.Event{UUID: event.NewID(), ProjectID: "default", Name: name, TraceID: trace, SpanID: span, ParentID: parent, SpanName: step, IsError: failed,
			Timestamp: from.Add(time.Duration(seconds) * time.Second), Latency: event.Some(time.Duration(seconds) * time.Second)}
		if step == "search" {
			e.Operation = "execute_tool"
		}
		f.write(t, e)
	}
	// a(b(c d) e): depth 3, 2 calls; one step fails twice and is tried again.
	put("A", "a", "", event.Trace, "root", 0, false)
	put("A", "b", "a", event.Span, "plan", 1, false)
	put("A", "c", "b", event.Span, "search", 2, true)
	put("A", "c2", "b", event.Span, "search", 3, true)
	put("A", "c3", "b", event.Span, "search", 4, false)
	put("A", "d", "b", event.Generation, "", 5, false)
	put("A", "e", "a", event.Generation, "", 6, false)
	put("B", "x", "gone", event.Generation, "", 7, false) // depth 1
	put("C", "y", "z", event.Span, "search", 8, false)    // a circle has no root
	put("C", "z", "y", event.Span, "search", 9, true)
	put("D", "q", "", event.Span, "search", 10, true) // a new trace is no retry
	filter := query.Filter{From: from}
	steps, err := f.Steps(t.Context(), "default", filter, 0)
	if err != nil {
		t.Fatal(err)
	}
	want := []query.Step{{Name: "search", Tool: true, Runs: 6, Errors: 4, Retries: 2, LatencyMS: event.Some(9750.0)}, {Name: "plan", Runs: 1, LatencyMS: event.Some(1000.0)}}
	if jsonOf(t, steps) != jsonOf(t, want) {
		t.Errorf("steps\n got %s\nwant %s", jsonOf(t, steps), jsonOf(t, want))
	}
	calls, depth, err := f.Shapes(t.Context(), "default", filter)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(calls, depth); got != "[{0 2} {1 1} {2 1}] [{1 2} {3 1}]" {
		t.Errorf("shapes %s", got)
	}
	filter.Name = event.Trace
	if calls, depth, err = f.Shapes(t.Context(), "default", filter); err != nil || fmt.Sprint(calls, depth) != "[{2 1}] [{3 1}]" {
		t.Errorf("shapes of filtered traces %v %v, %v", calls, depth, err)
	}
}
