package prompt

import (
	"context"
	"maps"
	"slices"

	"github.com/hedgerow/hedgerow/event"
)

// Withdrawal is a variant of an experiment that is to be taken away from its users.
type Withdrawal struct {
	Project, Prompt string
	Flag            string // whose variants are compared; "": versions of the prompt
	Variant         string // that does harm
	Control         string
	Reason          string
}

// Withdraw gives all users the control in place of a harmful variant, depending
// on how they got it:
//
//   - a rollout is stopped ([Registry.StopRollout]), and the label production, if
//     it has come to point to the variant's version, moved back;
//   - where there is a flag and no rollout, PostHog's flag is switched off;
//   - where versions themselves are the variants, every label that points to the variant's
//     version is moved back to the control's.
//
// Repeating it changes nothing. An error of code not found means that
// nothing of these is there: callers name the version on their own.
func (r *Registry) Withdraw(ctx context.Context, actor string, w Withdrawal) error {
	h, ok := r.b.View().prompt(w.Project, w.Prompt)
	switch {
	case !ok:
		return noPrompt(w.Prompt)
	case h.rollout != nil:
		if err := r.StopRollout(ctx, actor, w.Project, w.Prompt, w.Reason); err != nil {
			return err
		}
		bad, good := h.given(w.Variant), h.given(w.Control)
		if l, ok := h.Labels[Production]; ok && bad != nil && l.Version == bad.Number {
			if good == nil || good.Number == bad.Number {
				good = h.before(l) // the control is what production points to
			}
			if good != nil {
				return r.moveLabel(ctx, actor, h, Production, good, w.Reason)
			}
		}
		return nil
	case w.Flag != "" && r.o.Flags != nil:
		return r.o.Flags.TurnOff(ctx, w.Project, w.Flag)
	case w.Flag != "":
		return noRollout(w.Prompt)
	}
	bad, known := h.version(w.Variant)
	good, ok := h.version(w.Control)
	if !known || !ok {
		return noVersion(w.Prompt, w.Variant)
	}
	found := false
	for _, name := range slices.Sorted(maps.Keys(h.Labels)) {
		l := h.Labels[name]
		switch {
		case l.Version == bad.Number:
			if err := r.moveLabel(ctx, actor, h, name, good, w.Reason); err != nil {
				return err
			}
			found = true
		case len(l.History) > 0 && l.History[0].From == bad.Number && l.History[0].By == actor:
			found = true // done before
		}
	}
	if !found {
		return event.NewError(event.CodeNotFound, "no label of the prompt points to the version", "stop it where callers name the version", nil)
	}
	return nil
}

// given is the version that a variant of the rollout gives, or a version of
// that number or id; nil if there is neither.
func (h *held) given(variant string) *Version {
	if a, ok := h.rollout.Variants[variant]; ok {
		variant = a.Version
	} else if variant == Control {
		variant = ""
	}
	v, _ := h.version(variant)
	return v
}

// before is the version that a label pointed to last; nil where it is gone.
func (h *held) before(l Label) *Version {
	for _, m := range l.History {
		if m.To == l.Version && m.From != 0 {
			v, _ := h.number(m.From)
			return v
		}
	}
	return nil
}
