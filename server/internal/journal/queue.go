package journal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Start is where a new queue begins.
type Start int

const (
	FromAll Start = iota // with the oldest event that the journal still has
	FromNow              // with the next event
)

// QueueOptions describes a queue. All but From may change from one opening to
// the next; From matters only when the queue is made.
type QueueOptions struct {
	// Project limits the queue to one project's events. Empty is every project.
	Project string

	// From is where a queue that does not exist yet begins. Defaults to FromAll.
	From Start

	// AckWait is after how long an unended delivery is redelivered. Defaults to
	// 30 s.
	AckWait time.Duration

	// MaxAckPending bounds the deliveries that are out and not ended, delayed
	// retries included: beyond it Fetch waits. Defaults to 20,000.
	MaxAckPending int

	// FetchBytes bounds one Fetch's frames in memory; one event always fits.
	// Defaults to 32 MiB.
	FetchBytes int
}

// Queue is a durable cursor over the journal for one sink; it implements
// [event.Queue]. A queue without readers keeps its position and its unread events.
// Delivery is at least once and, without retries, in the order of appending.
// Attempts are unlimited: the sink decides by [event.Delivery.Attempt] when to call
// Dead.
//
// While the journal is unavailable, Fetch waits. Earlier deliveries can still be
// acknowledged: the acknowledgement is kept in memory and sent when the event is
// redelivered.
type Queue struct {
	j    *Journal
	name string
	o    QueueOptions
	of   *cursor

	opening  sync.Mutex
	instance *instance // the one of cons
	cons     jetstream.Consumer

	mu      sync.Mutex
	held    []event.Delivery // fetched beyond the requested number: the rest of a message
	since   time.Time        // when held was fetched
	release func() bool      // stops the timer that returns held
	per     int              // events per message, as seen last

	lastAck atomic.Pointer[string] // the subject of the last acknowledgement
}

// cursor is the state of a queue in this process.
type cursor struct {
	made    atomic.Bool // it was there at some time: where it is not any more, it was lost
	deleted atomic.Bool // by DeleteQueue
}

var _ event.Queue = (*Queue)(nil)

// Queue opens the queue of that name, creating it if it does not exist. The name
// may have letters, digits, '-' and '_'. Several processes may fetch from one
// queue; each event then goes to one of them. Events fetched by a process that
// has ended are redelivered immediately if the journal is embedded, else after
// AckWait. If the journal is down, the queue is created once it works.
func (j *Journal) Queue(ctx context.Context, name string, o QueueOptions) (*Queue, error) {
	if !validToken(name) {
		return nil, event.Invalid("the queue's name is malformed", "use letters, digits, '-' and '_'")
	}
	if o.Project != "" && !validToken(o.Project) {
		return nil, event.Invalid("the queue's project id is malformed", "use letters, digits, '-' and '_'")
	}
	if j.closing.Err() != nil {
		return nil, errClosing
	}
	orDefault(&o.AckWait, DefaultAckWait)
	orDefault(&o.MaxAckPending, DefaultMaxAckPending)
	orDefault(&o.FetchBytes, DefaultFetchBytes)
	q := &Queue{j: j, name: name, o: o, per: 1}
	j.mu.Lock()
	if old := j.queues[name]; old != nil && !old.of.deleted.Load() {
		q.of = old.of
	} else {
		q.of = new(cursor)
	}
	j.queues[name] = q
	j.mu.Unlock()
	if l, err := j.up(); err == nil {
		if _, err := q.open(ctx, l); err != nil && event.AsError(err).Code != event.CodeUnavailable {
			return nil, err
		}
	}
	return q, nil
}

// open returns the queue's consumer for an instance of the store.
func (q *Queue) open(ctx context.Context, l *instance) (jetstream.Consumer, error) {
	q.opening.Lock()
	defer q.opening.Unlock()
	if q.of.deleted.Load() {
		return nil, jetstream.ErrConsumerDeleted
	}
	if q.instance == l {
		return q.cons, nil
	}
	cons, err := l.openQueue(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("open queue %s: %w", q.name, l.lost(err))
	}
	q.instance, q.cons = l, cons
	q.of.made.Store(true)
	return cons, nil
}

func (l *instance) openQueue(ctx context.Context, q *Queue) (jetstream.Consumer, error) {
	name := q.name
	want := jetstream.ConsumerConfig{
		Durable:        name,
		Description:    "hedgerow: a sink's cursor",
		FilterSubjects: queueFilters(name, q.o.Project),
		AckPolicy:      jetstream.AckExplicitPolicy,
		AckWait:        q.o.AckWait,
		MaxAckPending:  q.o.MaxAckPending,
		MaxDeliver:     -1,
		DeliverPolicy:  jetstream.DeliverAllPolicy,
	}
	first := l.firstOpened(name)
	cons, err := l.events.Consumer(ctx, name)
	switch {
	case errors.Is(err, jetstream.ErrConsumerNotFound):
		damaged, err := l.dropUnreadable(name)
		if err != nil {
			return nil, err
		}
		lost := damaged || q.of.made.Load() // rather all again than any not at all
		if q.o.From == FromNow && !lost {
			// Not "new", which a recovery without the cursor would again
			// interpret as now.
			si, err := l.events.Info(ctx)
			if err != nil {
				return nil, err
			}
			want.DeliverPolicy, want.OptStartSeq = jetstream.DeliverByStartSequencePolicy, si.State.LastSeq+1
		}
		cons, err = l.events.CreateConsumer(ctx, want)
		if errors.Is(err, jetstream.ErrConsumerExists) { // another process made it meanwhile
			cons, err = l.events.Consumer(ctx, name)
		}
		return cons, err
	case err != nil:
		return nil, err
	}
	have := cons.CachedInfo().Config
	if have.AckWait != want.AckWait || have.MaxAckPending != want.MaxAckPending || !sameFilters(have.FilterSubjects, want.FilterSubjects) {
		// Its start cannot be changed, and must be repeated.
		have.AckWait, have.MaxAckPending, have.FilterSubjects = want.AckWait, want.MaxAckPending, want.FilterSubjects
		if cons, err = l.events.UpdateConsumer(ctx, have); err != nil {
			return nil, err
		}
	}
	if first && cons.CachedInfo().NumAckPending > 0 {
		return l.recreateConsumer(ctx, have)
	}
	return cons, nil
}

// firstOpened reports whether the queue is opened for the first time in this
// instance of an embedded store, which only this process uses: earlier deliveries
// are lost, or being processed by this process.
func (l *instance) firstOpened(name string) bool {
	j := l.j
	if l.srv == nil {
		return false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.opened[name] == l {
		return false
	}
	if j.opened == nil {
		j.opened = make(map[string]*instance)
	}
	j.opened[name] = l
	return true
}

// bringBack redelivers events that were fetched earlier and did not end,
// immediately instead of after AckWait. JetStream has no call for that; but
// it checks all open deliveries 100 ms after AckWait was changed.
func (l *instance) recreateConsumer(ctx context.Context, c jetstream.ConsumerConfig) (jetstream.Consumer, error) {
	soon := c
	soon.AckWait = time.Millisecond
	if _, err := l.events.UpdateConsumer(ctx, soon); err != nil {
		return nil, err
	}
	select {
	case <-ctx.Done(): // the next to open it finds AckWait changed, and puts it right
		return nil, ctx.Err()
	case <-time.After(250 * time.Millisecond):
	}
	return l.events.UpdateConsumer(ctx, c)
}

// queueFilters returns a queue's subjects: the events, and those replayed to
// this queue alone.
func queueFilters(name, project string) []string {
	if project == "" {
		project = "*"
	}
	return []string{"events." + project, "replay." + name + "." + project}
}

func sameFilters(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// Name returns the queue's name.
func (q *Queue) Name() string { return q.name }

const (
	idleWait   = 9 * time.Second  // one waiting pull of an idle queue
	minWait    = time.Millisecond // a pull must wait for something
	lastMoment = 5 * time.Millisecond
	heartbeat  = 2 * time.Second // of a user's own NATS servers in a long pull
)

// Fetch implements [event.Queue]. A frame that cannot be decoded becomes a dead
// letter and is not returned. If ctx ends before the first event, Fetch returns
// its error; otherwise it returns the events without an error. It waits while the
// journal is down. Once the journal closes, the error is an [*event.Error] of
// code [event.CodeUnavailable]; once the queue is deleted, of
// [event.CodeNotFound].
func (q *Queue) Fetch(ctx context.Context, max int, wait time.Duration) ([]event.Delivery, error) {
	if max < 1 {
		return nil, event.Invalid("a fetch of no events", "ask for one or more")
	}
	callerCtx := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(q.j.closing, cancel)()
	out := q.unheld(max)
	for len(out) == 0 {
		if q.j.closing.Err() != nil {
			return nil, errClosing
		}
		if err := callerCtx.Err(); err != nil {
			return nil, err
		}
		l, err := q.j.waitReady(ctx)
		if err != nil {
			continue // the loop checks the reasons
		}
		msgs, err := q.pull(ctx, l, 1, 0, idleWait)
		if err != nil {
			return nil, err
		}
		out = q.decode(out, l, msgs)
	}
	room := q.o.FetchBytes
	for _, d := range out {
		room -= d.Bytes
	}
	end := time.Now().Add(wait)
	for first := true; len(out) < max && room > 0; first = false {
		left := time.Until(end)
		if left < minWait && !first {
			break
		}
		q.mu.Lock()
		want := (max - len(out) + q.per - 1) / q.per
		q.mu.Unlock()
		l := q.j.now.Load()
		if l == nil {
			break
		}
		// An error after the first delivery is left to the next call: these are
		// valid.
		msgs, err := q.pull(ctx, l, want, room, maxDuration(left, minWait))
		n := len(out)
		out = q.decode(out, l, msgs)
		for _, d := range out[n:] {
			room -= d.Bytes
		}
		if err != nil || len(msgs) < want {
			break
		}
	}
	return q.hold(callerCtx, out, max), nil
}

// unheld takes up to max of the deliveries that were fetched before. Those that
// lay here for so long that they are about to be redelivered are left to that.
func (q *Queue) unheld(max int) []event.Delivery {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.release != nil {
		q.release()
		q.release = nil
	}
	q.held = slices.DeleteFunc(q.held, q.stale)
	n := min(max, len(q.held))
	out := q.held[:n:n]
	q.held = q.held[n:]
	return out
}

// stale reports whether a held delivery is about to be redelivered.
func (q *Queue) stale(d event.Delivery) bool {
	at := q.since
	if p, ok := d.Acker.(*part); ok {
		p.of.parts.mu.Lock()
		if p.of.extended.After(at) { // by another event of the message
			at = p.of.extended
		}
		p.of.parts.mu.Unlock()
	}
	return time.Since(at) > q.o.AckWait*3/4
}

// hold keeps deliveries beyond max for the next call. If ctx ends first, they
// return to the journal for any consumer.
func (q *Queue) hold(ctx context.Context, out []event.Delivery, max int) []event.Delivery {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(out) > max {
		q.held, q.since = out[max:], time.Now()
		out = out[:max:max]
	}
	if len(q.held) > 0 {
		q.release = context.AfterFunc(ctx, func() {
			q.mu.Lock()
			held := q.held
			q.held = nil
			q.mu.Unlock()
			for _, d := range held {
				if err := d.Retry(0); err != nil {
					return // it is redelivered after AckWait
				}
			}
		})
	}
	return out
}

func maxDuration(a, b time.Duration) time.Duration { return max(a, b) }

// pull requests up to n messages of at most maxBytes together (0: any) and
// waits at most wait. The server ends the request, and pull waits for that: a
// message that arrived after a local timeout would be redelivered only after
// AckWait. The request ends locally with ctx or with the server.
func (q *Queue) pull(ctx context.Context, l *instance, n, maxBytes int, wait time.Duration) ([]jetstream.Msg, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(l.over, cancel)()
	cons, err := q.open(ctx, l)
	if err != nil {
		if ctx.Err() != nil {
			return nil, nil // the loop in Fetch checks it
		}
		return nil, q.fetchError(ctx, l, err)
	}
	if end, ok := ctx.Deadline(); ok {
		left := time.Until(end)
		if left < lastMoment {
			<-ctx.Done()
			return nil, nil
		}
		wait = min(wait, left-max(left/10, lastMoment/2))
	}
	pullCtx := pullContext{ctx, wait}
	opts := []jetstream.FetchOpt{jetstream.FetchContext(pullCtx)}
	if maxBytes > 0 {
		opts = append(opts, jetstream.FetchMaxBytes(maxBytes))
	}
	if l.srv == nil && wait >= 2*heartbeat {
		// A server that restarts forgets the request: silence must be noticed.
		opts = append(opts, jetstream.FetchHeartbeat(heartbeat))
	}
	batch, err := cons.Fetch(n, opts...)
	if err != nil {
		if ctx.Err() != nil {
			return nil, nil
		}
		return nil, q.fetchError(ctx, l, err)
	}
	var msgs []jetstream.Msg
	for m := range batch.Messages() {
		msgs = append(msgs, m)
	}
	if err := batch.Error(); err != nil && len(msgs) == 0 && ctx.Err() == nil {
		return nil, q.fetchError(ctx, l, err)
	}
	return msgs, nil
}

// pullContext ends with its Context and sets the server's wait: FetchContext
// requests the time until the deadline, less a tenth of it (at most a second).
type pullContext struct {
	context.Context
	wait time.Duration
}

func (c pullContext) Deadline() (time.Time, bool) {
	return time.Now().Add(min(c.wait*10/9, c.wait+time.Second)), true
}

func (q *Queue) fetchError(ctx context.Context, l *instance, err error) error {
	if q.j.closing.Err() != nil {
		return errClosing
	}
	gone := errors.Is(err, jetstream.ErrConsumerDeleted) || errors.Is(err, jetstream.ErrConsumerNotFound)
	if errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrNoHeartbeat) { // of the queue, or of all JetStream?
		askCtx, cancel := context.WithTimeout(ctx, heartbeat)
		_, aerr := l.events.Consumer(askCtx, q.name)
		cancel()
		gone = errors.Is(aerr, jetstream.ErrConsumerNotFound)
	}
	if gone {
		return event.NewError(event.CodeNotFound, fmt.Sprintf("the queue %s does not exist any more", q.name), "open it again", err)
	}
	return fmt.Errorf("fetch from queue %s: %w", q.name, l.lost(err))
}

// decode appends the deliveries of msgs to out.
func (q *Queue) decode(out []event.Delivery, l *instance, msgs []jetstream.Msg) []event.Delivery {
	if len(msgs) == 0 {
		return out
	}
	events := 0
	for _, m := range msgs {
		events += batchLen(m.Data())
	}
	q.mu.Lock()
	q.per = max(1, events/len(msgs))
	q.mu.Unlock()
	out = slices.Grow(out, min(events, len(msgs)*maxBatchEvents))
	for _, m := range msgs {
		a := acker{q: q, msg: m}
		md, err := m.Metadata()
		if err != nil {
			a.unreadable(fmt.Errorf("unreadable metadata: %w", err))
			continue
		}
		a.key = partKey{q.name, md.Sequence.Stream, md.Timestamp.UnixNano()}
		if q.j.endedBefore(a.key) {
			a.endAgain()
			continue
		}
		if !q.j.handOut(a.key, l) {
			continue
		}
		frames, err := splitBatch(m.Data())
		if err != nil {
			a.unreadable(fmt.Errorf("%w of %d bytes", errUnreadable, len(m.Data())))
			continue
		}
		d := event.Delivery{Seq: md.Sequence.Stream, Attempt: int(md.NumDelivered), At: md.Timestamp, Resent: strings.HasPrefix(m.Subject(), "replay.")}
		if len(frames) > 1 {
			out = q.decodeParts(out, d, a, frames)
			continue
		}
		if d.Event, err = decodeEvent(m.Subject(), frames[0]); err != nil {
			a.unreadable(err)
			continue
		}
		d.Bytes, d.Acker = len(frames[0]), &a
		out = append(out, d)
	}
	return out
}

// decodeParts appends the events of a message that have not ended. d has their
// common fields.
func (q *Queue) decodeParts(out []event.Delivery, d event.Delivery, a acker, frames [][]byte) []event.Delivery {
	of := &delivered{acker: a}
	of.parts = q.j.partsOf(of.key, len(frames))
	of.parts.mu.Lock()
	list := make([]part, 0, of.parts.open)
	for i, frame := range frames {
		if !of.parts.done[i] {
			list = append(list, part{of: of, i: i, frame: frame})
		}
	}
	of.left, of.parts.reply = len(list), a.msg.Reply()
	of.parts.mu.Unlock()
	if len(list) == 0 {
		a.endAgain()
		return out
	}
	for i := range list {
		p := &list[i]
		e, err := decodeEvent(a.msg.Subject(), p.frame)
		if err != nil {
			p.of.logUnreadable(p.Dead(err.Error()))
			continue
		}
		d.Event, d.Bytes, d.Acker = e, len(p.frame), p
		out = append(out, d)
	}
	return out
}

// errUnreadable begins the reason of every dead letter that the journal itself
// makes. The decoder's own words are left out: they can quote the frame.
var errUnreadable = errors.New("unreadable frame")

// decodeEvent reads a message's body and makes sure that it belongs where it
// was found, so that one project's event can never reach another's sink.
func decodeEvent(subject string, frame []byte) (*event.Event, error) {
	e, err := event.DecodeFrame(frame)
	if err != nil {
		return nil, fmt.Errorf("%w of %d bytes", errUnreadable, len(frame))
	}
	if project := subjectProject(subject); e.ProjectID != project {
		return nil, fmt.Errorf("%w: filed under a project that is not its own", errUnreadable)
	}
	return e, nil
}

// subjectProject is the last token of events.<project>, replay.<queue>.<project>
// and dead.<queue>.<project>.
func subjectProject(subject string) string {
	return subject[strings.LastIndexByte(subject, '.')+1:]
}

// QueueInfo is the state of a queue.
type QueueInfo struct {
	Name    string
	Project string // empty: every project

	Pending     uint64    // events not delivered yet; an estimate where many share messages
	AckPending  int       // delivered, not ended: at work, or waiting for a retry
	Redelivered int       // of AckPending, those delivered more than once
	LastAck     time.Time // of this queue; zero if there was none since the start
	Ended       uint64    // position up to which the queue has ended all of its events

	// OldestUnacked is the age of the oldest event that the queue has not
	// ended: how far it lags. Zero if it does not lag.
	OldestUnacked time.Duration
}

// Lag returns the state of the queue of that name, or an [*event.Error] of code
// [event.CodeNotFound].
func (j *Journal) Lag(ctx context.Context, name string) (QueueInfo, error) {
	l, err := j.up()
	if err != nil {
		return QueueInfo{}, err
	}
	cons, err := l.events.Consumer(ctx, name)
	if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrInvalidConsumerName) {
		return QueueInfo{}, noQueue(name)
	} else if err != nil {
		return QueueInfo{}, fmt.Errorf("lag of queue %s: %w", name, l.lost(err))
	}
	return j.queueInfo(ctx, l, cons.CachedInfo())
}

func noQueue(name string) error {
	return event.NewError(event.CodeNotFound, fmt.Sprintf("queue %s not found", name), "see the list of connections", nil)
}

// Queues returns the state of every queue, sorted by name.
func (j *Journal) Queues(ctx context.Context) ([]QueueInfo, error) {
	l, err := j.up()
	if err != nil {
		return nil, err
	}
	infos, err := l.consumers(ctx)
	if err != nil {
		return nil, l.lost(err)
	}
	out := make([]QueueInfo, 0, len(infos))
	for _, ci := range infos {
		qi, err := j.queueInfo(ctx, l, ci)
		if err != nil {
			return nil, l.lost(err)
		}
		out = append(out, qi)
	}
	slices.SortFunc(out, func(a, b QueueInfo) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// consumers lists the durable consumers of the events.
func (l *instance) consumers(ctx context.Context) ([]*jetstream.ConsumerInfo, error) {
	list := l.events.ListConsumers(ctx)
	var out []*jetstream.ConsumerInfo
	for ci := range list.Info() {
		if ci.Config.Durable != "" {
			out = append(out, ci)
		}
	}
	if err := list.Err(); err != nil {
		return nil, fmt.Errorf("list queues: %w", err)
	}
	return out, nil
}

func (j *Journal) queueInfo(ctx context.Context, l *instance, ci *jetstream.ConsumerInfo) (QueueInfo, error) {
	qi := QueueInfo{
		Name:        ci.Name,
		Pending:     ci.NumPending,
		AckPending:  ci.NumAckPending,
		Redelivered: ci.NumRedelivered,
		Ended:       ci.AckFloor.Stream,
	}
	if ci.AckFloor.Last != nil {
		qi.LastAck = *ci.AckFloor.Last
	}
	if p := subjectProject(ci.Config.FilterSubjects[0]); p != "*" {
		qi.Project = p
	}
	if qi.Pending == 0 && qi.AckPending == 0 {
		return qi, nil
	}
	var err error
	if qi.Pending, err = j.eventsIn(ctx, l, ci.NumPending, ci.Delivered.Stream+1, ci.Config.FilterSubjects...); err != nil {
		return qi, err
	}
	if messages, events := j.openParts(ci.Name); messages > 0 {
		qi.AckPending = max(0, qi.AckPending-messages) + events
	}
	oldest, err := l.oldestUnacked(ctx, ci)
	if err != nil {
		return qi, err
	}
	if oldest != nil {
		qi.OldestUnacked = max(0, j.c.Now().Sub(oldest.Time))
	}
	return qi, nil
}

// oldestUnacked returns the queue's first message after its floor, or nil:
// with a filter the floor stays at the last match.
func (l *instance) oldestUnacked(ctx context.Context, ci *jetstream.ConsumerInfo) (*jetstream.RawStreamMsg, error) {
	oldest, err := l.nextOf(ctx, ci.AckFloor.Stream+1, ci.Config.FilterSubjects)
	if err != nil {
		return nil, fmt.Errorf("oldest event of queue %s: %w", ci.Name, err)
	}
	return oldest, nil
}

// DeleteQueue deletes the queue and its cursor; events that only it had not
// acknowledged can then be deleted. Its dead letters stay. It returns an
// [*event.Error] of code [event.CodeNotFound] if the queue does not exist.
func (j *Journal) DeleteQueue(ctx context.Context, name string) error {
	if !validToken(name) {
		return noQueue(name)
	}
	l, err := j.up()
	if err != nil {
		return err
	}
	err = l.events.DeleteConsumer(ctx, name)
	if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return fmt.Errorf("delete queue %s: %w", name, l.lost(err))
	}
	j.mu.Lock()
	if q := j.queues[name]; q != nil { // a fetch must not create it again
		q.of.deleted.Store(true)
		delete(j.queues, name)
	}
	j.mu.Unlock()
	j.forgetQueue(name)
	if len(j.c.Essential) > 0 {
		if gerr := l.changeGaps(ctx, name, func([]Gap) []Gap { return nil }); gerr != nil {
			j.log.Warn("remove the gaps of a deleted queue", "queue", name, "err", gerr)
		}
	}
	if err != nil {
		if damaged, err := l.dropUnreadable(name); damaged || err != nil {
			return err
		}
		return noQueue(name)
	}
	return nil
}

// dropUnreadable removes the files of a queue whose cursor could not be read,
// and reports whether it was one.
func (l *instance) dropUnreadable(name string) (bool, error) {
	j := l.j
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.unreadable[name] {
		return false, nil
	}
	if err := os.RemoveAll(filepath.Join(l.srv.queuesDir(), name)); err != nil {
		return true, unwritable(j.c.Dir, err)
	}
	delete(j.unreadable, name)
	return true, nil
}
