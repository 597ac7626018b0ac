package query

import (
	"context"
	"database/sql"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/server/internal/query/sqlf"
)

// Table rollup_ids records which stretches have events of a trace or a session,
// by a hash of its id: numbers are read in a fraction of the time of all
// events' ids. A hash collision costs time but does not change results: ids are
// compared afterwards.

// identified are the columns in rollup_ids.
var identified = []string{"trace_id", "session_id"}

// idHash is FNV-1a, 64 bits, over the column's name, NUL and the id.
func idHash(column, id string) int64 {
	h := fnv.New64a()
	h.Write([]byte(column))
	h.Write([]byte{0})
	h.Write([]byte(id))
	return int64(h.Sum64())
}

// maxHeld limits the number of parts in held.
const maxHeld = 12

// held is a table of parts that contain all events with one of the ids in a
// column, with all columns of events. It contains other events, too.
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
	return r.stretches(ctx, c, sqlf.New("SELECT last FROM rollup_ids WHERE project_id = ? AND last <= ? AND hash IN (SELECT unnest(CAST(? AS BIGINT[])))", project, c.last, hashes))
}

// ranges returns the ranges of stretches given by a subquery, in order, and
// merges adjacent ones.
func (r *Reader) ranges(ctx context.Context, lasts sqlf.Fragment) (parts []storedIn, err error) {
	err = r.each(ctx, sqlf.New("SELECT first, last FROM rolled WHERE last IN (?) ORDER BY first", lasts), func(rows *sql.Rows) error {
		var s storedIn
		if err := rows.Scan(&s.first, &s.last); err != nil {
			return err
		}
		if n := len(parts); n > 0 && parts[n-1].last.Equal(s.first) {
			parts[n-1].last = s.last
		} else {
			parts = append(parts, s)
		}
		return nil
	})
	return parts, err
}

// stretches is a table of the events of stretches given by a subquery, and of
// those in none, with all columns of events. It contains other events, too.
func (r *Reader) stretches(ctx context.Context, c *cover, lasts sqlf.Fragment) (table, error) {
	parts, err := r.ranges(ctx, lasts)
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
	for _, rest := range c.rest {
		// One to be rolled up again may be within a part of several stretches.
		if !slices.ContainsFunc(parts, func(p storedIn) bool { return p.holds(rest) }) {
			parts = append(parts, rest)
		}
	}
	// One query each: the engine skips data outside one range, but not data
	// outside several.
	var from []sqlf.Fragment
	for _, p := range parts {
		from = append(from, r.allColumns(p.cond()))
	}
	if len(from) == 0 {
		from = []sqlf.Fragment{r.allColumns(sqlf.Raw("false"))}
	}
	return table{allOf(from), "place"}, nil
}

// allColumns selects all columns of some events, and their place.
func (r *Reader) allColumns(cond sqlf.Fragment) sqlf.Fragment {
	return sqlf.New("SELECT *, "+r.sql.place+" AS place FROM events WHERE ?", cond)
}

// firstWindow is the first period that is searched for the newest of a list;
// each further search covers windowGrowth times as much.
const (
	firstWindow  = time.Hour
	windowGrowth = 6
	maxWindow    = 1000 * 24 * time.Hour
)

// newest finds the newest traces, sessions or users of a list, or those after its
// cursor, from the newest events alone: at most limit, in any order and, for
// traces, the time of their first event. A filter may narrow a list of traces:
// one that begins within the range either matches within it or not at all.
func (r *Reader) newest(ctx context.Context, l *listing) (ids []string, since time.Time, err error) {
	q, key, limit := l.ListQuery, l.column, l.Limit+1
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
	if at := time.UnixMicro(micros); l.byStart && q.Cursor != "" && at.Before(end) {
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
		w = w.And(isKnown(sqlf.Column(key)))
		if q.narrows() {
			in, err := r.where(q.Project, &f)
			if err != nil {
				return nil, since, err
			}
			w = w.Andf(key+" IN (SELECT "+key+" FROM events WHERE ?)", in)
		}
		moment, having := "max(ts)", sqlf.Fragment{}
		if l.byStart {
			moment = "min(ts)"
		}
		if q.Cursor != "" {
			if l.byStart { // later events do not change a start
				w = w.Andf("ts <= make_timestamp(?)", micros)
			}
			having = sqlf.New(" HAVING "+moment+" < make_timestamp(?) OR "+moment+" = make_timestamp(?) AND "+key+" > ?", micros, micros, after.ID)
		}
		found, err := r.raw(ctx, sqlf.New("SELECT "+key+", "+moment+" FROM events WHERE ? GROUP BY "+key+"? ORDER BY "+moment+" DESC, "+key+" LIMIT ?", w, having, limit))
		if err != nil {
			return nil, since, err
		}
		ids = ids[:0]
		for _, row := range found {
			id, _ := row[0].(string)
			ids = append(ids, id)
			if l.byStart {
				since, _ = row[1].(time.Time) // the last is the earliest
			}
		}
		if l.byStart && !whole && len(ids) > 0 {
			if ids, err = r.withoutEarlier(ctx, key, q, f.From, ids); err != nil {
				return nil, since, err
			}
		}
		if len(ids) == limit || whole {
			return ids, since, nil
		}
	}
}

// withoutEarlier removes the ids that have an earlier event in q's time range.
func (r *Reader) withoutEarlier(ctx context.Context, key string, q *ListQuery, before time.Time, ids []string) ([]string, error) {
	from, err := r.held(ctx, q.Project, key, ids)
	if err != nil {
		return nil, err
	}
	w, err := r.where(q.Project, &Filter{From: q.From, To: before})
	if err != nil {
		return nil, err
	}
	earlier, err := r.texts(ctx, sqlf.New("SELECT DISTINCT "+key+" FROM ? WHERE ? AND ?", from.sql, w, r.among(key, ids)))
	return slices.DeleteFunc(ids, func(id string) bool { return slices.Contains(earlier, id) }), err
}

// among is the condition that a column has one of some values.
func (r *Reader) among(column string, values []string) sqlf.Fragment {
	return sqlf.New("? IN (?)", sqlf.Column(column), r.sql.textRows(anys(values)))
}

// DistinctIDs returns the users of stored events, each once, sorted; events
// without a user are skipped.
func (r *Reader) DistinctIDs(ctx context.Context, project string, uuids []string) ([]string, error) {
	return r.texts(ctx, sqlf.New("SELECT DISTINCT distinct_id FROM events WHERE project_id = ? AND distinct_id IS NOT NULL AND uuid IN (?) ORDER BY distinct_id", project, r.sql.uuidRows(anys(uuids))))
}
