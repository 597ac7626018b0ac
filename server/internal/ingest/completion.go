package ingest

import (
	"encoding/json"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/rawjson"
)

// readCompletion reads an output that is a complete chat completions response
// of OpenAI, as LiteLLM's callback sends it: the messages become the output,
// and the rest fills fields that the event does not set. The input count of
// this format includes cached tokens.
func readCompletion(e *event.Event) {
	response := e.Content.Output
	if !e.IsCosted() || len(response) == 0 || response[0] != '{' {
		return
	}
	choices := at(response, "choices")
	if len(choices) == 0 || choices[0] != '[' {
		return
	}
	output := []byte{'['}
	for choice := range rawjson.Elements(choices) {
		if e.StopReason == "" {
			e.StopReason = rawjson.Text(at(choice, "finish_reason"))
		}
		message := at(choice, "message")
		if isNull(message) || message[0] != '{' {
			continue
		}
		if len(output) > 1 {
			output = append(output, ',')
		}
		output = appendMessage(output, message)
	}
	e.Content.Output = append(output, ']')
	for _, f := range []struct {
		to   *string
		name string
	}{{&e.CompletionID, "id"}, {&e.SystemFingerprint, "system_fingerprint"}, {&e.ServiceTier, "service_tier"}} {
		if *f.to == "" {
			*f.to = rawjson.Text(at(response, f.name))
		}
	}
	if model := rawjson.Text(at(response, "model")); model != "" && (e.Model == "" || e.ModelAsked == "") && model != e.Model {
		if e.ModelAsked == "" {
			e.ModelAsked = e.Model
		}
		e.Model = model
	}
	usage := at(response, "usage")
	u := &e.Usage
	for _, f := range []struct {
		to *event.Int
		at []string
	}{
		{&u.Input, []string{"prompt_tokens"}}, {&u.Output, []string{"completion_tokens"}},
		{&u.CacheRead, []string{"prompt_tokens_details", "cached_tokens"}}, {&u.CacheRead, []string{"cache_read_input_tokens"}},
		{&u.CacheWrite, []string{"prompt_tokens_details", "cache_write_tokens"}}, {&u.CacheWrite, []string{"cache_creation_input_tokens"}},
		{&u.CacheWrite5m, []string{"prompt_tokens_details", "cache_creation_token_details", "ephemeral_5m_input_tokens"}},
		{&u.CacheWrite1h, []string{"prompt_tokens_details", "cache_creation_token_details", "ephemeral_1h_input_tokens"}},
		{&u.Reasoning, []string{"completion_tokens_details", "reasoning_tokens"}},
	} {
		fill(f.to, at(usage, f.at...))
	}
	if !u.CacheExclusive.Known && (u.CacheRead.Known || u.CacheWrite.Known) {
		u.CacheExclusive = event.Some(false)
	}
	if e.Speed == "" {
		e.Speed = rawjson.Text(at(usage, "speed"))
	}
	if e.InferenceGeo == "" {
		e.InferenceGeo = rawjson.Text(at(usage, "inference_geo"))
	}
}

// appendSaid appends a message without its null members.
func appendMessage(dst []byte, message json.RawMessage) []byte {
	dst = append(dst, '{')
	first := true
	for key, v := range rawjson.Members(message) {
		if isNull(v) && string(key) != "content" {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(append(append(append(dst, '"'), key...), '"', ':'), v...)
	}
	return append(dst, '}')
}
