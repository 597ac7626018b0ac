package query_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/query/querytest"
	"github.com/hedgerow/hedgerow/server/internal/store"
	"github.com/hedgerow/hedgerow/server/internal/store/storetest"
)

// now is the present of all tests here.
var now = time.Date(2026, 3, 30, 15, 4, 5, 0, time.UTC)

type fixture struct {
	*query.Reader
	store  *store.DuckDB
	events []*event.Event // of project "default", in random order
}

// newFixture stores 2,000 events of the ten days before now, over the day on
// which Paris changes its clocks, next to another project's.
func newFixture(t testing.TB) *fixture {
	t.Helper()
	s, err := store.OpenDuckDB(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "e.duckdb")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	r, err := query.New(s, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{Reader: r, store: s}
	g := storetest.NewGenerator(5)
	for i := range 2000 {
		// Steps that share no factor with the range scatter the order; each
		// timestamp comes twice, so that the uuid has to decide.
		at := now.Add(-time.Duration(i/2*7919%14400) * time.Minute)
		e := g.Event(at)
		if i%2 == 0 {
			e.UUID = uuid.NewString()
		}
		f.events = append(f.events, e)
	}
	other := g.Event(now)
	other.ProjectID = "other"
	f.write(t, append(f.events[:len(f.events):len(f.events)], other)...)
	return f
}

func (f *fixture) write(t testing.TB, events ...*event.Event) {
	t.Helper()
	if _, err := f.store.Write(t.Context(), events); err != nil {
		t.Fatal(err)
	}
}

// newest returns the events that a predicate takes, the newest first.
func newest(events []*event.Event, ok func(*event.Event) bool) []string {
	var kept []*event.Event
	for _, e := range events {
		if ok(e) {
			kept = append(kept, e)
		}
	}
	slices.SortFunc(kept, func(a, b *event.Event) int {
		if c := b.Timestamp.Compare(a.Timestamp); c != 0 {
			return c
		}
		return strings.Compare(b.UUID, a.UUID)
	})
	var ids []string
	for _, e := range kept {
		ids = append(ids, e.UUID)
	}
	return ids
}

func TestEventsPages(t *testing.T) {
	f := newFixture(t)
	want := newest(f.events, func(*event.Event) bool { return true })
	g := storetest.NewGenerator(6)
	var got []string
	for cursor := ""; ; {
		page, err := f.Events(t.Context(), query.EventsQuery{Project: "default", Cursor: cursor, Limit: 333})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Events {
			got = append(got, e.UUID)
		}
		f.write(t, g.Event(now.Add(time.Minute))) // arrivals do not shift what follows
		if cursor = page.Next; cursor == "" {
			break
		}
		if len(page.Events) != 333 {
			t.Fatalf("a page of %d before the last", len(page.Events))
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("paging gave %d events, want %d in order", len(got), len(want))
	}
	page, err := f.Events(t.Context(), query.EventsQuery{Project: "default"})
	if err != nil || len(page.Events) != query.DefaultLimit {
		t.Errorf("default page: %d, %v", len(page.Events), err)
	}
	page, err = f.Events(t.Context(), query.EventsQuery{Project: "nobody"})
	if b, _ := json.Marshal(page); err != nil || string(b) != `{"events":[],"next_cursor":""}` {
		t.Errorf("empty project: %s, %v", b, err)
	}
}

func TestEventsFilters(t *testing.T) {
	f := newFixture(t)
	some := f.events[slices.IndexFunc(f.events, func(e *event.Event) bool { return e.PromptVersion != "" && e.Surface != "" && e.TaskType != "" })]
	odd := storetest.Full(t)
	odd.Timestamp = now.Add(-time.Hour)
	odd.PromptVersion = "latest"
	f.write(t, odd)
	f.events = append(f.events, odd)
	day := now.Add(-72 * time.Hour)
	prop := func(name, want string) func(*event.Event) bool {
		return func(e *event.Event) bool { return strings.Trim(string(e.Properties[name]), `"`) == want }
	}
	for name, c := range map[string]struct {
		filter query.Filter
		ok     func(*event.Event) bool
	}{
		"From":        {query.Filter{From: day}, func(e *event.Event) bool { return !e.Timestamp.Before(day) }},
		"To":          {query.Filter{To: day}, func(e *event.Event) bool { return e.Timestamp.Before(day) }},
		"FromLocal":   {query.Filter{From: day.In(time.FixedZone("x", 7200))}, func(e *event.Event) bool { return !e.Timestamp.Before(day) }},
		"Name":        {query.Filter{Name: event.Span}, func(e *event.Event) bool { return e.Name == event.Span }},
		"Provider":    {query.Filter{Provider: "anthropic"}, func(e *event.Event) bool { return e.Provider == "anthropic" }},
		"Model":       {query.Filter{Model: "gpt-4.1-2026-01-01"}, func(e *event.Event) bool { return e.Model == "gpt-4.1-2026-01-01" }},
		"ModelAsked":  {query.Filter{Model: "gpt-4.1"}, func(e *event.Event) bool { return e.Model == "" && e.ModelAsked == "gpt-4.1" }},
		"Asked":       {query.Filter{ModelAsked: "gpt-4.1"}, func(e *event.Event) bool { return e.ModelAsked == "gpt-4.1" }},
		"Operation":   {query.Filter{Operation: "chat"}, func(e *event.Event) bool { return e.Operation == "chat" }},
		"Surface":     {query.Filter{Surface: some.Surface}, func(e *event.Event) bool { return e.Surface == some.Surface }},
		"User":        {query.Filter{User: some.DistinctID}, func(e *event.Event) bool { return e.DistinctID == some.DistinctID }},
		"Session":     {query.Filter{SessionID: some.SessionID}, func(e *event.Event) bool { return e.SessionID == some.SessionID }},
		"Trace":       {query.Filter{TraceID: some.TraceID}, func(e *event.Event) bool { return e.TraceID == some.TraceID }},
		"PromptName":  {query.Filter{PromptName: "classify"}, func(e *event.Event) bool { return e.PromptName == "classify" }},
		"Version":     {query.Filter{PromptVersion: "latest"}, func(e *event.Event) bool { return e.PromptVersion == "latest" }},
		"Status":      {query.Filter{Status: "error"}, func(e *event.Event) bool { return e.Status == event.StatusError }},
		"ErrorType":   {query.Filter{ErrorType: "server_error"}, func(e *event.Event) bool { return e.ErrorType == "server_error" }},
		"TaskType":    {query.Filter{TaskType: "summary"}, func(e *event.Event) bool { return e.TaskType == "summary" }},
		"Environment": {query.Filter{Environment: "staging"}, func(e *event.Event) bool { return e.Environment == "staging" }},
		"Tag":         {query.Filter{Tag: "gold"}, func(e *event.Event) bool { return slices.Contains(e.Tags, "gold") }},
		"Property":    {query.Filter{Properties: map[string]string{"plan": "pro"}}, prop("plan", "pro")},
		"PropertyInt": {query.Filter{Properties: map[string]string{"n": "42"}}, prop("n", "42")},
		"PropertyRaw": {query.Filter{Properties: map[string]string{"": "true"}}, nil},
		"PropertyOdd": {query.Filter{Properties: map[string]string{"x/y~z\"'": "1"}}, func(*event.Event) bool { return false }},
		"Several": {query.Filter{Provider: "openai", Environment: "production", From: day, Properties: map[string]string{"plan": "free"}}, func(e *event.Event) bool {
			return e.Provider == "openai" && e.Environment == "production" && !e.Timestamp.Before(day) && prop("plan", "free")(e)
		}},
		"CaseMatters":  {query.Filter{Provider: "OpenAI"}, func(*event.Event) bool { return false }},
		"NoSuchPrefix": {query.Filter{Provider: "open%"}, func(*event.Event) bool { return false }},
	} {
		t.Run(name, func(t *testing.T) {
			page, err := f.Events(t.Context(), query.EventsQuery{Project: "default", Filter: c.filter, Limit: query.MaxLimit})
			if c.ok == nil {
				if event.AsError(err) == nil || event.AsError(err).Code != event.CodeInvalid {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := newest(f.events, c.ok)
			want = want[:min(len(want), query.MaxLimit)]
			var got []string
			for _, e := range page.Events {
				got = append(got, e.UUID)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%d events, want %d", len(got), len(want))
			}
		})
	}
	odd.Properties = map[string]json.RawMessage{"a/b~c\"d'e": json.RawMessage(`"v"`), "0": json.RawMessage("true")}
	odd.UUID = event.NewID()
	f.write(t, odd)
	for name, value := range map[string]string{"a/b~c\"d'e": "v", "0": "true"} {
		page, err := f.Events(t.Context(), query.EventsQuery{Project: "default", Filter: query.Filter{Properties: map[string]string{name: value}}})
		if err != nil || len(page.Events) != 1 || page.Events[0].UUID != odd.UUID {
			t.Errorf("property %q: %v, %v", name, page, err)
		}
	}
}

// TestInjection puts SQL into every value that a caller controls.
func TestInjection(t *testing.T) {
	f := newFixture(t)
	for _, evil := range []string{
		"' OR 1=1 --", `" OR ""="`, "'; DROP TABLE events; --", "x' UNION SELECT * FROM content --", "\\'; DELETE FROM events", "$1", "?", ":p", "%", "/* */", "$.\"a\"", "' || (SELECT 1) || '",
	} {
		filters := []query.Filter{
			{Name: evil}, {Provider: evil}, {Model: evil}, {Operation: evil}, {Surface: evil}, {User: evil}, {SessionID: evil}, {TraceID: evil}, {PromptName: evil},
			{PromptVersion: evil}, {Status: evil}, {ErrorType: evil}, {TaskType: evil}, {Environment: evil}, {Tag: evil},
			{Properties: map[string]string{evil: "x"}}, {Properties: map[string]string{"plan": evil}},
		}
		for i, filter := range filters {
			page, err := f.Events(t.Context(), query.EventsQuery{Project: "default", Filter: filter})
			if err != nil || len(page.Events) != 0 {
				t.Fatalf("filter %d with %q: %v, %v", i, evil, page, err)
			}
			s, err := f.Stats(t.Context(), query.StatsQuery{Project: "default", Filter: filter})
			if err != nil || s.Totals.Events != 0 {
				t.Fatalf("stats filter %d with %q: %v", i, evil, err)
			}
		}
		if page, err := f.Events(t.Context(), query.EventsQuery{Project: evil}); err != nil || len(page.Events) != 0 {
			t.Errorf("project %q: %v", evil, err)
		}
		wantInvalid(t, second(f.Events(t.Context(), query.EventsQuery{Project: "default", Cursor: evil})))
		wantInvalid(t, second(f.Event(t.Context(), "default", evil, true)))
		wantInvalid(t, second(f.Stats(t.Context(), query.StatsQuery{Project: "default", GroupBy: query.GroupBy(evil)})))
		wantInvalid(t, second(f.Stats(t.Context(), query.StatsQuery{Project: "default", TimeZone: evil})))
		wantInvalid(t, second(f.FilterValues(t.Context(), "default", evil)))
		if _, err := f.Trace(t.Context(), "default", evil); event.AsError(err).Code != event.CodeNotFound {
			t.Errorf("trace %q: %v", evil, err)
		}
	}
	if page, err := f.Events(t.Context(), query.EventsQuery{Project: "default", Limit: 1}); err != nil || len(page.Events) != 1 {
		t.Errorf("afterwards: %v, %v", page, err)
	}
}

func second[T any](_ T, err error) error { return err }

func wantInvalid(t *testing.T, err error) {
	t.Helper()
	if e := event.AsError(err); e == nil || e.Code != event.CodeInvalid {
		t.Errorf("error %v, want code %s", err, event.CodeInvalid)
	}
}

func TestInvalidQuestions(t *testing.T) {
	f := newFixture(t)
	long := strings.Repeat("x", 2000)
	many := make(map[string]string)
	for i := range query.MaxPropertyFilters + 1 {
		many[strconv.Itoa(i)] = "x"
	}
	for name, q := range map[string]query.EventsQuery{
		"NoProject":      {},
		"Limit":          {Project: "default", Limit: query.MaxLimit + 1},
		"NegativeLimit":  {Project: "default", Limit: -1},
		"EmptyRange":     {Project: "default", Filter: query.Filter{From: now, To: now}},
		"Long":           {Project: "default", Filter: query.Filter{Model: long}},
		"NotUTF8":        {Project: "default", Filter: query.Filter{Model: "\xff"}},
		"Nul":            {Project: "default", Filter: query.Filter{Tag: "a\x00"}},
		"LongProperty":   {Project: "default", Filter: query.Filter{Properties: map[string]string{"a": long}}},
		"ManyProperties": {Project: "default", Filter: query.Filter{Properties: many}},
		"Cursor":         {Project: "default", Cursor: "AAAA"},
	} {
		t.Run(name, func(t *testing.T) { wantInvalid(t, second(f.Events(t.Context(), q))) })
	}
	for name, q := range map[string]query.StatsQuery{
		"NoProject":    {},
		"Limit":        {Project: "default", Limit: query.MaxGroups + 1},
		"DayNoFrom":    {Project: "default", GroupBy: query.ByDay},
		"CompareAll":   {Project: "default", Compare: true},
		"TooManyHours": {Project: "default", GroupBy: query.ByHour, Filter: query.Filter{From: now.AddDate(-1, 0, 0)}},
		"Local":        {Project: "default", TimeZone: "Local"},
	} {
		t.Run("Stats"+name, func(t *testing.T) { wantInvalid(t, second(f.Stats(t.Context(), q))) })
	}
	wantInvalid(t, second(f.Today(t.Context(), "default", "Mars/Olympus")))
	wantInvalid(t, second(f.Trace(t.Context(), "default", "")))
}

func TestEventContent(t *testing.T) {
	f := newFixture(t)
	with, without := f.events[0], &event.Event{UUID: event.NewID(), ProjectID: "default", Name: "x", Timestamp: now}
	f.write(t, without)
	get := func(id string, content bool) *query.Event {
		t.Helper()
		e, err := f.Event(t.Context(), "default", id, content)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	e := get(strings.ToUpper(with.UUID), true)
	if e.ContentState != query.ContentKept || string(e.Content.Input) != string(with.Content.Input) || string(e.Content.Output) != string(with.Content.Output) || e.Content.Tools != nil {
		t.Errorf("content %+v", e.Content)
	}
	if e := get(with.UUID, false); e.ContentState != query.ContentKept || e.Content != nil {
		t.Errorf("content came unasked: %+v", e)
	}
	if e := get(without.UUID, true); e.ContentState != query.ContentNone || e.Content != nil {
		t.Errorf("content from nowhere: %+v", e)
	}
	if _, err := f.store.Retain(t.Context(), func(string) store.Retention { return store.Retention{Content: time.Nanosecond} }); err != nil {
		t.Fatal(err)
	}
	if e := get(with.UUID, true); e.ContentState != query.ContentExpired || e.Content != nil {
		t.Errorf("content after retention: %s", e.ContentState)
	}
	page, err := f.Events(t.Context(), query.EventsQuery{Project: "default"})
	if err != nil || page.Events[len(page.Events)-1].ContentState != query.ContentExpired {
		t.Errorf("list after retention: %v", err)
	}
	for _, id := range []string{event.NewID(), "00000000-0000-0000-0000-000000000000"} {
		if _, err := f.Event(t.Context(), "default", id, true); event.AsError(err).Code != event.CodeNotFound {
			t.Errorf("unknown event: %v", err)
		}
	}
	if _, err := f.Event(t.Context(), "other", with.UUID, true); event.AsError(err).Code != event.CodeNotFound {
		t.Errorf("another project's event: %v", err)
	}
}

func TestEventJSON(t *testing.T) {
	f := newFixture(t)
	bare := &event.Event{UUID: event.NewID(), ProjectID: "default", Name: event.Generation, Timestamp: now}
	full := storetest.Full(t)
	f.write(t, bare, full)
	parse := func(id string) (m map[string]any, raw string) {
		e, err := f.Event(t.Context(), "default", id, true)
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, &m); err != nil {
			t.Fatal(err)
		}
		return m, string(b)
	}
	m, raw := parse(bare.UUID)
	for _, key := range []string{"latency_ms", "time_to_first_token_ms", "http_status", "stream", "request_bytes", "input_chars"} {
		if v, ok := m[key]; !ok || v != nil {
			t.Errorf("%s = %v, want null", key, v)
		}
	}
	for _, part := range []string{"usage", "cost"} {
		for key, v := range m[part].(map[string]any) {
			if v != nil && v != "" {
				t.Errorf("%s.%s = %v, want null", part, key, v)
			}
		}
	}
	for _, key := range regexp.MustCompile(`"([^"]+)":`).FindAllStringSubmatch(raw, -1) {
		if !regexp.MustCompile(`^[a-z][a-z0-9_]*$`).MatchString(key[1]) {
			t.Errorf("key %q is not snake_case", key[1])
		}
	}
	_, raw = parse(full.UUID)
	for _, want := range []string{`"input_usd":0.0048`, `"output_usd":999999.999999999999999999`, `"reported_cost_usd":0.000000000000000001`,
		`"latency_ms":1234.567`, `"time_to_first_token_ms":0`, `"output_tokens":0`, `"http_status":200`, `"n":1.50`, `"content_state":"kept"`, `"input_state":null`, `"timestamp":"2026-03-01T12:30:15.123456Z"`} {
		if !strings.Contains(raw, want) {
			t.Errorf("JSON lacks %s:\n%s", want, raw)
		}
	}
}

func TestTrace(t *testing.T) {
	usd := func(s string) event.Cost { return event.Cost{Total: event.Some(decimal.RequireFromString(s))} }
	tok := func(in, out int64) event.Usage { return event.Usage{Input: event.Some(in), Output: event.Some(out)} }
	type part struct {
		name, span, parent, completion string
		usage                          event.Usage
		cost                           event.Cost
		failed                         bool
		start, latency                 int // seconds
	}
	gen := event.Generation
	f, n := newFixture(t), 0
	for name, c := range map[string]struct {
		parts  []part
		tree   string // span(children)…; "!" marks a missing parent
		rollup string // events calls errors tokens cost uncosted latency
	}{
		"Tree": {[]part{
			{name: event.Trace, span: "", start: 0, latency: 10},
			{name: event.Span, span: "a", parent: "T", start: 1, latency: 5},
			{name: gen, span: "b", parent: "a", usage: tok(10, 5), cost: usd("0.1"), start: 2, latency: 1},
			{name: gen, span: "c", parent: "a", usage: tok(20, 5), cost: usd("0.2"), start: 3, latency: 2},
			{name: event.Metric, span: "m", start: 20},
		}, "(a(b c) m)", "5 2 0 40 0.3 0 10000"},
		"NoRoot": {[]part{
			{name: gen, span: "a", usage: tok(1, 1), cost: usd("1"), start: 0, latency: 2},
			{name: gen, span: "b", parent: "T", usage: tok(1, 1), start: 5, latency: 1, failed: true},
		}, "a b", "2 2 1 4 1 1 6000"},
		"ParentMissing": {[]part{{name: gen, span: "a", parent: "gone", usage: tok(1, 1), cost: usd("1"), latency: 1}}, "a!", "1 1 0 2 1 0 1000"},
		"ParentIsLater": {[]part{{name: gen, span: "a", parent: "b", start: 1}, {name: event.Span, span: "b", start: 9}}, "b(a)", "2 1 0 - - 1 8000"},
		"Cycle": {[]part{
			{name: event.Span, span: "a", parent: "c"}, {name: event.Span, span: "b", parent: "a", start: 1}, {name: event.Span, span: "c", parent: "b", start: 2},
		}, "c(a(b))", "3 0 0 - - 0 2000"},
		"OwnParent": {[]part{{name: gen, span: "a", parent: "a"}}, "a", "1 1 0 - - 1 0"},
		"SumsRepeatedAbove": {[]part{
			{name: event.Trace, span: "r", usage: tok(30, 10), cost: usd("0.3"), failed: true},
			{name: event.Span, span: "a", parent: "r", usage: tok(30, 10), cost: usd("0.3"), failed: true},
			{name: gen, span: "b", parent: "a", usage: tok(30, 10), cost: usd("0.3"), failed: true},
		}, "r(a(b))", "3 1 1 40 0.3 0 0"},
		"OnlySpanHasUsage": {[]part{
			{name: event.Span, span: "a", usage: tok(30, 10), cost: usd("0.3")}, {name: gen, span: "b", parent: "a"},
		}, "a(b)", "2 1 0 - - 1 0"},
		"CallUnderCall": {[]part{
			{name: gen, span: "a", usage: tok(1, 1), cost: usd("1")}, {name: event.Embedding, span: "b", parent: "a", usage: tok(2, 0), cost: usd("0.5")},
		}, "a(b)", "2 2 0 4 1.5 0 0"},
		"SeenTwice": {[]part{
			{name: gen, span: "a", completion: "x", usage: tok(1, 1), cost: usd("1"), failed: true}, {name: gen, span: "b", completion: "x", usage: tok(1, 1), cost: usd("1"), failed: true},
		}, "a b", "2 2 2 4 2 0 0"},
		"SpanIDTwice": {[]part{
			{name: event.Span, span: "a"}, {name: event.Span, span: "a", start: 1}, {name: gen, span: "b", parent: "a", start: 2},
		}, "a(b) a", "3 1 0 - - 1 2000"},
	} {
		t.Run(name, func(t *testing.T) {
			for i := range c.parts {
				p := c.parts[len(c.parts)-1-i] // parts arrive in any order
				e := &event.Event{UUID: event.NewID(), ProjectID: name, TraceID: "T", Name: p.name, SpanID: p.span, ParentID: p.parent, CompletionID: p.completion,
					Usage: p.usage, Cost: p.cost, IsError: p.failed, Timestamp: now.Add(time.Duration(p.start)*time.Second + time.Duration(len(c.parts)-i))}
				e.Timestamp = now.Add(time.Duration(p.start) * time.Second)
				if p.latency > 0 {
					e.Latency = event.Some(time.Duration(p.latency) * time.Second)
				}
				// Equal times are distinguished by uuid: keep the table's order.
				e.UUID = fmt.Sprintf("00000000-0000-7000-8000-%012d", n+len(c.parts)-i)
				f.write(t, e)
			}
			n += len(c.parts)
			tr, err := f.Trace(t.Context(), name, "T")
			if err != nil {
				t.Fatal(err)
			}
			if got := drawing(tr.Roots); got != c.tree {
				t.Errorf("tree %q, want %q", got, c.tree)
			}
			if got := rollup(tr.Rollup); got != c.rollup {
				t.Errorf("totals %q, want %q", got, c.rollup)
			}
			if _, err := f.Trace(t.Context(), "other", "T"); event.AsError(err).Code != event.CodeNotFound {
				t.Errorf("another project's trace: %v", err)
			}
		})
	}
}

func drawing(nodes []*query.Node) string {
	var parts []string
	for _, n := range nodes {
		s := n.Event.SpanID
		if n.ParentMissing {
			s += "!"
		}
		if len(n.Children) > 0 {
			s += "(" + drawing(n.Children) + ")"
		}
		parts = append(parts, s)
	}
	return strings.Join(parts, " ")
}

func rollup(r query.Rollup) string {
	tokens, cost := "-", "-"
	if r.TotalTokens.Known {
		tokens = strconv.FormatInt(r.TotalTokens.Value, 10)
	}
	if r.CostUSD.Known {
		cost = r.CostUSD.Value.String()
	}
	return fmt.Sprint(r.Events, " ", r.Calls, " ", r.Errors, " ", tokens, " ", cost, " ", r.UncostedCalls, " ", r.LatencyMS.Value)
}

// TestStats recomputes totals in Go from the events themselves.
func TestStats(t *testing.T) {
	f := newFixture(t)
	paris, err := time.LoadLocation("Europe/Paris")
	if err != nil {
		t.Fatal(err)
	}
	from, to := now.AddDate(0, 0, -8), now.Add(-time.Hour)
	keys := map[query.GroupBy]func(*event.Event) string{
		query.ByNone:       func(*event.Event) string { return "" },
		query.ByModel:      (*event.Event).ModelName,
		query.ByModelAsked: func(e *event.Event) string { return cmp.Or(e.ModelAsked, e.Model) },
		query.BySurface:    func(e *event.Event) string { return e.Surface },
		query.ByProvider:   func(e *event.Event) string { return e.Provider },
		query.ByPrompt: func(e *event.Event) string {
			if e.PromptVersion == "" {
				return e.PromptName
			}
			return e.PromptName + "@" + e.PromptVersion
		},
		query.ByUser:        func(e *event.Event) string { return e.DistinctID },
		query.ByEnvironment: func(e *event.Event) string { return e.Environment },
		query.ByStatus:      func(e *event.Event) string { return string(e.Status) },
		query.ByDay:         func(e *event.Event) string { return e.Timestamp.In(paris).Format(time.DateOnly) },
		query.ByHour:        func(e *event.Event) string { return e.Timestamp.In(paris).Truncate(time.Hour).Format(time.RFC3339) },
	}
	for by, key := range keys {
		t.Run("By"+string(by), func(t *testing.T) {
			start := from
			if by == query.ByHour { // over the night in which an hour is missing
				start = time.Date(2026, 3, 28, 12, 0, 0, 0, time.UTC)
			}
			s, err := f.Stats(t.Context(), query.StatsQuery{Project: "default", Filter: query.Filter{From: start, To: to}, GroupBy: by, TimeZone: "Europe/Paris", Limit: query.MaxGroups, Compare: true})
			if err != nil {
				t.Fatal(err)
			}
			var all, before []*event.Event
			earlier, _ := query.Filter{From: start, To: to}.PreviousPeriod(paris)
			groups := make(map[string][]*event.Event)
			for _, e := range f.events {
				switch {
				case !e.Timestamp.Before(start) && e.Timestamp.Before(to):
					all = append(all, e)
					groups[key(e)] = append(groups[key(e)], e)
				case !e.Timestamp.Before(earlier.From) && e.Timestamp.Before(earlier.To):
					before = append(before, e)
				}
			}
			sameTotals(t, "totals", s.Totals, querytest.Totals(all))
			sameTotals(t, "previous", *s.Previous, querytest.Totals(before))
			if by == query.ByNone {
				if len(s.Groups) != 0 {
					t.Errorf("groups %v", s.Groups)
				}
				return
			}
			found := 0
			for i, g := range s.Groups {
				if g.Totals.Events > 0 {
					found++
				}
				sameTotals(t, g.Key, g.Totals, querytest.Totals(groups[g.Key]))
				timed := by == query.ByDay || by == query.ByHour
				if i > 0 && !timed && !s.Truncated && s.Groups[i-1].Totals.Calls < g.Totals.Calls {
					t.Errorf("group %d has more calls than the one before", i)
				}
				if i > 0 && timed && !s.Groups[i-1].Start.Before(*g.Start) {
					t.Errorf("group %d does not start after the one before", i)
				}
			}
			if by != query.ByUser && found != len(groups) {
				t.Errorf("%d groups with events, want %d", found, len(groups))
			}
		})
	}
	s, err := f.Stats(t.Context(), query.StatsQuery{Project: "default", GroupBy: query.ByModel, Limit: 2})
	if err != nil || len(s.Groups) != 2 || !s.Truncated || s.From != nil {
		t.Errorf("limited groups: %+v, %v", s, err)
	}
	s, err = f.Stats(t.Context(), query.StatsQuery{Project: "nobody", GroupBy: query.ByModel})
	if err != nil {
		t.Fatal(err)
	}
	b, _ := json.Marshal(s.Totals)
	if want := `{"events":0,"calls":0,"errors":0,"other_errors":0,"error_rate":null,"input_tokens":null,"output_tokens":null,"total_tokens":null,"unmetered_calls":0,"cost_usd":null,"uncosted_calls":0,"uncosted_errors":0,"incomplete_calls":0,"cost_at_least":false,` +
		`"latency_ms":{"p50":null,"p95":null,"p99":null},"time_to_first_token_ms":{"p50":null,"p95":null,"p99":null},"cache_hit_share":null}`; string(b) != want {
		t.Errorf("totals of nothing\n got %s\nwant %s", b, want)
	}
}

func sameTotals(t *testing.T, what string, got, want query.Totals) {
	t.Helper()
	for _, q := range []struct{ got, want *query.Millis }{
		{&got.LatencyMS.P50, &want.LatencyMS.P50}, {&got.LatencyMS.P95, &want.LatencyMS.P95}, {&got.LatencyMS.P99, &want.LatencyMS.P99},
		{&got.TTFTMS.P50, &want.TTFTMS.P50}, {&got.TTFTMS.P95, &want.TTFTMS.P95}, {&got.TTFTMS.P99, &want.TTFTMS.P99},
		{&got.CacheHitShare, &want.CacheHitShare}, {&got.ErrorRate, &want.ErrorRate},
	} {
		if q.got.Known == q.want.Known && math.Abs(q.got.Value-q.want.Value) < 1e-6 {
			*q.got = *q.want // the same but for the last bits of floating point
		}
	}
	g, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	w, _ := json.Marshal(want)
	if string(g) != string(w) {
		t.Errorf("%s\n got %s\nwant %s", what, g, w)
	}
}

func TestPeriods(t *testing.T) {
	f := newFixture(t)
	auckland, err := time.LoadLocation("Pacific/Auckland") // where it is tomorrow already
	if err != nil {
		t.Fatal(err)
	}
	local := now.In(auckland)
	midnight := func(days int) time.Time {
		return time.Date(local.Year(), local.Month(), local.Day()+days, 0, 0, 0, 0, auckland)
	}
	between := func(from, to time.Time) (out []*event.Event) {
		for _, e := range f.events {
			if !e.Timestamp.Before(from) && e.Timestamp.Before(to) {
				out = append(out, e)
			}
		}
		return out
	}
	for days, ask := range map[int]func(context.Context, string, string) (*query.Period, error){1: f.Today, 7: f.SevenDays} {
		p, err := ask(t.Context(), "default", "Pacific/Auckland")
		if err != nil {
			t.Fatal(err)
		}
		from, to := midnight(1-days), midnight(1)
		if !p.From.Equal(from) || !p.To.Equal(to) {
			t.Errorf("%d days: %v to %v", days, p.From, p.To)
		}
		events := between(from, to)
		if len(events) == 0 {
			t.Fatal("nothing to compare")
		}
		sameTotals(t, "totals", p.Totals, querytest.Totals(events))
		sameTotals(t, "previous", p.Previous, querytest.Totals(between(midnight(1-2*days), local.AddDate(0, 0, -days))))
		var calls int64
		for _, g := range p.ByModel {
			calls += g.Totals.Calls
		}
		var all int64
		for _, g := range p.BySurface {
			all += g.Totals.Events
		}
		if calls != p.Totals.Calls || all != p.Totals.Events {
			t.Errorf("%d days: breakdowns give %d calls, %d events; want %d, %d", days, calls, all, p.Totals.Calls, p.Totals.Events)
		}
	}
}

func TestFilterValues(t *testing.T) {
	f := newFixture(t)
	old := f.events[0].Clone()
	old.UUID, old.Provider, old.Timestamp = event.NewID(), "long gone", now.AddDate(0, -2, 0)
	f.write(t, old)
	counts := make(map[string]int64)
	for _, e := range f.events {
		counts[e.Provider]++
	}
	values, err := f.FilterValues(t.Context(), "default", "provider")
	if err != nil || len(values) != len(counts) {
		t.Fatalf("values %v, %v", values, err)
	}
	for i, v := range values {
		if v.Events != counts[v.Value] || i > 0 && values[i-1].Events < v.Events {
			t.Errorf("values %v, want %v", values, counts)
		}
	}
	for field, want := range map[string]int{"tag": 2, "prompt_name": 2, "user": 100, "error_type": 1, "model": 10, "event": 3, "operation": 1, "surface": 4, "status": 2, "task_type": 1, "environment": 2, "prompt_version": 3} {
		if values, err := f.FilterValues(t.Context(), "default", field); err != nil || len(values) != want {
			t.Errorf("%s: %v, %v; want %d values", field, values, err, want)
		}
	}
}

type noEngine struct{ query.Store }

func (noEngine) Engine() string { return "abacus" }

func TestNewUnknownEngine(t *testing.T) {
	if _, err := query.New(noEngine{}, nil); err == nil {
		t.Error("no error")
	}
}

// benchRows is the number of events in benchmarks. A million takes about a
// minute to write: HEDGEROW_BENCH_ROWS=1000000.
func benchRows(b *testing.B) int {
	n, err := strconv.Atoi(os.Getenv("HEDGEROW_BENCH_ROWS"))
	if err != nil {
		return 100_000
	}
	return n
}

func BenchmarkQuestions(b *testing.B) {
	s, err := store.OpenDuckDB(b.Context(), store.Config{Path: filepath.Join(b.TempDir(), "e.duckdb")})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	r, err := query.New(s, func() time.Time { return now })
	if err != nil {
		b.Fatal(err)
	}
	g := storetest.NewGenerator(1)
	rows := benchRows(b)
	step := 30 * 24 * time.Hour / time.Duration(rows)
	var last *event.Event
	for i := 0; i < rows; i += 1000 {
		batch := make([]*event.Event, 1000)
		for j := range batch {
			batch[j] = g.Event(now.Add(-step * time.Duration(rows-i-j)))
		}
		if _, err := s.Write(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
		last = batch[0]
	}
	page, err := r.Events(b.Context(), query.EventsQuery{Project: "default"})
	if err != nil {
		b.Fatal(err)
	}
	month := query.Filter{From: now.AddDate(0, 0, -30)}
	for _, c := range []struct {
		name string
		ask  func(context.Context) error
	}{
		{"EventsFirst", func(ctx context.Context) error { return second(r.Events(ctx, query.EventsQuery{Project: "default"})) }},
		{"EventsNext", func(ctx context.Context) error {
			return second(r.Events(ctx, query.EventsQuery{Project: "default", Cursor: page.Next}))
		}},
		{"Events1000", func(ctx context.Context) error {
			return second(r.Events(ctx, query.EventsQuery{Project: "default", Limit: 1000}))
		}},
		{"EventsOfUser", func(ctx context.Context) error {
			return second(r.Events(ctx, query.EventsQuery{Project: "default", Filter: query.Filter{User: "user-7"}}))
		}},
		{"EventsOfProperty", func(ctx context.Context) error {
			return second(r.Events(ctx, query.EventsQuery{Project: "default", Filter: query.Filter{Properties: map[string]string{"n": "7"}}}))
		}},
		{"Event", func(ctx context.Context) error { return second(r.Event(ctx, "default", last.UUID, true)) }},
		{"Trace", func(ctx context.Context) error { return second(r.Trace(ctx, "default", last.TraceID)) }},
		{"StatsMonth", func(ctx context.Context) error {
			return second(r.Stats(ctx, query.StatsQuery{Project: "default", Filter: month}))
		}},
		{"StatsMonthByModel", func(ctx context.Context) error {
			return second(r.Stats(ctx, query.StatsQuery{Project: "default", Filter: month, GroupBy: query.ByModel}))
		}},
		{"StatsMonthByDay", func(ctx context.Context) error {
			return second(r.Stats(ctx, query.StatsQuery{Project: "default", Filter: month, GroupBy: query.ByDay, TimeZone: "Europe/Paris"}))
		}},
		{"Today", func(ctx context.Context) error { return second(r.Today(ctx, "default", "Europe/Paris")) }},
		{"SevenDays", func(ctx context.Context) error { return second(r.SevenDays(ctx, "default", "Europe/Paris")) }},
		{"FilterValuesUser", func(ctx context.Context) error { return second(r.FilterValues(ctx, "default", "user")) }},
	} {
		b.Run(fmt.Sprintf("%s/rows=%d", c.name, rows), func(b *testing.B) {
			for b.Loop() {
				if err := c.ask(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

var _ query.Store = (*store.DuckDB)(nil)
