package provider

import (
	"encoding/json"
	"mime"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/rawjson"
)

// parameters are the request members that are recorded as model parameters:
// settings, never content.
var parameters = map[string]bool{
	// OpenAI chat completions and responses
	"temperature": true, "top_p": true, "n": true, "stop": true, "max_tokens": true, "max_completion_tokens": true, "max_output_tokens": true,
	"frequency_penalty": true, "presence_penalty": true, "seed": true, "response_format": true, "tool_choice": true, "parallel_tool_calls": true,
	"reasoning_effort": true, "service_tier": true, "stream": true, "logprobs": true, "top_logprobs": true, "verbosity": true, "store": true,
	"modalities": true, "best_of": true, "echo": true, "reasoning": true, "text": true, "truncation": true, "background": true, "max_tool_calls": true,
	"previous_response_id": true, "conversation": true,
	// embeddings, images, audio
	"dimensions": true, "encoding_format": true, "input_type": true, "output_dtype": true, "quality": true, "size": true, "style": true, "output_format": true,
	"voice": true, "speed": true, "language": true, "timestamp_granularities": true,
	// compatible servers and OpenRouter
	"top_k": true, "min_p": true, "top_a": true, "repetition_penalty": true, "safe_prompt": true, "random_seed": true, "models": true, "route": true,
	"provider": true, "transforms": true, "search_mode": true, "enable_thinking": true,
	// Anthropic
	"stop_sequences": true, "thinking": true, "output_config": true, "effort": true, "speed_mode": true, "inference_geo": true,
}

const (
	longestParameter = 2048 // bytes of one recorded parameter
	longestValue     = 1000 // characters of an attribution value
	mostProperties   = 100  // custom properties read from a body
)

// request reads the request body.
func (p *parser) request() {
	c := p.c
	p.geminiPath()
	p.bedrockPath()
	defer p.deployment()
	if len(c.Request) == 0 {
		return
	}
	if kind, _, err := mime.ParseMediaType(c.RequestHeader.Get("Content-Type")); err == nil && strings.HasPrefix(kind, "multipart/") {
		p.multipart()
		return
	}
	s := redactView(view(c.Request))
	whole := !c.RequestTruncated && valid(s)
	if !whole && p.op != "" && readsBody[p.op] {
		if c.RequestTruncated {
			p.note("the request is larger than the capture limit: its end is missing")
		} else {
			p.note("the request is not valid JSON")
		}
	}
	members(s, whole, p.requestMember)
	p.codingAgent(whole)
	if p.e.Stream == (event.Opt[bool]{}) && (p.op == opChat || p.op == opCompletions || p.op == opFIM || p.op == opResponses || p.op == opMessages || p.op == opCohereChat || p.op == opInteractions) {
		p.e.Stream = event.Some(false)
	}
	if p.e.Stream == (event.Opt[bool]{}) && (p.op == opOllamaChat || p.op == opOllamaGenerate) {
		p.e.Stream = event.Some(true) // Ollama streams by default
	}
}

// deployment uses Azure's deployment as the requested model, if the request
// names none.
func (p *parser) deployment() {
	if p.e.ModelAsked != "" {
		return
	}
	if _, rest, ok := strings.Cut(p.c.Path, "/deployments/"); ok {
		name, _, _ := strings.Cut(rest, "/")
		p.e.ModelAsked = event.FirstChars(strings.ToValidUTF8(name, "\uFFFD"), 200)
	}
}

// readsBody are the operations whose request is JSON that Parse reads.
var readsBody = map[string]bool{
	opChat: true, opCompletions: true, opFIM: true, opResponses: true, opCompact: true, opMessages: true, opGenerateContent: true, opCountTokens: true, opOllamaChat: true, opOllamaGenerate: true, opCohereChat: true, opConverse: true, opInvoke: true, opEmbeddings: true,
	opImages: true, opSpeech: true, opVideos: true, opOCR: true, opRerank: true, opRealtime: true, opLive: true, opInteractions: true,
}

// members calls f with each member of an object. Of a truncated body it passes
// on only members that cannot be truncated: scalars that end before the body
// does, and values that are valid on their own.
func members(s string, whole bool, f func(name string, v gjson.Result)) {
	obj := gjson.Parse(s)
	if !obj.IsObject() {
		return
	}
	obj.ForEach(func(k, v gjson.Result) bool {
		if !whole {
			if v.Index <= 0 || v.Index+len(v.Raw) >= len(s) || k.Type != gjson.String {
				return false
			}
			if !valid(v.Raw) {
				return true
			}
		}
		f(k.Str, v)
		return true
	})
}

func (p *parser) requestMember(name string, v gjson.Result) {
	e := p.e
	switch name {
	case "model":
		if !p.named { // there the path names it
			e.ModelAsked = event.FirstChars(text(v), 200)
		}
	case "stream":
		if v.IsBool() {
			e.Stream = event.Some(v.Bool())
		}
	case "user", "safety_identifier":
		if u := event.FirstChars(text(v), longestValue); u != "" && (name == "user" || e.User == "") {
			e.User = u
		}
	case "session_id":
		if id := event.FirstChars(text(v), longestValue); id != "" {
			e.SessionID, p.sessionID = id, true
		}
	case "session":
		if id := event.FirstChars(text(v), longestValue); id != "" && !p.sessionID && readsBody[p.op] {
			e.SessionID = id
		}
	case "trace":
		p.trace(v)
	case "metadata":
		p.metadata(v)
	case "client_metadata":
		p.codex(v)
	case "prompt":
		if v.IsObject() { // OpenAI's stored prompts; their variables are content
			e.PromptName, e.PromptVersion = event.FirstChars(text(v.Get("id")), 200), event.FirstChars(text(v.Get("version")), 200)
		}
	default:
		if readsBody[p.op] && slices.Contains(p.c.Attribution, name) {
			p.property(name, v)
		}
	}
	if parameters[name] && v.Type != gjson.Null {
		p.parameter(name, v)
	}
	switch p.op {
	case opChat:
		p.chatRequest(name, v)
	case opCompletions, opFIM:
		p.completionsRequest(name, v)
	case opResponses, opCompact:
		p.responsesRequest(name, v)
	case opMessages, opCountTokens:
		switch {
		case p.google && p.op == opCountTokens:
			p.geminiRequest(name, v)
		case p.c.Dialect == Anthropic || p.op == opMessages || p.raw:
			p.messagesRequest(name, v)
		}
	case opGenerateContent, opLive:
		p.geminiRequest(name, v)
	case opInteractions:
		p.interactionRequest(name, v)
	case opRealtime:
		p.realtimeMember(name, v)
	case opOllamaChat, opOllamaGenerate:
		p.ollamaRequest(name, v)
	case opConverse:
		p.converseRequest(name, v)
	case opInvoke:
		p.invokeRequest(name, v)
	case opCohereChat:
		p.cohereRequest(name, v)
	case opEmbeddings:
		if p.google {
			p.geminiRequest(name, v)
		}
		switch name {
		case "input", "texts", "inputs":
			e.Content.Input = raw(v)
		case "inputText", "singleEmbeddingParams": // Amazon's Titan and Nova
			if v.IsObject() {
				v = v.Get("text.value")
			}
			if v.Type == gjson.String {
				e.Content.Input = raw(v)
			}
		case "prompt": // Ollama's older /api/embeddings
			if v.Type == gjson.String {
				e.Content.Input = raw(v)
			}
		}
	case opImages, opSpeech, opVideos, opRerank:
		if p.bedrock && p.op == opRerank {
			p.rerankRequest(name, v)
		}
		if (name == "prompt" || name == "input" || name == "query") && v.Type == gjson.String {
			e.Content.Input = userMessage(v.Raw)
			if p.op == opSpeech {
				e.Usage.Characters = event.Some(int64(utf8.RuneCountInString(text(v))))
			}
		}
	}
}

// parameter records a setting. Of an output format with a long schema only its
// type and name are kept.
func (p *parser) parameter(name string, v gjson.Result) {
	b := v.Raw
	if len(b) > longestParameter {
		format := v
		if f := v.Get("format"); f.IsObject() {
			format = f
		}
		kind := format.Get("type")
		if kind.Type != gjson.String {
			return
		}
		out := append([]byte(`{"type":`), rawjson.Quote(event.FirstChars(text(kind), 100))...)
		for _, at := range []string{"name", "json_schema.name"} {
			if n := format.Get(at); n.Type == gjson.String {
				out = append(append(out, `,"name":`...), rawjson.Quote(event.FirstChars(text(n), 100))...)
				break
			}
		}
		b = string(append(out, '}'))
	}
	if p.e.ModelParameters == nil {
		p.e.ModelParameters = make(map[string]json.RawMessage, 8)
	}
	p.e.ModelParameters[strings.Clone(name)] = clean([]byte(b))
}

// trace reads OpenRouter's attribution object: ids and names have fields, every
// other member becomes a property.
func (p *parser) trace(v gjson.Result) {
	if !v.IsObject() {
		return
	}
	e := p.e
	v.ForEach(func(k, v gjson.Result) bool {
		s := event.FirstChars(text(v), longestValue)
		switch k.Str {
		case "trace_id":
			e.TraceID = s
		case "trace_name":
			e.TraceName = s
		case "span_name":
			e.SpanName = or(s, e.SpanName)
		case "generation_name":
			e.SpanName = or(s, e.SpanName)
		case "span_id":
			e.SpanID = s
		case "parent_span_id", "parent_id":
			e.ParentID = s
		case "session_id":
			e.SessionID = or(e.SessionID, s)
		case "surface":
			e.Surface = s
		case "task_type":
			e.TaskType = s
		case "environment":
			e.Environment = s
		case "prompt_name":
			e.PromptName = s
		case "prompt_version":
			e.PromptVersion = s
		case "prompt_version_id":
			e.PromptVersionID = s
		case "prompt_hash":
			e.PromptHash = s
		case "tags":
			p.tags(v)
		default:
			p.property(k.Str, v)
		}
		return true
	})
	// OpenRouter has both: the generation name is the more specific one.
	if g := event.FirstChars(text(v.Get("generation_name")), longestValue); g != "" {
		e.SpanName = g
	}
}

// tags reads a list of tags, or a single one: each becomes a property with the
// value true.
func (p *parser) tags(v gjson.Result) {
	add := func(v gjson.Result) {
		tag := event.CleanValue(text(v))
		if tag != "" && tag[0] != '$' && len(p.e.Tags) < mostTags && !slices.Contains(p.e.Tags, tag) {
			p.e.Tags = append(p.e.Tags, tag)
		}
	}
	if v.IsArray() {
		v.ForEach(func(_, v gjson.Result) bool { add(v); return true })
		return
	}
	for tag := range strings.SplitSeq(text(v), ",") {
		add(gjson.Result{Type: gjson.String, Str: tag})
	}
}

// mostTags limits the tags of one event.
const mostTags = 50

// metadata reads OpenAI's and Anthropic's metadata.
func (p *parser) metadata(v gjson.Result) {
	if !v.IsObject() {
		return
	}
	v.ForEach(func(k, v gjson.Result) bool {
		if k.Str == "user_id" {
			user := event.FirstChars(text(v), longestValue)
			if who, session, ok := claudeCode(user); ok {
				user = who
				p.agent("claude-code")
				p.e.SessionID = or(p.e.SessionID, session)
			}
			p.e.User = or(p.e.User, user)
			return true
		}
		p.property(k.Str, v)
		return true
	})
}

// claudeCode parses Claude Code's metadata.user_id, which also has the session:
// {"device_id":…,"account_uuid":…,"session_id":…}, or in versions of 2025
// user_HASH_account_UUID_session_UUID. The user is the account or, with an API
// key, the device.
func claudeCode(id string) (user, session string, ok bool) {
	if strings.HasPrefix(id, "{") && valid(id) {
		v := gjson.Parse(id)
		session = text(v.Get("session_id"))
		return or(text(v.Get("account_uuid")), text(v.Get("device_id"))), session, session != ""
	}
	rest, ok := strings.CutPrefix(id, "user_")
	device, rest, ok2 := strings.Cut(rest, "_account_")
	account, session, ok3 := strings.Cut(rest, "_session_")
	return or(account, device), session, ok && ok2 && ok3 && session != ""
}

// property keeps a custom property. Names that begin with $ are reserved for
// PostHog.
func (p *parser) property(name string, v gjson.Result) {
	name = strings.ToValidUTF8(strings.Clone(name), "\uFFFD")
	if name == "" || name[0] == '$' || len(name) > 200 || len(p.e.Properties) >= mostProperties || v.Type == gjson.Null {
		return
	}
	if p.e.Properties == nil {
		p.e.Properties = make(map[string]json.RawMessage)
	}
	if v.Type == gjson.String {
		p.e.Properties[name] = rawjson.Quote(event.FirstChars(text(v), longestValue))
	} else if len(v.Raw) <= 4*longestValue {
		p.e.Properties[name] = raw(v)
	}
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
