package query

import (
	"context"
	"database/sql"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query/sqlf"
)

// Found is what a list of events has on all its pages together.
type Found struct {
	Events  int64  // how many
	Figure  Number // of a query with a Point: its measure over these events
	AtLeast bool   // some calls are incompletely priced: Figure is the least that it can be
}

// Found counts the events of a list and computes the figure of its point, from these
// events alone: roll-ups, of which charts are made, have no part in it. Quantiles of a
// store with roll-ups are as approximate as those of charts.
func (r *Reader) Found(ctx context.Context, q EventsQuery) (*Found, error) {
	if q.amongOutcomes() {
		q.Filter = *q.Filter.ofOutcomes()
	}
	from, w, err := r.eventsFrom(ctx, &q)
	if err != nil {
		return nil, err
	}
	if column := r.column(&q); !column.IsZero() {
		w = w.And(isKnown(column))
	}
	out := new(Found)
	if err := r.one(ctx, sqlf.New("SELECT count(*) FROM ? WHERE ?", from.sql, w), &out.Events); err != nil || q.Point == nil {
		return out, err
	}
	if out.Figure, err = r.figure(ctx, &q, *q.Point); err != nil {
		return nil, err
	}
	if m := q.Point.Measure; out.Figure.Known && (m == CostUSD || m == CostPerTask) {
		p := *q.Point
		p.Measure = IncompleteCalls
		n, err := r.figure(ctx, &q, p)
		out.AtLeast = n.Value > 0
		return out, err
	}
	return out, nil
}

// figure computes the measure of a point from its events.
func (r *Reader) figure(ctx context.Context, q *EventsQuery, p Point) (Number, error) {
	t := r.ofOutcome().terms(p.LatencyOf, p.Event)
	m, err := t.measure(p.Measure)
	if err != nil {
		return Number{}, err
	}
	if m.parts != nil {
		var of [2]Number
		for i, part := range m.parts {
			p.Measure = part
			if of[i], err = r.figure(ctx, q, p); err != nil {
				return Number{}, err
			}
		}
		return Number{Value: of[0].Value / max(of[1].Value, 1), Known: of[0].Known && of[1].Value > 0}, nil
	}
	from, w, c, err := r.pointed(ctx, q.Project, &q.Filter, &p, sqlf.Join(" ", m.y, m.n))
	if err != nil {
		return Number{}, err
	}
	if m.what != "" {
		return r.quantileOf(ctx, q.Project, m, from, w)
	}
	value := countOf(c.shown)
	switch {
	case !m.n.IsZero():
		value = sqlf.New("CAST(sum(?) AS DOUBLE) / nullif(sum(?), 0)", m.y, m.n)
	case !m.y.IsZero():
		value = total(m.y)
	case m.unit != "" && p.Measure != Users || p.Measure == EventShare:
		value = sqlf.New("CAST(? AS DOUBLE) / nullif(count(*), 0)", value)
	}
	var n sql.NullFloat64
	if err := r.one(ctx, sqlf.New("SELECT CAST(? AS DOUBLE) FROM ? WHERE ?", value, from.sql, w), &n); err != nil {
		return Number{}, err
	}
	return Number{Value: n.Float64, Known: n.Valid || p.Measure.Info().Zero}, nil
}

// quantileOf is the quantile of a duration: of bins where there are roll-ups, as charts
// have it.
func (r *Reader) quantileOf(ctx context.Context, project string, m measure, from table, w sqlf.Fragment) (Number, error) {
	c, err := r.cover(ctx, project)
	if err != nil {
		return Number{}, err
	}
	if c.last.IsZero() {
		var us sql.NullFloat64
		err := r.one(ctx, sqlf.New("SELECT quantile_cont(?, CAST(? AS DOUBLE)) FROM ? WHERE ?", m.order, shares[m.pick], from.sql, w), &us)
		return Number{Value: us.Float64 / 1000, Known: us.Valid}, err
	}
	var b bins
	err = r.each(ctx, sqlf.New("SELECT ? AS bin, count(*) FROM ? WHERE ? GROUP BY bin", binOf(m.order), from.sql, w), func(rows *sql.Rows) error {
		var bin, n int64
		if err := rows.Scan(&bin, &n); err != nil {
			return err
		}
		one := make(bins, min(bin, maxBin)+2)
		one[len(one)-1] = n
		b = b.plus(one)
		return nil
	})
	us := b.quantile(shares[m.pick])
	return event.Opt[float64]{Value: us.Value / 1000, Known: us.Known}, err
}
