package vocabulary

import (
	"cmp"
	"encoding/json"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/rawjson"
)

// The names of the llm_events vocabulary. OutputRated and TaskCompleted are also
// names under which callers send outcomes of their own.
const (
	RequestStarted   = event.RequestStarted   // before the call: its timestamp is the call's start
	RequestCompleted = event.RequestCompleted // after a call that succeeded: its timestamp is the call's end
	RequestFailed    = event.RequestFailed    // after any other call, blocked ones included
	OutputRated      = event.OutputRated      // a user's or a check's judgment of an answer
	TaskCompleted    = event.TaskCompleted    // what the call was made for is done
)

// Events turns one event into those that leave for a connection of the given
// schema, in the order in which they should be sent. e is the event as the
// connection may see it; safe is the same in privacy mode, and may be e itself.
// Neither is changed. Equal events give equal results.
//
//   - posthog: e, as it is. An event that is not PostHog's own has its trace,
//     prompt, model and flag under their plain names as well, so that charts by
//     prompt_version_id and the like work whatever the schema.
//   - llm_events: a call ($ai_generation, $ai_embedding) becomes
//     [RequestStarted] and, by its status, [RequestCompleted] or
//     [RequestFailed], the first of them only where the gateway has not sent it
//     before the call; a judgment ($ai_feedback, $ai_metric, $ai_evaluation)
//     becomes [OutputRated], and the span of a tool call that failed becomes
//     [RequestFailed]. They are made of safe, since this schema has no text
//     whatever the connection allows. Other $ai_ events say nothing that it has
//     a word for, and do not leave. Every other event leaves under its own
//     name, with trace_id for $ai_trace_id and so on.
//   - both: all of these; an event that has one form only leaves once, with the
//     property names of both.
//
// A call that its application reports itself leaves as it came, whatever the
// schema; under both, its end becomes a $ai_generation besides, as any other call
// has both forms there.
//
// A cost that is known in part is sent as the sum of the known parts, marked
// [CostIncomplete], in every schema. Events made here have their own uuids, see
// [DerivedID]. What is unknown is absent, never 0 or "". docs/events.md lists
// the properties.
func Events(schema event.Schema, e, safe *event.Event) []*event.Event {
	if e.IsReportedCall() || e.IsReportedStart() {
		return reported(schema, e)
	}
	if e.Name == OutputRated || e.Name == TaskCompleted {
		e = asOutcome(e)
	}
	same := e == safe
	e, safe = atLeast(e), atLeast(safe)
	if same {
		safe = e
	}
	if e.Name == RequestStarted && e.StartSent { // the gateway's, not one of the caller's own
		if schema == event.SchemaPostHog {
			return nil
		}
		return []*event.Event{started(safe)}
	}
	switch {
	case schema == event.SchemaLLMEvents && e.IsLLM():
		return llmEvents(safe)
	case schema == event.SchemaLLMEvents:
		return []*event.Event{plainNames(e, true)}
	case schema == event.SchemaBoth && e.IsLLM():
		return append([]*event.Event{e}, llmEvents(safe)...)
	case schema == event.SchemaBoth, !strings.HasPrefix(e.Name, "$"):
		return []*event.Event{plainNames(e, false)}
	}
	return []*event.Event{e}
}

// CostIncomplete is the property of an event whose cost is the sum of those parts
// that have a price: the call cost at least that. PostHog takes the total as it is
// and does not price the call again.
const CostIncomplete = "hedgerow_cost_incomplete"

// atLeast returns a copy with a total and the mark, where some parts of the cost
// are known and the total is not; else the event itself, nil included.
func atLeast(e *event.Event) *event.Event {
	if e == nil || e.Cost.Total.Known {
		return e
	}
	c := e.Clone()
	if c.Cost.Total = c.Cost.Sum(); !c.Cost.Total.Known {
		return e
	}
	_ = c.SetProperty(CostIncomplete, true) // a boolean always marshals
	return c
}

func llmEvents(e *event.Event) []*event.Event {
	switch e.Name {
	case event.Generation, event.Embedding:
		if e.StartSent {
			return []*event.Event{ended(e)}
		}
		return []*event.Event{started(e), ended(e)}
	case event.Feedback, event.Metric, "$ai_evaluation":
		return []*event.Event{rated(e)}
	case event.Span:
		if tool := toolOf(e); tool != "" && e.IsError && e.Properties[joinedTo] == nil {
			d := ended(e)
			set(d, "tool_name", tool)
			return []*event.Event{d}
		}
	}
	return nil
}

// joinedTo is the property of a span that is the other half of a call.
const joinedTo = "hedgerow_joined_to"

// toolOf is the tool that a span called; "" where it called none.
func toolOf(e *event.Event) string {
	p := e.Properties
	if name := rawjson.Scalar(p["tool_name"]); name != "" {
		return name
	}
	if !strings.EqualFold(rawjson.Scalar(p["$ai_span_type"]), "tool") && e.Operation != "execute_tool" {
		return ""
	}
	return cmp.Or(rawjson.Scalar(p["gen_ai.tool.name"]), e.SpanName, "unknown")
}

// DerivedID returns the uuid of the event that is made, under a name, of the one
// with the given uuid. It has the form of version 7, the given time in it, and is
// the same whenever and wherever it is made.
func DerivedID(of, name string, at time.Time) string {
	return event.DerivedID(of+"/"+name, at)
}

// started is what is known before a call: nothing of its answer.
func started(e *event.Event) *event.Event {
	d := request(e, RequestStarted, e.Timestamp)
	set(d, "model", cmp.Or(e.ModelAsked, e.Model))
	return d
}

// ended is the call and what came of it.
func ended(e *event.Event) *event.Event {
	settled := *e
	settled.SettleOutcome() // a journal of an older version may have what had not been
	e = &settled
	name := RequestCompleted
	if e.IsError {
		name = RequestFailed
	}
	d := request(e, name, e.Timestamp.Add(e.Latency.Or(0)))
	set(d, "model", e.ModelName())
	d.Status, d.OutputCategory = e.Status, e.OutputCategory
	set(d, "finish_reason", e.StopReason)
	setMillis(d, "latency_ms", e.Latency)
	setMillis(d, "time_to_first_token_ms", e.TimeToFirstToken)
	if n := e.Usage.AllInput(); n.Known {
		setNumber(d, "input_tokens", strconv.FormatInt(n.Value, 10))
	}
	if e.Usage.Output.Known {
		setNumber(d, "output_tokens", strconv.FormatInt(e.Usage.Output.Value, 10))
	}
	if n := e.Usage.Tokens(); n.Known {
		setNumber(d, "total_tokens", strconv.FormatInt(n.Value, 10))
	}
	if e.Cost.Total.Known {
		setNumber(d, "estimated_cost_usd", e.Cost.Total.Value.String())
	}
	if e.HTTPStatus != 0 {
		setNumber(d, "http_status", strconv.Itoa(e.HTTPStatus))
	}
	if name == RequestFailed {
		set(d, "error_type", e.ErrorType)
		d.ErrorCode = e.ErrorCode
	}
	return d
}

// request is what both events of a call have.
func request(e *event.Event, name string, at time.Time) *event.Event {
	d := derived(e, name, at)
	// The caller's own words win.
	for name, v := range map[string]string{
		"request_id": cmp.Or(e.SpanID, e.UUID), "span_id": e.SpanID, "parent_id": e.ParentID, "session_id": e.SessionID, "user_id": e.DistinctID,
		"trace_name": e.TraceName, "generation_name": e.SpanName,
	} {
		if d.Properties[name] == nil {
			set(d, name, v)
		}
	}
	d.PromptHash, d.InputLengthBucket = e.PromptHash, e.InputLengthBucket
	if t := e.ModelParameters["temperature"]; isNumber(t) {
		d.Properties["temperature"] = t
	}
	return d
}

// rated is a judgment of an answer, without the judge's words.
func rated(e *event.Event) *event.Event {
	d := derived(e, OutputRated, e.Timestamp)
	judge := func(name string, value json.RawMessage) {
		if name != "" && d.Properties["eval_name"] == nil {
			set(d, "eval_name", name)
		}
		v := strings.ToLower(rawjson.Scalar(value)) // posthog-js makes strings of all values
		switch {
		case feedback[v] != "":
			if d.Properties["user_feedback"] == nil {
				set(d, "user_feedback", feedback[v])
			}
		case v == "true", v == "false":
			d.Properties["eval_passed"] = json.RawMessage(v)
		case isNumber([]byte(v)):
			setNumber(d, "eval_score", v)
		}
	}
	p := e.Properties
	switch e.Name {
	case event.Metric:
		judge(rawjson.Scalar(p["$ai_metric_name"]), p["$ai_metric_value"])
	case "$ai_evaluation":
		judge(rawjson.Scalar(p["$ai_evaluation_name"]), p["$ai_evaluation_result"])
		if s := p["$ai_score"]; isNumber(s) {
			d.Properties["eval_score"] = s
		}
	}
	return d
}

// feedback maps the values used for thumbs to their meaning.
var feedback = map[string]string{
	"positive": "positive", "good": "positive", "up": "positive", "thumbs_up": "positive", "thumbs-up": "positive", "like": "positive", "liked": "positive",
	"negative": "negative", "bad": "negative", "down": "negative", "thumbs_down": "negative", "thumbs-down": "negative", "dislike": "negative", "disliked": "negative",
	"neutral": "neutral",
}

// derived makes an event of another: who, when, where, and the caller's own
// properties. $ai_ properties are the other vocabulary's.
func derived(e *event.Event, name string, at time.Time) *event.Event {
	d := &event.Event{
		UUID: DerivedID(e.UUID, name, at), ProjectID: e.ProjectID, Name: name, DistinctID: e.DistinctID, Timestamp: at, Source: e.Source, Historical: e.Historical,
		Surface: e.Surface, TaskType: e.TaskType, Environment: e.Environment, Tags: e.Tags, Flags: e.Flags, Groups: e.Groups,
		Properties: make(map[string]json.RawMessage, len(e.Properties)+16),
	}
	if e.RawValid() {
		d.MarkRawValid()
	}
	for k, v := range e.Properties {
		if !strings.HasPrefix(k, "$ai_") {
			d.Properties[k] = v
		}
	}
	if d.DistinctID == "" {
		// As Event.MarshalPostHog does it for the event itself.
		d.DistinctID = cmp.Or(e.TraceID, e.UUID)
		d.Properties["$process_person_profile"] = json.RawMessage("false")
	}
	names(d, e, true)
	return d
}

// names sets trace, prompt, model, provider and, where there is exactly one, the
// feature flag under their plain names: those that d has not yet, or all.
func names(d, e *event.Event, all bool) {
	plain := map[string]string{
		"trace_id": e.TraceID, "prompt_name": e.PromptName, "prompt_version": e.PromptVersion, "prompt_version_id": e.PromptVersionID,
		"model": e.ModelName(), "provider": e.Provider,
	}
	if len(e.Flags) == 1 && (all || d.Properties["posthog_flag"] == nil && d.Properties["posthog_flag_variant"] == nil) {
		for flag, variant := range e.Flags {
			plain["posthog_flag"], plain["posthog_flag_variant"] = flag, variant
		}
	}
	for name, v := range plain {
		if all || d.Properties[name] == nil {
			set(d, name, v)
		}
	}
}

// plainNames returns a product event with what [names] knows under plain names,
// instead of PostHog's names or in addition to them.
func plainNames(e *event.Event, instead bool) *event.Event {
	if e.TraceID == "" && e.PromptName == "" && e.PromptVersion == "" && e.PromptVersionID == "" && e.ModelName() == "" && e.Provider == "" {
		return e
	}
	d := *e
	if d.Properties = maps.Clone(e.Properties); d.Properties == nil {
		d.Properties = make(map[string]json.RawMessage, 4)
	}
	names(&d, e, false)
	if instead {
		if d.DistinctID == "" {
			d.DistinctID = e.TraceID
			d.Properties["$process_person_profile"] = json.RawMessage("false")
		}
		d.TraceID, d.PromptName, d.PromptVersion, d.PromptVersionID = "", "", "", ""
		d.Model, d.ModelAsked, d.Provider = "", "", ""
	}
	return &d
}

// set sets a text; an empty one is unknown, and leaves what is there.
func set(e *event.Event, name, value string) {
	if value == "" {
		return
	}
	_ = e.SetProperty(name, value) // a string always marshals
}

func setMillis(e *event.Event, name string, d event.Opt[time.Duration]) {
	if d.Known {
		setNumber(e, name, strconv.FormatFloat(float64(d.Value.Round(time.Microsecond).Microseconds())/1000, 'f', -1, 64))
	}
}

func setNumber(e *event.Event, name, value string) { e.Properties[name] = json.RawMessage(value) }

// isNumber reports whether v is a JSON number.
func isNumber(v []byte) bool {
	return len(v) > 0 && (v[0] == '-' || v[0] >= '0' && v[0] <= '9') && json.Valid(v)
}
