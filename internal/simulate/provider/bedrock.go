package provider

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"
)

func (c *call) bedrock() bool { return c.rec.Provider == "bedrock" }

// bedrockParse parses a Converse request: the model is in the path, the texts
// are blocks.
func (c *call) bedrockParse(body []byte) error {
	if err := c.req.parse(body); err != nil {
		return err
	}
	var r struct {
		InferenceConfig struct{ MaxTokens *int }
		ToolConfig      struct {
			Tools []struct {
				ToolSpec struct {
					Name        string
					InputSchema struct{ JSON json.RawMessage }
				}
			}
		}
	}
	if err := json.Unmarshal(body, &r); err != nil {
		return err
	}
	id, verb := c.bedrockPath()
	c.req.Model, c.req.Stream, c.req.MaxTokens = id, verb == "converse-stream", r.InferenceConfig.MaxTokens
	for _, t := range r.ToolConfig.Tools {
		c.req.Tools = append(c.req.Tools, tool{Name: t.ToolSpec.Name, Parameters: t.ToolSpec.InputSchema.JSON})
	}
	return nil
}

func (c *call) bedrockPath() (model, verb string) {
	model, verb, _ = strings.Cut(strings.TrimPrefix(c.path, "/model/"), "/")
	if id, err := url.PathUnescape(model); err == nil {
		model = id
	}
	return model, verb
}

// converse is POST /model/{id}/converse and /converse-stream. Source of the
// format: the types of aws-sdk-go-v2's bedrockruntime.
func (c *call) converse() {
	if _, verb := c.bedrockPath(); verb != "converse" && verb != "converse-stream" {
		c.fail(http.StatusNotFound, NotFound, "UnknownOperationException")
		return
	}
	a := c.answer()
	ch := a.choices[0]
	reason := [...]string{"end_turn", "max_tokens", "tool_use", "content_filtered", "content_filtered"}[ch.end]
	used := object{"inputTokens", a.usage.input - a.usage.cached, "outputTokens", a.usage.output, "totalTokens", a.usage.input + a.usage.output}
	if a.usage.cached > 0 {
		used = append(used, "cacheReadInputTokens", a.usage.cached)
	}
	metrics := object{"latencyMs", 551}
	text := ch.text + ch.refusal
	if !c.req.Stream {
		content := list{}
		if text != "" {
			content = append(content, object{"text", text})
		}
		for _, t := range ch.tools {
			content = append(content, object{"toolUse", object{"toolUseId", "tooluse_" + c.id(22), "name", t.name, "input", rawJSON(t.args)}})
		}
		if c.wait(c.timing.First + c.timing.PerToken*time.Duration(a.usage.output)) {
			c.json(http.StatusOK, object{"metrics", metrics, "output", object{"message", object{"content", content, "role", "assistant"}}, "stopReason", reason, "usage", used})
		}
		return
	}
	s := c.streamAs("application/vnd.amazon.eventstream")
	defer s.end()
	if !c.wait(c.timing.First) {
		return
	}
	send := func(name string, o object) bool { return s.write(string(AmazonEvents(name + " " + string(encode(o))))) }
	piece := func(tokens, index int, delta object) bool {
		return s.content(tokens, func() { send("modelStreamErrorException", object{"message", "The model ended with an error."}) }) &&
			send("contentBlockDelta", object{"contentBlockIndex", index, "delta", delta})
	}
	send("messageStart", object{"role", "assistant"})
	for _, p := range c.chunks(text) {
		if !piece(CountTokens(p), 0, object{"text", p}) {
			return
		}
	}
	send("contentBlockStop", object{"contentBlockIndex", 0})
	for i, t := range ch.tools {
		send("contentBlockStart", object{"contentBlockIndex", i + 1, "start", object{"toolUse", object{"toolUseId", "tooluse_" + c.id(22), "name", t.name}}})
		if !piece(CountTokens(t.args), i+1, object{"toolUse", object{"input", t.args}}) {
			return
		}
		send("contentBlockStop", object{"contentBlockIndex", i + 1})
	}
	send("messageStop", object{"stopReason", reason})
	send("metadata", object{"usage", used, "metrics", metrics})
}
