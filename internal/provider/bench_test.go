package provider_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/internal/provider"
)

func BenchmarkParse(b *testing.B) {
	for _, x := range exchanges(b) {
		name := strings.TrimSuffix(x.path[strings.LastIndexByte(x.path, '/')+1:], ".txt")
		switch name {
		case "openai_chat", "openai_chat_stream_usage", "openai_responses_stream", "anthropic_messages_stream":
		default:
			continue
		}
		b.Run(name, func(b *testing.B) {
			b.SetBytes(x.call.RequestBytes + x.call.ResponseBytes)
			b.ReportAllocs()
			for b.Loop() {
				provider.Parse(&x.call)
			}
		})
	}
	chunk := `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1760000000,"model":"gpt-4.1-mini-2025-04-14","service_tier":"default","system_fingerprint":"fp_1","choices":[{"index":0,"delta":{"content":" hedge"},"logprobs":null,"finish_reason":null}]}` + "\n\n"
	c := &provider.Call{
		Provider: "openai", Dialect: provider.OpenAI, Method: "POST", Path: "/v1/chat/completions", Status: 200, Start: start, Latency: time.Second,
		Request:        []byte(`{"model":"gpt-4.1-mini","stream":true,"messages":[{"role":"user","content":"` + strings.Repeat("hedge ", 700) + `"}]}`),
		ResponseHeader: http.Header{"Content-Type": {"text/event-stream"}}, Response: []byte(strings.Repeat(chunk, 200)),
	}
	b.Run("stream_of_200", func(b *testing.B) {
		b.SetBytes(int64(len(c.Request) + len(c.Response)))
		b.ReportAllocs()
		for b.Loop() {
			provider.Parse(c)
		}
	})
}
