package project_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

func TestScopes(t *testing.T) {
	for _, c := range []struct {
		have project.Scopes
		need []project.Scope
		want bool
	}{
		{nil, nil, true},
		{nil, []project.Scope{"read"}, false},
		{project.Scopes{"read"}, []project.Scope{"read"}, true},
		{project.Scopes{"write"}, []project.Scope{"read"}, false},
		{project.Scopes{"write"}, []project.Scope{"write", "gateway"}, false},
		{project.Scopes{"gateway", "write"}, []project.Scope{"write", "gateway"}, true},
		{project.Scopes{"admin"}, []project.Scope{"write", "gateway"}, true},
		{project.RoleViewer.Scopes(), []project.Scope{"gateway"}, false},
		{project.RoleViewer.Scopes(), []project.Scope{"ingest"}, false},
		{project.RoleMember.Scopes(), []project.Scope{"read", "write", "ingest", "gateway"}, true},
		{project.RoleMember.Scopes(), []project.Scope{"admin"}, false},
		{project.Role("owner").Scopes(), []project.Scope{"read"}, false},
	} {
		if got := c.have.Has(c.need...); got != c.want {
			t.Errorf("%v has %v: %t", c.have, c.need, got)
		}
	}
	for in, want := range map[string]string{"read": "read", " Gateway ,READ,read": "read, gateway", "admin,write": "write, admin"} {
		if got, err := project.ParseScopes(strings.Split(in, ",")...); err != nil || got.String() != want {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "reading", "read,", "*", "socket"} {
		_, err := project.ParseScopes(strings.Split(in, ",")...)
		wantCode(t, err, event.CodeInvalid)
	}
	for want, scopes := range map[project.Role][]project.Scopes{
		"": {nil, {"write"}, {"write", "gateway", "ingest"}}, project.RoleViewer: {{"read"}, {"read", "gateway"}}, project.RoleMember: {{"read", "write"}}, project.RoleAdmin: {{"admin"}},
	} {
		for _, s := range scopes {
			if got := s.ContentRole(); got != want {
				t.Errorf("%v reads prompts and answers as %q, want %q", s, got, want)
			}
		}
	}
	_, err := project.ParseScopes()
	wantCode(t, err, event.CodeInvalid)
	if e := project.MissingScope(project.Scopes{"read"}, "write", "gateway"); e.Code != event.CodeForbidden || !strings.Contains(e.Message, "scopes write, gateway") || !strings.Contains(e.Hint, "--scopes write,gateway") {
		t.Errorf("%v", e)
	}
}

// A key from an older version has the scopes of its role, in any registry,
// until they are confirmed: then it stores them.
func TestKeysOfBefore(t *testing.T) {
	kv := bucket(t, 1)
	r := open(t, kv, project.Options{})
	if _, err := r.Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	made := map[project.Role]string{}
	for _, role := range []project.Role{project.RoleViewer, project.RoleMember, project.RoleAdmin} {
		plain, k, err := r.CreateAPIKey(t.Context(), project.DefaultID, string(role), role)
		if err != nil {
			t.Fatal(err)
		}
		made[role] = plain
		// The record as 3b558a2 writes it.
		e, err := kv.Get(t.Context(), "key."+k.ID)
		if err != nil {
			t.Fatal(err)
		}
		scopes := `,"scopes":["` + strings.ReplaceAll(k.Scopes.String(), ", ", `","`) + `"]`
		old := strings.Replace(string(e.Value()), scopes, "", 1)
		if old == string(e.Value()) {
			t.Fatalf("%s has no %s", e.Value(), scopes)
		}
		if _, err := kv.Update(t.Context(), "key."+k.ID, []byte(old), e.Revision()); err != nil {
			t.Fatal(err)
		}
	}
	_ = r.Close()
	r = open(t, kv, project.Options{})
	if n := len(r.Snapshot().UnscopedKeys(project.DefaultID)); n != 3 {
		t.Errorf("%d keys of before, want 3: the first start's key is no such", n)
	}
	check := func() {
		t.Helper()
		for role, plain := range made {
			_, k, ok := r.Snapshot().ProjectByAPIKey(plain)
			if !ok || !slices.Equal(k.May(), role.Scopes()) || k.Role != role {
				t.Errorf("%s: %t, may %v", role, ok, k.May())
			}
		}
	}
	check()
	if err := r.ConfirmScopes(t.Context(), project.DefaultID); err != nil {
		t.Fatal(err)
	}
	check()
	if n := len(r.Snapshot().UnscopedKeys(project.DefaultID)); n != 0 {
		t.Errorf("%d keys are to be confirmed again", n)
	}
	if e := r.AuditLog(project.DefaultID, 1)[0]; e.Action != "key.confirm_scopes" || strings.Count(e.Detail, "hr_") != 3 {
		t.Errorf("the audit log: %+v", e)
	}
	before := r.Snapshot().Revision()
	if err := r.ConfirmScopes(t.Context(), project.DefaultID); err != nil || r.Snapshot().Revision() != before {
		t.Errorf("confirming nothing: %v", err)
	}
}
