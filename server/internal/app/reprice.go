package app

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/reprice"
)

// openReprice starts the runner that prices recorded calls again on request.
func (a *App) openReprice(ctx context.Context) error {
	kv, err := a.journal.KeyValue(ctx, reprice.Bucket, 1)
	if err != nil {
		return err
	}
	a.Repricer = reprice.NewRunner(reprice.Config{
		Prices: a.prices.Load, Calls: a.Query, Journal: a.journal, Store: repriceStore{a}, Records: repriceRecord{kv}, Audit: a.Registry.Audit, Logger: a.log.With("part", "prices"),
	})
	a.runSink("repricing", a.Repricer.Run)
	return nil
}

// repriceRecord is the record of the run that is to be applied.
type repriceRecord struct{ kv jetstream.KeyValue }

const repriceKey = "run"

func (r repriceRecord) Load(ctx context.Context) ([]byte, error) {
	e, err := r.kv.Get(ctx, repriceKey)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, errRecord(err)
	}
	return e.Value(), nil
}

func errRecord(err error) error {
	return event.NewError(event.CodeUnavailable, "the run cannot be read or recorded at the moment", "try again in a moment; see hedgerow's log and /readyz for the cause", err)
}

func (r repriceRecord) Save(ctx context.Context, record []byte) error {
	var err error
	if record == nil {
		err = r.kv.Delete(ctx, repriceKey)
	} else {
		_, err = r.kv.Put(ctx, repriceKey, record)
	}
	if err != nil {
		return errRecord(err)
	}
	return nil
}

// repriceStore is how far the store is with the journal.
type repriceStore struct{ a *App }

// repriceFill is how full the journal may be; above it nothing more is added.
const repriceFill = 0.5

func (s repriceStore) Waiting(ctx context.Context) (uint64, error) {
	q, err := s.a.journal.Lag(ctx, storeQueue)
	if err != nil {
		return 0, err
	}
	if s.a.journalFill() > repriceFill {
		return 1 << 62, nil // as if all of it waited
	}
	return q.Pending + uint64(q.AckPending), nil
}

func (s repriceStore) Stale(ctx context.Context) (int, error) { return s.a.Store.Stale(ctx) }

// repricePoll is the time between two looks at the queue.
const repricePoll = 20 * time.Millisecond

func (s repriceStore) Sync(ctx context.Context) error {
	st, err := s.a.journal.Stats(ctx)
	if err != nil {
		return err
	}
	tick := time.NewTicker(repricePoll)
	defer tick.Stop()
	for {
		q, err := s.a.journal.Lag(ctx, storeQueue)
		if err != nil {
			return err
		}
		if q.Ended >= st.LastSeq || q.Pending == 0 && q.AckPending == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
