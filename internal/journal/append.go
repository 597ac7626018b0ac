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

// AppendError says which events of an [Journal.Append] were not stored. Every
// other event of that call was. The errors within are [*event.Error], so that
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

// Append stores events and returns nil when all of them are as safe as
// [Journal] promises. They are sent together and waited for together; events of
// one call keep their order. Any number of goroutines may call it, and one event
// a call is the usual case. The events are encoded before Append returns, and
// may be changed afterwards.
//
// Any other result is an [*AppendError]: it names the events that were refused
// and, by [event.Error.Code], why:
//
//   - [event.CodeInvalid]: [event.Event.Validate] says no, or the project's id has
//     characters other than letters, digits, '-' and '_'. [event.CodeTooLarge]:
//     above [Config.MaxEventBytes]. Sending these again is of no use.
//   - [event.CodeFull]: the bound is reached; not stored. Again later.
//   - [event.CodeUnavailable], [event.CodeTimeout], [event.CodeCanceled]: no answer
//     came, or the store is broken or shutting down. The event may or may not be
//     stored: send it again with the same uuid, which every sink de-duplicates.
//
// With [Config.DedupeWindow] the journal itself drops a uuid that it has stored
// within the window, and calls that success. It is off by default: the sinks
// are idempotent by uuid anyhow, while it costs memory for every uuid in the
// window and a fifth of the throughput (measured in BenchmarkAppend).
func (j *Journal) Append(ctx context.Context, events ...*event.Event) error {
	if len(events) == 0 {
		return nil
	}
	if err := j.enter(); err != nil {
		return j.appendError(events, func(int) *event.Error { return event.AsError(err) })
	}
	defer j.appends.Done()
	start := time.Now()
	if len(events) == 1 { // without the slices
		p := j.encode(events[0])
		if p.err == nil {
			j.send(ctx, &p)
		}
		if p.err == nil {
			timer := time.NewTimer(j.c.AckTimeout)
			j.await(ctx, &p, timer.C)
			timer.Stop()
		}
		j.metrics.appendSeconds.Observe(time.Since(start).Seconds())
		if p.err == nil {
			j.metrics.appended.Inc()
			return nil
		}
		return j.appendError(events, func(int) *event.Error { return p.err })
	}

	pending := make([]pendingAppend, len(events))
	stored := j.appendAll(ctx, events, pending)
	j.metrics.appendSeconds.Observe(time.Since(start).Seconds())
	j.metrics.appended.Add(float64(stored))
	if stored == len(events) {
		return nil
	}
	return j.appendError(events, func(i int) *event.Error { return pending[i].err })
}

// appendAll stores events and returns how many; pending says what became of each.
func (j *Journal) appendAll(ctx context.Context, events []*event.Event, pending []pendingAppend) (stored int) {
	timer := time.NewTimer(j.c.AckTimeout)
	defer timer.Stop()
	awaited := 0
	var dead *event.Error // the store does not answer: what is left is not worth its own wait
	awaitNext := func() {
		p := &pending[awaited]
		awaited++
		if p.err != nil {
			return
		}
		wait := j.c.AckTimeout
		if dead != nil {
			wait = 0
		}
		timer.Reset(wait)
		j.await(ctx, p, timer.C)
		if p.err == nil {
			stored++
		} else if errors.Is(p.err, errAckTimeout) {
			dead = p.err
		}
	}
	for i, e := range events {
		p := &pending[i]
		*p = j.encode(e)
		// Never wait for room while holding some: two large batches, or one that is
		// larger than all the room there is, would wait for ever.
		for p.err == nil && !j.inFlight.TryAcquire(p.weight) {
			if awaited == i {
				if err := j.inFlight.Acquire(ctx, p.weight); err != nil {
					j.recycle(p.frame)
					p.err = noAnswer(err)
				}
				break
			}
			if awaitNext(); dead != nil {
				j.recycle(p.frame)
				p.err = dead
			}
		}
		if p.err == nil {
			j.publish(p)
		}
	}
	for awaited < len(events) {
		awaitNext()
	}
	return stored
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

// pendingAppend is an event on its way into the store.
type pendingAppend struct {
	subject string
	id      string // for the store's own de-duplication; empty where that is off
	frame   *[]byte
	weight  int64 // what it takes of Journal.inFlight
	ack     jetstream.PubAckFuture
	err     *event.Error
}

// encode checks an event and makes its frame.
func (j *Journal) encode(e *event.Event) (p pendingAppend) {
	if e == nil {
		p.err = event.Invalid("the event is nil", "send an event")
		return p
	}
	if err := e.Validate(); err != nil {
		p.err = event.AsError(err)
		return p
	}
	if !validToken(e.ProjectID) {
		p.err = event.Invalid("the event's project id is malformed", "use letters, digits, '-' and '_', at most 128 of them")
		return p
	}
	if f := j.failure.Load(); f != nil {
		p.err = f
		return p
	}
	buf, _ := j.frames.Get().(*[]byte)
	if buf == nil {
		buf = new([]byte)
	}
	frame, err := e.AppendFrame((*buf)[:0])
	if err != nil {
		j.recycle(buf)
		p.err = event.NewError(event.CodeInvalid, "the event cannot be encoded", "its properties must be valid JSON", err)
		return p
	}
	*buf = frame
	if len(frame) > j.maxFrame {
		j.recycle(buf)
		p.err = event.NewError(event.CodeTooLarge, fmt.Sprintf("the event has %d bytes, more than the journal's %d", len(frame), j.maxFrame),
			"drop or shorten its content", nil)
		return p
	}
	p.subject = "events." + e.ProjectID
	if j.c.DedupeWindow > 0 {
		p.id = e.UUID
	}
	p.frame = buf
	p.weight = int64(max(len(frame), inFlightFloor))
	return p
}

// send waits for room in flight and publishes.
func (j *Journal) send(ctx context.Context, p *pendingAppend) {
	if err := j.inFlight.Acquire(ctx, p.weight); err != nil {
		j.recycle(p.frame)
		p.err = noAnswer(err)
		return
	}
	j.publish(p)
}

// publish sends an event that has its room, without waiting for the answer.
func (j *Journal) publish(p *pendingAppend) {
	msg := &nats.Msg{Subject: p.subject, Data: *p.frame}
	if p.id != "" {
		msg.Header = nats.Header{jetstream.MsgIDHeader: []string{p.id}}
	}
	var err error
	if p.ack, err = j.pubJS.PublishMsgAsync(msg); err != nil {
		j.inFlight.Release(p.weight)
		p.err = noAnswer(err)
		return
	}
	if size := int64(len(*p.frame)); j.sinceNudge.Add(size)/nudgeStep > 0 {
		j.sinceNudge.Store(0)
		select {
		case j.nudge <- struct{}{}:
		default:
		}
	}
}

// await waits for the answer to p. The frame goes back to the pool only after an
// answer: until then the client may send it once more.
func (j *Journal) await(ctx context.Context, p *pendingAppend, timeout <-chan time.Time) {
	defer j.inFlight.Release(p.weight)
	select { // an answer that is there counts, whatever else has ended
	case <-p.ack.Ok():
		j.recycle(p.frame)
		return
	default:
	}
	select {
	case <-p.ack.Ok():
		j.recycle(p.frame)
	case err := <-p.ack.Err():
		j.recycle(p.frame)
		p.err = j.refusal(err)
	case <-ctx.Done():
		p.err = noAnswer(ctx.Err())
	case <-timeout:
		p.err = noAnswer(errAckTimeout)
	case <-j.failed:
		p.err = j.failure.Load()
	}
}

var errAckTimeout = errors.New("no answer from the store")

// maxPooled keeps one huge event from pinning megabytes in the pool.
const maxPooled = 256 << 10

func (j *Journal) recycle(buf *[]byte) {
	if cap(*buf) <= maxPooled {
		j.frames.Put(buf)
	}
}

// refusal turns the store's "no" into words for people.
func (j *Journal) refusal(err error) *event.Error {
	if isFull(err) {
		select { // whatever can be freed is freed now, not at the next tick
		case j.kick <- struct{}{}:
		default:
		}
		return event.NewError(event.CodeFull, fmt.Sprintf("the journal is full: its bound is %d MiB", j.c.MaxBytes>>20),
			"a sink is far behind (see its lag in hedgerow's status or /metrics): mend or delete that connection, or raise the journal's bound", nil)
	}
	return noAnswer(err)
}

// isFull recognises JetStream's refusal at MaxBytes, which has the code of every
// failed store and differs by its words only (store.go: ErrMaxBytes).
func isFull(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && strings.Contains(api.Description, "maximum bytes exceeded")
}

func noAnswer(err error) *event.Error {
	const hint = "send the event again with the same uuid: it is counted once"
	switch {
	case errors.Is(err, context.Canceled):
		return event.NewError(event.CodeCanceled, "the wait for the journal was given up", hint, err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, errAckTimeout):
		return event.NewError(event.CodeTimeout, "the journal did not answer in time", hint, err)
	}
	return event.NewError(event.CodeUnavailable, "the journal could not be reached", hint, err)
}
