package store

import (
	"context"
	"errors"
	"fmt"
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
	conn, err := d.engine.Load().readers.Conn(ctx)
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
	src, err := OpenDuckDB(ctx, Config{Path: backup})
	if err != nil {
		return err
	}
	// Copying through the engine reads and checks every block and its checksum.
	err = src.Backup(ctx, path)
	return errors.Join(err, src.Close())
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
