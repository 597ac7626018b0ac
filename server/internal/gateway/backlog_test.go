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

// chatted is a finished call with a content of so many bytes.
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

var errAway = event.NewError(event.CodeUnavailable, "the journal cannot write: the disk is full", "free disk space", nil)

// awayRig is a capture whose journal can be taken away.
func awayRig(queue int, bytes int64, err error) (*captureRig, *atomic.Bool) {
	gone := new(atomic.Bool)
	return newCaptureRig(queue, bytes, 1, func(context.Context, int, []*event.Event) error {
		if gone.Load() {
			return err
		}
		return nil
	}), gone
}

// TestJournalAway takes the journal away for half an hour: no call is delayed or
// lost, each is recorded with its content within the second after the end.
func TestJournalAway(t *testing.T) {
	for _, err := range []error{errAway, event.NewError(event.CodeFull, "full", "", nil), event.NewError(event.CodeTimeout, "no answer", "", nil), fmt.Errorf("append: %w", context.DeadlineExceeded)} {
		synctest.Test(t, func(t *testing.T) {
			r, gone := awayRig(10_000, 64<<20, err)
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
				t.Errorf("while away: %+v", s)
			}
			h := r.health()
			if h.Component != "capture" || h.Status != health.Degraded || h.Hint == "" || h.Since.IsZero() {
				t.Errorf("%+v", h)
			}
			if err == errAway && (!strings.Contains(h.Message, "the disk is full") || h.Hint != "free disk space") {
				t.Errorf("%+v does not say why", h)
			}
			if r.j.tried() > 30*60+20 {
				t.Errorf("%d tries in half an hour", r.j.tried())
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

// TestAwaySteps fills the memory for waiting calls: content goes first, then
// calls; and all of it comes back.
func TestAwaySteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 1 << 20
		r, gone := awayRig(10_000, limit, errAway)
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
			t.Error("content is not kept again")
		}
		if err := r.close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

// TestAwayCount bounds the calls that wait by their number.
func TestAwayCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, gone := awayRig(100, 64<<20, errAway)
		gone.Store(true)
		for n := range 150 {
			r.offer(finished(n))
			time.Sleep(lingerFor)
		}
		synctest.Wait()
		if s := r.stats(); s.QueueDepth > 110 || s.Dropped[dropQueueFull] < 40 || s.Step != StepDropping {
			t.Errorf("%+v", s)
		}
		// A stop does not wait for a journal that is away for longer than it may.
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

// TestAwayRefusesOne has a bad event among those that wait.
func TestAwayRefusesOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := new(atomic.Bool)
		gone.Store(true)
		r := newCaptureRig(100, 64<<20, 1, func(_ context.Context, _ int, events []*event.Event) error {
			if gone.Load() {
				return errAway
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
