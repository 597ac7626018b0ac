package web_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/web"
)

func credentials(email, password string) url.Values {
	return url.Values{"email": {email}, "password": {password}}
}

// revision is where the settings stand: what changed nothing leaves it.
func (s *site) revision() uint64 { return s.Registry.Snapshot().Revision() }

// TestFirstStart goes the way of the first administrator: link, e-mail address
// and password, and from then on by password.
func TestFirstStart(t *testing.T) {
	s := newSite(t)
	fresh, err := s.Registry.CreateUser(t.Context(), project.User{Email: "x@example.com", Role: project.RoleAdmin})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Registry.DeleteUser(t.Context(), s.admin.ID); err != nil {
		t.Fatal(err)
	}
	if _, body := s.get("/sign-in"); !strings.Contains(body, "hedgerow project sign-in-link") || strings.Contains(body, `type="password"`) {
		t.Errorf("where nobody has a password the sign-in page asks for one:\n%s", body)
	}
	link, _, err := s.Registry.CreateLink(t.Context(), fresh.ID)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // a chat program that looks ahead
		if resp, body := s.get("/sign-in?token=" + link); resp.StatusCode != 200 || !strings.Contains(body, "can be used once") {
			t.Fatalf("the link's page: %d", resp.StatusCode)
		}
	}
	if resp, _ := s.post("/sign-in/link", url.Values{"token": {"wrong"}}); resp.StatusCode != 401 || s.session() != "" {
		t.Errorf("a wrong link: %d, session %q", resp.StatusCode, s.session())
	}
	resp, body := s.post("/sign-in/link", url.Values{"token": {link}})
	if resp.Request.URL.Path != "/welcome" || !strings.Contains(body, "x@example.com") {
		t.Fatalf("the link leads to %s", resp.Request.URL)
	}
	byLink := s.session()
	for _, c := range []struct{ password, repeat, want string }{
		{"long enough 1", "long enough 2", "The passwords do not match"}, {"short", "short", "10 to 200 characters"},
	} {
		if resp, body := s.send("/welcome", url.Values{"password": {c.password}, "repeat": {c.repeat}, "name": {"Ada"}}); resp.StatusCode != 400 || !strings.Contains(body, c.want) || !strings.Contains(body, `value="Ada"`) {
			t.Errorf("password %q: %d, want %q and what was typed:\n%s", c.password, resp.StatusCode, c.want, body)
		}
	}
	resp, body = s.send("/welcome", url.Values{"password": {password}, "repeat": {password}, "name": {"Ada"}})
	if resp.Request.URL.Path != "/p/default/overview" || !strings.Contains(body, "Password set") {
		t.Errorf("after the password: %s", resp.Request.URL)
	}
	if s.session() == byLink {
		t.Error("the session is the one from before the password")
	}
	if _, body := s.get("/p/default/overview"); strings.Contains(body, "Password set") {
		t.Error("the message is shown twice")
	}
	if resp, _ := s.send("/welcome", url.Values{"password": {"another long one"}, "repeat": {"another long one"}}); resp.StatusCode != 409 {
		t.Errorf("a password is set again without the old one: %d", resp.StatusCode)
	}
	if resp, _ := s.post("/sign-in/link", url.Values{"token": {link}}); resp.StatusCode != 401 {
		t.Errorf("the link works twice: %d", resp.StatusCode)
	}
	s.send("/sign-out", nil)
	if resp, _ := s.get("/p/default/overview"); resp.Request.URL.Path != "/sign-in" {
		t.Error("still signed in after signing out")
	}
	if resp, _ := s.post("/sign-in", credentials("X@example.com ", password)); resp.Request.URL.Path != "/p/default/overview" {
		t.Errorf("signing in by password leads to %s with %d", resp.Request.URL, resp.StatusCode)
	}
}

func TestSignIn(t *testing.T) {
	e := sample("default")
	s := newSite(t, e)
	for _, path := range []string{"/", "/p/default/overview", "/p/default/events", "/p/default/events/" + e.UUID, "/traces/t-default", "/users"} {
		if resp, body := s.get(path); resp.Request.URL.Path != "/sign-in" || strings.Contains(body, "Two metres") {
			t.Errorf("%s shows %s to a stranger", path, resp.Request.URL.Path)
		}
	}
	_, unknown := s.post("/sign-in", credentials("nobody@example.com", password))
	resp, wrong := s.post("/sign-in", credentials("admin@example.com", "wrong password"))
	if resp.StatusCode != 401 || s.session() != "" {
		t.Errorf("a wrong password: %d, session %q", resp.StatusCode, s.session())
	}
	if strings.ReplaceAll(unknown, "nobody@", "admin@") != wrong {
		t.Error("the answer tells whether the address is known")
	}
	form := credentials("admin@example.com", password)
	form.Set("next", "/p/default/events?model=x")
	if resp, _ = s.post("/sign-in", form); resp.Request.URL.String() != s.server.URL+"/p/default/events?model=x" {
		t.Errorf("signed in to %s", resp.Request.URL)
	}
	form.Set("next", "//evil.example/")
	s.client = s.browser()
	if resp, _ = s.post("/sign-in", form); resp.Request.URL.Host != strings.TrimPrefix(s.server.URL, "http://") {
		t.Errorf("signed in to %s", resp.Request.URL)
	}
}

// TestSessionFixation plants a token in the browser that is to sign in. It must
// be worth nothing afterwards, whether it was made up or somebody's own.
func TestSessionFixation(t *testing.T) {
	s := newSite(t)
	own, _, err := s.Registry.CreateSession(t.Context(), s.person("eve@example.com", project.RoleViewer).ID, "")
	if err != nil {
		t.Fatal(err)
	}
	base, _ := url.Parse(s.server.URL)
	for _, planted := range []string{"made-up", own} {
		for _, way := range []func(){
			func() { s.post("/sign-in", credentials("admin@example.com", password)) },
			func() {
				link, _, err := s.Registry.CreateLink(t.Context(), s.admin.ID)
				if err != nil {
					t.Fatal(err)
				}
				s.post("/sign-in/link", url.Values{"token": {link}})
			},
		} {
			s.client = s.browser()
			s.client.Jar.SetCookies(base, []*http.Cookie{{Name: "hedgerow_session", Value: planted, Path: "/"}})
			way()
			if got := s.session(); got == planted || got == "" {
				t.Errorf("the session is %q, planted was %q", got, planted)
			}
			if _, _, ok := s.Registry.Snapshot().SessionByToken(planted); ok {
				t.Error("the planted session lives on")
			}
			if _, u, ok := s.Registry.Snapshot().SessionByToken(s.session()); !ok || u.ID != s.admin.ID {
				t.Error("the new session is not the administrator's")
			}
		}
	}
}

func TestCookies(t *testing.T) {
	s := newSite(t)
	for _, c := range []struct {
		proto, name string
		secure      bool
	}{{"", "hedgerow_session", false}, {"https", "__Host-hedgerow_session", true}} {
		r := httptest.NewRequest("POST", "/sign-in", strings.NewReader(credentials("admin@example.com", password).Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("X-Forwarded-Proto", c.proto)
		w := httptest.NewRecorder()
		s.web.ServeHTTP(w, r)
		i := slices.IndexFunc(w.Result().Cookies(), func(k *http.Cookie) bool { return k.Name == c.name })
		if i < 0 {
			t.Fatalf("no cookie %s: %d %v", c.name, w.Code, w.Result().Cookies())
		}
		k := w.Result().Cookies()[i]
		if !k.HttpOnly || k.SameSite != http.SameSiteLaxMode || k.Secure != c.secure || k.Path != "/" || k.Domain != "" {
			t.Errorf("cookie %s", k)
		}
		if sts := w.Header().Get("Strict-Transport-Security"); (sts != "") != c.secure {
			t.Errorf("Strict-Transport-Security %q over %q", sts, c.proto)
		}
		r.Host = "localhost:4100"
		w = httptest.NewRecorder()
		s.web.ServeHTTP(w, r)
		if sts := w.Header().Get("Strict-Transport-Security"); sts != "" {
			t.Errorf("Strict-Transport-Security %q for all servers of localhost", sts)
		}
	}
}

// TestForgedAddress guesses from this machine under another forwarded address each
// time, as finding 20 did: the account's bound holds, and so does the machine's.
func TestForgedAddress(t *testing.T) {
	for _, public := range []string{"http://127.0.0.1:4100", "https://hedgerow.example"} {
		s := newSite(t)
		pages := web.New(web.Config{Services: s.Services, PublicURL: public, Now: s.clock.now})
		try := func(i int, email string) int {
			r := httptest.NewRequest("POST", "/sign-in", strings.NewReader(credentials(email, "guess").Encode()))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			r.Header.Set("X-Forwarded-For", fmt.Sprintf("198.51.100.%d", i))
			r.RemoteAddr = "127.0.0.1:4242"
			w := httptest.NewRecorder()
			pages.ServeHTTP(w, r)
			return w.Code
		}
		var one, many int
		for i := range 40 {
			if try(i, "admin@example.com") == 401 {
				one++
			}
		}
		if one != 10 {
			t.Errorf("%s: %d guesses for one account at once, want 10", public, one)
		}
		for i := range 60 {
			if try(i, fmt.Sprintf("u%d@example.com", i)) == 401 {
				many++
			}
		}
		if want := map[bool]int{true: 20, false: 60}[strings.Contains(public, "127.0.0.1")]; many != want { // 30 of the machine, less the 10
			t.Errorf("%s: %d guesses for many accounts at once, want %d", public, many, want)
		}
	}
}

// TestBruteForce bounds the passwords that can be tried, for one account and
// from one address, in a row or at once.
func TestBruteForce(t *testing.T) {
	s := newSite(t)
	s.person("bob@example.com", project.RoleViewer, "default")
	try := func(email, password string) *http.Response {
		resp, _ := s.post("/sign-in", credentials(email, password))
		return resp
	}
	var refused, limited int
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			r := httptest.NewRequest("POST", "/sign-in", strings.NewReader(credentials("ADMIN@example.com", "guess").Encode()))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			w := httptest.NewRecorder()
			s.web.ServeHTTP(w, r)
			mu.Lock()
			defer mu.Unlock()
			switch w.Code {
			case 401:
				refused++
			case 429:
				limited++
			}
		})
	}
	wg.Wait()
	if refused != 10 || limited != 10 {
		t.Fatalf("%d guesses were looked at, %d put off; want 10 and 10", refused, limited)
	}
	resp, body := s.post("/sign-in", credentials("admin@example.com", password))
	after, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
	if resp.StatusCode != 429 || after < 1 || after > 60 || !strings.Contains(body, "Try again in a second") || !strings.Contains(body, "sign-in link") {
		t.Errorf("the right password while limited: %d, Retry-After %q\n%s", resp.StatusCode, resp.Header.Get("Retry-After"), body)
	}
	if resp := try("bob@example.com", password); resp.Request.URL.Path != "/p/default/overview" {
		t.Errorf("another account is limited as well: %d", resp.StatusCode)
	}
	link, _, err := s.Registry.CreateLink(t.Context(), s.admin.ID)
	if err != nil {
		t.Fatal(err)
	}
	if resp, _ := s.post("/sign-in/link", url.Values{"token": {link}}); resp.StatusCode != 200 {
		t.Errorf("a link does not let in while the account is limited: %d", resp.StatusCode)
	}
	entries := s.Registry.AuditLog("", 0)
	i := slices.IndexFunc(entries, func(e project.AuditEntry) bool { return e.Action == "sign_in.limited" })
	if i < 0 || entries[i].Target != s.admin.ID || !strings.HasPrefix(entries[i].Actor, "address ") {
		t.Errorf("the audit log does not tell: %+v", entries[:3])
	}
	s.clock.set(s.clock.now().Add(16 * time.Minute))
	s.client = s.browser()
	if resp := try("admin@example.com", password); resp.Request.URL.Path != "/p/default/overview" {
		t.Errorf("limited for longer than the window: %d", resp.StatusCode)
	}
	// Success clears the account: ten more may fail.
	s.client = s.browser()
	for i := range 10 {
		if resp := try("admin@example.com", "guess"); resp.StatusCode != 401 {
			t.Fatalf("guess %d: %d", i, resp.StatusCode)
		}
	}
	// One address that guesses for many accounts.
	s.clock.set(s.clock.now().Add(16 * time.Minute))
	for i := range 30 {
		if resp := try(fmt.Sprintf("u%d@example.com", i), "guess"); resp.StatusCode != 401 {
			t.Fatalf("address %d: %d", i, resp.StatusCode)
		}
	}
	if resp := try("bob@example.com", password); resp.StatusCode != 429 {
		t.Errorf("30 failures from one address, and it goes on: %d", resp.StatusCode)
	}
}

// fill puts something into the placeholders of a pattern.
func fill(pattern, projectID string, s *site) (method, path string) {
	method, path, _ = strings.Cut(pattern, " ")
	key := "k_none"
	if keys := s.Registry.Snapshot().APIKeys(projectID); len(keys) > 0 {
		key = keys[0].ID
	}
	dashboard := "d_none"
	if all := s.Registry.Snapshot().Dashboards(projectID); len(all) > 0 {
		dashboard = all[0].ID
	}
	path = strings.NewReplacer("{$}", "", "{dashboard}", dashboard, "{project}", projectID, "{uuid}", "0192b1c0-7e1a-7c3e-9a51-0123456789ab", "{id}", "t-"+projectID,
		"{key}", key, "{provider}", "openai", "{user}", s.admin.ID, "{session}", "s_none").Replace(path)
	return method, path
}

// TestForeignForms sends every form from another site, and with everything but
// the right token. None may change anything.
func TestForeignForms(t *testing.T) {
	s := newSite(t)
	other := s.as(s.person("bob@example.com", project.RoleAdmin))
	s.client = other
	others := s.token()
	s.client = s.as(s.admin)
	s.token() // signed in
	before := s.revision()
	n := 0
	for _, rt := range s.web.Table() {
		method, path := fill(rt.Pattern, "default", s)
		if method != "POST" {
			continue
		}
		n++
		form := url.Values{"name": {"x"}, "role": {"admin"}, "email": {"y@example.com"}, "confirm": {"default"}, "password": {"new password"}, "repeat": {"new password"}, "content_days": {"1"}, "metrics_days": {"1"}, "provider": {"openai"}, "key": {"sk-x"}}
		for _, header := range [][]string{
			{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}, {"Origin", "null"},
		} {
			if resp, body := s.post(path, form, header...); resp.StatusCode != 403 || !strings.Contains(body, "another site") {
				t.Errorf("%s with %v: %d", rt.Pattern, header, resp.StatusCode)
			}
		}
		if rt.Open {
			continue // needs no session
		}
		for _, token := range []string{"", "x", others} {
			form.Set("csrf", token)
			if resp, _ := s.post(path, form, "Sec-Fetch-Site", "same-origin"); resp.StatusCode != 403 {
				t.Errorf("%s with the token %q: %d", rt.Pattern, token, resp.StatusCode)
			}
		}
		// In the URL a token does not count: URLs get around.
		form.Del("csrf")
		if resp, _ := s.post(path+"?csrf="+s.token(), form); resp.StatusCode != 403 {
			t.Errorf("%s with its token in the URL: %d", rt.Pattern, resp.StatusCode)
		}
	}
	if n < 15 {
		t.Errorf("only %d forms", n)
	}
	if s.revision() != before {
		t.Error("one of them changed something")
	}
	// A GET changes nothing, ever.
	for _, rt := range s.web.Table() {
		if method, path := fill(rt.Pattern, "default", s); method == "GET" {
			s.get(path)
		}
	}
	if s.revision() != before {
		t.Error("looking at a page changed something")
	}
}

// TestRoles requests every route as every kind of user: not signed in, those
// whose role does not suffice, and those who are not of the project, for whom
// nothing of it may shine through.
func TestRoles(t *testing.T) {
	s := newSite(t, sample("default"))
	b, err := s.Registry.CreateProject(t.Context(), "Secret garden")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Registry.CreateAPIKey(t.Context(), b.ID, "gardener", project.RoleAdmin); err != nil {
		t.Fatal(err)
	}
	if err := s.Registry.SetProviderKey(t.Context(), b.ID, "openai", "sk-garden-1234"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Registry.CreateDashboard(t.Context(), project.Dashboard{ProjectID: b.ID, Name: "Secret garden", Charts: []project.Chart{{Title: "gardener", Query: "m=calls"}}}); err != nil {
		t.Fatal(err)
	}
	people := map[string]project.User{
		"viewer": s.person("viewer@example.com", project.RoleViewer, "default"), "member": s.person("member@example.com", project.RoleMember, "default"),
		"nobody": s.person("nobody@example.com", project.RoleMember), "admin": s.admin,
	}
	browsers := map[string]*http.Client{"stranger": s.browser()}
	tokens := map[string]string{}
	for name, u := range people {
		browsers[name] = s.as(u)
		s.client = browsers[name]
		tokens[name] = s.token()
	}
	for _, rt := range s.web.Table() {
		if rt.Open {
			continue
		}
		for name, client := range browsers {
			client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			s.client = client
			for _, id := range []string{"default", b.ID} {
				method, path := fill(rt.Pattern, id, s)
				ofProject := strings.Contains(rt.Pattern, "{project}")
				if !ofProject && id == b.ID && !strings.Contains(rt.Pattern, "traces") {
					continue
				}
				before := s.revision()
				var resp *http.Response
				var body string
				if method == "POST" {
					if name == "admin" {
						continue // would be carried out; TestForeignForms and the pages' own tests do that
					}
					resp, body = s.post(path, url.Values{"csrf": {tokens[name]}, "confirm": {b.Name}, "name": {"x"}, "role": {"admin"}, "key": {"sk-y"}, "provider": {"openai"}})
				} else {
					resp, body = s.get(path)
				}
				sees := name == "admin" || id == "default" && name != "nobody"
				want := 0 // whatever the page itself says
				switch {
				case name == "stranger":
					want = 303
				case ofProject && !sees:
					want = 404
				case !people[name].Role.Can(rt.Need):
					want = 403
				}
				switch at := fmt.Sprintf("%s %s %s", name, method, path); {
				case want != 0 && resp.StatusCode != want:
					t.Errorf("%s: %d, want %d", at, resp.StatusCode, want)
				case want == 303 && !strings.HasPrefix(resp.Header.Get("Location"), "/sign-in"):
					t.Errorf("%s leads to %s", at, resp.Header.Get("Location"))
				case want == 0 && (resp.StatusCode == 403 || resp.StatusCode == 500):
					t.Errorf("%s: %d though the role suffices", at, resp.StatusCode)
				case want != 0 && s.revision() != before:
					t.Errorf("%s changed something", at)
				}
				if name != "admin" {
					for _, secret := range []string{"Secret garden", b.Token, "gardener", "sk-garden", "1234", "t-" + b.ID} {
						if secret == "1234" && (strings.HasSuffix(path, "/download") || strings.HasSuffix(path, ".csv")) {
							continue // the tokens of the project's own calls, written plainly
						}
						if strings.Contains(body, secret) && !strings.Contains(path, secret) {
							t.Errorf("%s %s shows %q", name, path, secret)
						}
					}
				}
			}
		}
	}
	if len(s.Registry.Snapshot().ProviderKeys(b.ID)) != 1 || len(s.Registry.Snapshot().APIKeys(b.ID)) != 1 {
		t.Error("a key is gone")
	}
	// The other project's id of a thing, under one's own project's path.
	s.client = browsers["admin"]
	key := s.Registry.Snapshot().APIKeys(b.ID)[0].ID
	if resp, _ := s.post("/p/default/keys/"+key+"/revoke", url.Values{"csrf": {tokens["admin"]}}); resp.StatusCode != 404 {
		t.Errorf("a key of another project is revoked under the wrong one: %d", resp.StatusCode)
	}
	s.client = browsers["viewer"]
	_, page := s.get("/p/default/overview")
	for _, hidden := range []string{"/users", "/audit", "/keys", "/settings"} {
		if strings.Contains(page, hidden+`"`) {
			t.Errorf("a viewer's side bar leads to %s", hidden)
		}
	}
}

// TestSessions lists where a user is signed in, and ends one or all of these.
func TestSessions(t *testing.T) {
	s := newSite(t)
	bob := s.person("bob@example.com", project.RoleViewer, "default")
	one, two, foreign := s.as(bob), s.as(bob), s.as(s.admin)
	s.client = foreign
	_, body := s.get("/account")
	mine := regexp.MustCompile(`/account/sessions/(s_\w+)/revoke`)
	if mine.MatchString(body) {
		t.Error("the administrator's page lists another's session, or offers to end this one")
	}
	s.client = one
	_, body = s.get("/account")
	m := mine.FindStringSubmatch(body)
	if m == nil || !strings.Contains(body, "this browser") || !strings.Contains(body, "Firefox on Linux") {
		t.Fatalf("the account page lists no other session:\n%s", body)
	}
	s.client = foreign
	if resp, _ := s.send("/account/sessions/"+m[1]+"/revoke", nil); resp.StatusCode != 404 {
		t.Errorf("somebody else's session can be ended: %d", resp.StatusCode)
	}
	s.client = one
	s.send("/account/sessions/"+m[1]+"/revoke", nil)
	s.client = two
	if resp, _ := s.get("/account"); resp.Request.URL.Path != "/sign-in" {
		t.Error("the session that was ended lives on")
	}
	two, s.client = s.as(bob), one
	if resp, _ := s.send("/account/sign-out-everywhere", nil); resp.Request.URL.Path != "/sign-in" {
		t.Errorf("signing out everywhere leads to %s", resp.Request.URL)
	}
	for _, c := range []*http.Client{one, two} {
		s.client = c
		if resp, _ := s.get("/account"); resp.Request.URL.Path != "/sign-in" {
			t.Error("signed in after signing out everywhere")
		}
	}
	s.client = foreign
	if resp, _ := s.get("/account"); resp.StatusCode != 200 || resp.Request.URL.Path != "/account" {
		t.Error("the administrator was signed out too")
	}
}

func TestChangePassword(t *testing.T) {
	s := newSite(t)
	bob := s.person("bob@example.com", project.RoleViewer, "default")
	s.client = s.as(bob)
	elsewhere := s.as(bob)
	form := func(old string) url.Values {
		return url.Values{"old": {old}, "password": {"a new long one"}, "repeat": {"a new long one"}}
	}
	if resp, body := s.send("/account/password", form("wrong")); resp.StatusCode != 400 || !strings.Contains(body, "current password is wrong") {
		t.Errorf("a wrong old password: %d", resp.StatusCode)
	}
	if resp, body := s.send("/account/password", form(password)); resp.StatusCode != 200 || !strings.Contains(body, "Password changed") {
		t.Errorf("the right old password: %d\n%s", resp.StatusCode, body)
	}
	s.client = elsewhere
	if resp, _ := s.get("/account"); resp.Request.URL.Path != "/sign-in" {
		t.Error("another browser stays signed in with a new password")
	}
	// A user who forgot it signs in by a link, for half an hour.
	link, _, err := s.Registry.CreateLink(t.Context(), bob.ID)
	if err != nil {
		t.Fatal(err)
	}
	s.client = s.browser()
	if resp, body := s.post("/sign-in/link", url.Values{"token": {link}}); resp.Request.URL.Path != "/account" || strings.Contains(body, `name="old"`) {
		t.Errorf("the link leads to %s", resp.Request.URL)
	}
	s.clock.set(s.clock.now().Add(31 * time.Minute))
	if resp, _ := s.send("/account/password", form("")); resp.StatusCode != 400 {
		t.Errorf("half an hour later the link still stands for the password: %d", resp.StatusCode)
	}
	s.clock.set(s.clock.now().Add(-30 * time.Minute))
	if resp, _ := s.send("/account/password", form("")); resp.StatusCode != 200 {
		t.Errorf("by a link: %d", resp.StatusCode)
	}
	// Guessing the old password is bounded like signing in.
	s.client = s.as(bob)
	for range 10 {
		s.send("/account/password", form("guess"))
	}
	if resp, _ := s.send("/account/password", form("a new long one")); resp.StatusCode != 429 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("after ten guesses: %d", resp.StatusCode)
	}
}
