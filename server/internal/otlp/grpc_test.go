package otlp_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/httpbody"
	"github.com/hedgerow/hedgerow/server/internal/otlp"
)

// serveGRPC serves a receiver and returns its address.
func serveGRPC(t *testing.T, h *otlp.Handler) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := h.GRPC()
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// TestGRPC sends gzipped spans with OpenTelemetry's own exporter, to a journal
// that is unavailable at first.
func TestGRPC(t *testing.T) {
	h, k := newHandler(t, otlp.Limits{})
	var calls atomic.Int32
	k.err = func([]*event.Event) error {
		if calls.Add(1) == 1 {
			return errors.New("the journal is unavailable")
		}
		return nil
	}
	exporter, err := otlptracegrpc.New(t.Context(), otlptracegrpc.WithEndpoint(serveGRPC(t, h)), otlptracegrpc.WithInsecure(), otlptracegrpc.WithCompressor("gzip"),
		otlptracegrpc.WithHeaders(map[string]string{"Authorization": "Bearer " + token}),
		otlptracegrpc.WithRetry(otlptracegrpc.RetryConfig{Enabled: true, InitialInterval: 10 * time.Millisecond, MaxInterval: 20 * time.Millisecond, MaxElapsedTime: time.Minute}))
	if err != nil {
		t.Fatal(err)
	}
	p := sdk.NewTracerProvider(sdk.WithBatcher(exporter))
	ctx, root := p.Tracer("app").Start(t.Context(), "invoke_agent helper")
	root.SetAttributes(attribute.String("gen_ai.operation.name", "invoke_agent"))
	_, call := p.Tracer("app").Start(ctx, "chat gpt-4o")
	call.SetAttributes(attribute.String("gen_ai.operation.name", "chat"), attribute.String("gen_ai.request.model", "gpt-4o"), attribute.Int("gen_ai.usage.input_tokens", 11))
	call.End()
	root.End()
	if err := p.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	if calls.Load() != 2 || len(k.kept) != 2 {
		t.Fatalf("%d appends, %d events", calls.Load(), len(k.kept))
	}
	if e := k.kept[0]; e.Name != event.Generation || e.TraceID != root.SpanContext().TraceID().String() || e.ParentID != root.SpanContext().SpanID().String() || e.Usage.Input.Value != 11 {
		t.Errorf("%+v", e)
	}
	if h.HeldBytes() != 0 {
		t.Errorf("%d bytes were not released", h.HeldBytes())
	}
}

// TestGRPCRefusals checks the codes, by which an exporter decides whether to
// retry.
func TestGRPCRefusals(t *testing.T) {
	span := func(model string) *collector.ExportTraceServiceRequest {
		s := &trace.Span{TraceId: unhex(t, strings.Repeat("ab", 16)), SpanId: unhex(t, strings.Repeat("cd", 8)), Name: "chat", StartTimeUnixNano: 1, EndTimeUnixNano: 2,
			Attributes: attributes(map[string]any{"gen_ai.operation.name": "chat", "gen_ai.request.model": model})}
		return &collector.ExportTraceServiceRequest{ResourceSpans: []*trace.ResourceSpans{{ScopeSpans: []*trace.ScopeSpans{{Spans: []*trace.Span{s}}}}}}
	}
	for _, tt := range []struct {
		name, token string
		req         *collector.ExportTraceServiceRequest
		err         error // the error of the journal
		want        codes.Code
		message     string
	}{
		{"no token", "", span("m"), nil, codes.Unauthenticated, "missing project token"},
		{"wrong token", "Bearer phc_wrong", span("m"), nil, codes.Unauthenticated, ""},
		{"too large", "Bearer " + token, span(strings.Repeat("m", 2<<20)), nil, codes.ResourceExhausted, ""},
		{"journal full", "Bearer " + token, span("m"), event.NewError(event.CodeFull, "full", "", nil), codes.Unavailable, "journal is full"},
		{"good", "Bearer " + token, span("m"), nil, codes.OK, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, k := newHandler(t, otlp.Limits{Limits: httpbody.Limits{Body: 1 << 20}})
			k.err = func([]*event.Event) error { return tt.err }
			conn, err := grpc.NewClient(serveGRPC(t, h), grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			ctx := t.Context()
			if tt.token != "" {
				ctx = metadata.AppendToOutgoingContext(ctx, "authorization", tt.token)
			}
			_, err = collector.NewTraceServiceClient(conn).Export(ctx, tt.req)
			s := status.Convert(err)
			if s.Code() != tt.want || !strings.Contains(s.Message(), tt.message) {
				t.Errorf("%v: %s", s.Code(), s.Message())
			}
			if retry := len(s.Details()) > 0; retry != (tt.want == codes.Unavailable) {
				t.Errorf("details: %v", s.Details())
			}
		})
	}
}

// TestGRPCPartialSuccess checks that valid spans are accepted and invalid ones
// counted, as over HTTP.
func TestGRPCPartialSuccess(t *testing.T) {
	req := readSpans(t, "semconv_current")
	req.ResourceSpans[0].ScopeSpans[0].Spans[1].SpanId = nil
	h, k := newHandler(t, otlp.Limits{})
	conn, err := grpc.NewClient(serveGRPC(t, h), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	response, err := collector.NewTraceServiceClient(conn).Export(metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token), req)
	if err != nil {
		t.Fatal(err)
	}
	if p := response.GetPartialSuccess(); p.GetRejectedSpans() != 1 || !strings.Contains(p.GetErrorMessage(), "span id") || len(k.kept) != 5 {
		t.Errorf("%v, %d events", p, len(k.kept))
	}
}
