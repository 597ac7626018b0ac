package privacy

import (
	"bytes"
	"strings"
)

// shapes are how the digits of a card number are grouped: 4-4-4-4(-3), 4-6-5
// (American Express) and 4-6-4 (Diners).
var shapes = [][]int{{4, 4, 4, 4, 3}, {4, 4, 4, 4}, {4, 6, 5}, {4, 6, 4}}

// card finds a payment card number at the first digit of a run. It returns where
// to read on if there is none.
func (f *finder) card(i int) (m match, end int, ok bool) {
	b := f.b
	end = f.digits(i)
	if !f.starts(i) {
		return m, end, false
	}
	switch c := f.at(i - 1); {
	case i > f.esc && c == '+': // a phone number
		return m, end, false
	case i > f.esc && (c == '.' || c == ',') && i >= 2 && isDigit(f.at(i-2)): // a fraction
		return m, end, false
	}
	var number [19]byte
	to := 0
	switch n := end - i; {
	case n >= 13 && n <= 19:
		if isCard(number[:copy(number[:], b[i:end])]) {
			to = end
		}
	case n == 4:
		to = f.grouped(i, &number)
	}
	if to == 0 && end-i >= 3 && end-i < 16 {
		to = f.wrapped(i, &number)
	}
	if to == 0 || class[f.at(to)]&letter != 0 || f.at(to) == '.' && isDigit(f.at(to+1)) && !f.zeros(to) {
		return m, end, false
	}
	m = match{i, to, "[card]"}
	if f.json && !f.inString(i) {
		// A JSON number: replace all of it by a string.
		if f.at(m.from-1) == '-' {
			m.from--
		}
		for class[f.at(m.to)]&(alnum|dot) != 0 || f.at(m.to) == '+' || f.at(m.to) == '-' {
			m.to++
		}
		m.with = `"[card]"`
		return m, end, true
	}
	if q := f.innerNumber(i, to); q != nil {
		m.with = string(q) + "[card]" + string(q)
	}
	return m, end, true
}

func (f *finder) digits(i int) int {
	for i < len(f.b) && isDigit(f.b[i]) {
		i++
	}
	return i
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// zeros reports whether the fraction at the dot is one of zeros only, as
// encoders of floating-point numbers write whole numbers.
func (f *finder) zeros(at int) bool {
	end := f.digits(at + 1)
	return len(bytes.Trim(f.b[at+1:end], "0")) == 0
}

// grouped returns the end of a card number in groups, or 0. Groups are separated
// by dashes, dots, or blanks of any width, one of which may be a line break.
func (f *finder) grouped(i int, number *[19]byte) int {
	first := f.at(i + 4)
	_, blank := f.separator(i + 4)
	if !blank && first != '-' && first != '.' || first == '-' && f.at(i-1) == '-' {
		return 0 // nothing, or a longer number, or a UUID
	}
	for _, shape := range shapes {
		n, at := 0, i
		for g, size := range shape {
			if g > 0 {
				next, isBlank := f.separator(at)
				if next == at || isBlank != blank || !blank && f.b[at] != first {
					n = 0
					break
				}
				at = next
			}
			if f.digits(at)-at != size {
				n = 0
				break
			}
			n += copy(number[n:], f.b[at:at+size])
			at += size
		}
		if n > 0 && isCard(number[:n]) && !(first == '-' && f.at(at) == '-') {
			return at
		}
	}
	return 0
}

// separator returns the position after a separator of digit groups, and
// whether it is a blank: a space, a no-break or thin space, plain or as a JSON
// escape, or a line break.
func (f *finder) separator(at int) (next int, blank bool) {
	switch c := f.at(at); c {
	case '-', '.':
		return at + 1, false
	case ' ':
		if eol := f.eol(at + 1); eol > at+1 {
			return f.indent(eol), true
		}
		return at + 1, true
	case 0xC2:
		if f.at(at+1) == 0xA0 { // U+00A0
			return at + 2, true
		}
	case 0xE2:
		if f.at(at+1) == 0x80 && (f.at(at+2) >= 0x80 && f.at(at+2) <= 0x8A || f.at(at+2) == 0xAF) { // U+2000–200A, 202F
			return at + 3, true
		}
	case '\\', '\n', '\r':
		if eol := f.eol(at); eol > at {
			return f.indent(eol), true
		}
		q := at
		for q < at+16 && f.at(q) == '\\' {
			q++
		}
		if f.at(q) != 'u' || q+5 > len(f.b) {
			return at, false
		}
		switch hex := f.b[q+1 : q+5]; {
		case string(hex[:3]) == "200" && isHex(hex[3]) && lower(hex[3]) != 'f', strings.EqualFold(string(hex), "00a0"), strings.EqualFold(string(hex), "202f"):
			return q + 5, true
		}
	}
	return at, false
}

// wrapped returns the end of a 16-digit card number broken by a line break, or
// 0. Numbers in a column are not cards, so the first line must contain more than
// the number.
func (f *finder) wrapped(i int, number *[19]byte) int {
	if i == f.done || i == f.esc || f.at(i-1) == '\n' {
		return 0
	}
	end := f.digits(i)
	eol := f.eol(end)
	if eol == end {
		return 0
	}
	next := f.indent(eol)
	to := f.digits(next)
	if (end-i)+(to-next) != 16 {
		return 0
	}
	n := copy(number[:], f.b[i:end])
	n += copy(number[n:], f.b[next:to])
	if !isCard(number[:n]) {
		return 0
	}
	return to
}

// inString reports whether position i of the JSON document is inside a string.
// It scans the quotes up to i once for all calls, and only when called, which
// is rare. Positions must not decrease, so check it last.
func (f *finder) inString(i int) bool {
	for ; f.quoteAt < i; f.quoteAt++ {
		switch f.b[f.quoteAt] {
		case '\\':
			if f.inQuotes {
				f.quoteAt++
			}
		case '"':
			f.inQuotes = !f.inQuotes
		}
	}
	return f.inQuotes
}

// innerNumber returns the quotes, escaped like the document around it, that
// turn the number into a string if it is a JSON number inside a string, which
// is usually the arguments of a tool call. It returns nil for plain text.
func (f *finder) innerNumber(from, to int) []byte {
	k := from - 1
	for k > f.done && f.b[k] == ' ' {
		k--
	}
	if k <= f.done || f.b[k] != ':' || f.b[k-1] != '"' {
		return nil
	}
	q := k - 1
	for q > f.done && f.b[q-1] == '\\' {
		q--
	}
	if f.json && (k-1-q)%2 == 0 {
		return nil // the end of a string of this document: impossible
	}
	for f.at(to) == ' ' {
		to++
	}
	if c := f.at(to); c != ',' && c != '}' && c != '\\' {
		return nil
	}
	return f.b[q:k]
}

// isCard reports whether the digits have a prefix and a length that a card
// network issues, and the Luhn check digit.
func isCard(d []byte) bool { return issued(d) && luhn(d) }

func issued(d []byte) bool {
	n := len(d)
	if n < 13 || n > 19 {
		return false
	}
	p := 0
	for _, c := range d[:4] {
		p = p*10 + int(c-'0')
	}
	switch {
	case p/1000 == 4: // Visa
		return n == 13 || n == 16 || n == 19
	case p >= 5100 && p <= 5599, p >= 2221 && p <= 2720: // Mastercard
		return n == 16
	case p/100 == 34, p/100 == 37: // American Express
		return n == 15
	case p == 6011, p >= 6440 && p <= 6599, p/100 == 62, p >= 3528 && p <= 3589: // Discover, UnionPay, JCB
		return n >= 16
	case p >= 3000 && p <= 3059, p == 3095, p/100 == 36, p/100 == 38, p/100 == 39: // Diners
		return n == 14
	case p == 5018, p == 5020, p == 5038, p == 5893, p == 6304, p == 6759, p >= 6761 && p <= 6763: // Maestro
		return true
	}
	return false
}

// luhn is the check of ISO/IEC 7812-1, annex B.
func luhn(d []byte) bool {
	sum := 0
	for k := range d {
		v := int(d[len(d)-1-k] - '0')
		if k%2 == 1 {
			if v *= 2; v > 9 {
				v -= 9
			}
		}
		sum += v
	}
	return sum%10 == 0
}
