package privacy

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/hedgerow/hedgerow/event"
)

// OutboundPolicy is what one PostHog connection sends. New connections have
// PrivacyMode on.
type OutboundPolicy struct {
	// PrivacyMode keeps prompts, responses and everything that may repeat them
	// in hedgerow.
	PrivacyMode bool

	// HashDistinctIDs replaces the ids of users by [HashID] under HashKey, the
	// project's own key, and drops other identifying properties. Without a key
	// the ids are dropped, and events are sent personless.
	HashDistinctIDs bool
	HashKey         []byte

	// SendProperties and SendAttributes name properties that a user allowed to
	// be sent in privacy mode whatever their values: callers' properties, and
	// attributes of spans and resources. They are not searched for content.
	SendProperties, SendAttributes []string

	// LegacyNames are names in both lists that an upgrade added and no user has
	// confirmed yet. They are sent as long as they are not texts, and the canary
	// checks them.
	LegacyNames []string
}

// OutboundResult is the part of an event that is sent, and what is withheld.
type OutboundResult struct {
	// Event is the copy to send. It must not be sent if Block is set, the
	// reason.
	Event *event.Event

	// Withheld are the withheld properties, unsorted.
	Withheld []Withheld

	// Block is why the event must not be sent at all: content was found where it
	// cannot be removed. It does not quote the content. Usually "".
	Block string
}

// Withheld is a property that was not sent.
type Withheld struct {
	Name      string // its name on the wire
	Reason    Reason
	Attribute bool // of a span or resource: send_attributes names it, not send_properties
}

// Reason is why a property was not sent.
type Reason string

// The reasons in the ledger of withheld properties.
const (
	ReasonContent   Reason = "content"           // the name is known for prompts and responses
	ReasonLong      Reason = "too_long"          // a string of more than 200 characters
	ReasonLines     Reason = "line_breaks"       // a string of several lines
	ReasonNested    Reason = "list_or_object"    // not a number, a boolean or a string
	ReasonAttribute Reason = "unknown_attribute" // of a span or resource, and not allowed
	ReasonUnknown   Reason = "unknown_name"      // a string under a PostHog name that is not allowed
	ReasonKind      Reason = "unusual_value"     // a known name with an unexpected type of value
	ReasonQuotes    Reason = "quotes_content"    // the canary found the event's own content in it
)

// PropWithheld lists, on an event that is sent, the properties that the canary
// removed because they quote the event's content.
const PropWithheld = "hedgerow_withheld"

// Outbound returns the copy of the event to send to PostHog; e is not changed.
// See [ApplyOutbound].
func Outbound(e *event.Event, p OutboundPolicy) *event.Event { return ApplyOutbound(e, p).Event }

// ApplyOutbound returns the copy of the event to send to PostHog; e is not changed. The
// package comment describes privacy mode, which always applies to an event marked
// Private. Otherwise content is sent as stored, with strings cut at [MaxString]
// bytes.
//
// With HashDistinctIDs the distinct id, $ai_user, and the ids in $identify,
// $create_alias and similar events are hashed with one key, so that users stay
// distinct and aliases still work; $set, $set_once, IP addresses, names and e-mail
// properties are removed, and PostHog is asked not to look up a location. Session,
// trace and group ids are not hashed: they do not identify a person.
func ApplyOutbound(e *event.Event, p OutboundPolicy) OutboundResult {
	c := e.Clone()
	out := OutboundResult{Event: c}
	private := p.PrivacyMode || e.Private
	if private {
		c.Content = event.Content{Tools: toolNames(c.Content.Tools)}
		c.Private = true
		out.allow(e, p)
	} else {
		for _, part := range c.Content.Parts() {
			if *part != nil {
				*part = Truncate(RedactBase64(*part), MaxString)
			}
		}
		for k, v := range c.Properties {
			c.Properties[k] = Truncate(v, MaxString)
		}
	}
	if p.HashDistinctIDs {
		anonymise(c, p.HashKey)
	}
	if private {
		out.watch(e, p)
	}
	return out
}

// aboutLLM reports whether an event is about calls: in the $ai_ family or the
// llm_events schema, whose outcomes can describe responses as well.
func aboutLLM(e *event.Event) bool { return e.IsLLM() || strings.HasPrefix(e.Name, "llm_") }

// allow keeps in o.Event what may be sent in privacy mode. Maps are replaced,
// never modified.
func (o *OutboundResult) allow(e *event.Event, p OutboundPolicy) {
	c := o.Event
	reduceOutcome(c)
	shortenPath(c)
	c.ModelParameters = reduce(c.ModelParameters, false)
	c.ProviderMetadata = reduce(c.ProviderMetadata, true)
	if !isWord(c.SystemFingerprint) {
		c.SystemFingerprint = ""
	}
	for _, f := range fields(c) {
		switch {
		case *f.at == "":
		case f.checked && !oneLine(*f.at):
			o.withhold(f.name, reasonOf(*f.at), false)
			*f.at = ""
		case f.url && !isURL(*f.at):
			o.withhold(f.name, ReasonKind, false)
			*f.at = ""
		}
	}
	c.Tags = slices.DeleteFunc(c.Tags, func(tag string) bool {
		if oneLine(tag) {
			return false
		}
		o.withhold("tags", ReasonLong, false)
		return true
	})
	for _, m := range []struct {
		name   string
		values map[string]string
	}{{"$feature/", c.Flags}, {"$groups", c.Groups}} {
		for k, v := range m.values {
			if !oneLine(k) || !oneLine(v) {
				o.withhold(m.name, ReasonLong, false)
				delete(m.values, k)
			}
		}
	}
	if len(c.Properties) == 0 {
		return
	}
	out := make(map[string]json.RawMessage, len(c.Properties))
	llm := aboutLLM(e)
	// An exception of a call quotes the provider, whose message may quote the
	// prompt.
	ofCall := e.Name == "$exception" && (c.TraceID != "" || e.Properties["$ai_trace_id"] != nil)
	for k, v := range c.Properties {
		attribute := ofAttribute(e, k)
		switch {
		case p.named(k, attribute):
			if p.confirmed(k) || plainShape(v) {
				out[k] = Truncate(v, MaxString)
			} else {
				o.withhold(shownName(k), ReasonLong, attribute)
			}
			continue
		case k == "$ai_feedback_text" && len(v) > 2 && v[0] == '"':
			// Text written by a user; its length is safe.
			out["feedback_length"], _ = json.Marshal(characters(string(v)))
			o.withhold(k, ReasonContent, attribute)
			continue
		}
		var safe json.RawMessage
		var why Reason
		switch {
		case llm:
			safe, why = allowed(k, v, attribute)
		case ofCall && k == exceptionList:
			safe = exceptions(v)
		case ofCall && aboutException(k):
			if safe, why = allowed(k, v, attribute); why != "" {
				why = ReasonContent
			}
		default:
			var ok bool
			if safe, ok = withoutText(k, v, false, 0); !ok {
				why = ReasonContent
			}
		}
		if why != "" {
			o.withhold(shownName(k), why, attribute)
			continue
		}
		out[k] = safe
	}
	c.Properties = out
}

func (o *OutboundResult) withhold(name string, why Reason, attribute bool) {
	o.Withheld = append(o.Withheld, Withheld{Name: name, Reason: why, Attribute: attribute})
}

// named reports whether a user allowed the property by name.
func (p OutboundPolicy) named(name string, attribute bool) bool {
	if attribute {
		return slices.Contains(p.SendAttributes, name)
	}
	return slices.Contains(p.SendProperties, name)
}

// confirmed reports whether a user has confirmed sending the property.
func (p OutboundPolicy) confirmed(name string) bool { return !slices.Contains(p.LegacyNames, name) }

// reduceOutcome reduces a call's status and error to words that do not quote
// user text.
func reduceOutcome(e *event.Event) {
	e.ErrorMessage = SafeError(e.ErrorType, e.ErrorMessage, e.HTTPStatus)
	e.ErrorType = word(e.ErrorType, "error")
	if aboutLLM(e) { // a product event's status is the caller's own
		e.ErrorCode = word(e.ErrorCode, event.CodeUnknown)
	}
	e.StopReason = word(e.StopReason, "other")
	if e.ParseError != "" {
		e.ParseError = "the body could not be parsed completely"
	}
}

// field is one of the event's own texts, under its name on the wire.
type field struct {
	name    string
	at      *string
	checked bool // must be one line of at most 200 characters; others are by construction
	url     bool // must be a URL
	label   bool // the name of a tool, model or prompt, which prompts contain: not a quotation
	keep    bool // cannot be removed from the event
}

// fields are the event's texts written by a caller, a library or a provider, as
// they are sent.
func fields(e *event.Event) []field {
	return []field{
		{name: "distinct_id", at: &e.DistinctID, keep: true},
		{name: "event", at: &e.Name, keep: true},
		{name: "$ai_trace_id", at: &e.TraceID, keep: true},
		{name: "$ai_span_id", at: &e.SpanID, keep: true},
		{name: "$ai_parent_id", at: &e.ParentID, checked: true},
		{name: "$ai_session_id", at: &e.SessionID, checked: true},
		{name: "$ai_trace_name", at: &e.TraceName, checked: true},
		{name: "$ai_span_name", at: &e.SpanName, checked: true},
		{name: "$ai_user", at: &e.User, checked: true},
		{name: "$ai_provider", at: &e.Provider, checked: true, label: true},
		{name: "$ai_model", at: &e.Model, checked: true, label: true},
		{name: "model_requested", at: &e.ModelAsked, checked: true, label: true},
		{name: "operation", at: &e.Operation, checked: true},
		{name: "$ai_base_url", at: &e.BaseURL, url: true},
		{name: "$ai_request_url", at: &e.RequestURL, url: true},
		{name: "$ai_error_type", at: &e.ErrorType},
		{name: "error_code", at: &e.ErrorCode, checked: true},
		{name: "$ai_stop_reason", at: &e.StopReason},
		{name: "$ai_completion_id", at: &e.CompletionID, checked: true},
		{name: "$ai_service_tier", at: &e.ServiceTier, checked: true},
		{name: "$ai_speed", at: &e.Speed, checked: true},
		{name: "$ai_inference_geo", at: &e.InferenceGeo, checked: true},
		{name: "$ai_prompt_name", at: &e.PromptName, checked: true, label: true},
		{name: "$ai_prompt_version", at: &e.PromptVersion, checked: true},
		{name: "$ai_prompt_version_id", at: &e.PromptVersionID, checked: true},
		{name: "prompt_hash", at: &e.PromptHash, checked: true},
		{name: "surface", at: &e.Surface, checked: true},
		{name: "task_type", at: &e.TaskType, checked: true},
		{name: "environment", at: &e.Environment, checked: true},
		{name: "input_length_bucket", at: &e.InputLengthBucket, checked: true},
		{name: "output_category", at: &e.OutputCategory, checked: true},
		{name: "$ai_model_cost_used", at: &e.Cost.ModelUsed, checked: true, label: true},
		{name: "$ai_cost_model_source", at: &e.Cost.Source, checked: true},
		{name: "$ai_cost_model_provider", at: &e.Cost.Provider, checked: true, label: true},
		{name: "hedgerow_cost_unpriced", at: &e.Cost.Unpriced, checked: true},
	}
}
