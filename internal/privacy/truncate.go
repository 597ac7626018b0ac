package privacy

import (
	"encoding/json"
	"maps"

	"github.com/hedgerow/hedgerow/event"
)

// MaxString is the longest string, in bytes of UTF-8, that is sent to PostHog
// if content is sent (contract section 3.5).
const MaxString = 200_000

const (
	cutMark  = "... [truncated]"
	dropMark = `"[dropped: too large]"`
)

// Truncate shortens every string of a JSON document that is longer than limit
// bytes of UTF-8, at a character boundary, and ends it with "... [truncated]",
// which counts towards the limit. Limits under 32 are treated as 32. b is not
// modified, and returned itself if nothing is too long. Valid JSON stays valid.
func Truncate(b []byte, limit int) json.RawMessage {
	limit = max(limit, 32)
	if len(b) <= limit {
		return b
	}
	var out []byte
	copied := 0
	for i := 0; i < len(b); i++ {
		if b[i] != '"' {
			continue
		}
		// cut is the last position that leaves space for the mark; width counts
		// bytes of UTF-8, not of the JSON source.
		i++
		cut, width := i, 0
		for i < len(b) && b[i] != '"' {
			if width <= limit-len(cutMark) {
				cut = i
			}
			step, bytes := char(b[i:])
			i += step
			width += bytes
		}
		if width > limit {
			out = append(out, b[copied:cut]...)
			out = append(out, cutMark...)
			copied = min(i, len(b))
		}
	}
	if copied == 0 {
		return b
	}
	return append(out, b[copied:]...)
}

// char returns the length of the first character of the inside of a JSON
// string, in the source and in UTF-8. An escaped surrogate pair is one character.
func char(b []byte) (source, utf8Len int) {
	c := b[0]
	switch {
	case c == '\\' && len(b) >= 6 && b[1] == 'u':
		switch r := code(b[2:6]); {
		case r < 0x80:
			return 6, 1
		case r < 0x800:
			return 6, 2
		case r >= 0xD800 && r < 0xDC00 && len(b) >= 12 && b[6] == '\\' && b[7] == 'u':
			return 12, 4
		}
		return 6, 3
	case c == '\\' && len(b) >= 2:
		return 2, 1
	case c < 0x80:
		return 1, 1
	}
	n := 1
	for n < len(b) && n < 4 && b[n]&0xC0 == 0x80 {
		n++
	}
	return n, n
}

func code(h []byte) (r int) {
	for _, c := range h {
		r = r<<4 | int(unhex(c)&15)
	}
	return r
}

// spare is the space for the journal's additions to a frame: headers, a
// subject.
const spare = 64 << 10

// Fit makes the event's frame smaller than [event.MaxEventBytes] and reports
// whether it had to. The longest strings of the content are shortened first, to
// 200,000 bytes, then repeatedly by half. If that is not enough, because the
// content consists of very many short strings, whole parts are replaced by a
// mark, the largest first, and finally the largest custom properties. It never
// fails.
func Fit(e *event.Event) bool { return fit(e, event.MaxEventBytes-spare) }

func fit(e *event.Event, limit int) bool {
	if sizeOf(e) <= limit {
		return false
	}
	e.Properties, e.ModelParameters, e.ProviderMetadata = maps.Clone(e.Properties), maps.Clone(e.ModelParameters), maps.Clone(e.ProviderMetadata)
	parts := e.Content.Parts()
	for most := MaxString; most >= 512 && sizeOf(e) > limit; most /= 2 {
		for _, p := range parts {
			*p = Truncate(*p, most)
		}
		for _, m := range rawMaps(e) {
			for k, v := range m {
				m[k] = Truncate(v, most)
			}
		}
		for _, at := range textFields {
			s := at(e)
			*s = cutText(*s, most)
		}
	}
	for sizeOf(e) > limit {
		largest := parts[0]
		for _, p := range parts {
			if len(*p) > len(*largest) {
				largest = p
			}
		}
		if len(*largest) <= len(dropMark) {
			break
		}
		*largest = json.RawMessage(dropMark)
	}
	for sizeOf(e) > limit {
		var from map[string]json.RawMessage
		key, most := "", -1
		for _, m := range rawMaps(e) {
			for k, v := range m {
				if n := len(k) + len(v); n > most {
					from, key, most = m, k, n
				}
			}
		}
		if most < 0 {
			break
		}
		delete(from, key)
	}
	if sizeOf(e) > limit {
		e.Tags, e.Flags, e.Groups = nil, nil, nil
	}
	return true
}

// sizeOf is an upper bound of the length of the event's frame. It is cheap for
// events that are small enough however their metadata is escaped.
func sizeOf(e *event.Event) int {
	const escaped = 6 // bytes of a < in JSON, as encoding/json writes it
	content, meta := e.Content.Size(), metaSize(e)
	if content+escaped*meta <= event.MaxEventBytes/2 {
		return content + escaped*meta
	}
	b, err := json.Marshal(e)
	if err != nil {
		return content + escaped*meta
	}
	return content + len(b) + 64
}

func metaSize(e *event.Event) int {
	n := 4 << 10
	for _, m := range rawMaps(e) {
		for k, v := range m {
			n += len(k) + len(v) + 4
		}
	}
	for _, at := range textFields {
		n += len(*at(e))
	}
	for _, t := range e.Tags {
		n += len(t) + 3
	}
	for _, m := range []map[string]string{e.Flags, e.Groups} {
		for k, v := range m {
			n += len(k) + len(v) + 6
		}
	}
	return n
}

func rawMaps(e *event.Event) []map[string]json.RawMessage {
	return []map[string]json.RawMessage{e.Properties, e.ModelParameters, e.ProviderMetadata}
}

// cutText is Truncate for plain text.
func cutText(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	end := limit - len(cutMark)
	for end > 0 && s[end]&0xC0 == 0x80 {
		end--
	}
	return s[:end] + cutMark
}
