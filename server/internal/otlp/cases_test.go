package otlp_test

import (
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/price"
	"github.com/hedgerow/hedgerow/server/internal/otlp"
)

// TestUsageCases has spans whose provider, tokens or cost were once wrong.
func TestUsageCases(t *testing.T) {
	for name, c := range map[string]struct {
		scope    string
		attrs    attrs
		provider string
		output   int64
		cost     string
	}{
		"Google ADK names its framework as the provider": {
			"gcp.vertex.agent", attrs{"gen_ai.operation.name": "generate_content", "gen_ai.system": "gcp.vertex.agent", "gen_ai.request.model": "gemini-2.5-flash", "gen_ai.usage.input_tokens": 361, "gen_ai.usage.output_tokens": 53},
			"google-vertex", 53, "0.0002408",
		},
		"OpenInference leaves Gemini's thoughts out of the completion, not of the total": {
			"openinference.instrumentation.google_genai", attrs{"openinference.span.kind": "LLM", "llm.model_name": "gemini-2.5-flash", "llm.provider": "google", "llm.token_count.prompt": 20, "llm.token_count.completion": 198, "llm.token_count.total": 623},
			"gemini", 603, "0.0015135",
		},
		"Bedrock counts cached tokens apart from the input": {
			"opentelemetry.instrumentation.bedrock", attrs{"gen_ai.operation.name": "chat", "gen_ai.provider.name": "aws.bedrock", "gen_ai.request.model": "anthropic.claude-sonnet-4-5-20250929-v1:0", "gen_ai.usage.input_tokens": 1200, "gen_ai.usage.output_tokens": 40, "gen_ai.usage.cache_read.input_tokens": 1000},
			"amazon-bedrock", 40, "0.00495",
		},
	} {
		start, end := int64(0), int64(1500)
		s := &trace.Span{Name: "s", TraceId: unhex(t, traceID), SpanId: unhex(t, "00000000000000a1"), StartTimeUnixNano: nano(&start), EndTimeUnixNano: nano(&end), Attributes: attributes(c.attrs)}
		events, _, rejected := otlp.Convert("default", &collector.ExportTraceServiceRequest{ResourceSpans: []*trace.ResourceSpans{{ScopeSpans: []*trace.ScopeSpans{{Scope: &common.InstrumentationScope{Name: c.scope}, Spans: []*trace.Span{s}}}}}})
		if rejected > 0 || len(events) != 1 {
			t.Fatalf("%s: %d events, %d rejected", name, len(events), rejected)
		}
		e := events[0]
		price.Default().Price(e)
		if e.Provider != c.provider || e.Usage.Output != event.Some(c.output) || !e.Cost.Total.Known || e.Cost.Total.Value.String() != c.cost {
			t.Errorf("%s: provider %q, usage %+v, cost %+v", name, e.Provider, e.Usage, e.Cost.Total)
		}
	}
}
