package store_test

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/journal"
	"github.com/hedgerow/hedgerow/server/internal/store"
	"github.com/hedgerow/hedgerow/server/internal/store/storetest"
)

const sinkEnv = "HEDGEROW_STORE_TEST_SINK" // the folder of a journal and a store

// sinkChild appends to a journal forever while a sink fills the store from it,
// and prints the uuid of each event once the journal has stored it.
func sinkChild(dir string) error {
	ctx := context.Background()
	j, s, q, err := openBoth(ctx, dir)
	if err != nil {
		return err
	}
	go (&store.Sink{Queue: q, Store: s, FlushInterval: 20 * time.Millisecond}).Run(ctx)
	fmt.Println("open")
	g := storetest.NewGenerator(uint64(os.Getpid()))
	g.Content = 2000
	for {
		batch := make([]*event.Event, 1+rand.IntN(50))
		for i := range batch {
			batch[i] = g.Event(time.Now())
		}
		if err := j.Append(ctx, batch...); err != nil {
			return err
		}
		for _, e := range batch {
			fmt.Println(e.UUID)
		}
	}
}

func openBoth(ctx context.Context, dir string) (*journal.Journal, *store.DuckDB, *journal.Queue, error) {
	// Short waits, for events that a killed process had fetched.
	j, err := journal.Open(ctx, journal.Config{Dir: filepath.Join(dir, "journal")})
	if err != nil {
		return nil, nil, nil, err
	}
	q, err := j.Queue(ctx, "store", journal.QueueOptions{AckWait: 2 * time.Second})
	if err != nil {
		return nil, nil, nil, err
	}
	s, err := store.OpenDuckDB(ctx, store.Config{Path: filepath.Join(dir, "events.duckdb")})
	return j, s, q, err
}

// TestSinkKill kills a process between journal and store at random times, and
// finds every acknowledged event in the store, once. HEDGEROW_CRASH_ROUNDS is
// the number of rounds; 4 by default.
func TestSinkKill(t *testing.T) {
	rounds := 4
	if n, err := strconv.Atoi(os.Getenv("HEDGEROW_CRASH_ROUNDS")); err == nil {
		rounds = n
	}
	dir := t.TempDir()
	acknowledged := make(map[string]bool)
	for range rounds {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), sinkEnv+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		if !lines.Scan() || lines.Text() != "open" {
			t.Fatalf("child said %q", lines.Text())
		}
		n := 0
		for lines.Scan() {
			if id := lines.Text(); len(id) == len(event.NewID()) { // the last may be cut short
				acknowledged[id] = true
				if n++; n == 100 { // however slow the machine
					time.AfterFunc(rand.N(300*time.Millisecond), func() { cmd.Process.Kill() })
				}
			} else if len(id) > 5 && id[:5] == "error" {
				t.Fatal(id)
			}
		}
		cmd.Wait()
	}

	j, s, q, err := openBoth(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- (&store.Sink{Queue: q, Store: s}).Run(ctx) }()
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		lag, err := j.Lag(t.Context(), "store")
		if err != nil {
			t.Fatal(err)
		}
		if lag.Pending == 0 && lag.AckPending == 0 {
			break
		}
		if time.Since(start) > 30*time.Second {
			t.Fatalf("the sink does not catch up: %+v", lag)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if dead, err := j.DeadLetters(t.Context(), journal.DeadFilter{}); err != nil || len(dead) != 0 {
		t.Errorf("%d dead letters, %v", len(dead), err)
	}
	if err := j.Close(context.Background()); err != nil {
		t.Error(err)
	}
	seen := make(map[string]int)
	err = s.Read(t.Context(), func(r *sql.Rows) error {
		for r.Next() {
			var id string
			var contents int
			if err := r.Scan(&id, &contents); err != nil {
				return err
			}
			seen[id]++
			if contents != 1 {
				t.Errorf("event %s has %d contents", id, contents)
			}
		}
		return nil
	}, "SELECT CAST(uuid AS VARCHAR), (SELECT count(*) FROM content c WHERE c.uuid = e.uuid) FROM events e")
	if err != nil {
		t.Fatal(err)
	}
	for id := range acknowledged {
		if seen[id] != 1 {
			t.Fatalf("event %s is there %d times", id, seen[id])
		}
	}
	for id, n := range seen {
		if n != 1 {
			t.Fatalf("event %s is there %d times", id, n)
		}
	}
	if len(acknowledged) < 50*rounds {
		t.Errorf("only %d events: the test shows little", len(acknowledged))
	}
	t.Logf("%d rounds: %d acknowledged, %d stored", rounds, len(acknowledged), len(seen))
}
