package provider

import (
	"compress/gzip"
	"io"
	"net/http"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
)

// encoder writes a response in a content encoding and flushes it to the
// network.
type encoder struct {
	io.Writer
	rc    *http.ResponseController
	inner interface {
		Flush() error
		Close() error
	}
}

func newEncoder(w http.ResponseWriter, name string) *encoder {
	e := &encoder{Writer: w, rc: http.NewResponseController(w)}
	switch name {
	case "gzip":
		z := gzip.NewWriter(w)
		e.Writer, e.inner = z, z
	case "br":
		z := brotli.NewWriter(w)
		e.Writer, e.inner = z, z
	case "zstd":
		z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
		if err != nil {
			panic(err) // only with invalid options
		}
		e.Writer, e.inner = z, z
	}
	return e
}

func (e *encoder) flush() {
	if e.inner != nil {
		_ = e.inner.Flush()
	}
	_ = e.rc.Flush()
}

func (e *encoder) close() {
	if e.inner != nil {
		_ = e.inner.Close()
	}
}

// stream writes server-sent events, flushing each, and performs the mid-stream
// failures of the behavior.
type stream struct {
	c     *call
	out   *encoder
	sent  int // chunks of content
	ended bool
}

// stream starts an event stream.
func (c *call) stream() *stream { return c.streamAs("text/event-stream; charset=utf-8") }

// streamAs starts a streamed response.
func (c *call) streamAs(contentType string) *stream {
	h := c.w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", "no-cache")
	if c.b.Trailer {
		h.Set("Trailer", "X-Sim-Trailer")
	}
	enc := c.encoding()
	if enc != "" {
		h.Set("Content-Encoding", enc)
	}
	c.status(http.StatusOK)
	s := &stream{c: c, out: newEncoder(c.w, enc)}
	s.out.flush()
	return s
}

// event sends one event; name may be "". It reports whether to continue.
func (s *stream) event(name string, v any) bool {
	return s.raw(name, string(encode(v)))
}

func (s *stream) raw(name, data string) bool {
	nl := "\n"
	if s.c.b.CRLF {
		nl = "\r\n"
	}
	text := "data: " + data + nl + nl
	if name != "" {
		text = "event: " + name + nl + text
	}
	return s.write(text)
}

// comment sends a comment line, which clients ignore.
func (s *stream) comment(text string) bool {
	if s.c.b.CRLF {
		return s.write(": " + text + "\r\n\r\n")
	}
	return s.write(": " + text + "\n\n")
}

func (s *stream) write(text string) bool {
	if s.ended || s.c.r.Context().Err() != nil {
		return false
	}
	step := len(text)
	if s.c.b.OneByte {
		step = 1
	}
	for i := 0; i < len(text); i += step {
		if _, err := io.WriteString(s.out, text[i:i+step]); err != nil {
			s.ended = true
			return false
		}
		s.out.flush()
	}
	return true
}

// content is called before each chunk of content except the first: it waits,
// and fails if configured. failure writes the provider's error into the stream.
func (s *stream) content(tokens int, failure func()) bool {
	c := s.c
	if s.ended {
		return false
	}
	after := c.b.After
	if after == 0 {
		after = 3
	}
	if c.b.Fail.mid() && s.sent == after {
		s.ended = true
		switch c.b.Fail {
		case MidError:
			s.ended = false
			failure()
			s.ended = true
			s.out.close()
		case MidReset:
			c.reset()
		case MidHang:
			c.hang()
		}
		return false
	}
	s.sent++
	if s.sent > 1 {
		return c.wait(c.timing.PerToken*time.Duration(tokens) + c.b.Gap)
	}
	return c.r.Context().Err() == nil
}

func (s *stream) end() {
	if s.ended {
		return
	}
	s.ended = true
	s.out.close()
	if s.c.b.Trailer {
		s.c.w.Header().Set("X-Sim-Trailer", "kept")
	}
}
