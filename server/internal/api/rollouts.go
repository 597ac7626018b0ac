package api

import (
	"net/http"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/flag"
	"github.com/hedgerow/hedgerow/server/internal/prompt"
)

// RolloutInput sets a rollout.
type RolloutInput struct {
	Flag     string                    `json:"flag"`
	Variants map[string]prompt.Variant `json:"arms"`
	// Percent and Shares are hedgerow's own percentages, for who has no PostHog:
	// of all users, and of these by variant. Both or none.
	Percent *float64           `json:"percent,omitempty"`
	Shares  map[string]float64 `json:"shares,omitempty"`
}

// Rollout is the input in the registry's type.
func (in RolloutInput) Rollout(name string) (prompt.Rollout, error) {
	ro := prompt.Rollout{Prompt: name, Flag: in.Flag, Variants: in.Variants}
	switch {
	case in.Percent == nil && in.Shares == nil:
	case in.Percent == nil || in.Shares == nil:
		return ro, event.Invalid("hedgerow's own percentages need both percent and shares", `for example "percent": 5, "shares": {"control": 50, "treatment": 50}`)
	default:
		ro.Own = prompt.Split(in.Flag, *in.Percent, in.Shares)
	}
	return ro, nil
}

// RolloutView is a rollout as the API shows it.
type RolloutView struct {
	Prompt    string                    `json:"prompt"`
	Flag      string                    `json:"flag"`
	Variants  map[string]prompt.Variant `json:"arms"`
	Percent   *float64                  `json:"percent,omitempty"` // hedgerow's own, of all users
	Shares    map[string]float64        `json:"shares,omitempty"`  // of these, by variant
	Stopped   bool                      `json:"stopped"`
	Reason    string                    `json:"reason,omitempty"`
	StoppedBy string                    `json:"stopped_by,omitempty"`
	StoppedAt time.Time                 `json:"stopped_at,omitzero"`
	FlagOff   string                    `json:"flag_off,omitempty"`
	By        string                    `json:"by"`
	Created   time.Time                 `json:"created_at"`
	Updated   time.Time                 `json:"updated_at"`
}

// NewRolloutView is also what the MCP tools answer.
func NewRolloutView(ro prompt.Rollout) RolloutView {
	v := RolloutView{Prompt: ro.Prompt, Flag: ro.Flag, Variants: ro.Variants, Stopped: ro.Stopped, Reason: ro.Reason, StoppedBy: ro.StoppedBy, StoppedAt: ro.StoppedAt,
		FlagOff: ro.FlagOff, By: ro.By, Created: ro.Created, Updated: ro.Updated}
	v.Percent, v.Shares = ro.OwnFigures()
	return v
}

// StopInput stops a rollout.
type StopInput struct {
	Reason string `json:"reason,omitempty"`
}

// ResolveInput selects the prompt and user to resolve.
type ResolveInput struct {
	DistinctID string `json:"distinct_id,omitempty"`
	Version    string `json:"version,omitempty"` // a number, label or id pins it. Left out, or production: the rollout decides
	// Variables are put into the version's messages. Without them the messages
	// are rendered where the version needs none.
	Variables map[string]any `json:"variables,omitempty"`

	// The user's data for a flag's conditions, by PostHog's names.
	DeviceID         string                    `json:"device_id,omitempty"`
	PersonProperties map[string]any            `json:"person_properties,omitempty"`
	Groups           map[string]string         `json:"groups,omitempty"`
	GroupProperties  map[string]map[string]any `json:"group_properties,omitempty"`
}

// ResolveResult is what a user gets.
type ResolveResult struct {
	Version  prompt.Version   `json:"version"`
	Provider string           `json:"provider,omitempty"` // the variant's, or else the version's
	Model    string           `json:"model,omitempty"`    // the variant's, or else the version's
	Rendered *prompt.Rendered `json:"rendered,omitempty"`
	Flag     string           `json:"flag,omitempty"`
	Variant  string           `json:"variant,omitempty"`
	Reason   string           `json:"reason"`
	// Properties are what the events of the call have, for who sends them
	// itself.
	Properties map[string]any `json:"properties"`
}

func (a *API) rolloutRoutes() []route {
	return []route{
		{"GET /api/v1/rollouts", read, false, a.listRollouts},
		{"GET /api/v1/prompts/{name}/rollout", read, false, a.rollout},
		{"PUT /api/v1/prompts/{name}/rollout", write, false, a.setRollout},
		{"DELETE /api/v1/prompts/{name}/rollout", write, false, a.removeRollout},
		{"POST /api/v1/prompts/{name}/rollout/stop", write, false, a.stopRollout},
		{"POST /api/v1/prompts/{name}/resolve", read, false, a.resolvePrompt},
	}
}

func (a *API) listRollouts(_ *http.Request, p Principal) (any, error) {
	list := []RolloutView{}
	for _, ro := range a.c.Prompts.Rollouts(p.ProjectID) {
		list = append(list, NewRolloutView(ro))
	}
	return map[string]any{"rollouts": list}, nil
}

func (a *API) rolloutOf(p Principal, name string) (any, error) {
	if _, ok := a.c.Prompts.Prompt(p.ProjectID, name); !ok {
		return nil, noPrompt(name)
	}
	ro, ok := a.c.Prompts.Rollout(p.ProjectID, name)
	if !ok {
		return nil, event.NewError(event.CodeNotFound, "the prompt "+quoted(event.FirstChars(name, 100))+" has no rollout", "PUT /api/v1/prompts/{name}/rollout sets one", nil)
	}
	return map[string]any{"rollout": NewRolloutView(ro)}, nil
}

func (a *API) rollout(r *http.Request, p Principal) (any, error) {
	return a.rolloutOf(p, r.PathValue("name"))
}

func (a *API) setRollout(r *http.Request, p Principal) (any, error) {
	var in RolloutInput
	if err := readJSON(r, &in); err != nil {
		return nil, err
	}
	ro, err := in.Rollout(r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	if ro, err = a.c.Prompts.SetRollout(r.Context(), p.Actor, p.ProjectID, ro); err != nil {
		return nil, err
	}
	return map[string]any{"rollout": NewRolloutView(ro)}, nil
}

func (a *API) removeRollout(r *http.Request, p Principal) (any, error) {
	return done(a.c.Prompts.RemoveRollout(r.Context(), p.Actor, p.ProjectID, r.PathValue("name")))
}

func (a *API) stopRollout(r *http.Request, p Principal) (any, error) {
	var in StopInput
	if err := readJSON(r, &in); err != nil {
		return nil, err
	}
	name := r.PathValue("name")
	if err := a.c.Prompts.StopRollout(r.Context(), p.Actor, p.ProjectID, name, in.Reason); err != nil {
		return nil, err
	}
	return a.rolloutOf(p, name)
}

func (a *API) resolvePrompt(r *http.Request, p Principal) (any, error) {
	var in ResolveInput
	if err := readJSON(r, &in); err != nil {
		return nil, err
	}
	s, err := a.c.Prompts.Resolve(r.Context(), p.ProjectID, r.PathValue("name"), in.Version, flag.User{DistinctID: in.DistinctID, DeviceID: in.DeviceID,
		Properties: in.PersonProperties, Groups: in.Groups, GroupProperties: in.GroupProperties})
	if err != nil {
		return nil, err
	}
	out := ResolveResult{Version: s.Version, Provider: s.Provider, Model: s.Model, Flag: s.Flag, Variant: s.Variant, Reason: s.Reason, Properties: s.Properties()}
	rendered, err := s.Render(in.Variables)
	switch {
	case err == nil:
		out.Rendered = &rendered
	case in.Variables != nil:
		return nil, err
	}
	return out, nil
}
