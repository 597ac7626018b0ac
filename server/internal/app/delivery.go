package app

import (
	"context"
	"strconv"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/api"
	"github.com/hedgerow/hedgerow/server/internal/journal"
	"github.com/hedgerow/hedgerow/server/internal/ledger"
	"github.com/hedgerow/hedgerow/server/internal/outbound"
	"github.com/hedgerow/hedgerow/server/internal/posthog"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/web"
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
		a.log.Error("the queue of a PostHog connection cannot be opened; the delivery tries again", "connection", c.ID, "err", err)
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

// connections offers the delivery to the API.
type connections struct{ a *App }

func (c connections) Test(ctx context.Context, conn project.Connection) api.TestResult {
	r := posthog.Test(ctx, conn, posthog.TestOptions{Client: c.a.cfg.PostHogClient(0), AllowInsecureHosts: c.a.cfg.AllowInsecurePostHog, Version: c.a.cfg.Version})
	out := api.TestResult{OK: r.OK, Checks: make([]api.TestCheck, len(r.Checks))}
	for i, k := range r.Checks {
		out.Checks[i] = api.TestCheck{Name: k.Name, OK: k.OK, Code: k.Code, Message: k.Message, Hint: k.Hint}
	}
	return out
}

func (c connections) Delivery(conn project.Connection) api.Delivery {
	if c.a.delivery.Load() == nil || c.a.listener == nil {
		d := api.Delivery{State: "stopped"} // no server runs
		if !conn.Enabled {
			d.State = posthog.StateDisabled
		}
		c.a.waiting(conn, &d)
		return d
	}
	s := c.a.delivery.Load().Status(conn.ID)
	d := api.Delivery{State: s.State, LastError: s.LastError, Sent: s.Sent, Failed: s.Failed, Retried: s.Retried, Dead: s.Dead, LagSeconds: s.Lag.Seconds()}
	if !s.LastSuccess.IsZero() {
		at := s.LastSuccess.UTC()
		d.LastSuccess = &at
	}
	c.a.waiting(conn, &d)
	return d
}

func (c connections) Ledger(ctx context.Context, conn project.Connection) (ledger.Page, error) {
	return c.a.ledgerPage(ctx, conn)
}

// DropBacklog forgets what waits for a connection: its queue begins anew with
// the next event.
func (c connections) DropBacklog(ctx context.Context, id string) error {
	return dropQueue(ctx, c.a.journal, outbound.Queue(id))
}

// dropQueue deletes a queue of the journal. One that is not there is gone already.
func dropQueue(ctx context.Context, j *journal.Journal, name string) error {
	err := j.DeleteQueue(ctx, name)
	if err != nil && event.AsError(err).Code == event.CodeNotFound {
		return nil
	}
	return err
}

// waiting adds what the journal knows of a connection's queue.
func (a *App) waiting(conn project.Connection, d *api.Delivery) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if q, err := a.journal.Lag(ctx, outbound.Queue(conn.ID)); err == nil {
		d.Waiting = int64(q.Pending) + int64(q.AckPending)
		d.LagSeconds = max(d.LagSeconds, q.OldestUnacked.Seconds())
	}
}

// connectionRows offers the delivery to the overview page.
func (a *App) connectionRows(projectID string) []web.Connection {
	var rows []web.Connection
	for _, c := range a.Registry.Snapshot().Connections(projectID) {
		d := connections{a}.Delivery(c)
		ok := d.State == posthog.StateSending || d.State == posthog.StateIdle
		rows = append(rows, web.Connection{Name: c.Name, Host: c.Host, State: d.State, LastError: d.LastError, OK: ok, Sent: d.Sent, Waiting: d.Waiting, Dead: d.Dead})
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

// pageDelivery offers the delivery to the pages.
type pageDelivery struct{ a *App }

func (d pageDelivery) Test(ctx context.Context, c project.Connection) posthog.TestResult {
	return toolConnections(d).Test(ctx, c)
}

func (d pageDelivery) Health(c project.Connection) web.Health {
	h := web.Health{Status: posthog.Status{State: posthog.StateDisabled}}
	if d.a.delivery.Load() != nil {
		h.Status = d.a.delivery.Load().Status(c.ID)
	}
	var waiting api.Delivery
	d.a.waiting(c, &waiting)
	h.Waiting = waiting.Waiting
	h.Lag = max(h.Lag, time.Duration(waiting.LagSeconds*float64(time.Second)))
	return h
}

func (d pageDelivery) Ledger(ctx context.Context, c project.Connection) (ledger.Page, error) {
	return d.a.ledgerPage(ctx, c)
}

func (d pageDelivery) DropBacklog(ctx context.Context, id string) error {
	return connections(d).DropBacklog(ctx, id)
}

func (d pageDelivery) DeadLetters(ctx context.Context, c project.Connection, limit int) ([]web.DeadLetter, error) {
	list, err := d.a.journal.DeadLetters(ctx, journal.DeadFilter{Queue: outbound.Queue(c.ID), Project: c.ProjectID, Limit: limit})
	if err != nil {
		return nil, err
	}
	out := make([]web.DeadLetter, len(list))
	for i, l := range list {
		out[i] = web.DeadLetter{ID: strconv.FormatUint(l.ID, 10), EventID: l.UUID, Event: l.Event, Reason: l.Reason, Attempts: l.Attempts, Time: l.Died}
	}
	return out, nil
}

func (d pageDelivery) Gaps(ctx context.Context, c project.Connection) ([]web.Gap, error) {
	list, err := d.a.gaps.List(ctx, c.ProjectID, outbound.Queue(c.ID))
	out := make([]web.Gap, len(list))
	for i, g := range list {
		out[i] = web.Gap{Events: g.Events, First: g.First, Last: g.Last, Sending: g.Sending, Sent: g.Sent}
	}
	return out, err
}

func (d pageDelivery) SendGaps(ctx context.Context, c project.Connection) error {
	_, err := d.a.gaps.Send(ctx, c.ProjectID, outbound.Queue(c.ID), nil)
	return err
}

func (d pageDelivery) ForgetGaps(ctx context.Context, c project.Connection) error {
	_, err := d.a.gaps.Forget(ctx, c.ProjectID, outbound.Queue(c.ID), nil)
	return err
}

// Outgoing tells from the queue's place how an event stands: the queue goes in
// the order of appending, and what is stored was appended before.
func (d pageDelivery) Outgoing(ctx context.Context, c project.Connection, uuid string) (web.Outgoing, error) {
	var out web.Outgoing
	m := d.a.delivery.Load()
	if m == nil {
		return out, errNotOpen("the delivery")
	}
	e, stored, err := d.a.Query.Original(ctx, c.ProjectID, uuid)
	if err != nil {
		return out, err
	}
	if _, err := d.a.joinOutcomes(ctx, []*event.Event{e}); err != nil {
		return out, err
	}
	p, _ := d.a.Registry.Snapshot().Project(c.ProjectID)
	if out.Bodies, err = m.Made(c, p, e); err != nil {
		return out, err
	}
	if at, ok := m.SentAt(c.ID, uuid); ok {
		out.State, out.At = web.OutSent, at
		return out, nil
	}
	if len(out.Bodies) == 0 {
		out.State = web.OutFiltered
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
				out.State, out.At, out.Reason = web.OutDead, l.Time, l.Reason
				return out, nil
			}
		}
	}
	if e.Timestamp.Before(c.CreatedAt) {
		out.State = web.OutOlder
		return out, nil
	}
	q, err := d.a.journal.Lag(ctx, outbound.Queue(c.ID))
	switch ee := event.AsError(err); {
	case ee != nil && ee.Code == event.CodeNotFound:
		out.State = web.OutWaiting // its queue is not open yet
		return out, nil
	case err != nil:
		return out, err
	}
	waits := q.Pending > 0 || q.AckPending > 0
	if waits && !stored.Before(time.Now().Add(-q.OldestUnacked)) {
		out.State = web.OutWaiting
		return out, nil
	}
	out.State, out.By = web.OutSent, q.LastAck
	return out, nil
}

// searchedDead is how many dead letters are looked through for one event.
const searchedDead = 1000

func (d pageDelivery) Replay(ctx context.Context, c project.Connection, id string) (int, error) {
	var ids []string
	if id != "" {
		ids = []string{id}
	}
	return deadLetters(d).Replay(ctx, c.ProjectID, outbound.Queue(c.ID), ids)
}

func (d pageDelivery) Days(ctx context.Context, c project.Connection, since time.Time) ([]posthog.Day, error) {
	return posthog.Days(ctx, c, since, posthog.QueryOptions{AllowInsecureHosts: d.a.cfg.AllowInsecurePostHog, Version: d.a.cfg.Version, Client: d.a.cfg.PostHogClient(10 * time.Second)})
}
