package hedgerow_test

import (
	"os/exec"
	"strings"
	"testing"
)

// Who imports the SDK gets none of the server.
func TestDependencies(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	deps := strings.Fields(string(out))
	if len(deps) < 50 {
		t.Fatalf("only %d packages", len(deps))
	}
	for _, dep := range deps {
		for _, no := range []string{"nats-io", "duckdb", "a-h/templ", "clickhouse", "prometheus", "opentelemetry", "grpc", "internal/web", "internal/project", "internal/journal", "openai-go", "anthropic"} {
			if strings.Contains(strings.ToLower(dep), no) {
				t.Errorf("the SDK depends on %s", dep)
			}
		}
	}
}
