package rawjson

import (
	"bytes"
	"encoding/json"
	"iter"
)

// Member is one member of a JSON object, as offsets into the text: the key's
// opening quote, the byte after its closing quote, the value's first byte, and
// the byte after the value.
type Member struct{ Key, KeyEnd, Val, End int }

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
	i := SkipSpace(o.b, o.pos)
	if i >= len(o.b) || o.done {
		return m, false
	}
	switch {
	case !o.begun:
		if o.b[i] != '{' {
			return m, false
		}
		o.begun = true
		if i = SkipSpace(o.b, i+1); i < len(o.b) && o.b[i] == '}' {
			o.finish(i)
			return m, false
		}
	case o.b[i] == '}':
		o.finish(i)
		return m, false
	case o.b[i] == ',':
		i = SkipSpace(o.b, i+1)
	default:
		return m, false
	}
	if i >= len(o.b) || o.b[i] != '"' {
		return m, false
	}
	m.Key = i
	if m.KeyEnd = skipString(o.b, i); m.KeyEnd < 0 {
		return m, false
	}
	if i = SkipSpace(o.b, m.KeyEnd); i >= len(o.b) || o.b[i] != ':' {
		return m, false
	}
	m.Val = SkipSpace(o.b, i+1)
	if m.End = SkipValue(o.b, m.Val); m.End < 0 {
		return m, false
	}
	o.pos = m.End
	return m, true
}

func (o *Object) finish(brace int) {
	o.pos = SkipSpace(o.b, brace+1)
	o.done = o.pos == len(o.b)
}

// Name returns a member's key without quotes, unescaped where it holds escapes.
func (o *Object) Name(m Member) []byte {
	raw := o.b[m.Key+1 : m.KeyEnd-1]
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw
	}
	return []byte(Unescape(raw))
}

// Key returns a member's key as it is written, quotes included.
func (o *Object) Key(m Member) []byte { return o.b[m.Key:m.KeyEnd] }

// Done reports whether the walk has come to the object's end, with nothing but
// space after it.
func (o *Object) Done() bool { return o.done }

// Value returns a member's value as is.
func (o *Object) Value(m Member) []byte { return o.b[m.Val:m.End] }

// Members iterates over an object's members: keys without quotes, as they are
// written, and values. [Unescape] decodes a key. Duplicate keys are repeated.
// Anything but an object has none.
func Members(b []byte) iter.Seq2[[]byte, json.RawMessage] {
	return func(yield func([]byte, json.RawMessage) bool) {
		o := NewObject(b)
		for m, ok := o.Next(); ok; m, ok = o.Next() {
			if !yield(b[m.Key+1:m.KeyEnd-1], json.RawMessage(b[m.Val:m.End:m.End])) {
				return
			}
		}
	}
}

// Elements iterates over an array's elements. Anything but an array has none.
func Elements(b []byte) iter.Seq[json.RawMessage] {
	return func(yield func(json.RawMessage) bool) {
		i := SkipSpace(b, 0)
		if i >= len(b) || b[i] != '[' {
			return
		}
		for i = SkipSpace(b, i+1); ; i = SkipSpace(b, i+1) {
			end := SkipValue(b, i)
			if end < 0 || !yield(json.RawMessage(b[i:end:end])) {
				return
			}
			if i = SkipSpace(b, end); i >= len(b) || b[i] != ',' {
				return
			}
		}
	}
}

// SkipSpace returns the offset of the first byte at i or after it that is not white
// space.
func SkipSpace(b []byte, i int) int {
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

// SkipValue returns the offset after the value that begins at i, or -1.
func SkipValue(b []byte, i int) int {
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
