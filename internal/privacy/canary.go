package privacy

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"github.com/hedgerow/hedgerow/event"
)

// shingle is the minimum length of a quotation in characters. Those of scripts
// that write a word in few characters count twice, see [wide].
const shingle = 24

// watch searches the outbound copy for the event's own content, removes
// matching properties, and lists them in [PropWithheld].
func (o *OutboundResult) watch(e *event.Event, p OutboundPolicy) {
	var found []string
	c := o.Event
	w := newWatcher(e, func(name string, v json.RawMessage) bool {
		_, leaves := c.Properties[name]
		return !leaves && (contentName(name, true) || len(v) > MaxUnlistedText || bytes.Count(v, []byte(" ")) > 2)
	})
	if w.empty() {
		return
	}
	drop := func(name string, attribute bool) {
		if !slices.Contains(found, name) {
			found = append(found, name)
		}
		o.withhold(name, ReasonQuotes, attribute)
	}
	list := fields(c)
	for i := range list {
		if f := &list[i]; !(f.label && isLabel(f.text())) && !(f.name == "distinct_id" && len(f.text()) <= shortID) {
			w.add(f.text(), func() {
				switch {
				case f.keep:
					o.Block = f.name + " holds content of the call"
				default:
					*f.at = ""
					drop(f.name, false)
				}
			})
		}
	}
	for _, tag := range c.Tags {
		w.add(tag, func() {
			c.Tags = slices.DeleteFunc(c.Tags, func(t string) bool { return t == tag })
			drop("tags", false)
		})
	}
	for _, m := range []struct {
		name   string
		values map[string]string
	}{{"$feature/", c.Flags}, {"$groups", c.Groups}} {
		for k, v := range m.values {
			w.add(k+"\n"+v, func() {
				delete(m.values, k)
				drop(m.name, false)
			})
		}
	}
	for _, m := range []struct {
		name   string
		values *map[string]json.RawMessage
	}{{"$ai_model_parameters", &c.ModelParameters}, {"$ai_provider_metadata", &c.ProviderMetadata}} {
		for k, v := range *m.values {
			w.addJSON(k, v, func() {
				delete(*m.values, k)
				drop(m.name, false)
			})
		}
	}
	for k, v := range c.Properties {
		attribute := ofAttribute(e, k)
		kind := known(k)
		if p.named(k, attribute) && p.confirmed(k) || kind == kindLabel && isLabel(gjson.ParseBytes(v).Str) {
			continue
		}
		w.addJSON(written(k), v, func() {
			delete(c.Properties, k)
			if w.quoted(k) {
				drop("(a name that holds content)", attribute)
				return
			}
			drop(k, attribute)
		})
	}
	w.run()
	if len(found) > 0 {
		slices.Sort(found)
		_ = c.SetProperty(PropWithheld, found) // marshalling strings cannot fail
	}
}

// written is the part of a property's name that a caller or a library chose:
// nothing of a known name, all of a name in a known family.
func written(name string) string {
	if _, fixed := knownNames[name]; fixed {
		return ""
	}
	return name
}

// shortID is the length up to which a user's id is not checked: names and
// e-mail addresses occur in prompts.
const shortID = 40

func (f *field) text() string { return *f.at }

// storedQuotes removes properties that quote the event's content before the
// content is dropped, because they cannot be found afterwards. Required ids are
// replaced by hashes.
func storedQuotes(e *event.Event) {
	content := func(name string, v json.RawMessage) bool { return contentName(name, true) || len(v) > longText }
	w := newWatcher(e, content)
	if w.empty() {
		return
	}
	for k, v := range e.Properties {
		if content(k, v) {
			continue // sent anyway
		}
		if known(k) == kindLabel && isLabel(gjson.ParseBytes(v).Str) {
			continue
		}
		w.addJSON(written(k), v, func() {
			out := make(map[string]json.RawMessage, len(e.Properties))
			for name, v := range e.Properties {
				if name != k {
					out[name] = v
				}
			}
			e.Properties = out
		})
	}
	list := fields(e)
	for i := range list {
		f := &list[i]
		if f.label && isLabel(f.text()) || f.name == "event" || f.name == "distinct_id" && len(f.text()) <= shortID {
			continue
		}
		w.add(f.text(), func() {
			if f.keep {
				*f.at = hashedID(*f.at)
				return
			}
			*f.at = ""
		})
	}
	w.add(strings.Join(e.Tags, "\n"), func() { e.Tags = nil })
	w.run()
}

// watcher finds the texts that quote an event's content.
//
// The windows of the few texts are put into a table; then the content is read
// once with a rolling hash. Matches are compared character by character, so hash
// collisions do not count.
type watcher struct {
	content []json.RawMessage // JSON: its strings are checked, including keys
	slugs   []json.RawMessage // structured content: ids in it are not exempt
	plain   []string          // content that is not JSON
	labels  []string          // names of tools, agents, models and prompts of this event

	joined []byte          // the content as read by mentioned; built on demand
	whole  map[string]bool // its whole strings

	texts   []text
	symbols []rune             // of all texts, normalized
	owner   []int32            // by symbol: index of the text
	token   []int32            // by symbol: index of the token, or -1
	tokens  []token            //
	table   map[uint64][]int32 // by hash of a window: where it begins in symbols
	filter  [1 << 10]uint64    // bits of the hashes in table
}

type text struct {
	found bool
	drop  func()
}

// token is a part of a text that looks like an id or an identifier in code.
type token struct {
	s      string
	asked  bool
	exempt bool // the content mentions it as a token
}

// newWatcher returns a watcher of an event's content: its input, output, tools
// and states, its error message, and the texts in its properties that isContent
// reports as content.
func newWatcher(e *event.Event, isContent func(name string, v json.RawMessage) bool) *watcher {
	w := &watcher{}
	for _, part := range e.Content.Parts() {
		if len(*part) >= shingle {
			w.content = append(w.content, *part)
		}
	}
	for _, name := range []string{e.Model, e.ModelAsked, e.PromptName, e.Cost.ModelUsed} {
		w.label(name)
	}
	gjson.ParseBytes(toolNames(e.Content.Tools)).ForEach(func(_, t gjson.Result) bool {
		w.label(t.Get("name").String() + t.Get("function.name").String())
		return len(w.labels) < 64
	})
	if len(e.ErrorMessage) >= shingle && knownSentence(e.ErrorMessage) == "" {
		w.plain = append(w.plain, e.ErrorMessage)
	}
	if aboutLLM(e) {
		for k, v := range e.Properties {
			if known(k) == kindLabel && len(v) > 0 && v[0] == '"' {
				w.label(gjson.ParseBytes(v).Str)
			}
			if len(v) >= shingle+2 && (v[0] == '"' || v[0] == '[' || v[0] == '{') && known(k) == kindNone && isContent(k, v) {
				if bytes.Count(v, []byte(" ")) > mostWords {
					w.content = append(w.content, v)
				} else {
					w.slugs = append(w.slugs, v)
				}
			}
		}
	}
	return w
}

func (w *watcher) empty() bool { return len(w.content)+len(w.slugs)+len(w.plain) == 0 }

// add registers a text. run calls drop if the text quotes the content.
func (w *watcher) add(s string, drop func()) {
	if len(s) < shingle {
		return
	}
	w.begin(drop)
	w.forms(s)
}

// addJSON registers a property: its name, and the texts in its value.
func (w *watcher) addJSON(name string, v json.RawMessage, drop func()) {
	quoted := len(v) >= shingle+2 && (v[0] == '"' || v[0] == '[' || v[0] == '{')
	if len(name) < shingle && !quoted {
		return
	}
	w.begin(drop)
	w.forms(name)
	if quoted {
		w.leaves(gjson.ParseBytes(v), 0)
	}
}

func (w *watcher) begin(drop func()) { w.texts = append(w.texts, text{drop: drop}) }

func (w *watcher) leaves(v gjson.Result, depth int) {
	switch {
	case v.Type == gjson.String:
		w.forms(v.Str)
	case v.Type == gjson.JSON && depth < 32:
		v.ForEach(func(key, item gjson.Result) bool {
			if key.Type == gjson.String {
				w.forms(key.Str)
			}
			w.leaves(item, depth+1)
			return true
		})
	}
}

// forms adds a text to the table: unchanged, and decoded.
func (w *watcher) forms(s string) {
	if len(s) < shingle {
		return
	}
	w.put(s, true)
	if strings.IndexByte(s, '%') >= 0 {
		if plain, err := url.QueryUnescape(s); err == nil {
			w.put(plain, false)
		} else {
			w.put(percent(s), false)
		}
	}
	for from := 0; from < len(s); {
		to := from
		for to < len(s) && inBase64(s[to]) {
			to++
		}
		if to-from >= shingle {
			w.decoded(s[from:to])
		}
		from = to + 1
	}
}

func inBase64(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '+' || c == '/' || c == '-' || c == '_'
}

var toStd = strings.NewReplacer("-", "+", "_", "/")

// decoded adds the decoded bytes of a run of base64 or hexadecimal digits to
// the table, from each possible start of its groups.
func (w *watcher) decoded(run string) {
	if len(run) >= 2*shingle {
		for at := range 2 {
			if b, err := hex.DecodeString(run[at : len(run)-(len(run)-at)%2]); err == nil {
				w.put(string(b), false)
			}
		}
	}
	// Cleaning an id removes the padding of the last group.
	run = toStd.Replace(strings.TrimRight(run, "_"))
	for at := range min(4, len(run)) {
		part := run[at:]
		part = part[:len(part)-len(part)%4]
		b, err := base64.StdEncoding.DecodeString(part)
		if err != nil || len(b) < shingle/2 || !readable(b) {
			continue
		}
		rest := run[at+len(part):]
		if tail, err := base64.RawStdEncoding.DecodeString(rest); err == nil {
			b = append(b, tail...)
		}
		w.put(string(b), false)
	}
}

// readable reports whether decoded bytes may be text: ids decode to noise.
func readable(b []byte) bool {
	odd := 0
	for _, c := range b {
		if c < ' ' && c != '\n' && c != '\t' && c != '\r' || c == 0x7f {
			odd++
		}
	}
	return odd*16 <= len(b) && (utf8.Valid(b) || odd == 0 && plainChars(b)*4 > len(b)*3)
}

func plainChars(b []byte) (n int) {
	for _, c := range b {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == ' ' {
			n++
		}
	}
	return n
}

// percent decodes percent-encoding where it is valid.
func percent(s string) string {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if b, err := hex.DecodeString(s[i+1 : i+3]); err == nil {
				out = append(out, b[0])
				i += 2
				continue
			}
		}
		out = append(out, s[i])
	}
	return string(out)
}

// put adds the windows of a text. With tokens, ids and identifiers in code are
// recorded as such.
func (w *watcher) put(s string, tokens bool) {
	at := len(w.symbols)
	var n normal
	current := int32(-1)
	emit := func(r rune) {
		w.symbols = append(w.symbols, r)
		w.owner = append(w.owner, int32(len(w.texts)-1))
		w.token = append(w.token, current)
	}
	for len(s) > 0 {
		if label := w.labelOf(s); tokens && label > 0 {
			current = int32(len(w.tokens))
			w.tokens = append(w.tokens, token{s: s[:label], asked: true, exempt: true})
			n.text(s[:label], emit)
			s = s[label:]
			continue
		}
		// A token ends at white space, or at punctuation of JSON and prose.
		to := strings.IndexFunc(s, func(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune(`"'()[]{},;<>`, r) })
		switch {
		case to < 0:
			to = len(s)
		case to == 0:
			_, to = utf8.DecodeRuneInString(s)
		}
		current = -1
		if tokens && identifier(s[:to]) {
			current = int32(len(w.tokens))
			w.tokens = append(w.tokens, token{s: s[:to]})
		}
		n.text(s[:to], emit)
		s = s[to:]
	}
	if len(w.symbols)-at < shingle {
		w.symbols, w.owner, w.token = w.symbols[:at], w.owner[:at], w.token[:at]
		return
	}
	if w.table == nil {
		w.table = make(map[uint64][]int32)
	}
	var h uint64
	for i, r := range w.symbols[at:] {
		h = h*base + uint64(r)
		if i >= shingle {
			h -= uint64(w.symbols[at+i-shingle]) * basePow
		}
		if i < shingle-1 {
			continue
		}
		if have := w.table[h]; len(have) < 2 || w.owner[have[len(have)-2]] != w.owner[at] { // two entries per text are enough
			w.table[h] = append(have, int32(at+i-shingle+1))
		}
		bit := mix(h)
		w.filter[bit>>6] |= 1 << (bit & 63)
	}
}

// labelOf returns the length of the name of a tool, agent, model or prompt of
// this event at the start of s, or 0.
func (w *watcher) labelOf(s string) (n int) {
	for _, label := range w.labels {
		if len(label) > n && len(label) <= len(s) && strings.EqualFold(s[:len(label)], label) {
			if next, _ := utf8.DecodeRuneInString(s[len(label):]); len(s) == len(label) || !unicode.IsLetter(next) && !unicode.IsDigit(next) {
				n = len(label)
			}
		}
	}
	return n
}

const longestLabel = 64

// isLabel reports whether the name of a tool, agent, model or prompt has a
// usual length: then it is not a quotation, whatever the prompts contain.
func isLabel(s string) bool { return len(s) <= longestLabel }

// label records a name that is never a quotation.
func (w *watcher) label(s string) {
	if len(s) >= 4 && isLabel(s) {
		w.labels = append(w.labels, s)
	}
}

const longestToken = 128

// identifier reports whether a token looks like an id or an identifier in code:
// letters, digits and connectors, with at least one digit or connector.
func identifier(s string) bool {
	if len(s) < 8 || len(s) > longestToken {
		return false
	}
	marked := false
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z':
		case c >= 'A' && c <= 'Z':
			marked = marked || i > 0 && s[i-1] >= 'a' && s[i-1] <= 'z'
		case c >= '0' && c <= '9', c == '_', c == '-', c == '.', c == ':', c == '/', c == '@', c == '#', c == '=', c == '~', c == '+':
			marked = true
		default:
			return false
		}
	}
	return marked
}

const base uint64 = 0x9E3779B97F4A7C15

var basePow = func() uint64 {
	p := uint64(1)
	for range shingle {
		p *= base
	}
	return p
}()

func mix(h uint64) uint64 { return (h ^ h>>29) * 0xBF58476D1CE4E5B9 >> 48 }

// run reads the content and drops the texts that quote it.
func (w *watcher) run() {
	if w.table == nil {
		return
	}
	r := reader{w: w}
	r.out = r.emit
	for _, list := range [][]json.RawMessage{w.content, w.slugs} {
		for _, part := range list {
			r.json(part)
		}
	}
	for _, s := range w.plain {
		r.reset()
		r.n.text(s, r.out)
	}
	for _, t := range w.texts {
		if t.found {
			t.drop()
		}
	}
}

// quoted reports whether a text on its own quotes the content.
func (w *watcher) quoted(s string) bool {
	one := &watcher{content: w.content, slugs: w.slugs, plain: w.plain}
	found := false
	one.add(s, func() { found = true })
	one.run()
	return found
}

// reader reads content symbol by symbol.
type reader struct {
	w    *watcher
	n    normal
	out  func(rune) // emit
	h    uint64
	ring [32]rune
	i    int // symbols of this string so far
}

func (r *reader) reset() { r.n, r.h, r.i = normal{}, 0, 0 }

func (r *reader) emit(c rune) {
	r.h = r.h*base + uint64(c)
	if r.i >= shingle {
		r.h -= uint64(r.ring[(r.i-shingle)&31]) * basePow
	}
	r.ring[r.i&31] = c
	r.i++
	if r.i < shingle {
		return
	}
	if bit := mix(r.h); r.w.filter[bit>>6]&(1<<(bit&63)) != 0 {
		r.w.match(r)
	}
}

// match verifies a match of the filter.
func (w *watcher) match(r *reader) {
next:
	for _, from := range w.table[r.h] {
		t := &w.texts[w.owner[from]]
		if t.found {
			continue
		}
		for k := range shingle {
			if w.symbols[int(from)+k] != r.ring[(r.i-shingle+k)&31] {
				continue next
			}
		}
		// An id or an identifier in code that prompts mention is not a
		// quotation: the rest of the window decides.
		other := 0
		for k := range shingle {
			if id := w.token[int(from)+k]; id < 0 || !w.mentioned(&w.tokens[id]) {
				other++
			}
		}
		t.found = other >= shingle/2
	}
}

// mentioned reports whether the content contains a token as a separate word,
// and not as a whole message.
func (w *watcher) mentioned(t *token) bool {
	if t.asked {
		return t.exempt
	}
	t.asked = true
	if w.whole == nil {
		w.whole = make(map[string]bool)
		for _, v := range w.content {
			w.joined = appendJoined(append(w.joined, '"'), string(v))
			w.wholes(gjson.ParseBytes(v), "", 0)
		}
		for _, s := range w.plain {
			w.joined = appendJoined(append(w.joined, '"'), s)
		}
	}
	low := appendJoined(nil, t.s)
	t.exempt = !w.whole[string(low)] && bytes.Contains(w.joined, low)
	return t.exempt
}

// appendJoined appends s in lower case, with one character for all connectors
// in an id: cleaning an id replaces some of them. Backslashes are JSON's,
// before a slash.
func appendJoined(dst []byte, s string) []byte {
	for i := range len(s) {
		switch c := s[i]; c {
		case '\\':
		case '-', '.', ':', '/', '@', '#', '=', '~', '+':
			dst = append(dst, '_')
		default:
			if c >= 'A' && c <= 'Z' {
				c |= 0x20
			}
			dst = append(dst, c)
		}
	}
	return dst
}

// wholes records the strings of the content with a token's length, except for
// ids and names by their keys.
func (w *watcher) wholes(v gjson.Result, key string, depth int) {
	switch {
	case v.Type == gjson.String:
		if s := strings.TrimSpace(v.Str); len(s) <= longestToken && !idKey(key) {
			w.whole[string(appendJoined(nil, s))] = true
		}
	case v.Type == gjson.JSON && depth < 64:
		v.ForEach(func(k, item gjson.Result) bool {
			name := key
			if k.Type == gjson.String {
				name = k.Str
			}
			w.wholes(item, name, depth+1)
			return true
		})
	}
}

// idKey reports whether a key of content names an id or something with a name.
func idKey(key string) bool {
	switch lastWord(key) {
	case "id", "ids", "uuid", "name", "type", "role", "model", "key", "status", "code", "version", "url", "ref", "kind", "tool", "function", "path":
		return true
	}
	return false
}
