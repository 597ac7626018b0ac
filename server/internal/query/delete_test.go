package query_test

import (
	"database/sql"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/store"
	"github.com/hedgerow/hedgerow/server/internal/store/storetest"
)

// delete deletes events from both stores.
func (p *pair) delete(t *testing.T, uuids ...string) {
	t.Helper()
	for _, s := range []*store.DuckDB{p.rolled, p.plain} {
		if n, err := s.DeleteEvents(t.Context(), "default", uuids); err != nil || n != len(uuids) {
			t.Fatalf("deleted %d of %d, %v", n, len(uuids), err)
		}
	}
}

// TestRollupsWithoutDeletedEvents deletes calls, outcomes and whole traces from
// closed ranges: answers count only the remaining events, before and after their
// ranges are rolled up again.
func TestRollupsWithoutDeletedEvents(t *testing.T) {
	f := newFixture(t)
	withOutcomes(t, f)
	p := newPair(t)
	rng := rand.New(rand.NewPCG(21, 2))
	events := slices.Clone(f.events)
	rng.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
	g := storetest.NewGenerator(31)
	other := g.Event(now.Add(-time.Hour))
	other.ProjectID = "other"
	p.write(t, other)
	for i := 0; i < len(events); i += 177 {
		p.write(t, events[i:min(i+177, len(events))]...)
		p.roll(t)
	}
	left := slices.DeleteFunc(slices.Clone(events), func(e *event.Event) bool { return e.ProjectID != "default" })
	take := func(n int, which func(*event.Event) bool) (ids []string) {
		left = slices.DeleteFunc(left, func(e *event.Event) bool {
			if len(ids) == n || !which(e) {
				return false
			}
			ids = append(ids, e.UUID)
			return true
		})
		if len(ids) == 0 {
			t.Fatal("no such event")
		}
		return ids
	}
	for round, ids := range [][]string{
		take(2, (*event.Event).IsCosted), // calls, which outcomes may have the prompt of
		take(3, func(e *event.Event) bool { return e.Name == "llm_task_completed" || e.Name == "llm_output_rated" }),
		take(5, func(e *event.Event) bool { return e.IsError }),
		take(40, func(e *event.Event) bool { return rng.IntN(9) == 0 }), // in most stretches
	} {
		p.delete(t, ids...)
		p.compare(t, 4+round)
		if round == 2 || long() && round == 0 {
			p.comparePages(t, 13)
		}
		if n := p.roll(t); n == 0 {
			t.Errorf("round %d: no stretch was rolled up again", round)
		}
		p.compare(t, 5+round)
		if round == 3 || long() {
			p.comparePages(t, 11)
		}
	}

	// Retention cuts into stretches that wait to be rolled up again.
	p.clock = p.clock.AddDate(0, 0, 1)
	var more []*event.Event
	for range 700 {
		more = append(more, g.Event(now.Add(-time.Duration(rng.IntN(200))*time.Hour)))
	}
	p.write(t, more...)
	p.roll(t)
	p.delete(t, left[0].UUID, left[len(left)-1].UUID, more[3].UUID)
	for _, s := range []*store.DuckDB{p.rolled, p.plain} {
		if _, err := s.Retain(t.Context(), func(project string) store.Retention {
			return store.Retention{Metrics: map[bool]time.Duration{true: 12 * time.Hour}[project == "default"]}
		}); err != nil {
			t.Fatal(err)
		}
	}
	p.compare(t, 6)
	p.roll(t)
	p.compare(t, 5)
	p.comparePages(t, 9)
}

// TestManyDeletions: after many deletions everything from the first one on is
// rolled up again.
func TestManyDeletions(t *testing.T) {
	p := newPair(t)
	p.roller.Stretch = 30
	g, rng := storetest.NewGenerator(41), rand.New(rand.NewPCG(1, 9))
	var ids []string
	for range 38 {
		var batch []*event.Event
		for range 60 {
			batch = append(batch, g.Event(now.Add(-time.Duration(rng.IntN(150))*time.Hour)))
		}
		p.write(t, batch...)
		p.roll(t)
		if i := slices.IndexFunc(batch, func(e *event.Event) bool { return e.ProjectID == "default" }); i >= 0 && len(ids) < 36 {
			ids = append(ids, batch[i].UUID)
		}
	}
	p.delete(t, ids[5])
	p.delete(t, slices.Delete(ids, 5, 6)...)
	for _, table := range []string{"rolled", "rolled_stale"} {
		if err := p.rolled.Read(t.Context(), func(rows *sql.Rows) error {
			if rows.Next() {
				t.Errorf("table %s has a stretch after the first deletion", table)
			}
			return nil
		}, "SELECT 1 FROM "+table+" WHERE last > (SELECT min(stored_at) FROM events) LIMIT 1"); err != nil {
			t.Fatal(err)
		}
	}
	p.compare(t, 19)
	if n := p.roll(t); n < 10 { // of 120 events, the most that a stretch has
		t.Errorf("%d stretches were rolled up again", n)
	}
	p.compare(t, 9)
}
