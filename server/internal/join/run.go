package join

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// @mastra/posthog reports one generation per run of an agent, with the sum of its calls.
// The provider's ids are in its children, a span per call: its steps. Each of the
// gateway's calls goes below the step with its id. The generation merges with the call
// if there is one, and otherwise becomes a span.

// isStep reports whether an event is a step: a span with the provider's id of an answer.
func isStep(e *event.Event) bool {
	return e.Name == event.Span && e.Source == event.SourceIngest && e.CompletionID != "" && e.TraceID != "" && e.SpanID != "" && e.ParentID != ""
}

// runOf is the index key of a run: its generation's span, which its steps have as their
// parent. 0 for other events.
func (j *Joiner) runOf(e *event.Event) uint64 {
	switch {
	case e.Source != event.SourceIngest || e.TraceID == "":
	case isStep(e):
		return j.hash("run", e.ProjectID, e.TraceID+" "+e.ParentID)
	case e.Name == event.Generation && e.SpanID != "":
		return j.hash("run", e.ProjectID, e.TraceID+" "+e.SpanID)
	}
	return 0
}

// stepFields returns the fields that a call takes from its step. The step's content and
// the answer's body stay with the step.
func stepFields(e *event.Event) *event.Event {
	s := *e
	s.Properties = make(map[string]json.RawMessage, len(e.Properties))
	for name, v := range e.Properties {
		if len(v) > 0 && v[0] != '{' && v[0] != '[' && len(v) <= event.MaxNameLen {
			s.Properties[name] = v
		}
	}
	out := mergeFields(&s)
	out.SpanName, out.TraceName = "", ""
	return out
}

// run returns the generation and the steps of a run. The caller holds mu.
func (j *Joiner) run(mark uint64) (generation *seenCall, steps []*seenCall) {
	if mark == 0 {
		return nil, nil
	}
	for _, c := range j.seen[mark] {
		if c.step {
			steps = append(steps, c)
		} else {
			generation = c
		}
	}
	return generation, steps
}

// contradicts reports whether the steps of a run show that a wrapper's generation is
// not of the gateway's call, although the counts agree. The caller holds mu.
func (j *Joiner) contradicts(call, wrapped *seenCall) bool {
	if call.facts.source != event.SourceGateway {
		call, wrapped = wrapped, call
	}
	if call.facts.source != event.SourceGateway || wrapped.run == 0 {
		return false
	}
	_, steps := j.run(wrapped.run)
	return len(steps) > 0 && !slices.ContainsFunc(steps, func(s *seenCall) bool { return s.facts.id == call.facts.id })
}

// pairRun merges a call with its step, and the generation of a run with one of the run's
// calls. c is any of the three. The caller holds mu.
func (j *Joiner) pairRun(c *seenCall) (merges []*event.Event) {
	call, step, run := c, c, c.run
	if c.step {
		if call = j.partner(c); call == nil {
			return nil
		}
	} else if c.facts.source == event.SourceGateway {
		if step = j.partner(c); step == nil {
			return nil
		}
		run = step.run
	}
	generation, steps := j.run(run)
	if call != step && step.into == nil && (generation == nil || generation.into != call) {
		if m := j.nest(call, step, generation); m != nil {
			merges = append(merges, m)
		}
	}
	if generation == nil || generation.into != nil || len(steps) == 0 || slices.ContainsFunc(steps, func(s *seenCall) bool { return s.into == nil }) {
		return merges
	}
	last := generation.at
	for _, s := range steps {
		for _, o := range []*seenCall{s, s.into} {
			if o.at.After(last) {
				last = o.at
			}
		}
	}
	first := steps[0].into
	m := Merge{Call: first.uuid, Other: generation.uuid, Sent: first.uuid, Span: true}
	if m.Late = j.alreadySent(generation, last); m.Late {
		m.Sent = generation.uuid
	}
	if e := j.merge(m, first, generation, &event.Event{ProjectID: generation.project}); e != nil {
		merges = append(merges, e)
	}
	return merges
}

// partner finds the gateway's call of a step, or the step of a call. The caller holds mu.
func (j *Joiner) partner(c *seenCall) *seenCall {
	if c.facts.id == "" {
		return nil
	}
	for _, o := range j.seen[c.marks[0]] {
		if o.step != c.step && o.facts.id == c.facts.id && (c.step && o.facts.source == event.SourceGateway || o.step) && (!o.step || o.into == nil || o.into == c) && j.same(c.facts, o.facts) {
			return o
		}
	}
	return nil
}

// nest returns the merge that nests a call under its step. The caller holds mu.
func (j *Joiner) nest(call, step, generation *seenCall) *event.Event {
	m := Merge{Call: call.uuid, Other: step.uuid, Sent: call.uuid, Span: true, Late: j.alreadySent(call, step.at), Trace: call.facts.trace, SpanID: call.facts.span}
	if generation != nil && generation.into == nil && j.alreadySent(generation, call.at) {
		m.Late, m.Sent = true, generation.uuid // PostHog has the sum
	}
	fields, err := event.DecodeFrame(step.fields)
	if err != nil {
		return nil // impossible: addCall encoded it
	}
	fields.SpanID, fields.ParentID = call.facts.span, step.facts.span
	return j.merge(m, call, step, fields)
}

// merge returns the event of a merge, and adds it to the index. Of several merges of a
// call the time tells the order. The caller holds mu.
func (j *Joiner) merge(m Merge, call, other *seenCall, fields *event.Event) *event.Event {
	at := call.at
	if other.at.Before(at) {
		at = other.at
	}
	e, err := newMerge(m, fields, at.Add(time.Duration(call.absorbed)*time.Millisecond))
	if err != nil {
		j.c.Logger.Warn("join: encode a merge", "uuid", other.uuid, "err", err)
		return nil
	}
	other.pairing, call.pairing = true, true // other is no candidate for the rest of the batch
	j.absorb(call, other, m, e)
	return e
}

// alreadySent reports whether delivery sent a capture before another came at a time. The caller
// holds mu.
func (j *Joiner) alreadySent(c *seenCall, other time.Time) bool {
	return other.After(c.at) && (!c.expects || c.released || other.Sub(c.at) >= j.c.Hold)
}
