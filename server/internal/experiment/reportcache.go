package experiment

import (
	"context"
	"reflect"
	"sync"
	"time"
)

// ReportCache evaluates experiments for pages and the API, and keeps each report for a
// while, because a list of experiments evaluates every one of them.
type ReportCache struct {
	Ask Asker
	Now func() time.Time // Defaults to time.Now

	mu    sync.Mutex
	kept  map[string]*keptReport
	empty time.Time // when kept was last emptied
}

// keptReport is a report that is being computed or is ready.
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

// Time returns the current time.
func (c *ReportCache) Time() time.Time {
	if c.Now == nil {
		return time.Now()
	}
	return c.Now()
}

// Report evaluates an experiment, or returns the cached report.
func (c *ReportCache) Report(ctx context.Context, d Definition) (*Report, error) {
	now := c.Time()
	c.mu.Lock()
	if now.Sub(c.empty) > keepStopped {
		c.kept, c.empty = make(map[string]*keptReport), now
	}
	r := c.kept[d.ID]
	if r == nil || !reflect.DeepEqual(r.of, d) || now.After(r.until) {
		keep := keepStopped
		if d.Running() {
			keep = keepRunning
		}
		r = &keptReport{of: d, until: now.Add(keep)}
		c.kept[d.ID] = r
	}
	c.mu.Unlock()
	r.once.Do(func() {
		// Other callers may wait for this report, so do not cancel it with the first one.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		r.report, r.err = Evaluate(ctx, c.Ask, d, now)
	})
	if r.err != nil {
		// Do not cache failures.
		c.mu.Lock()
		if c.kept[d.ID] == r {
			delete(c.kept, d.ID)
		}
		c.mu.Unlock()
	}
	return r.report, r.err
}
