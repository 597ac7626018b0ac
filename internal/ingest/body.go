package ingest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
)

// refusal is why a request, or one event of it, is not taken. Its message never
// quotes what was sent.
type refusal struct {
	status  int
	reason  string // for metrics and the log: a fixed word
	message string // for the client
}

func (r *refusal) Error() string { return r.message }

func refuse(status int, reason, format string, args ...any) *refusal {
	return &refusal{status, reason, fmt.Sprintf(format, args...)}
}

// Reasons, as metrics and the log name them.
const (
	reasonMalformed   = "malformed"    // cannot be decoded or parsed
	reasonInvalid     = "invalid"      // an event lacks what it must have
	reasonTooLarge    = "too_large"    // body or event
	reasonToken       = "token"        // none, unknown, or several
	reasonUnsupported = "unsupported"  // encoding
	reasonMethod      = "method"       //
	reasonStalled     = "stalled"      // the body did not arrive in time
	reasonClientGone  = "client_gone"  // the client hung up before the end
	reasonMemory      = "memory"       // too many bodies at a time
	reasonJournalFull = "journal_full" // the journal's bound is reached
	reasonUnavailable = "unavailable"  // the journal does not answer
)

func tooLarge(what string, limit int64) *refusal {
	return refuse(http.StatusRequestEntityTooLarge, reasonTooLarge, "maximum event size exceeded: %s has more than %d bytes", what, limit)
}

// memory bounds what all requests hold together.
type memory struct {
	used  atomic.Int64
	limit int64
}

// lease is what one request holds of the memory.
type lease struct {
	m    *memory
	held int64
}

// take reserves n bytes more, or says why it cannot be.
func (l *lease) take(n int64) error {
	if l.held+n > l.m.limit {
		return refuse(http.StatusRequestEntityTooLarge, reasonTooLarge, "maximum event size exceeded: the body would need more than %d MiB of memory", l.m.limit>>20)
	}
	if l.m.used.Add(n) > l.m.limit {
		l.m.used.Add(-n)
		return refuse(http.StatusServiceUnavailable, reasonMemory, "hedgerow is reading as many events as its memory allows: try again")
	}
	l.held += n
	return nil
}

func (l *lease) release() {
	l.m.used.Add(-l.held)
	l.held = 0
}

// Buffers are used again; one that a huge body has made large is not kept.
const (
	bufferStart = 64 << 10
	bufferKept  = 4 << 20
)

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, bufferStart); return &b }}

// exchange is what one request holds until its events are in the journal: the
// events' raw values lie within its buffers.
type exchange struct {
	lease   lease
	buffers []*[]byte
}

func (x *exchange) end() {
	for _, b := range x.buffers {
		if cap(*b) <= bufferKept {
			*b = (*b)[:0]
			buffers.Put(b)
		}
	}
	x.buffers = nil
	x.lease.release()
}

var errTooBig = errors.New("too big")

// read reads r to its end, into memory that is taken as it fills and not before,
// so that a length which is only announced costs nothing. More than limit is
// errTooBig.
func (x *exchange) read(r io.Reader, limit, expected int64) ([]byte, error) {
	p := buffers.Get().(*[]byte)
	x.buffers = append(x.buffers, p)
	b := (*p)[:0]
	defer func() { *p = b }()
	if err := x.lease.take(int64(cap(b))); err != nil {
		return nil, err
	}
	for {
		if len(b) == cap(b) {
			size := int64(2 * cap(b))
			if expected > int64(len(b)) && expected < size {
				size = expected + 512 // the last Read, which finds the end, needs room too
			}
			size = min(size, limit+512)
			if size <= int64(len(b)) {
				return nil, errTooBig
			}
			if err := x.lease.take(size - int64(cap(b))); err != nil {
				return nil, err
			}
			grown := make([]byte, len(b), size)
			copy(grown, b)
			b = grown
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		switch {
		case int64(len(b)) > limit:
			return nil, errTooBig
		case err == io.EOF:
			return b, nil
		case err != nil:
			return nil, err
		}
	}
}

// wire reads a request's body as it is on the wire.
func (h *Handler) wire(w http.ResponseWriter, r *http.Request, x *exchange, limit int64) ([]byte, *refusal) {
	// A deadline is only possible on a real connection.
	c := http.NewResponseController(w)
	timed := c.SetReadDeadline(time.Now().Add(h.limits.BodyTimeout)) == nil
	var b []byte
	err := errTooBig
	if r.ContentLength <= limit {
		b, err = x.read(r.Body, limit, r.ContentLength)
	}
	var already *refusal
	switch {
	case err == nil:
		if timed {
			_ = c.SetReadDeadline(time.Time{})
		}
		return b, nil
	case errors.Is(err, errTooBig):
		already = tooLarge("the request body", limit)
	case errors.As(err, &already):
	case errors.Is(err, os.ErrDeadlineExceeded):
		already = refuse(http.StatusRequestTimeout, reasonStalled, "the request body did not arrive within %v", h.limits.BodyTimeout)
	default:
		already = refuse(http.StatusBadRequest, reasonClientGone, "the request body ended too early")
	}
	// Most clients read no answer before they have sent everything. The rest is
	// let in and thrown away, as far as that is reasonable; then the connection
	// is of no more use.
	if already.status != http.StatusRequestTimeout {
		_, _ = io.CopyN(io.Discard, r.Body, drained)
	}
	w.Header().Set("Connection", "close")
	return nil, already
}

// drained is how much of a refused body is thrown away.
const drained = 64 << 20

// Encodings of a body.
const (
	gzipped  = "gzip"
	deflated = "deflate"
	brotlied = "br"
	zstded   = "zstd"
)

// sniff tells an encoding by the first bytes. Brotli has none to be told by.
func sniff(b []byte) string {
	switch {
	case len(b) > 2 && b[0] == 0x1f && b[1] == 0x8b:
		return gzipped
	case len(b) > 3 && b[0] == 0x28 && b[1] == 0xb5 && b[2] == 0x2f && b[3] == 0xfd:
		return zstded
	}
	return ""
}

// encoding is what the body is encoded with: its first bytes know better than
// the header, which SDKs and proxies often get wrong.
func encoding(header string, b []byte) (string, *refusal) {
	if e := sniff(b); e != "" {
		return e, nil
	}
	switch e := strings.ToLower(strings.TrimSpace(header)); e {
	case "", "identity", gzipped, "x-gzip", "gzip-js", zstded:
		return "", nil // a proxy has decoded it already
	case deflated:
		// 0x78 opens every zlib stream that is in use, and no JSON.
		if len(b) > 0 && b[0] == 0x78 {
			return e, nil
		}
		return "", nil
	case brotlied:
		return e, nil
	default:
		return "", refuse(http.StatusUnsupportedMediaType, reasonUnsupported, "this content encoding is not taken: use gzip, deflate, br or zstd")
	}
}

// decode undoes an encoding.
func (x *exchange) decode(enc string, b []byte, limit int64) ([]byte, *refusal) {
	if enc == "" {
		return b, nil
	}
	out, err := x.decodeBytes(enc, b, limit)
	var already *refusal
	switch {
	case err == nil:
		return out, nil
	case errors.Is(err, errTooBig), errors.Is(err, zstd.ErrDecoderSizeExceeded), errors.Is(err, zstd.ErrWindowSizeExceeded):
		return nil, tooLarge("the decompressed body", limit)
	case errors.As(err, &already):
		return nil, already
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return nil, refuse(http.StatusBadRequest, reasonMalformed, "failed to decode %s data: it ends too early", enc)
	}
	return nil, refuse(http.StatusBadRequest, reasonMalformed, "failed to decode %s data", enc)
}

var gzipReaders sync.Pool

func (x *exchange) decodeBytes(enc string, b []byte, limit int64) ([]byte, error) {
	in := bytes.NewReader(b)
	guess := 6 * int64(len(b)) // what JSON usually comes to
	switch enc {
	case gzipped:
		z, _ := gzipReaders.Get().(*gzip.Reader)
		var err error
		if z == nil {
			z, err = gzip.NewReader(in)
		} else {
			err = z.Reset(in)
		}
		if err != nil {
			return nil, err
		}
		defer gzipReaders.Put(z)
		return x.read(z, limit, guess)
	case deflated:
		z, err := zlib.NewReader(in)
		if err != nil {
			return nil, err
		}
		defer z.Close()
		return x.read(z, limit, guess)
	case brotlied:
		return x.read(brotli.NewReader(in), limit, guess)
	}
	const window = 8 << 20 // what a decoder for HTTP must have at least; RFC 9659
	if err := x.lease.take(window); err != nil {
		return nil, err
	}
	z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(window), zstd.WithDecoderMaxMemory(uint64(limit)+1))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	return x.read(z, limit, guess)
}
