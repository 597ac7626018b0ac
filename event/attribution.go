package event

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxValueLen is the maximum number of characters of a value that a caller
// sets: a user, a session, a tag, the value of a header.
const MaxValueLen = 1000

// CleanValue returns a caller's value as valid UTF-8 without control
// characters, trimmed, of at most [MaxValueLen] characters.
func CleanValue(s string) string {
	simple := len(s) <= MaxValueLen
	for i := 0; simple && i < len(s); i++ {
		simple = s[i] >= ' ' && s[i] < 0x7f
	}
	if !simple {
		s = strings.Map(func(r rune) rune {
			if unicode.IsControl(r) || r == utf8.RuneError {
				return -1
			}
			return r
		}, s)
	}
	return strings.TrimSpace(FirstChars(strings.TrimSpace(s), MaxValueLen))
}

// ParseTraceparent parses a W3C Trace Context header,
// version-traceid-parentid-flags in lower-case hexadecimal, where neither id is
// all zeros. Both results are "" if v is invalid.
func ParseTraceparent(v string) (trace, parent string) {
	v = strings.TrimSpace(v)
	if len(v) < 55 || v[2] != '-' || v[35] != '-' || v[52] != '-' || v[:2] == "ff" || len(v) > 55 && (v[:2] == "00" || v[55] != '-') {
		return "", ""
	}
	trace, parent = v[3:35], v[36:52]
	if !lowerHex(v[:2]) || !lowerHex(trace) || !lowerHex(parent) || !lowerHex(v[53:55]) || strings.Trim(trace, "0") == "" || strings.Trim(parent, "0") == "" {
		return "", ""
	}
	return trace, parent
}

func lowerHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
