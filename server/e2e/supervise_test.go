package e2e

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/hedgerow/hedgerow/server/internal/health"
)

type readiness struct {
	Status     string          `json:"status"`
	Components []health.Report `json:"components"`
}

func (r readiness) component(name string) health.Report {
	for _, c := range r.Components {
		if c.Component == name {
			return c
		}
	}
	return health.Report{}
}

// ready requests /readyz.
func (p *proc) ready(query string) (int, readiness) {
	p.w.t.Helper()
	resp, err := http.Get(p.base + "/readyz" + query)
	if err != nil {
		p.w.t.Fatalf("/readyz%s: %v\n%s", query, err, p.logs())
	}
	defer resp.Body.Close()
	var r readiness
	if err := json.NewDecoder(resp.Body).Decode(&r); err != nil {
		p.w.t.Fatalf("/readyz%s: %v", query, err)
	}
	return resp.StatusCode, r
}

// TestOneStorePerNATS has processes share a NATS server. The second is rejected
// while the first runs, also with its own folder; after kill -9 the next one
// waits for the lease to expire, and no longer.
func TestOneStorePerNATS(t *testing.T) {
	nats, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true, MaxPayload: 9 << 20})
	if err != nil {
		t.Fatal(err)
	}
	nats.Start()
	defer nats.Shutdown()
	if !nats.ReadyForConnections(patience) {
		t.Fatal("NATS does not start")
	}
	w := newWorld(t)
	shared := []string{"HEDGEROW_NATS_URL=" + nats.ClientURL(), "HEDGEROW_SECRET_KEY=" + strings.Repeat("ab", 32)}
	w.env = shared
	p := w.start()
	second := func(folder string) (code int, out string) {
		other := *w
		other.env = append([]string{"HEDGEROW_LISTEN=" + freeAddr(t), "HEDGEROW_DATA=" + folder}, shared...)
		q := other.launch()
		select {
		case <-q.done:
		case <-time.After(patience):
			t.Fatalf("a second process on one NATS server runs:\n%s", q.logs())
		}
		return q.cmd.ProcessState.ExitCode(), q.logs()
	}
	for name, folder := range map[string]string{"a folder of its own": filepath.Join(t.TempDir(), "other"), "the same folder": w.dir} {
		code, out := second(folder)
		if code != 2 || !strings.Contains(out, "another hedgerow stores the events of this NATS cluster") || !strings.Contains(out, w.dir) || !strings.Contains(out, "fix:") {
			t.Errorf("with %s: exit code %d, want 2:\n%s", name, code, out)
		}
	}
	if status, _, err := p.post(t.Context(), "/v1/chat/completions", "", chatBody, "X-PostHog-Trace-Id", "first"); status != http.StatusOK {
		t.Fatal(status, err)
	}
	p.awaitStored("trace_id=first", 1)

	p.kill()
	begin := time.Now()
	p = w.start()
	took := time.Since(begin)
	if took > 30*time.Second {
		t.Errorf("the start after kill -9 took %v", took)
	}
	p.stop()
	begin = time.Now()
	p = w.start()
	if again := time.Since(begin); again > 8*time.Second {
		t.Errorf("the start after an orderly stop took %v: it waited for a released lease", again)
	}
	t.Logf("start after kill -9: %v", took.Round(time.Millisecond))
	p.stop()
}

// TestStoreDeleted deletes the store under a running server: this is detected,
// reported and repaired, while the gateway and its probe keep working.
func TestStoreDeleted(t *testing.T) {
	w := newWorld(t)
	p := w.start()
	if status, _ := p.ready("?for=store"); status != http.StatusOK {
		t.Fatalf("/readyz?for=store: %d", status)
	}
	for _, name := range []string{"hedgerow.duckdb", "hedgerow.duckdb.wal"} {
		if err := os.Remove(filepath.Join(w.dir, name)); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	var said bool
	w.await(func() bool {
		status, r := p.ready("")
		if status != http.StatusOK {
			t.Fatalf("/readyz is %d while the gateway forwards calls", status)
		}
		store := r.component("store")
		said = said || store.Status != health.OK
		return said && store.Working()
	}, func() string { return "the store is not rebuilt\n" + p.logs() })
	if status, _, err := p.post(t.Context(), "/v1/chat/completions", "", chatBody, "X-PostHog-Trace-Id", "after"); status != http.StatusOK {
		t.Fatal(status, err)
	}
	p.awaitStored("trace_id=after", 1)
	p.stop()
}

// TestTornPrices starts with a truncated file of synced prices.
func TestTornPrices(t *testing.T) {
	w := newWorld(t)
	if err := os.MkdirAll(w.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.dir, "prices.json"), []byte(`{"source":"openrouter`), 0o600); err != nil {
		t.Fatal(err)
	}
	p := w.start()
	status, r := p.ready("")
	if c := r.component("prices"); status != http.StatusOK || r.Status != "degraded" || c.Status != health.Degraded || !strings.Contains(c.Message, "prices.json") || c.Hint == "" {
		t.Errorf("%d %+v", status, c)
	}
	if status, _, err := p.post(t.Context(), "/v1/chat/completions", "", chatBody, "X-PostHog-Trace-Id", "priced"); status != http.StatusOK {
		t.Fatal(status, err)
	}
	if e := p.awaitStored("trace_id=priced", 1)[0]; e.Cost.Source == "" {
		t.Errorf("the built-in prices are not used: %+v", e.Cost)
	}
	p.stop()
}
