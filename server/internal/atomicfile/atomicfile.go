// Package atomicfile replaces small files whole or not at all.
package atomicfile

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// Write makes or replaces the file at path, readable by this user alone. A reader
// sees the old content or the new, also after kill -9 and a power failure. When
// Write returns nil, the new content is on the disk. Its folder must be there.
func Write(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), unfinished+"*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return SyncDir(filepath.Dir(path))
}

// unfinished begins the name of a file while it is written.
const unfinished = ".new-"

// Clean removes from a folder what Write has left there of processes that were
// killed. No process may write to the folder at that time. A folder that does
// not exist is clean.
func Clean(dir string) error {
	return Remove(dir, func(name string) bool { return strings.HasPrefix(name, unfinished) })
}

// Remove removes the files of a folder whose names match. A folder that does not
// exist has none.
func Remove(dir string, match func(name string) bool) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if e.Type().IsRegular() && match(e.Name()) {
			err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return err
}

// SyncDir makes renames in a folder survive a power failure. It does nothing on
// Windows, where folders cannot be opened for writing.
func SyncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
