package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"time"
)

// asideName is the name of a file that is set aside, next to the store's.
func asideName(path string, at time.Time) string {
	name := path + ".damaged-" + at.UTC().Format("20060102-150405")
	for i := 2; exists(name) || exists(name+".wal"); i++ {
		name = fmt.Sprintf("%s.damaged-%s-%d", path, at.UTC().Format("20060102-150405"), i)
	}
	return name
}

// setAside renames a damaged file and its log, and records it. The next attempt
// creates a new file.
func (d *DuckDB) setAside(cause error) error {
	now := d.c.Now()
	to := asideName(d.c.Path, now)
	if exists(logPath(d.c.Path)) {
		if err := os.Rename(logPath(d.c.Path), to+".wal"); err != nil {
			return err
		}
	}
	if err := os.Rename(d.c.Path, to); err != nil {
		return err
	}
	d.c.Logger.Error("the store is damaged and was set aside; a new one is created", "path", d.c.Path, "set_aside", to, "err", cause)
	d.incidents.add(Incident{Time: now.UTC(), Kind: IncidentDamaged, SetAside: filepath.Base(to), Cause: cause.Error()})
	return nil
}

// errNoFile is returned if a path is not a regular file.
var errNoFile = errors.New("it is no file")

// setOddAside renames anything other than a regular file at the path of the store
// or its log: a folder, a broken link, a pipe, which would block forever.
func (d *DuckDB) setNonFilesAside() error {
	for _, path := range []string{d.c.Path, logPath(d.c.Path)} {
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		info, err := os.Stat(path)
		switch {
		case err == nil && info.Mode().IsRegular():
			continue
		case err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ELOOP):
			return err
		}
		if path == d.c.Path {
			if err := d.setAside(errNoFile); err != nil {
				return err
			}
			continue
		}
		now := d.c.Now()
		aside := asideName(d.c.Path, now) + ".wal"
		if err := os.Rename(path, aside); err != nil {
			return err
		}
		d.c.Logger.Error("the store's write-ahead log is not a file: it was set aside, and its events are delivered again", "set_aside", aside)
		d.incidents.add(Incident{Time: now.UTC(), Kind: IncidentLog, SetAside: filepath.Base(aside), Cause: errNoFile.Error()})
	}
	return nil
}

// recreate creates a store if there is none. If there was one before, that is
// noted; a log that was left is set aside.
func (d *DuckDB) recreate(ctx context.Context) error {
	before := d.incidents.existed()
	if exists(logPath(d.c.Path)) {
		to := asideName(d.c.Path, d.c.Now()) + ".wal"
		if err := os.Rename(logPath(d.c.Path), to); err != nil {
			return err
		}
	}
	if err := create(ctx, d.c); err != nil {
		return fmt.Errorf("make a new store: %w", err)
	}
	now := d.c.Now().UTC()
	if before && !d.incidents.explains() {
		d.c.Logger.Error("the store's file was deleted; a new one was created", "path", d.c.Path)
		d.incidents.add(Incident{Time: now, Kind: IncidentDeleted})
	}
	d.incidents.made()
	return nil
}

// A write-ahead log of DuckDB is a header, an object with fields that ends with
// two bytes 0xff, and then entries: size and checksum, 8 bytes each, and the
// data. A transaction ends with an entry that always has the same bytes. The
// engine reads up to the first entry that is cut short, as a killed process
// leaves it, and rejects a log in which a checksum is wrong. But if a size or the
// header is damaged, it treats the rest as cut short without an error.
var commitTag = []byte{0x64, 0x00, 0x64, 0xff, 0xff} // the entry that ends a transaction: its kind is 100

const entryHead = 16 // size and checksum

// The fields of the header, numbers but for the file's identifier, which is a list.
const (
	fieldKind    = 100 // of the entry
	fieldVersion = 101
	fieldFile    = 102
	fieldRound   = 103 // of checkpoints
	fieldEnd     = 0xffff
	kindVersion  = 98
)

// headerEnd is where the header of a log ends, or 0 if there is none.
func headerEnd(b []byte) int {
	number := func(at int) (uint64, int) {
		n, w := binary.Uvarint(b[min(at, len(b)):])
		if w <= 0 {
			return 0, -1
		}
		return n, at + w
	}
	for at, first := 0, true; at >= 0 && at+2 <= len(b); first = false {
		field := binary.LittleEndian.Uint16(b[at:])
		at += 2
		var n uint64
		switch field {
		case fieldEnd:
			return at
		case fieldKind:
			if n, at = number(at); !first || n != kindVersion {
				return 0
			}
		case fieldVersion, fieldRound:
			_, at = number(at)
		case fieldFile:
			if n, at = number(at); n > 64 {
				return 0
			}
			for ; n > 0 && at >= 0; n-- {
				_, at = number(at)
			}
		default:
			return 0
		}
	}
	return 0
}

// errLog is returned for damage in a log that the engine does not notice.
var errLog = errors.New("the write-ahead log is damaged")

// checkLog returns an error if a log has lost committed transactions.
func checkLog(path string) error {
	f, err := os.Open(logPath(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	s, err := readLog(f)
	if err != nil {
		return err
	}
	if s.lost {
		return fmt.Errorf("%w at byte %d of %d", errLog, s.whole, s.size)
	}
	return nil
}

// maxHeader is more than a header has bytes.
const maxHeader = 256

// logState is what of a log can be read.
type logState struct {
	size      int64
	whole     int64 // where the first entry begins that is not whole; size where all are
	committed int64 // end of the last whole transaction up to whole, or of the header
	lost      bool  // transactions end after whole
}

// readLog reads the entries of a log. It does not compute checksums.
func readLog(f io.ReadSeeker) (s logState, err error) {
	if s.size, err = f.Seek(0, io.SeekEnd); err != nil {
		return s, err
	}
	if s.size == 0 {
		return s, nil
	}
	head := make([]byte, min(s.size, maxHeader))
	if err := readAt(f, head, 0); err != nil {
		return s, err
	}
	end := headerEnd(head)
	if end == 0 {
		s.lost, err = commitsAfter(f, 0) // else it is cut short
		return s, err
	}
	at := int64(end)
	s.committed = at
	entry := make([]byte, entryHead+len(commitTag))
	for at < s.size {
		n := min(int64(len(entry)), s.size-at)
		if err := readAt(f, entry[:n], at); err != nil {
			return s, err
		}
		if n < entryHead {
			break
		}
		size := binary.LittleEndian.Uint64(entry)
		if size == 0 || size > uint64(s.size-at-entryHead) {
			break
		}
		at += entryHead + int64(size)
		if size == uint64(len(commitTag)) && bytes.Equal(entry[entryHead:n], commitTag) {
			s.committed = at
		}
	}
	s.whole = at
	if at < s.size {
		s.lost, err = commitsAfter(f, at+1)
	}
	return s, err
}

// commitsAfter finds out whether a transaction ends anywhere after a place.
func commitsAfter(f io.ReadSeeker, at int64) (bool, error) {
	if _, err := f.Seek(at, io.SeekStart); err != nil {
		return false, err
	}
	tag := append(binary.LittleEndian.AppendUint64(nil, uint64(len(commitTag))), make([]byte, 8)...)
	tag = append(tag, commitTag...)
	buf := make([]byte, 1<<20)
	kept := 0
	for {
		n, err := io.ReadFull(f, buf[kept:])
		b := buf[:kept+n]
		for i := 0; i+len(tag) <= len(b); i++ {
			j := bytes.Index(b[i:], tag[:8])
			if j < 0 || i+j+len(tag) > len(b) {
				break
			}
			if i += j; bytes.Equal(b[i+entryHead:i+len(tag)], commitTag) {
				return true, nil
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		kept = copy(buf, b[max(0, len(b)-len(tag)+1):])
	}
}

func readAt(f io.ReadSeeker, b []byte, at int64) error {
	if _, err := f.Seek(at, io.SeekStart); err != nil {
		return err
	}
	_, err := io.ReadFull(f, b)
	return err
}

var logPosition = regexp.MustCompile(`entry at byte position (\d+)`)

// repairLog sets a damaged log aside and keeps the file next to it with the log's
// transactions before the damage. Later ones are lost to the store and delivered
// again. If there are none, as after a power failure, no acknowledged event was
// lost.
func (d *DuckDB) repairLog(cause error) error {
	path := logPath(d.c.Path)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	s, err := readLog(f)
	if err != nil {
		return err
	}
	keep, lost := s.committed, s.lost
	switch m := logPosition.FindStringSubmatch(cause.Error()); {
	case m != nil: // a checksum is wrong from here on
		bad, err := strconv.ParseInt(m[1], 10, 64)
		if err != nil {
			return err
		}
		if keep, err = committedBefore(f, bad); err != nil {
			return err
		}
		if lost, err = commitsAfter(f, bad); err != nil {
			return err
		}
	case !errors.Is(cause, errLog): // it does not fit the file, or cannot be replayed
		keep, lost = 0, s.size > 0
	}
	now := d.c.Now()
	aside := asideName(d.c.Path, now) + ".wal"
	if err := copyFile(path, aside); err != nil {
		return errors.Join(fmt.Errorf("copy the damaged log: %w", err), os.Remove(aside))
	}
	if keep == 0 {
		err = errors.Join(f.Close(), os.Remove(path))
	} else {
		err = errors.Join(f.Truncate(keep), f.Sync())
	}
	if err != nil {
		return err
	}
	if !lost {
		d.c.Logger.Warn("the store's last writes were incomplete; nothing acknowledged is missing", "set_aside", aside, "err", cause)
		return nil
	}
	d.c.Logger.Error("the store's write-ahead log is damaged: it was set aside, and its events are delivered again", "set_aside", aside, "err", cause)
	d.incidents.add(Incident{Time: now.UTC(), Kind: IncidentLog, SetAside: filepath.Base(aside), Cause: cause.Error()})
	return nil
}

// committedBefore is the end of the last transaction that ends at a place or before.
func committedBefore(f *os.File, at int64) (int64, error) {
	s, err := readLog(io.NewSectionReader(f, 0, at))
	return s.committed, err
}
