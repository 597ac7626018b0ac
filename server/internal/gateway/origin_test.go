package gateway_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/server/internal/gateway"
)

// TestResponsesCannotAffectOrigin has a provider that tries to affect
// hedgerow's own origin, in each kind of response.
func TestResponsesCannotAffectOrigin(t *testing.T) {
	cookies := []string{
		"hedgerow_session=stolen; Path=/", "a=1; Path=/", "__Host-hedgerow_session=x; Secure; Path=/", "__Secure-hedgerow_flash=x", "HEDGEROW_project=x", " hedgerow_zone = x", "=hedgerow_session=x", "hedgerow_session",
		"__host-hedgerow_session=x", "my_hedgerow=2; HttpOnly", "hedge=3",
	}
	kept := []string{"a=1; Path=/", "my_hedgerow=2; HttpOnly", "hedge=3"}
	wide := http.Header{
		"Clear-Site-Data": {`"*"`}, "Strict-Transport-Security": {"max-age=1"}, "Alt-Svc": {`h2=":1"`}, "Service-Worker-Allowed": {"/"}, "Nel": {"{}"}, "Report-To": {"{}"}, "Reporting-Endpoints": {`a="https://x"`}, "Public-Key-Pins": {"x"},
	}
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		put := func() {
			for k, v := range wide {
				h[k] = v
			}
			h["Set-Cookie"] = cookies
		}
		switch r.URL.Path {
		case "/v1/hints":
			put()
			w.WriteHeader(http.StatusEarlyHints)
			clear(h)
		case "/v1/trailers":
			h.Set("Trailer", "Set-Cookie, Clear-Site-Data")
			_, _ = io.WriteString(w, "body")
			put()
			return
		case "/v1/policy":
			h.Set("Content-Security-Policy", "default-src *")
			h.Set("X-Content-Type-Options", "other")
		case "/v1/upgrade":
			put()
			h.Set("Connection", "upgrade")
			h.Set("Upgrade", "websocket")
			w.WriteHeader(http.StatusSwitchingProtocols)
			return
		}
		put()
		h.Set("Content-Type", "text/html")
		h.Set("X-Mine", "1")
		_, _ = io.WriteString(w, "<script>fetch('/api/v1/projects')</script>")
	}))
	t.Cleanup(up.Close)
	r := start(t, at(up.URL))
	check := func(h http.Header) {
		t.Helper()
		for k := range wide {
			if len(h[k]) > 0 {
				t.Errorf("%s: %q", k, h[k])
			}
		}
		for _, line := range h["Set-Cookie"] {
			if !slices.Contains(kept, line) {
				t.Errorf("sets %q", line)
			}
		}
	}
	got := call(t, "GET", r.url+"/openai/v1/page", "")
	check(got.header)
	if !reflect.DeepEqual(got.header["Set-Cookie"], kept) || got.header.Get("X-Mine") != "1" || got.header.Get("Content-Type") != "text/html" || !strings.HasPrefix(got.body, "<script>") {
		t.Errorf("%v %s", got.header, got.body)
	}
	if !reflect.DeepEqual(got.header["Content-Security-Policy"], []string{"sandbox"}) || got.header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%v", got.header)
	}
	got = call(t, "GET", r.url+"/openai/v1/policy", "")
	if !reflect.DeepEqual(got.header["Content-Security-Policy"], []string{"default-src *", "sandbox"}) || !reflect.DeepEqual(got.header["X-Content-Type-Options"], []string{"other"}) {
		t.Errorf("the provider's own headers: %v", got.header)
	}
	got = call(t, "GET", r.url+"/openai/v1/trailers", "")
	check(got.trailer)
	if got.body != "body" {
		t.Errorf("%+v", got)
	}
	hinted := 0
	req, _ := http.NewRequestWithContext(traced(t, func(_ int, h textproto.MIMEHeader) error { hinted++; check(http.Header(h)); return nil }), "GET", r.url+"/openai/v1/hints", nil)
	if got := do(t, client(t), req); got.status != 200 || hinted != 1 {
		t.Errorf("%d, %d hints", got.status, hinted)
	}
	req, _ = http.NewRequestWithContext(t.Context(), "GET", r.url+"/openai/v1/upgrade", nil)
	req.Header.Set("Connection", "upgrade")
	req.Header.Set("Upgrade", "websocket")
	resp, err := client(t).Do(req)
	if err != nil || resp.StatusCode != 101 {
		t.Fatalf("%v %v", resp, err)
	}
	resp.Body.Close()
	check(resp.Header)
}

// TestKeyless checks which calls need no key.
func TestKeyless(t *testing.T) {
	for _, tc := range []struct {
		name, from, host string
		header           []string
		ok               bool
	}{
		{"a program", "127.0.0.1:1", "127.0.0.1:4100", nil, true},
		{"localhost", "127.0.0.1:1", "localhost:4100", nil, true},
		{"localhost of IPv6", "[::1]:1", "[::1]:4100", nil, true},
		{"no port", "127.0.0.1:1", "LocalHost", nil, true},
		{"a dot", "127.0.0.1:1", "localhost.:4100", nil, true},
		{"bare IPv6", "[::1]:1", "[::1]", nil, true},
		{"another of 127/8", "127.1.2.3:1", "127.0.0.5:4100", nil, true},
		{"mapped", "[::ffff:127.0.0.1]:1", "127.0.0.1", nil, true},
		{"a page of this machine", "127.0.0.1:1", "127.0.0.1:4100", []string{"Origin", "http://localhost:3000", "Sec-Fetch-Site", "cross-site"}, true},
		{"the browser's address bar", "127.0.0.1:1", "127.0.0.1:4100", []string{"Sec-Fetch-Site", "none"}, true},

		{"another machine", "192.0.2.1:1", "127.0.0.1:4100", nil, false},
		{"no address", "@", "127.0.0.1:4100", nil, false},
		{"DNS rebinding", "127.0.0.1:1", "evil.example:4100", nil, false},
		{"a name like localhost", "127.0.0.1:1", "localhost.evil.example", nil, false},
		{"a name that begins with the address", "127.0.0.1:1", "127.0.0.1.nip.io:4100", nil, false},
		{"no host", "127.0.0.1:1", "", nil, false},
		{"any address", "127.0.0.1:1", "0.0.0.0:4100", nil, false},
		{"an odd port", "127.0.0.1:1", "localhost:4100@evil", nil, false},
		{"a page of another site", "127.0.0.1:1", "127.0.0.1:4100", []string{"Origin", "https://evil.example"}, false},
		{"a page in a sandbox", "127.0.0.1:1", "127.0.0.1:4100", []string{"Origin", "null"}, false},
		{"an image of another site", "127.0.0.1:1", "127.0.0.1:4100", []string{"Sec-Fetch-Site", "cross-site"}, false},
		{"Forwarded", "127.0.0.1:1", "127.0.0.1:4100", []string{"Forwarded", "for=192.0.2.1"}, false},
		{"X-Forwarded-For", "127.0.0.1:1", "127.0.0.1:4100", []string{"X-Forwarded-For", "127.0.0.1"}, false},
		{"X-Forwarded-Proto", "127.0.0.1:1", "127.0.0.1:4100", []string{"x-forwarded-proto", "https"}, false},
		{"X-Real-IP", "127.0.0.1:1", "127.0.0.1:4100", []string{"X-Real-IP", "192.0.2.1"}, false},
		{"Via", "127.0.0.1:1", "127.0.0.1:4100", []string{"Via", "1.1 x"}, false},
		{"Cloudflare", "127.0.0.1:1", "127.0.0.1:4100", []string{"CF-Connecting-IP", "192.0.2.1"}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := httptest.NewRequest("POST", "/openai/v1/chat/completions", nil)
			r.RemoteAddr, r.Host = tc.from, tc.host
			for i := 0; i < len(tc.header); i += 2 {
				r.Header.Set(tc.header[i], tc.header[i+1])
			}
			e := gateway.Keyless(r)
			if (e == nil) != tc.ok {
				t.Errorf("%v", e)
			}
			if e != nil && (e.HTTPStatus() != 401 || !strings.Contains(e.Hint, "X-Hedgerow-Key")) {
				t.Errorf("%+v", e)
			}
		})
	}
}

// traced is the test's context with a hook for 1xx responses.
func traced(t *testing.T, got func(int, textproto.MIMEHeader) error) context.Context {
	return httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: got})
}
