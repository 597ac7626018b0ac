package hedgerow

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"maps"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// Version is that of this SDK: $lib_version.
const Version = "0.1.0"

const libName = "hedgerow-go"

// Reasons why events are dropped: the keys of [Stats.Dropped].
const (
	DropQueueFull  = "queue_full"  // QueueSize or QueueBytes was reached
	DropClosed     = "closed"      // captured after Close, or still queued when Close ran out of time
	DropInvalid    = "invalid"     // no name, or it cannot be encoded
	DropBeforeSend = "before_send" // BeforeSend returned nil, or panicked
	DropTooLarge   = "too_large"   // even without its content
	DropWithheld   = "withheld"    // its name or an id contains content of the call
	DropRefused    = "refused"     // the host rejected the key, the address or the event
	DropRetries    = "retries"     // the host was unavailable for longer than MaxRetries
)

// Client captures events and delivers them in the background. Create one with [New]
// per process and close it on exit.
//
// All methods are safe for concurrent use. Capturing never blocks, panics or returns
// an error. The methods of a nil or disabled *Client do nothing.
type Client struct {
	c    Config
	log  *slog.Logger
	http *http.Client

	lanes [2]*lane // laneEvents and laneAI; nil when the client is disabled
	spool *spool   // nil without Config.SpoolDir
	count atomic.Int64
	bytes atomic.Int64

	held    held         // failed attempts that may be retried by the client library
	tries   tries        // attempts of client libraries that send no retry header
	traces  traceTries   // retries per trace
	seed    maphash.Seed // for the keys of tries
	refused sync.Map     // base URL → time.Time at which it rejected stream_options

	flagsSent flagsSent // of $feature_flag_called
	kept      keptNames // properties that are not sent, for the log

	noAI atomic.Int64 // Unix nanoseconds until which the host is assumed to have no AI route

	mu     sync.RWMutex // enqueue takes the read lock, so that nothing is enqueued during Close
	closed bool

	workers sync.WaitGroup
	ctx     context.Context // of deliveries; ends when Close runs out of time
	cancel  context.CancelFunc

	stats struct {
		sync.Mutex
		sent    int64
		dropped map[string]int64
		lastErr string
		pending map[string]int64 // dropped since the last log line
		logged  time.Time
		refused time.Time // when a rejection was last logged
	}
}

// New returns a client, or an [*event.Error] with code invalid that names the wrong
// setting. On error the client is nil, which is safe to use: a program may log the
// error and continue without analytics.
func New(c Config) (*Client, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("hedgerow: %w", err)
	}
	cl := &Client{c: c, log: c.logger(), http: newHTTPClient(&c), seed: maphash.MakeSeed()}
	cl.stats.dropped = make(map[string]int64)
	cl.stats.pending = make(map[string]int64)
	if c.Disabled {
		return cl, nil
	}
	var left []recovered
	if c.SpoolDir != "" {
		if cl.spool, left, err = openSpool(cl, c.SpoolDir); err != nil {
			return nil, fmt.Errorf("hedgerow: %w", err)
		}
	}
	cl.ctx, cl.cancel = context.WithCancel(context.Background())
	for i := range cl.lanes {
		cl.lanes[i] = newLane(cl, i == laneAI)
	}
	cl.recover(left)
	for _, l := range cl.lanes {
		cl.workers.Go(l.run)
	}
	if cl.spool != nil {
		cl.workers.Go(cl.spool.run)
	}
	return cl, nil
}

// recover queues the events that an earlier process left in the spool. The queue
// bounds do not apply to them, but they count towards the bounds for new events.
func (c *Client) recover(left []recovered) {
	now := time.Now()
	for _, r := range left {
		it := item{out: []*outgoing{{body: r.body, number: r.number}}, size: int64(len(r.body)), since: now}
		c.count.Add(1)
		c.bytes.Add(it.size)
		c.lanes[r.lane].push(it)
	}
	if len(left) > 0 {
		c.log.Info("delivering events of an earlier process from the spool", "events", len(left))
	}
}

// Enabled reports whether the client captures anything.
func (c *Client) Enabled() bool { return c != nil && c.lanes[0] != nil }

// Two lanes: what the client records of LLM calls has its own queue, batches and
// retries, so that a failure of one route does not delay the other.
const (
	laneEvents = iota
	laneAI
)

// item is a captured event that is not encoded yet: expensive work is left to the
// background goroutines.
type item struct {
	e     *event.Event
	build func() *event.Event // builds e, if e is nil
	name  string              // of an event that is not in the model, if build is nil too
	props []prop              // custom properties
	at    *attribution        // from the context; applied to e
	size  int64
	since time.Time
	out   []*outgoing // already encoded by the spool
}

// kind identifies an item in logs.
func (it *item) kind() string {
	switch {
	case it.e != nil:
		return it.e.Name
	case it.build != nil:
		return "call"
	}
	return it.name
}

// debug logs a step of delivery, without content.
func (c *Client) debug(message string, args ...any) {
	if ctx := context.Background(); c.log.Enabled(ctx, slog.LevelDebug) {
		c.log.Log(ctx, slog.LevelDebug, message, args...)
	}
}

// enqueue adds an item to a lane, or drops it. It never blocks.
func (c *Client) enqueue(lane int, it item) {
	it.size += 1 << 10 // approximate size of the event itself
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.closed {
		c.drop(DropClosed, 1, nil)
		return
	}
	if c.count.Add(1) > int64(c.c.QueueSize) {
		c.count.Add(-1)
		c.drop(DropQueueFull, 1, nil)
		return
	}
	if c.bytes.Add(it.size) > c.c.QueueBytes {
		c.release(it.size)
		c.drop(DropQueueFull, 1, nil)
		return
	}
	c.debug("event queued", "event", it.kind(), "queued", c.count.Load())
	if c.spool != nil {
		c.spool.push(lane, it)
		return
	}
	c.lanes[lane].push(it)
}

// release returns an item's share of the queue bounds.
func (c *Client) release(size int64) {
	c.count.Add(-1)
	c.bytes.Add(-size)
}

const dropLogEvery = 10 * time.Second

// drop counts dropped events and logs them: the first immediately, later
// ones at intervals.
func (c *Client) drop(reason string, n int64, err error) {
	c.debug("events dropped", "reason", reason, "events", n, "err", err)
	s := &c.stats
	s.Lock()
	defer s.Unlock()
	s.dropped[reason] += n
	if reason == DropBeforeSend && err == nil {
		return // dropped on purpose
	}
	s.pending[reason] += n
	if err != nil {
		s.lastErr = err.Error()
	}
	if now := time.Now(); now.Sub(s.logged) >= dropLogEvery {
		s.logged = now
		c.logDrops()
	}
}

// logDrops must be called with stats locked.
func (c *Client) logDrops() {
	if len(c.stats.pending) == 0 {
		return
	}
	args := make([]any, 0, 2*len(c.stats.pending)+2)
	for reason, n := range c.stats.pending {
		args = append(args, reason, n)
	}
	if c.stats.lastErr != "" {
		args = append(args, "err", c.stats.lastErr)
	}
	c.log.Warn("events were dropped", args...)
	clear(c.stats.pending)
}

// Stats is a snapshot of a client's counters.
type Stats struct {
	Queued  int64            // events waiting or being delivered
	Bytes   int64            // their approximate size in bytes
	Spooled int64            // those that are on disk and survive the process
	Sent    int64            // events that the host accepted
	Dropped map[string]int64 // events that will never arrive, by reason (DropQueueFull …)
	LastErr string           // the last error of the host; without content and keys
}

// Lost returns the number of dropped events, except those that BeforeSend dropped.
func (s Stats) Lost() (n int64) {
	for reason, k := range s.Dropped {
		if reason != DropBeforeSend {
			n += k
		}
	}
	return n
}

// Stats returns the current counters.
func (c *Client) Stats() Stats {
	if !c.Enabled() {
		return Stats{}
	}
	var onDisk int64
	if c.spool != nil {
		onDisk = c.spool.waiting()
	}
	c.stats.Lock()
	defer c.stats.Unlock()
	return Stats{Spooled: onDisk, Queued: c.count.Load(), Bytes: c.bytes.Load(), Sent: c.stats.sent, Dropped: maps.Clone(c.stats.dropped), LastErr: c.stats.lastErr}
}

// DeliveryError is returned when [Client.Flush] or [Client.Close] could not deliver
// all events. It unwraps to the cause, such as context.DeadlineExceeded.
type DeliveryError struct {
	Op      string // "flush" or "close"
	Kept    int64  // in the spool: delivered by the next client that opens the folder
	Waiting int64  // in memory, still being delivered; 0 after Close
	Dropped int64  // lost
	Err     error  // the cause; nil if the host rejected the events
	LastErr string // the last error of the host; without content and keys
}

func (e *DeliveryError) Error() string {
	var parts []string
	for _, n := range []struct {
		n    int64
		what string
	}{{e.Dropped, "events were dropped"}, {e.Kept, "events are kept in the spool"}, {e.Waiting, "events are still queued"}} {
		if n.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n.n, n.what))
		}
	}
	out := "hedgerow: " + e.Op
	if len(parts) > 0 {
		out += ": " + strings.Join(parts, ", ")
	}
	if e.Err != nil {
		out += ": " + e.Err.Error()
	}
	if e.LastErr != "" {
		out += ": " + e.LastErr
	}
	return out
}

func (e *DeliveryError) Unwrap() error { return e.Err }

// outcome returns the error of an operation, or nil if every event arrived.
func (c *Client) outcome(op string, lost int64, err error) error {
	s := c.Stats()
	e := &DeliveryError{Op: op, Dropped: s.Lost() - lost, Err: err, LastErr: s.LastErr}
	if err != nil {
		e.Kept, e.Waiting = s.Spooled, max(0, s.Queued-s.Spooled)
	}
	if op == "close" {
		e.Waiting = 0 // dropped and counted, or inside a BeforeSend that does not return
	}
	if e.Err == nil && e.Dropped == 0 {
		return nil
	}
	return e
}

// bounded applies the client's own timeout to a ctx without a deadline, less the
// time reserved for later steps.
func (c *Client) bounded(ctx context.Context, rest time.Duration) (context.Context, context.CancelFunc) {
	if _, has := ctx.Deadline(); has || c.c.ShutdownTimeout < 0 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, max(c.c.ShutdownTimeout-rest, c.c.ShutdownTimeout/2))
}

// Flush delivers the events captured before the call and returns when each has
// arrived or been dropped. It stops when ctx ends, or after [Config.ShutdownTimeout]
// if ctx has no deadline; queued events are still delivered in the background then.
// The error is a [*DeliveryError].
func (c *Client) Flush(ctx context.Context) error {
	if !c.Enabled() {
		return nil
	}
	ctx, cancel := c.bounded(ctx, 0)
	defer cancel()
	lost := c.Stats().Lost()
	c.debug("flush begins", "queued", c.count.Load())
	err := c.outcome("flush", lost, c.flush(ctx))
	c.debug("flush ended", "queued", c.count.Load(), "err", err)
	return err
}

func (c *Client) flush(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err // no time left: start nothing
	}
	c.held.release()
	if c.spool != nil && !c.spool.drain(ctx.Done()) {
		return ctx.Err()
	}
	var targets [len(c.lanes)]uint64
	for i, l := range c.lanes {
		targets[i] = l.flush()
	}
	for i, l := range c.lanes {
		if err := l.wait(ctx, targets[i]); err != nil {
			return err
		}
	}
	return nil
}

// closeWait is the part of Close's time reserved for requests in flight.
const closeWait = time.Second

// Close delivers the queued events and stops the client. It stops waiting when ctx
// ends, or after [Config.ShutdownTimeout] if ctx has no deadline. Events that are
// still queued then are dropped and counted, or stay in the spool for the next
// client if [Config.SpoolDir] is set. The error is a [*DeliveryError] with both
// numbers. Events captured afterwards are dropped. Further calls do nothing.
func (c *Client) Close(ctx context.Context) error {
	if !c.Enabled() {
		return nil
	}
	c.held.release()
	c.mu.Lock()
	again := c.closed
	c.closed = true
	c.mu.Unlock()
	if again {
		return nil
	}
	lost := c.Stats().Lost()
	ctx, cancel := c.bounded(ctx, closeWait)
	defer cancel()
	err := c.flush(ctx)
	if c.spool != nil {
		c.spool.stop()
		late := time.NewTimer(closeWait / 2)
		defer late.Stop()
		select {
		case <-c.spool.ended:
		case <-late.C: // a BeforeSend that does not return
		}
	}
	c.cancel() // what remains is dropped
	for _, l := range c.lanes {
		l.close()
	}
	done := make(chan struct{})
	go func() { c.workers.Wait(); close(done) }()
	t := time.NewTimer(closeWait / 2)
	defer t.Stop()
	select {
	case <-done:
		if c.spool != nil {
			c.spool.close()
		}
	case <-t.C: // a BeforeSend or an HTTP client that does not return
		err = errors.Join(err, errors.New("a delivery did not return"))
	}
	if c.c.HTTPClient == nil {
		c.http.CloseIdleConnections()
	}
	err = c.outcome("close", lost, err)
	c.stats.Lock()
	defer c.stats.Unlock()
	c.logDrops()
	return err
}

// leveled overrides the level of the handler it wraps: slog's default handler would
// discard everything below info.
type leveled struct {
	slog.Handler
	level slog.Leveler
}

func (h leveled) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level.Level() }

func (h leveled) WithAttrs(a []slog.Attr) slog.Handler {
	return leveled{h.Handler.WithAttrs(a), h.level}
}
func (h leveled) WithGroup(n string) slog.Handler { return leveled{h.Handler.WithGroup(n), h.level} }

// isLLM reports whether PostHog's AI route takes events of the name.
func isLLM(name string) bool { return strings.HasPrefix(name, "$ai_") }
