package app

import (
	"context"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/journal"
	"github.com/hedgerow/hedgerow/server/internal/ledger"
	"github.com/hedgerow/hedgerow/server/internal/outbound"
	"github.com/hedgerow/hedgerow/server/internal/posthog"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/services"
	"github.com/hedgerow/hedgerow/server/internal/web/charts"
	"github.com/hedgerow/hedgerow/server/internal/web/traces"
)

// openConnectionQueue opens a connection's queue. A new one begins with the next
// event: connecting PostHog today does not send it last week.
func (a *App) openConnectionQueue(ctx context.Context, c project.Connection) (event.Queue, error) {
	return a.journal.Queue(ctx, outbound.Queue(c.ID), journal.QueueOptions{Project: c.ProjectID, From: journal.FromNow})
}

// beginDelivery opens the queue of a connection that was enabled: the events that
// come after the answer to that change are sent.
func (a *App) beginDelivery(ctx context.Context, c project.Connection) {
	if _, err := a.openConnectionQueue(ctx, c); err != nil {
		a.log.Error("the queue of a PostHog connection cannot be opened; retrying", "connection", c.ID, "err", err)
	}
}

func (a *App) journalFill() float64 {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	s, err := a.journal.Stats(ctx)
	if err != nil {
		return 0
	}
	return s.Fill()
}

// deliveries offers the delivery to pages, API and tools.
type deliveries struct{ a *App }

func (d deliveries) Test(ctx context.Context, c project.Connection) posthog.TestResult {
	return posthog.Test(ctx, c, posthog.TestOptions{Client: d.a.cfg.PostHogClient(0), AllowInsecureHosts: d.a.cfg.AllowInsecurePostHog, Version: d.a.cfg.Version})
}

func (d deliveries) Delivery(c project.Connection) posthog.Delivery {
	out := posthog.Delivery{Status: posthog.Status{State: posthog.StateStopped}}
	switch m := d.a.delivery.Load(); {
	case m != nil && d.a.listener != nil:
		out.Status = m.Status(c.ID)
	case !c.Enabled:
		out.State = posthog.StateDisabled
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if q, err := d.a.journal.Lag(ctx, outbound.Queue(c.ID)); err == nil {
		out.Waiting = int64(q.Pending) + int64(q.AckPending)
		out.Lag = max(out.Lag, q.OldestUnacked)
	}
	return out
}

func (d deliveries) Ledger(ctx context.Context, c project.Connection) (ledger.Page, error) {
	return d.a.ledgerPage(ctx, c)
}

// DropBacklog forgets what waits for a connection: its queue starts over with
// the next event.
func (d deliveries) DropBacklog(ctx context.Context, id string) error {
	return dropQueue(ctx, d.a.journal, outbound.Queue(id))
}

// dropQueue deletes a queue of the journal. It returns nil if the queue does not
// exist.
func dropQueue(ctx context.Context, j *journal.Journal, name string) error {
	err := j.DeleteQueue(ctx, name)
	if err != nil && event.AsError(err).Code == event.CodeNotFound {
		return nil
	}
	return err
}

// connectionRows offers the delivery to the overview page.
func (a *App) connectionRows(projectID string) []charts.Connection {
	var rows []charts.Connection
	for _, c := range a.Registry.Snapshot().Connections(projectID) {
		d := deliveries{a}.Delivery(c)
		rows = append(rows, charts.Connection{Name: c.Name, Host: c.Host, State: d.State, LastError: d.LastError, OK: d.OK(), Sent: d.Sent, Waiting: d.Waiting, Dead: d.Dead})
	}
	return rows
}

// dropped counts the calls that passed but were not recorded.
func (a *App) dropped() uint64 {
	var n int64
	for _, c := range a.gateway.Stats().Dropped {
		n += c
	}
	return uint64(n)
}

func (d deliveries) DeadLetters(ctx context.Context, c project.Connection, limit int) ([]services.DeadLetter, error) {
	return deadLetters(d).List(ctx, c.ProjectID, outbound.Queue(c.ID), limit)
}

func (d deliveries) Gaps(ctx context.Context, c project.Connection) ([]services.Gap, error) {
	return gaps(d).List(ctx, c.ProjectID, outbound.Queue(c.ID))
}

func (d deliveries) SendGaps(ctx context.Context, c project.Connection) error {
	_, err := d.a.gaps.Send(ctx, c.ProjectID, outbound.Queue(c.ID), nil)
	return err
}

func (d deliveries) ForgetGaps(ctx context.Context, c project.Connection) error {
	_, err := d.a.gaps.Forget(ctx, c.ProjectID, outbound.Queue(c.ID), nil)
	return err
}

// Outgoing derives an event's delivery state from the queue's position: the
// queue is in the order of appending, and stored events were appended before.
func (d deliveries) Outgoing(ctx context.Context, c project.Connection, uuid string) (traces.Outgoing, error) {
	var out traces.Outgoing
	m := d.a.delivery.Load()
	if m == nil {
		return out, errNotOpen("the delivery")
	}
	e, stored, err := d.a.Query.Original(ctx, c.ProjectID, uuid)
	if err != nil {
		return out, err
	}
	if _, err := d.a.outcomes.Complete(ctx, []*event.Event{e}); err != nil {
		return out, err
	}
	p, _ := d.a.Registry.Snapshot().Project(c.ProjectID)
	if out.Bodies, err = m.Made(c, p, e); err != nil {
		return out, err
	}
	if at, ok := m.SentAt(c.ID, uuid); ok {
		out.State, out.At = traces.DeliverySent, at
		return out, nil
	}
	if len(out.Bodies) == 0 {
		out.State = traces.DeliveryFiltered
		return out, nil
	}
	counts, err := d.a.journal.DeadCounts(ctx)
	if err != nil {
		return out, err
	}
	if counts[outbound.Queue(c.ID)] > 0 {
		list, err := d.DeadLetters(ctx, c, searchedDead)
		if err != nil {
			return out, err
		}
		for _, l := range list {
			if l.EventID == uuid {
				out.State, out.At, out.Reason = traces.DeliveryFailed, l.Time, l.Reason
				return out, nil
			}
		}
	}
	if e.Timestamp.Before(c.CreatedAt) {
		out.State = traces.DeliveryUnknown
		return out, nil
	}
	q, err := d.a.journal.Lag(ctx, outbound.Queue(c.ID))
	switch ee := event.AsError(err); {
	case ee != nil && ee.Code == event.CodeNotFound:
		out.State = traces.DeliveryWaiting // its queue is not open yet
		return out, nil
	case err != nil:
		return out, err
	}
	waits := q.Pending > 0 || q.AckPending > 0
	if waits && !stored.Before(time.Now().Add(-q.OldestUnacked)) {
		out.State = traces.DeliveryWaiting
		return out, nil
	}
	out.State, out.By = traces.DeliverySent, q.LastAck
	return out, nil
}

// searchedDead is the number of dead letters searched for one event.
const searchedDead = 1000

func (d deliveries) Replay(ctx context.Context, c project.Connection, id string) (int, error) {
	var ids []string
	if id != "" {
		ids = []string{id}
	}
	return deadLetters(d).Replay(ctx, c.ProjectID, outbound.Queue(c.ID), ids)
}

func (d deliveries) Days(ctx context.Context, c project.Connection, since time.Time) ([]posthog.Day, error) {
	return posthog.Days(ctx, c, since, posthog.QueryOptions{AllowInsecureHosts: d.a.cfg.AllowInsecurePostHog, Version: d.a.cfg.Version, Client: d.a.cfg.PostHogClient(10 * time.Second)})
}
