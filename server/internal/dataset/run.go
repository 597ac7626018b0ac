package dataset

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/eval"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/prompt"
	"github.com/hedgerow/hedgerow/server/internal/supervise"
)

type evalResult = eval.Result

func message(role string, content json.RawMessage) eval.Message {
	return eval.Message{Role: role, Content: content}
}

// KindExpected is the kind of the judgment that compares an answer with the
// example's expected one, and MatchesExpected its name.
const (
	KindExpected    eval.Kind = "expected"
	MatchesExpected string    = "matches_expected"
)

// Bounds of a plan.
const (
	defaultConcurrency = 4
	maxConcurrency     = 16
	maxBudgetUSD       = 10_000
	callTime           = 5 * time.Minute // for one answer
	maxActive          = 4               // runs of one process at one time
)

// Prompts is a run's interface to the registry of prompts.
type Prompts interface {
	Version(projectID, name, ref string) (prompt.Version, bool)
}

// Runner runs plans in this process. Do not change its fields after the first
// Start.
type Runner struct {
	Registry *Registry
	Prompts  Prompts
	Checks   *eval.Registry
	Evals    *eval.Runner
	Caller   eval.Caller
	Append   eval.Appender // takes the judgments
	Logger   *slog.Logger  // nil: none

	mu     sync.Mutex
	active map[string]context.CancelFunc // by run id
	wg     sync.WaitGroup
	closed bool
}

// work is a plan made ready.
type work struct {
	run      Run
	version  *prompt.Version // nil: each example's own messages
	checks   []eval.Check
	examples []Example
	dearest  decimal.Decimal // call of a run that is resumed
}

// Start validates a plan and starts it. It returns the run immediately;
// [Registry.Run] reports its progress.
func (r *Runner) Start(ctx context.Context, projectID, set string, p Plan) (Run, error) {
	s, err := r.Registry.Set(projectID, set)
	if err != nil {
		return Run{}, err
	}
	w := work{run: Run{ID: project.NewID("run"), ProjectID: projectID, SetID: s.ID, Status: Running}}
	if err := r.prepare(&w, p); err != nil {
		return Run{}, err
	}
	if w.examples, err = r.Registry.Examples(ctx, projectID, s.ID); err != nil {
		return Run{}, err
	}
	if err := w.feasible(); err != nil {
		return Run{}, err
	}
	if len(r.Registry.Runs(projectID, s.ID)) >= MaxRuns {
		return Run{}, event.Invalid(fmt.Sprintf("run limit reached (%d)", MaxRuns), "delete a run first")
	}
	w.run.Total = len(w.examples)
	w.run.StartedAt = r.Registry.o.Now().UTC()
	w.run.BeatAt = w.run.StartedAt

	err = r.launch(ctx, &w, func() error { return r.Registry.runs.Create(ctx, projectID, w.run.ID, w.run) })
	if err != nil {
		return Run{}, err
	}
	r.Registry.audit(ctx, "dataset.run", s, w.run.Name)
	return w.run, nil
}

// Resume continues an interrupted, canceled or failed run: it runs the examples
// without a result, with their current content and the same plan. Examples with a
// result, even an error, are not repeated. A call in flight when hedgerow was
// killed left no result and is repeated.
func (r *Runner) Resume(ctx context.Context, projectID, id string) (Run, error) {
	x, err := r.Registry.Run(projectID, id)
	if err != nil {
		return Run{}, err
	}
	s, err := r.Registry.Set(projectID, x.SetID)
	if err != nil {
		return Run{}, err
	}
	version := x.VersionID
	w := work{run: x}
	if err := r.prepare(&w, x.Plan); err != nil {
		return Run{}, err
	}
	if w.run.VersionID != version {
		return Run{}, event.NewError(event.CodeConflict, "the prompt version differs from the one the run started with", "start another run", nil)
	}
	if w.examples, err = r.Registry.Examples(ctx, projectID, s.ID); err != nil {
		return Run{}, err
	}
	have, err := r.Registry.Results(ctx, projectID, id)
	if err != nil {
		return Run{}, err
	}
	w.have(have)
	if len(w.examples) > 0 {
		if err := w.feasible(); err != nil {
			return Run{}, err
		}
	}
	w.run.Status, w.run.Problem, w.run.Cancel, w.run.EndedAt, w.run.BeatAt = Running, "", false, time.Time{}, r.Registry.o.Now().UTC()
	err = r.launch(ctx, &w, func() error {
		_, err := r.Registry.runs.Change(ctx, projectID, id, func(x *Run) error {
			if now := r.Registry.seen(*x); !now.Resumable() {
				return event.NewError(event.CodeConflict, "the run is "+strings.ReplaceAll(string(now.Status), "_", " ")+" and cannot be resumed", "only interrupted, cancelled or failed runs can be resumed; start another run", nil)
			}
			*x = w.run
			return nil
		})
		return err
	})
	if err != nil {
		return Run{}, err
	}
	r.Registry.audit(ctx, "dataset.resume", s, w.run.Name)
	return w.run, nil
}

// have leaves out the examples that have a result, and counts these.
func (w *work) have(results []Result) {
	done := make(map[string]bool, len(results))
	w.run.Finished, w.run.Errors, w.run.CostUSD = len(results), 0, decimal.Zero
	for _, res := range results {
		done[res.ExampleID] = true
		if res.Error != "" {
			w.run.Errors++
		}
		if res.CostUSD.Known {
			w.run.CostUSD = w.run.CostUSD.Add(res.CostUSD.Value)
			w.dearest = decimal.Max(w.dearest, res.CostUSD.Value)
		}
	}
	w.examples = slices.DeleteFunc(w.examples, func(x Example) bool { return done[x.ID] })
	w.run.Total = len(results) + len(w.examples)
}

// launch starts a prepared run in the background, after save has recorded it.
func (r *Runner) launch(ctx context.Context, w *work, save func() error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed:
		return event.NewError(event.CodeUnavailable, "hedgerow is stopping", "start the run again in a moment", nil)
	case r.active[w.run.ID] != nil:
		return event.NewError(event.CodeConflict, "the run is in progress", "wait for it to end, or cancel it", nil)
	case len(r.active) >= maxActive:
		return event.NewError(event.CodeConflict, "too many runs in progress", "wait for one to end, or cancel it", nil)
	}
	if err := save(); err != nil {
		return err
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	if r.active == nil {
		r.active = make(map[string]context.CancelFunc)
	}
	r.active[w.run.ID] = cancel
	r.wg.Go(func() {
		if err := supervise.Catch(func() error { r.carryOut(run, w); return nil }); err != nil && r.Logger != nil {
			// It counts as interrupted once its process has sent no heartbeat
			// for a while.
			r.Logger.Error("a run failed", "run", w.run.ID, "err", err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.active, w.run.ID)
		cancel()
	})
	return nil
}

// prepare sets a plan's defaults and looks up its references.
func (r *Runner) prepare(w *work, p Plan) error {
	p.Prompt, p.Version, p.Provider, p.Model = strings.TrimSpace(p.Prompt), strings.TrimSpace(p.Version), strings.TrimSpace(p.Provider), strings.TrimSpace(p.Model)
	if p.Concurrency == 0 {
		p.Concurrency = defaultConcurrency
	}
	switch {
	case p.Concurrency < 1 || p.Concurrency > maxConcurrency:
		return event.Invalid("the concurrency is out of range", fmt.Sprintf("use 1 to %d", maxConcurrency))
	case !(p.BudgetUSD > 0 && p.BudgetUSD <= maxBudgetUSD):
		return event.Invalid("the run has no budget", fmt.Sprintf("set a total budget greater than 0, up to %d USD", maxBudgetUSD))
	}
	name := "examples as they are"
	if p.Prompt != "" {
		v, ok := r.Prompts.Version(w.run.ProjectID, p.Prompt, p.Version)
		if !ok {
			return event.NewError(event.CodeNotFound, "prompt or version not found", "see the Prompts page, or GET /api/v1/prompts", nil)
		}
		w.version, w.run.VersionID = &v, v.ID
		p.Version = strconv.Itoa(v.Number)
		p.Provider, p.Model = cmp.Or(p.Provider, v.Provider), cmp.Or(p.Model, v.Model)
		params := make(map[string]json.RawMessage, len(v.Params)+len(p.Params))
		for k, x := range v.Params {
			b, err := json.Marshal(x)
			if err != nil {
				return fmt.Errorf("encode the version's parameters: %w", err)
			}
			params[k] = b
		}
		for k, x := range p.Params {
			params[k] = x
		}
		p.Params, name = params, v.Ref()
	}
	p.Checks = slices.Clone(p.Checks)
	for i, ref := range p.Checks {
		c, err := r.Checks.Check(w.run.ProjectID, ref)
		if err != nil {
			return err
		}
		p.Checks[i] = c.ID
		w.checks = append(w.checks, c)
	}
	if p.Name = event.FirstChars(strings.TrimSpace(p.Name), maxName); p.Name == "" {
		p.Name = name
		if p.Model != "" {
			p.Name += " with " + p.Model
		}
	}
	w.run.Plan = p
	return nil
}

// feasible returns an error for a problem of every example, or of the first
// example with one, before anything is spent.
func (w *work) feasible() error {
	if len(w.examples) == 0 {
		return event.Invalid("the dataset has no examples", "save some from the page of an event, or import a file")
	}
	for i := range w.examples {
		if _, err := w.request(&w.examples[i]); err != nil {
			return atIndex(err, i, len(w.examples)+1)
		}
	}
	return nil
}

// request makes the call of an example. A version's messages take the place of the
// example's instructions; where the version has messages of the user's, they are
// the whole conversation.
func (w *work) request(x *Example) (eval.Request, error) {
	id := event.NewID()
	q := eval.Request{
		ProjectID: w.run.ProjectID, UUID: id, TraceID: w.run.ID + "-" + x.ID, Surface: eval.SurfaceDataset, Messages: x.Messages, Tools: x.Tools, Params: w.run.Params,
		Provider: cmp.Or(w.run.Provider, x.Provider), Model: cmp.Or(w.run.Model, x.Model),
		Properties: map[string]any{eval.PropDataset: w.run.SetID, eval.PropRun: w.run.ID, eval.PropExample: x.ID},
	}
	if w.version != nil {
		vars := make(map[string]any, len(w.version.Variables))
		for _, v := range w.version.Variables { // an example may have more than this version takes
			if value, ok := x.Variables[v.Name]; ok {
				vars[v.Name] = value
			}
		}
		rendered, err := w.version.Render(vars)
		if err != nil {
			return q, err
		}
		q.PromptName, q.PromptVersion = w.version.Prompt, strconv.Itoa(w.version.Number)
		q.Messages = nil
		whole := false
		for _, m := range rendered.Messages {
			q.Messages = append(q.Messages, eval.Text(m.Role, m.Content))
			whole = whole || !instructs(m.Role)
		}
		if !whole {
			q.Messages = append(q.Messages, slices.DeleteFunc(slices.Clone(x.Messages), func(m eval.Message) bool { return instructs(m.Role) })...)
		}
	}
	switch {
	case q.Provider == "" || q.Model == "":
		return q, event.Invalid("no provider and model to call", "set both on the run, or in the prompt version")
	case !slices.ContainsFunc(q.Messages, func(m eval.Message) bool { return !instructs(m.Role) }):
		return q, event.Invalid("the conversation has only a system prompt", "add a user message to the example, or one with variables to the prompt")
	}
	return q, nil
}

func instructs(role string) bool { return role == "system" || role == "developer" }

// Cancel ends a run; calls in progress are canceled. A run of another process
// ends within seconds.
func (r *Runner) Cancel(ctx context.Context, projectID, id string) error {
	if _, err := r.Registry.Run(projectID, id); err != nil {
		return err
	}
	x, err := r.Registry.runs.Change(ctx, projectID, id, func(x *Run) error {
		if x.Status != Running {
			return event.NewError(event.CodeConflict, "the run has ended", "see its results", nil)
		}
		x.Cancel = true
		if r.Registry.seen(*x).Status == Interrupted { // its process has ended
			x.Status, x.EndedAt = Cancelled, r.Registry.o.Now().UTC()
		}
		return nil
	})
	if err != nil {
		return err
	}
	if s, err := r.Registry.Set(projectID, x.SetID); err == nil {
		r.Registry.audit(ctx, "dataset.cancel", s, x.Name)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if stop := r.active[id]; stop != nil {
		stop()
	}
	return nil
}

// Close interrupts the runs of this process and waits until they have recorded
// their progress.
func (r *Runner) Close(ctx context.Context) error {
	r.mu.Lock()
	r.closed = true
	for _, stop := range r.active {
		stop()
	}
	r.mu.Unlock()
	done := make(chan struct{})
	go func() { r.wg.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return errors.New("a dataset run did not stop in time")
	}
}

// beatEvery is how often a run writes how far it is.
const beatEvery = 500 * time.Millisecond

// progress is a run's state while it works.
type progress struct {
	mu       sync.Mutex
	run      Run
	dearest  decimal.Decimal // of the calls so far
	underWay int
	stop     Status // why no further call begins; "" while they do
	problem  string
}

// take reserves another call. Each call in flight counts as the most expensive
// so far, so that the budget is never exceeded; the first runs alone, to learn
// the cost.
func (p *progress) take(budget decimal.Decimal) (ok, wait bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.stop != "":
		return false, false
	case p.run.Finished-p.run.Errors == 0 && p.underWay > 0:
		return false, true
	case p.run.CostUSD.Add(p.dearest.Mul(decimal.NewFromInt(int64(p.underWay + 1)))).GreaterThan(budget):
		if p.underWay > 0 {
			return false, true
		}
		p.stop = OverBudget
		return false, false
	}
	p.underWay++
	return true, false
}

// carryOut makes the calls of a run and notes how it ends.
func (r *Runner) carryOut(ctx context.Context, w *work) {
	log := r.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	p := &progress{run: w.run, dearest: w.dearest}
	budget, err := decimal.NewFromString(strconv.FormatFloat(w.run.BudgetUSD, 'f', -1, 64))
	if err != nil {
		budget = decimal.Zero
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	beats := make(chan struct{})
	go r.beat(ctx, cancel, p, beats, log)

	next := make(chan struct{}, 1) // a word whenever a call has ended
	var calls sync.WaitGroup
	slots := make(chan struct{}, w.run.Concurrency)
	for i := range w.examples {
		slots <- struct{}{}
		ok, wait := p.take(budget)
		for wait && ctx.Err() == nil {
			select {
			case <-next:
			case <-ctx.Done():
			}
			ok, wait = p.take(budget)
		}
		if !ok || ctx.Err() != nil {
			if ok {
				p.mu.Lock()
				p.underWay--
				p.mu.Unlock()
			}
			break
		}
		calls.Go(func() {
			defer func() { <-slots }()
			var res *Result
			err := supervise.Catch(func() (err error) {
				res, err = r.one(ctx, w, &w.examples[i])
				return err
			})
			p.ended(res, err)
			select {
			case next <- struct{}{}:
			default:
			}
		})
	}
	calls.Wait()
	cancelled := ctx.Err() != nil
	cancel()
	<-beats

	p.mu.Lock()
	defer p.mu.Unlock()
	end := func(x *Run) {
		x.Finished, x.Errors, x.CostUSD, x.BeatAt, x.EndedAt = p.run.Finished, p.run.Errors, p.run.CostUSD, r.Registry.o.Now().UTC(), r.Registry.o.Now().UTC()
		switch {
		case p.stop != "":
			x.Status, x.Problem = p.stop, p.problem
		case x.Cancel:
			x.Status = Cancelled
		case cancelled:
			x.Status, x.Problem = Interrupted, wasInterrupted
		default:
			x.Status = Done
		}
	}
	save, stop := context.WithTimeout(context.Background(), 10*time.Second)
	defer stop()
	if _, err := r.Registry.runs.Change(save, w.run.ProjectID, w.run.ID, func(x *Run) error { end(x); return nil }); err != nil {
		log.Error("the end of a dataset run could not be saved", "run", w.run.ID, "err", err)
	}
}

// beat writes how far a run is, and sees that it was canceled elsewhere.
func (r *Runner) beat(ctx context.Context, cancel context.CancelFunc, p *progress, done chan<- struct{}, log *slog.Logger) {
	defer close(done)
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		p.mu.Lock()
		have := p.run
		p.mu.Unlock()
		x, err := r.Registry.runs.Change(ctx, have.ProjectID, have.ID, func(x *Run) error {
			x.Finished, x.Errors, x.CostUSD, x.BeatAt = have.Finished, have.Errors, have.CostUSD, r.Registry.o.Now().UTC()
			return nil
		})
		switch {
		case err != nil && ctx.Err() == nil:
			log.Warn("the progress of a dataset run could not be saved", "run", have.ID, "err", err)
		case x.Cancel:
			cancel()
		}
	}
}

// ended counts a call.
func (p *progress) ended(res *Result, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.underWay--
	if err != nil {
		if p.stop == "" && !errors.Is(err, context.Canceled) {
			p.stop, p.problem = Failed, problem(err)
		}
		return
	}
	p.run.Finished++
	switch {
	case res.Error != "":
		p.run.Errors++
	case !res.CostUSD.Known && p.stop == "":
		p.stop, p.problem = Failed, "the cost of the model is unknown, so the budget cannot be enforced: add a custom price (0 for a self-hosted model)"
	}
	if res.CostUSD.Known {
		p.run.CostUSD = p.run.CostUSD.Add(res.CostUSD.Value)
		p.dearest = decimal.Max(p.dearest, res.CostUSD.Value)
	}
}

func problem(err error) string {
	e := event.AsError(err)
	if e.Hint != "" {
		return e.Message + "; " + e.Hint
	}
	return e.Message
}

// one makes the call of an example, judges the answer and saves the result. Its
// error ends the run.
func (r *Runner) one(ctx context.Context, w *work, x *Example) (*Result, error) {
	q, err := w.request(x)
	if err != nil {
		return nil, err
	}
	call, stop := context.WithTimeout(ctx, callTime)
	e, err := r.Caller.Call(call, q)
	stop()
	if err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	res := &Result{
		ExampleID: x.ID, Output: cut(eval.AnswerOf(e)), ToolCalls: eval.CallsTools(e), CostUSD: e.Cost.Total, InputTokens: e.Usage.AllInput(), OutputTokens: e.Usage.Output,
		Model: e.ModelName(), TraceID: e.TraceID, GenerationID: e.UUID,
	}
	if e.Latency.Known {
		res.LatencyMS = event.Some(float64(e.Latency.Value.Microseconds()) / 1000)
	}
	if e.IsError && e.Status != event.StatusBlocked { // a refusal is an answer that checks judge
		res.Error = failure(e)
	} else {
		r.judge(ctx, w, x, e, res)
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	b, err := encode(res)
	if err != nil {
		return nil, err
	}
	if _, err := r.Registry.items.Put(context.WithoutCancel(ctx), resultKey(w.run.ID, x.ID), b); err != nil {
		return nil, unavailable(err)
	}
	return res, nil
}

// failure describes a failed call without the provider's text, which may quote
// content.
func failure(e *event.Event) string {
	s := cmp.Or(e.ErrorType, string(e.Status), "error")
	if e.HTTPStatus >= 400 {
		s += " (" + strconv.Itoa(e.HTTPStatus) + ")"
	}
	return s
}

func cut(s string) string {
	if len(s) <= maxOutput {
		return s
	}
	return strings.ToValidUTF8(s[:maxOutput], "") + "…"
}

// judge runs the plan's checks on an answer. Their results are stored with the
// result and, as events, with the generation.
func (r *Runner) judge(ctx context.Context, w *work, x *Example, e *event.Event, res *Result) {
	if x.Expected != "" {
		same := strings.TrimSpace(x.Expected) == strings.TrimSpace(res.Output)
		res.Evals = append(res.Evals, eval.Result{Name: MatchesExpected, Kind: KindExpected, CheckID: MatchesExpected, Passed: event.Some(same)})
	}
	for i := range w.checks {
		out, err := r.Evals.Run(ctx, &w.checks[i], e)
		switch {
		case err != nil && r.Logger != nil && ctx.Err() == nil:
			r.Logger.Warn("a check could not be run on a result", "check", w.checks[i].ID, "run", w.run.ID, "problem", eval.Problem(err))
		case err == nil && out.OK:
			res.Evals = append(res.Evals, out.Result)
		}
	}
	var events []*event.Event
	for _, j := range res.Evals {
		events = append(events, j.Event(e, e.Timestamp.Add(e.Latency.Or(0))))
	}
	if len(events) == 0 || r.Append == nil {
		return
	}
	if err := r.Append.Append(ctx, events...); err != nil && r.Logger != nil {
		r.Logger.Warn("evaluations of a dataset run could not be recorded as events; its results have them", "run", w.run.ID, "err", err)
	}
}
