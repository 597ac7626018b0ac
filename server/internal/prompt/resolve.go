package prompt

import (
	"context"
	"maps"
	"strconv"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/flag"
)

// Flags decides PostHog's feature flags, and reports exposures to PostHog;
// server/internal/posthog's do.
type Flags interface {
	// Decide returns a user's value of a flag, and how it was decided. An error
	// says that hedgerow's own percentages are to decide.
	Decide(ctx context.Context, projectID, key string, u flag.User) (v flag.Value, how string, err error)
	// TurnOff switches a flag off for all users. An error of code not_found means
	// that there is none to switch off.
	TurnOff(ctx context.Context, projectID, key string) error
}

// Why someone gets a version: [Resolution.Reason]. A flag decided by PostHog
// has the reason that [Flags] gives.
const (
	ReasonNoRollout = "no_rollout"  // the prompt has none: the label production, or the newest version
	ReasonPinned    = "pinned"      // the version was requested by number, id or label
	ReasonStopped   = "stopped"     // the rollout is: the control
	ReasonNoUser    = "no_user"     // no user: the control
	ReasonOwn       = "own"         // hedgerow's own percentages
	ReasonUndecided = "not_decided" // PostHog could not say, and hedgerow has no percentages: the control
)

// Resolution is what a user gets of a prompt.
type Resolution struct {
	Prompt   string
	Version  Version
	Provider string // the variant's or else the version's; "" leaves it to the caller
	Model    string // the variant's or else the version's; "" leaves it to the caller
	Flag     string // the rollout's flag; "" where no rollout was checked
	// Variant is the flag's value for the user, as PostHog writes it: "false"
	// for who does not have it. Events have it as $feature/<flag>.
	Variant string
	Value   flag.Value // the same, distinguished from a variant named "true"
	Reason  string
}

// Render is [Version.Render] with the resolution's provider and model.
func (s Resolution) Render(vars map[string]any) (Rendered, error) {
	out, err := s.Version.Render(vars)
	out.Provider, out.Model = s.Provider, s.Model
	return out, err
}

// The rollout's flag and the user's variant on an event, in addition to
// $feature/<flag>: a chart by variant needs no flag's name then.
const (
	PropertyFlag    = "posthog_flag"
	PropertyVariant = "posthog_flag_variant"
)

// Mark puts on an event what it ran: prompt, version and flag.
func (s Resolution) Mark(e *event.Event) {
	e.PromptName, e.PromptVersion, e.PromptVersionID = s.Prompt, strconv.Itoa(s.Version.Number), s.Version.ID
	if s.Flag != "" {
		e.Flags = maps.Clone(e.Flags)
		if e.Flags == nil {
			e.Flags = make(map[string]string, 1)
		}
		e.Flags[s.Flag] = s.Variant
		_ = e.SetProperty(PropertyFlag, s.Flag) // a string marshals
		_ = e.SetProperty(PropertyVariant, s.Variant)
	}
}

// Properties are what events of the call have, for programs that send their
// events themselves.
func (s Resolution) Properties() map[string]any {
	p := map[string]any{"$ai_prompt_name": s.Prompt, "$ai_prompt_version": s.Version.Number, "$ai_prompt_version_id": s.Version.ID}
	if s.Version.PromptHash != "" {
		p["prompt_hash"] = s.Version.PromptHash
	}
	if s.Flag != "" {
		p[PropertyFlag], p[PropertyVariant] = s.Flag, s.Variant
		p["$feature/"+s.Flag] = s.Value.Any()
	}
	return p
}

// Resolve returns what a user gets of a prompt. ref is as in [Registry.Version]; a
// rollout is checked where it is "" or production: every other one is its own
// choice. It does I/O only where PostHog has to evaluate a rollout's flag, and
// never fails for that; the error is that there is no such prompt or version.
func (r *Registry) Resolve(ctx context.Context, projectID, name, ref string, u flag.User) (Resolution, error) {
	h, ok := r.b.View().prompt(projectID, name)
	if !ok {
		return Resolution{}, noPrompt(name)
	}
	ro := h.rollout
	if ref != "" && ref != Production || ro == nil {
		v, ok := h.version(ref)
		if !ok {
			return Resolution{}, noVersion(name, ref)
		}
		s := Resolution{Prompt: name, Version: *v, Provider: v.Provider, Model: v.Model, Reason: ReasonNoRollout}
		if ref != "" && ref != Production {
			s.Reason = ReasonPinned
		}
		return s, nil
	}
	s := Resolution{Prompt: name, Flag: ro.Flag}
	var value flag.Value
	switch {
	case ro.Stopped:
		s.Reason = ReasonStopped
	case u.DistinctID == "":
		s.Reason = ReasonNoUser
	default:
		value, s.Reason = r.decide(ctx, ro, u)
	}
	s.Value, s.Variant = value, value.String()
	v, variant := h.variant(value)
	s.Version, s.Provider, s.Model = *v, v.Provider, v.Model
	if variant.Provider != "" {
		s.Provider = variant.Provider
	}
	if variant.Model != "" {
		s.Model = variant.Model
	}
	return s, nil
}

func (r *Registry) decide(ctx context.Context, ro *rollout, u flag.User) (flag.Value, string) {
	if r.o.Flags != nil {
		v, how, err := r.o.Flags.Decide(ctx, ro.Project, ro.Flag, u)
		if err == nil {
			return v, how
		}
		if code := event.AsError(err).Code; code != event.CodeNotFound {
			r.log.Debug("PostHog did not evaluate a rollout's flag", "flag", ro.Flag, "code", code)
		}
	}
	if v, err := ro.own.Evaluate(ro.Flag, u); err == nil {
		return v, ReasonOwn
	}
	return flag.Value{}, ReasonUndecided
}

// variant returns what a flag's value gets. A version that a variant names and that is
// not there any more gives the control's.
func (h *held) variant(value flag.Value) (*Version, Variant) {
	for _, variant := range []string{value.String(), Control} {
		if a, ok := h.rollout.Variants[variant]; ok {
			if v, ok := h.version(a.Version); ok {
				return v, a
			}
		}
	}
	v, ok := h.version("")
	if !ok {
		v = h.versions[len(h.versions)-1] // production was left pointing at nothing
	}
	return v, Variant{}
}
