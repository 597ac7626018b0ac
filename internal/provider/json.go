package provider

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode/utf8"
	"unsafe"

	"github.com/shopspring/decimal"
	"github.com/tidwall/gjson"

	"github.com/hedgerow/hedgerow/event"
)

// view is b as a string, without a copy: bodies are megabytes, and gjson reads
// strings. Whatever outlives Parse must be copied out of it, by text, raw or an
// append. TestParseKeepsNothing proves that nothing was forgotten.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// valid reports whether s is one JSON value. Nothing that was not found valid is
// kept as content. gjson's validator recurses.
func valid(s string) bool { return !event.NestedDeeper(s, 1000) && gjson.Valid(s) }

// text returns a copy of a string's or a number's text, and "" for all else.
func text(v gjson.Result) string {
	switch v.Type {
	case gjson.String:
		return strings.ToValidUTF8(strings.Clone(v.Str), "\uFFFD")
	case gjson.Number:
		return strings.Clone(v.Raw)
	}
	return ""
}

// raw returns a copy of a value's JSON, fit to be kept.
func raw(v gjson.Result) json.RawMessage { return clean([]byte(v.Raw)) }

// clean repairs what JSON's own syntax lets through: bytes that are not UTF-8.
func clean(b []byte) json.RawMessage {
	if utf8.Valid(b) {
		return b
	}
	return bytes.ToValidUTF8(b, []byte("\uFFFD"))
}

// escaped returns the inside of a JSON string as is on the wire, escapes and
// all. Pieces of a streamed text are joined in this form: they need neither
// decoding nor encoding, and a surrogate pair that two chunks share grows whole
// again.
func escaped(v gjson.Result) string {
	if v.Type != gjson.String || len(v.Raw) < 2 {
		return ""
	}
	return v.Raw[1 : len(v.Raw)-1]
}

// unescape decodes what escaped returned.
func unescape(b []byte) string {
	return gjson.Parse(`"` + string(b) + `"`).Str
}

func appendString(dst []byte, s string) []byte { return gjson.AppendJSONString(dst, s) }

func quote(s string) json.RawMessage { return appendString(nil, s) }

// count stores a token count; anything but a whole number leaves it unknown. A 0
// after a count is none: what was used does not shrink, and some servers write
// zeros for what they do not count. One that is out of range is left to
// [event.Event.Bound].
func count(v gjson.Result, into *event.Int) {
	if v.Type != gjson.Number {
		return
	}
	if n, ok := event.Count(v.Num); ok && (n != 0 || into.Or(0) <= 0) {
		*into = event.Some(n)
	}
}

// dollars reads an amount of money exactly, from a number or from a string. One
// that is out of range is left to [event.Event.Bound].
func dollars(v gjson.Result) event.Opt[decimal.Decimal] {
	if v.Type != gjson.Number && v.Type != gjson.String {
		return event.Opt[decimal.Decimal]{}
	}
	d, ok := event.Dollars(text(v))
	if !ok {
		return event.Opt[decimal.Decimal]{}
	}
	return event.Some(d)
}
