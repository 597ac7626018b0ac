package privacy

import (
	"encoding/json"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"github.com/hedgerow/hedgerow/event"
)

// longText is the length from which a text on an LLM event is treated as
// content, whatever its name.
const longText = 1024

// withoutContent returns the properties that do not contain content by their
// name, shape or length. They are stored for events without content; it is also
// the rule for product events.
func withoutContent(e *event.Event) map[string]json.RawMessage {
	if len(e.Properties) == 0 {
		return e.Properties
	}
	llm := aboutLLM(e)
	out := make(map[string]json.RawMessage, len(e.Properties))
	for k, v := range e.Properties {
		if k == "$ai_feedback_text" && len(v) > 2 && v[0] == '"' {
			// Text written by a user; its length is safe.
			out["feedback_length"], _ = json.Marshal(characters(string(v)))
			continue
		}
		if safe, ok := withoutText(k, v, llm, 0); ok {
			out[k] = safe
		}
	}
	return out
}

// withoutText returns the value without content, and whether any of it
// remains.
func withoutText(name string, v json.RawMessage, llm bool, depth int) (json.RawMessage, bool) {
	if len(v) == 0 {
		return v, true
	}
	switch v[0] {
	case '"':
		if contentName(name, llm) || llm && len(v) > longText && !strings.HasPrefix(name, "$set") {
			return nil, false
		}
	case '[', '{':
		if contentName(name, llm) || depth > 8 || messages(gjson.ParseBytes(v)) {
			return nil, false
		}
		if v[0] == '[' {
			return listWithoutText(name, v, llm, depth)
		}
		var m map[string]json.RawMessage
		if json.Unmarshal(v, &m) != nil {
			return nil, false
		}
		changed := false
		for k, item := range m {
			safe, ok := withoutText(k, item, llm, depth+1)
			if !ok {
				delete(m, k)
				changed = true
			} else if !same(safe, item) {
				m[k] = safe
				changed = true
			}
		}
		if !changed {
			return v, true
		}
		b, err := json.Marshal(m)
		return b, err == nil
	}
	return v, true
}

func listWithoutText(name string, v json.RawMessage, llm bool, depth int) (json.RawMessage, bool) {
	var list []json.RawMessage
	if json.Unmarshal(v, &list) != nil {
		return nil, false
	}
	changed := false
	kept := list[:0]
	for _, item := range list {
		safe, ok := withoutText(name, item, llm, depth+1)
		changed = changed || !ok || !same(safe, item)
		if ok {
			kept = append(kept, safe)
		}
	}
	if !changed {
		return v, true
	}
	b, err := json.Marshal(kept)
	return b, err == nil
}

// messages reports whether a value is a message or a list of them, by its shape.
func messages(v gjson.Result) bool {
	if v.IsArray() {
		v = v.Get("0")
	}
	return v.IsObject() && (v.Get("role").Exists() || v.Get("type").Exists()) &&
		(v.Get("content").Exists() || v.Get("parts").Exists() || v.Get("text").Exists())
}

// contentNames are properties known to contain content, in lower case:
// PostHog's, OpenTelemetry's GenAI conventions, and the libraries of contract
// section 5.4.
var contentNames = map[string]bool{
	"$ai_input": true, "$ai_output": true, "$ai_output_choices": true, "$ai_input_state": true, "$ai_output_state": true,
	"$ai_instructions": true, "$ai_feedback_text": true, "$ai_expected": true, "$ai_evaluation_reasoning": true,
	"$ai_error": true, "$ai_error_normalized": true, "$ai_tools": true, "$ai_model_parameters": true, "$ai_provider_metadata": true,
	"gen_ai.system_instructions": true, "gen_ai.tool.definitions": true, "gen_ai.tool.description": true,
	"gen_ai.tool.call.arguments": true, "ai.value": true, "ai.values": true, "gen_ai.tool.call.result": true, "gen_ai.tool.message": true,
	"gen_ai.choice": true, "gen_ai.user.message": true, "gen_ai.system.message": true, "gen_ai.assistant.message": true,
	"ai.toolcall.args": true, "ai.toolcall.result": true, "ai.response.object": true, "ai.response.toolcalls": true,
	"llm.prompts": true, "llm.prompt_template.template": true, "llm.prompt_template.variables": true, "llm.function_call": true,
	"tool.parameters": true, "tool.json_schema": true, "exception.message": true, "exception.stacktrace": true, "error.message": true,
}

// contentPrefixes are prefixes of such properties.
var contentPrefixes = []string{
	"gen_ai.prompt", "gen_ai.completion", "gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.content",
	"ai.prompt", "ai.response.text", "llm.input_messages", "llm.output_messages", "llm.prompts.", "llm.completions",
	"traceloop.entity.input", "traceloop.entity.output", "input.value", "output.value", "langfuse.observation.input",
	"langfuse.observation.output", "langfuse.trace.input", "langfuse.trace.output", "retrieval.documents", "embedding.embeddings", "reranker.",
}

// contentWords are last words of a name that make a text under it content:
// prompt, user_prompt, systemPrompt, request.messages; but not prompt_name or
// output_category. The second group applies to LLM events only.
var contentWords = map[string]bool{
	"prompt": true, "prompts": true, "completion": true, "completions": true, "input": true, "inputs": true, "output": true, "outputs": true,
	"message": true, "messages": true, "instruction": true, "instructions": true, "transcript": true, "conversation": true, "history": true,
	"answer": true, "answers": true, "response": true, "responses": true, "reply": true, "content": true, "contents": true,
}

var contentWordsLLM = map[string]bool{
	"text": true, "texts": true, "body": true, "query": true, "question": true, "questions": true, "document": true, "documents": true,
	"context": true, "contexts": true, "chunk": true, "chunks": true, "passage": true, "passages": true, "summary": true, "generation": true,
	"arguments": true, "args": true, "result": true, "results": true, "expected": true, "reasoning": true, "thinking": true, "comment": true,
	"template": true, "variables": true, "payload": true, "request": true,
}

// contentName reports whether a text under this name is content.
func contentName(name string, llm bool) bool {
	low := strings.ToLower(name)
	if contentNames[low] {
		return true
	}
	for _, p := range contentPrefixes {
		if strings.HasPrefix(low, p) {
			return true
		}
	}
	if strings.HasPrefix(name, "$") && !strings.HasPrefix(name, "$ai_") {
		return false // PostHog's own, such as $el_text
	}
	last := lastWord(name)
	return contentWords[last] || llm && contentWordsLLM[last]
}

// lastWord returns the last word of a name in snake, kebab, dotted or camel case.
func lastWord(name string) string {
	name = strings.TrimRightFunc(name, func(r rune) bool { return !unicode.IsLetter(r) })
	from := len(name)
	for from > 0 {
		r, size := utf8.DecodeLastRuneInString(name[:from])
		if !unicode.IsLetter(r) {
			break
		}
		from -= size
		if unicode.IsUpper(r) {
			if prev, _ := utf8.DecodeLastRuneInString(name[:from]); unicode.IsLower(prev) {
				break
			}
		}
	}
	return strings.ToLower(name[from:])
}
