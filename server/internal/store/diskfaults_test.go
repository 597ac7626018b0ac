package store_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/health"
	"github.com/hedgerow/hedgerow/server/internal/store"
	"github.com/hedgerow/hedgerow/server/internal/store/storetest"
)

// eventually waits for something to succeed.
func eventually(t testing.TB, within time.Duration, what string, try func() error) {
	t.Helper()
	for start := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if time.Since(start) > within {
			t.Fatalf("%s: not within %v: %v", what, within, err)
		}
	}
}

// smallDisk mounts its own file system with so many bytes.
func smallDisk(t testing.TB, size int) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=700", size)); err != nil {
		t.Skipf("THIS TEST NEEDS ROOT, to mount a small file system: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

// fill uses up all space in a folder; the returned function frees it.
func fill(t testing.TB, dir string) (free func()) {
	t.Helper()
	name := filepath.Join(dir, "filler")
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	for block := bytes.Repeat([]byte{1}, 64<<10); len(block) > 0; {
		if _, err := f.Write(block); err != nil {
			block = block[:len(block)/2]
		}
	}
	_ = f.Close() // the disk is full, as intended
	return func() {
		if err := os.Remove(name); err != nil {
			t.Error(err)
		}
	}
}

// logged is a log that tests read.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logged) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logged) lines(with string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.b.String()) {
		if strings.Contains(line, with) {
			n++
		}
	}
	return n
}

func (l *logged) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func working(s *store.DuckDB) error {
	if r := s.Health(); !r.Working() {
		return fmt.Errorf("%+v", r)
	}
	return s.Ready(context.Background())
}

func makeBatch(g *storetest.Generator, n int) (batch []*event.Event) {
	for range n {
		batch = append(batch, g.Event(time.Now()))
	}
	return batch
}

// TestFullDisk fills the disk during writes: queries are always answered, writes
// are rejected with a clear error and continue once there is space. Events
// reported as stored exist once.
func TestFullDisk(t *testing.T) {
	dir := smallDisk(t, 64<<20)
	var log logged
	path := filepath.Join(dir, "e.duckdb")
	s, err := store.OpenDuckDB(t.Context(), store.Config{Path: path, Logger: log.logger()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	g := storetest.NewGenerator(3)
	g.Content = 2000
	stored := 0
	for round := range 3 {
		for range 4 {
			if _, err := s.Write(t.Context(), makeBatch(g, 300)); err != nil {
				t.Fatal(err)
			}
			stored += 300
		}
		free := fill(t, dir)
		batch := makeBatch(g, 200)
		for range 5 {
			begin := time.Now()
			_, err := s.Write(t.Context(), batch)
			if e := event.AsError(err); err == nil || e.Code != event.CodeUnavailable || !strings.Contains(e.Message, "full") || e.Hint == "" {
				t.Fatalf("round %d: a write on a full disk: %v", round, err)
			}
			if d := time.Since(begin); d > time.Second {
				t.Errorf("refused after %v", d)
			}
			if n := count(t, s, "SELECT count(*) FROM events"); n != stored {
				t.Fatalf("round %d: %d of %d events", round, n, stored)
			}
		}
		if r := s.Health(); r.Status != health.Degraded || !strings.Contains(r.Message, "disk is full") {
			t.Errorf("%+v", r)
		}
		if round == 1 { // opened while the disk is full
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if s, err = store.OpenDuckDB(t.Context(), store.Config{Path: path, Logger: log.logger()}); err != nil {
				t.Fatal(err)
			}
		}
		freed := time.Now()
		free()
		eventually(t, 5*time.Second, "a write after the disk was freed", func() error {
			_, err := s.Write(t.Context(), batch)
			return err
		})
		t.Logf("round %d: a write went through %v after the disk was freed", round, time.Since(freed))
		stored += len(batch)
		if r := s.Health(); r.Status != health.OK {
			t.Errorf("%+v", r)
		}
	}
	if n := log.lines("the disk is full"); n != 3 {
		t.Errorf("%d lines say that the disk is full, want 3", n)
	}
	if n, ids := count(t, s, "SELECT count(*) FROM events"), count(t, s, "SELECT count(DISTINCT uuid) FROM events"); n != stored || ids != stored {
		t.Errorf("%d rows, %d uuids, want %d", n, ids, stored)
	}
	if list := s.Incidents(); len(list) != 0 {
		t.Errorf("a full disk was taken for damage: %+v", list)
	}
}

// TestOpenOnFullDisk: a store first opened on a full disk fails, reports the
// cause, and reopens itself.
func TestOpenOnFullDisk(t *testing.T) {
	dir := smallDisk(t, 16<<20)
	free := fill(t, dir)
	s, err := store.OpenDuckDB(t.Context(), store.Config{Path: filepath.Join(dir, "e.duckdb")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	// The first try may outlast OpenDuckDB where the machine is busy.
	eventually(t, 30*time.Second, "the store says that the disk is full", func() error {
		if r := s.Health(); r.Component != "store" || r.Status != health.Failed || !strings.Contains(r.Message, "the disk is full") || !strings.Contains(r.Hint, "free some") || r.Since.IsZero() {
			return fmt.Errorf("%+v", r)
		}
		return nil
	})
	batch := makeBatch(storetest.NewGenerator(1), 3)
	_, writing := s.Write(t.Context(), batch)
	_, deleting := s.DeleteEvents(t.Context(), "default", []string{batch[0].UUID})
	_, deriving := s.Derive(t.Context(), 0, time.Time{}, time.Time{}, func(*store.Derivation) error { return nil })
	_, retaining := s.Retain(t.Context(), func(string) store.Retention { return store.Retention{} })
	for name, err := range map[string]error{"Write": writing, "Read": s.Ready(t.Context()), "DeleteEvents": deleting, "Derive": deriving, "Retain": retaining,
		"Stage": s.Stage(t.Context(), "rollup", "SELECT 1"), "Backup": s.Backup(t.Context(), filepath.Join(t.TempDir(), "b"), 0)} {
		if e := (*event.Error)(nil); !errors.As(err, &e) || e.Code != event.CodeUnavailable || e.Hint == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	free()
	eventually(t, 5*time.Second, "the store opens itself", func() error {
		_, err := s.Write(t.Context(), batch)
		return err
	})
	if r := s.Health(); r.Status != health.OK || r.Message != "" || r.Restarts != 1 {
		t.Errorf("%+v", r)
	}
	if list := s.Incidents(); len(list) != 0 {
		t.Errorf("%+v", list)
	}
}

// TestNoDescriptors: with none left the store fails or does not, and works again
// once there are some.
func TestNoDescriptors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "e.duckdb")
	s, err := store.OpenDuckDB(t.Context(), store.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	g := storetest.NewGenerator(1)
	if _, err := s.Write(t.Context(), makeBatch(g, 50)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	var open []*os.File
	none := before
	none.Cur = 64
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	for {
		f, err := os.Open(os.DevNull)
		if err != nil {
			break
		}
		open = append(open, f)
	}
	s, err = store.OpenDuckDB(t.Context(), store.Config{Path: path})
	var report health.Report
	if err == nil {
		report = s.Health()
	}
	for _, f := range open {
		_ = f.Close()
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if report.Status != health.Failed || !strings.Contains(report.Message, "descriptors") || !strings.Contains(report.Hint, "ulimit") {
		t.Errorf("%+v", report)
	}
	eventually(t, 5*time.Second, "the store works again", func() error { return working(s) })
	if n := count(t, s, "SELECT count(*) FROM events"); n != 50 {
		t.Errorf("%d events", n)
	}
	if list := s.Incidents(); len(list) != 0 {
		t.Errorf("%+v", list)
	}
}

// TestSinkThroughFaults has a sink fill a store whose disk fills up and is freed,
// and whose file is deleted: no event is lost, duplicated or dropped.
func TestSinkThroughFaults(t *testing.T) {
	dir := smallDisk(t, 48<<20)
	var log logged
	s, err := store.OpenDuckDB(t.Context(), store.Config{Path: filepath.Join(dir, "e.duckdb")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	g := storetest.NewGenerator(5)
	q := newQueue()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	sink := &store.Sink{Queue: q, Store: s, Logger: log.logger(), FlushInterval: 20 * time.Millisecond}
	go func() { done <- sink.Run(ctx) }()
	seq := 0
	push := func(n int) {
		for _, e := range makeBatch(g, n) {
			seq++
			q.push(e, uint64(seq), 1)
		}
	}
	push(500)
	for range 500 {
		<-q.ended
	}
	for round := range 2 {
		free := fill(t, dir)
		push(300)
		eventually(t, 5*time.Second, "the sink notices", func() error {
			if log.lines("events wait in the journal") != round+1 {
				return errors.New("no line")
			}
			return nil
		})
		time.Sleep(300 * time.Millisecond) // several attempts
		free()
		begin := time.Now()
		for range 300 {
			select {
			case how := <-q.ended:
				if how != "ack" {
					t.Fatalf("ended as %q", how)
				}
			case <-time.After(5 * time.Second):
				t.Fatal("the sink does not go on")
			}
		}
		t.Logf("all was stored %v after the disk was freed", time.Since(begin))
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n, m := log.lines("events wait in the journal"), log.lines("writes again"); n != 2 || m != 2 {
		t.Errorf("%d lines of failures, %d of recoveries, want 2 and 2", n, m)
	}
	if n := count(t, s, "SELECT count(*) FROM events"); n != seq {
		t.Errorf("%d of %d events", n, seq)
	}
	for id, how := range q.outcome {
		if len(how) != 1 || how[0] != "ack" {
			t.Errorf("%s ended as %v", id, how)
		}
	}
}

// TestPrivateFiles: other users cannot read the store's files, regardless of
// the process's umask and the files' previous modes.
func TestPrivateFiles(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	dir := t.TempDir()
	path := filepath.Join(dir, "e.duckdb")
	open := func() *store.DuckDB {
		t.Helper()
		s, err := store.OpenDuckDB(t.Context(), store.Config{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	private := func() error {
		files, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, f := range files {
			info, err := f.Info()
			if err != nil {
				return err
			}
			if info.Mode().Perm()&0o077 != 0 {
				return fmt.Errorf("%s has mode %v", f.Name(), info.Mode())
			}
		}
		return nil
	}
	s := open()
	if err := private(); err != nil {
		t.Error(err)
	}
	storetestWrite(t, s, 100)
	if _, err := os.Stat(path + ".wal"); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "the log is private", private)
	if err := s.Backup(t.Context(), filepath.Join(dir, "backup.duckdb"), 0); err != nil {
		t.Fatal(err)
	}
	if err := private(); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil { // as an older hedgerow left it
		t.Fatal(err)
	}
	s = open()
	defer s.Close()
	if err := private(); err != nil {
		t.Error(err)
	}
	// Spilled to disk.
	err := s.Read(t.Context(), func(r *sql.Rows) error { r.Next(); return private() }, "SELECT count(*) FROM events")
	if err != nil {
		t.Error(err)
	}
}
