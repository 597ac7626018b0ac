package query

import (
	"context"
	"slices"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query/sqlf"
)

// Table rollup_parts has what lists of traces, sessions and users add up: a
// part is the events of one trace, session and user within one slot of time. It
// is a roll-up as described in rollup.go, with the ids themselves in place of a
// dimension.

// partColumn is a column of a part: what one event adds, and the aggregate by which
// parts become one. Of arg_min, by is the column that is to be the least.
type partColumn struct {
	column
	sum, by string
}

// partColumns are the columns of a part after its ids.
var partColumns = []partColumn{
	{column{"first", sqlf.Column("ts")}, "min", ""},
	{column{"latest", sqlf.Column("ts")}, "max", ""},
	// Start and end, in microseconds since 1970, of events with a duration.
	{column{"began", sqlf.New("CASE WHEN {latency_us} IS NOT NULL THEN epoch_us({ts}) END")}, "min", ""},
	{column{"ended", sqlf.New("TRY(epoch_us({ts}) + {latency_us})")}, "max", ""},
	// The first trace name in the events, and that of the trace's own event.
	{column{"trace_name", sqlf.Column("trace_name")}, "arg_min", "named"},
	{column{"named", sqlf.New("CASE WHEN {trace_name} IS NOT NULL THEN {ts} END")}, "min", ""},
	{column{"root_name", sqlf.New("CASE WHEN {name} = '" + event.Trace + "' THEN {span_name} END")}, "arg_min", "rooted"},
	{column{"rooted", sqlf.New("CASE WHEN {name} = '" + event.Trace + "' AND {span_name} IS NOT NULL THEN {ts} END")}, "min", ""},
	{column{"events", sqlf.Raw("1")}, "sum", ""},
	{column{"calls", sqlf.New("CASE WHEN ? THEN 1 ELSE 0 END", callExpr)}, "sum", ""},
	{column{"errors", sqlf.New("CASE WHEN ? AND {is_error} THEN 1 ELSE 0 END", callExpr)}, "sum", ""},
	{column{"tokens", sqlf.New("CASE WHEN ? THEN {tokens} END", callExpr)}, "sum", ""},
	{column{"cost", sqlf.New("CASE WHEN ? THEN ? END", callExpr, knownCost)}, "sum", ""},
	{column{"uncosted", sqlf.New("CASE WHEN ? AND {cost_total} IS NULL THEN 1 ELSE 0 END", callExpr)}, "sum", ""},
	{column{"first_value", sqlf.New("CASE WHEN {name} = '" + event.FirstValue + "' THEN {ts} END")}, "min", ""},
	{column{"failures", sqlf.New("CASE WHEN {is_error} THEN 1 ELSE 0 END")}, "sum", ""}, // calls or not
	{column{"incomplete", sqlf.New("CASE WHEN ? AND ? THEN 1 ELSE 0 END", callExpr, incompleteExpr)}, "sum", ""},
}

// partIDs are the ids of a part.
const partIDs = "trace_id, session_id, distinct_id"

// partSum is how the parts of a list become one in a column.
func partSum(name string) sqlf.Fragment { return partAt(name).over(sqlf.Column(name)) }

// partSumOfEvents is partSum over events.
func partSumOfEvents(name string) sqlf.Fragment { return partAt(name).over(partAt(name).expr) }

func partAt(name string) *partColumn {
	return &partColumns[slices.IndexFunc(partColumns, func(c partColumn) bool { return c.name == name })]
}

// over is the aggregate of an expression.
func (c *partColumn) over(expr sqlf.Fragment) sqlf.Fragment {
	if c.by != "" {
		return sqlf.New(c.sum+"(?, ?)", expr, sqlf.Column(c.by))
	}
	return sqlf.New(c.sum+"(?)", expr)
}

// wholeColumns are those of partColumns that rows of table rollup_traces have, too,
// in order of that table.
var wholeColumns = []string{"errors", "tokens", "cost", "began", "ended"}

// usedParts are the columns of parts that a fragment reads.
func usedParts(uses sqlf.Fragment) []column {
	var out []column
	for _, c := range partColumns {
		if uses.Uses(c.name) {
			out = append(out, c.column)
		}
	}
	return out
}

// largest finds the first traces of a list that no filter narrows, in an order
// other than SortStart, after its cursor. A trace that is entirely in one
// stretch, as nearly all are, needs no summing: only the others are grouped.
func (r *Reader) largest(ctx context.Context, l *listing) ([]string, error) {
	q, c := l.ListQuery, l.cover
	w, err := r.where(q.Project, &Filter{From: q.From, To: q.To})
	if err != nil {
		return nil, err
	}
	w = w.Andf("{trace_id} IS NOT NULL")
	rows, inside := sqlf.New("project_id = ?", q.Project).And(c.rows()), sqlf.Raw("true")
	crossing := []sqlf.Fragment{sqlf.Raw("false")} // those that reach out of the time range
	for _, end := range []time.Time{q.From, q.To} {
		if !end.IsZero() {
			crossing = append(crossing, sqlf.New("first < ? AND latest >= ?", end.UTC(), end.UTC()))
		}
	}
	if !q.From.IsZero() {
		inside = inside.Andf("first >= ?", q.From.UTC())
	}
	if !q.To.IsZero() {
		inside = inside.Andf("latest < ?", q.To.UTC())
	}
	rest, shared := sqlf.Raw("false"), sqlf.Raw("shared")
	if len(c.rest) > 0 {
		rest = c.any()
		shared = sqlf.New("(shared OR hash IN (SELECT ? FROM events WHERE ? AND ?))", traceHash, w, rest)
	}
	crossed := func(column string) sqlf.Fragment {
		return sqlf.New(column+" IN (SELECT "+column+" FROM rollup_traces WHERE ? AND ?)", rows, sqlf.Or(crossing...))
	}
	byHash, byID := crossed("hash"), crossed("trace_id")
	from, err := r.stretches(ctx, c, sqlf.New("SELECT last FROM rollup_traces WHERE ? AND ?", rows, byHash))
	if err != nil {
		return nil, err
	}
	names, columns := selected(usedParts(l.order))
	const sorted = "(SELECT trace_id AS id, ? FROM ?)? ORDER BY sort DESC, id LIMIT ?"
	alone := sqlf.New("SELECT id, sort FROM "+sorted, sortOf(listOrders[q.Sort](sqlf.Column)), sqlf.New("rollup_traces WHERE ? AND ? AND NOT ?", rows, inside, shared), l.after, q.Limit+1)
	added := sqlf.New("SELECT id, sort FROM (SELECT trace_id AS id, ? FROM (SELECT trace_id, ? FROM rollup_traces WHERE ? AND ? AND ? AND NOT ?"+
		" UNION ALL SELECT trace_id, ? FROM ? WHERE ? AND ?) GROUP BY trace_id)?",
		sortOf(l.order), names, rows, inside, shared, byHash, columns, from.sql, w, sqlf.Or(rest, byID), l.after)
	return r.texts(ctx, sqlf.New("SELECT id FROM ((?) UNION ALL ?) ORDER BY sort DESC, id LIMIT ?", alone, added, q.Limit+1))
}

// parts is a table expression of the parts of a time range, with the columns in
// uses: rows of the roll-up, and single events in the same form.
func (r *Reader) parts(project string, f Filter, c *cover, uses sqlf.Fragment) (sqlf.Fragment, error) {
	if f = (Filter{From: f.From, To: f.To}); f.To.IsZero() {
		f.To = endOfTime
	}
	w, err := r.where(project, &f)
	if err != nil {
		return w, err
	}
	names, columns := selected(usedParts(uses))
	ids := sqlf.Raw(partIDs)
	var parts []sqlf.Fragment
	p := plan{cover: c, ok: !c.last.IsZero()}
	first, end := slots(f.From, f.To)
	if p.ok && first.Before(end) {
		parts = append(parts, sqlf.New("SELECT ? FROM rollup_parts WHERE project_id = ? AND ? AND first >= ? AND first < ?", append([]sqlf.Fragment{ids}, names...), project, c.rows(), first, end))
	}
	for _, single := range p.single(first, end, &f) {
		parts = append(parts, sqlf.New("SELECT ? FROM events WHERE ? AND ?", append([]sqlf.Fragment{ids}, columns...), w, single))
	}
	return allOf(parts), nil
}

// partsOf returns the conditions that a part has an event matching a
// filter, and false if parts do not have the needed columns.
func partsOf(f Filter) (sqlf.Fragment, bool) {
	var w sqlf.Fragment
	for _, c := range []struct {
		column string
		id     *string
	}{{"trace_id", &f.TraceID}, {"session_id", &f.SessionID}, {"distinct_id", &f.User}} {
		if *c.id != "" {
			w = w.And(equals(sqlf.Column(c.column), *c.id))
		}
		*c.id = ""
	}
	switch f.Kind {
	case KindCalls:
		w = w.Andf("{calls} > 0")
		f.Kind = ""
	case KindErrors:
		w = w.Andf("{failures} > 0")
		f.Kind = ""
	}
	return w, !f.narrows()
}

// partsQuery rolls up the parts of a stretch.
func (s *stretch) partsQuery(slot sqlf.Fragment) sqlf.Fragment {
	var each, all []sqlf.Fragment
	for _, c := range partColumns {
		sum := partSum(c.name)
		if c.name == "tokens" {
			sum = sqlf.New(s.r.sql.bigint, sum)
		}
		each, all = append(each, c.expr.As(c.name)), append(all, sum)
	}
	return sqlf.New("SELECT project_id, "+partIDs+", ? FROM (SELECT project_id, "+partIDs+", ? AS slot, ? FROM events WHERE ?) GROUP BY project_id, "+partIDs+", slot ORDER BY project_id, slot, "+partIDs,
		all, slot, each, s.in())
}
