package query_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/server/internal/query"
)

var updateMetrics = flag.Bool("update-metrics", false, "rewrite docs/metrics.md")

// TestMetricsAreDocumented compares docs/metrics.md with the definitions of the
// measures: each has one. -update-metrics writes the page.
func TestMetricsAreDocumented(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Metrics\n\nEach figure of hedgerow has one definition, for pages, API and MCP tools. This page is made of them. The Users page also lists users\nwithout a call, and the Errors page failures of tools and steps.\n\n")
	b.WriteString("| metric | name in API and MCP | definition |\n|---|---|---|\n")
	for _, m := range query.Measures() {
		info := m.Info()
		if info.Meaning == "" || !strings.HasSuffix(strings.TrimSpace(info.Meaning), ".") {
			t.Errorf("%s has no definition", m)
		}
		fmt.Fprintf(&b, "| %s | `%s` | %s |\n", info.Label, m, info.Meaning)
	}
	const path = "../../../docs/metrics.md"
	if *updateMetrics {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if page, err := os.ReadFile(path); err != nil || string(page) != b.String() {
		t.Errorf("%s differs from the measures: run go test ./server/internal/query -run TestMetricsAreDocumented -update-metrics (%v)", path, err)
	}
}
