package store_test

import (
	"database/sql"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/store"
	"github.com/hedgerow/hedgerow/server/internal/store/storetest"
)

// TestThreadsInARush: large batches one after the other are each written by one
// thread; afterwards questions have all threads again.
func TestThreadsInARush(t *testing.T) {
	var later atomic.Int64
	start := time.Now() // the clock changes only when the test sets it
	s, err := store.OpenDuckDB(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "e.duckdb"), Threads: 3,
		Now: func() time.Time { return start.Add(time.Duration(later.Load())) }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	threads := func(want int) {
		t.Helper()
		var n int
		for deadline := time.Now().Add(time.Minute); n != want; time.Sleep(5 * time.Millisecond) {
			err := s.Read(t.Context(), func(r *sql.Rows) error {
				for r.Next() {
					if err := r.Scan(&n); err != nil {
						return err
					}
				}
				return nil
			}, "SELECT CAST(current_setting('threads') AS BIGINT)")
			if err != nil || time.Now().After(deadline) {
				t.Fatalf("%d threads, not %d: %v", n, want, err)
			}
		}
	}
	g := storetest.NewGenerator(1)
	write := func(n, content int) {
		t.Helper()
		g.Content = content
		var batch []*event.Event
		for range n {
			batch = append(batch, g.Event(time.Now()))
		}
		if _, err := s.Write(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	write(100, 0)
	threads(3)
	write(1500, 0)
	threads(1)
	write(100, 0)
	later.Add(int64(time.Minute))
	threads(3)
	write(400, 16<<10)
	threads(1)
	later.Add(int64(time.Minute))
	write(100, 0) // as a question does
	threads(3)
}
