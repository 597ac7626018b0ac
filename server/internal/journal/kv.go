package journal

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"sync"

	"github.com/hedgerow/hedgerow/event"
	"github.com/nats-io/nats.go/jetstream"
)

var bucketName = regexp.MustCompile(`^[a-zA-Z0-9_-]+$`)

// KeyValue returns the bucket of that name, with that many revisions per key,
// creating it if needed. It is stored with the events, with the same durability.
// While the journal is down, it and the bucket's methods return an [*event.Error]
// of code [event.CodeUnavailable] immediately; the bucket works once the journal
// does. A watch ends with its server. history is ignored for a bucket of
// [Config.Erasing]: replaced values are erased.
func (j *Journal) KeyValue(ctx context.Context, bucket string, history uint8) (jetstream.KeyValue, error) {
	if !bucketName.MatchString(bucket) {
		return nil, fmt.Errorf("bucket %s: %w", bucket, jetstream.ErrInvalidBucketName)
	}
	k := &keyValue{j: j, bucket: bucket, history: history}
	if _, err := k.open(ctx); err != nil && event.AsError(err).Code != event.CodeUnavailable {
		return nil, err
	}
	return k, nil
}

func (l *instance) keyValue(ctx context.Context, bucket string, history uint8) (jetstream.KeyValue, error) {
	if slices.Contains(l.j.c.Erasing, bucket) {
		return l.erasingBucket(ctx, bucket)
	}
	cfg := jetstream.KeyValueConfig{
		Bucket:   bucket,
		History:  history,
		Storage:  jetstream.FileStorage,
		Replicas: l.j.c.Replicas,
	}
	kv, err := l.ctlJS.KeyValue(ctx, bucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		kv, err = l.ctlJS.CreateOrUpdateKeyValue(ctx, cfg)
	} else if err == nil {
		var st jetstream.KeyValueStatus
		if st, err = kv.Status(ctx); err == nil && st.History() != int64(max(history, 1)) {
			kv, err = l.ctlJS.CreateOrUpdateKeyValue(ctx, cfg)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", bucket, l.lost(err))
	}
	return kv, nil
}

// keyValue is a bucket that survives restarts of the store.
type keyValue struct {
	j       *Journal
	bucket  string
	history uint8

	mu       sync.Mutex
	instance *instance // the one of kv
	kv       jetstream.KeyValue
}

func (k *keyValue) open(ctx context.Context) (jetstream.KeyValue, error) {
	l, err := k.j.up()
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.instance == l {
		return k.kv, nil
	}
	kv, err := l.keyValue(ctx, k.bucket, k.history)
	if err != nil {
		return nil, err
	}
	k.instance, k.kv = l, kv
	return kv, nil
}

// use opens the bucket, and converts the errors of a server that was lost
// meanwhile.
func use[T any](ctx context.Context, k *keyValue, f func(jetstream.KeyValue) (T, error)) (T, error) {
	var zero T
	kv, err := k.open(ctx)
	if err != nil {
		return zero, err
	}
	v, err := f(kv)
	if err != nil {
		k.mu.Lock()
		l := k.instance
		k.mu.Unlock()
		return v, l.lost(err)
	}
	return v, nil
}

func (k *keyValue) Bucket() string { return k.bucket }

func (k *keyValue) Get(ctx context.Context, key string) (jetstream.KeyValueEntry, error) {
	return use(ctx, k, func(kv jetstream.KeyValue) (jetstream.KeyValueEntry, error) { return kv.Get(ctx, key) })
}

func (k *keyValue) GetRevision(ctx context.Context, key string, revision uint64) (jetstream.KeyValueEntry, error) {
	return use(ctx, k, func(kv jetstream.KeyValue) (jetstream.KeyValueEntry, error) {
		return kv.GetRevision(ctx, key, revision)
	})
}

func (k *keyValue) Put(ctx context.Context, key string, value []byte) (uint64, error) {
	return use(ctx, k, func(kv jetstream.KeyValue) (uint64, error) { return kv.Put(ctx, key, value) })
}

func (k *keyValue) PutString(ctx context.Context, key, value string) (uint64, error) {
	return k.Put(ctx, key, []byte(value))
}

func (k *keyValue) Create(ctx context.Context, key string, value []byte, o ...jetstream.KVCreateOpt) (uint64, error) {
	return use(ctx, k, func(kv jetstream.KeyValue) (uint64, error) { return kv.Create(ctx, key, value, o...) })
}

func (k *keyValue) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	return use(ctx, k, func(kv jetstream.KeyValue) (uint64, error) { return kv.Update(ctx, key, value, revision) })
}

func (k *keyValue) Delete(ctx context.Context, key string, o ...jetstream.KVDeleteOpt) error {
	_, err := use(ctx, k, func(kv jetstream.KeyValue) (struct{}, error) { return struct{}{}, kv.Delete(ctx, key, o...) })
	return err
}

func (k *keyValue) Purge(ctx context.Context, key string, o ...jetstream.KVDeleteOpt) error {
	_, err := use(ctx, k, func(kv jetstream.KeyValue) (struct{}, error) { return struct{}{}, kv.Purge(ctx, key, o...) })
	return err
}

func (k *keyValue) Watch(ctx context.Context, keys string, o ...jetstream.WatchOpt) (jetstream.KeyWatcher, error) {
	return use(ctx, k, func(kv jetstream.KeyValue) (jetstream.KeyWatcher, error) { return kv.Watch(ctx, keys, o...) })
}

func (k *keyValue) WatchAll(ctx context.Context, o ...jetstream.WatchOpt) (jetstream.KeyWatcher, error) {
	return use(ctx, k, func(kv jetstream.KeyValue) (jetstream.KeyWatcher, error) { return kv.WatchAll(ctx, o...) })
}

func (k *keyValue) WatchFiltered(ctx context.Context, keys []string, o ...jetstream.WatchOpt) (jetstream.KeyWatcher, error) {
	return use(ctx, k, func(kv jetstream.KeyValue) (jetstream.KeyWatcher, error) { return kv.WatchFiltered(ctx, keys, o...) })
}

func (k *keyValue) Keys(ctx context.Context, o ...jetstream.WatchOpt) ([]string, error) {
	return use(ctx, k, func(kv jetstream.KeyValue) ([]string, error) { return kv.Keys(ctx, o...) })
}

func (k *keyValue) ListKeys(ctx context.Context, o ...jetstream.WatchOpt) (jetstream.KeyLister, error) {
	return use(ctx, k, func(kv jetstream.KeyValue) (jetstream.KeyLister, error) { return kv.ListKeys(ctx, o...) })
}

func (k *keyValue) ListKeysFiltered(ctx context.Context, filters ...string) (jetstream.KeyLister, error) {
	return use(ctx, k, func(kv jetstream.KeyValue) (jetstream.KeyLister, error) { return kv.ListKeysFiltered(ctx, filters...) })
}

func (k *keyValue) History(ctx context.Context, key string, o ...jetstream.WatchOpt) ([]jetstream.KeyValueEntry, error) {
	return use(ctx, k, func(kv jetstream.KeyValue) ([]jetstream.KeyValueEntry, error) { return kv.History(ctx, key, o...) })
}

func (k *keyValue) PurgeDeletes(ctx context.Context, o ...jetstream.KVPurgeOpt) error {
	_, err := use(ctx, k, func(kv jetstream.KeyValue) (struct{}, error) { return struct{}{}, kv.PurgeDeletes(ctx, o...) })
	return err
}

func (k *keyValue) Status(ctx context.Context) (jetstream.KeyValueStatus, error) {
	return use(ctx, k, func(kv jetstream.KeyValue) (jetstream.KeyValueStatus, error) { return kv.Status(ctx) })
}
