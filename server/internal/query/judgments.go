package query

import (
	"context"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query/sqlf"
)

// MaxJudgments is the limit of [Reader.Judgments].
const MaxJudgments = 500

// Judgments lists the results of checks, judges and people for a trace: its
// outcomes, the oldest first. Those that name a call have its span id as
// ParentID.
func (r *Reader) Judgments(ctx context.Context, project, traceID string) ([]*Event, error) {
	if traceID == "" {
		return nil, event.Invalid("the trace id is empty", "")
	}
	w, err := r.where(project, &Filter{TraceID: traceID, Kind: KindOutcomes})
	if err != nil {
		return nil, err
	}
	found, err := r.find(ctx, r.allEvents(), w, sqlf.Column("ts"), "ASC", MaxJudgments)
	if err != nil || len(found) == 0 {
		return []*Event{}, err
	}
	rows, less, err := r.light(ctx, found)
	if err != nil {
		return nil, err
	}
	out := make([]*Event, len(rows))
	for i, row := range rows {
		out[i] = newEvent(row)
		out[i].LeftOut = less[out[i].UUID]
	}
	return out, nil
}
