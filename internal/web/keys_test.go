package web_test

import (
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/internal/project"
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
		if !strings.Contains(body, "Keys have scopes now") || !strings.Contains(body, "old dashboard") || !strings.Contains(body, "viewer): read<") || !strings.Contains(body, "no longer spends the provider keys") {
			t.Errorf("%s: the notice is not there:\n%s", c.name, body)
		}
		if strings.Contains(body, "Understood") != c.admin {
			t.Errorf("%s may put it away: %t", c.name, !c.admin)
		}
	}
	s.send("/p/default/keys/scopes", nil)
	if _, body := s.get("/p/default/keys"); strings.Contains(body, "Keys have scopes now") || !strings.Contains(body, "old dashboard") {
		t.Error("the notice is still there, or the key is gone")
	}
}
