package hedgerow

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"time"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/provider"
)

// Usage counts tokens by kind. What is not set is unknown, which is not 0:
//
//	hedgerow.Usage{Input: hedgerow.Some(1200), Output: hedgerow.Some(80)}
type Usage = event.Usage

// Some is a known count of a [Usage].
func Some(n int64) event.Int { return event.Some(n) }

// Message is one message of a conversation, in the form that PostHog shows.
type Message struct {
	Role    string `json:"role"`    // system, user, assistant, tool
	Content any    `json:"content"` // a text, or a list of parts: [{"type":"text","text":…}]
}

// Generation is a call to a model that no wrapper sees: over gRPC, to a model in
// this process, from a log.
type Generation struct {
	Provider string // openai, anthropic, bedrock …
	Model    string // the model that answered
	Asked    string // the model that the request named; defaults to Model

	// Input and Output are a text, a [Message], a []Message, or anything else
	// that marshals to PostHog's message form. They must not be changed after
	// the call. Tools are the tools offered, in the provider's form.
	Input, Output, Tools any

	Usage   Usage   // tokens by kind; what is not set is unknown
	CostUSD float64 // what the call cost, where it is known; 0 leaves pricing to the receiver

	Start            time.Time     // Defaults to Latency ago
	Latency          time.Duration // the whole call
	TimeToFirstToken time.Duration // of a stream; 0 is unknown
	Stream           bool          // the answer came in pieces

	Err          error  // why the call failed; nil if it did not
	ErrorType    string // the provider's own word for it
	ErrorCode    string // the provider's code: rate_limit_exceeded …; never the HTTP status
	HTTPStatus   int    // 0 where there was none
	StopReason   string // the provider's raw value
	CompletionID string // the provider's id of the answer: chatcmpl-…
	BaseURL      string // without query

	Name       string     // $ai_span_name: what the call is for
	Parameters Properties // temperature and the like
	Properties Properties // the caller's own
}

// CaptureGeneration records a call to a model as $ai_generation.
func (c *Client) CaptureGeneration(ctx context.Context, g Generation) {
	c.captureCall(ctx, event.Generation, "chat", g)
}

// Embedding is a call to an embedding model that no wrapper sees.
type Embedding struct {
	Provider, Model string        // openai …; the model that answered
	Input           any           // a text or a []string
	InputTokens     int64         // 0 is unknown
	CostUSD         float64       // what it cost in US dollars; 0 leaves pricing to the receiver
	Start           time.Time     // defaults to Latency ago
	Latency         time.Duration // the whole call
	Err             error         // why it failed; nil if it did not
	ErrorType       string        // the provider's own word for it
	ErrorCode       string        // the provider's code: rate_limit_exceeded …; never the HTTP status
	HTTPStatus      int           // 0 where there was none
	BaseURL         string        // without query
	Name            string        // $ai_span_name: what the call is for
	Properties      Properties    // the caller's own
}

// CaptureEmbedding records a call to an embedding model as $ai_embedding.
func (c *Client) CaptureEmbedding(ctx context.Context, e Embedding) {
	g := Generation{
		Provider: e.Provider, Model: e.Model, Input: e.Input, CostUSD: e.CostUSD, Start: e.Start, Latency: e.Latency,
		Err: e.Err, ErrorType: e.ErrorType, ErrorCode: e.ErrorCode, HTTPStatus: e.HTTPStatus, BaseURL: e.BaseURL, Name: e.Name, Properties: e.Properties,
	}
	if e.InputTokens > 0 {
		g.Usage.Input = event.Some(e.InputTokens)
	}
	c.captureCall(ctx, event.Embedding, "embeddings", g)
}

func (c *Client) captureCall(ctx context.Context, name, operation string, g Generation) {
	if !c.Enabled() {
		return
	}
	now := time.Now()
	if g.Start.IsZero() {
		g.Start = now.Add(-g.Latency)
	}
	g.Parameters, g.Properties = maps.Clone(g.Parameters), maps.Clone(g.Properties)
	at := attributionOf(ctx)
	size := sizeOf(g.Properties) + textSize(g.Input) + textSize(g.Output)
	c.enqueue(laneAI, item{build: func() *event.Event { return g.event(name, operation) }, at: at, size: size, since: now})
}

// textSize is roughly what content holds, where that can be told at a glance.
func textSize(v any) (n int64) {
	switch v := v.(type) {
	case string:
		return int64(len(v))
	case []byte:
		return int64(len(v))
	case json.RawMessage:
		return int64(len(v))
	case Message:
		return textSize(v.Content)
	case []Message:
		for _, m := range v {
			n += textSize(m.Content) + 32
		}
	case []string:
		for _, s := range v {
			n += int64(len(s))
		}
	}
	return n
}

func (g *Generation) event(name, operation string) *event.Event {
	e := &event.Event{
		Name: name, Timestamp: g.Start, Provider: g.Provider, Model: g.Model, ModelAsked: g.Asked, Operation: operation, Usage: g.Usage,
		HTTPStatus: g.HTTPStatus, ErrorType: g.ErrorType, ErrorCode: g.ErrorCode, StopReason: g.StopReason, CompletionID: g.CompletionID, BaseURL: g.BaseURL, SpanName: g.Name,
	}
	if e.ModelAsked == "" {
		e.ModelAsked = g.Model
	}
	if g.Latency > 0 {
		e.Latency = event.Some(g.Latency)
	}
	if g.TimeToFirstToken > 0 {
		e.TimeToFirstToken = event.Some(g.TimeToFirstToken)
	}
	if name == event.Generation {
		e.Stream = event.Some(g.Stream)
		e.Content.Input, e.Content.Output = messages("user", g.Input), messages("assistant", g.Output)
	} else {
		e.Content.Input = value(g.Input)
	}
	e.Content.Tools = value(g.Tools)
	if g.CostUSD > 0 {
		e.Cost.Total, e.Cost.Source = event.Some(decimal.NewFromFloat(g.CostUSD)), event.CostPassthrough
	}
	setError(e, g.Err, g.HTTPStatus)
	e.SettleOutcome()
	for k, v := range g.Parameters {
		if b := value(v); b != nil {
			e.ModelParameters = put(e.ModelParameters, k, b)
		}
	}
	for k, v := range g.Properties {
		setProperty(e, k, v)
	}
	return e
}

// setError says how a call or a step failed.
func setError(e *event.Event, err error, status int) {
	if err == nil && status < 400 {
		return
	}
	e.IsError, e.Status = true, ""
	if err != nil {
		e.ErrorMessage = errorText(err)
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		e.Status, e.ErrorType = event.StatusTimeout, cmp.Or(e.ErrorType, event.ErrTypeTimeout)
	case errors.Is(err, context.Canceled):
		e.ErrorType = cmp.Or(e.ErrorType, event.ErrTypeClientGone)
	}
	e.ErrorCode = cmp.Or(e.ErrorCode, provider.TransportCode(err))
	e.SettleOutcome()
}

// errorText survives an Error method that panics.
func errorText(err error) (s string) {
	defer func() {
		if recover() != nil {
			s = "the error's text cannot be had"
		}
	}()
	return err.Error()
}

// messages brings content into the form of a list of messages.
func messages(role string, v any) json.RawMessage {
	switch m := v.(type) {
	case string:
		v = []Message{{role, m}}
	case Message:
		v = []Message{m}
	}
	return value(v)
}

// value marshals what a caller passed in; nil, and what cannot be marshalled, is
// nil.
func value(v any) json.RawMessage {
	if v == nil {
		return nil
	}
	b, ok := toJSON(v)
	if !ok || string(b) == "null" {
		return nil
	}
	return b
}

// Feedback is what a user said about an answer, in his own words.
type Feedback struct {
	TraceID    string     // defaults to the context's
	SpanID     string     // one call of the trace; "" is the trace as a whole
	Text       string     // the user's words
	Properties Properties // the caller's own
}

// CaptureFeedback records a user's words as $ai_feedback. See [Client.CaptureRating]
// for thumbs.
func (c *Client) CaptureFeedback(ctx context.Context, f Feedback) {
	c.captureAbout(ctx, event.Feedback, f.TraceID, f.SpanID, f.Properties, func(p Properties) { p["$ai_feedback_text"] = f.Text })
}

// Metric is a number, a word or a yes or no about a trace.
type Metric struct {
	TraceID    string     // defaults to the context's
	SpanID     string     // one call of the trace; "" is the trace as a whole
	Name       string     // accuracy, faithfulness …
	Value      any        // number, string or bool
	Version    string     // of the measure; "" is none
	Properties Properties // the caller's own
}

// CaptureMetric records a measure of a trace as $ai_metric.
func (c *Client) CaptureMetric(ctx context.Context, m Metric) {
	c.captureAbout(ctx, event.Metric, m.TraceID, m.SpanID, m.Properties, func(p Properties) {
		p["$ai_metric_name"], p["$ai_metric_value"] = m.Name, m.Value
		if m.Version != "" {
			p["$ai_metric_version"] = m.Version
		}
	})
}

// Names of the events that [Client.CaptureRating] and [Client.CaptureOutcome]
// send, and a common event of products.
const (
	EventRated      = "llm_output_rated"
	EventCompleted  = "llm_task_completed"
	EventFirstValue = event.FirstValue
)

// Rating is a judgement of an answer, by a user or by a check.
type Rating struct {
	TraceID  string // defaults to the context's
	SpanID   string // one call of the trace, such as its generation; "" is the trace as a whole
	Feedback string // positive, negative, neutral; "" where the judge is a check

	// Of a check.
	EvalName   string
	EvalPassed *bool    // nil is unknown
	EvalScore  *float64 // in the check's own unit; nil is unknown
	ReasonCode string   // missing_citation, wrong_format …

	Accepted, Edited *bool      // what the user did with the answer; nil is unknown
	Properties       Properties // the caller's own
}

// CaptureRating records a judgement as llm_output_rated.
func (c *Client) CaptureRating(ctx context.Context, r Rating) {
	c.captureAbout(ctx, EventRated, r.TraceID, r.SpanID, r.Properties, func(p Properties) {
		text(p, "user_feedback", r.Feedback)
		text(p, "eval_name", r.EvalName)
		text(p, "eval_reason_code", r.ReasonCode)
		fact(p, "eval_passed", r.EvalPassed)
		fact(p, "eval_score", r.EvalScore)
		fact(p, "accepted_output", r.Accepted)
		fact(p, "edited_output", r.Edited)
	})
}

// Outcome says whether a task got done for which models were called.
type Outcome struct {
	TraceID   string // defaults to the context's
	TaskType  string // defaults to the context's
	Completed bool   // the task got done
	Escalated *bool  // to a human; nil is unknown
	Accepted  *bool  // the user took the result; nil is unknown
	Edited    *bool  // and changed it; nil is unknown
	Retries   int    // in the same task; 0 leaves it to the tries that the wrappers saw in the trace, and is absent where they saw none

	Properties Properties // the caller's own
}

// CaptureOutcome records the end of a task as llm_task_completed.
func (c *Client) CaptureOutcome(ctx context.Context, o Outcome) {
	if o.TaskType != "" {
		ctx = WithTaskType(ctx, o.TaskType)
	}
	c.captureAbout(ctx, EventCompleted, o.TraceID, "", o.Properties, func(p Properties) {
		p["task_completed"] = o.Completed
		if o.Retries > 0 {
			p[retryCount] = o.Retries
		} else if _, said := p[retryCount]; !said {
			if n, known := c.traces.of(cmp.Or(event.CleanID(event.CleanValue(o.TraceID)), TraceID(ctx))); known {
				p[retryCount] = n
			}
		}
		fact(p, "escalated_to_human", o.Escalated)
		fact(p, "accepted_output", o.Accepted)
		fact(p, "edited_output", o.Edited)
	})
}

// captureAbout records something about a trace or, where span names one, about a
// call of it.
func (c *Client) captureAbout(ctx context.Context, name, trace, span string, props Properties, set func(Properties)) {
	if !c.Enabled() {
		return
	}
	p := make(Properties, len(props)+8)
	maps.Copy(p, props)
	set(p)
	at := attributionOf(ctx)
	if trace != "" { // another one than the context's, perhaps
		with := attribution{}
		if at != nil {
			with = *at
		}
		with.trace, with.parent = trace, ""
		at = &with
	} else if at != nil {
		trace = at.trace
	}
	if trace != "" && !isLLM(name) {
		p["trace_id"] = event.CleanID(event.CleanValue(trace)) // the name of llm_events
	}
	if span != "" {
		p["span_id"] = event.CleanID(event.CleanValue(span)) // the receiver makes it the parent
	}
	list, size := listOf(p)
	c.enqueue(laneOf(name), item{name: name, props: list, at: at, size: size, since: time.Now()})
}

func text(p Properties, name, v string) {
	if v != "" {
		p[name] = v
	}
}

func fact[T any](p Properties, name string, v *T) {
	if v != nil {
		p[name] = *v
	}
}
