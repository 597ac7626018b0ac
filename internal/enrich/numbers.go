package enrich

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// JSON's grammar allows values that readers reject: numbers outside of float64,
// and unpaired surrogates. One of them makes a whole batch, response or query
// unreadable. On intake such a number becomes a string, and such a surrogate
// U+FFFD.

// isOdd reports whether a valid JSON value has either.
func isOdd(v []byte) bool {
	at, _ := nextHuge(v, 0)
	return at >= 0 || nextHalf(v, 0) >= 0
}

// sanitize returns a valid JSON value in a form that every reader accepts; v itself
// if it has that form.
func sanitize(v json.RawMessage) json.RawMessage {
	if at, end := nextHuge(v, 0); at >= 0 {
		out, from := make([]byte, 0, len(v)+16), 0
		for at >= 0 {
			out = append(append(append(append(out, v[from:at]...), '"'), v[at:end]...), '"')
			from = end
			at, end = nextHuge(v, from)
		}
		v = append(out, v[from:]...)
	}
	if at := nextHalf(v, 0); at >= 0 {
		v = bytes.Clone(v)
		for ; at >= 0; at = nextHalf(v, at+6) {
			copy(v[at:], `\ufffd`)
		}
	}
	return v
}

// nextHalf finds the first escaped unpaired surrogate from an index on, or -1.
// The index must not be at a low surrogate or after a backslash.
func nextHalf(v []byte, from int) int {
	for i := from; i < len(v); {
		n := bytes.IndexByte(v[i:], '\\')
		if n < 0 {
			return -1
		}
		i += n
		r := escaped(v, i)
		switch {
		case r < 0:
			i += 2 // another escape; after a backslash it skips that one
		case !utf16.IsSurrogate(r):
			i += 6
		case r < 0xdc00 && utf16.DecodeRune(r, escaped(v, i+6)) != utf8.RuneError:
			i += 12
		default:
			return i
		}
	}
	return -1
}

// escaped parses \uXXXX at i; it returns -1 for anything else.
func escaped(v []byte, i int) rune {
	if i+6 > len(v) || v[i] != '\\' || v[i+1] != 'u' {
		return -1
	}
	n, err := strconv.ParseUint(string(v[i+2:i+6]), 16, 16)
	if err != nil {
		return -1
	}
	return rune(n)
}

// nextHuge finds the first such number from an index on: [at, end), or -1. The
// index must not be inside a string.
func nextHuge(v []byte, from int) (at, end int) {
	for i := from; i < len(v); {
		switch c := v[i]; {
		case c == '"':
			i = afterString(v, i)
		case c == '-' || c >= '0' && c <= '9':
			start := i
			exponent := false
			for i++; i < len(v); i++ {
				if c := v[i]; c == 'e' || c == 'E' {
					exponent = true
				} else if (c < '0' || c > '9') && c != '.' && c != '+' && c != '-' {
					break
				}
			}
			// Without an exponent, more than 308 digits are too large.
			if !exponent && i-start < 300 {
				continue
			}
			if f, _ := strconv.ParseFloat(string(v[start:i]), 64); math.IsInf(f, 0) {
				return start, i
			}
		default:
			i++
		}
	}
	return -1, 0
}

// afterString returns the end of the string that begins at i.
func afterString(v []byte, i int) int {
	for i++; i < len(v); i++ {
		n := bytes.IndexByte(v[i:], '"')
		if n < 0 {
			return len(v)
		}
		end := i + n
		slashes := 0
		for k := end - 1; k >= i && v[k] == '\\'; k-- {
			slashes++
		}
		if slashes%2 == 0 {
			return end + 1
		}
		i = end
	}
	return len(v)
}
