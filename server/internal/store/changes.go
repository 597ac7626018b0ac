package store

import (
	"sync"
	"time"
)

// changes records the rows of the last changes of the generation, so that a merge of
// new rows does not discard a roll-up of older ones.
type changes struct {
	mu   sync.Mutex
	last []change

	pending [][]*Row // changed by the current transaction; used only by the writer
}

// change is the change of one generation.
type change struct {
	generation  uint64
	first, last time.Time // stored_at of the rows
}

// maxChanges bounds the recorded changes: some minutes with merges in every write.
const maxChanges = 4096

// settleChanges notes what the transaction that has just ended has changed. A roll-up
// that has read the rows before must not be stored after it: the generation rises
// before other writers come, and not before readers see the change.
func (d *DuckDB) publishChanges() {
	for _, rows := range d.changes.pending {
		d.changes.note(d.generation.Add(1), rows)
	}
	d.changes.pending = d.changes.pending[:0]
}

func (c *changes) note(generation uint64, rows []*Row) {
	n := change{generation: generation, first: rows[0].StoredAt, last: rows[0].StoredAt}
	for _, r := range rows {
		if r.StoredAt.Before(n.first) {
			n.first = r.StoredAt
		}
		if r.StoredAt.After(n.last) {
			n.last = r.StoredAt
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.last) >= maxChanges {
		c.last = append(c.last[:0], c.last[maxChanges/2:]...)
	}
	c.last = append(c.last, n)
}

// outside reports whether all changes after one generation and up to another are
// recorded, and none is of rows stored after first and up to last.
func (c *changes) outside(since, until uint64, first, last time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := uint64(0)
	for _, h := range c.last {
		if h.generation <= since || h.generation > until {
			continue
		}
		n++
		if h.last.After(first) && !h.first.After(last) {
			return false
		}
	}
	return n == until-since
}
