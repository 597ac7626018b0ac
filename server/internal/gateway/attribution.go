package gateway

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/rawjson"
)

// Limits of attribution headers.
const (
	maxProperties = 200 // custom properties of one event
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
	headerEnviron    = "X-Hedgerow-Environment"
	headerPrompt     = "X-Hedgerow-Prompt"
	headerTaskType   = "X-Hedgerow-Task-Type"
	headerTags       = "X-Hedgerow-Tags"
	headerPrivacy    = "X-Hedgerow-Privacy"
	headerTraceState = "Traceparent"
)

// attribute applies the attribution headers, which take precedence over the
// body. It cannot fail: invalid values are noted in the property
// attribution_error.
func attribute(e *event.Event, h http.Header) {
	if v := value(h, headerDistinctID); v != "" {
		e.DistinctID = v
	} else if e.DistinctID == "" {
		e.DistinctID = event.CleanValue(e.User)
	}
	e.DistinctID = event.FirstChars(e.DistinctID, event.MaxDistinctIDLen)

	if v := value(h, headerTraceID); v != "" {
		e.TraceID = v
	} else if trace, parent := event.ParseTraceparent(value(h, headerTraceState)); trace != "" {
		e.TraceID, e.ParentID = trace, parent // the body's parent span belongs to the body's trace
	}
	if v := value(h, headerSessionID); v != "" {
		e.SessionID = v
	}
	e.TraceID, e.SessionID, e.ParentID = event.CleanID(e.TraceID), event.CleanID(e.SessionID), event.CleanID(e.ParentID)

	properties(e, h)
	if v := value(h, headerSurface); v != "" {
		e.Surface = v
	}
	if v := value(h, headerEnviron); v != "" {
		e.Environment = v
	}
	if v := value(h, headerTaskType); v != "" {
		e.TaskType = v
	}
	if v := value(h, headerPrompt); v != "" {
		e.PromptName, e.PromptVersion = promptRef(v)
		e.PromptVersionID = "" // the body's id belongs to the body's prompt
	}
	for _, line := range h[headerTags] {
		for tag := range strings.SplitSeq(line, ",") {
			if tag = event.CleanValue(tag); tag != "" && !strings.HasPrefix(tag, "$") && len(e.Tags) < maxTags && !slices.Contains(e.Tags, tag) {
				e.Tags = append(e.Tags, tag)
			}
		}
	}
	if v := value(h, headerPrivacy); strings.EqualFold(v, "on") || strings.EqualFold(v, "true") || v == "1" {
		e.Private = true // the pipeline drops the content before the journal
	}
}

// properties reads custom properties and flags. A surface, environment or task
// type among them sets the event's field and overrides the body.
func properties(e *event.Event, h http.Header) {
	set := func(name string, v json.RawMessage) {
		name = event.CleanValue(name)
		if to := e.Label(name); to != nil {
			var s string
			if json.Unmarshal(v, &s) == nil && s != "" {
				*to = s
				return
			}
		}
		if name == "" || name[0] == '$' { // $ is reserved for PostHog
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
				v = rawjson.Quote(event.CleanValue(s))
			}
			set(name, v)
		}
	}
	for name, lines := range h {
		if key, ok := strings.CutPrefix(name, prefixProperty); ok && key != "" {
			set(strings.ToLower(key), rawjson.Quote(event.CleanValue(strings.Join(lines, ","))))
		}
		if key, ok := strings.CutPrefix(name, prefixFlag); ok && key != "" {
			if v := event.CleanValue(strings.Join(lines, ",")); v != "" && len(e.Flags) < maxProperties {
				if e.Flags == nil {
					e.Flags = make(map[string]string)
				}
				e.Flags[strings.ToLower(key)] = v
			}
		}
	}
}

// value returns the first value of a header, cleaned. key must be canonical.
func value(h http.Header, key string) string {
	if v := h[key]; len(v) > 0 {
		return event.CleanValue(v[0])
	}
	return ""
}
