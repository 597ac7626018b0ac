package hedgerow

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// Span is a step of a trace, or the trace itself, from its start to
// [Span.End]. All methods are safe for concurrent use and on a nil *Span.
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

// StartTrace begins a trace: one run of an agent, one request of a user. What is
// captured with the context that it returns belongs to it, calls by the
// wrappers included. A trace id that the context has already, by [WithTrace], is
// kept. End records the trace as $ai_trace.
//
//	ctx, trace := client.StartTrace(ctx, "answer a ticket")
//	defer trace.End()
func (c *Client) StartTrace(ctx context.Context, name string) (context.Context, *Span) {
	return c.start(ctx, event.Trace, name)
}

// StartSpan begins a step within the context's trace: a tool call, a retrieval.
// What is captured with the context that it returns is below it. Without a trace
// it begins one. End records the step as $ai_span.
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
		if old != nil && old.parent != "" { // a trace within a trace is another one
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
		parent = s.trace // what is below a trace names it as its parent
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

// TraceID is the id of the span's trace; "" of a nil span.
func (s *Span) TraceID() string {
	if s == nil {
		return ""
	}
	return event.CleanID(event.CleanValue(s.trace))
}

// ID is the span's own id; that of the trace for a trace.
func (s *Span) ID() string {
	switch {
	case s == nil:
		return ""
	case s.e.SpanID == "":
		return s.TraceID()
	}
	return s.e.SpanID
}

// SetInput says what the step began with: anything that marshals to JSON. It
// must not be changed afterwards. It is content: privacy mode keeps it here.
func (s *Span) SetInput(v any) { s.set(func() { s.in = v }) }

// SetOutput says what the step ended with.
func (s *Span) SetOutput(v any) { s.set(func() { s.out = v }) }

// SetError says that the step failed. nil takes it back.
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

// End records the step. Ending it again does nothing.
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
