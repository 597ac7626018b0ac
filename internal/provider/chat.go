package provider

import (
	"cmp"
	"slices"

	"github.com/tidwall/gjson"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/rawjson"
)

// chatRequest reads a member of a chat completions request (openai-go:
// ChatCompletionNewParams).
func (p *parser) chatRequest(name string, v gjson.Result) {
	switch name {
	case "messages":
		p.e.Content.Input = raw(v)
	case "tools", "functions":
		if v.IsArray() {
			p.e.Content.Tools = raw(v)
		}
	case "web_search_options":
		p.webSearch = true
	}
}

// completionsRequest reads a member of the older text completions, and of
// Mistral's fill-in-the-middle.
func (p *parser) completionsRequest(name string, v gjson.Result) {
	if name != "prompt" || v.IsObject() || v.Type == gjson.Null {
		return
	}
	if v.Type == gjson.String {
		p.e.Content.Input = userMessage(v.Raw)
		return
	}
	p.e.Content.Input = raw(v)
}

// chatCommon reads the members that complete responses and chunks share.
func (p *parser) chatCommon(name string, v gjson.Result) {
	e := p.e
	switch name {
	case "id":
		if s := text(v); s != "" {
			e.CompletionID = event.FirstChars(s, 200)
		}
	case "model":
		if s := text(v); s != "" {
			e.Model = event.FirstChars(s, 200)
		}
	case "system_fingerprint":
		if s := text(v); s != "" {
			e.SystemFingerprint = event.FirstChars(s, 200)
		}
	case "service_tier":
		if s := text(v); s != "" {
			e.ServiceTier = event.FirstChars(s, 100)
		}
	case "provider": // OpenRouter: the upstream provider
		if s := text(v); s != "" {
			p.meta("provider", rawjson.Quote(event.FirstChars(s, 200)))
		}
	case "usage":
		p.usageOpenAI(v)
	case "base_resp": // MiniMax returns 200 for errors
		if code := v.Get("status_code"); code.Int() != 0 {
			p.trouble.code = event.FirstChars(text(code), 200)
			p.fail(event.ErrTypeProvider, event.FirstChars(text(v.Get("status_msg")), 2000))
		}
	case "x_groq":
		p.usageOpenAI(v.Get("usage"))
		if f := v.Get("error"); f.Exists() && f.Type != gjson.Null {
			p.fault(f)
		}
	}
}

// chatResponse reads a member of a complete chat completion, or text completion
// (openai-go: ChatCompletion).
func (p *parser) chatResponse(name string, v gjson.Result) {
	p.chatCommon(name, v)
	if name != "choices" || !v.IsArray() {
		return
	}
	p.recognised = v.Get("0").Exists()
	var messages []*message
	v.ForEach(func(_, c gjson.Result) bool {
		if len(messages) == maxChoices {
			return false
		}
		m := new(message)
		messages = append(messages, m)
		c.ForEach(func(k, v gjson.Result) bool {
			switch k.Str {
			case "finish_reason":
				p.finish(v, len(messages) == 1)
			case "stop_reason":
				p.stopReason(c, v, len(messages) == 1)
			case "error": // OpenRouter's
				p.choiceFault(v)
			case "usage": // Moonshot's
				p.usageOpenAI(v)
			case "message":
				p.chatMessage(m, v)
			case "text":
				m.add(partText, escaped(v))
			}
			return true
		})
		return true
	})
	p.e.Content.Output = render(messages)
}

// finish reads the finish reason of a choice. The first choice's is used,
// unless another one failed.
func (p *parser) finish(v gjson.Result, first bool) {
	r := event.FirstChars(text(v), 100)
	if r == "" {
		return
	}
	p.ended = true
	if had := p.e.StopReason; had == "" || event.Failed(r) || first && !event.Failed(had) {
		p.e.StopReason = r
	}
}

// stopReason reads the finish reason of Mistral and DeepSeek on Bedrock. Other
// servers have the matched stop sequence under this name, next to a finish
// reason.
func (p *parser) stopReason(choice, v gjson.Result, first bool) {
	if p.op == opInvoke && !choice.Get("finish_reason").Exists() {
		p.finish(v, first)
	}
}

func (p *parser) choiceFault(v gjson.Result) {
	if v.Type != gjson.Null {
		p.fault(v)
		p.trouble.found = true
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (p *parser) chatMessage(m *message, v gjson.Result) {
	var calls, old gjson.Result
	v.ForEach(func(k, v gjson.Result) bool {
		switch k.Str {
		case "role":
			m.role = text(v)
		case "reasoning_content", "reasoning":
			m.at(partThinking, 0).text = []byte(escaped(v))
		case "content":
			if v.Type == gjson.String {
				m.add(partText, escaped(v))
			} else if v.IsArray() { // content parts of Mistral and others
				v.ForEach(func(_, item gjson.Result) bool {
					if item.Get("type").Str == "text" {
						m.add(partText, escaped(item.Get("text")))
					} else {
						m.addRaw(item)
					}
					return true
				})
			}
		case "refusal":
			if s := escaped(v); s != "" {
				m.add(partRefusal, s)
				p.refused = true
			}
		case "audio":
			m.audio(v.Get("id"), escaped(v.Get("transcript")))
		case "images": // OpenRouter's image models
			v.ForEach(func(_, item gjson.Result) bool { m.addRaw(item); return true })
		case "tool_calls":
			calls = v
		case "function_call":
			old = v
		case "annotations":
			p.cited(v)
		}
		return true
	})
	calls.ForEach(func(_, c gjson.Result) bool {
		f := c.Get("function")
		if f.Exists() {
			m.function(text(c.Get("id")), text(f.Get("name")), f.Get("arguments"))
		} else if f := c.Get("custom"); f.Exists() {
			m.function(text(c.Get("id")), text(f.Get("name")), f.Get("input"))
		}
		return true
	})
	if old.IsObject() {
		m.function("", text(old.Get("name")), old.Get("arguments"))
	}
	m.parts = slices.DeleteFunc(m.parts, func(pt part) bool { return pt.kind == partThinking && len(pt.text) == 0 })
	m.reasoningFirst()
}

// reasoningFirst moves reasoning before text.
func (m *message) reasoningFirst() {
	slices.SortStableFunc(m.parts, func(a, b part) int {
		return cmp.Compare(btoi(a.kind != partThinking), btoi(b.kind != partThinking))
	})
}

// audio adds the transcript of audio output. The audio itself is never kept.
func (m *message) audio(id gjson.Result, transcript string) {
	if transcript == "" && !id.Exists() || len(m.parts) >= maxParts {
		return
	}
	b := rawjson.AppendQuote([]byte(`{"type":"audio","id":`), text(id))
	b = appendEscaped(append(b, `,"transcript":`...), []byte(transcript))
	m.parts = append(m.parts, part{kind: partRaw, key: -1 - int64(len(m.parts)), json: append(b, '}')})
}

// cited counts a search: OpenAI's search models make one per call, which shows
// in the citations only.
func (p *parser) cited(annotations gjson.Result) {
	if p.webSearch && annotations.Get("#(type==\"url_citation\")").Exists() && !p.e.Usage.WebSearches.Known {
		p.e.Usage.WebSearches = event.Some(int64(1))
	}
}

// chatStream assembles chunks (openai-go: ChatCompletionChunk).
type chatStream struct {
	p       *parser
	choices []*chatChoice
}

type chatChoice struct {
	index int64
	message
	audioID    gjson.Result
	transcript []byte
	calls      []*part // in order of appearance; key is tool_calls[].index
	current    *part   // of calls, the one that the last fragment belongs to
}

func (s *chatStream) choice(index int64) *chatChoice {
	for _, c := range s.choices {
		if c.index == index {
			return c
		}
	}
	c := &chatChoice{index: index}
	if len(s.choices) < maxChoices {
		s.choices = append(s.choices, c)
	}
	return c
}

func (s *chatStream) event(f frame, v gjson.Result, tail bool) {
	p := s.p
	chunk := v
	v.ForEach(func(k, v gjson.Result) bool {
		switch k.Str {
		case "choices":
			v.ForEach(func(_, c gjson.Result) bool {
				s.delta(f, c, tail)
				return true
			})
		case "error":
			p.choiceFault(v)
		case "object":
			if v.Str == "error" { // vLLM and SGLang
				chunk.ForEach(func(k, v gjson.Result) bool { p.errorMember(k.Str, v); return true })
				p.trouble.found = true
			}
		default:
			p.chatCommon(k.Str, v)
		}
		return true
	})
}

func (s *chatStream) delta(f frame, choice gjson.Result, tail bool) {
	p := s.p
	c := s.choice(choice.Get("index").Int())
	choice.ForEach(func(k, v gjson.Result) bool {
		switch k.Str {
		case "finish_reason":
			p.finish(v, c.index == 0)
		case "stop_reason":
			p.stopReason(choice, v, c.index == 0)
		case "error": // OpenRouter's
			p.choiceFault(v)
		case "text": // text completions
			s.piece(f, c, partText, v, tail)
		case "usage": // some servers put it here
			p.usageOpenAI(v)
		case "delta", "message":
			v.ForEach(func(k, v gjson.Result) bool {
				switch k.Str {
				case "role":
					if r := text(v); r != "" {
						c.role = r
					}
				case "content":
					if v.IsArray() { // Mistral's parts
						v.ForEach(func(_, item gjson.Result) bool {
							switch item.Get("type").Str {
							case "text":
								s.piece(f, c, partText, item.Get("text"), tail)
							case "thinking":
								s.piece(f, c, partThinking, item.Get("thinking.0.text"), tail)
							}
							return true
						})
						return true
					}
					s.piece(f, c, partText, v, tail)
				case "refusal":
					if escaped(v) != "" {
						p.refused = true
					}
					s.piece(f, c, partRefusal, v, tail)
				case "reasoning_content", "reasoning":
					s.piece(f, c, partThinking, v, tail)
				case "audio":
					if id := v.Get("id"); id.Exists() {
						c.audioID = id
					}
					if t := escaped(v.Get("transcript")); t != "" && !tail {
						c.transcript = append(c.transcript, t...)
					}
					if v.Get("data").Exists() || len(c.transcript) > 0 {
						p.token(f, tail)
					}
				case "tool_calls":
					place := int64(0)
					v.ForEach(func(_, call gjson.Result) bool {
						s.call(f, c, call, place, tail)
						place++
						return true
					})
				case "function_call":
					p.token(f, tail)
					s.grow(c, piece{place: -1, placed: true, of: v}, tail)
				case "annotations":
					p.cited(v)
				}
				return true
			})
		}
		return true
	})
}

// piece appends a fragment of text.
func (s *chatStream) piece(f frame, c *chatChoice, kind partKind, v gjson.Result, tail bool) {
	t := escaped(v)
	if t == "" {
		return
	}
	s.p.token(f, tail)
	if !tail {
		pt := c.at(kind, 0)
		pt.text = append(pt.text, t...)
	}
}

// call appends a fragment of a tool call. Some servers send no index: then its
// position in the delta is used.
func (s *chatStream) call(f frame, c *chatChoice, v gjson.Result, place int64, tail bool) {
	s.p.token(f, tail)
	fn := v.Get("function")
	if !fn.Exists() {
		fn = v.Get("custom")
	}
	index := v.Get("index")
	pc := piece{place: place, placed: index.Type == gjson.Number, id: text(v.Get("id")), of: fn}
	if pc.placed {
		pc.place = index.Int()
	}
	s.grow(c, pc, tail)
}

// piece is a delta of a tool call.
type piece struct {
	place  int64
	placed bool // by the server, not by its position in the delta
	id     string
	of     gjson.Result // its function
}

func (s *chatStream) grow(c *chatChoice, pc piece, tail bool) {
	if tail {
		return
	}
	name := text(pc.of.Get("name"))
	call := c.continued(pc, name)
	if call == nil {
		if len(c.calls) >= maxParts {
			return
		}
		call = &part{kind: partFunction, key: pc.place, id: pc.id}
		c.calls = append(c.calls, call)
	}
	c.current = call
	call.id, call.name = or(call.id, pc.id), or(call.name, name)
	for _, at := range []string{"arguments", "input"} {
		switch a := pc.of.Get(at); {
		case a.Type == gjson.String:
			call.text = append(call.text, escaped(a)...)
		case a.IsObject(): // Ollama and others send the whole object
			call.json = raw(a)
		}
	}
}

// continued returns the call that a fragment belongs to, or nil if it starts a
// new one. A call starts with a name whose id, name or position differs from
// those of the previous calls. Any other fragment continues a call: that of its
// id, else that of its position, else the current one. Some servers change ids
// between fragments, increase the position within a call, or omit both.
func (c *chatChoice) continued(pc piece, name string) *part {
	var byID, byPlace *part
	for _, call := range slices.Backward(c.calls) {
		if byID == nil && pc.id != "" && call.id == pc.id {
			byID = call
		}
		if byPlace == nil && call.key == pc.place {
			byPlace = call
		}
	}
	if name == "" {
		switch {
		case byID != nil:
			return byID
		case pc.placed && byPlace != nil && (byPlace == c.current || !byPlace.complete()):
			return byPlace
		case c.current != nil:
			return c.current
		}
		return byPlace
	}
	call := byPlace
	switch {
	case call == nil, call.name != "" && call.name != name, pc.id != "" && call.id != "" && pc.id != call.id:
		return nil
	case pc.id == "" && len(escaped(pc.of.Get("arguments"))) > 0 && call.complete():
		return nil // the next call of the same function, from a server without ids
	}
	return call
}

// complete reports whether a call has all its arguments.
func (pt *part) complete() bool {
	return pt.json != nil || len(pt.text) > 0 && valid(unescape(pt.text))
}

func (s *chatStream) end() {
	slices.SortStableFunc(s.choices, func(a, b *chatChoice) int { return cmp.Compare(a.index, b.index) })
	var messages []*message
	for _, c := range s.choices {
		if c.audioID.Exists() || len(c.transcript) > 0 {
			c.audio(c.audioID, string(c.transcript))
		}
		for _, call := range c.calls {
			c.parts = append(c.parts, *call)
		}
		messages = append(messages, &c.message)
	}
	s.p.e.Content.Output = render(messages)
}
