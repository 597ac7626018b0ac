package query

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/store"
)

// Point is one point of a chart, or one cell of its table: a measure, of one group.
// Its time is that of the filter beside it.
type Point struct {
	Measure   Measure
	Event     EventMatch // of the measures of own events
	LatencyOf LatencyOf  // of latency and time to first token
	By        GroupBy
	Key       *string  // the group; nil: all of them. "" is what the events do not say
	Not       []string // these groups are left out: the point is of all others
}

// ExamplesQuery asks for the events that a point counts.
type ExamplesQuery struct {
	Project string
	Filter
	Point Point
	Limit int // 0 is DefaultExamples; at most MaxExamples
}

// Bounds of [ExamplesQuery.Limit].
const (
	DefaultExamples = 20
	MaxExamples     = 100
)

// Examples are events that a point counts. What is worth a look comes first: of
// rates of something bad only what is bad, of rates of something good what is not;
// the slowest of durations, the dearest of costs, the largest of tokens, the lowest
// of scores; else the newest.
type Examples struct {
	Count  int64    `json:"count"` // events of which these are the first; of users, traces and their rates, one call each
	Among  int64    `json:"among"` // events that the figure is taken of: Count, or what a rate divides by
	Of     string   `json:"of"`    // what is counted: calls, outcomes, tool_calls, steps, events, traces or users
	Events []*Event `json:"events"`
}

// counted says which events of its kind a measure is taken of, which of those are
// its examples, and in which order.
type counted struct {
	kind         kind
	unit         string // a call for each value of this column
	among, shown condition
	order        string // the largest first
}

var kindNames = map[kind]string{ofCalls: "calls", ofOutcomes: "outcomes", ofTools: "tool_calls", ofSteps: "steps", ofEvents: "events", ofTraces: "traces", ofUsers: "users", ofUserUnits: "users"}

// counted tells it of a point.
func (r *Reader) counted(p *Point) (c counted, err error) {
	if err := p.Event.check(p.Measure); err != nil {
		return c, err
	}
	if err := p.LatencyOf.Check(); err != nil {
		return c, err
	}
	d := r.sql.ofOutcome()
	t := d.terms()
	m, ok := d.measures(p.LatencyOf)[p.Measure]
	if p.Measure == CostPerTask {
		m, ok = measure{kind: ofCalls}, true
	}
	if !ok {
		return c, event.Invalid("there is no such measure", "see the list of measures in the documentation")
	}
	c.kind, c.order = m.kind, "ts"
	known := func(column string) { c.among.cond, c.order = column+" IS NOT NULL", column }
	first := func(cond string) string { return "CASE WHEN " + cond + " THEN 1 ELSE 0 END" }
	yes := func(name string) { y, either := d.yesNo(name); c.among.cond, c.shown.cond = either, y }
	switch p.Measure {
	case Errors, ErrorRate, ToolErrors, ToolErrorRate:
		c.shown.cond = "is_error"
	case LatencyP50, LatencyP95, LatencyP99:
		known("latency_us")
		c.among.cond += " AND " + p.LatencyOf.cond()
	case TTFTP50, TTFTP95, TTFTP99:
		known("ttft_us")
		c.among.cond += " AND " + p.LatencyOf.cond()
	case ToolP95:
		known("latency_us")
	case TokensIn:
		known(inputExpr)
	case TokensOut:
		known("output_tokens")
	case TokensTotal:
		known("tokens")
	case TokensCached:
		known("cache_read_tokens")
	case TokensCacheNew:
		known("cache_write_tokens")
	case TokensReasoning:
		known("reasoning_tokens")
	case CostUSD, CostPerCall, CostPerTask:
		known("cost_total")
	case CacheSaved:
		known("cost_cache_saved")
	case CacheShare:
		c.among.cond = "input_tokens IS NOT NULL AND cache_read_tokens IS NOT NULL"
	case Users:
		c.unit = "distinct_id"
	case Tasks:
		c.among.cond = t.task
	case TasksCompleted:
		c.among.cond = t.completed
	case CompletionRate:
		c.among.cond, c.order = t.task, first("NOT coalesce("+t.completed+", false)")
	case Rated:
		c.among.cond = t.rated
	case Negative, NegativeRate:
		c.among.cond, c.shown.cond = t.rated, t.negative
	case EscalationRate:
		yes("escalated_to_human")
	case AcceptanceRate:
		y, either := d.yesNo("accepted_output")
		c.among.cond, c.order = either, first("NOT ("+y+")")
	case EditRate:
		yes("edited_output")
	case RetryRate:
		known(t.retries)
		c.shown.cond = t.retries + " > 0"
	case Retries:
		known(r.sql.retriesExpr())
		c.shown.cond = r.sql.retriesExpr() + " > 0"
	case EvalScore:
		known(t.score)
		c.order = "-(" + t.score + ")"
	case EvalPassRate:
		c.among.cond, c.order = t.passed+" IN ('true', 'false')", first(t.passed+" = 'false'")
	case Evals:
		c.among.cond = t.eval + " IS NOT NULL"
	case EventCount:
		c.among, _ = r.match(p.Event)
	case EventShare:
		c.shown, c.among = r.match(p.Event)
	case EventMean:
		c.among = r.number(p.Event)
		c.among.cond = "(" + c.among.cond + ") IS NOT NULL"
	case EventTraceRate:
		c.unit, c.shown.cond = "trace_id", "hit"
	case EventUserRate:
		c.unit, c.shown.cond = "distinct_id", "hit"
	}
	for _, x := range []*condition{&c.among, &c.shown} {
		if x.cond == "" {
			x.cond = "true"
		}
	}
	return c, nil
}

// pointed is where the events of a point are looked for, and the condition of
// those that its figure is taken of. uses is the SQL that reads more columns.
func (r *Reader) pointed(ctx context.Context, project string, f *Filter, p *Point, uses string) (from table, w *where, c counted, err error) {
	if c, err = r.counted(p); err != nil {
		return from, w, c, err
	}
	if f.Text != "" && (c.kind == ofOutcomes || c.kind == ofEvents) {
		return from, w, c, event.Invalid("what a point of a chart counts cannot be narrowed by words here", "take the words or the point away")
	}
	var cover cover
	if c.kind == ofOutcomes || c.kind == ofEvents {
		if cover, err = r.cover(ctx, project); err != nil {
			return from, w, c, err
		}
	}
	uses = strings.Join([]string{uses, c.among.cond, c.shown.cond, c.order}, " ")
	var value condition
	switch c.kind {
	case ofOutcomes:
		o := *r
		o.sql = *r.sql.ofOutcome()
		if w, err = o.where(project, f); err != nil {
			return from, w, c, err
		}
		if value.cond, value.args, err = o.by(p.By); err != nil {
			return from, w, c, err
		}
		from.place = "NULL"
		from.sql, from.args, err = r.outcomes(ctx, project, strings.Join([]string{uses, value.cond, w.String(), "uuid ts"}, " "), inherited(f, p.By), f, &cover)
		from.sql += " AS events"
	case ofEvents:
		from, w, value, err = r.toldEvents(ctx, project, f, p.By, p.Event, uses, &cover)
	default:
		from = r.allEvents()
		w, value.cond, value.args, err = r.grouped(c.kind, project, f, p.By)
		if c.unit != "" && err == nil {
			r.of(ofCalls, w)
		}
	}
	if err != nil {
		return from, w, c, err
	}
	if p.Key != nil {
		if err := checkText("group", *p.Key); err != nil {
			return from, w, c, err
		}
		w.add(value.cond+" = ?", append(slices.Clone(value.args), *p.Key)...)
	}
	if len(p.Not) > MaxGroups {
		return from, w, c, event.Invalid("too many groups are left out", fmt.Sprintf("name at most %d", MaxGroups))
	}
	if len(p.Not) > 0 {
		not := make([]any, len(p.Not))
		for i, k := range p.Not {
			if err := checkText("group", k); err != nil {
				return from, w, c, err
			}
			not[i] = k
		}
		w.add("NOT list_contains(CAST(? AS VARCHAR[]), "+value.cond+")", append([]any{not}, value.args...)...)
	}
	if c.unit != "" {
		from, w = r.perUnit(project, f, p, &c, w)
	}
	w.add(c.among.cond, c.among.args...)
	return from, w, c, nil
}

// perUnit makes a table of calls one of the first call of each unit, with whether
// the unit is hit.
func (r *Reader) perUnit(project string, f *Filter, p *Point, c *counted, w *where) (table, *where) {
	with, hit := r.matchingUnits(project, f, p.Event, c.unit)
	const columns = "uuid, ts, latency_us, ttft_us, cost_total, tokens, place"
	out := new(where)
	out.add("nth = 1")
	return table{
		sql: "(" + with.cond + " SELECT " + columns + ", bool_or(hit) OVER (PARTITION BY unit) AS hit, row_number() OVER (PARTITION BY unit ORDER BY hit DESC, ts, uuid) AS nth FROM (" +
			"SELECT " + strings.Replace(columns, "place", r.sql.place+" AS place", 1) + ", " + c.unit + " AS unit, " + hit + " AS hit FROM events " + w.String() + " AND " + c.unit + " IS NOT NULL)) AS events",
		args: slices.Concat(with.args, w.args), place: "place",
	}, out
}

// Examples finds events that a point counts.
func (r *Reader) Examples(ctx context.Context, q ExamplesQuery) (*Examples, error) {
	switch {
	case q.Limit < 0 || q.Limit > MaxExamples:
		return nil, event.Invalid("the limit is out of range", fmt.Sprintf("use 1 to %d", MaxExamples))
	case q.Limit == 0:
		q.Limit = DefaultExamples
	}
	from, w, c, err := r.pointed(ctx, q.Project, &q.Filter, &q.Point, "")
	if err != nil {
		return nil, err
	}
	out := &Examples{Of: kindNames[c.kind], Events: []*Event{}}
	err = r.store.Read(ctx, func(rows *sql.Rows) error {
		for rows.Next() {
			if err := rows.Scan(&out.Count, &out.Among); err != nil {
				return err
			}
		}
		return nil
	}, "SELECT "+countOf(c.shown.cond)+", count(*) FROM "+from.sql+" "+w.String(), slices.Concat(c.shown.args, from.args, w.args)...)
	if err != nil {
		return nil, err
	}
	w.add(c.shown.cond, c.shown.args...)
	found, err := r.find(ctx, from, w, c.order, "DESC", q.Limit)
	if err != nil {
		return nil, err
	}
	shown, err := r.fitting(ctx, found, q.Limit)
	if err != nil {
		return nil, err
	}
	rows, err := r.whole(ctx, shown, store.EventColumns(""))
	if err != nil {
		return nil, err
	}
	out.Events, err = r.views(ctx, rows)
	return out, err
}
