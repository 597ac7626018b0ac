package posthog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/privacy"
	"github.com/hedgerow/hedgerow/server/internal/supervise"
)

// origin is an event of the journal being delivered. In some schemas it is
// sent as several items; it ends when all of them have.
type origin struct {
	d     event.Delivery
	since time.Time          // when it was fetched
	bytes int                // of its items' bodies; set by hold
	uuids []string           // of its items
	held  []privacy.Withheld // properties that are not sent

	mu     sync.Mutex
	left   int    // items that have not ended
	sent   bool   // PostHog has one
	back   bool   // one could not be sent: all come again, and PostHog drops repetitions
	reason string // the reason for a dead letter
}

// item is one event as it leaves.
type item struct {
	from    *origin
	made    *settings // those by which out and body were made
	out     *event.Event
	body    []byte // as it is sent
	limit   int    // largest body that PostHog may take after a 413; 0 if there was none
	retried bool
}

// lane has the events of one kind: AI events have their own route, limits and
// requests.
type lane struct {
	ai      bool
	pending []*item // the dispatcher's own
	bytes   int     // of their bodies
	free    int     // requests that may still be started

	mu    sync.Mutex
	pause time.Time // no request before: Retry-After, or a rejected key
}

// deliverer delivers to one connection, from its being enabled to its being
// disabled.
type deliverer struct {
	m     *Manager
	r     *runner
	st    *stats
	log   *slog.Logger
	hold  hold
	freed chan *lane

	logMu  sync.Mutex
	logged string // the last trouble that was logged
	logAt  time.Time
}

func newDeliverer(m *Manager, id string, r *runner, st *stats) *deliverer {
	return &deliverer{m: m, r: r, st: st, log: m.log.With("connection", id),
		hold: hold{items: make(map[*origin]struct{}), freed: make(chan struct{}, 1)}, freed: make(chan *lane, 2*m.c.Client.MaxInFlight)}
}

const (
	maxHeldBytes = 32 << 20 // of frames and bodies that one connection keeps in memory
	fetchWait    = 50 * time.Millisecond
	minFetch     = 100
)

// window is how many events may be out of the queue.
func (d *deliverer) window() int {
	return d.r.settings.Load().conn.FlushAt * (d.m.c.Client.MaxInFlight + 2)
}

// run delivers until ctx ends, and then returns nil. A panic ends it with an error.
func (d *deliverer) run(ctx context.Context) error {
	d.st.setHeld(d.hold.oldest)
	defer d.st.setHeld(nil)
	q := d.open(ctx)
	if q == nil {
		return nil
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	caught := func(f func()) {
		if err := supervise.Catch(func() error { f(); return nil }); err != nil {
			fail(err)
		}
	}
	in := make(chan []*origin)
	var wg sync.WaitGroup
	wg.Go(func() { caught(func() { d.fetch(ctx, q, in) }) })
	caught(func() { d.dispatch(ctx, in, func(f func()) { wg.Go(func() { caught(f) }) }) })
	wg.Wait()
	for _, o := range d.hold.all() { // fetched and not all of it sent
		d.end(o, o.d.Retry(0))
	}
	if p := (*supervise.PanicError)(nil); errors.As(context.Cause(ctx), &p) {
		return p
	}
	return nil
}

// open opens the queue, however long that takes. It returns nil when ctx ends.
func (d *deliverer) open(ctx context.Context) event.Queue {
	defer d.st.setTrouble(d, "")
	for wait := 100 * time.Millisecond; ctx.Err() == nil; wait = min(2*wait, 10*time.Second) {
		q, err := d.m.c.OpenQueue(ctx, d.r.settings.Load().conn)
		if err == nil {
			return q
		}
		if ctx.Err() != nil {
			break
		}
		d.st.setTrouble(d, StateRetrying)
		d.trouble("events cannot be read from hedgerow's journal", "err", err)
		sleep(ctx, wait)
	}
	return nil
}

// fetch takes events out of the queue while they fit.
func (d *deliverer) fetch(ctx context.Context, q event.Queue, in chan<- []*origin) {
	wait := time.Duration(0)
	for ctx.Err() == nil {
		room := d.hold.room(ctx, d.window)
		if room == 0 {
			return
		}
		conn := d.r.settings.Load().conn
		ds, err := q.Fetch(ctx, min(room, max(conn.FlushAt, minFetch)), min(fetchWait, conn.FlushInterval/2))
		ds = d.join(ctx, d.filterJoined(ctx, d.filterUnwanted(ctx, ds)))
		origins := make([]*origin, len(ds))
		for i, dl := range ds {
			origins[i] = &origin{d: dl, since: time.Now()}
			d.hold.add(origins[i])
		}
		if len(origins) > 0 {
			select {
			case in <- origins:
			case <-ctx.Done():
				return // run releases them
			}
		}
		if err == nil {
			wait = 0
			continue
		}
		var e *event.Error
		switch {
		case ctx.Err() != nil || errors.Is(err, context.Canceled):
			return
		case errors.As(err, &e) && e.Code == event.CodeNotFound:
			if q = d.open(ctx); q == nil {
				return
			}
		case e == nil || e.Code != event.CodeUnavailable: // unavailable: the journal is closing
			d.trouble("events cannot be read from hedgerow's journal", "err", err)
		}
		wait = min(max(2*wait, 100*time.Millisecond), 10*time.Second)
		sleep(ctx, wait)
	}
}

// dispatch builds batches: full ones immediately, others when their first
// event has waited for the flush interval. It also extends the deliveries of
// held events. start starts the senders.
func (d *deliverer) dispatch(ctx context.Context, in <-chan []*origin, start func(func())) {
	n := d.m.c.Client.MaxInFlight
	lanes := []*lane{{ai: true, free: n}, {free: n}}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	extend := time.NewTicker(d.m.c.Client.ExtendEvery)
	defer extend.Stop()
	for {
		s := d.r.settings.Load()
		wake := time.Hour
		for _, l := range lanes {
			for len(l.pending) > 0 && l.free > 0 {
				left := time.Until(l.pending[0].from.since.Add(s.conn.FlushInterval))
				if len(l.pending) < s.conn.FlushAt && l.bytes < d.m.route(s.conn.Host, l.ai).maxBatch && left > 0 && !d.hold.full(d.window()) {
					wake = min(wake, left)
					break
				}
				batch := l.take(s.conn.FlushAt, d.m.route(s.conn.Host, l.ai).maxBatch)
				l.free--
				start(func() {
					d.deliver(ctx, l, batch)
					d.freed <- l // has capacity for all
				})
			}
		}
		timer.Reset(wake)
		select {
		case origins := <-in:
			d.hold.arrived(len(origins))
			for _, o := range origins {
				d.admit(o, lanes)
			}
		case l := <-d.freed:
			l.free++
		case <-timer.C:
		case <-extend.C:
			for _, o := range d.hold.all() {
				if err := o.d.Extend(); err != nil {
					d.log.Debug("extend a delivery", "err", err)
				}
			}
		case <-s.stale:
		case <-ctx.Done():
			return
		}
	}
}

// take removes a batch from the front. Items of one origin stay together, in
// order, so that a call's start is not sent after its end. The second of two
// items with one uuid waits for the next batch. So do historical events after
// others, and the reverse, because the historical flag applies to a whole batch.
func (l *lane) take(n, maxBytes int) []*item {
	var batch, rest []*item
	seen := make(map[string]bool, n)
	size := 0
	for i, it := range l.pending {
		together := len(batch) > 0 && batch[len(batch)-1].from == it.from
		if !together && len(batch) >= n || len(batch) > 0 && size+len(it.body) > maxBytes {
			rest = append(rest, l.pending[i:]...)
			break
		}
		if seen[it.out.UUID] || len(batch) > 0 && it.out.Historical != batch[0].out.Historical {
			rest = append(rest, it)
			continue
		}
		seen[it.out.UUID] = true
		batch = append(batch, it)
		size += len(it.body)
	}
	l.pending = rest
	l.bytes -= size
	return batch
}

// admit shapes a new event and puts what leaves of it into the lanes.
func (d *deliverer) admit(o *origin, lanes []*lane) {
	s := d.r.settings.Load()
	made, shaped, err := d.encode(o.d.Event, s)
	switch {
	case err != nil:
		d.giveUp(o, "the event cannot be encoded: "+err.Error())
		return
	case shaped.Block != "":
		d.giveUp(o, withheldReason+shaped.Block)
		return
	case len(made) == 0:
		d.st.filtered.Add(1)
		d.end(o, o.d.Ack())
		return
	}
	o.left, o.held = len(made), shaped.Withheld
	for _, it := range made {
		it.from, it.made = o, s
		o.uuids = append(o.uuids, it.out.UUID)
	}
	for _, it := range made {
		d.hold.resize(o, len(it.body))
		l := lanes[1]
		if it.out.IsLLM() {
			l = lanes[0]
		}
		l.pending = append(l.pending, it)
		l.bytes += len(it.body)
	}
}

// remake updates an item to changed settings. It returns false if that
// ended the item.
func (d *deliverer) remake(it *item, s *settings) bool {
	made, shaped, err := d.encode(it.from.d.Event, s)
	if err != nil {
		d.dead(it, "the event cannot be encoded: "+err.Error())
		return false
	}
	if shaped.Block != "" {
		d.dead(it, withheldReason+shaped.Block)
		return false
	}
	it.from.mu.Lock()
	it.from.held = shaped.Withheld
	it.from.mu.Unlock()
	if len(made) == 0 { // not for this connection any more
		d.finish(it)
		return false
	}
	if !slices.EqualFunc(made, it.from.uuids, func(m *item, id string) bool { return m.out.UUID == id }) {
		d.release(it) // another vocabulary since: back, and made afresh
		return false
	}
	now := made[slices.Index(it.from.uuids, it.out.UUID)]
	d.hold.resize(it.from, len(now.body)-len(it.body))
	it.made, it.out, it.body = s, now.out, now.body
	return true
}

// encode never panics: one odd event must not stop the others, again after
// every restart. Its errors do not quote the event.
func (d *deliverer) encode(e *event.Event, s *settings) (made []*item, shaped Converted, err error) {
	defer func() {
		if r := recover(); r != nil {
			d.log.Error("encoding an event panicked", "uuid", e.UUID, "type", fmt.Sprintf("%T", r))
			made, shaped, err = nil, Converted{}, errors.New("internal error")
		}
	}()
	shaped = d.m.c.Shape(s.conn, s.proj, e)
	if shaped.Block != "" {
		return nil, shaped, nil
	}
	for _, out := range shaped.Events {
		body, err := out.MarshalPostHog(d.m.wire(e))
		if err != nil {
			return nil, Converted{}, errors.New("one of its values is not valid JSON")
		}
		made = append(made, &item{out: out, body: body})
	}
	return made, shaped, nil
}

// withheldReason begins the reason of a dead letter that privacy made.
const withheldReason = "withheld by privacy mode: "

const libName = "hedgerow"

func (m *Manager) wire(e *event.Event) event.Wire {
	return event.Wire{Lib: libName, LibVersion: m.c.Version, TraceURL: m.c.TraceURL(e), IgnoreSentAt: true}
}

// release returns an item's event to the queue once its other items have
// ended.
func (d *deliverer) release(it *item) {
	it.from.mu.Lock()
	it.from.back = true
	it.from.mu.Unlock()
	d.finish(it)
}

// dead ends an item permanently. Other items of the event are sent; then the
// event becomes a dead letter, from which all can be sent again.
func (d *deliverer) dead(it *item, reason string) {
	o := it.from
	if it.out.Name != o.d.Event.Name {
		reason = it.out.Name + ": " + reason
	}
	o.mu.Lock()
	if o.reason == "" {
		o.reason = reason
	}
	o.mu.Unlock()
	d.finish(it)
}

// finish ends an item and, with the last of them, its event.
func (d *deliverer) finish(it *item) {
	o := it.from
	o.mu.Lock()
	o.left--
	left, sent, back, reason := o.left, o.sent, o.back, o.reason
	o.mu.Unlock()
	switch {
	case left > 0:
	case back:
		d.end(o, o.d.Retry(0))
	case reason != "":
		d.giveUp(o, reason)
	default:
		if !sent {
			d.st.filtered.Add(1)
		}
		if sent {
			d.noteHeld(o)
		}
		d.end(o, o.d.Ack())
	}
}

// noteHeld records withheld properties in the ledger, and logs those that quote the
// call's content.
func (d *deliverer) noteHeld(o *origin) {
	o.mu.Lock()
	held := o.held
	o.mu.Unlock()
	if len(held) == 0 {
		return
	}
	now := d.m.c.Now()
	if d.m.c.Ledger != nil {
		d.m.c.Ledger.Held(d.r.settings.Load().conn.ID, now, held)
	}
	for _, h := range held {
		if h.Reason != privacy.ReasonQuotes {
			continue
		}
		d.st.withheld.Add(1)
		if d.st.warn(h.Name, now) {
			d.log.Warn("a property was withheld from PostHog: it quotes the content of the call", "property", h.Name, "event", o.d.Event.Name, "uuid", o.d.Event.UUID)
		}
	}
}

// giveUp makes an event a dead letter.
func (d *deliverer) giveUp(o *origin, reason string) {
	d.log.Warn("an event became a dead letter", "uuid", o.d.Event.UUID, "event", o.d.Event.Name, "bytes", o.d.Bytes, "reason", reason)
	err := o.d.Dead(reason)
	if err == nil {
		d.st.dead.Add(1)
	}
	d.end(o, err)
}

// end forgets an event whose delivery has ended. If ending failed, the
// queue redelivers it, and PostHog drops the duplicate.
func (d *deliverer) end(o *origin, err error) {
	if err != nil {
		d.log.Warn("a delivery could not be acknowledged to the journal; it will be repeated", "err", err)
	}
	d.hold.remove(o)
}

// trouble logs errors: each kind when it begins and once a minute.
func (d *deliverer) trouble(words string, args ...any) {
	d.st.fail(words)
	d.logMu.Lock()
	defer d.logMu.Unlock()
	if now := time.Now(); words != d.logged || now.Sub(d.logAt) >= time.Minute {
		d.logged, d.logAt = words, now
		d.log.Warn("delivery to PostHog is held up: "+words, args...)
	}
}

// fine logs the end of trouble, once nothing waits any more.
func (d *deliverer) fine() {
	if d.st.troubled() {
		return
	}
	d.logMu.Lock()
	defer d.logMu.Unlock()
	if d.logged != "" {
		d.logged = ""
		d.log.Info("delivery to PostHog resumed")
	}
}

// hold tracks fetched events that have not ended.
type hold struct {
	mu    sync.Mutex
	items map[*origin]struct{}
	bytes int
	way   int           // items on their way to dispatch
	freed chan struct{} // signaled after a removal; the fetcher alone listens
}

func (h *hold) add(o *origin) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.items[o] = struct{}{}
	h.bytes += o.d.Bytes + o.bytes
	h.way++
}

// arrived records that dispatch received n of the added items.
func (h *hold) arrived(n int) {
	h.mu.Lock()
	h.way -= n
	h.mu.Unlock()
}

// resize takes note of bodies that have become larger, or smaller.
func (h *hold) resize(o *origin, by int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	o.bytes += by
	h.bytes += by
}

func (h *hold) remove(o *origin) {
	h.mu.Lock()
	if _, ok := h.items[o]; ok {
		delete(h.items, o)
		h.bytes -= o.d.Bytes + o.bytes
	}
	h.mu.Unlock()
	select {
	case h.freed <- struct{}{}:
	default:
	}
}

// full reports whether no more items arrive before some are sent. While items
// are on their way to dispatch a batch can still be filled.
func (h *hold) full(window int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.way == 0 && (len(h.items) >= window || h.bytes >= maxHeldBytes)
}

// room waits until there is capacity and returns its size, or 0 when ctx has
// ended.
func (h *hold) room(ctx context.Context, window func() int) int {
	for ctx.Err() == nil {
		h.mu.Lock()
		n := window() - len(h.items)
		if h.bytes >= maxHeldBytes {
			n = 0
		}
		h.mu.Unlock()
		if n > 0 {
			return n
		}
		select {
		case <-h.freed:
		case <-ctx.Done():
		}
	}
	return 0
}

func (h *hold) all() []*origin {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]*origin, 0, len(h.items))
	for o := range h.items {
		out = append(out, o)
	}
	return out
}

func (h *hold) oldest() (n int, oldest time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for o := range h.items {
		if t := o.d.Event.Timestamp; oldest.IsZero() || t.Before(oldest) {
			oldest = t
		}
	}
	return len(h.items), oldest
}

// sleep waits for d, or returns early when ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
