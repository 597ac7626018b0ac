package query_test

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/join"
	"github.com/hedgerow/hedgerow/server/internal/join/jointest"
	"github.com/hedgerow/hedgerow/server/internal/store"
	"github.com/hedgerow/hedgerow/server/internal/store/storetest"
)

// captured is a call that the gateway and a wrapper captured.
type captured struct{ call, half, merge *event.Event }

// capturedTwice makes a double capture of which the gateway's or the wrapper's half came
// first. The wrapper's has another user, trace and plan, and no figures of its own.
func capturedTwice(t *testing.T, call *event.Event, gatewayFirst bool) captured {
	t.Helper()
	call.Name, call.Source, call.CompletionID = event.Generation, event.SourceGateway, "chatcmpl-"+call.UUID
	half := call.Clone()
	half.UUID, half.Source, half.TraceID, half.SpanID = event.NewID(), event.SourceIngest, "w-"+call.TraceID, "w-"+call.SpanID
	half.DistinctID, half.SessionID = "wrapper-"+call.DistinctID, "w-"+call.SessionID
	half.Properties = map[string]json.RawMessage{"plan": json.RawMessage(`"enterprise"`)}
	first, second := call, half
	if !gatewayFirst {
		first, second = half, call
	}
	merges := jointest.Merges(t, call.Timestamp, join.JoinerConfig{}, first, second)
	if len(merges) != 1 {
		t.Fatalf("%d merges", len(merges))
	}
	return captured{call, half, merges[0]}
}

// TestRollupsWithMerges merges calls whose captures are in closed ranges, in
// open ones, in the same batch, or come after the merge, in either order:
// roll-ups equal the counts of the merged events, also after deletions,
// retention and redelivery.
func TestRollupsWithMerges(t *testing.T) {
	p := newPair(t)
	rng := rand.New(rand.NewPCG(7, 11))
	g := storetest.NewGenerator(51)
	old := func() time.Time { return now.Add(-time.Duration(rng.IntN(200)) * time.Hour) }
	var pairs []captured
	want := make(map[string]*event.Event) // the rows that merges leave
	var late [][]*event.Event             // what is written some rounds later
	for round := range 10 {
		var batch []*event.Event
		for range 110 {
			e := g.Event(old())
			batch, want[e.UUID] = append(batch, e), e
		}
		after := make([][]*event.Event, 2)
		for i := range 6 {
			c := capturedTwice(t, g.Event(old()), (round+i)%2 == 0)
			pairs = append(pairs, c)
			first, second := c.call, c.half
			if (round+i)%2 != 0 {
				first, second = c.half, c.call
			}
			rated := &event.Event{UUID: event.NewID(), ProjectID: "default", Name: "llm_output_rated", Timestamp: c.call.Timestamp, DistinctID: "rater", TraceID: c.call.TraceID, Properties: map[string]json.RawMessage{"rating": json.RawMessage(`"negative"`)}}
			if round >= 5 { // only the merge concerns what is closed
				rated.TraceID = ""
			}
			switch i {
			case 0: // all at once
				batch = append(batch, first, second, c.merge, rated)
			case 1: // the merge comes first
				batch = append(batch, c.merge)
				after[0] = append(after[0], first, second, rated)
			case 2: // the second half and the merge come later
				batch = append(batch, first, rated)
				after[1] = append(after[1], second, c.merge)
			case 3: // the merge between the halves
				batch = append(batch, first)
				after[0] = append(after[0], c.merge)
				after[1] = append(after[1], second, rated)
			case 4: // both halves, the merge later
				batch = append(batch, second, first, rated)
				after[1] = append(after[1], c.merge)
			case 5: // the merge with the second half
				batch = append(batch, first)
				after[0] = append(after[0], rated, second, c.merge)
			}
			merged := c.call.Clone()
			join.Apply(c.merge, merged)
			want[merged.UUID] = merged
			moved := rated.Clone()
			if moved.TraceID != "" {
				moved.TraceID = merged.TraceID
			}
			want[moved.UUID] = moved
		}
		p.write(t, batch...)
		late = append(late, after...)
		p.roll(t)
		if len(late) >= 6 { // three rounds later: their ranges are closed
			p.write(t, late[0]...)
			p.write(t, late[1]...)
			late = late[2:]
			if round%4 == 3 {
				p.compare(t, 29)
			}
			p.roll(t)
		}
	}
	for _, events := range late {
		p.write(t, events...)
	}
	p.compare(t, 23)
	if n := p.roll(t); n == 0 {
		t.Error("no stretch was rolled up again")
	}
	if p.compare(t, 13) == 0 {
		t.Error("no quantile came from a roll-up")
	}
	p.comparePages(t, 31)
	p.rowsAre(t, want)

	// What comes again changes nothing; of a deleted call no capture comes back.
	for i := 0; i < len(pairs); i += 9 {
		c := pairs[i]
		p.write(t, c.half, c.call, c.merge)
		p.delete(t, c.call.UUID)
		delete(want, c.call.UUID)
		p.write(t, c.half, c.merge, c.call)
	}
	p.rowsAre(t, want)
	p.compare(t, 23)
	p.roll(t)
	p.compare(t, 19)

	p.clock = p.clock.AddDate(0, 0, 1)
	var more []*event.Event
	for range 400 {
		more = append(more, g.Event(old()))
	}
	straddling := capturedTwice(t, g.Event(old()), true)
	p.write(t, append(more, straddling.half, straddling.call)...)
	p.roll(t)
	for _, s := range []*store.DuckDB{p.rolled, p.plain} {
		res, err := s.Retain(t.Context(), func(string) store.Retention { return store.Retention{Metrics: 12 * time.Hour} })
		if err != nil || res.Events == 0 {
			t.Fatalf("retained %+v, %v", res, err)
		}
	}
	p.write(t, straddling.merge)
	p.compare(t, 17)
	p.roll(t)
	p.compare(t, 19)
}

// rowsAre fails unless the store that is not rolled up has exactly these events of
// project default.
func (p *pair) rowsAre(t *testing.T, want map[string]*event.Event) {
	t.Helper()
	seen := 0
	if err := p.plain.Read(t.Context(), func(rows *sql.Rows) error {
		for rows.Next() {
			row, err := store.ScanRow(rows)
			if err != nil {
				return err
			}
			seen++
			sum := func(e *event.Event) string {
				return fmt.Sprint(e.Name, e.Source, e.DistinctID, e.SessionID, e.TraceID, e.SpanID, e.Usage, e.Cost.Total.Known, e.Cost.Total.Value, e.Latency, string(e.Properties["plan"]))
			}
			if e := want[row.Event.UUID]; e == nil || sum(e) != sum(row.Event) {
				t.Errorf("the store has %s, want %v", sum(row.Event), e)
			}
		}
		return nil
	}, "SELECT "+store.EventColumns("")+" FROM events"); err != nil {
		t.Fatal(err)
	}
	if seen != len(want) {
		t.Errorf("the store has %d events, want %d", seen, len(want))
	}
}
