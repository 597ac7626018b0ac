package store

import (
	"context"
	"log/slog"
	"time"
)

// DefaultContentRetention is how long prompts and answers are kept unless a
// project says otherwise.
const DefaultContentRetention = 30 * 24 * time.Hour

// Retention says how long a project's events are kept, counted from when they
// were stored. 0 is for ever.
type Retention struct {
	Content time.Duration // prompts and answers
	Metrics time.Duration // the rows themselves; content goes with them
}

// RetainResult counts what one run of retention removed.
type RetainResult struct {
	Content, Events int64
}

// Retain removes what is past its time.
func (d *DuckDB) Retain(ctx context.Context, policy func(project string) Retention) (RetainResult, error) {
	return RetainResult{}, nil
}

// Retainer runs retention from time to time.
type Retainer struct {
	Store interface {
		Retain(ctx context.Context, policy func(project string) Retention) (RetainResult, error)
	}
	Policy func(project string) Retention // nil: DefaultContentRetention, metrics for ever
	Every  time.Duration                  // defaults to an hour; a tenth of it is jitter
	Logger *slog.Logger
}

// Run works until ctx ends.
func (r *Retainer) Run(ctx context.Context) error { return nil }

// Restore puts a backup in the place of a database that does not exist.
func Restore(ctx context.Context, backup, path string) error { return nil }
