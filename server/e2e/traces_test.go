package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

// TestTraceAcrossReceivers sends the parts of one trace to the gateway, the
// capture endpoint and OTLP, children before their parents and the trace itself
// nearly last. The result is one tree whose sums count each call once, and a
// late part is added to it.
func TestTraceAcrossReceivers(t *testing.T) {
	t.Parallel()
	const id, root, agent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "00f067aa0ba902b7"
	w := newWorld(t)
	p := w.start()
	start := time.Now().Add(-time.Minute).UTC().Truncate(time.Millisecond)
	post := func(path, body, sim string, header ...string) {
		t.Helper()
		if status, answer, err := p.post(t.Context(), path, sim, body, header...); err != nil || status != http.StatusOK {
			t.Fatalf("%s: %d %s %v", path, status, answer, err)
		}
	}
	sdk := func(name, trace, properties string) {
		t.Helper()
		post("/batch/", fmt.Sprintf(`{"api_key":%q,"batch":[{"event":%q,"uuid":%q,"distinct_id":"ada","timestamp":%q,"properties":{"$ai_trace_id":%q,"$ai_session_id":"s-parts",%s}}]}`,
			phKey, name, event.NewID(), start.Add(time.Second).Format(time.RFC3339Nano), trace, properties), "")
	}
	span := func(id, parent, name, attributes string, from, to time.Duration) {
		t.Helper()
		post("/v1/traces", fmt.Sprintf(`{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":%q,"parentSpanId":%q,"name":%q,"kind":1,"startTimeUnixNano":"%d","endTimeUnixNano":"%d",
			"attributes":[{"key":"gen_ai.conversation.id","value":{"stringValue":"s-parts"}},{"key":"user.id","value":{"stringValue":"ada"}}%s]}]}]}]}`,
			id, parent, name, start.Add(from).UnixNano(), start.Add(to).UnixNano(), attributes), "", "Authorization", "Bearer "+phKey)
	}
	const call = `"$ai_provider":"openai","$ai_model":"gpt-4.1-mini","$ai_latency":0.5,"$ai_http_status":200,`
	const agentic = `,{"key":"gen_ai.operation.name","value":{"stringValue":"invoke_agent"}}`
	whole := func(events int) query.Trace {
		t.Helper()
		p.awaitStored("trace_id="+id, events)
		var answer struct{ Trace query.Trace }
		p.get("/api/v1/traces/"+id, &answer)
		if answer.Trace.Rollup.Events != events {
			t.Errorf("%d events in the tree, want %d", answer.Trace.Rollup.Events, events)
		}
		return answer.Trace
	}

	// Gateway: a call below the agent, which is not known yet.
	post("/openai/v1/chat/completions", `{"model":"gpt-4.1-mini","messages":[{"role":"user","content":"hi"}]}`, "input=700; output=70",
		"Traceparent", "00-"+id+"-"+agent+"-01", "X-PostHog-Session-Id", "s-parts", "X-PostHog-Distinct-Id", "ada")
	if tr := whole(1); len(tr.Roots) != 1 || !tr.Roots[0].ParentMissing || tr.Rollup.Calls != 1 {
		t.Errorf("the first part alone: %+v", tr)
	}
	// PostHog's SDKs: a call of a tool, then the tool, which failed.
	sdk(event.Generation, id, call+`"$ai_span_id":"summary","$ai_parent_id":"tool","$ai_input_tokens":100,"$ai_output_tokens":10`)
	sdk(event.Span, id, `"$ai_span_id":"tool","$ai_parent_id":"`+agent+`","$ai_span_name":"search","$ai_latency":0.9,"$ai_is_error":true,"$ai_error":"no such hedge"`)
	if tr := whole(3); len(tr.Roots) != 2 || !tr.Roots[0].ParentMissing || !tr.Roots[1].ParentMissing || tr.Rollup.Calls != 2 || tr.Rollup.Errors != 0 || tr.Rollup.OtherErrors != 1 {
		t.Errorf("before the agent: %+v", tr)
	}
	// OpenTelemetry: the agent, then the trace.
	span(agent, root, "invoke_agent helper", agentic, 100*time.Millisecond, 1900*time.Millisecond)
	span(root, "", "workflow", agentic, 0, 2*time.Second)
	tr := whole(5)
	if len(tr.Roots) != 1 || tr.Roots[0].Event.Name != event.Trace || len(tr.Roots[0].Children) != 1 {
		t.Fatalf("the whole: %+v", tr)
	}
	a := tr.Roots[0].Children[0]
	var sources []string
	for _, n := range a.Children {
		sources = append(sources, n.Event.Source+" "+n.Event.Name)
	}
	slices.Sort(sources)
	if a.Event.SpanID != agent || !slices.Equal(sources, []string{"gateway $ai_generation", "ingest $ai_span"}) {
		t.Errorf("below the agent %s: %v", a.Event.SpanID, sources)
	}
	for _, n := range a.Children {
		if n.Event.Name == event.Span && (len(n.Children) != 1 || n.Children[0].Event.SpanID != "summary" || n.Rollup.Calls != 1 || n.Rollup.InputTokens.Value != 100) {
			t.Errorf("below the tool: %+v", n)
		}
	}
	if s := tr.Rollup; s.Calls != 2 || s.Errors != 0 || s.OtherErrors != 1 || s.InputTokens.Value != 800 || s.OutputTokens.Value != 80 || s.UncostedCalls != 0 || !s.CostUSD.Known || s.LatencyMS.Value != 2000 {
		t.Errorf("totals %+v", s)
	}
	if tr.SessionID != "s-parts" || tr.User != "ada" {
		t.Errorf("session %q of %q", tr.SessionID, tr.User)
	}
	// A late part, and a second trace of the same session.
	cost := tr.Rollup.CostUSD.Value
	sdk(event.Generation, id, call+`"$ai_span_id":"late","$ai_parent_id":"`+root+`","$ai_input_tokens":20,"$ai_output_tokens":2`)
	if tr = whole(6); len(tr.Roots) != 1 || len(tr.Roots[0].Children) != 2 || tr.Rollup.Calls != 3 || tr.Rollup.InputTokens.Value != 820 || !tr.Rollup.CostUSD.Value.GreaterThan(cost) {
		t.Errorf("with the late part: %+v", tr)
	}
	sdk(event.Generation, "second", call+`"$ai_span_id":"other","$ai_input_tokens":1,"$ai_output_tokens":1`)
	p.awaitStored("session_id=s-parts", 7)
	traces := make(map[string]int)
	for _, e := range p.stored("session_id=s-parts") {
		traces[e.TraceID]++
	}
	if len(traces) != 2 || traces[id] != 6 || traces["second"] != 1 {
		t.Errorf("the session has %v", traces)
	}
	p.stop()
}
