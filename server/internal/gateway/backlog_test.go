package gateway

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/health"
)

// chatted is a finished call with content of the given size.
func chatted(n, size int) *record {
	f := finished(n)
	f.call.Method, f.call.Path = "POST", "/v1/chat/completions"
	f.call.Request = []byte(fmt.Sprintf(`{"model":"m","messages":[{"role":"user","content":"%s"}]}`, strings.Repeat("x", size)))
	return f
}

func (j *journal) tried() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.tries
}

func (j *journal) recorded() []*event.Event {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.events)
}

var errUnavailable = event.NewError(event.CodeUnavailable, "the journal cannot write: the disk is full", "free disk space", nil)

// unavailableRig is a capture whose journal can be made unavailable.
func unavailableRig(queue int, bytes int64, err error) (*captureRig, *atomic.Bool) {
	gone := new(atomic.Bool)
	return newCaptureRig(queue, bytes, 1, func(context.Context, int, []*event.Event) error {
		if gone.Load() {
			return err
		}
		return nil
	}), gone
}

// TestJournalUnavailable makes the journal unavailable for half an hour: no
// call is delayed or lost, and each is recorded with its content within a
// second after it is available again.
func TestJournalUnavailable(t *testing.T) {
	for _, err := range []error{errUnavailable, event.NewError(event.CodeFull, "full", "", nil), event.NewError(event.CodeTimeout, "no answer", "", nil), fmt.Errorf("append: %w", context.DeadlineExceeded)} {
		synctest.Test(t, func(t *testing.T) {
			r, gone := unavailableRig(10_000, 64<<20, err)
			r.offer(chatted(0, 100))
			time.Sleep(time.Second)
			gone.Store(true)
			n := 1
			for range 30 * 60 {
				before := time.Now()
				r.offer(chatted(n, 1000))
				n++
				if time.Since(before) != 0 {
					t.Fatal("a call waited")
				}
				time.Sleep(time.Second)
			}
			synctest.Wait()
			s := r.stats()
			if s.Step != StepWaiting || s.QueueDepth != int64(n-1) || len(s.Dropped) != 0 || s.QueueBytes > int64(n)*(eventCost+1500) {
				t.Errorf("while unavailable: %+v", s)
			}
			h := r.health()
			if h.Component != "capture" || h.Status != health.Degraded || h.Hint == "" || h.Since.IsZero() {
				t.Errorf("%+v", h)
			}
			if err == errUnavailable && (!strings.Contains(h.Message, "the disk is full") || h.Hint != "free disk space") {
				t.Errorf("%+v: want the journal's error", h)
			}
			if r.j.tried() > 30*60+20 {
				t.Errorf("%d attempts in half an hour", r.j.tried())
			}
			gone.Store(false)
			time.Sleep(backoffMax)
			synctest.Wait()
			if s := r.stats(); s.Step != StepOK || s.QueueDepth != 0 || s.QueueBytes != 0 || s.ContentDropped != 0 || len(r.j.recorded()) != n {
				t.Errorf("a second after the end: %d of %d recorded, %+v", len(r.j.recorded()), n, s)
			}
			seen := make(map[string]bool)
			for _, e := range r.j.recorded() {
				if e.Content.IsZero() || seen[e.UUID] {
					t.Fatalf("recorded twice or without content: %+v", e)
				}
				seen[e.UUID] = true
			}
			if got := r.health(); got.Status != health.OK || got.Message != "" || got.Hint != "" {
				t.Errorf("%+v", got)
			}
			logs := strings.Join(r.logs.get(), "\n")
			if len(r.logs.get()) != 2 || !strings.Contains(logs, "wait in memory") || !strings.Contains(logs, "journal available again") {
				t.Errorf("logged:\n%s", logs)
			}
			if err := r.close(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestUnavailableSteps fills the memory for waiting calls: content is dropped
// first, then calls; and capture recovers completely.
func TestUnavailableSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 1 << 20
		r, gone := unavailableRig(10_000, limit, errUnavailable)
		gone.Store(true)
		settle := func() { time.Sleep(10 * lingerFor); synctest.Wait() }
		offered := 0
		offer := func(size int) { r.offer(chatted(offered, size)); offered++; settle() }
		// 14 KiB each: 56 of them are three quarters.
		for range 50 {
			offer(10 << 10)
		}
		if s := r.stats(); s.Step != StepWaiting || s.ContentDropped != 0 || s.QueueBytes < 50*14<<10 {
			t.Fatalf("%+v", s)
		}
		for range 6 {
			offer(10 << 10)
		}
		if s := r.stats(); s.Step != StepNoContent || s.ContentDropped < 55 || s.QueueBytes > 60*eventCost || len(s.Dropped) != 0 {
			t.Fatalf("%+v", s)
		}
		if h := r.health(); !strings.Contains(h.Message, "without their content") {
			t.Errorf("%+v", h)
		}
		for r.stats().Step == StepNoContent && offered < 1000 {
			offer(10 << 10)
		}
		s := r.stats()
		if s.Step != StepDropping || s.Dropped[dropQueueBytes] == 0 || s.QueueBytes > limit+10*eventCost || s.LastDrop.IsZero() {
			t.Fatalf("%d offered: %+v", offered, s)
		}
		for range 20 {
			offer(10 << 10)
		}
		s = r.stats()
		if h := r.health(); !strings.Contains(h.Message, "not recorded") {
			t.Errorf("%+v", h)
		}
		gone.Store(false)
		time.Sleep(backoffMax)
		settle()
		if got := r.stats(); got.Step != StepOK || got.QueueDepth != 0 || got.QueueBytes != 0 || int64(len(r.j.recorded()))+s.Dropped[dropQueueBytes] != int64(offered) {
			t.Errorf("%d recorded of %d, %+v", len(r.j.recorded()), offered, got)
		}
		for _, e := range r.j.recorded() {
			if !e.Content.IsZero() || string(e.Properties["content_dropped"]) != `"journal_unavailable"` || e.ModelAsked != "m" {
				t.Fatalf("%+v", e)
			}
		}
		offer(100)
		if last := r.j.recorded()[len(r.j.recorded())-1]; last.Content.IsZero() {
			t.Error("content is still dropped after recovery")
		}
		if err := r.close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

// TestUnavailableCount reaches the limit on the number of waiting calls.
func TestUnavailableCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, gone := unavailableRig(100, 64<<20, errUnavailable)
		gone.Store(true)
		for n := range 150 {
			r.offer(finished(n))
			time.Sleep(lingerFor)
		}
		synctest.Wait()
		if s := r.stats(); s.QueueDepth > 110 || s.Dropped[dropQueueFull] < 40 || s.Step != StepDropping {
			t.Errorf("%+v", s)
		}
		// Close does not wait for an unavailable journal beyond its deadline.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.close(ctx); err == nil {
			t.Error("no error")
		}
		if s := r.stats(); s.Dropped[dropClosed]+s.Dropped[dropQueueFull] != 150 || s.QueueBytes != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestUnavailableRejectsOne has an invalid event among those that wait.
func TestUnavailableRejectsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := new(atomic.Bool)
		gone.Store(true)
		r := newCaptureRig(100, 64<<20, 1, func(_ context.Context, _ int, events []*event.Event) error {
			if gone.Load() {
				return errUnavailable
			}
			for _, e := range events {
				if strings.HasSuffix(e.RequestURL, "/3") {
					return event.Invalid("bad", "")
				}
			}
			return nil
		})
		for n := range 10 {
			r.offer(finished(n))
		}
		time.Sleep(time.Second)
		synctest.Wait()
		gone.Store(false)
		if err := r.close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s := r.stats(); len(r.j.recorded()) != 9 || s.Dropped[dropAppend] != 1 || s.QueueDepth != 0 || s.QueueBytes != 0 || s.Step != StepOK {
			t.Errorf("%d recorded, %+v", len(r.j.recorded()), s)
		}
	})
}
