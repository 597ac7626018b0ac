package app

import (
	"context"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/firstvalue"
	"github.com/hedgerow/hedgerow/server/internal/join"
	"github.com/hedgerow/hedgerow/server/internal/journal"
	"github.com/hedgerow/hedgerow/server/internal/ledger"
	"github.com/hedgerow/hedgerow/server/internal/outbound"
	"github.com/hedgerow/hedgerow/server/internal/posthog"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/store"
	"github.com/hedgerow/hedgerow/server/internal/supervise"
)

// storeQueue is the journal queue of the store; each connection has its own,
// see outbound.Queue.
const storeQueue = "store"

// runSink is run for a loop of the store's role: it runs only while this process
// has that role.
func (a *App) runSink(name string, f func(context.Context) error) {
	a.run(closeSinks, name, func(ctx context.Context) error {
		if a.lease == nil {
			return f(ctx)
		}
		held, release, err := a.lease.hold(ctx)
		if err != nil {
			return err
		}
		defer release()
		if err := f(held); err != nil || ctx.Err() != nil {
			return err
		}
		return errRoleLost
	})
}

// joinQueue is the journal queue of the joiner.
const joinQueue = "join"

// openJoiner starts to join calls that were captured twice.
func (a *App) openJoiner() (err error) {
	a.joiner, err = join.NewJoiner(join.JoinerConfig{
		Open: func(ctx context.Context, since time.Time) (event.Queue, error) {
			q, err := a.openJoinQueue(ctx)
			if err != nil {
				return nil, err
			}
			_, err = a.journal.Rewind(ctx, joinQueue, since)
			return q, err
		},
		Behind: func(ctx context.Context) (uint64, error) {
			q, err := a.journal.Lag(ctx, joinQueue)
			return q.Pending, err
		},
		Journal: a.journal, Merges: lateStore{a}, Deleted: a.deletions.Has, Gateway: a.isGateway, Hold: a.cfg.JoinHold,
		Logger: a.log.With("part", "join"), Registerer: a.metrics,
	})
	if err == nil {
		a.runSink("joining", a.joiner.Run)
	}
	return err
}

func (a *App) openJoinQueue(ctx context.Context) (event.Queue, error) {
	return a.journal.Queue(ctx, joinQueue, journal.QueueOptions{From: journal.FromNow})
}

// lateStore is the store, which may not be open yet.
type lateStore struct{ a *App }

func (s lateStore) MergesOf(ctx context.Context, project, uuid string) ([]*event.Event, error) {
	if !s.a.sinksOpen.Load() {
		return nil, errNotOpen("the store")
	}
	return s.a.Store.MergesOf(ctx, project, uuid)
}

// decide passes the decisions of the joiner to delivery.
func (a *App) decide(ctx context.Context, d event.Delivery) (drop bool, wait time.Duration, err error) {
	v, err := a.joiner.Decide(ctx, d)
	return v.Drop, v.Wait, err
}

// openDelivery opens the journal's queues, so that they exist before the first
// event, and starts delivery.
func (a *App) openDelivery(ctx context.Context) error {
	claims, err := a.journal.KeyValue(ctx, firstvalue.Bucket, 1)
	if err != nil {
		return err
	}
	a.firstValues = firstvalue.NewDeduplicator(firstvalue.NewClaims(claims))
	if err := a.openQueues(ctx); err != nil {
		// The loops below open them once the journal is back; until then it takes no
		// events either.
		a.log.Error("the journal's queues cannot be opened; hedgerow tries again", "err", err)
	}
	if err := a.openJoiner(); err != nil {
		return err
	}
	a.allowLists = outbound.NewAllowListUpgrade(a.Registry, a.log)
	a.runSink("ledger", func(ctx context.Context) error { // ends after the delivery, whose last entries it writes
		l, err := a.openLedger(ctx)
		if err != nil {
			return err
		}
		return l.Run(ctx)
	})
	a.runSink("PostHog delivery", func(ctx context.Context) error {
		if err := a.openDeliveryQueues(ctx); err != nil {
			return err
		}
		l, err := a.openLedger(ctx)
		if err != nil {
			return err
		}
		m := a.newDelivery(l)
		a.delivery.Store(m)
		return m.Run(ctx)
	})
	return nil
}

// openSinks starts storing, and the store's maintenance.
func (a *App) openSinks(ctx context.Context) error {
	if err := a.openReprice(ctx); err != nil { // first: a start that failed is repeated
		return err
	}
	a.supervise(closeSinks, supervise.Loop{Name: "upgrade of privacy settings", Once: true, Run: func(ctx context.Context) error {
		select {
		case <-a.known: // the settings are all there
		case <-ctx.Done():
			return nil
		}
		return a.allowLists.Run(ctx, a.Query)
	}})
	a.runSink("store sink", func(ctx context.Context) error {
		q, err := a.openStoreQueue(ctx)
		if err != nil {
			return err
		}
		sink := &store.Sink{Queue: q, Store: a.Store, Keep: a.firstValues.Accept, Complete: a.completeStored, OnStored: a.afterStored, Logger: a.log.With("part", "store"), Registerer: a.metrics}
		defer a.stored.begin(sink.Ended)()
		return sink.Run(ctx)
	})
	a.run(closeSinks, "pace", func(ctx context.Context) error { return a.events.Pace(ctx, a.journal.Appended, a.stored.ended) })
	a.runSink("retention", func(ctx context.Context) error {
		return (&store.Retainer{Store: a.Store, Policy: a.retention, RunSoon: a.retain, Logger: a.log.With("part", "store")}).Run(ctx)
	})
	a.runSink("roll-ups", func(ctx context.Context) error {
		return (&query.Roller{Reader: a.Query, Store: a.Store, Logger: a.log.With("part", "query")}).Run(ctx)
	})
	a.runSink("sending again", a.gaps.Run)
	a.sinksOpen.Store(true)
	return nil
}

func (a *App) openQueues(ctx context.Context) error {
	if _, err := a.openStoreQueue(ctx); err != nil {
		return err
	}
	if _, err := a.openJoinQueue(ctx); err != nil {
		return err
	}
	return a.openDeliveryQueues(ctx)
}

func (a *App) openStoreQueue(ctx context.Context) (event.Queue, error) {
	return a.journal.Queue(ctx, storeQueue, journal.QueueOptions{FetchBytes: store.DefaultBatchBytes})
}

// openDeliveryQueues opens the queue of each connection, and deletes those
// of deleted connections.
func (a *App) openDeliveryQueues(ctx context.Context) error {
	for _, c := range a.snapshot().AllConnections() {
		if !c.Enabled {
			continue
		}
		if _, err := a.openConnectionQueue(ctx, c); err != nil {
			return err
		}
	}
	if a.firstStart.Load() == nil {
		return nil // the settings may not be all there: nothing is dropped on their word
	}
	// A connection that was deleted while no server ran has left its queue, which
	// would keep the journal from dropping events.
	queues, err := a.journal.Queues(ctx)
	if err != nil {
		return err
	}
	for _, q := range queues {
		id, ok := strings.CutPrefix(q.Name, outbound.Queue(""))
		if _, known := a.snapshot().Connection(id); !ok || known {
			continue
		}
		if err := a.journal.DeleteQueue(ctx, q.Name); err != nil {
			a.log.Warn("the queue of a deleted PostHog connection could not be dropped", "connection", id, "err", err)
		}
	}
	return nil
}

func (a *App) newDelivery(l *ledger.Ledger) *posthog.Manager {
	return posthog.NewManager(posthog.Config{
		Snapshot: a.Registry.Snapshot, Changes: a.Registry.Changes,
		OpenQueue: func(ctx context.Context, c project.Connection) (event.Queue, error) {
			a.allowLists.Wait(ctx, c)
			return a.openConnectionQueue(ctx, c)
		},
		DropQueue: func(ctx context.Context, id string) error { return a.journal.DeleteQueue(ctx, outbound.Queue(id)) },
		Full:      a.journalFill,
		Wanted:    a.firstValues.Accept,
		Decide:    a.decide,
		Join:      a.outcomes.CompleteSent,
		Shape:     outbound.Convert,
		Deleted:   func(e *event.Event) (bool, error) { return a.deletions.Has(e.ProjectID, e.UUID) },
		Ledger:    l,
		TraceURL: func(e *event.Event) string {
			if e.TraceID == "" {
				return ""
			}
			return a.cfg.PublicURL + "/traces/" + url.PathEscape(e.TraceID)
		},
		Client: a.cfg.PostHogClient(0), AllowInsecureHosts: a.cfg.AllowInsecurePostHog, Version: a.cfg.Version,
		Logger: a.log.With("part", "posthog"), Registerer: a.metrics,
	})
}

// completeStored sets fields of outcomes from their calls, including calls of the
// same batch, before they are stored. Queries find calls that the store cannot
// return now.
func (a *App) completeStored(ctx context.Context, events []*event.Event) {
	unknown, err := a.outcomes.Complete(ctx, events)
	if len(unknown) > 0 {
		a.outcomes.Remember(events...)
		_, err = a.outcomes.Complete(ctx, unknown)
	}
	if err != nil {
		a.log.Debug("outcomes are stored without attributes of their calls", "err", err)
	}
}

// afterStored is called with the events that were just stored.
func (a *App) afterStored(events []*event.Event) {
	a.live.publish(events)
	a.outcomes.Remember(events...)
}

// storedEvents counts events that the store's sinks have ended: a new sink,
// after a failure, begins with 0. The zero value is ready.
type storedEvents struct {
	mu     sync.Mutex
	before uint64        // of former sinks
	now    func() uint64 // of the present one
}

// begin counts a sink's events from here on; its result ends that.
func (s *storedEvents) begin(ended func() uint64) (end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = ended
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.before += ended()
		s.now = nil
	}
}

func (s *storedEvents) ended() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now == nil {
		return s.before
	}
	return s.before + s.now()
}
