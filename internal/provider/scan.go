package provider

import (
	"bytes"
	"encoding/json"
)

// Member is one member of a JSON object, as offsets into the text: the key's
// opening quote, the value's first byte, and the byte after the value.
type Member struct{ Key, Val, End int }

// Object walks the members of one JSON object in a single pass without decoding
// it. Nested values are skipped by their brackets and not checked: for text that
// is valid JSON the walk is exact, and for other text it either stops or
// delimits values in a way that is the same however often it is walked.
type Object struct {
	b     []byte
	pos   int
	begun bool
	done  bool // the closing brace was found, and nothing but space after it
}

// NewObject returns a walk over b, which it keeps.
func NewObject(b []byte) Object { return Object{b: b} }

// Next returns the next member. After the last, or at a fault, ok is false;
// [Object.Done] reports which.
func (o *Object) Next() (m Member, ok bool) {
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
	m.Key = i
	if i = skipString(o.b, i); i < 0 {
		return m, false
	}
	if i = skipSpace(o.b, i); i >= len(o.b) || o.b[i] != ':' {
		return m, false
	}
	m.Val = skipSpace(o.b, i+1)
	if m.End = skipValue(o.b, m.Val); m.End < 0 {
		return m, false
	}
	o.pos = m.End
	return m, true
}

func (o *Object) finish(brace int) {
	o.pos = skipSpace(o.b, brace+1)
	o.done = o.pos == len(o.b)
}

// Name returns a member's key without quotes, unescaped where it holds escapes.
func (o *Object) Name(m Member) []byte {
	end := skipString(o.b, m.Key)
	raw := o.b[m.Key+1 : end-1]
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw
	}
	var s string
	if json.Unmarshal(o.b[m.Key:end], &s) != nil {
		return raw
	}
	return []byte(s)
}

// key returns a member's key as is, quotes included.
func (o *Object) key(m Member) []byte { return o.b[m.Key:skipString(o.b, m.Key)] }

// Done reports whether the walk has come to the object's end, with nothing but
// space after it.
func (o *Object) Done() bool { return o.done }

// Value returns a member's value as is.
func (o *Object) Value(m Member) []byte { return o.b[m.Val:m.End] }

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
