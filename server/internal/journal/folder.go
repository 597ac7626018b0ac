package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// NATS keeps its files open and continues to write to them after their folder
// was removed; events acknowledged then are lost with the process. So the
// folders are checked regularly.

// errFolderRemoved ends an instance whose folder was removed.
var errFolderRemoved = errors.New("the folder of the events was removed or replaced while the journal was open")

// folders are the folders of an instance at its start.
type folders struct {
	paths    []string
	infos    []os.FileInfo
	messages string // the blocks' own: NATS recreates it when it purges all events
}

// foldersOf records the folders of a journal whose server is running.
func foldersOf(dir string) folders {
	stream := filepath.Join(streamsDir(dir), streamEvents)
	f := folders{messages: filepath.Join(stream, "msgs")}
	for _, path := range []string{dir, stream} {
		if info, err := os.Stat(path); err == nil {
			f.paths, f.infos = append(f.paths, path), append(f.infos, info)
		}
	}
	return f
}

// gone reports whether one of the folders was removed or replaced. It returns
// false if the file system does not answer.
func (f folders) gone() bool {
	for i, path := range f.paths {
		info, err := os.Stat(path)
		if errors.Is(err, os.ErrNotExist) || err == nil && !os.SameFile(info, f.infos[i]) {
			return true
		}
	}
	for range remakes {
		if _, err := os.Stat(f.messages); !errors.Is(err, os.ErrNotExist) {
			return false
		}
		time.Sleep(remakeWait) // between two steps of a purge
	}
	return true
}

// How often, and at which interval, to check for a folder that NATS may be
// recreating.
const (
	remakes    = 10
	remakeWait = 50 * time.Millisecond
)

// sameFolder makes sure that the journal's folder is the one of the start. A
// folder that has been removed is not made again: that would begin without the
// settings and the secret key from before.
func (j *Journal) sameFolder() error {
	switch info, err := os.Stat(j.c.Dir); {
	case err == nil && j.folder == nil: // at the start
		j.folder = info
		return nil
	case err == nil && os.SameFile(info, j.folder):
		return nil
	case err != nil && passing(err):
		return err
	case err != nil:
		return event.NewError(event.CodeUnavailable, fmt.Sprintf("the journal's folder %s was removed while hedgerow ran", j.c.Dir), "put it back, and recording resumes automatically; or restart hedgerow to begin with a new one", err)
	}
	return event.NewError(event.CodeUnavailable, fmt.Sprintf("the journal's folder %s was replaced by another while hedgerow ran", j.c.Dir), "put the original one back, and recording resumes automatically; or restart hedgerow to continue with the current one", nil)
}

// noteGone records that the folder of the events was removed while the journal
// was open, and the consequences.
func (j *Journal) noteGone() error {
	if err := j.sameFolder(); err != nil {
		return nil // the whole folder is missing, and may come back
	}
	d := Damage{Stream: streamEvents, Found: j.c.Now().UTC(), Whole: true,
		What: "the folder of the stream " + streamEvents + " was removed while hedgerow ran: events in it that were not yet stored, or not yet sent, are lost"}
	d.Mended = d.Found
	var err error
	if d.Path, err = setAside(j.c, streamEvents); err != nil {
		return err
	}
	j.inspected = false // so that it is on the list
	j.noteDamage(d)
	j.log.Error("the journal was damaged: "+d.What, "stream", d.Stream)
	return d.write()
}
