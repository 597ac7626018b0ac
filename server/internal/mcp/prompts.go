package mcp

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/prompt"
)

type promptLabel struct {
	Label   string `json:"label"`
	Version int    `json:"version"`
}

type promptRow struct {
	Name        string        `json:"name"`
	Description string        `json:"description,omitempty"`
	Latest      int           `json:"latest_version"`
	Labels      []promptLabel `json:"labels,omitempty" jsonschema:"production is the default version"`
	UpdatedAt   time.Time     `json:"updated_at"`
}

func promptRowOf(p prompt.Prompt) promptRow {
	row := promptRow{Name: p.Name, Description: p.Description, Latest: p.Latest, UpdatedAt: p.Updated}
	for _, l := range slices.Sorted(maps.Keys(p.Labels)) {
		row.Labels = append(row.Labels, promptLabel{l, p.Labels[l].Version})
	}
	return row
}

type promptMessage struct {
	Role    string `json:"role,omitempty" jsonschema:"system (default), developer, user or assistant"`
	Content string `json:"content" jsonschema:"the text; {{name}} is a variable"`
}

type promptVariable struct {
	Name        string   `json:"name"`
	Type        string   `json:"type,omitempty" jsonschema:"string (default), number, integer, boolean or json"`
	Optional    bool     `json:"optional,omitempty" jsonschema:"true: without a value it is rendered as empty"`
	Default     any      `json:"default,omitempty" jsonschema:"used if no value is given"`
	Enum        []string `json:"enum,omitempty" jsonschema:"the only values of a string that are allowed"`
	Description string   `json:"description,omitempty"`
}

type promptVersion struct {
	ID        string           `json:"id"`
	Number    int              `json:"number"`
	Messages  []promptMessage  `json:"messages"`
	Variables []promptVariable `json:"variables,omitempty"`
	Provider  string           `json:"provider,omitempty"`
	Model     string           `json:"model,omitempty"`
	Params    map[string]any   `json:"params,omitempty"`
	Author    string           `json:"author"`
	Note      string           `json:"note,omitempty"`
	CreatedAt time.Time        `json:"created_at"`
}

func promptVersionOf(v prompt.Version) promptVersion {
	out := promptVersion{ID: v.ID, Number: v.Number, Provider: v.Provider, Model: v.Model, Params: v.Params, Author: v.Author, Note: v.Note, CreatedAt: v.Created,
		Messages: promptMessages(v.Messages)}
	for _, x := range v.Variables {
		out.Variables = append(out.Variables, promptVariable(x))
	}
	return out
}

func promptMessages(list []prompt.Message) []promptMessage {
	out := make([]promptMessage, len(list))
	for i, m := range list {
		out[i] = promptMessage(m)
	}
	return out
}

type noArguments struct{}

type promptsOut struct {
	Prompts []promptRow `json:"prompts"`
}

type promptIn struct {
	Name    string `json:"name" jsonschema:"name of the prompt"`
	Version string `json:"version,omitempty" jsonschema:"a version number, a label, latest, or an id (pv_…). Default: the label production, otherwise the newest"`
}

type versionRow struct {
	Number    int       `json:"number"`
	Note      string    `json:"note,omitempty"`
	Author    string    `json:"author"`
	CreatedAt time.Time `json:"created_at"`
}

type promptOut struct {
	Prompt   promptRow     `json:"prompt"`
	Version  promptVersion `json:"version" jsonschema:"the requested version"`
	Versions []versionRow  `json:"versions" jsonschema:"all, newest first"`
}

type saveIn struct {
	Name        string           `json:"name" jsonschema:"name of the prompt: up to 100 letters, digits, _, - and ."`
	Description string           `json:"description,omitempty" jsonschema:"what the prompt is for; replaces the current description if given"`
	Messages    []promptMessage  `json:"messages" jsonschema:"all messages of the new version"`
	Variables   []promptVariable `json:"variables,omitempty" jsonschema:"undeclared variables are required strings"`
	Provider    string           `json:"provider,omitempty" jsonschema:"such as openai; default: set by the caller"`
	Model       string           `json:"model,omitempty" jsonschema:"default: set by the caller"`
	Params      map[string]any   `json:"params,omitempty" jsonschema:"such as temperature, as the provider names them"`
	Note        string           `json:"note,omitempty" jsonschema:"what changed and why"`
}

type saveOut struct {
	Created bool          `json:"created" jsonschema:"true: the prompt is new, and the version has the label production"`
	Added   bool          `json:"added" jsonschema:"false: the newest version has this content already"`
	Version promptVersion `json:"version"`
	Next    string        `json:"next,omitempty" jsonschema:"the next step"`
}

type labelIn struct {
	Name    string `json:"name" jsonschema:"name of the prompt"`
	Label   string `json:"label" jsonschema:"production, staging or another name; created if it does not exist"`
	Version string `json:"version" jsonschema:"a version's number, latest, another label, or an id"`
	Reason  string `json:"reason,omitempty" jsonschema:"kept in the label's history"`
}

type labelOut struct {
	Prompt promptRow `json:"prompt"`
	From   int       `json:"from,omitempty" jsonschema:"where the label pointed before; absent if it is new"`
	To     int       `json:"to"`
}

type renderIn struct {
	promptIn
	Variables map[string]any `json:"variables,omitempty" jsonschema:"values by name"`
}

type renderOut struct {
	Version  int             `json:"version"`
	Messages []promptMessage `json:"messages"`
	Provider string          `json:"provider,omitempty"`
	Model    string          `json:"model,omitempty"`
	Params   map[string]any  `json:"params,omitempty"`
}

type deletePromptIn struct {
	Name    string `json:"name" jsonschema:"name of the prompt"`
	Confirm string `json:"confirm" jsonschema:"the prompt's name again"`
}

type deletedOut struct {
	Deleted bool `json:"deleted"`
}

func (s *Server) addPromptTools() {
	roles := func(p map[string]*jsonschema.Schema) {
		enum(p["messages"].Items.Properties["role"], "system", "developer", "user", "assistant")
		enum(p["variables"].Items.Properties["type"], "string", "number", "integer", "boolean", "json")
	}
	add(s, spec{name: "list_prompts", title: "List prompts", description: "The prompts of the project with their labels. Metrics for each are in get_stats with group_by prompt.", need: read}, s.listPrompts)
	add(s, spec{name: "get_prompt", title: "Read a prompt", description: "One version of a prompt with its messages, and a list of other versions and labels.", need: read}, s.getPrompt)
	add(s, spec{name: "render_prompt", title: "Render a prompt", description: "Renders a version of a prompt with values, each checked against its variable's type. Sends nothing to a provider.", need: read}, s.renderPrompt)
	add(s, spec{name: "save_prompt", title: "Save a prompt", description: "Creates a prompt, or adds a version to an existing one. Versions are immutable; a new one is not live until set_prompt_label moves a label to it.", need: write, input: roles}, s.savePrompt)
	add(s, spec{name: "set_prompt_label", title: "Move a label", description: "Moves a label of a prompt to a version, in one step. Moving production changes what applications run: ask the user first.", need: write, destructive: true}, s.setPromptLabel)
	add(s, spec{name: "delete_prompt", title: "Delete a prompt", description: "Deletes a prompt with all its versions. Applications can no longer fetch it. Ask the user first.", need: write, destructive: true}, s.deletePrompt)
}

func (s *Server) findPrompt(who caller, name, ref string) (prompt.Prompt, prompt.Version, error) {
	p, ok := s.c.Prompts.Prompt(who.projectID, name)
	if !ok {
		return p, prompt.Version{}, event.NewError(event.CodeNotFound, fmt.Sprintf("prompt %q not found", event.FirstChars(name, 100)), "list_prompts shows which exist", nil)
	}
	v, ok := s.c.Prompts.Version(who.projectID, name, ref)
	if !ok {
		return p, v, event.NewError(event.CodeNotFound, fmt.Sprintf("the prompt has no version or label %q", event.FirstChars(ref, 50)), "get_prompt lists them", nil)
	}
	return p, v, nil
}

func (s *Server) listPrompts(_ context.Context, who caller, _ noArguments) (promptsOut, error) {
	out := promptsOut{Prompts: []promptRow{}}
	for _, p := range s.c.Prompts.Prompts(who.projectID) {
		out.Prompts = append(out.Prompts, promptRowOf(p))
	}
	return out, nil
}

func (s *Server) getPrompt(_ context.Context, who caller, in promptIn) (out promptOut, err error) {
	p, v, err := s.findPrompt(who, in.Name, in.Version)
	if err != nil {
		return out, err
	}
	out = promptOut{Prompt: promptRowOf(p), Version: promptVersionOf(v)}
	for _, v := range s.c.Prompts.Versions(who.projectID, in.Name) {
		out.Versions = append(out.Versions, versionRow{v.Number, v.Note, v.Author, v.Created})
	}
	return out, nil
}

func (s *Server) renderPrompt(_ context.Context, who caller, in renderIn) (out renderOut, err error) {
	_, v, err := s.findPrompt(who, in.Name, in.Version)
	if err != nil {
		return out, err
	}
	r, err := v.Render(in.Variables)
	if err != nil {
		return out, err
	}
	return renderOut{Version: v.Number, Messages: promptMessages(r.Messages), Provider: r.Provider, Model: r.Model, Params: r.Params}, nil
}

func (s *Server) savePrompt(ctx context.Context, who caller, in saveIn) (out saveOut, err error) {
	f := prompt.File{Name: strings.TrimSpace(in.Name), Description: in.Description, Draft: prompt.Draft{Provider: in.Provider, Model: in.Model, Params: in.Params, Note: in.Note}}
	for _, m := range in.Messages {
		f.Messages = append(f.Messages, prompt.Message(m))
	}
	for _, v := range in.Variables {
		f.Variables = append(f.Variables, prompt.Variable(v))
	}
	_, existed := s.c.Prompts.Prompt(who.projectID, f.Name)
	v, added, err := s.c.Prompts.Import(ctx, who.actor, who.projectID, f)
	if err != nil {
		return out, err
	}
	out = saveOut{Created: !existed, Added: added, Version: promptVersionOf(v)}
	if existed && added {
		out.Next = "no label points to the version yet: set_prompt_label moves one to it"
	}
	return out, nil
}

func (s *Server) setPromptLabel(ctx context.Context, who caller, in labelIn) (out labelOut, err error) {
	p, _, err := s.findPrompt(who, in.Name, in.Version)
	if err != nil {
		return out, err
	}
	out.From = p.Labels[in.Label].Version
	if err := s.c.Prompts.SetLabel(ctx, who.actor, who.projectID, in.Name, in.Label, in.Version, in.Reason); err != nil {
		return out, err
	}
	if p, _, err = s.findPrompt(who, in.Name, in.Label); err != nil {
		return out, err
	}
	out.Prompt, out.To = promptRowOf(p), p.Labels[in.Label].Version
	return out, nil
}

func (s *Server) deletePrompt(ctx context.Context, who caller, in deletePromptIn) (deletedOut, error) {
	return deletedOut{true}, s.c.Prompts.Delete(ctx, who.actor, who.projectID, in.Name, in.Confirm)
}
