package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"
)

// DefaultContentRetention is how long prompts and answers are kept unless a
// project sets another time.
const DefaultContentRetention = 30 * 24 * time.Hour

// Retention is how long a project's events are kept, counted from when they
// were stored, because an event's own timestamp may be from a wrong clock. 0
// is forever.
type Retention struct {
	Content time.Duration // prompts and answers
	Metrics time.Duration // the rows themselves; their content is removed with them at the latest
}

// RetainResult counts what one run of retention removed.
type RetainResult struct {
	Content int64 // contents, including those of removed events
	Events  int64
}

// retainChunk is how many rows one transaction deletes: writes wait no longer
// than that takes.
const retainChunk = 10_000

// Retain removes expired rows in small transactions between which writes
// continue, and then has the engine free the space inside the file. The file
// shrinks only if its end is free; otherwise new rows use the space. Entirely
// expired row groups are freed immediately, others over the next runs.
func (d *DuckDB) Retain(ctx context.Context, policy func(project string) Retention) (RetainResult, error) {
	var res RetainResult
	var projects []string
	err := d.Read(ctx, func(rows *sql.Rows) error {
		for rows.Next() {
			var p string
			if err := rows.Scan(&p); err != nil {
				return err
			}
			projects = append(projects, p)
		}
		return nil
	}, "SELECT DISTINCT project_id FROM events UNION SELECT DISTINCT project_id FROM content UNION SELECT DISTINCT project_id FROM span_content")
	if err != nil {
		return res, err
	}
	now := d.c.Now().UTC()
	var gone []string
	for _, p := range projects {
		keep := policy(p)
		if keep.Content > 0 && keep.Content < spanContentKeep {
			gone = append(gone, p)
		}
		if keep.Metrics > 0 && (keep.Content <= 0 || keep.Content > keep.Metrics) {
			keep.Content = keep.Metrics
		}
		// Content is removed first: an interruption must not leave the text of
		// a removed event.
		for _, t := range []struct {
			table string
			keep  time.Duration
			count *int64
		}{{"content", keep.Content, &res.Content}, {"events", keep.Metrics, &res.Events}} {
			if t.keep <= 0 {
				continue
			}
			if t.table == "events" {
				if err := d.forgetMerges(ctx, p, now.Add(-t.keep)); err != nil {
					return res, fmt.Errorf("retain merges: %w", err)
				}
				if err := d.forget(ctx, p, now.Add(-t.keep)); err != nil {
					return res, fmt.Errorf("retain %s: %w", t.table, err)
				}
			}
			n, err := d.deleteOld(ctx, t.table, p, now.Add(-t.keep))
			*t.count += n
			if err != nil {
				return res, fmt.Errorf("retain %s: %w", t.table, err)
			}
		}
	}
	if err := d.pruneSpanContent(ctx, now, gone); err != nil {
		return res, fmt.Errorf("retain span content: %w", err)
	}
	if err := d.forgetMerges(ctx, "", now.Add(-deletedKeep)); err != nil {
		return res, fmt.Errorf("retain merges: %w", err)
	}
	if err := d.pruneRepricings(ctx, now); err != nil {
		return res, fmt.Errorf("retain repricings: %w", err)
	}
	if err := d.pruneDeleted(ctx, now); err != nil {
		return res, fmt.Errorf("retain deleted uuids: %w", err)
	}
	return res, d.compact(ctx)
}

// forget calls dropDerived where there is anything to delete.
func (d *DuckDB) forget(ctx context.Context, project string, before time.Time) error {
	found := false
	err := d.Read(ctx, func(rows *sql.Rows) error { found = rows.Next(); return nil }, "SELECT 1 FROM events WHERE project_id = ? AND stored_at < ? LIMIT 1", project, before)
	if err != nil || !found {
		return err
	}
	return d.dropDerived(ctx, project, before)
}

// deleteOld deletes a project's rows stored before a time, chunk by chunk.
func (d *DuckDB) deleteOld(ctx context.Context, table, project string, before time.Time) (total int64, err error) {
	query := fmt.Sprintf("DELETE FROM %s WHERE rowid IN (SELECT rowid FROM %s WHERE project_id = ? AND stored_at < ? LIMIT %d)", table, table, retainChunk)
	for {
		var n int64
		err := d.exclusive(ctx, func(e *engine) error {
			return d.transaction(ctx, e, func(conn *sql.Conn) error {
				res, err := conn.ExecContext(ctx, query, project, before)
				if err != nil {
					return err
				}
				n, err = res.RowsAffected()
				return err
			})
		})
		if err != nil {
			return total, err
		}
		total += n
		if n < retainChunk {
			return total, nil
		}
	}
}

// compactTasks bounds what one compaction rewrites, and so how long writes
// wait for it: each task merges a few neighbouring row groups.
const compactTasks = 4

// compact checkpoints the log, frees row groups whose rows are all deleted,
// and merges some that are small or partly deleted.
func (d *DuckDB) compact(ctx context.Context) error {
	return d.exclusive(ctx, func(e *engine) error {
		if e.held.Load() > 0 || d.ensureSpace(0) != nil {
			return nil // during a backup or without disk space the next run does it
		}
		_, err := e.writer.ExecContext(ctx, fmt.Sprintf("SET max_vacuum_tasks = %d; CHECKPOINT %s", compactTasks, catalog))
		if err != nil {
			err = d.wrote(e, err, false)
		}
		_, reset := e.writer.ExecContext(context.WithoutCancel(ctx), "SET max_vacuum_tasks = 0")
		if err = errors.Join(err, reset); err != nil {
			return fmt.Errorf("compact store: %w", err)
		}
		return nil
	})
}

// Retainer runs retention from time to time.
type Retainer struct {
	Store interface {
		Retain(ctx context.Context, policy func(project string) Retention) (RetainResult, error)
	}
	Policy  func(project string) Retention // nil: content for DefaultContentRetention, metrics forever
	Every   time.Duration                  // defaults to an hour; up to a tenth is added, so that replicas do not run together
	RunSoon <-chan struct{}                // triggers a run, at most every MinRunInterval. nil: never
	Logger  *slog.Logger                   // nil: no log
}

// MinRunInterval is how often [Retainer.RunSoon] makes a Retainer run at most.
const MinRunInterval = 5 * time.Minute

// Run retains once a minute after the start and then every Every, until ctx
// ends. A failed run is logged and tried again the next time.
func (r *Retainer) Run(ctx context.Context) error {
	log, policy, every := r.Logger, r.Policy, r.Every
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if policy == nil {
		policy = func(string) Retention { return Retention{Content: DefaultContentRetention} }
	}
	if every <= 0 {
		every = time.Hour
	}
	var last time.Time
	for wait := min(time.Minute, every); ; wait = every + time.Duration(rand.Int64N(int64(every)/10+1)) {
		for due := time.After(wait); due != nil; {
			select {
			case <-ctx.Done():
				return nil
			case <-due:
				due = nil
			case <-r.RunSoon:
				if last.IsZero() || time.Since(last) >= MinRunInterval {
					due = nil
				}
			}
		}
		last = time.Now()
		res, err := r.Store.Retain(ctx, policy)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			log.Error("retention failed", "err", err)
		case res != (RetainResult{}):
			log.Info("retention removed", "content", res.Content, "events", res.Events)
		}
	}
}
