package erasure_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/privacy"
	simposthog "github.com/hedgerow/hedgerow/internal/simulate/posthog"
	"github.com/hedgerow/hedgerow/server/internal/erasure"
	"github.com/hedgerow/hedgerow/server/internal/posthog"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/servertest"
)

type fixture struct {
	*erasure.Eraser
	server *servertest.Server
	ph     *simposthog.Server
	events []*event.Event // of ada, bob, and without a user
	conn   project.Connection
}

// newFixture is a store with three events, and a PostHog that has them, too.
// With scopes the connection has a personal key with these.
func newFixture(t *testing.T, scopes ...string) *fixture {
	t.Helper()
	f := &fixture{}
	for _, user := range []string{"ada", "bob", ""} {
		f.events = append(f.events, &event.Event{UUID: event.NewID(), ProjectID: project.DefaultID, Name: event.Generation, DistinctID: user, Timestamp: time.Now().Add(-time.Minute), TraceID: "t"})
	}
	f.server = servertest.Open(t, servertest.Options{Events: f.events})
	key := "phx_0123456789abcdefghijklmnopqrstuvwxyz01234567"
	f.ph = simposthog.Run(t, simposthog.Options{PersonalKeys: []simposthog.PersonalKey{{Key: key, Scopes: scopes}}})
	if len(scopes) == 0 {
		key = ""
	}
	f.conn = project.Connection{ProjectID: project.DefaultID, Name: "default", Host: f.ph.URL(), ProjectKey: project.NewSecret(simposthog.Token), PersonalKey: project.NewSecret(key)}
	f.Eraser = f.server.NewErasure(func(ctx context.Context, c project.Connection, id string) (bool, error) {
		return posthog.DeletePerson(ctx, c, id, posthog.QueryOptions{AllowInsecureHosts: true})
	})
	f.Connections = func(string) []project.Connection { return []project.Connection{f.conn} }
	return f
}

// left are the users of the events that are still there.
func (f *fixture) left(t *testing.T) (users []string) {
	t.Helper()
	page, err := f.server.Query.Events(t.Context(), query.EventsQuery{Project: project.DefaultID})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range page.Events {
		users = append(users, e.DistinctID)
	}
	slices.Sort(users)
	return users
}

func (f *fixture) audited(action string) (n int) {
	for _, e := range f.server.Registry.AuditLog(project.DefaultID, 0) {
		if e.Action == action && e.Actor == "key k_1" {
			n++
		}
	}
	return n
}

func TestDeleteAtHome(t *testing.T) {
	f := newFixture(t)
	ctx := project.WithActor(t.Context(), "key k_1")
	f.Dead = func(_ context.Context, projectID string, uuids []string) (int, error) {
		if len(uuids) != 1 {
			t.Errorf("dead letters of %s, %v", projectID, uuids)
		}
		return 2, nil
	}
	id := f.events[0].UUID
	var submitters []string
	f.Submitters = func(_ context.Context, projectID string, uuids []string) error {
		submitters = append(append(submitters, projectID), uuids...)
		return nil
	}
	res, err := f.Delete(ctx, erasure.Request{ProjectID: project.DefaultID, UUIDs: []string{strings.ToUpper(id), id}})
	if !slices.Equal(submitters, []string{project.DefaultID, id}) {
		t.Errorf("submitters of %v were removed", submitters)
	}
	f.Dead, f.Submitters = nil, nil
	if err != nil || res.Deleted != 1 || res.DeadLetters != 2 || len(res.Persons) != 0 || res.Stays == "" || res.PostHog == "" {
		t.Fatalf("%+v, %v", res, err)
	}
	if got := f.left(t); !slices.Equal(got, []string{"", "bob"}) {
		t.Errorf("left: %v", got)
	}
	if f.audited("event.delete") != 1 || len(f.ph.DeletedPersons()) != 0 {
		t.Errorf("audited %d, PostHog was asked for %v", f.audited("event.delete"), f.ph.DeletedPersons())
	}
	// Another project's name deletes nothing; events in the journal are not stored
	// again.
	if res, err := f.Delete(ctx, erasure.Request{ProjectID: "other", UUIDs: []string{f.events[1].UUID}}); err == nil && res.Deleted != 0 {
		t.Errorf("another project deleted %d", res.Deleted)
	}
	if got, err := f.server.Store.Write(ctx, f.events[:1]); err != nil || len(got.Stored) != 0 {
		t.Errorf("a deleted event came back: %v, %v", got.Stored, err)
	}
	for _, bad := range [][]string{nil, {"x"}, make([]string, erasure.MaxEvents+1)} {
		if _, err := f.Delete(ctx, erasure.Request{ProjectID: project.DefaultID, UUIDs: bad}); event.AsError(err) == nil {
			t.Errorf("%d ids: %v", len(bad), err)
		}
	}
}

func TestDeletePersons(t *testing.T) {
	f := newFixture(t, "person:write")
	ctx := project.WithActor(t.Context(), "key k_1")
	f.send(t, "ada")
	res, err := f.Delete(ctx, erasure.Request{ProjectID: project.DefaultID, UUIDs: []string{f.events[0].UUID, f.events[1].UUID}, Persons: true})
	want := []erasure.Person{{Connection: "default", DistinctID: "ada", Requested: true}, {Connection: "default", DistinctID: "bob"}}
	if err != nil || res.Deleted != 2 || !slices.Equal(res.Persons, want) {
		t.Fatalf("%+v, %v, want persons %v", res, err, want)
	}
	if got := f.ph.DeletedPersons(); !slices.Equal(got, []string{"ada"}) || f.audited("person.delete_requested") != 1 {
		t.Errorf("PostHog deleted %v, audited %d", got, f.audited("person.delete_requested"))
	}
	// An id is sent as a hash, which identifies the person.
	f.conn.HashDistinctIDs = true
	p, _ := f.server.Registry.Snapshot().Project(project.DefaultID)
	hash := privacy.HashID([]byte(p.HashKey.Reveal()), "ada")
	f.send(t, hash)
	again := &event.Event{UUID: event.NewID(), ProjectID: project.DefaultID, Name: event.Generation, DistinctID: "ada", Timestamp: time.Now()}
	if _, err := f.server.Store.Write(ctx, []*event.Event{again}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Delete(ctx, erasure.Request{ProjectID: project.DefaultID, UUIDs: []string{again.UUID}, Persons: true}); err != nil {
		t.Fatal(err)
	}
	if got := f.ph.DeletedPersons(); !slices.Equal(got, []string{"ada", hash}) {
		t.Errorf("PostHog deleted %v", got)
	}
	// Without a user nothing is deleted, and the error explains that.
	_, err = f.Delete(ctx, erasure.Request{ProjectID: project.DefaultID, UUIDs: []string{f.events[2].UUID}, Persons: true})
	if err == nil || !strings.Contains(err.Error(), "has a user") || len(f.left(t)) != 1 {
		t.Errorf("%v, left %v", err, f.left(t))
	}
}

// send adds an event of a person to PostHog.
func (f *fixture) send(t *testing.T, distinctID string) {
	t.Helper()
	body := fmt.Sprintf(`{"api_key":%q,"batch":[{"event":"$ai_generation","distinct_id":%q,"uuid":%q,"timestamp":%q,"properties":{}}]}`, simposthog.Token, distinctID, event.NewID(), event.FormatTime(time.Now()))
	res, err := http.Post(f.ph.URL()+"/batch/", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if res.Body.Close(); res.StatusCode != 200 {
		t.Fatalf("PostHog answers %s", res.Status)
	}
}

func TestPersonsNeedAKey(t *testing.T) {
	for name, c := range map[string]struct {
		scopes []string
		want   string
	}{
		"no key":   {nil, "has no personal key"},
		"no scope": {[]string{"query:read"}, "may not delete persons"},
		"may look": {[]string{"person:read"}, "may not delete persons"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, c.scopes...)
			f.send(t, "ada")
			_, err := f.Delete(t.Context(), erasure.Request{ProjectID: project.DefaultID, UUIDs: []string{f.events[0].UUID}, Persons: true})
			if e := event.AsError(err); e == nil || !strings.Contains(e.Message, c.want) || e.Hint == "" {
				t.Errorf("%v, want one that says %q and what to do", err, c.want)
			}
			if got := f.left(t); len(got) != 3 || len(f.ph.DeletedPersons()) != 0 {
				t.Errorf("left %v, PostHog deleted %v: nothing must be", got, f.ph.DeletedPersons())
			}
		})
	}
}
