package gateway

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/health"
)

// Step is how much capture keeps at the moment: the package comment says when
// each begins and ends.
type Step string

const (
	StepOK       Step = "ok"              // calls are recorded as they end
	StepWaiting  Step = "waiting"         // the journal takes none: calls wait in memory, with their content
	StepBare     Step = "without_content" // most of the memory is used: they wait without content
	StepDropping Step = "dropping"        // all of it is: what comes is dropped and counted
)

const (
	bareShare = 4 // contents go when all but a 4th of the bytes for waiting calls are used
	eventCost = 4 << 10

	backoffFirst = 100 * time.Millisecond
	backoffMax   = time.Second     // the longest wait between two tries while the journal is away
	probeWait    = 2 * time.Second // for one such try
)

// backlog holds the events that the journal could not take because it is away.
type backlog struct {
	mu     sync.Mutex
	list   []waiting // the oldest first
	inHand int       // taken out to be tried
	step   Step
	since  time.Time // when step began
	err    error     // why the journal took none, last
	bared  int64     // events that lost their content, since the start
	held   int64     // events that had to wait, since step was StepOK

	wake chan struct{} // has room for one
}

// waiting is an event of a call, and how many bytes it is counted for.
type waiting struct {
	e    *event.Event
	size int64
}

// away reports whether the journal, and not the events, is why an append failed:
// they are worth any number of tries.
func away(err error) bool {
	switch code(err) {
	case event.CodeUnavailable, event.CodeFull, event.CodeTimeout, event.CodeCanceled:
		return true
	}
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// isAway reports whether events wait already.
func (c *capture) isAway() bool { return c.waits.Load() }

// keep has events wait until the journal is back.
func (c *capture) keep(events []*event.Event, cause error) {
	if len(events) == 0 {
		return
	}
	b := &c.backlog
	b.mu.Lock()
	if c.ctx.Err() != nil { // nobody will try again
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
		if time.Since(c.saidAway) >= dropLogEvery {
			c.saidAway = time.Now()
			c.log.Warn("the journal takes no events: calls pass, and wait in memory to be recorded", "err", cause)
		}
	}
	b.held += int64(len(events))
	for _, e := range events {
		if b.step != StepWaiting {
			c.bare(e)
		}
		size := eventCost + int64(e.Content.Size())
		c.bytes.used.Add(size) // no longer the raw call's
		b.list = append(b.list, waiting{e, size})
	}
	if b.step == StepWaiting && c.bytes.used.Load() > c.bytes.limit-c.bytes.limit/bareShare {
		b.begin(StepBare)
		c.bareAll()
		c.log.Warn("calls that wait to be recorded lose their content: the journal takes no events, and memory for them runs out", "err", b.err)
	}
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *backlog) begin(s Step) { b.step, b.since = s, time.Now() }

// bareAll takes the content out of all that waits. The caller holds mu.
func (c *capture) bareAll() {
	for i := range c.backlog.list {
		w := &c.backlog.list[i]
		if n := int64(w.e.Content.Size()); n > 0 {
			c.bare(w.e)
			w.size -= n
			c.bytes.give(n)
		}
	}
}

func (c *capture) bare(e *event.Event) {
	if e.Content.IsZero() {
		return
	}
	e.DropContent()
	_ = e.SetProperty("content_dropped", "journal_unavailable")
	c.backlog.bared++
	c.metrics.bared.Inc()
}

// full notes that there was no room for a call that ended.
func (c *capture) full() {
	if !c.isAway() {
		return
	}
	b := &c.backlog
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.step == StepWaiting || b.step == StepBare {
		b.begin(StepDropping)
		c.bareAll()
	}
}

// takeSome takes the oldest events out.
func (b *backlog) takeSome() []waiting {
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
	b.inHand = n
	return some
}

// backlogBatch bounds one try, in bytes.
const backlogBatch = 8 << 20

// putBack returns what the journal has not taken.
func (c *capture) putBack(some []waiting, err error) {
	b := &c.backlog
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
	b.inHand = 0
	b.list = append(some[:len(some):len(some)], b.list...)
	if b.step != StepWaiting {
		c.bareAll()
	}
}

// retryLoop tries what waits until the journal has it. It returns when the workers
// have ended and nothing waits, or when close has run out of time.
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
			c.empty() // what came before that was so
			return
		}
	}
}

// empty returns when nothing waits any more, or when close has run out of time:
// then what waits is dropped.
func (c *capture) empty() {
	b := &c.backlog
	timer := time.NewTimer(0)
	defer timer.Stop()
	for wait := backoffFirst; ; {
		some := b.takeSome()
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

// tryWaiting appends events that have waited, and returns those for which the
// journal is still away.
func (c *capture) tryWaiting(some []waiting) (rest []waiting, err error) {
	events := make([]*event.Event, len(some))
	for i, w := range some {
		events[i] = w.e
	}
	left, err := c.storeFor(probeWait, events)
	done := some
	if len(left) > 0 { // they are the last of events
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

// recovered ends the waiting, unless something has come meanwhile.
func (c *capture) recovered() bool {
	b := &c.backlog
	b.mu.Lock()
	defer b.mu.Unlock()
	b.inHand = 0
	if len(b.list) > 0 {
		return false
	}
	if b.step != StepOK {
		took := time.Since(b.since).Round(time.Millisecond)
		b.begin(StepOK)
		b.err = nil
		c.waits.Store(false)
		c.log.Info("the journal takes events again: calls that waited are recorded", "calls", b.held, "last_step", took)
	}
	return true
}

// Health tells how capture is doing: it is degraded while the journal takes no
// events. Calls pass all the same.
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
	case StepBare:
		r.Status, r.Message = health.Degraded, "calls wait in memory to be recorded, without their content"+why
	case StepDropping:
		r.Status, r.Message = health.Degraded, "calls are not recorded, since memory for those that wait is used up"+why
	default:
		return r
	}
	if r.Hint == "" {
		r.Hint = "calls pass meanwhile; see what the journal reports"
	}
	return r
}
