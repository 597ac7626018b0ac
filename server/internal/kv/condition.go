package kv

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/health"
)

// condition is whether the bucket is being watched, and why not. Under Bucket.mu.
type condition struct {
	live    bool      // the view follows the bucket
	shown   bool      // there is something to show: the bucket was read at some time, or its copy
	err     error     // why not; nil while it is being read
	since   time.Time // when that began
	from    time.Time // when the last-good copy was made that is shown; zero if none is
	restart int       // how often it was read again
	logged  bool      // err was logged

	saveErr   error // why the last-good copy is old
	saveSince time.Time
}

// live notes that the view follows the bucket.
func (b *Bucket[S, V]) live() {
	b.mu.Lock()
	defer b.mu.Unlock()
	was := b.is
	b.is.shown = true
	b.is.live, b.is.err, b.is.logged, b.is.from, b.is.since = true, nil, false, time.Time{}, time.Now()
	if was.err != nil {
		b.is.restart++
	}
	b.wakeWaiters()
	if was.logged {
		b.log.Info("the "+b.c.Name+" can be read again", "after", time.Since(was.since).Round(time.Millisecond))
	}
}

// broken records that the bucket is unavailable. A nil error means that it is
// about to be read.
func (b *Bucket[S, V]) broken(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	was := b.is
	b.is.live = false
	if was.live {
		b.is.since = time.Now()
	}
	if err == nil {
		return
	}
	// A journal that is down reports it itself, once for all its buckets.
	if b.is.err = err; !was.logged && event.AsError(err).Code != event.CodeUnavailable {
		b.is.logged = true
		b.log.Error("the "+b.c.Name+" cannot be read at the moment: they keep their last values and cannot be changed", "err", err)
	}
	if was.err == nil {
		b.wakeWaiters()
	}
}

// stir wakes callers that wait for the bucket. b.mu is locked.
func (b *Bucket[S, V]) wakeWaiters() {
	close(b.stirred)
	b.stirred = make(chan struct{})
}

// Writable returns nil if changes can be written, otherwise an [*event.Error]
// of code [event.CodeUnavailable]. It waits for a bucket that is being read.
func (b *Bucket[S, V]) Writable(ctx context.Context) error {
	end := time.NewTimer(readWait)
	defer end.Stop()
	for {
		b.mu.Lock()
		is, stirred := b.is, b.stirred
		b.mu.Unlock()
		switch {
		case is.live:
			return nil
		case is.err != nil:
			return b.unavailable("cannot be changed at the moment", is.err)
		}
		select {
		case <-stirred:
		case <-b.closed:
			return event.NewError(event.CodeUnavailable, "hedgerow is stopping", "try again after the restart", nil)
		case <-ctx.Done():
			return b.unavailable("cannot be changed at the moment", ctx.Err())
		case <-end.C:
			return b.unavailable("cannot be changed at the moment", context.DeadlineExceeded)
		}
	}
}

// Health returns the health of the bucket: degraded while it shows earlier
// records or its last-good copy cannot be written, failed while it has no
// records to show.
func (b *Bucket[S, V]) Health() health.Report {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := health.Report{Component: b.c.Name, Status: health.OK, Since: b.is.since, Restarts: b.is.restart}
	switch {
	case !b.is.live && b.is.err == nil:
		r.Status, r.Message = health.Starting, "the "+b.c.Name+" are being read"
	case !b.is.live:
		r.Status = health.Degraded
		r.Message, r.Hint = "the "+b.c.Name+" cannot be read from the journal: they keep their last values and cannot be changed", hintOf(b.is.err)
		switch {
		case !b.is.from.IsZero():
			r.Message += "; they are shown as of " + b.is.from.UTC().Format(time.RFC3339)
		case !b.is.shown:
			r.Status, r.Message = health.Failed, "the "+b.c.Name+" cannot be read from the journal, and there is no copy of them yet"
		}
	case b.is.saveErr != nil:
		r.Status, r.Since = health.Degraded, b.is.saveSince
		r.Message, r.Hint = "the last-good copy of the "+b.c.Name+" cannot be written to "+b.c.LastGood, "free disk space there, or make the folder writable; hedgerow retries automatically"
	}
	return r
}

// Guarded is the bucket itself, for records that are read and written by other
// ways than Create and Change: its methods fail as [Bucket.Writable] does.
func (b *Bucket[S, V]) Guarded() jetstream.KeyValue { return guarded{b.kv, b.Writable} }

// guarded leaves alone what reads nothing that could be lost.
type guarded struct {
	jetstream.KeyValue
	ok func(context.Context) error
}

func (g guarded) Get(ctx context.Context, key string) (jetstream.KeyValueEntry, error) {
	if err := g.ok(ctx); err != nil {
		return nil, err
	}
	return g.KeyValue.Get(ctx, key)
}

func (g guarded) Put(ctx context.Context, key string, value []byte) (uint64, error) {
	if err := g.ok(ctx); err != nil {
		return 0, err
	}
	return g.KeyValue.Put(ctx, key, value)
}

func (g guarded) PutString(ctx context.Context, key, value string) (uint64, error) {
	return g.Put(ctx, key, []byte(value))
}

func (g guarded) Create(ctx context.Context, key string, value []byte, o ...jetstream.KVCreateOpt) (uint64, error) {
	if err := g.ok(ctx); err != nil {
		return 0, err
	}
	return g.KeyValue.Create(ctx, key, value, o...)
}

func (g guarded) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	if err := g.ok(ctx); err != nil {
		return 0, err
	}
	return g.KeyValue.Update(ctx, key, value, revision)
}

func (g guarded) Delete(ctx context.Context, key string, o ...jetstream.KVDeleteOpt) error {
	if err := g.ok(ctx); err != nil {
		return err
	}
	return g.KeyValue.Delete(ctx, key, o...)
}

func (g guarded) Purge(ctx context.Context, key string, o ...jetstream.KVDeleteOpt) error {
	if err := g.ok(ctx); err != nil {
		return err
	}
	return g.KeyValue.Purge(ctx, key, o...)
}

func (g guarded) ListKeys(ctx context.Context, o ...jetstream.WatchOpt) (jetstream.KeyLister, error) {
	if err := g.ok(ctx); err != nil {
		return nil, err
	}
	return g.KeyValue.ListKeys(ctx, o...)
}

func (g guarded) ListKeysFiltered(ctx context.Context, filters ...string) (jetstream.KeyLister, error) {
	if err := g.ok(ctx); err != nil {
		return nil, err
	}
	return g.KeyValue.ListKeysFiltered(ctx, filters...)
}
