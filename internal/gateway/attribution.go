package gateway

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hedgerow/hedgerow/event"
)

// Limits of what attribution headers may say.
const (
	maxValue      = 1000 // characters of one value
	maxProperties = 200  // custom properties of one event
	maxTags       = 50
)

// The attribution headers, in net/http's canonical form.
const (
	headerDistinctID = "X-Posthog-Distinct-Id"
	headerTraceID    = "X-Posthog-Trace-Id"
	headerSessionID  = "X-Posthog-Session-Id"
	headerProperties = "X-Posthog-Properties"
	prefixProperty   = "X-Posthog-Property-"
	prefixFlag       = "X-Posthog-Flag-"
	headerSurface    = "X-Hedgerow-Surface"
	headerPrompt     = "X-Hedgerow-Prompt"
	headerTaskType   = "X-Hedgerow-Task-Type"
	headerTags       = "X-Hedgerow-Tags"
	headerPrivacy    = "X-Hedgerow-Privacy"
	headerTraceState = "Traceparent"
)

// attribute lays what the headers say over what the body said. Headers win.
// Nothing that they hold can fail: what cannot be read is noted on the event as
// the property attribution_error.
func attribute(e *event.Event, h http.Header) {
	if v := value(h, headerDistinctID); v != "" {
		e.DistinctID = v
	} else if e.DistinctID == "" {
		e.DistinctID = clean(e.User)
	}
	e.DistinctID = event.FirstChars(e.DistinctID, event.MaxDistinctIDLen)

	if v := value(h, headerTraceID); v != "" {
		e.TraceID = v
	} else if trace, parent, ok := traceparent(value(h, headerTraceState)); ok {
		e.TraceID, e.ParentID = trace, parent // the body's parent is of the body's trace
	}
	if v := value(h, headerSessionID); v != "" {
		e.SessionID = v
	}
	e.TraceID, e.SessionID, e.ParentID = event.CleanID(e.TraceID), event.CleanID(e.SessionID), event.CleanID(e.ParentID)

	if v := value(h, headerSurface); v != "" {
		e.Surface = v
	}
	if v := value(h, headerTaskType); v != "" {
		e.TaskType = v
	}
	if v := value(h, headerPrompt); v != "" {
		e.PromptName, e.PromptVersion = promptRef(v)
		e.PromptVersionID = "" // the body's id is of the body's prompt
	}
	for _, line := range h[headerTags] {
		for tag := range strings.SplitSeq(line, ",") {
			if tag = clean(tag); tag != "" && !strings.HasPrefix(tag, "$") && len(e.Tags) < maxTags && !slices.Contains(e.Tags, tag) {
				e.Tags = append(e.Tags, tag)
			}
		}
	}
	if v := value(h, headerPrivacy); strings.EqualFold(v, "on") || strings.EqualFold(v, "true") || v == "1" {
		e.Private = true // enrich drops the content before the journal
	}
	properties(e, h)
}

// properties reads the custom properties and the flags.
func properties(e *event.Event, h http.Header) {
	set := func(name string, v json.RawMessage) {
		name = clean(name)
		if name == "" || name[0] == '$' { // $ is PostHog's own
			return
		}
		if e.Properties == nil {
			e.Properties = make(map[string]json.RawMessage)
		}
		if _, known := e.Properties[name]; known || len(e.Properties) < maxProperties {
			e.Properties[name] = v
		}
	}
	for _, line := range h[headerProperties] {
		var props map[string]json.RawMessage
		if err := json.Unmarshal([]byte(strings.ToValidUTF8(line, "\ufffd")), &props); err != nil || props == nil {
			set("attribution_error", json.RawMessage(`"X-PostHog-Properties is not a JSON object"`))
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(props)) {
			v := props[name]
			var s string
			if v[0] == '"' && json.Unmarshal(v, &s) == nil {
				v = quote(clean(s))
			}
			set(name, v)
		}
	}
	for name, lines := range h {
		if key, ok := strings.CutPrefix(name, prefixProperty); ok && key != "" {
			set(strings.ToLower(key), quote(clean(strings.Join(lines, ","))))
		}
		if key, ok := strings.CutPrefix(name, prefixFlag); ok && key != "" {
			if v := clean(strings.Join(lines, ",")); v != "" && len(e.Flags) < maxProperties {
				if e.Flags == nil {
					e.Flags = make(map[string]string)
				}
				e.Flags[strings.ToLower(key)] = v
			}
		}
	}
}

// traceparent reads a W3C Trace Context header: version-traceid-parentid-flags
// in lower-case hex, where neither id is all zeros.
func traceparent(v string) (trace, parent string, ok bool) {
	if len(v) < 55 || v[2] != '-' || v[35] != '-' || v[52] != '-' || v[:2] == "ff" {
		return "", "", false
	}
	if len(v) > 55 && (v[:2] == "00" || v[55] != '-') {
		return "", "", false
	}
	trace, parent = v[3:35], v[36:52]
	if !hex(v[:2]) || !hex(trace) || !hex(parent) || !hex(v[53:55]) || strings.Trim(trace, "0") == "" || strings.Trim(parent, "0") == "" {
		return "", "", false
	}
	return trace, parent, true
}

func hex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// value returns the first value of a header, cleaned. key must be canonical.
func value(h http.Header, key string) string {
	if v := h[key]; len(v) > 0 {
		return clean(v[0])
	}
	return ""
}

// clean makes a caller's word fit to keep: valid UTF-8 without control
// characters, trimmed, at most maxValue characters.
func clean(s string) string {
	simple := len(s) <= maxValue
	for i := 0; simple && i < len(s); i++ {
		simple = s[i] >= ' ' && s[i] < 0x7f
	}
	if !simple {
		s = strings.Map(func(r rune) rune {
			if unicode.IsControl(r) || r == utf8.RuneError {
				return -1
			}
			return r
		}, s)
	}
	return strings.TrimSpace(event.FirstChars(strings.TrimSpace(s), maxValue))
}

func quote(s string) json.RawMessage {
	b, err := json.Marshal(s)
	if err != nil {
		return json.RawMessage(`""`)
	}
	return b
}
