package web_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/server/internal/project"
)

// TestSearch finds by id, by words and by name what the reader may open, and nothing of
// another project.
func TestSearch(t *testing.T) {
	e, foreign := sample("default"), sample("other")
	foreign.TraceID = "t-foreign"
	s := newSite(t, e, foreign)
	admin := s.as(s.admin)
	viewer := s.as(s.person("viewer@example.com", project.RoleViewer, "default"))
	if _, err := s.Registry.CreateDashboard(t.Context(), project.Dashboard{ProjectID: "default", Name: "Weekly figures"}); err != nil {
		t.Fatal(err)
	}
	trace := `href="/p/default/traces/` + e.TraceID + `"`
	for _, c := range []struct {
		q         string
		as        *http.Client
		want, not []string
	}{
		{"", admin, []string{"Pages", `href="/p/default/sessions"`, "Create prompt", "Invite member", `value="dark"`}, []string{"Users</h2>"}},
		{"", viewer, []string{`href="/p/default/sessions"`}, []string{"Create prompt", "Invite member", "/p/default/keys", "/audit"}},
		{e.TraceID, viewer, []string{"Jump to", trace}, nil},
		{e.UUID, viewer, []string{"Jump to", `href="/p/default/events/` + e.UUID + `"`}, nil},
		{"t-foreign", viewer, nil, []string{"Jump to"}},
		{"FIGURES weekly", viewer, []string{"Objects", "Weekly figures"}, []string{"Jump to"}},
		{"late refund", viewer, []string{`q=late+refund&amp;range=7d`}, []string{"Pages</h2>"}},
		{"audit", admin, []string{`href="/audit"`}, nil},
		{`"><script>`, admin, []string{"&gt;&lt;script&gt;"}, []string{"><script>"}},
	} {
		s.client = c.as
		resp, body := s.get("/p/default/search?" + url.Values{"q": {c.q}}.Encode())
		_, found, _ := strings.Cut(body, `id="found"`)
		if resp.StatusCode != 200 || found == "" {
			t.Fatalf("%q: %d", c.q, resp.StatusCode)
		}
		for _, w := range c.want {
			if !strings.Contains(found, w) {
				t.Errorf("%q does not find %q:\n%s", c.q, w, found)
			}
		}
		for _, w := range c.not {
			if strings.Contains(found, w) {
				t.Errorf("%q finds %q", c.q, w)
			}
		}
	}
	s.client = viewer
	if resp, _ := s.get("/p/other/search?q=t-foreign"); resp.StatusCode != 404 {
		t.Errorf("of another project: %d", resp.StatusCode)
	}
	if resp, _ := s.get("/p/default/search?q=" + strings.Repeat("x", 301)); resp.StatusCode != 400 {
		t.Errorf("a query that is too long: %d", resp.StatusCode)
	}
}
