// Package supervise keeps the background loops of a process running: each is
// started, and started again with back-off when it fails or panics, until it is
// stopped. A loop that fails never ends the process.
package supervise

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/health"
)

// Defaults of [Options]. The longest wait is short enough for a loop to work
// again within 5 s of the end of what made it fail.
const (
	DefaultMinBackoff = 100 * time.Millisecond
	DefaultMaxBackoff = 4 * time.Second
	DefaultResetAfter = 2 * time.Second
)

// logEvery is how often the same failure of a loop is logged.
const logEvery = time.Minute

// Loop is work in the background.
type Loop struct {
	Name string // the component, as the log and [health.Report] name it

	// Run works until ctx ends and then returns nil. It is called again after
	// an error, a panic, or a return before ctx ends. It must not leave
	// goroutines behind when it returns.
	Run func(ctx context.Context) error

	// Once says that Run has an end: nil means that the work is done, also
	// before ctx ends.
	Once bool

	// Hint is what people can do while the loop fails and its error has no hint
	// of its own. Defaults to a sentence which says that it starts again on its
	// own.
	Hint string
}

// Options say how a loop is started again. The zero value is ready.
type Options struct {
	MinBackoff time.Duration // wait after the first failure, doubled with each further one. Defaults to DefaultFirst
	MaxBackoff time.Duration // bound of the wait. Defaults to DefaultLongest
	ResetAfter time.Duration // a loop that ran so long works again: its back-off starts over. Defaults to DefaultSettled
	Logger     *slog.Logger  // nil: no log
	// Jitter makes the wait of a back-off. Defaults to a random time between half
	// of it and all of it.
	Jitter func(time.Duration) time.Duration
}

func (o Options) withDefaults() Options {
	if o.MinBackoff <= 0 {
		o.MinBackoff = DefaultMinBackoff
	}
	if o.MaxBackoff <= 0 {
		o.MaxBackoff = DefaultMaxBackoff
	}
	if o.ResetAfter <= 0 {
		o.ResetAfter = DefaultResetAfter
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Jitter == nil {
		o.Jitter = func(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }
	}
	return o
}

// Task is a loop under supervision. Its methods may be called at the same time.
type Task struct {
	loop Loop
	o    Options
	stop context.CancelFunc
	done chan struct{}

	mu       sync.Mutex
	report   health.Report
	logged   string // the failure that was logged last
	loggedAt time.Time
}

// Start runs a loop until [Task.Stop].
func Start(l Loop, o Options) *Task {
	ctx, stop := context.WithCancel(context.Background())
	t := &Task{loop: l, o: o.withDefaults(), stop: stop, done: make(chan struct{})}
	status := health.OK
	if l.Once {
		status = health.Starting
	}
	t.report = health.Report{Component: l.Name, Status: status, Since: time.Now()}
	go t.supervise(ctx)
	return t
}

// Stop ends the loop and waits for it. When ctx ends first, Stop returns an
// error and the loop continues ending behind it. A second call waits too.
func (t *Task) Stop(ctx context.Context) error {
	t.stop()
	select {
	case <-t.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s did not stop in time", t.loop.Name)
	}
}

// Done is closed when the loop has ended permanently: it was stopped, or is a Once
// that is done.
func (t *Task) Done() <-chan struct{} { return t.done }

// Health reports the state of the loop. A loop that was started again is
// "starting" until it has run for Options.ResetAfter.
func (t *Task) Health() health.Report {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.report
}

// settled says that a loop which was started again works.
func (t *Task) settled() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r := &t.report; r.Status == health.Starting && !t.loop.Once {
		r.Status, r.Message, r.Hint, r.Since = health.OK, "", "", time.Now()
	}
}

func (t *Task) set(status health.Status, message, hint string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := &t.report
	if r.Status != status {
		r.Since = time.Now()
	}
	r.Status, r.Message, r.Hint = status, message, hint
}

func (t *Task) supervise(ctx context.Context) {
	defer close(t.done)
	for failures := 0; ; {
		began := time.Now()
		settled := time.AfterFunc(t.o.ResetAfter, t.settled)
		err := t.once(ctx)
		settled.Stop()
		if time.Since(began) >= t.o.ResetAfter {
			failures = 0
		}
		if err == nil && t.loop.Once {
			t.set(health.OK, "", "")
			return
		}
		if ctx.Err() != nil {
			if err != nil && !errors.Is(err, context.Canceled) {
				t.o.Logger.Warn("component stopped with an error", "part", t.loop.Name, "err", err)
			}
			return
		}
		if err == nil {
			err = errors.New("it stopped unexpectedly")
		}
		failures++
		t.failed(err, failures)
		select {
		case <-ctx.Done():
			return
		case <-time.After(t.o.Jitter(t.backoff(failures))):
		}
		t.mu.Lock()
		t.report.Restarts++
		if !t.loop.Once {
			t.report.Status, t.report.Since = health.Starting, time.Now()
		}
		t.mu.Unlock()
	}
}

// once runs the loop in its own context, so that nothing that it began outlives
// a failure.
func (t *Task) once(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	return Catch(func() error { return t.loop.Run(ctx) })
}

func (t *Task) backoff(failures int) time.Duration {
	if shift := failures - 1; shift < 16 {
		return min(t.o.MinBackoff<<shift, t.o.MaxBackoff)
	}
	return t.o.MaxBackoff
}

func (t *Task) failed(err error, failures int) {
	e := event.AsError(err)
	message, hint := e.Message, e.Hint
	if e.Code == event.CodeInternal { // its cause is for the log alone
		message, hint = t.loop.Name+" failed", ""
	}
	if hint == "" {
		hint = t.loop.Hint
	}
	if hint == "" {
		hint = "hedgerow restarts it automatically; if this persists, see hedgerow's log"
	}
	t.set(health.Failed, message, hint)

	t.mu.Lock()
	what := message // causes hold names of temporary files
	if e.Code == event.CodeInternal {
		what = err.Error()
	}
	same := t.logged == what && time.Since(t.loggedAt) < logEvery
	if !same {
		t.logged, t.loggedAt = what, time.Now()
	}
	t.mu.Unlock()
	if same {
		return
	}
	attrs := []any{"part", t.loop.Name, "err", err, "failures", failures}
	if p := (*PanicError)(nil); errors.As(err, &p) {
		attrs = append(attrs, "stack", string(p.Stack))
	}
	t.o.Logger.Error("component failed, restarting", attrs...)
}

// PanicError is a panic as an error. Error names what the runtime itself
// panicked with, and only the type of any other value: it could quote content.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string {
	if err, ok := e.Value.(interface {
		error
		RuntimeError()
	}); ok {
		return "panic: " + err.Error()
	}
	return fmt.Sprintf("panic: a value of type %T", e.Value)
}

// Catch calls f and returns its error, or a [*PanicError] where it panics. A
// goroutine that a loop starts needs it: only its own stack can recover it.
func Catch(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return f()
}
