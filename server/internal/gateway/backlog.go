package gateway

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/health"
)

// Step is how far capture is degraded; see the package comment.
type Step string

const (
	StepOK        Step = "ok"              // calls are recorded as they end
	StepWaiting   Step = "waiting"         // the journal is unavailable: calls wait in memory with their content
	StepNoContent Step = "without_content" // most of the memory is used: calls wait without content
	StepDropping  Step = "dropping"        // all of the memory is used: calls are dropped and counted
)

const (
	contentShare = 4 // content is dropped when less than a quarter of the bytes for waiting calls is free
	eventCost    = 4 << 10

	backoffFirst = 100 * time.Millisecond
	backoffMax   = time.Second     // longest wait between two attempts
	probeWait    = 2 * time.Second // timeout of one attempt
)

// backlog holds the events that wait while the journal is unavailable.
type backlog struct {
	mu             sync.Mutex
	list           []waiting // oldest first
	inFlight       int       // being appended
	step           Step
	since          time.Time // start of the current step
	err            error     // the journal's last error
	contentDropped int64     // events whose content was dropped since the start
	held           int64     // events queued since step was last StepOK

	wake chan struct{} // capacity 1
}

// waiting is a waiting event and its size.
type waiting struct {
	e    *event.Event
	size int64
}

// unavailable reports whether an append failed because the journal is unavailable, so
// that retrying makes sense, rather than because of the events.
func unavailable(err error) bool {
	switch code(err) {
	case event.CodeUnavailable, event.CodeFull, event.CodeTimeout, event.CodeCanceled:
		return true
	}
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// journalDown reports whether events are waiting.
func (c *capture) journalDown() bool { return c.waits.Load() }

// keep queues events until the journal is back.
func (c *capture) keep(events []*event.Event, cause error) {
	if len(events) == 0 {
		return
	}
	b := &c.backlog
	b.mu.Lock()
	if c.ctx.Err() != nil { // closed: no further attempts
		b.mu.Unlock()
		c.depth.Add(-int64(len(events)))
		c.drop(dropClosed, int64(len(events)), cause)
		return
	}
	if cause != nil {
		b.err = cause
	}
	if b.step == StepOK {
		b.begin(StepWaiting)
		b.held = 0
		c.waits.Store(true)
		if time.Since(c.loggedDown) >= dropLogEvery {
			c.loggedDown = time.Now()
			c.log.Warn("gateway: journal unavailable, calls wait in memory", "err", cause)
		}
	}
	b.held += int64(len(events))
	for _, e := range events {
		if b.step != StepWaiting {
			c.dropContent(e)
		}
		size := eventCost + int64(e.Content.Size())
		c.bytes.used.Add(size) // no longer counted for the recorded call
		b.list = append(b.list, waiting{e, size})
	}
	if b.step == StepWaiting && c.bytes.used.Load() > c.bytes.limit-c.bytes.limit/contentShare {
		b.begin(StepNoContent)
		c.dropAllContent()
		c.log.Warn("gateway: journal unavailable and memory nearly full, content of waiting calls is dropped", "err", b.err)
	}
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *backlog) begin(s Step) { b.step, b.since = s, time.Now() }

// dropAllContent removes the content of all waiting events. The caller holds mu.
func (c *capture) dropAllContent() {
	for i := range c.backlog.list {
		w := &c.backlog.list[i]
		if n := int64(w.e.Content.Size()); n > 0 {
			c.dropContent(w.e)
			w.size -= n
			c.bytes.give(n)
		}
	}
}

func (c *capture) dropContent(e *event.Event) {
	if e.Content.IsZero() {
		return
	}
	e.DropContent()
	_ = e.SetProperty("content_dropped", "journal_unavailable")
	c.backlog.contentDropped++
	c.metrics.contentDropped.Inc()
}

// full records that a finished call did not fit.
func (c *capture) full() {
	if !c.journalDown() {
		return
	}
	b := &c.backlog
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.step == StepWaiting || b.step == StepNoContent {
		b.begin(StepDropping)
		c.dropAllContent()
	}
}

// takeBatch removes the oldest events, up to backlogBatch bytes.
func (b *backlog) takeBatch() []waiting {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, size := 0, int64(0)
	for n < len(b.list) && n < batchMax && (n == 0 || size+b.list[n].size <= backlogBatch) {
		size += b.list[n].size
		n++
	}
	some := append([]waiting(nil), b.list[:n]...)
	clear(b.list[:n])
	if b.list = b.list[n:]; len(b.list) == 0 {
		b.list = nil
	}
	b.inFlight = n
	return some
}

// backlogBatch limits one attempt, in bytes.
const backlogBatch = 8 << 20

// putBack returns events that the journal did not accept.
func (c *capture) putBack(some []waiting, err error) {
	b := &c.backlog
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
	b.inFlight = 0
	b.list = append(some[:len(some):len(some)], b.list...)
	if b.step != StepWaiting {
		c.dropAllContent()
	}
}

// retryLoop retries until the journal has stored all waiting events. It returns
// when the workers have ended and nothing waits, or when close runs out of
// time.
func (c *capture) retryLoop(workersDone <-chan struct{}) {
	ended := false
	for {
		select {
		case <-c.backlog.wake:
		case <-workersDone:
			workersDone, ended = nil, true
		case <-c.ctx.Done():
		}
		c.empty()
		if ended {
			return
		}
		if c.ctx.Err() != nil {
			c.empty() // the earlier signal was for an empty backlog
			return
		}
	}
}

// empty returns when nothing waits, or when close runs out of time; what is
// left is then dropped.
func (c *capture) empty() {
	b := &c.backlog
	timer := time.NewTimer(0)
	defer timer.Stop()
	for wait := backoffFirst; ; {
		some := b.takeBatch()
		if len(some) == 0 {
			if c.recovered() {
				return
			}
			continue
		}
		rest, err := c.tryWaiting(some)
		if len(rest) == 0 {
			wait = backoffFirst
			continue
		}
		if c.ctx.Err() != nil {
			c.dropWaiting(rest, err)
			continue
		}
		c.metrics.retries.Inc()
		c.putBack(rest, err)
		if len(rest) < len(some) {
			wait = backoffFirst
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-c.ctx.Done():
		}
		wait = min(2*wait, backoffMax)
	}
}

// tryWaiting appends waiting events and returns those that remain because the
// journal is still unavailable.
func (c *capture) tryWaiting(some []waiting) (rest []waiting, err error) {
	events := make([]*event.Event, len(some))
	for i, w := range some {
		events[i] = w.e
	}
	left, err := c.storeFor(probeWait, events)
	done := some
	if len(left) > 0 { // the last of events
		done, rest = some[:len(some)-len(left)], some[len(some)-len(left):]
	}
	for _, w := range done {
		c.bytes.give(w.size)
		c.depth.Add(-1)
	}
	return rest, err
}

func (c *capture) dropWaiting(list []waiting, err error) {
	for _, w := range list {
		c.bytes.give(w.size)
		c.depth.Add(-1)
	}
	c.drop(dropClosed, int64(len(list)), err)
}

// recovered returns to StepOK, unless events were queued in the meantime.
func (c *capture) recovered() bool {
	b := &c.backlog
	b.mu.Lock()
	defer b.mu.Unlock()
	b.inFlight = 0
	if len(b.list) > 0 {
		return false
	}
	if b.step != StepOK {
		took := time.Since(b.since).Round(time.Millisecond)
		b.begin(StepOK)
		b.err = nil
		c.waits.Store(false)
		c.log.Info("gateway: journal available again, waiting calls were recorded", "calls", b.held, "last_step", took)
	}
	return true
}

// Health reports capture as degraded while the journal is unavailable. Calls
// are forwarded regardless.
func (g *Gateway) Health() health.Report { return g.capture.health() }

func (c *capture) health() health.Report {
	b := &c.backlog
	b.mu.Lock()
	step, since, err := b.step, b.since, b.err
	b.mu.Unlock()
	r := health.Report{Component: "capture", Status: health.OK, Since: since}
	var why string
	if e := event.AsError(err); e != nil && e.Code != event.CodeInternal {
		why, r.Hint = ": "+e.Message, e.Hint
	}
	switch step {
	case StepWaiting:
		r.Status, r.Message = health.Degraded, "calls wait in memory to be recorded"+why
	case StepNoContent:
		r.Status, r.Message = health.Degraded, "calls wait in memory to be recorded, without their content"+why
	case StepDropping:
		r.Status, r.Message = health.Degraded, "calls are not recorded, because the memory for waiting calls is full"+why
	default:
		return r
	}
	if r.Hint == "" {
		r.Hint = "calls are still forwarded; see the journal's status"
	}
	return r
}
