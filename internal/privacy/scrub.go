package privacy

import (
	"bytes"
	"encoding/json"
	"strings"
	"unsafe"
)

// ScrubJSON replaces the secrets in a JSON document, object keys included, and
// e-mail addresses too when emails is set. It works on the raw bytes: b is read,
// never written, and returned as it is when it holds no secret. Valid JSON stays
// valid: a card number that is a JSON number becomes the string "[card]".
//
// Escapes hide nothing: a secret behind \n begins a word, and a document that
// writes plain characters as \u002d or \/ is read with those undone.
func ScrubJSON(b []byte, emails bool) json.RawMessage {
	return scrub(b, finder{json: true, emails: emails})
}

// ScrubText is [ScrubJSON] for plain text.
func ScrubText(s string, emails bool) string {
	if len(s) < minSecret {
		return s
	}
	in := unsafe.Slice(unsafe.StringData(s), len(s)) // scrub only reads it
	out := scrub(in, finder{emails: emails})
	if &out[0] == &in[0] {
		return s
	}
	return string(out)
}

// minSecret is the length of the shortest thing that is ever replaced: an e-mail
// address such as a@b.io, or a password in a URL.
const minSecret = 6

// maxRounds bounds how often a changed document is read again. A second reading
// finds what a first replacement has laid open, so that scrubbing what has been
// scrubbed changes nothing.
const maxRounds = 4

func scrub(b []byte, f finder) []byte {
	for range maxRounds {
		f.b = b
		out, n, odd := f.run(b)
		switch {
		case odd == oddPlain:
			// Plain characters are written as escapes: read the document with
			// those undone, but keep its own spelling if there was no secret.
			canon := f
			canon.canonical = true
			out, n, odd = canon.run(unescape(b, false))
			if odd == oddNested {
				canon.deep = true
				if deep, m, _ := canon.run(unescape(b, true)); m > n {
					out, n = deep, m
				}
			}
		case odd == oddNested:
			deep := f
			deep.canonical, deep.deep = true, true
			if d, m, _ := deep.run(unescape(b, true)); m > n {
				out, n = d, m
			}
		}
		if n == 0 {
			return b
		}
		b = out
	}
	return b
}

// spelling says whether a document writes plain characters as escapes.
type spelling int

const (
	oddNone   spelling = iota
	oddNested          // only inside a string that is itself escaped JSON: \\u002d
	oddPlain           // \u002d or \/
)

// finder reads a document once, from left to right, and finds secrets in it.
type finder struct {
	json   bool // b is JSON; otherwise plain text
	emails bool

	canonical bool // level-one escapes of plain characters have been undone
	deep      bool // nested ones too

	b    []byte
	done int // end of the last match: nothing before it is looked at again
	esc  int // end of the last escape seen

	quoteAt  int // inString has read up to here
	inQuotes bool
}

// match is a part of the document and what takes its place.
type match struct {
	from, to int
	with     string
}

// trigger marks the bytes at which a secret can be told. They are chosen to be
// rare in prose, so that reading prose costs one table look-up a byte: the dash
// of sk-, the underscore of ghp_, the J of eyJ, the z of AIza and Authorization.
var trigger = func() (t [256]bool) {
	for _, c := range []byte(`-_@\0123456789zZkKSJbB`) {
		t[c] = true
	}
	return t
}()

// second holds what must follow a trigger that is a letter of ordinary words.
var second = [256]string{
	'z': "a", 'Z': "A", // AIza, Authorization
	'k': "eE", 'K': "IeE", // api-key, AKIA, apiKey
	'S': "IGeE",              // ASIA, SG., clientSecret
	'J': alphanumeric,        // eyJ
	'b': "eEaA", 'B': "eEaA", // bearer, basic
	'-': alphanumeric + "-_",
	'_': alphanumeric + "-_",
}

const alphanumeric = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

// run returns the document without its secrets and how many there were. It
// stops early, with what it has, at an escape that it cannot read through.
func (f *finder) run(b []byte) (out []byte, n int, seen spelling) {
	f.b, f.done, f.esc, f.quoteAt, f.inQuotes = b, 0, 0, 0, false
	out = b
	copied := 0
	for i := 0; i < len(b); {
		if !trigger[b[i]] {
			i++
			continue
		}
		if next := second[b[i]]; next != "" && (i+1 == len(b) || strings.IndexByte(next, b[i+1]) < 0) {
			i++
			continue
		}
		var m match
		var ok bool
		switch c := b[i]; c {
		case '\\':
			var o spelling
			i, o = f.escape(i)
			if o == oddPlain && !f.canonical {
				return b, 0, oddPlain
			}
			if o == oddNested && !f.deep {
				seen = oddNested
			}
			continue
		case '-':
			if m, ok = f.privateKey(i); !ok {
				if m, ok = f.prefixed(i, dashRules); !ok {
					m, ok = f.assigned(i)
				}
			}
		case '_':
			if m, ok = f.prefixed(i, underscoreRules); !ok {
				m, ok = f.assigned(i)
			}
		case '@':
			if m, ok = f.urlPassword(i); !ok && f.emails {
				m, ok = f.email(i)
			}
		case 'z', 'Z':
			if m, ok = f.googleKey(i); !ok {
				m, ok = f.authorization(i)
			}
		case 'k', 'K':
			if m, ok = f.awsKeyID(i, 'K'); !ok {
				m, ok = f.assigned(i)
			}
		case 'S':
			if m, ok = f.awsKeyID(i, 'S'); !ok {
				if m, ok = f.sendgrid(i); !ok {
					m, ok = f.assigned(i)
				}
			}
		case 'J':
			m, ok = f.webToken(i)
		case 'b', 'B':
			m, ok = f.bearer(i)
		default:
			var end int
			m, end, ok = f.card(i)
			if !ok {
				i = end
				continue
			}
		}
		if !ok {
			i++
			continue
		}
		if n == 0 {
			out = make([]byte, 0, len(b)+16)
		}
		out = append(out, b[copied:m.from]...)
		out = append(out, m.with...)
		copied, f.done = m.to, m.to
		i = max(i+1, m.to)
		n++
	}
	if n > 0 {
		out = append(out, b[copied:]...)
	}
	return out, n, seen
}

// escape reads the run of backslashes at i with what they escape, and returns
// the position behind. An even run is, most often, one of a string that holds
// escaped JSON itself, so the letter behind belongs to it as well.
func (f *finder) escape(i int) (end int, o spelling) {
	b := f.b
	j := i
	for j < len(b) && b[j] == '\\' {
		j++
	}
	odd := (j-i)%2 == 1
	if j == len(b) {
		f.esc = j
		return j, oddNone
	}
	level := oddNested
	if odd {
		level = oddPlain
	}
	switch b[j] {
	case 'b', 'f', 'n', 'r', 't', '"':
		j++
		level = oddNone
		if !odd && b[j-1] == '"' {
			j-- // the backslashes escape each other: the quote ends the string
		}
	case '/':
		j++
	case 'u':
		if j+5 > len(b) || !isHex4(b[j+1:j+5]) {
			level = oddNone
			break
		}
		if !plainEscape(b[j+1 : j+5]) {
			level = oddNone
		}
		j += 5
	default:
		level = oddNone
	}
	if !f.json {
		level = oddNone
	}
	f.esc = j
	return j, level
}

// plainEscape reports whether the four hex digits of \uXXXX name a printable
// ASCII character, which needs no escape.
func plainEscape(h []byte) bool {
	return h[0] == '0' && h[1] == '0' && h[2] >= '2' && h[2] <= '7' && !(h[2] == '7' && lower(h[3]) == 'f')
}

// unescape returns b with the escapes of printable ASCII characters and of the
// slash undone; with deep also those that stand behind more than one backslash.
// Quotes and backslashes stay escaped.
func unescape(b []byte, deep bool) []byte {
	out := make([]byte, 0, len(b))
	i := 0
	for {
		next := bytes.IndexByte(b[i:], '\\')
		if next < 0 {
			return append(out, b[i:]...)
		}
		out = append(out, b[i:i+next]...)
		i += next
		j := i
		for j < len(b) && b[j] == '\\' {
			j++
		}
		odd := (j-i)%2 == 1
		var c byte
		width := 0
		switch {
		case j < len(b) && b[j] == '/':
			c, width = '/', 1
		case j+5 <= len(b) && b[j] == 'u' && isHex4(b[j+1:j+5]) && plainEscape(b[j+1:j+5]):
			c, width = unhex(b[j+3])<<4|unhex(b[j+4]), 5
		}
		quoted := c == '"' || c == '\\'
		switch {
		case width == 0, !odd && (!deep || quoted):
			if odd && j < len(b) {
				j++ // the letter of an escape that stays
			}
			out = append(out, b[i:j]...)
			i = j
			continue
		case quoted:
			out = append(out, b[i:j]...)
		case !deep:
			out = append(out, b[i:j-1]...) // the others of an odd run pair up
		}
		out = append(out, c)
		i = j + width
	}
}
