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

	"github.com/tidwall/gjson"

	"github.com/hedgerow/hedgerow/internal/rawjson"
)

// Wire selects additions of [Event.MarshalPostHog]. The zero Wire adds nothing.
type Wire struct {
	Lib        string // $lib and $ai_lib: the sender
	LibVersion string // $lib_version and $ai_lib_version
	TraceURL   string // URL of the full trace: trace_url, unless the event has one

	// IgnoreSentAt sets $ignore_sent_at, so that PostHog does not adjust the
	// timestamp. A relay needs it: the timestamp was corrected on arrival, and
	// time in a queue is not clock skew.
	IgnoreSentAt bool

	// Home adds the property $hedgerow with the fields that PostHog has no
	// property for. It is for receivers that are hedgerow servers; their
	// [UnmarshalPostHog] reads it.
	Home bool
}

// home is the property $hedgerow.
type home struct {
	ModelAsked string   `json:"model_asked,omitzero"` // set if there is no response model, so that $ai_model is the requested one
	Method     string   `json:"method,omitzero"`
	Tags       []string `json:"tags,omitzero"`       // the properties with the value true that are tags
	Attributes []string `json:"attributes,omitzero"` // Event.Attributes
}

const maxTags = 50

// MarshalPostHog encodes the event as one object of PostHog's capture API:
// event, uuid, distinct_id, timestamp and properties, with sorted keys, so that
// equal events give equal bytes. Durations become seconds, costs exact decimal
// numbers. An event without a distinct id gets its trace id, or else its uuid,
// and is marked personless, as in PostHog's own wrappers. An event from a
// PostHog SDK keeps that SDK as its $lib.
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
		props.add("$lib", rawjson.Quote(w.Lib))
		if e.IsLLM() && !props.has("$ai_lib") {
			props.add("$ai_lib", rawjson.Quote(w.Lib))
		}
		if w.LibVersion != "" {
			props.add("$lib_version", rawjson.Quote(w.LibVersion))
			if e.IsLLM() && !props.has("$ai_lib_version") {
				props.add("$ai_lib_version", rawjson.Quote(w.LibVersion))
			}
		}
	}
	if w.TraceURL != "" && !props.has("trace_url") { // the caller's own takes precedence
		props.add("trace_url", rawjson.Quote(w.TraceURL))
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
	b = rawjson.AppendQuote(b, distinct)
	b = rawjson.AppendQuote(append(b, `,"event":`...), e.Name)
	b, err := props.append(append(b, `,"properties":`...))
	if err != nil {
		return nil, err
	}
	b = append(append(b, `,"timestamp":"`...), FormatTime(e.Timestamp)...)
	b = rawjson.AppendQuote(append(b, `","uuid":`...), e.UUID)
	return append(b, '}'), nil
}

// wireProps are properties under their PostHog names. Of two with the same name
// the later one is used. A list takes a third of the time of a map.
type wireProps []wireProp

type wireProp struct {
	name  string
	value json.RawMessage
	check bool // the value is a caller's and not validated yet: it may not be JSON
}

func (l *wireProps) add(name string, value json.RawMessage) {
	*l = append(*l, wireProp{name: name, value: value})
}

func (l wireProps) has(name string) bool {
	return slices.ContainsFunc(l, func(p wireProp) bool { return p.name == name })
}

// append writes an object with sorted names. It returns an error if a value is
// not JSON.
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
		b = append(rawjson.AppendQuote(b, p.name), ':')
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

// FormatTime formats a time for PostHog: UTC, RFC 3339, microseconds.
func FormatTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z") }

// WireProperties returns the event's properties under their PostHog names. The
// caller owns the map.
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
		p = append(p, wireProp{name, v, !e.rawValid})
	}
	for key, variant := range e.Flags {
		p.add("$feature/"+key, flagValue(variant))
	}
	if len(e.Groups) > 0 {
		p.add("$groups", mustJSON(e.Groups))
	}
	for i := range wireFields {
		p = wireFields[i].add(p, e)
	}
	if e.Cost.Total.Known {
		// The total is hedgerow's: PostHog keeps it and does not price the call
		// again.
		p.add("$ai_cost_passthrough", json.RawMessage("true"))
	}
	if e.Private && e.IsCosted() {
		p.add("$ai_input", json.RawMessage("null"))
		p.add("$ai_output_choices", json.RawMessage("null"))
	}
	return p
}

// UnmarshalPostHog decodes one event object as PostHog's SDKs send it. Known
// properties set the event's fields; all others are kept under their names. A
// value of the wrong type stays a property rather than failing the event. The
// caller sets ProjectID and Source, corrects the timestamp and validates.
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
		return nil, NewError(CodeInvalid, "the event is not a JSON object in PostHog's format", `send {"event":…,"distinct_id":…,"properties":{…}}`, err)
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
	e.DistinctID = rawjson.Scalar(in.DistinctID)
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

// SetWireProperties is the reverse of [Event.WireProperties]: it moves
// properties of p that have a field into e, and keeps the rest, p itself, as
// custom properties. Each value must be valid JSON. A value of the wrong type
// remains a property; a number that is out of range is set so that
// [Event.Bound] makes it unknown. Of a reported call only the fields used in
// filters are moved; package enrich reads its figures, which remain. e.Name
// must be set.
func (e *Event) SetWireProperties(p map[string]json.RawMessage) {
	only := e.IsReportedCall() || e.Name == RequestStarted
	_, counted := p["$ai_output_tokens"]
	for name, v := range p {
		moved := false
		if f := wireByName[name]; f != nil {
			moved = (!only || reportedLabels[name]) && f.set(e, v)
		} else if key, ok := strings.CutPrefix(name, "$feature/"); ok {
			moved = e.setFlag(key, v)
		}
		if moved {
			delete(p, name)
		}
	}
	// If only one part is null, the call failed or was interrupted: nothing was
	// withheld.
	e.Private = e.Private && e.Content.Input == nil && e.Content.Output == nil
	if e.Cost.Total.Known {
		delete(p, "$ai_cost_passthrough") // set again when encoded
	}
	e.takeHome(p)
	if counted {
		e.Usage.Output = e.wireOutput(+1)
	}
	if len(p) > 0 {
		e.Properties = p
	}
}

func (e *Event) setFlag(key string, v json.RawMessage) bool {
	s := rawjson.Scalar(v)
	if s == "" || v[0] != '"' && s != "true" && s != "false" {
		return false
	}
	if e.Flags == nil {
		e.Flags = make(map[string]string)
	}
	e.Flags[key] = s
	return true
}

// takeHome reads the property $hedgerow.
func (e *Event) takeHome(p map[string]json.RawMessage) {
	v, ok := p["$hedgerow"]
	if !ok {
		return
	}
	var h home
	if json.Unmarshal(v, &h) != nil {
		return
	}
	delete(p, "$hedgerow")
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
}

// wireOutput converts hedgerow's output count to PostHog's (-1) or back (+1).
// They differ for Gemini models with reasoning: PostHog's SDKs exclude
// reasoning from $ai_output_tokens, and PostHog adds $ai_reasoning_tokens when
// pricing (contract section 5). Counts in OpenAI's format include it, and so
// does an Event, whatever the provider.
func (e *Event) wireOutput(sign int64) Int {
	out, thoughts := e.Usage.Output, e.Usage.Reasoning.Or(0)
	const most = 1 << 53
	if !out.Known || thoughts <= 0 || thoughts > most || out.Value < 0 || out.Value > most || !GeminiThinks(e.ModelName()) || e.countsAsOpenAI() {
		return out
	}
	return Some(max(out.Value+sign*thoughts, 0))
}

// GeminiThinks reports whether a model is a Google model with reasoning, in any
// case and under any path: gemini-2.5-* and gemini-3*-*, as in PostHog, later
// versions, and names without a version, such as gemini-flash-latest.
func GeminiThinks(model string) bool {
	model = strings.ToLower(model[strings.LastIndexByte(model, '/')+1:])
	rest, ok := strings.CutPrefix(model, "gemini-")
	version, kind, named := strings.Cut(rest, "-")
	switch {
	case !ok || !named:
		return false
	case version == "" || version[0] < '0' || version[0] > '9':
		return version == "flash" || version == "pro"
	case strings.HasPrefix(version, "1.") || version == "1" || strings.HasPrefix(version, "2") && version != "2.5":
		return strings.Contains(kind, "thinking")
	}
	return true
}

// countsAsOpenAI reports whether a call's counts are in OpenAI's format, where
// the output includes reasoning: OpenRouter's always, and those from OpenAI's
// own client, except from Google.
func (e *Event) countsAsOpenAI() bool {
	host := hostOf(e.BaseURL)
	if e.Provider == "openrouter" || host == "openrouter.ai" || strings.HasSuffix(host, ".openrouter.ai") {
		return true
	}
	return e.Provider == "openai" && host != "" && !strings.HasSuffix(host, "googleapis.com")
}

// hostOf returns the host of a URL in lower case, without port.
func hostOf(url string) string {
	_, rest, ok := strings.Cut(url, "://")
	if !ok {
		rest = url
	}
	rest, _, _ = strings.Cut(rest, "/")
	rest, _, _ = strings.Cut(rest, ":")
	return strings.ToLower(rest)
}

// rawObject returns the members of a JSON object, or nil for anything else.
func rawObject(v json.RawMessage) map[string]json.RawMessage {
	var m map[string]json.RawMessage
	if bytes.IndexByte(v, '\\') >= 0 || !utf8.Valid(v) { // some keys need decoding
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

// ParseTime parses the ISO 8601 forms that PostHog's SDKs send, with or without
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
// if the flag has no variants.
func flagValue(variant string) json.RawMessage {
	if variant == "true" || variant == "false" {
		return json.RawMessage(variant)
	}
	return rawjson.Quote(variant)
}

func promptVersion(s string) json.RawMessage {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && n >= 1 && strconv.FormatInt(n, 10) == s {
		return json.RawMessage(s)
	}
	return rawjson.Quote(s)
}

func parseInt(v json.RawMessage, into *Int) bool {
	// Whole numbers up to 2^53 are exact, and all others are out of range.
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

// mustJSON marshals values that cannot fail: strings and maps of raw JSON that
// has been parsed before.
func mustJSON(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		return json.RawMessage("null")
	}
	return b
}
