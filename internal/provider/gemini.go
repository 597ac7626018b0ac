package provider

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/rawjson"
)

// geminiMethod splits the end of one of Google's paths,
// models/{model}:{method}, into model and method, for the Gemini API and Vertex
// AI. A tuned model or a Vertex endpoint keeps the name of its collection:
// tunedModels/{id}.
func geminiMethod(path string) (model, method string, ok bool) {
	path, _, _ = strings.Cut(path, "?")
	path, method, ok = strings.Cut(path, ":")
	if !ok || strings.ContainsAny(method, "/:") {
		return "", "", false
	}
	head, model, ok := lastCut(path)
	_, collection, _ := lastCut(head)
	switch {
	case !ok || model == "":
		return "", "", false
	case collection == "models":
		return model, method, true
	case collection == "tunedModels", collection == "endpoints":
		return collection + "/" + model, method, true
	}
	return "", "", false
}

func lastCut(path string) (head, tail string, ok bool) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "", path, false
	}
	return path[:i], path[i+1:], true
}

// geminiOperation returns the operation of a method, or "" for those whose
// bodies are not read, such as predict.
func geminiOperation(method string) string {
	switch method {
	case "generateContent", "streamGenerateContent":
		return opGenerateContent
	case "embedContent", "batchEmbedContents":
		return opEmbeddings
	case "countTokens":
		return opCountTokens
	}
	return ""
}

// geminiPath reads the data that only the path has: the model, and whether the
// response is a stream.
func (p *parser) geminiPath() {
	model, method, ok := geminiMethod(p.c.Path)
	if !ok {
		return
	}
	if rawPredicts(method) {
		p.e.Stream = event.Some(method == "streamRawPredict")
		if p.raw = true; model == countsTokens {
			return
		}
	} else {
		p.google = true
	}
	p.named = true
	p.e.ModelAsked = event.FirstChars(strings.ToValidUTF8(strings.Clone(model), "\uFFFD"), 200)
	if p.op == opGenerateContent {
		p.e.Stream = event.Some(method == "streamGenerateContent")
	}
}

// geminiRequest reads a member of a request (genai: GenerateContentConfig and
// its REST format). Google accepts members in camelCase and in snake_case.
func (p *parser) geminiRequest(name string, v gjson.Result) {
	in := &p.e.Content.Input
	switch snake(name) {
	case "system_instruction":
		lead := append(append([]byte{'['}, geminiMessage(v, "system")...), ']')
		if len(*in) > 2 {
			lead = append(append(lead[:len(lead)-1], ','), (*in)[1:]...)
		}
		*in = lead
	case "contents":
		list := geminiContents(v)
		switch {
		case len(list) <= 2:
		case len(*in) > 2:
			*in = append(append((*in)[:len(*in)-1], ','), list[1:]...)
		default:
			*in = list
		}
	case "content": // of embedContent
		*in = geminiTexts(v)
	case "requests": // of batchEmbedContents
		out := []byte{'['}
		v.ForEach(func(_, r gjson.Result) bool {
			if t := geminiTexts(r.Get("content")); len(t) > 0 {
				if len(out) > 1 {
					out = append(out, ',')
				}
				out = append(out, t...)
			}
			return true
		})
		*in = append(out, ']')
	case "tools":
		if v.IsArray() {
			p.e.Content.Tools = raw(v)
		}
	case "generation_config":
		v.ForEach(func(k, v gjson.Result) bool {
			switch n := snake(k.Str); n {
			case "response_schema", "response_json_schema": // long, and content of the team
			default:
				if v.Type != gjson.Null && len(n) < 60 {
					p.parameter(n, v)
				}
			}
			return true
		})
	case "tool_config", "safety_settings", "cached_content", "service_tier", "output_dimensionality", "task_type":
		if v.Type != gjson.Null {
			p.parameter(snake(name), v)
		}
	case "labels": // Vertex AI's metadata
		if v.IsObject() {
			v.ForEach(func(k, v gjson.Result) bool { p.property(k.Str, v); return true })
		}
	case "instances", "parameters": // of predict
		p.predictRequest(name, v)
	case "generate_content_request": // of countTokens
		v.ForEach(func(k, v gjson.Result) bool { p.geminiRequest(k.Str, v); return true })
	}
}

// snake converts camelCase to snake_case.
func snake(name string) string {
	if strings.IndexFunc(name, func(r rune) bool { return r >= 'A' && r <= 'Z' }) < 0 {
		return name
	}
	b := make([]byte, 0, len(name)+4)
	for i := range len(name) {
		c := name[i]
		if c >= 'A' && c <= 'Z' {
			b = append(b, '_')
			c += 'a' - 'A'
		}
		b = append(b, c)
	}
	return string(b)
}

// geminiContents converts a conversation to PostHog's format. Tool results keep
// Google's format, which PostHog and hedgerow's pages can display.
func geminiContents(v gjson.Result) []byte {
	out := []byte{'['}
	add := func(c gjson.Result) {
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(out, geminiMessage(c, "user")...)
	}
	if v.IsArray() {
		v.ForEach(func(_, c gjson.Result) bool { add(c); return true })
	} else if v.IsObject() {
		add(v)
	}
	return append(out, ']')
}

func geminiMessage(c gjson.Result, role string) []byte {
	m := &message{role: role}
	if r := text(c.Get("role")); role != "system" && r != "" {
		m.role = r
	}
	if m.role == "model" {
		m.role = "assistant"
	}
	parts := c.Get("parts")
	switch {
	case c.Type == gjson.String:
		m.add(partText, escaped(c))
	case parts.IsObject():
		m.geminiPart(parts)
	default:
		parts.ForEach(func(_, part gjson.Result) bool {
			m.geminiPart(part)
			return true
		})
	}
	return clean(m.append(nil))
}

// geminiTexts is the input of an embedding: a string, or a list if the content
// has several parts.
func geminiTexts(c gjson.Result) json.RawMessage {
	var list []gjson.Result
	c.Get("parts").ForEach(func(_, part gjson.Result) bool {
		if t := part.Get("text"); t.Type == gjson.String {
			list = append(list, t)
		} else if part.IsObject() {
			list = append(list, part)
		}
		return len(list) < maxParts
	})
	switch len(list) {
	case 0:
		return nil
	case 1:
		return raw(list[0])
	}
	out := []byte{'['}
	for i, t := range list {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, t.Raw...)
	}
	return clean(append(out, ']'))
}

// geminiPart adds a part of a content. Thought signatures are not readable, so
// they are omitted.
func (m *message) geminiPart(v gjson.Result) {
	kind, thought := "", false
	var at gjson.Result
	v.ForEach(func(k, v gjson.Result) bool {
		switch name := snake(k.Str); name {
		case "thought":
			thought = v.Type == gjson.True
		case "thought_signature", "part_metadata":
		case "text":
			if kind == "" && v.Type == gjson.String {
				kind, at = name, v
			}
		default:
			if v.IsObject() {
				kind, at = name, v
			}
		}
		return true
	})
	switch kind {
	case "":
	case "text":
		if thought {
			m.add(partThinking, escaped(at))
		} else {
			m.add(partText, escaped(at))
		}
	case "function_call":
		m.function(text(at.Get("id")), text(at.Get("name")), at.Get("args"))
	default:
		if len(m.parts) >= maxParts {
			return
		}
		b := rawjson.AppendQuote([]byte(`{"type":`), kind)
		b = rawjson.AppendQuote(append(b, ','), kind)
		b = append(append(append(b, ':'), at.Raw...), '}')
		m.parts = append(m.parts, part{kind: partRaw, key: -1 - int64(len(m.parts)), json: b})
	}
}

// geminiUsage are Google's counts as reported: the candidates exclude thoughts,
// the prompt excludes tool results, and zeros are omitted.
type geminiUsage struct {
	prompt, toolUse, cached, candidates, thoughts, total event.Int
}

// usageGemini reads usageMetadata. Each chunk of a stream has it, and the
// latest counts are used (genai: GenerateContentResponseUsageMetadata).
func (p *parser) usageGemini(v gjson.Result) {
	if !v.IsObject() {
		return
	}
	u, g := &p.e.Usage, &p.counts
	v.ForEach(func(k, v gjson.Result) bool {
		switch k.Str {
		case "promptTokenCount":
			count(v, &g.prompt)
		case "toolUsePromptTokenCount":
			count(v, &g.toolUse)
		case "cachedContentTokenCount":
			count(v, &g.cached)
		case "candidatesTokenCount", "responseTokenCount":
			count(v, &g.candidates)
		case "thoughtsTokenCount":
			count(v, &g.thoughts)
		case "totalTokenCount":
			count(v, &g.total)
		case "promptTokensDetails":
			modalities(v, modal{"TEXT": &u.InputText, "AUDIO": &u.InputAudio, "IMAGE": &u.InputImage, "VIDEO": &u.InputVideo, "DOCUMENT": &u.InputDocument})
		case "candidatesTokensDetails", "responseTokensDetails":
			modalities(v, modal{"TEXT": &u.OutputText, "AUDIO": &u.OutputAudio, "IMAGE": &u.OutputImage, "VIDEO": &u.OutputVideo})
		case "cacheTokensDetails":
			modalities(v, modal{"AUDIO": &u.CacheReadAudio})
		case "trafficType", "serviceTier":
			if s := text(v); s != "" {
				p.e.ServiceTier = event.FirstChars(s, 100)
			}
		}
		return true
	})
}

// modalities reads a breakdown by kind of content: [{modality, tokenCount}].
func modalities(v gjson.Result, to modal) {
	v.ForEach(func(_, d gjson.Result) bool {
		if dst := to[d.Get("modality").Str]; dst != nil {
			count(d.Get("tokenCount"), dst)
		}
		return true
	})
}

// modal are counts by Google's names of modalities.
type modal map[string]*event.Int

// settleGemini converts Google's counts to those of all providers: input
// includes tool results, output includes thoughts.
func (p *parser) finaliseGemini() {
	u, g := &p.e.Usage, &p.counts
	if g.prompt.Known || g.toolUse.Known {
		u.Input = event.Some(g.prompt.Or(0) + g.toolUse.Or(0))
		u.CacheExclusive = event.Some(false)
	}
	u.CacheRead, u.Reasoning, u.Total = g.cached, g.thoughts, g.total
	// A response that ended without text has no candidates count, as zeros are
	// not sent; the total shows it.
	if !g.candidates.Known && p.e.StopReason != "" && g.total.Known && u.Input.Known && g.total.Value == u.Input.Value+g.thoughts.Or(0) {
		g.candidates = event.Some(int64(0))
	}
	if g.candidates.Known {
		u.Output = event.Some(g.candidates.Value + g.thoughts.Or(0))
	}
}

// geminiStream assembles the chunks of a response; a complete response is a
// stream of one (genai: GenerateContentResponse).
type geminiStream struct {
	p          *parser
	candidates []*geminiCandidate
	grounded   int64 // searches of the grounding metadata
}

type geminiCandidate struct {
	index int64
	message
}

func (s *geminiStream) candidate(index int64) *geminiCandidate {
	for _, c := range s.candidates {
		if c.index == index {
			return c
		}
	}
	c := &geminiCandidate{index: index, message: message{role: "assistant"}}
	if len(s.candidates) < maxChoices {
		s.candidates = append(s.candidates, c)
	}
	return c
}

func (s *geminiStream) event(f frame, v gjson.Result, tail bool) {
	v.ForEach(func(k, v gjson.Result) bool {
		s.member(f, k.Str, v, tail)
		return true
	})
}

func (s *geminiStream) member(f frame, name string, v gjson.Result, tail bool) {
	p := s.p
	switch name {
	case "candidates":
		p.recognised = p.recognised || v.Get("0").Exists()
		v.ForEach(func(_, c gjson.Result) bool {
			s.delta(f, c, tail)
			return true
		})
	case "usageMetadata":
		p.usageGemini(v)
	case "modelVersion":
		if t := text(v); t != "" {
			p.e.Model = event.FirstChars(t, 200)
		}
	case "responseId":
		if t := text(v); t != "" {
			p.e.CompletionID = event.FirstChars(t, 200)
		}
	case "promptFeedback":
		if r := text(v.Get("blockReason")); r != "" {
			p.e.StopReason, p.refused, p.ended, p.recognised = event.FirstChars(r, 100), true, true, true
		}
	case "error":
		p.fault(v)
	}
}

func (s *geminiStream) delta(f frame, v gjson.Result, tail bool) {
	p := s.p
	c := s.candidate(v.Get("index").Int())
	v.ForEach(func(k, v gjson.Result) bool {
		switch k.Str {
		case "finishReason":
			p.finish(v, c.index == 0)
		case "finishMessage":
			p.trouble.message = event.FirstChars(text(v), 2000)
		case "content":
			v.Get("parts").ForEach(func(_, part gjson.Result) bool {
				s.part(f, c, part, tail)
				return true
			})
		case "groundingMetadata":
			if n := v.Get("webSearchQueries.#").Int(); n > s.grounded {
				s.grounded = n
			}
		}
		return true
	})
}

// part adds a part, or extends the previous one if it is of the same kind.
func (s *geminiStream) part(f frame, c *geminiCandidate, v gjson.Result, tail bool) {
	n := len(c.parts)
	if tail {
		c = new(geminiCandidate) // text with a gap would be joined wrongly
		n = 0
	}
	c.geminiPart(v)
	if len(c.parts) == n {
		return
	}
	s.p.token(f, tail)
	if n == 0 {
		return
	}
	last, piece := &c.parts[n-1], &c.parts[n]
	if last.kind == piece.kind && (last.kind == partText || last.kind == partThinking) {
		last.text = append(last.text, piece.text...)
		c.parts = c.parts[:n]
	}
}

func (s *geminiStream) end() {
	slices.SortStableFunc(s.candidates, func(a, b *geminiCandidate) int { return cmp.Compare(a.index, b.index) })
	var messages []*message
	for _, c := range s.candidates {
		messages = append(messages, &c.message)
	}
	s.p.e.Content.Output = render(messages)
	if s.grounded > 0 {
		// Gemini 3 bills each search, older models each prompt with a search
		// (https://ai.google.dev/gemini-api/docs/pricing).
		if !strings.HasPrefix(s.p.e.ModelName(), "gemini-3") {
			s.grounded = 1
		}
		s.p.e.Usage.WebSearches = event.Some(s.grounded)
	}
}

// elements reads a JSON array whose elements arrive one by one, as
// streamGenerateContent sends without alt=sse. It tracks brackets and strings
// only, and returns each complete object.
type elements struct {
	body string
	pos  int
}

func (r *elements) next() (frame, bool) {
	start, depth := -1, 0
	for i := r.pos; i < len(r.body); i++ {
		switch r.body[i] {
		case '"':
			if start < 0 {
				continue
			}
			for i++; i < len(r.body) && r.body[i] != '"'; i++ {
				if r.body[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			if start < 0 {
				if r.body[i] == '[' {
					continue // the array's own bracket
				}
				start = i
			}
			depth++
		case '}', ']':
			if start < 0 {
				continue
			}
			if depth--; depth == 0 {
				r.pos = i + 1
				return frame{data: r.body[start:r.pos], end: r.pos, ended: true}, true
			}
		}
	}
	r.pos = len(r.body)
	return frame{}, false
}

// resyncElements returns s from its first boundary between elements on; s
// begins anywhere in a streamed array: Google sends a line with a single comma.
func resyncElements(s string) (string, bool) {
	b := []byte(s)
	at := -1
	for _, sep := range []string{"\n,\r\n", "\n,\n", "\r,\r"} {
		if k := bytes.Index(b, []byte(sep)); k >= 0 && (at < 0 || k+len(sep) < at) {
			at = k + len(sep)
		}
	}
	if at < 0 {
		return "", false
	}
	return s[at:], true
}
