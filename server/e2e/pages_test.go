package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// pageReport is the report of pages.mjs on one page at one width in one scheme.
type pageReport struct {
	Name             string   `json:"name"`
	Width            int      `json:"width"`
	ColorScheme      string   `json:"colorScheme"`
	Status           int      `json:"status"`
	Title            string   `json:"title"`
	Overflow         int      `json:"overflow"`
	H1               int      `json:"h1"`
	Lang             string   `json:"lang"`
	Background, Text float64  // luminance, 0 to 1
	Inline           int      `json:"inline"`  // styles and scripts that the CSP forbids
	Unnamed          int      `json:"unnamed"` // controls without a name for a screen reader
	Focus            bool     `json:"focus"`   // the first Tab shows the focus
	Missing          bool     `json:"missing"`
	Menu             bool     `json:"menu"`  // the phone's menu opens and closes by keyboard
	Grave            []string `json:"grave"` // axe-core's findings, serious and critical
	Trouble          []string `json:"trouble"`
}

// browse runs a script in Chromium, with a sign-in link, and returns what it
// printed.
func browse(t *testing.T, p *proc, script, name string, env ...string) []byte {
	t.Helper()
	out := p.w.mustRun("project", "sign-in-link")
	link := regexp.MustCompile(`http://\S+/sign-in\?token=\w+`).FindString(out)
	if link == "" {
		t.Fatalf("no link in %q", out)
	}
	return node(t, env, script, p.base, link, shots(t, name))
}

// shots is the folder for a script's screenshots: none, unless HEDGEROW_SHOTS
// names one for all of them.
func shots(t *testing.T, name string) string {
	t.Helper()
	dir := os.Getenv("HEDGEROW_SHOTS")
	if dir == "" {
		return ""
	}
	if err := os.MkdirAll(dir+"/"+name, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir + "/" + name
}

// node runs a script and returns what it printed.
func node(t *testing.T, env []string, script string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "node", append([]string{script}, args...)...)
	cmd.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	b, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", script, err, b, stderr.String())
	}
	return b
}

// TestSignIn signs in the first users of a hedgerow in a real browser.
func TestSignIn(t *testing.T) {
	t.Parallel()
	p := newWorld(t).start()
	if n := bytes.Count(browse(t, p, "signin.mjs", "signin"), []byte(`"step"`)); n < 25 {
		t.Errorf("only %d steps", n)
	}
	p.stop()
}

// look opens every page in Chromium.
func look(t *testing.T, p *proc, name string, env ...string) map[string][]pageReport {
	t.Helper()
	b := browse(t, p, "pages.mjs", name, env...)
	got := make(map[string][]pageReport)
	for sc := bufio.NewScanner(bytes.NewReader(b)); sc.Scan(); {
		var r pageReport
		if err := json.Unmarshal(sc.Bytes(), &r); err != nil {
			t.Fatalf("%v in %s", err, sc.Text())
		}
		got[r.Name] = append(got[r.Name], r)
	}
	return got
}

// TestPages checks each page in a real browser, empty and full, at desktop and
// phone widths, light and dark.
func TestPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start()
	w.flushFast()
	always := map[string]int{"signin": 200, "link": 200, "overview": 200, "events": 200, "notfound": 404, "missing": 404, "foreign": 404, "connections": 200, "connection": 200, "analytics": 200, "keys": 200, "settings": 200,
		"traffic": 200, "latency-cost": 200, "quality": 200, "agents": 200, "models": 200, "traces": 200, "sessions": 200, "people": 200, "person": 200, "dashboards": 200, "explore": 200, "errors": 200, "noconversation": 404,
		"projects": 200, "users": 200, "user": 200, "audit": 200, "account": 200, "welcome": 200}
	verify := func(t *testing.T, pages map[string][]pageReport, more map[string]int) {
		if m := pages["menu"]; len(m) != 2 || !m[0].Menu || !m[1].Menu {
			t.Errorf("the phone's menu does not open and close: %+v", m)
		}
		want := maps.Clone(always)
		maps.Copy(want, more)
		for name, status := range want {
			if len(pages[name]) != 4 {
				t.Errorf("%s: %d reports, want 4", name, len(pages[name]))
			}
			for _, r := range pages[name] {
				at := name + " " + r.ColorScheme
				switch {
				case r.Missing:
					t.Errorf("%s: no link leads to it", at)
				case r.Status != status:
					t.Errorf("%s: status %d, want %d", at, r.Status, status)
				case r.Overflow > 0:
					t.Errorf("%s at %d px: %d px too wide", at, r.Width, r.Overflow)
				case r.H1 != 1 || r.Lang != "en" || !strings.Contains(r.Title, "hedgerow"):
					t.Errorf("%s: %d first headings, language %q, title %q", at, r.H1, r.Lang, r.Title)
				case r.ColorScheme == "dark" && (r.Background > 0.3 || r.Text < 0.6), r.ColorScheme == "light" && (r.Background < 0.7 || r.Text > 0.4):
					t.Errorf("%s: background %.2f, text %.2f", at, r.Background, r.Text)
				case r.Inline > 0 || r.Unnamed > 0 || !r.Focus:
					t.Errorf("%s: %d inline styles or scripts, %d controls without a name, focus shown %v", at, r.Inline, r.Unnamed, r.Focus)
				case len(r.Grave) > 0:
					t.Errorf("%s at %d px: axe-core finds %q", at, r.Width, r.Grave)
				case len(r.Trouble) > 0:
					t.Errorf("%s: %q", at, r.Trouble)
				}
			}
		}
	}
	t.Run("Empty", func(t *testing.T) {
		verify(t, look(t, p, "empty"), nil)
	})
	stream := strings.Replace(chatBody, `{"model"`, `{"stream":true,"model"`, 1)
	for i, c := range []struct{ path, sim, body string }{
		{"/v1/chat/completions", "", chatBody}, {"/v1/chat/completions", "", stream}, {"/v1/chat/completions", "rate_limit", chatBody},
		{"/v1/chat/completions", "server_error", stream}, {"/v1/chat/completions", "refusal", chatBody},
		{"/v1/embeddings", "", `{"model":"text-embedding-3-small","input":"a hedge"}`},
		{"/anthropic/v1/messages", "cached=1000", `{"model":"claude-sonnet-4-5","max_tokens":100,"messages":[{"role":"user","content":"<script>alert(1)</script>"}]}`},
		{"/v1/chat/completions", "", strings.Replace(chatBody, "gpt-4.1-mini", "a-model-with-a-name-that-is-really-much-too-long-for-any-column-of-a-table", 1)},
	} {
		surface := []string{"Conversation", "Compose"}[i%2]
		if _, _, err := p.post(t.Context(), c.path, c.sim, c.body, "X-Hedgerow-Surface", surface, "X-Hedgerow-Prompt", "greeting@3", "X-PostHog-Distinct-Id", "ada", "X-PostHog-Trace-Id", "pages-trace"); err != nil {
			t.Fatal(err)
		}
	}
	p.awaitStored("", 8)
	w.mustRun("project", "create", "A second project with a name that is rather long")
	t.Run("Full", func(t *testing.T) {
		verify(t, look(t, p, "full", "SET_PASSWORD=correct horse battery"), map[string]int{"filtered": 200, "empty": 200, "event": 200, "trace": 200})
	})
	p.stop()
}
