package eval

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
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
	usd, _, err := l.read(ctx, name, day)
	return usd, err
}

func (l Ledger) read(ctx context.Context, name string, day time.Time) (usd decimal.Decimal, revision uint64, err error) {
	e, err := l.KV.Get(ctx, name)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return decimal.Zero, 0, nil
	}
	if err != nil {
		return decimal.Zero, 0, fmt.Errorf("read a judge's budget: %w", err)
	}
	var date, sum string
	if _, err := fmt.Sscan(string(e.Value()), &date, &sum); err != nil || date != day.UTC().Format(time.DateOnly) {
		return decimal.Zero, e.Revision(), nil
	}
	if usd, err = decimal.NewFromString(sum); err != nil {
		return decimal.Zero, 0, fmt.Errorf("read a judge's budget: %w", err)
	}
	return usd, e.Revision(), nil
}

// Spend implements [Budget].
func (l Ledger) Spend(ctx context.Context, name string, day time.Time, usd decimal.Decimal) error {
	for range 16 {
		have, revision, err := l.read(ctx, name, day)
		if err != nil {
			return err
		}
		value := entry(day, have.Add(usd))
		if revision == 0 {
			_, err = l.KV.Create(ctx, name, value)
		} else {
			_, err = l.KV.Update(ctx, name, value, revision)
		}
		if err == nil {
			return nil
		}
		if !errors.Is(err, jetstream.ErrKeyExists) && !errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
			return fmt.Errorf("write a judge's budget: %w", err)
		}
	}
	return event.NewError(event.CodeUnavailable, "a judge's budget could not be written", "too many write it at one time", nil)
}

// Forget removes what is known of a name.
func (l Ledger) Forget(ctx context.Context, name string) error {
	return l.KV.Purge(ctx, name)
}
