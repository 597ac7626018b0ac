package provider

import (
	"strings"

	"github.com/hedgerow/hedgerow/internal/rawjson"
)

// frames reads server-sent events (WHATWG HTML, section 9.2) from a complete
// body: lines end in LF, CRLF or CR, a byte order mark and comments are
// skipped, and the data lines of one event are joined by LF. Unlike a browser
// it also returns an event without its blank line at the end of the body,
// because some servers omit the last one, and JSON without a field name,
// because some send errors this way.
type frames struct {
	body string
	pos  int
	lf   int // index of the next LF from pos on; found once, so that CR-only bodies take linear time
}

// maxBare limits JSON without a field name in a stream, in bytes.
const maxBare = 64 << 10

// frame is one server-sent event that has data.
type frame struct {
	name  string // of the event field
	data  string // may alias the body
	end   int    // offset just after the event
	ended bool   // by a blank line
}

func newFrames(body string) *frames {
	r := &frames{body: body, lf: -1}
	if strings.HasPrefix(body, "\uFEFF") {
		r.pos = len("\uFEFF")
	}
	return r
}

// next returns the next event, and false at the end of the body.
func (r *frames) next() (frame, bool) {
	var f frame
	var seen bool
	for r.pos < len(r.body) {
		from := r.pos
		line := r.line()
		if strings.HasPrefix(line, "{") {
			if seen {
				r.pos, f.end, f.ended = from, from, true
				return f, true
			}
			if end := rawjson.SkipValue([]byte(r.body[from:min(len(r.body), from+maxBare)]), 0); end > 0 {
				f.data, r.pos = r.body[from:from+end], max(r.pos, from+end)
				f.end, f.ended = r.pos, true
				return f, true
			}
			continue
		}
		if line == "" {
			if seen {
				f.end, f.ended = r.pos, true
				return f, true
			}
			f.name = ""
			continue
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "data":
			if seen {
				f.data += "\n" + value
			} else {
				f.data, seen = value, true
			}
		case "event":
			f.name = value
		}
	}
	f.end = r.pos
	return f, seen
}

func (r *frames) line() string {
	if r.lf < r.pos {
		r.lf = len(r.body)
		if k := strings.IndexByte(r.body[r.pos:], '\n'); k >= 0 {
			r.lf = r.pos + k
		}
	}
	line := r.body[r.pos:r.lf]
	next := min(r.lf+1, len(r.body))
	if k := strings.IndexByte(line, '\r'); k >= 0 {
		if k < len(line)-1 || r.lf == len(r.body) {
			next = r.pos + k + 1
		}
		line = line[:k]
	}
	r.pos = next
	return line
}

// resync returns s from its first event boundary on; s begins anywhere in a
// stream. It returns false if there is none.
func resync(s string) (string, bool) {
	at := -1
	for _, blank := range []string{"\n\n", "\r\n\r\n", "\r\r"} {
		if k := strings.Index(s, blank); k >= 0 && (at < 0 || k+len(blank) < at) {
			at = k + len(blank)
		}
	}
	if at < 0 {
		return "", false
	}
	return s[at:], true
}

// isSSE distinguishes a stream from a plain response. The body takes precedence
// over the Content-Type: errors arrive as JSON under either.
func isSSE(contentType, body string) bool {
	body = strings.TrimLeft(strings.TrimPrefix(body, "\uFEFF"), " \t\r\n")
	if strings.HasPrefix(body, "{") || strings.HasPrefix(body, "[") {
		return false
	}
	if strings.Contains(contentType, "text/event-stream") || strings.HasPrefix(body, "data:") || strings.HasPrefix(body, "event:") {
		return true
	}
	return contentType == "" && (strings.HasPrefix(body, "id:") || strings.HasPrefix(body, ": "))
}
