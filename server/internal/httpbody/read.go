package httpbody

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"
)

// ErrTooBig is what [Exchange.Read] says of more bytes than its limit.
var ErrTooBig = errors.New("too big")

// Read reads r to its end, into memory that is taken as it fills and not before,
// so that a length which is only announced costs nothing. expected is a guess at
// the length, or 0. More than limit is [ErrTooBig]; memory that is not available,
// a [Refusal].
func (x *Exchange) Read(r io.Reader, limit, expected int64) ([]byte, error) {
	p := buffers.Get().(*[]byte)
	x.buffers = append(x.buffers, p)
	b := (*p)[:0]
	defer func() { *p = b }()
	if bad := x.Take(int64(cap(b))); bad != nil {
		return nil, bad
	}
	for {
		if len(b) == cap(b) {
			size := int64(2 * cap(b))
			if expected > int64(len(b)) && expected < size {
				size = expected + 512 // the last Read, which finds the end, needs space too
			}
			size = min(size, limit+512)
			if size <= int64(len(b)) {
				return nil, ErrTooBig
			}
			if bad := x.Take(size - int64(cap(b))); bad != nil {
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
			return nil, ErrTooBig
		case err == io.EOF:
			return b, nil
		case err != nil:
			return nil, err
		}
	}
}

// drained is how much of a refused body is read and discarded.
const drained = 64 << 20

// Receive reads a request's body as it is on the wire: at most limit bytes, and
// within timeout where the connection can be timed.
func (x *Exchange) Receive(w http.ResponseWriter, r *http.Request, limit int64, timeout time.Duration) ([]byte, *Refusal) {
	c := http.NewResponseController(w)
	timed := c.SetReadDeadline(time.Now().Add(timeout)) == nil
	var b []byte
	err := ErrTooBig
	if r.ContentLength <= limit {
		b, err = x.Read(r.Body, limit, r.ContentLength)
	}
	var already *Refusal
	switch {
	case err == nil:
		if timed {
			_ = c.SetReadDeadline(time.Time{})
		}
		return b, nil
	case errors.Is(err, ErrTooBig):
		already = TooLarge("the request body", limit)
	case errors.As(err, &already):
	case errors.Is(err, os.ErrDeadlineExceeded):
		already = Refuse(http.StatusRequestTimeout, ReasonStalled, "the request body did not arrive within %v", timeout)
	default:
		already = Refuse(http.StatusBadRequest, ReasonClientGone, "the request body ended too early")
	}
	// Most clients read no response before they have sent everything. The rest is
	// read and discarded, up to a limit; after that the connection cannot be reused.
	if already.Status != http.StatusRequestTimeout {
		_, _ = io.CopyN(io.Discard, r.Body, drained)
	}
	w.Header().Set("Connection", "close")
	return nil, already
}
