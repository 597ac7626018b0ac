package ingest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/rawjson"
)

// maxDepth is the allowed nesting of JSON, the same as in PostHog's parser.
const maxDepth = 128

// check validates a body once. The readers below then walk it without validation and
// never run past its end.

// check reports whether b is one JSON value in UTF-8, nested at most maxDepth deep.
// It returns the number of members and elements, which determines the memory for
// decoding. Escaped unpaired surrogates are replaced by U+FFFD, in place.
//
// Its errors give an offset and never quote the body.
func check(b []byte) (members int, err error) {
	if i := invalidUTF8(b); i >= 0 {
		return 0, fmt.Errorf("the body is not valid UTF-8 (byte %d)", i)
	}
	c := checker{b: b}
	if err := c.value(); err != nil {
		return 0, err
	}
	if c.space(); c.i < len(b) {
		return 0, c.errorf("something follows the JSON")
	}
	return c.members, nil
}

func invalidUTF8(b []byte) int {
	if utf8.Valid(b) {
		return -1
	}
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}

type checker struct {
	b       []byte
	i       int
	members int
	open    [maxDepth]byte // the closing bracket of each level
}

func (c *checker) errorf(format string, args ...any) error {
	if c.i >= len(c.b) {
		return errors.New("the JSON ends too early")
	}
	return fmt.Errorf("malformed JSON at byte %d: %s", c.i, fmt.Sprintf(format, args...))
}

func (c *checker) space() {
	for c.i < len(c.b) {
		switch c.b[c.i] {
		case ' ', '\t', '\r', '\n':
			c.i++
		default:
			return
		}
	}
}

// value reads one value, without recursion.
func (c *checker) value() error {
	depth := 0
	for {
		// A value is expected.
		c.space()
		if c.i >= len(c.b) {
			return c.errorf("")
		}
		switch ch := c.b[c.i]; ch {
		case '{', '[':
			if depth == maxDepth {
				return fmt.Errorf("the JSON is nested deeper than %d levels (byte %d)", maxDepth, c.i)
			}
			c.open[depth] = ch + 2 // '{'+2 is '}', '['+2 is ']'
			depth++
			c.i++
			c.space()
			if c.i < len(c.b) && c.b[c.i] == ch+2 {
				c.i++
				depth--
				break
			}
			c.members++
			if ch == '{' {
				if err := c.key(); err != nil {
					return err
				}
			}
			continue
		case '"':
			if err := c.string(); err != nil {
				return err
			}
		case 't':
			if err := c.literal("true"); err != nil {
				return err
			}
		case 'f':
			if err := c.literal("false"); err != nil {
				return err
			}
		case 'n':
			if err := c.literal("null"); err != nil {
				return err
			}
		default:
			if err := c.number(); err != nil {
				return err
			}
		}
		// A value has ended: close what it ends, or continue with the next member.
		for {
			if depth == 0 {
				return nil
			}
			c.space()
			if c.i >= len(c.b) {
				return c.errorf("")
			}
			end := c.open[depth-1]
			if c.b[c.i] == end {
				c.i++
				depth--
				continue
			}
			if c.b[c.i] != ',' {
				return c.errorf("',' or '%c' expected", end)
			}
			c.i++
			c.members++
			if end == '}' {
				if err := c.key(); err != nil {
					return err
				}
			}
			break
		}
	}
}

func (c *checker) key() error {
	c.space()
	if c.i >= len(c.b) || c.b[c.i] != '"' {
		return c.errorf("a key in quotes expected")
	}
	if err := c.string(); err != nil {
		return err
	}
	c.space()
	if c.i >= len(c.b) || c.b[c.i] != ':' {
		return c.errorf("':' expected")
	}
	c.i++
	return nil
}

func (c *checker) literal(word string) error {
	if !bytes.HasPrefix(c.b[c.i:], []byte(word)) {
		return c.errorf("a value expected")
	}
	c.i += len(word)
	return nil
}

func (c *checker) number() error {
	i, b := c.i, c.b
	digits := func() bool {
		start := i
		for i < len(b) && b[i] >= '0' && b[i] <= '9' {
			i++
		}
		return i > start
	}
	if b[i] == '-' {
		i++
	}
	switch {
	case i < len(b) && b[i] == '0':
		i++
	case !digits():
		return c.errorf("a value expected")
	}
	if i < len(b) && b[i] == '.' {
		if i++; !digits() {
			return c.errorf("a broken number")
		}
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		if !digits() {
			return c.errorf("a broken number")
		}
	}
	c.i = i
	return nil
}

// plainByte marks bytes that need no escape inside a JSON string.
var plainByte = func() (t [256]bool) {
	for i := ' '; i < 256; i++ {
		t[i] = i != '"' && i != '\\'
	}
	return t
}()

func (c *checker) string() error {
	b := c.b
	i := c.i + 1
	for {
		for i < len(b) && plainByte[b[i]] {
			i++
		}
		if i >= len(b) {
			c.i = i
			return c.errorf("")
		}
		switch b[i] {
		case '"':
			c.i = i + 1
			return nil
		case '\\':
			if i+1 >= len(b) {
				c.i = len(b)
				return c.errorf("")
			}
			switch b[i+1] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
				i += 2
			case 'u':
				u, ok := hex4(b[i+2:])
				if !ok {
					c.i = i
					return c.errorf("a broken escape")
				}
				switch {
				case u < 0xd800 || u > 0xdfff:
					i += 6
				case u < 0xdc00 && lowFollows(b[i+6:]):
					i += 12
				default:
					copy(b[i:], `\ufffd`)
					i += 6
				}
			default:
				c.i = i
				return c.errorf("an unknown escape")
			}
		default:
			c.i = i
			return c.errorf("a control character in a string")
		}
	}
}

func lowFollows(b []byte) bool {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return false
	}
	u, ok := hex4(b[2:])
	return ok && u >= 0xdc00 && u <= 0xdfff
}

func hex4(b []byte) (u uint32, ok bool) {
	if len(b) < 4 {
		return 0, false
	}
	for _, c := range b[:4] {
		switch {
		case c >= '0' && c <= '9':
			u = u<<4 | uint32(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			u = u<<4 | uint32(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	return u, true
}

// keyText returns the unescaped key.
func keyText(key []byte) string {
	if bytes.IndexByte(key, '\\') < 0 {
		return event.WireName(key) // without an allocation
	}
	return rawjson.Unescape(key)
}

// isNull reports whether a member is absent or null.
func isNull(v json.RawMessage) bool { return len(v) == 0 || string(v) == "null" }

// truthy converts as PostHog does: true, any number but 0, and the strings "true"
// and "1".
func truthy(v json.RawMessage) (yes, ok bool) {
	switch s := strings.ToLower(strings.Trim(string(v), `"`)); s {
	case "true", "1":
		return true, true
	case "false", "0":
		return false, true
	default:
		if len(v) == 0 || v[0] != '-' && (v[0] < '0' || v[0] > '9') {
			return false, false
		}
		n, err := strconv.ParseFloat(s, 64)
		return n != 0 || err != nil, true // an overflow is not 0
	}
}
