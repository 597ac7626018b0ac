package query

import (
	"context"
	"database/sql"
	"time"
)

// Store is what this package needs of a store. store.DuckDB is one.
type Store interface {
	// Read runs one SELECT with bound parameters and hands the rows to scan. It
	// stops when ctx ends, and bounds the time by itself. Its errors are fit for
	// people.
	Read(ctx context.Context, scan func(*sql.Rows) error, query string, args ...any) error
	// Engine names the SQL dialect: "duckdb".
	Engine() string
}

// Reader answers questions. It is safe for concurrent use.
type Reader struct {
	store Store
	sql   dialect
	now   func() time.Time
}

// New returns a Reader over a store. now gives the present; nil is time.Now.
func New(s Store, now func() time.Time) (*Reader, error) {
	d, err := dialectOf(s.Engine())
	if err != nil {
		return nil, err
	}
	if now == nil {
		now = time.Now
	}
	return &Reader{store: s, sql: d, now: now}, nil
}
