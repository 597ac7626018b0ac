package store_test

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/price"
	"github.com/hedgerow/hedgerow/server/internal/store"
)

// TestReprice: in any order, and in one write or several, an event has the cost
// of the latest run, what was captured stays, and what comes again changes
// nothing.
func TestReprice(t *testing.T) {
	at := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	now := at.Add(time.Hour)
	usd := func(s string) event.Opt[decimal.Decimal] { return event.Some(decimal.RequireFromString(s)) }
	call := func() *event.Event {
		return &event.Event{UUID: event.NewID(), ProjectID: "p", Name: event.Generation, Source: event.SourceGateway, Timestamp: at, Model: "m",
			Usage: event.Usage{Input: event.Some[int64](7)}, Content: event.Content{Input: json.RawMessage(`["hi"]`)},
			Properties: map[string]json.RawMessage{"plan": json.RawMessage(`"a, b"`), price.WarningProperty: json.RawMessage(`"old"`)}}
	}
	again := func(e *event.Event, run string, cost event.Cost) *event.Event {
		cost.Repricing = run
		return &event.Event{UUID: event.DerivedID(run+e.UUID, at), ProjectID: e.ProjectID, Name: event.Repricing, Source: event.SourceReprice, Timestamp: at, ParentID: e.UUID, Cost: cost}
	}
	first := event.Cost{Input: usd("0.000000000000000001"), Unpriced: "web_searches,output_tokens", ModelUsed: "m", Source: event.CostTable, Provider: "openai"}
	second := event.Cost{Input: usd("0.1"), Output: usd("0.2"), Total: usd("0.3"), ModelUsed: "m2", Source: event.CostManual, Provider: "p", Before: usd("0.01")}
	for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		for _, together := range []bool{false, true} {
			c := store.Config{Path: filepath.Join(t.TempDir(), "r.duckdb"), Now: func() time.Time { return now }}
			d, err := store.OpenDuckDB(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			e := call()
			later := again(e, "rp_2", second)
			later.Properties = map[string]json.RawMessage{price.WarningProperty: json.RawMessage(`"new"`)}
			all := []*event.Event{e, again(e, "rp_1", first), later}
			var batch []*event.Event
			for _, i := range order {
				batch = append(batch, all[i])
			}
			if !together && order[0] != 0 { // the record survives a restart
				if _, err := d.Write(t.Context(), batch[:1]); err != nil {
					t.Fatal(err)
				}
				if err := d.Close(); err != nil {
					t.Fatal(err)
				}
				if d, err = store.OpenDuckDB(t.Context(), c); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 {
				parts := [][]*event.Event{batch}
				if !together {
					parts = slices.Collect(slices.Chunk(batch, 1))
				}
				for _, part := range parts {
					if _, err := d.Write(t.Context(), part); err != nil {
						t.Fatal(err)
					}
				}
				if n := count(t, d, "SELECT count(*) FROM events WHERE cost_repricing = 'rp_2' AND cost_total = 0.3 AND cost_input = 0.1 AND cost_output = 0.2 AND cost_unpriced IS NULL AND cost_model = 'm2' AND cost_source = 'manual'"+
					` AND cost_before = 0.01 AND input_tokens = 7 AND content_bytes > 0 AND properties = '{"cost_warning":"new","plan":"a, b"}'`); n != 1 {
					t.Errorf("%v, together %v: the repriced row is there %d times", order, together, n)
				}
				if n := count(t, d, "SELECT count(*) FROM events"); n != 1 {
					t.Errorf("%v, together %v: %d rows", order, together, n)
				}
			}
			// A record of another project, and one of an event that was deleted.
			foreign := again(e, "rp_3", first)
			foreign.ProjectID = "other"
			write := func(events ...*event.Event) {
				t.Helper()
				if _, err := d.Write(t.Context(), events); err != nil {
					t.Fatal(err)
				}
			}
			write(foreign)
			if n := count(t, d, "SELECT count(*) FROM events WHERE cost_repricing = 'rp_2'"); n != 1 {
				t.Error("another project's record was applied")
			}
			if _, err := d.DeleteEvents(t.Context(), "p", []string{e.UUID}); err != nil {
				t.Fatal(err)
			}
			write(again(e, "rp_4", first), e)
			if n := count(t, d, "SELECT count(*) FROM events"); n != 0 {
				t.Errorf("%d events after the deletion", n)
			}
			if n := count(t, d, "SELECT count(*) FROM repricings"); n == 0 {
				t.Error("no record waits")
			}
			now = now.Add(25 * time.Hour)
			if _, err := d.Retain(t.Context(), func(string) store.Retention { return store.Retention{} }); err != nil {
				t.Fatal(err)
			}
			if n := count(t, d, "SELECT count(*) FROM repricings"); n != 0 {
				t.Errorf("%d records wait for longer than a day", n)
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestRepriceSmall: an amount with 18 decimals, a list of what has no price, and unknown
// parts are stored as they are.
func TestRepriceSmall(t *testing.T) {
	d, err := store.OpenDuckDB(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "r.duckdb")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	at := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	var batch, records []*event.Event
	for range 3 {
		e := &event.Event{UUID: event.NewID(), ProjectID: "p", Name: event.Generation, Timestamp: at, Cost: event.Cost{Total: event.Some(decimal.New(5, 0)), Source: event.CostTable}}
		batch = append(batch, e)
		records = append(records, &event.Event{UUID: event.NewID(), ProjectID: "p", Name: event.Repricing, Source: event.SourceReprice, Timestamp: at, ParentID: e.UUID,
			Cost: event.Cost{Input: event.Some(decimal.New(1, -18)), Unpriced: "web_searches,output_tokens", Source: event.CostTable, Repricing: "rp_1", Before: e.Cost.Total}})
	}
	for _, b := range [][]*event.Event{batch, records} {
		if _, err := d.Write(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	if n := count(t, d, "SELECT count(*) FROM events WHERE cost_total IS NULL AND cost_output IS NULL AND cost_input = 0.000000000000000001 AND cost_unpriced = 'web_searches,output_tokens' AND cost_model IS NULL AND cost_before = 5 AND properties IS NULL"); n != 3 {
		t.Errorf("%d of 3", n)
	}
}
