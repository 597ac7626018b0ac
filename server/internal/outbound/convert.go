package outbound

import (
	"hash/fnv"
	"math"
	"slices"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/privacy"
	"github.com/hedgerow/hedgerow/internal/vocabulary"
	"github.com/hedgerow/hedgerow/server/internal/posthog"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// Convert converts a stored event to the events to send to a connection: filter,
// sample, privacy, defaults, schema, in this order. It depends only on its
// arguments, so retries send the same events.
//
// A filter by name accepts the names of both schemas: llm_request_failed selects
// only that event of a call, $ai_generation all events of the call in any
// schema.
func Convert(c project.Connection, p project.Project, e *event.Event) posthog.Converted {
	if e.IsSpanContent() || e.IsMerge() || e.IsRepricing() {
		return posthog.Converted{} // of an event that leaves on its own
	}
	rest := c.Filter
	rest.Events = nil
	if !rest.Match(e) || !sampled(e, c.SampleRate) {
		return posthog.Converted{}
	}
	policy := privacy.OutboundPolicy{
		PrivacyMode:     c.PrivacyMode,
		HashDistinctIDs: c.HashDistinctIDs || p.Settings.HashDistinctIDs,
		HashKey:         []byte(p.HashKey.Reveal()),
		SendProperties:  c.SendProperties,
		SendAttributes:  c.SendAttributes,
	}
	if t := c.LegacyNames; t != nil {
		policy.LegacyNames = slices.Concat(t.Properties, t.Attributes)
	}
	leave := func() privacy.OutboundResult {
		out := privacy.ApplyOutbound(e, policy)
		if out.Event.Environment == "" {
			out.Event.Environment = c.Environment
		}
		if out.Event.Surface == "" {
			out.Event.Surface = c.Surface
		}
		return out
	}
	outcome := leave()
	out := outcome.Event
	safe := out
	if c.Schema != project.SchemaPostHog && !c.PrivacyMode {
		policy.PrivacyMode = true
		safe = leave().Event
	}
	shaped := posthog.Converted{Withheld: outcome.Withheld}
	names := c.Filter.Events
	all := vocabulary.Events(c.Schema, out, safe)
	ofCall := e.StartSent && (slices.Contains(names, event.Generation) || slices.Contains(names, event.Embedding))
	if len(names) == 0 || ofCall || slices.Contains(names, e.Name) {
		shaped.Events = all
	} else {
		shaped.Events = slices.DeleteFunc(all, func(o *event.Event) bool { return !slices.Contains(names, o.Name) })
	}
	if len(shaped.Events) > 0 { // filtered events are not dead letters
		shaped.Block = outcome.Block
	}
	return shaped
}

// sampled picks a part of the traces, whole ones always, and the same on every
// replica: the hash of the trace id decides.
func sampled(e *event.Event, rate float64) bool {
	if rate >= 1 || rate <= 0 { // 0 is a setting from before there was one
		return true
	}
	id := e.TraceID
	if id == "" {
		id = e.UUID
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(id))
	// FNV's high bits are poor on short ids; multiplying mixes them.
	return float64(h.Sum64()*0x9E3779B97F4A7C15) < rate*math.MaxUint64
}
