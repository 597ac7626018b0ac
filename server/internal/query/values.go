package query

import (
	"context"
	"database/sql"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// Value is something that a filter menu can offer.
type Value struct {
	Value  string `json:"value"`
	Events int64  `json:"events"` // that bear it
}

const (
	valuesRange = 30 * 24 * time.Hour
	maxValues   = 100
)

var valueExprs = map[string]string{
	"event":          "name",
	"provider":       "provider",
	"model":          modelExpr,
	"model_asked":    askedExpr,
	"operation":      "operation",
	"surface":        "surface",
	"user":           "distinct_id",
	"prompt_name":    "prompt_name",
	"prompt_version": versionExpr,
	"status":         "status",
	"error_type":     "error_type",
	"task_type":      "task_type",
	"environment":    "environment",
}

// FilterValues lists the values that a field had in the last 30 days, the most
// frequent first, at most 100. Fields: event, provider, model, model_asked, operation,
// surface, user, prompt_name, prompt_version, status, error_type, task_type,
// environment, tag.
func (r *Reader) FilterValues(ctx context.Context, project, field string) ([]Value, error) {
	expr := valueExprs[field]
	if field == "tag" {
		expr = r.sql.tags
	}
	if expr == "" {
		return nil, event.Invalid("this field has no list of values", "use event, provider, model, model_asked, operation, surface, user, prompt_name, prompt_version, status, error_type, task_type, environment or tag")
	}
	from, args, err := r.valuesFrom(ctx, project, field, expr)
	if err != nil {
		return nil, err
	}
	values := []Value{}
	err = r.store.Read(ctx, func(rows *sql.Rows) error {
		for rows.Next() {
			var v Value
			if err := rows.Scan(&v.Value, &v.Events); err != nil {
				return err
			}
			values = append(values, v)
		}
		return nil
	}, "SELECT v, "+r.sql.bigint("sum(n)")+" AS events FROM "+from+" WHERE v IS NOT NULL GROUP BY v ORDER BY events DESC, v LIMIT ?", append(args, maxValues)...)
	return values, err
}

// valuesFrom is a table expression of values v and how many events n bear them,
// more than once each: of a roll-up where there is one.
func (r *Reader) valuesFrom(ctx context.Context, project, field, expr string) (string, []any, error) {
	f := Filter{From: r.now().Add(-valuesRange), To: endOfTime}
	c, err := r.cover(ctx, project)
	if err != nil {
		return "", nil, err
	}
	p, err := r.rolledPlan(ctx, project, c, &f, GroupBy(field), nil)
	if err != nil {
		return "", nil, err
	}
	if p.ok {
		from, err := r.eventsSource(ofAll, project, &f, p.dim, p, "n")
		return "(SELECT nullif(value, '') AS v, n FROM " + from.sql + ")", from.args, err
	}
	if field == string(ByUser) {
		from, err := r.parts(project, f, c, "events")
		return "(SELECT " + expr + " AS v, events AS n FROM " + from.sql + ")", from.args, err
	}
	w, err := r.where(project, &f)
	if err != nil {
		return "", nil, err
	}
	return "(SELECT " + expr + " AS v, 1 AS n FROM events " + w.String() + ")", w.args, nil
}

// endOfTime is after every timestamp, and the end of a slot.
var endOfTime = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
