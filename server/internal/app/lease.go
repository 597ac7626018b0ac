package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/config"
	"github.com/hedgerow/hedgerow/server/internal/health"
)

// rolesBucket records, in an external NATS cluster, which process has the
// store's role.
const rolesBucket = "hedgerow_roles"

// Times of the lease of the store's role. After a killed process the next one
// waits up to leaseExpiry; a stopped one releases the role.
const (
	leaseKey    = "store"
	leaseRenew  = 2 * time.Second
	leaseExpiry = 10 * time.Second
	leaseGiveUp = leaseExpiry - leaseRenew // without a renewal for so long, the holder stops before another begins
)

// leaseRecord is who has the role.
type leaseRecord struct {
	Instance string    `json:"instance"` // of one process
	Host     string    `json:"host"`
	PID      int       `json:"pid"`
	Folder   string    `json:"folder"`
	Since    time.Time `json:"since"`
	Renewed  time.Time `json:"renewed"`
	Released bool      `json:"released,omitempty"` // it was stopped in an orderly way
}

// errRoleLost ends what only the holder of the store's role may do.
var errRoleLost = event.NewError(event.CodeUnavailable, "another hedgerow process has taken over the store's role on this NATS cluster", "run one hedgerow per NATS cluster or account; this one stores nothing until the other is stopped", nil)

// lease is this process's state of the store's role.
type lease struct {
	kv    jetstream.KeyValue
	log   *slog.Logger
	me    leaseRecord
	renew time.Duration // leaseRenew, except in tests
	life  time.Duration // leaseExpiry, except in tests

	mu       sync.Mutex
	revision uint64
	renewed  time.Time
	granted  chan struct{} // closed while this process has the role
	lost     chan struct{} // closed while it is not
	report   health.Report
}

func newLease(kv jetstream.KeyValue, folder string, log *slog.Logger) *lease {
	host, _ := os.Hostname()
	if abs, err := filepath.Abs(folder); err == nil {
		folder = abs
	}
	l := &lease{kv: kv, log: log, renew: leaseRenew, life: leaseExpiry, granted: make(chan struct{}), lost: make(chan struct{}),
		me:     leaseRecord{Instance: event.NewID(), Host: host, PID: os.Getpid(), Folder: folder, Since: time.Now().UTC()},
		report: health.Report{Component: "store role", Status: health.Starting, Since: time.Now()}}
	close(l.lost)
	return l
}

// openLease acquires the store's role on an external NATS cluster, where no
// folder lock separates processes. It returns an error if another process has
// it.
func (a *App) openLease(ctx context.Context) error {
	if a.lease == nil {
		kv, err := a.journal.KeyValue(ctx, rolesBucket, 1)
		if err != nil {
			return err
		}
		a.lease = newLease(kv, a.cfg.Data, a.log.With("part", "store role"))
		a.reports.add(a.lease.health)
	}
	err := a.lease.claim(ctx)
	if holder := (*otherHolder)(nil); errors.As(err, &holder) {
		return config.Exit(config.ExitConfig, holder.explain())
	}
	if err != nil {
		return err
	}
	a.run(closeData, "lease of the store's role", a.lease.keep)
	a.onClose(closeData, "store role", a.lease.release)
	return nil
}

// otherHolder is returned if another process has the role.
type otherHolder struct{ leaseRecord }

func (o *otherHolder) Error() string {
	return fmt.Sprintf("process %d on %s has the store's role, with the folder %s", o.PID, o.Host, o.Folder)
}

func (o *otherHolder) explain() error {
	return event.NewError(event.CodeConflict, "another hedgerow stores the events of this NATS cluster: "+o.Error()+". Two processes would split them between two stores",
		"stop that one first, or use another NATS cluster or account for this one", nil)
}

// claim acquires the role, waiting leaseExpiry for a holder that no longer
// renews it.
func (l *lease) claim(ctx context.Context) error {
	value := func() []byte {
		r := l.me
		r.Renewed = time.Now().UTC()
		b, _ := json.Marshal(r) // plain fields always marshal
		return b
	}
	for {
		rev, err := l.kv.Create(ctx, leaseKey, value())
		if err == nil {
			l.take(rev)
			return nil
		}
		if !errors.Is(err, jetstream.ErrKeyExists) {
			return event.NewError(event.CodeUnavailable, "the record of the store's role could not be written", "check that the NATS cluster responds and has space", err)
		}
		e, holder, err := l.read(ctx)
		if err != nil {
			return err
		}
		if e == nil {
			continue // deleted meanwhile
		}
		if !holder.Released && holder.Instance != l.me.Instance {
			if err := l.watchHolder(ctx, e.Revision(), holder); err != nil {
				return err
			}
		}
		rev, err = l.kv.Update(ctx, leaseKey, value(), e.Revision())
		switch {
		case err == nil:
			if holder.Host != l.me.Host || holder.Folder != l.me.Folder {
				l.log.Warn("the events of this NATS cluster were stored in another folder before: they are not shown here", "host", holder.Host, "folder", holder.Folder, "since", holder.Since)
			}
			l.take(rev)
			return nil
		case !errors.Is(err, jetstream.ErrKeyRevisionMismatch) && !errors.Is(err, jetstream.ErrKeyExists):
			return event.NewError(event.CodeUnavailable, "the record of the store's role could not be written", "check that the NATS cluster responds and has space", err)
		}
	}
}

func (l *lease) read(ctx context.Context) (jetstream.KeyValueEntry, leaseRecord, error) {
	e, err := l.kv.Get(ctx, leaseKey)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, leaseRecord{}, nil
	}
	if err != nil {
		return nil, leaseRecord{}, event.NewError(event.CodeUnavailable, "the record of the store's role could not be read", "check that the NATS cluster responds", err)
	}
	var r leaseRecord
	_ = json.Unmarshal(e.Value(), &r) // the holder of a damaged record is unknown
	return e, r, nil
}

// watchHolder returns nil once a holder has not renewed for the lease's life, by
// this machine's clock alone.
func (l *lease) watchHolder(ctx context.Context, revision uint64, holder leaseRecord) error {
	begin := time.Now()
	for time.Since(begin) < l.life {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(min(l.renew/4, l.life/20)):
		}
		e, now, err := l.read(ctx)
		switch {
		case err != nil:
			return err
		case e == nil || now.Released:
			return nil
		case e.Revision() != revision:
			return &otherHolder{now}
		}
	}
	l.log.Warn("the process that had the store's role ended without releasing it", "host", holder.Host, "pid", holder.PID, "waited", l.life)
	return nil
}

func (l *lease) take(revision uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.revision, l.renewed = revision, time.Now()
	select {
	case <-l.granted:
	default:
		close(l.granted)
		l.lost = make(chan struct{})
	}
	l.report.Status, l.report.Message, l.report.Hint, l.report.Since = health.OK, "", "", time.Now()
}

func (l *lease) lose(why *event.Error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.lost:
		return
	default:
	}
	l.log.Error("the lease of the store is lost: nothing is stored or delivered until it is renewed", "err", why)
	close(l.lost)
	l.granted = make(chan struct{})
	l.report.Status, l.report.Message, l.report.Hint, l.report.Since = health.Failed, why.Message, why.Hint, time.Now()
}

// keep renews the lease until ctx ends, and takes it again where it was lost.
func (l *lease) keep(ctx context.Context) error {
	tick := time.NewTicker(l.renew)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		l.mu.Lock()
		revision, renewed := l.revision, l.renewed
		l.mu.Unlock()
		r := l.me
		r.Renewed = time.Now().UTC()
		b, _ := json.Marshal(r)
		try, cancel := context.WithTimeout(ctx, l.renew)
		next, err := l.kv.Update(try, leaseKey, b, revision)
		cancel()
		switch {
		case err == nil:
			l.take(next)
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, jetstream.ErrKeyRevisionMismatch), errors.Is(err, jetstream.ErrKeyExists), time.Since(renewed) > l.life-l.renew:
			// A renewal without an answer looks like another holder's: claim
			// distinguishes them.
			if e, now, rerr := l.read(ctx); rerr == nil && e != nil && now.Instance == l.me.Instance {
				l.take(e.Revision())
				continue
			}
			l.lose(errRoleLost)
			if err := l.claim(ctx); err != nil && ctx.Err() == nil {
				l.log.Debug("the store's role cannot be taken again", "err", err)
			}
		}
	}
}

// release releases the role, so that the next process need not wait.
func (l *lease) release(ctx context.Context) error {
	l.mu.Lock()
	revision := l.revision
	l.mu.Unlock()
	r := l.me
	r.Released, r.Renewed = true, time.Now().UTC()
	b, _ := json.Marshal(r)
	_, err := l.kv.Update(ctx, leaseKey, b, revision)
	if errors.Is(err, jetstream.ErrKeyRevisionMismatch) || errors.Is(err, jetstream.ErrKeyExists) {
		return nil // another's already
	}
	return err
}

// hold waits for the role, and returns a context that ends when it is lost.
func (l *lease) hold(ctx context.Context) (context.Context, context.CancelFunc, error) {
	for {
		l.mu.Lock()
		granted, lost := l.granted, l.lost
		l.mu.Unlock()
		select {
		case <-granted:
		default: // lost is from before
			select {
			case <-ctx.Done():
				return nil, nil, ctx.Err()
			case <-granted:
			}
			continue
		}
		held, cancel := context.WithCancel(ctx)
		go func() {
			select {
			case <-lost:
				cancel()
			case <-held.Done():
			}
		}()
		return held, cancel, nil
	}
}

func (l *lease) health() health.Report {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.report
}
