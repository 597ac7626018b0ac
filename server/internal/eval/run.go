package eval

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
)

// Runner runs one check on one generation. It is safe for concurrent use.
type Runner struct {
	Caller Caller // nil: judges cannot be queried
	Budget Budget // required where there is a Caller
	Now    func() time.Time
	Logger *slog.Logger // nil: none

	programs sync.Map // check id → compiled
	asking   sync.Map // check id → *sync.Mutex
}

type compiled struct {
	at  time.Time // Check.UpdatedAt
	run program
}

// Outcome is the result of a check.
type Outcome struct {
	Result
	OK      bool            `json:"ok"`               // there is a result
	Skipped string          `json:"skipped,omitzero"` // else, why there is none
	CostUSD decimal.Decimal `json:"-"`                // of a judge's call, if it is known
}

// Run judges a generation, regardless of the check's filter and sample. An error
// means that a retry may succeed.
func (r *Runner) Run(ctx context.Context, c *Check, e *event.Event) (Outcome, error) {
	a := answerOf(e)
	if c.Kind == KindJudge {
		return r.judge(ctx, c, a)
	}
	run, err := r.program(c)
	if err != nil {
		return Outcome{}, err
	}
	v, err := run(ctx, a)
	switch {
	case err != nil:
		return Outcome{}, err
	case !v.ok && !a.content:
		return Outcome{Skipped: "the response text is not stored"}, nil
	case !v.ok:
		return Outcome{Skipped: "the check does not apply to this response"}, nil
	}
	return Outcome{OK: true, Result: Result{Name: c.Name, Kind: c.Kind, CheckID: c.ID, Passed: event.Some(v.passed), ReasonCode: v.reason}}, nil
}

// Try is Run for users who test a check, stored or not: it validates the
// settings first, and only generations can be judged.
func (r *Runner) Try(ctx context.Context, c *Check, e *event.Event) (Outcome, error) {
	if err := c.prepare(); err != nil {
		return Outcome{}, err
	}
	if e.Name != event.Generation {
		return Outcome{}, event.Invalid("this event is not a model response", "choose an event of type "+event.Generation)
	}
	return r.Run(ctx, c, e)
}

// program returns the check made ready, which is kept until the check changes.
func (r *Runner) program(c *Check) (program, error) {
	if p, ok := r.programs.Load(c.ID); ok && c.ID != "" && p.(compiled).at.Equal(c.UpdatedAt) {
		return p.(compiled).run, nil
	}
	run, err := compile(c)
	if err == nil && c.ID != "" {
		r.programs.Store(c.ID, compiled{c.UpdatedAt, run})
	}
	return run, err
}

// judge calls a model. Calls of one check are serialized, so that its budget is
// exceeded by at most one call.
func (r *Runner) judge(ctx context.Context, c *Check, a answer) (Outcome, error) {
	switch {
	case r.Caller == nil:
		return Outcome{}, event.NewError(event.CodeUnavailable, "the LLM judge needs a running server", "start hedgerow serve", nil)
	case !a.content:
		return Outcome{Skipped: "the response text is not stored"}, nil
	case a.text == "":
		return Outcome{Skipped: "the response has no text"}, nil
	}
	lock, _ := r.asking.LoadOrStore(c.ID, new(sync.Mutex))
	lock.(*sync.Mutex).Lock()
	defer lock.(*sync.Mutex).Unlock()
	if err := ctx.Err(); err != nil {
		return Outcome{}, err
	}
	now := time.Now
	if r.Now != nil {
		now = r.Now
	}
	day, limit := now(), usd(c.Judge.DailyUSD)
	spent, err := r.Budget.Spent(ctx, budgetName(c), day)
	if err != nil {
		return Outcome{}, err
	}
	if spent.GreaterThanOrEqual(limit) {
		return Outcome{Skipped: errBudget.Error()}, nil
	}
	e, err := r.Caller.Call(ctx, c.question(a))
	if err != nil {
		return Outcome{}, err
	}
	cost := e.Cost.Total
	if !cost.Known && !e.IsError {
		// The amount spent is unknown: stop for today.
		cost = event.Some(limit.Sub(spent))
		if r.Logger != nil {
			r.Logger.Warn(errUnpriced.Error()+": it is paused until tomorrow", "check", c.ID, "provider", c.Judge.Provider, "model", c.Judge.Model)
		}
	}
	if cost.Known && !cost.Value.IsZero() {
		// Record the spending even if this program is stopping.
		if err := r.Budget.Spend(context.WithoutCancel(ctx), budgetName(c), day, cost.Value); err != nil {
			return Outcome{}, err
		}
	}
	out := Outcome{CostUSD: e.Cost.Total.Value}
	if out.Result, err = c.judgment(e); err != nil {
		return out, err
	}
	out.OK = true
	return out, nil
}

// Problem returns the user-facing text of an error of [Runner.Run],
// without text of a provider or an answer.
func Problem(err error) string {
	var e *event.Error
	switch {
	case errors.Is(err, errVerdict), errors.Is(err, errFailed):
		return err.Error()
	case errors.As(err, &e):
		return e.Message
	}
	return "the check could not be run"
}
