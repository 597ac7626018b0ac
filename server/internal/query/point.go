package query

import (
	"context"
	"fmt"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query/sqlf"
	"github.com/hedgerow/hedgerow/server/internal/store"
)

// Point is one point of a chart, or one cell of its table: a measure of one
// group. Its time is that of the accompanying filter.
type Point struct {
	Measure   Measure
	Event     EventMatch // of the measures of own events
	LatencyOf LatencyOf  // of latency and time to first token
	By        GroupBy
	Key       *string  // the group; nil for all. "" are events without a value
	Keys      []string // these groups together, in place of Key
	Not       []string // these groups are left out: the point is of all others
}

// ExamplesQuery requests the events that a point counts.
type ExamplesQuery struct {
	Project string
	Filter
	Point Point
	Limit int // 0 is DefaultExamples; at most MaxExamples
}

// Bounds of [ExamplesQuery.Limit].
const (
	DefaultExamples = 20
	MaxExamples     = 100
)

// Examples are events that a point counts, the most interesting first: failures
// for error rates, non-successes for success rates; the slowest durations,
// highest costs, most tokens, lowest scores; else the newest.
type Examples struct {
	Count  int64    `json:"count"` // events of which these are the first; of users, traces and their rates, one call each
	Among  int64    `json:"among"` // events of the figure: Count, or the denominator of a rate
	Of     string   `json:"of"`    // the unit: calls, outcomes, tool_calls, steps, events, traces or users
	Events []*Event `json:"events"`
}

var kindNames = map[kind]string{ofCalls: "calls", ofOutcomes: "outcomes", ofTools: "tool_calls", ofSteps: "steps", ofEvents: "events", ofTraces: "traces", ofUsers: "users", ofUserUnits: "users"}

// counted is the measure of a point.
func (r *Reader) counted(p *Point) (m measure, err error) {
	if err := p.Event.check(p.Measure); err != nil {
		return m, err
	}
	if err := p.LatencyOf.Check(); err != nil {
		return m, err
	}
	t := r.ofOutcome().terms(p.LatencyOf, p.Event)
	if m, err = t.measure(p.Measure); err == nil && m.parts != nil {
		m, err = t.measure(m.parts[0])
	}
	if m.order.IsZero() {
		m.order = sqlf.Column("ts")
	}
	if m.shown.IsZero() {
		m.shown = sqlf.Raw("true")
	}
	return m, err
}

// pointed returns the table of a point's events, and the condition of those that
// its figure counts. uses lists further columns.
func (r *Reader) pointed(ctx context.Context, project string, f *Filter, p *Point, uses sqlf.Fragment) (from table, w sqlf.Fragment, c measure, err error) {
	if c, err = r.counted(p); err != nil {
		return from, w, c, err
	}
	if f.words() && (c.kind == ofOutcomes || c.kind == ofEvents) {
		return from, w, c, event.Invalid("what a point of a chart counts cannot be narrowed by words here", "take the words or the point away")
	}
	var cover *cover
	if c.kind == ofOutcomes || c.kind == ofEvents {
		if cover, err = r.cover(ctx, project); err != nil {
			return from, w, c, err
		}
	}
	uses = sqlf.Join(" ", uses, c.among, c.shown, c.order)
	var value sqlf.Fragment
	switch c.kind {
	case ofOutcomes:
		if w, value, err = r.ofOutcome().filtered(project, f, p.By); err != nil {
			return from, w, c, err
		}
		from, err = r.outcomesTable(ctx, project, sqlf.Join(" ", uses, value, w), inherited(f, p.By), f, cover)
	case ofEvents:
		from, w, value, err = r.namedEvents(ctx, project, f, p.By, p.Event, uses, cover)
	default:
		from = r.allEvents()
		w, value, err = r.grouped(c.kind, project, f, p.By)
	}
	if err != nil {
		return from, w, c, err
	}
	if p.Key != nil {
		if err := checkText("group", *p.Key); err != nil {
			return from, w, c, err
		}
		w = w.And(equals(value, *p.Key))
	}
	if len(p.Keys) > MaxGroups {
		return from, w, c, event.Invalid("too many groups are named", fmt.Sprintf("name at most %d", MaxGroups))
	}
	for _, k := range p.Keys {
		if err := checkText("group", k); err != nil {
			return from, w, c, err
		}
	}
	if len(p.Keys) > 0 {
		w = w.And(r.sql.inTexts(anys(p.Keys), value))
	}
	if len(p.Not) > MaxGroups {
		return from, w, c, event.Invalid("too many groups are left out", fmt.Sprintf("name at most %d", MaxGroups))
	}
	for _, k := range p.Not {
		if err := checkText("group", k); err != nil {
			return from, w, c, err
		}
	}
	if len(p.Not) > 0 {
		w = w.Andf("NOT ?", r.sql.inTexts(anys(p.Not), value))
	}
	if c.unit != "" {
		from, w = r.perUnit(project, f, p, &c, w)
	}
	return from, w.And(c.among), c, nil
}

// perUnit makes a table of calls one of the first call of each unit, with whether
// the unit is hit.
func (r *Reader) perUnit(project string, f *Filter, p *Point, c *measure, w sqlf.Fragment) (table, sqlf.Fragment) {
	with, hit := r.matchingUnits(project, f, p.Event, c.unit)
	const columns = "uuid, ts, latency_us, ttft_us, cost_total, cost_input, cost_output, cost_request, cost_web_search, cost_tools, tokens, "
	return table{sqlf.New("(? SELECT "+columns+"place, bool_or(hit) OVER (PARTITION BY unit) AS hit, row_number() OVER (PARTITION BY unit ORDER BY hit DESC, ts, uuid) AS nth FROM ("+
		"SELECT "+columns+r.sql.place+" AS place, "+c.unit+" AS unit, ? AS hit FROM events WHERE ? AND "+c.unit+" IS NOT NULL)) AS events", with, hit, w), "place"}, sqlf.Raw("nth = 1")
}

// Examples finds events that a point counts.
func (r *Reader) Examples(ctx context.Context, q ExamplesQuery) (*Examples, error) {
	switch {
	case q.Limit < 0 || q.Limit > MaxExamples:
		return nil, event.Invalid("the limit is out of range", fmt.Sprintf("use 1 to %d", MaxExamples))
	case q.Limit == 0:
		q.Limit = DefaultExamples
	}
	from, w, c, err := r.pointed(ctx, q.Project, &q.Filter, &q.Point, sqlf.Fragment{})
	if err != nil {
		return nil, err
	}
	out := &Examples{Of: kindNames[c.kind], Events: []*Event{}}
	if err := r.one(ctx, sqlf.New("SELECT ?, count(*) FROM ? WHERE ?", countOf(c.shown), from.sql, w), &out.Count, &out.Among); err != nil {
		return nil, err
	}
	found, err := r.find(ctx, from, w.And(c.shown), c.order, "DESC", q.Limit)
	if err != nil {
		return nil, err
	}
	shown, err := r.fitting(ctx, found, q.Limit)
	if err != nil {
		return nil, err
	}
	rows, err := r.whole(ctx, shown, store.EventColumns(""))
	if err != nil {
		return nil, err
	}
	out.Events, err = r.views(ctx, rows)
	return out, err
}
