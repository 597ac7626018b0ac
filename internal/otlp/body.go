package otlp

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

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
)

// refusal is why a request is not taken. Its message never quotes what was sent.
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
	reasonMalformed   = "malformed"    // cannot be decompressed or parsed
	reasonInvalid     = "invalid"      // the journal will not have a span
	reasonTooLarge    = "too_large"    //
	reasonToken       = "token"        // none, or unknown
	reasonUnsupported = "unsupported"  // content type or encoding
	reasonMethod      = "method"       //
	reasonStalled     = "stalled"      // the body did not arrive in time
	reasonClientGone  = "client_gone"  // the client hung up before the end
	reasonMemory      = "memory"       // too many bodies at a time
	reasonJournalFull = "journal_full" // the journal's bound is reached
	reasonUnavailable = "unavailable"  // the journal does not answer
)

// retryAfter is the wait, in seconds, that goes with a refusal that is worth
// another try; "" for the others.
func (r *refusal) retryAfter() string {
	switch {
	case r.reason == reasonJournalFull:
		return "10"
	case r.status == http.StatusServiceUnavailable:
		return "1"
	}
	return ""
}

// rpcCode is the code of google.rpc.Status, which is gRPC's, for the refusal.
func (r *refusal) rpcCode() int32 {
	switch r.status {
	case http.StatusUnauthorized:
		return 16 // UNAUTHENTICATED
	case http.StatusForbidden:
		return 7 // PERMISSION_DENIED
	case http.StatusRequestEntityTooLarge:
		return 8 // RESOURCE_EXHAUSTED
	case http.StatusMethodNotAllowed, http.StatusUnsupportedMediaType:
		return 12 // UNIMPLEMENTED
	case http.StatusServiceUnavailable:
		return 14 // UNAVAILABLE
	case http.StatusBadRequest:
		return 3 // INVALID_ARGUMENT
	}
	return 13 // INTERNAL
}

func tooLarge(what string, limit int64) *refusal {
	return refuse(http.StatusRequestEntityTooLarge, reasonTooLarge, "%s has more than %d bytes: send smaller batches", what, limit)
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
func (l *lease) take(n int64) *refusal {
	if l.held+n > l.m.limit {
		return refuse(http.StatusRequestEntityTooLarge, reasonTooLarge, "the request would need more than %d MiB of memory: send smaller batches", l.m.limit>>20)
	}
	if l.m.used.Add(n) > l.m.limit {
		l.m.used.Add(-n)
		return refuse(http.StatusServiceUnavailable, reasonMemory, "hedgerow is reading as many spans as its memory allows: try again")
	}
	l.held += n
	return nil
}

// Buffers are used again; one that a huge body has made large is not kept.
const (
	bufferStart = 64 << 10
	bufferKept  = 4 << 20
)

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, bufferStart); return &b }}

// exchange is what one request holds until it is answered.
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
	x.lease.m.used.Add(-x.lease.held)
	x.lease.held = 0
}

var errTooBig = errors.New("too big")

// read reads r to its end, into memory that is taken as it fills and not before,
// so that a length which is only announced costs nothing. More than limit is
// errTooBig.
func (x *exchange) read(r io.Reader, limit int64) ([]byte, error) {
	p := buffers.Get().(*[]byte)
	x.buffers = append(x.buffers, p)
	b := (*p)[:0]
	defer func() { *p = b }()
	if bad := x.lease.take(int64(cap(b))); bad != nil {
		return nil, bad
	}
	for {
		if len(b) == cap(b) {
			size := min(2*int64(cap(b)), limit+512) // the last Read, which finds the end, needs room too
			if size <= int64(len(b)) {
				return nil, errTooBig
			}
			if bad := x.lease.take(size - int64(cap(b))); bad != nil {
				return nil, bad
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

// body reads a request's body and undoes its encoding.
func (h *Handler) body(w http.ResponseWriter, r *http.Request, x *exchange) ([]byte, *refusal) {
	if r.ContentLength > h.limits.Body {
		return nil, tooLarge("the request body", h.limits.Body)
	}
	// A deadline is only possible on a real connection.
	c := http.NewResponseController(w)
	stalls := c.SetReadDeadline(time.Now().Add(h.limits.BodyTimeout)) == nil
	b, err := x.read(r.Body, h.limits.Body)
	if stalls {
		_ = c.SetReadDeadline(time.Time{})
	}
	var already *refusal
	switch {
	case err == nil:
		return x.decompress(r.Header.Get("Content-Encoding"), b, h.limits.Decoded)
	case errors.Is(err, errTooBig):
		return nil, tooLarge("the request body", h.limits.Body)
	case errors.As(err, &already):
		return nil, already
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, refuse(http.StatusServiceUnavailable, reasonStalled, "the request body did not arrive within %v", h.limits.BodyTimeout)
	}
	return nil, refuse(http.StatusBadRequest, reasonClientGone, "the request body ended too early")
}

// Content encodings.
const (
	gzipped  = "gzip"
	deflated = "deflate"
	zstded   = "zstd"
)

// encoding is what a body is encoded with. Its first bytes know better than the
// header where they can: proxies decompress and leave the header. No OTLP request
// opens with these magic numbers: protobuf's first byte is 0x0a, JSON's a bracket.
func encoding(header string, b []byte) (string, *refusal) {
	switch {
	case len(b) > 2 && b[0] == 0x1f && b[1] == 0x8b:
		return gzipped, nil
	case len(b) > 3 && b[0] == 0x28 && b[1] == 0xb5 && b[2] == 0x2f && b[3] == 0xfd:
		return zstded, nil
	}
	switch e := strings.ToLower(strings.TrimSpace(header)); e {
	case "", "identity", "none", gzipped, "x-gzip", zstded:
		return "", nil
	case deflated:
		if len(b) == 0 || b[0] == '\n' || b[0] == '{' {
			return "", nil
		}
		return e, nil
	}
	return "", refuse(http.StatusUnsupportedMediaType, reasonUnsupported, "this content encoding is not taken: use gzip, deflate or zstd")
}

func (x *exchange) decompress(header string, b []byte, limit int64) ([]byte, *refusal) {
	enc, bad := encoding(header, b)
	if bad != nil || enc == "" {
		if bad == nil && int64(len(b)) > limit {
			bad = tooLarge("the request body", limit)
		}
		return b, bad
	}
	out, err := x.inflate(enc, b, limit)
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

func (x *exchange) inflate(enc string, b []byte, limit int64) ([]byte, error) {
	in := bytes.NewReader(b)
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
		return x.read(z, limit)
	case deflated:
		// RFC 9110 means zlib; some clients send the bare stream.
		z, err := zlib.NewReader(in)
		if errors.Is(err, zlib.ErrHeader) {
			raw := flate.NewReader(bytes.NewReader(b))
			defer raw.Close()
			return x.read(raw, limit)
		}
		if err != nil {
			return nil, err
		}
		defer z.Close()
		return x.read(z, limit)
	}
	const window = 8 << 20 // what a decoder for HTTP must have at least; RFC 9659
	if bad := x.lease.take(window); bad != nil {
		return nil, bad
	}
	z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(window), zstd.WithDecoderMaxMemory(uint64(limit)+1))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	return x.read(z, limit)
}
