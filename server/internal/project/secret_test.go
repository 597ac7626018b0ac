package project_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

func TestSecretNeverPrints(t *testing.T) {
	const plain = "phc_the_secret_itself"
	s := project.NewSecret(plain)
	c := connection("c")
	c.ProjectKey = s
	type hidden struct{ s project.Secret } // fmt does not call methods of unexported fields
	var out bytes.Buffer
	for _, v := range []any{s, &s, c, &c, hidden{s}, &hidden{s}, []project.Secret{s}, map[string]project.Secret{"k": s}, project.ProviderKey{Key: s}, project.Project{HashKey: s}, project.FirstStart{APIKey: s, SignInToken: s}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		fmt.Fprintln(&out, v)
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(b)
		for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
			slog.New(h).Info("x", "v", v, slog.Any("group", slog.GroupValue(slog.Any("v", v))))
		}
	}
	if b, err := xml.Marshal(s); err == nil {
		out.Write(b)
	}
	fmt.Fprintln(&out, errors.New("bad: "+s.String()))
	if strings.Contains(out.String(), plain) || strings.Contains(strings.ToLower(out.String()), hex.EncodeToString([]byte(plain))) || strings.Contains(out.String(), "the_secret") {
		t.Errorf("a printer shows the secret:\n%s", out.String())
	}
	if !strings.Contains(out.String(), "[secret]") {
		t.Error("nothing says that there is a secret")
	}
	if s.Reveal() != plain || s.LastFour() != "self" || s.IsZero() {
		t.Errorf("reveal %q, last four %q", s.Reveal(), s.LastFour())
	}
	if z := project.NewSecret(""); !z.IsZero() || z.String() != "" || z.Reveal() != "" {
		t.Error("an empty secret is not empty")
	}
	if four := project.NewSecret("short-12345").LastFour(); four != "" {
		t.Errorf("four of eleven characters are shown: %q", four)
	}
	if !s.Equal(project.NewSecret(plain)) || s.Equal(project.NewSecret("other")) || s.Equal(project.Secret{}) {
		t.Error("Equal")
	}
}

// Neither the bucket nor its files contain a secret in plain text.
func TestNothingPlainAtRest(t *testing.T) {
	dir := t.TempDir()
	kv, _ := bucketIn(t, dir, 5)
	r := open(t, kv, project.Options{})
	ctx := t.Context()
	first := must(r.Bootstrap(ctx))(t)
	secrets := map[string]string{
		"the first API key": first.APIKey.Reveal(), "the first link": first.SignInToken.Reveal(),
		"the project key": phc + "c", "the personal key": phx, "the provider's key": "sk-provider-key-0123456789",
		"the hash key": first.Project.HashKey.Reveal(), "the password": "correct horse battery", "the secret key": string(key1),
	}
	must(r.CreateConnection(ctx, connection("c")))(t)
	if err := r.SetProviderKey(ctx, project.DefaultID, "openai", secrets["the provider's key"]); err != nil {
		t.Fatal(err)
	}
	admin := r.Snapshot().Users()[0]
	if err := r.SetPassword(ctx, admin.ID, secrets["the password"]); err != nil {
		t.Fatal(err)
	}
	token, _, err := r.CreateSession(ctx, admin.ID, "a browser")
	if err != nil {
		t.Fatal(err)
	}
	secrets["the session"] = token
	plain, _, err := r.CreateAPIKey(ctx, project.DefaultID, "ci", project.RoleMember)
	if err != nil {
		t.Fatal(err)
	}
	secrets["an API key"] = plain

	values := raw(t, kv)
	if len(values) < 10 {
		t.Fatalf("%d values only", len(values))
	}
	look := func(where string, b []byte) {
		for what, s := range secrets {
			for _, form := range []string{s, base64.StdEncoding.EncodeToString([]byte(s)), base64.RawURLEncoding.EncodeToString([]byte(s)), hex.EncodeToString([]byte(s))} {
				if bytes.Contains(b, []byte(form)) {
					t.Errorf("%s holds %s", where, what)
				}
			}
		}
	}
	for k, v := range values {
		look(k, v)
	}
	files := 0
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // files come and go below a running server
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return nil
		}
		files++
		look(path, b)
		return nil
	})
	if err != nil || files == 0 {
		t.Errorf("%d files, %v", files, err)
	}
	// The scan can find something: the token is meant to be readable.
	found := false
	for _, v := range values {
		found = found || bytes.Contains(v, []byte(first.Project.Token))
	}
	if !found {
		t.Error("the project token, which is no secret, was not found either: the scan is blind")
	}
}

// Deletion leaves no encrypted key, whatever the bucket's history.
func TestDeleteWipesHistory(t *testing.T) {
	kv := bucket(t, 10)
	r := open(t, kv, project.Options{})
	ctx := t.Context()
	must(r.Bootstrap(ctx))(t)
	c := must(r.CreateConnection(ctx, connection("c")))(t)
	for i := range 4 {
		must(r.UpdateConnection(ctx, project.DefaultID, c.ID, func(c *project.Connection) error { c.FlushAt = i + 2; return nil }))(t)
	}
	revisions := func() (n int) {
		for k := range raw(t, kv) {
			if strings.HasPrefix(k, "connection."+c.ID+"#") {
				n++
			}
		}
		return n
	}
	if n := revisions(); n != 5 {
		t.Fatalf("%d revisions before, want 5: the test sees no history", n)
	}
	if err := r.DeleteConnection(ctx, project.DefaultID, c.ID); err != nil {
		t.Fatal(err)
	}
	if n := revisions(); n != 0 {
		t.Errorf("%d revisions of the deleted connection are left", n)
	}
}

func TestWrongSecretKey(t *testing.T) {
	kv := bucket(t, 1)
	must(open(t, kv, project.Options{}).Bootstrap(t.Context()))(t)
	before := raw(t, kv)
	_, err := project.Open(t.Context(), kv, project.Options{SecretKey: key2})
	wantCode(t, err, event.CodeInvalid)
	if err == nil || !strings.Contains(err.Error(), "another secret key") || !strings.Contains(err.Error(), "HEDGEROW_SECRET_KEY") {
		t.Errorf("error %v", err)
	}
	if after := raw(t, kv); len(after) != len(before) {
		t.Errorf("%d values, %d before: the failed start changed something", len(after), len(before))
	}
	_, err = project.Open(t.Context(), kv, project.Options{SecretKey: []byte("short")})
	wantCode(t, err, event.CodeInvalid)
	open(t, kv, project.Options{}) // the right one still works
}

func TestRotate(t *testing.T) {
	kv := bucket(t, 1)
	r, replica := open(t, kv, project.Options{}), open(t, kv, project.Options{})
	ctx := t.Context()
	must(r.Bootstrap(ctx))(t)
	c := must(r.CreateConnection(ctx, connection("c")))(t)
	if err := r.SetProviderKey(ctx, project.DefaultID, "openai", "sk-kept-1234567890"); err != nil {
		t.Fatal(err)
	}
	wantCode(t, r.Rotate(ctx, key1), event.CodeInvalid)
	wantCode(t, r.Rotate(ctx, []byte("short")), event.CodeInvalid)

	for snap := range replica.Changes(ctx) { // it must receive the project first
		if _, ok := snap.Project(project.DefaultID); ok {
			break
		}
	}
	// The replica works on while the keys change.
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := replica.CreateConnection(context.Background(), connection(fmt.Sprint("r", i))); err != nil {
				t.Errorf("the replica, during the rotation: %v", err)
				return
			}
		}
	})
	err := r.Rotate(ctx, key2)
	close(stop)
	wg.Wait()
	if err != nil {
		t.Fatal(err)
	}
	_, err = project.Open(ctx, kv, project.Options{SecretKey: key1})
	wantCode(t, err, event.CodeInvalid)
	fresh := open(t, kv, project.Options{SecretKey: key2})
	for name, s := range map[string]*project.Snapshot{"the rotating": r.Snapshot(), "a fresh": fresh.Snapshot()} {
		if got, ok := s.Connection(c.ID); !ok || got.ProjectKey.Reveal() != phc+"c" || got.PersonalKey.Reveal() != phx {
			t.Errorf("%s registry lost the connection's keys", name)
		}
		if k, _ := s.ProviderKey(project.DefaultID, "openai"); k.Reveal() != "sk-kept-1234567890" {
			t.Errorf("%s registry lost the provider's key", name)
		}
	}
	for _, c := range fresh.Snapshot().AllConnections() {
		if c.ProjectKey.IsZero() {
			t.Errorf("connection %s, made during the rotation, lost its key", c.Name)
		}
	}
	// The replica, which knew the old key only, has followed.
	must(replica.CreateConnection(ctx, connection("after")))(t)
	must(fresh.UpdateConnection(ctx, project.DefaultID, c.ID, func(c *project.Connection) error { c.FlushAt = 3; return nil }))(t)
	if err := fresh.Rotate(ctx, bytes.Repeat([]byte{3}, project.KeySize)); err != nil {
		t.Errorf("a second rotation: %v", err)
	}
}

// An interrupted rotation leaves everything readable with either key, and is
// completed by repeating it.
func TestRotationBreaksOff(t *testing.T) {
	kv := &flaky{KeyValue: bucket(t, 1)}
	r := open(t, kv, project.Options{})
	ctx := t.Context()
	must(r.Bootstrap(ctx))(t)
	c := must(r.CreateConnection(ctx, connection("c")))(t)
	down := func(key string) bool { return strings.HasPrefix(key, "connection.") }
	kv.fail.Store(&down)
	wantCode(t, r.Rotate(ctx, key2), event.CodeUnavailable)
	kv.fail.Store(nil)
	for name, key := range map[string][]byte{"old": key1, "new": key2} {
		s := open(t, kv, project.Options{SecretKey: key}).Snapshot()
		if got, _ := s.Connection(c.ID); got.ProjectKey.Reveal() != phc+"c" {
			t.Errorf("with the %s key the connection's key cannot be read", name)
		}
	}
	wantCode(t, r.Rotate(ctx, bytes.Repeat([]byte{3}, project.KeySize)), event.CodeConflict)
	if err := open(t, kv, project.Options{SecretKey: key1}).Rotate(ctx, key2); err != nil {
		t.Fatal(err)
	}
	_, err := project.Open(ctx, kv, project.Options{SecretKey: key1})
	wantCode(t, err, event.CodeInvalid)
	if got, _ := open(t, kv, project.Options{SecretKey: key2}).Snapshot().Connection(c.ID); got.ProjectKey.Reveal() != phc+"c" {
		t.Error("the finished rotation lost the key")
	}
}

// A sealed value that someone moves to another record does not open there.
func TestSealedValuesCannotBeMoved(t *testing.T) {
	kv := bucket(t, 1)
	r := open(t, kv, project.Options{})
	ctx := t.Context()
	must(r.Bootstrap(ctx))(t)
	a := must(r.CreateConnection(ctx, connection("a")))(t)
	b := must(r.CreateConnection(ctx, connection("b")))(t)
	sealed := func(id string) map[string]any {
		e, err := kv.Get(ctx, "connection."+id)
		if err != nil {
			t.Fatal(err)
		}
		var env map[string]any
		if err := json.Unmarshal(e.Value(), &env); err != nil {
			t.Fatal(err)
		}
		return env
	}
	ea, eb := sealed(a.ID), sealed(b.ID)
	eb["sealed"] = ea["sealed"]
	v, _ := json.Marshal(eb)
	if _, err := kv.Put(ctx, "connection."+b.ID, v); err != nil {
		t.Fatal(err)
	}
	if got, ok := open(t, kv, project.Options{}).Snapshot().Connection(b.ID); ok && got.ProjectKey.Equal(a.ProjectKey) {
		t.Error("b now sends with a's key")
	}
	if got, ok := r.Snapshot().Connection(b.ID); !ok || !got.ProjectKey.Equal(b.ProjectKey) {
		t.Error("a damaged record must leave the running configuration as it was")
	}
}

func TestLoadSecretKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "secret.key")
	made := must(project.LoadSecretKey("", path))(t)
	if len(made) != project.KeySize {
		t.Fatalf("%d bytes", len(made))
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
	if again := must(project.LoadSecretKey("", path))(t); !bytes.Equal(again, made) {
		t.Error("the second start has another key")
	}
	if left, _ := filepath.Glob(path + ".*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	for name, env := range map[string]string{"base64": base64.StdEncoding.EncodeToString(key2), "url": base64.RawURLEncoding.EncodeToString(key2), "hex": hex.EncodeToString(key2), "space": "\n " + hex.EncodeToString(key2) + "\n"} {
		if got, err := project.LoadSecretKey(env, path); err != nil || !bytes.Equal(got, key2) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, env := range []string{"short", strings.Repeat("z", 64), base64.StdEncoding.EncodeToString(key2[:31]), base64.StdEncoding.EncodeToString(append(key2, 1))} {
		_, err := project.LoadSecretKey(env, path)
		wantCode(t, err, event.CodeInvalid)
		if err != nil && strings.Contains(err.Error(), env) {
			t.Errorf("the error quotes the key: %v", err)
		}
	}
	if runtime.GOOS != "windows" {
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := project.LoadSecretKey("", path)
		wantCode(t, err, event.CodeInvalid)
		if err == nil || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("error %v", err)
		}
	}
	if err := os.WriteFile(path, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = project.LoadSecretKey("", path)
	wantCode(t, err, event.CodeInvalid)
}

func TestTwoFirstStartsMakeOneSecretKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret.key")
	keys := make([][]byte, 8)
	var wg sync.WaitGroup
	for i := range keys {
		wg.Go(func() {
			var err error
			if keys[i], err = project.LoadSecretKey("", path); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, k := range keys[1:] {
		if !bytes.Equal(k, keys[0]) {
			t.Fatal("two starts have different keys")
		}
	}
}

// lagging is a bucket whose watch does not bring the record of the secret key, as that
// of a replica that is behind.
type lagging struct {
	jetstream.KeyValue
	created func() // after a record was created; nil for nothing
}

type laggingWatch struct {
	jetstream.KeyWatcher
	updates chan jetstream.KeyValueEntry
}

func (w *laggingWatch) Updates() <-chan jetstream.KeyValueEntry { return w.updates }

func (l *lagging) WatchAll(ctx context.Context, o ...jetstream.WatchOpt) (jetstream.KeyWatcher, error) {
	w, err := l.KeyValue.WatchAll(ctx, o...)
	if err != nil {
		return nil, err
	}
	out := &laggingWatch{w, make(chan jetstream.KeyValueEntry)}
	go func() {
		defer close(out.updates)
		for e := range w.Updates() {
			if e == nil || e.Key() != "meta.seal" {
				out.updates <- e
			}
		}
	}()
	return out, nil
}

func (l *lagging) Create(ctx context.Context, key string, value []byte, o ...jetstream.KVCreateOpt) (uint64, error) {
	rev, err := l.KeyValue.Create(ctx, key, value, o...)
	if err == nil && l.created != nil && strings.HasPrefix(key, "connection.") {
		l.created()
	}
	return rev, err
}

// TestRotationAndLaggingReplica: what a replica saves that does not know of a rotation is
// sealed with the new key, also when the rotation begins between sealing and saving; once
// the rotation is finished it saves nothing that no one could open.
func TestRotationAndLaggingReplica(t *testing.T) {
	kv := bucket(t, 1)
	ctx := t.Context()
	rotating := &flaky{KeyValue: kv}
	r := open(t, rotating, project.Options{})
	must(r.Bootstrap(ctx))(t)
	must(r.CreateConnection(ctx, connection("first")))(t)
	late := &lagging{KeyValue: kv}
	replica := open(t, late, project.Options{})
	keyOf := func(id string) string {
		t.Helper()
		var env struct{ Sealed map[string]string }
		if err := json.Unmarshal(must(kv.Get(ctx, "connection."+id))(t).Value(), &env); err != nil {
			t.Fatal(err)
		}
		for _, sealed := range env.Sealed {
			return strings.Split(sealed, ".")[1]
		}
		t.Fatal("nothing is sealed")
		return ""
	}
	before := must(replica.CreateConnection(ctx, connection("before")))(t)
	old := keyOf(before.ID)
	down := func(key string) bool { return strings.HasPrefix(key, "connection.") }
	rotating.fail.Store(&down)
	begun := false
	late.created = func() { // the rotation begins once the replica has sealed, and stops half way
		if !begun {
			begun = true
			wantCode(t, r.Rotate(ctx, key2), event.CodeUnavailable)
		}
	}
	during := must(replica.CreateConnection(ctx, connection("during")))(t)
	newer := keyOf(during.ID)
	if newer == old || !begun {
		t.Error("what was saved as the rotation began is sealed with the former key")
	}
	if got := must(replica.UpdateConnection(ctx, project.DefaultID, before.ID, func(c *project.Connection) error { c.FlushAt = 3; return nil }))(t); got.FlushAt != 3 || keyOf(before.ID) != newer {
		t.Error("a change during the rotation is sealed with the former key")
	}
	rotating.fail.Store(nil)
	if err := r.Rotate(ctx, key2); err != nil {
		t.Fatal(err)
	}
	must(replica.CreateConnection(ctx, connection("after")))(t)

	// A replica that has missed the whole of another rotation.
	behind := open(t, &lagging{KeyValue: kv}, project.Options{SecretKey: key2})
	if err := r.Rotate(ctx, bytes.Repeat([]byte{3}, project.KeySize)); err != nil {
		t.Fatal(err)
	}
	_, err := behind.CreateConnection(ctx, connection("lost"))
	wantCode(t, err, event.CodeConflict)
	_, err = behind.UpdateConnection(ctx, project.DefaultID, before.ID, func(c *project.Connection) error { c.FlushAt = 4; return nil })
	wantCode(t, err, event.CodeConflict)
	s := open(t, kv, project.Options{SecretKey: bytes.Repeat([]byte{3}, project.KeySize)}).Snapshot()
	if n := len(s.AllConnections()); n != 4 {
		t.Errorf("%d connections", n)
	}
	for _, c := range s.AllConnections() {
		if c.ProjectKey.IsZero() {
			t.Errorf("connection %s has lost its key", c.Name)
		}
	}
}
