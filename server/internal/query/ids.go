package query

import (
	"context"
	"database/sql"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	"github.com/shopspring/decimal"
)

// Table rollup_ids says which stretches have events of a trace or a session, by
// a hash of its id: numbers are read in a fraction of the time that the ids of
// all events take. Two ids of one hash cost time and change nothing: what is
// found is looked up by its id.

// identified are the columns whose values rollup_ids knows.
var identified = []string{"trace_id", "session_id"}

// idHash is FNV-1a, 64 bits, over the column's name, NUL and the id.
func idHash(column, id string) int64 {
	h := fnv.New64a()
	h.Write([]byte(column))
	h.Write([]byte{0})
	h.Write([]byte(id))
	return int64(h.Sum64())
}

// maxHeld bounds the parts that held tells apart.
const maxHeld = 12

// held is where events with one of the ids in a column are, with all columns of
// events. It holds other events, too.
func (r *Reader) held(ctx context.Context, project, column string, ids []string) (table, error) {
	if !slices.Contains(identified, column) {
		return r.allEvents(), nil
	}
	c, err := r.cover(ctx, project)
	if err != nil || c.last.IsZero() {
		return r.allEvents(), err
	}
	hashes := make([]any, len(ids))
	for i, id := range ids {
		hashes[i] = idHash(column, id)
	}
	return r.stretches(ctx, &c, "SELECT last FROM rollup_ids WHERE project_id = ? AND last <= ? AND hash IN (SELECT unnest(CAST(? AS BIGINT[])))", []any{project, c.last, hashes})
}

// storedIn is a range of stored_at: (first, last].
type storedIn struct{ first, last time.Time }

func (s storedIn) cond() condition {
	return condition{"stored_at > ? AND stored_at <= ?", []any{s.first.UTC(), s.last.UTC()}}
}

// holds tells whether the events of a condition by fromTo are in the range.
func (s storedIn) holds(c condition) bool {
	from, _ := c.args[0].(time.Time)
	to, _ := c.args[1].(time.Time)
	return from.After(s.first) && !to.After(s.last)
}

// ranges are those of some stretches, a subquery, in order. Stretches that lie side
// by side are one.
func (r *Reader) ranges(ctx context.Context, lasts string, args []any) (parts []storedIn, err error) {
	err = r.store.Read(ctx, func(rows *sql.Rows) error {
		for rows.Next() {
			var s storedIn
			if err := rows.Scan(&s.first, &s.last); err != nil {
				return err
			}
			if n := len(parts); n > 0 && parts[n-1].last.Equal(s.first) {
				parts[n-1].last = s.last
			} else {
				parts = append(parts, s)
			}
		}
		return nil
	}, "SELECT first, last FROM rolled WHERE last IN ("+lasts+") ORDER BY first", args...)
	return parts, err
}

// stretches is the events of some stretches, a subquery, and those of none, with all
// columns of events. It holds other events, too.
func (r *Reader) stretches(ctx context.Context, c *cover, lasts string, args []any) (table, error) {
	parts, err := r.ranges(ctx, lasts, args)
	if err != nil {
		return table{}, err
	}
	for len(parts) > maxHeld { // the two closest become one
		at := 1
		for i := 2; i < len(parts); i++ {
			if parts[i].first.Sub(parts[i-1].last) < parts[at].first.Sub(parts[at-1].last) {
				at = i
			}
		}
		parts[at-1].last = parts[at].last
		parts = slices.Delete(parts, at, at+1)
	}
	var conds []condition
	for _, rest := range c.rest {
		// One that was to be rolled up again may lie within a part, of several or of its own.
		if !slices.ContainsFunc(parts, func(p storedIn) bool { return p.holds(rest) }) {
			conds = append(conds, rest)
		}
	}
	for _, p := range parts {
		conds = append(conds, p.cond())
	}
	if len(conds) == 0 {
		conds = []condition{{"false", nil}}
	}
	// One part each: the engine skips what lies outside a range, not what lies
	// outside of several.
	var from []string
	args = nil
	for _, c := range conds {
		from, args = append(from, "SELECT *, "+r.sql.place+" AS place FROM events WHERE "+c.cond), append(args, c.args...)
	}
	return table{"(" + strings.Join(from, " UNION ALL ") + ")", args, "place"}, nil
}

// firstWindow is how far back the newest of a list are looked for at first; each
// further look goes windowGrowth times as far.
const (
	firstWindow  = time.Hour
	windowGrowth = 6
	maxWindow    = 1000 * 24 * time.Hour
)

// newest finds the newest traces, sessions or users of a list, or those after
// its cursor, from the newest events alone: no more than so many, in any order,
// and, of traces, since when there are events of them. A filter may narrow a list
// of traces: one that begins within a time meets it within that time or not at all.
func (r *Reader) newest(ctx context.Context, key string, q ListQuery, limit int) (ids []string, since time.Time, err error) {
	end := q.To
	if end.IsZero() {
		end = r.now()
	}
	var after mark
	var micros int64
	if q.Cursor != "" {
		if after, err = parseMark(q.Cursor, string(q.Sort)); err != nil {
			return nil, since, err
		}
		value, err := decimal.NewFromString(after.Value)
		if err != nil {
			return nil, since, fmt.Errorf("read cursor: %w", err)
		}
		micros = value.IntPart()
	}
	byStart := key == "trace_id" // else by the last event
	if at := time.UnixMicro(micros); byStart && q.Cursor != "" && at.Before(end) {
		end = at // where the pages before it ended
	}
	for window := firstWindow; ; window *= windowGrowth {
		f := q.Filter
		f.From = end.Add(-window)
		whole := !q.From.IsZero() && !f.From.After(q.From) || window > maxWindow
		if whole {
			f.From = q.From
		}
		w, err := r.where(q.Project, &Filter{From: f.From, To: f.To})
		if err != nil {
			return nil, since, err
		}
		w.add(key + " IS NOT NULL")
		if q.narrows() {
			in, err := r.where(q.Project, &f)
			if err != nil {
				return nil, since, err
			}
			w.add(key+" IN (SELECT "+key+" FROM events "+in.String()+")", in.args...)
		}
		moment, having := "max(ts)", ""
		if byStart {
			moment = "min(ts)"
		}
		args := w.args
		if q.Cursor != "" {
			if byStart { // what comes later changes no start
				w.add("ts <= make_timestamp(?)", micros)
			}
			having = " HAVING " + moment + " < make_timestamp(?) OR " + moment + " = make_timestamp(?) AND " + key + " > ?"
			args = append(w.args, micros, micros, after.ID)
		}
		found, err := r.raw(ctx, "SELECT "+key+", "+moment+" FROM events "+w.String()+" GROUP BY "+key+having+" ORDER BY "+moment+" DESC, "+key+" LIMIT ?", append(args, limit)...)
		if err != nil {
			return nil, since, err
		}
		ids = ids[:0]
		for _, row := range found {
			id, _ := row[0].(string)
			ids = append(ids, id)
			if byStart {
				since, _ = row[1].(time.Time) // the last is the earliest
			}
		}
		if byStart && !whole && len(ids) > 0 {
			if ids, err = r.withoutEarlier(ctx, key, q, f.From, ids); err != nil {
				return nil, since, err
			}
		}
		if len(ids) == limit || whole {
			return ids, since, nil
		}
	}
}

// withoutEarlier leaves out the ids that have an event in q's time range before
// a moment.
func (r *Reader) withoutEarlier(ctx context.Context, key string, q ListQuery, before time.Time, ids []string) ([]string, error) {
	from, err := r.held(ctx, q.Project, key, ids)
	if err != nil {
		return nil, err
	}
	w, err := r.where(q.Project, &Filter{From: q.From, To: before})
	if err != nil {
		return nil, err
	}
	r.among(w, key, ids)
	earlier, err := r.texts(ctx, "SELECT DISTINCT "+key+" FROM "+from.sql+" "+w.String(), append(from.args, w.args...)...)
	return slices.DeleteFunc(ids, func(id string) bool { return slices.Contains(earlier, id) }), err
}

// among adds that a column has one of some values.
func (r *Reader) among(w *where, column string, values []string) {
	args := make([]any, len(values))
	for i, v := range values {
		args[i] = v
	}
	w.add(column+" IN ("+r.sql.texts+")", args)
}

// texts reads a column of texts.
func (r *Reader) texts(ctx context.Context, query string, args ...any) (out []string, err error) {
	err = r.store.Read(ctx, func(rows *sql.Rows) error {
		for rows.Next() {
			var s string
			if err := rows.Scan(&s); err != nil {
				return err
			}
			out = append(out, s)
		}
		return nil
	}, query, args...)
	return out, err
}

// DistinctIDs returns the users of those of some events that are stored, each
// once, in order; events without one are left out.
func (r *Reader) DistinctIDs(ctx context.Context, project string, uuids []string) ([]string, error) {
	ids := make([]any, len(uuids))
	for i, id := range uuids {
		ids[i] = id
	}
	return r.texts(ctx, "SELECT DISTINCT distinct_id FROM events WHERE project_id = ? AND distinct_id IS NOT NULL AND uuid IN ("+r.sql.uuids+") ORDER BY distinct_id", project, ids)
}
