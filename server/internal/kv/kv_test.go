package kv_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/journal"
	"github.com/hedgerow/hedgerow/server/internal/kv"
)

type numbers = kv.Bucket[map[string]int, string]

func keyValue(t *testing.T) jetstream.KeyValue {
	t.Helper()
	j, err := journal.Open(t.Context(), journal.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close(context.Background()) })
	bucket, err := j.KeyValue(t.Context(), "numbers", 1)
	if err != nil {
		t.Fatal(err)
	}
	return bucket
}

// show is a view of numbers: "a=1 b=2".
func show(m map[string]int) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, fmt.Sprintf("%s=%d", k, m[k]))
	}
	return strings.Join(out, " ")
}

func open(t *testing.T, bucket jetstream.KeyValue) *numbers {
	t.Helper()
	return openWith(t, bucket, "")
}

// openWith keeps numbers by name, with a last-good copy.
func openWith(t *testing.T, bucket jetstream.KeyValue, lastGood string) *numbers {
	t.Helper()
	b, err := kv.Open(t.Context(), bucket, kv.Config[map[string]int, string]{
		Name: "numbers", New: func() map[string]int { return map[string]int{} },
		Apply: func(m map[string]int, key string, value []byte, _ uint64) error {
			if value == nil {
				delete(m, key)
				return nil
			}
			var n int
			if err := json.Unmarshal(value, &n); err != nil {
				return err
			}
			m[key] = n
			return nil
		},
		View: show, LastGood: lastGood,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func TestChanges(t *testing.T) {
	bucket, ctx := keyValue(t), t.Context()
	b := open(t, bucket)
	see := func(want string) {
		t.Helper()
		if got := b.View(); got != want {
			t.Errorf("the view is %q, want %q", got, want)
		}
	}
	see("")
	if err := b.Create(ctx, "a", 1); err != nil {
		t.Fatal(err)
	}
	see("a=1")
	if err := b.Create(ctx, "a", 2); !errors.Is(err, kv.ErrExists) {
		t.Errorf("made twice: %v", err)
	}
	more := func(old []byte) (any, error) {
		n := 0
		if old != nil {
			if err := json.Unmarshal(old, &n); err != nil {
				return nil, err
			}
		}
		return n + 10, nil
	}
	for range 2 {
		if err := b.Change(ctx, "b", more); err != nil { // makes it, then changes it
			t.Fatal(err)
		}
	}
	see("a=1 b=20")
	refused := errors.New("refused")
	if err := b.Change(ctx, "b", func([]byte) (any, error) { return nil, refused }); !errors.Is(err, refused) {
		t.Errorf("its own error: %v", err)
	}
	if err := b.Remove(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	see("b=20")
	if err := b.Remove(ctx, "a"); err != nil {
		t.Errorf("removed twice: %v", err)
	}
	// An unreadable record does not block the others.
	if _, err := bucket.Put(ctx, "b", []byte("{")); err != nil {
		t.Fatal(err)
	}
	if err := b.Create(ctx, "c", 3); err != nil {
		t.Fatal(err)
	}
	see("b=20 c=3")
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.Create(ctx, "d", 4); event.AsError(err).Code != event.CodeUnavailable {
		t.Errorf("after the end: %v", err)
	}
	see("b=20 c=3")
}

// Two processes count in one record: no count is lost, and both see all of them.
func TestRace(t *testing.T) {
	bucket := keyValue(t)
	a, b := open(t, bucket), open(t, bucket)
	const each = 20
	var wg sync.WaitGroup
	for _, x := range []*numbers{a, b} {
		wg.Go(func() {
			for done := 0; done < each; {
				err := x.Change(t.Context(), "n", func(old []byte) (any, error) {
					n := 0
					if old != nil {
						if err := json.Unmarshal(old, &n); err != nil {
							return nil, err
						}
					}
					return n + 1, nil
				})
				switch e := event.AsError(err); {
				case err == nil:
					done++
				case e.Code != event.CodeConflict: // too many concurrent changes: retry, as a user would
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	for i, x := range []*numbers{a, b} {
		if err := x.Create(t.Context(), fmt.Sprintf("end%d", i), 0); err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("n=%d", 2*each); !strings.Contains(x.View(), want) {
			t.Errorf("process %d sees %q, want %s", i, x.View(), want)
		}
	}
}

// If the watch ends early it starts again, and changes in between are seen.
func TestWatchBreaks(t *testing.T) {
	bucket := &breaking{KeyValue: keyValue(t)}
	b := open(t, bucket)
	if err := b.Create(t.Context(), "a", 1); err != nil {
		t.Fatal(err)
	}
	bucket.last().Stop() // as a lost connection would
	if err := b.Create(t.Context(), "b", 2); err != nil {
		t.Fatal(err)
	}
	if got := b.View(); got != "a=1 b=2" {
		t.Errorf("the view is %q", got)
	}
	if n := bucket.count(); n < 2 {
		t.Errorf("%d watches", n)
	}
}

type breaking struct {
	jetstream.KeyValue
	mu       sync.Mutex
	watchers []jetstream.KeyWatcher
}

func (k *breaking) WatchAll(ctx context.Context, o ...jetstream.WatchOpt) (jetstream.KeyWatcher, error) {
	w, err := k.KeyValue.WatchAll(ctx, o...)
	if err == nil {
		k.mu.Lock()
		k.watchers = append(k.watchers, w)
		k.mu.Unlock()
	}
	return w, err
}

func (k *breaking) last() jetstream.KeyWatcher {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.watchers[len(k.watchers)-1]
}

func (k *breaking) count() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.watchers)
}

func TestOpenFails(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := kv.Open(ctx, keyValue(t), kv.Config[map[string]int, string]{
		Name: "numbers", New: func() map[string]int { return nil }, Apply: func(map[string]int, string, []byte, uint64) error { return nil }, View: func(map[string]int) string { return "" },
	})
	if err != nil && event.AsError(err).Code != event.CodeUnavailable {
		t.Errorf("an opening that was called off: %v", err)
	}
}
