package journal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hedgerow/hedgerow/event"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Headers of a dead letter.
const (
	hdrReason   = "Hedgerow-Reason"
	hdrSeq      = "Hedgerow-Seq"      // position in the journal when it became a dead letter
	hdrTime     = "Hedgerow-Time"     // when the event was appended, RFC 3339
	hdrAttempts = "Hedgerow-Attempts" // deliveries, the last one included
	hdrUUID     = "Hedgerow-Uuid"
	hdrEvent    = "Hedgerow-Event"
	hdrBytes    = "Hedgerow-Bytes"
)

const (
	maxReason = 1000        // bytes
	listWait  = time.Second // wait for the next dead letter before checking whether there is one
)

// DeadLetter is an event that a sink could not process.
type DeadLetter struct {
	ID       uint64 // rises with the time of death
	Queue    string
	Project  string
	UUID     string // empty where the frame could not be read
	Event    string // the event's name; empty where the frame could not be read
	Reason   string // never quotes content or keys
	Attempts int
	Seq      uint64    // position in the journal when it became a dead letter
	Appended time.Time // when the journal took the event
	Died     time.Time
	Bytes    int // length of the frame
}

// DeadFilter chooses dead letters; its zero value chooses all.
type DeadFilter struct {
	Queue   string   // of this queue only
	Project string   // of this project only
	IDs     []uint64 // these only
	Before  uint64   // with an ID below this one: where the next page begins
	Limit   int      // at most so many, the newest; DeadLetters takes 0 as 100
}

func (f DeadFilter) subject() (string, error) {
	tokens := []string{f.Queue, f.Project}
	for i, t := range tokens {
		if t == "" {
			tokens[i] = "*"
		} else if !validToken(t) {
			return "", event.Invalid("the queue or the project of the dead letters is malformed", "use letters, digits, '-' and '_'")
		}
	}
	return "dead." + tokens[0] + "." + tokens[1], nil
}

// bury stores a frame of msg among the dead letters of the queue, and returns nil
// when it is as safe there as it was in the journal. id names the frame within
// the message; empty is all of it.
func (j *Journal) addDeadLetter(queue string, msg jetstream.Msg, frame []byte, id, reason string) error {
	ctx, cancel := context.WithTimeout(context.Background(), apiTimeout)
	defer cancel()
	l, err := j.up()
	if err != nil {
		return fmt.Errorf("dead letter: %w", err)
	}
	md, err := msg.Metadata()
	if err != nil {
		return fmt.Errorf("dead letter: %w", err)
	}
	h := nats.Header{}
	h.Set(hdrReason, oneLine(reason, maxReason))
	h.Set(hdrSeq, strconv.FormatUint(md.Sequence.Stream, 10))
	h.Set(hdrTime, md.Timestamp.UTC().Format(time.RFC3339Nano))
	h.Set(hdrAttempts, strconv.FormatUint(md.NumDelivered, 10))
	h.Set(hdrBytes, strconv.Itoa(len(frame)))
	if e, err := event.DecodeFrame(frame); err == nil {
		h.Set(hdrUUID, oneLine(e.UUID, 64))
		h.Set(hdrEvent, oneLine(e.Name, 4*event.MaxNameLen))
	}
	// The id makes a second attempt after a crash between here and the ack one
	// letter, not two. The time is in it since positions can be given again.
	h.Set(jetstream.MsgIDHeader, queue+"."+strconv.FormatUint(md.Sequence.Stream, 10)+"."+strconv.FormatInt(md.Timestamp.UnixNano(), 36)+id)
	subject := "dead." + queue + "." + subjectProject(msg.Subject())
	if _, err := l.ctlJS.PublishMsg(ctx, &nats.Msg{Subject: subject, Header: h, Data: frame}); err != nil {
		return fmt.Errorf("dead letter: %w", l.lost(err))
	}
	j.metrics.dead.WithLabelValues(queue).Inc()
	return nil
}

// oneLine makes s fit for a header: one line of valid UTF-8, at most n bytes.
func oneLine(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) > n {
		s = s[:n]
		for !utf8.ValidString(s) {
			s = s[:len(s)-1]
		}
	}
	return strings.TrimSpace(s)
}

// DeadLetters lists dead letters, newest first. The list is read from headers:
// it costs no more for large events.
func (j *Journal) DeadLetters(ctx context.Context, f DeadFilter) ([]DeadLetter, error) {
	if f.Limit <= 0 {
		f.Limit = 100
	}
	l, err := j.up()
	if err != nil {
		return nil, err
	}
	out, err := l.listDead(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("list dead letters: %w", l.lost(err))
	}
	return out, nil
}

// listDead is DeadLetters where Limit 0 means no limit.
func (l *instance) listDead(ctx context.Context, f DeadFilter) ([]DeadLetter, error) {
	subject, err := f.subject()
	if err != nil {
		return nil, err
	}
	cons, err := l.dead.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		FilterSubjects:    []string{subject},
		HeadersOnly:       true,
		InactiveThreshold: 10 * time.Second,
	})
	if err != nil {
		return nil, err
	}
	// It would count against the stream's limit until it has been idle long enough.
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), listWait)
		defer cancel()
		l.dead.DeleteConsumer(ctx, cons.CachedInfo().Name) // if this fails, the consumer expires
	}()
	info, err := cons.Info(ctx)
	if err != nil {
		return nil, err
	}
	// Forward, because that is how JetStream reads; the last Limit are kept.
	var out []DeadLetter
	left := info.NumPending
	it, err := cons.Messages(jetstream.PullMaxMessages(500))
	if err != nil {
		return nil, err
	}
	defer it.Stop()
	stop := context.AfterFunc(ctx, it.Stop)
	defer stop()
	for left > 0 {
		m, err := it.Next(jetstream.NextMaxWait(listWait))
		if errors.Is(err, nats.ErrTimeout) {
			// The remaining ones may have been deleted or replayed meanwhile.
			if info, err = cons.Info(ctx); err != nil {
				return nil, err
			}
			left = info.NumPending
			continue
		}
		if err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return nil, err
		}
		md, err := m.Metadata()
		if err != nil {
			return nil, err
		}
		left = md.NumPending
		id := md.Sequence.Stream
		if f.Before != 0 && id >= f.Before {
			break
		}
		if len(f.IDs) > 0 && !slices.Contains(f.IDs, id) {
			continue
		}
		out = append(out, deadLetter(id, m.Subject(), m.Headers(), md.Timestamp))
		if f.Limit > 0 && len(out) >= 2*f.Limit {
			out = append(out[:0], out[len(out)-f.Limit:]...)
		}
	}
	if f.Limit > 0 && len(out) > f.Limit {
		out = out[len(out)-f.Limit:]
	}
	slices.Reverse(out)
	return out, nil
}

func deadLetter(id uint64, subject string, h nats.Header, died time.Time) DeadLetter {
	d := DeadLetter{
		ID:      id,
		Queue:   subjectQueue(subject),
		Project: subjectProject(subject),
		UUID:    h.Get(hdrUUID),
		Event:   h.Get(hdrEvent),
		Reason:  h.Get(hdrReason),
		Died:    died,
	}
	// Values that do not parse remain zero: they are only displayed.
	d.Attempts, _ = strconv.Atoi(h.Get(hdrAttempts))
	d.Bytes, _ = strconv.Atoi(h.Get(hdrBytes))
	d.Seq, _ = strconv.ParseUint(h.Get(hdrSeq), 10, 64)
	d.Appended, _ = time.Parse(time.RFC3339Nano, h.Get(hdrTime))
	return d
}

// subjectQueue is the second token of dead.<queue>.<project>.
func subjectQueue(subject string) string {
	_, rest, _ := strings.Cut(subject, ".")
	q, _, _ := strings.Cut(rest, ".")
	return q
}

// Replay puts the chosen dead letters back onto their own queue only, oldest first;
// their attempts count from 1 again. It returns how many it put back. A letter
// leaves the dead ones after it is safe in the journal: a crash between the two may
// leave it in both, and the sink then gets the same uuid twice. Letters of a queue
// that no longer exists stay.
func (j *Journal) Replay(ctx context.Context, f DeadFilter) (int, error) {
	l, err := j.up()
	if err != nil {
		return 0, err
	}
	letters, err := l.listDead(ctx, f)
	if err != nil {
		return 0, fmt.Errorf("replay dead letters: %w", l.lost(err))
	}
	slices.Reverse(letters)
	exists := make(map[string]bool)
	n := 0
	for _, d := range letters {
		if _, asked := exists[d.Queue]; !asked {
			_, err := l.events.Consumer(ctx, d.Queue)
			if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
				return n, fmt.Errorf("replay dead letters: %w", l.lost(err))
			}
			exists[d.Queue] = err == nil
		}
		if !exists[d.Queue] {
			continue
		}
		switch err := l.replayOne(ctx, d); {
		case errors.Is(err, jetstream.ErrMsgNotFound): // deleted or replayed meanwhile
		case err != nil:
			return n, fmt.Errorf("replay dead letter %d: %w", d.ID, l.lost(err))
		default:
			n++
		}
	}
	return n, nil
}

func (l *instance) replayOne(ctx context.Context, d DeadLetter) error {
	m, err := l.dead.GetMsg(ctx, d.ID)
	if err != nil {
		return err
	}
	_, err = l.ctlJS.PublishMsg(ctx, &nats.Msg{
		Subject: "replay." + d.Queue + "." + d.Project,
		// Two concurrent replays (a double click) append it once.
		Header: nats.Header{jetstream.MsgIDHeader: []string{"dead." + strconv.FormatUint(d.ID, 10)}},
		Data:   m.Data,
	})
	if isFull(err) {
		return l.refusal(err)
	}
	if err != nil {
		return err
	}
	_, err = l.deleteOne(ctx, d.ID, l.dead.DeleteMsg)
	return err
}

// deleteOne deletes a dead letter and reports whether it existed. NATS has no
// specific error for that, so the message is requested again.
func (l *instance) deleteOne(ctx context.Context, id uint64, del func(context.Context, uint64) error) (bool, error) {
	err := del(ctx, id)
	if err == nil {
		return true, nil
	}
	if _, gerr := l.dead.GetMsg(ctx, id); errors.Is(gerr, jetstream.ErrMsgNotFound) {
		return false, nil
	}
	return false, err
}

// DeleteDead deletes the chosen dead letters permanently and returns their
// number. An empty filter deletes all of them.
func (j *Journal) DeleteDead(ctx context.Context, f DeadFilter) (int, error) {
	l, err := j.up()
	if err != nil {
		return 0, err
	}
	letters, err := l.listDead(ctx, f)
	if err != nil {
		return 0, fmt.Errorf("delete dead letters: %w", l.lost(err))
	}
	n := 0
	for _, d := range letters {
		// Overwritten, since content may be in it.
		deleted, err := l.deleteOne(ctx, d.ID, l.dead.SecureDeleteMsg)
		if err != nil {
			return n, fmt.Errorf("delete dead letter %d: %w", d.ID, l.lost(err))
		}
		if deleted {
			n++
		}
	}
	return n, nil
}

// DeadCounts returns how many dead letters each queue has.
func (j *Journal) DeadCounts(ctx context.Context) (map[string]uint64, error) {
	l, err := j.up()
	if err != nil {
		return nil, err
	}
	si, err := l.dead.Info(ctx, jetstream.WithSubjectFilter("dead.>"))
	if err != nil {
		return nil, fmt.Errorf("count dead letters: %w", l.lost(err))
	}
	out := make(map[string]uint64)
	for subject, n := range si.State.Subjects {
		out[subjectQueue(subject)] += n
	}
	return out, nil
}
