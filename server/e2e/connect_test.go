package e2e

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	simposthog "github.com/hedgerow/hedgerow/internal/simulate/posthog"
)

// TestConnect connects a PostHog in a real browser, from the wrong host to the
// deleted connection, and searches all files for its keys.
func TestConnect(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.env = []string{"POSTHOG_API_KEY=", "POSTHOG_HOST="}
	p := w.start()
	if n := bytes.Count(browse(t, p, "connect.mjs", "connect", "POSTHOG="+w.ph.URL(), "KEY="+phKey, "PERSONAL="+simposthog.PersonalKeyValue), []byte(`"step"`)); n < 11 {
		t.Errorf("only %d steps", n)
	}
	// Three test events (connecting, testing, the personal key) and four calls.
	w.await(func() bool { return len(w.ph.Named("$ai_generation")) == 4 }, func() string {
		return fmt.Sprintf("%d calls in PostHog, want 4\n%s", len(w.ph.Named("$ai_generation")), p.logs())
	})
	p.stop()
	noKeys(t, w, p, phKey, simposthog.PersonalKeyValue)
}

// noKeys searches for plain keys in the data folder and the log.
func noKeys(t *testing.T, w *world, p *proc, keys ...string) {
	t.Helper()
	look := func(what string, b []byte) {
		for _, k := range keys {
			if bytes.Contains(b, []byte(k)) {
				t.Errorf("%s contains the key …%s", what, k[len(k)-4:])
			}
		}
	}
	look("the log", []byte(p.logs()))
	files := 0
	err := filepath.WalkDir(w.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		files++
		look(path, b)
		return err
	})
	if err != nil || files < 5 {
		t.Errorf("%d files searched, %v", files, err)
	}
}
