package hedgerow

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/provider"
)

// Limits of the recorded part of a call, the same as in the gateway.
const (
	maxRequest   = 32 << 20 // a longer JSON body is streamed
	headOfUpload = 64 << 10 // recorded of streamed bodies
	maxHead      = 2 << 20  // recorded of the start of a response
	maxTail      = 64 << 10 // recorded of the end of a longer response
	headOfBinary = 4 << 10  // recorded of audio and images
	maxMarks     = 128
	maxDecoded   = 8 << 20
)

// Middleware is the middleware type of openai-go and anthropic-sdk-go:
// option.Middleware of both.
type Middleware = func(req *http.Request, next func(*http.Request) (*http.Response, error)) (*http.Response, error)

// Middleware captures every call of an openai-go or anthropic-sdk-go client:
//
//	openai.NewClient(option.WithMiddleware(client.Middleware()))
//
// Request and response are passed on unchanged and without delay, except for the
// members of [Config.AttributionFields] and session, session_id and trace, which
// are removed from the request. The response is recorded while the caller reads it;
// the event is created in the background afterwards. A call that the client library
// retries is one event with the property retry_count. Errors, interrupted streams
// and canceled calls are events too. A stream that is neither read to its end nor
// closed is recorded one second after its last event or an error, when the context
// of the call ends, or when its body is garbage collected, whichever is first; a
// slow reader is not cut off.
//
// Chat completion streams report usage only if it is requested; see
// [Config.LeaveUsage].
func (c *Client) Middleware() Middleware {
	return func(req *http.Request, next func(*http.Request) (*http.Response, error)) (*http.Response, error) {
		if !c.Enabled() || passed(req) {
			return next(req)
		}
		return c.exchange(req, next, c.providerOf(req, true))
	}
}

// Transport captures LLM calls made through an [http.Client]: for genai,
// go-openai, LangChainGo, Ollama and any other library with a configurable
// client. A request to an unknown host is captured only if it is a POST to a
// generating path (/v1/chat/completions, /v1/messages …). A nil base is
// [http.DefaultTransport]. See [Client.Middleware] for the rest.
func (c *Client) Transport(base http.RoundTripper) http.RoundTripper {
	if base == nil {
		base = http.DefaultTransport
	}
	if !c.Enabled() {
		return base
	}
	return &transport{c: c, base: base}
}

type transport struct {
	c    *Client
	base http.RoundTripper
}

func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if passed(req) {
		return t.base.RoundTrip(req)
	}
	to := t.c.providerOf(req, false)
	if to.name == "" {
		return t.base.RoundTrip(req)
	}
	return t.c.exchange(req, t.base.RoundTrip, to)
}

// CloseIdleConnections supports [http.Client.CloseIdleConnections].
func (t *transport) CloseIdleConnections() {
	if b, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		b.CloseIdleConnections()
	}
}

// passedKey marks the context of a request that a wrapper has seen: a client may use
// both the middleware and the transport.
type passedKey struct{}

func passed(req *http.Request) bool { return req.Context().Value(passedKey{}) != nil }

// exchange is one call, or one attempt of it.
type exchange struct {
	c    *Client
	to   target
	call provider.Call
	at   *attribution
	ctx  context.Context

	traceID, parentID string // from traceparent or the caller's tracer

	retry   int  // the number of this attempt; 0 is the first, or unknown
	counted bool // the client sent the number
	key     retryKey
	again   tryKey // if the client sends no number; zero if the task is unknown

	upload *upload // a body that is streamed

	mu     sync.Mutex // Read and Close of a response body may run concurrently
	body   recorder
	total  int64
	length int64  // Content-Length of the response; -1 if unknown
	kind   string // its content type
	stream bool   // it is server-sent events or JSON lines
	done   bool
	watch  watch
}

// watch ends an exchange whose response is no longer read or closed: when the
// request's context ends, when the body is garbage collected, or some time
// after the last event of a stream or an error.
type watch struct {
	ended   *time.Timer
	context func() bool
	garbage runtime.Cleanup
	on      bool
}

// afterEnd is how long a stream may stay open after its last event before it is
// captured: most clients read on to EOF or close it.
const afterEnd = time.Second

func (c *Client) exchange(req *http.Request, next func(*http.Request) (*http.Response, error), to target) (*http.Response, error) {
	x := &exchange{c: c, to: to, ctx: req.Context(), at: attributionOf(req.Context())}
	x.call = provider.Call{Provider: to.name, Dialect: to.dialect, Method: req.Method, Path: to.path, BaseURL: to.base, Start: time.Now(), Attribution: c.c.AttributionFields}
	if x.call.Method == "" {
		x.call.Method = http.MethodGet
	}
	x.call.RequestHeader = make(http.Header, 2)
	for _, name := range []string{"Content-Type", provider.HeaderRetryCount} {
		if v := req.Header[name]; len(v) > 0 {
			x.call.RequestHeader[name] = v
		}
	}
	x.spanContext(req)
	out, err := x.request(req)
	if err != nil {
		x.fail(err)
		return nil, err
	}
	x.retries(req)
	res, strip, err := x.roundTrip(out, next)
	if err != nil {
		x.fail(err)
		return res, err
	}
	x.wrapBody(res, strip)
	return res, nil
}

// spanContext uses the trace of the caller's tracer, or of the request's traceparent
// header.
func (x *exchange) spanContext(req *http.Request) {
	if f := x.c.c.SpanContext; f != nil {
		if x.traceID, x.parentID = f(x.ctx); x.traceID != "" {
			return
		}
	}
	if v := req.Header["Traceparent"]; len(v) > 0 {
		x.traceID, x.parentID = event.ParseTraceparent(v[0])
	}
}

// request returns the request to send. Its body has been recorded, or is
// recorded while it is sent.
func (x *exchange) request(req *http.Request) (*http.Request, error) {
	out := req.WithContext(context.WithValue(x.ctx, passedKey{}, true))
	if req.Body == nil || req.Body == http.NoBody {
		return out, nil
	}
	if req.ContentLength > maxRequest || !isJSON(req.Header) {
		x.upload = &upload{ReadCloser: req.Body}
		out.Body = x.upload
		if req.GetBody != nil {
			out.GetBody = func() (io.ReadCloser, error) {
				b, err := req.GetBody()
				return b, err
			}
		}
		return out, nil
	}
	// GetBody cannot be used to read the body: what it returns may share its position
	// with the body itself.
	var buf bytes.Buffer
	if req.ContentLength > 0 {
		buf.Grow(int(req.ContentLength) + bytes.MinRead)
	}
	_, err := buf.ReadFrom(io.LimitReader(req.Body, maxRequest+1))
	b := buf.Bytes()
	if err == nil && len(b) > maxRequest {
		x.upload = &upload{ReadCloser: struct {
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(b), req.Body), req.Body}}
		out.Body, out.GetBody = x.upload, nil
		return out, nil
	}
	_ = req.Body.Close()
	x.call.Request, x.call.RequestBytes = b, int64(len(b))
	if err != nil {
		x.call.RequestTruncated = true
		return nil, err
	}
	setBody(out, b)
	out.ContentLength = req.ContentLength
	return out, nil
}

func setBody(req *http.Request, b []byte) {
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
	req.Body, _ = req.GetBody()
	req.ContentLength = int64(len(b))
}

// isJSON reports whether a request's body is parsed. Without a content type it
// is treated as JSON.
func isJSON(h http.Header) bool {
	v := h["Content-Type"]
	if len(v) == 0 || v[0] == "" || v[0] == "application/json" {
		return true
	}
	t, _, err := mime.ParseMediaType(v[0])
	return err == nil && (t == "application/json" || strings.HasSuffix(t, "+json"))
}

// upload records the start of a body while it is sent.
type upload struct {
	io.ReadCloser
	mu   sync.Mutex
	head []byte
	n    int64
}

func (u *upload) Read(p []byte) (int, error) {
	n, err := u.ReadCloser.Read(p)
	u.mu.Lock()
	defer u.mu.Unlock()
	if room := headOfUpload - len(u.head); room > 0 {
		u.head = append(u.head, p[:min(n, room)]...)
	}
	u.n += int64(n)
	return n, err
}

func (u *upload) seen() ([]byte, int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return bytes.Clone(u.head), u.n
}

// fail ends an exchange that got no response.
func (x *exchange) fail(err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.call.Err, x.call.ErrType = err, event.ErrTypeUnreachable
	if t := x.gone(err); t != "" {
		x.call.ErrType = t
	}
	x.finish()
}

// gone returns a reason if the caller canceled or its deadline passed.
func (x *exchange) gone(err error) string {
	var timeout net.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(x.ctx.Err(), context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return event.ErrTypeTimeout
	case errors.Is(err, context.Canceled), x.ctx.Err() != nil:
		return event.ErrTypeClientGone
	}
	return ""
}

// wrapBody wraps the response body with a recorder.
func (x *exchange) wrapBody(res *http.Response, strip *stripper) {
	x.call.Status, x.call.ResponseHeader = res.StatusCode, header(res.Header)
	if res.StatusCode == http.StatusSwitchingProtocols || res.Body == nil {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.finish()
		return
	}
	contentType, _, _ := strings.Cut(strings.ToLower(res.Header.Get("Content-Type")), ";")
	kind, _, _ := strings.Cut(contentType, "/")
	x.body = recorder{head: maxHead, tail: maxTail}
	if kind == "audio" || kind == "image" || kind == "video" || contentType == "application/octet-stream" {
		x.body = recorder{head: headOfBinary}
	}
	if n := res.ContentLength; n > 0 {
		x.body.b = make([]byte, 0, min(n, int64(x.body.head)))
	}
	x.kind = strings.TrimSpace(contentType)
	x.length, x.stream = res.ContentLength, x.kind == "text/event-stream" || x.kind == "application/x-ndjson"
	b := &recordedBody{ReadCloser: res.Body, x: x}
	x.mu.Lock() // the context may already have ended
	x.watch = watch{garbage: runtime.AddCleanup(b, (*exchange).abandon, x), on: true}
	if x.ctx.Done() != nil {
		x.watch.context = context.AfterFunc(x.ctx, x.abandon)
	}
	x.mu.Unlock()
	if strip != nil && x.kind == "text/event-stream" && res.StatusCode == http.StatusOK && res.Header.Get("Content-Encoding") == "" {
		b.strip = strip
		if res.ContentLength >= 0 {
			res.Header = res.Header.Clone()
			res.Header.Del("Content-Length") // the original length
			res.ContentLength = -1
		}
	}
	res.Body = b
}

// header returns the response headers that the parsers need.
func header(h http.Header) http.Header {
	out := make(http.Header, len(h))
	for k, v := range h {
		if k != "Set-Cookie" {
			out[k] = v
		}
	}
	return out
}

// recordedBody records a response body while it is read.
type recordedBody struct {
	io.ReadCloser
	x     *exchange
	strip *stripper
}

func (b *recordedBody) Read(p []byte) (int, error) {
	for {
		if b.strip != nil {
			if n, err, ok := b.strip.take(p); ok {
				return n, err
			}
		}
		n, err := b.ReadCloser.Read(p)
		b.x.read(p[:n], err)
		if b.strip == nil {
			return n, err
		}
		b.strip.write(p[:n], err)
		if len(p) == 0 {
			return 0, nil
		}
	}
}

func (b *recordedBody) Close() error {
	b.x.abandon()
	return b.ReadCloser.Close()
}

// read records a part of a response.
func (x *exchange) read(p []byte, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.done {
		return
	}
	if len(p) > 0 {
		x.body.write(p)
		x.total += int64(len(p))
		m := provider.Mark{Offset: x.total, At: time.Since(x.call.Start)}
		if n := len(x.call.Marks); n >= maxMarks {
			x.call.Marks[n-1] = m
		} else {
			x.call.Marks = append(x.call.Marks, m)
		}
		if err == nil && x.stream && x.watch.ended == nil && provider.StreamEnded(x.call.Dialect, x.kind, p) {
			x.watch.ended = time.AfterFunc(afterEnd, x.abandon)
		}
	}
	switch {
	case err == io.EOF:
		x.finish()
	case err != nil:
		x.call.Err, x.call.ErrType = err, event.ErrTypeStream
		if t := x.gone(err); t != "" {
			x.call.ErrType = t
		}
		x.finish()
	}
}

// abandon ends an exchange whose response was closed or dropped before EOF.
// That is not a cancellation if the stream's last event, or all bytes of the
// body, had been read.
func (x *exchange) abandon() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.done {
		return
	}
	complete := x.length >= 0 && x.total >= x.length || x.call.Status >= 400
	if x.stream {
		complete = complete || provider.StreamEnded(x.call.Dialect, x.kind, x.body.last(provider.StreamTailSize))
	} else {
		complete = complete || x.length < 0 && x.body.whole()
	}
	if !complete {
		x.call.ErrType = event.ErrTypeClientGone
		x.call.Err = context.Cause(x.ctx)
		if errors.Is(x.ctx.Err(), context.DeadlineExceeded) {
			x.call.ErrType = event.ErrTypeTimeout
		}
	}
	x.finish()
}

// finish captures the exchange. It is called once, with mu locked.
func (x *exchange) finish() {
	if x.done {
		return
	}
	x.done = true
	if w := &x.watch; w.on {
		w.garbage.Stop()
		if w.context != nil {
			w.context()
		}
		if w.ended != nil {
			w.ended.Stop()
		}
	}
	c := &x.call
	c.Latency = time.Since(c.Start)
	if u := x.upload; u != nil {
		c.Request, c.RequestBytes = u.seen()
		c.RequestTruncated = int64(len(c.Request)) < c.RequestBytes
	}
	c.Response, c.ResponseTail, c.ResponseTruncated = x.body.end()
	c.ResponseBytes = x.total
	if x.mayRetry() {
		if x.counted {
			x.c.held.hold(x)
			return
		}
		x.c.tries.failed(x)
	}
	x.capture()
}

// capture creates the event of the call, in the background.
func (x *exchange) capture() {
	size := int64(cap(x.call.Request) + cap(x.call.Response) + cap(x.call.ResponseTail))
	x.c.enqueue(laneAI, item{build: x.event, at: x.at, size: size, since: time.Now()})
}

func (x *exchange) event() *event.Event {
	c := &x.call
	if enc := c.ResponseHeader.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") {
		// net/http has already decompressed the body if the client left that to
		// it.
		c.Response, c.ResponseTail, c.ResponseTruncated, c.Marks = gunzip(enc, c.Response), nil, true, nil
	}
	e := provider.Parse(c)
	if x.traceID != "" {
		e.TraceID, e.ParentID = x.traceID, x.parentID
	}
	x.setRetries(e)
	return e
}

func gunzip(encoding string, b []byte) []byte {
	if !strings.EqualFold(strings.TrimSpace(encoding), "gzip") {
		return nil
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil
	}
	out, _ := io.ReadAll(io.LimitReader(z, maxDecoded))
	return out
}

// recorder keeps the start and the end of a response.
type recorder struct {
	head, tail int // bounds
	b          []byte
	ring       []byte
	pos        int
	cut        bool
}

func (r *recorder) write(p []byte) {
	if !r.cut && len(r.b)+len(p) <= r.head {
		if cap(r.b)-len(r.b) < len(p) { // append alone would grow large bodies by only a quarter
			grown := make([]byte, len(r.b), min(max(2*cap(r.b), len(r.b)+len(p), 1<<10), r.head))
			copy(grown, r.b)
			r.b = grown
		}
		r.b = append(r.b, p...)
		return
	}
	if !r.cut {
		n := r.head - len(r.b)
		r.b, p = append(r.b, p[:n]...), p[n:]
		r.cut = true
		r.ring = make([]byte, 0, r.tail)
	}
	if r.tail == 0 {
		return
	}
	if len(p) >= r.tail {
		r.ring, r.pos = append(r.ring[:0], p[len(p)-r.tail:]...), 0
		return
	}
	if n := min(r.tail-len(r.ring), len(p)); n > 0 {
		r.ring, p = append(r.ring, p[:n]...), p[n:]
	}
	for len(p) > 0 {
		n := copy(r.ring[r.pos:], p)
		p, r.pos = p[n:], (r.pos+n)%r.tail
	}
}

func (r *recorder) end() (head, tail []byte, cut bool) {
	if r.pos == 0 {
		return r.b, r.ring, r.cut
	}
	return r.b, append(append(make([]byte, 0, len(r.ring)), r.ring[r.pos:]...), r.ring[:r.pos]...), r.cut
}

// last returns up to n of the last recorded bytes.
func (r *recorder) last(n int) []byte {
	b := r.b
	if r.cut {
		_, b, _ = r.end()
	}
	return b[max(0, len(b)-n):]
}

// whole reports whether the recording is one complete JSON value.
func (r *recorder) whole() bool {
	b := bytes.TrimSpace(r.b)
	return !r.cut && len(b) > 1 && (b[0] == '{' && b[len(b)-1] == '}' || b[0] == '[' && b[len(b)-1] == ']') && event.ValidJSON(b)
}
