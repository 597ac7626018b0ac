package page

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/hedgerow/hedgerow/server/internal/query"
)

// entry is an entry of the side bar: the first page that names it, with the others as
// tabs.
type entry struct {
	Section, Name, Icon string
	Key                 string // opens it, after "g"
	Filtered            bool   // its pages take filters: a link keeps the environment
}

var entries = []entry{
	{Section: "Dashboards", Name: "Overview", Icon: "house", Key: "h"},
	{Section: "Dashboards", Name: "Dashboards", Icon: "chart-line", Key: "d", Filtered: true},
	{Section: "Dashboards", Name: "PostHog sync", Icon: "refresh-cw", Key: "o"},
	{Section: "Observe", Name: "Generations", Icon: "sparkles", Key: "g", Filtered: true},
	{Section: "Observe", Name: "Traces", Icon: "list-tree", Key: "t", Filtered: true},
	{Section: "Observe", Name: "Users", Icon: "users", Key: "u", Filtered: true},
	{Section: "Observe", Name: "Errors", Icon: "octagon-alert", Key: "e", Filtered: true},
	{Section: "Improve", Name: "Prompts", Icon: "file-text", Key: "p"},
	{Section: "Improve", Name: "Experiments", Icon: "flask-conical", Key: "x"},
	{Section: "Improve", Name: "Evaluations", Icon: "gavel", Key: "v"},
	{Section: "Improve", Name: "Datasets", Icon: "database", Key: "s"},
	{Section: "Settings", Name: "Connections", Icon: "plug", Key: "c"},
	{Section: "Settings", Name: "Keys", Icon: "key-round", Key: "k"},
	{Section: "Settings", Name: "Project", Icon: "settings", Key: ","},
	{Section: "Settings", Name: "Server", Icon: "server", Key: "."},
}

// Link is a link of the side bar or of the tabs.
type Link struct {
	URL, Label, Icon string
	Key              string // opens it, after "g"
	Note             string // the entry of a tab that is called otherwise
	Current          bool
}

// Named is what a project has by a name.
type Named struct {
	Kind, Icon, Name string
	Below            string // its page, below the project's
}

// navSection is a group of entries.
type navSection struct {
	Name  string
	Links []Link
}

// navigation is where a page stands among the others.
type navigation struct {
	Sections []navSection
	Tabs     []Link // of the page's entry, if there is more than one
	All      []Link // every tab of every entry
	// at is the page's entry and its tab, what there is of them: the path to the page.
	at []Link
	// listed is set where the page is that of the tab itself, and not one below it.
	listed bool
	// Filtered is set where the page takes filters, and so an environment.
	Filtered bool
}

// environment is the parameter of an address that chooses an environment.
const environment = "environment"

// Environment is the one that the address names; "" for all.
func (f *Frame) Environment() string { return f.r.URL.Query().Get(environment) }

// navigate picks the entries that a person may open. The current one is that of whose
// tabs one has a path with which the page's own begins.
func (s *Site) navigate(at Route, f *Frame) navigation {
	var out navigation
	here := at.path()
	if here == "/p/{project}/events" && f.r.URL.Query().Get("kind") == query.KindCalls {
		here = "/p/{project}/generations"
	}
	for _, e := range entries {
		var tabs []Link
		var current *Link
		listed := false
		for _, rt := range s.Routes {
			if rt.Entry != e.Name || !f.Session.Role.Can(rt.Need) || rt.ofProject() && f.Session.ProjectID == "" {
				continue
			}
			to := strings.Replace(rt.path(), "{project}", url.PathEscape(f.Session.ProjectID), 1)
			if env := f.Environment(); e.Filtered && env != "" {
				to += "?" + url.Values{environment: {env}}.Encode()
			}
			l := Link{URL: to, Label: rt.Label}
			l.Current = here == rt.path() || at.Under == rt.path() || strings.HasPrefix(here, rt.path()+"/")
			tabs = append(tabs, l)
			if l.Icon = e.Icon; l.Label != e.Name {
				l.Note = e.Name
			}
			out.All = append(out.All, l)
			if l.Current {
				current, listed = &l, here == rt.path()
			}
		}
		if len(tabs) == 0 {
			continue
		}
		l := Link{URL: tabs[0].URL, Label: e.Name, Icon: e.Icon, Key: e.Key, Current: current != nil}
		if i := len(out.Sections) - 1; i < 0 || out.Sections[i].Name != e.Section {
			out.Sections = append(out.Sections, navSection{Name: e.Section})
		}
		section := &out.Sections[len(out.Sections)-1]
		section.Links = append(section.Links, l)
		if current == nil {
			continue
		}
		out.at, out.listed, out.Filtered = []Link{l}, listed, e.Filtered && listed
		if current.Label != e.Name {
			out.at = append(out.at, *current)
		}
		if len(tabs) > 1 {
			out.Tabs = tabs
		}
	}
	return out
}

// Crumbs are the pages above this one, the top first, and this one, which has no
// address.
func (f *Frame) Crumbs() []Link {
	out := slices.Clone(f.Nav.at)
	if n := len(out); f.Nav.listed && n > 0 {
		out[n-1].URL = ""
		return out
	}
	return append(out, Link{Label: f.Title})
}

// WithEnvironment is an address of a page of this server with another environment;
// "" for all. Another address is refused.
func (f *Frame) WithEnvironment(at, name string) string {
	u, err := url.Parse(at)
	if err != nil || SafeNext(at) != at || !strings.HasPrefix(u.Path, f.Path("/")) {
		return f.Path("/overview")
	}
	q := u.Query()
	q.Del("cursor") // of a page of another list
	if q.Del(environment); name != "" {
		q.Set(environment, name)
	}
	u.RawQuery = q.Encode()
	return u.RequestURI()
}

// other is the same page of another project: the list, if this is one below it.
func (f *Frame) other(p ProjectName) string {
	to := "/p/" + url.PathEscape(p.ID) + "/overview"
	if n := len(f.Nav.at); n > 0 && f.r.Method == http.MethodGet {
		path, _, _ := strings.Cut(f.Nav.at[n-1].URL, "?")
		if rest, ok := strings.CutPrefix(path, f.Path("")+"/"); ok {
			to = "/p/" + url.PathEscape(p.ID) + "/" + rest
		}
	}
	return to
}
