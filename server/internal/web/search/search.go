package search

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/a-h/templ"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/web/page"
)

// Pages is the search.
type Pages struct {
	*page.Site
	Query *query.Reader
	Named func(projectID string) []page.Named // what a project has by a name
}

// Routes are the page alone, which htmx asks for a part of itself.
func (s *Pages) Routes() []page.Route {
	return []page.Route{{Pattern: "GET /p/{project}/search", Need: project.RoleViewer, Handle: s.search}}
}

const (
	// longestQuery bounds what is looked for, in bytes.
	longestQuery = 300
	// perGroup is how many finds of a kind are shown.
	perGroup = 6
)

// find is a line of the results: a link or, if Theme is set, a button.
type find struct {
	Icon, Label, Note, URL string
	Theme                  string
}

// group are finds of a kind.
type group struct {
	Name  string
	Finds []find
}

type searchPage struct {
	Query  string
	Groups []group
}

// search shows what a query finds, what is named exactly so first. Without a query it
// shows pages and actions.
func (s *Pages) search(r *http.Request, f *page.Frame) (templ.Component, error) {
	f.Title = "Search"
	p := searchPage{Query: strings.TrimSpace(r.URL.Query().Get("q"))}
	if len(p.Query) > longestQuery {
		return nil, event.Invalid("the query is too long", "use at most 300 characters")
	}
	hits, err := s.ids(r.Context(), f, p.Query)
	if err != nil {
		return nil, err
	}
	users, err := s.users(r.Context(), f, p.Query)
	if err != nil {
		return nil, err
	}
	for _, g := range []group{
		{"Jump to", hits}, {"Pages", pages(f, p.Query)}, {"Objects", s.objects(f, p.Query)}, {"Users", users},
		{"Search for", words(f, p.Query)}, {"Actions", actions(f, p.Query)}, {"Switch project", projects(f, p.Query)},
	} {
		if len(g.Finds) > 0 {
			p.Groups = append(p.Groups, g)
		}
	}
	return search(*f, p), nil
}

// matches reports whether each word of a query is in a text.
func matches(q, text string) bool {
	text = strings.ToLower(text)
	for word := range strings.FieldsSeq(strings.ToLower(q)) {
		if !strings.Contains(text, word) {
			return false
		}
	}
	return true
}

// best are the finds that match, those that begin with the query first.
func best(q string, list []find, limit int) []find {
	out := slices.DeleteFunc(list, func(x find) bool { return !matches(q, x.Label+" "+x.Note) })
	begins := func(x find) int {
		if strings.HasPrefix(strings.ToLower(x.Label), strings.ToLower(q)) {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(out, func(a, b find) int { return begins(a) - begins(b) })
	return out[:min(len(out), limit)]
}

// ids finds an event, a trace, a session or a user by the whole id.
func (s *Pages) ids(ctx context.Context, f *page.Frame, q string) ([]find, error) {
	if q == "" || strings.ContainsAny(q, " \t\n") {
		return nil, nil
	}
	var out []find
	id := f.Session.ProjectID
	e, err := s.Query.Event(ctx, id, q, false)
	switch {
	case err == nil:
		out = append(out, find{Icon: "sparkles", Label: page.Heading(e), Note: "event " + q, URL: f.Path("/events/" + url.PathEscape(q))})
	case event.AsError(err).Code != event.CodeNotFound && event.AsError(err).Code != event.CodeInvalid:
		return nil, err
	}
	one := func(of query.Filter) query.ListQuery { return query.ListQuery{Project: id, Filter: of, Limit: 1} }
	for _, l := range []struct {
		icon, note, path string
		list             func(context.Context, query.ListQuery) (*query.ListPage, error)
		of               query.Filter
	}{
		{"list-tree", "trace", "/traces/", s.Query.Traces, query.Filter{TraceID: q}},
		{"message-square-text", "session", "/sessions/", s.Query.Sessions, query.Filter{SessionID: q}},
		{"users", "user", "/people/", s.Query.Users, query.Filter{User: q}},
	} {
		found, err := l.list(ctx, one(l.of))
		if err != nil {
			return nil, err
		}
		if len(found.Rows) > 0 {
			out = append(out, find{Icon: l.icon, Label: q, Note: l.note + " " + found.Rows[0].Name, URL: f.Path(l.path + url.PathEscape(q))})
		}
	}
	return out, nil
}

func pages(f *page.Frame, q string) []find {
	var out []find
	for _, l := range f.Nav.All {
		out = append(out, find{Icon: l.Icon, Label: l.Label, Note: l.Note, URL: l.URL})
	}
	limit := perGroup
	if q == "" {
		limit = len(out)
	}
	return best(q, out, limit)
}

// objects are what people named: dashboards, prompts, experiments, checks, datasets.
func (s *Pages) objects(f *page.Frame, q string) []find {
	if q == "" {
		return nil
	}
	var out []find
	for _, d := range s.Registry.Snapshot().Dashboards(f.Session.ProjectID) {
		out = append(out, find{Icon: "chart-line", Label: d.Name, Note: "dashboard", URL: f.Path("/dashboards/" + url.PathEscape(d.ID))})
	}
	for _, n := range s.Named(f.Session.ProjectID) {
		out = append(out, find{Icon: n.Icon, Label: n.Name, Note: n.Kind, URL: f.Path(n.Below)})
	}
	return best(q, out, perGroup)
}

// users are those of the last days whose id has the words.
func (s *Pages) users(ctx context.Context, f *page.Frame, q string) ([]find, error) {
	if q == "" {
		return nil, nil
	}
	values, err := s.Query.FilterValues(ctx, f.Session.ProjectID, "user")
	if err != nil {
		return nil, err
	}
	var out []find
	for _, v := range values {
		if v.Value != "" && v.Value != q { // which is a find by id
			out = append(out, find{Icon: "users", Label: v.Value, Note: page.Plural(v.Events, "event"), URL: f.Path("/people/" + url.PathEscape(v.Value))})
		}
	}
	return best(q, out, perGroup), nil
}

// words are lists with the query as their filter.
func words(f *page.Frame, q string) []find {
	if q == "" {
		return nil
	}
	with := func(path, name string) string {
		return f.Path(path + "?" + url.Values{name: {q}, "range": {"7d"}}.Encode())
	}
	out := []find{{Icon: "list-tree", Label: "Traces that contain “" + q + "”", URL: with("/traces", "q")}, {Icon: "sparkles", Label: "Generations that contain “" + q + "”", URL: with("/events", "q")}}
	if f.Reads {
		out = append(out, find{Icon: "search", Label: "Prompts and responses that contain “" + q + "”", URL: with("/events", "said")})
	}
	return out
}

func actions(f *page.Frame, q string) []find {
	role := f.Session.Role
	var out []find
	for _, a := range []struct {
		need              project.Role
		icon, label, path string
	}{
		{project.RoleMember, "plus", "Create prompt", f.Path("/new-prompt")}, {project.RoleMember, "plus", "Create experiment", f.Path("/experiments/new")},
		{project.RoleMember, "plus", "Create dataset", f.Path("/datasets")}, {project.RoleMember, "plus", "Create dashboard", f.Path("/dashboards")},
		{project.RoleAdmin, "plus", "Create evaluation", f.Path("/evals/new")}, {project.RoleMember, "plug", "Connect PostHog", f.Path("/connections")},
		{project.RoleAdmin, "key-round", "Create API key", f.Path("/keys")}, {project.RoleAdmin, "users", "Invite member", "/users"}, {project.RoleAdmin, "plus", "Create project", "/projects"},
	} {
		if role.Can(a.need) {
			out = append(out, find{Icon: a.icon, Label: a.label, URL: a.path})
		}
	}
	for i, icon := range []string{"monitor", "sun", "moon"} {
		out = append(out, find{Icon: icon, Label: "Switch theme: " + page.Themes[i], Theme: page.Themes[i]})
	}
	return best(q, out, len(out))
}

func projects(f *page.Frame, q string) []find {
	var out []find
	for _, p := range f.Session.Projects {
		if p.ID != f.Session.ProjectID {
			out = append(out, find{Icon: "box", Label: p.Name, Note: "project", URL: "/p/" + url.PathEscape(p.ID) + "/overview"})
		}
	}
	return best(q, out, perGroup)
}
