package query

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/store"
)

// RecentCalls returns what tells calls apart of every project's generations,
// embeddings and spans that name a property, such as ingest.JoinedTo: the newest
// limit of those stored since a time, the oldest first. Only identity, source,
// timestamp, provider, models, latency, completion id, base URL, token counts and that property are filled.
func (r *Reader) RecentCalls(ctx context.Context, since time.Time, property string, limit int) ([]*event.Event, error) {
	var out []*event.Event
	marked := r.sql.constProperty(property)
	err := r.store.Read(ctx, func(rows *sql.Rows) error {
		for rows.Next() {
			e := new(event.Event)
			var completion, base, mark sql.NullString
			var input, output sql.NullInt64
			var latency sql.NullInt64
			if err := rows.Scan(&e.UUID, &e.ProjectID, &e.Name, &e.Source, &e.Timestamp, &e.Provider, &e.ModelAsked, &e.Model, &latency, &completion, &base, &input, &output, &mark); err != nil {
				return fmt.Errorf("scan call: %w", err)
			}
			if latency.Valid {
				e.Latency = event.Some(time.Duration(latency.Int64) * time.Microsecond)
			}
			e.CompletionID, e.BaseURL = completion.String, base.String
			e.Usage.Input, e.Usage.Output = event.Int{Value: input.Int64, Known: input.Valid}, event.Int{Value: output.Int64, Known: output.Valid}
			if mark.Valid {
				quoted, err := json.Marshal(mark.String)
				if err != nil {
					return fmt.Errorf("scan call: %w", err)
				}
				e.Properties = map[string]json.RawMessage{property: quoted}
			}
			out = append(out, e)
		}
		return nil
	}, "SELECT CAST(uuid AS VARCHAR), project_id, name, COALESCE(source, ''), ts, COALESCE(provider, ''), COALESCE(model_asked, ''), COALESCE(model, ''), latency_us, completion_id, base_url, input_tokens, output_tokens, mark FROM (SELECT *, CASE WHEN name = ? THEN "+marked+" END AS mark FROM events WHERE stored_at >= ? AND name IN (?, ?, ?)) recent "+
		"WHERE name <> ? OR mark IS NOT NULL ORDER BY stored_at DESC, uuid DESC LIMIT ?", event.Span, since.UTC(), event.Generation, event.Embedding, event.Span, event.Span, limit)
	slices.Reverse(out)
	return out, err
}

// How many events [Reader.OfTraces] returns, and how many traces it looks at because
// of ids.
const (
	ofTracesLimit = 5_000
	tracesOfIDs   = 500
)

// OfTraces returns the calls, spans and roots of a project's traces, and the calls
// that have one of the ids as span id, uuid, completion id or request_id, with the
// rest of their traces, from a time range and without content: 5,000, calls first
// and the earliest of them. It is not whole where there are more.
func (r *Reader) OfTraces(ctx context.Context, project string, traces, ids []string, from, to time.Time) (out []*event.Event, whole bool, err error) {
	steps := "project_id = ? AND ts >= ? AND ts <= ? AND (name IN (?, ?, ?) OR " + callExpr + ") AND trace_id IS NOT NULL AND "
	args := []any{project, from.UTC(), to.UTC(), event.Span, event.Trace, event.RequestStarted}
	const listed = " IN (SELECT unnest(CAST(? AS VARCHAR[])))"
	whole = true
	read := func(t table, cond string, more ...any) error {
		rows, err := r.rows(ctx, "SELECT "+store.EventColumns("")+" FROM "+t.sql+" AS found WHERE "+steps+cond+" ORDER BY CASE WHEN "+callExpr+" THEN 0 ELSE 1 END, ts LIMIT "+strconv.Itoa(ofTracesLimit), slices.Concat(t.args, args, more)...)
		for _, row := range rows {
			out = append(out, row.Event)
		}
		whole = whole && len(rows) < ofTracesLimit
		return err
	}
	if len(ids) > 0 {
		// Their traces alone: what is read of a column is read of all its rows.
		list, t := anys(ids), r.allEvents()
		n := 0
		err := r.store.Read(ctx, func(rows *sql.Rows) error {
			for ; rows.Next(); n++ {
				var trace string
				if err := rows.Scan(&trace); err != nil {
					return err
				}
				if !slices.Contains(traces, trace) {
					traces = append(slices.Clip(traces), trace)
				}
			}
			return nil
		}, "SELECT DISTINCT trace_id FROM "+t.sql+" AS found WHERE "+steps+"(span_id"+listed+" OR uuid IN (SELECT TRY_CAST(unnest(CAST(? AS VARCHAR[])) AS UUID)) OR completion_id"+listed+" OR "+r.sql.constProperty("request_id")+listed+") LIMIT "+strconv.Itoa(tracesOfIDs),
			slices.Concat(t.args, args, []any{list, list, list, list})...)
		if err != nil {
			return nil, false, fmt.Errorf("find calls by their ids: %w", err)
		}
		whole = n < tracesOfIDs
	}
	if len(traces) > 0 {
		t, err := r.held(ctx, project, "trace_id", traces)
		if err == nil {
			err = read(t, "trace_id"+listed, anys(traces))
		}
		if err != nil {
			return nil, false, fmt.Errorf("find the events of traces: %w", err)
		}
	}
	return out, whole, nil
}

func anys(list []string) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}
