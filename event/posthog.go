package event

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/shopspring/decimal"
	"github.com/tidwall/gjson"
)

// Wire says what [Event.MarshalPostHog] adds to an event as it leaves. The zero
// Wire adds nothing.
type Wire struct {
	Lib        string // $lib and $ai_lib: who sends
	LibVersion string // $lib_version and $ai_lib_version
	TraceURL   string // where the full trace can be opened: trace_url, unless the event has one

	// IgnoreSentAt sets $ignore_sent_at, so that PostHog takes the timestamp as
	// it is. A relay must: the timestamp was corrected at intake, and the time
	// that an event waits in a queue is not clock skew.
	IgnoreSentAt bool

	// Home adds the property $hedgerow, with what PostHog's vocabulary has no
	// words for: the receiver is a hedgerow, whose [UnmarshalPostHog] reads it.
	Home bool
}

// home is the property $hedgerow.
type home struct {
	ModelAsked string   `json:"model_asked,omitzero"` // where no answer named a model, so that $ai_model is this one
	Method     string   `json:"method,omitzero"`
	Tags       []string `json:"tags,omitzero"`       // which of the properties that are true are tags
	Attributes []string `json:"attributes,omitzero"` // Event.Attributes
}

const maxTags = 50

// MarshalPostHog writes the event as one object of PostHog's capture API:
// event, uuid, distinct_id, timestamp and properties, keys sorted, so that equal
// events give equal bytes. Durations become seconds, costs exact decimal
// numbers. An event without a distinct id takes its trace id, or else its uuid,
// and is marked personless, as PostHog's own wrappers do. An event that came
// from a PostHog SDK keeps that SDK as its $lib.
func (e *Event) MarshalPostHog(w Wire) ([]byte, error) {
	props := e.wireList()
	distinct := e.DistinctID
	if distinct == "" {
		distinct = e.TraceID
		if distinct == "" {
			distinct = e.UUID
		}
		props.add("$process_person_profile", json.RawMessage("false"))
	}
	if w.Lib != "" && !props.has("$lib") {
		props.add("$lib", quote(w.Lib))
		if e.IsLLM() && !props.has("$ai_lib") {
			props.add("$ai_lib", quote(w.Lib))
		}
		if w.LibVersion != "" {
			props.add("$lib_version", quote(w.LibVersion))
			if e.IsLLM() && !props.has("$ai_lib_version") {
				props.add("$ai_lib_version", quote(w.LibVersion))
			}
		}
	}
	if w.TraceURL != "" && !props.has("trace_url") { // the caller's own wins
		props.add("trace_url", quote(w.TraceURL))
	}
	if w.IgnoreSentAt {
		props.add("$ignore_sent_at", json.RawMessage("true"))
	}
	if w.Home && (e.Method != "" || len(e.Tags) > 0 || e.ModelAsked != "" || len(e.Attributes) > 0) {
		h := home{Method: e.Method, Tags: e.Tags, Attributes: e.Attributes}
		if e.Model == "" {
			h.ModelAsked = e.ModelAsked
		}
		props.add("$hedgerow", mustJSON(h))
	}
	size := 160 + len(distinct) + len(e.Name)
	for _, p := range props {
		size += len(p.name) + len(p.value) + 4
	}
	b := append(make([]byte, 0, size), `{"distinct_id":`...)
	b = appendQuoted(b, distinct)
	b = appendQuoted(append(b, `,"event":`...), e.Name)
	b, err := props.append(append(b, `,"properties":`...))
	if err != nil {
		return nil, err
	}
	b = append(append(b, `,"timestamp":"`...), FormatTime(e.Timestamp)...)
	b = appendQuoted(append(b, `","uuid":`...), e.UUID)
	return append(b, '}'), nil
}

// wireProps are properties under their names on the wire. Of two with the same
// name the later one counts. A list is a third of the work of a map.
type wireProps []wireProp

type wireProp struct {
	name  string
	value json.RawMessage
	check bool // the value is a caller's: it may not be JSON
}

func (l *wireProps) add(name string, value json.RawMessage) {
	*l = append(*l, wireProp{name: name, value: value})
}

func (l wireProps) has(name string) bool {
	return slices.ContainsFunc(l, func(p wireProp) bool { return p.name == name })
}

// append writes an object with its names sorted. It fails where a value is not
// JSON.
func (l wireProps) append(b []byte) ([]byte, error) {
	slices.SortStableFunc(l, func(a, b wireProp) int { return strings.Compare(a.name, b.name) })
	b = append(b, '{')
	first := true
	for i, p := range l {
		if i+1 < len(l) && l[i+1].name == p.name {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(appendQuoted(b, p.name), ':')
		if p.value == nil {
			b = append(b, "null"...)
			continue
		}
		if p.check && !ValidJSON(p.value) {
			return nil, fmt.Errorf("the property %.100s is not JSON", p.name)
		}
		b = append(b, p.value...)
	}
	return append(b, '}'), nil
}

// appendQuoted writes a JSON string. Plain ASCII, the usual case, is copied.
func appendQuoted(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			return append(b, mustJSON(s)...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

// FormatTime writes a time as PostHog wants it: UTC, RFC 3339, microseconds.
func FormatTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z") }

// WireProperties returns the event's properties under their names on the wire.
// The map is the caller's own.
func (e *Event) WireProperties() map[string]json.RawMessage {
	list := e.wireList()
	p := make(map[string]json.RawMessage, len(list))
	for _, w := range list {
		p[w.name] = w.value
	}
	return p
}

func (e *Event) wireList() wireProps {
	p := make(wireProps, 0, 16+len(e.Properties)+len(e.Tags))
	if e.IsLLM() {
		p = slices.Grow(p, 48)
	}
	for _, tag := range e.Tags {
		p.add(tag, json.RawMessage("true"))
	}
	for name, v := range e.Properties {
		p = append(p, wireProp{name, v, true})
	}
	for key, variant := range e.Flags {
		p.add("$feature/"+key, flagValue(variant))
	}
	if len(e.Groups) > 0 {
		p.add("$groups", mustJSON(e.Groups))
	}
	for _, f := range stringFields {
		if f.name == errorProperty && e.Properties[errorProperty] != nil {
			continue // an object, of which the field has the message
		}
		if s := *f.at(e); s != "" {
			p.add(f.name, quote(s))
		}
	}
	for _, f := range intFields {
		if v := f.at(e); v.Known {
			p.add(f.name, json.RawMessage(strconv.FormatInt(v.Value, 10)))
		}
	}
	if n := e.wireOutput(-1); n != e.Usage.Output {
		p.add("$ai_output_tokens", json.RawMessage(strconv.FormatInt(n.Value, 10)))
	}
	for _, f := range costFields {
		if v := f.at(e); v.Known {
			p.add(f.name, json.RawMessage(v.Value.String()))
		}
	}
	for _, f := range boolFields {
		if v := f.at(e); v.Known {
			p.add(f.name, json.RawMessage(strconv.FormatBool(v.Value)))
		}
	}
	for _, f := range durationFields {
		if v := f.at(e); v.Known {
			p.add(f.name, seconds(v.Value))
		}
	}
	for _, f := range contentFields {
		if v := *f.at(e); v != nil {
			p = append(p, wireProp{f.name, v, true})
		}
	}
	if m := e.ModelName(); m != "" {
		p.add("$ai_model", quote(m))
	}
	if e.ModelAsked != "" && e.Model != "" {
		p.add("model_requested", quote(e.ModelAsked))
	}
	if e.HTTPStatus != 0 {
		p.add("$ai_http_status", json.RawMessage(strconv.Itoa(e.HTTPStatus)))
	}
	if e.IsLLM() && (e.IsError || e.IsCosted()) {
		p.add("$ai_is_error", json.RawMessage(strconv.FormatBool(e.IsError)))
	}
	if e.RequestBytes > 0 {
		p.add("request_bytes", json.RawMessage(strconv.FormatInt(e.RequestBytes, 10)))
	}
	if e.ResponseBytes > 0 {
		p.add("response_bytes", json.RawMessage(strconv.FormatInt(e.ResponseBytes, 10)))
	}
	if e.PromptVersion != "" {
		p.add("$ai_prompt_version", promptVersion(e.PromptVersion))
	}
	if len(e.ModelParameters) > 0 {
		p.add("$ai_model_parameters", mustJSON(e.ModelParameters))
	}
	if meta := e.ProviderMetadata; len(meta) > 0 || e.SystemFingerprint != "" {
		if e.SystemFingerprint != "" {
			meta = cloneMap(meta)
			if meta == nil {
				meta = make(map[string]json.RawMessage, 1)
			}
			meta["system_fingerprint"] = quote(e.SystemFingerprint)
		}
		p.add("$ai_provider_metadata", mustJSON(meta))
	}
	if e.Cost.Total.Known {
		// The total is ours: PostHog keeps it and does not price the call again.
		p.add("$ai_cost_passthrough", json.RawMessage("true"))
	}
	if e.Private && e.IsCosted() {
		p.add("$ai_input", json.RawMessage("null"))
		p.add("$ai_output_choices", json.RawMessage("null"))
	}
	return p
}

// UnmarshalPostHog reads one event object as PostHog's SDKs send it. Known
// properties fill the event's own fields; every other one is kept under its
// name. A value of the wrong type stays a property rather than failing the
// event. The caller sets ProjectID and Source, corrects the timestamp and
// validates.
func UnmarshalPostHog(b []byte) (*Event, error) {
	var in struct {
		Event      string                     `json:"event"`
		UUID       string                     `json:"uuid"`
		DistinctID json.RawMessage            `json:"distinct_id"`
		Timestamp  string                     `json:"timestamp"`
		Properties map[string]json.RawMessage `json:"properties"`
		Set        json.RawMessage            `json:"$set"`
		SetOnce    json.RawMessage            `json:"$set_once"`
	}
	if err := json.Unmarshal(b, &in); err != nil {
		return nil, NewError(CodeInvalid, "the event is not a JSON object of PostHog's form", `send {"event":…,"distinct_id":…,"properties":{…}}`, err)
	}
	e := &Event{Name: in.Event, UUID: strings.ToLower(in.UUID)}
	p := in.Properties
	if p == nil {
		p = make(map[string]json.RawMessage)
	}
	if in.DistinctID == nil {
		in.DistinctID = p["distinct_id"]
		delete(p, "distinct_id")
	}
	e.DistinctID = stringify(in.DistinctID)
	if in.Timestamp != "" {
		t, err := ParseTime(in.Timestamp)
		if err != nil {
			return nil, Invalid("the event's timestamp is not an ISO 8601 time", "send it as 2026-01-31T12:00:00.000Z")
		}
		e.Timestamp = t
	}
	for name, v := range map[string]json.RawMessage{"$set": in.Set, "$set_once": in.SetOnce} {
		if v != nil && p[name] == nil {
			p[name] = v
		}
	}
	e.SetWireProperties(p)
	return e, nil
}

// SetWireProperties is the reverse of [Event.WireProperties]: it moves what the
// model has fields for out of p into e, and keeps the rest, p itself, as custom
// properties. Each value must be valid JSON. A value of the wrong type stays a
// property; a number out of range becomes one that [Event.Bound] makes unknown.
// Of a reported call only what it is filtered by is moved; its figures are read
// by package enrich, and stay. e.Name must be set.
func (e *Event) SetWireProperties(p map[string]json.RawMessage) {
	// Product events mostly have none.
	known := false
	for name := range p {
		if known = wireNames[name] != "" || strings.HasPrefix(name, "$feature/"); known {
			break
		}
	}
	if !known {
		if len(p) > 0 {
			e.Properties = p
		}
		return
	}
	only := e.IsReportedCall() || e.Name == RequestStarted
	_, counted := p["$ai_output_tokens"]
	take := func(name string, set func(json.RawMessage) bool) {
		v, ok := p[name]
		if ok && (!only || reportedLabels[name]) && set(v) {
			delete(p, name)
		}
	}
	for name, v := range p {
		if set := wireSetters[name]; set != nil && (!only || reportedLabels[name]) && set(e, v) {
			delete(p, name)
		}
	}
	// Only one part is null where a call failed or was cut: nothing was withheld.
	e.Private = e.Private && e.Content.Input == nil && e.Content.Output == nil
	var n Int
	take("$ai_http_status", func(v json.RawMessage) bool { return parseInt(v, &n) })
	e.HTTPStatus = int(n.Or(0))
	var isErr Opt[bool]
	take("$ai_is_error", func(v json.RawMessage) bool { return parseBool(v, &isErr) })
	e.IsError = isErr.Or(false)
	var size Int
	take("request_bytes", func(v json.RawMessage) bool { return parseInt(v, &size) })
	e.RequestBytes, size = size.Or(0), Int{}
	take("response_bytes", func(v json.RawMessage) bool { return parseInt(v, &size) })
	e.ResponseBytes = size.Or(0)
	take("$ai_prompt_version", func(v json.RawMessage) bool {
		e.PromptVersion = stringify(v)
		return e.PromptVersion != ""
	})
	take("$ai_model_parameters", func(v json.RawMessage) bool {
		e.ModelParameters = rawObject(v)
		return len(e.ModelParameters) > 0
	})
	take("$ai_provider_metadata", func(v json.RawMessage) bool {
		if e.ProviderMetadata = rawObject(v); len(e.ProviderMetadata) == 0 {
			return false
		}
		if fp, ok := e.ProviderMetadata["system_fingerprint"]; ok && json.Unmarshal(fp, &e.SystemFingerprint) == nil {
			delete(e.ProviderMetadata, "system_fingerprint")
		}
		return true
	})
	take("$groups", func(v json.RawMessage) bool {
		// Into a map of its own: a failure halfway must not leave half of them.
		var groups map[string]string
		if json.Unmarshal(v, &groups) != nil || len(groups) == 0 {
			return false
		}
		e.Groups = groups
		return true
	})
	for name, v := range p {
		key, ok := strings.CutPrefix(name, "$feature/")
		if !ok {
			continue
		}
		s := stringify(v)
		if s == "" || v[0] != '"' && s != "true" && s != "false" {
			continue
		}
		if e.Flags == nil {
			e.Flags = make(map[string]string)
		}
		e.Flags[key] = s
		delete(p, name)
	}
	if e.Cost.Total.Known {
		delete(p, "$ai_cost_passthrough") // said again on the way out
	}
	take("$hedgerow", func(v json.RawMessage) bool {
		var h home
		if json.Unmarshal(v, &h) != nil {
			return false
		}
		e.Method, e.Attributes = h.Method, h.Attributes
		if h.ModelAsked != "" && h.ModelAsked == e.Model {
			e.Model, e.ModelAsked = "", h.ModelAsked
		}
		for _, tag := range h.Tags {
			if string(p[tag]) == "true" && len(e.Tags) < maxTags {
				e.Tags = append(e.Tags, tag)
				delete(p, tag)
			}
		}
		return true
	})
	if counted {
		e.Usage.Output = e.wireOutput(+1)
	}
	if len(p) > 0 {
		e.Properties = p
	}
}

// wireOutput turns our count of the output into that of PostHog's wire (-1), or
// back (+1). They differ for the Gemini models that think: PostHog's SDKs leave
// the thoughts out of $ai_output_tokens there, and PostHog adds
// $ai_reasoning_tokens to what it prices, for just these models (contract
// section 5). In an Event the output holds the thoughts, whatever the provider.
func (e *Event) wireOutput(sign int64) Int {
	out, thoughts := e.Usage.Output, e.Usage.Reasoning.Or(0)
	const most = 1 << 53
	if !out.Known || thoughts <= 0 || thoughts > most || out.Value < 0 || out.Value > most || !GeminiThinks(e.ModelName()) {
		return out
	}
	return Some(max(out.Value+sign*thoughts, 0))
}

// GeminiThinks reports whether a model is of the Gemini families that think:
// gemini-2.5-* and gemini-3*-*, below any path.
func GeminiThinks(model string) bool {
	model = model[strings.LastIndexByte(model, '/')+1:]
	if strings.HasPrefix(model, "gemini-2.5-") {
		return true
	}
	rest, ok := strings.CutPrefix(model, "gemini-3")
	return ok && strings.ContainsRune(rest, '-')
}

// rawObject returns the members of a JSON object, or nil for anything else.
func rawObject(v json.RawMessage) map[string]json.RawMessage {
	var m map[string]json.RawMessage
	if bytes.IndexByte(v, '\\') >= 0 || !utf8.Valid(v) { // keys to be decoded
		if json.Unmarshal(v, &m) != nil {
			return nil
		}
		return m
	}
	o := gjson.Parse(string(v))
	if !o.IsObject() {
		return nil
	}
	m = make(map[string]json.RawMessage)
	o.ForEach(func(key, value gjson.Result) bool {
		m[key.Str] = json.RawMessage(value.Raw)
		return true
	})
	return m
}

// wireSetters take a property into the event's own field, each independently of
// the others, and report whether they could.
var wireSetters = func() map[string]func(*Event, json.RawMessage) bool {
	set := map[string]func(*Event, json.RawMessage) bool{
		"$ai_model":       func(e *Event, v json.RawMessage) bool { return unmarshalText(v, &e.Model) },
		"model_requested": func(e *Event, v json.RawMessage) bool { return unmarshalText(v, &e.ModelAsked) },
	}
	for _, f := range stringFields {
		set[f.name] = func(e *Event, v json.RawMessage) bool {
			switch s := stringify(v); {
			case s != "" && (v[0] == '"' || f.loose):
				*f.at(e) = s
				return true
			}
			return false
		}
	}
	for _, f := range intFields {
		set[f.name] = func(e *Event, v json.RawMessage) bool { return parseInt(v, f.at(e)) }
	}
	for _, f := range costFields {
		set[f.name] = func(e *Event, v json.RawMessage) bool {
			d, ok := Dollars(strings.Trim(string(v), `"`))
			if ok {
				*f.at(e) = Some(d)
			}
			return ok
		}
	}
	for _, f := range boolFields {
		set[f.name] = func(e *Event, v json.RawMessage) bool { return parseBool(v, f.at(e)) }
	}
	for _, f := range durationFields {
		set[f.name] = func(e *Event, v json.RawMessage) bool {
			s, ok := numberIn(v)
			if ok {
				*f.at(e) = Some(Seconds(s))
			}
			return ok
		}
	}
	for _, f := range contentFields {
		set[f.name] = func(e *Event, v json.RawMessage) bool {
			if string(v) == "null" {
				e.Private = e.Private || e.IsCosted()
				return e.IsCosted()
			}
			*f.at(e) = v
			return true
		}
	}
	return set
}()

// wireNames are the names that SetWireProperties knows.
var wireNames = func() map[string]string {
	names := map[string]string{}
	for _, n := range []string{"$ai_http_status", "$ai_is_error", "request_bytes", "response_bytes", "$ai_prompt_version",
		"$ai_model_parameters", "$ai_provider_metadata", "$groups", "$hedgerow", "$ai_cost_passthrough"} {
		names[n] = n
	}
	for n := range wireSetters {
		names[n] = n
	}
	return names
}()

// WireName is string(name), without memory of its own for the names that
// [Event.SetWireProperties] knows.
func WireName(name []byte) string {
	if s, ok := wireNames[string(name)]; ok {
		return s
	}
	return string(name)
}

type field[T any] struct {
	name  string
	at    func(*Event) *T
	loose bool // numbers and booleans are taken too, as strings
}

const errorProperty = "$ai_error"

var stringFields = []field[string]{
	{name: "$ai_trace_id", at: func(e *Event) *string { return &e.TraceID }, loose: true},
	{name: "$ai_span_id", at: func(e *Event) *string { return &e.SpanID }, loose: true},
	{name: "$ai_parent_id", at: func(e *Event) *string { return &e.ParentID }, loose: true},
	{name: "$ai_session_id", at: func(e *Event) *string { return &e.SessionID }, loose: true},
	{name: "$ai_trace_name", at: func(e *Event) *string { return &e.TraceName }},
	{name: "$ai_span_name", at: func(e *Event) *string { return &e.SpanName }},
	{name: "$ai_user", at: func(e *Event) *string { return &e.User }, loose: true},
	{name: "$ai_provider", at: func(e *Event) *string { return &e.Provider }},
	{name: "$ai_base_url", at: func(e *Event) *string { return &e.BaseURL }},
	{name: "$ai_request_url", at: func(e *Event) *string { return &e.RequestURL }},
	{name: errorProperty, at: func(e *Event) *string { return &e.ErrorMessage }},
	{name: "$ai_error_type", at: func(e *Event) *string { return &e.ErrorType }},
	{name: "error_code", at: func(e *Event) *string { return &e.ErrorCode }},
	{name: "$ai_stop_reason", at: func(e *Event) *string { return &e.StopReason }},
	{name: "$ai_completion_id", at: func(e *Event) *string { return &e.CompletionID }},
	{name: "$ai_service_tier", at: func(e *Event) *string { return &e.ServiceTier }},
	{name: "$ai_prompt_name", at: func(e *Event) *string { return &e.PromptName }},
	{name: "$ai_prompt_version_id", at: func(e *Event) *string { return &e.PromptVersionID }},
	{name: "$ai_model_cost_used", at: func(e *Event) *string { return &e.Cost.ModelUsed }},
	{name: "$ai_cost_model_source", at: func(e *Event) *string { return &e.Cost.Source }},
	{name: "$ai_cost_model_provider", at: func(e *Event) *string { return &e.Cost.Provider }},
	{name: "prompt_hash", at: func(e *Event) *string { return &e.PromptHash }},
	{name: "surface", at: func(e *Event) *string { return &e.Surface }},
	{name: "task_type", at: func(e *Event) *string { return &e.TaskType }},
	{name: "environment", at: func(e *Event) *string { return &e.Environment }},
	{name: "operation", at: func(e *Event) *string { return &e.Operation }},
	{name: "parse_error", at: func(e *Event) *string { return &e.ParseError }},
	{name: "status", at: func(e *Event) *string { return (*string)(&e.Status) }},
	{name: "input_length_bucket", at: func(e *Event) *string { return &e.InputLengthBucket }},
	{name: "output_category", at: func(e *Event) *string { return &e.OutputCategory }},
}

var intFields = []field[Int]{
	{name: "$ai_input_tokens", at: func(e *Event) *Int { return &e.Usage.Input }},
	{name: "$ai_output_tokens", at: func(e *Event) *Int { return &e.Usage.Output }},
	{name: "$ai_total_tokens", at: func(e *Event) *Int { return &e.Usage.Total }},
	{name: "$ai_cache_read_input_tokens", at: func(e *Event) *Int { return &e.Usage.CacheRead }},
	{name: "$ai_cache_creation_input_tokens", at: func(e *Event) *Int { return &e.Usage.CacheWrite }},
	{name: "$ai_cache_creation_5m_input_tokens", at: func(e *Event) *Int { return &e.Usage.CacheWrite5m }},
	{name: "$ai_cache_creation_1h_input_tokens", at: func(e *Event) *Int { return &e.Usage.CacheWrite1h }},
	{name: "$ai_reasoning_tokens", at: func(e *Event) *Int { return &e.Usage.Reasoning }},
	{name: "$ai_audio_input_tokens", at: func(e *Event) *Int { return &e.Usage.InputAudio }},
	{name: "$ai_audio_output_tokens", at: func(e *Event) *Int { return &e.Usage.OutputAudio }},
	{name: "$ai_cache_read_audio_tokens", at: func(e *Event) *Int { return &e.Usage.CacheReadAudio }},
	{name: "$ai_image_input_tokens", at: func(e *Event) *Int { return &e.Usage.InputImage }},
	{name: "$ai_image_output_tokens", at: func(e *Event) *Int { return &e.Usage.OutputImage }},
	{name: "$ai_text_input_tokens", at: func(e *Event) *Int { return &e.Usage.InputText }},
	{name: "$ai_text_output_tokens", at: func(e *Event) *Int { return &e.Usage.OutputText }},
	{name: "$ai_web_search_count", at: func(e *Event) *Int { return &e.Usage.WebSearches }},
	{name: "image_count", at: func(e *Event) *Int { return &e.Usage.Images }},
	{name: "input_length", at: func(e *Event) *Int { return &e.InputChars }},
	{name: "output_length", at: func(e *Event) *Int { return &e.OutputChars }},
}

var costFields = []field[Opt[decimal.Decimal]]{
	{name: "$ai_input_cost_usd", at: func(e *Event) *Opt[decimal.Decimal] { return &e.Cost.Input }},
	{name: "$ai_output_cost_usd", at: func(e *Event) *Opt[decimal.Decimal] { return &e.Cost.Output }},
	{name: "$ai_request_cost_usd", at: func(e *Event) *Opt[decimal.Decimal] { return &e.Cost.Request }},
	{name: "$ai_web_search_cost_usd", at: func(e *Event) *Opt[decimal.Decimal] { return &e.Cost.WebSearch }},
	{name: "$ai_total_cost_usd", at: func(e *Event) *Opt[decimal.Decimal] { return &e.Cost.Total }},
}

var boolFields = []field[Opt[bool]]{
	{name: "$ai_cache_reporting_exclusive", at: func(e *Event) *Opt[bool] { return &e.Usage.CacheExclusive }},
	{name: "$ai_stream", at: func(e *Event) *Opt[bool] { return &e.Stream }},
}

var durationFields = []field[Opt[time.Duration]]{
	{name: "$ai_latency", at: func(e *Event) *Opt[time.Duration] { return &e.Latency }},
	{name: "$ai_time_to_first_token", at: func(e *Event) *Opt[time.Duration] { return &e.TimeToFirstToken }},
}

var contentFields = []field[json.RawMessage]{
	{name: "$ai_input", at: func(e *Event) *json.RawMessage { return &e.Content.Input }},
	{name: "$ai_output_choices", at: func(e *Event) *json.RawMessage { return &e.Content.Output }},
	{name: "$ai_tools", at: func(e *Event) *json.RawMessage { return &e.Content.Tools }},
	{name: "$ai_input_state", at: func(e *Event) *json.RawMessage { return &e.Content.InputState }},
	{name: "$ai_output_state", at: func(e *Event) *json.RawMessage { return &e.Content.OutputState }},
}

// ParseTime reads the ISO 8601 forms that PostHog's SDKs send, with or without
// a zone; without one the time is UTC.
func ParseTime(s string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999", "2006-01-02T15:04:05.999999999Z0700", "2006-01-02"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("parse time of %d characters", len(s))
}

func seconds(d time.Duration) json.RawMessage {
	us := d.Round(time.Microsecond).Microseconds()
	return json.RawMessage(strconv.FormatFloat(float64(us)/1e6, 'f', -1, 64))
}

// flagValue is a flag's value as SDKs send it: a variant's name, or a boolean
// where the flag has no variants.
func flagValue(variant string) json.RawMessage {
	if variant == "true" || variant == "false" {
		return json.RawMessage(variant)
	}
	return quote(variant)
}

func promptVersion(s string) json.RawMessage {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && n >= 1 && strconv.FormatInt(n, 10) == s {
		return json.RawMessage(s)
	}
	return quote(s)
}

func parseInt(v json.RawMessage, into *Int) bool {
	// Whole numbers up to 2^53 are exact so, and all others are out of range.
	f, ok := numberIn(v)
	if !ok {
		return false
	}
	n, ok := Count(f)
	if ok {
		*into = Some(n)
	}
	return ok
}

func parseBool(v json.RawMessage, into *Opt[bool]) bool {
	switch strings.Trim(string(v), `"`) {
	case "true":
		*into = Some(true)
	case "false":
		*into = Some(false)
	default:
		return false
	}
	return true
}

// stringify returns a JSON string's text, the literal of a number or boolean,
// and "" for anything else.
func stringify(v json.RawMessage) string {
	v = bytes.TrimSpace(v)
	if len(v) == 0 {
		return ""
	}
	switch v[0] {
	case '"':
		if s, ok := plainText(v); ok {
			return s
		}
		var s string
		if json.Unmarshal(v, &s) != nil {
			return ""
		}
		return s
	case '{', '[', 'n':
		return ""
	}
	return string(v)
}

func unmarshalText(v json.RawMessage, into *string) bool {
	if s, ok := plainText(v); ok {
		*into = s
		return true
	}
	return json.Unmarshal(v, into) == nil
}

// plainText returns the text of a JSON string that is printable ASCII without
// escapes: nearly all are.
func plainText(v json.RawMessage) (string, bool) {
	if len(v) < 2 || v[len(v)-1] != '"' {
		return "", false
	}
	in := v[1 : len(v)-1]
	for _, c := range in {
		if c < ' ' || c > '~' || c == '"' || c == '\\' {
			return "", false
		}
	}
	return string(in), true
}

func quote(s string) json.RawMessage { return appendQuoted(make([]byte, 0, len(s)+2), s) }

// mustJSON marshals values that cannot fail: strings and maps of raw JSON that
// has been parsed before.
func mustJSON(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		return json.RawMessage("null")
	}
	return b
}
