package vocabulary

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/rawjson"
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

// Under llm_events a tool call that failed is a request that failed, and one that
// went well does not leave.
func TestFailedTool(t *testing.T) {
	at := time.Date(2026, 6, 4, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		e    event.Event
		tool string // "": nothing leaves
	}{
		"by tool_name":      {event.Event{IsError: true, Properties: map[string]json.RawMessage{"tool_name": json.RawMessage(`"search"`), "agent_step_name": json.RawMessage(`"plan"`)}}, "search"},
		"by its type":       {event.Event{IsError: true, SpanName: "lookup", Properties: map[string]json.RawMessage{"$ai_span_type": json.RawMessage(`"tool"`)}}, "lookup"},
		"by its operation":  {event.Event{IsError: true, Operation: "execute_tool", Properties: map[string]json.RawMessage{"gen_ai.tool.name": json.RawMessage(`"sql"`)}}, "sql"},
		"no tool":           {event.Event{IsError: true, SpanName: "plan"}, ""},
		"no failure":        {event.Event{Properties: map[string]json.RawMessage{"tool_name": json.RawMessage(`"search"`)}}, ""},
		"another call seen": {event.Event{IsError: true, Properties: map[string]json.RawMessage{"tool_name": json.RawMessage(`"search"`), "hedgerow_joined_to": json.RawMessage(`"x"`)}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			e := c.e
			e.UUID, e.Name, e.TraceID, e.SpanID, e.DistinctID, e.Timestamp, e.Status, e.ErrorType, e.Latency = event.NewID(), event.Span, "t", "s", "u", at, event.StatusTimeout, "timeout", event.Some(time.Second)
			if !e.IsError {
				e.Status = event.StatusSuccess
			}
			for schema, own := range map[event.Schema]int{event.SchemaPostHog: 1, event.SchemaLLMEvents: 0, event.SchemaBoth: 1} {
				want := own
				if c.tool != "" && schema != event.SchemaPostHog {
					want++
				}
				out := Events(schema, &e, &e)
				if len(out) != want {
					t.Fatalf("%d events under %s, want %d", len(out), schema, want)
				}
				if want == own {
					continue
				}
				d := out[own]
				p := d.WireProperties()
				if d.Name != event.RequestFailed || !d.Timestamp.Equal(at.Add(time.Second)) || rawjson.Scalar(p["tool_name"]) != c.tool || rawjson.Scalar(p["status"]) != "timeout" || rawjson.Scalar(p["error_type"]) != "timeout" || rawjson.Scalar(p["trace_id"]) != "t" || rawjson.Scalar(p["request_id"]) != "s" || p["model"] != nil {
					t.Errorf("%s %v", d.Name, p)
				}
			}
		})
	}
}
