package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Gap is a range of events that a queue dropped so that the journal could accept
// new ones; see [Journal]. Every essential queue had ended them.
type Gap struct {
	Queue   string    `json:"queue"`
	Project string    `json:"project,omitempty"` // of the queue; empty is every project
	Events  uint64    `json:"events"`            // about how many: messages are counted, the events in them by a sample
	First   time.Time `json:"first"`             // when the first of them was appended
	Last    time.Time `json:"last"`              // and the last one
	FromSeq uint64    `json:"from_seq"`          // their positions
	ToSeq   uint64    `json:"to_seq"`
	GivenUp time.Time `json:"given_up"` // when the last of them was

	// While its events are being sent again: how far that is, so that it
	// continues after a restart. Reached is the time when the store wrote the
	// last one sent.
	Sending bool      `json:"sending,omitempty"`
	Reached time.Time `json:"reached,omitzero"`
	Sent    uint64    `json:"sent,omitempty"`
}

// ID identifies a gap within its queue, as long as it does not grow.
func (g Gap) ID() string { return fmt.Sprintf("%d-%d", g.FromSeq, g.ToSeq) }

func (g Gap) same(o Gap) bool {
	return g.Queue == o.Queue && g.FromSeq == o.FromSeq && g.ToSeq == o.ToSeq && g.First.Equal(o.First)
}

// errNoGap is returned for a gap that does not exist, for example because it has
// grown.
func errNoGap() error {
	return event.NewError(event.CodeNotFound, "gap not found", "list them to see which exist", nil)
}

// gapsBucket keeps the gaps of each queue under its name.
const gapsBucket = "journal_gaps"

const (
	maxGaps  = 100 // of one queue; beyond it the oldest two become one
	crowded  = 90  // percent of the bound, from which on queues drop events
	roomy    = 80  // percent of the bound that remains after dropping
	gapWrite = 5 * time.Second
)

// Gaps returns the gaps that have not been redelivered, by queue and time.
func (j *Journal) Gaps(ctx context.Context) ([]Gap, error) {
	l, err := j.up()
	if err != nil {
		return nil, err
	}
	byQueue, err := l.readGaps(ctx)
	if err != nil {
		return nil, fmt.Errorf("list gaps: %w", l.lost(err))
	}
	var out []Gap
	for _, gaps := range byQueue {
		out = append(out, gaps...)
	}
	slices.SortFunc(out, func(a, b Gap) int {
		if c := strings.Compare(a.Queue, b.Queue); c != 0 {
			return c
		}
		return a.First.Compare(b.First)
	})
	return out, nil
}

// CloseGap deletes a gap, after its events were sent again with
// [Journal.Redeliver] or are no longer needed. It returns an [*event.Error] of
// code [event.CodeNotFound] if no gap has that id, for example because it has
// grown.
func (j *Journal) CloseGap(ctx context.Context, g Gap) error {
	return j.changeGap(ctx, g, func(gaps []Gap, i int) []Gap { return slices.Delete(gaps, i, i+1) })
}

// NoteGap stores the progress of resending a gap. A gap that is being resent does
// not grow. Errors are those of [Journal.CloseGap].
func (j *Journal) NoteGap(ctx context.Context, g Gap) error {
	return j.changeGap(ctx, g, func(gaps []Gap, i int) []Gap { gaps[i] = g; return gaps })
}

func (j *Journal) changeGap(ctx context.Context, g Gap, f func(gaps []Gap, i int) []Gap) error {
	l, err := j.up()
	if err != nil {
		return err
	}
	found := false
	err = l.changeGaps(ctx, g.Queue, func(gaps []Gap) []Gap {
		i := slices.IndexFunc(gaps, g.same)
		if found = i >= 0; !found {
			return gaps
		}
		return f(gaps, i)
	})
	if err == nil && !found {
		return errNoGap()
	}
	return l.lost(err)
}

// Redeliver appends events, read from the store, for one queue alone: those that
// it dropped. Errors are those of [Journal.Append].
func (j *Journal) Redeliver(ctx context.Context, queue string, events ...*event.Event) error {
	if !validToken(queue) {
		return noQueue(queue)
	}
	l, err := j.up()
	if err != nil {
		return err
	}
	if _, err := l.events.Consumer(ctx, queue); errors.Is(err, jetstream.ErrConsumerNotFound) {
		return noQueue(queue)
	}
	for i, e := range events {
		if err := j.check(e); err != nil {
			return fmt.Errorf("event %d: %w", i, err)
		}
		frame, err := e.AppendFrame(nil)
		if err != nil {
			return event.NewError(event.CodeInvalid, "the event cannot be encoded", "its properties must be valid JSON", err)
		}
		if _, err := l.ctlJS.PublishMsg(ctx, &nats.Msg{Subject: "replay." + queue + "." + e.ProjectID, Data: frame}); err != nil {
			return l.refusal(err)
		}
	}
	return nil
}

// giveUp frees space if the journal is nearly full of events that the essential
// queues have ended and others have not. It records the gap first.
func (l *instance) giveUp(ctx context.Context, st jetstream.StreamState) error {
	j := l.j
	if len(j.c.Essential) == 0 || int64(st.Bytes) <= j.c.MaxBytes/100*crowded || st.Msgs == 0 {
		return nil
	}
	infos, err := l.consumers(ctx)
	if err != nil {
		return err
	}
	// Only events that every essential queue has ended, and no more than needed.
	mean := max(1, st.Bytes/st.Msgs)
	upTo := min(st.FirstSeq-1+uint64(int64(st.Bytes)-j.c.MaxBytes/100*roomy)/mean+1, st.LastSeq)
	oldest := make(map[string]*jetstream.RawStreamMsg)
	essential := 0
	for _, ci := range infos {
		m, err := l.oldestUnacked(ctx, ci)
		if err != nil {
			return err
		}
		if slices.Contains(j.c.Essential, ci.Name) {
			essential++
			if m != nil {
				upTo = min(upTo, m.Sequence-1)
			}
		} else if m != nil {
			oldest[ci.Name] = m
		}
	}
	if essential < len(j.c.Essential) || upTo < st.FirstSeq {
		return nil // the store itself lags: the journal is full and reports it
	}
	end, err := l.nextOf(ctx, upTo, []string{">"})
	if err != nil || end == nil {
		return err
	}
	for _, ci := range infos {
		m := oldest[ci.Name]
		if m == nil || m.Sequence > upTo {
			continue
		}
		g := Gap{Queue: ci.Name, First: m.Time, Last: end.Time, FromSeq: m.Sequence, ToSeq: upTo, GivenUp: j.c.Now().UTC()}
		if p := subjectProject(ci.Config.FilterSubjects[0]); p != "*" {
			g.Project = p
		}
		if g.Events, err = l.countUpTo(ctx, ci, m.Sequence, upTo, st.LastSeq); err != nil {
			return err
		}
		if err := l.addGap(ctx, g); err != nil {
			return err
		}
		j.metrics.givenUp.WithLabelValues(ci.Name).Add(float64(g.Events))
	}
	return l.events.Purge(ctx, jetstream.WithPurgeSequence(upTo+1))
}

// countUpTo estimates the number of a queue's events between two positions
// from its pending events, in proportion to the range. last is the stream's last
// position, read before the queue's state: appends go on meanwhile, and a later
// position would have messages that the state does not count.
func (l *instance) countUpTo(ctx context.Context, ci *jetstream.ConsumerInfo, from, to, last uint64) (uint64, error) {
	waiting := ci.NumPending + uint64(ci.NumAckPending)
	n := min(to-from+1, waiting)
	if rest := last - from + 1; waiting < rest {
		n = min(n, waiting*(to-from+1)/rest+1)
	}
	return l.j.eventsIn(ctx, l, n, from, ci.Config.FilterSubjects...)
}

func (l *instance) addGap(ctx context.Context, g Gap) error {
	grown := false
	err := l.changeGaps(ctx, g.Queue, func(gaps []Gap) []Gap {
		grown = false
		if n := len(gaps); n > 0 && !gaps[n-1].Sending && gaps[n-1].ToSeq+1 >= g.FromSeq && gaps[n-1].ToSeq < g.ToSeq {
			last := &gaps[n-1]
			last.Last, last.ToSeq, last.Events, last.GivenUp = g.Last, g.ToSeq, last.Events+g.Events, g.GivenUp
			grown = true
			return gaps
		}
		gaps = append(gaps, g)
		if len(gaps) > maxGaps {
			a, b := gaps[0], gaps[1]
			b.First, b.FromSeq, b.Events = a.First, a.FromSeq, a.Events+b.Events
			b.Sending, b.Reached = a.Sending || b.Sending, a.Reached // sent from where the older one is
			gaps = append([]Gap{b}, gaps[2:]...)
		}
		return gaps
	})
	if err == nil && !grown {
		l.j.log.Error("the journal is nearly full: a lagging queue skips its oldest events, which are in the store, so that recording continues", "queue", g.Queue, "first", g.First, "last", g.Last, "events", g.Events)
	}
	return err
}

func (l *instance) gapsKV(ctx context.Context) (jetstream.KeyValue, error) {
	return l.keyValue(ctx, gapsBucket, 1)
}

// changeGaps lets f change the gaps of a queue.
func (l *instance) changeGaps(ctx context.Context, queue string, f func([]Gap) []Gap) error {
	ctx, cancel := context.WithTimeout(ctx, gapWrite)
	defer cancel()
	kv, err := l.gapsKV(ctx)
	if err != nil {
		return err
	}
	for {
		var gaps []Gap
		var revision uint64
		e, err := kv.Get(ctx, queue)
		switch {
		case err == nil:
			revision = e.Revision()
			if err := json.Unmarshal(e.Value(), &gaps); err != nil {
				l.j.log.Error("the record of a queue's skipped events cannot be read and is recreated", "queue", queue, "err", err)
				gaps = nil
			}
		case !errors.Is(err, jetstream.ErrKeyNotFound):
			return err
		}
		gaps = f(gaps)
		switch {
		case len(gaps) == 0 && revision == 0:
			return nil
		case len(gaps) == 0:
			err = kv.Purge(ctx, queue, jetstream.LastRevision(revision))
		default:
			raw, merr := json.Marshal(gaps)
			if merr != nil {
				return merr
			}
			if revision == 0 {
				_, err = kv.Create(ctx, queue, raw)
			} else {
				_, err = kv.Update(ctx, queue, raw, revision)
			}
		}
		switch {
		case err == nil:
			l.j.noteGaps(queue, gaps)
			return nil
		case !errors.Is(err, jetstream.ErrKeyRevisionMismatch) && !errors.Is(err, jetstream.ErrKeyExists) || ctx.Err() != nil:
			return err
		}
	}
}

// readGaps reads all gaps.
func (l *instance) readGaps(ctx context.Context) (map[string][]Gap, error) {
	kv, err := l.gapsKV(ctx)
	if err != nil {
		return nil, err
	}
	keys, err := kv.Keys(ctx)
	if errors.Is(err, jetstream.ErrNoKeysFound) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	out := make(map[string][]Gap, len(keys))
	for _, queue := range keys {
		e, err := kv.Get(ctx, queue)
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			continue
		} else if err != nil {
			return nil, err
		}
		var gaps []Gap
		if json.Unmarshal(e.Value(), &gaps) == nil {
			out[queue] = gaps
		}
	}
	return out, nil
}

// loadGaps adds existing gaps to the health.
func (l *instance) loadGaps(ctx context.Context) error {
	if len(l.j.c.Essential) == 0 {
		return nil
	}
	byQueue, err := l.readGaps(ctx)
	for queue, gaps := range byQueue {
		l.j.noteGaps(queue, gaps)
	}
	return err
}

func (j *Journal) noteGaps(queue string, gaps []Gap) {
	n := note{key: "gaps." + queue}
	if len(gaps) > 0 {
		var events uint64
		for _, g := range gaps {
			events += g.Events
		}
		n.message = fmt.Sprintf("the queue %s skipped about %d events from %s to %s, since it lagged so far behind that the journal was nearly full", queue, events, moment(gaps[0].First), moment(gaps[len(gaps)-1].Last))
		n.hint = "fix that connection, then resend them from the store: on the connection's page, or with hedgerow replay gaps --send"
		if !slices.ContainsFunc(gaps, func(g Gap) bool { return !g.Sending }) {
			n.hint = "they are being resent from the store; no action is needed"
		}
	}
	j.standing.note(n)
}
