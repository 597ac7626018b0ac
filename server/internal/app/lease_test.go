package app

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/health"
	"github.com/hedgerow/hedgerow/server/internal/journal"
)

func openJournal(t *testing.T, c journal.Config) *journal.Journal {
	t.Helper()
	j, err := journal.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close(context.Background()) })
	return j
}

// testLease is a lease with short times.
func testLease(kv jetstream.KeyValue, folder string) *lease {
	l := newLease(kv, folder, slog.New(slog.DiscardHandler))
	l.renew, l.life = 50*time.Millisecond, 400*time.Millisecond
	return l
}

func rolesKV(t *testing.T) jetstream.KeyValue {
	t.Helper()
	kv, err := openJournal(t, journal.Config{Dir: t.TempDir()}).KeyValue(t.Context(), rolesBucket, 1)
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

// keep runs l.keep until the test, or the returned function, ends it.
func keep(t *testing.T, l *lease) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = l.keep(ctx) }()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

// TestLeaseRefuses has a second process come while the first has the store's role.
func TestLeaseRefuses(t *testing.T) {
	kv := rolesKV(t)
	first := testLease(kv, "/data/a")
	if err := first.claim(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop := keep(t, first)
	second := testLease(kv, "/data/b")
	err := second.claim(t.Context())
	holder := (*otherHolder)(nil)
	if !errors.As(err, &holder) || holder.Folder != "/data/a" || holder.PID != first.me.PID {
		t.Fatalf("%v, want the first's record", err)
	}
	if e := event.AsError(holder.explain()); !strings.Contains(e.Message, "/data/a") || e.Hint == "" {
		t.Errorf("%+v", e)
	}
	if r := second.health(); r.Status != health.Starting {
		t.Errorf("%+v", r)
	}
	// An orderly stop releases the role immediately.
	stop()
	if err := first.release(t.Context()); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := second.claim(t.Context()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took >= second.life {
		t.Errorf("a role that was given back was waited for, %v", took)
	}
}

// TestLeaseExpires has the holder vanish, as by kill -9.
func TestLeaseExpires(t *testing.T) {
	kv := rolesKV(t)
	if err := testLease(kv, "/data/a").claim(t.Context()); err != nil {
		t.Fatal(err)
	}
	next := testLease(kv, "/data/a")
	begin := time.Now()
	if err := next.claim(t.Context()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took < next.life || took > 10*next.life {
		t.Errorf("the role was taken after %v, want soon after %v", took, next.life)
	}
	if r := next.health(); r.Status != health.OK {
		t.Errorf("%+v", r)
	}
}

// TestLeaseLost has another process acquire the role of a suspended one:
// dependent loops end, and continue once it is back.
func TestLeaseLost(t *testing.T) {
	kv := rolesKV(t)
	first := testLease(kv, "/data/a")
	if err := first.claim(t.Context()); err != nil {
		t.Fatal(err)
	}
	held, release, err := first.hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	second := testLease(kv, "/data/b")
	if err := second.claim(t.Context()); err != nil { // the first has not renewed
		t.Fatal(err)
	}
	stopSecond := keep(t, second)
	keep(t, first)
	select {
	case <-held.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the first goes on with a role that it has lost")
	}
	if r := first.health(); r.Status != health.Failed || r.Message == "" || r.Hint == "" {
		t.Errorf("%+v", r)
	}
	stopSecond()
	if err := second.release(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	again, release2, err := first.hold(ctx)
	if err != nil {
		t.Fatalf("the role does not come back: %v", err)
	}
	defer release2()
	if again.Err() != nil {
		t.Error("the role that came back is lost already")
	}
	if r := first.health(); r.Status != health.OK || r.Message != "" {
		t.Errorf("%+v", r)
	}
}
