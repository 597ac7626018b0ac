package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	simposthog "github.com/hedgerow/hedgerow/internal/simulate/posthog"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

// reportedEvents are the three events that an application sends about its calls
// with PostHog's SDK, with the properties of its helper.
func reportedEvents(trace, request string) (started, completed, failed string) {
	common := `"trace_id":"` + trace + `","request_id":"` + request + `","account_id":"acc_1","prompt_name":"support_answer","prompt_version_id":"pv_2026_06_04_003","provider":"openai","model":"gpt-4.1-mini","environment":"production"`
	at := func(seconds int) string {
		return time.Now().UTC().Add(time.Duration(seconds-60) * time.Second).Format("2006-01-02T15:04:05.000Z")
	}
	make := func(name string, seconds int, more string) string {
		return `{"event":"` + name + `","distinct_id":"user_8f3a_hash","timestamp":"` + at(seconds) + `","properties":{` + common + more + `}}`
	}
	return make("llm_request_started", 0, ""),
		make("llm_request_completed", 2, `,"task_type":"support_reply","latency_ms":1840,"input_tokens":1284,"output_tokens":312,"estimated_cost_usd":0.0048,"status":"success","output_category":"answer_with_citation","prompt_hash":"sha256:9f2c","trace_url":"https://your-llm-platform.example/traces/`+trace+`"`),
		make("llm_request_failed", 3, `,"latency_ms":2500,"status":"error","error_type":"APIConnectionError","error_code":"ECONNRESET"`)
}

// TestReportedCalls sends an application's own llm_request_ events as a PostHog
// SDK does: all figures include them as calls, start and end are one call
// whatever arrives in between, and PostHog gets them unchanged.
func TestReportedCalls(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start()
	token := p.token()
	w.speak("posthog")
	batch := func(events ...string) {
		t.Helper()
		p.call("POST", "/batch/", `{"api_key":"`+token+`","batch":[`+strings.Join(events, ",")+`]}`, nil)
	}
	started, completed, _ := reportedEvents("rep-ok", "req-ok")
	batch(started, completed)
	failedStart, _, failed := reportedEvents("rep-bad", "req-bad")
	batch(failedStart)
	open, _, _ := reportedEvents("rep-open", "req-open")
	p.call("POST", "/i/v0/e/", strings.Replace(open, `{"event"`, `{"api_key":"`+token+`","event"`, 1), nil)
	p.awaitStored("trace_id=rep-open", 1)
	if status, rate := p.totals(""); status.Calls != 1 || status.Errors != 0 || rate != 0 {
		t.Errorf("before the end: %+v", status)
	}
	p.stop()
	p = w.start() // the end arrives after a restart
	batch(failed)
	late, early, _ := reportedEvents("rep-late", "req-late")
	batch(early)
	batch(late)
	p.awaitStored("trace_id=rep-bad", 2)
	p.awaitStored("trace_id=rep-late", 2)

	got, _ := p.totals("")
	if got.Calls != 3 || got.Errors != 1 || got.InputTokens.Value != 2*1284 || got.OutputTokens.Value != 2*312 || got.CostUSD.Value.String() != "0.0096" || got.UncostedCalls != 1 || got.Events != 7 {
		t.Errorf("totals %+v", got)
	}
	if !got.LatencyMS.P50.Known || got.LatencyMS.P50.Value < 1800 || got.LatencyMS.P50.Value > 2600 {
		t.Errorf("latency %+v", got.LatencyMS)
	}
	for by, want := range map[string]string{"model": "gpt-4.1-mini", "provider": "openai", "prompt": "support_answer@pv_2026_06_04_003", "environment": "production", "user": "user_8f3a_hash"} {
		var stats query.Stats
		p.get("/api/v1/stats?group_by="+by, &stats)
		if i := slices.IndexFunc(stats.Groups, func(g query.Group) bool { return g.Key == want }); i < 0 || stats.Groups[i].Totals.Calls != 3 {
			t.Errorf("by %s: %+v", by, stats.Groups)
		}
	}
	for status, n := range map[string]int64{"success": 2, "error": 1} {
		if got, _ := p.totals("?status=" + status); got.Calls != n {
			t.Errorf("status %s: %+v", status, got)
		}
	}
	e := p.stored("event=llm_request_completed&trace_id=rep-ok")[0]
	if e.SpanID != "req-ok" || e.Model != "gpt-4.1-mini" || e.Usage.Total.Value != 1596 || e.Cost.Total.Value.String() != "0.0048" || e.Cost.Source != event.CostCaller || e.LatencyMS.Value != 1840 ||
		e.Status != event.StatusSuccess || e.OutputCategory != "answer_with_citation" || e.PromptVersionID != "pv_2026_06_04_003" || e.TaskType != "support_reply" || e.InputLengthBucket != "1k_2k_tokens" {
		t.Errorf("stored %+v", e)
	}
	if e := p.stored("event=llm_request_failed&trace_id=rep-bad")[0]; !e.IsError || e.Status != event.StatusError || e.ErrorType != "APIConnectionError" || e.Cost.Total.Known {
		t.Errorf("stored failure %+v", e)
	}

	// One call per trace: the start is not a step of its own, unless it has no
	// end.
	for trace, want := range map[string][3]int{"rep-ok": {1, 0, 1}, "rep-bad": {1, 0, 1}, "rep-late": {1, 0, 1}, "rep-open": {0, 1, 1}} {
		var tr struct{ Trace query.Trace }
		p.get("/api/v1/traces/"+trace, &tr)
		if got := [3]int{tr.Trace.Rollup.Calls, tr.Trace.Rollup.OpenCalls, len(tr.Trace.Roots)}; got != want {
			t.Errorf("%s: calls, open calls and steps %v, want %v", trace, got, want)
		}
		if root := tr.Trace.Roots[0].Event; trace == "rep-open" && (root.Status != "" || root.IsError || root.ModelAsked != "gpt-4.1-mini") {
			t.Errorf("an open call %+v", root)
		}
	}

	// PostHog has the events of the application, and no derived ones.
	for _, c := range []struct{ raw, trace string }{{started, "rep-ok"}, {completed, "rep-ok"}, {failed, "rep-bad"}, {open, "rep-open"}, {late, "rep-late"}, {early, "rep-late"}} {
		sameAsSent(t, w.one(nameOf(c.raw), c.trace), c.raw, p.base+"/traces/"+c.trace)
	}
	for _, e := range w.ph.Events() {
		if e.Name == event.Generation || e.Copies != 1 {
			t.Errorf("%s came %d times", e.Name, e.Copies)
		}
	}

	w.speak("llm_events")
	a, b, _ := reportedEvents("rep-llm", "req-llm")
	batch(a, b)
	for _, raw := range []string{a, b} {
		e := w.one(nameOf(raw), "rep-llm")
		sameAsSent(t, e, raw, p.base+"/traces/rep-llm")
		for name := range e.Properties {
			if strings.HasPrefix(name, "$ai_") {
				t.Errorf("%s has %s", e.Name, name)
			}
		}
	}
	w.speak("both")
	a, b, _ = reportedEvents("rep-both", "req-both")
	batch(a, b)
	g := w.one(event.Generation, "rep-both")
	if g.Text("$ai_model") != "gpt-4.1-mini" || g.Number("$ai_input_tokens") != 1284 || g.Text("$ai_total_cost_usd") != "0.0048" || g.Text("$ai_span_id") != "req-both" || g.Has("input_tokens") || g.Text("account_id") != "acc_1" {
		t.Errorf("under both: %s", g.Raw)
	}
	sameAsSent(t, w.one("llm_request_completed", "rep-both"), b, "")
	p.stop()
}

// totals returns the totals of the whole project, and their error rate.
func (p *proc) totals(q string) (query.Totals, float64) {
	p.w.t.Helper()
	var stats query.Stats
	p.get("/api/v1/stats"+q, &stats)
	return stats.Totals, stats.Totals.ErrorRate.Value
}

func nameOf(raw string) string {
	var in struct{ Event string }
	_ = json.Unmarshal([]byte(raw), &in)
	return in.Event
}

// sameAsSent compares an event at PostHog with the one that an application
// sent: name, user, time, and every property with its digits; its own trace_url
// takes precedence.
func sameAsSent(t *testing.T, got simposthog.Event, raw, traceURL string) {
	t.Helper()
	var sent struct {
		DistinctID string `json:"distinct_id"`
		Timestamp  time.Time
		Properties map[string]json.RawMessage
	}
	if err := json.Unmarshal([]byte(raw), &sent); err != nil {
		t.Fatal(err)
	}
	if got.DistinctID != sent.DistinctID || got.Timestamp.Sub(sent.Timestamp).Abs() > time.Second {
		t.Errorf("%s of %s at %v, sent of %s at %v", got.Name, got.DistinctID, got.Timestamp, sent.DistinctID, sent.Timestamp)
	}
	for name, v := range sent.Properties {
		if string(got.Properties[name]) != string(v) {
			t.Errorf("%s: %s is %s, sent %s", got.Name, name, got.Properties[name], v)
		}
	}
	if sent.Properties["trace_url"] == nil && traceURL != "" && got.Text("trace_url") != traceURL {
		t.Errorf("%s: trace_url %q", got.Name, got.Text("trace_url"))
	}
	for name := range got.Properties {
		if sent.Properties[name] == nil && !strings.HasPrefix(name, "$") && name != "trace_url" {
			t.Errorf("%s: %s was added: %s", got.Name, name, got.Properties[name])
		}
	}
	if fmt.Sprint(sent.Properties) == "map[]" {
		t.Error("nothing was compared")
	}
}
