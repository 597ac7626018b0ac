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

	"github.com/hedgerow/hedgerow/internal/rawjson"
)

// This file encodes and decodes an event's metadata as encoding/json does,
// several times faster (BenchmarkFrame): each event is encoded once and decoded
// once by each sink, on the CPU that calls need. Unknown values are passed to
// encoding/json. TestMetaIsJSON compares the two field by field.

// member is one member of a JSON object.
type member struct {
	name string
	add  func(dst []byte, e *Event) ([]byte, bool, error) // false: omitted
	set  func(e *Event, v gjson.Result) error
}

// eventMembers are the members of the metadata in the order of [Fields]; Usage
// and Cost are objects. metaFields has the same by name.
var (
	eventMembers = members("")
	metaFields   = index(eventMembers)
)

func index(list []member) map[string]*member {
	m := make(map[string]*member, len(list))
	for i := range list {
		m[list[i].name] = &list[i]
	}
	return m
}

func members(of string) (list []member) {
	for i, f := range Fields {
		switch {
		case f.Key == "":
		case f.Object == of:
			list = append(list, newMember(&Fields[i]))
		case of == "" && (i == 0 || Fields[i-1].Object != f.Object):
			list = append(list, object(f.Object, members(f.Object)))
		}
	}
	return list
}

func newMember(f *Field) member {
	switch at := f.At.(type) {
	case func(*Event) *string:
		return str(f, at)
	case func(*Event) *bool:
		return boolean(f.Key, at)
	case func(*Event) *int:
		return integer(f.Key, at)
	case func(*Event) *int64:
		return integer(f.Key, at)
	case func(*Event) *Int:
		return opt(f.Key, at, appendInt[int64], readInt[int64])
	case func(*Event) *Opt[bool]:
		return opt(f.Key, at, strconv.AppendBool, readBool)
	case func(*Event) *Opt[time.Duration]:
		return opt(f.Key, at, appendInt[time.Duration], readInt[time.Duration])
	case func(*Event) *Opt[decimal.Decimal]:
		return money(f.Key, at)
	case func(*Event) *map[string]json.RawMessage:
		return raws(f.Key, at)
	case func(*Event) *map[string]string:
		return other(f.Key, func(e *Event) any { return at(e) }, func(e *Event) bool { return *at(e) == nil })
	case func(*Event) *[]string:
		return other(f.Key, func(e *Event) any { return at(e) }, func(e *Event) bool { return *at(e) == nil })
	case func(*Event) *time.Time:
		return instant(f.Key, at)
	}
	panic("event: " + f.Path + " has no form in a frame") // found by TestMetaIsJSON
}

// mistyped returns the error for a member whose value has the wrong type.
func mistyped(name string, v gjson.Result) error {
	return fmt.Errorf("%s is a %s", name, v.Type)
}

// str omits an empty text, except for required fields.
func str(f *Field, at func(*Event) *string) member {
	always := f.Path == "UUID" || f.Path == "Name"
	return member{
		name: f.Key,
		add: func(dst []byte, e *Event) ([]byte, bool, error) {
			s := *at(e)
			if s == "" && !always {
				return dst, false, nil
			}
			return rawjson.AppendQuote(dst, s), true, nil
		},
		set: func(e *Event, v gjson.Result) error {
			switch v.Type {
			case gjson.String:
				*at(e) = v.Str
			case gjson.Null:
			default:
				return mistyped(f.Key, v)
			}
			return nil
		},
	}
}

func instant(name string, at func(*Event) *time.Time) member {
	return member{
		name: name,
		add: func(dst []byte, e *Event) ([]byte, bool, error) {
			dst, err := at(e).AppendText(append(dst, '"'))
			return append(dst, '"'), true, err
		},
		set: func(e *Event, v gjson.Result) error { return at(e).UnmarshalJSON([]byte(v.Raw)) },
	}
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
			dst, err := e.AppendRaw(dst, m)
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
				m[k.String()] = unsafe.Slice(unsafe.StringData(v.Raw), len(v.Raw)) // see decodeMeta
				return true
			})
			*at(e) = m
			return nil
		},
	}
}

// AppendRaw appends a map of the event's raw values like encoding/json, with
// sorted names, in a third of the time. It returns an error with the name of a
// member that is not valid JSON, unless the values are marked as valid
// ([Event.MarkRawValid]).
func (e *Event) AppendRaw(dst []byte, m map[string]json.RawMessage) ([]byte, error) {
	return appendObject(dst, m, !e.rawValid)
}

// AppendTexts appends a map of texts as encoding/json writes it, with its names in
// order.
func AppendTexts(dst []byte, m map[string]string) []byte {
	dst, _ = appendObject(dst, m, false) // marshalling text cannot fail
	return dst
}

func appendObject[V json.RawMessage | string](dst []byte, m map[string]V, check bool) ([]byte, error) {
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
		dst = append(rawjson.AppendQuote(dst, k), ':')
		switch v := any(m[k]).(type) {
		case string:
			dst = rawjson.AppendQuote(dst, v)
		case json.RawMessage:
			switch {
			case v == nil:
				dst = append(dst, "null"...)
			case check && !ValidJSON(v):
				return dst, fmt.Errorf("%s is not valid JSON", k)
			default:
				dst = append(dst, v...)
			}
		}
	}
	return append(dst, '}'), nil
}

// other delegates a member to encoding/json.
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

func object(name string, list []member) member {
	fields := index(list)
	return member{
		name: name,
		add: func(dst []byte, e *Event) ([]byte, bool, error) {
			mark := len(dst)
			dst, err := appendMembers(dst, e, list)
			return dst, len(dst) > mark+len("{}"), err
		},
		set: func(e *Event, v gjson.Result) error {
			if v.Type == gjson.Null {
				return nil
			}
			if !v.IsObject() {
				return mistyped(name, v)
			}
			return readMembers(e, v, fields)
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

// decodeMeta decodes it. The event keeps parts of b, which must not be changed
// afterwards. b is known to be valid JSON: appendMeta wrote it, and the journal
// has a checksum of each message.
func decodeMeta(b []byte, e *Event) error {
	v := gjson.Parse(unsafe.String(unsafe.SliceData(b), len(b)))
	if !v.IsObject() || b[len(b)-1] != '}' {
		return mistyped("metadata", v)
	}
	return readMembers(e, v, metaFields)
}
