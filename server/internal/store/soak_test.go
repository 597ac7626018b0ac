package store_test

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/store"
	"github.com/hedgerow/hedgerow/server/internal/store/storetest"
)

// TestSoak writes 1,000 events a second of 6 KB for HEDGEROW_STORE_SOAK (60s),
// queries meanwhile, and reports memory and the longest write.
func TestSoak(t *testing.T) {
	long, err := time.ParseDuration(os.Getenv("HEDGEROW_STORE_SOAK"))
	if err != nil {
		t.Skip("set HEDGEROW_STORE_SOAK=60s")
	}
	path := filepath.Join(t.TempDir(), "e.duckdb")
	s, err := store.OpenDuckDB(t.Context(), store.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r, err := query.New(s, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("empty: %d MB", rss(t, "VmRSS")>>20)
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	asked := make(chan error, 1)
	go func() {
		var err error
		for ctx.Err() == nil && err == nil {
			if _, err = r.Events(ctx, query.EventsQuery{Project: "default"}); err == nil {
				_, err = r.SevenDays(ctx, "default", "Europe/Paris")
			}
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
		if ctx.Err() != nil {
			err = nil
		}
		asked <- err
	}()
	g := storetest.NewGenerator(1)
	g.Content = 6000
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var worst, busy time.Duration
	n := 0
	for report := time.Now(); ctx.Err() == nil; <-tick.C {
		batch := make([]*event.Event, 100)
		for i := range batch {
			batch[i] = g.Event(time.Now())
		}
		start := time.Now()
		if _, err := s.Write(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
		d := time.Since(start)
		worst, busy, n = max(worst, d), busy+d, n+len(batch)
		if time.Since(report) > long/6 {
			info, _ := os.Stat(path)
			t.Logf("%d events: %d MB resident (peak %d), longest write %v, writing %.0f %% of the time, file %d MB",
				n, rss(t, "VmRSS")>>20, rss(t, "VmHWM")>>20, worst, 100*busy.Seconds()/time.Since(report).Seconds(), info.Size()>>20)
			worst, busy, report = 0, 0, time.Now()
		}
	}
	if err := <-asked; err != nil {
		t.Error(err)
	}
}

func rss(t *testing.T, field string) int64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip(err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			kb, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kb << 10
		}
	}
	return 0
}
