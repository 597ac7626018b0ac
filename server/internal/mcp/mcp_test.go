package mcp_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/privacy"
	"github.com/hedgerow/hedgerow/server/internal/ledger"
	"github.com/hedgerow/hedgerow/server/internal/mcp"
	"github.com/hedgerow/hedgerow/server/internal/posthog"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/servertest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// now is the present of all tests here.
var now = time.Date(2026, 3, 30, 15, 4, 5, 0, time.UTC)

const (
	phc = "phc_0123456789abcdefghijklmnopqrstuvwxyzWXYZ"
	phx = "phx_9876543210zyxwvutsrqponmlkjihgfedcbaABCD"
	// secrets are what must never come back: the keys without their last four.
	phcBody = "0123456789abcdefghijklmnopqrstuvwxyz"
	phxBody = "9876543210zyxwvutsrqponmlkjihgfedcba"
)

// delivery is a double of the delivery to PostHog.
type delivery struct {
	mu      sync.Mutex
	result  posthog.TestResult
	tested  []project.Connection
	dropped []string
	panics  bool
}

func (d *delivery) Test(_ context.Context, c project.Connection) posthog.TestResult {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.panics {
		panic("with " + c.ProjectKey.Reveal())
	}
	d.tested = append(d.tested, c)
	return d.result
}

func (d *delivery) Delivery(c project.Connection) posthog.Delivery {
	if !c.Enabled {
		return posthog.Delivery{Status: posthog.Status{State: "disabled"}}
	}
	return posthog.Delivery{Status: posthog.Status{State: "retrying", LastSuccess: now, LastError: "PostHog answers 503", Sent: 7, Lag: 1500 * time.Millisecond}, Waiting: 3}
}

func (d *delivery) Ledger(context.Context, project.Connection) (ledger.Page, error) {
	at := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	return ledger.Page{
		Sent:         []ledger.SentName{{Name: "plan", Kinds: []string{"text"}, Seen: ledger.Seen{First: at, Last: at, Count: 3}}},
		Withheld:     []ledger.WithheldName{{Name: "new_library.said", Attribute: true, Reason: privacy.ReasonAttribute, Seen: ledger.Seen{First: at, Last: at, Count: 2}}, {Name: "note", Reason: privacy.ReasonQuotes, Seen: ledger.Seen{First: at, Last: at, Count: 1}}},
		MoreWithheld: 7,
	}, nil
}

func (d *delivery) DropBacklog(_ context.Context, id string) error {
	d.dropped = append(d.dropped, id)
	return nil
}

type fixture struct {
	t        *testing.T
	server   *servertest.Server
	mcp      *mcp.Server
	url      string // of /mcp for the network
	registry *project.Registry
	delivery *delivery
	log      *bytes.Buffer
	evals    *evalRig // evals_test.go

	admin, member, viewer string // keys of project "default"
	other                 string // an administrator's key of project "other"
	otherID               string
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	ok := posthog.TestResult{OK: true, Checks: []posthog.Check{{Name: "host", OK: true, Code: "ok", Message: "it answers"}}}
	f := &fixture{t: t, delivery: &delivery{result: ok}, log: &bytes.Buffer{}, evals: new(evalRig)}
	h := servertest.Open(t, servertest.Options{Now: func() time.Time { return now }, Caller: f.evals})
	f.server, f.registry, f.evals.checks = h, h.Registry, h.Checks
	other, err := h.Registry.CreateProject(t.Context(), "other")
	if err != nil {
		t.Fatal(err)
	}
	f.otherID = other.ID
	f.admin, f.member, f.viewer = h.Key(project.DefaultID, project.RoleAdmin), h.Key(project.DefaultID, project.RoleMember), h.Key(project.DefaultID, project.RoleViewer)
	f.other = h.Key(other.ID, project.RoleAdmin)
	if _, err := h.Store.Write(t.Context(), seed(other.ID)); err != nil {
		t.Fatal(err)
	}
	config := mcp.Config{
		Services: h.Services, Append: f.evals, Connections: f.delivery, Version: "v1.2.3", PublicURL: "https://hedgerow.example",
		Logger: slog.New(slog.NewTextHandler(f.log, nil)), Now: func() time.Time { return now },
	}
	f.mcp = mcp.New(config)
	srv := httptest.NewServer(f.mcp.HTTP())
	t.Cleanup(srv.Close)
	f.url = srv.URL + "/mcp"
	return f
}

// seed makes 25 events of default, one a minute back from now, and one of
// another project.
func seed(otherID string) []*event.Event {
	var events []*event.Event
	for i := range 25 {
		e := &event.Event{
			UUID: event.NewID(), ProjectID: project.DefaultID, Name: event.Generation, DistinctID: fmt.Sprint("user-", i%3), Timestamp: now.Add(-time.Duration(i+1) * time.Minute),
			Source: event.SourceGateway, TraceID: fmt.Sprint("trace-", i/5), SpanID: fmt.Sprint("span-", i), Provider: "openai", Model: "gpt-4.1-mini", Operation: "chat",
			Usage: event.Usage{Input: event.Some[int64](100), Output: event.Some[int64](0)}, Latency: event.Some(250 * time.Millisecond), HTTPStatus: 200, Status: event.StatusSuccess,
			Surface: "Test", Environment: "production", Tags: []string{"beta"},
			Properties: map[string]json.RawMessage{"plan": json.RawMessage(`"pro"`)},
			Content:    event.Content{Input: json.RawMessage(`[{"role":"user","content":"the question"}]`), Output: json.RawMessage(`[{"role":"assistant","content":"the answer"}]`)},
		}
		e.Cost.Total = event.Some(decimal.RequireFromString("0.000056"))
		switch i % 5 {
		case 0:
			e.ParentID = fmt.Sprint("span-", i+1) // the one before it in time
		case 4:
			e.Model, e.Surface, e.Status, e.IsError, e.HTTPStatus, e.ErrorType = "claude-sonnet-4.6", "Playbook", event.StatusError, true, 429, "rate_limit_error"
			e.Provider, e.Cost.Total, e.Usage = "anthropic", event.Opt[decimal.Decimal]{}, event.Usage{}
		}
		events = append(events, e)
	}
	foreign := *events[0]
	foreign.UUID, foreign.ProjectID, foreign.TraceID, foreign.Model = event.NewID(), otherID, "trace-foreign", "gpt-foreign"
	return append(events, &foreign)
}

// wire sends the key and checks all that comes back.
type wire struct {
	t   *testing.T
	key string
}

func (w wire) RoundTrip(r *http.Request) (*http.Response, error) {
	if w.key != "" {
		r.Header.Set("Authorization", "Bearer "+w.key)
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	for _, secret := range []string{phcBody, phxBody} {
		if bytes.Contains(b, []byte(secret)) {
			w.t.Errorf("a key is in the answer: %s", b)
		}
	}
	resp.Body = io.NopCloser(bytes.NewReader(b))
	return resp, err
}

// client is a session of the official SDK.
type client struct {
	t       *testing.T
	session *sdk.ClientSession
	tools   map[string]*sdk.Tool
}

func dial(t *testing.T, url, key string) *client {
	t.Helper()
	c := sdk.NewClient(&sdk.Implementation{Name: "test", Version: "1"}, nil)
	session, err := c.Connect(t.Context(), &sdk.StreamableClientTransport{Endpoint: url, HTTPClient: &http.Client{Transport: wire{t, key}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = session.Close() })
	out := &client{t, session, make(map[string]*sdk.Tool)}
	for tool, err := range session.Tools(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		out.tools[tool.Name] = tool
	}
	return out
}

func (f *fixture) dial(key string) *client { f.t.Helper(); return dial(f.t, f.url, key) }

// call calls a tool and holds its answer against the schema.
func (c *client) call(name string, args any) (answer map[string]any, failure string) {
	c.t.Helper()
	res, err := c.session.CallTool(c.t.Context(), &sdk.CallToolParams{Name: name, Arguments: args})
	if err != nil {
		c.t.Fatalf("%s: a protocol error: %v", name, err)
	}
	text := res.Content[0].(*sdk.TextContent).Text
	if res.IsError {
		if res.StructuredContent != nil {
			c.t.Errorf("%s: an error with structured content, which no schema describes", name)
		}
		return nil, text
	}
	var s jsonschema.Schema
	b, _ := json.Marshal(c.tools[name].OutputSchema)
	if err := json.Unmarshal(b, &s); err != nil {
		c.t.Fatal(err)
	}
	resolved, err := s.Resolve(nil)
	if err != nil {
		c.t.Fatal(err)
	}
	if err := resolved.Validate(res.StructuredContent); err != nil {
		c.t.Errorf("%s: the answer does not fit the schema: %v\n%s", name, err, text)
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		c.t.Errorf("%s: the text is not the answer as JSON: %v", name, err)
	}
	return answer, ""
}

func (c *client) must(name string, args any) map[string]any {
	c.t.Helper()
	answer, failure := c.call(name, args)
	if failure != "" {
		c.t.Fatalf("%s: %s", name, failure)
	}
	return answer
}

// fails calls a tool that must refuse, and returns what it says.
func (c *client) fails(name string, args any, want ...string) {
	c.t.Helper()
	answer, failure := c.call(name, args)
	if failure == "" {
		c.t.Errorf("%s %v: %v, want an error", name, args, answer)
		return
	}
	for _, w := range append(want, "Error (", "What to do: ") {
		if !strings.Contains(failure, w) {
			c.t.Errorf("%s: %q, want it to say %q", name, failure, w)
		}
	}
}

// at follows a path through an answer.
func at(v any, path ...any) any {
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[p]
		case int:
			l, _ := v.([]any)
			if p >= len(l) {
				return nil
			}
			v = l[p]
		}
	}
	return v
}

func (f *fixture) connections() []project.Connection {
	return f.registry.Snapshot().Connections(project.DefaultID)
}

type args = map[string]any

var readers = []string{"get_posthog_status", "get_posthog_ledger", "get_series", "get_stats", "get_trace", "list_examples", "list_events", "facets", "list_prompts", "get_prompt", "render_prompt", "list_rollouts", "list_checks", "list_datasets", "get_dataset_run", "compare_dataset_runs", "list_experiments", "get_experiment", "reconcile_bill", "list_bills"}
var writers = []string{"configure_posthog", "send_posthog_properties", "settle_posthog_names", "delete_posthog", "set_posthog_enabled", "test_posthog", "save_prompt", "set_prompt_label", "delete_prompt", "set_rollout", "stop_rollout", "resolve_prompt", "record_eval", "record_feedback", "delete_events", "reprice", "get_repricing", "cancel_repricing", "save_example", "run_dataset", "resume_dataset_run", "create_experiment", "start_experiment", "stop_experiment", "import_bill", "fetch_bill", "delete_bill"}

// needs is the scope of each tool that does more than read.
func needs(tool string) string {
	switch {
	case slices.Contains(readers, tool):
		return "read"
	case tool == "record_eval" || tool == "record_feedback":
		return "ingest"
	case slices.Contains([]string{"delete_events", "reprice", "get_repricing", "cancel_repricing", "import_bill", "fetch_bill", "delete_bill"}, tool):
		return "admin"
	case tool == "run_dataset" || tool == "resume_dataset_run":
		return "write, gateway"
	}
	return "write"
}

// docs/mcp.md has every tool, once, with the scopes that it needs.
func TestDocsHaveEveryTool(t *testing.T) {
	b, err := os.ReadFile("../../../docs/mcp.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(b), "## Tools")
	table, _, _ = strings.Cut(table, "\n## ")
	f := newFixture(t)
	c := f.dial(f.admin)
	have := map[string]bool{}
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if len(cells) != 3 {
			continue
		}
		for _, m := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(cells[0], -1) {
			name, scopes := m[1], strings.TrimSpace(cells[2])
			if have[name] || c.tools[name] == nil {
				t.Errorf("the page names %s twice, or there is no such tool", name)
			}
			have[name] = true
			if scopes != needs(name) { // TestScopes holds the server to it
				t.Errorf("%s: the page says %s, want %s", name, scopes, needs(name))
			}
		}
	}
	for name := range c.tools {
		if !have[name] {
			t.Errorf("docs/mcp.md lacks %s", name)
		}
	}
}

// TestSchemas holds all that a client learns of the tools against a golden
// file; go test -update rewrites it.
func TestSchemas(t *testing.T) {
	f := newFixture(t)
	c := f.dial(f.admin)
	var tools []*sdk.Tool
	for _, name := range slices.Sorted(slices.Values(append(slices.Clone(readers), writers...))) {
		tool := c.tools[name]
		if tool == nil {
			t.Fatalf("no tool %s", name)
		}
		tools = append(tools, tool)
		if got, want := tool.Annotations.ReadOnlyHint, slices.Contains(readers, name); got != want {
			t.Errorf("%s: readOnlyHint is %t", name, got)
		}
		if tool.Description == "" || tool.Title == "" {
			t.Errorf("%s has no description or title", name)
		}
		arguments, _ := at(tool.InputSchema, "properties").(map[string]any) // list_prompts has none
		for arg, p := range arguments {
			if d, _ := at(p, "description").(string); d == "" {
				t.Errorf("%s: the argument %s has no description", name, arg)
			}
		}
	}
	if len(tools) != len(c.tools) {
		t.Errorf("%d tools, want %d", len(c.tools), len(tools))
	}
	got, err := json.MarshalIndent(tools, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "tools.json", append(got, '\n'))
	init := c.session.InitializeResult()
	if init.ServerInfo.Name != "hedgerow" || init.ServerInfo.Version != "v1.2.3" || init.Instructions == "" {
		t.Errorf("the server introduces itself as %+v, instructions %q", init.ServerInfo, init.Instructions)
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s has changed; if that is meant, run go test -update. Now:\n%s", path, got)
	}
}

func TestConfigure(t *testing.T) {
	f := newFixture(t)
	c := f.dial(f.member)
	if got := c.must("get_posthog_status", nil); at(got, "configured") != false || at(got, "project") != "default" {
		t.Errorf("status of nothing: %v", got)
	}

	got := c.must("configure_posthog", args{"project_key": " " + phc + "\n", "personal_key": phx, "host": "https://eu.i.posthog.com/", "environment": "production"})
	if at(got, "created") != true || at(got, "test", "ok") != true || at(got, "connection", "name") != "default" ||
		at(got, "connection", "project_key_last4") != "WXYZ" || at(got, "connection", "personal_key_last4") != "ABCD" || at(got, "connection", "host") != "https://eu.i.posthog.com" {
		t.Errorf("created: %v", got)
	}
	if have := f.connections()[0]; have.ProjectKey.Reveal() != phc || have.PersonalKey.Reveal() != phx || !have.Enabled || !have.PrivacyMode {
		t.Errorf("saved: %+v", have)
	}
	if n := len(f.delivery.tested); n != 1 || f.delivery.tested[0].ProjectKey.Reveal() != phc {
		t.Errorf("%d tests", n)
	}

	// A subset changes that and nothing else, without a test.
	got = c.must("configure_posthog", args{"privacy_mode": false, "schema": "both", "flush_at": 50, "flush_interval_seconds": 2.5, "sample_rate": 0.5,
		"hash_distinct_ids": true, "enabled": false, "filter": args{"surfaces": []string{"Playbook"}}})
	if at(got, "created") != false || at(got, "test") != nil {
		t.Errorf("changed: %v", got)
	}
	have := f.connections()[0]
	if have.PrivacyMode || have.Schema != project.SchemaBoth || have.FlushAt != 50 || have.FlushInterval != 2500*time.Millisecond || have.SampleRate != 0.5 ||
		!have.HashDistinctIDs || have.Enabled || !slices.Equal(have.Filter.Surfaces, []string{"Playbook"}) {
		t.Errorf("changed to %+v", have)
	}
	if have.ProjectKey.Reveal() != phc || have.PersonalKey.Reveal() != phx || have.Environment != "production" || have.Host != "https://eu.i.posthog.com" {
		t.Errorf("a change of some touched others: %+v", have)
	}
	if len(f.delivery.tested) != 1 {
		t.Error("tested although host and keys are the same")
	}

	c.must("configure_posthog", args{"personal_key": "", "filter": args{}})
	if have := f.connections()[0]; !have.PersonalKey.IsZero() || len(have.Filter.Surfaces) != 0 || len(f.delivery.tested) != 2 {
		t.Errorf("personal key and filter are still there: %+v", have)
	}

	// A second one, by name; then a name is needed.
	c.must("configure_posthog", args{"connection": "staging", "project_key": "phc_stagingstagingstagingstaging", "skip_test": true})
	if len(f.connections()) != 2 || len(f.delivery.tested) != 2 {
		t.Errorf("%d connections, %d tests, want 2 and, by skip_test, 2", len(f.connections()), len(f.delivery.tested))
	}
	c.fails("configure_posthog", args{"flush_at": 10}, "several connections", `"default", "staging"`)
	c.fails("test_posthog", args{"connection": "nix"}, "not_found", `"staging"`)
	if got := c.must("get_posthog_status", args{"connection": "STAGING"}); len(at(got, "connections").([]any)) != 1 || at(got, "sending") != true {
		t.Errorf("status of one: %v", got)
	}

	// The audit log says who.
	entry := f.registry.AuditLog(project.DefaultID, 1)[0]
	if entry.Action != "connection.create" || !strings.Contains(entry.Actor, "mcp") || !strings.HasPrefix(entry.Actor, "key k_") {
		t.Errorf("audit: %+v", entry)
	}
}

func TestConfigureRefuses(t *testing.T) {
	f := newFixture(t)
	c := f.dial(f.member)
	for name, tt := range map[string]struct {
		args args
		want string
	}{
		"no key":                  {args{"host": "https://eu.i.posthog.com"}, "phc_"},
		"personal as project key": {args{"project_key": phx}, "not a project key"},
		"wrong prefix":            {args{"project_key": "sk-" + phcBody}, "begins with phc_"},
		"own token":               {args{"project_key": "phc_hedgerow_" + phcBody}, "hedgerow's own project token"},
		"personal key prefix":     {args{"project_key": phc, "personal_key": phcBody}, "phx_"},
		"http":                    {args{"project_key": phc, "host": "http://posthog.example.com"}, "https://"},
		"private":                 {args{"project_key": phc, "host": "https://10.0.0.1"}, "private"},
		"decimal address":         {args{"project_key": phc, "host": "https://2130706433"}, "private"},
		"schema":                  {args{"project_key": phc, "schema": "other"}, "posthog, llm_events or both"},
		"flush_at":                {args{"project_key": phc, "flush_at": 0}, "between 1 and 1000"},
		"flush_interval":          {args{"project_key": phc, "flush_interval_seconds": 1e300}, "10 minutes"},
		"negative interval":       {args{"project_key": phc, "flush_interval_seconds": -1e300}, "100 ms"},
		"sample_rate":             {args{"project_key": phc, "sample_rate": 0}, "disable the connection"},
		"unknown argument":        {args{"project_key": phc, "key": "x"}, `unknown argument "key"`},
		"key of another type":     {args{"project_key": []string{phc}}, `"project_key" is not a string`},
		"key as object":           {args{"project_key": args{phc: phx}}, `"project_key" is not a string`},
		"fraction":                {args{"project_key": phc, "flush_at": 1.5}, "a whole number"},
		"filter of another type":  {args{"project_key": phc, "filter": []string{"x"}}, "an object"},
	} {
		t.Run(name, func(t *testing.T) {
			(&client{t, c.session, c.tools}).fails("configure_posthog", tt.args, tt.want)
			if len(f.connections()) != 0 {
				t.Error("saved")
			}
		})
	}
	f.delivery.result = posthog.TestResult{Checks: []posthog.Check{
		{Name: "host", OK: true, Code: "ok", Message: "it answers"},
		{Name: "project_key", Code: "wrong_region", Message: "the key is of the EU cloud", Hint: "set the host to https://eu.i.posthog.com"},
	}}
	c.fails("configure_posthog", args{"project_key": phc}, "nothing was saved", "wrong_region", "https://eu.i.posthog.com", "skip_test")
	if len(f.connections()) != 0 {
		t.Error("saved although the test failed")
	}
	c.must("configure_posthog", args{"project_key": phc, "skip_test": true})
	if got := c.must("test_posthog", nil); at(got, "ok") != false || at(got, "checks", 1, "code") != "wrong_region" {
		t.Errorf("test: %v", got)
	}
	tested := len(f.delivery.tested)
	c.fails("configure_posthog", args{"host": "https://eu.i.posthog.com"}, "set for the old one", "again")
	c.fails("configure_posthog", args{"host": "https://eu.i.posthog.com", "skip_test": true}, "set for the old one", "again")
	if len(f.delivery.tested) != tested {
		t.Error("a kept key went to another host")
	}
	c.fails("configure_posthog", args{"host": "https://eu.i.posthog.com", "project_key": phc}, "nothing was saved")
	if have := f.connections()[0]; have.Host != project.DefaultHost {
		t.Errorf("the host became %s", have.Host)
	}
	// A panic does not reveal the secret either.
	f.delivery.panics = true
	c.fails("test_posthog", nil, "internal")
	if log := f.log.String(); !strings.Contains(log, "panicked") || strings.Contains(log, phcBody) {
		t.Errorf("log: %s", log)
	}
}

func TestConnectionOfTheEnvironment(t *testing.T) {
	f := newFixture(t)
	if _, _, err := f.registry.SetEnvConnection(t.Context(), project.DefaultID, project.EnvConnection{ProjectKey: phc}); err != nil {
		t.Fatal(err)
	}
	c := f.dial(f.admin)
	if got := c.must("get_posthog_status", nil); at(got, "connections", 0, "from_environment") != true {
		t.Errorf("status: %v", got)
	}
	c.fails("configure_posthog", args{"host": "https://eu.i.posthog.com"}, "conflict", "POSTHOG_API_KEY")
	if len(f.delivery.tested) != 0 {
		t.Error("the key was sent to a host that could not be saved")
	}
	c.fails("delete_posthog", args{"connection": "default", "confirm": "default"}, "conflict", "POSTHOG_API_KEY")
	c.must("configure_posthog", args{"flush_at": 5})
	c.must("set_posthog_enabled", args{"enabled": false})
}

func TestPauseResumeDelete(t *testing.T) {
	f := newFixture(t)
	c := f.dial(f.member)
	c.fails("set_posthog_enabled", args{"enabled": true}, "not_found", "configure_posthog")
	c.must("configure_posthog", args{"project_key": phc})
	id := f.connections()[0].ID

	c.fails("set_posthog_enabled", args{}, `"enabled" is missing`)
	c.fails("set_posthog_enabled", args{"enabled": true, "resume": "later"}, "backlog or now")
	c.fails("set_posthog_enabled", args{"enabled": false, "resume": "now"}, "requires enabled true")
	c.fails("set_posthog_enabled", args{"enabled": true, "resume": "now"}, "already enabled")
	if got := c.must("set_posthog_enabled", args{"enabled": true, "resume": "backlog"}); at(got, "changed") != false {
		t.Errorf("enabled twice: %v", got)
	}
	if got := c.must("set_posthog_enabled", args{"enabled": false}); at(got, "changed") != true || at(got, "connection", "delivery", "state") != "disabled" || f.connections()[0].Enabled {
		t.Errorf("paused: %v", got)
	}
	c.must("set_posthog_enabled", args{"enabled": true})
	if len(f.delivery.dropped) != 0 || !f.connections()[0].Enabled {
		t.Errorf("resumed with the backlog: dropped %v", f.delivery.dropped)
	}
	c.must("set_posthog_enabled", args{"enabled": false})
	c.must("set_posthog_enabled", args{"enabled": true, "resume": "now"})
	if !slices.Equal(f.delivery.dropped, []string{id}) || !f.connections()[0].Enabled {
		t.Errorf("resumed from now: dropped %v", f.delivery.dropped)
	}

	for _, confirm := range []any{nil, "", "yes", "Default", true} {
		c.fails("delete_posthog", args{"connection": "default", "confirm": confirm})
	}
	c.fails("delete_posthog", args{"confirm": "default"}, `"connection" is missing`)
	if len(f.connections()) != 1 {
		t.Fatal("deleted without confirmation")
	}
	if got := c.must("delete_posthog", args{"connection": "default", "confirm": "default"}); at(got, "deleted") != "default" || len(f.connections()) != 0 {
		t.Errorf("deleted: %v", got)
	}
}

func TestViewersOnlyRead(t *testing.T) {
	f := newFixture(t)
	f.dial(f.admin).must("configure_posthog", args{"project_key": phc})
	f.dial(f.admin).must("save_prompt", args{"name": "p", "messages": []any{args{"content": "x"}}})
	before := f.connections()
	c := f.dial(f.viewer)
	if got := slices.Sorted(maps.Keys(c.tools)); !slices.Equal(got, slices.Sorted(slices.Values(readers))) {
		t.Errorf("a viewer's key is shown %v", got)
	}
	c.tools = f.dial(f.admin).tools // their schemas: it calls them without having seen them
	for _, name := range writers {
		c.fails(name, args{"connection": "default", "confirm": "default", "enabled": false}, "forbidden", "needs the scope", needs(name))
	}
	for _, name := range readers {
		if name == "get_dataset_run" || name == "compare_dataset_runs" {
			c.fails(name, args{map[string]string{"get_dataset_run": "run", "compare_dataset_runs": "a"}[name]: "run_none"}, "run not found") // there is none
			continue
		}
		if name == "get_experiment" {
			c.fails(name, args{"id": "x_none"}, "experiment not found")
			continue
		}
		c.must(name, map[string]args{"get_trace": {"trace_id": "trace-0"}, "get_prompt": {"name": "p"}, "render_prompt": {"name": "p"}, "get_series": {"measures": []string{"calls"}}, "list_examples": {"measure": "calls"}, "facets": {"field": "model"}, "reconcile_bill": {"provider": "openai"}}[name])
	}
	if after := f.connections(); len(after) != 1 || after[0].Revision != before[0].Revision || len(f.delivery.tested) != 1 {
		t.Error("a viewer changed something")
	}
}

// TestScopes lists for each key the tools that it may use, and rejects a key
// that may use none.
func TestScopes(t *testing.T) {
	f := newFixture(t)
	all := append(slices.Clone(readers), writers...)
	for _, scopes := range []project.Scopes{{project.ScopeRead}, {project.ScopeWrite}, {project.ScopeIngest}, {project.ScopeWrite, project.ScopeGateway}, {project.ScopeAdmin}, project.RoleMember.Scopes()} {
		var want []string
		for _, name := range all {
			if !slices.ContainsFunc(strings.Split(needs(name), ", "), func(s string) bool { return !scopes.Has(project.Scope(s)) }) {
				want = append(want, name)
			}
		}
		got := slices.Sorted(maps.Keys(f.dial(f.server.ScopedKey(project.DefaultID, scopes...)).tools))
		if slices.Sort(want); !slices.Equal(got, want) {
			t.Errorf("%v: listed %v, want %v", scopes, got, want)
		}
	}
	r, _ := http.NewRequestWithContext(t.Context(), "POST", f.url, strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`))
	r.Header.Set("Authorization", "Bearer "+f.server.ScopedKey(project.DefaultID, project.ScopeGateway))
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, _ := io.ReadAll(res.Body); res.StatusCode != 403 || !strings.Contains(string(b), `"forbidden"`) || !strings.Contains(string(b), "scope read") {
		t.Errorf("a key for the gateway only: %d %s", res.StatusCode, b)
	}
}

func TestProjectsAreApart(t *testing.T) {
	f := newFixture(t)
	ours, theirs := f.dial(f.admin), f.dial(f.other)
	ours.must("configure_posthog", args{"project_key": phc})
	id := f.connections()[0].ID
	if got := theirs.must("get_posthog_status", nil); at(got, "configured") != false || at(got, "project") != "other" {
		t.Errorf("status: %v", got)
	}
	for _, name := range []string{"default", id} {
		theirs.fails("get_posthog_status", args{"connection": name}, "not_found")
		theirs.fails("test_posthog", args{"connection": name}, "not_found")
		theirs.fails("set_posthog_enabled", args{"connection": name, "enabled": false}, "not_found")
		theirs.fails("delete_posthog", args{"connection": name, "confirm": "default"}, "not_found")
		theirs.fails("configure_posthog", args{"connection": name, "enabled": false}, "needs a project key")
	}
	if !f.connections()[0].Enabled {
		t.Error("another project's key paused the connection")
	}
	got := theirs.must("list_events", nil)
	if n := len(at(got, "events").([]any)); n != 1 || at(got, "events", 0, "model") != "gpt-foreign" {
		t.Errorf("%d events: %v", n, got)
	}
	theirs.fails("get_trace", args{"trace_id": "trace-0"}, "not_found")
	ours.fails("get_trace", args{"trace_id": "trace-foreign"}, "not_found")
	if got := theirs.must("get_stats", nil); at(got, "totals", "calls") != 1.0 {
		t.Errorf("totals: %v", got)
	}
	if got := ours.must("get_stats", nil); at(got, "totals", "calls") != 25.0 {
		t.Errorf("totals: %v", got)
	}
}

func TestLocal(t *testing.T) {
	f := newFixture(t)
	srv := httptest.NewServer(f.mcp.Local(f.otherID))
	defer srv.Close()
	c := dial(t, srv.URL, "")
	c.must("configure_posthog", args{"project_key": phc})
	if list := f.registry.Snapshot().Connections(f.otherID); len(list) != 1 || len(f.connections()) != 0 {
		t.Errorf("connections: %v", list)
	}
	if entry := f.registry.AuditLog(f.otherID, 1)[0]; entry.Actor != "local (mcp)" {
		t.Errorf("audit: %+v", entry)
	}
}

const ping = `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`

func TestDoor(t *testing.T) {
	f := newFixture(t)
	for name, tt := range map[string]struct {
		method, body, host string
		header             []string
		want               int
		says               string
	}{
		"no key":              {want: 401, says: "hedgerow project add-key"},
		"basic":               {header: []string{"Authorization", "Basic " + f.admin}, want: 401},
		"unknown key":         {header: []string{"Authorization", "Bearer hr_" + phcBody}, want: 401, says: "unknown API key"},
		"project token":       {header: []string{"Authorization", "Bearer " + f.registry.Snapshot().Projects()[0].Token}, want: 401},
		"key":                 {header: []string{"Authorization", "bearer " + f.viewer}, want: 200, says: "list_events"},
		"key of its own":      {header: []string{"X-Hedgerow-Key", f.viewer}, want: 200},
		"other origin":        {header: []string{"Authorization", "Bearer " + f.viewer, "Origin", "https://evil.example"}, want: 403, says: "origin"},
		"cross site":          {header: []string{"Authorization", "Bearer " + f.viewer, "Sec-Fetch-Site", "cross-site"}, want: 403},
		"own origin":          {header: []string{"Authorization", "Bearer " + f.viewer, "Origin", "https://hedgerow.example", "Sec-Fetch-Site", "cross-site"}, want: 200},
		"rebound name":        {host: "evil.example:4100", header: []string{"Authorization", "Bearer " + f.viewer, "Origin", "http://evil.example:4100"}, want: 403, says: "HEDGEROW_PUBLIC_URL"},
		"public name":         {host: "hedgerow.example", header: []string{"Authorization", "Bearer " + f.viewer}, want: 200},
		"localhost":           {host: "localhost:4100", header: []string{"Authorization", "Bearer " + f.viewer}, want: 200},
		"a page that reads":   {method: "GET", header: []string{"Authorization", "Bearer " + f.viewer}, want: 405},
		"not JSON":            {body: "{", header: []string{"Authorization", "Bearer " + f.viewer}, want: 400},
		"too large":           {body: strings.Repeat(" ", 1<<20) + ping, header: []string{"Authorization", "Bearer " + f.viewer}, want: 413},
		"unauthorized origin": {header: []string{"Origin", "https://evil.example"}, want: 403},
	} {
		t.Run(name, func(t *testing.T) {
			if tt.method == "" {
				tt.method = "POST"
			}
			if tt.body == "" {
				tt.body = ping
			}
			req, _ := http.NewRequestWithContext(t.Context(), tt.method, f.url, strings.NewReader(tt.body))
			req.Header.Set("Content-Type", "application/json")
			req.Header.Set("Accept", "application/json, text/event-stream")
			for i := 0; i < len(tt.header); i += 2 {
				req.Header.Set(tt.header[i], tt.header[i+1])
			}
			req.Host = tt.host
			resp, err := (&http.Client{Transport: wire{t: t}}).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode != tt.want || !strings.Contains(string(b), tt.says) {
				t.Errorf("%d %s, want %d and %q", resp.StatusCode, b, tt.want, tt.says)
			}
			if got := resp.Header.Get("WWW-Authenticate"); (got == `Bearer realm="hedgerow"`) != (tt.want == 401) {
				t.Errorf("WWW-Authenticate: %q", got)
			}
		})
	}
}

// A revoked key, or a changed role, takes effect immediately: nothing is cached
// between requests.
func TestRevokedKey(t *testing.T) {
	f := newFixture(t)
	c := f.dial(f.member)
	c.must("get_posthog_status", nil)
	for _, k := range f.registry.Snapshot().APIKeys(project.DefaultID) {
		if err := f.registry.RevokeAPIKey(t.Context(), project.DefaultID, k.ID); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.session.CallTool(t.Context(), &sdk.CallToolParams{Name: "get_posthog_status"}); err == nil || !strings.Contains(err.Error(), "Unauthorized") {
		t.Errorf("a revoked key: %v", err)
	}
}
