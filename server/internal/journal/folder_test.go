package journal_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/server/internal/health"
	"github.com/hedgerow/hedgerow/server/internal/journal"
)

// awaitHealth waits until a journal has a status and a message with some words.
func awaitHealth(t *testing.T, j *journal.Journal, status health.Status, words string) {
	t.Helper()
	for begin := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		h := j.Health()
		if h.Status == status && strings.Contains(h.Message, words) {
			return
		}
		if time.Since(begin) > 20*time.Second {
			t.Fatalf("waited for %s with %q, have %+v", status, words, h)
		}
	}
}

// TestFolderOfEventsRemoved: NATS would continue to acknowledge events into
// deleted files.
func TestFolderOfEventsRemoved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := open(t, journal.Config{Dir: dir})
	mustQueue(t, j, "q", journal.QueueOptions{})
	mustAppend(t, j, newEvent("p1", 10))
	for range 20 { // NATS writes into it meanwhile
		if os.RemoveAll(filepath.Join(dir, "jetstream", "$G", "streams", "EVENTS")) == nil {
			break
		}
	}
	awaitHealth(t, j, health.Degraded, "was removed while hedgerow ran")
	e := newEvent("p1", 10)
	mustAppend(t, j, e)
	closeJournal(t, j)
	j = open(t, journal.Config{Dir: dir})
	if seen := drain(t, j, mustQueue(t, j, "q", journal.QueueOptions{})); seen[e.UUID] != 1 {
		t.Errorf("the event after it came %d times", seen[e.UUID])
	}
}

// TestFolderAway: nothing is acknowledged while the whole folder is missing or
// replaced, and all of it is available when it is back.
func TestFolderAway(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "journal")
	j := open(t, journal.Config{Dir: dir})
	e := newEvent("p1", 10)
	mustAppend(t, j, e)
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	awaitHealth(t, j, health.Failed, "was removed while hedgerow ran")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := j.Append(ctx, newEvent("p1", 10)); err == nil {
		t.Error("an event was acknowledged without a folder")
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("a new folder was made")
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	awaitHealth(t, j, health.Failed, "was replaced by another")
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	awaitHealth(t, j, health.OK, "")
	if seen := drain(t, j, mustQueue(t, j, "q", journal.QueueOptions{})); seen[e.UUID] != 1 {
		t.Errorf("the event before it came %d times", seen[e.UUID])
	}
}

// TestPurgeIsNoLoss: NATS makes the folder of the blocks again when it purges
// all, which is no reason to stop the journal.
func TestPurgeIsNoLoss(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := open(t, journal.Config{Dir: dir, Keep: -1, JanitorEvery: time.Hour})
	q := mustQueue(t, j, "q", journal.QueueOptions{})
	messages := filepath.Join(dir, "jetstream", "$G", "streams", "EVENTS", "msgs")
	before, err := os.Stat(messages)
	if err != nil {
		t.Fatal(err)
	}
	gone, remade := journal.Watch(dir), false
	for range 50 {
		mustAppend(t, j, newEvent("p1", 10))
		ackAll(t, fetchN(t, q, 1))
		waitLag(t, j, "q", func(qi journal.QueueInfo) bool { return qi.AckPending == 0 && qi.Pending == 0 })
		if err := j.Clean(t.Context()); err != nil {
			t.Fatal(err)
		}
		if now, err := os.Stat(messages); err == nil && !os.SameFile(before, now) {
			remade = true
		}
		if gone() {
			t.Fatal("a purge is taken for a removal")
		}
	}
	if !remade {
		t.Error("the folder was never made again: this tests nothing")
	}
	if err := os.RemoveAll(messages); err == nil && !gone() {
		t.Error("a removal is not noticed")
	}
}
