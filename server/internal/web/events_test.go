package web_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/web/traces"
)

// TestSearchAndViews finds events by what is said of them and by what they said,
// and keeps a list under a name.
func TestSearchAndViews(t *testing.T) {
	s := newSite(t, story()...)
	s.client = s.as(s.person("reader@example.com", project.RoleViewer, "default"))
	searches := func() (n int) {
		for _, e := range s.Registry.AuditLog("default", 0) {
			if e.Action == "content.search" {
				n++
				if e.Actor == "system" || strings.Contains(e.Target+e.Detail, "question") {
					t.Errorf("the audit log has %+v", e)
				}
			}
		}
		return n
	}
	rows := func(q string) int {
		_, body := s.get("/p/default/events?" + q)
		return strings.Count(body, `<td class="t"><a href="/p/default/events/`)
	}
	for q, want := range map[string]int{"q=CITATION+2": 2, "q=citation&kind=calls": 4, "q=nobody": 0, "q=ada&prompt_version=2&kind=calls": 4} {
		if n := rows(q); n != want {
			t.Errorf("%s: %d events, want %d", q, n, want)
		}
	}
	if searches() != 0 {
		t.Error("a search of metadata is written down as one of contents")
	}
	if n := rows("said=QUESTION+5"); n != 4 || searches() != 1 {
		t.Errorf("%d events said it, %d searches written down", n, searches())
	}
	if _, body := s.get("/p/default/events?said=nowhere"); !strings.Contains(body, "24 prompts and responses searched for “nowhere”") || !strings.Contains(body, "No matching events") || strings.Contains(body, "Save this view") {
		t.Error("a search without a find does not say so, or a viewer may save")
	}
	if resp, _ := s.get("/p/default/events?said=x&cursor=y"); resp.StatusCode != 400 {
		t.Errorf("a wrong cursor: %d", resp.StatusCode)
	}

	s.client = s.as(s.person("member@example.com", project.RoleMember, "default"))
	s.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, _ := s.send("/p/default/views", url.Values{"name": {"Dear failures"}, "query": {"kind=errors&sort=cost&col=model&col=cost&said=secret&cursor=x"}})
	views := s.Registry.Snapshot().SavedViews("default", "/events")
	if resp.StatusCode != 303 || len(views) != 1 || views[0].Query != "col=model&col=cost&kind=errors&sort=cost" {
		t.Fatalf("saved: %d %+v", resp.StatusCode, views)
	}
	if _, body := s.get("/p/default/events?" + views[0].Query); !strings.Contains(body, `aria-current>Dear failures`) {
		t.Error("the saved view is not shown as the one looked at")
	}
	if resp, body := s.send("/p/default/views", url.Values{"query": {"kind=errors"}}); resp.StatusCode != 400 || !strings.Contains(body, "has no name") {
		t.Errorf("without a name: %d", resp.StatusCode)
	}
	if resp, _ := s.send("/p/default/views/v_none/delete", nil); resp.StatusCode != 404 {
		t.Errorf("no such view: %d", resp.StatusCode)
	}
	if resp, _ := s.send("/p/default/views/"+views[0].ID+"/delete", nil); resp.StatusCode != 303 || len(s.Registry.Snapshot().SavedViews("default", "")) != 0 {
		t.Errorf("deleted: %d", resp.StatusCode)
	}
	if !slices.ContainsFunc(s.Registry.AuditLog("default", 0), func(e project.AuditEntry) bool { return e.Action == "view.delete" && e.Target == "Dear failures" }) {
		t.Error("the audit log lacks the deletion")
	}
}

// TestSent shows an event's delivery state for each connection, and what of it
// was sent.
func TestSent(t *testing.T) {
	e := sample("default")
	s := newSite(t, e, sample("other"))
	s.client = s.as(s.admin)
	s.delivery.ok = true
	page := "/p/default/events/" + e.UUID + "/sent"
	if _, body := s.get(page); !strings.Contains(body, "No PostHog project is connected") {
		t.Error("without a connection the page does not say so")
	}
	s.delivery.out = map[string]traces.Outgoing{
		"a": {State: traces.DeliverySent, At: now.Add(-time.Minute), Bodies: []json.RawMessage{json.RawMessage(`{"event":"$ai_generation","properties":{"$ai_model":"gpt-<b>"}}`)}},
		"b": {State: traces.DeliveryFailed, At: now, Reason: "PostHog found it too large"},
		"c": {State: traces.DeliveryFiltered}, "d": {State: traces.DeliveryUnknown}, "e": {State: traces.DeliveryWaiting}, "f": {State: traces.DeliverySent, By: now},
	}
	for name := range s.delivery.out {
		c := project.NewConnection("default", name)
		c.ProjectKey = project.NewSecret("phc_" + strings.Repeat(name, 40))
		if _, err := s.Registry.CreateConnection(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	_, body := s.get(page)
	for _, w := range []string{"2026-11-21 11:59:00", "$ai_generation", "gpt-&lt;b&gt;", "PostHog found it too large. ", "filter or sampling", "does not know whether", "waiting", "by 2026-11-21 12:00:00"} {
		if !strings.Contains(body, w) {
			t.Errorf("the page lacks %q", w)
		}
	}
	if _, body := s.get("/p/default/events/" + e.UUID); !strings.Contains(body, `hx-get="`+page+`"`) {
		t.Error("the event's page does not ask for it")
	}
	// Where content may be sent, viewing it is recorded in the audit log.
	before := len(s.Registry.AuditLog("default", 0))
	list := s.Registry.Snapshot().Connections("default")
	if _, err := s.Registry.UpdateConnection(t.Context(), "default", list[0].ID, func(c *project.Connection) error { c.PrivacyMode = false; return nil }); err != nil {
		t.Fatal(err)
	}
	s.client = s.as(s.person("second@example.com", project.RoleViewer, "default"))
	s.get(page)
	if log := s.Registry.AuditLog("default", 0); len(log) < before+2 || log[0].Action != "content.open" || log[0].Target != "event "+e.UUID {
		t.Errorf("nobody wrote down who looked: %+v", log[0])
	}
	if resp, _ := s.get("/p/default/events/0192b1c0-7e1a-7c3e-9a51-0123456789ab/sent"); resp.StatusCode != 404 {
		t.Errorf("no such event: %d", resp.StatusCode)
	}
}

// TestDeleteEvent deletes an event from its page: an administrator, who has typed
// the word.
func TestDeleteEvent(t *testing.T) {
	s := newSite(t, story()...)
	page, err := s.Query.Events(t.Context(), query.EventsQuery{Project: "default", Filter: query.Filter{User: "ada"}, Limit: 1})
	if err != nil || len(page.Events) != 1 {
		t.Fatalf("%v, %v", page, err)
	}
	path := "/p/default/events/" + page.Events[0].UUID
	s.client = s.as(s.person("member@example.com", project.RoleMember, "default"))
	if _, body := s.get(path); strings.Contains(body, "Delete this event") {
		t.Error("a member is offered to delete an event")
	}
	if resp, _ := s.send(path+"/delete", url.Values{"confirm": {"delete"}}); resp.StatusCode != 403 {
		t.Errorf("a member deletes an event: %d", resp.StatusCode)
	}
	s.client = s.as(s.person("second-admin@example.com", project.RoleAdmin, "default"))
	s.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if _, body := s.get(path); !strings.Contains(body, "Delete this event") || !strings.Contains(body, "PostHog cannot delete single events") {
		t.Error("an administrator is not offered to delete the event, or not told of PostHog")
	}
	if resp, body := s.send(path+"/delete", url.Values{"confirm": {"yes"}}); resp.StatusCode != 400 || !strings.Contains(body, "confirmation does not match") {
		t.Errorf("deleted without the word: %d", resp.StatusCode)
	}
	if resp, body := s.send(path+"/delete", url.Values{"confirm": {"delete"}, "person": {"on"}}); resp.StatusCode != 400 || !strings.Contains(body, "PostHog is connected") {
		t.Errorf("a person without a PostHog: %d", resp.StatusCode)
	}
	if resp, _ := s.get(path); resp.StatusCode != 200 {
		t.Fatalf("a refused deletion deleted: %d", resp.StatusCode)
	}
	if resp, _ := s.send(path+"/delete", url.Values{"confirm": {"delete"}}); resp.StatusCode != 303 {
		t.Errorf("not deleted: %d", resp.StatusCode)
	}
	if resp, _ := s.get(path); resp.StatusCode != 404 {
		t.Errorf("the page of a deleted event: %d", resp.StatusCode)
	}
	if log := s.Registry.AuditLog("default", 1); len(log) != 1 || log[0].Action != "event.delete" || log[0].Target != page.Events[0].UUID || log[0].Actor == "system" {
		t.Errorf("the audit log has %+v", log)
	}
}
