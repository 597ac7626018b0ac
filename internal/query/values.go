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
	w, err := r.where(project, &Filter{From: r.now().Add(-valuesRange)})
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
	}, "SELECT v, count(*) AS events FROM (SELECT "+expr+" AS v FROM events "+w.String()+") WHERE v IS NOT NULL GROUP BY v ORDER BY events DESC, v LIMIT ?",
		append(w.args, maxValues)...)
	return values, err
}
