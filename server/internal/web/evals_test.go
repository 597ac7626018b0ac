package web_test

import (
	"bytes"
	"context"
	"encoding/json"
	"mime/multipart"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/dataset"
	"github.com/hedgerow/hedgerow/server/internal/eval"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// model answers every question with the same words.
type model struct{}

func (model) Call(_ context.Context, r eval.Request) (*event.Event, error) {
	text := "<b>Hello</b> from " + r.Model
	if r.Surface == eval.SurfaceJudge {
		text = `{"explanation":"Fine.","score":0.25,"reason_code":"rude"}`
	}
	out, _ := json.Marshal([]map[string]string{{"role": "assistant", "content": text}})
	e := &event.Event{UUID: r.UUID, SpanID: r.UUID, TraceID: r.TraceID, Name: event.Generation, Timestamp: now, Latency: event.Some(time.Second), Model: r.Model, Content: event.Content{Output: out}}
	e.Cost.Total = event.Some(decimal.RequireFromString("0.002"))
	return e, nil
}

var location = regexp.MustCompile(`^/p/default/[a-z]+/[a-z]+_\w+`)

// sent posts a form that must be taken, and returns where it leads.
func (s *site) sent(path string, v url.Values) string {
	s.t.Helper()
	resp, body := s.send(path, v)
	if resp.StatusCode != http.StatusOK || resp.Request.Method != "GET" {
		s.t.Fatalf("POST %s: %d %s", path, resp.StatusCode, body)
	}
	return resp.Request.URL.Path
}

func TestCheckPages(t *testing.T) {
	of := sample(project.DefaultID)
	judged := eval.Result{Name: "tone", Passed: event.Some(false), Score: event.Some(0.25), ReasonCode: "rude"}.Event(of, of.Timestamp.Add(time.Second))
	s := newSite(t, of, judged)
	s.client = s.as(s.admin)
	_, body := s.get("/p/default/evals")
	if !strings.Contains(body, "No checks yet") || !strings.Contains(body, "External evaluations") || !strings.Contains(body, "rude") {
		t.Errorf("%s", body)
	}
	if !strings.Contains(body, `data-chart="t-passed"`) || !strings.Contains(body, `data-value="0">0.0 %`) {
		t.Error("a pass rate of zero is not drawn")
	}
	form := url.Values{"kind": {"forbidden_pattern"}, "name": {"no names"}, "patterns": {"(\r\nAlice"}, "sample": {"50"}, "enabled": {"1"}}
	if resp, body := s.send("/p/default/evals", form); resp.StatusCode != 400 || !strings.Contains(body, "pattern 1 is not a regular expression") && !strings.Contains(body, "Pattern 1 is not a regular expression") || !strings.Contains(body, "no names") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	form.Set("patterns", "Alice\r\n\r\nBob")
	at := s.sent("/p/default/evals", form)
	c := s.Checks.Checks(project.DefaultID)[0]
	if !location.MatchString(at) || c.Sample != 0.5 || len(c.Patterns) != 2 || !c.Enabled {
		t.Fatalf("%s %+v", at, c)
	}
	if resp, body := s.send(at+"/try", url.Values{"generation": {of.UUID}}); resp.StatusCode != 200 || !strings.Contains(body, "Open the call") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	s.sent(at+"/toggle", url.Values{})
	if c := s.Checks.Checks(project.DefaultID)[0]; c.Enabled {
		t.Error("the check is still on")
	}
	judge := s.sent("/p/default/evals", url.Values{"kind": {"judge"}, "name": {"polite"}, "instruction": {"It is polite."}, "provider": {"openai"}, "model": {"m"}, "daily_usd": {"0,5"}, "sample": {"100"}})
	if _, body := s.send(judge+"/try", url.Values{"generation": {of.UUID}}); !strings.Contains(body, "score 0.25") || !strings.Contains(body, "Judge output") {
		t.Errorf("%s", body)
	}
	s.sent(judge+"/delete", url.Values{})
	// The event that was judged shows it, and so does its trace.
	for _, path := range []string{"/p/default/events/" + of.UUID, "/p/default/traces/" + of.TraceID} {
		if _, body := s.get(path); !strings.Contains(body, "Evaluations and feedback") || !strings.Contains(body, "rude") {
			t.Errorf("%s does not show the judgment", path)
		}
	}
	// Members read and try, and change nothing.
	s.client = s.as(s.person("m@example.com", project.RoleMember, project.DefaultID))
	if _, body := s.get(at); strings.Contains(body, "Delete check") || !strings.Contains(body, "Try it") {
		t.Errorf("%s", body)
	}
	if resp, _ := s.send(at, form); resp.StatusCode != 403 {
		t.Errorf("a member changes a check: %d", resp.StatusCode)
	}
}

// TestExpectedAnswers: what runs over datasets say comes from hedgerow itself.
func TestExpectedAnswers(t *testing.T) {
	of := sample(project.DefaultID)
	s := newSite(t, of, eval.Result{Name: dataset.MatchesExpected, Passed: event.Some(true)}.Event(of, of.Timestamp.Add(time.Second)))
	s.client = s.as(s.admin)
	_, body := s.get("/p/default/evals")
	if strings.Contains(body, "External evaluations") || !strings.Contains(body, "created by dataset runs") || !strings.Contains(body, "Expected answer") || !strings.Contains(body, "prop.eval_name=matches_expected") {
		t.Error("matches_expected is not listed as hedgerow's own")
	}
}

func TestDatasetPages(t *testing.T) {
	of := sample(project.DefaultID)
	s := newSite(t, of)
	s.client = s.as(s.person("m@example.com", project.RoleMember, project.DefaultID))
	if _, body := s.get("/p/default/datasets"); !strings.Contains(body, "No datasets yet") {
		t.Errorf("%s", body)
	}
	if resp, body := s.send("/p/default/events/"+of.UUID+"/example", url.Values{}); resp.StatusCode != 400 || !strings.Contains(body, "choose a dataset") && !strings.Contains(body, "Choose a dataset") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	s.sent("/p/default/events/"+of.UUID+"/example", url.Values{"name": {"golden"}, "good": {"1"}})
	set := s.Datasets.Sets(project.DefaultID)[0]
	at := "/p/default/datasets/" + set.ID

	// A file, as a browser sends it.
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	_ = w.WriteField("csrf", s.token())
	file, err := w.CreateFormFile("file", "more.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = file.Write([]byte(`{"input":"<script>","provider":"openai","model":"m"}` + "\n"))
	_ = w.Close()
	req, err := http.NewRequestWithContext(t.Context(), "POST", s.server.URL+at+"/import", &b)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", w.FormDataContentType())
	if resp, body := s.do(req); resp.StatusCode != http.StatusOK || !strings.Contains(body, "1 example imported") {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	if resp, body := s.send(at+"/import", url.Values{"lines": {`{"inptu":1}`}}); resp.StatusCode != 400 || !strings.Contains(body, "ine 1: unknown field") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	if _, body := s.get(at); !strings.Contains(body, "&lt;script&gt;") || !strings.Contains(body, "2 examples") {
		t.Errorf("%s", body)
	}
	if resp, body := s.send(at+"/runs", url.Values{"model": {"m1"}, "budget": {"much"}}); resp.StatusCode != 400 || !strings.Contains(body, "m1") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	run := func(name string) string {
		t.Helper()
		to := s.sent(at+"/runs", url.Values{"provider": {"openai"}, "model": {name}, "budget": {"1"}, "concurrency": {"2"}})
		for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
			_, body := s.get(to)
			if strings.Contains(body, ">completed<") {
				if !strings.Contains(body, "2 of 2") || !strings.Contains(body, "&lt;b&gt;Hello&lt;/b&gt; from "+name) || strings.Contains(body, "every 1500ms") {
					t.Errorf("%s", body)
				}
				return to[strings.LastIndexByte(to, '/')+1:]
			}
			if time.Now().After(end) {
				t.Fatalf("%s", body)
			}
		}
	}
	one, other := run("m1"), run("m2")
	if resp, body := s.get(at + "/compare?a=" + one + "&b=" + other); resp.StatusCode != 200 || strings.Count(body, "from m1") != 2 || !strings.Contains(body, "matches_expected") || !strings.Contains(body, "2 pairs") || !strings.Contains(body, "2 examples are too few to show any difference") || !strings.Contains(body, "Intervals are paired by example, at 98.8 %: adjusted for comparing 4 metrics (family-wise error 5 %).") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	if resp, body := s.get(at + "/export"); resp.StatusCode != 200 || strings.Count(body, "\n") != 2 {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	if resp, body := s.send(at+"/runs/"+one+"/resume", url.Values{}); resp.StatusCode != 409 || !strings.Contains(body, "he run is done") {
		t.Errorf("a run that is done is resumed: %d", resp.StatusCode)
	}
	s.sent(at+"/runs/"+one+"/delete", url.Values{})
	s.client = s.as(s.person("v@example.com", project.RoleViewer, project.DefaultID))
	if _, body := s.get(at); strings.Contains(body, "Start run") || strings.Contains(body, "Delete dataset") {
		t.Errorf("%s", body)
	}
	if resp, _ := s.send(at+"/delete", url.Values{}); resp.StatusCode != 403 {
		t.Errorf("a viewer deletes a dataset: %d", resp.StatusCode)
	}
}
