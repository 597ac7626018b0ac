package query

import (
	"context"
	"database/sql"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query/sqlf"
	"github.com/hedgerow/hedgerow/server/internal/store"
)

// PricedCalls selects a project's calls, to price them again.
type PricedCalls struct {
	From, To time.Time // timestamps from From, up to but not including To
	Model    string    // that answered, or was asked for; "" is any
}

func (q PricedCalls) cond(project string) sqlf.Fragment {
	w := sqlf.New("project_id = ? AND ? AND ts >= ? AND ts < ?", project, callExpr, q.From.UTC(), q.To.UTC())
	if q.Model != "" {
		w = w.Andf("(model = ? OR model_asked = ?)", q.Model, q.Model)
	}
	return w
}

// CountPricedCalls returns how many calls there are.
func (r *Reader) CountPricedCalls(ctx context.Context, project string, q PricedCalls) (n int64, err error) {
	err = r.one(ctx, sqlf.New("SELECT count(*) FROM events WHERE ?", q.cond(project)), &n)
	return n, err
}

// PricedCallsAfter returns the next calls in the order of storing, at least least of
// them if there are so many, without content, and the time of storing of the last, to
// continue from; zero begins. Calls that were stored together are returned together.
// No calls mean the end.
func (r *Reader) PricedCallsAfter(ctx context.Context, project string, q PricedCalls, after time.Time, least int) (calls []*event.Event, reached time.Time, err error) {
	cond := q.cond(project).Andf("stored_at > ?", after.UTC())
	// Rows are in the order of storing, so the engine's first rows are the next;
	// otherwise there would only be more of them.
	var last sql.NullTime
	if err := r.one(ctx, sqlf.New("SELECT max(stored_at) FROM (SELECT stored_at FROM events WHERE ? LIMIT ?)", cond, least), &last); err != nil || !last.Valid {
		return nil, after, err
	}
	rows, err := r.rows(ctx, store.EventColumns(""), cond.Andf("stored_at <= ?", last.Time.UTC()))
	if err != nil {
		return nil, after, err
	}
	for _, row := range rows {
		calls = append(calls, row.Event)
	}
	return calls, last.Time.UTC(), nil
}
