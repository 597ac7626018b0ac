package project_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/journal"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// clock is a time that tests set.
type clock struct{ at atomic.Pointer[time.Time] }

func newClock() *clock {
	c := &clock{}
	t := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	c.at.Store(&t)
	return c
}

func (c *clock) now() time.Time { return *c.at.Load() }

func (c *clock) add(d time.Duration) {
	t := c.now().Add(d)
	c.at.Store(&t)
}

var (
	key1 = bytes.Repeat([]byte{1}, project.KeySize)
	key2 = bytes.Repeat([]byte{2}, project.KeySize)
)

// bucket is a key-value bucket of a JetStream on disk, as hedgerow's own.
func bucket(t *testing.T, history uint8) jetstream.KeyValue {
	t.Helper()
	kv, _ := bucketIn(t, t.TempDir(), history)
	return kv
}

func bucketIn(t *testing.T, dir string, history uint8) (jetstream.KeyValue, *journal.Journal) {
	t.Helper()
	j, err := journal.Open(t.Context(), journal.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	kv, err := j.KeyValue(t.Context(), "settings", history)
	if err != nil {
		t.Fatal(err)
	}
	return kv, j
}

func open(t *testing.T, kv jetstream.KeyValue, o project.Options) *project.Registry {
	t.Helper()
	if o.SecretKey == nil {
		o.SecretKey = key1
	}
	r, err := project.Open(t.Context(), kv, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// start opens a registry on its own bucket, past its first start.
func start(t *testing.T, o project.Options) (*project.Registry, project.FirstStart) {
	t.Helper()
	r := open(t, bucket(t, 1), o)
	first, err := r.Bootstrap(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r, first
}

func wantCode(t *testing.T, err error, code event.Code) {
	t.Helper()
	e := event.AsError(err)
	if e == nil || e.Code != code {
		t.Errorf("error %v, want one of code %s", err, code)
	} else if e.Message == "" || e.Hint == "" {
		t.Errorf("error %+v does not say what happened and what to do", e)
	}
}

const (
	phc = "phc_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa1234"
	phx = "phx_bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb5678"
)

func connection(name string) project.Connection {
	c := project.NewConnection(project.DefaultID, name)
	c.ProjectKey, c.PersonalKey = project.NewSecret(phc+name), project.NewSecret(phx)
	return c
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestProjects(t *testing.T) {
	r, _ := start(t, project.Options{})
	ctx := t.Context()
	p := must(r.CreateProject(ctx, "  Shop "))(t)
	if p.Name != "Shop" || !strings.HasPrefix(p.ID, "p_") || !strings.HasPrefix(p.Token, "phc_hedgerow_") || !reflect.DeepEqual(p.Settings, project.DefaultSettings()) || p.HashKey.IsZero() {
		t.Errorf("created %+v", p)
	}
	_, err := r.CreateProject(ctx, "shop")
	wantCode(t, err, event.CodeConflict)
	for _, name := range []string{"", "  ", "a\nb", strings.Repeat("ä", 101), "a\xff"} {
		_, err := r.CreateProject(ctx, name)
		wantCode(t, err, event.CodeInvalid)
	}

	s := r.Snapshot()
	if got, ok := s.ProjectByToken(p.Token); !ok || got.ID != p.ID {
		t.Errorf("by token: %+v, %t", got, ok)
	}
	if got, ok := s.ProjectByName("SHOP"); !ok || got.ID != p.ID {
		t.Errorf("by name: %+v, %t", got, ok)
	}
	if names := len(s.Projects()); names != 2 {
		t.Errorf("%d projects, want 2", names)
	}

	u := must(r.UpdateProject(ctx, p.ID, func(p *project.Project) error {
		p.Name, p.Token, p.ID = "Store", "stolen", "other"
		p.Settings.ContentDays, p.Settings.MetricsDays = 7, 90
		return nil
	}))(t)
	if u.Name != "Store" || u.Token != p.Token || u.ID != p.ID || u.Settings.ContentDays != 7 || !u.HashKey.Equal(p.HashKey) {
		t.Errorf("updated %+v", u)
	}
	for _, f := range []func(*project.Project) error{
		func(p *project.Project) error { p.Settings.ContentDays = -1; return nil },
		func(p *project.Project) error { p.Settings.ContentDays = 91; return nil },
		func(p *project.Project) error { p.Settings.ContentDays = 0; return nil },
		func(p *project.Project) error { p.Name = ""; return nil },
	} {
		_, err := r.UpdateProject(ctx, p.ID, f)
		wantCode(t, err, event.CodeInvalid)
	}
	mine := errors.New("mine")
	if _, err := r.UpdateProject(ctx, p.ID, func(*project.Project) error { return mine }); !errors.Is(err, mine) {
		t.Errorf("error %v, want the caller's own", err)
	}
	// The old name is free again, the new one taken.
	q := must(r.CreateProject(ctx, "Shop"))(t)
	_, err = r.UpdateProject(ctx, q.ID, func(p *project.Project) error { p.Name = "store"; return nil })
	wantCode(t, err, event.CodeConflict)
	_, err = r.UpdateProject(ctx, "nobody", func(*project.Project) error { return nil })
	wantCode(t, err, event.CodeNotFound)

	n := must(r.RotateToken(ctx, p.ID))(t)
	if n.Token == p.Token {
		t.Error("the token is the same")
	}
	if _, ok := r.Snapshot().ProjectByToken(p.Token); ok {
		t.Error("the old token still works")
	}
}

func TestDeleteProjectTakesAllThatIsIts(t *testing.T) {
	kv := bucket(t, 5)
	r := open(t, kv, project.Options{})
	ctx := t.Context()
	must(r.Bootstrap(ctx))(t)
	wantCode(t, r.DeleteProject(ctx, project.DefaultID), event.CodeConflict)
	p := must(r.CreateProject(ctx, "gone"))(t)
	plain, _, err := r.CreateAPIKey(ctx, p.ID, "k", project.RoleMember)
	if err != nil {
		t.Fatal(err)
	}
	c := connection("c")
	c.ProjectID = p.ID
	c = must(r.CreateConnection(ctx, c))(t)
	if err := r.SetProviderKey(ctx, p.ID, "openai", "sk-kept-for-later-1234"); err != nil {
		t.Fatal(err)
	}
	member := must(r.CreateUser(ctx, project.User{Email: "m@example.com", Role: project.RoleMember, Projects: []string{p.ID}}))(t)
	if err := r.DeleteProject(ctx, p.ID); err != nil {
		t.Fatal(err)
	}
	s := r.Snapshot()
	if _, _, ok := s.ProjectByAPIKey(plain); ok {
		t.Error("its API key still works")
	}
	if _, ok := s.Connection(c.ID); ok {
		t.Error("its connection is still there")
	}
	if _, ok := s.ProviderKey(p.ID, "openai"); ok {
		t.Error("its provider key is still there")
	}
	for k, v := range raw(t, kv) {
		if strings.Contains(k, p.ID) || strings.Contains(k, c.ID) || bytes.Contains(v, []byte(p.ID)) && !strings.HasPrefix(k, "audit.") && !strings.HasPrefix(k, "user.") {
			t.Errorf("%s is left: %s", k, v)
		}
	}
	wantCode(t, r.DeleteProject(ctx, p.ID), event.CodeNotFound)
	must(r.CreateProject(ctx, "gone"))(t) // its name is free

	// A former member is still a user.
	if err := r.SetPassword(ctx, member.ID, "a long enough one"); err != nil {
		t.Errorf("a member of a deleted project cannot set a password: %v", err)
	}
	if u, _ := r.Snapshot().User(member.ID); len(u.Projects) != 0 {
		t.Errorf("the member still lists the project: %v", u.Projects)
	}
	_, err = r.UpdateUser(ctx, member.ID, func(u *project.User) error { u.Projects = []string{"nowhere"}; return nil })
	wantCode(t, err, event.CodeNotFound)
}

// raw returns every value in the bucket, its history included, by key and
// revision. Values of the same key are distinguished by a suffix.
func raw(t *testing.T, kv jetstream.KeyValue) map[string][]byte {
	t.Helper()
	w, err := kv.WatchAll(t.Context(), jetstream.IncludeHistory())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Stop() }()
	out := make(map[string][]byte)
	for e := range w.Updates() {
		if e == nil {
			return out
		}
		if e.Operation() == jetstream.KeyValuePut {
			out[fmt.Sprintf("%s#%d", e.Key(), e.Revision())] = e.Value()
		}
	}
	t.Fatal("the watch ended early")
	return nil
}

func TestAPIKeys(t *testing.T) {
	r, first := start(t, project.Options{})
	ctx := t.Context()
	plain, k, err := r.CreateAPIKey(ctx, project.DefaultID, "ci", project.RoleViewer)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(plain, "hr_") || len(plain) != 43 || k.Prefix != plain[:10] || k.Role != project.RoleViewer {
		t.Errorf("created %q, %+v", plain, k)
	}
	p, got, ok := r.Snapshot().ProjectByAPIKey(plain)
	if !ok || p.ID != project.DefaultID || got.ID != k.ID {
		t.Errorf("lookup: %+v, %+v, %t", p, got, ok)
	}
	for _, wrong := range []string{"", "hr_", plain[:42], plain + "x", "xx_" + plain[3:], plain[:42] + "!", strings.ToUpper(plain)} {
		if _, _, ok := r.Snapshot().ProjectByAPIKey(wrong); ok && wrong != plain {
			t.Errorf("%q is let in", wrong)
		}
	}
	if keys := r.Snapshot().APIKeys(project.DefaultID); len(keys) != 2 {
		t.Errorf("%d keys, want the first start's and this one", len(keys))
	}
	_, _, err = r.CreateAPIKey(ctx, "nowhere", "x", project.RoleAdmin)
	wantCode(t, err, event.CodeNotFound)
	_, _, err = r.CreateAPIKey(ctx, project.DefaultID, "x", "root")
	wantCode(t, err, event.CodeInvalid)
	_, _, err = r.CreateAPIKey(ctx, project.DefaultID, "", project.RoleAdmin)
	wantCode(t, err, event.CodeInvalid)

	wantCode(t, r.RevokeAPIKey(ctx, "other", k.ID), event.CodeNotFound)
	if err := r.RevokeAPIKey(ctx, project.DefaultID, k.ID); err != nil {
		t.Fatal(err)
	}
	if _, _, ok := r.Snapshot().ProjectByAPIKey(plain); ok {
		t.Error("a revoked key still works")
	}
	if _, _, ok := r.Snapshot().ProjectByAPIKey(first.APIKey.Reveal()); !ok {
		t.Error("the other key does not work any more")
	}
	wantCode(t, r.RevokeAPIKey(ctx, project.DefaultID, k.ID), event.CodeNotFound)
	wantCode(t, r.RevokeAPIKey(ctx, project.DefaultID, "not a key > at all"), event.CodeNotFound)
}

func TestProviderKeys(t *testing.T) {
	r, _ := start(t, project.Options{})
	ctx := t.Context()
	if err := r.SetProviderKey(ctx, project.DefaultID, "openai", "sk-first-1234567890"); err != nil {
		t.Fatal(err)
	}
	if err := r.SetProviderKey(ctx, project.DefaultID, "openai", "sk-second-1234567890"); err != nil {
		t.Fatal(err)
	}
	if k, ok := r.Snapshot().ProviderKey(project.DefaultID, "openai"); !ok || k.Reveal() != "sk-second-1234567890" {
		t.Error("the second key does not replace the first")
	}
	if list := r.Snapshot().ProviderKeys(project.DefaultID); len(list) != 1 || list[0].LastFour != "7890" {
		t.Errorf("list %+v", list)
	}
	// Of an AWS key, the id is shown, never a part of the secret.
	for _, key := range []string{"AKIAEXAMPLE000009876:secretsecretsecretABCD", "AKIAEXAMPLE000009876:secretsecretsecretABCD:sessionEFGH"} {
		if err := r.SetProviderKey(ctx, project.DefaultID, "bedrock", key); err != nil {
			t.Fatal(err)
		}
		if list := r.Snapshot().ProviderKeys(project.DefaultID); len(list) != 2 || list[0].LastFour != "9876" {
			t.Errorf("list %+v", list)
		}
	}
	for _, provider := range []string{"", "Open AI", "a.b", "*"} {
		wantCode(t, r.SetProviderKey(ctx, project.DefaultID, provider, "sk-x"), event.CodeInvalid)
	}
	for _, key := range []string{"", "with space", "line\nbreak", "ключ", strings.Repeat("x", 5000)} {
		wantCode(t, r.SetProviderKey(ctx, project.DefaultID, "openai", key), event.CodeInvalid)
	}
	wantCode(t, r.SetProviderKey(ctx, "nowhere", "openai", "sk-x"), event.CodeNotFound)
	if err := r.DeleteProviderKey(ctx, project.DefaultID, "openai"); err != nil {
		t.Fatal(err)
	}
	if _, ok := r.Snapshot().ProviderKey(project.DefaultID, "openai"); ok {
		t.Error("the key is still there")
	}
	wantCode(t, r.DeleteProviderKey(ctx, project.DefaultID, "openai"), event.CodeNotFound)
	wantCode(t, r.DeleteProviderKey(ctx, project.DefaultID, "*"), event.CodeNotFound)
}

// A replica's change reaches the other in well under a second.
func TestTwoRegistriesSeeEachOther(t *testing.T) {
	kv := bucket(t, 1)
	a, b := open(t, kv, project.Options{}), open(t, kv, project.Options{})
	must(a.Bootstrap(t.Context()))(t)
	changes := b.Changes(t.Context())
	within := func(what string, seen func(*project.Snapshot) bool) {
		t.Helper()
		begin := time.Now()
		timeout := time.After(time.Minute)
		for {
			select {
			case s := <-changes:
				if seen(s) {
					t.Logf("%s seen after %v", what, time.Since(begin))
					return
				}
			case <-timeout:
				t.Fatalf("%s not seen within a second", what)
			}
		}
	}
	c := must(a.CreateConnection(t.Context(), connection("c")))(t)
	within("a connection", func(s *project.Snapshot) bool {
		got, ok := s.Connection(c.ID)
		return ok && got.ProjectKey.Equal(c.ProjectKey)
	})
	must(a.UpdateConnection(t.Context(), project.DefaultID, c.ID, func(c *project.Connection) error { c.Enabled = false; return nil }))(t)
	within("a change", func(s *project.Snapshot) bool { got, _ := s.Connection(c.ID); return !got.Enabled })
	if err := a.DeleteConnection(t.Context(), project.DefaultID, c.ID); err != nil {
		t.Fatal(err)
	}
	within("a deletion", func(s *project.Snapshot) bool { _, ok := s.Connection(c.ID); return !ok })

	// And in the other direction; concurrent changes are all kept.
	var wg sync.WaitGroup
	for i, r := range []*project.Registry{a, b} {
		wg.Go(func() {
			for range 10 {
				_, err := r.UpdateProject(context.Background(), project.DefaultID, func(p *project.Project) error {
					if i == 0 {
						p.Settings.ContentDays++
					} else {
						p.Settings.MetricsDays = max(p.Settings.MetricsDays, 1000) + 1
					}
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	within("all", func(s *project.Snapshot) bool {
		p, _ := s.Project(project.DefaultID)
		return p.Settings.ContentDays == 40 && p.Settings.MetricsDays == 1010
	})
}

func TestUniqueNamesAcrossReplicas(t *testing.T) {
	kv := bucket(t, 1)
	rs := []*project.Registry{open(t, kv, project.Options{}), open(t, kv, project.Options{})}
	must(rs[0].Bootstrap(t.Context()))(t)
	var made, refused atomic.Int32
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			_, err := rs[i%2].CreateProject(context.Background(), "same")
			switch e := event.AsError(err); {
			case e == nil:
				made.Add(1)
			case e.Code == event.CodeConflict:
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if made.Load() != 1 || refused.Load() != 7 {
		t.Errorf("%d made, %d refused; want 1 and 7", made.Load(), refused.Load())
	}
}

func TestBootstrapOnce(t *testing.T) {
	dir := t.TempDir()
	kv, _ := bucketIn(t, dir, 1)
	a, b := open(t, kv, project.Options{}), open(t, kv, project.Options{})
	var firsts [2]project.FirstStart
	var wg sync.WaitGroup
	for i, r := range []*project.Registry{a, b} {
		wg.Go(func() {
			var err error
			if firsts[i], err = r.Bootstrap(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if firsts[0].First == firsts[1].First {
		t.Fatalf("first start: %t and %t, want one", firsts[0].First, firsts[1].First)
	}
	first, r := firsts[0], a
	if firsts[1].First {
		first, r = firsts[1], b
	}
	s := r.Snapshot()
	if len(s.Projects()) != 1 || len(s.Users()) != 1 || len(s.APIKeys(project.DefaultID)) != 1 {
		t.Errorf("%d projects, %d users, %d keys; want one each", len(s.Projects()), len(s.Users()), len(s.APIKeys(project.DefaultID)))
	}
	if firsts[0].Project.Token != firsts[1].Project.Token {
		t.Error("the two do not show the same project")
	}
	if _, k, ok := s.ProjectByAPIKey(first.APIKey.Reveal()); !ok || k.Role != project.RoleAdmin {
		t.Error("the first key is no administrator's")
	}
	if u, err := r.RedeemLink(t.Context(), first.SignInToken.Reveal()); err != nil || u.Role != project.RoleAdmin {
		t.Errorf("the first link gives %+v, %v", u, err)
	}
	again := must(open(t, kv, project.Options{}).Bootstrap(t.Context()))(t)
	if again.First || !again.APIKey.IsZero() || again.Project.ID != project.DefaultID {
		t.Errorf("a later start gives %+v", again)
	}
}

// flaky fails chosen writes.
type flaky struct {
	jetstream.KeyValue
	fail atomic.Pointer[func(key string) bool]
}

var errDown = errors.New("the bucket is down")

func (f *flaky) broken(key string) bool {
	p := f.fail.Load()
	return p != nil && (*p)(key)
}

func (f *flaky) Create(ctx context.Context, key string, v []byte, o ...jetstream.KVCreateOpt) (uint64, error) {
	if f.broken(key) {
		return 0, errDown
	}
	return f.KeyValue.Create(ctx, key, v, o...)
}

func (f *flaky) Update(ctx context.Context, key string, v []byte, rev uint64) (uint64, error) {
	if f.broken(key) {
		return 0, errDown
	}
	return f.KeyValue.Update(ctx, key, v, rev)
}

func TestBucketDown(t *testing.T) {
	kv := &flaky{KeyValue: bucket(t, 1)}
	r := open(t, kv, project.Options{})
	must(r.Bootstrap(t.Context()))(t)
	down := func(string) bool { return true }
	kv.fail.Store(&down)
	_, err := r.CreateProject(t.Context(), "x")
	wantCode(t, err, event.CodeUnavailable)
	if !errors.Is(err, errDown) {
		t.Errorf("error %v does not hold its cause", err)
	}
	_, err = r.UpdateProject(t.Context(), project.DefaultID, func(p *project.Project) error { p.Name = "y"; return nil })
	wantCode(t, err, event.CodeUnavailable)
	if p, ok := r.Snapshot().Project(project.DefaultID); !ok || p.Name != "default" {
		t.Error("the snapshot shows what is not saved")
	}
	kv.fail.Store(nil)
	// A name reserved by a failed creation is not lost: here only the
	// reservation failed, so it is free immediately.
	must(r.CreateProject(t.Context(), "x"))(t)
}

func TestSnapshotNeverChanges(t *testing.T) {
	r, _ := start(t, project.Options{})
	ctx := t.Context()
	c := must(r.CreateConnection(ctx, connection("c")))(t)
	old := r.Snapshot()
	names := func(s *project.Snapshot) (out []string) {
		for _, c := range s.Connections(project.DefaultID) {
			out = append(out, fmt.Sprintf("%s %t %d", c.Name, c.Enabled, c.FlushAt))
		}
		return out
	}
	before := names(old)

	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			var last uint64
			for {
				select {
				case <-stop:
					return
				default:
				}
				s := r.Snapshot()
				if s.Revision() < last {
					t.Error("a snapshot is older than the one before")
					return
				}
				last = s.Revision()
				names(s)
				s.ProjectByAPIKey("hr_" + strings.Repeat("x", 40))
				r.AuditLog("", 5)
			}
		})
	}
	for i := range 20 {
		must(r.UpdateConnection(ctx, project.DefaultID, c.ID, func(c *project.Connection) error { c.FlushAt = i + 1; c.Enabled = i%2 == 0; return nil }))(t)
		must(r.CreateConnection(ctx, connection(fmt.Sprintf("c%02d", i))))(t)
	}
	close(stop)
	wg.Wait()
	if got := names(old); !slices.Equal(got, before) {
		t.Errorf("the old snapshot now shows %v, want %v", got, before)
	}
	if got := names(r.Snapshot()); len(got) != 21 {
		t.Errorf("the new snapshot has %d connections, want 21", len(got))
	}
}

func TestChanges(t *testing.T) {
	r, _ := start(t, project.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	present := r.Snapshot()
	ch := r.Changes(ctx)
	if s := <-ch; s.Revision() < present.Revision() {
		t.Error("the first is older than the present snapshot")
	}
	// A reader that is busy may miss some of several, but not the last.
	const several = 5
	var last project.Project
	for i := range several {
		last = must(r.CreateProject(t.Context(), fmt.Sprint("p", i)))(t)
	}
	for i := 1; ; i++ {
		var s *project.Snapshot
		select {
		case s = <-ch:
		case <-time.After(time.Minute):
			t.Fatal("a slow reader misses the last change")
		}
		if _, ok := s.Project(last.ID); ok {
			break
		}
		if i == several {
			t.Fatalf("%d snapshots of %d changes, and none has the last", i, several)
		}
	}
	cancel()
	for range ch { // until it is closed
	}
	closing := r.Changes(t.Context())
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	for range closing {
	}
	_, err := r.CreateProject(t.Context(), "late")
	if err == nil {
		t.Error("a closed registry says that a change is in force")
	}
}

func TestAuditLog(t *testing.T) {
	r, _ := start(t, project.Options{})
	ctx := project.WithActor(t.Context(), "key k_1")
	c := must(r.CreateConnection(ctx, connection("c")))(t)
	must(r.UpdateConnection(ctx, project.DefaultID, c.ID, func(c *project.Connection) error {
		c.ProjectKey, c.FlushAt = project.NewSecret("phc_another_key_of_posthog"), 7
		return nil
	}))(t)
	plain, k, err := r.CreateAPIKey(ctx, project.DefaultID, "ci", project.RoleMember)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.SetProviderKey(ctx, project.DefaultID, "openai", "sk-secret-of-openai-1234"); err != nil {
		t.Fatal(err)
	}
	if err := r.Audit(t.Context(), project.AuditEntry{Action: "sign_in.refused", Target: "someone"}); err != nil {
		t.Fatal(err)
	}
	log := r.AuditLog("", 0)
	var actions []string
	for _, e := range log {
		actions = append(actions, e.Action+" by "+e.Actor)
		text := fmt.Sprintf("%+v", e)
		for _, secret := range []string{phc, phx, "phc_another_key", plain, "sk-secret"} {
			if strings.Contains(text, secret) {
				t.Errorf("%s holds a key", text)
			}
		}
	}
	want := []string{"sign_in.refused by system", "provider_key.set by key k_1", "key.create by key k_1", "connection.update by key k_1", "connection.create by key k_1"}
	if !slices.Equal(actions[:5], want) {
		t.Errorf("newest first:\n%v\nwant\n%v", actions[:5], want)
	}
	if got := log[3].Detail; got != "flush_at: 20 → 7, project key replaced" {
		t.Errorf("detail %q", got)
	}
	if log[2].Target != k.Prefix+"…" {
		t.Errorf("target %q", log[2].Target)
	}
	if got := r.AuditLog(project.DefaultID, 2); len(got) != 2 || got[0].Action != "provider_key.set" {
		t.Errorf("of the project, two: %+v", got)
	}
	log[0].Action = "changed by the caller"
	if r.AuditLog("", 1)[0].Action != "sign_in.refused" {
		t.Error("the caller's copy is the log itself")
	}
}

func TestRoles(t *testing.T) {
	roles := []project.Role{project.RoleViewer, project.RoleMember, project.RoleAdmin}
	for i, has := range roles {
		for j, need := range roles {
			if got := has.Can(need); got != (i >= j) {
				t.Errorf("%s can what needs %s: %t", has, need, got)
			}
		}
	}
	for _, r := range []project.Role{"", "root"} {
		if r.Valid() || r.Can(project.RoleViewer) || r.Can(r) {
			t.Errorf("role %q may something", r)
		}
	}
	admin, viewer := project.User{Role: project.RoleAdmin}, project.User{Role: project.RoleViewer, Projects: []string{"a"}}
	if !admin.CanSee("b") || !viewer.CanSee("a") || viewer.CanSee("b") {
		t.Error("who sees which project")
	}
}

func BenchmarkProjectByAPIKey(b *testing.B) {
	j, err := journal.Open(b.Context(), journal.Config{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = j.Close(context.Background()) }()
	kv, err := j.KeyValue(b.Context(), "settings", 1)
	if err != nil {
		b.Fatal(err)
	}
	r, err := project.Open(b.Context(), kv, project.Options{SecretKey: key1})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	first, err := r.Bootstrap(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	plain := first.APIKey.Reveal()
	b.ReportAllocs()
	for b.Loop() {
		if _, _, ok := r.Snapshot().ProjectByAPIKey(plain); !ok {
			b.Fatal("unknown")
		}
	}
}
