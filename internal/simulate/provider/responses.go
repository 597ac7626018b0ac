package provider

import (
	"encoding/json"
	"net/http"
	"time"
)

// responses is POST /v1/responses. Source of the format: openai-go's
// responses.Response and its stream events.
func (c *call) responses() {
	if !c.checkModel() {
		return
	}
	if len(c.req.Input) == 0 && c.req.PreviousID == nil {
		c.fail(http.StatusBadRequest, BadRequest, "Missing required parameter: 'input'.")
		return
	}
	a := c.answer()
	if c.req.Stream {
		c.responsesStream(a)
		return
	}
	if !c.wait(c.timing.First + c.timing.PerToken*time.Duration(a.usage.output)) {
		return
	}
	items := list{}
	for _, it := range c.items(a) {
		items = append(items, it.whole("completed"))
	}
	c.json(http.StatusOK, c.response(c.responseStatus(a), items, a, true))
}

func (c *call) responseStatus(a answer) string {
	switch a.choices[0].end {
	case endLength, endFilter:
		return "incomplete"
	}
	return "completed"
}

// response is the whole object. It has usage only at the end.
func (c *call) response(status string, output list, a answer, ended bool) object {
	var usage, incomplete, completed, failed any
	if ended {
		usage = object{
			"input_tokens", a.usage.input, "input_tokens_details", object{"cached_tokens", a.usage.cached},
			"output_tokens", a.usage.output, "output_tokens_details", object{"reasoning_tokens", a.usage.reasoning},
			"total_tokens", a.usage.input + a.usage.output,
		}
		completed = c.s.o.Now().Unix()
	}
	switch {
	case status == "incomplete" && a.choices[0].end == endFilter:
		incomplete = object{"reason", "content_filter"}
	case status == "incomplete":
		incomplete = object{"reason", "max_output_tokens"}
	case status == "failed":
		failed = object{"code", "server_error", "message", "The model failed to generate a response."}
		usage, completed = nil, nil
	}
	orNil := func(raw json.RawMessage) any {
		if raw == nil {
			return nil
		}
		return raw
	}
	orDefault := func(raw json.RawMessage, def any) any {
		if raw == nil {
			return def
		}
		return raw
	}
	number := func(v *float64) float64 {
		if v == nil {
			return 1
		}
		return *v
	}
	var effort, summary *string
	if c.req.Reasoning != nil {
		effort, summary = c.req.Reasoning.Effort, c.req.Reasoning.Summary
	}
	tools := list{}
	for _, t := range c.req.Tools {
		if t.Type == "function" {
			tools = append(tools, object{"type", "function", "description", nil, "name", t.Name, "parameters", orNil(t.Parameters), "strict", true})
		} else {
			tools = append(tools, object{"type", t.Type})
		}
	}
	return object{
		"id", "resp_" + c.hex(50), "object", "response", "created_at", c.start.Unix(), "status", status, "background", false,
		"completed_at", completed, "error", failed, "incomplete_details", incomplete, "instructions", orNil(c.req.Instructions),
		"max_output_tokens", c.req.MaxOutputTokens, "max_tool_calls", nil, "model", answeredModel(c.req.Model), "output", output,
		"parallel_tool_calls", true, "previous_response_id", c.req.PreviousID, "prompt_cache_key", nil,
		"reasoning", object{"effort", effort, "summary", summary}, "safety_identifier", nil, "service_tier", c.tier(),
		"store", c.req.Store == nil || *c.req.Store, "temperature", number(c.req.Temperature),
		"text", orDefault(c.req.Text, object{"format", object{"type", "text"}, "verbosity", "medium"}),
		"tool_choice", orDefault(c.req.ToolChoice, "auto"), "tools", tools, "top_logprobs", 0, "top_p", number(c.req.TopP),
		"truncation", "disabled", "usage", usage, "user", c.req.User, "metadata", orDefault(c.req.Metadata, object{}),
	}
}

// hex is an id in the alphabet of the Responses API's ids.
func (c *call) hex(n int) string {
	id := []byte(c.id(n))
	for i, b := range id {
		id[i] = "0123456789abcdef"[b%16]
	}
	return string(id)
}

// item is one output item.
type item struct {
	kind, id string
	text     string // reasoning summary, output text or refusal
	refusal  bool
	tool     toolCall
	callID   string
}

func (c *call) items(a answer) []item {
	var out []item
	id := c.hex(49)
	if a.usage.reasoning > 0 {
		it := item{kind: "reasoning", id: "rs_" + id + "0"}
		if c.req.Reasoning != nil && c.req.Reasoning.Summary != nil {
			it.text = a.reasoning // reasoning is included only if requested
		}
		out = append(out, it)
	}
	ch := a.choices[0]
	switch {
	case ch.refusal != "":
		out = append(out, item{kind: "message", id: "msg_" + id + "1", text: ch.refusal, refusal: true})
	case len(ch.tools) == 0:
		out = append(out, item{kind: "message", id: "msg_" + id + "1", text: ch.text})
	}
	for i, t := range ch.tools {
		out = append(out, item{kind: "function_call", id: "fc_" + id + string("23456789"[i%8]), tool: t, callID: c.toolID("call_", 0, i)})
	}
	return out
}

func (it item) part() object {
	if it.refusal {
		return object{"type", "refusal", "refusal", it.text}
	}
	return object{"type", "output_text", "annotations", list{}, "logprobs", list{}, "text", it.text}
}

// whole is the item as in a non-streamed response, or with status in_progress
// as the stream announces it.
func (it item) whole(status string) object {
	empty := status == "in_progress"
	switch it.kind {
	case "reasoning":
		summary := list{}
		if it.text != "" && !empty {
			summary = append(summary, object{"type", "summary_text", "text", it.text})
		}
		return object{"id", it.id, "type", "reasoning", "summary", summary}
	case "function_call":
		args := it.tool.args
		if empty {
			args = ""
		}
		return object{"id", it.id, "type", "function_call", "status", status, "arguments", args, "call_id", it.callID, "name", it.tool.name}
	}
	content := list{}
	if !empty {
		content = append(content, it.part())
	}
	return object{"id", it.id, "type", "message", "status", status, "content", content, "role", "assistant"}
}

func (c *call) responsesStream(a answer) {
	s := c.stream()
	defer s.end()
	if c.b.Usage == UsageNone {
		c.b.Usage = UsageLast // the Responses API has no such option
	}
	seq := 0
	send := func(kind string, more ...any) bool {
		o := append(object{"type", kind}, more...)
		o = append(o, "sequence_number", seq)
		seq++
		return s.event(kind, o)
	}
	if !send("response.created", "response", c.response("in_progress", list{}, a, false)) ||
		!send("response.in_progress", "response", c.response("in_progress", list{}, a, false)) || !c.wait(c.timing.First) {
		return
	}
	done := list{}
	failure := func() {
		if c.b.Stop == "failed" { // the model failed, which the stream reports as an event
			send("response.failed", "response", c.response("failed", done, a, false))
			return
		}
		send("error", "code", "server_error", "message", "The server had an error processing your request. Sorry about that!", "param", nil)
	}
	for i, it := range c.items(a) {
		if !send("response.output_item.added", "output_index", i, "item", it.whole("in_progress")) {
			return
		}
		deltas := func(kind string, texts []string, more ...any) bool {
			for _, p := range texts {
				if !s.content(CountTokens(p), failure) || !send(kind, append(object{"item_id", it.id, "output_index", i, "delta", p}, more...)...) {
					return false
				}
				if c.b.Comments && !s.comment("keep-alive") {
					return false
				}
			}
			return true
		}
		ok := true
		switch it.kind {
		case "reasoning":
			if it.text == "" {
				ok = c.wait(c.timing.PerToken * time.Duration(a.usage.reasoning))
				break
			}
			part := func(text string) object { return object{"type", "summary_text", "text", text} }
			ok = send("response.reasoning_summary_part.added", "item_id", it.id, "output_index", i, "summary_index", 0, "part", part("")) &&
				deltas("response.reasoning_summary_text.delta", c.chunks(it.text), "summary_index", 0, "obfuscation", c.id(5)) &&
				send("response.reasoning_summary_text.done", "item_id", it.id, "output_index", i, "summary_index", 0, "text", it.text) &&
				send("response.reasoning_summary_part.done", "item_id", it.id, "output_index", i, "summary_index", 0, "part", part(it.text))
		case "function_call":
			ok = deltas("response.function_call_arguments.delta", argumentPieces(it.tool.args), "obfuscation", c.id(7)) &&
				send("response.function_call_arguments.done", "item_id", it.id, "output_index", i, "arguments", it.tool.args, "name", it.tool.name)
		default:
			kind, member, none := "response.output_text", "text", it
			none.text = ""
			more := []any{"content_index", 0, "logprobs", list{}, "obfuscation", c.id(9)}
			if it.refusal {
				kind, member = "response.refusal", "refusal"
				more = []any{"content_index", 0}
			}
			end := object{"item_id", it.id, "output_index", i, "content_index", 0, member, it.text}
			if !it.refusal {
				end = append(end, "logprobs", list{})
			}
			ok = send("response.content_part.added", "item_id", it.id, "output_index", i, "content_index", 0, "part", none.part()) &&
				deltas(kind+".delta", c.chunks(it.text), more...) &&
				send(kind+".done", end...) &&
				send("response.content_part.done", "item_id", it.id, "output_index", i, "content_index", 0, "part", it.part())
		}
		if !ok || !send("response.output_item.done", "output_index", i, "item", it.whole("completed")) {
			return
		}
		done = append(done, it.whole("completed"))
	}
	if c.b.Fail.mid() { // requested after more chunks than there were
		c.b.After = s.sent
		s.content(0, failure)
		return
	}
	status := c.responseStatus(a)
	send("response."+status, "response", c.response(status, done, a, true))
}
