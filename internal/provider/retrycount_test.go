package provider_test

import (
	"net/http"
	"testing"

	"github.com/hedgerow/hedgerow/internal/provider"
)

// The count is absent if the client does not report it, never 0.
func TestRetryCount(t *testing.T) {
	for header, want := range map[string]string{"": "", "0": "0", "2": "2", "-1": "", "x": "", "99999999999999999999": ""} {
		h := http.Header{}
		if header != "" {
			h.Set("X-Stainless-Retry-Count", header)
		}
		e := provider.Parse(&provider.Call{Provider: "openai", Dialect: provider.OpenAI, Method: "POST", Path: "/v1/chat/completions", Status: 200, RequestHeader: h, Request: []byte(`{"model":"m"}`), Response: []byte(`{}`)})
		if got := string(e.Properties["retry_count"]); got != want {
			t.Errorf("header %q: %q, want %q", header, got, want)
		}
	}
}
