package join_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// now is the time at which tests run.
var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// kept is a journal that keeps what it was given as the real one does: encoded
// before Append returns.
type kept struct {
	mu     sync.Mutex
	frames [][]byte
	err    func(*event.Event) error // nil: everything is stored
}

func (k *kept) Append(_ context.Context, events ...*event.Event) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, e := range events {
		if k.err != nil {
			if err := k.err(e); err != nil {
				return err
			}
		}
		b, err := e.AppendFrame(nil)
		if err != nil {
			return err
		}
		k.frames = append(k.frames, b)
	}
	return nil
}

func (k *kept) events(t testing.TB) []*event.Event {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	out := make([]*event.Event, len(k.frames))
	for i, b := range k.frames {
		e, err := event.DecodeFrame(b)
		if err != nil {
			t.Fatal(err)
		}
		out[i] = e
	}
	return out
}
