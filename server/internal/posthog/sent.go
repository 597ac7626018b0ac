package posthog

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// remembered is the number of events per connection whose delivery time is
// kept: some hundred kilobytes.
const remembered = 4096

// sentLog remembers when the last events were taken.
type sentLog struct {
	mu   sync.Mutex
	at   map[string]time.Time
	ring []string
	next int
}

func (l *sentLog) add(id string, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.at == nil {
		l.at = make(map[string]time.Time)
	}
	if _, again := l.at[id]; again {
		l.at[id] = at
		return
	}
	if len(l.ring) < remembered {
		l.ring = append(l.ring, id)
	} else {
		delete(l.at, l.ring[l.next])
		l.ring[l.next] = id
		l.next = (l.next + 1) % remembered
	}
	l.at[id] = at
}

func (l *sentLog) of(id string) (time.Time, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at, ok := l.at[id]
	return at, ok
}

// SentAt returns when PostHog last accepted an event of a connection. It knows
// only the last 4,096 events that this process sent.
func (m *Manager) SentAt(connectionID, uuid string) (time.Time, bool) {
	m.mu.Lock()
	s := m.stats[connectionID]
	m.mu.Unlock()
	if s == nil {
		return time.Time{}, false
	}
	return s.recent.of(uuid)
}

// Made returns the events that a connection would send for an event: filtered,
// sampled and without what privacy withholds. Empty if nothing is sent.
func (m *Manager) Made(c project.Connection, p project.Project, e *event.Event) ([]json.RawMessage, error) {
	var out []json.RawMessage
	shaped := m.c.Shape(c, p, e)
	if shaped.Block != "" {
		return nil, event.NewError(event.CodeConflict, "this event is not sent: "+shaped.Block, "it is a dead letter of the connection", nil)
	}
	for _, o := range shaped.Events {
		body, err := o.MarshalPostHog(m.wire(e))
		if err != nil {
			return nil, fmt.Errorf("make event for connection %s: %w", c.ID, err)
		}
		out = append(out, body)
	}
	return out, nil
}
