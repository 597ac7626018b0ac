package prompts

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/template"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/prompt"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/web/charts"
	"github.com/hedgerow/hedgerow/server/internal/web/page"
)

// promptsPage lists the prompts with what they did in the time range. Prompts
// that calls name but the registry does not have are listed below.
type promptsPage struct {
	View    *page.View
	Rows    []promptRow
	Strange []query.PromptUse
	Now     time.Time
}

type promptRow struct {
	prompt.Prompt
	Use query.PromptUse
}

func (s *Pages) prompts(r *http.Request, f *page.Frame) (templ.Component, error) {
	v, err := s.View(r, "/prompts", "7d")
	if err != nil {
		return nil, err
	}
	f.Title = "Prompts"
	uses, err := s.Query.PromptUse(r.Context(), f.Session.ProjectID, v.Filter, false)
	if err != nil {
		return nil, err
	}
	p := promptsPage{View: v, Now: s.Now()}
	used := make(map[string]query.PromptUse, len(uses))
	for _, u := range uses {
		used[u.Name] = u
	}
	for _, x := range s.Prompts.Prompts(f.Session.ProjectID) {
		p.Rows = append(p.Rows, promptRow{x, used[x.Name]})
		delete(used, x.Name)
	}
	for _, u := range uses {
		if _, ok := used[u.Name]; ok {
			p.Strange = append(p.Strange, u)
		}
	}
	return promptList(*f, p), nil
}

// promptPage is one prompt: versions, labels, figures.
type promptPage struct {
	prompt.Prompt
	View     *page.View
	Versions []versionRow
	Shown    prompt.Version // whose text is on the page
	Labels   []labelRow
	Use      query.PromptUse   // all versions
	Unnamed  []query.PromptUse // calls of versions that the registry does not have, or of none
	Now      time.Time
}

type versionRow struct {
	prompt.Version
	By     string
	Labels []string
	Use    query.PromptUse
}

type labelRow struct {
	prompt.Label
	By    string
	Moves []moveRow
}

type moveRow struct {
	prompt.Move
	By string
}

// who writes an actor of the audit log for people.
func (s *Pages) who(actor string) string {
	if u, ok := s.Registry.Snapshot().User(actor); ok {
		return cmp.Or(u.Name, u.Email)
	}
	return actor
}

func noPrompt() error {
	return event.NewError(event.CodeNotFound, "no such prompt", "it may have been deleted; see the list of prompts", nil)
}

func noVersion() error {
	return event.NewError(event.CodeNotFound, "the prompt has no such version", "see the prompt's page for its versions", nil)
}

// below is the address of a part of a prompt's pages, without the project.
func promptPath(name, below string) string { return "/prompts/" + url.PathEscape(name) + below }

func (s *Pages) prompt(r *http.Request, f *page.Frame) (templ.Component, error) {
	name := r.PathValue("name")
	x, ok := s.Prompts.Prompt(f.Session.ProjectID, name)
	if !ok {
		return nil, noPrompt()
	}
	v, err := s.View(r, promptPath(name, ""), "7d")
	if err != nil {
		return nil, err
	}
	f.Title = name
	p := promptPage{Prompt: x, View: v, Now: s.Now(), Use: query.PromptUse{Name: name}}
	if p.Shown, ok = s.Prompts.Version(f.Session.ProjectID, name, r.URL.Query().Get("show")); !ok {
		return nil, noVersion()
	}
	filter := v.Filter
	filter.PromptName = name
	uses, err := s.Query.PromptUse(r.Context(), f.Session.ProjectID, filter, true)
	if err != nil {
		return nil, err
	}
	all, err := s.Query.PromptUse(r.Context(), f.Session.ProjectID, filter, false)
	if err != nil {
		return nil, err
	}
	if len(all) > 0 {
		p.Use = all[0]
	}
	used := make(map[string]query.PromptUse, len(uses))
	for _, u := range uses {
		used[u.Version] = u
	}
	for _, version := range s.Prompts.Versions(f.Session.ProjectID, name) {
		row := versionRow{Version: version, By: s.who(version.Author), Use: used[strconv.Itoa(version.Number)]}
		for _, l := range slices.Sorted(maps.Keys(x.Labels)) {
			if x.Labels[l].Version == version.Number {
				row.Labels = append(row.Labels, l)
			}
		}
		p.Versions = append(p.Versions, row)
		delete(used, strconv.Itoa(version.Number))
	}
	for _, u := range uses {
		if _, ok := used[u.Version]; ok {
			p.Unnamed = append(p.Unnamed, u)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(x.Labels)) {
		l := labelRow{Label: x.Labels[name], By: s.who(x.Labels[name].By)}
		for _, m := range l.History {
			l.Moves = append(l.Moves, moveRow{m, s.who(m.By)})
		}
		p.Labels = append(p.Labels, l)
	}
	return promptDetail(*f, p), nil
}

// tiles are the figures of the prompt.
func (p promptPage) tiles(f page.Frame) []page.Figure {
	t := p.Use.Totals
	var out []page.Figure
	for m, note := range map[query.Measure]string{query.Calls: strings.ToLower(p.View.Label), query.ErrorRate: "of calls", query.CostUSD: page.PerCall(t) + " per call", query.LatencyP95: "p50 " + page.Millis(t.LatencyMS.P50)} {
		out = append(out, page.Figure{Measure: m, Text: charts.TotalText(m, t), Note: note, URL: useList(f, p.View, m, p.Name, "")})
	}
	slices.SortFunc(out, func(a, b page.Figure) int {
		return cmp.Compare(slices.Index(useMeasures, a.Measure), slices.Index(useMeasures, b.Measure))
	})
	return out
}

// numbers are the versions as options of a form.
func (p promptPage) numbers() [][2]string {
	var out [][2]string
	for _, v := range p.Versions {
		label := "v" + strconv.Itoa(v.Number)
		if v.Note != "" {
			label += " · " + event.FirstChars(v.Note, 60)
		}
		out = append(out, [2]string{strconv.Itoa(v.Number), label})
	}
	return out
}

// calls is the address of the calls of a prompt, or of one version ("" is all).
func promptCalls(f page.Frame, v *page.View, name, version string, drifted bool) templ.SafeURL {
	pairs := []string{"prompt_name", name, "prompt_version", version, "kind", query.KindCalls}
	if drifted {
		pairs = append(pairs, page.PropPrefix+prompt.PropertyDrift, "true")
	}
	return v.Link(f, "/events", pairs...)
}

// lastUsed writes when a prompt was last called.
func lastUsed(now time.Time, u query.PromptUse) string {
	if u.Last.IsZero() {
		return page.Unknown
	}
	return page.Ago(now, u.Last)
}

// uses writes a number of calls.
func uses(n int64) string {
	if n == 1 {
		return "1 call"
	}
	return page.Count(n) + " calls"
}

// ---- the editor

// editor is the form of a new version, or of a new prompt.
type editor struct {
	New               bool
	Name, Description string
	From              int // the version that it began with; 0: none
	Messages          []prompt.Message
	Variables         []editorVariable
	Provider, Model   string
	Params, Note      string
}

// editorVariable is a variable as fields of a form: text.
type editorVariable struct {
	Name, Type, Default, Enum, Description string
	Optional                               bool
}

func editorOf(v prompt.Version) editor {
	e := editor{Name: v.Prompt, From: v.Number, Messages: slices.Clone(v.Messages), Provider: v.Provider, Model: v.Model}
	for _, x := range v.Variables {
		row := editorVariable{Name: x.Name, Type: x.Type, Optional: x.Optional, Enum: strings.Join(x.Enum, ", "), Description: x.Description}
		if x.Default != nil {
			row.Default = template.Format(x.Default)
		}
		e.Variables = append(e.Variables, row)
	}
	if len(v.Params) > 0 {
		if b, err := json.MarshalIndent(v.Params, "", "  "); err == nil {
			e.Params = string(b)
		}
	}
	return e
}

// editorFrom reads the form. Rows end at the first that was not sent.
func editorFrom(form url.Values) editor {
	get := func(format string, i int) string { return form.Get(fmt.Sprintf(format, i)) }
	e := editor{
		Name: strings.TrimSpace(form.Get("name")), Description: strings.TrimSpace(form.Get("description")), Provider: form.Get("provider"), Model: form.Get("model"),
		Params: strings.TrimSpace(form.Get("params")), Note: strings.TrimSpace(form.Get("note")),
	}
	e.From, _ = strconv.Atoi(form.Get("from"))
	for i := 0; i < template.MaxMessages && form.Has(fmt.Sprintf("message_%d_content", i)); i++ {
		// Browsers send \r\n for line ends, regardless of what was typed.
		content := strings.ReplaceAll(get("message_%d_content", i), "\r\n", "\n")
		e.Messages = append(e.Messages, prompt.Message{Role: get("message_%d_role", i), Content: content})
	}
	for i := 0; i < template.MaxVariables && form.Has(fmt.Sprintf("variable_%d_name", i)); i++ {
		e.Variables = append(e.Variables, editorVariable{
			Name: strings.TrimSpace(get("variable_%d_name", i)), Type: get("variable_%d_type", i), Default: get("variable_%d_default", i),
			Enum: get("variable_%d_enum", i), Description: strings.TrimSpace(get("variable_%d_description", i)), Optional: get("variable_%d_optional", i) != "",
		})
	}
	return e
}

// draft is the content of the form without its empty rows. A
// variable that no message uses any more is left out too: its row was there
// because an earlier text used it.
func (e editor) draft() (prompt.Draft, error) {
	d := prompt.Draft{Provider: e.Provider, Model: e.Model, Note: e.Note}
	for _, m := range e.Messages {
		if strings.TrimSpace(m.Content) != "" {
			d.Messages = append(d.Messages, m)
		}
	}
	used := template.Names(d.Messages)
	for _, v := range e.Variables {
		if v.Name == "" || !slices.Contains(used, v.Name) {
			continue
		}
		x := prompt.Variable{Name: v.Name, Type: v.Type, Optional: v.Optional, Enum: page.SplitList(v.Enum), Description: v.Description}
		if v.Default != "" {
			value, err := valueOf(x, v.Default)
			if err != nil {
				return d, err
			}
			x.Default = value
		}
		d.Variables = append(d.Variables, x)
	}
	if e.Params != "" {
		if err := json.Unmarshal([]byte(e.Params), &d.Params); err != nil {
			return d, event.Invalid("the parameters are not a JSON object", `use an object such as {"temperature": 0.2}`)
		}
	}
	return d, nil
}

// valueOf parses a field of a form by a variable's type.
func valueOf(v prompt.Variable, text string) (any, error) {
	if v.Type == template.String || v.Type == "" {
		return text, nil
	}
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	var value any
	err := dec.Decode(&value)
	if err == nil {
		if _, err = dec.Token(); errors.Is(err, io.EOF) {
			return value, nil
		}
	}
	hint := map[string]string{template.Boolean: "write true or false", template.JSON: "write a list or an object as JSON", template.Integer: "write a whole number", template.Number: "write a number"}[v.Type]
	return nil, event.Invalid(fmt.Sprintf("the value of %q is not of type %s", v.Name, v.Type), hint)
}

// rows gives the form a row to write into.
func (e editor) rows() editor {
	if len(e.Messages) == 0 {
		e.Messages = []prompt.Message{{Role: "system"}}
	}
	declared := make(map[string]bool, len(e.Variables))
	for _, v := range e.Variables {
		declared[v.Name] = true
	}
	for _, name := range template.Names(e.Messages) {
		if !declared[name] {
			e.Variables = append(e.Variables, editorVariable{Name: name, Type: template.String})
		}
	}
	return e
}

// more handles the buttons that change the form without saving.
func (e editor) more(button string) (editor, bool) {
	switch button {
	case "message":
		role := "user"
		if len(e.Messages) == 0 {
			role = "system"
		}
		e.Messages = append(e.Messages, prompt.Message{Role: role})
	case "variables": // rows finds them
	default:
		return e, false
	}
	return e, true
}

func (s *Pages) newPrompt(_ *http.Request, f *page.Frame) (templ.Component, error) {
	f.Title = "New prompt"
	e := editor{}
	if f.Form != nil {
		e = editorFrom(f.Form)
	}
	e.New = true
	return promptEditor(*f, e.rows()), nil
}

func (s *Pages) createPrompt(r *http.Request, f *page.Frame) (templ.Component, error) {
	e := editorFrom(f.Form)
	if e, ok := e.more(f.Form.Get("do")); ok {
		f.Title, e.New = "New prompt", true
		return promptEditor(*f, e.rows()), nil
	}
	d, err := e.draft()
	if err != nil {
		return nil, err
	}
	p, err := s.Prompts.Create(r.Context(), f.Session.UserID, f.Session.ProjectID, e.Name, e.Description, d)
	if err != nil {
		return nil, err
	}
	return f.Done(f.Path(promptPath(p.Name, "")), "Prompt created. Version 1 has the label production.")
}

func (s *Pages) editPrompt(r *http.Request, f *page.Frame) (templ.Component, error) {
	name := r.PathValue("name")
	f.Title = "New version of " + name
	if f.Form != nil {
		e := editorFrom(f.Form)
		e.Name = name
		return promptEditor(*f, e.rows()), nil
	}
	v, ok := s.Prompts.Version(f.Session.ProjectID, name, cmp.Or(r.URL.Query().Get("from"), prompt.Latest))
	if !ok {
		return nil, noVersion()
	}
	return promptEditor(*f, editorOf(v).rows()), nil
}

func (s *Pages) addVersion(r *http.Request, f *page.Frame) (templ.Component, error) {
	name := r.PathValue("name")
	e := editorFrom(f.Form)
	if e, ok := e.more(f.Form.Get("do")); ok {
		f.Title, e.Name = "New version of "+name, name
		return promptEditor(*f, e.rows()), nil
	}
	d, err := e.draft()
	if err != nil {
		return nil, err
	}
	v, added, err := s.Prompts.AddVersion(r.Context(), f.Session.UserID, f.Session.ProjectID, name, d)
	if err != nil {
		return nil, err
	}
	if !added {
		return nil, event.Invalid("no changes from version "+strconv.Itoa(v.Number), "change something, or go back")
	}
	if label := strings.TrimSpace(f.Form.Get("label")); label != "" {
		if err := s.Prompts.SetLabel(r.Context(), f.Session.UserID, f.Session.ProjectID, name, label, v.ID, ""); err != nil {
			return nil, err
		}
		return f.Done(f.Path(promptPath(name, "?show="+strconv.Itoa(v.Number))), fmt.Sprintf("Version %d saved with the label %s.", v.Number, label))
	}
	return f.Done(f.Path(promptPath(name, "?show="+strconv.Itoa(v.Number))), fmt.Sprintf("Version %d saved. It goes live when a label points to it.", v.Number))
}

// ---- comparing, trying

type promptDiffPage struct {
	Name     string
	From, To prompt.Version
	By       [2]string
	Numbers  [][2]string
	Changes  []prompt.Change
}

func (s *Pages) promptDiff(r *http.Request, f *page.Frame) (templ.Component, error) {
	name := r.PathValue("name")
	versions := s.Prompts.Versions(f.Session.ProjectID, name)
	if len(versions) == 0 {
		return nil, noPrompt()
	}
	f.Title = "Compare versions of " + name
	q := r.URL.Query()
	to, ok := s.Prompts.Version(f.Session.ProjectID, name, cmp.Or(q.Get("to"), prompt.Latest))
	if !ok {
		return nil, noVersion()
	}
	from, ok := s.Prompts.Version(f.Session.ProjectID, name, cmp.Or(q.Get("from"), strconv.Itoa(max(1, to.Number-1))))
	if !ok {
		return nil, noVersion()
	}
	p := promptDiffPage{Name: name, From: from, To: to, By: [2]string{s.who(from.Author), s.who(to.Author)}, Changes: prompt.Compare(from, to)}
	for _, v := range versions {
		p.Numbers = append(p.Numbers, [2]string{strconv.Itoa(v.Number), "v" + strconv.Itoa(v.Number)})
	}
	return promptDiff(*f, p), nil
}

// same reports whether nothing differs.
func (p promptDiffPage) same() bool {
	return !slices.ContainsFunc(p.Changes, func(c prompt.Change) bool { return !c.Same })
}

type promptTryPage struct {
	Version  prompt.Version
	Numbers  [][2]string
	Rendered *prompt.Rendered
}

// promptTry renders a version with sample values. Nothing is kept and nothing is
// sent, so that looking is enough.
func (s *Pages) promptTry(r *http.Request, f *page.Frame) (templ.Component, error) {
	name := r.PathValue("name")
	ref := r.URL.Query().Get("version")
	if f.Form != nil {
		ref = f.Form.Get("version")
	}
	v, ok := s.Prompts.Version(f.Session.ProjectID, name, ref)
	if !ok {
		return nil, noVersion()
	}
	f.Title = "Try " + name
	p := promptTryPage{Version: v}
	for _, x := range s.Prompts.Versions(f.Session.ProjectID, name) {
		p.Numbers = append(p.Numbers, [2]string{strconv.Itoa(x.Number), "v" + strconv.Itoa(x.Number)})
	}
	if f.Form != nil && f.Problem == nil {
		values := map[string]any{}
		for _, x := range v.Variables {
			text := f.Form.Get("value_" + x.Name)
			// An empty field is no value, but for a string that has to have one.
			if text == "" && (x.Type != template.String || x.Optional || x.Default != nil) {
				continue
			}
			value, err := valueOf(x, strings.ReplaceAll(text, "\r\n", "\n"))
			if err != nil {
				return nil, err
			}
			values[x.Name] = value
		}
		out, err := v.Render(values)
		if err != nil {
			return nil, err
		}
		p.Rendered = &out
	}
	return promptTry(*f, p), nil
}

// tried is what a field of the form held.
func tried(f page.Frame, v prompt.Variable) string {
	if f.Form.Has("value_" + v.Name) {
		return f.Form.Get("value_" + v.Name)
	}
	if v.Default != nil {
		return template.Format(v.Default)
	}
	return ""
}

// ---- labels, files, deletion

func (s *Pages) movePromptLabel(r *http.Request, f *page.Frame) (templ.Component, error) {
	name, label := r.PathValue("name"), strings.ToLower(strings.TrimSpace(f.Form.Get("label")))
	if f.Form.Get("do") == "remove" {
		if err := s.Prompts.RemoveLabel(r.Context(), f.Session.UserID, f.Session.ProjectID, name, label, f.Form.Get("reason")); err != nil {
			return nil, err
		}
		return f.Done(f.Path(promptPath(name, "")), "Label "+label+" removed.")
	}
	if err := s.Prompts.SetLabel(r.Context(), f.Session.UserID, f.Session.ProjectID, name, label, f.Form.Get("version"), f.Form.Get("reason")); err != nil {
		return nil, err
	}
	return f.Done(f.Path(promptPath(name, "")), "Label "+label+" now points to version "+f.Form.Get("version")+".")
}

func (s *Pages) describePrompt(r *http.Request, f *page.Frame) (templ.Component, error) {
	name := r.PathValue("name")
	if err := s.Prompts.Describe(r.Context(), f.Session.UserID, f.Session.ProjectID, name, f.Form.Get("description")); err != nil {
		return nil, err
	}
	return f.Done(f.Path(promptPath(name, "")), "Saved.")
}

func (s *Pages) deletePrompt(r *http.Request, f *page.Frame) (templ.Component, error) {
	name := r.PathValue("name")
	if strings.TrimSpace(f.Form.Get("confirm")) != name {
		return nil, event.Invalid("the name does not match", "type the prompt's name, "+name+", to delete it")
	}
	if err := s.Prompts.Delete(r.Context(), f.Session.UserID, f.Session.ProjectID, name, name); err != nil {
		return nil, err
	}
	return f.Done(f.Path("/prompts"), "Prompt "+name+" and all its versions deleted.")
}

// importPrompt takes a file, or what was pasted.
func (s *Pages) importPrompt(r *http.Request, f *page.Frame) (templ.Component, error) {
	text := []byte(f.Form.Get("text"))
	if r.MultipartForm != nil {
		file, _, err := r.FormFile("file")
		switch {
		case errors.Is(err, http.ErrMissingFile):
		case err != nil:
			return nil, event.Invalid("the file could not be read", "choose it again")
		default:
			defer file.Close()
			if b, err := io.ReadAll(file); err == nil && len(b) > 0 {
				text = b
			}
		}
	}
	in, err := prompt.ParseFile(text)
	if err != nil {
		return nil, err
	}
	v, added, err := s.Prompts.Import(r.Context(), f.Session.UserID, f.Session.ProjectID, in)
	if err != nil {
		return nil, err
	}
	message := fmt.Sprintf("Imported as version %d.", v.Number)
	if !added {
		message = fmt.Sprintf("No changes: identical to version %d.", v.Number)
	}
	return f.Done(f.Path(promptPath(in.Name, "")), message)
}

func (s *Pages) exportPrompt(w http.ResponseWriter, r *http.Request, f *page.Frame) {
	q := r.URL.Query()
	file, err := s.Prompts.Export(f.Session.ProjectID, r.PathValue("name"), q.Get("version"))
	if err != nil {
		s.Refuse(w, r, err)
		return
	}
	kind, ext, write := "application/yaml", ".yaml", file.YAML
	if q.Get("format") == "json" {
		kind, ext, write = "application/json", ".json", file.JSON
	}
	b, err := write()
	if err != nil {
		s.Refuse(w, r, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("Content-Disposition", `attachment; filename="`+strings.Map(page.FileName, file.Name)+ext+`"`)
	_, _ = w.Write(b)
}

// promptRoutes are the pages of prompts. Their forms may be larger than others:
// they hold whole prompts.
func (s *Pages) promptRoutes() []page.Route {
	const viewer, member = project.RoleViewer, project.RoleMember
	return []page.Route{
		{Pattern: "GET /p/{project}/prompts", Need: viewer, Handle: s.prompts, Entry: "Prompts", Label: "Prompts"},
		{Pattern: "GET /p/{project}/new-prompt", Need: member, Handle: s.newPrompt, Under: "/p/{project}/prompts"},
		{Pattern: "POST /p/{project}/new-prompt", Need: member, Handle: s.createPrompt, Again: s.newPrompt, Form: maxPromptForm, Under: "/p/{project}/prompts"},
		{Pattern: "POST /p/{project}/import-prompt", Need: member, Handle: s.importPrompt, Again: s.prompts, Form: maxPromptForm},
		{Pattern: "GET /p/{project}/prompts/{name}", Need: viewer, Handle: s.prompt},
		{Pattern: "POST /p/{project}/prompts/{name}", Need: member, Handle: s.describePrompt, Again: s.prompt},
		{Pattern: "GET /p/{project}/prompts/{name}/new-version", Need: member, Handle: s.editPrompt},
		{Pattern: "POST /p/{project}/prompts/{name}/new-version", Need: member, Handle: s.addVersion, Again: s.editPrompt, Form: maxPromptForm},
		{Pattern: "GET /p/{project}/prompts/{name}/compare", Need: viewer, Handle: s.promptDiff},
		{Pattern: "GET /p/{project}/prompts/{name}/try", Need: viewer, Handle: s.promptTry},
		{Pattern: "POST /p/{project}/prompts/{name}/try", Need: viewer, Handle: s.promptTry, Again: s.promptTry, Form: maxPromptForm},
		{Pattern: "GET /p/{project}/prompts/{name}/export", Need: viewer, Raw: s.exportPrompt},
		{Pattern: "POST /p/{project}/prompts/{name}/label", Need: member, Handle: s.movePromptLabel, Again: s.prompt},
		{Pattern: "POST /p/{project}/prompts/{name}/delete", Need: member, Handle: s.deletePrompt, Again: s.prompt},
	}
}

// maxPromptForm bounds the forms of prompts: as encoded by a browser, half a MiB
// of text may be three times that.
const maxPromptForm = 2 << 20

// ---- small words of the templates

func editorAction(f page.Frame, e editor) templ.SafeURL {
	if e.New {
		return f.URL("/new-prompt")
	}
	return f.URL(promptPath(e.Name, "/new-version"))
}

func messageRoles() [][2]string { return pairs(template.Roles()) }

func typeOptions() [][2]string { return pairs(template.Types()) }

func pairs(values []string) [][2]string {
	out := make([][2]string, len(values))
	for i, v := range values {
		out[i] = [2]string{v, v}
	}
	return out
}

// enumOptions are the values of a variable that has a list, with none where it
// may be left out.
func enumOptions(v prompt.Variable) [][2]string {
	out := pairs(v.Enum)
	if v.Optional && v.Default == nil {
		out = append([][2]string{{"", "none"}}, out...)
	}
	return out
}

func described(v prompt.Variable) string {
	if v.Description == "" {
		return ""
	}
	return ": " + v.Description
}

// textRows is how high a text's field is.
func textRows(s string) int { return min(max(strings.Count(s, "\n")+2, 5), 24) }
