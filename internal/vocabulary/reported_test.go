package vocabulary

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// A reported call leaves as it came, in every schema; under both its end has
// PostHog's form, too.
func TestReported(t *testing.T) {
	at := time.Date(2026, 6, 4, 12, 0, 2, 0, time.UTC)
	sent := map[string]json.RawMessage{
		"trace_id": json.RawMessage(`"t"`), "request_id": json.RawMessage(`"r"`), "model": json.RawMessage(`"gpt-4.1-mini"`), "provider": json.RawMessage(`"openai"`),
		"latency_ms": json.RawMessage(`1840`), "input_tokens": json.RawMessage(`1284`), "estimated_cost_usd": json.RawMessage(`0.00480`), "status": json.RawMessage(`"success"`),
		"output_category": json.RawMessage(`"answer_with_citation"`), "account_id": json.RawMessage(`"a"`), "trace_url": json.RawMessage(`"https://own.example/t"`),
	}
	read := func(name string) *event.Event {
		e := &event.Event{UUID: event.NewID(), Name: name, DistinctID: "u", Timestamp: at, Properties: sent}
		e.ReadReported()
		if e.IsReportedCall() {
			e.Status = event.StatusSuccess
		}
		e.InputLengthBucket, e.PromptHash = "1k_2k_tokens", "sha256:derived"
		return e
	}
	for _, name := range []string{event.RequestStarted, event.RequestCompleted, event.ReportedGeneration} {
		for _, schema := range []event.Schema{event.SchemaPostHog, event.SchemaLLMEvents, event.SchemaBoth} {
			e := read(name)
			out := Events(schema, e, e)
			var names []string
			for _, o := range out {
				names = append(names, o.Name)
			}
			want := []string{name}
			if schema == event.SchemaBoth && name != event.RequestStarted {
				want = append(want, event.Generation)
			}
			if !slices.Equal(names, want) {
				t.Fatalf("%s under %s becomes %v, want %v", name, schema, names, want)
			}
			own := out[0]
			if own.UUID != e.UUID || !own.Timestamp.Equal(at) {
				t.Errorf("%s under %s: %s at %v", name, schema, own.UUID, own.Timestamp)
			}
			wire := own.WireProperties()
			for k, v := range sent {
				if string(wire[k]) != string(v) {
					t.Errorf("%s under %s: %s is %s, want %s", name, schema, k, wire[k], v)
				}
			}
			for k := range wire {
				if sent[k] == nil && (schema == event.SchemaLLMEvents || k != "$ai_trace_id") {
					t.Errorf("%s under %s: %s was added", name, schema, k)
				}
			}
			b, err := own.MarshalPostHog(event.Wire{TraceURL: "https://hedgerow.example/t"})
			if err != nil || !strings.Contains(string(b), "own.example") || strings.Contains(string(b), "hedgerow.example") {
				t.Errorf("the caller's trace_url does not win: %s %v", b, err)
			}
			if len(out) == 2 {
				g := out[1].WireProperties()
				if string(g["$ai_model"]) != `"gpt-4.1-mini"` || string(g["$ai_total_cost_usd"]) != "0.0048" || string(g["$ai_latency"]) != "1.84" || string(g["$ai_cost_model_source"]) != `"passthrough"` || g["model"] != nil || g["latency_ms"] != nil || string(g["account_id"]) != `"a"` ||
					out[1].UUID == e.UUID || !out[1].Timestamp.Equal(at.Add(-1840*time.Millisecond)) {
					t.Errorf("generation %s at %v: %v", out[1].UUID, out[1].Timestamp, g)
				}
			}
		}
	}
}

// What was read of an outcome to find its call is not said twice.
func TestReportedOutcome(t *testing.T) {
	e := &event.Event{UUID: event.NewID(), Name: event.TaskCompleted, TraceID: "t", Properties: map[string]json.RawMessage{"model": json.RawMessage(`"m"`), "provider": json.RawMessage(`"p"`), "request_id": json.RawMessage(`"r"`)}}
	e.ReadReported()
	for _, schema := range []event.Schema{event.SchemaPostHog, event.SchemaLLMEvents, event.SchemaBoth} {
		out := Events(schema, e, e)
		wire := out[0].WireProperties()
		if len(out) != 1 || wire["$ai_model"] != nil || wire["$ai_provider"] != nil || wire["$ai_parent_id"] != nil || string(wire["model"]) != `"m"` {
			t.Errorf("under %s: %v", schema, wire)
		}
	}
}
