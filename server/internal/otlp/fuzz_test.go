package otlp_test

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/hedgerow/hedgerow/server/internal/httpbody"
	"github.com/hedgerow/hedgerow/server/internal/otlp"
)

// small limits keep the fuzzer fast.
var small = otlp.Limits{Limits: httpbody.Limits{Body: 1 << 20, Decoded: 1 << 20, Memory: 32 << 20}, Spans: 1000}

func FuzzProto(f *testing.F) {
	for _, name := range fileNames(f) {
		f.Add(marshal(f, readSpans(f, name)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		req, err := otlp.Decode(false, b, small)
		if err != nil {
			return
		}
		events, _, _ := otlp.Convert("p", req)
		sound(t, distinct(events))
		// What the protobuf library accepts is accepted, repaired or not.
		if _, err := proto.Marshal(req); err != nil {
			t.Error(err)
		}
	})
}

func FuzzJSON(f *testing.F) {
	for _, name := range fileNames(f) {
		f.Add(otlpJSON(readSpans(f, name)))
	}
	f.Add([]byte(`{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"llm.\ud83d","traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174"}]}]}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		req, err := otlp.Decode(true, b, small)
		if err != nil {
			return
		}
		events, _, _ := otlp.Convert("p", req)
		sound(t, distinct(events))
	})
}

// FuzzMessages fuzzes the value of an attribute with messages.
func FuzzMessages(f *testing.F) {
	for _, s := range []string{
		`[{"role":"user","parts":[{"type":"text","content":"x"},{"type":"blob","modality":"audio","mime_type":"audio/wav","content":"eA=="}]}]`,
		`{"messages":[[{"lc":1,"id":["a","HumanMessage"],"kwargs":{"content":[{"type":"text","text":"x"}]}}]]}`,
		`[{"type":"function_call","call_id":"c","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"c","output":"1"}]`,
		`{"contents":[{"role":"model","parts":[{"text":"a","thought":true},{"functionCall":{"name":"f","args":{}}},{"functionResponse":{"name":"f","response":{}}}]}]}`,
		`[{"role":"assistant","content":[{"toolUse":{"toolUseId":"t","name":"n","input":{}}},{"type":"tool_result","tool_use_id":"t","content":[{"type":"text","text":"r"}]}]}]`,
		`"quoted"`, `plain`, `[1,null,"a",[["b"]]]`, `{"system":"s","prompt":"p"}`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		req := readSpans(t, "semconv_details_event")
		span := req.ResourceSpans[0].ScopeSpans[0].Spans[0]
		span.Events = nil
		for _, key := range []string{"gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions", "gen_ai.tool.definitions", "ai.response.toolCalls", "events", "model_request_parameters"} {
			span.Attributes = append(span.Attributes, attributes(map[string]any{key: s})...)
		}
		b, err := proto.Marshal(req)
		if err != nil {
			return // not UTF-8
		}
		decoded, err := otlp.Decode(false, b, small)
		if err != nil {
			t.Fatal(err)
		}
		events, _, _ := otlp.Convert("p", decoded)
		sound(t, events)
	})
}
