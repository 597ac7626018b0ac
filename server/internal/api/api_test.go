package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/privacy"
	"github.com/hedgerow/hedgerow/server/internal/api"
	"github.com/hedgerow/hedgerow/server/internal/ledger"
	"github.com/hedgerow/hedgerow/server/internal/posthog"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/prompt"
	"github.com/hedgerow/hedgerow/server/internal/servertest"
	"github.com/hedgerow/hedgerow/server/internal/services"
	"github.com/hedgerow/hedgerow/server/internal/store"
)

// now is the present of all tests here.
var now = time.Date(2026, 3, 30, 15, 4, 5, 0, time.UTC)

// delivery is a double of the delivery to PostHog.
type delivery struct {
	mu      sync.Mutex
	result  posthog.TestResult
	tested  []project.Connection
	dropped []string
	panics  bool
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
	return posthog.Delivery{Status: posthog.Status{State: "waiting"}}
}

// deadLetters is a double of the journal's.
type deadLetters struct {
	asked []string
	err   error
}

func (d *deadLetters) List(_ context.Context, project, queue string, limit int) ([]services.DeadLetter, error) {
	d.asked = append(d.asked, fmt.Sprintf("list %s %s %d", project, queue, limit))
	return nil, d.err
}

func (d *deadLetters) Replay(_ context.Context, project, queue string, ids []string) (int, error) {
	d.asked = append(d.asked, fmt.Sprintf("replay %s %s %v", project, queue, ids))
	return len(ids), d.err
}

// gaps is a double of the journal's.
type gaps struct{ asked []string }

func (g *gaps) List(_ context.Context, project, queue string) ([]services.Gap, error) {
	g.asked = append(g.asked, fmt.Sprintf("list %s %s", project, queue))
	return nil, nil
}

func (g *gaps) Send(_ context.Context, project, queue string, ids []string) (int, error) {
	g.asked = append(g.asked, fmt.Sprintf("send %s %s %v", project, queue, ids))
	return 3, nil
}

func (g *gaps) Forget(_ context.Context, project, queue string, ids []string) (int, error) {
	g.asked = append(g.asked, fmt.Sprintf("forget %s %s %v", project, queue, ids))
	return len(ids), nil
}

type fixture struct {
	t        *testing.T
	server   *servertest.Server
	api      *api.API
	local    *api.API
	registry *project.Registry
	prompts  *prompt.Registry
	store    *store.DuckDB
	delivery *delivery
	dead     *deadLetters
	gaps     *gaps
	log      *bytes.Buffer
	reload   error
	appended *appended
	judge    *judge
	stopped  []string // rollouts
	fixed    bool     // require_key is configured

	admin, member, viewer string // keys of project "default"
	other                 string // an administrator's key of project "other"
	otherID               string
	events                []*event.Event // of "default", newest first
}

func present() time.Time { return now }

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t, delivery: &delivery{result: posthog.TestResult{OK: true}}, dead: &deadLetters{}, gaps: &gaps{}, appended: &appended{}, log: &bytes.Buffer{}, judge: &judge{}}
	h := servertest.Open(t, servertest.Options{Now: present, Caller: f.judge})
	f.server, f.registry, f.prompts, f.store = h, h.Registry, h.Prompts, h.Store
	other, err := h.Registry.CreateProject(t.Context(), "other")
	if err != nil {
		t.Fatal(err)
	}
	f.otherID = other.ID
	f.admin, f.member, f.viewer = h.Key(project.DefaultID, project.RoleAdmin), h.Key(project.DefaultID, project.RoleMember), h.Key(project.DefaultID, project.RoleViewer)
	f.other = h.Key(other.ID, project.RoleAdmin)
	f.seed(other.ID)
	h.StopRollout = func(_ context.Context, actor, _, prompt, _ string) error {
		f.stopped = append(f.stopped, actor+" "+prompt)
		return nil
	}
	h.Keyless = func() project.Keyless {
		p, _ := f.registry.Snapshot().FirstProject()
		return project.Keyless{Project: p.Name, Refused: f.registry.Snapshot().Server().RequireKey, Fixed: f.fixed}
	}
	c := api.Config{
		Services: h.Services, Logger: slog.New(slog.NewTextHandler(f.log, nil)), Version: "v1.2.3", PublicURL: "http://hedgerow.example",
		Append: f.appended, Connections: f.delivery, DeadLetters: f.dead, Gaps: f.gaps, Status: func(context.Context) any { return map[string]string{"state": "fine"} },
		ReloadPrices: func() error { return f.reload }, Now: present,
	}
	f.api, f.local = api.New(c), api.Local(c)
	return f
}

// seed stores 25 events of default, one a minute back from now, and one of
// another project.
func (f *fixture) seed(otherID string) {
	f.t.Helper()
	for i := range 25 {
		e := &event.Event{
			UUID: event.NewID(), ProjectID: project.DefaultID, Name: event.Generation, DistinctID: fmt.Sprint("user-", i%3), Timestamp: now.Add(-time.Duration(i+1) * time.Minute),
			Source: event.SourceGateway, TraceID: fmt.Sprint("trace-", i/5), SpanID: fmt.Sprint("span-", i), Provider: "openai", Model: "gpt-4.1-mini", Operation: "chat",
			Usage: event.Usage{Input: event.Some[int64](100), Output: event.Some[int64](10)}, Latency: event.Some(250 * time.Millisecond), HTTPStatus: 200, Status: event.StatusSuccess,
			Surface: "Test", Environment: "production", Tags: []string{"beta"},
			Properties: map[string]json.RawMessage{"plan": json.RawMessage(`"pro"`)},
			Content:    event.Content{Input: json.RawMessage(`[{"role":"user","content":"the question"}]`), Output: json.RawMessage(`[{"role":"assistant","content":"the answer"}]`)},
		}
		e.Cost.Total = event.Some(decimal.RequireFromString("0.000056"))
		if i%5 == 4 {
			e.Model, e.Surface, e.Status, e.IsError, e.HTTPStatus, e.ErrorType = "claude-sonnet-4.6", "Playbook", event.StatusError, true, 429, "rate_limit_error"
			e.Provider, e.Cost.Total, e.Usage = "anthropic", event.Opt[decimal.Decimal]{}, event.Usage{}
		}
		f.events = append(f.events, e)
	}
	foreign := *f.events[0]
	foreign.UUID, foreign.ProjectID = event.NewID(), otherID
	if _, err := f.store.Write(f.t.Context(), append(f.events[:25:25], &foreign)); err != nil {
		f.t.Fatal(err)
	}
}

// answer is the response.
type answer struct {
	status int
	header http.Header
	raw    string
	body   map[string]any
}

func (a answer) errorCode() string {
	e, _ := a.body["error"].(map[string]any)
	code, _ := e["code"].(string)
	return code
}

func ask(t *testing.T, h http.Handler, key, method, target string, body any) answer {
	t.Helper()
	var r io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		r = strings.NewReader(b)
	default:
		j, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		r = bytes.NewReader(j)
	}
	req := httptest.NewRequestWithContext(t.Context(), method, target, r)
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	return do(t, h, req)
}

func do(t *testing.T, h http.Handler, req *http.Request) answer {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	a := answer{status: w.Code, header: w.Header(), raw: w.Body.String()}
	if a.raw != "" {
		if err := json.Unmarshal(w.Body.Bytes(), &a.body); err != nil {
			t.Fatalf("%s %s: the answer is no JSON object: %v: %.200s", req.Method, req.URL, err, a.raw)
		}
	}
	if got := a.header.Get("Content-Type"); got != "application/json" && w.Code != http.StatusNotModified {
		t.Errorf("%s %s: content type %q", req.Method, req.URL, got)
	}
	if w.Code >= 400 {
		e, _ := a.body["error"].(map[string]any)
		for _, field := range []string{"code", "message", "hint"} {
			if s, ok := e[field].(string); !ok || s == "" && e["code"] != "canceled" {
				t.Errorf("%s %s: the error has no %s: %s", req.Method, req.URL, field, a.raw)
			}
		}
		fields := 3
		if e["code"] == string(event.CodeUnknownFilter) {
			fields = 6 // and field, position, did_you_mean
		}
		if len(a.body) != 1 || len(e) != fields {
			t.Errorf("%s %s: the error has another shape: %s", req.Method, req.URL, a.raw)
		}
	}
	return a
}

func (f *fixture) ask(key, method, target string, body any) answer {
	f.t.Helper()
	return ask(f.t, f.api, key, method, target, body)
}

func (f *fixture) get(target string) answer {
	f.t.Helper()
	a := f.ask(f.viewer, "GET", target, nil)
	if a.status != 200 {
		f.t.Errorf("GET %s: %d %s", target, a.status, a.raw)
	}
	return a
}

func uuids(a answer) (out []string) {
	list, _ := a.body["events"].([]any)
	for _, e := range list {
		out = append(out, e.(map[string]any)["uuid"].(string))
	}
	return out
}

func TestAuthentication(t *testing.T) {
	f := newFixture(t)
	for name, set := range map[string]func(http.Header){
		"no key":        func(http.Header) {},
		"unknown key":   func(h http.Header) { h.Set("Authorization", "Bearer hr_"+strings.Repeat("x", 40)) },
		"project token": func(h http.Header) { h.Set("Authorization", "Bearer phc_hedgerow_"+strings.Repeat("x", 32)) },
		"basic":         func(h http.Header) { h.Set("Authorization", "Basic "+f.viewer) },
		"no scheme":     func(h http.Header) { h.Set("Authorization", f.viewer) },
		"empty bearer":  func(h http.Header) { h.Set("Authorization", "Bearer ") },
	} {
		r := httptest.NewRequestWithContext(t.Context(), "GET", "/api/v1/events", nil)
		set(r.Header)
		a := do(t, f.api, r)
		if a.status != 401 || a.errorCode() != "unauthorized" || !strings.Contains(a.raw, "hedgerow project add-key") {
			t.Errorf("%s: %d %s", name, a.status, a.raw)
		}
		if !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Bearer") {
			t.Errorf("%s: WWW-Authenticate %q", name, a.header.Get("WWW-Authenticate"))
		}
		if strings.Contains(a.raw, f.viewer) {
			t.Errorf("%s: the answer quotes the key", name)
		}
	}
	for name, set := range map[string]func(http.Header){
		"bearer":     func(h http.Header) { h.Set("Authorization", "Bearer "+f.viewer) },
		"lower case": func(h http.Header) { h.Set("Authorization", "bearer "+f.viewer) },
		"own header": func(h http.Header) { h.Set("X-Hedgerow-Key", f.viewer) },
	} {
		r := httptest.NewRequestWithContext(t.Context(), "GET", "/api/v1/events", nil)
		set(r.Header)
		if a := do(t, f.api, r); a.status != 200 {
			t.Errorf("%s: %d %s", name, a.status, a.raw)
		}
	}
	keys := f.registry.Snapshot().APIKeys(project.DefaultID)
	for _, k := range keys {
		if k.Role == project.RoleViewer {
			if err := f.registry.RevokeAPIKey(t.Context(), project.DefaultID, k.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
	if a := f.ask(f.viewer, "GET", "/api/v1/events", nil); a.status != 401 {
		t.Errorf("a revoked key: %d", a.status)
	}
}

func TestEventsPaging(t *testing.T) {
	f := newFixture(t)
	var got []string
	cursor := ""
	for pages := 1; ; pages++ {
		a := f.get("/api/v1/events?limit=10&cursor=" + url.QueryEscape(cursor))
		got = append(got, uuids(a)...)
		cursor, _ = a.body["next_cursor"].(string)
		if strings.Contains(a.raw, "the question") {
			t.Error("a list shows content")
		}
		if a.header.Get("Cache-Control") != "no-store" {
			t.Error("answers may be cached")
		}
		if cursor == "" {
			if pages != 3 {
				t.Errorf("%d pages, want 3", pages)
			}
			break
		}
	}
	if len(got) != 25 {
		t.Fatalf("%d events, want 25: none of another project", len(got))
	}
	for i, e := range f.events {
		if got[i] != e.UUID {
			t.Fatalf("event %d is %s, want %s: the newest first", i, got[i], e.UUID)
		}
	}
	if a := f.ask(f.other, "GET", "/api/v1/events", nil); len(uuids(a)) != 1 {
		t.Errorf("the other project sees %d events, want its one", len(uuids(a)))
	}
}

func TestEventsFilters(t *testing.T) {
	f := newFixture(t)
	for target, want := range map[string]int{
		"":                                   25,
		"model=claude-sonnet-4.6":            5,
		"model=nothing":                      0,
		"surface=Playbook&status=error":      5,
		"surface=Playbook&status=success":    0,
		"user=user-0":                        9,
		"trace_id=trace-2":                   5,
		"tag=beta":                           25,
		"tag=alpha":                          0,
		"environment=production":             25,
		"error_type=rate_limit_error":        5,
		"event=$ai_generation":               25,
		"operation=chat&provider=openai":     20,
		"property.plan=pro":                  25,
		"property.plan=free":                 0,
		"from=-10m30s":                       10,
		"from=2026-03-30T15:00:00Z":          4,
		"to=2026-03-30T15:00:00Z":            21,
		"from=-7d&to=-5m30s":                 20,
		"project=default":                    25,
		"limit=3&surface=Test":               3,
		"prompt_name=none":                   0,
		"from=2026-03-30&to=2026-03-31":      25,
		"property.plan=pro&property.absent=": 0,
		"q=surface:Playbook+status:error":    5,
		"q=-surface:Playbook":                20,
		"q=surface:Playbook&status=success":  0,
		"q=(status:error+OR+trace:trace-2)&property.plan=pro": 9,
	} {
		if got := len(uuids(f.get("/api/v1/events?" + target))); got != want {
			t.Errorf("%q: %d events, want %d", target, got, want)
		}
	}
	for _, target := range []string{
		"model=a&model=b", "limit=x", "limit=-1", "limit=100000", "limit=1e3", "from=yesterday", "to=", "from=--7d", "from=-xd", "from=-99999999d",
		"from=2026-03-30&to=2026-03-29", "cursor=garbage", "model=%zz", "a=1;b=2", "model=" + strings.Repeat("x", 2000), "model=%00", "model=%ff", "property.=x",
	} {
		if a := f.ask(f.viewer, "GET", "/api/v1/events?"+target, nil); a.status != 400 || a.errorCode() != "invalid" {
			t.Errorf("%q: %d %s, want 400", target, a.status, a.raw)
		}
	}
	if a := f.ask(f.viewer, "GET", "/api/v1/events?modle=x", nil); a.status != 400 || a.errorCode() != "unknown_parameter" || !strings.Contains(a.raw, "modle") {
		t.Errorf("an unknown parameter: %d %s", a.status, a.raw)
	}
	for _, route := range []string{"events?", "stats?from=-7d&", "series?from=-7d&measure=calls&", "examples?from=-7d&measure=calls&", "evals?from=-7d&"} {
		a := f.ask(f.viewer, "GET", "/api/v1/"+route+"q=status:error+modle:x", nil)
		if a.status != 400 || a.errorCode() != "unknown_filter" || !strings.Contains(a.raw, `"did_you_mean":"model"`) || !strings.Contains(a.raw, `"position":14`) || !strings.Contains(a.raw, `"field":"modle"`) {
			t.Errorf("%s: %d %s", route, a.status, a.raw)
		}
	}
	for _, target := range []string{"project=other", "project=" + f.otherID, "project=nowhere"} {
		a := f.ask(f.admin, "GET", "/api/v1/events?"+target, nil)
		if a.status != 404 {
			t.Errorf("%q: %d, want 404: another project is not there", target, a.status)
		}
	}
}

func TestEvent(t *testing.T) {
	f := newFixture(t)
	e := f.events[3]
	a := f.get("/api/v1/events/" + e.UUID)
	got, _ := a.body["event"].(map[string]any)
	if got["uuid"] != e.UUID || got["model"] != "gpt-4.1-mini" || strings.Contains(a.raw, "the question") {
		t.Errorf("without content: %s", a.raw)
	}
	if a := f.get("/api/v1/events/" + e.UUID + "?content=true"); !strings.Contains(a.raw, "the question") || !strings.Contains(a.raw, "the answer") {
		t.Errorf("with content: %s", a.raw)
	}
	// Reading is audited, once, and requires permission.
	read := func() (n int) {
		for _, e := range f.registry.AuditLog(project.DefaultID, 0) {
			if e.Action == "content.open" {
				n++
			}
		}
		return n
	}
	f.get("/api/v1/events/" + e.UUID + "?content=true")
	if n := read(); n != 1 {
		t.Errorf("%d entries of reading in the audit log", n)
	}
	if a := f.ask(f.admin, "PATCH", "/api/v1/projects/default", map[string]any{"content_role": "nobody"}); a.status != 400 {
		t.Errorf("a role that is none: %d %s", a.status, a.raw)
	}
	if a := f.ask(f.admin, "PATCH", "/api/v1/projects/default", map[string]any{"content_role": "member"}); a.status != 200 {
		t.Fatalf("content_role: %d %s", a.status, a.raw)
	}
	if a := f.ask(f.viewer, "GET", "/api/v1/events/"+e.UUID+"?content=true", nil); a.status != 403 || strings.Contains(a.raw, "the question") {
		t.Errorf("a viewer reads: %d %s", a.status, a.raw)
	}
	if a := f.ask(f.viewer, "GET", "/api/v1/events/"+e.UUID, nil); a.status != 200 {
		t.Errorf("a viewer, without content: %d", a.status)
	}
	if a := f.ask(f.member, "GET", "/api/v1/events/"+e.UUID+"?content=true", nil); !strings.Contains(a.raw, "the question") {
		t.Errorf("a member reads: %d %s", a.status, a.raw)
	}
	if a := f.get("/api/v1/events/" + strings.ToUpper(e.UUID)); a.body["event"].(map[string]any)["uuid"] != e.UUID {
		t.Errorf("in upper case: %s", a.raw)
	}
	// Unknown is null, never 0.
	failed := f.get("/api/v1/events/" + f.events[4].UUID)
	for _, name := range []string{"usage", "cost"} {
		for part, v := range failed.body["event"].(map[string]any)[name].(map[string]any) {
			if n, ok := v.(float64); ok {
				t.Errorf("%s %s of a failed call is %v, want null", name, part, n)
			}
		}
	}
	for _, id := range []string{event.NewID(), "not-a-uuid", "%00"} {
		if a := f.ask(f.viewer, "GET", "/api/v1/events/"+id, nil); a.status != 404 && a.status != 400 {
			t.Errorf("%q: %d %s", id, a.status, a.raw)
		}
	}
	if a := f.ask(f.other, "GET", "/api/v1/events/"+e.UUID, nil); a.status != 404 {
		t.Errorf("another project's key: %d", a.status)
	}
}

func TestTrace(t *testing.T) {
	f := newFixture(t)
	a := f.get("/api/v1/traces/trace-1")
	tr, _ := a.body["trace"].(map[string]any)
	roots, _ := tr["roots"].([]any)
	if tr["trace_id"] != "trace-1" || len(roots) != 5 {
		t.Errorf("%d roots: %.300s", len(roots), a.raw)
	}
	if a := f.ask(f.viewer, "GET", "/api/v1/traces/nothing", nil); a.status != 404 {
		t.Errorf("no such trace: %d", a.status)
	}
	if a := f.ask(f.other, "GET", "/api/v1/traces/trace-1", nil); a.status != 404 {
		t.Errorf("another project's key: %d", a.status)
	}
}

func TestStats(t *testing.T) {
	f := newFixture(t)
	a := f.get("/api/v1/stats?group_by=model&from=-1d")
	totals, _ := a.body["totals"].(map[string]any)
	if totals["events"] != 25.0 || totals["calls"] != 25.0 || totals["errors"] != 5.0 || totals["input_tokens"] != 2000.0 || totals["uncosted_calls"] != 5.0 {
		t.Errorf("totals %v", totals)
	}
	if !strings.Contains(a.raw, `"cost_usd":0.00112`) {
		t.Errorf("the cost is not exact: %s", a.raw)
	}
	if groups, _ := a.body["groups"].([]any); len(groups) != 2 {
		t.Errorf("%d groups, want 2", len(groups))
	}
	if a := f.get("/api/v1/stats?surface=Playbook"); a.body["totals"].(map[string]any)["events"] != 5.0 {
		t.Errorf("filtered: %s", a.raw)
	}
	if a := f.get("/api/v1/stats?from=-1d&compare=true"); a.body["previous"] == nil || a.body["previous_range"] == nil {
		t.Errorf("compared: %s", a.raw)
	}
	for _, period := range []string{"today", "7d"} {
		a := f.get("/api/v1/stats?tz=Europe/Paris&period=" + period)
		if a.body["by_model"] == nil || a.body["by_surface"] == nil {
			t.Errorf("%s: %s", period, a.raw)
		}
	}
	for _, target := range []string{"group_by=colour", "tz=Nowhere/City", "period=month", "period=", "period=today&model=gpt-4.1-mini", "period=7d&from=-1d", "limit=5000", "limit=no"} {
		if a := f.ask(f.viewer, "GET", "/api/v1/stats?"+target, nil); a.status != 400 {
			t.Errorf("%q: %d %s, want 400", target, a.status, a.raw)
		}
	}
}

func TestValues(t *testing.T) {
	f := newFixture(t)
	a := f.get("/api/v1/values/model")
	if got := fmt.Sprint(a.body["values"]); got != "[map[events:20 value:gpt-4.1-mini] map[events:5 value:claude-sonnet-4.6]]" {
		t.Errorf("models %s", got)
	}
	if a := f.get("/api/v1/values/prompt_name"); a.raw != "{\"values\":[]}\n" {
		t.Errorf("none: %s", a.raw)
	}
	if a := f.ask(f.viewer, "GET", "/api/v1/values/password", nil); a.status != 400 {
		t.Errorf("no such field: %d", a.status)
	}
}

const (
	phc = "phc_0123456789abcdefghijklmnopqrstuvwxyzABCD"
	phx = "phx_0123456789abcdefghijklmnopqrstuvwxyzEFGH"
)

func TestConnections(t *testing.T) {
	f := newFixture(t)
	var all []string
	ask := func(method, target string, body any) answer {
		t.Helper()
		a := f.ask(f.member, method, "/api/v1/connections"+target, body)
		all = append(all, a.raw)
		return a
	}
	if a := ask("GET", "", nil); a.raw != "{\"connections\":[]}\n" {
		t.Errorf("none: %s", a.raw)
	}
	if a := ask("PUT", "/main", `{"host":"eu.i.posthog.com"}`); a.status != 400 || !strings.Contains(a.raw, "no project key") {
		t.Errorf("without a key: %d %s", a.status, a.raw)
	}
	a := ask("PUT", "/main", map[string]any{"project_key": phc, "personal_key": phx, "host": "EU.i.posthog.com/", "flush_interval_seconds": 2.5})
	c, _ := a.body["connection"].(map[string]any)
	if a.status != 200 || c["host"] != "https://eu.i.posthog.com" || c["project_key_last4"] != "ABCD" || c["personal_key_last4"] != "EFGH" || c["personal_key_set"] != true ||
		c["flush_interval_seconds"] != 2.5 || c["enabled"] != true || c["privacy_mode"] != true || a.body["test"] == nil {
		t.Errorf("made: %d %s", a.status, a.raw)
	}
	if n := len(f.delivery.tested); n != 1 || f.delivery.tested[0].ProjectKey.Reveal() != phc {
		t.Errorf("tested %d times, want once with the new key before saving", n)
	}

	// Only a change of host or keys is tested.
	if a := ask("PUT", "/main", `{"enabled":false}`); a.status != 200 || a.body["test"] != nil || len(f.delivery.tested) != 1 || !strings.Contains(a.raw, `"state":"disabled"`) {
		t.Errorf("disabled: %d %s", a.status, a.raw)
	}
	f.delivery.result = posthog.TestResult{Checks: []posthog.Check{{Name: "host", OK: true, Message: "answers"}, {Name: "key", Code: "unauthorized", Message: "PostHog does not know this key", Hint: "look in Settings"}}}
	a = ask("PUT", "/main", map[string]any{"project_key": phc + "new"})
	if a.status != 400 || !strings.Contains(a.raw, "not saved: PostHog does not know this key") || !strings.Contains(a.raw, "skip_test") {
		t.Errorf("a failed test: %d %s", a.status, a.raw)
	}
	if got, _ := f.registry.Snapshot().ConnectionByName(project.DefaultID, "main"); got.ProjectKey.Reveal() != phc {
		t.Error("a connection whose test failed was saved")
	}
	if a := ask("PUT", "/main", map[string]any{"project_key": phc + "new", "skip_test": true}); a.status != 200 || a.body["test"] != nil {
		t.Errorf("saved anyway: %d %s", a.status, a.raw)
	}
	if a := ask("POST", "/MAIN/test", nil); a.status != 200 || !strings.Contains(a.raw, `"ok":false`) {
		t.Errorf("test: %d %s", a.status, a.raw)
	}
	id, _ := c["id"].(string)
	if a := ask("PUT", "/"+id, `{"personal_key":"","skip_test":true}`); a.status != 200 || !strings.Contains(a.raw, `"personal_key_set":false`) {
		t.Errorf("by id, without the personal key: %d %s", a.status, a.raw)
	}
	if a := ask("GET", "", nil); !strings.Contains(a.raw, id) {
		t.Errorf("list: %s", a.raw)
	}
	for body, want := range map[string]int{
		`{"project_key":"phx_personal"}`: 400, `{"host":"http://127.0.0.1"}`: 400, `{"flush_at":0}`: 400, `{"flush_interval_seconds":1e300}`: 400,
		`{"unknown":1}`: 400, `{"enabled":"yes"}`: 400,
	} {
		if a := ask("PUT", "/main", body); a.status != want {
			t.Errorf("%s: %d %s, want %d", body, a.status, a.raw, want)
		}
	}
	a = ask("PUT", "/main", `{"enabled":true,"resume":"now","schema":"both","sample_rate":0.5,"filter":{"events":["$ai_generation"],"tags":["beta"]}}`)
	if got, _ := f.registry.Snapshot().ConnectionByName(project.DefaultID, "main"); a.status != 200 || got.Schema != project.SchemaBoth || got.SampleRate != 0.5 || got.Filter.Tags[0] != "beta" ||
		!got.Enabled || len(f.delivery.dropped) != 1 || !strings.Contains(a.raw, `"schema":"both"`) || !strings.Contains(a.raw, `"filter":{"events":["$ai_generation"],"tags":["beta"]}`) {
		t.Errorf("vocabulary, sampling, filter: %d %s, dropped %v", a.status, a.raw, f.delivery.dropped)
	}
	for _, body := range []string{`{"resume":"later"}`, `{"schema":"xml"}`, `{"sample_rate":2}`} {
		if a := ask("PUT", "/main", body); a.status != 400 {
			t.Errorf("%s: %d %s", body, a.status, a.raw)
		}
	}
	// Another project does not see it.
	for _, m := range []struct{ method, target, body string }{{"POST", "/main/test", ""}, {"DELETE", "/main", ""}, {"DELETE", "/" + id, ""}} {
		if a := f.ask(f.other, m.method, "/api/v1/connections"+m.target, m.body); a.status != 404 {
			t.Errorf("another project: %s %s: %d", m.method, m.target, a.status)
		}
	}
	if a := ask("DELETE", "/main", nil); a.status != 200 {
		t.Errorf("deleted: %d %s", a.status, a.raw)
	}
	if a := ask("DELETE", "/main", nil); a.status != 404 {
		t.Errorf("deleted twice: %d", a.status)
	}
	if _, _, err := f.registry.SetEnvConnection(t.Context(), project.DefaultID, project.EnvConnection{ProjectKey: phc}); err != nil {
		t.Fatal(err)
	}
	if a := ask("DELETE", "/default", nil); a.status != 409 || !strings.Contains(a.raw, "POSTHOG_API_KEY") {
		t.Errorf("the environment's: %d %s", a.status, a.raw)
	}
	everything := strings.Join(all, "\n") + f.log.String()
	for _, key := range []string{phc, phx, "0123456789abcdef"} {
		if strings.Contains(everything, key) {
			t.Errorf("an answer or the log shows a key")
		}
	}
}

func TestProjects(t *testing.T) {
	f := newFixture(t)
	a := f.ask(f.admin, "GET", "/api/v1/projects", nil)
	if list, _ := a.body["projects"].([]any); len(list) != 1 {
		t.Errorf("an API key sees %d projects, want its own", len(list))
	}
	if a := ask(t, f.local, "", "GET", "/api/v1/projects", nil); len(a.body["projects"].([]any)) != 2 {
		t.Errorf("on the socket: %s", a.raw)
	}
	a = f.ask(f.admin, "PATCH", "/api/v1/projects/default", `{"name":"Main","keep_content":false,"scrub_emails":true,"hash_distinct_ids":true,"content_role":"member","content_days":7,"metrics_days":90,"include_usage":false,"surface":" Shop ","attribution_fields":["feature","feature"]}`)
	p, _ := f.registry.Snapshot().Project(project.DefaultID)
	if want := (project.Settings{ScrubEmails: true, HashDistinctIDs: true, ContentRole: project.RoleMember, ContentDays: 7, MetricsDays: 90, Surface: "Shop", AttributionFields: []string{"feature"}}); a.status != 200 || p.Name != "Main" || !reflect.DeepEqual(p.Settings, want) {
		t.Errorf("changed: %d %+v", a.status, p)
	}
	for target, body := range map[string]string{"default": `{"content_days":-1}`, "main": `{"name":""}`, "Main": `{"attribution_fields":["feature","input"]}`} {
		if a := f.ask(f.admin, "PATCH", "/api/v1/projects/"+target, body); a.status != 400 {
			t.Errorf("%s: %d %s", body, a.status, a.raw)
		}
	}
	if a := f.ask(f.admin, "PATCH", "/api/v1/projects/other", `{"content_days":1}`); a.status != 404 {
		t.Errorf("another project: %d %s", a.status, a.raw)
	}
	if a := f.ask(f.admin, "PATCH", "/api/v1/projects/default", `{"name":"OTHER"}`); a.status != 409 {
		t.Errorf("a taken name: %d %s", a.status, a.raw)
	}
	old := p.Token
	a = f.ask(f.admin, "POST", "/api/v1/projects/default/rotate-token", nil)
	if now, _ := f.registry.Snapshot().Project(project.DefaultID); a.status != 200 || now.Token == old || !strings.Contains(a.raw, now.Token) {
		t.Errorf("rotated: %d %s", a.status, a.raw)
	}

	a = ask(t, f.local, "", "POST", "/api/v1/projects", `{"name":"third"}`)
	k, _ := a.body["api_key"].(map[string]any)
	plain, _ := k["key"].(string)
	if a.status != 200 || !strings.HasPrefix(plain, "hr_") {
		t.Fatalf("made: %d %s", a.status, a.raw)
	}
	if a := f.ask(plain, "GET", "/api/v1/events", nil); a.status != 200 || len(uuids(a)) != 0 {
		t.Errorf("its key: %d %s", a.status, a.raw)
	}
	if a := ask(t, f.local, "", "GET", "/api/v1/events?project=third", nil); a.status != 200 || len(uuids(a)) != 0 {
		t.Errorf("the third by name on the socket: %d", a.status)
	}
	if a := ask(t, f.local, "", "GET", "/api/v1/events", nil); len(uuids(a)) != 25 {
		t.Errorf("the socket's default project has %d events", len(uuids(a)))
	}
	a = ask(t, f.local, "", "POST", "/api/v1/sign-in-links", nil)
	link, _ := a.body["url"].(string)
	u, err := url.Parse(link)
	if err != nil || u.Host != "hedgerow.example" {
		t.Fatalf("link %q", link)
	}
	if _, err := f.registry.RedeemLink(t.Context(), u.Query().Get("token")); err != nil {
		t.Errorf("the link does not work: %v", err)
	}
}

func TestOperations(t *testing.T) {
	f := newFixture(t)
	if a := f.get("/api/v1/status"); a.body["version"] != "v1.2.3" || fmt.Sprint(a.body["server"]) != "map[state:fine]" || a.body["time"] != "2026-03-30T15:04:05Z" {
		t.Errorf("status: %s", a.raw)
	}
	if a := f.ask(f.member, "GET", "/api/v1/dead-letters?queue=store&limit=7", nil); a.raw != "{\"dead_letters\":[]}\n" {
		t.Errorf("dead letters: %s", a.raw)
	}
	if a := f.ask(f.member, "GET", "/api/v1/dead-letters?limit=1001", nil); a.status != 400 {
		t.Errorf("limit: %d", a.status)
	}
	if a := f.ask(f.member, "POST", "/api/v1/dead-letters/replay", `{"ids":["1","2"],"queue":"store"}`); a.body["replayed"] != 2.0 {
		t.Errorf("replay: %s", a.raw)
	}
	if a := f.ask(f.member, "POST", "/api/v1/dead-letters/replay", `{}`); a.status != 400 {
		t.Errorf("replay of nothing: %d", a.status)
	}
	if got := strings.Join(f.dead.asked, ", "); got != "list default store 7, replay default store [1 2]" {
		t.Errorf("asked %q", got)
	}
	if a := f.ask(f.member, "GET", "/api/v1/gaps?queue=posthog-1", nil); a.raw != "{\"gaps\":[]}\n" {
		t.Errorf("gaps: %s", a.raw)
	}
	if a := f.ask(f.member, "POST", "/api/v1/gaps/send", `{"all":true}`); a.body["sending"] != 3.0 {
		t.Errorf("send: %s", a.raw)
	}
	if a := f.ask(f.member, "POST", "/api/v1/gaps/forget", `{"ids":["1-9"],"queue":"posthog-1"}`); a.body["forgotten"] != 1.0 {
		t.Errorf("forget: %s", a.raw)
	}
	if a := f.ask(f.member, "POST", "/api/v1/gaps/forget", `{}`); a.status != 400 {
		t.Errorf("forget nothing: %d", a.status)
	}
	if a := f.ask(f.viewer, "POST", "/api/v1/gaps/send", `{"all":true}`); a.status != 403 {
		t.Errorf("a viewer's key sends: %d", a.status)
	}
	if got := strings.Join(f.gaps.asked, ", "); got != "list default posthog-1, send default  [], forget default posthog-1 [1-9]" {
		t.Errorf("asked %q", got)
	}
	if a := f.ask(f.admin, "POST", "/api/v1/prices/reload", nil); a.body["reloaded"] != true {
		t.Errorf("reload: %s", a.raw)
	}
	f.reload = event.Invalid("the overlay is damaged", "look at line 3")
	if a := f.ask(f.admin, "POST", "/api/v1/prices/reload", nil); a.status != 400 || !strings.Contains(a.raw, "line 3") {
		t.Errorf("failed reload: %d %s", a.status, a.raw)
	}
	// An error that is not meant for people stays in the log.
	f.dead.err = errors.New("nats: stream 0x17 lost")
	if a := f.ask(f.member, "GET", "/api/v1/dead-letters", nil); a.status != 500 || strings.Contains(a.raw, "0x17") || !strings.Contains(f.log.String(), "0x17") {
		t.Errorf("internal error: %d %s", a.status, a.raw)
	}
	f.delivery.panics = true
	a := f.ask(f.member, "PUT", "/api/v1/connections/x", map[string]any{"project_key": phc})
	if a.status != 500 || strings.Contains(a.raw+f.log.String(), phc) || !strings.Contains(f.log.String(), "panicked") {
		t.Errorf("a panic: %d %s\n%s", a.status, a.raw, f.log.String())
	}
}

func TestBadRequests(t *testing.T) {
	f := newFixture(t)
	for name, tt := range map[string]struct {
		method, target, body string
		status               int
	}{
		"no body":        {"PATCH", "/api/v1/projects/default", "", 400},
		"not JSON":       {"PATCH", "/api/v1/projects/default", "name=x", 400},
		"half":           {"PATCH", "/api/v1/projects/default", `{"name":`, 400},
		"an array":       {"PATCH", "/api/v1/projects/default", `[]`, 400},
		"two values":     {"PATCH", "/api/v1/projects/default", `{"content_days":1}{"content_days":2}`, 400},
		"something more": {"PATCH", "/api/v1/projects/default", `{"content_days":1} x`, 400},
		"unknown field":  {"PATCH", "/api/v1/projects/default", `{"days":1}`, 400},
		"wrong type":     {"PATCH", "/api/v1/projects/default", `{"content_days":"1"}`, 400},
		"too large":      {"PATCH", "/api/v1/projects/default", `{"name":"` + strings.Repeat("x", 1<<20) + `"}`, 413},
		"no such route":  {"GET", "/api/v1/nothing", "", 404},
		"no such method": {"PUT", "/api/v1/events", "", 404},
		"another API":    {"GET", "/api/v2/events", "", 404},
	} {
		a := f.ask(f.admin, tt.method, tt.target, tt.body)
		if a.status != tt.status {
			t.Errorf("%s: %d %.200s, want %d", name, a.status, a.raw, tt.status)
		}
	}
	if p, _ := f.registry.Snapshot().Project(project.DefaultID); !reflect.DeepEqual(p.Settings, project.DefaultSettings()) {
		t.Errorf("a refused request has changed the settings to %+v", p.Settings)
	}
	// A caller who hangs up is no fault of the server's.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := httptest.NewRequestWithContext(ctx, "GET", "/api/v1/events", nil)
	r.Header.Set("Authorization", "Bearer "+f.viewer)
	if a := do(t, f.api, r); a.status < 400 || a.status == 500 {
		t.Errorf("hung up: %d %s", a.status, a.raw)
	}
}
