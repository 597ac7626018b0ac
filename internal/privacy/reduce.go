package privacy

import (
	"encoding/json"

	"github.com/tidwall/gjson"
)

// word returns s if it is a word of an enumeration, and other if it is text.
func word(s, other string) string {
	if s == "" || isWord(s) {
		return s
	}
	return other
}

// isWord reports whether s looks like an enumeration value or an id: at most
// 64 letters, digits and connectors.
func isWord(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		if class[s[i]]&(wordy|dot) == 0 && s[i] != ':' && s[i] != '/' {
			return false
		}
	}
	return true
}

// enumerations are the parameters whose values are from a fixed list, and the
// metadata with names of machines. Any other text may have been written by a
// user.
var enumerations = map[string]bool{
	"service_tier": true, "reasoning_effort": true, "effort": true, "verbosity": true, "truncation": true, "tool_choice": true,
	"encoding_format": true, "quality": true, "size": true, "style": true, "background": true, "language": true,
	"response_format": true, "output_format": true, "modalities": true, "type": true, "summary": true, "thinking": true,
	"reasoning": true, "voice": true, "format": true, "speed": true, "include": true, "timestamp_granularities": true,
}

var machines = map[string]bool{
	"system_fingerprint": true, "request_id": true, "region": true, "model_version": true, "service_tier": true, "provider": true,
	"provider_name": true, "organization": true, "deployment": true, "api_version": true, "apim_request_id": true, "response_id": true,
	"generation_id": true, "processing_ms": true, "inference_geo": true, "type": true, "cf_ray": true, "object": true, "speed": true,
}

// reduce keeps the values of a map that cannot contain user text.
func reduce(m map[string]json.RawMessage, metadata bool) map[string]json.RawMessage {
	if len(m) == 0 {
		return m
	}
	known := enumerations
	if metadata {
		known = machines
	}
	out := make(map[string]json.RawMessage, len(m))
	for k, v := range m {
		if !isWord(k) {
			continue
		}
		if kept, ok := skeleton(k, gjson.ParseBytes(v), known, 2); ok {
			out[k] = kept
		}
	}
	return out
}

// skeleton returns the numbers, booleans and enumerated words of a value.
func skeleton(key string, v gjson.Result, known map[string]bool, depth int) (json.RawMessage, bool) {
	switch {
	case v.Type == gjson.Number, v.Type == gjson.True, v.Type == gjson.False:
		return json.RawMessage(v.Raw), true
	case v.Type == gjson.String:
		return json.RawMessage(v.Raw), known[key] && isWord(v.Str)
	case depth == 0 || !known[key]:
		return nil, false
	case v.IsArray():
		out := []byte{'['}
		v.ForEach(func(_, item gjson.Result) bool {
			if kept, ok := skeleton(key, item, known, 0); ok {
				if len(out) > 1 {
					out = append(out, ',')
				}
				out = append(out, kept...)
			}
			return true
		})
		return append(out, ']'), len(out) > 1
	case v.IsObject():
		// Of an object, the members that are enumerations: the type of a
		// response format, not its schema.
		out := make(map[string]json.RawMessage)
		v.ForEach(func(k, item gjson.Result) bool {
			name := k.String()
			if !known[name] && !budget(name) {
				return true
			}
			if kept, ok := skeleton(name, item, known, depth-1); ok {
				out[name] = kept
			}
			return true
		})
		if len(out) == 0 {
			return nil, false
		}
		b, err := json.Marshal(out)
		return b, err == nil
	}
	return nil, false
}

func budget(name string) bool {
	return name == "budget_tokens" || name == "max_tokens" || name == "enabled" || name == "exclude"
}

// toolNames reduces tool definitions to their names, in their original format.
func toolNames(tools json.RawMessage) json.RawMessage {
	list := gjson.ParseBytes(tools)
	if !list.IsArray() {
		return nil
	}
	type named struct {
		Name string `json:"name"`
	}
	type tool struct {
		Type     string `json:"type,omitzero"`
		Name     string `json:"name,omitzero"`
		Function *named `json:"function,omitzero"`
	}
	var out []tool
	add := func(v gjson.Result) {
		t := tool{Type: v.Get("type").String()}
		if !isWord(t.Type) {
			t.Type = ""
		}
		if name := v.Get("function.name").String(); isWord(name) {
			t.Function = &named{name}
		} else if name := v.Get("name").String(); isWord(name) {
			t.Name = name
		}
		if t != (tool{}) {
			out = append(out, t)
		}
	}
	list.ForEach(func(_, v gjson.Result) bool {
		group := v.Get("functionDeclarations") // Gemini
		if !group.IsArray() {
			add(v)
			return true
		}
		group.ForEach(func(_, v gjson.Result) bool {
			add(v)
			return true
		})
		return true
	})
	if len(out) == 0 {
		return nil
	}
	b, err := json.Marshal(out)
	if err != nil {
		return nil
	}
	return b
}
