package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"github.com/duckdb/duckdb-go/v2"
)

// Derivation changes the tables that are derived from the events, within one
// transaction; see [DuckDB.Derive].
type Derivation struct {
	ctx  context.Context
	conn *sql.Conn
}

// Append adds rows to a derived table, in the order of its columns, with
// values as returned by [DuckDB.Read]. next returns nil after the last.
func (t *Derivation) Append(table string, next func() []any) error {
	return t.conn.Raw(func(conn any) error {
		a, err := duckdb.NewAppender(conn.(driver.Conn), catalog, "main", table)
		if err != nil {
			return fmt.Errorf("open appender for %s: %w", table, err)
		}
		var values []driver.Value
		for row := next(); row != nil; row = next() {
			values = values[:0]
			for _, v := range row {
				if id, ok := v.([]byte); ok && len(id) == len(duckdb.UUID{}) { // as the driver reads them
					v = duckdb.UUID(id)
				}
				values = append(values, v)
			}
			if err := a.AppendRow(values...); err != nil {
				_ = a.Clear()
				// The driver's error may quote the value: it must not reach a log.
				return errors.Join(fmt.Errorf("append to %s: a row does not fit", table), a.Close())
			}
		}
		if err := a.CloseWithCancel(t.ctx); err != nil {
			return fmt.Errorf("append to %s: %w", table, err)
		}
		return nil
	})
}

// Take adds the rows that [DuckDB.Stage] has made for a derived table.
func (t *Derivation) Take(table string) error {
	return t.Exec("INSERT INTO " + table + " SELECT * FROM " + StagingTable(table))
}

// Exec runs one statement with bound parameters on derived tables.
func (t *Derivation) Exec(statement string, args ...any) error {
	_, err := t.conn.ExecContext(t.ctx, statement, args...)
	return err
}

// Derive runs f, which changes the derived tables, in one transaction that
// blocks writes: f must be short. It does nothing and returns false if events
// stored after first and up to last were deleted, merged or repriced since generation, a
// result of [DuckDB.Generation]: f's rows might include what is no longer there.
func (d *DuckDB) Derive(ctx context.Context, generation uint64, first, last time.Time, f func(*Derivation) error) (done bool, err error) {
	err = d.exclusive(ctx, func(e *engine) error {
		if now := d.generation.Load(); now != generation && !d.changes.outside(generation, now, first, last) {
			return nil
		}
		if err := d.ensureSpace(0); err != nil {
			return err
		}
		done = true
		return d.transaction(ctx, e, func(conn *sql.Conn) error { return f(&Derivation{ctx, conn}) })
	})
	if err != nil {
		return false, fmt.Errorf("derive: %w", err)
	}
	return done, nil
}

// StagingTable is the table, in memory, where the rows for a derived table wait that
// [DuckDB.Stage] has made.
func StagingTable(table string) string { return "memory.main.staged_" + table }

// Stage makes the rows of a SELECT ready for a derived table, in order of its
// columns, in place of those that it made for it before. Events are written
// meanwhile; [Derivation.Take] then takes little time. The query binds nothing:
// it must not be made of anyone's input.
func (d *DuckDB) Stage(ctx context.Context, table, query string) error {
	return d.Read(ctx, noRows, "CREATE OR REPLACE TABLE "+StagingTable(table)+" AS "+query)
}

// Unstage deletes the staged rows of a derived table.
func (d *DuckDB) Unstage(ctx context.Context, table string) error {
	return d.Read(ctx, noRows, "DROP TABLE IF EXISTS "+StagingTable(table))
}

func noRows(*sql.Rows) error { return nil }

// Generation returns the number of deletions, merges and repricings so far. Call it before
// reading the input of a derivation.
func (d *DuckDB) Generation() uint64 { return d.generation.Load() }

// derivedTables are those with rows of a project and a stretch.
var derivedTables = append([]string{"rollup", "rollup_users", "rollup_outcomes", "rollup_errors", "rollup_ids", "rollup_properties", "rollup_traces", "rollup_parts"}, timesTables...)

// dropDerived removes a project's events stored before a time from the derived
// tables, with the rest of the last range: from then on queries count those
// events directly. It precedes the deletion.
func (d *DuckDB) dropDerived(ctx context.Context, project string, before any) error {
	return d.exclusive(ctx, func(e *engine) error {
		defer d.generation.Add(1) // once readers see the change, and before other writers
		return d.transaction(ctx, e, func(conn *sql.Conn) error {
			var floor sql.NullTime
			err := conn.QueryRowContext(ctx, "SELECT max(last) FROM (SELECT * FROM rolled_stale UNION ALL SELECT first, last FROM rolled) WHERE first < ?", before).Scan(&floor)
			if err != nil || !floor.Valid {
				return err
			}
			for _, table := range derivedTables {
				if _, err := conn.ExecContext(ctx, "DELETE FROM "+table+" WHERE project_id = ? AND last <= ?", project, floor.Time); err != nil {
					return err
				}
			}
			if _, err := conn.ExecContext(ctx, "DELETE FROM rolled_floor WHERE project_id = ?", project); err != nil {
				return err
			}
			_, err = conn.ExecContext(ctx, "INSERT INTO rolled_floor VALUES (?, ?)", project, floor.Time)
			return err
		})
	})
}
