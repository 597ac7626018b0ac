package web_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/flag"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/prompt"
)

func rolloutCall(variant string) *event.Event {
	e := promptCall("1", false)
	e.Flags = map[string]string{"support-prompt": variant}
	return e
}

func TestRolloutPages(t *testing.T) {
	s := newSite(t, rolloutCall("control"), rolloutCall("treatment"), rolloutCall("false"), rolloutCall("false"))
	s.client = s.as(s.person("member@example.com", project.RoleMember, "default"))
	const base = "/p/default/rollouts/support"
	s.shows("/p/default/rollouts", "Create a prompt with two versions first")
	for i, text := range []string{"Be brief.", "Be warm."} {
		d := prompt.Draft{Messages: []prompt.Message{{Role: "system", Content: text}}}
		var err error
		if i == 0 {
			_, err = s.Prompts.Create(t.Context(), "ann", "default", "support", "", d)
		} else {
			_, _, err = s.Prompts.AddVersion(t.Context(), "ann", "default", "support", d)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	s.shows("/p/default/rollouts", "Choose a prompt below", `<option value="support">`)
	s.shows("/p/default/rollouts?prompt=support", "Roll out", "No PostHog project is connected")
	if resp, _ := s.get("/p/default/rollouts/nothing"); resp.StatusCode != 404 {
		t.Errorf("a prompt that there is not: %d", resp.StatusCode)
	}
	form := url.Values{"flag": {"support-prompt"}, "percent": {"20"}, "variant-0": {"control"}, "version-0": {"1"}, "share-0": {"50"},
		"variant-1": {"treatment"}, "version-1": {"2"}, "model-1": {"gpt-5"}, "share-1": {"40"}, "variant-2": {""}, "version-2": {""}}
	s.does(base, 400, "add up to 90", form)
	if resp, body := s.send(base, form); resp.StatusCode != 400 || !strings.Contains(body, `value="gpt-5"`) {
		t.Error("a refused form does not keep what was typed")
	}
	form.Set("share-1", "fifty")
	s.does(base, 400, "is not a number", form)
	form.Set("share-1", "50")
	s.does(base, 200, "Rollout started", form)
	ro, ok := s.Prompts.Rollout("default", "support")
	if p, shares := ro.OwnFigures(); !ok || len(ro.Variants) != 2 || ro.Variants["treatment"] != (prompt.Variant{Version: "2", Model: "gpt-5"}) || p == nil || *p != 20 || shares["treatment"] != 50 {
		t.Errorf("kept %+v", ro)
	}
	s.shows("/p/default/rollouts", "running", "control, treatment")
	// Shares as planned and as they are, and the way to the calls of each.
	s.shows(base, "v2 on gpt-5", "outside the rollout", "10.0 %", "80.0 %", "25.0 %", "50.0 %", "flag_variant=treatment", "flag=support-prompt")

	s.does(base+"/stop", 200, "all users get the control", url.Values{"reason": {"too <slow>"}})
	s.shows(base, "Stopped", "too &lt;slow&gt;", "member@example.com", "Restart")
	if got, err := s.Prompts.Resolve(t.Context(), "default", "support", "", flag.User{DistinctID: "u"}); err != nil || got.Reason != prompt.ReasonStopped {
		t.Errorf("%+v, %v", got, err)
	}
	s.does(base, 200, "Rollout started", form)
	var actions []string
	for _, e := range s.Registry.AuditLog(project.DefaultID, 0) {
		actions = append(actions, e.Action)
	}
	if got := strings.Join(actions, " "); !strings.Contains(got, "prompt.rollout_stop") || !strings.Contains(got, "prompt.rollout ") {
		t.Errorf("audit log: %s", got)
	}

	s.client = s.as(s.person("viewer@example.com", project.RoleViewer, "default"))
	if body := s.shows(base, "Traffic split"); strings.Contains(body, "Stop rollout") || strings.Contains(body, "<fieldset") {
		t.Error("a viewer is offered what only members may do")
	}
	if resp, _ := s.send(base+"/stop", nil); resp.StatusCode != 403 {
		t.Errorf("a viewer stops a rollout: %d", resp.StatusCode)
	}
	s.client = s.as(s.person("other@example.com", project.RoleMember, "default"))
	s.does(base+"/remove", 200, "Rollout of support removed", nil)
	s.shows("/p/default/rollouts", "No rollouts")
}
