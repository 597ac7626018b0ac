package web_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// TestPrices: an administrator makes a dry run, sees its result and applies it; what is
// typed wrong is kept; others see the prices' age and the result, and change nothing.
func TestPrices(t *testing.T) {
	s := newSite(t, &event.Event{UUID: event.NewID(), ProjectID: project.DefaultID, Name: event.Generation, Source: event.SourceGateway, Provider: "openai", Model: "gpt-4.1-mini", DistinctID: "ann",
		Timestamp: time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC), Usage: event.Usage{Input: event.Some[int64](1000), Output: event.Some[int64](100)}})
	s.client = s.as(s.admin)
	const path = "/p/default/prices"
	if _, body := s.get(path); !strings.Contains(body, "Start dry run") || strings.Contains(body, "Apply changes") || strings.Contains(body, "hx-trigger=\"every") {
		t.Errorf("before a run:\n%s", body)
	}
	days := url.Values{"from": {"2026-01-01"}, "to": {"2027-12-31"}}
	if resp, body := s.send(path+"/reprice", url.Values{"from": {"first"}, "to": {"2026-03-31"}, "model": {"m1"}}); resp.StatusCode != 400 || !strings.Contains(body, "must be days or times") || !strings.Contains(body, `value="first"`) || !strings.Contains(body, `value="m1"`) {
		t.Errorf("a wrong day: %d\n%s", resp.StatusCode, body)
	}
	end := func() string {
		t.Helper()
		for start := time.Now(); time.Since(start) < 20*time.Second; time.Sleep(time.Millisecond) {
			if _, body := s.get(path); !strings.Contains(body, "hx-trigger=\"every") {
				return body
			}
		}
		t.Fatal("no end")
		return ""
	}
	if resp, body := s.send(path+"/reprice", days); resp.Request.URL.Path != path || !strings.Contains(body, "The dry run has started") {
		t.Errorf("a dry run leads to %s:\n%s", resp.Request.URL, body)
	}
	body := end()
	if !strings.Contains(body, "<h2>Dry run</h2>") || !strings.Contains(body, "Apply changes") || !strings.Contains(body, "Change 1 call…") || !strings.Contains(body, "$0.00056") || !strings.Contains(body, `name="apply" value="on"`) || !strings.Contains(body, `name="to" value="2027-12-31"`) {
		t.Errorf("the dry run:\n%s", body)
	}
	s.client = s.as(s.person("viewer@example.com", project.RoleViewer, "default"))
	if _, body := s.get(path); !strings.Contains(body, "<h2>Dry run</h2>") || strings.Contains(body, "Start dry run") || strings.Contains(body, "Apply changes") {
		t.Errorf("a viewer:\n%s", body)
	}
	for _, member := range []project.Role{project.RoleViewer, project.RoleMember} {
		s.client = s.as(s.person("another-"+string(member)+"@example.com", member, "default"))
		for _, action := range []string{"/reprice", "/cancel"} {
			if resp, _ := s.send(path+action, days); resp.StatusCode != 403 {
				t.Errorf("a %s, %s: %d", member, action, resp.StatusCode)
			}
		}
	}
	s.client = s.as(s.admin)
	days.Set("apply", "on")
	if resp, body := s.send(path+"/reprice", days); resp.Request.URL.Path != path || !strings.Contains(body, "The costs are being changed") {
		t.Errorf("applying leads to %s:\n%s", resp.Request.URL, body)
	}
	if body := end(); !strings.Contains(body, "<h2>Result</h2>") || !strings.Contains(body, "run rp_") || strings.Contains(body, "Apply changes") {
		t.Errorf("the result:\n%s", body)
	}
	if log := s.Registry.AuditLog(project.DefaultID, 0); len(log) == 0 || log[0].Action != "prices.reprice" || log[0].Actor != s.admin.ID || log[0].Detail != "2026-01-01 to 2027-12-31" {
		t.Errorf("audit log: %+v", log[:min(1, len(log))])
	}
	if resp, body := s.send(path+"/cancel", nil); resp.StatusCode != 404 || !strings.Contains(body, "no run is in progress") && !strings.Contains(body, "No run is in progress") {
		t.Errorf("canceling nothing: %d", resp.StatusCode)
	}
}
