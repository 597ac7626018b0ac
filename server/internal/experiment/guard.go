package experiment

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// GuardInterval is the time between two checks of running experiments. With the
// seconds that events take into the store, a broken guardrail is acted on within
// a minute.
const GuardInterval = 15 * time.Second

const (
	// maxGuardWait bounds the wait between two checks if one takes long.
	maxGuardWait = 30 * time.Second
	// lease is how long an attempt may take before another replica takes over.
	lease = 45 * time.Second
	// maxAttempts bounds how often one action is tried: about an hour.
	maxAttempts = 12
	backoffMin  = 5 * time.Second
	backoffMax  = 10 * time.Minute
)

// guardActor is the actor of what the guard does, in the audit log.
const guardActor = "guardrail"

// Guard checks running experiments, and if a guardrail has broken sends alerts,
// once, and stops the rollout if the experiment requests that. Any number of
// guards may work on one bucket: an attempt is claimed there before it is made.
// An attempt that a crash cuts off is made again, with the same id, so that
// none is lost and a receiver can recognize duplicates.
type Guard struct {
	Registry *Registry
	Ask      Asker
	// Stop gives everyone the control in place of the variant whose guardrail broke.
	// nil says that nothing can be stopped.
	Stop func(ctx context.Context, actor string, d *Definition, variant, reason string) error
	// Ways returns a project's alert destinations.
	Ways func(projectID string) Ways
	// Link is the address of an experiment's page.
	Link func(d Definition) string

	Interval time.Duration // Defaults to GuardInterval
	Logger   *slog.Logger  // Defaults to none
}

// Ways are the alert channels for a broken guardrail. A nil one is not set up.
type Ways struct {
	Webhook func(context.Context, Alert) error
	Email   func(context.Context, Alert) error
}

// Run checks until ctx ends.
func (g *Guard) Run(ctx context.Context) error {
	interval := g.Interval
	if interval <= 0 {
		interval = GuardInterval
	}
	for {
		began := time.Now()
		g.Check(ctx)
		// Wait longer if the store is slow, to leave it time for other queries.
		wait := min(max(interval, 10*time.Since(began)), max(interval, maxGuardWait))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

func (g *Guard) log() *slog.Logger {
	if g.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return g.Logger
}

// Check checks once every experiment that runs or has pending actions.
func (g *Guard) Check(ctx context.Context) {
	for _, d := range g.Registry.running() {
		if ctx.Err() != nil {
			return
		}
		if err := g.check(ctx, d); err != nil && ctx.Err() == nil {
			g.log().Error("an experiment could not be evaluated", "experiment", d.ID, "err", err)
		}
	}
}

func (g *Guard) check(ctx context.Context, d Definition) error {
	if d.Running() && len(d.Guardrails) > 0 {
		ctx, cancel := context.WithTimeout(ctx, lease)
		defer cancel()
		r, err := evaluate(ctx, g.Ask, d, g.Registry.now())
		if err != nil {
			return err
		}
		if broken := breaches(&d, r); len(broken) > 0 {
			if d, err = g.note(ctx, d, broken); err != nil {
				return err
			}
		}
	}
	// Stops are made before alerts are sent, so that the alerts mention them.
	for i := range d.Breaches {
		g.act(ctx, &d, i, "rollout", func(b *Breach) *Action { return &b.Rollout }, g.stop)
	}
	ways := g.Ways(d.Project)
	for i := range d.Breaches {
		if b := &d.Breaches[i]; b.Rollout.State == ActionPending && b.Rollout.Error == "" {
			continue // another replica is stopping it and sends the alert, or this one does at the next check
		}
		g.act(ctx, &d, i, "webhook", func(b *Breach) *Action { return &b.Webhook }, g.tell(ways.Webhook))
		g.act(ctx, &d, i, "e-mail", func(b *Breach) *Action { return &b.Email }, g.tell(ways.Email))
	}
	return nil
}

// breaches are the broken guardrails that are not recorded yet.
func breaches(d *Definition, r *Report) []Breach {
	var out []Breach
	for i, g := range r.Guardrails {
		for _, c := range g.Checks {
			key := d.Guardrails[i].key() + "/" + c.Variant
			if c.Status == GuardBroken && !slices.ContainsFunc(d.Breaches, func(b Breach) bool { return b.Key == key }) {
				out = append(out, Breach{Key: key, Variant: c.Variant, Words: sentence(c.Words)})
			}
		}
	}
	return out
}

// note records broken guardrails in the bucket. Only the first replica does.
func (g *Guard) note(ctx context.Context, d Definition, broken []Breach) (Definition, error) {
	ways := g.Ways(d.Project)
	state := func(wanted bool) Action {
		if wanted {
			return Action{State: ActionPending}
		}
		return Action{State: ActionNone}
	}
	var noted []Breach
	d, err := g.Registry.change(ctx, d.Project, d.ID, func(d *Definition) error {
		noted = nil
		for _, b := range broken {
			if slices.ContainsFunc(d.Breaches, func(o Breach) bool { return o.Key == b.Key }) {
				continue
			}
			b.At = g.Registry.now().UTC()
			b.Rollout, b.Webhook, b.Email = state(d.StopOnBreach), state(ways.Webhook != nil), state(ways.Email != nil)
			d.Breaches = append(d.Breaches, b)
			noted = append(noted, b)
		}
		if d.StopOnBreach && d.Running() && len(noted) > 0 {
			// From now on everyone gets the control: what users do then says
			// nothing about the variants.
			d.Stopped, d.StopReason = g.Registry.now().UTC(), noted[0].Words
		}
		return nil
	})
	if err != nil {
		return d, fmt.Errorf("note broken guardrail: %w", err)
	}
	for _, b := range noted {
		g.log().Warn("a guardrail broke", "experiment", d.ID, "variant", b.Variant)
		g.Registry.audit(ctx, guardActor, "experiment.guardrail_broken", d, b.Words)
	}
	if len(noted) > 0 && !d.Stopped.IsZero() {
		g.Registry.audit(ctx, guardActor, "experiment.stop", d, d.StopReason)
	}
	return d, nil
}

// act makes one attempt at an action that is due.
func (g *Guard) act(ctx context.Context, d *Definition, i int, what string, of func(*Breach) *Action, do func(context.Context, *Definition, *Breach) error) {
	now := g.Registry.now().UTC()
	if a := of(&d.Breaches[i]); a.State != ActionPending || now.Before(a.Next) {
		return
	}
	key := d.Breaches[i].Key
	mine := false
	claimed, err := g.Registry.change(ctx, d.Project, d.ID, func(d *Definition) error {
		mine = false
		for j := range d.Breaches {
			if a := of(&d.Breaches[j]); d.Breaches[j].Key == key && a.State == ActionPending && !now.Before(a.Next) {
				a.Attempts, a.Next, mine = a.Attempts+1, now.Add(lease), true
			}
		}
		return nil
	})
	if err != nil {
		g.log().Error("an action could not be claimed", "experiment", d.ID, "action", what, "err", err)
		return
	}
	*d = claimed
	if !mine || i >= len(d.Breaches) {
		return
	}
	attempt, cancel := context.WithTimeout(ctx, lease*2/3)
	failure := do(attempt, d, &d.Breaches[i])
	cancel()
	done, err := g.Registry.change(context.WithoutCancel(ctx), d.Project, d.ID, func(d *Definition) error {
		for j := range d.Breaches {
			if d.Breaches[j].Key != key {
				continue
			}
			a := of(&d.Breaches[j])
			now := g.Registry.now().UTC()
			switch {
			case failure == nil:
				a.State, a.Error, a.Next, a.Done = ActionDone, "", time.Time{}, now
			case a.Attempts >= maxAttempts || hopeless(failure):
				a.State, a.Error, a.Next = ActionFailed, short(failure), time.Time{}
			default:
				a.Error, a.Next = short(failure), now.Add(min(backoffMin<<(a.Attempts-1), backoffMax))
			}
		}
		return nil
	})
	if err != nil {
		g.log().Error("the outcome of an action could not be saved: it will be repeated", "experiment", d.ID, "action", what, "err", err)
		return
	}
	*d = done
	if failure != nil {
		g.log().Warn("a broken guardrail's action failed", "experiment", d.ID, "action", what, "state", of(&d.Breaches[i]).State, "err", failure)
	}
}

// hopeless reports whether a retry cannot succeed.
func hopeless(err error) bool {
	switch event.AsError(err).Code {
	case event.CodeNotFound, event.CodeInvalid, event.CodeForbidden:
		return true
	}
	return false
}

func short(err error) string {
	s := event.AsError(err).Message
	return event.FirstChars(s, 300)
}

func (g *Guard) stop(ctx context.Context, d *Definition, b *Breach) error {
	if g.Stop == nil {
		return event.NewError(event.CodeNotFound, "rollouts cannot be stopped from here", "stop it where it was started", nil)
	}
	return g.Stop(ctx, guardActor, d, b.Variant, "experiment "+d.Name+": "+b.Words)
}

func (g *Guard) tell(send func(context.Context, Alert) error) func(context.Context, *Definition, *Breach) error {
	return func(ctx context.Context, d *Definition, b *Breach) error {
		if send == nil {
			return event.NewError(event.CodeNotFound, "this alert destination is no longer configured", "configure it on the Alerts page", nil)
		}
		a := Alert{
			ID: d.ID + "-" + event.DerivedID(b.Key, b.At), Type: AlertGuardrail, Project: d.Project, ExperimentID: d.ID, Experiment: d.Name,
			Variant: b.Variant, Why: b.Words, At: b.At, Rollout: b.Rollout.State, RolloutError: b.Rollout.Error,
		}
		if g.Link != nil {
			a.URL = g.Link(*d)
		}
		return send(ctx, a)
	}
}

// Alert is a message about a broken guardrail. It contains metrics, not
// content.
type Alert struct {
	ID           string    `json:"id"`   // the same whenever this alert is sent
	Type         string    `json:"type"` // AlertGuardrail or AlertTest
	Project      string    `json:"project"`
	ExperimentID string    `json:"experiment_id"`
	Experiment   string    `json:"experiment"` // its name
	Variant      string    `json:"arm"`
	Why          string    `json:"why"`
	At           time.Time `json:"at"`
	URL          string    `json:"url"` // of the experiment's page
	// Rollout is the state of stopping it: "none" (not asked for), "done",
	// "pending" or "failed", with RolloutError.
	Rollout      string `json:"rollout_stop"`
	RolloutError string `json:"rollout_error,omitempty"`
}

// Types of an [Alert].
const (
	AlertGuardrail = "guardrail_broken"
	AlertTest      = "test"
)

// TestAlert is sent to test whether alerts arrive.
func TestAlert(projectID, url string, now time.Time) Alert {
	return Alert{ID: event.NewID(), Type: AlertTest, Project: projectID, Experiment: "none", Why: "This is a test: alerts of this project are sent here.", At: now.UTC(), URL: url, Rollout: ActionNone}
}

// Subject is an alert in one line.
func (a Alert) Subject() string {
	if a.Type == AlertTest {
		return "hedgerow: test alert"
	}
	return "hedgerow: guardrail broken in " + a.Experiment
}

// Text is an alert in plain text.
func (a Alert) Text() string {
	var b strings.Builder
	b.WriteString(a.Why + "\n\n")
	if a.Type != AlertTest {
		fmt.Fprintf(&b, "Experiment: %s\nVariant: %s\nNoticed: %s\n", a.Experiment, a.Variant, a.At.UTC().Format("2 January 2006, 15:04:05 UTC"))
		switch a.Rollout {
		case ActionDone:
			b.WriteString("The rollout was stopped: all users get the control.\n")
		case ActionFailed, ActionPending:
			fmt.Fprintf(&b, "The rollout is NOT stopped yet: %s\n", a.RolloutError)
		default:
			b.WriteString("The rollout continues: the experiment is not set to stop it.\n")
		}
	}
	if a.URL != "" {
		b.WriteString("\n" + a.URL + "\n")
	}
	return b.String()
}
