package query

import (
	"context"
	"database/sql"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query/sqlf"
)

// Value is something that a filter menu can offer.
type Value struct {
	Value  string `json:"value"`
	Events int64  `json:"events"` // that have it
}

const (
	valuesRange = 30 * 24 * time.Hour
	maxValues   = 100
)

var valueExprs = map[string]sqlf.Fragment{
	"event":          sqlf.Column("name"),
	"provider":       sqlf.Column("provider"),
	"model":          modelExpr,
	"model_asked":    askedExpr,
	"operation":      sqlf.Column("operation"),
	"surface":        sqlf.Column("surface"),
	"user":           sqlf.Column("distinct_id"),
	"prompt_name":    sqlf.Column("prompt_name"),
	"prompt_version": versionExpr,
	"status":         sqlf.Column("status"),
	"error_type":     sqlf.Column("error_type"),
	"task_type":      sqlf.Column("task_type"),
	"environment":    sqlf.Column("environment"),
}

// FilterValues lists the values that a field had in the last 30 days, the most
// frequent first, at most 100. Fields: event, provider, model, model_asked, operation,
// surface, user, prompt_name, prompt_version, status, error_type, task_type,
// environment, tag.
func (r *Reader) FilterValues(ctx context.Context, project, field string) ([]Value, error) {
	expr := valueExprs[field]
	if field == "tag" {
		expr = r.sql.tags()
	}
	if expr.IsZero() {
		return nil, event.Invalid("this field has no list of values", "use event, provider, model, model_asked, operation, surface, user, prompt_name, prompt_version, status, error_type, task_type, environment or tag")
	}
	from, err := r.valuesFrom(ctx, project, field, expr)
	if err != nil {
		return nil, err
	}
	values := []Value{}
	err = r.each(ctx, sqlf.New("SELECT v, ? AS events FROM (?) WHERE v IS NOT NULL GROUP BY v ORDER BY events DESC, v LIMIT ?", sqlf.New(r.sql.bigint, sqlf.Raw("sum(n)")), from, maxValues), func(rows *sql.Rows) error {
		var v Value
		err := rows.Scan(&v.Value, &v.Events)
		values = append(values, v)
		return err
	})
	return values, err
}

// valuesFrom is a query for values v and how many events n have them, more than
// once each: of a roll-up where there is one.
func (r *Reader) valuesFrom(ctx context.Context, project, field string, expr sqlf.Fragment) (sqlf.Fragment, error) {
	var none sqlf.Fragment
	f := Filter{From: r.now().Add(-valuesRange), To: endOfTime}
	c, err := r.cover(ctx, project)
	if err != nil {
		return none, err
	}
	p, err := r.rolledPlan(ctx, project, c, &f, GroupBy(field), nil)
	if err != nil {
		return none, err
	}
	if p.ok {
		from, err := r.eventsSource(ofAll, project, &f, p.dim, p, sqlf.Column("n"))
		return sqlf.New("SELECT nullif(value, '') AS v, n FROM ?", from.sql), err
	}
	if field == string(ByUser) {
		from, err := r.parts(project, f, c, sqlf.Column("events"))
		return sqlf.New("SELECT ? AS v, events AS n FROM ?", expr, from), err
	}
	w, err := r.where(project, &f)
	return sqlf.New("SELECT ? AS v, 1 AS n FROM events WHERE ?", expr, w), err
}

// endOfTime is after every timestamp, and the end of a slot.
var endOfTime = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
