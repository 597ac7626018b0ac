package e2e

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestKeylessIsLocal makes calls without a key from a program on this machine,
// from elsewhere and through proxies, with two projects: the program's belong
// to the first project, and the others are rejected before they reach a
// provider.
func TestKeylessIsLocal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start()
	w.mustRun("project", "create", "second")
	ask := func(host string, header ...string) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), "POST", p.base+"/openai/v1/chat/completions", strings.NewReader(`{"model":"gpt-4.1-mini","messages":[{"role":"user","content":"x"}]}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer sk-e2e-caller")
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		if resp.StatusCode == 401 && !strings.Contains(string(b), "X-Hedgerow-Key") {
			t.Errorf("no hint: %s", b)
		}
		return resp.StatusCode
	}
	for _, host := range []string{"", "localhost:4100", "[::1]:4100"} {
		if got := ask(host); got != 200 {
			t.Errorf("Host %q: %d", host, got)
		}
	}
	if got := ask("", "Origin", "http://localhost:3000"); got != 200 {
		t.Errorf("a page of this machine: %d", got)
	}
	sent := len(w.sim.Requests())
	for _, header := range [][]string{{"Origin", "https://evil.example"}, {"Sec-Fetch-Site", "cross-site"}, {"X-Forwarded-For", "192.0.2.1"}, {"Forwarded", "for=192.0.2.1"}, {"Via", "1.1 proxy"}, {"X-Real-IP", "192.0.2.1"}, {"CF-Connecting-IP", "192.0.2.1"}} {
		if got := ask("", header...); got != 401 {
			t.Errorf("%v: %d", header, got)
		}
	}
	if got := ask("evil.example:4100"); got != 401 {
		t.Errorf("DNS rebinding: %d", got)
	}
	if n := len(w.sim.Requests()); n != sent {
		t.Errorf("%d refused calls reached a provider", n-sent)
	}
	// With a key all of that is allowed.
	if got := ask("hedgerow.example", "X-Hedgerow-Key", w.key, "X-Forwarded-For", "192.0.2.1"); got != 200 {
		t.Errorf("with a key: %d", got)
	}
	if n := len(p.awaitStored("provider=openai", 5)); n != 5 {
		t.Errorf("%d events of the first project", n)
	}
	p.stop()
}

// TestAnswersInABrowser has a provider respond with a page and with hedgerow's
// cookies, at the shared address and at a separate gateway address.
func TestAnswersInABrowser(t *testing.T) {
	t.Parallel()
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h["Set-Cookie"] = []string{"hedgerow_session=stolen; Path=/", "__Host-hedgerow_session=stolen; Path=/; Secure", "theirs=1"}
		h.Set("Clear-Site-Data", `"*"`)
		h.Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<script>1</script>")
	}))
	t.Cleanup(up.Close)
	w := newWorld(t)
	w.env = append(w.env, "HEDGEROW_UPSTREAM_OPENROUTER="+up.URL)
	p := w.start()
	check := func(base string) {
		t.Helper()
		resp, err := http.Get(base + "/openrouter/api/v1/page")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		h := resp.Header
		if strings.Join(h["Set-Cookie"], "|") != "theirs=1" || h.Get("Clear-Site-Data") != "" || h.Get("Content-Security-Policy") != "sandbox" || h.Get("X-Content-Type-Options") != "nosniff" || string(b) != "<script>1</script>" {
			t.Errorf("%v %s", h, b)
		}
	}
	check(p.base)
	p.stop()
	apart := freeAddr(t)
	w.env = append(w.env, "HEDGEROW_GATEWAY_LISTEN="+apart)
	p = w.start()
	check("http://" + apart)
	status := func(url string) int {
		t.Helper()
		resp, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	for url, want := range map[string]int{
		"http://" + apart + "/healthz": 200, "http://" + apart + "/": 404, "http://" + apart + "/api/v1/projects": 404, "http://" + apart + "/v1/logs": 404, "http://" + apart + "/capture/": 404,
		p.base + "/openrouter/api/v1/page": 404, p.base + "/v1/models": 404, p.base + "/healthz": 200,
	} {
		if got := status(url); got != want {
			t.Errorf("%s: %d, want %d", url, got, want)
		}
	}
	// The gateway's address in a wrapper's base URL is still recognised.
	if code, answer, err := p.post(t.Context(), "/capture/", "", `{"api_key":"`+phKey+`","event":"x","distinct_id":"u"}`); err != nil || code != 200 {
		t.Errorf("%d %s %v", code, answer, err)
	}
	p.stop()
}
