package listen

import (
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// rateWindow is over how much waiting the rate of an upload is taken.
const rateWindow = 30 * time.Second

// Body bounds how slowly the body of a request may come: where a window of 30 s of
// waiting for it has brought less than the given bytes a second on average, reading
// fails with [os.ErrDeadlineExceeded]. Only the time that is spent waiting for the
// caller counts, not that in which nobody reads. It must be used before anyone
// reads, and lifted by calling Unbound of r.Body, where that has it. A rate of 0, and a connection without deadlines, bounds nothing.
func Body(w http.ResponseWriter, r *http.Request, rate int64) {
	if rate <= 0 || r.Body == nil || r.Body == http.NoBody {
		return
	}
	r.Body = &paced{ReadCloser: r.Body, c: http.NewResponseController(w), least: rate * int64(rateWindow/time.Second), window: rateWindow}
}

// paced is a body that has to move.
type paced struct {
	io.ReadCloser
	c      *http.ResponseController
	least  int64 // bytes that a window has to bring
	window time.Duration

	waited time.Duration // of this window
	got    int64         // in it
	ended  atomic.Bool   // or no longer bound
}

// Unbound lifts the bound: for a body of which the caller may wait to send more
// until he has read some of the answer. It may be called while another goroutine
// reads.
func (p *paced) Unbound() {
	if !p.ended.Swap(true) {
		_ = p.c.SetReadDeadline(time.Time{})
	}
}

func (p *paced) Read(b []byte) (int, error) {
	if p.ended.Load() {
		return p.ReadCloser.Read(b)
	}
	start := time.Now()
	if p.c.SetReadDeadline(start.Add(p.window-p.waited)) != nil {
		p.ended.Store(true)
		return p.ReadCloser.Read(b)
	}
	if p.ended.Load() { // lifted meanwhile
		_ = p.c.SetReadDeadline(time.Time{})
	}
	n, err := p.ReadCloser.Read(b)
	p.waited += time.Since(start)
	p.got += int64(n)
	switch {
	case err == io.EOF:
		p.Unbound() // the next request is waited for as ever
	case p.got >= p.least:
		p.waited, p.got = 0, 0
	}
	return n, err
}
