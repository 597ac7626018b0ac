package query

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// Table rollup_parts has what lists of traces, sessions and users add up: a part
// is the events of one trace, session and user within one slot of time. It is a
// roll-up as rollup.go tells of, with the ids themselves in place of a dimension.

// partColumns are the columns of a part after its ids, and what one event adds.
var partColumns = []column{
	{"first", "ts"},
	{"latest", "ts"},
	// Start and end, in microseconds since 1970, of what has a duration.
	{"began", "CASE WHEN latency_us IS NOT NULL THEN epoch_us(ts) END"},
	{"ended", "TRY(epoch_us(ts) + latency_us)"},
	// The first name that events give their trace, and that of the trace's own event.
	{"trace_name", "trace_name"},
	{"named", "CASE WHEN trace_name IS NOT NULL THEN ts END"},
	{"root_name", "CASE WHEN name = '" + event.Trace + "' THEN span_name END"},
	{"rooted", "CASE WHEN name = '" + event.Trace + "' AND span_name IS NOT NULL THEN ts END"},
	{"events", "1"},
	{"calls", "CASE WHEN " + callExpr + " THEN 1 ELSE 0 END"},
	{"errors", "CASE WHEN is_error THEN 1 ELSE 0 END"},
	{"tokens", "CASE WHEN " + callExpr + " THEN tokens END"},
	{"cost", "CASE WHEN " + callExpr + " THEN cost_total END"},
	{"uncosted", "CASE WHEN " + callExpr + " AND cost_total IS NULL THEN 1 ELSE 0 END"},
	{"first_value", "CASE WHEN name = '" + event.FirstValue + "' THEN ts END"},
}

// partSums are how parts become one in a column, where that is not their sum.
var partSums = map[string]string{
	"first":       "min(first)",
	"latest":      "max(latest)",
	"began":       "min(began)",
	"ended":       "max(ended)",
	"trace_name":  "arg_min(trace_name, named)",
	"named":       "min(named)",
	"root_name":   "arg_min(root_name, rooted)",
	"rooted":      "min(rooted)",
	"first_value": "min(first_value)",
}

// partIDs are the ids of a part.
const partIDs = "trace_id, session_id, distinct_id"

// partSum is how the parts of a list become one in a column.
func partSum(name string) string {
	if sum, ok := partSums[name]; ok {
		return sum
	}
	return "sum(" + name + ")"
}

// wholeColumns are those of partColumns that rows of table rollup_traces have, too,
// in order of that table.
var wholeColumns = []string{"errors", "tokens", "cost", "began", "ended"}

// partSumOfEvents is partSum over events.
func partSumOfEvents(name string) string {
	i := slices.IndexFunc(partColumns, func(c column) bool { return c.name == name })
	return strings.ReplaceAll(partSum(name), "("+name+")", "("+partColumns[i].expr+")")
}

// ofOne turns what a list is ordered by into the same of a single part.
var ofOne = strings.NewReplacer("sum(", "(", "min(", "(", "max(", "(")

// largest finds the first traces of a list that no filter narrows, in an order
// other than SortStart, after its cursor. A trace that lies whole in one stretch,
// as nearly all do, needs no adding up: only the others are grouped.
func (r *Reader) largest(ctx context.Context, q ListQuery, c *cover, order, after string, afterArgs []any, limit int) ([]string, error) {
	w, err := r.where(q.Project, &Filter{From: q.From, To: q.To})
	if err != nil {
		return nil, err
	}
	w.add("trace_id IS NOT NULL")
	rows, inside := new(where), new(where)
	rows.add("project_id = ? AND "+c.rows(), q.Project, c.last)
	inside.add("true")
	crossing := condition{cond: "false"} // those that reach out of the time range
	for _, end := range []time.Time{q.From, q.To} {
		if !end.IsZero() {
			crossing.cond, crossing.args = crossing.cond+" OR first < ? AND latest >= ?", append(crossing.args, end.UTC(), end.UTC())
		}
	}
	if !q.From.IsZero() {
		inside.add("first >= ?", q.From.UTC())
	}
	if !q.To.IsZero() {
		inside.add("latest < ?", q.To.UTC())
	}
	rest := condition{cond: "false"}
	shared := condition{cond: "shared"}
	if len(c.rest) > 0 {
		rest = c.any()
		shared.cond, shared.args = "(shared OR hash IN (SELECT "+traceHash+" FROM events "+w.String()+" AND "+rest.cond+"))", slices.Concat(w.args, rest.args)
	}
	crossed := func(column string) condition {
		return condition{column + " IN (SELECT " + column + " FROM rollup_traces " + rows.String() + " AND (" + crossing.cond + "))", slices.Concat(rows.args, crossing.args)}
	}
	byHash, byID := crossed("hash"), crossed("trace_id")
	from, err := r.stretches(ctx, c, "SELECT last FROM rollup_traces "+rows.String()+" AND "+byHash.cond, slices.Concat(rows.args, byHash.args))
	if err != nil {
		return nil, err
	}
	in := inside.String()[len("WHERE "):]
	ofRows, ofRowsArgs := "FROM rollup_traces "+rows.String()+" AND "+in, slices.Concat(rows.args, inside.args)
	names, columns := mentioned(partColumns, order)
	const decimal = " AS DECIMAL(38,18)), " + mostSort + ") AS sort "
	query := "SELECT id FROM (" +
		"(SELECT id, sort FROM (SELECT trace_id AS id, coalesce(TRY_CAST(" + ofOne.Replace(order) + decimal + ofRows + " AND NOT " + shared.cond + ")" + after + " ORDER BY sort DESC, id LIMIT ?)" +
		" UNION ALL SELECT id, sort FROM (SELECT trace_id AS id, coalesce(TRY_CAST(" + order + decimal + "FROM (" +
		"SELECT trace_id" + names + " " + ofRows + " AND " + shared.cond + " AND NOT " + byHash.cond +
		" UNION ALL SELECT trace_id" + columns + " FROM " + from.sql + " " + w.String() + " AND (" + rest.cond + " OR " + byID.cond + ")" +
		") GROUP BY trace_id)" + after +
		") ORDER BY sort DESC, id LIMIT ?"
	return r.texts(ctx, query, slices.Concat(ofRowsArgs, shared.args, afterArgs, []any{limit}, ofRowsArgs, shared.args, byHash.args, from.args, w.args, rest.args, byID.args, afterArgs, []any{limit})...)
}

// parts is a table expression of the parts of a time range, with the columns that
// uses mentions: rows of the roll-up, and single events as such.
func (r *Reader) parts(project string, f Filter, c cover, uses string) (source, error) {
	if f = (Filter{From: f.From, To: f.To}); f.To.IsZero() {
		f.To = endOfTime
	}
	w, err := r.where(project, &f)
	if err != nil {
		return source{}, err
	}
	names, columns := mentioned(partColumns, uses)
	var parts []string
	var args []any
	p := plan{cover: c, ok: !c.last.IsZero()}
	first, end := slots(f.From, f.To)
	if p.ok && first.Before(end) {
		parts = append(parts, "SELECT "+partIDs+names+" FROM rollup_parts WHERE project_id = ? AND "+c.rows()+" AND first >= ? AND first < ?")
		args = append(args, project, c.last, first, end)
	}
	for _, c := range p.single(first, end, &f) {
		parts = append(parts, "SELECT "+partIDs+columns+" FROM events "+w.String()+" AND "+c.cond)
		args = append(append(args, w.args...), c.args...)
	}
	return source{sql: "(" + strings.Join(parts, " UNION ALL ") + ")", args: args}, nil
}

// partsOf gives the conditions under which a part has an event that meets a
// filter, and reports false where a part cannot tell.
func partsOf(f Filter) (*where, bool) {
	w := new(where)
	for _, c := range []struct {
		column string
		id     *string
	}{{"trace_id", &f.TraceID}, {"session_id", &f.SessionID}, {"distinct_id", &f.User}} {
		if *c.id != "" {
			w.add(c.column+" = ?", *c.id)
		}
		*c.id = ""
	}
	switch f.Kind {
	case KindCalls:
		w.add("calls > 0")
		f.Kind = ""
	case KindErrors:
		w.add("errors > 0")
		f.Kind = ""
	}
	return w, !f.narrows()
}

// partsQuery rolls up the parts of a stretch.
func (s *stretch) partsQuery(slot string) string {
	var each, all []string
	for _, c := range partColumns {
		sum := partSum(c.name)
		if c.name == "tokens" {
			sum = s.r.sql.bigint(sum)
		}
		each, all = append(each, c.expr+" AS "+c.name), append(all, sum)
	}
	return "SELECT project_id, " + partIDs + ", " + strings.Join(all, ", ") + " FROM (SELECT project_id, " + partIDs + ", " + slot + " AS slot, " + strings.Join(each, ", ") +
		" FROM events WHERE " + s.in().cond + ") GROUP BY project_id, " + partIDs + ", slot ORDER BY project_id, slot, " + partIDs
}
