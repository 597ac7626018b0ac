package gateway

import (
	"cmp"
	"maps"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/hedgerow/hedgerow/event"
)

// maxBackground is how many responses are remembered that were asked for in the
// background, the newest; a few MB.
const maxBackground = 10_000

// backgrounds remembers who asked for the responses that are computed in the
// background, and which of them are generations already: the call that brings the
// answer, a GET of its id, says neither.
type backgrounds struct {
	mu sync.Mutex
	of *simplelru.LRU[responseID, *backgroundCall] // made with the first call; the order is that of arrival
}

type responseID struct{ project, completion string }

// backgroundCall is a call that asked for a response.
type backgroundCall struct {
	asked *event.Event // who, and as part of what; nil where the call was not seen
	done  bool         // the generation is recorded
}

// remember keeps what a call says of a response. It must have its trace.
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

// recall completes the generation that a GET brings by the call that asked for it, and
// reports whether it is the first of that response. What the GET says itself stands.
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
			_ = e.SetProperty(name, v) // it is JSON already
		}
	}
	return first
}

// call returns what is known of the event's response. The caller holds mu.
func (b *backgrounds) call(e *event.Event) *backgroundCall {
	if b.of == nil {
		b.of, _ = simplelru.NewLRU[responseID, *backgroundCall](maxBackground, nil) // fails for a size of 0 only
	}
	id := responseID{e.ProjectID, e.CompletionID}
	c, ok := b.of.Peek(id)
	if !ok {
		c = new(backgroundCall)
		b.of.Add(id, c)
	}
	return c
}

// background makes one generation of the calls that ask for a response and fetch it:
// a fetch of what is recorded already is a step without usage.
func (c *capture) background(e *event.Event, r *record) {
	if e.Operation != "responses_get" || e.Name != event.Generation || c.backgrounds.recall(e) {
		return
	}
	e.Name, e.UUID, e.Usage = event.Span, event.NewID(), event.Usage{}
	e.Timestamp, e.Latency = r.call.Start.UTC(), event.Some(r.call.Latency)
}
