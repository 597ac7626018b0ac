package app

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/config"
	"github.com/hedgerow/hedgerow/server/internal/health"
)

// TestOpening opens steps that fail for a while: those before are not done again,
// those after follow.
func TestOpening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp(&config.Config{LogLevel: "error"})
		var done []string
		var mended atomic.Bool
		steps := []step{
			{"one", func(*App, context.Context) error { done = append(done, "one"); return nil }},
			{"two", func(*App, context.Context) error {
				if !mended.Load() {
					return event.NewError(event.CodeUnavailable, "the disk is full", "free space", nil)
				}
				done = append(done, "two")
				return nil
			}},
			{"three", func(*App, context.Context) error {
				if len(done) == 2 {
					done = append(done, "panic")
					panic("no")
				}
				done = append(done, "three")
				return nil
			}},
		}
		o := a.open(steps)
		<-o.broken
		o.finish()
		synctest.Wait()
		if r := a.reports.all()[0]; r.Component != "start" || r.Status != health.Failed || r.Message != "the disk is full" || r.Hint != "free space" {
			t.Errorf("%+v", r)
		}
		time.Sleep(time.Minute)
		mended.Store(true)
		freed := time.Now()
		<-o.task.Done()
		if took := time.Since(freed); took > 2*time.Second {
			t.Errorf("the start went on after %v", took)
		}
		if got := strings.Join(done, " "); got != "one two panic three" {
			t.Errorf("done: %s", got)
		}
		if r := a.reports.all()[0]; r.Status != health.OK {
			t.Errorf("%+v", r)
		}
	})
}

// TestOpeningWrong has a step find a wrong setting: while the process starts, that
// ends it; once it serves, it does not.
func TestOpeningWrong(t *testing.T) {
	wrong := config.Invalid("roles: wrong", "leave it out", nil)
	for _, settled := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			a := newApp(&config.Config{LogLevel: "error"})
			begin := make(chan struct{})
			o := a.open([]step{{"x", func(*App, context.Context) error { <-begin; return wrong }}})
			if settled {
				o.finish()
			}
			close(begin)
			select {
			case err := <-o.wrong:
				if settled || !errors.Is(err, wrong) {
					t.Errorf("settled %v: the process ends with %v", settled, err)
				}
			case <-o.broken:
				if !settled {
					t.Error("a wrong setting does not end the process")
				}
			}
			if err := o.task.Stop(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestStepDeadline has steps that hang: one respects its deadline, one does not.
func TestStepDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp(&config.Config{LogLevel: "error"})
		begin := time.Now()
		err := a.step(t.Context(), step{"the settings", func(_ *App, ctx context.Context) error { <-ctx.Done(); return ctx.Err() }})
		if e := event.AsError(err); time.Since(begin) != stepDeadline || e.Code != event.CodeUnavailable || e.Message != "opening the settings failed" || e.Hint == "" {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
		deaf := make(chan struct{})
		o := a.open([]step{{"the store", func(*App, context.Context) error { <-deaf; return nil }}})
		time.Sleep(stepDeadline + 2*time.Second)
		r := a.reports.all()[0]
		if r.Status != health.Failed || !strings.Contains(r.Message, "opening the store") || r.Hint == "" {
			t.Errorf("%+v", r)
		}
		close(deaf)
		<-o.task.Done()
		if r := a.reports.all()[0]; r.Status != health.OK {
			t.Errorf("%+v", r)
		}
	})
}

// TestClosePhases has parts that opened in one order close in another, and one
// that hangs keep none of the others from closing.
func TestClosePhases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp(&config.Config{LogLevel: "error", ShutdownGrace: time.Second})
		var closed []string
		add := func(at phase, name string) {
			a.onClose(at, name, func(context.Context) error { closed = append(closed, name); return nil })
		}
		add(closeFront, "listener")
		add(closeCalls, "gateway")
		add(closeData, "journal")
		add(closeSinks, "sink 1")
		add(closeSinks, "sink 2")
		release := make(chan struct{})
		a.onClose(closeCalls, "deaf", func(context.Context) error { <-release; return nil })
		add(closeFront, "server")
		a.onClose(closeFront, "panics", func(context.Context) error { panic("no") })
		a.Close(t.Context())
		if got := strings.Join(closed, ", "); got != "server, listener, gateway, sink 2, sink 1, journal" {
			t.Error(got)
		}
		close(release)
	})
}
