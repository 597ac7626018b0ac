package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/hedgerow/hedgerow/event"
)

// geminiParams maps OpenAI's parameter names, which prompts and datasets use, to
// Gemini's; all are in generationConfig.
var geminiParams = map[string]string{
	"max_tokens": "maxOutputTokens", "max_completion_tokens": "maxOutputTokens", "max_output_tokens": "maxOutputTokens", "stop": "stopSequences", "n": "candidateCount",
	"top_p": "topP", "top_k": "topK", "presence_penalty": "presencePenalty", "frequency_penalty": "frequencyPenalty",
}

// geminiTop are the request members that are not part of generationConfig.
var geminiTop = []string{"tools", "toolConfig", "tool_config", "safetySettings", "safety_settings", "cachedContent", "cached_content", "labels"}

// geminiRequest is [Own.request] for the Gemini API
// (ai.google.dev/api/generate-content).
func (o *InternalCall) geminiRequest() (path string, body map[string]any, err error) {
	type parts struct {
		Role  string `json:"role,omitempty"`
		Parts []any  `json:"parts"`
	}
	var system []any
	contents := []parts{}
	for i, m := range o.Messages {
		list, err := geminiParts(m.Content)
		if err != nil {
			return "", nil, event.Invalid(fmt.Sprintf("message %d cannot be sent to Gemini: %v", i+1, err), "send text, or parts in Gemini's own format")
		}
		switch m.Role {
		case "system", "developer":
			system = append(system, list...)
		case "user":
			contents = append(contents, parts{"user", list})
		case "assistant", "model":
			contents = append(contents, parts{"model", list})
		default:
			return "", nil, event.Invalid(fmt.Sprintf("message %d cannot be sent to Gemini: its role is neither user nor model", i+1), "tool results have another format for each provider; use the provider of the original conversation")
		}
	}
	body = map[string]any{"contents": contents}
	if len(system) > 0 {
		body["systemInstruction"] = parts{Parts: system}
	}
	config := map[string]any{}
	if o.MaxTokens > 0 {
		config["maxOutputTokens"] = o.MaxTokens
	}
	if len(o.Schema) > 0 {
		config["responseMimeType"], config["responseJsonSchema"] = "application/json", o.Schema
	}
	if len(o.Tools) > 0 && string(o.Tools) != "null" {
		body["tools"] = o.Tools
	}
	for k, v := range o.Params {
		switch {
		case k == "generationConfig" || k == "generation_config":
			var own map[string]json.RawMessage
			if json.Unmarshal(v, &own) != nil {
				return "", nil, event.Invalid("generationConfig is not an object", "use the format of the Gemini API")
			}
			for k, v := range own {
				config[k] = v
			}
		case k == "stream" || k == "stream_options" || k == "response_format": // OpenAI only
		case slices.Contains(geminiTop, k):
			body[k] = v
		case k == "stop" && len(v) > 0 && v[0] == '"':
			config["stopSequences"] = []json.RawMessage{v} // a list in Gemini's API
		case geminiParams[k] != "":
			config[geminiParams[k]] = v
		default:
			config[k] = v
		}
	}
	if len(config) > 0 {
		body["generationConfig"] = config
	}
	return "/v1beta/models/" + url.PathEscape(strings.TrimPrefix(o.Model, "models/")) + ":generateContent", body, nil
}

// geminiParts converts a message's content to Gemini's parts.
func geminiParts(raw json.RawMessage) ([]any, error) {
	raw = plainContent(bytes.TrimSpace(raw))
	var text string
	if string(raw) != "null" && json.Unmarshal(raw, &text) == nil {
		return []any{map[string]string{"text": text}}, nil
	}
	var list []map[string]json.RawMessage
	if json.Unmarshal(raw, &list) != nil || len(list) == 0 {
		return nil, errors.New("it has no text")
	}
	out := make([]any, len(list))
	for i, p := range list {
		switch kind, ok := p["type"]; {
		case !ok:
			out[i] = p // already in Gemini's format
		case p["text"] != nil:
			out[i] = map[string]json.RawMessage{"text": p["text"]}
		default:
			return nil, fmt.Errorf("it has a part of type %s", kind)
		}
	}
	return out, nil
}
