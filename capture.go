package hedgerow

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// Capture records any event: a product event such as prompt_shared, or an $ai_ event
// with the caller's own properties. User and groups come from the context
// ([WithUser], [WithGroups] …). As in PostHog's SDKs the name does not decide the route:
// see [Client.CaptureAIEvent].
func (c *Client) Capture(ctx context.Context, name string, props Properties) {
	if !c.Enabled() {
		return
	}
	// The event is built in the background: it is large.
	list, size := listOf(props)
	c.enqueue(laneEvents, item{name: name, props: list, at: attributionOf(ctx), size: size, since: time.Now()})
}

// prop is a custom property. A slice of them is cheaper to fill than a map.
type prop struct {
	name  string
	value any
}

func listOf(props Properties) (list []prop, size int64) {
	if len(props) == 0 {
		return nil, 0
	}
	list = make([]prop, 0, len(props))
	for k, v := range props {
		list = append(list, prop{k, v})
		size += int64(len(k)) + 32 + textSize(v)
	}
	return list, size
}

// CaptureEvent records an event of the model. Missing uuid and timestamp are
// set. The context overrides the event's attribution, except for a trace id
// that the event has. It is meant for bridges from other systems; see
// [Client.CaptureGeneration] for LLM calls.
func (c *Client) CaptureEvent(ctx context.Context, e *event.Event) {
	c.captureEvent(ctx, laneEvents, e)
}

// CaptureAIEvent is [Client.CaptureEvent] by PostHog's AI route, /i/v0/ai/batch/, as
// capture_ai of its SDKs: with queue, batches and retries apart from those of product
// events. CaptureGeneration, CaptureSpan and the like use that route, too. An event
// whose name does not begin with $ai_ is sent to /batch/.
func (c *Client) CaptureAIEvent(ctx context.Context, e *event.Event) {
	c.captureEvent(ctx, laneAI, e)
}

func (c *Client) captureEvent(ctx context.Context, lane int, e *event.Event) {
	if !c.Enabled() || e == nil {
		return
	}
	now := time.Now()
	e = e.Clone()
	if e.Timestamp.IsZero() {
		e.Timestamp = now
	}
	if a := attributionOf(ctx); a != nil && e.TraceID != "" && a.trace != "" {
		ctx = with(ctx, func(a *attribution) { a.trace, a.parent, a.traceName = "", "", "" })
	}
	c.enqueue(lane, item{e: e, at: attributionOf(ctx), size: int64(e.Content.Size()), since: now})
}

// sizeOf estimates the memory of properties in bytes.
func sizeOf(props Properties) (n int64) {
	for k, v := range props {
		n += int64(len(k)) + 32 + textSize(v)
	}
	return n
}

// finish builds the event of an item, in the background.
func (c *Client) finish(it *item) *event.Event {
	e := it.e
	switch {
	case e != nil:
	case it.build != nil:
		e = it.build()
	default:
		e = &event.Event{Name: it.name, Timestamp: it.since}
	}
	if len(it.props) > 0 {
		wire := make(map[string]json.RawMessage, len(it.props)+len(e.Properties))
		maps.Copy(wire, e.Properties)
		for _, p := range it.props {
			if b, ok := toJSON(p.value); ok {
				wire[p.name] = b
				e.Attributes = slices.DeleteFunc(e.Attributes, func(name string) bool { return name == p.name }) // set by the caller now
			}
		}
		// Known names become fields of the model, so that privacy rules apply to them.
		e.Properties = nil
		e.SetWireProperties(wire)
	}
	it.at.apply(e)
	if e.UUID == "" {
		e.UUID = event.NewID()
	}
	e.Timestamp = e.Timestamp.UTC()
	e.Source = event.SourceSDK
	c.anonymous(e)
	e.AdoptLabels()
	if e.Environment == "" {
		e.Environment = c.c.Environment
	}
	if e.Surface == "" {
		e.Surface = c.c.Surface
	}
	if e.IsLLM() {
		if e.TraceID == "" {
			e.TraceID = event.NewID()
		}
		switch e.Name {
		case event.Generation, event.Embedding, event.Span:
			if e.SpanID == "" {
				e.SpanID = event.NewID()
			}
		}
	}
	e.TraceID, e.SessionID, e.ParentID = event.CleanID(e.TraceID), event.CleanID(e.SessionID), event.CleanID(e.ParentID)
	// Events come from a server: its IP address is not the user's.
	if _, ok := e.Properties["$geoip_disable"]; !ok {
		e.Properties = put(e.Properties, "$geoip_disable", json.RawMessage("true"))
	}
	return e
}
