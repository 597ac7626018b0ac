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

// view returns b as a string, without a copy: bodies are megabytes, and gjson
// reads strings. Whatever outlives Parse must be copied from it, by text, raw
// or an append. TestParseKeepsNothing checks that.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// valid reports whether s is one JSON value. Only valid JSON is kept as
// content. gjson's validator recurses, so the nesting is checked first.
func valid(s string) bool { return !event.NestedDeeper(s, 1000) && gjson.Valid(s) }

// text returns a copy of the text of a string or number, and "" for other
// values.
func text(v gjson.Result) string {
	switch v.Type {
	case gjson.String:
		return strings.ToValidUTF8(strings.Clone(v.Str), "\uFFFD")
	case gjson.Number:
		return strings.Clone(v.Raw)
	}
	return ""
}

// raw returns a copy of a value's JSON that can be kept.
func raw(v gjson.Result) json.RawMessage { return clean([]byte(v.Raw)) }

// clean repairs what JSON's own syntax allows: bytes that are not UTF-8.
func clean(b []byte) json.RawMessage {
	if utf8.Valid(b) {
		return b
	}
	return bytes.ToValidUTF8(b, []byte("\uFFFD"))
}

// escaped returns the inside of a JSON string as it is on the wire, with
// escapes. Fragments of a streamed text are joined in this form: they need
// neither decoding nor encoding, and a surrogate pair that is split between two
// chunks becomes complete again.
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

// count reads a token count; anything but a whole number leaves it unknown. A 0
// after a count is ignored: usage does not shrink, and some servers send zeros
// for what they do not count. A count that is out of range is left to
// [event.Event.Bound].
func count(v gjson.Result, into *event.Int) {
	if v.Type != gjson.Number {
		return
	}
	if n, ok := event.Count(v.Num); ok && (n != 0 || into.Or(0) <= 0) {
		*into = event.Some(n)
	}
}

// dollars reads an amount of money exactly, from a number or a string. An
// amount that is out of range is left to [event.Event.Bound].
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
