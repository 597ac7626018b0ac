package query

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/hedgerow/hedgerow/server/internal/query/sqlf"
)

// summing computes the [Totals] of one query, all over the same events:
// from the roll-ups if these can answer, else from the events one by one.
type summing struct {
	r       *Reader
	project string
	cover   *cover
	of      LatencyOf
}

func (r *Reader) summing(ctx context.Context, project string) (*summing, error) {
	c, err := r.cover(ctx, project)
	return &summing{r: r, project: project, cover: c}, err
}

// breakdown is the breakdown of totals: an expression over the columns value,
// the group, and ts.
type breakdown struct {
	by     GroupBy
	key    sqlf.Fragment // empty: value
	starts []time.Time   // of points, where the key is one
	limit  int           // keys with the most calls; 0 is all
}

// keyed are the totals of one key.
type keyed struct {
	key    any
	totals Totals
}

// read computes the totals of all and of each key, in order of calls.
func (s *summing) read(ctx context.Context, f *Filter, by breakdown) (all *Totals, each []keyed, err error) {
	moments := make([]Moment, len(by.starts))
	for i, t := range by.starts {
		moments[i].Start = t
	}
	plan, err := s.r.rolledPlan(ctx, s.project, s.cover, f, by.by, moments)
	if err != nil {
		return nil, nil, err
	}
	if first, end := slots(f.From, f.To); plan.ok && first.Before(end) {
		times, err := s.r.timesSource(ofCalls, timesQuery{s.project, f, by.by, s.of}, plan, sqlf.New("{latency_us} {ttft_us}"))
		if err != nil {
			return nil, nil, err
		}
		if times.binned {
			return s.rolled(ctx, f, by, plan, times)
		}
	}
	if each, err = s.raw(ctx, f, by); err != nil {
		return nil, nil, err
	}
	if !by.nothing() {
		all, _, err = s.read(ctx, f, breakdown{})
		return all, each, err
	}
	all = new(Totals)
	if len(each) > 0 {
		*all = each[0].totals
	}
	return all, each, nil
}

// nothing reports whether there is one key at most.
func (b *breakdown) nothing() bool { return b.by == ByNone && b.key.IsZero() }

// raw computes totals from the events.
func (s *summing) raw(ctx context.Context, f *Filter, by breakdown) (out []keyed, err error) {
	w, err := s.r.where(s.project, f)
	if err != nil {
		return nil, err
	}
	key := by.key
	if key.IsZero() {
		if key, err = s.r.by(by.by); err != nil {
			return nil, err
		}
	}
	err = s.r.each(ctx, sqlf.New("SELECT ? AS grp, ? FROM events WHERE ? GROUP BY grp ORDER BY calls DESC, events DESC, grp?", key, s.r.totalColumns(s.of), w, by.bound(0)), func(rows *sql.Rows) error {
		var k keyed
		err := scanTotals(rows, &k.totals, &k.key)
		out = append(out, k)
		return err
	})
	return out, err
}

// bound bounds the rows of keys, and others.
func (b *breakdown) bound(others int) sqlf.Fragment {
	if b.limit == 0 {
		return sqlf.Fragment{}
	}
	return sqlf.Raw(fmt.Sprintf(" LIMIT %d", b.limit+others))
}

// rolled computes totals from roll-ups: counts and sums, then quantiles.
func (s *summing) rolled(ctx context.Context, f *Filter, by breakdown, plan plan, times source) (all *Totals, each []keyed, err error) {
	columns := s.r.rolledTotalColumns()
	from, err := s.r.eventsSource(ofAll, s.project, f, by.by, plan, columns)
	if err != nil {
		return nil, nil, err
	}
	key := by.key
	if key.IsZero() {
		key = sqlf.Column("value")
	}
	pre := []sqlf.Fragment{key.As("grp"), sqlf.Raw("is_call"), sqlf.Raw("is_error")}
	for _, c := range sums {
		if columns.Uses(c.name) {
			pre = append(pre, sqlf.New("sum(?)", sqlf.Column(c.name)).As(c.name))
		}
	}
	all = new(Totals)
	at := make(map[any]int)
	// The source is read once, into few rows, of which the totals are made.
	err = s.r.each(ctx, sqlf.New("WITH pre AS MATERIALIZED (SELECT ? FROM ? GROUP BY ALL) SELECT grp, GROUPING(grp), ? FROM pre GROUP BY GROUPING SETS ((), (grp)) ORDER BY GROUPING(grp) DESC, calls DESC, events DESC, grp?",
		pre, from.sql, columns, by.bound(1)), func(rows *sql.Rows) error {
		var k keyed
		var whole int64
		if err := scanTotals(rows, &k.totals, &k.key, &whole); err != nil {
			return err
		}
		if whole == 1 {
			*all = k.totals
			return nil
		}
		at[k.key] = len(each)
		each = append(each, k)
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	var latency, ttft bins // of all
	quantiles := func(b bins) Quantiles {
		return Quantiles{b.millis(shares[0]), b.millis(shares[1]), b.millis(shares[2])}
	}
	err = s.r.each(ctx, sqlf.New("SELECT ? AS grp, string_agg(latency, ' '), string_agg(ttft, ' ') FROM ? GROUP BY grp", key, times.sql), func(rows *sql.Rows) error {
		var key any
		var counts [2]sql.NullString
		if err := rows.Scan(&key, &counts[0], &counts[1]); err != nil {
			return err
		}
		l, err := parseBins(counts[0].String)
		if err != nil {
			return err
		}
		t, err := parseBins(counts[1].String)
		if err != nil {
			return err
		}
		if i, ok := at[key]; ok { // unless beyond the limit
			each[i].totals.LatencyMS, each[i].totals.TTFTMS = quantiles(l), quantiles(t)
		}
		latency, ttft = latency.plus(l), ttft.plus(t)
		return nil
	})
	all.LatencyMS, all.TTFTMS = quantiles(latency), quantiles(ttft)
	return all, each, err
}

// millis is a quantile in milliseconds.
func (b bins) millis(q float64) Millis {
	us := b.quantile(q)
	return Millis{Value: us.Value / 1000, Known: us.Known}
}

// rolledTotalColumns are totalColumns over a source of all events, without
// quantiles.
func (r *Reader) rolledTotalColumns() sqlf.Fragment {
	sum := func(col, filter string) sqlf.Fragment {
		return sqlf.New(r.sql.bigint, sqlf.New("sum("+col+") FILTER (WHERE "+filter+")"))
	}
	count := func(col, filter string) sqlf.Fragment { return sqlf.New("coalesce(?, 0)", sum(col, filter)) }
	const reported = "{is_call} AND {cached_input} IS NOT NULL AND {all_input} IS NOT NULL"
	return sqlf.Join(", ",
		count("{n}", "true").As("events"),
		count("{n}", "{is_call}").As("calls"),
		count("{n}", "{is_call} AND {is_error}"),
		count("{n}", "{is_error} AND NOT {is_call}"),
		sum("{input_tokens}", "{is_call}"),
		sum("{output_tokens}", "{is_call}"),
		sum("{tokens}", "{is_call}"),
		count("{n} - {metered}", "{is_call}"),
		digits(sqlf.New("sum({cost_known}) FILTER (WHERE {is_call})")),
		digits(sqlf.New("sum({cost_total}) FILTER (WHERE {is_call})")),
		count("{n} - {costed}", "{is_call}"),
		count("{n} - {costed}", "{is_call} AND {is_error}"),
		count("{incomplete}", "{is_call}"),
		sqlf.Raw("NULL"), sqlf.Raw("NULL"),
		sum("{cached_input}", reported),
		sum("{all_input}", reported),
	)
}
