// Command anthropic asks a question by anthropic-sdk-go and captures the call,
// without its words.
//
//	ANTHROPIC_API_KEY=… HEDGEROW_API_KEY=phc_… HEDGEROW_HOST=http://127.0.0.1:4100 go run ./examples/anthropic
package main

import (
	"context"
	"fmt"
	"log"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"

	"github.com/hedgerow/hedgerow"
)

func main() {
	ctx := context.Background()
	client, err := hedgerow.New(hedgerow.Config{PrivacyMode: true})
	if err != nil {
		log.Print(err)
	}
	defer func() {
		if err := client.Close(ctx); err != nil {
			log.Print(err)
		}
	}()
	llm := anthropic.NewClient(option.WithMiddleware(client.Middleware())) // ANTHROPIC_API_KEY, ANTHROPIC_BASE_URL

	message, err := llm.Messages.New(hedgerow.WithUser(ctx, "ada"), anthropic.MessageNewParams{
		Model: "claude-sonnet-4-5", MaxTokens: 100,
		Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("What is a hedgerow?"))},
	})
	if err != nil {
		log.Print(err)
		return
	}
	for _, block := range message.Content {
		fmt.Println(block.Text)
	}
}
