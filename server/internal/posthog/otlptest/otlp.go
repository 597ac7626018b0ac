// Package otlptest lets the simulated PostHog read OpenTelemetry as PostHog does
// (contract sections 5.1 to 5.3). It is separate so that the SDK's tests do not
// need protobuf.
package otlptest

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/tidwall/gjson"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/hedgerow/hedgerow/event"
	simposthog "github.com/hedgerow/hedgerow/internal/simulate/posthog"
)

const maxBody = 32 << 20 // bytes, uncompressed

// Read reads a request to /i/v0/ai/otel for [simposthog.Options.OTLP]: the events
// of its spans that are about LLMs, by OpenTelemetry's own conventions, without what
// PostHog does for single libraries; and how many spans there are.
func Read(h http.Header, body []byte) (events []*simposthog.Event, spans int, err error) {
	req, err := readOTLP(h, body)
	if err != nil {
		return nil, 0, err
	}
	anyone := uuid.NewString()
	for _, rs := range req.GetResourceSpans() {
		for _, ss := range rs.GetScopeSpans() {
			for _, span := range ss.GetSpans() {
				if spans++; aboutLLM(span) {
					events = append(events, spanEvent(span, rs.GetResource().GetAttributes(), anyone))
				}
			}
		}
	}
	return events, spans, nil
}

func readOTLP(h http.Header, body []byte) (*collector.ExportTraceServiceRequest, error) {
	if bytes.HasPrefix(body, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		if body, err = io.ReadAll(io.LimitReader(z, maxBody)); err != nil {
			return nil, err
		}
	}
	req := &collector.ExportTraceServiceRequest{}
	if media, _, _ := mime.ParseMediaType(h.Get("Content-Type")); media != "application/json" {
		return req, proto.Unmarshal(body, req)
	}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(body, req); err != nil {
		return nil, err
	}
	// protojson takes the ids, which OTLP writes in hex, for base64.
	unhex := func(b []byte) []byte {
		id, err := hex.DecodeString(base64.StdEncoding.EncodeToString(b))
		if err != nil {
			return b
		}
		return id
	}
	for _, rs := range req.GetResourceSpans() {
		for _, ss := range rs.GetScopeSpans() {
			for _, span := range ss.GetSpans() {
				span.TraceId, span.SpanId, span.ParentSpanId = unhex(span.TraceId), unhex(span.SpanId), unhex(span.ParentSpanId)
			}
		}
	}
	return req, nil
}

func str(v json.RawMessage) string { return gjson.ParseBytes(v).String() }

func aboutLLM(s *trace.Span) bool {
	names := []string{s.GetName()}
	for _, kv := range s.GetAttributes() {
		names = append(names, kv.GetKey())
	}
	for _, n := range names {
		for _, p := range []string{"gen_ai.", "llm.", "ai.", "traceloop."} {
			if strings.HasPrefix(n, p) {
				return true
			}
		}
	}
	return false
}

// spanEvent makes the event of a span.
func spanEvent(s *trace.Span, resource []*common.KeyValue, anyone string) *simposthog.Event {
	p := make(map[string]json.RawMessage)
	for _, list := range [][]*common.KeyValue{resource, s.GetAttributes()} {
		for _, kv := range list {
			p[kv.GetKey()] = attribute(kv.GetValue())
		}
	}
	quoted := func(v string) json.RawMessage { b, _ := json.Marshal(v); return b }
	e := &simposthog.Event{UUID: event.NewID(), Name: "$ai_span", DistinctID: anyone, Timestamp: time.Unix(0, int64(s.GetStartTimeUnixNano())).UTC(), Properties: p}
	switch str(p["gen_ai.operation.name"]) {
	case "chat":
		e.Name = "$ai_generation"
	case "embeddings":
		e.Name = "$ai_embedding"
	}
	p["$ai_trace_id"], p["$ai_span_id"] = quoted(hex.EncodeToString(s.GetTraceId())), quoted(hex.EncodeToString(s.GetSpanId()))
	if len(s.GetParentSpanId()) > 0 {
		p["$ai_parent_id"] = quoted(hex.EncodeToString(s.GetParentSpanId()))
	} else if e.Name == "$ai_span" {
		e.Name = "$ai_trace"
	}
	for _, name := range []string{"posthog.distinct_id", "user.id"} {
		if id := str(p[name]); id != "" {
			e.DistinctID = simposthog.CleanDistinctID(p[name])
			break
		}
	}
	p["$ai_ingestion_source"], p["$otel_span_name"], p["$ai_span_name"] = quoted("otel"), quoted(s.GetName()), quoted(s.GetName())
	if start, end := s.GetStartTimeUnixNano(), s.GetEndTimeUnixNano(); end > start {
		p["$ai_latency"] = json.RawMessage(strconv.FormatFloat(float64(end-start)/1e9, 'f', -1, 64))
	}
	if s.GetStatus().GetCode() == trace.Status_STATUS_CODE_ERROR {
		p["$ai_is_error"], p["$ai_error"] = json.RawMessage("true"), quoted(s.GetStatus().GetMessage())
	}
	for _, m := range [][]string{
		{"$ai_input", "gen_ai.input.messages"}, {"$ai_output_choices", "gen_ai.output.messages"},
		{"$ai_input_tokens", "gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"}, {"$ai_output_tokens", "gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"},
		{"$ai_cache_read_input_tokens", "gen_ai.usage.cache_read.input_tokens"}, {"$ai_cache_creation_input_tokens", "gen_ai.usage.cache_creation.input_tokens"},
		{"$ai_model", "gen_ai.response.model", "gen_ai.request.model"}, {"$ai_provider", "gen_ai.provider.name", "gen_ai.system"},
		{"$ai_base_url", "server.address"}, {"$ai_lib", "telemetry.sdk.name"}, {"$ai_lib_version", "telemetry.sdk.version"},
	} {
		for _, from := range m[1:] {
			v, ok := p[from]
			if !ok {
				continue
			}
			delete(p, from)
			if _, set := p[m[0]]; set {
				continue
			}
			if inner := str(v); strings.HasSuffix(from, ".messages") && json.Valid([]byte(inner)) {
				v = json.RawMessage(inner)
			}
			p[m[0]] = v
		}
	}
	for _, name := range []string{"telemetry.sdk.language", "gen_ai.operation.name", "posthog.ai.debug", "user.id", "posthog.distinct_id", "llm.request.type"} {
		delete(p, name)
	}
	e.Raw, _ = json.Marshal(p)
	return e
}

// attribute is a value as PostHog stores it: whole numbers and bytes as text.
func attribute(v *common.AnyValue) json.RawMessage {
	var out any
	switch v := v.GetValue().(type) {
	case *common.AnyValue_StringValue:
		out = v.StringValue
	case *common.AnyValue_BoolValue:
		out = v.BoolValue
	case *common.AnyValue_IntValue:
		out = strconv.FormatInt(v.IntValue, 10)
	case *common.AnyValue_DoubleValue:
		out = v.DoubleValue
	case *common.AnyValue_BytesValue:
		out = hex.EncodeToString(v.BytesValue)
	case *common.AnyValue_ArrayValue:
		list := []json.RawMessage{}
		for _, item := range v.ArrayValue.GetValues() {
			list = append(list, attribute(item))
		}
		out = list
	case *common.AnyValue_KvlistValue:
		object := make(map[string]json.RawMessage)
		for _, kv := range v.KvlistValue.GetValues() {
			object[kv.GetKey()] = attribute(kv.GetValue())
		}
		out = object
	}
	b, err := json.Marshal(out)
	if err != nil {
		return json.RawMessage("null") // NaN
	}
	return b
}
