package event

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/internal/rawjson"
)

// Event names of applications that report their calls and outcomes themselves:
// the llm_events schema, and llm_generation, a call in one event.
// [RequestStarted] is the fifth of the schema.
const (
	RequestCompleted   = "llm_request_completed" // a call that succeeded
	RequestFailed      = "llm_request_failed"    // a call that failed, or was blocked
	OutputRated        = "llm_output_rated"      // a rating of a response by a user or an evaluation
	TaskCompleted      = "llm_task_completed"    // the task of the call was completed or abandoned
	ReportedGeneration = "llm_generation"        // a call with any outcome
)

// IsReportedCall reports whether the event is a completed call that its
// application reports.
func (e *Event) IsReportedCall() bool {
	return e.Name == RequestCompleted || e.Name == RequestFailed || e.Name == ReportedGeneration
}

// IsReportedStart reports whether the event is the start of a call that its
// application reports, as opposed to one that the gateway reports.
func (e *Event) IsReportedStart() bool { return e.Name == RequestStarted && !e.StartSent }

// IsCall reports whether the event is a completed LLM call, captured or
// reported.
func (e *Event) IsCall() bool { return e.IsCosted() || e.IsReportedCall() }

// reportedLabels are the properties that SetWireProperties moves out of a
// reported call. The others are kept, since they are sent unchanged.
var reportedLabels = map[string]bool{
	"surface": true, "environment": true, "task_type": true, "$ai_trace_id": true, "$ai_session_id": true, "$ai_prompt_name": true,
	"$groups": true, "$hedgerow": true,
}

// ReadReported sets the fields of a call that its application reports, or of an
// outcome, from properties with the names in docs/events.md. Fields that are
// already set are kept, and so are the properties. It is idempotent. Other events
// are not changed.
//
// SpanID is the request's id, which joins the start and the end of a call, and
// the trace's id if there is no trace. A call is reported when it has ended: if
// its latency is known, its Timestamp becomes the start, as for every call. See
// [Event.ReportedAt].
func (e *Event) ReadReported() {
	switch {
	case e.Name == OutputRated, e.Name == TaskCompleted:
		for _, f := range outcomeTexts {
			e.readText(f.name, f.at(e))
		}
		return
	case e.IsReportedStart():
		e.readFields(false)
		e.readText("model", &e.ModelAsked)
	case e.IsReportedCall():
		e.readFields(true)
		e.readText("model", &e.Model)
		e.readEnd()
	default:
		return
	}
	if e.SpanID == "" {
		e.SpanID = e.UUID
	}
	if e.TraceID == "" {
		e.TraceID = e.SpanID
	}
	if t := e.Properties["temperature"]; len(t) > 0 && e.ModelParameters["temperature"] == nil {
		if _, ok := numberIn(t); ok {
			e.ModelParameters = maps.Clone(e.ModelParameters)
			if e.ModelParameters == nil {
				e.ModelParameters = make(map[string]json.RawMessage, 1)
			}
			e.ModelParameters["temperature"] = t
		}
	}
}

// readEnd reads the fields of a call that are known only after its end.
func (e *Event) readEnd() {
	if in := e.Usage.Input; in.Known && !e.Usage.CacheExclusive.Known {
		e.Usage.CacheExclusive = Some(false) // input_tokens include cached tokens
	}
	for _, name := range [...]string{"estimated_cost_usd", "estimated_cost"} {
		if e.Cost.Total.Known {
			break
		}
		if d, ok := Dollars(strings.Trim(string(e.Properties[name]), `"`)); ok {
			e.Cost.Total, e.Cost.Source = Some(d), CostCaller
		}
	}
	if n := rawjson.Scalar(e.Properties["http_status"]); e.HTTPStatus == 0 && n != "" {
		var status Int
		parseInt(e.Properties["http_status"], &status)
		e.HTTPStatus = int(status.Or(0))
	}
	if !e.Stream.Known {
		parseBool(e.Properties["stream"], &e.Stream)
	}
	e.readMillis("time_to_first_token_ms", &e.TimeToFirstToken)
	if e.readMillis("latency_ms", &e.Latency) && e.Latency.Value >= 0 && e.Latency.Value <= MaxDuration {
		e.Timestamp = e.Timestamp.Add(-e.Latency.Value)
	}
	if s := Status(strings.ToLower(rawjson.Scalar(e.Properties["status"]))); e.Status == "" && (e.Name != RequestFailed || s != StatusSuccess) {
		e.Status = s
	}
	if e.Name == RequestFailed {
		e.IsError = true
	}
}

// ReportedAt returns the original time of a reported call: its end, if its
// latency is known.
func (e *Event) ReportedAt() time.Time {
	if e.IsReportedCall() {
		return e.Timestamp.Add(e.Latency.Or(0))
	}
	return e.Timestamp
}

// readFields sets the fields that are still unknown from the properties of the
// llm_events schema, and those of the call's end only if it has ended.
func (e *Event) readFields(ended bool) {
	for _, f := range reportedFields {
		if f.LLMEnd && !ended {
			continue
		}
		for _, name := range f.LLM {
			switch at := f.At.(type) {
			case func(*Event) *string:
				e.readText(name, at(e))
			case func(*Event) *Int:
				if n := at(e); !n.Known {
					parseInt(e.Properties[name], n)
				}
			}
		}
	}
}

var reportedFields = slices.DeleteFunc(slices.Clone(Fields), func(f Field) bool { return f.LLM == nil })

// outcomeTexts are the fields that assign an outcome to its call.
var outcomeTexts = []struct {
	name string
	at   func(*Event) *string
}{
	{"span_id", func(e *Event) *string { return &e.ParentID }},
	{"generation_id", func(e *Event) *string { return &e.ParentID }},
	{"request_id", func(e *Event) *string { return &e.ParentID }},
	{"provider", func(e *Event) *string { return &e.Provider }},
	{"model", func(e *Event) *string { return &e.Model }},
}

// IsReportedName reports whether a property is one of those that
// [Event.ReadReported] reads into the fields of a call.
func IsReportedName(name string) bool { return reportedNames[name] }

var reportedNames = func() map[string]bool {
	names := map[string]bool{
		"model": true, "estimated_cost_usd": true, "estimated_cost": true, "latency_ms": true, "time_to_first_token_ms": true,
		"http_status": true, "stream": true, "status": true, "temperature": true, "prompt_name": true, "prompt_version_id": true,
	}
	for _, f := range reportedFields {
		for _, name := range f.LLM {
			names[name] = true
		}
	}
	return names
}()

func (e *Event) readText(name string, to *string) {
	if *to == "" {
		*to = rawjson.Scalar(e.Properties[name])
	}
}

// readMillis reads a number of milliseconds, and reports whether it did.
func (e *Event) readMillis(name string, to *Opt[time.Duration]) bool {
	ms, ok := numberIn(e.Properties[name])
	if !ok || to.Known {
		return false
	}
	*to = Some(Seconds(ms / 1000))
	return true
}
