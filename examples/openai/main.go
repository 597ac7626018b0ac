// Command openai streams an answer by openai-go and captures the call.
//
//	OPENAI_API_KEY=… HEDGEROW_API_KEY=phc_… HEDGEROW_HOST=http://127.0.0.1:4100 go run ./examples/openai
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
		log.Print(err) // the program works without analytics: a nil client does nothing
	}
	defer func() {
		if err := client.Close(ctx); err != nil {
			log.Print(err)
		}
	}()
	llm := openai.NewClient(option.WithMiddleware(client.Middleware())) // OPENAI_API_KEY, OPENAI_BASE_URL

	ctx = hedgerow.WithUser(ctx, "ada")
	ctx = hedgerow.WithPrompt(hedgerow.WithSurface(ctx, "Conversation"), "explain", "2")
	stream := llm.Chat.Completions.NewStreaming(ctx, openai.ChatCompletionNewParams{
		Model:    "gpt-4.1-mini",
		Messages: []openai.ChatCompletionMessageParamUnion{openai.SystemMessage("Be brief."), openai.UserMessage("What is a hedgerow?")},
	})
	for stream.Next() {
		for _, c := range stream.Current().Choices {
			fmt.Print(c.Delta.Content)
		}
	}
	fmt.Println()
	if err := stream.Err(); err != nil {
		log.Print(err)
	}
}
