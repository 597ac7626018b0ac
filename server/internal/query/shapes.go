package query

import (
	"context"
	"database/sql"
	"maps"
	"slices"
	"strings"

	"github.com/hedgerow/hedgerow/event"
)

// Table rollup_traces has a row for each trace of a stretch, with how many calls
// and how deep the part of it is that the stretch has. Nearly every trace lies whole
// in one stretch and in the range of a question: those are counted by their rows.
// The events of the others are read. It also has the sums that lists of traces are
// ordered by; see largest.

// traceHash stands for trace ids where they are compared: it is the same in all
// versions of the engine. Two ids of one hash cost time and change nothing.
const traceHash = "md5_number_lower(trace_id)"

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

// shapesOf is a query for the traces of some events, as FROM has them with a WHERE:
// the columns, which are aggregates, then calls and depth, which is NULL where no
// event says where it stands. What is bound to events is bound twice.
func shapesOf(events string, columns ...string) string {
	key := func(column string) string {
		return "CASE WHEN " + column + " IS NOT NULL THEN hash(project_id, trace_id, " + column + ") END"
	}
	// Each round goes one level down from the roots: events whose parent is not in
	// their trace.
	// Hashes stand for ids: they take a fraction of the memory. Each id counts once
	// on a level: spans that share an id and name several parents would else double
	// with each round.
	return "WITH RECURSIVE part AS MATERIALIZED (SELECT DISTINCT hash(project_id, trace_id) AS t, " + key("span_id") + " AS id, " + key("parent_id") + " AS up FROM " + events + " AND trace_id IS NOT NULL AND (span_id IS NOT NULL OR parent_id IS NOT NULL))," +
		" level AS (SELECT t, id, 1 AS depth FROM part WHERE up IS NULL OR up NOT IN (SELECT id FROM part WHERE id IS NOT NULL)" +
		" UNION SELECT p.t, p.id, l.depth + 1 FROM level l JOIN part p ON p.up = l.id WHERE l.depth < 12)," +
		" deep AS (SELECT t, max(depth) AS depth FROM level GROUP BY t)," +
		" one AS (SELECT " + strings.Join(append(columns, "hash(project_id, trace_id) AS t", "count(*) FILTER (WHERE "+callExpr+") AS calls"), ", ") + " FROM " + events + " AND trace_id IS NOT NULL GROUP BY t)" +
		" SELECT one.*, depth FROM one LEFT JOIN deep USING (t)"
}

// Shapes counts the traces of a time range by their calls and by their depth:
// how many levels of parents and children lie above their deepest event. Depths
// are counted up to 12. Only traces with an event that meets f count.
func (r *Reader) Shapes(ctx context.Context, project string, f Filter) (calls, depth []Shape, err error) {
	w, err := r.where(project, &Filter{From: f.From, To: f.To})
	if err != nil {
		return nil, nil, err
	}
	met := condition{cond: "true"}
	if f.narrows() {
		in, err := r.where(project, &f)
		if err != nil {
			return nil, nil, err
		}
		met = condition{"trace_id IN (SELECT trace_id FROM events " + in.String() + ")", in.args}
	}
	c, err := r.cover(ctx, project)
	if err != nil {
		return nil, nil, err
	}
	byCalls, byDepth := make(shapes), make(shapes)
	read := func(query string, args ...any) error {
		return r.store.Read(ctx, func(rows *sql.Rows) error {
			for rows.Next() {
				var calls, traces int64
				var depth sql.NullInt64
				if err := rows.Scan(&calls, &depth, &traces); err != nil {
					return err
				}
				if byCalls[calls] += traces; depth.Valid {
					byDepth[depth.Int64] += traces
				}
			}
			return nil
		}, "SELECT calls, depth, count(*) FROM ("+query+") GROUP BY calls, depth", args...)
	}
	if c.last.IsZero() || c.events > maxRest {
		w.add(met.cond, met.args...)
		if err := read(shapesOf("events "+w.String()), slices.Concat(w.args, w.args)...); err != nil {
			return nil, nil, err
		}
		return byCalls.list(), byDepth.list(), nil
	}
	// Parts in the range. Those that reach out of it, or are not all of their trace,
	// are of no use.
	parts := new(where)
	parts.add("project_id = ? AND "+c.rows(), project, c.last)
	useless := condition{cond: "shared"}
	if !f.From.IsZero() {
		parts.add("latest >= ?", f.From.UTC())
		useless.cond, useless.args = useless.cond+" OR first < ?", append(useless.args, f.From.UTC())
	}
	if !f.To.IsZero() {
		parts.add("first < ?", f.To.UTC())
		useless.cond, useless.args = useless.cond+" OR latest >= ?", append(useless.args, f.To.UTC())
	}
	traces := "SELECT trace_id FROM rollup_traces " + parts.String() + " AND (" // of which events are read
	var tracesArgs []any
	if len(c.rest) > 0 {
		rest := c.any()
		in := w.String() + " AND trace_id IS NOT NULL AND " + rest.cond
		args := slices.Concat(w.args, rest.args)
		useless.cond, useless.args = useless.cond+" OR hash IN (SELECT "+traceHash+" FROM events "+in+")", append(useless.args, args...)
		traces, tracesArgs = "SELECT trace_id FROM events "+in+" UNION ALL "+traces, args
	}
	traces, tracesArgs = traces+useless.cond+")", slices.Concat(tracesArgs, parts.args, useless.args)
	if err := read("SELECT calls, depth FROM rollup_traces "+parts.String()+" AND NOT ("+useless.cond+") AND "+met.cond, slices.Concat(parts.args, useless.args, met.args)...); err != nil {
		return nil, nil, err
	}
	from, err := r.stretches(ctx, &c, "SELECT last FROM rollup_traces "+parts.String()+" AND ("+useless.cond+")", slices.Concat(parts.args, useless.args))
	if err != nil {
		return nil, nil, err
	}
	w.add("trace_id IN ("+traces+")", tracesArgs...)
	w.add(met.cond, met.args...)
	args := slices.Concat(from.args, w.args)
	err = read(shapesOf(from.sql+" "+w.String()), slices.Concat(args, args)...)
	return byCalls.list(), byDepth.list(), err
}

// What a [ShapeQuery] can ask of traces.
const (
	ShapeCalls = "calls"
	ShapeDepth = "depth"
)

// ShapeQuery asks for the traces of one size, as [Reader.Shapes] counts them.
type ShapeQuery struct {
	Project string
	Filter
	Of    string // ShapeCalls or ShapeDepth
	Size  int64
	Limit int
}

// TracesOfShape counts those traces, and tells the newest of them. It reads the
// events of the time range.
func (r *Reader) TracesOfShape(ctx context.Context, q ShapeQuery) (n int64, ids []string, err error) {
	if q.Of != ShapeCalls && q.Of != ShapeDepth {
		return 0, nil, event.Invalid("traces have no such size", "use calls or depth")
	}
	w, err := r.where(q.Project, &Filter{From: q.From, To: q.To})
	if err != nil {
		return 0, nil, err
	}
	if q.narrows() {
		in, err := r.where(q.Project, &q.Filter)
		if err != nil {
			return 0, nil, err
		}
		w.add("trace_id IN (SELECT trace_id FROM events "+in.String()+")", in.args...)
	}
	args := slices.Concat(w.args, w.args, []any{q.Size, q.Limit})
	err = r.store.Read(ctx, func(rows *sql.Rows) error {
		for rows.Next() {
			var id string
			if err := rows.Scan(&id, &n); err != nil {
				return err
			}
			ids = append(ids, id)
		}
		return nil
	}, "SELECT trace_id, count(*) OVER () FROM ("+shapesOf("events "+w.String(), "any_value(trace_id) AS trace_id", "max(ts) AS latest")+") WHERE "+q.Of+" = ? ORDER BY latest DESC, trace_id LIMIT ?", args...)
	return n, ids, err
}
