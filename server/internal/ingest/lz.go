package ingest

import (
	"errors"
	"unicode/utf16"
	"unicode/utf8"
)

var errLZ = errors.New("the lz-string data is damaged")

const base64Alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

var base64Value = func() (t [256]int8) {
	for i := range t {
		t[i] = -1
	}
	for i, c := range []byte(base64Alphabet) {
		t[c] = int8(i)
	}
	return t
}()

// lzBits reads the bit stream of lz-string's base64 form: six bits per
// character, most significant first, assembled least significant first.
type lzBits struct {
	b    []byte
	i    int
	left uint // bits left of b[i]
}

func (r *lzBits) read(n int) (v int, err error) {
	for k := range n {
		if r.i >= len(r.b) {
			return 0, errLZ
		}
		c := base64Value[r.b[r.i]]
		if c < 0 {
			return 0, errLZ
		}
		r.left--
		v |= int(c>>r.left&1) << k
		if r.left == 0 {
			r.i++
			r.left = 6
		}
	}
	return v, nil
}

// lzDecompress decodes lz-string's compressToBase64, which old posthog-js versions
// use. Its output is UTF-16; unpaired surrogates become U+FFFD. more is called
// before the buffers grow, with the number of bytes, and can stop it: a few hundred
// kilobytes may decompress to gigabytes.
//
// A phrase is the previous one plus the first unit of the next, which are adjacent
// in the output. The dictionary therefore holds offsets into the output and no text.
func lzDecompress(in []byte, more func(bytes int) error) ([]byte, error) {
	for len(in) > 0 && in[len(in)-1] == '=' {
		in = in[:len(in)-1]
	}
	if len(in) == 0 {
		return nil, errLZ
	}
	type phrase struct{ at, n int }
	var (
		bits    = lzBits{b: in, left: 6}
		dict    = make([]phrase, 3, 256) // 0, 1 and 2 are commands
		out     []uint16
		held    int
		width   = 3
		enlarge = 4
	)
	grow := func() {
		if enlarge--; enlarge == 0 {
			enlarge = 1 << width
			width++
		}
	}
	reserve := func(n int) error {
		// Two bytes per unit here, up to three in UTF-8, doubled by append.
		if need := 8 * (len(out) + n); need > held {
			need += 8 << 10
			if err := more(need - held); err != nil {
				return err
			}
			held = need
		}
		return nil
	}
	literal := func(command int) error {
		unit, err := bits.read(8 << command)
		if err != nil {
			return err
		}
		if err := reserve(1); err != nil {
			return err
		}
		dict = append(dict, phrase{len(out), 1})
		out = append(out, uint16(unit))
		return nil
	}

	command, err := bits.read(2)
	if err != nil {
		return nil, err
	}
	if command > 1 {
		return nil, nil // an empty text
	}
	if err := literal(command); err != nil {
		return nil, err
	}
	last := dict[3]
	for {
		code, err := bits.read(width)
		if err != nil {
			return nil, err
		}
		var now phrase
		switch {
		case code == 2:
			return utf16ToUTF8(out), nil
		case code < 2:
			if err := literal(code); err != nil {
				return nil, err
			}
			now = dict[len(dict)-1]
			grow()
		case code <= len(dict):
			from := phrase{last.at, last.n + 1} // the phrase that is being created
			if code < len(dict) {
				from = dict[code]
			}
			if err := reserve(from.n); err != nil {
				return nil, err
			}
			now = phrase{len(out), from.n}
			for k := range from.n {
				out = append(out, out[from.at+k])
			}
		default:
			return nil, errLZ
		}
		if len(dict)%(4<<10) == 0 {
			if err := more(64 << 10); err != nil {
				return nil, err
			}
		}
		dict = append(dict, phrase{last.at, last.n + 1})
		grow()
		last = now
	}
}

func utf16ToUTF8(units []uint16) []byte {
	out := make([]byte, 0, len(units)+len(units)/8)
	for i := 0; i < len(units); i++ {
		r := rune(units[i])
		if utf16.IsSurrogate(r) {
			low := utf8.RuneError
			if i+1 < len(units) {
				low = rune(units[i+1])
			}
			if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
				i++
			}
		}
		out = utf8.AppendRune(out, r)
	}
	return out
}
