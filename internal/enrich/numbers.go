package enrich

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
)

// JSON sets no limit to its numbers, and readers do: one 1e999 makes a whole batch
// or answer unreadable to them. Such a number becomes a string at intake.

// hasHuge reports whether a valid JSON value has a number that no float64 holds.
func hasHuge(v []byte) bool {
	at, _ := nextHuge(v, 0)
	return at >= 0
}

// tame writes the numbers of a valid JSON value that no float64 holds as strings.
// It returns v itself where there are none.
func tame(v json.RawMessage) json.RawMessage {
	at, end := nextHuge(v, 0)
	if at < 0 {
		return v
	}
	out, from := make([]byte, 0, len(v)+16), 0
	for at >= 0 {
		out = append(append(append(append(out, v[from:at]...), '"'), v[at:end]...), '"')
		from = end
		at, end = nextHuge(v, from)
	}
	return append(out, v[from:]...)
}

// nextHuge finds the first such number from an index on: [at, end), or -1. The
// index is in no string.
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
			// Without an exponent, more than 308 digits make one too large.
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

// afterString is where a string ends that begins at i.
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
