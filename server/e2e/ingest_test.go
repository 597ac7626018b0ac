package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/posthog/posthog-go"

	"github.com/hedgerow/hedgerow/event"
	simposthog "github.com/hedgerow/hedgerow/internal/simulate/posthog"
	"github.com/hedgerow/hedgerow/server/internal/posthog/otlptest"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

// tee sends the same bytes of a client to hedgerow and to a PostHog of its own,
// and returns hedgerow's response to the client.
type tee struct {
	direct *simposthog.Server
	server *httptest.Server

	mu     sync.Mutex
	failed []string
}

func newTee(t *testing.T, p *proc) *tee {
	t.Helper()
	x := &tee{direct: simposthog.New(simposthog.Options{Projects: []simposthog.Project{{Name: "direct", Token: phKey}}, OTLP: otlptest.Read})}
	for _, ph := range []*simposthog.Server{x.direct, p.w.ph} {
		ph.SetFlags(map[string]any{"beta": true, "color": "green"})
	}
	x.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		again := func(to string) (*http.Response, error) {
			req, err := http.NewRequestWithContext(r.Context(), r.Method, to+r.URL.RequestURI(), bytes.NewReader(body))
			if err != nil {
				return nil, err
			}
			req.Header = r.Header.Clone()
			return http.DefaultTransport.RoundTrip(req)
		}
		res, err := again(p.base)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer res.Body.Close()
		rec := httptest.NewRecorder()
		to := r.URL.RequestURI()
		if r.URL.Path == "/v1/traces" {
			to = "/i/v0/ai/otel" // PostHog has this path only
		}
		copied := httptest.NewRequest(r.Method, to, bytes.NewReader(body))
		copied.Header = r.Header.Clone()
		x.direct.ServeHTTP(rec, copied)
		// The simulated PostHog has no browser settings; hedgerow has.
		if rec.Code != res.StatusCode && !strings.HasPrefix(r.URL.Path, "/array/") {
			x.mu.Lock()
			x.failed = append(x.failed, fmt.Sprintf("%s %s: hedgerow %d, PostHog %d %s", r.Method, r.URL, res.StatusCode, rec.Code, rec.Body))
			x.mu.Unlock()
		}
		maps.Copy(w.Header(), res.Header)
		w.WriteHeader(res.StatusCode)
		_, _ = io.Copy(w, res.Body)
	}))
	t.Cleanup(x.server.Close)
	return x
}

// keepContent allows content to be sent, so that everything that PostHog
// receives through hedgerow can be compared.
func (w *world) keepContent() {
	w.t.Helper()
	w.mustRun("connection", "set", "--flush-interval", "100ms", "--privacy=false", "--skip-test")
}

// fields maps each property of an LLM event to where it is stored.
var fields = map[string]func(e *query.Event) any{
	"$ai_trace_id": func(e *query.Event) any { return e.TraceID }, "$ai_span_id": func(e *query.Event) any { return e.SpanID }, "$ai_parent_id": func(e *query.Event) any { return e.ParentID },
	"$ai_session_id": func(e *query.Event) any { return e.SessionID }, "$ai_span_name": func(e *query.Event) any { return e.SpanName }, "$ai_provider": func(e *query.Event) any { return e.Provider },
	"$ai_model": func(e *query.Event) any { return e.Model }, "$ai_base_url": func(e *query.Event) any { return e.BaseURL }, "$ai_request_url": func(e *query.Event) any { return e.RequestURL },
	"$ai_stop_reason": func(e *query.Event) any { return e.StopReason }, "$ai_completion_id": func(e *query.Event) any { return e.CompletionID }, "$ai_http_status": func(e *query.Event) any { return e.HTTPStatus },
	"$ai_is_error": func(e *query.Event) any { return e.IsError }, "$ai_error": func(e *query.Event) any { return e.ErrorMessage }, "$ai_error_type": func(e *query.Event) any { return e.ErrorType },
	"$ai_stream": func(e *query.Event) any { return e.Stream }, "$ai_service_tier": func(e *query.Event) any { return e.ServiceTier }, "$groups": func(e *query.Event) any { return e.Groups },
	"$ai_input_tokens": func(e *query.Event) any { return e.Usage.Input }, "$ai_output_tokens": func(e *query.Event) any { return e.Usage.Output }, "$ai_total_tokens": func(e *query.Event) any { return e.Usage.Total },
	"$ai_cache_read_input_tokens": func(e *query.Event) any { return e.Usage.CacheRead }, "$ai_cache_creation_input_tokens": func(e *query.Event) any { return e.Usage.CacheWrite },
	"$ai_cache_creation_5m_input_tokens": func(e *query.Event) any { return e.Usage.CacheWrite5m }, "$ai_cache_creation_1h_input_tokens": func(e *query.Event) any { return e.Usage.CacheWrite1h },
	"$ai_reasoning_tokens": func(e *query.Event) any { return e.Usage.Reasoning }, "$ai_web_search_count": func(e *query.Event) any { return e.Usage.WebSearches }, "$ai_cache_reporting_exclusive": func(e *query.Event) any { return e.Usage.CacheExclusive },
	"$ai_model_parameters": func(e *query.Event) any { return e.ModelParameters }, "surface": func(e *query.Event) any { return e.Surface },
	"$ai_input": func(e *query.Event) any { return e.Content.Input }, "$ai_output_choices": func(e *query.Event) any { return e.Content.Output }, "$ai_tools": func(e *query.Event) any { return e.Content.Tools },
	"$ai_prompt_name": func(e *query.Event) any { return e.PromptName },
	"$ai_provider_metadata": func(e *query.Event) any {
		m := maps.Clone(e.ProviderMetadata)
		if e.SystemFingerprint != "" {
			if m == nil {
				m = map[string]json.RawMessage{}
			}
			m["system_fingerprint"], _ = json.Marshal(e.SystemFingerprint)
		}
		return m
	},
	"$ai_latency":             func(e *query.Event) any { return seconds(e.LatencyMS) },
	"$ai_time_to_first_token": func(e *query.Event) any { return seconds(e.TTFTMS) },
}

// derived are the properties that hedgerow adds to an LLM event: costs, ids,
// and derived fields.
var derived = map[string]bool{
	"error_code": true, "$ai_error_type": true,
	"$ai_cost_model_provider": true, "$ai_cost_model_source": true, "$ai_cost_passthrough": true, "$ai_model_cost_used": true, "$ai_input_cost_usd": true, "$ai_output_cost_usd": true,
	"$ai_total_cost_usd": true, "$ai_cache_reporting_exclusive": true, "$ai_total_tokens": true, "$ai_span_id": true, "$ai_is_error": true, "trace_url": true, "status": true,
	"input_length": true, "input_length_bucket": true, "output_length": true, "output_category": true, "prompt_hash": true,
}

func seconds(ms query.Millis) any {
	if !ms.Known {
		return nil
	}
	return ms.Value / 1000
}

// canonical converts equal JSON to equal text; numbers by value to the
// microsecond.
func canonical(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var x any
	if err := json.Unmarshal(b, &x); err != nil {
		t.Fatal(err)
	}
	if f, ok := x.(float64); ok {
		return fmt.Sprintf("%.6f", f)
	}
	b, _ = json.Marshal(x)
	return string(b)
}

// compare compares what is stored, and what the project's PostHog received
// through hedgerow, with what the client sent to PostHog directly.
func (x *tee) compare(t *testing.T, p *proc, want int) map[string]simposthog.Event {
	t.Helper()
	x.mu.Lock()
	for _, f := range x.failed {
		t.Error(f)
	}
	x.mu.Unlock()
	if err := x.direct.WaitFor(t.Context(), want); err != nil {
		t.Fatalf("the client sent %d events, want %d", x.direct.Count(), want)
	}
	p.awaitStored("", want)
	if n := len(p.stored("")); n != want {
		t.Errorf("%d events stored, want %d", n, want)
	}
	out := make(map[string]simposthog.Event)
	for _, d := range x.direct.Events() {
		out[d.Name+" "+d.Text("$ai_trace_id")] = d
		if d.Route == "/i/v0/ai/otel" {
			continue // spans: see compareSpans
		}
		name := d.Name + " " + d.Text("$ai_trace_id")
		// An event without its own uuid got a different one from each.
		id, stored := d.UUID, p.stored("event="+url.QueryEscape(d.Name)+"&trace_id="+url.QueryEscape(d.Text("$ai_trace_id")))
		if len(stored) == 1 && !bytes.Contains(d.Raw, []byte(d.UUID)) {
			id = stored[0].UUID
		}
		var answer struct{ Event query.Event }
		p.get("/api/v1/events/"+id+"?content=true", &answer)
		e := answer.Event
		if e.Content == nil {
			e.Content = &query.Content{}
		}
		if e.Name != d.Name || e.DistinctID != d.DistinctID || e.Timestamp.Sub(d.Timestamp).Abs() > time.Second || e.Source != event.SourceIngest {
			t.Errorf("%s: stored as %s of %q at %v, want %q at %v", name, e.Name, e.DistinctID, e.Timestamp, d.DistinctID, d.Timestamp)
		}
		for property, v := range d.Properties {
			got := any(e.Properties[property])
			if at := fields[property]; at != nil && e.Properties[property] == nil {
				got = at(&e)
			}
			if e.Properties[property] == nil && strings.HasPrefix(property, "$feature/") {
				got = e.Flags[strings.TrimPrefix(property, "$feature/")]
				if got == "true" || got == "false" {
					got = got == "true"
				}
			}
			if g, w := canonical(t, got), canonical(t, v); g != w && !(w == "{}" && g == "null") {
				t.Errorf("%s: %s is stored as %s, want %s", name, property, g, w)
			}
		}
		// Then forwarded to PostHog.
		p.w.await(func() bool { return len(p.w.ph.ByUUID(id)) == 1 }, func() string { return name + " did not reach PostHog\n" + p.logs() })
		onward := p.w.ph.ByUUID(id)[0]
		if onward.DistinctID != d.DistinctID || onward.Name != d.Name {
			t.Errorf("%s: reached PostHog as %s of %q", name, onward.Name, onward.DistinctID)
		}
		for property, v := range d.Properties {
			if g, w := canonical(t, onward.Properties[property]), canonical(t, v); g != w {
				t.Errorf("%s: %s reached PostHog as %s, want %s", name, property, g, w)
			}
		}
		added := make(map[string]bool)
		for property := range onward.Properties {
			added[property] = true
		}
		for property := range e.Properties {
			added[property] = true
		}
		if !onward.Has("$ignore_sent_at") {
			t.Errorf("%s: PostHog would correct the clock skew again", name)
		}
		for property := range added {
			if own := property == "$ignore_sent_at" || strings.HasPrefix(d.Name, "$ai_") && derived[property]; !d.Has(property) && !own {
				t.Errorf("%s: hedgerow added %s", name, property)
			}
		}
	}
	return out
}

func runPostHogClients(t *testing.T, args ...string) map[string]any {
	t.Helper()
	if _, err := os.Stat("node_modules/posthog-node"); err != nil {
		t.Fatal("the npm packages are not installed: run make setup")
	}
	cmd := exec.CommandContext(t.Context(), "node", append([]string{"posthog_clients.mjs"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("posthog_clients.mjs: %v\n%s%s", err, out, stderr.String())
	}
	var v map[string]any
	if err := json.Unmarshal(out, &v); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return v
}

// TestPostHogNode runs posthog-node and the wrappers of @posthog/ai; only their
// host is changed.
func TestPostHogNode(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start()
	w.keepContent()
	x := newTee(t, p)
	saw := runPostHogClients(t, x.server.URL, phKey, w.sim.OpenAIURL()+"/v1", w.sim.AnthropicURL(), "all")
	if flags, _ := saw["flags"].(map[string]any); flags["beta"] != true || flags["color"] != "green" || saw["beta"] != true || saw["error"] != 429.0 {
		t.Errorf("the client received %v", saw)
	}
	events := x.compare(t, p, len(x.direct.Events()))
	for _, name := range []string{"prompt_shared ", "$identify ", "$create_alias ", "$groupidentify ", "$exception ", "immediate ", "$ai_generation js-chat", "$ai_generation js-chat-stream",
		"$ai_generation js-messages", "$ai_generation js-messages-stream", "$ai_generation js-private", "$ai_generation js-responses", "$ai_embedding js-embeddings", "$ai_generation js-error"} {
		if _, ok := events[name]; !ok {
			t.Errorf("the client did not send %q: %v", name, slices.Sorted(maps.Keys(events)))
		}
	}
	for _, e := range p.stored("") {
		if e.Name == event.Generation && !e.IsError && (!e.Cost.Total.Known || !e.Cost.Total.Value.IsPositive()) {
			t.Errorf("%s of %s has no cost", e.Name, e.TraceID)
		}
	}
	p.stop()
}

func TestPosthogGo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start()
	w.keepContent()
	x := newTee(t, p)
	c, err := posthog.NewWithConfig(phKey, posthog.Config{Endpoint: x.server.URL, BatchSize: 2, Interval: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []posthog.Message{
		posthog.Capture{DistinctId: "u", Event: "collection_created", Properties: posthog.NewProperties().Set("n", 1.5).Set("text", "ümläut <&>"), Groups: posthog.NewGroups().Set("company", "acme")},
		posthog.Identify{DistinctId: "u", Properties: posthog.NewProperties().Set("email", "u@example.com")},
		posthog.Alias{DistinctId: "u", Alias: "v"},
		posthog.GroupIdentify{Type: "company", Key: "acme", Properties: posthog.NewProperties().Set("plan", "pro")},
		posthog.Capture{DistinctId: "u", Event: "$ai_generation", Properties: posthog.NewProperties().Set("$ai_trace_id", "go").Set("$ai_model", "gpt-4.1-mini").Set("$ai_provider", "openai").
			Set("$ai_input_tokens", 10).Set("$ai_output_tokens", 3).Set("$ai_latency", 0.25).Set("$ai_input", []map[string]string{{"role": "user", "content": "hi"}}).Set("mine", map[string]any{"a": nil})},
	} {
		if err := c.Enqueue(m); err != nil {
			t.Fatal(err)
		}
	}
	if flags, err := c.GetAllFlags(posthog.FeatureFlagPayloadNoKey{DistinctId: "u"}); err != nil || flags["beta"] != true {
		t.Errorf("flags %v, %v", flags, err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	x.compare(t, p, 5)
	p.stop()
}

// The calls of a wrapper go through the gateway too: each call counts once.
func TestDoubleCapture(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.env = append(w.env, "HEDGEROW_JOIN_HOLD=1s")
	p := w.start()
	w.flushFast()
	runPostHogClients(t, p.base, phKey, p.base+"/openai/v1", p.base+"/anthropic", "gateway")
	p.awaitMerged(4, "")
	w.await(func() bool { return w.ph.Count() >= 4 }, func() string { return fmt.Sprintf("%d events in PostHog", w.ph.Count()) })
	p.stop()
	if n, all := len(w.ph.Named(event.Generation)), w.ph.Count(); n != 4 || all != 4 {
		t.Errorf("PostHog has %d generations in %d events, want 4", n, all)
	}
}

// awaitMerged waits until the store has the given number of generations and no
// other LLM event, each with the gateway's figures and the wrapper's
// attribution of that user.
func (p *proc) awaitMerged(n int, user string) []*query.Event {
	p.w.t.Helper()
	var all []*query.Event
	p.w.await(func() bool {
		all = p.stored("")
		return len(all) == n && !slices.ContainsFunc(all, func(e *query.Event) bool {
			return e.Name != event.Generation || e.Source != event.SourceGateway || !e.Cost.Total.Known || user != "" && e.DistinctID != user || e.Properties["$lib"] == nil && e.Properties["$ai_lib"] == nil && e.Properties["mine"] == nil
		})
	}, func() string {
		said := ""
		for _, e := range all {
			said += fmt.Sprintf("%s %s %s of %s in %s, cost %v\n", e.UUID, e.Name, e.Source, e.DistinctID, e.TraceID, e.Cost.Total)
		}
		return said + p.logs()
	})
	return all
}

// The second capture of a call may arrive after hedgerow was killed and
// restarted: it is joined nevertheless, by the completion id or by URL and
// counts.
func TestDoubleCaptureAcrossRestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.env = append(w.env, "HEDGEROW_JOIN_HOLD=1s")
	p := w.start()
	type answered struct {
		ID    string
		Usage struct {
			Input  int `json:"prompt_tokens"`
			Output int `json:"completion_tokens"`
		}
	}
	var calls []answered
	for _, words := range []string{"one hedge", "two hedges, and a wren in each of them"} {
		status, body, err := p.post(t.Context(), "/openai/v1/chat/completions", "", `{"model":"gpt-4.1-mini","messages":[{"role":"user","content":"`+words+`"}]}`)
		var a answered
		if err != nil || status != 200 || json.Unmarshal([]byte(body), &a) != nil || a.ID == "" || a.Usage.Input == 0 {
			t.Fatalf("%d %s: %v", status, body, err)
		}
		calls = append(calls, a)
	}
	p.awaitStored("event="+event.Generation, len(calls))
	p.kill()
	p = w.start()
	for i, a := range calls {
		said := map[string]any{"mine": 1, "$ai_trace_id": fmt.Sprint("wrapper-", i), "$ai_model": "gpt-4.1-mini", "$ai_provider": "openai", "$ai_input_tokens": a.Usage.Input, "$ai_output_tokens": a.Usage.Output}
		if i == 0 {
			said["$ai_completion_id"] = a.ID
		} else {
			said["$ai_base_url"] = p.base + "/openai/v1"
		}
		body, _ := json.Marshal(map[string]any{"api_key": p.token(), "event": event.Generation, "distinct_id": "ada", "properties": said})
		resp, err := http.Post(p.base+"/i/v0/e/", "application/json", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Fatalf("status %d", resp.StatusCode)
		}
	}
	for _, e := range p.awaitMerged(len(calls), "ada") {
		if !strings.HasPrefix(e.TraceID, "wrapper-") {
			t.Errorf("%s is in trace %s", e.UUID, e.TraceID)
		}
	}
	w.await(func() bool { return w.ph.Count() >= len(calls) }, func() string { return fmt.Sprintf("%d events in PostHog\n%s", w.ph.Count(), p.logs()) })
	p.kill()
	p = w.start()
	p.awaitMerged(len(calls), "ada")
	p.stop()
	if n, all := len(w.ph.Named(event.Generation)), w.ph.Count(); n < len(calls) {
		t.Errorf("PostHog has %d generations in %d events, want %d", n, all, len(calls))
	}
	ids := make(map[string]bool)
	for _, e := range w.ph.Named(event.Generation) {
		ids[e.UUID] = true
	}
	if len(ids) != len(calls) {
		t.Errorf("PostHog counts %d generations, want %d", len(ids), len(calls))
	}
}

// Bodies that no SDK would send do not harm a running hedgerow.
func TestHostileIngest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start()
	send := func(body string) (int, string) {
		t.Helper()
		res, err := http.Post(p.base+"/batch/", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(b)
	}
	wrap := func(properties string) string {
		return `{"api_key":"` + phKey + `","batch":[{"event":"hostile","distinct_id":"d","properties":` + properties + `}]}`
	}
	for name, c := range map[string]struct {
		body   string
		status int
	}{
		"21MB": {wrap(`{"a":"` + strings.Repeat("x", 21<<20) + `"}`), 413}, "Surrogate": {wrap(`{"a":"\ud800","b":"\u0000","\u0000k":1}`), 200}, "Deep": {wrap(strings.Repeat(`{"a":`, 100) + "1" + strings.Repeat("}", 100)), 200},
		"NaN": {wrap(`{"a":NaN}`), 400}, "UTF8": {wrap("{\"a\":\"\xff\"}"), 400}, "Huge number": {wrap(`{"a":1e999999,"b":-0,"c":123456789012345678901234567890}`), 200}, "Duplicate": {wrap(`{"a":1,"a":2,"":3}`), 200},
	} {
		if status, answer := send(c.body); status != c.status || len(answer) > 300 {
			t.Errorf("%s: %d %.300s, want %d", name, status, answer, c.status)
		}
	}
	got := p.awaitStored("event=hostile", 4)
	if len(got) != 4 {
		t.Errorf("%d events stored, want 4", len(got))
	}
	// Well-formed but absurd events: each is stored and forwarded to PostHog,
	// and so are the others of its batch.
	var batch []string
	for i, odd := range []string{
		`"timestamp":"1900-01-01T00:00:00Z"`, `"timestamp":"0002-01-01T00:00:00Z"`, `"timestamp":"9999-12-31T23:59:59.999999999Z"`, `"timestamp":"1969-12-31T23:59:59Z"`, `"offset":4398046511103`,
		`"properties":{"$ai_input_tokens":1e30,"$ai_output_tokens":-5,"$ai_latency":-1,"$ai_time_to_first_token":1e300,"$ai_http_status":99999999999}`, `"properties":{"$ai_total_cost_usd":1e400,"$ai_input_cost_usd":-1,"$ai_output_cost_usd":"NaN"}`,
		`"properties":{"$ai_total_cost_usd":"123456789012345678901234567890.123456789"}`, `"properties":{"$ai_trace_id":["a"],"$ai_span_id":{},"$ai_parent_id":"\u0000","$ai_model":5,"$ai_provider":[],"$ai_session_id":""}`,
		`"properties":{"$ai_trace_id":"loop","$ai_span_id":"a","$ai_parent_id":"a"}`, `"properties":{"$ai_trace_id":"loop","$ai_span_id":"b","$ai_parent_id":"c"}`, `"properties":{"$ai_trace_id":"loop","$ai_span_id":"c","$ai_parent_id":"b"}`,
		`"properties":{"$ai_trace_id":"` + strings.Repeat("x", 100_000) + `"}`, `"properties":{"$ai_input":"` + strings.Repeat("é", 3<<20) + `"}`, `"properties":{"$ai_input":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `,"$ai_tools":"x","$ai_output_choices":7}`,
		`"properties":{"$groups":{"company":null,"":"x"},"$set":[],"$set_once":"x","$feature/":"a","$feature/b":{"c":1}}`, `"properties":{"$ai_model_parameters":[1],"$ai_error":{"message":{"a":1}},"$ai_is_error":"perhaps","$ai_stream":2,"$ai_usage":[1]}`,
		`"uuid":"ffffffff-ffff-ffff-ffff-ffffffffffff"`, `"uuid":"00000000-0000-1000-8000-000000000001"`, `"properties":{"surface":` + "\"a\\nb\\u2028\"" + `,"environment":{"a":1},"task_type":""}`,
	} {
		odd = strings.ReplaceAll(odd, "{\"", fmt.Sprintf(`{"nth":%d,"`, i))
		if !strings.Contains(odd, `"properties"`) {
			odd += fmt.Sprintf(`,"properties":{"nth":%d}`, i)
		}
		batch = append(batch, `{"event":"$ai_generation","distinct_id":"odd",`+odd+`}`)
	}
	if status, answer := send(`{"api_key":"` + phKey + `","batch":[` + strings.Join(batch, ",") + `]}`); status != 200 || strings.Contains(answer, "rejected") {
		t.Errorf("%d %s", status, answer)
	}
	if got := p.awaitStored("event="+url.QueryEscape(event.Generation), len(batch)); len(got) != len(batch) {
		t.Errorf("%d odd events stored, want %d", len(got), len(batch))
	}
	p.w.await(func() bool { return len(w.ph.Named(event.Generation)) >= len(batch) }, func() string {
		return fmt.Sprintf("%d of %d odd events at PostHog\n%s", len(w.ph.Named(event.Generation)), len(batch), p.logs())
	})
	var loop struct{ Trace query.Trace }
	p.get("/api/v1/traces/loop", &loop)
	if n := loop.Trace.Rollup.Events; n != 3 {
		t.Errorf("spans that are each other's parents: %d of 3 are in the trace", n)
	}
	p.stop()
}
