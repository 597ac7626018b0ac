package gateway

import (
	"cmp"
	"maps"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/hedgerow/hedgerow/event"
)

// maxBackground is how many background responses are remembered, newest first;
// a few MB.
const maxBackground = 10_000

// backgrounds remembers the calls that created background responses, and which
// of these responses are recorded as generations: the GET that fetches a
// response carries neither.
type backgrounds struct {
	mu sync.Mutex
	of *simplelru.LRU[responseID, *backgroundCall] // created by the first call; in order of arrival
}

type responseID struct{ project, completion string }

// backgroundCall is a call that created a background response.
type backgroundCall struct {
	asked *event.Event // attribution of the call; nil if it was not seen
	done  bool         // the generation is recorded
}

// remember stores the attribution of the call that created a response. The
// event must have its trace id.
func (b *backgrounds) remember(e *event.Event) {
	if e.Operation != "responses" || e.CompletionID == "" || string(e.ModelParameters["background"]) != "true" {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.call(e)
	c.done = c.done || e.Name == event.Generation
	c.asked = &event.Event{
		DistinctID: e.DistinctID, User: e.User, TraceID: e.TraceID, TraceName: e.TraceName, SpanID: e.SpanID, SessionID: e.SessionID,
		PromptName: e.PromptName, PromptVersion: e.PromptVersion, PromptVersionID: e.PromptVersionID, PromptHash: e.PromptHash,
		Surface: e.Surface, TaskType: e.TaskType, Environment: e.Environment, Tags: e.Tags, Flags: e.Flags, Groups: e.Groups, Properties: maps.Clone(e.Properties),
	}
}

// recall adds the attribution of the creating call to the generation of a GET,
// and reports whether it is the first generation of that response. Values from
// the GET itself take precedence.
func (b *backgrounds) recall(e *event.Event) (first bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.call(e)
	first = !c.done
	c.done = true
	if c.asked == nil {
		return first
	}
	for _, f := range []struct {
		to   *string
		from string
	}{
		{&e.DistinctID, c.asked.DistinctID}, {&e.User, c.asked.User}, {&e.SessionID, c.asked.SessionID}, {&e.TraceName, c.asked.TraceName}, {&e.PromptHash, c.asked.PromptHash},
		{&e.Surface, c.asked.Surface}, {&e.TaskType, c.asked.TaskType}, {&e.Environment, c.asked.Environment},
	} {
		*f.to = cmp.Or(*f.to, f.from)
	}
	if e.TraceID == "" || e.TraceID == c.asked.TraceID {
		e.TraceID, e.ParentID = c.asked.TraceID, cmp.Or(e.ParentID, c.asked.SpanID)
	}
	if e.PromptName == "" && e.PromptVersionID == "" {
		e.PromptName, e.PromptVersion, e.PromptVersionID = c.asked.PromptName, c.asked.PromptVersion, c.asked.PromptVersionID
	}
	if len(e.Tags) == 0 {
		e.Tags = c.asked.Tags
	}
	if len(e.Flags) == 0 {
		e.Flags = maps.Clone(c.asked.Flags)
	}
	if len(e.Groups) == 0 {
		e.Groups = maps.Clone(c.asked.Groups)
	}
	for name, v := range c.asked.Properties {
		if _, ok := e.Properties[name]; !ok {
			_ = e.SetProperty(name, v) // already valid JSON
		}
	}
	return first
}

// call returns the entry of the event's response, creating it if needed. The
// caller holds mu.
func (b *backgrounds) call(e *event.Event) *backgroundCall {
	if b.of == nil {
		b.of, _ = simplelru.NewLRU[responseID, *backgroundCall](maxBackground, nil) // an error only for size 0
	}
	id := responseID{e.ProjectID, e.CompletionID}
	c, ok := b.of.Peek(id)
	if !ok {
		c = new(backgroundCall)
		b.of.Add(id, c)
	}
	return c
}

// background makes one generation of the calls that create and fetch a
// response: a later fetch becomes a span without usage.
func (c *capture) background(e *event.Event, r *record) {
	if e.Operation != "responses_get" || e.Name != event.Generation || c.backgrounds.recall(e) {
		return
	}
	e.Name, e.UUID, e.Usage = event.Span, event.NewID(), event.Usage{}
	e.Timestamp, e.Latency = r.call.Start.UTC(), event.Some(r.call.Latency)
}
