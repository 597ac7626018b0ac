package prompt

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/internal/template"
)

// PostHogPrompt is a version as PostHog's prompt clients read it (contract 6.5;
// the class Prompts of @posthog/ai and its like in Python).
//
// PostHog's prompt is one text. Prompt is the only message's text or, of several,
// the instructions: the texts of system and developer messages, joined by an
// empty line. Where there are none it is the first message's. All messages are in
// Config then. The variables are the same: {{name}}.
type PostHogPrompt struct {
	ID      string `json:"id"` // the version's id
	Name    string `json:"name"`
	Prompt  string `json:"prompt"`
	Version int    `json:"version"`
	// Label is the requested label. A client that requests a label and
	// gets none assumes that the server does not support labels.
	Label     string         `json:"label,omitempty"`
	AllLabels []PostHogLabel `json:"all_labels"`
	// Config has the parameters next to provider, model and, where there are
	// several, messages.
	Config    map[string]any `json:"config"`
	CreatedBy string         `json:"created_by"`
	CreatedAt time.Time      `json:"created_at"`
	UpdatedAt time.Time      `json:"updated_at"`
	Deleted   bool           `json:"deleted"` // always false
}

// PostHogLabel is one label of a prompt, whatever version it points to.
type PostHogLabel struct {
	Name    string `json:"name"`
	Version int    `json:"version"`
}

// PostHogPrompt returns a version of a prompt in PostHog's form. As there, a
// request without label and version (0) means the newest version. A label and a
// version exclude each other.
func (r *Registry) PostHogPrompt(projectID, name, label string, version int) (PostHogPrompt, bool) {
	h, ok := r.b.View().prompt(projectID, name)
	if !ok {
		return PostHogPrompt{}, false
	}
	number := h.Latest
	switch {
	case version != 0:
		number = version
	case label == Latest:
	case label != "":
		l, ok := h.Labels[label]
		if !ok {
			return PostHogPrompt{}, false
		}
		number = l.Version
	}
	v, ok := h.number(number)
	if !ok {
		return PostHogPrompt{}, false
	}
	f := PostHogPrompt{
		ID: v.ID, Name: h.Name, Prompt: oneText(v.Messages), Version: v.Number, Label: label, AllLabels: []PostHogLabel{}, Config: maps.Clone(v.Params),
		CreatedBy: v.Author, CreatedAt: v.Created, UpdatedAt: v.Created,
	}
	for _, l := range slices.Sorted(maps.Keys(h.Labels)) {
		f.AllLabels = append(f.AllLabels, PostHogLabel{l, h.Labels[l].Version})
	}
	if label == Latest { // clients expect the requested label
		f.AllLabels = append(f.AllLabels, PostHogLabel{Latest, h.Latest})
	}
	if f.Config == nil {
		f.Config = map[string]any{}
	}
	for name, value := range map[string]string{"provider": v.Provider, "model": v.Model} {
		if value != "" {
			f.Config[name] = value
		}
	}
	if len(v.Messages) > 1 {
		f.Config["messages"] = v.Messages
	}
	return f, true
}

// PostHogPrompts lists the prompts that have the label, each at the version that
// it points to, or with "" all prompts at their newest.
func (r *Registry) PostHogPrompts(projectID, label string) []PostHogPrompt {
	list := []PostHogPrompt{}
	for _, p := range r.Prompts(projectID) {
		if f, ok := r.PostHogPrompt(projectID, p.Name, label, 0); ok {
			list = append(list, f)
		}
	}
	return list
}

func oneText(messages []Message) string {
	if texts := template.Instructions(messages); len(messages) > 1 && len(texts) > 0 {
		return strings.Join(texts, "\n\n")
	}
	return messages[0].Content
}
