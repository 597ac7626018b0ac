package api_test

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestDatasets(t *testing.T) {
	f := newFixture(t)
	f.judge.text = "the other answer"
	if a := f.ask(f.viewer, "POST", "/api/v1/datasets", `{"name":"golden"}`); a.status != 403 {
		t.Errorf("a viewer: %d", a.status)
	}
	a := f.ask(f.member, "POST", "/api/v1/datasets", `{"name":"golden","description":"what must work"}`)
	set, _ := a.body["dataset"].(map[string]any)
	id, _ := set["id"].(string)
	if a.status != 200 || id == "" {
		t.Fatalf("%d %s", a.status, a.raw)
	}
	a = f.ask(f.member, "POST", "/api/v1/datasets/golden/examples", `{"from_generation":"`+f.events[0].UUID+`","expected":"the answer"}`)
	if a.status != 200 || !strings.Contains(a.raw, `"answer":"the answer"`) || !strings.Contains(a.raw, `"the question"`) {
		t.Fatalf("%d %s", a.status, a.raw)
	}
	if a := f.ask(f.member, "POST", "/api/v1/datasets/golden/examples", `{"from_generation":"`+strings.Repeat("0", 8)+`-0000-7000-8000-000000000001"}`); a.status != 404 {
		t.Errorf("a generation that is not there: %d", a.status)
	}
	if a := f.ask(f.member, "POST", "/api/v1/datasets/golden/import", `{"input":"Say hi.","provider":"openai","model":"m"}`+"\n"+`{"messages":[{"role":"user","content":"x"}],"provider":"openai","model":"m"}`); a.status != 200 || a.body["imported"] != 2.0 {
		t.Errorf("%d %s", a.status, a.raw)
	}
	if a := f.ask(f.member, "POST", "/api/v1/datasets/golden/import", `{"input":"Say hi."}`+"\n"+`{"inputs":1}`); a.status != 400 || !strings.Contains(a.raw, "line 2") {
		t.Errorf("%d %s", a.status, a.raw)
	}
	req := httptest.NewRequestWithContext(t.Context(), "GET", "/api/v1/datasets/golden/export", nil)
	req.Header.Set("Authorization", "Bearer "+f.viewer)
	w := httptest.NewRecorder()
	f.api.ServeHTTP(w, req)
	if w.Code != 200 || w.Header().Get("Content-Type") != "application/jsonl" || strings.Count(w.Body.String(), "\n") != 3 || !strings.Contains(w.Header().Get("Content-Disposition"), id+".jsonl") {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	if a := f.ask(f.member, "POST", "/api/v1/datasets/golden/runs", `{"model":"m2"}`); a.status != 400 || !strings.Contains(a.raw, "budget") {
		t.Errorf("%d %s", a.status, a.raw)
	}
	run := func(model string) string {
		t.Helper()
		a := f.ask(f.member, "POST", "/api/v1/datasets/golden/runs", `{"provider":"openai","model":"`+model+`","budget_usd":1}`)
		r, _ := a.body["run"].(map[string]any)
		id, _ := r["id"].(string)
		if a.status != 200 || r["status"] != "running" {
			t.Fatalf("%d %s", a.status, a.raw)
		}
		for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
			a := f.get("/api/v1/datasets/golden/runs/" + id)
			r, _ := a.body["run"].(map[string]any)
			if r["status"] == "done" {
				if len(a.body["results"].([]any)) != 3 || r["cost_usd"] != "0.003" {
					t.Errorf("%s", a.raw)
				}
				return id
			}
			if time.Now().After(end) {
				t.Fatalf("%s", a.raw)
			}
		}
	}
	one, other := run("m1"), run("m2")
	a = f.get("/api/v1/datasets/golden/compare?a=" + one + "&b=" + other)
	if !strings.Contains(a.raw, `"eval_name":"matches_expected"`) || len(a.body["pairs"].([]any)) != 3 {
		t.Errorf("%s", a.raw)
	}
	for _, target := range []string{"/api/v1/datasets/golden/compare?a=" + one, "/api/v1/datasets/golden/compare?a=" + one + "&b=x", "/api/v1/datasets/nope", "/api/v1/datasets/golden/runs/x"} {
		if a := f.ask(f.viewer, "GET", target, nil); a.status != 400 && a.status != 404 {
			t.Errorf("%s: %d", target, a.status)
		}
	}
	for _, target := range []string{"/api/v1/datasets/" + id, "/api/v1/datasets/" + id + "/runs/" + one, "/api/v1/datasets/" + id + "/examples", "/api/v1/datasets/" + id + "/export"} {
		if a := f.ask(f.other, "GET", target, nil); a.status != 404 {
			t.Errorf("another project sees %s: %d", target, a.status)
		}
	}
	if a := f.ask(f.member, "POST", "/api/v1/datasets/golden/runs/"+one+"/cancel", nil); a.status != 409 {
		t.Errorf("%d %s", a.status, a.raw)
	}
	if a := f.ask(f.member, "POST", "/api/v1/datasets/golden/runs/"+one+"/resume", nil); a.status != 409 || !strings.Contains(a.raw, "the run is done") {
		t.Errorf("%d %s", a.status, a.raw)
	}
	if a := f.ask(f.member, "DELETE", "/api/v1/datasets/golden/runs/"+one, nil); a.status != 200 {
		t.Errorf("%d %s", a.status, a.raw)
	}
	if a := f.ask(f.member, "DELETE", "/api/v1/datasets/golden", nil); a.status != 200 {
		t.Errorf("%d %s", a.status, a.raw)
	}
	if a := f.get("/api/v1/datasets"); a.raw != `{"datasets":[]}`+"\n" {
		t.Error(a.raw)
	}
}
