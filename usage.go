package hedgerow

import (
	"bytes"
	"net/http"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/internal/provider"
)

// roundTrip sends the request without the attribution members, which are not
// part of the provider's API. If a stream would not report usage it requests
// it, and returns what removes the extra chunk from the response.
func (x *exchange) roundTrip(req *http.Request, next func(*http.Request) (*http.Response, error)) (*http.Response, *stripper, error) {
	plan := x.plan(req)
	if !plan.AddsUsage {
		res, err := next(x.edited(req, plan.Edits))
		return res, nil, err
	}
	res, err := next(x.edited(req, plan.Edits))
	if err != nil || !provider.RefusesUsage(res, nil) {
		return res, &stripper{}, err
	}
	res, err = next(x.edited(req, plan.WithoutUsage))
	if err == nil && res.StatusCode < 300 {
		x.c.refused.Store(x.to.base, time.Now())
		x.c.log.Info("provider rejects stream_options: usage of its streams is no longer requested", "provider", x.to.name)
	}
	return res, nil, err
}

// edited returns the request with a changed body, or the request itself if there is
// nothing to change.
func (x *exchange) edited(req *http.Request, edits []provider.Edit) *http.Request {
	if len(edits) == 0 {
		return req
	}
	out := req.Clone(req.Context())
	setBody(out, provider.Apply(x.call.Request, edits))
	if out.Header.Get("Content-Length") != "" {
		out.Header.Del("Content-Length")
	}
	return out
}

// plan finds the changes to the body. A compressed or signed body is left
// unchanged, and so is one for the hedgerow server itself, which reads
// attribution on its own.
func (x *exchange) plan(req *http.Request) provider.Plan {
	b, h := x.call.Request, req.Header
	if x.upload != nil || len(b) == 0 || h.Get("Content-Encoding") != "" || strings.HasPrefix(h.Get("Authorization"), "AWS4-") {
		return provider.Plan{}
	}
	var strips func([]byte) bool
	if base := req.URL.Scheme + "://" + req.URL.Host; base != x.c.c.Host {
		strips = x.call.Strips()
	}
	ask := x.mayRequestUsage(req)
	if strips == nil && !ask {
		return provider.Plan{}
	}
	return provider.PlanEdits(b, strips, ask)
}

// mayRequestUsage reports whether usage may be requested, if the call is a stream
// that does not report it otherwise.
func (x *exchange) mayRequestUsage(req *http.Request) bool {
	if x.c.c.LeaveUsage || x.to.usage || x.to.dialect != provider.OpenAI || !bytes.Contains(x.call.Request, []byte(`"stream"`)) {
		return false
	}
	switch provider.Operation(x.to.dialect, x.call.Method, x.call.Path) {
	case "chat", "completions":
	default:
		return false
	}
	if req.Header.Get("Accept-Encoding") != "" {
		return false // a compressed response cannot be edited
	}
	at, ok := x.c.refused.Load(x.to.base)
	return !ok || time.Since(at.(time.Time)) >= provider.UsageRefusalTTL
}

// stripper removes the extra usage chunk from a stream while it is read.
type stripper struct {
	usage provider.UsageStripper
	out   []byte // ready for the caller
	err   error  // returned after out
}

// take returns bytes that are ready. ok is false if they do not exist yet.
func (s *stripper) take(p []byte) (n int, err error, ok bool) {
	if len(s.out) > 0 {
		n = copy(p, s.out)
		s.out = s.out[n:]
		return n, nil, true
	}
	return 0, s.err, s.err != nil
}

// write adds bytes read from the stream.
func (s *stripper) write(p []byte, err error) {
	s.out = s.usage.Write(p)
	if err != nil {
		s.out = append(s.out[:len(s.out):len(s.out)], s.usage.Flush()...)
	}
	s.err = err
}
