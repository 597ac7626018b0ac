package query

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/server/internal/query/sqlf"
)

// An outcome without a prompt, model and so on has those of its call: the one
// of its trace that its parent id names or, where it names none, the first call
// of its trace that names a prompt or, where none does, the first; if it is not
// further than outcomeReach from the outcome. Code that reports a finished task
// seldom knows which prompt was used.
//
// Finding the calls, and reading the properties, takes long. Table
// rollup_outcomes keeps what came of it for the outcomes of closed stretches.
// A call that is stored later can still be the one: a question compares it with
// the one kept.
const outcomeReach = 7 * 24 * time.Hour

// inheritable are the columns that an outcome can have of its call.
var inheritable = []string{"prompt_name", "prompt_version", "prompt_version_id", "provider", "model", "model_asked", "operation", "environment", "surface", "task_type", "distinct_id", "session_id", "input_length_bucket"}

// outcomeColumns are the other columns of an outcome that a query can use.
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

// ofOutcome is the Reader for the columns of outcomesSource: properties that are
// facts are columns there.
func (r *Reader) ofOutcome() *Reader {
	o := *r
	o.at = nil // those of the snapshot are chosen before
	o.facts = true
	return &o
}

// constProperty is the text of a property with a name known beforehand. That of
// AgentConfig has AgentConfigID next to it.
func (r *Reader) constProperty(name string) sqlf.Fragment {
	if i := slices.IndexFunc(facts, func(f fact) bool { return f.property == name }); r.facts && i >= 0 {
		return sqlf.Column(facts[i].column)
	}
	if name == AgentConfig {
		return sqlf.New("coalesce(?, ?)", r.sql.constProperty(AgentConfig), r.sql.constProperty(AgentConfigID))
	}
	return r.sql.constProperty(name)
}

// later is added to the order of calls that name no prompt, and taken from that
// of the call that the outcome names.
const later = 1 << 61

// callsOf is a subquery that gives, for outcomes (a query for uuid, trace_id,
// parent_id and ts), the columns names of their call as struct c.
func callsOf(outcomes, calls sqlf.Fragment, names []string) sqlf.Fragment {
	var pack []string
	for _, n := range names {
		pack = append(pack, n+" := c."+n)
	}
	reach := "to_seconds(" + strconv.Itoa(int(outcomeReach/time.Second)) + ")"
	// One struct an outcome: a state for each column would take much more memory.
	return sqlf.New("(SELECT o.uuid, arg_min(struct_pack("+strings.Join(pack, ", ")+"), "+callOrder("c.")+" - CASE WHEN c.span_id = o.parent_id THEN "+strconv.Itoa(2*later)+" ELSE 0 END) AS c FROM (?) o JOIN (?)"+
		" c ON c.trace_id = o.trace_id AND c.ts BETWEEN o.ts - "+reach+" AND o.ts + "+reach+" GROUP BY o.uuid)", outcomes, calls)
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

// callsOfRest is newCalls, run once for all queries of a snapshot.
func (r *Reader) callsOfRest(ctx context.Context, project string, c *cover) ([]foundCall, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls == nil {
		found, err := r.newCalls(ctx, project, c)
		if err != nil {
			return nil, err
		}
		c.calls = &found
	}
	return *c.calls, nil
}

// newCalls finds, for the events of c's rest, the calls of the outcomes among
// them, and the rolled up outcomes for which a call among them comes before the
// one that they have. They are joined here, not in the engine: a few concurrent
// joins need more memory than it has for all queries.
func (r *Reader) newCalls(ctx context.Context, project string, c *cover) ([]foundCall, error) {
	in := sqlf.New("project_id = ? AND trace_id IS NOT NULL", project).And(c.any())
	type outcome struct {
		uuid   string
		ts     time.Time
		parent any
		order  any
	}
	outcomes := make(map[string][]outcome) // by trace
	var own []any                          // traces of those of the rest
	read := func(query sqlf.Fragment) error {
		rows, err := r.raw(ctx, query)
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
	near := sqlf.New("ts >= ? AND ts <= ?", c.first.Add(-outcomeReach), c.latest.Add(outcomeReach))
	err := read(sqlf.New("SELECT CAST(uuid AS VARCHAR), trace_id, ts, parent_id, NULL FROM events WHERE ? AND ?", outcomeExpr, in))
	if err != nil {
		return nil, err
	}
	// Lists, so that the engine knows how few they are: it might hold all other
	// events in memory to join them.
	ofTraces := func(list []any) sqlf.Fragment { return sqlf.New("trace_id IN (?)", r.sql.textRows(list)) }
	readCalls := func(cond sqlf.Fragment) ([][]any, error) {
		return r.raw(ctx, sqlf.New("SELECT trace_id, ts, span_id, "+callOrder("")+", ? FROM events WHERE ? AND trace_id IS NOT NULL AND ?", sqlf.Columns(inheritable...), callExpr, cond))
	}
	calls, err := readCalls(in)
	if err != nil {
		return nil, err
	}
	if len(calls) > 0 {
		traces := make(map[any]bool)
		for _, call := range calls {
			traces[call[0]] = true
		}
		err = read(sqlf.New("SELECT CAST(uuid AS VARCHAR), trace_id, ts, parent_id, coalesce(call_order, 9223372036854775807) FROM rollup_outcomes WHERE project_id = ? AND ? AND ? AND ?",
			project, c.rows(), near, ofTraces(slices.Collect(maps.Keys(traces)))))
		if err != nil {
			return nil, err
		}
	}
	if len(own) > 0 {
		older, err := readCalls(sqlf.New("project_id = ? AND ? AND stored_at <= ? AND ?", project, near, c.upto, ofTraces(own)))
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

// fields are the columns of outcomes that a question reads.
type fields struct {
	own   []string // of outcomeColumns and inheritable
	facts []int    // of facts
	calls []string // of inheritable: completed by the call's
}

// fieldsOf are those that a fragment reads, and other columns of events.
func fieldsOf(uses sqlf.Fragment, calls, others []string) fields {
	f := fields{own: slices.Clone(others), calls: calls}
	for _, c := range slices.Concat(outcomeColumns, inheritable) {
		if uses.Uses(c) || slices.Contains(calls, c) || c == "uuid" && len(calls) > 0 {
			f.own = append(f.own, c)
		}
	}
	for i, x := range facts {
		if uses.Uses(x.column) {
			f.facts = append(f.facts, i)
		}
	}
	return f
}

// columns selects the fields: of each column of outcomes what own makes of it, of
// each of their call what call does, and the facts.
func (f *fields) columns(own, call func(name string) string) []sqlf.Fragment {
	var out []sqlf.Fragment
	for _, n := range f.own {
		out = append(out, sqlf.Raw(own(n)))
	}
	if call != nil {
		for _, n := range f.calls {
			out = append(out, sqlf.Raw(call(n)))
		}
	}
	for _, i := range f.facts {
		out = append(out, sqlf.Raw(facts[i].column))
	}
	return out
}

// otherColumns are the columns that a filter reads of events, and that neither
// outcomes in table rollup_outcomes nor their calls have.
func (r *Reader) otherColumns(project string, f *Filter) ([]string, error) {
	in, err := r.meets(project, f.Where)
	reads := in.Reads()
	if f.Text != "" {
		reads = append(reads, searched...)
	}
	reads = slices.DeleteFunc(reads, func(c string) bool { return slices.Contains(outcomeColumns, c) || slices.Contains(inheritable, c) })
	slices.Sort(reads)
	return slices.Compact(reads), err
}

func asIs(name string) string { return name }

// withoutCall selects the fields, with NULL in the columns of the call as call_NAME,
// of the events that meet a condition.
func (r *Reader) withoutCall(f fields, events sqlf.Fragment) sqlf.Fragment {
	return sqlf.New("SELECT ? FROM ? o", f.columns(func(n string) string { return "o." + n }, func(n string) string { return "CAST(NULL AS VARCHAR) AS call_" + n }), r.fieldsFrom(f, events))
}

// fieldsFrom is the events that meet a condition, with the fields of their own.
func (r *Reader) fieldsFrom(f fields, events sqlf.Fragment) sqlf.Fragment {
	inner := sqlf.Columns(f.own...)
	for _, i := range f.facts {
		inner = append(inner, r.constProperty(facts[i].property).As(facts[i].column))
	}
	return sqlf.New("(SELECT ? FROM events WHERE ?)", inner, events)
}

// withCall is withoutCall with the columns of their calls, which are those that meet
// another condition.
func (r *Reader) withCall(f fields, events, calls sqlf.Fragment) sqlf.Fragment {
	if len(f.calls) == 0 {
		return r.withoutCall(f, events)
	}
	columns := slices.Clone(f.calls)
	for _, n := range []string{"trace_id", "span_id", "ts", "prompt_name"} {
		if !slices.Contains(columns, n) {
			columns = append(columns, n)
		}
	}
	found := callsOf(sqlf.New("SELECT uuid, trace_id, parent_id, ts FROM events WHERE ? AND trace_id IS NOT NULL", events),
		sqlf.New("SELECT ? FROM events WHERE ? AND trace_id IS NOT NULL AND ?", sqlf.Columns(columns...), callExpr, calls), f.calls)
	return sqlf.New("SELECT ? FROM ? o LEFT JOIN ? t ON t.uuid = o.uuid", f.columns(func(n string) string { return "o." + n }, func(n string) string { return "t.c." + n + " AS call_" + n }), r.fieldsFrom(f, events), found)
}

// maxRest is how many events may be in no stretch for outcomes to be answered by
// the roll-up. There are more only after an upgrade, until they are rolled up.
const maxRest = 64 << 10

// outcomes is a table expression of a project's outcomes in a filter's time
// range: the fields that uses reads, those in calls completed by the call's.
func (r *Reader) outcomes(ctx context.Context, project string, uses sqlf.Fragment, calls []string, q *Filter, c *cover) (sqlf.Fragment, error) {
	others, err := r.otherColumns(project, q)
	if err != nil {
		return sqlf.Fragment{}, err
	}
	f := fieldsOf(uses, calls, others)
	in := q.within(project)
	if c.last.IsZero() || c.events > maxRest || len(others) > 0 {
		at := r.moment(project)
		return f.inherit(r.withCall(f, outcomeExpr.And(in, at), q.around(outcomeReach).within(project).And(at))), nil
	}
	var found []foundCall
	if len(f.calls) > 0 && len(c.rest) > 0 {
		if found, err = r.callsOfRest(ctx, project, c); err != nil {
			return sqlf.Fragment{}, err
		}
	}
	from := sqlf.New("SELECT ? FROM rollup_outcomes WHERE ? AND ?", f.columns(asIs, func(n string) string { return "call_" + n }), in, c.rows())
	if len(c.rest) > 0 {
		from = sqlf.Join(" UNION ALL ", from, r.withoutCall(f, outcomeExpr.And(in, c.any())))
	}
	if len(found) > 0 {
		from = withCalls(f, found, from)
	}
	return f.inherit(from), nil
}

// inherit completes what events say of their call, by what a query of withCall has
// of it.
func (f *fields) inherit(from sqlf.Fragment) sqlf.Fragment {
	return sqlf.New("(SELECT ? FROM (?))", f.columns(func(n string) string {
		switch {
		case !slices.Contains(f.calls, n):
			return n
		case n == "prompt_version" || n == "prompt_version_id":
			return "CASE WHEN prompt_version IS NOT NULL OR prompt_version_id IS NOT NULL THEN " + n + " WHEN prompt_name IS NULL OR prompt_name = call_prompt_name THEN call_" + n + " END AS " + n
		}
		return "coalesce(" + n + ", call_" + n + ") AS " + n
	}, nil), from).Closed()
}

// withCalls replaces the calls of some of the outcomes that a query selects.
func withCalls(f fields, found []foundCall, from sqlf.Fragment) sqlf.Fragment {
	ids := make([]any, len(found))
	for i, c := range found {
		ids[i] = c.uuid
	}
	lists := []sqlf.Fragment{sqlf.New("unnest(CAST(? AS VARCHAR[])) AS outcome", ids)}
	for _, n := range f.calls {
		at := slices.Index(inheritable, n)
		list := make([]any, len(found))
		for i, c := range found {
			if list[i] = c.values[at]; list[i] == nil {
				list[i] = "" // which no column has; the driver takes no NULL in lists
			}
		}
		lists = append(lists, sqlf.New("unnest(CAST(? AS VARCHAR[])) AS "+n, list))
	}
	columns := f.columns(func(n string) string { return "o." + n }, func(n string) string {
		return "CASE WHEN t.outcome IS NULL THEN o.call_" + n + " ELSE nullif(t." + n + ", '') END AS call_" + n
	})
	return sqlf.New("SELECT ? FROM (?) o LEFT JOIN (SELECT ?) t ON CAST(t.outcome AS UUID) = o.uuid", columns, from, lists)
}

// outputCategory is the property of an outcome for which calls have a column.
const outputCategory = "output_category"

// ofOutcomes is the filter for outcomes, which have no category of an output but
// their own property.
func (f *Filter) ofOutcomes() *Filter {
	o := *f
	o.Where = outcomeTerms(f.Where)
	if f.Output == "" {
		return &o
	}
	o.Properties = maps.Clone(f.Properties)
	if o.Properties == nil {
		o.Properties = make(map[string]string, 1)
	}
	o.Output, o.Properties[outputCategory] = "", f.Output
	return &o
}

// outcomesSource is the source of a question about outcomes.
func (r *Reader) outcomesSource(ctx context.Context, project string, f *Filter, by GroupBy, c *cover, uses sqlf.Fragment) (source, error) {
	f = f.ofOutcomes()
	if by == ByOutput {
		by = ByProperty(outputCategory)
	}
	w, value, err := r.ofOutcome().filtered(project, f, by)
	if err != nil {
		return source{}, err
	}
	from, err := r.outcomes(ctx, project, sqlf.Join(" ", uses, value, w).Using("ts", "is_error"), inherited(f, by), f, c)
	return source{sql: sqlf.New("(SELECT *, ? AS value FROM ? AS events WHERE ?)", value, from, w).Closed()}, err
}

// filtered is the condition of a filter, and the expression of a breakdown.
func (r *Reader) filtered(project string, f *Filter, by GroupBy) (w, value sqlf.Fragment, err error) {
	if w, err = r.where(project, f); err != nil {
		return w, value, err
	}
	value, err = r.by(by)
	return w, value, err
}
