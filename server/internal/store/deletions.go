package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/hedgerow/hedgerow/server/internal/atomicfile"
)

// Deletions are the uuids of the events deleted in the last 90 days, in a file
// next to the store. A recreated store that is filled from the journal must not
// restore deleted events, and the journal's deliveries to others must omit them,
// with or without a store. It is safe for concurrent use.
type Deletions struct {
	path string

	mu   sync.Mutex
	read bool // the file was read into set
	set  map[deletedEvent]struct{}
}

type deletedEvent struct {
	project string
	id      uuid.UUID
}

// deletedLine is a line of the file.
type deletedLine struct {
	Time    time.Time `json:"time"`
	Project string    `json:"project"`
	UUIDs   []string  `json:"uuids"`
}

// NewDeletions returns the deletions of the store at a path. It does not read
// the file yet.
func NewDeletions(storePath string) *Deletions { return &Deletions{path: storePath + ".deleted"} }

// Has reports whether an event of a project was deleted. A file that cannot be read
// is an error, and is read again at the next call.
func (x *Deletions) Has(project, id string) (bool, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.read {
		lines, err := x.lines()
		if err != nil {
			return false, err
		}
		x.read, x.set = true, make(map[deletedEvent]struct{})
		for _, l := range lines {
			x.add(l)
		}
	}
	if len(x.set) == 0 {
		return false, nil
	}
	u, err := uuid.Parse(id)
	if err != nil {
		return false, nil // none was deleted under it
	}
	_, ok := x.set[deletedEvent{project, u}]
	return ok, nil
}

// add requires that mu is locked.
func (x *Deletions) add(l deletedLine) {
	for _, id := range l.UUIDs {
		if u, err := uuid.Parse(id); err == nil {
			x.set[deletedEvent{l.Project, u}] = struct{}{}
		}
	}
}

func (x *Deletions) exist() bool { return exists(x.path) }

// note adds a line to the file, durably.
func (x *Deletions) note(l deletedLine) error {
	b, err := json.Marshal(l)
	if err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	f, err := os.OpenFile(x.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	// Start a new line, in case the last write was cut short.
	_, err = f.Write(slices.Concat([]byte("\n"), b, []byte("\n")))
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil && x.read {
		x.add(l)
	}
	return err
}

// lines reads the file. Lines that were cut short are left out.
func (x *Deletions) lines() (lines []deletedLine, err error) {
	b, err := os.ReadFile(x.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for line := range bytes.Lines(b) {
		var l deletedLine
		if json.Unmarshal(line, &l) == nil {
			lines = append(lines, l)
		}
	}
	return lines, err
}

// prune takes old lines out of the file.
func (x *Deletions) prune(before time.Time) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	lines, err := x.lines()
	if err != nil || !slices.ContainsFunc(lines, func(l deletedLine) bool { return l.Time.Before(before) }) {
		return err
	}
	var b []byte
	for _, l := range lines {
		if l.Time.Before(before) {
			continue
		}
		line, err := json.Marshal(l)
		if err != nil {
			return err
		}
		b = append(append(b, line...), '\n')
	}
	x.read = false
	return atomicfile.Write(x.path, b)
}
