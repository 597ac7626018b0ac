package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/server/internal/command"
	"github.com/hedgerow/hedgerow/server/internal/config"
)

func TestVersion(t *testing.T) {
	v, c, d := version, commit, date
	t.Cleanup(func() { version, commit, date = v, c, d })
	version, commit, date = "v0.1.0", strings.Repeat("ab", 20), "2026-11-30T12:00:00Z"
	out, code := hedgerow(t, "version", "--json")
	var got command.BuildInfo
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != 0 {
		t.Fatalf("exit code %d, %v: %s", code, err, out)
	}
	engines := got
	engines.DuckDB, engines.NATS = "", ""
	if want := (command.BuildInfo{Version: version, Commit: commit, Date: date, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}); engines != want {
		t.Errorf("got %+v, want %+v", engines, want)
	}
	if !regexp.MustCompile(`^v1\.\d+\.\d+$`).MatchString(got.DuckDB) {
		t.Errorf("DuckDB's version is %q", got.DuckDB)
	}
	text, code := hedgerow(t, "version")
	for _, want := range []string{"hedgerow " + version, commit, date, runtime.GOOS + "/" + runtime.GOARCH, got.DuckDB} {
		if code != 0 || !strings.Contains(text, want) {
			t.Errorf("exit code %d, and not %q: %s", code, want, text)
		}
	}
}

func TestHealth(t *testing.T) {
	dir := made(t)
	down := httptest.NewServer(nil)
	down.Close()
	for name, tt := range map[string]struct {
		status int
		body   string
		args   []string
		code   int
		want   string
	}{
		"ok":             {200, `{"status":"ok","components":[]}`, nil, 0, "ok"},
		"degraded":       {200, `{"status":"degraded","components":[{"component":"store","status":"failed"}]}`, nil, 0, "degraded"},
		"a part":         {200, `{"status":"ok"}`, []string{"--for", "ingest"}, 0, "ok"},
		"stops":          {503, `{"status":"degraded","components":[{"component":"process","status":"failed","message":"hedgerow is stopping"}]}`, nil, config.ExitFailure, "process is failed: hedgerow is stopping"},
		"no part":        {400, `{"error":{"code":"invalid","message":"there is no such part","hint":"ask for ingest"}}`, []string{"--for", "mail"}, config.ExitConfig, "there is no such part"},
		"something else": {200, `<html>`, nil, config.ExitFailure, "is not hedgerow"},
		"nothing":        {0, "", nil, config.ExitFailure, "no hedgerow server responds"},
		"no port":        {0, "", []string{"--listen", "127.0.0.1:0"}, config.ExitConfig, "with its port"},
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if want := strings.TrimPrefix(strings.Join(tt.args, "="), "--"); r.URL.Path != "/readyz" || r.URL.RawQuery != want {
					t.Errorf("asked %s", r.URL)
				}
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, tt.body)
			}))
			defer srv.Close()
			addr := srv.Listener.Addr().String()
			if tt.status == 0 {
				addr = down.Listener.Addr().String()
			}
			// A server that listens on every address is asked on this machine's.
			_, port, _ := strings.Cut(addr, ":")
			out, code := hedgerow(t, append([]string{"health", "--data", dir, "--listen", "0.0.0.0:" + port}, tt.args...)...)
			if code != tt.code || !strings.Contains(out, tt.want) {
				t.Errorf("exit code %d, want %d and %q: %s", code, tt.code, tt.want, out)
			}
		})
	}
	if out, code := hedgerow(t, "health", "--data", filepath.Join(t.TempDir(), "none")); code != config.ExitData {
		t.Errorf("without a data folder: exit code %d: %s", code, out)
	}
}
