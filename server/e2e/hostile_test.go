package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/hedgerow/hedgerow/event"
)

// Limits of every response, whatever the events. A busy machine is slower: a
// response that exceeds the time is requested again.
const (
	slowest  = 5 * time.Second
	longest  = 50 << 20
	mostRSS  = 1 << 30 // of the process, with a store of hostileStore
	storeRAM = "512MiB"
)

// TestHostile sends random events that are valid and mean harm on every way in, and
// then asks every page, every GET route of the API and every tool that reads. None
// may fail, take too long or grow without bound. HEDGEROW_HOSTILE_ROUNDS makes it
// longer, HEDGEROW_HOSTILE_SEED repeats one.
func TestHostile(t *testing.T) {
	rounds, depth := 1, 1500
	if n, err := strconv.Atoi(os.Getenv("HEDGEROW_HOSTILE_ROUNDS")); err == nil {
		rounds, depth = n, 5000
	}
	seed := uint64(time.Now().UnixNano())
	if n, err := strconv.ParseUint(os.Getenv("HEDGEROW_HOSTILE_SEED"), 10, 64); err == nil {
		seed = n
	}
	t.Logf("HEDGEROW_HOSTILE_SEED=%d", seed)
	e := &enemy{rng: rand.New(rand.NewPCG(seed, 0)), now: time.Now().UTC()}
	w := newWorld(t)
	fake := e.provider(t)
	w.env = append(w.env, "HEDGEROW_UPSTREAM_OPENAI="+fake.URL+"/v1", "HEDGEROW_UPSTREAM_ANTHROPIC="+fake.URL, "HEDGEROW_UPSTREAM_GEMINI="+fake.URL, "HEDGEROW_STORE_MEMORY="+storeRAM)
	p := w.start()
	h := &hostile{T: t, p: p, enemy: e, asked: make(map[string]int)}
	h.signIn()
	h.prepare()
	traces, batches := e.shapes(depth)
	h.traces = traces
	for _, b := range batches {
		h.send("/batch/", "application/json", []byte(`{"api_key":"`+phKey+`","batch":[`+b+`]}`), 200)
	}
	// Finding 2: two events broke every page.
	for range 2 {
		h.send("/batch/", "application/json", []byte(`{"api_key":"`+phKey+`","event":"$ai_generation","distinct_id":"u","properties":{"$ai_input_tokens":9223372036854775807,"$ai_output_tokens":9223372036854775807,"$ai_model":"gpt-4.1-mini","$ai_provider":"openai"}}`), 200)
	}
	for round := range rounds {
		h.round(round)
		h.settle()
		h.askPages()
		h.askAPI()
		h.askTools()
		if t.Failed() {
			break
		}
	}
	h.deleteOne()
	peak := rss(t, p)
	t.Logf("%d requests sent, %d of them accepted; %d responses requested, the slowest %v (%s), the longest %.1f MB (%s); resident memory at most %d MB", h.sent, h.taken, len(h.asked), h.slow, h.slowAt, float64(h.long)/1e6, h.longAt, peak>>20)
	if peak > mostRSS+512<<20 {
		t.Errorf("resident memory of %d MB", peak>>20)
	}
	if h.taken < h.sent*6/10 {
		t.Errorf("only %d of %d requests were accepted", h.taken, h.sent)
	}
	for _, bad := range []string{"panicked", "INT128", "Out of Range", "runtime error"} {
		if strings.Contains(p.logs(), bad) {
			t.Errorf("the log has %q:\n%s", bad, lines(p.logs(), bad))
		}
	}
	p.stop()
}

func lines(log, with string) string {
	var out []string
	for line := range strings.Lines(log) {
		if strings.Contains(line, with) && len(out) < 5 {
			out = append(out, line[:min(len(line), 1500)])
		}
	}
	return strings.Join(out, "\n")
}

type hostile struct {
	*testing.T
	p      *proc
	enemy  *enemy
	pages  *http.Client // of a signed-in user
	traces []string
	ids    map[string]string // of the objects that prepare created, by placeholder

	sent, taken    int
	asked          map[string]int // by path pattern
	slow           time.Duration
	long           int64
	slowAt, longAt string
}

// deleteOne deletes an event, as the user of a broken page would.
func (h *hostile) deleteOne() {
	h.Helper()
	events := h.p.stored("event=%24ai_generation")
	id := events[h.enemy.rng.IntN(len(events))].UUID
	if out := h.p.w.mustRun("events", "delete", id); !strings.Contains(out, "deleted 1 of 1") || !strings.Contains(out, "PostHog cannot delete single events") {
		h.Errorf("hedgerow events delete: %s", out)
	}
	if status, answer := h.p.send(h.Context(), "GET", "/api/v1/events/"+id, ""); status != http.StatusNotFound {
		h.Errorf("a deleted event: %d %.200s", status, answer)
	}
}

func (h *hostile) signIn() {
	h.Helper()
	link := regexp.MustCompile(`http://\S+/sign-in\?token=(\w+)`).FindStringSubmatch(h.p.w.mustRun("project", "sign-in-link"))
	jar, err := cookiejar.New(nil)
	if err != nil || link == nil {
		h.Fatalf("no sign-in link, %v", err)
	}
	h.pages = &http.Client{Jar: jar, Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := h.pages.PostForm(h.p.base+"/sign-in/link", url.Values{"token": {link[1]}})
	if err != nil {
		h.Fatal(err)
	}
	if res.Body.Close(); res.StatusCode != http.StatusSeeOther {
		h.Fatalf("sign-in: %s", res.Status)
	}
}

// prepare creates settings whose pages show events: a prompt, an experiment, a
// check, a dataset.
func (h *hostile) prepare() {
	h.Helper()
	h.ids = map[string]string{"project": "default", "field": "model", "by": "surface", "name": "greeting", "version": "1", "connection": "default"}
	h.p.call("POST", "/api/v1/prompts", `{"name":"greeting","messages":[{"role":"system","content":"Greet {{who}}."}]}`, nil)
	var x struct {
		Experiment struct {
			ID string `json:"id"`
		} `json:"experiment"`
	}
	h.p.call("POST", "/api/v1/experiments", fmt.Sprintf(`{"name":"x","flag":"arm","arms":[{"key":"a"},{"key":"b"}],"primary":{"measure":"cost_per_call_usd"},"guardrails":[{"measure":"eval_score"},{"measure":"latency_p95_ms"},{"event":"llm_output_rated","property":"anything","as":"mean"}],"segments":["model","surface"],"start":true,"started_at":%q}`,
		h.enemy.now.AddDate(0, 0, -7).Format(time.RFC3339)), &x)
	h.ids["experiment"] = x.Experiment.ID
	var check struct {
		Check struct {
			ID string `json:"id"`
		} `json:"check"`
	}
	h.p.call("POST", "/api/v1/evals/checks", `{"name":"length","kind":"length","min_chars":1,"max_chars":1000}`, &check)
	h.ids["check"] = check.Check.ID
	var set struct {
		Dataset struct {
			ID string `json:"id"`
		} `json:"dataset"`
	}
	h.p.call("POST", "/api/v1/datasets", `{"name":"set"}`, &set)
	h.ids["dataset"] = set.Dataset.ID
}

// send sends a request whose response must be below 500. want is the status
// code; 0 is any.
func (h *hostile) send(path, kind string, body []byte, want int, header ...string) {
	h.Helper()
	req, err := http.NewRequestWithContext(h.Context(), http.MethodPost, h.p.base+path, bytes.NewReader(body))
	if err != nil {
		h.Fatal(err)
	}
	req.Header.Set("Content-Type", kind)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	for try := 0; ; try++ {
		req.Body = io.NopCloser(bytes.NewReader(body))
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			h.Fatalf("%s: %v\n%s", path, err, lines(h.p.logs(), "level=ERROR"))
		}
		answer, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode == http.StatusServiceUnavailable && res.Header.Get("Retry-After") != "" && try < 20 {
			time.Sleep(time.Second)
			continue
		}
		h.sent++
		if res.StatusCode < 300 {
			h.taken++
		}
		if res.StatusCode >= 500 || want != 0 && res.StatusCode != want {
			h.Errorf("POST %s: %d %.300s to %.2000s", path, res.StatusCode, answer, body)
		}
		return
	}
}

// round sends to every receiver.
func (h *hostile) round(n int) {
	h.Helper()
	e := h.enemy
	const each = 12
	auth := []string{"Authorization", "Bearer " + phKey}
	key := []string{"Authorization", "Bearer " + h.p.w.key}
	for range each {
		h.send("/batch/", "application/json", []byte(`{"api_key":"`+phKey+`","batch":[`+e.batch(8)+`]}`), 0)
		h.send("/i/v0/e/", "application/json", []byte(`{"api_key":"`+phKey+`","batch":[`+e.captured()+`]}`), 0)
		h.send("/i/v1/analytics/events", "application/json", []byte(`{"created_at":"`+e.now.Format(time.RFC3339)+`","batch":[`+e.batch(4)+`]}`), 0, auth...)
		h.send("/api/v1/events", "application/json", []byte("["+e.product()+","+e.product()+"]"), 0, key...)
		h.send("/v1/traces", "application/x-protobuf", e.spans(10), 0, auth...)
		h.send("/v1/traces", "application/json", []byte(e.spansJSON()), 0, auth...)
		headers := []string{"X-PostHog-Trace-Id", "trace-" + strconv.Itoa(e.rng.IntN(12)), "X-PostHog-Distinct-Id", "ada", "X-Hedgerow-Surface", "Chat", "X-PostHog-Flag-arm", pick(e, "a", "b"), "X-PostHog-Properties", `{"n":` + pick(e, "1e308", "1", `"NaN"`) + `}`}
		h.send("/openai/v1/chat/completions", "application/json", []byte(`{"model":`+quoted(e.text())+`,"messages":[{"role":"user","content":`+quoted(e.text())+`}],"temperature":1e308,"max_tokens":9223372036854775807}`), 0, append(headers, "Authorization", "Bearer sk-x")...)
		h.send("/anthropic/v1/messages", "application/json", []byte(`{"model":"claude-sonnet-4-5","max_tokens":1,"messages":[{"role":"user","content":`+quoted(e.text())+`}]}`), 0, append(headers, "X-Api-Key", "k")...)
		h.send("/gemini/v1beta/models/gemini-2.5-flash:generateContent", "application/json", []byte(`{"contents":[{"parts":[{"text":`+quoted(e.text())+`}]}]}`), 0, append(headers, "X-Goog-Api-Key", "k")...)
	}
	if n == 0 { // one generation whose content becomes an example
		id := event.NewID()
		h.send("/batch/", "application/json", []byte(`{"api_key":"`+phKey+`","event":"$ai_generation","uuid":"`+id+`","distinct_id":"u","properties":{"$ai_input":[{"role":"user","content":"=1+1"}],"$ai_output_choices":[{"role":"assistant","content":"＝2"}],"$ai_model":"m"}}`), 200)
		h.p.w.await(func() bool {
			status, _ := h.p.send(h.Context(), "POST", "/api/v1/datasets/"+h.ids["dataset"]+"/examples", `{"from_generation":"`+id+`"}`)
			return status == 200
		}, func() string { return "the example cannot be made" })
	}
}

// settle waits until the store has everything that was sent.
func (h *hostile) settle() {
	h.Helper()
	var s struct {
		Server struct {
			Journal struct {
				Queues []struct {
					Name           string
					Waiting        int
					Unacknowledged int
				}
			}
		}
	}
	h.p.w.await(func() bool {
		s.Server.Journal.Queues = nil
		h.p.get("/api/v1/status", &s)
		i := slices.IndexFunc(s.Server.Journal.Queues, func(q struct {
			Name           string
			Waiting        int
			Unacknowledged int
		}) bool {
			return q.Name == "store"
		})
		return i >= 0 && s.Server.Journal.Queues[i].Waiting == 0 && s.Server.Journal.Queues[i].Unacknowledged == 0
	}, func() string {
		return fmt.Sprintf("the store lacks events: %+v\n%s", s, lines(h.p.logs(), "level=ERROR"))
	})
	var dead struct {
		Dead []json.RawMessage `json:"dead_letters"`
	}
	if h.p.get("/api/v1/dead-letters?queue=store", &dead); len(dead.Dead) > 0 {
		h.Errorf("%d events could not be stored: %s", len(dead.Dead), dead.Dead[0])
	}
}

// judge checks a response against the limits. again repeats the request; it may
// be nil.
func (h *hostile) judge(what string, ask func() (status int, size int64, body []byte, err error)) []byte {
	h.Helper()
	var took time.Duration
	for try := range 3 {
		begin := time.Now()
		status, size, body, err := ask()
		took = time.Since(begin)
		switch {
		case err != nil:
			h.Errorf("%s: %v\n%s", what, err, lines(h.p.logs(), "level=ERROR"))
			return nil
		case status >= 500:
			h.Errorf("%s: %d %.300s\n%s", what, status, body, lines(h.p.logs(), "level=ERROR"))
			return nil
		case size > longest:
			h.Errorf("%s: %d MB", what, size>>20)
		}
		if size > h.long {
			h.long, h.longAt = size, what
		}
		if took <= slowest || try == 2 {
			if took > h.slow {
				h.slow, h.slowAt = took, what
			}
			if took > slowest {
				h.Errorf("%s: took %v, three times too long", what, took)
			}
			return body
		}
	}
	return nil
}

// fetch requests a path of the server. Only the start of a long response is
// kept.
func (h *hostile) fetch(c *http.Client, path string, header ...string) (int, int64, []byte, error) {
	req, err := http.NewRequestWithContext(h.Context(), http.MethodGet, h.p.base+path, nil)
	if err != nil {
		return 0, 0, nil, err
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := c.Do(req)
	if err != nil {
		return 0, 0, nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 4<<20))
	if err != nil {
		return res.StatusCode, int64(len(body)), body, err
	}
	rest, err := io.Copy(io.Discard, res.Body)
	return res.StatusCode, int64(len(body)) + rest, body, err
}

var (
	href  = regexp.MustCompile(`(?:href|hx-get|src)="(/[^"]*)"`)
	idish = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-|^(x|ds|run|chk|c|d|k|u|v|pv|ex)_|^(trace|span|session|user)-\d|%|^[0-9a-f]{16,}$`)
)

// shapeOf is a path without ids, and with the names of its parameters.
func shapeOf(path string) string {
	u, err := url.Parse(path)
	if err != nil {
		return path
	}
	parts := strings.Split(u.EscapedPath(), "/")
	for i, s := range parts {
		if i > 0 && (slices.Contains([]string{"traces", "sessions", "people", "events", "experiments", "datasets", "connections", "prompts", "users", "dashboards", "checks"}, parts[i-1]) || idish.MatchString(s)) {
			parts[i] = "*"
		}
	}
	var names []string
	for name := range u.Query() {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(parts, "/") + "?" + strings.Join(names, "&")
}

// visited are pages that the crawl must reach.
var visited = []string{"overview", "traffic", "latency-cost", "quality", "agents", "dashboards", "explore", "analytics", "models", "generations", "events", "events/*", "traces", "traces/*", "traces/*/download", "sessions", "sessions/*", "people", "people/*", "errors", "prompts", "prompts/*",
	"experiments", "experiments/*", "datasets", "datasets/*", "connections", "connections/*", "keys", "alerts", "settings", "events.csv", "chart.csv", "agents.csv"}

// askPages follows all links from the pages of the navigation: a few of each
// pattern.
func (h *hostile) askPages() {
	h.Helper()
	const base, each = "/p/default/", 3
	var queue []string
	for _, p := range []string{"overview", "traffic", "latency-cost", "quality", "agents", "dashboards", "explore", "analytics", "models", "generations", "events", "traces", "sessions", "people", "errors", "prompts", "experiments", "datasets", "connections", "keys", "alerts", "settings",
		"events.csv", "agents.csv?of=steps", "agents.csv?of=depth", "agents.csv?of=calls", "chart.csv?measure=cost_usd", "traces?sort=tokens", "traces?sort=cost", "traces?sort=duration", "events?sort=tokens", "events?sort=latency", "events?kind=errors", "events?said=a", "events?q=a"} {
		queue = append(queue, base+p)
	}
	queue = append(queue, "/projects", "/users", "/audit", "/account", "/welcome")
	for _, id := range h.traces {
		queue = append(queue, base+"traces/"+id, base+"traces/"+id+"/download")
	}
	for _, range24 := range []string{"24h", "30d", "90d"} {
		for _, p := range []string{"overview", "models", "quality", "agents", "latency-cost"} {
			queue = append(queue, base+p+"?range="+range24)
		}
	}
	must := len(queue)
	seen, met := make(map[string]bool), make(map[string]int)
	for i := 0; i < len(queue); i++ {
		path := queue[i]
		shape := shapeOf(path)
		if seen[path] || i >= must && met[shape] >= each || strings.HasSuffix(strings.SplitN(path, "?", 2)[0], "/live") {
			continue
		}
		seen[path], met[shape] = true, met[shape]+1
		body := h.judge("GET "+path, func() (int, int64, []byte, error) { return h.fetch(h.pages, path) })
		h.asked["page "+shape]++
		for _, m := range href.FindAllSubmatch(body, -1) {
			to := html.UnescapeString(string(m[1]))
			if strings.HasPrefix(to, "/static/") || strings.HasPrefix(to, "/assets/") || strings.HasPrefix(to, "//") || strings.HasPrefix(to, "/sign-") {
				continue
			}
			to, _, _ = strings.Cut(to, "#")
			queue = append(queue, to)
		}
	}
	for _, want := range visited {
		found := false
		for shape := range met {
			path, _, _ := strings.Cut(shape, "?")
			found = found || path == base+want
		}
		if !found {
			h.Errorf("no link leads to a page %s", want)
		}
	}
}

// askAPI requests every GET route in the OpenAPI document.
func (h *hostile) askAPI() {
	h.Helper()
	auth := []string{"Authorization", "Bearer " + h.p.w.key}
	var doc struct {
		Paths map[string]map[string]struct {
			Parameters []struct{ Name, In string } `json:"parameters"`
		} `json:"paths"`
	}
	h.p.get("/api/v1/openapi.json", &doc)
	var recent struct {
		Events []struct {
			UUID    string `json:"uuid"`
			TraceID string `json:"trace_id"`
		} `json:"events"`
	}
	h.p.get("/api/v1/events?limit=400", &recent)
	var uuids, traces []string
	for _, i := range h.enemy.rng.Perm(len(recent.Events))[:min(20, len(recent.Events))] {
		uuids, traces = append(uuids, recent.Events[i].UUID), append(traces, recent.Events[i].TraceID)
	}
	one := func(path string) {
		h.Helper()
		h.asked["api "+shapeOf(path)]++
		h.judge("GET "+path, func() (int, int64, []byte, error) { return h.fetch(http.DefaultClient, path, auth...) })
	}
	place := regexp.MustCompile(`\{(\w+)\}`)
	for path, methods := range doc.Paths {
		op, ok := methods["get"]
		if !ok {
			continue
		}
		values := map[string][]string{"{uuid}": uuids, "{field}": {"model", "user", "surface", "tag", "property:plan"}}
		filled := []string{path}
		switch {
		case strings.HasPrefix(path, "/api/v1/traces/"):
			values["{id}"] = append(slices.Clone(traces), h.traces...)
		case strings.Contains(path, "experiments"):
			values["{id}"] = []string{h.ids["experiment"]}
		case strings.Contains(path, "connections"):
			values["{name}"] = []string{h.ids["connection"]}
		}
		for _, m := range place.FindAllString(path, -1) {
			var more []string
			list := values[m]
			if list == nil {
				list = []string{h.ids[strings.Trim(m, "{}")]}
			}
			for _, f := range filled {
				for _, v := range list {
					if v != "" {
						more = append(more, strings.Replace(f, m, url.PathEscape(v), 1))
					}
				}
			}
			filled = more
		}
		for _, f := range filled {
			one(f)
			if strings.HasSuffix(path, "/{uuid}") {
				one(f + "?content=true")
			}
		}
		for _, q := range op.Parameters {
			if q.Name == "group_by" {
				for _, by := range []string{"model", "model_asked", "surface", "provider", "prompt", "user", "environment", "status", "day", "hour"} {
					one(path + "?compare=true&from=-7d&group_by=" + by)
				}
				one(path + "?period=today")
				one(path + "?period=7d&tz=Asia/Kathmandu")
			}
			if q.Name == "limit" {
				one(path + "?limit=1000")
			}
		}
	}
}

// askTools calls every read-only tool.
func (h *hostile) askTools() {
	h.Helper()
	c := h.p.mcpHTTP(h.T)
	list, err := c.session.ListTools(h.Context(), nil)
	if err != nil {
		h.Fatal(err)
	}
	args := map[string][]map[string]any{
		"get_trace":      {},
		"get_stats":      {{}},
		"list_events":    {{}, {"limit": 100}},
		"get_prompt":     {{"name": "greeting"}},
		"render_prompt":  {{"name": "greeting", "variables": map[string]any{"who": "x"}}},
		"get_experiment": {{"id": h.ids["experiment"]}},
	}
	for _, id := range append(slices.Clone(h.traces), "trace-1", "trace-2") {
		args["get_trace"] = append(args["get_trace"], map[string]any{"trace_id": id}, map[string]any{"trace_id": id, "include_content": true})
	}
	for _, by := range []string{"model", "user", "surface", "day", "hour"} {
		args["get_stats"] = append(args["get_stats"], map[string]any{"group_by": by, "from": "-7d"})
	}
	called := 0
	for _, tool := range list.Tools {
		if !tool.Annotations.ReadOnlyHint {
			continue
		}
		all := args[tool.Name]
		if all == nil {
			all = []map[string]any{{}}
		}
		for _, a := range all {
			called++
			h.asked["tool "+tool.Name]++
			h.judge(tool.Name+" "+quoted(a), func() (int, int64, []byte, error) {
				ctx, cancel := context.WithTimeout(h.Context(), patience)
				defer cancel()
				res, err := c.session.CallTool(ctx, &sdk.CallToolParams{Name: tool.Name, Arguments: a})
				if err != nil {
					return 0, 0, nil, err
				}
				text := res.Content[0].(*sdk.TextContent).Text
				if res.IsError && strings.Contains(text, "Error (internal)") {
					return 500, int64(len(text)), []byte(text), nil
				}
				return 200, int64(2 * len(text)), []byte(text), nil
			})
		}
	}
	if called < 15 {
		h.Errorf("only %d tools were called", called)
	}
}
