package gateway_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hedgerow/hedgerow/server/internal/gateway"
)

// TestRequestsUsage compares the body that arrives, and the response that the
// caller gets, with a direct call that does not request usage.
func TestRequestsUsage(t *testing.T) {
	const asked = `"stream_options":{"include_usage":true}`
	on, off := true, false
	leave := func(string, *http.Request) (gateway.Grant, error) {
		return gateway.Grant{ProjectID: "p1", SkipUsage: true}, nil
	}
	for _, c := range []struct {
		name string

		authorize    func(string, *http.Request) (gateway.Grant, error)
		openai, groq *bool // requests usage, by the configuration

		path     string
		sim      string
		body     string
		arrives  string // "" is the caller's body
		tokens   bool   // the event has them
		verbatim bool   // the response is the provider's, including usage
	}{
		{name: "requested and stripped", body: `{"model":"gpt-4.1-mini","stream":true,"messages":[{"role":"user","content":"x"}]}`,
			arrives: `{"model":"gpt-4.1-mini","stream":true,` + asked + `,"messages":[{"role":"user","content":"x"}]}`, tokens: true},
		{name: "with CRLF and comments", sim: "crlf; comments", body: streamBody, arrives: strings.Replace(streamBody, `"stream":true`, `"stream":true,`+asked, 1), tokens: true},
		{name: "byte by byte", sim: "one_byte", body: streamBody, arrives: strings.Replace(streamBody, `"stream":true`, `"stream":true,`+asked, 1), tokens: true},
		{name: "without [DONE]", sim: "no_done", body: streamBody, arrives: strings.Replace(streamBody, `"stream":true`, `"stream":true,`+asked, 1), tokens: true},
		{name: "keeps other options", body: `{"stream_options": {"include_obfuscation":false},"stream": true,"model":"gpt-4.1-mini","messages":[{"role":"user","content":"x"}]}`,
			arrives: `{"stream_options": {"include_usage":true,"include_obfuscation":false},"stream": true,"model":"gpt-4.1-mini","messages":[{"role":"user","content":"x"}]}`, tokens: true},
		{name: "disabled by the caller", body: strings.Replace(streamBody, `"stream":true`, `"stream":true,"stream_options":{"include_usage":false}`, 1),
			arrives: strings.Replace(streamBody, `"stream":true`, `"stream":true,`+asked, 1), tokens: true},
		{name: "requested by the caller", body: strings.Replace(streamBody, `"stream":true`, `"stream":true,`+asked, 1), tokens: true, verbatim: true},
		{name: "disabled for the project", authorize: leave, body: streamBody, verbatim: true},
		{name: "disabled for the upstream", openai: &off, body: streamBody, verbatim: true},
		{name: "not a stream", body: chatBody, tokens: true, verbatim: true},
		{name: "embeddings", path: "/openai/v1/embeddings", body: `{"model":"text-embedding-3-small","input":"x","stream":true}`, verbatim: true, tokens: true},
		{name: "responses", path: "/openai/v1/responses", body: `{"model":"gpt-4.1-mini","input":"x","stream":true}`, verbatim: true, tokens: true},
		{name: "openrouter", path: "/openrouter/api/v1/chat/completions", body: `{"model":"openai/gpt-4.1-mini","stream":true,"messages":[{"role":"user","content":"x"}]}`, verbatim: true, tokens: true},
		{name: "groq", path: "/groq/openai/v1/chat/completions", body: streamBody, verbatim: true},
		{name: "groq, enabled in the config", groq: &on, path: "/groq/openai/v1/chat/completions",
			body: streamBody, arrives: strings.Replace(streamBody, `"stream":true`, `"stream":true,`+asked, 1), tokens: true},
		{name: "anthropic", path: "/anthropic/v1/messages", body: `{"model":"claude-sonnet-4-6","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"x"}]}`, verbatim: true, tokens: true},
		{name: "usage in the last choice", sim: "usage_with_finish", body: streamBody, arrives: strings.Replace(streamBody, `"stream":true`, `"stream":true,`+asked, 1), tokens: true, verbatim: true},
		{name: "usage in a last empty delta", sim: "usage_delta", body: streamBody, arrives: strings.Replace(streamBody, `"stream":true`, `"stream":true,`+asked, 1), tokens: true, verbatim: true},
		{name: "no usage reported", sim: "no_usage", body: streamBody, arrives: strings.Replace(streamBody, `"stream":true`, `"stream":true,`+asked, 1)},
	} {
		t.Run(c.name, func(t *testing.T) {
			sim := providers(t)
			r := start(t, gateway.Config{Authorize: c.authorize, Upstreams: map[string]gateway.Upstream{
				"openai":     {BaseURL: sim.OpenAIURL(), IncludeUsage: c.openai},
				"anthropic":  {BaseURL: sim.AnthropicURL()},
				"openrouter": {BaseURL: sim.OpenRouterURL()},
				"groq":       {BaseURL: sim.CompatibleURL("groq"), IncludeUsage: c.groq},
			}})
			if c.path == "" {
				c.path = "/openai/v1/chat/completions"
			}
			if c.arrives == "" {
				c.arrives = c.body
			}
			headers := []string{"Content-Type: application/json", "Authorization: Bearer sk", "X-Api-Key: sk", "Anthropic-Version: 2023-06-01", "X-Sim: input=5; output=6; text=A hedge keeps the wind out; " + c.sim}
			compare := c.body
			if c.verbatim {
				compare = c.arrives
			}
			// Usage in a chunk that has choices is kept: other providers send
			// such chunks unrequested, and it harms no client. A usage of null
			// is still removed.
			want := call(t, "POST", sim.URL()+c.path, strings.Replace(compare, `"include_usage":false`, `"x":0`, 1), headers...)
			if c.arrives != c.body {
				want.body = strings.ReplaceAll(want.body, `"usage":null,`, "")
			}
			sim.Forget()
			got := call(t, "POST", r.url+c.path, c.body, headers...)
			if arrived := sim.Requests(); len(arrived) != 1 || string(arrived[0].Body) != c.arrives {
				t.Errorf("arrived:\n%s\nwant\n%s", arrived[0].Body, c.arrives)
			}
			if got.status != 200 || got.err != nil || shape(got.body) != shape(want.body) || len(got.body) != len(want.body) {
				t.Errorf("got %d %v\n%s\nwant\n%s", got.status, got.err, got.body, want.body)
			}
			e := r.one(t)
			if e.Usage.Input.Known != c.tokens || c.tokens && e.Usage.Input.Value != 5 {
				t.Errorf("usage %+v, want known %v; parse error %q", e.Usage, c.tokens, e.ParseError)
			}
		})
	}
}

// Bedrock's OpenAI format reports usage only if it is requested, InvokeModel always.
func TestBedrockUsage(t *testing.T) {
	const asked = `"stream_options":{"include_usage":true}`
	for path, want := range map[string]string{
		"/bedrock/openai/v1/chat/completions":                                strings.Replace(streamBody, `"stream":true`, `"stream":true,`+asked, 1),
		"/bedrock/model/openai.gpt-oss-120b-1:0/invoke-with-response-stream": streamBody,
	} {
		arrived := make(chan string, 1)
		up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			arrived <- string(b)
			w.WriteHeader(http.StatusTooManyRequests)
		}))
		r := start(t, gateway.Config{Upstreams: map[string]gateway.Upstream{"bedrock": {BaseURL: up.URL}}})
		call(t, "POST", r.url+path, streamBody, "Content-Type: application/json", "Authorization: Bearer ABSK-own")
		if got := receive(t, arrived, "the call"); got != want {
			t.Errorf("%s: arrived\n%s\nwant\n%s", path, got, want)
		}
		up.Close()
	}
}

// TestRefusedUsage has a provider that rejects stream_options: the caller must
// not notice, on this call or later ones.
func TestRefusedUsage(t *testing.T) {
	r, sim := simulate(t, gateway.Config{})
	for n := range 3 {
		got := chat(t, r.url, streamBody, "X-Sim: no_stream_options; text=one two")
		if got.status != 200 || !strings.Contains(got.body, "[DONE]") {
			t.Fatalf("%d %s", got.status, got.body)
		}
		if e := r.sink.await(t, n+1)[n]; e.HTTPStatus != 200 || e.Usage.Input.Known {
			t.Errorf("status %d, usage %+v", e.HTTPStatus, e.Usage)
		}
	}
	if n := len(sim.Requests()); n != 4 {
		t.Errorf("%d requests arrived, want two for the first call and one for each other", n)
	}
	if n := r.metric(t, "hedgerow_gateway_usage_asked_total", "outcome=refused"); n != 1 {
		t.Errorf("%v refusals counted", n)
	}
	// If the caller requested usage, the rejection is passed on.
	got := chat(t, r.url, `{"model":"gpt-4.1-mini","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"x"}]}`, "X-Sim: no_stream_options")
	if got.status != 400 || !strings.Contains(got.body, "stream_options") {
		t.Errorf("%d %s", got.status, got.body)
	}
}

// TestOtherRefusal passes on a rejection that has nothing to do with usage, and
// calls the provider only once.
func TestOtherRefusal(t *testing.T) {
	var calls atomic.Int64
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, strings.Repeat("no such model ", 10000))
	}))
	defer up.Close()
	r := start(t, at(up.URL))
	got := chat(t, r.url, streamBody)
	if got.status != 400 || got.err != nil || got.body != strings.Repeat("no such model ", 10000) || calls.Load() != 1 {
		t.Errorf("%d %d bytes %v after %d calls", got.status, len(got.body), got.err, calls.Load())
	}
	if e := r.one(t); e.ResponseBytes != 140000 {
		t.Errorf("%d bytes recorded", e.ResponseBytes)
	}
}

// TestBodyFields checks which fields of a body are forwarded.
func TestBodyFields(t *testing.T) {
	const body = `{"model":"m","user":"u","session_id":"s","trace":{"trace_id":"t","feature":"f"},"metadata":{"a":"b"},"messages":[]}`
	up := newUpstreamCases(t)
	r := start(t, gateway.Config{Upstreams: map[string]gateway.Upstream{"openai": {BaseURL: up.URL}, "anthropic": {BaseURL: up.URL}, "openrouter": {BaseURL: up.URL}}})
	n := 0
	for path, want := range map[string]string{
		"/openai/v1/chat/completions":         `{"model":"m","user":"u","metadata":{"a":"b"},"messages":[]}`,
		"/openai/v1/embeddings":               `{"model":"m","user":"u","metadata":{"a":"b"},"messages":[]}`,
		"/openai/v1/responses":                `{"model":"m","user":"u","metadata":{"a":"b"},"messages":[]}`,
		"/anthropic/v1/messages":              `{"model":"m","metadata":{"a":"b"},"messages":[]}`,
		"/anthropic/v1/messages/count_tokens": `{"model":"m","metadata":{"a":"b"},"messages":[]}`,
		"/openrouter/api/v1/chat/completions": body,
		"/openai/v1/fine_tuning/jobs":         body, // on these paths the field has another meaning
	} {
		call(t, "POST", r.url+path, body, "Content-Type: application/json")
		n++
		if got := up.got(); got.Body != want || got.Length != int64(len(want)) {
			t.Errorf("%s: arrived %s, length %d, want %s", path, got.Body, got.Length, want)
		}
		if e := r.sink.await(t, n)[n-1]; e.RequestBytes != int64(len(body)) {
			t.Errorf("%s: %d bytes recorded, want %d as the caller sent them", path, e.RequestBytes, len(body))
		}
	}
}

// TestLargeBodyPassesUnread checks that bodies above the limits are forwarded
// unchanged.
func TestLargeBodyPassesUnread(t *testing.T) {
	body := `{"stream":true,"session_id":"s","model":"` + strings.Repeat("m", 200<<10) + `"}`
	for name, limits := range map[string]gateway.Limits{"too_large": {RequestBytes: 100 << 10}, "budget": {RequestBudget: 100 << 10}} {
		for _, chunked := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				up := newUpstreamCases(t)
				c := at(up.URL)
				c.Limits = limits
				r := start(t, c)
				rd := io.Reader(strings.NewReader(body))
				if chunked {
					rd = io.MultiReader(rd)
				}
				req, _ := http.NewRequestWithContext(t.Context(), "POST", r.url+"/openai/v1/chat/completions", rd)
				req.Header.Set("Content-Type", "application/json")
				if a := do(t, client(t), req); a.err != nil || a.status != 200 {
					t.Fatal(a)
				}
				got := up.got()
				if got.Body != body || got.Length != int64(len(body)) && !chunked {
					t.Errorf("arrived %d bytes, length %d", len(got.Body), got.Length)
				}
				if e := r.one(t); e.RequestBytes != int64(len(body)) || e.HTTPStatus != 200 {
					t.Errorf("%d bytes recorded, status %d", e.RequestBytes, e.HTTPStatus)
				}
				r.quiet(t)
				if r.metric(t, "hedgerow_gateway_bodies_unread_total") != 1 {
					t.Error("not counted as unread")
				}
				if n := r.metric(t, "hedgerow_gateway_request_bytes"); n != 0 {
					t.Errorf("%v bytes of the budget were not released", n)
				}
			})
		}
	}
}
