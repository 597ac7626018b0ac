package store_test

import (
	"database/sql"
	"path/filepath"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/store"
)

// TestColumnsAreTheSchema compares the migrations with event.Fields: a new file
// has exactly one column of the right type for each stored field.
func TestColumnsAreTheSchema(t *testing.T) {
	s, err := store.OpenDuckDB(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "events.duckdb")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	have := make(map[string]string)
	err = s.Read(t.Context(), func(r *sql.Rows) error {
		for r.Next() {
			var name, typ string
			var null bool
			if err := r.Scan(&name, &typ, &null); err != nil {
				return err
			}
			if have[name] = typ; !null {
				have[name] += " NOT NULL"
			}
		}
		return nil
	}, "SELECT column_name, data_type, is_nullable FROM duckdb_columns() WHERE table_name = 'events'")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"stored_at": "TIMESTAMP NOT NULL", "content_bytes": "BIGINT NOT NULL", "tokens": "BIGINT"}
	for _, f := range event.Fields {
		if f.Column == "" {
			continue
		}
		typ := "VARCHAR"
		switch f.At.(type) {
		case func(*event.Event) *bool, func(*event.Event) *event.Opt[bool]:
			typ = "BOOLEAN"
		case func(*event.Event) *int:
			typ = "INTEGER"
		case func(*event.Event) *int64, func(*event.Event) *event.Int, func(*event.Event) *event.Opt[time.Duration]:
			typ = "BIGINT"
		case func(*event.Event) *event.Opt[decimal.Decimal]:
			typ = "DECIMAL(38,18)"
		case func(*event.Event) *[]string:
			typ = "VARCHAR[]"
		}
		want[f.Column] = typ
	}
	// Besides required fields, columns that are NOT NULL in old files.
	for _, name := range []string{"project_id", "name", "is_error", "private"} {
		want[name] += " NOT NULL"
	}
	want["uuid"], want["ts"] = "UUID NOT NULL", "TIMESTAMP NOT NULL"
	for name, typ := range want {
		if have[name] != typ {
			t.Errorf("%s is %q, want %q: add a migration", name, have[name], typ)
		}
		delete(have, name)
	}
	for name := range have {
		t.Errorf("%s belongs to no field of an event", name)
	}
}
