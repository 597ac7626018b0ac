package supervise

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/health"
)

func whole(d time.Duration) time.Duration { return d }

// TestRestarts has a loop fail in every way there is. It is started again each
// time, later and later, and reports it.
func TestRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var starts []time.Duration
		begin := time.Now()
		task := Start(Loop{Name: "roll-ups", Run: func(ctx context.Context) error {
			starts = append(starts, time.Since(begin))
			switch len(starts) {
			case 1:
				return errors.New("disk")
			case 2:
				panic("content of a prompt")
			case 3:
				return nil // although no one asked it to
			case 4, 5, 6, 7, 8:
				return event.NewError(event.CodeUnavailable, "the store does not answer", "free disk space", nil)
			}
			<-ctx.Done()
			return ctx.Err()
		}}, Options{Jitter: whole})
		want := []health.Report{
			{Component: "roll-ups", Status: health.Failed, Message: "roll-ups failed", Hint: "hedgerow restarts it automatically; if this persists, see hedgerow's log"},
			{Component: "roll-ups", Status: health.Failed, Message: "roll-ups failed", Hint: "hedgerow restarts it automatically; if this persists, see hedgerow's log", Restarts: 1},
			{Component: "roll-ups", Status: health.Failed, Message: "roll-ups failed", Hint: "hedgerow restarts it automatically; if this persists, see hedgerow's log", Restarts: 2},
			{Component: "roll-ups", Status: health.Failed, Message: "the store does not answer", Hint: "free disk space", Restarts: 3},
		}
		for i, wait := range []time.Duration{100, 200, 400, 800, 1600, 3200, 4000, 4000} {
			synctest.Wait()
			if got := task.Health(); i < len(want) {
				if got.Since = (time.Time{}); got != want[i] {
					t.Errorf("after failure %d: %+v, want %+v", i+1, got, want[i])
				}
			}
			time.Sleep(wait * time.Millisecond)
		}
		synctest.Wait()
		if got := task.Health(); got.Status != health.Starting || got.Restarts != 8 {
			t.Errorf("right after the last start: %+v", got)
		}
		time.Sleep(DefaultResetAfter)
		synctest.Wait()
		if got := task.Health(); got.Status != health.OK || got.Message != "" || got.Hint != "" || got.Restarts != 8 {
			t.Errorf("once settled: %+v", got)
		}
		var at time.Duration
		for i, wait := range []time.Duration{0, 100, 200, 400, 800, 1600, 3200, 4000, 4000} {
			if at += wait * time.Millisecond; starts[i] != at {
				t.Errorf("start %d came after %v, want %v", i+1, starts[i], at)
			}
		}
		if err := task.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestBackoffBeginsAnew has a loop fail after it has worked for a while.
func TestBackoffBeginsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var last time.Time
		var waits []time.Duration
		task := Start(Loop{Name: "x", Run: func(ctx context.Context) error {
			if !last.IsZero() {
				waits = append(waits, time.Since(last))
			}
			if len(waits) == 3 {
				time.Sleep(DefaultResetAfter)
			}
			last = time.Now()
			return errors.New("no")
		}}, Options{Jitter: whole})
		time.Sleep(3 * time.Second)
		_ = task.Stop(t.Context())
		if got := fmt.Sprint(waits[:4]); got != "[100ms 200ms 400ms 100ms]" {
			t.Error(got)
		}
	})
}

func TestJitter(t *testing.T) {
	j := Options{}.withDefaults().Jitter
	seen := make(map[time.Duration]bool)
	for range 1000 {
		d := j(time.Second)
		if d < time.Second/2 || d > time.Second {
			t.Fatalf("%v is not between half and all of a second", d)
		}
		seen[d] = true
	}
	if len(seen) < 100 {
		t.Errorf("only %d different waits of 1,000", len(seen))
	}
}

// TestOnce has work with an end fail twice, and then be done.
func TestOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		task := Start(Loop{Name: "first start", Once: true, Run: func(context.Context) error {
			if n++; n < 3 {
				return errors.New("no")
			}
			return nil
		}}, Options{})
		<-task.Done()
		if got := task.Health(); n != 3 || got.Status != health.OK || got.Restarts != 2 {
			t.Errorf("%d runs, %+v", n, got)
		}
	})
}

// TestStop ends a loop that waits to be started again, one that runs, and one
// that ignores its context.
func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		waits := Start(Loop{Name: "waits", Run: func(context.Context) error { return errors.New("no") }}, Options{MinBackoff: time.Hour, MaxBackoff: time.Hour})
		runs := Start(Loop{Name: "runs", Run: func(ctx context.Context) error { <-ctx.Done(); time.Sleep(time.Second); return nil }}, Options{})
		release := make(chan struct{})
		deaf := Start(Loop{Name: "deaf", Run: func(context.Context) error { <-release; return nil }}, Options{})
		synctest.Wait()
		if err := waits.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		begin := time.Now()
		if err := runs.Stop(t.Context()); err != nil || time.Since(begin) != time.Second {
			t.Error(err, time.Since(begin))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := deaf.Stop(ctx); err == nil {
			t.Error("a loop that runs on counts as stopped")
		}
		close(release)
		if err := deaf.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestLog has one line for a failure that continues, and nothing of a panic's
// value, which can be content.
func TestLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		task := Start(Loop{Name: "x", Run: func(context.Context) error { panic("content of a prompt") }}, Options{Logger: slog.New(slog.NewTextHandler(&b, nil))})
		time.Sleep(logEvery - time.Second)
		_ = task.Stop(t.Context())
		got := b.String()
		if n := strings.Count(got, "component failed, restarting"); n != 1 {
			t.Errorf("%d lines:\n%s", n, got)
		}
		if strings.Contains(got, "content of a prompt") || !strings.Contains(got, "panic: a value of type string") || !strings.Contains(got, "supervise_test.go") {
			t.Error(got)
		}
	})
}

func TestCatch(t *testing.T) {
	if err := Catch(func() error { return nil }); err != nil {
		t.Error(err)
	}
	no := errors.New("no")
	if err := Catch(func() error { return no }); !errors.Is(err, no) {
		t.Error(err)
	}
	//lint:ignore SA5000 the panic is what is tested
	err := Catch(func() error { var m map[string]int; m["x"] = 1; return nil })
	if err == nil || err.Error() != "panic: assignment to entry in nil map" {
		t.Error(err)
	}
}
