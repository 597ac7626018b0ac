package join

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// JoinedTo is the property of a span that was a second capture of a call: the uuid of
// the event that counts.
const JoinedTo = "hedgerow_joined_to"

// mergeOf is the property of a merge that holds its [Merge].
const mergeOf = "hedgerow_merge_of"

// Merge says which two events are captures of one call.
type Merge struct {
	Call string `json:"call"` // uuid of the event that counts
	Half string `json:"half"` // uuid of the other
	Sent string `json:"sent"` // uuid of the one that PostHog gets

	// Span says that the other stays as a span, since it is the parent of the one that
	// counts: else it is no event of its own any more.
	Span bool `json:"span,omitempty"`

	// Late says that the other half came when one could be at PostHog already.
	Late bool `json:"late,omitempty"`

	// What the call's trace and span were before: outcomes may name it by them.
	Trace  string `json:"trace,omitempty"`
	SpanID string `json:"span_id,omitempty"`
}

// MergeOf reads a merge. ok is false where the event is none.
func MergeOf(e *event.Event) (m Merge, ok bool) {
	if !e.IsMerge() || json.Unmarshal(e.Properties[mergeOf], &m) != nil {
		return Merge{}, false
	}
	return m, m.Call != "" && m.Half != "" && m.Call != m.Half
}

// newMerge makes the event of a merge. What it has of said, the capture that does not
// count, is what [Apply] gives the call. said is not changed.
func newMerge(m Merge, said *event.Event, at time.Time) (*event.Event, error) {
	e := said.Clone()
	ids := []string{m.Call, m.Half}
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

// said is what a merge takes of a capture: identity, tree, labels and custom
// properties. Its texts are its own.
func said(e *event.Event) *event.Event {
	s := &event.Event{
		ProjectID: e.ProjectID, DistinctID: e.DistinctID, User: e.User, SessionID: e.SessionID,
		TraceID: e.TraceID, SpanID: e.SpanID, ParentID: e.ParentID, TraceName: e.TraceName, SpanName: e.SpanName,
		PromptName: e.PromptName, PromptVersion: e.PromptVersion, PromptVersionID: e.PromptVersionID, PromptHash: e.PromptHash,
		Surface: e.Surface, TaskType: e.TaskType, Environment: e.Environment, Tags: e.Tags, Flags: e.Flags, Groups: e.Groups, Attributes: e.Attributes,
	}
	if e.Source == event.SourceOTLP { // all are attributes; the call's own are not
		s.Attributes = slices.Sorted(maps.Keys(e.Properties))
	}
	s.Properties = custom(e.Properties)
	return s.Clone()
}

// custom leaves out what would let PostHog price the call again.
func custom(p map[string]json.RawMessage) map[string]json.RawMessage {
	out := make(map[string]json.RawMessage, len(p))
	for k, v := range p {
		if !costProperties[k] {
			out[k] = v
		}
	}
	return out
}

// costProperties would let PostHog price the call again.
var costProperties = map[string]bool{
	"$ai_usage": true, "$ai_cost_passthrough": true, "$ai_input_token_price": true, "$ai_output_token_price": true, "$ai_cache_read_token_price": true,
	"$ai_cache_write_token_price": true, "$ai_cache_write_1h_token_price": true, "$ai_request_price": true, "$ai_web_search_price": true, "$ai_total_cost_usd": true,
	"$ai_output": true,
}

// Apply gives the call that counts what the merge has: identity, place in the tree and
// custom properties are the other capture's where it has any, labels where the call has
// none. Figures, status, times and content stay. Applied twice it changes nothing more.
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

// united has all of two maps, and of keys in both what the second has.
func united[V any](a, b map[string]V) map[string]V {
	if len(a) == 0 && len(b) == 0 {
		return nil
	}
	out := make(map[string]V, len(a)+len(b))
	maps.Copy(out, a)
	maps.Copy(out, b)
	return out
}

// AsSpan makes of the capture that does not count a span that points to the call that
// does.
func AsSpan(e *event.Event, to string) {
	if e.SpanName == "" {
		e.SpanName = e.ModelName()
	}
	e.Name = event.Span
	e.Usage, e.Cost = event.Usage{}, event.Cost{}
	e.InputChars, e.OutputChars, e.InputLengthBucket, e.OutputCategory = event.Int{}, event.Int{}, "", ""
	e.DropContent()
	e.Private = false
	e.Properties = custom(e.Properties)
	e.Properties[JoinedTo] = json.RawMessage(strconv.Quote(to))
}
