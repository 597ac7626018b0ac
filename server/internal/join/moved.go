package join

import (
	"context"
	"fmt"
	"slices"

	"github.com/hedgerow/hedgerow/event"
)

// An outcome may name its call by the trace or span that the call had before a merge:
// usually the gateway's, which its caller knows from the request.

// TraceMerges finds merges in the store.
type TraceMerges interface {
	// MergesFrom returns the merges that moved calls out of one of a project's traces,
	// the last one first.
	MergesFrom(ctx context.Context, project string, traces []string) ([]*event.Event, error)
}

// Follow has outcomes follow the merges of the store. Without it they do not.
func (o *Outcomes) Follow(merges TraceMerges) { o.merges.Store(&merges) }

// place is the trace and the spans that an outcome names.
type place struct {
	trace, span, parent string
	unsent              bool // PostHog does not know of the merge
}

func placeOf(e *event.Event) place {
	return place{trace: e.TraceID, span: e.SpanID, parent: e.ParentID}
}

func (p place) restore(e *event.Event) { e.TraceID, e.SpanID, e.ParentID = p.trace, p.span, p.parent }

// moveTo gives an outcome the trace and span that a merge gave its call.
func moveTo(e *event.Event, m Merge, merge *event.Event) {
	e.TraceID = merge.TraceID
	for _, id := range []*string{&e.SpanID, &e.ParentID} {
		if *id != "" && *id == m.SpanID {
			*id = merge.SpanID
		}
	}
}

// sentMoved reports whether PostHog has the call at the place that the merge gives it.
func (m Merge) sentMoved() bool { return !m.Late || m.Sent != m.Call }

// follow moves outcomes without a known call to where a merge has moved it, and returns
// their former places.
func (o *Outcomes) follow(ctx context.Context, project string, unknown []*event.Event) (map[*event.Event]place, error) {
	merges := o.merges.Load()
	if merges == nil || len(unknown) == 0 {
		return nil, nil
	}
	from := make(map[*event.Event]string, len(unknown))
	var traces []string
	o.mu.Lock()
	for _, e := range unknown {
		trace := e.TraceID
		for _, id := range named(e) {
			if trace == "" {
				trace = o.traceOf[o.hash(project, id)]
			}
		}
		if trace != "" {
			from[e] = trace
			traces = append(traces, trace)
		}
	}
	o.mu.Unlock()
	if len(traces) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	slices.Sort(traces)
	found, err := (*merges).MergesFrom(ctx, project, slices.Compact(traces))
	if err != nil {
		return nil, fmt.Errorf("find merges of an outcome's call: %w", err)
	}
	out := make(map[*event.Event]place)
	for e, trace := range from {
		names := append(named(e), e.SpanID)
		var of *merged
		for _, me := range found {
			m, ok := MergeOf(me)
			if !ok || m.Trace != trace || me.TraceID == trace {
				continue
			}
			if byName := slices.Contains(names, m.Call) || m.SpanID != "" && slices.Contains(names, m.SpanID); of == nil || byName {
				of = &merged{m, me}
				if byName {
					break
				}
			}
		}
		if of == nil {
			continue
		}
		before := placeOf(e)
		before.unsent = !of.sentMoved()
		out[e] = before
		moveTo(e, of.Merge, of.event)
	}
	return out, nil
}
