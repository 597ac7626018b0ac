package mcp

import (
	"context"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/flag"
	"github.com/hedgerow/hedgerow/server/internal/prompt"
)

type rolloutVariant struct {
	Variant  string   `json:"variant" jsonschema:"the flag's variant; users without the flag also get control; true is for a flag without variants"`
	Version  string   `json:"version,omitempty" jsonschema:"number, label or id. Default: the label production"`
	Model    string   `json:"model,omitempty" jsonschema:"overrides the version's"`
	Provider string   `json:"provider,omitempty" jsonschema:"overrides the version's"`
	Share    *float64 `json:"share,omitempty" jsonschema:"hedgerow's percentage of the users in the rollout; all variants add up to 100"`
}

type rolloutRow struct {
	Prompt   string           `json:"prompt"`
	Flag     string           `json:"flag"`
	Variants []rolloutVariant `json:"arms"`
	Percent  *float64         `json:"percent,omitempty" jsonschema:"hedgerow's percentage of all users, used if PostHog does not decide"`
	Stopped  bool             `json:"stopped"`
	Reason   string           `json:"reason,omitempty"`
	FlagOff  string           `json:"flag_off,omitempty" jsonschema:"state of PostHog's flag after the rollout was stopped"`
}

func rolloutRowOf(ro prompt.Rollout) rolloutRow {
	row := rolloutRow{Prompt: ro.Prompt, Flag: ro.Flag, Stopped: ro.Stopped, Reason: ro.Reason, FlagOff: ro.FlagOff}
	var shares map[string]float64
	row.Percent, shares = ro.OwnFigures()
	for _, v := range ro.VariantKeys() {
		a := rolloutVariant{Variant: v, Version: ro.Variants[v].Version, Model: ro.Variants[v].Model, Provider: ro.Variants[v].Provider}
		if share, ok := shares[v]; ok {
			a.Share = &share
		}
		row.Variants = append(row.Variants, a)
	}
	return row
}

type rolloutsOut struct {
	Rollouts []rolloutRow `json:"rollouts"`
}

type rolloutOut struct {
	Rollout rolloutRow `json:"rollout"`
}

type setRolloutIn struct {
	Prompt   string           `json:"prompt" jsonschema:"name of the prompt"`
	Flag     string           `json:"flag" jsonschema:"key of the feature flag in PostHog, or any key if there is none"`
	Variants []rolloutVariant `json:"arms" jsonschema:"version and model of each variant"`
	Percent  *float64         `json:"percent,omitempty" jsonschema:"hedgerow's percentage of all users, 0 to 100; each variant then needs a share"`
}

type stopRolloutIn struct {
	Prompt string `json:"prompt" jsonschema:"name of the prompt"`
	Reason string `json:"reason,omitempty" jsonschema:"recorded in the audit log"`
}

type resolveIn struct {
	Prompt     string `json:"prompt" jsonschema:"name of the prompt"`
	DistinctID string `json:"distinct_id" jsonschema:"the user's id, as in PostHog"`
}

type resolveOut struct {
	Version int    `json:"version"`
	Model   string `json:"model,omitempty"`
	Flag    string `json:"flag,omitempty"`
	Variant string `json:"variant,omitempty" jsonschema:"false: the user is not in the rollout"`
	Reason  string `json:"reason" jsonschema:"no_rollout, stopped, no_user, posthog_local, posthog_remote, own (hedgerow's percentages) or not_decided"`
}

func (s *Server) addRolloutTools() {
	add(s, spec{name: "list_rollouts", title: "List rollouts", description: "Which prompts give users different versions, by the variants of a feature flag.", need: read}, s.listRollouts)
	add(s, spec{name: "resolve_prompt", title: "Resolve a prompt", description: "Which version, model and variant of a prompt a user gets, and why. Counts as an exposure of the user to the flag.", need: write}, s.resolvePrompt)
	add(s, spec{name: "set_rollout", title: "Roll a prompt out", description: "Gives users versions and models of a prompt by the variants of a feature flag, immediately; a stopped rollout runs again. It changes what applications run: ask the user first.", need: write, destructive: true}, s.setRollout)
	add(s, spec{name: "stop_rollout", title: "Stop a rollout", description: "All users get the control from now on; the PostHog flag is turned off if the personal key allows it.", need: write, destructive: true}, s.stopRollout)
}

func (s *Server) listRollouts(_ context.Context, who caller, _ noArguments) (rolloutsOut, error) {
	out := rolloutsOut{Rollouts: []rolloutRow{}}
	for _, ro := range s.c.Prompts.Rollouts(who.projectID) {
		out.Rollouts = append(out.Rollouts, rolloutRowOf(ro))
	}
	return out, nil
}

func (s *Server) resolvePrompt(ctx context.Context, who caller, in resolveIn) (out resolveOut, err error) {
	r, err := s.c.Prompts.Resolve(ctx, who.projectID, in.Prompt, "", flag.User{DistinctID: in.DistinctID})
	if err != nil {
		return out, err
	}
	return resolveOut{Version: r.Version.Number, Model: r.Model, Flag: r.Flag, Variant: r.Variant, Reason: r.Reason}, nil
}

func (s *Server) setRollout(ctx context.Context, who caller, in setRolloutIn) (out rolloutOut, err error) {
	ro := prompt.Rollout{Prompt: in.Prompt, Flag: in.Flag, Variants: make(map[string]prompt.Variant, len(in.Variants))}
	shares := make(map[string]float64)
	for _, a := range in.Variants {
		if _, twice := ro.Variants[a.Variant]; twice {
			return out, event.Invalid("a variant is listed twice", "list each variant once")
		}
		ro.Variants[a.Variant] = prompt.Variant{Version: a.Version, Model: a.Model, Provider: a.Provider}
		if a.Share != nil {
			shares[a.Variant] = *a.Share
		}
	}
	switch {
	case in.Percent != nil:
		ro.Own = prompt.Split(in.Flag, *in.Percent, shares)
	case len(shares) > 0:
		return out, event.Invalid("variants have shares, but percent of all users is missing", "pass percent too, or omit the shares to use PostHog's flag")
	}
	if ro, err = s.c.Prompts.SetRollout(ctx, who.actor, who.projectID, ro); err != nil {
		return out, err
	}
	return rolloutOut{rolloutRowOf(ro)}, nil
}

func (s *Server) stopRollout(ctx context.Context, who caller, in stopRolloutIn) (out rolloutOut, err error) {
	if err := s.c.Prompts.StopRollout(ctx, who.actor, who.projectID, in.Prompt, in.Reason); err != nil {
		return out, err
	}
	ro, ok := s.c.Prompts.Rollout(who.projectID, in.Prompt)
	if !ok {
		return out, event.NewError(event.CodeNotFound, "the rollout was removed meanwhile", "list_rollouts shows the rollouts", nil)
	}
	return rolloutOut{rolloutRowOf(ro)}, nil
}
