package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
	openaioption "github.com/openai/openai-go/v3/option"
	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow"
	"github.com/hedgerow/hedgerow/event"
	simposthog "github.com/hedgerow/hedgerow/internal/simulate/posthog"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

// runSeeds runs seeds.mjs and reads what it printed.
func runSeeds(t *testing.T, mode, host, provider string, into any) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "node", "seeds.mjs", mode, host, phKey, provider)
	cmd.Env = append(cmd.Environ(), "NODE_ENV=staging")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("seeds.mjs %s: %v\n%s%s", mode, err, out, stderr.String())
	}
	if err := json.Unmarshal(out, into); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
}

// addedToAny are the properties that hedgerow adds to an event that an
// application reports under a plain name: PostHog's names of trace and prompt,
// the trace's address, how to read the time, and the sender if the application
// does not name one.
var addedToAny = map[string]bool{"$ai_trace_id": true, "$ai_prompt_name": true, "$ai_prompt_version_id": true, "trace_url": true, "$ignore_sent_at": true, "$lib": true, "$lib_version": true}

// passedOn compares what PostHog received through hedgerow with the properties
// that were sent: each is unchanged, and only those in added are new.
func passedOn(t *testing.T, got simposthog.Event, sent map[string]json.RawMessage, added map[string]bool) {
	t.Helper()
	if len(sent) == 0 {
		t.Errorf("%s: nothing was sent", got.Name)
	}
	for name, v := range sent {
		if name != "latency_ms" && string(got.Properties[name]) != string(v) || name == "latency_ms" && got.Number(name) <= 0 {
			t.Errorf("%s: %s reached PostHog as %s, was sent as %s", got.Name, name, got.Properties[name], v)
		}
	}
	for name, v := range got.Properties {
		if sent[name] == nil && !added[name] {
			t.Errorf("%s: hedgerow has added %s: %s", got.Name, name, v)
		}
	}
	if got.Copies != 1 {
		t.Errorf("%s came %d times", got.Name, got.Copies)
	}
}

// TestSeedNode runs a backend that reports its calls with posthog-node twice,
// against hedgerow and against PostHog: locally each call counts once, and
// PostHog receives the same with and without hedgerow.
func TestSeedNode(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start()
	w.flushFast()
	direct := simposthog.New(simposthog.Options{Projects: []simposthog.Project{{Name: "direct", Token: phKey}}})
	if err := direct.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(direct.Stop)
	type reply struct {
		Tokens struct {
			Input  int64 `json:"input_tokens"`
			Output int64 `json:"output_tokens"`
		}
		Cost       json.Number
		Type, Code string
	}
	var saw, sawDirect map[string]reply
	runSeeds(t, "report", p.base, w.sim.OpenAIURL()+"/v1", &saw)
	runSeeds(t, "report", direct.URL(), w.sim.OpenAIURL()+"/v1", &sawDirect)
	if fmt.Sprint(saw) != fmt.Sprint(sawDirect) || saw["refused"].Code != "rate_limit_exceeded" || saw["away"].Code != "unknown" || saw["plain"].Tokens.Input != 1200 {
		t.Fatalf("the program saw %+v and %+v", saw, sawDirect)
	}

	// Locally: four calls, of which two failed, from eight events.
	p.awaitStored("", 8)
	var all query.Stats
	p.get("/api/v1/stats", &all)
	cost := decimal.RequireFromString(saw["plain"].Cost.String()).Add(decimal.RequireFromString(saw["other"].Cost.String()))
	if got := all.Totals; got.Events != 8 || got.Calls != 4 || got.Errors != 2 || got.ErrorRate.Value != 0.5 || got.InputTokens.Value != 1300 || got.OutputTokens.Value != 320 || got.TotalTokens.Value != 1620 ||
		!got.CostUSD.Known || !got.CostUSD.Value.Equal(cost) || got.UncostedCalls != 2 || got.UncostedErrors != 2 || got.LatencyMS.P50.Value < 20 || got.LatencyMS.P99.Value > 60_000 {
		t.Errorf("totals %+v, cost %s", got, cost)
	}
	for by, want := range map[string]map[string]int64{
		"model": {"gpt-4.1-mini": 4}, "provider": {"openai": 4}, "prompt": {"ticket_reply@pv_2026_11_30_002": 4}, "environment": {"staging": 4},
		"user": {"user-ada": 3, "user-bob": 1}, "status": {"success": 2, "error": 2},
	} {
		var stats query.Stats
		p.get("/api/v1/stats?group_by="+by, &stats)
		got := make(map[string]int64)
		for _, g := range stats.Groups {
			if g.Totals.Calls > 0 {
				got[g.Key] = g.Totals.Calls
			}
		}
		if !maps.Equal(got, want) {
			t.Errorf("calls by %s: %v, want %v", by, got, want)
		}
	}
	for name, r := range saw {
		end, status := "llm_request_completed", event.StatusSuccess
		if r.Type != "" {
			end, status = "llm_request_failed", event.StatusError
		}
		for _, e := range p.stored("trace_id=trace-" + name + "&event=" + end) {
			var code string
			_ = json.Unmarshal(e.Properties["error_code"], &code)
			if e.SpanID != "request-"+name || e.Model != "gpt-4.1-mini" || e.Provider != "openai" || e.Environment != "staging" || e.PromptName != "ticket_reply" || e.PromptVersionID != "pv_2026_11_30_002" ||
				e.Status != status || e.IsError != (r.Type != "") || e.ErrorType != r.Type || !e.LatencyMS.Known || e.LatencyMS.Value < 1 || string(e.Properties["account_id"]) != `"account-7"` ||
				string(e.Properties["retrieval_config_id"]) != `"rc_4"` || string(e.Properties["agent_config_id"]) != `"ac_9"` || string(e.ModelParameters["temperature"]) != "0.2" {
				t.Errorf("%s: stored %+v", name, e)
			}
			if r.Type == "" && (e.Usage.Input.Value != r.Tokens.Input || e.Usage.Output.Value != r.Tokens.Output || e.Cost.Total.Value.String() != r.Cost.String() || e.TaskType != "ticket" ||
				e.OutputCategory != "answer_with_source" || e.InputLengthBucket != "short") {
				t.Errorf("%s: stored %+v", name, e)
			}
			if r.Type != "" && (e.Usage.Input.Known || e.Cost.Total.Known || codeOf(t, p, e) != r.Code) {
				t.Errorf("%s: a failed call with tokens, cost or another code: %+v", name, e)
			}
		}
		var tr struct{ Trace query.Trace }
		p.get("/api/v1/traces/trace-"+name, &tr)
		if tr.Trace.Rollup.Calls != 1 || len(tr.Trace.Roots) != 1 || tr.Trace.Roots[0].Event.Name != end {
			t.Errorf("%s: not one call in its trace: %+v", name, tr.Trace)
		}
	}

	// At PostHog: the same events under the same names, with a fixed list of
	// additions.
	if err := direct.WaitFor(t.Context(), 8); err != nil {
		t.Fatal(err)
	}
	w.await(func() bool { return w.ph.Count() >= 8 }, func() string { return fmt.Sprintf("%d of 8 events at PostHog\n%s", w.ph.Count(), p.logs()) })
	if n := w.ph.Count(); n != 8 {
		t.Errorf("%d events at PostHog, want 8", n)
	}
	for _, d := range direct.Events() {
		got := w.one(d.Name, d.Text("trace_id"))
		if got.DistinctID != d.DistinctID {
			t.Errorf("%s is of %q, want %q", d.Name, got.DistinctID, d.DistinctID)
		}
		passedOn(t, got, d.Properties, addedToAny)
		if want := d.Text("trace_url"); want != "" && got.Text("trace_url") != want || want == "" && got.Text("trace_url") != p.base+"/traces/"+d.Text("trace_id") {
			t.Errorf("%s: trace_url %q, sent %q", d.Name, got.Text("trace_url"), want)
		}
	}
	p.stop()
}

// codeOf is the error's code in the API.
func codeOf(t *testing.T, p *proc, e *query.Event) string {
	t.Helper()
	var one struct {
		Event struct {
			Code       string                     `json:"error_code"`
			Properties map[string]json.RawMessage `json:"properties"`
		}
	}
	p.get("/api/v1/events/"+e.UUID, &one)
	code := one.Event.Code
	if code == "" {
		_ = json.Unmarshal(one.Event.Properties["error_code"], &code)
	}
	return code
}

// The payloads of an application that reports calls and outcomes under plain
// names. TRACE is replaced by a new id each time.
const (
	seedCompleted = `{"event":"llm_request_completed","distinct_id":"user_hash_51","properties":{"trace_id":"TRACE","request_id":"TRACE-r","prompt_name":"ticket_reply","prompt_version_id":"pv_2026_11_30_002","prompt_hash":"sha256:51ce",
		"provider":"openai","model":"gpt-4.1-mini","environment":"production","task_type":"ticket","latency_ms":1310,"input_tokens":940,"output_tokens":201,"estimated_cost_usd":0.0039,"status":"success",
		"input_length_bucket":"512_1k_tokens","output_category":"answer_with_source","trace_url":"https://traces.example/t/TRACE"}}`
	seedMinimal  = `{"event":"llm_request_completed","distinct_id":"user_hash_51","properties":{"prompt_version_id":"pv_TRACE","model":"gpt-4.1-mini","latency_ms":720,"status":"success"}}`
	seedSent     = `{"event":"support_reply_sent","distinct_id":"user_hash_51","properties":{"trace_id":"TRACE","prompt_version_id":"pv_2026_11_30_002","ticket_id_hash":"ticket_hash_3","edited_output":true,"time_to_send_seconds":41}}`
	seedResolved = `{"event":"support_ticket_resolved","distinct_id":"user_hash_51","properties":{"trace_id":"TRACE","prompt_version_id":"pv_2026_11_30_002","resolved":true,"escalated_to_human":false,"customer_satisfaction_score":4}}`
	seedTask     = `{"event":"llm_task_completed","distinct_id":"user_hash_51","properties":{"trace_id":"TRACE","task_type":"ticket","task_completed":true,"prompt_name":"ticket_reply","prompt_version_id":"pv_2026_11_30_002",
		"posthog_flag":"ticket-reply-test","posthog_flag_variant":"treatment","model":"gpt-4.1-mini","estimated_cost_usd":0.0039,"latency_ms":1310}}`
	seedGenerated = `{"event":"llm_generation","distinct_id":"user_hash_51","properties":{"trace_id":"TRACE-g","model":"gpt-4.1-mini","input_tokens":21,"output_tokens":64,"total_tokens":85,"estimated_cost":0.0013,"latency_ms":870,
		"status":"success","user_id":"user_77","timestamp":"2026-11-29T03:30:30.000Z"}}`
)

// fromTrace are the properties that an outcome has from the trace that it
// names.
var fromTrace = map[string]bool{
	"model": true, "provider": true, "prompt_name": true, "prompt_version": true, "prompt_version_id": true, "prompt_hash": true, "environment": true, "surface": true, "task_type": true,
	"session_id": true, "$ai_session_id": true, "$ai_model": true, "$ai_provider": true, "posthog_flag": true, "posthog_flag_variant": true, "agent_config_id": true, "retrieval_config_id": true,
}

// TestSeedPayloads sends the payloads to each endpoint, for each schema of
// events: locally they are calls and outcomes, and PostHog receives every field
// unchanged.
func TestSeedPayloads(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start()
	token := p.token()
	ways := map[string]func(raw string){
		"capture": func(raw string) { p.call("POST", "/i/v0/e/", `{"api_key":"`+token+`",`+raw[1:], nil) },
		"batch":   func(raw string) { p.call("POST", "/batch/", `{"api_key":"`+token+`","batch":[`+raw+`]}`, nil) },
		"api":     func(raw string) { p.call("POST", "/api/v1/events", raw, nil) },
	}
	type sent struct {
		Event      string
		Properties map[string]json.RawMessage
	}
	read := func(raw string) (s sent) {
		t.Helper()
		if err := json.Unmarshal([]byte(raw), &s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	rounds := 0
	for _, schema := range []string{"posthog", "llm_events", "both"} {
		w.speak(schema)
		for way, send := range ways {
			rounds++
			trace := way + "-" + schema
			of := func(raw string) string { return strings.ReplaceAll(raw, "TRACE", trace) }
			for _, raw := range []string{seedCompleted, seedMinimal, seedSent, seedResolved, seedTask, seedGenerated} {
				send(of(raw))
			}

			// Locally.
			p.awaitStored("trace_id="+trace, 4)
			e := p.stored("event=llm_request_completed&trace_id=" + trace)[0]
			if e.SpanID != trace+"-r" || e.DistinctID != "user_hash_51" || e.PromptName != "ticket_reply" || e.PromptVersionID != "pv_2026_11_30_002" || e.PromptHash != "sha256:51ce" || e.Provider != "openai" ||
				e.Model != "gpt-4.1-mini" || e.Environment != "production" || e.TaskType != "ticket" || e.LatencyMS.Value != 1310 || e.Usage.Input.Value != 940 || e.Usage.Output.Value != 201 ||
				e.Cost.Total.Value.String() != "0.0039" || e.Status != event.StatusSuccess || e.IsError || e.InputLengthBucket != "512_1k_tokens" || e.OutputCategory != "answer_with_source" {
				t.Errorf("%s: a completed request is stored as %+v", trace, e)
			}
			minimal := slices.DeleteFunc(p.awaitStored("event=llm_request_completed", 2*rounds), func(e *query.Event) bool { return e.PromptVersionID != "pv_"+trace })
			if len(minimal) != 1 || minimal[0].Model != "gpt-4.1-mini" || minimal[0].LatencyMS.Value != 720 || minimal[0].Status != event.StatusSuccess || minimal[0].Usage.Input.Known || minimal[0].Usage.Output.Known {
				t.Errorf("%s: a completed request with four fields is stored as %+v", trace, minimal)
			} else if minimal[0].Cost.Total.Known {
				t.Errorf("%s: a call of unknown tokens costs %s", trace, minimal[0].Cost.Total.Value)
			}
			g := p.awaitStored("event=llm_generation&trace_id="+trace+"-g", 1)[0]
			if g.Model != "gpt-4.1-mini" || g.Usage.Input.Value != 21 || g.Usage.Output.Value != 64 || g.Usage.Total.Value != 85 || g.Cost.Total.Value.String() != "0.0013" || g.LatencyMS.Value != 870 ||
				g.Status != event.StatusSuccess || g.User != "user_77" {
				t.Errorf("%s: a generation is stored as %+v", trace, g)
			}
			for name, want := range map[string]map[string]string{
				"support_reply_sent":      {"ticket_id_hash": `"ticket_hash_3"`, "edited_output": "true", "time_to_send_seconds": "41"},
				"support_ticket_resolved": {"resolved": "true", "escalated_to_human": "false", "customer_satisfaction_score": "4"},
				"llm_task_completed":      {"task_completed": "true"},
			} {
				o := p.stored("event=" + name + "&trace_id=" + trace)
				if len(o) != 1 || o[0].PromptVersionID != "pv_2026_11_30_002" || o[0].DistinctID != "user_hash_51" || o[0].Cost.Total.Known {
					t.Fatalf("%s: %s is stored as %+v", trace, name, o)
				}
				for property, v := range want {
					if string(o[0].Properties[property]) != v {
						t.Errorf("%s: %s of %s is stored as %s, want %s", trace, property, name, o[0].Properties[property], v)
					}
				}
			}

			// At PostHog.
			for _, raw := range []string{seedCompleted, seedSent, seedResolved, seedTask} {
				s := read(of(raw))
				added := maps.Clone(addedToAny)
				if s.Event != "llm_request_completed" {
					maps.Copy(added, fromTrace)
				}
				got := w.one(s.Event, trace)
				passedOn(t, got, s.Properties, added)
				if schema == "llm_events" {
					withoutAI(t, got)
				}
			}
			s := read(of(seedGenerated))
			passedOn(t, w.one(s.Event, trace+"-g"), s.Properties, addedToAny)
			// Under both, a call has PostHog's own form, too, and counts once there.
			if n := len(slices.DeleteFunc(w.ph.Named(event.Generation), func(e simposthog.Event) bool { return e.Text("$ai_trace_id") != trace })); schema != "both" && n != 0 {
				t.Errorf("%s: %d generations were made of what was sent", trace, n)
			}
			if schema == "both" {
				if ai := w.one(event.Generation, trace); ai.Text("$ai_model") != "gpt-4.1-mini" || ai.Number("$ai_input_tokens") != 940 || ai.Text("$ai_total_cost_usd") != "0.0039" {
					t.Errorf("%s: %s", trace, ai.Raw)
				}
			}
		}
	}
	// An outcome's fields about its call are not a second call.
	var all query.Stats
	p.get("/api/v1/stats", &all)
	if got := all.Totals; got.Calls != int64(3*rounds) || got.Errors != 0 || got.InputTokens.Value != int64(rounds*(940+21)) || !got.CostUSD.Value.Equal(decimal.RequireFromString("0.0052").Mul(decimal.NewFromInt(int64(rounds)))) ||
		got.UncostedCalls != int64(rounds) || got.UnmeteredCalls != int64(rounds) {
		t.Errorf("totals of %d rounds: %+v", rounds, got)
	}
	p.seedFromGateway(t)
	p.stop()
}

func withoutAI(t *testing.T, e simposthog.Event) {
	t.Helper()
	for name := range e.Properties {
		if strings.HasPrefix(name, "$ai_") {
			t.Errorf("%s has %s", e.Name, name)
		}
	}
}

// seedFromGateway makes hedgerow write the payloads of a call through its
// gateway: every field of the examples, and none of the call's content.
func (p *proc) seedFromGateway(t *testing.T) {
	t.Helper()
	w := p.w
	w.speak("llm_events")
	header := []string{"X-PostHog-Distinct-Id", "user_hash_51", "X-Hedgerow-Prompt", "ticket_reply@pv_2026_11_30_002", "X-Hedgerow-Environment", "production", "X-Hedgerow-Task-Type", "ticket", "X-PostHog-Flag-ticket-reply-test", "treatment",
		"X-PostHog-Property-retrieval_config_id", "rc_4", "X-PostHog-Property-agent_config_id", "ac_9"}
	body := `{"model":"gpt-4.1-mini","messages":[{"role":"system","content":"Never say: ` + secret + `."},{"role":"user","content":"Is it ` + secret + `?"}],"temperature":0.2}`
	call := func(trace, sim string) string {
		t.Helper()
		_, answer, err := p.post(t.Context(), "/openai/v1/chat/completions", sim, body, append(header, "X-PostHog-Trace-Id", trace)...)
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	var answer struct {
		Model string
		Usage struct {
			Input  int64 `json:"prompt_tokens"`
			Output int64 `json:"completion_tokens"`
			Total  int64 `json:"total_tokens"`
		}
	}
	if err := json.Unmarshal([]byte(call("made-ok", "first=20ms")), &answer); err != nil {
		t.Fatal(err)
	}
	call("made-bad", "rate_limit")
	home := p.awaitStored("event="+event.Generation+"&trace_id=made-ok", 1)[0]

	shapes := map[string]string{
		"trace_id": `^"made-ok"$`, "request_id": `^".+"$`, "prompt_name": `^"ticket_reply"$`, "prompt_version_id": `^"pv_2026_11_30_002"$`, "prompt_hash": `^"sha256:[0-9a-f]{8,}"$`, "provider": `^"openai"$`,
		"environment": `^"production"$`, "task_type": `^"ticket"$`, "trace_url": `^"` + regexp.QuoteMeta(p.base) + `/traces/made-ok"$`, "posthog_flag": `^"ticket-reply-test"$`, "posthog_flag_variant": `^"treatment"$`,
		"input_length_bucket": `^"0_256_tokens"$`, "temperature": `^0\.2$`, "retrieval_config_id": `^"rc_4"$`, "agent_config_id": `^"ac_9"$`,
	}
	started := maps.Clone(shapes)
	started["model"] = `^"gpt-4.1-mini"$`
	completed := maps.Clone(shapes)
	maps.Copy(completed, map[string]string{
		"model": `^"` + regexp.QuoteMeta(answer.Model) + `"$`, "latency_ms": `^[1-9]\d*(\.\d+)?$`, "input_tokens": fmt.Sprintf(`^%d$`, answer.Usage.Input), "output_tokens": fmt.Sprintf(`^%d$`, answer.Usage.Output),
		"total_tokens": fmt.Sprintf(`^%d$`, answer.Usage.Total), "estimated_cost_usd": `^` + regexp.QuoteMeta(home.Cost.Total.Value.String()) + `$`, "status": `^"success"$`, "output_category": `^"text"$`, "user_id": `^"user_hash_51"$`,
		"finish_reason": `^"stop"$`,
	})
	failed := maps.Clone(shapes)
	maps.Copy(failed, map[string]string{"trace_id": `^"made-bad"$`, "trace_url": `/traces/made-bad"$`, "model": `^"gpt-4.1-mini"$`, "latency_ms": `^\d+(\.\d+)?$`, "status": `^"error"$`, "error_type": `^".+"$`, "error_code": `^"rate_limit_exceeded"$`, "http_status": `^429$`})
	for _, c := range []struct {
		name, trace string
		shapes      map[string]string
	}{{"llm_request_started", "made-ok", started}, {"llm_request_completed", "made-ok", completed}, {"llm_request_failed", "made-bad", failed}} {
		e := w.one(c.name, c.trace)
		for name, shape := range c.shapes {
			if !regexp.MustCompile(shape).Match(e.Properties[name]) {
				t.Errorf("%s: %s is %s, want %s", c.name, name, e.Properties[name], shape)
			}
		}
		if e.DistinctID != "user_hash_51" || e.Timestamp.IsZero() || bytes.Contains(e.Raw, []byte("blackthorn")) {
			t.Errorf("%s: %s", c.name, e.Raw)
		}
		withoutAI(t, e)
	}
	if a, b := w.one("llm_request_started", "made-ok"), w.one("llm_request_completed", "made-ok"); a.Text("request_id") != b.Text("request_id") {
		t.Errorf("request ids %q and %q of one call", a.Text("request_id"), b.Text("request_id"))
	}
}

// TestSeedBroadcast sends a request with OpenRouter's members for attribution to
// OpenRouter, which has them, and to OpenAI, which rejects them, without and
// with privacy mode.
func TestSeedBroadcast(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start()
	body := func(model, trace string) string {
		return `{"model":"` + model + `","messages":[{"role":"user","content":"Which shears? ` + secret + `"}],"user":"user_20481","session_id":"visit_7",` +
			`"trace":{"trace_id":"` + trace + `","trace_name":"Garden shop","generation_name":"Suggest shears","feature":"shop-assistant","ab_test_group":"variant_b","seats":3,"tags":["checkout","beta"]}}`
	}
	const sim = "known_only; text=the wren likes the long shears"
	names := make(map[string]string) // the properties that PostHog got, content aside
	for _, private := range []bool{false, true} {
		w.mustRun("connection", "set", "--flush-interval", "100ms", "--schema", "both", fmt.Sprintf("--privacy=%t", private), "--skip-test")
		for path, model := range map[string]string{"/openrouter/api/v1": "openai/gpt-4o", "/openai/v1": "gpt-4o"} {
			trace := fmt.Sprintf("%s-%t", strings.Split(path, "/")[1], private)
			w.sim.Forget()
			sent := body(model, trace)
			if status, answer, err := p.post(t.Context(), path+"/chat/completions", sim, sent); err != nil || status != 200 {
				t.Fatalf("%s: %d %s %v", trace, status, answer, err)
			}
			if got := w.sim.Requests(); strings.HasPrefix(path, "/openrouter") && string(got[0].Body) != sent {
				t.Errorf("%s: OpenRouter got %s", trace, got[0].Body)
			} else if !strings.Contains(string(got[0].Body), `"user":"user_20481"`) {
				t.Errorf("%s: the provider's own user is missing: %s", trace, got[0].Body)
			}
			e := p.awaitStored("event="+event.Generation+"&trace_id="+trace, 1)[0]
			if e.DistinctID != "user_20481" || e.User != "user_20481" || e.SessionID != "visit_7" || e.TraceName != "Garden shop" || e.SpanName != "Suggest shears" ||
				string(e.Properties["feature"]) != `"shop-assistant"` || string(e.Properties["ab_test_group"]) != `"variant_b"` || string(e.Properties["seats"]) != "3" || !slices.Contains(e.Tags, "checkout") || !slices.Contains(e.Tags, "beta") || len(e.Properties["tags"]) != 0 {
				t.Errorf("%s: stored %+v", trace, e)
			}
			ai := w.one(event.Generation, trace)
			if ai.DistinctID != "user_20481" {
				t.Errorf("%s: of %q", trace, ai.DistinctID)
			}
			for name, want := range map[string]string{
				"$ai_user": "user_20481", "$ai_session_id": "visit_7", "$ai_trace_id": trace, "$ai_trace_name": "Garden shop", "$ai_span_name": "Suggest shears",
				"feature": "shop-assistant", "ab_test_group": "variant_b", "seats": "3", "checkout": "true", "beta": "true",
			} {
				if got := ai.Text(name); got != want {
					t.Errorf("%s: %s is %q, want %q", trace, name, got, want)
				}
			}
			for _, name := range []string{"$ai_model", "$ai_provider", "$ai_input_tokens", "$ai_output_tokens", "$ai_total_cost_usd", "$ai_latency"} {
				if v := string(ai.Properties[name]); v == "" || v == "null" || v == "0" || v == `""` {
					t.Errorf("%s: %s is %s", trace, name, v)
				}
			}
			plain := w.one("llm_request_completed", trace)
			for name, want := range map[string]string{"user_id": "user_20481", "session_id": "visit_7", "trace_name": "Garden shop", "generation_name": "Suggest shears", "feature": "shop-assistant", "ab_test_group": "variant_b", "seats": "3", "checkout": "true", "beta": "true"} {
				if got := plain.Text(name); got != want {
					t.Errorf("%s: %s of %s is %q, want %q", trace, name, plain.Name, got, want)
				}
			}
			for _, name := range []string{"$ai_input", "$ai_output_choices"} {
				if v := string(ai.Properties[name]); private != (v == "" || v == "null") {
					t.Errorf("%s: with privacy mode %t, %s is %s", trace, private, name, v)
				}
			}
			left := maps.Clone(ai.Properties)
			delete(left, "$ai_input")
			delete(left, "$ai_output_choices")
			list := strings.Join(slices.Sorted(maps.Keys(left)), " ")
			if private && list != names[path] {
				t.Errorf("%s: privacy mode sends %s\nwithout it %s", trace, list, names[path])
			}
			names[path] = list
			for _, e := range w.ph.Events() {
				if private && strings.HasSuffix(e.Text("trace_id")+e.Text("$ai_trace_id"), "-true") && (bytes.Contains(e.Raw, []byte("blackthorn")) || bytes.Contains(e.Raw, []byte("long shears"))) {
					t.Errorf("%s in privacy mode: %s", e.Name, e.Raw)
				}
			}
		}
	}
	p.stop()
}

// TestSeedWrapper makes wrapped clients put the application's own fields into
// their calls, through the gateway to a provider that rejects them: the calls
// succeed, each counts once, and the fields are the call's locally.
func TestSeedWrapper(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start()
	w.flushFast()
	w.mustRun("project", "set", "--attribution-fields", "feature")

	// PostHog's wrapper for Node.
	saw := make(map[string]string)
	runSeeds(t, "wrap", p.base, w.sim.OpenAIURL()+"/v1", &saw)
	for name, answer := range saw {
		if !strings.HasPrefix(answer, "400 ") {
			t.Errorf("%s: without hedgerow the provider returns %q", name, answer)
		}
	}
	refused := len(p.awaitStored("", 1)) // the wrapper does not report a rejected stream
	runSeeds(t, "wrap", p.base, p.base+"/openai/v1", &saw)

	// The SDK, through the gateway and directly to the provider.
	sdk, err := hedgerow.New(hedgerow.Config{APIKey: p.token(), Host: p.base, AttributionFields: []string{"feature"}})
	if err != nil {
		t.Fatal(err)
	}
	for name, base := range map[string]string{"go": p.base + "/openai/v1", "go-direct": w.sim.OpenAIURL() + "/v1"} {
		client := openai.NewClient(openaioption.WithBaseURL(base), openaioption.WithAPIKey("sk-e2e-caller"), openaioption.WithMaxRetries(0), openaioption.WithHTTPClient(&http.Client{Transport: sdk.Transport(nil)}))
		answer, err := client.Chat.Completions.New(hedgerow.WithTrace(t.Context(), "wrapped-"+name), openai.ChatCompletionNewParams{
			Model: "gpt-4.1-mini", User: openai.String("user_12"), Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("Hello " + secret)},
		}, openaioption.WithHeader("X-Sim", "known_only"), openaioption.WithJSONSet("session", "session-"+name), openaioption.WithJSONSet("feature", "hedge_finder"))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		saw[name] = answer.Choices[0].Message.Content
	}
	if err := sdk.Close(t.Context()); err != nil {
		t.Fatal(err)
	}

	// Each is captured by wrapper and gateway, except the direct one, and stored once.
	w.await(func() bool {
		got := p.stored("")
		return len(got) == refused+len(saw) && !slices.ContainsFunc(got, func(e *query.Event) bool { return !e.IsError && e.DistinctID != "user_12" })
	}, func() string {
		var got []string
		for _, e := range p.stored("") {
			got = append(got, fmt.Sprintf("%s of %q, error %t, %s", e.Name, e.DistinctID, e.IsError, e.TraceID))
		}
		return fmt.Sprintf("%d events stored, want %d: %s\n%s", len(got), refused+len(saw), got, p.logs())
	})
	for name, text := range saw {
		if len(text) < 5 || strings.HasPrefix(text, "400") {
			t.Errorf("%s: answered %q", name, text)
		}
		got := p.stored("event=" + event.Generation + "&session_id=" + url.QueryEscape("session-"+name))
		if len(got) != 1 {
			t.Errorf("%s: %d calls stored, want 1", name, len(got))
			continue
		}
		if e := got[0]; e.IsError || e.DistinctID != "user_12" || e.SessionID != "session-"+name || string(e.Properties["feature"]) != `"hedge_finder"` || !e.Usage.Input.Known || !e.Cost.Total.Known {
			t.Errorf("%s: stored %+v", name, e)
		}
	}
	var all query.Stats
	p.get("/api/v1/stats?event="+event.Generation, &all)
	if got := all.Totals; got.Calls != int64(refused+len(saw)) || got.Errors != int64(refused) {
		t.Errorf("%d calls with %d errors, want %d with %d", got.Calls, got.Errors, refused+len(saw), refused)
	}
	p.stop()
}
