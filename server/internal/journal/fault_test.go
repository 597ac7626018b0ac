package journal_test

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/health"
	"github.com/hedgerow/hedgerow/server/internal/journal"
	"golang.org/x/sys/unix"
)

// smallDisk mounts its own file system, which takes root.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("NOT TESTED: a full disk, since a tmpfs cannot be mounted here (root can): %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fillDisk writes until the disk of dir is full, and returns what frees it.
func fillDisk(t *testing.T, dir string) (free func()) {
	t.Helper()
	path := filepath.Join(dir, "filler")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(f, zeros{}); !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	f.Close()
	return func() {
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// lines counts log lines that contain a text.
func lines(log, text string) (n int) {
	for l := range strings.Lines(log) {
		if strings.Contains(l, text) {
			n++
		}
	}
	return n
}

func waitHealth(t *testing.T, j *journal.Journal, want health.Status, within time.Duration) time.Duration {
	t.Helper()
	start := time.Now()
	for j.Health().Status != want {
		if time.Since(start) > within {
			t.Fatalf("after %v the journal is %+v, want %s", within, j.Health(), want)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return time.Since(start)
}

// TestDiskFull fills the disk under load, three times: every append is answered,
// the journal reports the cause and the fix, works again within five seconds
// after space is freed, and has every acknowledged event once.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, "96m")
	var log syncBuffer
	j := open(t, journal.Config{Dir: filepath.Join(disk, "journal"), Logger: slog.New(slog.NewTextHandler(&log, nil))})
	q := mustQueue(t, j, "q", journal.QueueOptions{})
	kv, err := j.KeyValue(t.Context(), "settings", 1)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	stored, refused := make(map[string]bool), 0
	came := make(map[string]int)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
				}
				batch := []*event.Event{newEvent("p1", 3000), newEvent("p1", 3000), newEvent("p2", 3000)}
				start := time.Now()
				err := j.Append(t.Context(), batch...)
				if took := time.Since(start); took > 20*time.Second {
					t.Errorf("an append took %v", took)
				}
				var ae *journal.AppendError
				failed := map[string]bool{}
				if errors.As(err, &ae) {
					for _, f := range ae.Failed {
						failed[f.UUID] = true
						if f.Err.Code != event.CodeUnavailable && f.Err.Code != event.CodeTimeout {
							t.Errorf("refused with %v", f.Err)
						}
					}
				}
				mu.Lock()
				for _, e := range batch {
					if failed[e.UUID] {
						refused++
					} else {
						stored[e.UUID] = true
					}
				}
				mu.Unlock()
			}
		})
	}
	wg.Go(func() {
		for {
			ds, err := q.Fetch(t.Context(), 50, 5*time.Millisecond)
			if err != nil {
				select {
				case <-stop:
				default:
					t.Error(err)
				}
				return
			}
			for _, d := range ds {
				mu.Lock()
				came[d.Event.UUID]++
				mu.Unlock()
				if err := d.Ack(); err != nil {
					t.Error(err)
				}
			}
		}
	})
	const rounds = 3
	for range rounds {
		time.Sleep(200 * time.Millisecond) // of load
		free := fillDisk(t, disk)
		waitHealth(t, j, health.Failed, 20*time.Second)
		h := j.Health()
		if h.Message != "the disk of the journal in "+filepath.Join(disk, "journal")+" is full" || !strings.Contains(h.Hint, "free disk space") || h.Component != "journal" || h.Since.IsZero() {
			t.Errorf("health %+v", h)
		}
		start := time.Now()
		_, err := kv.PutString(t.Context(), "a", "b")
		if event.AsError(err).Code != event.CodeUnavailable || time.Since(start) > time.Second {
			t.Errorf("a setting: %v after %v", err, time.Since(start))
		}
		time.Sleep(1500 * time.Millisecond) // some restarts in vain
		free()
		if took := waitHealth(t, j, health.OK, 20*time.Second); took > 5*time.Second {
			t.Errorf("recovered after %v", took)
		} else {
			t.Logf("recovered after %v", took)
		}
		mustAppend(t, j, newEvent("p1", 10))
	}
	if _, err := kv.PutString(t.Context(), "a", "b"); err != nil {
		t.Error(err)
	}
	close(stop)
	for end := time.Now().Add(45 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		lag, err := j.Lag(t.Context(), "q")
		if err != nil {
			t.Fatal(err)
		}
		if lag.Pending == 0 && lag.AckPending == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the queue does not come to an end: %+v", lag)
		}
	}
	mu.Lock()
	twice := 0
	for id := range stored {
		if came[id] == 0 {
			t.Errorf("acknowledged event %s never came", id)
		} else if came[id] > 1 {
			twice++
		}
	}
	t.Logf("%d stored, %d refused, %d came again", len(stored), refused, twice)
	if refused == 0 || len(stored) < 100 {
		t.Error("the test shows little")
	}
	mu.Unlock()
	s := log.String()
	if n := lines(s, "the journal does not work"); n != rounds {
		t.Errorf("%d lines of failures", n)
	}
	if n := lines(s, "the journal works again"); n != rounds {
		t.Errorf("%d lines of recoveries", n)
	}
	if n := strings.Count(s, "\n"); n > 12*rounds {
		t.Errorf("%d lines in the log:\n%s", n, s)
	}
	closeJournal(t, j)
	wg.Wait()
}

// TestStartOnFullDisk opens an existing and a new journal on a full disk: it
// opens, reports the cause, and works once there is space.
func TestStartOnFullDisk(t *testing.T) {
	t.Parallel()
	for _, there := range []bool{true, false} {
		disk := smallDisk(t, "32m")
		dir := filepath.Join(disk, "journal")
		var ids []string
		if there {
			j := open(t, journal.Config{Dir: dir})
			for range 10 {
				e := newEvent("p1", 1000)
				mustAppend(t, j, e)
				ids = append(ids, e.UUID)
			}
			closeJournal(t, j)
		}
		free := fillDisk(t, disk)
		start := time.Now()
		j := open(t, journal.Config{Dir: dir})
		if took := time.Since(start); took > 12*time.Second {
			t.Errorf("opened after %v", took)
		}
		q, err := j.Queue(t.Context(), "q", journal.QueueOptions{})
		if err != nil {
			t.Fatal(err)
		}
		kv, err := j.KeyValue(t.Context(), "settings", 1)
		if err != nil {
			t.Fatal(err)
		}
		start = time.Now()
		_, err = kv.Get(t.Context(), "a")
		wantError(t, err, event.CodeUnavailable, "is full")
		wantError(t, j.Append(t.Context(), newEvent("p1", 10)), event.CodeUnavailable, "is full")
		if took := time.Since(start); took > time.Second {
			t.Errorf("refused after %v", took)
		}
		free()
		if took := waitHealth(t, j, health.OK, 20*time.Second); took > 5*time.Second {
			t.Errorf("recovered after %v", took)
		}
		mustAppend(t, j, newEvent("p1", 10))
		if _, err := kv.PutString(t.Context(), "a", "b"); err != nil {
			t.Error(err)
		}
		got := uuids(fetchN(t, q, len(ids)+1))
		for i, id := range ids {
			if got[i] != id {
				t.Errorf("event %d is %s, want %s", i, got[i], id)
			}
		}
	}
}

// TestNATSLater opens a journal before its NATS server is running.
func TestNATSLater(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	j := open(t, journal.Config{NATSURL: fmt.Sprintf("nats://127.0.0.1:%d", port)})
	if h := j.Health(); h.Status != health.Failed || !strings.Contains(h.Message, "NATS server could not be reached") || h.Hint == "" {
		t.Errorf("health %+v", h)
	}
	wantError(t, j.Append(t.Context(), newEvent("p1", 10)), event.CodeUnavailable, "could not be reached")
	q := mustQueue(t, j, "q", journal.QueueOptions{})
	natsServer(t, t.TempDir(), port)
	waitHealth(t, j, health.OK, 30*time.Second)
	mustAppend(t, j, newEvent("p1", 10))
	fetchN(t, q, 1)
}
