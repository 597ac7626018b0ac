package web_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/server/internal/project"
)

// The page of a connection: what left, what stayed and why, a button to send it, and
// the names that an upgrade took over.
func TestLedgerPage(t *testing.T) {
	s := newSite(t)
	s.client = s.as(s.admin)
	c := project.NewConnection(project.DefaultID, "production")
	c.Host, c.ProjectKey = "https://ph.example.com", project.NewSecret("phc_0123456789012345678901234567890123456789abc")
	c, err := s.Registry.CreateConnection(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	page := "/p/default/connections/" + c.ID
	saved := func() project.Connection {
		c, _ := s.Registry.Snapshot().Connection(c.ID)
		return c
	}
	body := s.shows(page)
	for _, want := range []string{"Properties sent", "Properties withheld", ">plan<", ">new_library.said<", "attribute not on the allow list", "quotes the call’s content", `aria-label="Allow note"`, "7 more under names"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	s.send(page+"/send", url.Values{"name": {"new_library.said"}, "attribute": {"true"}, "on": {"true"}})
	s.send(page+"/send", url.Values{"name": {"note"}, "on": {"true"}})
	if c := saved(); strings.Join(c.SendAttributes, " ") != "new_library.said" || strings.Join(c.SendProperties, " ") != "note" {
		t.Errorf("sent %v and %v", c.SendProperties, c.SendAttributes)
	}
	if body := s.shows(page + "/ledger"); !strings.Contains(body, `aria-label="Block note"`) || strings.Contains(body, `aria-label="Allow note"`) {
		t.Error("the list does not say what is sent")
	}
	s.send(page+"/send", url.Values{"name": {"note"}})
	if c := saved(); len(c.SendProperties) != 0 {
		t.Errorf("taken back: %v", c.SendProperties)
	}
	var details []string
	for _, e := range s.Registry.AuditLog(project.DefaultID, 10) {
		details = append(details, e.Actor+": "+e.Detail)
	}
	if all := strings.Join(details, "; "); !strings.Contains(all, "send_properties + note") || !strings.Contains(all, "send_attributes + new_library.said") {
		t.Errorf("the audit log has %s", all)
	}

	// What an upgrade took over.
	over := func() {
		if _, err := s.Registry.UpdateConnection(t.Context(), project.DefaultID, c.ID, func(c *project.Connection) error {
			c.SendAttributes, c.LegacyNames = []string{"tenant.plan"}, &project.LegacyNames{At: c.CreatedAt, Attributes: []string{"tenant.plan"}}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	over()
	if body := s.shows(page); !strings.Contains(body, "Properties sent before the upgrade: 1<") || !strings.Contains(body, "tenant.plan") {
		t.Error("the page does not show what was taken over")
	}
	s.send(page+"/taken-over", url.Values{"keep": {"false"}})
	if c := saved(); c.LegacyNames != nil || len(c.SendAttributes) != 0 {
		t.Errorf("stopped: %+v, %v", c.LegacyNames, c.SendAttributes)
	}
	over()
	s.send(page+"/taken-over", url.Values{"keep": {"true"}})
	if c := saved(); c.LegacyNames != nil || len(c.SendAttributes) != 1 || strings.Contains(s.shows(page), "Sent before") {
		t.Errorf("kept: %+v, %v", c.LegacyNames, c.SendAttributes)
	}

	// Who may not read content sees the list, and no button.
	if _, err := s.Registry.UpdateProject(t.Context(), project.DefaultID, func(p *project.Project) error { p.Settings.ContentRole = project.RoleAdmin; return nil }); err != nil {
		t.Fatal(err)
	}
	s.client = s.as(s.person("member@example.com", project.RoleMember, "default"))
	if body := s.shows(page); strings.Contains(body, `aria-label="Allow note"`) || !strings.Contains(body, ">note<") {
		t.Error("a member without the content role has the button")
	}
	s.send(page+"/send", url.Values{"name": {"note"}, "on": {"true"}})
	if c := saved(); len(c.SendProperties) != 0 {
		t.Error("a member without the content role has sent a name")
	}
}
