package api_test

import (
	"testing"

	"github.com/tidwall/gjson"

	"github.com/hedgerow/hedgerow/server/internal/project"
)

// The ledger by the API: names, and what is chosen to be sent.
func TestLedger(t *testing.T) {
	f := newFixture(t)
	c := project.NewConnection("default", "production")
	c.Host, c.ProjectKey = "https://ph.example.com", project.NewSecret("phc_0123456789012345678901234567890123456789abc")
	c, err := f.registry.CreateConnection(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	const path = "/api/v1/connections/production"
	a := f.ask(f.viewer, "GET", path+"/ledger", nil)
	if a.status != 200 || gjson.Get(a.raw, "left.0.name").String() != "plan" || gjson.Get(a.raw, "left.0.count").String() != "3" || gjson.Get(a.raw, "left.0.kinds.0").String() != "text" || gjson.Get(a.raw, "held.0.reason").String() != "unknown_attribute" ||
		gjson.Get(a.raw, "held.0.attribute").String() != "true" || gjson.Get(a.raw, "more_held").String() != "7" || gjson.Get(a.raw, "privacy_mode").String() != "true" || gjson.Get(a.raw, "taken_over").String() != "" || gjson.Get(a.raw, "send_properties").String() != "[]" {
		t.Fatalf("%d %s", a.status, a.raw)
	}
	send := map[string]any{"send_attributes": []string{"new_library.said", " new_library.said "}, "send_properties": []string{"note"}}
	if a := f.ask(f.viewer, "PUT", path, send); a.status != 403 {
		t.Errorf("a viewer: %d %s", a.status, a.raw)
	}
	if a := f.ask(f.member, "PUT", path, send); a.status != 200 || gjson.Get(a.raw, "connection.send_attributes").String() != `["new_library.said"]` {
		t.Fatalf("%d %s", a.status, a.raw)
	}
	if a := f.ask(f.member, "GET", path+"/ledger", nil); gjson.Get(a.raw, "send_properties.0").String() != "note" {
		t.Errorf("%s", a.raw)
	}
	// Who changes connections and may not read content adds no names, and takes some back.
	if _, err := f.registry.UpdateProject(t.Context(), "default", func(p *project.Project) error { p.Settings.ContentRole = project.RoleAdmin; return nil }); err != nil {
		t.Fatal(err)
	}
	if a := f.ask(f.member, "PUT", path, map[string]any{"send_properties": []string{"note", "another"}}); a.status != 403 {
		t.Errorf("without the content role: %d %s", a.status, a.raw)
	}
	if a := f.ask(f.member, "PUT", path, map[string]any{"send_properties": []string{}}); a.status != 200 || gjson.Get(a.raw, "connection.send_properties").String() != "[]" {
		t.Errorf("taking back: %d %s", a.status, a.raw)
	}

	// What an upgrade took over waits for a person's word.
	if a := f.ask(f.member, "POST", path+"/ledger/taken-over", map[string]any{"keep": true}); a.status != 409 {
		t.Errorf("nothing to keep: %d %s", a.status, a.raw)
	}
	over := func() {
		t.Helper()
		if _, err := f.registry.UpdateConnection(t.Context(), "default", c.ID, func(c *project.Connection) error {
			c.SendAttributes = []string{"tenant.plan"}
			c.LegacyNames = &project.LegacyNames{At: c.CreatedAt, Attributes: []string{"tenant.plan"}}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	over()
	if a := f.ask(f.member, "GET", path+"/ledger", nil); gjson.Get(a.raw, "taken_over.attributes.0").String() != "tenant.plan" {
		t.Errorf("%s", a.raw)
	}
	if a := f.ask(f.member, "POST", path+"/ledger/taken-over", map[string]any{"keep": true}); a.status != 403 {
		t.Errorf("keeping without the content role: %d %s", a.status, a.raw)
	}
	if a := f.ask(f.member, "POST", path+"/ledger/taken-over", map[string]any{"keep": false}); a.status != 200 || gjson.Get(a.raw, "connection.send_attributes").String() != "[]" {
		t.Errorf("stopping: %d %s", a.status, a.raw)
	}
	over()
	if a := f.ask(f.admin, "POST", path+"/ledger/taken-over", map[string]any{"keep": true}); a.status != 200 || gjson.Get(a.raw, "connection.send_attributes").String() != `["tenant.plan"]` {
		t.Errorf("keeping: %d %s", a.status, a.raw)
	}
	if a := f.ask(f.admin, "GET", path+"/ledger", nil); gjson.Get(a.raw, "taken_over").String() != "" {
		t.Errorf("%s", a.raw)
	}
}
