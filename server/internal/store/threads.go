package store

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// While more arrives than one batch holds, consecutive events keep the processors
// busy, so the engine uses one thread per operation. Splitting a batch's lookup,
// commit and checkpoint among threads finishes that batch earlier but costs a
// seventh more processor time, which the next batch lacks.
const (
	rushEvents = 1500                  // events in a batch, from which on there is a rush
	rushBytes  = DefaultBatchBytes / 2 // or bytes of their content
	rushHold   = 5 * time.Second       // how long it lasts after the last such batch
)

// threads is how many threads the engine uses now.
type threads struct {
	mu       sync.Mutex
	until    time.Time // end of the rush; zero if there is none
	changing sync.WaitGroup
}

// rush records that a large batch is being written. It reports whether
// the engine's setting must change.
func (t *threads) recordBatch(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	begins := t.until.IsZero()
	t.until = now.Add(rushHold)
	return begins
}

// over reports, once, that the rush has ended.
func (t *threads) over(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.until.IsZero() || now.Before(t.until) {
		return false
	}
	t.until = time.Time{}
	return true
}

func isRush(batch []*event.Event) bool {
	size := 0
	for _, e := range batch {
		size += e.Content.Size()
	}
	return len(batch) >= rushEvents || size >= rushBytes
}

// adaptThreads sets the engine's threads for a batch, or for a query (nil). The
// caller locks gate or mu. It does not wait: the engine first finishes the work
// of its other threads, which may be a long query.
func (d *DuckDB) adjustThreads(e *engine, batch []*event.Event) {
	n := d.c.Threads
	now := d.c.Now()
	switch {
	case n == 1:
		return
	case isRush(batch):
		if !e.threads.recordBatch(now) {
			return
		}
		n = 1
	case !e.threads.over(now):
		return
	}
	e.threads.changing.Go(func() {
		if _, err := e.readers.ExecContext(context.Background(), fmt.Sprintf("SET threads = %d", n)); err != nil && e.ctx.Err() == nil {
			d.c.Logger.Warn("the store's threads stay as they are", "err", err)
		}
	})
}
