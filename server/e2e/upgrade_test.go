package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"
)

// answers are the API's responses about events and settings, by request. All events are
// between From and To.
type answers struct {
	From, To time.Time
	Key      string            // an API key with the role admin
	AllCalls bool              // latencies are of all calls, as 3b558a2 has them, not of completed ones
	Of       map[string]string // JSON or CSV, by method and path
}

// Traces that the questions name.
const upgradeTrace, upgradeAgentTrace = "upgrade-trace", "0af7651916cd43dd8448eb211c80319c"

// upgradeQuestions are asked of both versions. Those of pages begin with "/p/".
func upgradeQuestions(from, to time.Time) []string {
	span := url.Values{"from": {from.Format(time.RFC3339)}, "to": {to.Format(time.RFC3339)}}.Encode()
	out := []string{"/api/v1/stats?" + span, "/api/v1/stats?compare=true&" + span, "/api/v1/events?limit=1000&" + span}
	for _, by := range []string{"model", "model_asked", "surface", "provider", "prompt", "user", "environment", "status", "day", "hour"} {
		out = append(out, "/api/v1/stats?group_by="+by+"&"+span)
	}
	for _, filter := range []string{"model=gpt-4o", "provider=anthropic", "status=error", "surface=checkout", "environment=production", "user=ada", "prompt_name=greeting", "trace_id=" + upgradeTrace, "error_type=rate_limit", "property.plan=pro"} {
		out = append(out, "/api/v1/stats?"+filter+"&"+span, "/api/v1/events?limit=100&"+filter+"&"+span)
	}
	for _, field := range []string{"model", "provider", "surface", "environment", "user", "prompt_name", "status", "error_type"} {
		out = append(out, "/api/v1/values/"+field)
	}
	out = append(out, "/api/v1/traces/"+upgradeTrace, "/api/v1/traces/"+upgradeAgentTrace, "/api/v1/evals?"+span,
		"/api/v1/projects", "/api/v1/prompts", "/api/v1/prompts/greeting", "/api/v1/prompts/greeting/versions/1", "/api/v1/experiments", "/api/v1/datasets", "/api/v1/evals/checks", "/api/v1/rollouts", "/api/v1/connections", "/api/v1/dead-letters")
	days := url.Values{"range": {"custom"}, "from": {from.Format(time.DateOnly)}, "to": {to.Format(time.DateOnly)}, "tz": {"UTC"}}.Encode()
	for _, by := range []string{"", "model", "surface", "prompt", "environment"} {
		for _, m := range []string{"calls", "cost_usd", "error_rate", "input_tokens", "latency_p95_ms"} {
			out = append(out, "/p/default/chart.csv?m="+m+"&by="+by+"&"+days)
		}
	}
	return append(out, "/p/default/chart.csv?m=calls&m=cost_usd&by=provider&over=total&"+days, "/p/default/events.csv?kind=calls&"+days, "/p/default/agents.csv?of=steps&"+days)
}

// timesOf is a request whose response has latencies: of completed calls only, or of all.
func timesOf(question, calls string) string {
	if calls == "all" {
		return question + "&latency_of=all"
	}
	return question + "&status=success"
}

func hasTimes(question string) bool { return strings.HasPrefix(question, "/api/v1/stats?") }

// ofFailed is whether a question is about failed calls alone, of which none is completed.
func ofFailed(question string) bool { return strings.Contains(question, "status=error") }

// ask puts all questions to a running hedgerow.
func (a *answers) ask(t *testing.T, p *proc) {
	t.Helper()
	p.w.key = a.Key
	pages := p.pageClient(t)
	a.Of = make(map[string]string)
	ask := func(q string) {
		t.Helper()
		if strings.HasPrefix(q, "/p/") {
			a.Of[q] = p.page(t, pages, q)
			return
		}
		status, body := p.send(t.Context(), "GET", q, "")
		if status != http.StatusOK {
			t.Fatalf("GET %s: %d %s", q, status, body)
		}
		a.Of[q] = body
	}
	for _, q := range upgradeQuestions(a.From, a.To) {
		ask(q)
		switch {
		case !hasTimes(q) || a.AllCalls && ofFailed(q):
		case a.AllCalls:
			ask(timesOf(q, "completed"))
		default:
			ask(timesOf(q, "all"))
		}
	}
}

// compareAnswers holds what a version said of its events against what another says.
// What only the other says is no difference. Where the first one's latencies are those of
// all calls, both are held against each other: its latencies against latency_of=all,
// and those that it has of calls without errors against the default.
func compareAnswers(t *testing.T, before, after *answers) {
	t.Helper()
	compared := 0
	for _, q := range upgradeQuestions(before.From, before.To) {
		was, ok := before.Of[q]
		if !ok { // not in a fixture
			continue
		}
		compared++
		differs := func(place, was, is string) { t.Errorf("%s: %s is %.200s, was %.200s", q, place, is, was) }
		is := after.Of[q]
		switch {
		case strings.HasPrefix(q, "/p/"):
			compareCSV(was, is, differs)
		case hasTimes(q) && before.AllCalls && !after.AllCalls:
			compareJSON("", parsed(t, was), parsed(t, after.Of[timesOf(q, "all")]), differs)
			completed := any(map[string]any{})
			if !ofFailed(q) {
				completed = parsed(t, before.Of[timesOf(q, "completed")])
			}
			compareJSON("", withTimes(parsed(t, was), completed), parsed(t, is), differs)
		default:
			compareJSON("", parsed(t, was), parsed(t, is), differs)
		}
	}
	if compared < 70 {
		t.Errorf("only %d answers were compared", compared)
	}
}

func parsed(t *testing.T, answer string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(answer), &v); err != nil {
		t.Fatalf("%v in %.200s", err, answer)
	}
	return v
}

// withTimes replaces the latencies in a response of /api/v1/stats by those of another
// response, which may lack groups.
func withTimes(answer, times any) any {
	none := map[string]any{"p50": nil, "p95": nil, "p99": nil}
	replace := func(totals, by any) {
		to, ok := totals.(map[string]any)
		if !ok {
			return
		}
		of, _ := by.(map[string]any)
		for _, field := range []string{"latency_ms", "time_to_first_token_ms"} {
			if to[field] = of[field]; of[field] == nil {
				to[field] = none
			}
		}
	}
	a, of := answer.(map[string]any), times.(map[string]any)
	for _, field := range []string{"totals", "previous"} {
		replace(a[field], of[field])
	}
	groups := make(map[any]any)
	list, _ := of["groups"].([]any)
	for _, g := range list {
		g := g.(map[string]any)
		groups[g["key"]] = g["totals"]
	}
	list, _ = a["groups"].([]any)
	for _, g := range list {
		g := g.(map[string]any)
		replace(g["totals"], groups[g["key"]])
	}
	return answer
}

func compareJSON(place string, was, is any, differs func(place, was, is string)) {
	text := func(v any) string { b, _ := json.Marshal(v); return string(b) }
	switch w := was.(type) {
	case map[string]any:
		i, ok := is.(map[string]any)
		if !ok {
			differs(place, text(was), text(is))
			return
		}
		for k, v := range w {
			if other, ok := i[k]; ok {
				compareJSON(place+"/"+k, v, other, differs)
			} else {
				differs(place+"/"+k, text(v), "missing")
			}
		}
	case []any:
		i, ok := is.([]any)
		if !ok || len(w) != len(i) {
			differs(place+"/#", text(was), text(is))
			return
		}
		for n := range w {
			compareJSON(place+"/#", w[n], i[n], differs)
		}
	default:
		if text(was) != text(is) {
			differs(place, text(was), text(is))
		}
	}
}

// compareCSV compares the columns of the first by their names.
func compareCSV(was, is string, differs func(place, was, is string)) {
	w, err := csv.NewReader(strings.NewReader(was)).ReadAll()
	i, ierr := csv.NewReader(strings.NewReader(is)).ReadAll()
	if err := errors.Join(err, ierr); err != nil || len(w) != len(i) || len(w) == 0 {
		differs(fmt.Sprintf("%d rows, %v", len(i), err), was, is)
		return
	}
	for column, name := range w[0] {
		there := slices.Index(i[0], name)
		if there < 0 {
			differs("column "+name, name, "missing")
			continue
		}
		for row := range w {
			if w[row][column] != i[row][there] {
				differs(fmt.Sprintf("row %d, column %s", row, name), w[row][column], i[row][there])
			}
		}
	}
}

// upgradeTraffic fills a hedgerow with events of every kind, by every way in that
// all versions have, and waits until all are stored.
func upgradeTraffic(t *testing.T, p *proc) {
	t.Helper()
	ctx := t.Context()
	p.call("PATCH", "/api/v1/projects/default", `{"content_days":0}`, nil) // a fixture gets old
	p.call("POST", "/api/v1/prompts", `{"name":"greeting","messages":[{"role":"system","content":"Greet {{who}} warmly."}]}`, nil)
	calls := 0
	call := func(path, sim, body string, header ...string) {
		t.Helper()
		if _, _, err := p.post(ctx, path, sim, body, header...); err != nil {
			t.Fatal(err)
		}
		calls++
	}
	for i, user := range []string{"ada", "bob", "cleo"} {
		about := []string{"X-PostHog-Distinct-Id", user, "X-Hedgerow-Surface", []string{"checkout", "search"}[i%2], "X-PostHog-Trace-Id", upgradeTrace, "X-PostHog-Property-Environment", "production"}
		call("/v1/chat/completions", "", chatBody, about...)
		call("/v1/chat/completions", "", strings.Replace(chatBody, `{`, `{"stream":true,`, 1), about...)
		call("/v1/chat/completions", "status=429", chatBody, about...)
		call("/v1/messages", "", `{"model":"claude-sonnet-4.6","max_tokens":10,"messages":[{"role":"user","content":"hi"}]}`, about...)
		call("/v1/responses", "", `{"model":"gpt-4o","input":"hi"}`, about...)
		call("/v1/embeddings", "", `{"model":"text-embedding-3-small","input":"hi"}`, about...)
	}
	now := time.Now().UTC()
	var batch []string
	n := 0
	add := func(name, properties string) {
		n++
		at := now.Add(-time.Duration(n) * 7 * time.Hour / 4)
		batch = append(batch, fmt.Sprintf(`{"event":%q,"distinct_id":"user-%d","uuid":"0192c0de-0000-7000-9000-%012x","timestamp":%q,"properties":{%s}}`, name, n%5, n, at.Format(time.RFC3339), properties))
	}
	for i := range 24 {
		provider, model := []string{"openai", "anthropic", "gemini"}[i%3], []string{"gpt-4o", "claude-sonnet-4.6", "gemini-2.5-flash"}[i%3]
		add("$ai_generation", fmt.Sprintf(`"$ai_trace_id":"t-%d","$ai_model":%q,"$ai_provider":%q,"$ai_input_tokens":%d,"$ai_output_tokens":%d,"$ai_latency":%d.25,"$ai_http_status":200,"plan":%q,"$ai_prompt_name":"greeting","$ai_prompt_version":1,"environment":"production"`,
			i/2, model, provider, 100+i, 10+i, i%4, []string{"pro", "free"}[i%2]))
		if i%4 == 0 {
			add("$ai_span", fmt.Sprintf(`"$ai_trace_id":"t-%d","$ai_span_name":"look up","$ai_latency":0.5`, i/2))
			add("$ai_metric", fmt.Sprintf(`"$ai_trace_id":"t-%d","$ai_metric_name":"quality","$ai_metric_value":0.%d`, i/2, i%10))
			add("task_completed", fmt.Sprintf(`"$ai_trace_id":"t-%d","task_completed":true`, i/2))
		}
		if i%6 == 0 {
			add("$ai_generation", fmt.Sprintf(`"$ai_trace_id":"t-%d","$ai_model":%q,"$ai_provider":%q,"$ai_is_error":true,"$ai_error":"rate limit exceeded","$ai_http_status":429`, i/2, model, provider))
			add("$ai_generation", fmt.Sprintf(`"$ai_trace_id":"t-%d","$ai_model":"own-model","$ai_provider":"own","$ai_input_tokens":5,"$ai_output_tokens":6,"$ai_total_cost_usd":0.125`, i/2))
		}
	}
	var token struct {
		Projects []struct {
			Token string `json:"token"`
		} `json:"projects"`
	}
	p.get("/api/v1/projects", &token)
	if status, answer := p.send(ctx, "POST", "/batch/", fmt.Sprintf(`{"api_key":%q,"batch":[%s]}`, token.Projects[0].Token, strings.Join(batch, ","))); status != http.StatusOK {
		t.Fatalf("batch: %d %s", status, answer)
	}
	span := func(id, parent, name, attributes string) string {
		return fmt.Sprintf(`{"traceId":%q,"spanId":%q,"parentSpanId":%q,"name":%q,"kind":1,"startTimeUnixNano":"%d","endTimeUnixNano":"%d","attributes":[%s]}`,
			upgradeAgentTrace, id, parent, name, now.Add(-time.Hour).UnixNano(), now.Add(-time.Hour+1500*time.Millisecond).UnixNano(), attributes)
	}
	text := func(k, v string) string { return fmt.Sprintf(`{"key":%q,"value":{"stringValue":%q}}`, k, v) }
	number := func(k string, v int) string { return fmt.Sprintf(`{"key":%q,"value":{"intValue":"%d"}}`, k, v) }
	spans := []string{
		span("b7ad6b7169203331", "", "invoke_agent helper", text("gen_ai.operation.name", "invoke_agent")),
		span("b7ad6b7169203332", "b7ad6b7169203331", "chat gpt-4o", text("gen_ai.operation.name", "chat")+","+text("gen_ai.provider.name", "openai")+","+text("gen_ai.request.model", "gpt-4o")+","+number("gen_ai.usage.input_tokens", 1000)+","+number("gen_ai.usage.output_tokens", 100)),
		span("b7ad6b7169203333", "b7ad6b7169203331", "execute_tool search", text("gen_ai.operation.name", "execute_tool")+","+text("gen_ai.tool.name", "search")),
	}
	if status, answer := p.send(ctx, "POST", "/v1/traces", `{"resourceSpans":[{"scopeSpans":[{"spans":[`+strings.Join(spans, ",")+`]}]}]}`); status != http.StatusOK {
		t.Fatalf("traces: %d %s", status, answer)
	}
	p.awaitStored("", calls+len(batch)+len(spans))
}

// upgradeWorld is a world without a connection to PostHog, whose hedgerow may be of
// another version.
func upgradeWorld(t *testing.T, bin string) *world {
	w := newWorld(t)
	w.env = []string{"POSTHOG_API_KEY=", "POSTHOG_HOST="}
	w.bin = bin
	return w
}

// TestUpgradeFigures upgrades the folder of testdata/upgrade/figures-3b558a2.txt,
// which contains the expected responses, and compares each. It then writes a backup for
// 3b558a2 and checks what can be checked without that binary, which TestUpgradeFrom
// builds.
func TestUpgradeFigures(t *testing.T) {
	t.Parallel()
	w := upgradeWorld(t, "")
	w.unpack("figures-3b558a2.txt")
	var before answers
	b, err := os.ReadFile(filepath.Join(w.dir, "answers.json"))
	if err == nil {
		err = errors.Join(json.Unmarshal(b, &before), os.Remove(filepath.Join(w.dir, "answers.json")))
	}
	if err != nil {
		t.Fatal(err)
	}
	p := w.start()
	after := before
	after.AllCalls = false
	after.ask(t, p)
	compareAnswers(t, &before, &after)
	folder := filepath.Join(t.TempDir(), "backup")
	w.mustRun("backup", "--schema", "7", folder)
	if out, err := w.run("backup", "--schema", "6", folder+"-2"); exitCode(err) == 0 || !strings.Contains(out, "from 7 to") {
		t.Errorf("a backup for no hedgerow: %v %s", err, out)
	}
	p.stop()
	w.restored(folder)
	p = w.start()
	again := after
	again.ask(t, p)
	compareAnswers(t, &after, &again)
	p.stop()
}

// restored has the world use a folder restored from a backup, with its secret key.
func (w *world) restored(backup string) {
	w.t.Helper()
	key, err := os.ReadFile(filepath.Join(w.dir, "secret.key"))
	if err != nil {
		w.t.Fatal(err)
	}
	w.dir = filepath.Join(w.t.TempDir(), "restored")
	w.mustRun("restore", backup)
	if err := os.WriteFile(filepath.Join(w.dir, "secret.key"), key, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// oldVersions are 3b558a2 and each tag from v0.1.0 on.
func oldVersions(t *testing.T) []string {
	out := []string{"3b558a2"}
	tags := strings.Fields(output(t, "git", "tag", "--list", "v[0-9]*", "--sort=version:refname"))
	if len(tags) == 0 {
		t.Run("tags", func(t *testing.T) {
			t.Skip("SKIPPED: this clone has no tag from v0.1.0 on, so upgrades from releases are NOT tested: git fetch --tags")
		})
	}
	return append(out, tags...)
}

// buildOld builds the server of an older version, outside of the repository.
func buildOld(t *testing.T, version string) string {
	t.Helper()
	top := strings.TrimSpace(output(t, "git", "rev-parse", "--show-toplevel"))
	if err := exec.Command("git", "-C", top, "cat-file", "-e", version+"^{commit}").Run(); err != nil {
		t.Skipf("SKIPPED: this clone has no commit %s, so the upgrade from it is NOT tested: git fetch --unshallow --tags", version)
	}
	src := t.TempDir()
	archive := exec.Command("git", "-C", top, "archive", version)
	unpack := exec.Command("tar", "x", "-C", src)
	var err error
	if unpack.Stdin, err = archive.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(archive.Start(), unpack.Run(), archive.Wait()); err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(t.TempDir(), "hedgerow-"+version)
	pkg := "./server/cmd/hedgerow"
	build := exec.Command("go", "build", "-o", bin, pkg)
	if _, err := os.Stat(filepath.Join(src, "go.work")); errors.Is(err, fs.ErrNotExist) {
		build = exec.Command("go", "build", "-o", bin, "./cmd/hedgerow")
		build.Env = append(os.Environ(), "GOWORK=off")
	}
	build.Dir = src
	began := time.Now()
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", version, err, out)
	}
	t.Logf("built %s in %v", version, time.Since(began).Round(time.Second))
	return bin
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		t.Fatalf("%s %v: %v", name, args, err)
	}
	return string(out)
}

// knownSchema is how a hedgerow says which schema of the store it knows.
var knownSchema = regexp.MustCompile(`known up to (\d+)`)

// TestUpgradeFrom fills a folder with the binary of each older version, upgrades it,
// compares all responses, and goes back, as described in docs/upgrade.md, with newer events.
// It takes minutes, and runs with HEDGEROW_UPGRADE=1 (make upgrade). With
// HEDGEROW_UPGRADE=fixture it rewrites the folder of TestUpgradeFigures.
func TestUpgradeFrom(t *testing.T) {
	mode := os.Getenv("HEDGEROW_UPGRADE")
	if mode == "" {
		t.Skip("make upgrade runs this: it builds older versions")
	}
	for _, version := range oldVersions(t) {
		t.Run(version, func(t *testing.T) {
			w := upgradeWorld(t, buildOld(t, version))
			old := w.bin
			before := answers{From: time.Now().UTC().Add(-10 * 24 * time.Hour).Truncate(24 * time.Hour), AllCalls: version == "3b558a2"}
			p := w.start()
			before.Key = w.key
			upgradeTraffic(t, p)
			before.To = time.Now().UTC().Truncate(time.Second).Add(time.Second)
			p.stop()
			p = w.start() // the answers of a store that was read from its file
			before.ask(t, p)
			p.stop()
			if mode == "fixture" && version == "3b558a2" {
				writeFixture(t, w.dir, &before)
			}

			w.bin = ""
			p = w.start()
			after := before
			after.AllCalls = false
			after.ask(t, p)
			compareAnswers(t, &before, &after)
			w.await(func() bool { return time.Now().After(before.To) }, func() string { return "the clock stands still" })
			p.call("POST", "/api/v1/events", `{"event":"after_upgrade","distinct_id":"ada","uuid":"0192c0de-0000-7000-9000-00000000a001"}`, nil)
			upgradeCall(t, p, "after")
			p.awaitStored("event=after_upgrade", 1)
			latest := after // with what came since, where a question has no To
			latest.ask(t, p)
			p.stop()

			schema := w.refusedSchema(old)
			if schema == "" { // the same schema: the older version works on the folder
				w.bin = old
				p = w.start()
				back := latest
				back.ask(t, p)
				compareAnswers(t, &latest, &back)
				p.stop()
				return
			}
			folder := filepath.Join(t.TempDir(), "rollback")
			w.mustRun("backup", "--schema", schema, folder)
			w.bin = old
			w.restored(folder)
			p = w.start()
			back := before
			back.ask(t, p)
			wanted := before // of what ends with To
			wanted.Of = maps.Clone(before.Of)
			for q, answer := range latest.Of {
				if _, both := wanted.Of[q]; both && !strings.Contains(q, "to="+url.QueryEscape(before.To.Format(time.RFC3339))) {
					wanted.Of[q] = answer
				}
			}
			compareAnswers(t, &back, &wanted) // the newer version says more
			p.awaitStored("user=after", 1)
			p.awaitStored("event=after_upgrade", 1)
			upgradeCall(t, p, "back")
			p.stop()

			w.bin = "" // and forward again
			p = w.start()
			p.awaitStored("user=after", 1)
			p.awaitStored("user=back", 1)
			p.stop()
		})
	}
}

// upgradeCall makes one call, and waits until it is stored.
func upgradeCall(t *testing.T, p *proc, user string) {
	t.Helper()
	if status, body, err := p.post(t.Context(), "/v1/chat/completions", "", chatBody, "X-PostHog-Distinct-Id", user); err != nil || status != http.StatusOK {
		t.Fatal(status, body, err)
	}
	p.awaitStored("user="+user, 1)
}

// refusedSchema starts an older version on the world's folder, and returns the schema
// that it says it knows, or nothing where it starts.
func (w *world) refusedSchema(old string) string {
	w.t.Helper()
	w.bin = old
	defer func() { w.bin = "" }()
	p := w.launch()
	defer p.kill()
	starts := false
	w.await(func() bool {
		select {
		case <-p.done:
			return true
		default:
		}
		starts = strings.Contains(p.stdout(), "  PostHog ") // the banner's last line
		return starts
	}, p.logs)
	if starts {
		p.stop()
		return ""
	}
	m := knownSchema.FindStringSubmatch(p.logs())
	if m == nil || !strings.Contains(p.logs(), "newer hedgerow") {
		w.t.Fatalf("the older version ends on the upgraded folder and does not say why:\n%s", p.logs())
	}
	return m[1]
}

// writeFixture writes a data folder and its responses as a text file, without responses
// that depend on the last days.
func writeFixture(t *testing.T, dir string, before *answers) {
	t.Helper()
	a := *before
	a.Of = maps.Clone(a.Of)
	maps.DeleteFunc(a.Of, func(q, _ string) bool { return strings.HasPrefix(q, "/api/v1/values") })
	b, err := json.Marshal(a)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "answers.json"), b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(filepath.Join(dir, "answers.json"))
	var packed bytes.Buffer
	z, _ := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	out := tar.NewWriter(z)
	var paths []string
	if err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && (e.IsDir() || e.Type().IsRegular()) {
			paths = append(paths, path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	sort.Strings(paths)
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		h, err := tar.FileInfoHeader(info, "")
		if err != nil {
			t.Fatal(err)
		}
		h.Name = "data" + strings.TrimPrefix(path, dir)
		h.Uname, h.Gname = "", ""
		if err := out.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if info.IsDir() {
			continue
		}
		b, err := os.ReadFile(path)
		if err == nil {
			_, err = out.Write(b)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(out.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	text := base64.StdEncoding.EncodeToString(packed.Bytes())
	var lines strings.Builder
	for len(text) > 0 {
		n := min(len(text), 76)
		lines.WriteString(text[:n] + "\n")
		text = text[n:]
	}
	if err := os.WriteFile("testdata/upgrade/figures-3b558a2.txt", []byte(lines.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}
