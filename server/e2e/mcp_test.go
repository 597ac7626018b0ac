package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/hedgerow/hedgerow/event"
	simposthog "github.com/hedgerow/hedgerow/internal/simulate/posthog"
)

const (
	mcpKey      = "phc_mcp_zyxwvutsrqponmlkjihgfedcba98765"
	mcpPersonal = "phx_mcp_0f1e2d3c4b5a69788796a5b4c3d2e1f0"
)

// mcpClient is a session of the official SDK with hedgerow.
type mcpClient struct {
	t       *testing.T
	session *sdk.ClientSession
	stderr  *bytes.Buffer // of the process, if there is one
}

func mcpDial(t *testing.T, tr sdk.Transport) *mcpClient {
	t.Helper()
	s, err := sdk.NewClient(&sdk.Implementation{Name: "e2e", Version: "1"}, nil).Connect(t.Context(), tr, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return &mcpClient{t: t, session: s}
}

// mcpStdio starts hedgerow mcp on the data folder, as an assistant does.
func (w *world) mcpStdio(t *testing.T) *mcpClient {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command(binary, "mcp")
	cmd.Env, cmd.Dir, cmd.Stderr = w.environ(), t.TempDir(), &stderr
	c := mcpDial(t, &sdk.CommandTransport{Command: cmd})
	c.stderr = &stderr
	return c
}

type bearer struct{ key string }

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r.Header.Set("Authorization", "Bearer "+b.key)
	return http.DefaultTransport.RoundTrip(r)
}

func (p *proc) mcpHTTP(t *testing.T) *mcpClient {
	t.Helper()
	return mcpDial(t, &sdk.StreamableClientTransport{Endpoint: p.base + "/mcp", HTTPClient: &http.Client{Transport: bearer{p.w.key}}})
}

func (c *mcpClient) call(name string, args map[string]any) (text string, failed bool) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	res, err := c.session.CallTool(ctx, &sdk.CallToolParams{Name: name, Arguments: args})
	if err != nil {
		c.t.Fatalf("%s: %v", name, err)
	}
	text = res.Content[0].(*sdk.TextContent).Text
	for _, key := range []string{phKey, mcpKey, mcpPersonal} {
		if strings.Contains(text, key[8:]) {
			c.t.Errorf("%s returned a key: %s", name, text)
		}
	}
	return text, res.IsError
}

// must calls a tool and decodes its result.
func (c *mcpClient) must(name string, args map[string]any, into any) {
	c.t.Helper()
	text, failed := c.call(name, args)
	if failed {
		c.t.Fatalf("%s: %s", name, text)
	}
	if into != nil {
		if err := json.Unmarshal([]byte(text), into); err != nil {
			c.t.Fatalf("%s: %v in %s", name, err, text)
		}
	}
}

type mcpConnection struct {
	Name            string `json:"name"`
	Enabled         bool   `json:"enabled"`
	ProjectKeyLast4 string `json:"project_key_last4"`
	Delivery        struct {
		State   string `json:"state"`
		Sent    int    `json:"sent"`
		Waiting int    `json:"waiting"`
	} `json:"delivery"`
}

func (c *mcpClient) connection(name string) mcpConnection {
	c.t.Helper()
	var st struct{ Connections []mcpConnection }
	c.must("get_posthog_status", map[string]any{"connection": name}, &st)
	return st.Connections[0]
}

// mcpWorld has a second PostHog, besides the environment's, to connect to.
func mcpWorld(t *testing.T) (*world, *simposthog.Server) {
	w := newWorld(t)
	ph := simposthog.New(simposthog.Options{Projects: []simposthog.Project{{Name: "second", Token: mcpKey}},
		PersonalKeys: []simposthog.PersonalKey{{Key: mcpPersonal, Scopes: []string{"query:read", "project:read"}}}})
	if err := ph.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ph.Stop)
	return w, ph
}

// TestMCP drives every tool against a running server, by both transports.
func TestMCP(t *testing.T) {
	t.Parallel()
	for _, transport := range []string{"stdio", "http"} {
		t.Run(transport, func(t *testing.T) {
			w, ph := mcpWorld(t)
			p := w.start()
			c := map[string]func(*testing.T) *mcpClient{"stdio": w.mcpStdio, "http": p.mcpHTTP}[transport](t)
			var names []string
			for tool, err := range c.session.Tools(t.Context(), nil) {
				if err != nil {
					t.Fatal(err)
				}
				names = append(names, tool.Name)
			}
			slices.Sort(names)
			for _, want := range []string{"configure_posthog", "delete_posthog", "get_posthog_status", "get_prompt", "get_stats", "get_trace", "list_events", "list_prompts", "save_prompt", "set_posthog_enabled", "set_prompt_label", "test_posthog"} {
				if !slices.Contains(names, want) {
					t.Errorf("tools %v lack %s", names, want)
				}
			}
			driveConnection(t, w, p, ph, c)
			driveQuestions(t, p, c)
			p.stop()
			noPlainKeys(t, w, p)
			_ = c.session.Close() // it may write until its process has ended
			if c.stderr != nil && c.stderr.Len() > 0 {
				t.Errorf("hedgerow mcp wrote to its standard error: %s", c.stderr)
			}
		})
	}
}

func chat(t *testing.T, p *proc, trace string) {
	t.Helper()
	if status, body, err := p.post(t.Context(), "/v1/chat/completions", "", chatBody, "X-PostHog-Trace-Id", trace, "X-Hedgerow-Surface", "Playbook"); err != nil || status != http.StatusOK {
		t.Fatalf("%d %s %v", status, body, err)
	}
	p.awaitStored("trace_id="+trace, 1)
}

// traces are the traces that a PostHog received.
func traces(ph *simposthog.Server) (ids []string) {
	for _, e := range ph.Named(event.Generation) {
		var id string
		_ = json.Unmarshal(e.Properties["$ai_trace_id"], &id)
		ids = append(ids, id)
	}
	return ids
}

func driveConnection(t *testing.T, w *world, p *proc, ph *simposthog.Server, c *mcpClient) {
	// Errors come with a hint, and nothing is saved.
	for _, tt := range []struct {
		args map[string]any
		want string
	}{
		{map[string]any{"connection": "second", "host": ph.URL()}, "project_key"},
		{map[string]any{"connection": "second", "project_key": mcpPersonal, "host": ph.URL()}, "phc_"},
		{map[string]any{"connection": "second", "project_key": "phc_mcp_unknownunknownunknown", "host": ph.URL()}, "key_unknown"},
		{map[string]any{"connection": "second", "project_key": mcpKey, "host": "http://127.0.0.1:1"}, "unreachable"},
		{map[string]any{"connection": "second", "project_key": mcpKey, "host": "ftp://127.0.0.1"}, "https://"},
	} {
		if text, failed := c.call("configure_posthog", tt.args); !failed || !strings.Contains(text, tt.want) || !strings.Contains(text, "What to do: ") {
			t.Errorf("%v: %s", tt.args, text)
		}
	}
	var made struct {
		Created    bool
		Connection mcpConnection
		Test       struct{ OK bool }
	}
	c.must("configure_posthog", map[string]any{"connection": "second", "project_key": mcpKey, "personal_key": mcpPersonal, "host": ph.URL(), "flush_at": 1, "flush_interval_seconds": 0.1}, &made)
	if !made.Created || !made.Test.OK || made.Connection.ProjectKeyLast4 != mcpKey[len(mcpKey)-4:] {
		t.Errorf("made %+v", made)
	}
	if n := len(ph.Named("hedgerow_connection_test")); n != 1 {
		t.Errorf("%d test events, want 1", n)
	}
	var tested struct {
		OK     bool
		Checks []struct{ Name string }
	}
	c.must("test_posthog", map[string]any{"connection": "second"}, &tested)
	if !tested.OK || len(tested.Checks) != 4 || len(ph.Named("hedgerow_connection_test")) != 2 {
		t.Errorf("test: %+v", tested)
	}

	awaitTraces := func(want ...string) {
		t.Helper()
		w.await(func() bool { return len(traces(ph)) >= len(want) }, func() string { return fmt.Sprintf("PostHog has %v, want %v", traces(ph), want) })
		if got := traces(ph); !slices.Equal(got, want) {
			t.Errorf("PostHog has %v, want %v", got, want)
		}
	}
	enable := func(args map[string]any) {
		t.Helper()
		args["connection"] = "second"
		c.must("set_posthog_enabled", args, nil)
	}
	paused := func() {
		t.Helper()
		enable(map[string]any{"enabled": false})
		w.await(func() bool { return c.connection("second").Delivery.State == "disabled" }, func() string { return fmt.Sprint(c.connection("second")) })
	}
	chat(t, p, "mcp-1")
	awaitTraces("mcp-1")
	paused()
	chat(t, p, "mcp-2")
	enable(map[string]any{"enabled": true}) // with the backlog
	awaitTraces("mcp-1", "mcp-2")
	paused()
	chat(t, p, "mcp-3")
	enable(map[string]any{"enabled": true, "resume": "now"})
	w.await(func() bool { return c.connection("second").Delivery.State != "disabled" }, func() string { return "still disabled" })
	chat(t, p, "mcp-4")
	awaitTraces("mcp-1", "mcp-2", "mcp-4")
	w.await(func() bool { d := c.connection("second").Delivery; return d.Sent == 3 && d.Waiting == 0 }, func() string {
		return fmt.Sprintf("delivery %+v, want 3 sent, none waiting", c.connection("second").Delivery)
	})

	if text, failed := c.call("delete_posthog", map[string]any{"connection": "second", "confirm": "yes"}); !failed || !strings.Contains(text, `confirm "second"`) {
		t.Errorf("deleted without confirmation: %s", text)
	}
	c.must("delete_posthog", map[string]any{"connection": "second", "confirm": "second"}, nil)
	if text, failed := c.call("delete_posthog", map[string]any{"connection": "default", "confirm": "default"}); !failed || !strings.Contains(text, "POSTHOG_API_KEY") {
		t.Errorf("the environment's connection: %s", text)
	}
}

func driveQuestions(t *testing.T, p *proc, c *mcpClient) {
	var list struct {
		Events []struct {
			TraceID string  `json:"trace_id"`
			Model   string  `json:"model"`
			Cost    float64 `json:"cost_usd"`
		}
	}
	c.must("list_events", map[string]any{"surface": "Playbook", "from": "-1h", "limit": 2}, &list)
	if len(list.Events) != 2 || list.Events[0].TraceID != "mcp-4" || list.Events[0].Cost <= 0 {
		t.Errorf("events: %+v", list)
	}
	var trace struct {
		Totals struct{ Calls int }
		Spans  []struct{ Input, Output string }
		URL    string
	}
	c.must("get_trace", map[string]any{"trace_id": "mcp-1", "include_content": true}, &trace)
	if trace.Totals.Calls != 1 || !strings.Contains(trace.Spans[0].Input, "Say hedgerow.") || trace.URL != p.base+"/traces/mcp-1" {
		t.Errorf("trace: %+v", trace)
	}
	var stats struct {
		Totals struct{ Calls int }
		Groups []struct{ Key string }
	}
	c.must("get_stats", map[string]any{"group_by": "surface"}, &stats)
	if stats.Totals.Calls != 4 || len(stats.Groups) != 1 || stats.Groups[0].Key != "Playbook" {
		t.Errorf("stats: %+v", stats)
	}
}

// noPlainKeys searches all files that hedgerow has written for keys.
func noPlainKeys(t *testing.T, w *world, p *proc) {
	t.Helper()
	keys := []string{phKey, mcpKey, mcpPersonal}
	for _, key := range keys {
		if strings.Contains(p.logs(), key) {
			t.Errorf("the log contains %s…", key[:8])
		}
	}
	err := filepath.WalkDir(w.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		for _, key := range keys {
			if bytes.Contains(b, []byte(key)) {
				t.Errorf("%s contains %s… in plain text", path, key[:8])
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestMCPWithoutServer has one hedgerow mcp continue while a server next to it
// starts, stops, is killed and restarts.
func TestMCPWithoutServer(t *testing.T) {
	t.Parallel()
	w, ph := mcpWorld(t)
	w.start().stop() // creates the data folder
	c := w.mcpStdio(t)
	c.must("configure_posthog", map[string]any{"project_key": mcpKey, "host": ph.URL(), "connection": "second", "flush_interval_seconds": 0.1}, nil)
	if got := c.connection("second"); got.Delivery.State != "stopped" || len(ph.Named("hedgerow_connection_test")) != 1 {
		t.Errorf("without a server: %+v", got)
	}
	for range 2 {
		// The folder is released soon after the last call.
		var p *proc
		w.await(func() bool {
			p = w.launch()
			for {
				if resp, err := http.Get(p.base + "/readyz?for=web"); err == nil {
					resp.Body.Close()
					if resp.StatusCode == http.StatusOK {
						return true
					}
				}
				select {
				case <-p.done:
					return false
				case <-time.After(20 * time.Millisecond):
				}
			}
		}, func() string { return "the folder stays in use:\n" + p.logs() })
		if w.key == "" { // hedgerow mcp was the first to start, which shows no key
			w.key = strings.Fields(w.mustRun("project", "add-key", "e2e"))[0]
		}
		if got := c.connection("second"); got.Delivery.State == "stopped" {
			t.Errorf("with a server: %+v", got)
		}
		trace := fmt.Sprint("beside-", len(traces(ph)))
		chat(t, p, trace)
		w.await(func() bool { return slices.Contains(traces(ph), trace) }, func() string { return trace + " has not arrived" })
		p.kill()
		if got := c.connection("second"); got.Delivery.State != "stopped" {
			t.Errorf("after the server was killed: %+v", got)
		}
	}
}

// Standard input and output have JSON-RPC only.
func TestMCPStdioIsClean(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start().stop() // creates the data folder
	run := func(in string, args ...string) (stdout, stderr string, code int) {
		cmd := exec.Command(binary, append([]string{"mcp"}, args...)...)
		var out, errs bytes.Buffer
		cmd.Env, cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = w.environ(), t.TempDir(), strings.NewReader(in), &out, &errs
		err := cmd.Run()
		return out.String(), errs.String(), exitCode(err)
	}
	const list = `{"jsonrpc":"2.0","id":7,"method":"tools/list"}`
	out, errs, code := run(list + "\n" + `{"jsonrpc":"2.0","id":8,"method":"no/such"}` + "\n")
	if code != 0 || errs != "" {
		t.Errorf("exit %d, stderr %s", code, errs)
	}
	got := make(map[float64]map[string]any)
	for line := range strings.Lines(out) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("standard output holds %q", line)
		}
		got[m["id"].(float64)] = m
	}
	if len(got) != 2 || got[7]["result"] == nil || fmt.Sprint(got[8]["error"].(map[string]any)["code"]) != "-32601" {
		t.Errorf("answers: %v", got)
	}
	if out, errs, code := run("hello\n"); code != 1 || out != "" || !strings.Contains(errs, "fix:") {
		t.Errorf("garbage: exit %d, %q, %q", code, out, errs)
	}
	if out, errs, code := run(list, "--project", "nix"); code != 1 || out != "" || !strings.Contains(errs, `project "nix" not found`) {
		t.Errorf("unknown project: exit %d, %q, %q", code, out, errs)
	}
}
