package providers_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/packages/param"
	"github.com/openai/openai-go/v3/responses"
	"github.com/openai/openai-go/v3/shared"

	simprovider "github.com/hedgerow/hedgerow/internal/simulate/provider"
)

func openaiClient(base string) openai.Client {
	return openai.NewClient(option.WithBaseURL(base), option.WithAPIKey("sk-test"), option.WithMaxRetries(0))
}

func anthropicClient(s *simprovider.Server) anthropic.Client {
	return anthropic.NewClient(anthropicoption.WithBaseURL(s.AnthropicURL()), anthropicoption.WithAPIKey("sk-ant-test"), anthropicoption.WithMaxRetries(0))
}

func sim(s string) option.RequestOption { return option.WithHeader("X-Sim", s) }

func asim(s string) anthropicoption.RequestOption { return anthropicoption.WithHeader("X-Sim", s) }

var weather = shared.FunctionDefinitionParam{
	Name: "get_weather",
	Parameters: shared.FunctionParameters{"type": "object", "required": []string{"city"}, "properties": map[string]any{
		"city": map[string]any{"type": "string"}, "unit": map[string]any{"type": "string", "enum": []string{"C", "F"}}}},
}

func chatParams() openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{Model: "gpt-4.1-mini", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("How tall is a hedge?")}}
}

// TestOpenAIChat has the official client read whole answers and streams, and
// asks that both say the same.
func TestOpenAIChat(t *testing.T) {
	s := start(t, simprovider.Options{Seed: 1})
	client := openaiClient(s.OpenAIURL() + "/v1")

	t.Run("Whole", func(t *testing.T) {
		got, err := client.Chat.Completions.New(t.Context(), chatParams())
		if err != nil {
			t.Fatal(err)
		}
		//lint:ignore SA1019 the simulation still supports it
		if got.Model != "gpt-4.1-mini-2025-04-14" || !strings.HasPrefix(got.ID, "chatcmpl-") || got.SystemFingerprint == "" || got.ServiceTier != "default" {
			t.Errorf("got %+v", got)
		}
		m := got.Choices[0]
		if m.FinishReason != "stop" || got.Usage.CompletionTokens != int64(simprovider.CountTokens(m.Message.Content)) {
			t.Errorf("%q: %+v", m.Message.Content, got.Usage)
		}
	})
	t.Run("Stream", func(t *testing.T) {
		p := chatParams()
		p.StreamOptions.IncludeUsage = param.NewOpt(true)
		p.N = param.NewOpt(int64(2))
		stream := client.Chat.Completions.NewStreaming(t.Context(), p)
		var acc openai.ChatCompletionAccumulator
		for stream.Next() {
			if !acc.AddChunk(stream.Current()) {
				t.Fatal("the chunk does not fit the ones before it")
			}
		}
		if err := stream.Err(); err != nil {
			t.Fatal(err)
		}
		if len(acc.Choices) != 2 || acc.Choices[1].Message.Content == "" || acc.Choices[0].FinishReason != "stop" {
			t.Errorf("choices %+v", acc.Choices)
		}
		want := int64(simprovider.CountTokens(acc.Choices[0].Message.Content) + simprovider.CountTokens(acc.Choices[1].Message.Content))
		if acc.Usage.CompletionTokens != want || acc.Usage.TotalTokens != want+acc.Usage.PromptTokens {
			t.Errorf("usage %+v, text has %d", acc.Usage, want)
		}
	})
	t.Run("Tools", func(t *testing.T) {
		p := chatParams()
		p.Tools = []openai.ChatCompletionToolUnionParam{openai.ChatCompletionFunctionTool(weather)}
		whole, err := client.Chat.Completions.New(t.Context(), p, sim("tools=2"))
		if err != nil {
			t.Fatal(err)
		}
		stream := client.Chat.Completions.NewStreaming(t.Context(), p, sim("tools=2"))
		var acc openai.ChatCompletionAccumulator
		for stream.Next() {
			acc.AddChunk(stream.Current())
		}
		if err := stream.Err(); err != nil {
			t.Fatal(err)
		}
		for name, choice := range map[string]openai.ChatCompletionChoice{"whole": whole.Choices[0], "stream": acc.Choices[0]} {
			if choice.FinishReason != "tool_calls" || len(choice.Message.ToolCalls) != 2 {
				t.Fatalf("%s: %+v", name, choice)
			}
			for _, call := range choice.Message.ToolCalls {
				var args struct{ City, Unit string }
				if err := json.Unmarshal([]byte(call.Function.Arguments), &args); err != nil || args.City == "" || args.Unit != "C" && args.Unit != "F" || call.Function.Name != "get_weather" || !strings.HasPrefix(call.ID, "call_") {
					t.Errorf("%s: %+v, err %v", name, call, err)
				}
			}
		}
		if a, b := whole.Choices[0].Message.ToolCalls[0].ID, whole.Choices[0].Message.ToolCalls[1].ID; a == b {
			t.Errorf("both calls are %s", a)
		}
	})
	t.Run("Reasoning", func(t *testing.T) {
		p := chatParams()
		p.Model = "o4-mini"
		got, err := client.Chat.Completions.New(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		if r := got.Usage.CompletionTokensDetails.ReasoningTokens; r == 0 || r >= got.Usage.CompletionTokens {
			t.Errorf("usage %+v", got.Usage)
		}
	})
	t.Run("Cached", func(t *testing.T) {
		p := chatParams()
		p.Messages = append(p.Messages, openai.SystemMessage(strings.Repeat("Be kind to wrens. ", 500)))
		got, err := client.Chat.Completions.New(t.Context(), p, sim("cached=1024"))
		if err != nil {
			t.Fatal(err)
		}
		if u := got.Usage; u.PromptTokensDetails.CachedTokens != 1024 || u.PromptTokens < 2000 {
			t.Errorf("usage %+v", u)
		}
	})
	t.Run("Refusal", func(t *testing.T) {
		got, err := client.Chat.Completions.New(t.Context(), chatParams(), sim("refusal"))
		if err != nil || got.Choices[0].Message.Refusal == "" || got.Choices[0].Message.Content != "" {
			t.Errorf("got %+v, err %v", got, err)
		}
	})
	t.Run("Length", func(t *testing.T) {
		p := chatParams()
		p.MaxCompletionTokens = param.NewOpt(int64(5))
		got, err := client.Chat.Completions.New(t.Context(), p)
		if err != nil || got.Choices[0].FinishReason != "length" || got.Usage.CompletionTokens != 5 {
			t.Errorf("got %+v, err %v", got, err)
		}
	})
	t.Run("JSONSchema", func(t *testing.T) {
		p := chatParams()
		p.ResponseFormat.OfJSONSchema = &shared.ResponseFormatJSONSchemaParam{JSONSchema: shared.ResponseFormatJSONSchemaJSONSchemaParam{Name: "verdict",
			Schema: map[string]any{"type": "object", "properties": map[string]any{"score": map[string]any{"type": "integer"}, "tags": map[string]any{"type": "array", "items": map[string]any{"type": "string"}}}}}}
		got, err := client.Chat.Completions.New(t.Context(), p)
		var v struct {
			Score int
			Tags  []string
		}
		if err != nil || json.Unmarshal([]byte(got.Choices[0].Message.Content), &v) != nil || v.Score == 0 || len(v.Tags) == 0 {
			t.Errorf("got %+v, err %v", got, err)
		}
	})
	t.Run("Error", func(t *testing.T) {
		_, err := client.Chat.Completions.New(t.Context(), chatParams(), sim("quota"))
		var e *openai.Error
		if !errors.As(err, &e) || e.StatusCode != 429 || e.Code != "insufficient_quota" || e.Response.Header.Get("X-Request-Id") == "" {
			t.Errorf("err %v", err)
		}
	})
	t.Run("MidStreamError", func(t *testing.T) {
		stream := client.Chat.Completions.NewStreaming(t.Context(), chatParams(), sim("mid_error"))
		n := 0
		for stream.Next() {
			n++
		}
		if err := stream.Err(); err == nil || !strings.Contains(err.Error(), "server_error") || n < 2 {
			t.Errorf("%d chunks, err %v", n, err)
		}
	})
	t.Run("UnknownModel", func(t *testing.T) {
		p := chatParams()
		p.Model = "claude-sonnet-4-5"
		_, err := client.Chat.Completions.New(t.Context(), p)
		var e *openai.Error
		if !errors.As(err, &e) || e.StatusCode != 404 || e.Code != "model_not_found" {
			t.Errorf("err %v", err)
		}
	})
	t.Run("Models", func(t *testing.T) {
		page, err := client.Models.List(t.Context())
		if err != nil || len(page.Data) < 5 {
			t.Fatalf("got %+v, err %v", page, err)
		}
		if m, err := client.Models.Get(t.Context(), page.Data[0].ID); err != nil || m.ID != page.Data[0].ID {
			t.Errorf("got %+v, err %v", m, err)
		}
	})
	t.Run("Embeddings", func(t *testing.T) {
		got, err := client.Embeddings.New(t.Context(), openai.EmbeddingNewParams{Model: "text-embedding-3-small", Input: openai.EmbeddingNewParamsInputUnion{OfArrayOfStrings: []string{"hedge", "two metres"}}})
		if err != nil || len(got.Data) != 2 || len(got.Data[1].Embedding) != 1536 || got.Usage.PromptTokens != 4 {
			t.Errorf("err %v, %d vectors, usage %+v", err, len(got.Data), got.Usage)
		}
	})
}

func TestOpenAIResponses(t *testing.T) {
	s := start(t, simprovider.Options{Seed: 1})
	client := openaiClient(s.OpenAIURL() + "/v1")
	params := func() responses.ResponseNewParams {
		return responses.ResponseNewParams{Model: "o4-mini", Input: responses.ResponseNewParamsInputUnion{OfString: param.NewOpt("How tall is a hedge?")},
			Reasoning: shared.ReasoningParam{Effort: "low", Summary: "auto"}}
	}
	// final reads a stream, checks that its events are numbered and fit together,
	// and returns the whole response at its end.
	final := func(t *testing.T, p responses.ResponseNewParams, opts ...option.RequestOption) (responses.Response, error) {
		t.Helper()
		stream := client.Responses.NewStreaming(t.Context(), p, opts...)
		var text, args, last strings.Builder
		var out responses.Response
		for n := int64(0); stream.Next(); n++ {
			e := stream.Current()
			if e.SequenceNumber != n {
				t.Errorf("event %s has number %d, want %d", e.Type, e.SequenceNumber, n)
			}
			switch e.Type {
			case "response.output_text.delta", "response.refusal.delta":
				text.WriteString(e.Delta)
			case "response.output_text.done":
				if e.Text != text.String() {
					t.Errorf("done says %q, deltas %q", e.Text, text.String())
				}
			case "response.function_call_arguments.delta":
				args.WriteString(e.Delta)
			case "response.function_call_arguments.done":
				if e.Arguments != args.String() {
					t.Errorf("done says %q, deltas %q", e.Arguments, args.String())
				}
				args.Reset()
			case "response.reasoning_summary_text.delta":
				last.WriteString(e.Delta)
			case "response.completed", "response.incomplete", "response.failed":
				out = e.Response
			}
		}
		return out, stream.Err()
	}
	check := func(t *testing.T, r *responses.Response, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if r.Status != "completed" || r.Model != "o4-mini-2025-04-16" || !strings.HasPrefix(r.ID, "resp_") || r.OutputText() == "" {
			t.Errorf("got %s", r.RawJSON())
		}
		u := r.Usage
		if u.OutputTokensDetails.ReasoningTokens == 0 || u.TotalTokens != u.InputTokens+u.OutputTokens || u.OutputTokens != u.OutputTokensDetails.ReasoningTokens+int64(simprovider.CountTokens(r.OutputText())) {
			t.Errorf("usage %+v", u)
		}
		if r.Output[0].Type != "reasoning" || len(r.Output[0].Summary) != 1 {
			t.Errorf("output %+v", r.Output)
		}
	}
	t.Run("Whole", func(t *testing.T) {
		r, err := client.Responses.New(t.Context(), params())
		check(t, r, err)
	})
	t.Run("Stream", func(t *testing.T) {
		r, err := final(t, params())
		check(t, &r, err)
	})
	t.Run("Tools", func(t *testing.T) {
		p := params()
		p.Tools = []responses.ToolUnionParam{{OfFunction: &responses.FunctionToolParam{Name: weather.Name, Parameters: weather.Parameters}}}
		r, err := final(t, p, sim("tools=2"))
		if err != nil {
			t.Fatal(err)
		}
		calls := 0
		for _, it := range r.Output {
			if it.Type == "function_call" && it.Name == "get_weather" && json.Valid([]byte(it.Arguments.OfString)) && it.CallID != "" {
				calls++
			}
		}
		if calls != 2 {
			t.Errorf("output %s", r.RawJSON())
		}
	})
	t.Run("Incomplete", func(t *testing.T) {
		r, err := final(t, params(), sim("length"))
		if err != nil || r.Status != "incomplete" || r.IncompleteDetails.Reason != "max_output_tokens" {
			t.Errorf("err %v, %s", err, r.RawJSON())
		}
	})
	t.Run("Refusal", func(t *testing.T) {
		r, err := client.Responses.New(t.Context(), params(), sim("refusal"))
		if err != nil || r.Output[1].Content[0].Type != "refusal" || r.Output[1].Content[0].Refusal == "" {
			t.Errorf("err %v, %s", err, r.RawJSON())
		}
	})
	t.Run("Failed", func(t *testing.T) {
		r, err := final(t, params(), sim("mid_error; stop=failed"))
		if err != nil || r.Status != "failed" || r.Error.Code != "server_error" {
			t.Errorf("err %v, %s", err, r.RawJSON())
		}
	})
	t.Run("MidStreamError", func(t *testing.T) {
		stream := client.Responses.NewStreaming(t.Context(), params(), sim("mid_error"))
		var last responses.ResponseStreamEventUnion
		for stream.Next() {
			last = stream.Current()
		}
		if last.Type != "error" || last.Code != "server_error" {
			t.Errorf("last event %s", last.RawJSON())
		}
	})
}

func TestAnthropicMessages(t *testing.T) {
	s := start(t, simprovider.Options{Seed: 1})
	client := anthropicClient(s)
	params := func() anthropic.MessageNewParams {
		return anthropic.MessageNewParams{Model: "claude-sonnet-4-5", MaxTokens: 3000, Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("How tall is a hedge?"))}}
	}
	tools := []anthropic.ToolUnionParam{{OfTool: &anthropic.ToolParam{Name: "get_weather", InputSchema: anthropic.ToolInputSchemaParam{Properties: map[string]any{"city": map[string]any{"type": "string"}}}}}}
	stream := func(t *testing.T, p anthropic.MessageNewParams, opts ...anthropicoption.RequestOption) (anthropic.Message, error) {
		t.Helper()
		st := client.Messages.NewStreaming(t.Context(), p, opts...)
		var m anthropic.Message
		for st.Next() {
			if err := m.Accumulate(st.Current()); err != nil {
				t.Fatal(err)
			}
		}
		return m, st.Err()
	}
	whole := func(t *testing.T, p anthropic.MessageNewParams, opts ...anthropicoption.RequestOption) (anthropic.Message, error) {
		m, err := client.Messages.New(t.Context(), p, opts...)
		if m == nil {
			m = &anthropic.Message{}
		}
		return *m, err
	}
	for name, ask := range map[string]func(*testing.T, anthropic.MessageNewParams, ...anthropicoption.RequestOption) (anthropic.Message, error){"Whole": whole, "Stream": stream} {
		t.Run(name, func(t *testing.T) {
			t.Run("Text", func(t *testing.T) {
				m, err := ask(t, params())
				if err != nil {
					t.Fatal(err)
				}
				if m.Model != "claude-sonnet-4-5-20250929" || m.StopReason != "end_turn" || len(m.Content) != 1 || m.Usage.OutputTokens != int64(simprovider.CountTokens(m.Content[0].Text)) {
					t.Errorf("got %+v", m)
				}
			})
			t.Run("Cache", func(t *testing.T) {
				m, err := ask(t, params(), asim("input=5000; cached=4000; cache_write=200; cache_write_1h=300; searches=2"))
				if err != nil {
					t.Fatal(err)
				}
				u := m.Usage
				if u.InputTokens != 500 || u.CacheReadInputTokens != 4000 || u.CacheCreationInputTokens != 500 || u.CacheCreation.Ephemeral1hInputTokens != 300 || u.CacheCreation.Ephemeral5mInputTokens != 200 {
					t.Errorf("usage %+v", u)
				}
				if name == "Whole" && u.ServerToolUse.WebSearchRequests != 2 {
					t.Errorf("server tools %+v", u.ServerToolUse)
				}
			})
			t.Run("Tools", func(t *testing.T) {
				p := params()
				p.Tools = tools
				m, err := ask(t, p, asim("tools=2"))
				if err != nil {
					t.Fatal(err)
				}
				if m.StopReason != "tool_use" || len(m.Content) != 3 || m.Content[2].Name != "get_weather" || !json.Valid(m.Content[2].Input) || !strings.Contains(string(m.Content[2].Input), "city") {
					t.Errorf("got %+v", m.Content)
				}
			})
			t.Run("Thinking", func(t *testing.T) {
				p := params()
				p.Thinking = anthropic.ThinkingConfigParamOfEnabled(1024)
				m, err := ask(t, p)
				if err != nil {
					t.Fatal(err)
				}
				if m.Content[0].Type != "thinking" || m.Content[0].Thinking == "" || m.Content[0].Signature == "" || m.Content[1].Text == "" {
					t.Errorf("got %+v", m.Content)
				}
			})
			t.Run("Refusal", func(t *testing.T) {
				if m, err := ask(t, params(), asim("refusal")); err != nil || m.StopReason != "refusal" {
					t.Errorf("got %+v, err %v", m, err)
				}
			})
			t.Run("Overloaded", func(t *testing.T) {
				_, err := ask(t, params(), asim("overloaded"))
				var e *anthropic.Error
				if !errors.As(err, &e) || e.StatusCode != 529 || e.RequestID == "" {
					t.Errorf("err %v", err)
				}
			})
		})
	}
	t.Run("MidStreamError", func(t *testing.T) {
		m, err := stream(t, params(), asim("mid_error; after=4"))
		if err == nil || !strings.Contains(err.Error(), "overloaded_error") || len(m.Content) != 1 {
			t.Errorf("got %+v, err %v", m.Content, err)
		}
	})
	t.Run("CountTokens", func(t *testing.T) {
		n, err := client.Messages.CountTokens(t.Context(), anthropic.MessageCountTokensParams{Model: "claude-sonnet-4-5", Messages: params().Messages})
		if err != nil {
			t.Fatal(err)
		}
		m, err := client.Messages.New(t.Context(), params())
		if err != nil || m.Usage.InputTokens != n.InputTokens {
			t.Errorf("counted %d, used %+v, err %v", n.InputTokens, m.Usage, err)
		}
	})
	t.Run("Models", func(t *testing.T) {
		page, err := client.Models.List(t.Context(), anthropic.ModelListParams{})
		if err != nil || len(page.Data) < 2 {
			t.Errorf("got %+v, err %v", page, err)
		}
	})
}

func TestOpenRouter(t *testing.T) {
	s := start(t, simprovider.Options{Seed: 1})
	client := openaiClient(s.OpenRouterURL() + "/api/v1")
	p := chatParams()
	p.Model = "deepseek/deepseek-r1"
	stream := client.Chat.Completions.NewStreaming(t.Context(), p)
	var acc openai.ChatCompletionAccumulator
	var provider, reasoning, usage string
	for stream.Next() {
		c := stream.Current()
		acc.AddChunk(c)
		provider = c.JSON.ExtraFields["provider"].Raw()
		if len(c.Choices) > 0 {
			var part string
			_ = json.Unmarshal([]byte(c.Choices[0].Delta.JSON.ExtraFields["reasoning"].Raw()), &part)
			reasoning += part
		}
		if c.JSON.Usage.Valid() {
			usage = c.Usage.RawJSON()
		}
	}
	if err := stream.Err(); err != nil {
		t.Fatal(err)
	}
	var u struct {
		Cost       float64
		Prompt     int     `json:"prompt_tokens"`
		Completion int     `json:"completion_tokens"`
		Details    any     `json:"cost_details"`
		Byok       *bool   `json:"is_byok"`
		_          float64 //
	}
	if err := json.Unmarshal([]byte(usage), &u); err != nil {
		t.Fatal(err)
	}
	want := float64(u.Prompt)*0.4/1e6 + float64(u.Completion)*2/1e6
	if diff := u.Cost - want; diff > 1e-9 || diff < -1e-9 || u.Cost == 0 || u.Byok == nil {
		t.Errorf("usage %s, want cost %v", usage, want)
	}
	if provider != `"DeepSeek"` || reasoning == "" || acc.Choices[0].Message.Content == "" {
		t.Errorf("provider %s, reasoning %q, text %q", provider, reasoning, acc.Choices[0].Message.Content)
	}
	p.Model = "meta-llama/llama-3.3-70b-instruct:free"
	got, err := client.Chat.Completions.New(t.Context(), p)
	if err != nil || got.Usage.JSON.ExtraFields["cost"].Raw() != "0" || !strings.HasPrefix(got.ID, "gen-") {
		t.Errorf("got %s, err %v", got.RawJSON(), err)
	}
}
