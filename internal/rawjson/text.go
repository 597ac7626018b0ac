package rawjson

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

// Text returns a JSON string's text and the literal of any other value. It is ""
// for null, for no value, and for a malformed string.
func Text(v json.RawMessage) string {
	v = bytes.TrimSpace(v)
	if len(v) == 0 || string(v) == "null" {
		return ""
	}
	if v[0] != '"' {
		return string(v)
	}
	s, _ := String(v)
	return s
}

// Scalar is [Text] for strings, numbers and booleans, and "" for objects and
// arrays.
func Scalar(v json.RawMessage) string {
	if v = bytes.TrimSpace(v); len(v) > 0 && (v[0] == '{' || v[0] == '[') {
		return ""
	}
	return Text(v)
}

// String returns a JSON string's text. It reports false for any other value.
func String(v []byte) (s string, ok bool) {
	if len(v) < 2 || v[0] != '"' {
		return "", false
	}
	in := v[1 : len(v)-1]
	for _, c := range in { // nearly all strings are printable ASCII without escapes
		if c < ' ' || c > '~' || c == '"' || c == '\\' {
			return decoded(v)
		}
	}
	if v[len(v)-1] != '"' {
		return "", false
	}
	return string(in), true
}

// decoded is a function of its own since its result is allocated.
func decoded(v []byte) (s string, ok bool) {
	err := json.Unmarshal(v, &s)
	return s, err == nil
}

// Unescape decodes the inside of a JSON string; a malformed one is returned as it
// is.
func Unescape(inside []byte) string {
	if bytes.IndexByte(inside, '\\') < 0 {
		return string(inside)
	}
	quoted := make([]byte, 0, len(inside)+2)
	quoted = append(append(append(quoted, '"'), inside...), '"')
	var s string
	if json.Unmarshal(quoted, &s) != nil {
		return string(inside)
	}
	return s
}

// Quote returns s as a JSON string; see [AppendQuote].
func Quote(s string) json.RawMessage { return AppendQuote(make([]byte, 0, len(s)+2), s) }

// AppendQuote appends s as a JSON string. The characters of HTML are not escaped,
// and bytes that are not UTF-8 become U+FFFD.
func AppendQuote(dst []byte, s string) []byte {
	const digits = "0123456789abcdef"
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				dst = append(append(dst, s[from:i]...), "\uFFFD"...)
				from = i + 1
			}
			i += n
			continue
		}
		if c >= ' ' && c != '"' && c != '\\' {
			i++
			continue
		}
		dst = append(dst, s[from:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, `\n`...)
		case '\r':
			dst = append(dst, `\r`...)
		case '\t':
			dst = append(dst, `\t`...)
		default:
			dst = append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		}
		i++
		from = i
	}
	return append(append(dst, s[from:]...), '"')
}
