// Package storetest tests the requirements of every engine of package store,
// and generates plausible events for tests and benchmarks.
package storetest

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/store"
)

// Store is the surface that the suite needs.
type Store interface {
	Write(ctx context.Context, events []*event.Event) (store.WriteResult, error)
	Read(ctx context.Context, scan func(*sql.Rows) error, query string, args ...any) error
	Retain(ctx context.Context, policy func(project string) store.Retention) (store.RetainResult, error)
	Ready(ctx context.Context) error
	Close() error
}

// Open opens the store in dir, with a clock. The suite opens one dir several
// times in sequence.
type Open func(t testing.TB, dir string, now func() time.Time) Store

// RunStore runs the suite.
func RunStore(t *testing.T, open Open) {
	t.Run("EveryFieldComesBack", func(t *testing.T) { testRoundTrip(t, open) })
	t.Run("UnknownStaysUnknown", func(t *testing.T) { testUnknown(t, open) })
	t.Run("AwkwardValues", func(t *testing.T) { testAwkward(t, open) })
	t.Run("Idempotent", func(t *testing.T) { testIdempotent(t, open) })
	t.Run("PoisonStoresNothing", func(t *testing.T) { testPoison(t, open) })
	t.Run("OutOfRangeIsUnknown", func(t *testing.T) { testOutOfRange(t, open) })
	t.Run("StoredAtNeverFalls", func(t *testing.T) { testStoredAt(t, open) })
	t.Run("Retention", func(t *testing.T) { testRetention(t, open) })
	t.Run("CancelledContext", func(t *testing.T) { testCancel(t, open) })
}

// Rows returns all stored rows in order of timestamp and uuid, with content.
func Rows(t testing.TB, s Store) []*store.Row {
	t.Helper()
	var rows []*store.Row
	err := s.Read(t.Context(), func(r *sql.Rows) error {
		for r.Next() {
			var body []byte
			row, err := store.ScanRow(r, &body)
			if err != nil {
				return err
			}
			if body != nil {
				if row.Event.Content, err = store.DecodeContent(body); err != nil {
					return err
				}
			}
			rows = append(rows, row)
		}
		return nil
	}, "SELECT "+store.EventColumns("e.")+", c.body FROM events e LEFT JOIN content c ON c.uuid = e.uuid AND c.stored_at = e.stored_at ORDER BY e.ts, e.uuid")
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func count(t testing.TB, s Store, query string) (n int) {
	t.Helper()
	err := s.Read(t.Context(), func(r *sql.Rows) error {
		for r.Next() {
			if err := r.Scan(&n); err != nil {
				return err
			}
		}
		return nil
	}, query)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func mustWrite(t testing.TB, s Store, events ...*event.Event) store.WriteResult {
	t.Helper()
	res, err := s.Write(t.Context(), events)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func start(t testing.TB, open Open) Store {
	s := open(t, t.TempDir(), nil)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// Full returns an event with every field set that is stored: most to something
// plausible, and those that the model has grown since to something of their type.
func Full(t testing.TB) *event.Event {
	one := func(s string) json.RawMessage { return json.RawMessage(s) }
	usd := func(s string) event.Opt[decimal.Decimal] { return event.Some(decimal.RequireFromString(s)) }
	e := &event.Event{
		UUID: event.NewID(), ProjectID: "default", Name: event.Generation, DistinctID: "user-1",
		Timestamp: time.Date(2026, 3, 1, 12, 30, 15, 123456000, time.UTC), Source: event.SourceGateway,
		TraceID: "t-1", SpanID: "s-1", ParentID: "p-1", SessionID: "c-1", TraceName: "answer", SpanName: "draft", User: "body-user",
		Provider: "openai", ModelAsked: "gpt-4.1-mini", Model: "gpt-4.1-mini-2025-04-14", Operation: "chat",
		BaseURL: "https://api.openai.com/v1", RequestURL: "https://api.openai.com/v1/chat/completions", Method: "POST",
		Usage: event.Usage{
			Input: event.Some[int64](1000), Output: event.Some[int64](0), Total: event.Some[int64](1001),
			CacheRead: event.Some[int64](1), CacheWrite: event.Some[int64](2), CacheWrite5m: event.Some[int64](3), CacheWrite1h: event.Some[int64](4),
			CacheExclusive: event.Some(false), Reasoning: event.Some[int64](5), InputAudio: event.Some[int64](6), OutputAudio: event.Some[int64](7),
			CacheReadAudio: event.Some[int64](8), InputImage: event.Some[int64](9), OutputImage: event.Some[int64](10),
			InputText: event.Some[int64](11), OutputText: event.Some[int64](12), WebSearches: event.Some[int64](13), Images: event.Some[int64](14),
			ReportedCost: usd("0.000000000000000001"),
		},
		Cost: event.Cost{Input: usd("0.0048"), Output: usd("999999.999999999999999999"), Request: usd("0"), WebSearch: usd("1.5"), Total: usd("12"), CacheSaved: usd("0.25"),
			ModelUsed: "gpt-4.1-mini", Source: event.CostTable, Provider: "openai"},
		Latency: event.Some(1234567 * time.Microsecond), TimeToFirstToken: event.Some(time.Duration(0)), Stream: event.Some(true),
		HTTPStatus: 200, RequestBytes: 10, ResponseBytes: 1 << 40,
		IsError: true, ErrorType: "rate_limit", ErrorCode: "rate_limit_exceeded", ErrorMessage: "slow down", Status: event.StatusError, StopReason: "length", ParseError: "no usage",
		CompletionID: "chatcmpl-1", SystemFingerprint: "fp_1", ServiceTier: "default",
		ModelParameters:  map[string]json.RawMessage{"temperature": one("0.7"), "stop": one(`["a","b"]`)},
		ProviderMetadata: map[string]json.RawMessage{"x": one(`{"y":null}`)},
		PromptName:       "sum", PromptVersion: "3", PromptVersionID: "pv_1", PromptHash: "sha256:ab",
		Surface: "Test", TaskType: "summary", Environment: "production",
		Tags: []string{"b", "a"}, Flags: map[string]string{"f": "on"}, Groups: map[string]string{"company": "1"},
		InputChars: event.Some[int64](15), OutputChars: event.Some[int64](16), InputLengthBucket: "1k_2k_tokens", OutputCategory: "text",
		Properties: map[string]json.RawMessage{"plan": one(`"pro"`), "n": one("1.50"), "o": one(`{"a":[1,2]}`), "": one("true"), "a/b~c\"d": one("null")},
		Attributes: []string{"plan", "o"},
		Private:    true,
		Content:    event.Content{Input: one(`[{"role":"user","content":"hi"}]`), Output: one(`""`), Tools: one("[]"), InputState: one("null"), OutputState: one(`{"a":1}`)},
	}
	for i, f := range event.Fields {
		if f.Column != "" && reflect.ValueOf(f.At).Call([]reflect.Value{reflect.ValueOf(e)})[0].Elem().IsZero() {
			set(t, f, e, i)
		}
	}
	return e
}

func set(t testing.TB, f event.Field, e *event.Event, n int) {
	switch at := f.At.(type) {
	case func(*event.Event) *string:
		*at(e) = f.Name
	case func(*event.Event) *bool:
		*at(e) = true
	case func(*event.Event) *event.Int:
		*at(e) = event.Some(int64(n))
	case func(*event.Event) *event.Opt[bool]:
		*at(e) = event.Some(true)
	case func(*event.Event) *event.Opt[time.Duration]:
		*at(e) = event.Some(time.Duration(n) * time.Second)
	case func(*event.Event) *event.Opt[decimal.Decimal]:
		*at(e) = event.Some(decimal.New(int64(n), -3))
	default:
		t.Fatalf("storetest.Full does not set %s", f.Path)
	}
}

// Same fails the test unless both events are equal, money by value.
func Same(t testing.TB, got, want *event.Event) {
	t.Helper()
	g, err := got.AppendFrame(nil)
	if err != nil {
		t.Fatal(err)
	}
	w, err := want.AppendFrame(nil)
	if err != nil {
		t.Fatal(err)
	}
	if string(g) != string(w) {
		t.Errorf("event differs\n got %q\nwant %q", g, w)
	}
}

func testRoundTrip(t *testing.T, open Open) {
	dir := t.TempDir()
	s := open(t, dir, nil)
	want := Full(t)
	res := mustWrite(t, s, want)
	if len(res.Stored) != 1 || res.Stored[0] != want || res.Duplicates != 0 {
		t.Errorf("result %+v", res)
	}
	Same(t, Rows(t, s)[0].Event, want)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, nil)
	defer s.Close()
	rows := Rows(t, s)
	Same(t, rows[0].Event, want)
	if rows[0].ContentBytes != int64(want.Content.Size()) {
		t.Errorf("content_bytes = %d", rows[0].ContentBytes)
	}
	if err := s.Ready(t.Context()); err != nil {
		t.Error(err)
	}
}

func testUnknown(t *testing.T, open Open) {
	s := start(t, open)
	want := &event.Event{UUID: event.NewID(), ProjectID: "p", Name: "x", Timestamp: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	mustWrite(t, s, want)
	Same(t, Rows(t, s)[0].Event, want)
	if n := count(t, s, "SELECT count(*) FROM events WHERE input_tokens IS NULL AND tokens IS NULL AND cost_total IS NULL AND latency_us IS NULL AND properties IS NULL AND tags IS NULL AND http_status IS NULL"); n != 1 {
		t.Error("unknown values are not NULL")
	}
	if n := count(t, s, "SELECT count(*) FROM content"); n != 0 {
		t.Errorf("%d content rows for an event without any", n)
	}
}

func testAwkward(t *testing.T, open Open) {
	s := start(t, open)
	big := make([]byte, 0, event.MaxEventBytes)
	big = append(big, '"')
	for len(big) < event.MaxEventBytes-1024 {
		big = fmt.Appendf(big, "%x ", len(big)*2654435761)
	}
	big = append(big, '"')
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	events := []*event.Event{
		{UUID: event.NewID(), Name: "nul \x00 inside", ProjectID: "p", Timestamp: at, ErrorMessage: "'; DROP TABLE events; --"},
		{UUID: event.NewID(), Name: "\U0001F333 \u202e", ProjectID: "p", Timestamp: at.Add(1 * time.Hour), Tags: []string{"", "ü", "a,b"}},
		{UUID: event.NewID(), Name: "first year", ProjectID: "p", Timestamp: time.Date(1, 1, 1, 0, 0, 0, 1000, time.UTC)},
		{UUID: event.NewID(), Name: "last year", ProjectID: "p", Timestamp: time.Date(9999, 12, 31, 23, 59, 59, 999999000, time.UTC)},
		{UUID: event.NewID(), Name: "big", ProjectID: "p", Timestamp: at.Add(2 * time.Hour), Content: event.Content{Input: big}},
		{UUID: event.NewID(), Name: "empty part", ProjectID: "p", Timestamp: at.Add(3 * time.Hour), Content: event.Content{Output: json.RawMessage{}}},
	}
	mustWrite(t, s, events...)
	got := make(map[string]*event.Event)
	for _, r := range Rows(t, s) {
		got[r.Event.UUID] = r.Event
	}
	for _, e := range events {
		Same(t, got[e.UUID], e)
	}

	broken := &event.Event{UUID: strings.ToUpper(event.NewID()), Name: "x\xff", ProjectID: "p", Timestamp: at.Add(4*time.Hour + 999*time.Nanosecond),
		Latency: event.Some(1500 * time.Nanosecond)}
	mustWrite(t, s, broken)
	rows := Rows(t, s)
	r := rows[len(rows)-2].Event // before "last year"
	if r.Name != "x\uFFFD" || r.UUID != strings.ToLower(broken.UUID) || !r.Timestamp.Equal(at.Add(4*time.Hour)) || r.Latency.Value != time.Microsecond {
		t.Errorf("not normalised: %+v", r)
	}
}

func testIdempotent(t *testing.T, open Open) {
	dir := t.TempDir()
	s := open(t, dir, nil)
	g := NewGenerator(1)
	var batch []*event.Event
	for i := range 300 {
		e := g.Event(time.Date(2026, 1, 1, 0, 0, i, 0, time.UTC))
		if i%3 == 0 {
			e.UUID = uuid.NewString() // version 4: not in order of time
		}
		batch = append(batch, e)
	}
	mustWrite(t, s, batch[:100]...)
	twin := batch[150].Clone()
	twin.UUID = strings.ToUpper(twin.UUID)
	twin.Name = "the second of its uuid"
	res := mustWrite(t, s, append(batch[50:200:200], twin)...)
	if len(res.Stored) != 100 || res.Duplicates != 51 || res.Stored[0] != batch[100] {
		t.Errorf("stored %d, duplicates %d; want 100, 51", len(res.Stored), res.Duplicates)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, nil)
	defer s.Close()
	// The same uuid is the same event, even if its fields differ.
	moved := batch[0].Clone()
	moved.Timestamp = moved.Timestamp.AddDate(-3, 0, 0)
	moved.ProjectID = "other"
	res = mustWrite(t, s, append(batch[100:300:300], moved)...)
	if len(res.Stored) != 100 || res.Duplicates != 101 {
		t.Errorf("after a restart: stored %d, duplicates %d; want 100, 101", len(res.Stored), res.Duplicates)
	}
	if rows := Rows(t, s); len(rows) != 300 {
		t.Errorf("%d rows, want 300", len(rows))
	}
	if n := count(t, s, "SELECT count(*) FROM content"); n != 300 {
		t.Errorf("%d contents, want 300", n)
	}
	if n := count(t, s, "SELECT count(*) FROM events WHERE name = 'the second of its uuid'"); n != 0 {
		t.Error("the later of two equal uuids replaced the first")
	}
}

func testPoison(t *testing.T, open Open) {
	s := start(t, open)
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, bad := range map[string]*event.Event{
		"Uuid":        {UUID: "no", ProjectID: "p", Name: "x", Timestamp: at},
		"Time":        {UUID: event.NewID(), ProjectID: "p", Name: "x", Timestamp: time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC)},
		"NotJSON":     {UUID: event.NewID(), ProjectID: "p", Name: "x", Timestamp: at, Properties: map[string]json.RawMessage{"a": json.RawMessage("{")}},
		"NoProject":   {UUID: event.NewID(), Name: "x", Timestamp: at},
		"NoTimestamp": {UUID: event.NewID(), ProjectID: "p", Name: "x"},
	} {
		t.Run(name, func(t *testing.T) {
			good := &event.Event{UUID: event.NewID(), ProjectID: "p", Name: "good", Timestamp: at}
			_, err := s.Write(t.Context(), []*event.Event{good, bad})
			if e := event.AsError(err); e == nil || e.Code != event.CodeInvalid {
				t.Errorf("error %v, want code %s", err, event.CodeInvalid)
			}
		})
	}
	tiny := &event.Event{UUID: event.NewID(), ProjectID: "p", Name: "tiny", Timestamp: at, Cost: event.Cost{Total: event.Some(decimal.New(1, -2_000_000_000))}}
	mustWrite(t, s, tiny)
	rows := Rows(t, s)
	if len(rows) != 1 || !rows[0].Event.Cost.Total.Known || !rows[0].Event.Cost.Total.Value.IsZero() {
		t.Errorf("rows %v, want the one tiny cost, rounded to 0", rows)
	}
}

// testOutOfRange writes values that receivers reject: an older binary may have
// left them in the journal.
func testOutOfRange(t *testing.T, open Open) {
	s := start(t, open)
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	usd := func(v string) event.Opt[decimal.Decimal] { return event.Some(decimal.RequireFromString(v)) }
	mustWrite(t, s,
		&event.Event{UUID: event.NewID(), ProjectID: "p", Name: event.Generation, Timestamp: at, Usage: event.Usage{Input: event.Some[int64](math.MaxInt64), Output: event.Some[int64](math.MinInt64), Total: event.Some[int64](-2)},
			Latency: event.Some[time.Duration](math.MaxInt64), RequestBytes: math.MaxInt64, HTTPStatus: 1 << 40, Cost: event.Cost{Total: usd("100000000000000000000"), Input: usd("-1")}},
		&event.Event{UUID: event.NewID(), ProjectID: "p", Name: event.Generation, Timestamp: at.Add(1), Cost: event.Cost{Total: event.Some(decimal.New(1, 2_000_000_000))}})
	rows := Rows(t, s)
	if len(rows) != 2 {
		t.Fatalf("%d rows, want 2", len(rows))
	}
	for _, r := range rows {
		if e := r.Event; (e.Usage != event.Usage{} || e.Cost != event.Cost{} || e.Latency.Known || e.RequestBytes != 0 || e.HTTPStatus != 0) {
			t.Errorf("stored %+v", e)
		}
	}
	if n := count(t, s, `SELECT count(*) FROM events WHERE properties LIKE '%"hedgerow_warnings":["input_tokens out of range","output_tokens out of range","total_tokens out of range","latency out of range","request_bytes out of range","http_status out of range","cost_input out of range","cost_total out of range"]%'`); n != 1 {
		t.Errorf("warnings of %d events, want 1", n)
	}
}

func testStoredAt(t *testing.T, open Open) {
	now := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	dir := t.TempDir()
	g := NewGenerator(2)
	s := open(t, dir, func() time.Time { return now })
	mustWrite(t, s, g.Event(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)))
	now = now.Add(-time.Hour)
	mustWrite(t, s, g.Event(time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, func() time.Time { return now })
	defer s.Close()
	mustWrite(t, s, g.Event(time.Date(2026, 1, 3, 0, 0, 0, 0, time.UTC)))
	rows := Rows(t, s)
	for i := 1; i < len(rows); i++ {
		if !rows[i].StoredAt.After(rows[i-1].StoredAt) {
			t.Errorf("row %d stored at %v, after %v", i, rows[i].StoredAt, rows[i-1].StoredAt)
		}
	}
}

func testRetention(t *testing.T, open Open) {
	const day = 24 * time.Hour
	now := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	dir := t.TempDir()
	s := open(t, dir, func() time.Time { return now })
	g := NewGenerator(3)
	// Timestamps from the future and the past: only the time of storing counts.
	for i := range 10 {
		var batch []*event.Event
		for j := range 30 {
			e := g.Event(now.AddDate(0, 0, 100-j*10))
			e.ProjectID = []string{"short", "long", "forever"}[j%3]
			batch = append(batch, e)
		}
		mustWrite(t, s, batch...)
		if i < 9 {
			now = now.Add(day)
		}
	}
	policy := func(p string) store.Retention {
		switch p {
		case "short":
			return store.Retention{Content: 2*day + time.Hour, Metrics: 5*day + time.Hour}
		case "long":
			return store.Retention{Content: 5*day + time.Hour}
		}
		return store.Retention{}
	}
	res, err := s.Retain(t.Context(), policy)
	if err != nil {
		t.Fatal(err)
	}
	// Ten batches, the oldest nine days old, ten events of each project.
	if want := (store.RetainResult{Content: 70 + 40, Events: 40}); res != want {
		t.Errorf("removed %+v, want %+v", res, want)
	}
	check := func() {
		t.Helper()
		for _, c := range []struct {
			query string
			want  int
		}{
			{"SELECT count(*) FROM events WHERE project_id = 'short'", 60},
			{"SELECT count(*) FROM content WHERE project_id = 'short'", 30},
			{"SELECT count(*) FROM events WHERE project_id = 'long'", 100},
			{"SELECT count(*) FROM content WHERE project_id = 'long'", 60},
			{"SELECT count(*) FROM events WHERE project_id = 'forever'", 100},
			{"SELECT count(*) FROM content WHERE project_id = 'forever'", 100},
		} {
			if n := count(t, s, c.query); n != c.want {
				t.Errorf("%s: %d, want %d", c.query, n, c.want)
			}
		}
	}
	check()
	if res, err := s.Retain(t.Context(), policy); err != nil || res != (store.RetainResult{}) {
		t.Errorf("a second run removed %+v, %v", res, err)
	}
	// Metrics retention alone takes the content along.
	res, err = s.Retain(t.Context(), func(p string) store.Retention {
		if p == "long" {
			return store.Retention{Metrics: day + time.Hour}
		}
		return store.Retention{}
	})
	if want := (store.RetainResult{Content: 40, Events: 80}); err != nil || res != want {
		t.Errorf("removed %+v, %v; want %+v", res, err, want)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, func() time.Time { return now })
	defer s.Close()
	if n := count(t, s, "SELECT count(*) FROM events"); n != 180 {
		t.Errorf("%d events after a restart, want 180", n)
	}
	if n := len(Rows(t, s)); n != 180 {
		t.Errorf("%d rows after a restart, want 180", n)
	}
}

func testCancel(t *testing.T, open Open) {
	s := start(t, open)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	g := NewGenerator(4)
	e := g.Event(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	if _, err := s.Write(ctx, []*event.Event{e}); err == nil {
		t.Error("a cancelled write succeeded")
	}
	err := s.Read(ctx, func(*sql.Rows) error { return nil }, "SELECT count(*) FROM events")
	if code := event.AsError(err).Code; code != event.CodeCanceled {
		t.Errorf("a cancelled question: %v, want code %s", err, event.CodeCanceled)
	}
	if res := mustWrite(t, s, e); len(res.Stored) != 1 {
		t.Errorf("after a cancelled write: %+v", res)
	}
}

// Generator makes plausible events, the same ones for the same seed but for
// their uuids. It is not safe for concurrent use.
type Generator struct {
	rand    *rand.Rand
	Content int // bytes of content of an event; 0 for a few words
}

// NewGenerator returns a Generator.
func NewGenerator(seed uint64) *Generator {
	return &Generator{rand: rand.New(rand.NewPCG(seed, seed))}
}

var words = strings.Fields("the quick brown fox summarise this clause liability shall not exceed fees paid in twelve months however nothing limits either party for fraud tokens model prompt answer user assistant system tool call function schema")

func (g *Generator) text(n int) string {
	var b strings.Builder
	for b.Len() < n {
		b.WriteString(words[g.rand.IntN(len(words))])
		if g.rand.IntN(8) == 0 {
			fmt.Fprintf(&b, " %x", g.rand.Uint32())
		}
		b.WriteByte(' ')
	}
	return b.String()
}

func pick[T any](g *Generator, from ...T) T { return from[g.rand.IntN(len(from))] }

// Event makes one at a time: mostly successful generations, some embeddings,
// spans, failures, and calls of unknown cost or tokens.
func (g *Generator) Event(at time.Time) *event.Event {
	model := pick(g, "gpt-4.1-mini", "gpt-4.1", "claude-sonnet-4.5", "gemini-2.5-flash", "llama-3.3-70b")
	e := &event.Event{
		UUID: event.NewID(), ProjectID: "default", Name: pick(g, event.Generation, event.Generation, event.Generation, event.Generation, event.Embedding, event.Span),
		DistinctID: fmt.Sprintf("user-%d", g.rand.IntN(2000)), Timestamp: at, Source: event.SourceGateway,
		TraceID: fmt.Sprintf("%016x%016x", g.rand.Uint64(), g.rand.Uint64()), SpanID: fmt.Sprintf("%016x", g.rand.Uint64()), SessionID: fmt.Sprintf("s-%d", g.rand.IntN(5000)),
		Provider: pick(g, "openai", "anthropic", "openrouter"), ModelAsked: model, Operation: "chat", Method: "POST",
		BaseURL: "https://api.openai.com/v1", RequestURL: "https://api.openai.com/v1/chat/completions",
		Latency: event.Some(time.Duration(g.rand.ExpFloat64()*1.5e6) * time.Microsecond), HTTPStatus: 200, RequestBytes: 3000, ResponseBytes: 2000,
		Status: event.StatusSuccess, StopReason: "stop", CompletionID: fmt.Sprintf("chatcmpl-%016x", g.rand.Uint64()),
		PromptName: pick(g, "", "summarise", "classify"), Surface: pick(g, "", "Conversation", "Test", "Playbook", "Compose"),
		Environment: pick(g, "production", "production", "staging"), TaskType: pick(g, "", "summary"),
		Properties: map[string]json.RawMessage{"plan": json.RawMessage(pick(g, `"pro"`, `"free"`)), "n": json.RawMessage(fmt.Sprint(g.rand.IntN(100)))},
	}
	if e.PromptName != "" {
		e.PromptVersion = pick(g, "", "1", "2", "3")
	}
	if g.rand.IntN(4) == 0 {
		e.Tags = []string{pick(g, "beta", "gold")}
	}
	if g.rand.IntN(2) == 0 {
		e.Stream = event.Some(true)
		e.TimeToFirstToken = event.Some(time.Duration(g.rand.ExpFloat64()*3e5) * time.Microsecond)
	}
	switch g.rand.IntN(20) {
	case 0:
		e.IsError, e.Status, e.ErrorType, e.HTTPStatus = true, event.StatusError, "server_error", 500
	case 1: // usage unknown
	default:
		e.Model = model + "-2026-01-01"
		in, out := g.rand.Int64N(3000), g.rand.Int64N(800)
		e.Usage.Input, e.Usage.Output = event.Some(in), event.Some(out)
		if g.rand.IntN(2) == 0 {
			e.Usage.CacheRead = event.Some(g.rand.Int64N(in + 1))
			e.Usage.CacheExclusive = event.Some(e.Provider == "anthropic")
		}
		if model != "llama-3.3-70b" { // has no known price
			e.Cost.Input, e.Cost.Output = event.Some(decimal.New(in*15, -8)), event.Some(decimal.New(out*60, -8))
			e.Cost.Total = event.Some(e.Cost.Input.Value.Add(e.Cost.Output.Value))
			e.Cost.Source, e.Cost.ModelUsed = event.CostTable, model
			if c := e.Usage.CacheRead; c.Known {
				e.Cost.CacheSaved = event.Some(decimal.New(c.Value*11, -8))
			}
		}
	}
	size := max(g.Content, 60)
	e.Content.Input = json.RawMessage(`[{"role":"user","content":"` + g.text(size*2/3) + `"}]`)
	e.Content.Output = json.RawMessage(`[{"role":"assistant","content":"` + g.text(size/3) + `"}]`)
	return e
}
