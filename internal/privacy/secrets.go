package privacy

import "bytes"

// Character classes of secrets.
const (
	digits  uint16 = 1 << iota
	lowHex         // a–f
	upHex          // A–F
	lowRest        // g–z
	upRest         // G–Z
	under          // _
	dash           // -
	dot            // .
	slash          // + /
	equal          // =
	tilde          // ~

	low    = lowHex | lowRest
	upper  = upHex | upRest
	alpha  = low | upper
	alnum  = alpha | digits
	letter = alnum | under
	wordy  = letter | dash
	sign   = slash | equal | tilde
	anyHex = digits | lowHex | upHex
)

// class has the classes of every byte.
var class = func() (t [256]uint16) {
	for c := range t {
		switch {
		case c >= '0' && c <= '9':
			t[c] = digits
		case c >= 'a' && c <= 'f':
			t[c] = lowHex
		case c >= 'A' && c <= 'F':
			t[c] = upHex
		case c >= 'g' && c <= 'z':
			t[c] = lowRest
		case c >= 'G' && c <= 'Z':
			t[c] = upRest
		}
	}
	t['_'], t['-'], t['.'], t['='], t['~'] = under, dash, dot, equal, tilde
	t['+'], t['/'] = slash, slash
	return t
}()

// longestKey limits how much of a token is checked, so that a document made of
// prefixes is still scanned in linear time.
const longestKey = 256

// judged is how much of an open run is checked.
const judged = 96

func mark(name string) string { return "[secret:" + name + "]" }

// span returns the end of the run of bytes of the class that begins at from, or
// from+most if it is longer.
func (f *finder) span(from int, set uint16, most int) int {
	end := len(f.b)
	if most < end-from {
		end = from + most
	}
	i := from
	for i < end && class[f.b[i]]&set != 0 {
		i++
	}
	return i
}

// starts reports whether a word can start at from: no match or escape overlaps
// it, and no letter or digit precedes it.
func (f *finder) starts(from int) bool {
	switch {
	case from < f.done || from < f.esc || from < 0:
		return false
	case from == 0 || from == f.done || from == f.esc:
		return true
	case class[f.b[from-1]]&letter == 0:
		return true
	}
	// %20sk-…: the end of a URL escape.
	return from-3 >= f.done && f.b[from-3] == '%' && isHex(f.b[from-2]) && isHex(f.b[from-1])
}

// at returns the byte at k, or 0 if there is none or it has been replaced.
func (f *finder) at(k int) byte {
	if k < f.done || k >= len(f.b) {
		return 0
	}
	return f.b[k]
}

// fold reports whether the bytes at from are the lower-case word, in any case.
func (f *finder) fold(from int, text string) bool {
	if from < f.done || from < 0 || from+len(text) > len(f.b) {
		return false
	}
	for k := range len(text) {
		if lower(f.b[from+k]) != text[k] {
			return false
		}
	}
	return true
}

// has reports whether the document continues with text at from.
func (f *finder) has(from int, text string) bool {
	return from >= f.done && from >= 0 && from+len(text) <= len(f.b) && string(f.b[from:from+len(text)]) == text
}

// random distinguishes a generated key from words joined by dashes: it has a
// long part without a dash, or many digits.
func random(tok []byte) bool {
	longest, run, n := 0, 0, 0
	for _, c := range tok {
		if isDigit(c) {
			n++
		}
		if class[c]&alnum != 0 {
			run++
			longest = max(longest, run)
		} else {
			run = 0
		}
	}
	return longest >= 16 && n > 0 || longest >= 24 || len(tok) >= 20 && n >= 6
}

// mixed is sufficient after a prefix that no word has: a digit, or one long
// run.
func mixed(tok []byte) bool {
	return bytes.ContainsAny(tok, "0123456789") || random(tok)
}

// scattered distinguishes a generated token from a word and from a name in
// camel case: capitals, small letters and digits alternate without a pattern.
func scattered(tok []byte) bool {
	n, changes, _ := kinds(tok)
	return n[0] > 0 && n[1]+n[2] > 0 && changes >= 3 || n[1] > 0 && n[2] > 0 && changes*3 >= len(tok) && len(tok) >= 8
}

// threefold requires capitals, small letters and digits, which excludes
// function names, slugs, hashes and numbers.
func threefold(tok []byte) bool {
	n, changes, _ := kinds(tok)
	return n[0] > 0 && n[1] > 0 && n[2] > 0 && changes*4 >= len(tok)
}

// kinds counts the digits, small letters, capitals and other bytes of tok, and
// how often the kind changes from one byte to the next. A capital at the start
// of a word is not a change.
func kinds(tok []byte) (n [4]int, changes int, others int) {
	before := -1
	for i, c := range tok {
		k := 3
		switch cl := class[c]; {
		case cl&digits != 0:
			k = 0
		case cl&low != 0:
			k = 1
		case cl&upper != 0:
			k = 2
		}
		n[k]++
		if i > 0 && k != before && !(i == 1 && before == 2 && k == 1) {
			changes++
		}
		before = k
	}
	return n, changes, n[3]
}

// continues reports whether a run after a line break or a joint of strings
// looks like the rest of the token before it rather than the next word.
func continues(tok []byte) bool {
	if len(tok) > 64 {
		tok = tok[:64]
	}
	n, changes, _ := kinds(tok)
	switch {
	case len(tok) < 3:
		return false
	case n[0] > 0 && n[1]+n[2] > 0:
		return changes >= 2
	}
	return n[1] > 0 && n[2] > 0 && changes >= 3
}

// public reports whether a key is meant to be public.
func public(tok []byte) bool {
	return bytes.HasPrefix(tok, []byte("phc_")) || bytes.HasPrefix(tok, []byte("pk_")) || bytes.HasPrefix(tok, []byte("pk-"))
}

// joint returns where a token continues that is broken at q: after a line break
// with its indentation, or after the end of one string literal and the start of
// the next. It returns q if there is none. In a JSON document only escaped
// characters can be inside a string, so nothing else is a joint.
func (f *finder) joint(q int) int {
	c := f.at(q)
	switch c {
	case '\\', '\n', '\r', ' ', '\t', '"', '\'', '`':
	default:
		return q
	}
	p := q
	quote, level := f.quoteAhead(p)
	if quote == 0 {
		for n := 0; n < 2 && (f.at(p) == ' ' || f.at(p) == '\t'); n++ {
			p++
		}
		eol := f.eol(p)
		if eol == p {
			return q
		}
		return f.indent(eol)
	}
	if f.json && level == 0 && quote == '"' {
		return q
	}
	p = f.indent(p + level + 1)
	broken := false
	for n := 0; n < 2; n++ {
		if eol := f.eol(p); eol > p {
			p, broken = f.indent(eol), true
		}
		switch c := f.at(p); {
		case c == '+' || c == '&' || c == '.' && f.at(p+1) != '.':
			p, broken = f.indent(p+1), true
		case c == '.' && f.at(p+1) == '.':
			p, broken = f.indent(p+2), true
		}
	}
	if !broken {
		return q
	}
	if c := f.at(p); (c == 'f' || c == 'r' || c == 'b') && (f.at(p+1) == quote || f.at(p+1) == '\\') {
		p++
	}
	if next, again := f.quoteAhead(p); next != quote || again != level {
		return q
	}
	return p + level + 1
}

// quoteAhead returns the quote at p and how many backslashes escape it, or 0.
func (f *finder) quoteAhead(p int) (quote byte, level int) {
	for level < 16 && f.at(p+level) == '\\' {
		level++
	}
	c := f.at(p + level)
	if c != '"' && c != '\'' && c != '`' || f.json && c == '"' && level > 0 && level%2 == 0 {
		return 0, 0 // none, or the end of the document's string after a backslash
	}
	return c, level
}

// eol returns the position after the line break at p, written plainly, escaped,
// or after the backslash that continues a line; p if there is none.
func (f *finder) eol(p int) int {
	q := p
	for q < p+16 && f.at(q) == '\\' {
		q++
	}
	escaped := q > p
	switch c := f.at(q); {
	case escaped && c == 'n':
		return q + 1
	case escaped && c == 'r':
		q++
		for k := q; k < q+16; k++ {
			if f.at(k) == '\\' {
				continue
			}
			if k > q && f.at(k) == 'n' {
				return k + 1
			}
			break
		}
		return q
	case f.json || q > p+1:
		return p
	case c == '\n':
		return q + 1
	case c == '\r' && f.at(q+1) == '\n':
		return q + 2
	case c == '\r':
		return q + 1
	}
	return p
}

// indent skips blanks, tabs and escaped tabs.
func (f *finder) indent(p int) int {
	for most := p + 64; p < most; {
		switch c := f.at(p); {
		case c == ' ' || c == '\t':
			p++
		case c == '\\':
			q := p
			for q < p+16 && f.at(q) == '\\' {
				q++
			}
			if f.at(q) != 't' {
				return p
			}
			p = q + 1
		default:
			return p
		}
	}
	return p
}

// more returns the end of a token that continues over joints: it was read up to
// q, and what follows each joint looks like more of it.
func (f *finder) more(q int, set uint16) int {
	for {
		q = f.span(q, set, len(f.b))
		next := f.joint(q)
		if next == q {
			return q
		}
		end := f.span(next, set, longestKey)
		if c := f.at(end); c == '=' && class[f.at(end+1)]&alnum != 0 || c == ':' || c == '(' || !continues(f.b[next:end]) {
			return q
		}
		q = end
	}
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

func isHex(c byte) bool {
	c = lower(c)
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f'
}

func isHex4(h []byte) bool {
	return len(h) == 4 && isHex(h[0]) && isHex(h[1]) && isHex(h[2]) && isHex(h[3])
}

func unhex(c byte) byte {
	if c = lower(c); c >= 'a' {
		return c - 'a' + 10
	}
	return c - '0'
}
