package provider

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
)

// socket serves the providers' WebSocket APIs: OpenAI's Responses and Realtime
// APIs, Google's Live API. It reports whether the request was for one.
func (c *call) socket() bool {
	var serve func(*Conn)
	switch path := strings.TrimSuffix(c.path, "/"); {
	case !strings.EqualFold(c.r.Header.Get("Upgrade"), "websocket"):
		return false
	case strings.HasSuffix(path, "/responses"):
		serve = c.responsesSocket
	case strings.HasSuffix(path, "/realtime"):
		serve = c.realtimeSocket
	case strings.Contains(path, "BidiGenerateContent"):
		serve = c.liveSocket
	default:
		return false
	}
	conn, err := Accept(c.w, c.r)
	if err != nil {
		return true
	}
	c.s.mu.Lock()
	c.rec.Status = http.StatusSwitchingProtocols
	c.s.mu.Unlock()
	defer conn.Close()
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-c.s.stop:
			_ = conn.Close()
		case <-ended:
		}
	}()
	serve(conn)
	return true
}

// eachMessage calls f with the caller's messages until the caller closes, and
// completes the close.
func (c *call) eachMessage(conn *Conn, f func(kind string, m map[string]json.RawMessage, raw []byte) bool) {
	for {
		raw, err := conn.Message()
		var closed Closed
		if errors.As(err, &closed) {
			_ = conn.Bye(closed.Code, "")
			return
		}
		if err != nil {
			return
		}
		var m map[string]json.RawMessage
		if json.Unmarshal(raw, &m) != nil {
			_ = conn.Bye(1007, "Request contains an invalid argument.")
			return
		}
		var kind string
		_ = json.Unmarshal(m["type"], &kind)
		if !f(kind, m, raw) {
			return
		}
	}
}

func send(conn *Conn, o object) bool { return conn.Text(string(encode(o))) == nil }

// responsesSocket responds to each response.create with the events of a
// streamed POST.
func (c *call) responsesSocket(conn *Conn) {
	c.eachMessage(conn, func(kind string, m map[string]json.RawMessage, _ []byte) bool {
		if kind != "response.create" {
			return true
		}
		if string(m["generate"]) == "false" {
			id := "resp_warm" + c.hex(20)
			for _, status := range []string{"in_progress", "completed"} {
				kind := map[string]string{"in_progress": "response.created", "completed": "response.completed"}[status]
				o := object{"id", id, "object", "response", "status", status, "model", m["model"], "output", list{}}
				if status == "completed" {
					o = append(o, "usage", object{"input_tokens", 0, "output_tokens", 0, "total_tokens", 0})
				}
				if !send(conn, object{"type", kind, "response", o}) {
					return false
				}
			}
			return true
		}
		delete(m, "type")
		delete(m, "generate")
		m["stream"] = json.RawMessage("true")
		r := c.r.Clone(c.r.Context())
		r.Method, r.URL.Path = http.MethodPost, "/openai/v1/responses"
		r.Header.Del("Upgrade")
		r.Header.Del("X-Sim")
		r.Header.Del("Accept-Encoding")
		body := &bodyOf{bytes.NewReader(encode(m))}
		r.Body, r.ContentLength = body, int64(body.Len())
		w := &eventFrames{conn: conn, header: make(http.Header), status: http.StatusOK}
		ok := func() (ok bool) {
			defer func() { ok = recover() == nil }() // a reset panics, as the connection is hijacked
			c.s.ServeHTTP(w, r)
			return true
		}()
		return ok && w.end()
	})
}

type bodyOf struct{ *bytes.Reader }

func (bodyOf) Close() error { return nil }

// eventFrames sends server-sent events as messages, and an error as an event.
type eventFrames struct {
	conn   *Conn
	header http.Header
	status int
	buf    []byte
	err    error
}

func (w *eventFrames) Header() http.Header    { return w.header }
func (w *eventFrames) WriteHeader(status int) { w.status = status }
func (w *eventFrames) Flush()                 {}

func (w *eventFrames) Write(p []byte) (int, error) {
	w.buf = append(w.buf, p...)
	for w.status == http.StatusOK && w.err == nil {
		frame, rest, ok := bytes.Cut(w.buf, []byte("\n\n"))
		if !ok {
			break
		}
		if _, data, ok := bytes.Cut(frame, []byte("data: ")); ok {
			w.err = w.conn.Text(string(data))
		}
		w.buf = rest
	}
	return len(p), w.err
}

func (w *eventFrames) end() bool {
	if w.status != http.StatusOK {
		var e struct{ Error json.RawMessage }
		_ = json.Unmarshal(w.buf, &e)
		w.err = w.conn.Text(string(encode(object{"type", "error", "status", w.status, "error", e.Error})))
	}
	return w.err == nil
}

// sound is audio that must not be stored.
var sound = strings.Repeat("UklGRiQAAABXQVZF", 40)

// realtimeSocket holds a conversation. Speech is recognised immediately.
func (c *call) realtimeSocket(conn *Conn) {
	session := map[string]json.RawMessage{"id": json.RawMessage(`"sess_` + c.id(12) + `"`), "type": json.RawMessage(`"realtime"`), "model": encode(c.r.URL.Query().Get("model"))}
	items, responses := 0, 0
	item := func(it json.RawMessage) bool {
		return send(conn, object{"type", "conversation.item.added", "item", it}) && send(conn, object{"type", "conversation.item.done", "item", it})
	}
	if !send(conn, object{"type", "session.created", "event_id", "event_" + c.id(8), "session", session}) {
		return
	}
	c.eachMessage(conn, func(kind string, m map[string]json.RawMessage, _ []byte) bool {
		switch kind {
		case "session.update":
			var change map[string]json.RawMessage
			_ = json.Unmarshal(m["session"], &change)
			for k, v := range change {
				session[k] = v
			}
			return send(conn, object{"type", "session.updated", "session", session})
		case "conversation.item.create":
			items++
			var it map[string]json.RawMessage
			_ = json.Unmarshal(m["item"], &it)
			it["id"] = encode(c.itemID(items))
			return item(encode(it))
		case "input_audio_buffer.commit":
			items++
			id := c.itemID(items)
			return send(conn, object{"type", "input_audio_buffer.committed", "item_id", id}) &&
				item(encode(object{"id", id, "type", "message", "role", "user", "content", list{object{"type", "input_audio", "transcript", nil}}})) &&
				send(conn, object{"type", "conversation.item.input_audio_transcription.completed", "item_id", id, "content_index", 0, "transcript", "How wide is a hedge?",
					"usage", object{"type", "tokens", "input_tokens", 13, "output_tokens", 9, "total_tokens", 22, "input_token_details", object{"text_tokens", 0, "audio_tokens", 13}}})
		case "response.create":
			responses++
			items++
			return c.realtimeResponse(conn, "resp_"+c.id(12)+string(rune('a'+responses)), c.itemID(items))
		}
		return true
	})
}

func (c *call) itemID(n int) string { return "item_" + c.id(8) + string(rune('a'+n)) }

func (c *call) realtimeResponse(conn *Conn, id, item string) bool {
	if !send(conn, object{"type", "response.created", "response", object{"object", "realtime.response", "id", id, "status", "in_progress", "output", list{}}}) {
		return false
	}
	const said = "Half a metre."
	for _, piece := range []string{"Half ", "a ", "metre."} {
		if !send(conn, object{"type", "response.output_audio_transcript.delta", "response_id", id, "item_id", item, "output_index", 0, "content_index", 0, "delta", piece}) ||
			!send(conn, object{"type", "response.output_audio.delta", "response_id", id, "item_id", item, "output_index", 0, "content_index", 0, "delta", sound}) {
			return false
		}
	}
	return send(conn, object{"type", "response.done", "response", object{
		"object", "realtime.response", "id", id, "status", "completed",
		"output", list{object{"id", item, "type", "message", "role", "assistant", "content", list{object{"type", "output_audio", "transcript", said}}}},
		"usage", object{
			"total_tokens", 253, "input_tokens", 132, "output_tokens", 121,
			"input_token_details", object{"text_tokens", 119, "audio_tokens", 13, "cached_tokens", 64, "cached_tokens_details", object{"text_tokens", 60, "audio_tokens", 4}},
			"output_token_details", object{"text_tokens", 30, "audio_tokens", 91},
		},
	}})
}

// liveSocket responds to each turn of the caller with text and audio.
func (c *call) liveSocket(conn *Conn) {
	binary := func(o object) bool { return conn.Write(Frame{true, FrameBinary, encode(o)}) == nil } // as Google sends them
	c.eachMessage(conn, func(_ string, m map[string]json.RawMessage, raw []byte) bool {
		switch {
		case m["setup"] != nil:
			return binary(object{"setupComplete", object{}})
		case bytes.Contains(raw, []byte(`"turnComplete":true`)), bytes.Contains(raw, []byte(`"turn_complete":true`)), bytes.Contains(raw, []byte(`"text"`)):
			content := func(o object) bool { return binary(object{"serverContent", o}) }
			return content(object{"modelTurn", object{"parts", list{object{"inlineData", object{"mimeType", "audio/pcm;rate=24000", "data", sound}}}}}) &&
				content(object{"outputTranscription", object{"text", "Half a metre."}}) &&
				binary(object{"serverContent", object{"turnComplete", true}, "usageMetadata", object{
					"promptTokenCount", 20, "responseTokenCount", 30, "totalTokenCount", 50, "responseTokensDetails", list{object{"modality", "AUDIO", "tokenCount", 30}},
				}})
		}
		return true
	})
}
