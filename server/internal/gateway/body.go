package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"sync"

	"github.com/hedgerow/hedgerow/internal/provider"
)

// oneCopy is the size up to which an edited body is copied into one buffer,
// which net/http sends together with the headers.
const oneCopy = 1 << 20

// announced is how much of a Content-Length is allocated in advance.
const announced = 64 << 10

// headOfUpload is how much of a streamed body is recorded.
const headOfUpload = 64 << 10

// requestBody is the caller's body: read whole, or streamed.
type requestBody struct {
	whole  []byte // JSON within the limits
	stream *upload
	length int64 // Content-Length; -1 is unknown
	held   int64 // taken from the request budget
	cut    bool  // the caller disconnected before the end of whole
}

// isJSON reports whether a request body is parsed. A body without a
// Content-Type is treated as JSON; if it turns out not to be, it is not edited.
func isJSON(h http.Header) bool {
	v := h["Content-Type"]
	if len(v) == 0 || v[0] == "" || v[0] == "application/json" {
		return true
	}
	t, _, err := mime.ParseMediaType(v[0])
	return err == nil && (t == "application/json" || strings.HasSuffix(t, "+json"))
}

// errCaller wraps an error of the caller's connection.
type errCaller struct{ err error }

func (e *errCaller) Error() string { return "read request body: " + e.err.Error() }
func (e *errCaller) Unwrap() error { return e.err }

// readBody reads a JSON body within the limits, and streams any other. The error is
// an *errCaller.
func (g *Gateway) readBody(r *http.Request) (requestBody, error) {
	b := requestBody{length: r.ContentLength}
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		b.length = 0
		return b, nil
	}
	limit := int64(g.limits.RequestBytes)
	if !isJSON(r.Header) {
		b.stream = newUpload(nil, r)
		return b, nil
	}
	if b.length > limit {
		g.metrics.unread.WithLabelValues("too_large").Inc()
		b.stream = newUpload(nil, r)
		return b, nil
	}
	// A Content-Length may be false: allocate the rest as it arrives.
	room := b.length
	if room < 0 {
		room = firstHead
	}
	room = min(room, announced, limit)
	if !g.requests.take(room) {
		g.metrics.unread.WithLabelValues("budget").Inc()
		b.stream = newUpload(nil, r)
		return b, nil
	}
	b.held = room
	buf := make([]byte, 0, room)
	for {
		n, err := r.Body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err == io.EOF {
			b.whole = buf
			b.length = int64(len(buf))
			return b, nil
		}
		if err != nil {
			b.whole, b.cut = buf, true
			return b, &errCaller{err}
		}
		if len(buf) < cap(buf) {
			continue
		}
		if int64(len(buf)) == b.length { // complete; only EOF remains
			if _, err := io.ReadFull(r.Body, make([]byte, 1)); err != io.EOF {
				return b, &errCaller{fmt.Errorf("body is longer than its Content-Length: %w", err)}
			}
			b.whole = buf
			return b, nil
		}
		more := min(int64(cap(buf)), limit-int64(cap(buf)))
		if b.length >= 0 {
			more = min(more, b.length-int64(cap(buf)))
		}
		if more <= 0 || !g.requests.take(more) {
			why := "budget"
			if more <= 0 {
				why = "too_large"
			}
			g.metrics.unread.WithLabelValues(why).Inc()
			b.stream = newUpload(buf, r)
			return b, nil
		}
		b.held += more
		buf = append(make([]byte, 0, int64(cap(buf))+more), buf...)
	}
}

// edited returns the edited body. Small ones are one bytes.Reader, which
// net/http writes together with the headers; for large ones only the edits need
// new memory.
func edited(b []byte, edits []provider.Edit) (body func() io.Reader, length int64) {
	if len(edits) == 0 || len(b) <= oneCopy {
		b = provider.Apply(b, edits)
		return func() io.Reader { return bytes.NewReader(b) }, int64(len(b))
	}
	var parts [][]byte
	at := 0
	for _, e := range edits {
		parts = append(parts, b[at:e.From], []byte(e.Insert))
		at = e.To
	}
	parts = append(parts, b[at:])
	for _, p := range parts {
		length += int64(len(p))
	}
	return func() io.Reader {
		readers := make([]io.Reader, len(parts))
		for i, p := range parts {
			readers[i] = bytes.NewReader(p)
		}
		return io.MultiReader(readers...)
	}, length
}

var errEnded = errors.New("the exchange has ended")

// upload streams a body and records its start. The transport may read it from
// another goroutine, even after the response has arrived, so end blocks further
// reads: the caller's body must not be read once the handler has returned.
type upload struct {
	first   []byte // already read, sent first
	src     io.Reader
	trailer http.Header // of the caller; complete when src has ended

	mu    sync.Mutex
	head  []byte
	n     int64
	err   error // a failure to read from the caller
	ended bool
}

func newUpload(first []byte, r *http.Request) *upload {
	return &upload{first: first, src: r.Body, trailer: r.Trailer}
}

func (u *upload) Read(p []byte) (int, error) {
	u.mu.Lock()
	ended := u.ended
	u.mu.Unlock()
	if ended {
		return 0, errEnded
	}
	var n int
	var err error
	if len(u.first) > 0 {
		n = copy(p, u.first)
		u.first = u.first[n:]
	} else {
		n, err = u.src.Read(p)
		if err == io.EOF {
			trailerWithoutOwn(u.trailer)
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.ended {
		return 0, errEnded
	}
	if room := headOfUpload - len(u.head); room > 0 {
		u.head = append(u.head, p[:min(n, room)]...)
	}
	u.n += int64(n)
	if err != nil && err != io.EOF {
		u.err = err
	}
	return n, err
}

// Close does nothing: net/http closes the caller's body itself, and closing it early
// would wait for the rest.
func (u *upload) Close() error { return nil }

// end returns what was recorded. No read succeeds after it.
func (u *upload) end() (head []byte, n int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.ended = true
	return u.head, u.n
}

// failed returns the error of reading from the caller, if any.
func (u *upload) failed() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.err
}
