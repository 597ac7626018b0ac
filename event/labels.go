package event

import (
	"encoding/json"
	"maps"
	"strings"
	"unicode/utf8"
)

// Surface, environment and task type have one meaning whether they are fields
// of the event or properties with one of the names below. The deployment.…
// names are OpenTelemetry's, newest first; $environment is set by some
// applications as a super-property.
var labels = []struct {
	at    func(*Event) *string
	names []string // in order of precedence
}{
	{func(e *Event) *string { return &e.Surface }, []string{"surface", "$surface", "hedgerow.surface"}},
	{func(e *Event) *string { return &e.Environment }, []string{"environment", "$environment", "hedgerow.environment", "deployment.environment.name", "deployment.environment"}},
	{func(e *Event) *string { return &e.TaskType }, []string{"task_type", "hedgerow.task_type"}},
}

// Label returns the field that a property of this name sets; nil if it sets
// none.
func (e *Event) Label(name string) *string {
	for _, l := range labels {
		for _, n := range l.names {
			if n == name {
				return l.at(e)
			}
		}
	}
	return nil
}

// AdoptLabels sets surface, environment and task type from the event's
// properties. A field that is already set takes precedence, then the property
// names in order; only text is used. For a call or a span the property is then
// removed, because the field is sent under its own name (surface, environment,
// task_type).
//
// Other events keep their properties. If they have a trace, their fields are set
// too; for a product event only from properties with the fields' own names, and
// only if the value would be sent unchanged.
func (e *Event) AdoptLabels() {
	if len(e.Properties) == 0 {
		return
	}
	llm := e.IsLLM()
	var left map[string]json.RawMessage // a copy: an event may share its map with its source
	for _, l := range labels {
		to := l.at(e)
		for i, name := range l.names {
			v, ok := e.Properties[name]
			if !ok {
				continue
			}
			s, exact := labelOf(v)
			switch {
			case s == "", !llm && i == 0 && !exact, !llm && i > 0 && e.TraceID == "":
				continue
			case *to == "":
				*to = s
			case i > 0 && *to != s:
				continue // has a different value: it remains a property
			}
			if llm || i == 0 {
				if left == nil {
					left = maps.Clone(e.Properties)
				}
				delete(left, name)
			}
		}
	}
	if left != nil {
		e.Properties = left
	}
}

// TakesSurface reports whether an event gets the default surface of its key or
// project: it has none, and is a call, a span or a trace. Feedback on a trace has
// the surface of that trace. Product events of PostHog's SDKs are not changed;
// those of hedgerow's own API and SDK get the default.
func (e *Event) TakesSurface() bool {
	switch {
	case e.Surface != "", e.IsSpanContent():
		return false
	case e.IsCosted(), e.Name == Span, e.Name == Trace, e.Name == RequestStarted:
		return true
	}
	return e.Source != SourceIngest && e.TraceID == "" && e.Properties["trace_id"] == nil
}

// labelOf returns the trimmed text of a JSON string, "" for anything else. exact
// reports whether it would be encoded as v again and is short enough not to be
// truncated.
func labelOf(v json.RawMessage) (s string, exact bool) {
	if len(v) < 3 || v[0] != '"' {
		return "", false
	}
	var raw string
	if json.Unmarshal(v, &raw) != nil {
		return "", false
	}
	s = strings.TrimSpace(raw)
	return s, s == raw && utf8.RuneCountInString(s) <= maxLabelLen && !strings.ContainsFunc(s, func(r rune) bool {
		return r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' || r == utf8.RuneError
	})
}

const maxLabelLen = 100 // as truncated by enrich.Normalise
