package hedgerow

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// Span is a step of a trace, or the trace itself, from its start to [Span.End]. All
// methods are safe for concurrent use and on a nil *Span.
type Span struct {
	c     *Client
	at    *attribution
	trace string
	start time.Time

	mu    sync.Mutex
	e     event.Event
	in    any
	out   any
	err   error
	props Properties
	ended bool
}

// StartTrace starts a trace: one run of an agent, one request of a user. Everything
// captured with the returned context belongs to it, including wrapped calls. A trace
// id set on ctx by [WithTrace] is kept. End records the trace as $ai_trace.
//
//	ctx, trace := client.StartTrace(ctx, "answer a ticket")
//	defer trace.End()
func (c *Client) StartTrace(ctx context.Context, name string) (context.Context, *Span) {
	return c.start(ctx, event.Trace, name)
}

// StartSpan starts a step within the context's trace: a tool call, a retrieval. What
// is captured with the returned context becomes its child. Without a trace it starts
// one. End records the step as $ai_span.
func (c *Client) StartSpan(ctx context.Context, name string) (context.Context, *Span) {
	return c.start(ctx, event.Span, name)
}

func (c *Client) start(ctx context.Context, kind, name string) (context.Context, *Span) {
	if !c.Enabled() {
		return ctx, nil
	}
	s := &Span{c: c, start: time.Now(), e: event.Event{Name: kind, SpanName: name}}
	old := attributionOf(ctx)
	if old != nil {
		s.trace = old.trace
	}
	parent := ""
	if kind == event.Trace {
		if old != nil && old.parent != "" { // a nested trace gets its own id
			s.trace = ""
		}
	} else {
		s.e.SpanID = event.NewID()
		parent = s.e.SpanID
	}
	if s.trace == "" {
		s.trace = event.NewID()
	}
	if parent == "" {
		parent = s.trace // children of the root use the trace id as parent
	}
	own := func(a *attribution) {
		if old == nil || a.trace != s.trace {
			a.parent = ""
		}
		a.trace = s.trace
	}
	s.at = attributionOf(with(ctx, own))
	if kind == event.Trace {
		at := *s.at
		at.parent = ""
		s.at = &at
	}
	return with(ctx, func(a *attribution) {
		a.trace, a.parent = s.trace, parent
		if kind == event.Trace {
			a.traceName = name
		}
	}), s
}

// TraceID returns the id of the span's trace; "" for a nil span.
func (s *Span) TraceID() string {
	if s == nil {
		return ""
	}
	return event.CleanID(event.CleanValue(s.trace))
}

// ID returns the span's id; for a trace, the trace id.
func (s *Span) ID() string {
	switch {
	case s == nil:
		return ""
	case s.e.SpanID == "":
		return s.TraceID()
	}
	return s.e.SpanID
}

// SetInput sets the input of the step, any value that marshals to JSON. It must not
// be changed afterwards. It is content: privacy mode withholds it.
func (s *Span) SetInput(v any) { s.set(func() { s.in = v }) }

// SetOutput sets the output of the step.
func (s *Span) SetOutput(v any) { s.set(func() { s.out = v }) }

// SetError marks the step as failed. nil clears the error.
func (s *Span) SetError(err error) { s.set(func() { s.err = err }) }

// SetProperty adds a custom property.
func (s *Span) SetProperty(name string, v any) {
	s.set(func() { s.props = put(s.props, name, v) })
}

func (s *Span) set(f func()) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		f()
	}
}

// End records the step. Further calls do nothing.
func (s *Span) End() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	s.ended = true
	now := time.Now()
	e, in, out, err, props := s.e, s.in, s.out, s.err, maps.Clone(s.props)
	s.in, s.out, s.props = nil, nil, nil
	e.Timestamp, e.Latency, e.Status = s.start, event.Some(now.Sub(s.start)), event.StatusSuccess
	build := func() *event.Event {
		e.Content.InputState, e.Content.OutputState = value(in), value(out)
		setError(&e, err, 0)
		for k, v := range props {
			setProperty(&e, k, v)
		}
		return &e
	}
	s.c.enqueue(laneAI, item{build: build, at: s.at, size: textSize(in) + textSize(out) + sizeOf(props), since: now})
}
