package journal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Events that are appended together share messages, because for JetStream and its
// client a message costs more than all other processing of a 1 KB event
// (BenchmarkAppend). A message's body is one event's frame, or several:
//
//	"HRB1"  uint32 number of frames  then for each frame:  uint32 length, frame
//
// with big-endian integers. Sinks do not see this: each event is a separate
// delivery. A message ends with the last of its events. If some have to be
// redelivered, the whole message is, and this process skips the events that have
// ended. Close stores which these are; after a crash a sink may see them again,
// like any event.
const batchMagic = "HRB1"

const (
	batchHead = len(batchMagic) + 4
	frameHead = 4

	maxBatchBytes  = 256 << 10 // of a message with several events
	maxBatchEvents = 256
)

// errBatch reports a message that starts like a batch of frames but is none.
var errBatch = errors.New("not a batch of frames")

// batchLen is how many events a message has.
func batchLen(body []byte) int {
	if len(body) < batchHead || string(body[:len(batchMagic)]) != batchMagic {
		return 1
	}
	return max(1, int(binary.BigEndian.Uint32(body[len(batchMagic):])))
}

// splitBatch returns the frames of a message. They lie within body.
func splitBatch(body []byte) ([][]byte, error) {
	if !bytes.HasPrefix(body, []byte(batchMagic)) {
		return [][]byte{body}, nil
	}
	if len(body) < batchHead {
		return nil, fmt.Errorf("%w: cut short", errBatch)
	}
	n := int(binary.BigEndian.Uint32(body[len(batchMagic):]))
	rest := body[batchHead:]
	if n < 1 || n > len(rest)/frameHead {
		return nil, fmt.Errorf("%w: %d frames in %d bytes", errBatch, n, len(rest))
	}
	frames := make([][]byte, n)
	for i := range frames {
		if len(rest) < frameHead {
			return nil, fmt.Errorf("%w: cut short", errBatch)
		}
		size := int(binary.BigEndian.Uint32(rest))
		if rest = rest[frameHead:]; size > len(rest) {
			return nil, fmt.Errorf("%w: cut short", errBatch)
		}
		frames[i], rest = rest[:size:size], rest[size:]
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("%w: %d bytes left over", errBatch, len(rest))
	}
	return frames, nil
}

// batch is a message that is being made.
type batch struct {
	buf    *[]byte
	events int
}

// add appends an event's frame and returns its length.
func (b *batch) add(e *event.Event) (int, error) {
	buf := *b.buf
	if b.events == 0 {
		buf = append(append(buf[:0], batchMagic...), 0, 0, 0, 0)
	}
	at := len(buf)
	buf, err := e.AppendFrame(append(buf, 0, 0, 0, 0))
	*b.buf = buf
	if err != nil {
		b.drop(at)
		return 0, err
	}
	size := len(buf) - at - frameHead
	binary.BigEndian.PutUint32(buf[at:], uint32(size))
	b.events++
	return size, nil
}

// drop removes everything from position at on.
func (b *batch) drop(at int) { *b.buf = (*b.buf)[:at] }

// body is the message's: one event needs nothing around it.
func (b *batch) body() []byte {
	if b.events == 1 {
		return (*b.buf)[batchHead+frameHead:]
	}
	binary.BigEndian.PutUint32((*b.buf)[len(batchMagic):], uint32(b.events))
	return *b.buf
}

// partKey identifies a message in one queue. It includes the time since
// positions are reused if the end of the journal, or all of it, was lost.
type partKey struct {
	queue string
	seq   uint64
	nanos int64 // when it was stored
}

// maxParts limits the number of tracked messages: twice the default number of
// open messages. Beyond it one is forgotten, and its events may be delivered
// twice.
const maxParts = 2 * DefaultMaxAckPending

// parts tracks which events of a message a queue has ended. It outlives the
// delivery, so that only the remaining events are redelivered.
type parts struct {
	mu    sync.Mutex
	done  []bool
	open  int
	reply string // of the last delivery: the subject for its acknowledgement
}

// partsOf returns a message's parts, creating them if needed.
func (j *Journal) partsOf(key partKey, n int) *parts {
	j.partsMu.Lock()
	defer j.partsMu.Unlock()
	if p := j.parts[key]; p != nil && len(p.done) == n {
		return p
	}
	for old := range j.parts {
		if len(j.parts) < maxParts {
			break
		}
		delete(j.parts, old)
	}
	p := &parts{done: make([]bool, n), open: n}
	if j.parts == nil {
		j.parts = make(map[partKey]*parts)
	}
	j.parts[key] = p
	return p
}

func (j *Journal) forgetParts(key partKey) {
	j.partsMu.Lock()
	defer j.partsMu.Unlock()
	delete(j.parts, key)
}

// forgetQueue drops the parts of a queue's messages.
func (j *Journal) forgetQueue(name string) {
	j.partsMu.Lock()
	defer j.partsMu.Unlock()
	for key := range j.out {
		if key.queue == name {
			delete(j.out, key)
		}
	}
	for key := range j.ended {
		if key.queue == name {
			delete(j.ended, key)
		}
	}
	delete(j.recent, name)
	for key := range j.parts {
		if key.queue == name {
			delete(j.parts, key)
		}
	}
}

// settleParts makes known beyond this process which events of a message have
// ended where others have not: those are appended again, for their queue alone,
// and the message is acknowledged. What cannot be settled is redelivered as a
// whole.
func (j *Journal) acknowledgeParts(ctx context.Context, l *instance) error {
	j.partsMu.Lock()
	left := maps.Clone(j.parts)
	j.partsMu.Unlock()
	for key, p := range left {
		p.mu.Lock()
		some, done, reply := p.open > 0 && p.open < len(p.done), slices.Clone(p.done), p.reply
		p.mu.Unlock()
		if !some {
			continue
		}
		if err := l.acknowledgePart(ctx, key, done, reply); err != nil {
			return fmt.Errorf("settle a message of queue %s: %w", key.queue, err)
		}
		j.forgetParts(key)
	}
	return nil
}

func (l *instance) acknowledgePart(ctx context.Context, key partKey, done []bool, reply string) error {
	m, err := l.events.GetMsg(ctx, key.seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil
	} else if err != nil {
		return err
	}
	if m.Time.UnixNano() != key.nanos {
		return nil
	}
	frames, err := splitBatch(m.Data)
	if err != nil || len(frames) != len(done) {
		return err
	}
	for i, frame := range frames {
		if done[i] {
			continue
		}
		if _, err := l.ctlJS.PublishMsg(ctx, &nats.Msg{Subject: "replay." + key.queue + "." + subjectProject(m.Subject), Data: frame}); err != nil {
			return err
		}
	}
	return l.ctl.Publish(reply, []byte("+ACK"))
}

// openParts returns how many messages of several events a queue has out, and how
// many of their events have not ended.
func (j *Journal) openParts(name string) (messages, events int) {
	j.partsMu.Lock()
	defer j.partsMu.Unlock()
	for key, p := range j.parts {
		if key.queue == name {
			p.mu.Lock()
			events += p.open
			p.mu.Unlock()
			messages++
		}
	}
	return messages, events
}

// delivered is one delivery of a message of several events.
type delivered struct {
	acker // of the message
	parts *parts

	// Under parts.mu.
	left     int // events of this delivery that have not ended
	again    bool
	after    time.Duration // the longest requested delay
	extended time.Time
}

// part is one event of a delivery; it ends that event.
type part struct {
	of    *delivered
	i     int
	frame []byte
	ended bool // under of.parts.mu
}

func (p *part) Ack() error { return p.end(true, 0) }

func (p *part) Retry(after time.Duration) error { return p.end(false, after) }

func (p *part) Dead(reason string) error {
	if err := p.of.q.j.addDeadLetter(p.of.q.name, p.of.msg, p.frame, "."+strconv.Itoa(p.i), reason); err != nil {
		return err
	}
	return p.Ack()
}

// Extend extends the message, at most once a second, because its other events
// request it too.
func (p *part) Extend() error {
	d := p.of
	d.parts.mu.Lock()
	now := time.Now()
	due := now.Sub(d.extended) >= time.Second
	if due {
		d.extended = now
	}
	d.parts.mu.Unlock()
	if !due {
		return nil
	}
	return d.Extend()
}

// end ends one event, and the message with the last of them.
func (p *part) end(done bool, after time.Duration) error {
	d := p.of
	d.parts.mu.Lock()
	if p.ended {
		d.parts.mu.Unlock()
		return nil
	}
	p.ended = true
	if !done {
		d.again, d.after = true, max(d.after, after)
	} else if !d.parts.done[p.i] {
		d.parts.done[p.i] = true
		d.parts.open--
	}
	d.left--
	last, again, after := d.left == 0, d.again && d.parts.open > 0, d.after
	d.parts.mu.Unlock()
	switch {
	case !last:
		return nil
	case again:
		return d.Retry(after)
	}
	switch err := d.respond(wordAck); {
	case unanswered(err) && d.q.j.closing.Err() == nil:
		d.q.j.remember(d.key)
		d.q.j.forgetParts(d.key)
		return nil
	case err != nil:
		return fmt.Errorf("ack: %w", err)
	}
	d.acked()
	d.q.j.forgetParts(d.key)
	return nil
}

// sampled is the number of messages that are read to estimate the number of
// events. Up to that many messages the number is exact.
const sampled = 8

// meanFor is how long the mean of a sample is cached.
const meanFor = 10 * time.Second

// mean is how many events messages have, by a sample.
type mean struct {
	events, of uint64
	at         time.Time
}

// eventsIn reports the number of events in n messages of the subjects (none: any)
// from a position on. For more than sampled messages it is an estimate from as
// many, evenly spread, cached for a short time.
func (j *Journal) eventsIn(ctx context.Context, l *instance, n, first uint64, subjects ...string) (uint64, error) {
	if n == 0 {
		return 0, nil
	}
	if len(subjects) == 0 {
		subjects = []string{">"}
	}
	key := strings.Join(subjects, " ")
	j.partsMu.Lock()
	m := j.means[key]
	j.partsMu.Unlock()
	if n <= sampled || m.of == 0 || j.c.Now().Sub(m.at) > meanFor {
		var err error
		if m, err = l.sample(ctx, n, first, subjects); err != nil {
			return 0, fmt.Errorf("count events: %w", err)
		}
	}
	switch {
	case m.of == 0:
		return n, nil
	case m.of == n:
		return m.events, nil
	}
	j.partsMu.Lock()
	if j.means == nil {
		j.means = make(map[string]mean)
	}
	j.means[key] = m
	j.partsMu.Unlock()
	return max(n, n*m.events/m.of), nil
}

func (l *instance) sample(ctx context.Context, n, first uint64, subjects []string) (mean, error) {
	m := mean{at: l.j.c.Now()}
	for seq := first; m.of < min(n, sampled); {
		next, err := l.nextOf(ctx, seq, subjects)
		if err != nil {
			return m, err
		}
		if next == nil {
			break
		}
		m.of++
		m.events += uint64(batchLen(next.Data))
		seq = max(next.Sequence+1, first+n/sampled*m.of)
	}
	return m, nil
}

// nextOf is the first message of the subjects at or after a position. Nil if
// there is none.
func (l *instance) nextOf(ctx context.Context, seq uint64, subjects []string) (*jetstream.RawStreamMsg, error) {
	var first *jetstream.RawStreamMsg
	for _, s := range subjects {
		m, err := l.events.GetMsg(ctx, seq, jetstream.WithGetMsgSubject(s))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		} else if err != nil {
			return nil, err
		}
		if first == nil || m.Sequence < first.Sequence {
			first = m
		}
	}
	return first, nil
}
