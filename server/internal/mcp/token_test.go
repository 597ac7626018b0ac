package mcp_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/server/internal/project"
)

// TestReadKeySeesNoToken uses every tool that a key may use which only reads, and
// looks for the project token, for keys and for the beginnings of keys.
func TestReadKeySeesNoToken(t *testing.T) {
	f := newFixture(t)
	admin := f.dial(f.admin)
	admin.must("configure_posthog", args{"project_key": phc, "personal_key": phx})
	admin.must("save_prompt", args{"name": "p", "messages": []any{args{"content": "x"}}})
	if err := f.registry.SetProviderKey(t.Context(), project.DefaultID, "openai", "sk-proj-0123456789abcdef"); err != nil {
		t.Fatal(err)
	}
	p, _ := f.registry.Snapshot().Project(project.DefaultID)
	secrets := []string{p.Token, "phc_0", "phx_9", "sk-proj"}
	for _, k := range f.registry.Snapshot().APIKeys(project.DefaultID) {
		secrets = append(secrets, k.Prefix)
	}
	c := f.dial(f.server.ScopedKey(project.DefaultID, project.ScopeRead))
	answered := 0
	for name := range c.tools {
		answer, failure := c.call(name, map[string]args{"get_trace": {"trace_id": "trace-0", "include_content": true}, "get_prompt": {"name": "p"}, "render_prompt": {"name": "p"},
			"get_experiment": {"id": "x_none"}, "get_dataset_run": {"run": "run_none"}, "compare_dataset_runs": {"a": "run_none", "b": "run_none"}}[name])
		b, err := json.Marshal(answer)
		if err != nil {
			t.Fatal(err)
		}
		if failure == "" {
			answered++
		}
		for _, s := range secrets {
			if strings.Contains(string(b)+failure, s) {
				t.Errorf("%s shows %q", name, s)
			}
		}
	}
	if answered < 9 {
		t.Errorf("only %d tools answer", answered)
	}
}
