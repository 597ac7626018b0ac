package main

import (
	"context"
	"strconv"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/api"
	"github.com/hedgerow/hedgerow/internal/journal"
	"github.com/hedgerow/hedgerow/internal/project"
	"github.com/hedgerow/hedgerow/internal/web"
)

// This file fits packages together that must not know each other: each declares
// the interface it needs, and the types here offer it over another package.

// deadLetters offers the journal's dead letters to the API.
type deadLetters struct{ a *app }

func (d deadLetters) List(ctx context.Context, projectID, queue string, limit int) ([]api.DeadLetter, error) {
	list, err := d.a.journal.DeadLetters(ctx, journal.DeadFilter{Project: projectID, Queue: queue, Limit: limit})
	if err != nil {
		return nil, err
	}
	out := make([]api.DeadLetter, len(list))
	for i, l := range list {
		out[i] = api.DeadLetter{ID: strconv.FormatUint(l.ID, 10), Queue: l.Queue, EventID: l.UUID, Event: l.Event, Reason: l.Reason, Attempts: l.Attempts, Time: l.Died, Bytes: l.Bytes}
	}
	return out, nil
}

func (d deadLetters) Replay(ctx context.Context, projectID, queue string, ids []string) (int, error) {
	f := journal.DeadFilter{Project: projectID, Queue: queue}
	for _, id := range ids {
		n, err := strconv.ParseUint(id, 10, 64)
		if err != nil {
			return 0, event.Invalid(strconv.Quote(id)+" is not the id of a dead letter", "hedgerow replay list shows the ids")
		}
		f.IDs = append(f.IDs, n)
	}
	return d.a.journal.Replay(ctx, f)
}

// signIn offers the registry's links and sessions to the pages.
type signIn struct{ r *project.Registry }

func (s signIn) Redeem(ctx context.Context, link string) (string, time.Time, error) {
	u, err := s.r.RedeemLink(ctx, link)
	if err != nil {
		return "", time.Time{}, err
	}
	token, sess, err := s.r.CreateSession(ctx, u.ID, "")
	return token, sess.ExpiresAt, err
}

func (s signIn) Session(token string) (web.Session, bool) {
	snap := s.r.Snapshot()
	sess, u, ok := snap.SessionByToken(token)
	if !ok {
		return web.Session{}, false
	}
	for _, p := range snap.Projects() {
		if u.CanSee(p.ID) {
			return web.Session{UserName: u.Name, ProjectID: p.ID, Project: p.Name, Expires: sess.ExpiresAt}, true
		}
	}
	return web.Session{}, false
}

func (s signIn) SignOut(ctx context.Context, token string) error {
	sess, u, ok := s.r.Snapshot().SessionByToken(token)
	if !ok {
		return nil
	}
	return s.r.RevokeSession(ctx, u.ID, sess.ID)
}

// serverStatus is what GET /api/v1/status says about the process.
type serverStatus struct {
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
}

type queueState struct {
	Name           string  `json:"name"`
	Waiting        uint64  `json:"waiting"`
	LagSeconds     float64 `json:"lag_seconds"`
	Unacknowledged int     `json:"unacknowledged"`
}

func (a *app) status(ctx context.Context) any {
	s := serverStatus{StartedAt: a.started.UTC()}
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
	if a.gateway != nil {
		s.Capture = a.gateway.Stats()
	}
	return s
}
