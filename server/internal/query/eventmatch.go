package query

import (
	"context"
	"slices"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query/sqlf"
)

// Measures of events that an application names itself, such as
// support_ticket_resolved, selected by [EventMatch]. An event without a prompt,
// model and so on has those of its trace's call, as outcomes do.
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

// EventMatch selects events of an application.
type EventMatch struct {
	Name     string // of the events
	Property string // "": all of them match
	Value    string // the text that Property has; "": it is true or 1
}

// ofOwnEvent reports whether a measure is one of events that an application names.
func ofOwnEvent(m Measure) bool {
	return slices.Contains([]Measure{EventCount, EventShare, EventMean, EventTraceRate, EventUserRate}, m)
}

// check returns an error if a measure is incomplete.
func (e EventMatch) check(m Measure) error {
	switch {
	case !ofOwnEvent(m):
		return nil
	case e.Name == "":
		return event.Invalid("the measure "+string(m)+" needs the name of an event", "name it, such as support_ticket_resolved")
	case e.Property == "" && (m == EventShare || m == EventMean):
		return event.Invalid("the measure "+string(m)+" needs a property of the event", "name one, such as resolved")
	case e.Property == "" && e.Value != "":
		return event.Invalid("a value needs a property", "name the property, or leave the value out")
	}
	return checkText("event", e.Name+e.Property+e.Value)
}

// match returns the conditions that an event matches and that it has the
// property.
func (r *Reader) match(e EventMatch) (hit, said sqlf.Fragment) {
	p := r.sql.property(e.Property)
	switch {
	case e.Property == "":
		return sqlf.Raw("true"), sqlf.Raw("true")
	case e.Value == "":
		return sqlf.New("coalesce(lower(?) IN ('true', '1'), false)", p), sqlf.New("coalesce(lower(?) IN ('true', 'false', '1', '0'), false)", p)
	}
	return sqlf.New("coalesce(? = CAST(? AS VARCHAR), false)", p, e.Value), isKnown(p)
}

// number is the value of the property, or NULL.
func (r *Reader) number(e EventMatch) sqlf.Fragment {
	n := r.sql.number(r.sql.property(e.Property))
	return sqlf.New("CASE WHEN isfinite(?) THEN ? END", n, n)
}

// named is a table expression of the events of one name in a filter's time range:
// the fields that uses reads, those in calls completed by the call's.
func (r *Reader) named(ctx context.Context, project, name string, uses sqlf.Fragment, calls []string, q *Filter, c *cover) (sqlf.Fragment, error) {
	if isOutcome(name) {
		return r.outcomes(ctx, project, uses, calls, q, c)
	}
	others, err := r.otherColumns(project, q)
	if err != nil {
		return sqlf.Fragment{}, err
	}
	f := fieldsOf(uses, calls, others)
	at := r.moment(project)
	own := q.within(project).And(at, equals(sqlf.Column("name"), name))
	near := q.around(outcomeReach).within(project).And(at).Andf("trace_id IN (SELECT trace_id FROM events WHERE ? AND trace_id IS NOT NULL)", own)
	return f.inherit(r.withCall(f, own, near)), nil
}

// namedSource is the source of the measures of single events that an application
// names: with hit, known and number.
func (r *Reader) namedSource(ctx context.Context, project string, f *Filter, by GroupBy, e EventMatch, c *cover) (source, error) {
	from, w, value, err := r.namedEvents(ctx, project, f, by, e, sqlf.Fragment{}, c)
	if err != nil {
		return source{}, err
	}
	hit, said := r.match(e)
	return source{sql: sqlf.New("(SELECT ? FROM ? WHERE ?)", []sqlf.Fragment{value.As("value"), sqlf.Raw("ts"), hit.As("hit"), said.As("known"), r.number(e).As("number")}, from.sql, w).Closed()}, nil
}

// namedEvents are those events, and the expression of their group.
func (r *Reader) namedEvents(ctx context.Context, project string, f *Filter, by GroupBy, e EventMatch, uses sqlf.Fragment, c *cover) (from table, w, value sqlf.Fragment, err error) {
	o := r.ofOutcome()
	if w, err = o.where(project, f); err != nil {
		return from, w, value, err
	}
	w = w.And(equals(sqlf.Column("name"), e.Name))
	if value, err = o.by(by); err != nil {
		return from, w, value, err
	}
	uses = sqlf.Join(" ", uses, value, w).Using("uuid", "ts", "properties", "is_error")
	events, err := r.named(ctx, project, e.Name, uses, inherited(f, by), f, c)
	return table{events.As("events"), "NULL"}, w, value, err
}

// unitSource is the source of rates of traces or users, which a column of calls
// names: with unit and hit.
func (r *Reader) unitSource(project string, f *Filter, by GroupBy, e EventMatch, column string) (source, error) {
	w, value, err := r.grouped(ofCalls, project, f, by)
	if err != nil {
		return source{}, err
	}
	matches, hit := r.matchingUnits(project, f, e, column)
	return source{sql: sqlf.New("(? SELECT ? AS value, ts, is_error, 1 AS n, "+column+" AS unit, ? AS hit FROM events WHERE ? AND "+column+" IS NOT NULL)", matches, value, hit, w).Closed()}, nil
}

// matchingUnits begins a query with the traces and users of the matching events,
// and returns the condition that a call is of one of them. Without a name, all
// are.
func (r *Reader) matchingUnits(project string, f *Filter, e EventMatch, column string) (with, hit sqlf.Fragment) {
	if e.Name == "" {
		return with, sqlf.Raw("true")
	}
	matched, _ := r.match(e)
	w := f.around(outcomeReach).within(project).And(r.moment(project), equals(sqlf.Column("name"), e.Name), matched)
	of := func(c string) string {
		return "coalesce({" + c + "} IN (SELECT " + c + " FROM matching WHERE " + c + " IS NOT NULL), false)"
	}
	hit = sqlf.New(of("trace_id"))
	if column != "trace_id" {
		hit = sqlf.New("(" + of(column) + " OR " + of("trace_id") + ")")
	}
	return sqlf.New("WITH matching AS MATERIALIZED (SELECT DISTINCT trace_id, distinct_id FROM events WHERE ?)", w), hit
}
