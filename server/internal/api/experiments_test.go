package api_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// experimentJSON is one as a caller would write it.
const experimentJSON = `{"name": "Kinder answers", "flag": "answer-test", "prompt": "answer", "arms": [{"key": "control", "share": 95}, {"key": "treatment", "share": 5}],
	"primary": {"event": "support_ticket_resolved", "property": "resolved"},
	"guardrails": [{"measure": "escalation_rate", "limit": 0.02, "relative": true}, {"measure": "latency_p95_ms", "limit": 4000}], "segments": ["model", "property:plan"], "stop_on_guardrail": true`

func TestExperiments(t *testing.T) {
	f := newFixture(t)
	made := f.ask(f.member, "POST", "/api/v1/experiments", json.RawMessage(experimentJSON+`, "started_at": "`+now.Add(-time.Hour).Format(time.RFC3339)+`"}`))
	if made.status != 200 {
		t.Fatalf("%d %s", made.status, made.raw)
	}
	type view struct {
		Experiment struct {
			ID      string
			Name    string
			Stopped *time.Time `json:"stopped_at"`
			Alpha   float64
		}
		Report struct {
			State, Summary string
			Variants       []struct {
				Key   string
				Users int
			} `json:"arms"`
			Guardrails []struct {
				Words  string
				Checks []struct{ Status string }
			}
		}
	}
	read := func(raw []byte) (v view) {
		if err := json.Unmarshal(raw, &v); err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
		return v
	}
	v := read([]byte(made.raw))
	if v.Report.State != "collecting" || len(v.Report.Variants) != 2 || v.Experiment.Alpha != 0.05 || v.Report.Guardrails[1].Words != "at most 4 s" {
		t.Errorf("made %s", made.raw)
	}
	path := "/api/v1/experiments/" + v.Experiment.ID
	var events []*event.Event
	for i := range 120 {
		variant := []string{"control", "treatment"}[i%2]
		trace := fmt.Sprint("exp-", i)
		events = append(events,
			&event.Event{UUID: event.NewID(), ProjectID: project.DefaultID, Name: event.Generation, DistinctID: fmt.Sprint("u", i), TraceID: trace, Timestamp: now.Add(-30 * time.Minute), PromptName: "answer", Model: "gpt-4.1-mini", Flags: map[string]string{"answer-test": variant}},
			&event.Event{UUID: event.NewID(), ProjectID: project.DefaultID, Name: "support_ticket_resolved", DistinctID: fmt.Sprint("u", i), TraceID: trace, Timestamp: now.Add(-20 * time.Minute), Properties: map[string]json.RawMessage{"resolved": json.RawMessage(fmt.Sprint(i%4 != 0))}})
	}
	if _, err := f.store.Write(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	// A change makes a new report at once.
	if a := f.ask(f.member, "PUT", path, json.RawMessage(strings.Replace(experimentJSON, "Kinder answers", "Kindest answers", 1)+`}`)); a.status != 200 || read([]byte(a.raw)).Report.Variants[0].Users != 60 {
		t.Errorf("changed: %d %s", a.status, a.raw)
	}
	if a := f.ask(f.member, "PUT", path, json.RawMessage(strings.Replace(experimentJSON, "95", "50", 1)+`}`)); a.status != 409 {
		t.Errorf("other shares while it runs: %d %s", a.status, a.raw)
	}
	if a := f.ask(f.viewer, "GET", path+"/segments/model", nil); a.status != 200 || !strings.Contains(a.raw, `"value":"gpt-4.1-mini"`) {
		t.Errorf("segments: %d %s", a.status, a.raw)
	}
	if a := f.ask(f.viewer, "GET", path+"/segments/user", nil); a.status != 400 {
		t.Errorf("odd segments: %d %s", a.status, a.raw)
	}
	if a := f.ask(f.viewer, "GET", "/api/v1/experiments", nil); a.status != 200 || strings.Count(a.raw, `"id":`) != 1 {
		t.Errorf("list: %d %s", a.status, a.raw)
	}
	for _, c := range []struct {
		key, method, path string
		status            int
	}{
		{f.viewer, "POST", "/api/v1/experiments", 403}, {f.viewer, "PUT", path, 403}, {f.viewer, "DELETE", path, 403}, {f.viewer, "POST", path + "/stop", 403},
		{f.other, "GET", path, 404}, {f.other, "DELETE", path, 404}, {f.member, "POST", path + "/start", 409},
		{f.member, "GET", "/api/v1/experiments/x_none", 404}, {f.member, "GET", "/api/v1/alerts", 403}, {f.member, "PUT", "/api/v1/alerts", 403},
	} {
		if a := f.ask(c.key, c.method, c.path, nil); a.status != c.status {
			t.Errorf("%s %s: %d, want %d: %s", c.method, c.path, a.status, c.status, a.raw)
		}
	}
	if a := f.ask(f.member, "POST", path+"/stop", json.RawMessage(`{"reason": "seen enough", "stop_rollout": true}`)); a.status != 200 || read([]byte(a.raw)).Experiment.Stopped == nil {
		t.Errorf("stop: %d %s", a.status, a.raw)
	}
	if len(f.stopped) != 1 || !strings.HasSuffix(f.stopped[0], " answer") {
		t.Errorf("rollouts stopped: %q", f.stopped)
	}
	if a := f.ask(f.member, "DELETE", path, nil); a.status != 200 {
		t.Errorf("delete: %d %s", a.status, a.raw)
	}
	var actions []string
	for _, e := range f.registry.AuditLog(project.DefaultID, 0) {
		if strings.HasPrefix(e.Action, "experiment.") {
			actions = append(actions, e.Action)
		}
	}
	if want := []string{"experiment.delete", "experiment.stop", "experiment.update", "experiment.start", "experiment.create"}; !slices.Equal(actions, want) {
		t.Errorf("audit %q", actions)
	}
}

func TestAlerts(t *testing.T) {
	f := newFixture(t)
	if a := f.ask(f.admin, "GET", "/api/v1/alerts", nil); a.status != 200 || strings.TrimSpace(a.raw) != `{"webhook_url":"","emails":[],"mail_ready":false}` {
		t.Errorf("none yet: %d %s", a.status, a.raw)
	}
	set := func(body string) answer { return f.ask(f.admin, "PUT", "/api/v1/alerts", json.RawMessage(body)) }
	first := set(`{"webhook_url": "https://hooks.example.com/a?k=v", "emails": ["Ann@example.com", "ann@example.com"]}`)
	if first.status != 200 || !strings.Contains(first.raw, `"secret":"whsec_`) || !strings.Contains(first.raw, `"emails":["ann@example.com"]`) {
		t.Fatalf("set: %d %s", first.status, first.raw)
	}
	// The secret is shown once.
	if a := set(`{"webhook_url": "https://hooks.example.com/a?k=v"}`); a.status != 200 || strings.Contains(a.raw, "whsec_") {
		t.Errorf("set again: %d %s", a.status, a.raw)
	}
	if a := set(`{"webhook_url": "https://hooks.example.com/a?k=v", "rotate_secret": true}`); !strings.Contains(a.raw, "whsec_") || a.raw == first.raw {
		t.Errorf("rotated: %d %s", a.status, a.raw)
	}
	for _, bad := range []string{"http://hooks.example.com", "https://127.0.0.1/x", "https://localhost/x", "https://169.254.169.254/", "https://10.0.0.1", "https://u:p@hooks.example.com", "ftp://x.example.com", "https://0x7f.1/"} {
		if a := set(`{"webhook_url": "` + bad + `"}`); a.status != 400 {
			t.Errorf("%s: %d %s", bad, a.status, a.raw)
		}
	}
	if a := set(`{"emails": ["nobody"]}`); a.status != 400 {
		t.Errorf("no address: %d %s", a.status, a.raw)
	}
	if a := set(`{}`); a.status != 200 {
		t.Errorf("none again: %d %s", a.status, a.raw)
	}
	if a := f.ask(f.admin, "POST", "/api/v1/alerts/test", nil); a.status != 200 || strings.TrimSpace(a.raw) != `{"email":"not set up","webhook":"not set up"}` {
		t.Errorf("test: %d %s", a.status, a.raw)
	}
	for _, e := range f.registry.AuditLog(project.DefaultID, 0) {
		if strings.Contains(e.Detail, "k=v") || strings.Contains(e.Detail, "ann@") || strings.Contains(e.Detail, "whsec_") {
			t.Errorf("the audit log tells %q", e.Detail)
		}
	}
}
