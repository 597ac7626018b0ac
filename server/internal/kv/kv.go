package kv

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

// Config defines a bucket's records. S is the state to which changes are
// applied, in order and by one goroutine; V is the immutable view made from
// it.
type Config[S, V any] struct {
	Name string // name of the records for users: "prompts"
	New  func() S
	// Apply applies a record to the state. A nil value is a deletion. If it
	// returns an error, the state must be unchanged.
	Apply  func(state S, key string, value []byte, revision uint64) error
	View   func(state S) V
	Logger *slog.Logger // Defaults to none

	// LastGood is the path of a copy of all records outside JetStream, a JSON
	// file of mode 0600. It is replaced atomically before a change returns, so it
	// also lacks deleted records. If the bucket is unreadable the view is made
	// from the copy, and records that the bucket lost are restored from it;
	// otherwise the bucket takes precedence. "" disables it.
	LastGood string
	// Secrets marks records with secrets. No file may keep those of a changed or
	// deleted record: LastGood is deleted if it cannot be rewritten, and damaged
	// copies of it are deleted once it is complete. The bucket must erase; see
	// journal.Config.Erasing.
	Secrets bool
}

// Bucket is an open bucket. It is safe for concurrent use.
//
// While it is unreadable (the journal is down, its files are damaged) it shows
// the last-good copy, or the records read before, and changes return an error
// of code [event.CodeUnavailable]; it recovers automatically. [Bucket.Health]
// reports the state.
type Bucket[S, V any] struct {
	kv  jetstream.KeyValue
	c   Config[S, V]
	log *slog.Logger

	now atomic.Pointer[published[V]]

	mu      sync.Mutex
	tick    chan struct{} // closed and replaced with each new view
	kept    uint64        // the revision up to which the view and its copy are made
	closed  chan struct{}
	is      condition
	stirred chan struct{} // closed and replaced when is changes

	saved savedAs // of the one goroutine that applies changes

	stop context.CancelFunc
	wg   sync.WaitGroup
}

type published[V any] struct {
	view     V
	revision uint64
}

// readWait limits the time between records while the bucket is read.
const readWait = 5 * time.Second

// Open reads the bucket and begins to watch it. ctx bounds the opening only;
// [Bucket.Close] ends the watch. With [Config.LastGood] a bucket that cannot be
// read is still opened, with the records of that file, and is read as soon as
// that works. Without it Open fails.
func Open[S, V any](ctx context.Context, kv jetstream.KeyValue, c Config[S, V]) (*Bucket[S, V], error) {
	b := &Bucket[S, V]{kv: kv, c: c, log: c.Logger, tick: make(chan struct{}), stirred: make(chan struct{}), closed: make(chan struct{})}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	run, stop := context.WithCancel(context.Background())
	b.stop = stop
	last := b.readLastGood()
	w, st, err := b.load(run, ctx.Done(), last)
	if err != nil && (c.LastGood == "" || ctx.Err() != nil) {
		stop()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, b.unavailable("could not be read", err)
	}
	if err != nil {
		b.showLastGood(last, err)
	}
	b.wg.Go(func() { b.watch(run, w, st, last) })
	b.wg.Go(func() {
		// Only watchers need delete markers, and all have seen those older than
		// half an hour.
		if b.Writable(run) != nil {
			return
		}
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
	records  map[string]record // as they were applied; only with a last-good copy
	bad      map[string]error  // that could not be
}

func (b *Bucket[S, V]) newLoaded() *loaded[S] {
	return &loaded[S]{state: b.c.New(), records: make(map[string]record), bad: make(map[string]error)}
}

// load starts a watch and reads all existing records. It restores records of
// last that the bucket has lost.
func (b *Bucket[S, V]) load(ctx context.Context, cancelled <-chan struct{}, last *lastGood) (jetstream.KeyWatcher, *loaded[S], error) {
	w, err := b.kv.WatchAll(ctx)
	if err != nil {
		return nil, nil, err
	}
	st := b.newLoaded()
	silent := time.NewTimer(readWait)
	defer silent.Stop()
	for {
		select {
		case <-cancelled:
			err = context.Canceled
		case <-ctx.Done():
			err = ctx.Err()
		case <-silent.C:
			err = fmt.Errorf("no response for %v, with %d records read: its files may be damaged", readWait, len(st.records))
		case e, ok := <-w.Updates():
			silent.Reset(readWait)
			switch {
			case !ok:
				err = errors.New("the watch ended early")
			case e == nil:
				if err = b.putBack(ctx, st, last); err != nil {
					break
				}
				b.live()
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

// watch applies changes until ctx ends. If the watch itself ends early, it is
// started again with a full load, so that deletions in between are not missed. w
// is nil if there is none yet.
func (b *Bucket[S, V]) watch(ctx context.Context, w jetstream.KeyWatcher, st *loaded[S], last *lastGood) {
	defer close(b.closed)
	for {
		if w != nil {
			b.follow(ctx, w, st)
			_ = w.Stop()
			b.broken(nil)
			last = b.copyOf(st)
		}
		for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
			if ctx.Err() != nil {
				return
			}
			var err error
			if w, st, err = b.load(ctx, nil, last); err == nil {
				break
			}
			if ctx.Err() != nil {
				return
			}
			b.broken(err)
			select {
			case <-ctx.Done():
			case <-time.After(wait/2 + rand.N(wait)):
			}
		}
	}
}

func (b *Bucket[S, V]) follow(ctx context.Context, w jetstream.KeyWatcher, st *loaded[S]) {
	retry := time.NewTicker(saveRetry)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-retry.C:
			b.saveAgain(st)
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
	err := b.c.Apply(st.state, e.Key(), value, e.Revision())
	delete(st.bad, e.Key())
	switch {
	case err != nil:
		// The record's earlier state stays in force: one damaged record must not
		// stop the others.
		st.bad[e.Key()] = err
		b.log.Error("a record cannot be read and keeps its previous value", "key", e.Key(), "revision", e.Revision(), "err", err)
	case b.c.LastGood == "":
	case value == nil:
		delete(st.records, e.Key())
	default:
		st.records[e.Key()] = record{e.Key(), e.Revision(), value}
	}
}

func (b *Bucket[S, V]) publish(st *loaded[S]) {
	b.now.Store(&published[V]{view: b.c.View(st.state), revision: st.revision})
	b.save(st) // before the change is reported as made
	b.mu.Lock()
	defer b.mu.Unlock()
	b.kept = st.revision
	close(b.tick)
	b.tick = make(chan struct{})
}

// Await returns when the view has reached a revision, and its last-good copy,
// too, if it is writable.
func (b *Bucket[S, V]) Await(ctx context.Context, revision uint64) error {
	for {
		b.mu.Lock()
		tick, kept := b.tick, b.kept
		b.mu.Unlock()
		if kept >= revision {
			return nil
		}
		select {
		case <-tick:
		case <-b.closed:
			return event.NewError(event.CodeUnavailable, "the change is saved, but hedgerow is stopping", "it applies after the restart", nil)
		case <-ctx.Done():
			return event.NewError(event.CodeUnavailable, "the change is saved, but not yet applied in this process", "try again shortly", ctx.Err())
		}
	}
}

// Create writes a new record. It returns ErrExists if the record exists.
func (b *Bucket[S, V]) Create(ctx context.Context, key string, record any) error {
	value, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("encode %s: %w", key, err)
	}
	if err := b.Writable(ctx); err != nil {
		return err
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

// ErrExists is returned by [Bucket.Create]; callers replace it with an error for the user.
var ErrExists = errors.New("record already exists")

// Change reads a record, calls f to replace it, and writes the result; after a
// concurrent change it starts again. f gets nil if there is no record, may be
// called several times, and its error aborts the change. A nil record from f
// deletes it.
func (b *Bucket[S, V]) Change(ctx context.Context, key string, f func(value []byte) (record any, err error)) error {
	if err := b.Writable(ctx); err != nil {
		return err
	}
	removed := false
	revision, err := Swap(ctx, b.kv, key, func(old jetstream.KeyValueEntry) ([]byte, error) {
		var have []byte
		if old != nil {
			have = old.Value()
		}
		record, err := f(have)
		if removed = record == nil && old != nil; err != nil || record == nil {
			return nil, err
		}
		value, err := json.Marshal(record)
		if err != nil {
			return nil, fmt.Errorf("encode %s: %w", key, err)
		}
		return value, nil
	})
	switch {
	case errors.Is(err, ErrRead):
		return b.unavailable("could not be read", err)
	case errors.Is(err, ErrWrite):
		return b.unavailable("could not be saved", err)
	case errors.Is(err, ErrRaced):
		return event.NewError(event.CodeConflict, "someone else changed the "+b.c.Name+" at the same time", "reload them and try again", err)
	case err != nil:
		return err
	case removed:
		return b.gone(ctx)
	}
	return b.Await(ctx, revision)
}

// gone waits until the view has applied a purge: a purge does not report its
// revision, but it is at most the bucket's last one.
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

// Remove purges a record. It returns nil if the record does not exist.
func (b *Bucket[S, V]) Remove(ctx context.Context, key string) error {
	return b.Change(ctx, key, func([]byte) (any, error) { return nil, nil })
}

func (b *Bucket[S, V]) unavailable(what string, err error) error {
	hint := hintOf(err)
	if e := (*event.Error)(nil); errors.As(err, &e) { // use its hint only once
		plain := *e
		plain.Hint = ""
		err = &plain
	}
	return event.NewError(event.CodeUnavailable, "the "+b.c.Name+" "+what, hint, err)
}

// hintOf returns the hint of the cause, or to try again.
func hintOf(err error) string {
	if e := (*event.Error)(nil); errors.As(err, &e) && e.Hint != "" {
		return e.Hint
	}
	return "try again; if it persists, check hedgerow's log and the free space of its data folder"
}
