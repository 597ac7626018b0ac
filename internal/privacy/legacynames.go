package privacy

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/hedgerow/hedgerow/event"
)

// LegacyNames finds the names that were sent in privacy mode before the allow-list
// existed, that the allow-list would withhold, and whose values are not texts:
// an upgrade continues to send them. The zero value is ready for use; it is not
// safe for concurrent use.
type LegacyNames struct {
	names map[legacyName]*legacyStats
}

type legacyName struct {
	name      string
	attribute bool
}

type legacyStats struct{ values, texts int }

// maxLegacyNames is how many names are taken over from each of the two lists.
const maxLegacyNames = 500

// Add checks an event of the earlier version.
func (t *LegacyNames) Add(e *event.Event) {
	if !aboutLLM(e) {
		return // nothing changed for product events
	}
	for k, v := range e.Properties {
		attribute := ofAttribute(e, k)
		if _, why := allowed(k, v, attribute); why == "" || !oneLine(k) {
			continue
		}
		if _, left := withoutText(k, v, true, 0); !left {
			continue
		}
		if t.names == nil {
			t.names = make(map[legacyName]*legacyStats)
		}
		n := legacyName{k, attribute}
		s := t.names[n]
		switch {
		case s == nil && len(t.names) >= 20*maxLegacyNames:
			continue
		case s == nil:
			s = new(legacyStats)
			t.names[n] = s
		}
		s.values++
		if textual(gjson.ParseBytes(v), k, 0) {
			s.texts++
		}
	}
}

// Names returns the names to take over, in order. If there are very many, it
// returns the most frequent ones.
func (t *LegacyNames) Names() (properties, attributes []string) {
	most := make([]legacyName, 0, len(t.names))
	for n, s := range t.names {
		if s.texts == 0 {
			most = append(most, n)
		}
	}
	slices.SortFunc(most, func(a, b legacyName) int {
		if d := t.names[b].values - t.names[a].values; d != 0 {
			return d
		}
		return strings.Compare(a.name, b.name)
	})
	for _, n := range most {
		list := &properties
		if n.attribute {
			list = &attributes
		}
		if len(*list) < maxLegacyNames {
			*list = append(*list, n.name)
		}
	}
	slices.Sort(properties)
	slices.Sort(attributes)
	return properties, attributes
}

// Signs of a text: more words than a name has, or characters that are not part
// of one line.
const (
	mostWords  = 4
	mostNested = 2000 // bytes of a list or object
)

// textual reports whether a value looks like text of a user or a model, or
// contains one.
func textual(v gjson.Result, key string, depth int) (found bool) {
	switch {
	case v.Type == gjson.String:
		s := v.Str
		if nested(s) && depth < 3 {
			return textual(gjson.Parse(strings.TrimSpace(s)), key, depth+1)
		}
		return !oneLine(s) || len(strings.Fields(s)) > mostWords || wideText(s)
	case v.Type != gjson.JSON:
		return false
	case depth > 3 || len(v.Raw) > mostNested:
		return true
	}
	v.ForEach(func(k, item gjson.Result) bool {
		name := key
		if k.Type == gjson.String {
			name = k.Str
			found = !oneLine(name) || len(strings.Fields(name)) > mostWords || contentName(name, true) && (item.Type == gjson.String || item.Type == gjson.JSON)
		}
		found = found || textual(item, name, depth+1)
		return !found
	})
	return found
}

// wideText reports whether a text of a script without spaces is longer than a
// name.
func wideText(s string) bool {
	n := 0
	for _, r := range s {
		if wide(r) {
			n++
		}
	}
	return n > shingle/2
}

// plainShape reports whether an unconfirmed value may be sent: its texts must
// be few and have one line each.
func plainShape(v json.RawMessage) bool {
	r := gjson.ParseBytes(v)
	return r.Type != gjson.JSON && (r.Type != gjson.String || oneLine(r.Str)) || r.Type == gjson.JSON && !textual(r, "", 0)
}
