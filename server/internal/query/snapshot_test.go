package query_test

import (
	"context"
	"reflect"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/store/storetest"
)

// TestSnapshot: events stored or rolled up after a snapshot do not change its
// answers, with roll-ups and without.
func TestSnapshot(t *testing.T) {
	p := newPair(t)
	g := storetest.NewGenerator(21)
	write := func(n int) {
		var batch []*event.Event
		for i := range n {
			batch = append(batch, g.Event(now.Add(-time.Duration(1+i*7919%(6*24*60))*time.Minute)))
		}
		p.write(t, batch...)
	}
	write(700)
	if p.roll(t) == 0 {
		t.Fatal("nothing was rolled up")
	}
	write(100)
	f := query.Filter{From: now.AddDate(0, 0, -7), To: now}
	ofUser := f
	ofUser.Tag = "beta"
	for name, r := range map[string]*query.Reader{"rolled up": p.ask, "plain": p.askPlain} {
		at, err := r.Snapshot(t.Context(), "default")
		if err != nil {
			t.Fatal(err)
		}
		ask := func(r *query.Reader) (out []any) {
			ctx := t.Context()
			add := func(v any, err error) {
				if err != nil {
					t.Fatal(err)
				}
				out = append(out, v)
			}
			for _, ms := range [][]query.Measure{ofCalls, ofTimes, ofOutcomes, ofTools, {query.CostPerTask}, {query.Retries}, {query.EventTraceRate, query.EventCount}} {
				for _, f := range []query.Filter{f, ofUser} {
					q := query.SeriesQuery{Project: "default", Filter: f, Measures: ms, By: query.ByPrompt, Every: query.ByDay, Compare: true, Event: query.EventMatch{Name: event.Metric}}
					add(r.Series(ctx, q))
				}
			}
			add(r.Stats(ctx, query.StatsQuery{Project: "default", Filter: f, GroupBy: query.ByModel}))
			add(r.Stats(ctx, query.StatsQuery{Project: "default", Filter: f, GroupBy: query.ByUser}))
			for _, list := range []func(context.Context, query.ListQuery) (*query.ListPage, error){r.Traces, r.Sessions, r.Users} {
				add(list(ctx, query.ListQuery{Project: "default", Filter: f}))
				add(list(ctx, query.ListQuery{Project: "default", Filter: f, Sort: query.SortCost}))
			}
			add(r.Errors(ctx, "default", f, 0))
			add(r.Steps(ctx, "default", f, 0))
			calls, depth, err := r.Shapes(ctx, "default", f)
			add([2][]query.Shape{calls, depth}, err)
			page, err := r.Events(ctx, query.EventsQuery{Project: "default", Filter: f, Limit: 1000})
			add(len(page.Events), err)
			outcomes := f
			outcomes.Kind, outcomes.Environment = query.KindOutcomes, "production"
			page, err = r.Events(ctx, query.EventsQuery{Project: "default", Filter: outcomes, Limit: 1000})
			add(len(page.Events), err)
			return out
		}
		before := ask(at)
		if !reflect.DeepEqual(before[0], ask(r)[0]) {
			t.Errorf("%s: the snapshot and the present differ", name)
		}
		write(350)
		p.roll(t)
		after := ask(at)
		for i := range before {
			if !reflect.DeepEqual(before[i], after[i]) {
				t.Errorf("%s: answer %d was\n%+v\nand is\n%+v", name, i, before[i], after[i])
			}
		}
		if reflect.DeepEqual(before[0], ask(r)[0]) {
			t.Errorf("%s: the present has not changed", name)
		}
	}
}
