package gateway

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/provider"
)

// socket records the exchanges of one WebSocket: each becomes an event as soon
// as it has ended. The two directions call it from different goroutines.
type socket struct {
	x      *exchange
	header http.Header // of the provider's response to the handshake
	stop   func()      // ends the connection
	chain  *chain

	mu        sync.Mutex
	messages  *provider.Socket
	up, down  *frames
	waiting   []callerMessage
	leaving   bool
	upClosed  bool // the caller sent a close frame
	gone      bool // the caller ended it, with or without a close frame
	over      bool // the provider sends nothing more
	code      int  // of the provider's close frame; 0: none was received
	reason    string
	ended     bool
	exchanges int
}

// newSocket returns the recorder of the exchange's WebSocket. stop ends the
// connection.
func newSocket(x *exchange, stop func()) *socket {
	s := &socket{x: x, header: x.rec.call.ResponseHeader, stop: stop, chain: newChain()}
	op := provider.SocketOperation(x.route.below)
	s.messages = provider.NewSocket(op, x.in.URL.Query(), s)
	s.up, s.down = newFrames(x.g.limits.RequestBytes, &x.g.requests), newFrames(x.g.limits.ResponseHead, &x.g.responses)
	s.up.message = func(b []byte, truncated bool) bool {
		s.waiting = append(s.waiting, callerMessage{b, truncated, time.Now()})
		return true
	}
	s.up.closed = func(int, string) { s.upClosed, s.gone = true, s.gone || s.code == 0 && !s.over }
	s.down.message = func(b []byte, truncated bool) bool {
		s.messages.FromProvider(b, truncated, time.Now())
		return false
	}
	s.down.closed = func(code int, reason string) {
		s.code, s.reason = code, event.FirstChars(event.CleanValue(reason), 500)
	}
	return s
}

// callerMessage is a message of the caller that has not been parsed yet.
type callerMessage struct {
	message   []byte
	truncated bool
	at        time.Time
}

// beforeCaller copies bytes before they are forwarded to the provider, whose
// response must not be parsed before them.
func (s *socket) beforeCaller(p []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.up.write(p)
}

// afterCaller parses them once they have been forwarded.
func (s *socket) afterCaller([]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.read(nil)
}

// fromProvider parses bytes that were forwarded to the caller.
func (s *socket) fromProvider(p []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.read(p)
}

func (s *socket) read(p []byte) {
	defer func() {
		if v := recover(); v != nil {
			s.x.g.metrics.panics.Inc()
			s.x.g.log.Error("gateway: WebSocket parser panicked", "provider", s.x.route.up.provider, "panic", fmt.Sprintf("%T", v))
			s.up.stop()
			s.down.stop()
		}
	}()
	list := s.waiting
	s.waiting = nil
	for _, w := range list {
		s.messages.FromCaller(w.message, w.truncated, w.at)
	}
	s.down.write(p)
	if s.leaving && !s.messages.Busy() {
		s.stop()
	}
}

// leave ends the connection as soon as no exchange is in progress. It reports
// whether one is.
func (s *socket) leave() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaving = true
	return s.messages.Busy()
}

// callerEnded records that the caller sends nothing more. It reports whether
// the caller sent a close frame, to which the provider responds.
func (s *socket) callerEnded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = s.gone || s.code == 0 && !s.over
	return s.upClosed
}

// providerEnded records that the provider sends nothing more.
func (s *socket) providerEnded() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
}

// mayLeave reports whether a close frame may be sent to the provider, or to the
// caller, at this point.
func (s *socket) mayLeave(toProvider bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if toProvider {
		return !s.upClosed && s.up.between()
	}
	return s.code == 0 && s.down.between()
}

// end records the exchanges that were in progress when the connection ended.
func (s *socket) end(closing bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.up.release()
	defer s.down.release()
	s.read(nil)
	s.ended = true
	if closing {
		s.code, s.reason = 1001, "hedgerow is stopping"
	}
	s.messages.Close(time.Now())
	s.x.rec.socket = &socketEnd{exchanges: s.exchanges, code: s.code, reason: s.reason, unread: s.up.broken || s.down.broken}
}

// broken returns why an exchange that is in progress at the end of the
// connection failed.
func (s *socket) broken() (errType string, err error) {
	switch {
	case !s.ended:
		return "", nil
	case s.gone:
		return event.ErrTypeClientGone, errors.New("the caller closed the WebSocket")
	case s.code == 0, s.code == 1000, s.code == 1005:
		return "", nil // the truncated response is the only information
	case s.reason != "":
		return event.ErrTypeStream, fmt.Errorf("the WebSocket was closed: %d %s", s.code, s.reason)
	}
	return event.ErrTypeStream, fmt.Errorf("the WebSocket was closed: %d", s.code)
}

// Begin implements [provider.SocketRecorder].
func (s *socket) Begin(op string, request []byte, truncated bool, at time.Time) provider.SocketRecording {
	x := s.x
	c := &socketCall{s: s}
	c.rec = &record{projectID: x.rec.projectID, surface: x.rec.surface, header: x.in.Header, chain: s.chain}
	c.rec.call = provider.Call{
		Provider: x.rec.call.Provider, Dialect: x.rec.call.Dialect, Method: x.in.Method, Path: x.route.below, BaseURL: x.route.base,
		Attribution: x.rec.call.Attribution, Socket: op, ResponseHeader: s.header, Status: http.StatusSwitchingProtocols, Start: at,
	}
	c.recorder = recorder{budget: &x.g.responses, limit: x.g.limits.ResponseHead, tailLen: x.g.limits.ResponseTail}
	c.request(request, truncated)
	if x.starts && len(request) > 0 && !truncated {
		c.start()
	}
	return c
}

// socketCall records one exchange of a WebSocket.
type socketCall struct {
	s        *socket
	rec      *record
	recorder recorder
	total    int64
	held     int64 // taken from the budget of requests
}

// request keeps the request, if the budget allows it.
func (c *socketCall) request(b []byte, truncated bool) {
	if b == nil {
		return
	}
	call, g := &c.rec.call, c.s.x.g
	g.requests.give(c.held)
	c.held = 0
	call.RequestBytes = int64(len(b))
	if n := int64(cap(b)); g.requests.take(n) {
		c.held, call.Request, call.RequestTruncated = n, b, truncated
		return
	}
	g.metrics.unread.WithLabelValues("budget").Inc()
	call.Request, call.RequestTruncated = nil, true
}

// start records the start of the exchange.
func (c *socketCall) start() {
	rec := c.rec
	asked := rec.call
	asked.RequestHeader = withoutSecrets(rec.header)
	e := provider.Parse(&asked)
	attribute(e, rec.header)
	if rec.traceID = e.TraceID; rec.traceID == "" {
		rec.traceID = c.s.chain.of(e)
	}
	rec.spanID = event.NewID()
	start := *rec
	start.start = true
	rec.startSent = c.s.x.g.capture.offer(&start)
}

// Add implements [provider.SocketRecording]: the message becomes a server-sent
// event.
func (c *socketCall) Add(message []byte, at time.Time) {
	r := &c.recorder
	if message == nil {
		r.full, r.cut = true, true
		return
	}
	if r.head == nil && !r.full {
		r.begin(-1)
	}
	for i, b := range message { // between values only: JSON strings have none
		if b == '\n' || b == '\r' {
			message[i] = ' '
		}
	}
	r.write([]byte("data: "))
	r.write(message)
	r.write([]byte("\n\n"))
	c.total += int64(len("data: ") + len(message) + len("\n\n"))
	c.rec.mark(c.total, at.Sub(c.rec.call.Start))
}

// End implements [provider.SocketRecording].
func (c *socketCall) End(request []byte, at time.Time) {
	s, call := c.s, &c.rec.call
	s.exchanges++
	c.request(request, false)
	call.Latency = at.Sub(call.Start)
	call.ErrType, call.Err = s.broken()
	call.ResponseTail = c.recorder.end()
	call.Response, call.ResponseBytes, call.ResponseTruncated = c.recorder.head, c.total, c.recorder.cut
	c.rec.head = c.recorder.head
	s.x.g.capture.offer(c.rec)
	s.x.g.requests.give(c.held)
}

// socketEnd is the data of the connection's own event.
type socketEnd struct {
	exchanges int // number of separate events
	code      int // of the provider's close frame; 0: none was received
	reason    string
	unread    bool // its messages could not be parsed
}

// describe adds the data to the event of the connection.
func (w *socketEnd) describe(e *event.Event) {
	_ = e.SetProperty("websocket_exchanges", w.exchanges)
	if w.code != 0 {
		_ = e.SetProperty("websocket_close_code", w.code)
	}
	if w.reason != "" {
		_ = e.SetProperty("websocket_close_reason", w.reason)
	}
	if w.unread {
		e.ParseError = "the WebSocket's frames cannot be parsed: only bytes are counted"
	}
}
