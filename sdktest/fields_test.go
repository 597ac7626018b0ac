package sdktest_test

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	openaioption "github.com/openai/openai-go/v3/option"

	"github.com/hedgerow/hedgerow"
	simprovider "github.com/hedgerow/hedgerow/internal/simulate/provider"
)

// The wrapped client with extra fields in the request, against a provider that
// rejects what it does not know.
func TestRequestWithExtraFields(t *testing.T) {
	h := newHedge(t, func(c *hedgerow.Config) { c.AttributionFields = []string{"feature"} })
	oa := h.openai()
	h.sim.Script(simprovider.Behavior{KnownOnly: true})
	_, err := oa.Chat.Completions.New(t.Context(), chat, openaioption.WithJSONSet("user", "user_123"), openaioption.WithJSONSet("session", "session_456"),
		openaioption.WithJSONSet("feature", "product_recommendations"), openaioption.WithJSONSet("trace", map[string]any{"trace_id": "t-1", "plan": "pro"}))
	if err != nil {
		t.Fatal(err)
	}
	e := h.one()
	if e.DistinctID != "user_123" || e.SessionID != "session_456" || e.TraceID != "t-1" || string(e.Properties["feature"]) != `"product_recommendations"` || string(e.Properties["plan"]) != `"pro"` || e.IsError {
		t.Errorf("%+v", e)
	}
}

// What goes out is what came in, less those members; the provider's own stay, and
// so does what another API means by a name.
func TestExtraFieldsAreCut(t *testing.T) {
	h := newHedge(t, func(c *hedgerow.Config) { c.AttributionFields = []string{"feature", "team"} })
	for _, tt := range []struct{ url, in, out string }{
		{"https://api.openai.com/v1/chat/completions", `{ "model":"m","session":"s", "user":"u" ,"feature":{"a":1},"n": 1e0}`, `{ "model":"m","user":"u" ,"n": 1e0}`},
		{"https://api.openai.com/v1/responses", `{"feature":"f","model":"m","input":"x","session_id":"s"}`, `{"model":"m","input":"x"}`},
		{"https://api.openai.com/v1/embeddings", `{"model":"m","input":"x","trace":{"trace_id":"t"}}`, `{"model":"m","input":"x"}`},
		{"https://openrouter.ai/api/v1/chat/completions", `{"model":"m","session_id":"s","trace":{},"user":"u","team":1}`, `{"model":"m","session_id":"s","trace":{},"user":"u"}`},
		{"https://api.anthropic.com/v1/messages", `{"model":"m","user":"u","metadata":{"user_id":"u"},"feature":1}`, `{"model":"m","metadata":{"user_id":"u"}}`},
		{"https://api.openai.com/v1/chat/completions", `{"stream":true,"feature":1}`, `{"stream":true,"stream_options":{"include_usage":true}}`},
		{"https://api.openai.com/v1/realtime/client_secrets", `{"session":{"type":"realtime"},"feature":1}`, `{"session":{"type":"realtime"},"feature":1}`},
		{"https://api.openai.com/v1/chat/completions", `{"feature":`, `{"feature":`},
		{"https://api.openai.com/v1/chat/completions", `{"other":1,"model":"m"}`, `{"other":1,"model":"m"}`},
		{host + "/v1/chat/completions", `{"model":"m","session":"s"}`, `{"model":"m","session":"s"}`}, // the server reads it itself
	} {
		var sent []byte
		var length int64
		c := &http.Client{Transport: h.Transport(fake(func(r *http.Request) (*http.Response, error) {
			length = r.ContentLength
			sent, _ = io.ReadAll(r.Body)
			return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader("{}")), Request: r}, nil
		}))}
		res, err := c.Post(tt.url, "application/json", strings.NewReader(tt.in))
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if string(sent) != tt.out || length != int64(len(tt.out)) {
			t.Errorf("%s: sent %s, want %s (length %d)", tt.url, sent, tt.out, length)
		}
	}
	// Nothing is cut out of what is encoded or signed.
	for name, value := range map[string]string{"Content-Encoding": "gzip", "Authorization": "AWS4-HMAC-SHA256 Credential=x"} {
		in := []byte(`{"model":"m","feature":1}`)
		var sent []byte
		c := &http.Client{Transport: h.Transport(fake(func(r *http.Request) (*http.Response, error) {
			sent, _ = io.ReadAll(r.Body)
			return &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
		}))}
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://api.openai.com/v1/chat/completions", bytes.NewReader(in))
		req.Header.Set(name, value)
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if !bytes.Equal(sent, in) {
			t.Errorf("%s: sent %s", name, sent)
		}
	}
	// A provider's own field is rejected, before anything is sent.
	if _, err := hedgerow.New(hedgerow.Config{APIKey: homeToken, Host: "http://127.0.0.1:4100", AttributionFields: []string{"temperature"}}); err == nil || !strings.Contains(err.Error(), "temperature") {
		t.Errorf("%v", err)
	}
}
