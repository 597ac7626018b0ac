package hedgerow_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hedgerow/hedgerow"
	"github.com/hedgerow/hedgerow/event"
	simposthog "github.com/hedgerow/hedgerow/internal/simulate/posthog"
)

// props checks properties of an event as PostHog received it.
func props(t *testing.T, e simposthog.Event, want map[string]string) {
	t.Helper()
	for name, v := range want {
		if got := string(e.Properties[name]); got != v {
			t.Errorf("%s: %s is %s, want %s", e.Name, name, got, v)
		}
	}
}

func TestCaptureGeneration(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		ctx := hedgerow.WithUser(hedgerow.WithTrace(t.Context(), "trace-1"), "ada")
		start := time.Now()
		time.Sleep(time.Second)
		r.CaptureGeneration(ctx, hedgerow.Generation{
			Provider: "bedrock", Model: "m-2", Asked: "m", Input: []hedgerow.Message{{"system", "be brief"}, {"user", prompt}}, Output: "no", Tools: []any{map[string]any{"name": "t"}},
			Usage: hedgerow.Usage{Input: hedgerow.Some(12), Output: hedgerow.Some(0)}, CostUSD: 0.0125, Latency: time.Second, TimeToFirstToken: 200 * time.Millisecond, Stream: true,
			HTTPStatus: 200, StopReason: "end_turn", CompletionID: "c-1", BaseURL: "https://bedrock.test?key=x", Name: "answer", Parameters: hedgerow.Properties{"temperature": 0.2},
			Properties: hedgerow.Properties{"plan": "pro", "$ai_model": "not this"},
		})
		r.flush(t)
		e := r.ph.Events()[0]
		if !e.Timestamp.Equal(start.UTC()) || e.DistinctID != "ada" || e.Route != "/i/v0/ai/batch" {
			t.Errorf("%+v", e)
		}
		props(t, e, map[string]string{
			"$ai_provider": `"bedrock"`, "$ai_model": `"m-2"`, "model_requested": `"m"`, "$ai_input_tokens": "12", "$ai_output_tokens": "0", "$ai_total_cost_usd": "0.0125", "$ai_cost_passthrough": "true",
			"$ai_latency": "1", "$ai_time_to_first_token": "0.2", "$ai_stream": "true", "$ai_http_status": "200", "$ai_is_error": "false", "$ai_stop_reason": `"end_turn"`,
			"$ai_completion_id": `"c-1"`, "$ai_base_url": `"https://bedrock.test"`, "$ai_span_name": `"answer"`, "$ai_model_parameters": `{"temperature":0.2}`, "plan": `"pro"`,
			"$ai_trace_id": `"trace-1"`, "$ai_input": `[{"role":"system","content":"be brief"},{"role":"user","content":"` + prompt + `"}]`,
			"$ai_output_choices": `[{"role":"assistant","content":"no"}]`, "$ai_tools": `[{"name":"t"}]`, "status": `"success"`,
		})
		if e.Number("$ai_total_tokens") != 12 || e.Has("$ai_cache_read_input_tokens") || !e.Has("$ai_span_id") || !e.Has("prompt_hash") {
			t.Errorf("%v", e.Properties)
		}
	})
}

func TestCaptureFailures(t *testing.T) {
	for _, tt := range []struct {
		g            hedgerow.Generation
		status, kind string
	}{
		{hedgerow.Generation{Err: errors.New("boom")}, "error", ""},
		{hedgerow.Generation{Err: fmt.Errorf("call: %w", context.DeadlineExceeded)}, "timeout", event.ErrTypeTimeout},
		{hedgerow.Generation{Err: context.Canceled}, "error", event.ErrTypeClientGone},
		{hedgerow.Generation{HTTPStatus: 422, Err: errors.New("bad"), ErrorType: "invalid"}, "validation_failed", "invalid"},
		{hedgerow.Generation{HTTPStatus: 529}, "error", "status_529"},
		{hedgerow.Generation{StopReason: "content_filter"}, "blocked", "content_filter"},
	} {
		bubble(t, nil, func(t *testing.T, r *rig) {
			tt.g.Model = "m"
			r.CaptureGeneration(t.Context(), tt.g)
			r.flush(t)
			e := r.ph.Events()[0]
			if e.Text("status") != tt.status || e.Text("$ai_error_type") != tt.kind || e.Text("$ai_is_error") != "true" || e.Text("error_code") == "" {
				t.Errorf("%+v: status %s, type %s", tt.g, e.Text("status"), e.Text("$ai_error_type"))
			}
		})
	}
}

func TestCaptureEmbedding(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		r.CaptureEmbedding(t.Context(), hedgerow.Embedding{Provider: "openai", Model: "text-embedding-3-small", Input: []string{"a", "b"}, InputTokens: 2, Latency: time.Second})
		r.flush(t)
		e := r.ph.Events()[0]
		if e.Name != event.Embedding || e.Has("$ai_output_choices") || e.Has("$ai_stream") {
			t.Errorf("%+v", e)
		}
		props(t, e, map[string]string{"$ai_input": `["a","b"]`, "$ai_input_tokens": "2", "operation": `"embeddings"`})
	})
}

// Nested steps keep their structure.
func TestTraces(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		ctx := hedgerow.WithUser(hedgerow.WithSession(t.Context(), "s"), "ada")
		tctx, trace := r.StartTrace(ctx, "ticket")
		trace.SetInput(map[string]any{"question": prompt})
		sctx, span := r.StartSpan(tctx, "search")
		r.CaptureGeneration(sctx, hedgerow.Generation{Model: "m"})
		ictx, inner := r.StartSpan(sctx, "rank")
		time.Sleep(time.Second)
		inner.SetProperty("hits", 3)
		inner.End()
		inner.End()
		inner.SetProperty("hits", 4)
		span.SetError(errors.New("no hits"))
		span.End()
		r.CaptureGeneration(tctx, hedgerow.Generation{Model: "m2"})
		trace.SetOutput("done")
		trace.End()
		r.flush(t)
		got := r.ph.Events()
		if len(got) != 5 {
			t.Fatalf("%d events", len(got))
		}
		by := map[string]simposthog.Event{}
		for _, e := range got {
			by[e.Text("$ai_span_name")+e.Text("$ai_model")] = e
			if e.Text("$ai_trace_id") != trace.TraceID() || e.DistinctID != "ada" || e.Text("$ai_session_id") != "s" || e.Text("$ai_trace_name") != "ticket" && e.Name != event.Trace {
				t.Errorf("%s: %s", e.Name, e.Raw)
			}
		}
		for name, parent := range map[string]string{"ticket": "", "search": trace.TraceID(), "m": span.ID(), "rank": span.ID(), "m2": trace.TraceID()} {
			if got := by[name].Text("$ai_parent_id"); got != parent {
				t.Errorf("the parent of %s is %q, want %q", name, got, parent)
			}
		}
		props(t, by["rank"], map[string]string{"$ai_latency": "1", "hits": "3", "$ai_span_id": `"` + inner.ID() + `"`})
		props(t, by["search"], map[string]string{"$ai_is_error": "true", "$ai_error": `"no hits"`})
		props(t, by["ticket"], map[string]string{"$ai_input_state": `{"question":"` + prompt + `"}`, "$ai_output_state": `"done"`, "$ai_latency": "1"})
		if by["ticket"].Name != event.Trace || hedgerow.TraceID(ictx) != trace.TraceID() {
			t.Errorf("%s", by["ticket"].Raw)
		}
	})
}

func TestTraceIDs(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		ctx, trace := r.StartTrace(hedgerow.WithTrace(t.Context(), "mine"), "a")
		if trace.TraceID() != "mine" || trace.ID() != "mine" {
			t.Errorf("trace %q", trace.TraceID())
		}
		if _, other := r.StartTrace(ctx, "b"); other.TraceID() == "mine" {
			t.Error("a trace within a trace has its id")
		}
		_, span := r.StartSpan(t.Context(), "alone")
		if span.TraceID() == "" {
			t.Error("a span alone has no trace")
		}
		if id := hedgerow.TraceID(hedgerow.WithTrace(t.Context(), "")); len(id) != 36 {
			t.Errorf("a new trace id is %q", id)
		}
		if hedgerow.TraceID(t.Context()) != "" {
			t.Error("a plain context has a trace")
		}
	})
}

func TestFeedbackMetricsOutcomes(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		ctx := hedgerow.WithUser(hedgerow.WithTrace(t.Context(), "trace-1"), "ada")
		yes, score := true, 0.5
		r.CaptureFeedback(ctx, hedgerow.Feedback{Text: "too long", Properties: hedgerow.Properties{"from": "chat"}})
		r.CaptureMetric(ctx, hedgerow.Metric{TraceID: "trace-2", Name: "accuracy", Value: 0.9, Version: "2"})
		r.CaptureRating(ctx, hedgerow.Rating{Feedback: "negative", EvalName: "accuracy", EvalPassed: &yes, EvalScore: &score, ReasonCode: "wrong_format", Edited: &yes})
		r.CaptureOutcome(ctx, hedgerow.Outcome{TaskType: "support_reply", Completed: true, Accepted: &yes, Retries: 2})
		r.flush(t)
		by := map[string]simposthog.Event{}
		for _, e := range r.ph.Events() {
			by[e.Name] = e
		}
		props(t, by[event.Feedback], map[string]string{"$ai_feedback_text": `"too long"`, "$ai_trace_id": `"trace-1"`, "from": `"chat"`})
		props(t, by[event.Metric], map[string]string{"$ai_metric_name": `"accuracy"`, "$ai_metric_value": "0.9", "$ai_metric_version": `"2"`, "$ai_trace_id": `"trace-2"`})
		props(t, by["llm_output_rated"], map[string]string{"user_feedback": `"negative"`, "eval_name": `"accuracy"`, "eval_passed": "true", "eval_score": "0.5", "eval_reason_code": `"wrong_format"`, "edited_output": "true", "trace_id": `"trace-1"`, "accepted_output": ""})
		props(t, by["llm_task_completed"], map[string]string{"task_completed": "true", "task_type": `"support_reply"`, "retry_count": "2", "accepted_output": "true", "escalated_to_human": ""})
		if by["llm_task_completed"].Route != "/batch" || by[event.Metric].Route != "/i/v0/ai/batch" || by[event.Metric].DistinctID != "ada" {
			t.Errorf("%+v", by)
		}
	})
}

// In privacy mode states, feedback and errors are not sent.
func TestManualPrivacy(t *testing.T) {
	bubble(t, func(c *hedgerow.Config) { c.PrivacyMode = true }, func(t *testing.T, r *rig) {
		ctx, trace := r.StartTrace(t.Context(), "t")
		trace.SetInput(prompt)
		trace.SetOutput(map[string]string{"answer": prompt})
		r.CaptureGeneration(ctx, hedgerow.Generation{Model: "m", Input: prompt, Output: prompt, Err: errors.New(prompt), Tools: []any{map[string]any{"name": "t", "description": prompt}}})
		r.CaptureEmbedding(ctx, hedgerow.Embedding{Model: "m", Input: prompt})
		r.CaptureFeedback(ctx, hedgerow.Feedback{Text: prompt})
		trace.SetError(errors.New(prompt))
		trace.End()
		r.flush(t)
		if n := r.ph.Count(); n != 4 {
			t.Errorf("%d events", n)
		}
		for _, e := range r.ph.Events() {
			if strings.Contains(string(e.Raw), "blackthorn") {
				t.Errorf("content was sent: %s", e.Raw)
			}
		}
	})
}

func TestNilManual(t *testing.T) {
	var c *hedgerow.Client
	ctx, trace := c.StartTrace(t.Context(), "t")
	ctx, span := c.StartSpan(ctx, "s")
	for _, s := range []*hedgerow.Span{trace, span} {
		s.SetInput(1)
		s.SetOutput(1)
		s.SetError(nil)
		s.SetProperty("a", 1)
		s.End()
		if s.ID() != "" || s.TraceID() != "" {
			t.Error("a nil span has ids")
		}
	}
	c.CaptureGeneration(ctx, hedgerow.Generation{})
	c.CaptureEmbedding(ctx, hedgerow.Embedding{})
	c.CaptureFeedback(ctx, hedgerow.Feedback{})
	c.CaptureMetric(ctx, hedgerow.Metric{})
	c.CaptureRating(ctx, hedgerow.Rating{})
	c.CaptureOutcome(ctx, hedgerow.Outcome{})
}

type badError struct{}

func (badError) Error() string { panic("boom") }

func TestOddContent(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		r.CaptureGeneration(t.Context(), hedgerow.Generation{Model: "m", Input: make(chan int), Output: json.RawMessage("{"), Err: badError{}, Parameters: hedgerow.Properties{"f": func() {}}})
		r.flush(t)
		e := r.ph.Events()[0]
		if e.Has("$ai_input") || e.Has("$ai_output_choices") || e.Text("$ai_is_error") != "true" {
			t.Errorf("%s", e.Raw)
		}
		synctest.Wait()
	})
}

// TestRouteOfCapture: what Capture records has no other route because of its name,
// unless it is larger than /batch/ takes.
func TestRouteOfCapture(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		r.Capture(t.Context(), event.Generation, hedgerow.Properties{"$ai_model": "m"})
		r.Capture(t.Context(), event.Generation, hedgerow.Properties{"$ai_model": "m", "$ai_input": slices.Repeat([]any{map[string]any{"role": "user", "content": strings.Repeat("the wren ", 10_000)}}, 20)})
		r.CaptureEvent(t.Context(), &event.Event{Name: event.Generation, Model: "m"})
		r.CaptureAIEvent(t.Context(), &event.Event{Name: event.Generation, Model: "m"})
		r.CaptureAIEvent(t.Context(), &event.Event{Name: "e"})
		r.flush(t)
		routes := map[string]int{}
		for _, e := range r.ph.Events() {
			routes[e.Route]++
			if e.Has("content_dropped") {
				t.Error("a large event has lost its content")
			}
		}
		if len(r.ph.Events()) != 5 || routes["/batch"] != 3 || routes["/i/v0/ai/batch"] != 2 {
			t.Errorf("%v", routes)
		}
	})
}
