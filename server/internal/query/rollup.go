package query

import (
	"context"
	"database/sql"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query/sqlf"
)

// Roll-ups answer a query about millions of events from some thousand rows.
//
// A [Roller] rolls up events in stretches of their order of storing. Stored
// events do not change, so a closed stretch stays correct regardless of the
// timestamps of its events. If single events are deleted, their stretch is
// rolled up again; until then its events are counted directly. A query adds up
//
//   - the rows of closed stretches whose time slots are entirely in its range,
//   - and, counted directly, the events at the two ends of its range and those in
//     no stretch: the newest, and partly expired ones.
//
// So its counts and sums are exactly those of the events. Quantiles are
// approximate: the roll-up has the bin of each time, and so the time to within
// [QuantileError]. If there are roll-ups, series count the times of single events
// by bin, too: exact quantiles of many events are slow.
//
// There is one set of rows for each dimension (model, prompt …), split by
// environment and by failure. Custom properties of calls with few values have
// theirs, too; see findWithout. Queries with other filters, other breakdowns or
// time zones that differ from UTC by a quarter of an hour count the events
// themselves.
const (
	slotLength = 30 * time.Minute
	binRatio   = 1.04
	minStretch = 4 << 10 // events
)

// QuantileError is the maximum relative error of a quantile in a store with
// roll-ups: each duration is assumed to be in the (geometric) middle of its bin,
// which is sqrt(binRatio) - 1 away at most.
const QuantileError = 0.02

// AgentConfig is the custom property that names the set-up of an agent; if it
// is missing, AgentConfigID is. It is a dimension of the roll-ups.
const (
	AgentConfig   = "agent_config"
	AgentConfigID = "agent_config_id"
)

// The custom properties that name the step of an agent that an event belongs to,
// and the tool that it called.
const (
	AgentStep = "agent_step_name"
	ToolName  = "tool_name"
)

// dimension is a breakdown that is rolled up.
type dimension struct {
	by           GroupBy
	calls, tools bool // with quantiles of the times of calls, of tool calls
}

func (d *dimension) timed(k kind) bool { return k == ofTools && d.tools || k == ofCalls && d.calls }

// timesTable is where the times of a timed dimension are. Each has its own
// table: the engine always reads whole blocks of a table.
func (d *dimension) timesTable() string {
	if d.by == ByNone {
		return "rollup_times_all"
	}
	return "rollup_times_" + string(d.by)
}

var dimensions = []dimension{
	{ByNone, true, true}, {ByModelAsked, true, false}, {ByModel, true, false}, {ByProvider, true, false}, {ByPrompt, true, false}, {ByPromptName, false, false},
	{BySurface, true, false}, {ByInputLength, true, false}, {ByOperation, false, false}, {ByStatus, false, false}, {ByErrorType, false, false},
	{ByTaskType, false, false}, {ByEnvironment, false, false}, {ByTool, false, true}, {ByProperty(AgentConfig), false, false},
}

// The kinds of rows in table rollup.
const (
	rolledCalls = "call"
	rolledTools = "tool"
	rolledBoth  = "call_of_tool" // a call of a model that names the tool for which it was made
	rolledOther = "other"
)

// Which rows of table rollup are of calls, and of tool calls. They name the other kinds:
// the engine compares with single constants as it reads a table, with the list of an IN
// only afterwards.
const (
	rolledCallRows = "kind <> '" + rolledTools + "' AND kind <> '" + rolledOther + "'"
	rolledToolRows = "kind <> '" + rolledCalls + "' AND kind <> '" + rolledOther + "'"
)

// column is a column of a roll-up, and what one event has there.
type column struct {
	name string
	expr sqlf.Fragment
}

// selected selects some columns: by name, and as single events have them.
func selected(columns []column) (names, exprs []sqlf.Fragment) {
	for _, c := range columns {
		names, exprs = append(names, sqlf.Column(c.name)), append(exprs, c.expr.As(c.name))
	}
	return names, exprs
}

// allOf is a table expression of all rows of some queries.
func allOf(queries []sqlf.Fragment) sqlf.Fragment {
	return sqlf.New("(?)", sqlf.Join(" UNION ALL ", queries...)).Closed()
}

// inputExpr is all input of a call, tokens that were read from and written to a
// cache included: some providers count those apart from their input tokens. It is
// what every sum means by input tokens.
var inputExpr = sqlf.New("TRY({input_tokens} + CASE WHEN {cache_exclusive} THEN coalesce({cache_read_tokens}, 0) + coalesce({cache_write_tokens}, 0) ELSE 0 END)")

// knownCost is what a call cost or, where some of that is unknown, at least: the sum of
// its known parts. It is what every sum means by cost.
var knownCost = sqlf.New("coalesce({cost_total}, CASE WHEN coalesce({cost_input}, {cost_output}, {cost_request}, {cost_web_search}, {cost_tools}) IS NOT NULL THEN" +
	" coalesce({cost_input}, 0) + coalesce({cost_output}, 0) + coalesce({cost_request}, 0) + coalesce({cost_web_search}, 0) + coalesce({cost_tools}, 0) END)")

// incompleteExpr selects, of calls, those that are not priced as a whole: a sum with
// them is the least that its calls cost. A failed call that is not known to have used
// anything is none of them: providers charge nothing for it.
var incompleteExpr = sqlf.New("({cost_total} IS NULL AND (NOT {is_error} OR {tokens} IS NOT NULL OR ? IS NOT NULL))", knownCost)

// sums are the columns that rows of table rollup and single events have in
// common: what one event adds.
var sums = []column{
	{"n", sqlf.Raw("1")},
	{"input_tokens", inputExpr},
	{"output_tokens", sqlf.Column("output_tokens")},
	{"tokens", sqlf.Column("tokens")},
	{"cache_read_tokens", sqlf.Column("cache_read_tokens")},
	{"cache_write_tokens", sqlf.Column("cache_write_tokens")},
	{"reasoning_tokens", sqlf.Column("reasoning_tokens")},
	{"cached_input", sqlf.New("CASE WHEN {input_tokens} IS NOT NULL THEN {cache_read_tokens} END")},
	{"all_input", sqlf.New("CASE WHEN {cache_read_tokens} IS NOT NULL THEN ? END", inputExpr)},
	{"cost_total", sqlf.Column("cost_total")},
	{"metered", sqlf.New("CASE WHEN {tokens} IS NULL THEN 0 ELSE 1 END")},
	{"costed", sqlf.New("CASE WHEN {cost_total} IS NULL THEN 0 ELSE 1 END")},
	{"cost_cache_saved", sqlf.Column("cost_cache_saved")},
	{"cost_known", knownCost},
	{"incomplete", sqlf.New("CASE WHEN ? THEN 1 ELSE 0 END", incompleteExpr)},
}

// times are the durations that are stored in bins, in order of the tables'
// columns: for calls, those of completed and of failed calls.
var times = []struct {
	what, col string
	kind      kind
	of        LatencyOf
}{
	{"latency", "latency_us", ofCalls, OfCompleted},
	{"ttft", "ttft_us", ofCalls, OfCompleted},
	{"tool", "latency_us", ofTools, OfAll},
	{"latency" + failedTimes, "latency_us", ofCalls, OfFailed},
	{"ttft" + failedTimes, "ttft_us", ofCalls, OfFailed},
}

// failedTimes ends the names of the columns with times of failed calls.
const failedTimes = "_failed"

// binExpr is the bin of a duration in microseconds: -1 is 0, b is
// [binRatio^b, binRatio^(b+1)), NULL is of an unknown one.
func binExpr(col string) sqlf.Fragment { return binOf(sqlf.Column(col)) }

// binOf is binExpr of an expression.
func binOf(c sqlf.Fragment) sqlf.Fragment {
	return sqlf.New("CASE WHEN ? <= 0 THEN -1 WHEN ? > 0 THEN CAST(floor(ln(?) / "+strconv.FormatFloat(math.Log(binRatio), 'g', 17, 64)+") AS BIGINT) END", c, c, c)
}

// bins counts durations by bin, from bin -1 on.
type bins []int64

// maxBin is above the bin of any duration.
const maxBin = 2000

var errBins = errors.New("times of a roll-up are not as they were written")

// parseBins parses "bin:n bin …": bins with their counts, 1 if omitted. A bin can
// occur more than once.
func parseBins(s string) (b bins, err error) {
	number := func(i int) (n int64, next int) {
		from := i
		for ; i < len(s) && s[i] >= '0' && s[i] <= '9'; i++ {
			n = n*10 + int64(s[i]-'0')
		}
		if i == from {
			return 0, -1
		}
		return n, i
	}
	for i := 0; i < len(s); i++ {
		sign := int64(1)
		if s[i] == '-' {
			sign, i = -1, i+1
		}
		var bin int64
		if bin, i = number(i); i < 0 || bin*sign < -1 || bin > maxBin {
			return nil, errBins
		}
		n := int64(1)
		if i < len(s) && s[i] == ':' {
			if n, i = number(i + 1); i < 0 {
				return nil, errBins
			}
		}
		if i < len(s) && s[i] != ' ' {
			return nil, errBins
		}
		at := int(bin*sign) + 1
		if at >= len(b) {
			b = append(b, make([]int64, at+1-len(b))...)
		}
		b[at] += n
	}
	return b, nil
}

// plus adds c to b, which may be changed by it.
func (b bins) plus(c bins) bins {
	if len(c) > len(b) {
		b = append(b, make([]int64, len(c)-len(b))...)
	}
	for i, n := range c {
		b[i] += n
	}
	return b
}

// quantile is the q-quantile in microseconds, as quantile_cont interpolates it
// between the two nearest durations, each taken to be in the middle of its bin.
func (b bins) quantile(q float64) Number {
	var all int64
	for _, n := range b {
		all += n
	}
	if all == 0 {
		return Number{}
	}
	at := func(rank int64) float64 {
		for i, n := range b {
			if rank -= n; rank < 0 {
				if i == 0 {
					return 0
				}
				return math.Pow(binRatio, float64(i-1)+0.5)
			}
		}
		return 0
	}
	rank := q * float64(all-1)
	low := math.Floor(rank)
	return event.Some(at(int64(low)) + (rank-low)*(at(int64(math.Ceil(rank)))-at(int64(low))))
}

// cover divides a project's events into those in the derived tables and the
// rest. It is the same for all statements of a query: events stored or rolled
// up in between do not change it.
type cover struct {
	floor, last   time.Time  // of stretches: stored_at in (floor, last]; last is zero if there are none
	stale         []storedIn // stretches above the floor that are to be rolled up again: they count as if they were none
	rest          []storedIn // other events
	events        int64      // of rest
	first, latest time.Time  // timestamps of rest
	upto          time.Time  // stored_at of the last event that counts

	mu    sync.Mutex
	calls *[]foundCall // those of rest, once a query has needed them
}

// storedIn is a range of stored_at: (first, last].
type storedIn struct{ first, last time.Time }

func (s storedIn) cond() sqlf.Fragment {
	return sqlf.New("{stored_at} > ? AND {stored_at} <= ?", s.first.UTC(), s.last.UTC())
}

// holds reports whether a range is within s.
func (s storedIn) holds(o storedIn) bool {
	return !o.first.Before(s.first) && !o.last.After(s.last)
}

// fromTo is the range of the events stored from one time to another, both included.
func fromTo(from, to time.Time) storedIn { return storedIn{from.Add(-time.Microsecond), to} }

// cover returns the snapshot's cover, or a new one.
func (r *Reader) cover(ctx context.Context, project string) (*cover, error) {
	if r.at != nil && r.at.project == project {
		return r.at.cover, nil
	}
	return r.newCover(ctx, project)
}

func (r *Reader) newCover(ctx context.Context, project string) (c *cover, err error) {
	c = new(cover)
	// Every query runs this first: it is one statement, and its few rows are
	// counted here.
	err = r.each(ctx, sqlf.New("SELECT NULL AS floor, NULL AS first, max(last) AS last FROM rolled UNION ALL SELECT NULL, first, last FROM rolled_stale"+
		" UNION ALL SELECT max(floor), NULL, NULL FROM rolled_floor WHERE project_id = ?", project), func(rows *sql.Rows) error {
		var floor, first, last sql.NullTime
		if err := rows.Scan(&floor, &first, &last); err != nil {
			return err
		}
		switch {
		case floor.Valid:
			c.floor = floor.Time.UTC()
		case first.Valid:
			c.stale = append(c.stale, storedIn{first.Time.UTC(), last.Time.UTC()})
		}
		if last.Valid && last.Time.After(c.last) {
			c.last = last.Time.UTC()
		}
		return nil
	})
	if err != nil || !c.floor.Before(c.last) {
		return new(cover), err
	}
	c.stale = slices.DeleteFunc(c.stale, func(s storedIn) bool { return !s.last.After(c.floor) })
	slices.SortFunc(c.stale, func(a, b storedIn) int { return a.last.Compare(b.last) })
	// The newest, and what retention has left of a stretch. The order of rows
	// lets the engine find them.
	of := func(stored sqlf.Fragment) sqlf.Fragment {
		return sqlf.New("SELECT min(stored_at), max(stored_at), count(*), min(ts), max(ts) FROM events WHERE project_id = ? AND ?", project, stored)
	}
	others := []sqlf.Fragment{of(sqlf.New("stored_at > ?", c.last))}
	if !c.floor.IsZero() {
		others = append(others, of(sqlf.New("stored_at <= ?", c.floor)))
	}
	for _, s := range c.stale {
		others = append(others, of(s.cond()))
	}
	c.upto = c.last
	err = r.each(ctx, sqlf.Join(" UNION ALL ", others...), func(rows *sql.Rows) error {
		var from, to, first, latest sql.NullTime
		var n int64
		if err := rows.Scan(&from, &to, &n, &first, &latest); err != nil || n == 0 {
			return err
		}
		if c.rest = append(c.rest, fromTo(from.Time, to.Time)); c.events == 0 || first.Time.Before(c.first) {
			c.first = first.Time.UTC()
		}
		if to.Time.After(c.upto) {
			c.upto = to.Time.UTC()
		}
		if c.events += n; latest.Time.After(c.latest) {
			c.latest = latest.Time.UTC()
		}
		return nil
	})
	return c, err
}

// any is the rest as one condition.
func (c *cover) any() sqlf.Fragment {
	conds := make([]sqlf.Fragment, len(c.rest))
	for i, s := range c.rest {
		conds[i] = s.cond()
	}
	return sqlf.Or(conds...)
}

// inside are the events of stretches.
func (c *cover) inside() sqlf.Fragment {
	in := sqlf.New("{stored_at} <= ?", c.last)
	if !c.floor.IsZero() {
		in = in.Andf("{stored_at} > ?", c.floor)
	}
	for _, s := range c.stale {
		in = in.Andf("NOT (?)", s.cond())
	}
	return in
}

// allRolled are the stretches, those that are to be rolled up again included.
const allRolled = "(SELECT first, last FROM rolled UNION ALL SELECT first, last FROM rolled_stale)"

// rows is the condition of the rows of derived tables that count, on column last. A
// stretch that was to be rolled up again when the question began may have rows by
// now.
func (c *cover) rows() sqlf.Fragment {
	cond := sqlf.New("last <= ?", c.last)
	if len(c.stale) == 0 {
		return cond
	}
	stale := make([]sqlf.Fragment, len(c.stale))
	for i, s := range c.stale {
		stale[i] = literal(s.last)
	}
	return cond.Andf("last NOT IN (?)", stale)
}

// source is rows to compute figures from, each with the columns value (the key
// of its group), ts, and what its kind has: sums and is_error, or the columns of
// outcomes.
type source struct {
	sql    sqlf.Fragment // of a FROM clause
	binned bool          // of times: with bins; else latency_us and ttft_us
}

// plan is how a query is run.
type plan struct {
	cover *cover
	dim   GroupBy // of the roll-up
	value string  // only this value of dim, where fixed
	fixed bool
	ok    bool // by the roll-up

	property string     // that dim is, where only some stretches have rows of it
	without  []storedIn // stretches with the property that have none
}

// rolledPlan reports whether a roll-up can answer a query, and which. starts
// are the start times of its points.
func (r *Reader) rolledPlan(ctx context.Context, project string, c *cover, f *Filter, by GroupBy, starts []Moment) (plan, error) {
	p := plan{cover: c, dim: by}
	if c.last.IsZero() {
		return p, nil
	}
	rest := *f
	rest.Environment = ""
	if f.Kind == KindErrors || f.Kind == KindCalls {
		rest.Kind = ""
	}
	for _, d := range []struct {
		by    GroupBy
		field *string
	}{
		{ByModelAsked, &rest.ModelAsked}, {ByModel, &rest.Model}, {ByProvider, &rest.Provider}, {BySurface, &rest.Surface}, {ByInputLength, &rest.InputLength},
		{ByOperation, &rest.Operation}, {ByStatus, &rest.Status}, {ByErrorType, &rest.ErrorType}, {ByTaskType, &rest.TaskType}, {ByPromptName, &rest.PromptName},
	} {
		if *d.field == "" || p.fixed || by != ByNone && by != d.by {
			continue
		}
		p.dim, p.value, p.fixed = d.by, *d.field, true
		*d.field = ""
	}
	if len(f.Properties) == 1 && !p.fixed {
		for name, value := range f.Properties {
			if by == ByNone || by == ByProperty(name) {
				p.dim, p.value, p.fixed, rest.Properties = ByProperty(name), value, true, nil
			}
		}
	}
	if p.ok = !rest.narrows(); !slices.ContainsFunc(dimensions, func(d dimension) bool { return d.by == p.dim }) {
		p.property, _ = strings.CutPrefix(string(p.dim), propertyPrefix)
		p.ok = p.ok && p.property != string(p.dim)
	}
	for _, s := range starts[min(1, len(starts)):] {
		p.ok = p.ok && s.Start.Equal(s.Start.Truncate(slotLength))
	}
	if !p.ok || p.property == "" {
		return p, nil
	}
	return p, p.findWithout(ctx, r, project)
}

// Custom properties of calls are rolled up if they have few values. Table
// rollup_properties has for a stretch:
//
//   - no row for a property: no call has it, so the value of all is ”.
//   - that it is rolled up: table rollup has rows of it.
//   - that it is not, or that there were more than recorded (name ”): its calls
//     are counted one by one.
const (
	mostValues     = 16  // of a property that is rolled up, in a stretch
	mostValueLen   = 100 // characters
	mostProperties = 8   // that are rolled up, of a project in a stretch
	mostNames      = 500 // recorded at most
)

// ofProperty are the rows of rollup_properties about a property.
func (p *plan) ofProperty(project string) sqlf.Fragment {
	return sqlf.New("rollup_properties WHERE project_id = ? AND ? AND name IN (?, '')", project, p.cover.rows(), p.property)
}

// findWithout finds the stretches whose calls have to be counted one by one, or
// all stretches if these are many.
func (p *plan) findWithout(ctx context.Context, r *Reader, project string) (err error) {
	p.without, err = r.ranges(ctx, sqlf.New("SELECT last FROM ? GROUP BY last HAVING NOT bool_or(rolled)", p.ofProperty(project)))
	p.ok = len(p.without) <= maxHeld
	return err
}

// slots are the whole slots of a time range.
func slots(from, to time.Time) (first, end time.Time) {
	first = from.UTC().Truncate(slotLength)
	if first.Before(from) {
		first = first.Add(slotLength)
	}
	return first, to.UTC().Truncate(slotLength)
}

// single returns the conditions of events that a query counts one by one,
// in parts: all, or those of no stretch and those at the ends of the
// range.
func (p *plan) single(first, end time.Time, f *Filter) []sqlf.Fragment {
	if !p.ok || !first.Before(end) {
		return []sqlf.Fragment{sqlf.Raw("true")}
	}
	var parts []sqlf.Fragment
	for _, s := range p.cover.rest {
		parts = append(parts, s.cond())
	}
	for _, s := range p.without {
		parts = append(parts, s.cond().Andf("{ts} >= ? AND {ts} < ?", first, end))
	}
	if f.From.Before(first) {
		parts = append(parts, p.cover.inside().Andf("{ts} < ?", first))
	}
	if end.Before(f.To) {
		parts = append(parts, p.cover.inside().Andf("{ts} >= ?", end))
	}
	return parts
}

// grouped is the condition on single events of a kind, and their breakdown.
func (r *Reader) grouped(k kind, project string, f *Filter, by GroupBy) (w, value sqlf.Fragment, err error) {
	w, value, err = r.filtered(project, f, by)
	return w.And(r.of(k)), value, err
}

// rolled are the rows of a derived table that lie whole in a question's range, by
// the column that has their time.
func (p *plan) rolled(project, column string, first, end time.Time) sqlf.Fragment {
	return sqlf.New("project_id = ?", project).And(p.cover.rows()).Andf(column+" >= ? AND "+column+" < ?", first, end)
}

// key is the column of a roll-up that has the value of a breakdown.
func (g GroupBy) key() sqlf.Fragment {
	if g == ByNone {
		return sqlf.Raw("'' AS value")
	}
	return sqlf.Raw("value")
}

// eventsSource is the source of a query about calls or tool calls: rows of the
// roll-up and single events in the same form, with the columns in uses. The
// engine would omit unused columns itself, but that often takes longer than the
// query.
func (r *Reader) eventsSource(k kind, project string, f *Filter, by GroupBy, p plan, uses sqlf.Fragment) (source, error) {
	w, value, err := r.grouped(k, project, f, by)
	if err != nil {
		return source{}, err
	}
	var used []column
	for _, c := range sums {
		if uses.Uses(c.name) {
			used = append(used, c)
		}
	}
	names, columns := selected(used)
	if uses.Uses("is_call") {
		columns = append(columns, callExpr.As("is_call"))
		names = append(names, sqlf.Raw(rolledCallRows).As("is_call"))
	}
	for _, n := range []string{"latency_us", "ttft_us", "distinct_id"} { // no row of the roll-up has these
		if uses.Uses(n) {
			columns = append(columns, sqlf.Column(n))
			names = append(names, sqlf.Raw("NULL AS "+n))
		}
	}
	if k == ofSteps {
		columns = append(columns, r.retriesExpr().As("retries"))
	}
	var parts []sqlf.Fragment
	first, end := slots(f.From, f.To)
	// Users, steps of agents, and calls among tool calls, are in no row of the roll-up.
	p.ok = p.ok && k != ofUsers && k != ofSteps && (k != ofTools || f.Kind != KindCalls)
	if p.property != "" { // other events have no rows
		p.ok = p.ok && (k == ofCalls || k == ofAll && f.Kind == KindCalls)
	}
	if p.ok && first.Before(end) {
		rolled := p.rolled(project, "slot", first, end)
		if p.property == "" {
			rolled = rolled.Andf("dim = ?", string(p.dim))
		} else {
			rolled = rolled.Andf("(dim = ? OR dim = '' AND last NOT IN (SELECT last FROM ?))", string(p.dim), p.ofProperty(project))
		}
		switch {
		case k == ofTools:
			rolled = rolled.Andf(rolledToolRows)
		case k == ofCalls || f.Kind == KindCalls:
			rolled = rolled.Andf(rolledCallRows)
		}
		parts = append(parts, sqlf.New("SELECT ? FROM rollup WHERE ?", append([]sqlf.Fragment{by.key(), sqlf.Raw("slot AS ts"), sqlf.Raw("is_error")}, names...), rolled.And(p.narrow(f))))
	}
	columns = append([]sqlf.Fragment{value.As("value"), sqlf.Raw("ts"), sqlf.Raw("is_error")}, columns...)
	for _, single := range p.single(first, end, f) {
		parts = append(parts, sqlf.New("SELECT ? FROM events WHERE ? AND ?", columns, w, single))
	}
	return source{sql: allOf(parts)}, nil
}

// narrow is the conditions of a filter that rows of table rollup can answer.
func (p *plan) narrow(f *Filter) (w sqlf.Fragment) {
	if p.fixed {
		w = w.Andf("value = ?", p.value)
	}
	if f.Environment != "" {
		w = w.Andf("environment = ?", f.Environment)
	}
	if f.Kind == KindErrors {
		w = w.Andf("is_error")
	}
	return w
}

// timesQuery is a query about durations.
type timesQuery struct {
	project string
	filter  *Filter
	by      GroupBy
	of      LatencyOf
}

// timesSource is the source of quantiles: bins in columns named as in times, from
// the roll-up if it has them. Without roll-ups, single events.
func (r *Reader) timesSource(k kind, q timesQuery, p plan, uses sqlf.Fragment) (source, error) {
	project, f, by := q.project, q.filter, q.by
	if p.cover.last.IsZero() {
		return r.eventsSource(k, project, f, by, p, uses)
	}
	w, value, err := r.grouped(k, project, f, by)
	if err != nil {
		return source{}, err
	}
	if k == ofCalls {
		w = w.And(q.of.cond())
	}
	binned := []sqlf.Fragment{by.key(), sqlf.Raw("slot AS ts")}
	single := []sqlf.Fragment{value.As("value"), sqlf.Raw("ts")}
	for _, t := range times {
		if t.kind != k || t.of == OfFailed || !uses.Uses(t.col) {
			continue
		}
		column := sqlf.Raw(t.what)
		if k == ofCalls {
			column = q.of.bins(t.what).As(t.what)
		}
		binned = append(binned, column)
		single = append(single, sqlf.New("CAST(? AS VARCHAR)", binExpr(t.col)).As(t.what))
	}
	var parts []sqlf.Fragment
	first, end := slots(f.From, f.To)
	at := slices.IndexFunc(dimensions, func(d dimension) bool { return d.by == p.dim && d.timed(k) })
	p.ok = p.ok && at >= 0 && f.Kind != KindErrors && (k != ofTools || f.Kind != KindCalls)
	if p.ok && first.Before(end) {
		parts = append(parts, sqlf.New("SELECT ? FROM "+dimensions[at].timesTable()+" WHERE ?", binned, p.rolled(project, "slot", first, end).And(p.narrow(f))))
	}
	for _, c := range p.single(first, end, f) {
		parts = append(parts, sqlf.New("SELECT ? FROM events WHERE ? AND ?", single, w, c))
	}
	return source{sql: allOf(parts), binned: true}, nil
}

// usersSource is the source of the number of users: distinct ids, possibly
// repeated. The roll-up has them by day in UTC.
func (r *Reader) usersSource(project string, f *Filter, p plan) (source, error) {
	const day = 24 * time.Hour
	first, end := f.From.UTC().Truncate(day), f.To.UTC().Truncate(day)
	if first.Before(f.From) {
		first = first.Add(day)
	}
	p.ok = p.ok && p.dim == ByNone && f.Environment == "" && f.Kind != KindErrors && first.Before(end)
	if !p.ok {
		return r.eventsSource(ofUsers, project, f, ByNone, p, sqlf.Column("distinct_id"))
	}
	w, _, err := r.grouped(ofUsers, project, f, ByNone)
	if err != nil {
		return source{}, err
	}
	parts := []sqlf.Fragment{sqlf.New("SELECT '' AS value, day AS ts, distinct_id FROM rollup_users WHERE ?", p.rolled(project, "day", first, end))}
	for _, c := range p.single(first, end, f) {
		parts = append(parts, sqlf.New("SELECT '' AS value, ts, distinct_id FROM events WHERE ? AND ?", w, c))
	}
	return source{sql: allOf(parts)}, nil
}
