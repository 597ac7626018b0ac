package journal

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Rewind restarts a queue at the oldest event in the journal that was appended
// at or after since, regardless of what the queue has acknowledged: its sink
// has lost its data. A zero time means all events. It returns when that event
// was appended, or zero if there is none. A queue that has not reached that
// event is not changed, and one that does not exist starts as when it is
// created. Events that the sink is processing are redelivered, too.
func (j *Journal) Rewind(ctx context.Context, name string, since time.Time) (from time.Time, err error) {
	if !validToken(name) {
		return from, noQueue(name)
	}
	l, err := j.up()
	if err != nil {
		return from, err
	}
	j.mu.Lock()
	q := j.queues[name]
	j.mu.Unlock()
	if q != nil { // prevents opening it meanwhile
		q.opening.Lock()
		defer q.opening.Unlock()
	}
	si, err := l.events.Info(ctx)
	if err != nil {
		return from, fmt.Errorf("rewind queue %s: %w", name, l.lost(err))
	}
	at := max(1, si.State.FirstSeq)
	if from = si.State.FirstTime; si.State.Msgs == 0 {
		from = time.Time{}
	} else if since.After(from) {
		last, err := l.lastBefore(ctx, si.State, since)
		if err != nil {
			return from, fmt.Errorf("rewind queue %s: %w", name, l.lost(err))
		}
		if at, from = last+1, since; at > si.State.LastSeq {
			return time.Time{}, nil
		}
	}
	cons, err := l.events.Consumer(ctx, name)
	switch {
	case errors.Is(err, jetstream.ErrConsumerNotFound):
	case err != nil:
		return from, fmt.Errorf("rewind queue %s: %w", name, l.lost(err))
	case cons.CachedInfo().AckFloor.Stream < at && cons.CachedInfo().NumAckPending == 0:
		return from, nil
	default:
		if err := l.resetQueue(ctx, cons.CachedInfo(), min(at, cons.CachedInfo().AckFloor.Stream+1)); err != nil {
			return from, fmt.Errorf("rewind queue %s: %w", name, l.lost(err))
		}
	}
	if q != nil {
		q.mu.Lock()
		q.held = nil
		q.mu.Unlock()
	}
	j.forgetAcks(name)
	return from, nil
}

// forgetAcks forgets which of a queue's events have ended.
func (j *Journal) forgetAcks(name string) {
	j.forgetQueue(name)
	j.partsMu.Lock()
	defer j.partsMu.Unlock()
	of := func(key partKey) bool { return key.queue == name }
	maps.DeleteFunc(j.ended, func(key partKey, _ bool) bool { return of(key) })
	maps.DeleteFunc(j.out, func(key partKey, _ *instance) bool { return of(key) })
	delete(j.recent, name)
}
