package event

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/internal/rawjson"
)

// wireField is a field as a PostHog property.
type wireField struct {
	name string
	add  func(wireProps, *Event) wireProps
	set  func(*Event, json.RawMessage) bool // false: the value stays a property
}

// wireFields are the fields with a property of their own at PostHog; wireByName
// has the same by name.
var (
	wireFields = wireFieldsOf(Fields)
	wireByName = func() map[string]*wireField {
		m := make(map[string]*wireField, len(wireFields))
		for i := range wireFields {
			m[wireFields[i].name] = &wireFields[i]
		}
		return m
	}()
)

// wireNames are the names that SetWireProperties reads.
var wireNames = func() map[string]string {
	names := map[string]string{"$hedgerow": "$hedgerow", "$ai_cost_passthrough": "$ai_cost_passthrough"}
	for n := range wireByName {
		names[n] = n
	}
	return names
}()

// WireName returns string(name), without an allocation for names that
// [Event.SetWireProperties] reads.
func WireName(name []byte) string {
	if s, ok := wireNames[string(name)]; ok {
		return s
	}
	return string(name)
}

func wireFieldsOf(fields []Field) (list []wireField) {
	for i := range fields {
		if f := &fields[i]; f.PostHog != "" {
			list = append(list, newWireField(f))
		}
	}
	return list
}

// setText sets a field to a JSON string's text. null leaves it unchanged; any
// other value is rejected.
func setText(to *string, v json.RawMessage) bool {
	s, ok := rawjson.String(v)
	if ok {
		*to = s
	}
	return ok || string(v) == "null"
}

// newWireField returns the encoding of a field by its type, except for the few
// that PostHog encodes differently.
func newWireField(f *Field) wireField {
	w := wireField{name: f.PostHog}
	value := func(known func(*Event) bool, write func(*Event) json.RawMessage) {
		w.add = func(p wireProps, e *Event) wireProps {
			if known(e) {
				p.add(w.name, write(e))
			}
			return p
		}
	}
	switch at := f.At.(type) {
	case func(*Event) *string:
		value(func(e *Event) bool { return *at(e) != "" }, func(e *Event) json.RawMessage { return rawjson.Quote(*at(e)) })
		w.set = func(e *Event, v json.RawMessage) bool {
			s := rawjson.Scalar(v)
			if s == "" || v[0] != '"' && !f.Loose {
				return false
			}
			*at(e) = s
			return true
		}
	case func(*Event) *Int:
		value(func(e *Event) bool { return at(e).Known }, func(e *Event) json.RawMessage { return digits(at(e).Value) })
		w.set = func(e *Event, v json.RawMessage) bool { return parseInt(v, at(e)) }
	case func(*Event) *int:
		value(func(e *Event) bool { return *at(e) != 0 }, func(e *Event) json.RawMessage { return digits(int64(*at(e))) })
		w.set = func(e *Event, v json.RawMessage) bool {
			var n Int
			ok := parseInt(v, &n)
			*at(e) = int(n.Value)
			return ok
		}
	case func(*Event) *int64:
		value(func(e *Event) bool { return *at(e) > 0 }, func(e *Event) json.RawMessage { return digits(*at(e)) })
		w.set = func(e *Event, v json.RawMessage) bool {
			var n Int
			ok := parseInt(v, &n)
			*at(e) = n.Value
			return ok
		}
	case func(*Event) *bool:
		value(func(e *Event) bool { return *at(e) }, func(*Event) json.RawMessage { return json.RawMessage("true") })
		w.set = func(e *Event, v json.RawMessage) bool {
			var b Opt[bool]
			ok := parseBool(v, &b)
			*at(e) = b.Value
			return ok
		}
	case func(*Event) *Opt[bool]:
		value(func(e *Event) bool { return at(e).Known }, func(e *Event) json.RawMessage { return json.RawMessage(strconv.FormatBool(at(e).Value)) })
		w.set = func(e *Event, v json.RawMessage) bool { return parseBool(v, at(e)) }
	case func(*Event) *Opt[time.Duration]:
		value(func(e *Event) bool { return at(e).Known }, func(e *Event) json.RawMessage { return seconds(at(e).Value) })
		w.set = func(e *Event, v json.RawMessage) bool {
			s, ok := numberIn(v)
			if ok {
				*at(e) = Some(Seconds(s))
			}
			return ok
		}
	case func(*Event) *Opt[decimal.Decimal]:
		value(func(e *Event) bool { return at(e).Known }, func(e *Event) json.RawMessage { return json.RawMessage(at(e).Value.String()) })
		w.set = func(e *Event, v json.RawMessage) bool {
			d, ok := Dollars(strings.Trim(string(v), `"`))
			if ok {
				*at(e) = Some(d)
			}
			return ok
		}
	case func(*Event) *map[string]string:
		value(func(e *Event) bool { return len(*at(e)) > 0 }, func(e *Event) json.RawMessage { return mustJSON(*at(e)) })
		w.set = func(e *Event, v json.RawMessage) bool {
			// Into a new map: a failure halfway must not leave half of it.
			var m map[string]string
			if json.Unmarshal(v, &m) != nil || len(m) == 0 {
				return false
			}
			*at(e) = m
			return true
		}
	case func(*Event) *map[string]json.RawMessage:
		value(func(e *Event) bool { return len(*at(e)) > 0 }, func(e *Event) json.RawMessage { return mustJSON(*at(e)) })
		w.set = func(e *Event, v json.RawMessage) bool {
			*at(e) = rawObject(v)
			return len(*at(e)) > 0
		}
	case func(*Event) *json.RawMessage:
		w.add = func(p wireProps, e *Event) wireProps {
			if v := *at(e); v != nil {
				p = append(p, wireProp{w.name, v, !e.rawValid})
			}
			return p
		}
		w.set = func(e *Event, v json.RawMessage) bool {
			if string(v) == "null" {
				e.Private = e.Private || e.IsCosted()
				return e.IsCosted()
			}
			*at(e) = v
			return true
		}
	default:
		panic("event: " + f.Path + " has no form at PostHog") // found by TestFields
	}
	switch f.Path {
	case "Model":
		value(func(e *Event) bool { return e.ModelName() != "" }, func(e *Event) json.RawMessage { return rawjson.Quote(e.ModelName()) })
		w.set = func(e *Event, v json.RawMessage) bool { return setText(&e.Model, v) }
	case "ModelAsked": // only if the response model differs
		value(func(e *Event) bool { return e.ModelAsked != "" && e.Model != "" }, func(e *Event) json.RawMessage { return rawjson.Quote(e.ModelAsked) })
		w.set = func(e *Event, v json.RawMessage) bool { return setText(&e.ModelAsked, v) }
	case "Usage.Output":
		value(func(e *Event) bool { return e.Usage.Output.Known }, func(e *Event) json.RawMessage { return digits(e.wireOutput(-1).Value) })
	case "IsError":
		value(func(e *Event) bool { return e.IsLLM() && (e.IsError || e.IsCosted()) }, func(e *Event) json.RawMessage { return json.RawMessage(strconv.FormatBool(e.IsError)) })
	case "ErrorMessage":
		value(func(e *Event) bool {
			return e.ErrorMessage != "" && e.Properties[f.PostHog] == nil // otherwise an object, of which the field has the message
		}, func(e *Event) json.RawMessage { return rawjson.Quote(e.ErrorMessage) })
	case "PromptVersion":
		value(func(e *Event) bool { return e.PromptVersion != "" }, func(e *Event) json.RawMessage { return promptVersion(e.PromptVersion) })
	case "ProviderMetadata":
		w.withFingerprint()
	}
	return w
}

// withFingerprint adds SystemFingerprint to $ai_provider_metadata.
func (w *wireField) withFingerprint() {
	const key = "system_fingerprint"
	add, set := w.add, w.set
	w.add = func(p wireProps, e *Event) wireProps {
		if e.SystemFingerprint == "" {
			return add(p, e)
		}
		meta := cloneMap(e.ProviderMetadata)
		if meta == nil {
			meta = make(map[string]json.RawMessage, 1)
		}
		meta[key] = rawjson.Quote(e.SystemFingerprint)
		p.add(w.name, mustJSON(meta))
		return p
	}
	w.set = func(e *Event, v json.RawMessage) bool {
		if !set(e, v) {
			return false
		}
		if fp, ok := e.ProviderMetadata[key]; ok && json.Unmarshal(fp, &e.SystemFingerprint) == nil {
			delete(e.ProviderMetadata, key)
		}
		return true
	}
}

func digits(n int64) json.RawMessage { return strconv.AppendInt(nil, n, 10) }
