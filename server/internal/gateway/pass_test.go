package gateway_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"maps"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"

	"github.com/hedgerow/hedgerow/server/internal/gateway"
)

// received is a request as an upstream got it.
type received struct {
	Method, URI, Host string
	Header            http.Header
	Body              string
	Length            int64
	TE                []string
	Trailer           http.Header
}

// upstreamCases is an upstream whose responses a gateway might get wrong,
// chosen by the path. It keeps the requests.
type upstreamCases struct {
	*httptest.Server
	mu   sync.Mutex
	last received
}

func newUpstreamCases(t testing.TB) *upstreamCases {
	p := new(upstreamCases)
	p.Server = httptest.NewServer(p)
	t.Cleanup(p.Close)
	return p
}

func (p *upstreamCases) got() received {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last
}

const sse = "event: a\r\ndata: {\"n\":1}\r\n\r\n: comment\n\ndata: two\ndata: lines\n\ndata: [DONE]\n\n"

func (p *upstreamCases) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	p.mu.Lock()
	p.last = received{r.Method, r.RequestURI, r.Host, r.Header.Clone(), string(body), r.ContentLength, r.TransferEncoding, r.Trailer.Clone()}
	p.mu.Unlock()
	h := w.Header()
	h.Set("Date", "Wed, 01 Jul 2026 12:00:00 GMT") // or it might differ between calls
	flush := http.NewResponseController(w).Flush
	kind := strings.TrimPrefix(r.URL.Path, "/v1/")
	switch kind {
	case "json":
		h.Set("Content-Type", "application/json")
		h.Set("Content-Length", "13")
		_, _ = io.WriteString(w, `{"ok": true} `)
	case "headers":
		h["X-Request-Id"] = []string{"req_1", "req_2"}
		h["Set-Cookie"] = []string{"a=1; Path=/", "__cf_bm=2; HttpOnly"}
		h["X-Empty"] = []string{""}
		h["Openai-Processing-Ms"] = []string{"12"}
		h["Content-Type"] = []string{"text/plain; Charset=UTF-8"}
	case "hop":
		h.Set("Connection", "X-Hop, keep-alive")
		h.Set("X-Hop", "1")
		h.Set("Keep-Alive", "timeout=5")
		h.Set("Proxy-Authenticate", "Basic")
		h.Set("X-Stays", "1")
	case "untyped":
		h["Content-Type"] = nil
		_, _ = io.WriteString(w, "<html>looks like HTML")
	case "dateless":
		h["Date"] = nil
	case "zero":
		h.Set("Content-Length", "0")
	case "nothing":
		w.WriteHeader(http.StatusNoContent)
	case "unchanged":
		h.Set("Etag", `"e"`)
		w.WriteHeader(http.StatusNotModified)
	case "redirect":
		h.Set("Location", "/v1/json")
		w.WriteHeader(http.StatusFound)
	case "teapot":
		http.Error(w, "short and stout", http.StatusTeapot)
	case "odd":
		w.WriteHeader(599)
		_, _ = io.WriteString(w, "odd")
	case "chunked", "chunked-empty":
		w.WriteHeader(200)
		_ = flush()
		if kind == "chunked" {
			_, _ = io.WriteString(w, "one")
			_ = flush()
			_, _ = io.WriteString(w, "two")
		}
	case "sse":
		h.Set("Content-Type", "text/event-stream; charset=utf-8")
		for i := range len(sse) {
			_, _ = io.WriteString(w, sse[i:i+1])
			_ = flush()
		}
	case "trailers", "trailers-empty":
		h.Set("Trailer", "X-Sum, X-Other")
		if kind == "trailers" {
			_, _ = io.WriteString(w, "body")
		}
		h.Set("X-Sum", "abc")
		h.Set("X-Other", "def")
	case "trailers-unannounced":
		_, _ = io.WriteString(w, "body")
		_ = flush()
		h.Set(http.TrailerPrefix+"X-Late", "late")
	case "big":
		h.Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"a":"`+strings.Repeat("x", 3<<20)+`"}`)
	case "gzip", "br", "zstd":
		h.Set("Content-Encoding", kind)
		h.Set("Content-Type", "application/json")
		h.Set("Vary", "Accept-Encoding")
		_, _ = w.Write(encode(kind, []byte(`{"object":"list","data":[]}`)))
	default:
		h.Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"object":"list"}`)
	}
}

func encode(encoding string, b []byte) []byte {
	var buf bytes.Buffer
	var w io.WriteCloser
	switch encoding {
	case "gzip":
		w = gzip.NewWriter(&buf)
	case "br":
		w = brotli.NewWriter(&buf)
	case "zstd":
		w, _ = zstd.NewWriter(&buf)
	}
	_, _ = w.Write(b)
	_ = w.Close()
	return buf.Bytes()
}

// withOwnHeaders adds the two headers that hedgerow adds to a response.
func withOwnHeaders(h http.Header) http.Header {
	h.Add("Content-Security-Policy", "sandbox")
	h.Set("X-Content-Type-Options", "nosniff")
	return h
}

// TestPassesResponsesUnchanged compares each response with that of a direct
// call. docs/gateway.md lists the differences that are allowed.
func TestPassesResponsesUnchanged(t *testing.T) {
	up := newUpstreamCases(t)
	r := start(t, at(up.URL))
	kinds := []string{
		"json", "headers", "untyped", "dateless", "zero", "nothing", "unchanged", "redirect", "teapot", "odd", "chunked", "chunked-empty", "sse",
		"trailers", "trailers-empty", "trailers-unannounced", "big", "gzip", "br", "zstd",
	}
	calls := 0
	for _, method := range []string{"GET", "POST", "HEAD", "DELETE", "PATCH", "OPTIONS"} {
		for _, kind := range kinds {
			t.Run(method+"/"+kind, func(t *testing.T) {
				body := ""
				if method == "POST" || method == "PATCH" {
					body = chatBody
				}
				want := call(t, method, up.URL+"/v1/"+kind, body, "Accept-Encoding: gzip, br, zstd", "Content-Type: application/json")
				got := call(t, method, r.url+"/openai/v1/"+kind, body, "Accept-Encoding: gzip, br, zstd", "Content-Type: application/json")
				calls++
				if method == "HEAD" { // whose body is not sent
					want.header.Del("Trailer")
				}
				if want.err != nil || got.err != nil {
					t.Fatalf("direct: %v, through hedgerow: %v", want.err, got.err)
				}
				withOwnHeaders(want.header)
				if !reflect.DeepEqual(got, want) {
					t.Errorf("got\n%.1000v\nwant\n%.1000v", fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want))
				}
			})
		}
	}
	for _, e := range r.sink.await(t, calls) {
		if e.HTTPStatus == 0 || e.ProjectID != "p1" || e.TraceID == "" || e.SpanID == "" || e.Validate() != nil {
			t.Errorf("%s: status %d, project %q, trace %q, span %q: %v", e.SpanName, e.HTTPStatus, e.ProjectID, e.TraceID, e.SpanID, e.Validate())
		}
	}
}

func TestDropsHopByHopResponseHeaders(t *testing.T) {
	up := newUpstreamCases(t)
	r := start(t, at(up.URL))
	got := call(t, "GET", r.url+"/openai/v1/hop", "").header
	want := withOwnHeaders(http.Header{"Date": {"Wed, 01 Jul 2026 12:00:00 GMT"}, "X-Stays": {"1"}, "Content-Length": {"0"}})
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestPassesRequestsUnchanged compares the request that arrives with that of a
// direct call.
func TestPassesRequestsUnchanged(t *testing.T) {
	up := newUpstreamCases(t)
	r := start(t, at(up.URL))
	var form bytes.Buffer
	mw := multipart.NewWriter(&form)
	part, _ := mw.CreateFormFile("file", "a.wav")
	_, _ = part.Write(bytes.Repeat([]byte{0, 1, 255}, 100<<10))
	_ = mw.Close()
	cases := []struct {
		name, method, path, body string
		headers                  []string
	}{
		{"get", "GET", "/v1/models", "", nil},
		{"query", "GET", "/v1/models?limit=2&after=%2Fa%20b&empty=&x=a+b;c=d&key", "", nil},
		{"bare question mark", "GET", "/v1/models?", "", nil},
		{"escaped path", "GET", "/v1/models/ft%3Agpt%2F4%20x%C3%A9/%7Eit", "", nil},
		{"semicolons and signs", "GET", "/v1/models/a:b;c=d,e@f!$&'()*+", "", nil},
		{"double slash", "GET", "/v1//models//x", "", nil},
		{"trailing slash", "GET", "/v1/models/", "", nil},
		{"delete", "DELETE", "/v1/files/f1", "", nil},
		{"delete with a body", "DELETE", "/v1/files/f1", `{"why":"old"}`, []string{"Content-Type: application/json"}},
		{"json", "POST", "/v1/chat/completions", chatBody, []string{"Content-Type: application/json"}},
		{"json without a type", "POST", "/v1/chat/completions", chatBody, nil},
		{"odd spacing and numbers", "POST", "/v1/chat/completions", " {\n\t\"b\" : 1.0e+2, \"a\":\"\\u00e9\\/\" , \"a\":12345678901234567890 }\n", []string{"Content-Type: application/json; charset=utf-8"}},
		{"not json at all", "POST", "/v1/chat/completions", "\x00\xff{]", []string{"Content-Type: application/json"}},
		{"gzip body", "POST", "/v1/chat/completions", string(encode("gzip", []byte(streamBody))), []string{"Content-Type: application/json", "Content-Encoding: gzip"}},
		{"multipart", "POST", "/v1/audio/transcriptions", form.String(), []string{"Content-Type: " + mw.FormDataContentType()}},
		{"text", "PUT", "/v1/x", "plain", []string{"Content-Type: text/plain"}},
		{"headers", "GET", "/v1/models", "", []string{
			"Authorization: Bearer sk-own", "X-Many: 1", "X-Many: 2", "X-Empty: ", "Cookie: a=1; b=2", "Openai-Organization: org", "Idempotency-Key: k",
			"User-Agent: OpenAI/Python 1.0", "X-Stainless-Lang: python", "Accept: application/json", "Accept-Encoding: gzip, br;q=0.5", "Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
			"Baggage: a=b", "Te: trailers", "Range: bytes=0-1", "If-None-Match: x", "Origin: https://app.example",
		}},
	}
	for _, c := range cases {
		for _, chunked := range []bool{false, true} {
			if chunked && c.body == "" {
				continue
			}
			name := c.name
			if chunked {
				name += ", chunked"
			}
			t.Run(name, func(t *testing.T) {
				send := func(base string) received {
					var body io.Reader
					if c.body != "" {
						body = strings.NewReader(c.body)
						if chunked {
							body = io.MultiReader(body) // of a length unknown to net/http
						}
					}
					req, err := http.NewRequestWithContext(t.Context(), c.method, base+c.path, body)
					if err != nil {
						t.Fatal(err)
					}
					for _, h := range c.headers {
						k, v, _ := strings.Cut(h, ": ")
						req.Header.Add(k, v)
					}
					if len(req.Header["User-Agent"]) == 0 {
						req.Header["User-Agent"] = []string{""}
					}
					if a := do(t, client(t), req); a.err != nil {
						t.Fatal(a.err)
					}
					return up.got()
				}
				want, got := send(up.URL), send(r.url+"/openai")
				if chunked && len(got.TE) == 0 {
					// A body that is buffered before it is sent has a length.
					want.Length, want.TE = int64(len(c.body)), nil
					want.Header.Set("Content-Length", fmt.Sprint(len(c.body)))
				}
				if !reflect.DeepEqual(got, want) {
					t.Errorf("got\n%.2000v\nwant\n%.2000v", fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want))
				}
			})
		}
	}
}

func TestStripsOwnAndHopByHopRequestHeaders(t *testing.T) {
	up := newUpstreamCases(t)
	r := start(t, at(up.URL))
	call(t, "GET", r.url+"/openai/v1/models", "",
		"X-Hedgerow-Surface: Test", "x-hedgerow-key: hr_abc", "X-Hedgerow-Anything: 1", "X-Hedgerow-Debug: timing", "X-PostHog-Distinct-Id: u", "X-POSTHOG-PROPERTY-A: 1",
		"Connection: X-Listed, close", "X-Listed: 1", "Keep-Alive: 5", "Proxy-Authorization: Basic x", "Proxy-Connection: close", "Te: trailers, deflate",
		"X-Forwarded-For: 10.0.0.1", "Forwarded: for=10.0.0.1", "X-Real-Ip: 10.0.0.1", "Cookie: hedgerow_session=s; a=1; __Host-hedgerow=t",
		"X-Hedge: stays", "X-Posthogs: stays", "User-Agent: me")
	want := http.Header{"X-Hedge": {"stays"}, "X-Posthogs": {"stays"}, "User-Agent": {"me"}, "Cookie": {"a=1"}, "Te": {"trailers"}}
	if got := up.got().Header; !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestPassesRequestTrailers(t *testing.T) {
	up := newUpstreamCases(t)
	r := start(t, at(up.URL))
	req, _ := http.NewRequestWithContext(t.Context(), "POST", r.url+"/openai/v1/files", io.MultiReader(strings.NewReader("data")))
	req.Header.Set("Content-Type", "application/octet-stream")
	req.Trailer = http.Header{"X-Sum": {"abc"}}
	if a := do(t, client(t), req); a.err != nil {
		t.Fatal(a.err)
	}
	if got := up.got(); got.Body != "data" || got.Trailer.Get("X-Sum") != "abc" {
		t.Errorf("body %q, trailers %v", got.Body, got.Trailer)
	}
}

func TestPassesEarlyHints(t *testing.T) {
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		w.WriteHeader(http.StatusProcessing)
		w.Header().Set("X-Final", "1")
		_, _ = io.WriteString(w, "done")
	}))
	defer up.Close()
	r := start(t, at(up.URL))
	type hint struct {
		Code int
		Link string
	}
	ask := func(url string) (hints []hint, a response) {
		req, _ := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
				hints = append(hints, hint{code, h.Get("Link")})
				return nil
			},
		}), "GET", url, nil)
		a = do(t, client(t), req)
		a.header.Del("Date")
		return hints, a
	}
	wantHints, want := ask(up.URL + "/v1/models")
	hints, got := ask(r.url + "/openai/v1/models")
	withOwnHeaders(want.header)
	if len(wantHints) != 2 || !reflect.DeepEqual(hints, wantHints) || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v %v, want %v %v", hints, got, wantHints, want)
	}
}

// TestExpectContinue has a provider that rejects an upload before it is sent.
// The test uses a raw connection to see the order.
func TestExpectContinue(t *testing.T) {
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "" {
			w.Header().Set("Connection", "close")
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "got %s", b)
	}))
	defer up.Close()
	r := start(t, at(up.URL))
	for _, kind := range []string{"application/json", "application/octet-stream"} {
		t.Run("accepted "+kind, func(t *testing.T) {
			conn, br := dial(t, r.url)
			fmt.Fprintf(conn, "POST /openai/v1/files HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer sk\r\nContent-Type: %s\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n", kind)
			if line, err := br.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
				t.Fatalf("%q %v", line, err)
			}
			_, _ = br.ReadString('\n')
			_, _ = io.WriteString(conn, "body")
			resp, err := http.ReadResponse(br, nil)
			if err != nil {
				t.Fatal(err)
			}
			if b, _ := io.ReadAll(resp.Body); resp.StatusCode != 200 || string(b) != "got body" {
				t.Errorf("%d %q", resp.StatusCode, b)
			}
		})
	}
	t.Run("refused before the upload", func(t *testing.T) {
		conn, br := dial(t, r.url)
		fmt.Fprintf(conn, "POST /openai/v1/files HTTP/1.1\r\nHost: h\r\nContent-Type: application/octet-stream\r\nContent-Length: 4000000\r\nExpect: 100-continue\r\n\r\n")
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("status %d, want 401 without a 100 Continue before it", resp.StatusCode)
		}
	})
}

func dial(t testing.TB, url string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn, bufio.NewReader(conn)
}

// TestEarlyResponse has a provider that responds while the caller is still
// uploading.
func TestEarlyResponse(t *testing.T) {
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		_ = rc.EnableFullDuplex()
		w.Header().Set("Content-Type", "text/plain")
		buf := make([]byte, 5)
		for {
			n, err := io.ReadFull(r.Body, buf)
			_, _ = w.Write(bytes.ToUpper(buf[:n]))
			_ = rc.Flush()
			if err != nil {
				return
			}
		}
	}))
	defer up.Close()
	r := start(t, at(up.URL))
	pr, pw := io.Pipe()
	req, _ := http.NewRequestWithContext(t.Context(), "POST", r.url+"/openai/v1/files", pr)
	req.Header.Set("Content-Type", "application/octet-stream")
	go func() { _, _ = io.WriteString(pw, "first") }()
	resp, err := client(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	buf := make([]byte, 5)
	for _, want := range []string{"FIRST", "AGAIN"} {
		if _, err := io.ReadFull(resp.Body, buf); err != nil || string(buf) != want {
			t.Fatalf("%q %v, want %q", buf, err, want)
		}
		if want == "FIRST" {
			_, _ = io.WriteString(pw, "again")
		}
	}
	_ = pw.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || len(b) != 0 {
		t.Errorf("%q %v", b, err)
	}
	if e := r.one(t); e.RequestBytes != 10 || e.ResponseBytes != 10 {
		t.Errorf("%d bytes up, %d down, want 10 and 10", e.RequestBytes, e.ResponseBytes)
	}
}

// TestRoutes sends one call on each route and checks where it arrives.
func TestRoutes(t *testing.T) {
	type arrival struct{ Provider, Path string }
	r, sim := simulate(t, gateway.Config{})
	named := start(t, gateway.Config{Upstreams: map[string]gateway.Upstream{
		"ollama": {BaseURL: sim.CompatibleURL("ollama") + "/v1/"},
		"groq":   {BaseURL: sim.CompatibleURL("groq")},
		"claude": {BaseURL: sim.AnthropicURL(), Dialect: "anthropic"},
	}})
	for _, c := range []struct {
		rig     *rig
		path    string
		header  []string
		want    arrival
		record  string // provider of the event
		baseURL string
	}{
		{r, "/openai/v1/models", nil, arrival{"openai", "/openai/v1/models"}, "openai", sim.OpenAIURL()},
		{r, "/v1/models", nil, arrival{"openai", "/openai/v1/models"}, "openai", sim.OpenAIURL()},
		{r, "/v1/models", []string{"Anthropic-Version: 2023-06-01"}, arrival{"anthropic", "/anthropic/v1/models"}, "anthropic", sim.AnthropicURL()},
		{r, "/v1/messages", nil, arrival{"anthropic", "/anthropic/v1/messages"}, "anthropic", sim.AnthropicURL()},
		{r, "/v1/messages/count_tokens", nil, arrival{"anthropic", "/anthropic/v1/messages/count_tokens"}, "anthropic", sim.AnthropicURL()},
		{r, "/v1/messagesx", nil, arrival{"openai", "/openai/v1/messagesx"}, "openai", sim.OpenAIURL()},
		{r, "/anthropic/v1/messages", nil, arrival{"anthropic", "/anthropic/v1/messages"}, "anthropic", sim.AnthropicURL()},
		{r, "/openrouter/api/v1/models", nil, arrival{"openrouter", "/openrouter/api/v1/models"}, "openrouter", sim.OpenRouterURL()},
		{r, "/azure/myres/openai/deployments/d/chat/completions", nil, arrival{"azure", "/azure/openai/deployments/d/chat/completions"}, "azure", sim.CompatibleURL("azure")},
		{r, "/gemini/v1beta/models/gemini-2.5-flash:generateContent", nil, arrival{"gemini", "/gemini/v1beta/models/gemini-2.5-flash:generateContent"}, "gemini", sim.CompatibleURL("gemini")},
		{named, "/ollama/v1/models", nil, arrival{"ollama", "/ollama/v1/models"}, "ollama", sim.CompatibleURL("ollama")},
		{named, "/ollama/models", nil, arrival{"ollama", "/ollama/v1/models"}, "ollama", sim.CompatibleURL("ollama") + "/v1"},
		{named, "/groq/openai/v1/models", nil, arrival{"groq", "/groq/openai/v1/models"}, "groq", sim.CompatibleURL("groq")},
		{named, "/claude/v1/messages", nil, arrival{"anthropic", "/anthropic/v1/messages"}, "claude", sim.AnthropicURL()},
	} {
		t.Run(c.path, func(t *testing.T) {
			sim.Forget()
			before := len(c.rig.sink.all())
			call(t, "GET", c.rig.url+c.path, "", append([]string{"Authorization: Bearer sk"}, c.header...)...)
			got := sim.Requests()
			if len(got) != 1 || (arrival{got[0].Provider, got[0].Path}) != c.want {
				t.Fatalf("arrived: %+v, want %+v", got, c.want)
			}
			e := c.rig.sink.await(t, before+1)[before]
			if e.Provider != c.record || e.BaseURL != c.baseURL {
				t.Errorf("recorded for %q at %q, want %q at %q", e.Provider, e.BaseURL, c.record, c.baseURL)
			}
		})
	}
	for _, c := range []struct {
		path   string
		status int
		says   string
	}{
		{"/nowhere/v1/models", 404, "unknown provider"},
		{"/", 404, "unknown provider"},
		{"/openai/v1/../../azure", 400, ".."},
		{"/azure/", 400, "resource"},
		{"/azure/evil.example/openai", 400, "resource"},
		{"/azure/a%2Fb/openai", 400, "escaped"},
		{"/open%61i/v1%2Fmodels", 400, "escaped"},
		{"/openai%2Fv1/models", 400, "escaped"},
	} {
		t.Run("refuses "+c.path, func(t *testing.T) {
			sim.Forget()
			conn, br := dial(t, r.url) // an HTTP client would clean the path
			fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer sk\r\n\r\n", c.path)
			resp, err := http.ReadResponse(br, nil)
			if err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != c.status || !strings.Contains(string(b), c.says) || len(sim.Requests()) != 0 {
				t.Errorf("%d %s; %d arrived", resp.StatusCode, b, len(sim.Requests()))
			}
		})
	}
	for _, path := range []string{"/openai/v1/x", "/v1/x", "/azure/r/x", "/v1"} {
		if !r.Handles(path) {
			t.Errorf("%s is not handled", path)
		}
	}
	for _, path := range []string{"/", "/api/v1/events", "/mcp", "/v11/x", "/i/v0/ai/batch/"} {
		if r.Handles(path) {
			t.Errorf("handles %s", path)
		}
	}
}

func TestNewRefusesWrongUpstreams(t *testing.T) {
	for name, u := range map[string]gateway.Upstream{
		"v1":      {BaseURL: "https://a.example"},
		"Upper":   {BaseURL: "https://a.example"},
		"a/b":     {BaseURL: "https://a.example"},
		"":        {BaseURL: "https://a.example"},
		"nourl":   {},
		"ftp":     {BaseURL: "ftp://a.example"},
		"query":   {BaseURL: "https://a.example/?key=secret-k"},
		"user":    {BaseURL: "https://u:secret-k@a.example"},
		"dialect": {BaseURL: "https://a.example", Dialect: "cobol"},
	} {
		_, err := gateway.New(gateway.Config{
			Upstreams: map[string]gateway.Upstream{name: u}, Append: newSink(),
			Authorize: func(string, *http.Request) (gateway.Grant, error) { return gateway.Grant{}, nil },
		})
		if err == nil || strings.Contains(err.Error(), "secret-k") {
			t.Errorf("upstream %q: %v", name, err)
		}
	}
	if _, err := gateway.New(gateway.Config{}); err == nil {
		t.Error("New accepts a Config without Authorize and Append")
	}
	if known := slices.Sorted(maps.Keys(gateway.DefaultUpstreams())); len(known) < 8 {
		t.Errorf("only %v are known", known)
	}
}
