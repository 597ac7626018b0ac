package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/health"
)

// migration upgrades a file from one version of the schema to the next.
type migration struct {
	// update changes events: "UPDATE events SET … WHERE (…)". It comes before script,
	// in many transactions, so that a process that is killed in the middle loses
	// little: it must do nothing to an event that it has changed already.
	update string
	script string // in one transaction with the number of the new version
}

var (
	addedTable  = regexp.MustCompile(`CREATE TABLE (?:IF NOT EXISTS )?(\w+)`)
	addedColumn = regexp.MustCompile(`ALTER TABLE (\w+) ADD COLUMN (?:IF NOT EXISTS )?(\w+)`)
)

// back undoes what script has added, for an older hedgerow.
func (m migration) back() string {
	var b strings.Builder
	for _, add := range addedTable.FindAllStringSubmatch(m.script, -1) {
		b.WriteString("DROP TABLE " + add[1] + "; ")
	}
	for _, add := range addedColumn.FindAllStringSubmatch(m.script, -1) {
		b.WriteString("ALTER TABLE " + add[1] + " DROP COLUMN " + add[2] + "; ")
	}
	return b.String()
}

// progress is how far the migration of a file is.
type progress struct {
	from, to int   // versions of the schema
	version  int   // that is being made
	done     int64 // events read by updates
	all      int64 // events to read
}

// updateRows is the number of events that one transaction of an update reads.
const updateRows = 25 * rowGroupSize

// migrate upgrades the file to this binary's version. It returns an error for a
// newer one. Before each step it calls c.progress, if set, and stops if that
// returns an error.
func migrate(ctx context.Context, conn *sql.Conn, c Config) error {
	report := c.progress
	if _, err := conn.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL, applied_at TIMESTAMP NOT NULL)"); err != nil {
		return err
	}
	p := progress{to: len(migrations)}
	if err := conn.QueryRowContext(ctx, "SELECT coalesce(max(version), 0) FROM schema_version").Scan(&p.from); err != nil {
		return err
	}
	if p.from > p.to {
		return fmt.Errorf("%w: schema version %d, known up to %d", errNewer, p.from, p.to)
	}
	if report == nil || p.from == 0 || p.from == p.to { // a new file has nothing to migrate
		report = func(progress) error { return nil }
	}
	var rows int64
	for v := p.from; v < p.to && p.from > 0; v++ {
		if migrations[v].update == "" {
			continue
		}
		if rows == 0 {
			if err := conn.QueryRowContext(ctx, "SELECT coalesce(max(rowid) + 1, 0) FROM events").Scan(&rows); err != nil {
				return err
			}
		}
		p.all += rows
	}
	for v := p.from; v < p.to; v++ {
		p.version = v + 1
		if migrations[v].update != "" {
			for first := int64(0); first < rows; first += c.updateRows {
				if err := report(p); err != nil {
					return err
				}
				last := min(first+c.updateRows, rows)
				if _, err := conn.ExecContext(ctx, fmt.Sprintf("%s AND rowid >= %d AND rowid < %d", migrations[v].update, first, last)); err != nil {
					return fmt.Errorf("migrate store to version %d: %w", p.version, err)
				}
				p.done += last - first
			}
		}
		if err := report(p); err != nil {
			return err
		}
		if err := inOne(ctx, conn, migrations[v].script, fmt.Sprintf("INSERT INTO schema_version VALUES (%d, now() AT TIME ZONE 'UTC')", p.version)); err != nil {
			return fmt.Errorf("migrate store to version %d: %w", p.version, err)
		}
	}
	return nil
}

// inOne runs scripts in one transaction.
func inOne(ctx context.Context, conn *sql.Conn, first, second string) error {
	_, err := conn.ExecContext(ctx, "BEGIN; "+first+"; "+second+"; COMMIT")
	if err != nil {
		_, _ = conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
	}
	return err
}

// checkSchema returns an error for versions that a backup cannot have. 0 is this
// binary's own.
func checkSchema(schema int) error {
	if schema == 0 || schema >= OldestSchema && schema <= len(migrations) {
		return nil
	}
	return event.Invalid(fmt.Sprintf("a backup cannot have the store's schema %d", schema),
		fmt.Sprintf("name one from %d to %d: the older hedgerow says which it knows when it refuses this store", OldestSchema, len(migrations)))
}

// downgrade converts a file of this binary's version to an older one. Data
// without a column there are lost; derived tables are rebuilt.
func downgrade(ctx context.Context, conn *sql.Conn, schema int) error {
	if schema == 0 || schema == len(migrations) {
		return nil
	}
	if _, err := conn.ExecContext(ctx, forgetDerived); err != nil {
		return fmt.Errorf("empty derived tables: %w", err)
	}
	for v := len(migrations) - 1; v >= schema; v-- {
		if err := inOne(ctx, conn, migrations[v].back(), fmt.Sprintf("DELETE FROM schema_version WHERE version > %d", v)); err != nil {
			return fmt.Errorf("bring store back to version %d: %w", v, err)
		}
	}
	return nil
}

// errStopped is returned if the store was closed during a migration.
var errStopped = errors.New("the migration was interrupted, and continues at the next start")

// saidEvery is the interval of progress messages in the log.
const saidEvery = 5 * time.Second

// migrating returns the progress callback for the log, Health and metrics. It
// stops the migration once the store is closed.
func (d *DuckDB) migrating() func(progress) error {
	var began, said time.Time
	return func(p progress) error {
		now := d.c.Now()
		log := d.c.Logger.With("from", p.from, "to", p.to)
		if began.IsZero() {
			began, said = now, now
			log.Info("the store is being migrated: calls are forwarded, and events wait in the journal", "events", p.all)
		}
		d.metrics.migrated(p.share())
		text := fmt.Sprintf("the store is being migrated from schema %d to %d", p.from, p.to)
		if p.all > 0 {
			text += fmt.Sprintf(": %d %% of %d events", int(100*p.share()), p.all)
		}
		left := p.left(now.Sub(began))
		if left > 0 {
			text += fmt.Sprintf(", about %v left", left)
		}
		d.report(health.Starting, event.NewError(event.CodeUnavailable, text, "calls are forwarded, and events wait in the journal; hedgerow continues automatically", nil))
		if now.Sub(said) >= saidEvery {
			said = now
			log.Info("the store is being migrated", "version", p.version, "percent", int(100*p.share()), "events_done", p.done, "events", p.all, "left", left)
		}
		d.state.mu.Lock()
		defer d.state.mu.Unlock()
		if d.state.closed {
			log.Info("the migration of the store was interrupted, and continues at the next start", "percent", int(100*p.share()))
			return errStopped
		}
		return nil
	}
}

// share is the part that is done, of 1. Versions without updates take no time.
func (p progress) share() float64 {
	if p.all == 0 {
		return 0
	}
	return float64(p.done) / float64(p.all)
}

// left estimates the remaining time in whole seconds.
func (p progress) left(took time.Duration) time.Duration {
	if p.done == 0 {
		return 0
	}
	return (time.Duration(float64(took) * float64(p.all-p.done) / float64(p.done))).Round(time.Second)
}
