package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Without [Config.MemoryBytes] the engine uses a quarter of the memory of the
// machine or container, within these bounds.
const (
	leastMemory = 256 << 20
	mostMemory  = 4 << 30
)

// MinMemoryBytes is the memory that a checkpoint of table events needs.
// DuckDB does not survive running out of memory during one.
const MinMemoryBytes = 40 << 20

// engineShare is the part of the machine's memory that DuckDB takes by default,
// as reported to us: it respects container limits.
const engineShare = 0.8

// memoryFor returns the memory for an engine whose limit is still the default.
func memoryFor(conn driver.ExecerContext, set int64) (int64, error) {
	if set > 0 {
		return max(set, MinMemoryBytes), nil
	}
	asked, ok := conn.(driver.QueryerContext)
	if !ok {
		return 0, errors.New("the engine's memory use cannot be read")
	}
	rows, err := asked.QueryContext(context.Background(), "SELECT current_setting('memory_limit')", nil)
	if err != nil {
		return 0, fmt.Errorf("read memory use: %w", err)
	}
	row := make([]driver.Value, 1)
	if err := errors.Join(rows.Next(row), rows.Close()); err != nil {
		return 0, fmt.Errorf("read memory use: %w", err)
	}
	text, _ := row[0].(string)
	have, err := parseEngineSize(text)
	if err != nil {
		return 0, err
	}
	return autoMemory(have / engineShare), nil
}

// autoMemory is the store's share of a machine's memory.
func autoMemory(machine float64) int64 { return min(max(int64(machine/4), leastMemory), mostMemory) }

// parseEngineSize reads a size as DuckDB writes it: a decimal and a unit.
func parseEngineSize(s string) (float64, error) {
	number, unit, ok := strings.Cut(s, " ")
	n, err := strconv.ParseFloat(number, 64)
	scale := map[string]float64{"bytes": 1, "byte": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}[unit]
	if err != nil || !ok || scale == 0 || n < 0 {
		return 0, errors.Join(fmt.Errorf("the engine's memory is not a size: %q", s), err)
	}
	return n * scale, nil
}
