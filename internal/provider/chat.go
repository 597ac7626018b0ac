package provider

import (
	"cmp"
	"slices"

	"github.com/tidwall/gjson"

	"github.com/hedgerow/hedgerow/event"
)

// chatRequest reads a member of a chat completion's request
// (openai-go: ChatCompletionNewParams).
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

// common reads the members that whole answers and chunks share.
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
	case "provider": // OpenRouter: who answered
		if s := text(v); s != "" {
			p.meta("provider", quote(event.FirstChars(s, 200)))
		}
	case "usage":
		p.usageOpenAI(v)
	case "x_groq":
		p.usageOpenAI(v.Get("usage"))
		if f := v.Get("error"); f.Exists() && f.Type != gjson.Null {
			p.fault(f)
		}
	}
}

// chatAnswer reads a member of a whole chat completion, or text completion
// (openai-go: ChatCompletion).
func (p *parser) chatAnswer(name string, v gjson.Result) {
	p.chatCommon(name, v)
	if name != "choices" || !v.IsArray() {
		return
	}
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
				if s := text(v); s != "" && p.e.StopReason == "" {
					p.e.StopReason = event.FirstChars(s, 100)
				}
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
			} else if v.IsArray() { // Mistral's and others' parts
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
		case "images": // OpenRouter's picture models
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
	m.thoughtsFirst()
}

// thoughtsFirst puts thoughts before words.
func (m *message) thoughtsFirst() {
	slices.SortStableFunc(m.parts, func(a, b part) int {
		return cmp.Compare(btoi(a.kind != partThinking), btoi(b.kind != partThinking))
	})
}

// audio adds spoken words. The sound itself is never kept.
func (m *message) audio(id gjson.Result, transcript string) {
	if transcript == "" && !id.Exists() || len(m.parts) >= maxParts {
		return
	}
	b := appendString([]byte(`{"type":"audio","id":`), text(id))
	b = appendEscaped(append(b, `,"transcript":`...), []byte(transcript))
	m.parts = append(m.parts, part{kind: partRaw, key: -1 - int64(len(m.parts)), json: append(b, '}')})
}

// cited counts a search: OpenAI's search models do one a call, and show it only
// by what they cite.
func (p *parser) cited(annotations gjson.Result) {
	if p.webSearch && annotations.Get("#(type==\"url_citation\")").Exists() && !p.e.Usage.WebSearches.Known {
		p.e.Usage.WebSearches = event.Some(int64(1))
	}
}

// chatStream puts chunks together (openai-go: ChatCompletionChunk).
type chatStream struct {
	p       *parser
	choices []*chatChoice
}

type chatChoice struct {
	index int64
	message
	audioID    gjson.Result
	transcript []byte
	calls      []*part // by tool_calls[].index, in order of appearance
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
	v.ForEach(func(k, v gjson.Result) bool {
		switch k.Str {
		case "choices":
			v.ForEach(func(_, c gjson.Result) bool {
				s.delta(f, c, tail)
				return true
			})
		case "error":
			if v.Type != gjson.Null {
				p.fault(v)
			}
		default:
			p.chatCommon(k.Str, v)
		}
		return true
	})
}

func (s *chatStream) delta(f frame, v gjson.Result, tail bool) {
	p := s.p
	c := s.choice(v.Get("index").Int())
	v.ForEach(func(k, v gjson.Result) bool {
		switch k.Str {
		case "finish_reason":
			if r := text(v); r != "" && (p.e.StopReason == "" || c.index == 0) {
				p.e.StopReason = event.FirstChars(r, 100)
			}
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
					v.ForEach(func(_, call gjson.Result) bool {
						s.call(f, c, call, tail)
						return true
					})
				case "function_call":
					p.token(f, tail)
					s.grow(c, -1, "", v, tail)
				case "annotations":
					p.cited(v)
				}
				return true
			})
		}
		return true
	})
}

// piece appends a piece of text.
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

// call appends a piece of a tool call. The name and the id come with the first
// piece only. Some servers give every call the index 0, or none: a new id then
// begins a new call.
func (s *chatStream) call(f frame, c *chatChoice, v gjson.Result, tail bool) {
	s.p.token(f, tail)
	fn := v.Get("function")
	if !fn.Exists() {
		fn = v.Get("custom")
	}
	s.grow(c, v.Get("index").Int(), text(v.Get("id")), fn, tail)
}

func (s *chatStream) grow(c *chatChoice, index int64, id string, fn gjson.Result, tail bool) {
	if tail {
		return
	}
	var call *part
	for i := len(c.calls) - 1; i >= 0; i-- {
		if c.calls[i].key == index {
			call = c.calls[i]
			break
		}
	}
	if call == nil || id != "" && call.id != "" && call.id != id {
		if len(c.calls) >= maxParts {
			return
		}
		call = &part{kind: partFunction, key: index, id: id}
		c.calls = append(c.calls, call)
	}
	if id != "" {
		call.id = id
	}
	if n := text(fn.Get("name")); n != "" && call.name == "" {
		call.name = n
	}
	for _, at := range []string{"arguments", "input"} {
		switch a := fn.Get(at); {
		case a.Type == gjson.String:
			call.text = append(call.text, escaped(a)...)
		case a.IsObject(): // Ollama and others send the whole object
			call.json = raw(a)
		}
	}
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
