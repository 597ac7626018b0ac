package project_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/health"
	"github.com/hedgerow/hedgerow/server/internal/journal"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// gate is a bucket whose journal is down until opened.
type gate struct {
	jetstream.KeyValue
	open chan struct{}
}

func (g gate) down() error {
	select {
	case <-g.open:
		return nil
	default:
		return event.NewError(event.CodeUnavailable, "the disk is full", "free disk space", nil)
	}
}

func (g gate) WatchAll(ctx context.Context, o ...jetstream.WatchOpt) (jetstream.KeyWatcher, error) {
	if err := g.down(); err != nil {
		return nil, err
	}
	return g.KeyValue.WatchAll(ctx, o...)
}

func (g gate) Get(ctx context.Context, key string) (jetstream.KeyValueEntry, error) {
	if err := g.down(); err != nil {
		return nil, err
	}
	return g.KeyValue.Get(ctx, key)
}

func (g gate) Create(ctx context.Context, key string, value []byte, o ...jetstream.KVCreateOpt) (uint64, error) {
	if err := g.down(); err != nil {
		return 0, err
	}
	return g.KeyValue.Create(ctx, key, value, o...)
}

func journalAt(t *testing.T, dir string) (*journal.Journal, jetstream.KeyValue) {
	t.Helper()
	j, err := journal.Open(t.Context(), journal.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close(context.Background()) })
	kv, err := j.KeyValue(t.Context(), "settings", 1)
	if err != nil {
		t.Fatal(err)
	}
	return j, kv
}

func registryAt(t *testing.T, kv jetstream.KeyValue, key byte, lastGood string) *project.Registry {
	t.Helper()
	r, err := project.Open(t.Context(), kv, project.Options{SecretKey: bytes.Repeat([]byte{key}, project.KeySize), LastGood: lastGood})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// A first start on a full disk: the default project exists immediately, and is
// written once possible.
func TestFirstStartWhileDown(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, kv := journalAt(t, filepath.Join(dir, "journal"))
	g := gate{kv, make(chan struct{})}
	start := time.Now()
	r := registryAt(t, g, 1, filepath.Join(dir, "settings", "settings.json"))
	early, ok := r.Snapshot().Project(project.DefaultID)
	if !ok || early.Token == "" {
		t.Fatalf("no project: %+v", early)
	}
	if _, ok := r.Snapshot().ProjectByToken(early.Token); !ok {
		t.Error("its token is not known")
	}
	out, err := r.Bootstrap(t.Context())
	if e := event.AsError(err); e == nil || e.Code != event.CodeUnavailable || e.Hint != "free disk space" || out.Project.Token != early.Token || out.First {
		t.Errorf("the first start: %+v, %v", out, err)
	}
	if _, err := r.CreateProject(t.Context(), "other"); event.AsError(err).Code != event.CodeUnavailable {
		t.Errorf("a change: %v", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("all that took %v", took)
	}
	if h := r.Health(); h.Status != health.Failed {
		t.Errorf("health %+v", h)
	}
	close(g.open)
	for r.Health().Status != health.OK {
		time.Sleep(10 * time.Millisecond)
	}
	out, err = r.Bootstrap(t.Context())
	if err != nil || !out.First || out.Project.Token != early.Token {
		t.Fatalf("the first start: %+v, %v", out, err)
	}
	if p, _ := r.Snapshot().Project(project.DefaultID); p.Token != early.Token || p.Revision == 0 {
		t.Errorf("the project is %+v", p)
	}
	// The record of the secret key exists: another key is rejected.
	if _, err := project.Open(t.Context(), kv, project.Options{SecretKey: bytes.Repeat([]byte{2}, project.KeySize)}); err == nil || !strings.Contains(err.Error(), "another secret key") {
		t.Errorf("opened with another key: %v", err)
	}
}

// The bucket is lost: everything remains, including secrets, but only with the
// same secret key.
func TestSettingsLost(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	copied := filepath.Join(dir, "settings", "settings.json")
	jdir := filepath.Join(dir, "journal")
	j, kv := journalAt(t, jdir)
	r := registryAt(t, kv, 1, copied)
	first, err := r.Bootstrap(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := r.SetProviderKey(t.Context(), project.DefaultID, "openai", "sk-kept"); err != nil {
		t.Fatal(err)
	}
	if raw, err := os.ReadFile(copied); err != nil || bytes.Contains(raw, []byte("sk-kept")) {
		t.Errorf("the copy holds a key in plain text, %v", err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(jdir); err != nil {
		t.Fatal(err)
	}
	_, kv = journalAt(t, jdir)
	if _, err := project.Open(t.Context(), kv, project.Options{SecretKey: bytes.Repeat([]byte{2}, project.KeySize), LastGood: copied}); err == nil || !strings.Contains(err.Error(), "another secret key") {
		t.Errorf("opened with another key: %v", err)
	}
	r = registryAt(t, kv, 1, copied)
	if _, _, ok := r.Snapshot().ProjectByAPIKey(first.APIKey.Reveal()); !ok {
		t.Error("the API key is gone")
	}
	if k, ok := r.Snapshot().ProviderKey(project.DefaultID, "openai"); !ok || k.Reveal() != "sk-kept" {
		t.Error("the provider's key is gone")
	}
	if again, err := r.Bootstrap(t.Context()); err != nil || again.First || again.Project.Token != first.Project.Token {
		t.Errorf("another first start: %+v, %v", again, err)
	}
	if p, err := r.CreateProject(t.Context(), "other"); err != nil || p.ID == "" {
		t.Errorf("a change: %v", err)
	}
}
