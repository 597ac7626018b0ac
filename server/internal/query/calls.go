package query

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query/sqlf"
	"github.com/hedgerow/hedgerow/server/internal/store"
)

// How many events [Reader.OfTraces] returns, and how many traces it checks
// because of ids.
const (
	ofTracesLimit = 5_000
	tracesOfIDs   = 500
)

// OfTraces returns the calls, spans and roots of a project's traces, and the
// calls that have one of the ids as span id, uuid, completion id or request_id,
// with the rest of their traces, in a time range and without content: up to
// 5,000, calls first, then by time. whole is false if there are more.
func (r *Reader) OfTraces(ctx context.Context, project string, traces, ids []string, from, to time.Time) (out []*event.Event, whole bool, err error) {
	steps := sqlf.New("project_id = ? AND ts >= ? AND ts <= ? AND (name IN (?, ?, ?) OR ?) AND trace_id IS NOT NULL", project, from.UTC(), to.UTC(), event.Span, event.Trace, event.RequestStarted, callExpr)
	whole = true
	if len(ids) > 0 {
		// Only their traces: a column is read for all rows.
		list := r.sql.textRows(anys(ids))
		named := sqlf.New("(span_id IN (?) OR uuid IN (SELECT TRY_CAST(unnest(CAST(? AS VARCHAR[])) AS UUID)) OR completion_id IN (?) OR ? IN (?))", list, anys(ids), list, r.constProperty("request_id"), list)
		found, err := r.texts(ctx, sqlf.New("SELECT DISTINCT trace_id FROM ? AS found WHERE ? AND ? LIMIT ?", r.allEvents().sql, steps, named, tracesOfIDs))
		if err != nil {
			return nil, false, fmt.Errorf("find calls by their ids: %w", err)
		}
		for _, trace := range found {
			if !slices.Contains(traces, trace) {
				traces = append(slices.Clip(traces), trace)
			}
		}
		whole = len(found) < tracesOfIDs
	}
	if len(traces) > 0 {
		var rows []*store.Row
		t, err := r.held(ctx, project, "trace_id", traces)
		if err == nil {
			rows, err = r.rowsOf(ctx, sqlf.New("SELECT ? FROM ? AS found WHERE ? AND ? ORDER BY CASE WHEN ? THEN 0 ELSE 1 END, ts LIMIT ?", sqlf.Raw(store.EventColumns("")), t.sql, steps, r.among("trace_id", traces), callExpr, ofTracesLimit))
		}
		if err != nil {
			return nil, false, fmt.Errorf("find the events of traces: %w", err)
		}
		for _, row := range rows {
			out = append(out, row.Event)
		}
		whole = whole && len(rows) < ofTracesLimit
	}
	return out, whole, nil
}
