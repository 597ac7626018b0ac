package otlp

import (
	"encoding/hex"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/tidwall/gjson"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/hedgerow/hedgerow/event"
)

// What a span's event takes from other spans of its trace: user and session,
// which some frameworks set on the root only, and which of two nested spans is
// the call. A batch processor usually exports the spans of a trace in one
// request; data of earlier requests is remembered for a while.

// mostAncestors limits the search for a span's ancestors.
const mostAncestors = 64

// family is what is known of a request's spans.
type family struct {
	project string
	recent  *recent
	events  map[spanID]*event.Event
	spans   map[spanID]*trace.Span // those without an event
	people  map[spanID]identityOf  // of those
}

// identityOf is the user and session that a span names.
type identityOf struct{ user, session string }

func idOf(e *event.Event) spanID { return spanID{e.TraceID, e.SpanID} }

// relate completes the events of a request from each other.
func (c *converter) relate(req *collector.ExportTraceServiceRequest) {
	if len(c.events) == 0 && c.recent == nil {
		return
	}
	f := &family{project: c.project, recent: c.recent, events: make(map[spanID]*event.Event, len(c.events)), spans: make(map[spanID]*trace.Span), people: make(map[spanID]identityOf)}
	for _, e := range c.events {
		f.events[idOf(e)] = e
	}
	if c.skipped > 0 {
		c.others(f, req)
	}
	for _, e := range c.events {
		if e.ParentID == "" {
			f.recent.root(c.project, e.TraceID, identityOf{e.DistinctID, e.SessionID})
		}
	}
	for _, e := range c.events {
		f.inherit(e)
	}
	c.nest(f)
}

// others reads the spans without an event: their parent, user and session.
func (c *converter) others(f *family, req *collector.ExportTraceServiceRequest) {
	for _, rs := range req.GetResourceSpans() {
		for _, ss := range rs.GetScopeSpans() {
			for _, s := range ss.GetSpans() {
				if s == nil || !validID(s.GetTraceId(), 16) || !validID(s.GetSpanId(), 8) {
					continue
				}
				id := spanID{hex.EncodeToString(s.GetTraceId()), hex.EncodeToString(s.GetSpanId())}
				if f.events[id] != nil {
					continue
				}
				f.spans[id] = s
				attrs := &c.attrs
				attrs.reset()
				for _, kv := range s.GetAttributes() {
					attrs.add(kv.GetKey(), kv.GetValue(), nil)
				}
				var e event.Event
				people(&e, attrs)
				who := identityOf{e.DistinctID, e.SessionID}
				f.people[id] = who
				if !validID(s.GetParentSpanId(), 8) {
					f.recent.root(c.project, id.trace, who)
				}
			}
		}
	}
}

// above returns the span with the given id, as its event or as what is known of
// a span without one, and the id of its parent; ok is false if it is not in the
// request.
func (f *family) above(id spanID) (e *event.Event, who identityOf, parent spanID, ok bool) {
	if e = f.events[id]; e != nil {
		return e, identityOf{e.DistinctID, e.SessionID}, spanID{e.TraceID, e.ParentID}, true
	}
	if s := f.spans[id]; s != nil {
		return nil, f.people[id], spanID{id.trace, hex.EncodeToString(s.GetParentSpanId())}, true
	}
	return nil, who, parent, false
}

// inherit gives an event the user and session of the nearest ancestor that
// names them, or else of the trace's root.
func (f *family) inherit(e *event.Event) {
	at := spanID{e.TraceID, e.ParentID}
	for range mostAncestors {
		if e.DistinctID != "" && e.SessionID != "" || at.span == "" {
			break
		}
		_, who, parent, ok := f.above(at)
		if !ok {
			break
		}
		e.DistinctID, e.SessionID = or(e.DistinctID, who.user), or(e.SessionID, who.session)
		at = parent
	}
	if e.DistinctID == "" || e.SessionID == "" {
		root := f.recent.rootOf(f.project, e.TraceID)
		e.DistinctID, e.SessionID = or(e.DistinctID, root.user), or(e.SessionID, root.session)
	}
}

// calls are the LLM calls directly within a span.
type calls struct {
	input, output int64
	ids           map[string]bool // their response ids
	name          string          // of their events
}

func (c *calls) add(e *event.Event) {
	c.input, c.output, c.name = c.input+e.Usage.Input.Or(0), c.output+e.Usage.Output.Or(0), e.Name
	if e.CompletionID != "" {
		if c.ids == nil {
			c.ids = make(map[string]bool, 1)
		}
		c.ids[e.CompletionID] = true
	}
}

// repeatedBy reports whether a span repeats the calls within it: it has the
// response id of one of them, no counts of its own, or their sums.
func (c *calls) repeatedBy(e *event.Event) bool {
	if e.Name != c.name {
		return false
	}
	in, out := e.Usage.Input.Or(0), e.Usage.Output.Or(0)
	return c.ids[e.CompletionID] || in == 0 && out == 0 || in == c.input && out == c.output
}

// nest turns a generation that merely wraps an LLM call into a span, so that
// the call counts once: LlamaIndex's predict around chat, Google ADK's call_llm
// around generate_content, a framework's span around that of the provider's
// SDK. The inner one is the call; it takes content that only the outer one has.
func (c *converter) nest(f *family) {
	within := make(map[spanID]*calls)
	first := make(map[spanID]*event.Event)
	for _, e := range c.events {
		if !e.IsCosted() || e.ParentID == "" {
			continue
		}
		id := spanID{e.TraceID, e.ParentID}
		for range mostAncestors { // skips spans of HTTP clients etc.
			if s := f.spans[id]; s != nil && validID(s.GetParentSpanId(), 8) {
				id.span = hex.EncodeToString(s.GetParentSpanId())
				continue
			}
			break
		}
		if outer := f.events[id]; outer != nil && string(outer.Properties["$ai_span_type"]) == `"model_step"` {
			fromStep(e, outer)
		}
		if within[id] == nil {
			within[id], first[id] = &calls{}, e
		}
		within[id].add(e)
	}
	f.recent.keep(c.project, within)
	for _, e := range c.events {
		if !e.IsCosted() {
			continue
		}
		id := idOf(e)
		inner := within[id]
		if inner == nil {
			inner = f.recent.within(c.project, id)
		}
		if inner == nil || !inner.repeatedBy(e) {
			continue
		}
		if call := first[id]; call != nil && e.Name == call.Name {
			fromOuter(call, e)
		}
		if e.Name = event.Span; e.ParentID == "" {
			e.Name = event.Trace
		}
		e.Content.InputState, e.Content.OutputState = e.Content.Input, e.Content.Output
		e.Content.Input, e.Content.Output = nil, nil
		e.TimeToFirstToken = event.Opt[time.Duration]{}
	}
}

// fromOuter gives a call the content that only the outer span has.
func fromOuter(call, outer *event.Event) {
	if call.Content.Input == nil && call.Content.Output == nil {
		call.Content.Input, call.Content.Output, call.Content.Tools = outer.Content.Input, outer.Content.Output, outer.Content.Tools
	}
	call.StopReason = or(call.StopReason, outer.StopReason)
}

// fromStep gives a Mastra call the data that its step has: the messages, the
// tool calls and the response id.
func fromStep(call, step *event.Event) {
	if call.Content.Input == nil {
		var in thread
		in.add(gjson.ParseBytes(step.Content.InputState), "user")
		call.Content.Input = in.json()
	}
	if out := gjson.ParseBytes(step.Content.OutputState); out.Get("toolCalls.0").Exists() {
		var t thread
		t.add(out, "assistant")
		call.Content.Output = t.json()
	}
	if call.CompletionID == "" {
		call.CompletionID, step.CompletionID = step.CompletionID, ""
	}
}

// recent remembers the traces of recent requests, since spans of one trace may
// arrive in several: a trace's root, and the calls within a span. The oldest
// traces are removed first. A nil *recent remembers nothing.
type recent struct {
	mu     sync.Mutex
	traces *simplelru.LRU[spanID, *recentTrace] // by project and trace, in order of arrival
}

type recentTrace struct {
	root   identityOf
	within map[string]calls // by parent span
}

const (
	recentTraces = 10_000
	recentCalls  = 64 // spans of one trace that have calls within them
)

func newRecent() *recent {
	traces, _ := simplelru.NewLRU[spanID, *recentTrace](recentTraces, nil) // an error only for size 0
	return &recent{traces: traces}
}

// of returns what is remembered of a trace; the caller holds the lock.
func (r *recent) of(project, trace string) *recentTrace {
	id := spanID{project, trace}
	t, ok := r.traces.Peek(id)
	if !ok {
		t = &recentTrace{}
		r.traces.Add(id, t)
	}
	return t
}

func (r *recent) root(project, trace string, who identityOf) {
	if r == nil || who == (identityOf{}) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.of(project, trace).root = who
}

func (r *recent) rootOf(project, trace string) (who identityOf) {
	if r == nil {
		return who
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if t, ok := r.traces.Peek(spanID{project, trace}); ok {
		who = t.root
	}
	return who
}

func (r *recent) keep(project string, within map[spanID]*calls) {
	if r == nil || len(within) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, c := range within {
		t := r.of(project, id.trace)
		if t.within == nil {
			t.within = make(map[string]calls, 1)
		}
		if _, ok := t.within[id.span]; ok || len(t.within) < recentCalls {
			t.within[id.span] = *c
		}
	}
}

func (r *recent) within(project string, id spanID) *calls {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if t, ok := r.traces.Peek(spanID{project, id.trace}); ok {
		if c, ok := t.within[id.span]; ok {
			return &c
		}
	}
	return nil
}
