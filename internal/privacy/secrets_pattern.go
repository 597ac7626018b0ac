package privacy

import (
	"strconv"
	"strings"
)

// A format is one kind of secret that is known by its own form. Its pattern is
// text with runs of a class between angle brackets: the letter of the class, and
// how many bytes of it, such as ghp_<a36> or xoxb-<d8-14>-<a18+>.
//
//	d 0-9    h a-f 0-9    x A-F a-f 0-9    l a-z 0-9    u A-Z 0-9    A letters
//	a letters, digits     w with _ and -   b with + and /            s with _ - =
//	p with _ - . + / = ~
//
// A run takes as many bytes as it may, and nothing is tried twice: a pattern in
// which a run is followed by a text of its own class must give the run a fixed
// length. No letter or digit may follow a pattern, unless it ends in an open run.
type format struct {
	name   string // in the mark
	pieces []piece
	check  check // of what follows the first literal
	strict bool  // not over line breaks: the form is too weak
}

// check is an additional condition for a token whose prefix is not sufficient.
type check byte

const (
	isAny check = iota
	isMixed
	isRandom
	isScattered
	isThreefold
)

func (c check) of(body []byte) bool {
	switch c {
	case isMixed:
		return mixed(body)
	case isRandom:
		return random(body)
	case isScattered:
		return scattered(body)
	case isThreefold:
		return threefold(body)
	}
	return true
}

type piece struct {
	lit      string
	set      uint16
	min, max int // max 0: no limit
}

var classOf = map[byte]uint16{
	'd': digits, 'h': digits | lowHex, 'x': anyHex, 'l': digits | low, 'u': digits | upper, 'A': alpha,
	'a': alnum, 'w': wordy, 'b': alnum | slash, 's': wordy | equal, 'p': wordy | dot | sign,
}

// compile reads a pattern. It panics on a wrong one: patterns are constants.
func compile(pattern string) []piece {
	var out []piece
	for rest := pattern; rest != ""; {
		lit, run, open := strings.Cut(rest, "<")
		if lit != "" {
			out = append(out, piece{lit: lit})
		}
		if !open {
			break
		}
		body, after, closed := strings.Cut(run, ">")
		if !closed || len(body) < 2 || classOf[body[0]] == 0 {
			panic("privacy: wrong pattern " + pattern)
		}
		p := piece{set: classOf[body[0]]}
		least, most, ranged := strings.Cut(body[1:], "-")
		var err error
		if p.min, err = strconv.Atoi(strings.TrimSuffix(least, "+")); err != nil {
			panic("privacy: wrong pattern " + pattern)
		}
		switch {
		case ranged:
			if p.max, err = strconv.Atoi(most); err != nil {
				panic("privacy: wrong pattern " + pattern)
			}
		case !strings.HasSuffix(least, "+"):
			p.max = p.min
		}
		out = append(out, p)
		rest = after
	}
	return out
}

// byStart finds the formats that can begin with two given ASCII bytes: the
// index into candidates, 0 for none. Most words are excluded here, or by their
// third byte.
type byStart struct {
	index      [128 * 128]uint16
	candidates []candidates
}

type candidates struct {
	third [4]uint64 // the bytes that may follow, one bit each
	list  []*format
}

func (c *candidates) allow(b byte) { c.third[b>>6] |= 1 << (b & 63) }

func (c *candidates) allows(b byte) bool { return c.third[b>>6]&(1<<(b&63)) != 0 }

func newByStart(rows []row) *byStart {
	t := &byStart{candidates: make([]candidates, 1)}
	for _, r := range rows {
		f := &format{name: r.name, pieces: compile(r.pattern), check: r.check, strict: r.strict}
		lit := f.pieces[0].lit
		if len(lit) < 2 {
			panic("privacy: a pattern must begin with two bytes of text: " + r.pattern)
		}
		k := int(lit[0])<<7 | int(lit[1])
		if t.index[k] == 0 {
			t.index[k] = uint16(len(t.candidates))
			t.candidates = append(t.candidates, candidates{})
		}
		c := &t.candidates[t.index[k]]
		c.list = append(c.list, f)
		for _, joint := range []byte("\n\r\\\"'`") {
			c.allow(joint)
		}
		if len(lit) > 2 {
			c.allow(lit[2])
			continue
		}
		for b := range 256 {
			c.allow(byte(b))
		}
	}
	return t
}

// known finds a secret of a known format that begins at i.
func (f *finder) known(i int) (match, bool) {
	if i+2 >= len(f.b) || f.b[i+1] >= 128 {
		return match{}, false
	}
	k := formats.index[int(f.b[i]&127)<<7|int(f.b[i+1])]
	if k == 0 {
		return match{}, false
	}
	c := &formats.candidates[k]
	if !c.allows(f.b[i+2]) {
		return match{}, false
	}
	for _, fm := range c.list {
		if m, ok := f.matches(i, fm); ok {
			return m, true
		}
	}
	return match{}, false
}

// tokenReader reads a token piece by piece, over line breaks and joints of
// string literals, and keeps the start of what it read for the check.
type tokenReader struct {
	*finder
	q    int
	over bool // over line breaks
	n    int
	buf  [longestKey]byte
}

func (f *finder) matches(i int, fm *format) (match, bool) {
	lit := fm.pieces[0].lit
	q := i + len(lit)
	if !f.has(i, lit) {
		if q = f.literal(i, lit, !fm.strict); q < 0 {
			return match{}, false
		}
	}
	r := tokenReader{finder: f, q: q, over: !fm.strict}
	for k := 1; k < len(fm.pieces); k++ {
		if !r.piece(&fm.pieces[k]) {
			return match{}, false
		}
	}
	last := &fm.pieces[len(fm.pieces)-1]
	open := last.lit == "" && last.max == 0
	if !open && class[f.at(r.q)]&alnum != 0 || !fm.check.of(r.buf[:r.n]) {
		return match{}, false
	}
	end := r.q
	if open {
		if end = f.span(end, last.set, len(f.b)); r.over {
			end = f.more(end, last.set)
		}
	}
	for f.at(end) == '=' && last.set&slash != 0 {
		end++ // padding
	}
	return match{i, end, mark(fm.name)}, true
}

// literal returns the end of the literal text at i, or -1. With over, it may
// contain a line break after the second byte or later.
func (f *finder) literal(i int, lit string, over bool) int {
	for k := range len(lit) {
		if f.at(i) != lit[k] {
			if !over || k < 2 {
				return -1
			}
			next := f.joint(i)
			if next == i || f.at(next) != lit[k] {
				return -1
			}
			i = next
		}
		i++
	}
	return i
}

func (r *tokenReader) piece(p *piece) bool {
	if p.lit != "" {
		if !r.has(r.q, p.lit) {
			next := r.q
			if r.over {
				next = r.joint(r.q)
			}
			if next = r.literal(next, p.lit, r.over); next < 0 {
				return false
			}
			r.q = next
		} else {
			r.q += len(p.lit)
		}
		r.keep([]byte(p.lit))
		return true
	}
	n, most := 0, p.max
	if most == 0 {
		most = max(p.min, judged)
	}
	for {
		end := r.span(r.q, p.set, most-n)
		r.keep(r.b[r.q:end])
		n += end - r.q
		r.q = end
		if n == most || !r.over || n >= p.min && p.max == 0 {
			return n >= p.min
		}
		next := r.joint(r.q)
		if next == r.q || class[r.at(next)]&p.set == 0 || n >= p.min && !continues(r.b[next:r.span(next, p.set, 64)]) {
			return n >= p.min
		}
		r.q = next
	}
}

func (r *tokenReader) keep(b []byte) { r.n += copy(r.buf[r.n:], b) }
