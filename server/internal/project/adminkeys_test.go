package project_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// TestAdminKeys: an admin key is sealed for its host, is not one of the
// gateway's keys, and is removed when it or its project is deleted.
func TestAdminKeys(t *testing.T) {
	kv := bucket(t, 1)
	r := open(t, kv, project.Options{})
	ctx := t.Context()
	if _, err := r.Bootstrap(ctx); err != nil {
		t.Fatal(err)
	}
	const host, key = "https://api.openai.com", "sk-admin-secret-1234567890"
	if err := r.SetAdminKey(ctx, project.DefaultID, "openai", host, "sk-admin-first"); err != nil {
		t.Fatal(err)
	}
	if err := r.SetAdminKey(ctx, project.DefaultID, "openai", host, key); err != nil {
		t.Fatal(err)
	}
	k, ok := r.Snapshot().AdminKey(project.DefaultID, "openai")
	if list := r.Snapshot().AdminKeys(project.DefaultID); !ok || k.Key.Reveal() != key || k.Host != host || k.LastFour != "7890" || len(list) != 1 {
		t.Errorf("%+v, %+v", k, list)
	}
	if _, ok := r.Snapshot().ProviderKey(project.DefaultID, "openai"); ok {
		t.Error("the gateway has the admin key")
	}
	e, err := kv.Get(ctx, "billing."+project.DefaultID+".openai")
	if err != nil || strings.Contains(string(e.Value()), key) {
		t.Fatalf("stored as %s, %v", e.Value(), err)
	}
	// A record that names another host does not open.
	moved := strings.ReplaceAll(string(e.Value()), host, "https://evil.example")
	if !json.Valid([]byte(moved)) || moved == string(e.Value()) {
		t.Fatal("nothing was moved")
	}
	rev, err := kv.Put(ctx, "billing."+project.DefaultID+".openai", []byte(moved))
	if err != nil {
		t.Fatal(err)
	}
	for r.Snapshot().Revision() < rev {
		if ctx.Err() != nil {
			t.Fatal(ctx.Err())
		}
	}
	if k, ok := r.Snapshot().AdminKey(project.DefaultID, "openai"); ok && k.Host != host && k.Key.Reveal() != "" {
		t.Errorf("the key opens for %s", k.Host)
	}
	for _, provider := range []string{"", "Open AI", "a.b", "*"} {
		wantCode(t, r.SetAdminKey(ctx, project.DefaultID, provider, host, key), event.CodeInvalid)
	}
	wantCode(t, r.SetAdminKey(ctx, project.DefaultID, "openai", "", key), event.CodeInvalid)
	wantCode(t, r.SetAdminKey(ctx, project.DefaultID, "openai", host, "with space"), event.CodeInvalid)
	wantCode(t, r.SetAdminKey(ctx, "nowhere", "openai", host, key), event.CodeNotFound)
	if err := r.DeleteAdminKey(ctx, project.DefaultID, "openai"); err != nil {
		t.Fatal(err)
	}
	if _, ok := r.Snapshot().AdminKey(project.DefaultID, "openai"); ok {
		t.Error("the key is still there")
	}
	wantCode(t, r.DeleteAdminKey(ctx, project.DefaultID, "openai"), event.CodeNotFound)
	wantCode(t, r.DeleteAdminKey(ctx, project.DefaultID, "*"), event.CodeNotFound)

	p, err := r.CreateProject(ctx, "going")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.SetAdminKey(ctx, p.ID, "openai", host, key); err != nil {
		t.Fatal(err)
	}
	if err := r.DeleteProject(ctx, p.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Get(ctx, "billing."+p.ID+".openai"); err == nil {
		t.Error("a deleted project keeps its admin key")
	}
}
