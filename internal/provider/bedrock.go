package provider

import (
	"cmp"
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/rawjson"
)

// bedrockMethod splits a path of Amazon Bedrock's runtime, /model/{model}/{method}. A
// model may be an ARN, with slashes of its own.
func bedrockMethod(path string) (model, method string, ok bool) {
	path, _, _ = strings.Cut(path, "?")
	rest, ok := strings.CutPrefix(path, "/model/")
	model, method, cut := lastCut(rest)
	return model, method, ok && cut && model != ""
}

// bedrockOperation returns the operation of a path of Bedrock, or "". Bodies of
// InvokeModel have the format of the model's maker: Claude's are read.
func bedrockOperation(method, path string) string {
	model, verb, ok := bedrockMethod(path)
	if !ok || method != "POST" {
		return ""
	}
	switch verb {
	case "converse", "converse-stream":
		return opConverse
	case "count-tokens":
		return opCountTokens
	case "invoke", "invoke-with-response-stream":
		if strings.Contains(model, "anthropic.claude") {
			return opMessages
		}
	}
	return ""
}

// bedrockPath reads the data that only the path has.
func (p *parser) bedrockPath() {
	model, method, ok := bedrockMethod(p.c.Path)
	if !ok || p.c.Method != "POST" {
		return
	}
	p.named = true
	p.e.ModelAsked = event.FirstChars(strings.ToValidUTF8(strings.Clone(model), "\uFFFD"), 300)
	if p.op == opConverse || p.op == opMessages {
		p.e.Stream = event.Some(strings.HasSuffix(method, "-stream"))
	}
}

// converseRequest reads a member of a request (aws-sdk-go-v2: bedrockruntime
// ConverseInput).
func (p *parser) converseRequest(name string, v gjson.Result) {
	in := &p.e.Content.Input
	switch name {
	case "system", "messages":
		out := []byte{'['}
		add := func(m []byte) {
			if len(out) > 1 {
				out = append(out, ',')
			}
			out = append(out, m...)
		}
		if name == "system" {
			m := &message{role: "system"}
			v.ForEach(func(_, item gjson.Result) bool { m.converse(item); return true })
			add(m.append(nil))
		} else {
			v.ForEach(func(_, msg gjson.Result) bool {
				m := &message{role: text(msg.Get("role"))}
				msg.Get("content").ForEach(func(_, item gjson.Result) bool { m.converse(item); return true })
				add(m.append(nil))
				return true
			})
		}
		switch old := *in; {
		case len(out) == 1:
			return
		case len(old) <= 2:
		case name == "system":
			out = append(append(out, ','), old[1:len(old)-1]...)
		default:
			out = append(append(append([]byte{}, old[:len(old)-1]...), ','), out[1:]...)
		}
		*in = clean(append(out, ']'))
	case "toolConfig":
		if t := v.Get("tools"); t.IsArray() {
			p.e.Content.Tools = raw(t)
		}
		if c := v.Get("toolChoice"); c.Exists() {
			p.parameter("tool_choice", c)
		}
	case "inferenceConfig":
		v.ForEach(func(k, v gjson.Result) bool {
			if n := snake(k.Str); v.Type != gjson.Null && len(n) < 60 {
				p.parameter(n, v)
			}
			return true
		})
	case "requestMetadata":
		p.metadata(v)
	case "additionalModelRequestFields", "serviceTier", "performanceConfig", "outputConfig":
		p.parameter(snake(name), v)
	}
}

// converse adds a content item: a union whose only member names its kind.
func (m *message) converse(item gjson.Result) {
	item.ForEach(func(k, v gjson.Result) bool {
		switch k.Str {
		case "text":
			m.add(partText, escaped(v))
		case "toolUse":
			m.function(text(v.Get("toolUseId")), text(v.Get("name")), v.Get("input"))
		case "reasoningContent":
			if t := v.Get("reasoningText.text"); t.Exists() {
				m.add(partThinking, escaped(t))
			} else {
				m.addJSON([]byte(`{"type":"redacted_thinking"}`))
			}
		case "cachePoint":
		case "citationsContent":
			v.Get("content").ForEach(func(_, c gjson.Result) bool {
				m.cited(escaped(c.Get("text")), v.Get("citations"))
				return true
			})
		default:
			b := rawjson.AppendQuote([]byte(`{"type":`), k.Str)
			b = rawjson.AppendQuote(append(b, ','), k.Str)
			m.addJSON(append(append(append(b, ':'), clean([]byte(v.Raw))...), '}'))
		}
		return true
	})
}

// usageConverse reads usage: the input count excludes cached tokens.
func (p *parser) usageConverse(v gjson.Result) {
	u := &p.e.Usage
	for name, to := range map[string]*event.Int{
		"inputTokens": &u.Input, "outputTokens": &u.Output, "totalTokens": &u.Total, "cacheReadInputTokens": &u.CacheRead, "cacheWriteInputTokens": &u.CacheWrite,
	} {
		count(v.Get(name), to)
	}
	v.Get("cacheDetails").ForEach(func(_, d gjson.Result) bool {
		switch d.Get("ttl").Str {
		case "5m":
			count(d.Get("inputTokens"), &u.CacheWrite5m)
		case "1h":
			count(d.Get("inputTokens"), &u.CacheWrite1h)
		}
		return true
	})
}

// converseResponse reads a member of a response (ConverseOutput), or of a
// stream's messageStop and metadata.
func (p *parser) converseResponse(name string, v gjson.Result) {
	e := p.e
	switch name {
	case "output":
		p.recognised = v.Get("message").IsObject()
		m := &message{role: "assistant"}
		v.Get("message.content").ForEach(func(_, item gjson.Result) bool { m.converse(item); return true })
		if len(m.parts) > 0 {
			e.Content.Output = render([]*message{m})
		}
	case "stopReason":
		e.StopReason = or(event.FirstChars(text(v), 100), e.StopReason)
	case "usage":
		p.usageConverse(v)
	case "serviceTier":
		e.ServiceTier = or(event.FirstChars(text(v.Get("type")), 100), e.ServiceTier)
	case "performanceConfig":
		if s := v.Get("latency"); s.Type == gjson.String {
			p.meta("performance_latency", raw(s))
		}
	case "metrics":
		if n := v.Get("latencyMs"); n.Type == gjson.Number {
			p.meta("processing_ms", raw(n))
		}
	case "trace":
		if m := event.FirstChars(text(v.Get("promptRouter.invokedModelId")), 300); m != "" {
			e.Model = m
		}
	}
}

// converseStream assembles a streamed response (ConverseStreamOutput).
type converseStream struct {
	p      *parser
	blocks []converseBlock
}

type converseBlock struct {
	index    int64
	kind     partKind
	id, name string
	text     []byte // escaped
}

// block returns the block of an index: text blocks have no start event.
func (s *converseStream) block(index int64, kind partKind) *converseBlock {
	for i := range s.blocks {
		if s.blocks[i].index == index {
			return &s.blocks[i]
		}
	}
	if len(s.blocks) >= maxParts {
		return new(converseBlock)
	}
	s.blocks = append(s.blocks, converseBlock{index: index, kind: kind})
	return &s.blocks[len(s.blocks)-1]
}

func (s *converseStream) event(f frame, v gjson.Result, tail bool) {
	p, index := s.p, v.Get("contentBlockIndex").Int()
	switch f.name {
	case "contentBlockStart":
		if use := v.Get("start.toolUse"); use.Exists() {
			if p.token(f, tail); !tail {
				b := s.block(index, partFunction)
				b.id, b.name = text(use.Get("toolUseId")), text(use.Get("name"))
			}
		}
	case "contentBlockDelta":
		d := v.Get("delta")
		for _, piece := range [...]struct {
			at   string
			kind partKind
		}{{"text", partText}, {"reasoningContent.text", partThinking}, {"toolUse.input", partFunction}} {
			if t := escaped(d.Get(piece.at)); t != "" {
				if p.token(f, tail); !tail {
					b := s.block(index, piece.kind)
					b.text = append(b.text, t...)
				}
			}
		}
	case "error":
		p.fault(v.Get("error"))
	case "metadata":
		p.ended = true
		fallthrough
	case "messageStop":
		v.ForEach(func(k, v gjson.Result) bool { p.converseResponse(k.Str, v); return true })
	}
}

func (s *converseStream) end() {
	slices.SortStableFunc(s.blocks, func(a, b converseBlock) int { return cmp.Compare(a.index, b.index) })
	m := &message{role: "assistant"}
	for _, b := range s.blocks {
		if b.kind != partFunction {
			m.add(b.kind, string(b.text))
			continue
		}
		input := gjson.Parse(`{}`)
		if whole := unescape(b.text); len(b.text) > 0 && valid(whole) {
			input = gjson.Parse(whole)
		} else if len(b.text) > 0 { // the stream ended inside a block
			input = gjson.Parse(`"` + string(b.text) + `"`)
		}
		m.function(b.id, b.name, input)
	}
	if len(m.parts) > 0 {
		s.p.e.Content.Output = render([]*message{m})
	}
}
