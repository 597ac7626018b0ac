package hedgerow

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/internal/provider"
)

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
	if at, ok := x.c.refused.Load(x.to.base); ok && time.Since(at.(time.Time)) < provider.UsageRefusalLasts {
		return nil, false
	}
	e, ok := provider.AskUsage(b)
	if !ok {
		return nil, false // no stream, asked already, or something that the provider shall judge
	}
	return provider.Apply(b, []provider.Edit{e}), true
}

// refusesUsage reports whether the provider refused what was added to the call.
// If so the answer is done with, else it is as if it had not been looked at.
// Mistral says it with 422.
func refusesUsage(res *http.Response) bool {
	if res.StatusCode != http.StatusBadRequest && res.StatusCode != http.StatusUnprocessableEntity || res.Body == nil {
		return false
	}
	head, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err == nil && provider.NamesUsage(head) {
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

// stripper takes out of a stream what asking for token counts has added to it,
// as the stream is read.
type stripper struct {
	usage provider.UsageStripper
	out   []byte // ready for the caller
	err   error  // to come after out
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
	s.out = s.usage.Write(p)
	if err != nil {
		s.out = append(s.out[:len(s.out):len(s.out)], s.usage.Flush()...)
	}
	s.err = err
}
