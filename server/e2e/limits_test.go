package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// hang is a provider that never responds.
func hang(t *testing.T) (url string, under *atomic.Int64) {
	under = new(atomic.Int64)
	release := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		under.Add(1)
		defer under.Add(-1)
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-r.Context().Done():
		case <-release:
		}
	}))
	t.Cleanup(func() { close(release); s.CloseClientConnections(); s.Close() })
	return s.URL, under
}

// sumOf adds up the values of one metric of /metrics.
func (p *proc) sumOf(name string) (sum float64) {
	resp, err := http.Get(p.base + "/metrics")
	if err != nil {
		return -1
	}
	defer resp.Body.Close()
	for s := bufio.NewScanner(resp.Body); s.Scan(); {
		if rest, ok := strings.CutPrefix(s.Text(), name); ok && (rest[0] == ' ' || rest[0] == '{') {
			var v float64
			if _, err := fmt.Sscan(rest[strings.LastIndexByte(rest, ' ')+1:], &v); err == nil {
				sum += v
			}
		}
	}
	return sum
}

// captured sends one event, which needs the journal, and returns the status.
func (p *proc) captured() int {
	resp, err := http.Post(p.base+"/capture/", "application/json", strings.NewReader(`{"api_key":"`+phKey+`","event":"pressed","distinct_id":"u"}`))
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// TestFewDescriptors has 600 calls wait for a provider that never responds,
// with a limit of 1,024 open files: the process, its journal and its store keep
// working, calls within the connection limit keep waiting, and all accepted
// ones are recorded.
func TestFewDescriptors(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	url, under := hang(t)
	w.files, w.env = 1024, append(w.env, "HEDGEROW_UPSTREAM_OPENROUTER="+url)
	p := w.start()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	var refused, other atomic.Int64
	for range 600 {
		wg.Go(func() {
			tr := &http.Transport{DisableKeepAlives: true}
			req, err := http.NewRequestWithContext(ctx, "POST", p.base+"/openrouter/api/v1/chat/completions", strings.NewReader(`{"model":"m","messages":[]}`))
			if err != nil {
				t.Error(err)
				return
			}
			req.Header.Set("Content-Type", "application/json")
			req.Header.Set("Authorization", "Bearer sk-e2e-caller")
			resp, err := tr.RoundTrip(req)
			switch {
			case ctx.Err() != nil:
			case err != nil:
				refused.Add(1) // closed immediately if many are rejected at a time
			case resp.StatusCode == 503:
				resp.Body.Close()
				refused.Add(1)
			default:
				resp.Body.Close()
				other.Add(1)
			}
		})
	}
	w.await(func() bool { return refused.Load()+under.Load() >= 600 }, func() string {
		return fmt.Sprintf("%d refused, %d wait\n%s", refused.Load(), under.Load(), p.logs())
	})
	in := under.Load()
	if in < 200 || other.Load() != 0 {
		t.Errorf("%d calls wait for the provider, %d had another result", in, other.Load())
	}
	select {
	case <-p.done:
		t.Fatalf("the process ended:\n%s", p.logs())
	case <-time.After(time.Second):
	}
	if got := under.Load(); got != in {
		t.Errorf("of %d running calls %d are left", in, got)
	}
	cancel()
	wg.Wait()
	w.await(func() bool { return p.captured() == 200 }, p.logs)
	if status, _, err := p.post(t.Context(), "/openai/v1/chat/completions", "", `{"model":"gpt-4.1-mini","messages":[{"role":"user","content":"x"}]}`); err != nil || status != 200 {
		t.Errorf("a call after it: %d %v\n%s", status, err, p.logs())
	}
	p.awaitStored("provider=openrouter", int(in))
	p.awaitStored("provider=openai", 1)
	if strings.Contains(p.logs(), "too many open files") {
		t.Errorf("descriptors ran out:\n%s", p.logs())
	}
	p.stop()
}

// TestHalfHeaders holds 400 connections with half a header, without a key, with
// a limit of 256 open files: calls are served and events are recorded in the
// meantime.
func TestHalfHeaders(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.files = 256
	p := w.start()
	for range 400 {
		c, err := net.DialTimeout("tcp", w.addr, patience)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = io.WriteString(c, "POST /openai/v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Ty")
	}
	http.DefaultClient.CloseIdleConnections()
	for i := range 20 {
		var status int
		var answer string
		var err error
		// The server waits one second for a header.
		w.await(func() bool {
			status, answer, err = p.post(t.Context(), "/openai/v1/chat/completions", "", `{"model":"gpt-4.1-mini","messages":[{"role":"user","content":"x"}]}`)
			return err == nil && status == 200
		}, func() string { return fmt.Sprintf("call %d: %d %s %v\n%s", i, status, answer, err, p.logs()) })
	}
	if got := p.captured(); got != 200 {
		t.Errorf("capture: %d\n%s", got, p.logs())
	}
	p.awaitStored("provider=openai", 20)
	if strings.Contains(p.logs(), "too many open files") {
		t.Errorf("descriptors ran out:\n%s", p.logs())
	}
	p.stop()
}

// TestSlowUploads has nine connections announce 30 MB and send one byte: they
// take no memory from others, and end with 408. A slow upload that makes
// progress is forwarded.
func TestSlowUploads(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.env = append(w.env, "HEDGEROW_MIN_UPLOAD_RATE=1KiB")
	p := w.start()
	answers := make(chan string, 9)
	begin := time.Now()
	for range 9 {
		c, err := net.DialTimeout("tcp", w.addr, patience)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		_, _ = io.WriteString(c, "POST /openai/v1/chat/completions HTTP/1.1\r\nHost: "+w.addr+"\r\nContent-Type: application/json\r\nContent-Length: 30000000\r\n\r\n{")
		go func() {
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				answers <- err.Error()
				return
			}
			b, _ := io.ReadAll(resp.Body)
			answers <- fmt.Sprint(resp.StatusCode, " ", resp.Close, " ", string(b))
		}()
	}
	w.await(func() bool { return p.sumOf("hedgerow_gateway_in_flight") == 9 }, p.logs)
	if held := p.sumOf("hedgerow_gateway_request_bytes"); held > 9*64<<10 {
		t.Errorf("%v bytes are held for them", held)
	}
	said := strings.Repeat("word ", 200_000)
	if status, answer, err := p.post(t.Context(), "/openai/v1/chat/completions", "", `{"model":"gpt-4.1-mini","messages":[{"role":"user","content":"`+said+`"}]}`); err != nil || status != 200 {
		t.Fatalf("%d %s %v", status, answer, err)
	}
	if n := p.sumOf("hedgerow_gateway_bodies_unread_total"); n != 0 {
		t.Errorf("%v bodies passed unread", n)
	}
	// 2 KiB per second for 40 s, and not JSON, which would be buffered.
	r, pw := io.Pipe()
	go func() {
		for range 40 {
			if _, err := pw.Write(make([]byte, 2<<10)); err != nil {
				return
			}
			time.Sleep(time.Second)
		}
		_ = pw.Close()
	}()
	req, err := http.NewRequestWithContext(t.Context(), "POST", p.base+"/openai/v1/files", r)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode == 408 || resp.StatusCode >= 500 {
		t.Errorf("a slow upload with progress: %v %v", resp, err)
	} else {
		resp.Body.Close()
	}
	for range 9 {
		if got := <-answers; !strings.HasPrefix(got, "408 true ") || !strings.Contains(got, "too slowly") {
			t.Errorf("%s", got)
		}
	}
	if d := time.Since(begin); d < 30*time.Second {
		t.Errorf("cut after %v", d)
	}
	p.stop()
}

// TestTelemetryIsNotForwarded sends every OTLP signal to every path that looks
// like a provider's, with each token and with none: hedgerow responds, and no
// provider receives any of it.
func TestTelemetryIsNotForwarded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start()
	token := projectToken(t, p)
	logs := `{"resourceLogs":[{"scopeLogs":[{"scope":{"name":"opentelemetry.instrumentation.openai_v2"},"logRecords":[{"timeUnixNano":"1","eventName":"gen_ai.user.message","body":{"kvlistValue":{"values":[{"key":"content","value":{"stringValue":"a private prompt"}}]}}}]}]}]}`
	for _, path := range []string{"/v1/logs", "/v1/metrics", "/v1development/profiles", "/v1/traces", "/otlp/v1/logs", "/openai/v1/logs", "/openai/v1/metrics/", "/anthropic/v1/logs", "/openrouter/api/v1/logs", "/v1//logs", "/v1/Logs", "/i/v0/ai/otel/v1/logs"} {
		for _, auth := range []string{"Bearer " + token, "Bearer " + w.key, "Bearer " + phKey, "Bearer phc_hedgerow_wrong", "", "Bearer sk-e2e-caller"} {
			body := logs
			if !strings.Contains(strings.ToLower(path), "logs") {
				body = `{}`
			}
			status, answer, err := p.post(t.Context(), path, "", body, "Authorization", auth)
			want := 401
			if strings.Contains(auth, token) || strings.Contains(auth, w.key) || strings.Contains(auth, phKey) {
				want = 200
			}
			if err != nil || status != want || want == 200 && answer != "{}" {
				t.Errorf("%s with %q: %d %s %v", path, auth, status, answer, err)
			}
		}
	}
	// Clients that use the token, or a key without a provider key, instead of a
	// provider's key.
	for _, path := range []string{"/v1/chat/completions", "/openai/v1/models", "/anthropic/v1/messages", "/gemini/v1beta/models/x:generateContent", "/openrouter/api/v1/chat/completions"} {
		for _, header := range []string{"Authorization", "X-Api-Key", "Api-Key", "X-Goog-Api-Key"} {
			for _, own := range []string{token, w.key} {
				value := own
				if header == "Authorization" {
					value = "Bearer " + own
				}
				req, err := http.NewRequestWithContext(t.Context(), "POST", p.base+path, strings.NewReader(`{"model":"m"}`))
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Content-Type", "application/json")
				req.Header.Set(header, value)
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if resp.StatusCode != 401 {
					t.Errorf("%s, %s: %d", path, header, resp.StatusCode)
				}
			}
		}
	}
	if n := len(w.sim.Requests()); n != 0 {
		t.Errorf("%d requests reached a provider", n)
	}
	p.stop()
}

func projectToken(t *testing.T, p *proc) string {
	t.Helper()
	_, after, _ := strings.Cut(p.stdout(), "phc_hedgerow_")
	token, _, _ := strings.Cut("phc_hedgerow_"+after, "\n")
	if token = strings.TrimSpace(token); len(token) < 20 {
		t.Fatalf("no token in\n%s", p.stdout())
	}
	return token
}

// TestLogsMeetTheirSpan sends the content of calls as log records, before and
// after their span, and across a kill -9: it becomes the content of the span's
// event.
func TestLogsMeetTheirSpan(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start()
	send := func(path, body string) {
		t.Helper()
		if status, answer, err := p.post(t.Context(), path, "", body, "Authorization", "Bearer "+phKey); err != nil || status != 200 {
			t.Fatalf("%s: %d %s %v", path, status, answer, err)
		}
	}
	now := time.Now().UnixNano()
	span := func(trace string) {
		t.Helper()
		send("/v1/traces", fmt.Sprintf(`{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":%q,"spanId":"00f067aa0ba902b7","name":"chat gpt-4o","startTimeUnixNano":"%d","endTimeUnixNano":"%d","attributes":[{"key":"gen_ai.operation.name","value":{"stringValue":"chat"}},{"key":"gen_ai.request.model","value":{"stringValue":"gpt-4o"}}]}]}]}]}`, trace, now, now+1e9))
	}
	words := func(trace, name, text string) {
		t.Helper()
		send("/v1/logs", fmt.Sprintf(`{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"%d","traceId":%q,"spanId":"00f067aa0ba902b7","eventName":%q,"body":{"kvlistValue":{"values":[{"key":"content","value":{"stringValue":%q}}]}}}]}]}]}`, now, trace, name, text))
	}
	before, after, between := strings.Repeat("a1", 16), strings.Repeat("b2", 16), strings.Repeat("c3", 16)
	words(before, "gen_ai.user.message", "How wide is a hedge?")
	words(before, "gen_ai.choice", "A metre.")
	span(before)
	span(after)
	p.awaitStored("trace_id="+after, 1)
	words(after, "gen_ai.user.message", "How wide is a hedge?")
	words(after, "gen_ai.choice", "A metre.")
	words(between, "gen_ai.user.message", "How wide is a hedge?")
	words(between, "gen_ai.choice", "A metre.")
	p.kill()
	p = w.start()
	span(between)
	for _, trace := range []string{before, after, between} {
		events := p.awaitStored("trace_id="+trace, 1)
		if len(events) != 1 {
			t.Fatalf("%d events of a call", len(events))
		}
		var content string
		w.await(func() bool {
			var got json.RawMessage
			p.get("/api/v1/events/"+events[0].UUID+"?content=true", &got)
			content = string(got)
			return strings.Contains(content, "How wide is a hedge?") && strings.Contains(content, "A metre.")
		}, func() string { return trace + " has " + content })
	}
	p.stop()
}
