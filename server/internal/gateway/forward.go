package gateway

import (
	"context"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/provider"
)

var (
	noUserAgent = []string{""} // keeps net/http from adding its own
	identity    = []string{"identity"}
	upgrade     = []string{"Upgrade"}
	trailers    = []string{"trailers"}
)

// hopByHop reports whether a header, in canonical form, applies to one
// connection only (RFC 9110 section 7.6.1, and those of RFC 2616).
func hopByHop(k string) bool {
	switch k {
	case "Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade":
		return true
	}
	return false
}

// forwardingHeader reports whether a header was added by a reverse proxy in
// front of hedgerow. These are removed, since the client's address is not sent
// to the provider.
func forwardingHeader(k string) bool {
	switch k {
	case "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Server", "X-Real-Ip":
		return true
	}
	return false
}

// requestHeader returns the headers to send. Values are shared with the
// caller's request and must not be modified.
func (x *exchange) requestHeader() http.Header {
	in := x.in.Header
	out := make(http.Header, len(in)+1)
	for k, v := range in {
		switch {
		case hopByHop(k), ownHeader(k), forwardingHeader(k):
		case k == "Expect" && x.body.stream == nil: // already handled: the whole body has been read
		case k == "Cookie":
			if v = withoutSession(v); len(v) > 0 {
				out[k] = v
			}
		default:
			out[k] = v
		}
	}
	for _, line := range in["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			delete(out, textproto.CanonicalMIMEHeaderKey(textproto.TrimString(name)))
		}
	}
	if up := upgradeType(in); up != "" {
		out["Connection"], out["Upgrade"] = upgrade, []string{up}
		if x.readsSocket() {
			delete(out, "Sec-Websocket-Extensions") // its messages would be compressed
		}
	}
	if _, ok := x.fetchesResults(); ok {
		out["Accept-Encoding"] = identity // lines are read as they pass
	}
	if slices.ContainsFunc(in["Te"], func(v string) bool { return tokenIn(v, "trailers") }) {
		out["Te"] = trailers
	}
	if len(out["User-Agent"]) == 0 {
		out["User-Agent"] = noUserAgent
	}
	withoutOwn(out)
	switch {
	case x.key != "":
		x.route.up.withProviderKey(out, x.key)
	case x.google != "":
		out["Authorization"] = []string{"Bearer " + x.google}
	case x.aws != nil:
		withoutSignature(out)
	}
	return out
}

// withoutSession removes the cookies of hedgerow's pages, which a page on the
// same origin would send along.
func withoutSession(lines []string) []string {
	if !slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, "hedgerow") }) {
		return lines
	}
	var out []string
	for _, line := range lines {
		var keep []string
		for c := range strings.SplitSeq(line, ";") {
			if c = strings.TrimSpace(c); !strings.HasPrefix(c, "hedgerow") && !strings.HasPrefix(c, "__Host-hedgerow") {
				keep = append(keep, c)
			}
		}
		if len(keep) > 0 {
			out = append(out, strings.Join(keep, "; "))
		}
	}
	return out
}

func upgradeType(h http.Header) string {
	if slices.ContainsFunc(h["Connection"], func(v string) bool { return tokenIn(v, "upgrade") }) {
		return h.Get("Upgrade")
	}
	return ""
}

func tokenIn(list, token string) bool {
	for t := range strings.SplitSeq(list, ",") {
		if strings.EqualFold(strings.TrimSpace(t), token) {
			return true
		}
	}
	return false
}

// forward sends the call and copies the response to the caller.
func (x *exchange) forward() {
	if x.body.stream != nil {
		// The provider may respond before it has read the whole upload.
		_ = http.NewResponseController(x.w).EnableFullDuplex()
	}
	header := x.requestHeader()
	if x.plan.AddsUsage {
		// The added usage chunk has to be removed again, which is impossible in
		// a compressed response.
		plain := header
		header = make(http.Header, len(plain)+1)
		for k, v := range plain {
			header[k] = v
		}
		header["Accept-Encoding"] = identity
		res, err := x.roundTrip(header, x.plan.Edits)
		if err != nil || !x.refusesUsage(res) {
			if err == nil && res.StatusCode < 300 {
				x.g.metrics.usage.WithLabelValues("asked").Inc()
			}
			x.response(res, err)
			return
		}
		header = plain
		x.plan.AddsUsage = false
		res, err = x.roundTrip(header, x.plan.WithoutUsage)
		if err == nil && res.StatusCode < 300 {
			x.route.up.refused.Store(x.route.base, time.Now())
			x.g.metrics.usage.WithLabelValues("refused").Inc()
			x.g.log.Info("gateway: provider rejects stream_options, usage of its streams is no longer requested", slog.String("provider", x.route.up.name))
		}
		x.response(res, err)
		return
	}
	x.response(x.roundTrip(header, x.plan.Edits))
}

// refusesUsage is [provider.RefusesUsage]; reading the response is counted as
// waiting.
func (x *exchange) refusesUsage(res *http.Response) bool {
	defer func(t time.Time) { x.wait(t) }(time.Now())
	return provider.RefusesUsage(res, func(enc string, head []byte) []byte {
		if encoded(enc) {
			head, _, _ = decode(enc, head, 64<<10, nil)
		}
		return head
	})
}

// roundTrip sends the call once.
func (x *exchange) roundTrip(header http.Header, edits []provider.Edit) (*http.Response, error) {
	u := &url.URL{Scheme: x.route.up.scheme, Host: x.route.host, Path: x.route.path, RawPath: x.route.rawPath, RawQuery: queryWithoutOwn(x.in.URL.RawQuery), ForceQuery: x.in.URL.ForceQuery}
	out := &http.Request{Method: x.in.Method, URL: u, Host: x.route.host, Header: header, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
	switch {
	case x.body.stream != nil:
		out.Body, out.ContentLength, out.Trailer = x.body.stream, x.body.length, x.in.Trailer
	case len(x.body.whole) > 0:
		body, n := edited(x.body.whole, edits)
		out.Body, out.ContentLength = io.NopCloser(body()), n
		// Used only for a connection that broke while idle: net/http resends a
		// request of which nothing was sent.
		out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(body()), nil }
	default:
		out.Body = http.NoBody
	}
	if x.aws != nil {
		out.Header = out.Header.Clone()
		if err := sign(x.in.Context(), out, provider.Apply(x.body.whole, edits), *x.aws, x.route.region, time.Now()); err != nil {
			return nil, err
		}
	}
	early := &earlyHints{w: x.w}
	out = out.WithContext(httptrace.WithClientTrace(x.in.Context(), &httptrace.ClientTrace{Got1xxResponse: early.pass}))
	t := time.Now()
	res, err := x.route.up.transport.RoundTrip(out)
	early.end()
	if now := x.wait(t); err == nil {
		x.route.up.ttfb.Observe(now.Sub(t).Seconds())
	}
	return res, err
}

// earlyHints copies 1xx responses until the final response arrives.
type earlyHints struct {
	w    http.ResponseWriter
	mu   sync.Mutex
	done bool
}

func (e *earlyHints) pass(code int, h textproto.MIMEHeader) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.done || code == http.StatusContinue { // 100 Continue is between the provider and hedgerow
		return nil
	}
	to := e.w.Header()
	kept := maps.Clone(to) // headers set so far belong to the final response
	clear(to)
	for k, v := range h {
		if !hopByHop(k) {
			to[k] = v
		}
	}
	keepOrigin(to)
	e.w.WriteHeader(code)
	clear(to)
	maps.Copy(to, kept)
	return nil
}

func (e *earlyHints) end() {
	e.mu.Lock()
	e.done = true
	e.mu.Unlock()
}

// respond copies the provider's response, or writes an error if there is none.
func (x *exchange) response(res *http.Response, err error) {
	if err != nil {
		if s := x.body.stream; s != nil && s.failed() != nil {
			err = &errCaller{s.failed()}
		}
		x.fail(err)
		return
	}
	if b, ok := x.in.Body.(interface{ Unbound() }); ok {
		b.Unbound() // a caller may upload the rest while it reads the response
	}
	call := &x.rec.call
	call.Status, call.ResponseHeader = res.StatusCode, res.Header
	x.outcome = statusClass(res.StatusCode)
	if res.StatusCode == http.StatusSwitchingProtocols {
		x.upgrade(res)
		return
	}
	x.copy(res)
}

// fail ends an exchange that got no response.
func (x *exchange) fail(err error) {
	errType, e := failure(x.route.up.name, err, x.in.Context().Err() != nil)
	x.rec.call.Err, x.rec.call.ErrType = err, errType
	x.outcome = errType
	if e == nil {
		panic(http.ErrAbortHandler) // the caller has disconnected
	}
	if e.Code == event.CodeSlow {
		// The rest of the request is not read, so the connection cannot be
		// reused.
		x.w.Header().Set("Connection", "close")
		x.rec.call.Status = 0
		writeError(x.w, x.route.up, x.route.up.dialect, e)
		return
	}
	x.g.log.LogAttrs(context.Background(), slog.LevelWarn, "gateway: request to provider failed", slog.String("provider", x.route.up.name), slog.String("type", errType), slog.Any("err", err))
	x.rec.call.Status = 0
	writeError(x.w, x.route.up, x.route.up.dialect, e)
}

// broke records that a response was cut off, and by which side. A caller that
// has received the last stream event may close the stream: that is not an
// error.
func (x *exchange) broke(err error, caller bool) {
	call := &x.rec.call
	if !caller && x.in.Context().Err() != nil && call.Status/100 == 2 && provider.StreamEnded(call.Dialect, call.ResponseHeader.Get("Content-Type"), x.recorder.last(provider.StreamTailSize)) {
		return
	}
	call.Err, call.ErrType = err, event.ErrTypeStream
	if caller || x.in.Context().Err() != nil {
		call.ErrType = event.ErrTypeClientGone
	}
	x.outcome = call.ErrType
}
