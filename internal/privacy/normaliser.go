package privacy

import (
	"encoding/json"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// normal normalizes texts so that a quotation equals its source: letters and
// digits, in lower case, with one space for anything between them. JSON escapes
// of any depth are decoded. Unicode variants of a letter - with a combining
// accent, in full width, as a ligature - are equal, and invisible characters are
// skipped. The zero value starts a text.
type normal struct {
	gap     bool // something other than a letter or digit precedes the next one
	begun   bool
	escaped bool // a backslash, or several, precede the next character
}

// fold maps an ASCII character; 0 is a gap.
var fold = func() (t [utf8.RuneSelf]byte) {
	for c := range t {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
			t[c] = byte(c)
		case c >= 'A' && c <= 'Z':
			t[c] = byte(c) | 0x20
		}
	}
	return t
}()

func (n *normal) letter(r rune, emit func(rune)) {
	if n.gap && n.begun {
		emit(' ')
	}
	n.gap, n.begun = false, true
	emit(r)
}

// text reads plain text.
func (n *normal) text(s string, emit func(rune)) {
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			n.rune(r, emit)
			i += size
			continue
		}
		if n.escaped && c == 'u' && i+5 <= len(s) {
			if r, ok := hex4(s[i+1 : i+5]); ok {
				n.escaped = false
				n.rune(r, emit)
				i += 5
				continue
			}
		}
		n.ascii(c, emit)
		i++
	}
}

func (n *normal) ascii(c byte, emit func(rune)) {
	if c == '\\' {
		n.gap, n.escaped = true, true
		return
	}
	if n.escaped {
		n.escaped = false
		if c == 'n' || c == 't' || c == 'r' {
			return // a line break, by its escape
		}
	}
	if f := fold[c]; f != 0 {
		n.letter(rune(f), emit)
		return
	}
	n.gap = true
}

func (n *normal) rune(r rune, emit func(rune)) {
	if r < utf8.RuneSelf {
		n.ascii(byte(r), emit)
		return
	}
	n.escaped = false
	switch {
	case wide(r):
		n.letter(r, emit)
		emit(r)
	case invisible(r):
	case decomposes(r):
		for _, part := range string(norm.NFKD.AppendString(nil, string(r))) {
			switch {
			case part < utf8.RuneSelf:
				n.ascii(byte(part), emit)
			case wide(part): // half-width katakana
				n.letter(part, emit)
				emit(part)
			case invisible(part):
			case unicode.IsLetter(part), unicode.IsDigit(part), unicode.IsMark(part):
				n.letter(unicode.ToLower(part), emit)
			default:
				n.gap = true
			}
		}
	case unicode.IsLetter(r), unicode.IsDigit(r), unicode.IsMark(r):
		n.letter(unicode.ToLower(r), emit)
	default:
		n.gap = true
	}
}

// wide are scripts in which twelve characters have the content of 24 letters.
func wide(r rune) bool {
	return r >= 0x3040 && unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul)
}

// invisible reports whether a character is not displayed on its own: format
// characters, such as zero-width spaces and soft hyphens, and combining
// accents.
func invisible(r rune) bool {
	return r >= 0x300 && r <= 0x36f || r >= 0x1ab0 && r <= 0x1aff || r >= 0x1dc0 && r <= 0x1dff || r >= 0x20d0 && r <= 0x20ff ||
		r >= 0xfe00 && r <= 0xfe0f || r >= 0xfe20 && r <= 0xfe2f || unicode.Is(unicode.Cf, r)
}

// decomposes reports whether a character is equivalent to a sequence of others.
func decomposes(r rune) bool {
	var b [utf8.UTFMax]byte
	return norm.NFKD.Properties(b[:utf8.EncodeRune(b[:], r)]).Decomposition() != nil
}

func hex4(s string) (rune, bool) {
	var r rune
	for i := range 4 {
		c := s[i]
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	return r, true
}

// json reads the strings of a JSON text, each separately.
func (r *reader) json(v json.RawMessage) {
	for i := 0; i < len(v); i++ {
		if v[i] != '"' {
			continue
		}
		r.reset()
		for i++; i < len(v) && v[i] != '"'; {
			c := v[i]
			switch {
			case c == '\\' && i+1 < len(v):
				i += 2
				switch e := v[i-1]; {
				case e == '\\':
					r.n.ascii('\\', r.out)
				case e == 'u' && i+4 <= len(v):
					x, ok := hex4(string(v[i : i+4]))
					if ok {
						i += 4
						r.n.rune(x, r.out)
					}
				case e == '"', e == '/':
					r.n.ascii(e, r.out)
				default: // \n \t \r \b \f
					r.n.gap, r.n.escaped = true, false
				}
			case c >= utf8.RuneSelf:
				x, size := utf8.DecodeRune(v[i:])
				r.n.rune(x, r.out)
				i += size
			default:
				if f := fold[c]; f != 0 && !r.n.escaped && !r.n.gap {
					r.n.begun = true
					r.emit(rune(f))
				} else if r.n.escaped && c == 'u' && i+5 <= len(v) {
					if x, ok := hex4(string(v[i+1 : i+5])); ok {
						r.n.escaped = false
						r.n.rune(x, r.out)
						i += 4
					} else {
						r.n.ascii(c, r.out)
					}
				} else {
					r.n.ascii(c, r.out)
				}
				i++
			}
		}
	}
}
