package ingest

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/rawjson"
)

// rawUsage is the property with the provider's own usage object.
const rawUsage = "$ai_usage"

// readRawUsage reads counts that have no property of their own: tokens by
// modality, cache writes by lifetime, what Anthropic's iterations add, and the
// cost that a model router reports (contract sections 3.2 and 4, steps 0 and
// 1). Named counts take precedence. The property is kept for PostHog, which
// reads it too.
func readRawUsage(e *event.Event) {
	raw := e.Properties[rawUsage]
	if len(raw) == 0 || raw[0] != '{' || !e.IsCosted() {
		return
	}
	// PostHog's wrappers pass on the provider's object; the Vercel AI SDK's is nested
	// in its own, whose names differ by version.
	for _, path := range [...][]string{
		nil, {"rawResponse", "usageMetadata"}, {"providerMetadata", "google"},
		{"rawUsage", "providerMetadata", "google"}, {"rawUsage", "usage", "raw"}, {"rawUsage", "rawResponse", "usageMetadata"}, {"usage", "raw"},
		{"providerMetadata", "anthropic", "usage"}, {"rawUsage", "providerMetadata", "anthropic", "usage"},
	} {
		of := at(raw, path...)
		readModalities(&e.Usage, of)
		readCaches(e, of)
	}
	for _, path := range [...][]string{
		{"cost"}, {"providerMetadata", "openrouter", "usage", "cost"}, {"providerMetadata", "gateway", "cost"},
		{"usage", "raw", "cost"}, {"rawUsage", "usage", "raw", "cost"}, {"rawUsage", "providerMetadata", "openrouter", "usage", "cost"}, {"rawUsage", "providerMetadata", "gateway", "cost"},
	} {
		if d, ok := dollars(at(raw, path...)); ok && !e.Usage.ReportedCost.Known {
			e.Usage.ReportedCost = event.Some(d)
		}
	}
	// With the team's own provider key OpenRouter's cost is only its fee; the
	// provider's cost is reported separately.
	fee, known := dollars(at(raw, "cost"))
	if d, ok := dollars(at(raw, "cost_details", "upstream_inference_cost")); ok && known && string(at(raw, "is_byok")) == "true" {
		e.Usage.ReportedCost = event.Some(fee.Add(d))
	}
}

// dollars parses a number, or one in a string.
func dollars(v json.RawMessage) (decimal.Decimal, bool) {
	if len(v) == 0 || v[0] == '{' || v[0] == '[' {
		return decimal.Decimal{}, false
	}
	return event.Dollars(rawjson.Text(v))
}

// readCaches reads the provider's own counts of cached tokens, and the sum over
// Anthropic's iterations where the named counts are those of the top level.
func readCaches(e *event.Event, of json.RawMessage) {
	u := &e.Usage
	for _, f := range []struct {
		to *event.Int
		at []string
	}{
		{&u.CacheWrite5m, []string{"cache_creation", "ephemeral_5m_input_tokens"}}, {&u.CacheWrite1h, []string{"cache_creation", "ephemeral_1h_input_tokens"}},
		{&u.CacheWrite12h, []string{"prompt_tokens_details", "cache_write_tokens_details", "ttl_12h_tokens"}}, {&u.CacheWrite12h, []string{"input_tokens_details", "cache_write_tokens_details", "ttl_12h_tokens"}},
		{&u.CacheRead, []string{"cached_tokens"}}, // Moonshot
	} {
		fill(f.to, at(of, f.at...))
	}
	if list := at(of, "iterations"); len(list) > 0 && list[0] == '[' {
		var top event.Int
		if fill(&top, at(of, "input_tokens")); top == u.Input {
			e.SetIterations(string(list))
			u.CacheExclusive = event.Some(true)
		}
	}
}

// fill sets an unknown count from one that is not 0: providers report 0 for
// what they do not support.
func fill(to *event.Int, n json.RawMessage) {
	f, err := strconv.ParseFloat(string(n), 64)
	if count, ok := event.Count(f); (err == nil || math.IsInf(f, 0)) && ok && count != 0 && !to.Known {
		*to = event.Some(count)
	}
}

// at follows names into objects; nil if one is missing.
func at(v json.RawMessage, path ...string) json.RawMessage {
	for _, name := range path {
		var next json.RawMessage
		for key, member := range rawjson.Members(v) {
			if string(key) == name {
				next = member
			}
		}
		v = next
	}
	return v
}

// readModalities reads Gemini's lists of {modality, tokenCount}, under the
// names of the API and of the Python SDK, and OpenAI's details of the prompt.
func readModalities(u *event.Usage, v json.RawMessage) {
	for key, details := range rawjson.Members(v) {
		var audio, image, words, video, document *event.Int
		switch string(key) {
		case "promptTokensDetails", "prompt_tokens_details":
			audio, image, words, video, document = &u.InputAudio, &u.InputImage, &u.InputText, &u.InputVideo, &u.InputDocument
		case "candidatesTokensDetails", "candidates_tokens_details":
			audio, image, words, video = &u.OutputAudio, &u.OutputImage, &u.OutputText, &u.OutputVideo
		case "outputTokenDetails":
			image = &u.OutputImage // its text excludes the reasoning, which is billed like text
		case "cacheTokensDetails", "cache_tokens_details":
			audio = &u.CacheReadAudio
		default:
			continue
		}
		to := map[string]*event.Int{"audio": audio, "image": image, "text": words, "video": video, "document": document}
		for detail := range rawjson.Elements(details) {
			kind := strings.ToLower(rawjson.Text(at(detail, "modality")))
			n := at(detail, "tokenCount")
			if n == nil {
				n = at(detail, "token_count")
			}
			if field := to[kind]; field != nil {
				fill(field, n)
			}
		}
		for kind, field := range to {
			if field == nil {
				continue
			}
			for _, name := range [...]string{kind + "Tokens", kind + "_tokens"} { // the AI SDK's and OpenAI's names
				if n := at(details, name); n != nil {
					fill(field, n)
				}
			}
		}
		if n := at(details, "cached_tokens_details", "audio_tokens"); n != nil {
			fill(&u.CacheReadAudio, n)
		}
	}
}
