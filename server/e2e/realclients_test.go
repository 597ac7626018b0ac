package e2e

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	simprovider "github.com/hedgerow/hedgerow/internal/simulate/provider"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

// A client's calls reach hedgerow in up to three ways: the client reports them,
// they go through the gateway, or both.
const (
	endpoint = "endpoint"
	gateway  = "gateway"
	both     = "both"
)

var reporting = []string{endpoint, both}

// client is a program in the folder clients, and what its calls must become.
type client struct {
	name    string // in docs/clients.md
	program string
	python  string // the environment: clients/NAME.txt
	pkg     string // the package whose version the table shows
	modes   []string
	env     []string
	tree    bool // all calls are in one trace, below its root
	sum     bool // the client reports one generation per run, with the sum of its calls
	outer   bool // the root is a span of the program's own, which is not stored
	session bool // the client can set the session of its calls
}

var clients = []client{
	{name: "openai (Python)", program: "openai_sdk.py", pkg: "openai", modes: []string{gateway}, session: true},
	{name: "anthropic (Python)", program: "anthropic_sdk.py", pkg: "anthropic", modes: []string{gateway}, session: true},
	{name: "google-genai", program: "google_genai.py", pkg: "google-genai", modes: []string{gateway}, session: true},
	{name: "boto3, signing with a hedgerow key", program: "boto3_sdk.py", pkg: "boto3", modes: []string{gateway}, session: true},
	{name: "boto3, signing with an AWS key", program: "boto3_sdk.py", pkg: "boto3", modes: []string{gateway}, env: []string{"AWS_KEY=AKIACLIENTS", "AWS_SECRET=secret/0"}, session: true},
	{name: "cohere", program: "cohere_sdk.py", pkg: "cohere", modes: []string{gateway}, session: true},
	{name: "posthog-python with openai", program: "posthog_openai.py", pkg: "posthog", modes: reporting, session: true},
	{name: "posthog-python with anthropic", program: "posthog_anthropic.py", pkg: "posthog", modes: reporting, session: true},
	{name: "posthog-python with google-genai", program: "posthog_gemini.py", pkg: "posthog", modes: reporting, session: true},
	{name: "LangGraph with posthog-python", program: "posthog_langgraph.py", pkg: "langgraph", modes: reporting, session: true, tree: true},
	{name: "openai-agents with posthog-python", program: "posthog_agents.py", pkg: "openai-agents", modes: reporting, session: true, tree: true},
	{name: "LiteLLM", program: "litellm_sdk.py", pkg: "litellm", modes: []string{endpoint, gateway, both}, session: true},
	{name: "pydantic-ai with posthog-python", program: "pydantic_ai_agent.py", pkg: "pydantic-ai-slim", modes: reporting, session: true, tree: true},
	{name: "OpenInference", program: "openinference_openai.py", pkg: "openinference-instrumentation-openai", modes: reporting, session: true},
	{name: "OpenTelemetry's openai-v2", program: "opentelemetry_openai.py", pkg: "opentelemetry-instrumentation-openai-v2", modes: reporting, session: true, tree: true, outer: true},
	{name: "Langfuse SDK", program: "langfuse_openai.py", pkg: "langfuse", modes: reporting, session: true, tree: true},
	{name: "LlamaIndex", program: "llamaindex_otel.py", python: "llamaindex", pkg: "llama-index-core", modes: reporting, session: true},
	{name: "AI SDK", program: "aisdk.mjs", pkg: "ai", modes: reporting, session: true},
	{name: "@posthog/ai with openai", program: "posthog_ai.mjs", pkg: "@posthog/ai", modes: reporting, session: true},
	{name: "Mastra, @mastra/posthog", program: "mastra.mjs", pkg: "@mastra/posthog", modes: reporting, env: []string{"EXPORTER=posthog"}, session: true, tree: true, sum: true},
	{name: "Mastra, OpenTelemetry", program: "mastra.mjs", pkg: "@mastra/otel-exporter", modes: reporting, env: []string{"EXPORTER=otel"}, session: true, tree: true},
}

// TestClients runs real clients in every way that their calls can reach
// hedgerow: each call is exactly one generation with the provider's figures, a
// cost, and the client's user and session, in the store and at PostHog. With
// "make clients" it writes the table of docs/clients.md.
func TestClients(t *testing.T) {
	if os.Getenv("HEDGEROW_CLIENTS") == "" {
		t.Skip("run make clients")
	}
	var table strings.Builder
	table.WriteString("| client | version | the client reports | through the gateway | both |\n|---|---|---|---|---|\n")
	for _, c := range clients {
		if only := os.Getenv("HEDGEROW_CLIENTS_ONLY"); only != "" && !strings.Contains(only, c.program) {
			continue
		}
		result := map[string]string{endpoint: "–", gateway: "–", both: "–"}
		for _, mode := range c.modes {
			result[mode] = "failed"
			t.Run(c.name+", "+mode, func(t *testing.T) {
				n := c.check(t, mode)
				if !t.Failed() {
					result[mode] = fmt.Sprintf("%d calls", n)
					if c.sum && mode == endpoint {
						result[mode] += ", summed by the client"
					}
				}
			})
		}
		fmt.Fprintf(&table, "| %s | %s | %s | %s | %s |\n", c.name, c.version(t), result[endpoint], result[gateway], result[both])
	}
	if os.Getenv("HEDGEROW_CLIENTS_ONLY") != "" {
		t.Log("\n" + table.String())
		return
	}
	replaceTable(t, "../../docs/clients.md", "clients", table.String())
}

// check runs the client once and returns how many calls the provider served.
func (c client) check(t *testing.T, mode string) int {
	w := newWorld(t)
	_ = w.sim.Close()
	w.sim = simprovider.New(simprovider.Options{Seed: 1, Behave: callToolOnce})
	if err := w.sim.Start(); err != nil {
		t.Fatal(err)
	}
	w.env = append(w.env, "HEDGEROW_UPSTREAM_BEDROCK="+w.sim.CompatibleURL("bedrock"), "HEDGEROW_UPSTREAM_COHERE="+w.sim.CompatibleURL("cohere"))
	p := w.start()
	w.flushFast()
	var projects struct{ Projects []struct{ Token string } }
	p.get("/api/v1/projects", &projects)
	if len(projects.Projects) != 1 {
		t.Fatalf("%+v", projects)
	}
	if c.program == "boto3_sdk.py" {
		p.call("PUT", "/api/v1/projects/default/provider-keys/bedrock", `{"key":"AKIACLIENTS:secret/0"}`, nil)
	}
	base := func(gw, direct string) string {
		if mode == endpoint {
			return direct
		}
		return p.base + gw
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	program := exec.CommandContext(ctx, "node", c.program)
	if strings.HasSuffix(c.program, ".py") {
		python, err := filepath.Abs("clients/venv/" + cmp.Or(c.python, "python") + "/bin/python")
		if err != nil {
			t.Fatal(err)
		}
		program = exec.CommandContext(ctx, python, c.program)
	}
	program.Dir = "clients"
	program.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "HEDGEROW=" + p.base, "TOKEN=" + projects.Projects[0].Token, "HEDGEROW_KEY=" + w.key,
		"OPENAI=" + base("/openai/v1", w.sim.OpenAIURL()+"/v1"), "ANTHROPIC=" + base("/anthropic", w.sim.AnthropicURL()), "GEMINI=" + base("/gemini", w.sim.GeminiURL()),
		"BEDROCK=" + base("/bedrock", w.sim.CompatibleURL("bedrock")), "COHERE=" + base("/cohere", w.sim.CompatibleURL("cohere")),
		"REPORT=" + map[bool]string{true: "1"}[mode != gateway],
	}, c.env...)
	if out, err := program.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s\n%s", c.program, err, out, p.logs())
	}
	var want []string
	calls, input, output := 0, 0, 0
	for _, r := range w.sim.Requests() {
		if r.Input > 0 {
			want = append(want, fmt.Sprint(r.Input, "/", r.Output))
			calls, input, output = calls+1, input+r.Input, output+r.Output
		}
	}
	if c.sum && mode == endpoint {
		want = []string{fmt.Sprint(input, "/", output)}
	}
	slices.Sort(want)
	if len(want) == 0 {
		t.Fatal("the provider received no call")
	}
	p.awaitStored("event="+url.QueryEscape(event.Generation), len(want))
	// Merges are complete once the store and the joiner have read the whole journal.
	var got []*query.Event
	same := func() bool {
		got = p.stored("event=" + url.QueryEscape(event.Generation))
		return len(got) == len(want) && !slices.ContainsFunc(got, func(e *query.Event) bool { return e.DistinctID != "ada" })
	}
	for until := time.Now().Add(15 * time.Second); !same() && time.Now().Before(until); time.Sleep(50 * time.Millisecond) {
	}
	var counts []string
	traces := make(map[string]int)
	for _, e := range got {
		counts = append(counts, fmt.Sprint(e.Usage.Input.Value, "/", e.Usage.Output.Value))
		traces[e.TraceID]++
		if e.DistinctID != "ada" {
			t.Errorf("%s has user %q, want ada", e.SpanName, e.DistinctID)
		}
		if c.session && e.SessionID != "session-ada" {
			t.Errorf("%s has the session %q, want session-ada", e.SpanName, e.SessionID)
		}
		if !e.Cost.Total.Known || !e.Cost.Total.Value.IsPositive() {
			t.Errorf("%s of %s has no cost", e.SpanName, e.Model)
		}
	}
	slices.Sort(counts)
	if !slices.Equal(counts, want) {
		t.Errorf("generations with tokens %v, the provider returned %v", counts, want)
	}
	if c.tree {
		c.checkTree(t, p, traces)
	}
	// Of a call that was captured twice PostHog has the first capture, under its uuid, if
	// that did not wait for the other.
	w.await(func() bool { return len(w.ph.Named(event.Generation)) >= len(want) }, func() string { return "a generation is not at PostHog\n" + p.logs() })
	p.stop()
	atPostHog := make(map[string]bool)
	for _, e := range w.ph.Named(event.Generation) {
		atPostHog[e.UUID] = true
	}
	if n := len(w.ph.Named(event.Generation)); n != len(want) || len(atPostHog) != n {
		t.Errorf("PostHog has %d generations with %d uuids, of %d calls", n, len(atPostHog), len(want))
	}
	return calls
}

// checkTree fails unless all generations are in one trace, each below another
// of its spans.
func (c client) checkTree(t *testing.T, p *proc, traces map[string]int) {
	t.Helper()
	if len(traces) != 1 {
		t.Errorf("the run's calls are in %d traces", len(traces))
		return
	}
	for id := range traces {
		spans := make(map[string]bool)
		all := p.stored("trace_id=" + url.QueryEscape(id))
		for _, e := range all {
			spans[e.SpanID] = true
		}
		for _, e := range all {
			if e.Name == event.Generation && !c.outer && !spans[e.ParentID] && e.ParentID != id {
				t.Errorf("%s has the parent %q, which is not in its trace", e.SpanName, e.ParentID)
			}
		}
	}
}

// callToolOnce has a model call one tool if there are tools, and respond once
// it has the result.
func callToolOnce(r *simprovider.Received, _ *rand.Rand) simprovider.Behavior {
	for _, mark := range []string{`"tool_result"`, `"role":"tool"`, `"role": "tool"`, `"function_call_output"`, `"functionResponse"`, `"toolResult"`} {
		if bytes.Contains(r.Body, []byte(mark)) {
			return simprovider.Behavior{Tools: -1}
		}
	}
	if bytes.Contains(r.Body, []byte(`"tools"`)) || bytes.Contains(r.Body, []byte(`"toolConfig"`)) {
		return simprovider.Behavior{Tools: 1}
	}
	return simprovider.Behavior{}
}

// version returns the installed version of the client's package.
func (c client) version(t *testing.T) string {
	if strings.HasSuffix(c.program, ".mjs") {
		b, err := os.ReadFile("clients/node_modules/" + c.pkg + "/package.json")
		if err != nil {
			t.Fatal(err)
		}
		var p struct{ Version string }
		if err := json.Unmarshal(b, &p); err != nil {
			t.Fatal(err)
		}
		return p.Version
	}
	out, err := exec.Command("clients/venv/"+cmp.Or(c.python, "python")+"/bin/python", "-c", "import sys; from importlib.metadata import version; print(version(sys.argv[1]))", c.pkg).Output()
	if err != nil {
		t.Fatalf("version of %s: %v", c.pkg, err)
	}
	return strings.TrimSpace(string(out))
}

// replaceTable replaces the table between two marks of a page.
func replaceTable(t *testing.T, path, name, table string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := "<!-- "+name+": written by a test -->\n", "<!-- "+name+" end -->"
	before, rest, ok := strings.Cut(string(b), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no marks %q and %q", path, begin, end)
	}
	if err := os.WriteFile(path, []byte(before+begin+table+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
