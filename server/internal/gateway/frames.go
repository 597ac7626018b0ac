package gateway

import bigendian "encoding/binary"

// The WebSocket opcodes that are used here (RFC 6455 section 5.2).
const (
	frameContinuation = 0
	frameText         = 1
	frameBinary       = 2
	frameClose        = 8
)

const (
	keptMessage = 64 << 10 // space for a message that is kept until the next one
	mostFrame   = 1 << 40  // a longer frame is invalid
)

// frames parses the frames of one direction of a WebSocket as they are
// forwarded. It changes no frames and responds to none. Messages are assembled
// from their fragments up to a limit; of a longer one only the start is kept.
// It is not safe for concurrent use.
type frames struct {
	limit  int // of a message
	budget *budget

	message func(b []byte, truncated bool) (kept bool) // unless it is kept, b is valid until message returns
	closed  func(code int, reason string)              // may be nil

	broken bool // not frames, or with an extension: parsing has stopped

	head   [14]byte
	have   int // bytes of head
	opcode byte
	fin    bool
	masked bool
	mask   [4]byte
	at     int   // position in the mask
	left   int64 // remaining payload bytes; -1: the head is incomplete

	kind    byte // of the message; 0: none has started
	buf     []byte
	held    int64 // taken from the budget
	cut     bool
	control []byte
}

func newFrames(limit int, b *budget) *frames { return &frames{limit: limit, budget: b, left: -1} }

// between reports whether the bytes so far end at a frame boundary.
func (f *frames) between() bool { return !f.broken && f.left < 0 && f.have == 0 }

// write parses forwarded bytes.
func (f *frames) write(p []byte) {
	for len(p) > 0 && !f.broken {
		if f.left < 0 {
			n := copy(f.head[f.have:f.headLen()], p)
			f.have, p = f.have+n, p[n:]
			if f.have == f.headLen() {
				f.begin()
			}
			continue
		}
		n := int(min(f.left, int64(len(p))))
		f.payload(p[:n])
		f.left, p = f.left-int64(n), p[n:]
		if f.left == 0 {
			f.end()
		}
	}
}

// headLen is the length of the head, as far as it is known.
func (f *frames) headLen() int {
	if f.have < 2 {
		return 2
	}
	n := 2
	switch f.head[1] & 0x7f {
	case 126:
		n += 2
	case 127:
		n += 8
	}
	if f.head[1]&0x80 != 0 {
		n += 4
	}
	return n
}

// begin parses a complete head.
func (f *frames) begin() {
	h := f.head[:f.have]
	f.have, f.at = 0, 0
	f.fin, f.opcode, f.masked = h[0]&0x80 != 0, h[0]&0x0f, h[1]&0x80 != 0
	n := uint64(h[1] & 0x7f)
	switch n {
	case 126:
		n = uint64(bigendian.BigEndian.Uint16(h[2:]))
	case 127:
		n = bigendian.BigEndian.Uint64(h[2:])
	}
	if f.masked {
		copy(f.mask[:], h[len(h)-4:])
	}
	f.left = int64(min(n, mostFrame+1))
	control := f.opcode >= frameClose
	switch {
	case h[0]&0x70 != 0, n > mostFrame, control && (n > 125 || !f.fin || f.opcode > 10), !control && f.opcode > frameBinary,
		!control && (f.opcode == frameContinuation) != (f.kind != 0):
		f.stop()
		return
	}
	f.control = f.control[:0]
	if !control && f.opcode != frameContinuation {
		f.kind = f.opcode
	}
	if f.left == 0 {
		f.end()
	}
}

// stop stops parsing.
func (f *frames) stop() {
	f.broken = true
	f.release()
}

// release releases the memory.
func (f *frames) release() {
	f.budget.give(f.held)
	f.buf, f.held, f.cut, f.kind = nil, 0, false, 0
}

func (f *frames) payload(p []byte) {
	to := &f.buf
	if f.opcode >= frameClose {
		to = &f.control
	} else if p = p[:min(len(p), f.room(len(p)))]; len(p) == 0 {
		return
	}
	from := len(*to)
	*to = append(*to, p...)
	if f.masked {
		b := (*to)[from:]
		for i := range b {
			b[i] ^= f.mask[(f.at+i)&3]
		}
		f.at += len(b)
	}
}

// room makes room for n more bytes of a message, and returns how many fit.
func (f *frames) room(n int) int {
	if f.cut {
		return 0
	}
	if cap(f.buf)-len(f.buf) >= n {
		return n
	}
	to := min(max(2*cap(f.buf), len(f.buf)+n, 1<<10), f.limit)
	if more := int64(to - cap(f.buf)); more > 0 && f.budget.take(more) {
		f.held += more
		f.buf = append(make([]byte, 0, to), f.buf...)
	}
	if free := cap(f.buf) - len(f.buf); free < n {
		f.cut = true
		return free
	}
	return n
}

func (f *frames) end() {
	f.left = -1
	switch {
	case f.opcode == frameClose:
		if f.closed != nil {
			code, reason := 1005, "" // no code was sent
			if len(f.control) >= 2 {
				code, reason = int(bigendian.BigEndian.Uint16(f.control)), string(f.control[2:])
			}
			f.closed(code, reason)
		}
	case f.opcode >= frameClose, !f.fin:
	default:
		if kept := f.message(f.buf, f.cut); kept || cap(f.buf) > keptMessage {
			f.release()
		}
		f.buf, f.cut, f.kind = f.buf[:0], false, 0
	}
}

// goingAway is a close frame with the code 1001, going away (RFC 6455 section
// 7.4.1). A caller's frames are masked.
func goingAway(masked bool) []byte {
	if masked {
		return []byte{0x80 | frameClose, 0x80 | 2, 0, 0, 0, 0, 1001 >> 8, 1001 & 0xff}
	}
	return []byte{0x80 | frameClose, 2, 1001 >> 8, 1001 & 0xff}
}
