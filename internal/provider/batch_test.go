package provider_test

import (
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/price"
	"github.com/hedgerow/hedgerow/internal/provider"
)

// results are lines of batch results with their cost at the providers' batch
// rates: half of the standard ones
// (https://platform.openai.com/docs/guides/batch,
// https://platform.claude.com/docs/en/build-with-claude/batch-processing).
var results = []struct {
	name, endpoint, line        string
	op, errorType, model, usdol string
	start                       time.Time
}{
	{"chat", "", `{"id":"batch_req_1","custom_id":"a","response":{"status_code":200,"request_id":"r1","body":{"id":"chatcmpl-1","object":"chat.completion","created":1764450000,"model":"gpt-4.1-mini-2025-04-14","service_tier":"default","choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1000000,"completion_tokens":100000,"total_tokens":1100000}}},"error":null}`,
		"chat", "", "gpt-4.1-mini-2025-04-14", "0.28", time.Unix(1764450000, 0)}, // 0.20 + 0.1 × 0.80
	{"responses", "/v1/responses", `{"id":"batch_req_2","custom_id":"b","response":{"status_code":200,"body":{"id":"resp_1","object":"response","created_at":1764450001,"status":"completed","model":"gpt-4.1-mini-2025-04-14","output":[{"type":"message","content":[{"type":"output_text","text":"Hi"}]}],"usage":{"input_tokens":1000000,"output_tokens":0,"total_tokens":1000000}}},"error":null}`,
		"responses", "", "gpt-4.1-mini-2025-04-14", "0.2", time.Unix(1764450001, 0)},
	{"embeddings", "", `{"id":"batch_req_3","custom_id":"c","response":{"status_code":200,"body":{"object":"list","model":"text-embedding-3-small","data":[{"object":"embedding","embedding":[0.5]}],"usage":{"prompt_tokens":1000000,"total_tokens":1000000}}},"error":null}`,
		"embeddings", "", "text-embedding-3-small", "0.01", time.Time{}},
	{"refused", "/v1/chat/completions", `{"id":"batch_req_4","custom_id":"d","response":{"status_code":400,"body":{"error":{"type":"invalid_request_error","code":"context_length_exceeded","message":"Too long."}}},"error":null}`,
		"chat", "context_length_exceeded", "", "", time.Time{}},
	{"expired", "/v1/chat/completions", `{"id":"batch_req_5","custom_id":"e","response":null,"error":{"code":"batch_expired","message":"Too late."}}`,
		"chat", "batch_expired", "", "", time.Time{}},
	{"claude", "", `{"custom_id":"f","result":{"type":"succeeded","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-haiku-4-5-20251001","content":[{"type":"text","text":"Hi"}],"stop_reason":"end_turn","usage":{"input_tokens":1000000,"cache_read_input_tokens":1000000,"output_tokens":100000,"service_tier":"batch"}}}}`,
		"messages", "", "claude-haiku-4-5-20251001", "0.8", time.Time{}}, // 0.50 + 0.05 + 0.1 × 2.50
	{"claude errored", "", `{"custom_id":"g","result":{"type":"errored","error":{"type":"error","error":{"type":"invalid_request_error","message":"max_tokens: Field required"}}}}`,
		"messages", "invalid_request_error", "", "", time.Time{}},
	{"claude expired", "", `{"custom_id":"h","result":{"type":"expired"}}`, "messages", "expired", "", "", time.Time{}},
}

func TestReadResult(t *testing.T) {
	for _, tt := range results {
		t.Run(tt.name, func(t *testing.T) {
			r, ok := provider.ReadResult([]byte(tt.line), tt.endpoint)
			if !ok || r.ID == "" || len(r.Request) != 1 || !r.Call.Start.Equal(tt.start) {
				t.Fatalf("%v %+v", ok, r)
			}
			c := r.Call
			c.Provider = map[bool]string{true: "anthropic", false: "openai"}[tt.op == "messages"]
			if c.Start.IsZero() {
				c.Start = start
			}
			e := provider.Parse(&c)
			if !e.IsCosted() || e.Operation != tt.op || e.ErrorType != tt.errorType || e.IsError != (tt.errorType != "") || e.Model != tt.model || e.ServiceTier != "batch" || e.Latency.Known || !strings.HasPrefix(e.SpanName, "batch POST /v1/") {
				t.Errorf("%+v", e)
			}
			price.Default().Price(e)
			if got := e.Cost.Total; tt.usdol != "" && (!got.Known || got.Value.String() != tt.usdol) {
				t.Errorf("cost %v, want %s; unpriced %q", got, tt.usdol, e.Cost.Unpriced)
			}
		})
	}
	for _, line := range []string{"", "{", "[]", `{"id":"x"}`, `{"custom_id":"a","method":"POST"}`, `{"custom_id":"a","result":"x"}`} {
		if _, ok := provider.ReadResult([]byte(line), ""); ok {
			t.Errorf("%s was read as a result", line)
		}
	}
}

func TestBatches(t *testing.T) {
	openai := `{"id":"batch_1","object":"batch","endpoint":"/v1/chat/completions","input_file_id":"file-in","status":"completed","output_file_id":"file-out","error_file_id":"file-err","created_at":1764450000}`
	for _, body := range []string{openai, `{"object":"list","data":[` + openai + `,{"object":"other"}]}`} {
		got := provider.Batches([]byte(body))
		if len(got) != 1 || got[0].ID != "batch_1" || got[0].Input != "file-in" || strings.Join(got[0].Results, " ") != "file-out file-err" || got[0].Endpoint != "/v1/chat/completions" || got[0].Created.Unix() != 1764450000 {
			t.Errorf("%+v", got)
		}
	}
	if got := provider.Batches([]byte(`{"id":"msgbatch_1","type":"message_batch","processing_status":"ended","created_at":"2026-11-29T10:00:00.5+00:00"}`)); len(got) != 1 || got[0].ID != "msgbatch_1" || got[0].Created.Year() != 2026 {
		t.Errorf("%+v", got)
	}
	for _, body := range []string{"", "null", `{"error":{}}`, `{"object":"batch"}`} {
		if got := provider.Batches([]byte(body)); got != nil {
			t.Errorf("%s: %+v", body, got)
		}
	}
	for _, c := range []struct {
		method, path, id string
		ok               bool
	}{
		{"GET", "/v1/files/file-1/content", "file-1", true},
		{"GET", "/openai/v1/files/file-1/content?x=1", "file-1", true},
		{"GET", "/v1/messages/batches/msgbatch_1/results", "msgbatch_1", true},
		{"GET", "/v1/files/file-1", "", false},
		{"POST", "/v1/files/file-1/content", "", false},
		{"GET", "/v1/containers/c/content", "", false},
	} {
		if id, ok := provider.BatchResultsID(c.method, c.path); ok != c.ok || ok && id != c.id {
			t.Errorf("BatchResultsID(%s %s) = %q %v", c.method, c.path, id, ok)
		}
	}
}

// FuzzResult parses any line.
func FuzzResult(f *testing.F) {
	for _, r := range results {
		f.Add([]byte(r.line), r.endpoint)
	}
	f.Fuzz(func(t *testing.T, line []byte, endpoint string) {
		r, ok := provider.ReadResult(line, endpoint)
		if !ok {
			return
		}
		r.Call.Provider = "p"
		if r.Call.Start.IsZero() {
			r.Call.Start = start
		}
		e := provider.Parse(&r.Call)
		e.ProjectID = "default"
		if err := e.Validate(); err != nil {
			t.Fatal(err)
		}
		if e.Usage.Input.Or(0) < 0 || e.ServiceTier != "batch" || e.Latency != (event.Opt[time.Duration]{}) {
			t.Fatalf("%+v", e)
		}
	})
}
