package otlp

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/tidwall/gjson"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/rawjson"
)

// converter converts the spans of a request to events.
type converter struct {
	project  string
	events   []*event.Event
	skipped  int     // spans without LLM data
	rejected int     // spans that cannot become events
	why      string  // reason of the first rejection
	logged   *logged // content of log records; nil: none
	recent   *recent // data of earlier requests; nil: none

	attrs attributes
}

// resource is the data that all spans of a resource share.
type resource struct {
	attrs []*common.KeyValue
	json  []json.RawMessage
}

func (c *converter) convert(req *collector.ExportTraceServiceRequest) {
	defer c.relate(req)
	c.attrs.index, c.attrs.families = make(map[string]int, 64), make(map[string][]int)
	for _, rs := range req.GetResourceSpans() {
		res := resource{attrs: rs.GetResource().GetAttributes()}
		for _, ss := range rs.GetScopeSpans() {
			for _, s := range ss.GetSpans() {
				c.span(s, ss.GetScope(), &res)
			}
		}
	}
}

func (c *converter) reject(why string) {
	if c.rejected++; c.why == "" {
		c.why = why
	}
}

// span appends the event of one span.
func (c *converter) span(s *trace.Span, scope *common.InstrumentationScope, res *resource) {
	if !relevant(s, scope) {
		c.skipped++
		return
	}
	switch {
	case !validID(s.GetTraceId(), 16):
		c.reject("its trace id is not 16 bytes")
		return
	case !validID(s.GetSpanId(), 8):
		c.reject("its span id is not 8 bytes")
		return
	}
	attrs := &c.attrs
	attrs.reset()
	for _, kv := range s.GetAttributes() {
		attrs.add(kv.GetKey(), kv.GetValue(), nil)
	}
	old := takeEvents(attrs, s)
	c.logged.addTo(c.project, s.GetTraceId(), s.GetSpanId(), attrs, &old)
	attrs.own = len(attrs.list)
	if res.json == nil {
		res.json = make([]json.RawMessage, len(res.attrs))
		for i, kv := range res.attrs {
			res.json[i] = appendJSON(nil, kv.GetValue())
		}
	}
	for i, kv := range res.attrs {
		attrs.add(kv.GetKey(), kv.GetValue(), res.json[i])
	}
	if attrs.peek("logfire.span_type") == "pending_span" {
		c.skipped++ // Logfire announces a span that is still running
		return
	}

	e := &event.Event{ProjectID: c.project, Source: event.SourceOTLP, Name: kindOf(attrs)}
	identity(e, s)
	times(e, s)
	names(e, attrs, s, scope)
	people(e, attrs)
	model(e, attrs)
	usage(e, attrs)
	outcome(e, attrs, s)
	labels(e, attrs, old)
	content(e, attrs, old)
	firstToken(e, attrs, s)
	properties(e, attrs)
	c.events = append(c.events, e)
}

func validID(id []byte, size int) bool {
	if len(id) != size {
		return false
	}
	for _, c := range id {
		if c != 0 {
			return true
		}
	}
	return false
}

// markers are prefixes of LLM-related span and attribute names.
var markers = []string{
	"gen_ai.", "llm.", "ai.", "traceloop.", "openinference.", "langsmith.", "langfuse.", "mastra.", "pydantic_ai.", "anthropic.", "gcp.vertex.agent.", "$ai_",
}

// scopes are instrumentations all of whose spans belong to a trace, including
// those without LLM attributes.
var scopes = []string{"openinference.", "@arizeai/openinference", "pydantic-ai", "langsmith", "langfuse-sdk", "@mastra/", "mastra", "openrouter"}

// relevant reports whether a span has LLM data (contract section 5.1).
func relevant(s *trace.Span, scope *common.InstrumentationScope) bool {
	if s == nil {
		return false
	}
	if marked(s.GetName()) {
		return true
	}
	for _, kv := range s.GetAttributes() {
		if k := kv.GetKey(); marked(k) || k == "model_request_parameters" || k == "input.value" || k == "output.value" {
			return true
		}
	}
	name := scope.GetName()
	for _, p := range scopes {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

func marked(s string) bool {
	if s == "" {
		return false
	}
	switch s[0] {
	case 'g', 'l', 'a', 't', 'o', 'm', 'p', '$':
	default:
		return false
	}
	for _, m := range markers {
		if strings.HasPrefix(s, m) {
			return true
		}
	}
	return false
}

// operations are the values of gen_ai.operation.name that are LLM calls.
var operations = map[string]string{
	"chat": event.Generation, "text_completion": event.Generation, "generate_content": event.Generation,
	"completion": event.Generation, "completions": event.Generation, "responses": event.Generation, "messages": event.Generation, "generate": event.Generation,
	"image_generation": event.Generation, "speech": event.Generation, "transcription": event.Generation,
	"embeddings": event.Embedding, "embedding": event.Embedding, "embed": event.Embedding,
}

// kinds are the corresponding values of other libraries: OpenInference's span
// kinds, Traceloop's request types, LangSmith's run types, Langfuse's
// observation types, Mastra's span types.
var kinds = map[string]string{
	"llm": event.Generation, "chat": event.Generation, "completion": event.Generation, "generation": event.Generation, "model_generation": event.Generation, "model_inference": event.Generation,
	"embedding": event.Embedding, "embeddings": event.Embedding,
}

// kindOf returns the event name of a span (contract section 5.2, without the
// root rule).
func kindOf(attrs *attributes) string {
	for _, key := range [...]string{"openinference.span.kind", "langfuse.observation.type", "langsmith.span.kind", "mastra.span.type"} {
		if s := attrs.peek(key); s != "" {
			if s == "model_generation" && !attrs.has("gen_ai.request.model") && !attrs.has("gen_ai.response.model") {
				return event.Span // since Mastra's exporter 1.4: the call is the model_inference within
			}
			return or(kinds[strings.ToLower(s)], event.Span)
		}
	}
	if id := attrs.peek("ai.operationId"); id != "" {
		switch {
		case strings.HasSuffix(id, ".doGenerate"), strings.HasSuffix(id, ".doStream"):
			return event.Generation
		case strings.HasSuffix(id, ".doEmbed"):
			return event.Embedding
		}
		return event.Span
	}
	if op := attrs.peek("gen_ai.operation.name"); op != "" {
		return or(operations[strings.ToLower(op)], event.Span)
	}
	if t := attrs.peek("llm.request.type"); t != "" {
		return or(kinds[strings.ToLower(t)], event.Span)
	}
	if attrs.has("traceloop.span.kind") || attrs.has("gen_ai.tool.name") || attrs.has("gen_ai.agent.name") || attrs.has("pydantic_ai.all_messages") || attrs.has("ai.telemetry.functionId") {
		return event.Span
	}
	// Without an operation, a span with a model and token counts is a call.
	named := attrs.has("gen_ai.request.model") || attrs.has("gen_ai.response.model") || attrs.has("llm.model_name") || attrs.has("$ai_model")
	counted := attrs.has("gen_ai.usage.input_tokens") || attrs.has("gen_ai.usage.output_tokens") || attrs.has("gen_ai.usage.prompt_tokens") || attrs.has("gen_ai.usage.completion_tokens") || attrs.has("llm.token_count.prompt") || attrs.has("$ai_input_tokens")
	if named && counted {
		return event.Generation
	}
	return event.Span
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// identity sets ids, and with them the parent.
func identity(e *event.Event, s *trace.Span) {
	e.TraceID = hex.EncodeToString(s.GetTraceId())
	e.SpanID = hex.EncodeToString(s.GetSpanId())
	if validID(s.GetParentSpanId(), 8) {
		e.ParentID = hex.EncodeToString(s.GetParentSpanId())
	}
	if e.Name == event.Span && e.ParentID == "" {
		e.Name = event.Trace // the root rule: contract section 5.2
	}
	start := s.GetStartTimeUnixNano()
	if start == 0 {
		start = s.GetEndTimeUnixNano()
	}
	e.UUID = eventID(e.ProjectID, s.GetTraceId(), s.GetSpanId(), start)
}

// eventID returns a UUID of version 7 whose time is the span's start and whose
// other bits are a hash of project, trace and span, so that a span that is
// exported again has the same one.
func eventID(project string, traceID, spanID []byte, start uint64) string {
	h := sha256.New()
	h.Write([]byte(project))
	h.Write([]byte{0})
	h.Write(traceID)
	h.Write(spanID)
	var sum [sha256.Size]byte
	h.Sum(sum[:0])
	var id uuid.UUID
	copy(id[:], sum[:])
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], start/uint64(time.Millisecond))
	copy(id[:6], ms[2:])
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	return id.String()
}

func times(e *event.Event, s *trace.Span) {
	start, end := s.GetStartTimeUnixNano(), s.GetEndTimeUnixNano()
	if start == 0 {
		start = end
	}
	const most = 1<<63 - 1
	if start == 0 {
		return // enrich uses the time of arrival
	}
	start = min(start, most) // enrich reports it as out of range
	e.Timestamp = time.Unix(0, int64(start)).UTC()
	if end > start && end <= most {
		e.Latency = event.Some(time.Duration(end - start))
	}
}

// names sets the span name and what created it.
func names(e *event.Event, attrs *attributes, s *trace.Span, scope *common.InstrumentationScope) {
	e.SpanName = s.GetName()
	e.TraceName = attrs.str("langfuse.trace.name", "langsmith.trace.name", "trace.name", "traceloop.workflow.name", "$ai_trace_name")
	op := attrs.str("gen_ai.operation.name")
	request := attrs.str("llm.request.type")
	if e.IsCosted() {
		e.Operation = op
		if e.Operation == "" && request != "" && request != "unknown" {
			e.Operation = request
		}
		if e.Name == event.Embedding {
			e.Operation = "embeddings"
		}
	}
	kind := strings.ToLower(attrs.str("openinference.span.kind", "traceloop.span.kind", "langfuse.observation.type", "langsmith.span.kind", "mastra.span.type"))
	if kind == "" {
		switch op {
		case "invoke_agent", "create_agent":
			kind = "agent"
		case "execute_tool":
			kind = "tool"
		case "invoke_workflow":
			kind = "workflow"
		}
	}
	functionID := attrs.str("ai.telemetry.functionId")
	if id := attrs.str("ai.operationId"); id != "" {
		e.Stream = streams(id)
		switch name := attrs.peek("ai.toolCall.name"); {
		case id == "ai.toolCall":
			kind = "tool"
			e.SpanName = or(name, e.SpanName)
		case functionID != "" && e.Name != event.Generation && e.Name != event.Embedding:
			e.SpanName = functionID
		}
	}
	if name := attrs.str("agent_name"); name != "" && !attrs.has("gen_ai.agent.name") && !e.IsCosted() {
		set(e, "gen_ai.agent.name", name)
	}
	if functionID != "" {
		set(e, "functionId", functionID)
	}
	if kind != "" && !e.IsCosted() && kind != "span" {
		set(e, "$ai_span_type", kind)
	}
	if s.GetName() != e.SpanName {
		set(e, "$otel_span_name", s.GetName())
	}
	set(e, "$ai_ingestion_source", "otel")
	lib, framework := library(attrs, scope)
	if sdk := attrs.str("telemetry.sdk.name"); lib == "" {
		lib = sdk
	}
	if lib != "" {
		set(e, "$ai_lib", lib)
	}
	if v := or(scope.GetVersion(), attrs.peek("telemetry.sdk.version")); v != "" {
		set(e, "$ai_lib_version", v)
	}
	attrs.take("telemetry.sdk.version")
	if framework != "" {
		set(e, "$ai_framework", framework)
	}
	if name := scope.GetName(); name != "" {
		set(e, "otel.scope.name", name)
	}
}

func streams(operationID string) event.Opt[bool] {
	switch {
	case strings.HasSuffix(operationID, ".doStream"):
		return event.Some(true)
	case strings.HasSuffix(operationID, ".doGenerate"):
		return event.Some(false)
	}
	return event.Opt[bool]{}
}

// library returns the instrumentation and, if it instruments one, the
// framework.
func library(attrs *attributes, scope *common.InstrumentationScope) (lib, framework string) {
	name := scope.GetName()
	has := func(p string) bool { return strings.HasPrefix(name, p) }
	switch {
	case has("@mastra"), has("mastra"), attrs.has("mastra.span.type"):
		return "opentelemetry/mastra", "mastra"
	case attrs.has("ai.operationId"), attrs.has("ai.telemetry.functionId"):
		return "opentelemetry/vercel-ai", "vercel"
	case has("pydantic-ai"), attrs.has("model_request_parameters"), attrs.has("pydantic_ai.all_messages"):
		return "opentelemetry/pydantic-ai", "pydantic-ai"
	case has("langsmith"), attrs.has("langsmith.span.kind"):
		return "opentelemetry/langsmith", "langchain"
	case strings.Contains(name, "langchain"):
		framework = "langchain"
	case strings.Contains(name, "llama_index"), strings.Contains(name, "llamaindex"):
		framework = "llamaindex"
	}
	switch {
	case attrs.has("openinference.span.kind"):
		lib = "opentelemetry/openinference"
	case attrs.has("traceloop.span.kind"), attrs.has("llm.request.type"), len(attrs.families[famPrompt]) > 0, attrs.has("traceloop.workflow.name"):
		lib = "opentelemetry/traceloop"
	case has("langfuse"), attrs.has("langfuse.observation.type"):
		lib = "opentelemetry/langfuse"
	}
	return lib, framework
}

// people sets user and session.
func people(e *event.Event, attrs *attributes) {
	e.DistinctID = attrs.str("posthog.distinct_id", "posthog_distinct_id", "$ai_distinct_id", "distinct_id",
		"ai.telemetry.metadata.posthog_distinct_id", "traceloop.association.properties.posthog_distinct_id", "langfuse.trace.metadata.posthog_distinct_id", "trace.metadata.posthog_distinct_id")
	user := attrs.str("user.id", "enduser.id", "langfuse.user.id", "gen_ai.user.id", "ai.telemetry.metadata.userId", "ai.telemetry.metadata.user_id", "ai.telemetry.metadata.user",
		"traceloop.association.properties.user_id", "traceloop.association.properties.userId", "mastra.user_id", "mastra.metadata.userId", "langsmith.metadata.user_id", "trace.metadata.user_id")
	e.User = attrs.str("gen_ai.request.user", "gen_ai.user", "llm.user")
	if e.DistinctID == "" {
		e.DistinctID = or(user, e.User)
	} else if user != "" && user != e.DistinctID {
		set(e, "user.id", user)
	}
	e.DistinctID = event.FirstChars(e.DistinctID, event.MaxDistinctIDLen)
	e.SessionID = attrs.str("$ai_session_id", "ai.telemetry.metadata.$ai_session_id", "gen_ai.conversation.id", "session.id", "langfuse.session.id",
		"ai.telemetry.metadata.sessionId", "ai.telemetry.metadata.session_id", "ai.telemetry.metadata.threadId", "ai.telemetry.metadata.conversationId",
		"traceloop.association.properties.session_id", "traceloop.association.properties.sessionId", "traceloop.association.properties.thread_id", "traceloop.association.properties.conversation_id",
		"langsmith.metadata.session_id", "langsmith.metadata.thread_id", "langsmith.metadata.conversation_id", "mastra.metadata.threadId", "mastra.metadata.sessionId", "gcp.vertex.agent.session_id", "trace.metadata.session_id")
}

// model sets provider, models, addresses and parameters.
func model(e *event.Event, attrs *attributes) {
	e.Provider = event.ProviderName(attrs.str("gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system", "llm.vendor", "ai.model.provider", "langsmith.metadata.ls_provider", "embedding.provider"))
	e.ModelAsked = attrs.str("gen_ai.request.model", "ai.model.id", "llm.request.model", "embedding.model_name", "reranker.model_name")
	e.Model = attrs.str("gen_ai.response.model", "ai.response.model", "llm.response.model", "llm.model_name", "langfuse.observation.model.name", "langsmith.metadata.ls_model_name")
	e.CompletionID = attrs.str("gen_ai.response.id", "ai.response.id", "llm.response.id", "gen_ai.response_id")
	if body := value(attrs.take("mastra.metadata.body")); e.CompletionID == "" {
		e.CompletionID = body.Get("id").String() // of a step: nest passes it to the call within
	}
	for _, output := range []string{"output.value", "langfuse.observation.output"} { // the provider's response, unchanged
		if e.CompletionID == "" {
			e.CompletionID = responseID(attrs.peek(output))
		}
	}
	if e.Provider == "" && e.IsCosted() {
		e.Provider = event.ProviderOfModel(e.ModelName())
	}
	e.SystemFingerprint = attrs.str("openai.response.system_fingerprint", "gen_ai.openai.response.system_fingerprint", "gen_ai.openai.system_fingerprint", "gen_ai.system_fingerprint")
	e.ServiceTier = attrs.str("openai.response.service_tier", "gen_ai.openai.response.service_tier", "gen_ai.response.service_tier", "anthropic.response.service_tier")
	e.Speed = attrs.str("anthropic.response.speed", "gen_ai.response.speed")
	e.InferenceGeo = attrs.str("anthropic.response.inference_geo", "gen_ai.response.inference_geo")
	if s := attrs.flag("gen_ai.request.stream", "gen_ai.request.is_stream", "gen_ai.is_streaming", "llm.is_streaming", "langsmith.request.streaming", "mastra.model_generation.streaming"); s.Known {
		e.Stream = s
	}
	if base := attrs.str("gen_ai.openai.api_base", "openai.api_base", "llm.openai.api_base", "gen_ai.request.base_url"); base != "" {
		e.BaseURL = withoutQuery(base)
	}
	if host := attrs.str("server.address"); e.BaseURL == "" && host != "" {
		e.BaseURL = withoutQuery(host)
		if port := attrs.count("server.port"); port.Known && port.Value != 443 && port.Value != 80 && !strings.Contains(host, "/") {
			e.BaseURL += ":" + strconv.FormatInt(port.Value, 10)
		}
	}
	attrs.take("server.port")
	e.RequestURL = withoutQuery(attrs.str("url.full", "http.url"))
	parameters(e, attrs)
}

// withoutQuery removes parts of a URL that can hold keys: query, fragment, user
// and password.
func withoutQuery(s string) string {
	if i := strings.IndexAny(s, "?#"); i >= 0 {
		s = s[:i]
	}
	if strings.Contains(s, "@") {
		if u, err := url.Parse(s); err == nil {
			u.User = nil
			return u.String()
		}
		return ""
	}
	return s
}

// parameterNames maps other names of parameters to the providers'.
var parameterNames = map[string]string{
	"stop_sequences": "stop", "choice.count": "n", "choice_count": "n", "max_output_tokens": "max_tokens", "encoding_formats": "encoding_format",
	"is_stream": "stream", "response_model": "",
}

// notParameters are members of invocation parameters that are content, or have
// a field of their own.
var notParameters = map[string]bool{
	"model": true, "model_name": true, "messages": true, "input": true, "prompt": true, "system": true, "contents": true, "tools": true, "functions": true, "user": true,
	"system_instruction": true, "systemInstruction": true, "instructions": true, "headers": true, "extra_headers": true, "api_key": true, "apiKey": true, "base_url": true,
}

// parameters collects the call's request parameters.
func parameters(e *event.Event, attrs *attributes) {
	put := func(name string, v json.RawMessage) {
		if n, ok := parameterNames[name]; ok {
			name = n
		}
		if name == "" || notParameters[name] || len(v) == 0 || string(v) == "null" {
			return
		}
		if e.ModelParameters == nil {
			e.ModelParameters = make(map[string]json.RawMessage, 8)
		}
		if _, ok := e.ModelParameters[name]; !ok {
			e.ModelParameters[name] = v
		}
	}
	for i := range attrs.list[:attrs.own] {
		a := &attrs.list[i]
		if a.used {
			continue
		}
		var name string
		switch {
		case strings.HasPrefix(a.key, "gen_ai.request."):
			name = a.key[len("gen_ai.request."):]
		case strings.HasPrefix(a.key, "gen_ai.openai.request."):
			name = a.key[len("gen_ai.openai.request."):]
		case strings.HasPrefix(a.key, "openai.request."):
			name = a.key[len("openai.request."):]
		case strings.HasPrefix(a.key, "ai.settings."):
			name = snake(a.key[len("ai.settings."):])
		case a.key == "llm.top_k", a.key == "llm.top_p", a.key == "llm.temperature", a.key == "llm.frequency_penalty", a.key == "llm.presence_penalty", a.key == "llm.request.max_tokens":
			name = strings.TrimPrefix(a.key[len("llm."):], "request.")
		case a.key == "llm.chat.stop_sequences":
			name = "stop"
		case a.key == "gen_ai.output.type":
			name = "output_type"
		case a.key == "gen_ai.embeddings.dimension.count":
			name = "dimensions"
		case a.key == "ai.prompt.toolChoice":
			name = "tool_choice"
		default:
			continue
		}
		a.used = true
		put(name, json.RawMessage(value(a.value).Raw))
	}
	for _, key := range [...]string{"llm.invocation_parameters", "embedding.invocation_parameters", "langfuse.observation.model.parameters", "gen_ai.invocation_parameters"} {
		if v := attrs.take(key); v != nil {
			if o := value(v); o.IsObject() {
				for _, m := range members(o) {
					put(m.key, json.RawMessage(m.value.Raw))
				}
			}
		}
	}
	if s := e.ModelParameters["stream"]; !e.Stream.Known && (string(s) == "true" || string(s) == "false") {
		e.Stream = event.Some(string(s) == "true")
	}
}

// snake converts maxOutputTokens to max_output_tokens.
func snake(s string) string {
	var out []byte
	for i := range len(s) {
		if c := s[i]; 'A' <= c && c <= 'Z' {
			if i > 0 {
				out = append(out, '_')
			}
			out = append(out, c|0x20)
		} else {
			out = append(out, c)
		}
	}
	return string(out)
}

// outcome sets status and error.
func outcome(e *event.Event, attrs *attributes, s *trace.Span) {
	e.StopReason = stopReason(attrs)
	e.ErrorType = attrs.str("error.type")
	message := attrs.str("error.message", "langfuse.observation.status_message", "exception.message")
	failed := s.GetStatus().GetCode() == trace.Status_STATUS_CODE_ERROR || e.ErrorType != "" || attrs.str("langfuse.observation.level") == "ERROR"
	var kind, text string
	for _, ev := range s.GetEvents() {
		if ev.GetName() != "exception" {
			continue
		}
		for _, kv := range ev.GetAttributes() {
			switch kv.GetKey() {
			case "exception.type":
				kind = textOf(kv)
			case "exception.message":
				text = textOf(kv)
			}
		}
	}
	e.HTTPStatus = int(attrs.count("http.response.status_code", "http.status_code", "gen_ai.response.status_code").Or(0))
	if n, err := strconv.Atoi(e.ErrorType); err == nil && n >= 400 && n <= 599 && e.HTTPStatus == 0 {
		e.HTTPStatus = n
	}
	if !failed {
		return
	}
	e.IsError = true
	e.ErrorCode = attrs.str("error.code", "error_code")
	e.ErrorType = or(e.ErrorType, kind)
	e.ErrorMessage = or(or(s.GetStatus().GetMessage(), message), text)
	if low := strings.ToLower(e.ErrorType); low == "timeout" || strings.HasSuffix(low, "timeouterror") || strings.HasSuffix(low, "timeoutexception") {
		e.Status = event.StatusTimeout
	}
}

func textOf(kv *common.KeyValue) string { return text(kv.GetValue()) }

func stopReason(attrs *attributes) string {
	if list := texts(attrs.take("gen_ai.response.finish_reasons", "gen_ai.response.finish_reason", "ai.response.finishReason", "llm.finish_reason", "llm.response.finish_reason", "llm.response.stop_reason", "gen_ai.response.stop_reason", "anthropic.message.stop_reason")); len(list) > 0 {
		return list[0]
	}
	return ""
}

// labels sets prompt, environment, tags and flags.
func labels(e *event.Event, attrs *attributes, old spanEvents) {
	e.PromptName = attrs.str("$ai_prompt_name", "ai.telemetry.metadata.$ai_prompt_name", "hedgerow.prompt.name", "gen_ai.prompt.name", "langfuse.observation.prompt.name", "traceloop.prompt.key", "prompt.name", "llm.prompt_template.name")
	e.PromptVersion = attrs.str("$ai_prompt_version", "ai.telemetry.metadata.$ai_prompt_version", "hedgerow.prompt.version", "gen_ai.prompt.version", "langfuse.observation.prompt.version", "traceloop.prompt.version", "prompt.version", "llm.prompt_template.version")
	if s := attrs.str("hedgerow.prompt"); s != "" && e.PromptName == "" {
		e.PromptName, e.PromptVersion, _ = strings.Cut(s, "@")
	}
	e.Environment = attrs.str("hedgerow.environment", "environment", "deployment.environment.name", "deployment.environment", "langfuse.environment")
	for _, key := range [...]string{"tag.tags", "langfuse.trace.tags", "langsmith.span.tags", "langsmith.trace.tags"} {
		e.Tags = append(e.Tags, texts(attrs.take(key))...)
	}
	if key := attrs.str("feature_flag.key"); key != "" {
		flag(e, key, attrs.str("feature_flag.result.variant", "feature_flag.variant", "feature_flag.result.value"))
	}
	for _, f := range old.flags {
		flag(e, f.key, f.variant)
	}
}

func flag(e *event.Event, key, variant string) {
	if variant == "" {
		return
	}
	if e.Flags == nil {
		e.Flags = make(map[string]string)
	}
	e.Flags[key] = variant
}

// firstToken sets the time to first token of a stream.
func firstToken(e *event.Event, attrs *attributes, s *trace.Span) {
	ms := attrs.number("ai.response.msToFirstChunk", "ai.stream.msToFirstChunk", "gen_ai.server.time_to_first_token_ms")
	sec := attrs.number("gen_ai.response.time_to_first_chunk", "gen_ai.response.time_to_first_token", "gen_ai.server.time_to_first_token", "gen_ai.client.time_to_first_token", "llm.time_to_first_token", "llm.response.time_to_first_token")
	since := attrs.str("langfuse.observation.completion_start_time", "mastra.completion_start_time")
	var d time.Duration
	switch {
	case sec.Known && sec.Value != 0:
		d = event.Seconds(sec.Value)
	case ms.Known && ms.Value != 0:
		d = event.Seconds(ms.Value / 1000)
	case since != "":
		if t, err := event.ParseTime(strings.Trim(since, `"`)); err == nil {
			d = max(t.Sub(e.Timestamp), 0) // clocks differ
		}
	default:
		for _, ev := range s.GetEvents() {
			switch ev.GetName() {
			case "ai.stream.firstChunk", "First Token Stream Event", "llm.content.completion.chunk", "gen_ai.first_token", "new_token":
				if at := ev.GetTimeUnixNano(); d == 0 && at > s.GetStartTimeUnixNano() && at-s.GetStartTimeUnixNano() < uint64(24*time.Hour) {
					d = time.Duration(at - s.GetStartTimeUnixNano())
				}
			}
		}
	}
	if d != 0 && e.IsCosted() {
		e.TimeToFirstToken = event.Some(d)
	}
}

// dropped are attributes that carry no information, repeat a field, or can hold
// secrets: command lines and headers.
var dropped = map[string]bool{
	"telemetry.sdk.language": true, "posthog.ai.debug": true, "operation.name": true, "resource.name": true, "logfire.json_schema": true, "logfire.msg": true, "logfire.span_type": true,
	"logfire.msg_template": true, "process.command": true, "process.command_line": true, "process.command_args": true, "mastra.metadata.headers": true, "llm.prompt_template.variables": true, "$ai_trace_id": true, "$ai_span_id": true, "$ai_parent_id": true,
	"input.mime_type": true, "output.mime_type": true, "ai.embedding": true, "ai.embeddings": true, "ai.response.timestamp": true, "llm.headers": true, "$ai_usage": true,
	"gen_ai.serialized.name": true, "gen_ai.serialized.signature": true, "gen_ai.serialized.doc": true,
}

var droppedPrefixes = []string{"ai.request.headers.", "http.request.header.", "http.response.header.", "process.environment_variable.", "embedding.embeddings."}

func unwanted(key string) bool {
	if dropped[key] {
		return true
	}
	switch key[0] {
	case 'a', 'h', 'p', 'e':
	default:
		return false
	}
	for _, p := range droppedPrefixes {
		if strings.HasPrefix(key, p) {
			return true
		}
	}
	return false
}

// wireNames are properties other than $ai_… that the event has fields for.
var wireNames = map[string]bool{"surface": true, "task_type": true, "prompt_hash": true, "environment": true}

// jsonNames are properties whose value is a list or an object, which attributes
// can hold as text only.
var jsonNames = map[string]bool{
	"$groups": true, "$ai_input": true, "$ai_output_choices": true, "$ai_tools": true, "$ai_input_state": true, "$ai_output_state": true, "$ai_model_parameters": true,
	"$ai_provider_metadata": true, "$set": true, "$set_once": true, "metadata": true,
}

// properties keeps the remaining attributes. The sender's own $ai_… properties take
// precedence over derived values.
func properties(e *event.Event, attrs *attributes) {
	p := e.Properties
	if p == nil {
		p = make(map[string]json.RawMessage, len(attrs.list))
		e.Properties = p
	}
	wire := false
	for i := range attrs.list {
		a := &attrs.list[i]
		if a.used || unwanted(a.key) {
			continue
		}
		v := a.json
		if jsonNames[a.key] {
			if r := value(a.value); r.Type == gjson.JSON {
				v = json.RawMessage(r.Raw)
			}
		}
		if v == nil {
			v = appendJSON(nil, a.value)
		}
		p[a.key] = v
		wire = wire || a.key[0] == '$' || wireNames[a.key]
	}
	if wire {
		e.SetWireProperties(p)
		e.Provider = event.ProviderName(e.Provider)
	}
}

func set(e *event.Event, name, v string) {
	if e.Properties == nil {
		e.Properties = make(map[string]json.RawMessage, 24)
	}
	e.Properties[name] = rawjson.Quote(v)
}

// idOfAnswer is the provider's id in the JSON of an answer, which OpenInference gives
// as output.value.
func responseID(output string) string {
	if !strings.HasPrefix(output, "{") {
		return ""
	}
	var answer struct{ ID, Object, Type string }
	if json.Unmarshal([]byte(output), &answer) != nil || answer.Object == "" && answer.Type != "message" {
		return ""
	}
	return event.FirstChars(answer.ID, event.MaxNameLen)
}
