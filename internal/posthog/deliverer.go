package posthog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// item is one event on its way.
type item struct {
	d     event.Delivery
	since time.Time // when it was fetched

	made    *settings // those by which out and body were made
	out     *event.Event
	body    []byte // as it is sent
	limit   int    // largest body that PostHog may take after a 413; 0 where there was none
	retried bool
}

// lane holds the events of one kind: AI events have a route, limits and
// requests of their own.
type lane struct {
	ai      bool
	pending []*item // the dispatcher's own
	bytes   int     // of their bodies
	free    int     // requests that may still be started

	mu    sync.Mutex
	pause time.Time // no request before: Retry-After, or a refused key
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
		hold: hold{items: make(map[*item]struct{}), freed: make(chan struct{}, 1)}, freed: make(chan *lane, 2*m.c.Client.MaxInFlight)}
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

func (d *deliverer) run(ctx context.Context) {
	d.st.setHeld(d.hold.oldest)
	defer d.st.setHeld(nil)
	q := d.open(ctx)
	if q == nil {
		return
	}
	in := make(chan []*item)
	var wg sync.WaitGroup
	wg.Go(func() { d.fetch(ctx, q, in) })
	d.dispatch(ctx, in, &wg)
	wg.Wait()
	for _, it := range d.hold.all() { // fetched and never sent
		d.release(it)
	}
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
		d.trouble("hedgerow's own journal does not give out events", "err", err)
		sleep(ctx, wait)
	}
	return nil
}

// fetch takes events out of the queue while there is room for them.
func (d *deliverer) fetch(ctx context.Context, q event.Queue, in chan<- []*item) {
	wait := time.Duration(0)
	for ctx.Err() == nil {
		room := d.hold.room(ctx, d.window)
		if room == 0 {
			return
		}
		conn := d.r.settings.Load().conn
		ds, err := q.Fetch(ctx, min(room, max(conn.FlushAt, minFetch)), min(fetchWait, conn.FlushInterval/2))
		items := make([]*item, len(ds))
		for i, dl := range ds {
			items[i] = &item{d: dl, since: time.Now()}
			d.hold.add(items[i])
		}
		if len(items) > 0 {
			select {
			case in <- items:
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
			d.trouble("hedgerow's own journal does not give out events", "err", err)
		}
		wait = min(max(2*wait, 100*time.Millisecond), 10*time.Second)
		sleep(ctx, wait)
	}
}

// dispatch makes batches: full ones at once, others when their first event has
// waited for the flush interval. It also keeps what is held from being
// delivered again. Senders are added to wg.
func (d *deliverer) dispatch(ctx context.Context, in <-chan []*item, wg *sync.WaitGroup) {
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
				left := l.pending[0].since.Add(s.conn.FlushInterval).Sub(time.Now())
				if len(l.pending) < s.conn.FlushAt && l.bytes < d.m.route(s.conn.Host, l.ai).maxBatch && left > 0 && !d.hold.full(d.window()) {
					wake = min(wake, left)
					break
				}
				batch := l.take(s.conn.FlushAt, d.m.route(s.conn.Host, l.ai).maxBatch)
				l.free--
				wg.Go(func() {
					d.deliver(ctx, l, batch)
					d.freed <- l // has room for all
				})
			}
		}
		timer.Reset(wake)
		select {
		case items := <-in:
			for _, it := range items {
				d.admit(it, lanes)
			}
		case l := <-d.freed:
			l.free++
		case <-timer.C:
		case <-extend.C:
			for _, it := range d.hold.all() {
				if err := it.d.Extend(); err != nil {
					d.log.Debug("extend a delivery", "err", err)
				}
			}
		case <-s.stale:
		case <-ctx.Done():
			return
		}
	}
}

// take removes a batch from the front. Of two events with one uuid the second
// stays for the next.
func (l *lane) take(n, maxBytes int) []*item {
	var batch, rest []*item
	seen := make(map[string]bool, n)
	size := 0
	for i, it := range l.pending {
		if len(batch) >= n || len(batch) > 0 && size+len(it.body) > maxBytes {
			rest = append(rest, l.pending[i:]...)
			break
		}
		if seen[it.out.UUID] {
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

// admit shapes a new event and puts it into its lane.
func (d *deliverer) admit(it *item, lanes []*lane) {
	if !d.make(it, d.r.settings.Load()) {
		return
	}
	l := lanes[1]
	if it.out.IsLLM() {
		l = lanes[0]
	}
	l.pending = append(l.pending, it)
	l.bytes += len(it.body)
}

// make shapes and encodes an event by the given settings. It reports false where
// that has ended it.
func (d *deliverer) make(it *item, s *settings) bool {
	out, body, err := d.encode(it.d.Event, s)
	switch {
	case err != nil:
		d.dead(it, "the event cannot be encoded: "+err.Error())
		return false
	case out == nil:
		d.st.filtered.Add(1)
		d.end(it, it.d.Ack())
		return false
	}
	d.hold.resize(it, len(body))
	it.made, it.out, it.body = s, out, body
	return true
}

// encode never panics: one odd event must not stop the others, again after
// every restart. Its errors do not quote the event.
func (d *deliverer) encode(e *event.Event, s *settings) (out *event.Event, body []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			d.log.Error("an event made its encoding panic", "uuid", e.UUID, "type", fmt.Sprintf("%T", r))
			out, body, err = nil, nil, errors.New("internal error")
		}
	}()
	out = d.m.c.Shape(s.conn, s.proj, e)
	if out == nil {
		return nil, nil, nil
	}
	if body, err = out.MarshalPostHog(d.wire(e)); err != nil {
		return nil, nil, errors.New("one of its values is not JSON")
	}
	return out, body, nil
}

const libName = "hedgerow"

func (d *deliverer) wire(e *event.Event) event.Wire {
	return event.Wire{Lib: libName, LibVersion: d.m.c.Version, TraceURL: d.m.c.TraceURL(e), IgnoreSentAt: true}
}

// release gives an event back to the queue.
func (d *deliverer) release(it *item) { d.end(it, it.d.Retry(0)) }

// dead gives an event up.
func (d *deliverer) dead(it *item, reason string) {
	d.log.Warn("an event became a dead letter", "uuid", it.d.Event.UUID, "event", it.d.Event.Name, "bytes", len(it.body), "reason", reason)
	err := it.d.Dead(reason)
	if err == nil {
		d.st.dead.Add(1)
	}
	d.end(it, err)
}

// end forgets an event whose delivery has been ended. Where that failed the
// queue gives it out again, and PostHog drops the repetition.
func (d *deliverer) end(it *item, err error) {
	if err != nil {
		d.log.Warn("the journal did not take note of a delivery; it will come again", "err", err)
	}
	d.hold.remove(it)
}

// trouble logs what goes wrong: each thing when it begins and once a minute.
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
		d.log.Info("delivery to PostHog goes on")
	}
}

// hold is what is out of the queue and not ended.
type hold struct {
	mu    sync.Mutex
	items map[*item]struct{}
	bytes int
	freed chan struct{} // told after a removal; the fetcher alone listens
}

func (h *hold) add(it *item) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.items[it] = struct{}{}
	h.bytes += it.d.Bytes + len(it.body)
}

// resize takes note of a new body.
func (h *hold) resize(it *item, body int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.bytes += body - len(it.body)
}

func (h *hold) remove(it *item) {
	h.mu.Lock()
	if _, ok := h.items[it]; ok {
		delete(h.items, it)
		h.bytes -= it.d.Bytes + len(it.body)
	}
	h.mu.Unlock()
	select {
	case h.freed <- struct{}{}:
	default:
	}
}

func (h *hold) full(window int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.items) >= window || h.bytes >= maxHeldBytes
}

// room waits until there is some and says how much, or 0 when ctx has ended.
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

func (h *hold) all() []*item {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]*item, 0, len(h.items))
	for it := range h.items {
		out = append(out, it)
	}
	return out
}

func (h *hold) oldest() (n int, oldest time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for it := range h.items {
		if t := it.d.Event.Timestamp; oldest.IsZero() || t.Before(oldest) {
			oldest = t
		}
	}
	return len(h.items), oldest
}

// sleep waits, or returns early when ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
