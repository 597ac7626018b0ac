package web_test

import (
	"bytes"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// TestReconcileHasPages: a bill of many models has pages, whose sums are of all.
func TestReconcileHasPages(t *testing.T) {
	s := newSite(t)
	s.client = s.as(s.admin)
	day := now.UTC().Truncate(24*time.Hour).AddDate(0, 0, -2).Format(time.DateOnly)
	var lines []string
	for i := range 250 {
		lines = append(lines, fmt.Sprintf(`{"date":%q,"model":"acme/m%03d","usage":%d,"requests":1,"prompt_tokens":1000,"completion_tokens":100}`, day, i, 1000-i))
	}
	if resp, body := s.upload("/p/default/reconcile/imports", "activity.json", `{"data":[`+strings.Join(lines, ",")+`]}`); resp.StatusCode != http.StatusOK {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	for _, tt := range []struct {
		page        string
		first, last string
		rows        int
		next        bool
	}{{"", "acme/m000", "acme/m099", 100, true}, {"2", "acme/m100", "acme/m199", 100, true}, {"3", "acme/m200", "acme/m249", 50, false}, {"4", "", "", 0, false}, {"-1", "acme/m000", "acme/m099", 100, true}, {"9223372036854775807", "", "", 0, false}, {"x", "acme/m000", "acme/m099", 100, true}} {
		_, body := s.get("/p/default/reconcile?provider=openrouter&from=" + day + "&until=" + day + "&page=" + tt.page)
		if n := strings.Count(body, "acme/m"); n != tt.rows || !strings.Contains(body, tt.first) || !strings.Contains(body, tt.last) || strings.Contains(body, `rel="next"`) != tt.next {
			t.Errorf("page %q has %d models, next %t", tt.page, n, strings.Contains(body, `rel="next"`))
		}
		if !strings.Contains(body, "250 models, by amount") || !strings.Contains(body, "$218875.00") {
			t.Errorf("page %q: the sum is not that of all models", tt.page)
		}
	}
}

// TestReconcilePage imports a bill, shows the comparison, leads from each of hedgerow's
// figures to exactly the calls that it counts, and erases the import.
func TestReconcilePage(t *testing.T) {
	day := now.UTC().Truncate(24*time.Hour).AddDate(0, 0, -2)
	call := func(model, usd string, at time.Duration) *event.Event {
		e := &event.Event{UUID: event.NewID(), ProjectID: project.DefaultID, Name: event.Generation, DistinctID: "u", Timestamp: day.Add(at), Provider: "openrouter", Model: model, Status: event.StatusSuccess}
		e.Usage = event.Usage{Input: event.Some[int64](1000), Output: event.Some[int64](100)}
		if usd != "" {
			e.Cost.Total = event.Some(decimal.RequireFromString(usd))
		}
		return e
	}
	s := newSite(t, call("openai/gpt-4o-mini", "0.21", 0), call("openai/gpt-4o-mini-2024-07-18", "0.21", time.Hour), call("acme/nine", "", 2*time.Hour), call("openai/gpt-4o-mini", "0.5", 30*time.Hour))
	admin, viewer := s.as(s.admin), s.as(s.person("v@example.com", project.RoleViewer, project.DefaultID))
	s.client = viewer
	if _, body := s.get("/p/default/reconcile"); !strings.Contains(body, "No OpenAI bill for these days") || strings.Contains(body, "Admin key") || strings.Contains(body, "multipart/form-data") {
		t.Errorf("a viewer sees %s", body)
	}
	send := func(name, content string) (*http.Response, string) {
		t.Helper()
		return s.upload("/p/default/reconcile/imports", name, content)
	}
	date := day.Format(time.DateOnly)
	bill := fmt.Sprintf(`{"data":[{"date":%q,"model":"openai/gpt-4o-mini","usage":1.26,"requests":6,"prompt_tokens":6000,"completion_tokens":600,"<b>new</b>":1},{"date":%q,"model":"acme/nine","usage":0.3,"requests":1,"prompt_tokens":1000,"completion_tokens":100}]}`, date, date)
	if resp, _ := send("activity.json", bill); resp.StatusCode != http.StatusForbidden {
		t.Errorf("a viewer imports: %d", resp.StatusCode)
	}
	s.client = admin
	if resp, body := send("bad.csv", "a,b\n1,2\n"); resp.StatusCode != 400 || !strings.Contains(body, "ad.csv: the columns match no known export") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	resp, body := send("activity.json", bill)
	if resp.StatusCode != http.StatusOK || !strings.Contains(body, "Not read: &lt;b&gt;new&lt;/b&gt;") || strings.Contains(body, "<b>new") {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	s.client = viewer
	_, body = s.get("/p/default/reconcile?provider=openrouter&from=" + date + "&until=" + date)
	for _, want := range []string{"$1.56", "at least $0.42", "+$1.14", "Calls outside the gateway", "+$0.84", "Unknown prices", "+$0.30", "1 call of unknown cost", "openai/gpt-4o-mini-2024-07-18"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	// figure → how many calls its list has
	links := regexp.MustCompile(`href="(/p/default/events\?[^"]*)">([^<]+)<`).FindAllStringSubmatch(body, -1)
	want := map[string]int{"$0.42": 2, "2": 2, "3": 3, "1": 1, "1 call of unknown cost": 1, "–": 0, "at least $0": 0, "at least $0.42": 2}
	if len(links) < 5 {
		t.Errorf("%d links in %s", len(links), body)
	}
	for _, l := range links {
		n, known := want[l[2]]
		_, list := s.get(strings.ReplaceAll(l[1], "&amp;", "&"))
		rows := make(map[string]bool)
		for _, m := range regexp.MustCompile(`/p/default/events/(0[0-9a-f-]{35})`).FindAllStringSubmatch(list, -1) {
			rows[m[1]] = true
		}
		if !known || len(rows) != n {
			t.Errorf("%q leads to %d calls, want %d: %s", l[2], len(rows), n, l[1])
		}
	}
	for _, q := range []string{"?provider=groq", "?from=x", "?from=2026-03-02&until=2026-03-01", "?from=2020-01-01&until=2026-01-01"} {
		if resp, body := s.get("/p/default/reconcile" + q); resp.StatusCode != 200 || !strings.Contains(body, `role="alert"`) {
			t.Errorf("%s: %d %s", q, resp.StatusCode, body)
		}
	}

	s.client = admin
	s.does("/p/default/reconcile/keys", 400, "sk-admin-", url.Values{"provider": {"openai"}, "key": {"sk-proj-1"}})
	s.sent("/p/default/reconcile/keys", url.Values{"provider": {"openai"}, "key": {"sk-admin-0123456789wxyz"}})
	if _, body := s.get("/p/default/reconcile"); !strings.Contains(body, "…wxyz") || strings.Contains(body, "0123456789") {
		t.Errorf("the kept key is shown as %s", body)
	}
	s.sent("/p/default/reconcile/keys/openai/delete", url.Values{})
	if list := s.Bills.Keys(project.DefaultID); len(list) != 0 {
		t.Errorf("%+v", list)
	}
	s.sent("/p/default/reconcile/imports/"+s.Bills.Imports(project.DefaultID)[0].ID+"/delete", url.Values{})
	if list := s.Bills.Imports(project.DefaultID); len(list) != 0 {
		t.Errorf("%+v", list)
	}
}

// upload posts a form with one file.
func (s *site) upload(path, name, content string) (*http.Response, string) {
	s.t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	_ = w.WriteField("csrf", s.token())
	file, err := w.CreateFormFile("file", name)
	if err != nil {
		s.t.Fatal(err)
	}
	_, _ = file.Write([]byte(content))
	_ = w.Close()
	req, err := http.NewRequestWithContext(s.t.Context(), "POST", s.server.URL+path, &b)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", w.FormDataContentType())
	return s.do(req)
}
