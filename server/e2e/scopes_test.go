package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestScopes creates keys on the command line and requests every part of a
// server with each: without the required scope nothing happens, on any route
// and with any method, and the error names the scope.
func TestScopes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start()
	keep := func(provider, key string) {
		t.Helper()
		if status, answer := p.send(t.Context(), "PUT", "/api/v1/projects/default/provider-keys/"+provider, `{"key":"`+key+`"}`); status != 200 {
			t.Fatal(answer)
		}
	}
	keep("openai", "sk-kept-0123456789")
	keep("anthropic", "sk-ant-kept-0123456789")
	keep("gemini", "AIza-kept-0123456789")
	keys := map[string]string{}
	for _, scopes := range []string{"read", "write", "ingest", "gateway", "read,write,ingest", "admin"} {
		keys[scopes] = strings.TrimSpace(w.mustRun("project", "add-key", "--scopes", scopes, "key "+scopes))
	}
	keys["viewer"] = strings.TrimSpace(w.mustRun("project", "add-key", "--role", "viewer", "a viewer"))
	keys["member"] = strings.TrimSpace(w.mustRun("project", "add-key", "--role", "member", "a member"))
	has := map[string]string{"viewer": "read", "member": "read,write,ingest,gateway", "admin": "read,write,ingest,gateway,admin"}
	list := w.mustRun("project", "keys")
	for _, line := range []string{"a viewer", "viewer  read ", "member  read, write, ingest, gateway", "-       gateway", "read, write, ingest "} {
		if !strings.Contains(list, line) {
			t.Errorf("the list lacks %q:\n%s", line, list)
		}
	}
	if out, err := w.run("project", "add-key", "--scopes", "all", "x"); err == nil || !strings.Contains(out, "unknown scope") {
		t.Errorf("an unknown scope: %v %s", err, out)
	}
	const chat = `{"model":"gpt-4.1-mini","messages":[{"role":"user","content":"hi"}]}`
	const claude = `{"model":"claude-sonnet-4.6","max_tokens":10,"messages":[{"role":"user","content":"hi"}]}`
	const capture = `{"event":"scoped","distinct_id":"d"}`
	type request struct {
		method, path, body string
		need               string
		header             func(key string) []string
	}
	bearer := func(key string) []string { return []string{"Authorization", "Bearer " + key} }
	beside := func(key string) []string {
		return []string{"Authorization", "Bearer sk-callers-own", "X-Hedgerow-Key", key}
	}
	for _, r := range []request{
		{"POST", "/openai/v1/chat/completions", chat, "gateway", bearer},
		{"POST", "/v1/chat/completions", chat, "gateway", bearer},
		{"POST", "/openai/v1/chat/completions", chat, "gateway", beside},
		{"GET", "/openai/v1/models", "", "gateway", bearer},
		{"DELETE", "/openai/v1/files/file-abc", "", "gateway", bearer},
		{"DELETE", "/openai/v1/files/file-abc", "", "gateway", beside},
		{"POST", "/anthropic/v1/messages", claude, "gateway", func(key string) []string { return []string{"X-Api-Key", key, "Anthropic-Version", "2023-06-01"} }},
		{"POST", "/v1/messages", claude, "gateway", func(key string) []string { return []string{"X-Api-Key", key, "Anthropic-Version", "2023-06-01"} }},
		{"POST", "/gemini/v1beta/models/gemini-2.5-flash:generateContent", `{"contents":[{"parts":[{"text":"hi"}]}]}`, "gateway", func(key string) []string { return []string{"X-Goog-Api-Key", key} }},
		{"POST", "/gemini/v1beta/models/gemini-2.5-flash:generateContent?key=KEY", `{"contents":[{"parts":[{"text":"hi"}]}]}`, "gateway", func(string) []string { return nil }},
		{"POST", "/batch/", `{"api_key":"KEY","batch":[` + capture + `]}`, "ingest", func(string) []string { return nil }},
		{"POST", "/e/", `{"api_key":"KEY",` + capture[1:], "ingest", func(string) []string { return nil }},
		{"POST", "/i/v1/analytics/events", `{"created_at":"2026-11-21T10:00:00Z","batch":[{"event":"scoped","uuid":"0192c0de-0000-7000-9000-00000000a001","distinct_id":"d","timestamp":"2026-11-21T10:00:00Z","options":{},"properties":{}}]}`, "ingest", bearer},
		{"POST", "/v1/traces", "{}", "ingest", bearer},
		{"POST", "/v1/logs", "{}", "ingest", bearer},
		{"POST", "/i/v0/ai/otel", "{}", "ingest", bearer},
		{"POST", "/api/v1/events", capture, "ingest", bearer},
		{"GET", "/api/v1/events", "", "read", bearer},
		{"GET", "/api/environments/1/llm_prompts/", "", "read", bearer},
		{"PATCH", "/api/v1/projects/default", "{}", "admin", bearer},
	} {
		for name, key := range keys {
			scopes := name
			if s := has[name]; s != "" {
				scopes = s
			}
			may := false
			for s := range strings.SplitSeq(scopes, ",") {
				may = may || s == r.need
			}
			w.sim.Forget()
			req, err := http.NewRequestWithContext(t.Context(), r.method, p.base+strings.ReplaceAll(r.path, "KEY", key), strings.NewReader(strings.ReplaceAll(r.body, "KEY", key)))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/json")
			for i, h := 0, r.header(key); i+1 < len(h); i += 2 {
				req.Header.Set(h[i], h[i+1])
			}
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(res.Body)
			res.Body.Close()
			at := name + ": " + r.method + " " + r.path
			if may {
				if res.StatusCode == 401 || res.StatusCode == 403 {
					t.Errorf("%s: %d %s", at, res.StatusCode, b)
				}
				continue
			}
			if res.StatusCode != 403 || !strings.Contains(string(b), "scope "+r.need) {
				t.Errorf("%s: %d %s, want 403 naming the scope %s", at, res.StatusCode, b, r.need)
			}
			if strings.Contains(string(b), key) {
				t.Errorf("%s: the refusal quotes the key", at)
			}
			if r.need == "gateway" && len(w.sim.Requests()) > 0 {
				t.Errorf("%s: the provider was called", at)
			}
		}
	}
}

// TestKeyless creates a second project: calls without a key keep going to the
// first one, until keys are required on the command line, which persists; the
// configuration takes precedence.
func TestKeyless(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start()
	call := func() int {
		t.Helper()
		status, _, err := p.post(t.Context(), "/openai/v1/chat/completions", "", `{"model":"gpt-4.1-mini","messages":[{"role":"user","content":"hi"}]}`)
		if err != nil {
			t.Fatal(err)
		}
		return status
	}
	want := func(when string, status int) {
		t.Helper()
		if got := call(); got != status {
			t.Errorf("%s: %d, want %d", when, got, status)
		}
	}
	want("one project", 200)
	if out := w.mustRun("project", "create", "aardvark"); !strings.Contains(out, `Calls without a key are recorded in the project "default" until you require keys.`) || !strings.Contains(out, "hedgerow project require-keys") {
		t.Errorf("a second project: %s", out)
	}
	want("two projects", 200)
	p.awaitStored("event=$ai_generation", 2) // in the first project, whose key it is
	if out := w.mustRun("project", "require-keys"); !strings.Contains(out, "rejected") {
		t.Error(out)
	}
	want("keys are required", 401)
	if out := w.mustRun("project", "create", "meadow"); strings.Contains(out, "Calls without a key") {
		t.Errorf("a third project: %s", out)
	}
	p.stop()
	p = w.start()
	want("after a restart", 401)
	w.mustRun("project", "require-keys", "--off")
	want("switched off", 200)
	if out := w.mustRun("project", "create", "orchard", "--require-keys"); strings.Contains(out, "Calls without a key") {
		t.Errorf("with --require-keys: %s", out)
	}
	want("switched on with a project", 401)
	p.stop()
	w.env = append(w.env, "HEDGEROW_REQUIRE_KEY=false")
	p = w.start()
	want("the configuration says no", 200)
	if out, err := w.run("project", "require-keys"); err == nil || !strings.Contains(out, "set on the server") {
		t.Errorf("a switch that changes nothing: %v %s", err, out)
	}
	p.stop()
}

// TestForgedAddress guesses passwords from this machine, with a different
// forwarded address on each attempt.
func TestForgedAddress(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start()
	looked, later := 0, 0
	for i := range 60 {
		req, err := http.NewRequestWithContext(t.Context(), "POST", p.base+"/sign-in", strings.NewReader(fmt.Sprintf("email=u%d@example.com&password=guess", i)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("X-Forwarded-For", fmt.Sprintf("198.51.100.%d", i))
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		switch res.StatusCode {
		case 401:
			looked++
		case 429:
			later++
			if wait := res.Header.Get("Retry-After"); wait != "1" && wait != "2" && wait != "3" && wait != "4" && wait != "5" {
				t.Errorf("it has to wait %s s", wait)
			}
		default:
			t.Errorf("%d", res.StatusCode)
		}
	}
	// 30 at once, and one more for each further second of the test.
	if looked < 30 || later == 0 {
		t.Errorf("%d guesses were checked, %d delayed", looked, later)
	}
}
