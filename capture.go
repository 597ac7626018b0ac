package hedgerow

import (
	"context"
	"encoding/json"
	"maps"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// Capture records any event: a product event such as prompt_shared, or an $ai_
// event with properties that the caller makes himself. The context says whose it
// is ([WithUser], [WithGroups] …).
func (c *Client) Capture(ctx context.Context, name string, props Properties) {
	if !c.Enabled() {
		return
	}
	now := time.Now()
	c.captured(ctx, now, &event.Event{Name: name, Timestamp: now}, maps.Clone(props))
}

// CaptureEvent records an event of the model. A uuid and a timestamp are filled in
// where it has none. What the context says wins, except for its trace: an event
// that names one stays in it. It is for bridges from other systems; see
// [Client.CaptureGeneration] for calls to a model.
func (c *Client) CaptureEvent(ctx context.Context, e *event.Event) {
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
	c.captured(ctx, now, e, nil)
}

func (c *Client) captured(ctx context.Context, now time.Time, e *event.Event, props Properties) {
	lane := laneEvents
	if isLLM(e.Name) {
		lane = laneAI
	}
	c.enqueue(lane, item{e: e, props: props, at: attributionOf(ctx), size: sizeOf(props) + int64(e.Content.Size()), since: now})
}

// sizeOf is roughly what properties hold in memory: texts count, and what cannot
// be told at a glance counts as little.
func sizeOf(props Properties) (n int64) {
	for k, v := range props {
		n += int64(len(k)) + 32
		switch v := v.(type) {
		case string:
			n += int64(len(v))
		case []byte:
			n += int64(len(v))
		case json.RawMessage:
			n += int64(len(v))
		}
	}
	return n
}

// finish makes the event of an item, in the background.
func (c *Client) finish(it *item) *event.Event {
	e := it.e
	if e == nil {
		e = it.build()
	}
	if len(it.props) > 0 {
		wire := make(map[string]json.RawMessage, len(it.props)+len(e.Properties))
		maps.Copy(wire, e.Properties)
		for k, v := range it.props {
			if b, ok := toJSON(v); ok {
				wire[k] = b
			}
		}
		// What the model has fields for is moved there, so that privacy knows it.
		e.Properties = nil
		e.SetWireProperties(wire)
	}
	it.at.apply(e)
	if e.UUID == "" {
		e.UUID = event.NewID()
	}
	e.Timestamp = e.Timestamp.UTC()
	e.Source = event.SourceSDK
	if e.DistinctID == "" {
		e.DistinctID = c.c.DefaultDistinctID
	}
	if e.Environment == "" {
		e.Environment = c.c.Environment
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
	// Events come from a server: its address is not the user's.
	if _, ok := e.Properties["$geoip_disable"]; !ok {
		e.Properties = put(e.Properties, "$geoip_disable", json.RawMessage("true"))
	}
	return e
}
