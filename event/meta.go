package event

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"
	"unsafe"

	"github.com/shopspring/decimal"
	"github.com/tidwall/gjson"
)

// This file writes and reads an event's metadata as encoding/json does, several
// times as fast (BenchmarkFrame): each event is written once and read once by
// each sink, on the CPU that the calls need. Whatever it does not know it leaves
// to encoding/json, and TestMetaIsJSON holds the two together field by field.

// metaFields are the members of an event's JSON by name; usageFields and
// costFields are those of the objects within.
var (
	metaFields  = index(eventMembers)
	usageFields = index(usageMembers)
	partFields  = index(costMembers)
)

// member is one member of a JSON object.
type member struct {
	name string
	add  func(dst []byte, e *Event) ([]byte, bool, error) // false: to be left out
	set  func(e *Event, v gjson.Result) error
}

func index(list []member) map[string]*member {
	m := make(map[string]*member, len(list))
	for i := range list {
		m[list[i].name] = &list[i]
	}
	return m
}

var eventMembers = []member{
	always(str("uuid", func(e *Event) *string { return &e.UUID })),
	str("project", func(e *Event) *string { return &e.ProjectID }),
	always(str("event", func(e *Event) *string { return &e.Name })),
	str("distinct_id", func(e *Event) *string { return &e.DistinctID }),
	{
		name: "timestamp",
		add: func(dst []byte, e *Event) ([]byte, bool, error) {
			dst, err := e.Timestamp.AppendText(append(dst, '"'))
			return append(dst, '"'), true, err
		},
		set: func(e *Event, v gjson.Result) error { return e.Timestamp.UnmarshalJSON([]byte(v.Raw)) },
	},
	str("source", func(e *Event) *string { return &e.Source }),
	str("trace_id", func(e *Event) *string { return &e.TraceID }),
	str("span_id", func(e *Event) *string { return &e.SpanID }),
	str("parent_id", func(e *Event) *string { return &e.ParentID }),
	str("session_id", func(e *Event) *string { return &e.SessionID }),
	str("trace_name", func(e *Event) *string { return &e.TraceName }),
	str("span_name", func(e *Event) *string { return &e.SpanName }),
	str("user", func(e *Event) *string { return &e.User }),
	str("provider", func(e *Event) *string { return &e.Provider }),
	str("model_asked", func(e *Event) *string { return &e.ModelAsked }),
	str("model", func(e *Event) *string { return &e.Model }),
	str("operation", func(e *Event) *string { return &e.Operation }),
	str("base_url", func(e *Event) *string { return &e.BaseURL }),
	str("request_url", func(e *Event) *string { return &e.RequestURL }),
	str("method", func(e *Event) *string { return &e.Method }),
	object("usage", usageMembers, &usageFields, func(e *Event) bool { return e.Usage == Usage{} }),
	object("cost", costMembers, &partFields, func(e *Event) bool { return e.Cost == Cost{} }),
	opt("latency", func(e *Event) *Opt[time.Duration] { return &e.Latency }, appendInt[time.Duration], readInt[time.Duration]),
	opt("ttft", func(e *Event) *Opt[time.Duration] { return &e.TimeToFirstToken }, appendInt[time.Duration], readInt[time.Duration]),
	opt("stream", func(e *Event) *Opt[bool] { return &e.Stream }, strconv.AppendBool, readBool),
	integer("http_status", func(e *Event) *int { return &e.HTTPStatus }),
	integer("request_bytes", func(e *Event) *int64 { return &e.RequestBytes }),
	integer("response_bytes", func(e *Event) *int64 { return &e.ResponseBytes }),
	boolean("is_error", func(e *Event) *bool { return &e.IsError }),
	str("error_type", func(e *Event) *string { return &e.ErrorType }),
	str("error_code", func(e *Event) *string { return &e.ErrorCode }),
	str("error_message", func(e *Event) *string { return &e.ErrorMessage }),
	str("status", func(e *Event) *Status { return &e.Status }),
	str("stop_reason", func(e *Event) *string { return &e.StopReason }),
	str("parse_error", func(e *Event) *string { return &e.ParseError }),
	str("completion_id", func(e *Event) *string { return &e.CompletionID }),
	str("system_fingerprint", func(e *Event) *string { return &e.SystemFingerprint }),
	str("service_tier", func(e *Event) *string { return &e.ServiceTier }),
	raws("model_parameters", func(e *Event) *map[string]json.RawMessage { return &e.ModelParameters }),
	raws("provider_metadata", func(e *Event) *map[string]json.RawMessage { return &e.ProviderMetadata }),
	str("prompt_name", func(e *Event) *string { return &e.PromptName }),
	str("prompt_version", func(e *Event) *string { return &e.PromptVersion }),
	str("prompt_version_id", func(e *Event) *string { return &e.PromptVersionID }),
	str("prompt_hash", func(e *Event) *string { return &e.PromptHash }),
	str("surface", func(e *Event) *string { return &e.Surface }),
	str("task_type", func(e *Event) *string { return &e.TaskType }),
	str("environment", func(e *Event) *string { return &e.Environment }),
	other("tags", func(e *Event) any { return &e.Tags }, func(e *Event) bool { return e.Tags == nil }),
	other("flags", func(e *Event) any { return &e.Flags }, func(e *Event) bool { return e.Flags == nil }),
	other("groups", func(e *Event) any { return &e.Groups }, func(e *Event) bool { return e.Groups == nil }),
	number("input_chars", func(e *Event) *Int { return &e.InputChars }),
	number("output_chars", func(e *Event) *Int { return &e.OutputChars }),
	str("input_length_bucket", func(e *Event) *string { return &e.InputLengthBucket }),
	str("output_category", func(e *Event) *string { return &e.OutputCategory }),
	raws("properties", func(e *Event) *map[string]json.RawMessage { return &e.Properties }),
	other("attributes", func(e *Event) any { return &e.Attributes }, func(e *Event) bool { return e.Attributes == nil }),
	boolean("private", func(e *Event) *bool { return &e.Private }),
	boolean("start_told", func(e *Event) *bool { return &e.StartSent }),
	boolean("historical", func(e *Event) *bool { return &e.Historical }),
}

var usageMembers = []member{
	number("input", func(e *Event) *Int { return &e.Usage.Input }),
	number("output", func(e *Event) *Int { return &e.Usage.Output }),
	number("total", func(e *Event) *Int { return &e.Usage.Total }),
	number("cache_read", func(e *Event) *Int { return &e.Usage.CacheRead }),
	number("cache_write", func(e *Event) *Int { return &e.Usage.CacheWrite }),
	number("cache_write_5m", func(e *Event) *Int { return &e.Usage.CacheWrite5m }),
	number("cache_write_1h", func(e *Event) *Int { return &e.Usage.CacheWrite1h }),
	opt("cache_exclusive", func(e *Event) *Opt[bool] { return &e.Usage.CacheExclusive }, strconv.AppendBool, readBool),
	number("reasoning", func(e *Event) *Int { return &e.Usage.Reasoning }),
	number("input_audio", func(e *Event) *Int { return &e.Usage.InputAudio }),
	number("output_audio", func(e *Event) *Int { return &e.Usage.OutputAudio }),
	number("cache_read_audio", func(e *Event) *Int { return &e.Usage.CacheReadAudio }),
	number("input_image", func(e *Event) *Int { return &e.Usage.InputImage }),
	number("output_image", func(e *Event) *Int { return &e.Usage.OutputImage }),
	number("input_text", func(e *Event) *Int { return &e.Usage.InputText }),
	number("output_text", func(e *Event) *Int { return &e.Usage.OutputText }),
	number("web_searches", func(e *Event) *Int { return &e.Usage.WebSearches }),
	number("images", func(e *Event) *Int { return &e.Usage.Images }),
	money("reported_cost", func(e *Event) *Opt[decimal.Decimal] { return &e.Usage.ReportedCost }),
}

var costMembers = []member{
	money("input", func(e *Event) *Opt[decimal.Decimal] { return &e.Cost.Input }),
	money("output", func(e *Event) *Opt[decimal.Decimal] { return &e.Cost.Output }),
	money("request", func(e *Event) *Opt[decimal.Decimal] { return &e.Cost.Request }),
	money("web_search", func(e *Event) *Opt[decimal.Decimal] { return &e.Cost.WebSearch }),
	money("total", func(e *Event) *Opt[decimal.Decimal] { return &e.Cost.Total }),
	money("cache_saved", func(e *Event) *Opt[decimal.Decimal] { return &e.Cost.CacheSaved }),
	str("model_used", func(e *Event) *string { return &e.Cost.ModelUsed }),
	str("source", func(e *Event) *string { return &e.Cost.Source }),
	str("provider", func(e *Event) *string { return &e.Cost.Provider }),
}

// mistyped is the error of a member whose value has the wrong type.
func mistyped(name string, v gjson.Result) error {
	return fmt.Errorf("%s is a %s", name, v.Type)
}

func str[S ~string](name string, at func(*Event) *S) member {
	return member{
		name: name,
		add: func(dst []byte, e *Event) ([]byte, bool, error) {
			s := *at(e)
			if s == "" {
				return dst, false, nil
			}
			return gjson.AppendJSONString(dst, string(s)), true, nil
		},
		set: func(e *Event, v gjson.Result) error {
			switch v.Type {
			case gjson.String:
				*at(e) = S(v.Str)
			case gjson.Null:
			default:
				return mistyped(name, v)
			}
			return nil
		},
	}
}

// always writes a string even where it is empty.
func always(m member) member {
	add := m.add
	m.add = func(dst []byte, e *Event) ([]byte, bool, error) {
		out, ok, err := add(dst, e)
		if !ok {
			out = append(out, `""`...)
		}
		return out, true, err
	}
	return m
}

func opt[T any](name string, at func(*Event) *Opt[T], write func([]byte, T) []byte, read func(gjson.Result) (T, bool)) member {
	return member{
		name: name,
		add: func(dst []byte, e *Event) ([]byte, bool, error) {
			o := at(e)
			if !o.Known {
				return dst, false, nil
			}
			return write(dst, o.Value), true, nil
		},
		set: func(e *Event, v gjson.Result) error {
			if v.Type == gjson.Null {
				*at(e) = Opt[T]{}
				return nil
			}
			x, ok := read(v)
			if !ok {
				return mistyped(name, v)
			}
			*at(e) = Some(x)
			return nil
		},
	}
}

func number(name string, at func(*Event) *Int) member {
	return opt(name, at, appendInt[int64], readInt[int64])
}

func money(name string, at func(*Event) *Opt[decimal.Decimal]) member {
	write := func(dst []byte, d decimal.Decimal) []byte {
		return append(append(append(dst, '"'), d.String()...), '"')
	}
	read := func(v gjson.Result) (d decimal.Decimal, ok bool) {
		if v.Type != gjson.String && v.Type != gjson.Number {
			return d, false
		}
		d, err := decimal.NewFromString(v.String())
		return d, err == nil
	}
	return opt(name, at, write, read)
}

func appendInt[T ~int64](dst []byte, n T) []byte { return strconv.AppendInt(dst, int64(n), 10) }

func readInt[T ~int64 | ~int](v gjson.Result) (T, bool) {
	n, err := strconv.ParseInt(v.Raw, 10, 64)
	return T(n), err == nil && v.Type == gjson.Number
}

func readBool(v gjson.Result) (bool, bool) { return v.Type == gjson.True, v.IsBool() }

func integer[T int | int64](name string, at func(*Event) *T) member {
	return member{
		name: name,
		add: func(dst []byte, e *Event) ([]byte, bool, error) {
			n := *at(e)
			return strconv.AppendInt(dst, int64(n), 10), n != 0, nil
		},
		set: func(e *Event, v gjson.Result) error {
			n, ok := readInt[T](v)
			if !ok && v.Type != gjson.Null {
				return mistyped(name, v)
			}
			*at(e) = n
			return nil
		},
	}
}

func boolean(name string, at func(*Event) *bool) member {
	return member{
		name: name,
		add:  func(dst []byte, e *Event) ([]byte, bool, error) { return append(dst, "true"...), *at(e), nil },
		set: func(e *Event, v gjson.Result) error {
			b, ok := readBool(v)
			if !ok && v.Type != gjson.Null {
				return mistyped(name, v)
			}
			*at(e) = b
			return nil
		},
	}
}

func raws(name string, at func(*Event) *map[string]json.RawMessage) member {
	return member{
		name: name,
		add: func(dst []byte, e *Event) ([]byte, bool, error) {
			m := *at(e)
			if m == nil {
				return dst, false, nil
			}
			dst, err := AppendObject(dst, m)
			if err != nil {
				return dst, false, fmt.Errorf("%s.%w", name, err)
			}
			return dst, true, nil
		},
		set: func(e *Event, v gjson.Result) error {
			if v.Type == gjson.Null {
				return nil
			}
			if !v.IsObject() {
				return mistyped(name, v)
			}
			m := make(map[string]json.RawMessage)
			v.ForEach(func(k, v gjson.Result) bool {
				m[k.String()] = unsafe.Slice(unsafe.StringData(v.Raw), len(v.Raw)) // as decodeMeta says
				return true
			})
			*at(e) = m
			return nil
		},
	}
}

// AppendObject appends a map as encoding/json writes it, with its names in order,
// in a third of the time. An error names the member that is not valid JSON.
func AppendObject[V json.RawMessage | string](dst []byte, m map[string]V) ([]byte, error) {
	var few [32]string
	names := few[:0]
	for k := range m {
		names = append(names, k)
	}
	slices.Sort(names)
	dst = append(dst, '{')
	for i, k := range names {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(gjson.AppendJSONString(dst, k), ':')
		switch v := any(m[k]).(type) {
		case string:
			dst = gjson.AppendJSONString(dst, v)
		case json.RawMessage:
			switch {
			case v == nil:
				dst = append(dst, "null"...)
			case !ValidJSON(v):
				return dst, fmt.Errorf("%s is not valid JSON", k)
			default:
				dst = append(dst, v...)
			}
		}
	}
	return append(dst, '}'), nil
}

// other leaves a member to encoding/json.
func other(name string, at func(*Event) any, zero func(*Event) bool) member {
	return member{
		name: name,
		add: func(dst []byte, e *Event) ([]byte, bool, error) {
			if zero(e) {
				return dst, false, nil
			}
			b, err := json.Marshal(at(e))
			return append(dst, b...), true, err
		},
		set: func(e *Event, v gjson.Result) error { return json.Unmarshal([]byte(v.Raw), at(e)) },
	}
}

func object(name string, list []member, fields *map[string]*member, zero func(*Event) bool) member {
	return member{
		name: name,
		add: func(dst []byte, e *Event) ([]byte, bool, error) {
			if zero(e) {
				return dst, false, nil
			}
			dst, err := appendMembers(dst, e, list)
			return dst, true, err
		},
		set: func(e *Event, v gjson.Result) error {
			if v.Type == gjson.Null {
				return nil
			}
			if !v.IsObject() {
				return mistyped(name, v)
			}
			return readMembers(e, v, *fields)
		},
	}
}

func appendMembers(dst []byte, e *Event, list []member) ([]byte, error) {
	dst = append(dst, '{')
	first := true
	for i := range list {
		m := &list[i]
		mark := len(dst)
		if !first {
			dst = append(dst, ',')
		}
		dst = append(append(append(dst, '"'), m.name...), `":`...)
		out, ok, err := m.add(dst, e)
		if err != nil {
			return out, err
		}
		if !ok {
			dst = dst[:mark]
			continue
		}
		dst, first = out, false
	}
	return append(dst, '}'), nil
}

func readMembers(e *Event, v gjson.Result, fields map[string]*member) (err error) {
	v.ForEach(func(k, v gjson.Result) bool {
		if m := fields[k.String()]; m != nil {
			err = m.set(e, v)
		}
		return err == nil
	})
	return err
}

// appendMeta appends the metadata's JSON.
func appendMeta(dst []byte, e *Event) ([]byte, error) { return appendMembers(dst, e, eventMembers) }

// decodeMeta reads it. The event keeps parts of b, which must not be changed
// afterwards.
func decodeMeta(b []byte, e *Event) error {
	if !gjson.ValidBytes(b) {
		return fmt.Errorf("metadata is not valid JSON")
	}
	v := gjson.Parse(unsafe.String(unsafe.SliceData(b), len(b)))
	if !v.IsObject() {
		return mistyped("metadata", v)
	}
	return readMembers(e, v, metaFields)
}
