package web_test

import (
	"html"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/server/internal/project"
)

// TestKeysOfBefore says once what keys of before there were scopes may do now.
func TestKeysOfBefore(t *testing.T) {
	s := newSite(t)
	_, k, err := s.Registry.CreateAPIKey(t.Context(), "default", "old dashboard", project.RoleViewer)
	if err != nil {
		t.Fatal(err)
	}
	s.Unscope(k.ID)
	member := s.as(s.person("m@example.com", project.RoleMember, "default"))
	for _, c := range []struct {
		name  string
		admin bool
	}{{"member", false}, {"admin", true}} {
		s.client = member
		if c.admin {
			s.client = s.as(s.admin)
		}
		_, body := s.get("/p/default/keys")
		if !strings.Contains(body, "API keys now have scopes") || !strings.Contains(body, "old dashboard") || !strings.Contains(body, "viewer): read<") || !strings.Contains(body, "can no longer call models through the gateway") {
			t.Errorf("%s: the notice is not there:\n%s", c.name, body)
		}
		if strings.Contains(body, "Got it") != c.admin {
			t.Errorf("%s may put it away: %t", c.name, !c.admin)
		}
	}
	s.send("/p/default/keys/scopes", nil)
	if _, body := s.get("/p/default/keys"); strings.Contains(body, "API keys now have scopes") || !strings.Contains(body, "old dashboard") {
		t.Error("the notice is still there, or the key is gone")
	}
}

// TestRequireKeys says on the form of another project where calls without a key
// go, and offers the switch there and apart.
func TestRequireKeys(t *testing.T) {
	s := newSite(t)
	s.client = s.as(s.admin)
	const notice = "Calls without a key are recorded in the project “default” until you require keys."
	says := func(body string) bool {
		return strings.Contains(html.UnescapeString(body), strings.NewReplacer("“", `"`, "”", `"`).Replace(notice))
	}
	required := func() bool { return s.Registry.Snapshot().Server().RequireKey }
	if _, body := s.get("/projects"); !says(body) || !strings.Contains(body, `name="require_key" value="on"`) {
		t.Errorf("the form does not say it:\n%s", body)
	}
	if _, body := s.send("/projects", url.Values{"name": {"Orchard"}}); !says(body) || required() {
		t.Errorf("the answer does not say it, or keys are required: %t", required())
	}
	if _, body := s.send("/projects/require-key", url.Values{"require_key": {"true"}}); !required() || !strings.Contains(body, "are now refused") || says(body) {
		t.Errorf("the switch: %t", required())
	}
	if _, body := s.send("/projects/require-key", url.Values{"require_key": {"false"}}); required() || !says(body) {
		t.Errorf("switched back: %t", required())
	}
	if _, body := s.send("/projects", url.Values{"name": {"Meadow"}, "require_key": {"on"}}); !required() || says(body) {
		t.Errorf("with a new project: %t", required())
	}
	s.fixed = true
	if resp, body := s.send("/projects/require-key", url.Values{"require_key": {"false"}}); resp.StatusCode != 409 || !required() || !strings.Contains(body, "set on the server") {
		t.Errorf("a switch that changes nothing: %d", resp.StatusCode)
	}
	if _, body := s.get("/projects"); strings.Contains(body, "/projects/require-key") || !strings.Contains(body, "This is set on the server") {
		t.Error("a switch that changes nothing is offered")
	}
	s.client = s.as(s.person("v@example.com", project.RoleViewer, "default"))
	if _, body := s.get("/projects"); strings.Contains(body, "require_key") || strings.Contains(body, "Meadow") {
		t.Error("a viewer is offered the switch")
	}
}

// TestViewerSeesNoToken walks every page as somebody who may only look, and looks
// for the project token, for keys and for the beginnings of keys. Members see the
// token, on the page of keys.
func TestViewerSeesNoToken(t *testing.T) {
	s := newSite(t, sample("default"))
	const phc, phx, sk = "phc_0123456789abcdefghijklmnopqrstuv", "phx_0123456789abcdefghijklmnopqrstuv", "sk-proj-0123456789abcdefghijkl"
	c := project.NewConnection("default", "production")
	c.ProjectKey, c.PersonalKey = project.NewSecret(phc), project.NewSecret(phx)
	c, err := s.Registry.CreateConnection(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Registry.SetProviderKey(t.Context(), "default", "openai", sk); err != nil {
		t.Fatal(err)
	}
	s.Key("default", project.RoleMember)
	p, _ := s.Registry.Snapshot().Project("default")
	secrets := []string{p.Token, phc, phx, sk, phc[:10], phx[:10], sk[:12], "whsec_"}
	for _, k := range s.Registry.Snapshot().APIKeys("default") {
		secrets = append(secrets, k.Prefix)
	}
	people := map[string]*http.Client{"viewer": s.as(s.person("viewer@example.com", project.RoleViewer, "default")), "member": s.as(s.person("member@example.com", project.RoleMember, "default"))}
	for name, client := range people {
		s.client = client
		answered, token := 0, 0
		for _, rt := range s.web.Table() {
			method, path := fill(strings.NewReplacer("{connection}", c.ID, "{range}", "7d").Replace(rt.Pattern), "default", s)
			if method != "GET" || strings.HasSuffix(path, "/live") {
				continue
			}
			resp, body := s.get(path)
			if resp.StatusCode == 200 {
				answered++
			}
			for _, secret := range secrets {
				switch {
				case !strings.Contains(body, secret):
				case name == "member" && path == "/p/default/keys" && (secret == p.Token || strings.HasPrefix(secret, "hr_")):
					token++
				default:
					t.Errorf("%s: %s shows %q", name, path, secret)
				}
			}
		}
		if answered < 25 || (name == "member") != (token > 0) {
			t.Errorf("%s: %d pages answer, the token and keys' beginnings are seen %d times", name, answered, token)
		}
	}
}
