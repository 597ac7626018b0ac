package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/duckdb/duckdb-go/v2"
	"github.com/google/uuid"

	"github.com/hedgerow/hedgerow/event"
)

// deletedKeep is how long the uuid of a deleted event is remembered. It is
// longer than the journal and its dead letters keep an event, and than clients
// retry.
const deletedKeep = 90 * 24 * time.Hour

// maxStale bounds the stretches that wait to be rolled up again. A question
// counts the events of each in its own part.
const maxStale = 32

// DeleteEvents deletes a project's events with their content, removes them from
// all derived tables, and returns their number. It remembers all uuids for 90
// days, including those of unknown events, so that the journal's later or
// repeated deliveries are not stored. Uuids of another project's events have no
// effect. If the store stops in the middle of a long list, a part of it may be
// done; repeat the call.
func (d *DuckDB) DeleteEvents(ctx context.Context, projectID string, uuids []string) (deleted int, err error) {
	for _, id := range uuids {
		if _, err := uuid.Parse(id); err != nil {
			return 0, event.Invalid("one of the event ids is not a uuid", "use ids as shown in the list of events")
		}
	}
	uuids, err = d.withOtherCaptures(ctx, projectID, uuids)
	if err != nil {
		return 0, fmt.Errorf("delete events: %w", err)
	}
	for len(uuids) > 0 {
		n := min(len(uuids), retainChunk)
		count, err := d.deleteSome(ctx, projectID, strings.Join(uuids[:n], ","))
		deleted += count
		if err != nil {
			return deleted, fmt.Errorf("delete events: %w", err)
		}
		uuids = uuids[n:]
	}
	return deleted, nil
}

// The rows of a list of uuids, bound as one text.
const listedUUIDs = "SELECT CAST(unnest(string_split(CAST(? AS VARCHAR), ',')) AS UUID)"

func (d *DuckDB) deleteSome(ctx context.Context, project, list string) (deleted int, err error) {
	err = d.exclusive(ctx, func(e *engine) error {
		if err := d.c.Deletions.note(deletedLine{d.c.Now().UTC(), project, strings.Split(list, ",")}); err != nil {
			return err
		}
		defer d.generation.Add(1) // once readers see the change, and before other writers
		return d.transaction(ctx, e, func(conn *sql.Conn) error {
			run := func(statement string, args ...any) (int64, error) {
				res, err := conn.ExecContext(ctx, statement, args...)
				if err != nil {
					return 0, err
				}
				return res.RowsAffected()
			}
			if _, err := run(rememberUUIDs, project, d.c.Now().UTC(), list, project); err != nil {
				return err
			}
			if err := markStale(ctx, conn, project, list); err != nil {
				return err
			}
			if _, err := run("DELETE FROM span_content WHERE project_id = ? AND (trace_id, span_id) IN (SELECT trace_id, span_id FROM events WHERE project_id = ? AND uuid IN ("+listedUUIDs+"))", project, project, list); err != nil {
				return err
			}
			if _, err := run("DELETE FROM merges WHERE project_id = ? AND (call IN ("+listedUUIDs+") OR half IN ("+listedUUIDs+"))", project, list, list); err != nil {
				return err
			}
			if _, err := run("DELETE FROM content WHERE project_id = ? AND uuid IN ("+listedUUIDs+")", project, list); err != nil {
				return err
			}
			n, err := run("DELETE FROM events WHERE project_id = ? AND uuid IN ("+listedUUIDs+")", project, list)
			deleted = int(n)
			return err
		})
	})
	if err == nil {
		d.deletions.Store(true)
	}
	return deleted, err
}

// markStale deletes the derived rows of the ranges with these events, or with
// outcomes whose call may be one of them, and marks the ranges for a new roll-up.
// Until then queries count their events directly. For more than maxStale ranges,
// all ranges from the first on are deleted and rolled up again.
func markStale(ctx context.Context, conn *sql.Conn, project, list string) error {
	rows, err := conn.QueryContext(ctx, "WITH gone AS MATERIALIZED (SELECT stored_at, trace_id FROM events WHERE project_id = ? AND uuid IN ("+listedUUIDs+"))"+
		" SELECT first, last FROM rolled WHERE EXISTS (SELECT 1 FROM gone WHERE stored_at > first AND stored_at <= last)"+
		" OR last IN (SELECT last FROM rollup_outcomes WHERE project_id = ? AND trace_id IN (SELECT trace_id FROM gone WHERE trace_id IS NOT NULL)) ORDER BY last", project, list, project)
	if err != nil {
		return err
	}
	defer rows.Close()
	var firsts, lasts []time.Time
	for rows.Next() {
		var first, last time.Time
		if err := rows.Scan(&first, &last); err != nil {
			return err
		}
		firsts, lasts = append(firsts, first.UTC()), append(lasts, last.UTC())
	}
	if err := rows.Err(); err != nil || len(lasts) == 0 {
		return err
	}
	_ = rows.Close() // before the connection is used again; its error is rows.Err
	var stale int
	if err := conn.QueryRowContext(ctx, "SELECT count(*) FROM rolled_stale").Scan(&stale); err != nil {
		return err
	}
	exec := func(statement string, args ...any) error {
		_, err := conn.ExecContext(ctx, statement, args...)
		return err
	}
	if stale+len(lasts) > maxStale {
		from := firsts[0]
		if err := conn.QueryRowContext(ctx, "SELECT least(CAST(? AS TIMESTAMP), coalesce(min(first), CAST(? AS TIMESTAMP))) FROM rolled_stale", from, from).Scan(&from); err != nil {
			return err
		}
		for _, table := range append([]string{"rolled", "rolled_stale"}, derivedTables...) {
			if err := exec("DELETE FROM "+table+" WHERE last > ?", from.UTC()); err != nil {
				return err
			}
		}
		// A floor must be the end of a stretch.
		return exec("UPDATE rolled_floor SET floor = ? WHERE floor > ?", from.UTC(), from.UTC())
	}
	for i, last := range lasts {
		for _, table := range append([]string{"rolled"}, derivedTables...) {
			if err := exec("DELETE FROM "+table+" WHERE last = ?", last); err != nil {
				return err
			}
		}
		if err := exec("INSERT INTO rolled_stale VALUES (?, ?)", firsts[i], last); err != nil {
			return err
		}
	}
	return nil
}

// deletedKey is an event that was deleted.
type deletedKey struct {
	id      duckdb.UUID
	project string
}

// deletedOf adds to have which uuids of a list were deleted before.
func deletedOf(ctx context.Context, conn *sql.Conn, list string, have map[deletedKey]bool) error {
	rows, err := conn.QueryContext(ctx, "SELECT uuid, project_id FROM deleted_events WHERE uuid IN ("+listedUUIDs+")", list)
	if err != nil {
		return fmt.Errorf("look up deleted uuids: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var k deletedKey
		if err := rows.Scan(&k.id, &k.project); err != nil {
			return fmt.Errorf("look up deleted uuids: %w", err)
		}
		have[k] = true
	}
	return rows.Err()
}

// pruneDeleted forgets the uuids of events that were deleted long ago.
func (d *DuckDB) pruneDeleted(ctx context.Context, now time.Time) error {
	if !d.deletions.Load() {
		return nil
	}
	return d.exclusive(ctx, func(e *engine) error {
		if err := d.c.Deletions.prune(now.Add(-deletedKeep)); err != nil {
			return err
		}
		return d.transaction(ctx, e, func(conn *sql.Conn) error {
			_, err := conn.ExecContext(ctx, "DELETE FROM deleted_events WHERE deleted_at < ?", now.Add(-deletedKeep))
			return err
		})
	})
}

// rememberDeleted copies the file's entries into table deleted_events.
func rememberDeleted(ctx context.Context, e *engine, deletions *Deletions) error {
	lines, err := deletions.lines()
	if err != nil {
		return err
	}
	for _, l := range lines {
		if _, err := e.writer.ExecContext(ctx, rememberUUIDs, l.Project, l.Time.UTC(), strings.Join(l.UUIDs, ","), l.Project); err != nil {
			return fmt.Errorf("remember deleted events: %w", err)
		}
	}
	return nil
}

// rememberUUIDs adds a list of uuids to table deleted_events; bound are project,
// time, list and project.
const rememberUUIDs = "INSERT INTO deleted_events SELECT DISTINCT u, CAST(? AS VARCHAR), CAST(? AS TIMESTAMP) FROM (" + listedUUIDs + " AS u) WHERE u NOT IN (SELECT uuid FROM deleted_events WHERE project_id = ?)"
