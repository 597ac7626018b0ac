package app

import (
	"sync"

	"github.com/hedgerow/hedgerow/event"
)

// live notifies open pages of a project that something new is stored. It never
// waits: who has not taken the last word yet needs no second one. The zero live
// is ready.
type live struct {
	mu     sync.Mutex
	byID   map[string]map[chan struct{}]struct{} // by project
	closed bool
}

// subscribe returns a channel that gets a word after each batch with events of
// the project, and is closed when hedgerow stops.
func (l *live) subscribe(projectID string) (changed <-chan struct{}, stop func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := make(chan struct{}, 1)
	if l.closed {
		close(c)
		return c, func() {}
	}
	if l.byID == nil {
		l.byID = make(map[string]map[chan struct{}]struct{})
	}
	if l.byID[projectID] == nil {
		l.byID[projectID] = make(map[chan struct{}]struct{})
	}
	l.byID[projectID][c] = struct{}{}
	return c, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.byID[projectID], c)
		if len(l.byID[projectID]) == 0 {
			delete(l.byID, projectID)
		}
	}
}

func (l *live) publish(events []*event.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.byID) == 0 {
		return
	}
	notified := make(map[string]bool, 1)
	for _, e := range events {
		if notified[e.ProjectID] {
			continue
		}
		notified[e.ProjectID] = true
		for c := range l.byID[e.ProjectID] {
			select {
			case c <- struct{}{}:
			default:
			}
		}
	}
}

func (l *live) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, chans := range l.byID {
		for c := range chans {
			close(c)
		}
	}
	l.byID = nil
}
