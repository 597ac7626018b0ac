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
	awayMax    = time.Second // of a store that has failed: it says on its own when it works again
	splitAfter = 5           // attempts with one batch, until it is stored in parts

	extendEvery = 5 * time.Second // less than what the journal waits for an acknowledgement
)

// Writer is what a [Sink] fills.
type Writer interface {
	Write(ctx context.Context, events []*event.Event) (WriteResult, error)
}

// Sink moves events from a queue into a store: fetch, write, acknowledge, in
// this order, so that a crash in between brings an event again rather than
// losing it, and the store's idempotence keeps it from doubling. An event is
// stored within a second of its capture as long as the store keeps up.
//
// While the queue has more than one batch, the next is fetched, decoded and
// encoded while one is written: two are in memory then, and no more. They are
// fetched in the queue's order and written in that order but for a small one,
// which may overtake.
type Sink struct {
	Queue         event.Queue
	Store         Writer
	MaxBatch      int                   // events in one transaction. Defaults to DefaultMaxBatch
	BatchBytes    int                   // what one Fetch of Queue returns at most. Defaults to DefaultBatchBytes
	FlushInterval time.Duration         // longest wait for a batch to fill. Defaults to DefaultFlushInterval, at most 500 ms
	Logger        *slog.Logger          // nil: no log
	Registerer    prometheus.Registerer // nil: no metrics

	// Keep, if set, reports whether an event is to be stored; others are acknowledged.
	// It may give the event another uuid or time. An event for which it fails comes
	// again.
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

	turn     chan struct{} // has room for the lane that may fetch
	failures int           // of fetches, in a row; of whoever has the turn
	telling  sync.Mutex    // around OnStored
}

// Ended returns how many events need no further work: stored, known already,
// passed or given up.
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

// lane fetches and stores in turn with the others. Where the queue had less than
// a batch it keeps the turn until that is written, since another lane would only
// take what the next batch needs to be a large one.
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

// pass lets by what is not kept: beginnings of calls, which are told for PostHog's
// sake (here the call's own event says when it began), and what Keep says. It returns
// the rest.
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
		s.log.Warn("store sink cannot tell whether events are to be stored and tries again", "err", failed, "events", len(again))
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
	case isAway(err): // and Run is to end: whoever runs next stores them
		s.end(deliveries, "retried", func(d event.Delivery) error { return d.Retry(0) })
	case !isPoison(err) && (len(deliveries) == 1 || deliveries[0].Attempt < splitAfter):
		s.log.Warn("store sink cannot write and tries again", "err", err, "events", len(deliveries))
		delay := backoff(deliveries[0].Attempt) // one for all, so that they come back as a batch
		s.end(deliveries, "retried", func(d event.Delivery) error { return d.Retry(delay) })
	case len(deliveries) == 1:
		d := deliveries[0]
		s.log.Error("the store cannot store an event; it becomes a dead letter", "uuid", d.Event.UUID, "err", err)
		s.end(deliveries, "dead", func(d event.Delivery) error { return d.Dead("store: " + reason(err)) })
	default:
		// Something in here cannot be stored. Halving finds it in few writes,
		// and its neighbours are stored on the way.
		half := len(deliveries) / 2
		s.store(ctx, stop, deliveries[:half])
		s.store(ctx, stop, deliveries[half:])
	}
}

// write stores events. While the store has failed it holds on to them and tries
// again, forever: they are in the journal, and come in no other order. One line
// of the log says that it has failed, and one that it works again.
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

// reason is the error without what a driver may have quoted.
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
