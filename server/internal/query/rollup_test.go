package query_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/store"
	"github.com/hedgerow/hedgerow/server/internal/store/storetest"
)

// pair is one store that is rolled up and one that never is, with equal events.
type pair struct {
	rolled, plain *store.DuckDB
	roller        *query.Roller
	ask, askPlain *query.Reader
	clock         time.Time
}

func newPair(t testing.TB) *pair {
	t.Helper()
	p := &pair{clock: now}
	open := func() (*store.DuckDB, *query.Reader) {
		s, err := store.OpenDuckDB(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "e.duckdb"), MemoryBytes: 512 << 20, Now: func() time.Time { return p.clock }})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		r, err := query.New(s, func() time.Time { return now })
		if err != nil {
			t.Fatal(err)
		}
		return s, r
	}
	p.rolled, p.ask = open()
	p.plain, p.askPlain = open()
	p.roller = &query.Roller{Reader: p.ask, Store: p.rolled, Stretch: 300}
	return p
}

func (p *pair) write(t testing.TB, events ...*event.Event) {
	t.Helper()
	for _, s := range []*store.DuckDB{p.rolled, p.plain} {
		if _, err := s.Write(t.Context(), events); err != nil {
			t.Fatal(err)
		}
	}
}

// roll closes all full stretches and reports how many.
func (p *pair) roll(t testing.TB) (n int) {
	t.Helper()
	for {
		done, err := p.roller.Roll(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !done {
			return n
		}
		n++
	}
}

var (
	ofCalls = []query.Measure{query.Calls, query.Errors, query.ErrorRate, query.TokensIn, query.TokensOut, query.TokensTotal, query.TokensCached, query.TokensCacheNew, query.TokensReasoning,
		query.CostUSD, query.CostPerCall, query.CacheShare, query.Users}
	ofTimes    = []query.Measure{query.LatencyP50, query.LatencyP95, query.LatencyP99, query.TTFTP50, query.TTFTP95, query.TTFTP99}
	ofOutcomes = []query.Measure{query.Tasks, query.TasksCompleted, query.CompletionRate, query.Rated, query.Negative, query.NegativeRate, query.EscalationRate,
		query.AcceptanceRate, query.EditRate, query.RetryRate, query.EvalScore, query.EvalPassRate, query.EvalsJudged}
	ofTools  = []query.Measure{query.ToolCalls, query.ToolErrors, query.ToolErrorRate, query.ToolP95}
	quantile = func(m query.Measure) bool {
		return strings.Contains(string(m), "_p50") || strings.Contains(string(m), "_p9")
	}
)

// questions are the questions that a roll-up could answer, in part or whole.
func questions() (out []query.SeriesQuery) {
	from, to := now.AddDate(0, 0, -9).Add(7*time.Minute), now.Add(-17*time.Minute)
	all := []query.GroupBy{query.ByNone, query.ByModel, query.ByModelAsked, query.ByProvider, query.ByPrompt, query.ByPromptName, query.BySurface, query.ByEnvironment, query.ByStatus,
		query.ByErrorType, query.ByTaskType, query.ByOperation, query.ByInputLength, query.ByTool, query.ByUser, query.ByEval, query.ByProperty("plan"), query.ByProperty(query.AgentConfig)}
	zones := []string{"", "Europe/Paris", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe"}
	steps := []query.GroupBy{query.ByDay, query.ByNone, query.ByHour}
	for i, by := range all {
		for j, ms := range [][]query.Measure{ofCalls, ofTimes, ofOutcomes, ofTools, {query.CostPerTask, query.Calls}} {
			out = append(out, query.SeriesQuery{Filter: query.Filter{From: from, To: to}, Measures: ms, By: by, Every: steps[(i+j)%3], TimeZone: zones[(i+j)%5], Compare: true, Limit: 4})
		}
	}
	for i, of := range []query.LatencyOf{query.OfCompleted, query.OfFailed, query.OfAll} {
		for j, by := range []query.GroupBy{query.ByNone, query.ByModelAsked, query.ByStatus} {
			out = append(out, query.SeriesQuery{Filter: query.Filter{From: from, To: to}, Measures: ofTimes, By: by, LatencyOf: of, Every: steps[(i+j)%3], Compare: true})
		}
	}
	for _, f := range []query.Filter{
		{Environment: "production"}, {Kind: query.KindErrors}, {Kind: query.KindCalls}, {Kind: query.KindTools}, {ModelAsked: "gpt-4.1"}, {Provider: "openai", Environment: "staging"},
		{PromptName: "classify"}, {PromptName: "classify", PromptVersion: "2"}, {User: "user-7"}, {Kind: query.KindErrors, ErrorType: "server_error"}, {Model: "gpt-4.1", Provider: "openai"},
		{InputLength: "0-500"}, {Step: "search"}, {Tag: "beta"}, {Properties: map[string]string{"plan": "pro"}},
	} {
		for i, ms := range [][]query.Measure{ofCalls, ofTimes, ofOutcomes, ofTools} {
			f.From, f.To = now.AddDate(0, 0, -4), now
			out = append(out, query.SeriesQuery{Filter: f, Measures: ms, By: []query.GroupBy{query.ByNone, query.ByModelAsked}[i%2], Every: query.ByDay, TimeZone: "Asia/Kolkata", Compare: true})
		}
	}
	return out
}

// long is whether make long runs the tests, which then ask about three times as much.
func long() bool { return os.Getenv("HEDGEROW_LONG") != "" }

// sparse is how many questions a comparison makes one of.
func sparse(every int) int {
	if long() {
		return every
	}
	return 3*every + 1
}

// compare asks both stores every so manieth question, and reports how many
// quantiles were not exact.
func (p *pair) compare(t *testing.T, every int) (approximate int) {
	t.Helper()
	every = sparse(every)
	var some []query.SeriesQuery
	for i, q := range questions() {
		if i%every == 0 {
			some = append(some, q)
		}
	}
	return p.compareAnswers(t, some)
}

// compareAnswers asks both stores some questions.
func (p *pair) compareAnswers(t *testing.T, questions []query.SeriesQuery) (approximate int) {
	t.Helper()
	for _, q := range questions {
		q.Project = "default"
		name := fmt.Sprintf("%v by %q every %q in %q of %+v", q.Measures, q.By, q.Every, q.TimeZone, q.Filter)
		want, err := p.askPlain.Series(t.Context(), q)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := p.ask.Series(t.Context(), q)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		lines := func(s *query.Series) []query.Line {
			out := append([]query.Line{s.Total}, s.Groups...)
			if s.Rest != nil {
				out = append(out, *s.Rest)
			}
			return out
		}
		a, b := lines(got), lines(want)
		if len(a) != len(b) || !reflect.DeepEqual(got.Keys, want.Keys) {
			t.Fatalf("%s: %d lines of %d points, want %d of %d", name, len(a), len(got.Keys), len(b), len(want.Keys))
		}
		same := func(where string, m query.Measure, got, want query.Number) {
			off := math.Abs(got.Value - want.Value)
			if got.Known == want.Known && off <= 1e-9*math.Abs(want.Value) {
				return
			}
			if approximate++; quantile(m) && got.Known == want.Known && off <= query.QuantileError*want.Value {
				return
			}
			t.Errorf("%s: %s: %s is %v, want %v", name, where, m, got, want)
		}
		for i := range a {
			if a[i].Key != b[i].Key {
				t.Fatalf("%s: group %d is %q, want %q", name, i, a[i].Key, b[i].Key)
			}
			for _, m := range q.Measures {
				same(a[i].Key, m, a[i].Total[m], b[i].Total[m])
				same(a[i].Key+" before", m, a[i].Previous[m], b[i].Previous[m])
				for j := range b[i].Points {
					same(a[i].Key+" "+want.Keys[j], m, a[i].Points[j][m], b[i].Points[j][m])
				}
			}
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	return approximate
}

// comparePages asks both stores what lists, details and totals show: every so
// manieth of the many.
func (p *pair) comparePages(t *testing.T, every int) {
	t.Helper()
	every = sparse(every)
	ctx := t.Context()
	near := func(where string, got, want query.Quantiles) {
		t.Helper()
		for _, q := range [][2]query.Millis{{got.P50, want.P50}, {got.P95, want.P95}, {got.P99, want.P99}} {
			if q[0].Known != q[1].Known || math.Abs(q[0].Value-q[1].Value) > query.QuantileError*q[1].Value+1e-9 {
				t.Errorf("%s: quantile %v, want %v", where, q[0], q[1])
			}
		}
	}
	// totals compares but for quantiles, which it takes out of both.
	totals := func(where string, got, want *query.Totals) {
		t.Helper()
		near(where, got.LatencyMS, want.LatencyMS)
		near(where, got.TTFTMS, want.TTFTMS)
		got.LatencyMS, got.TTFTMS, want.LatencyMS, want.TTFTMS = query.Quantiles{}, query.Quantiles{}, query.Quantiles{}, query.Quantiles{}
	}
	groups := func(where string, got, want []query.Group) {
		t.Helper()
		if len(got) != len(want) {
			t.Fatalf("%s: %d groups, want %d", where, len(got), len(want))
		}
		for i := range got {
			totals(where+" "+want[i].Key, &got[i].Totals, &want[i].Totals)
		}
	}
	equal := func(where string, got, want any) {
		t.Helper()
		a, _ := json.Marshal(got)
		b, _ := json.Marshal(want)
		if string(a) != string(b) {
			t.Errorf("%s:\n got %s\nwant %s", where, a, b)
		}
	}
	both := func(where string, ask func(*query.Reader) (any, error)) {
		t.Helper()
		want, err := ask(p.askPlain)
		if err != nil {
			t.Fatalf("%s: %v", where, err)
		}
		got, err := ask(p.ask)
		if err != nil {
			t.Fatalf("%s: %v", where, err)
		}
		switch got := got.(type) {
		case *query.Stats:
			want := want.(*query.Stats)
			totals(where, &got.Totals, &want.Totals)
			if want.Previous != nil {
				totals(where+" before", got.Previous, want.Previous)
			}
			groups(where, got.Groups, want.Groups)
		case *query.Period:
			want := want.(*query.Period)
			totals(where, &got.Totals, &want.Totals)
			totals(where+" before", &got.Previous, &want.Previous)
			groups(where, got.ByModel, want.ByModel)
			groups(where, got.BySurface, want.BySurface)
		}
		equal(where, got, want)
	}
	week := query.Filter{From: now.AddDate(0, 0, -7).Add(11 * time.Minute), To: now.Add(-9 * time.Minute)}
	filters := []query.Filter{week, {}, {From: week.From}}
	for _, f := range []query.Filter{{Environment: "production"}, {Kind: query.KindErrors}, {Kind: query.KindCalls}, {ModelAsked: "gpt-4.1"}, {User: "user-7"}, {Properties: map[string]string{"plan": "pro"}}, {Name: event.Generation}} {
		f.From, f.To = week.From, week.To
		filters = append(filters, f)
	}
	for i, f := range filters {
		for j, by := range []query.GroupBy{query.ByNone, query.ByModel, query.ByModelAsked, query.BySurface, query.ByProvider, query.ByPrompt, query.ByUser, query.ByEnvironment, query.ByStatus, query.ByDay, query.ByHour} {
			if f.From.IsZero() && (by == query.ByDay || by == query.ByHour) || (i+j)%every != 0 {
				continue
			}
			both(fmt.Sprintf("stats by %q of %+v", by, f), func(r *query.Reader) (any, error) {
				return r.Stats(ctx, query.StatsQuery{Project: "default", Filter: f, GroupBy: by, Compare: !f.From.IsZero(), TimeZone: []string{"Europe/Paris", "Asia/Kathmandu"}[i%2], Limit: 5})
			})
		}
		both(fmt.Sprintf("shapes of %+v", f), func(r *query.Reader) (any, error) {
			calls, depth, err := r.Shapes(ctx, "default", f)
			return []any{calls, depth}, err
		})
		if !f.From.IsZero() {
			both(fmt.Sprintf("errors of %+v", f), func(r *query.Reader) (any, error) {
				e, err := r.Errors(ctx, "default", f, 0)
				if err != nil || f.To.IsZero() {
					return e, err
				}
				before, err := r.ErrorsBefore(ctx, "default", f, e)
				return []any{e, before}, err
			})
		}
		lists := map[string]func(*query.Reader) func(context.Context, query.ListQuery) (*query.ListPage, error){
			"traces": func(r *query.Reader) func(context.Context, query.ListQuery) (*query.ListPage, error) { return r.Traces },
			"sessions": func(r *query.Reader) func(context.Context, query.ListQuery) (*query.ListPage, error) {
				return r.Sessions
			},
			"users": func(r *query.Reader) func(context.Context, query.ListQuery) (*query.ListPage, error) { return r.Users },
		}
		for name, list := range lists {
			others := []query.Sort{query.SortCost, query.SortDuration, query.SortErrors, query.SortTokens, query.SortCalls}
			for _, sort := range []query.Sort{query.SortStart, others[i%len(others)]} {
				if i%every != 0 {
					continue
				}
				cursor := ""
				for page := range 3 {
					both(fmt.Sprintf("%s by %s, page %d, of %+v", name, sort, page, f), func(r *query.Reader) (any, error) {
						got, err := list(r)(ctx, query.ListQuery{Project: "default", Filter: f, Sort: sort, Cursor: cursor, Limit: 13})
						if err == nil && r == p.ask {
							cursor = got.Next
						}
						return got, err
					})
					if cursor == "" {
						break
					}
				}
			}
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	for _, zone := range []string{"Europe/Paris", "Asia/Kolkata"} {
		both("today", func(r *query.Reader) (any, error) { return r.Today(ctx, "default", zone) })
		both("seven days", func(r *query.Reader) (any, error) { return r.SevenDays(ctx, "default", zone) })
	}
	for _, field := range []string{"event", "provider", "model", "model_asked", "operation", "surface", "user", "prompt_name", "prompt_version", "status", "error_type", "task_type", "environment", "tag"} {
		both("values of "+field, func(r *query.Reader) (any, error) { return r.FilterValues(ctx, "default", field) })
	}
	page, err := p.askPlain.Events(ctx, query.EventsQuery{Project: "default", Limit: 300})
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(page.Events); i += 37 * every {
		e := page.Events[i]
		stored := func(events []*query.Event) {
			for _, e := range events {
				e.StoredAt = time.Time{} // the two were written one after the other
			}
		}
		if e.TraceID != "" {
			both("trace", func(r *query.Reader) (any, error) {
				got, err := r.Trace(ctx, "default", e.TraceID)
				if err == nil {
					got.Roots = nil
				}
				return got, err
			})
		}
		for _, f := range []query.Filter{{TraceID: e.TraceID}, {SessionID: e.SessionID}, {SessionID: e.SessionID, Kind: query.KindOutcomes}} {
			both(fmt.Sprintf("events of %+v", f), func(r *query.Reader) (any, error) {
				got, err := r.Events(ctx, query.EventsQuery{Project: "default", Filter: f, Limit: 20})
				if err == nil {
					stored(got.Events)
				}
				return got, err
			})
		}
	}
	if t.Failed() {
		t.FailNow()
	}
}

// TestRollupsEqualEvents writes the same events to a store that is rolled up and
// one that is not: late ones, outcomes before their calls, some days of which no
// stretch is closed.
func TestRollupsEqualEvents(t *testing.T) {
	f := newFixture(t)
	withOutcomes(t, f)
	p := newPair(t)
	events := f.events
	rng := rand.New(rand.NewPCG(1, 2))
	rng.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
	g := storetest.NewGenerator(9)
	other := g.Event(now.Add(-time.Hour))
	other.ProjectID = "other"
	p.write(t, other)
	stretches := 0
	for i := 0; i < len(events); i += 177 {
		p.write(t, events[i:min(i+177, len(events))]...)
		p.write(t, events[i/2]) // again: it is there already
		if i == 177*9 {
			p.compare(t, 7) // half of it
		}
		stretches += p.roll(t)
	}
	if stretches < 5 {
		t.Fatalf("%d stretches", stretches)
	}
	if p.compare(t, 2) == 0 {
		t.Error("no quantile came from a roll-up")
	}
	p.comparePages(t, 4)

	// What retention deletes is no longer counted. Stored at different times,
	// regardless of the timestamps.
	p.clock = p.clock.AddDate(0, 0, 1)
	var more []*event.Event
	for range 500 {
		more = append(more, g.Event(now.Add(-time.Duration(rng.IntN(200))*time.Hour)))
	}
	p.write(t, more...)
	p.roll(t)
	for _, s := range []*store.DuckDB{p.rolled, p.plain} {
		res, err := s.Retain(t.Context(), func(project string) store.Retention {
			if project == "default" {
				return store.Retention{Metrics: 12 * time.Hour}
			}
			return store.Retention{}
		})
		if err != nil || res.Events == 0 {
			t.Fatalf("retained %+v, %v", res, err)
		}
	}
	p.compare(t, 6)
	for i := range 2 {
		var next []*event.Event
		for range 400 {
			next = append(next, g.Event(now.Add(-time.Duration(rng.IntN(200))*time.Hour)))
		}
		p.write(t, next...)
		p.roll(t)
		p.compare(t, 5+i)
	}
	p.comparePages(t, 12)
}

// TestRollupsOfProperties: some stretches have rows of a property, some have calls
// with too many values of it, some have no call that has it.
func TestRollupsOfProperties(t *testing.T) {
	p := newPair(t)
	g := storetest.NewGenerator(12)
	rng := rand.New(rand.NewPCG(3, 4))
	const odd = `a/b~c'd"`
	var from time.Time
	for stretch, team := range []func(i int) string{
		func(i int) string { return fmt.Sprintf(`"team-%d"`, i%3) },
		func(i int) string { return fmt.Sprintf(`"team-%d"`, i) }, // too many
		nil,
		func(i int) string { return []string{`"team-1"`, "null", "true", "7", `{"of": 2}`}[i%5] },
		func(i int) string { return `"` + strings.Repeat("x", 101) + `"` }, // too long
	} {
		var events []*event.Event
		for i := range 340 {
			e := g.Event(now.Add(-time.Duration(rng.IntN(90)) * time.Hour))
			if from = now.Add(-3 * 24 * time.Hour); team != nil && i%4 != 0 {
				e.Properties = map[string]json.RawMessage{"team": json.RawMessage(team(i)), odd: json.RawMessage(`"` + strings.Repeat("y", i%2) + `"`)}
				for j := range 8 + stretch { // more than are rolled up
					e.Properties[fmt.Sprintf("zz-%d", j)] = json.RawMessage("1")
				}
			}
			events = append(events, e)
		}
		p.write(t, events...)
		if n := p.roll(t); n != 1 {
			t.Fatalf("%d stretches", n)
		}
	}
	p.write(t, g.Event(now.Add(-time.Hour))) // in no stretch
	var rolled string
	err := p.rolled.Read(t.Context(), func(rows *sql.Rows) error {
		rows.Next()
		return rows.Scan(&rolled)
	}, "SELECT string_agg(CASE WHEN rolled THEN 'x' ELSE '-' END, '' ORDER BY last) FROM rollup_properties WHERE project_id = 'default' AND name = 'team'")
	if err != nil || rolled != "x-x-" {
		t.Fatalf("rolled up %q, %v", rolled, err)
	}
	var ask []query.SeriesQuery
	for _, name := range []string{"team", odd, "zz-0", "zz-7", "zz-9", "absent"} {
		for _, ms := range [][]query.Measure{ofCalls, ofTools, ofTimes} {
			for _, every := range []query.GroupBy{query.ByDay, query.ByNone} {
				f := query.Filter{From: from, To: now}
				ask = append(ask, query.SeriesQuery{Filter: f, Measures: ms, By: query.ByProperty(name), Every: every, TimeZone: "Europe/Paris", Limit: 4})
				f.Properties = map[string]string{name: "team-1"}
				ask = append(ask, query.SeriesQuery{Filter: f, Measures: ms, Every: every, Compare: true})
				f.Environment = "production"
				ask = append(ask, query.SeriesQuery{Filter: f, Measures: ms, By: query.ByModel, Every: every})
			}
		}
	}
	p.compareAnswers(t, ask)
}

// TestRollerGivesWay: what was read before a deletion is not written after it.
func TestRollerGivesWay(t *testing.T) {
	p := newPair(t)
	g := storetest.NewGenerator(4)
	var events []*event.Event
	for i := range 400 {
		events = append(events, g.Event(now.Add(-time.Duration(i)*time.Hour)))
	}
	p.write(t, events...)
	p.clock = p.clock.AddDate(0, 0, 1)
	forget := func(s *store.DuckDB) {
		if _, err := s.Retain(t.Context(), func(string) store.Retention { return store.Retention{Metrics: time.Hour} }); err != nil {
			t.Fatal(err)
		}
	}
	p.roller.Store = interrupted{p.rolled, forget}
	if done, err := p.roller.Roll(t.Context()); done || err != nil {
		t.Fatalf("rolled up %v, %v", done, err)
	}
	forget(p.plain)
	p.compare(t, 10)
}

// interrupted deletes events just before a derivation.
type interrupted struct {
	*store.DuckDB
	before func(*store.DuckDB)
}

func (i interrupted) Derive(ctx context.Context, generation uint64, first, last time.Time, f func(*store.Derivation) error) (bool, error) {
	i.before(i.DuckDB)
	return i.DuckDB.Derive(ctx, generation, first, last, f)
}
