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
	background := e.Operation == "responses" && string(e.ModelParameters["background"]) == "true" || e.Operation == "interactions"
	if !background || e.CompletionID == "" {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.call(e)
	c.done = c.done || e.Name == event.Generation
	c.asked = attributionOf(e)
}

// attributionOf returns the attribution of the call that an event describes.
func attributionOf(e *event.Event) *event.Event {
	return &event.Event{
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
	if c.asked != nil {
		complete(e, c.asked)
	}
	return first
}

// complete adds the attribution of the creating call to an event, whose own
// values take precedence.
func complete(e, asked *event.Event) {
	for _, f := range []struct {
		to   *string
		from string
	}{
		{&e.DistinctID, asked.DistinctID}, {&e.User, asked.User}, {&e.SessionID, asked.SessionID}, {&e.TraceName, asked.TraceName}, {&e.PromptHash, asked.PromptHash},
		{&e.Surface, asked.Surface}, {&e.TaskType, asked.TaskType}, {&e.Environment, asked.Environment},
	} {
		*f.to = cmp.Or(*f.to, f.from)
	}
	if e.TraceID == "" || e.TraceID == asked.TraceID {
		e.TraceID, e.ParentID = asked.TraceID, cmp.Or(e.ParentID, asked.SpanID)
	}
	if e.PromptName == "" && e.PromptVersionID == "" {
		e.PromptName, e.PromptVersion, e.PromptVersionID = asked.PromptName, asked.PromptVersion, asked.PromptVersionID
	}
	if len(e.Tags) == 0 {
		e.Tags = asked.Tags
	}
	if len(e.Flags) == 0 {
		e.Flags = maps.Clone(asked.Flags)
	}
	if len(e.Groups) == 0 {
		e.Groups = maps.Clone(asked.Groups)
	}
	for name, v := range asked.Properties {
		if _, ok := e.Properties[name]; !ok {
			_ = e.SetProperty(name, v) // already valid JSON
		}
	}
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
	if e.Operation != "responses_get" && e.Operation != "interactions_get" || e.Name != event.Generation || c.backgrounds.recall(e) {
		return
	}
	e.Name, e.UUID, e.Usage = event.Span, event.NewID(), event.Usage{}
	e.Timestamp, e.Latency = r.call.Start.UTC(), event.Some(r.call.Latency)
}
