package journal

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// purgeStep is the minimum size of a purge: purging part of a block reads and
// marks it.
const purgeStep = 16 << 20

// nudgeStep is the number of appended bytes that triggers the janitor before
// its tick, and nudgeGap the minimum time between two such runs. JetStream
// keeps a block in memory until ten seconds after its last use or until it is
// deleted, so a late purge costs memory: 60 MB at 6 MB a second.
const (
	nudgeStep = 8 << 20
	nudgeGap  = time.Second
)

// janitor frees space at every tick, immediately after a rejected append, and
// soon after many appends.
func (j *Journal) janitor(ctx context.Context) {
	defer close(j.janitorDone)
	tick := time.NewTicker(j.c.JanitorEvery)
	defer tick.Stop()
	var last time.Time
	var failed bool // the last time
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-j.kick:
		case <-j.nudge:
			select {
			case <-ctx.Done():
				return
			case <-time.After(nudgeGap - time.Since(last)):
			case <-j.kick:
			}
		}
		last = time.Now()
		l, err := j.up()
		if err != nil {
			continue
		}
		err = j.clean(ctx, l)
		if err != nil && !failed && ctx.Err() == nil && l.over.Err() == nil {
			j.log.Warn("clean the journal", "err", err)
		}
		failed = err != nil
	}
}

// clean purges what every queue has acknowledged and Keep does not cover.
func (j *Journal) clean(ctx context.Context, l *instance) error {
	j.mu.Lock()
	blocked := len(j.unreadable)
	j.mu.Unlock()
	if blocked > 0 {
		return fmt.Errorf("%d queues have unreadable cursors: nothing is dropped until they are opened or deleted", blocked)
	}
	si, err := l.events.Info(ctx)
	if err != nil {
		return err
	}
	st := si.State
	if st.Msgs == 0 {
		return nil
	}
	acked, err := l.ackedUpTo(ctx, st.LastSeq)
	if err != nil {
		return err
	}
	if acked >= st.FirstSeq {
		upTo, due, err := l.expired(ctx, st, acked)
		if err != nil {
			return err
		}
		if due && upTo >= st.FirstSeq {
			return l.events.Purge(ctx, jetstream.WithPurgeSequence(upTo+1))
		}
	}
	return l.giveUp(ctx, st)
}

// ackedUpTo returns the position up to which every queue has ended all its
// events, or 0 without queues. last is the stream's last position, read before
// the queues are: a queue with nothing open has then ended at least everything
// up to there.
func (l *instance) ackedUpTo(ctx context.Context, last uint64) (uint64, error) {
	infos, err := l.consumers(ctx)
	if err != nil || len(infos) == 0 {
		return 0, err
	}
	floor := last
	for _, ci := range infos {
		if ci.AckFloor.Stream >= floor {
			continue
		}
		oldest, err := l.oldestUnacked(ctx, ci)
		if err != nil {
			return 0, err
		}
		if oldest != nil {
			floor = min(floor, oldest.Sequence-1)
		}
	}
	return floor, nil
}

// expired returns the position up to which acknowledged events are past Keep or
// beyond KeepBytes, and whether a purge up to there is large enough.
func (l *instance) expired(ctx context.Context, st jetstream.StreamState, acked uint64) (upTo uint64, due bool, err error) {
	j := l.j
	if int64(st.Bytes) > j.c.MaxBytes/10*9 || j.c.Keep < 0 {
		return acked, true, nil
	}
	mean := max(1, st.Bytes/st.Msgs)
	if over := int64(st.Bytes) - j.c.KeepBytes; over > 0 {
		upTo = st.FirstSeq + uint64(over)/mean
		due = over >= min(purgeStep, j.c.MaxBytes/16)
	}
	// Purging an hour's events at every tick would take many small purges:
	// events past Keep may wait until they are a quarter past.
	if age := j.c.Now().Sub(st.FirstTime); age > j.c.Keep+j.c.Keep/4 {
		seq, err := l.lastBefore(ctx, st, j.c.Now().Add(-j.c.Keep))
		if err != nil {
			return 0, false, err
		}
		upTo, due = max(upTo, seq), true
	}
	return min(upTo, acked), due, nil
}

// lastBefore finds the position of the last event that was appended before t, by
// bisection: JetStream has positions by time only inside.
func (l *instance) lastBefore(ctx context.Context, st jetstream.StreamState, t time.Time) (uint64, error) {
	lo, hi := st.FirstSeq-1, st.LastSeq // lo is before t or before all, hi+1 is not before t
	for lo < hi {
		mid := lo + (hi-lo+1)/2
		// The next one at or after mid: positions may have gaps.
		m, err := l.events.GetMsg(ctx, mid, jetstream.WithGetMsgSubject(">"))
		switch {
		case errors.Is(err, jetstream.ErrMsgNotFound):
			hi = mid - 1
		case err != nil:
			return 0, err
		case m.Time.Before(t):
			lo = max(mid, min(m.Sequence, hi))
		default:
			hi = mid - 1
		}
	}
	return lo, nil
}

// checkQueues checks the queues' cursors when the journal opens.
func (j *Journal) checkQueues(ctx context.Context, l *instance) error {
	if l.srv == nil {
		return nil
	}
	infos, err := l.consumers(ctx)
	if err != nil {
		return err
	}
	known := make(map[string]bool)
	last := l.events.CachedInfo().State.LastSeq
	for _, ci := range infos {
		known[ci.Name] = true
		if ci.Delivered.Stream <= last {
			continue
		}
		// After a power failure the cursor can be ahead of the events, whose tail was
		// not yet synced. Their positions will be reused, and the queue would skip
		// the new events: start after the existing ones.
		j.log.Warn("a queue is ahead of the journal after a crash: its cursor is set back", "queue", ci.Name, "cursor", ci.Delivered.Stream, "last", last)
		if err := l.resetQueue(ctx, ci, min(ci.AckFloor.Stream, last)+1); err != nil {
			return err
		}
	}
	missing := l.srv.unrecoveredQueues(known)
	if err := l.srv.log.passingError(); err != nil && len(missing) > 0 {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.unreadable = missing
	for name := range j.unreadable {
		j.log.Error("a queue's cursor cannot be read: it starts over when opened", "queue", name)
	}
	return nil
}

func (l *instance) resetQueue(ctx context.Context, ci *jetstream.ConsumerInfo, from uint64) error {
	cfg := ci.Config
	if err := l.events.DeleteConsumer(ctx, ci.Name); err != nil {
		return fmt.Errorf("reset queue %s: %w", ci.Name, err)
	}
	cfg.DeliverPolicy, cfg.OptStartSeq, cfg.OptStartTime = jetstream.DeliverByStartSequencePolicy, min(from, math.MaxInt64), nil
	if _, err := l.events.CreateConsumer(ctx, cfg); err != nil {
		return fmt.Errorf("reset queue %s: %w", ci.Name, err)
	}
	return nil
}
