package query

import (
	"context"
	"encoding/json"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query/sqlf"
)

// Trace is all that is known under one trace id, as a tree.
type Trace struct {
	ID        string    `json:"trace_id"`
	Name      string    `json:"name"`
	User      string    `json:"user"` // distinct id
	SessionID string    `json:"session_id"`
	Start     time.Time `json:"start"`
	End       time.Time `json:"end"` // of the part that ended last
	Rollup    Rollup    `json:"totals"`
	Roots     []*Node   `json:"roots"`
	Truncated bool      `json:"truncated"` // more events than MaxTraceEvents, or than fit into a result: the rest is missing
}

// Node is an event in its trace. Children are in order of time.
type Node struct {
	Event         *Event  `json:"event"`
	ParentMissing bool    `json:"parent_missing"` // its parent has not arrived
	Rollup        Rollup  `json:"totals"`         // of it and all below it
	Children      []*Node `json:"children"`

	start *Event // the start event of a call that its application reports
}

// Rollup is the sum over the calls of a tree.
type Rollup struct {
	Events        int       `json:"events"`
	Calls         int       `json:"calls"`
	OpenCalls     int       `json:"open_calls"`   // reported as begun, without an end so far: no part of Calls
	Errors        int       `json:"errors"`       // calls that failed
	OtherErrors   int       `json:"other_errors"` // failed events that are not calls
	InputTokens   event.Int `json:"input_tokens"`
	OutputTokens  event.Int `json:"output_tokens"`
	TotalTokens   event.Int `json:"total_tokens"`
	CostUSD       USD       `json:"cost_usd"`
	UncostedCalls int       `json:"uncosted_calls"` // as in [Totals], and the next two
	Incomplete    int       `json:"incomplete_calls"`
	CostAtLeast   bool      `json:"cost_at_least"`
	LatencyMS     Millis    `json:"latency_ms"` // from the first start to the last end
}

// MaxTraceEvents bounds the events of one [Trace].
const MaxTraceEvents = 10_000

// Trace assembles a trace from the parts that have arrived, in any order.
func (r *Reader) Trace(ctx context.Context, project, id string) (*Trace, error) {
	w, err := r.where(project, &Filter{TraceID: id})
	if err != nil {
		return nil, err
	}
	if id == "" {
		return nil, event.Invalid("the trace id is empty", "")
	}
	from, err := r.held(ctx, project, "trace_id", []string{id})
	if err != nil {
		return nil, err
	}
	found, err := r.find(ctx, from, w, sqlf.Column("ts"), "ASC", MaxTraceEvents+1)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, event.NewError(event.CodeNotFound, "trace not found in this project", "it may have passed the project's retention, or not be stored yet", nil)
	}
	rows, less, err := r.light(ctx, found[:min(len(found), MaxTraceEvents)])
	if err != nil {
		return nil, err
	}
	events, err := r.views(ctx, rows)
	if err != nil {
		return nil, err
	}
	for _, e := range events {
		e.LeftOut = less[e.UUID]
	}
	events, truncated := cut(events)
	t := assemble(id, events)
	t.Truncated = truncated || len(found) > MaxTraceEvents
	return t, nil
}

// assemble builds the tree of events in order of time. An event's parent is the
// one with that span id; the trace itself if it names the trace id or nothing.
// An event with an unknown parent becomes a root marked so; in a cycle, the last
// event becomes a root.
func assemble(id string, events []*Event) *Trace {
	t := &Trace{ID: id}
	events, starts := joinStarts(events)
	nodes := make([]*Node, len(events))
	bySpan := make(map[string]*Node)
	var root *Node // the $ai_trace event
	for i, e := range events {
		n := &Node{Event: e, Children: []*Node{}, start: starts[e]}
		nodes[i] = n
		if e.Name == event.Trace && root == nil {
			root = n
		}
		if _, taken := bySpan[e.SpanID]; e.SpanID != "" && !taken {
			bySpan[e.SpanID] = n
		}
	}
	for _, n := range nodes { // outcomes may name a call by the caller's request id
		if id := requestID(n.Event); n.Event.IsCall() && id != "" && bySpan[id] == nil {
			bySpan[id] = n
		}
	}
	parents := make(map[*Node]*Node, len(nodes))
	for _, n := range nodes {
		p := bySpan[n.Event.ParentID]
		switch {
		case n == root:
			continue
		case n.Event.ParentID == "" || n.Event.ParentID == id && p == nil:
			p = root
		case p == nil && isOutcome(n.Event.Name) && n.Event.ParentID == requestID(n.Event):
			p = root
		case p == nil:
			n.ParentMissing = true
		}
		if p != nil {
			parents[n] = p
		}
	}
	breakCircles(nodes, parents)
	for _, n := range nodes {
		if p := parents[n]; p != nil {
			p.Children = append(p.Children, n)
		} else {
			t.Roots = append(t.Roots, n)
		}
	}
	var all rollup
	for _, n := range t.Roots {
		all.add(n.roll())
	}
	t.Rollup = all.result()
	t.Start, t.End = all.start, all.end
	if root != nil && root.Event.LatencyMS.Known {
		t.Rollup.LatencyMS = root.Event.LatencyMS
	}
	for _, e := range events {
		setFirst(&t.Name, e.TraceName)
		setFirst(&t.User, e.DistinctID)
		setFirst(&t.SessionID, e.SessionID)
	}
	if t.Name == "" && root != nil {
		t.Name = root.Event.SpanName
	}
	return t
}

// joinStarts merges the start events of calls with their end events. If several
// ends have one id, the first gets the start.
func joinStarts(events []*Event) (rest []*Event, starts map[*Event]*Event) {
	ends := make(map[string]*Event)
	for _, e := range events {
		if isReportedEnd(e) && e.SpanID != "" && ends[e.SpanID] == nil {
			ends[e.SpanID] = e
		}
	}
	if len(ends) == 0 {
		return events, nil
	}
	starts = make(map[*Event]*Event)
	for _, e := range events {
		if end := ends[e.SpanID]; e.Name == event.RequestStarted && end != nil && starts[end] == nil {
			starts[end] = e
			continue
		}
		rest = append(rest, e)
	}
	return rest, starts
}

// requestID is the caller's own id of a request.
func requestID(e *Event) string {
	var id string
	if v := e.Properties["request_id"]; len(v) == 0 || json.Unmarshal(v, &id) != nil {
		return ""
	}
	return id
}

func isReportedEnd(e *Event) bool {
	o := event.Event{Name: e.Name}
	return o.IsReportedCall()
}

// breakCircles takes the parent from the last part, in order of time, of each
// circle of parents. Each part is checked once: traces can be deep.
func breakCircles(nodes []*Node, parents map[*Node]*Node) {
	walked := make(map[*Node]int, len(nodes)) // by which walk, from 1
	place := make(map[*Node]int, len(nodes))
	for i, n := range nodes {
		place[n] = i
	}
	for i, start := range nodes {
		n := start
		for n != nil && walked[n] == 0 {
			walked[n] = i + 1
			n = parents[n]
		}
		if n == nil || walked[n] != i+1 {
			continue // end of the path, or a joined path
		}
		last := n
		for m := parents[n]; m != n; m = parents[m] {
			if place[m] > place[last] {
				last = m
			}
		}
		delete(parents, last)
	}
}

func setFirst(s *string, v string) {
	if *s == "" {
		*s = v
	}
}

// rollup is a Rollup being summed up.
type rollup struct {
	Rollup
	start, end time.Time
}

// add adds the totals of a sibling or child.
func (a *rollup) add(b rollup) {
	a.Events += b.Events
	a.Calls += b.Calls
	a.OpenCalls += b.OpenCalls
	a.Errors += b.Errors
	a.OtherErrors += b.OtherErrors
	a.UncostedCalls += b.UncostedCalls
	a.Incomplete += b.Incomplete
	a.CostAtLeast = a.Incomplete > 0
	a.InputTokens = plus(a.InputTokens, b.InputTokens)
	a.OutputTokens = plus(a.OutputTokens, b.OutputTokens)
	a.TotalTokens = plus(a.TotalTokens, b.TotalTokens)
	if b.CostUSD.Known {
		a.CostUSD = USD(event.Some(a.CostUSD.Value.Add(b.CostUSD.Value)))
	}
	if a.start.IsZero() || !b.start.IsZero() && b.start.Before(a.start) {
		a.start = b.start
	}
	if b.end.After(a.end) {
		a.end = b.end
	}
}

func (a *rollup) result() Rollup {
	if !a.start.IsZero() {
		a.LatencyMS = event.Some(float64(a.end.Sub(a.start).Microseconds()) / 1000)
	}
	return a.Rollup
}

func plus(a, b event.Int) event.Int {
	return event.Int{Value: a.Value + b.Value, Known: a.Known || b.Known}
}

// roll sums up a subtree: its calls, as everywhere. What a span says of tokens and cost
// is none of the sums: frameworks repeat on it those of the calls below it.
func (n *Node) roll() rollup {
	var below rollup
	for _, c := range n.Children {
		below.add(c.roll())
	}
	e := n.Event
	own := rollup{start: e.Timestamp, end: e.Timestamp}
	if e.LatencyMS.Known {
		own.end = e.Timestamp.Add(time.Duration(e.LatencyMS.Value * float64(time.Millisecond)))
	}
	own.Events = 1
	if n.start != nil {
		own.Events++
		if n.start.Timestamp.Before(own.start) {
			own.start = n.start.Timestamp
		}
	}
	switch {
	case e.IsCall():
		own.Calls = 1
		own.InputTokens, own.OutputTokens, own.TotalTokens = e.Usage.Input, e.Usage.Output, e.Usage.Total
		var whole bool
		if own.CostUSD, whole = e.Cost.Known(); !whole {
			own.UncostedCalls = 1
		}
		if e.Incomplete() {
			own.Incomplete, own.CostAtLeast = 1, true
		}
		if e.IsError {
			own.Errors = 1
		}
	case e.IsError:
		own.OtherErrors = 1
	}
	if e.Name == event.RequestStarted {
		own.OpenCalls = 1
	}
	own.add(below)
	n.Rollup = own.result()
	return own
}
