package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/disk"
	"github.com/hedgerow/hedgerow/server/internal/health"
)

// How long a store that has failed waits before it tries again: the wait doubles
// from the first to the longest.
const (
	firstWait   = 200 * time.Millisecond
	longestWait = 2 * time.Second
	watchEvery  = time.Second // interval of checks of the file and of free space
)

// idleAfter is the time without writes and without queries longer than busyRead
// after which the engine frees memory.
const (
	idleAfter = time.Minute
	busyRead  = 50 * time.Millisecond
)

// Health reports the state of the store.
func (d *DuckDB) Health() health.Report {
	d.state.mu.Lock()
	r, noRoom, working := d.state.report, d.state.noRoom, d.state.engine != nil
	d.state.mu.Unlock()
	if !working {
		return r
	}
	if noRoom {
		r.Status, r.Message, r.Hint = health.Degraded, "the disk is full: the store answers queries and accepts no events", "free some disk space: events wait in the journal, and the store continues automatically"
		return r
	}
	if message, since := d.incidents.message(); message != "" {
		r.Status, r.Message, r.Since = health.Degraded, message, since
		r.Hint = "check the files that were set aside, then acknowledge it; an earlier backup can be restored to a new data folder"
	}
	return r
}

// keep opens the store, opens it again whenever its engine fails, and watches its
// file, until ctx ends. It sends the outcome of the first attempt to first.
func (d *DuckDB) keep(ctx context.Context, first chan<- error) {
	defer close(d.kept)
	defer d.closeBroken()
	wait := firstWait
	var said string // the last error that was logged
	for attempts := 0; ; attempts++ {
		d.closeBroken()
		if ctx.Err() != nil {
			return
		}
		e := d.current()
		if e == nil {
			err := d.attempt(ctx)
			if err == nil {
				d.refill(ctx)
			}
			if attempts == 0 && err != nil && faultOf(d.c.Path, err) != faultPasses && event.AsError(forPeople(d.c.Path, err)).Code == event.CodeConflict {
				first <- forPeople(d.c.Path, err)
				return
			}
			if err != nil {
				if s := err.Error(); s != said { // one line for each failure, not for each attempt
					said = s
					d.c.Logger.Error("the store cannot be opened; hedgerow tries again", "path", d.c.Path, "err", err)
				}
				d.report(health.Failed, forPeople(d.c.Path, err))
			}
			if attempts == 0 { // once Health reports the result
				first <- nil
			}
			if err == nil {
				if attempts > 0 {
					d.c.Logger.Info("the store works again", "path", d.c.Path)
				}
				said, wait = "", firstWait
				continue
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(wait):
				wait = min(2*wait, longestWait)
			}
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-d.wake:
		case <-time.After(watchEvery):
			d.watch(e)
			d.refill(ctx)
		}
	}
}

// current is the engine, or nil.
func (d *DuckDB) current() *engine {
	d.state.mu.Lock()
	defer d.state.mu.Unlock()
	return d.state.engine
}

// report sets the health of a store without an engine.
func (d *DuckDB) report(status health.Status, cause *event.Error) {
	d.state.mu.Lock()
	defer d.state.mu.Unlock()
	if r := &d.state.report; r.Status != status {
		r.Status, r.Since = status, d.c.Now()
	}
	d.state.report.Message, d.state.report.Hint = cause.Message, cause.Hint
	d.state.cause = event.NewError(event.CodeUnavailable, cause.Message, cause.Hint, nil)
}

// fail ends an engine that must not be used further: its running calls are
// canceled, and keep reopens the store.
func (d *DuckDB) fail(e *engine, err error) {
	d.state.mu.Lock()
	if d.state.engine != e { // reported by another caller
		d.state.mu.Unlock()
		return
	}
	d.state.engine = nil
	d.state.broken = append(d.state.broken, e)
	d.state.check = d.state.check || faultOf(d.c.Path, err) == faultDamaged
	d.state.mu.Unlock()
	d.report(health.Failed, forPeople(d.c.Path, err))
	d.c.Logger.Error("the store's engine has failed and is started again", "err", err)
	e.cancel()
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// closeBroken closes failed engines once they are unused: two engines on one
// file would corrupt it.
func (d *DuckDB) closeBroken() {
	d.state.mu.Lock()
	broken := d.state.broken
	d.state.broken = nil
	d.state.mu.Unlock()
	for _, e := range broken {
		e.users.Wait()
		if err := e.close(); err != nil {
			d.c.Logger.Debug("the store's engine did not close cleanly", "err", err)
		}
	}
}

// attempt opens the store once. It sets damaged files aside after a second check.
func (d *DuckDB) attempt(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx) // complete operations on files once begun
	if err := checkFolder(d.c.Path); err != nil {
		return err
	}
	if err := d.setNonFilesAside(); err != nil {
		return err
	}
	err := d.tryOpen(ctx)
	if err == nil {
		return nil
	}
	what := faultOf(d.c.Path, err)
	if what != faultDamaged && what != faultLog {
		return err
	}
	d.c.Logger.Warn("the store seems to be damaged; it is read again", "path", d.c.Path, "err", err)
	time.Sleep(firstWait)
	if err = d.tryOpen(ctx); err == nil {
		return nil
	}
	switch faultOf(d.c.Path, err) {
	case faultDamaged:
		if err := d.setAside(err); err != nil {
			return err
		}
	case faultLog:
		if err := d.repairLog(err); err != nil {
			return err
		}
	default:
		return err
	}
	return d.tryOpen(ctx)
}

// tryOpen opens the file, or makes it if there is none, and puts its engine in
// place.
func (d *DuckDB) tryOpen(ctx context.Context) error {
	if _, err := os.Stat(d.c.Path); errors.Is(err, fs.ErrNotExist) {
		if err := d.recreate(ctx); err != nil {
			return err
		}
	}
	if err := checkLog(d.c.Path); err != nil {
		return err
	}
	if err := private(d.c.Path); err != nil {
		return err
	}
	c := d.c
	began := c.Now()
	migrated := false
	report := d.migrating()
	c.progress = func(p progress) error { migrated = true; return report(p) }
	e, have, err := openEngine(ctx, c, c.Path)
	if err != nil {
		return err
	}
	d.metrics.migrated(1)
	if migrated {
		d.c.Logger.Info("the store was migrated", "schema", len(migrations), "took", c.Now().Sub(began).Round(time.Millisecond))
	}
	d.state.mu.Lock()
	check := d.state.check
	d.state.mu.Unlock()
	if check {
		if err := e.readAll(ctx); err != nil {
			return errors.Join(err, e.close())
		}
	}
	if err := rememberDeleted(ctx, e, d.c.Deletions); err != nil {
		return errors.Join(err, e.close())
	}
	// Temporary files of a killed process. There are no queries yet.
	if err := errors.Join(os.RemoveAll(tempDir(d.c.Path)), os.Mkdir(tempDir(d.c.Path), 0o700), private(d.c.Path)); err != nil {
		return errors.Join(err, e.close())
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lastTime = have.lastTime
	d.hasSpanContent.Store(have.hasSpanContent)
	d.hasMerges.Store(have.hasMerges)
	d.hasRepricings.Store(have.hasRepricings)
	d.deletions.Store(have.deletions || d.c.Deletions.exist())
	d.state.mu.Lock()
	defer d.state.mu.Unlock()
	s := &d.state
	if s.report.Status != health.Starting {
		s.report.Restarts++
	}
	s.engine, s.cause, s.check, s.noRoom = e, nil, false, false
	s.report.Status, s.report.Message, s.report.Hint, s.report.Since = health.OK, "", "", d.c.Now()
	return nil
}

// errGone is returned if the file at the path is not the opened one.
var errGone = errors.New("the store's file was deleted or replaced while it was open")

// watch checks the file of an engine: whether it is still there, and whether
// other users may read it, which the engine leaves to the process.
func (d *DuckDB) watch(e *engine) {
	switch info, err := os.Stat(d.c.Path); {
	case errors.Is(err, fs.ErrNotExist):
		d.fail(e, errGone)
		return
	case err == nil && !os.SameFile(info, e.file): // by one that may lack what this one has
		d.incidents.add(Incident{Time: d.c.Now().UTC(), Kind: IncidentDeleted})
		d.fail(e, errGone)
		return
	case err != nil:
		return // its next write returns a better error
	}
	if err := private(d.c.Path); err != nil {
		d.c.Logger.Warn("other users may read the store's files", "err", err)
	}
	d.state.mu.Lock()
	noRoom := d.state.noRoom
	d.state.mu.Unlock()
	if noRoom && d.ensureSpace(0) == nil {
		d.hasRoom(true)
	}
	if used := d.used.Load(); used != 0 && time.Since(time.Unix(0, used)) > idleAfter {
		d.used.CompareAndSwap(used, 0)
		if err := d.rest(e); err != nil {
			d.c.Logger.Debug("the store keeps its memory", "err", err)
		}
	}
}

// rest checkpoints the log, so that its rows leave memory and a start has nothing
// to replay, and drops the engine's cache.
func (d *DuckDB) rest(e *engine) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e.held.Load() > 0 || d.ensureSpace(0) != nil {
		return nil
	}
	if info, err := os.Stat(logPath(d.c.Path)); err == nil && info.Size() > 0 {
		if _, err := e.writer.ExecContext(e.ctx, "CHECKPOINT "+catalog); err != nil {
			return d.wrote(e, err, false)
		}
	}
	// Memory in use remains: the engine then rejects the limit.
	_, err := e.writer.ExecContext(e.ctx, fmt.Sprintf("SET memory_limit = '%d bytes'", 16<<20))
	_, back := e.writer.ExecContext(e.ctx, fmt.Sprintf("SET memory_limit = '%d bytes'", e.memory))
	return errors.Join(err, back)
}

// spare is the disk space that a write must leave free: a checkpoint needs as
// much as the log, and some for its own writes.
const spareBytes = 8 << 20

// room returns an error if a batch of that many bytes may not fit on the
// disk. Writing to a full disk can end the engine.
func (d *DuckDB) ensureSpace(bytes int64) error {
	use, err := disk.Of(filepath.Dir(d.c.Path))
	if err != nil {
		return nil // the write returns a better error
	}
	need := spareBytes + 2*bytes
	if info, err := os.Stat(logPath(d.c.Path)); err == nil {
		need += info.Size()
	}
	if use.Free >= need {
		return nil
	}
	return event.NewError(event.CodeUnavailable, fmt.Sprintf("the disk is full: the store needs %d MB and %d MB are free", need>>20, use.Free>>20),
		"free some disk space: events wait in the journal, and the store continues automatically", nil)
}

// hasRoom records whether there is space for writes.
func (d *DuckDB) hasRoom(ok bool) {
	d.state.mu.Lock()
	changed := d.state.noRoom == ok && d.state.engine != nil
	d.state.noRoom = !ok
	if changed {
		d.state.report.Since = d.c.Now()
	}
	d.state.mu.Unlock()
	switch {
	case changed && ok:
		d.c.Logger.Info("the store has disk space again")
	case changed:
		d.c.Logger.Error("the disk is full: the store accepts no events until there is space", "path", d.c.Path)
	}
}

// exclusive runs f while no write is in progress.
func (d *DuckDB) exclusive(ctx context.Context, f func(*engine) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	e, err := d.acquire()
	if err != nil {
		return err
	}
	defer e.users.Done()
	return f(e)
}

// transaction runs f between BEGIN and COMMIT. The caller locks mu.
func (d *DuckDB) transaction(ctx context.Context, e *engine, f func(*sql.Conn) error) error {
	conn := e.writer
	_, err := conn.ExecContext(ctx, "BEGIN")
	if err == nil {
		if err = f(conn); err == nil {
			// From here on the outcome must be known, so ctx no longer counts.
			_, err = conn.ExecContext(context.WithoutCancel(ctx), "COMMIT")
		}
	}
	if err == nil {
		return nil
	}
	_, rollback := conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
	if rollback != nil && strings.Contains(rollback.Error(), "no transaction is active") {
		rollback = nil
	}
	return d.wrote(e, errors.Join(err, rollback), rollback != nil)
}

// wrote checks the error of a writing statement: it ends an engine that must
// not be used further, and returns an error with the temporary cause, if any.
func (d *DuckDB) wrote(e *engine, err error, certain bool) error {
	if certain || stopsWriting(d.c.Path, err) {
		d.fail(e, err)
		return d.unavailable(err)
	}
	if passing(err) != "" {
		return forPeople(d.c.Path, err)
	}
	return err
}
