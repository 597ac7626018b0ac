package privacy

import (
	"encoding/json"
	"strings"
	"unicode/utf8"
	"unsafe"

	"github.com/tidwall/gjson"

	"github.com/hedgerow/hedgerow/event"
)

// The values of [event.Event.OutputCategory], tried in this order.
const (
	CategoryError   = "error"     // the call failed
	CategoryTool    = "tool_call" // the response calls a tool, with or without text
	CategoryRefusal = "refusal"   // withheld by a content filter or the model
	CategoryMedia   = "media"     // an image or audio, and no text
	CategoryEmpty   = "empty"     // neither text nor anything else
	CategoryJSON    = "json"      // all of the text is one JSON object or array, fenced or not
	CategoryCode    = "code"      // at least half of the text is in code fences
	CategoryText    = "text"      // anything else
)

// Derive computes the fields that describe content without revealing it. Fields
// that are set are kept.
//
// PromptHash is the [event.HashInstructions] of the [Instructions]; user
// messages do not affect it, and without instructions there is none. InputChars
// and OutputChars count the characters (Unicode code points) of messages, tool
// calls and tool results, but not of images, audio or markup. InputLengthBucket
// is the [LengthBucket] of the input tokens, including cached ones, or of a
// quarter of InputChars if no count is known. OutputCategory is one of the
// Category constants, or "" if nothing is known of the output.
func Derive(e *event.Event) {
	var instructions []string
	if in := e.Content.Input; present(in) {
		r := reading{instructions: true}
		r.value(gjson.Parse(view(in)), false)
		instructions = r.system
		if !e.InputChars.Known {
			e.InputChars = event.Some(r.chars)
		}
	}
	if e.PromptHash == "" {
		instructions = append(given(e), instructions...)
		e.PromptHash = event.HashInstructions(instructions)
	}
	var out reading
	if v := e.Content.Output; present(v) {
		out.answer = true
		out.value(gjson.Parse(view(v)), false)
		if !e.OutputChars.Known {
			e.OutputChars = event.Some(out.chars)
		}
	}
	if e.OutputCategory == "" {
		e.OutputCategory = category(e, &out)
	}
	if e.InputLengthBucket == "" {
		e.InputLengthBucket = inputBucket(e)
	}
}

// Instructions returns an event's system and developer messages, in order, by
// which its prompt is recognised. They are read from the content, and must be
// dropped with it.
func Instructions(e *event.Event) []string {
	r := reading{instructions: true}
	if in := e.Content.Input; present(in) {
		// Not a view: the texts may outlive the event's bytes.
		r.value(gjson.ParseBytes(in), false)
	}
	return append(given(e), r.system...)
}

// Limits of [Conversation].
const (
	maxSaid      = 100
	maxSaidBytes = 256 << 10
)

// Conversation returns an event's user and assistant messages, in order,
// without tool calls and images. Prompts with such parts are recognised by
// them. whole is false if the conversation is too long to be read completely.
// Like [Instructions], it must be dropped with the content.
func Conversation(e *event.Event) (said []event.ChatMessage, whole bool) {
	if !present(e.Content.Input) {
		return nil, true
	}
	v := gjson.ParseBytes(e.Content.Input)
	if v.Type == gjson.String {
		s := v.String()
		return []event.ChatMessage{{Role: "user", Text: s}}, len(s) <= maxSaidBytes
	}
	if !v.IsArray() {
		return nil, true
	}
	size, whole := 0, true
	v.ForEach(func(_, m gjson.Result) bool {
		role := m.Get("role").Str
		switch role {
		case "model":
			role = "assistant"
		case "user", "assistant":
		default:
			return true
		}
		if size += len(m.Raw); size > maxSaidBytes || len(said) == maxSaid {
			whole = false
			return false
		}
		r := reading{answer: true}
		r.value(m, false)
		said = append(said, event.ChatMessage{Role: role, Text: strings.Join(r.texts, "\n")})
		return true
	})
	return said, whole
}

// given are the instructions that an SDK sends separately from the messages.
func given(e *event.Event) []string {
	if v := e.Properties["$ai_instructions"]; len(v) > 0 && v[0] == '"' {
		return []string{gjson.ParseBytes(v).String()}
	}
	return nil
}

// AnswerText returns the text of a response's messages, without tool calls and
// reasoning. tools reports whether it has tool calls. Text beyond 1 MiB is
// truncated.
func AnswerText(output json.RawMessage) (text string, tools bool) {
	if !present(output) {
		return "", false
	}
	r := reading{answer: true}
	r.value(gjson.ParseBytes(output), false)
	return strings.TrimSpace(strings.Join(r.texts, "\n")), r.tool
}

// view returns b as a string without a copy. It must not be used after b
// changes: results derived from it are numbers, hashes or words.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

func present(v json.RawMessage) bool { return len(v) > 0 && string(v) != "null" }

func inputBucket(e *event.Event) string {
	u := e.Usage
	switch {
	case u.Input.Known:
		n := u.Input.Value
		if u.CacheExclusive.Or(false) {
			n += u.CacheRead.Or(0) + u.CacheWrite.Or(0)
		}
		return LengthBucket(n)
	case e.InputChars.Known:
		return LengthBucket((e.InputChars.Value + 3) / 4)
	}
	return ""
}

// LengthBucket returns the range of a number of tokens: 0_256_tokens,
// 256_512_tokens, 512_1k_tokens, 1k_2k_tokens, 2k_4k_tokens and so on to
// 64k_128k_tokens, then 128k_plus_tokens. A k is 1,024; a range includes its
// lower bound and excludes its upper one.
func LengthBucket(tokens int64) string {
	names := []string{"0", "256", "512", "1k", "2k", "4k", "8k", "16k", "32k", "64k", "128k"}
	below := int64(256)
	for i := 1; i < len(names); i++ {
		if tokens < below {
			return names[i-1] + "_" + names[i] + "_tokens"
		}
		below *= 2
	}
	return "128k_plus_tokens"
}

// reading collects facts about one content part. It handles every message
// format of contract section 3.4, including providers' own, because it searches
// for the names of text members rather than formats.
type reading struct {
	instructions bool // collect the texts of system messages
	answer       bool // collect the texts of the response

	chars   int64
	system  []string
	texts   []string
	length  int // of texts
	tool    bool
	refusal bool
	media   bool
}

// longestAnswer limits the part of a response that is kept to determine its
// category.
const longestAnswer = 1 << 20

func (r *reading) value(v gjson.Result, system bool) {
	switch {
	case v.Type == gjson.String:
		r.text(v, system, true)
	case v.IsArray():
		v.ForEach(func(_, item gjson.Result) bool {
			r.value(item, system)
			return true
		})
	case v.IsObject():
		r.object(v, system)
	}
}

// object reads the members with text. Role and type determine how to read the
// others and may follow them, so the members are split first, in one pass,
// because prompts are long.
func (r *reading) object(v gjson.Result, system bool) {
	var few [12]entry
	members := few[:0]
	var kind string
	v.ForEach(func(k, item gjson.Result) bool {
		switch k.Str {
		case "role":
			system = item.Str == "system" || item.Str == "developer"
		case "type":
			if item.Type == gjson.String {
				kind = item.Str
			}
		default:
			members = append(members, entry{k.Str, item})
		}
		return true
	})
	switch kind {
	case "function", "function_call", "tool_use", "tool_call", "server_tool_use", "custom_tool_call", "mcp_call":
		r.tool = true
	case "image", "image_url", "input_image", "output_image", "image_generation_call", "audio", "input_audio", "output_audio":
		r.media = true
	case "thinking", "reasoning", "redacted_thinking":
		// Reasoning: counted, but not part of the response.
		answer := r.answer
		r.answer = false
		defer func() { r.answer = answer }()
	}
	for i := range members {
		item := members[i].value
		switch members[i].name {
		case "content", "parts", "text", "value", "message", "messages", "system", "instructions", "output", "transcript", "thinking", "reasoning", "reasoning_content", "summary":
			r.value(item, system || members[i].name == "system" || members[i].name == "instructions")
		case "refusal":
			if item.Type == gjson.String && item.Str != "" {
				r.refusal = true
				r.text(item, false, true)
			}
		case "tool_calls", "function_call", "functionCall":
			if item.IsObject() || item.IsArray() && item.Get("0").Exists() {
				r.tool = true
				r.arguments(item)
			}
		case "function":
			r.arguments(item)
		case "arguments", "args", "input", "result":
			if kind != "" {
				r.argument(item)
			}
		case "functionResponse", "function_response":
			r.chars += int64(utf8.RuneCountInString(item.Get("response").Raw))
		case "inlineData", "inline_data", "b64_json":
			r.media = true
		}
	}
}

// entry is one member of an object.
type entry struct {
	name  string
	value gjson.Result
}

func (r *reading) arguments(v gjson.Result) {
	if v.IsArray() {
		v.ForEach(func(_, item gjson.Result) bool {
			r.arguments(item)
			return true
		})
		return
	}
	for _, name := range []string{"arguments", "args"} {
		r.argument(v.Get(name))
	}
	if f := v.Get("function"); f.IsObject() {
		r.arguments(f)
	}
}

// argument counts a tool call's arguments, either text or JSON.
func (r *reading) argument(v gjson.Result) {
	switch {
	case v.Type == gjson.String:
		r.text(v, false, false)
	case v.IsObject(), v.IsArray():
		r.chars += int64(utf8.RuneCountInString(v.Raw))
	}
}

func (r *reading) text(v gjson.Result, system, said bool) {
	r.chars += int64(characters(v.Raw))
	if said && system && r.instructions {
		r.system = append(r.system, v.String())
	}
	if said && r.answer && r.length < longestAnswer {
		s := v.String()
		r.texts, r.length = append(r.texts, s), r.length+len(s)
	}
}

// characters counts the characters of a JSON string without decoding it.
func characters(raw string) int {
	if len(raw) < 2 || raw[0] != '"' {
		return utf8.RuneCountInString(raw)
	}
	raw = raw[1 : len(raw)-1]
	n := 0
	for {
		k := strings.IndexByte(raw, '\\')
		if k < 0 {
			return n + utf8.RuneCountInString(raw)
		}
		n += utf8.RuneCountInString(raw[:k]) + 1
		step, _ := char([]byte(raw[k:min(len(raw), k+12)]))
		raw = raw[k+step:]
	}
}

func category(e *event.Event, r *reading) string {
	text := strings.TrimSpace(strings.Join(r.texts, "\n"))
	switch {
	case e.Status == event.StatusBlocked, event.Blocked(e.StopReason):
		return CategoryRefusal
	case e.IsError, e.Status == event.StatusError, e.Status == event.StatusTimeout, e.Status == event.StatusValidationFailed:
		return CategoryError
	case !r.answer:
		return ""
	case r.tool:
		return CategoryTool
	case r.refusal, refuses(text):
		return CategoryRefusal
	case text == "" && r.media:
		return CategoryMedia
	case text == "":
		return CategoryEmpty
	case isJSON(text):
		return CategoryJSON
	case 2*fenced(text) >= len(text):
		return CategoryCode
	}
	return CategoryText
}

// refusals are typical beginnings of refusals. A long response with such a
// beginning is still a response, so only short ones count.
var refusals = []string{
	"i can't help with", "i cannot help with", "i can't assist with", "i cannot assist with", "i'm unable to help", "i am unable to help",
	"i'm unable to assist", "i am unable to assist", "i can't comply", "i cannot comply", "i can't provide", "i cannot provide",
	"i can't fulfill", "i cannot fulfill", "i won't help with", "i will not help with", "i'm not able to help", "i am not able to help",
	"i'm not able to assist", "i am not able to assist", "i must decline",
}

func refuses(text string) bool {
	if len(text) > 600 {
		return false
	}
	text = strings.ToLower(strings.ReplaceAll(text, "’", "'"))
	for _, polite := range []string{"i'm sorry, but ", "i'm sorry. ", "i am sorry, but ", "sorry, but ", "sorry, ", "i apologize, but "} {
		text = strings.TrimPrefix(text, polite)
	}
	for _, r := range refusals {
		if strings.HasPrefix(text, r) {
			return true
		}
	}
	return false
}

func isJSON(text string) bool {
	if inner, ok := strings.CutPrefix(text, "```json"); ok {
		text, ok = strings.CutSuffix(strings.TrimSpace(inner), "```")
		if !ok {
			return false
		}
		text = strings.TrimSpace(text)
	}
	return text != "" && (text[0] == '{' || text[0] == '[') && gjson.Valid(text)
}

// fenced returns the number of bytes inside ``` fences, including the fences.
func fenced(text string) int {
	n := 0
	for {
		from := strings.Index(text, "```")
		if from < 0 {
			return n
		}
		text = text[from:]
		to := strings.Index(text[3:], "```")
		if to < 0 {
			return n + len(text) // cut off by the token limit
		}
		n += to + 6
		text = text[to+6:]
	}
}
