package provider

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"time"
	"unicode"
)

// request has the relevant fields of a request in any format.
type request struct {
	Model         string
	Stream        bool
	StreamOptions *struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
	N                   *int
	Messages            []json.RawMessage
	System              json.RawMessage
	Input               json.RawMessage
	Instructions        json.RawMessage
	Tools               []tool
	ToolChoice          json.RawMessage `json:"tool_choice"`
	MaxTokens           *int            `json:"max_tokens"`
	MaxCompletionTokens *int            `json:"max_completion_tokens"`
	MaxOutputTokens     *int            `json:"max_output_tokens"`
	ResponseFormat      json.RawMessage `json:"response_format"`
	Text                json.RawMessage
	Thinking            *struct {
		Type   string
		Budget int `json:"budget_tokens"`
	}
	Reasoning *struct {
		Effort, Summary *string
	}
	Dimensions     *int
	EncodingFormat string `json:"encoding_format"`
	ServiceTier    string `json:"service_tier"`
	Temperature    *float64
	TopP           *float64 `json:"top_p"`
	Metadata       json.RawMessage
	PreviousID     *string `json:"previous_response_id"`
	Store          *bool
	User           *string

	body []byte
}

// tool is a tool definition in any of three formats.
type tool struct {
	Type        string          `json:"type"`
	Name        string          `json:"name"`
	Parameters  json.RawMessage `json:"parameters"`
	InputSchema json.RawMessage `json:"input_schema"`
	Function    struct {
		Name       string          `json:"name"`
		Parameters json.RawMessage `json:"parameters"`
	} `json:"function"`
}

func (t tool) name() string {
	if t.Function.Name != "" {
		return t.Function.Name
	}
	return t.Name
}

func (t tool) schema() json.RawMessage {
	for _, s := range []json.RawMessage{t.Function.Parameters, t.Parameters, t.InputSchema} {
		if s != nil {
			return s
		}
	}
	return nil
}

func (r *request) parse(body []byte) error {
	r.body = body
	if len(body) == 0 {
		return nil
	}
	return json.Unmarshal(body, r)
}

// CountTokens is the rule of all token counts here: a token is up to six
// characters of one word, including the space before it.
func CountTokens(text string) int { return len(pieces(text)) }

// pieces splits a text into tokens. Joined, they are the text.
func pieces(text string) []string {
	var out []string
	start, n, inWord := 0, 0, false
	for i, r := range text {
		space := unicode.IsSpace(r)
		if i > start && (n == 6 || space && inWord) {
			out = append(out, text[start:i])
			start, n = i, 0
		}
		inWord = !space
		n++
	}
	if start < len(text) {
		out = append(out, text[start:])
	}
	return out
}

// countJSON counts the tokens of every text in a value; images and files have a
// fixed count, as their bytes are not text.
func countJSON(raw json.RawMessage) int {
	if len(raw) == 0 {
		return 0
	}
	var v any
	if json.Unmarshal(raw, &v) != nil {
		return 0
	}
	return countValue(v)
}

func countValue(v any) int {
	switch v := v.(type) {
	case string:
		return CountTokens(v)
	case []any:
		n := 0
		for _, e := range v {
			n += countValue(e)
		}
		return n
	case map[string]any:
		n := 0
		for k, e := range v {
			switch k {
			case "type", "role", "id", "tool_call_id", "tool_use_id", "call_id", "signature", "cache_control", "detail", "media_type", "status":
			case "inlineData", "fileData":
				n += 258 // Gemini's count for one image
			case "image_url", "source", "input_audio", "file", "file_data":
				n += 765 // OpenAI's count for one high-detail image
			default:
				n += countValue(e)
			}
		}
		return n
	}
	return 0
}

// prompt returns the input tokens of the request.
func (r *request) prompt() int {
	n := countJSON(r.System) + countJSON(r.Input) + countJSON(r.Instructions)
	for _, m := range r.Messages {
		n += 4 + countJSON(m) // message separators are tokens too
	}
	for _, t := range r.Tools {
		n += 8 + CountTokens(t.name()) + countJSON(t.schema())
	}
	return n + 3
}

func (r *request) limit() int {
	for _, n := range []*int{r.MaxCompletionTokens, r.MaxOutputTokens, r.MaxTokens} {
		if n != nil && *n > 0 {
			return *n
		}
	}
	return 1 << 30
}

// choice is one completion, before it is converted to a provider's format.
type choice struct {
	text, refusal string
	tools         []toolCall
	end           ending
}

type ending int

const (
	endStop ending = iota
	endLength
	endTool
	endRefusal
	endFilter
)

type toolCall struct {
	name string
	args string // JSON
}

// answer is the content of a response.
type answer struct {
	choices   []choice
	reasoning string
	usage     usage
}

// usage counts all input: it includes cache reads and writes.
type usage struct {
	input, output, cached, write5m, write1h, reasoning, searches int
}

// answer generates the content. Everything random comes from c.rng, in a fixed
// order.
func (c *call) answer() answer {
	var a answer
	n := 1
	if c.req.N != nil {
		n = max(1, min(*c.req.N, 8))
	}
	if reasons(c.req.Model) || c.req.Thinking != nil && c.req.Thinking.Type != "disabled" {
		a.reasoning = sentences(c.rng, thoughts, 2+c.rng.IntN(3))
		a.usage.reasoning = CountTokens(a.reasoning) * (1 + c.rng.IntN(4)) // the visible reasoning is a summary
	}
	override(&a.usage.reasoning, c.b.Reasoning)
	for range n {
		ch := c.choice(a.usage.reasoning)
		a.usage.output += CountTokens(ch.text) + CountTokens(ch.refusal)
		for _, t := range ch.tools {
			a.usage.output += 6 + CountTokens(t.name) + CountTokens(t.args)
		}
		a.choices = append(a.choices, ch)
	}
	a.usage.output += a.usage.reasoning
	a.usage.input = c.req.prompt()
	c.cache(&a.usage)
	override(&a.usage.input, c.b.Input)
	override(&a.usage.output, c.b.Output)
	override(&a.usage.cached, c.b.Cached)
	override(&a.usage.write5m, c.b.CacheWrite)
	override(&a.usage.write1h, c.b.CacheWrite1h)
	override(&a.usage.searches, c.b.Searches)
	// An override may set more cached tokens than there is input.
	a.usage.input = max(a.usage.input, a.usage.cached+a.usage.write5m+a.usage.write1h)
	a.usage.output = max(a.usage.output, a.usage.reasoning)
	c.counted(a.usage)
	return a
}

// counted keeps the counts of the response, for [Server.Requests].
func (c *call) counted(u usage) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.rec.Input, c.rec.Output = u.input, u.output
}

func override(dst *int, v *int) {
	if v != nil {
		*dst = *v
	}
}

// cache sets how much of a long prompt was cached: OpenAI caches automatically,
// in steps of 128 from 1024 tokens on; Anthropic if the request has
// cache_control.
func (c *call) cache(u *usage) {
	hit := c.rng.Float64() < 0.75
	if c.anthropic() {
		if !bytes.Contains(c.req.body, []byte(`"cache_control"`)) {
			return
		}
		n := u.input * 4 / 5
		switch {
		case hit:
			u.cached = n
		case bytes.Contains(c.req.body, []byte(`"ttl":"1h"`)):
			u.write1h = n
		default:
			u.write5m = n
		}
		return
	}
	if u.input >= 1024 && hit {
		u.cached = u.input * 4 / 5 / 128 * 128
	}
}

func (c *call) choice(reasoning int) choice {
	var ch choice
	switch {
	case c.b.Refuse:
		ch.refusal, ch.end = "I'm sorry, but I can't help with that request.", endRefusal
		return ch
	case c.toolsToCall() > 0:
		for i := range c.toolsToCall() {
			t := c.pickTool(i)
			ch.tools = append(ch.tools, toolCall{t.name(), string(encode(fill(c.rng, t.schema())))})
		}
		ch.end = endTool
		return ch
	case c.b.Text != "":
		ch.text = c.b.Text
	case c.structured() != nil:
		ch.text = string(encode(fill(c.rng, c.structured())))
	default:
		ch.text = sentences(c.rng, answers, 3+c.rng.IntN(6))
	}
	ps := pieces(ch.text)
	limit := c.req.limit() - reasoning
	switch {
	case c.b.ContentFilter:
		ch.end, limit = endFilter, min(limit, max(1, len(ps)/2))
	case c.b.Length:
		ch.end, limit = endLength, min(limit, max(1, len(ps)/2))
	case len(ps) > limit:
		ch.end = endLength
	}
	if len(ps) > limit {
		ch.text = strings.Join(ps[:max(0, limit)], "")
	}
	return ch
}

// toolsToCall returns the number of tool calls.
func (c *call) toolsToCall() int {
	offered := 0
	for _, t := range c.req.Tools {
		if t.name() != "" && t.schema() != nil {
			offered++
		}
	}
	if offered == 0 || c.b.Tools < 0 {
		return 0
	}
	if c.b.Tools > 0 {
		return c.b.Tools
	}
	choice := string(c.req.ToolChoice)
	switch {
	case strings.Contains(choice, `"none"`):
		return 0
	case choice == `"required"`, strings.Contains(choice, `"any"`), strings.Contains(choice, `"ANY"`), strings.Contains(choice, `"name"`):
		return 1
	}
	// A model that has its tool's result responds with text.
	last := c.req.Input
	if len(c.req.Messages) > 0 {
		last = c.req.Messages[len(c.req.Messages)-1]
	}
	for _, mark := range []string{`"tool_result"`, `"role":"tool"`, `"role": "tool"`, `"function_call_output"`, `"functionResponse"`} {
		if bytes.Contains(last, []byte(mark)) {
			return 0
		}
	}
	// Depends on the request only, so that each choice decides the same.
	h := fnv.New32a()
	_, _ = h.Write(c.req.body)
	if (uint64(h.Sum32())+c.s.o.Seed)%10 < 7 {
		return 1
	}
	return 0
}

func (c *call) pickTool(i int) tool {
	var named []tool
	for _, t := range c.req.Tools {
		if t.name() == "" || t.schema() == nil {
			continue
		}
		if bytes.Contains(c.req.ToolChoice, encode(t.name())) {
			return t
		}
		named = append(named, t)
	}
	return named[i%len(named)]
}

// structured returns the JSON schema that the request requires, or nil.
func (c *call) structured() json.RawMessage {
	var format struct {
		Type   string          `json:"type"`
		Schema json.RawMessage `json:"schema"`
		JSON   struct {
			Schema json.RawMessage `json:"schema"`
		} `json:"json_schema"`
	}
	raw := c.req.ResponseFormat
	if raw == nil {
		var text struct {
			Format json.RawMessage `json:"format"`
		}
		if json.Unmarshal(c.req.Text, &text) != nil {
			return nil
		}
		raw = text.Format
	}
	if json.Unmarshal(raw, &format) != nil {
		return nil
	}
	switch {
	case format.Type == "json_schema" && format.JSON.Schema != nil:
		return format.JSON.Schema
	case format.Type == "json_schema":
		return format.Schema
	case format.Type == "json_object":
		return json.RawMessage(`{"type":"object","properties":{"answer":{"type":"string"},"confidence":{"type":"number"}}}`)
	}
	return nil
}

// fill generates a value that matches a JSON schema.
func fill(rng *rand.Rand, schema json.RawMessage) any {
	var s struct {
		Type       json.RawMessage            `json:"type"`
		Enum       []any                      `json:"enum"`
		Properties map[string]json.RawMessage `json:"properties"`
		Items      json.RawMessage            `json:"items"`
	}
	_ = json.Unmarshal(schema, &s) // an unreadable schema is filled with text
	if len(s.Enum) > 0 {
		return s.Enum[rng.IntN(len(s.Enum))]
	}
	var typ string
	if json.Unmarshal(s.Type, &typ) != nil {
		var types []string // ["string","null"]
		if json.Unmarshal(s.Type, &types) == nil && len(types) > 0 {
			typ = types[0]
		}
	}
	switch strings.ToLower(typ) { // Gemini uses upper case
	case "object":
		// The schema's own order, as models keep it.
		out := object{}
		for _, name := range memberOrder(schema, "properties") {
			out = append(out, name, fill(rng, s.Properties[name]))
		}
		return out
	case "array":
		return list{fill(rng, s.Items), fill(rng, s.Items)}
	case "integer":
		return 1 + rng.IntN(20)
	case "number":
		return float64(rng.IntN(100)) / 100
	case "boolean":
		return rng.IntN(2) == 0
	case "null":
		return nil
	}
	return words[rng.IntN(len(words))]
}

// memberOrder lists the names of an object's member in the order of the text.
func memberOrder(raw json.RawMessage, member string) []string {
	var outer map[string]json.RawMessage
	if json.Unmarshal(raw, &outer) != nil {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(outer[member]))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil
	}
	var names []string
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return names
		}
		name, ok := t.(string)
		if !ok {
			return names
		}
		names = append(names, name)
		var skip json.RawMessage
		if dec.Decode(&skip) != nil {
			return names
		}
	}
	return names
}

// chunks splits a text for streaming.
func (c *call) chunks(text string) []string {
	ps := pieces(text)
	n := c.b.Chunks
	if n <= 0 || n >= len(ps) {
		return ps
	}
	out := make([]string, n)
	for i := range n {
		out[i] = strings.Join(ps[i*len(ps)/n:(i+1)*len(ps)/n], "")
	}
	return out
}

// argumentPieces splits a tool's arguments as models stream them: not at JSON's
// token boundaries.
func argumentPieces(args string) []string {
	var out []string
	for len(args) > 7 {
		n := 7
		for n < len(args) && args[n]&0xC0 == 0x80 { // not inside a character
			n++
		}
		out = append(out, args[:n])
		args = args[n:]
	}
	return append(out, args)
}

// reasons reports whether a model produces reasoning.
func reasons(model string) bool {
	_, name, ok := strings.Cut(model, "/")
	if !ok {
		name = model
	}
	for _, p := range []string{"o1", "o3", "o4", "gpt-5", "deepseek-r1", "deepseek-reasoner"} {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// dated maps a requested model to the response model.
var dated = map[string]string{
	"gpt-4.1": "gpt-4.1-2025-04-14", "gpt-4.1-mini": "gpt-4.1-mini-2025-04-14", "gpt-4.1-nano": "gpt-4.1-nano-2025-04-14",
	"gpt-4o": "gpt-4o-2024-08-06", "gpt-4o-mini": "gpt-4o-mini-2024-07-18", "o1": "o1-2024-12-17", "o3": "o3-2025-04-16",
	"o3-mini": "o3-mini-2025-01-31", "o4-mini": "o4-mini-2025-04-16", "gpt-5": "gpt-5-2025-08-07", "gpt-5-mini": "gpt-5-mini-2025-08-07",
	"gpt-5-nano": "gpt-5-nano-2025-08-07", "claude-sonnet-4-5": "claude-sonnet-4-5-20250929", "claude-haiku-4-5": "claude-haiku-4-5-20251001",
	"claude-opus-4-1": "claude-opus-4-1-20250805", "claude-opus-4-0": "claude-opus-4-20250514", "claude-sonnet-4-0": "claude-sonnet-4-20250514",
	"claude-3-5-haiku-latest": "claude-3-5-haiku-20241022", "claude-3-7-sonnet-latest": "claude-3-7-sonnet-20250219",
}

func answeredModel(model string) string {
	if d, ok := dated[model]; ok {
		return d
	}
	return model
}

func fingerprint(model string) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(model))
	return fmt.Sprintf("fp_%010x", h.Sum64()&0xffffffffff)
}

// Realistic is an [Options.Latency] similar to that of real models: small ones
// start after about 300 ms and generate 100 tokens per second, large ones after
// 700 ms and 50; one in fifty takes far longer.
func Realistic(model string, rng *rand.Rand) Timing {
	first, per := 450*time.Millisecond, 14*time.Millisecond
	switch {
	case strings.Contains(model, "embedding"):
		first, per = 90*time.Millisecond, 0
	case strings.Contains(model, "mini"), strings.Contains(model, "nano"), strings.Contains(model, "haiku"), strings.Contains(model, "flash"):
		first, per = 300*time.Millisecond, 9*time.Millisecond
	case strings.Contains(model, "opus"), strings.Contains(model, "gpt-4o"), strings.Contains(model, "sonnet"), strings.Contains(model, "gpt-5"):
		first, per = 700*time.Millisecond, 18*time.Millisecond
	}
	if reasons(model) {
		first += 1500 * time.Millisecond
	}
	f := 0.6 + 0.5*rng.ExpFloat64()
	if rng.IntN(50) == 0 {
		f += 6
	}
	return Timing{First: time.Duration(float64(first) * min(f, 12)), PerToken: time.Duration(float64(per) * (0.8 + 0.4*rng.Float64()))}
}

func sentences(rng *rand.Rand, from []string, n int) string {
	var b strings.Builder
	at := rng.IntN(len(from))
	for i := range n {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(from[at])
		at = (at + 1 + rng.IntN(len(from)-1)) % len(from) // never the same one twice in a row
	}
	return b.String()
}

var words = []string{"hawthorn", "orchard", "north field", "weekly summary", "onboarding", "release notes", "customer interview", "blackthorn", "hazel", "kick-off", "draft", "review"}

var answers = []string{
	"Start with the smallest change that a user would notice.",
	"Here is a short plan that you can follow today.",
	"The notes mention three decisions and one open question.",
	"Write down who owns each step and when it is due.",
	"A hedge of hawthorn and hazel gives shelter within three years.",
	"The second draft is clearer, though its opening is still too long.",
	"Most of the delay comes from the hand-over between the two teams.",
	"Try the short version first and keep the long one as a reference.",
	"Readers look for the result before they look for the method.",
	"I grouped the feedback by topic, with the most frequent first.",
	"The figures agree with last week's report within one percent.",
	"You could invite two more people to the next review.",
	"Each step has one input, one output and one person to ask.",
	"The summary below keeps every date and leaves out the small talk.",
	"If time is short, skip the appendix and read the first table.",
	"Nothing in the text contradicts the earlier version.",
	"It helps to name the problem before naming the tool.",
	"The checklist has seven items, and five of them are done.",
}

var thoughts = []string{
	"**Understanding the request** The user wants something short that can be used at once.",
	"I should look at the constraints first and then compare the two options.",
	"The earlier message already answers the first part, so the second matters more.",
	"**Weighing the options** The simpler plan has fewer hand-overs and is easier to check.",
	"Let me make sure that the dates are in order before I write the summary.",
	"A table would be too much here; three sentences are enough.",
}
