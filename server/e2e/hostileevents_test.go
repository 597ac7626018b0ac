package e2e

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	common "go.opentelemetry.io/proto/otlp/common/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/hedgerow/hedgerow/event"
)

// enemy generates hostile but valid events.
type enemy struct {
	rng *rand.Rand
	now time.Time
}

func pick[T any](e *enemy, from ...T) T { return from[e.rng.IntN(len(from))] }

// oneIn is true once in n times.
func (e *enemy) oneIn(n int) bool { return e.rng.IntN(n) == 0 }

// number is a JSON number, rarely an ordinary one.
func (e *enemy) number() string {
	if e.oneIn(4) {
		return fmt.Sprint(e.rng.IntN(5000))
	}
	return pick(e, "9223372036854775807", "-9223372036854775808", "9223372036854775806", "18446744073709551616", "1e308", "-1e308", "1e-400", "1e309", "-0", "-0.0", "0", "-1", "10000000000", "10000000001", "0.5", "1e15", "-1e15", "1e100",
		`"9223372036854775807"`, `"NaN"`, `"Infinity"`, `"-Infinity"`, `"1e999999999"`, "1e999999999", "1"+strings.Repeat("0", 200), "null", "true", `""`, "[]", `"0x7fffffffffffffff"`, "2147483648", "999999.999999999999999999")
}

// text is text that is hard to display.
func (e *enemy) text() string {
	return pick(e, "", " ", "ada", "=1+1", "＝HYPERLINK(1)", "\u200b=cmd", "<script>alert(1)</script>", `"><img src=x onerror=alert(1)>`, "\x00", "a\x00b", "\u202egnp.exe", "\ud7ff\ue000", "👩‍👩‍👧‍👦", strings.Repeat("a\u0300\u0301", 200), "ＡＤＡ", "../../etc/passwd", "%00%2f",
		"{{.}}", "${7*7}", "'; DROP TABLE events; --", strings.Repeat("x", 5000), strings.Repeat("&", 300), "\u2028\u2029", "nan", "null", "-", "0", "a/b~c\"d'e", "line\nbreak\r\ttab", "ﷺﷺﷺ", "İıſK")
}

// id is one of few, so that events share ids, or hostile text.
func (e *enemy) id(kind string) string {
	if e.oneIn(6) {
		return e.text()
	}
	return fmt.Sprintf("%s-%d", kind, e.rng.IntN(12))
}

func quoted(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // cannot happen: values of this file
	}
	return string(b)
}

// value is any JSON value.
func (e *enemy) value() string {
	switch e.rng.IntN(8) {
	case 0:
		return e.number()
	case 1:
		return nested(pick(e, 5, 100, 990))
	case 2:
		return quoted(e.text())
	case 3:
		return `{"":{"":[null,{"role":"user","content":` + quoted(e.text()) + `}]}}`
	case 4:
		return `[` + strings.Repeat(e.number()+",", 50) + `0]`
	case 5:
		return pick(e, `{"a":1,"a":2,"A":3}`, `"\ud800"`, `"\u0000"`, `[[],{}]`, `{"__proto__":{}}`)
	case 6:
		return quoted(strings.Repeat(e.text()+"<&\"", 200))
	}
	return quoted(map[string]any{e.text(): e.text(), "n": e.rng.Float64()})
}

func nested(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }

// timestamp is usually recent, since pages show recent events.
func (e *enemy) timestamp() string {
	if e.oneIn(8) {
		return pick(e, "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "1970-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "2000-01-01T00:00:00Z", "2038-01-19T03:14:08Z", "2262-04-12T00:00:00Z", "2026-02-28T23:59:60Z", "2025-03-30T02:30:00+01:00")
	}
	return e.now.Add(-time.Duration(e.rng.Int64N(int64(6 * 24 * time.Hour)))).Format(time.RFC3339Nano)
}

var wireNumbers = []string{"$ai_input_tokens", "$ai_output_tokens", "$ai_total_tokens", "$ai_cache_read_input_tokens", "$ai_cache_creation_input_tokens", "$ai_cache_creation_5m_input_tokens", "$ai_cache_creation_1h_input_tokens", "$ai_reasoning_tokens",
	"$ai_audio_input_tokens", "$ai_image_output_tokens", "$ai_web_search_count", "image_count", "input_length", "output_length", "$ai_latency", "$ai_time_to_first_token", "$ai_http_status", "request_bytes", "response_bytes",
	"$ai_input_cost_usd", "$ai_output_cost_usd", "$ai_request_cost_usd", "$ai_total_cost_usd", "$ai_input_token_price", "$ai_output_token_price", "$ai_cache_read_token_price", "$ai_request_price", "$ai_request_count", "$ai_web_search_price",
	"eval_score", "$ai_score", "$ai_metric_value", "retry_count"}

// properties are the properties of an event, as JSON.
func (e *enemy) properties() string {
	p := map[string]string{
		"$ai_trace_id": quoted(e.id("trace")), "$ai_span_id": quoted(e.id("span")), "$ai_parent_id": quoted(e.id("span")), "$ai_session_id": quoted(e.id("session")),
		"$ai_model": quoted(pick(e, "gpt-4.1-mini", "claude-sonnet-4-5", "gemini-2.5-flash", e.text())), "$ai_provider": quoted(pick(e, "openai", "anthropic", e.text())),
		"$feature/arm": pick(e, `"a"`, `"b"`, "true"), "agent_config": quoted(e.id("config")), "plan": e.value(),
	}
	for _, name := range wireNumbers {
		if e.oneIn(3) {
			p[name] = e.number()
		}
	}
	for _, name := range []string{"$ai_span_name", "$ai_trace_name", "$ai_error", "$ai_error_type", "$ai_stop_reason", "$ai_user", "$ai_base_url", "$ai_request_url", "surface", "environment", "task_type", "prompt_name", "prompt_version", "prompt_version_id", "eval_name", "$ai_metric_name",
		"status", "operation", "input_length_bucket", "output_category", "parse_error", "$ai_completion_id", "$ai_span_type", "gen_ai.tool.name"} {
		if e.oneIn(3) {
			p[name] = quoted(e.text())
		}
	}
	for _, name := range []string{"$ai_input", "$ai_output_choices", "$ai_tools", "$ai_input_state", "$ai_output_state", "$ai_model_parameters", "$ai_provider_metadata", "$groups", "$set", "$ai_usage", "$hedgerow", "hedgerow_warnings", "hedgerow_note", "task_completed", "user_feedback", "$ai_is_error",
		"$ai_stream", "$ai_cache_reporting_exclusive", "accepted_output", "eval_passed"} {
		if e.oneIn(3) {
			p[name] = pick(e, e.value(), "true", "false", `"true"`, `"negative"`, `[{"role":"user","content":`+quoted(e.text())+`}]`)
		}
	}
	switch e.rng.IntN(20) {
	case 0:
		for i := range 5000 {
			p[fmt.Sprintf("p%d", i)] = "1"
		}
	case 1:
		p[strings.Repeat("k", 100_000)] = "1"
	case 2:
		p["$ai_tools"] = "[" + strings.TrimSuffix(strings.Repeat(`{"type":"function","function":{"name":"f","parameters":{}}},`, 3000), ",") + "]"
	case 3:
		p["big"] = quoted(strings.Repeat("<&\"'>", 50_000))
	case 4:
		p["$ai_input"] = `[{"role":"user","content":` + quoted(strings.Repeat("<\"&😀\\", 60_000)) + `}]`
	}
	var b strings.Builder
	for name, v := range p {
		if b.Len() > 0 {
			b.WriteString(",")
		}
		b.WriteString(quoted(name) + ":" + v)
	}
	return "{" + b.String() + "}"
}

func (e *enemy) name() string {
	if e.oneIn(10) {
		return pick(e, "a", "prompt_shared", strings.Repeat("n", 300), "<b>", "\u202ex", "=1", "$pageview")
	}
	return pick(e, event.Generation, event.Generation, event.Generation, event.Embedding, event.Span, event.Trace, event.Metric, event.Feedback, "$ai_evaluation", "llm_task_completed", "llm_output_rated", event.FirstValue)
}

// captured is an event of PostHog's protocol.
func (e *enemy) captured() string {
	id := event.NewID()
	if e.oneIn(15) {
		id = "0192c0de-0000-7000-8000-00000000000" + fmt.Sprint(e.rng.IntN(10)) // repeated ids
	}
	return fmt.Sprintf(`{"event":%s,"uuid":%q,"distinct_id":%s,"timestamp":%s,"properties":%s}`, quoted(e.name()), id, quoted(pick(e, e.id("user"), "u")), quoted(e.timestamp()), e.properties())
}

func (e *enemy) batch(n int) string {
	events := make([]string, n)
	for i := range events {
		events[i] = e.captured()
	}
	return strings.Join(events, ",")
}

// product is an event of hedgerow's own API.
func (e *enemy) product() string {
	return fmt.Sprintf(`{"event":%s,"distinct_id":"u%d","trace_id":%s,"surface":%s,"tags":[%s,%s],"properties":{"eval_score":%s,"retry_count":%s,"eval_name":%s,"anything":%s}}`, quoted(pick(e, "llm_output_rated", "llm_task_completed", "prompt_shared", "x<y>")), e.rng.IntN(9),
		quoted(e.id("trace")), quoted(e.text()), quoted(e.text()), quoted(e.text()), pick(e, "1e308", "-1e308", "0.5", "1e15", `"NaN"`), pick(e, "1e308", "3", "-1"), quoted(e.text()), e.value())
}

func (e *enemy) attribute(key string) *common.KeyValue {
	v := &common.AnyValue{}
	switch e.rng.IntN(5) {
	case 0:
		v.Value = &common.AnyValue_IntValue{IntValue: pick[int64](e, math.MaxInt64, math.MinInt64, -1, 0, 10, 1e10+1)}
	case 1:
		v.Value = &common.AnyValue_DoubleValue{DoubleValue: pick(e, math.NaN(), math.Inf(1), math.Inf(-1), math.MaxFloat64, 1e-320, math.Copysign(0, -1), 0.25)}
	case 2:
		v.Value = &common.AnyValue_StringValue{StringValue: strings.ToValidUTF8(e.text(), "?")}
	case 3:
		v.Value = &common.AnyValue_BytesValue{BytesValue: []byte{0, 255, 1}}
	case 4:
		v.Value = &common.AnyValue_StringValue{StringValue: e.value()}
	}
	return &common.KeyValue{Key: key, Value: v}
}

// spans is an OTLP request in protobuf.
func (e *enemy) spans(n int) []byte {
	var list []*trace.Span
	for range n {
		s := &trace.Span{TraceId: make([]byte, 16), SpanId: make([]byte, 8), ParentSpanId: make([]byte, 8), Name: strings.ToValidUTF8(e.text(), "?")}
		s.TraceId[15], s.SpanId[7], s.ParentSpanId[7] = byte(1+e.rng.IntN(4)), byte(1+e.rng.IntN(30)), byte(1+e.rng.IntN(30))
		s.StartTimeUnixNano = uint64(e.now.Add(-time.Duration(e.rng.Int64N(int64(24 * time.Hour)))).UnixNano())
		s.EndTimeUnixNano = s.StartTimeUnixNano + uint64(e.rng.Int64N(1e12))
		if e.oneIn(6) {
			s.StartTimeUnixNano, s.EndTimeUnixNano = pick[uint64](e, 0, math.MaxUint64, math.MaxInt64, 1), pick[uint64](e, 0, math.MaxUint64, math.MaxInt64)
		}
		for _, key := range []string{"gen_ai.operation.name", "gen_ai.request.model", "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cost", "gen_ai.response.time_to_first_chunk", "gen_ai.input.messages", "gen_ai.output.messages",
			"http.response.status_code", "llm.token_count.prompt", "ai.response.msToFirstChunk", "ai.response.providerMetadata", "langfuse.observation.usage_details", "gen_ai.conversation.id", "user.id", "tag.tags", "x." + e.text()} {
			if e.oneIn(2) {
				s.Attributes = append(s.Attributes, e.attribute(strings.ToValidUTF8(key, "?")))
			}
		}
		if e.oneIn(2) {
			s.Attributes = append(s.Attributes, &common.KeyValue{Key: "gen_ai.operation.name", Value: &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: pick(e, "chat", "execute_tool", "invoke_agent")}}})
		}
		for range e.rng.IntN(3) {
			s.Events = append(s.Events, &trace.Span_Event{Name: pick(e, "exception", "gen_ai.choice", "gen_ai.first_token"), TimeUnixNano: s.StartTimeUnixNano + e.rng.Uint64N(1e13), Attributes: []*common.KeyValue{e.attribute("exception.message")}})
		}
		list = append(list, s)
	}
	b, err := proto.Marshal(&trace.TracesData{ResourceSpans: []*trace.ResourceSpans{{Resource: &resource.Resource{Attributes: []*common.KeyValue{e.attribute("service.name")}}, ScopeSpans: []*trace.ScopeSpans{{Spans: list}}}}})
	if err != nil {
		panic(err) // cannot happen: values of this file
	}
	return b
}

// spansJSON is an OTLP request as JSON.
func (e *enemy) spansJSON() string {
	id := func(n int) string {
		b := make([]byte, n)
		b[n-1] = byte(1 + e.rng.IntN(9))
		return hex.EncodeToString(b)
	}
	return fmt.Sprintf(`{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":%q,"spanId":%q,"parentSpanId":%q,"name":%s,"startTimeUnixNano":%q,"endTimeUnixNano":%q,"attributes":[
		{"key":"gen_ai.operation.name","value":{"stringValue":"chat"}},{"key":"gen_ai.request.model","value":{"stringValue":"gpt-4.1-mini"}},{"key":"gen_ai.usage.input_tokens","value":{"intValue":%q}},
		{"key":"gen_ai.usage.output_tokens","value":{"doubleValue":%s}},{"key":"gen_ai.input.messages","value":{"stringValue":%s}}]}]}]}]}`,
		id(16), id(8), id(8), quoted(e.text()), fmt.Sprint(e.now.Add(-time.Hour).UnixNano()), pick(e, fmt.Sprint(e.now.UnixNano()), "9223372036854775807", "18446744073709551615", "0"), pick(e, "9223372036854775807", "-9223372036854775808", "12"), pick(e, "1e308", "-1e308", "-0", "7"), quoted(e.value()))
}

// answer is a provider response with hostile usage.
func (e *enemy) answer(path string) (kind, body string) {
	n := func() string {
		return pick(e, "9223372036854775807", "-1", "1e308", "1e18", "0", "12", "null", "-0", "9007199254740993", "1e400")
	}
	openai := func() string {
		return fmt.Sprintf(`{"prompt_tokens":%s,"completion_tokens":%s,"total_tokens":%s,"cost":%s,"prompt_tokens_details":{"cached_tokens":%s,"audio_tokens":%s},"completion_tokens_details":{"reasoning_tokens":%s}}`, n(), n(), n(), n(), n(), n(), n())
	}
	switch {
	case strings.Contains(path, "messages"):
		return "application/json", fmt.Sprintf(`{"id":%s,"type":"message","role":"assistant","model":%s,"content":[{"type":"text","text":%s}],"stop_reason":%s,"usage":{"input_tokens":%s,"output_tokens":%s,"cache_read_input_tokens":%s,"cache_creation_input_tokens":%s,"cache_creation":{"ephemeral_5m_input_tokens":%s}}}`,
			quoted(e.text()), quoted(e.text()), quoted(e.text()), quoted(e.text()), n(), n(), n(), n(), n())
	case strings.Contains(path, "generateContent"):
		return "application/json", fmt.Sprintf(`{"candidates":[{"content":{"parts":[{"text":%s}]}}],"usageMetadata":{"promptTokenCount":%s,"candidatesTokenCount":%s,"cachedContentTokenCount":%s,"thoughtsTokenCount":%s,"totalTokenCount":%s},"modelVersion":%s}`, quoted(e.text()), n(), n(), n(), n(), n(), quoted(e.text()))
	case e.oneIn(2):
		return "text/event-stream", fmt.Sprintf("data: {\"id\":%s,\"model\":%s,\"choices\":[{\"index\":%s,\"delta\":{\"content\":%s}}]}\n\ndata: {\"choices\":[],\"usage\":%s}\n\ndata: [DONE]\n\n", quoted(e.text()), quoted(e.text()), pick(e, "0", "1e9", "-1"), quoted(e.text()), openai())
	}
	return "application/json", fmt.Sprintf(`{"id":%s,"model":%s,"created":%s,"choices":[{"index":0,"message":{"role":"assistant","content":%s},"finish_reason":%s}],"usage":%s}`, quoted(e.text()), quoted(e.text()), n(), quoted(e.text()), quoted(e.text()), openai())
}

// provider serves such responses. It has its own enemy, since calls are
// concurrent.
func (e *enemy) provider(t testing.TB) *httptest.Server {
	turns := make(chan *enemy, 1)
	turns <- &enemy{rng: rand.New(rand.NewPCG(e.rng.Uint64(), 1)), now: e.now}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e := <-turns
		kind, body := e.answer(r.URL.Path)
		turns <- e
		w.Header().Set("Content-Type", kind)
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(s.Close)
	return s
}

// shapes are traces that are hard to lay out: a chain of the given depth, a
// cycle, spans with shared ids, and spans that are their own parents.
func (e *enemy) shapes(depth int) (traces []string, batches []string) {
	at := e.now.Add(-time.Hour)
	var events []string
	flush := func() {
		if len(events) > 0 {
			batches = append(batches, strings.Join(events, ","))
			events = nil
		}
	}
	span := func(trace, id, parent string, i int) {
		events = append(events, fmt.Sprintf(`{"event":"$ai_span","uuid":%q,"distinct_id":"u","timestamp":%q,"properties":{"$ai_trace_id":%q,"$ai_span_id":%q,"$ai_parent_id":%q,"$ai_span_name":"step %d","$ai_latency":0.5}}`,
			event.NewID(), at.Add(time.Duration(i)*time.Millisecond).Format(time.RFC3339Nano), trace, id, parent, i))
		if len(events) == 500 {
			flush()
		}
	}
	for i := range depth {
		parent := ""
		if i > 0 {
			parent = fmt.Sprint("d", i-1)
		}
		span("deep", fmt.Sprint("d", i), parent, i)
	}
	for i := range 50 {
		span("circle", fmt.Sprint("c", i), fmt.Sprint("c", (i+1)%50), i)
	}
	for i := range 40 {
		for j := range 40 {
			span("tangle", fmt.Sprint("x", i), fmt.Sprint("x", j), 40*i+j)
		}
	}
	span("tangle", "x0", "", 1)
	for i := range 20 {
		span("own", fmt.Sprint("o", i), fmt.Sprint("o", i), i)
	}
	flush()
	return []string{"deep", "circle", "tangle", "own"}, batches
}
