package vocabulary

import "github.com/hedgerow/hedgerow/event"

// reported is a call that its application reports itself, as it came: the fields
// that were read from its properties are left out, since these leave. Under both,
// its end has the form of any other call, too.
func reported(schema event.Schema, e *event.Event) []*event.Event {
	d := &event.Event{
		UUID: e.UUID, ProjectID: e.ProjectID, Name: e.Name, DistinctID: e.DistinctID, Timestamp: e.ReportedAt(), Source: e.Source,
		TraceID: e.TraceID, PromptName: e.PromptName, PromptVersion: e.PromptVersion, PromptVersionID: e.PromptVersionID,
		Surface: e.Surface, TaskType: e.TaskType, Environment: e.Environment, Tags: e.Tags, Flags: e.Flags, Groups: e.Groups,
		Properties: e.Properties, Attributes: e.Attributes, Historical: e.Historical,
	}
	if e.RawValid() {
		d.MarkRawValid()
	}
	if e.TraceID == e.SpanID && e.Properties["trace_id"] == nil {
		d.TraceID = "" // it named none
	}
	if e.Properties["session_id"] == nil {
		d.SessionID = e.SessionID
	}
	switch {
	case schema == event.SchemaLLMEvents:
		return []*event.Event{plainNames(d, true)}
	case schema == event.SchemaBoth && e.IsReportedCall() && e.Status != "": // else its figures were not read
		return []*event.Event{plainNames(d, false), generation(e)}
	case schema == event.SchemaBoth:
		return []*event.Event{plainNames(d, false)}
	}
	return []*event.Event{d}
}

// generation is the end of a reported call in PostHog's form.
func generation(e *event.Event) *event.Event {
	d := atLeast(e).Clone()
	d.Name, d.UUID = event.Generation, DerivedID(e.UUID, event.Generation, e.Timestamp)
	if d.Cost.Source == event.CostCaller {
		d.Cost.Source = event.CostPassthrough
	}
	for name := range d.Properties {
		if event.IsReportedName(name) {
			delete(d.Properties, name)
		}
	}
	return d
}

// asOutcome leaves out what was read from the properties of an outcome to find its
// call.
func asOutcome(e *event.Event) *event.Event {
	p := e.Properties
	if p["model"] == nil && p["provider"] == nil && p["request_id"] == nil {
		return e
	}
	d := *e
	if p["model"] != nil {
		d.Model = ""
	}
	if p["provider"] != nil {
		d.Provider = ""
	}
	if p["span_id"] == nil && p["generation_id"] == nil && p["request_id"] != nil {
		d.ParentID = ""
	}
	return &d
}
