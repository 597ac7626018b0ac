package store_test

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/health"
	"github.com/hedgerow/hedgerow/server/internal/store"
	"github.com/hedgerow/hedgerow/server/internal/store/storetest"
)

// columnsOf lists all columns of a store's file.
func columnsOf(t *testing.T, path string) string {
	t.Helper()
	db, err := sql.Open("duckdb", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query("SELECT table_name || ' ' || column_name || ' ' || data_type FROM duckdb_columns() WHERE NOT internal ORDER BY ALL")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var b strings.Builder
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			t.Fatal(err)
		}
		b.WriteString(line + "\n")
	}
	return b.String()
}

// TestBackupForOlder writes backups for the oldest hedgerow and for the one before
// this, and opens them again. The first takes every step back.
// testdata/schema-7.txt are the columns of a file that 3b558a2 has made.
func TestBackupForOlder(t *testing.T) {
	dir := t.TempDir()
	s := duckIn(t, dir)
	want := storetestWrite(t, s, 40)
	full := storetest.Full(t)
	if _, err := s.Write(t.Context(), []*event.Event{full}); err != nil {
		t.Fatal(err)
	}
	const figures = "SELECT concat_ws(' ', count(*), sum(tokens), sum(cost_total), sum(latency_us), count(DISTINCT trace_id)) FROM events"
	before := one(t, s, figures)
	for _, schema := range []int{store.OldestSchema, store.Migrations - 1} {
		t.Run(fmt.Sprint(schema), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "events.duckdb")
			if err := s.Backup(t.Context(), path, schema); err != nil {
				t.Fatal(err)
			}
			db, err := sql.Open("duckdb", path)
			if err != nil {
				t.Fatal(err)
			}
			var have, rows int
			err = errors.Join(db.QueryRow("SELECT (SELECT max(version) FROM schema_version), (SELECT count(*) FROM events)").Scan(&have, &rows), db.Close())
			if err != nil || have != schema || rows != len(want)+1 {
				t.Errorf("schema %d with %d events, %v", have, rows, err)
			}
			if schema == store.OldestSchema {
				of3b558a2, err := os.ReadFile("testdata/schema-7.txt")
				if got := columnsOf(t, path); err != nil || got != string(of3b558a2) {
					t.Errorf("%v, columns\n%s", err, got)
				}
			}
			again, err := store.OpenDuckDB(t.Context(), store.Config{Path: path})
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close()
			if after := one(t, again, figures); after != before {
				t.Errorf("%s after going back and forth, want %s", after, before)
			}
		})
	}
	for _, schema := range []int{-1, 1, store.OldestSchema - 1, store.Migrations + 1} {
		path := filepath.Join(t.TempDir(), "events.duckdb")
		if err := s.Backup(t.Context(), path, schema); event.AsError(err) == nil || event.AsError(err).Code != event.CodeInvalid {
			t.Errorf("schema %d: %v", schema, err)
		}
		if _, err := os.Stat(path); err == nil {
			t.Errorf("schema %d: a file was written", schema)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// held is a log that blocks at a line about a migration until it is released.
type held struct {
	slog.Handler
	at      int // of the lines about a running migration
	reached chan struct{}
	release chan struct{}

	mu    sync.Mutex
	lines []string
}

func newHeld(at int) *held {
	return &held{Handler: slog.DiscardHandler, at: at, reached: make(chan struct{}), release: make(chan struct{})}
}

func (*held) Enabled(context.Context, slog.Level) bool { return true }
func (h *held) WithAttrs([]slog.Attr) slog.Handler     { return h }
func (h *held) WithGroup(string) slog.Handler          { return h }
func (h *held) Handle(_ context.Context, r slog.Record) error {
	line := r.Message
	r.Attrs(func(a slog.Attr) bool { line += " " + a.String(); return true })
	h.mu.Lock()
	h.lines = append(h.lines, line)
	n := 0
	for _, l := range h.lines {
		if strings.HasPrefix(l, "the store is being migrated ") {
			n++
		}
	}
	stop := n == h.at && strings.HasPrefix(line, "the store is being migrated ")
	h.mu.Unlock()
	if stop {
		close(h.reached)
		<-h.release
	}
	return nil
}

func (h *held) String() string { h.mu.Lock(); defer h.mu.Unlock(); return strings.Join(h.lines, "\n") }

// fastClock advances by 6 s at each call, so that each step of a migration is
// logged.
func fastClock() func() time.Time {
	var mu sync.Mutex
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	return func() time.Time { mu.Lock(); defer mu.Unlock(); now = now.Add(6 * time.Second); return now }
}

const migrationRows = 6000

// oldStore creates a store of the oldest schema in which a migration changes
// every event.
func oldStore(t *testing.T) (path string) {
	t.Helper()
	dir := t.TempDir()
	s := duckIn(t, dir)
	path = filepath.Join(dir, "old.duckdb")
	if err := s.Backup(t.Context(), path, store.OldestSchema); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	rawExec(t, path, fmt.Sprintf("INSERT INTO events (uuid, project_id, name, ts, stored_at, content_bytes, is_error, private, input_tokens, output_tokens, tokens)"+
		" SELECT uuid(), 'old', '$ai_generation', TIMESTAMP '2026-01-01' + INTERVAL (i) SECOND, TIMESTAMP '2026-01-01' + INTERVAL (i) SECOND, 0, false, false, -1, 7, i FROM range(%d) AS r(i)", migrationRows))
	return path
}

func migrationConfig(path string, h *held) store.Config {
	c := store.Config{Path: path, Logger: slog.New(h), Now: fastClock(), OpenWait: 20 * time.Millisecond}
	c.SetUpdateRows(migrationRows / 6)
	return c
}

// awaitOK waits until a store works.
func awaitOK(t *testing.T, s *store.DuckDB) {
	t.Helper()
	for end := time.Now().Add(time.Minute); s.Health().Status != health.OK; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the store is %+v", s.Health())
		}
	}
}

func migratedRight(t *testing.T, s *store.DuckDB) {
	t.Helper()
	if got, want := one(t, s, "SELECT concat_ws(' ', count(*), count(input_tokens), sum(output_tokens)) FROM events"), fmt.Sprintf("%d 0 %d", migrationRows, 7*migrationRows); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestMigrationShowsProgress: opening does not wait for a migration, which
// reports its progress, and queries and writes return errors that explain it.
func TestMigrationShowsProgress(t *testing.T) {
	h := newHeld(5)
	reg := prometheus.NewRegistry()
	c := migrationConfig(oldStore(t), h)
	c.Registerer = reg
	s, err := store.OpenDuckDB(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	<-h.reached
	r := s.Health()
	if r.Status != health.Starting || !strings.Contains(r.Message, "from schema 7 to ") || !strings.Contains(r.Message, "50 % of 6000 events, about ") || !strings.Contains(r.Hint, "calls are forwarded") {
		t.Errorf("health %+v", r)
	}
	metric := func() float64 {
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "hedgerow_store_migration_progress" {
				return f.GetMetric()[0].GetGauge().GetValue()
			}
		}
		return -1
	}
	if m := metric(); m != 0.5 {
		t.Errorf("the metric is %v, want half", m)
	}
	_, err = s.Write(t.Context(), []*event.Event{storetest.Full(t)})
	for what, err := range map[string]error{"write": err, "question": s.Ready(t.Context())} {
		if e := event.AsError(err); e == nil || e.Code != event.CodeUnavailable || !strings.Contains(e.Message, "being migrated") {
			t.Errorf("%s: %v", what, err)
		}
	}
	close(h.release)
	awaitOK(t, s)
	migratedRight(t, s)
	if m := metric(); m != 1 {
		t.Errorf("the metric is %v at the end", m)
	}
	for _, line := range []string{"the store is being migrated: calls are forwarded, and events wait in the journal events=6000", "percent=50 events_done=3000 events=6000 left=", "the store was migrated schema="} {
		if !strings.Contains(h.String(), line) {
			t.Errorf("the log lacks %q:\n%s", line, h)
		}
	}
}

// TestMigrationStops: closing a store does not wait for a migration, whose
// completed steps are kept.
func TestMigrationStops(t *testing.T) {
	path := oldStore(t)
	h := newHeld(5)
	s, err := store.OpenDuckDB(t.Context(), migrationConfig(path, h))
	if err != nil {
		t.Fatal(err)
	}
	<-h.reached
	closed := make(chan error)
	go func() { closed <- s.Close() }()
	for s.Ready(t.Context()) == nil || !strings.Contains(s.Ready(t.Context()).Error(), "closed") {
		time.Sleep(time.Millisecond)
	}
	close(h.release)
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(h.String(), "was interrupted") || strings.Contains(h.String(), "was migrated") {
		t.Errorf("log\n%s", h)
	}
	db, err := sql.Open("duckdb", path)
	if err != nil {
		t.Fatal(err)
	}
	var version, changed int
	err = errors.Join(db.QueryRow("SELECT (SELECT max(version) FROM schema_version), (SELECT count(*) FROM events WHERE input_tokens IS NULL)").Scan(&version, &changed), db.Close())
	if err != nil || version != 9 || changed != migrationRows/2 {
		t.Errorf("version %d with %d changed, %v", version, changed, err)
	}
	s, err = store.OpenDuckDB(t.Context(), store.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	migratedRight(t, s)
}

const migrationEnv = "HEDGEROW_STORE_TEST_MIGRATION" // the path of a store

// migrationChild migrates a store halfway, prints that, and waits to be killed.
func migrationChild(path string) error {
	h := newHeld(5)
	if _, err := store.OpenDuckDB(context.Background(), migrationConfig(path, h)); err != nil {
		return err
	}
	<-h.reached
	fmt.Println("middle")
	select {}
}

// TestMigrationKill kills a process in the middle of a migration, twice, and starts
// again.
func TestMigrationKill(t *testing.T) {
	path := oldStore(t)
	for range 2 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), migrationEnv+"="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(out).ReadString('\n')
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if err != nil || line != "middle\n" {
			t.Fatalf("%q %v", line, err)
		}
	}
	s, err := store.OpenDuckDB(t.Context(), store.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	awaitOK(t, s)
	migratedRight(t, s)
	if n := one(t, s, "SELECT CAST(count(*) AS VARCHAR) FROM schema_version"); n != fmt.Sprint(store.Migrations) {
		t.Errorf("%s versions", n)
	}
}
