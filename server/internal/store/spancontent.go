package store

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// A span's messages from log records ([event.SpanContent]) and the span's own
// event arrive in any order, in one write or in several. Table span_content
// keeps the messages, so that the two are joined in either order: in Write for
// a later span, and here for a stored one. The span's own content takes
// precedence.

// spanContentKeep is how long content waits for its span, and how long a stored
// span accepts content. Exporters send both within seconds.
const spanContentKeep = time.Hour

// createSpanContent creates the table of log records' content.
const createSpanContent = `
CREATE TABLE span_content ( -- kept for an hour: see spancontent.go
	uuid UUID NOT NULL,
	project_id VARCHAR NOT NULL,
	trace_id VARCHAR NOT NULL,
	span_id VARCHAR NOT NULL,
	ts TIMESTAMP NOT NULL,
	stored_at TIMESTAMP NOT NULL,
	body BLOB NOT NULL
);`

// spanKey names a span.
type spanKey struct{ project, trace, span string }

func spanKeyOf(e *event.Event) spanKey { return spanKey{e.ProjectID, e.TraceID, e.SpanID} }

// splitSpanContent separates span content from a batch. events is not changed.
func splitSpanContent(events []*event.Event) (rows, contents []*event.Event) {
	at := 0
	for at < len(events) && !events[at].IsSpanContent() {
		at++
	}
	if at == len(events) {
		return events, nil
	}
	rows = append(make([]*event.Event, 0, len(events)), events[:at]...)
	for _, e := range events[at:] {
		switch {
		case !e.IsSpanContent():
			rows = append(rows, e)
		case !e.Content.IsZero() && e.TraceID != "" && e.SpanID != "": // else the project keeps no content
			contents = append(contents, e)
		}
	}
	return rows, contents
}

// meetSpanContent keeps the content, completes the rows that are about to be
// stored and those that are. It runs inside the transaction of a write.
func (d *DuckDB) meetSpanContent(ctx context.Context, conn *sql.Conn, contents []*event.Event, fresh []*encoded, now time.Time) error {
	if len(contents) == 0 && !d.hasSpanContent.Load() {
		return nil
	}
	added := make(map[string]bool)
	keys := make(map[spanKey]bool)
	for _, e := range contents {
		res, err := conn.ExecContext(ctx, "INSERT INTO span_content SELECT CAST(? AS UUID), ?, ?, ?, ?, ?, ? WHERE NOT EXISTS (SELECT 1 FROM span_content WHERE uuid = CAST(? AS UUID))",
			e.UUID, e.ProjectID, e.TraceID, e.SpanID, e.Timestamp.UTC(), now, newBody(&e.Content), e.UUID)
		if err != nil {
			return fmt.Errorf("store span content: %w", err)
		}
		if n, err := res.RowsAffected(); err == nil && n > 0 {
			added[e.UUID] = true
			keys[spanKeyOf(e)] = true
		}
	}
	if len(contents) > 0 {
		d.hasSpanContent.Store(true)
	}
	coming := make(map[spanKey]*encoded)
	for _, r := range fresh {
		if e := r.row.Event; e.Source == event.SourceOTLP && e.TraceID != "" && e.SpanID != "" && !e.Private {
			coming[spanKeyOf(e)] = r
		}
	}
	pieces, err := d.piecesOf(ctx, conn, keys, coming, added)
	if err != nil || len(pieces) == 0 {
		return err
	}
	var stored []spanKey
	for key, p := range pieces {
		r := coming[key]
		if r == nil {
			stored = append(stored, key)
			continue
		}
		c := r.row.Event.Content
		if fill(&c, event.Content{}, p.all) {
			r.row.Event.Content, r.row.ContentBytes, r.body = c, int64(c.Size()), newBody(&c)
			r.values[contentBytesColumn] = r.row.ContentBytes
		}
	}
	return completeStored(ctx, conn, pieces, stored, now)
}

// pieces is the content of one span, in order: all of it, and without the new
// part.
type pieces struct{ all, before event.Content }

// piecesOf returns the content of the spans that are named by keys or coming.
func (d *DuckDB) piecesOf(ctx context.Context, conn *sql.Conn, keys map[spanKey]bool, coming map[spanKey]*encoded, added map[string]bool) (map[spanKey]*pieces, error) {
	var traces []string
	for key := range keys {
		traces = append(traces, key.trace)
	}
	for key := range coming {
		traces = append(traces, key.trace)
	}
	if len(traces) == 0 {
		return nil, nil
	}
	rows, err := conn.QueryContext(ctx, "SELECT CAST(uuid AS VARCHAR), project_id, trace_id, span_id, body FROM span_content WHERE trace_id IN (SELECT unnest(string_split(?, ','))) ORDER BY ts, stored_at, uuid", strings.Join(traces, ","))
	if err != nil {
		return nil, fmt.Errorf("look up span content: %w", err)
	}
	defer rows.Close()
	out := make(map[spanKey]*pieces)
	for rows.Next() {
		var id string
		var key spanKey
		var body []byte
		if err := rows.Scan(&id, &key.project, &key.trace, &key.span, &body); err != nil {
			return nil, fmt.Errorf("look up span content: %w", err)
		}
		if !keys[key] && coming[key] == nil {
			continue
		}
		c, err := DecodeContent(body)
		if err != nil {
			continue // damaged content is ignored
		}
		p := out[key]
		if p == nil {
			p = &pieces{}
			out[key] = p
		}
		p.all = joinContent(p.all, c)
		if !added[id] {
			p.before = joinContent(p.before, c)
		}
	}
	return out, rows.Err()
}

// completeStored adds their content to stored spans.
func completeStored(ctx context.Context, conn *sql.Conn, contents map[spanKey]*pieces, keys []spanKey, now time.Time) error {
	if len(keys) == 0 {
		return nil
	}
	traces := make([]string, len(keys))
	for i, key := range keys {
		traces[i] = key.trace
	}
	// stored_at lets the engine skip row groups.
	rows, err := conn.QueryContext(ctx, "SELECT CAST(e.uuid AS VARCHAR), e.project_id, e.trace_id, e.span_id, e.stored_at, c.body FROM events e LEFT JOIN content c ON c.uuid = e.uuid AND c.stored_at >= ?"+
		" WHERE e.stored_at >= ? AND e.source = ? AND NOT coalesce(e.private, false) AND e.trace_id IN (SELECT unnest(string_split(?, ',')))",
		now.Add(-spanContentKeep), now.Add(-spanContentKeep), event.SourceOTLP, strings.Join(traces, ","))
	if err != nil {
		return fmt.Errorf("look up spans with content: %w", err)
	}
	type change struct {
		id, project string
		storedAt    time.Time
		content     event.Content
	}
	var changes []change
	err = func() error {
		defer rows.Close()
		for rows.Next() {
			var id string
			var key spanKey
			var storedAt time.Time
			var body []byte
			if err := rows.Scan(&id, &key.project, &key.trace, &key.span, &storedAt, &body); err != nil {
				return err
			}
			p := contents[key]
			if p == nil {
				continue
			}
			var c event.Content
			if body != nil {
				if c, err = DecodeContent(body); err != nil {
					continue
				}
			}
			if fill(&c, p.before, p.all) {
				changes = append(changes, change{id, key.project, storedAt.UTC(), c})
			}
		}
		return rows.Err()
	}()
	if err != nil {
		return fmt.Errorf("look up spans with content: %w", err)
	}
	for _, ch := range changes {
		for _, s := range []struct {
			statement string
			args      []any
		}{
			{"DELETE FROM content WHERE uuid = CAST(? AS UUID) AND stored_at = ?", []any{ch.id, ch.storedAt}},
			{"INSERT INTO content VALUES (CAST(? AS UUID), ?, ?, ?)", []any{ch.id, ch.project, ch.storedAt, newBody(&ch.content)}},
			{"UPDATE events SET content_bytes = ? WHERE uuid = CAST(? AS UUID) AND stored_at = ?", []any{ch.content.Size(), ch.id, ch.storedAt}},
		} {
			if _, err := conn.ExecContext(ctx, s.statement, s.args...); err != nil {
				return fmt.Errorf("complete a span: %w", err)
			}
		}
	}
	return nil
}

// fill sets parts of c that it does not have itself. A part that equals
// earlier content was set from it, and is replaced by all of it.
func fill(c *event.Content, before, all event.Content) (changed bool) {
	to, was, is := contentParts(c), contentParts(&before), contentParts(&all)
	for i := range to {
		if len(*is[i]) == 0 || len(*to[i]) > 0 && (len(*was[i]) == 0 || !bytes.Equal(*to[i], *was[i])) || bytes.Equal(*to[i], *is[i]) {
			continue
		}
		*to[i] = *is[i]
		changed = true
	}
	return changed
}

// joinContent appends b's content to a's: lists of messages are concatenated,
// other parts keep a's value. It stops at the size limit of an event.
func joinContent(a, b event.Content) event.Content {
	if a.Size()+b.Size() > event.MaxEventBytes {
		return a
	}
	to, more := contentParts(&a), contentParts(&b)
	for i := range to {
		*to[i] = joinLists(*to[i], *more[i])
	}
	return a
}

func joinLists(a, b json.RawMessage) json.RawMessage {
	x, y := bytes.TrimSpace(a), bytes.TrimSpace(b)
	switch {
	case len(x) == 0:
		return b
	case len(y) == 0 || bytes.Equal(x, y):
		return a
	case x[0] != '[' || y[0] != '[' || len(bytes.TrimSpace(y[1:len(y)-1])) == 0:
		return a
	case len(bytes.TrimSpace(x[1:len(x)-1])) == 0:
		return b
	}
	out := append(make([]byte, 0, len(x)+len(y)), x[:len(x)-1]...)
	return append(append(out, ','), y[1:]...)
}

// pruneSpanContent deletes expired span content, and that of projects that
// keep no content.
func (d *DuckDB) pruneSpanContent(ctx context.Context, now time.Time, gone []string) error {
	if !d.hasSpanContent.Load() {
		return nil
	}
	return d.exclusive(ctx, func(e *engine) error {
		return d.transaction(ctx, e, func(conn *sql.Conn) error {
			var left int
			_, err := conn.ExecContext(ctx, "DELETE FROM span_content WHERE stored_at < ? OR project_id IN (SELECT unnest(string_split(?, ',')))", now.Add(-spanContentKeep), strings.Join(gone, ","))
			if err == nil {
				err = conn.QueryRowContext(ctx, "SELECT count(*) FROM span_content").Scan(&left)
			}
			if err == nil && left == 0 {
				d.hasSpanContent.Store(false)
			}
			return err
		})
	})
}
