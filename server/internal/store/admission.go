package store

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/hedgerow/hedgerow/event"
)

// maxWaiting is the maximum number of queries that wait for the engine: far
// more than users cause, so that only a flood is rejected immediately.
const maxWaiting = 256

// admission limits the number of concurrent queries, because each uses memory and
// its own processors. The others wait in order of arrival. It is the only such
// limit, so callers need none.
type admission struct {
	places  *semaphore.Weighted
	wait    time.Duration
	waiting atomic.Int32
}

func newAdmission(places int, wait time.Duration) *admission {
	return &admission{places: semaphore.NewWeighted(int64(places)), wait: wait}
}

// enter returns when it is the question's turn; leave ends the question. Its errors
// are [*event.Error]s.
func (a *admission) enter(ctx context.Context) (leave func(), err error) {
	leave = func() { a.places.Release(1) }
	if a.places.TryAcquire(1) {
		return leave, nil
	}
	defer a.waiting.Add(-1)
	if a.waiting.Add(1) > maxWaiting {
		return nil, errBusy(nil)
	}
	turn, cancel := context.WithTimeout(ctx, a.wait)
	defer cancel()
	switch err := a.places.Acquire(turn, 1); {
	case err == nil:
		return leave, nil
	case ctx.Err() == context.Canceled:
		return nil, event.NewError(event.CodeCanceled, "the query was canceled", "", ctx.Err())
	default:
		return nil, errBusy(err)
	}
}

func errBusy(err error) error {
	return event.NewError(event.CodeUnavailable, "the store is busy with other queries", "try again shortly", err)
}
