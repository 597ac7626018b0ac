package api

import (
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/prompt"
)

// PromptInput makes a prompt with its first version.
type PromptInput struct {
	Name        string            `json:"name"`
	Description string            `json:"description,omitempty"`
	Messages    []prompt.Message  `json:"messages"`
	Variables   []prompt.Variable `json:"variables,omitempty"`
	Provider    string            `json:"provider,omitempty"`
	Model       string            `json:"model,omitempty"`
	Params      map[string]any    `json:"params,omitempty"`
	Note        string            `json:"note,omitempty"`
}

// PromptPatch changes a prompt; what is absent stays as it is.
type PromptPatch struct {
	Description *string `json:"description,omitempty"`
}

// LabelInput moves a label.
type LabelInput struct {
	Version string `json:"version"` // a number, an id, "latest" or another label
	Reason  string `json:"reason,omitempty"`
}

// RenderInput renders a version.
type RenderInput struct {
	Version   string         `json:"version,omitempty"` // a number, a label, "latest" or an id. Defaults to production
	Variables map[string]any `json:"variables,omitempty"`
}

// ImportInput imports a file.
type ImportInput struct {
	File  string `json:"file"`            // YAML or JSON
	Label string `json:"label,omitempty"` // is moved to the version; "" moves none
}

// PromptView is a prompt with its versions, the newest first.
type PromptView struct {
	Prompt   prompt.Prompt    `json:"prompt"`
	Versions []prompt.Version `json:"versions"`
}

// VersionResult is a version and, if the request was to create one, whether it
// did: the same content again creates none.
type VersionResult struct {
	Version prompt.Version `json:"version"`
	Added   bool           `json:"added"`
}

// RenderResult is what to send to the provider.
type RenderResult struct {
	Version  prompt.Version  `json:"version"`
	Rendered prompt.Rendered `json:"rendered"`
}

// attachment is an answer that is a file and not JSON.
type attachment struct {
	contentType string
	name        string
	body        []byte
}

func (f attachment) write(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", f.contentType)
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": f.name}))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(f.body)
}

func noPrompt(name string) error {
	return event.NewError(event.CodeNotFound, "prompt "+quoted(event.FirstChars(name, 100))+" not found", "GET /api/v1/prompts lists them", nil)
}

func noVersion(name, ref string) error {
	return event.NewError(event.CodeNotFound, "the prompt "+quoted(event.FirstChars(name, 100))+" has no version or label "+quoted(event.FirstChars(ref, 50)), "GET /api/v1/prompts/{name} shows what it has", nil)
}

func (a *API) listPrompts(_ *http.Request, p Principal) (any, error) {
	list := a.c.Prompts.Prompts(p.ProjectID)
	if list == nil {
		list = []prompt.Prompt{}
	}
	return map[string]any{"prompts": list}, nil
}

func (a *API) createPrompt(r *http.Request, p Principal) (any, error) {
	var in PromptInput
	if err := readJSON(r, &in); err != nil {
		return nil, err
	}
	d := prompt.Draft{Messages: in.Messages, Variables: in.Variables, Provider: in.Provider, Model: in.Model, Params: in.Params, Note: in.Note}
	made, err := a.c.Prompts.Create(r.Context(), p.Actor, p.ProjectID, in.Name, in.Description, d)
	if err != nil {
		return nil, err
	}
	return a.promptView(p, made.Name)
}

func (a *API) promptView(p Principal, name string) (any, error) {
	found, ok := a.c.Prompts.Prompt(p.ProjectID, name)
	if !ok {
		return nil, noPrompt(name)
	}
	return PromptView{found, a.c.Prompts.Versions(p.ProjectID, name)}, nil
}

func (a *API) prompt(r *http.Request, p Principal) (any, error) {
	return a.promptView(p, r.PathValue("name"))
}

func (a *API) updatePrompt(r *http.Request, p Principal) (any, error) {
	name := r.PathValue("name")
	var in PromptPatch
	if err := readJSON(r, &in); err != nil {
		return nil, err
	}
	if in.Description != nil {
		if err := a.c.Prompts.Describe(r.Context(), p.Actor, p.ProjectID, name, *in.Description); err != nil {
			return nil, err
		}
	}
	return a.promptView(p, name)
}

func (a *API) deletePrompt(r *http.Request, p Principal) (any, error) {
	return done(a.c.Prompts.Delete(r.Context(), p.Actor, p.ProjectID, r.PathValue("name"), r.FormValue("confirm")))
}

func (a *API) addPromptVersion(r *http.Request, p Principal) (any, error) {
	var d prompt.Draft
	if err := readJSON(r, &d); err != nil {
		return nil, err
	}
	v, added, err := a.c.Prompts.AddVersion(r.Context(), p.Actor, p.ProjectID, r.PathValue("name"), d)
	if err != nil {
		return nil, err
	}
	return VersionResult{v, added}, nil
}

func (a *API) promptVersionOf(p Principal, name, ref string) (prompt.Version, error) {
	if _, ok := a.c.Prompts.Prompt(p.ProjectID, name); !ok {
		return prompt.Version{}, noPrompt(name)
	}
	v, ok := a.c.Prompts.Version(p.ProjectID, name, ref)
	if !ok {
		return prompt.Version{}, noVersion(name, ref)
	}
	return v, nil
}

func (a *API) promptVersion(r *http.Request, p Principal) (any, error) {
	v, err := a.promptVersionOf(p, r.PathValue("name"), r.PathValue("version"))
	if err != nil {
		return nil, err
	}
	return map[string]any{"version": v}, nil
}

func (a *API) setPromptLabel(r *http.Request, p Principal) (any, error) {
	name := r.PathValue("name")
	var in LabelInput
	if err := readJSON(r, &in); err != nil {
		return nil, err
	}
	if err := a.c.Prompts.SetLabel(r.Context(), p.Actor, p.ProjectID, name, r.PathValue("label"), in.Version, in.Reason); err != nil {
		return nil, err
	}
	return a.promptView(p, name)
}

func (a *API) removePromptLabel(r *http.Request, p Principal) (any, error) {
	name := r.PathValue("name")
	if err := a.c.Prompts.RemoveLabel(r.Context(), p.Actor, p.ProjectID, name, r.PathValue("label"), r.FormValue("reason")); err != nil {
		return nil, err
	}
	return a.promptView(p, name)
}

func (a *API) renderPrompt(r *http.Request, p Principal) (any, error) {
	var in RenderInput
	if err := readJSON(r, &in); err != nil {
		return nil, err
	}
	v, err := a.promptVersionOf(p, r.PathValue("name"), in.Version)
	if err != nil {
		return nil, err
	}
	out, err := v.Render(in.Variables)
	if err != nil {
		return nil, err
	}
	return RenderResult{v, out}, nil
}

func (a *API) exportPrompt(r *http.Request, p Principal) (any, error) {
	f, err := a.c.Prompts.Export(p.ProjectID, r.PathValue("name"), r.FormValue("version"))
	if err != nil {
		return nil, err
	}
	out := attachment{name: f.Name + ".yaml", contentType: "application/yaml"}
	switch r.FormValue("format") {
	case "", "yaml":
		out.body, err = f.YAML()
	case "json":
		out.name, out.contentType = f.Name+".json", "application/json"
		out.body, err = f.JSON()
	default:
		return nil, event.Invalid("unknown format", "use yaml or json")
	}
	return out, err
}

// importPrompt takes a file in JSON's field, or as the body itself where the
// body is YAML.
func (a *API) importPrompt(r *http.Request, p Principal) (any, error) {
	var in ImportInput
	switch kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind {
	case "application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml":
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, event.NewError(event.CodeTooLarge, "the file could not be read whole", "a file has at most 1 MiB", err)
		}
		in = ImportInput{File: string(b), Label: r.FormValue("label")}
	default:
		if err := readJSON(r, &in); err != nil {
			return nil, err
		}
	}
	f, err := prompt.ParseFile([]byte(in.File))
	if err != nil {
		return nil, err
	}
	v, added, err := a.c.Prompts.Import(r.Context(), p.Actor, p.ProjectID, f)
	if err != nil {
		return nil, err
	}
	if in.Label != "" {
		if err := a.c.Prompts.SetLabel(r.Context(), p.Actor, p.ProjectID, f.Name, in.Label, v.ID, "import"); err != nil {
			return nil, err
		}
	}
	return VersionResult{v, added}, nil
}

// posthogRoutes are the routes of PostHog's prompt clients (contract 6.5). They
// send an API key of hedgerow's where they would send PostHog's personal key,
// and the project's token in the query. openapi.json leaves them out: they are
// PostHog's.
func (a *API) posthogRoutes() []route {
	var list []route
	for _, base := range []string{"GET /api/environments/{environment}/llm_prompts", "GET /api/projects/{environment}/llm_prompts"} {
		for _, end := range []string{"", "/{$}"} {
			list = append(list, route{base + end, read, false, a.posthogPrompts}, route{base + "/name/{name}" + end, read, false, a.posthogPrompt})
		}
	}
	return list
}

// ofToken checks that the project's token, where one is sent, is that of the
// key: it pins the project at PostHog.
func (a *API) ofToken(r *http.Request, p Principal) error {
	token := r.FormValue("token")
	if token == "" {
		return nil
	}
	if pr, ok := a.c.Registry.Snapshot().ProjectByToken(token); !ok || pr.ID != p.ProjectID {
		return event.NewError(event.CodeForbidden, "the token is not that of the API key's project", "send the project token that hedgerow project list shows", nil)
	}
	return nil
}

func (a *API) posthogPrompt(r *http.Request, p Principal) (any, error) {
	if err := a.ofToken(r, p); err != nil {
		return nil, err
	}
	name, label, version := r.PathValue("name"), r.FormValue("label"), 0
	if s := r.FormValue("version"); s != "" {
		var err error
		if version, err = strconv.Atoi(s); err != nil || version < 1 {
			return nil, event.Invalid("the version is no number from 1 on", "send a version's number, or a label")
		}
		if label != "" {
			return nil, event.Invalid("both a version and a label are given", "send one of them")
		}
	}
	f, ok := a.c.Prompts.PostHogPrompt(p.ProjectID, name, label, version)
	if !ok {
		return nil, noVersion(name, label+r.FormValue("version"))
	}
	return f, nil
}

// posthogPage is how many prompts one answer has.
const posthogPage = 100

func (a *API) posthogPrompts(r *http.Request, p Principal) (any, error) {
	if err := a.ofToken(r, p); err != nil {
		return nil, err
	}
	offset := 0
	if s := r.FormValue("offset"); s != "" {
		var err error
		if offset, err = strconv.Atoi(s); err != nil || offset < 0 {
			return nil, event.Invalid("the offset is no number from 0 on", "follow the links next and previous")
		}
	}
	all := a.c.Prompts.PostHogPrompts(p.ProjectID, r.FormValue("label"))
	out := struct {
		Count    int                    `json:"count"`
		Next     *string                `json:"next"`
		Previous *string                `json:"previous"`
		Results  []prompt.PostHogPrompt `json:"results"`
	}{Count: len(all), Results: all[min(offset, len(all)):min(offset+posthogPage, len(all))]}
	link := func(offset int) *string {
		q := url.Values{}
		for k, v := range r.Form {
			q[k] = v
		}
		q.Set("offset", strconv.Itoa(offset))
		// A client follows a link only to the host that it was given, which may
		// be another name of this server than the public one.
		scheme := "http"
		if r.TLS != nil || strings.HasPrefix(a.c.PublicURL, "https:") && a.c.PublicURL == "https://"+r.Host {
			scheme = "https"
		}
		s := (&url.URL{Scheme: scheme, Host: r.Host, Path: r.URL.Path, RawQuery: q.Encode()}).String()
		return &s
	}
	if offset+posthogPage < len(all) {
		out.Next = link(offset + posthogPage)
	}
	if offset > 0 {
		out.Previous = link(max(0, offset-posthogPage))
	}
	return out, nil
}
