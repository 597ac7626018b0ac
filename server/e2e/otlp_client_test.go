package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

// spanFields maps properties of PostHog's span events to hedgerow's fields, and
// converts the conventions' messages to PostHog's format.
var spanFields = map[string]func(e *query.Event) any{
	"$otel_span_name":                func(e *query.Event) any { return e.SpanName }, // stored separately only if it differs
	"gen_ai.conversation.id":         func(e *query.Event) any { return e.SessionID },
	"gen_ai.response.id":             func(e *query.Event) any { return e.CompletionID },
	"gen_ai.response.finish_reasons": func(e *query.Event) any { return []string{e.StopReason} },
	"gen_ai.tool.call.arguments":     func(e *query.Event) any { return string(e.Content.InputState) },
	"deployment.environment.name":    func(e *query.Event) any { return e.Environment },
}

// compareSpans compares the stored events of an exporter's spans with what
// PostHog makes of the same requests.
func (x *tee) compareSpans(t *testing.T, p *proc, want int) {
	t.Helper()
	x.mu.Lock()
	for _, f := range x.failed {
		t.Error(f)
	}
	x.mu.Unlock()
	if n := x.direct.Count(); n != want {
		t.Errorf("the exporter sent %d spans, want %d", n, want)
	}
	for _, d := range x.direct.Events() {
		trace, span := d.Text("$ai_trace_id"), d.Text("$ai_span_id")
		var e *query.Event
		for _, s := range p.stored("trace_id=" + trace) {
			if s.SpanID == span {
				var answer struct{ Event query.Event }
				p.get("/api/v1/events/"+s.UUID+"?content=true", &answer)
				e = &answer.Event
			}
		}
		name := d.Name + " " + d.Text("$ai_span_name")
		if e == nil {
			t.Errorf("%s is not stored", name)
			continue
		}
		if e.Content == nil {
			e.Content = &query.Content{}
		}
		// PostHog gives a request without a user a random one; hedgerow has
		// none, or that of the spans above.
		sameUser := e.DistinctID == d.DistinctID || uuid.Validate(d.DistinctID) == nil && (e.DistinctID == "" || e.ParentID != "")
		if e.Name != d.Name || !sameUser || e.Timestamp.Sub(d.Timestamp).Abs() > time.Millisecond || e.Source != event.SourceOTLP {
			t.Errorf("%s: stored as %s of %q at %v, want %q at %v", name, e.Name, e.DistinctID, e.Timestamp, d.DistinctID, d.Timestamp)
		}
		for property, v := range d.Properties {
			got := any(e.Properties[property])
			if e.Properties[property] == nil {
				if at := fields[property]; at != nil {
					got = at(e)
				} else if at := spanFields[property]; at != nil {
					got = at(e)
				}
			}
			want := any(v)
			switch property {
			case "$ai_input", "$ai_output_choices":
				want = flatten(t, v)
			}
			g, w := canonical(t, got), canonical(t, want)
			if property == "$ai_latency" {
				var a, b float64
				if json.Unmarshal([]byte(g), &a) == nil && json.Unmarshal([]byte(w), &b) == nil && math.Abs(a-b) < 2e-6 {
					continue
				}
			}
			if g != w && strings.Trim(g, `"`) != strings.Trim(w, `"`) && !sameNumber(g, w) {
				t.Errorf("%s: %s is stored as %s, want %s", name, property, g, w)
			}
		}
	}
}

// sameNumber reports whether a number equals the text that PostHog stores:
// OTLP/JSON has whole numbers as text.
func sameNumber(got, want string) bool {
	a, errA := strconv.ParseFloat(got, 64)
	b, errB := strconv.ParseFloat(strings.Trim(want, `"`), 64)
	return errA == nil && errB == nil && a == b
}

// flatten converts messages with parts to messages with one text, as PostHog's
// wrappers send them.
func flatten(t *testing.T, v json.RawMessage) any {
	t.Helper()
	var messages []struct {
		Role  string
		Parts []struct{ Type, Content string }
	}
	if err := json.Unmarshal(v, &messages); err != nil {
		t.Fatal(err)
	}
	out := make([]map[string]any, len(messages))
	for i, m := range messages {
		if len(m.Parts) != 1 || m.Parts[0].Type != "text" {
			t.Fatalf("messages of other parts: %s", v)
		}
		out[i] = map[string]any{"role": m.Role, "content": m.Parts[0].Content}
	}
	return out
}

// TestOTLPJS runs OpenTelemetry's exporters for JavaScript, with protobuf and
// JSON, plain and gzip, on both paths. All give the same run.
func TestOTLPJS(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start()
	w.keepContent()
	x := newTee(t, p)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "otlp_client.mjs", x.server.URL, phKey)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	b, err := cmd.Output()
	if err != nil {
		t.Fatalf("otlp_client.mjs: %v\n%s%s", err, b, stderr.String())
	}
	var runs []struct{ Path, Encoding, Compression, Trace, Failed string }
	if err := json.Unmarshal(b, &runs); err != nil || len(runs) != 8 {
		t.Fatalf("%d runs, %v in %s", len(runs), err, b)
	}
	for _, r := range runs {
		name := r.Encoding + " " + r.Compression + " to " + r.Path
		if r.Failed != "" {
			t.Errorf("%s: the exporter received %s", name, r.Failed)
			continue
		}
		p.awaitStored("trace_id="+r.Trace, 3)
		var answer struct{ Trace query.Trace }
		p.get("/api/v1/traces/"+r.Trace, &answer)
		tr := answer.Trace
		if len(tr.Roots) != 1 || tr.Roots[0].Event.Name != event.Trace || len(tr.Roots[0].Children) != 2 || tr.SessionID != "conv-js" || tr.User != "ada" {
			t.Errorf("%s: %+v", name, tr)
			continue
		}
		if s := tr.Rollup; s.Events != 3 || s.Calls != 1 || s.Errors != 0 || s.OtherErrors != 1 || s.InputTokens.Value != 1000 || s.OutputTokens.Value != 100 || !s.CostUSD.Known || s.UncostedCalls != 0 {
			t.Errorf("%s: totals %+v", name, s)
		}
		for _, n := range tr.Roots[0].Children {
			var one struct{ Event query.Event }
			p.get("/api/v1/events/"+n.Event.UUID+"?content=true", &one)
			switch e := one.Event; e.Name {
			case event.Generation:
				if e.Model != "gpt-4.1-mini-2025-04-14" || e.Provider != "openai" || e.StopReason != "stop" || e.DistinctID != "ada" || e.Content == nil ||
					!strings.Contains(string(e.Content.Input), "Which bird? 🐦") || !strings.Contains(string(e.Content.Output), "A wren.") || e.Source != event.SourceOTLP {
					t.Errorf("%s: %+v", name, e)
				}
			case event.Span:
				if !e.IsError || e.ErrorMessage != "the hedge is on fire" {
					t.Errorf("%s: the tool's error is %v %q", name, e.IsError, e.ErrorMessage)
				}
			default:
				t.Errorf("%s: a %s", name, e.Name)
			}
			w.await(func() bool { return len(w.ph.ByUUID(n.Event.UUID)) == 1 }, func() string { return name + " did not reach PostHog" })
		}
	}
	x.compareSpans(t, p, 3*len(runs))
	p.stop()
}
