package prompts

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/a-h/templ"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/prompt"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/web/page"
)

func (s *Pages) rolloutRoutes() []page.Route {
	const viewer, member = project.RoleViewer, project.RoleMember
	return []page.Route{
		{Pattern: "GET /p/{project}/rollouts", Need: viewer, Handle: s.rollouts, Entry: "Prompts", Label: "Rollouts"},
		{Pattern: "GET /p/{project}/rollouts/{prompt}", Need: viewer, Handle: s.rollout},
		{Pattern: "POST /p/{project}/rollouts/{prompt}", Need: member, Handle: s.setRollout, Again: s.rollout},
		{Pattern: "POST /p/{project}/rollouts/{prompt}/stop", Need: member, Handle: s.stopRollout, Again: s.rollout},
		{Pattern: "POST /p/{project}/rollouts/{prompt}/remove", Need: member, Handle: s.removeRollout, Again: s.rollout},
	}
}

// rolloutsPage lists the rollouts, and the prompts that have none.
type rolloutsPage struct {
	Rollouts []prompt.Rollout
	Others   []string
}

func (s *Pages) rollouts(r *http.Request, f *page.Frame) (templ.Component, error) {
	if name := r.URL.Query().Get("prompt"); name != "" {
		return f.Done(f.Path(rolloutPath(name, "")), "")
	}
	f.Title = "Rollouts"
	p := rolloutsPage{Rollouts: s.Prompts.Rollouts(f.Session.ProjectID)}
	for _, x := range s.Prompts.Prompts(f.Session.ProjectID) {
		if !slices.ContainsFunc(p.Rollouts, func(ro prompt.Rollout) bool { return ro.Prompt == x.Name }) {
			p.Others = append(p.Others, x.Name)
		}
	}
	return rolloutList(*f, p), nil
}

func rolloutPath(name, below string) string { return "/rollouts/" + url.PathEscape(name) + below }

// rolloutPage is one prompt's rollout: who gets what, what became of it, and how
// to change it.
type rolloutPage struct {
	View     *page.View
	Prompt   prompt.Prompt
	Versions []prompt.Version
	Set      bool
	Rollout  prompt.Rollout
	By       string // who set it, or stopped it, for people
	Variants []rolloutVariant
	Calls    int64         // of all variants in the time range
	Form     []variantForm // one row for each variant, and two that are empty
	PostHog  bool          // the project has a PostHog that can decide
	Personal bool          // and a personal key of it
}

// rolloutVariant is what one variant gets and did.
type rolloutVariant struct {
	Variant string
	Gets    string   // version and model, in words
	Planned *float64 // percent of all users, by hedgerow's own figures
	Totals  query.Totals
}

type variantForm struct{ Variant, Version, Model, Provider, Share string }

func (s *Pages) rollout(r *http.Request, f *page.Frame) (templ.Component, error) {
	name := r.PathValue("prompt")
	x, ok := s.Prompts.Prompt(f.Session.ProjectID, name)
	if !ok {
		return nil, noPrompt()
	}
	v, err := s.View(r, rolloutPath(name, ""), "7d")
	if err != nil {
		return nil, err
	}
	f.Title = "Rollout of " + name
	p := rolloutPage{View: v, Prompt: x, Versions: s.Prompts.Versions(f.Session.ProjectID, name)}
	if c, ok := s.Registry.Snapshot().FlagConnection(f.Session.ProjectID); ok {
		p.PostHog, p.Personal = true, !c.PersonalKey.IsZero()
	}
	p.Rollout, p.Set = s.Prompts.Rollout(f.Session.ProjectID, name)
	p.By = s.who(cmp.Or(p.Rollout.StoppedBy, p.Rollout.By))
	if p.Set {
		if err := s.rolloutVariants(r, f, &p); err != nil {
			return nil, err
		}
	}
	p.form(f)
	return rolloutDetail(*f, p), nil
}

// rolloutVariants reads the totals of each variant, and of users outside the rollout.
func (s *Pages) rolloutVariants(r *http.Request, f *page.Frame, p *rolloutPage) error {
	shares := p.Rollout.Shares()
	for _, key := range append(p.Rollout.VariantKeys(), "false") {
		a := rolloutVariant{Variant: key}
		variant, ok := p.Rollout.Variants[key]
		if !ok {
			variant = p.Rollout.Variants[prompt.Control]
		}
		a.Gets = p.gets(variant)
		shareKey := key
		if key == "false" {
			shareKey = ""
		}
		if share, ok := shares[shareKey]; ok {
			a.Planned = &share
		}
		filter := p.View.Filter
		filter.PromptName, filter.Flag, filter.FlagVariant = p.Prompt.Name, p.Rollout.Flag, key
		st, err := s.Query.Stats(r.Context(), query.StatsQuery{Project: f.Session.ProjectID, Filter: filter})
		if err != nil {
			return err
		}
		a.Totals = st.Totals
		p.Calls += st.Totals.Calls
		p.Variants = append(p.Variants, a)
	}
	return nil
}

// gets describes what a variant serves: "v3 on gpt-5".
func (p *rolloutPage) gets(a prompt.Variant) string {
	out := cmp.Or(a.Version, prompt.Production)
	if _, err := strconv.Atoi(out); err == nil {
		out = "v" + out
	}
	if a.Model != "" {
		out += " on " + a.Model
	}
	return out
}

// form fills the form with what is set, or with a beginning: the present version
// for most, the newest for a few. A refused form keeps what was typed.
func (p *rolloutPage) form(f *page.Frame) {
	if f.Problem != nil && f.Form.Has("variant-0") {
		for i := 0; f.Form.Has("variant-" + strconv.Itoa(i)); i++ {
			p.Form = append(p.Form, variantOf(f.Form, i))
		}
		return
	}
	if !p.Set {
		p.Form = []variantForm{{Variant: prompt.Control, Share: "50"}, {Variant: "treatment", Version: strconv.Itoa(p.Prompt.Latest), Share: "50"}}
	}
	_, shares := p.Rollout.OwnFigures()
	for _, v := range p.Rollout.VariantKeys() {
		a := p.Rollout.Variants[v]
		row := variantForm{Variant: v, Version: a.Version, Model: a.Model, Provider: a.Provider}
		if share, ok := shares[v]; ok {
			row.Share = strconv.FormatFloat(share, 'f', -1, 64)
		}
		p.Form = append(p.Form, row)
	}
	p.Form = append(p.Form, variantForm{}, variantForm{})
}

func variantOf(form url.Values, i int) variantForm {
	at := func(name string) string { return strings.TrimSpace(form.Get(name + "-" + strconv.Itoa(i))) }
	return variantForm{Variant: at("variant"), Version: at("version"), Model: at("model"), Provider: at("provider"), Share: at("share")}
}

// percentField is hedgerow's own share of all users, in the form's format.
func (p *rolloutPage) percentField() string {
	if percent, _ := p.Rollout.OwnFigures(); percent != nil {
		return strconv.FormatFloat(*percent, 'f', -1, 64)
	}
	if !p.Set && !p.PostHog {
		return "5"
	}
	return ""
}

// versionChoices are the labels and versions that a variant can have.
func (p *rolloutPage) versionChoices(chosen string) [][2]string {
	out := [][2]string{{"", "production"}}
	for _, l := range slices.Sorted(maps.Keys(p.Prompt.Labels)) {
		if l != prompt.Production {
			out = append(out, [2]string{l, fmt.Sprintf("%s (v%d)", l, p.Prompt.Labels[l].Version)})
		}
	}
	known := chosen == ""
	for _, v := range p.Versions {
		n := strconv.Itoa(v.Number)
		label := "v" + n
		if v.Note != "" {
			label += " – " + event.FirstChars(v.Note, 40)
		}
		out = append(out, [2]string{n, label})
	}
	for _, o := range out {
		known = known || o[0] == chosen
	}
	if !known { // an id, or latest
		out = append(out, [2]string{chosen, chosen})
	}
	return out
}

func (s *Pages) setRollout(r *http.Request, f *page.Frame) (templ.Component, error) {
	name := r.PathValue("prompt")
	ro := prompt.Rollout{Prompt: name, Flag: f.Form.Get("flag"), Variants: map[string]prompt.Variant{}}
	shares := map[string]float64{}
	for i := 0; f.Form.Has("variant-" + strconv.Itoa(i)); i++ {
		a := variantOf(f.Form, i)
		if a.Variant == "" {
			continue
		}
		if _, twice := ro.Variants[a.Variant]; twice {
			return nil, event.Invalid(fmt.Sprintf("the variant %q is listed twice", event.FirstChars(a.Variant, 50)), "give each variant one row")
		}
		ro.Variants[a.Variant] = prompt.Variant{Version: a.Version, Provider: a.Provider, Model: a.Model}
		if a.Share != "" {
			n, err := strconv.ParseFloat(a.Share, 64)
			if err != nil {
				return nil, event.Invalid("a share is not a number", "enter a percentage such as 50 or 12.5")
			}
			shares[a.Variant] = n
		}
	}
	if percent := strings.TrimSpace(f.Form.Get("percent")); percent != "" {
		n, err := strconv.ParseFloat(percent, 64)
		if err != nil {
			return nil, event.Invalid("the share of all users is not a number", "enter a percentage such as 5 or 0.5")
		}
		ro.Own = prompt.Split(ro.Flag, n, shares)
	}
	if _, err := s.Prompts.SetRollout(r.Context(), f.Session.UserID, f.Session.ProjectID, ro); err != nil {
		return nil, err
	}
	return f.Done(f.Path(rolloutPath(name, "")), "Rollout started.")
}

func (s *Pages) stopRollout(r *http.Request, f *page.Frame) (templ.Component, error) {
	name := r.PathValue("prompt")
	if err := s.Prompts.StopRollout(r.Context(), f.Session.UserID, f.Session.ProjectID, name, f.Form.Get("reason")); err != nil {
		return nil, err
	}
	return f.Done(f.Path(rolloutPath(name, "")), "Rollout stopped: all users get the control.")
}

func (s *Pages) removeRollout(r *http.Request, f *page.Frame) (templ.Component, error) {
	name := r.PathValue("prompt")
	if err := s.Prompts.RemoveRollout(r.Context(), f.Session.UserID, f.Session.ProjectID, name); err != nil {
		return nil, err
	}
	return f.Done(f.Path("/rollouts"), "Rollout of "+name+" removed: all users get the version labelled production.")
}

// flagOff describes what happened to PostHog's flag when the rollout was stopped.
func flagOff(ro prompt.Rollout) string {
	switch ro.FlagOff {
	case "":
		return ""
	case prompt.FlagOffDone:
		return "The PostHog flag is turned off too."
	}
	return "The PostHog flag is still on: " + ro.FlagOff + "."
}

// shareOf is a part of the whole in percent.
func shareOf(n, of int64) string {
	if of == 0 {
		return page.Unknown
	}
	return page.Percent(event.Some(float64(n) / float64(of)))
}

func planned(p *float64) string {
	if p == nil {
		return "set in PostHog"
	}
	return page.Percent(event.Some(*p / 100))
}
