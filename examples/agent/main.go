// Command agent records a run of an agent: a trace, its steps, and the calls within
// them.
//
//	OPENAI_API_KEY=… HEDGEROW_API_KEY=phc_… HEDGEROW_HOST=http://127.0.0.1:4100 go run ./examples/agent
package main

import (
	"context"
	"fmt"
	"log"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"github.com/hedgerow/hedgerow"
)

func main() {
	ctx := context.Background()
	client, err := hedgerow.New(hedgerow.Config{})
	if err != nil {
		log.Print(err)
	}
	defer func() {
		if err := client.Close(ctx); err != nil {
			log.Print(err)
		}
	}()
	llm := openai.NewClient(option.WithMiddleware(client.Middleware()))

	run, trace := client.StartTrace(hedgerow.WithUser(ctx, "ada"), "answer a ticket")
	defer trace.End()
	trace.SetInput("My hedge does not grow.")

	pages := search(run, client, "hedge grow")
	answer, err := llm.Chat.Completions.New(run, openai.ChatCompletionNewParams{
		Model:    "gpt-4.1-mini",
		Messages: []openai.ChatCompletionMessageParamUnion{openai.SystemMessage("Use: " + pages), openai.UserMessage("My hedge does not grow.")},
	})
	if err != nil {
		trace.SetError(err)
		log.Print(err)
		return
	}
	trace.SetOutput(answer.Choices[0].Message.Content)
	fmt.Println(answer.Choices[0].Message.Content)
}

// search is a tool.
func search(ctx context.Context, client *hedgerow.Client, query string) string {
	_, span := client.StartSpan(ctx, "search the manual")
	defer span.End()
	span.SetInput(query)
	span.SetProperty("hits", 1)
	span.SetOutput("Water it.")
	return "Water it."
}
