package event

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
	"unsafe"

	"github.com/shopspring/decimal"
)

// Field is one field of [Event] or of its [Usage], [Cost] and [Content], as the
// tags in event.go describe it:
//
//	json     its key in the journal's frame
//	name     what the API, the warnings and the documentation call it; without
//	         the tag it is the key
//	posthog  its property at PostHog; ",loose" also accepts numbers and booleans
//	         for a string
//	column   its column in the store; without the tag it is the name; "-" is none;
//	         ",required" rejects an event without it
//	api      its key in the API's event type; without the tag it is the name;
//	         "-" is none
//	llm_events
//	         the properties from which it is read for a call that its application
//	         reports: the first that is present; "end:" only if the call has ended
//	kind     its [Kind]
//
// The rest follows from its Go type.
type Field struct {
	Path     string // in Event, for instance "Usage.CacheRead"
	Object   string // key in the frame of the object that it is part of: usage, cost, or "" for the event itself
	Key      string // "" if the frame's metadata does not have it
	Name     string
	PostHog  string // "" for none, or if several fields share one
	Loose    bool   // PostHog's property may be a number or a boolean
	Column   string // "" for none
	Required bool   // every stored event has it
	API      string // "" for none
	LLM      []string
	LLMEnd   bool // read from LLM only if the call has ended
	Kind     Kind

	// At returns a pointer to the field: it is a func(*Event) *T, where T is string,
	// bool, int, int64, [Int], Opt[bool], Opt[time.Duration], Opt[decimal.Decimal],
	// time.Time, json.RawMessage, []string, map[string]string or
	// map[string]json.RawMessage. A [Status] is a string.
	At any
}

// Kind is the type of a field's value and its range. The zero Kind has no range.
type Kind struct {
	Name string
	Unit string  // of a number, for the documentation; "" for none
	Min  float64 // of a number
	Max  float64 // of a number, or the characters of a text
}

var kinds = []Kind{
	{Name: "id", Max: MaxDistinctIDLen}, // valid as $ai_trace_id: CleanID
	{Name: "name", Max: MaxNameLen},     // one line
	{Name: "label", Max: 100},           // one line
	{Name: "url", Max: 2_000},           // one line
	{Name: "message", Max: 10_000},      // several lines; some providers quote the whole request
	{Name: "tokens", Unit: "tokens", Max: MaxTokens},
	{Name: "all tokens", Unit: "tokens", Max: MaxAllTokens},
	{Name: "searches", Unit: "searches", Max: MaxCount},
	{Name: "images", Unit: "images", Max: MaxCount},
	{Name: "pages", Unit: "pages", Max: MaxCount},
	{Name: "sessions", Unit: "sessions", Max: MaxCount},
	{Name: "characters", Unit: "characters", Max: MaxCount},
	{Name: "duration", Unit: "seconds", Max: MaxDuration.Seconds()},
	{Name: "bytes", Unit: "bytes", Max: MaxBytes},
	{Name: "status", Min: 100, Max: 999},
	{Name: "usd", Unit: "USD", Max: MaxCostUSD},
}

// Fields lists the fields of an event in order. The journal's frame, PostHog's
// JSON, the store's columns, the API's event type, the bounds and the
// documentation derive from it.
var Fields = fieldsOf(reflect.TypeFor[Event](), Field{}, 0)

func fieldsOf(t reflect.Type, in Field, offset uintptr) (list []Field) {
	for i := range t.NumField() {
		v := t.Field(i)
		if !v.IsExported() {
			continue
		}
		f := Field{Path: v.Name, Object: in.Key}
		if in.Path != "" {
			f.Path = in.Path + "." + v.Name
		}
		f.Key, _, _ = strings.Cut(v.Tag.Get("json"), ",")
		if f.Key == "-" {
			f.Key = ""
		}
		switch v.Type {
		case reflect.TypeFor[Usage](), reflect.TypeFor[Cost](), reflect.TypeFor[Content]():
			list = append(list, fieldsOf(v.Type, f, offset+v.Offset)...)
			continue
		}
		tag := func(name, otherwise string) string {
			if s, ok := v.Tag.Lookup(name); ok {
				return strings.TrimPrefix(s, "-")
			}
			return otherwise
		}
		f.Name = tag("name", f.Key)
		f.PostHog, f.Loose = strings.CutSuffix(tag("posthog", ""), ",loose")
		f.Column, f.Required = strings.CutSuffix(tag("column", f.Name), ",required")
		f.API = tag("api", f.Name)
		if names := tag("llm_events", ""); names != "" {
			names, f.LLMEnd = strings.CutPrefix(names, "end:")
			f.LLM = strings.Split(names, ",")
		}
		if in.Path == "Content" {
			f.Column = "" // the store keeps content in other columns
		}
		if name := tag("kind", ""); name != "" {
			f.Kind = kinds[slices.IndexFunc(kinds, func(k Kind) bool { return k.Name == name })]
		}
		f.At = accessor(v.Type, offset+v.Offset)
		list = append(list, f)
	}
	return list
}

func accessor(t reflect.Type, offset uintptr) any {
	switch reflect.Zero(t).Interface().(type) {
	case string, Status:
		return at[string](offset)
	case bool:
		return at[bool](offset)
	case int:
		return at[int](offset)
	case int64:
		return at[int64](offset)
	case Int:
		return at[Int](offset)
	case Opt[bool]:
		return at[Opt[bool]](offset)
	case Opt[time.Duration]:
		return at[Opt[time.Duration]](offset)
	case Opt[decimal.Decimal]:
		return at[Opt[decimal.Decimal]](offset)
	case time.Time:
		return at[time.Time](offset)
	case json.RawMessage:
		return at[json.RawMessage](offset)
	case []string:
		return at[[]string](offset)
	case map[string]string:
		return at[map[string]string](offset)
	case map[string]json.RawMessage:
		return at[map[string]json.RawMessage](offset)
	}
	panic(fmt.Sprintf("event: field of unsupported type %s", t)) // found by TestFields
}

// at accesses a field by its offset: package reflect takes five times as long.
func at[T any](offset uintptr) func(*Event) *T {
	return func(e *Event) *T { return (*T)(unsafe.Add(unsafe.Pointer(e), offset)) }
}
