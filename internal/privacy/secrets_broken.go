package privacy

import "bytes"

// Limits of a reassembled token: how much of its first line, with the name that
// it is assigned to, and how much in total.
const (
	brokenBefore = 160
	brokenMost   = 2048
)

// broken finds a secret that is split by a line break or a joint of string
// literals at q, if both sides look like pieces of one token: it joins the
// pieces and scans the result like any other text.
func (f *finder) broken(q int) (match, bool) {
	if f.inner || q < f.joined || q-4 < f.done || class[f.b[q-1]] == 0 && f.b[q-1] != '%' {
		return match{}, false
	}
	next := f.joint(q)
	if next == q || !continues(f.piece(next, 64)) {
		return match{}, false
	}
	k := q
	for k > f.done && q-k < 64 && class[f.b[k-1]] != 0 {
		k--
	}
	if !continues(f.b[k:q]) {
		return match{}, false
	}
	start := k
	for start > f.done && q-start < brokenBefore {
		c := f.b[start-1]
		if c == '\n' || c == '"' && f.json && (start < 2 || f.b[start-2] != '\\') {
			break
		}
		if start < k && (f.b[start] == 'n' || f.b[start] == 'r') && c == '\\' {
			start++ // the rest of an escaped line break
			break
		}
		start--
	}
	type joint struct{ at, doc int } // position in text, position in the document
	text := append(make([]byte, 0, 512), f.b[start:q]...)
	joints := []joint{{0, start}}
	tail := 0 // length of a last piece that may be the end of the token, or a word
	for next != q && len(text) < brokenMost && tail == 0 {
		p := f.piece(next, brokenMost)
		if !continues(p) {
			if tail = len(p); tail == 0 || tail > 12 {
				tail = 0
				break
			}
		}
		joints = append(joints, joint{len(text), next})
		text = append(text, p...)
		q = next + len(p)
		next = f.joint(q)
	}
	f.joined = q
	if len(joints) < 2 {
		return match{}, false
	}
	doc := func(at int) int {
		k := len(joints) - 1
		for k > 0 && joints[k].at >= at {
			k--
		}
		return joints[k].doc + at - joints[k].at
	}
	if m, ok := acrossJoint(text[:len(text)-tail], joints[1].at); ok {
		return match{doc(m.from+1) - 1, doc(m.to), m.with}, true
	}
	if tail > 0 {
		if m, ok := acrossJoint(text, joints[1].at); ok {
			return match{doc(m.from+1) - 1, doc(m.to), m.with}, true
		}
	}
	return match{}, false
}

// acrossJoint returns the first secret of text that begins before position at
// and ends after it.
func acrossJoint(text []byte, at int) (match, bool) {
	inner := finder{b: text, inner: true}
	for i := 0; i < len(text); {
		m, next, ok, _ := inner.step(i)
		switch {
		case !ok:
			i = next
			continue
		case m.from >= at:
			return match{}, false
		case m.to > at:
			return m, true
		}
		inner.done = m.to
		i = max(i+1, m.to)
	}
	return match{}, false
}

// piece returns what may belong to a token at p: everything up to a blank, a
// quote or a backslash.
func (f *finder) piece(p, most int) []byte {
	b := f.b[p:min(len(f.b), p+most)]
	if k := bytes.IndexAny(b, " \t\r\n\"'`\\<>,;)"); k >= 0 {
		b = b[:k]
	}
	return b
}
