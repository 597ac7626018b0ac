package reprice_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"go.yaml.in/yaml/v3"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/price"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/reprice"
	"github.com/hedgerow/hedgerow/server/internal/store"
)

// day is the first day of the calls.
var day = time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)

// fixture is a store with calls, and what a run writes into.
type fixture struct {
	t      *testing.T
	store  *store.DuckDB
	ask    *query.Reader
	prices *price.Table

	mu      sync.Mutex
	record  []byte
	sent    map[string]*event.Event // corrections by uuid
	audit   []project.AuditEntry
	appends int
	limit   int // appends that succeed; below 0 all
	stopped func()
}

// newFixture stores 40 calls a day of four days: of known, new and unknown models, with
// a cost of their own, and with a failed price.
func newFixture(t *testing.T) *fixture {
	t.Helper()
	s, err := store.OpenDuckDB(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "e.duckdb")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	f := &fixture{t: t, store: s, limit: -1, sent: make(map[string]*event.Event)}
	if f.ask, err = query.New(s, nil); err != nil {
		t.Fatal(err)
	}
	old := f.table(`
- {provider: openai, model: gpt-old, input: 2, output: 8}
`)
	f.prices = f.table(`
- {provider: openai, model: gpt-old, input: 4, output: 8}
- {provider: openai, model: gpt-new, input: 1, output: 1}
`)
	for d := range 4 {
		for b := range 4 {
			var batch []*event.Event
			for i := range 10 {
				e := &event.Event{UUID: event.NewID(), ProjectID: "p", Name: event.Generation, Source: event.SourceGateway, Provider: "openai", Timestamp: day.AddDate(0, 0, d).Add(time.Duration(b*10+i) * time.Minute),
					Model: []string{"gpt-old", "gpt-new", "gpt-noprice", "gpt-old"}[i%4], Usage: event.Usage{Input: event.Some[int64](1000), Output: event.Some[int64](100)}}
				if i%4 == 3 {
					e.Usage.ReportedCost = event.Some(decimal.New(5, -1))
				}
				old.Price(e)
				batch = append(batch, e)
			}
			other := batch[0].Clone()
			other.UUID, other.ProjectID = event.NewID(), "other"
			if _, err := s.Write(t.Context(), append(batch, other)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return f
}

func (f *fixture) table(text string) *price.Table {
	f.t.Helper()
	var node yaml.Node
	err := yaml.Unmarshal([]byte(text), &node)
	var rows []price.Row
	if err == nil {
		rows, err = price.RowsFromYAML(node.Content[0])
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return price.Default().With(rows...)
}

var errDown = event.NewError(event.CodeUnavailable, "down", "", errors.New("down"))

// Append simulates a journal whose events are stored immediately. After limit
// appends the process is killed: an append succeeds but the caller gets an
// error.
func (f *fixture) Append(ctx context.Context, events ...*event.Event) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.limit == 0 {
		f.stopped()
		return errDown
	}
	f.limit--
	f.appends++
	for _, e := range events {
		if e.Name == reprice.Correction {
			f.sent[e.UUID] = e
		}
	}
	_, err := f.store.Write(ctx, events)
	return err
}

func (f *fixture) Load(context.Context) ([]byte, error) { return f.record, nil }

func (f *fixture) Save(_ context.Context, b []byte) error {
	f.record = b
	return nil
}

func (f *fixture) Waiting(context.Context) (uint64, error) { return 0, nil }
func (f *fixture) Stale(ctx context.Context) (int, error)  { return f.store.Stale(ctx) }
func (f *fixture) Sync(context.Context) error              { return nil }
func (f *fixture) note(_ context.Context, e project.AuditEntry) error {
	f.audit = append(f.audit, e)
	return nil
}

// runner runs until stop is called, which waits for it.
func (f *fixture) runner() (r *reprice.Runner, stop func()) {
	f.t.Helper()
	r = reprice.NewRunner(reprice.Config{Prices: func() *price.Table { return f.prices }, Calls: f.ask, Journal: f, Store: f, Records: f, Audit: f.note, Rest: -1, Batch: 7})
	ctx, cancel := context.WithCancel(context.Background())
	f.stopped = cancel
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	r.Await(f.t.Context())
	return r, func() {
		cancel()
		if err := <-ended; err != nil {
			f.t.Error(err)
		}
	}
}

// do runs one request to its end.
func (f *fixture) do(q reprice.Request) reprice.Run {
	f.t.Helper()
	r, stop := f.runner()
	defer stop()
	if _, err := r.Start(f.t.Context(), "p", q); err != nil {
		f.t.Fatal(err)
	}
	return f.end(r)
}

// end waits for the end of a run.
func (f *fixture) end(r *reprice.Runner) reprice.Run {
	f.t.Helper()
	for start := time.Now(); time.Since(start) < 30*time.Second; time.Sleep(time.Millisecond) {
		if run, ok := r.Current("p"); ok && !run.Active() {
			return run
		}
	}
	f.t.Fatal("the run has no end")
	return reprice.Run{}
}

// sum is what the store says that all calls of the project cost.
func (f *fixture) sum() string {
	f.t.Helper()
	s, err := f.ask.Stats(f.t.Context(), query.StatsQuery{Project: "p", Filter: query.Filter{From: day, To: day.AddDate(0, 0, 9)}})
	if err != nil {
		f.t.Fatal(err)
	}
	return s.Totals.CostUSD.Value.String()
}

// said is a run's sum, and its reasons.
func said(r reprice.Run) string {
	s := fmt.Sprintf("%s %d/%d calls %d changed %s→%s unknown %d→%d kept %d", r.Status, r.Done, r.Total, r.Sum.Changed, usd(r.Sum.Before), usd(r.Sum.After), r.Sum.UnknownBefore, r.Sum.Unknown, r.Sum.Kept)
	for _, why := range r.Sum.Reasons {
		s += fmt.Sprintf(" [%s: %d]", why.Reason, why.Calls)
	}
	return s
}

func usd(u query.USD) string {
	if !u.Known {
		return "?"
	}
	return u.Value.String()
}

// Each batch of ten calls has 3 of gpt-old (2800 USD per million), 3 of
// gpt-new, 2 of gpt-noprice, and 2 of gpt-old that the provider said cost 0.5.
const (
	sumBefore = "16.1344" // 48 × 0.0028 + 32 × 0.5
	sumAfter  = "16.2832" // 48 × 0.0048 + 48 × 0.0011 + 32 × 0.5
)

func TestReprice(t *testing.T) {
	f := newFixture(t)
	month := reprice.Request{From: "2026-11-01", To: "2026-11-30"}
	if got := f.sum(); got != sumBefore {
		t.Fatalf("before: %s", got)
	}
	const counts = "160/160 calls 96 changed 16.1344→16.2832 unknown 80→32 kept 32 [cost reported by the provider or sent with the event: 32] [no price for the model: 32]"
	dry := f.do(month)
	if got := said(dry); got != "done "+counts {
		t.Errorf("dry run: %s", got)
	}
	var days []string
	for _, row := range dry.Rows {
		days = append(days, fmt.Sprintf("%s %s %s %d/%d %s→%s", row.Day, row.Provider, row.Model, row.Changed, row.Calls, usd(row.Before), usd(row.After)))
	}
	if len(days) != 12 || days[0] != "2026-11-20 openai gpt-new 12/12 ?→0.0132" || days[1] != "2026-11-20 openai gpt-noprice 0/8 ?→?" || days[2] != "2026-11-20 openai gpt-old 12/20 4.0336→4.0576" {
		t.Errorf("rows:\n%s", strings.Join(days, "\n"))
	}
	if f.sum() != sumBefore || f.appends != 0 || f.record != nil || len(f.audit) != 0 {
		t.Errorf("a dry run has changed something: %s, %d appends, record %s, %v", f.sum(), f.appends, f.record, f.audit)
	}
	one := month
	one.Model, one.From, one.To = "gpt-new", "2026-11-21", "2026-11-21T00:15:00Z"
	if got := said(f.do(one)); got != "done 4/4 calls 4 changed ?→0.0044 unknown 4→0 kept 0" {
		t.Errorf("one model, a quarter of an hour: %s", got)
	}

	apply := month
	apply.Apply = true
	done := f.do(apply)
	if got := said(done); got != "done "+counts {
		t.Errorf("applied: %s", got)
	}
	if got := f.sum(); got != sumAfter {
		t.Errorf("after: %s, want %s", got, sumAfter)
	}
	if f.record != nil || len(f.audit) != 1 || f.audit[0].Action != "prices.reprice" || f.audit[0].Target != done.ID || f.audit[0].ProjectID != "p" || f.audit[0].Detail != "2026-11-01 to 2026-11-30" {
		t.Errorf("record %s, audit log %+v", f.record, f.audit)
	}
	if len(f.sent) != 0 {
		t.Error("a correction was sent without Send")
	}
	f.appends = 0
	if got := said(f.do(apply)); got != "done 160/160 calls 0 changed 16.2832→16.2832 unknown 32→32 kept 32 [cost reported by the provider or sent with the event: 32] [no price for the model: 32]" || f.appends != 0 {
		t.Errorf("a second time: %s, %d appends", got, f.appends)
	}
	reported := apply
	reported.Reported = true
	if got := said(f.do(reported)); got != "done 160/160 calls 32 changed 16.2832→0.4368 unknown 32→32 kept 0 [no price for the model: 32]" {
		t.Errorf("with reported costs: %s", got)
	}
	if n, err := f.ask.CountPricedCalls(t.Context(), "other", query.PricedCalls{From: day, To: day.AddDate(0, 0, 9)}); err != nil || n != 16 {
		t.Errorf("%d calls of the other project, %v", n, err)
	}
}

// TestKilled: the process is killed after so many appends; the next one
// continues. Each call is changed once, and each difference is sent to PostHog
// once.
func TestKilled(t *testing.T) {
	for _, limit := range []int{0, 3, 16, 18} {
		f := newFixture(t)
		r, stop := f.runner()
		f.limit = limit
		q := reprice.Request{From: "2026-11-01", To: "2026-11-30", Apply: true, PostHog: true}
		if _, err := r.Start(t.Context(), "p", q); err != nil {
			t.Fatal(err)
		}
		for start := time.Now(); time.Since(start) < 30*time.Second; time.Sleep(time.Millisecond) {
			f.mu.Lock()
			killed := f.limit == 0
			f.mu.Unlock()
			if run, _ := r.Current("p"); killed || !run.Active() {
				break
			}
		}
		stop()
		f.limit = -1
		if f.record == nil {
			t.Fatalf("after %d appends: no record of the run", limit)
		}
		r, stop = f.runner()
		run := f.end(r)
		stop()
		if got := f.sum(); run.Status != reprice.Done || got != sumAfter || f.record != nil {
			t.Errorf("after %d appends: %s, %s, record %s", limit, said(run), got, f.record)
		}
		checkSent(t, f, fmt.Sprintf("after %d appends", limit), "0.096", "0.0528")
	}
}

// checkSent adds up what was sent to PostHog.
func checkSent(t *testing.T, f *fixture, when, difference, added string) {
	t.Helper()
	var sum, newly decimal.Decimal
	for _, e := range f.sent {
		number := func(name string) (d decimal.Decimal) {
			if err := json.Unmarshal(e.Properties[name], &d); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			return d
		}
		sum, newly = sum.Add(number("cost_difference_usd")), newly.Add(number("newly_priced_cost_usd"))
		if err := e.Validate(); err != nil || e.IsLLM() || e.Cost != (event.Cost{}) || number("cost_after_usd").Sub(number("cost_before_usd")).String() != number("cost_difference_usd").String() {
			t.Errorf("%s: %+v, %v", when, e, err)
		}
	}
	if sum.String() != difference || newly.String() != added {
		t.Errorf("%s: sent to PostHog: %s and %s, want %s and %s", when, sum, newly, difference, added)
	}
}

// TestCancel: what a run has changed by then stays, and is sent; it is not
// continued.
func TestCancel(t *testing.T) {
	f := newFixture(t)
	r, stop := f.runner()
	q := reprice.Request{From: "2026-11-01", To: "2026-11-30", Apply: true, PostHog: true}
	f.mu.Lock() // the first append waits
	if _, err := r.Start(t.Context(), "p", q); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Start(t.Context(), "p", q); event.AsError(err).Code != event.CodeConflict {
		t.Errorf("a second run at the same time: %v", err)
	}
	if _, err := r.Cancel(t.Context(), "other"); event.AsError(err).Code != event.CodeNotFound {
		t.Errorf("of another project: %v", err)
	}
	if _, err := r.Cancel(t.Context(), "p"); err != nil {
		t.Fatal(err)
	}
	f.mu.Unlock()
	run := f.end(r)
	stop()
	if run.Status != reprice.Canceled || f.record != nil || run.Done == run.Total && run.Total > 0 || f.audit[len(f.audit)-1].Action != "prices.reprice_cancel" {
		t.Errorf("%s, record %s, audit log %+v", said(run), f.record, f.audit)
	}
	var changed, told int64
	calls, after := []*event.Event{nil}, time.Time{}
	for len(calls) > 0 {
		var err error
		if calls, after, err = f.ask.PricedCallsAfter(t.Context(), "p", query.PricedCalls{From: day, To: day.AddDate(0, 0, 9)}, after, 1000); err != nil {
			t.Fatal(err)
		}
		for _, e := range calls {
			if e.Cost.Repricing == run.ID {
				changed++
			}
		}
	}
	for _, e := range f.sent {
		for _, name := range []string{"repriced_calls", "newly_priced_calls"} {
			var n int64
			if err := json.Unmarshal(e.Properties[name], &n); err != nil {
				t.Error(err)
			}
			told += n
		}
	}
	if changed != told || changed == 96 {
		t.Errorf("%d changed, %d sent to PostHog", changed, told)
	}
	if _, err := r.Start(t.Context(), "p", q); event.AsError(err).Code != event.CodeUnavailable {
		t.Errorf("after the end of the process: %v", err)
	}
}

// TestRequest: days are whole, times are to the second; what cannot be meant is an error.
func TestRequest(t *testing.T) {
	for _, c := range []struct {
		q    reprice.Request
		want string // from and to, or the error
	}{
		{reprice.Request{From: "2026-11-01", To: "2026-11-01"}, "2026-11-01T00:00:00Z 2026-11-02T00:00:00Z"},
		{reprice.Request{From: " 2026-11-01T10:00:00+02:00", To: "2026-11-03 "}, "2026-11-01T08:00:00Z 2026-11-04T00:00:00Z"},
		{reprice.Request{From: "2026-11-02", To: "2026-11-01"}, "the last day is before the first"},
		{reprice.Request{From: "2026-11-02T00:00:00Z", To: "2026-11-02T00:00:00Z"}, "the range ends before it begins"},
		{reprice.Request{From: "yesterday", To: "2026-11-01"}, "from and to must be days or times"},
		{reprice.Request{From: "2026-11-01"}, "from and to must be days or times"},
		{reprice.Request{From: "2001-01-01", To: "2026-11-01"}, "the range is longer than five years"},
		{reprice.Request{From: "2026-11-01", To: "2026-11-01", Model: strings.Repeat("m", 1001)}, "the model's name is too long"},
		{reprice.Request{From: "2026-11-01", To: "2026-11-01", PostHog: true}, "a dry run sends nothing to PostHog"},
	} {
		calls, err := c.q.Calls()
		got := calls.From.Format(time.RFC3339) + " " + calls.To.Format(time.RFC3339)
		if err != nil {
			got = event.AsError(err).Message
		}
		if got != c.want {
			t.Errorf("%.200v: %s, want %s", c.q, got, c.want)
		}
	}
}

// TestManyModels: the rows of a run are bounded, and still add up.
func TestManyModels(t *testing.T) {
	f := newFixture(t)
	var batch []*event.Event
	for i := range 2100 {
		batch = append(batch, &event.Event{UUID: event.NewID(), ProjectID: "p", Name: event.Generation, Timestamp: day.AddDate(0, 0, -3), Model: fmt.Sprint("model-", i), Usage: event.Usage{Input: event.Some[int64](1)}})
	}
	for part := range slices.Chunk(batch, 700) {
		if _, err := f.store.Write(t.Context(), part); err != nil {
			t.Fatal(err)
		}
	}
	run := f.do(reprice.Request{From: "2026-11-17", To: "2026-11-17"})
	var calls int64
	for _, row := range run.Rows {
		calls += row.Calls
	}
	if len(run.Rows) != 2001 || calls != 2100 || run.Sum.Calls != 2100 {
		t.Errorf("%d rows of %d calls, %d in all", len(run.Rows), calls, run.Sum.Calls)
	}
}
