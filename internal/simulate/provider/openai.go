package provider

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"
)

// openaiModels are prefixes of OpenAI's model names; other providers with its
// format accept any name.
var openaiModels = []string{"gpt-", "o1", "o3", "o4", "chatgpt-", "text-embedding-", "ft:gpt-"}

// checkModel responds with an error if the model is missing or unknown.
func (c *call) checkModel() bool {
	m := c.req.Model
	switch {
	case m == "" && c.openrouter():
		c.fail(http.StatusBadRequest, BadRequest, "No models provided")
	case m == "":
		c.fail(http.StatusBadRequest, BadRequest, "you must provide a model parameter")
	case c.openrouter() && !strings.Contains(m, "/"):
		c.fail(http.StatusBadRequest, BadRequest, m+" is not a valid model ID")
	case c.rec.Provider == "openai" && !slices.ContainsFunc(openaiModels, func(p string) bool { return strings.HasPrefix(m, p) }):
		c.failAs(NotFound)
	default:
		return true
	}
	return false
}

// chat is POST /v1/chat/completions, of OpenAI, OpenRouter and compatible
// servers. Source of the format: openai-go's ChatCompletion and
// ChatCompletionChunk.
func (c *call) chat() {
	if !c.checkModel() {
		return
	}
	switch {
	case len(c.req.Messages) == 0:
		c.fail(http.StatusBadRequest, BadRequest, "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.")
		return
	case c.req.StreamOptions != nil && c.b.NoStreamOptions:
		c.fail(http.StatusBadRequest, BadRequest, "Unrecognized request argument supplied: stream_options")
		return
	case c.req.StreamOptions != nil && !c.req.Stream:
		c.fail(http.StatusBadRequest, BadRequest, "The 'stream_options' parameter is only allowed when 'stream' is enabled.")
		return
	}
	a := c.answer()
	if c.req.Stream {
		c.chatStream(a)
		return
	}
	if !c.wait(c.timing.First + c.timing.PerToken*time.Duration(a.usage.output)) {
		return
	}
	choices := list{}
	for i, ch := range a.choices {
		var content, refusal any
		if ch.text != "" || len(ch.tools) == 0 && ch.refusal == "" {
			content = ch.text
		}
		if ch.refusal != "" {
			refusal = ch.refusal
		}
		message := object{"role", "assistant", "content", content, "refusal", refusal}
		if c.openrouter() {
			message = append(message, c.openrouterReasoning(a.reasoning)...)
		}
		if len(ch.tools) > 0 {
			calls := list{}
			for j, t := range ch.tools {
				calls = append(calls, object{"id", c.toolID("call_", i, j), "type", "function", "function", object{"name", t.name, "arguments", t.args}})
			}
			message = append(message, "tool_calls", calls)
		}
		if !c.openrouter() {
			message = append(message, "annotations", list{})
		}
		choices = append(choices, append(object{"index", i, "message", message, "logprobs", nil}, c.finish(ch.end)...))
	}
	head, tail := c.chatFrame("chat.completion")
	c.json(http.StatusOK, append(append(head, "choices", choices, "usage", c.chatUsage(a.usage)), tail...))
}

// chatFrame returns the members of a response or chunk before and after its
// choices.
func (c *call) chatFrame(kind string) (head, tail object) {
	if c.openrouter() {
		return object{"id", fmt.Sprintf("gen-%d-%s", c.start.Unix(), c.id(20)), "provider", vendor(c.req.Model), "model", c.req.Model, "object", kind, "created", c.start.Unix()}, nil
	}
	head = object{"id", "chatcmpl-" + c.id(29), "object", kind, "created", c.start.Unix(), "model", answeredModel(c.req.Model)}
	tail = object{"service_tier", c.tier(), "system_fingerprint", fingerprint(c.req.Model)}
	if kind == "chat.completion.chunk" {
		return append(head, tail...), nil
	}
	return head, tail
}

func (c *call) tier() string {
	if t := c.req.ServiceTier; t != "" && t != "auto" {
		return t
	}
	return "default"
}

func (c *call) finish(e ending) object {
	reason := [...]string{"stop", "length", "tool_calls", "stop", "content_filter"}[e]
	if c.b.Stop != "" {
		reason = c.b.Stop
	}
	o := object{"finish_reason", reason}
	if c.openrouter() {
		o = append(o, "native_finish_reason", reason)
	}
	return o
}

func (c *call) noFinish() object {
	o := object{"finish_reason", nil}
	if c.openrouter() {
		o = append(o, "native_finish_reason", nil)
	}
	return o
}

func (c *call) toolID(prefix string, choice, n int) string {
	id := c.id(24)
	return prefix + id[:20] + string("abcdefgh"[choice%8]) + fmt.Sprintf("%03d", n)
}

func (c *call) chatUsage(u usage) object {
	o := object{
		"prompt_tokens", u.input, "completion_tokens", u.output, "total_tokens", u.input + u.output,
		"prompt_tokens_details", object{"cached_tokens", u.cached, "audio_tokens", 0},
		"completion_tokens_details", object{"reasoning_tokens", u.reasoning, "audio_tokens", 0, "accepted_prediction_tokens", 0, "rejected_prediction_tokens", 0},
	}
	if !c.openrouter() {
		return o
	}
	in, out := openrouterCost(c.req.Model, u)
	return object{
		"prompt_tokens", u.input, "completion_tokens", u.output, "total_tokens", u.input + u.output,
		"cost", usd(in + out), "is_byok", false,
		"prompt_tokens_details", object{"cached_tokens", u.cached, "audio_tokens", 0, "video_tokens", 0},
		"cost_details", object{"upstream_inference_cost", nil, "upstream_inference_prompt_cost", usd(in), "upstream_inference_completions_cost", usd(out)},
		"completion_tokens_details", object{"reasoning_tokens", u.reasoning, "image_tokens", 0},
	}
}

// chatStream writes the response as chunks.
func (c *call) chatStream(a answer) {
	s := c.stream()
	defer s.end()
	if c.openrouter() {
		s.comment("OPENROUTER PROCESSING")
		// OpenRouter repeats this comment while it waits for the provider.
		for left := c.timing.First; left > 0; {
			step := min(left, 500*time.Millisecond)
			if !c.wait(step) {
				return
			}
			if left -= step; left > 0 {
				s.comment("OPENROUTER PROCESSING")
			}
		}
	} else if !c.wait(c.timing.First) {
		return
	}
	asked := c.req.StreamOptions != nil && c.req.StreamOptions.IncludeUsage
	if !asked && !c.openrouter() && c.b.Usage == UsageLast {
		c.b.Usage = UsageNone
	}
	sent := 0 // tokens so far, for the cumulative shape
	chunk := func(choices list, usage any) bool {
		head, _ := c.chatFrame("chat.completion.chunk")
		head = append(head, "choices", choices)
		switch {
		case usage != nil:
			head = append(head, "usage", usage)
		case c.b.Usage == UsageEvery:
			u := a.usage
			u.output = min(sent, u.output)
			u.reasoning = min(u.reasoning, u.output)
			head = append(head, "usage", c.chatUsage(u))
		case asked && c.b.Usage != UsageNone:
			head = append(head, "usage", nil)
		}
		if !c.openrouter() {
			head = append(head, "obfuscation", c.id(9)) // padding, so that lengths do not reveal the text
		}
		return s.event("", head)
	}
	failure := func() {
		if c.openrouter() {
			head, _ := c.chatFrame("chat.completion.chunk")
			s.event("", append(head, "error", object{"code", 502, "message", "Provider returned error"},
				"choices", list{object{"index", 0, "delta", object{"content", ""}, "finish_reason", "error", "native_finish_reason", "error"}}))
			return
		}
		s.event("", object{"error", object{"message", "The server had an error processing your request. Sorry about that! You can retry your request, or contact us through our help center if you keep seeing this error.", "type", "server_error", "param", nil, "code", nil}})
	}
	delta := func(i int, d object) bool {
		return chunk(list{append(object{"index", i, "delta", d, "logprobs", nil}, c.noFinish()...)}, nil)
	}
	piece := func(i, tokens int, d object) bool {
		if !s.content(tokens, failure) {
			return false
		}
		sent += tokens
		if c.b.Comments && sent%4 == 0 && !s.comment("keep-alive") {
			return false
		}
		return delta(i, d)
	}
	for i, ch := range a.choices {
		first := object{"role", "assistant", "content", "", "refusal", nil}
		if len(ch.tools) > 0 {
			first = object{"role", "assistant", "content", nil, "refusal", nil}
		}
		if !delta(i, first) {
			return
		}
		if c.openrouter() && a.reasoning != "" {
			for _, p := range c.chunks(a.reasoning) {
				if !piece(i, CountTokens(p), append(object{"role", "assistant", "content", ""}, c.openrouterReasoning(p)...)) {
					return
				}
			}
		}
		for _, p := range c.chunks(ch.text) {
			if !piece(i, CountTokens(p), object{"content", p}) {
				return
			}
		}
		for _, p := range c.chunks(ch.refusal) {
			if !piece(i, CountTokens(p), object{"refusal", p}) {
				return
			}
		}
		for j, t := range ch.tools {
			begin := object{"index", j, "id", c.toolID("call_", i, j), "type", "function", "function", object{"name", t.name, "arguments", ""}}
			if !piece(i, 1, object{"tool_calls", list{begin}}) {
				return
			}
			for _, p := range argumentPieces(t.args) {
				if !piece(i, 1, object{"tool_calls", list{object{"index", j, "function", object{"arguments", p}}}}) {
					return
				}
			}
		}
		// A failure requested after more chunks than there were.
		if c.b.Fail.mid() && i == len(a.choices)-1 {
			c.b.After = s.sent
			s.content(0, failure)
			return
		}
		var u any
		if c.b.Usage == UsageFinish && i == len(a.choices)-1 {
			u = c.chatUsage(a.usage)
		}
		sent = a.usage.output
		if !chunk(list{append(object{"index", i, "delta", object{}, "logprobs", nil}, c.finish(ch.end)...)}, u) {
			return
		}
	}
	switch {
	case c.openrouter() && c.b.Usage == UsageLast, c.b.Usage == UsageEmptyDiff:
		d := object{}
		if c.openrouter() {
			d = object{"role", "assistant", "content", ""}
		}
		chunk(list{append(object{"index", 0, "delta", d}, c.noFinish()...)}, c.chatUsage(a.usage))
	case c.b.Usage == UsageLast:
		chunk(list{}, c.chatUsage(a.usage))
	}
	if !c.b.NoDone {
		s.raw("", "[DONE]")
	}
}

// openrouterReasoning are the members with a model's reasoning.
func (c *call) openrouterReasoning(text string) object {
	if text == "" {
		return object{"reasoning", nil}
	}
	return object{"reasoning", text, "reasoning_details", list{object{"type", "reasoning.summary", "summary", text, "format", "openai-responses-v1", "index", 0}}}
}

func vendor(model string) string {
	v, _, _ := strings.Cut(model, "/")
	names := map[string]string{"openai": "OpenAI", "anthropic": "Anthropic", "google": "Google", "mistralai": "Mistral", "deepseek": "DeepSeek", "meta-llama": "Together"}
	if n, ok := names[v]; ok {
		return n
	}
	return v
}

// openrouterPrices are USD per million tokens: input, cached input, output.
var openrouterPrices = map[string][3]float64{
	"openai/gpt-4.1-mini": {0.4, 0.1, 1.6}, "openai/gpt-4o": {2.5, 1.25, 10}, "openai/gpt-4o-mini": {0.15, 0.075, 0.6}, "openai/o4-mini": {1.1, 0.275, 4.4},
	"anthropic/claude-sonnet-4.5": {3, 0.3, 15}, "anthropic/claude-haiku-4.5": {1, 0.1, 5}, "google/gemini-2.5-flash": {0.3, 0.075, 2.5},
	"meta-llama/llama-3.3-70b-instruct": {0.13, 0.13, 0.38}, "deepseek/deepseek-r1": {0.4, 0.4, 2}, "mistralai/mistral-small-3.2-24b-instruct": {0.06, 0.06, 0.18},
}

func openrouterCost(model string, u usage) (in, out float64) {
	model, variant, _ := strings.Cut(model, ":")
	if variant == "free" {
		return 0, 0
	}
	p, ok := openrouterPrices[model]
	if !ok {
		p = [3]float64{1, 1, 2}
	}
	return (float64(u.input-u.cached)*p[0] + float64(u.cached)*p[1]) / 1e6, float64(u.output) * p[2] / 1e6
}

// usd is an amount in OpenRouter's notation: plain, up to ten decimals.
func usd(v float64) json.Number {
	s := strings.TrimRight(fmt.Sprintf("%.10f", v), "0")
	return json.Number(strings.TrimSuffix(s, "."))
}

// embeddings is POST /v1/embeddings.
func (c *call) embeddings() {
	if !c.checkModel() {
		return
	}
	inputs := []json.RawMessage{c.req.Input}
	var several []json.RawMessage
	if json.Unmarshal(c.req.Input, &several) == nil && len(several) > 0 && several[0][0] != '-' && (several[0][0] < '0' || several[0][0] > '9') {
		inputs = several
	}
	if len(c.req.Input) == 0 || string(c.req.Input) == `""` || string(c.req.Input) == "[]" {
		c.fail(http.StatusBadRequest, BadRequest, "'$.input' is invalid. Please check the API reference: https://platform.openai.com/docs/api-reference.")
		return
	}
	dims := 1536
	if strings.HasSuffix(c.req.Model, "-large") {
		dims = 3072
	}
	if c.req.Dimensions != nil && *c.req.Dimensions > 0 {
		dims = min(dims, *c.req.Dimensions)
	}
	tokens, data := 0, list{}
	for i, in := range inputs {
		var ids []int
		if json.Unmarshal(in, &ids) == nil {
			tokens += len(ids)
		} else {
			tokens += countJSON(in)
		}
		data = append(data, object{"object", "embedding", "index", i, "embedding", c.vector(dims)})
	}
	override(&tokens, c.b.Input)
	if !c.wait(c.timing.First) {
		return
	}
	c.json(http.StatusOK, object{"object", "list", "data", data, "model", c.req.Model, "usage", object{"prompt_tokens", tokens, "total_tokens", tokens}})
}

// vector is a unit vector, as floats or as the base64 that SDKs request.
func (c *call) vector(dims int) any {
	v, sum := make([]float32, dims), 0.0
	for i := range v {
		x := c.rng.NormFloat64()
		v[i], sum = float32(x), sum+x*x
	}
	norm := float32(1 / math.Sqrt(sum))
	for i := range v {
		v[i] *= norm
	}
	if c.req.EncodingFormat != "base64" {
		return v
	}
	b := make([]byte, 0, 4*dims)
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return base64.StdEncoding.EncodeToString(b)
}

// models is GET /v1/models and /v1/models/{id}.
func (c *call) models(id string) {
	const created = 1744317547
	model := func(id string) object {
		switch {
		case c.anthropic():
			return object{"type", "model", "id", id, "display_name", id, "created_at", "2025-09-29T00:00:00Z"}
		case c.openrouter():
			p := openrouterPrices[id]
			per := func(v float64) string { return fmt.Sprintf("%.10f", v/1e6) }
			return object{"id", id, "canonical_slug", id, "name", id, "created", created, "context_length", 200000,
				"pricing", object{"prompt", per(p[0]), "completion", per(p[2]), "request", "0", "image", "0", "web_search", "0", "internal_reasoning", "0", "input_cache_read", per(p[1])}}
		}
		return object{"id", id, "object", "model", "created", created, "owned_by", "system"}
	}
	var ids []string
	switch {
	case c.anthropic():
		ids = []string{"claude-sonnet-4-5-20250929", "claude-haiku-4-5-20251001", "claude-opus-4-1-20250805"}
	case c.openrouter():
		for id := range openrouterPrices {
			ids = append(ids, id)
		}
		slices.Sort(ids)
	default:
		ids = []string{"gpt-4.1", "gpt-4.1-mini", "gpt-4.1-nano", "gpt-4o", "gpt-4o-mini", "o3", "o4-mini", "gpt-5", "gpt-5-mini", "text-embedding-3-small", "text-embedding-3-large"}
	}
	if id != "" {
		if !slices.Contains(ids, id) {
			c.req.Model = id
			c.failAs(NotFound)
			return
		}
		c.json(http.StatusOK, model(id))
		return
	}
	data := list{}
	for _, id := range ids {
		data = append(data, model(id))
	}
	switch {
	case c.anthropic():
		c.json(http.StatusOK, object{"data", data, "has_more", false, "first_id", ids[0], "last_id", ids[len(ids)-1]})
	case c.openrouter():
		c.json(http.StatusOK, object{"data", data})
	default:
		c.json(http.StatusOK, object{"object", "list", "data", data})
	}
}
