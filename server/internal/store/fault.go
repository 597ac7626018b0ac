package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"github.com/duckdb/duckdb-go/v2"

	"github.com/hedgerow/hedgerow/event"
)

// fault is the state of the file according to an error of the engine.
type fault int

const (
	faultPasses  fault = iota // nothing: something else is missing, or it is not known
	faultInUse                // another process has it
	faultNewer                // a newer hedgerow has written it
	faultDamaged              // it is not as it was written
	faultLog                  // its write-ahead log is not as it was written
)

// shortages maps error texts of the engine and the kernel to temporary causes.
// Such an error never means that a file is damaged.
var shortages = []struct{ words, means string }{
	{"No space left on device", "the disk is full"},
	{"Disk quota exceeded", "the disk quota is used up"},
	{"not enough space on the disk", "the disk is full"},
	{"File too large", "the file size limit is reached"},
	{"Input/output error", "the disk reports an I/O error"},
	{"Too many open files", "no file descriptors are left"},
	{"Read-only file system", "the disk is read-only"},
	{"Permission denied", "hedgerow's user has no permission to read and write it"},
	{"Cannot allocate memory", "there is not enough memory"},
	{"Out of Memory", "there is not enough memory"},
	{"ould not allocate", "there is not enough memory"},
	{"failed to offload", "there is not enough memory, and no disk space for temporary files"},
	{"Stale file handle", "the disk is not available"},
	{"No such device", "the disk is not available"},
	{"Transport endpoint", "the disk is not available"},
	{"nterrupted", "it was interrupted"},
}

// passing returns the temporary cause of an error, or "".
func passing(err error) string {
	s := err.Error()
	for _, w := range shortages {
		if strings.Contains(s, w.words) {
			return w.means
		}
	}
	for _, c := range []struct {
		errno error
		means string
	}{{syscall.ENOSPC, "the disk is full"}, {syscall.EIO, "the disk reports an I/O error"}, {syscall.EMFILE, "no file descriptors are left"}, {syscall.ENFILE, "no file descriptors are left"}, {syscall.EROFS, "the disk is read-only"}} {
		if errors.Is(err, c.errno) {
			return c.means
		}
	}
	return ""
}

// passes reports whether an error is transient and ends once the resource is
// back.
func passes(err error) bool {
	return passing(err) != "" || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

var versionNumber = regexp.MustCompile(`version number (\d+)`)

// maxVersion is above every version number of DuckDB's file format to come: one
// above it was not written by DuckDB.
const maxVersion = 1000

// faultOf classifies an error. It reports damage only if nothing else is
// possible.
func faultOf(path string, err error) fault {
	s := err.Error()
	switch {
	case errors.Is(err, errNewer):
		return faultNewer
	case strings.Contains(s, "Could not set lock"), strings.Contains(s, "already attached"), strings.Contains(s, "being used by another process"):
		return faultInUse
	case passes(err):
		return faultPasses
	case strings.Contains(s, "database file with version number"), strings.Contains(s, "newer version of DuckDB"):
		if m := versionNumber.FindStringSubmatch(s); m != nil {
			if n, err := strconv.ParseUint(m[1], 10, 64); err != nil || n > maxVersion || n == 0 {
				return faultDamaged
			}
		}
		return faultNewer
	case errors.Is(err, errCut),
		strings.Contains(s, "Corrupt database file"),
		strings.Contains(s, "not a valid DuckDB database file"),
		strings.Contains(s, "Could not read enough bytes from file \""+path+"\""):
		return faultDamaged
	case errors.Is(err, errLog), strings.Contains(s, "Corrupt WAL file"), strings.Contains(s, "Failure while replaying WAL file"),
		strings.Contains(s, "This WAL was created for"), strings.Contains(s, "WAL does not match database file"):
		return faultLog
	case strings.Contains(s, "Failed to deserialize"), strings.Contains(s, "Serialization Error"):
		return faultDamaged
	}
	return faultPasses
}

// stops reports whether DuckDB must be closed after an error, or the file is
// damaged. After a fatal or internal error DuckDB rejects everything; after
// running out of memory during a commit its rows in memory can be wrong, which
// only the next checkpoint notices (seen with 1.5.4).
func stops(path string, err error) bool {
	s := err.Error()
	return isDuck(err, duckdb.ErrorTypeFatal, duckdb.ErrorTypeInternal) || strings.Contains(s, "database has been invalidated") ||
		faultOf(path, err) == faultDamaged
}

// stopsWriting is stops for a statement that writes.
func stopsWriting(path string, err error) bool {
	s := err.Error()
	return stops(path, err) || isDuck(err, duckdb.ErrorTypeOutOfMemory, duckdb.ErrorTypeIO) ||
		strings.Contains(s, "Failed to commit") || strings.Contains(s, "Failed to append")
}

// forPeople converts an error of opening the file, or of the engine, to a
// user-facing error with a hint.
func forPeople(path string, err error) *event.Error {
	var e *event.Error
	if errors.As(err, &e) {
		return e
	}
	switch faultOf(path, err) {
	case faultInUse:
		return event.NewError(event.CodeConflict, fmt.Sprintf("the store %s is in use by another process", path), "stop the other hedgerow, or use another data folder", err)
	case faultNewer:
		return event.NewError(event.CodeConflict, fmt.Sprintf("the store %s was written by a newer hedgerow", path), fmt.Sprintf("start that version again, restore a backup made before the upgrade, or have the newer hedgerow write one for this version: hedgerow backup --schema %d FOLDER", len(migrations)), err)
	case faultDamaged, faultLog:
		return event.NewError(event.CodeUnavailable, fmt.Sprintf("the store %s is damaged", path), "it is set aside and rebuilt from the journal", err)
	}
	if why := passing(err); why != "" {
		hint := "hedgerow retries automatically; see its log"
		switch {
		case strings.Contains(why, "full"), strings.Contains(why, "quota"):
			hint = "free some disk space: events wait in the journal, and hedgerow continues automatically"
		case strings.Contains(why, "memory"):
			hint = "raise store_memory, or add memory to the machine; hedgerow retries automatically"
		case strings.Contains(why, "descriptors"):
			hint = "raise the limit of open files (ulimit -n); hedgerow retries automatically"
		case strings.Contains(why, "user"):
			hint = "give hedgerow's user permission to read and write it; hedgerow retries automatically"
		}
		return event.NewError(event.CodeUnavailable, fmt.Sprintf("the store %s does not work: %s", path, why), hint, err)
	}
	return event.NewError(event.CodeUnavailable, fmt.Sprintf("the store %s does not work", path), "hedgerow retries automatically; its log has the engine's error", err)
}

var errNewer = errors.New("written by a newer hedgerow")

// checkFolder finds out what DuckDB would report less clearly.
func checkFolder(path string) error {
	dir := filepath.Dir(path)
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return event.NewError(event.CodeUnavailable, fmt.Sprintf("the store's folder %s does not exist", dir), "create it, or name another data folder", nil)
	case err != nil:
		return event.NewError(event.CodeUnavailable, fmt.Sprintf("the store's folder %s cannot be used", dir), "check its permissions, or name another data folder", err)
	case !info.IsDir():
		return event.NewError(event.CodeUnavailable, fmt.Sprintf("%s is not a folder", dir), "name another data folder", nil)
	}
	f, err := os.CreateTemp(dir, ".writable-*")
	if err != nil {
		hint := "give hedgerow's user permission to write there, or use another data folder"
		if why := passing(err); why != "" && !errors.Is(err, fs.ErrPermission) {
			return fmt.Errorf("the store's folder cannot be written to: %w", err)
		}
		return event.NewError(event.CodeUnavailable, fmt.Sprintf("the store's folder %s is not writable", dir), hint, err)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}
