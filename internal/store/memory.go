package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/duckdb/duckdb-go/v2"
)

// Where [Config.MemoryBytes] is not set, the engine's memory goes with the store:
//
//   - [DefaultMemoryBytes] while the file is small,
//   - then an eighth of the file (memoryPerByte),
//   - twice as much, again and again, for a question that ran out of it, which
//     is then asked anew; that memory is given back after memoryHold,
//   - and never more than a quarter of what the machine or the container has,
//     nor than maxMemory.
const (
	memoryPerByte = 8
	maxMemory     = 2 << 30
	memoryHold    = 5 * time.Minute
	memoryCheck   = time.Minute // between two looks at the size of the file
)

// engineShare is the part of the machine's memory that DuckDB takes by default,
// of which we are told: it heeds the limits of containers.
const engineShare = 0.8

// memory is what the engine may take, and may come to take.
type memory struct {
	auto bool
	path string
	now  func() time.Time

	mu      sync.Mutex // held while the engine's limit is changed
	limit   int64      // that the engine has
	ceiling int64
	wanted  int64 // more, for a question that ran out
	until   time.Time
	looked  time.Time
}

func newMemory(c Config) *memory {
	m := &memory{path: c.Path, now: c.Now, limit: c.MemoryBytes, ceiling: c.MemoryBytes}
	if m.auto = c.MemoryBytes <= 0; m.auto {
		m.limit, m.ceiling = DefaultMemoryBytes, DefaultMemoryBytes
	}
	m.limit = max(m.limit, MinMemoryBytes)
	m.ceiling = max(m.ceiling, m.limit)
	return m
}

// learn sets the ceiling from the limit that the engine has by default, as it
// writes it: "12.5 GiB".
func (m *memory) learn(engineDefault string) error {
	have, err := parseEngineSize(engineDefault)
	if err != nil {
		return err
	}
	if m.auto {
		m.ceiling = max(DefaultMemoryBytes, min(int64(have/engineShare/4), maxMemory))
	}
	return nil
}

// fitting is the limit for the file as large as it is.
func (m *memory) fitting() int64 {
	if !m.auto {
		return m.limit
	}
	var size int64
	if info, err := os.Stat(m.path); err == nil {
		size = info.Size()
	}
	return min(max(DefaultMemoryBytes, size/memoryPerByte, m.wanted), m.ceiling)
}

// setting is the engine's statement for a limit.
func (m *memory) setting() string { return fmt.Sprintf("SET memory_limit = '%d bytes'", m.limit) }

// adapt sets the limit that fits, where it is time to look. Giving memory back
// fails while it is in use; it is tried again.
func (m *memory) adapt(exec func(statement string) error) error {
	if !m.auto || !m.mu.TryLock() {
		return nil // somebody else does it
	}
	defer m.mu.Unlock()
	now := m.now()
	if !m.looked.IsZero() && now.Sub(m.looked) < memoryCheck {
		return nil
	}
	m.looked = now
	if now.After(m.until) {
		m.wanted = 0
	}
	return m.set(m.fitting(), exec)
}

func (m *memory) set(limit int64, exec func(statement string) error) error {
	before := m.limit
	if limit == before {
		return nil
	}
	m.limit = limit
	if err := exec(m.setting()); err != nil {
		m.limit = before
		return fmt.Errorf("change the store's memory: %w", err)
	}
	return nil
}

// present is the limit now.
func (m *memory) present() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.limit
}

// more raises the limit for a question that ran out of the limit had, and
// reports whether it is worth to ask again.
func (m *memory) more(had int64, exec func(statement string) error) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.auto {
		return false
	}
	if m.limit > had { // for another question, meanwhile
		return true
	}
	if m.limit >= m.ceiling {
		return false
	}
	m.wanted, m.until = min(2*m.limit, m.ceiling), m.now().Add(memoryHold)
	return m.set(m.wanted, exec) == nil
}

// ample runs a statement on e with the memory that fits and, where it may grow,
// again with more where it runs out of it.
func (d *DuckDB) ample(ctx context.Context, e *engine, grow bool, run func() error) error {
	exec := func(statement string) error {
		_, err := e.readers.ExecContext(ctx, statement)
		return err
	}
	if err := d.memory.adapt(exec); err != nil {
		d.c.Logger.Debug("the store's memory stays as it is", "error", err)
	}
	had := d.memory.present()
	err := run()
	for grow && err != nil && isDuck(err, duckdb.ErrorTypeOutOfMemory) && ctx.Err() == nil && d.memory.more(had, exec) {
		had = d.memory.present()
		err = run()
	}
	return err
}

// learnMemory asks the engine, whose limit nobody has changed yet, for the ceiling.
func (d *DuckDB) learnMemory(ctx context.Context, conn driver.ExecerContext) error {
	asked, ok := conn.(driver.QueryerContext)
	if !ok {
		return errors.New("the engine cannot be asked for its memory")
	}
	rows, err := asked.QueryContext(ctx, "SELECT current_setting('memory_limit')", nil)
	if err != nil {
		return fmt.Errorf("ask the engine for its memory: %w", err)
	}
	row := make([]driver.Value, 1)
	if err := errors.Join(rows.Next(row), rows.Close()); err != nil {
		return fmt.Errorf("ask the engine for its memory: %w", err)
	}
	text, _ := row[0].(string)
	return d.memory.learn(text)
}

// parseEngineSize reads a size as DuckDB writes it: a decimal and a unit.
func parseEngineSize(s string) (float64, error) {
	number, unit, ok := strings.Cut(s, " ")
	n, err := strconv.ParseFloat(number, 64)
	scale := map[string]float64{"bytes": 1, "byte": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}[unit]
	if err != nil || !ok || scale == 0 || n < 0 {
		return 0, errors.Join(fmt.Errorf("the engine's memory is no size: %q", s), err)
	}
	return n * scale, nil
}
