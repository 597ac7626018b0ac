package api_test

import (
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/server/internal/project"
)

// TestReprice: a dry run, its result, a run that applies with its entry in the audit
// log, and what is refused.
func TestReprice(t *testing.T) {
	f := newFixture(t)
	const path = "/api/v1/prices/reprice"
	for key, want := range map[string]int{f.member: 403, f.admin: 404} {
		if a := f.ask(key, "GET", path, nil); a.status != want {
			t.Errorf("before: %d %s, want %d", a.status, a.raw, want)
		}
	}
	for _, body := range []string{`{}`, `{"from":"2026-03-31","to":"2026-03-01"}`, `{"from":"2026-03-01","to":"2026-03-31","posthog":true}`, `{"from":"2026-03-01","to":"2026-03-31","days":3}`} {
		if a := f.ask(f.admin, "POST", path, body); a.status != 400 || !strings.Contains(a.raw, `"hint"`) {
			t.Errorf("%s: %d %s", body, a.status, a.raw)
		}
	}
	run := func(body string) answer {
		t.Helper()
		a := f.ask(f.admin, "POST", path, body)
		for start := time.Now(); a.body["status"] == "waiting" || a.body["status"] == "running"; time.Sleep(time.Millisecond) {
			if a = f.ask(f.admin, "GET", path, nil); time.Since(start) > 20*time.Second {
				t.Fatal("no end")
			}
		}
		if a.status != 200 || a.body["status"] != "done" {
			t.Fatalf("%s: %d %s", body, a.status, a.raw)
		}
		return a
	}
	dry := run(`{"from":"2026-03-01","to":"2026-03-31"}`)
	if dry.body["calls"] != dry.body["calls_done"] || dry.body["calls"].(float64) == 0 || len(dry.body["rows"].([]any)) == 0 {
		t.Errorf("dry run: %s", dry.raw)
	}
	changed := dry.body["sum"].(map[string]any)["changed"].(float64)
	done := run(`{"from":"2026-03-01","to":"2026-03-31","apply":true,"include_reported":true}`)
	if got := done.body["sum"].(map[string]any)["changed"].(float64); got == 0 || got < changed {
		t.Errorf("applied: %s", done.raw)
	}
	log := f.registry.AuditLog(project.DefaultID, 0)
	if len(log) == 0 || log[0].Action != "prices.reprice" || log[0].Target != done.body["id"] || !strings.HasPrefix(log[0].Actor, "key ") || log[0].Detail != "2026-03-01 to 2026-03-31, reported costs included" {
		t.Errorf("audit log: %+v", log[:min(1, len(log))])
	}
	again := run(`{"from":"2026-03-01","to":"2026-03-31","apply":true,"include_reported":true}`)
	if got := again.body["sum"].(map[string]any)["changed"]; got != float64(0) {
		t.Errorf("a second time: %s", again.raw)
	}
	if a := f.ask(f.admin, "DELETE", path, nil); a.status != 404 || !strings.Contains(a.raw, "no run is in progress") {
		t.Errorf("cancel: %d %s", a.status, a.raw)
	}
}
