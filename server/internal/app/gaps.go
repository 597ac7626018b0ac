package app

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/api"
	"github.com/hedgerow/hedgerow/server/internal/journal"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

// gaps offers what connections' queues gave up, and has it sent again.
type gaps struct{ a *App }

func (g gaps) List(ctx context.Context, projectID, queue string) ([]api.Gap, error) {
	list, err := g.a.gapsOf(ctx, projectID, queue)
	if err != nil {
		return nil, err
	}
	out := make([]api.Gap, len(list))
	for i, gap := range list {
		c, _ := g.a.snapshot().Connection(strings.TrimPrefix(gap.Queue, connectionQueue("")))
		out[i] = api.Gap{ID: gap.ID(), Queue: gap.Queue, Connection: c.Name, Events: gap.Events, First: gap.First, Last: gap.Last, Sending: gap.Sending, Sent: gap.Sent}
	}
	return out, nil
}

func (g gaps) Send(ctx context.Context, projectID, queue string, ids []string) (int, error) {
	return g.a.changeGaps(ctx, projectID, queue, ids, func(gap journal.Gap) error {
		gap.Sending = true
		return g.a.journal.NoteGap(ctx, gap)
	})
}

func (g gaps) Forget(ctx context.Context, projectID, queue string, ids []string) (int, error) {
	return g.a.changeGaps(ctx, projectID, queue, ids, func(gap journal.Gap) error { return g.a.journal.CloseGap(ctx, gap) })
}

// gapsOf returns a project's gaps ("" is every project's) of one queue or of all.
func (a *App) gapsOf(ctx context.Context, projectID, queue string) ([]journal.Gap, error) {
	list, err := a.journal.Gaps(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list, func(g journal.Gap) bool {
		return !strings.HasPrefix(g.Queue, connectionQueue("")) || projectID != "" && g.Project != projectID || queue != "" && g.Queue != queue
	}), nil
}

// changeGaps changes those with the ids or, without ids, all of them.
func (a *App) changeGaps(ctx context.Context, projectID, queue string, ids []string, change func(journal.Gap) error) (int, error) {
	list, err := a.gapsOf(ctx, projectID, queue)
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
		return 0, event.NewError(event.CodeNotFound, "there is no such gap", "hedgerow replay gaps lists them; one that grew meanwhile has another id", nil)
	}
	select {
	case a.gapsChanged <- struct{}{}:
	default:
	}
	return n, nil
}

const (
	gapsRetry  = 5 * time.Second // until a queue that is behind is looked at again
	gapsFill   = 0.5             // of the journal, above which nothing is sent again
	gapsBehind = 10_000          // events of the queue, above which it is given no more
)

// sendGaps sends again from the store what queues gave up and somebody asked for.
// Where it is stands in the journal after each part, so that it goes on after a
// restart; what PostHog gets twice by that it knows by the uuid.
func (a *App) sendGaps(ctx context.Context) error {
	tick := time.NewTicker(gapsRetry)
	defer tick.Stop()
	for {
		list, err := a.gapsOf(ctx, "", "")
		if err != nil {
			return err
		}
		list = slices.DeleteFunc(list, func(g journal.Gap) bool { return !g.Sending })
		for _, g := range list {
			if err := a.sendGap(ctx, g); err != nil && ctx.Err() == nil {
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
		case <-a.gapsChanged:
		case <-retry:
		}
	}
}

// sendGap sends as much of a gap as its queue and the journal have room for.
func (a *App) sendGap(ctx context.Context, g journal.Gap) error {
	for ctx.Err() == nil {
		q, err := a.journal.Lag(ctx, g.Queue)
		if err != nil {
			return err
		}
		if q.Pending > gapsBehind || a.journalFill() > gapsFill {
			return nil
		}
		events, reached, err := a.Query.Originals(ctx, g.Project, query.Stretch{First: g.First, Last: g.Last, Stored: g.GivenUp, After: g.Reached})
		if err != nil {
			return err
		}
		if len(events) == 0 {
			a.log.Info("what a queue had given up was sent again", "queue", g.Queue, "events", g.Sent)
			return a.journal.CloseGap(ctx, g)
		}
		if err := a.journal.Redeliver(ctx, g.Queue, events...); err != nil {
			if event.AsError(err).Code == event.CodeFull {
				return nil
			}
			return err
		}
		g.Reached, g.Sent = reached, g.Sent+uint64(len(events))
		if err := a.journal.NoteGap(ctx, g); err != nil {
			return err
		}
	}
	return ctx.Err()
}
