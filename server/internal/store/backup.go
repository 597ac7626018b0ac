package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/atomicfile"
	"github.com/hedgerow/hedgerow/server/internal/disk"
)

// backupCatalog is the name under which a store being restored is attached.
const backupCatalog = "backup"

// Backup writes a consistent snapshot of the store to a file that must not exist.
// Queries and writes continue meanwhile, and a failed or canceled backup does not
// affect them. The file gets its name once it is complete and on disk; it is an
// ordinary store for [OpenDuckDB]. schema selects an older version, from
// [OldestSchema] on, that an older hedgerow can open; 0 is this binary's own.
//
// The file is read without the engine. It does not change between two
// checkpoints, and later changes are in the log.
func (d *DuckDB) Backup(ctx context.Context, path string, schema int) (err error) {
	if err := checkSchema(schema); err != nil {
		return err
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return event.NewError(event.CodeConflict, fmt.Sprintf("%s exists already", path), "choose a new file for the backup", err)
	}
	if err := checkFolder(path); err != nil {
		return backupError(path, 0, err)
	}
	part := path + ".part"
	if err := removeStore(part); err != nil {
		return fmt.Errorf("remove unfinished backup: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, removeStore(part), os.RemoveAll(tempDir(part)))
		}
	}()
	size, err := d.copyTo(ctx, part)
	if err == nil {
		err = merge(ctx, part, schema)
	}
	if err == nil {
		err = errors.Join(syncFile(part), os.Rename(part, path), atomicfile.SyncDir(filepath.Dir(path)))
	}
	if err != nil {
		return backupError(path, size, err)
	}
	return nil
}

// backupError converts the error of a failed backup to a user-facing error.
func backupError(path string, bytes int64, err error) error {
	var e *event.Error
	switch {
	case errors.As(err, &e):
		return err
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), strings.Contains(err.Error(), "No space left"), strings.Contains(err.Error(), "quota"):
		return event.NewError(event.CodeUnavailable, fmt.Sprintf("the disk of %s is full: the backup needs %d MB", filepath.Dir(path), bytes>>20+1), "free some space there, or use a folder on another disk; the incomplete backup was removed", err)
	case errors.Is(err, context.Canceled):
		return event.NewError(event.CodeCanceled, "the backup was interrupted; the incomplete backup was removed", "", err)
	}
	return fmt.Errorf("back up store: %w", err)
}

// copyTo copies the file and its log to a path, and returns how many bytes they
// have. Where the log grows so much meanwhile that the engine writes it into the
// file, it begins again and has writes wait.
func (d *DuckDB) copyTo(ctx context.Context, path string) (bytes int64, err error) {
	for _, wait := range []bool{false, true} {
		var same bool
		if bytes, same, err = d.copyOnce(ctx, path, wait); err != nil || same {
			return bytes, err
		}
		if err := removeStore(path); err != nil {
			return bytes, err
		}
	}
	return bytes, event.NewError(event.CodeUnavailable, "the store's file changed while it was copied", "try again", nil)
}

// copyOnce copies the file and its log, and reports whether the file was the same
// from the beginning to the end.
func (d *DuckDB) copyOnce(ctx context.Context, path string, wait bool) (bytes int64, same bool, err error) {
	e, err := d.acquire()
	if err != nil {
		return 0, false, err
	}
	defer e.users.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.ctx, cancel)()
	d.mu.Lock() // between two writes the log ends with a transaction
	locked := true
	if err := e.pauseCheckpoints(ctx); err != nil {
		d.mu.Unlock()
		return 0, false, cutOff(e, err)
	}
	defer func() {
		if !locked {
			d.mu.Lock()
		}
		e.resumeCheckpoints()
		d.mu.Unlock()
	}()
	from, err := e.open(d.c.Path)
	if err != nil {
		return 0, false, err
	}
	head, err := headOf(from)
	if err != nil {
		return 0, false, err
	}
	info, err := from.Stat()
	if err != nil {
		return 0, false, err
	}
	log, err := os.Open(logPath(d.c.Path))
	logSize := int64(0)
	if err == nil {
		defer log.Close()
		li, err := log.Stat()
		if err != nil {
			return 0, false, err
		}
		logSize = li.Size()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return 0, false, err
	}
	if !wait {
		d.mu.Unlock()
		locked = false
	}
	bytes = info.Size() + 2*logSize + spareBytes
	if use, err := disk.Of(filepath.Dir(path)); err == nil && use.Free < bytes {
		return bytes, false, fmt.Errorf("%d MB are free: %w", use.Free>>20, syscall.ENOSPC)
	}
	if err := copyBytes(ctx, path, from, info.Size()); err != nil {
		return bytes, false, cutOff(e, err)
	}
	if logSize > 0 {
		if err := copyBytes(ctx, logPath(path), log, logSize); err != nil {
			return bytes, false, cutOff(e, err)
		}
	}
	after, err := headOf(from)
	return bytes, string(after) == string(head), err
}

// cutOff converts the error of a copy during which the engine ended.
func cutOff(e *engine, err error) error {
	if e.ctx.Err() != nil {
		return event.NewError(event.CodeUnavailable, "the store was opened again while it was copied", "try again", err)
	}
	return err
}

// hold prevents checkpoints until the log reaches a quarter of the engine's
// memory. The caller locks DuckDB.mu.
func (e *engine) pauseCheckpoints(ctx context.Context) error {
	e.held.Add(1)
	_, err := e.writer.ExecContext(ctx, fmt.Sprintf("SET checkpoint_threshold = '%d bytes'", max(e.memory/4, 16<<20)))
	if err != nil {
		e.held.Add(-1)
	}
	return err
}

// unhold ends hold. The caller locks DuckDB.mu.
func (e *engine) resumeCheckpoints() {
	if e.held.Add(-1) == 0 && e.ctx.Err() == nil {
		_, _ = e.writer.ExecContext(context.Background(), "SET checkpoint_threshold = '"+checkpointAt+"'") // fails only with the engine
	}
}

// open returns the engine's file for reading. It stays open as long as the
// engine: closing any descriptor of a file releases the process's locks on it.
func (e *engine) open(path string) (*os.File, error) {
	e.readMu.Lock()
	defer e.readMu.Unlock()
	if e.read != nil {
		return e.read, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	e.read = f
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !os.SameFile(info, e.file) {
		return nil, errGone
	}
	return f, nil
}

// headOf reads the headers of a store's file, which change with each checkpoint.
func headOf(f io.ReaderAt) ([]byte, error) {
	head := make([]byte, fileHeader)
	_, err := f.ReadAt(head, 0)
	return head, err
}

// copyBytes copies the first so many bytes to a new file and has them on disk.
func copyBytes(ctx context.Context, to string, from io.ReaderAt, size int64) error {
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	buf := make([]byte, 1<<20)
	for at := int64(0); at < size && err == nil; {
		if err = ctx.Err(); err != nil {
			break
		}
		var n int
		if n, err = from.ReadAt(buf[:min(int64(len(buf)), size-at)], at); n > 0 && (err == nil || errors.Is(err, io.EOF)) {
			_, err = f.Write(buf[:n])
		}
		at += int64(n)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// merge writes the log of a copied store into its file, with a separate engine,
// and downgrades the copy to an older schema if requested.
func merge(ctx context.Context, path string, schema int) error {
	e, _, err := openEngine(ctx, Config{Path: path, MemoryBytes: leastMemory}.withDefaults(), path)
	if err != nil {
		return err
	}
	if err = downgrade(ctx, e.writer, schema); err == nil {
		_, err = e.writer.ExecContext(ctx, "CHECKPOINT "+catalog)
	}
	if err = errors.Join(err, e.close()); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(tempDir(path)), os.RemoveAll(logPath(path)))
}

// Restore creates a store at path from a backup, which it verifies and does
// not change. It returns an error if path exists, or if the backup is
// damaged or from a newer hedgerow.
func Restore(ctx context.Context, backup, path string) error {
	if _, err := os.Stat(backup); err != nil {
		return event.NewError(event.CodeNotFound, fmt.Sprintf("no backup found at %s", backup), "name the file that \"hedgerow backup\" wrote", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return event.NewError(event.CodeConflict, fmt.Sprintf("there is a store at %s already", path), "move it away first, with its .wal file", err)
	}
	if err := checkFolder(path); err != nil {
		return err
	}
	// On a copy, because opening can migrate.
	scratch, part := path+".restore", path+".part"
	clean := func() error {
		return errors.Join(removeStore(scratch), removeStore(part), os.RemoveAll(tempDir(scratch)))
	}
	if err := clean(); err != nil {
		return fmt.Errorf("remove unfinished restore: %w", err)
	}
	err := copyFile(backup, scratch)
	if err == nil {
		err = copyThrough(ctx, scratch, part)
	}
	if err == nil {
		err = errors.Join(os.Chmod(part, 0o600), syncFile(part), os.Rename(part, path), atomicfile.SyncDir(filepath.Dir(path)))
	}
	if err == nil {
		return clean()
	}
	err = errors.Join(err, clean())
	switch faultOf(scratch, err) {
	case faultDamaged, faultLog:
		return event.NewError(event.CodeUnavailable, fmt.Sprintf("the backup %s is damaged", backup), "use another backup", err)
	case faultPasses:
		return fmt.Errorf("restore %s: %w", backup, err)
	}
	return forPeople(backup, err)
}

// copyThrough copies a store by its own engine, which reads every block and
// checks its checksum.
func copyThrough(ctx context.Context, from, to string) error {
	if err := checkLog(from); err != nil {
		return err
	}
	e, _, err := openEngine(ctx, Config{Path: from}.withDefaults(), from)
	if err != nil {
		return err
	}
	for _, statement := range []string{attach(to, backupCatalog), fmt.Sprintf("COPY FROM DATABASE %s TO %s", catalog, backupCatalog), "CHECKPOINT " + backupCatalog, "DETACH " + backupCatalog} {
		if _, err = e.writer.ExecContext(ctx, statement); err != nil {
			break
		}
	}
	return errors.Join(err, e.close())
}

func copyFile(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	info, err := src.Stat()
	if err != nil {
		return err
	}
	return copyBytes(context.Background(), to, src, info.Size())
}
