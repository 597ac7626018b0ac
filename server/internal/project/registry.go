package project

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/health"
	"github.com/hedgerow/hedgerow/server/internal/kv"
)

// Bucket is the name of the key-value bucket in which a server keeps a [Registry].
const Bucket = "hedgerow"

// Options are a registry's settings.
type Options struct {
	// SecretKey is the 32-byte key that seals other parties' keys; see
	// [LoadSecretKey].
	SecretKey []byte
	// AllowInsecureHosts accepts http:// and private hosts of PostHog. For tests.
	AllowInsecureHosts bool
	// AllowHosts are hosts of PostHog that may be private. nil is none.
	AllowHosts *AllowedHosts
	// LastGood is the path of the last-good copy of all records, in which secrets
	// are sealed as they are in the bucket; see [kv.Config]. "" is without.
	LastGood string
	// Enabled is called with each enabled connection that was made or changed,
	// before the change returns. May be nil.
	Enabled func(context.Context, Connection)
	Now     func() time.Time // Defaults to time.Now
	Logger  *slog.Logger     // Defaults to none
}

// Registry is the configuration in one key-value bucket, with a [Snapshot] of
// it in memory. Any number of registries, in any number of processes, may work
// on one bucket.
//
// Every change is validated, written only if the record is still the one that
// was read, and noted in the audit log. It returns when the registry's own
// snapshot has it. Errors are [*event.Error]: invalid, not found, conflict, or
// unavailable when the bucket could not be reached.
type Registry struct {
	bucket jetstream.KeyValue
	o      Options
	log    *slog.Logger
	now    func() time.Time
	ring   atomic.Pointer[keyring]
	b      *kv.Bucket[*state, view]

	provisional atomic.Pointer[Project] // the default project until the bucket has it
	claim       atomic.Uint64           // the revision of this process's claim to the first start

	uses uses // of API keys

	damaged func() bool // the bucket may have lost records

	passwords chan struct{} // bounds the memory that argon2id takes at one time

	ctx  context.Context // of those who read Changes
	stop context.CancelFunc
	wg   sync.WaitGroup
}

// view is the form of a bucket's state.
type view struct {
	*Snapshot
	audit []AuditEntry // newest first
}

// Open loads the configuration from a bucket and begins to watch it. If the
// bucket's secrets are encrypted with a key other than o.SecretKey, it returns
// an error and changes nothing. ctx limits only the opening; [Registry.Close]
// ends the watch.
//
// With o.LastGood, Open succeeds for an unreadable bucket with that copy's
// records, and changes return an error of code unavailable until it is readable.
// Without a copy the default project exists in memory; [Registry.Bootstrap]
// writes it as soon as possible.
func Open(ctx context.Context, bucket jetstream.KeyValue, o Options) (*Registry, error) {
	r := &Registry{bucket: bucket, o: o, log: o.Logger, now: o.Now, passwords: make(chan struct{}, 4)}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.now == nil {
		r.now = time.Now
	}
	if r.o.Enabled == nil {
		r.o.Enabled = func(context.Context, Connection) {}
	}
	r.damaged = func() bool { return false }
	if d, ok := bucket.(interface{ Damaged() bool }); ok {
		r.damaged = d.Damaged
	}
	key, err := newSealer(o.SecretKey)
	if err != nil {
		return nil, err
	}
	r.o.SecretKey = nil
	if err := r.openRing(ctx, key); err != nil {
		return nil, err
	}
	if o.LastGood != "" {
		p := newProject(DefaultID, "default", r.now())
		r.provisional.Store(&p)
	}

	r.b, err = kv.Open(ctx, bucket, kv.Config[*state, view]{Name: "settings", New: newState, Apply: r.apply, View: r.view, LastGood: o.LastGood, Secrets: true, Logger: r.log})
	if err != nil {
		return nil, err
	}
	r.bucket = r.b.Guarded()
	r.ctx, r.stop = context.WithCancel(context.Background())
	return r, nil
}

// Health returns the health of the settings.
func (r *Registry) Health() health.Report { return r.b.Health() }

// Close ends the watch. The last snapshot stays readable.
func (r *Registry) Close() error {
	r.stop()
	r.wg.Wait()
	return r.b.Close()
}

// Snapshot returns the configuration as it is now. It costs one atomic load.
func (r *Registry) Snapshot() *Snapshot { return r.b.View().Snapshot }

// Changes returns a channel that receives the current snapshot and then newer
// ones. A slow reader misses intermediate ones, never the last. The channel is
// closed when ctx ends or the registry is closed.
func (r *Registry) Changes(ctx context.Context) <-chan *Snapshot {
	ch := make(chan *Snapshot, 1)
	changed, last := r.b.Changed(), r.Snapshot()
	ch <- last
	r.wg.Go(func() {
		defer close(ch)
		for {
			select {
			case <-ctx.Done():
				return
			case <-r.ctx.Done():
				return
			case <-changed:
			}
			changed = r.b.Changed()
			s := r.Snapshot()
			if s == last {
				continue
			}
			last = s
			select {
			case <-ch: // the reader has not taken the one before: it is outdated
			default:
			}
			ch <- s // never blocks: this is the only sender
		}
	})
	return ch
}

// view makes the state visible.
func (r *Registry) view(st *state) view {
	if st.audited {
		st.log = slices.SortedFunc(maps.Values(st.audit), func(a, b AuditEntry) int { return strings.Compare(b.ID, a.ID) })
		st.audited = false
	}
	if p := r.provisional.Load(); p != nil && len(st.projects) == 0 && !st.started {
		with := *st
		with.projects = map[string]Project{p.ID: *p}
		st = &with
	}
	s := st.snapshot(r.now)
	s.uses = &r.uses
	return view{s, st.log}
}

// apply applies one entry of the bucket to the state.
func (r *Registry) apply(st *state, key string, value []byte, revision uint64) error {
	st.revision = max(st.revision, revision)
	switch {
	case key == keySealCheck:
		st.sealed = value != nil
		return r.applySeal(value)
	case key == keyFirstStart:
		var mark startMark
		if value != nil {
			if err := json.Unmarshal(value, &mark); err != nil {
				return err
			}
		}
		st.started = mark.Done
	case key == keyServer:
		var s ServerSettings
		if value != nil {
			if err := json.Unmarshal(value, &s); err != nil {
				return err
			}
		}
		st.server = s
	case strings.HasPrefix(key, prefixProject):
		return keep(r, st.projects, key, value, revision)
	case strings.HasPrefix(key, prefixAPIKey):
		return keep(r, st.keys, key, value, revision)
	case strings.HasPrefix(key, prefixConnection):
		return keep(r, st.connections, key, value, revision)
	case strings.HasPrefix(key, prefixProvider):
		return keep(r, st.providers, key, value, revision)
	case strings.HasPrefix(key, prefixAdminKey):
		return keep(r, st.adminKeys, key, value, revision)
	case strings.HasPrefix(key, prefixDashboard):
		return keep(r, st.dashboards, key, value, revision)
	case strings.HasPrefix(key, prefixSavedView):
		return keep(r, st.views, key, value, revision)
	case strings.HasPrefix(key, prefixUser):
		return keep(r, st.users, key, value, revision)
	case strings.HasPrefix(key, prefixSession):
		return keep(r, st.sessions, key, value, revision)
	case strings.HasPrefix(key, prefixLink):
		return keep(r, st.links, key, value, revision)
	case strings.HasPrefix(key, prefixAudit):
		st.audited = true
		if value == nil {
			delete(st.audit, key)
			return nil
		}
		var a AuditEntry
		if err := json.Unmarshal(value, &a); err != nil {
			return err
		}
		st.audit[key] = a
	}
	return nil
}

func keep[T any, P record[T]](r *Registry, m map[string]T, key string, value []byte, revision uint64) error {
	if value == nil {
		delete(m, key)
		return nil
	}
	v, err := decode[T, P](*r.ring.Load(), key, value, revision)
	if err != nil {
		return err
	}
	m[key] = v
	return nil
}

// change reads a record, calls f to change it and writes it back; after a
// concurrent change it starts again. f gets a copy, may be called several
// times, and its error aborts the change.
func change[T any, P record[T]](ctx context.Context, r *Registry, key string, f func(P) error) (T, error) {
	var v, zero T
	p := P(&v)
	revision, err := sealed[T](ctx, r, p, key, func() (uint64, error) {
		return kv.Swap(ctx, r.bucket, key, func(old jetstream.KeyValueEntry) (_ []byte, err error) {
			if v, err = opened[T, P](*r.ring.Load(), key, old); err != nil {
				return nil, err
			}
			if err := f(p); err != nil {
				return nil, err
			}
			b, err := encode[T](*r.ring.Load(), p)
			if err != nil {
				return nil, fmt.Errorf("encode %s: %w", p.noun(), err)
			}
			return b, nil
		})
	})
	if err != nil {
		return zero, failed(p.noun(), "saved", err)
	}
	*p.revision() = revision
	return v, nil
}

// failed converts an error of kv.Swap to a user-facing error.
func failed(noun, done string, err error) error {
	switch {
	case errors.Is(err, jetstream.ErrInvalidKey):
		return missing(noun)
	case errors.Is(err, kv.ErrRead):
		return unavailable("the "+noun+" could not be read", err)
	case errors.Is(err, kv.ErrWrite):
		return unavailable("the "+noun+" could not be "+done, err)
	case errors.Is(err, kv.ErrRaced):
		return event.NewError(event.CodeConflict, "the "+noun+" was changed by someone else at the same time", "reload it and try again", nil)
	}
	return err
}

// get reads a record from the bucket; without a ring its secrets stay empty.
func get[T any, P record[T]](ctx context.Context, r *Registry, ring keyring, key string) (T, error) {
	var zero T
	e, err := r.bucket.Get(ctx, key)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound), errors.Is(err, jetstream.ErrInvalidKey):
		return zero, missing(P(&zero).noun())
	case err != nil:
		return zero, unavailable("the "+P(&zero).noun()+" could not be read", err)
	}
	return opened[T, P](ring, key, e)
}

// opened is the record in an entry of the bucket; nil is none.
func opened[T any, P record[T]](ring keyring, key string, e jetstream.KeyValueEntry) (T, error) {
	var zero T
	if e == nil {
		return zero, missing(P(&zero).noun())
	}
	v, err := decode[T, P](ring, key, e.Value(), e.Revision())
	if err != nil {
		return zero, event.NewError(event.CodeInternal, "the "+P(&zero).noun()+" is damaged", "run hedgerow doctor, which looks for the last-good copy, or restore a backup", fmt.Errorf("decode %s: %w", key, err))
	}
	return v, nil
}

// create writes a record that does not exist yet.
func create[T any, P record[T]](ctx context.Context, r *Registry, p P) error {
	created := uint64(0)
	rev, err := sealed[T](ctx, r, p, p.key(), func() (uint64, error) {
		b, err := encode[T](*r.ring.Load(), p)
		if err != nil {
			return 0, fmt.Errorf("encode %s: %w", p.noun(), err)
		}
		created, err = r.bucket.Create(ctx, p.key(), b)
		switch {
		case errors.Is(err, jetstream.ErrKeyExists):
			return 0, event.NewError(event.CodeConflict, "this "+p.noun()+" already exists", "change the existing one", nil)
		case err != nil:
			return 0, unavailable("the "+p.noun()+" could not be saved", err)
		}
		return created, nil
	})
	if err != nil {
		if created != 0 { // it could not be sealed with the new key: no one could read it
			return errors.Join(err, r.purge(ctx, p.key(), created))
		}
		return err
	}
	*p.revision() = rev
	return nil
}

// purge removes a record; the bucket erases its values. A revision of 0 removes any.
func (r *Registry) purge(ctx context.Context, key string, revision uint64) error {
	var opts []jetstream.KVDeleteOpt
	if revision != 0 {
		opts = append(opts, jetstream.LastRevision(revision))
	}
	return r.bucket.Purge(ctx, key, opts...)
}

// remove purges the record that ok accepts.
func remove[T any, P record[T]](ctx context.Context, r *Registry, key string, ok func(P) error) (T, error) {
	var v, zero T
	_, err := kv.Swap(ctx, r.bucket, key, func(old jetstream.KeyValueEntry) (_ []byte, err error) {
		if v, err = opened[T, P](nil, key, old); err != nil {
			return nil, err
		}
		return nil, ok(P(&v))
	})
	if err != nil {
		return zero, failed(P(&zero).noun(), "deleted", err)
	}
	return v, nil
}

// errAsItIs ends a change that has nothing to do.
var errAsItIs = errors.New("the record needs no change")

// reserve reserves value for the record under owner, which has it in a field
// of its JSON form: this makes names and addresses unique across replicas. A
// reservation whose owner does not exist, or has another value, was left by a
// crash and is taken over.
func (r *Registry) reserve(ctx context.Context, kind, field, value, owner string) error {
	_, err := kv.Swap(ctx, r.bucket, uniqueKey(kind, value), func(old jetstream.KeyValueEntry) ([]byte, error) {
		switch {
		case old == nil:
		case string(old.Value()) == owner:
			return nil, errAsItIs
		case time.Since(old.Created()) < reserveGrace || r.holds(ctx, string(old.Value()), field, value):
			// The record of a new reservation may still be being written.
			return nil, event.NewError(event.CodeConflict, fmt.Sprintf("the %s %q is taken", field, value), "choose another", nil)
		}
		return []byte(owner), nil
	})
	switch {
	case errors.Is(err, errAsItIs):
		return nil
	case errors.Is(err, kv.ErrRead), errors.Is(err, kv.ErrWrite):
		return unavailable("the name could not be reserved", err)
	}
	return failed(field, "", err)
}

// reserveGrace is far longer than the two writes that it protects take.
const reserveGrace = 10 * time.Second

func (r *Registry) holds(ctx context.Context, owner, field, value string) bool {
	e, err := r.bucket.Get(ctx, owner)
	if err != nil {
		return !errors.Is(err, jetstream.ErrKeyNotFound)
	}
	var env struct {
		Record map[string]any `json:"record"`
	}
	if json.Unmarshal(e.Value(), &env) != nil {
		return true
	}
	s, _ := env.Record[field].(string)
	return strings.EqualFold(s, value)
}

// release deletes a reservation if it is still owner's.
func (r *Registry) release(ctx context.Context, kind, value, owner string) {
	key := uniqueKey(kind, value)
	e, err := r.bucket.Get(ctx, key)
	if err != nil || string(e.Value()) != owner {
		return
	}
	if err := r.purge(ctx, key, e.Revision()); err != nil {
		r.log.Warn("the name is reserved; retry to take it", "kind", kind, "err", err)
	}
}

func uniqueKey(kind, value string) string {
	h := hashOf(strings.ToLower(value))
	return fmt.Sprintf("%s%s.%x", prefixUnique, kind, h[:16])
}

func unavailable(message string, err error) error {
	return event.NewError(event.CodeUnavailable, message, "try again; if it persists, check hedgerow's log and the free space of its data folder", err)
}

func missing(noun string) error {
	return event.NewError(event.CodeNotFound, noun+" not found", "list them to see which exist", nil)
}
