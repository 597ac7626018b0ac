package query

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"
)

// summing computes the [Totals] of one question, all of them over the same
// events: those of the roll-ups where these can tell, else the events one by one.
type summing struct {
	r       *Reader
	project string
	cover   cover
}

func (r *Reader) summing(ctx context.Context, project string) (*summing, error) {
	c, err := r.cover(ctx, project)
	return &summing{r, project, c}, err
}

// breakdown says what totals are broken down by: an expression over the columns
// value, which is the breakdown by, and ts.
type breakdown struct {
	by     GroupBy
	key    string
	args   []any
	starts []time.Time // of points, where the key is one
	limit  int         // keys with the most calls; 0 is all
}

// keyed are the totals of one key.
type keyed struct {
	key    any
	totals Totals
}

// read computes totals, in order of calls.
func (s *summing) read(ctx context.Context, f *Filter, by breakdown) ([]keyed, error) {
	moments := make([]Moment, len(by.starts))
	for i, t := range by.starts {
		moments[i].Start = t
	}
	plan, err := s.r.rolledPlan(ctx, s.project, s.cover, f, by.by, moments)
	if err != nil {
		return nil, err
	}
	if first, end := slots(f.From, f.To); plan.ok && first.Before(end) {
		times, err := s.r.timesSource(ofCalls, s.project, f, by.by, plan, "latency_us ttft_us")
		if err != nil {
			return nil, err
		}
		if times.binned {
			return s.rolled(ctx, f, by, plan, times)
		}
	}
	return s.raw(ctx, f, by)
}

// raw computes totals from the events.
func (s *summing) raw(ctx context.Context, f *Filter, by breakdown) (out []keyed, err error) {
	w, err := s.r.where(s.project, f)
	if err != nil {
		return nil, err
	}
	value, valueArgs, err := s.r.by(by.by)
	if err != nil {
		return nil, err
	}
	key, args := by.key, by.args
	if key == "value" {
		key, args = value, valueArgs
	}
	err = s.r.store.Read(ctx, func(rows *sql.Rows) error {
		for rows.Next() {
			var k keyed
			if err := scanTotals(rows, &k.totals, &k.key); err != nil {
				return err
			}
			out = append(out, k)
		}
		return nil
	}, "SELECT "+key+" AS grp, "+s.r.totalColumns()+" FROM events "+w.String()+" GROUP BY grp ORDER BY calls DESC, events DESC, grp"+by.bound(), append(args, w.args...)...)
	return out, err
}

func (p *breakdown) bound() string {
	if p.limit == 0 {
		return ""
	}
	return fmt.Sprintf(" LIMIT %d", p.limit)
}

// rolled computes totals from roll-ups: counts and sums, then quantiles.
func (s *summing) rolled(ctx context.Context, f *Filter, by breakdown, plan plan, times source) (out []keyed, err error) {
	columns := s.r.rolledTotalColumns()
	from, err := s.r.eventsSource(ofAll, s.project, f, by.by, plan, columns)
	if err != nil {
		return nil, err
	}
	at := make(map[any]int)
	err = s.r.store.Read(ctx, func(rows *sql.Rows) error {
		for rows.Next() {
			var k keyed
			if err := scanTotals(rows, &k.totals, &k.key); err != nil {
				return err
			}
			at[k.key] = len(out)
			out = append(out, k)
		}
		return nil
	}, "SELECT grp, "+columns+" FROM (SELECT *, "+by.key+" AS grp FROM "+from.sql+") GROUP BY grp ORDER BY calls DESC, events DESC, grp"+by.bound(), append(append([]any{}, by.args...), from.args...)...)
	if err != nil {
		return nil, err
	}
	err = s.r.store.Read(ctx, func(rows *sql.Rows) error {
		for rows.Next() {
			var key any
			var latency, ttft sql.NullString
			if err := rows.Scan(&key, &latency, &ttft); err != nil {
				return err
			}
			i, ok := at[key]
			if !ok {
				continue // beyond the limit
			}
			t := &out[i].totals
			for _, c := range []struct {
				counts string
				into   *Quantiles
			}{{latency.String, &t.LatencyMS}, {ttft.String, &t.TTFTMS}} {
				b, err := parseBins(c.counts)
				if err != nil {
					return err
				}
				*c.into = Quantiles{b.millis(shares[0]), b.millis(shares[1]), b.millis(shares[2])}
			}
		}
		return nil
	}, "SELECT grp, string_agg(latency, ' '), string_agg(ttft, ' ') FROM (SELECT *, "+by.key+" AS grp FROM "+times.sql+") GROUP BY grp", append(append([]any{}, by.args...), times.args...)...)
	return out, err
}

// millis is a quantile in milliseconds.
func (b bins) millis(q float64) Millis {
	us := b.quantile(q)
	return Millis{Value: us.Value / 1000, Known: us.Known}
}

// rolledTotalColumns are totalColumns over a source of all events, without
// quantiles.
func (r *Reader) rolledTotalColumns() string {
	sum := func(col, filter string) string { return r.sql.bigint("sum(" + col + ") FILTER (WHERE " + filter + ")") }
	count := func(col, filter string) string { return "coalesce(" + sum(col, filter) + ", 0)" }
	const reported = "is_call AND cached_input IS NOT NULL AND all_input IS NOT NULL"
	return strings.Join([]string{
		count("n", "true") + " AS events",
		count("n", "is_call") + " AS calls",
		count("n", "is_call AND is_error"),
		count("n", "is_error AND NOT is_call"),
		sum("input_tokens", "is_call"),
		sum("output_tokens", "is_call"),
		sum("tokens", "is_call"),
		count("n - metered", "is_call"),
		r.sql.digits("sum(cost_total) FILTER (WHERE is_call)"),
		count("n - costed", "is_call"),
		count("n - costed", "is_call AND is_error"),
		"NULL", "NULL",
		sum("cached_input", reported),
		sum("all_input", reported),
	}, ", ")
}
