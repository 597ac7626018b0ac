package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/config"
	"github.com/hedgerow/hedgerow/server/internal/health"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/supervise"
)

// Waits of a start.
const (
	stepDeadline  = 30 * time.Second // for one step
	stepSlow      = 2 * time.Second  // after which the log names the pending step
	startPatience = 20 * time.Second // for all steps: then the open parts serve, and the rest follows
	servePatience = 5 * time.Second  // for the settings: then the gateway serves without
)

// step is one part of a start. If it is repeated after an error, it must not
// open anything twice.
type step struct {
	name string // the opened part, for the log: "the journal"
	open func(*App, context.Context) error
}

// serverSteps are the steps of a server that need the disk, in order. Those before
// them (listener, gateway, ingest, otlp) do not.
func serverSteps(c *config.Config) []step {
	steps := []step{{"the journal", (*App).openJournal}}
	if c.NATSURL != "" {
		steps = append(steps, step{"the store's role", (*App).openLease})
	}
	return append(steps, []step{
		{"the settings", (*App).openSettings},
		{"the prompts", (*App).openPrompts},
		{"the first project", (*App).openFirstProject},
		{"the batches", (*App).openSubmissions},
		{"the delivery", (*App).openDelivery},
		{"the intake", (*App).openIntake}, // from here on events are taken
		{"the gateway", (*App).openGateway},
		{"checks and datasets", (*App).openChecks},
		{"the store", (*App).openStore},
		{"experiments", (*App).openExperiments},
		{"bills", (*App).openBills},
		{"the sinks", (*App).openSinks},
		{"runs of checks and datasets", (*App).openEvals},
		{"pages and API", (*App).openPages},
	}...)
}

// start opens everything and serves. It returns once all is open or, if
// something is broken that can recover, once the gateway serves: the rest
// follows in the background. It returns an error for a wrong setting, an
// address in use, and a folder in use or that can never be used, and closes
// what it had opened. first is called before anything else.
func start(ctx context.Context, cfg *config.Config, first ...func(*App)) (*App, error) {
	a := newApp(cfg)
	for _, f := range first {
		f(a)
	}
	for _, f := range []func(*App, context.Context) error{(*App).checkFolder, (*App).openListener, (*App).openFolder, (*App).openTLS, (*App).openFiles, (*App).openConnections, (*App).openDisk, (*App).openPrices, (*App).openReceivers} {
		if err := f(a, ctx); err != nil {
			a.Close(context.WithoutCancel(ctx))
			return nil, err
		}
	}
	o := a.open(serverSteps(cfg))
	serveEarly := time.NewTimer(servePatience)
	defer serveEarly.Stop()
	patience := time.NewTimer(startPatience)
	defer patience.Stop()
	for waiting := true; waiting; {
		select {
		case err := <-o.wrong:
			a.Close(context.WithoutCancel(ctx))
			return nil, err
		case <-o.task.Done():
			waiting = false
		case <-o.broken:
			waiting = false
		case <-ctx.Done():
			waiting = false
		case <-serveEarly.C:
			a.serve()
		case <-patience.C:
			a.log.Warn("startup is slow: components that are ready serve requests, the others follow", "now", o.health().Message)
			waiting = false
		}
	}
	o.finish()
	a.serve()
	return a, nil
}

// Simulated is start with pages that state that the data are simulated. It
// waits until all is open.
func Simulated(ctx context.Context, cfg *config.Config) (*App, error) {
	a, err := start(ctx, cfg, func(a *App) { a.simulated = true })
	if err != nil {
		return nil, err
	}
	for _, done := range []<-chan struct{}{a.opened.Done(), a.known} {
		select {
		case <-done:
		case <-ctx.Done():
			a.Close(context.WithoutCancel(ctx))
			return nil, ctx.Err()
		}
	}
	return a, nil
}

// FirstStart is the first project, with its keys where this start made it. It must
// not be called before the project is known.
func (a *App) FirstStart() project.FirstStart { return *a.firstStart.Load() }

// Health returns the reports of all components, by name.
func (a *App) Health() []health.Report { return a.reports.all() }

// Logger is the log of the process.
func (a *App) Logger() *slog.Logger { return a.log }

// Address is the address that the server listens on.
func (a *App) Address() string { return displayAddr(a.listener.Addr().String()) }

// Offline opens the data folder for a subcommand: settings, journal and prices
// over the folder's socket, without network and sinks. Unlike a server it does
// not wait for broken parts to recover.
func Offline(ctx context.Context, cfg *config.Config) (*App, error) {
	a := newApp(cfg)
	for _, f := range []func(*App, context.Context) error{(*App).openFolder, (*App).openJournal, (*App).openSettings, (*App).openPrompts, (*App).openFirstProject, (*App).openPipeline, (*App).openChecks, (*App).openPrices, (*App).openStore, (*App).openExperiments, (*App).openBills, (*App).openPages} {
		if err := f(a, ctx); err != nil {
			a.Close(context.WithoutCancel(ctx))
			return nil, config.DataError(err)
		}
	}
	return a, nil
}

// opening is a start in progress.
type opening struct {
	a     *App
	steps []step
	next  int
	task  *supervise.Task
	at    atomic.Pointer[stepAt]

	wrong  chan error    // the error that ends the process
	broken chan struct{} // closed at the first failure that can repair itself
	once   sync.Once

	mu      sync.Mutex
	settled bool // wrong has no reader any more
}

// open works through steps in the background. One that fails is tried again
// until it works, or is reported to wrong where that is of no use.
func (a *App) open(steps []step) *opening {
	o := &opening{a: a, steps: steps, wrong: make(chan error, 1), broken: make(chan struct{})}
	o.task = supervise.Start(supervise.Loop{Name: "start", Once: true, Run: o.run}, supervise.Options{Logger: a.log, MaxBackoff: time.Second})
	a.reports.add(o.health)
	a.onClose(closeStart, "start", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, closeSlack)
		defer cancel()
		return o.task.Stop(ctx)
	})
	a.opened = o.task
	return o
}

// health is the state of the start. A step that has passed its deadline counts
// as failed, although it may still end.
func (o *opening) health() health.Report {
	r := o.task.Health()
	at := o.at.Load()
	if r.Status != health.Starting || at == nil {
		return r
	}
	r.Message, r.Hint = "hedgerow is opening "+at.name, "see hedgerow's log if this persists"
	if time.Since(at.since) > stepDeadline {
		r.Status, r.Since = health.Failed, at.since.Add(stepDeadline)
		r.Message = fmt.Sprintf("opening %s has taken more than %v", at.name, stepDeadline)
		r.Hint = "calls are still forwarded; check the disk and hedgerow's log, and restart hedgerow once the cause is fixed"
	}
	return r
}

// stepAt is a step in progress.
type stepAt struct {
	name  string
	since time.Time
}

func (o *opening) run(ctx context.Context) error {
	for ; o.next < len(o.steps); o.next++ {
		o.at.Store(&stepAt{o.steps[o.next].name, time.Now()})
		err := o.a.step(ctx, o.steps[o.next])
		if err == nil {
			continue
		}
		if ctx.Err() == nil && o.end(err) {
			<-ctx.Done() // the process ends
			return nil
		}
		o.once.Do(func() { close(o.broken) })
		return err
	}
	return nil
}

// end passes on an error that must end the process, unless it is already
// serving.
func (o *opening) end(err error) bool {
	if exit := (*config.ExitError)(nil); !errors.As(err, &exit) {
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.settled {
		return false
	}
	o.wrong <- err
	return true
}

// settle ends the time in which an error ends the process.
func (o *opening) finish() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.settled = true
}

// step runs one step within its deadline, and logs it. If the step ignores the
// deadline, that is logged, and step waits: it may be using the folder.
func (a *App) step(ctx context.Context, s step) error {
	begin := time.Now()
	a.log.Debug("opening " + s.name)
	ctx, cancel := context.WithTimeout(ctx, stepDeadline)
	defer cancel()
	slow := time.AfterFunc(stepSlow, func() {
		a.log.Info("opening "+s.name+" takes a while", "deadline", stepDeadline)
	})
	late := time.AfterFunc(stepDeadline+time.Second, func() {
		a.log.Error("opening "+s.name+" does not end: the gateway serves without it", "part", "start", "waited", stepDeadline)
	})
	err := supervise.Catch(func() error { return s.open(a, ctx) })
	slow.Stop()
	late.Stop()
	took := time.Since(begin).Round(time.Millisecond)
	if err != nil {
		a.log.Debug("opening "+s.name+" failed", "took", took, "err", err)
		if exit := (*config.ExitError)(nil); errors.As(err, &exit) {
			return err
		}
		if e := event.AsError(err); e.Code == event.CodeInternal {
			return event.NewError(event.CodeUnavailable, "opening "+s.name+" failed", "hedgerow retries automatically; if this persists, see hedgerow's log", err)
		}
		return err
	}
	a.log.Info("opened "+s.name, "took", took)
	return nil
}

// errNotOpen is returned for a part that is not open yet.
func errNotOpen(what string) error {
	return event.NewError(event.CodeUnavailable, fmt.Sprintf("%s is not available at the moment", what), "try again shortly; see hedgerow's log and /readyz for the cause", nil)
}
