package e2e

import (
	"bytes"
	"testing"

	simposthog "github.com/hedgerow/hedgerow/internal/simulate/posthog"
)

// TestStory follows a prompt in a real browser, from its first version to the
// verdict on its second.
func TestStory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.env = append(w.env, "POSTHOG_PERSONAL_API_KEY="+simposthog.PersonalKeyValue)
	if err := w.ph.SetDefinitions([]byte(rolloutFlag)); err != nil {
		t.Fatal(err)
	}
	p := w.start()
	out := browse(t, p, "story.mjs", "story", "KEY="+w.key, "TOKEN="+p.token())
	if n := bytes.Count(out, []byte(`"step"`)); n != 32 {
		t.Errorf("%d steps, want 32", n)
	}
}
