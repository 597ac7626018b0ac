package journal_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/journal"
)

// BenchmarkAppend measures the cost of a capture: one event, one event from
// each of many goroutines, and batches. A usual call has 4 KB.
func BenchmarkAppend(b *testing.B) {
	for _, bc := range []struct {
		name     string
		c        journal.Config
		batch    int
		parallel int // goroutines per CPU; 0 is one after the other
	}{
		{"one", journal.Config{}, 1, 0},
		{"one/parallel8", journal.Config{}, 1, 4},
		{"one/parallel256", journal.Config{}, 1, 128},
		{"batch100", journal.Config{}, 100, 0},
		{"one/parallel256/dedupe2m", journal.Config{DedupeWindow: 2 * time.Minute}, 1, 128},
		{"batch100/dedupe2m", journal.Config{DedupeWindow: 2 * time.Minute}, 100, 0},
		{"one/sync", journal.Config{SyncAlways: true}, 1, 0},
		{"batch100/sync", journal.Config{SyncAlways: true}, 100, 0},
	} {
		b.Run(bc.name, func(b *testing.B) {
			bc.c.MaxBytes = 64 << 30
			j := open(b, bc.c)
			run := func(next func() bool) {
				batch := make([]*event.Event, bc.batch)
				for i := range batch {
					batch[i] = newEvent("p1", 4000)
				}
				for next() {
					for _, e := range batch {
						if bc.c.DedupeWindow > 0 {
							e.UUID = event.NewID()
						}
					}
					if err := j.Append(b.Context(), batch...); err != nil {
						b.Error(err)
						return
					}
				}
			}
			b.ReportAllocs()
			start := time.Now()
			if bc.parallel > 0 {
				b.SetParallelism(bc.parallel)
				b.ResetTimer()
				b.RunParallel(func(pb *testing.PB) { run(pb.Next) })
			} else {
				run(b.Loop)
			}
			b.ReportMetric(float64(b.N*bc.batch)/time.Since(start).Seconds(), "events/s")
		})
	}
}

// BenchmarkFetch is a sink's side: fetch, decode, acknowledge.
func BenchmarkFetch(b *testing.B) {
	for _, n := range []int{1, 20, 500, 5000} {
		b.Run(fmt.Sprintf("max%d", n), func(b *testing.B) {
			j := open(b, journal.Config{Keep: -1})
			q := mustQueue(b, j, "store", journal.QueueOptions{})
			batch := make([]*event.Event, 1000)
			for i := range batch {
				batch[i] = newEvent("p1", 4000)
			}
			left := 0
			b.ResetTimer()
			for done := 0; done < b.N; {
				if left == 0 {
					b.StopTimer()
					for range 20 {
						mustAppend(b, j, batch...)
					}
					left = 20_000
					b.StartTimer()
				}
				ds, err := q.Fetch(b.Context(), min(n, left), 100*time.Millisecond)
				if err != nil {
					b.Fatal(err)
				}
				for _, d := range ds {
					if err := d.Ack(); err != nil {
						b.Fatal(err)
					}
				}
				done += len(ds)
				left -= len(ds)
			}
		})
	}
}
