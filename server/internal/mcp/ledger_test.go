package mcp_test

import (
	"testing"

	"github.com/hedgerow/hedgerow/server/internal/project"
)

// What left, and what is chosen to leave.
func TestLedgerTools(t *testing.T) {
	f := newFixture(t)
	c := f.dial(f.admin)
	c.must("configure_posthog", args{"project_key": phc})
	got := c.must("get_posthog_ledger", args{"limit": 1})
	if at(got, "left", 0, "name") != "plan" || at(got, "held", 0, "reason") != "unknown_attribute" || len(at(got, "held").([]any)) != 1 || at(got, "not_shown") != float64(8) || at(got, "privacy_mode") != true {
		t.Errorf("ledger %v", got)
	}
	c.fails("get_posthog_ledger", args{"limit": 5000}, "limit")
	c.fails("send_posthog_properties", args{"send": true}, "no names")
	c.fails("send_posthog_properties", args{"properties": []string{"note"}}, "send")
	if got := c.must("send_posthog_properties", args{"send": true, "properties": []string{"note"}, "attributes": []string{"new_library.said"}}); at(got, "send_properties", 0) != "note" || at(got, "send_attributes", 0) != "new_library.said" {
		t.Errorf("sent %v", got)
	}
	if got := c.must("send_posthog_properties", args{"send": false, "properties": []string{"note"}}); len(at(got, "send_properties").([]any)) != 0 {
		t.Errorf("taken back %v", got)
	}
	c.fails("settle_posthog_names", args{"keep": true}, "no names to allow or block")
	if _, err := f.registry.UpdateConnection(t.Context(), project.DefaultID, f.connections()[0].ID, func(c *project.Connection) error {
		c.LegacyNames = &project.LegacyNames{At: c.CreatedAt, Attributes: []string{"new_library.said"}}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if got := c.must("get_posthog_ledger", nil); at(got, "taken_over", "attributes", 0) != "new_library.said" {
		t.Errorf("ledger %v", got)
	}
	if got := c.must("settle_posthog_names", args{"keep": false}); len(at(got, "send_attributes").([]any)) != 0 {
		t.Errorf("stopped %v", got)
	}

	// Who may not read content adds no names.
	if _, err := f.registry.UpdateProject(t.Context(), project.DefaultID, func(p *project.Project) error { p.Settings.ContentRole = project.RoleAdmin; return nil }); err != nil {
		t.Fatal(err)
	}
	f.dial(f.server.Key(project.DefaultID, project.RoleMember)).fails("send_posthog_properties", args{"send": true, "properties": []string{"note"}}, "cannot send more properties")
}
