package kv

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// What [Swap] returns, next to the errors of f. Callers make errors for people
// of them.
var (
	ErrRead  = errors.New("record could not be read")    // with the cause
	ErrWrite = errors.New("record could not be written") // with the cause
	ErrRaced = errors.New("record was changed by others all the time")
)

// attempts bounds how often a change is tried again when another one came first.
const attempts = 16

// Swap reads a record, lets f make another value of it, and writes that if no one
// else has meanwhile; else it begins again. f gets nil if there is no record, may
// be called several times, and its error ends the change. A nil value from f
// removes the record. Swap returns the revision that it has written, 0 where it
// removed the record.
func Swap(ctx context.Context, bucket jetstream.KeyValue, key string, f func(old jetstream.KeyValueEntry) (value []byte, err error)) (revision uint64, err error) {
	for try := range attempts {
		old, err := bucket.Get(ctx, key)
		switch {
		case errors.Is(err, jetstream.ErrKeyNotFound):
			old = nil
		case err != nil:
			return 0, fmt.Errorf("%w: %w", ErrRead, err)
		}
		value, err := f(old)
		if err != nil {
			return 0, err
		}
		switch {
		case value == nil && old == nil:
			return 0, nil
		case value == nil:
			err = bucket.Purge(ctx, key, jetstream.LastRevision(old.Revision()))
		case old == nil:
			revision, err = bucket.Create(ctx, key, value)
		default:
			revision, err = bucket.Update(ctx, key, value, old.Revision())
		}
		switch {
		case err == nil:
			return revision, nil
		case !Raced(err):
			return 0, fmt.Errorf("%w: %w", ErrWrite, err)
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("%w: %w", ErrRaced, ctx.Err())
		case <-time.After(rand.N(time.Millisecond << min(try, 6))):
		}
	}
	return 0, ErrRaced
}

// Raced reports whether a write failed because another one came first.
func Raced(err error) bool {
	return errors.Is(err, jetstream.ErrKeyRevisionMismatch) || errors.Is(err, jetstream.ErrKeyExists)
}
