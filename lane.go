package hedgerow

import (
	"context"
	"slices"
	"sync"
	"time"
)

// maxBatch is the maximum number of events in a request, unless FlushAt is larger.
const maxBatch = 100

// lane is a queue of events and the two goroutines that deliver them in order: one
// encodes a batch while the other sends the previous one.
type lane struct {
	c  *Client
	ai bool // its LLM events use PostHog's AI route

	wake chan struct{} // one token while run has work

	mu       sync.Mutex
	items    []item
	taken    uint64 // number of pushed events that run has taken
	finished uint64 // number of taken events that have arrived or been dropped
	flushTo  uint64 // events pushed up to here are sent without waiting
	closed   bool
	changed  chan struct{} // closed when finished grows; nil without waiters
}

func newLane(c *Client, ai bool) *lane {
	return &lane{c: c, ai: ai, wake: make(chan struct{}, 1)}
}

func (l *lane) push(it item) {
	l.mu.Lock()
	if len(l.items) == cap(l.items) {
		l.items = slices.Grow(l.items, max(64, len(l.items))) // append alone would copy a long queue repeatedly
	}
	l.items = append(l.items, it)
	n := len(l.items)
	l.mu.Unlock()
	// The first event starts the timer, and a full batch ends the wait.
	if n == 1 || n == l.c.c.FlushAt {
		l.signal()
	}
}

func (l *lane) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// flush sends everything that has been pushed, and returns the value of finished at
// which it is done.
func (l *lane) flush() uint64 {
	l.mu.Lock()
	l.flushTo = l.taken + uint64(len(l.items))
	target := l.flushTo
	l.mu.Unlock()
	l.signal()
	return target
}

// wait returns when finished has reached the target.
func (l *lane) wait(ctx context.Context, target uint64) error {
	for {
		l.mu.Lock()
		if l.finished >= target {
			l.mu.Unlock()
			return nil
		}
		if l.changed == nil {
			l.changed = make(chan struct{})
		}
		changed := l.changed
		l.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (l *lane) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.signal()
}

// next returns a batch, or how long to wait for one (0: until woken), or that the
// lane has ended.
func (l *lane) next() (batch []item, wait time.Duration, ended bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.items)
	if n == 0 {
		l.items = nil // frees the array of earlier batches
		return nil, 0, l.closed
	}
	if n < l.c.c.FlushAt && !l.closed && l.taken >= l.flushTo {
		if wait = l.c.c.FlushInterval - time.Since(l.items[0].since); wait > 0 {
			return nil, wait, false
		}
	}
	n = min(n, max(maxBatch, l.c.c.FlushAt))
	batch, l.items = l.items[:n:n], l.items[n:]
	l.taken += uint64(n)
	return batch, 0, false
}

// ready is a batch of encoded events.
type ready struct {
	batch []item
	out   []*outgoing
}

func (l *lane) run() {
	made := make(chan ready)
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for r := range made {
			l.work(r)
		}
	}()
	defer func() {
		close(made)
		<-sent
	}()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		batch, wait, ended := l.next()
		switch {
		case ended:
			return
		case len(batch) > 0:
			made <- ready{batch, l.c.encode(batch)}
			continue
		}
		var due <-chan time.Time
		if wait > 0 {
			timer.Reset(wait)
			due = timer.C
		}
		select {
		case <-l.wake:
		case <-due:
		}
	}
}

// work delivers a batch and releases its share of the bounds.
func (l *lane) work(r ready) {
	batch := r.batch
	for _, o := range r.out {
		// /batch/ does not take events as large as the AI route does.
		o.ai = isLLM(o.name()) && (l.ai || len(o.body) > limitBatch)
	}
	l.c.deliver(r.out)
	if l.c.spool != nil {
		l.c.spool.done(batch)
	}
	for _, it := range batch {
		l.c.release(it.size)
	}
	n := len(batch)
	clear(batch)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.finished += uint64(n)
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}
