package provider

import (
	"bytes"
	"slices"

	"github.com/hedgerow/hedgerow/internal/rawjson"
)

// maxHeld limits what the stripper buffers of an incomplete event. A longer one
// is passed on unparsed: a usage chunk has about 500 bytes.
const maxHeld = 64 << 10

// UsageStripper removes from a stream of chat completion chunks what
// stream_options.include_usage added to it: the chunk that has usage and no
// choices, and the member "usage":null of the others.
//
// It works on whole server-sent events, however they are split between reads,
// and never buffers a complete one: what Write returns ends with the last event
// that p completed. Everything else passes byte for byte, line ends included.
type UsageStripper struct {
	held    []byte // start of an incomplete event
	out     []byte
	line    int  // bytes in the current line
	cr      bool // the previous byte was a carriage return
	passing bool // the event is too long to buffer: pass it on unparsed
	// A carriage return may end an event while its line feed is in the next
	// read; it is kept or dropped with the event.
	ended, dropped bool
}

// Write takes bytes of the stream and returns those to send on. They are valid
// until the next call.
func (s *UsageStripper) Write(p []byte) []byte {
	// Most reads are whole events without usage.
	if s.line == 0 && len(s.held) == 0 && !s.cr && !s.passing && !s.ended && bytes.HasSuffix(p, []byte("\n\n")) && !bytes.Contains(p, []byte(`"usage"`)) {
		return p
	}
	// An event may arrive byte by byte: the buffer doubles instead of growing
	// with each read.
	s.out = slices.Grow(s.out[:0], len(s.held)+len(p))
	start := 0 // of the event within p
	for i := 0; i < len(p); i++ {
		c := p[i]
		if c == '\n' && s.cr { // second half of a line end
			s.cr = false
			if s.ended {
				s.ended = false
				if !s.dropped {
					s.out = append(s.out, c)
				}
				start = i + 1
			}
			continue
		}
		s.ended = false
		s.cr = c == '\r'
		if c != '\n' && c != '\r' {
			s.line++
			continue
		}
		blank := s.line == 0
		s.line = 0
		if !blank {
			continue
		}
		s.endEvent(p[start : i+1])
		s.ended = s.cr
		start = i + 1
	}
	rest := p[start:]
	switch {
	case s.passing:
		s.out = append(s.out, rest...)
	case len(s.held)+len(rest) > maxHeld:
		s.out = append(append(s.out, s.held...), rest...)
		s.held, s.passing = s.held[:0], true
	default:
		s.held = append(s.held, rest...)
	}
	return s.out
}

// endEvent handles the event that ends with tail.
func (s *UsageStripper) endEvent(tail []byte) {
	if s.passing {
		s.passing, s.dropped = false, false
		s.out = append(s.out, tail...)
		return
	}
	ev := tail
	if len(s.held) > 0 {
		s.held = append(s.held, tail...)
		ev = s.held
	}
	from, to := addedByUsage(ev)
	s.dropped = to == len(ev)
	s.out = append(append(s.out, ev[:from]...), ev[to:]...)
	s.held = s.held[:0]
}

// Flush returns what remains at the end of the stream: an incomplete event.
// Some clients accept it, so it is treated like the others if its JSON is
// complete.
func (s *UsageStripper) Flush() []byte {
	rest := s.held
	s.held = nil
	from, to := addedByUsage(rest)
	return append(rest[:from:from], rest[to:]...)
}

// addedByUsage returns the part ev[from:to] of an event that would not be there
// if usage had not been requested; from == to if there is none, and the whole
// event for the usage chunk. If in doubt, nothing is removed.
func addedByUsage(ev []byte) (from, to int) {
	if !bytes.Contains(ev, []byte(`"usage"`)) {
		return 0, 0
	}
	begin, end := dataLine(ev)
	if begin < 0 {
		return 0, 0
	}
	b := ev[begin:end]
	o := rawjson.NewObject(b)
	var (
		prevEnd, cutFrom, cutTo = -1, -1, -1
		pending                 bool // the member after the removed one is expected
		noChoices, usage        bool
		usages                  int
	)
	for {
		m, ok := o.Next()
		if !ok {
			break
		}
		if pending {
			cutTo, pending = m.Key, false
		}
		switch string(o.Name(m)) {
		case "choices":
			v := o.Value(m)
			noChoices = v[0] == '[' && rawjson.SkipSpace(v, 1) == len(v)-1
		case "usage":
			usages++
			v := o.Value(m)
			usage = v[0] == '{'
			if string(v) == "null" {
				cutFrom, pending = m.Key, true
			}
		}
		if !pending {
			prevEnd = m.End
		}
	}
	if !o.Done() || usages != 1 {
		return 0, 0
	}
	if usage {
		if noChoices {
			return 0, len(ev)
		}
		return 0, 0
	}
	if pending { // the last member: remove the comma before it
		last := rawjson.SkipSpace(b, cutFrom)
		cutTo = last
		for cutTo < len(b) && b[cutTo] != ':' {
			cutTo++
		}
		cutTo = rawjson.SkipValue(b, rawjson.SkipSpace(b, cutTo+1))
		if prevEnd >= 0 {
			cutFrom = prevEnd
		}
	}
	if cutFrom < 0 {
		return 0, 0
	}
	return begin + cutFrom, begin + cutTo
}

// dataLine returns the offsets of the value of an event's only data line, or -1
// if there is none or there are several.
func dataLine(ev []byte) (begin, end int) {
	begin = -1
	for i := 0; i < len(ev); {
		n := bytes.IndexByte(ev[i:], '\n')
		if n < 0 {
			n = len(ev) - i
		}
		if k := bytes.IndexByte(ev[i:i+n], '\r'); k >= 0 { // a line end on its own, or half of one
			n = k
		}
		line := ev[i : i+n]
		if v, ok := bytes.CutPrefix(line, []byte("data:")); ok {
			if begin >= 0 {
				return -1, -1
			}
			begin, end = i+n-len(v), i+n
		}
		i += n + 1
	}
	return begin, end
}
