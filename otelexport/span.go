package otelexport

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"

	"github.com/hedgerow/hedgerow/event"
)

// markers begin the names of model-related spans and attributes.
var markers = []string{"gen_ai.", "llm.", "ai.", "traceloop.", "openinference.", "$ai_"}

func marked(s string) bool {
	return slices.ContainsFunc(markers, func(m string) bool { return strings.HasPrefix(s, m) })
}

// operations are the values of gen_ai.operation.name, and of the other
// libraries' kinds, that are calls to a model.
var operations = map[string]string{
	"chat": event.Generation, "text_completion": event.Generation, "generate_content": event.Generation, "completion": event.Generation, "llm": event.Generation,
	"embeddings": event.Embedding, "embedding": event.Embedding,
}

// convert makes an event of a span, or nil if it is unrelated to models.
func convert(s sdk.ReadOnlySpan) *event.Event {
	tells := marked(s.Name())
	for _, kv := range s.Attributes() {
		tells = tells || marked(string(kv.Key))
	}
	if !tells {
		return nil
	}
	b := attributes{}
	for _, kv := range s.Attributes() {
		b[string(kv.Key)] = kv.Value
	}
	e := &event.Event{SpanName: s.Name(), Timestamp: s.StartTime()}
	b.kind(e)
	b.identity(e, s)
	if d := s.EndTime().Sub(s.StartTime()); d > 0 {
		e.Latency = event.Some(d)
	}
	b.people(e)
	b.model(e)
	b.usage(e)
	b.outcome(e, s)
	b.content(e)
	b.labels(e)
	_ = e.SetProperty("$ai_ingestion_source", "otel") // texts always marshal
	if scope := s.InstrumentationScope().Name; scope != "" {
		_ = e.SetProperty("otel.scope.name", scope)
	}
	if r := s.Resource(); r != nil {
		for _, kv := range r.Attributes() {
			switch kv.Key {
			case "deployment.environment.name", "deployment.environment":
				e.Environment = kv.Value.AsString()
			case "service.name", "service.version":
				_ = e.SetProperty(string(kv.Key), kv.Value.AsInterface())
			}
		}
	}
	for k, v := range b {
		if raw := asJSON(v); raw != nil && e.Properties[k] == nil {
			e.Properties[k] = raw
			e.Attributes = append(e.Attributes, k)
		}
	}
	// What is named as PostHog names it, is that; but a span that failed has failed.
	p, failed := e.Properties, e.IsError
	e.Properties = nil
	e.SetWireProperties(p)
	e.Attributes = slices.DeleteFunc(e.Attributes, func(name string) bool { return e.Properties[name] == nil }) // it has its own field
	slices.Sort(e.Attributes)
	e.IsError = e.IsError || failed
	return e
}

// attributes are a span's attributes, from which each reader takes those it knows.
type attributes map[string]attribute.Value

// take returns the first of the attributes that is there, and takes all of them.
func (b attributes) take(names ...string) (v attribute.Value, ok bool) {
	for _, n := range names {
		if x, here := b[n]; here {
			delete(b, n)
			if !ok {
				v, ok = x, true
			}
		}
	}
	return v, ok
}

func (b attributes) text(names ...string) string {
	v, ok := b.take(names...)
	switch {
	case !ok:
		return ""
	case v.Type() == attribute.STRING:
		return v.AsString()
	case v.Type() == attribute.STRINGSLICE:
		if s := v.AsStringSlice(); len(s) > 0 {
			return s[0]
		}
		return ""
	}
	return v.String()
}

func (b attributes) list(names ...string) []string {
	v, ok := b.take(names...)
	switch {
	case !ok:
		return nil
	case v.Type() == attribute.STRINGSLICE:
		return v.AsStringSlice()
	}
	return strings.FieldsFunc(v.String(), func(r rune) bool { return r == ',' })
}

func (b attributes) count(names ...string) event.Int {
	v, ok := b.take(names...)
	if !ok {
		return event.Int{}
	}
	switch v.Type() {
	case attribute.INT64:
		return event.Some(v.AsInt64())
	case attribute.FLOAT64:
		return event.Some(int64(v.AsFloat64()))
	case attribute.STRING:
		if n, err := strconv.ParseInt(v.AsString(), 10, 64); err == nil {
			return event.Some(n)
		}
	}
	return event.Int{}
}

// json returns an attribute that holds JSON, or text.
func (b attributes) json(names ...string) json.RawMessage {
	v, ok := b.take(names...)
	if !ok {
		return nil
	}
	if s := v.AsString(); v.Type() == attribute.STRING && json.Valid([]byte(s)) {
		return json.RawMessage(s)
	}
	return asJSON(v)
}

func asJSON(v attribute.Value) json.RawMessage {
	raw, err := json.Marshal(v.AsInterface())
	if err != nil { // NaN and infinities
		raw, _ = json.Marshal(v.String())
	}
	return raw
}

func (b attributes) kind(e *event.Event) {
	kind := strings.ToLower(b.text("gen_ai.operation.name", "llm.request.type", "openinference.span.kind"))
	e.Name = operations[kind]
	if e.Name == "" {
		e.Name = event.Span
		if kind != "" {
			_ = e.SetProperty("$ai_span_type", kind)
		}
		return
	}
	e.Operation = kind
}

func (b attributes) identity(e *event.Event, s sdk.ReadOnlySpan) {
	id := s.SpanContext()
	e.TraceID, e.SpanID = id.TraceID().String(), id.SpanID().String()
	if p := s.Parent(); p.SpanID().IsValid() {
		e.ParentID = p.SpanID().String()
	} else if e.Name == event.Span {
		e.Name = event.Trace // the root rule: contract section 5.2
	}
	trace, span := id.TraceID(), id.SpanID()
	e.UUID = eventID(trace[:], span[:], s.StartTime())
}

// eventID is a UUID of version 7 that is the same whenever a span is exported.
func eventID(trace, span []byte, start time.Time) string {
	sum := sha256.Sum256(slices.Concat(trace, span))
	var id uuid.UUID
	copy(id[:], sum[:])
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(start.UnixMilli()))
	copy(id[:6], ms[2:])
	id[6], id[8] = id[6]&0x0f|0x70, id[8]&0x3f|0x80
	return id.String()
}

func (b attributes) people(e *event.Event) {
	e.DistinctID = b.text("posthog.distinct_id", "user.id", "enduser.id")
	e.SessionID = b.text("gen_ai.conversation.id", "session.id")
}

func (b attributes) model(e *event.Event) {
	e.Provider = event.ProviderName(b.text("gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system"))
	e.ModelAsked = b.text("gen_ai.request.model")
	e.Model = b.text("gen_ai.response.model", "llm.model_name")
	e.CompletionID = b.text("gen_ai.response.id")
	e.ServiceTier = b.text("openai.response.service_tier", "gen_ai.openai.response.service_tier")
	e.SystemFingerprint = b.text("openai.response.system_fingerprint", "gen_ai.openai.response.system_fingerprint")
	if host := b.text("server.address"); host != "" {
		e.BaseURL = host
		if port := b.text("server.port"); port != "" && port != "443" && port != "80" {
			e.BaseURL += ":" + port
		}
	}
	for name, v := range b {
		p, ok := strings.CutPrefix(name, "gen_ai.request.")
		if !ok {
			continue
		}
		delete(b, name)
		if p == "stop_sequences" {
			p = "stop"
		}
		if p == "stream" {
			e.Stream = event.Some(v.AsBool())
		}
		if e.ModelParameters == nil {
			e.ModelParameters = make(map[string]json.RawMessage)
		}
		e.ModelParameters[p] = asJSON(v)
	}
}

func (b attributes) usage(e *event.Event) {
	u := &e.Usage
	u.Input = b.count("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.token_count.prompt")
	u.Output = b.count("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.token_count.completion")
	u.Total = b.count("gen_ai.usage.total_tokens", "llm.usage.total_tokens", "llm.token_count.total")
	u.CacheRead = b.count("gen_ai.usage.cache_read.input_tokens", "llm.token_count.prompt_details.cache_read")
	u.CacheWrite = b.count("gen_ai.usage.cache_creation.input_tokens", "llm.token_count.prompt_details.cache_write")
	u.Reasoning = b.count("gen_ai.usage.reasoning.output_tokens", "llm.token_count.completion_details.reasoning")
	if u.CacheRead.Known || u.CacheWrite.Known {
		// The conventions count cached tokens within the input.
		u.CacheExclusive = event.Some(u.Input.Known && u.CacheRead.Or(0)+u.CacheWrite.Or(0) > u.Input.Value)
	}
	if v, ok := b.take("gen_ai.response.time_to_first_chunk", "gen_ai.server.time_to_first_token"); ok && e.Name == event.Generation && v.Type() == attribute.FLOAT64 {
		e.TimeToFirstToken = event.Some(time.Duration(v.AsFloat64() * float64(time.Second)))
	}
}

func (b attributes) outcome(e *event.Event, s sdk.ReadOnlySpan) {
	e.StopReason = b.text("gen_ai.response.finish_reasons")
	e.ErrorType = b.text("error.type")
	e.HTTPStatus = int(b.count("http.response.status_code").Or(0))
	defer e.SettleOutcome()
	if s.Status().Code != codes.Error && e.ErrorType == "" {
		return
	}
	e.IsError, e.ErrorCode, e.ErrorMessage = true, b.text("error.code", "error_code"), s.Status().Description
	if strings.Contains(strings.ToLower(e.ErrorType), "timeout") {
		e.Status = event.StatusTimeout
	}
	for _, ev := range s.Events() {
		if ev.Name != "exception" {
			continue
		}
		for _, kv := range ev.Attributes {
			switch {
			case kv.Key == "exception.type" && e.ErrorType == "":
				e.ErrorType = kv.Value.AsString()
			case kv.Key == "exception.message" && e.ErrorMessage == "":
				e.ErrorMessage = kv.Value.AsString()
			}
		}
	}
}

func (b attributes) content(e *event.Event) {
	input := messages(b.json("gen_ai.input.messages", "input.value"), "user")
	output := messages(b.json("gen_ai.output.messages", "output.value"), "assistant")
	e.Content.Tools = b.json("gen_ai.tool.definitions")
	if system := instructions(b.json("gen_ai.system_instructions")); system != "" {
		first := message{Role: "system", Content: system}
		if len(input) == 0 || input[0].Role != "system" {
			input = append([]message{first}, input...)
		}
	}
	if e.Name == event.Generation || e.Name == event.Embedding {
		e.Content.Input, e.Content.Output = marshal(input), marshal(output)
		return
	}
	e.Content.InputState, e.Content.OutputState = marshal(input), marshal(output)
	if v := b.json("gen_ai.tool.call.arguments"); v != nil {
		e.Content.InputState = v
	}
	if v := b.json("gen_ai.tool.call.result"); v != nil {
		e.Content.OutputState = v
	}
	if name := b.text("gen_ai.tool.name", "gen_ai.agent.name"); name != "" {
		e.SpanName = name
	}
}

type message struct {
	Role    string `json:"role"`
	Content any    `json:"content"`
}

func marshal(list []message) json.RawMessage {
	if len(list) == 0 {
		return nil
	}
	b, err := json.Marshal(list)
	if err != nil {
		return nil
	}
	return b
}

// part is one of a message, by the GenAI conventions.
type part struct {
	Type      string          `json:"type"`
	Content   json.RawMessage `json:"content"`
	ID        string          `json:"id"`
	Name      string          `json:"name"`
	Arguments json.RawMessage `json:"arguments"`
	Response  json.RawMessage `json:"response"`
	Result    json.RawMessage `json:"result"`
}

// messages brings OpenTelemetry's messages with parts into PostHog's form
// (contract section 3.4).
func messages(raw json.RawMessage, role string) []message {
	if raw == nil {
		return nil
	}
	var list []struct {
		Role    string          `json:"role"`
		Parts   []part          `json:"parts"`
		Content json.RawMessage `json:"content"`
	}
	if json.Unmarshal(raw, &list) != nil {
		return []message{{role, raw}} // a text, or what only its maker knows
	}
	out := make([]message, 0, len(list))
	for _, m := range list {
		if m.Role == "" {
			m.Role = role
		}
		switch {
		case m.Parts != nil:
			out = append(out, message{m.Role, items(m.Parts)})
		case m.Content != nil:
			out = append(out, message{m.Role, m.Content})
		}
	}
	if len(out) == 0 && len(list) > 0 {
		return []message{{role, raw}}
	}
	return out
}

func items(parts []part) any {
	if len(parts) == 1 && parts[0].Type == "text" {
		return parts[0].Content
	}
	list := make([]any, 0, len(parts))
	for _, p := range parts {
		switch p.Type {
		case "text", "reasoning":
			list = append(list, map[string]any{"type": "text", "text": p.Content})
		case "tool_call":
			list = append(list, map[string]any{"type": "function", "id": p.ID, "function": map[string]any{"name": p.Name, "arguments": p.Arguments}})
		case "tool_call_response":
			result := p.Response
			if result == nil {
				result = p.Result
			}
			list = append(list, map[string]any{"type": "tool_result", "tool_use_id": p.ID, "content": result})
		default:
			list = append(list, map[string]any{"type": p.Type})
		}
	}
	return list
}

// instructions are a text, or a list of parts.
func instructions(raw json.RawMessage) string {
	var s string
	if raw == nil || json.Unmarshal(raw, &s) == nil {
		return s
	}
	var parts []struct {
		Content string `json:"content"`
	}
	if json.Unmarshal(raw, &parts) != nil {
		return ""
	}
	var texts []string
	for _, p := range parts {
		texts = append(texts, p.Content)
	}
	return strings.Join(texts, "\n\n")
}

func (b attributes) labels(e *event.Event) {
	e.PromptName = b.text("hedgerow.prompt.name", "gen_ai.prompt.name")
	e.PromptVersion = b.text("hedgerow.prompt.version", "gen_ai.prompt.version")
	e.Surface = b.text("hedgerow.surface")
	for _, t := range b.list("hedgerow.tags", "tag.tags", "langfuse.trace.tags") {
		if t = strings.TrimSpace(t); t != "" && t[0] != '$' && !slices.Contains(e.Tags, t) {
			e.Tags = append(e.Tags, t)
		}
	}
	if key := b.text("feature_flag.key"); key != "" {
		e.Flags = map[string]string{key: b.text("feature_flag.result.variant", "feature_flag.variant")}
	}
	if v, ok := b.take("posthog.groups", "$groups"); ok {
		var groups map[string]string
		if json.Unmarshal([]byte(v.AsString()), &groups) == nil {
			e.Groups = groups
		} else {
			_ = e.SetProperty("$groups", fmt.Sprint(v.AsInterface()))
		}
	}
}
