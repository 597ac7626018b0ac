package provider

import (
	"encoding/base64"
	"net/http"
	"strings"
	"time"
)

// checkMessages responds with an error if a messages request is invalid.
func (c *call) checkMessages(needMax bool) bool {
	var message string
	switch {
	case c.r.Header.Get("Anthropic-Version") == "":
		message = "anthropic-version: header is required"
	case c.req.Model == "":
		message = "model: Field required"
	case needMax && c.req.MaxTokens == nil:
		message = "max_tokens: Field required"
	case len(c.req.Messages) == 0:
		message = "messages: at least one message is required"
	case !strings.HasPrefix(c.req.Model, "claude-"):
		c.failAs(NotFound)
		return false
	default:
		return true
	}
	c.fail(http.StatusBadRequest, BadRequest, message)
	return false
}

func (c *call) countTokens() {
	if !c.checkMessages(false) || !c.wait(c.timing.First/4) {
		return
	}
	n := c.req.prompt()
	override(&n, c.b.Input)
	c.json(http.StatusOK, object{"input_tokens", n})
}

// block is one content block of a response.
type block struct {
	kind string // thinking, text, tool_use, server_tool_use
	text string
	tool toolCall
	id   string
}

func (c *call) blocks(a answer) []block {
	var out []block
	if a.reasoning != "" {
		out = append(out, block{kind: "thinking", text: a.reasoning})
	}
	if a.usage.searches > 0 {
		out = append(out, block{kind: "server_tool_use", id: c.toolID("srvtoolu_", 0, 99), tool: toolCall{"web_search", `{"query":"hedgerow wildlife"}`}})
	}
	ch := a.choices[0]
	text := ch.text
	if ch.refusal != "" {
		text = ch.refusal
	}
	if len(ch.tools) > 0 {
		text = "Let me look that up."
	}
	if text != "" {
		out = append(out, block{kind: "text", text: text})
	}
	for i, t := range ch.tools {
		out = append(out, block{kind: "tool_use", tool: t, id: c.toolID("toolu_", 0, i)})
	}
	return out
}

// signature imitates Anthropic's signature of a thinking block.
func (c *call) signature() string {
	return base64.StdEncoding.EncodeToString([]byte("simulated:" + c.id(48)))
}

func (c *call) blockObject(b block) any {
	switch b.kind {
	case "thinking":
		return object{"type", "thinking", "thinking", b.text, "signature", c.signature()}
	case "text":
		return object{"type", "text", "text", b.text}
	}
	return object{"type", b.kind, "id", b.id, "name", b.tool.name, "input", rawJSON(b.tool.args)}
}

// rawJSON is text that is already JSON.
type rawJSON string

// MarshalJSON returns the text unchanged.
func (r rawJSON) MarshalJSON() ([]byte, error) { return []byte(r), nil }

func (c *call) stopReason(e ending) string {
	if c.b.Stop != "" {
		return c.b.Stop
	}
	return [...]string{"end_turn", "max_tokens", "tool_use", "refusal", "refusal"}[e]
}

// messageUsage is usage in Anthropic's format: input_tokens excludes cache
// reads and cache writes.
func (c *call) messageUsage(u usage, output int) object {
	return object{
		"input_tokens", u.input - u.cached - u.write5m - u.write1h,
		"cache_creation_input_tokens", u.write5m + u.write1h, "cache_read_input_tokens", u.cached,
		"cache_creation", object{"ephemeral_5m_input_tokens", u.write5m, "ephemeral_1h_input_tokens", u.write1h},
		"output_tokens", output, "service_tier", "standard",
	}
}

// messages is POST /v1/messages. Source of the format: anthropic-sdk-go's
// Message and MessageStreamEventUnion.
func (c *call) messages() {
	if !c.checkMessages(true) {
		return
	}
	a := c.answer()
	if len(a.choices[0].tools) > 0 {
		a.usage.output += CountTokens("Let me look that up.")
		override(&a.usage.output, c.b.Output)
		c.counted(a.usage)
	}
	var stopSequence any
	stop := c.stopReason(a.choices[0].end)
	if stop == "stop_sequence" {
		stopSequence = "\n\nHuman:"
	}
	message := func(content list, stop, sequence any, u object) object {
		return object{"model", answeredModel(c.req.Model), "id", "msg_01" + c.id(22), "type", "message", "role", "assistant", "content", content,
			"stop_reason", stop, "stop_sequence", sequence, "usage", u}
	}
	if !c.req.Stream {
		if !c.wait(c.timing.First + c.timing.PerToken*time.Duration(a.usage.output)) {
			return
		}
		content := list{}
		for _, b := range c.blocks(a) {
			content = append(content, c.blockObject(b))
		}
		u := c.messageUsage(a.usage, a.usage.output)
		if a.usage.searches > 0 {
			u = append(u, "server_tool_use", object{"web_search_requests", a.usage.searches})
		}
		c.json(http.StatusOK, message(content, stop, stopSequence, u))
		return
	}

	s := c.stream()
	defer s.end()
	if !c.wait(c.timing.First) {
		return
	}
	failure := func() {
		s.event("error", object{"type", "error", "error", object{"type", "overloaded_error", "message", "Overloaded"}, "request_id", c.w.Header().Get("Request-Id")})
	}
	if !s.event("message_start", object{"type", "message_start", "message", message(list{}, nil, nil, c.messageUsage(a.usage, 1))}) {
		return
	}
	for i, b := range c.blocks(a) {
		var start any
		switch b.kind {
		case "thinking":
			start = object{"type", "thinking", "thinking", "", "signature", ""}
		case "text":
			start = object{"type", "text", "text", ""}
		default:
			start = object{"type", b.kind, "id", b.id, "name", b.tool.name, "input", object{}}
		}
		if !s.event("content_block_start", object{"type", "content_block_start", "index", i, "content_block", start}) {
			return
		}
		if i == 0 && !s.event("ping", object{"type", "ping"}) {
			return
		}
		delta := func(tokens int, d object) bool {
			if !s.content(tokens, failure) {
				return false
			}
			if c.b.Comments && !s.event("ping", object{"type", "ping"}) {
				return false
			}
			return s.event("content_block_delta", object{"type", "content_block_delta", "index", i, "delta", d})
		}
		switch b.kind {
		case "thinking":
			for _, p := range c.chunks(b.text) {
				if !delta(CountTokens(p), object{"type", "thinking_delta", "thinking", p}) {
					return
				}
			}
			if !s.event("content_block_delta", object{"type", "content_block_delta", "index", i, "delta", object{"type", "signature_delta", "signature", c.signature()}}) {
				return
			}
		case "text":
			for _, p := range c.chunks(b.text) {
				if !delta(CountTokens(p), object{"type", "text_delta", "text", p}) {
					return
				}
			}
		default:
			// The first delta of a tool's input is always empty.
			for _, p := range append([]string{""}, argumentPieces(b.tool.args)...) {
				if !delta(1, object{"type", "input_json_delta", "partial_json", p}) {
					return
				}
			}
		}
		if !s.event("content_block_stop", object{"type", "content_block_stop", "index", i}) {
			return
		}
	}
	if c.b.Fail.mid() { // requested after more chunks than there were
		c.b.After = s.sent
		s.content(0, failure)
		return
	}
	// The counts of message_delta are cumulative and repeat the input's.
	u := object{
		"input_tokens", a.usage.input - a.usage.cached - a.usage.write5m - a.usage.write1h,
		"cache_creation_input_tokens", a.usage.write5m + a.usage.write1h, "cache_read_input_tokens", a.usage.cached, "output_tokens", a.usage.output,
	}
	if a.usage.searches > 0 {
		u = append(u, "server_tool_use", object{"web_search_requests", a.usage.searches})
	}
	if s.event("message_delta", object{"type", "message_delta", "delta", object{"stop_reason", stop, "stop_sequence", stopSequence}, "usage", u}) {
		s.event("message_stop", object{"type", "message_stop"})
	}
}
