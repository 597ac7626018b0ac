package query

import (
	"context"
	"database/sql"
	"time"

	"github.com/hedgerow/hedgerow/server/internal/query/sqlf"
)

// Store is what this package needs of a store. store.DuckDB is one.
type Store interface {
	// Read runs one SELECT with bound parameters and passes the rows to scan. It
	// stops when ctx ends or after its own time limit. Its errors are
	// user-facing.
	Read(ctx context.Context, scan func(*sql.Rows) error, query string, args ...any) error
	// Engine names the SQL dialect: "duckdb".
	Engine() string
}

// Reader runs queries. It is safe for concurrent use.
type Reader struct {
	store Store
	sql   dialect
	now   func() time.Time
	at    *moment // of a snapshot; nil: each question is about its own present
	facts bool    // properties that are facts are columns; see ofOutcome
}

// New returns a Reader over a store. now returns the current time; nil is
// time.Now.
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

// each runs a query and passes each of its rows to scan.
func (r *Reader) each(ctx context.Context, query sqlf.Fragment, scan func(*sql.Rows) error) error {
	return r.store.Read(ctx, func(rows *sql.Rows) error {
		for rows.Next() {
			if err := scan(rows); err != nil {
				return err
			}
		}
		return nil
	}, query.String(), query.Args()...)
}

// one scans the columns of the one row of a query into dest.
func (r *Reader) one(ctx context.Context, query sqlf.Fragment, dest ...any) error {
	return r.each(ctx, query, func(rows *sql.Rows) error { return rows.Scan(dest...) })
}

// raw reads rows as they are.
func (r *Reader) raw(ctx context.Context, query sqlf.Fragment) (out [][]any, err error) {
	err = r.each(ctx, query, func(rows *sql.Rows) error {
		columns, err := rows.Columns()
		if err != nil {
			return err
		}
		row, dest := make([]any, len(columns)), make([]any, len(columns))
		for i := range row {
			dest[i] = &row[i]
		}
		if err := rows.Scan(dest...); err != nil {
			return err
		}
		out = append(out, row)
		return nil
	})
	return out, err
}

// texts reads a column of texts.
func (r *Reader) texts(ctx context.Context, query sqlf.Fragment) (out []string, err error) {
	err = r.each(ctx, query, func(rows *sql.Rows) error {
		var s string
		err := rows.Scan(&s)
		out = append(out, s)
		return err
	})
	return out, err
}

// anys makes a list fit to be bound.
func anys(list []string) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}
