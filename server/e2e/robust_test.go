package e2e

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

const chatBody = `{"model":"gpt-4.1-mini","messages":[{"role":"user","content":"Say hedgerow."}]}`

// load makes calls until stop, each with its own trace id. It returns those
// whose responses ended, with the time.
type load struct {
	w     *world
	mu    sync.Mutex
	ended map[string]time.Time
	wg    sync.WaitGroup
	stop  context.CancelFunc
}

func startLoad(p *proc, round, workers int) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{w: p.w, ended: make(map[string]time.Time), stop: cancel}
	for w := range workers {
		l.wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				trace := fmt.Sprintf("load-%d-%d-%d", round, w, i)
				body := chatBody
				if i%3 == 2 {
					body = strings.Replace(chatBody, `{"model"`, `{"stream":true,"model"`, 1)
				}
				status, _, err := p.post(ctx, "/v1/chat/completions", "", body, "X-PostHog-Trace-Id", trace)
				if err == nil && status == http.StatusOK {
					l.mu.Lock()
					l.ended[trace] = time.Now()
					l.mu.Unlock()
				}
			}
		})
	}
	return l
}

// await waits until n calls have ended.
func (l *load) await(n int) {
	l.w.await(func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.ended) >= n
	}, func() string { return fmt.Sprintf("fewer than %d calls have ended", n) })
}

func (l *load) end() map[string]time.Time {
	l.stop()
	l.wg.Wait()
	return l.ended
}

// watchStalls returns a function that ends the watch and returns the longest
// time that this process was not scheduled: on a machine that stalls, 250 ms
// take that much longer.
func watchStalls() (longest func() time.Duration) {
	stop, done := make(chan struct{}), make(chan time.Duration)
	go func() {
		const step = 5 * time.Millisecond
		var most time.Duration
		for last := time.Now(); ; {
			select {
			case <-stop:
				done <- most
				return
			case <-time.After(step):
			}
			now := time.Now()
			most = max(most, now.Sub(last)-step)
			last = now
		}
	}()
	return func() time.Duration { close(stop); return <-done }
}

// TestCrash kills hedgerow with SIGKILL at random moments under load and
// restarts it. A call whose response ended 250 ms before is recorded exactly
// once, in the store and in PostHog. HEDGEROW_CRASH_ROUNDS sets the number of
// rounds; make crash runs 50.
func TestCrash(t *testing.T) {
	rounds := 5
	if n, err := strconv.Atoi(os.Getenv("HEDGEROW_CRASH_ROUNDS")); err == nil {
		rounds = n
	}
	w := newWorld(t)
	promised := make(map[string]time.Duration) // how long before the kill it ended
	p := w.start()
	w.flushFast()
	for round := range rounds {
		l, stalls := startLoad(p, round, 4), watchStalls()
		l.await(8) // two per worker, however slow the machine
		time.Sleep(time.Duration(400+rand.IntN(600)) * time.Millisecond)
		killed := time.Now() // the signal is sent after this; the process may take a while to end
		p.kill()
		stall := stalls()
		for trace, at := range l.end() {
			if before := killed.Sub(at); before >= 250*time.Millisecond+2*stall {
				promised[trace] = before
			}
		}
		p = w.start()
	}
	if len(promised) < rounds {
		t.Fatalf("only %d calls ended in %d rounds: no load", len(promised), rounds)
	}
	count := func() map[string]int {
		got := make(map[string]int)
		for _, e := range p.stored("") {
			got[e.TraceID]++
		}
		return got
	}
	missing := func(got map[string]int) (list []string) {
		for trace := range promised {
			if got[trace] == 0 {
				list = append(list, fmt.Sprintf("%s (%v before the kill)", trace, promised[trace].Round(time.Millisecond)))
			}
		}
		return list
	}
	w.await(func() bool { return len(missing(count())) == 0 }, func() string {
		m := missing(count())
		slices.Sort(m)
		return fmt.Sprintf("%d of %d promised calls are not stored, such as %v\n%s", len(m), len(promised), m[:min(20, len(m))], p.logs())
	})
	// Other calls may be stored a moment after they are sent.
	w.await(func() bool { return len(p.stored("")) >= len(w.ph.Events()) }, func() string {
		return fmt.Sprintf("%d stored, %d in PostHog\n%s", len(p.stored("")), len(w.ph.Events()), p.logs())
	})
	byUUID := make(map[string]string)
	for _, e := range p.stored("") {
		if other, twice := byUUID[e.UUID]; twice {
			t.Errorf("uuid %s is stored twice: %s, %s", e.UUID, other, e.TraceID)
		}
		byUUID[e.UUID] = e.TraceID
	}
	for trace, n := range count() {
		if n != 1 {
			t.Errorf("call %s is stored %d times", trace, n)
		}
	}
	// Sent and stored events agree.
	w.await(func() bool { return len(w.ph.Events()) >= len(byUUID) }, func() string {
		return fmt.Sprintf("PostHog has %d of %d events\n%s", len(w.ph.Events()), len(byUUID), p.logs())
	})
	sent := make(map[string]bool)
	for _, e := range w.ph.Events() {
		if sent[e.UUID] {
			t.Errorf("PostHog has uuid %s twice", e.UUID)
		}
		sent[e.UUID] = true
		if byUUID[e.UUID] == "" {
			t.Errorf("PostHog has %s, but the store does not", e.UUID)
		}
	}
	t.Logf("%d rounds, %d calls promised, %d stored, %d in PostHog", rounds, len(promised), len(byUUID), len(sent))
	p.stop()
}

// TestPostHogDown has PostHog unavailable for the whole run: gateway calls are
// not affected, and everything arrives when it is back.
func TestPostHogDown(t *testing.T) {
	w := newWorld(t)
	w.ph.SetDown(true)
	p := w.start()
	w.flushFast()
	const calls = 60
	for i := range calls {
		start := time.Now()
		status, _, err := p.post(t.Context(), "/v1/chat/completions", "", chatBody, "X-PostHog-Trace-Id", "down-"+strconv.Itoa(i))
		if err != nil || status != http.StatusOK {
			t.Fatalf("call %d: %d %v", i, status, err)
		}
		if d := time.Since(start); d > 20*time.Second { // less than the timeout of a PostHog that is down, on the slowest of machines
			t.Errorf("call %d took %v while PostHog was down", i, d)
		}
	}
	p.awaitStored("", calls)
	p.stop() // the queue survives a restart
	p = w.start()
	if n := len(w.ph.Events()); n != 0 {
		t.Fatalf("%d events came through an outage", n)
	}
	w.ph.SetDown(false)
	w.await(func() bool { return len(w.ph.Events()) == calls }, func() string {
		return fmt.Sprintf("%d of %d events after the outage\n%s", len(w.ph.Events()), calls, p.logs())
	})
	p.stop()
}

// TestGracefulStop sends SIGTERM under load: every call with a response is
// recorded, and delivered after the next start at the latest.
func TestGracefulStop(t *testing.T) {
	w := newWorld(t)
	p := w.start()
	l := startLoad(p, 0, 8)
	l.await(100)
	p.stop()
	ended := l.end()
	p = w.start()
	w.flushFast()
	p.awaitStored("", len(ended))
	got := make(map[string]bool)
	for _, e := range p.stored("") {
		got[e.TraceID] = true
	}
	for trace := range ended {
		if !got[trace] {
			t.Errorf("call %s got a response and is not recorded", trace)
		}
	}
	w.await(func() bool { return len(w.ph.Events()) >= len(ended) }, func() string { return "PostHog has too few events" })
	p.stop()
}

// TestFailures has a provider fail in every way: the caller gets the provider's
// response, and one event records what happened.
func TestFailures(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.env = []string{"HEDGEROW_UPSTREAM_TIMEOUT=1s"}
	p := w.start()
	w.flushFast()
	stream := strings.Replace(chatBody, `{"model"`, `{"stream":true,"model"`, 1)
	for _, c := range []struct {
		name, sim, body string
		status          int // that the caller gets; 0: the response is cut off
		eventStatus     int // in the event
		errType         string
		hangUp          bool
	}{
		{name: "bad-request", sim: "bad_request", body: chatBody, status: 400, eventStatus: 400},
		{name: "unauthorized", sim: "unauthorized", body: chatBody, status: 401, eventStatus: 401, errType: "invalid_api_key"},
		{name: "rate-limit", sim: "rate_limit", body: chatBody, status: 429, eventStatus: 429, errType: "rate_limit_exceeded"},
		{name: "quota", sim: "quota", body: chatBody, status: 429, eventStatus: 429, errType: "insufficient_quota"},
		{name: "server-error", sim: "server_error", body: chatBody, status: 500, eventStatus: 500, errType: "server_error"},
		{name: "html", sim: "not_json", body: chatBody, status: 502, eventStatus: 502},
		{name: "reset", sim: "reset", body: chatBody, status: 502, errType: event.ErrTypeUnreachable},
		{name: "timeout", sim: "hang", body: chatBody, status: 504, errType: event.ErrTypeTimeout},
		{name: "mid-reset", sim: "mid_reset", body: stream, eventStatus: 200, errType: event.ErrTypeStream},
		{name: "hang-up", sim: "first=0ms; gap=20ms; chunks=200", body: stream, eventStatus: 200, errType: event.ErrTypeClientGone, hangUp: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, body, err := 0, "", error(nil)
			if c.hangUp {
				ctx, cancel := context.WithCancel(t.Context())
				resp, openErr := p.open(ctx, "/v1/chat/completions", c.sim, c.body, "X-PostHog-Trace-Id", "fail-"+c.name)
				if openErr != nil {
					t.Fatal(openErr)
				}
				_, _ = io.ReadFull(resp.Body, make([]byte, 200)) // in the middle of the response
				cancel()
				_, err = io.ReadAll(resp.Body)
				resp.Body.Close()
			} else {
				status, body, err = p.post(t.Context(), "/v1/chat/completions", c.sim, c.body, "X-PostHog-Trace-Id", "fail-"+c.name)
			}
			if broken := c.status == 0; (err != nil) != broken {
				t.Fatalf("the caller got %d %v", status, err)
			}
			if c.status != 0 && status != c.status {
				t.Errorf("the caller got %d %s, want %d", status, body, c.status)
			}
			got := p.awaitStored("trace_id=fail-"+c.name, 1)
			if len(got) != 1 {
				t.Fatalf("%d events", len(got))
			}
			e := got[0]
			if !e.IsError || e.ErrorMessage == "" || e.HTTPStatus.Or(0) != int64(c.eventStatus) || c.errType != "" && e.ErrorType != c.errType {
				t.Errorf("event: error %v, type %q, status %v, message %q", e.IsError, e.ErrorType, e.HTTPStatus, e.ErrorMessage)
			}
			if e.Usage.Output.Known && e.Usage.Output.Value == 0 {
				t.Error("unknown tokens were written as 0")
			}
		})
	}
	t.Run("refused", func(t *testing.T) {
		_ = w.sim.Close()
		status, body, err := p.post(t.Context(), "/v1/chat/completions", "", chatBody, "X-PostHog-Trace-Id", "fail-refused")
		if err != nil || status != http.StatusBadGateway || !strings.Contains(body, `"error"`) {
			t.Fatalf("the caller got %d %s %v", status, body, err)
		}
		if e := p.awaitStored("trace_id=fail-refused", 1)[0]; e.ErrorType != event.ErrTypeUnreachable || e.HTTPStatus.Known {
			t.Errorf("event: type %q, status %v", e.ErrorType, e.HTTPStatus)
		}
	})
	p.stop()
}

// TestLargeBodies forwards a 25 MB request with images and a 200 MB response,
// and measures hedgerow's memory.
func TestLargeBodies(t *testing.T) {
	w := newWorld(t)
	p := w.start()
	before := rss(t, p)
	picture := strings.Repeat("iVBORw0KGgoAAAANSUhEUgAA", 25<<20/24)
	body := `{"model":"gpt-4.1-mini","messages":[{"role":"user","content":[{"type":"text","text":"What is this?"},{"type":"image_url","image_url":{"url":"data:image/png;base64,` + picture + `"}}]}]}`
	status, answer, err := p.post(t.Context(), "/v1/chat/completions", "", body, "X-PostHog-Trace-Id", "large-request")
	if err != nil || status != http.StatusOK {
		t.Fatalf("25 MB request: %d %s %v", status, answer, err)
	}
	for _, r := range w.sim.Requests() {
		if r.Bytes > 1<<20 && r.Bytes != int64(len(body)) {
			t.Errorf("the provider got %d bytes of %d", r.Bytes, len(body))
		}
	}
	e := p.awaitStored("trace_id=large-request", 1)[0]
	if !e.Usage.Input.Known || e.ParseError != "" {
		t.Errorf("usage %v, parse error %q", e.Usage.Input, e.ParseError)
	}
	var detail struct {
		Event struct{ Content struct{ Input any } }
	}
	p.get("/api/v1/events/"+e.UUID+"?content=true", &detail)
	if s := fmt.Sprint(detail.Event.Content.Input); !strings.Contains(s, "What is this?") || len(s) > 1000 {
		t.Errorf("content of %d bytes; want the text without the image", len(s))
	}
	const size = 200 << 20
	req, _ := http.NewRequest("GET", p.base+"/openai/v1/files/file-1/content?bytes="+strconv.Itoa(size), nil)
	req.Header.Set("X-PostHog-Trace-Id", "large-answer")
	req.Header.Set("Authorization", "Bearer sk-e2e-caller")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != size {
		t.Fatalf("%d of %d bytes, %v", n, size, err)
	}
	if e := p.awaitStored("trace_id=large-answer", 1)[0]; e.ResponseBytes != event.Some[int64](size) {
		t.Errorf("response bytes %v", e.ResponseBytes)
	}
	after := rss(t, p)
	t.Logf("resident memory: %d MB before, %d MB after", before>>20, after>>20)
	if after > 400<<20 {
		t.Errorf("resident memory grew from %d to %d MB", before>>20, after>>20)
	}
	p.stop()
}

func rss(t *testing.T, p *proc) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Skip("memory is read from /proc, which this system does not have")
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmHWM:" {
			kb, _ := strconv.ParseInt(f[1], 10, 64)
			return kb << 10
		}
	}
	return 0
}

// TestWrongSettings starts hedgerow with each invalid setting: it checks the
// exit code, and that the message explains the problem and the fix.
func TestWrongSettings(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "a-file")
	yaml := filepath.Join(dir, "bad.yaml")
	for path, content := range map[string]string{file: "x", yaml: "log_level: info\nlisten_adress: 1.2.3.4:5\n"} {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	w := newWorld(t)
	for _, c := range []struct {
		name string
		args []string
		env  []string
		code int
		want []string
	}{
		{"PortTaken", []string{"--listen", taken.Addr().String()}, nil, 3, []string{"cannot listen on " + taken.Addr().String(), "fix:", "--listen"}},
		{"DataIsAFile", []string{"--data", file}, nil, 4, []string{file, "fix:", "--data"}},
		{"ForeignData", []string{"--data", dir}, nil, 2, []string{dir, "a-file", "fix:", "--data"}},
		{"BadKey", []string{"--config", yaml}, nil, 2, []string{"bad.yaml line 2", `"listen_adress"`, "fix:"}},
		{"BadFlag", []string{"--nonsense"}, nil, 2, []string{"nonsense"}},
		{"BadSize", []string{"--journal-max-bytes", "lots"}, nil, 2, []string{"journal_max_bytes", `"lots"`}},
		{"PartialRoles", []string{"--roles", "gateway,ingest"}, nil, 2, []string{"roles:", "sinks", "fix:"}},
		{"PartialRolesOnNATS", []string{"--roles", "web", "--nats-url", "nats://127.0.0.1:9"}, nil, 2, []string{"roles:", "nats_url", "fix:"}},
		{"MinFreeDisk", []string{"--min-free-disk", "a lot"}, nil, 2, []string{"min_free_disk", "fix:"}},
		{"BadSecretKey", nil, []string{"HEDGEROW_SECRET_KEY=short"}, 2, []string{"HEDGEROW_SECRET_KEY", "fix:"}},
		{"PersonalKeyAsProjectKey", nil, []string{"POSTHOG_API_KEY=phx_0123456789abcdef0123"}, 2, []string{"POSTHOG_API_KEY", "phc_"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.env = append([]string{"HEDGEROW_DATA=" + filepath.Join(t.TempDir(), "d")}, c.env...)
			p := w.launch(c.args...)
			select {
			case <-p.done:
			case <-time.After(20 * time.Second):
				t.Fatalf("still runs:\n%s", p.logs())
			}
			if got := p.cmd.ProcessState.ExitCode(); got != c.code {
				t.Errorf("exit code %d, want %d", got, c.code)
			}
			for _, s := range c.want {
				if !strings.Contains(p.logs(), s) {
					t.Errorf("the message lacks %q:\n%s", s, p.logs())
				}
			}
			for _, s := range []string{"phx_0123456789abcdef0123", "goroutine ", "panic"} {
				if strings.Contains(p.logs(), s) {
					t.Errorf("the message contains %q:\n%s", s, p.logs())
				}
			}
		})
	}
	t.Run("SecondProcess", func(t *testing.T) {
		w := newWorld(t)
		p := w.start()
		w.env = []string{"HEDGEROW_LISTEN=" + freeAddr(t)}
		second := w.launch()
		<-second.done
		if got := second.cmd.ProcessState.ExitCode(); got != 5 || !strings.Contains(second.logs(), "fix:") {
			t.Errorf("exit code %d, want 5:\n%s", got, second.logs())
		}
		p.stop()
	})
}

// TestConnectionCommand covers a connection's life on the command line, with
// and without a running server.
func TestConnectionCommand(t *testing.T) {
	t.Parallel()
	for _, running := range []bool{true, false} {
		t.Run(fmt.Sprint("Running=", running), func(t *testing.T) {
			w := newWorld(t)
			w.env = []string{"POSTHOG_API_KEY="}
			p := w.start()
			if !running {
				p.stop()
			}
			if out := w.mustRun("connection", "status"); !strings.Contains(out, "no PostHog connection") {
				t.Errorf("status: %s", out)
			}
			w.env = []string{"POSTHOG_API_KEY=phc_unknown_0123456789abcdefghijklmnop"}
			out, err := w.run("connection", "set")
			if exitCode(err) == 0 || !strings.Contains(out, "not saved") {
				t.Errorf("an unknown key was saved: %v %s", err, out)
			}
			w.env = []string{"POSTHOG_API_KEY=" + phKey}
			if out := w.mustRun("connection", "set", "--flush-interval", "100ms"); strings.Contains(out, phKey) || !strings.Contains(out, "saved") {
				t.Errorf("set: %s", out)
			}
			if n := len(w.ph.Events()); n != 1 {
				t.Errorf("%d test events arrived, want 1", n)
			}
			w.mustRun("connection", "test")
			w.mustRun("connection", "disable")
			if out := w.mustRun("connection", "status"); !strings.Contains(out, "disabled") || strings.Contains(out, phKey) {
				t.Errorf("status: %s", out)
			}
			if running {
				before := len(w.ph.Events())
				for range 5 {
					if _, _, err := p.post(t.Context(), "/v1/chat/completions", "", chatBody); err != nil {
						t.Fatal(err)
					}
				}
				p.awaitStored("", 5)
				if n := len(w.ph.Events()); n != before {
					t.Errorf("a disabled connection sent %d events", n-before)
				}
				w.mustRun("connection", "enable")
				w.await(func() bool { return len(w.ph.Events()) == before+5 }, func() string { return "the backlog did not arrive\n" + p.logs() })
			}
			w.mustRun("connection", "delete", "--yes")
			if out := w.mustRun("connection", "status"); !strings.Contains(out, "no PostHog connection") {
				t.Errorf("status after delete: %s", out)
			}
			if running {
				p.stop()
			}
		})
	}
}

// TestAPI checks requests without a key, with a wrong key, and with invalid
// parameters.
func TestAPI(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start()
	ask := func(path, key string) (int, string) {
		req, _ := http.NewRequest("GET", p.base+path, nil)
		if key != "" {
			req.Header.Set("Authorization", "Bearer "+key)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b)
	}
	for _, c := range []struct {
		path, key string
		status    int
		want      string
	}{
		{"/healthz", "", 200, "ok"},
		{"/readyz", "", 200, `"status":"ok","components":[`},
		{"/readyz?for=store", "", 200, `"component":"journal"`},
		{"/readyz?for=everything", "", 400, "use ingest, store or web"},
		{"/metrics", "", 200, "hedgerow_journal_appended_total"},
		{"/api/v1/events", "", 401, "no API key"},
		{"/api/v1/events", "hr_wrong", 401, "unknown API key"},
		{"/api/v1/events", w.key, 200, `"events":[]`},
		{"/api/v1/events?modle=x", w.key, 400, "modle"},
		{"/api/v1/events?limit=-1", w.key, 400, "limit"},
		{"/api/v1/events?cursor=zzz", w.key, 400, "cursor"},
		{"/api/v1/events?from=yesterday", w.key, 400, "from"},
		{"/api/v1/events/0192b1c0-7e1a-7c3e-9a51-0123456789ab", w.key, 404, "not_found"},
		{"/api/v1/traces/nope", w.key, 404, "not_found"},
		{"/api/v1/stats?period=today&tz=Europe/Berlin", w.key, 200, `"time_zone":"Europe/Berlin"`},
		{"/api/v1/stats?period=7d", w.key, 200, `"by_surface"`},
		{"/api/v1/stats?tz=Nowhere/Land&period=today", w.key, 400, "hint"},
		{"/api/v1/stats?group_by=phase_of_moon", w.key, 400, "hint"},
		{"/api/v1/openapi.json", "", 200, `"openapi"`},
		{"/api/v1/nothing", w.key, 404, "openapi.json"},
		{"/overview", "", 200, "sign-in-link"},
	} {
		status, body := ask(c.path, c.key)
		if status != c.status || !strings.Contains(body, c.want) {
			t.Errorf("GET %s: %d %s; want %d with %q", c.path, status, body, c.status, c.want)
		}
	}
	p.stop()
}
