package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	simposthog "github.com/hedgerow/hedgerow/internal/simulate/posthog"
	simprovider "github.com/hedgerow/hedgerow/internal/simulate/provider"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

const phKey = "phc_e2e_0123456789abcdefghijklmnopqrstuv"

// patience limits how long a test waits. Results that come soon on an idle
// machine come late on a slow or busy one.
const patience = 2 * time.Minute

var binary string

// TestMain builds the binary once.
func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "hedgerow-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		binary = filepath.Join(dir, "hedgerow")
		if out, err := exec.Command("go", "build", "-o", binary, "../cmd/hedgerow").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// world is everything outside hedgerow, and the data folder that outlives its
// processes.
type world struct {
	t    testing.TB
	sim  *simprovider.Server
	ph   *simposthog.Server
	dir  string
	addr string
	key  string // the API key of the first start
	env  []string
	bin  string // of another version; else the one that TestMain builds

	files int // the limit of open files; 0 keeps the test's own
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, dir: filepath.Join(t.TempDir(), "data"), addr: freeAddr(t)}
	w.sim = simprovider.New(simprovider.Options{Seed: 1, Keep: 200})
	if err := w.sim.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.sim.Close() })
	w.ph = simposthog.New(simposthog.Options{Projects: []simposthog.Project{{Name: "e2e", Token: phKey}}, KeepRequests: 100_000})
	if err := w.ph.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.ph.Stop)
	return w
}

// port is the next port to try. Ports from 32768 on are used for outgoing
// connections: one of them could be taken between two starts.
var port = func() *atomic.Int64 { n := new(atomic.Int64); n.Store(10_000 + rand.Int64N(20_000)); return n }()

// freeAddr is an address of this machine at which nothing listens and which no
// other test uses.
func freeAddr(t testing.TB) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", 10_000+port.Add(1)%20_000))
		if err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no port is free")
	return ""
}

func (w *world) binary() string {
	if w.bin != "" {
		return w.bin
	}
	return binary
}

// environ is the process's environment, without settings of the machine.
func (w *world) environ() []string {
	env := []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"),
		"HEDGEROW_DATA=" + w.dir, "HEDGEROW_LISTEN=" + w.addr,
		"HEDGEROW_UPSTREAM_OPENAI=" + w.sim.OpenAIURL(), "HEDGEROW_UPSTREAM_ANTHROPIC=" + w.sim.AnthropicURL(), "HEDGEROW_UPSTREAM_GEMINI=" + w.sim.GeminiURL(), "HEDGEROW_UPSTREAM_OPENROUTER=" + w.sim.OpenRouterURL(),
		"HEDGEROW_ALLOW_INSECURE_POSTHOG=1", "HEDGEROW_PRICES_REFRESH=off", "POSTHOG_API_KEY=" + phKey, "POSTHOG_HOST=" + w.ph.URL(),
	}
	return append(env, w.env...)
}

// proc is one hedgerow process.
type proc struct {
	w    *world
	cmd  *exec.Cmd
	base string
	done chan struct{} // closed when the process has ended

	mu       sync.Mutex
	out, log bytes.Buffer
}

func (w *world) start(args ...string) *proc {
	w.t.Helper()
	p := w.launch(args...)
	deadline := time.Now().Add(patience)
	for {
		resp, err := http.Get(p.base + "/readyz")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK && strings.Contains(p.stdout(), "  PostHog ") { // the banner's last line
				break
			}
		}
		select {
		case <-p.done:
			w.t.Fatalf("hedgerow ended while starting:\n%s", p.logs())
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("hedgerow is not ready after %v:\n%s", patience, p.logs())
		}
	}
	if m := regexp.MustCompile(`API key\s+(hr_\w+)`).FindStringSubmatch(p.stdout()); m != nil {
		w.key = m[1]
	}
	return p
}

func (w *world) launch(args ...string) *proc {
	w.t.Helper()
	p := &proc{w: w, base: "http://" + w.addr, done: make(chan struct{})}
	p.cmd = exec.Command(w.binary(), append([]string{"serve"}, args...)...)
	if w.files > 0 {
		p.cmd = exec.Command("sh", append([]string{"-c", fmt.Sprintf(`ulimit -n %d && exec "$0" "$@"`, w.files), w.binary(), "serve"}, args...)...)
	}
	p.cmd.Env = w.environ()
	p.cmd.Dir = w.t.TempDir()
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	var wg sync.WaitGroup
	collect := func(r io.Reader, into *bytes.Buffer) {
		for s := bufio.NewScanner(r); s.Scan(); {
			p.mu.Lock()
			into.WriteString(s.Text() + "\n")
			p.mu.Unlock()
		}
	}
	wg.Go(func() { collect(stdout, &p.out) })
	wg.Go(func() { collect(stderr, &p.log) })
	go func() {
		wg.Wait()
		_ = p.cmd.Wait()
		close(p.done)
	}()
	w.t.Cleanup(p.kill)
	return p
}

func (p *proc) stdout() string { p.mu.Lock(); defer p.mu.Unlock(); return p.out.String() }
func (p *proc) logs() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String() + p.log.String()
}

// kill is kill -9.
func (p *proc) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// stop sends SIGTERM; it fails the test if the process does not end within 30
// s, 10 of which are the grace period, or ends with an error.
func (p *proc) stop() {
	p.w.t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(30 * time.Second):
		p.w.t.Errorf("hedgerow has not stopped 30 s after SIGTERM:\n%s", p.logs())
		p.kill()
		return
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		p.w.t.Errorf("exit code %d after SIGTERM:\n%s", code, p.logs())
	}
}

// run runs a subcommand on the data folder.
func (w *world) run(args ...string) (string, error) {
	cmd := exec.Command(w.binary(), args...)
	cmd.Env = w.environ()
	cmd.Dir = w.t.TempDir()
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (w *world) mustRun(args ...string) string {
	w.t.Helper()
	out, err := w.run(args...)
	if err != nil {
		w.t.Fatalf("hedgerow %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// flushFast makes the environment's connection deliver immediately.
func (w *world) flushFast() {
	w.t.Helper()
	w.mustRun("connection", "set", "--flush-interval", "100ms", "--skip-test")
}

// send calls the API and returns the status code and the body.
func (p *proc) send(ctx context.Context, method, path, body string) (int, string) {
	req, err := http.NewRequestWithContext(ctx, method, p.base+path, strings.NewReader(body))
	if err != nil {
		return 0, err.Error()
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+p.w.key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

// call calls the API, which must succeed, and decodes the response into a value
// unless that is nil.
func (p *proc) call(method, path, body string, into any) {
	p.w.t.Helper()
	status, answer := p.send(p.w.t.Context(), method, path, body)
	if status != http.StatusOK {
		p.w.t.Fatalf("%s %s: %d %s\n%s", method, path, status, answer, p.logs())
	}
	if into != nil {
		if err := json.Unmarshal([]byte(answer), into); err != nil {
			p.w.t.Fatalf("%s %s: %v in %s", method, path, err, answer)
		}
	}
}

func (p *proc) get(path string, into any) {
	p.w.t.Helper()
	p.call("GET", path, "", into)
}

// stored returns the events that match a query, from all pages.
func (p *proc) stored(q string) []*query.Event {
	p.w.t.Helper()
	var out []*query.Event
	for cursor := ""; ; {
		var page query.EventsPage
		p.get("/api/v1/events?limit=1000&"+q+"&cursor="+url.QueryEscape(cursor), &page)
		out = append(out, page.Events...)
		if cursor = page.Next; cursor == "" {
			return out
		}
	}
}

// awaitStored waits until n events match. Events that a killed or stopped
// process had fetched and not acknowledged are redelivered when the journal
// opens.
func (p *proc) awaitStored(q string, n int) []*query.Event {
	p.w.t.Helper()
	var got []*query.Event
	p.w.await(func() bool { got = p.stored(q); return len(got) >= n }, func() string {
		return fmt.Sprintf("%d events stored for %q, want %d\n%s", len(got), q, n, p.logs())
	})
	return got
}

func (w *world) await(ok func() bool, say func() string) {
	w.t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("after %v: %s", patience, say())
		}
	}
}

// post sends a request through the gateway as a plain HTTP client would.
func (p *proc) post(ctx context.Context, path, sim string, body string, header ...string) (int, string, error) {
	resp, err := p.open(ctx, path, sim, body, header...)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// open is post until the response begins.
func (p *proc) open(ctx context.Context, path, sim string, body string, header ...string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, "POST", p.base+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if strings.Contains(path, "/messages") {
		req.Header.Set("X-Api-Key", "sk-ant-e2e-caller")
		req.Header.Set("Anthropic-Version", "2023-06-01")
	} else {
		req.Header.Set("Authorization", "Bearer sk-e2e-caller")
	}
	if sim != "" {
		req.Header.Set("X-Sim", sim)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return http.DefaultClient.Do(req)
}

func exitCode(err error) int {
	var e *exec.ExitError
	if errors.As(err, &e) {
		return e.ExitCode()
	}
	return 0
}
