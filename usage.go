package hedgerow

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"github.com/hedgerow/hedgerow/internal/provider"
)

// refusalLasts is how long a host is not asked for token counts after it has
// refused the question.
const refusalLasts = time.Hour

// roundTrip sends the request. Where a stream would bear no token counts it asks
// for them, and returns what takes the answer to that out again.
func (x *exchange) roundTrip(req *http.Request, next func(*http.Request) (*http.Response, error)) (*http.Response, *stripper, error) {
	edited, ok := x.askUsage(req)
	if !ok {
		res, err := next(req)
		return res, nil, err
	}
	asking := req.Clone(req.Context())
	setBody(asking, edited)
	if asking.Header.Get("Content-Length") != "" {
		asking.Header.Del("Content-Length")
	}
	res, err := next(asking)
	if err != nil || !refusesUsage(res) {
		return res, &stripper{}, err
	}
	res, err = next(req)
	if err == nil && res.StatusCode < 300 {
		x.c.refused.Store(x.to.base, time.Now())
		x.c.log.Info("provider refuses stream_options: token counts of its streams are not asked for", "provider", x.to.name)
	}
	return res, nil, err
}

// askUsage returns the body with a question for token counts, where the stream
// would have none otherwise.
func (x *exchange) askUsage(req *http.Request) ([]byte, bool) {
	b := x.call.Request
	if x.c.c.LeaveUsage || x.to.usage || x.to.dialect != provider.OpenAI || len(b) == 0 || !bytes.Contains(b, []byte(`"stream"`)) {
		return nil, false
	}
	switch provider.Operation(x.to.dialect, x.call.Method, x.call.Path) {
	case "chat", "completions":
	default:
		return nil, false
	}
	h := req.Header
	if h.Get("Accept-Encoding") != "" || h.Get("Content-Encoding") != "" || strings.HasPrefix(h.Get("Authorization"), "AWS4-") {
		return nil, false // what cannot be taken out again, or is signed
	}
	if at, ok := x.c.refused.Load(x.to.base); ok && time.Since(at.(time.Time)) < refusalLasts {
		return nil, false
	}
	if !json.Valid(b) || gjson.GetBytes(b, "stream").Type != gjson.True {
		return nil, false
	}
	const ask = `"stream_options":{"include_usage":true}`
	options := gjson.GetBytes(b, "stream_options")
	switch {
	case !options.Exists():
		brace := bytes.IndexByte(b, '{') + 1 // the object has a member, stream
		return splice(b, brace, brace, ask+","), true
	case options.Type == gjson.Null && options.Index > 0:
		return splice(b, options.Index, options.Index+len(options.Raw), `{"include_usage":true}`), true
	case options.IsObject() && options.Index > 0:
		usage := gjson.Get(options.Raw, "include_usage")
		switch {
		case !usage.Exists() && len(options.Map()) == 0:
			return splice(b, options.Index+1, options.Index+1, `"include_usage":true`), true
		case !usage.Exists():
			return splice(b, options.Index+1, options.Index+1, `"include_usage":true,`), true
		case (usage.Type == gjson.False || usage.Type == gjson.Null) && usage.Index > 0:
			at := options.Index + usage.Index
			return splice(b, at, at+len(usage.Raw), "true"), true
		}
	}
	return nil, false // asked already, or something that the provider shall judge
}

func splice(b []byte, from, to int, s string) []byte {
	out := make([]byte, 0, len(b)-(to-from)+len(s))
	return append(append(append(out, b[:from]...), s...), b[to:]...)
}

func validJSON(b []byte) bool { return json.Valid(b) }

// refusesUsage reports whether the provider refused what was added to the call.
// If so the answer is done with, else it is as if it had not been looked at.
// Mistral says it with 422.
func refusesUsage(res *http.Response) bool {
	if res.StatusCode != http.StatusBadRequest && res.StatusCode != http.StatusUnprocessableEntity || res.Body == nil {
		return false
	}
	head, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err == nil && (bytes.Contains(head, []byte("stream_options")) || bytes.Contains(head, []byte("include_usage"))) {
		_ = res.Body.Close()
		return true
	}
	rest := io.Reader(res.Body)
	if err != nil {
		rest = failing{err}
	}
	res.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(head), rest), res.Body}
	return false
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// maxHeld bounds what the stripper keeps of an event whose end has not come: a
// usage chunk has some 500 bytes.
const maxHeld = 64 << 10

// stripper takes out of a stream of chat completion chunks what
// stream_options.include_usage has added to it: the chunk that has usage and no
// choices, and the member "usage":null of the others. It works on whole
// server-sent events and holds none back once it is complete. All else passes
// byte for byte.
type stripper struct {
	held    []byte // an event that has begun and not ended
	out     []byte // ready for the caller
	err     error  // to come after out
	passing bool   // the event was too long to hold
}

// take gives the caller what is ready. ok is false where there is nothing yet.
func (s *stripper) take(p []byte) (n int, err error, ok bool) {
	if len(s.out) > 0 {
		n = copy(p, s.out)
		s.out = s.out[n:]
		return n, nil, true
	}
	return 0, s.err, s.err != nil
}

// write takes what was read of the stream.
func (s *stripper) write(p []byte, err error) {
	s.out = s.out[:0]
	s.held = append(s.held, p...)
	for {
		n := eventEnd(s.held)
		if n < 0 {
			break
		}
		s.event(s.held[:n])
		s.held = s.held[n:]
	}
	switch {
	case err != nil: // some clients take an event without end for one all the same
		s.event(s.held)
		s.held = nil
	case len(s.held) > maxHeld || s.passing:
		s.out = append(s.out, s.held...)
		s.held, s.passing = s.held[:0], true
	}
	s.err = err
}

func (s *stripper) event(ev []byte) {
	if s.passing {
		s.passing = false
		s.out = append(s.out, ev...)
		return
	}
	from, to := added(ev)
	s.out = append(append(s.out, ev[:from]...), ev[to:]...)
}

// eventEnd returns the length of the first whole event of b, its blank line
// included, or -1. Lines end in LF or CR LF.
func eventEnd(b []byte) int {
	for i := 0; ; {
		n := bytes.IndexByte(b[i:], '\n')
		if n < 0 {
			return -1
		}
		i += n + 1
		switch {
		case i < len(b) && b[i] == '\n':
			return i + 1
		case i+1 < len(b) && b[i] == '\r' && b[i+1] == '\n':
			return i + 2
		}
	}
}

// added returns the part of an event that would not be there had usage not been
// asked for; the whole of it for the usage chunk. In doubt nothing is cut.
func added(ev []byte) (from, to int) {
	if !bytes.Contains(ev, []byte(`"usage"`)) || bytes.Count(ev, []byte("data:")) < 1 {
		return 0, 0
	}
	at := bytes.Index(ev, []byte("data:")) + len("data:")
	line := ev[at:]
	if i := bytes.IndexByte(line, '\n'); i >= 0 {
		line = line[:i]
	}
	data := bytes.TrimSpace(line)
	usage := gjson.GetBytes(data, "usage")
	switch {
	case usage.IsObject() && json.Valid(data):
		if choices := gjson.GetBytes(data, "choices"); choices.IsArray() && len(choices.Array()) == 0 {
			return 0, len(ev)
		}
	case usage.Type == gjson.Null && usage.Index > 0:
		at += bytes.Index(line, data)
		key := bytes.LastIndex(data[:usage.Index], []byte(`"usage"`))
		if key < 1 || len(bytes.TrimSpace(data[key+len(`"usage"`):usage.Index])) != 1 {
			return 0, 0
		}
		end := usage.Index + len("null")
		if before := len(bytes.TrimRight(data[:key], " \t")); data[before-1] == ',' {
			return at + before - 1, at + end
		}
		if rest := bytes.TrimLeft(data[end:], " \t"); len(rest) > 0 && rest[0] == ',' {
			end = len(data) - len(rest) + 1
			return at + key, at + end
		}
	}
	return 0, 0
}
