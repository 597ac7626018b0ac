package reprice

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/price"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/supervise"
)

// Bucket is the key-value bucket with the run that is to be applied.
const Bucket = "hedgerow_repricing"

// Calls are the recorded calls.
type Calls interface {
	CountPricedCalls(ctx context.Context, project string, q query.PricedCalls) (int64, error)
	PricedCallsAfter(ctx context.Context, project string, q query.PricedCalls, after time.Time, least int) ([]*event.Event, time.Time, error)
}

// Journal is where records and corrections are appended.
type Journal interface {
	Append(ctx context.Context, events ...*event.Event) error
}

// Store reports the progress of the store.
type Store interface {
	// Waiting returns how many events of the journal the store has not stored yet.
	Waiting(ctx context.Context) (uint64, error)
	// Stale returns how many rolled-up ranges of events are to be rolled up again.
	Stale(ctx context.Context) (int, error)
	// Sync returns when all that the journal has now is stored.
	Sync(ctx context.Context) error
}

// Records keeps the run that is to be applied: one at a time.
type Records interface {
	// Load returns nil if there is none.
	Load(ctx context.Context) ([]byte, error)
	// Save replaces it; nil removes it.
	Save(ctx context.Context, record []byte) error
}

// Config is what a [Runner] works with. All of it is required, except where a field
// says otherwise.
type Config struct {
	Prices  func() *price.Table
	Calls   Calls
	Journal Journal
	Store   Store
	Records Records
	Audit   project.Auditor  // nil writes no entries
	Logger  *slog.Logger     // nil: no log
	Now     func() time.Time // nil: time.Now
	Rest    time.Duration    // longest rest between two batches. Defaults to 200 ms; below 0 is none
	Batch   int              // calls of a batch. Defaults to 1000
}

// Status is the state of a run.
type Status string

// The states of a run.
const (
	Waiting  Status = "waiting" // for the server to be ready
	Running  Status = "running"
	Done     Status = "done"
	Canceled Status = "canceled" // what it had changed by then stays changed
	Failed   Status = "failed"   // the same
)

// Run is a run and its result so far.
type Run struct {
	Request
	ID      string    `json:"id"` // cost.repricing of the events that it has changed
	Status  Status    `json:"status"`
	Error   string    `json:"error,omitempty"` // of a failed run
	Started time.Time `json:"started_at"`
	Ended   time.Time `json:"ended_at,omitzero"`
	Total   int64     `json:"calls"` // that the request selects
	Done    int64     `json:"calls_done"`
	Sum     Row       `json:"sum"`
	Rows    []Row     `json:"rows"` // by day, provider and model, once the run has ended
	Sent    int       `json:"posthog_events"`
}

// Active reports whether the run has not ended.
func (r *Run) Active() bool { return r.Status == Waiting || r.Status == Running }

// saved is the record of a run that is to be applied.
type saved struct {
	ID      string    `json:"id"`
	Project string    `json:"project"`
	Request Request   `json:"request"`
	Started time.Time `json:"started"`

	// Canceled says that the run changes nothing more: what it has changed is counted.
	Canceled bool `json:"canceled,omitempty"`

	// Set once all calls are done, so that what is sent does not depend on how often
	// the process is killed while it sends.
	Ended       bool         `json:"ended,omitempty"`
	Corrections []correction `json:"corrections,omitempty"`
}

// Runner executes runs, one at a time. It is safe for concurrent use. Start,
// Latest and Cancel of a nil Runner return an error that no server runs.
type Runner struct {
	c      Config
	log    *slog.Logger
	wanted chan struct{} // signals a job

	mu      sync.Mutex
	working bool            // Run runs
	ready   chan struct{}   // closed while working
	job     *job            // running, or about to
	runs    map[string]*Run // the latest of each project; Rows are replaced, never changed
}

// job is a run in progress.
type job struct {
	saved    // Canceled is protected by Runner.mu
	calls    query.PricedCalls
	counting bool            // it was canceled before its process was killed
	ctx      context.Context // ends with errCanceled
	cancel   context.CancelCauseFunc
}

var errCanceled = errors.New("canceled")

// NewRunner returns a Runner; call its Run.
func NewRunner(c Config) *Runner {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Rest == 0 {
		c.Rest = 200 * time.Millisecond
	}
	if c.Batch <= 0 {
		c.Batch = 1000
	}
	return &Runner{c: c, log: c.Logger, wanted: make(chan struct{}, 1), ready: make(chan struct{}), runs: make(map[string]*Run)}
}

// Start begins a run in the background. ctx has the actor of the audit log's entry,
// which a run that applies gets. There is one run at a time: another one is an error of
// code [event.CodeConflict].
func (r *Runner) Start(ctx context.Context, projectID string, q Request) (Run, error) {
	if r == nil {
		return Run{}, errNoServer()
	}
	calls, err := q.Calls()
	if err != nil {
		return Run{}, err
	}
	q.Model = calls.Model
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case !r.working:
		return Run{}, event.NewError(event.CodeUnavailable, "no run can start at the moment: the store is not open in this process", "try again shortly; /readyz shows what the server is waiting for", nil)
	case r.job != nil:
		return Run{}, event.NewError(event.CodeConflict, "another run is in progress", "wait for it to end, or cancel it", nil)
	}
	j := newJob(saved{ID: "rp_" + event.NewID(), Project: projectID, Request: q, Started: r.c.Now().UTC()}, calls)
	if q.Apply {
		if err := r.save(ctx, &j.saved); err != nil {
			return Run{}, err
		}
		r.c.Audit.Note(ctx, r.log, project.AuditEntry{Action: "prices.reprice", ProjectID: projectID, Target: j.ID, Detail: q.detail()})
	}
	r.begin(j)
	return *r.runs[projectID], nil
}

// detail is a request in the audit log.
func (q *Request) detail() string {
	s := q.From + " to " + q.To
	if q.Model != "" {
		s += ", model " + q.Model
	}
	if q.Reported {
		s += ", reported costs included"
	}
	if q.PostHog {
		s += ", differences sent to PostHog"
	}
	return s
}

func newJob(s saved, calls query.PricedCalls) *job {
	ctx, cancel := context.WithCancelCause(context.Background())
	return &job{saved: s, calls: calls, counting: s.Canceled, ctx: ctx, cancel: cancel}
}

// begin makes a job the current one. r.mu is locked.
func (r *Runner) begin(j *job) {
	r.job = j
	r.runs[j.Project] = &Run{Request: j.Request, ID: j.ID, Status: Waiting, Started: j.Started, Rows: []Row{}, Sum: Row{Reasons: []Reason{}}}
	select {
	case r.wanted <- struct{}{}:
	default:
	}
}

// Current returns the latest run of a project in this process, or the one that it
// continues. ok is false if there was none.
func (r *Runner) Current(projectID string) (run Run, ok bool) {
	if r == nil {
		return Run{}, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if latest := r.runs[projectID]; latest != nil {
		return *latest, true
	}
	return Run{}, false
}

// Latest is [Runner.Current] with an error where there was no run.
func (r *Runner) Latest(projectID string) (Run, error) {
	if r == nil {
		return Run{}, errNoServer()
	}
	run, ok := r.Current(projectID)
	if !ok {
		return run, event.NewError(event.CodeNotFound, "costs have not been recalculated since the server started", "start a run with a range of days", nil)
	}
	return run, nil
}

func errNoServer() error {
	return event.NewError(event.CodeUnavailable, "no server is running on this data folder", "start hedgerow serve, and try again", nil)
}

// Cancel ends the current run of a project. Changes already made are kept.
func (r *Runner) Cancel(ctx context.Context, projectID string) (Run, error) {
	if r == nil {
		return Run{}, errNoServer()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.job == nil || r.job.Project != projectID {
		return Run{}, event.NewError(event.CodeNotFound, "no run is in progress", "the latest one has ended: see the Prices page, or GET it", nil)
	}
	if r.job.Request.Apply && !r.job.Canceled {
		canceled := r.job.saved
		canceled.Canceled = true
		if err := r.save(ctx, &canceled); err != nil {
			return Run{}, err // the next process would continue it
		}
		r.job.Canceled = true
		r.c.Audit.Note(ctx, r.log, project.AuditEntry{Action: "prices.reprice_cancel", ProjectID: projectID, Target: r.job.ID})
	}
	r.job.cancel(errCanceled)
	return *r.runs[projectID], nil
}

// Await returns once runs can start, or when ctx ends.
func (r *Runner) Await(ctx context.Context) {
	r.mu.Lock()
	ready := r.ready
	r.mu.Unlock()
	select {
	case <-ready:
	case <-ctx.Done():
	}
}

// Run executes runs until ctx ends: first the one that an earlier process has
// not finished.
func (r *Runner) Run(ctx context.Context) error {
	defer r.stop()
	if err := r.resume(ctx); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.wanted:
		}
		r.mu.Lock()
		j := r.job
		r.mu.Unlock()
		if j == nil {
			continue
		}
		if err := r.work(ctx, j); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

func (r *Runner) resume(ctx context.Context) error {
	b, err := r.c.Records.Load(ctx)
	if err != nil {
		return fmt.Errorf("read the run to be continued: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.working, r.job = true, nil
	close(r.ready)
	if b == nil {
		return nil
	}
	var s saved
	if err := json.Unmarshal(b, &s); err != nil {
		r.log.Error("the record of a repricing cannot be read: it is not resumed", "err", err)
		return r.c.Records.Save(ctx, nil)
	}
	calls, err := s.Request.Calls()
	if err != nil {
		r.log.Error("a repricing cannot be resumed", "run", s.ID, "err", err)
		return r.c.Records.Save(ctx, nil)
	}
	if s.Canceled && !s.Request.PostHog {
		return r.c.Records.Save(ctx, nil)
	}
	r.log.Info("a repricing is resumed", "run", s.ID, "project", s.Project)
	r.begin(newJob(s, calls))
	return nil
}

// stop ends what is only in memory.
func (r *Runner) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.working {
		r.working, r.ready = false, make(chan struct{})
	}
	if r.job != nil {
		run := r.runs[r.job.Project]
		run.Status, run.Error = Failed, "the server was stopped; a run with apply resumes at the next start"
		r.job = nil
	}
}

// change changes the run of a job.
func (r *Runner) change(j *job, f func(*Run)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(r.runs[j.Project])
}

// work executes a job. An error is one of its record; errors of the run itself
// are in the run. It returns nil early when ctx ends.
func (r *Runner) work(ctx context.Context, j *job) error {
	run, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(j.ctx, func() { cancel(errCanceled) })()
	r.change(j, func(run *Run) { run.Status = Running })

	sums := newLedger()
	var err error
	if !j.Ended {
		err = r.reprice(run, j, sums)
	}
	if ctx.Err() != nil {
		return nil // the next process continues it
	}
	if j.Request.Apply {
		// What a canceled run has changed is sent, too.
		ended := r.finish(ctx, j, sums)
		if ctx.Err() != nil {
			return nil
		}
		if serr := r.c.Records.Save(ctx, nil); serr != nil {
			return fmt.Errorf("remove the record of a run: %w", serr)
		}
		err = errors.Join(err, ended)
	}
	now := r.c.Now().UTC()
	r.change(j, func(run *Run) {
		run.Ended, run.Status = now, Done
		run.Rows, run.Sum = sums.results(), sums.sum.result()
		switch {
		case errors.Is(err, errCanceled), err != nil && j.ctx.Err() != nil, j.counting:
			run.Status = Canceled
		case err != nil:
			run.Status, run.Error = Failed, event.AsError(err).Message
			r.log.Error("a repricing has failed", "run", j.ID, "project", j.Project, "err", err)
		}
		if j.Request.Apply {
			r.log.Info("costs were recalculated", "run", j.ID, "project", j.Project, "status", run.Status, "calls", run.Done, "changed", run.Sum.Changed)
		}
	})
	r.mu.Lock()
	r.job = nil
	r.mu.Unlock()
	return nil
}

// reprice processes the calls.
func (r *Runner) reprice(ctx context.Context, j *job, sums *ledger) error {
	prices := r.c.Prices()
	if j.Request.Apply { // what the run appended before its process was killed
		if err := r.until(ctx, func() error { return r.c.Store.Sync(ctx) }); err != nil {
			return err
		}
	}
	var total int64
	if err := r.until(ctx, func() (err error) {
		total, err = r.c.Calls.CountPricedCalls(ctx, j.Project, j.calls)
		return err
	}); err != nil {
		return err
	}
	r.change(j, func(run *Run) { run.Total = total })
	var after time.Time
	var done int64
	for {
		begin := time.Now()
		var calls []*event.Event
		var reached time.Time
		if err := r.until(ctx, func() (err error) {
			calls, reached, err = r.c.Calls.PricedCallsAfter(ctx, j.Project, j.calls, after, r.c.Batch)
			return err
		}); err != nil {
			return err
		}
		if len(calls) == 0 {
			return nil
		}
		var records []*event.Event
		for _, e := range calls {
			if rec := r.price(prices, j, e, sums); rec != nil {
				records = append(records, rec)
			}
		}
		for len(records) > 0 && j.Request.Apply {
			n := min(len(records), r.c.Batch)
			if err := r.append(ctx, records[:n]); err != nil {
				return err
			}
			records = records[n:]
		}
		after, done = reached, done+int64(len(calls))
		r.change(j, func(run *Run) { run.Done, run.Total, run.Sum = done, max(total, done), sums.sum.result() })
		if err := rest(ctx, min(time.Since(begin), r.c.Rest)); err != nil {
			return err
		}
	}
}

// price prices a call again, counts it, and returns the record for the store, or nil.
func (r *Runner) price(prices *price.Table, j *job, e *event.Event, sums *ledger) *event.Event {
	before := e.Cost.Total
	again := func(e *event.Event) (a price.Repricing) {
		was := *e
		if err := supervise.Catch(func() error { a = prices.Reprice(e, j.Request.Reported); return nil }); err != nil {
			r.log.Error("a call could not be repriced; its cost is kept", "uuid", e.UUID, "project", e.ProjectID, "err", err)
			*e, a = was, price.Repricing{Kept: failedReason}
		}
		return a
	}
	if j.Request.Apply && e.Cost.Repricing == j.ID { // by this run, before it was interrupted
		a := again(e.Clone())
		a.Changed = true
		if e.Cost.Total.Known {
			a.Unknown = ""
		}
		sums.add(e, e.Cost.Before, a)
		return nil
	}
	if j.counting {
		return nil
	}
	a := again(e)
	sums.add(e, before, a)
	if !a.Changed {
		return nil
	}
	e.Cost.Before, e.Cost.Repricing = before, j.ID
	return record(e, j.ID)
}

// Limits of what a run leaves to be done after its records.
const (
	maxWaiting = 2000            // events that the store has not stored
	maxStale   = 16              // ranges to be rolled up again; at twice as many the store discards all roll-ups
	staleWait  = 5 * time.Second // for them: roll-ups only make questions faster
	pollWait   = 20 * time.Millisecond
	retryWait  = time.Second // after an error
)

// append appends records once there is room for them.
func (r *Runner) append(ctx context.Context, records []*event.Event) error {
	if err := r.until(ctx, func() error { return r.c.Journal.Append(ctx, records...) }); err != nil {
		return err
	}
	for begin := time.Now(); ; {
		var waiting uint64
		var stale int
		if err := r.until(ctx, func() (err error) {
			if waiting, err = r.c.Store.Waiting(ctx); err == nil {
				stale, err = r.c.Store.Stale(ctx)
			}
			return err
		}); err != nil {
			return err
		}
		if waiting <= maxWaiting && (stale <= maxStale || time.Since(begin) > staleWait) {
			return nil
		}
		if err := rest(ctx, pollWait); err != nil {
			return err
		}
	}
}

// finish waits until the store has all records of a run, and sends the corrections.
func (r *Runner) finish(ctx context.Context, j *job, sums *ledger) error {
	if err := r.until(ctx, func() error { return r.c.Store.Sync(ctx) }); err != nil || !j.Request.PostHog {
		return err
	}
	if !j.Ended {
		r.mu.Lock()
		j.Ended, j.Corrections = true, sums.corrections()
		s := j.saved
		r.mu.Unlock()
		if err := r.until(ctx, func() error { return r.save(ctx, &s) }); err != nil {
			return err
		}
	}
	for i := range j.Corrections {
		if err := r.until(ctx, func() error { return r.c.Journal.Append(ctx, j.Corrections[i].event(j.Project, j.ID)) }); err != nil {
			return err
		}
	}
	r.change(j, func(run *Run) { run.Sent = len(j.Corrections) })
	return nil
}

func (r *Runner) save(ctx context.Context, s *saved) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return r.c.Records.Save(ctx, b)
}

// until calls f until it succeeds, since journal and store come back on their own. An
// error that lasts is returned: of a request that is wrong.
func (r *Runner) until(ctx context.Context, f func() error) error {
	for {
		err := f()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		switch event.AsError(err).Code {
		case event.CodeUnavailable, event.CodeFull, event.CodeTimeout, event.CodeCanceled:
		default:
			return err
		}
		r.log.Warn("a repricing waits for journal and store", "err", err)
		if err := rest(ctx, retryWait); err != nil {
			return err
		}
	}
}

// rest waits, unless ctx ends.
func rest(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
