package firstvalue

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go/jetstream"
)

// Bucket is the name of the key-value bucket in which a server keeps claims: one
// small record for each user, for as long as the data folder lives.
const Bucket = "hedgerow_first_value"

// NewClaims returns the claims in a JetStream key-value bucket.
func NewClaims(kv jetstream.KeyValue) Claims { return claims{kv} }

type claims struct{ kv jetstream.KeyValue }

func (c claims) Create(ctx context.Context, key string, value []byte) (uint64, bool, error) {
	revision, err := c.kv.Create(ctx, key, value)
	return quicker(revision, err)
}

func (c claims) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, bool, error) {
	next, err := c.kv.Update(ctx, key, value, revision)
	return quicker(next, err)
}

func (c claims) Get(ctx context.Context, key string) ([]byte, uint64, bool, error) {
	e, err := c.kv.Get(ctx, key)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return nil, 0, false, nil
	case err != nil:
		return nil, 0, false, err
	}
	return e.Value(), e.Revision(), true, nil
}

// quicker tells a write to which another was quicker from one that failed.
func quicker(revision uint64, err error) (uint64, bool, error) {
	if errors.Is(err, jetstream.ErrKeyExists) || errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
		return 0, false, nil
	}
	return revision, err == nil, err
}
