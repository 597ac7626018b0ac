package join

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// JoinedTo is the property of a span that was a capture of a call: the uuid of the
// capture that counts.
const JoinedTo = "hedgerow_joined_to"

// mergeOf is the property of a merge that holds its [Merge].
const mergeOf = "hedgerow_merge_of"

// Merge names two events that are captures of one call.
type Merge struct {
	Call  string `json:"call"` // uuid of the capture that counts
	Other string `json:"half"` // uuid of the other
	Sent  string `json:"sent"` // uuid of the capture that PostHog gets

	// Span is set if the other capture is the parent of the one that counts: it stays,
	// as a span. Otherwise it is removed.
	Span bool `json:"span,omitempty"`

	// Late is set if the first capture may have been sent before the second came.
	Late bool `json:"late,omitempty"`

	// The call's trace and span before the merge, if that changes them: outcomes may
	// name it by these.
	Trace  string `json:"trace,omitempty"`
	SpanID string `json:"span_id,omitempty"`
}

// MergeOf decodes a merge. ok is false for other events.
func MergeOf(e *event.Event) (m Merge, ok bool) {
	if !e.IsMerge() || json.Unmarshal(e.Properties[mergeOf], &m) != nil {
		return Merge{}, false
	}
	return m, m.Call != "" && m.Other != "" && m.Call != m.Other
}

// newMerge returns the event of a merge. [Apply] sets fields, those of the capture
// that does not count, in the call. newMerge does not change them.
func newMerge(m Merge, fields *event.Event, at time.Time) (*event.Event, error) {
	e := fields.Clone()
	ids := []string{m.Call, m.Other}
	slices.Sort(ids)
	e.UUID, e.Name, e.Source, e.Timestamp = event.DerivedID("merge "+ids[0]+" "+ids[1], at), event.Merge, event.SourceJoin, at
	b, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	e.Properties = maps.Clone(e.Properties)
	if e.Properties == nil {
		e.Properties = make(map[string]json.RawMessage, 1)
	}
	e.Properties[mergeOf] = b
	return e, nil
}

// mergeFields returns a copy of the fields that a merge takes from a capture: identity, place
// in the tree, labels and custom properties.
func mergeFields(e *event.Event) *event.Event {
	s := &event.Event{
		ProjectID: e.ProjectID, DistinctID: userOf(e), User: e.User, SessionID: e.SessionID,
		TraceID: e.TraceID, SpanID: e.SpanID, ParentID: e.ParentID, TraceName: e.TraceName, SpanName: e.SpanName,
		PromptName: e.PromptName, PromptVersion: e.PromptVersion, PromptVersionID: e.PromptVersionID, PromptHash: e.PromptHash,
		Surface: e.Surface, TaskType: e.TaskType, Environment: e.Environment, Tags: e.Tags, Flags: e.Flags, Groups: e.Groups, Attributes: e.Attributes,
	}
	if e.Source == event.SourceOTLP { // its properties are attributes, the call's are not
		s.Attributes = slices.Sorted(maps.Keys(e.Properties))
	}
	s.Properties = custom(e.Properties)
	if s.DistinctID != e.DistinctID {
		delete(s.Properties, personProfile) // the call may have a user
	}
	return s.Clone()
}

const personProfile = "$process_person_profile"

// userOf returns the distinct id of a capture if it is a user's. PostHog's wrappers put the
// trace id there when the application names no user, and mark the event personless.
func userOf(e *event.Event) string {
	if e.DistinctID == e.TraceID && string(e.Properties[personProfile]) == "false" {
		return ""
	}
	return e.DistinctID
}

// custom returns the properties without those from which PostHog would price the call.
func custom(p map[string]json.RawMessage) map[string]json.RawMessage {
	out := make(map[string]json.RawMessage, len(p))
	for k, v := range p {
		if !costProperties[k] {
			out[k] = v
		}
	}
	return out
}

// costProperties are the properties from which PostHog would price the call, and the
// output.
var costProperties = map[string]bool{
	"$ai_usage": true, "$ai_cost_passthrough": true, "$ai_input_token_price": true, "$ai_output_token_price": true, "$ai_cache_read_token_price": true,
	"$ai_cache_write_token_price": true, "$ai_cache_write_1h_token_price": true, "$ai_request_price": true, "$ai_web_search_price": true, "$ai_total_cost_usd": true,
	"$ai_output": true,
}

// Apply sets the fields of a merge in the call that counts: identity, place in the tree
// and custom properties if the merge has them, labels if the call has none. Figures,
// status, times and content stay. It is idempotent.
func Apply(merge, call *event.Event) {
	over := func(to *string, from string) {
		if from != "" {
			*to = from
		}
	}
	fill := func(to *string, from string) {
		if *to == "" {
			*to = from
		}
	}
	over(&call.DistinctID, merge.DistinctID)
	over(&call.User, merge.User)
	over(&call.SessionID, merge.SessionID)
	if merge.TraceID != "" {
		call.TraceID, call.SpanID, call.ParentID = merge.TraceID, merge.SpanID, merge.ParentID
		over(&call.TraceName, merge.TraceName)
	}
	over(&call.SpanName, merge.SpanName)
	for to, from := range map[*string]string{
		&call.PromptName: merge.PromptName, &call.PromptVersion: merge.PromptVersion, &call.PromptVersionID: merge.PromptVersionID, &call.PromptHash: merge.PromptHash,
		&call.Surface: merge.Surface, &call.TaskType: merge.TaskType, &call.Environment: merge.Environment,
	} {
		fill(to, from)
	}
	for _, tag := range merge.Tags {
		if !slices.Contains(call.Tags, tag) {
			call.Tags = append(slices.Clip(call.Tags), tag)
		}
	}
	call.Flags, call.Groups = united(merge.Flags, call.Flags), united(merge.Groups, call.Groups)
	properties := united(call.Properties, merge.Properties)
	delete(properties, mergeOf)
	call.Properties = properties
	for _, name := range merge.Attributes {
		if !slices.Contains(call.Attributes, name) {
			call.Attributes = append(slices.Clip(call.Attributes), name)
		}
	}
}

// united returns the union of two maps; the second wins.
func united[V any](a, b map[string]V) map[string]V {
	if len(a) == 0 && len(b) == 0 {
		return nil
	}
	out := make(map[string]V, len(a)+len(b))
	maps.Copy(out, a)
	maps.Copy(out, b)
	return out
}

// AsSpan turns the capture that does not count into a span that names the call that
// does. Its token counts are kept as properties, which no sum includes.
func AsSpan(e *event.Event, to string) {
	if e.SpanName == "" {
		e.SpanName = e.ModelName()
	}
	e.Name = event.Span
	reported := map[string]event.Int{"input": e.Usage.Input, "output": e.Usage.Output, "cache_read": e.Usage.CacheRead, "cache_write": e.Usage.CacheWrite, "reasoning": e.Usage.Reasoning}
	e.Usage, e.Cost = event.Usage{}, event.Cost{}
	e.InputChars, e.OutputChars, e.InputLengthBucket, e.OutputCategory = event.Int{}, event.Int{}, "", ""
	e.Content = event.Content{InputState: e.Content.Input, OutputState: e.Content.Output}
	e.Properties = custom(e.Properties)
	for kind, n := range reported {
		if n.Known {
			e.Properties["hedgerow_reported_"+kind+"_tokens"] = json.RawMessage(strconv.FormatInt(n.Value, 10))
		}
	}
	e.Properties[JoinedTo] = json.RawMessage(strconv.Quote(to))
}
