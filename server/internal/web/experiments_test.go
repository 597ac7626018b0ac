package web_test

import (
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

// An experiment's life by its pages: a form that is refused keeps what was typed,
// a draft begins, ends and goes; a viewer only reads.
func TestExperimentPages(t *testing.T) {
	s := newSite(t)
	s.client = s.as(s.admin)
	if _, body := s.get("/p/default/experiments"); !strings.Contains(body, "No experiments yet") {
		t.Errorf("an empty list says %s", body)
	}
	form := url.Values{"name": {"Kinder"}, "flag": {"answer-test"}, "arm0": {"control"}, "share0": {"95"}, "arm1": {"treatment"}, "share1": {"5"},
		"primary": {"own"}, "primary_event": {"support_ticket_resolved"}, "primary_property": {"resolved"}, "primary_as": {"rate"}, "detect": {"4"}, "planned": {"3000"}, "min_users": {"60"},
		"guard0": {"escalation_rate"}, "guard0_versus": {"control"}, "guard0_limit": {"many"}, "segments": {"model, property:plan"},
		"exclude_users": {"ada, u-17"}, "exclude0_property": {"email"}, "exclude0_operator": {"icontains"}, "exclude0_value": {"@example.com"}, "exclude_mixed": {"on"}}
	if r, body := s.send("/p/default/experiments/new", form); r.StatusCode == http.StatusSeeOther || !strings.Contains(body, "limit of a guardrail is not a number") || !strings.Contains(body, `value="Kinder"`) {
		t.Errorf("a limit that is none: %d", r.StatusCode)
	}
	form.Set("guard0_limit", "2")
	s.send("/p/default/experiments/new", form)
	list := s.Experiments.Experiments("default")
	if len(list) != 1 {
		t.Fatalf("%d experiments", len(list))
	}
	d := list[0]
	if d.Detect != 0.04 || d.Planned != 3000 || d.MinUsers != 60 || d.Variants[0].Share != 95 || len(d.Guardrails) != 1 || d.Guardrails[0].Limit != 0.02 || !d.Guardrails[0].Relative || len(d.Segments) != 2 || d.Primary.Property != "resolved" || d.Running() {
		t.Errorf("%+v", d)
	}
	excluded := query.Exclusion{Users: []string{"ada", "u-17"}, Properties: []query.Condition{{Property: "email", Operator: query.Contains, Value: "@example.com"}}, Bots: query.BotsCount, Mixed: true}
	if !reflect.DeepEqual(d.Exclude, excluded) {
		t.Errorf("excluded %+v", d.Exclude)
	}
	page := "/p/default/experiments/" + d.ID
	for path, want := range map[string]string{"/p/default/experiments": "Kinder", page: "has not started", page + "/edit": `value="ada, u-17"`} {
		if r, body := s.get(path); r.StatusCode != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: %d, without %q", path, r.StatusCode, want)
		}
	}
	s.send(page+"/start", nil)
	if d, _ = s.Experiments.Experiment("default", d.ID); !d.Running() {
		t.Error("it has not begun")
	}
	for path, want := range map[string]string{page: "Each variant needs 60 users", page + "?by=property:plan": "No users yet", page + "/behind?metric=1&arm=treatment": "No traces yet", page + "/edit": "The experiment has started"} {
		if r, body := s.get(path); r.StatusCode != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: %d, without %q", path, r.StatusCode, want)
		}
	}
	for path, status := range map[string]int{page + "?by=user": 400, page + "/behind?metric=7&arm=treatment": 404, page + "/behind?metric=0&arm=none": 400, "/p/default/experiments/x_none": 404} {
		if r, _ := s.get(path); r.StatusCode != status {
			t.Errorf("%s: %d, want %d", path, r.StatusCode, status)
		}
	}
	// What has begun is edited without the fields that are fixed.
	s.send(page+"/edit", url.Values{"name": {"Kindest"}, "guard0": {"latency_p95_ms"}, "guard0_versus": {"value"}, "guard0_limit": {"4000"}})
	if d, _ = s.Experiments.Experiment("default", d.ID); d.Name != "Kindest" || !reflect.DeepEqual(d.Exclude, excluded) || d.Guardrails[0].Limit != 4000 || d.Variants[0].Share != 95 || d.Detect != 0.04 {
		t.Errorf("edited %+v", d)
	}
	for _, want := range []string{"sealed at the start", d.Versions[0].Hash, "The definition was changed once after the start", "name: from Kinder to Kindest", "guardrail p95 latency: at most 4 s (new)", "Users who saw more than one variant are excluded"} {
		if _, body := s.get(page); !strings.Contains(body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}

	s.client = s.as(s.person("eve@example.com", project.RoleViewer, "default"))
	if _, body := s.get(page); strings.Contains(body, "Delete experiment") || !strings.Contains(body, "Kindest") {
		t.Error("a viewer is offered changes, or sees nothing")
	}
	if r, _ := s.send(page+"/stop", nil); r.StatusCode != http.StatusForbidden {
		t.Errorf("a viewer stops it: %d", r.StatusCode)
	}
	s.client = s.as(s.admin)
	s.send(page+"/stop", url.Values{"reason": {"enough"}})
	if d, _ = s.Experiments.Experiment("default", d.ID); d.Running() || d.StopReason != "enough" {
		t.Errorf("stopped %+v", d)
	}
	s.send(page+"/delete", nil)
	if len(s.Experiments.Experiments("default")) != 0 {
		t.Error("it is still there")
	}
}

func TestAlertsPage(t *testing.T) {
	s := newSite(t)
	s.client = s.as(s.admin)
	if _, body := s.send("/p/default/alerts", url.Values{"webhook_url": {"https://hooks.example.com/x"}, "emails": {"ann@example.com"}}); !strings.Contains(body, "whsec_") {
		t.Error("the secret is not shown")
	}
	if _, body := s.get("/p/default/alerts"); strings.Contains(body, "whsec_") || !strings.Contains(body, "https://hooks.example.com/x") || !strings.Contains(body, "HEDGEROW_SMTP_URL") {
		t.Error("the secret is shown twice, or the webhook not at all")
	}
	if r, body := s.send("/p/default/alerts", url.Values{"webhook_url": {"https://127.0.0.1/x"}}); r.StatusCode != http.StatusBadRequest || !strings.Contains(body, "private or local address") {
		t.Errorf("a private address: %d", r.StatusCode)
	}
}
