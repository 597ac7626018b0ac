package query

import (
	"context"
	"database/sql"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// An outcome that says nothing of its prompt, model and so on has those of its
// call: the one of its trace that its parent id names or, where it names none,
// the first call of its trace that names a prompt or, where none does, the first;
// if it is not further than outcomeReach from the outcome. Whoever tells that a
// task is done seldom knows which prompt did it.
//
// Finding the calls, and reading the properties, takes long. Table
// rollup_outcomes keeps what came of it for the outcomes of closed stretches.
// A call that is stored later can still be the one: a question compares it with
// the one kept.
const outcomeReach = 7 * 24 * time.Hour

// inheritable are the columns that an outcome can have of its call.
var inheritable = []string{"prompt_name", "prompt_version", "prompt_version_id", "provider", "model", "model_asked", "operation", "environment", "surface", "task_type", "distinct_id", "session_id", "input_length_bucket"}

// outcomeColumns are what a question can ask of an outcome besides.
var outcomeColumns = []string{"project_id", "uuid", "ts", "name", "is_error", "trace_id", "span_name", "status", "error_type", "error_message", "latency_us", "ttft_us", "tokens", "cost_total", "tags", "flags", "properties", "parent_id"}

// fact is a property, and the column of rollup_outcomes that has it.
type fact struct{ property, column string }

// facts are the properties that are read out of outcomes beforehand.
var facts = []fact{
	{"task_completed", "is_task_completed"},
	{"user_feedback", "is_user_feedback"},
	{"escalated_to_human", "is_escalated_to_human"},
	{"accepted_output", "is_accepted_output"},
	{"edited_output", "is_edited_output"},
	{"eval_passed", "is_eval_passed"},
	{"retry_count", "is_retry_count"},
	{"eval_score", "is_eval_score"},
	{"$ai_score", "is_ai_score"},
	{"$ai_metric_value", "is_ai_metric_value"},
	{"eval_name", "is_eval_name"},
	{"$ai_metric_name", "is_ai_metric_name"},
	{"$ai_evaluation_name", "is_ai_evaluation_name"},
	{AgentConfig, "is_agent_config"},
	{"$ai_evaluation_result", "is_ai_evaluation_result"},
}

// ofOutcome is the dialect for the columns of outcomesSource: properties that
// are facts are columns there.
func (d *dialect) ofOutcome() *dialect {
	o := *d
	o.constProperty = func(name string) string {
		for _, f := range facts {
			if f.property == name {
				return f.column
			}
		}
		return d.constProperty(name)
	}
	return &o
}

// later is added to the order of calls that name no prompt, and taken from that
// of the call that the outcome names.
const later = 1 << 61

// callsOf is a subquery that gives, for outcomes (a subquery with uuid, trace_id,
// parent_id and ts), the columns names of their call as struct c.
func callsOf(outcomes, calls string, names []string) string {
	var pack []string
	for _, n := range names {
		pack = append(pack, n+" := c."+n)
	}
	reach := "to_seconds(" + strconv.Itoa(int(outcomeReach/time.Second)) + ")"
	// One struct an outcome: a state for each column would take much more memory.
	return "(SELECT o.uuid, arg_min(struct_pack(" + strings.Join(pack, ", ") + "), " + callOrder("c.") + " - CASE WHEN c.span_id = o.parent_id THEN " + strconv.Itoa(2*later) + " ELSE 0 END) AS c FROM " + outcomes + " o JOIN " + calls +
		" c ON c.trace_id = o.trace_id AND c.ts BETWEEN o.ts - " + reach + " AND o.ts + " + reach + " GROUP BY o.uuid)"
}

// callOrder is the order of a trace's calls: those that name a prompt first.
func callOrder(prefix string) string {
	return "epoch_us(" + prefix + "ts) + CASE WHEN " + prefix + "prompt_name IS NULL THEN " + strconv.Itoa(later) + " ELSE 0 END"
}

// foundCall is the call of an outcome: what inheritable says of it.
type foundCall struct {
	uuid   string // of the outcome
	order  int64
	values []any
}

// newCalls finds, for the events of c's rest, the calls of the outcomes among
// them, and the rolled up outcomes for which a call among them comes before the
// one that they have. They are joined here, not in the engine: what it needs for
// a few joins at once is more than the memory that it has for all.
func (r *Reader) newCalls(ctx context.Context, project string, c *cover) ([]foundCall, error) {
	rest := c.any()
	in := condition{"project_id = ? AND trace_id IS NOT NULL AND " + rest.cond, append([]any{project}, rest.args...)}
	type outcome struct {
		uuid   string
		ts     time.Time
		parent any
		order  any
	}
	outcomes := make(map[string][]outcome) // by trace
	var own []any                          // traces of those of the rest
	read := func(query string, args ...any) error {
		rows, err := r.raw(ctx, query, args...)
		for _, row := range rows {
			trace, _ := row[1].(string)
			o := outcome{parent: row[3], order: row[4]}
			o.uuid, _ = row[0].(string)
			o.ts, _ = row[2].(time.Time)
			if o.order == nil && outcomes[trace] == nil {
				own = append(own, trace)
			}
			outcomes[trace] = append(outcomes[trace], o)
		}
		return err
	}
	from, to := c.first.Add(-outcomeReach), c.latest.Add(outcomeReach)
	err := read("SELECT CAST(uuid AS VARCHAR), trace_id, ts, parent_id, NULL FROM events WHERE name IN ("+outcomeNames+") AND "+in.cond, in.args...)
	if err != nil {
		return nil, err
	}
	// Lists, so that the engine knows how few they are: it might hold all other
	// events in memory to join them.
	const ofTraces = "trace_id IN (SELECT unnest(CAST(? AS VARCHAR[])))"
	columns := "SELECT trace_id, ts, span_id, " + callOrder("") + ", " + strings.Join(inheritable, ", ") + " FROM events WHERE " + callExpr + " AND trace_id IS NOT NULL AND "
	calls, err := r.raw(ctx, columns+in.cond, in.args...)
	if err != nil {
		return nil, err
	}
	if len(calls) > 0 {
		traces := make(map[any]bool)
		for _, call := range calls {
			traces[call[0]] = true
		}
		err = read("SELECT CAST(uuid AS VARCHAR), trace_id, ts, parent_id, coalesce(call_order, 9223372036854775807) FROM rollup_outcomes WHERE project_id = ? AND "+c.rows()+" AND ts >= ? AND ts <= ? AND "+ofTraces,
			project, c.last, from, to, slices.Collect(maps.Keys(traces)))
		if err != nil {
			return nil, err
		}
	}
	if len(own) > 0 {
		older, err := r.raw(ctx, columns+"project_id = ? AND ts >= ? AND ts <= ? AND stored_at <= ? AND "+ofTraces, project, from, to, c.upto, own)
		if err != nil {
			return nil, err
		}
		calls = append(calls, older...) // and those of the rest again
	}
	best := make(map[string]foundCall)
	for _, call := range calls {
		trace, _ := call[0].(string)
		ts, _ := call[1].(time.Time)
		first, _ := call[3].(int64)
		for _, o := range outcomes[trace] {
			order := first
			if o.parent != nil && o.parent == call[2] {
				order -= 2 * later
			}
			if ts.Sub(o.ts).Abs() > outcomeReach {
				continue
			}
			if have, ok := o.order.(int64); ok && order >= have {
				continue
			}
			if b, ok := best[o.uuid]; !ok || order < b.order {
				best[o.uuid] = foundCall{o.uuid, order, call[4:]}
			}
		}
	}
	return slices.Collect(maps.Values(best)), nil
}

// raw reads rows as they are.
func (r *Reader) raw(ctx context.Context, query string, args ...any) (out [][]any, err error) {
	err = r.store.Read(ctx, func(rows *sql.Rows) error {
		columns, err := rows.Columns()
		if err != nil {
			return err
		}
		for rows.Next() {
			row := make([]any, len(columns))
			dest := make([]any, len(columns))
			for i := range row {
				dest[i] = &row[i]
			}
			if err := rows.Scan(dest...); err != nil {
				return err
			}
			out = append(out, row)
		}
		return nil
	}, query, args...)
	return out, err
}

// fields are the columns of outcomes that a question reads.
type fields struct {
	own   []string // of outcomeColumns and inheritable
	facts []int    // of facts
	calls []string // of inheritable: completed by the call's
	any   bool     // of other events than outcomes, too
}

// fieldsOf are those that an SQL expression mentions.
func fieldsOf(uses string, calls []string) fields {
	f := fields{calls: calls}
	for _, c := range slices.Concat(outcomeColumns, inheritable) {
		if mentions(uses, c) || slices.Contains(calls, c) || c == "uuid" && len(calls) > 0 {
			f.own = append(f.own, c)
		}
	}
	for i, x := range facts {
		if mentions(uses, x.column) {
			f.facts = append(f.facts, i)
		}
	}
	return f
}

// rawOutcomes selects the fields, with the columns of the call as call_NAME, of
// the outcomes in table events that meet a condition. Their calls are those that
// meet another; where that is empty, they have none.
func (r *Reader) rawOutcomes(f fields, outcomes, calls condition) (string, []any) {
	var inner, cols []string
	for _, c := range f.own {
		inner, cols = append(inner, c), append(cols, "o."+c)
	}
	for _, n := range f.calls {
		of := "CAST(NULL AS VARCHAR)"
		if calls.cond != "" {
			of = "t.c." + n
		}
		cols = append(cols, of+" AS call_"+n)
	}
	for _, i := range f.facts {
		inner, cols = append(inner, r.sql.constProperty(facts[i].property)+" AS "+facts[i].column), append(cols, facts[i].column)
	}
	from := " FROM events WHERE " + outcomes.cond
	if !f.any {
		from = " FROM events WHERE name IN (" + outcomeNames + ") AND " + outcomes.cond
	}
	query := "SELECT " + strings.Join(cols, ", ") + " FROM (SELECT " + strings.Join(inner, ", ") + from + ") o"
	args := slices.Clone(outcomes.args)
	if calls.cond == "" || len(f.calls) == 0 {
		return query, args
	}
	columns := slices.Clone(f.calls)
	for _, n := range []string{"trace_id", "span_id", "ts", "prompt_name"} {
		if !slices.Contains(columns, n) {
			columns = append(columns, n)
		}
	}
	query += " LEFT JOIN " + callsOf("(SELECT uuid, trace_id, parent_id, ts"+from+" AND trace_id IS NOT NULL)",
		"(SELECT "+strings.Join(columns, ", ")+" FROM events WHERE "+callExpr+" AND trace_id IS NOT NULL AND "+calls.cond+")", f.calls) + " t ON t.uuid = o.uuid"
	return query, slices.Concat(args, outcomes.args, calls.args)
}

// within adds the time range of a filter.
func (f *Filter) within(w *where) {
	if !f.From.IsZero() {
		w.add("ts >= ?", f.From.UTC())
	}
	if !f.To.IsZero() {
		w.add("ts < ?", f.To.UTC())
	}
}

// maxRest is how many events may be in no stretch for outcomes to be answered by
// the roll-up. There are more only after an upgrade, until they are rolled up.
const maxRest = 64 << 10

// outcomes is a table expression of a project's outcomes in a filter's time
// range: the fields that uses mentions, those in calls completed by the call's.
func (r *Reader) outcomes(ctx context.Context, project, uses string, calls []string, q *Filter, c *cover) (string, []any, error) {
	f := fieldsOf(uses, calls)
	in := new(where)
	in.add("project_id = ?", project)
	q.within(in)
	cond := strings.Join(in.conds, " AND ")
	var from string
	var args []any
	if c.last.IsZero() || c.events > maxRest {
		near := new(where)
		near.add("project_id = ?", project)
		if !q.From.IsZero() {
			near.add("ts >= ?", q.From.Add(-outcomeReach).UTC())
		}
		if !q.To.IsZero() {
			near.add("ts <= ?", q.To.Add(outcomeReach).UTC())
		}
		from, args = r.rawOutcomes(f, condition{cond, in.args}, condition{strings.Join(near.conds, " AND "), near.args})
	} else {
		if len(f.calls) > 0 && len(c.rest) > 0 {
			if c.calls == nil {
				found, err := r.newCalls(ctx, project, c)
				if err != nil {
					return "", nil, err
				}
				c.calls = &found
			}
		}
		cols := slices.Clone(f.own)
		for _, n := range f.calls {
			cols = append(cols, "call_"+n)
		}
		for _, i := range f.facts {
			cols = append(cols, facts[i].column)
		}
		from = "SELECT " + strings.Join(cols, ", ") + " FROM rollup_outcomes " + in.String() + " AND " + c.rows()
		args = append(slices.Clone(in.args), c.last)
		if len(c.rest) > 0 {
			rest := c.any()
			raw, rawArgs := r.rawOutcomes(f, condition{cond + " AND " + rest.cond, append(slices.Clone(in.args), rest.args...)}, condition{})
			from, args = from+" UNION ALL "+raw, append(args, rawArgs...)
		}
		if len(f.calls) > 0 && c.calls != nil && len(*c.calls) > 0 {
			from, args = withCalls(f, *c.calls, from, args)
		}
	}
	return f.inherit(from), args, nil
}

// inherit completes what events say of their call, by what a query of rawOutcomes
// has of it.
func (f *fields) inherit(from string) string {
	var cols []string
	for _, n := range f.own {
		switch {
		case !slices.Contains(f.calls, n):
			cols = append(cols, n)
		case n == "prompt_version" || n == "prompt_version_id":
			cols = append(cols, "CASE WHEN prompt_version IS NOT NULL OR prompt_version_id IS NOT NULL THEN "+n+" WHEN prompt_name IS NULL OR prompt_name = call_prompt_name THEN call_"+n+" END AS "+n)
		default:
			cols = append(cols, "coalesce("+n+", call_"+n+") AS "+n)
		}
	}
	for _, i := range f.facts {
		cols = append(cols, facts[i].column)
	}
	return "(SELECT " + strings.Join(cols, ", ") + " FROM (" + from + "))"
}

// withCalls replaces the calls of some of the outcomes that a query selects.
func withCalls(f fields, found []foundCall, from string, args []any) (string, []any) {
	ids := make([]any, len(found))
	for i, c := range found {
		ids[i] = c.uuid
	}
	lists, listArgs := []string{"unnest(CAST(? AS VARCHAR[])) AS outcome"}, []any{ids}
	var cols []string
	for _, n := range f.own {
		cols = append(cols, "o."+n)
	}
	for _, n := range f.calls {
		at := slices.Index(inheritable, n)
		list := make([]any, len(found))
		for i, c := range found {
			if list[i] = c.values[at]; list[i] == nil {
				list[i] = "" // which no column has; the driver takes no NULL in lists
			}
		}
		lists, listArgs = append(lists, "unnest(CAST(? AS VARCHAR[])) AS "+n), append(listArgs, list)
		cols = append(cols, "CASE WHEN t.outcome IS NULL THEN o.call_"+n+" ELSE nullif(t."+n+", '') END AS call_"+n)
	}
	for _, i := range f.facts {
		cols = append(cols, "o."+facts[i].column)
	}
	return "SELECT " + strings.Join(cols, ", ") + " FROM (" + from + ") o LEFT JOIN (SELECT " + strings.Join(lists, ", ") + ") t ON CAST(t.outcome AS UUID) = o.uuid", append(args, listArgs...)
}

// outputCategory is the property of an outcome for which calls have a column.
const outputCategory = "output_category"

// ofOutcomes is the filter for outcomes, which have no category of an output but
// their own property.
func (f *Filter) ofOutcomes() *Filter {
	if f.Output == "" {
		return f
	}
	o := *f
	o.Properties = maps.Clone(f.Properties)
	if o.Properties == nil {
		o.Properties = make(map[string]string, 1)
	}
	o.Output, o.Properties[outputCategory] = "", f.Output
	return &o
}

// outcomesSource is the source of a question about outcomes.
func (r *Reader) outcomesSource(ctx context.Context, project string, f *Filter, by GroupBy, c *cover, uses string) (source, error) {
	o := *r
	o.sql = *r.sql.ofOutcome()
	f = f.ofOutcomes()
	if by == ByOutput {
		by = ByProperty(outputCategory)
	}
	w, err := o.where(project, f)
	if err != nil {
		return source{}, err
	}
	value, args, err := o.by(by)
	if err != nil {
		return source{}, err
	}
	from, fromArgs, err := r.outcomes(ctx, project, strings.Join([]string{uses, value, w.String(), "ts is_error"}, " "), inherited(f, by), f, c)
	if err != nil {
		return source{}, err
	}
	return source{sql: "(SELECT *, " + value + " AS value FROM " + from + " AS events " + w.String() + ")", args: slices.Concat(args, fromArgs, w.args)}, nil
}
