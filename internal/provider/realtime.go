package provider

import (
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/rawjson"
)

// OpenAI's Realtime API (openai-go: realtime.RealtimeClientEvent,
// RealtimeServerEvent), as of 2025-08 and in the earlier beta, whose text and
// audio events have other names.

// realtimeCaller reads a caller's message of the Realtime API. The provider
// sends most of the caller's items back, as it understood them.
func (s *Socket) realtimeCaller(m string, truncated bool, at time.Time) {
	if truncated || gjson.Get(m, "type").Str != "response.create" {
		return
	}
	t := &turn{event: shortText(gjson.Get(m, "event_id"))}
	if r := gjson.Get(m, "response"); r.IsObject() && len(r.Raw) <= longestSetup {
		t.request = strings.Clone(r.Raw) // not with the rest of the message
	}
	s.begin(t, nil, false, at)
}

func (s *Socket) realtimeProvider(message []byte, truncated bool, at time.Time) {
	v := gjson.Parse(view(message))
	if truncated {
		v = gjson.Result{} // complete members are found by name
	}
	get := func(path string) gjson.Result { return gjson.Get(view(message), path) }
	switch kind := get("type").Str; kind {
	case "session.created", "session.updated":
		if session := v.Get("session"); session.IsObject() {
			s.model = or(shortText(session.Get("model")), s.model)
			if s.setup = ""; len(session.Raw) <= longestSetup {
				s.setup = strings.Clone(session.Raw)
			}
		}
	case "conversation.item.created", "conversation.item.added", "conversation.item.done":
		if it := v.Get("item"); it.Get("role").Str != "assistant" && it.Get("type").Str != "function_call" {
			if b := realtimeItem(it); b != "" {
				s.put(item{id: shortText(it.Get("id")), json: b, at: at})
			}
		}
	case "conversation.item.input_audio_transcription.completed", "conversation.item.input_audio_transcription.failed":
		s.transcribed(v, at)
	case "response.created":
		t := s.find("", false)
		if t == nil {
			t = s.begin(new(turn), nil, false, at) // the provider detected the end of the user's speech
		}
		t.key, t.started, t.conversation = shortText(get("response.id")), true, s.take()
		t.add(message, truncated, at)
	case "response.done":
		if t := s.find(shortText(get("response.id")), true); t != nil {
			t.add(message, truncated, at)
			s.end(t, at)
		}
	case "error":
		s.realtimeError(v, message, at)
	default:
		if t := s.find(shortText(get("response_id")), true); t != nil && strings.HasPrefix(kind, "response.") {
			if kind == "response.output_audio.delta" || kind == "response.audio.delta" {
				message, truncated = []byte(`{"type":"response.output_audio.delta"}`), false
			}
			t.add(message, truncated, at)
		}
	}
}

// realtimeError ends the response that was rejected. Other errors refer to
// other events, and none of them ends the connection.
func (s *Socket) realtimeError(v gjson.Result, message []byte, at time.Time) {
	id, code := shortText(v.Get("error.event_id")), v.Get("error.code").Str
	for _, t := range s.turns {
		if !t.started && (id != "" && t.event == id || id == "" && code == "conversation_already_has_active_response") {
			t.add(message, false, at)
			s.end(t, at)
			return
		}
	}
}

// transcribed records the transcription of user audio, which is billed
// separately with its own model, and sets it as the content of the user's
// message.
func (s *Socket) transcribed(v gjson.Result, at time.Time) {
	c, i := s.known(shortText(v.Get("item_id")))
	start := at
	if c != nil {
		start = c.items[i].at
	}
	model := gjson.Get(s.setup, "audio.input.transcription.model")
	if !model.Exists() { // the beta's
		model = gjson.Get(s.setup, "input_audio_transcription.model")
	}
	request := rawjson.AppendQuote([]byte(`{"model":`), text(model))
	if id := gjson.Get(s.setup, "id"); id.Exists() {
		request = append(append(request, `,"session_id":`...), id.Raw...)
	}
	request = append(request, '}')
	rec := s.rec.Begin(opTranscription, request, false, start)
	if fault := v.Get("error"); fault.IsObject() {
		rec.Add([]byte(`{"type":"error","error":`+fault.Raw+`}`), at)
	} else {
		said := v.Get("transcript")
		done := append([]byte(`{"type":"transcript.text.done","text":`), orNull(said)...)
		done = append(append(done, `,"usage":`...), orNull(v.Get("usage"))...)
		rec.Add(append(done, '}'), at)
		if said.Type == gjson.String && c != nil { // otherwise its response has ended
			c.replace(i, `{"role":"user","content":`+said.Raw+`}`)
		}
	}
	rec.End(nil, at)
}

func orNull(v gjson.Result) string {
	if !v.Exists() {
		return "null"
	}
	return v.Raw
}

// realtimeItem converts an item to the format of the Responses API, without
// audio.
func realtimeItem(v gjson.Result) string {
	if v.Get("type").Str != "message" {
		return strings.Clone(v.Raw)
	}
	m := &message{role: or(text(v.Get("role")), "user")}
	v.Get("content").ForEach(func(_, c gjson.Result) bool {
		switch kind := c.Get("type").Str; {
		case strings.HasSuffix(kind, "audio"):
			if t := escaped(c.Get("transcript")); t != "" {
				m.add(partText, t)
			} else {
				m.add(partText, "[audio]")
			}
		case strings.HasSuffix(kind, "text"):
			m.add(partText, escaped(c.Get("text")))
		default:
			m.addRaw(c)
		}
		return true
	})
	return string(m.append(nil))
}

// realtimeRequest assembles the request of a response: the session's settings,
// those of response.create, and the conversation since the last response.
func (s *Socket) realtimeRequest(t *turn) []byte {
	b := rawjson.AppendQuote([]byte(`{"model":`), s.model)
	for _, settings := range [...]string{s.setup, t.request} {
		if settings != "" {
			b = append(append(b, `,"session":`...), settings...)
		}
	}
	b = append(b, `,"input":[`...)
	for i, it := range t.items {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, it.json...)
	}
	return append(b, `]}`...)
}

// realtimeSettings are the members of a session and of response.create that are
// recorded as model parameters.
var realtimeSettings = map[string]bool{
	"output_modalities": true, "modalities": true, "max_output_tokens": true, "max_response_output_tokens": true, "tool_choice": true, "temperature": true,
	"reasoning": true, "truncation": true, "voice": true, "conversation": true, "parallel_tool_calls": true,
}

// realtimeMember reads a member of the request assembled by
// [Socket.realtimeRequest].
func (p *parser) realtimeMember(name string, v gjson.Result) {
	if name != "session" {
		p.responsesRequest(name, v)
		return
	}
	v.ForEach(func(k, v gjson.Result) bool {
		switch k.Str {
		case "id":
			p.e.SessionID = or(p.e.SessionID, event.FirstChars(text(v), longestValue))
		case "instructions": // response.create's replace the session's
			p.e.Content.Input = nil
			p.responsesRequest(k.Str, v)
		case "input", "tools":
			if v.Get("0").Exists() {
				p.responsesRequest(k.Str, v)
			}
		case "metadata":
			p.metadata(v)
		case "audio":
			if voice := v.Get("output.voice"); voice.Exists() {
				p.parameter("voice", voice)
			}
		default:
			if realtimeSettings[k.Str] && v.Type != gjson.Null {
				p.parameter(k.Str, v)
			}
		}
		return true
	})
}

// realtimeStream reads the events of a response. They are those of the
// Responses API with other names, plus the transcript of audio, which is its
// text.
type realtimeStream struct{ responsesStream }

func (s *realtimeStream) event(f frame, v gjson.Result, tail bool) {
	kind := v.Get("type").Str
	switch kind {
	case "response.done":
		kind = "response.completed"
	case "response.output_audio_transcript.delta", "response.audio_transcript.delta", "response.text.delta":
		kind = "response.output_text.delta"
	}
	s.kind(kind, f, v, tail)
}

// responseStatus reads why a response of the Realtime API ended.
func (p *parser) responseStatus(v gjson.Result) {
	switch reason := text(v.Get("reason")); {
	case v.Get("type").Str == "failed":
		p.fault(v.Get("error"))
		p.trouble.found = true
	case v.Get("type").Str == "incomplete" && reason != "":
		p.e.StopReason = event.FirstChars(reason, 100)
	case reason != "": // cancelled: turn_detected, client_cancelled
		p.meta("cancel_reason", rawjson.Quote(event.FirstChars(reason, 100)))
	}
}
