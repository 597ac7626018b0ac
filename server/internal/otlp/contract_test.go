package otlp_test

import (
	"fmt"
	"strings"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/otlp"
)

// one returns the event of one span; nil if there is none.
func one(t *testing.T, attrs, res map[string]any, change func(*trace.Span)) *event.Event {
	t.Helper()
	end := int64(1500)
	start := int64(0)
	s := &trace.Span{Name: "step", TraceId: unhex(t, traceID), SpanId: unhex(t, "00000000000000a1"), ParentSpanId: unhex(t, "00000000000000a0"), StartTimeUnixNano: nano(&start), EndTimeUnixNano: nano(&end), Attributes: attributes(attrs)}
	if change != nil {
		change(s)
	}
	req := &collector.ExportTraceServiceRequest{ResourceSpans: []*trace.ResourceSpans{{Resource: &resource.Resource{Attributes: attributes(res)}, ScopeSpans: []*trace.ScopeSpans{{Spans: []*trace.Span{s}}}}}}
	events, _, rejected := otlp.Convert("default", req)
	if rejected > 0 || len(events) > 1 {
		t.Fatalf("%d events, %d rejected", len(events), rejected)
	}
	if len(events) == 0 {
		return nil
	}
	return events[0]
}

type attrs = map[string]any

// Kinds of spans: contract section 5.2, and the values of the conventions that
// PostHog keeps as spans.
func TestKinds(t *testing.T) {
	for _, c := range []struct {
		attrs attrs
		want  string
	}{
		{attrs{"gen_ai.operation.name": "chat"}, event.Generation}, {attrs{"gen_ai.operation.name": "text_completion"}, event.Generation}, {attrs{"gen_ai.operation.name": "generate_content"}, event.Generation},
		{attrs{"gen_ai.operation.name": "embeddings"}, event.Embedding}, {attrs{"gen_ai.operation.name": "execute_tool"}, event.Span}, {attrs{"gen_ai.operation.name": "invoke_agent"}, event.Span}, {attrs{"gen_ai.operation.name": "made up"}, event.Span},
		{attrs{"ai.operationId": "ai.generateText.doGenerate"}, event.Generation}, {attrs{"ai.operationId": "ai.streamText.doStream"}, event.Generation}, {attrs{"ai.operationId": "ai.generateObject.doGenerate"}, event.Generation}, {attrs{"ai.operationId": "ai.streamObject.doStream"}, event.Generation},
		{attrs{"ai.operationId": "ai.embed.doEmbed"}, event.Embedding}, {attrs{"ai.operationId": "ai.embedMany.doEmbed"}, event.Embedding},
		{attrs{"ai.operationId": "ai.generateText"}, event.Span}, {attrs{"ai.operationId": "ai.streamText"}, event.Span}, {attrs{"ai.operationId": "ai.generateObject"}, event.Span}, {attrs{"ai.operationId": "ai.streamObject"}, event.Span}, {attrs{"ai.operationId": "ai.toolCall"}, event.Span}, {attrs{"ai.operationId": "ai.embed"}, event.Span},
		{attrs{"llm.request.type": "chat"}, event.Generation}, {attrs{"llm.request.type": "completion"}, event.Generation}, {attrs{"llm.request.type": "embedding"}, event.Embedding}, {attrs{"llm.request.type": "embeddings"}, event.Embedding}, {attrs{"llm.request.type": "rerank"}, event.Span},
		{attrs{"openinference.span.kind": "LLM"}, event.Generation}, {attrs{"openinference.span.kind": "EMBEDDING"}, event.Embedding}, {attrs{"openinference.span.kind": "RETRIEVER"}, event.Span},
		{attrs{"traceloop.span.kind": "tool"}, event.Span}, {attrs{"gen_ai.anything": 1}, event.Span}, {attrs{"traceloop.x": 1}, event.Span},
		{attrs{"http.method": "GET"}, ""}, {attrs{"db.system": "postgres", "airport": "OSL"}, ""}, {nil, ""},
	} {
		for _, root := range []bool{false, true} {
			e := one(t, c.attrs, nil, func(s *trace.Span) {
				if root {
					s.ParentSpanId = nil
				}
			})
			want := c.want
			if root && want == event.Span {
				want = event.Trace // a root that is a call itself stays a call
			}
			switch {
			case (e == nil) != (want == ""):
				t.Errorf("%v: %+v, want %q", c.attrs, e, want)
			case e != nil && (e.Name != want || (e.ParentID == "") != root):
				t.Errorf("%v, root %v: %s under %q, want %s", c.attrs, root, e.Name, e.ParentID, want)
			}
		}
	}
	for _, name := range []string{"gen_ai.chat", "llm.call", "ai.generateText", "traceloop.workflow"} {
		if e := one(t, nil, nil, func(s *trace.Span) { s.Name = name }); e == nil || e.SpanName != name {
			t.Errorf("a span named %s: %+v", name, e)
		}
	}
}

// The generic mapping of contract section 5.3, one rule per line.
func TestGenericMap(t *testing.T) {
	chat := func(more attrs) attrs {
		out := attrs{"gen_ai.operation.name": "chat"}
		for k, v := range more {
			out[k] = v
		}
		return out
	}
	prop := func(name string) func(*event.Event) string {
		return func(e *event.Event) string { return string(e.Properties[name]) }
	}
	count := func(n func(*event.Usage) event.Int) func(*event.Event) string {
		return func(e *event.Event) string {
			if v := n(&e.Usage); v.Known {
				return fmt.Sprint(v.Value)
			}
			return "?"
		}
	}
	input := count(func(u *event.Usage) event.Int { return u.Input })
	user := func(e *event.Event) string { return e.DistinctID }
	words := func(e *event.Event) string { return string(e.Content.Input) }
	long := strings.Repeat("x", 600_000)
	for name, c := range map[string]struct {
		attrs, resource attrs
		get             func(*event.Event) string
		want            string
	}{
		"tokens":                   {attrs{"gen_ai.usage.input_tokens": 5, "gen_ai.usage.prompt_tokens": 6}, nil, input, "5"},
		"tokens, old name":         {attrs{"gen_ai.usage.prompt_tokens": 6}, nil, input, "6"},
		"tokens as text":           {attrs{"gen_ai.usage.input_tokens": "7"}, nil, input, "7"},
		"no tokens":                {nil, nil, input, "?"},
		"output tokens":            {attrs{"gen_ai.usage.completion_tokens": 3}, nil, count(func(u *event.Usage) event.Int { return u.Output }), "3"},
		"cache read":               {attrs{"gen_ai.usage.cache_read.input_tokens": 4}, nil, count(func(u *event.Usage) event.Int { return u.CacheRead }), "4"},
		"cache write":              {attrs{"gen_ai.usage.cache_creation.input_tokens": 4}, nil, count(func(u *event.Usage) event.Int { return u.CacheWrite }), "4"},
		"cache write, other name":  {attrs{"gen_ai.usage.cache_write_input_tokens": 4}, nil, count(func(u *event.Usage) event.Int { return u.CacheWrite }), "4"},
		"reasoning from the total": {attrs{"gen_ai.request.model": "gemini-2.5-flash", "gen_ai.usage.input_tokens": 20, "gen_ai.usage.output_tokens": 198, "gen_ai.usage.total_tokens": 623}, nil, func(e *event.Event) string { return fmt.Sprint(e.Usage.Output.Value, e.Usage.Reasoning.Value) }, "603 405"},
		"total of another model":   {attrs{"gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 20, "gen_ai.usage.output_tokens": 198, "gen_ai.usage.total_tokens": 623}, nil, count(func(u *event.Usage) event.Int { return u.Output }), "198"},
		"provider of ADK":          {attrs{"gen_ai.system": "gcp.vertex.agent"}, nil, func(e *event.Event) string { return e.Provider }, "google-vertex"},
		"response model":           {attrs{"gen_ai.response.model": "a", "gen_ai.request.model": "b"}, nil, func(e *event.Event) string { return e.Model + " " + e.ModelAsked }, "a b"},
		"requested model":          {attrs{"gen_ai.request.model": "b"}, nil, func(e *event.Event) string { return e.ModelName() }, "b"},
		"provider":                 {attrs{"gen_ai.provider.name": "openai", "gen_ai.system": "x"}, nil, func(e *event.Event) string { return e.Provider }, "openai"},
		"provider, old name":       {attrs{"gen_ai.system": "anthropic"}, nil, func(e *event.Event) string { return e.Provider }, "anthropic"},
		"server":                   {attrs{"server.address": "api.openai.com"}, nil, func(e *event.Event) string { return e.BaseURL }, "api.openai.com"},
		"library": {nil, attrs{"telemetry.sdk.name": "opentelemetry", "telemetry.sdk.version": "1.2", "telemetry.sdk.language": "go"}, func(e *event.Event) string {
			return fmt.Sprintf("%s %s %s", e.Properties["$ai_lib"], e.Properties["$ai_lib_version"], e.Properties["telemetry.sdk.language"])
		}, `"opentelemetry" "1.2" `},
		"span over resource": {attrs{"team": "a"}, attrs{"team": "b", "service.name": "s"}, func(e *event.Event) string {
			return fmt.Sprintf("%s %s", e.Properties["team"], e.Properties["service.name"])
		}, `"a" "s"`},
		"instructions":                           {attrs{"gen_ai.system_instructions": "Be kind.", "gen_ai.input.messages": `[{"role":"user","parts":[{"type":"text","content":"hi"}]}]`}, nil, words, `[{"role":"system","content":"Be kind."},{"role":"user","content":"hi"}]`},
		"instructions in parts":                  {attrs{"gen_ai.system_instructions": `[{"type":"text","content":"Be kind."}]`, "gen_ai.input.messages": `[{"role":"user","parts":[{"type":"text","content":"hi"}]}]`}, nil, words, `[{"role":"system","content":"Be kind."},{"role":"user","content":"hi"}]`},
		"instructions sent twice":                {attrs{"gen_ai.system_instructions": "Be kind.", "gen_ai.input.messages": `[{"role":"system","parts":[{"type":"text","content":"Be brief."}]}]`}, nil, words, `[{"role":"system","content":"Be brief."}]`},
		"long instructions":                      {attrs{"gen_ai.system_instructions": long, "gen_ai.input.messages": `[{"role":"user","parts":[{"type":"text","content":"hi"}]}]`}, nil, func(e *event.Event) string { return fmt.Sprint(len(e.Content.Input) > len(long)) }, "true"},
		"groups":                                 {attrs{"$groups": `{"company":"acme"}`}, nil, func(e *event.Event) string { return e.Groups["company"] }, "acme"},
		"explicit $ai_ attributes":               {attrs{"$ai_session_id": "s", "$ai_prompt_name": "p", "$ai_trace_name": "n"}, nil, func(e *event.Event) string { return e.SessionID + e.PromptName + e.TraceName }, "spn"},
		"explicit $ai_ attributes of the AI SDK": {attrs{"ai.operationId": "ai.generateText.doGenerate", "ai.telemetry.metadata.$ai_session_id": "s", "ai.telemetry.metadata.$ai_prompt_name": "p", "ai.telemetry.metadata.$ai_prompt_version": 3}, nil, func(e *event.Event) string { return e.SessionID + e.PromptName + e.PromptVersion }, "sp3"},
		"user of the resource":                   {nil, attrs{"posthog.distinct_id": "r", "user.id": "u"}, user, "r"},
		"user of the span":                       {attrs{"posthog.distinct_id": "s", "user.id": "u"}, nil, user, "s"},
		"user by the convention":                 {nil, attrs{"user.id": "u"}, user, "u"},
		"user of the AI SDK":                     {attrs{"ai.operationId": "ai.toolCall", "ai.telemetry.metadata.posthog_distinct_id": "v"}, nil, user, "v"},
		"nobody":                                 {nil, nil, user, ""},
		"debug mark":                             {attrs{"posthog.ai.debug": true}, nil, prop("posthog.ai.debug"), ""},
		"operation":                              {nil, nil, prop("gen_ai.operation.name"), ""},
		"request type":                           {attrs{"llm.request.type": "chat"}, nil, prop("llm.request.type"), ""},
		"whole number":                           {attrs{"mine": 42}, nil, prop("mine"), "42"},
		"list":                                   {attrs{"mine": []any{"a", true}}, nil, prop("mine"), `["a",true]`},
		"ingestion source":                       {nil, nil, prop("$ai_ingestion_source"), `"otel"`},
		"stop reason":                            {attrs{"llm.response.stop_reason": "max_tokens"}, nil, func(e *event.Event) string { return e.StopReason }, "max_tokens"},
		"finish reason":                          {attrs{"llm.response.finish_reason": "stop"}, nil, func(e *event.Event) string { return e.StopReason }, "stop"},
		"web searches": {attrs{"gen_ai.output.messages": `[{"role":"assistant","parts":[{"type":"tool_call","id":"srvtoolu_1","name":"web_search","arguments":{}},{"type":"tool_call_response","id":"srvtoolu_1","response":[{"url":"x"}]},
			{"type":"tool_call","id":"srvtoolu_2","name":"web_search"},{"type":"tool_call_response","id":"srvtoolu_2","response":{"error":"max_uses_exceeded"}},{"type":"tool_call","id":"toolu_3","name":"web_search"},{"type":"tool_call_response","id":"toolu_3","response":[]},
			{"type":"tool_call","id":"srvtoolu_4","name":"code_execution"},{"type":"tool_call_response","id":"srvtoolu_4","response":[]}]}]`}, nil, count(func(u *event.Usage) event.Int { return u.WebSearches }), "1"},
		"new messages before old events": {attrs{"gen_ai.input.messages": `[{"role":"user","parts":[{"type":"text","content":"new"}]}]`, "events": `[{"event.name":"gen_ai.user.message","content":"old"}]`}, nil, words, `[{"role":"user","content":"new"}]`},
		"old events by index":            {attrs{"events": `[{"event.name":"gen_ai.user.message","content":"b","gen_ai.message.index":1},{"event.name":"gen_ai.system.message","content":"a","gen_ai.message.index":0},{"event.name":"gen_ai.choice","message":{"role":"assistant","content":"c"}}]`}, nil, words, `[{"role":"system","content":"a"},{"role":"user","content":"b"}]`},
	} {
		e := one(t, chat(c.attrs), c.resource, nil)
		if e == nil {
			t.Errorf("%s: no event", name)
			continue
		}
		if got := c.get(e); got != c.want {
			t.Errorf("%s: %.200s, want %s", name, got, c.want)
		}
	}
	// Bytes become hexadecimal, as ids do; a span without a duration has no
	// latency.
	e := one(t, chat(nil), nil, func(s *trace.Span) {
		s.Attributes = append(s.Attributes, &common.KeyValue{Key: "raw", Value: &common.AnyValue{Value: &common.AnyValue_BytesValue{BytesValue: []byte{0xca, 0xfe}}}})
		s.EndTimeUnixNano = s.StartTimeUnixNano
	})
	if string(e.Properties["raw"]) != `"cafe"` || e.Latency.Known || !e.Timestamp.Equal(base) || e.TraceID != traceID || e.SpanID != "00000000000000a1" || e.ParentID != "00000000000000a0" {
		t.Errorf("%+v", e)
	}
	if e := one(t, chat(nil), nil, nil); !e.Latency.Known || e.Latency.Value.Seconds() != 1.5 {
		t.Errorf("latency %v", e.Latency)
	}
	failed := one(t, chat(nil), nil, func(s *trace.Span) {
		s.Status = &trace.Status{Code: trace.Status_STATUS_CODE_ERROR, Message: "overloaded"}
	})
	if !failed.IsError || failed.ErrorMessage != "overloaded" {
		t.Errorf("error %v %q", failed.IsError, failed.ErrorMessage)
	}
}

// PostHog accepts 1000 spans and 100 calls in a request, and rejects a larger
// one as a whole. hedgerow accepts what the Collector sends at most by default.
func TestLargeBatches(t *testing.T) {
	ss := &trace.ScopeSpans{}
	for i := range 8192 {
		ss.Spans = append(ss.Spans, &trace.Span{Name: "chat", TraceId: unhex(t, traceID), SpanId: unhex(t, fmt.Sprintf("%016x", i+1)), Attributes: attributes(attrs{"gen_ai.operation.name": "chat"})})
	}
	h, k := newHandler(t, otlp.Limits{})
	w := post(h, marshal(t, &collector.ExportTraceServiceRequest{ResourceSpans: []*trace.ResourceSpans{{ScopeSpans: []*trace.ScopeSpans{ss}}}}))
	if w.Code != 200 || len(k.kept) != 8192 {
		t.Errorf("%d, %d events", w.Code, len(k.kept))
	}
}
