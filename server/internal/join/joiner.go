package join

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hedgerow/hedgerow/event"
)

// JoinWindow is the longest time between two captures of a call.
const JoinWindow = time.Hour

const (
	joinEntries = 100_000  // calls in the index; about 50 MB
	joinBytes   = 64 << 20 // of the fields that merges would take from them
	joinAlike   = 64       // calls per mark
	joinOpen    = 1024     // calls of the gateway with the same token counts: 100 a second, and wrappers that send after 10 s

	holdSlack    = time.Second     // added to the hold of delivery, so that [Merge.Late] is right
	progressWait = 2 * time.Second // for the joiner to read what delivery has read
	fetchEvents  = 2000
	fetchWait    = 20 * time.Millisecond
	retryWait    = 250 * time.Millisecond
	extendEvery  = 10 * time.Second
)

// Appender stores events. nil means that all of them are stored.
type Appender interface {
	Append(ctx context.Context, events ...*event.Event) error
}

// Merges finds merges that are no longer in the index of a [Joiner].
type Merges interface {
	// MergesOf returns the merges that name an event of a project.
	MergesOf(ctx context.Context, project, uuid string) ([]*event.Event, error)
}

// JoinerConfig configures a [Joiner].
type JoinerConfig struct {
	// Open restarts the joiner's queue of the journal at the oldest event that was
	// appended at or after since.
	Open func(ctx context.Context, since time.Time) (event.Queue, error)
	// Behind returns the number of events in the queue that have not been fetched.
	Behind func(ctx context.Context) (uint64, error)
	// Journal receives the merges.
	Journal Appender
	// Merges finds older merges. nil: there are none.
	Merges Merges
	// Deleted reports whether an event was deleted: its call is then not sent. nil:
	// none was.
	Deleted func(project, uuid string) (bool, error)

	// Gateway reports whether a base URL is this hedgerow's gateway. A wrapper that
	// names one has captured a call that the gateway has captured too, even if it does
	// not say which. nil: none is.
	Gateway func(baseURL string) bool

	// Hold is how long delivery waits for the other capture of a call where one is
	// expected. 0: not at all. Most wrappers send batches every 5 to 10 s.
	Hold       time.Duration
	Logger     *slog.Logger          // nil: no log
	Registerer prometheus.Registerer // nil: no metrics
	Now        func() time.Time      // nil: time.Now
}

// Joiner recognises calls that two receivers captured. It reads the journal, and
// appends a merge for each pair. See the package comment.
type Joiner struct {
	c            JoinerConfig
	seed         maphash.Seed
	joined, late prometheus.Counter

	mu          sync.Mutex
	ready       bool          // the last hour has been read
	stuck       bool          // a merge cannot be appended at the moment
	progress    chan struct{} // closed and replaced when more has been read
	seq         uint64        // of the last event that was read
	since       time.Time     // all calls appended later are in the index
	calls       map[string]*seenCall
	seen        map[uint64][]*seenCall // by mark, oldest first
	order       []*seenCall            // oldest first
	bytes       int                    // of their fields
	expecting   map[uint64]*seenCall   // calls that expect another capture, by what outcomes may name
	lastCapture map[captureKind]time.Time
}

// captureKind is a kind of capture of a project's calls.
type captureKind struct {
	project string
	kind    string // event.SourceGateway, wrapper or double
}

const (
	wrapper = "wrapper" // by anything but the gateway
	double  = "double"  // by two wrappers
)

// seenCall is a capture of a call.
type seenCall struct {
	project, uuid string
	at            time.Time // when it was appended
	facts         facts
	marks         []uint64
	names         []uint64 // in held
	fields        []byte   // frame of the fields that a merge takes from it; nil: the gateway's

	expects  bool      // another capture was expected when this one came
	released bool      // delivery has sent it without waiting any longer
	step     bool      // a span of a run, which has the id of a call; see run.go
	run      uint64    // mark of the run whose step or generation this is; 0: of none
	pairing  bool      // a merge of it is being appended
	merges   []*merged // with its uuid, in order
	into     *seenCall // the capture that counts instead
	others   []facts   // of captures that were merged into it
	under    *seenCall // the step that the call is below
	absorbed int       // merges into it
	sent     string    // uuid of the capture that PostHog gets
}

// merged is a merge in the journal.
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
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "hedgerow", Subsystem: "ingest", Name: name, Help: help})
	}
	j := &Joiner{c: c, seed: maphash.MakeSeed(), progress: make(chan struct{}),
		joined: counter("joined_total", "Second captures of a call, merged into the first: the call counts once."),
		late:   counter("late_merges_total", "Second captures that came after the first could have been sent to PostHog: merged in hedgerow only."),
	}
	if c.Registerer != nil {
		if err := errors.Join(c.Registerer.Register(j.joined), c.Registerer.Register(j.late)); err != nil {
			return nil, fmt.Errorf("join: register metrics: %w", err)
		}
	}
	return j, nil
}

// Run reads the journal until ctx ends: first its last hour, for which it appends the
// missing merges, then new events. It must not run twice at the same time.
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
				j.broadcast()
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
		if err := j.append(ctx, j.index(ds, caughtUp), ds); err != nil {
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

// append appends merges, however long that takes, and adds them to the index. Only then
// does delivery know that ds were read.
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
		j.setStuck(true)
		j.c.Logger.Warn("join: append merges, retried", "err", err, "merges", len(merges))
		if j.c.Now().Sub(extended) > extendEvery {
			extended = j.c.Now()
			for _, d := range ds {
				_ = d.Extend() // otherwise it is redelivered, which does no harm
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
	j.stuck = false
	for _, e := range merges {
		if m, ok := j.addMerge(e, j.c.Now()); ok {
			j.joined.Inc()
			if m.Late {
				j.late.Inc()
			}
		}
	}
	for _, d := range ds {
		j.seq = max(j.seq, d.Seq)
	}
	j.broadcast()
	return nil
}

func (j *Joiner) setStuck(stuck bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.stuck = stuck
}

func (j *Joiner) reset(since time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.ready, j.stuck, j.seq, j.since, j.order, j.bytes = false, false, 0, since, nil, 0
	j.expecting = make(map[uint64]*seenCall)
	j.calls, j.seen, j.lastCapture = make(map[string]*seenCall), make(map[uint64][]*seenCall), make(map[captureKind]time.Time)
}

// broadcast wakes all that wait for progress. The caller holds mu.
func (j *Joiner) broadcast() {
	close(j.progress)
	j.progress = make(chan struct{})
}

// index adds calls and merges to the index. With pair it returns the merges of calls
// whose other capture is there already.
func (j *Joiner) index(ds []event.Delivery, pair bool) (merges []*event.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	var noted []*seenCall
	for _, d := range ds {
		e := d.Event
		if e.IsMerge() {
			j.addMerge(e, d.At)
			continue
		}
		if !e.IsCosted() && !isStep(e) || j.calls[e.UUID] != nil {
			continue
		}
		c := j.addCall(e, d.At)
		if c == nil || !pair {
			continue
		}
		noted = append(noted, c)
		if m := j.pair(c); m != nil {
			merges = append(merges, m)
		}
	}
	for _, c := range noted { // a run's generation that came with its only step has merged already
		merges = append(merges, j.pairRun(c)...)
	}
	if pair {
		j.forget(j.c.Now().Add(-JoinWindow))
	}
	return merges
}

// missing returns the merges that are not in the journal for calls that were read:
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
	for _, c := range j.order {
		merges = append(merges, j.pairRun(c)...)
	}
	return merges
}

// addCall adds a call to the index. The caller holds mu.
func (j *Joiner) addCall(e *event.Event, at time.Time) *seenCall {
	c := &seenCall{project: strings.Clone(e.ProjectID), uuid: strings.Clone(e.UUID), at: at, facts: factsOf(e).kept(), marks: j.marks(e), step: isStep(e), run: j.runOf(e)}
	c.sent = c.uuid
	gateway := e.Source == event.SourceGateway
	recently := func(kind string) bool {
		t, ok := j.lastCapture[captureKind{c.project, kind}]
		return ok && at.Sub(t) <= JoinWindow
	}
	switch {
	case c.step:
	case gateway:
		c.expects = recently(wrapper)
		j.lastCapture[captureKind{c.project, event.SourceGateway}] = at
	default:
		c.expects = recently(double) || recently(event.SourceGateway) || e.BaseURL != "" && j.c.Gateway != nil && j.c.Gateway(e.BaseURL)
		j.lastCapture[captureKind{c.project, wrapper}] = at
	}
	if !gateway { // the gateway's capture is the one that stays
		fieldsOf := mergeFields
		if c.step {
			fieldsOf = stepFields
		}
		var err error
		if c.fields, err = fieldsOf(e).AppendFrame(nil); err != nil {
			j.c.Logger.Warn("join: encode a capture", "uuid", e.UUID, "err", err)
			return nil
		}
	}
	j.calls[c.uuid] = c
	for i, key := range c.marks {
		alike := j.seen[key]
		if most := j.maxAlike(c, i); len(alike) >= most { // one that has its other capture needs its place least
			k := max(slices.IndexFunc(alike, func(o *seenCall) bool { return o.into != nil || len(o.others) > 0 }), 0)
			alike = slices.Delete(alike, k, k+1)
		}
		j.seen[key] = append(alike, c)
	}
	if c.expects && j.c.Hold > 0 {
		names := ids(e)
		for _, id := range append(names[:], e.TraceID) {
			if id != "" {
				h := j.hash("held", e.ProjectID, id)
				j.expecting[h] = c
				c.names = append(c.names, h)
			}
		}
	}
	j.order = append(j.order, c)
	j.bytes += len(c.fields)
	for len(j.order) > joinEntries || j.bytes > joinBytes {
		j.drop()
	}
	return c
}

// forget drops calls that were appended before a time. The caller holds mu.
func (j *Joiner) forget(before time.Time) {
	for len(j.order) > 0 && j.order[0].at.Before(before) {
		j.drop()
	}
}

// drop removes the oldest call from the index. The caller holds mu.
func (j *Joiner) drop() {
	c := j.order[0]
	j.order[0] = nil
	j.order = j.order[1:]
	if c.at.After(j.since) {
		j.since = c.at
	}
	delete(j.calls, c.uuid)
	for _, h := range c.names {
		if j.expecting[h] == c {
			delete(j.expecting, h)
		}
	}
	j.bytes -= len(c.fields)
	for _, key := range c.marks {
		left := j.seen[key]
		if i := slices.Index(left, c); i >= 0 {
			left = slices.Delete(left, i, i+1)
		}
		if len(left) == 0 {
			delete(j.seen, key)
		} else {
			j.seen[key] = left
		}
	}
}

func (j *Joiner) hash(kind, project, s string) uint64 {
	var h maphash.Hash
	h.SetSeed(j.seed)
	for _, part := range []string{kind, project, s} {
		_, _ = h.WriteString(part) // never fails
		_ = h.WriteByte(0)
	}
	return h.Sum64()
}

// marks returns the index keys of a call; [Joiner.same] then compares the candidates.
// Keys are the provider's id of the completion and, last, the token counts, apart for the
// gateway's captures and others: see [Joiner.candidates]. Two calls without ids and with
// equal counts may be exchanged, which does no harm: both receivers have captured both.
func (j *Joiner) marks(e *event.Event) []uint64 {
	var keys []uint64
	if e.CompletionID != "" {
		keys = append(keys, j.hash("id", e.ProjectID, e.CompletionID))
	}
	if run := j.runOf(e); run != 0 {
		keys = append(keys, run)
	}
	if isStep(e) {
		return keys
	}
	return append(keys, j.hash(e.Name, e.ProjectID, strconv.FormatInt(e.Usage.Input.Or(0), 10)+"/"+strconv.FormatInt(e.Usage.Output.Or(0), 10))<<1|sideOf(e.Source))
}

// sideOf is the lowest bit of a mark of token counts: 1 for the gateway's captures.
func sideOf(source string) uint64 {
	if source == event.SourceGateway {
		return 1
	}
	return 0
}

// maxAlike is how many calls are kept with the i-th mark of a call.
func (j *Joiner) maxAlike(c *seenCall, i int) int {
	if i == len(c.marks)-1 && c.facts.source == event.SourceGateway {
		return joinOpen
	}
	return joinAlike
}

// candidates are the marks under which the other capture of a call can be. By counts the
// gateway's join others only; wrappers join the gateway's first.
func (c *seenCall) candidates(keys []uint64) []uint64 {
	last := len(c.marks) - 1
	keys = append(append(keys, c.marks[:last]...), c.marks[last]^1)
	if c.facts.source != event.SourceGateway {
		keys = append(keys, c.marks[last])
	}
	return keys
}

// pair finds an earlier capture of the same call, and returns the merge of the two. The
// caller holds mu.
func (j *Joiner) pair(c *seenCall) *event.Event {
	if c.step {
		return nil
	}
	var found *seenCall
	var keys [4]uint64
	for _, key := range c.candidates(keys[:0]) {
		for _, o := range j.seen[key] {
			if o == c || o.step || o.into != nil || found != nil && !o.nearer(found, c) || o.at.After(c.at) || c.at.Sub(o.at) > JoinWindow || o.hasCaptureBy(c.facts) || !j.same(c.facts, o.facts) {
				continue
			}
			if len(o.others) > 0 && c.facts.id != o.facts.id && !c.facts.meets(o.facts) {
				continue // equal counts alone do not make it a third capture
			}
			if c.facts.id != o.facts.id && j.contradicts(c, o) {
				continue
			}
			found = o
		}
		if found != nil {
			break
		}
	}
	if found == nil {
		return nil
	}
	call, other := found, c
	m := Merge{}
	switch {
	case c.facts.source == event.SourceGateway:
		call, other = c, found
	case found.facts.source == event.SourceGateway:
	case c.facts.within(found.facts):
		call, other, m.Span = c, found, true
	case found.facts.within(c.facts):
		m.Span = true
	}
	m.Call, m.Other, m.Sent = call.uuid, other.uuid, call.uuid
	if m.Late = !found.expects || found.released || j.complete(found) || found.sent != found.uuid || c.at.Sub(found.at) >= j.c.Hold; m.Late {
		m.Sent = found.sent
	}
	if call.facts.trace != other.facts.trace || call.facts.span != other.facts.span {
		m.Trace, m.SpanID = call.facts.trace, call.facts.span
	}
	if m.Late && found == call && call.under != nil && call.under.run == c.run {
		// PostHog has the call below its step, which needs its parent there.
		m.Late, m.Span, m.Trace, m.SpanID = false, true, "", ""
	}
	fields, err := event.DecodeFrame(other.fields)
	if err == nil && m.Span {
		fields = &event.Event{ProjectID: fields.ProjectID} // the inner span has its own identity and place
	}
	if err != nil {
		j.c.Logger.Warn("join: decode a capture", "uuid", other.uuid, "err", err)
		return nil
	}
	return j.merge(m, call, other, fields)
}

// absorb records that other was merged into c. The caller holds mu.
func (j *Joiner) absorb(c, other *seenCall, m Merge, merge *event.Event) {
	other.into, c.sent = c, m.Sent
	c.absorbed++
	if other.step {
		c.under = other
		return
	}
	c.others = append(c.others, other.facts)
	if m.Span || c.facts.source == event.SourceGateway {
		return
	}
	// A later merge of c has what other adds to c.
	own, err := event.DecodeFrame(c.fields)
	if err != nil {
		return // impossible: addCall encoded it
	}
	Apply(merge, own)
	if b, err := own.AppendFrame(nil); err == nil {
		j.bytes += len(b) - len(c.fields)
		c.fields = b
	}
}

// nearer reports whether c is a better candidate than o for being the call of other: by
// id one that has another capture already, by counts one without, and then the nearest
// in time.
func (c *seenCall) nearer(o, other *seenCall) bool {
	if alone := len(c.others) == 0; alone != (len(o.others) == 0) {
		byID := other.facts.id != "" && c.facts.id == other.facts.id && o.facts.id == other.facts.id
		return alone != byID
	}
	return c.facts.at.Sub(other.facts.at).Abs() < o.facts.at.Sub(other.facts.at).Abs()
}

// hasCaptureBy reports whether a capture by the same instrumentation was merged into the call
// already: one instrumentation reports a call once.
func (c *seenCall) hasCaptureBy(f facts) bool {
	for _, o := range c.others {
		if o.source == f.source && o.by == f.by {
			return true
		}
	}
	return false
}

// complete reports whether the gateway's capture and a wrapper's are merged: delivery waits
// for nothing else. The caller holds mu.
func (j *Joiner) complete(c *seenCall) bool {
	if c.facts.source != event.SourceGateway || len(c.others) > 0 || c.under == nil {
		return c.facts.source == event.SourceGateway && len(c.others) > 0
	}
	run, _ := j.run(c.under.run)
	return run != nil && run.into != nil
}

// addMerge adds a merge of the journal to the index, and reports whether it is new. The
// caller holds mu.
func (j *Joiner) addMerge(e *event.Event, at time.Time) (m Merge, fresh bool) {
	m, ok := MergeOf(e)
	if !ok {
		return m, false
	}
	call, other := j.calls[m.Call], j.calls[m.Other]
	for _, c := range []*seenCall{call, other} {
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
	if call == nil || other == nil {
		return m, fresh
	}
	if other.into == nil {
		j.absorb(call, other, m, e)
	}
	if call.facts.source != event.SourceGateway && fresh {
		j.lastCapture[captureKind{call.project, double}] = at
	}
	return m, fresh
}

// Verdict is what delivery does with an event.
type Verdict struct {
	Drop bool          // do not send it: another capture of its call is sent
	Wait time.Duration // ask again after this time; 0: send it
}

// Decide decides what delivery does with an event of the journal. A call whose other
// capture is expected waits; of a call that was captured twice one capture is sent,
// with the fields of its merges, which Decide sets in place. After an error, ask again.
func (j *Joiner) Decide(ctx context.Context, d event.Delivery) (Verdict, error) {
	e := d.Event
	if e.IsMerge() {
		return Verdict{Drop: true}, nil
	}
	if !e.IsCosted() {
		return j.decideOutcome(d), nil
	}
	timeout := time.NewTimer(progressWait)
	defer timeout.Stop()
	for {
		j.mu.Lock()
		c, ready, progress, seq := j.calls[e.UUID], j.ready, j.progress, j.seq
		if ready && c != nil && (d.Seq <= seq || d.Resent) {
			v, merges := j.decide(c)
			j.mu.Unlock()
			if v.Wait > 0 {
				return v, nil
			}
			return j.apply(merges, e)
		}
		j.mu.Unlock()
		if ready && (d.Seq < seq || d.Resent) {
			break // older than the index, or not in the joiner's queue
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
		return Verdict{}, fmt.Errorf("find the other capture of a call: %w", err)
	}
	var merges []*merged
	for _, me := range list {
		if m, ok := MergeOf(me); ok {
			merges = append(merges, &merged{m, me})
		}
	}
	return j.apply(merges, e)
}

// decide is Decide for a call in the index: it returns its merges or how long to wait.
// The caller holds mu.
func (j *Joiner) decide(c *seenCall) (Verdict, []*merged) {
	if c.pairing {
		return Verdict{Wait: retryWait}, nil
	}
	if c.into != nil || j.complete(c) || c.sent != c.uuid || !c.expects || c.released || j.c.Hold == 0 {
		return Verdict{}, c.merges
	}
	left := c.at.Add(j.c.Hold + holdSlack).Sub(j.c.Now())
	if j.stuck { // the other capture may be in the journal already
		left = max(left, retryWait)
	}
	if left > 0 {
		return Verdict{Wait: min(left, max(left/2, retryWait))}, nil
	}
	c.released = true
	return Verdict{}, c.merges
}

// decideOutcome has an outcome wait while its call does, and gives it the trace and span
// that a merge has given the call. [Outcomes] follows merges that are no longer in the
// index.
func (j *Joiner) decideOutcome(d event.Delivery) Verdict {
	e := d.Event
	if len(Named([]*event.Event{e})) == 0 {
		return Verdict{}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.ready || d.Seq > j.seq && !d.Resent {
		return Verdict{Wait: retryWait}
	}
	for _, id := range append(named(e), e.TraceID) { // a named call takes precedence over its trace
		c := j.expecting[j.hash("held", e.ProjectID, id)]
		if id == "" || c == nil {
			continue
		}
		if v, _ := j.decide(c); v.Wait > 0 {
			return v
		}
		for _, m := range c.merges {
			if m.Call == c.uuid && m.Trace != "" && m.sentMoved() && (e.TraceID == "" || e.TraceID == m.Trace) {
				moveTo(e, m.Merge, m.event)
				return Verdict{}
			}
		}
	}
	return Verdict{}
}

// apply sets the fields of an event from its merges, or drops it.
func (j *Joiner) apply(merges []*merged, e *event.Event) (Verdict, error) {
	for _, m := range merges {
		for _, uuid := range []string{m.Call, m.Other} {
			if j.c.Deleted == nil || uuid == e.UUID {
				continue
			}
			if deleted, err := j.c.Deleted(e.ProjectID, uuid); err != nil || deleted {
				return Verdict{Drop: deleted}, err
			}
		}
		switch {
		case m.Other == e.UUID && m.Span && m.Sent != e.UUID:
			AsSpan(e, m.Call)
		case m.Sent != e.UUID:
			return Verdict{Drop: true}, nil
		case m.Call == e.UUID:
			Apply(m.event, e)
		}
	}
	return Verdict{}, nil
}
