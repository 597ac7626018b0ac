package api_test

import (
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/server/internal/project"
)

func TestKeys(t *testing.T) {
	f := newFixture(t)
	a := f.ask(f.admin, "POST", "/api/v1/projects/default/keys", `{"name":"ci","role":"viewer"}`)
	k, _ := a.body["key"].(map[string]any)
	plain, _ := k["key"].(string)
	if a.status != 200 || k["role"] != "viewer" || len(plain) != 43 {
		t.Fatalf("made: %d %s", a.status, a.raw)
	}
	if a := f.ask(plain, "GET", "/api/v1/events", nil); a.status != 200 {
		t.Errorf("the new key: %d", a.status)
	}
	list := f.ask(f.admin, "GET", "/api/v1/projects/default/keys", nil)
	if strings.Contains(list.raw, plain) || strings.Contains(list.raw, "hash") || !strings.Contains(list.raw, plain[:10]) {
		t.Errorf("list: %s", list.raw)
	}
	if a := f.ask(f.admin, "POST", "/api/v1/projects/default/keys", `{"name":"ci","role":"root"}`); a.status != 400 {
		t.Errorf("no such role: %d", a.status)
	}
	at := "/api/v1/projects/default/keys/" + k["id"].(string)
	if a := f.ask(f.admin, "PATCH", at, `{"surface":" Playbook "}`); a.status != 200 || !strings.Contains(a.raw, `"surface":"Playbook"`) {
		t.Errorf("a key's surface: %d %s", a.status, a.raw)
	}
	if a := f.ask(f.admin, "PATCH", at, `{"surface":"`+strings.Repeat("s", 101)+`"}`); a.status != 400 {
		t.Errorf("a surface that is too long: %d %s", a.status, a.raw)
	}
	if a := f.ask(f.other, "PATCH", "/api/v1/projects/"+f.otherID+"/keys/"+k["id"].(string), `{"surface":"x"}`); a.status != 404 {
		t.Errorf("another project's key: %d %s", a.status, a.raw)
	}
	if a := f.ask(f.other, "DELETE", "/api/v1/projects/"+f.otherID+"/keys/"+k["id"].(string), nil); a.status != 404 {
		t.Errorf("another project revokes it: %d", a.status)
	}
	if a := f.ask(f.admin, "DELETE", "/api/v1/projects/default/keys/"+k["id"].(string), nil); a.status != 200 {
		t.Errorf("revoked: %d %s", a.status, a.raw)
	}
	if a := f.ask(plain, "GET", "/api/v1/events", nil); a.status != 401 {
		t.Errorf("the revoked key: %d", a.status)
	}
	const provider = "sk-proj-0123456789abcdef"
	a = f.ask(f.admin, "PUT", "/api/v1/projects/default/provider-keys/openai", map[string]string{"key": provider})
	shown := f.ask(f.admin, "GET", "/api/v1/projects", nil)
	if a.status != 200 || !strings.Contains(shown.raw, `"provider_keys":["openai"]`) || strings.Contains(a.raw+shown.raw+f.log.String(), provider) {
		t.Errorf("provider key: %d %s %s", a.status, a.raw, shown.raw)
	}
	if got, _ := f.registry.Snapshot().ProviderKey(project.DefaultID, "openai"); got.Reveal() != provider {
		t.Error("the provider's key is not kept")
	}
	if a := f.ask(f.admin, "DELETE", "/api/v1/projects/default/provider-keys/openai", nil); a.status != 200 {
		t.Errorf("deleted: %d %s", a.status, a.raw)
	}
	// Who did it is in the audit log, under the key's id.
	if log := f.registry.AuditLog(project.DefaultID, 1); len(log) != 1 || !strings.HasPrefix(log[0].Actor, "key k_") {
		t.Errorf("audit %+v", log)
	}
}
