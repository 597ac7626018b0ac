package web_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/store"
)

// story is a week of two prompt versions, the second of which is worse, by two
// users; one of them lives in conversations.
func story() []*event.Event {
	var out []*event.Event
	for day := range 6 {
		for i := range 4 {
			at := now.AddDate(0, 0, -day).Add(-time.Duration(i)*time.Hour - 10*time.Minute)
			version, model := "1", "gpt-4.1"
			if day < 2 {
				version, model = "2", "gpt-4.1-mini"
			}
			user := []string{"ada", "bob"}[i%2]
			e := sample("default")
			e.Timestamp, e.DistinctID, e.TraceID, e.SessionID = at, user, fmt.Sprintf("trace-%d-%d", day, i), fmt.Sprintf("session-%s", user)
			e.PromptName, e.PromptVersion, e.ModelAsked, e.Model, e.Environment, e.RequestURL, e.Operation = "answer", version, model, model+"-2025-04-14", "production", "https://api.openai.com/v1/chat/completions", "chat"
			e.Cost.Input, e.Cost.Output = event.Some(decimal.RequireFromString("0.0003")), event.Some(decimal.RequireFromString("0.0001375"))
			e.Cost.ModelUsed, e.Cost.Provider = model, "openai"
			e.TimeToFirstToken = event.Some(300 * time.Millisecond)
			e.Content.Input = json.RawMessage(`[{"role":"user","content":"It's question ` + strconv.Itoa(day) + `"}]`)
			e.Properties = map[string]json.RawMessage{"plan": json.RawMessage(`"pro"`)}
			tool := &event.Event{UUID: event.NewID(), ProjectID: "default", Name: event.Span, Operation: "execute_tool", SpanName: "lookup", SpanID: "t", ParentID: "s", TraceID: e.TraceID, SessionID: e.SessionID,
				Timestamp: at.Add(time.Second), DistinctID: user, Latency: event.Some(100 * time.Millisecond)}
			done := &event.Event{UUID: event.NewID(), ProjectID: "default", Name: "llm_task_completed", TraceID: e.TraceID, Timestamp: at.Add(time.Minute), DistinctID: user, Properties: map[string]json.RawMessage{"task_completed": json.RawMessage("true")}}
			if version == "2" && i%2 == 0 {
				e.IsError, e.Status, e.ErrorType, e.ErrorMessage = true, event.StatusValidationFailed, "validation_error", fmt.Sprintf("citation %d is missing (req_%012d)", i, day)
				e.Content.Output, e.Model = nil, ""
				done.Properties["task_completed"] = json.RawMessage("false")
			}
			out = append(out, e, tool, done)
		}
	}
	return out
}

// TestBoards looks for figures that a count by hand gives: 24 calls, 4 of them
// failed, all of those of version 2, whose 8 tasks were completed 4 times.
func TestBoards(t *testing.T) {
	events := story()
	s := newSite(t, append(events, sample("other"))...)
	s.client = s.as(s.person("reader@example.com", project.RoleViewer, "default"))
	failed := events[0]
	for path, want := range map[string][]string{
		"/traffic?range=7d":                                         {"24</a>", "16.7 %", `data-value="50"`, "answer@2", "validation_error", "measure=error_rate", "group=answer%402"},
		"/traffic?range=7d&prompt_version=1":                        {"16</a>", "0.0 %", "Remove filter Prompt version"},
		"/traffic?range=7d&prop.plan=free":                          {"No data in this time range", "plan", "free"},
		"/traffic?range=24h":                                        {"Last 24 hours", "4</a>"},
		"/traffic?range=7d&tz=Pacific/Auckland":                     {"Pacific/Auckland", "24</a>"},
		"/traffic?from=2026-11-20&to=2026-11-21":                    {"4</a>", "2026-11-20 00:00:00 to 2026-11-21 00:00:00"},
		"/latency-cost?range=7d":                                    {"$0.01", "1.84 s", "Cost per completed task", "$0.00053"},
		"/quality?range=7d":                                         {"83.3 %", `data-value="50"`, "answer@2", "measure=completion_rate"},
		"/agents?range=7d":                                          {"lookup", "24</a>", "Calls per trace"},
		"/models?range=7d":                                          {"gpt-4.1-mini", "50.0 %", "$0.00044"},
		"/traces?range=7d&sort=errors":                              {"trace-0-0", "1.84 s", "ada", `aria-sort="descending"`},
		"/traces?range=7d&user=bob":                                 {"trace-0-1"},
		"/sessions?range=7d":                                        {"session-ada", "session-bob", "12"},
		"/people?range=7d":                                          {"ada", "bob"},
		"/people/ada?range=7d":                                      {"12</a>", "$0.0053", "answer@1", "Most expensive traces"},
		"/errors?range=7d":                                          {"citation # is missing (*)", "validation_error", "error_group=citation"},
		"/events?kind=errors&error_type=validation_error&sort=cost": {"validation_failed: validation_error"},
		"/events?kind=outcomes&prompt_version=2":                    {"task not completed", "llm_task_completed"},
		"/events?kind=calls&col=model&col=session":                  {"session-ada", "Apply"},
		"/events/" + failed.UUID:                                    {"citation 0 is missing", "Priced with hedgerow’s price table as openai gpt-4.1-mini", "Today: openai gpt-4.1-mini costs $0.4", "time to first token 300 ms, generation 1.54 s", "&#34;prompt_version&#34;: &#34;2&#34;", "authorization: Bearer $OPENAI_API_KEY", `It&#39;\&#39;&#39;s question 0`},
		"/traces/trace-0-0?span=" + failed.UUID:                     {"lookup", "task not completed", "Selected step", "question 0", `class="bar bad"`},
		"/sessions/session-ada":                                     {"question 5", "question 0", "Two metres."},
	} {
		resp, body := s.get("/p/default" + path)
		if resp.StatusCode != 200 {
			t.Errorf("%s: status %d", path, resp.StatusCode)
		}
		for _, w := range want {
			if !strings.Contains(body, w) {
				t.Errorf("%s lacks %q", path, w)
			}
		}
		if strings.Contains(body, "t-other") {
			t.Errorf("%s shows another project's trace", path)
		}
	}
	for path, status := range map[string]int{
		"/traffic?range=9y": 400, "/traffic?tz=Mars": 400, "/traffic?from=yesterday": 400, "/traffic?from=2026-11-20&to=2026-11-19": 400, "/traffic?to=2026-11-19": 400,
		"/traces?sort=name": 400, "/traces?cursor=x": 400, "/events?sort=name": 400, "/events?kind=x": 400, "/sessions/none": 404, "/traces/none/download": 404, "/choices?field=x": 400,
		"/people/nobody": 200, "/choices?field=model": 200,
	} {
		if resp, _ := s.get("/p/default" + path); resp.StatusCode != status {
			t.Errorf("%s: status %d, want %d", path, resp.StatusCode, status)
		}
	}
	if _, body := s.get("/p/default/errors?range=7d&live=1"); !strings.Contains(body, `hx-get="/p/default/errors?live=1&amp;range=7d"`) {
		t.Error("the errors do not follow")
	}
	if _, body := s.get("/p/default/traffic?range=7d&live=1"); !strings.Contains(body, `data-live="/p/default/analytics/live"`) || !strings.Contains(body, `hx-get="/p/default/traffic?live=1&amp;range=7d"`) {
		t.Error("the live page does not follow")
	}
	resp, body := s.get("/p/default/traces/trace-0-0/download")
	var file struct {
		Roots []json.RawMessage `json:"roots"`
	}
	if err := json.Unmarshal([]byte(body), &file); err != nil || len(file.Roots) == 0 || !strings.Contains(resp.Header.Get("Content-Disposition"), `filename="trace-trace-0-0.json"`) || strings.Contains(body, "question") {
		t.Errorf("download: %v, %v", err, resp.Header)
	}
}

// TestFrames asks for pages as a browser that runs scripts does: the frame first,
// as high as the page, which then asks for the figures.
func TestFrames(t *testing.T) {
	s := newSite(t, story()...)
	s.client = s.as(s.admin)
	d, err := s.Registry.CreateDashboard(t.Context(), project.Dashboard{ProjectID: "default", Name: "Own", Charts: []project.Chart{{Title: "All", Query: "m=calls"}, {Title: "Bad", Query: "m=beauty"}}})
	if err != nil {
		t.Fatal(err)
	}
	base, _ := url.Parse(s.server.URL)
	s.client.Jar.SetCookies(base, []*http.Cookie{{Name: "hedgerow_zone", Value: "Europe%2FParis", Path: "/"}})
	if _, body := s.get("/p/default/overview"); !strings.Contains(body, "<script") {
		t.Skip("the scripts are not bundled: make assets")
	}
	for path, want := range map[string][]string{
		"/overview":            {"By model, last 7 days", "Latest events", "Delivery to PostHog", "time zone Europe/Paris"},
		"/models?range=7d":     {"Latency by model", "Cost per call"},
		"/people/ada?range=7d": {"Most expensive traces", "Cost by model"},
		"/dashboards/" + d.ID:  {"All", "Unknown metric: beauty"},
		"/agents?range=7d":     {"Trace depth"},
		"/traffic?range=7d":    {"Calls by model"},
	} {
		_, frame := s.get("/p/default" + path)
		for _, w := range append(want, "data-pending", `aria-hidden="true"></div>`, `hx-trigger="load"`, `hx-get="/p/default`+strings.Split(path, "?")[0]) {
			if !strings.Contains(frame, w) {
				t.Errorf("the frame of %s lacks %q", path, w)
			}
		}
		if strings.Contains(frame, "gpt-4.1") {
			t.Errorf("the frame of %s waits for figures", path)
		}
		r, err := http.NewRequestWithContext(t.Context(), "GET", s.server.URL+"/p/default"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("HX-Request", "true")
		if _, body := s.do(r); strings.Contains(body, "data-pending") || !strings.Contains(body, `id="board"`) {
			t.Errorf("%s gives htmx no figures", path)
		}
	}
	// The side bar shows where one is, also on a page below another path.
	if _, body := s.get("/p/default/new-prompt"); !strings.Contains(body, `<a href="/p/default/prompts" aria-current="page">`) {
		t.Error("the side bar does not show where a new prompt is made")
	}
}

var cellLink = regexp.MustCompile(`<a href="(/p/default/events\?[^"]+)"`)

// TestChartLinks follows links of charts and finds as many events behind them as
// the chart counted.
func TestChartLinks(t *testing.T) {
	s := newSite(t, story()...)
	s.client = s.as(s.admin)
	_, body := s.get("/p/default/quality?range=7d&tz=UTC")
	_, table, ok := strings.Cut(body, `id="t-completion"`)
	if !ok {
		t.Fatal("no chart of completion")
	}
	table, _, _ = strings.Cut(table, "</table>")
	found := 0
	for _, m := range cellLink.FindAllStringSubmatch(table, -1) {
		to := strings.ReplaceAll(m[1], "&amp;", "&")
		u, err := url.Parse(to)
		if err != nil {
			t.Fatal(err)
		}
		group := u.Query().Has("group")
		want := map[string]int{"answer@1": 16, "answer@2": 8}[u.Query().Get("group")]
		if !group {
			found++
		}
		_, page := s.get(to)
		n := strings.Count(page, `<td class="t">`)
		if !group && n != 4 && n != 0 || group && n != want {
			t.Errorf("%s leads to %d events, want %d", to, n, want)
		}
	}
	if found != 7 {
		t.Errorf("%d days have a link, want 7", found)
	}
}

// TestContentIsAudited reads prompts and looks for it in the audit log, once an
// hour and reader.
func TestContentIsAudited(t *testing.T) {
	events := story()
	s := newSite(t, events...)
	reader := s.person("reader@example.com", project.RoleMember, "default")
	s.client = s.as(reader)
	opened := func() (targets []string) {
		for _, e := range s.Registry.AuditLog("default", 0) {
			if e.Action == "content.open" {
				if e.Actor != reader.ID {
					t.Errorf("actor %q", e.Actor)
				}
				targets = append(targets, e.Target)
			}
		}
		return targets
	}
	for _, path := range []string{"/events", "/traces", "/traces/trace-0-1", "/sessions", "/people/ada", "/errors", "/traces/trace-0-1/download"} {
		s.get("/p/default" + path)
	}
	if got := opened(); len(got) != 0 {
		t.Errorf("lists open content: %q", got)
	}
	page := "/p/default/events/" + events[3].UUID
	s.get(page)
	s.get(page)
	s.get("/p/default/traces/trace-0-1?span=" + events[3].UUID)
	s.get("/p/default/events/" + events[1].UUID) // has no content
	s.get("/p/default/sessions/session-bob")
	if got := fmt.Sprint(opened()); got != "[session session-bob event "+events[3].UUID+"]" {
		t.Errorf("opened %s", got)
	}
	s.clock.set(now.Add(2 * time.Hour))
	s.get(page)
	if got := opened(); len(got) != 3 {
		t.Errorf("opened again after two hours: %q", got)
	}
}

// TestContentPastRetention removes prompts and answers as time does: the pages
// say so, and keep the figures.
func TestContentPastRetention(t *testing.T) {
	events := story()
	s := newSite(t, events...)
	s.client = s.as(s.admin)
	of := events[3]
	if _, err := s.Store.Retain(t.Context(), func(string) store.Retention { return store.Retention{Content: time.Nanosecond} }); err != nil {
		t.Fatal(err)
	}
	for _, page := range []string{"/events/" + of.UUID, "/traces/" + of.TraceID + "?span=" + of.UUID, "/sessions/" + of.SessionID} {
		body := s.shows("/p/default"+page, "passed the project’s retention and was deleted", "1.84 s")
		if strings.Contains(body, "Two metres.") {
			t.Errorf("%s shows what was removed", page)
		}
	}
	for _, e := range s.Registry.AuditLog("default", 0) {
		if e.Action == "content.open" {
			t.Errorf("opened what is not there: %+v", e)
		}
	}
	s.shows("/p/default/events?kind=calls", `href="/p/default/generations" aria-current="page"`, "<h1>Generations</h1>")
	s.shows("/p/default/generations", "<h1>Generations</h1>")
}

// TestWhoReads shows prompts and answers to the roles that the project's
// settings name, and to no one else; what is not content stays.
func TestWhoReads(t *testing.T) {
	events := story()
	s := newSite(t, events...)
	viewer, member := s.as(s.person("viewer@example.com", project.RoleViewer, "default")), s.as(s.person("member@example.com", project.RoleMember, "default"))
	s.client = s.as(s.admin)
	if resp, body := s.send("/p/default/settings", url.Values{"name": {"default"}, "keep_content": {"on"}, "content_role": {"member"}, "content_days": {"30"}, "metrics_days": {"0"}}); resp.StatusCode != 200 || !strings.Contains(body, `<option value="member" selected>`) {
		t.Fatalf("the settings: %d", resp.StatusCode)
	}
	if log := s.Registry.AuditLog("default", 1); len(log) != 1 || !strings.Contains(log[0].Detail, "content_role: viewer → member") {
		t.Errorf("the audit log has %+v", log)
	}
	of := events[3]
	pages := []string{"/events/" + of.UUID, "/traces/" + of.TraceID + "?span=" + of.UUID, "/sessions/" + of.SessionID}
	for _, page := range pages {
		s.client = viewer
		if _, body := s.get("/p/default" + page); strings.Contains(body, "question 0") || strings.Contains(body, "Two metres.") || !strings.Contains(body, "cannot read this project’s prompts and responses") || !strings.Contains(body, "1.84 s") {
			t.Errorf("%s shows a viewer content, or does not say why there is none", page)
		}
		s.client = member
		s.shows("/p/default"+page, "question 0", "Two metres.")
	}
	s.client = viewer
	if resp, body := s.get("/p/default/events?said=question"); resp.StatusCode != 403 || !strings.Contains(body, "may not read") {
		t.Errorf("a viewer searches prompts: %d", resp.StatusCode)
	}
	if _, body := s.get("/p/default/events"); strings.Contains(body, "words in the content") {
		t.Error("a viewer is offered a search of prompts")
	}
	for _, e := range s.Registry.AuditLog("default", 0) {
		if e.Action == "content.open" && e.Actor == "viewer@example.com" {
			t.Errorf("the audit log has %+v", e)
		}
	}
}

// TestZone opens the pages as a browser far from UTC: every time on them is the
// reader's, and says so.
func TestZone(t *testing.T) {
	events := story()
	s := newSite(t, events...)
	s.client = s.as(s.admin)
	base, _ := url.Parse(s.server.URL)
	s.client.Jar.SetCookies(base, []*http.Cookie{{Name: "hedgerow_zone", Value: "Asia%2FKolkata", Path: "/"}})
	zone, err := time.LoadLocation("Asia/Kolkata")
	if err != nil {
		t.Fatal(err)
	}
	of := events[0]
	at := func(d time.Duration) string { return of.Timestamp.Add(d).In(zone).Format("2006-01-02 15:04:05") }
	for path, want := range map[string]string{
		"/p/default/overview": at(0), "/p/default/events": at(0), "/p/default/events/" + of.UUID: at(0), "/p/default/traces": at(0), "/p/default/traces/" + of.TraceID: at(0),
		"/p/default/sessions": at(time.Second), "/p/default/sessions/" + of.SessionID: at(0), "/p/default/people": at(time.Minute), "/p/default/errors": at(0),
		"/p/default/keys": "Created (Asia/Kolkata)", "/projects": "Created (Asia/Kolkata)", "/audit": "Time (Asia/Kolkata)", "/account": "Expires (Asia/Kolkata)", "/users/" + s.admin.ID: "Asia/Kolkata",
	} {
		r, err := http.NewRequestWithContext(t.Context(), "GET", s.server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("HX-Request", "true")
		_, body := s.do(r)
		if text := words(body); !strings.Contains(text, want) || strings.Contains(text, "UTC") || strings.Contains(text, of.Timestamp.Format("2006-01-02 15:04:05")) {
			t.Errorf("%s lacks %q, or has a time of UTC", path, want)
		}
	}
}
