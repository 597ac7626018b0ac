package web_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/health"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/servertest"
	"github.com/hedgerow/hedgerow/server/internal/web"
	"github.com/hedgerow/hedgerow/server/internal/web/charts"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

type site struct {
	t *testing.T
	*servertest.Server
	web    *web.Web
	admin  project.User
	server *httptest.Server
	client *http.Client // without cookies until signIn
	erased []string
	clock  *clock

	delivery *delivery
	reports  []health.Report
	fixed    bool // require_key is configured
}

// keyless is what server/internal/app makes of the settings.
func (s *site) keyless() project.Keyless {
	p, _ := s.Registry.Snapshot().FirstProject()
	return project.Keyless{Project: p.Name, Refused: s.Registry.Snapshot().Server().RequireKey, Fixed: s.fixed}
}

// clock is a time that tests set.
type clock struct{ at atomic.Pointer[time.Time] }

func (c *clock) now() time.Time { return *c.at.Load() }

func (c *clock) set(t time.Time) { c.at.Store(&t) }

func (s *site) Erase(_ context.Context, id string) error {
	s.erased = append(s.erased, id)
	return nil
}

const password = "correct horse battery"

// newSite serves the pages over a store with events and the first start's
// project and administrator, who has a password.
func newSite(t *testing.T, events ...*event.Event) *site {
	t.Helper()
	s := &site{t: t, clock: new(clock), delivery: &delivery{ok: true}}
	s.clock.set(now)
	s.Server = servertest.Open(t, servertest.Options{Now: s.clock.now, Caller: model{}, Events: events})
	s.admin = s.Registry.Snapshot().Users()[0]
	s.give(s.admin, "admin@example.com")
	s.Keyless = s.keyless
	s.StopRollout = func(context.Context, string, string, string, string) error { return nil }
	pages := web.Config{
		Services: s.Services, Eraser: s, Providers: func() []string { return []string{"anthropic", "openai"} }, PublicURL: "http://hedgerow.example",
		Simulated: true, Dropped: func() uint64 { return 3 }, Health: func() []health.Report { return s.reports }, Now: s.clock.now, Delivery: s.delivery,
		Price: func(provider, model string) string { return "Today: " + provider + " " + model + " costs $0.4" },
		Live:  func(string) (<-chan struct{}, func()) { return s.delivery.changes(), func() {} },
		Connections: func(string) []charts.Connection {
			return []charts.Connection{{Name: "production", Host: "https://eu.i.posthog.com", State: "refused", LastError: "PostHog refuses the key"}}
		},
	}
	s.web = web.New(pages)
	s.server = httptest.NewServer(s.web)
	t.Cleanup(s.server.Close)
	s.client = s.browser()
	return s
}

// give gives a user an address and the password.
func (s *site) give(u project.User, email string) {
	s.t.Helper()
	if _, err := s.Registry.UpdateUser(s.t.Context(), u.ID, func(u *project.User) error { u.Email = email; return nil }); err != nil {
		s.t.Fatal(err)
	}
	if err := s.Registry.SetPassword(s.t.Context(), u.ID, password); err != nil {
		s.t.Fatal(err)
	}
}

// person makes a user with a role in projects, who has the password.
func (s *site) person(email string, role project.Role, projects ...string) project.User {
	s.t.Helper()
	u, err := s.Registry.CreateUser(s.t.Context(), project.User{Email: email, Role: role, Projects: projects})
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.Registry.SetPassword(s.t.Context(), u.ID, password); err != nil {
		s.t.Fatal(err)
	}
	return u
}

func (s *site) browser() *http.Client {
	jar, _ := cookiejar.New(nil)
	return &http.Client{Jar: jar}
}

// as returns a browser in which a user is signed in, without the detour over a
// password, which costs argon2id's time.
func (s *site) as(u project.User) *http.Client {
	s.t.Helper()
	token, _, err := s.Registry.CreateSession(s.t.Context(), u.ID, "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0")
	if err != nil {
		s.t.Fatal(err)
	}
	c := s.browser()
	base, _ := url.Parse(s.server.URL)
	c.Jar.SetCookies(base, []*http.Cookie{{Name: "hedgerow_session", Value: token, Path: "/"}})
	return c
}

func (s *site) do(r *http.Request) (*http.Response, string) {
	s.t.Helper()
	resp, err := s.client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp, string(b)
}

func (s *site) get(path string) (*http.Response, string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), "GET", s.server.URL+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.do(r)
}

// post sends a form as it is, without the token that a page's form has.
func (s *site) post(path string, v url.Values, header ...string) (*http.Response, string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), "POST", s.server.URL+path, strings.NewReader(v.Encode()))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return s.do(r)
}

var csrfField = regexp.MustCompile(`name="csrf" value="([^"]+)"`)

// token is the form token of the browser's session, as its pages have it.
func (s *site) token() string {
	s.t.Helper()
	_, body := s.get("/account")
	m := csrfField.FindStringSubmatch(body)
	if m == nil {
		s.t.Fatalf("no form token on the account page:\n%s", body)
	}
	return m[1]
}

// shows gets a page that must have these words.
func (s *site) shows(path string, words ...string) string {
	s.t.Helper()
	resp, body := s.get(path)
	if resp.StatusCode != http.StatusOK {
		s.t.Errorf("%s: %d", path, resp.StatusCode)
	}
	for _, w := range words {
		if !strings.Contains(body, w) {
			s.t.Errorf("%s does not show %q", path, w)
		}
	}
	return body
}

// does sends a form whose answer must have a status and words.
func (s *site) does(path string, status int, words string, v url.Values) {
	s.t.Helper()
	if resp, body := s.send(path, v); resp.StatusCode != status || !strings.Contains(body, words) {
		s.t.Errorf("%s: %d, want %d with %q\n%s", path, resp.StatusCode, status, words, body)
	}
}

// send sends a form as a page does.
func (s *site) send(path string, v url.Values) (*http.Response, string) {
	s.t.Helper()
	if v == nil {
		v = url.Values{}
	}
	v.Set("csrf", s.token())
	return s.post(path, v)
}

func (s *site) session() string {
	base, _ := url.Parse(s.server.URL)
	for _, c := range s.client.Jar.Cookies(base) {
		if c.Name == "hedgerow_session" {
			return c.Value
		}
	}
	return ""
}

func sample(project string) *event.Event {
	return &event.Event{
		UUID: event.NewID(), ProjectID: project, Name: event.Generation, Timestamp: now.Add(-time.Minute), TraceID: "t-" + project, SpanID: "s", DistinctID: "ada",
		Provider: "openai", ModelAsked: "gpt-4.1-mini", Model: "gpt-4.1-mini-2025-04-14", Surface: "Compose", Status: event.StatusSuccess, HTTPStatus: 200,
		Usage:   event.Usage{Input: event.Some[int64](1200), Output: event.Some[int64](34), Total: event.Some[int64](1234)},
		Cost:    event.Cost{Total: event.Some(decimal.RequireFromString("0.0004375")), Source: event.CostTable},
		Latency: event.Some(1840 * time.Millisecond), TimeToFirstToken: event.Some(300 * time.Microsecond),
		Content: event.Content{
			Input:  json.RawMessage(`[{"role":"user","content":"<script>alert(1)</script>"},{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"measure","arguments":"{\"what\":\"hedge\"}"}}]},{"role":"tool","content":"2 m"}]`),
			Output: json.RawMessage(`[{"role":"assistant","content":[{"type":"thinking","thinking":"Let me see."},{"type":"text","text":"Two metres."},{"type":"refusal","refusal":"No more."}]}]`),
		},
	}
}

func TestPages(t *testing.T) {
	mine, other := sample("default"), sample("other")
	s := newSite(t, mine, other)
	s.client = s.as(s.admin)
	for _, c := range []struct {
		path   string
		status int
		want   []string
		not    []string
	}{
		{"/p/default/overview", 200, []string{"1,234 tok", "$0.00044", "1.84 s", "&lt;1 ms", "Compose", "Simulated data", "3 calls have gone unrecorded", "PostHog refuses the key"}, []string{"t-other"}},
		{"/p/default/events", 200, []string{"gpt-4.1-mini-2025-04-14", "ada"}, []string{other.UUID}},
		{"/p/default/events?model=nothing", 200, []string{"No matching events"}, []string{mine.UUID}},
		{"/p/default/events?cursor=zzz", 400, []string{"cursor"}, nil},
		{"/p/default/events/" + mine.UUID, 200, []string{"&lt;script&gt;alert(1)", "calls measure", "&#34;what&#34;: &#34;hedge&#34;", "Let me see.", "Two metres.", "No more.", "$0.0004375"}, []string{"<script>"}},
		{"/p/default/events/" + other.UUID, 404, []string{"Error · hedgerow"}, []string{"Two metres"}},
		{"/p/default/traces/t-default", 200, []string{"gpt-4.1-mini"}, nil},
		{"/p/default/traces/t-other", 404, nil, []string{"Two metres"}},
		{"/nothing", 404, []string{"Page not found"}, nil},
		{"/static/style.css", 200, []string{"color-scheme: light dark", "light-dark("}, nil},
	} {
		resp, body := s.get(c.path)
		if resp.StatusCode != c.status {
			t.Errorf("%s: status %d, want %d", c.path, resp.StatusCode, c.status)
		}
		for _, w := range c.want {
			if !strings.Contains(body, w) {
				t.Errorf("%s lacks %q:\n%s", c.path, w, body)
			}
		}
		for _, w := range c.not {
			if strings.Contains(body, w) {
				t.Errorf("%s has %q", c.path, w)
			}
		}
		if csp := resp.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: policy %q", c.path, csp)
		}
	}
}

// TestGenerated finds a page whose Go code is older than its template.
func TestGenerated(t *testing.T) {
	files, err := filepath.Glob("*/*.templ")
	if err != nil || len(files) == 0 {
		t.Fatal("no templates", err)
	}
	dir := t.TempDir()
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(f)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, f), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.CommandContext(t.Context(), "go", "tool", "templ", "generate", "-path", dir).CombinedOutput(); err != nil {
		t.Fatalf("generate: %v\n%s", err, out)
	}
	for _, f := range files {
		name := strings.TrimSuffix(f, ".templ") + "_templ.go"
		want, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		have, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(bytes.TrimSpace(have), bytes.TrimSpace(want)) {
			t.Errorf("%s: run make generate", f)
		}
	}
}

// TestCompression sends pages short, and streams as they come.
func TestCompression(t *testing.T) {
	s := newSite(t, sample("default"))
	s.client = s.as(s.admin)
	ask := func(path string) *http.Response {
		r, _ := http.NewRequestWithContext(t.Context(), "GET", s.server.URL+"/p/default"+path, nil)
		r.Header.Set("Accept-Encoding", "gzip")
		resp, err := s.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = resp.Body.Close() })
		return resp
	}
	if resp := ask("/traffic"); resp.Header.Get("Content-Encoding") != "gzip" || !strings.Contains(strings.Join(resp.Header.Values("Vary"), ","), "Accept-Encoding") {
		t.Errorf("a page comes with %v", resp.Header)
	}
	if resp := ask("/analytics/live"); resp.Header.Get("Content-Encoding") != "" {
		t.Errorf("a stream comes with %v", resp.Header)
	}
}
