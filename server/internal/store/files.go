package store

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
	"strings"
)

// tempDir is where the engine puts what does not fit its memory.
func tempDir(path string) string { return path + ".tmp" }

// private removes other users' permissions on the store's existing files,
// because they contain prompts and answers.
func private(path string) error {
	var errs []error
	for _, p := range []string{path, logPath(path), tempDir(path)} {
		info, err := os.Stat(p)
		if err != nil {
			continue
		}
		want := fs.FileMode(0o600)
		if info.IsDir() {
			want = 0o700
		}
		if info.Mode().Perm() != want {
			errs = append(errs, os.Chmod(p, want))
		}
	}
	err := errors.Join(errs...)
	if errors.Is(err, fs.ErrNotExist) || runtime.GOOS == "windows" { // removed by the engine, or no file modes
		return nil
	}
	return err
}

func removeStore(path string) error {
	for _, p := range []string{path, logPath(path)} {
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

// exists reports whether a file of that name exists, even a dangling link.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// logPath is where the engine keeps the write-ahead log of a file: it takes what
// follows a question mark in a name for options.
func logPath(path string) string {
	if i := strings.IndexByte(path, '?'); i >= 0 && runtime.GOOS != "windows" {
		return path[:i] + ".wal" + path[i:]
	}
	return path + ".wal"
}
