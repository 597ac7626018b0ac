package listen

import (
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// rateWindow is over how much waiting the rate of an upload is taken.
const rateWindow = 30 * time.Second

// restWait is how long the rest of a body is waited for that the handler has
// not read. The server reads up to 256 KiB of it before it answers, so that the
// connection can be used again, and on its own would wait forever.
const restWait = 2 * time.Second

// HandlerDeadlines is the rate of a handler that sets deadlines of its own for reading.
const HandlerDeadlines = -1

// Body bounds how slowly the body of a request may come: where a window of 30 s of
// waiting for it has brought less than the given bytes a second on average,
// reading fails with [os.ErrDeadlineExceeded]. Only the time that is spent waiting
// for the caller counts, not that in which no one reads. The bound is lifted by
// calling Unbound of the returned request's body, where that has it. A rate of 0
// bounds no reading, and [HandlerDeadlines] leaves deadlines of reading to the handler.
//
// The handler is given the returned request: a copy, because a server that finds
// another body in its own request no longer knows how much of it is to come. Call
// end when the handler has returned: what it has not read then has 2 s to arrive.
// A connection without deadlines is not bounded.
func Body(w http.ResponseWriter, r *http.Request, rate int64) (bounded *http.Request, end func()) {
	if r.Body == nil || r.Body == http.NoBody {
		return r, func() {}
	}
	p := &paced{ReadCloser: r.Body, c: http.NewResponseController(w), least: rate * int64(rateWindow/time.Second), window: rateWindow}
	// An answer that is longer than the server's buffer has the rest read before
	// the handler has returned. Who reads the body sets a time of his own.
	_ = p.c.SetReadDeadline(time.Now().Add(restWait))
	bounded = new(http.Request)
	*bounded = *r
	bounded.Body = p
	return bounded, p.end
}

// paced is a body that has to move.
type paced struct {
	io.ReadCloser
	c      *http.ResponseController
	least  int64 // bytes that a window has to bring; 0: no bound; below 0: the handler's business
	window time.Duration

	waited time.Duration // of this window
	got    int64         // in it
	free   atomic.Bool   // no longer bound
	whole  atomic.Bool   // all of it was read
	over   atomic.Bool   // the handler has returned
}

// Unbound lifts the bound: for a body of which the caller may wait to send more
// until he has read some of the answer. It may be called while another goroutine
// reads.
func (p *paced) Unbound() {
	if !p.free.Swap(true) {
		p.setDeadline(time.Time{})
	}
}

// end bounds what the server itself reads of the body after the handler.
func (p *paced) end() {
	p.over.Store(true)
	if !p.whole.Load() {
		_ = p.c.SetReadDeadline(time.Now().Add(restWait))
	}
}

// setDeadline sets the time of a read. A goroutine that still reads when the
// handler has returned does not set another.
func (p *paced) setDeadline(t time.Time) bool {
	err := p.c.SetReadDeadline(t)
	if p.over.Load() && !p.whole.Load() {
		_ = p.c.SetReadDeadline(time.Now().Add(restWait))
	}
	return err == nil
}

func (p *paced) Read(b []byte) (int, error) {
	if p.least == 0 {
		p.Unbound()
	}
	bound := p.least > 0 && !p.free.Load()
	start := time.Now()
	if bound {
		if !p.setDeadline(start.Add(p.window - p.waited)) {
			p.free.Store(true)
			bound = false
		} else if p.free.Load() { // lifted meanwhile
			p.setDeadline(time.Time{})
		}
	}
	n, err := p.ReadCloser.Read(b)
	if err == io.EOF {
		p.whole.Store(true)
		p.free.Store(true)
		_ = p.c.SetReadDeadline(time.Time{}) // the next request is waited for as ever
		return n, err
	}
	if bound {
		p.waited += time.Since(start)
		if p.got += int64(n); p.got >= p.least {
			p.waited, p.got = 0, 0
		}
	}
	return n, err
}
