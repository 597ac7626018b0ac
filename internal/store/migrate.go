package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
)

// migrations bring a file from version i to i+1, each in one transaction. One
// that has been released never changes.
var migrations = []string{
	1 - 1: createEvents + createContent,
	2 - 1: "ALTER TABLE events ADD COLUMN IF NOT EXISTS cost_cache_saved " + moneyType, // a new file has it from the start
}

var createEvents = func() string {
	var b strings.Builder
	b.WriteString("CREATE TABLE events (")
	for i, c := range columns {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(c.name + " " + c.typ)
	}
	// No primary key: DuckDB's index would hold every uuid in memory, be
	// written whole at each checkpoint and forbid compaction after deletes.
	// Write keeps uuids unique instead.
	b.WriteString(");")
	return b.String()
}()

const createContent = `
CREATE TABLE content (
	uuid UUID NOT NULL,
	project_id VARCHAR NOT NULL,
	stored_at TIMESTAMP NOT NULL, -- equal to the event's
	body BLOB NOT NULL USING COMPRESSION uncompressed -- compressed already: see content.go
);`

// migrate brings the file to this binary's version and refuses a newer one.
func migrate(ctx context.Context, conn *sql.Conn, path string) error {
	if _, err := conn.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL, applied_at TIMESTAMP NOT NULL)"); err != nil {
		return openError(path, err)
	}
	var have int
	if err := conn.QueryRowContext(ctx, "SELECT coalesce(max(version), 0) FROM schema_version").Scan(&have); err != nil {
		return openError(path, err)
	}
	if have > len(migrations) {
		return newerError(path, fmt.Errorf("schema version %d, known up to %d", have, len(migrations)))
	}
	for v := have; v < len(migrations); v++ {
		script := "BEGIN; " + migrations[v] + fmt.Sprintf("; INSERT INTO schema_version VALUES (%d, now() AT TIME ZONE 'UTC'); COMMIT", v+1)
		if _, err := conn.ExecContext(ctx, script); err != nil {
			_, _ = conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
			return fmt.Errorf("migrate store to version %d: %w", v+1, err)
		}
	}
	return nil
}
