package app

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/journal"
	"github.com/hedgerow/hedgerow/server/internal/outbound"
	"github.com/hedgerow/hedgerow/server/internal/services"
	"github.com/hedgerow/hedgerow/server/internal/store"
)

// Adapters between packages that must not import each other: each declares the
// interface that it needs, and the types here implement it.

// deadLetters offers the journal's dead letters to the API.
type deadLetters struct{ a *App }

func (d deadLetters) List(ctx context.Context, projectID, queue string, limit int) ([]services.DeadLetter, error) {
	list, err := d.a.journal.DeadLetters(ctx, journal.DeadFilter{Project: projectID, Queue: queue, Limit: limit})
	if err != nil {
		return nil, err
	}
	out := make([]services.DeadLetter, len(list))
	for i, l := range list {
		out[i] = services.DeadLetter{ID: strconv.FormatUint(l.ID, 10), Queue: l.Queue, EventID: l.UUID, Event: l.Event, Reason: l.Reason, Attempts: l.Attempts, Time: l.Died, Bytes: l.Bytes}
	}
	return out, nil
}

func (d deadLetters) Replay(ctx context.Context, projectID, queue string, ids []string) (int, error) {
	f := journal.DeadFilter{Project: projectID, Queue: queue}
	for _, id := range ids {
		n, err := strconv.ParseUint(id, 10, 64)
		if err != nil {
			return 0, event.Invalid(strconv.Quote(id)+" is not the id of a dead letter", "list the ids with hedgerow replay list")
		}
		f.IDs = append(f.IDs, n)
	}
	return d.a.journal.Replay(ctx, f)
}

// gaps offers the gaps of connections to the API.
type gaps struct{ a *App }

func (g gaps) List(ctx context.Context, projectID, queue string) ([]services.Gap, error) {
	list, err := g.a.gaps.List(ctx, projectID, queue)
	if err != nil {
		return nil, err
	}
	out := make([]services.Gap, len(list))
	for i, gap := range list {
		c, _ := g.a.snapshot().Connection(strings.TrimPrefix(gap.Queue, outbound.Queue("")))
		out[i] = services.Gap{ID: gap.ID(), Queue: gap.Queue, Connection: c.Name, Events: gap.Events, First: gap.First, Last: gap.Last, Sending: gap.Sending, Sent: gap.Sent}
	}
	return out, nil
}

func (g gaps) Send(ctx context.Context, projectID, queue string, ids []string) (int, error) {
	return g.a.gaps.Send(ctx, projectID, queue, ids)
}

func (g gaps) Forget(ctx context.Context, projectID, queue string, ids []string) (int, error) {
	return g.a.gaps.Forget(ctx, projectID, queue, ids)
}

// eraser applies the store's retention for the pages: a deleted project keeps
// nothing, including checks, datasets and bills. Events still on the way to the store
// are stored afterwards; their content expires with the store's own retention.
type eraser struct{ a *App }

func (e eraser) Erase(ctx context.Context, projectID string) error {
	if err := errors.Join(e.a.Prompts.Erase(ctx, projectID), e.a.Checks.Erase(ctx, projectID), e.a.Datasets.Erase(ctx, projectID), e.a.Bills.Erase(ctx, projectID)); err != nil {
		return err
	}
	_, err := e.a.Store.Retain(ctx, func(id string) store.Retention {
		if id != projectID {
			return store.Retention{} // unlimited in this run
		}
		return store.Retention{Content: time.Nanosecond, Metrics: time.Nanosecond}
	})
	return err
}

// providers are the names that provider keys may be kept for.
func (a *App) providers() []string {
	return slices.Sorted(maps.Keys(a.gatewayConfig(nil).Upstreams))
}

// Status is the process's part of GET /api/v1/status.
type Status struct {
	Listen    string       `json:"listen"`
	StartedAt time.Time    `json:"started_at"`
	Journal   journalState `json:"journal"`
	Capture   any          `json:"capture,omitempty"`
}

type journalState struct {
	Events      uint64       `json:"events"`
	Bytes       int64        `json:"bytes"`
	MaxBytes    int64        `json:"max_bytes"`
	DeadLetters uint64       `json:"dead_letters"`
	Queues      []queueState `json:"queues"`

	// Events that queues dropped to keep recording; the store has them.
	Gaps []journal.Gap `json:"gaps,omitempty"`
}

type queueState struct {
	Name           string  `json:"name"`
	Waiting        uint64  `json:"waiting"`
	LagSeconds     float64 `json:"lag_seconds"`
	Unacknowledged int     `json:"unacknowledged"`
}

func (a *App) status(ctx context.Context) any {
	s := Status{StartedAt: a.started.UTC()}
	if a.listener != nil {
		s.Listen = a.listener.Addr().String()
	}
	if st, err := a.journal.Stats(ctx); err == nil {
		s.Journal = journalState{Events: st.Events, Bytes: st.Bytes, MaxBytes: st.MaxBytes, DeadLetters: st.Dead, Queues: []queueState{}}
	}
	if qs, err := a.journal.Queues(ctx); err == nil {
		for _, q := range qs {
			s.Journal.Queues = append(s.Journal.Queues, queueState{Name: q.Name, Waiting: q.Pending, LagSeconds: q.OldestUnacked.Seconds(), Unacknowledged: q.AckPending})
		}
	}
	if gaps, err := a.journal.Gaps(ctx); err == nil {
		s.Journal.Gaps = gaps
	}
	if a.gateway != nil {
		s.Capture = a.gateway.Stats()
	}
	return s
}
