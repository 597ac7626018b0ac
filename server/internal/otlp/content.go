package otlp

import (
	"encoding/json"
	"sort"
	"strings"

	"github.com/tidwall/gjson"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/rawjson"
)

// spanEvents is the data that older conventions put into span events.
type spanEvents struct {
	input, output []oldMessage
	flags         []struct{ key, variant string }
}

// oldMessage is a message event: its role, and its body as JSON.
type oldMessage struct {
	role  string
	index event.Int
	body  gjson.Result
}

// oldRoles are the message events of the conventions before 1.37.
var oldRoles = map[string]string{
	"gen_ai.system.message": "system", "gen_ai.user.message": "user", "gen_ai.assistant.message": "assistant", "gen_ai.tool.message": "tool", "gen_ai.choice": "assistant",
}

// takeEvents reads a span's events. Attributes of GenAI events (the details of
// an inference, content.prompt) are added to the span's own.
func takeEvents(attrs *attributes, s *trace.Span) (old spanEvents) {
	for _, ev := range s.GetEvents() {
		name := ev.GetName()
		if role, ok := oldRoles[name]; ok {
			old.add(name, oldMessage{role: role, body: eventBody(ev.GetAttributes())})
			continue
		}
		switch {
		case name == "feature_flag", name == "feature_flag.evaluation":
			var f struct{ key, variant string }
			for _, kv := range ev.GetAttributes() {
				switch kv.GetKey() {
				case "feature_flag.key":
					f.key = textOf(kv)
				case "feature_flag.result.variant", "feature_flag.variant", "feature_flag.result.value":
					f.variant = or(f.variant, textOf(kv))
				}
			}
			if f.key != "" {
				old.flags = append(old.flags, f)
			}
		case strings.HasPrefix(name, "gen_ai."), name == "ai.stream.firstChunk", name == "ai.stream.finish":
			for _, kv := range ev.GetAttributes() {
				attrs.add(kv.GetKey(), kv.GetValue(), nil)
			}
		}
	}
	return old
}

func (o *spanEvents) add(name string, m oldMessage) {
	if name == "gen_ai.choice" {
		o.output = append(o.output, m)
	} else {
		o.input = append(o.input, m)
	}
}

// eventBody is a message event's body: an object of its attributes, or the
// value of one of them (gen_ai.event.content of Azure's SDKs, message of the
// first drafts).
func eventBody(attrs []*common.KeyValue) gjson.Result {
	dst := []byte{'{'}
	for _, kv := range attrs {
		key := kv.GetKey()
		v := value(kv.GetValue())
		if key == "gen_ai.event.content" || key == "body" {
			if v.IsObject() {
				return unwrapChoice(v)
			}
			key = "content"
		}
		if key == "gen_ai.system" || key == "gen_ai.provider.name" || key == "event.name" {
			continue
		}
		if len(dst) > 1 {
			dst = append(dst, ',')
		}
		dst = append(rawjson.AppendQuote(dst, key), ':')
		dst = append(dst, v.Raw...)
	}
	return unwrapChoice(gjson.ParseBytes(append(dst, '}')))
}

// unwrapChoice returns the message of a choice {index, finish_reason, message}.
func unwrapChoice(v gjson.Result) gjson.Result {
	o := members(v)
	m := o.get("message")
	if !m.IsObject() {
		return v
	}
	f := o.get("finish_reason")
	if f.Type != gjson.String || members(m).get("finish_reason").Exists() {
		return m
	}
	return gjson.Parse(strings.TrimSuffix(strings.TrimSpace(m.Raw), "}") + comma(m) + `"finish_reason":` + f.Raw + "}")
}

func comma(object gjson.Result) string {
	if len(members(object)) == 0 {
		return ""
	}
	return ","
}

// logfireEvents reads the list of message events that Logfire and Pydantic AI
// write as an attribute (contract section 5.3).
func logfireEvents(old *spanEvents, v gjson.Result) {
	if !v.IsArray() {
		return
	}
	v.ForEach(func(_, item gjson.Result) bool {
		o := members(item)
		name := o.get("event.name").String()
		role, ok := oldRoles[name]
		if !ok {
			return true
		}
		m := oldMessage{role: role, body: unwrapChoice(item)}
		if i := o.get("gen_ai.message.index"); i.Type == gjson.Number {
			m.index = event.Some(i.Int())
		}
		old.add(name, m)
		return true
	})
	for _, m := range old.input {
		if !m.index.Known {
			return
		}
	}
	sort.SliceStable(old.input, func(i, j int) bool { return old.input[i].index.Value < old.input[j].index.Value })
}

// content sets input, output and tools of generations, and the input and output
// state of other spans.
func content(e *event.Event, attrs *attributes, old spanEvents) {
	if v := attrs.take("events", "all_messages_events"); v != nil && len(old.input)+len(old.output) == 0 {
		logfireEvents(&old, value(v))
	}
	var in, out thread
	instructions := value(attrs.take("gen_ai.system_instructions", "gen_ai.system.instructions"))
	readInput(&in, attrs, old)
	readOutput(&out, attrs, old)
	if instructions.Exists() && !in.hasRoles["system"] && in.n > 0 {
		var first thread
		addInstructions(&first, instructions)
		if first.n > 0 {
			in.out = append(append(first.out, ','), in.out[1:]...)
			in.n += first.n
		}
	} else if in.n == 0 && instructions.Exists() {
		addInstructions(&in, instructions)
	}
	e.StopReason = or(e.StopReason, out.finish)
	if !e.Usage.WebSearches.Known && out.searches > 0 {
		e.Usage.WebSearches = event.Some(out.searches)
	}
	tools := readTools(attrs)
	if e.IsCosted() {
		e.Content.Input, e.Content.Tools = in.json(), tools
		if e.Name == event.Embedding {
			e.Content.Input = embeddingInput(attrs, e.Content.Input)
			attrs.take(outputKeys...)
			return
		}
		e.Content.Output = out.json()
		if e.Content.Input == nil {
			fallback(&in, attrs, inputKeys, "user")
			e.Content.Input = in.json()
		} else {
			attrs.take(inputKeys...)
		}
		if e.Content.Output == nil {
			fallback(&out, attrs, outputKeys, "assistant")
			e.Content.Output = out.json()
		} else {
			attrs.take(outputKeys...)
		}
		e.StopReason = or(e.StopReason, out.finish)
		return
	}
	e.Content.Tools = tools
	e.Content.InputState, e.Content.OutputState = states(attrs, &in, &out)
}

func addInstructions(t *thread, v gjson.Result) {
	// The parts are {type: text, content}; older senders write plain text.
	if v.IsArray() {
		var w items
		w.list(v)
		t.write(&w, nil, "system")
		return
	}
	t.add(v, "system")
}

// readInput finds the messages of a call, in the best form. It takes all names,
// so that no copy is kept as a property.
func readInput(t *thread, attrs *attributes, old spanEvents) {
	try := func(v gjson.Result, role string) {
		if t.n == 0 && v.Exists() {
			t.add(v, role)
		}
	}
	try(value(attrs.take("gen_ai.input.messages")), "user")
	if t.n == 0 {
		for _, m := range old.input {
			t.fields(members(m.body), roleOf(members(m.body).get("role").String(), m.role))
		}
	}
	for _, f := range [...]string{famPrompt, famInput, famPromptGo} {
		try(attrs.family(f), "user")
	}
	try(value(attrs.take("ai.prompt.messages")), "user")
	try(value(attrs.take("ai.prompt")), "user")
	try(value(attrs.take("gen_ai.prompt")), "user")
	try(value(attrs.take("llm.prompts")), "user")
	try(value(attrs.take("gcp.vertex.agent.llm_request")), "user")
}

func readOutput(t *thread, attrs *attributes, old spanEvents) {
	try := func(v gjson.Result, role string) {
		if t.n == 0 && v.Exists() {
			t.add(v, role)
		}
	}
	said := value(attrs.take("gen_ai.output.messages"))
	t.searches = serverSearches(said)
	try(said, "assistant")
	if t.n == 0 {
		for _, m := range old.output {
			t.fields(members(m.body), roleOf(members(m.body).get("role").String(), m.role))
		}
	}
	for _, f := range [...]string{famCompletion, famOutput, famCompletionGo, famChoices} {
		try(attrs.family(f), "assistant")
	}
	vercelOutput(t, attrs)
	try(value(attrs.take("gen_ai.completion")), "assistant")
	try(value(attrs.take("llm.completions")), "assistant")
	try(value(attrs.take("gcp.vertex.agent.llm_response")), "assistant")
}

// serverSearches counts the web searches that Anthropic made during a call and
// billed: those that returned a list. A failed one returned an error (contract
// section 5.4).
func serverSearches(messages gjson.Result) (n int64) {
	if !messages.IsArray() {
		return 0
	}
	asked := make(map[string]bool)
	messages.ForEach(func(_, m gjson.Result) bool {
		m.Get("parts").ForEach(func(_, p gjson.Result) bool {
			id := p.Get("id").String()
			switch {
			case !strings.HasPrefix(id, "srvtoolu_"):
			case p.Get("type").Str == "tool_call":
				asked[id] = p.Get("name").Str == "web_search"
			case p.Get("type").Str == "tool_call_response" && asked[id]:
				response := p.Get("response")
				if !response.Exists() {
					response = p.Get("result")
				}
				if response.Type == gjson.String {
					response, _ = parse(response.Str)
				}
				if response.IsArray() {
					n++
				}
				delete(asked, id)
			}
			return true
		})
		return true
	})
	return n
}

// vercelOutput assembles the AI SDK's parts.
func vercelOutput(t *thread, attrs *attributes) {
	reasoning, said := attrs.str("ai.response.reasoning"), attrs.str("ai.response.text", "ai.result.text")
	object, calls := attrs.take("ai.response.object", "ai.result.object"), attrs.take("ai.response.toolCalls", "ai.result.toolCalls")
	attrs.take("ai.response.files")
	if t.n > 0 || reasoning == "" && said == "" && object == nil && calls == nil {
		return
	}
	var w items
	if reasoning != "" {
		w.thinking(gjson.ParseBytes(rawjson.Quote(reasoning)))
	}
	switch {
	case said != "":
		w.text(gjson.ParseBytes(rawjson.Quote(said)))
	case object != nil:
		s := text(object)
		if s == "" {
			s = value(object).Raw
		}
		w.text(gjson.ParseBytes(rawjson.Quote(s)))
	}
	if list := value(calls); list.IsArray() {
		list.ForEach(func(_, c gjson.Result) bool {
			w.call(c)
			return true
		})
	}
	t.write(&w, nil, "assistant")
}

// inputKeys and outputKeys hold the input and output of a span of any kind.
var inputKeys = []string{
	"input.value", "traceloop.entity.input", "langfuse.observation.input", "gen_ai.tool.call.arguments", "tool_arguments", "ai.toolCall.args", "gcp.vertex.agent.tool_call_args", "tool.parameters", "langfuse.trace.input",
	"mastra.agent_run.input", "mastra.workflow_run.input", "mastra.workflow_step.input", "mastra.model_generation.input", "mastra.model_step.input", "mastra.tool_call.input", "mastra.mcp_tool_call.input", "mastra.processor_run.input", "mastra.generic.input", "input",
}

var outputKeys = []string{
	"output.value", "traceloop.entity.output", "langfuse.observation.output", "gen_ai.tool.call.result", "tool_response", "ai.toolCall.result", "gcp.vertex.agent.tool_response", "final_result", "langfuse.trace.output",
	"mastra.agent_run.output", "mastra.workflow_run.output", "mastra.workflow_step.output", "mastra.model_generation.output", "mastra.model_step.output", "mastra.tool_call.output", "mastra.mcp_tool_call.output", "mastra.processor_run.output", "mastra.generic.output", "mastra.model_chunk.output", "output",
}

func fallback(t *thread, attrs *attributes, keys []string, role string) {
	if v := value(attrs.take(keys...)); v.Exists() {
		t.add(v, role)
	}
}

// states returns the input and output state of a span.
func states(attrs *attributes, in, out *thread) (input, output json.RawMessage) {
	all := value(attrs.take("pydantic_ai.all_messages"))
	final := attrs.peek("final_result")
	input, output = state(attrs.take(inputKeys...)), state(attrs.take(outputKeys...))
	for _, f := range [...]string{famRerankInput, famRerankOutput, famDocuments} {
		v := attrs.family(f)
		switch {
		case !v.Exists():
		case f == famRerankInput && input == nil:
			input = json.RawMessage(v.Raw)
		case f != famRerankInput && output == nil:
			output = json.RawMessage(v.Raw)
		}
	}
	if q := attrs.take("reranker.query", "db.query.text", "gen_ai.retrieval.query.text"); q != nil && input == nil {
		input = state(q)
	}
	if all.IsArray() {
		var t thread
		t.add(all, "user")
		first, last := ends(t.json())
		if input == nil {
			input = first
		}
		if output == nil || final == "" {
			output = or2(last, output)
		}
	}
	if list := embedded(attrs); input == nil && len(list) > 0 {
		input = listOf(list) // the AI SDK's outer span of embed and embedMany
	}
	if input == nil {
		// The AI SDK's outer span: PostHog keeps the last user message
		// (contract section 5.4).
		if attrs.has("ai.operationId") {
			input = lastOf(in.json(), "user")
		} else {
			input = in.whole()
		}
	}
	if output == nil {
		output = out.whole()
	}
	return input, output
}

func or2(a, b json.RawMessage) json.RawMessage {
	if a != nil {
		return a
	}
	return b
}

// state returns a value as JSON.
func state(v *common.AnyValue) json.RawMessage {
	if v == nil {
		return nil
	}
	r := value(v)
	if inner, ok := parse(r.Str); ok && r.Type == gjson.String {
		r = inner // text encoded as a JSON string
	}
	if r.Raw == `""` || !r.Exists() {
		return nil
	}
	return json.RawMessage(r.Raw)
}

// whole is the thread as the state of a span that need not have messages.
func (t *thread) whole() json.RawMessage {
	if t.n == 1 && t.verbatim != "" {
		return json.RawMessage(t.verbatim)
	}
	return t.json()
}

// ends returns the first message of the user and the last message of any other
// role.
func ends(messages json.RawMessage) (first, last json.RawMessage) {
	gjson.ParseBytes(messages).ForEach(func(_, m gjson.Result) bool {
		role := m.Get("role").String()
		if role == "user" && first == nil {
			first = json.RawMessage("[" + m.Raw + "]")
		}
		if role != "user" && role != "system" {
			last = json.RawMessage("[" + m.Raw + "]")
		}
		return true
	})
	return first, last
}

func lastOf(messages json.RawMessage, role string) (last json.RawMessage) {
	gjson.ParseBytes(messages).ForEach(func(_, m gjson.Result) bool {
		if m.Get("role").String() == role {
			last = json.RawMessage("[" + m.Raw + "]")
		}
		return true
	})
	if last == nil {
		return messages
	}
	return last
}

// embeddingInput is the embedded text, or a list of texts. The vectors are not
// kept.
func embeddingInput(attrs *attributes, messages json.RawMessage) json.RawMessage {
	var list []string
	attrs.family(famEmbeddings).ForEach(func(_, item gjson.Result) bool {
		if s := item.Get("text"); s.Type == gjson.String {
			list = append(list, s.Raw)
		}
		return true
	})
	if values := embedded(attrs); len(list) == 0 {
		list = values
	}
	whole := attrs.take(append([]string{"embedding.text"}, inputKeys...)...)
	if len(list) == 0 {
		gjson.ParseBytes(messages).ForEach(func(_, m gjson.Result) bool {
			if c := m.Get("content"); c.Type == gjson.String {
				list = append(list, c.Raw)
			}
			return true
		})
	}
	switch {
	case len(list) > 0:
		return listOf(list)
	case messages != nil:
		return messages
	}
	return state(whole)
}

// listOf returns a list of JSON values, or the value itself if there is only
// one.
func listOf(list []string) json.RawMessage {
	if len(list) == 1 {
		return json.RawMessage(list[0])
	}
	return json.RawMessage("[" + strings.Join(list, ",") + "]")
}

// embedded takes the texts that the AI SDK embeds.
func embedded(attrs *attributes) (list []string) {
	if v := attrs.take("ai.values"); v != nil {
		for _, item := range v.GetArrayValue().GetValues() {
			list = append(list, valueText(item))
		}
	}
	if v := attrs.take("ai.value"); v != nil && len(list) == 0 {
		list = append(list, valueText(v))
	}
	return list
}

// valueText returns a value that the AI SDK wrote as JSON or as plain text.
func valueText(v *common.AnyValue) string {
	if r, ok := parse(text(v)); ok {
		return r.Raw
	}
	return string(appendJSON(nil, v))
}

// readTools finds the available tools.
func readTools(attrs *attributes) json.RawMessage {
	var found gjson.Result
	try := func(v gjson.Result) {
		if !found.Exists() && v.IsArray() && v.Get("0").Exists() {
			found = v
		}
	}
	try(value(attrs.take("gen_ai.tool.definitions", "gen_ai.request.tools", "ai.prompt.tools", "llm.request.tools")))
	try(attrs.family(famFunctions))
	try(attrs.family(famTools))
	if v := value(attrs.take("model_request_parameters")); v.IsObject() {
		dst := []byte{'['}
		for _, name := range []string{"function_tools", "output_tools", "builtin_tools"} {
			v.Get(name).ForEach(func(_, tool gjson.Result) bool {
				if len(dst) > 1 {
					dst = append(dst, ',')
				}
				dst = append(dst, tool.Raw...)
				return true
			})
		}
		try(gjson.ParseBytes(append(dst, ']')))
	}
	try(value(attrs.look("langfuse.observation.input")).Get("tools"))
	if !found.Exists() {
		return nil
	}
	dst := []byte{'['}
	found.ForEach(func(_, item gjson.Result) bool {
		if len(dst) > 1 {
			dst = append(dst, ',')
		}
		// A tool definition may be JSON in a string, alone or as the only
		// member json_schema.
		if s := item.Get("json_schema"); item.IsObject() && s.Exists() {
			item = s
		}
		if item.Type == gjson.String {
			if r, ok := parse(item.Str); ok && r.IsObject() {
				item = r
			} else {
				item = gjson.ParseBytes(append(append([]byte(`{"name":`), item.Raw...), '}'))
			}
		}
		dst = appendTool(dst, item)
		return true
	})
	return append(dst, ']')
}

// appendTool writes a tool; a schema in a string is decoded.
func appendTool(dst []byte, tool gjson.Result) []byte {
	if !tool.IsObject() || !strings.Contains(tool.Raw, `"{`) {
		return append(dst, tool.Raw...)
	}
	dst = append(dst, '{')
	for i, m := range members(tool) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(rawjson.AppendQuote(dst, m.key), ':')
		switch m.key {
		case "parameters", "input_schema", "inputSchema", "arguments":
			if r, ok := parse(m.value.Str); ok && m.value.Type == gjson.String && r.IsObject() {
				m.value = r
			}
		}
		dst = append(dst, m.value.Raw...)
	}
	return append(dst, '}')
}
