package web_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/prompt"
)

func promptCall(version string, drift bool) *event.Event {
	e := sample("default")
	e.UUID, e.TraceID = event.NewID(), event.NewID()
	e.PromptName, e.PromptVersion = "support", version
	if drift {
		_ = e.SetProperty(prompt.PropertyDrift, true)
	}
	return e
}

// TestPromptPages is the part of a prompt's way that needs no browser;
// e2e/prompts.mjs goes all of it.
func TestPromptPages(t *testing.T) {
	s := newSite(t, promptCall("1", false), promptCall("1", true), promptCall("9", false), promptCall("", false))
	s.client = s.as(s.person("member@example.com", project.RoleMember, "default"))
	const base = "/p/default/prompts/support"
	s.shows("/p/default/prompts", "No prompts yet", "Unregistered prompts", "support")
	form := url.Values{"name": {"support"}, "message_0_role": {"system"}, "message_0_content": {"\r\nAnswer {{n}}\r\n<b>tickets</b>."}, "message_1_role": {"user"}, "message_1_content": {""},
		"variable_0_name": {"n"}, "variable_0_type": {"integer"}, "variable_1_name": {"gone"}, "variable_1_type": {"string"}, "params": {`{"temperature": 0.5}`}}
	bad := url.Values{}
	for k, v := range form {
		bad[k] = v
	}
	bad.Set("params", "0.5")
	s.does("/p/default/new-prompt", 400, "The parameters are not a JSON object", bad)
	s.does("/p/default/new-prompt", 200, "Version 1 has the label production", form)
	v, ok := s.Prompts.Version("default", "support", "")
	if !ok || len(v.Messages) != 1 || len(v.Variables) != 1 || v.Variables[0].Type != "integer" || v.Params["temperature"] != 0.5 || v.Messages[0].Content != "\nAnswer {{n}}\n<b>tickets</b>." {
		t.Errorf("kept %+v", v)
	}
	body := s.shows(base, "&lt;b&gt;tickets", "1 call drifted", "prop.prompt_drift=true", "Not stored in hedgerow", "Calls without a version whose text matches", "prompt_version=1")
	if strings.Contains(body, "<b>tickets") {
		t.Error("a prompt's text is taken for HTML")
	}
	s.shows("/p/default/prompts", "v1", "4</a>")

	s.does(base+"/new-version", 400, "No changes from version 1", url.Values{"message_0_role": {"system"}, "message_0_content": {v.Messages[0].Content}, "variable_0_name": {"n"}, "variable_0_type": {"integer"}, "params": {`{"temperature": 0.5}`}})
	s.does(base+"/new-version", 200, "Version 2 saved", url.Values{"message_0_role": {"system"}, "message_0_content": {"Answer {{n}}."}, "note": {"shorter"}})
	s.shows(base+"/compare", "removed", "added", "temperature: 0.5")
	s.shows(base+"/compare?from=2&to=2", "No differences")
	if resp, _ := s.get(base + "/compare?from=9"); resp.StatusCode != 404 {
		t.Errorf("a version that is not there: %d", resp.StatusCode)
	}
	s.does(base+"/try", 200, "Answer 7\n", url.Values{"version": {"1"}, "value_n": {"7"}})
	s.does(base+"/try", 400, "is not of type integer", url.Values{"version": {"1"}, "value_n": {"seven"}})
	s.does(base+"/label", 200, "points to version 2", url.Values{"label": {"production"}, "version": {"2"}, "reason": {"shorter is better"}})
	s.shows(base, "v1 → v2", "shorter is better")
	s.does(base+"/label", 400, "a letter", url.Values{"label": {"7"}, "version": {"2"}})
	s.does(base+"/label", 200, "Label production removed", url.Values{"label": {"production"}, "do": {"remove"}})
	if resp, body := s.get(base + "/export?format=json"); resp.StatusCode != 200 || !strings.Contains(resp.Header.Get("Content-Disposition"), "support.json") || !strings.Contains(body, `"name": "support"`) {
		t.Errorf("the file: %d %s", resp.StatusCode, body)
	}
	s.does("/p/default/import-prompt", 200, "Imported as version 1", url.Values{"text": {"name: copy\nmessages: [{content: hello}]"}})
	s.does("/p/default/import-prompt", 400, "not a valid prompt", url.Values{"text": {"name: [copy"}})
	s.does(base+"/delete", 400, "does not match", url.Values{"confirm": {"suport"}})
	s.does(base+"/delete", 200, "and all its versions deleted", url.Values{"confirm": {"support"}})
	if resp, _ := s.get(base); resp.StatusCode != 404 {
		t.Errorf("a deleted prompt's page: %d", resp.StatusCode)
	}

	s.client = s.as(s.person("viewer@example.com", project.RoleViewer, "default"))
	if body := s.shows("/p/default/prompts/copy", "hello"); strings.Contains(body, "New version") || strings.Contains(body, "Delete this prompt") {
		t.Error("a viewer is offered what only a member may do")
	}
	s.shows("/p/default/prompts/copy/try", "Render")
}
