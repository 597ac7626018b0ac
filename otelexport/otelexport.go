package otelexport

import (
	"context"
	"sync"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/hedgerow/hedgerow"
)

// NewExporter returns an exporter that passes spans to the client, which
// batches, retries and drops by its own settings: ExportSpans never waits and
// never fails. Shutdown flushes the client and does not close it.
//
//	sdktrace.NewTracerProvider(sdktrace.WithBatcher(otelexport.NewExporter(client)))
func NewExporter(c *hedgerow.Client) sdk.SpanExporter { return exporter{c} }

type exporter struct{ c *hedgerow.Client }

func (x exporter) ExportSpans(_ context.Context, spans []sdk.ReadOnlySpan) error {
	if !x.c.Enabled() {
		return nil
	}
	for _, s := range spans {
		if e := convert(s); e != nil {
			// The context is the batch's, not the span's.
			x.c.CaptureAIEvent(context.Background(), e)
		}
	}
	return nil
}

func (x exporter) Shutdown(ctx context.Context) error { return x.c.Flush(ctx) }

// NewProcessor returns a processor that passes each span to the client as it
// ends, along with what the context said with which it was started. ForceFlush
// and Shutdown flush the client; it is not closed.
//
//	sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(otelexport.NewProcessor(client)))
func NewProcessor(c *hedgerow.Client) sdk.SpanProcessor { return &processor{c: c} }

type processor struct {
	c    *hedgerow.Client
	open sync.Map // spanKey → context.Context of the spans that have begun
}

type spanKey struct {
	trace trace.TraceID
	span  trace.SpanID
}

func keyOf(s trace.SpanContext) spanKey { return spanKey{s.TraceID(), s.SpanID()} }

func (p *processor) OnStart(parent context.Context, s sdk.ReadWriteSpan) {
	if p.c.Enabled() {
		p.open.Store(keyOf(s.SpanContext()), parent)
	}
}

func (p *processor) OnEnd(s sdk.ReadOnlySpan) {
	if !p.c.Enabled() {
		return
	}
	ctx := context.Background()
	if v, ok := p.open.LoadAndDelete(keyOf(s.SpanContext())); ok {
		ctx = v.(context.Context)
	}
	if e := convert(s); e != nil {
		p.c.CaptureAIEvent(ctx, e)
	}
}

func (p *processor) ForceFlush(ctx context.Context) error { return p.c.Flush(ctx) }
func (p *processor) Shutdown(ctx context.Context) error   { return p.c.Flush(ctx) }

// SpanContext returns the trace and span of a context as hex ids; "" where it has
// none. Set it as [hedgerow.Config.SpanContext].
func SpanContext(ctx context.Context) (traceID, spanID string) {
	s := trace.SpanContextFromContext(ctx)
	if !s.IsValid() {
		return "", ""
	}
	return s.TraceID().String(), s.SpanID().String()
}
