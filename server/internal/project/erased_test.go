package project_test

import (
	"context"
	"encoding/base64"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/journal"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

var (
	sealedForm = regexp.MustCompile(`s1\.[0-9a-f]{16}\.[A-Za-z0-9_-]{38,}`)
	base64Form = regexp.MustCompile(`[A-Za-z0-9+/]{64,}={0,2}`)
)

// sealedValues adds every sealed value in b.
func sealedValues(into map[string]string, b []byte, path string) {
	for _, s := range sealedForm.FindAll(b, -1) {
		into[string(s)] = path
	}
}

// sealedFiles returns every sealed value in the files of a folder.
func sealedFiles(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && !d.Type().IsRegular() {
			return nil
		} else if err != nil {
			return err
		}
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		sealedValues(found, b, path)
		for _, run := range base64Form.FindAll(b, -1) { // the last-good copy has values so
			if plain, err := base64.StdEncoding.DecodeString(string(run)); err == nil {
				sealedValues(found, plain, path)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestDeletedIsErased deletes, replaces and rotates with and without an erasing
// bucket: with one the files contain only the current encrypted values.
func TestDeletedIsErased(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var j *journal.Journal
	var kv jetstream.KeyValue
	var r *project.Registry
	start := func(key []byte, erasing ...string) {
		t.Helper()
		var err error
		if j, err = journal.Open(t.Context(), journal.Config{Dir: filepath.Join(dir, "journal"), Erasing: erasing}); err != nil {
			t.Fatal(err)
		}
		if kv, err = j.KeyValue(t.Context(), "settings", 1); err != nil {
			t.Fatal(err)
		}
		if r, err = project.Open(t.Context(), kv, project.Options{SecretKey: key, LastGood: filepath.Join(dir, "settings", "settings.json")}); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Bootstrap(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	stop := func() {
		t.Helper()
		if err := errors.Join(r.Close(), j.Close(context.Background())); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = r.Close(); _ = j.Close(context.Background()) })
	dead := func() (n int) {
		t.Helper()
		living := make(map[string]string)
		keys, err := kv.Keys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range keys {
			e, err := kv.Get(t.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
			sealedValues(living, e.Value(), key)
		}
		found := sealedFiles(t, dir)
		for s := range living {
			if found[s] == "" {
				t.Errorf("the search does not find a value of %s", living[s])
			}
		}
		for s := range found {
			if living[s] == "" {
				n++
			}
		}
		return n
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	connect := func(projectID, name, key string) project.Connection {
		t.Helper()
		c := project.NewConnection(projectID, name)
		c.ProjectKey, c.PersonalKey = project.NewSecret("phc_"+key), project.NewSecret("phx_"+key)
		c, err := r.CreateConnection(t.Context(), c)
		must(err)
		return c
	}
	change := func() {
		t.Helper()
		p, err := r.CreateProject(t.Context(), "doomed")
		must(err)
		connect(p.ID, "a", "a_of_the_project_that_goes")
		connect(p.ID, "b", "b_of_the_project_that_goes")
		must(r.SetProviderKey(t.Context(), p.ID, "openai", "sk-of-the-project-that-goes"))
		c := connect(project.DefaultID, "c", "c_of_the_project_that_stays")
		_, err = r.UpdateConnection(t.Context(), project.DefaultID, c.ID, func(c *project.Connection) error {
			c.PersonalKey = project.NewSecret("phx_another_one")
			return nil
		})
		must(err)
		must(r.SetProviderKey(t.Context(), project.DefaultID, "openai", "sk-first-0123456789"))
		must(r.SetProviderKey(t.Context(), project.DefaultID, "openai", "sk-second-0123456789"))
		must(r.DeleteProject(t.Context(), p.ID))
		if keys, err := kv.ListKeysFiltered(t.Context(), "connection.>", "provider."+p.ID+".>"); err == nil {
			for key := range keys.Keys() {
				if key != "connection."+c.ID {
					t.Errorf("%s is left of a deleted project", key)
				}
			}
		}
		must(r.DeleteConnection(t.Context(), project.DefaultID, c.ID))
	}
	start(key1)
	change()
	if n := dead(); n == 0 {
		t.Fatal("without erasing there is no dead value: the search does not work")
	}
	stop()
	start(key1, "settings")
	if n := dead(); n != 0 {
		t.Errorf("%d dead values after the upgrade", n)
	}
	change()
	if n := dead(); n != 0 {
		t.Errorf("%d dead values after changes", n)
	}
	must(r.Rotate(t.Context(), key2))
	if n := dead(); n != 0 {
		t.Errorf("%d dead values after the rotation of the secret key", n)
	}
	// The process is killed after the first record of a project's deletion.
	p, err := r.CreateProject(t.Context(), "half deleted")
	must(err)
	c := connect(p.ID, "a", "a_of_the_project_that_goes")
	must(r.SetProviderKey(t.Context(), p.ID, "openai", "sk-of-the-project-that-goes"))
	must(kv.Purge(t.Context(), "project."+p.ID))
	stop()
	start(key2, "settings")
	for _, key := range []string{"connection." + c.ID, "provider." + p.ID + ".openai"} {
		if _, err := kv.Get(t.Context(), key); !errors.Is(err, jetstream.ErrKeyNotFound) {
			t.Errorf("%s is there after the start: %v", key, err)
		}
	}
	if n := dead(); n != 0 {
		t.Errorf("%d dead values after a deletion that was interrupted", n)
	}
	stop()
	for s, path := range sealedFiles(t, dir) {
		if strings.Contains(path, "damaged") || !strings.HasPrefix(s, "s1.") {
			t.Errorf("%s holds %s", path, s)
		}
	}
	start(key2, "settings")
	if n := dead(); n != 0 {
		t.Errorf("%d dead values after another start", n)
	}
}

// TestNoRecordOfDeletedProject writes for a project that is being deleted.
func TestNoRecordOfDeletedProject(t *testing.T) {
	t.Parallel()
	kv := bucket(t, 1)
	r := open(t, deletes{kv}, project.Options{})
	if _, err := r.Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	p, err := r.CreateProject(t.Context(), "going")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.SetProviderKey(t.Context(), p.ID, "openai", "sk-0123456789"); event.AsError(err) == nil || event.AsError(err).Code != event.CodeNotFound {
		t.Errorf("SetProviderKey: %v, want not found", err)
	}
	if _, err := kv.Get(t.Context(), "provider."+p.ID+".openai"); !errors.Is(err, jetstream.ErrKeyNotFound) {
		t.Errorf("the key is kept: %v", err)
	}
}

// deletes is a bucket in which a project is deleted just before a provider's key of it
// is written.
type deletes struct{ jetstream.KeyValue }

func (d deletes) Put(ctx context.Context, key string, value []byte) (uint64, error) {
	if id, ok := strings.CutPrefix(key, "provider."); ok {
		if err := d.Purge(ctx, "project."+strings.TrimSuffix(id, ".openai")); err != nil {
			return 0, err
		}
	}
	return d.KeyValue.Put(ctx, key, value)
}
