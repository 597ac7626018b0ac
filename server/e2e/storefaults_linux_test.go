package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/health"
)

// storeHealth is the store's health in /readyz.
func (p *proc) storeHealth() (h health.Report) {
	resp, err := http.Get(p.base + "/readyz")
	if err != nil {
		return health.Report{Message: err.Error()}
	}
	defer resp.Body.Close()
	var body struct{ Components []health.Report }
	_ = json.NewDecoder(resp.Body).Decode(&body)
	for _, c := range body.Components {
		if c.Component == "store" {
			return c
		}
	}
	return h
}

// sendEvents sends the given number of events to the journal.
func (p *proc) sendEvents(token string, n int) {
	p.w.t.Helper()
	for range n {
		if status, _, err := p.batch(token, event.NewID()); err != nil || status != http.StatusOK {
			p.w.t.Fatalf("%d %v\n%s", status, err, p.logs())
		}
	}
}

// TestStoreRebuilt damages, truncates, deletes and replaces the store of a
// real server: every event that the journal still has is restored once, and the
// pages report it until someone acknowledges it.
func TestStoreRebuilt(t *testing.T) {
	w := newWorld(t)
	p := w.start()
	token := projectToken(t, p)
	path := filepath.Join(w.dir, "hedgerow.duckdb")
	p.sendEvents(token, 40)
	p.awaitStored("", 40)
	all := 40
	for _, file := range []string{path, path + ".wal", path + ".tmp", filepath.Join(w.dir, "store-incidents.json")} {
		if info, err := os.Stat(file); err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", file, info.Mode())
		}
	}
	for _, f := range []struct {
		name    string
		running bool // the server, during the fault
		damage  func() error
		says    string // the store's health; "" if there is nothing to report
	}{
		{"cut in half", false, func() error { return os.Truncate(path, 60_000) }, "the store was damaged at"},
		{"header overwritten", false, func() error { return scribble(path, 4096, 8192) }, "the store was damaged at"},
		{"log overwritten", false, func() error { return scribble(path+".wal", 200, 900) }, "log of the store's last writes was damaged"},
		{"log cut short", false, func() error { return os.Truncate(path+".wal", 100) }, ""},
		{"log gone", false, func() error { return os.Remove(path + ".wal") }, ""},
		{"store gone", false, func() error { return os.Remove(path) }, "deleted or replaced"},
		{"store deleted while open", true, func() error { return os.Remove(path) }, "deleted or replaced"},
	} {
		if !f.running {
			p.kill()
		}
		if err := f.damage(); err != nil {
			t.Fatalf("%s: %v", f.name, err)
		}
		happened := time.Now()
		if !f.running {
			p = w.start()
		}
		if f.says != "" {
			w.await(func() bool {
				h := p.storeHealth()
				return h.Status == health.Degraded && strings.Contains(h.Message, f.says) && strings.Contains(h.Message, "refilled from the journal from")
			}, func() string { return fmt.Sprintf("%s: %+v\n%s", f.name, p.storeHealth(), p.logs()) })
		}
		p.awaitStored("", all)
		t.Logf("%s: all events are restored after %v", f.name, time.Since(happened).Round(time.Millisecond))
		p.sendEvents(token, 5) // and it continues
		all += 5
		p.awaitStored("", all)
		if f.says == "" {
			if h := p.storeHealth(); h.Status != health.OK {
				t.Errorf("%s: %+v", f.name, h)
			}
			continue
		}
		p.call("POST", "/api/v1/status/acknowledge", "", nil)
		if h := p.storeHealth(); h.Status != health.OK {
			t.Errorf("%s, acknowledged: %+v", f.name, h)
		}
	}
	if events := p.stored(""); len(events) != all {
		t.Errorf("%d events, want %d", len(events), all)
	}
	p.stop()
}

func scribble(path string, from, to int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt(make([]byte, to-from), from)
	return err
}

// TestBackupLeavesNoTrace interrupts "hedgerow backup" at different moments and
// writes backups to a disk that is too small: reads and writes continue, and
// the folder is removed.
func TestBackupLeavesNoTrace(t *testing.T) {
	w := newWorld(t)
	p := w.start()
	token := projectToken(t, p)
	p.sendEvents(token, 60)
	p.awaitStored("", 60)
	stop := make(chan struct{})
	var reading sync.WaitGroup
	reading.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
			if status, answer := p.send(t.Context(), "GET", "/api/v1/events?limit=5", ""); status != http.StatusOK {
				t.Errorf("a question: %d %s", status, answer)
				return
			}
		}
	})
	parent := t.TempDir()
	for i := range 12 {
		folder := filepath.Join(parent, fmt.Sprint("b", i))
		cmd := exec.Command(binary, "backup", folder)
		cmd.Env, cmd.Dir = w.environ(), parent
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(i) * 40 * time.Millisecond)
		_ = cmd.Process.Signal(os.Interrupt)
		if cmd.Wait() == nil {
			continue // it was already finished
		}
		w.await(func() bool { _, err := os.Stat(folder); return os.IsNotExist(err) }, func() string { return "an incomplete backup is left\n" + p.logs() })
	}
	small := t.TempDir()
	if err := syscall.Mount("tmpfs", small, "tmpfs", 0, "size=256k"); err != nil {
		t.Log("NOT TESTED, since it needs root: a backup to a full disk: ", err)
	} else {
		t.Cleanup(func() { _ = syscall.Unmount(small, syscall.MNT_DETACH) })
		for range 2 {
			if out, err := w.run("backup", filepath.Join(small, "b")); err == nil || !strings.Contains(out, "is full") || !strings.Contains(out, "another disk") {
				t.Errorf("backup to a full disk: %v\n%s", err, out)
			}
			if files, _ := os.ReadDir(small); len(files) > 0 {
				t.Errorf("files are left: %v", files)
			}
		}
	}
	p.sendEvents(token, 10)
	p.awaitStored("", 70)
	close(stop)
	reading.Wait()
	if out := w.mustRun("backup", filepath.Join(parent, "whole")); !strings.Contains(out, "backed up to") {
		t.Error(out)
	}
	if h := p.storeHealth(); h.Status != health.OK || h.Restarts != 0 {
		t.Errorf("%+v", h)
	}
}
