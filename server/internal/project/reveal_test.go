package project_test

import (
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// Keys stay with the host that they were given for.
func TestKeysOfAHost(t *testing.T) {
	kv := bucket(t, 1)
	r := open(t, kv, project.Options{})
	if _, err := r.Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	c, err := r.CreateConnection(ctx, connection("a"))
	if err != nil {
		t.Fatal(err)
	}
	const evil = "https://evil.example.com"
	move := func(host string, more ...func(*project.Connection)) (project.Connection, error) {
		return r.UpdateConnection(ctx, project.DefaultID, c.ID, func(c *project.Connection) error {
			c.MoveTo(host)
			for _, f := range more {
				f(c)
			}
			return nil
		})
	}
	_, err = move(evil)
	wantCode(t, err, event.CodeInvalid)
	// Without MoveTo as well: the registry checks it, not its callers.
	_, err = r.UpdateConnection(ctx, project.DefaultID, c.ID, func(c *project.Connection) error { c.Host = evil; return nil })
	wantCode(t, err, event.CodeInvalid)
	_, err = r.UpdateConnection(ctx, project.DefaultID, c.ID, func(c *project.Connection) error {
		c.Host, c.ProjectKey = evil, project.NewSecret("phc_evilevilevilevilevil")
		return nil
	})
	wantCode(t, err, event.CodeInvalid) // the personal key
	// A caller's copy is bound to the host too: a test before saving uses it.
	have, _ := r.Snapshot().Connection(c.ID)
	have.Host = evil
	if have.CheckKeys() == nil {
		t.Error("kept keys may go to another host")
	}
	for _, same := range []string{"us.i.posthog.com", "HTTPS://US.i.posthog.com/", ""} {
		if got, err := move(same); err != nil || got.Host != project.DefaultHost || got.PersonalKey.IsZero() {
			t.Errorf("the same host as %q: %v, %+v", same, err, got)
		}
	}
	got, err := move(evil, func(c *project.Connection) { c.ProjectKey = project.NewSecret("phc_evilevilevilevilevil") })
	if err != nil || !got.PersonalKey.IsZero() || got.PersonalKeyLastFour != "" {
		t.Errorf("with the project key again the personal key is %q, %v", got.PersonalKeyLastFour, err)
	}
	if e := r.AuditLog(project.DefaultID, 1)[0]; !strings.Contains(e.Detail, "host: https://us.i.posthog.com → https://evil.example.com") || !strings.Contains(e.Detail, "personal key removed") || !strings.Contains(e.Detail, "project key replaced") {
		t.Errorf("the audit log: %+v", e)
	}
	// The same keys, entered again, may be sent there.
	if got, err = move("https://eu.i.posthog.com", func(c *project.Connection) {
		c.ProjectKey, c.PersonalKey = project.NewSecret("phc_evilevilevilevilevil"), project.NewSecret(phx)
	}); err != nil || got.PersonalKey.Reveal() != phx {
		t.Errorf("both keys again: %v", err)
	}
	// The bucket's record can be decrypted for its host only.
	e, err := kv.Get(ctx, "connection."+c.ID)
	if err != nil {
		t.Fatal(err)
	}
	moved := strings.Replace(string(e.Value()), `"host":"https://eu.i.posthog.com"`, `"host":"https://evil.example.com"`, 1)
	if moved == string(e.Value()) {
		t.Fatal(moved)
	}
	for _, value := range []string{moved, strings.ReplaceAll(moved, "@https://eu.i.posthog.com", "@https://evil.example.com")} {
		if _, err := kv.Put(ctx, "connection."+c.ID, []byte(value)); err != nil {
			t.Fatal(err)
		}
		other := open(t, kv, project.Options{})
		if got, ok := other.Snapshot().Connection(c.ID); ok && (!got.ProjectKey.IsZero() || !got.PersonalKey.IsZero()) {
			t.Errorf("a key opens in a record of another host: %s", value)
		}
	}
	// A rotation of the secret key keeps the binding.
	if _, err := kv.Put(ctx, "connection."+c.ID, e.Value()); err != nil {
		t.Fatal(err)
	}
	if err := r.Rotate(ctx, key2); err != nil {
		t.Fatal(err)
	}
	other := open(t, kv, project.Options{SecretKey: key2})
	if got, _ := other.Snapshot().Connection(c.ID); got.PersonalKey.Reveal() != phx || got.ProjectKey.Reveal() != "phc_evilevilevilevilevil" {
		t.Error("the keys are lost by a rotation")
	}
}

// A connection that 3b558a2 has written keeps its keys, and they are bound to its
// host.
func TestSealedBefore(t *testing.T) {
	kv := bucket(t, 1)
	r := open(t, kv, project.Options{})
	if _, err := r.Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The record of an older version: sealed under the name of the field alone.
	c := connection("old")
	c.ID = "c_old"
	b, err := project.EncodeUnbound(r, &c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(t.Context(), "connection.c_old", b); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(b), "@") {
		t.Fatalf("%s", b)
	}
	_ = r.Close()
	r = open(t, kv, project.Options{})
	got, ok := r.Snapshot().Connection("c_old")
	if !ok || got.PersonalKey.Reveal() != phx {
		t.Fatalf("the keys are gone: %+v", got)
	}
	got.Host = "https://evil.example.com"
	if got.CheckKeys() == nil {
		t.Error("they may go to another host")
	}
	if _, err := r.UpdateConnection(t.Context(), project.DefaultID, "c_old", func(c *project.Connection) error { c.Environment = "x"; return nil }); err != nil {
		t.Fatal(err)
	}
	e, _ := kv.Get(t.Context(), "connection.c_old")
	if got, _ := r.Snapshot().Connection("c_old"); got.PersonalKey.Reveal() != phx || !strings.Contains(string(e.Value()), `"personal_key@https://us.i.posthog.com"`) {
		t.Errorf("saved again: %s", e.Value())
	}
}

// Who may not read prompts and answers locally cannot have them sent elsewhere.
func TestRevealNeedsTheContentRole(t *testing.T) {
	r, _ := start(t, project.Options{})
	set := func(need project.Role) {
		if _, err := r.UpdateProject(t.Context(), project.DefaultID, func(p *project.Project) error { p.Settings.ContentRole = need; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	set(project.RoleAdmin)
	member := project.WithRole(t.Context(), project.RoleMember)
	open := connection("open")
	open.PrivacyMode = false
	_, err := r.CreateConnection(member, open)
	wantCode(t, err, event.CodeForbidden)
	c, err := r.CreateConnection(member, connection("closed"))
	if err != nil {
		t.Fatal(err)
	}
	changes := map[string]func(*project.Connection){
		"privacy off":  func(c *project.Connection) { c.PrivacyMode = false },
		"a property":   func(c *project.Connection) { c.SendProperties = []string{"ticket"} },
		"an attribute": func(c *project.Connection) { c.SendAttributes = []string{"app.ticket"} },
		"another host": func(c *project.Connection) {
			c.MoveTo("https://eu.i.posthog.com")
			c.ProjectKey = project.NewSecret(phc + "eu")
		},
	}
	for name, f := range changes {
		before := r.Snapshot().Revision()
		_, err := r.UpdateConnection(member, project.DefaultID, c.ID, func(c *project.Connection) error { f(c); return nil })
		if wantCode(t, err, event.CodeForbidden); r.Snapshot().Revision() != before {
			t.Errorf("%s: something changed", name)
		}
	}
	if _, err := r.UpdateConnection(member, project.DefaultID, c.ID, func(c *project.Connection) error {
		c.Enabled, c.FlushAt, c.ProjectKey = false, 7, project.NewSecret(phc+"other")
		return nil
	}); err != nil {
		t.Errorf("what reveals nothing: %v", err)
	}
	set(project.RoleMember)
	if _, err := r.UpdateConnection(member, project.DefaultID, c.ID, func(c *project.Connection) error { c.PrivacyMode = false; return nil }); err != nil {
		t.Errorf("with the role: %v", err)
	}
	if e := r.AuditLog(project.DefaultID, 1)[0]; !strings.Contains(e.Detail, "privacy_mode: true → false") {
		t.Errorf("the audit log: %+v", e)
	}
	set(project.RoleAdmin)
	_, err = r.UpdateConnection(member, project.DefaultID, c.ID, func(c *project.Connection) error { c.ProjectKey = project.NewSecret(phc + "mine"); return nil })
	wantCode(t, err, event.CodeForbidden) // the answers would go to another project of the same host
	if _, err := r.UpdateConnection(member, project.DefaultID, c.ID, func(c *project.Connection) error { c.PrivacyMode = true; return nil }); err != nil {
		t.Errorf("privacy on: %v", err)
	}
	if _, err := r.UpdateConnection(project.WithRole(t.Context(), project.RoleAdmin), project.DefaultID, c.ID, func(c *project.Connection) error { c.PrivacyMode = false; return nil }); err != nil {
		t.Errorf("an administrator: %v", err)
	}
}
