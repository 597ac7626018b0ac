package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// site is a page that uses posthog-js from npm, on its own origin.
func site(t *testing.T, host string) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle("GET /dist/", http.StripPrefix("/dist/", http.FileServer(http.Dir("node_modules/posthog-js/dist"))))
	mux.HandleFunc("GET /favicon.ico", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		// The only special setting is that automated browsers are not excluded.
		fmt.Fprintf(w, `<!doctype html><title>A site</title><button>Share</button>
<script type="module">
import posthog from "/dist/module.js";
posthog.init(%q, { api_host: %q, ui_host: "https://eu.posthog.com", opt_out_useragent_filter: true, disable_surveys: true });
posthog.onFeatureFlags((flags) => { window.flags = flags; });
window.posthog = posthog;
</script>`, phKey, host)
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return strings.Replace(s.URL, "127.0.0.1", "localhost", 1) + "/"
}

// TestPostHogJS runs posthog-js in a real browser; only its host is changed.
func TestPostHogJS(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start()
	w.keepContent()
	x := newTee(t, p)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "browser_client.mjs", site(t, x.server.URL))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	b, err := cmd.Output()
	if err != nil {
		t.Fatalf("browser_client.mjs: %v\n%s%s", err, b, stderr.String())
	}
	var saw struct {
		Trouble  []string
		Requests []struct {
			Method, Path, Type string
			Status             int
		}
		Beta      bool
		Color     string
		Recording bool
		Told      struct{ Status string }
	}
	if err := json.Unmarshal(b, &saw); err != nil {
		t.Fatalf("%v in %s", err, b)
	}
	if len(saw.Trouble) > 0 || !saw.Beta || saw.Color != "green" || saw.Told.Status != "Ok" || saw.Recording {
		t.Errorf("the page received %+v", saw)
	}
	events := x.compare(t, p, len(x.direct.Events()))
	for _, name := range []string{"$pageview ", "prompt_shared ", "$identify ", "$groupidentify ", "$feature_flag_called ", "$ai_generation js-browser", "at once ", "asked first ", "last words ", "$pageleave "} {
		if _, ok := events[name]; !ok {
			t.Errorf("the browser did not send %q: %v", name, slices.Sorted(maps.Keys(events)))
		}
	}
	beacons := 0
	for _, r := range x.direct.Requests() {
		if r.Method == http.MethodPost && r.Header.Get("Sec-Fetch-Mode") == "no-cors" { // fetch would send cors
			beacons += len(r.UUIDs)
		}
		if r.Path == "/s/" {
			t.Error("the page was recorded")
		}
	}
	if beacons < 2 {
		t.Errorf("%d events were sent by sendBeacon, want at least 2 with $pageleave", beacons)
	}
	p.stop()
}
