package api_test

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/server/internal/api"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// filled puts something into each place of a path.
func filled(path string) string {
	path = strings.NewReplacer("{project}", "default", "{field}", "model", "{by}", "surface").Replace(path)
	return placeholder.ReplaceAllString(path, "none")
}

// TestAuthorization asks every operation of the OpenAPI document without a key
// and with a key of each scope. What each answers is in
// testdata/authorization.golden; whether a key may ask is worked out from what
// the document declares, so that an operation without a declaration fails. go
// test -update writes the table again.
func TestAuthorization(t *testing.T) {
	f := newFixture(t)
	d := openAPI(t)
	needs := api.Needs()
	keys := []string{"no key"}
	plain := map[string]string{"no key": ""}
	has := map[string]project.Scopes{}
	for _, s := range project.AllScopes() {
		keys = append(keys, string(s))
		plain[string(s)], has[string(s)] = f.server.ScopedKey(project.DefaultID, s), project.Scopes{s}
	}
	for _, r := range []project.Role{project.RoleViewer, project.RoleMember} {
		keys = append(keys, string(r))
		plain[string(r)], has[string(r)] = f.server.Key(project.DefaultID, r), r.Scopes()
	}
	var table bytes.Buffer
	fmt.Fprintf(&table, "%-78s %-14s", "operation", "needs")
	for _, k := range keys {
		fmt.Fprintf(&table, " %8s", k)
	}
	table.WriteByte('\n')
	for _, path := range slices.Sorted(maps.Keys(d.Paths)) {
		for _, method := range slices.Sorted(maps.Keys(d.Paths[path])) {
			op, name := d.Paths[path][method], strings.ToUpper(method)+" "+path
			open := name == "GET /api/v1/openapi.json"
			if !open && (len(op.Security) != 1 || len(op.scopes()) == 0) {
				t.Errorf("%s declares no scope", name)
				continue
			}
			if !slices.Equal(op.scopes(), needs[name]) {
				t.Errorf("%s: the document declares %v, the route asks for %v", name, op.scopes(), needs[name])
			}
			var body any
			if op.RequestBody != nil {
				body = "{}"
			}
			fmt.Fprintf(&table, "%-78s %-14s", name, strings.Join(op.scopes(), "+"))
			for _, k := range keys {
				a := f.ask(plain[k], strings.ToUpper(method), filled(path), body)
				fmt.Fprintf(&table, " %8d", a.status)
				var need []project.Scope
				for _, s := range op.scopes() {
					need = append(need, project.Scope(s))
				}
				socket := slices.Contains(op.scopes(), "socket")
				switch {
				case open:
					if a.status != 200 {
						t.Errorf("%s with %s: %d", name, k, a.status)
					}
				case k == "no key":
					if a.status != 401 || a.errorCode() != "unauthorized" {
						t.Errorf("%s without a key: %d %s", name, a.status, a.raw)
					}
				case socket || !has[k].Has(need...):
					if a.status != 403 || a.errorCode() != "forbidden" {
						t.Errorf("%s with %s: %d %s, want 403", name, k, a.status, a.raw)
					}
					for _, s := range need {
						if !socket && !strings.Contains(a.raw, string(s)) {
							t.Errorf("%s with %s: the refusal does not name %s: %s", name, k, s, a.raw)
						}
					}
				case a.status == 401 || a.status == 403 || a.status >= 500:
					t.Errorf("%s with %s: %d %s, though the scope suffices", name, k, a.status, a.raw)
				}
			}
			table.WriteByte('\n')
		}
	}
	path := filepath.Join("testdata", "authorization.golden")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, table.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(table.Bytes(), want) {
		t.Errorf("%s has changed; if that is meant, run go test -update. Now:\n%s", path, table.String())
	}
}

// Scopes of a key's own: made, listed, refused where they are none.
func TestKeyScopes(t *testing.T) {
	f := newFixture(t)
	const keys = "/api/v1/projects/default/keys"
	a := f.ask(f.admin, "POST", keys, `{"name":"proxy","scopes":["gateway","Read","read"]}`)
	k, _ := a.body["key"].(map[string]any)
	if a.status != 200 || fmt.Sprint(k["scopes"]) != "[read gateway]" || k["role"] != "" {
		t.Errorf("a key with scopes: %d %s", a.status, a.raw)
	}
	plain, _ := k["key"].(string)
	if a := f.ask(plain, "GET", "/api/v1/events", nil); a.status != 200 {
		t.Errorf("reading: %d %s", a.status, a.raw)
	}
	if a := f.ask(plain, "POST", "/api/v1/events", `{"event":"e","distinct_id":"d"}`); a.status != 403 || !strings.Contains(a.raw, "scope ingest and has read, gateway") {
		t.Errorf("sending: %d %s", a.status, a.raw)
	}
	if a := f.ask(f.admin, "GET", keys, nil); !strings.Contains(a.raw, `"last_used_at":"2026-03-30T15:04:05Z"`) || !strings.Contains(a.raw, `"last_used_at":null`) {
		t.Errorf("when keys were used: %s", a.raw)
	}
	for role, want := range map[string]string{"viewer": "[read]", "member": "[read write ingest gateway]", "admin": "[read write ingest gateway admin]", "": "[read write ingest gateway admin]"} {
		a := f.ask(f.admin, "POST", keys, map[string]string{"name": "n", "role": role})
		k, _ := a.body["key"].(map[string]any)
		if fmt.Sprint(k["scopes"]) != want {
			t.Errorf("role %q has the scopes %v, want %s", role, k["scopes"], want)
		}
	}
	if a := f.ask(f.admin, "GET", keys, nil); !strings.Contains(a.raw, `"scopes":["read","gateway"]`) || !strings.Contains(a.raw, `"role":"member","scopes":["read","write","ingest","gateway"]`) {
		t.Errorf("the list: %s", a.raw)
	}
	for _, body := range []string{`{"name":"n","scopes":["all"]}`, `{"name":"n","scopes":[]}`, `{"name":"n","scopes":["read"],"role":"viewer"}`, `{"name":"n","role":"owner"}`} {
		if a := f.ask(f.admin, "POST", keys, body); a.status != 400 {
			t.Errorf("%s: %d %s, want 400", body, a.status, a.raw)
		}
	}
}

// A changed host requires the keys again, and what could show prompts and
// answers to others needs the role that may read them.
func TestConnectionOfAnotherHost(t *testing.T) {
	f := newFixture(t)
	const path, eu = "/api/v1/connections/production", `"host":"https://eu.i.posthog.com"`
	key := func(name, value string) string { return `"` + name + `":"` + value + `"` }
	const phc, phx = "phc_0123456789abcdef0123456789", "phx_0123456789abcdef0123456789"
	if a := f.ask(f.member, "PUT", path, "{"+key("project_key", phc)+","+key("personal_key", phx)+"}"); a.status != 200 {
		t.Fatal(a.raw)
	}
	tested := len(f.delivery.tested)
	for _, body := range []string{"{" + eu + "}", "{" + eu + `,"skip_test":true}`, "{" + eu + "," + key("personal_key", phx) + "}", "{" + eu + `,"privacy_mode":true,"enabled":true}`} {
		if a := f.ask(f.admin, "PUT", path, body); a.status != 400 || !strings.Contains(a.raw, "set for the old one") || !strings.Contains(a.raw, "again") {
			t.Errorf("%s: %d %s", body, a.status, a.raw)
		}
	}
	if len(f.delivery.tested) != tested {
		t.Error("a kept key was sent to another host")
	}
	a := f.ask(f.member, "PUT", path, "{"+eu+","+key("project_key", phc)+"}")
	if a.status != 200 || !strings.Contains(a.raw, `"personal_key_set":false`) {
		t.Errorf("with the project key: %d %s", a.status, a.raw)
	}
	if got := f.delivery.tested[len(f.delivery.tested)-1]; got.Host != "https://eu.i.posthog.com" || !got.PersonalKey.IsZero() {
		t.Errorf("tested with %+v", got)
	}
	if _, err := f.registry.UpdateProject(t.Context(), project.DefaultID, func(p *project.Project) error { p.Settings.ContentRole = project.RoleAdmin; return nil }); err != nil {
		t.Fatal(err)
	}
	tested = len(f.delivery.tested)
	for path, body := range map[string]string{
		path:                       `{"privacy_mode":false}`,
		path + "?":                 `{"host":"https://us.i.posthog.com",` + key("project_key", phc) + "}",
		"/api/v1/connections/mine": `{"privacy_mode":false,` + key("project_key", "phc_mine56789abcdef0123456789") + "}",
		path + "?project=default":  `{"privacy_mode":false,"skip_test":true}`,
	} {
		if a := f.ask(f.member, "PUT", path, body); a.status != 403 || a.errorCode() != "forbidden" || !strings.Contains(a.raw, "prompts and responses") {
			t.Errorf("%s %s: %d %s", path, body, a.status, a.raw)
		}
	}
	if len(f.delivery.tested) != tested {
		t.Error("refused after a test")
	}
	if _, err := f.registry.UpdateProject(t.Context(), project.DefaultID, func(p *project.Project) error { p.Settings.ContentRole = project.RoleViewer; return nil }); err != nil {
		t.Fatal(err)
	}
	if a := f.ask(f.server.ScopedKey(project.DefaultID, project.ScopeWrite), "PUT", path, `{"privacy_mode":false}`); a.status != 403 || !strings.Contains(a.raw, "without the scope read") {
		t.Errorf("a key that may not read: %d %s", a.status, a.raw)
	}
	if a := f.ask(f.admin, "PUT", path, `{"privacy_mode":false}`); a.status != 200 {
		t.Errorf("an administrator: %d %s", a.status, a.raw)
	}
}

// The response that creates a second project says where calls without a key go.
func TestRequireKey(t *testing.T) {
	f := newFixture(t)
	local := func(method, target, body string) answer { return ask(t, f.local, "", method, target, body) }
	const notice = `Calls without a key are recorded in the project \"default\" until you require keys. hedgerow project require-keys`
	if a := local("POST", "/api/v1/projects", `{"name":"orchard"}`); a.status != 200 || !strings.Contains(a.raw, notice) {
		t.Errorf("a second project: %d %s", a.status, a.raw)
	}
	if a := f.ask(f.admin, "GET", "/api/v1/server", nil); !strings.Contains(a.raw, `{"require_key":false,"require_key_fixed":false,"keyless_project":"default"}`) {
		t.Errorf("%s", a.raw)
	}
	if a := local("PATCH", "/api/v1/server", `{}`); a.status != 200 || !strings.Contains(a.raw, `"require_key":false`) {
		t.Errorf("nothing to change: %d %s", a.status, a.raw)
	}
	if a := local("POST", "/api/v1/projects", `{"name":"meadow","require_key":true}`); a.status != 200 || strings.Contains(a.raw, "notice") || !f.registry.Snapshot().Server().RequireKey {
		t.Errorf("with the switch: %d %s", a.status, a.raw)
	}
	if a := f.ask(f.admin, "GET", "/api/v1/server", nil); !strings.Contains(a.raw, `{"require_key":true,"require_key_fixed":false,"keyless_project":""}`) {
		t.Errorf("%s", a.raw)
	}
	f.fixed = true
	if a := local("PATCH", "/api/v1/server", `{"require_key":false}`); a.status != 409 || !strings.Contains(a.raw, "set on the server") {
		t.Errorf("a switch that changes nothing: %d %s", a.status, a.raw)
	}
}

// TestReadKeySeesNoToken walks every GET route with a key that may only read, and
// looks for the project token, for keys and for the beginnings of keys.
func TestReadKeySeesNoToken(t *testing.T) {
	f := newFixture(t)
	const phc, phx, sk = "phc_0123456789abcdefghijklmnopqrstuv", "phx_0123456789abcdefghijklmnopqrstuv", "sk-proj-0123456789abcdefghijkl"
	if a := f.ask(f.admin, "PUT", "/api/v1/connections/production", `{"project_key":"`+phc+`","personal_key":"`+phx+`"}`); a.status != 200 {
		t.Fatal(a.raw)
	}
	if err := f.registry.SetProviderKey(t.Context(), project.DefaultID, "openai", sk); err != nil {
		t.Fatal(err)
	}
	if a := f.ask(f.admin, "POST", "/api/v1/prompts", `{"name":"p","messages":[{"role":"user","content":"x"}]}`); a.status != 200 {
		t.Fatal(a.raw)
	}
	if a := f.ask(f.admin, "POST", "/api/v1/datasets", `{"name":"none"}`); a.status != 200 { // what filled fills in
		t.Fatal(a.raw)
	}
	p, _ := f.registry.Snapshot().Project(project.DefaultID)
	secrets := []string{p.Token, "phc_", "phx_", "sk-proj", f.admin, f.member, f.viewer, "whsec_"}
	for _, k := range f.registry.Snapshot().APIKeys(project.DefaultID) {
		secrets = append(secrets, k.Prefix)
	}
	key := f.server.ScopedKey(project.DefaultID, project.ScopeRead)
	walk := func(key string) (answered int, leaks []string) {
		for path, ops := range openAPI(t).Paths {
			if _, get := ops["get"]; !get || path == "/api/v1/openapi.json" { // which explains what keys look like
				continue
			}
			target := strings.NewReplacer("{uuid}", f.events[0].UUID, "{name}", "p", "{version}", "1", "{field}", "model", "{project}", project.DefaultID).Replace(path)
			if path == "/api/v1/traces/{id}" {
				target = "/api/v1/traces/trace-0"
			}
			r := httptest.NewRequestWithContext(t.Context(), "GET", filled(target), nil)
			r.Header.Set("Authorization", "Bearer "+key)
			w := httptest.NewRecorder()
			f.api.ServeHTTP(w, r)
			if w.Code == 200 {
				answered++
			}
			for _, s := range secrets {
				if strings.Contains(w.Body.String(), s) {
					leaks = append(leaks, path+" shows "+s)
				}
			}
		}
		return answered, leaks
	}
	answered, leaks := walk(key)
	if answered < 20 {
		t.Errorf("only %d routes answer", answered)
	}
	for _, l := range leaks {
		t.Error(l)
	}
	if _, leaks := walk(f.viewer); len(leaks) > 0 {
		t.Errorf("a viewer's key: %v", leaks)
	}
	// The walk finds what it looks for: with write the token is there.
	if _, leaks := walk(f.member); !slices.Contains(leaks, "/api/v1/projects shows "+p.Token) {
		t.Errorf("a member's key does not see the token: %v", leaks)
	}
	for key, want := range map[string]bool{f.server.ScopedKey(project.DefaultID, project.ScopeRead, project.ScopeWrite): true, f.admin: true, f.server.ScopedKey(project.DefaultID, project.ScopeRead, project.ScopeIngest, project.ScopeGateway): false} {
		if a := f.ask(key, "GET", "/api/v1/projects", nil); strings.Contains(a.raw, p.Token) != want || strings.Contains(a.raw, `"token"`) != want {
			t.Errorf("the token is there: %t, want %t: %s", !want, want, a.raw)
		}
	}
}
