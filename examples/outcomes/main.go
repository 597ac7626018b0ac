// Command outcomes records whether an answer helped, and a call that no wrapper
// sees.
//
//	HEDGEROW_API_KEY=phc_… HEDGEROW_HOST=http://127.0.0.1:4100 go run ./examples/outcomes
package main

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/hedgerow/hedgerow"
)

func main() {
	ctx := context.Background()
	client, err := hedgerow.New(hedgerow.Config{})
	if err != nil {
		log.Print(err)
	}
	ctx = hedgerow.WithTrace(hedgerow.WithUser(ctx, "ada"), "")

	client.CaptureGeneration(ctx, hedgerow.Generation{
		Provider: "local", Model: "llama-3", Input: "What is a hedgerow?", Output: "A row of shrubs.",
		Usage: hedgerow.Usage{Input: hedgerow.Some(6), Output: hedgerow.Some(5)}, Latency: 80 * time.Millisecond,
	})
	accepted := true
	client.CaptureRating(ctx, hedgerow.Rating{Feedback: "positive", Accepted: &accepted})
	client.CaptureFeedback(ctx, hedgerow.Feedback{Text: "Short and right."})
	client.CaptureMetric(ctx, hedgerow.Metric{Name: "accuracy", Value: 0.9})
	client.CaptureOutcome(ctx, hedgerow.Outcome{TaskType: "question", Completed: true})
	client.Capture(ctx, "prompt_shared", hedgerow.Properties{"audience": "team"})

	if err := client.Close(ctx); err != nil {
		log.Print(err)
	}
	fmt.Println(client.Stats().Sent, "events sent")
}
