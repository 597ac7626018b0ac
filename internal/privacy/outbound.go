package privacy

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"github.com/hedgerow/hedgerow/event"
)

// OutPolicy says what may leave for one PostHog connection. Connections are made
// with PrivacyMode on.
type OutPolicy struct {
	// PrivacyMode keeps prompts, answers and everything that may echo them at
	// home.
	PrivacyMode bool

	// HashDistinctIDs replaces the ids of users by [HashID] under HashKey, the
	// project's own key, and drops what else says who they are. Without a key
	// the ids are dropped, and events leave personless.
	HashDistinctIDs bool
	HashKey         []byte

	// KeepProperties names custom properties that privacy mode lets out although
	// their name or value looks like content.
	KeepProperties []string
}

// Outbound returns a copy of the event that is fit to leave for PostHog; e is
// not changed.
//
// In privacy mode, and for every event that is itself marked Private:
//
//   - input, output and the states of spans and traces are gone, and Private is
//     set, so that $ai_input and $ai_output_choices are null on the wire;
//   - $ai_tools holds the tools' names and nothing else of them;
//   - the error message is one of a fixed list of sentences, chosen by what the
//     message is about ([SafeError]): providers quote prompts in errors;
//   - of model parameters and provider metadata, numbers, booleans and words of
//     known enumerations stay;
//   - custom properties that carry content are gone: by name ($ai_instructions,
//     $ai_feedback_text, gen_ai.input.messages, prompt, user_message, output …), by shape
//     (a list of messages), and on LLM events, llm_output_rated and its like among
//     them, by length (texts over 1,024 bytes).
//
// Derived fields, ids, names of spans and traces, tags, flags, groups and all
// other properties stay. Otherwise content leaves as it is kept at home, strings
// cut at [MaxString] bytes.
//
// With HashDistinctIDs the distinct id, $ai_user, and the ids in $identify,
// $create_alias and their like become hashes under one key, so that people are
// still told apart and aliases still hold; $set, $set_once, IP addresses, names
// and e-mail properties are gone, and PostHog is told not to guess a place.
// Session, trace and group ids are not hashed: they name no person by themselves.
func Outbound(e *event.Event, p OutPolicy) *event.Event {
	c := e.Clone()
	if p.PrivacyMode || e.Private {
		c.Content = event.Content{Tools: toolNames(c.Content.Tools)}
		c.Private = true
		withhold(c, p.KeepProperties)
	} else {
		for _, part := range []*json.RawMessage{&c.Content.Input, &c.Content.Output, &c.Content.Tools, &c.Content.InputState, &c.Content.OutputState} {
			if *part != nil {
				*part = Truncate(RedactBase64(*part), MaxString)
			}
		}
		for k, v := range c.Properties {
			c.Properties[k] = Truncate(v, MaxString)
		}
	}
	if p.HashDistinctIDs {
		anonymise(c, p.HashKey)
	}
	return c
}

// HashID returns the lower-case hex HMAC-SHA256 of id under key: the same user
// gives the same 64 characters within a project, and nobody without the key can
// try ids out. It returns "" for an empty id and for an empty key, because a
// hash without a key is open to guessing.
func HashID(key []byte, id string) string {
	if id == "" || len(key) == 0 {
		return ""
	}
	m := hmac.New(sha256.New, key)
	m.Write([]byte(id))
	return hex.EncodeToString(m.Sum(nil))
}

// withhold takes everything but the content itself out of the event that could
// tell of it. Maps are replaced, never written into.
func withhold(e *event.Event, keep []string) {
	e.ErrorMessage = SafeError(e.ErrorType, e.ErrorMessage, e.HTTPStatus)
	e.ErrorType = word(e.ErrorType, "error")
	e.StopReason = word(e.StopReason, "other")
	if e.ParseError != "" {
		e.ParseError = "the body could not be read in full"
	}
	e.ModelParameters = reduce(e.ModelParameters, false)
	e.ProviderMetadata = reduce(e.ProviderMetadata, true)
	e.Properties = withoutContent(e, keep)
}

// word returns s if it is a word of an enumeration, and other if it is text.
func word(s, other string) string {
	if s == "" || isWord(s) {
		return s
	}
	return other
}

// isWord reports whether s looks like a value of an enumeration or an id: at
// most 64 letters, digits and joining marks.
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

// enumerations are the parameters whose words are chosen from a list, and the
// metadata that names machines. Any other text may have been written by a person.
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

// reduce keeps of a map what cannot hold a person's words.
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
		// Of an object, the members that are enumerations themselves: the type
		// of a response format, not its schema.
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

// toolNames reduces tool definitions to their names, in the shape they had.
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

// longText is the length from which a text on an LLM event is taken for content,
// whatever its name.
const longText = 1024

// withoutContent returns the custom properties that carry no content.
func withoutContent(e *event.Event, keep []string) map[string]json.RawMessage {
	if len(e.Properties) == 0 {
		return e.Properties
	}
	// Outcomes in the llm_events vocabulary speak about answers as well.
	llm := e.IsLLM() || strings.HasPrefix(e.Name, "llm_")
	out := make(map[string]json.RawMessage, len(e.Properties))
	for k, v := range e.Properties {
		if slices.Contains(keep, k) {
			out[k] = v
			continue
		}
		if k == "$ai_feedback_text" && len(v) > 2 && v[0] == '"' {
			// A person's own words; how many there are is safe to tell.
			out["feedback_length"], _ = json.Marshal(characters(string(v)))
			continue
		}
		if safe, ok := withoutText(k, v, llm, 0); ok {
			out[k] = safe
		}
	}
	return out
}

// withoutText returns the value without what carries content, and whether any
// of it may stay.
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

// contentNames are properties known to carry content, in lower case: PostHog's,
// OpenTelemetry's GenAI conventions, and the libraries of contract section 5.4.
var contentNames = map[string]bool{
	"$ai_input": true, "$ai_output": true, "$ai_output_choices": true, "$ai_input_state": true, "$ai_output_state": true,
	"$ai_instructions": true, "$ai_feedback_text": true, "$ai_expected": true, "$ai_evaluation_reasoning": true,
	"$ai_error": true, "$ai_error_normalized": true, "$ai_tools": true, "$ai_model_parameters": true, "$ai_provider_metadata": true,
	"gen_ai.system_instructions": true, "gen_ai.tool.definitions": true, "gen_ai.tool.description": true,
	"gen_ai.tool.call.arguments": true, "gen_ai.tool.call.result": true, "gen_ai.tool.message": true,
	"gen_ai.choice": true, "gen_ai.user.message": true, "gen_ai.system.message": true, "gen_ai.assistant.message": true,
	"ai.toolcall.args": true, "ai.toolcall.result": true, "ai.response.object": true, "ai.response.toolcalls": true,
	"llm.prompts": true, "llm.prompt_template.template": true, "llm.prompt_template.variables": true, "llm.function_call": true,
	"tool.parameters": true, "tool.json_schema": true, "exception.message": true, "exception.stacktrace": true, "error.message": true,
}

// contentPrefixes are families of such properties.
var contentPrefixes = []string{
	"gen_ai.prompt", "gen_ai.completion", "gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.content",
	"ai.prompt", "ai.response.text", "llm.input_messages", "llm.output_messages", "llm.prompts.", "llm.completions",
	"traceloop.entity.input", "traceloop.entity.output", "input.value", "output.value", "langfuse.observation.input",
	"langfuse.observation.output", "langfuse.trace.input", "langfuse.trace.output", "retrieval.documents", "embedding.embeddings", "reranker.",
}

// contentWords are last words of a name that make a text under it content:
// prompt, user_prompt, systemPrompt, request.messages; not prompt_name, nor
// output_category. The second group is plain enough only on LLM events.
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

// idProperties hold a user's id beside the distinct id.
var idProperties = []string{
	"distinct_id", "$anon_distinct_id", "alias", "$user_id", "user_id", "userId", "$device_id", "previous_distinct_id", "$distinct_id",
	"user", "safety_identifier", "end_user", "end_user_id", "customer_id", "account_user_id",
}

// personProperties say who somebody is.
var personProperties = []string{
	"$set", "$set_once", "$unset", "$ip", "$initial_ip", "$initial_person_info", "$initial_referrer", "$person_properties",
	"email", "$email", "name", "$name", "username", "user_name", "first_name", "last_name", "full_name", "phone", "phone_number", "address",
	"user_email", "userEmail", "avatar", "avatar_url",
}

// Personal reports whether a property of a person's says who somebody is, so that
// it does not leave where ids are hashed.
func Personal(name string) bool { return slices.Contains(personProperties, name) }

// anonymise hashes the ids of people and drops what else tells who they are. It
// writes into the event's maps: the event is a clone.
func anonymise(e *event.Event, key []byte) {
	e.DistinctID, e.User = HashID(key, e.DistinctID), HashID(key, e.User)
	for _, m := range []map[string]json.RawMessage{e.Properties, e.ModelParameters, e.ProviderMetadata} {
		for _, name := range personProperties {
			delete(m, name)
		}
		for _, name := range idProperties {
			v, ok := m[name]
			if !ok {
				continue
			}
			id := gjson.ParseBytes(v).String()
			if h := HashID(key, id); h != "" {
				m[name] = json.RawMessage(`"` + h + `"`)
			} else {
				delete(m, name)
			}
		}
	}
	if e.Properties == nil {
		e.Properties = make(map[string]json.RawMessage, 1)
	}
	e.Properties["$geoip_disable"] = json.RawMessage("true")
}
