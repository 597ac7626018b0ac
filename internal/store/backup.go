package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/hedgerow/hedgerow/event"
)

// backupCatalog is the name under which a backup being written is attached.
const backupCatalog = "backup"

// Backup writes a copy of the whole store, as it was at one moment, to a file
// that must not exist. Questions and writes go on meanwhile. The copy appears
// under its name once it is complete and on disk; it is an ordinary store that
// [OpenDuckDB] opens.
func (d *DuckDB) Backup(ctx context.Context, path string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return event.NewError(event.CodeConflict, fmt.Sprintf("%s exists already", path), "name a new file for the backup", err)
	}
	if err := checkFolder(path); err != nil {
		return err
	}
	part := path + ".part"
	if err := removeStore(part); err != nil {
		return fmt.Errorf("remove unfinished backup: %w", err)
	}
	// A connection of its own: the copy is one long transaction.
	d.gate.RLock()
	defer d.gate.RUnlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(d.engine.ctx, cancel)()
	conn, err := d.engine.readers.Conn(ctx)
	if err != nil {
		return fmt.Errorf("back up store: %w", err)
	}
	defer conn.Close()
	_, err = conn.ExecContext(ctx, attach(part, backupCatalog))
	if err == nil {
		_, err = conn.ExecContext(ctx, fmt.Sprintf("COPY FROM DATABASE %s TO %s", catalog, backupCatalog))
		if err == nil {
			_, err = conn.ExecContext(ctx, "CHECKPOINT "+backupCatalog)
		}
		_, detach := conn.ExecContext(context.WithoutCancel(ctx), "DETACH "+backupCatalog)
		err = errors.Join(err, detach)
	}
	if err == nil {
		err = syncFile(part)
	}
	if err == nil {
		err = os.Rename(part, path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("back up store: %w", err), removeStore(part))
	}
	return nil
}

// Restore makes a new store at path from a backup, which it reads whole and
// leaves as it is. It refuses to overwrite a store, and a backup that is
// damaged or of a newer hedgerow.
func Restore(ctx context.Context, backup, path string) error {
	if _, err := os.Stat(backup); err != nil {
		return event.NewError(event.CodeNotFound, fmt.Sprintf("there is no backup at %s", backup), "name the file that \"hedgerow backup\" wrote", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return event.NewError(event.CodeConflict, fmt.Sprintf("there is a store at %s already", path), "move it away first, with its .wal file", err)
	}
	if err := checkFolder(path); err != nil {
		return err
	}
	// On a copy, because opening can migrate.
	scratch := path + ".restore"
	if err := removeStore(scratch); err != nil {
		return fmt.Errorf("remove unfinished restore: %w", err)
	}
	defer removeStore(scratch) // best effort: the next restore removes it too
	if err := copyFile(backup, scratch); err != nil {
		return fmt.Errorf("copy backup: %w", err)
	}
	src, err := OpenDuckDB(ctx, Config{Path: scratch})
	if err != nil {
		return fmt.Errorf("open copy of %s: %w", backup, err)
	}
	// Copying through the engine reads every block and checks its checksum.
	err = src.Backup(ctx, path)
	return errors.Join(err, src.Close())
}

func copyFile(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Close())
}

func removeStore(path string) error {
	for _, p := range []string{path, path + ".wal"} {
		if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
