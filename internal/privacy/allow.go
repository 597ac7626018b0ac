package privacy

import (
	"encoding/json"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"github.com/hedgerow/hedgerow/event"
)

// MaxUnlistedText is the maximum number of characters of a caller's text that is sent in
// privacy mode without being allowed by name.
const MaxUnlistedText = 200

const (
	longestURL  = 2000
	longestNote = 2000
	mostMembers = 100 // of an object or list that is sent
)

// ofAttribute reports whether a property is an attribute of a span or a resource,
// possibly written by a library. Attributes in which known exporters send the
// caller's properties are the caller's own.
func ofAttribute(e *event.Event, name string) bool {
	if e.Source != event.SourceOTLP && !slices.Contains(e.Attributes, name) {
		return false
	}
	return !callers(name)
}

// allowed applies the rule of privacy mode to one property of an event about
// calls. It returns the part of the value that is sent, or the reason why none is.
func allowed(name string, v json.RawMessage, attribute bool) (json.RawMessage, Reason) {
	if len(v) == 0 || string(v) == "null" {
		if attribute && known(name) == kindNone {
			return nil, ReasonAttribute
		}
		return v, ""
	}
	if k := known(name); k != kindNone {
		if safe, ok := ofKind(k, v); ok {
			return safe, ""
		}
		if attribute || name[0] == '$' || k == kindHolder {
			return nil, ReasonKind
		}
	}
	if attribute {
		return nil, ReasonAttribute
	}
	return custom(name, v)
}

// custom is the rule for callers' properties: numbers, booleans and short texts
// of one line, unless the name is known for content.
func custom(name string, v json.RawMessage) (json.RawMessage, Reason) {
	if !oneLine(name) {
		return nil, ReasonUnknown
	}
	switch v[0] {
	case '"':
		switch s := gjson.ParseBytes(v).String(); {
		case contentName(name, true):
			return nil, ReasonContent
		case strings.HasPrefix(name, "$"):
			return nil, ReasonUnknown
		case !oneLine(s):
			return nil, reasonOf(s)
		case nested(s):
			return nil, ReasonNested
		}
	case '[', '{':
		if contentName(name, true) {
			return nil, ReasonContent
		}
		return nil, ReasonNested
	}
	return v, ""
}

// nested reports whether a text is a JSON list or object.
func nested(s string) bool {
	s = strings.TrimSpace(s)
	return len(s) > 1 && (s[0] == '{' || s[0] == '[') && gjson.Valid(s)
}

// oneLine reports whether s is at most 200 characters in one line.
func oneLine(s string) bool {
	return (len(s) <= MaxUnlistedText || utf8.RuneCountInString(s) <= MaxUnlistedText) && !strings.ContainsFunc(s, breaks)
}

// breaks are the characters that end a line, and control characters.
func breaks(r rune) bool { return r == '\u2028' || r == '\u2029' || unicode.IsControl(r) }

// reasonOf returns why a text is not one line.
func reasonOf(s string) Reason {
	if utf8.RuneCountInString(s) > MaxUnlistedText {
		return ReasonLong
	}
	return ReasonLines
}

// ofKind returns the part of a known property's value that has the expected
// kind.
func ofKind(k kind, v json.RawMessage) (json.RawMessage, bool) {
	r := gjson.ParseBytes(v)
	switch k {
	case kindCounts:
		return counts(r, 3)
	case kindNames:
		return listOf(r, func(s string) bool { return oneLine(s) })
	case kindPerson:
		return membersOf(r, personProperty)
	case kindHolder:
		if s := strings.TrimSpace(r.Str); r.Type == gjson.String && len(s) > 1 && s[0] == '{' && gjson.Valid(s) {
			r = gjson.Parse(s)
		}
		return membersOf(r, custom)
	}
	switch r.Type {
	case gjson.Number, gjson.True, gjson.False:
		return v, true
	case gjson.String:
	default:
		return nil, false
	}
	switch k {
	case kindFigure:
		// OTLP senders and browser SDKs write numbers as strings.
		return v, r.Str == "" || r.Str == "true" || r.Str == "false" || isFigure(r.Str)
	case kindWord:
		return v, r.Str == "" || isWord(r.Str)
	case kindID:
		return v, oneLine(r.Str) && !strings.ContainsFunc(r.Str, unicode.IsSpace)
	case kindName, kindLabel:
		return v, oneLine(r.Str) && !nested(r.Str)
	case kindNote:
		return v, len(r.Str) <= longestNote && !strings.ContainsFunc(r.Str, breaks)
	case kindURL:
		return v, isURL(r.Str)
	}
	return nil, false
}

// personProperty is the rule for a property of a person or a group. Those with
// $ are PostHog's, and not all of them are known here.
func personProperty(name string, v json.RawMessage) (json.RawMessage, Reason) {
	if v[0] == '"' && strings.HasPrefix(name, "$") && known(name) == kindNone {
		return v, reasonUnless(oneLine(gjson.ParseBytes(v).String()))
	}
	return allowed(name, v, false)
}

func reasonUnless(ok bool) Reason {
	if ok {
		return ""
	}
	return ReasonLong
}

// isURL reports whether s may be an address, or a part of one.
func isURL(s string) bool {
	return len(s) <= longestURL && !strings.ContainsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || breaks(r) })
}

func isFigure(s string) bool {
	return len(s) <= 40 && gjson.Valid(s) && gjson.Parse(s).Type == gjson.Number
}

// counts keeps the numbers of an object.
func counts(v gjson.Result, depth int) (json.RawMessage, bool) {
	if s := strings.TrimSpace(v.Str); v.Type == gjson.String && len(s) > 1 && s[0] == '{' && gjson.Valid(s) {
		v = gjson.Parse(s)
	}
	if !v.IsObject() || depth == 0 {
		return nil, false
	}
	return membersOf(v, func(name string, m json.RawMessage) (json.RawMessage, Reason) {
		if !isWord(name) {
			return nil, ReasonUnknown
		}
		switch m[0] {
		case '"', '[':
			return nil, ReasonKind
		case '{':
			if safe, ok := counts(gjson.ParseBytes(m), depth-1); ok {
				return safe, ""
			}
			return nil, ReasonKind
		}
		return m, ""
	})
}

// listOf keeps a list of texts if all of them are allowed.
func listOf(v gjson.Result, fit func(string) bool) (json.RawMessage, bool) {
	if v.Type == gjson.String { // joined by commas
		return json.RawMessage(v.Raw), oneLine(v.Str)
	}
	if !v.IsArray() {
		return nil, false
	}
	n, ok := 0, true
	v.ForEach(func(_, item gjson.Result) bool {
		n++
		ok = n <= mostMembers && item.Type == gjson.String && fit(item.Str)
		return ok
	})
	return json.RawMessage(v.Raw), ok
}

// membersOf keeps the members of an object that keep lets through. It reports
// false if there are none.
func membersOf(v gjson.Result, keep func(name string, v json.RawMessage) (json.RawMessage, Reason)) (json.RawMessage, bool) {
	if !v.IsObject() {
		return nil, false
	}
	out := make(map[string]json.RawMessage)
	v.ForEach(func(name, m gjson.Result) bool {
		if safe, why := keep(name.String(), json.RawMessage(m.Raw)); why == "" && oneLine(name.String()) {
			out[name.String()] = safe
		}
		return len(out) < mostMembers
	})
	if len(out) == 0 {
		return nil, false
	}
	b, err := json.Marshal(out)
	return b, err == nil
}

// shownName is a property's name as shown in lists; a name that may be content
// is not shown.
func shownName(name string) string {
	if !oneLine(name) {
		return "(a name of more than 200 characters)"
	}
	return name
}

const exceptionList = "$exception_list"

// aboutException reports whether a property describes an exception. The known
// names among them do not quote user text.
func aboutException(name string) bool {
	return strings.HasPrefix(name, "$exception") || strings.HasPrefix(name, "$sentry") || name == "code_variables"
}

// exceptions reduces PostHog's list of exceptions to parts without user text:
// types, known messages, and source locations.
func exceptions(v json.RawMessage) json.RawMessage {
	type frame map[string]json.RawMessage
	type exception struct {
		Type       string          `json:"type,omitzero"`
		Value      string          `json:"value,omitzero"`
		Mechanism  json.RawMessage `json:"mechanism,omitzero"`
		Stacktrace struct {
			Type   string  `json:"type,omitzero"`
			Frames []frame `json:"frames,omitzero"`
		} `json:"stacktrace,omitzero"`
	}
	var list []exception
	if json.Unmarshal(v, &list) != nil {
		return json.RawMessage("[]")
	}
	places := []string{"platform", "lang", "filename", "abs_path", "function", "module", "lineno", "colno", "in_app", "resolved", "chunk_id"}
	for i := range list {
		x := &list[i]
		x.Value = SafeError(x.Type, x.Value, 0)
		x.Type = word(x.Type, "error")
		x.Mechanism, _ = membersOf(gjson.ParseBytes(x.Mechanism), func(name string, m json.RawMessage) (json.RawMessage, Reason) {
			return m, reasonUnless(m[0] != '"' && m[0] != '{' && m[0] != '[' || isWord(gjson.ParseBytes(m).Str))
		})
		x.Stacktrace.Type = word(x.Stacktrace.Type, "raw")
		for _, f := range x.Stacktrace.Frames {
			for name, m := range f {
				if !slices.Contains(places, name) || len(m) == 0 || m[0] == '{' || m[0] == '[' || !oneLine(gjson.ParseBytes(m).String()) {
					delete(f, name)
				}
			}
		}
	}
	b, err := json.Marshal(list)
	if err != nil {
		return json.RawMessage("[]")
	}
	return b
}
