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
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/query"
	"github.com/hedgerow/hedgerow/internal/store"
	"github.com/hedgerow/hedgerow/internal/web"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// users is a sign-in with one link and one session at a time.
type users struct{ link, session string }

func (u *users) Redeem(_ context.Context, link string) (string, time.Time, error) {
	if link == "" || link != u.link {
		return "", time.Time{}, event.NewError(event.CodeUnauthorized, "this link is not valid", "ask for a new one", nil)
	}
	u.link, u.session = "", "session-token"
	return u.session, time.Now().Add(time.Hour), nil
}

func (u *users) Session(token string) (web.Session, bool) {
	return web.Session{UserName: "Ada", ProjectID: "default", Project: "default"}, token != "" && token == u.session
}

func (u *users) SignOut(context.Context, string) error { u.session = ""; return nil }

type site struct {
	t      *testing.T
	users  *users
	server *httptest.Server
	client *http.Client
}

func newSite(t *testing.T, events ...*event.Event) *site {
	t.Helper()
	db, err := store.OpenDuckDB(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "e.duckdb")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if len(events) > 0 {
		if _, err := db.Write(t.Context(), events); err != nil {
			t.Fatal(err)
		}
	}
	q, err := query.New(db, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, users: &users{link: "one-time"}}
	h := web.New(web.Config{Query: q, SignIn: s.users, Simulated: true, Dropped: func() uint64 { return 3 }, Now: func() time.Time { return now },
		Connections: func(string) []web.Connection {
			return []web.Connection{{Name: "production", Host: "https://eu.i.posthog.com", State: "refused", LastError: "PostHog refuses the key"}}
		}})
	s.server = httptest.NewServer(h)
	t.Cleanup(s.server.Close)
	jar, _ := cookiejar.New(nil)
	s.client = &http.Client{Jar: jar}
	return s
}

func (s *site) get(path string) (*http.Response, string) {
	s.t.Helper()
	resp, err := s.client.Get(s.server.URL + path)
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

func (s *site) signIn() {
	s.t.Helper()
	resp, err := s.client.PostForm(s.server.URL+"/sign-in", url.Values{"token": {"one-time"}})
	if err != nil {
		s.t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.Request.URL.Path != "/overview" {
		s.t.Fatalf("signed in to %s with %d", resp.Request.URL, resp.StatusCode)
	}
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

// TestSignIn needs a click on a link that works once; until then nothing shows.
func TestSignIn(t *testing.T) {
	e := sample("default")
	s := newSite(t, e)
	for _, path := range []string{"/", "/overview", "/events", "/events/" + e.UUID, "/traces/t-default"} {
		if resp, body := s.get(path); resp.Request.URL.Path != "/sign-in" || strings.Contains(body, "Two metres") {
			t.Errorf("%s shows %s to a stranger", path, resp.Request.URL.Path)
		}
	}
	s.get("/sign-in?token=one-time") // a chat program that looks ahead
	if s.users.link == "" {
		t.Fatal("looking at the link used it up")
	}
	resp, err := s.client.PostForm(s.server.URL+"/sign-in", url.Values{"token": {"wrong"}})
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized || len(resp.Cookies()) != 0 {
		t.Errorf("a wrong link: %d, cookies %v", resp.StatusCode, resp.Cookies())
	}
	s.signIn()
	u, _ := url.Parse(s.server.URL)
	if c := s.client.Jar.Cookies(u); len(c) != 1 {
		t.Errorf("cookies %v", c)
	}
	if resp, err = s.client.PostForm(s.server.URL+"/sign-out", nil); err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp, _ := s.get("/overview"); resp.Request.URL.Path != "/sign-in" {
		t.Error("still signed in after signing out")
	}
}

func TestPages(t *testing.T) {
	mine, other := sample("default"), sample("other")
	s := newSite(t, mine, other)
	s.signIn()
	for _, c := range []struct {
		path   string
		status int
		want   []string
		not    []string
	}{
		{"/overview", 200, []string{"1,234 tok", "$0.00044", "1.84 s", "&lt;1 ms", "Compose", "Simulated data", "3 calls passed through", "PostHog refuses the key"}, []string{"t-other"}},
		{"/events", 200, []string{"gpt-4.1-mini-2025-04-14", "ada"}, []string{other.UUID}},
		{"/events?model=nothing", 200, []string{"Nothing matches"}, []string{mine.UUID}},
		{"/events?cursor=zzz", 400, []string{"cursor"}, nil},
		{"/events/" + mine.UUID, 200, []string{"&lt;script&gt;alert(1)", "calls measure", "&#34;what&#34;: &#34;hedge&#34;", "Let me see.", "Two metres.", "No more.", "$0.0004375"}, []string{"<script>"}},
		{"/events/" + other.UUID, 404, []string{"Problem"}, []string{"Two metres"}},
		{"/traces/t-default", 200, []string{"gpt-4.1-mini"}, nil},
		{"/traces/t-other", 404, nil, []string{"Two metres"}},
		{"/nothing", 404, []string{"no such page"}, nil},
		{"/static/style.css", 200, []string{"prefers-color-scheme"}, nil},
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
	files, err := filepath.Glob("*.templ")
	if err != nil || len(files) == 0 {
		t.Fatal("no templates", err)
	}
	for _, f := range files {
		want, err := exec.CommandContext(t.Context(), "go", "tool", "templ", "generate", "-f", f, "-stdout").Output()
		if err != nil {
			t.Fatalf("generate %s: %v", f, err)
		}
		have, err := os.ReadFile(strings.TrimSuffix(f, ".templ") + "_templ.go")
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(bytes.TrimSpace(have), bytes.TrimSpace(want)) {
			t.Errorf("%s: run make generate", f)
		}
	}
}
