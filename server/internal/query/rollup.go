package query

import (
	"context"
	"database/sql"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// Roll-ups answer a question about millions of events from some thousand rows.
//
// Events are rolled up in stretches of their order of storing, which a [Roller]
// closes one after the other: what is stored is never changed, so a closed
// stretch stays right however late its events came and whatever their timestamps
// say. Where single events are deleted, their stretch is rolled up again; until
// then its events count as if they were in none. A question adds up
//
//   - the rows of closed stretches whose slot of time lies whole in its range,
//   - and, counted anew, the events at the two ends of its range and those that
//     are in no stretch: the newest, and what retention has cut into.
//
// So its counts and sums are exactly those of the events. Quantiles are not: the
// roll-up knows in which bin a time fell, and so a time to within [QuantileError].
// Where there are roll-ups, series count the times of single events by bin, too:
// many exact quantiles of many events take long.
//
// There is one set of rows for each dimension (model, prompt …), split by
// environment and by failure. So there is for custom properties of
// calls that have few values; see findWithout. Questions with other filters, by
// other breakdowns or in time zones that differ from UTC by a quarter of an hour
// count the events themselves.
const (
	slotLength = 30 * time.Minute
	binRatio   = 1.04
	minStretch = 4 << 10 // events
)

// QuantileError bounds how far a quantile of a store that has roll-ups can be off,
// relative to the exact one: each duration is taken to be in the (geometric)
// middle of its bin, which is sqrt(binRatio) - 1 away at most.
const QuantileError = 0.02

// AgentConfig is the custom property that names the set-up of an agent; where it is
// missing, AgentConfigID is. It is a dimension of the roll-ups.
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

// timesTable is where the times of a timed dimension are. Each has a table of its
// own: the engine reads a table in blocks, whatever part of them it needs.
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

// column is a column of a roll-up, and what one event has there.
type column struct{ name, expr string }

// mentioned lists those columns that an SQL expression has in it, each after a
// comma: by name, and as single events have them.
func mentioned(columns []column, sql string) (names, exprs string) {
	for _, c := range columns {
		if mentions(sql, c.name) {
			names, exprs = names+", "+c.name, exprs+", "+c.expr+" AS "+c.name
		}
	}
	return names, exprs
}

// inputExpr is all input of a call, tokens that were read from and written to a
// cache included: some providers count those apart from their input tokens. It is
// what every sum means by input tokens.
const inputExpr = "TRY(input_tokens + CASE WHEN cache_exclusive THEN coalesce(cache_read_tokens, 0) + coalesce(cache_write_tokens, 0) ELSE 0 END)"

// sums are the columns that rows of table rollup and single events have in
// common: what one event adds.
var sums = []column{
	{"n", "1"},
	{"input_tokens", inputExpr},
	{"output_tokens", "output_tokens"},
	{"tokens", "tokens"},
	{"cache_read_tokens", "cache_read_tokens"},
	{"cache_write_tokens", "cache_write_tokens"},
	{"reasoning_tokens", "reasoning_tokens"},
	{"cached_input", "CASE WHEN input_tokens IS NOT NULL THEN cache_read_tokens END"},
	{"all_input", "CASE WHEN cache_read_tokens IS NOT NULL THEN " + inputExpr + " END"},
	{"cost_total", "cost_total"},
	{"metered", "CASE WHEN tokens IS NULL THEN 0 ELSE 1 END"},
	{"costed", "CASE WHEN cost_total IS NULL THEN 0 ELSE 1 END"},
	{"cost_cache_saved", "cost_cache_saved"},
}

// times are the durations that are kept in bins, in order of the tables' columns:
// of calls those of the completed and those of the failed.
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
func binExpr(col string) string {
	return "CASE WHEN " + col + " <= 0 THEN -1 WHEN " + col + " > 0 THEN CAST(floor(ln(" + col + ") / " + strconv.FormatFloat(math.Log(binRatio), 'g', 17, 64) + ") AS BIGINT) END"
}

// bins counts durations by bin, from bin -1 on.
type bins []int64

// maxBin is above the bin of any duration.
const maxBin = 2000

var errBins = errors.New("times of a roll-up are not as they were written")

// parseBins reads "bin:n bin …": bins with their counts, which are 1 where they say
// none. A bin can come more than once.
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

// cover says of which of a project's events the derived tables speak, and which
// others there are. It is the same for a whole question, however many queries
// that takes: what is stored or rolled up in between changes nothing.
type cover struct {
	floor, last   time.Time   // of stretches: stored_at in (floor, last]; last is zero where there are none
	stale         []storedIn  // stretches above the floor that are to be rolled up again: they count as if they were none
	rest          []condition // each by fromTo
	events        int64       // of rest
	first, latest time.Time   // timestamps of rest
	upto          time.Time   // stored_at of the last event that counts
	calls         *[]foundCall
}

func (r *Reader) cover(ctx context.Context, project string) (c cover, err error) {
	if !r.sql.derived {
		return c, nil
	}
	err = r.store.Read(ctx, func(rows *sql.Rows) error {
		for rows.Next() {
			var last, floor sql.NullTime
			if err := rows.Scan(&last, &floor); err != nil {
				return err
			}
			c.last, c.floor = last.Time.UTC(), floor.Time.UTC()
		}
		return nil
	}, "SELECT (SELECT max(last) FROM "+allRolled+"), (SELECT max(floor) FROM rolled_floor WHERE project_id = ?)", project)
	if err != nil || c.last.IsZero() || !c.floor.Before(c.last) {
		return cover{}, err
	}
	if err := c.findStale(ctx, r); err != nil {
		return cover{}, err
	}
	// The newest, and what retention has left of a stretch. The order of rows
	// tells the engine where they are.
	const columns = "SELECT min(stored_at), max(stored_at), count(*), min(ts), max(ts) FROM events WHERE project_id = ? AND "
	query, args := columns+"stored_at > ?", []any{project, c.last}
	if !c.floor.IsZero() {
		query, args = query+" UNION ALL "+columns+"stored_at <= ?", append(args, project, c.floor)
	}
	for _, s := range c.stale {
		query, args = query+" UNION ALL "+columns+"stored_at > ? AND stored_at <= ?", append(args, project, s.first, s.last)
	}
	c.upto = c.last
	err = r.store.Read(ctx, func(rows *sql.Rows) error {
		for rows.Next() {
			var from, to, first, latest sql.NullTime
			var n int64
			if err := rows.Scan(&from, &to, &n, &first, &latest); err != nil {
				return err
			}
			if n == 0 {
				continue
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
		}
		return nil
	}, query, args...)
	return c, err
}

// condition is a condition with what is bound to it.
type condition struct {
	cond string
	args []any
}

// any is the rest as one condition.
func (c *cover) any() condition {
	var any condition
	for i, o := range c.rest {
		if i > 0 {
			any.cond += " OR "
		}
		any.cond, any.args = any.cond+o.cond, append(any.args, o.args...)
	}
	any.cond = "(" + any.cond + ")"
	return any
}

// inside are the events of stretches.
func (c *cover) inside() condition {
	in := condition{"stored_at <= ?", []any{c.last}}
	if !c.floor.IsZero() {
		in = condition{"stored_at <= ? AND stored_at > ?", []any{c.last, c.floor}}
	}
	for _, s := range c.stale {
		in.cond += " AND NOT (stored_at > " + literal(s.first) + " AND stored_at <= " + literal(s.last) + ")"
	}
	return in
}

// allRolled are the stretches, those that are to be rolled up again included.
const allRolled = "(SELECT first, last FROM rolled UNION ALL SELECT first, last FROM rolled_stale)"

// findStale finds the stretches that have lost events since they were rolled up.
func (c *cover) findStale(ctx context.Context, r *Reader) error {
	return r.store.Read(ctx, func(rows *sql.Rows) error {
		for rows.Next() {
			var s storedIn
			if err := rows.Scan(&s.first, &s.last); err != nil {
				return err
			}
			c.stale = append(c.stale, storedIn{s.first.UTC(), s.last.UTC()})
		}
		return nil
	}, "SELECT first, last FROM rolled_stale WHERE last > ? AND last <= ? ORDER BY last", c.floor, c.last)
}

// rows is the condition of the rows of derived tables that count, on column last;
// c.last is bound. A stretch that was to be rolled up again when the question began
// may have rows by now.
func (c *cover) rows() string {
	cond := "last <= ?"
	for i, s := range c.stale {
		cond += map[bool]string{true: " AND last NOT IN (", false: ", "}[i == 0] + literal(s.last)
	}
	if len(c.stale) > 0 {
		cond += ")"
	}
	return cond
}

// fromTo is the condition of events stored from one time to another.
func fromTo(from, to time.Time) condition {
	return condition{"stored_at >= ? AND stored_at <= ?", []any{from.UTC(), to.UTC()}}
}

// source is rows to compute figures from, each with the columns value (the key
// of its group), ts, and what its kind has: sums and is_error, or the columns of
// outcomes.
type source struct {
	sql    string // of a FROM clause
	args   []any
	binned bool // of times: with bins; else latency_us and ttft_us
}

// plan says how a question is answered.
type plan struct {
	cover cover
	dim   GroupBy // of the roll-up
	value string  // only this value of dim, where fixed
	fixed bool
	ok    bool // by the roll-up

	property string      // that dim is, where only some stretches have rows of it
	without  []condition // stretches with the property that have none
}

// rolledPlan finds out whether a roll-up answers a question, and which. starts
// are the first moments of its points.
func (r *Reader) rolledPlan(ctx context.Context, project string, c cover, f *Filter, by GroupBy, starts []Moment) (plan, error) {
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

// Custom properties of calls are rolled up where they have few values; what table
// rollup_properties says of a stretch:
//
//   - nothing of a property: no call has it, so all are of the value ”.
//   - that it is rolled up: table rollup has rows of it.
//   - that it is not, or that there were more than it tells of (name ”): its calls
//     are counted one by one.
const (
	mostValues     = 16  // of a property that is rolled up, in a stretch
	mostValueLen   = 100 // characters
	mostProperties = 8   // that are rolled up, of a project in a stretch
	mostNames      = 500 // that are told of
)

// ofProperty are the rows of rollup_properties that say anything of a property.
func (c *cover) ofProperty() string {
	return "rollup_properties WHERE project_id = ? AND " + c.rows() + " AND name IN (?, '')"
}

// findWithout finds the stretches whose calls have to be counted one by one. Where
// those are many, all are.
func (p *plan) findWithout(ctx context.Context, r *Reader, project string) error {
	parts, err := r.ranges(ctx, "SELECT last FROM "+p.cover.ofProperty()+" GROUP BY last HAVING NOT bool_or(rolled)", []any{project, p.cover.last, p.property})
	if err != nil {
		return err
	}
	for _, s := range parts {
		p.without = append(p.without, s.cond())
	}
	p.ok = len(parts) <= maxHeld
	return nil
}

// slots are the whole slots of a time range.
func slots(from, to time.Time) (first, end time.Time) {
	first = from.UTC().Truncate(slotLength)
	if first.Before(from) {
		first = first.Add(slotLength)
	}
	return first, to.UTC().Truncate(slotLength)
}

// single is the conditions of events that a question counts one by one, in
// parts: all, or those of no stretch and those at the ends of the range.
func (p *plan) single(first, end time.Time, f *Filter) []condition {
	if !p.ok || !first.Before(end) {
		return []condition{{"true", nil}}
	}
	parts := slices.Clone(p.cover.rest)
	for _, c := range p.without {
		parts = append(parts, condition{c.cond + " AND ts >= ? AND ts < ?", append(slices.Clone(c.args), first, end)})
	}
	in := p.cover.inside()
	if f.From.Before(first) {
		parts = append(parts, condition{in.cond + " AND ts < ?", append(slices.Clone(in.args), first)})
	}
	if end.Before(f.To) {
		parts = append(parts, condition{in.cond + " AND ts >= ?", append(slices.Clone(in.args), end)})
	}
	return parts
}

// mentions reports whether an SQL expression has a column in it. Columns that
// nobody asks for are left out of sources: the engine would do so itself, but
// takes longer for that than for many an answer.
func mentions(sql, column string) bool {
	for {
		i := strings.Index(sql, column)
		if i < 0 {
			return false
		}
		before, after := sql[:i], sql[i+len(column):]
		if before != "" && strings.IndexByte(wordBytes, before[len(before)-1]) >= 0 || after != "" && strings.IndexByte(wordBytes, after[0]) >= 0 {
			sql = after
			continue
		}
		return true
	}
}

const wordBytes = "abcdefghijklmnopqrstuvwxyz0123456789_"

// grouped is the condition on single events of a kind, and what they are broken
// down by.
func (r *Reader) grouped(k kind, project string, f *Filter, by GroupBy) (w *where, value string, args []any, err error) {
	if w, err = r.where(project, f); err != nil {
		return nil, "", nil, err
	}
	r.of(k, w)
	value, args, err = r.by(by)
	return w, value, args, err
}

// eventsSource is the source of a question about calls or tool calls: rows of the
// roll-up and single events as such rows.
func (r *Reader) eventsSource(k kind, project string, f *Filter, by GroupBy, p plan, uses string) (source, error) {
	w, value, valueArgs, err := r.grouped(k, project, f, by)
	if err != nil {
		return source{}, err
	}
	names, columns := mentioned(sums, uses)
	if mentions(uses, "is_call") {
		columns += ", " + callExpr + " AS is_call"
		names += ", kind IN ('" + rolledCalls + "', '" + rolledBoth + "') AS is_call"
	}
	for _, n := range []string{"latency_us", "ttft_us", "distinct_id"} { // no row of the roll-up has these
		if mentions(uses, n) {
			columns += ", " + n
			names += ", NULL AS " + n
		}
	}
	if k == ofSteps {
		columns += ", " + r.sql.retriesExpr() + " AS retries"
	}
	var parts []string
	var args []any
	first, end := slots(f.From, f.To)
	// Users, steps of agents, and calls among tool calls, are in no row of the roll-up.
	p.ok = p.ok && k != ofUsers && k != ofSteps && (k != ofTools || f.Kind != KindCalls)
	if p.property != "" { // of other events there are no rows
		p.ok = p.ok && (k == ofCalls || k == ofAll && f.Kind == KindCalls)
	}
	if p.ok && first.Before(end) {
		rolled := new(where)
		rolled.add("project_id = ? AND "+p.cover.rows()+" AND slot >= ? AND slot < ?", project, p.cover.last, first, end)
		if p.property == "" {
			rolled.add("dim = ?", string(p.dim))
		} else {
			rolled.add("(dim = ? OR dim = '' AND last NOT IN (SELECT last FROM "+p.cover.ofProperty()+"))", string(p.dim), project, p.cover.last, p.property)
		}
		switch {
		case k == ofTools:
			rolled.add("kind IN ('" + rolledTools + "', '" + rolledBoth + "')")
		case k == ofCalls || f.Kind == KindCalls:
			rolled.add("kind IN ('" + rolledCalls + "', '" + rolledBoth + "')")
		}
		p.narrow(rolled, f)
		value := "value"
		if by == ByNone {
			value = "''"
		}
		parts = append(parts, "SELECT "+value+" AS value, slot AS ts, is_error"+names+" FROM rollup "+rolled.String())
		args = append(args, rolled.args...)
	}
	for _, c := range p.single(first, end, f) {
		parts = append(parts, "SELECT "+value+" AS value, ts, is_error"+columns+" FROM events "+w.String()+" AND "+c.cond)
		args = append(append(append(args, valueArgs...), w.args...), c.args...)
	}
	return source{sql: "(" + strings.Join(parts, " UNION ALL ") + ")", args: args}, nil
}

// narrow adds the conditions of a filter that rows of table rollup can tell.
func (p *plan) narrow(w *where, f *Filter) {
	if p.fixed {
		w.add("value = ?", p.value)
	}
	if f.Environment != "" {
		w.add("environment = ?", f.Environment)
	}
	if f.Kind == KindErrors {
		w.add("is_error")
	}
}

// timesQuery is what a question about times asks.
type timesQuery struct {
	project string
	filter  *Filter
	by      GroupBy
	of      LatencyOf
}

// timesSource is the source of quantiles: bins in columns named as in times, of the
// roll-up where it has them. Where there are no roll-ups at all, single events.
func (r *Reader) timesSource(k kind, q timesQuery, p plan, uses string) (source, error) {
	project, f, by := q.project, q.filter, q.by
	if p.cover.last.IsZero() {
		return r.eventsSource(k, project, f, by, p, uses)
	}
	w, value, valueArgs, err := r.grouped(k, project, f, by)
	if err != nil {
		return source{}, err
	}
	if k == ofCalls {
		w.add(q.of.cond())
	}
	var parts []string
	var args []any
	columns, single := "", ""
	for _, t := range times {
		if t.kind == k && t.of != OfFailed && mentions(uses, t.col) {
			if columns += ", " + t.what; k == ofCalls {
				columns = strings.TrimSuffix(columns, t.what) + q.of.bins(t.what) + " AS " + t.what
			}
			single += ", CAST(" + binExpr(t.col) + " AS VARCHAR) AS " + t.what
		}
	}
	first, end := slots(f.From, f.To)
	at := slices.IndexFunc(dimensions, func(d dimension) bool { return d.by == p.dim && d.timed(k) })
	p.ok = p.ok && at >= 0 && f.Kind != KindErrors && (k != ofTools || f.Kind != KindCalls)
	if p.ok && first.Before(end) {
		rolled := new(where)
		rolled.add("project_id = ? AND "+p.cover.rows()+" AND slot >= ? AND slot < ?", project, p.cover.last, first, end)
		p.narrow(rolled, f)
		key := "value"
		if by == ByNone {
			key = "''"
		}
		parts, args = append(parts, "SELECT "+key+" AS value, slot AS ts"+columns+" FROM "+dimensions[at].timesTable()+" "+rolled.String()), rolled.args
	}
	for _, c := range p.single(first, end, f) {
		parts = append(parts, "SELECT "+value+" AS value, ts"+single+" FROM events "+w.String()+" AND "+c.cond)
		args = append(append(append(args, valueArgs...), w.args...), c.args...)
	}
	return source{sql: "(" + strings.Join(parts, " UNION ALL ") + ")", args: args, binned: true}, nil
}

// usersSource is the source of how many users there were: distinct ids, more
// than once each. The roll-up knows them by days in UTC.
func (r *Reader) usersSource(project string, f *Filter, p plan) (source, error) {
	const day = 24 * time.Hour
	first, end := f.From.UTC().Truncate(day), f.To.UTC().Truncate(day)
	if first.Before(f.From) {
		first = first.Add(day)
	}
	p.ok = p.ok && p.dim == ByNone && f.Environment == "" && f.Kind != KindErrors && first.Before(end)
	if !p.ok {
		return r.eventsSource(ofUsers, project, f, ByNone, p, "distinct_id")
	}
	w, err := r.where(project, f)
	if err != nil {
		return source{}, err
	}
	r.of(ofUsers, w)
	parts := []string{"SELECT '' AS value, day AS ts, distinct_id FROM rollup_users WHERE project_id = ? AND " + p.cover.rows() + " AND day >= ? AND day < ?"}
	args := []any{project, p.cover.last, first, end}
	for _, c := range p.single(first, end, f) {
		parts = append(parts, "SELECT '' AS value, ts, distinct_id FROM events "+w.String()+" AND "+c.cond)
		args = append(append(args, w.args...), c.args...)
	}
	return source{sql: "(" + strings.Join(parts, " UNION ALL ") + ")", args: args}, nil
}
