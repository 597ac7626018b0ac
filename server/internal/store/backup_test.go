package store_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/health"
	"github.com/hedgerow/hedgerow/server/internal/store"
	"github.com/hedgerow/hedgerow/server/internal/store/storetest"
)

// TestBackupCutOff cancels backups at random times, and lets others fill the
// disk, while the store is read and written: no query or write fails, and nothing
// is left behind.
func TestBackupCutOff(t *testing.T) {
	small := smallDisk(t, 6<<20)
	var log logged
	s, err := store.OpenDuckDB(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "e.duckdb"), Logger: log.logger()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	g := storetest.NewGenerator(8)
	g.Content = 3000
	for range 4 {
		if _, err := s.Write(t.Context(), makeBatch(g, 2000)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	var background sync.WaitGroup
	var asked, written atomic.Int64
	background.Go(func() {
		for ctx.Err() == nil {
			if _, err := s.Write(t.Context(), makeBatch(g, 50)); err != nil {
				t.Errorf("a write: %v", err)
				return
			}
			written.Add(50)
			time.Sleep(10 * time.Millisecond)
		}
	})
	for range 2 {
		background.Go(func() {
			for ctx.Err() == nil {
				before := written.Load()
				if n := count(t, s, "SELECT count(*) FROM events WHERE length(CAST(uuid AS VARCHAR)) = 36"); int64(n) < 8_000+before {
					t.Errorf("%d events, %d were written before", n, 8_000+before)
					return
				}
				asked.Add(1)
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	begin := time.Now()
	whole := filepath.Join(t.TempDir(), "whole.duckdb")
	if err := s.Backup(t.Context(), whole, 0); err != nil {
		t.Fatal(err)
	}
	took := time.Since(begin)
	left := func(dir string, want int) {
		t.Helper()
		files, err := os.ReadDir(dir)
		if err != nil || len(files) != want {
			t.Errorf("%v is left, %v", files, err)
		}
	}
	target := t.TempDir()
	cut := 0
	tries := 0
	for ; tries < 100 && cut < 8; tries++ {
		ctx, cancel := context.WithTimeout(t.Context(), rand.N(took))
		if tries%2 == 0 { // a client that disconnects
			ctx, cancel = context.WithCancel(t.Context())
			time.AfterFunc(rand.N(took), cancel)
		}
		name := filepath.Join(target, "b.duckdb")
		err := s.Backup(ctx, name, 0)
		cancel()
		if err == nil {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
			continue
		}
		cut++
		if ctx.Err() == nil {
			t.Errorf("backup %d: %v", tries, err)
		}
		left(target, 0)
	}
	if cut < 5 {
		t.Errorf("%d backups were cut off: the test shows little", cut)
	}
	for i := range 6 {
		if i >= 3 { // the space runs out while the backup is written
			big := smallDisk(t, 60<<20)
			var filling sync.WaitGroup
			filling.Go(func() {
				time.Sleep(rand.N(took / 2))
				fill(t, big)
			})
			err = s.Backup(t.Context(), filepath.Join(big, "b.duckdb"), 0)
			filling.Wait()
			if err == nil {
				continue
			}
		} else {
			err = s.Backup(t.Context(), filepath.Join(small, "b.duckdb"), 0)
			left(small, 0)
		}
		if e := (*event.Error)(nil); !errors.As(err, &e) || !strings.Contains(e.Message, "is full") || !strings.Contains(e.Hint, "another disk") {
			t.Errorf("backup to a full disk: %v", err)
		}
	}
	stop()
	background.Wait()
	if r := s.Health(); r.Status != health.OK || r.Restarts != 0 {
		t.Errorf("%+v", r)
	}
	if n := log.lines("level=WARN") + log.lines("level=ERROR"); n > 0 {
		t.Errorf("log: %s", log.text())
	}
	t.Logf("a whole backup took %v; %d of %d cut off; %d questions and %d events went on", took, cut, tries, asked.Load(), written.Load())
	b, err := store.OpenDuckDB(t.Context(), store.Config{Path: whole})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if n := count(t, b, "SELECT count(*) FROM events"); n < 8_000 || n%50 != 0 {
		t.Errorf("%d events in the backup", n)
	}
	if list := b.Incidents(); len(list) != 0 {
		t.Errorf("the backup: %+v", list)
	}
}
