package experiment

import (
	"context"
	"reflect"
	"sync"
	"time"
)

// Desk evaluates experiments for pages and the API. What it has computed a
// moment ago it gives again: a list of experiments asks the store for each.
type Desk struct {
	Ask Asker
	Now func() time.Time // Defaults to time.Now

	mu    sync.Mutex
	kept  map[string]*keptReport
	empty time.Time // when kept was last emptied
}

// keptReport is a report that is being made, or is there.
type keptReport struct {
	once   sync.Once
	of     Definition
	until  time.Time
	report *Report
	err    error
}

const (
	keepRunning = 10 * time.Second
	keepStopped = 10 * time.Minute // late events still come in
)

// Time is the desk's present.
func (k *Desk) Time() time.Time {
	if k.Now == nil {
		return time.Now()
	}
	return k.Now()
}

// Report evaluates an experiment, or gives the report of a moment ago.
func (k *Desk) Report(ctx context.Context, d Definition) (*Report, error) {
	now := k.Time()
	k.mu.Lock()
	if now.Sub(k.empty) > keepStopped {
		k.kept, k.empty = make(map[string]*keptReport), now
	}
	r := k.kept[d.ID]
	if r == nil || !reflect.DeepEqual(r.of, d) || now.After(r.until) {
		keep := keepStopped
		if d.Running() {
			keep = keepRunning
		}
		r = &keptReport{of: d, until: now.Add(keep)}
		k.kept[d.ID] = r
	}
	k.mu.Unlock()
	r.once.Do(func() {
		// Others may wait for this one, whose asker has gone away.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		r.report, r.err = Evaluate(ctx, k.Ask, d, now)
	})
	if r.err != nil {
		// A question that was given up is no answer for the next who asks.
		k.mu.Lock()
		if k.kept[d.ID] == r {
			delete(k.kept, d.ID)
		}
		k.mu.Unlock()
	}
	return r.report, r.err
}
