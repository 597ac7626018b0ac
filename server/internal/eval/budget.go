package eval

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/kv"
)

// Ledger is a [Budget] in a key-value bucket: a record for each name, with the day
// and the sum of that day. Yesterday's sum is forgotten with today's first call.
type Ledger struct{ KV jetstream.KeyValue }

// entry is one ledger's record: "2026-11-21 0.0213".
func entry(day time.Time, usd decimal.Decimal) []byte {
	return []byte(day.UTC().Format(time.DateOnly) + " " + usd.String())
}

// Spent implements [Budget].
func (l Ledger) Spent(ctx context.Context, name string, day time.Time) (decimal.Decimal, error) {
	e, err := l.KV.Get(ctx, name)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return decimal.Zero, nil
	}
	if err != nil {
		return decimal.Zero, fmt.Errorf("read a judge's budget: %w", err)
	}
	return spent(e, day)
}

// spent is the sum of a record, 0 of another day's.
func spent(e jetstream.KeyValueEntry, day time.Time) (decimal.Decimal, error) {
	var date, sum string
	if _, err := fmt.Sscan(string(e.Value()), &date, &sum); err != nil || date != day.UTC().Format(time.DateOnly) {
		return decimal.Zero, nil
	}
	usd, err := decimal.NewFromString(sum)
	if err != nil {
		return decimal.Zero, fmt.Errorf("read a judge's budget: %w", err)
	}
	return usd, nil
}

// Spend implements [Budget].
func (l Ledger) Spend(ctx context.Context, name string, day time.Time, usd decimal.Decimal) error {
	_, err := kv.Swap(ctx, l.KV, name, func(old jetstream.KeyValueEntry) ([]byte, error) {
		if old == nil {
			return entry(day, usd), nil
		}
		have, err := spent(old, day)
		return entry(day, have.Add(usd)), err
	})
	switch {
	case errors.Is(err, kv.ErrRaced):
		return event.NewError(event.CodeUnavailable, "a judge's budget could not be written", "too many concurrent writes", err)
	case err != nil:
		return fmt.Errorf("write a judge's budget: %w", err)
	}
	return nil
}

// Forget deletes the record of a name.
func (l Ledger) Forget(ctx context.Context, name string) error {
	return l.KV.Purge(ctx, name)
}
