package privacy

import (
	"bytes"
	"encoding/json"
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

// minSecret is the length of the shortest secret that is replaced: an e-mail
// address such as a@b.io, or a password in a URL.
const minSecret = 6

// maxRounds limits how often a changed document is scanned again. Another scan
// finds secrets that a replacement has exposed, so that scrubbing is
// idempotent.
const maxRounds = 4

func scrub(b []byte, f finder) []byte {
	for range maxRounds {
		f.b = b
		out, n, odd := f.run(b)
		switch {
		case odd == oddPlain:
			// The document escapes plain characters: scan it with those
			// decoded, but return it unchanged if it has no secret.
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

// spelling reports whether a document has escapes of plain characters.
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

	canonical bool // level-one escapes of plain characters have been decoded
	deep      bool // nested ones too

	b    []byte
	done int // end of the last match: nothing before it is checked again
	esc  int // end of the last escape seen

	inner  bool // b is a reassembled token: see broken
	joined int  // broken has read up to here

	quoteAt  int // inString has read up to here
	inQuotes bool
}

// match is a part of the document and its replacement.
type match struct {
	from, to int
	with     string
}

// What to do at a byte. Most of a text is words, and most words are skipped
// after checking their first two bytes.
type step byte

const (
	stepOver   step = iota
	stepWord        // a letter, a digit, an underscore: start of a word
	stepEscape      // a backslash
	stepAt          // @ of a URL or an e-mail address
	stepDash        // of a PEM block or an option
	stepAssign      // = : >
	stepTilde       // of a secret of Microsoft Entra
	stepCode        // % of an escape of a URL
	stepJoint       // a line break or a quote: a token may be broken here
)

var steps = func() (t [256]step) {
	for c := range t {
		if class[c]&letter != 0 {
			t[c] = stepWord
		}
	}
	t['\\'], t['@'], t['-'], t['~'], t['%'] = stepEscape, stepAt, stepDash, stepTilde, stepCode
	t['='], t[':'], t['>'] = stepAssign, stepAssign, stepAssign
	t['\n'], t['\r'], t['"'], t['\''] = stepJoint, stepJoint, stepJoint, stepJoint
	return t
}()

// run returns the document without its secrets, and their number. It stops
// early at an escape that it cannot decode, and returns what it has.
func (f *finder) run(b []byte) (out []byte, n int, seen spelling) {
	f.b, f.done, f.esc, f.joined, f.quoteAt, f.inQuotes = b, 0, 0, 0, 0, false
	out = b
	copied := 0
	for i := 0; i < len(b); {
		if c := b[i]; steps[c] == stepOver {
			i++
			continue
		}
		m, next, ok, o := f.step(i)
		if o == oddPlain && !f.canonical {
			return b, 0, oddPlain
		}
		if o == oddNested && !f.deep {
			seen = oddNested
		}
		if !ok {
			i = next
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

// step looks for a secret at i, and returns where to continue if there is none.
func (f *finder) step(i int) (m match, next int, ok bool, o spelling) {
	b := f.b
	next = i + 1
	switch steps[b[i]] {
	case stepWord:
		m, next, ok = f.word(i)
	case stepEscape:
		if m, ok = f.broken(i); !ok {
			next, o = f.escape(i)
		}
	case stepAt:
		if m, ok = f.urlPassword(i); !ok && f.emails {
			m, ok = f.email(i)
		}
	case stepDash:
		if m, ok = f.privateKey(i); !ok {
			m, ok = f.option(i)
		}
	case stepAssign:
		m, ok = f.assigned(i)
	case stepTilde:
		m, ok = f.entraSecret(i)
	case stepCode:
		if i+2 < len(b) && isHex(b[i+1]) && isHex(b[i+2]) {
			next = i + 3 // %20sk-…: the word begins after it
		}
	case stepJoint:
		m, ok = f.broken(i)
	}
	return m, next, ok, o
}

// word looks for a secret that begins with the word at i. It returns where to
// continue if there is none.
func (f *finder) word(i int) (m match, next int, ok bool) {
	if m, ok = f.known(i); ok {
		return m, 0, true
	}
	b := f.b
	c := b[i]
	if class[c]&digits != 0 {
		m, next, ok = f.card(i)
		if ok {
			return m, 0, true
		}
	} else {
		next = i + 1
	}
	for _, c := range b[next:] {
		if class[c]&letter == 0 {
			break
		}
		next++
	}
	if next-i >= 8 {
		if m, ok = f.shaped(i, next); ok {
			return m, 0, true
		}
	}
	switch c {
	case 'e':
		if f.at(i+1) == 'y' {
			m, ok = f.webToken(i)
		}
	case 'b', 'B':
		if m, ok = f.bearer(i); !ok && next-i == 2 {
			m, ok = f.spoken(i, next)
		}
	case 'i':
		if next-i == 2 {
			m, ok = f.spoken(i, next)
		}
	case 'p', 'P':
		if next-i == 8 {
			m, ok = f.spoken(i, next)
		}
	}
	return m, next, ok
}

// escape reads the backslashes at i with what they escape, and returns the
// position after it. An even number is usually from a string that itself
// contains escaped JSON, so the next letter belongs to it as well.
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

// plainEscape reports whether the four hex digits of \uXXXX are a printable
// ASCII character, which needs no escape.
func plainEscape(h []byte) bool {
	return h[0] == '0' && h[1] == '0' && h[2] >= '2' && h[2] <= '7' && !(h[2] == '7' && lower(h[3]) == 'f')
}

// unescape returns b with the escapes of printable ASCII characters and of the
// slash decoded; with deep also those after more than one backslash. Quotes and
// backslashes stay escaped.
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
				j++ // the letter of an escape that is kept
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
