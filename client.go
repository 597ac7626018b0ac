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

// The reasons for which events are dropped: the keys of [Stats.Dropped].
const (
	DropQueueFull  = "queue_full"  // QueueSize or QueueBytes was reached
	DropClosed     = "closed"      // captured after Close, or left when Close ran out of time
	DropInvalid    = "invalid"     // no name, or not to be encoded
	DropBeforeSend = "before_send" // BeforeSend returned nil, or panicked
	DropTooLarge   = "too_large"   // even without its content
	DropWithheld   = "withheld"    // its name or an id quotes the call's content
	DropRefused    = "refused"     // the host says that the key, the address or the event is wrong
	DropRetries    = "retries"     // the host was in trouble for longer than MaxRetries
)

// Client captures events and delivers them in the background. Make one with
// [New] for the whole process and close it at the end.
//
// All methods are safe for concurrent use. Capturing never blocks, never
// panics, and never returns an error: the caller's work comes first. A nil
// *Client, and one that is disabled, do nothing.
type Client struct {
	c    Config
	log  *slog.Logger
	http *http.Client

	lanes [2]*lane // by laneOf; none where the client is disabled
	spool *spool   // nil without Config.SpoolDir
	count atomic.Int64
	bytes atomic.Int64

	held    held         // tries of calls, which wait for the next
	tries   tries        // those of clients that do not count them
	traces  traceTries   // how often the calls of a trace were tried again
	seed    maphash.Seed // of their keys
	refused sync.Map     // base URL → time.Time of a refusal of stream_options

	told flagsTold // of $feature_flag_called
	kept keptNames // properties that do not leave, for the log

	noAI atomic.Int64 // until when, in Unix nanoseconds, the host is taken to have no AI route

	mu     sync.RWMutex // held by enqueue for reading, so that Close has no sender beside it
	closed bool

	workers sync.WaitGroup
	ctx     context.Context // of deliveries; ends when Close runs out of time
	cancel  context.CancelFunc

	stats struct {
		sync.Mutex
		sent    int64
		dropped map[string]int64
		lastErr string
		pending map[string]int64 // dropped since it was last logged
		logged  time.Time
		refused time.Time // when a refusal was last logged
	}
}

// New returns a client, or an [*event.Error] of code invalid that says which
// setting is wrong. On an error the client is nil, which is safe to use: a
// program may log the error and go on without analytics.
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
		cl.lanes[i] = newLane(cl)
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

// recover queues what an earlier process has left. It was in a queue once: the
// bounds do not stop it, they only hold back what comes next.
func (c *Client) recover(left []recovered) {
	now := time.Now()
	for _, r := range left {
		it := item{out: []*outgoing{{body: r.body, number: r.number}}, size: int64(len(r.body)), since: now}
		c.count.Add(1)
		c.bytes.Add(it.size)
		c.lanes[r.lane].push(it)
	}
	if len(left) > 0 {
		c.log.Info("events that an earlier process has left are delivered", "events", len(left))
	}
}

// Enabled reports whether the client captures anything.
func (c *Client) Enabled() bool { return c != nil && c.lanes[0] != nil }

// The lanes: LLM events have a queue, batches and retries of their own, so that
// trouble with them does not hold back product events, or the reverse.
const (
	laneEvents = iota
	laneAI
)

// item is one event to be, on its way: whatever costs time is left to the
// worker.
type item struct {
	e     *event.Event
	build func() *event.Event // makes e, where e is nil
	name  string              // of an event that has nothing else, where build is nil too
	props []prop              // the caller's own
	at    *attribution        // of the context; laid over e
	size  int64
	since time.Time
	out   []*outgoing // made already: by the spool
}

// kind names what an item is, for the log.
func (it *item) kind() string {
	switch {
	case it.e != nil:
		return it.e.Name
	case it.build != nil:
		return "call"
	}
	return it.name
}

// debug logs a step of an event's way. What it says holds no content.
func (c *Client) debug(message string, args ...any) {
	if ctx := context.Background(); c.log.Enabled(ctx, slog.LevelDebug) {
		c.log.Log(ctx, slog.LevelDebug, message, args...)
	}
}

// enqueue hands an item to a lane, or drops it. It never waits.
func (c *Client) enqueue(lane int, it item) {
	it.size += 1 << 10 // the event itself, roughly
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

// release gives back what an item held.
func (c *Client) release(size int64) {
	c.count.Add(-1)
	c.bytes.Add(-size)
}

const dropLogEvery = 10 * time.Second

// drop counts events that will never arrive, and says so in the log: the first
// at once, later ones together.
func (c *Client) drop(reason string, n int64, err error) {
	c.debug("events dropped", "reason", reason, "events", n, "err", err)
	s := &c.stats
	s.Lock()
	defer s.Unlock()
	s.dropped[reason] += n
	if reason == DropBeforeSend && err == nil {
		return // as its owner wants it
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

// logDrops is called with stats locked.
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

// Stats is what a client tells about itself.
type Stats struct {
	Queued  int64            // events that wait or are under way
	Bytes   int64            // what they take, roughly
	Spooled int64            // those of them that are on disk: they survive the process
	Sent    int64            // events that the host has taken
	Dropped map[string]int64 // events that will never arrive, by DropQueueFull and its like
	LastErr string           // the last trouble with the host; without content and keys
}

// Lost is the number of all dropped events, but for those that BeforeSend was
// asked about.
func (s Stats) Lost() (n int64) {
	for reason, k := range s.Dropped {
		if reason != DropBeforeSend {
			n += k
		}
	}
	return n
}

// Stats tells how capture is doing.
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

// DeliveryError tells what became of the events that [Client.Flush] or
// [Client.Close] could not deliver. errors.Is finds the reason, such as
// context.DeadlineExceeded, in it.
type DeliveryError struct {
	Op      string // "flush" or "close"
	Kept    int64  // in the spool: the next client on the folder delivers them
	Waiting int64  // in memory: their delivery goes on; none after Close
	Dropped int64  // lost
	Err     error  // why; nil where the host refused them
	LastErr string // the last trouble with the host; without content and keys
}

func (e *DeliveryError) Error() string {
	var parts []string
	for _, n := range []struct {
		n    int64
		what string
	}{{e.Dropped, "events were dropped"}, {e.Kept, "events are kept in the spool"}, {e.Waiting, "events wait for their delivery"}} {
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

// outcome is the error of an operation, or nil where all has arrived.
func (c *Client) outcome(op string, lost int64, err error) error {
	s := c.Stats()
	e := &DeliveryError{Op: op, Dropped: s.Lost() - lost, Err: err, LastErr: s.LastErr}
	if err != nil {
		e.Kept, e.Waiting = s.Spooled, max(0, s.Queued-s.Spooled)
	}
	if op == "close" {
		e.Waiting = 0 // dropped, and counted as such, or held by what does not come back
	}
	if e.Err == nil && e.Dropped == 0 {
		return nil
	}
	return e
}

// bounded returns ctx with the client's own bound, less a part for what follows,
// where it has none.
func (c *Client) bounded(ctx context.Context, rest time.Duration) (context.Context, context.CancelFunc) {
	if _, has := ctx.Deadline(); has || c.c.ShutdownTimeout < 0 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, max(c.c.ShutdownTimeout-rest, c.c.ShutdownTimeout/2))
}

// Flush delivers what has been captured before the call, and returns when every
// such event has arrived or been dropped. It ends with ctx, or after
// [Config.ShutdownTimeout] where ctx has no deadline; the delivery of what waits
// then goes on. The error is a [*DeliveryError].
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
		return err // there is no time: nothing begins
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

// closeWait is what Close keeps of its time for the end of what runs.
const closeWait = time.Second

// Close delivers what is left and ends the client. It ends with ctx, or after
// [Config.ShutdownTimeout] where ctx has no deadline: what is left then is
// dropped and counted, or stays in the spool for the next client where there is
// one. The error is a [*DeliveryError], which has both numbers. Events captured
// afterwards are dropped. Closing again does nothing.
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
		case <-late.C: // a BeforeSend that does not come back
		}
	}
	c.cancel() // what is left is dropped from here on
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
	case <-t.C: // a BeforeSend or an HTTP client that does not come back
		err = errors.Join(err, errors.New("a delivery has not ended"))
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

// leveled is a handler with a level of its own, in place of that of the handler
// behind it: slog's default would hold back all that is below info.
type leveled struct {
	slog.Handler
	level slog.Leveler
}

func (h leveled) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level.Level() }

func (h leveled) WithAttrs(a []slog.Attr) slog.Handler {
	return leveled{h.Handler.WithAttrs(a), h.level}
}
func (h leveled) WithGroup(n string) slog.Handler { return leveled{h.Handler.WithGroup(n), h.level} }

func isLLM(name string) bool { return strings.HasPrefix(name, "$ai_") }
