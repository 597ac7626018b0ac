package store

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/hedgerow/hedgerow/event"
)

// maxWaiting is how many questions may wait for the engine at one time: far
// more than people request, so that only a flood of them is rejected at once.
const maxWaiting = 256

// admission decides when the engine works on a question: on a few at one time,
// since each takes memory and its own processors. The others wait in line, in the
// order in which they came. It is the only such bound: whoever asks need not have
// one.
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
		return nil, event.NewError(event.CodeCanceled, "the question was cancelled", "", ctx.Err())
	default:
		return nil, errBusy(err)
	}
}

func errBusy(err error) error {
	return event.NewError(event.CodeUnavailable, "the store is busy with other questions", "try again shortly", err)
}
