package kv

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/health"
)

// Collection is a bucket with records of one type, each of a project, under the
// key PROJECT.ID. Errors are [*event.Error].
type Collection[T any] struct {
	b *Bucket[map[string]T, map[string]T]
	c CollectionConfig
}

// CollectionConfig configures a [Collection].
type CollectionConfig struct {
	Noun     string // what one record is called in errors
	Prefix   string // precedes the keys
	LastGood string // see [Config.LastGood]
	Logger   *slog.Logger
}

// OpenCollection reads the records and begins to watch them. ctx bounds the
// opening only; [Collection.Close] ends the watch.
func OpenCollection[T any](ctx context.Context, bucket jetstream.KeyValue, c CollectionConfig) (*Collection[T], error) {
	b, err := Open(ctx, bucket, Config[map[string]T, map[string]T]{
		Name: c.Noun + "s", New: func() map[string]T { return make(map[string]T) }, View: maps.Clone[map[string]T], Logger: c.Logger, LastGood: c.LastGood,
		Apply: func(m map[string]T, key string, value []byte, _ uint64) error {
			if value == nil {
				delete(m, key)
				return nil
			}
			var v T
			if err := json.Unmarshal(value, &v); err != nil {
				return err
			}
			m[key] = v
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	return &Collection[T]{b, c}, nil
}

func (c *Collection[T]) key(projectID, id string) string { return c.c.Prefix + projectID + "." + id }

// Close ends the watch. Records in memory remain readable.
func (c *Collection[T]) Close() error { return c.b.Close() }

// Changed returns a channel that is closed with the next change. Take it before
// looking, so that no change is missed.
func (c *Collection[T]) Changed() <-chan struct{} { return c.b.Changed() }

// Health returns the health of the records.
func (c *Collection[T]) Health() health.Report { return c.b.Health() }

// Get returns a record. Do not modify values that it references.
func (c *Collection[T]) Get(projectID, id string) (T, bool) {
	v, ok := c.b.View()[c.key(projectID, id)]
	return v, ok
}

// List returns a project's records or, with "", all, in the order of their keys.
func (c *Collection[T]) List(projectID string) []T {
	all := c.b.View()
	var out []T
	for _, k := range slices.Sorted(maps.Keys(all)) {
		if projectID == "" || strings.HasPrefix(k, c.key(projectID, "")) {
			out = append(out, all[k])
		}
	}
	return out
}

// ByName is [Collection.List] in the order of the names, ignoring case.
func (c *Collection[T]) ByName(projectID string, name func(T) string) []T {
	list := c.List(projectID)
	slices.SortStableFunc(list, func(a, b T) int { return strings.Compare(strings.ToLower(name(a)), strings.ToLower(name(b))) })
	return list
}

// Find returns a project's record by its id or its name.
func (c *Collection[T]) Find(projectID, ref string, name func(T) string) (T, error) {
	if v, ok := c.Get(projectID, ref); ok {
		return v, nil
	}
	for _, v := range c.List(projectID) {
		if name(v) == ref {
			return v, nil
		}
	}
	var none T
	return none, c.missing()
}

// Create writes a new record.
func (c *Collection[T]) Create(ctx context.Context, projectID, id string, v T) error {
	err := c.b.Create(ctx, c.key(projectID, id), v)
	if errors.Is(err, ErrExists) {
		return event.NewError(event.CodeConflict, "the "+c.c.Noun+" already exists", "change it, or use another name", err)
	}
	return err
}

// Change calls f to change a copy of a record and writes it back. f may be
// called several times. The copy is deep.
func (c *Collection[T]) Change(ctx context.Context, projectID, id string, f func(*T) error) (T, error) {
	var v T
	if _, ok := c.Get(projectID, id); !ok { // also where the id is no key at all
		return v, c.missing()
	}
	err := c.b.Change(ctx, c.key(projectID, id), func(value []byte) (any, error) {
		var fresh T
		if value == nil {
			return nil, c.missing()
		}
		if err := json.Unmarshal(value, &fresh); err != nil {
			return nil, event.NewError(event.CodeInternal, "the "+c.c.Noun+" is damaged", "run hedgerow doctor, which looks for the last-good copy, or restore a backup", err)
		}
		if err := f(&fresh); err != nil {
			return nil, err
		}
		v = fresh
		return fresh, nil
	})
	return v, err
}

// Delete removes a record.
func (c *Collection[T]) Delete(ctx context.Context, projectID, id string) error {
	if _, ok := c.Get(projectID, id); !ok {
		return c.missing()
	}
	return c.b.Remove(ctx, c.key(projectID, id))
}

func (c *Collection[T]) missing() error {
	return event.NewError(event.CodeNotFound, c.c.Noun+" not found in this project", "list them to see which exist", nil)
}
