package provider_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/internal/price"
	"github.com/hedgerow/hedgerow/internal/provider"
)

// TestCosts prices provider responses, each in a file with the cost that the
// provider bills for it and why.
func TestCosts(t *testing.T) {
	files, err := filepath.Glob("testdata/costs/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d cases, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			var c struct {
				Path, Why         string
				Request, Response json.RawMessage
				At                time.Time
				TotalUSD          decimal.Decimal `json:"total_usd"`
			}
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(b, &c); err != nil {
				t.Fatal(err)
			}
			if c.At.IsZero() {
				c.At = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
			}
			name, path, _ := strings.Cut(strings.TrimPrefix(c.Path, "/"), "/")
			dialect := provider.OpenAI
			switch name {
			case "anthropic":
				dialect = provider.Anthropic
			case "gemini", "google-vertex":
				dialect = provider.Gemini
			}
			e := provider.Parse(&provider.Call{
				Provider: name, Dialect: dialect, Method: http.MethodPost, Path: "/" + path, Status: http.StatusOK, Start: c.At,
				RequestHeader: http.Header{"Content-Type": {"application/json"}}, ResponseHeader: http.Header{"Content-Type": {"application/json"}},
				Request: c.Request, Response: c.Response,
			})
			price.Default().Price(e)
			if got := e.Cost.Total; !got.Known || !got.Value.Equal(c.TotalUSD) {
				t.Errorf("%s: total %v, want %s: %s; the event is %s, %q, unpriced %q, usage %+v", c.Path, got, c.TotalUSD, c.Why, e.Name, e.ModelName(), e.Cost.Unpriced, e.Usage)
			}
		})
	}
}

// Usage without a price makes the total unknown, and is listed.
func TestUnpriced(t *testing.T) {
	for _, tt := range []struct{ name, path, request, response, want, known string }{
		{"a tier without a price", "/v1/chat/completions", `{"model":"gpt-3.5-turbo"}`, `{"model":"gpt-3.5-turbo","service_tier":"scale","choices":[{"message":{"content":"x"}}],"usage":{"prompt_tokens":10,"completion_tokens":5}}`, "service_tier scale", ""},
		{"speech by characters, of a model that is billed by tokens", "/v1/audio/speech", `{"model":"gpt-4o-mini-tts","input":"hello"}`, `{}`, "characters", ""},
		{"a search", "/v1/responses", `{"model":"gpt-3.5-turbo"}`, `{"model":"gpt-3.5-turbo","status":"completed","output":[{"type":"web_search_call","action":{"type":"search"}}],"usage":{"input_tokens":1000,"output_tokens":0}}`, "web_searches", "0.0005"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := provider.Parse(&provider.Call{Provider: "openai", Dialect: provider.OpenAI, Method: http.MethodPost, Path: tt.path, Status: http.StatusOK, Start: time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC),
				ResponseHeader: http.Header{"Content-Type": {"application/json"}}, Request: []byte(tt.request), Response: []byte(tt.response)})
			price.Default().Price(e)
			known := ""
			if s := e.Cost.Sum(); s.Known {
				known = s.Value.String()
			}
			if e.Cost.Total.Known || e.Cost.Unpriced != tt.want || known != tt.known {
				t.Errorf("total %v, unpriced %q, at least %q; want unknown, %q, %q", e.Cost.Total, e.Cost.Unpriced, known, tt.want, tt.known)
			}
		})
	}
}
