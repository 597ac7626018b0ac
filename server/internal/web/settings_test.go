package web_test

import (
	"net/http"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/server/internal/project"
)

func TestProjects(t *testing.T) {
	s := newSite(t)
	s.client = s.as(s.admin)
	if resp, body := s.send("/projects", url.Values{"name": {" "}}); resp.StatusCode != 400 || !strings.Contains(body, "no name") {
		t.Errorf("a project without a name: %d", resp.StatusCode)
	}
	if resp, body := s.send("/projects", url.Values{"name": {"Default"}}); resp.StatusCode != 409 || !strings.Contains(body, `value="Default"`) {
		t.Errorf("a name that is taken: %d, and what was typed is gone", resp.StatusCode)
	}
	resp, body := s.send("/projects", url.Values{"name": {"Orchard"}})
	p, ok := s.Registry.Snapshot().ProjectByName("Orchard")
	if !ok || resp.Request.URL.Path != "/p/"+p.ID+"/keys" || !strings.Contains(body, "Project Orchard created") {
		t.Fatalf("a new project leads to %s", resp.Request.URL)
	}
	// Pages without a project use the last viewed one.
	s.get("/p/" + p.ID + "/overview")
	if resp, _ := s.get("/"); resp.Request.URL.Path != "/p/"+p.ID+"/overview" {
		t.Errorf("the start is %s", resp.Request.URL)
	}
	if resp, _ := s.get("/events?model=x"); resp.Request.URL.String() != s.server.URL+"/p/"+p.ID+"/events?model=x" {
		t.Errorf("the events are at %s", resp.Request.URL)
	}
	if _, body := s.get("/users"); !strings.Contains(body, `href="/p/`+p.ID+`/keys"`) || !strings.Contains(body, `href="/p/default/overview"`) {
		t.Error("the side bar leads elsewhere, or switches to no other project")
	}

	settings := "/p/" + p.ID + "/settings"
	form := url.Values{"name": {"Orchard 2"}, "content_days": {"7"}, "metrics_days": {"90"}, "scrub_emails": {"on"}, "hash_distinct_ids": {"on"}, "surface": {"Shop"}, "attribution_fields": {"feature, tenant"}}
	if resp, body := s.send(settings, form); resp.Request.URL.Path != settings || !strings.Contains(body, "Saved.") || !strings.Contains(body, "Orchard 2") {
		t.Errorf("saving leads to %s", resp.Request.URL)
	}
	p, _ = s.Registry.Snapshot().Project(p.ID)
	if want := (project.Settings{ScrubEmails: true, HashDistinctIDs: true, ContentDays: 7, MetricsDays: 90, Surface: "Shop", AttributionFields: []string{"feature", "tenant"}}); !reflect.DeepEqual(p.Settings, want) || p.Name != "Orchard 2" {
		t.Errorf("settings %+v of %s", p.Settings, p.Name)
	}
	for field, c := range map[string]struct{ value, want string }{
		"content_days": {"a week", "whole number"}, "metrics_days": {"-1", "between 0 and 36500"}, "name": {"", "no name"},
		"attribution_fields": {"feature, messages", "messages is a field of a provider&#39;s API"}, "surface": {strings.Repeat("s", 101), "longer than 100"},
	} {
		wrong := url.Values{"name": {"Orchard 3"}, "content_days": {"8"}, "metrics_days": {"91"}, "keep_content": {"on"}}
		wrong.Set(field, c.value)
		resp, body := s.send(settings, wrong)
		if resp.StatusCode != 400 || !strings.Contains(body, c.want) || !strings.Contains(body, `name="keep_content" value="on" checked`) || strings.Contains(body, `name="scrub_emails" value="on" checked`) {
			t.Errorf("%s = %q: %d, want %q and the boxes as they were ticked:\n%s", field, c.value, resp.StatusCode, c.want, body)
		}
	}
	if after, _ := s.Registry.Snapshot().Project(p.ID); after.Revision != p.Revision {
		t.Error("something wrong was saved")
	}

	for _, wrong := range []string{"", "orchard 2", "default"} {
		if resp, body := s.send("/p/"+p.ID+"/delete", url.Values{"confirm": {wrong}}); resp.StatusCode != 400 || !strings.Contains(body, "does not match") {
			t.Errorf("deleted with %q typed: %d", wrong, resp.StatusCode)
		}
	}
	if resp, body := s.send("/p/"+p.ID+"/delete", url.Values{"confirm": {"Orchard 2"}}); resp.Request.URL.Path != "/projects" || !strings.Contains(body, "Orchard 2 deleted") {
		t.Errorf("deleting leads to %s with %d", resp.Request.URL, resp.StatusCode)
	}
	if _, ok := s.Registry.Snapshot().Project(p.ID); ok || len(s.erased) != 1 || s.erased[0] != p.ID {
		t.Errorf("the project is there, or its events: erased %v", s.erased)
	}
	if resp, _ := s.get(settings); resp.StatusCode != 404 {
		t.Errorf("its settings: %d", resp.StatusCode)
	}
	if resp, _ := s.get("/"); resp.Request.URL.Path != "/p/default/overview" {
		t.Errorf("the start is %s", resp.Request.URL)
	}
	if resp, body := s.send("/p/default/delete", url.Values{"confirm": {"default"}}); resp.StatusCode != 409 || !strings.Contains(body, "only project") {
		t.Errorf("the only project: %d", resp.StatusCode)
	}
}

// TestKeys shows a key once, in the answer to its making and nowhere else.
func TestKeys(t *testing.T) {
	s := newSite(t)
	s.client = s.as(s.admin)
	resp, body := s.send("/p/default/keys", url.Values{"name": {"ci"}, "scope": {"read"}})
	plain := regexp.MustCompile(`hr_\w{40}`).FindString(body)
	if resp.StatusCode != 200 || plain == "" || strings.Contains(strings.Join(resp.Header["Set-Cookie"], ""), plain) || resp.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("a new key: %d, %q, cookies %v", resp.StatusCode, plain, resp.Cookies())
	}
	_, k, ok := s.Registry.Snapshot().ProjectByAPIKey(plain)
	if !ok || k.Role != project.RoleViewer || k.Name != "ci" {
		t.Errorf("key %+v", k)
	}
	if _, body := s.get("/p/default/keys"); strings.Contains(body, plain) || !strings.Contains(body, k.Prefix) {
		t.Error("the key is shown twice, or its beginning not at all")
	}
	for _, wrong := range [][]string{{"owner"}, {"read", ""}, nil} {
		if resp, body := s.send("/p/default/keys", url.Values{"name": {"x"}, "scope": wrong}); resp.StatusCode != 400 || !strings.Contains(body, "scope") {
			t.Errorf("the scopes %q: %d", wrong, resp.StatusCode)
		}
	}
	_, body = s.send("/p/default/keys", url.Values{"name": {"proxy"}, "scope": {"gateway", "ingest"}})
	if _, k, _ := s.Registry.Snapshot().ProjectByAPIKey(regexp.MustCompile(`hr_\w{40}`).FindString(body)); k.Scopes.String() != "ingest, gateway" || k.Role != "" || !strings.Contains(body, "ingest, gateway") {
		t.Errorf("a key with scopes of its own: %+v", k)
	}
	if _, body := s.get("/p/default/keys"); strings.Count(body, "&lt;1 s ago") != 2 || !strings.Contains(body, "not since startup") { // which the test itself has used
		t.Errorf("when keys were used:\n%s", body)
	}
	if strings.Contains(body, "API keys now have scopes") {
		t.Error("a notice about old keys where there are none")
	}
	if resp, _ := s.send("/p/default/keys/"+k.ID+"/revoke", nil); resp.Request.URL.Path != "/p/default/keys" {
		t.Errorf("revoking leads to %s", resp.Request.URL)
	}
	if _, _, ok := s.Registry.Snapshot().ProjectByAPIKey(plain); ok {
		t.Error("a revoked key works")
	}
	before, _ := s.Registry.Snapshot().Project("default")
	s.send("/p/default/token", nil)
	if after, _ := s.Registry.Snapshot().Project("default"); after.Token == before.Token {
		t.Error("the token is the old one")
	}
	const secret = "sk-proj-0123456789secret"
	if resp, body := s.send("/p/default/provider-keys", url.Values{"provider": {"openai"}, "key": {secret}}); resp.StatusCode != 200 || strings.Contains(body, secret) || !strings.Contains(body, "…cret") {
		t.Errorf("a provider's key: %d", resp.StatusCode)
	}
	if kept, ok := s.Registry.Snapshot().ProviderKey("default", "openai"); !ok || kept.Reveal() != secret {
		t.Error("the provider's key is not kept")
	}
	if resp, body := s.send("/p/default/provider-keys", url.Values{"provider": {"openai"}, "key": {"sk with spaces"}}); resp.StatusCode != 400 || strings.Contains(body, "sk with spaces") {
		t.Errorf("a wrong key: %d, or it is shown again", resp.StatusCode)
	}
	s.send("/p/default/provider-keys/openai/delete", nil)
	if _, ok := s.Registry.Snapshot().ProviderKey("default", "openai"); ok {
		t.Error("a removed key is kept")
	}
	s.client = s.as(s.person("m@example.com", project.RoleMember, "default"))
	if _, body := s.get("/p/default/keys"); strings.Contains(body, "Create key") || !strings.Contains(body, "Project token") {
		t.Error("a member is offered what only an administrator may do, or not shown the token")
	}
}

func TestUsers(t *testing.T) {
	s := newSite(t)
	s.client = s.as(s.admin)
	form := url.Values{"email": {"Bob@example.com"}, "name": {"Bob"}, "role": {"viewer"}, "projects": {"default"}}
	resp, body := s.send("/users", form)
	link := regexp.MustCompile(`http://hedgerow\.example(/sign-in\?token=\w+)`).FindStringSubmatch(body)
	if resp.StatusCode != 200 || link == nil {
		t.Fatalf("an invitation: %d\n%s", resp.StatusCode, body)
	}
	bob, ok := s.Registry.Snapshot().UserByEmail("bob@example.com")
	if !ok || bob.Role != project.RoleViewer || !bob.CanSee("default") {
		t.Fatalf("user %+v", bob)
	}
	if _, body := s.get("/users/" + bob.ID); strings.Contains(body, link[1]) {
		t.Error("the link is shown twice")
	}
	if resp, body := s.send("/users", form); resp.StatusCode != 409 || !strings.Contains(body, `value="Bob"`) || !strings.Contains(body, `value="default" checked`) || !strings.Contains(body, `value="viewer" selected`) {
		t.Errorf("an address that is taken: %d, or what was typed is gone", resp.StatusCode)
	}
	if resp, _ := s.send("/users", url.Values{"email": {"c@example.com"}, "role": {"viewer"}, "projects": {"p_none"}}); resp.StatusCode != 404 {
		t.Errorf("a project that is none: %d", resp.StatusCode)
	}

	admin := s.client
	bobs := s.browser()
	s.client = bobs
	if resp, body := s.post("/sign-in/link", url.Values{"token": {strings.TrimPrefix(link[1], "/sign-in?token=")}}); resp.Request.URL.Path != "/welcome" || strings.Contains(body, `name="email"`) {
		t.Errorf("the invitation leads to %s", resp.Request.URL)
	}
	if resp, _ := s.send("/welcome", url.Values{"password": {password}, "repeat": {password}, "email": {"admin2@example.com"}}); resp.StatusCode != 200 {
		t.Errorf("setting the password: %d", resp.StatusCode)
	}
	if u, _ := s.Registry.Snapshot().User(bob.ID); u.Email != "bob@example.com" {
		t.Errorf("who was invited gave another address: %s", u.Email)
	}
	if resp, _ := s.get("/users"); resp.StatusCode != 403 {
		t.Errorf("a viewer sees the users: %d", resp.StatusCode)
	}

	// A change of role holds from the next request on.
	s.client = admin
	if resp, _ := s.send("/users/"+bob.ID, url.Values{"email": {"bob@example.com"}, "name": {"Bob"}, "role": {"admin"}}); resp.Request.URL.Path != "/users" {
		t.Errorf("saving leads to %s", resp.Request.URL)
	}
	s.client = bobs
	if resp, _ := s.get("/users"); resp.StatusCode != 200 {
		t.Errorf("a new administrator does not see the users: %d", resp.StatusCode)
	}
	s.client = admin
	s.send("/users/"+bob.ID+"/sign-out", nil)
	s.client = bobs
	if resp, _ := s.get("/users"); resp.Request.URL.Path != "/sign-in" {
		t.Error("signed in after an administrator has ended all sessions")
	}
	s.client = admin
	if resp, body := s.send("/users/"+bob.ID+"/link", nil); resp.StatusCode != 200 || !strings.Contains(body, "/sign-in?token=") {
		t.Errorf("a link: %d", resp.StatusCode)
	}
	s.send("/users/"+bob.ID+"/delete", nil)
	if _, ok := s.Registry.Snapshot().User(bob.ID); ok {
		t.Error("a removed user is there")
	}
	for _, c := range []struct {
		path string
		form url.Values
	}{{"/delete", nil}, {"", url.Values{"email": {"admin@example.com"}, "role": {"viewer"}}}} {
		if resp, body := s.send("/users/"+s.admin.ID+c.path, c.form); resp.StatusCode != 409 || !strings.Contains(body, "only administrator") {
			t.Errorf("the only administrator, %q: %d", c.path, resp.StatusCode)
		}
	}
	for _, path := range []string{"/users/u_none", "/users/u_none/link"} {
		send := s.get
		if strings.HasSuffix(path, "link") {
			send = func(path string) (*http.Response, string) { return s.send(path, nil) }
		}
		if resp, body := send(path); resp.StatusCode != 404 || !strings.Contains(body, "No such member") {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
	// A user without a project sees what to do.
	s.client = s.as(s.person("new@example.com", project.RoleMember))
	for _, path := range []string{"/", "/projects", "/events"} {
		if resp, body := s.get(path); resp.StatusCode != 200 || !strings.Contains(body, "No projects yet") {
			t.Errorf("%s without a project: %d", path, resp.StatusCode)
		}
	}
}

// TestAudit turns the pages of the log: every entry comes once, in order.
func TestAudit(t *testing.T) {
	s := newSite(t)
	for range 60 {
		if _, err := s.Registry.RotateToken(project.WithActor(t.Context(), s.admin.ID), "default"); err != nil {
			t.Fatal(err)
		}
	}
	other, err := s.Registry.CreateProject(t.Context(), "Orchard")
	if err != nil {
		t.Fatal(err)
	}
	s.client = s.as(s.admin)
	entries := len(s.Registry.AuditLog("", 0))
	next := regexp.MustCompile(`rel="next" href="([^"]+)"`)
	row := regexp.MustCompile(`<tr><td class="t">`)
	var rows, pages int
	for path := "/audit"; path != ""; pages++ {
		resp, body := s.get(path)
		if resp.StatusCode != 200 || pages > 10 {
			t.Fatalf("%s: %d", path, resp.StatusCode)
		}
		rows += len(row.FindAllString(body, -1))
		path = ""
		if m := next.FindStringSubmatch(body); m != nil {
			path = strings.ReplaceAll(m[1], "&amp;", "&")
		}
		if !strings.Contains(body, "admin@example.com") {
			t.Error("the page shows an id in place of the administrator's address")
		}
	}
	if rows != entries || pages != 2 {
		t.Errorf("%d entries on %d pages, want %d on 2", rows, pages, entries)
	}
	_, body := s.get("/audit?project=" + other.ID)
	if n := len(row.FindAllString(body, -1)); n != 1 {
		t.Errorf("%d entries of one project, want 1", n)
	}
	if _, body := s.get("/audit?before=0"); !strings.Contains(body, "No entries") || !strings.Contains(body, "Newest") {
		t.Error("past the end")
	}
}

// TestEscaping puts markup into everything that people can name.
func TestEscaping(t *testing.T) {
	const evil = `"><script>alert(1)</script><img src=x onerror=alert(1)>`
	e := sample("default")
	e.Model, e.Surface, e.DistinctID, e.ErrorMessage, e.TraceName, e.PromptName = evil, evil, evil, evil, evil, evil
	s := newSite(t, e)
	ctx := project.WithActor(t.Context(), evil)
	p, err := s.Registry.CreateProject(ctx, evil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Registry.CreateAPIKey(ctx, "default", evil, project.RoleViewer); err != nil {
		t.Fatal(err)
	}
	u, err := s.Registry.CreateUser(ctx, project.User{Email: "x@example.com", Name: evil, Role: project.RoleAdmin})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Registry.CreateSession(ctx, u.ID, evil); err != nil {
		t.Fatal(err)
	}
	s.client = s.as(u)
	verify := func(at, body string) {
		t.Helper()
		for _, bad := range []string{"<script>", "<img", "onerror=alert(1)>"} {
			if strings.Contains(body, bad) {
				t.Errorf("%s has %s", at, bad)
			}
		}
	}
	for _, path := range []string{"/p/default/overview", "/p/default/events", "/p/default/events?model=" + url.QueryEscape(evil), "/p/default/events/" + e.UUID, "/p/default/traces/t-default",
		"/p/default/keys", "/p/" + p.ID + "/settings", "/projects", "/users", "/users/" + u.ID, "/audit", "/audit?project=" + url.QueryEscape(evil), "/account", "/sign-in?token=" + url.QueryEscape(evil), "/" + url.PathEscape(evil)} {
		_, body := s.get(path)
		verify(path, body)
	}
	_, body := s.send("/projects", url.Values{"name": {evil}})
	verify("a refused form", body)
	_, body = s.send("/p/"+p.ID+"/delete", url.Values{"confirm": {"x"}})
	verify("a refused deletion", body)
	_, body = s.send("/account", url.Values{"name": {evil + "2"}})
	verify("a saved form", body)
	s.client = s.browser()
	_, body = s.post("/sign-in", url.Values{"email": {evil}, "password": {"x"}, "next": {evil}})
	verify("a refused sign-in", body)
}

// TestFlash takes no message from anyone but this session.
func TestFlash(t *testing.T) {
	s := newSite(t)
	s.client = s.as(s.admin)
	base, _ := url.Parse(s.server.URL)
	s.client.Jar.SetCookies(base, []*http.Cookie{{Name: "hedgerow_flash", Value: "U2VuZCB5b3VyIHBhc3N3b3Jk.bm90IGEgbWFj", Path: "/"}})
	if _, body := s.get("/account"); strings.Contains(body, "Send your password") {
		t.Error("a message that somebody planted is shown")
	}
	if _, body := s.send("/account", url.Values{"name": {"Ada"}}); !strings.Contains(body, "Saved.") {
		t.Error("a message of one's own is not shown")
	}
}

// TestFragments are what htmx gets: the body without the page around it, errors
// and redirects included.
func TestFragments(t *testing.T) {
	s := newSite(t, sample("default"))
	s.client = s.as(s.admin)
	ask := func(method, path string, header ...string) (*http.Response, string) {
		r, err := http.NewRequestWithContext(t.Context(), method, s.server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("HX-Request", "true")
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		return s.do(r)
	}
	resp, body := ask("GET", "/p/default/events")
	if resp.StatusCode != 200 || strings.Contains(body, "<nav") || !strings.Contains(body, "<h1>Events") || !strings.Contains(body, "<title>Events") || !slices.Contains(resp.Header.Values("Vary"), "HX-Request") {
		t.Errorf("a fragment: %d %v\n%s", resp.StatusCode, resp.Header, body)
	}
	if _, body := ask("GET", "/p/default/events", "HX-History-Restore-Request", "true"); !strings.Contains(body, "<nav") {
		t.Error("the browser's way back shows a fragment")
	}
	if resp, body := ask("GET", "/p/default/events?cursor=zzz"); resp.StatusCode != 400 || strings.Contains(body, "<nav") || !strings.Contains(body, "cursor") {
		t.Errorf("an error: %d", resp.StatusCode)
	}
	s.client = s.browser()
	if resp, body := ask("GET", "/p/default/events"); resp.StatusCode != 200 || !strings.HasPrefix(resp.Header.Get("HX-Redirect"), "/sign-in") || body != "" {
		t.Errorf("without a session: %d %v", resp.StatusCode, resp.Header)
	}
}

// TestFind leads from the URL that PostHog has to the project that has the trace.
func TestFind(t *testing.T) {
	e := sample("default")
	s := newSite(t, e)
	if _, err := s.Registry.CreateProject(t.Context(), "A first one"); err != nil {
		t.Fatal(err)
	}
	s.client = s.as(s.admin)
	for from, to := range map[string]string{"/traces/t-default": "/p/default/traces/t-default", "/events/" + e.UUID: "/p/default/events/" + e.UUID} {
		if resp, _ := s.get(from); resp.StatusCode != 200 || resp.Request.URL.Path != to {
			t.Errorf("%s leads to %s with %d", from, resp.Request.URL, resp.StatusCode)
		}
	}
	if resp, _ := s.get("/traces/none"); resp.StatusCode != 404 {
		t.Errorf("a trace that is none: %d", resp.StatusCode)
	}
	s.client = s.as(s.person("nobody@example.com", project.RoleViewer))
	for _, path := range []string{"/traces/t-default", "/events/" + e.UUID} {
		if resp, body := s.get(path); resp.StatusCode != 404 || strings.Contains(body, "Two metres") {
			t.Errorf("%s of somebody else's project: %d", path, resp.StatusCode)
		}
	}
}

// TestHeaders are on every answer, refusals and files included.
func TestHeaders(t *testing.T) {
	s := newSite(t)
	for _, path := range []string{"/sign-in", "/static/style.css", "/assets/none.js", "/nothing", "/users"} {
		resp, _ := s.get(path)
		h := resp.Header
		csp := h.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'"} {
			if !strings.Contains(csp, want) {
				t.Errorf("%s: policy %q lacks %s", path, csp, want)
			}
		}
		if strings.Contains(csp, "unsafe") || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("X-Frame-Options") != "DENY" || h.Get("Referrer-Policy") != "same-origin" || h.Get("Cross-Origin-Opener-Policy") != "same-origin" {
			t.Errorf("%s: headers %v", path, h)
		}
	}
}
