package httpbody

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// Limits are the limits of requests. Zero fields have defaults.
type Limits struct {
	Body    int64         // bytes of a body on the wire. Defaults to 20 MiB
	Decoded int64         // bytes of a body once decompressed. Defaults to 50 MiB
	Memory  int64         // bytes that all requests together may hold. Defaults to 256 MiB
	Timeout time.Duration // for a body to arrive. Defaults to 30 s
}

// Defaults returns the limits with the zero fields filled.
func (l Limits) Defaults() Limits {
	set := func(v *int64, def int64) {
		if *v <= 0 {
			*v = def
		}
	}
	set(&l.Body, 20<<20)
	set(&l.Decoded, 50<<20)
	set(&l.Memory, 256<<20)
	if l.Timeout <= 0 {
		l.Timeout = 30 * time.Second
	}
	return l
}

// patience is how long a request waits for memory. Most requests end within
// milliseconds; a client's timeout is seconds.
const patience = time.Second

// Memory limits what all requests hold together. It is safe for concurrent use, and
// several handlers may share one.
type Memory struct {
	limit int64

	mu    sync.Mutex
	used  int64
	freed chan struct{} // closed when memory is released; nil while no one waits
}

// NewMemory returns a Memory of limit bytes.
func NewMemory(limit int64) *Memory { return &Memory{limit: limit} }

// Used returns the bytes held by current requests.
func (m *Memory) Used() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used
}

// take reserves n bytes, and waits for them if necessary.
func (m *Memory) take(ctx context.Context, n int64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.used+n <= m.limit {
		m.used += n
		return true
	}
	late := time.NewTimer(patience)
	defer late.Stop()
	for m.used+n > m.limit {
		if m.freed == nil {
			m.freed = make(chan struct{})
		}
		freed := m.freed
		m.mu.Unlock()
		gone := false
		select {
		case <-freed:
		case <-late.C:
			gone = true
		case <-ctx.Done():
			gone = true
		}
		m.mu.Lock()
		if gone {
			return false
		}
	}
	m.used += n
	return true
}

func (m *Memory) release(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used -= n
	if m.freed != nil {
		close(m.freed)
		m.freed = nil
	}
}

// Buffers are reused, except those that a huge body has grown.
const (
	bufferStart = 64 << 10
	bufferKept  = 4 << 20
)

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, bufferStart); return &b }}

// Exchange holds the buffers of one request until its events, whose raw values point
// into them, are in the journal. It is not safe for concurrent use.
type Exchange struct {
	ctx     context.Context
	m       *Memory
	held    int64
	buffers []*[]byte
}

// Open starts an exchange. Its waits end with ctx.
func (m *Memory) Open(ctx context.Context) *Exchange { return &Exchange{ctx: ctx, m: m} }

// End releases everything. What was read must not be used afterwards.
func (x *Exchange) End() {
	for _, b := range x.buffers {
		if cap(*b) <= bufferKept {
			*b = (*b)[:0]
			buffers.Put(b)
		}
	}
	x.buffers = nil
	x.m.release(x.held)
	x.held = 0
}

// Take reserves n more bytes, or returns why it cannot. It waits up to a second for
// other requests.
func (x *Exchange) Take(n int64) *Refusal {
	if x.held+n > x.m.limit {
		return Refuse(http.StatusRequestEntityTooLarge, ReasonTooLarge, "maximum event size exceeded: the body needs more than %d MiB of memory: send smaller batches", x.m.limit>>20)
	}
	if !x.m.take(x.ctx, n) {
		return Refuse(http.StatusServiceUnavailable, ReasonMemory, "the memory limit for reading events is reached: try again")
	}
	x.held += n
	return nil
}
