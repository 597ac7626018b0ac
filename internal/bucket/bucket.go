package bucket

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hedgerow/hedgerow/event"
)

// Config says what a bucket's records mean. S is the state that changes are
// applied to, one after the other and by one goroutine; V the view made of it,
// which is never changed again.
type Config[S, V any] struct {
	Name string // what the records are, for people: "prompts"
	New  func() S
	// Apply brings one record into the state. A nil value says that it is gone.
	// Where it fails, the state must be as it was.
	Apply  func(state S, key string, value []byte, revision uint64) error
	View   func(state S) V
	Logger *slog.Logger // Defaults to none
}

// Bucket is an open bucket. Its methods may be called at the same time.
type Bucket[S, V any] struct {
	kv  jetstream.KeyValue
	c   Config[S, V]
	log *slog.Logger

	now atomic.Pointer[published[V]]

	mu     sync.Mutex
	tick   chan struct{} // closed and replaced with each new view
	closed chan struct{}

	stop context.CancelFunc
	wg   sync.WaitGroup
}

type published[V any] struct {
	view     V
	revision uint64
}

// Open reads the bucket and begins to watch it. ctx bounds the opening only;
// [Bucket.Close] ends the watch.
func Open[S, V any](ctx context.Context, kv jetstream.KeyValue, c Config[S, V]) (*Bucket[S, V], error) {
	b := &Bucket[S, V]{kv: kv, c: c, log: c.Logger, tick: make(chan struct{}), closed: make(chan struct{})}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	run, stop := context.WithCancel(context.Background())
	b.stop = stop
	w, st, err := b.load(run, ctx.Done())
	if err != nil {
		stop()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, b.unavailable("could not be read", err)
	}
	b.wg.Go(func() { b.watch(run, w, st) })
	b.wg.Go(func() {
		// The markers of what was purged are of use to watchers only, and every
		// watcher has seen those that are older than half an hour.
		if err := kv.PurgeDeletes(run); err != nil && run.Err() == nil {
			b.log.Warn("markers of deleted records could not be removed", "err", err)
		}
	})
	return b, nil
}

// Close ends the watch. The last view stays readable.
func (b *Bucket[S, V]) Close() error {
	b.stop()
	b.wg.Wait()
	return nil
}

// View returns the records as they are now.
func (b *Bucket[S, V]) View() V { return b.now.Load().view }

// Changed returns a channel that is closed with the next view. Take it before
// looking, so that no change is missed.
func (b *Bucket[S, V]) Changed() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.tick
}

type loaded[S any] struct {
	state    S
	revision uint64
}

// load begins a watch and reads it up to the point where it has told all there was.
func (b *Bucket[S, V]) load(ctx context.Context, cancelled <-chan struct{}) (jetstream.KeyWatcher, *loaded[S], error) {
	w, err := b.kv.WatchAll(ctx)
	if err != nil {
		return nil, nil, err
	}
	st := &loaded[S]{state: b.c.New()}
	for {
		select {
		case <-cancelled:
			err = context.Canceled
		case <-ctx.Done():
			err = ctx.Err()
		case e, ok := <-w.Updates():
			switch {
			case !ok:
				err = errors.New("the watch ended early")
			case e == nil:
				b.publish(st)
				return w, st, nil
			default:
				b.apply(st, e)
			}
		}
		if err != nil {
			_ = w.Stop()
			return nil, nil, err
		}
	}
}

// watch applies changes until ctx ends. Where the watch itself breaks off, it is
// begun anew with a full load, so that deletions in between are not missed.
func (b *Bucket[S, V]) watch(ctx context.Context, w jetstream.KeyWatcher, st *loaded[S]) {
	defer close(b.closed)
	for {
		b.follow(ctx, w, st)
		_ = w.Stop()
		for wait := 50 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
			if ctx.Err() != nil {
				return
			}
			var err error
			if w, st, err = b.load(ctx, nil); err == nil {
				break
			}
			if ctx.Err() != nil {
				return
			}
			b.log.Warn("records are not being watched; trying again", "err", err, "wait", wait)
			select {
			case <-ctx.Done():
			case <-time.After(wait/2 + rand.N(wait)):
			}
		}
	}
}

func (b *Bucket[S, V]) follow(ctx context.Context, w jetstream.KeyWatcher, st *loaded[S]) {
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-w.Updates():
			if !ok {
				return
			}
			if e == nil {
				continue
			}
			b.apply(st, e)
			// A burst of changes makes one view.
			if len(w.Updates()) == 0 {
				b.publish(st)
			}
		}
	}
}

func (b *Bucket[S, V]) apply(st *loaded[S], e jetstream.KeyValueEntry) {
	st.revision = max(st.revision, e.Revision())
	var value []byte
	if e.Operation() == jetstream.KeyValuePut {
		value = e.Value()
	}
	if err := b.c.Apply(st.state, e.Key(), value, e.Revision()); err != nil {
		// The record's earlier state stays in force: one damaged record must not
		// stop the others.
		b.log.Error("a record cannot be read and is left as it was", "key", e.Key(), "revision", e.Revision(), "err", err)
	}
}

func (b *Bucket[S, V]) publish(st *loaded[S]) {
	p := &published[V]{view: b.c.View(st.state), revision: st.revision}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now.Store(p)
	close(b.tick)
	b.tick = make(chan struct{})
}

// Await returns when the view stands at a revision or past it.
func (b *Bucket[S, V]) Await(ctx context.Context, revision uint64) error {
	for {
		b.mu.Lock()
		tick := b.tick
		b.mu.Unlock()
		if b.now.Load().revision >= revision {
			return nil
		}
		select {
		case <-tick:
		case <-b.closed:
			return event.NewError(event.CodeUnavailable, "the change is saved, but hedgerow is stopping", "it is in force after the restart", nil)
		case <-ctx.Done():
			return event.NewError(event.CodeUnavailable, "the change is saved, but not yet in force here", "look again in a moment", ctx.Err())
		}
	}
}

// Create writes a record that must not exist yet; ErrExists says that it does.
func (b *Bucket[S, V]) Create(ctx context.Context, key string, record any) error {
	value, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("encode %s: %w", key, err)
	}
	revision, err := b.kv.Create(ctx, key, value)
	switch {
	case errors.Is(err, jetstream.ErrKeyExists):
		return ErrExists
	case err != nil:
		return b.unavailable("could not be saved", err)
	}
	return b.Await(ctx, revision)
}

// ErrExists and ErrMissing are for the caller to put in the user's words.
var (
	ErrExists  = errors.New("there is such a record already")
	ErrMissing = errors.New("there is no such record")
)

// attempts bounds how often a change is tried again when another one came first.
const attempts = 16

// Change reads a record, lets f make another of it, and writes that if no one
// else has meanwhile; else it begins again. f gets nil where there is no record,
// may be called several times, and its error ends the change. A nil record from
// f removes it.
func (b *Bucket[S, V]) Change(ctx context.Context, key string, f func(value []byte) (record any, err error)) error {
	for try := range attempts {
		var old []byte
		var revision uint64
		e, err := b.kv.Get(ctx, key)
		switch {
		case err == nil:
			old, revision = e.Value(), e.Revision()
		case !errors.Is(err, jetstream.ErrKeyNotFound):
			return b.unavailable("could not be read", err)
		}
		record, err := f(old)
		if err != nil {
			return err
		}
		switch {
		case record == nil && old == nil:
			return nil
		case record == nil:
			err = b.kv.Purge(ctx, key, jetstream.LastRevision(revision))
			if err == nil {
				return b.gone(ctx)
			}
		default:
			value, merr := json.Marshal(record)
			if merr != nil {
				return fmt.Errorf("encode %s: %w", key, merr)
			}
			var next uint64
			if old == nil {
				next, err = b.kv.Create(ctx, key, value)
			} else {
				next, err = b.kv.Update(ctx, key, value, revision)
			}
			if err == nil {
				return b.Await(ctx, next)
			}
		}
		if !errors.Is(err, jetstream.ErrKeyRevisionMismatch) && !errors.Is(err, jetstream.ErrKeyExists) {
			return b.unavailable("could not be saved", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(rand.N(time.Millisecond << min(try, 6))):
		}
		if ctx.Err() != nil {
			break
		}
	}
	return event.NewError(event.CodeConflict, "someone else changed the "+b.c.Name+" at the same time", "look at them again and repeat the change", ctx.Err())
}

// gone waits until the view has what was just purged: a purge does not tell its
// revision, but the bucket's last one is it or a later one.
func (b *Bucket[S, V]) gone(ctx context.Context) error {
	st, err := b.kv.Status(ctx)
	if err != nil {
		return b.unavailable("could not be read", err)
	}
	info, ok := st.(*jetstream.KeyValueBucketStatus)
	if !ok {
		return fmt.Errorf("the bucket's status is a %T", st)
	}
	return b.Await(ctx, info.StreamInfo().State.LastSeq)
}

// Remove purges a record. A record that is not there is no error.
func (b *Bucket[S, V]) Remove(ctx context.Context, key string) error {
	return b.Change(ctx, key, func([]byte) (any, error) { return nil, nil })
}

func (b *Bucket[S, V]) unavailable(what string, err error) error {
	return event.NewError(event.CodeUnavailable, "the "+b.c.Name+" "+what, "try again; if it persists, look at hedgerow's log and at the free space of its data folder", err)
}
