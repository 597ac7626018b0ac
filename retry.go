package hedgerow

import (
	"hash/maphash"
	"net/http"
	"sync"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/provider"
)

// openai-go and anthropic-sdk-go retry failed calls and send the attempt number
// in a header. An attempt that may be retried is kept back until the next one;
// together they become one event.
const (
	retryGrace = 10 * time.Second // the clients wait 8 s at most by default
	retryLimit = 90 * time.Second
)

// retryKey identifies the attempts of one call.
type retryKey struct {
	url  string
	body uint64
	at   *attribution
	n    int // attempts so far
}

func (x *exchange) retries(req *http.Request) {
	n, ok := provider.RetryCount(req.Header)
	if !ok {
		x.c.tries.begin(x, req)
		return
	}
	x.retry, x.counted = n, true
	x.c.traces.tried(x.trace(), min(n, 1))
	x.key = retryKey{req.Method + " " + req.URL.String(), maphash.Bytes(x.c.seed, x.call.Request), x.at, n}
	if n == 0 {
		return
	}
	if first := x.c.held.take(x.key); first != nil {
		x.call.Start = first.call.Start
	}
}

// mayRetry reports whether the client may try again.
func (x *exchange) mayRetry() bool {
	if x.ctx.Err() != nil || x.call.ErrType == event.ErrTypeClientGone {
		return false
	}
	switch x.call.ResponseHeader.Get("X-Should-Retry") {
	case "true":
		return true
	case "false":
		return false
	}
	switch s := x.call.Status; s {
	case 0, http.StatusRequestTimeout, http.StatusConflict, http.StatusTooManyRequests:
		return true
	default:
		return s >= 500
	}
}

// held keeps failed attempts that may be retried.
type held struct {
	mu sync.Mutex
	m  map[retryKey][]*heldTry
}

type heldTry struct {
	x     *exchange
	timer *time.Timer
}

func (h *held) hold(x *exchange) {
	wait := retryGrace
	if after := retryAfter(x.call.ResponseHeader.Get("Retry-After"), time.Now()); after > 0 {
		wait = min(after+retryGrace, retryLimit)
	}
	key := x.key
	key.n++
	t := &heldTry{x: x}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.m == nil {
		h.m = make(map[retryKey][]*heldTry)
	}
	h.m[key] = append(h.m[key], t)
	t.timer = time.AfterFunc(wait, func() {
		if h.remove(key, t) {
			x.capture()
		}
	})
}

func (h *held) remove(key retryKey, t *heldTry) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := h.m[key]
	for i := range list {
		if list[i] == t {
			h.put(key, append(list[:i:i], list[i+1:]...))
			return true
		}
	}
	return false
}

func (h *held) put(key retryKey, list []*heldTry) {
	if len(list) == 0 {
		delete(h.m, key)
	} else {
		h.m[key] = list
	}
}

func (h *held) take(key retryKey) *exchange {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := h.m[key]
	if len(list) == 0 {
		return nil
	}
	h.put(key, list[1:])
	list[0].timer.Stop()
	return list[0].x
}

// release captures all kept attempts.
func (h *held) release() {
	h.mu.Lock()
	var all []*exchange
	for _, list := range h.m {
		for _, t := range list {
			t.timer.Stop()
			all = append(all, t.x)
		}
	}
	clear(h.m)
	h.mu.Unlock()
	for _, x := range all {
		x.capture()
	}
}

// retryCount is the property with the number of retries of calls and outcomes. It is
// absent if the number is unknown.
const retryCount = "retry_count"

// setRetries sets the event's number of retries, if known.
func (x *exchange) setRetries(e *event.Event) {
	if x.retry > 0 {
		_ = e.SetProperty(retryCount, x.retry) // marshalling a number cannot fail
		_ = e.SetProperty("retries", x.retry)  // its earlier name
	}
}

// trace returns the trace of the call, as far as it is known before the body is
// read.
func (x *exchange) trace() string {
	if id := TraceID(x.ctx); id != "" {
		return id
	}
	return x.traceID
}

// Other clients do not number their attempts: the same request of the same task
// after a failed one is a retry. Each attempt is an event.

// tryKey identifies the attempts of such a client. Without a trace, the
// attribution in the context identifies the call, because it is the same value
// for all attempts.
type tryKey struct {
	trace string
	at    *attribution
	url   string
	body  uint64
}

// tries are failed attempts that may be retried.
type tries struct {
	mu sync.Mutex
	m  map[tryKey]failedTry
}

type failedTry struct {
	n  int // attempts so far
	at time.Time
}

// mostTries limits the number of remembered attempts. Beyond it retries are not
// recognised.
const mostTries = 1024

// begin recognizes a retry.
func (t *tries) begin(x *exchange, req *http.Request) {
	trace := x.trace()
	if trace == "" && x.at == nil || x.upload != nil {
		return
	}
	x.again = tryKey{trace: trace, url: req.Method + " " + req.URL.String(), body: maphash.Bytes(x.c.seed, x.call.Request)}
	if trace == "" {
		x.again.at = x.at
	}
	t.mu.Lock()
	last, ok := t.m[x.again]
	delete(t.m, x.again)
	t.mu.Unlock()
	if ok && time.Since(last.at) < retryLimit {
		x.retry = last.n
		x.c.traces.tried(trace, 1)
	}
}

// failed remembers an attempt that may be retried.
func (t *tries) failed(x *exchange) {
	if x.again == (tryKey{}) {
		return
	}
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.m == nil {
		t.m = make(map[tryKey]failedTry)
	}
	if len(t.m) >= mostTries {
		for key, old := range t.m {
			if now.Sub(old.at) >= retryLimit {
				delete(t.m, key)
			}
		}
	}
	if len(t.m) < mostTries {
		t.m[x.again] = failedTry{n: x.retry + 1, at: now}
	}
}

// traceTries counts the retries of each trace, for outcomes.
type traceTries struct {
	mu sync.Mutex
	m  map[string]tracedTries
}

type tracedTries struct {
	n    int
	last time.Time
}

const (
	mostTraces = 4096
	tracesKept = time.Hour // after the last call
)

// tried counts a call of a trace, and whether it was a retry.
func (t *traceTries) tried(trace string, more int) {
	if trace == "" {
		return
	}
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.m == nil {
		t.m = make(map[string]tracedTries)
	}
	old, known := t.m[trace]
	if !known && len(t.m) >= mostTraces {
		for id, o := range t.m {
			if now.Sub(o.last) >= tracesKept {
				delete(t.m, id)
			}
		}
		if len(t.m) >= mostTraces {
			return // its number stays unknown
		}
	}
	t.m[trace] = tracedTries{old.n + more, now}
}

// of returns the count of a trace, if known.
func (t *traceTries) of(trace string) (n int, known bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	o, known := t.m[trace]
	return o.n, known
}
