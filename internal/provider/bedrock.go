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

// bedrockOperation returns the operation of a path of Bedrock, or "".
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
		return invokeOperation(model)
	}
	return ""
}

// bedrockPath reads the data that only the path and Bedrock's headers have.
func (p *parser) bedrockPath() {
	model, method, ok := bedrockMethod(p.c.Path)
	if !ok || p.c.Method != "POST" {
		return
	}
	p.named, p.bedrock = true, true
	p.e.ModelAsked = event.FirstChars(strings.ToValidUTF8(strings.Clone(model), "\uFFFD"), 300)
	if p.op == opConverse || p.op == opMessages || p.op == opInvoke {
		p.e.Stream = event.Some(strings.HasSuffix(method, "-stream"))
	}
	h := p.c.RequestHeader
	if tier := h.Get("X-Amzn-Bedrock-Service-Tier"); tier != "" {
		p.parameter("service_tier", gjson.ParseBytes(rawjson.Quote(event.FirstChars(tier, 100))))
	}
	if m := h.Get("X-Amzn-Bedrock-Request-Metadata"); valid(m) {
		p.metadata(gjson.Parse(m))
	}
}

// invocationMetrics is the member of an InvokeModel stream's last chunk with the counts.
const invocationMetrics = "amazon-bedrock-invocationMetrics"

// bedrockMetrics are the counts that Bedrock itself adds to a response of InvokeModel,
// whatever its format. The input count excludes cached tokens.
type bedrockMetrics struct {
	input, output, cacheRead, cacheWrite event.Int
	intervened                           bool // a guardrail
}

// bedrockMember reads what Bedrock adds to a response, or to a chunk.
func (p *parser) bedrockMember(name string, v gjson.Result) {
	if !p.bedrock {
		return
	}
	m := &p.measured
	switch name {
	case invocationMetrics:
		p.ended = true
		count(v.Get("inputTokenCount"), &m.input)
		count(v.Get("outputTokenCount"), &m.output)
		count(v.Get("cacheReadInputTokenCount"), &m.cacheRead)
		count(v.Get("cacheWriteInputTokenCount"), &m.cacheWrite)
		if n := v.Get("invocationLatency"); n.Type == gjson.Number {
			p.meta("processing_ms", raw(n))
		}
	case "amazon-bedrock-guardrailAction":
		m.intervened = v.Str == "INTERVENED"
	}
}

// settleBedrock completes the response by what Bedrock's headers and metrics have. It
// reports whether the input count is Bedrock's own.
func (p *parser) finaliseBedrock() bool {
	h, m, e := p.c.ResponseHeader, &p.measured, p.e
	header := func(name string, into *event.Int) {
		if v := h.Get("X-Amzn-Bedrock-" + name); !into.Known && v != "" && digitsOnly(v) {
			count(gjson.Parse(v), into)
		}
	}
	header("Input-Token-Count", &m.input)
	header("Output-Token-Count", &m.output)
	header("Cache-Read-Input-Token-Count", &m.cacheRead)
	header("Cache-Write-Input-Token-Count", &m.cacheWrite)
	if tier := h.Get("X-Amzn-Bedrock-Service-Tier"); tier != "" {
		e.ServiceTier = event.FirstChars(tier, 100)
	}
	if v := h.Get("X-Amzn-Bedrock-Performanceconfig-Latency"); v != "" {
		p.meta("performance_latency", rawjson.Quote(event.FirstChars(v, 100)))
	}
	if v := h.Get("X-Amzn-Bedrock-Invocation-Latency"); v != "" && digitsOnly(v) {
		p.meta("processing_ms", []byte(v))
	}
	if m.intervened {
		e.StopReason = "guardrail_intervened"
	}
	if p.op == opRerank || p.op == opCountTokens || p.c.Status >= 400 {
		return false
	}
	u := &e.Usage
	excludes := p.op == opMessages || p.op == opConverse
	own := !u.Input.Known && m.input.Known
	fill := func(from event.Int, into *event.Int) {
		if !into.Known {
			*into = from
		}
	}
	fill(m.input, &u.Input)
	if p.op != opEmbeddings {
		fill(m.output, &u.Output)
	}
	if own || excludes {
		fill(m.cacheRead, &u.CacheRead)
		fill(m.cacheWrite, &u.CacheWrite)
	}
	if own && !excludes {
		u.CacheExclusive = event.Some(true)
	}
	return own && !excludes
}

func digitsOnly(s string) bool {
	return len(s) <= 12 && strings.Trim(s, "0123456789") == "" && (s == "0" || s[0] != '0')
}

// converseRequest reads a member of a request (aws-sdk-go-v2: bedrockruntime
// ConverseInput).
func (p *parser) converseRequest(name string, v gjson.Result) {
	switch name {
	case "system":
		m := &message{role: "system"}
		v.ForEach(func(_, item gjson.Result) bool { m.converse(item); return true })
		p.addInput(0, m)
	case "messages":
		var turns []*message
		v.ForEach(func(_, msg gjson.Result) bool {
			m := &message{role: text(msg.Get("role"))}
			msg.Get("content").ForEach(func(_, item gjson.Result) bool { m.converse(item); return true })
			turns = append(turns, m)
			return true
		})
		p.addInput(1, turns...)
	case "toolConfig":
		if t := v.Get("tools"); t.IsArray() {
			p.e.Content.Tools = raw(t)
		}
		if c := v.Get("toolChoice"); c.Exists() {
			p.parameter("tool_choice", c)
		}
	case "inferenceConfig":
		p.settings(v)
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

// usageConverse reads usage: the input count excludes cached tokens. Nova's own format
// has other names for those.
func (p *parser) usageConverse(v gjson.Result) {
	u := &p.e.Usage
	for name, to := range map[string]*event.Int{
		"inputTokens": &u.Input, "outputTokens": &u.Output, "totalTokens": &u.Total, "cacheReadInputTokens": &u.CacheRead, "cacheWriteInputTokens": &u.CacheWrite,
		"cacheReadInputTokenCount": &u.CacheRead, "cacheWriteInputTokenCount": &u.CacheWrite,
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

// converseStream assembles a streamed response (ConverseStreamOutput), also as chunks of
// InvokeModel, {"contentBlockDelta":{…}}.
type converseStream struct {
	p      *parser
	blocks []converseBlock
	nova   bool // it is Nova's own: each piece of a text is a block
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
	if f.name == "chunk" {
		s.nova = true
		v.ForEach(func(k, inner gjson.Result) bool {
			if inner.IsObject() && k.Str != invocationMetrics {
				f.name, v = k.Str, inner
				return false
			}
			return true
		})
	}
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
		if n := len(m.parts); s.nova && n > 0 && b.kind != partFunction && m.parts[n-1].kind == b.kind {
			m.parts[n-1].text = append(m.parts[n-1].text, b.text...)
			continue
		}
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
