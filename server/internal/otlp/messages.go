package otlp

import (
	"encoding/json"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/hedgerow/hedgerow/internal/rawjson"
)

// thread writes messages in PostHog's format (contract section 3.4): {role,
// content}, where content is a string or a list of items. It reads
// OpenTelemetry's messages with parts, and the formats of OpenAI, Anthropic,
// Gemini, the Vercel AI SDK and LangChain, which instrumentations pass through.
type thread struct {
	out      []byte
	n        int
	hasRoles map[string]bool
	finish   string // the first finish reason of a message
	verbatim string // JSON in no known format
	searches int64  // web searches by the provider
	depth    int    // lists and objects around the current message
}

// json returns the thread as content; nil if there is no message.
func (t *thread) json() json.RawMessage {
	if t.n == 0 {
		return nil
	}
	return append(t.out, ']')
}

func (t *thread) open() {
	if t.n == 0 {
		t.out = append(t.out, '[')
	} else {
		t.out = append(t.out, ',')
	}
	t.n++
}

// addText appends a message with one text.
func (t *thread) addText(role, s string) {
	t.open()
	t.role(role)
	t.out = append(t.out, `{"role":`...)
	t.out = rawjson.AppendQuote(t.out, role)
	t.out = append(t.out, `,"content":`...)
	t.out = append(rawjson.AppendQuote(t.out, s), '}')
}

func (t *thread) role(role string) {
	if t.hasRoles == nil {
		t.hasRoles = make(map[string]bool, 4)
	}
	t.hasRoles[role] = true
}

// maxAround limits the nesting around messages. Each level is parsed again with
// all below it, so the cost grows with depth times length.
const maxAround = 8

// add appends the messages in v: a text, a message, a list of either, or an
// object around them. role is the default role.
func (t *thread) add(v gjson.Result, role string) {
	if t.depth == maxAround && v.Type == gjson.JSON {
		t.verbatim = v.Raw
		t.addText(role, v.Raw)
		return
	}
	t.depth++
	defer func() { t.depth-- }()
	switch {
	case v.Type == gjson.String:
		t.addText(role, v.String())
	case v.IsArray():
		if isParts(v) {
			t.message(v, role)
			return
		}
		v.ForEach(func(_, item gjson.Result) bool {
			t.add(item, role)
			return true
		})
	case v.IsObject():
		t.object(v, role)
	case v.Exists() && v.Type != gjson.Null:
		t.addText(role, v.Raw)
	}
}

func (t *thread) finished(reason gjson.Result) {
	if reason.Type == gjson.String && t.finish == "" {
		t.finish = reason.Str
	}
}

// isParts reports whether a list holds the items of one message.
func isParts(v gjson.Result) bool {
	first := v.Get("0")
	return first.IsObject() && !first.Get("role").Exists() && first.Get("type").Type == gjson.String && !first.Get("kwargs").Exists() && !first.Get("message").Exists() &&
		roles[first.Get("type").Str] == "" && first.Get("type").Str != "message"
}

// roles maps other names of roles to PostHog's.
var roles = map[string]string{
	"human": "user", "ai": "assistant", "model": "assistant", "chatbot": "assistant",
	"system": "system", "user": "user", "assistant": "assistant", "tool": "tool", "function": "tool",
	"HumanMessage": "user", "AIMessage": "assistant", "AIMessageChunk": "assistant", "SystemMessage": "system", "ToolMessage": "tool", "FunctionMessage": "tool", "ChatMessage": "user",
	"HumanMessageChunk": "user", "SystemMessageChunk": "system", "ToolMessageChunk": "tool",
}

func roleOf(s, otherwise string) string {
	if r, ok := roles[s]; ok {
		return r
	}
	if r, ok := roles[strings.ToLower(s)]; ok {
		return r
	}
	if s == "" || len(s) > 50 {
		return otherwise
	}
	return s
}

// object appends a message, or the messages of an object around them.
func (t *thread) object(v gjson.Result, role string) {
	o := members(v)
	// LangChain's serialized messages: {lc, type: constructor, id: […, name],
	// kwargs}.
	if kw := o.get("kwargs"); kw.IsObject() {
		kind := ""
		if id := o.get("id"); id.IsArray() {
			if list := id.Array(); len(list) > 0 {
				kind = list[len(list)-1].String()
			}
		}
		t.message(kw, roleOf(kw.Get("type").String(), roleOf(kind, role)))
		return
	}
	if d := o.get("data"); d.IsObject() && d.Get("content").Exists() {
		t.message(d, roleOf(o.get("type").String(), role))
		return
	}
	for _, name := range []string{"messages", "message", "generations", "choices", "output", "contents"} {
		inner := o.get(name)
		if o.get("role").Exists() || !inner.IsArray() && !inner.IsObject() {
			continue
		}
		if name == "messages" {
			for _, s := range []string{"system", "instructions"} {
				if sys := o.get(s); sys.Exists() && sys.Type != gjson.Null {
					t.add(sys, "system")
				}
			}
		}
		if sys := o.get("config").Get("system_instruction"); name == "contents" && sys.Exists() { // Google ADK's request
			t.add(sys, "system")
		}
		t.finished(o.get("finish_reason"))
		t.finished(o.get("generation_info").Get("finish_reason"))
		t.add(inner, role)
		return
	}
	if c := o.get("content"); c.Get("parts").IsArray() && !o.get("role").Exists() { // Google ADK's response
		t.finished(o.get("finish_reason"))
		t.add(c, role)
		return
	}
	if p := o.get("prompt"); p.Type == gjson.String && !o.get("role").Exists() && !o.get("content").Exists() {
		if sys := o.get("system"); sys.Type == gjson.String {
			t.addText("system", sys.Str)
		}
		t.addText(role, p.Str)
		return
	}
	if o.get("role").Exists() || o.get("content").Exists() || o.get("parts").Exists() || o.get("text").Exists() || o.get("tool_calls").Exists() {
		said := o.get("role").String()
		if said == "" {
			if kind := o.get("type").String(); roles[kind] != "" {
				said = kind
			}
		}
		t.fields(o, roleOf(said, role))
		return
	}
	if o.get("type").Type == gjson.String {
		// An item without a message around it, such as OpenAI's function_call.
		t.message(gjson.Parse("["+v.Raw+"]"), role)
		return
	}
	if c := o.get("completion"); c.Type == gjson.String {
		t.addText(role, c.Str)
		return
	}
	// Unknown: keep it unchanged.
	t.verbatim = v.Raw
	t.addText(role, v.Raw)
}

// message appends one message: m is an object, or the list of its items. Tool
// results become messages of their own, as in OpenAI's format.
func (t *thread) message(m gjson.Result, role string) {
	if m.IsObject() {
		t.fields(members(m), role)
		return
	}
	var w items
	w.list(m)
	t.write(&w, nil, role)
}

// fields appends the message of an object's members.
func (t *thread) fields(o object, role string) {
	var w items
	t.finished(o.get("finish_reason"))
	for _, name := range []string{"reasoning_content", "reasoning"} {
		if s := o.get(name); s.Type == gjson.String && s.Str != "" {
			w.thinking(s)
			break
		}
	}
	switch content := o.get("content"); {
	case content.Type == gjson.String:
		if !says(o.get("contents"), content.Str) {
			w.textOrParts(content)
		}
	case content.IsArray():
		w.list(content)
	case content.IsObject():
		w.item(content)
	}
	for _, name := range []string{"contents", "parts"} {
		if p := o.get(name); p.IsArray() {
			w.list(p)
		}
	}
	if s := o.get("text"); s.Type == gjson.String && w.n == 0 && len(w.results) == 0 {
		w.text(s)
	}
	if s := o.get("refusal"); s.Type == gjson.String && s.Str != "" {
		w.open()
		w.out = append(append(append(w.out, `{"type":"refusal","refusal":`...), s.Raw...), '}')
	}
	for _, name := range []string{"tool_calls", "toolCalls"} {
		calls := o.get(name)
		if calls.Type == gjson.String {
			calls, _ = parse(calls.Str)
		}
		if !calls.IsArray() {
			continue
		}
		calls.ForEach(func(_, c gjson.Result) bool {
			w.call(c)
			return true
		})
		break
	}
	if fc := o.get("function_call"); fc.IsObject() {
		w.call(fc)
	}
	t.write(&w, o, role)
}

// says reports whether a list of items has this text. OpenInference's
// instrumentation of the OpenAI Agents SDK writes a response's text both as
// content and in contents.
func says(list gjson.Result, text string) (found bool) {
	if list.IsArray() {
		list.ForEach(func(_, item gjson.Result) bool {
			found = text != "" && item.Get("text").Str == text
			return !found
		})
	}
	return found
}

func (t *thread) write(w *items, o object, role string) {
	if w.n > 0 || len(w.results) == 0 {
		t.open()
		t.role(role)
		t.out = append(t.out, `{"role":`...)
		t.out = rawjson.AppendQuote(t.out, role)
		t.out = append(t.out, `,"content":`...)
		t.out = w.append(t.out)
		if id := o.get("tool_call_id", "toolCallId", "tool_use_id"); id.Type == gjson.String && id.Str != "" {
			t.out = append(append(t.out, `,"tool_call_id":`...), id.Raw...)
		}
		if id := o.get("id"); role == "tool" && id.Type == gjson.String && id.Str != "" && !o.get("tool_call_id", "toolCallId", "tool_use_id").Exists() {
			t.out = append(append(t.out, `,"tool_call_id":`...), id.Raw...)
		}
		if name := o.get("name"); name.Type == gjson.String && name.Str != "" && role != "assistant" {
			t.out = append(append(t.out, `,"name":`...), name.Raw...)
		}
		t.out = append(t.out, '}')
	}
	for _, r := range w.results {
		t.result(r)
	}
}

// result appends a tool result.
func (t *thread) result(r gjson.Result) {
	t.open()
	t.role("tool")
	t.out = append(t.out, `{"role":"tool","content":`...)
	o := members(r)
	if fr := o.get("functionResponse", "function_response"); fr.IsObject() {
		o = members(fr)
	}
	body := o.get("response", "result", "output", "content")
	// The AI SDK adds the type of the result: {type: text|json, value}.
	if kind := body.Get("type"); body.IsObject() && kind.Type == gjson.String && body.Get("value").Exists() {
		body = body.Get("value")
	}
	switch {
	case !body.Exists():
		t.out = append(t.out, `""`...)
	case body.IsArray() && isParts(body):
		w := items{}
		w.list(body)
		t.out = w.append(t.out)
	case body.Type == gjson.String:
		t.out = append(t.out, body.Raw...)
	default:
		t.out = rawjson.AppendQuote(t.out, body.Raw)
	}
	if id := o.get("id", "toolCallId", "tool_use_id", "call_id", "tool_call_id"); id.Type == gjson.String && id.Str != "" {
		t.out = append(append(t.out, `,"tool_call_id":`...), id.Raw...)
	}
	if name := o.get("toolName", "name"); name.Type == gjson.String && name.Str != "" {
		t.out = append(append(t.out, `,"name":`...), name.Raw...)
	}
	t.out = append(t.out, '}')
}

// items is the content of one message.
type items struct {
	out     []byte
	n       int
	depth   int            // of messages within messages
	only    string         // the JSON string of the text, if there is nothing else
	results []gjson.Result // tool results, which follow as messages of their own
}

func (w *items) open() {
	if w.n > 0 {
		w.out = append(w.out, ',')
	}
	w.n++
	w.only = ""
}

func (w *items) append(dst []byte) []byte {
	switch {
	case w.n == 0:
		return append(dst, `""`...)
	case w.only != "":
		return append(dst, w.only...)
	}
	return append(append(append(dst, '['), w.out...), ']')
}

func (w *items) text(s gjson.Result) {
	w.open()
	if w.n == 1 {
		w.only = s.Raw
	}
	w.out = append(append(append(w.out, `{"type":"text","text":`...), s.Raw...), '}')
}

// textOrParts appends content that is a string. Traceloop writes lists of items
// as JSON in a string.
func (w *items) textOrParts(s gjson.Result) {
	if strings.HasPrefix(s.Str, "[{") {
		if list, ok := parse(s.Str); ok && list.IsArray() && isParts(list) {
			w.list(list)
			return
		}
	}
	if s.Str != "" {
		w.text(s)
	}
}

func (w *items) thinking(s gjson.Result) {
	w.open()
	w.out = append(append(append(w.out, `{"type":"thinking","thinking":`...), s.Raw...), '}')
}

func (w *items) raw(v gjson.Result) {
	w.open()
	w.out = append(w.out, v.Raw...)
}

func (w *items) list(v gjson.Result) {
	v.ForEach(func(_, item gjson.Result) bool {
		w.item(item)
		return true
	})
}

// call appends a tool call in any provider's format.
func (w *items) call(c gjson.Result) {
	o := members(c)
	f := o
	if inner := o.get("function", "functionCall", "function_call", "toolUse"); inner.IsObject() {
		f = members(inner)
	}
	name := f.get("name", "toolName")
	if !name.Exists() {
		name = o.get("name", "toolName", "tool_name")
	}
	args := f.get("arguments", "args", "input", "parameters")
	if !args.Exists() {
		args = o.get("arguments", "args", "input")
	}
	w.open()
	w.out = append(w.out, `{"type":"function"`...)
	if id := o.get("id", "toolCallId", "call_id", "tool_call_id"); id.Type == gjson.String && id.Str != "" {
		w.out = append(append(w.out, `,"id":`...), id.Raw...)
	} else if id := f.get("toolUseId"); id.Type == gjson.String {
		w.out = append(append(w.out, `,"id":`...), id.Raw...)
	}
	w.out = append(w.out, `,"function":{"name":`...)
	if name.Type == gjson.String {
		w.out = append(w.out, name.Raw...)
	} else {
		w.out = append(w.out, `""`...)
	}
	w.out = append(w.out, `,"arguments":`...)
	if args.Exists() {
		w.out = append(w.out, args.Raw...)
	} else {
		w.out = append(w.out, `{}`...)
	}
	w.out = append(w.out, `}}`...)
}

func (w *items) item(v gjson.Result) {
	if v.Type == gjson.String {
		w.text(v)
		return
	}
	if !v.IsObject() {
		if v.Exists() && v.Type != gjson.Null {
			w.raw(v)
		}
		return
	}
	o := members(v)
	switch kind := o.get("type").String(); kind {
	case "text", "input_text", "output_text":
		if s := o.get("text", "content"); s.Type == gjson.String {
			w.text(s)
			return
		}
	case "tool_call", "tool-call", "tool_use", "server_tool_use", "function_call", "function":
		w.call(v)
		return
	case "tool_call_response", "tool-result", "tool_result", "function_call_output":
		w.results = append(w.results, v)
		return
	case "reasoning", "thinking":
		if s := o.get("content", "text", "thinking", "reasoning"); s.Type == gjson.String {
			w.thinking(s)
			return
		}
	case "message":
		if c := o.get("content"); c.IsArray() && w.depth < maxAround {
			w.depth++
			w.list(c)
			w.depth--
			return
		}
	case "blob", "uri", "file":
		if w.media(kind, o) {
			return
		}
	case "image":
		// OpenInference: {type: image, image: {image: {url}}}.
		if u := v.Get("image.image.url"); u.Type == gjson.String {
			w.open()
			w.out = append(append(append(w.out, `{"type":"image","image":`...), u.Raw...), '}')
			return
		}
	case "":
		switch {
		case o.get("text").Type == gjson.String:
			if o.get("thought").Bool() {
				w.thinking(o.get("text"))
			} else {
				w.text(o.get("text"))
			}
			return
		case o.get("functionCall", "function_call").IsObject(), o.get("toolUse").IsObject():
			w.call(v)
			return
		case o.get("functionResponse", "function_response").IsObject():
			w.results = append(w.results, v)
			return
		}
	}
	w.raw(v)
}

// media appends OpenTelemetry's blobs, links and files in PostHog's format.
func (w *items) media(kind string, o object) bool {
	modality := o.get("modality").String()
	mime := o.get("mime_type", "media_type", "mimeType", "mediaType")
	if modality == "" {
		modality, _, _ = strings.Cut(mime.String(), "/")
	}
	data := o.get("content", "data")
	link := o.get("uri", "url")
	switch {
	case kind == "blob" && data.Type == gjson.String && modality == "audio":
		w.open()
		w.out = append(w.out, `{"type":"audio"`...)
		if mime.Type == gjson.String {
			w.out = append(append(w.out, `,"mime_type":`...), mime.Raw...)
		}
		w.out = append(append(append(w.out, `,"data":`...), data.Raw...), '}')
	case kind == "blob" && data.Type == gjson.String:
		w.open()
		if modality == "image" {
			w.out = append(w.out, `{"type":"image","inline_data":{`...)
		} else {
			w.out = append(w.out, `{"type":"document","inline_data":{`...)
		}
		if mime.Type == gjson.String {
			w.out = append(append(append(w.out, `"mime_type":`...), mime.Raw...), ',')
		}
		w.out = append(append(append(w.out, `"data":`...), data.Raw...), `}}`...)
	case kind == "uri" && link.Type == gjson.String && (modality == "image" || modality == ""):
		w.open()
		w.out = append(append(append(w.out, `{"type":"image","image":`...), link.Raw...), '}')
	default:
		return false
	}
	return true
}

// object is a JSON object whose members are parsed once: each lookup would
// otherwise scan long text again.
type object []member

type member struct {
	key   string
	value gjson.Result
}

// maxMembers limits the members of one object that are read.
const maxMembers = 64

func members(v gjson.Result) object {
	o := make(object, 0, 6)
	v.ForEach(func(k, m gjson.Result) bool {
		o = append(o, member{k.Str, m})
		return len(o) < maxMembers
	})
	return o
}

// get returns the first of these members that is present and not null.
func (o object) get(names ...string) gjson.Result {
	for _, n := range names {
		for i := range o {
			if o[i].key == n && o[i].value.Type != gjson.Null {
				return o[i].value
			}
		}
	}
	return gjson.Result{}
}
