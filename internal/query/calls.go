package query

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// RecentCalls returns what tells calls apart of every project's generations,
// embeddings and spans that name a property, such as ingest.JoinedTo: the newest
// limit of those stored since a time, the oldest first. Only identity, source,
// timestamp, completion id, base URL, token counts and that property are filled.
func (r *Reader) RecentCalls(ctx context.Context, since time.Time, property string, limit int) ([]*event.Event, error) {
	var out []*event.Event
	marked := r.sql.constProperty(property)
	err := r.store.Read(ctx, func(rows *sql.Rows) error {
		for rows.Next() {
			e := new(event.Event)
			var completion, base, mark sql.NullString
			var input, output sql.NullInt64
			if err := rows.Scan(&e.UUID, &e.ProjectID, &e.Name, &e.Source, &e.Timestamp, &completion, &base, &input, &output, &mark); err != nil {
				return fmt.Errorf("scan call: %w", err)
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
	}, "SELECT CAST(uuid AS VARCHAR), project_id, name, COALESCE(source, ''), ts, completion_id, base_url, input_tokens, output_tokens, mark FROM (SELECT *, CASE WHEN name = ? THEN "+marked+" END AS mark FROM events WHERE stored_at >= ? AND name IN (?, ?, ?)) recent "+
		"WHERE name <> ? OR mark IS NOT NULL ORDER BY stored_at DESC, uuid DESC LIMIT ?", event.Span, since.UTC(), event.Generation, event.Embedding, event.Span, event.Span, limit)
	slices.Reverse(out)
	return out, err
}
