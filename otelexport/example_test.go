package otelexport_test

import (
	"context"
	"fmt"
	"log"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/hedgerow/hedgerow"
	simposthog "github.com/hedgerow/hedgerow/internal/simulate/posthog"
	"github.com/hedgerow/hedgerow/otelexport"
)

// The exporter goes behind a batcher of OpenTelemetry's, where spans are sent
// elsewhere too.
func ExampleNewExporter() {
	ctx := context.Background()
	posthog := simposthog.New(simposthog.Options{}) // a simulated PostHog
	client, err := hedgerow.New(hedgerow.Config{APIKey: simposthog.Token, Host: "https://posthog.test", HTTPClient: &http.Client{Transport: posthog.Transport()}})
	if err != nil {
		log.Fatal(err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(otelexport.NewExporter(client)))

	_, span := provider.Tracer("shop").Start(ctx, "embeddings text-embedding-3-small", trace.WithAttributes(
		attribute.String("gen_ai.operation.name", "embeddings"), attribute.String("gen_ai.response.model", "text-embedding-3-small"), attribute.Int("gen_ai.usage.input_tokens", 7)))
	span.End()

	_ = provider.Shutdown(ctx) // exports what is left
	_ = client.Close(ctx)
	for _, e := range posthog.Events() {
		fmt.Println(e.Name, e.Text("$ai_model"), e.Text("$ai_input_tokens"))
	}
	// Output:
	// $ai_embedding text-embedding-3-small 7
}

func ExampleNewProcessor() {
	ctx := context.Background()
	posthog := simposthog.New(simposthog.Options{}) // a simulated PostHog
	client, err := hedgerow.New(hedgerow.Config{APIKey: simposthog.Token, Host: "https://posthog.test", HTTPClient: &http.Client{Transport: posthog.Transport()}})
	if err != nil {
		log.Fatal(err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(otelexport.NewProcessor(client)))

	_, span := provider.Tracer("shop").Start(hedgerow.WithTags(ctx, "production"), "chat gpt-4.1-mini", trace.WithAttributes(
		attribute.String("gen_ai.operation.name", "chat"), attribute.String("gen_ai.response.model", "gpt-4.1-mini"), attribute.Int("gen_ai.usage.input_tokens", 12)))
	span.End()

	_ = provider.Shutdown(ctx) // flushes
	_ = client.Close(ctx)
	for _, e := range posthog.Events() {
		fmt.Println(e.Name, e.Text("$ai_model"), e.Text("$ai_input_tokens"), e.Text("production"))
	}
	// Output:
	// $ai_generation gpt-4.1-mini 12 true
}
