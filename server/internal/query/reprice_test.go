package query_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/store"
)

// repriced returns the record of a new total for an event, which is changed as the store
// should change it.
func repriced(e *event.Event, run string, usd decimal.Decimal) *event.Event {
	before := e.Cost.Total
	e.Cost = event.Cost{Input: event.Some(usd), Total: event.Some(usd), CacheSaved: e.Cost.CacheSaved, ModelUsed: "m", Source: event.CostTable, Provider: "p", Before: before, Repricing: run}
	return &event.Event{UUID: event.NewID(), ProjectID: e.ProjectID, Name: event.Repricing, Source: event.SourceReprice, Timestamp: e.Timestamp, ParentID: e.UUID, Cost: e.Cost}
}

// TestRollupsOfRepricedEvents sets other costs of calls in closed ranges: answers of a
// store with roll-ups are those of one without, to the last digit, before and after the
// ranges are rolled up again, and the sum is that of the costs.
func TestRollupsOfRepricedEvents(t *testing.T) {
	f := newFixture(t)
	p := newPair(t)
	rng := rand.New(rand.NewPCG(5, 8))
	events := slices.DeleteFunc(slices.Clone(f.events), func(e *event.Event) bool { return e.ProjectID != "default" })
	for i := range events {
		events[i] = events[i].Clone()
	}
	for i := 0; i < len(events); i += 400 {
		p.write(t, events[i:min(i+400, len(events))]...)
		p.roll(t)
	}
	sum := func() string {
		var all decimal.Decimal
		for _, e := range events {
			if e.IsCosted() {
				all = all.Add(e.Cost.Total.Value)
			}
		}
		return all.String()
	}
	answer := func(r *query.Reader) string {
		s, err := r.Stats(t.Context(), query.StatsQuery{Project: "default", Filter: query.Filter{From: now.AddDate(-2, 0, 0), To: now.AddDate(1, 0, 0)}})
		if err != nil {
			t.Fatal(err)
		}
		return s.Totals.CostUSD.Value.String()
	}
	for round, share := range []int{40, 1} { // of the calls: one in so many
		run := fmt.Sprint("rp_", round)
		var records []*event.Event
		for _, e := range events {
			if e.IsCosted() && rng.IntN(share) == 0 {
				records = append(records, repriced(e, run, decimal.New(rng.Int64N(1e15), -18)))
			}
		}
		if len(records) == 0 {
			t.Fatal("no calls")
		}
		for i := 0; i < len(records); i += 500 {
			p.write(t, records[i:min(i+500, len(records))]...)
		}
		for _, when := range []string{"before", "after"} {
			for name, r := range map[string]*query.Reader{"with roll-ups": p.ask, "without": p.askPlain} {
				if got, want := answer(r), sum(); got != want {
					t.Errorf("round %d, %s, %s its ranges are rolled up again: %s, want %s", round, name, when, got, want)
				}
			}
			if round == 0 && when == "before" || round == 1 && when == "after" {
				p.compare(t, 60)
			}
			if when == "before" && p.roll(t) == 0 {
				t.Errorf("round %d: nothing was rolled up again", round)
			}
		}
		for _, s := range []*store.DuckDB{p.rolled, p.plain} { // what comes again changes nothing
			before := s.Generation()
			if _, err := s.Write(t.Context(), records); err != nil || s.Generation() != before {
				t.Errorf("the same records again: %v, generation %d of %d", err, s.Generation(), before)
			}
		}
	}
}

// TestPricedCalls reads calls in parts.
func TestPricedCalls(t *testing.T) {
	f := newFixture(t)
	s, err := store.OpenDuckDB(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "e.duckdb")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	for i := 0; i < len(f.events); i += 177 {
		if _, err := s.Write(t.Context(), f.events[i:min(i+177, len(f.events))]); err != nil {
			t.Fatal(err)
		}
	}
	r, err := query.New(s, nil)
	if err != nil {
		t.Fatal(err)
	}
	q := query.PricedCalls{From: now.AddDate(0, 0, -6), To: now.AddDate(0, 0, -1)}
	for _, q.Model = range []string{"", "gpt-4.1"} {
		want := make(map[string]bool)
		for _, e := range f.events {
			if e.ProjectID == "default" && e.IsCosted() && !e.Timestamp.Before(q.From) && e.Timestamp.Before(q.To) && (q.Model == "" || e.Model == q.Model || e.ModelAsked == q.Model) {
				want[e.UUID] = true
			}
		}
		n, err := r.CountPricedCalls(t.Context(), "default", q)
		if err != nil || n != int64(len(want)) || n == 0 {
			t.Errorf("%d calls of %d, %v", n, len(want), err)
		}
		var after time.Time
		for parts := 0; ; parts++ {
			calls, reached, err := r.PricedCallsAfter(t.Context(), "default", q, after, 50)
			if err != nil {
				t.Fatal(err)
			}
			if len(calls) == 0 {
				if parts < 2 {
					t.Errorf("%d parts", parts)
				}
				break
			}
			for _, e := range calls {
				if !want[e.UUID] {
					t.Errorf("not asked for, or twice: %s", e.UUID)
				}
				delete(want, e.UUID)
			}
			after = reached
		}
		if len(want) > 0 {
			t.Errorf("%q: %d calls are missing", q.Model, len(want))
		}
	}
}
