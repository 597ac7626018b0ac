package project_test

import (
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/server/internal/project"
)

// The first project stays the first, regardless of the number and names of
// others; without it the oldest is.
func TestFirstProject(t *testing.T) {
	now := newClock()
	r, _ := start(t, project.Options{Now: now.now})
	want := func(id string) {
		t.Helper()
		if p, ok := r.Snapshot().FirstProject(); !ok || p.ID != id {
			t.Errorf("the first project is %q, want %q", p.ID, id)
		}
	}
	want(project.DefaultID)
	now.add(time.Hour)
	z := must(r.CreateProject(t.Context(), "zebra"))(t)
	now.add(time.Hour)
	must(r.CreateProject(t.Context(), "aardvark"))(t)
	want(project.DefaultID)
	if err := r.DeleteProject(t.Context(), project.DefaultID); err != nil {
		t.Fatal(err)
	}
	want(z.ID)
}

// The switch is kept, seen by other registries, and in the audit log.
func TestServerSettings(t *testing.T) {
	kv := bucket(t, 1)
	r := open(t, kv, project.Options{})
	must(r.Bootstrap(t.Context()))(t)
	if r.Snapshot().Server().RequireKey {
		t.Error("keys are required by default")
	}
	on := func(s *project.ServerSettings) { s.RequireKey = true }
	if s, err := r.SetServer(t.Context(), on); err != nil || !s.RequireKey || !r.Snapshot().Server().RequireKey {
		t.Fatalf("%+v, %v", s, err)
	}
	if e := r.AuditLog("", 1)[0]; e.Action != "server.update" || e.Detail != "require_key: false → true" {
		t.Errorf("%+v", e)
	}
	before := r.Snapshot().Revision()
	if _, err := r.SetServer(t.Context(), on); err != nil || r.Snapshot().Revision() != before {
		t.Errorf("the same once more: %v", err)
	}
	other := open(t, kv, project.Options{})
	if !other.Snapshot().Server().RequireKey {
		t.Error("not kept")
	}
	if s, err := other.SetServer(t.Context(), func(s *project.ServerSettings) { s.RequireKey = false }); err != nil || s.RequireKey {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestKeylessNotice(t *testing.T) {
	if got := (project.Keyless{Project: "default"}).Notice(); got != `Calls without a key are recorded in the project "default" until you require keys.` {
		t.Error(got)
	}
	if got := (project.Keyless{Refused: true, Project: "default"}).Notice(); got != "" {
		t.Error(got)
	}
}
