package provider

import (
	"cmp"
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/rawjson"
)

// messagesRequest reads a member of a Messages request (anthropic-sdk-go:
// MessageNewParams). The system parameter becomes a leading system message.
func (p *parser) messagesRequest(name string, v gjson.Result) {
	in := &p.e.Content.Input
	switch name {
	case "system":
		if v.Type != gjson.String && !v.IsArray() {
			return
		}
		lead := append(append([]byte(`[{"role":"system","content":`), raw(v)...), '}')
		if len(*in) > 2 {
			*in = append(append(lead, ','), (*in)[1:]...)
		} else {
			*in = append(lead, ']')
		}
	case "messages":
		if !v.IsArray() {
			return
		}
		list := messagesInput(v)
		if len(*in) > 2 && len(list) > 2 {
			*in = append(append((*in)[:len(*in)-1], ','), list[1:]...)
		} else if len(*in) == 0 {
			*in = list
		}
	case "tools":
		if v.IsArray() {
			p.e.Content.Tools = raw(v)
		}
	}
}

// messagesInput converts the conversation to PostHog's format: tool_use becomes
// a function item, everything else is unchanged.
func messagesInput(v gjson.Result) []byte {
	if !strings.Contains(v.Raw, `"tool_use"`) {
		return raw(v)
	}
	out := []byte{'['}
	v.ForEach(func(_, msg gjson.Result) bool {
		if len(out) > 1 {
			out = append(out, ',')
		}
		content := msg.Get("content")
		if !content.IsArray() || !strings.Contains(content.Raw, `"tool_use"`) {
			out = append(out, msg.Raw...)
			return true
		}
		m := &message{role: text(msg.Get("role"))}
		content.ForEach(func(_, b gjson.Result) bool {
			switch b.Get("type").Str {
			case "text":
				m.add(partText, escaped(b.Get("text")))
			case "tool_use":
				m.function(text(b.Get("id")), text(b.Get("name")), b.Get("input"))
			default:
				m.addRaw(b)
			}
			return true
		})
		out = m.append(out)
		return true
	})
	return clean(append(out, ']'))
}

// messagesResponse reads a member of a Message object (anthropic-sdk-go:
// Message).
func (p *parser) messagesResponse(name string, v gjson.Result) {
	e := p.e
	switch name {
	case "id":
		e.CompletionID = or(event.FirstChars(text(v), 200), e.CompletionID)
	case "model":
		e.Model = or(event.FirstChars(text(v), 200), e.Model)
	case "stop_reason":
		e.StopReason = or(event.FirstChars(text(v), 100), e.StopReason)
	case "provider": // OpenRouter: the upstream provider
		if s := text(v); s != "" {
			p.meta("provider", rawjson.Quote(event.FirstChars(s, 200)))
		}
	case "usage":
		p.usageAnthropic(v)
	case "context_management", "container", "stop_details":
		if v.IsObject() && len(v.Raw) <= longestParameter {
			p.meta(strings.Clone(name), raw(v))
		}
	case "content":
		if !v.IsArray() {
			return
		}
		p.recognised = true
		m := &message{role: "assistant"}
		v.ForEach(func(_, b gjson.Result) bool {
			m.block(b)
			return true
		})
		if len(m.parts) > 0 || p.c.Status == 200 && !isTrue(e.Stream) {
			e.Content.Output = render([]*message{m})
		}
	}
}

func isTrue(o event.Opt[bool]) bool { return o.Known && o.Value }

// block adds a content block. Signatures and encrypted thinking are not
// readable, so they are omitted.
func (m *message) block(b gjson.Result) {
	switch b.Get("type").Str {
	case "text":
		m.cited(escaped(b.Get("text")), b.Get("citations"))
	case "thinking":
		m.add(partThinking, escaped(b.Get("thinking")))
	case "compaction": // encrypted content is not readable
		m.addJSON([]byte(`{"type":"compaction","content":` + or(b.Get("content").Raw, "null") + `}`))
	case "redacted_thinking":
		m.addJSON([]byte(`{"type":"redacted_thinking"}`))
	case "tool_use", "server_tool_use", "mcp_tool_use":
		m.function(text(b.Get("id")), text(b.Get("name")), b.Get("input"))
	default:
		m.addRaw(b)
	}
}

// messagesStream assembles the blocks of a streamed message (anthropic-sdk-go:
// MessageStreamEventUnion).
type messagesStream struct {
	p      *parser
	blocks []messagesBlock
}

type messagesBlock struct {
	index int64
	start string // as in content_block_start
	kind  string
	text  []byte // escaped
	input []byte // partial_json, escaped
	cites []byte // members of a list
}

// block returns the block of a delta: that of its index, else the current one.
func (s *messagesStream) block(index int64) *messagesBlock {
	for i := len(s.blocks) - 1; i >= 0; i-- {
		if s.blocks[i].index == index {
			return &s.blocks[i]
		}
	}
	if n := len(s.blocks); n > 0 {
		return &s.blocks[n-1]
	}
	return s.begin(index)
}

// begin starts a block. Some servers use the index 0 for every block.
func (s *messagesStream) begin(index int64) *messagesBlock {
	if len(s.blocks) >= maxParts {
		return new(messagesBlock)
	}
	s.blocks = append(s.blocks, messagesBlock{index: index})
	return &s.blocks[len(s.blocks)-1]
}

func (s *messagesStream) event(f frame, v gjson.Result, tail bool) {
	p := s.p
	kind := v.Get("type").Str
	if kind == "" {
		kind = f.name
	}
	switch kind {
	case "message_start":
		v.Get("message").ForEach(func(k, v gjson.Result) bool {
			p.messagesResponse(k.Str, v)
			return true
		})
		// The output count is a placeholder until message_delta has the real one.
		p.started, p.e.Usage.Output = p.e.Usage.Output, event.Int{}
	case "content_block_start":
		b := v.Get("content_block")
		switch b.Get("type").Str {
		case "tool_use", "server_tool_use", "mcp_tool_use":
			p.token(f, tail)
		}
		if tail {
			return
		}
		at := s.begin(v.Get("index").Int())
		at.start, at.kind = b.Raw, b.Get("type").Str
		at.text = append(at.text, escaped(b.Get("text"))...)
		at.text = append(at.text, escaped(b.Get("thinking"))...)
	case "content_block_delta":
		d := v.Get("delta")
		var piece string
		var into func(*messagesBlock) *[]byte
		switch d.Get("type").Str {
		case "text_delta":
			piece, into = escaped(d.Get("text")), func(b *messagesBlock) *[]byte { return &b.text }
		case "citations_delta":
			if b := s.block(v.Get("index").Int()); !tail && d.Get("citation").IsObject() {
				if b.cites != nil {
					b.cites = append(b.cites, ',')
				}
				b.cites = append(b.cites, d.Get("citation").Raw...)
			}
		case "compaction_delta":
			piece, into = escaped(d.Get("content")), func(b *messagesBlock) *[]byte { return &b.text }
		case "thinking_delta":
			p.thought += max(d.Get("estimated_tokens").Int(), 0)
			piece, into = escaped(d.Get("thinking")), func(b *messagesBlock) *[]byte { return &b.text }
		case "input_json_delta":
			piece, into = escaped(d.Get("partial_json")), func(b *messagesBlock) *[]byte { return &b.input }
		}
		if piece == "" {
			return
		}
		p.token(f, tail)
		if !tail {
			dst := into(s.block(v.Get("index").Int()))
			*dst = append(*dst, piece...)
		}
	case "message_delta":
		v.Get("delta").ForEach(func(k, v gjson.Result) bool {
			p.messagesResponse(k.Str, v)
			return true
		})
		for _, name := range [...]string{"usage", "context_management"} {
			p.messagesResponse(name, v.Get(name))
		}
		p.ended = p.ended || p.e.StopReason != ""
	case "message_stop":
		p.ended = true
	case "error", "":
		if kind == "" && !v.Get("error").Exists() {
			return
		}
		p.fault(v.Get("error"))
		p.trouble.found = true
		if id := text(v.Get("request_id")); id != "" {
			p.meta("request_id", rawjson.Quote(event.FirstChars(id, 200)))
		}
	}
}

func (s *messagesStream) end() {
	if len(s.blocks) == 0 {
		return
	}
	slices.SortStableFunc(s.blocks, func(a, b messagesBlock) int { return cmp.Compare(a.index, b.index) })
	m := &message{role: "assistant"}
	for _, b := range s.blocks {
		start := gjson.Parse(b.start)
		switch b.kind {
		case "thinking":
			m.add(partThinking, string(b.text))
		case "tool_use", "server_tool_use", "mcp_tool_use":
			input := start.Get("input")
			if len(b.input) > 0 {
				whole := unescape(b.input)
				if valid(whole) {
					input = gjson.Parse(whole)
				} else { // the stream ended inside a block
					input = gjson.Parse(`"` + string(b.input) + `"`)
				}
			}
			m.function(text(start.Get("id")), text(start.Get("name")), input)
		case "text", "":
			cites := start.Get("citations")
			if b.cites != nil {
				cites = gjson.ParseBytes(append(append([]byte{'['}, b.cites...), ']'))
			}
			m.cited(string(b.text), cites)
		case "compaction":
			content := start.Get("content")
			if b.text != nil {
				content = gjson.Result{Type: gjson.String, Raw: `"` + string(b.text) + `"`}
			}
			m.block(gjson.Parse(`{"type":"compaction","content":` + or(content.Raw, "null") + `}`))
		default:
			m.block(start)
		}
	}
	s.p.e.Content.Output = render([]*message{m})
}
