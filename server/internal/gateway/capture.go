package gateway

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/provider"
)

// Appender stores events. It is implemented by the pipeline and the journal.
type Appender interface {
	// Append returns nil once all events are stored. After an error it may be
	// called again with the same events. It must not keep them.
	Append(ctx context.Context, events ...*event.Event) error
}

const (
	batchMax     = 256
	lingerFor    = 40 * time.Millisecond // well within the 250 ms after which a call survives kill -9; longer means fewer wake-ups per call
	appendTries  = 3
	appendWait   = 5 * time.Second // for one attempt
	retryAfter   = 50 * time.Millisecond
	dropLogEvery = 10 * time.Second
)

// capture is the bounded queue between finished calls and the journal. Calls
// that do not fit are dropped and counted: a call never waits for the queue.
type capture struct {
	append  Appender
	parse   func(*provider.Call) *event.Event // provider.Parse, except in tests
	metrics *metrics
	log     *slog.Logger
	decoded int64 // limit of a decompressed body

	queue chan *record
	bytes budget
	depth atomic.Int64
	calls atomic.Int64 // finished since the start

	mu     sync.RWMutex // read-held by offer, so that nothing is queued during close
	closed bool

	linger    time.Duration
	gathering sync.Mutex
	closing   chan struct{} // closed with queue

	backgrounds backgrounds
	batches     batches

	backlog    backlog
	waits      atomic.Bool // backlog's step is not StepOK
	loggedDown time.Time   // under backlog's lock

	workers sync.WaitGroup
	done    chan struct{}   // closed when workers and retries have ended
	ctx     context.Context // of appends; ends when close runs out of time
	cancel  context.CancelFunc

	drops struct {
		sync.Mutex
		count   map[string]int64
		last    time.Time
		logged  time.Time
		pending int64 // since the last log line
		timer   *time.Timer
		reason  string // the latest
		err     error
	}
}

func newCapture(a Appender, m *metrics, log *slog.Logger, queue int, bytes, decoded int64, workers int) *capture {
	c := &capture{append: a, parse: provider.Parse, metrics: m, log: log, decoded: decoded, queue: make(chan *record, queue), linger: lingerFor, closing: make(chan struct{})}
	c.bytes.limit = bytes
	c.drops.count = make(map[string]int64)
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.backlog.step, c.backlog.wake = StepOK, make(chan struct{}, 1)
	for range workers {
		c.workers.Go(c.work)
	}
	workersDone := make(chan struct{})
	go func() { c.workers.Wait(); close(workersDone) }()
	c.done = make(chan struct{})
	go func() { defer close(c.done); c.retryLoop(workersDone); <-workersDone }()
	return c
}

// offer queues a call, or drops it. It reports whether it was queued.
func (c *capture) offer(r *record) bool {
	r.ended = time.Now()
	if !r.start {
		c.calls.Add(1)
	}
	r.size = int64(cap(r.call.Request) + cap(r.call.Response) + cap(r.call.ResponseTail))
	c.mu.RLock()
	defer c.mu.RUnlock()
	switch {
	case c.closed:
		c.drop(dropClosed, 1, nil)
		return false
	case c.journalDown() && c.depth.Load() >= int64(cap(c.queue)):
		c.full()
		c.drop(dropQueueFull, 1, nil)
		return false
	case !c.bytes.take(r.size):
		c.full()
		c.drop(dropQueueBytes, 1, nil)
		return false
	}
	c.depth.Add(1)
	select {
	case c.queue <- r:
		return true
	default:
		c.depth.Add(-1)
		c.bytes.give(r.size)
		c.full()
		c.drop(dropQueueFull, 1, nil)
		return false
	}
}

// drop counts calls that will not be recorded and logs them: the first
// immediately, later ones at most once per interval.
func (c *capture) drop(reason string, n int64, err error) {
	c.metrics.dropped.WithLabelValues(reason).Add(float64(n))
	d := &c.drops
	d.Lock()
	defer d.Unlock()
	d.count[reason] += n
	d.pending += n
	d.last, d.reason, d.err = time.Now(), reason, err
	if wait := dropLogEvery - d.last.Sub(d.logged); wait <= 0 {
		c.logDrops()
	} else if d.timer == nil {
		d.timer = time.AfterFunc(wait, func() {
			d.Lock()
			defer d.Unlock()
			c.logDrops()
		})
	}
}

// logDrops logs the drops since the last log line. drops must be locked.
func (c *capture) logDrops() {
	d := &c.drops
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if d.pending == 0 {
		return
	}
	c.log.Warn("gateway: calls were not recorded, their traffic was not affected", "reason", d.reason, "calls", d.pending, "err", d.err)
	d.logged, d.pending = time.Now(), 0
}

// work records calls in batches. After the first call it waits briefly for
// more: a batch costs little more than one call, and under load each goroutine
// wake-up takes CPU time from the calls. One worker collects at a time while
// the others record.
func (c *capture) work() {
	batch := make([]*record, 0, batchMax)
	events := make([]*event.Event, 0, batchMax)
	linger := time.NewTimer(time.Hour)
	for {
		if batch = c.gather(batch[:0], linger); len(batch) == 0 {
			return
		}
		events = events[:0]
		for _, r := range batch {
			if e := c.event(r); e != nil {
				events = append(events, e)
			}
		}
		var rest []*event.Event // not stored because the journal is unavailable
		var err error
		switch {
		case len(events) == 0:
		case c.journalDown():
			rest = events
		default:
			rest, err = c.storeFor(appendWait, events)
		}
		now := time.Now()
		for i, r := range batch {
			c.metrics.lag.Observe(now.Sub(r.ended).Seconds())
			c.bytes.give(r.size)
			freeHead(r.head)
			batch[i] = nil
		}
		// Waiting events keep their queue slot but release their bodies.
		c.depth.Add(int64(len(rest) - len(batch)))
		c.keep(rest, err)
		clear(events)
	}
}

// gather returns the next calls, or none once the queue is closed and empty.
func (c *capture) gather(batch []*record, linger *time.Timer) []*record {
	c.gathering.Lock()
	defer c.gathering.Unlock()
	first, ok := <-c.queue
	if !ok {
		return batch
	}
	batch = append(batch, first)
	if len(c.queue) < batchMax-1 {
		linger.Reset(c.linger)
		select {
		case <-linger.C:
		case <-c.closing:
		}
	}
	for len(batch) < batchMax {
		select {
		case r, ok := <-c.queue:
			if !ok {
				return batch
			}
			batch = append(batch, r)
		default:
			return batch
		}
	}
	return batch
}

// storeFor appends events, with a timeout per attempt. If a batch fails, each
// event is tried alone, so that an invalid one does not affect the others. It
// returns the remaining events if the journal is unavailable.
func (c *capture) storeFor(wait time.Duration, events []*event.Event) (rest []*event.Event, err error) {
	if err = c.try(wait, events); err == nil {
		c.metrics.captured.Add(float64(len(events)))
		return nil, nil
	}
	for i, e := range events {
		switch {
		case unavailable(err) && i == 0:
		case len(events) > 1:
			err = c.retry(wait, events[i:i+1])
		case !final(err):
			err = c.retry(wait, events)
		}
		if code(err) == event.CodeTooLarge && !e.Content.IsZero() {
			e.DropContent()
			_ = e.SetProperty("content_dropped", "too_large")
			err = c.try(wait, events[i:i+1])
		}
		switch {
		case err == nil:
			c.metrics.captured.Inc()
		case unavailable(err):
			return events[i:], err // the others would fail too
		default:
			c.drop(dropAppend, 1, err)
		}
	}
	return nil, nil
}

func (c *capture) retry(wait time.Duration, events []*event.Event) (err error) {
	for n := range appendTries {
		if n > 0 {
			c.metrics.retries.Inc()
			select {
			case <-time.After(retryAfter << n):
			case <-c.ctx.Done():
				return c.ctx.Err()
			}
		}
		if err = c.try(wait, events); err == nil || final(err) || unavailable(err) {
			return err
		}
	}
	return err
}

func (c *capture) try(wait time.Duration, events []*event.Event) (err error) {
	ctx, cancel := context.WithTimeout(c.ctx, wait)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			c.metrics.panics.Inc()
			err = fmt.Errorf("append panicked: %T", p)
		}
	}()
	return c.append.Append(ctx, events...)
}

// final reports whether retrying is pointless.
func final(err error) bool {
	switch code(err) {
	case event.CodeTooLarge, event.CodeInvalid:
		return true
	}
	return false
}

func code(err error) event.Code {
	var e *event.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// event builds the event of a call. It returns nil only for the start of a call
// that is not a generation.
func (c *capture) event(r *record) (e *event.Event) {
	if r.start {
		return c.startOf(r)
	}
	if r.results != "" {
		defer c.contain(r, &e)
		return c.result(r)
	}
	defer c.contain(r, &e)
	e = c.read(r)
	e.StartSent = r.startSent
	c.identify(e, r)
	return e
}

// startOf builds the start event of a call from the request alone. The content
// is used for its hash and length, and dropped before the journal.
func (c *capture) startOf(r *record) (e *event.Event) {
	defer func() {
		if p := recover(); p != nil {
			c.metrics.panics.Inc()
			e = nil
		}
	}()
	asked := c.read(r)
	if !asked.IsCosted() {
		return nil
	}
	c.identify(asked, r)
	return &event.Event{
		UUID: event.NewID(), ProjectID: r.projectID, Name: event.RequestStarted, Timestamp: asked.Timestamp, Source: asked.Source,
		DistinctID: asked.DistinctID, User: asked.User, TraceID: asked.TraceID, SpanID: asked.SpanID, ParentID: asked.ParentID, SessionID: asked.SessionID,
		TraceName: asked.TraceName, SpanName: asked.SpanName, Provider: asked.Provider, ModelAsked: asked.ModelAsked, Operation: asked.Operation,
		BaseURL: asked.BaseURL, RequestURL: asked.RequestURL, Method: asked.Method, Stream: asked.Stream, RequestBytes: asked.RequestBytes,
		ModelParameters: asked.ModelParameters, PromptName: asked.PromptName, PromptVersion: asked.PromptVersion, PromptVersionID: asked.PromptVersionID,
		PromptHash: asked.PromptHash, Surface: asked.Surface, TaskType: asked.TaskType, Environment: asked.Environment,
		Tags: asked.Tags, Flags: asked.Flags, Groups: asked.Groups, Properties: asked.Properties,
		Content:   event.Content{Input: asked.Content.Input, Tools: asked.Content.Tools},
		StartSent: true, Private: true,
	}
}

// identify sets user, trace and other attribution.
func (c *capture) identify(e *event.Event, r *record) {
	e.ProjectID = r.projectID
	attribute(e, r.header)
	if e.AdoptLabels(); e.Surface == "" {
		e.Surface = r.surface
	}
	if r.prompt != nil {
		r.prompt(e)
	}
	if r.traceID != "" {
		e.TraceID = r.traceID
	}
	c.background(e, r)
	if r.uuid != "" {
		e.UUID, e.SpanID = r.uuid, r.uuid
		if e.TraceID == "" {
			e.TraceID = r.uuid
		}
	}
	if e.TraceID == "" && r.chain != nil {
		e.TraceID = r.chain.of(e)
	}
	if e.TraceID == "" {
		e.TraceID = event.NewID()
	}
	if r.chain != nil {
		r.chain.remember(e)
	}
	if r.socket != nil {
		r.socket.describe(e)
	}
	if e.SpanID == "" {
		e.SpanID = cmp.Or(r.spanID, event.NewID())
	}
	if !r.start {
		c.backgrounds.remember(e)
		c.batch(e, r)
	}
}

// contain must be deferred. After a panic it sets *e to the plain event of the
// call.
func (c *capture) contain(r *record, e **event.Event) {
	if p := recover(); p != nil {
		c.metrics.panics.Inc()
		c.log.Error("gateway: parser panicked", "provider", r.call.Provider, "panic", fmt.Sprintf("%T", p))
		*e = plain(r)
	}
}

// read builds an event from the recorded exchange.
func (c *capture) read(r *record) (e *event.Event) {
	defer c.contain(r, &e)
	call := &r.call
	call.RequestHeader = withoutSecrets(r.header)
	call.ResponseHeader = withoutSecrets(call.ResponseHeader)
	if enc := call.RequestHeader.Get("Content-Encoding"); encoded(enc) {
		text, cut, err := decode(enc, call.Request, c.decoded, nil)
		call.Request, call.RequestTruncated = text, call.RequestTruncated || cut
		if err != nil {
			c.log.Debug("gateway: decode request body", "err", err)
		}
	}
	if enc := call.ResponseHeader.Get("Content-Encoding"); encoded(enc) {
		text, cut, err := decode(enc, call.Response, c.decoded, call.Marks)
		// The tail of a compressed response cannot be decoded without the part
		// before it.
		call.Response, call.ResponseTail, call.ResponseTruncated = text, nil, call.ResponseTruncated || cut
		if err != nil {
			c.log.Debug("gateway: decode response body", "err", err)
		}
	}
	e = c.parse(call)
	if e.ParseError != "" {
		c.metrics.parseErrors.WithLabelValues(call.Provider).Inc()
	}
	return e
}

// plain is the event of a call that could not be parsed.
func plain(r *record) *event.Event {
	call := &r.call
	e := &event.Event{
		UUID: event.NewID(), ProjectID: r.projectID, Name: event.Span, Timestamp: call.Start.UTC(), Source: event.SourceGateway,
		TraceID: event.NewID(), SpanID: event.NewID(), SpanName: call.Method + " " + call.Path,
		Provider: call.Provider, BaseURL: call.BaseURL, RequestURL: call.BaseURL + call.Path, Method: call.Method,
		HTTPStatus: call.Status, Latency: event.Some(call.Latency), RequestBytes: call.RequestBytes, ResponseBytes: call.ResponseBytes,
		IsError: call.Status >= 400 || call.ErrType != "", ErrorType: call.ErrType, Status: event.StatusSuccess,
		ParseError: "the parser panicked",
	}
	if e.IsError {
		e.Status = event.StatusError
	}
	if call.ErrType == event.ErrTypeTimeout {
		e.Status = event.StatusTimeout
	}
	if r.traceID != "" {
		e.TraceID = r.traceID
	}
	return e
}

// withoutSecrets returns the headers that the parsers may see.
func withoutSecrets(h http.Header) http.Header {
	out := make(http.Header, len(h))
	for k, v := range h {
		switch k {
		case "Authorization", "Proxy-Authorization", "X-Api-Key", "Api-Key", "X-Goog-Api-Key", "X-Amz-Security-Token", "Cookie", "Set-Cookie", headerSubprotocol:
			continue
		}
		if !ownHeader(k) {
			out[k] = v
		}
	}
	return out
}

// ownHeader reports whether a header, in canonical form, is for hedgerow only.
func ownHeader(k string) bool {
	return len(k) > 2 && k[0] == 'X' && k[1] == '-' && (strings.HasPrefix(k, "X-Hedgerow-") || strings.HasPrefix(k, "X-Posthog-"))
}

// close records the queued calls and stops. When ctx ends first, the rest is dropped
// and counted.
func (c *capture) close(ctx context.Context) error {
	c.mu.Lock()
	if !c.closed {
		c.closed = true
		close(c.queue)
		close(c.closing)
	}
	c.mu.Unlock()
	defer func() {
		c.drops.Lock()
		defer c.drops.Unlock()
		c.logDrops()
	}()
	select {
	case <-c.done:
		c.cancel()
		return nil
	case <-ctx.Done():
	}
	c.cancel() // appends fail from here on, so the workers finish
	select {
	case <-c.done:
	case <-time.After(time.Second): // an append that ignores its context
		c.drop(dropClosed, c.depth.Load(), nil)
	}
	return ctx.Err()
}

// Stats is the state of capture.
type Stats struct {
	Calls          int64            `json:"calls"`       // finished since the start
	QueueDepth     int64            `json:"queue_depth"` // calls waiting to be recorded or being recorded
	QueueBytes     int64            `json:"queue_bytes"`
	Step           Step             `json:"step"`               // the current step of degradation
	ContentDropped int64            `json:"without_content"`    // calls that lost their content since the start because the journal was unavailable
	Dropped        map[string]int64 `json:"dropped"`            // calls that were not recorded since the start, by reason
	LastDrop       time.Time        `json:"last_drop,omitzero"` // zero if there was none
}

func (c *capture) stats() Stats {
	c.backlog.mu.Lock()
	step, contentDropped := c.backlog.step, c.backlog.contentDropped
	c.backlog.mu.Unlock()
	c.drops.Lock()
	defer c.drops.Unlock()
	s := Stats{Step: step, ContentDropped: contentDropped, Calls: c.calls.Load(), QueueDepth: c.depth.Load(), QueueBytes: c.bytes.used.Load(), Dropped: make(map[string]int64, len(c.drops.count)), LastDrop: c.drops.last}
	for k, v := range c.drops.count {
		s.Dropped[k] = v
	}
	return s
}

// debugTrace returns the trace id that a call's event will have, for callers
// that request it before the event exists; "" if it is not known yet.
func debugTrace(h http.Header, bodyTrace []byte) string {
	var e event.Event
	attribute(&e, h)
	if e.TraceID != "" {
		return e.TraceID
	}
	var t struct {
		TraceID string `json:"trace_id"`
	}
	if json.Unmarshal(bodyTrace, &t) == nil && t.TraceID != "" {
		return event.CleanID(event.CleanValue(t.TraceID))
	}
	return event.NewID()
}
