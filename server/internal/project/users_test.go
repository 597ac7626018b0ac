package project_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

func TestUsers(t *testing.T) {
	r, _ := start(t, project.Options{})
	ctx := t.Context()
	u := must(r.CreateUser(ctx, project.User{Email: " Ann@Example.com ", Name: " Ann ", Role: project.RoleMember, Projects: []string{project.DefaultID, project.DefaultID}, PasswordHash: "smuggled"}))(t)
	if u.Email != "ann@example.com" || u.Name != "Ann" || len(u.Projects) != 1 || u.PasswordHash != "" {
		t.Errorf("created %+v", u)
	}
	if got, ok := r.Snapshot().UserByEmail("ANN@example.com"); !ok || got.ID != u.ID {
		t.Errorf("by e-mail: %+v, %t", got, ok)
	}
	_, err := r.CreateUser(ctx, project.User{Email: "ann@EXAMPLE.com", Role: project.RoleViewer})
	wantCode(t, err, event.CodeConflict)
	for _, bad := range []project.User{
		{Role: project.RoleViewer}, {Email: "no address", Role: project.RoleViewer}, {Email: "Ann <ann@x.com>", Role: project.RoleViewer},
		{Email: "b@example.com"}, {Email: "b@example.com", Role: "root"},
	} {
		_, err := r.CreateUser(ctx, bad)
		wantCode(t, err, event.CodeInvalid)
	}
	_, err = r.CreateUser(ctx, project.User{Email: "c@example.com", Role: project.RoleViewer, Projects: []string{"nowhere"}})
	wantCode(t, err, event.CodeNotFound)

	// The last administrator stays one, and stays.
	admin, _ := r.Snapshot().User(r.Snapshot().Users()[0].ID)
	if admin.Role != project.RoleAdmin {
		t.Fatalf("the first user is %+v", admin)
	}
	wantCode(t, r.DeleteUser(ctx, admin.ID), event.CodeConflict)
	_, err = r.UpdateUser(ctx, admin.ID, func(u *project.User) error { u.Role = project.RoleViewer; return nil })
	wantCode(t, err, event.CodeConflict)
	must(r.UpdateUser(ctx, u.ID, func(u *project.User) error { u.Role, u.Email = project.RoleAdmin, "ann2@example.com"; return nil }))(t)
	if err := r.DeleteUser(ctx, admin.ID); err != nil {
		t.Fatal(err)
	}
	// Her previous address is free.
	must(r.CreateUser(ctx, project.User{Email: "ann@example.com", Role: project.RoleViewer}))(t)
	wantCode(t, r.DeleteUser(ctx, admin.ID), event.CodeNotFound)
}

func TestLinkWorksOnce(t *testing.T) {
	kv := bucket(t, 1)
	clk := newClock()
	a, b := open(t, kv, project.Options{Now: clk.now}), open(t, kv, project.Options{Now: clk.now})
	ctx := t.Context()
	must(a.Bootstrap(ctx))(t)
	token, expires, err := a.AdminLink(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if want := clk.now().Add(project.LinkTTL); !expires.Equal(want) {
		t.Errorf("expires %v, want %v", expires, want)
	}
	var in, refused atomic.Int32
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			_, err := []*project.Registry{a, b}[i%2].RedeemLink(context.Background(), token)
			switch e := event.AsError(err); {
			case e == nil:
				in.Add(1)
			case e.Code == event.CodeUnauthorized:
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if in.Load() != 1 || refused.Load() != 9 {
		t.Errorf("%d were let in, %d refused; want 1 and 9", in.Load(), refused.Load())
	}

	token, _, err = a.AdminLink(ctx)
	if err != nil {
		t.Fatal(err)
	}
	clk.add(project.LinkTTL)
	_, err = a.RedeemLink(ctx, token)
	wantCode(t, err, event.CodeUnauthorized)
	for _, wrong := range []string{"", "x", strings.Repeat("y", 5000), "a.b > *"} {
		_, err = a.RedeemLink(ctx, wrong)
		wantCode(t, err, event.CodeUnauthorized)
	}
	_, _, err = a.CreateLink(ctx, "nobody")
	wantCode(t, err, event.CodeNotFound)

	// A link of a deleted user is invalid.
	u := must(a.CreateUser(ctx, project.User{Email: "u@example.com", Role: project.RoleViewer}))(t)
	token, _, err = a.CreateLink(ctx, u.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.DeleteUser(ctx, u.ID); err != nil {
		t.Fatal(err)
	}
	_, err = a.RedeemLink(ctx, token)
	wantCode(t, err, event.CodeUnauthorized)
}

func TestSessions(t *testing.T) {
	kv := bucket(t, 1)
	clk := newClock()
	r := open(t, kv, project.Options{Now: clk.now})
	ctx := t.Context()
	must(r.Bootstrap(ctx))(t)
	u := must(r.CreateUser(ctx, project.User{Email: "u@example.com", Role: project.RoleMember}))(t)
	create := func(agent string) (string, project.Session) {
		t.Helper()
		token, s, err := r.CreateSession(ctx, u.ID, agent)
		if err != nil {
			t.Fatal(err)
		}
		return token, s
	}
	works := func(token string) bool {
		s, who, ok := r.Snapshot().SessionByToken(token)
		return ok && who.ID == u.ID && s.UserID == u.ID
	}
	t1, s1 := create(strings.Repeat("Mozilla ", 100) + "\xff")
	clk.add(time.Minute)
	t2, _ := create("curl")
	if s1.ByLink {
		t.Error("a session by password says that it came by a link")
	}
	if token, _, err := r.CreateLinkSession(ctx, u.ID, "Safari"); err != nil {
		t.Fatal(err)
	} else if s, _, ok := r.Snapshot().SessionByToken(token); !ok || !s.ByLink || s.Agent != "Safari" {
		t.Errorf("a session by link: %+v", s)
	} else if err := r.RevokeSession(ctx, u.ID, s.ID); err != nil {
		t.Fatal(err)
	}
	if !works(t1) || !works(t2) || works("") || works(t1+"x") {
		t.Error("who is signed in")
	}
	if len(s1.Agent) != 200 {
		t.Errorf("the browser's name has %d characters", len(s1.Agent))
	}
	if list := r.Snapshot().Sessions(u.ID); len(list) != 2 || list[0].Agent != "curl" {
		t.Errorf("sessions %+v, want the newest first", list)
	}
	wantCode(t, r.RevokeSession(ctx, "another", s1.ID), event.CodeNotFound)
	if err := r.RevokeSession(ctx, u.ID, s1.ID); err != nil {
		t.Fatal(err)
	}
	if works(t1) || !works(t2) {
		t.Error("revoking one ends that one")
	}
	if err := r.SetPassword(ctx, u.ID, "a long enough one"); err != nil {
		t.Fatal(err)
	}
	if works(t2) {
		t.Error("a new password leaves whoever had the old one signed in")
	}
	t3, _ := create("x")
	clk.add(project.SessionTTL)
	if works(t3) {
		t.Error("the session never expires")
	}
	t4, _ := create("y") // deletes expired records
	if list := r.Snapshot().Sessions(u.ID); len(list) != 1 {
		t.Errorf("%d sessions, want the expired one gone", len(list))
	}
	t5, _ := create("z")
	if err := r.RevokeSessions(ctx, u.ID); err != nil {
		t.Fatal(err)
	}
	if works(t4) || works(t5) {
		t.Error("signing out everywhere leaves one")
	}
	t6, _ := create("z")
	if err := r.DeleteUser(ctx, u.ID); err != nil {
		t.Fatal(err)
	}
	if works(t6) {
		t.Error("a deleted user is signed in")
	}
	_, _, err := r.CreateSession(ctx, u.ID, "x")
	wantCode(t, err, event.CodeNotFound)
}

func TestPasswords(t *testing.T) {
	r, _ := start(t, project.Options{})
	ctx := t.Context()
	u := must(r.CreateUser(ctx, project.User{Email: "u@example.com", Role: project.RoleMember}))(t)
	const good = "correct horse battery"
	// Without a password no password works, not even an empty one.
	for _, p := range []string{"", good} {
		_, err := r.CheckPassword(ctx, "u@example.com", p)
		wantCode(t, err, event.CodeUnauthorized)
	}
	for _, p := range []string{"", "short", strings.Repeat("x", 201)} {
		wantCode(t, r.SetPassword(ctx, u.ID, p), event.CodeInvalid)
	}
	wantCode(t, r.SetPassword(ctx, "nobody", good), event.CodeNotFound)
	if err := r.SetPassword(ctx, u.ID, good); err != nil {
		t.Fatal(err)
	}
	got := must(r.CheckPassword(ctx, " U@example.com", good))(t)
	if got.ID != u.ID || !strings.HasPrefix(got.PasswordHash, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("signed in as %+v", got)
	}
	_, wrongPassword := r.CheckPassword(ctx, "u@example.com", good+"!")
	_, wrongUser := r.CheckPassword(ctx, "nobody@example.com", good)
	wantCode(t, wrongPassword, event.CodeUnauthorized)
	if wrongPassword.Error() != wrongUser.Error() {
		t.Errorf("the errors tell who exists: %v, %v", wrongPassword, wrongUser)
	}
	first := got.PasswordHash
	if err := r.SetPassword(ctx, u.ID, good); err != nil {
		t.Fatal(err)
	}
	if again, _ := r.Snapshot().User(u.ID); again.PasswordHash == first {
		t.Error("the same password gives the same hash: there is no salt")
	}
	// Memory of concurrent sign-ins is limited; a caller that stops waiting
	// gets an error.
	var wg sync.WaitGroup
	for range 12 {
		wg.Go(func() {
			if _, err := r.CheckPassword(context.Background(), "u@example.com", good); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}
