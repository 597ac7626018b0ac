package eval

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/supervise"
)

// Appender appends the events of judgments: enrich, then the journal.
type Appender interface {
	// Append stores the events. It returns nil only when all are stored.
	Append(ctx context.Context, events ...*event.Event) error
}

// Queues is the manager's interface to the journal.
type Queues interface {
	// Open opens a durable cursor over a project's events; a new one begins with
	// the next event.
	Open(ctx context.Context, name, projectID string) (event.Queue, error)
	// Drop forgets it. That there is none is no error.
	Drop(ctx context.Context, name string) error
	// Names lists the cursors whose names have a prefix.
	Names(ctx context.Context, prefix string) ([]string, error)
}

// Names of the cursors: one for the checks that take microseconds, one for
// those that wait for a model, so that these do not delay the others.
const (
	prefixBuiltin = "eval-"
	prefixJudge   = "judge-"
)

const (
	batch       = 100
	batchWait   = 300 * time.Millisecond
	judgeTries  = 5                // then a generation stays unjudged
	judgesAtOne = 4                // generations at one time
	judgeTime   = 60 * time.Second // for one verdict
	retryFirst  = time.Second
	retryMost   = time.Minute
)

// Manager runs the checks of every project that has any: it opens the project's
// cursors when its first check is enabled, and drops them when its last one is not
// any more. Its fields must not be changed after Run.
type Manager struct {
	Registry   *Registry
	Runner     *Runner
	Append     Appender
	Queues     Queues
	Logger     *slog.Logger          // nil: none
	Registerer prometheus.Registerer // nil: no metrics

	log     *slog.Logger
	results *prometheus.CounterVec

	mu     sync.Mutex
	states map[string]*State // by check id
}

// State is how a check has been going since the start.
type State struct {
	Judged    int64     `json:"judged"`  // generations with a result
	Skipped   int64     `json:"skipped"` // without a result, because it did not apply or had no budget left
	Failed    int64     `json:"failed"`  // failed permanently
	Resting   bool      `json:"resting"` // a judge whose daily budget is used up
	Problem   string    `json:"problem"` // the last one; "" where all is well
	ProblemAt time.Time `json:"problem_at,omitzero"`
}

// State returns how a check has been going since the start.
func (m *Manager) State(checkID string) State {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.states[checkID]; s != nil {
		return *s
	}
	return State{}
}

func (m *Manager) note(c *Check, outcome string, f func(*State)) {
	if m.results != nil && outcome != "" {
		m.results.WithLabelValues(string(c.Kind), outcome).Inc()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.states[c.ID]
	if s == nil {
		s = new(State)
		m.states[c.ID] = s
	}
	f(s)
}

// Run works until ctx ends. A Manager runs once.
func (m *Manager) Run(ctx context.Context) error {
	if m.log = m.Logger; m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	m.mu.Lock()
	m.states = make(map[string]*State)
	m.mu.Unlock()
	if m.Registerer != nil {
		m.results = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hedgerow_eval_results_total",
			Help: "Checks that ran on generations, by kind and outcome: passed, failed, scored, skipped, gave_up."}, []string{"kind", "outcome"})
		if err := m.Registerer.Register(m.results); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
		defer m.Registerer.Unregister(m.results)
	}
	type worker struct {
		stop context.CancelFunc
		done chan struct{}
	}
	running := make(map[string]worker)
	defer func() {
		for _, w := range running {
			w.stop()
		}
		for _, w := range running {
			<-w.done
		}
	}()
	for {
		changed := m.Registry.Changed()
		wanted := make(map[string]string) // queue → project
		for _, c := range m.Registry.Checks("") {
			if c.Enabled {
				wanted[queueOf(&c)] = c.ProjectID
			}
		}
		for name, w := range running {
			if wanted[name] == "" {
				w.stop()
				<-w.done
				delete(running, name)
			}
		}
		m.dropOthers(ctx, wanted)
		for _, name := range slices.Sorted(maps.Keys(wanted)) {
			if _, ok := running[name]; ok {
				continue
			}
			run, stop := context.WithCancel(ctx)
			w := worker{stop, make(chan struct{})}
			running[name] = w
			go func() {
				defer close(w.done)
				for failures := 1; run.Err() == nil; failures++ {
					err := supervise.Catch(func() error { m.work(run, name, wanted[name]); return nil })
					if err == nil {
						return
					}
					m.log.Error("checks failed; restarting", "queue", name, "err", err)
					select {
					case <-run.Done():
					case <-time.After(backoff(failures)):
					}
				}
			}()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

func queueOf(c *Check) string {
	if c.Kind == KindJudge {
		return prefixJudge + c.ProjectID
	}
	return prefixBuiltin + c.ProjectID
}

// dropOthers deletes unused cursors: they would prevent the journal from
// deleting events.
func (m *Manager) dropOthers(ctx context.Context, wanted map[string]string) {
	for _, prefix := range []string{prefixBuiltin, prefixJudge} {
		names, err := m.Queues.Names(ctx, prefix)
		if err != nil {
			m.log.Warn("the cursors of checks cannot be listed", "err", err)
			continue
		}
		for _, name := range names {
			if wanted[name] != "" {
				continue
			}
			if err := m.Queues.Drop(ctx, name); err != nil {
				m.log.Warn("the cursor of checks that are off could not be dropped", "queue", name, "err", err)
			}
		}
	}
}

// work reads one cursor until ctx ends.
func (m *Manager) work(ctx context.Context, name, projectID string) {
	var q event.Queue
	judges := strings.HasPrefix(name, prefixJudge)
	var said verdicts
	for failures := 0; ctx.Err() == nil; {
		var err error
		var deliveries []event.Delivery
		if q == nil {
			q, err = m.Queues.Open(ctx, name, projectID)
		}
		if err == nil {
			deliveries, err = q.Fetch(ctx, batch, batchWait)
		}
		if len(deliveries) > 0 {
			if judges {
				m.judgeAll(ctx, projectID, deliveries, &said)
			} else {
				m.checkAll(ctx, projectID, deliveries)
			}
		}
		switch {
		case ctx.Err() != nil:
		case err != nil:
			failures++
			m.log.Warn("checks cannot read the journal; retrying", "queue", name, "err", err, "failures", failures)
			q = nil // it may have been dropped
			select {
			case <-ctx.Done():
			case <-time.After(backoff(failures)):
			}
		default:
			failures = 0
		}
	}
}

func backoff(attempt int) time.Duration {
	return min(retryFirst<<min(max(attempt, 1)-1, 10), retryMost)
}

// checks returns the checks of a project that a cursor serves.
func (m *Manager) checks(projectID string, judges bool) []Check {
	return slices.DeleteFunc(m.Registry.Checks(projectID), func(c Check) bool { return !c.Enabled || (c.Kind == KindJudge) != judges })
}

// checkAll runs the built-in checks on a batch, stores all results together,
// and then ends the deliveries: after a crash they are redelivered, with the
// same uuids.
func (m *Manager) checkAll(ctx context.Context, projectID string, deliveries []event.Delivery) {
	checks := m.checks(projectID, false)
	var events []*event.Event
	for _, d := range deliveries {
		for i := range checks {
			if c := &checks[i]; c.Wants(d.Event) {
				if e := m.one(ctx, c, d); e != nil {
					events = append(events, e)
				}
			}
		}
	}
	if len(events) > 0 {
		if err := m.Append.Append(ctx, events...); err != nil {
			m.log.Warn("the results of checks cannot be stored; retrying", "project", projectID, "results", len(events), "err", err)
			delay := backoff(deliveries[0].Attempt)
			m.end(deliveries, func(d event.Delivery) error { return d.Retry(delay) })
			return
		}
	}
	m.end(deliveries, event.Delivery.Ack)
}

func (m *Manager) end(deliveries []event.Delivery, how func(event.Delivery) error) {
	for _, d := range deliveries {
		if err := how(d); err != nil {
			m.log.Warn("checks cannot acknowledge a delivery; it will be repeated", "uuid", d.Event.UUID, "err", err)
		}
	}
}

// one runs a check and returns its result as an event; nil if there is none. It
// does not retry a failing check for this generation: its settings were
// validated, so a retry would not help.
func (m *Manager) one(ctx context.Context, c *Check, d event.Delivery) *event.Event {
	out, err := m.run(ctx, c, d.Event)
	if err != nil {
		m.failed(c, d, err)
		return nil
	}
	return m.counted(c, d.Event, out)
}

// run contains a panic of a check, so that one answer that a library cannot cope
// with costs one result.
func (m *Manager) run(ctx context.Context, c *Check, e *event.Event) (out Outcome, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("a check panicked: %T", v)
		}
	}()
	return m.Runner.Run(ctx, c, e)
}

func (m *Manager) failed(c *Check, d event.Delivery, err error) {
	m.log.Warn("a check failed permanently on a generation", "check", c.ID, "kind", c.Kind, "uuid", d.Event.UUID, "problem", Problem(err))
	m.note(c, "gave_up", func(s *State) { s.Failed++; s.Problem, s.ProblemAt = Problem(err), time.Now() })
}

// counted notes an outcome and makes its event.
func (m *Manager) counted(c *Check, of *event.Event, out Outcome) *event.Event {
	if !out.OK {
		m.note(c, "skipped", func(s *State) {
			s.Skipped++
			s.Resting = out.Skipped == errBudget.Error()
		})
		return nil
	}
	word := "scored"
	if out.Passed.Known {
		word = map[bool]string{true: "passed", false: "failed"}[out.Passed.Value]
	}
	m.note(c, word, func(s *State) { s.Judged++; s.Resting = false; s.Problem, s.ProblemAt = "", time.Time{} })
	return out.Result.Event(of, ended(of))
}

// judgeAll calls the judges for a batch, a few generations concurrently. Each
// delivery ends on its own: a paid verdict is stored immediately.
func (m *Manager) judgeAll(ctx context.Context, projectID string, deliveries []event.Delivery, said *verdicts) {
	checks := m.checks(projectID, true)
	var g errgroup.Group
	g.SetLimit(judgesAtOne)
	waiting := make(map[event.Acker]event.Delivery, len(deliveries))
	for _, d := range deliveries {
		waiting[d.Acker] = d
	}
	var mu sync.Mutex
	finished := make(chan struct{})
	go m.keep(&mu, waiting, finished)
	for _, d := range deliveries {
		g.Go(func() error {
			// After a panic the generation is redelivered on its own.
			if err := supervise.Catch(func() error { m.judgeOne(ctx, checks, d, said); return nil }); err != nil {
				m.log.Error("judging a generation failed", "uuid", d.Event.UUID, "err", err)
			}
			mu.Lock()
			defer mu.Unlock()
			delete(waiting, d.Acker)
			return nil
		})
	}
	_ = g.Wait()
	close(finished)
}

// keep periodically extends the deliveries that are still being processed.
func (m *Manager) keep(mu *sync.Mutex, waiting map[event.Acker]event.Delivery, finished <-chan struct{}) {
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-finished:
			return
		case <-tick.C:
			mu.Lock()
			for _, d := range waiting {
				if err := d.Extend(); err != nil {
					m.log.Warn("a judge's generation could not be held", "uuid", d.Event.UUID, "err", err)
				}
			}
			mu.Unlock()
		}
	}
}

// judgeOne calls every judge that wants a generation. If one fails, the
// generation is redelivered and only that judge is called again, because the
// others have been paid. After a restart earlier verdicts are unknown; then a
// verdict is paid twice rather than lost, and counted once by its uuid.
func (m *Manager) judgeOne(ctx context.Context, checks []Check, d event.Delivery, said *verdicts) {
	var trouble error
	for i := range checks {
		c := &checks[i]
		if !c.Wants(d.Event) {
			continue
		}
		if ctx.Err() != nil {
			return // it is redelivered after the restart
		}
		verdict, known := said.of(d.Event.UUID, c)
		var err error
		if !known {
			asking, stop := context.WithTimeout(ctx, judgeTime)
			var out Outcome
			out, err = m.run(asking, c, d.Event)
			stop()
			if err == nil {
				verdict = m.counted(c, d.Event, out)
				said.keep(d.Event.UUID, c, verdict)
			}
		}
		if verdict != nil {
			if err = m.Append.Append(context.WithoutCancel(ctx), verdict); err == nil {
				said.keep(d.Event.UUID, c, nil)
			}
		}
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return
		case d.Attempt >= judgeTries:
			m.failed(c, d, err)
		default:
			trouble = err
			m.note(c, "", func(s *State) { s.Problem, s.ProblemAt = Problem(err), time.Now() })
		}
	}
	how := event.Delivery.Ack
	if trouble != nil {
		how = func(d event.Delivery) error { return d.Retry(backoff(d.Attempt)) }
	} else {
		said.forget(d.Event.UUID)
	}
	m.end([]event.Delivery{d}, how)
}

// verdicts are the verdicts on generations for which another judge must still be
// called. The zero value is ready.
type verdicts struct {
	mu   sync.Mutex
	said map[string]map[string]*event.Event // by uuid, by check and its settings; nil: stored, or no result
}

// maxVerdicts is how many generations are remembered: more than a cursor
// delivers before some are ended.
const maxVerdicts = 1000

func verdictKey(c *Check) string { return c.ID + c.UpdatedAt.String() }

func (v *verdicts) of(uuid string, c *Check) (e *event.Event, known bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	e, known = v.said[uuid][verdictKey(c)]
	return e, known
}

func (v *verdicts) keep(uuid string, c *Check, e *event.Event) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.said) >= maxVerdicts && v.said[uuid] == nil {
		clear(v.said) // of deliveries that other processes got
	}
	if v.said == nil {
		v.said = make(map[string]map[string]*event.Event)
	}
	if v.said[uuid] == nil {
		v.said[uuid] = make(map[string]*event.Event)
	}
	v.said[uuid][verdictKey(c)] = e
}

func (v *verdicts) forget(uuid string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.said, uuid)
}
