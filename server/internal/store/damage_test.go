package store_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/health"
	"github.com/hedgerow/hedgerow/server/internal/store"
	"github.com/hedgerow/hedgerow/server/internal/store/storetest"
)

// overwrite changes some bytes of a file where they are.
func overwrite(t *testing.T, path string, at int64, n int) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, n)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	for i := range b {
		b[i] ^= 0x5a
	}
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// grave is a store with two parts: events in the file, and events in the log that
// a killed process has left.
type grave struct {
	dir, path     string
	inFile, inLog []*event.Event
}

func dig(t *testing.T) *grave {
	t.Helper()
	g := &grave{dir: t.TempDir()}
	live := filepath.Join(t.TempDir(), "e.duckdb")
	full := func(context.Context, time.Time) (time.Time, error) { return time.Time{}, nil }
	s, err := store.OpenDuckDB(t.Context(), store.Config{Path: live, Refill: full})
	if err != nil {
		t.Fatal(err)
	}
	gen := storetest.NewGenerator(17)
	gen.Content = 1500
	write := func(n int) (out []*event.Event) {
		out = makeBatch(gen, n)
		if _, err := s.Write(t.Context(), out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	g.inFile = write(1200)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = store.OpenDuckDB(t.Context(), store.Config{Path: live}); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for range 4 {
		g.inLog = append(g.inLog, write(60)...)
	}
	// As it is on disk now.
	g.path = filepath.Join(g.dir, "hedgerow.duckdb")
	for _, f := range []string{"", ".wal"} {
		b, err := os.ReadFile(live + f)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(g.path+f, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	incidents, err := os.ReadFile(filepath.Join(filepath.Dir(live), "store-incidents.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(g.dir, "store-incidents.json"), incidents, 0o600); err != nil {
		t.Fatal(err)
	}
	return g
}

// copied returns a copy in a folder of its own, for a test to damage.
func (g *grave) copied(t *testing.T) *grave {
	t.Helper()
	out := *g
	out.dir = t.TempDir()
	out.path = filepath.Join(out.dir, filepath.Base(g.path))
	if err := os.CopyFS(out.dir, os.DirFS(g.dir)); err != nil {
		t.Fatal(err)
	}
	return &out
}

func stored(t *testing.T, s *store.DuckDB) map[string]int {
	t.Helper()
	out := make(map[string]int)
	err := s.Read(t.Context(), func(r *sql.Rows) error {
		for r.Next() {
			var id string
			if err := r.Scan(&id); err != nil {
				return err
			}
			out[id]++
		}
		return nil
	}, "SELECT CAST(uuid AS VARCHAR) FROM events")
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// has reports how many of some events are stored.
func has(in map[string]int, events []*event.Event) (n int) {
	for _, e := range events {
		n += in[e.UUID]
	}
	return n
}

// TestDamagedFiles opens stores with one kind of damage each: damaged parts are
// set aside, intact ones are kept, and the journal redelivers the rest.
func TestDamagedFiles(t *testing.T) {
	const tail = 40 // bytes
	intact := dig(t)
	for name, c := range map[string]struct {
		damage  func(t *testing.T, g *grave)
		kind    string // of the incident; "" if there is none
		file    int    // how many events of the file are kept
		log     [2]int // of the log's events: minimum, maximum
		refills int32
	}{
		"Nothing":     {func(*testing.T, *grave) {}, "", 1200, [2]int{240, 240}, 0},
		"CutInHalf":   {func(t *testing.T, g *grave) { truncate(t, g.path, size(t, g.path)/2) }, store.IncidentDamaged, 0, [2]int{}, 1},
		"CutShort":    {func(t *testing.T, g *grave) { truncate(t, g.path, 5000) }, store.IncidentDamaged, 0, [2]int{}, 1},
		"Emptied":     {func(t *testing.T, g *grave) { truncate(t, g.path, 0) }, store.IncidentDamaged, 0, [2]int{}, 1},
		"MainHeader":  {func(t *testing.T, g *grave) { overwrite(t, g.path, 0, 64) }, store.IncidentDamaged, 0, [2]int{}, 1},
		"Version":     {func(t *testing.T, g *grave) { overwrite(t, g.path, 12, 8) }, store.IncidentDamaged, 0, [2]int{}, 1},
		"FirstHeader": {func(t *testing.T, g *grave) { overwrite(t, g.path, 4096, 64); overwrite(t, g.path, 8192, 64) }, store.IncidentDamaged, 0, [2]int{}, 1},
		"NoDatabase": {func(t *testing.T, g *grave) {
			if err := os.WriteFile(g.path, []byte(strings.Repeat("not a database ", 4000)), 0o600); err != nil {
				t.Fatal(err)
			}
		}, store.IncidentDamaged, 0, [2]int{}, 1},
		"Deleted":     {func(t *testing.T, g *grave) { remove(t, g.path) }, store.IncidentDeleted, 0, [2]int{}, 1},
		"BothDeleted": {func(t *testing.T, g *grave) { remove(t, g.path); remove(t, g.path+".wal") }, store.IncidentDeleted, 0, [2]int{}, 1},
		// Each write of the log is its own transaction.
		"LogMiddle":  {func(t *testing.T, g *grave) { overwrite(t, g.path+".wal", size(t, g.path+".wal")/2, 16) }, store.IncidentLog, 1200, [2]int{60, 180}, 1},
		"LogBegin":   {func(t *testing.T, g *grave) { overwrite(t, g.path+".wal", 0, 16) }, store.IncidentLog, 1200, [2]int{}, 1},
		"LogOfOther": {func(t *testing.T, g *grave) { overwrite(t, g.path+".wal", 10, 4) }, store.IncidentLog, 1200, [2]int{}, 1},
		"LogSize":    {func(t *testing.T, g *grave) { overwrite(t, g.path+".wal", firstEntry(t, g.path+".wal"), 8) }, store.IncidentLog, 1200, [2]int{}, 1},
		"LogGarbage": {func(t *testing.T, g *grave) {
			b, err := os.ReadFile(g.path + ".wal")
			if err != nil {
				t.Fatal(err)
			}
			copy(b, "this is not a write-ahead log, but its rest is one")
			if err := os.WriteFile(g.path+".wal", b, 0o600); err != nil {
				t.Fatal(err)
			}
		}, store.IncidentLog, 1200, [2]int{}, 1},
		// Traces of a killed process or a power failure are not damage.
		"LogCut":       {func(t *testing.T, g *grave) { truncate(t, g.path+".wal", size(t, g.path+".wal")-tail) }, "", 1200, [2]int{180, 180}, 0},
		"LogLastBytes": {func(t *testing.T, g *grave) { overwrite(t, g.path+".wal", size(t, g.path+".wal")-tail, tail) }, "", 1200, [2]int{180, 180}, 0},
		"LogZeros": {func(t *testing.T, g *grave) {
			n := size(t, g.path+".wal")
			truncate(t, g.path+".wal", n-tail)
			truncate(t, g.path+".wal", n+4000)
		}, "", 1200, [2]int{180, 180}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			g := intact.copied(t)
			c.damage(t, g)
			damaged := make(map[string]string) // expected in the files set aside
			for _, f := range []string{g.path, g.path + ".wal"} {
				if b, err := os.ReadFile(f); err == nil {
					damaged[filepath.Base(f)] = string(b)
				}
			}
			now := time.Date(2026, 11, 30, 2, 15, 30, 0, time.UTC)
			var refills atomic.Int32
			from := now.Add(-20 * time.Hour)
			var partly time.Time // the time of the last request
			config := store.Config{Path: g.path, Now: func() time.Time { return now }, Refill: func(_ context.Context, since time.Time) (time.Time, error) {
				if since.IsZero() {
					refills.Add(1)
				}
				partly = since
				return from, nil
			}}
			s, err := store.OpenDuckDB(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = s.Close() }()
			eventually(t, 5*time.Second, "the store works", func() error { return working(s) })
			in := stored(t, s)
			if n := has(in, g.inFile); n != c.file {
				t.Errorf("%d events of the file are kept, want %d", n, c.file)
			}
			if n := has(in, g.inLog); n < c.log[0] || n > c.log[1] {
				t.Errorf("%d events of the log are kept, want %v", n, c.log)
			}
			if n := refills.Load(); n != c.refills {
				t.Errorf("the journal was asked for all %d times, want %d", n, c.refills)
			}
			var last time.Time
			if err := s.Read(t.Context(), func(r *sql.Rows) error { r.Next(); return r.Scan(&last) }, "SELECT max(stored_at) FROM events"); c.refills == 0 && (err != nil || !partly.Equal(last.Add(-15*time.Second))) {
				t.Errorf("the journal was asked for what came since %v; the last write was at %v, %v", partly, last, err)
			}
			// Everything is redelivered, and is stored once.
			for _, batch := range [][]*event.Event{g.inFile, g.inLog} {
				if _, err := s.Write(t.Context(), batch); err != nil {
					t.Fatal(err)
				}
			}
			if in := stored(t, s); has(in, g.inFile) != 1200 || has(in, g.inLog) != 240 || len(in) != 1440 {
				t.Errorf("%d rows after the refill", len(in))
			}
			list := s.Incidents()
			if c.kind == "" {
				if len(list) != 0 || s.Health().Status != health.OK {
					t.Errorf("%+v, %+v", list, s.Health())
				}
				if aside, _ := filepath.Glob(g.path + ".damaged-*"); len(aside) > 1 || len(aside) == 1 && !strings.HasSuffix(aside[0], ".wal") {
					t.Errorf("set aside: %v", aside)
				}
				return
			}
			if len(list) != 1 || list[0].Kind != c.kind || !list[0].Refilled || !list[0].RefilledFrom.Equal(from) {
				t.Fatalf("%+v", list)
			}
			if list[0].SetAside != "" {
				name := list[0].SetAside
				if !strings.HasPrefix(name, "hedgerow.duckdb.damaged-20261130-021530") {
					t.Errorf("set aside as %s", name)
				}
				b, err := os.ReadFile(filepath.Join(g.dir, name))
				want := damaged["hedgerow.duckdb"]
				if c.kind == store.IncidentLog {
					want = damaged["hedgerow.duckdb.wal"]
				}
				if err != nil || string(b) != want {
					t.Errorf("what was set aside has %d bytes of %d, %v", len(b), len(want), err)
				}
			} else if c.kind != store.IncidentDeleted {
				t.Error("nothing was set aside")
			}
			r := s.Health()
			if r.Status != health.Degraded || !strings.Contains(r.Message, "refilled from the journal from 2026-11-29 06:15:30 UTC on") || !strings.Contains(r.Message, "2026-11-30 02:15:30 UTC") || r.Hint == "" {
				t.Errorf("%+v", r)
			}
			// It stays until someone has seen it.
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if s, err = store.OpenDuckDB(t.Context(), config); err != nil {
				t.Fatal(err)
			}
			if r := s.Health(); r.Status != health.Degraded || refills.Load() != 1 {
				t.Errorf("after a restart: %+v, asked %d times", r, refills.Load())
			}
			s.AcknowledgeIncidents()
			if r := s.Health(); r.Status != health.OK {
				t.Errorf("acknowledged: %+v", r)
			}
			if read, err := store.ReadIncidents(g.path); err != nil || len(read) != 1 || !read[0].Acknowledged {
				t.Errorf("%+v, %v", read, err)
			}
		})
	}
}

// all counts a store's requests for all events of the journal.
func all(n *atomic.Int32) func(context.Context, time.Time) (time.Time, error) {
	return func(_ context.Context, since time.Time) (time.Time, error) {
		if since.IsZero() {
			n.Add(1)
		}
		return time.Now(), nil
	}
}

func truncate(t *testing.T, path string, n int64) {
	t.Helper()
	if err := os.Truncate(path, n); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// firstEntry is where the first entry of a log begins.
func firstEntry(t *testing.T, path string) int64 {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	i := strings.Index(string(b), "\xff\xff")
	if i < 0 || i > 200 {
		t.Fatal("no header")
	}
	return int64(i) + 2
}

// TestNoFiles puts something other than a file in the place of the store, or of
// its log.
func TestNoFiles(t *testing.T) {
	odd := map[string]func(path string) error{
		"folder": func(path string) error { return os.MkdirAll(filepath.Join(path, "x"), 0o700) },
		"pipe":   func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"link":   func(path string) error { return os.Symlink("nowhere", path) },
		"loop":   func(path string) error { return os.Symlink(path, path) },
	}
	intact := dig(t)
	for name, put := range odd {
		for _, log := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, log %v", name, log), func(t *testing.T) {
				g := intact.copied(t)
				path, kind, kept := g.path, store.IncidentDamaged, 0
				if log {
					path, kind, kept = g.path+".wal", store.IncidentLog, 1200
				}
				remove(t, path)
				if err := put(path); err != nil {
					t.Fatal(err)
				}
				s, err := store.OpenDuckDB(t.Context(), store.Config{Path: g.path, Refill: func(context.Context, time.Time) (time.Time, error) { return time.Now(), nil }})
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = s.Close() }()
				eventually(t, 5*time.Second, "the store works", func() error { return working(s) })
				if n := has(stored(t, s), g.inFile); n != kept {
					t.Errorf("%d events of the file are kept, want %d", n, kept)
				}
				list := s.Incidents()
				if len(list) != 1 || list[0].Kind != kind {
					t.Fatalf("%+v", list)
				}
				if _, err := os.Lstat(filepath.Join(g.dir, list[0].SetAside)); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// TestDamageWhileOpen overwrites blocks of an open store: a query that reads them
// notices.
func TestDamageWhileOpen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "e.duckdb")
	var refills atomic.Int32
	c := store.Config{Path: path, MemoryBytes: 64 << 20, Refill: all(&refills)}
	s, err := store.OpenDuckDB(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	g := storetest.NewGenerator(3)
	g.Content = 3000
	for range 5 {
		if _, err := s.Write(t.Context(), makeBatch(g, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = store.OpenDuckDB(t.Context(), c); err != nil { // with nothing read yet
		t.Fatal(err)
	}
	defer s.Close()
	for at := int64(12288); at+65536 < size(t, path); at += 65536 {
		overwrite(t, path, at+3000, 64)
	}
	if refills.Load() != 1 { // when it was made
		t.Fatalf("asked %d times", refills.Load())
	}
	err = s.Read(t.Context(), func(r *sql.Rows) error {
		for r.Next() {
		}
		return r.Err()
	}, "SELECT max(octet_length(body)) FROM content")
	if e := event.AsError(err); e == nil || e.Code != event.CodeUnavailable {
		t.Errorf("the question that met it: %v", err)
	}
	eventually(t, 5*time.Second, "a new store", func() error {
		if err := working(s); err != nil {
			return err
		}
		if n := len(s.Incidents()); n != 1 {
			return fmt.Errorf("%d incidents", n)
		}
		return nil
	})
	eventually(t, 5*time.Second, "the journal is asked", func() error {
		if refills.Load() != 2 {
			return errors.New("not yet")
		}
		return nil
	})
	if r := s.Health(); r.Status != health.Degraded || !strings.Contains(r.Message, "set aside as e.duckdb.damaged-") {
		t.Errorf("%+v", r)
	}
	if _, err := s.Write(t.Context(), makeBatch(g, 10)); err != nil {
		t.Error(err)
	}
}

// TestFileGone deletes and replaces the file of a store that is in use.
func TestFileGone(t *testing.T) {
	for name, take := range map[string]func(t *testing.T, path string){
		"Deleted":       func(t *testing.T, path string) { remove(t, path) },
		"WithLog":       func(t *testing.T, path string) { remove(t, path); remove(t, path+".wal") },
		"Moved":         func(t *testing.T, path string) { rename(t, path, path+".moved") },
		"ReplacedByOld": func(t *testing.T, path string) { rename(t, path+".old", path) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "e.duckdb")
			var log logged
			var refills atomic.Int32
			s, err := store.OpenDuckDB(t.Context(), store.Config{Path: path, Logger: log.logger(), Refill: all(&refills)})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			old := storetestWrite(t, s, 30)
			if err := s.Backup(t.Context(), path+".old", 0); err != nil {
				t.Fatal(err)
			}
			g := storetest.NewGenerator(77)
			events := makeBatch(g, 20)
			if _, err := s.Write(t.Context(), events); err != nil {
				t.Fatal(err)
			}
			take(t, path)
			gone := time.Now()
			eventually(t, 5*time.Second, "it is noticed", func() error {
				if log.lines("was deleted or replaced while it was open") == 0 {
					return errors.New("no line")
				}
				return nil
			})
			eventually(t, 5*time.Second, "it works again", func() error {
				if err := working(s); err != nil {
					return fmt.Errorf("%w, log: %s", err, log.text())
				}
				return nil
			})
			t.Logf("works again after %v", time.Since(gone))
			eventually(t, 5*time.Second, "the journal is asked", func() error {
				if refills.Load() != 2 { // once when it was made
					return fmt.Errorf("%d times", refills.Load())
				}
				return nil
			})
			in := stored(t, s)
			if want := map[bool]int{true: len(old)}[name == "ReplacedByOld"]; len(in) != want {
				t.Errorf("%d events, want %d", len(in), want)
			}
			for range 2 {
				if _, err := s.Write(t.Context(), slices.Concat(old, events)); err != nil {
					t.Fatal(err)
				}
			}
			if in := stored(t, s); len(in) != 50 || slices.Max(slices.Collect(maps.Values(in))) != 1 {
				t.Errorf("%d events", len(in))
			}
			if list := s.Incidents(); len(list) == 0 || s.Health().Status != health.Degraded {
				t.Errorf("%+v, %+v", list, s.Health())
			}
		})
	}
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// TestDeletedStayDeleted: a store that is recreated does not take deleted
// events from the journal again.
func TestDeletedStayDeleted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "e.duckdb")
	s, err := store.OpenDuckDB(t.Context(), store.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	g := storetest.NewGenerator(6)
	events := makeBatch(g, 10)
	if _, err := s.Write(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	has := func(d *store.Deletions, e *event.Event, want bool) {
		t.Helper()
		if got, err := d.Has(e.ProjectID, strings.ToUpper(e.UUID)); got != want || err != nil {
			t.Errorf("deleted: %v, want %v; %v", got, want, err)
		}
	}
	has(store.NewDeletions(path), events[3], false)
	if n, err := s.DeleteEvents(t.Context(), events[3].ProjectID, []string{events[3].UUID}); n != 1 || err != nil {
		t.Fatalf("deleted %d, %v", n, err)
	}
	has(store.NewDeletions(path), events[3], true) // without a store, too
	has(store.NewDeletions(path), events[4], false)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	overwrite(t, path, 4096, 2000)
	overwrite(t, path, 8192, 2000)
	if s, err = store.OpenDuckDB(t.Context(), store.Config{Path: path}); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if len(s.Incidents()) != 1 {
		t.Fatalf("%+v", s.Incidents())
	}
	if res, err := s.Write(t.Context(), events); err != nil || len(res.Stored) != 9 {
		t.Errorf("stored %d, %v", len(res.Stored), err)
	}
}

// TestRefillIsTriedAgain: the journal may be unavailable when the store is
// recreated.
func TestRefillIsTriedAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "e.duckdb")
	var tries atomic.Int32
	c := store.Config{Path: path, Refill: func(context.Context, time.Time) (time.Time, error) {
		if tries.Add(1) < 3 {
			return time.Time{}, errors.New("the journal is away")
		}
		return time.Now(), nil
	}}
	s, err := store.OpenDuckDB(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	refill := func() bool {
		b, err := os.ReadFile(filepath.Join(filepath.Dir(path), "store-incidents.json"))
		var f struct{ Refill bool }
		if err == nil {
			err = json.Unmarshal(b, &f)
		}
		if err != nil {
			t.Fatal(err)
		}
		return f.Refill
	}
	if !refill() {
		t.Error("it is not noted that a refill is due")
	}
	if err := s.Close(); err != nil { // and begun again
		t.Fatal(err)
	}
	if s, err = store.OpenDuckDB(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	eventually(t, 5*time.Second, "the journal is asked again", func() error {
		if tries.Load() < 3 || refill() {
			return errors.New("not yet")
		}
		return nil
	})
}
