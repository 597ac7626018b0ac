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
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/store"
	"github.com/hedgerow/hedgerow/server/internal/store/storetest"
)

func openDuck(t testing.TB, dir string, now func() time.Time) storetest.Store {
	t.Helper()
	s, err := store.OpenDuckDB(t.Context(), store.Config{Path: filepath.Join(dir, "events.duckdb"), Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestDuckDB(t *testing.T) { storetest.RunStore(t, openDuck) }

// duckIn opens a store in a folder with a name that SQL and URLs mind.
func duckIn(t testing.TB, dir string) *store.DuckDB {
	t.Helper()
	s, err := store.OpenDuckDB(t.Context(), store.Config{Path: filepath.Join(dir, "ev'ents?x=1#%41.duckdb")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func rawExec(t *testing.T, path, script string) {
	t.Helper()
	db, err := sql.Open("duckdb", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(script); err != nil {
		t.Fatal(err)
	}
}

func TestOpenErrors(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(t *testing.T, path string)
		code    event.Code
		says    string
		hint    string
	}{
		"NoFolder": {func(t *testing.T, path string) { os.Remove(filepath.Dir(path)) }, event.CodeUnavailable, "does not exist", "create it"},
		"FolderIsFile": {func(t *testing.T, path string) {
			os.Remove(filepath.Dir(path))
			os.WriteFile(filepath.Dir(path), nil, 0o600)
		}, event.CodeUnavailable, "is not a folder", "another data folder"},
		"Newer": {func(t *testing.T, path string) {
			s, err := store.OpenDuckDB(t.Context(), store.Config{Path: path})
			if err != nil {
				t.Fatal(err)
			}
			s.Close()
			rawExec(t, path, "INSERT INTO schema_version VALUES (1000, now() AT TIME ZONE 'UTC')")
		}, event.CodeConflict, "written by a newer hedgerow", "start that version"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			os.Mkdir(dir, 0o700)
			path := filepath.Join(dir, "events.duckdb")
			c.prepare(t, path)
			s, err := store.OpenDuckDB(t.Context(), store.Config{Path: path})
			if err == nil {
				s.Close()
				t.Fatal("opened")
			}
			var e *event.Error
			if !errors.As(err, &e) || e.Code != c.code || !strings.Contains(e.Message, c.says) || !strings.Contains(e.Hint, c.hint) || !strings.Contains(e.Message, dir) {
				t.Errorf("error %#v", err)
			}
		})
	}
}

func TestOpenNotWritable(t *testing.T) {
	if os.Geteuid() == 0 {
		// Root may write anywhere but in a folder of /proc.
		_, err := store.OpenDuckDB(t.Context(), store.Config{Path: "/proc/self/events.duckdb"})
		if e := event.AsError(err); e == nil || !strings.Contains(e.Message, "is not writable") {
			t.Errorf("error %v", err)
		}
		return
	}
	dir := t.TempDir()
	os.Chmod(dir, 0o500)
	_, err := store.OpenDuckDB(t.Context(), store.Config{Path: filepath.Join(dir, "events.duckdb")})
	if e := event.AsError(err); e == nil || !strings.Contains(e.Message, "is not writable") {
		t.Errorf("error %v", err)
	}
}

// TestMigrateOnce reopens and finds each version once.
func TestMigrateOnce(t *testing.T) {
	dir := t.TempDir()
	for range 3 {
		openDuck(t, dir, nil).Close()
	}
	s := openDuck(t, dir, nil)
	defer s.Close()
	n := 0
	if err := s.Read(t.Context(), func(r *sql.Rows) error {
		for r.Next() {
			n++
		}
		return nil
	}, "SELECT version FROM schema_version"); err != nil || n != store.Migrations {
		t.Errorf("%d versions, %v, want %d", n, err, store.Migrations)
	}
}

func storetestWrite(t testing.TB, s *store.DuckDB, n int) []*event.Event {
	t.Helper()
	g := storetest.NewGenerator(9)
	var batch []*event.Event
	for i := range n {
		batch = append(batch, g.Event(time.Date(2026, 1, 1, 0, 0, i, 0, time.UTC)))
	}
	if _, err := s.Write(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	return batch
}

func TestReadLimits(t *testing.T) {
	s, err := store.OpenDuckDB(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "e.duckdb"), QueryTimeout: 50 * time.Millisecond, ReadConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	drain := func(r *sql.Rows) error {
		for r.Next() {
		}
		return r.Err()
	}
	const endless = "SELECT count(*) FROM range(1000000) a(x), range(1000000) b(y) WHERE x * y % 7 = ?"
	if err := s.Read(t.Context(), drain, endless, 3); event.AsError(err).Code != event.CodeTimeout {
		t.Errorf("endless question: %v", err)
	}
	if err := s.Read(t.Context(), drain, "SELECT list(x) FROM range(100000000) t(x) WHERE x > ?", 1); event.AsError(err).Code != event.CodeUnavailable && event.AsError(err).Code != event.CodeTimeout {
		t.Errorf("huge question: %v", err)
	}
	storetestWrite(t, s, 10)
	if err := s.Ready(t.Context()); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// TestReadsDoNotBlockWrites keeps a query open while writes continue, and
// sees a consistent state throughout.
func TestReadsDoNotBlockWrites(t *testing.T) {
	s := duckIn(t, t.TempDir())
	storetestWrite(t, s, 5000)
	err := s.Read(t.Context(), func(rows *sql.Rows) error {
		rows.Next()
		for range 5 {
			storetestWrite(t, s, 100)
		}
		n := 1
		for rows.Next() {
			n++
		}
		if n != 5000 {
			t.Errorf("the open question saw %d rows, want 5000", n)
		}
		return nil
	}, "SELECT uuid, error_message, properties FROM events")
	if err != nil {
		t.Fatal(err)
	}
	if rows := storetest.Rows(t, s); len(rows) != 5500 {
		t.Errorf("%d rows, want 5500", len(rows))
	}
}

// TestMemoryPressure requests more memory than allowed while checkpoints
// need theirs. Queries may fail; no write is lost or duplicated, even if
// DuckDB fails and is restarted.
func TestMemoryPressure(t *testing.T) {
	s, err := store.OpenDuckDB(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "e.duckdb"), MemoryBytes: 1, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	failed := 0
	wg.Go(func() {
		for ctx.Err() == nil {
			if err := s.Read(ctx, func(r *sql.Rows) error {
				for r.Next() {
				}
				return nil
			}, "SELECT a.x % 1000003, list(a.x), quantile_cont(a.x, 0.5) FROM range(4000000) a(x) GROUP BY 1 ORDER BY 2 DESC LIMIT 10"); err != nil {
				failed++
				time.Sleep(time.Millisecond)
			}
		}
	})
	g := storetest.NewGenerator(1)
	g.Content = 3000
	want, retries := 0, 0
	for range 8 {
		batch := make([]*event.Event, 250)
		for i := range batch {
			batch[i] = g.Event(time.Now())
		}
		want += len(batch)
		for try := 0; ; try++ {
			_, err := s.Write(t.Context(), batch)
			if err == nil {
				break
			}
			if retries++; try == 200 {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond) // the engine may be started again
		}
	}
	cancel()
	wg.Wait()
	t.Logf("%d questions failed, %d writes were repeated", failed, retries)
	var rows, ids, contents int
	eventually(t, 10*time.Second, "the store answers", func() error {
		return s.Read(t.Context(), func(r *sql.Rows) error {
			r.Next()
			return r.Scan(&rows, &ids, &contents)
		}, "SELECT count(*), count(DISTINCT uuid), (SELECT count(*) FROM content) FROM events")
	})
	if rows != want || ids != want || contents != want {
		t.Errorf("%d rows, %d uuids, %d contents; want %d", rows, ids, contents, want)
	}
}

func TestWriteAfterClose(t *testing.T) {
	s := openDuck(t, t.TempDir(), nil)
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write(t.Context(), []*event.Event{storetest.Full(t)}); err == nil {
		t.Error("a closed store took a write")
	}
	if err := s.Ready(t.Context()); err == nil {
		t.Error("a closed store is ready")
	}
}

func TestBackupRestore(t *testing.T) {
	dir := t.TempDir()
	s := duckIn(t, dir)
	want := storetestWrite(t, s, 3000)
	backup := filepath.Join(dir, "back'up.duckdb")
	var wg sync.WaitGroup
	wg.Go(func() { // writes continue meanwhile
		for range 5 {
			storetestWrite(t, s, 200)
		}
	})
	if err := s.Backup(t.Context(), backup, 0); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if err := s.Backup(t.Context(), backup, 0); event.AsError(err).Code != event.CodeConflict {
		t.Errorf("overwriting a backup: %v", err)
	}
	if err := s.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}

	restored := filepath.Join(dir, "restored.duckdb")
	if err := store.Restore(t.Context(), backup, restored); err != nil {
		t.Fatal(err)
	}
	if err := store.Restore(t.Context(), backup, restored); event.AsError(err).Code != event.CodeConflict {
		t.Errorf("restoring over a store: %v", err)
	}
	r, err := store.OpenDuckDB(t.Context(), store.Config{Path: restored})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	rows := storetest.Rows(t, r)
	if len(rows) < len(want) || (len(rows)-len(want))%200 != 0 {
		t.Fatalf("%d rows: not the state between two writes", len(rows))
	}
	got := make(map[string]*event.Event)
	for _, row := range rows {
		got[row.Event.UUID] = row.Event
	}
	for _, e := range want {
		storetest.Same(t, got[e.UUID], e)
	}
	if res, err := r.Write(t.Context(), want); err != nil || res.Duplicates != len(want) {
		t.Errorf("a restored store took duplicates: %d of %d, %v", res.Duplicates, len(want), err)
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "*.[pr][ae][rs]t*")); len(files) > 0 {
		t.Errorf("left behind: %v", files)
	}

	damaged := filepath.Join(dir, "damaged.duckdb")
	b, err := os.ReadFile(backup)
	if err != nil {
		t.Fatal(err)
	}
	for i := len(b) / 2; i < len(b); i += 1000 {
		b[i] ^= 0xff
	}
	os.WriteFile(damaged, b, 0o600)
	if err := store.Restore(t.Context(), damaged, filepath.Join(dir, "from-damaged.duckdb")); err == nil {
		t.Error("restored a damaged backup")
	}
	if _, err := os.Stat(filepath.Join(dir, "from-damaged.duckdb")); err == nil {
		t.Error("a failed restore left a store")
	}
	if err := store.Restore(t.Context(), filepath.Join(dir, "none"), restored+"2"); event.AsError(err).Code != event.CodeNotFound {
		t.Errorf("restoring nothing: %v", err)
	}
}

const childEnv = "HEDGEROW_STORE_TEST_CHILD"

// TestMain lets the test binary be the process that tests kill.
func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		child(path)
		return
	}
	if dir := os.Getenv(sinkEnv); dir != "" {
		fmt.Println("error", sinkChild(dir))
		return
	}
	if path := os.Getenv(migrationEnv); path != "" {
		fmt.Println("error", migrationChild(path))
		return
	}
	os.Exit(m.Run())
}

// child writes batches forever, and prints the uuids of each once Write has
// returned.
func child(path string) {
	s, err := store.OpenDuckDB(context.Background(), store.Config{Path: path})
	if err != nil {
		fmt.Println("error", err)
		return
	}
	fmt.Println("open")
	g := storetest.NewGenerator(uint64(os.Getpid()))
	g.Content = 4000
	for i := 0; ; i++ {
		var batch []*event.Event
		var ids strings.Builder
		for range 100 {
			e := g.Event(time.Now())
			batch = append(batch, e)
			ids.WriteString(" " + e.UUID)
		}
		if _, err := s.Write(context.Background(), batch); err != nil {
			fmt.Println("error", err)
			return
		}
		fmt.Println("stored" + ids.String())
	}
}

func startChild(t *testing.T, path string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	if !lines.Scan() || lines.Text() != "open" {
		t.Fatalf("child said %q", lines.Text())
	}
	return cmd, lines
}

// TestKill kills a writing process at various times, including during
// checkpoints, and finds each event that it reported as stored once.
func TestKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.duckdb")
	reported := make(map[string]bool)
	for round := range 5 {
		cmd, lines := startChild(t, path)
		batches := 0
		for lines.Scan() {
			f := strings.Fields(lines.Text())
			if f[0] != "stored" {
				t.Fatal(lines.Text())
			}
			for _, id := range f[1:] {
				reported[id] = true
			}
			if batches++; batches == 7+round*11 {
				cmd.Process.Kill()
			}
		}
		cmd.Wait()
	}
	s, err := store.OpenDuckDB(t.Context(), store.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	seen := make(map[string]int)
	err = s.Read(t.Context(), func(r *sql.Rows) error {
		for r.Next() {
			var id string
			var contents int
			if err := r.Scan(&id, &contents); err != nil {
				return err
			}
			if contents != 1 {
				t.Fatalf("event %s has %d contents", id, contents)
			}
			seen[id]++
		}
		return nil
	}, "SELECT CAST(uuid AS VARCHAR), (SELECT count(*) FROM content c WHERE c.uuid = e.uuid) FROM events e")
	if err != nil {
		t.Fatal(err)
	}
	for id := range reported {
		if seen[id] != 1 {
			t.Fatalf("event %s is there %d times", id, seen[id])
		}
	}
	t.Logf("%d reported, %d found", len(reported), len(seen))
}

func TestSecondProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.duckdb")
	cmd, _ := startChild(t, path)
	_, err := store.OpenDuckDB(t.Context(), store.Config{Path: path})
	var e *event.Error
	if !errors.As(err, &e) || e.Code != event.CodeConflict || !strings.Contains(e.Message, "in use by another process") {
		t.Errorf("error %v", err)
	}
	cmd.Process.Kill()
}

// BenchmarkWrite writes batches as a store does that keeps up (few events) and
// one that catches up (many). cpu-us/event is of all processors.
func BenchmarkWrite(b *testing.B) {
	for _, c := range []struct{ batch, content int }{{500, 0}, {500, 6000}, {4000, 900}} {
		b.Run(fmt.Sprintf("batch=%d/content=%d", c.batch, c.content), func(b *testing.B) {
			s, err := store.OpenDuckDB(b.Context(), store.Config{Path: filepath.Join(b.TempDir(), "e.duckdb")})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			g := storetest.NewGenerator(1)
			g.Content = c.content
			n := 0
			var cpu time.Duration
			for b.Loop() {
				b.StopTimer()
				batch := make([]*event.Event, c.batch)
				for i := range batch {
					batch[i] = g.Event(time.Now())
				}
				runtime.GC()
				before := cpuTime(b)
				b.StartTimer()
				if _, err := s.Write(b.Context(), batch); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				cpu += cpuTime(b) - before
				b.StartTimer()
				n += len(batch)
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(float64(cpu.Microseconds())/float64(n), "cpu-us/event")
		})
	}
}

// cpuTime is what this process has taken of all processors.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestShrunkFileOpens: the engine truncates free blocks at the end of its file
// after it has stored the number of blocks. Such a file is complete; one that
// lacks used blocks is not.
func TestShrunkFileOpens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.duckdb")
	s, err := store.OpenDuckDB(t.Context(), store.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	kept := len(storetestWrite(t, s, 50))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	size := func() int64 {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	attach := "PRAGMA disable_checkpoint_on_shutdown; ATTACH '" + path + "' AS h (STORAGE_VERSION 'v1.5.0'); USE h; "
	const random = " AS SELECT i, md5(CAST(i AS VARCHAR)) AS t FROM range(100000) r(i); CHECKPOINT; "
	rawExec(t, "", attach+"CREATE TABLE before"+random+"CREATE TABLE last"+random)
	long := size()
	rawExec(t, "", attach+"DROP TABLE last; CHECKPOINT")
	for i := 0; i < 10 && size() >= long; i++ { // the list of tables lay at the end: written again, it moves forward
		rawExec(t, "", attach+"CREATE TABLE more"+strconv.Itoa(i)+" (i INT); CHECKPOINT")
	}
	short := size()
	if short >= long {
		t.Fatalf("the engine did not cut the file: %d bytes, then %d", long, short)
	}
	if s, err = store.OpenDuckDB(t.Context(), store.Config{Path: path}); err != nil {
		t.Fatal(err)
	}
	if n := one(t, s, "SELECT CAST(count(*) AS VARCHAR) FROM events"); n != strconv.Itoa(kept) {
		t.Errorf("%s of %d events", n, kept)
	}
	says := one(t, s, "SELECT CAST(total_blocks * block_size AS VARCHAR) FROM pragma_database_size() WHERE database_name = 'hedgerow'")
	if n, err := strconv.ParseInt(says, 10, 64); err != nil || n <= short {
		t.Errorf("the engine speaks of %s bytes of blocks, the file has %d: this is not the case that is meant", says, short)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, short-4*64<<10); err != nil {
		t.Fatal(err)
	}
	if s, err = store.OpenDuckDB(t.Context(), store.Config{Path: path}); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if list := s.Incidents(); len(list) != 1 || list[0].Kind != store.IncidentDamaged {
		t.Errorf("a file that lacks data: %+v", list)
	}
}

// one reads one text.
func one(t *testing.T, s *store.DuckDB, query string) (out string) {
	t.Helper()
	if err := s.Read(t.Context(), func(rows *sql.Rows) error {
		rows.Next()
		return rows.Scan(&out)
	}, query); err != nil {
		t.Fatal(err)
	}
	return out
}
