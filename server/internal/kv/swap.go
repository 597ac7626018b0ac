package kv

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Errors of [Swap], besides those of f. Callers convert them to user-facing
// errors.
var (
	ErrRead  = errors.New("record could not be read")    // with the cause
	ErrWrite = errors.New("record could not be written") // with the cause
	ErrRaced = errors.New("record kept being changed by others")
)

// attempts limits the number of retries after concurrent changes.
const attempts = 16

// Swap reads a record, calls f to replace its value, and writes the result; after
// a concurrent change it starts again. f gets nil if there is no record, may be
// called several times, and its error aborts the change. A nil value from f
// deletes the record. Swap returns the revision that it wrote, 0 for a deletion.
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
		case !IsConflict(err):
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

// IsConflict reports whether a write failed because of a concurrent change.
func IsConflict(err error) bool {
	return errors.Is(err, jetstream.ErrKeyRevisionMismatch) || errors.Is(err, jetstream.ErrKeyExists)
}
