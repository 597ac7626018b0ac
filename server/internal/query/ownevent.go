package query

import (
	"context"
	"slices"
	"strings"

	"github.com/hedgerow/hedgerow/event"
)

// The measures of events that an application names itself, such as
// support_ticket_resolved. [EventMatch] says which count. An event that says nothing
// of its prompt, model and so on has those of its trace's call, as outcomes do.
const (
	EventCount Measure = "event_count" // events that match
	EventShare Measure = "event_share" // events that match / events of that name that have the property
	EventMean  Measure = "event_mean"  // mean of the property, over the events in which it is a number
	// EventTraceRate is traces with an event that matches / traces, among the traces
	// that have a call: of the group, at that time. The event may come up to seven
	// days before the time range begins and after it ends. It is of the trace by its
	// trace id alone.
	EventTraceRate Measure = "event_trace_rate"
	// EventUserRate is the same of users. The event is of a user by its distinct id
	// or by the trace of one of the user's calls.
	EventUserRate Measure = "event_user_rate"
)

// EventMatch says which events of an application count.
type EventMatch struct {
	Name     string // of the events
	Property string // "": all of them match
	Value    string // the text that Property has; "": it is true or 1
}

// ofOwnEvent reports whether a measure is one of events that an application names.
func ofOwnEvent(m Measure) bool {
	return slices.Contains([]Measure{EventCount, EventShare, EventMean, EventTraceRate, EventUserRate}, m)
}

// check reports what a measure lacks.
func (e EventMatch) check(m Measure) error {
	switch {
	case !ofOwnEvent(m):
		return nil
	case e.Name == "":
		return event.Invalid("the measure "+string(m)+" needs the name of an event", "name it, such as support_ticket_resolved")
	case e.Property == "" && (m == EventShare || m == EventMean):
		return event.Invalid("the measure "+string(m)+" needs a property of the event", "name one, such as resolved")
	case e.Property == "" && e.Value != "":
		return event.Invalid("a value needs the property that has it", "name the property, or leave the value away")
	}
	return checkText("event", e.Name+e.Property+e.Value)
}

// hit and known are the conditions that an event matches and that it says anything
// about it.
func (r *Reader) match(e EventMatch) (hit, known condition) {
	p, path := r.sql.property, any(propertyPath(e.Property))
	switch {
	case e.Property == "":
		return condition{cond: "true"}, condition{cond: "true"}
	case e.Value == "":
		low := "lower(" + p + ")"
		return condition{"coalesce(" + low + " IN ('true', '1'), false)", []any{path}}, condition{"coalesce(" + low + " IN ('true', 'false', '1', '0'), false)", []any{path}}
	}
	return condition{"coalesce(" + p + " = CAST(? AS VARCHAR), false)", []any{path, e.Value}}, condition{p + " IS NOT NULL", []any{path}}
}

// number is the value of the property, or NULL.
func (r *Reader) number(e EventMatch) condition {
	n := r.sql.tryFloat(r.sql.property)
	n = "CASE WHEN isfinite(" + n + ") THEN " + n + " END"
	return condition{n, slices.Repeat([]any{propertyPath(e.Property)}, strings.Count(n, "?"))}
}

// told is a table expression of the events of one name in a filter's time range:
// the fields that uses mentions, those in calls completed by the call's.
func (r *Reader) told(ctx context.Context, project, name, uses string, calls []string, q *Filter, c *cover) (string, []any, error) {
	if isOutcome(name) {
		return r.outcomes(ctx, project, uses, calls, q, c)
	}
	f := fieldsOf(uses, calls)
	f.any = true
	in, near := new(where), new(where)
	in.add("project_id = ? AND name = ?", project, name)
	q.within(in)
	own := strings.Join(in.conds, " AND ")
	near.add("project_id = ?", project)
	if !q.From.IsZero() {
		near.add("ts >= ?", q.From.Add(-outcomeReach).UTC())
	}
	if !q.To.IsZero() {
		near.add("ts <= ?", q.To.Add(outcomeReach).UTC())
	}
	near.add("trace_id IN (SELECT trace_id FROM events WHERE "+own+" AND trace_id IS NOT NULL)", in.args...)
	from, args := r.rawOutcomes(f, condition{own, in.args}, condition{strings.Join(near.conds, " AND "), near.args})
	return f.inherit(from), args, nil
}

// toldSource is the source of the measures of single events that an application
// names: with hit, known and number.
func (r *Reader) toldSource(ctx context.Context, project string, f *Filter, by GroupBy, e EventMatch, c *cover) (source, error) {
	from, w, value, err := r.toldEvents(ctx, project, f, by, e, "", c)
	if err != nil {
		return source{}, err
	}
	hit, known := r.match(e)
	number := r.number(e)
	return source{sql: "(SELECT " + value.cond + " AS value, ts, " + hit.cond + " AS hit, " + known.cond + " AS known, " + number.cond + " AS number FROM " + from.sql + " " + w.String() + ")",
		args: slices.Concat(value.args, hit.args, known.args, number.args, from.args, w.args)}, nil
}

// toldEvents are those events, and the expression of their group.
func (r *Reader) toldEvents(ctx context.Context, project string, f *Filter, by GroupBy, e EventMatch, uses string, c *cover) (from table, w *where, value condition, err error) {
	o := *r
	o.sql = *r.sql.ofOutcome()
	if w, err = o.where(project, f); err != nil {
		return from, w, value, err
	}
	w.add("name = ?", e.Name)
	if value.cond, value.args, err = o.by(by); err != nil {
		return from, w, value, err
	}
	sql, args, err := r.told(ctx, project, e.Name, strings.Join([]string{uses, value.cond, w.String(), "uuid ts properties is_error"}, " "), inherited(f, by), f, c)
	return table{sql: sql + " AS events", args: args, place: "NULL"}, w, value, err
}

// unitSource is the source of rates of traces or users, which a column of calls
// names: with unit and hit.
func (r *Reader) unitSource(project string, f *Filter, by GroupBy, e EventMatch, column string) (source, error) {
	w, value, args, err := r.grouped(ofCalls, project, f, by)
	if err != nil {
		return source{}, err
	}
	matches, hit := r.matchingUnits(project, f, e, column)
	return source{sql: "(" + matches.cond + " SELECT " + value + " AS value, ts, is_error, 1 AS n, " + column + " AS unit, " + hit + " AS hit FROM events " + w.String() + " AND " + column + " IS NOT NULL)",
		args: slices.Concat(matches.args, args, w.args)}, nil
}

// matchingUnits begins a query with the traces and users of the events that match,
// and gives the condition that a call is of one of them. Without a name, all are.
func (r *Reader) matchingUnits(project string, f *Filter, e EventMatch, column string) (with condition, hit string) {
	if e.Name == "" {
		return condition{}, "true"
	}
	w := new(where)
	w.add("project_id = ? AND name = ?", project, e.Name)
	if !f.From.IsZero() {
		w.add("ts >= ?", f.From.Add(-outcomeReach).UTC())
	}
	if !f.To.IsZero() {
		w.add("ts < ?", f.To.Add(outcomeReach).UTC())
	}
	matched, _ := r.match(e)
	w.add(matched.cond, matched.args...)
	of := func(c string) string {
		return "coalesce(" + c + " IN (SELECT " + c + " FROM matching WHERE " + c + " IS NOT NULL), false)"
	}
	if hit = of("trace_id"); column != "trace_id" {
		hit = "(" + of(column) + " OR " + hit + ")"
	}
	return condition{"WITH matching AS MATERIALIZED (SELECT DISTINCT trace_id, distinct_id FROM events " + w.String() + ")", w.args}, hit
}
