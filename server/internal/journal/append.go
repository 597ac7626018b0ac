package journal

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// AppendError lists the events of a [Journal.Append] that were not stored. All
// others of that call were. The errors within are [*event.Error], so that
// errors.As and [event.AsError] find the first one.
type AppendError struct {
	Failed []Failure // in order of Index
	Of     int       // how many events the call had
}

// Failure is one event that was not stored.
type Failure struct {
	Index int    // among the events of the call
	UUID  string // the event's own
	Err   *event.Error
}

func (e *AppendError) Error() string {
	if e.Of == 1 {
		return "append event: " + e.Failed[0].Err.Error()
	}
	return fmt.Sprintf("append events: %d of %d not stored, first: %v", len(e.Failed), e.Of, e.Failed[0].Err)
}

// Unwrap makes the first failure's error the error's own.
func (e *AppendError) Unwrap() error { return e.Failed[0].Err }

// Append stores events and returns nil when all of them are durable, as [Journal]
// describes. They are batched into messages; events of one call keep their order.
// Append is safe for concurrent use; usually a call has one event. The events are
// encoded before Append returns, and may be changed afterwards.
//
// Any other result is an [*AppendError]: it lists the rejected events with the
// reason as [event.Error.Code]:
//
//   - [event.CodeInvalid]: [event.Event.Validate] fails, or the project's id has
//     characters other than letters, digits, '-' and '_'. [event.CodeTooLarge]:
//     above [Config.MaxEventBytes]. Do not retry these.
//   - [event.CodeFull]: [Config.MaxBytes] is reached; not stored. Retry later.
//   - [event.CodeUnavailable], [event.CodeTimeout], [event.CodeCanceled]: there
//     was no answer, or the journal is unavailable (see [Journal.Health]) or
//     shutting down. The event may or may not be stored: retry with the same
//     uuid, which every sink deduplicates.
//
// With [Config.DedupeWindow] the journal drops a uuid that it has stored within
// the window and reports success. It is off by default: sinks are idempotent by
// uuid, and it costs memory for every uuid in the window and a fifth of the
// throughput (measured in BenchmarkAppend).
func (j *Journal) Append(ctx context.Context, events ...*event.Event) error {
	if len(events) == 0 {
		return nil
	}
	if err := j.enter(); err != nil {
		return j.appendError(events, func(int) *event.Error { return event.AsError(err) })
	}
	defer j.appends.Done()
	l, err := j.up()
	if err != nil {
		return j.appendError(events, func(int) *event.Error { return event.AsError(err) })
	}
	start := time.Now()
	errs, stored := l.appendAll(ctx, events)
	j.metrics.appendSeconds.Observe(time.Since(start).Seconds())
	j.metrics.appended.Add(float64(stored))
	j.appended.Add(uint64(stored))
	if stored == len(events) {
		return nil
	}
	return j.appendError(events, func(i int) *event.Error { return errs[i] })
}

// Appended returns how many events this process has stored.
func (j *Journal) Appended() uint64 { return j.appended.Load() }

// appendAll stores events and returns how many. A non-nil errs receives the
// errors of the others.
func (l *instance) appendAll(ctx context.Context, events []*event.Event) (errs []*event.Error, stored int) {
	x := appending{j: l.j, l: l, ctx: ctx, events: events, timer: time.NewTimer(l.j.c.AckTimeout)}
	defer x.timer.Stop()
	for i, e := range events {
		x.add(i, e)
	}
	x.send()
	for x.awaited < len(x.messages) {
		x.awaitNext()
	}
	return x.errs, len(events) - x.failed
}

// appending is one call of Append.
type appending struct {
	j      *Journal
	l      *instance
	ctx    context.Context
	events []*event.Event
	timer  *time.Timer

	errs   []*event.Error // by event; nil while none failed
	failed int

	next     batch // being filled with the events from to
	from, to int

	messages []pendingAppend // sent, in order
	awaited  int             // of messages
	dead     *event.Error    // the store does not answer: the remaining events do not wait
	one      [1]pendingAppend
}

// fail records the error of the events in [from, to), except those that failed
// before.
func (x *appending) fail(from, to int, err *event.Error) {
	if x.errs == nil {
		x.errs = make([]*event.Error, len(x.events))
	}
	for i := from; i < to; i++ {
		if x.errs[i] == nil {
			x.errs[i] = err
			x.failed++
		}
	}
}

// add appends an event to the current message, and sends that first if the
// event does not fit.
func (x *appending) add(i int, e *event.Event) {
	j := x.j
	if err := j.check(e); err != nil {
		x.fail(i, i+1, err)
		return
	}
	if x.next.events > 0 && (x.next.events == maxBatchEvents || j.c.DedupeWindow > 0 || e.ProjectID != x.events[x.from].ProjectID) {
		x.send()
	}
	if x.next.buf == nil {
		if x.next.buf, _ = j.frames.Get().(*[]byte); x.next.buf == nil {
			x.next.buf = new([]byte)
		}
	}
	at := len(*x.next.buf)
	if x.next.events == 0 {
		at = batchHead
	}
	size, err := x.next.add(e)
	switch {
	case err != nil:
		x.fail(i, i+1, event.NewError(event.CodeInvalid, "the event cannot be encoded", "its properties must be valid JSON", err))
		return
	case size > x.l.maxFrame:
		x.next.events--
		x.next.drop(at)
		x.fail(i, i+1, event.NewError(event.CodeTooLarge, fmt.Sprintf("the event has %d bytes, more than the journal's %d", size, x.l.maxFrame),
			"drop or shorten its content", nil))
		return
	case x.next.events > 1 && len(*x.next.buf) > min(maxBatchBytes, x.l.maxFrame):
		x.next.events--
		x.next.drop(at)
		x.send()
		x.add(i, e)
		return
	}
	if x.next.events == 1 {
		x.from = i
	}
	x.to = i + 1
}

// send publishes the current message as soon as in-flight memory allows.
func (x *appending) send() {
	j := x.j
	if x.next.events == 0 {
		return
	}
	p := pendingAppend{from: x.from, to: x.to, buf: x.next.buf, body: x.next.body(), subject: "events." + x.events[x.from].ProjectID}
	if j.c.DedupeWindow > 0 {
		p.id = x.events[x.from].UUID
	}
	p.weight = int64(max(len(p.body), inFlightFloor))
	x.next = batch{}
	// Never wait while holding a share: two large batches, or one that is larger than
	// the limit, would deadlock.
	for !j.inFlight.TryAcquire(p.weight) {
		if x.awaited == len(x.messages) {
			if err := j.inFlight.Acquire(x.ctx, p.weight); err != nil {
				j.recycle(p.buf)
				x.fail(p.from, p.to, noAnswer(err))
				return
			}
			break
		}
		if x.awaitNext(); x.dead != nil {
			j.recycle(p.buf)
			x.fail(p.from, p.to, x.dead)
			return
		}
	}
	if err := x.l.publish(&p); err != nil {
		x.fail(p.from, p.to, err)
		return
	}
	if x.messages == nil {
		x.messages = x.one[:0]
	}
	x.messages = append(x.messages, p)
}

// awaitNext waits for the answer to the oldest message that has none.
func (x *appending) awaitNext() {
	p := &x.messages[x.awaited]
	x.awaited++
	wait := x.j.c.AckTimeout
	if x.dead != nil {
		wait = 0
	}
	x.timer.Reset(wait)
	if err := x.l.await(x.ctx, p, x.timer.C); err != nil {
		x.fail(p.from, p.to, err)
		switch {
		case errors.Is(err, errAckTimeout):
			x.dead = err
			if x.l.srv != nil && wait >= deadAfter {
				x.l.fail(err)
			}
		case x.l.over.Err() != nil:
			x.dead = err
		}
	}
}

func (j *Journal) appendError(events []*event.Event, errOf func(int) *event.Error) error {
	out := &AppendError{Of: len(events)}
	for i, e := range events {
		err := errOf(i)
		if err == nil {
			continue
		}
		j.metrics.refused.WithLabelValues(string(err.Code)).Inc()
		f := Failure{Index: i, Err: err}
		if e != nil {
			f.UUID = e.UUID
		}
		out.Failed = append(out.Failed, f)
	}
	return out
}

// pendingAppend is a message being appended.
type pendingAppend struct {
	from, to int // its events are among these
	subject  string
	id       string // for the store's own de-duplication; empty where that is off
	buf      *[]byte
	body     []byte // is in buf
	weight   int64  // its share of Journal.inFlight
	ack      jetstream.PubAckFuture
}

// check returns why an event is rejected, or nil.
func (j *Journal) check(e *event.Event) *event.Error {
	if e == nil {
		return event.Invalid("the event is nil", "send an event")
	}
	if err := e.Validate(); err != nil {
		return event.AsError(err)
	}
	if !validToken(e.ProjectID) {
		return event.Invalid("the event's project id is malformed", "use letters, digits, '-' and '_', at most 128 of them")
	}
	return nil
}

// publish sends a message whose memory is reserved, without waiting for the
// answer.
func (l *instance) publish(p *pendingAppend) *event.Error {
	j := l.j
	msg := &nats.Msg{Subject: p.subject, Data: p.body}
	if p.id != "" {
		msg.Header = nats.Header{jetstream.MsgIDHeader: []string{p.id}}
	}
	var err error
	if p.ack, err = l.pubJS.PublishMsgAsync(msg); err != nil {
		j.inFlight.Release(p.weight)
		return l.noAnswer(err)
	}
	if j.sinceNudge.Add(int64(len(p.body))) >= min(nudgeStep, j.c.MaxBytes/32) {
		j.sinceNudge.Store(0)
		select {
		case j.nudge <- struct{}{}:
		default:
		}
	}
	return nil
}

// await waits for the acknowledgement of p. The frame returns to the pool only
// after it: until then the client may send it again.
func (l *instance) await(ctx context.Context, p *pendingAppend, timeout <-chan time.Time) *event.Error {
	j := l.j
	defer j.inFlight.Release(p.weight)
	select { // a received answer counts, even if ctx has ended
	case <-p.ack.Ok():
		j.recycle(p.buf)
		return nil
	default:
	}
	select {
	case <-p.ack.Ok():
		j.recycle(p.buf)
		return nil
	case err := <-p.ack.Err():
		j.recycle(p.buf)
		return l.refusal(err)
	case <-ctx.Done():
		return noAnswer(ctx.Err())
	case <-timeout:
		return noAnswer(errAckTimeout)
	case <-l.over.Done():
		return j.down()
	}
}

var errAckTimeout = errors.New("no answer from the store")

// deadAfter is how long a store that answers no append is treated as slow. Then
// it is started again.
const deadAfter = 10 * time.Second

// maxPooled keeps one huge event from pinning megabytes in the pool.
const maxPooled = 2 * maxBatchBytes

func (j *Journal) recycle(buf *[]byte) {
	if cap(*buf) <= maxPooled {
		j.frames.Put(buf)
	}
}

// refusal converts a rejection by the store to a user-facing error.
func (l *instance) refusal(err error) *event.Error {
	j := l.j
	if isFull(err) {
		select { // free what can be freed now, not at the next tick
		case j.kick <- struct{}{}:
		default:
		}
		return event.NewError(event.CodeFull, fmt.Sprintf("the journal is full: its bound is %d MiB", j.c.MaxBytes>>20),
			"a sink lags far behind (see hedgerow connection status or /metrics): fix or delete that connection, or raise journal_max_bytes", nil)
	}
	return l.noAnswer(err)
}

// isFull recognizes JetStream's error at MaxBytes. It has the same code as
// other store errors and differs only in its text (store.go: ErrMaxBytes).
func isFull(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && strings.Contains(api.Description, "maximum bytes exceeded")
}

func (l *instance) noAnswer(err error) *event.Error {
	if lost := l.lost(err); lost != err {
		return event.AsError(lost)
	}
	return noAnswer(err)
}

func noAnswer(err error) *event.Error {
	const hint = "send the event again with the same uuid: it is counted once"
	switch {
	case errors.Is(err, context.Canceled):
		return event.NewError(event.CodeCanceled, "waiting for the journal timed out or was canceled", hint, err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, errAckTimeout):
		return event.NewError(event.CodeTimeout, "the journal did not answer in time", hint, err)
	}
	return event.NewError(event.CodeUnavailable, "the journal could not be reached", hint, err)
}
