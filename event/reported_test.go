package event_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

func reported(name, props string) *event.Event {
	e := &event.Event{UUID: "0195c0de-7000-7000-8000-000000000001", Name: name, Timestamp: time.Date(2026, 6, 4, 12, 0, 2, 0, time.UTC)}
	if err := json.Unmarshal([]byte(props), &e.Properties); err != nil {
		panic(err)
	}
	return e
}

func TestReadReported(t *testing.T) {
	const all = `{"trace_id":"t","request_id":"r","prompt_hash":"sha256:9f2c","provider":"openai","model":"gpt-4.1-mini","environment":"production","task_type":"support_reply","latency_ms":1840.5,
		"input_tokens":1284,"output_tokens":"312","total_tokens":1596,"estimated_cost_usd":0.0048000000001,"status":"SUCCESS","input_length_bucket":"own","output_category":"answer_with_citation","user_id":"u","finish_reason":"length",
		"temperature":0.2,"session_id":"s","time_to_first_token_ms":200,"stream":true}`
	e := reported(event.RequestCompleted, all)
	at := e.Timestamp
	e.ReadReported()
	if e.TraceID != "t" || e.SpanID != "r" || e.SessionID != "s" || e.User != "u" || e.Provider != "openai" || e.Model != "gpt-4.1-mini" || e.ModelAsked != "" || e.Environment != "production" || e.TaskType != "support_reply" ||
		e.PromptHash != "sha256:9f2c" || e.InputLengthBucket != "own" || e.OutputCategory != "answer_with_citation" || e.StopReason != "length" || e.Status != event.StatusSuccess || e.IsError {
		t.Errorf("texts %+v", e)
	}
	if e.Usage.Input.Value != 1284 || e.Usage.Output.Value != 312 || e.Usage.Total.Value != 1596 || e.Usage.CacheExclusive != event.Some(false) || e.Cost.Total.Value.String() != "0.0048000000001" || e.Cost.Source != event.CostCaller ||
		e.Latency != event.Some(1840500*time.Microsecond) || e.TimeToFirstToken != event.Some(200*time.Millisecond) || e.Stream != event.Some(true) || string(e.ModelParameters["temperature"]) != "0.2" {
		t.Errorf("figures %+v", e)
	}
	if !e.Timestamp.Equal(at.Add(-1840500*time.Microsecond)) || !e.ReportedAt().Equal(at) {
		t.Errorf("start %v, reported at %v; want %v", e.Timestamp, e.ReportedAt(), at)
	}
	again := e.Clone()
	again.ReadReported()
	if !again.Timestamp.Equal(e.Timestamp) || again.Latency != e.Latency {
		t.Error("not idempotent")
	}

	for name, c := range map[string]struct {
		event *event.Event
		want  func(*event.Event) bool
	}{
		"a start": {reported(event.RequestStarted, `{"request_id":"r","model":"m","latency_ms":5,"status":"success","input_tokens":3}`), func(e *event.Event) bool {
			return e.SpanID == "r" && e.TraceID == "r" && e.ModelAsked == "m" && e.Model == "" && e.Status == "" && !e.Latency.Known && !e.Usage.Input.Known
		}},
		"the gateway's start": {func() *event.Event {
			e := reported(event.RequestStarted, `{"model":"m"}`)
			e.StartSent = true
			return e
		}(), func(e *event.Event) bool {
			return e.ModelAsked == "" && e.SpanID == ""
		}},
		"a failure": {reported(event.RequestFailed, `{"status":"success","error_type":"TimeoutError"}`), func(e *event.Event) bool { return e.IsError && e.Status == "" && e.ErrorType == "TimeoutError" }},
		"blocked":   {reported(event.RequestFailed, `{"status":"blocked"}`), func(e *event.Event) bool { return e.IsError && e.Status == event.StatusBlocked }},
		"no ids":    {reported(event.RequestCompleted, `{"model":"m"}`), func(e *event.Event) bool { return e.SpanID == e.UUID && e.TraceID == e.UUID }},
		"the short form": {reported(event.ReportedGeneration, `{"model":"gpt-3.5-turbo","total_tokens":75,"estimated_cost":0.0015,"user_id":"user_123"}`), func(e *event.Event) bool {
			return e.Cost.Total.Value.String() == "0.0015" && e.Usage.Total.Value == 75 && e.User == "user_123"
		}},
		"a latency beyond all bounds": {reported(event.RequestCompleted, `{"latency_ms":1e30}`), func(e *event.Event) bool { return e.Timestamp.Year() == 2026 }},
		"invalid numbers":             {reported(event.RequestCompleted, `{"input_tokens":"many","estimated_cost_usd":null,"latency_ms":[1]}`), func(e *event.Event) bool { return !e.Usage.Input.Known && !e.Cost.Total.Known && !e.Latency.Known }},
		"a rating": {reported(event.OutputRated, `{"request_id":"r","model":"m","provider":"p"}`), func(e *event.Event) bool {
			return e.ParentID == "r" && e.Model == "m" && e.Provider == "p" && e.SpanID == ""
		}},
		"another event": {reported("support_ticket_resolved", `{"request_id":"r","model":"m","latency_ms":5}`), func(e *event.Event) bool { return e.ParentID == "" && e.Model == "" && !e.Latency.Known }},
	} {
		t.Run(name, func(t *testing.T) {
			c.event.ReadReported()
			if !c.want(c.event) {
				t.Errorf("%+v", c.event)
			}
		})
	}
}

// Read properties are kept, whatever the receiver: SetWireProperties moves
// only those used in filters.
func TestReportedPropertiesStay(t *testing.T) {
	e := &event.Event{Name: event.RequestCompleted}
	e.SetWireProperties(map[string]json.RawMessage{"status": json.RawMessage(`"success"`), "$ai_model": json.RawMessage(`"x"`), "environment": json.RawMessage(`"production"`), "$feature/a": json.RawMessage(`"b"`), "output_category": json.RawMessage(`"own"`)})
	if e.Status != "" || e.Model != "" || e.OutputCategory != "" || e.Environment != "production" || e.Flags["a"] != "b" || len(e.Properties) != 3 {
		t.Errorf("%+v", e)
	}
}
