package otlp_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	logscollector "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	metricscollector "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	logspb "go.opentelemetry.io/proto/otlp/logs/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/otlp"
)

func postTo(h *otlp.Handler, path string, body []byte, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("POST", path, bytes.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/x-protobuf")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// record creates a log record of a span of traceID. body is JSON.
func record(t testing.TB, span, name, body string, attrs map[string]any) *logspb.LogRecord {
	r := &logspb.LogRecord{TimeUnixNano: uint64(base.UnixNano()), TraceId: unhex(t, traceID), SpanId: unhex(t, span), EventName: name, Attributes: attributes(attrs)}
	if body != "" {
		var v any
		if err := json.Unmarshal([]byte(body), &v); err != nil {
			t.Fatal(err)
		}
		r.Body = anyValue(v)
	}
	return r
}

func logsOf(records ...*logspb.LogRecord) *logscollector.ExportLogsServiceRequest {
	return &logscollector.ExportLogsServiceRequest{ResourceLogs: []*logspb.ResourceLogs{{ScopeLogs: []*logspb.ScopeLogs{{LogRecords: records}}}}}
}

func chatSpan(t testing.TB, span string, attrs map[string]any) []byte {
	all := map[string]any{"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o"}
	for k, v := range attrs {
		all[k] = v
	}
	s := &trace.Span{TraceId: unhex(t, traceID), SpanId: unhex(t, span), Name: "chat gpt-4o", StartTimeUnixNano: uint64(base.UnixNano()), EndTimeUnixNano: uint64(base.Add(time.Second).UnixNano()), Attributes: attributes(all)}
	return marshal(t, &collector.ExportTraceServiceRequest{ResourceSpans: []*trace.ResourceSpans{{ScopeSpans: []*trace.ScopeSpans{{Spans: []*trace.Span{s}}}}}})
}

const (
	spanA = "00f067aa0ba902b7"
	spanB = "00f067aa0ba902b8"
)

// TestOtherSignals checks the OTLP responses to logs, metrics and profiles:
// with a valid token only, in each encoding and on each path that an SDK may
// use.
func TestOtherSignals(t *testing.T) {
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = z.Write(marshal(t, logsOf(&logspb.LogRecord{Body: &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: "starting"}}})))
	_ = z.Close()
	h, k := newHandler(t, otlp.Limits{})
	for _, path := range []string{"/v1/logs", "/v1/metrics", "/v1development/profiles", "/i/v0/ai/otel/v1/logs", "/otlp/v1/metrics", "/openai/v1/logs/"} {
		for _, tc := range []struct {
			body     []byte
			header   []string
			response string
		}{
			{nil, nil, ""},
			{[]byte(`{}`), []string{"Content-Type", "application/json"}, "{}"},
			{zipped.Bytes(), []string{"Content-Encoding", "gzip"}, ""},
		} {
			w := postTo(h, path, tc.body, tc.header...)
			if w.Code != 200 || w.Body.String() != tc.response {
				t.Errorf("%s %v: %d %q", path, tc.header, w.Code, w.Body)
			}
		}
		for _, wrong := range []string{"", "Bearer phc_wrong"} {
			if w := postTo(h, path, nil, "Authorization", wrong); w.Code != 401 || statusOf(t, w).Code != 16 {
				t.Errorf("%s with %q: %d %s", path, wrong, w.Code, w.Body)
			}
		}
		if w := postTo(h, path, nil, "Content-Type", "text/plain"); w.Code != 415 {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	if w := postTo(h, "/v1/logs", []byte("no protobuf")); w.Code != 400 || !strings.Contains(statusOf(t, w).Message, "ExportLogsServiceRequest") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	// A record that is not a GenAI event of a span is discarded.
	w := postTo(h, "/v1/logs", marshal(t, logsOf(
		record(t, spanA, "", `"a plain line"`, nil), record(t, spanA, "gen_ai.evaluation.result", "", map[string]any{"gen_ai.evaluation.score.value": 1}),
		record(t, "", "gen_ai.user.message", `{"content":"of no span"}`, nil), record(t, spanA, "session.start", `{"content":"x"}`, nil))))
	if w.Code != 200 || len(k.kept) != 0 {
		t.Errorf("%d, %d events", w.Code, len(k.kept))
	}
}

// TestLogsBecomeContent sends log records with the messages of calls before
// their span: those of the older conventions, one per message and in two
// requests, and those of the current ones, in protobuf, in JSON and with the
// name as an attribute.
func TestLogsBecomeContent(t *testing.T) {
	for _, tc := range []struct {
		name          string
		requests      [][]*logspb.LogRecord
		input, output string
	}{
		{"one for each message", [][]*logspb.LogRecord{
			{record(t, spanA, "gen_ai.system.message", `{"content":"Be brief."}`, map[string]any{"gen_ai.system": "openai"}), record(t, spanA, "gen_ai.user.message", `{"content":"How wide is a hedge?"}`, nil)},
			{record(t, spanA, "gen_ai.choice", `{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"A metre."}}`, nil)},
		}, `[{"role":"system","content":"Be brief."},{"role":"user","content":"How wide is a hedge?"}]`, `[{"role":"assistant","content":"A metre."}]`},
		{"a text as the body, the name as an attribute", [][]*logspb.LogRecord{
			{record(t, spanA, "", `"How wide is a hedge?"`, map[string]any{"event.name": "gen_ai.user.message"})},
		}, `[{"role":"user","content":"How wide is a hedge?"}]`, ``},
		{"attributes only", [][]*logspb.LogRecord{
			{record(t, spanA, "gen_ai.user.message", ``, map[string]any{"content": "How wide?", "gen_ai.system": "x"})},
		}, `[{"role":"user","content":"How wide?"}]`, ``},
		{"details", [][]*logspb.LogRecord{{record(t, spanA, "gen_ai.client.inference.operation.details", "", map[string]any{
			"gen_ai.input.messages":      []any{map[string]any{"role": "user", "parts": []any{map[string]any{"type": "text", "content": "How wide is a hedge?"}}}},
			"gen_ai.output.messages":     `[{"role":"assistant","parts":[{"type":"text","content":"A metre."}],"finish_reason":"stop"}]`,
			"gen_ai.system_instructions": []any{map[string]any{"type": "text", "content": "Be brief."}}})},
		}, `[{"role":"system","content":"Be brief."},{"role":"user","content":"How wide is a hedge?"}]`, `[{"role":"assistant","content":"A metre."}]`},
	} {
		for _, form := range []string{"protobuf", "JSON"} {
			t.Run(tc.name+", "+form, func(t *testing.T) {
				h, k := newHandler(t, otlp.Limits{})
				for range 2 { // an exporter that missed the response sends it again
					for _, records := range tc.requests {
						req := logsOf(records...)
						b, header := marshal(t, req), []string(nil)
						if form == "JSON" {
							b, header = logsJSON(t, req), []string{"Content-Type", "application/json"}
						}
						if w := postTo(h, "/v1/logs", b, header...); w.Code != 200 {
							t.Fatalf("%d %s", w.Code, w.Body)
						}
					}
				}
				if len(k.kept) != 2*len(tc.requests) || k.kept[0].UUID != k.kept[len(tc.requests)].UUID {
					t.Fatalf("%d events, not the same ids: %+v", len(k.kept), k.kept)
				}
				for _, e := range k.kept {
					if !e.IsSpanContent() || e.ProjectID != "default" || e.TraceID != traceID || e.SpanID != spanA || e.Validate() != nil || e.Content.IsZero() || e.IsLLM() {
						t.Errorf("%+v", e)
					}
				}
				k.kept = nil
				post(h, chatSpan(t, spanA, nil))
				post(h, chatSpan(t, spanB, nil))
				post(h, chatSpan(t, spanA, map[string]any{"gen_ai.input.messages": `[{"role":"user","content":"said by the span"}]`}))
				if len(k.kept) != 3 || k.kept[0].Name != event.Generation {
					t.Fatalf("%+v", k.kept)
				}
				if got := k.kept[0].Content; !sameJSON(string(got.Input), tc.input) || !sameJSON(string(got.Output), tc.output) {
					t.Errorf("input %s\noutput %s", got.Input, got.Output)
				}
				if !k.kept[1].Content.IsZero() {
					t.Error("another span has it")
				}
				if got := string(k.kept[2].Content.Input); !strings.Contains(got, "said by the span") || strings.Contains(got, "wide") {
					t.Errorf("the span's own messages do not take precedence: %s", got)
				}
			})
		}
	}
}

func sameJSON(a, b string) bool {
	if a == "" || b == "" {
		return a == b
	}
	var x, y any
	if json.Unmarshal([]byte(a), &x) != nil || json.Unmarshal([]byte(b), &y) != nil {
		return false
	}
	p, _ := json.Marshal(x)
	q, _ := json.Marshal(y)
	return bytes.Equal(p, q)
}

// logsJSON encodes a request as OTLP JSON, with hexadecimal ids.
func logsJSON(t testing.TB, req *logscollector.ExportLogsServiceRequest) []byte {
	b, err := protojson.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	for _, rl := range req.GetResourceLogs() {
		for _, sl := range rl.GetScopeLogs() {
			for _, r := range sl.GetLogRecords() {
				for _, id := range [][]byte{r.TraceId, r.SpanId} {
					quoted, _ := json.Marshal(id)
					if len(id) > 0 {
						b = bytes.ReplaceAll(b, quoted, []byte(`"`+hexOf(id)+`"`))
					}
				}
			}
		}
	}
	return b
}

func hexOf(b []byte) string {
	const digits = "0123456789abcdef"
	var out []byte
	for _, c := range b {
		out = append(out, digits[c>>4], digits[c&15])
	}
	return string(out)
}

// TestLogsAreForgotten checks that content is never added to a span of another
// project, and that it is forgotten in time.
func TestLogsAreForgotten(t *testing.T) {
	now := base
	k := &keeper{}
	h, err := otlp.New(otlp.Config{Project: func(token string) (string, error) { return token, nil }, Append: k, Registerer: prometheus.NewRegistry(), Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	said := marshal(t, logsOf(record(t, spanA, "gen_ai.user.message", `{"content":"How wide?"}`, nil)))
	content := func(project string) string {
		t.Helper()
		k.kept = nil
		if w := postTo(h, "/v1/traces", chatSpan(t, spanA, nil), "Authorization", "Bearer "+project); w.Code != 200 || len(k.kept) != 1 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		return string(k.kept[0].Content.Input)
	}
	postTo(h, "/v1/logs", said, "Authorization", "Bearer p1")
	if got := content("p2"); got != "" {
		t.Errorf("another project has it: %s", got)
	}
	if got := content("p1"); got == "" {
		t.Error("no event")
	}
	now = now.Add(16 * time.Minute)
	if got := content("p1"); got != "" {
		t.Errorf("still remembered: %s", got)
	}
}

func TestLogsJournalAway(t *testing.T) {
	h, k := newHandler(t, otlp.Limits{})
	said := marshal(t, logsOf(record(t, spanA, "gen_ai.user.message", `{"content":"How wide?"}`, nil)))
	for code, after := range map[event.Code]string{event.CodeUnavailable: "1", event.CodeFull: "10", event.CodeTimeout: "1"} {
		k.err = func([]*event.Event) error { return event.NewError(code, "the journal cannot write", "", nil) }
		if w := postTo(h, "/v1/logs", said); w.Code != 503 || w.Header().Get("Retry-After") != after {
			t.Errorf("%s: %d %v", code, w.Code, w.Header())
		}
		// Data that is discarded needs no journal.
		if w := postTo(h, "/v1/metrics", nil); w.Code != 200 {
			t.Errorf("%s: %d", code, w.Code)
		}
	}
}

// TestGRPCOtherSignals sends logs and metrics over gRPC.
func TestGRPCOtherSignals(t *testing.T) {
	h, k := newHandler(t, otlp.Limits{})
	conn, err := grpc.NewClient(serveGRPC(t, h), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	with := func(token string) context.Context {
		return metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
	}
	if _, err := logscollector.NewLogsServiceClient(conn).Export(with(token), logsOf(record(t, spanA, "gen_ai.user.message", `{"content":"x"}`, nil))); err != nil || len(k.kept) != 1 {
		t.Errorf("%v, %d events", err, len(k.kept))
	}
	if _, err := metricscollector.NewMetricsServiceClient(conn).Export(with(token), &metricscollector.ExportMetricsServiceRequest{}); err != nil {
		t.Error(err)
	}
	_, err = logscollector.NewLogsServiceClient(conn).Export(with("phc_wrong"), logsOf())
	if status.Code(err) != codes.Unauthenticated {
		t.Error(err)
	}
	_, err = metricscollector.NewMetricsServiceClient(conn).Export(with("phc_wrong"), &metricscollector.ExportMetricsServiceRequest{})
	if status.Code(err) != codes.Unauthenticated {
		t.Error(err)
	}
}

func FuzzLogs(f *testing.F) {
	f.Add(marshal(f, logsOf(record(f, spanA, "gen_ai.user.message", `{"content":"x"}`, nil), record(f, spanB, "gen_ai.choice", `{"message":{"content":[1,null]}}`, map[string]any{"a": "b"}))))
	f.Add([]byte("\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, k := newHandler(t, small)
		w := postTo(h, "/v1/logs", b)
		if w.Code != 200 && w.Code != 400 && w.Code != 413 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		for _, e := range k.kept {
			if err := e.Validate(); err != nil || e.Content.IsZero() || !json.Valid(or(e.Content.Input)) || !json.Valid(or(e.Content.Output)) {
				t.Errorf("%v %+v", err, e)
			}
		}
	})
}

func or(b json.RawMessage) []byte {
	if b == nil {
		return []byte("null")
	}
	return b
}
