package join

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hedgerow/hedgerow/event"
)

// JoinWindow is how long a call waits for its other half.
const JoinWindow = time.Hour

// DefaultHold is how long delivery waits for the other half of a call where one is
// expected. Wrappers send in batches, most of them every 5 to 10 s.
const DefaultHold = 20 * time.Second

const (
	joinEntries = 100_000  // calls that are remembered; about 50 MB
	joinBytes   = 64 << 20 // of what merges will take of them
	joinAlike   = 64       // of which so many look the same

	holdSlack   = time.Second     // by which delivery waits longer than [Merge.Late] counts
	settleWait  = 2 * time.Second // for the joiner to read what delivery has read already
	fetchEvents = 2000
	fetchWait   = 20 * time.Millisecond
	retryWait   = 250 * time.Millisecond
	extendEvery = 10 * time.Second
)

// Appender stores events. nil means that all of them are stored.
type Appender interface {
	Append(ctx context.Context, events ...*event.Event) error
}

// Merges finds the merges of an event that are older than what a [Joiner] remembers.
type Merges interface {
	// MergesOf returns the merges that name an event of a project.
	MergesOf(ctx context.Context, project, uuid string) ([]*event.Event, error)
}

// JoinerConfig says what a Joiner is made of.
type JoinerConfig struct {
	// Open begins the joiner's queue of the journal anew, with the oldest event that was
	// appended since a time.
	Open func(ctx context.Context, since time.Time) (event.Queue, error)
	// Behind returns how many events of the queue have not been fetched.
	Behind func(ctx context.Context) (uint64, error)
	// Journal is where merges are appended.
	Journal Appender
	// Merges knows what the joiner does not remember. nil knows nothing.
	Merges Merges

	// Gateway reports whether a base URL is one of this hedgerow's gateway. A
	// wrapper that names one has captured a call that the gateway has seen, even
	// where it does not say which. nil knows none.
	Gateway func(baseURL string) bool

	Hold       time.Duration         // see [DefaultHold], the default; below 0 is no time at all
	Logger     *slog.Logger          // nil: no log
	Registerer prometheus.Registerer // nil: no metrics
	Now        func() time.Time      // nil: time.Now
}

// Joiner recognises calls that come through two receivers. It reads the journal, and
// appends a merge for each pair. See the package comment.
type Joiner struct {
	c            JoinerConfig
	seed         maphash.Seed
	joined, late prometheus.Counter

	mu       sync.Mutex
	ready    bool          // the last hour was read
	progress chan struct{} // closed, and made anew, when more has been read
	seq      uint64        // of the last event that was read
	since    time.Time     // calls that were appended later are all remembered
	calls    map[string]*seenCall
	seen     map[uint64][]*seenCall // by mark, the oldest first
	order    []*seenCall            // the oldest first
	bytes    int                    // of their halves
	heard    map[heardOf]time.Time
}

// heardOf is a kind of report that a project had.
type heardOf struct {
	project string
	kind    string // event.SourceGateway, wrapper or double
}

const (
	wrapper = "wrapper" // anything but the gateway
	double  = "double"  // a pair of which neither half is the gateway's
)

// seenCall is a capture of a call.
type seenCall struct {
	project, uuid string
	at            time.Time // when it was appended
	facts         facts
	marks         []uint64
	half          []byte // frame of what a merge takes of it

	expects bool      // the other half was expected when it came
	left    bool      // delivery did not wait any longer
	pairing bool      // a merge of it is on its way to the journal
	merges  []*merged // that name it, in their order
	into    *seenCall // the capture that counts instead
	others  []facts   // of those that were joined to it
	sent    string    // uuid of the capture that PostHog gets
}

// merged is a merge that the journal has.
type merged struct {
	Merge
	event *event.Event
}

// NewJoiner returns a Joiner that has read nothing yet.
func NewJoiner(c JoinerConfig) (*Joiner, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Hold == 0 {
		c.Hold = DefaultHold
	}
	c.Hold = max(c.Hold, 0)
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "hedgerow", Subsystem: "ingest", Name: name, Help: help})
	}
	j := &Joiner{c: c, seed: maphash.MakeSeed(), progress: make(chan struct{}),
		joined: counter("joined_total", "Events of calls that had been captured before: merged, counted once."),
		late:   counter("late_merges_total", "Of these, such as came when the first capture could have been sent to PostHog: merged in the store only."),
	}
	if c.Registerer != nil {
		if err := errors.Join(c.Registerer.Register(j.joined), c.Registerer.Register(j.late)); err != nil {
			return nil, fmt.Errorf("join: register metrics: %w", err)
		}
	}
	return j, nil
}

// Run reads the journal until ctx ends: first the last hour, of which it appends the
// merges that are missing, then what comes. It runs once at a time.
func (j *Joiner) Run(ctx context.Context) error {
	since := j.c.Now().Add(-JoinWindow)
	j.reset(since)
	q, err := j.c.Open(ctx, since)
	if err != nil {
		return fmt.Errorf("join: open queue: %w", err)
	}
	for caughtUp := false; ctx.Err() == nil; {
		if !caughtUp {
			n, err := j.c.Behind(ctx)
			if err != nil {
				if ctx.Err() != nil {
					return nil
				}
				return fmt.Errorf("join: %w", err)
			}
			if n == 0 {
				if err := j.append(ctx, j.missing(), nil); err != nil {
					return nil // ctx has ended
				}
				j.mu.Lock()
				j.ready, caughtUp = true, true
				j.step()
				j.mu.Unlock()
			}
		}
		ds, err := q.Fetch(ctx, fetchEvents, fetchWait)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("join: read the journal: %w", err)
		}
		if err := j.append(ctx, j.take(ds, caughtUp), ds); err != nil {
			return nil
		}
		for _, d := range ds {
			if err := d.Ack(); err != nil {
				j.c.Logger.Debug("acknowledge what was joined", "err", err)
			}
		}
	}
	return nil
}

// append appends merges, however long that takes, and makes them known. Only then does
// delivery learn that their calls were read.
func (j *Joiner) append(ctx context.Context, merges []*event.Event, ds []event.Delivery) error {
	extended := j.c.Now()
	for len(merges) > 0 {
		err := j.c.Journal.Append(ctx, merges...)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		j.c.Logger.Warn("merges of calls that were captured twice cannot be appended to the journal; hedgerow tries again", "err", err, "merges", len(merges))
		if j.c.Now().Sub(extended) > extendEvery {
			extended = j.c.Now()
			for _, d := range ds {
				_ = d.Extend() // else it comes again, and is known then
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(retryWait):
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range merges {
		if m, ok := j.learn(e, j.c.Now()); ok {
			j.joined.Inc()
			if m.Late {
				j.late.Inc()
			}
		}
	}
	for _, d := range ds {
		j.seq = max(j.seq, d.Seq)
	}
	j.step()
	return nil
}

func (j *Joiner) reset(since time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.ready, j.seq, j.since, j.order, j.bytes = false, 0, since, nil, 0
	j.calls, j.seen, j.heard = make(map[string]*seenCall), make(map[uint64][]*seenCall), make(map[heardOf]time.Time)
}

// step wakes whoever waits for the joiner to read on. The caller holds mu.
func (j *Joiner) step() {
	close(j.progress)
	j.progress = make(chan struct{})
}

// take notes what was read. With pair it returns the merges of calls of which this is the
// second half.
func (j *Joiner) take(ds []event.Delivery, pair bool) (merges []*event.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, d := range ds {
		e := d.Event
		if e.IsMerge() {
			j.learn(e, d.At)
			continue
		}
		if !e.IsCosted() || j.calls[e.UUID] != nil {
			continue
		}
		c := j.note(e, d.At)
		if c == nil || !pair {
			continue
		}
		if m := j.pair(c); m != nil {
			merges = append(merges, m)
		}
	}
	if pair {
		j.forget(j.c.Now().Add(-JoinWindow))
	}
	return merges
}

// missing returns the merges that the journal should have of what was read, and has not:
// hedgerow was killed before it appended them.
func (j *Joiner) missing() (merges []*event.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.forget(j.since)
	for _, c := range j.order {
		if c.into == nil && len(c.merges) == 0 {
			if m := j.pair(c); m != nil {
				merges = append(merges, m)
			}
		}
	}
	return merges
}

// note remembers a call. The caller holds mu.
func (j *Joiner) note(e *event.Event, at time.Time) *seenCall {
	c := &seenCall{project: strings.Clone(e.ProjectID), uuid: strings.Clone(e.UUID), at: at, facts: factsOf(e).kept(), marks: j.marks(e)}
	c.sent = c.uuid
	gateway := e.Source == event.SourceGateway
	heard := func(kind string) bool {
		t, ok := j.heard[heardOf{c.project, kind}]
		return ok && at.Sub(t) <= JoinWindow
	}
	switch {
	case gateway:
		c.expects = heard(wrapper)
		j.heard[heardOf{c.project, event.SourceGateway}] = at
	default:
		c.expects = heard(double) || heard(event.SourceGateway) || e.BaseURL != "" && j.c.Gateway != nil && j.c.Gateway(e.BaseURL)
		j.heard[heardOf{c.project, wrapper}] = at
	}
	var err error
	if c.half, err = said(e).AppendFrame(nil); err != nil {
		j.c.Logger.Warn("a call cannot be joined", "uuid", e.UUID, "err", err)
		return nil
	}
	j.calls[c.uuid] = c
	for _, key := range c.marks {
		if alike := j.seen[key]; len(alike) >= joinAlike {
			j.seen[key] = append(alike[:0], alike[len(alike)-joinAlike+1:]...)
		}
		j.seen[key] = append(j.seen[key], c)
	}
	j.order = append(j.order, c)
	j.bytes += len(c.half)
	for len(j.order) > joinEntries || j.bytes > joinBytes {
		j.drop()
	}
	return c
}

// forget drops what was appended before a time. The caller holds mu.
func (j *Joiner) forget(before time.Time) {
	for len(j.order) > 0 && j.order[0].at.Before(before) {
		j.drop()
	}
}

// drop forgets the oldest call. The caller holds mu.
func (j *Joiner) drop() {
	c := j.order[0]
	j.order[0] = nil
	j.order = j.order[1:]
	if c.at.After(j.since) {
		j.since = c.at
	}
	delete(j.calls, c.uuid)
	j.bytes -= len(c.half)
	for _, key := range c.marks {
		left := j.seen[key][:0]
		for _, o := range j.seen[key] {
			if o != c {
				left = append(left, o)
			}
		}
		if len(left) == 0 {
			delete(j.seen, key)
		} else {
			j.seen[key] = left
		}
	}
}

// marks returns what a call is looked up by, before [Joiner.same] compares the two: the
// provider's id of the completion and, for calls of the gateway and those that name no
// id, how many tokens it had. Two calls with equal counts may be taken for each other.
// That is no harm: both receivers have seen both.
func (j *Joiner) marks(e *event.Event) []uint64 {
	hash := func(kind, s string) uint64 {
		var h maphash.Hash
		h.SetSeed(j.seed)
		for _, part := range []string{kind, e.ProjectID, s} {
			_, _ = h.WriteString(part)
			_ = h.WriteByte(0)
		}
		return h.Sum64()
	}
	var keys []uint64
	if e.CompletionID != "" {
		keys = append(keys, hash("id", e.CompletionID))
	}
	if e.Source == event.SourceGateway || e.CompletionID == "" {
		keys = append(keys, hash(e.Name, strconv.FormatInt(e.Usage.Input.Or(0), 10)+"/"+strconv.FormatInt(e.Usage.Output.Or(0), 10)))
	}
	return keys
}

// pair finds the other half of a call among those that came before it, and returns the
// merge of the two. The caller holds mu.
func (j *Joiner) pair(c *seenCall) *event.Event {
	var found *seenCall
	for _, key := range c.marks {
		for _, o := range j.seen[key] {
			if o == c || o.at.After(c.at) || c.at.Sub(o.at) > JoinWindow || o.into != nil || o.joins(c.facts) || !j.same(c.facts, o.facts) {
				continue
			}
			if found == nil || !found.facts.overlaps(c.facts) && o.facts.overlaps(c.facts) {
				found = o // of several that look the same the one of that moment
			}
		}
		if found != nil {
			break
		}
	}
	if found == nil {
		return nil
	}
	call, half := found, c
	m := Merge{}
	switch {
	case c.facts.source == event.SourceGateway:
		call, half = c, found
	case found.facts.source == event.SourceGateway:
	case c.facts.within(found.facts):
		call, half, m.Span = c, found, true
	case found.facts.within(c.facts):
		m.Span = true
	}
	m.Call, m.Half, m.Sent = call.uuid, half.uuid, call.uuid
	if m.Late = !found.expects || found.left || c.at.Sub(found.at) >= j.c.Hold; m.Late {
		m.Sent = found.sent
	}
	if call.facts.trace != half.facts.trace || call.facts.span != half.facts.span {
		m.Trace, m.SpanID = call.facts.trace, call.facts.span
	}
	said, err := event.DecodeFrame(half.half)
	if err == nil && m.Span {
		said = &event.Event{ProjectID: said.ProjectID} // it says so itself
	}
	var e *event.Event
	if err == nil {
		e, err = newMerge(m, said, found.at)
	}
	if err != nil {
		j.c.Logger.Warn("a call cannot be joined", "uuid", c.uuid, "err", err)
		return nil
	}
	half.into, half.pairing, call.pairing = call, true, true // no other call of this batch is joined to it
	call.sent = m.Sent
	call.others = append(call.others, half.facts)
	return e
}

// joins reports whether a capture of that kind was joined to the call already: one
// instrumentation reports a call once.
func (c *seenCall) joins(f facts) bool {
	for _, o := range c.others {
		if o.source == f.source && o.by == f.by {
			return true
		}
	}
	return false
}

// learn notes a merge that the journal has, unless it is known. The caller holds mu.
func (j *Joiner) learn(e *event.Event, at time.Time) (m Merge, fresh bool) {
	m, ok := MergeOf(e)
	if !ok {
		return m, false
	}
	call, half := j.calls[m.Call], j.calls[m.Half]
	for _, c := range []*seenCall{call, half} {
		if c == nil {
			continue
		}
		c.pairing = false
		known := false
		for _, have := range c.merges {
			known = known || have.event.UUID == e.UUID
		}
		if !known {
			c.merges = append(c.merges, &merged{m, e})
			fresh = true
		}
	}
	if call == nil || half == nil {
		return m, fresh
	}
	if half.into == nil {
		half.into, call.sent = call, m.Sent
		call.others = append(call.others, half.facts)
	}
	if call.facts.source != event.SourceGateway && fresh {
		j.heard[heardOf{call.project, double}] = at
	}
	return m, fresh
}

// Verdict says what delivery does with an event.
type Verdict struct {
	Drop bool          // it does not leave: the other capture of its call does
	Wait time.Duration // it is to be asked about again after this time; 0 means that it leaves
}

// Settle says what delivery does with an event of the journal: a call that another half
// is expected of waits; of a call that was captured twice one half leaves, with what the
// merge gives it, in place. An error says that it is to be asked about again.
func (j *Joiner) Settle(ctx context.Context, d event.Delivery) (Verdict, error) {
	e := d.Event
	if !e.IsCosted() {
		return Verdict{Drop: e.IsMerge()}, nil
	}
	timeout := time.NewTimer(settleWait)
	defer timeout.Stop()
	for {
		j.mu.Lock()
		c, ready, progress := j.calls[e.UUID], j.ready, j.progress
		read := d.Seq < j.seq || d.Seq == j.seq && c != nil
		if ready && c != nil && read {
			defer j.mu.Unlock()
			return j.settle(c, e), nil
		}
		j.mu.Unlock()
		if ready && d.Seq < j.seqNow() {
			break // too old to be remembered, or for this connection alone
		}
		select {
		case <-progress:
			continue
		case <-ctx.Done():
			return Verdict{Wait: retryWait}, nil
		case <-timeout.C:
		}
		if n, err := j.c.Behind(ctx); !ready || err != nil || n > 0 {
			return Verdict{Wait: retryWait}, err
		}
		break
	}
	if j.c.Merges == nil {
		return Verdict{}, nil
	}
	list, err := j.c.Merges.MergesOf(ctx, e.ProjectID, e.UUID)
	if err != nil {
		return Verdict{}, fmt.Errorf("ask for the other half of a call: %w", err)
	}
	var merges []*merged
	for _, me := range list {
		if m, ok := MergeOf(me); ok {
			merges = append(merges, &merged{m, me})
		}
	}
	return apply(merges, e), nil
}

func (j *Joiner) seqNow() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.seq
}

// settle is Settle of a call that is remembered. The caller holds mu.
func (j *Joiner) settle(c *seenCall, e *event.Event) Verdict {
	if len(c.merges) > 0 {
		return apply(c.merges, e)
	}
	if c.pairing {
		return Verdict{Wait: retryWait}
	}
	if left := c.at.Add(j.c.Hold + holdSlack).Sub(j.c.Now()); c.expects && !c.left && j.c.Hold > 0 && left > 0 {
		return Verdict{Wait: min(left, max(left/2, retryWait))}
	}
	c.left = true
	return Verdict{}
}

// apply gives an event what its merges say.
func apply(merges []*merged, e *event.Event) Verdict {
	for _, m := range merges {
		switch {
		case m.Half == e.UUID && m.Span && m.Sent != e.UUID:
			AsSpan(e, m.Call)
		case m.Sent != e.UUID:
			return Verdict{Drop: true}
		case m.Call == e.UUID:
			Apply(m.event, e)
		}
	}
	return Verdict{}
}
