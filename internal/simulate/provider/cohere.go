package provider

import (
	"net/http"
	"time"
)

func (c *call) cohere() bool { return c.rec.Provider == "cohere" }

// cohereChat is POST /v2/chat. Source of the format: the types of Cohere's
// Python client.
func (c *call) cohereChat() {
	a := c.answer()
	ch := a.choices[0]
	reason := [...]string{"COMPLETE", "MAX_TOKENS", "TOOL_CALL", "ERROR", "ERROR"}[ch.end]
	count := object{"input_tokens", a.usage.input, "output_tokens", a.usage.output}
	used := object{"billed_units", count, "tokens", count}
	text := ch.text + ch.refusal
	call := func(t toolCall) object {
		return object{"id", t.name + "_" + c.id(12), "type", "function", "function", object{"name", t.name, "arguments", t.args}}
	}
	id := "0b1ea6f3-0000-4000-8000-" + c.id(12)
	if !c.req.Stream {
		message := object{"role", "assistant"}
		if text != "" {
			message = append(message, "content", list{object{"type", "text", "text", text}})
		}
		if len(ch.tools) > 0 {
			calls := list{}
			for _, t := range ch.tools {
				calls = append(calls, call(t))
			}
			message = append(message, "tool_calls", calls)
		}
		if c.wait(c.timing.First + c.timing.PerToken*time.Duration(a.usage.output)) {
			c.json(http.StatusOK, object{"id", id, "message", message, "finish_reason", reason, "usage", used})
		}
		return
	}
	s := c.stream()
	defer s.end()
	if !c.wait(c.timing.First) {
		return
	}
	send := func(kind string, more ...any) bool { return s.event(kind, append(object{"type", kind}, more...)) }
	send("message-start", "id", id, "delta", object{"message", object{"role", "assistant", "content", list{}, "tool_plan", "", "tool_calls", list{}, "citations", list{}}})
	send("content-start", "index", 0, "delta", object{"message", object{"content", object{"type", "text", "text", ""}}})
	for _, p := range c.chunks(text) {
		broken := func() {
			send("message-end", "delta", object{"finish_reason", "ERROR", "error", "The model ended with an error."})
		}
		if !s.content(CountTokens(p), broken) || !send("content-delta", "index", 0, "delta", object{"message", object{"content", object{"text", p}}}) {
			return
		}
	}
	send("content-end", "index", 0)
	for i, t := range ch.tools {
		send("tool-call-start", "index", i, "delta", object{"message", object{"tool_calls", call(t)}})
		send("tool-call-end", "index", i)
	}
	send("message-end", "id", id, "delta", object{"finish_reason", reason, "usage", used})
}
