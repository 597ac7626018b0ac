package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestDamagedJournal damages or removes files of the journal: hedgerow starts
// within seconds with the same keys and connections, and records.
func TestDamagedJournal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start()
	if status, _, err := p.post(t.Context(), "/v1/chat/completions", "", chatBody); err != nil || status != 200 {
		t.Fatalf("%d %v", status, err)
	}
	p.awaitStored("", 1)
	p.stop()
	whole := w.dir
	for name, damage := range map[string]func(streams string) error{
		"SettingsBlock": func(s string) error { return overwrite(filepath.Join(s, "KV_hedgerow", "msgs", "1.blk")) },
		"SettingsMeta":  func(s string) error { return overwrite(filepath.Join(s, "KV_hedgerow", "meta.inf")) },
		"SettingsGone":  func(s string) error { return os.RemoveAll(filepath.Join(s, "KV_hedgerow")) },
		"EventsMeta":    func(s string) error { return overwrite(filepath.Join(s, "EVENTS", "meta.inf")) },
		"EventsBlock":   func(s string) error { return overwrite(filepath.Join(s, "EVENTS", "msgs", "1.blk")) },
		"StoreCursor":   func(s string) error { return overwrite(filepath.Join(s, "EVENTS", "obs", "store", "meta.inf")) },
		"JournalGone":   func(s string) error { return os.RemoveAll(filepath.Join(s, "..", "..", "..")) },
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{t: t, sim: w.sim, ph: w.ph, key: w.key, addr: freeAddr(t), dir: filepath.Join(t.TempDir(), "data")}
			if err := os.CopyFS(w.dir, os.DirFS(whole)); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(filepath.Join(w.dir, "secret.key"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := damage(filepath.Join(w.dir, "journal", "jetstream", "$G", "streams")); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			p := w.start()
			if took := time.Since(start); took > 15*time.Second {
				t.Errorf("up after %v", took)
			}
			if status, _, err := p.post(t.Context(), "/v1/chat/completions", "", chatBody, "X-PostHog-Trace-Id", "after-"+name); err != nil || status != 200 {
				t.Errorf("%d %v", status, err)
			}
			p.awaitStored("trace_id=after-"+name, 1) // with the API key of the first start
			var list struct {
				Connections []struct{ Name string } `json:"connections"`
			}
			p.get("/api/v1/connections", &list)
			if len(list.Connections) != 1 {
				t.Errorf("connections %+v", list.Connections)
			}
			if s := p.logs(); strings.Contains(s, "move it away") || strings.Contains(s, "empty journal") {
				t.Errorf("bad advice: %s", s)
			}
			p.stop()
		})
	}
}

// overwrite changes 64 bytes in the middle of a file.
func overwrite(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for i := len(b) / 2; i < min(len(b)/2+64, len(b)); i++ {
		b[i] ^= 0x55
	}
	return os.WriteFile(path, b, 0o600)
}

// TestFullDisk fills the disk under load, and starts on a full one: every call
// gets the provider's response, and within five seconds after space is freed
// everything is recorded again, by the same process.
func TestFullDisk(t *testing.T) {
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		t.Skip("NOT TESTED: a full disk, since that takes root on Linux to mount a tmpfs")
	}
	w := newWorld(t)
	disk := t.TempDir()
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=200m"); err != nil {
		t.Skipf("NOT TESTED: a full disk, since a tmpfs cannot be mounted here: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(disk, unix.MNT_DETACH) })
	w.dir = filepath.Join(disk, "data")
	p := w.start()
	token := p.token()
	for round, restart := range []bool{false, true} {
		if restart {
			p.stop()
		}
		filler := filepath.Join(disk, "filler")
		f, err := os.Create(filler)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(f, zeros{}); !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		f.Close()
		if restart {
			p = w.launch()
			w.await(func() bool {
				resp, err := http.Get(p.base + "/readyz")
				if err == nil {
					resp.Body.Close()
				}
				return err == nil && resp.StatusCode == http.StatusOK
			}, p.logs)
		}
		refused := false
		for i := range 60 {
			if status, _, err := p.post(t.Context(), "/v1/chat/completions", "", chatBody); err != nil || status != 200 {
				t.Errorf("call %d on a full disk: %d %v", i, status, err)
			}
			if status, _ := p.capture(token, fmt.Sprintf("full-%d-%d", round, i), ""); status == http.StatusServiceUnavailable {
				refused = true
			}
			time.Sleep(20 * time.Millisecond)
		}
		if !refused {
			t.Error("events are accepted on a full disk")
		}
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		id := fmt.Sprintf("again-%d", round)
		for status := 0; status != http.StatusOK; time.Sleep(20 * time.Millisecond) {
			if status, _ = p.capture(token, id, ""); time.Since(start) > 30*time.Second {
				t.Fatalf("not recorded again: %d\n%s", status, p.logs())
			}
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("recorded again after %v", took)
		} else {
			t.Logf("recorded again after %v", took)
		}
		p.awaitStored("trace_id="+id, 1)
		select {
		case <-p.done:
			t.Fatalf("the process ended:\n%s", p.logs())
		default:
		}
	}
	p.stop()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// capture sends an event as PostHog's SDKs do, and returns the status code.
func (p *proc) capture(token, trace, content string) (int, string) {
	body, _ := json.Marshal(map[string]any{"api_key": token, "batch": []any{map[string]any{"event": "$ai_generation", "distinct_id": "u", "properties": map[string]any{
		"$ai_model": "gpt-4.1-mini", "$ai_trace_id": trace, "$ai_input": content}}}})
	return p.send(p.w.t.Context(), "POST", "/batch/", string(body))
}

// TestPostHogOutage sends three times the journal's limit while PostHog is
// down: everything is recorded locally, and what PostHog does not get is
// reported as a gap.
func TestPostHogOutage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.env = []string{"HEDGEROW_JOURNAL_MAX_BYTES=16MiB"}
	w.ph.SetDown(true)
	p := w.start()
	token := p.token()
	const n = 400
	taken := 0
	text := make([]byte, 200_000)
	for i := range n {
		for j := range text { // incompressible
			text[j] = 'a' + byte(rand.IntN(26))
		}
		for start := time.Now(); ; time.Sleep(50 * time.Millisecond) { // as clients do after a 503
			status, answer := p.capture(token, "outage", string(text))
			if status == http.StatusOK {
				taken++
				break
			}
			if status != http.StatusServiceUnavailable && status != http.StatusInsufficientStorage || time.Since(start) > 20*time.Second {
				t.Fatalf("event %d: %d %s\n%s", i, status, answer, p.logs())
			}
		}
	}
	p.awaitStored("trace_id=outage", taken)
	var s struct {
		Server struct {
			Journal struct {
				Gaps []struct {
					Queue  string
					Events uint64
				}
			}
		}
	}
	w.await(func() bool { p.get("/api/v1/status", &s); return len(s.Server.Journal.Gaps) > 0 }, func() string { return "no gap is shown" })
	if g := s.Server.Journal.Gaps; len(g) != 1 || !strings.HasPrefix(g[0].Queue, "posthog-") || g[0].Events == 0 || g[0].Events >= n {
		t.Errorf("gaps %+v", g)
	}

	// Once PostHog is back the rest is sent, and then, on request, the skipped
	// events: also if the process is killed in between.
	at := func() int {
		uuids := make(map[string]bool)
		for _, e := range w.ph.Events() {
			if bytes.Contains(e.Properties["$ai_trace_id"], []byte("outage")) {
				uuids[e.UUID] = true
			}
		}
		return len(uuids)
	}
	w.ph.SetDown(false)
	lost := int(s.Server.Journal.Gaps[0].Events)
	w.await(func() bool { return at() >= taken-lost }, func() string { return fmt.Sprintf("%d of %d at PostHog, %d given up", at(), taken, lost) })
	if n := at(); n >= taken {
		t.Errorf("all %d are at PostHog before gaps were sent", n)
	}
	if out := w.mustRun("replay", "gaps"); !strings.Contains(out, "SENT AGAIN") || !strings.Contains(out, "  no") {
		t.Errorf("the gaps are listed as\n%s", out)
	}
	if out := w.mustRun("replay", "gaps", "--send"); !strings.Contains(out, "sending: 1") {
		t.Errorf("asked to send: %s", out)
	}
	p.kill()
	p = w.start()
	w.await(func() bool { return at() == taken }, func() string { return fmt.Sprintf("%d of %d at PostHog", at(), taken) })
	w.await(func() bool { return strings.Contains(w.mustRun("replay", "gaps"), "no gaps") }, func() string { return "the gap remains" })
	p.stop()
}
