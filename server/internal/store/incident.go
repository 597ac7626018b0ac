package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hedgerow/hedgerow/server/internal/atomicfile"
)

// Kinds of an [Incident].
const (
	IncidentDamaged = "damaged" // the file was damaged, set aside and recreated
	IncidentLog     = "log"     // the log of the last writes was damaged and set aside
	IncidentDeleted = "deleted" // the file was missing and was recreated
)

// Incident is a fault of the store's file that lost events. Those that are
// still in the journal are delivered again.
type Incident struct {
	Time         time.Time `json:"time"`
	Kind         string    `json:"kind"`
	SetAside     string    `json:"set_aside,omitempty"`    // name of the file in the data folder; a damaged store's log is next to it
	Cause        string    `json:"cause,omitempty"`        // the engine's own words
	Refilled     bool      `json:"refilled"`               // the journal redelivers its events
	RefilledFrom time.Time `json:"refilled_from,omitzero"` // when the journal's first event was captured; zero if it had none
	Acknowledged bool      `json:"acknowledged"`           // a user has acknowledged it
}

// Message describes the incident in one sentence.
func (i *Incident) Message() string {
	const layout = "2006-01-02 15:04:05 UTC"
	var b strings.Builder
	switch at := i.Time.UTC().Format(layout); i.Kind {
	case IncidentLog:
		fmt.Fprintf(&b, "the log of the store's last writes was damaged at %s, set aside as %s", at, i.SetAside)
	case IncidentDeleted:
		fmt.Fprintf(&b, "the store's file was found deleted or replaced at %s", at)
	default:
		fmt.Fprintf(&b, "the store was damaged at %s, set aside as %s", at, i.SetAside)
	}
	switch {
	case !i.Refilled:
		b.WriteString(", and is not refilled from the journal yet")
	case i.RefilledFrom.IsZero():
		b.WriteString("; the journal held no events to refill it from")
	default:
		fmt.Fprintf(&b, ", refilled from the journal from %s on", i.RefilledFrom.UTC().Format(layout))
	}
	return b.String()
}

// incidents are the incidents of a store, in a file next to it.
type incidents struct {
	mu   sync.Mutex
	path string
	log  *slog.Logger
	list incidentFile
	late bool // the file lacks a change
}

// incidentFile is the file's content. The file also records that a store
// existed.
type incidentFile struct {
	Created   time.Time  `json:"created"`          // when the store was made first
	Refill    bool       `json:"refill,omitempty"` // the store was recreated, and the journal has not redelivered yet
	Incidents []Incident `json:"incidents"`
}

// incidentsFile is the name of the file in the store's folder.
const incidentsFile = "store-incidents.json"

// maxIncidents bounds the file: the oldest go.
const maxIncidents = 100

// ReadIncidents returns the incidents of the store at a path, whether it is open or
// not, oldest first.
func ReadIncidents(path string) ([]Incident, error) {
	f, err := readIncidents(filepath.Join(filepath.Dir(path), incidentsFile))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return f.Incidents, err
}

func readIncidents(path string) (f incidentFile, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return f, err
	}
	if err := json.Unmarshal(b, &f); err != nil {
		return incidentFile{}, fmt.Errorf("%s cannot be read: %w", path, err)
	}
	return f, nil
}

func (s *incidents) load(storePath string, log *slog.Logger) {
	s.path, s.log = filepath.Join(filepath.Dir(storePath), incidentsFile), log
	var err error
	if s.list, err = readIncidents(s.path); errors.Is(err, fs.ErrNotExist) && exists(storePath) {
		s.list.Created, s.late = time.Now().UTC(), true // by an older hedgerow
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("the list of the store's incidents starts over", "err", err)
		s.list.Created, s.late = time.Now().UTC(), true
	}
}

// save writes the file. The next check retries a failed write.
func (s *incidents) save() {
	b, err := json.MarshalIndent(s.list, "", "  ")
	if err == nil {
		err = atomicfile.Write(s.path, append(b, '\n'))
	}
	if s.late = err != nil; s.late {
		s.log.Warn("the list of the store's incidents cannot be written", "path", s.path, "err", err)
	}
}

// change changes the list.
func (s *incidents) change(f func(*incidentFile)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.list)
	s.save()
}

func (s *incidents) add(i Incident) {
	s.change(func(f *incidentFile) {
		f.Refill = true
		f.Incidents = append(f.Incidents, i)
		f.Incidents = f.Incidents[max(0, len(f.Incidents)-maxIncidents):]
	})
}

// existed reports whether there was a store before.
func (s *incidents) existed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.list.Created.IsZero()
}

// explains reports whether the last incident explains why the file is missing.
func (s *incidents) explains() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.list.Incidents)
	return n > 0 && s.list.Incidents[n-1].Kind == IncidentDamaged && !s.list.Incidents[n-1].Refilled
}

// made notes that there is a new store, which the journal is to fill.
func (s *incidents) made() {
	s.change(func(f *incidentFile) {
		if f.Refill = true; f.Created.IsZero() {
			f.Created = time.Now().UTC()
		}
	})
}

// message describes the last unacknowledged incident.
func (s *incidents) message() (string, time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.list.Incidents) - 1; i >= 0; i-- {
		if in := &s.list.Incidents[i]; !in.Acknowledged {
			return in.Message(), in.Time
		}
	}
	return "", time.Time{}
}

// Incidents returns what happened to the store's file, oldest first.
func (d *DuckDB) Incidents() []Incident {
	d.incidents.mu.Lock()
	defer d.incidents.mu.Unlock()
	return slices.Clone(d.incidents.list.Incidents)
}

// AcknowledgeIncidents stops [DuckDB.Health] from reporting the incidents so
// far.
func (d *DuckDB) AcknowledgeIncidents() {
	d.incidents.change(func(f *incidentFile) {
		for i := range f.Incidents {
			f.Incidents[i].Acknowledged = true
		}
	})
}

// refill makes the journal redeliver its events, if required.
func (d *DuckDB) refill(ctx context.Context) {
	s := &d.incidents
	s.mu.Lock()
	if s.late {
		s.save()
	}
	due := s.list.Refill
	s.mu.Unlock()
	if d.c.Refill == nil || d.current() == nil { // the sink's later writes to a broken engine would be missing
		return
	}
	if !due {
		d.catchUp(ctx)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	from, err := d.c.Refill(ctx, time.Time{})
	if err != nil {
		d.c.Logger.Warn("the store could not be refilled from the journal; retrying", "err", err)
		return
	}
	d.caughtUp = true
	refilled := false
	s.change(func(f *incidentFile) {
		f.Refill = false
		for i := range f.Incidents {
			if in := &f.Incidents[i]; !in.Refilled {
				in.Refilled, in.RefilledFrom, refilled = true, from.UTC(), true
			}
		}
	})
	if refilled {
		d.c.Logger.Info("the store is refilled from the journal", "from", from)
	}
}

// storeLag is more than the store's usual lag behind the journal.
const storeLag = 15 * time.Second

// catchUp makes the journal redeliver, once after the start, the events from
// shortly before the store's last write on.
func (d *DuckDB) catchUp(ctx context.Context) {
	if d.caughtUp {
		return
	}
	d.mu.Lock()
	since := d.lastTime
	d.mu.Unlock()
	if !since.IsZero() {
		since = since.Add(-storeLag)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if _, err := d.c.Refill(ctx, since); err != nil {
		d.c.Logger.Debug("the journal was not checked yet for events missing in the store", "err", err)
		return
	}
	d.caughtUp = true
}
