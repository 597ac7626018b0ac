package provider

import (
	"cmp"
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/hedgerow/hedgerow/event"
)

// cohereOperation returns the operation of a path of Cohere's API, version 2,
// or "". Its rerank has the common format.
func cohereOperation(method, path string) string {
	switch {
	case method != "POST":
	case strings.HasSuffix(path, "/v2/chat"):
		return opCohereChat
	case strings.HasSuffix(path, "/v2/embed"):
		return opEmbeddings
	}
	return ""
}

// cohereParameters are the settings that only Cohere has.
var cohereParameters = map[string]bool{"k": true, "p": true, "safety_mode": true, "strict_tools": true, "citation_options": true, "raw_prompting": true}

// cohereRequest reads a member of a chat request (cohere-go: V2ChatRequest).
func (p *parser) cohereRequest(name string, v gjson.Result) {
	if cohereParameters[name] && v.Type != gjson.Null {
		p.parameter(name, v)
	}
	p.chatRequest(name, v)
}

// usageCohere reads a chat's usage or the meta of another response. Billed
// units are used; tokens also include Cohere's own template, which is not
// billed.
func (p *parser) usageCohere(v gjson.Result) {
	u, billed := &p.e.Usage, v.Get("billed_units")
	if !billed.Get("input_tokens").Exists() && !billed.Get("output_tokens").Exists() && !billed.Get("image_tokens").Exists() {
		billed = v.Get("tokens")
	}
	count(billed.Get("input_tokens"), &u.Input)
	count(billed.Get("output_tokens"), &u.Output)
	if count(billed.Get("image_tokens"), &u.InputImage); u.InputImage.Known {
		u.Input = event.Some(u.Input.Or(0) + u.InputImage.Value)
	}
	count(v.Get("billed_units.search_units"), &u.SearchUnits)
	for _, name := range []string{"tokens", "cached_tokens"} {
		if m := v.Get(name); m.IsObject() || m.Type == gjson.Number {
			p.meta(name, raw(m))
		}
	}
}

// cohereStream assembles a chat response (cohere-go: V2ChatStreamResponse). A
// complete response (V2ChatResponse) has the same members.
type cohereStream struct {
	p         *parser
	plan      []byte // escaped, like text below
	blocks    []cohereBlock
	citations []byte // members of a list
}

// cohereBlock is a content block, or a tool call: their indices are separate.
type cohereBlock struct {
	kind     partKind
	index    int64
	text     []byte
	id, name string
}

func (s *cohereStream) block(kind partKind, index int64) *cohereBlock {
	for i := range s.blocks {
		b := &s.blocks[i]
		if b.index == index && (b.kind == partFunction) == (kind == partFunction) {
			return b
		}
	}
	if len(s.blocks) >= maxParts {
		return new(cohereBlock)
	}
	s.blocks = append(s.blocks, cohereBlock{kind: kind, index: index})
	return &s.blocks[len(s.blocks)-1]
}

func (s *cohereStream) event(f frame, v gjson.Result, tail bool) {
	p, delta := s.p, v.Get("delta")
	m, index := delta.Get("message"), v.Get("index").Int()
	switch cmp.Or(v.Get("type").Str, f.name) {
	case "message-start":
		s.member("id", v.Get("id"))
	case "content-start", "content-delta":
		s.content(f, index, m.Get("content"), tail)
	case "tool-plan-delta":
		if t := escaped(m.Get("tool_plan")); t != "" {
			if p.token(f, tail); !tail {
				s.plan = append(s.plan, t...)
			}
		}
	case "tool-call-start", "tool-call-delta":
		if p.token(f, tail); !tail {
			s.call(index, m.Get("tool_calls"))
		}
	case "citation-start":
		s.cite(m.Get("citations"), tail)
	case "message-end":
		p.ended = true
		for _, name := range [...]string{"finish_reason", "usage"} {
			s.member(name, delta.Get(name))
		}
		if e := delta.Get("error"); e.Exists() && e.Type != gjson.Null {
			p.fault(e)
		}
	case "error":
		p.fault(v)
	}
}

// content adds a block, or a fragment of one.
func (s *cohereStream) content(f frame, index int64, c gjson.Result, tail bool) {
	kind := partText
	if c.Get("type").Str == "thinking" || c.Get("thinking").Exists() {
		kind = partThinking
	}
	t := escaped(c.Get("text")) + escaped(c.Get("thinking"))
	if t != "" && f.end > 0 {
		s.p.token(f, tail)
	}
	if !tail {
		b := s.block(kind, index)
		b.text = append(b.text, t...)
	}
}

// call adds a call, or a fragment of its arguments.
func (s *cohereStream) call(index int64, c gjson.Result) {
	b := s.block(partFunction, index)
	b.id, b.name = or(text(c.Get("id")), b.id), or(text(c.Get("function.name")), b.name)
	b.text = append(b.text, escaped(c.Get("function.arguments"))...)
}

func (s *cohereStream) cite(c gjson.Result, tail bool) {
	if tail || !c.IsObject() {
		return
	}
	if s.citations != nil {
		s.citations = append(s.citations, ',')
	}
	s.citations = append(s.citations, c.Raw...)
}

// member reads a member of a complete response.
func (s *cohereStream) member(name string, v gjson.Result) {
	p, e := s.p, s.p.e
	switch name {
	case "id":
		e.CompletionID = or(event.FirstChars(text(v), 200), e.CompletionID)
	case "finish_reason":
		e.StopReason = or(event.FirstChars(text(v), 100), e.StopReason)
	case "usage":
		p.usageCohere(v)
	case "message":
		p.recognised = v.IsObject()
		s.plan = append(s.plan, escaped(v.Get("tool_plan"))...)
		each := func(name string, f func(i int64, v gjson.Result)) {
			var i int64
			v.Get(name).ForEach(func(_, v gjson.Result) bool { f(i, v); i++; return true })
		}
		each("content", func(i int64, c gjson.Result) { s.content(frame{}, i, c, false) })
		each("tool_calls", s.call)
		each("citations", func(_ int64, c gjson.Result) { s.cite(c, false) })
	}
}

func (s *cohereStream) end() {
	m := &message{role: "assistant"}
	m.add(partThinking, string(s.plan))
	slices.SortStableFunc(s.blocks, func(a, b cohereBlock) int {
		if (a.kind == partFunction) != (b.kind == partFunction) {
			return cmp.Compare(a.kind, b.kind) // tool calls follow the text
		}
		return cmp.Compare(a.index, b.index)
	})
	citations := gjson.Result{}
	if s.citations != nil {
		citations = gjson.ParseBytes(append(append([]byte{'['}, s.citations...), ']'))
	}
	for _, b := range s.blocks {
		switch b.kind {
		case partFunction:
			m.function(b.id, b.name, gjson.Result{Type: gjson.String, Raw: `"` + string(b.text) + `"`})
		case partText:
			m.cited(string(b.text), citations)
			citations = gjson.Result{}
		default:
			m.add(b.kind, string(b.text))
		}
	}
	if len(m.parts) > 0 {
		s.p.e.Content.Output = render([]*message{m})
	}
}
