package gateway

import (
	"math/bits"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/provider"
)

// budget bounds a number of bytes held at one time.
type budget struct {
	limit int64
	used  atomic.Int64
}

func (b *budget) take(n int64) bool {
	if b.used.Add(n) > b.limit {
		b.used.Add(-n)
		return false
	}
	return true
}

func (b *budget) give(n int64) { b.used.Add(-n) }

const (
	firstHead = 16 << 10 // initial buffer for a body of unknown length; doubles
	roomToGo  = 512      // grow when less than this is free
	maxMarks  = 128      // arrival times recorded per response; the last is always kept
)

// heads pools buffers of 16, 32 and 64 KiB for streams.
var heads [3]sync.Pool

func headClass(n int) int {
	if i := bits.Len(uint(n)) - bits.Len(firstHead); i >= 0 && i < len(heads) && n == firstHead<<i {
		return i
	}
	return -1
}

func newHead(n int) []byte {
	if i := headClass(n); i >= 0 {
		if p, ok := heads[i].Get().(*[]byte); ok {
			return *p
		}
	}
	return make([]byte, 0, n)
}

// freeHead returns a buffer to the pool.
func freeHead(b []byte) {
	if i := headClass(cap(b)); i >= 0 {
		b = b[:0]
		heads[i].Put(&b)
	}
}

// recorder keeps the start and the end of a response within a budget. The
// response is read directly into the head, so recording it costs no copy. It is
// not safe for concurrent use.
type recorder struct {
	budget  *budget
	limit   int // of head
	tailLen int // of tail
	head    []byte
	held    int64 // taken from the budget
	full    bool  // the head is complete
	tail    []byte
	tailPos int  // where the next byte goes, once tail is full
	cut     bool // bytes are missing between head and tail, or at the end
}

// begin prepares for a response of the given length; -1 is unknown.
func (r *recorder) begin(length int64) {
	room := int64(firstHead)
	if length >= 0 {
		room = length + roomToGo
	}
	r.grow(int(min(room, int64(r.limit))))
}

// room returns free space to read into, or nil if the head is full.
func (r *recorder) room() []byte {
	if r.full {
		return nil
	}
	if cap(r.head)-len(r.head) < roomToGo {
		r.grow(min(2*cap(r.head), r.limit))
		if cap(r.head)-len(r.head) < roomToGo {
			r.full = true
			return nil
		}
	}
	return r.head[len(r.head):cap(r.head)]
}

func (r *recorder) grow(to int) {
	more := int64(to - cap(r.head))
	if more <= 0 || !r.budget.take(more) {
		return
	}
	r.held += more
	head := append(newHead(to), r.head...)
	freeHead(r.head)
	r.head = head
}

// commit records n bytes read into the slice returned by room.
func (r *recorder) commit(n int) { r.head = r.head[:len(r.head)+n] }

// write records bytes after the head. Only the last ones are kept.
func (r *recorder) write(p []byte) {
	if !r.full {
		if room := cap(r.head) - len(r.head); room >= len(p) {
			r.head = append(r.head, p...)
			return
		}
		if free := r.room(); len(free) >= len(p) {
			r.head = append(r.head, p...)
			return
		}
		r.full = true
	}
	r.cut = true
	if r.tail == nil {
		if r.tailLen == 0 || !r.budget.take(int64(r.tailLen)) {
			r.tailLen = 0
			return
		}
		r.held += int64(r.tailLen)
		r.tail = make([]byte, 0, r.tailLen)
	}
	if len(p) >= r.tailLen {
		r.tail = append(r.tail[:0], p[len(p)-r.tailLen:]...)
		r.tailPos = 0
		return
	}
	if n := min(r.tailLen-len(r.tail), len(p)); n > 0 {
		r.tail = append(r.tail, p[:n]...)
		p = p[n:]
	}
	for len(p) > 0 {
		n := copy(r.tail[r.tailPos:], p)
		p = p[n:]
		r.tailPos = (r.tailPos + n) % r.tailLen
	}
}

// end returns the tail in order and releases the budget. The recording stays
// valid: from here on it counts towards the capture queue.
func (r *recorder) end() []byte {
	if r.held > 0 { // there was a response
		r.budget.give(r.held)
		r.held = 0
	}
	return r.ordered()
}

func (r *recorder) ordered() []byte {
	if r.tailPos == 0 {
		return r.tail
	}
	tail := make([]byte, 0, len(r.tail))
	return append(append(tail, r.tail[r.tailPos:]...), r.tail[:r.tailPos]...)
}

// last returns up to n of the last recorded bytes.
func (r *recorder) last(n int) []byte {
	b := r.head
	if r.cut {
		b = r.ordered()
	}
	return b[max(0, len(b)-n):]
}

// record is one finished call, to be turned into an event.
type record struct {
	call      provider.Call
	projectID string
	surface   string      // default from the key
	header    http.Header // the caller's, including attribution and keys: read, never stored
	traceID   string      // already sent to the caller, or with the start event
	spanID    string      // sent with the start event
	start     bool        // the record of a start event
	startSent bool
	prompt    func(*event.Event) // sets prompt, version and flag; nil without a rendered prompt
	results   string             // what a line of a batch's results is of; "" for a call
	chain     *chain             // of the WebSocket that the call was part of; else nil
	socket    *socketEnd         // of the call that became a WebSocket; else nil
	uuid      string             // of the event and its span for hedgerow's own calls; else ""
	head      []byte             // the recorder's buffer, reused once the event is stored: the parser keeps no reference to it
	size      int64              // bytes held, for the queue's limit
	ended     time.Time
}

// mark records an arrival time. Past maxMarks only the newest is kept: time to
// first token depends on the first ones only.
func (r *record) mark(offset int64, at time.Duration) {
	m := provider.Mark{Offset: offset, At: at}
	if n := len(r.call.Marks); n >= maxMarks {
		r.call.Marks[n-1] = m
		return
	} else if n == 2 { // a stream
		r.call.Marks = append(make([]provider.Mark, 0, maxMarks), r.call.Marks...)
	}
	r.call.Marks = append(r.call.Marks, m)
}
