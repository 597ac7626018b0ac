package query

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query/sqlf"
)

// propertyRows bounds how many events of a day are checked.
const propertyRows = 50_000

// EachProperties calls f with the properties of a project's events since a time,
// up to 50,000 events of each day, the latest day first. Only name, source, trace
// id and properties of the events are set.
func (r *Reader) EachProperties(ctx context.Context, project string, since time.Time, f func(*event.Event)) error {
	for to := r.now().UTC().Add(time.Minute); to.After(since); to = to.AddDate(0, 0, -1) {
		from := to.AddDate(0, 0, -1)
		if from.Before(since) {
			from = since
		}
		err := r.each(ctx, sqlf.New("SELECT name, source, trace_id, properties FROM events WHERE project_id = ? AND ts >= ? AND ts < ? AND properties IS NOT NULL LIMIT ?", project, from, to, propertyRows), func(rows *sql.Rows) error {
			var name, source, trace, properties sql.NullString
			if err := rows.Scan(&name, &source, &trace, &properties); err != nil {
				return err
			}
			e := &event.Event{Name: name.String, Source: source.String, TraceID: trace.String, ProjectID: project}
			if json.Unmarshal([]byte(properties.String), &e.Properties) == nil && len(e.Properties) > 0 {
				f(e)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
