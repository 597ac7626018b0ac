package store_test

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/store"
)

// TestMigrateNumbers opens a file with numbers that an older binary let in.
func TestMigrateNumbers(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "events.duckdb")
	open := func() *store.DuckDB {
		s, err := store.OpenDuckDB(t.Context(), store.Config{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	s := open()
	storetestWrite(t, s, 5)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	row := func(columns, values string) string {
		return fmt.Sprintf("INSERT INTO events (uuid, project_id, name, ts, stored_at, content_bytes, is_error, private, %s) VALUES ('%s', 'old', '$ai_generation', TIMESTAMP '2026-01-01', TIMESTAMP '2026-01-01', 0, false, false, %s);", columns, event.NewID(), values)
	}
	const most, least = "9223372036854775807", "(-9223372036854775808)"
	rawExec(t, path,
		row("input_tokens, output_tokens, total_tokens, tokens, cost_input, cost_total, cost_source", most+", "+most+", -2, -2, 92233720368547, 92233720368547, 'table'")+
			row("input_tokens, output_tokens, total_tokens, tokens, cost_total, cost_source, latency_us", "20000000000, 5, 20000000005, 20000000005, 3, 'passthrough', 1000")+
			row("cache_read_tokens, request_bytes, latency_us, ttft_us, cost_total", most+", "+least+", "+most+", "+least+", 99999999999999999999.999999999999999999")+
			row("input_tokens, output_tokens, tokens, cost_total", "10, 20, 30, 0.5")+
			"INSERT INTO rolled VALUES (TIMESTAMP '2025-01-01', TIMESTAMP '2026-02-01', 4);"+
			"DELETE FROM schema_version WHERE version >= 10;")
	s = open()
	var got []string
	err := s.Read(t.Context(), func(r *sql.Rows) error {
		for r.Next() {
			var line string
			if err := r.Scan(&line); err != nil {
				return err
			}
			got = append(got, line)
		}
		return nil
	}, "SELECT concat_ws(' ', coalesce(input_tokens::VARCHAR, '?'), coalesce(output_tokens::VARCHAR, '?'), coalesce(total_tokens::VARCHAR, '?'), coalesce(tokens::VARCHAR, '?'), coalesce(cache_read_tokens::VARCHAR, '?'), coalesce(request_bytes::VARCHAR, '?'),"+
		" coalesce(latency_us::VARCHAR, '?'), coalesce(ttft_us::VARCHAR, '?'), coalesce(cost_input::VARCHAR, '?'), coalesce(cost_total::DECIMAL(8,1)::VARCHAR, '?')) FROM events WHERE project_id = 'old' ORDER BY rowid")
	want := []string{"? ? ? ? ? ? ? ? ? ?", "? 5 ? ? ? ? 1000 ? ? 3.0", "? ? ? ? ? ? ? ? ? ?", "10 20 ? 30 ? ? ? ? ? 0.5"}
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v\n%v, want\n%v", err, got, want)
	}
	if n := one(t, s, "SELECT CAST(count(*) AS VARCHAR) FROM rolled"); n != "0" {
		t.Errorf("%s stretches, want all of them to be rolled up again", n)
	}
	// Doing it again finds nothing to do.
	if n := one(t, s, "SELECT CAST(count(*) AS VARCHAR) FROM events WHERE project_id <> 'old' AND input_tokens IS NOT NULL"); n == "0" {
		t.Error("numbers in range are unknown")
	}
}

// TestReadErrorsQuoteNothing: an error of a question is for the log, where no word
// of an event may be.
func TestReadErrorsQuoteNothing(t *testing.T) {
	s := duckIn(t, t.TempDir())
	for _, q := range []string{
		`SELECT json_extract_string('{"a":"\ud800","b":"secret"}', '/a')`, `SELECT CAST('it''s a secret' AS BIGINT)`, `SELECT CAST('2026-secret' AS TIMESTAMP)`, `SELECT CAST('secret"' AS UUID)`,
	} {
		err := s.Read(t.Context(), func(r *sql.Rows) error {
			for r.Next() {
			}
			return nil
		}, q)
		if err == nil || strings.Contains(err.Error(), "secret") || len(err.Error()) < 30 {
			t.Errorf("%s: %v", q, err)
		}
	}
}
