package query

import (
	"slices"
	"strings"

	"github.com/hedgerow/hedgerow/event"
)

// Table rollup_parts has what lists of traces, sessions and users add up: a part
// is the events of one trace, session and user within one slot of time. It is a
// roll-up as rollup.go tells of, with the ids themselves in place of a dimension.

// partColumns are the columns of a part after its ids: what one event adds, and
// how parts become one.
var partColumns = []struct{ name, expr, sum string }{
	{"first", "ts", "min(first)"},
	{"latest", "ts", "max(latest)"},
	// Start and end, in microseconds since 1970, of what has a duration.
	{"began", "CASE WHEN latency_us IS NOT NULL THEN epoch_us(ts) END", "min(began)"},
	{"ended", "epoch_us(ts) + latency_us", "max(ended)"},
	// The first name that events give their trace, and that of the trace's own event.
	{"trace_name", "trace_name", "arg_min(trace_name, named)"},
	{"named", "CASE WHEN trace_name IS NOT NULL THEN ts END", "min(named)"},
	{"root_name", "CASE WHEN name = '" + event.Trace + "' THEN span_name END", "arg_min(root_name, rooted)"},
	{"rooted", "CASE WHEN name = '" + event.Trace + "' AND span_name IS NOT NULL THEN ts END", "min(rooted)"},
	{"events", "1", "sum(events)"},
	{"calls", "CASE WHEN " + callExpr + " THEN 1 ELSE 0 END", "sum(calls)"},
	{"errors", "CASE WHEN is_error THEN 1 ELSE 0 END", "sum(errors)"},
	{"tokens", "CASE WHEN " + callExpr + " THEN tokens END", "sum(tokens)"},
	{"cost", "CASE WHEN " + callExpr + " THEN cost_total END", "sum(cost)"},
	{"uncosted", "CASE WHEN " + callExpr + " AND cost_total IS NULL THEN 1 ELSE 0 END", "sum(uncosted)"},
	{"first_value", "CASE WHEN name = '" + event.FirstValue + "' THEN ts END", "min(first_value)"},
}

// partIDs are the ids of a part.
const partIDs = "trace_id, session_id, distinct_id"

// partSum is how the parts of a list become one in a column.
func partSum(name string) string {
	return partColumns[slices.IndexFunc(partColumns, func(c struct{ name, expr, sum string }) bool { return c.name == name })].sum
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
	var columns, names strings.Builder
	for _, p := range partColumns {
		if mentions(uses, p.name) {
			columns.WriteString(", " + p.expr + " AS " + p.name)
			names.WriteString(", " + p.name)
		}
	}
	var parts []string
	var args []any
	p := plan{cover: c, ok: !c.last.IsZero()}
	first, end := slots(f.From, f.To)
	if p.ok && first.Before(end) {
		parts = append(parts, "SELECT "+partIDs+names.String()+" FROM rollup_parts WHERE project_id = ? AND last <= ? AND first >= ? AND first < ?")
		args = append(args, project, c.last, first, end)
	}
	for _, c := range p.single(first, end, &f) {
		parts = append(parts, "SELECT "+partIDs+columns.String()+" FROM events "+w.String()+" AND "+c.cond)
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
		each, all = append(each, c.expr+" AS "+c.name), append(all, c.sum)
	}
	return "SELECT project_id, " + partIDs + ", " + strings.Join(all, ", ") + " FROM (SELECT project_id, " + partIDs + ", " + slot + " AS slot, " + strings.Join(each, ", ") +
		" FROM events WHERE " + s.in().cond + ") GROUP BY project_id, " + partIDs + ", slot ORDER BY project_id, slot, " + partIDs
}
