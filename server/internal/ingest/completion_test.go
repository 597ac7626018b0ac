package ingest_test

import (
	"testing"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/ingest"
)

// TestWholeCompletion has an event of LiteLLM's callback, with the provider's
// response instead of its messages.
func TestWholeCompletion(t *testing.T) {
	h, k := newHandler(t, ingest.Config{})
	const usage = `"usage":{"completion_tokens":312,"prompt_tokens":1284,"completion_tokens_details":{"reasoning_tokens":64},"prompt_tokens_details":{"audio_tokens":null,"cached_tokens":1024}},"service_tier":"default"`
	type figures struct {
		in, out, read, write, write5m, reasoning int64
		exclusive                                bool
	}
	for name, c := range map[string]struct {
		properties, output, stop, id string
		want                         figures
	}{
		"text": {`"$ai_model":"gpt-4.1-mini","$ai_provider":"openai","$ai_input_tokens":1284,"$ai_output_tokens":312,"$ai_output_choices":{"id":"chatcmpl-1","model":"gpt-4.1-mini-2025-04-14","object":"chat.completion","choices":[{"finish_reason":"stop","index":0,"message":{"content":"an answer","role":"assistant","tool_calls":null,"function_call":null,"refusal":null},"logprobs":null}],` + usage + `}`,
			`[{"content":"an answer","role":"assistant"}]`, "stop", "chatcmpl-1", figures{in: 1284, out: 312, read: 1024, reasoning: 64}},
		"tools": {`"$ai_model":"gpt-4.1-mini","$ai_provider":"openai","$ai_input_tokens":1284,"$ai_output_tokens":312,"$ai_output_choices":{"id":"chatcmpl-2","choices":[{"finish_reason":"tool_calls","message":{"content":null,"role":"assistant","tool_calls":[{"function":{"arguments":"{}","name":"get_weather"},"id":"call_1","type":"function"}]}}],` + usage + `}`,
			`[{"content":null,"role":"assistant","tool_calls":[{"function":{"arguments":"{}","name":"get_weather"},"id":"call_1","type":"function"}]}]`, "tool_calls", "chatcmpl-2", figures{in: 1284, out: 312, read: 1024, reasoning: 64}},
		"Claude": {`"$ai_model":"claude-sonnet-4-5","$ai_provider":"anthropic","$ai_input_tokens":7100,"$ai_output_tokens":50,"$ai_output_choices":{"id":"chatcmpl-3","choices":[{"finish_reason":"stop","message":{"content":"an answer","role":"assistant"}}],"usage":{"completion_tokens":50,"prompt_tokens":7100,"prompt_tokens_details":{"cache_write_tokens":2000,"cached_tokens":5000,"cache_creation_token_details":{"ephemeral_5m_input_tokens":2000,"ephemeral_1h_input_tokens":0}}}}`,
			`[{"content":"an answer","role":"assistant"}]`, "stop", "chatcmpl-3", figures{in: 7100, out: 50, read: 5000, write: 2000, write5m: 2000}},
	} {
		t.Run(name, func(t *testing.T) {
			k.reset()
			w := call(h, "POST", "/batch/", batchOf(settings.def.Token, `{"event":"$ai_generation","distinct_id":"d","properties":{`+c.properties+`}}`))
			if w.Code != 200 || len(k.events(t)) != 1 {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			e := k.events(t)[0]
			u := e.Usage
			got := figures{u.Input.Value, u.Output.Value, u.CacheRead.Value, u.CacheWrite.Value, u.CacheWrite5m.Value, u.Reasoning.Value, u.CacheExclusive.Or(true)}
			if got != c.want || string(e.Content.Output) != c.output || e.StopReason != c.stop || e.CompletionID != c.id {
				t.Errorf("%+v %s %s %s", got, e.Content.Output, e.StopReason, e.CompletionID)
			}
		})
	}
}

// TestGenerationIDIsASpan has the span tree of @mastra/posthog: the span's
// parent is the generation's $ai_generation_id.
func TestGenerationIDIsASpan(t *testing.T) {
	h, k := newHandler(t, ingest.Config{})
	w := call(h, "POST", "/i/v0/ai/batch/", batchOf(settings.def.Token,
		`{"event":"$ai_span","distinct_id":"d","properties":{"$ai_trace_id":"t","$ai_parent_id":"g","$ai_span_id":"s"}}`,
		`{"event":"$ai_generation","distinct_id":"d","properties":{"$ai_trace_id":"t","$ai_parent_id":"t","$ai_generation_id":"g","$ai_provider":"openai.responses","$ai_model":"gpt-4.1-mini"}}`,
		`{"event":"$ai_generation","distinct_id":"d","properties":{"$ai_trace_id":"t","$ai_generation_id":"x","$ai_span_id":"own","$ai_provider":"openai.chat","$ai_model":"gpt-4.1-mini"}}`))
	got := k.events(t)
	if w.Code != 200 || len(got) != 3 {
		t.Fatalf("%d %s, %d events", w.Code, w.Body, len(got))
	}
	if got[1].Name != event.Generation || got[1].SpanID != got[0].ParentID || got[1].SpanID != "g" || got[2].SpanID != "own" {
		t.Errorf("spans %q under %q, %q, %q", got[0].SpanID, got[0].ParentID, got[1].SpanID, got[2].SpanID)
	}
	for _, e := range got[1:] {
		if e.Provider != "openai" {
			t.Errorf("provider %q", e.Provider)
		}
	}
}
