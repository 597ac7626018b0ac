package outbound

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/journal"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

// Queue returns the name of a connection's journal queue. Queue("") is the common
// prefix of these names.
func Queue(connectionID string) string { return "posthog-" + connectionID }

// GapsConfig is what [Gaps] works with. All of it is required.
type GapsConfig struct {
	Journal *journal.Journal
	Query   *query.Reader
	// SentAs returns, of the events of a project, those that PostHog knows under
	// another uuid, with that uuid: calls with a late merge.
	SentAs func(ctx context.Context, project string, uuids []string) (map[string]string, error)
	Full   func() float64 // how full the journal is, 0 to 1
	Logger *slog.Logger
}

// Gaps are the events that connections were not sent because the journal was
// nearly full: their queues dropped them, the store has them. They are sent again
// on request.
type Gaps struct {
	c       GapsConfig
	changed chan struct{} // signals a request
}

// NewGaps returns the gaps recorded in a journal.
func NewGaps(c GapsConfig) *Gaps { return &Gaps{c, make(chan struct{}, 1)} }

// List returns the gaps of a project's connections ("" is every project), of one queue
// or ("") of all.
func (s *Gaps) List(ctx context.Context, projectID, queue string) ([]journal.Gap, error) {
	list, err := s.c.Journal.Gaps(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list, func(g journal.Gap) bool {
		return !strings.HasPrefix(g.Queue, Queue("")) || projectID != "" && g.Project != projectID || queue != "" && g.Queue != queue
	}), nil
}

// Send has gaps sent again by [Gaps.Run]: those with the ids or, without ids, all of
// them. It returns how many.
func (s *Gaps) Send(ctx context.Context, projectID, queue string, ids []string) (int, error) {
	return s.change(ctx, projectID, queue, ids, func(g journal.Gap) error {
		g.Sending = true
		return s.c.Journal.NoteGap(ctx, g)
	})
}

// Forget leaves gaps as they are, and forgets them.
func (s *Gaps) Forget(ctx context.Context, projectID, queue string, ids []string) (int, error) {
	return s.change(ctx, projectID, queue, ids, func(g journal.Gap) error { return s.c.Journal.CloseGap(ctx, g) })
}

// change changes those with the ids or, without ids, all of them.
func (s *Gaps) change(ctx context.Context, projectID, queue string, ids []string, change func(journal.Gap) error) (int, error) {
	list, err := s.List(ctx, projectID, queue)
	if err != nil {
		return 0, err
	}
	n := 0
	for _, g := range list {
		if len(ids) > 0 && !slices.Contains(ids, g.ID()) {
			continue
		}
		if err := change(g); err != nil {
			return n, err
		}
		n++
	}
	if n == 0 && len(ids) > 0 {
		return 0, event.NewError(event.CodeNotFound, "gap not found", "hedgerow replay gaps lists them; the id of a gap changes when it grows", nil)
	}
	select {
	case s.changed <- struct{}{}:
	default:
	}
	return n, nil
}

const (
	gapsRetry  = 5 * time.Second // until a lagging queue is checked again
	gapsFill   = 0.5             // of the journal, above which nothing is sent again
	gapsBehind = 10_000          // events of the queue, above which it is given no more
)

// Run sends requested gaps again from the store until ctx ends. It saves its
// position in the journal after each part, so that it continues after a restart;
// PostHog deduplicates repeated events by uuid.
func (s *Gaps) Run(ctx context.Context) error {
	tick := time.NewTicker(gapsRetry)
	defer tick.Stop()
	for {
		list, err := s.List(ctx, "", "")
		if err != nil {
			return err
		}
		list = slices.DeleteFunc(list, func(g journal.Gap) bool { return !g.Sending })
		for _, g := range list {
			if err := s.send(ctx, g); err != nil && ctx.Err() == nil {
				return err
			}
		}
		retry := tick.C
		if len(list) == 0 {
			retry = nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.changed:
		case <-retry:
		}
	}
}

// send sends as much of a gap as fit in its queue and the journal.
func (s *Gaps) send(ctx context.Context, g journal.Gap) error {
	for ctx.Err() == nil {
		q, err := s.c.Journal.Lag(ctx, g.Queue)
		if err != nil {
			return err
		}
		if q.Pending > gapsBehind || s.c.Full() > gapsFill {
			return nil
		}
		events, reached, err := s.c.Query.Originals(ctx, g.Project, query.Stretch{First: g.First, Last: g.Last, Stored: g.GivenUp, After: g.Reached})
		if err != nil {
			return err
		}
		if len(events) == 0 {
			s.c.Logger.Info("events that a queue had skipped were resent", "queue", g.Queue, "events", g.Sent)
			return s.c.Journal.CloseGap(ctx, g)
		}
		if err := s.asSent(ctx, g.Project, events); err != nil {
			return err
		}
		if err := s.c.Journal.Redeliver(ctx, g.Queue, events...); err != nil {
			if event.AsError(err).Code == event.CodeFull {
				return nil
			}
			return err
		}
		g.Reached, g.Sent = reached, g.Sent+uint64(len(events))
		if err := s.c.Journal.NoteGap(ctx, g); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// asSent sets the uuid of events to the one under which PostHog knows them.
func (s *Gaps) asSent(ctx context.Context, project string, events []*event.Event) error {
	var uuids []string
	for _, e := range events {
		if e.IsCosted() {
			uuids = append(uuids, e.UUID)
		}
	}
	sent, err := s.c.SentAs(ctx, project, uuids)
	for _, e := range events {
		if id := sent[e.UUID]; id != "" {
			e.UUID = id
		}
	}
	return err
}
