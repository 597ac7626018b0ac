package provider

import (
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/rawjson"
)

// Google's Live API (genai: LiveClientMessage, LiveServerMessage), of the
// Gemini API and Vertex AI.

// liveCaller reads a caller's message of the Live API.
func (s *Socket) liveCaller(v gjson.Result, at time.Time) {
	v.ForEach(func(k, v gjson.Result) bool {
		switch snake(k.Str) {
		case "setup":
			s.model = shortText(v.Get("model"))
			s.model = s.model[strings.LastIndexByte(s.model, '/')+1:]
			if s.setup = ""; len(v.Raw) <= longestSetup {
				s.setup = strings.Clone(v.Raw)
			}
		case "client_content":
			v.Get("turns").ForEach(func(_, c gjson.Result) bool {
				s.put(item{json: string(withoutData([]byte(c.Raw), "parts")), at: at})
				return true
			})
			s.asked = at
		case "realtime_input":
			if t := v.Get("text"); t.Type == gjson.String {
				s.put(item{json: `{"role":"user","parts":[{"text":` + t.Raw + `}]}`, at: at})
				s.asked = at
			}
			if v.Get("activityEnd").Exists() || v.Get("activity_end").Exists() || v.Get("audioStreamEnd").Exists() || v.Get("audio_stream_end").Exists() {
				s.asked = at
			}
		case "tool_response":
			// The next output is another generation: this one ended with its
			// tool calls.
			if t := s.find("", true); t != nil && t.calls {
				s.end(t, at)
			}
			responses := v.Get("functionResponses")
			if !responses.Exists() {
				responses = v.Get("function_responses")
			}
			responses.ForEach(func(_, r gjson.Result) bool {
				s.put(item{json: `{"role":"user","parts":[{"functionResponse":` + r.Raw + `}]}`, at: at})
				return true
			})
			s.asked = at
		}
		return true
	})
}

// liveProvider reads a provider's message of the Live API. A turn starts with
// the first part of a response, and ends with turnComplete, with the results of
// its tool calls, or with another turn after an interruption.
func (s *Socket) liveProvider(message []byte, truncated bool, at time.Time) {
	if truncated {
		if t := s.find("", true); t != nil {
			t.add(nil, true, at)
		}
		return
	}
	v := gjson.Parse(view(message))
	content, calls := v.Get("serverContent"), v.Get("toolCall").Exists()
	if heard := escaped(content.Get("inputTranscription.text")); heard != "" && len(s.heard) < mostContext {
		s.heard, s.asked = append(s.heard, heard...), at
	}
	said := calls || content.Get("modelTurn").Exists() || content.Get("outputTranscription").Exists()
	completes := content.Get("turnComplete").Bool()
	t := s.find("", true)
	if t != nil && t.broken && said {
		s.end(t, at)
		t = nil
	}
	if t == nil {
		if !said && !v.Get("usageMetadata").Exists() {
			return
		}
		begun := at
		if !s.asked.IsZero() {
			begun = s.asked
		}
		t = s.begin(&turn{started: true, conversation: s.take()}, nil, false, begun)
		s.asked = time.Time{}
		completes = completes || !said // a count that arrives after its turn
	}
	t.calls = t.calls || calls
	t.broken = t.broken || content.Get("interrupted").Bool()
	t.add(withoutData(message, "serverContent.modelTurn.parts"), false, at)
	if completes {
		s.end(t, at)
	}
}

// withoutData removes the bytes of files and audio from the parts at a path.
func withoutData(message []byte, path string) []byte {
	if !strings.Contains(view(message), "nlineData") && !strings.Contains(view(message), "nline_data") {
		return message
	}
	m := view(message)
	out := make([]byte, 0, len(m))
	from := 0
	gjson.Get(m, path).ForEach(func(_, part gjson.Result) bool {
		for _, name := range [...]string{"inlineData.data", "inline_data.data"} {
			d := part.Get(name)
			at := d.Index
			if d.Type != gjson.String || at <= 0 || at < from || at+len(d.Raw) > len(m) || m[at:at+len(d.Raw)] != d.Raw {
				continue
			}
			out = append(append(out, m[from:at]...), `""`...)
			from = at + len(d.Raw)
		}
		return true
	})
	return append(out, m[from:]...)
}

// liveRequest assembles the request of a turn: the setup, and the conversation
// since the last turn.
func (s *Socket) liveRequest(t *turn) []byte {
	b := rawjson.AppendQuote([]byte(`{"model":`), s.model)
	gjson.Parse(s.setup).ForEach(func(k, v gjson.Result) bool {
		if k.Str != "model" && k.Str != "contents" {
			b = append(append(append(append(b, ','), k.Raw...), ':'), v.Raw...)
		}
		return true
	})
	b = append(b, `,"contents":[`...)
	n := len(b)
	for _, it := range t.items {
		if len(b) > n {
			b = append(b, ',')
		}
		b = append(b, it.json...)
	}
	if len(s.heard) > 0 {
		if len(b) > n {
			b = append(b, ',')
		}
		b = append(appendEscaped(append(b, `{"role":"user","parts":[{"text":`...), s.heard), `}]}`...)
		s.heard = nil
	}
	return append(b, `]}`...)
}

// liveStream reads the messages of a turn.
type liveStream struct{ geminiStream }

func (s *liveStream) event(f frame, v gjson.Result, tail bool) {
	p, c := s.p, s.candidate(0)
	v.ForEach(func(k, v gjson.Result) bool {
		switch k.Str {
		case "serverContent":
			s.content(f, c, v, tail)
		case "toolCall":
			p.ended = true
			p.e.StopReason = or(p.e.StopReason, "tool_call")
			v.Get("functionCalls").ForEach(func(_, call gjson.Result) bool {
				p.token(f, tail)
				if !tail {
					c.function(text(call.Get("id")), text(call.Get("name")), call.Get("args"))
				}
				return true
			})
		case "toolCallCancellation":
			p.meta("tool_calls_cancelled", raw(v.Get("ids")))
		default:
			s.member(f, k.Str, v, tail)
		}
		return true
	})
}

func (s *liveStream) content(f frame, c *geminiCandidate, v gjson.Result, tail bool) {
	p := s.p
	v.Get("modelTurn.parts").ForEach(func(_, part gjson.Result) bool {
		if part.Get("inlineData").Exists() || part.Get("inline_data").Exists() {
			p.token(f, tail) // audio; its text arrives as a transcript
			return true
		}
		s.part(f, c, part, tail)
		return true
	})
	if t := v.Get("outputTranscription"); t.Get("text").Type == gjson.String {
		s.part(f, c, t, tail)
	}
	if n := v.Get("groundingMetadata.webSearchQueries.#").Int(); n > s.grounded {
		s.grounded = n
	}
	switch {
	case v.Get("interrupted").Bool():
		p.e.StopReason, p.ended = "interrupted", true
	case v.Get("turnComplete").Bool():
		p.ended = true
		p.e.StopReason = or(p.e.StopReason, or(event.FirstChars(text(v.Get("turnCompleteReason")), 100), "turn_complete"))
	}
}
