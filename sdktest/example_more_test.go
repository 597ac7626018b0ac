package sdktest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"

	goopenai "github.com/sashabaranov/go-openai"

	"github.com/hedgerow/hedgerow"
	simposthog "github.com/hedgerow/hedgerow/internal/simulate/posthog"
)

// A client of another maker, by its http.Client.
func ExampleClient_Transport_goOpenAI() {
	ctx := context.Background()
	sandbox := newSandbox()
	defer sandbox.close()
	client, err := hedgerow.New(sandbox.config)
	if err != nil {
		log.Fatal(err)
	}
	config := goopenai.DefaultConfig("sk-…")
	config.BaseURL = sandbox.OpenAI
	config.HTTPClient = &http.Client{Transport: client.Transport(nil)}
	llm := goopenai.NewClientWithConfig(config)
	if _, err := llm.CreateChatCompletion(ctx, goopenai.ChatCompletionRequest{Model: "gpt-4.1-mini", Messages: []goopenai.ChatCompletionMessage{{Role: "user", Content: "What is a hedgerow?"}}}); err != nil {
		log.Fatal(err)
	}
	_ = client.Close(ctx)
	sandbox.print("$ai_provider", "$ai_stream", "$ai_http_status")
	// Output:
	// $ai_generation provider=openai stream=false http_status=200
}

// What is known of the caller, on everything that the context reaches.
func ExampleWithProperties() {
	sandbox := newSandbox()
	defer sandbox.close()
	client, err := hedgerow.New(sandbox.config)
	if err != nil {
		log.Fatal(err)
	}
	ctx := hedgerow.WithProperties(context.Background(), hedgerow.Properties{"plan": "pro"})
	ctx = hedgerow.WithGroups(ctx, map[string]string{"company": "acme"})
	ctx = hedgerow.WithTags(ctx, "beta")
	ctx = hedgerow.WithFlag(ctx, "new-model", "test")
	client.Capture(ctx, "prompt_shared", nil)
	_ = client.Close(ctx)
	sandbox.print("plan", "$groups", "beta", "$feature/new-model")
	// Output:
	// prompt_shared plan=pro $groups={"company":"acme"} beta=true $feature/new-model=test
}

// An embedding that no wrapper sees.
func ExampleClient_CaptureEmbedding() {
	ctx := context.Background()
	sandbox := newSandbox()
	defer sandbox.close()
	client, err := hedgerow.New(sandbox.config)
	if err != nil {
		log.Fatal(err)
	}
	client.CaptureEmbedding(ctx, hedgerow.Embedding{Provider: "bedrock", Model: "titan-embed", Input: []string{"a hedge", "a wren"}, InputTokens: 5})
	_ = client.Close(ctx)
	sandbox.print("$ai_model", "$ai_input_tokens")
	// Output:
	// $ai_embedding model=titan-embed input_tokens=5
}

// A check of an answer, in addition to users' ratings.
func ExampleClient_CaptureRating() {
	sandbox := newSandbox()
	defer sandbox.close()
	client, err := hedgerow.New(sandbox.config)
	if err != nil {
		log.Fatal(err)
	}
	ctx := hedgerow.WithTrace(context.Background(), "ticket-42")
	passed, score := false, 0.4
	client.CaptureRating(ctx, hedgerow.Rating{EvalName: "citations", EvalPassed: &passed, EvalScore: &score, ReasonCode: "missing_citation"})
	_ = client.Close(ctx)
	sandbox.print("$ai_trace_id", "eval_name", "eval_passed", "eval_score", "eval_reason_code")
	// Output:
	// llm_output_rated trace_id=ticket-42 eval_name=citations eval_passed=false eval_score=0.4 eval_reason_code=missing_citation
}

// A user's own words, about one call of a trace.
func ExampleClient_CaptureFeedback() {
	sandbox := newSandbox()
	defer sandbox.close()
	client, err := hedgerow.New(sandbox.config)
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	client.CaptureFeedback(ctx, hedgerow.Feedback{TraceID: "ticket-42", SpanID: "answer-1", Text: "Too long."})
	_ = client.Close(ctx)
	sandbox.print("$ai_trace_id", "$ai_feedback_text")
	// Output:
	// $ai_feedback trace_id=ticket-42 feedback_text=Too long.
}

// A measure of a trace.
func ExampleClient_CaptureMetric() {
	sandbox := newSandbox()
	defer sandbox.close()
	client, err := hedgerow.New(sandbox.config)
	if err != nil {
		log.Fatal(err)
	}
	ctx := hedgerow.WithTrace(context.Background(), "ticket-42")
	client.CaptureMetric(ctx, hedgerow.Metric{Name: "faithfulness", Value: 0.93, Version: "2"})
	_ = client.Close(ctx)
	sandbox.print("$ai_trace_id", "$ai_metric_name", "$ai_metric_value")
	// Output:
	// $ai_metric trace_id=ticket-42 metric_name=faithfulness metric_value=0.93
}

// Straight to PostHog: no prompts, the cost by the price table, in the five events
// of the llm_events schema, each with a link to its trace.
func ExampleConfig_postHog() {
	sandbox := newSandbox()
	defer sandbox.close()
	sandbox.config.APIKey, sandbox.config.Host = simposthog.Token, "https://us.i.posthog.com"
	sandbox.config.Schema, sandbox.config.UIBaseURL = hedgerow.SchemaLLMEvents, "https://hedgerow.example.com"
	client, err := hedgerow.New(sandbox.config)
	if err != nil {
		log.Fatal(err)
	}
	ctx := hedgerow.WithTrace(context.Background(), "ticket-42")
	client.CaptureGeneration(ctx, hedgerow.Generation{
		Provider: "openai", Model: "gpt-4.1-mini", Input: "my account is locked", Output: "Let me see.",
		Usage: hedgerow.Usage{Input: hedgerow.Some(1284), Output: hedgerow.Some(312)},
	})
	_ = client.Close(ctx)
	sandbox.print("estimated_cost_usd", "output_category", "trace_url")
	// Output:
	// llm_request_completed estimated_cost_usd=0.0010128 output_category=text trace_url=https://hedgerow.example.com/traces/ticket-42
	// llm_request_started trace_url=https://hedgerow.example.com/traces/ticket-42
}

// Events that wait in a folder outlive their process: the next client on the
// folder delivers them.
func ExampleConfig_spool() {
	ctx := context.Background()
	sandbox := newSandbox()
	defer sandbox.close()
	dir, err := os.MkdirTemp("", "spool-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	sandbox.config.SpoolDir, sandbox.config.Logger = dir, slog.New(slog.DiscardHandler)
	sandbox.ph.SetDown(true)
	client, err := hedgerow.New(sandbox.config)
	if err != nil {
		log.Fatal(err)
	}
	client.Capture(ctx, "prompt_shared", nil)
	gone, cancel := context.WithCancel(ctx)
	cancel() // no time left
	_ = client.Close(gone)
	fmt.Println("arrived:", len(sandbox.ph.Events()))

	sandbox.ph.SetDown(false)
	if client, err = hedgerow.New(sandbox.config); err != nil {
		log.Fatal(err)
	}
	_ = client.Close(ctx)
	fmt.Println("arrived:", len(sandbox.ph.Events()))
	// Output:
	// arrived: 0
	// arrived: 1
}

// hedgerowServer simulates hedgerow, with one flag.
func hedgerowServer() *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		var answer any = map[string]any{"status": "Ok"}
		if r.URL.Path == "/flags/" {
			answer = map[string]any{"flags": map[string]any{"support-prompt": map[string]any{"key": "support-prompt", "enabled": true, "variant": "treatment"}}}
		}
		_ = json.NewEncoder(w).Encode(answer)
	}))
}

// A feature flag for the user of the context. Later calls have it.
func ExampleClient_Flag() {
	server := hedgerowServer()
	defer server.Close()
	client, err := hedgerow.New(hedgerow.Config{APIKey: "phc_hedgerow_0123456789", Host: server.URL})
	if err != nil {
		log.Fatal(err)
	}
	ctx := hedgerow.WithUser(context.Background(), "ada")
	variant, err := client.Flag(ctx, "support-prompt")
	if err != nil {
		variant = "control" // the host cannot be asked: the program decides
	}
	ctx = hedgerow.WithFlag(ctx, "support-prompt", variant)
	fmt.Println(variant)
	_ = client.Close(ctx)
	// Output: treatment
}

// A prompt that is kept in hedgerow, with a fallback for when it cannot be asked.
func ExamplePrompts_Use() {
	prompts, err := hedgerow.NewPrompts(hedgerow.PromptsConfig{Host: "http://127.0.0.1:1", Key: "hr_…"}) // no server
	if err != nil {
		log.Fatal(err)
	}
	_, p, err := prompts.Use(context.Background(), "support", map[string]any{"name": "Ann"},
		hedgerow.PromptFallback(hedgerow.PromptMessage{Role: "system", Content: "Answer {{name}} briefly."}))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(p.Messages[0].Content)
	// Output: Answer Ann briefly.
}
