package sdktest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"strings"
	"time"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"github.com/hedgerow/hedgerow"
	"github.com/hedgerow/hedgerow/event"
)

// The whole of it: one client for the process, one option for the client of the
// provider.
func Example() {
	ctx := context.Background()
	sandbox := newSandbox()
	defer sandbox.close()

	client, err := hedgerow.New(sandbox.config) // in a program: hedgerow.Config{APIKey: "phc_…", Host: "http://127.0.0.1:4100"}
	if err != nil {
		log.Print(err) // a nil client does nothing: the program works without analytics
	}
	llm := openai.NewClient(option.WithBaseURL(sandbox.OpenAI), option.WithAPIKey("sk-…"), option.WithMiddleware(client.Middleware()))

	ctx = hedgerow.WithUser(ctx, "ada")
	if _, err := llm.Chat.Completions.New(ctx, openai.ChatCompletionNewParams{
		Model:    "gpt-4.1-mini",
		Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("What is a hedgerow?")},
	}); err != nil {
		log.Fatal(err)
	}

	if err := client.Close(ctx); err != nil {
		log.Print(err)
	}
	sandbox.print("$ai_provider", "model_requested", "status")
	// Output:
	// $ai_generation provider=openai model_requested=gpt-4.1-mini status=success
}

// What is wrong with a configuration is said, with what to do about it.
func ExampleNew_error() {
	_, err := hedgerow.New(hedgerow.Config{APIKey: "phx_mine"})
	var e *event.Error
	fmt.Println(errors.As(err, &e), e.Message)
	// Output:
	// true the API key is a personal or secret key of PostHog, not a project key
}

// A disabled client needs no key and does nothing.
func ExampleConfig_disabled() {
	client, err := hedgerow.New(hedgerow.Config{Disabled: true})
	client.Capture(context.Background(), "prompt_shared", nil)
	fmt.Println(client.Enabled(), err)
	// Output:
	// false <nil>
}

// In a function that may be frozen after its answer, small batches and a flush.
func ExampleClient_Flush() {
	sandbox := newSandbox()
	defer sandbox.close()
	sandbox.config.Serverless = true
	client, err := hedgerow.New(sandbox.config)
	if err != nil {
		log.Fatal(err)
	}
	handler := func(ctx context.Context) {
		defer func() {
			ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
			defer cancel()
			_ = client.Flush(ctx)
		}()
		client.Capture(hedgerow.WithUser(ctx, "ada"), "prompt_shared", hedgerow.Properties{"size": 3})
	}
	handler(context.Background())
	sandbox.print("size")
	_ = client.Close(context.Background())
	// Output:
	// prompt_shared size=3
}

// A stream is captured while the caller reads it, with token counts that he did
// not have to ask for.
func ExampleClient_Middleware_stream() {
	ctx := context.Background()
	sandbox := newSandbox()
	defer sandbox.close()
	client, err := hedgerow.New(sandbox.config)
	if err != nil {
		log.Fatal(err)
	}
	llm := anthropic.NewClient(anthropicoption.WithBaseURL(sandbox.Anthropic), anthropicoption.WithAPIKey("sk-ant-…"), anthropicoption.WithMiddleware(client.Middleware()))

	stream := llm.Messages.NewStreaming(ctx, anthropic.MessageNewParams{
		Model: "claude-sonnet-4-5", MaxTokens: 100,
		Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("What is a hedgerow?"))},
	})
	for stream.Next() {
		_ = stream.Current() // show it
	}
	if err := stream.Err(); err != nil {
		log.Fatal(err)
	}
	_ = client.Close(ctx)
	sandbox.print("$ai_provider", "$ai_stream", "$ai_stop_reason", "$ai_is_error")
	// Output:
	// $ai_generation provider=anthropic stream=true stop_reason=end_turn is_error=false
}

// Any client that lets one set its http.Client: genai, go-openai, LangChainGo,
// Ollama.
func ExampleClient_Transport() {
	ctx := context.Background()
	sandbox := newSandbox()
	defer sandbox.close()
	client, err := hedgerow.New(sandbox.config)
	if err != nil {
		log.Fatal(err)
	}
	h := &http.Client{Transport: client.Transport(nil)}

	req, _ := http.NewRequestWithContext(ctx, http.MethodPost, sandbox.OpenAI+"/embeddings", strings.NewReader(`{"model":"text-embedding-3-small","input":"hedge"}`))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer sk-…")
	res, err := h.Do(req)
	if err != nil {
		log.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, res.Body)
	_ = res.Body.Close()

	_ = client.Close(ctx)
	sandbox.print("$ai_model", "$ai_http_status")
	// Output:
	// $ai_embedding model=text-embedding-3-small http_status=200
}

// The context says whose call it is and what it is for.
func ExampleWithTrace() {
	sandbox := newSandbox()
	defer sandbox.close()
	client, err := hedgerow.New(sandbox.config)
	if err != nil {
		log.Fatal(err)
	}
	ctx := hedgerow.WithUser(context.Background(), "ada")
	ctx = hedgerow.WithSession(ctx, "conversation-7")
	ctx = hedgerow.WithTrace(ctx, "ticket-42")
	ctx = hedgerow.WithPrompt(ctx, "support_answer", "3")
	ctx = hedgerow.WithSurface(ctx, "Conversation")
	ctx = hedgerow.WithTags(ctx, "beta")
	ctx = hedgerow.WithProperties(ctx, hedgerow.Properties{"plan": "pro"})
	ctx = hedgerow.WithGroups(ctx, map[string]string{"company": "acme"})

	client.CaptureGeneration(ctx, hedgerow.Generation{Provider: "openai", Model: "gpt-4.1-mini"})
	_ = client.Close(ctx)
	sandbox.print("$ai_trace_id", "$ai_session_id", "$ai_prompt_name", "$ai_prompt_version", "surface", "beta", "plan", "$groups")
	// Output:
	// $ai_generation trace_id=ticket-42 session_id=conversation-7 prompt_name=support_answer prompt_version=3 surface=Conversation beta=true plan=pro $groups={"company":"acme"}
}

// Without its words, a call is still counted, timed and identified.
func ExampleWithPrivacy() {
	sandbox := newSandbox()
	defer sandbox.close()
	client, err := hedgerow.New(sandbox.config)
	if err != nil {
		log.Fatal(err)
	}
	ctx := hedgerow.WithPrivacy(context.Background())
	client.CaptureGeneration(ctx, hedgerow.Generation{Model: "m", Input: "my account is locked", Output: "Let me see."})
	_ = client.Close(ctx)
	sandbox.print("$ai_input", "$ai_output_choices", "input_length", "output_category")
	// Output:
	// $ai_generation input=null output_choices=null input_length=20 output_category=text
}

// A call that no wrapper sees. Counts that are not set are unknown, which is not 0.
func ExampleClient_CaptureGeneration() {
	ctx := context.Background()
	sandbox := newSandbox()
	defer sandbox.close()
	client, err := hedgerow.New(sandbox.config)
	if err != nil {
		log.Fatal(err)
	}
	client.CaptureGeneration(ctx, hedgerow.Generation{
		Provider: "bedrock", Model: "claude-sonnet-4-5",
		Input:   []hedgerow.Message{{Role: "system", Content: "Be brief."}, {Role: "user", Content: "What is a hedgerow?"}},
		Output:  "A row of shrubs.",
		Usage:   hedgerow.Usage{Input: hedgerow.Some(21), Output: hedgerow.Some(6)},
		Latency: 1200 * time.Millisecond, StopReason: "end_turn",
	})
	client.CaptureEmbedding(ctx, hedgerow.Embedding{Provider: "bedrock", Model: "titan-embed", Input: []string{"a", "b"}, InputTokens: 2})
	_ = client.Close(ctx)
	sandbox.print("$ai_model", "$ai_input_tokens", "$ai_output_tokens", "$ai_latency")
	// Output:
	// $ai_embedding model=titan-embed input_tokens=2
	// $ai_generation model=claude-sonnet-4-5 input_tokens=21 output_tokens=6 latency=1.2
}

// The steps of an agent. Calls by a wrapper with one of these contexts take their
// place in the tree on their own.
func ExampleClient_StartTrace() {
	sandbox := newSandbox()
	defer sandbox.close()
	client, err := hedgerow.New(sandbox.config)
	if err != nil {
		log.Fatal(err)
	}
	ctx, trace := client.StartTrace(context.Background(), "answer a ticket")
	search, span := client.StartSpan(ctx, "search the manual")
	span.SetInput("hedges")
	client.CaptureGeneration(search, hedgerow.Generation{Model: "rewriter", Name: "rewrite the question"})
	span.SetOutput([]string{"chapter 3"})
	span.End()
	trace.End()

	_ = client.Close(ctx)
	sandbox.print("$ai_span_name", "$ai_input_state", "$ai_output_state")
	// Output:
	// $ai_generation span_name=rewrite the question
	// $ai_span span_name=search the manual input_state=hedges output_state=["chapter 3"]
	// $ai_trace span_name=answer a ticket
}

// Whether it helped.
func ExampleClient_CaptureOutcome() {
	sandbox := newSandbox()
	defer sandbox.close()
	client, err := hedgerow.New(sandbox.config)
	if err != nil {
		log.Fatal(err)
	}
	ctx := hedgerow.WithUser(hedgerow.WithTrace(context.Background(), "ticket-42"), "ada")
	accepted := true
	client.CaptureRating(ctx, hedgerow.Rating{Feedback: "positive"})
	client.CaptureOutcome(ctx, hedgerow.Outcome{TaskType: "support_reply", Completed: true, Accepted: &accepted})
	client.CaptureFeedback(ctx, hedgerow.Feedback{Text: "Just what I needed."})
	client.CaptureMetric(ctx, hedgerow.Metric{Name: "accuracy", Value: 0.9})
	_ = client.Close(ctx)
	sandbox.print("$ai_trace_id", "user_feedback", "task_type", "task_completed", "accepted_output", "$ai_feedback_text", "$ai_metric_name", "$ai_metric_value")
	// Output:
	// llm_output_rated trace_id=ticket-42 user_feedback=positive
	// llm_task_completed trace_id=ticket-42 task_type=support_reply task_completed=true accepted_output=true
	// $ai_feedback trace_id=ticket-42 feedback_text=Just what I needed.
	// $ai_metric trace_id=ticket-42 metric_name=accuracy metric_value=0.9
}

// Any event of a product.
func ExampleClient_Capture() {
	sandbox := newSandbox()
	defer sandbox.close()
	client, err := hedgerow.New(sandbox.config)
	if err != nil {
		log.Fatal(err)
	}
	ctx := hedgerow.WithSurface(hedgerow.WithUser(context.Background(), "ada"), "Compose")
	client.Capture(ctx, "prompt_shared", hedgerow.Properties{"audience": "team"})
	client.Capture(ctx, hedgerow.EventFirstValue, nil)
	_ = client.Close(ctx)
	sandbox.print("surface", "audience")
	// Output:
	// first_value_reached surface=Compose
	// prompt_shared surface=Compose audience=team
}

// The last word on what leaves.
func ExampleConfig_beforeSend() {
	sandbox := newSandbox()
	defer sandbox.close()
	sandbox.config.BeforeSend = func(e *event.Event) *event.Event {
		if e.Name == "debug" {
			return nil
		}
		delete(e.Properties, "internal_id")
		return e
	}
	client, err := hedgerow.New(sandbox.config)
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	client.Capture(ctx, "debug", nil)
	client.Capture(ctx, "prompt_shared", hedgerow.Properties{"internal_id": 7, "size": 3})
	_ = client.Close(ctx)
	sandbox.print("internal_id", "size")
	// Output:
	// prompt_shared size=3
}

// What was dropped is counted.
func ExampleClient_Stats() {
	sandbox := newSandbox()
	defer sandbox.close()
	sandbox.config.MaxRetries = -1
	sandbox.ph.SetDown(true)
	client, err := hedgerow.New(sandbox.config)
	if err != nil {
		log.Fatal(err)
	}
	client.Capture(context.Background(), "prompt_shared", nil)
	fmt.Println(client.Flush(context.Background()) != nil)
	fmt.Println(client.Stats().Lost(), client.Stats().Dropped)
	_ = client.Close(context.Background())
	// Output:
	// true
	// 1 map[retries:1]
}
