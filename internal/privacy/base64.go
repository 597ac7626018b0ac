package privacy

import (
	"bytes"
	"encoding/json"

	"github.com/hedgerow/hedgerow/internal/rawjson"
)

// Thresholds of PostHog's JavaScript wrappers (contract section 3.5).
const (
	leastFile = 64   // characters of base64 where a file is expected
	leastBare = 1024 // characters of base64 anywhere else
)

// RedactBase64 replaces the files in a JSON document by placeholders: data URLs
// become "[base64 image/png redacted]"; base64 strings from 64 characters under
// a member that holds files, such as data or b64_json, other strings of only
// base64 from 1,024 characters, and arrays of 64 or more bytes become "[base64
// redacted]", with the media type of an adjacent member. b is not modified, and
// returned itself if it has no files. Valid JSON stays valid.
func RedactBase64(b []byte) json.RawMessage {
	if len(b) < leastFile {
		return b
	}
	return redactBare(redactMembers(redactDataURLs(b)))
}

// fileKeys are the members that hold files in the formats of OpenAI, Anthropic,
// Gemini and PostHog, as written after the opening quote.
var fileKeys = [][]byte{[]byte(`data"`), []byte(`file_data"`), []byte(`b64_json"`), []byte(`bytes"`)}

// fileKey returns the length of the key whose opening quote is before b, or 0.
func fileKey(b []byte) int {
	if len(b) == 0 || b[0] != 'd' && b[0] != 'f' && b[0] != 'b' {
		return 0
	}
	for _, key := range fileKeys {
		if bytes.HasPrefix(b, key) {
			return len(key)
		}
	}
	return 0
}

func redactDataURLs(b []byte) []byte {
	sep := []byte(";base64,")
	var out []byte
	copied := 0
	for i := 0; ; {
		k := bytes.Index(b[i:], sep)
		if k < 0 {
			break
		}
		at := i + k
		i = at + len(sep)
		from, escaped := at, false
		for from > copied && at-from < 128 && mediaByte(b[from-1]) {
			escaped = escaped || b[from-1] == '\\'
			from--
		}
		d := bytes.LastIndex(b[from:at], []byte("data:"))
		if d < 0 {
			continue
		}
		from += d
		end := base64Run(b, i)
		if end-i < leastFile {
			continue
		}
		media := b[from+len("data:") : at]
		if p := bytes.IndexByte(media, ';'); p >= 0 {
			media = media[:p]
		}
		if escaped {
			media = bytes.ReplaceAll(media, []byte(`\`), nil)
		}
		out = append(out, b[copied:from]...)
		out = append(out, fileMark(string(media))...)
		copied, i = end, end
	}
	if copied == 0 {
		return b
	}
	return append(out, b[copied:]...)
}

func mediaByte(c byte) bool {
	return class[c]&(alnum|dash|dot|under) != 0 || c == '/' || c == '+' || c == ';' || c == '=' || c == ':' || c == '\\'
}

func fileMark(media string) string {
	switch media {
	case "":
		return "[base64 redacted]"
	case "application/octet-stream":
		return "[base64 file redacted]"
	}
	return "[base64 " + media + " redacted]"
}

// base64Run returns the end of the base64 run at i, including escaped slashes
// and line breaks. The = padding ends it.
func base64Run(b []byte, i int) int {
	for i < len(b) {
		c := b[i]
		switch {
		case class[c]&(alnum|under|dash) != 0, c == '+', c == '/':
			i++
		case c == '=':
			for i < len(b) && b[i] == '=' {
				i++
			}
			return i
		case c == '\\':
			j := i
			for j < len(b) && b[j] == '\\' {
				j++
			}
			if j == len(b) || b[j] != '/' && b[j] != 'n' && b[j] != 'r' {
				return i
			}
			i = j + 1
		default:
			return i
		}
	}
	return i
}

// redactMembers replaces files that are the value of a known member.
func redactMembers(b []byte) []byte {
	var out []byte
	copied := 0
	for i := 0; ; {
		k := bytes.IndexByte(b[i:], '"')
		if k < 0 {
			break
		}
		name := i + k
		n := fileKey(b[name+1:])
		if n == 0 {
			i = name + 1
			continue
		}
		i = rawjson.SkipSpace(b, name+1+n)
		if i >= len(b) || b[i] != ':' {
			continue
		}
		i = rawjson.SkipSpace(b, i+1)
		if i >= len(b) {
			break
		}
		end := 0
		switch b[i] {
		case '"':
			if e := base64Run(b, i+1); e-i-1 >= leastFile && e < len(b) && b[e] == '"' && hasMixedCharacters(b[i+1:e]) {
				end = e + 1
			}
		case '[':
			end = byteArray(b, i)
		}
		if end == 0 {
			continue
		}
		out = append(out, b[copied:i]...)
		out = append(out, '"')
		out = append(out, fileMark(mediaNear(b, name, end))...)
		out = append(out, '"')
		copied, i = end, end
	}
	if copied == 0 {
		return b
	}
	return append(out, b[copied:]...)
}

// hasMixedCharacters reports whether a base64 run looks like a file rather than one long
// word or number: it has upper and lower case letters, or digits.
func hasMixedCharacters(b []byte) bool {
	var upper, low, digit bool
	for _, c := range b[:min(len(b), 1024)] {
		switch {
		case c >= 'A' && c <= 'Z':
			upper = true
		case c >= 'a' && c <= 'z':
			low = true
		case c >= '0' && c <= '9':
			digit = true
		}
	}
	return upper && low || upper && digit && len(b) >= leastBare
}

// byteArray returns the end of an array of at least 64 numbers from 0 to 255, or 0.
func byteArray(b []byte, i int) int {
	n, v, digits := 0, 0, 0
	for i++; i < len(b); i++ {
		switch c := b[i]; {
		case isDigit(c):
			if v, digits = v*10+int(c-'0'), digits+1; v > 255 || digits > 3 {
				return 0
			}
		case c == ',' || c == ']':
			if digits == 0 {
				return 0
			}
			if n++; c == ']' {
				if n < leastFile {
					return 0
				}
				return i + 1
			}
			v, digits = 0, 0
		case c == ' ' || c == '\n' || c == '\t' || c == '\r':
		default:
			return 0
		}
	}
	return 0
}

// mediaNear finds a media type in the members next to the file.
func mediaNear(b []byte, from, to int) string {
	const far = 96
	before := b[max(0, from-far):from]
	if k := bytes.LastIndexByte(before, '{'); k >= 0 {
		before = before[k:]
	}
	after := b[to:min(len(b), to+far)]
	if k := bytes.IndexByte(after, '}'); k >= 0 {
		after = after[:k]
	}
	for _, part := range [][]byte{before, after} {
		for _, name := range []string{`"media_type"`, `"mime_type"`, `"mimeType"`, `"mediaType"`} {
			k := bytes.Index(part, []byte(name))
			if k < 0 {
				continue
			}
			rest := bytes.TrimLeft(part[k+len(name):], " :\"")
			if end := bytes.IndexByte(rest, '"'); end > 0 && !bytes.ContainsFunc(rest[:end], func(r rune) bool { return r > 127 || !mediaByte(byte(r)) || r == '\\' }) {
				return string(rest[:end])
			}
		}
	}
	return ""
}

// redactBare replaces long strings of only base64. It checks one position in
// every 512 bytes, because a run of the minimum length covers two of them, so a
// document without files costs almost nothing.
func redactBare(b []byte) []byte {
	const step = leastBare / 2
	var out []byte
	copied := 0
	for p := step; p < len(b); p += step {
		if class[b[p]]&(alnum|under|dash|sign) == 0 && b[p] != '\\' {
			continue
		}
		from := p
		for from > copied && b[from-1] != '"' && (class[b[from-1]]&(alnum|under|dash|sign) != 0 || b[from-1] == '\\') && p-from < step {
			from--
		}
		if from == copied || b[from-1] != '"' {
			// The string begins more than a step before p: an earlier position
			// would have found it, or its beginning is not base64.
			continue
		}
		end := base64Run(b, from)
		if end-from < leastBare || end >= len(b) || b[end] != '"' && b[end] != '\\' || !hasMixedCharacters(b[from:end]) {
			continue
		}
		out = append(out, b[copied:from]...)
		out = append(out, fileMark("")...)
		copied = end
		p = end
	}
	if copied == 0 {
		return b
	}
	return append(out, b[copied:]...)
}
