package provider

import (
	"strings"

	"github.com/tidwall/gjson"

	"github.com/hedgerow/hedgerow/event"
)

// ollamaOperation returns the operation of a path of Ollama's own API, or "".
// Its OpenAI-compatible API is under /v1.
func ollamaOperation(method, path string) string {
	if method != "POST" {
		return ""
	}
	i := strings.LastIndex(path, "/api/")
	if i < 0 {
		return ""
	}
	switch strings.TrimSuffix(path[i+len("/api/"):], "/") {
	case "chat":
		return opOllamaChat
	case "generate":
		return opOllamaGenerate
	case "embed":
		return opEmbeddings
	}
	return ""
}

// ollamaParameters are the settings that Ollama has outside its options.
var ollamaParameters = map[string]bool{"think": true, "format": true, "keep_alive": true, "raw": true, "truncate": true, "shift": true}

// ollamaRequest reads a member of a request (ollama/api: ChatRequest and
// GenerateRequest).
func (p *parser) ollamaRequest(name string, v gjson.Result) {
	e := p.e
	switch name {
	case "messages":
		e.Content.Input = raw(v)
	case "tools":
		if v.IsArray() {
			e.Content.Tools = raw(v)
		}
	case "system":
		p.turn(0, "system", v)
	case "prompt":
		p.turn(2, "user", v)
	case "options":
		n := 0
		v.ForEach(func(k, v gjson.Result) bool {
			if n++; n > len(parameters) {
				return false
			}
			if v.Type != gjson.Null && len(k.Str) < 60 {
				p.parameter(strings.ToValidUTF8(k.Str, "\uFFFD"), v)
			}
			return true
		})
	default:
		if ollamaParameters[name] && v.Type != gjson.Null && v.Raw != `""` {
			p.parameter(name, v)
		}
	}
}

// ollamaStream assembles a response (ollama/api: ChatResponse and
// GenerateResponse). A complete response is a stream of one line.
type ollamaStream struct {
	p       *parser
	message message
	spoke   bool
}

func (s *ollamaStream) event(f frame, v gjson.Result, tail bool) {
	v.ForEach(func(k, v gjson.Result) bool {
		s.member(f, k.Str, v, tail)
		return true
	})
}

func (s *ollamaStream) member(f frame, name string, v gjson.Result, tail bool) {
	p, e := s.p, s.p.e
	switch name {
	case "model":
		e.Model = or(event.FirstChars(text(v), 200), e.Model)
	case "message":
		s.spoke, p.recognised = true, true
		v.ForEach(func(k, v gjson.Result) bool {
			switch k.Str {
			case "role":
				s.message.role = or(text(v), s.message.role)
			case "content":
				s.piece(f, partText, v, tail)
			case "thinking":
				s.piece(f, partThinking, v, tail)
			case "tool_calls":
				s.calls(f, v, tail)
			}
			return true
		})
	case "response":
		s.spoke, p.recognised = true, true
		s.piece(f, partText, v, tail)
	case "thinking":
		s.piece(f, partThinking, v, tail)
	case "tool_calls":
		s.calls(f, v, tail)
	case "done":
		p.ended, p.recognised = p.ended || v.Bool(), true
	case "done_reason":
		e.StopReason = or(event.FirstChars(text(v), 100), e.StopReason)
	case "prompt_eval_count":
		count(v, &e.Usage.Input)
	case "eval_count":
		count(v, &e.Usage.Output)
	case "load_duration", "prompt_eval_duration", "eval_duration":
		if v.Type == gjson.Number {
			p.meta(name+"_ns", raw(v))
		}
	case "error":
		if f.data != "" && v.Type != gjson.Null { // for a complete response, jsonResponse reads it
			p.fault(v)
		}
	}
}

func (s *ollamaStream) piece(f frame, kind partKind, v gjson.Result, tail bool) {
	t := escaped(v)
	if t == "" {
		return
	}
	if f.end > 0 {
		s.p.token(f, tail)
	}
	if !tail {
		pt := s.message.at(kind, 0)
		pt.text = append(pt.text, t...)
	}
}

// calls adds tool calls: each is complete, in one line.
func (s *ollamaStream) calls(f frame, v gjson.Result, tail bool) {
	v.ForEach(func(_, c gjson.Result) bool {
		if f.end > 0 {
			s.p.token(f, tail)
		}
		if fn := c.Get("function"); !tail {
			s.message.function(text(c.Get("id")), text(fn.Get("name")), fn.Get("arguments"))
		}
		return true
	})
}

func (s *ollamaStream) end() {
	if s.spoke {
		s.message.reasoningFirst()
		s.p.e.Content.Output = render([]*message{&s.message})
	}
}

// jsonLines reads newline-delimited JSON.
type jsonLines struct {
	body string
	pos  int
}

func (r *jsonLines) next() (frame, bool) {
	for r.pos < len(r.body) {
		line, _, ended := strings.Cut(r.body[r.pos:], "\n")
		r.pos += len(line)
		if ended {
			r.pos++
		}
		if line = strings.TrimRight(line, " \t\r"); line != "" {
			return frame{data: line, end: r.pos, ended: ended}, true
		}
	}
	return frame{}, false
}

// resyncLines returns s after its first line end.
func resyncLines(s string) (string, bool) {
	_, rest, ok := strings.Cut(s, "\n")
	return rest, ok
}

// isLines reports whether the response is a stream of lines.
func isLines(contentType, body string) bool {
	if strings.Contains(contentType, "ndjson") {
		return true
	}
	_, rest, ok := strings.Cut(body, "\n")
	return ok && strings.HasPrefix(rest, `{"`)
}
