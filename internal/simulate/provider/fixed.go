package provider

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// FixedChunks is the number of text chunks in a stream of [Fixed].
const FixedChunks = 30

var (
	fixedAnswer = []byte(`{"id":"chatcmpl-FixedFixedFixedFixedFixedFixe","object":"chat.completion","created":1760000000,"model":"gpt-4.1-mini-2025-04-14","choices":[{"index":0,"message":{"role":"assistant","content":"` +
		strings.Repeat("A hedge keeps the wind out and lets the birds in. ", 11) +
		`","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":1024,"completion_tokens":132,"total_tokens":1156,"prompt_tokens_details":{"cached_tokens":512,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}},"service_tier":"default","system_fingerprint":"fp_fixed"}`)
	fixedLength = []string{strconv.Itoa(len(fixedAnswer))}
	fixedHead   = `data: {"id":"chatcmpl-FixedFixedFixedFixedFixedFixe","object":"chat.completion.chunk","created":1760000000,"model":"gpt-4.1-mini-2025-04-14","service_tier":"default","system_fingerprint":"fp_fixed","choices":`
	fixedChunk  = []byte(fixedHead + `[{"index":0,"delta":{"content":"hedge "},"logprobs":null,"finish_reason":null}],"usage":null}` + "\n\n")
	fixedFinish = []byte(fixedHead + `[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"usage":null}` + "\n\n")
	fixedUsage  = []byte(fixedHead + `[],"usage":{"prompt_tokens":1024,"completion_tokens":30,"total_tokens":1054,"prompt_tokens_details":{"cached_tokens":512,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}` + "\n\ndata: [DONE]\n\n")
	fixedJSON   = []string{"application/json"}
	fixedSSE    = []string{"text/event-stream; charset=utf-8"}
)

// Fixed returns a handler that responds to every POST like an OpenAI chat
// completion and as fast as net/http can: about 1 KB of JSON or, if the body
// has "stream":true, a stream of [FixedChunks] chunks with usage, each flushed.
// gap is the delay between two chunks; the request header X-Bench-Gap, a
// duration, overrides it. Nothing else of the request is checked.
func Fixed(gap time.Duration) http.Handler {
	streaming, streamingSpaced := []byte(`"stream":true`), []byte(`"stream": true`)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		h := w.Header()
		if !bytes.Contains(body, streaming) && !bytes.Contains(body, streamingSpaced) {
			h["Content-Type"], h["Content-Length"] = fixedJSON, fixedLength
			_, _ = w.Write(fixedAnswer)
			return
		}
		wait := gap
		if v := r.Header.Get("X-Bench-Gap"); v != "" {
			if d, err := time.ParseDuration(v); err == nil {
				wait = d
			}
		}
		h["Content-Type"] = fixedSSE
		rc := http.NewResponseController(w)
		for range FixedChunks {
			if _, err := w.Write(fixedChunk); err != nil {
				return
			}
			_ = rc.Flush()
			if wait > 0 {
				select {
				case <-time.After(wait):
				case <-r.Context().Done():
					return
				}
			}
		}
		_, _ = w.Write(fixedFinish)
		_, _ = w.Write(fixedUsage)
	})
}
