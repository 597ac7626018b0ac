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

// Usage has token counts by kind. An unset count is unknown, which differs from 0:
//
//	hedgerow.Usage{Input: hedgerow.Some(1200), Output: hedgerow.Some(80)}
type Usage = event.Usage

// Some returns a known count for a [Usage].
func Some(n int64) event.Int { return event.Some(n) }

// Message is one message of a conversation, in PostHog's format.
type Message struct {
	Role    string `json:"role"`    // system, user, assistant, tool
	Content any    `json:"content"` // a string, or a list of parts: [{"type":"text","text":…}]
}

// Generation is an LLM call that the wrappers cannot see: over gRPC, to a local
// model, from a log.
type Generation struct {
	Provider string // openai, anthropic, bedrock …
	Model    string // the response model
	Asked    string // the requested model; defaults to Model

	// Input and Output are a string, a [Message], a []Message, or anything else
	// that marshals to PostHog's message format. They must not be changed after
	// the call. Tools are the available tools, in the provider's format.
	Input, Output, Tools any

	Usage   Usage   // tokens by kind; unset is unknown
	CostUSD float64 // cost in US dollars if known; 0 leaves pricing to the receiver

	Start            time.Time     // Defaults to Latency before now
	Latency          time.Duration // of the whole call
	TimeToFirstToken time.Duration // of a stream; 0 is unknown
	Stream           bool          // the response was streamed

	Err          error  // why the call failed; nil if it did not
	ErrorType    string // the provider's error type
	ErrorCode    string // the provider's code: rate_limit_exceeded …; never the HTTP status
	HTTPStatus   int    // 0 if there was none
	StopReason   string // the provider's raw value
	CompletionID string // the provider's response id: chatcmpl-…
	BaseURL      string // without query

	Name       string     // $ai_span_name: the purpose of the call
	Parameters Properties // such as temperature
	Properties Properties // custom properties
}

// CaptureGeneration records an LLM call as $ai_generation.
func (c *Client) CaptureGeneration(ctx context.Context, g Generation) {
	c.captureCall(ctx, event.Generation, "chat", g)
}

// Embedding is a call to an embedding model that the wrappers cannot see.
type Embedding struct {
	Provider, Model string        // openai …; the response model
	Input           any           // a string or a []string
	InputTokens     int64         // 0 is unknown
	CostUSD         float64       // cost in US dollars if known; 0 leaves pricing to the receiver
	Start           time.Time     // defaults to Latency before now
	Latency         time.Duration // of the whole call
	Err             error         // why the call failed; nil if it did not
	ErrorType       string        // the provider's error type
	ErrorCode       string        // the provider's code: rate_limit_exceeded …; never the HTTP status
	HTTPStatus      int           // 0 if there was none
	BaseURL         string        // without query
	Name            string        // $ai_span_name: the purpose of the call
	Properties      Properties    // custom properties
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

// textSize estimates the size of content in bytes, where that is cheap.
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

// setError sets the error of a call or a step.
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
			s = "the error text is unavailable"
		}
	}()
	return err.Error()
}

// messages converts content to a list of messages.
func messages(role string, v any) json.RawMessage {
	switch m := v.(type) {
	case string:
		v = []Message{{role, m}}
	case Message:
		v = []Message{m}
	}
	return value(v)
}

// value marshals a caller's value; nil if it is nil or cannot be marshalled.
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

// Feedback is a user's comment on a response.
type Feedback struct {
	TraceID    string     // defaults to the context's
	SpanID     string     // one call of the trace; "" is the trace as a whole
	Text       string     // the comment
	Properties Properties // custom properties
}

// CaptureFeedback records a comment as $ai_feedback. See [Client.CaptureRating] for
// thumbs up or down.
func (c *Client) CaptureFeedback(ctx context.Context, f Feedback) {
	c.captureAbout(ctx, event.Feedback, f.TraceID, f.SpanID, f.Properties, func(p Properties) { p["$ai_feedback_text"] = f.Text })
}

// Metric is a numeric, text or boolean measurement of a trace.
type Metric struct {
	TraceID    string     // defaults to the context's
	SpanID     string     // one call of the trace; "" is the trace as a whole
	Name       string     // accuracy, faithfulness …
	Value      any        // number, string or bool
	Version    string     // of the metric; "" is none
	Properties Properties // custom properties
}

// CaptureMetric records a measurement of a trace as $ai_metric.
func (c *Client) CaptureMetric(ctx context.Context, m Metric) {
	c.captureAbout(ctx, event.Metric, m.TraceID, m.SpanID, m.Properties, func(p Properties) {
		p["$ai_metric_name"], p["$ai_metric_value"] = m.Name, m.Value
		if m.Version != "" {
			p["$ai_metric_version"] = m.Version
		}
	})
}

// Names of the events that [Client.CaptureRating] and [Client.CaptureOutcome] send,
// and of a common product event.
const (
	EventRated      = "llm_output_rated"
	EventCompleted  = "llm_task_completed"
	EventFirstValue = event.FirstValue
)

// Rating is a rating of a response, by a user or an evaluation.
type Rating struct {
	TraceID  string // defaults to the context's
	SpanID   string // a call of the trace, such as its generation; "" for the whole trace
	Feedback string // positive, negative, neutral; "" from an evaluation

	// Of an evaluation.
	EvalName   string
	EvalPassed *bool    // nil is unknown
	EvalScore  *float64 // in the evaluation's own unit; nil is unknown
	ReasonCode string   // missing_citation, wrong_format …

	Accepted, Edited *bool      // whether the user accepted or edited the response; nil if unknown
	Properties       Properties // custom properties
}

// CaptureRating records a rating as llm_output_rated.
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

// Outcome is the result of a task that LLM calls were made for.
type Outcome struct {
	TraceID   string // defaults to the context's
	TaskType  string // defaults to the context's
	Completed bool   // the task was completed
	Escalated *bool  // to a human; nil is unknown
	Accepted  *bool  // the user accepted the result; nil is unknown
	Edited    *bool  // the user edited the result; nil is unknown
	Retries   int    // of the same task; 0 uses the retries that the wrappers saw in the trace, if any

	Properties Properties // custom properties
}

// CaptureOutcome records the result of a task as llm_task_completed.
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

// captureAbout records an event about a trace or, with a span, about a call of it.
func (c *Client) captureAbout(ctx context.Context, name, trace, span string, props Properties, set func(Properties)) {
	if !c.Enabled() {
		return
	}
	p := make(Properties, len(props)+8)
	maps.Copy(p, props)
	set(p)
	at := attributionOf(ctx)
	if trace != "" { // may differ from the context's
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
		p["trace_id"] = event.CleanID(event.CleanValue(trace)) // its name in llm_events
	}
	if span != "" {
		p["span_id"] = event.CleanID(event.CleanValue(span)) // the receiver uses it as the parent
	}
	list, size := listOf(p)
	lane := laneEvents
	if isLLM(name) {
		lane = laneAI
	}
	c.enqueue(lane, item{name: name, props: list, at: at, size: size, since: time.Now()})
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
