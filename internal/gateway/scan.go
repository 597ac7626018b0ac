package gateway

import (
	"bytes"
	"encoding/json"
)

// member is one member of a JSON object, as offsets into the text: the key's
// opening quote, the value's first byte, and the byte after the value.
type member struct{ key, val, end int }

// object walks the members of one JSON object in a single pass without decoding
// it. Nested values are skipped by their brackets and not checked: for text that
// is valid JSON the walk is exact, and for other text it either stops or
// delimits values in a way that is the same however often it is walked.
type object struct {
	b     []byte
	pos   int
	begun bool
	done  bool // the closing brace was found, and nothing but space after it
}

func newObject(b []byte) object { return object{b: b} }

// next returns the next member. After the last, or at a fault, ok is false;
// [object.done] tells which.
func (o *object) next() (m member, ok bool) {
	i := skipSpace(o.b, o.pos)
	if i >= len(o.b) || o.done {
		return m, false
	}
	switch {
	case !o.begun:
		if o.b[i] != '{' {
			return m, false
		}
		o.begun = true
		if i = skipSpace(o.b, i+1); i < len(o.b) && o.b[i] == '}' {
			o.finish(i)
			return m, false
		}
	case o.b[i] == '}':
		o.finish(i)
		return m, false
	case o.b[i] == ',':
		i = skipSpace(o.b, i+1)
	default:
		return m, false
	}
	if i >= len(o.b) || o.b[i] != '"' {
		return m, false
	}
	m.key = i
	if i = skipString(o.b, i); i < 0 {
		return m, false
	}
	if i = skipSpace(o.b, i); i >= len(o.b) || o.b[i] != ':' {
		return m, false
	}
	m.val = skipSpace(o.b, i+1)
	if m.end = skipValue(o.b, m.val); m.end < 0 {
		return m, false
	}
	o.pos = m.end
	return m, true
}

func (o *object) finish(brace int) {
	o.pos = skipSpace(o.b, brace+1)
	o.done = o.pos == len(o.b)
}

// name returns a member's key without quotes, unescaped where it holds escapes.
func (o *object) name(m member) []byte {
	end := skipString(o.b, m.key)
	raw := o.b[m.key+1 : end-1]
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw
	}
	var s string
	if json.Unmarshal(o.b[m.key:end], &s) != nil {
		return raw
	}
	return []byte(s)
}

// value returns a member's value as it stands.
func (o *object) value(m member) []byte { return o.b[m.val:m.end] }

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// skipString returns the offset after the string whose opening quote is at i, or
// -1. Most of a request is text: IndexByte goes through it at memory speed.
func skipString(b []byte, i int) int {
	for j := i + 1; ; {
		n := bytes.IndexByte(b[j:], '"')
		if n < 0 {
			return -1
		}
		q := j + n
		k := q
		for k > j && b[k-1] == '\\' {
			k--
		}
		j = q + 1
		if (q-k)%2 == 0 {
			return j
		}
	}
}

// skipValue returns the offset after the value that begins at i, or -1.
func skipValue(b []byte, i int) int {
	if i >= len(b) {
		return -1
	}
	switch b[i] {
	case '"':
		return skipString(b, i)
	case '{', '[':
		depth := 0
		for i < len(b) {
			switch b[i] {
			case '"':
				if i = skipString(b, i); i < 0 {
					return -1
				}
				continue
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
			i++
		}
		return -1
	}
	start := i
	for i < len(b) {
		switch b[i] {
		case ',', '}', ']', '{', '[', ':', '"', ' ', '\n', '\t', '\r':
			if i == start {
				return -1
			}
			return i
		}
		i++
	}
	return -1
}
