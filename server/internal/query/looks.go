package query

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hedgerow/hedgerow/server/internal/query/sqlf"
	"github.com/hedgerow/hedgerow/server/internal/stats"
)

// Look is what a metric counted up to a time. The times are fixed by the
// experiment's start: every hour of its first two weeks, then every day.
type Look struct {
	At time.Time
	Moments
	Trimmed Moments // of an amount: with the limits of [Figure]
}

// Amount reports whether the metric has no upper end, so that few users can
// determine its mean: a count or a cost, or the mean of a property.
func (m Metric) Amount() bool { return !m.IsRate() && m.Quantile() == 0 && m.Measure != EvalScore }

// winsorised is the percentile of the users' ratios above which an amount is cut, and below
// which where there are negative ones.
const winsorised = 0.95

const lookHours = 14 * 24 // with a look each

// lookAt is the number of the look that first sees an event: the hour, counted from the
// start, or the last one of its day.
func (x *experimentReader) lookAt(ts string) sqlf.Fragment {
	if x.q.By != ByNone {
		return sqlf.Raw("0")
	}
	hour := sqlf.New("(epoch_us("+ts+") - epoch_us(CAST(? AS TIMESTAMP))) // 3600000000", x.q.From.UTC())
	return sqlf.New(fmt.Sprintf("CASE WHEN ? < %d THEN ? ELSE ? // 24 * 24 + 23 END", lookHours), hour, hour, hour)
}

// steps is readings and, after them, what each user adds to a metric between two looks
// (u, arm, seg, look, y, n), and what the same user had in the time before
// (p, q).
func (x *experimentReader) steps(metric int) (sqlf.Fragment, error) {
	m := x.q.Metrics[metric]
	readings, err := x.readings(m)
	if err != nil {
		return readings, err
	}
	read := sqlf.New("SELECT u, arm, seg, ? AS look, sum(y0) AS y, sum(n0) AS n FROM readings GROUP BY ALL HAVING count(y0) + count(n0) > 0", x.lookAt("ts"))
	switch {
	case m.ofUsers():
		// Users without the event count.
		events := sqlf.New("SELECT u, arm, seg, ? AS look, 1, 0 FROM readings WHERE y0 IS NOT NULL", x.lookAt("ts"))
		if m.As == AsUsers {
			events = sqlf.New("SELECT u, arm, seg, min(?), 1, 0 FROM readings WHERE y0 IS NOT NULL GROUP BY u, arm, seg", x.lookAt("ts"))
		}
		read = sqlf.New("SELECT u, arm, seg, look, sum(y) AS y, sum(n) AS n FROM (SELECT u, arm, seg, ? AS look, 0 AS y, 1 AS n FROM units UNION ALL ?) GROUP BY ALL", x.lookAt("since"), events)
	case m.Quantile() > 0:
		var below []sqlf.Fragment
		for _, c := range x.out.Cells {
			if f := c.Figures[metric]; f.Value.Known {
				below = append(below, sqlf.New("WHEN arm = CAST(? AS VARCHAR) AND seg = CAST(? AS VARCHAR) THEN CASE WHEN y0 <= CAST(? AS DOUBLE) THEN 1 ELSE 0 END", c.Variant, c.Segment, f.Value.Value))
			}
		}
		read = sqlf.New("SELECT u, arm, seg, ? AS look, sum(CASE ? END) AS y, sum(n0) AS n FROM readings WHERE y0 IS NOT NULL GROUP BY ALL", x.lookAt("ts"), sqlf.Join(" ", append(below, sqlf.Raw("WHEN false THEN 0"))...))
	}
	past, err := x.past(m)
	if err != nil {
		return past, err
	}
	return sqlf.New("?, past AS (?), steps AS (?) ", readings, past, read), nil
}

// past is y and n of each user before their first event with the variant, by the events
// that name the user.
func (x *experimentReader) past(m Metric) (sqlf.Fragment, error) {
	if x.q.Past <= 0 || m.Quantile() > 0 {
		return sqlf.Raw("SELECT CAST(NULL AS VARCHAR) AS u, 0.0 AS p, 0.0 AS q WHERE false"), nil
	}
	w, err := x.r.where(x.q.Project, &Filter{From: x.q.From.Add(-x.q.Past), To: x.q.To})
	if err != nil {
		return w, err
	}
	read, err := x.r.reading(m, "p")
	if err != nil {
		return w, err
	}
	picked := append(readColumns(), sqlf.Raw("distinct_id AS u"))
	if !read.p.IsZero() {
		picked = append(picked, read.p.As("p"))
	}
	before := sqlf.New("SELECT units.u, ? AS y0, ? AS n0 FROM (SELECT ? FROM events WHERE ?) AS e JOIN units ON units.u = e.u WHERE e.ts < units.since", read.y, read.n, picked, w.And(read.events))
	if !m.ofUsers() {
		return sqlf.New("SELECT u, sum(y0) AS p, sum(n0) AS q FROM (?) GROUP BY u", before), nil
	}
	// Users without the event count here too: they had none before.
	of := sqlf.Raw("sum(y0)")
	if m.As == AsUsers {
		of = sqlf.Raw("max(y0)")
	}
	return sqlf.New("SELECT u, coalesce(?, 0) AS p, 1 AS q FROM units LEFT JOIN (?) USING (u) GROUP BY u", of, before), nil
}

// moments reads the sums of one metric at each look in each cell. Sums over users of what
// is not linear in a user's total change by what it is after the look less what it was
// before.
func (x *experimentReader) moments(ctx context.Context, metric int) error {
	steps, err := x.steps(metric)
	if err != nil {
		return err
	}
	looks, err := x.sums(ctx, steps, stats.Scale{})
	if err != nil {
		return err
	}
	var limits stats.Scale
	trimmed := make(map[int]map[int64]Moments)
	if x.q.Metrics[metric].Amount() {
		if limits, err = x.limits(ctx, steps, looks); err != nil {
			return err
		}
		if limits.Bounded() {
			if trimmed, err = x.sums(ctx, steps, limits); err != nil {
				return err
			}
		}
	}
	for at, of := range looks {
		f := &x.out.Cells[at].Figures[metric]
		f.Limits = limits
		for _, n := range slices.Sorted(maps.Keys(of)) {
			f.Moments = f.Moments.Plus(of[n])
			f.Trimmed = f.Trimmed.Plus(trimmed[at][n])
			end := x.q.From.Add(time.Duration(n+1) * time.Hour)
			if end.After(x.q.To) {
				end = x.q.To
			}
			f.Looks = append(f.Looks, Look{At: end.UTC(), Moments: f.Moments, Trimmed: f.Trimmed})
		}
	}
	return nil
}

// sums reads what each look adds to the sums of each cell, by its place in out.Cells.
func (x *experimentReader) sums(ctx context.Context, steps sqlf.Fragment, limits stats.Scale) (map[int]map[int64]Moments, error) {
	cut := func(y, n string) sqlf.Fragment {
		if !limits.Bounded() {
			return sqlf.Raw(y)
		}
		return sqlf.New("CASE WHEN "+n+" > 0 THEN greatest(least("+y+", CAST(? AS DOUBLE) * "+n+"), CAST(? AS DOUBLE) * "+n+") ELSE greatest(least("+y+", CAST(? AS DOUBLE)), CAST(? AS DOUBLE)) END",
			limits.High, limits.Low, limits.High, limits.Low)
	}
	const products = "sum(n1 - n2), sum(y1 - y2), sum(n1 * n1 - n2 * n2), sum(y1 * y1 - y2 * y2), sum(n1 * y1 - n2 * y2), " +
		"sum(n1 * n1 * n1 - n2 * n2 * n2), sum(n1 * n1 * y1 - n2 * n2 * y2), sum(n1 * y1 * y1 - n2 * y2 * y2), sum(y1 * y1 * y1 - y2 * y2 * y2), " +
		"sum(p) FILTER (WHERE first), sum(q) FILTER (WHERE first), sum(p * p) FILTER (WHERE first), sum(q * q) FILTER (WHERE first), sum(p * q) FILTER (WHERE first), " +
		"sum((y1 - y2) * p), sum((y1 - y2) * q), sum((n1 - n2) * p), sum((n1 - n2) * q)"
	out := make(map[int]map[int64]Moments)
	err := x.r.each(ctx, sqlf.New("?, totals AS (SELECT u, arm, seg, look, CAST(coalesce(y, 0) AS DOUBLE) AS y, CAST(coalesce(n, 0) AS DOUBLE) AS n, sum(coalesce(y, 0)) OVER w AS yy, sum(coalesce(n, 0)) OVER w AS nn, row_number() OVER w = 1 AS first FROM steps WINDOW w AS (PARTITION BY u ORDER BY look)), "+
		"ends AS (SELECT totals.u, arm, seg, look, first, CAST(yy AS DOUBLE) AS y1, CAST(nn AS DOUBLE) AS n1, CASE WHEN first THEN 0 ELSE yy - y END AS y2, CASE WHEN first THEN 0 ELSE nn - n END AS n2, "+
		"CAST(coalesce(p, 0) AS DOUBLE) AS p, CAST(coalesce(q, 0) AS DOUBLE) AS q FROM totals LEFT JOIN past USING (u)), "+
		"bounded AS (SELECT arm, seg, look, first, n1, n2, q, ? AS y1, ? AS y2, ? AS p FROM ends) "+
		"SELECT seg, arm, look, CAST(count(*) FILTER (WHERE first) AS DOUBLE), "+products+" FROM bounded GROUP BY seg, arm, look", steps, cut("y1", "n1"), cut("y2", "n2"), cut("p", "q")), func(rows *sql.Rows) error {
		var seg, variant string
		var look int64
		var m Moments
		var past [5]sql.NullFloat64
		t, p := &m.Third, &m.Past
		if err := rows.Scan(&seg, &variant, &look, &m.Users, &m.N, &m.Y, &m.NN, &m.YY, &m.NY, &t.NNN, &t.NNY, &t.NYY, &t.YYY,
			&past[0], &past[1], &past[2], &past[3], &past[4], &p.YP, &p.YQ, &p.NP, &p.NQ); err != nil {
			return fmt.Errorf("scan sums: %w", err)
		}
		p.P, p.Q, p.PP, p.QQ, p.PQ = past[0].Float64, past[1].Float64, past[2].Float64, past[3].Float64, past[4].Float64
		if at, ok := x.at[[2]string{seg, variant}]; ok {
			if out[at] == nil {
				out[at] = make(map[int64]Moments)
			}
			out[at][look] = m
		}
		return nil
	})
	return out, err
}

// limits are the bounds of an amount: percentiles of all users' ratios, without
// regard to their variant, at the first look at which each variant has the users that
// the experiment starts with. Later data does not change them. Where nearly all users
// have nothing they are the extremes at that look.
func (x *experimentReader) limits(ctx context.Context, steps sqlf.Fragment, looks map[int]map[int64]Moments) (out stats.Scale, err error) {
	start := startOf(looks, len(x.q.Variants), x.q.MinUsers)
	err = x.r.each(ctx, sqlf.New(fmt.Sprintf("? SELECT quantile_cont(r, %g), quantile_cont(r, %g), max(r), min(r) FROM (SELECT CAST(sum(y) AS DOUBLE) / sum(n) AS r FROM steps WHERE look <= %d GROUP BY u HAVING sum(n) > 0)", winsorised, 1-winsorised, start), steps), func(rows *sql.Rows) error {
		var high, low, most, least sql.NullFloat64
		if err := rows.Scan(&high, &low, &most, &least); err != nil {
			return fmt.Errorf("scan limits: %w", err)
		}
		out = stats.Scale{Low: min(0, low.Float64), High: max(0, high.Float64)}
		if !out.Bounded() {
			out = stats.Scale{Low: min(0, least.Float64), High: max(0, most.Float64)}
		}
		return nil
	})
	return out, err
}

// startOf is the first look at which each variant has so many users; the last look where
// there is none.
func startOf(looks map[int]map[int64]Moments, variants int, users int64) int64 {
	var start int64
	reached := 0
	for _, of := range looks {
		var have float64
		for _, n := range slices.Sorted(maps.Keys(of)) {
			if have += of[n].Users; have >= float64(users) {
				reached++
				start = max(start, n)
				break
			}
		}
	}
	if reached >= variants {
		return start
	}
	for _, of := range looks {
		for n := range of {
			start = max(start, n)
		}
	}
	return start
}
