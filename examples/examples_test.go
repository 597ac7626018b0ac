package examples_test

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	simposthog "github.com/hedgerow/hedgerow/internal/simulate/posthog"
	simprovider "github.com/hedgerow/hedgerow/internal/simulate/provider"
)

// sent are the events that each program sends, and what each of them must say.
var sent = map[string]struct {
	events []string
	check  func(t *testing.T, e map[string]simposthog.Event)
}{
	"openai": {[]string{"$ai_generation"}, func(t *testing.T, e map[string]simposthog.Event) {
		g := e["$ai_generation"]
		if g.DistinctID != "ada" || g.Text("$ai_prompt_name") != "explain" || g.Text("$ai_stream") != "true" || !g.Has("$ai_output_tokens") {
			t.Errorf("%s", g.Raw)
		}
	}},
	"anthropic": {[]string{"$ai_generation"}, func(t *testing.T, e map[string]simposthog.Event) {
		if g := e["$ai_generation"]; strings.Contains(string(g.Raw), "What is a hedgerow") || g.Text("$ai_provider") != "anthropic" {
			t.Errorf("%s", g.Raw)
		}
	}},
	"transport": {[]string{"$ai_generation"}, func(t *testing.T, e map[string]simposthog.Event) {
		if g := e["$ai_generation"]; g.DistinctID != "ada" || g.Text("production") != "true" {
			t.Errorf("%s", g.Raw)
		}
	}},
	"ollama": {[]string{"$ai_generation"}, func(t *testing.T, e map[string]simposthog.Event) {
		if g := e["$ai_generation"]; g.DistinctID != "ada" || g.Text("$ai_provider") != "ollama" || g.Text("$ai_stream") != "true" || !g.Has("$ai_input_tokens") {
			t.Errorf("%s", g.Raw)
		}
	}},
	"agent": {[]string{"$ai_generation", "$ai_span", "$ai_trace"}, func(t *testing.T, e map[string]simposthog.Event) {
		root := e["$ai_trace"].Text("$ai_trace_id")
		if root == "" || e["$ai_generation"].Text("$ai_parent_id") != root || e["$ai_span"].Text("$ai_parent_id") != root {
			t.Errorf("%v", e)
		}
	}},
	"outcomes": {[]string{"$ai_feedback", "$ai_generation", "$ai_metric", "llm_output_rated", "llm_task_completed", "prompt_shared"}, func(t *testing.T, e map[string]simposthog.Event) {
		if e["$ai_generation"].Text("$ai_trace_id") == "" || e["llm_task_completed"].Text("trace_id") != e["$ai_generation"].Text("$ai_trace_id") {
			t.Errorf("%v", e)
		}
	}},
	"otel": {[]string{"$ai_generation", "$ai_trace"}, func(t *testing.T, e map[string]simposthog.Event) {
		if e["$ai_generation"].Text("$ai_parent_id") != e["$ai_trace"].Text("$ai_span_id") || e["$ai_trace"].Text("experiment-v2") != "true" || e["$ai_trace"].DistinctID != "ada" {
			t.Errorf("%v", e)
		}
	}},
}

// TestPrograms builds and runs every program against a simulated provider and a
// simulated PostHog.
func TestPrograms(t *testing.T) {
	dirs, err := filepath.Glob("*/main.go")
	if err != nil {
		t.Fatal(err)
	}
	if len(dirs) != len(sent) {
		t.Errorf("%d programs, and %d of them here", len(dirs), len(sent))
	}
	bin := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin+string(filepath.Separator), "./...").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	sim := simprovider.New(simprovider.Options{Seed: 1})
	if err := sim.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sim.Close() })
	for _, name := range slices.Sorted(maps.Keys(sent)) {
		t.Run(name, func(t *testing.T) {
			ph := simposthog.Run(t, simposthog.Options{})
			cmd := exec.CommandContext(t.Context(), filepath.Join(bin, name))
			cmd.Env = []string{
				"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "HEDGEROW_API_KEY=" + simposthog.Token, "HEDGEROW_HOST=" + ph.URL(),
				"OPENAI_API_KEY=sk-x", "OPENAI_BASE_URL=" + sim.OpenAIURL() + "/v1", "ANTHROPIC_API_KEY=sk-ant-x", "ANTHROPIC_BASE_URL=" + sim.AnthropicURL(),
				"OLLAMA_URL=" + sim.CompatibleURL("ollama"),
			}
			var stderr strings.Builder
			cmd.Stderr = &stderr
			out, err := cmd.Output()
			if err != nil || stderr.Len() > 0 || len(out) == 0 {
				t.Fatalf("%v\nstdout: %s\nstderr: %s", err, out, stderr.String())
			}
			by := map[string]simposthog.Event{}
			for _, e := range ph.Events() {
				by[e.Name] = e
			}
			if got := slices.Sorted(maps.Keys(by)); !slices.Equal(got, sent[name].events) {
				t.Fatalf("events %v, want %v", got, sent[name].events)
			}
			sent[name].check(t, by)
		})
	}
}
