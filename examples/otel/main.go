// Command otel sends the OpenTelemetry spans of model calls, and makes calls by
// the middleware children of the current span.
//
//	OPENAI_API_KEY=… HEDGEROW_API_KEY=phc_… HEDGEROW_HOST=http://127.0.0.1:4100 go run ./examples/otel
package main

import (
	"context"
	"fmt"
	"log"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/hedgerow/hedgerow"
	"github.com/hedgerow/hedgerow/otelexport"
)

func main() {
	ctx := context.Background()
	client, err := hedgerow.New(hedgerow.Config{SpanContext: otelexport.SpanContext})
	if err != nil {
		log.Print(err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(otelexport.NewProcessor(client)))
	defer func() {
		if err := provider.Shutdown(ctx); err != nil { // flushes
			log.Print(err)
		}
		if err := client.Close(ctx); err != nil {
			log.Print(err)
		}
	}()
	llm := openai.NewClient(option.WithMiddleware(client.Middleware()))

	run, span := provider.Tracer("example").Start(hedgerow.WithUser(ctx, "ada"), "invoke_agent helper",
		trace.WithAttributes(attribute.String("gen_ai.operation.name", "invoke_agent"), attribute.StringSlice("hedgerow.tags", []string{"production", "experiment-v2"})))
	defer span.End()
	answer, err := llm.Chat.Completions.New(run, openai.ChatCompletionNewParams{
		Model: "gpt-4.1-mini", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("What is a hedgerow?")},
	})
	if err != nil {
		log.Print(err)
		return
	}
	fmt.Println(answer.Choices[0].Message.Content)
}
