package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/join"
)

// A merge ([event.Merge]) and its two captures arrive in any order, in one write or in
// several. Table merges keeps the merges, so that the call's row is the same in every
// order: Write stores a capture with the changes of its merges, and a merge changes a
// stored row. If the journal redelivers the other capture, it is not stored again.

// createMerges creates the table of merges.
const createMerges = `
CREATE TABLE IF NOT EXISTS merges ( -- kept as long as deleted_events
	uuid UUID NOT NULL,
	project_id VARCHAR NOT NULL,
	call UUID NOT NULL,
	half UUID NOT NULL,
	late BOOLEAN NOT NULL,
	trace_before VARCHAR, -- of the call, if the merge changes it
	trace_id VARCHAR,
	stored_at TIMESTAMP NOT NULL,
	body BLOB NOT NULL -- the merge's frame
);`

// merging is a merge and its event.
type merging struct {
	join.Merge
	event *event.Event
}

// splitMerges separates merges from other events. It does not change events.
func splitMerges(events []*event.Event) (rows []*event.Event, merges []merging) {
	for i, e := range events {
		if !e.IsMerge() {
			if rows != nil {
				rows = append(rows, e)
			}
			continue
		}
		if rows == nil {
			rows = append(make([]*event.Event, 0, len(events)), events[:i]...)
		}
		if m, ok := join.MergeOf(e); ok {
			merges = append(merges, merging{m, e})
		}
	}
	if rows == nil {
		return events, nil
	}
	return rows, merges
}

// mergesOf returns the merges of captures by uuid, in order.
func mergesOf(ctx context.Context, conn *sql.Conn, list string) (map[string][]merging, error) {
	rows, err := conn.QueryContext(ctx, "WITH listed AS MATERIALIZED ("+listedUUIDs+" AS u) SELECT body FROM merges WHERE call IN (SELECT u FROM listed) OR half IN (SELECT u FROM listed) ORDER BY stored_at, uuid", list)
	if err != nil {
		return nil, fmt.Errorf("look up merges: %w", err)
	}
	defer rows.Close()
	out := make(map[string][]merging)
	for rows.Next() {
		var body []byte
		if err := rows.Scan(&body); err != nil {
			return nil, fmt.Errorf("look up merges: %w", err)
		}
		e, err := event.DecodeFrame(body)
		if err != nil {
			continue // damaged
		}
		if m, ok := join.MergeOf(e); ok {
			out[m.Call] = append(out[m.Call], merging{m, e})
			out[m.Other] = append(out[m.Other], merging{m, e})
		}
	}
	return out, rows.Err()
}

// SentAs returns, of the events of a project, those that PostHog has under another uuid,
// with that uuid: it is of the capture that was sent before a late merge.
func (d *DuckDB) SentAs(ctx context.Context, project string, uuids []string) (map[string]string, error) {
	if !d.hasMerges.Load() || len(uuids) == 0 {
		return nil, nil
	}
	out := make(map[string]string)
	err := d.Read(ctx, func(rows *sql.Rows) error {
		for rows.Next() {
			var body []byte
			if err := rows.Scan(&body); err != nil {
				return err
			}
			e, err := event.DecodeFrame(body)
			if err != nil {
				continue // damaged
			}
			if m, ok := join.MergeOf(e); ok && m.Sent != m.Call {
				out[m.Call] = m.Sent
			}
		}
		return nil
	}, "SELECT body FROM merges WHERE project_id = ? AND late AND call IN ("+listedUUIDs+") ORDER BY stored_at, uuid", project, strings.Join(uuids, ","))
	if err != nil {
		return nil, fmt.Errorf("look up merges: %w", err)
	}
	return out, nil
}

// MergesOf returns the merges of an event of a project, in order.
func (d *DuckDB) MergesOf(ctx context.Context, project, uuid string) (merges []*event.Event, err error) {
	if !d.hasMerges.Load() {
		return nil, nil
	}
	err = d.Read(ctx, func(rows *sql.Rows) error {
		for rows.Next() {
			var body []byte
			if err := rows.Scan(&body); err != nil {
				return err
			}
			if e, err := event.DecodeFrame(body); err == nil {
				merges = append(merges, e)
			}
		}
		return nil
	}, "SELECT body FROM merges WHERE project_id = ? AND (call = TRY_CAST(? AS UUID) OR half = TRY_CAST(? AS UUID)) ORDER BY stored_at, uuid", project, uuid, uuid)
	if err != nil {
		return nil, fmt.Errorf("look up merges: %w", err)
	}
	return merges, nil
}

// MergesFrom returns the merges that moved calls out of one of a project's traces, the
// last one first.
func (d *DuckDB) MergesFrom(ctx context.Context, project string, traces []string) (merges []*event.Event, err error) {
	if !d.hasMerges.Load() || len(traces) == 0 {
		return nil, nil
	}
	list := make([]any, len(traces))
	for i, t := range traces {
		list[i] = t
	}
	err = d.Read(ctx, func(rows *sql.Rows) error {
		for rows.Next() {
			var body []byte
			if err := rows.Scan(&body); err != nil {
				return err
			}
			if e, err := event.DecodeFrame(body); err == nil {
				merges = append(merges, e)
			}
		}
		return nil
	}, "SELECT body FROM merges WHERE project_id = ? AND trace_before IN (SELECT unnest(CAST(? AS VARCHAR[]))) ORDER BY stored_at DESC, uuid DESC", project, list)
	if err != nil {
		return nil, fmt.Errorf("look up merges of traces: %w", err)
	}
	return merges, nil
}

// LateMerges counts the merges of a project ("" is every project) since a time whose
// first capture may have been sent to PostHog before the second came.
func (d *DuckDB) LateMerges(ctx context.Context, project string, since time.Time) (n int64, err error) {
	if !d.hasMerges.Load() {
		return 0, nil
	}
	err = d.Read(ctx, func(rows *sql.Rows) error {
		rows.Next()
		return rows.Scan(&n)
	}, "SELECT count(*) FROM merges WHERE (? = '' OR project_id = ?) AND late AND stored_at >= ?", project, project, since.UTC())
	if err != nil {
		return 0, fmt.Errorf("count late merges: %w", err)
	}
	return n, nil
}

// meetMerges stores new merges, applies all merges to the rows that are about to be
// stored, and removes stored rows that must be stored again. It returns the rows to
// store, and of these those that replace others. If a capture was deleted, its merge
// deletes the other capture as well. It runs inside the transaction of a write.
func (d *DuckDB) meetMerges(ctx context.Context, conn *sql.Conn, merges []merging, fresh []*encoded, now time.Time) (rows, replaced []*encoded, err error) {
	if len(merges) == 0 && !d.hasMerges.Load() {
		return fresh, nil, nil
	}
	var added []merging
	erased := make(map[string]bool) // captures of deleted calls
	for _, m := range merges {
		gone, err := d.eraseOther(ctx, conn, m, now)
		if err != nil {
			return nil, nil, fmt.Errorf("delete the other capture of a call: %w", err)
		}
		if gone {
			erased[m.Call], erased[m.Other] = true, true
			added = append(added, m)
			continue
		}
		body, err := m.event.AppendFrame(nil)
		if err != nil {
			continue // impossible: it was decoded from a frame
		}
		res, err := conn.ExecContext(ctx, "INSERT INTO merges SELECT CAST(? AS UUID), ?, CAST(? AS UUID), CAST(? AS UUID), ?, nullif(?, ''), nullif(?, ''), ?, ? WHERE NOT EXISTS (SELECT 1 FROM merges WHERE uuid = CAST(? AS UUID))",
			m.event.UUID, m.event.ProjectID, m.Call, m.Other, m.Late, m.Trace, m.event.TraceID, now, body, m.event.UUID)
		if err != nil {
			return nil, nil, fmt.Errorf("store merge: %w", err)
		}
		if n, err := res.RowsAffected(); err == nil && n > 0 {
			added = append(added, m)
		}
	}
	if len(merges) > 0 {
		d.hasMerges.Store(true)
	}
	var ids []string
	coming := make(map[string]bool, len(fresh))
	for _, r := range fresh {
		ids = append(ids, r.row.Event.UUID)
		coming[r.row.Event.UUID] = true
	}
	stored := make(map[string][]string) // by project: captures that may be stored
	for _, m := range added {
		for _, id := range []string{m.Call, m.Other} {
			if !coming[id] {
				coming[id] = true
				ids = append(ids, id)
				stored[m.event.ProjectID] = append(stored[m.event.ProjectID], id)
			}
		}
	}
	if len(ids) == 0 {
		return fresh, nil, nil
	}
	of, err := mergesOf(ctx, conn, strings.Join(ids, ","))
	if err != nil {
		return nil, nil, err
	}
	for _, r := range fresh {
		e, stays := follow(r.row.Event, of[r.row.Event.UUID])
		if !stays || erased[e.UUID] {
			continue
		}
		if e != r.row.Event {
			if r, err = reencode(e, r.row.ContentBytes, now); err != nil {
				return nil, nil, err
			}
		}
		rows = append(rows, r)
	}
	for project, ids := range stored {
		list := strings.Join(ids, ",")
		have, err := takeOut(ctx, conn, project, list)
		if err != nil {
			return nil, nil, err
		}
		for _, row := range have {
			e, stays := follow(row.Event, of[row.Event.UUID])
			if !stays || erased[e.UUID] {
				continue
			}
			r, err := reencode(e, row.ContentBytes, now)
			if err != nil {
				return nil, nil, err
			}
			replaced = append(replaced, r)
		}
		if len(have) > 0 {
			d.changes.pending = append(d.changes.pending, have)
		}
	}
	return append(rows, replaced...), replaced, nil
}

// eraseOther reports whether a capture of a merge was deleted, and then records that
// both are.
func (d *DuckDB) eraseOther(ctx context.Context, conn *sql.Conn, m merging, now time.Time) (bool, error) {
	project, ids := m.event.ProjectID, []string{m.Call, m.Other}
	var deleted [2]bool
	for i, id := range ids {
		var err error
		if deleted[i], err = d.c.Deletions.Has(project, id); err != nil {
			return false, err
		}
	}
	if deleted[0] == deleted[1] {
		return deleted[0], nil
	}
	if err := d.c.Deletions.note(deletedLine{now, project, ids}); err != nil {
		return false, err
	}
	d.deletions.Store(true)
	_, err := conn.ExecContext(ctx, rememberUUIDs, project, now, strings.Join(ids, ","), project)
	return true, err
}

// follow returns an event with its merges applied, and whether it still has a row.
func follow(e *event.Event, merges []merging) (_ *event.Event, stays bool) {
	out := e
	for _, m := range merges {
		if m.event.ProjectID != e.ProjectID {
			continue
		}
		if out == e {
			out = e.Clone()
		}
		switch {
		case m.Call == e.UUID:
			join.Apply(m.event, out)
		case !m.Span:
			return nil, false
		case out.IsCosted():
			join.AsSpan(out, m.Call)
		}
	}
	return out, true
}

// reencode encodes the row of an event. contentBytes is the size of its original
// content.
func reencode(e *event.Event, contentBytes int64, now time.Time) (*encoded, error) {
	var b batch
	if err := b.encode([]*event.Event{e}); err != nil {
		return nil, err
	}
	r := &b.rows[0]
	if e.Content.IsZero() && contentBytes > 0 && e.IsCosted() { // retention has removed the content
		r.row.ContentBytes = contentBytes
		r.values[contentBytesColumn] = contentBytes
	}
	r.row.StoredAt, r.values[storedAtColumn] = now, now
	return r, nil
}

// takeOut removes events of a project, and returns them with their content.
func takeOut(ctx context.Context, conn *sql.Conn, project, list string) (out []*Row, err error) {
	rows, err := conn.QueryContext(ctx, "SELECT "+EventColumns("e.")+", c.body FROM events e LEFT JOIN content c ON c.uuid = e.uuid AND c.project_id = e.project_id WHERE e.project_id = ? AND e.uuid IN ("+listedUUIDs+")", project, list)
	if err != nil {
		return nil, fmt.Errorf("look up captures of a call: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var body []byte
		row, err := ScanRow(rows, &body)
		if err != nil {
			return nil, err
		}
		if body != nil {
			if row.Event.Content, err = DecodeContent(body); err != nil && !errors.Is(err, errBody) {
				return nil, err
			}
		}
		out = append(out, row)
	}
	if err := rows.Err(); err != nil || len(out) == 0 {
		return nil, err
	}
	_ = rows.Close() // before the connection is used again; its error is rows.Err
	if err := markStale(ctx, conn, project, list); err != nil {
		return nil, fmt.Errorf("rebuild roll-ups of merged events: %w", err)
	}
	for _, table := range []string{"content", "events"} {
		if _, err := conn.ExecContext(ctx, "DELETE FROM "+table+" WHERE project_id = ? AND uuid IN ("+listedUUIDs+")", project, list); err != nil {
			return nil, fmt.Errorf("take out captures of a call: %w", err)
		}
	}
	return out, nil
}

// steps are the names of events with which a trace exists of its own.
var steps = []any{event.Generation, event.Embedding, event.Span, event.Trace}

// moveOutcomes moves the remaining events of a call's former trace, usually outcomes, to
// the trace and span that the merge gave it, if the former trace has no steps any more.
// It runs inside the transaction of a write, after the rows.
func (d *DuckDB) moveOutcomes(ctx context.Context, conn *sql.Conn, merges []merging, fresh []*encoded) error {
	if !d.hasMerges.Load() {
		return nil
	}
	var traces []string
	for _, m := range merges {
		if m.Trace != "" {
			traces = append(traces, m.Trace)
		}
	}
	for _, r := range fresh {
		if e := r.row.Event; e.TraceID != "" && !e.IsCosted() && e.Name != event.Span && e.Name != event.Trace {
			traces = append(traces, e.TraceID)
		}
	}
	if len(traces) == 0 {
		return nil
	}
	const former = " FROM merges m, events e WHERE m.trace_before IN (SELECT unnest(CAST(? AS VARCHAR[]))) AND m.trace_id IS NOT NULL AND m.trace_id <> m.trace_before" +
		" AND e.project_id = m.project_id AND e.trace_id = m.trace_before AND NOT EXISTS (SELECT 1 FROM events o WHERE o.project_id = m.project_id AND o.trace_id = m.trace_before AND o.name IN (?, ?, ?, ?))"
	list := make([]any, len(traces))
	for i, t := range traces {
		list[i] = t
	}
	args := append([]any{list}, steps...)
	rows, err := conn.QueryContext(ctx, "SELECT CAST(e.uuid AS VARCHAR), e.project_id, e.stored_at, coalesce(e.span_id, ''), coalesce(e.parent_id, ''), m.body"+former+" ORDER BY m.stored_at DESC, m.uuid DESC", args...)
	if err != nil {
		return fmt.Errorf("look up outcomes of merged calls: %w", err)
	}
	type move struct {
		project, trace, span, parent string
		named                        bool // by the call's span, not only its trace
	}
	moves := make(map[string]*move)
	changed := make(map[string][]string)
	var have []*Row
	err = func() error {
		defer rows.Close()
		for rows.Next() {
			var id, project, span, parent string
			var at time.Time
			var body []byte
			if err := rows.Scan(&id, &project, &at, &span, &parent, &body); err != nil {
				return err
			}
			e, err := event.DecodeFrame(body)
			if err != nil {
				continue // damaged
			}
			m, _ := join.MergeOf(e)
			to, known := moves[id]
			if !known {
				to = &move{project: project, trace: e.TraceID, span: span, parent: parent}
				moves[id] = to
				changed[project] = append(changed[project], id)
				have = append(have, &Row{StoredAt: at.UTC()})
			}
			if m.SpanID == "" || to.named || span != m.SpanID && parent != m.SpanID {
				continue
			}
			to.named, to.trace = true, e.TraceID
			for _, name := range []*string{&to.span, &to.parent} {
				if *name == m.SpanID {
					*name = e.SpanID
				}
			}
		}
		return rows.Err()
	}()
	if err != nil {
		return fmt.Errorf("look up outcomes of merged calls: %w", err)
	}
	for project, ids := range changed {
		if err := markStale(ctx, conn, project, strings.Join(ids, ",")); err != nil {
			return fmt.Errorf("rebuild roll-ups of merged events: %w", err)
		}
	}
	for id, m := range moves {
		if _, err := conn.ExecContext(ctx, "UPDATE events SET trace_id = ?, span_id = nullif(?, ''), parent_id = nullif(?, '') WHERE project_id = ? AND uuid = CAST(? AS UUID)", m.trace, m.span, m.parent, m.project, id); err != nil {
			return fmt.Errorf("move an outcome to its call's trace: %w", err)
		}
	}
	if len(moves) > 0 {
		d.changes.pending = append(d.changes.pending, have)
	}
	return nil
}

// forgetMerges deletes the merges of a project ("" is every project) that were stored
// before a time.
func (d *DuckDB) forgetMerges(ctx context.Context, project string, before time.Time) error {
	if !d.hasMerges.Load() {
		return nil
	}
	return d.exclusive(ctx, func(e *engine) error {
		return d.transaction(ctx, e, func(conn *sql.Conn) error {
			_, err := conn.ExecContext(ctx, "DELETE FROM merges WHERE stored_at < ? AND (? = '' OR project_id = ?)", before, project, project)
			return err
		})
	})
}

// withOtherCaptures adds to a list of events the captures that were merged into them.
func (d *DuckDB) withOtherCaptures(ctx context.Context, project string, uuids []string) ([]string, error) {
	if !d.hasMerges.Load() || len(uuids) == 0 {
		return uuids, nil
	}
	out := append([]string(nil), uuids...)
	err := d.Read(ctx, func(rows *sql.Rows) error {
		for rows.Next() {
			var id string
			if err := rows.Scan(&id); err != nil {
				return err
			}
			out = append(out, id)
		}
		return nil
	}, "SELECT DISTINCT CAST(half AS VARCHAR) FROM merges WHERE project_id = ? AND call IN ("+listedUUIDs+")", project, strings.Join(uuids, ","))
	return out, err
}
