package query

import (
	"context"
	"database/sql"
	"maps"
	"slices"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query/sqlf"
)

// Table rollup_traces has a row for each trace of a stretch, with the number of
// calls and the depth of the part that is in the stretch. Nearly every trace is
// entirely in one stretch and in the range of a question: those are counted by
// their rows. The events of the others are read. It also has the sums that
// lists of traces are ordered by; see largest.

// traceHash replaces trace ids in comparisons: it is the same in all versions
// of the engine. A hash collision costs time but does not change results.
var traceHash = sqlf.New("md5_number_lower({trace_id})")

// Shape is how many traces have so many calls, or are so deep.
type Shape struct {
	Size   int64 `json:"size"`
	Traces int64 `json:"traces"`
}

// shapes counts traces by size.
type shapes map[int64]int64

// list is in order of sizes.
func (s shapes) list() []Shape {
	out := []Shape{}
	for _, size := range slices.Sorted(maps.Keys(s)) {
		out = append(out, Shape{size, s[size]})
	}
	return out
}

// shapesOf is a query for the traces of the events of a FROM clause with a
// condition: the columns, which are aggregates, then calls and depth, which is
// NULL if no event has a known depth.
func shapesOf(events, cond sqlf.Fragment, columns ...sqlf.Fragment) sqlf.Fragment {
	key := func(column string) string {
		return "CASE WHEN " + column + " IS NOT NULL THEN hash(project_id, trace_id, " + column + ") END"
	}
	// Each round goes one level down from the roots: events whose parent is not in
	// their trace. Hashes replace ids to use a fraction of the memory. Each id
	// counts once on a level: otherwise spans that share an id and name several
	// parents would double with each round.
	return sqlf.New("WITH RECURSIVE part AS MATERIALIZED (SELECT DISTINCT hash(project_id, trace_id) AS t, "+key("span_id")+" AS id, "+key("parent_id")+" AS up FROM ? WHERE ? AND trace_id IS NOT NULL AND (span_id IS NOT NULL OR parent_id IS NOT NULL)),"+
		" level AS (SELECT t, id, 1 AS depth FROM part WHERE up IS NULL OR up NOT IN (SELECT id FROM part WHERE id IS NOT NULL)"+
		" UNION SELECT p.t, p.id, l.depth + 1 FROM level l JOIN part p ON p.up = l.id WHERE l.depth < 12),"+
		" deep AS (SELECT t, max(depth) AS depth FROM level GROUP BY t),"+
		" one AS (SELECT ? FROM ? WHERE ? AND trace_id IS NOT NULL GROUP BY t)"+
		" SELECT one.*, depth FROM one LEFT JOIN deep USING (t)",
		events, cond, append(columns, sqlf.Raw("hash(project_id, trace_id) AS t"), countOf(callExpr).As("calls")), events, cond)
}

// Shapes counts the traces of a time range by number of calls and by depth: the
// number of levels above their deepest event, up to 12. Only traces with an
// event that matches f count.
func (r *Reader) Shapes(ctx context.Context, project string, f Filter) (calls, depth []Shape, err error) {
	w, met, err := r.tracesMeeting(project, &f)
	if err != nil {
		return nil, nil, err
	}
	c, err := r.cover(ctx, project)
	if err != nil {
		return nil, nil, err
	}
	byCalls, byDepth := make(shapes), make(shapes)
	read := func(traces sqlf.Fragment) error {
		return r.each(ctx, sqlf.New("SELECT calls, depth, count(*) FROM (?) GROUP BY calls, depth", traces), func(rows *sql.Rows) error {
			var calls, traces int64
			var depth sql.NullInt64
			if err := rows.Scan(&calls, &depth, &traces); err != nil {
				return err
			}
			if byCalls[calls] += traces; depth.Valid {
				byDepth[depth.Int64] += traces
			}
			return nil
		})
	}
	if c.last.IsZero() || c.events > maxRest {
		if err := read(shapesOf(r.allEvents().sql, w.And(met))); err != nil {
			return nil, nil, err
		}
		return byCalls.list(), byDepth.list(), nil
	}
	// Parts in the range. Those that reach out of it, or are not all of their trace,
	// are of no use.
	parts := sqlf.New("project_id = ?", project).And(c.rows())
	useless := []sqlf.Fragment{sqlf.Raw("shared")}
	if !f.From.IsZero() {
		parts = parts.Andf("latest >= ?", f.From.UTC())
		useless = append(useless, sqlf.New("first < ?", f.From.UTC()))
	}
	if !f.To.IsZero() {
		parts = parts.Andf("first < ?", f.To.UTC())
		useless = append(useless, sqlf.New("latest >= ?", f.To.UTC()))
	}
	var traces []sqlf.Fragment // of which events are read
	if len(c.rest) > 0 {
		rest := w.Andf("trace_id IS NOT NULL").And(c.any())
		useless = append(useless, sqlf.New("hash IN (SELECT ? FROM events WHERE ?)", traceHash, rest))
		traces = append(traces, sqlf.New("SELECT trace_id FROM events WHERE ?", rest))
	}
	ofParts := parts.And(sqlf.Or(useless...))
	traces = append(traces, sqlf.New("SELECT trace_id FROM rollup_traces WHERE ?", ofParts))
	if err := read(sqlf.New("SELECT calls, depth FROM rollup_traces WHERE ? AND NOT ?", parts, sqlf.Or(useless...).And(met))); err != nil {
		return nil, nil, err
	}
	from, err := r.stretches(ctx, c, sqlf.New("SELECT last FROM rollup_traces WHERE ?", ofParts))
	if err != nil {
		return nil, nil, err
	}
	err = read(shapesOf(from.sql, w.Andf("trace_id IN (?)", sqlf.Join(" UNION ALL ", traces...)).And(met)))
	return byCalls.list(), byDepth.list(), err
}

// tracesMeeting returns the condition of the events in the time range of f, and
// the condition that their trace has one that matches f.
func (r *Reader) tracesMeeting(project string, f *Filter) (w, met sqlf.Fragment, err error) {
	if w, err = r.where(project, &Filter{From: f.From, To: f.To}); err != nil || !f.narrows() {
		return w, met, err
	}
	in, err := r.where(project, f)
	return w, sqlf.New("trace_id IN (SELECT trace_id FROM events WHERE ?)", in), err
}

// Measures of a [ShapeQuery].
const (
	ShapeCalls = "calls"
	ShapeDepth = "depth"
)

// ShapeQuery requests the traces of one size, as [Reader.Shapes] counts them.
type ShapeQuery struct {
	Project string
	Filter
	Of    string // ShapeCalls or ShapeDepth
	Size  int64
	Limit int
}

// TracesOfShape counts those traces, and returns the newest of them. It reads
// the events of the time range.
func (r *Reader) TracesOfShape(ctx context.Context, q ShapeQuery) (n int64, ids []string, err error) {
	if q.Of != ShapeCalls && q.Of != ShapeDepth {
		return 0, nil, event.Invalid("traces have no such size", "use calls or depth")
	}
	w, met, err := r.tracesMeeting(q.Project, &q.Filter)
	if err != nil {
		return 0, nil, err
	}
	traces := shapesOf(r.allEvents().sql, w.And(met), sqlf.Raw("any_value(trace_id) AS trace_id"), sqlf.Raw("max(ts) AS latest"))
	err = r.each(ctx, sqlf.New("SELECT trace_id, count(*) OVER () FROM (?) WHERE "+q.Of+" = ? ORDER BY latest DESC, trace_id LIMIT ?", traces, q.Size, q.Limit), func(rows *sql.Rows) error {
		var id string
		err := rows.Scan(&id, &n)
		ids = append(ids, id)
		return err
	})
	return n, ids, err
}
