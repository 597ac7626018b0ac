package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"testing"
)

// TestPrompts uses a prompt in a real browser, and then checks its calls in the
// store and in PostHog.
func TestPrompts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start()
	w.flushFast()
	token := regexp.MustCompile(`phc_hedgerow_\w+`).FindString(p.stdout())
	out := browse(t, p, "prompts.mjs", "prompts", "KEY="+w.key, "TOKEN="+token)
	if n := bytes.Count(out, []byte(`"step"`)); n < 40 {
		t.Errorf("only %d steps", n)
	}

	type call struct {
		Name      string          `json:"prompt_name"`
		Version   string          `json:"prompt_version"`
		VersionID string          `json:"prompt_version_id"`
		Hash      string          `json:"prompt_hash"`
		Props     map[string]any  `json:"properties"`
		UUID      json.RawMessage `json:"uuid"`
	}
	get := func(query url.Values) []call {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.base+"/api/v1/events?"+query.Encode(), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+w.key)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		var page struct{ Events []call }
		if err != nil || resp.StatusCode != http.StatusOK || json.Unmarshal(b, &page) != nil {
			t.Fatalf("%s: %d %s %v", query.Encode(), resp.StatusCode, b, err)
		}
		return page.Events
	}
	count := func(property string) int {
		return len(get(url.Values{"event": {"$ai_generation"}, "prompt_name": {"support_answer"}, "prompt_version": {"1"}, "property." + property: {"true"}}))
	}
	calls := get(url.Values{"event": {"$ai_generation"}, "prompt_name": {"support_answer"}})
	if len(calls) != 4 {
		t.Fatalf("%d calls of the prompt, want 4", len(calls))
	}
	for _, c := range calls {
		if c.Version != "1" || c.VersionID != calls[0].VersionID || !regexp.MustCompile(`^pv_\w{16}$`).MatchString(c.VersionID) || c.Hash == "" {
			t.Errorf("call %+v", c)
		}
	}
	if count("prompt_drift") != 1 || count("prompt_recognised") != 1 {
		t.Errorf("%d calls drifted and %d were recognised, want one each", count("prompt_drift"), count("prompt_recognised"))
	}
	// PostHog gets the same, but never the text.
	sent := 0
	w.await(func() bool {
		sent = 0
		for _, e := range w.ph.Events() {
			if e.Name == "$ai_generation" && string(e.Properties["$ai_prompt_name"]) == `"support_answer"` && string(e.Properties["$ai_prompt_version"]) == "1" {
				sent++
			}
		}
		return sent == 4
	}, func() string { return "PostHog has not got the four calls with their prompt version" })
	p.stop()
}
