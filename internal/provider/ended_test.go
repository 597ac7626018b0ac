package provider_test

import (
	"testing"

	"github.com/hedgerow/hedgerow/internal/provider"
	simprovider "github.com/hedgerow/hedgerow/internal/simulate/provider"
)

func TestStreamEnded(t *testing.T) {
	const amazon = "application/vnd.amazon.eventstream"
	const sse = "text/event-stream; charset=utf-8"
	for _, tt := range []struct {
		dialect    provider.Dialect
		kind, last string
		want       bool
	}{
		{provider.OpenAI, sse, "data: {}\n\ndata: [DONE]\n\n", true},
		{provider.OpenAI, sse, "data: {}\r\n\r\ndata: [DONE]\r\n\r\n", true},
		{provider.OpenAI, sse, `data: {"content":"data: [DONE]"}` + "\n\n", false},
		{provider.OpenAI, sse, `data: {"error":{"message":"no"}}` + "\n\n", true},
		{provider.OpenAI, sse, "event: response.completed\ndata: {}\n\n", true},
		{provider.Anthropic, sse, "event: message_stop\ndata: {}\n\n", true},
		{provider.Anthropic, sse, "event: message_delta\ndata: {}\n\n", false},
		{provider.Gemini, sse, `data: {"candidates":[{"finishReason":"STOP"}]}` + "\n\n", true},
		{provider.Gemini, "application/json", `{"candidates":[{"finishReason":"STOP"}`, false},
		{provider.OpenAI, "application/json", "data: [DONE]", false},
		{provider.OpenAI, "text/event-stream", "event: message-end\ndata: {\"type\":\"message-end\"}\n\n", true},
		{provider.OpenAI, "application/x-ndjson", `{"message":{"content":"a"},"done":false}` + "\n", false},
		{provider.OpenAI, "application/x-ndjson", `{"message":{"content":"{\"error\":1}"},"done":false}` + "\n", false},
		{provider.OpenAI, "application/x-ndjson", `{"done":true,"total_duration":12}` + "\n", true},
		{provider.OpenAI, "application/x-ndjson", "{}\n" + `{"error":"no"}` + "\n", true},
		{provider.OpenAI, amazon, "cut" + string(simprovider.AmazonEvents(`messageStop {"stopReason":"end_turn"}`)), false},
		{provider.OpenAI, amazon, "cut" + string(simprovider.AmazonEvents("messageStop {}\nmetadata {}")), true},
		{provider.OpenAI, amazon, string(simprovider.AmazonEvents(`chunk {"type":"message_stop"}`)), true},
		{provider.OpenAI, amazon, "cut" + string(simprovider.AmazonEvents(`chunk {"generation":"","stop_reason":"stop","amazon-bedrock-invocationMetrics":{}}`)), true},
		{provider.OpenAI, amazon, "cut" + string(simprovider.AmazonEvents(`chunk {"generation":"","stop_reason":"stop"}`)), false},
		{provider.OpenAI, amazon, string(simprovider.AmazonEvents(`throttlingException {"message":"slow"}`)), true},
		{provider.OpenAI, sse, "", false},
	} {
		if got := provider.StreamEnded(tt.dialect, tt.kind, []byte(tt.last)); got != tt.want {
			t.Errorf("%s %s %q: %v", tt.dialect, tt.kind, tt.last, got)
		}
	}
}
