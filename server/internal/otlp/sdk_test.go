package otlp_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/otlp"
)

// TestSDK sends gzipped spans with OpenTelemetry's own SDK, to a journal that
// is full at first: the exporter retries, and nothing is stored twice.
func TestSDK(t *testing.T) {
	h, k := newHandler(t, otlp.Limits{})
	var calls atomic.Int32
	k.err = func([]*event.Event) error {
		if calls.Add(1) == 1 {
			return errors.New("the journal is unavailable")
		}
		return nil
	}
	mux := http.NewServeMux()
	mux.Handle("/v1/traces", h)
	s := httptest.NewServer(mux)
	defer s.Close()
	ctx := t.Context()
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(s.URL+"/v1/traces"), otlptracehttp.WithHeaders(map[string]string{"Authorization": "Bearer " + token}),
		otlptracehttp.WithCompression(otlptracehttp.GzipCompression),
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{Enabled: true, InitialInterval: 10 * time.Millisecond, MaxInterval: 20 * time.Millisecond, MaxElapsedTime: time.Minute}))
	if err != nil {
		t.Fatal(err)
	}
	p := sdk.NewTracerProvider(sdk.WithBatcher(exporter), sdk.WithResource(resource.NewSchemaless(attribute.String("service.name", "go-app"), attribute.String("deployment.environment.name", "test"))))
	tracer := p.Tracer("my-agent")
	ctx, root := tracer.Start(ctx, "invoke_agent helper")
	root.SetAttributes(attribute.String("gen_ai.operation.name", "invoke_agent"), attribute.String("gen_ai.conversation.id", "c1"), attribute.String("user.id", "ada"))
	_, call := tracer.Start(ctx, "chat gpt-4o")
	call.SetAttributes(attribute.String("gen_ai.operation.name", "chat"), attribute.String("gen_ai.provider.name", "openai"), attribute.String("gen_ai.request.model", "gpt-4o"),
		attribute.Int("gen_ai.usage.input_tokens", 11), attribute.Int("gen_ai.usage.output_tokens", 3), attribute.StringSlice("gen_ai.response.finish_reasons", []string{"stop"}),
		attribute.String("gen_ai.output.messages", `[{"role":"assistant","parts":[{"type":"text","content":"Hi"}]}]`))
	call.End()
	_, tool := tracer.Start(ctx, "execute_tool t")
	tool.SetAttributes(attribute.String("gen_ai.operation.name", "execute_tool"))
	tool.RecordError(errors.New("no such thing"))
	tool.SetStatus(codes.Error, "failed")
	tool.End()
	_, other := tracer.Start(ctx, "GET /")
	other.End()
	root.End()
	if err := p.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	if calls.Load() != 2 {
		t.Errorf("%d appends, want the refused one and another", calls.Load())
	}
	byName := make(map[string]*event.Event)
	for _, e := range k.kept {
		byName[e.SpanName] = e
	}
	r, c, f := byName["invoke_agent helper"], byName["chat gpt-4o"], byName["execute_tool t"]
	if len(k.kept) != 3 || r == nil || c == nil || f == nil {
		t.Fatalf("%d events: %v", len(k.kept), byName)
	}
	if r.Name != event.Trace || r.TraceID != root.SpanContext().TraceID().String() || r.SpanID != root.SpanContext().SpanID().String() || r.ParentID != "" || r.SessionID != "c1" || r.DistinctID != "ada" {
		t.Errorf("root: %+v", r)
	}
	if c.Name != event.Generation || c.ParentID != r.SpanID || c.TraceID != r.TraceID || c.Usage.Input.Value != 11 || c.StopReason != "stop" || c.Environment != "test" || string(c.Content.Output) != `[{"role":"assistant","content":"Hi"}]` || string(c.Properties["service.name"]) != `"go-app"` || !c.Latency.Known {
		t.Errorf("call: %+v", c)
	}
	if f.Name != event.Span || !f.IsError || f.ErrorMessage != "failed" || f.ErrorType != "*errors.errorString" {
		t.Errorf("tool: %+v", f)
	}
}

// TestSDKWithWrongToken checks that the exporter stops retrying and reports the
// reason.
func TestSDKWithWrongToken(t *testing.T) {
	h, k := newHandler(t, otlp.Limits{})
	s := httptest.NewServer(h)
	defer s.Close()
	exporter, err := otlptracehttp.New(t.Context(), otlptracehttp.WithEndpointURL(s.URL+"/v1/traces"), otlptracehttp.WithHeaders(map[string]string{"Authorization": "Bearer phc_wrong"}))
	if err != nil {
		t.Fatal(err)
	}
	p := sdk.NewTracerProvider()
	_, span := p.Tracer("x").Start(t.Context(), "gen_ai.chat")
	span.End()
	if err := exporter.ExportSpans(t.Context(), []sdk.ReadOnlySpan{span.(sdk.ReadOnlySpan)}); err == nil {
		t.Error("no error")
	}
	if len(k.kept) != 0 {
		t.Error("events were stored with a wrong token")
	}
}
