package query

import (
	"context"
	"fmt"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query/sqlf"
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
	among, shown sqlf.Fragment
	order        sqlf.Fragment // the largest first
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
	d := r.ofOutcome().sql
	t := d.terms()
	m, ok := d.measures(p.LatencyOf)[p.Measure]
	if p.Measure == CostPerTask {
		m, ok = measure{kind: ofCalls}, true
	}
	if !ok {
		return c, event.Invalid("there is no such measure", "see the list of measures in the documentation")
	}
	c.kind, c.order = m.kind, sqlf.Column("ts")
	c.among, c.shown = sqlf.Raw("true"), sqlf.Raw("true")
	byValue := func(expr sqlf.Fragment) { c.among, c.order = isKnown(expr), expr }
	times := func(column string) {
		byValue(sqlf.Column(column))
		c.among = c.among.And(p.LatencyOf.cond())
	}
	first := func(cond sqlf.Fragment) sqlf.Fragment { return sqlf.New("CASE WHEN ? THEN 1 ELSE 0 END", cond) }
	switch p.Measure {
	case Errors, ErrorRate, ToolErrors, ToolErrorRate:
		c.shown = sqlf.Column("is_error")
	case LatencyP50, LatencyP95, LatencyP99:
		times("latency_us")
	case TTFTP50, TTFTP95, TTFTP99:
		times("ttft_us")
	case ToolP95:
		byValue(sqlf.Column("latency_us"))
	case TokensIn:
		byValue(inputExpr)
	case TokensOut:
		byValue(sqlf.Column("output_tokens"))
	case TokensTotal:
		byValue(sqlf.Column("tokens"))
	case TokensCached:
		byValue(sqlf.Column("cache_read_tokens"))
	case TokensCacheNew:
		byValue(sqlf.Column("cache_write_tokens"))
	case TokensReasoning:
		byValue(sqlf.Column("reasoning_tokens"))
	case CostUSD, CostPerCall, CostPerTask:
		byValue(sqlf.Column("cost_total"))
	case CacheSaved:
		byValue(sqlf.Column("cost_cache_saved"))
	case CacheShare:
		c.among = sqlf.New("{input_tokens} IS NOT NULL AND {cache_read_tokens} IS NOT NULL")
	case Users:
		c.unit = "distinct_id"
	case Tasks:
		c.among = t.task
	case TasksCompleted:
		c.among = t.completed
	case CompletionRate:
		c.among, c.order = t.task, first(sqlf.New("NOT coalesce(?, false)", t.completed))
	case Rated:
		c.among = t.rated
	case Negative, NegativeRate:
		c.among, c.shown = t.rated, t.negative
	case EscalationRate:
		c.shown, c.among = d.saysYes("escalated_to_human")
	case AcceptanceRate:
		yes, either := d.saysYes("accepted_output")
		c.among, c.order = either, first(sqlf.New("NOT (?)", yes))
	case EditRate:
		c.shown, c.among = d.saysYes("edited_output")
	case RetryRate:
		byValue(t.retries)
		c.shown = sqlf.New("? > 0", t.retries)
	case Retries:
		byValue(r.sql.retriesExpr())
		c.shown = sqlf.New("? > 0", r.sql.retriesExpr())
	case EvalScore:
		c.among, c.order = isKnown(t.score), sqlf.New("-(?)", t.score)
	case EvalPassRate:
		yes, either := yesNo(t.passed)
		c.among, c.order = either, first(sqlf.New("NOT (?)", yes))
	case Evals:
		c.among = isKnown(t.eval)
	case EventCount:
		c.among, _ = r.match(p.Event)
	case EventShare:
		c.shown, c.among = r.match(p.Event)
	case EventMean:
		c.among = sqlf.New("(?) IS NOT NULL", r.number(p.Event))
	case EventTraceRate:
		c.unit, c.shown = "trace_id", sqlf.Column("hit")
	case EventUserRate:
		c.unit, c.shown = "distinct_id", sqlf.Column("hit")
	}
	return c, nil
}

// pointed is where the events of a point are looked for, and the condition of
// those that its figure is taken of. uses has more columns that are to be there.
func (r *Reader) pointed(ctx context.Context, project string, f *Filter, p *Point, uses sqlf.Fragment) (from table, w sqlf.Fragment, c counted, err error) {
	if c, err = r.counted(p); err != nil {
		return from, w, c, err
	}
	if f.Text != "" && (c.kind == ofOutcomes || c.kind == ofEvents) {
		return from, w, c, event.Invalid("what a point of a chart counts cannot be narrowed by words here", "take the words or the point away")
	}
	var cover *cover
	if c.kind == ofOutcomes || c.kind == ofEvents {
		if cover, err = r.cover(ctx, project); err != nil {
			return from, w, c, err
		}
	}
	uses = sqlf.Join(" ", uses, c.among, c.shown, c.order)
	var value sqlf.Fragment
	switch c.kind {
	case ofOutcomes:
		if w, value, err = r.ofOutcome().filtered(project, f, p.By); err != nil {
			return from, w, c, err
		}
		from, err = r.outcomesTable(ctx, project, sqlf.Join(" ", uses, value, w), inherited(f, p.By), f, cover)
	case ofEvents:
		from, w, value, err = r.namedEvents(ctx, project, f, p.By, p.Event, uses, cover)
	default:
		from = r.allEvents()
		w, value, err = r.grouped(c.kind, project, f, p.By)
	}
	if err != nil {
		return from, w, c, err
	}
	if p.Key != nil {
		if err := checkText("group", *p.Key); err != nil {
			return from, w, c, err
		}
		w = w.And(equals(value, *p.Key))
	}
	if len(p.Not) > MaxGroups {
		return from, w, c, event.Invalid("too many groups are left out", fmt.Sprintf("name at most %d", MaxGroups))
	}
	for _, k := range p.Not {
		if err := checkText("group", k); err != nil {
			return from, w, c, err
		}
	}
	if len(p.Not) > 0 {
		w = w.Andf("NOT ?", r.sql.inTexts(anys(p.Not), value))
	}
	if c.unit != "" {
		from, w = r.perUnit(project, f, p, &c, w)
	}
	return from, w.And(c.among), c, nil
}

// perUnit makes a table of calls one of the first call of each unit, with whether
// the unit is hit.
func (r *Reader) perUnit(project string, f *Filter, p *Point, c *counted, w sqlf.Fragment) (table, sqlf.Fragment) {
	with, hit := r.matchingUnits(project, f, p.Event, c.unit)
	const columns = "uuid, ts, latency_us, ttft_us, cost_total, tokens, "
	return table{sqlf.New("(? SELECT "+columns+"place, bool_or(hit) OVER (PARTITION BY unit) AS hit, row_number() OVER (PARTITION BY unit ORDER BY hit DESC, ts, uuid) AS nth FROM ("+
		"SELECT "+columns+r.sql.place+" AS place, "+c.unit+" AS unit, ? AS hit FROM events WHERE ? AND "+c.unit+" IS NOT NULL)) AS events", with, hit, w), "place"}, sqlf.Raw("nth = 1")
}

// Examples finds events that a point counts.
func (r *Reader) Examples(ctx context.Context, q ExamplesQuery) (*Examples, error) {
	switch {
	case q.Limit < 0 || q.Limit > MaxExamples:
		return nil, event.Invalid("the limit is out of range", fmt.Sprintf("use 1 to %d", MaxExamples))
	case q.Limit == 0:
		q.Limit = DefaultExamples
	}
	from, w, c, err := r.pointed(ctx, q.Project, &q.Filter, &q.Point, sqlf.Fragment{})
	if err != nil {
		return nil, err
	}
	out := &Examples{Of: kindNames[c.kind], Events: []*Event{}}
	if err := r.one(ctx, sqlf.New("SELECT ?, count(*) FROM ? WHERE ?", countOf(c.shown), from.sql, w), &out.Count, &out.Among); err != nil {
		return nil, err
	}
	found, err := r.find(ctx, from, w.And(c.shown), c.order, "DESC", q.Limit)
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
