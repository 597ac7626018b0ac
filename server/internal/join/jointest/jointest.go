// Package jointest makes merges for tests of what reads them.
package jointest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/join"
)

// Merges returns the merges that a [join.Joiner] appends for events in the order in
// which they were journaled, all at one time. c sets the joiner's other parameters.
func Merges(t testing.TB, at time.Time, c join.JoinerConfig, events ...*event.Event) []*event.Event {
	t.Helper()
	k := new(appended)
	c.Open = func(context.Context, time.Time) (event.Queue, error) { return &queue{at, events}, nil }
	c.Behind = func(context.Context) (uint64, error) { return 0, nil }
	c.Journal, c.Now = k, func() time.Time { return at }
	j, err := join.NewJoiner(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Run(t.Context()); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	return *k
}

type appended []*event.Event

func (k *appended) Append(_ context.Context, events ...*event.Event) error {
	*k = append(*k, events...)
	return nil
}

// queue delivers some events, and then ends.
type queue struct {
	at     time.Time
	events []*event.Event
}

func (q *queue) Fetch(context.Context, int, time.Duration) (ds []event.Delivery, _ error) {
	if len(q.events) == 0 {
		return nil, context.Canceled
	}
	for i, e := range q.events {
		ds = append(ds, event.Delivery{Event: e, Seq: uint64(i + 1), Attempt: 1, At: q.at, Acker: ignored{}})
	}
	q.events = nil
	return ds, nil
}

type ignored struct{}

func (ignored) Ack() error                { return nil }
func (ignored) Retry(time.Duration) error { return nil }
func (ignored) Extend() error             { return nil }
func (ignored) Dead(string) error         { return nil }
