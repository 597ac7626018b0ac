package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/supervise"
)

// Defaults of [Sink].
const (
	DefaultMaxBatch      = 4000
	DefaultBatchBytes    = 3 << 20
	DefaultFlushInterval = 400 * time.Millisecond
	maxFlushInterval     = 500 * time.Millisecond
)

// Retries wait this long, doubled with each attempt up to the maximum, with a
// fifth of jitter.
const (
	retryFirst = 250 * time.Millisecond
	retryMax   = 30 * time.Second
	awayMax    = time.Second // for a failed store, which signals its recovery
	splitAfter = 5           // attempts with one batch, until it is stored in parts

	extendEvery = 5 * time.Second // less than the journal's acknowledgment wait
)

// Writer is the destination of a [Sink].
type Writer interface {
	Write(ctx context.Context, events []*event.Event) (WriteResult, error)
}

// Sink moves events from a queue into a store: fetch, write, acknowledge, in
// this order, so that a crash in between redelivers an event rather than
// losing it, and the idempotent store prevents duplicates. An event is stored
// within a second of its capture as long as the store keeps up.
//
// While the queue has more than one batch, the next is fetched, decoded and
// encoded while one is written: at most two are in memory. They are fetched
// and written in the queue's order, except that a small one may overtake.
type Sink struct {
	Queue         event.Queue
	Store         Writer
	MaxBatch      int                   // events in one transaction. Defaults to DefaultMaxBatch
	BatchBytes    int                   // limit of one Fetch. Defaults to DefaultBatchBytes
	FlushInterval time.Duration         // maximum time before a batch is sent. Defaults to DefaultFlushInterval, at most 500 ms
	Logger        *slog.Logger          // nil: no log
	Registerer    prometheus.Registerer // nil: no metrics

	// Keep, if set, reports whether to store an event; others are acknowledged. It
	// may change the event's uuid or time. If it returns an error, the event is
	// retried.
	Keep func(ctx context.Context, e *event.Event) (bool, error)

	// Complete, if set, may change events in place before they are stored. It must
	// not take long, and is called again where a batch is tried again.
	Complete func(ctx context.Context, events []*event.Event)

	// OnStored, if set, is called with events once they are durable. It must
	// return immediately and must not change them. Duplicates are not passed
	// again. Calls do not overlap.
	OnStored func(events []*event.Event)

	log     *slog.Logger
	metrics *sinkMetrics

	ended atomic.Uint64
	away  atomic.Bool // the store's last write was rejected because it has failed

	turn     chan struct{} // a token for the lane that may fetch
	failures int           // consecutive failed fetches; owned by the lane with the token
	telling  sync.Mutex    // around OnStored
}

// Ended returns the number of events that need no further work: stored,
// duplicate, skipped or dead.
func (s *Sink) Ended() uint64 { return s.ended.Load() }

// lanes is how many batches are worked on at a time where there are so many.
const lanes = 2

// Run works until ctx ends, then finishes the current batches and returns nil.
// A panic ends it with an error. A Sink runs once.
func (s *Sink) Run(ctx context.Context) error {
	if s.log = s.Logger; s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	batch, wait := s.MaxBatch, s.FlushInterval
	if batch <= 0 {
		batch = DefaultMaxBatch
	}
	if wait <= 0 {
		wait = DefaultFlushInterval
	}
	wait = min(wait, maxFlushInterval)
	if s.BatchBytes <= 0 {
		s.BatchBytes = DefaultBatchBytes
	}
	s.metrics = newSinkMetrics(s.Registerer)
	defer s.metrics.unregister()

	s.turn = make(chan struct{}, 1)
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var wg sync.WaitGroup
	for range lanes {
		wg.Go(func() {
			if err := supervise.Catch(func() error { s.lane(ctx, batch, wait); return nil }); err != nil {
				fail(err)
			}
		})
	}
	wg.Wait()
	if p := (*supervise.PanicError)(nil); errors.As(context.Cause(ctx), &p) {
		return p
	}
	return nil
}

// lane fetches and stores in turn with the others. If the queue had less than a
// batch, it keeps its turn until that is written, because another lane would
// only take events that the next batch needs to become large.
func (s *Sink) lane(ctx context.Context, batch int, wait time.Duration) {
	for ctx.Err() == nil {
		select {
		case s.turn <- struct{}{}:
		case <-ctx.Done():
			return
		}
		deliveries, more := s.fetch(ctx, batch, wait)
		if more {
			<-s.turn
		}
		if deliveries = s.pass(context.WithoutCancel(ctx), deliveries); len(deliveries) > 0 {
			s.store(context.WithoutCancel(ctx), ctx, deliveries)
		}
		if !more {
			<-s.turn
		}
	}
}

// fetch returns the next batch, and whether the queue has more already. Trouble
// is waited out in here, before anyone else's turn.
func (s *Sink) fetch(ctx context.Context, batch int, wait time.Duration) (deliveries []event.Delivery, more bool) {
	deliveries, err := s.Queue.Fetch(ctx, batch, wait)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		s.failures++
		s.log.Warn("store sink cannot fetch", "err", err, "failures", s.failures)
		select {
		case <-ctx.Done():
		case <-time.After(backoff(s.failures)):
		}
	default:
		s.failures = 0
		size := 0
		for _, d := range deliveries {
			size += d.Bytes
		}
		more = len(deliveries) == batch || size > s.BatchBytes*3/4
	}
	return deliveries, more
}

// pass acknowledges events that are not stored: start events of calls, which only
// PostHog needs (the call's own event has the start time), and those that Keep
// rejects. It returns the rest.
func (s *Sink) pass(ctx context.Context, deliveries []event.Delivery) []event.Delivery {
	var by, again []event.Delivery
	var failed error
	rest := deliveries[:0]
	for _, d := range deliveries {
		keep, err := d.Event.Name != event.RequestStarted || !d.Event.StartSent, error(nil)
		if keep && s.Keep != nil {
			keep, err = s.Keep(ctx, d.Event)
		}
		switch {
		case err != nil:
			failed = err
			again = append(again, d)
		case keep:
			rest = append(rest, d)
		default:
			by = append(by, d)
		}
	}
	if len(by) > 0 {
		s.end(by, "passed", event.Delivery.Ack)
	}
	if len(again) > 0 {
		s.log.Warn("store sink could not determine which events to store and retries", "err", failed, "events", len(again))
		s.end(again, "retried", func(d event.Delivery) error { return d.Retry(backoff(d.Attempt)) })
	}
	return rest
}

// store ends every delivery given: stored, retried or dead. stop ends waiting for a
// store that has failed.
func (s *Sink) store(ctx, stop context.Context, deliveries []event.Delivery) {
	events := make([]*event.Event, len(deliveries))
	for i, d := range deliveries {
		events[i] = d.Event
	}
	if s.Complete != nil {
		s.Complete(ctx, events)
	}
	res, err := s.write(ctx, stop, deliveries, events)
	switch {
	case err == nil:
		if s.OnStored != nil && len(res.Stored) > 0 {
			s.telling.Lock()
			s.OnStored(res.Stored)
			s.telling.Unlock()
		}
		s.end(deliveries, "stored", event.Delivery.Ack)
	case isAway(err): // and Run is ending: the next run stores them
		s.end(deliveries, "retried", func(d event.Delivery) error { return d.Retry(0) })
	case !isPoison(err) && (len(deliveries) == 1 || deliveries[0].Attempt < splitAfter):
		s.log.Warn("store sink cannot write and tries again", "err", err, "events", len(deliveries))
		delay := backoff(deliveries[0].Attempt) // the same delay, so that they return as a batch
		s.end(deliveries, "retried", func(d event.Delivery) error { return d.Retry(delay) })
	case len(deliveries) == 1:
		d := deliveries[0]
		s.log.Error("the store cannot store an event; it becomes a dead letter", "uuid", d.Event.UUID, "err", err)
		s.end(deliveries, "dead", func(d event.Delivery) error { return d.Dead("store: " + reason(err)) })
	default:
		// One of the events cannot be stored. Halving finds it in few writes,
		// and stores the others.
		half := len(deliveries) / 2
		s.store(ctx, stop, deliveries[:half])
		s.store(ctx, stop, deliveries[half:])
	}
}

// write stores events. While the store is unavailable it keeps them and retries
// forever: they are in the journal, and their order must not change. It logs
// once that the store has failed, and once that it works again.
func (s *Sink) write(ctx, stop context.Context, deliveries []event.Delivery, events []*event.Event) (WriteResult, error) {
	began := time.Now()
	extended := began
	for failures := 0; ; failures++ {
		var res WriteResult
		err := supervise.Catch(func() (err error) {
			res, err = s.Store.Write(ctx, events)
			return err
		})
		if !isAway(err) {
			if err == nil && s.away.Swap(false) {
				s.log.Info("store sink writes again", "after", time.Since(began).Round(time.Millisecond))
			}
			return res, err
		}
		if !s.away.Swap(true) {
			s.log.Warn("store sink cannot write: events wait in the journal", "err", err)
		}
		if time.Since(extended) > extendEvery {
			extended = time.Now()
			for _, d := range deliveries {
				if d.Extend() != nil { // they come again, and are known by their uuids then
					break
				}
			}
		}
		select {
		case <-stop.Done():
			return res, err
		case <-time.After(min(backoff(failures+1), awayMax)):
		}
	}
}

func (s *Sink) end(deliveries []event.Delivery, outcome string, how func(event.Delivery) error) {
	failed := 0
	var last error
	for _, d := range deliveries {
		if err := how(d); err != nil {
			failed++
			last = err
		}
	}
	s.metrics.count(outcome, len(deliveries))
	if outcome != "retried" {
		s.ended.Add(uint64(len(deliveries)))
	}
	if failed > 0 {
		// They come again after the queue's acknowledgement wait.
		s.log.Warn("store sink cannot end deliveries", "outcome", outcome, "events", failed, "err", last)
	}
}

// isAway distinguishes a store that has failed, and works again later, from all
// other trouble.
func isAway(err error) bool {
	var e *event.Error
	return errors.As(err, &e) && e.Code == event.CodeUnavailable
}

// isPoison distinguishes an event that will never be stored from transient
// trouble.
func isPoison(err error) bool {
	if p := (*supervise.PanicError)(nil); errors.As(err, &p) {
		return true
	}
	var e *event.Error
	return errors.As(err, &e) && e.Code == event.CodeInvalid
}

// reason is the error without text that a driver may have quoted.
func reason(err error) string {
	e := event.AsError(err)
	if e.Err != nil {
		return fmt.Sprintf("%s: %v", e.Message, e.Err)
	}
	return e.Message
}

func backoff(attempt int) time.Duration {
	d := retryMax
	if shift := max(attempt, 1) - 1; shift < 16 {
		d = min(retryFirst<<shift, retryMax)
	}
	return d + time.Duration(rand.Int64N(int64(d)/5))
}

type sinkMetrics struct {
	reg    prometheus.Registerer
	events *prometheus.CounterVec
}

func newSinkMetrics(reg prometheus.Registerer) *sinkMetrics {
	if reg == nil {
		return nil
	}
	m := &sinkMetrics{reg, prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hedgerow_store_sink_events_total",
		Help: "Journal deliveries handled by the store sink, by outcome: stored (duplicates included), retried, dead."}, []string{"outcome"})}
	reg.MustRegister(m.events)
	return m
}

func (m *sinkMetrics) unregister() {
	if m != nil {
		m.reg.Unregister(m.events)
	}
}

func (m *sinkMetrics) count(outcome string, n int) {
	if m != nil {
		m.events.WithLabelValues(outcome).Add(float64(n))
	}
}
