package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	simposthog "github.com/hedgerow/hedgerow/internal/simulate/posthog"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

// outcomeWord is in the prompts of these tests, and must not be sent to
// PostHog.
const outcomeWord = "quizzaciously"

const outcomeBody = `{"model":"gpt-4.1-mini","messages":[{"role":"system","content":"You are ` + outcomeWord + ` brief."},{"role":"user","content":"Say ` + outcomeWord + `."}],"temperature":0.2}`

// token is the project token of the first start.
func (p *proc) token() string {
	p.w.t.Helper()
	m := regexp.MustCompile(`project token\s+(phc_hedgerow_\w+)`).FindStringSubmatch(p.stdout())
	if m == nil {
		p.w.t.Fatalf("the first start printed no project token:\n%s", p.stdout())
	}
	return m[1]
}

// speak sets the event schema of the environment's connection.
func (w *world) speak(schema string) {
	w.t.Helper()
	w.mustRun("connection", "set", "--flush-interval", "100ms", "--schema", schema, "--skip-test")
}

// one returns PostHog's only event of a name and trace.
func (w *world) one(name, trace string) simposthog.Event {
	w.t.Helper()
	var got []simposthog.Event
	w.await(func() bool {
		got = got[:0]
		for _, e := range w.ph.Named(name) {
			if e.Text("trace_id") == trace || e.Text("$ai_trace_id") == trace {
				got = append(got, e)
			}
		}
		return len(got) > 0
	}, func() string { return fmt.Sprintf("no %s of %s among %d events", name, trace, w.ph.Count()) })
	if len(got) != 1 {
		w.t.Fatalf("%d %s of %s", len(got), name, trace)
	}
	return got[0]
}

// TestOutcomes follows calls and their outcomes from an application through
// hedgerow to PostHog, in both schemas.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.env = []string{"HEDGEROW_UPSTREAM_TIMEOUT=1s"}
	p := w.start()
	token := p.token()
	w.speak("both")

	call := func(trace, sim, body string) {
		t.Helper()
		if _, _, err := p.post(t.Context(), "/v1/chat/completions", sim, body, "X-PostHog-Trace-Id", trace, "X-PostHog-Distinct-Id", "ann", "X-Hedgerow-Prompt", "support_answer@3",
			"X-Hedgerow-Surface", "Conversation", "X-Hedgerow-Task-Type", "support_reply", "X-Hedgerow-Tags", "beta", "X-PostHog-Property-account_id", "a1", "X-PostHog-Flag-prompt-test", "treatment"); err != nil {
			t.Fatal(err)
		}
	}
	call("out-ok", "", outcomeBody)
	call("out-stream", "", strings.Replace(outcomeBody, `{"model"`, `{"stream":true,"model"`, 1))
	call("out-error", "server_error", outcomeBody)
	call("out-invalid", "bad_request", outcomeBody)
	call("out-timeout", "hang", outcomeBody)
	call("out-blocked", "content_filter", outcomeBody)

	p.call("POST", "/api/v1/events", `[
		{"event":"llm_output_rated","distinct_id":"ann","trace_id":"out-ok","surface":"Conversation","properties":{"user_feedback":"positive","accepted_output":true,"comment":"`+outcomeWord+`"}},
		{"event":"llm_task_completed","distinct_id":"ann","trace_id":"out-ok","prompt_name":"support_answer","task_type":"support_reply","properties":{"task_completed":true,"retry_count":0}},
		{"event":"prompt_shared","distinct_id":"ann","surface":"Compose","properties":{"prompt_id":"p1"}}]`, nil)
	p.call("POST", "/batch/", `{"api_key":"`+token+`","batch":[
		{"event":"support_ticket_resolved","distinct_id":"ann","properties":{"trace_id":"out-ok","resolved":true,"surface":"Conversation"}},
		{"event":"playbook_completed","distinct_id":"ann","properties":{"surface":"Playbook","steps":4}},
		{"event":"$ai_feedback","distinct_id":"ann","properties":{"$ai_trace_id":"out-stream","$ai_feedback_text":"so `+outcomeWord+`"}}]}`, nil)

	for trace, want := range map[string]struct{ name, status string }{
		"out-ok": {"llm_request_completed", "success"}, "out-stream": {"llm_request_completed", "success"}, "out-error": {"llm_request_failed", "error"},
		"out-invalid": {"llm_request_failed", "validation_failed"}, "out-timeout": {"llm_request_failed", "timeout"}, "out-blocked": {"llm_request_failed", "blocked"},
	} {
		ai, started, ended := w.one(event.Generation, trace), w.one("llm_request_started", trace), w.one(want.name, trace)
		if got := ended.Text("status"); got != want.status {
			t.Errorf("%s: status %q, want %q", trace, got, want.status)
		}
		if !started.Timestamp.Equal(ai.Timestamp) || ended.Timestamp.Before(started.Timestamp) {
			t.Errorf("%s: started %v, ended %v, the call %v", trace, started.Timestamp, ended.Timestamp, ai.Timestamp)
		}
		if d := ended.Timestamp.Sub(started.Timestamp).Seconds() * 1000; d < ended.Number("latency_ms")-1 || d > ended.Number("latency_ms")+1 {
			t.Errorf("%s: %v ms apart, latency_ms %v", trace, d, ended.Number("latency_ms"))
		}
		if started.UUID == ended.UUID || started.UUID == ai.UUID || started.Text("request_id") == "" || started.Text("request_id") != ended.Text("request_id") {
			t.Errorf("%s: uuids %s and %s, request ids %q and %q", trace, started.UUID, ended.UUID, started.Text("request_id"), ended.Text("request_id"))
		}
		// The same status in both schemas.
		if ai.Text("status") != want.status || ai.Text("$ai_is_error") != strconv.FormatBool(want.status != "success") || ai.Text("$ai_error_type") != ended.Text("error_type") || ai.Text("error_code") != ended.Text("error_code") || ai.Text("$ai_http_status") != ended.Text("http_status") {
			t.Errorf("%s: the schemas differ:\n%s\n%s", trace, ai.Raw, ended.Raw)
		}
		if code := map[string]string{"out-error": "server_error", "out-invalid": "invalid_request_error", "out-timeout": "ETIMEDOUT", "out-blocked": "content_filter"}[trace]; want.status != "success" && (ended.Text("error_type") == "" || ended.Text("error_code") != code) {
			t.Errorf("%s: error_type %q, error_code %q, want %q", trace, ended.Text("error_type"), ended.Text("error_code"), code)
		}
		if ai.Text("$ai_user") != "ann" || ended.Text("user_id") != "ann" || ended.Text("generation_name") != ai.Text("$ai_span_name") || ended.Text("finish_reason") != ai.Text("$ai_stop_reason") {
			t.Errorf("%s: user or names are missing:\n%s\n%s", trace, ai.Raw, ended.Raw)
		}
		for _, e := range []simposthog.Event{started, ended} {
			for name, v := range map[string]string{"trace_id": trace, "provider": "openai", "prompt_name": "support_answer", "task_type": "support_reply", "surface": "Conversation", "beta": "true",
				"account_id": "a1", "$feature/prompt-test": "treatment", "posthog_flag_variant": "treatment", "trace_url": p.base + "/traces/" + trace} {
				if e.Text(name) != v {
					t.Errorf("%s: %s of %s is %q, want %q", trace, name, e.Name, e.Text(name), v)
				}
			}
			if !strings.HasPrefix(e.Text("prompt_hash"), "sha256:") || !strings.HasSuffix(e.Text("input_length_bucket"), "_tokens") || e.DistinctID != "ann" {
				t.Errorf("%s: %s of %s: hash %q, bucket %q", trace, e.Name, e.DistinctID, e.Text("prompt_hash"), e.Text("input_length_bucket"))
			}
			for name := range e.Properties {
				if strings.HasPrefix(name, "$ai_") {
					t.Errorf("%s: %s has %s", trace, e.Name, name)
				}
			}
		}
		if ok := want.status == "success"; ok != ended.Has("output_tokens") && want.status != "blocked" || ok && (ended.Number("input_tokens") != ai.Number("$ai_input_tokens") || ended.Number("estimated_cost_usd") != ai.Number("$ai_total_cost_usd") || ended.Number("estimated_cost_usd") == 0) {
			t.Errorf("%s: tokens %q and %q, cost %q", trace, ended.Text("input_tokens"), ended.Text("output_tokens"), ended.Text("estimated_cost_usd"))
		}
	}
	// Outcomes of every receiver are in their trace.
	for _, name := range []string{"llm_output_rated", "llm_task_completed", "support_ticket_resolved"} {
		e := w.one(name, "out-ok")
		if e.Text("trace_id") != "out-ok" || e.Text("$ai_trace_id") != "out-ok" || e.Text("trace_url") != p.base+"/traces/out-ok" {
			t.Errorf("%s: %v", name, e.Properties)
		}
	}
	if e := w.one("llm_output_rated", "out-ok"); e.Text("accepted_output") != "true" || e.Text("user_feedback") != "positive" || e.Text("surface") != "Conversation" {
		t.Errorf("rating: %v", e.Properties)
	}
	if e := w.one("llm_output_rated", "out-stream"); e.Number("feedback_length") == 0 {
		t.Errorf("feedback: %v", e.Properties)
	}
	for name, surface := range map[string]string{"prompt_shared": "Compose", "playbook_completed": "Playbook"} {
		w.await(func() bool { return len(w.ph.Named(name)) == 1 }, func() string { return name + " did not arrive" })
		if e := w.ph.Named(name)[0]; e.Text("surface") != surface {
			t.Errorf("%s: surface %q", name, e.Text("surface"))
		}
	}
	for _, e := range w.ph.Events() {
		if strings.Contains(string(e.Raw), outcomeWord) {
			t.Errorf("%s contains content: %s", e.Name, e.Raw)
		}
		if e.Copies != 1 {
			t.Errorf("%s came %d times", e.Name, e.Copies)
		}
	}
	p.awaitStored("trace_id=out-ok", 4)
	var tr struct{ Trace query.Trace }
	p.get("/api/v1/traces/out-ok", &tr)
	var names []string
	for _, n := range tr.Trace.Roots {
		names = append(names, n.Event.Name)
	}
	for _, name := range []string{"llm_output_rated", "llm_task_completed", "support_ticket_resolved"} {
		if !strings.Contains(strings.Join(names, " "), name) {
			t.Errorf("the trace shows %v, not %s", names, name)
		}
	}
	if tr.Trace.Rollup.Calls != 1 || tr.Trace.Rollup.Events != 4 {
		t.Errorf("totals %+v", tr.Trace.Rollup)
	}

	// One schema only: no events of the other are sent.
	w.speak("llm_events")
	before := w.ph.Count()
	call("out-llm", "", outcomeBody)
	w.one("llm_request_completed", "out-llm")
	if n := w.ph.Count() - before; n != 2 || len(w.ph.Named(event.Generation)) != 6 {
		t.Errorf("%d events of a call in schema llm_events, %d generations in all", n, len(w.ph.Named(event.Generation)))
	}
	p.stop()
}

// TestVocabularyThroughACrash kills hedgerow between the deliveries of a call's
// events: PostHog ends up with each event of each call once, and with the same
// bytes if one was sent twice.
func TestVocabularyThroughACrash(t *testing.T) {
	t.Parallel() // it mostly waits
	w := newWorld(t)
	p := w.start()
	w.speak("both")
	w.ph.Fail(simposthog.Fault{Path: "/batch/", Status: http.StatusServiceUnavailable, Times: -1})
	const calls = 30
	for i := range calls {
		if status, _, err := p.post(t.Context(), "/v1/chat/completions", "", outcomeBody, "X-PostHog-Trace-Id", "crash-"+strconv.Itoa(i)); err != nil || status != http.StatusOK {
			t.Fatalf("%d %v", status, err)
		}
	}
	w.await(func() bool { return len(w.ph.Named(event.Generation)) == calls }, func() string { return "the generations have not arrived" })
	p.kill()
	w.ph.ClearFaults()
	p = w.start()
	w.await(func() bool { return w.ph.Count() >= 3*calls }, func() string {
		return fmt.Sprintf("%d of %d events\n%s", w.ph.Count(), 3*calls, p.logs())
	})
	for _, name := range []string{event.Generation, "llm_request_started", "llm_request_completed"} {
		if n := len(w.ph.Named(name)); n != calls {
			t.Errorf("%d %s, want %d", n, name, calls)
		}
	}
	p.stop()
}

// TestFirstValue reports one user's milestone concurrently and to every
// receiver, before and after a restart: PostHog and the store have it once.
func TestFirstValue(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start()
	token := p.token()
	w.speak("both")
	const users = 5
	everywhere := func() {
		t.Helper()
		var wg sync.WaitGroup
		for u := range users {
			for i := range 8 {
				wg.Go(func() {
					path, body := "/api/v1/events", fmt.Sprintf(`{"event":"first_value_reached","distinct_id":"user-%d","surface":"Guide"}`, u)
					if i%2 == 1 {
						path, body = "/batch/", fmt.Sprintf(`{"api_key":%q,"batch":[{"event":"first_value_reached","distinct_id":"user-%d","properties":{"surface":"Guide"}},{"event":"filler","distinct_id":"user-%d"}]}`, token, u, u)
					}
					if status, answer := p.send(t.Context(), "POST", path, body); status != http.StatusOK {
						t.Errorf("POST %s: %d %s", path, status, answer)
					}
				})
			}
		}
		wg.Wait()
	}
	everywhere()
	w.await(func() bool {
		return len(w.ph.Named("filler")) == users*4 && len(w.ph.Named("first_value_reached")) >= users
	}, func() string { return "events have not arrived" })
	p.stop()
	p = w.start()
	everywhere()
	w.await(func() bool { return len(w.ph.Named("filler")) == users*8 }, func() string { return "events have not arrived" })
	check := func() {
		t.Helper()
		copies := make(map[string]int)
		for _, e := range w.ph.Named("first_value_reached") {
			copies[e.DistinctID] += e.Copies
		}
		for u := range users {
			if n := copies[fmt.Sprintf("user-%d", u)]; n != 1 {
				t.Errorf("user-%d: PostHog received the milestone %d times", u, n)
			}
		}
		if got := p.stored("event=first_value_reached"); len(got) != users {
			t.Errorf("%d milestones are stored, want %d", len(got), users)
		}
	}
	check()

	// Killed under load: whatever got a 2xx is stored, once.
	var mu sync.Mutex
	answered := make(map[string]bool)
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	for i := range 4 {
		wg.Go(func() {
			for u := 0; ctx.Err() == nil; u++ {
				id := fmt.Sprintf("late-%d", u+i%2)
				if status, _ := p.send(ctx, "POST", "/api/v1/events", `{"event":"first_value_reached","distinct_id":"`+id+`"}`); status == http.StatusOK {
					mu.Lock()
					answered[id] = true
					mu.Unlock()
				}
			}
		})
	}
	w.await(func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(answered) >= 100
	}, func() string { return "the API responds too slowly" })
	p.kill()
	cancel()
	wg.Wait()
	p = w.start()
	for id := range answered { // reported again: nothing changes
		if status, answer := p.send(t.Context(), "POST", "/api/v1/events", `{"event":"first_value_reached","distinct_id":"`+id+`"}`); status != http.StatusOK {
			t.Fatalf("%d %s", status, answer)
		}
	}
	late := func() map[string]map[string]bool {
		out := make(map[string]map[string]bool)
		for _, e := range w.ph.Named("first_value_reached") {
			if strings.HasPrefix(e.DistinctID, "late-") {
				if out[e.DistinctID] == nil {
					out[e.DistinctID] = make(map[string]bool)
				}
				out[e.DistinctID][e.UUID] = true
			}
		}
		return out
	}
	w.await(func() bool { return len(late()) >= len(answered) }, func() string {
		return fmt.Sprintf("%d of %d milestones\n%s", len(late()), len(answered), p.logs())
	})
	for id, uuids := range late() {
		if len(uuids) != 1 {
			t.Errorf("%s has %d milestones", id, len(uuids))
		}
	}
	stored := make(map[string]int)
	w.await(func() bool { // events that the killed process had fetched are redelivered after a while
		clear(stored)
		for _, e := range p.stored("event=first_value_reached") {
			stored[e.DistinctID]++
		}
		for id := range answered {
			if stored[id] == 0 {
				return false
			}
		}
		return true
	}, func() string { return fmt.Sprintf("%d of %d milestones are stored", len(stored), len(answered)) })
	for id, n := range stored {
		if n != 1 {
			t.Errorf("%s: %d milestones are stored", id, n)
		}
	}
	if len(answered) < 20 {
		t.Errorf("only %d milestones were acknowledged before the kill", len(answered))
	}
	t.Logf("%d milestones acknowledged before the kill", len(answered))
	p.stop()
}

// An outcome that names only its trace, or only its call, is sent with the
// call's attribution, in each schema: also for a call from before a restart,
// days later, and if it arrives before its call.
func TestOutcomesHaveWhatTheirCallKnows(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start()
	token := p.token()
	w.speak("posthog")
	type generation struct {
		ID string `json:"id"`
	}
	call := func(trace string) (completion string) {
		t.Helper()
		status, body, err := p.post(t.Context(), "/v1/chat/completions", "", outcomeBody, "X-PostHog-Trace-Id", trace, "X-PostHog-Distinct-Id", "ann", "X-Hedgerow-Prompt", "support_answer@3",
			"X-Hedgerow-Surface", "Conversation", "X-Hedgerow-Task-Type", "support_reply", "X-PostHog-Property-agent_config_id", "ac_7", "X-PostHog-Property-environment", "production", "X-PostHog-Flag-prompt-test", "treatment")
		var g generation
		if err != nil || status != http.StatusOK || json.Unmarshal([]byte(body), &g) != nil || g.ID == "" {
			t.Fatalf("%d %s: %v", status, body, err)
		}
		return g.ID
	}
	knows := func(e simposthog.Event, prefix string) {
		t.Helper()
		for name, v := range map[string]string{prefix + "prompt_name": "support_answer", prefix + "prompt_version": "3", prefix + "provider": "openai", "surface": "Conversation", "task_type": "support_reply",
			"$feature/prompt-test": "treatment", "agent_config_id": "ac_7"} {
			if e.Text(name) != v {
				t.Errorf("%s: %s is %q, want %q: %s", e.Name, name, e.Text(name), v, e.Raw)
			}
		}
		if !strings.HasPrefix(e.Text(prefix+"model"), "gpt-4.1-mini") {
			t.Errorf("%s: model %q", e.Name, e.Text(prefix+"model"))
		}
		if prefix == "" && (e.Text("posthog_flag") != "prompt-test" || e.Text("posthog_flag_variant") != "treatment") {
			t.Errorf("%s: flag %q is %q", e.Name, e.Text("posthog_flag"), e.Text("posthog_flag_variant"))
		}
	}
	report := func(body string) {
		t.Helper()
		p.call("POST", "/batch/", `{"api_key":"`+token+`","batch":[`+body+`]}`, nil)
	}

	call("known")
	completion := call("old")
	p.awaitStored("event="+event.Generation, 2)
	report(`{"event":"llm_task_completed","distinct_id":"ann","properties":{"trace_id":"known","task_completed":true,"surface":"Guide"}}`)
	e := w.one("llm_task_completed", "known")
	if e.Text("surface") != "Guide" {
		t.Errorf("the caller's surface is lost: %s", e.Raw)
	}
	e.Properties["surface"] = []byte(`"Conversation"`)
	knows(e, "")

	// The call is from before a restart; the outcomes arrive days later.
	p.kill()
	p = w.start()
	later := time.Now().Add(22 * time.Hour).UTC().Format(time.RFC3339)
	report(`{"event":"support_ticket_resolved","distinct_id":"ann","timestamp":"` + later + `","properties":{"trace_id":"old","resolved":true}},
		{"event":"$ai_feedback","distinct_id":"ann","properties":{"$ai_trace_id":"old","$ai_feedback_text":"fine"}},
		{"event":"llm_output_rated","distinct_id":"ann","properties":{"generation_id":"` + completion + `","user_feedback":"negative"}}`)
	knows(w.one("support_ticket_resolved", "old"), "")
	knows(w.one("$ai_feedback", "old"), "$ai_")
	knows(w.one("llm_output_rated", "old"), "") // and its trace

	// The stored figures are joined in the same way.
	for _, name := range []string{"support_ticket_resolved", "%24ai_feedback", "llm_output_rated"} {
		list := p.awaitStored("event="+name, 1)
		if o := list[0]; o.PromptName != "support_answer" || o.PromptVersion != "3" || o.Surface != "Conversation" || o.TraceID != "old" || o.Flags["prompt-test"] != "treatment" {
			t.Errorf("%s is stored as %+v", name, o)
		}
	}

	// An outcome that arrives before its call waits for it briefly.
	w.speak("llm_events")
	report(`{"event":"llm_task_completed","distinct_id":"ann","properties":{"trace_id":"early","task_completed":true}}`)
	call("early")
	knows(w.one("llm_task_completed", "early"), "")

	// One whose call never arrives is sent nevertheless.
	report(`{"event":"llm_task_completed","distinct_id":"ann","properties":{"trace_id":"never","task_completed":true}}`)
	if e := w.one("llm_task_completed", "never"); e.Has("prompt_name") || e.Has("model") {
		t.Errorf("of no call: %s", e.Raw)
	}
	p.stop()
}
