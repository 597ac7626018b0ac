package query

import (
	"context"
	"database/sql"
	"time"

	"github.com/hedgerow/hedgerow/server/internal/query/sqlf"
)

// moment is the time of a snapshot: the stored and rolled up events of a
// project.
type moment struct {
	project string
	cover   *cover
	upto    time.Time // stored_at of the last event that counts
}

// Snapshot returns a Reader whose queries about a project see the same state, the
// present one: for the parts of one page or report. It also determines only once
// which events the roll-ups cover. Queries about other projects, one event, a
// trace or content see the current state, and events deleted after the snapshot
// are in no answer.
func (r *Reader) Snapshot(ctx context.Context, project string) (*Reader, error) {
	c, err := r.newCover(ctx, project)
	if err != nil {
		return nil, err
	}
	m := &moment{project: project, cover: c, upto: c.upto}
	if c.last.IsZero() {
		var last sql.NullTime
		if err := r.one(ctx, sqlf.New("SELECT max(stored_at) FROM events WHERE project_id = ?", project), &last); err != nil {
			return nil, err
		}
		m.upto = last.Time.UTC()
	}
	out := *r
	out.at = m
	return &out, nil
}

// moment is the condition of the events of a snapshot; empty without one.
func (r *Reader) moment(project string) sqlf.Fragment {
	if r.at == nil || r.at.project != project {
		return sqlf.Fragment{}
	}
	return sqlf.New("{stored_at} <= ?", r.at.upto)
}
