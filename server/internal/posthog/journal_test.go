package posthog_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	simposthog "github.com/hedgerow/hedgerow/internal/simulate/posthog"
	"github.com/hedgerow/hedgerow/server/internal/journal"
	"github.com/hedgerow/hedgerow/server/internal/posthog"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// The manager with the real journal and registry, over real sockets: outage,
// restart of the deliverer, dead letters, deletion.
func TestWithJournalAndRegistry(t *testing.T) {
	ph := simposthog.Run(t, simposthog.Options{})
	j, err := journal.Open(t.Context(), journal.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	kv, err := j.KeyValue(t.Context(), "settings", 1)
	if err != nil {
		t.Fatal(err)
	}
	reg, err := project.Open(t.Context(), kv, project.Options{SecretKey: make([]byte, project.KeySize), AllowInsecureHosts: true})
	if err != nil {
		t.Fatal(err)
	}
	first, err := reg.Bootstrap(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	id := first.Project.ID
	m := posthog.NewManager(posthog.Config{
		Snapshot: reg.Snapshot, Changes: reg.Changes,
		OpenQueue: func(ctx context.Context, c project.Connection) (event.Queue, error) {
			return j.Queue(ctx, "posthog-"+c.ID, journal.QueueOptions{Project: c.ProjectID, AckWait: 2 * time.Second})
		},
		DropQueue:          func(ctx context.Context, id string) error { return j.DeleteQueue(ctx, "posthog-"+id) },
		AllowInsecureHosts: true,
		// A message that crosses with the end of a fetch is redelivered after
		// AckWait only: here that is short.
		Client: posthog.ClientConfig{ExtendEvery: 500 * time.Millisecond},
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := reg.Close(); err != nil {
			t.Error(err)
		}
		if err := j.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()

	c := project.NewConnection(id, "main")
	c.Host, c.ProjectKey, c.FlushInterval = ph.URL(), project.NewSecret(simposthog.Token), 100*time.Millisecond
	if c, err = reg.CreateConnection(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	sent := 0
	send := func(n int) {
		t.Helper()
		for range n {
			sent++
			e := &event.Event{UUID: event.NewID(), ProjectID: id, Name: event.Generation, DistinctID: fmt.Sprint("user-", sent), Timestamp: time.Now()}
			if err := j.Append(t.Context(), e); err != nil {
				t.Fatal(err)
			}
		}
	}
	arrived := func(n int) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		if err := ph.WaitFor(ctx, n); err != nil {
			t.Fatalf("%v; %+v", err, m.Status(c.ID))
		}
	}
	enable := func(on bool) {
		t.Helper()
		if _, err := reg.UpdateConnection(t.Context(), id, c.ID, func(c *project.Connection) error { c.Enabled = on; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	state := func(want string) {
		t.Helper()
		for end := time.Now().Add(time.Minute); m.Status(c.ID).State != want; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("status %+v, want state %s", m.Status(c.ID), want)
			}
		}
	}

	send(50)
	arrived(50)
	state(posthog.StateIdle)

	ph.SetDown(true)
	send(50)
	state(posthog.StateRetrying)
	enable(false)
	state(posthog.StateDisabled)
	send(50)
	ph.SetDown(false)
	enable(true)
	arrived(150)
	state(posthog.StateIdle)

	ph.Refuse(func(e simposthog.Event) string {
		if e.DistinctID == "user-155" {
			return "event submitted without a distinct_id"
		}
		return ""
	})
	send(10)
	arrived(159)
	state(posthog.StateIdle)
	if st := m.Status(c.ID); st.Dead != 1 {
		t.Errorf("status %+v", st)
	}
	if ph.Count() != 159 || ph.Lost() != 0 {
		t.Errorf("%d events, %d lost", ph.Count(), ph.Lost())
	}

	if err := reg.DeleteConnection(t.Context(), id, c.ID); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if _, err := j.Lag(t.Context(), "posthog-"+c.ID); err != nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the queue of a deleted connection stays")
		}
	}
}
