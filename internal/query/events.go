package query

import "context"

// Bounds of [EventsQuery.Limit].
const (
	DefaultLimit = 50
	MaxLimit     = 1000
)

// EventsQuery asks for a page of events, the newest first.
type EventsQuery struct {
	Project string
	Filter
	Cursor string // Next of the page before; "" for the first page
	Limit  int    // 0 is DefaultLimit
}

// EventsPage is a page of events by timestamp, then uuid, both descending. The
// order is stable: events that arrive while someone pages never shift what
// follows.
type EventsPage struct {
	Events []*Event `json:"events"`
	Next   string   `json:"next_cursor"` // "" on the last page
}

// Events lists events, without content.
func (r *Reader) Events(ctx context.Context, q EventsQuery) (*EventsPage, error) { return nil, nil }

// Event returns one event; withContent also its content, where it is kept.
func (r *Reader) Event(ctx context.Context, project, uuid string, withContent bool) (*Event, error) {
	return nil, nil
}
