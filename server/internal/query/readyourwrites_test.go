package query_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/store/storetest"
)

// TestReadYourWrites: a stored event is in the next answer of every query and in
// all later ones, while ranges are rolled up in between.
func TestReadYourWrites(t *testing.T) {
	p := newPair(t)
	g, rng := storetest.NewGenerator(11), rand.New(rand.NewPCG(5, 6))
	filter := query.Filter{From: now.AddDate(0, 0, -9), To: now}
	calls := func() (n [3]int64) {
		f := filter
		f.Kind = query.KindCalls
		series, err := p.ask.Series(t.Context(), query.SeriesQuery{Project: "default", Filter: f, Measures: []query.Measure{query.Calls}, By: query.ByModel, Every: query.ByDay})
		if err != nil {
			t.Error(err)
			return n
		}
		stats, err := p.ask.Stats(t.Context(), query.StatsQuery{Project: "default", Filter: f})
		if err != nil {
			t.Error(err)
			return n
		}
		n = [3]int64{int64(series.Total.Total.Get(query.Calls).Value), stats.Totals.Calls, 0}
		for cursor := ""; ; {
			page, err := p.ask.Events(t.Context(), query.EventsQuery{Project: "default", Filter: f, Limit: 1000, Cursor: cursor})
			if err != nil {
				t.Error(err)
				return n
			}
			n[2] += int64(len(page.Events))
			if cursor = page.Next; cursor == "" {
				return n
			}
		}
	}

	ctx, stop := context.WithCancel(t.Context())
	var background sync.WaitGroup
	stretches := 0
	background.Go(func() {
		for ctx.Err() == nil {
			done, err := p.roller.Roll(ctx)
			if err != nil && ctx.Err() == nil {
				t.Error(err)
				return
			}
			if done {
				stretches++
			}
		}
	})
	background.Go(func() {
		var before [3]int64
		for ctx.Err() == nil && !t.Failed() {
			n := calls()
			for i, name := range []string{"series", "totals", "list"} {
				if n[i] < before[i] {
					t.Errorf("the %s had %d calls and has %d", name, before[i], n[i])
				}
			}
			before = n
		}
	})
	var want int64
	for range 14 {
		var batch []*event.Event
		for range 75 {
			e := g.Event(now.Add(-time.Duration(1+rng.IntN(200*60)) * time.Minute))
			if e.IsCosted() {
				want++
			}
			batch = append(batch, e)
		}
		if _, err := p.rolled.Write(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
		if got := calls(); got != [3]int64{want, want, want} {
			t.Fatalf("%d calls in series, totals and list, want %d", got, want)
		}
	}
	stop()
	background.Wait()
	if stretches < 2 {
		t.Errorf("%d stretches were rolled up meanwhile", stretches)
	}
}
