package prompt

import (
	"maps"

	"github.com/hedgerow/hedgerow/internal/template"
)

// Rendered is a version for one user: what to send to the provider.
type Rendered struct {
	Messages []Message      `json:"messages"`
	Provider string         `json:"provider,omitempty"`
	Model    string         `json:"model,omitempty"`
	Params   map[string]any `json:"params,omitempty"`
}

// Render puts the values of variables into the version's messages. See
// [template.Render] for what each type takes and for its errors.
func (v Version) Render(vars map[string]any) (Rendered, error) {
	messages, err := template.Render(v.Messages, v.Variables, vars)
	if err != nil {
		return Rendered{}, err
	}
	return Rendered{Messages: messages, Provider: v.Provider, Model: v.Model, Params: maps.Clone(v.Params)}, nil
}
