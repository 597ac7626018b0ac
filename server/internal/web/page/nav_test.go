package page

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/hedgerow/hedgerow/server/internal/project"
)

// TestNavigate picks entries by role, finds the page among them, and keeps the
// environment where pages take filters.
func TestNavigate(t *testing.T) {
	const viewer, admin = project.RoleViewer, project.RoleAdmin
	s := &Site{Routes: []Route{
		{Pattern: "GET /p/{project}/overview", Need: viewer, Entry: "Overview", Label: "Overview"},
		{Pattern: "GET /p/{project}/traces", Need: viewer, Entry: "Traces", Label: "Traces"},
		{Pattern: "GET /p/{project}/traces/{id}", Need: viewer},
		{Pattern: "GET /p/{project}/sessions", Need: viewer, Entry: "Traces", Label: "Sessions"},
		{Pattern: "GET /p/{project}/settings", Need: admin, Entry: "Project", Label: "General"},
		{Pattern: "GET /p/{project}/prices", Need: viewer, Entry: "Project", Label: "Prices"},
		{Pattern: "GET /account", Need: viewer},
	}}
	for _, c := range []struct {
		pattern, address string
		role             project.Role
		links, crumbs    []string
		tabs             int
		filtered         bool
	}{
		{"GET /p/{project}/overview", "/p/a/overview?environment=test", viewer, []string{"/p/a/overview", "/p/a/traces?environment=test", "/p/a/prices"}, []string{"Overview"}, 0, false},
		{"GET /p/{project}/sessions", "/p/a/sessions", admin, []string{"/p/a/overview", "/p/a/traces", "/p/a/settings"}, []string{"Traces /p/a/traces", "Sessions"}, 2, true},
		{"GET /p/{project}/traces/{id}", "/p/a/traces/1", viewer, []string{"/p/a/overview", "/p/a/traces", "/p/a/prices"}, []string{"Traces /p/a/traces", "T"}, 2, false},
		{"GET /p/{project}/prices", "/p/a/prices", viewer, []string{"/p/a/overview", "/p/a/traces", "/p/a/prices"}, []string{"Project /p/a/prices", "Prices"}, 0, false},
		{"GET /account", "/account", viewer, []string{"/p/a/overview", "/p/a/traces", "/p/a/prices"}, []string{"T"}, 0, false},
	} {
		f := &Frame{Title: "T", Session: Session{Role: c.role, ProjectID: "a"}, r: httptest.NewRequest(http.MethodGet, c.address, nil)}
		f.Nav = s.navigate(s.Routes[slices.IndexFunc(s.Routes, func(rt Route) bool { return rt.Pattern == c.pattern })], f)
		var links, crumbs []string
		for _, section := range f.Nav.Sections {
			for _, l := range section.Links {
				links = append(links, l.URL)
			}
		}
		for _, l := range f.Crumbs() {
			crumb := l.Label
			if l.URL != "" {
				crumb += " " + l.URL
			}
			crumbs = append(crumbs, crumb)
		}
		if !slices.Equal(links, c.links) || !slices.Equal(crumbs, c.crumbs) || len(f.Nav.Tabs) != c.tabs || f.Nav.Filtered != c.filtered {
			t.Errorf("%s for a %s: links %q, crumbs %q, %d tabs, filtered %t", c.address, c.role, links, crumbs, len(f.Nav.Tabs), f.Nav.Filtered)
		}
	}
}

// TestOtherPlaces are the same page of another project, and with another environment.
func TestOtherPlaces(t *testing.T) {
	f := &Frame{Session: Session{ProjectID: "a"}, r: httptest.NewRequest(http.MethodGet, "/p/a/sessions/1?environment=x", nil)}
	f.Nav.at = []Link{{URL: "/p/a/traces?environment=x"}, {URL: "/p/a/sessions?environment=x"}}
	if got := f.other(ProjectName{ID: "b"}); got != "/p/b/sessions" {
		t.Errorf("of another project: %s", got)
	}
	f.Nav.at = []Link{{URL: "/audit"}}
	if got := f.other(ProjectName{ID: "b"}); got != "/p/b/overview" {
		t.Errorf("from a page of no project: %s", got)
	}
	for _, c := range [][3]string{
		{"/p/a/traces?model=m&cursor=c", "x", "/p/a/traces?environment=x&model=m"}, {"/p/a/traces?environment=x", "", "/p/a/traces"},
		{"https://evil.example/p/a/traces", "x", "/p/a/overview"}, {"/p/b/traces", "x", "/p/a/overview"}, {"", "x", "/p/a/overview"},
	} {
		if got := f.WithEnvironment(c[0], c[1]); got != c[2] {
			t.Errorf("%s with %q is %s, want %s", c[0], c[1], got, c[2])
		}
	}
}
