package deptest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestReadmeClients holds the lines that the README gives for each client to those that a
// test runs: with its own addresses and keys replaced, the code is the same.
func TestReadmeClients(t *testing.T) {
	const top = "../../.."
	readme, err := os.ReadFile(filepath.Join(top, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, clients, ok := strings.Cut(string(readme), "\n## Clients\n")
	if !ok {
		t.Fatal("the README has no section Clients")
	}
	clients, _, _ = strings.Cut(clients, "\n## ")
	for _, tt := range []struct {
		client string
		lines  []string // of the README's code
		file   string   // which a test runs
		run    []string // what that file has for each of the lines
		test   string   // of which package folder and function
	}{
		{"OpenAI SDK", []string{`new OpenAI({ baseURL: "http://127.0.0.1:4100/openai/v1" })`},
			"server/e2e/clients.mjs", []string{"new OpenAI({ apiKey: \"sk-e2e-caller-key-000000000000\", baseURL: `${base}/openai/v1`"}, "server/e2e/TestNodeClients"},
		{"Anthropic SDK", []string{`new Anthropic({ baseURL: "http://127.0.0.1:4100/anthropic" })`},
			"server/e2e/clients.mjs", []string{"new Anthropic({ apiKey: \"sk-ant-e2e-caller-key-0000000000\", baseURL: `${base}/anthropic`"}, "server/e2e/TestNodeClients"},
		{"PostHog SDKs", []string{`new PostHog("phc_…", { host: "http://127.0.0.1:4100" })`, `new OpenAI({ apiKey, posthog })`},
			"server/e2e/posthog_clients.mjs", []string{"new PostHog(key, { host,", "maxRetries: 0, posthog })"}, "server/e2e/TestPostHogNode"},
		{"OpenTelemetry", []string{`new OTLPTraceExporter({ url: "http://127.0.0.1:4100/v1/traces", headers: { Authorization: "Bearer phc_hedgerow_…" } })`},
			"server/e2e/otlp_client.mjs", []string{"new Exporter({ url: host + path, headers: { Authorization: `Bearer ${token}` }", `of ["/v1/traces"`, "OTLPTraceExporter as ProtoExporter"}, "server/e2e/TestOTLPJS"},
		{"Go SDK", []string{"client, err := hedgerow.New(hedgerow.Config{})", "llm := openai.NewClient(option.WithMiddleware(client.Middleware()))"},
			"examples/openai/main.go", []string{"client, err := hedgerow.New(hedgerow.Config{})", "llm := openai.NewClient(option.WithMiddleware(client.Middleware()))"}, "examples/TestPrograms"},
	} {
		_, part, ok := strings.Cut(clients, "**"+tt.client+"**")
		m := regexp.MustCompile("(?s)```(?:js|go)\n(.*?)```").FindStringSubmatch(part)
		if !ok || m == nil {
			t.Errorf("the README has no code for %s", tt.client)
			continue
		}
		for _, line := range tt.lines {
			if !strings.Contains(m[1], line) {
				t.Errorf("%s: the README's code lacks %s:\n%s", tt.client, line, m[1])
			}
		}
		if n := strings.Count(m[1], "\n"); n != len(tt.lines) {
			t.Errorf("%s: the README has %d lines of code, of which %d are tested", tt.client, n, len(tt.lines))
		}
		run, err := os.ReadFile(filepath.Join(top, filepath.FromSlash(tt.file)))
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range tt.run {
			if !strings.Contains(string(run), line) {
				t.Errorf("%s: %s lacks %s", tt.client, tt.file, line)
			}
		}
		folder, name := filepath.Split(tt.test)
		files, err := filepath.Glob(filepath.Join(top, folder, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		var tests strings.Builder
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			tests.Write(b)
		}
		if !strings.Contains(tests.String(), "\nfunc "+name+"(") {
			t.Errorf("%s: there is no %s in %s", tt.client, name, folder)
		}
	}
}
