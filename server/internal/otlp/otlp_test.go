package otlp_test

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/httpbody"
	"github.com/hedgerow/hedgerow/server/internal/otlp"
)

const token = "phc_hedgerow_test"

// keeper is an Appender that keeps events.
type keeper struct {
	mu   sync.Mutex
	kept []*event.Event
	err  func([]*event.Event) error
}

func (k *keeper) Append(_ context.Context, events ...*event.Event) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err != nil {
		if err := k.err(events); err != nil {
			return err
		}
	}
	k.kept = append(k.kept, events...)
	return nil
}

func projectOf(t string) (string, error) {
	if t == token {
		return "default", nil
	}
	return "", event.NewError(event.CodeUnauthorized, "API key is not valid", "send hedgerow's project token", nil)
}

func newHandler(t testing.TB, l otlp.Limits) (*otlp.Handler, *keeper) {
	t.Helper()
	k := &keeper{}
	h, err := otlp.New(otlp.Config{Project: projectOf, Append: k, Limits: l, Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if n := h.HeldBytes(); n != 0 {
			t.Errorf("%d bytes are held after the last request", n)
		}
	})
	return h, k
}

func post(h http.Handler, body []byte, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("POST", "/v1/traces", bytes.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/x-protobuf")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestNew(t *testing.T) {
	if _, err := otlp.New(otlp.Config{Append: &keeper{}}); err == nil {
		t.Error("no Project, no error")
	}
	if _, err := otlp.New(otlp.Config{Project: projectOf}); err == nil {
		t.Error("no Append, no error")
	}
	for path, want := range map[string]bool{"/v1/traces": true, "/v1/traces/": true, "/i/v0/ai/otel": true, "/i/v0/ai/otel/": true, "/i/v0/ai/otel/v1/traces": true, "/v1/chat/completions": false, "/i/v0/ai": false,
		"/v1/logs": true, "/v1/metrics/": true, "/v1development/profiles": true, "/otlp/v1/logs": true, "/i/v0/ai/otel/v1/logs": true, "/i/v0/ai/otel/v1/metrics": true,
		"/openai/v1/logs": true, "/openai/v1/traces": true, "/openrouter/api/v1/metrics": true, "/azure/r/openai/v1/logs": true, "/v1//logs": true, "//v1/logs": true, "/v1/LOGS": true, "/v1/x/../logs": true, "/v1/logs/.": true,
		"/api/v1/traces": false, "/api/v1/traces/": false, "/v1/traces/ingest": false, "/v1/logs/x": false, "/v1/models": false, "/logs": false, "/": false, "": false, "/openai/v1/catalogs": false} {
		if otlp.IsPath(path) != want {
			t.Errorf("IsPath(%q) = %v", path, !want)
		}
	}
}

func TestEncodings(t *testing.T) {
	req := readSpans(t, "semconv_current")
	pb, js := marshal(t, req), otlpJSON(req)
	squeeze := func(enc string, b []byte) []byte {
		var out bytes.Buffer
		var w io.WriteCloser
		switch enc {
		case "gzip":
			w = gzip.NewWriter(&out)
		case "deflate":
			w = zlib.NewWriter(&out)
		case "raw deflate":
			w, _ = flate.NewWriter(&out, 6)
		case "zstd":
			w, _ = zstd.NewWriter(&out)
		default:
			return b
		}
		_, _ = w.Write(b)
		_ = w.Close()
		return out.Bytes()
	}
	for _, tc := range []struct{ form, enc, header string }{
		{"application/x-protobuf", "", ""}, {"application/x-protobuf", "", "gzip"}, {"application/protobuf", "gzip", "gzip"}, {"application/x-protobuf", "gzip", ""},
		{"application/x-protobuf", "deflate", "deflate"}, {"application/x-protobuf", "raw deflate", "deflate"}, {"application/x-protobuf", "zstd", "zstd"}, {"application/x-protobuf", "", "deflate"},
		{"application/json", "", ""}, {"application/json; charset=utf-8", "gzip", "GZIP"}, {"application/json", "zstd", "zstd"}, {"application/json", "deflate", "deflate"}, {"application/json", "", "deflate"},
	} {
		h, k := newHandler(t, otlp.Limits{})
		body, response := pb, ""
		if strings.HasPrefix(tc.form, "application/json") {
			body, response = js, "{}"
		}
		w := post(h, squeeze(tc.enc, body), "Content-Type", tc.form, "Content-Encoding", tc.header)
		if w.Code != 200 || len(k.kept) != 6 || w.Body.String() != response {
			t.Errorf("%+v: %d, %d events, %q", tc, w.Code, len(k.kept), w.Body)
		}
		if got := w.Header().Get("Content-Type"); response == "{}" && got != "application/json" || response == "" && got != "application/x-protobuf" {
			t.Errorf("%+v: response is %s", tc, got)
		}
	}
}

func TestEmptyIsFine(t *testing.T) {
	h, k := newHandler(t, otlp.Limits{})
	for _, tc := range [][2]string{{"", "application/x-protobuf"}, {"{}", "application/json"}, {`{"resourceSpans":[]}`, "application/json"}, {`{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"GET /","traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174"}]}]}]}`, "application/json"}} {
		if w := post(h, []byte(tc[0]), "Content-Type", tc[1]); w.Code != 200 {
			t.Errorf("%q: %d %s", tc[0], w.Code, w.Body)
		}
	}
	if len(k.kept) != 0 {
		t.Errorf("%d events, want none", len(k.kept))
	}
}

// statusOf decodes the error of a protobuf response.
func statusOf(t *testing.T, w *httptest.ResponseRecorder) *status.Status {
	t.Helper()
	s := &status.Status{}
	if w.Header().Get("Content-Type") == "application/json" {
		var v struct {
			Code    int32
			Message string
		}
		if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
			t.Fatal(err)
		}
		s.Code, s.Message = v.Code, v.Message
		return s
	}
	if err := proto.Unmarshal(w.Body.Bytes(), s); err != nil || s.Message == "" {
		t.Fatalf("the response is not a Status: %v %q", err, w.Body)
	}
	return s
}

func TestRefusals(t *testing.T) {
	good := marshal(t, readSpans(t, "semconv_current"))
	js := otlpJSON(readSpans(t, "semconv_current"))
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	_, _ = z.Write(make([]byte, 3<<20))
	_ = z.Close()
	deep := strings.Repeat(`{"arrayValue":{"values":[`, 200) + `{"stringValue":"x"}` + strings.Repeat(`]}}`, 200)
	deepJSON := []byte(`{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"llm.x","attributes":[{"key":"gen_ai.a","value":` + deep + `}]}]}]}]}`)
	value := &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: "x"}}
	for range 200 {
		value = &common.AnyValue{Value: &common.AnyValue_ArrayValue{ArrayValue: &common.ArrayValue{Values: []*common.AnyValue{value}}}}
	}
	deepReq := readSpans(t, "own_properties")
	deepReq.ResourceSpans[0].ScopeSpans[0].Spans[0].Attributes = append(deepReq.ResourceSpans[0].ScopeSpans[0].Spans[0].Attributes, &common.KeyValue{Key: "deep", Value: value})
	deepProto := marshal(t, deepReq)
	// 700,000 empty attributes in 1.4 MB.
	empties := bytes.Repeat([]byte{0x4a, 0x00}, 700_000)
	wrap := func(b []byte) []byte {
		out := []byte{0x0a}
		for n := len(b); ; n >>= 7 {
			if n < 0x80 {
				return append(append(out, byte(n)), b...)
			}
			out = append(out, byte(n)|0x80)
		}
	}
	tagged := func(tag byte, b []byte) []byte { w := wrap(b); w[0] = tag; return w }
	many := wrap(tagged(0x12, tagged(0x12, empties)))
	for _, tc := range []struct {
		name   string
		body   []byte
		header []string
		code   int
		rpc    int32
		says   string
	}{
		{"no token", good, []string{"Authorization", ""}, 401, 16, "project token"},
		{"basic", good, []string{"Authorization", "Basic eDp5"}, 401, 16, "project token"},
		{"wrong token", good, []string{"Authorization", "Bearer phc_wrong"}, 401, 16, "API key is not valid: send"},
		{"no content type", good, []string{"Content-Type", ""}, 415, 12, "content type"},
		{"grpc", good, []string{"Content-Type", "application/grpc"}, 415, 12, "content type"},
		{"compress", good, []string{"Content-Encoding", "compress"}, 415, 12, "content encoding"},
		{"JSON labelled protobuf", js, nil, 400, 3, "protobuf"},
		{"protobuf labelled JSON", good, []string{"Content-Type", "application/json"}, 400, 3, "JSON"},
		{"cut", good[:len(good)-3], nil, 400, 3, "protobuf"},
		{"cut JSON", js[:len(js)-3], []string{"Content-Type", "application/json"}, 400, 3, "JSON"},
		{"array", []byte("[]"), []string{"Content-Type", "application/json"}, 400, 3, "JSON"},
		{"empty JSON", nil, []string{"Content-Type", "application/json"}, 400, 3, "JSON"},
		{"cut gzip", bomb.Bytes()[:100], []string{"Content-Encoding", "gzip"}, 400, 3, "unexpected end"},
		{"bomb", bomb.Bytes(), []string{"Content-Encoding", "gzip"}, 413, 8, "more than 2097152 bytes"},
		{"large", make([]byte, 1<<21+1), nil, 413, 8, "more than"},
		{"empty attributes", many, nil, 413, 8, "MiB of memory"},
		{"deep JSON", deepJSON, []string{"Content-Type", "application/json"}, 400, 3, "nested more than 64"},
		{"deep protobuf", deepProto, nil, 400, 3, "nested more than 64"},
		{"too many spans", marshal(t, &collector.ExportTraceServiceRequest{ResourceSpans: []*trace.ResourceSpans{{ScopeSpans: []*trace.ScopeSpans{{Spans: make11()}}}}}), nil, 413, 8, "11 spans"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h, k := newHandler(t, otlp.Limits{Limits: httpbody.Limits{Body: 2 << 20, Decoded: 2 << 20, Memory: 64 << 20}, Spans: 10})
			w := post(h, tc.body, tc.header...)
			s := statusOf(t, w)
			if w.Code != tc.code || s.Code != tc.rpc || !strings.Contains(s.Message, tc.says) {
				t.Errorf("%d %v", w.Code, s)
			}
			if len(k.kept) != 0 {
				t.Errorf("%d events kept", len(k.kept))
			}
			if w.Header().Get("Retry-After") != "" {
				t.Error("Retry-After on a permanent error")
			}
			if w := post(h, good); w.Code != 200 {
				t.Errorf("the next request: %d", w.Code)
			}
		})
	}
	h, _ := newHandler(t, otlp.Limits{})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/v1/traces", nil))
	if w.Code != 405 || w.Header().Get("Allow") == "" {
		t.Errorf("GET: %d", w.Code)
	}
}

func make11() (out []*trace.Span) {
	for range 11 {
		out = append(out, &trace.Span{Name: "llm.x", TraceId: make([]byte, 16), SpanId: make([]byte, 8)})
	}
	return out
}

// TestPartialSuccess checks that valid spans are accepted and invalid ones
// counted.
func TestPartialSuccess(t *testing.T) {
	req := readSpans(t, "semconv_current")
	spans := req.ResourceSpans[0].ScopeSpans[0].Spans
	spans[1].SpanId = nil
	spans[2].TraceId = make([]byte, 16)
	h, k := newHandler(t, otlp.Limits{})
	k.err = func(events []*event.Event) error {
		for _, e := range events {
			if e.Name == event.Embedding {
				return event.NewError(event.CodeTooLarge, "the event is larger than 8 MiB", "", nil)
			}
		}
		return nil
	}
	w := post(h, marshal(t, req))
	var response collector.ExportTraceServiceResponse
	if err := proto.Unmarshal(w.Body.Bytes(), &response); err != nil || w.Code != 200 {
		t.Fatal(w.Code, err)
	}
	if p := response.GetPartialSuccess(); p.GetRejectedSpans() != 3 || !strings.Contains(p.GetErrorMessage(), "span id") {
		t.Errorf("%v", p)
	}
	if len(k.kept) != 3 {
		t.Errorf("%d events kept", len(k.kept))
	}
	w = post(h, otlpJSON(req), "Content-Type", "application/json")
	if w.Code != 200 || !strings.Contains(strings.ReplaceAll(w.Body.String(), " ", ""), `{"partialSuccess":{"rejectedSpans":"3","errorMessage":"3`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestJournalTrouble(t *testing.T) {
	good := marshal(t, readSpans(t, "semconv_current"))
	for name, tc := range map[string]struct {
		err   error
		after string
	}{
		"full":  {event.NewError(event.CodeFull, "full", "", nil), "10"},
		"down":  {errors.New("nats: no responders"), "1"},
		"later": {event.NewError(event.CodeUnavailable, "stopping", "", nil), "1"},
	} {
		h, k := newHandler(t, otlp.Limits{})
		k.err = func([]*event.Event) error { return tc.err }
		w := post(h, good)
		s := statusOf(t, w)
		if w.Code != 503 || w.Header().Get("Retry-After") != tc.after || s.Code != 14 || strings.Contains(s.Message, "nats") {
			t.Errorf("%s: %d %s %v", name, w.Code, w.Header().Get("Retry-After"), s)
		}
		k.err = nil
		if w := post(h, good); w.Code != 200 || len(k.kept) != 6 {
			t.Errorf("%s: again: %d, %d events", name, w.Code, len(k.kept))
		}
	}
}

// TestMemoryIsShared checks that the bodies of all requests have one limit, and
// that requests beyond it get 503.
func TestMemoryIsShared(t *testing.T) {
	release := make(chan struct{})
	held := make(chan struct{}, 1)
	k := &keeper{err: func([]*event.Event) error { held <- struct{}{}; <-release; return nil }}
	h, err := otlp.New(otlp.Config{Project: projectOf, Append: k, Limits: otlp.Limits{Limits: httpbody.Limits{Memory: 10 << 20}}})
	if err != nil {
		t.Fatal(err)
	}
	req := readSpans(t, "semconv_current")
	span := req.ResourceSpans[0].ScopeSpans[0].Spans[0]
	span.Attributes = append(span.Attributes, attributes(map[string]any{"long": strings.Repeat("x", 3<<20)})...)
	good := marshal(t, req)
	done := make(chan int, 1)
	go func() { done <- post(h, good).Code }()
	select {
	case <-held:
	case code := <-done:
		t.Fatalf("the first: %d", code)
	}
	if w := post(h, good); w.Code != 503 || w.Header().Get("Retry-After") != "1" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	close(release)
	if code := <-done; code != 200 {
		t.Errorf("the first: %d", code)
	}
	if h.HeldBytes() != 0 {
		t.Errorf("%d bytes held", h.HeldBytes())
	}
}

func TestStalledBody(t *testing.T) {
	h, _ := newHandler(t, otlp.Limits{Limits: httpbody.Limits{Timeout: 50 * time.Millisecond}})
	s := httptest.NewServer(h)
	defer s.Close()
	pr, pw := io.Pipe()
	defer pw.Close()
	r, _ := http.NewRequest("POST", s.URL+"/v1/traces", pr)
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/x-protobuf")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%d", resp.StatusCode)
	}
}

func TestCORS(t *testing.T) {
	h, _ := newHandler(t, otlp.Limits{})
	r := httptest.NewRequest("OPTIONS", "/v1/traces", nil)
	r.Header.Set("Origin", "https://app.example.com")
	r.Header.Set("Access-Control-Request-Headers", "authorization,content-type")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != 200 || w.Header().Get("Access-Control-Allow-Origin") != "https://app.example.com" || w.Header().Get("Access-Control-Allow-Headers") != "authorization,content-type" || w.Header().Get("Access-Control-Allow-Credentials") != "true" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}

// TestBrokenText checks that text truncated in the middle of a character loses
// that character and nothing else.
func TestBrokenText(t *testing.T) {
	js := `{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"chat \ud83d","traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","attributes":[
		{"key":"gen_ai.operation.name","value":{"stringValue":"chat"}},{"key":"a","value":{"stringValue":"\ude00x\\ud83d \ud83d\ude00 \ud83d\u0041` + "\xf0\x9f" + `"}}]}]}]}]}`
	h, k := newHandler(t, otlp.Limits{})
	if w := post(h, []byte(js), "Content-Type", "application/json"); w.Code != 200 || len(k.kept) != 1 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	e := k.kept[0]
	if got, want := string(e.Properties["a"]), `"`+"\uFFFDx"+`\\ud83d `+"\U0001F600 \uFFFDA\uFFFD"+`"`; e.SpanName != "chat \uFFFD" || got != want {
		t.Errorf("%q %s, want %s", e.SpanName, got, want)
	}
	req := readSpans(t, "semconv_current")
	want := render(t, first(otlp.Convert("default", req)))
	pb := marshal(t, req)
	broken := bytes.Replace(pb, []byte("57°F."), []byte("57\xc2F.."), 1)
	if bytes.Equal(broken, pb) {
		t.Fatal("the text is valid")
	}
	k.kept = nil
	if w := post(h, broken); w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	got := render(t, k.kept)
	if !bytes.Equal(bytes.Replace(want, []byte("57°F."), []byte("57\uFFFDF.."), 1), got) {
		t.Errorf("%s", got)
	}
}

func first(events []*event.Event, _, _ int) []*event.Event { return events }

// TestLenientJSON checks JSON that differs from OpenTelemetry's own: ids in
// base64, field names in snake case, numbers instead of strings.
func TestLenientJSON(t *testing.T) {
	js := `{"resource_spans":[{"scope_spans":[{"spans":[{"name":"chat","trace_id":"W47/95gDgQPSabYzgT/GDA==","span_id":"7uGbfsPBsXQ=","start_time_unix_nano":1769860800000000000,"end_time_unix_nano":1769860801000000000,"kind":"SPAN_KIND_CLIENT",
		"attributes":[{"key":"gen_ai.operation.name","value":{"string_value":"chat"}},{"key":"gen_ai.usage.input_tokens","value":{"intValue":12}}],"status":{"code":"STATUS_CODE_ERROR"}}]}]}]}`
	h, k := newHandler(t, otlp.Limits{})
	if w := post(h, []byte(js), "Content-Type", "application/json"); w.Code != 200 || len(k.kept) != 1 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if e := k.kept[0]; e.TraceID != "5b8efff798038103d269b633813fc60c" || e.SpanID != "eee19b7ec3c1b174" || e.Latency.Value != time.Second || e.Usage.Input.Value != 12 || !e.IsError {
		t.Errorf("%+v", e)
	}
}

// TestDeepListsStayText checks that the nesting around messages is limited
// (each level is parsed again with all below it), and that nothing is lost.
func TestDeepListsStayText(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	nested := strings.Repeat("[", 150) + `"` + long + `"` + strings.Repeat("]", 150)
	req := readSpans(t, "semconv_details_event")
	span := req.ResourceSpans[0].ScopeSpans[0].Spans[0]
	span.Events = nil
	span.Attributes = append(span.Attributes, attributes(map[string]any{"gen_ai.input.messages": nested})...)
	events, _, _ := otlp.Convert("p", req)
	sound(t, events)
	if in := string(events[0].Content.Input); !strings.Contains(in, long) || !strings.Contains(in, "[[[[") {
		t.Errorf("%.100s", in)
	}
}
