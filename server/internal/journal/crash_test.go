package journal_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/journal"
)

// TestCrash kills a process under load at random times, repeatedly on the same
// folder, and finds every acknowledged event once and complete.
// HEDGEROW_CRASH_ROUNDS is the number of rounds; 5 by default.
func TestCrash(t *testing.T) {
	rounds := 5
	if n, err := strconv.Atoi(os.Getenv("HEDGEROW_CRASH_ROUNDS")); err == nil {
		rounds = n
	}
	for _, c := range []struct {
		name       string
		role       string
		syncAlways bool
	}{
		{"SyncInterval", roleAppend, false},
		{"SyncAlways", roleAppend, true},
		{"WithConsumer", roleConsume, false},
		{"WithPurges", rolePurge, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			stored := make(map[string]bool)  // reported as stored
			fetched := make(map[string]bool) // seen by the child's consumer: it may have acknowledged them
			for round := range rounds {
				p := startChild(t, dir, c.role, c.syncAlways)
				killed := time.AfterFunc(time.Duration(1+rand.IntN(300))*time.Millisecond, func() { p.Process.Kill() })
				for p.lines.Scan() {
					// The last line may be truncated; only complete ids count.
					word, ids, _ := strings.Cut(p.lines.Text(), " ")
					for _, id := range strings.Fields(ids) {
						if len(id) != len(event.NewID()) {
							continue
						}
						switch word {
						case "stored":
							stored[id] = true
						case "acked":
							fetched[id] = true
						}
					}
					if word == "error" {
						t.Fatalf("round %d: %s", round, p.lines.Text())
					}
				}
				killed.Stop()
				p.Wait()
				checkAcknowledged(t, dir, stored, fetched, c.role != rolePurge)
				if t.Failed() {
					t.Fatalf("in round %d", round)
				}
			}
			if len(stored) < 10*rounds {
				t.Errorf("only %d events in %d rounds: the test shows little", len(stored), rounds)
			}
			t.Logf("%d rounds, %d acknowledged events, %d fetched before a kill", rounds, len(stored), len(fetched))
		})
	}
}

// checkAcknowledged reopens dir. A new queue has every stored event once; the
// child's own queue still has every stored one that it had not fetched. If
// nothing is kept, only the latter is true.
func checkAcknowledged(t *testing.T, dir string, stored, fetched map[string]bool, kept bool) {
	t.Helper()
	j, err := journal.Open(t.Context(), journal.Config{Dir: dir, KeepBytes: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	defer closeJournal(t, j)
	all := mustQueue(t, j, "all", journal.QueueOptions{})
	seen := drain(t, j, all)
	for id := range stored {
		if seen[id] != 1 && kept {
			t.Errorf("acknowledged event %s is there %d times", id, seen[id])
			return
		}
	}
	for id, n := range seen {
		if n != 1 {
			t.Errorf("event %s is there %d times", id, n)
			return
		}
	}
	if err := j.DeleteQueue(t.Context(), "all"); err != nil {
		t.Error(err)
	}
	if len(fetched) == 0 {
		return
	}
	rest := drain(t, j, mustQueue(t, j, "store", journal.QueueOptions{AckWait: 100 * time.Millisecond}))
	for id := range stored {
		if rest[id] == 0 && !fetched[id] {
			t.Errorf("acknowledged event %s never reached the queue", id)
			return
		}
	}
	for id := range rest { // this process has now ended them
		fetched[id] = true
	}
}

// drain acknowledges all events of a queue and counts the deliveries of each
// uuid.
func drain(t *testing.T, j *journal.Journal, q *journal.Queue) map[string]int {
	t.Helper()
	seen := make(map[string]int)
	for {
		lag, err := j.Lag(t.Context(), q.Name())
		if err != nil {
			t.Fatal(err)
		}
		if lag.Pending == 0 && lag.AckPending == 0 {
			return seen
		}
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		ds, err := q.Fetch(ctx, 1000, 10*time.Millisecond)
		cancel()
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		for _, d := range ds {
			seen[d.Event.UUID]++
			if err := d.Ack(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestSecondProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := startChild(t, dir, roleAppend, false)
	_, err := journal.Open(t.Context(), journal.Config{Dir: dir})
	wantError(t, err, event.CodeConflict, "another hedgerow is running on the folder "+dir)
	p.Process.Kill()
	for p.lines.Scan() {
	}
	p.Wait()
	// The kernel released the lock; nothing stale remains.
	open(t, journal.Config{Dir: dir})
	_, err = journal.Open(t.Context(), journal.Config{Dir: dir})
	wantError(t, err, event.CodeConflict, "another hedgerow is running")
}

// TestFaults makes the disk reject writes or uses up all file descriptors, then
// repairs that. The journal reports the cause, accepts nothing meanwhile, and
// recovers within seconds in the same process; acknowledged events are stored
// once.
func TestFaults(t *testing.T) {
	for _, c := range []struct{ role, says, hint string }{
		{roleFull, "limit of file sizes", "ulimit -f"},
		{roleFiles, "no file descriptor was left", "ulimit -n"},
	} {
		t.Run(c.role, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			p := startChild(t, dir, c.role, false)
			stored, came := make(map[string]bool), make(map[string]int)
			said := make(map[string]string)
			for p.lines.Scan() {
				switch word, rest, _ := strings.Cut(p.lines.Text(), " "); word {
				case "stored":
					stored[rest] = true
				case "came":
					came[rest]++
				default:
					said[word] = rest
				}
			}
			p.Wait()
			if len(stored) < 10 {
				t.Fatalf("%d events stored: %v", len(stored), said)
			}
			if !strings.HasPrefix(said["refused"], string(event.CodeUnavailable)+" true ") {
				t.Errorf("refused: %s", said["refused"])
			}
			if h := said["health"]; !strings.HasPrefix(h, "failed ") || !strings.Contains(h, c.says) || !strings.Contains(h, dir) || !strings.Contains(h, c.hint) {
				t.Errorf("health: %s", h)
			}
			if said["again"] != "unavailable true" || said["settings"] != "unavailable true" || said["closed"] != "<nil>" || said["error"] != "" {
				t.Errorf("child said %v", said)
			}
			var took, restarts int
			var status string
			if _, err := fmt.Sscan(said["mended"], &took, &status, &restarts); err != nil || took > 5000 || status != "ok" || restarts < 1 {
				t.Errorf("mended: %s", said["mended"])
			}
			t.Logf("%d events, %d came; recovered in %d ms, %d restarts", len(stored), len(came), took, restarts)
			for id := range stored {
				if came[id] != 1 {
					t.Errorf("event %s came %d times", id, came[id])
				}
			}
			checkAcknowledged(t, dir, stored, nil, true)
		})
	}
}

func TestOpenErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	readOnly := "/proc/self/journal" // root may write anywhere but here
	if os.Geteuid() != 0 {
		readOnly = t.TempDir()
		if err := os.Chmod(readOnly, 0o500); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	for _, c := range []struct {
		name string
		c    journal.Config
		code event.Code
		says string
	}{
		{"NoFolder", journal.Config{}, event.CodeInvalid, "no folder"},
		{"NotWritable", journal.Config{Dir: readOnly}, event.CodeInvalid, "folder " + readOnly + " cannot be written"},
		{"AFile", journal.Config{Dir: file}, event.CodeInvalid, file + " is a file"},
		{"BelowAFile", journal.Config{Dir: filepath.Join(file, "x")}, event.CodeInvalid, "cannot be written"},
		{"BoundTooSmall", journal.Config{Dir: dir, MaxBytes: 1000}, event.CodeInvalid, "below 1 MiB"},
		{"EventTooLarge", journal.Config{Dir: dir, MaxEventBytes: 9 << 20}, event.CodeInvalid, "at most 8 MiB"},
		{"Negative", journal.Config{Dir: dir, DeadMaxAge: -1}, event.CodeInvalid, "negative"},
		{"ReplicasEmbedded", journal.Config{Dir: dir, Replicas: 3}, event.CodeInvalid, "one replica"},
		{"TooManyReplicas", journal.Config{NATSURL: "nats://127.0.0.1:1", Replicas: 7}, event.CodeInvalid, "1 to 5"},
	} {
		t.Run(c.name, func(t *testing.T) {
			j, err := journal.Open(t.Context(), c.c)
			if err == nil {
				closeJournal(t, j)
			}
			wantError(t, err, c.code, c.says)
		})
	}
}
