package provider

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// ollama reports whether a call uses Ollama's own format; under /v1 it uses
// OpenAI's.
func (c *call) ollama() bool {
	return c.rec.Provider == "ollama" && strings.HasPrefix(c.path, "/api/")
}

// ollamaParse converts Ollama's request to the common fields.
func (c *call) ollamaParse(body []byte) error {
	if err := c.req.parse(body); err != nil {
		return err
	}
	var r struct {
		Stream  *bool
		Prompt  json.RawMessage
		Think   any
		Options struct {
			NumPredict *int `json:"num_predict"`
		}
	}
	if err := json.Unmarshal(body, &r); err != nil {
		return err
	}
	c.req.Stream = r.Stream == nil || *r.Stream
	c.req.MaxTokens = r.Options.NumPredict
	if r.Prompt != nil {
		c.req.Messages = append(c.req.Messages, r.Prompt)
	}
	if r.Think != nil && r.Think != false {
		c.req.Thinking = &struct {
			Type   string
			Budget int `json:"budget_tokens"`
		}{Type: "enabled"}
	}
	return nil
}

// ollamaCall is POST /api/chat, /api/generate and /api/embed. Source of the
// format: the types of ollama/api.
func (c *call) ollamaCall() {
	switch {
	case c.req.Model == "":
		c.fail(http.StatusBadRequest, BadRequest, "model is required")
	case c.path == "/api/embed":
		var several []json.RawMessage
		if json.Unmarshal(c.req.Input, &several) != nil {
			several = []json.RawMessage{c.req.Input}
		}
		vectors := list{}
		for range several {
			vectors = append(vectors, c.floats(384))
		}
		c.json(http.StatusOK, object{"model", c.req.Model, "embeddings", vectors, "total_duration", 14143917, "load_duration", 1019500, "prompt_eval_count", c.req.prompt()})
	case c.path == "/api/chat", c.path == "/api/generate":
		c.ollamaAnswer(c.path == "/api/chat")
	default:
		c.fail(http.StatusNotFound, NotFound, "404 page not found")
	}
}

// ollamaAnswer responds with one object or with one line per token.
func (c *call) ollamaAnswer(chat bool) {
	a := c.answer()
	ch := a.choices[0]
	line := func(text, thinking string, calls list, done bool) object {
		o := object{"model", c.req.Model, "created_at", c.start.UTC().Format(time.RFC3339Nano)}
		said := object{}
		if thinking != "" {
			said = append(said, "thinking", thinking)
		}
		if calls != nil {
			said = append(said, "tool_calls", calls)
		}
		if chat {
			o = append(o, "message", append(object{"role", "assistant", "content", text}, said...))
		} else {
			o = append(append(o, "response", text), said...)
		}
		if o = append(o, "done", done); done {
			reason := [...]string{"stop", "length", "stop", "stop", "stop"}[ch.end]
			if c.b.Stop != "" {
				reason = c.b.Stop
			}
			o = append(o, "done_reason", reason, "total_duration", 4883583458, "load_duration", 1334875,
				"prompt_eval_count", a.usage.input, "prompt_eval_duration", 342546000, "eval_count", a.usage.output, "eval_duration", 4535599000)
		}
		return o
	}
	thoughts := a.reasoning
	if c.req.Thinking == nil {
		thoughts = ""
	}
	text := ch.text + ch.refusal
	var calls []list
	for _, t := range ch.tools {
		calls = append(calls, list{object{"function", object{"name", t.name, "arguments", rawJSON(t.args)}}})
	}
	if !c.req.Stream {
		var all list
		for _, l := range calls {
			all = append(all, l...)
		}
		if c.wait(c.timing.First + c.timing.PerToken*time.Duration(a.usage.output)) {
			c.json(http.StatusOK, line(text, thoughts, all, true))
		}
		return
	}
	s := c.streamAs("application/x-ndjson")
	defer s.end()
	if !c.wait(c.timing.First) {
		return
	}
	send := func(o object) bool { return s.write(string(encode(o)) + "\n") }
	piece := func(tokens int, o object) bool {
		return s.content(tokens, func() {
			send(object{"error", "an error was encountered while running the model: unexpected EOF"})
		}) && send(o)
	}
	for _, p := range c.chunks(thoughts) {
		if !piece(CountTokens(p), line("", p, nil, false)) {
			return
		}
	}
	for _, p := range c.chunks(text) {
		if !piece(CountTokens(p), line(p, "", nil, false)) {
			return
		}
	}
	for _, l := range calls {
		if !piece(1, line("", "", l, false)) {
			return
		}
	}
	send(line("", "", nil, true))
}
