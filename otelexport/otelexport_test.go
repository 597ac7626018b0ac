package otelexport_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/hedgerow/hedgerow"
	"github.com/hedgerow/hedgerow/event"
	simposthog "github.com/hedgerow/hedgerow/internal/simulate/posthog"
	simprovider "github.com/hedgerow/hedgerow/internal/simulate/provider"
	"github.com/hedgerow/hedgerow/otelexport"
)

func newClient(t *testing.T, set func(*hedgerow.Config)) (*hedgerow.Client, *simposthog.Server) {
	t.Helper()
	ph := simposthog.New(simposthog.Options{})
	c := hedgerow.Config{
		SendContent: true,
		APIKey:      simposthog.Token, Host: "https://posthog.test", HTTPClient: &http.Client{Transport: ph.Transport()},
		Logger: slog.New(slog.DiscardHandler), SpanContext: otelexport.SpanContext,
	}
	if set != nil {
		set(&c)
	}
	client, err := hedgerow.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close(context.Background()) })
	return client, ph
}

var res = resource.NewSchemaless(attribute.String("service.name", "shop"), attribute.String("deployment.environment.name", "staging"), attribute.String("process.command_line", "shop --key=secret"))

const (
	input  = `[{"role":"user","parts":[{"type":"text","content":"the wren nests in the blackthorn"}]}]`
	output = `[{"role":"assistant","parts":[{"type":"text","content":"Yes."},{"type":"tool_call","id":"c1","name":"look","arguments":{"at":"hedge"}}],"finish_reason":"tool_calls"}]`
)

// record makes a small tree: a request, which tells nothing of models, an agent, a call of
// a model and a tool.
func record(ctx context.Context, tp *sdktrace.TracerProvider) (traceID string) {
	tr := tp.Tracer("shop/agent")
	at := time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)
	ctx, request := tr.Start(ctx, "POST /ask", trace.WithTimestamp(at))
	ctx, agent := tr.Start(ctx, "invoke_agent helper", trace.WithTimestamp(at), trace.WithAttributes(attribute.String("gen_ai.operation.name", "invoke_agent"), attribute.String("gen_ai.agent.name", "helper")))
	_, chat := tr.Start(ctx, "chat gpt-4.1-mini", trace.WithTimestamp(at), trace.WithAttributes(
		attribute.String("gen_ai.operation.name", "chat"), attribute.String("gen_ai.provider.name", "azure.ai.openai"), attribute.String("gen_ai.request.model", "gpt-4.1-mini"),
		attribute.String("gen_ai.response.model", "gpt-4.1-mini-2025-04-14"), attribute.Int("gen_ai.usage.input_tokens", 12), attribute.Int("gen_ai.usage.output_tokens", 3),
		attribute.Int("gen_ai.usage.cache_read.input_tokens", 4), attribute.Float64("gen_ai.request.temperature", 0.2), attribute.StringSlice("gen_ai.response.finish_reasons", []string{"tool_calls"}),
		attribute.String("gen_ai.response.id", "chatcmpl-1"), attribute.String("gen_ai.input.messages", input), attribute.String("gen_ai.output.messages", output),
		attribute.String("gen_ai.system_instructions", `[{"type":"text","content":"Be brief."}]`), attribute.String("gen_ai.conversation.id", "conv-1"),
		attribute.StringSlice("hedgerow.tags", []string{"production", "experiment-v2", "$no"}), attribute.String("server.address", "res.openai.azure.com"), attribute.Int("server.port", 443),
		attribute.String("feature", "search"), attribute.String("$ai_prompt_name", "welcome")))
	chat.End(trace.WithTimestamp(at.Add(1500 * time.Millisecond)))
	_, tool := tr.Start(ctx, "execute_tool look", trace.WithTimestamp(at), trace.WithAttributes(attribute.String("gen_ai.operation.name", "execute_tool"), attribute.String("gen_ai.tool.name", "look"),
		attribute.String("gen_ai.tool.call.arguments", `{"at":"hedge"}`)))
	tool.RecordError(errors.New("nothing there"))
	tool.SetStatus(codes.Error, "")
	tool.End(trace.WithTimestamp(at.Add(time.Second)))
	agent.End(trace.WithTimestamp(at.Add(2 * time.Second)))
	request.End(trace.WithTimestamp(at.Add(3 * time.Second)))
	return chat.SpanContext().TraceID().String()
}

func byName(t *testing.T, ph *simposthog.Server) map[string]simposthog.Event {
	t.Helper()
	by := map[string]simposthog.Event{}
	for _, e := range ph.Events() {
		by[e.Text("$ai_span_name")] = e
	}
	return by
}

func TestExporter(t *testing.T) {
	c, ph := newClient(t, nil)
	tp := sdktrace.NewTracerProvider(sdktrace.WithBatcher(otelexport.NewExporter(c)), sdktrace.WithResource(res))
	id := record(t.Context(), tp)
	if err := tp.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	by := byName(t, ph)
	if len(ph.Events()) != 3 {
		t.Fatalf("%d events, want those of agent, call and tool: %v", len(ph.Events()), by)
	}
	chat, agent, tool := by["chat gpt-4.1-mini"], by["helper"], by["look"]
	if chat.Name != event.Generation || agent.Name != event.Span || tool.Name != event.Span {
		t.Errorf("%s, %s, %s", chat.Name, agent.Name, tool.Name)
	}
	if !chat.Timestamp.Equal(time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)) || chat.UUID[14] != '7' {
		t.Errorf("at %v, uuid %s", chat.Timestamp, chat.UUID)
	}
	for name, want := range map[string]string{
		"$ai_trace_id": id, "$ai_parent_id": agent.Text("$ai_span_id"), "$ai_provider": "azure", "$ai_model": "gpt-4.1-mini-2025-04-14", "model_requested": "gpt-4.1-mini", "$ai_input_tokens": "12",
		"$ai_output_tokens": "3", "$ai_cache_read_input_tokens": "4", "$ai_cache_reporting_exclusive": "false", "$ai_latency": "1.5", "$ai_stop_reason": "tool_calls", "$ai_completion_id": "chatcmpl-1",
		"$ai_model_parameters": `{"temperature":0.2}`, "$ai_session_id": "conv-1", "production": "true", "experiment-v2": "true", "$ai_base_url": "res.openai.azure.com", "feature": "search",
		"$ai_prompt_name": "welcome", "environment": "staging", "service.name": "shop", "$ai_ingestion_source": "otel", "status": "success", "$ai_is_error": "false",
	} {
		if got := chat.Text(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if chat.Has("$no") || strings.Contains(string(chat.Raw), "command_line") || chat.Has("gen_ai.operation.name") {
		t.Errorf("%s", chat.Raw)
	}
	var in, out []map[string]any
	if json.Unmarshal(chat.Properties["$ai_input"], &in) != nil || len(in) != 2 || in[0]["content"] != "Be brief." || in[1]["content"] != "the wren nests in the blackthorn" {
		t.Errorf("input %s", chat.Properties["$ai_input"])
	}
	if json.Unmarshal(chat.Properties["$ai_output_choices"], &out) != nil || len(out) != 1 || !strings.Contains(string(chat.Properties["$ai_output_choices"]), `"type":"function"`) {
		t.Errorf("output %s", chat.Properties["$ai_output_choices"])
	}
	if tool.Text("$ai_is_error") != "true" || tool.Text("$ai_error") != "nothing there" || tool.Text("$ai_input_state") != `{"at":"hedge"}` || tool.Text("$ai_span_type") != "execute_tool" {
		t.Errorf("%s", tool.Raw)
	}
}

// A root that is no call is the trace; an export that comes twice is one event.
func TestRootAndRepetition(t *testing.T) {
	c, ph := newClient(t, nil)
	x := otelexport.NewExporter(c)
	tp := sdktrace.NewTracerProvider(sdktrace.WithSyncer(x), sdktrace.WithSyncer(x))
	_, s := tp.Tracer("t").Start(t.Context(), "gen_ai.workflow")
	s.End()
	if err := tp.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := ph.Events()
	if len(got) != 1 || got[0].Copies != 2 || got[0].Name != event.Trace {
		t.Errorf("%+v", got)
	}
}

func TestProcessorTakesTheContext(t *testing.T) {
	c, ph := newClient(t, func(c *hedgerow.Config) { c.PrivacyMode = true })
	tp := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(otelexport.NewProcessor(c)))
	ctx := hedgerow.WithTags(hedgerow.WithUser(hedgerow.WithTrace(t.Context(), "not this one"), "ada"), "beta")
	id := record(ctx, tp)
	if err := tp.ForceFlush(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer tp.Shutdown(t.Context())
	got := ph.Events()
	if len(got) != 3 {
		t.Fatalf("%d events", len(got))
	}
	for _, e := range got {
		if e.DistinctID != "ada" || e.Text("beta") != "true" || e.Text("$ai_trace_id") != id || !e.Has("$ai_parent_id") {
			t.Errorf("%s", e.Raw)
		}
		if strings.Contains(string(e.Raw), "blackthorn") || strings.Contains(string(e.Raw), "hedge\"") {
			t.Errorf("content left: %s", e.Raw)
		}
	}
}

// A call by a wrapper is a child of the current span.
func TestWrappersShareTheTrace(t *testing.T) {
	c, ph := newClient(t, nil)
	sim := simprovider.New(simprovider.Options{Seed: 1})
	if err := sim.Start(); err != nil {
		t.Fatal(err)
	}
	defer sim.Close()
	tp := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(otelexport.NewProcessor(c)))
	defer tp.Shutdown(t.Context())
	ctx, span := tp.Tracer("t").Start(t.Context(), "gen_ai.workflow")
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, sim.OpenAIURL()+"/v1/chat/completions", strings.NewReader(`{"model":"gpt-4.1-mini","messages":[{"role":"user","content":"hi"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer k")
	req.Header.Set("Content-Type", "application/json")
	client := &http.Client{Transport: c.Transport(nil)}
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status, err)
	}
	span.End()
	if err := c.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	gen := ph.Named(event.Generation)
	if len(gen) != 1 || gen[0].Text("$ai_trace_id") != span.SpanContext().TraceID().String() || gen[0].Text("$ai_parent_id") != span.SpanContext().SpanID().String() {
		t.Errorf("%+v", gen)
	}
}

func TestNil(t *testing.T) {
	tp := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(otelexport.NewProcessor(nil)), sdktrace.WithBatcher(otelexport.NewExporter(nil)))
	record(t.Context(), tp)
	if err := tp.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if a, b := otelexport.SpanContext(t.Context()); a != "" || b != "" {
		t.Error("a context without a span has one")
	}
}
