package ingest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/price"
	"github.com/hedgerow/hedgerow/server/internal/ingest"
)

// TestReportedFigures prices events of SDKs whose counts are wrong elsewhere
// according to public reports: counts found in $ai_usage only, Gemini's
// reasoning tokens, OpenRouter's way of counting.
func TestReportedFigures(t *testing.T) {
	h, k := newHandler(t, ingest.Config{})
	for _, c := range []struct {
		name, properties string
		want             string // all input, output, cache write of 1 h, of 12 h, video, documents; cost
	}{
		{"cache writes of 1 h", `"$ai_provider":"anthropic","$ai_model":"claude-opus-4-6","$ai_input_tokens":1000,"$ai_output_tokens":1000,"$ai_cache_creation_input_tokens":3000,"$ai_usage":{"cache_creation":{"ephemeral_1h_input_tokens":2000,"ephemeral_5m_input_tokens":1000}}`, "4000 1000 2000 ? ? ? 0.05625"},
		{"compaction", `"$ai_provider":"anthropic","$ai_model":"claude-opus-4-6","$ai_input_tokens":23000,"$ai_output_tokens":1000,"$ai_usage":{"input_tokens":23000,"output_tokens":1000,"iterations":[{"type":"compaction","input_tokens":180000,"output_tokens":3500},{"type":"message","input_tokens":23000,"output_tokens":1000}]}`, "203000 4500 ? ? ? ? 1.1275"},
		{"compaction that the SDK has added", `"$ai_provider":"anthropic","$ai_model":"claude-opus-4-6","$ai_input_tokens":203000,"$ai_output_tokens":4500,"$ai_usage":{"input_tokens":23000,"output_tokens":1000,"iterations":[{"type":"compaction","input_tokens":180000,"output_tokens":3500},{"type":"message","input_tokens":23000,"output_tokens":1000}]}`, "203000 4500 ? ? ? ? 1.1275"},
		{"an advisor", `"$ai_provider":"anthropic","$ai_model":"claude-opus-4-6","$ai_input_tokens":100,"$ai_output_tokens":10,"$ai_usage":{"input_tokens":100,"output_tokens":10,"iterations":[{"type":"message","input_tokens":100,"output_tokens":10},{"type":"advisor_message","model":"claude-haiku-4-5","input_tokens":1000,"output_tokens":100}]}`, "100 10 ? ? ? ? 0.00225"},
		{"cost in usage.raw", `"$ai_provider":"openrouter","$ai_model":"x/y","$ai_input_tokens":10,"$ai_output_tokens":10,"$ai_usage":{"usage":{"raw":{"cost":0.0125}}}`, "10 10 ? ? ? ? 0.0125"},
		{"cache writes of 12 h", `"$ai_provider":"openai","$ai_model":"x","$ai_input_tokens":11000,"$ai_output_tokens":0,"$ai_usage":{"input_tokens_details":{"cache_write_tokens":10000,"cache_write_tokens_details":{"ttl_12h_tokens":10000,"ttl_30m_tokens":0}}}`, "11000 0 ? 10000 ? ? ?"},
		{"video and documents", `"$ai_provider":"gemini","$ai_model":"gemini-2.5-flash","$ai_input_tokens":600,"$ai_output_tokens":0,"$ai_usage":{"promptTokensDetails":[{"modality":"VIDEO","tokenCount":300},{"modality":"DOCUMENT","tokenCount":258}]}`, "600 0 ? ? 300 258 0.00018"},
		{"thoughts of Gemini 2.5 in capitals", `"$ai_provider":"gemini","$ai_model":"GEMINI-2.5-PRO","$ai_input_tokens":1000,"$ai_output_tokens":100,"$ai_reasoning_tokens":900`, "1000 1000 ? ? ? ? 0.01125"},
		{"thoughts of Gemini 4", `"$ai_provider":"gemini","$ai_model":"gemini-4-argon","$ai_input_tokens":1000,"$ai_output_tokens":100,"$ai_reasoning_tokens":900`, "1000 1000 ? ? ? ? 0.012"},
		{"Gemini over OpenRouter", `"$ai_provider":"openai","$ai_base_url":"https://openrouter.ai/api/v1","$ai_model":"google/gemini-2.5-pro","$ai_input_tokens":1000,"$ai_output_tokens":1000,"$ai_reasoning_tokens":900`, "1000 1000 ? ? ? ? 0.01125"},
		{"Claude over OpenRouter, flag wrong", `"$ai_provider":"openai","$ai_base_url":"https://openrouter.ai/api/v1","$ai_model":"anthropic/claude-sonnet-4.6","$ai_cache_reporting_exclusive":true,"$ai_input_tokens":32611,"$ai_cache_read_input_tokens":27929,"$ai_output_tokens":561`, "32611 561 ? ? ? ? 0.0308397"},
	} {
		k.reset()
		w := call(h, "POST", "/i/v0/ai/batch/", batchOf(settings.def.Token, `{"event":"$ai_generation","distinct_id":"d","properties":{`+c.properties+`}}`))
		if w.Code != 200 || len(k.events(t)) != 1 {
			t.Fatalf("%s: %d %s", c.name, w.Code, w.Body)
		}
		e := k.events(t)[0]
		price.Default().Price(e)
		var got []string
		for _, n := range []event.Int{e.Usage.AllInput(), e.Usage.Output, e.Usage.CacheWrite1h, e.Usage.CacheWrite12h, e.Usage.InputVideo, e.Usage.InputDocument} {
			if got = append(got, "?"); n.Known {
				got[len(got)-1] = fmt.Sprint(n.Value)
			}
		}
		if got = append(got, "?"); e.Cost.Total.Known {
			got[len(got)-1] = e.Cost.Total.Value.String()
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s: %s, want %s", c.name, s, c.want)
		}
	}
}
