package web_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/health"
	"github.com/hedgerow/hedgerow/server/internal/join"
	"github.com/hedgerow/hedgerow/server/internal/join/jointest"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/web"
)

// TestLateMerges has a call whose second capture came after the first was sent: the
// pages of the server and of the delivery count it.
func TestLateMerges(t *testing.T) {
	call := sample("default")
	s := newSite(t, call)
	s.client = s.as(s.admin)
	s.send("/p/default/connections", connectionForm())
	for _, path := range []string{"/status", "/p/default/analytics"} {
		if _, body := s.get(path); strings.Contains(body, "Late merges") {
			t.Errorf("%s counts late merges where there are none", path)
		}
	}
	half := call.Clone()
	call.Source, call.CompletionID = event.SourceGateway, "chatcmpl-3af2caf059284c98a142c216"
	half.UUID, half.Source, half.CompletionID = event.NewID(), event.SourceIngest, call.CompletionID
	merges := jointest.Merges(t, now, join.JoinerConfig{}, half, call)
	if _, err := s.Store.Write(t.Context(), append(merges, half, call)); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"/status": "<h2>Late merges</h2><p>1 call in the last 7 days", "/p/default/analytics": "Late merges, last 7 days: 1.", "/p/default/analytics?part=now": "Late merges, last 7 days: 1."} {
		if _, body := s.get(path); !strings.Contains(body, want) {
			t.Errorf("%s lacks %q:\n%s", path, want, body)
		}
	}
}

// TestTroubles has unhealthy components: every page of a signed-in user reports
// them, the worst first, and the page Status lists all. Other visitors see
// nothing.
func TestTroubles(t *testing.T) {
	s := newSite(t)
	s.client = s.as(s.person("viewer@example.com", project.RoleViewer, "default"))
	get := func(path string) string {
		resp, body := s.do(request(t, s.server.URL+path))
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("GET %s: %d", path, resp.StatusCode)
		}
		return body
	}
	s.reports = []health.Report{{Component: "disk", Status: health.OK}, {Component: "journal", Status: health.Starting, Since: now.Add(-time.Second)}}
	if body := get("/projects"); strings.Contains(body, "with problems") {
		t.Error("a strip although all is well")
	}
	s.reports = []health.Report{
		{Component: "disk", Status: health.Degraded, Message: "the disk is <b>nearly</b> full", Hint: "free space", Since: now.Add(-time.Hour)},
		{Component: "journal", Status: health.Failed, Message: "the journal cannot be written", Hint: "free disk space there", Since: now.Add(-3 * time.Minute), Restarts: 4},
		{Component: "retention", Status: health.OK},
		{Component: "store", Status: health.Starting, Since: now.Add(-time.Minute)},
	}
	for _, path := range []string{"/projects", "/p/default/overview", "/account", "/status"} {
		body := get(path)
		for _, want := range []string{"The journal cannot be written. Free disk space there.", "The disk is &lt;b&gt;nearly&lt;/b&gt; full. Free space.", "3 components with problems", `href="/status"`} {
			if !strings.Contains(body, want) {
				t.Errorf("%s lacks %q", path, want)
			}
		}
		if j, d := strings.Index(body, "The journal cannot"), strings.Index(body, "The disk is"); j > d {
			t.Errorf("%s: the worst is not first", path)
		}
	}
	body := get("/status")
	for _, want := range []string{"<td>journal</td><td>failed</td><td>3 min ago</td><td class=\"num\">4</td>", "<td>retention</td><td>ok</td><td>never</td>"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q:\n%s", want, body)
		}
	}
	s.client = s.browser()
	if resp, body := s.do(request(t, s.server.URL+"/status")); strings.Contains(body, "journal cannot be written") {
		t.Errorf("a stranger gets %d %s", resp.StatusCode, body)
	}
}

func request(t *testing.T, url string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestUnavailable has pages asked for before they can be made.
func TestUnavailable(t *testing.T) {
	err := event.NewError(event.CodeUnavailable, "hedgerow has not opened its data yet: the disk is full", "free disk space", errors.New("cause"))
	w := httptest.NewRecorder()
	web.Unavailable(w, httptest.NewRequest("GET", "/p/default/overview", nil), err)
	if body := w.Body.String(); w.Code != http.StatusServiceUnavailable || !strings.Contains(body, "the disk is full") || !strings.Contains(body, "Free disk space") || strings.Contains(body, "cause") || w.Header().Get("Content-Security-Policy") == "" {
		t.Errorf("%d %v\n%s", w.Code, w.Header(), body)
	}
	w = httptest.NewRecorder()
	web.Unavailable(w, httptest.NewRequest("GET", "/static/style.css", nil), err)
	if w.Code != http.StatusOK || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/css") {
		t.Errorf("style sheet: %d %v", w.Code, w.Header())
	}
}
