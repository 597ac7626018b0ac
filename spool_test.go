package hedgerow_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow"
	"github.com/hedgerow/hedgerow/event"
	simposthog "github.com/hedgerow/hedgerow/internal/simulate/posthog"
)

// spoolChild is what TestMain runs instead of the tests if SPOOL_CHILD is set:
// a process that captures and then waits to be killed.
func spoolChild(spec string) {
	host, dir, _ := strings.Cut(spec, " ")
	c, err := hedgerow.New(hedgerow.Config{APIKey: simposthog.Token, Host: host, SpoolDir: dir, FlushAt: 50, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for i := range 300 {
		c.Capture(hedgerow.WithUser(context.Background(), "ada"), "product event", hedgerow.Properties{"n": i})
		c.Capture(context.Background(), event.Generation, generation())
	}
	for s := c.Stats(); s.Spooled < s.Queued; s = c.Stats() {
		time.Sleep(time.Millisecond)
	}
	fmt.Println("captured")
	select {}
}

// A process that is killed loses nothing that was on disk.
func TestSpoolSurvivesKill(t *testing.T) {
	for _, c := range []struct {
		name string
		fail []simposthog.Fault
	}{
		{"host is down", []simposthog.Fault{{Times: -1, Reset: true}}},
		{"one batch was accepted, then the host hangs", []simposthog.Fault{{Times: 1, Status: 200, Accept: true}, {Times: -1, Delay: time.Minute}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			ph := simposthog.Run(t, simposthog.Options{})
			ph.Fail(c.fail...)
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(os.Environ(), "SPOOL_CHILD="+ph.URL()+" "+dir)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if line, _ := bufio.NewReader(out).ReadString('\n'); line != "captured\n" {
				t.Fatalf("child: %q", line)
			}
			// The child locks the folder while it runs.
			config := hedgerow.Config{APIKey: simposthog.Token, Host: ph.URL(), SpoolDir: dir, Logger: slog.New(slog.DiscardHandler)}
			_, err = hedgerow.New(config)
			var refused *event.Error
			if !errors.As(err, &refused) || refused.Code != event.CodeInvalid || !strings.Contains(err.Error(), "in use") || refused.Hint == "" {
				t.Errorf("a second process on the folder: %v", err)
			}
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()

			ph.ClearFaults()
			next, err := hedgerow.New(config)
			if err != nil {
				t.Fatal(err)
			}
			if err := next.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			seen := make(map[int]bool)
			for _, e := range ph.Named("product event") {
				seen[int(e.Number("n"))] = e.DistinctID == "ada"
			}
			if len(seen) != 300 || len(ph.Named(event.Generation)) != 300 || ph.Count() != 600 {
				t.Errorf("%d product events and %d LLM events of 300 each arrived, %d in all", len(seen), len(ph.Named(event.Generation)), ph.Count())
			}
			if err := next.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			if left := segments(t, dir); len(left) > 0 {
				t.Errorf("left on disk: %v", left)
			}
		})
	}
}

func segments(t *testing.T, dir string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "*.spool"))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func spooling(t *testing.T, dir string, set func(*hedgerow.Config)) *rig {
	t.Helper()
	return newRig(t, func(c *hedgerow.Config) {
		c.SpoolDir = dir
		if set != nil {
			set(c)
		}
	})
}

// Close keeps events in the spool for which no time is left, and the next
// client delivers them in order, as the same bytes.
func TestSpoolKeepsWhatCloseLeaves(t *testing.T) {
	dir := t.TempDir()
	r := spooling(t, dir, func(c *hedgerow.Config) { c.FlushAt = 1000 })
	var want []string
	for i := range 20 {
		e := &event.Event{UUID: event.NewID(), Name: "e", DistinctID: "u", Timestamp: time.Unix(1e9+int64(i), 0)}
		want = append(want, e.UUID)
		r.CaptureEvent(t.Context(), e)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Close(ctx); err == nil {
		t.Error("nothing is left in the spool")
	}
	if s := r.Stats(); s.Lost() != 0 || s.Sent != 0 {
		t.Errorf("%+v", s)
	}
	if list := segments(t, dir); len(list) != 1 {
		t.Fatalf("segments %v", list)
	}
	info, err := os.Stat(segments(t, dir)[0])
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	r = spooling(t, dir, nil)
	r.flush(t)
	for i, e := range r.ph.Events() {
		if e.UUID != want[i] || e.SentTimestamp != time.Unix(1e9+int64(i), 0).UTC().Format(time.RFC3339Nano) && !e.Timestamp.Equal(time.Unix(1e9+int64(i), 0)) {
			t.Errorf("event %d is %s at %s", i, e.UUID, e.SentTimestamp)
		}
	}
	if n := r.ph.Count(); n != 20 {
		t.Errorf("%d events", n)
	}
}

// A truncated file loses only the truncated events, and garbage loses nothing.
func TestSpoolTorn(t *testing.T) {
	dir := t.TempDir()
	r := spooling(t, dir, func(c *hedgerow.Config) { c.FlushAt = 1000 })
	for range 3 {
		r.Capture(t.Context(), "e", nil)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_ = r.Close(ctx)
	whole, err := os.ReadFile(segments(t, dir)[0])
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n <= len(whole); n += 7 {
		at := t.TempDir()
		if err := os.WriteFile(filepath.Join(at, "00000001.spool"), whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(at, "00000007.spool"), []byte(strings.Repeat("rubbish", 100)), 0o600); err != nil {
			t.Fatal(err)
		}
		r := spooling(t, at, nil)
		r.Capture(t.Context(), "new", nil)
		r.flush(t)
		if got, want := len(r.ph.Named("e")), 3*n/len(whole); got != want {
			t.Errorf("cut at %d of %d: %d events, want %d", n, len(whole), got, want)
		}
		if len(r.ph.Named("new")) != 1 {
			t.Errorf("cut at %d: the new event was lost", n)
		}
		if err := r.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if left := segments(t, at); len(left) != 0 {
			t.Errorf("left: %v", left)
		}
	}
}

// Events that do not fit on disk, or cannot be written, are delivered anyway.
func TestSpoolIsBounded(t *testing.T) {
	dir := t.TempDir()
	r := spooling(t, dir, func(c *hedgerow.Config) { c.SpoolBytes, c.FlushAt = 20<<10, 1000 })
	for range 200 {
		r.Capture(t.Context(), "e", hedgerow.Properties{"text": strings.Repeat("x", 1000)})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	r.ph.SetDown(true)
	_ = r.Flush(ctx)
	var size int64
	for deadline := time.Now().Add(30 * time.Second); size == 0 && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		for _, f := range segments(t, dir) { // the writer runs in the background
			info, err := os.Stat(f)
			if err != nil {
				t.Fatal(err)
			}
			size += info.Size()
		}
	}
	if size == 0 || size > 20<<10 {
		t.Errorf("%d bytes on disk", size)
	}
	r.ph.SetDown(false)
	r.flush(t)
	if n := r.ph.Count(); n != 200 {
		t.Errorf("%d events", n)
	}
	_ = r.Close(t.Context())
	if !strings.Contains(r.log.String(), "the spool is full") {
		t.Errorf("log %s", r.log)
	}
}

func TestSpoolFolderGoesAway(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	r := spooling(t, dir, nil)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	r.Capture(t.Context(), "e", nil)
	r.flush(t)
	if r.ph.Count() != 1 {
		t.Error("the event was lost")
	}
	_ = r.Close(t.Context())
	if s := r.log.String(); !strings.Contains(s, "cannot be written") || strings.Contains(s, dir) {
		t.Errorf("log %s", s)
	}
}

// With a spool a host that is down for a long time loses no events.
func TestSpoolRetriesToNoEnd(t *testing.T) {
	dir := t.TempDir()
	bubble(t, func(c *hedgerow.Config) { c.SpoolDir = dir }, func(t *testing.T, r *rig) {
		r.ph.SetDown(true)
		r.Capture(t.Context(), "e", nil)
		time.Sleep(6 * time.Hour)
		r.ph.SetDown(false)
		r.flush(t)
		if r.ph.Count() != 1 || r.Stats().Lost() != 0 {
			t.Errorf("%d events, %+v", r.ph.Count(), r.Stats())
		}
		_ = r.Close(t.Context())
	})
}

// An event that was reduced, split and rejected is handled the same from disk.
func TestSpoolTooLarge(t *testing.T) {
	r := spooling(t, t.TempDir(), nil)
	r.ph.Fail(simposthog.Fault{Status: 413})
	r.Capture(t.Context(), event.Generation, generation())
	r.flush(t)
	if e := r.ph.Events()[0]; e.Text("content_dropped") != "too_large" || e.Has("$ai_input") || e.Text("$ai_model") != "m" {
		t.Errorf("%s", e.Raw)
	}
}

// Segments of many events are deleted as their events are delivered.
func TestSpoolGivesDiskBack(t *testing.T) {
	dir := t.TempDir()
	r := spooling(t, dir, func(c *hedgerow.Config) { c.QueueSize = 100_000 })
	for range 20 {
		for range 150 {
			r.Capture(t.Context(), "e", hedgerow.Properties{"text": strings.Repeat("x", 4000)})
		}
		r.flush(t)
	}
	var size int64
	for _, f := range segments(t, dir) {
		if info, err := os.Stat(f); err == nil {
			size += info.Size()
		}
	}
	if size > 4<<20 || r.ph.Count() != 3_000 {
		t.Errorf("%d bytes on disk after all %d events have arrived", size, r.ph.Count())
	}
}

// FuzzSpool opens a folder that contains any file.
func FuzzSpool(f *testing.F) {
	dir := f.TempDir()
	ph := simposthog.New(simposthog.Options{})
	c, err := hedgerow.New(hedgerow.Config{APIKey: simposthog.Token, Host: host, SpoolDir: dir, FlushAt: 100, HTTPClient: &http.Client{Transport: ph.Transport()}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.Fatal(err)
	}
	c.Capture(context.Background(), "e", nil)
	c.Capture(context.Background(), event.Generation, generation())
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = c.Close(ctx)
	list, _ := filepath.Glob(filepath.Join(dir, "*.spool"))
	for _, name := range list {
		b, _ := os.ReadFile(name)
		f.Add(b)
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		at := t.TempDir()
		if err := os.WriteFile(filepath.Join(at, "00000001.spool"), b, 0o600); err != nil {
			t.Fatal(err)
		}
		r := spooling(t, at, func(c *hedgerow.Config) { c.MaxRetries = -1 })
		_ = r.Flush(t.Context())
		if err := r.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}
