package prompt

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/flag"
)

// Control is the variant of those who get what they would get without the
// rollout. Users without the flag get its variant too.
const Control = "control"

// Rollout gives the users of a prompt different versions of it, by the variants
// of a feature flag. A prompt has one or none.
//
// Who gets what is decided by PostHog's flag of that key. Where the project has no
// PostHog, PostHog has no such flag, or cannot say, Own decides by the same hash;
// without Own all users get the control then.
type Rollout struct {
	Project string `json:"-"`
	Prompt  string `json:"prompt"`
	Flag    string `json:"flag"` // the flag's key

	// Variants are what each variant of the flag gets, by its key; a flag without
	// variants has the key "true". A key that is not listed, and a user without the
	// flag, gets what "control" gets or, if that is not listed, the version labeled
	// production.
	Variants map[string]Variant `json:"arms"`

	Own *flag.Definition `json:"own,omitempty"`

	// Stopped: all users get the control, regardless of the flag.
	Stopped   bool      `json:"stopped"`
	Reason    string    `json:"reason,omitempty"` // why it was stopped
	StoppedBy string    `json:"stopped_by,omitempty"`
	StoppedAt time.Time `json:"stopped_at,omitzero"`
	// FlagOff is what happened to PostHog's flag then: FlagOffDone, or why it
	// is still on; "" if there is none.
	FlagOff string `json:"flag_off,omitempty"`

	By      string    `json:"by"` // who set it
	Created time.Time `json:"created_at"`
	Updated time.Time `json:"updated_at"`
}

// FlagOffDone is [Rollout.FlagOff] where PostHog's flag was switched off.
const FlagOffDone = "switched off"

// Variant is what one variant of the flag gets.
type Variant struct {
	// Version is one of the prompt, as in [Registry.Version]: "" is what the label
	// production points to, or else the newest.
	Version string `json:"version,omitempty"`
	// Provider and Model take the place of the version's; "" leaves them.
	Provider string `json:"provider,omitempty"`
	Model    string `json:"model,omitempty"`
}

// Shares returns which part of all users each variant has, in percent, by Own's
// figures; nil where only PostHog has them. "" are those who do not have the
// flag.
func (r *Rollout) Shares() map[string]float64 {
	percent, shares := r.OwnFigures()
	if percent == nil {
		return nil
	}
	out := map[string]float64{"": 100 - *percent}
	for v, share := range shares {
		out[v] = *percent * share / 100
	}
	return out
}

// OwnFigures are what [Split] was given: the percentage of all users, and of these
// by variant; nil where PostHog alone decides.
func (r *Rollout) OwnFigures() (percent *float64, shares map[string]float64) {
	if r.Own == nil || len(r.Own.Filters.Groups) == 0 || r.Own.Filters.Multivariate == nil {
		return nil, nil
	}
	all := 100.0
	if p := r.Own.Filters.Groups[0].Rollout; p != nil {
		all = *p
	}
	shares = make(map[string]float64)
	for _, v := range r.Own.Filters.Multivariate.Variants {
		shares[v.Key] = v.Rollout
	}
	return &all, shares
}

// Split returns Own for a rollout: percent of all users take part, spread over
// the variants by shares, which add up to 100.
func Split(key string, percent float64, shares map[string]float64) *flag.Definition {
	variants := make([]flag.Variant, 0, len(shares))
	// The order decides who falls where: the control first, then by name, always.
	for _, k := range slices.SortedFunc(maps.Keys(shares), controlFirst) {
		variants = append(variants, flag.Variant{Key: k, Rollout: shares[k]})
	}
	d := flag.Split(key, percent, variants)
	return &d
}

func controlFirst(a, b string) int {
	switch {
	case a == b:
		return 0
	case a == Control:
		return -1
	case b == Control:
		return 1
	}
	return cmp.Compare(a, b)
}

// VariantKeys lists the keys of Variants, the control first.
func (r *Rollout) VariantKeys() []string {
	return slices.SortedFunc(maps.Keys(r.Variants), controlFirst)
}

const prefixRollout = "rollout." // rollout.PROJECT.NAME in base64url

func rolloutKey(projectID, name string) string {
	return prefixRollout + projectID + "." + base64.RawURLEncoding.EncodeToString([]byte(name))
}

// rollout is a rollout as the bucket keeps it.
type rollout struct {
	Rollout
	ProjectID string `json:"project"`
	PromptID  string `json:"prompt_id"` // a prompt that takes the name of a deleted one does not take its rollout

	own *flag.Set
}

func (st *state) applyRollout(key string, value []byte) error {
	if value == nil {
		delete(st.rollouts, key)
		return nil
	}
	ro := new(rollout)
	if err := json.Unmarshal(value, ro); err != nil {
		return err
	}
	ro.Project = ro.ProjectID
	if ro.Own != nil {
		ro.own = flag.NewSet([]flag.Definition{*ro.Own}, nil, nil, false)
	}
	st.rollouts[key] = ro
	return nil
}

// clone keeps what readers do from the view.
func (ro *rollout) clone() Rollout {
	out := ro.Rollout
	out.Variants = maps.Clone(ro.Variants)
	if ro.Own != nil {
		d := *ro.Own
		out.Own = &d
	}
	return out
}

// Rollout returns the rollout of a prompt.
func (r *Registry) Rollout(projectID, name string) (Rollout, bool) {
	h, ok := r.b.View().prompt(projectID, name)
	if !ok || h.rollout == nil {
		return Rollout{}, false
	}
	return h.rollout.clone(), true
}

// Rollouts lists a project's rollouts by prompt.
func (r *Registry) Rollouts(projectID string) []Rollout {
	s := r.b.View().projects[projectID]
	if s == nil {
		return nil
	}
	var list []Rollout
	for _, h := range s.list {
		if h.rollout != nil {
			list = append(list, h.rollout.clone())
		}
	}
	return list
}

// OwnFlags lists a project's rollouts by own percentages as flags. One that is
// stopped is a flag that is switched off.
func (r *Registry) OwnFlags(projectID string) []flag.Definition {
	var list []flag.Definition
	for _, ro := range r.Rollouts(projectID) {
		if ro.Own != nil {
			d := *ro.Own
			d.Key, d.Name, d.Active = ro.Flag, "rollout of the prompt "+ro.Prompt, !ro.Stopped
			list = append(list, d)
		}
	}
	return list
}

// flagKey is what PostHog takes for a flag's key.
var flagKey = regexp.MustCompile(`^[A-Za-z0-9_-]{1,400}$`)

const maxVariants = 20

func (r *Rollout) check(h *held) error {
	r.Flag = strings.TrimSpace(r.Flag)
	if !flagKey.MatchString(r.Flag) {
		return event.Invalid("a flag's key has letters, digits, - and _", "use the key of the flag in PostHog, for example support-prompt")
	}
	if len(r.Variants) == 0 || len(r.Variants) > maxVariants {
		return event.Invalid(fmt.Sprintf("a rollout has 1 to %d variants", maxVariants), "set what each variant of the flag serves")
	}
	variants := make(map[string]Variant, len(r.Variants))
	for variant, a := range r.Variants {
		name := strings.TrimSpace(variant)
		if !flagKey.MatchString(name) || name == "false" {
			return event.Invalid(fmt.Sprintf("%q is not a valid flag variant", event.FirstChars(variant, 50)), "use the variant keys from PostHog: letters, digits, - and _")
		}
		a.Version, a.Provider, a.Model = strings.TrimSpace(a.Version), strings.ToLower(strings.TrimSpace(a.Provider)), strings.TrimSpace(a.Model)
		if _, ok := h.version(a.Version); !ok {
			return noVersion(h.Name, a.Version)
		}
		if len(a.Provider) > 100 || len(a.Model) > 200 {
			return event.Invalid("the provider or model name is too long", "use the names from the provider's API")
		}
		variants[name] = a
	}
	r.Variants = variants
	if r.Own == nil {
		return nil
	}
	r.Own.Key, r.Own.Active = r.Flag, true
	if err := r.Own.Check(); err != nil {
		return event.NewError(event.CodeInvalid, "hedgerow's own percentages cannot be used: "+err.Error(), "the variants' percentages add up to 100", nil)
	}
	if r.Own.Filters.Multivariate == nil || len(r.Own.Filters.Groups) != 1 || len(r.Own.Filters.Groups[0].Properties) > 0 {
		return event.Invalid("hedgerow's own percentages are one share of all users and one per variant", "create the flag in PostHog to target specific users")
	}
	for _, v := range r.Own.Filters.Multivariate.Variants {
		if _, ok := variants[v.Key]; !ok && v.Key != Control {
			return event.Invalid(fmt.Sprintf("the variant %q has a percentage but no prompt version", event.FirstChars(v.Key, 50)), "set what it serves")
		}
	}
	return nil
}

// SetRollout sets the rollout of ro.Prompt, from now on: one that was stopped
// runs again. What ro says of its stop, its author and its times is not
// checked.
func (r *Registry) SetRollout(ctx context.Context, actor, projectID string, ro Rollout) (Rollout, error) {
	h, ok := r.b.View().prompt(projectID, ro.Prompt)
	if !ok {
		return Rollout{}, noPrompt(ro.Prompt)
	}
	ro.Project = projectID
	if err := ro.check(h); err != nil {
		return Rollout{}, err
	}
	now := r.now().UTC()
	err := r.b.Change(ctx, rolloutKey(projectID, ro.Prompt), func(value []byte) (any, error) {
		rec := rollout{Rollout: ro, ProjectID: projectID, PromptID: h.id}
		rec.Stopped, rec.Reason, rec.StoppedBy, rec.StoppedAt, rec.FlagOff = false, "", "", time.Time{}, ""
		rec.By, rec.Created, rec.Updated = actor, now, now
		var old rollout
		if value != nil && json.Unmarshal(value, &old) == nil && old.PromptID == h.id {
			rec.Created = old.Created
		}
		return rec, nil
	})
	if err != nil {
		return Rollout{}, err
	}
	r.audit(ctx, actor, "prompt.rollout", projectID, ro.Prompt, ro.detail())
	out, ok := r.Rollout(projectID, ro.Prompt)
	if !ok {
		return Rollout{}, noRollout(ro.Prompt) // taken away at once by someone else
	}
	return out, nil
}

// detail is the rollout in a line of the audit log.
func (r *Rollout) detail() string {
	var parts []string
	shares := r.Shares()
	for _, v := range r.VariantKeys() {
		a := r.Variants[v]
		s := v + " → " + cmp.Or(a.Version, Production)
		if a.Model != "" {
			s += " on " + a.Model
		}
		if p, ok := shares[v]; ok {
			s += fmt.Sprintf(" (%.4g %%)", p)
		}
		parts = append(parts, s)
	}
	return "flag " + r.Flag + ": " + strings.Join(parts, ", ")
}

// StopRollout gives all users the control from now on, and switches PostHog's flag
// off where the connection's personal key allows that: [Rollout.FlagOff] says
// whether it did. One that is stopped already stays as it is.
func (r *Registry) StopRollout(ctx context.Context, actor, projectID, name, reason string) error {
	h, ok := r.b.View().prompt(projectID, name)
	if !ok {
		return noPrompt(name)
	}
	reason = event.FirstChars(strings.TrimSpace(reason), maxNote)
	stopped := false
	err := r.changeRollout(ctx, h, func(ro *rollout) {
		if stopped = !ro.Stopped; stopped {
			ro.Stopped, ro.Reason, ro.StoppedBy, ro.StoppedAt = true, reason, actor, r.now().UTC()
			ro.Updated = ro.StoppedAt
		}
	})
	if err != nil || !stopped {
		return err
	}
	detail := reason
	if r.o.Flags != nil {
		off := FlagOffDone
		switch err := event.AsError(r.o.Flags.TurnOff(ctx, projectID, h.rollout.Flag)); {
		case err == nil:
		case err.Code == event.CodeNotFound:
			off = "" // there is no such flag in any PostHog
		default:
			off = err.Message
		}
		if err := r.changeRollout(ctx, h, func(ro *rollout) { ro.FlagOff = off }); err != nil {
			r.log.Warn("the outcome for the flag of a stopped rollout could not be saved", "prompt", name, "err", err)
		}
		if off != "" {
			detail = strings.TrimPrefix(detail+"; PostHog's flag "+h.rollout.Flag+": "+off, "; ")
		}
	}
	r.audit(ctx, actor, "prompt.rollout_stop", projectID, name, detail)
	return nil
}

// RemoveRollout removes a rollout: all users get the version labeled
// production. PostHog's flag stays as it is.
func (r *Registry) RemoveRollout(ctx context.Context, actor, projectID, name string) error {
	h, ok := r.b.View().prompt(projectID, name)
	if !ok {
		return noPrompt(name)
	}
	if h.rollout == nil {
		return noRollout(name)
	}
	if err := r.b.Remove(ctx, rolloutKey(projectID, name)); err != nil {
		return err
	}
	r.audit(ctx, actor, "prompt.rollout_remove", projectID, name, "flag "+h.rollout.Flag)
	return nil
}

func (r *Registry) changeRollout(ctx context.Context, h *held, f func(*rollout)) error {
	return r.b.Change(ctx, rolloutKey(h.Project, h.Name), func(value []byte) (any, error) {
		if value == nil || h.rollout == nil {
			return nil, noRollout(h.Name)
		}
		var ro rollout
		if err := json.Unmarshal(value, &ro); err != nil {
			return nil, event.NewError(event.CodeInternal, "the rollout is damaged", "set it again", err)
		}
		if ro.PromptID != h.id {
			return nil, noRollout(h.Name)
		}
		f(&ro)
		return ro, nil
	})
}

func noRollout(name string) error {
	return event.NewError(event.CodeNotFound, fmt.Sprintf("the prompt %q has no rollout", event.FirstChars(name, 100)), "set one first", nil)
}
