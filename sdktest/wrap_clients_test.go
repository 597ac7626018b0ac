package sdktest_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	goopenai "github.com/sashabaranov/go-openai"
	"github.com/tmc/langchaingo/llms"
	langollama "github.com/tmc/langchaingo/llms/ollama"
	langopenai "github.com/tmc/langchaingo/llms/openai"

	"github.com/hedgerow/hedgerow"
	"github.com/hedgerow/hedgerow/event"
)

// simulated adds the header by which a test tells the simulated provider what to do.
type simulated struct {
	how  string
	next http.RoundTripper
}

func (s *simulated) RoundTrip(r *http.Request) (*http.Response, error) {
	if s.how != "" {
		r = r.Clone(r.Context())
		r.Header.Set("X-Sim", s.how)
	}
	return s.next.RoundTrip(r)
}

// TestTransportClients runs clients that know nothing of hedgerow but an
// http.Client: go-openai, LangChainGo for OpenAI, and for Ollama, whose own API it
// speaks. (Ollama's own package would bring some seventy modules with it.)
func TestTransportClients(t *testing.T) {
	h := newHedge(t, nil)
	sim := &simulated{next: http.DefaultTransport}
	httpClient := &http.Client{Transport: h.Transport(sim)}

	config := goopenai.DefaultConfig(callerKey)
	config.BaseURL, config.HTTPClient = h.sim.OpenAIURL()+"/v1", httpClient
	gopher := goopenai.NewClientWithConfig(config)
	config.BaseURL = h.sim.CompatibleURL("ollama") + "/v1"
	compatible := goopenai.NewClientWithConfig(config)
	lang, err := langopenai.New(langopenai.WithToken(callerKey), langopenai.WithBaseURL(h.sim.OpenAIURL()+"/v1"), langopenai.WithModel("gpt-4.1-mini"), langopenai.WithHTTPClient(httpClient))
	if err != nil {
		t.Fatal(err)
	}
	ollama, err := langollama.New(langollama.WithServerURL(h.sim.CompatibleURL("ollama")), langollama.WithModel("llama3.2"), langollama.WithHTTPClient(httpClient))
	if err != nil {
		t.Fatal(err)
	}

	schema := map[string]any{"type": "object", "properties": map[string]any{"city": map[string]any{"type": "string"}}}
	asked := goopenai.ChatCompletionRequest{Model: "gpt-4.1-mini", Messages: []goopenai.ChatCompletionMessage{{Role: "user", Content: prompt}}}
	withTools := asked
	withTools.Tools = []goopenai.Tool{{Type: goopenai.ToolTypeFunction, Function: &goopenai.FunctionDefinition{Name: "get_weather", Parameters: schema}}}
	stream := func(c *goopenai.Client, r goopenai.ChatCompletionRequest) func(context.Context) error {
		return func(ctx context.Context) error {
			s, err := c.CreateChatCompletionStream(ctx, r)
			if err != nil {
				return err
			}
			defer s.Close()
			for {
				if _, err := s.Recv(); err != nil {
					if errors.Is(err, io.EOF) {
						return nil
					}
					return err
				}
			}
		}
	}
	chat := func(c *goopenai.Client, r goopenai.ChatCompletionRequest) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := c.CreateChatCompletion(ctx, r)
			return err
		}
	}
	generate := func(m llms.Model, o ...llms.CallOption) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := m.GenerateContent(ctx, []llms.MessageContent{llms.TextParts(llms.ChatMessageTypeHuman, prompt)}, o...)
			return err
		}
	}
	streamed := llms.WithStreamingFunc(func(context.Context, []byte) error { return nil })
	tool := llms.WithTools([]llms.Tool{{Type: "function", Function: &llms.FunctionDefinition{Name: "get_weather", Parameters: schema}}})

	const text = "text=The hedge grows slowly."
	for _, c := range []struct {
		name, sim string
		call      func(context.Context) error
		fails     bool
		provider  string
		operation string
		streams   bool
		check     func(e *event.Event) bool
	}{
		{"go-openai", text, chat(gopher, asked), false, "openai", "chat", false, nil},
		{"go-openai stream", text, stream(gopher, asked), false, "openai", "chat", true, nil},
		{"go-openai tools", "tools=1", chat(gopher, withTools), false, "openai", "chat", false, calls},
		{"go-openai stream tools", "tools=2", stream(gopher, withTools), false, "openai", "chat", true, calls},
		{"go-openai error", "rate_limit", chat(gopher, asked), true, "openai", "chat", false, failed(429, "rate_limit_exceeded")},
		{"go-openai stream breaks", "mid_error; after=3", stream(gopher, asked), true, "openai", "chat", true, failed(200, "server_error")},
		{"go-openai embeddings", "", func(ctx context.Context) error {
			_, err := gopher.CreateEmbeddings(ctx, goopenai.EmbeddingRequest{Model: goopenai.SmallEmbedding3, Input: []string{prompt}})
			return err
		}, false, "openai", "embeddings", false, func(e *event.Event) bool { return e.Name == event.Embedding && e.Usage.Input.Value > 0 }},
		{"go-openai with Ollama", text, stream(compatible, asked), false, "openai", "chat", true, nil},
		{"LangChainGo", text, generate(lang), false, "openai", "chat", false, nil},
		{"LangChainGo stream", text, generate(lang, streamed), false, "openai", "chat", true, nil},
		{"LangChainGo tools", "tools=1", generate(lang, tool), false, "openai", "chat", false, calls},
		{"LangChainGo error", "server_error", generate(lang), true, "openai", "chat", false, failed(500, "server_error")},
		{"LangChainGo with Ollama", text, generate(ollama), false, "ollama", "ollama_chat", true, nil},
		{"LangChainGo with Ollama, stream", text, generate(ollama, streamed), false, "ollama", "ollama_chat", true, nil},
		{"LangChainGo with Ollama, error", "not_found", generate(ollama), true, "ollama", "ollama_chat", true, failed(404, "not_found")},
		{"LangChainGo with Ollama, embeddings", "", func(ctx context.Context) error {
			_, err := ollama.CreateEmbedding(ctx, []string{prompt})
			return err
		}, false, "ollama", "embeddings", false, func(e *event.Event) bool { return e.Name == event.Embedding && e.Usage.Input.Value > 0 }},
		{"Ollama tools", "tools=2", lined(httpClient, h.sim.CompatibleURL("ollama")+"/api/chat", `{"model":"llama3.2","messages":[{"role":"user","content":"`+prompt+`"}],"tools":[{"type":"function","function":{"name":"get_weather","parameters":{"type":"object","properties":{"city":{"type":"string"}}}}}]}`),
			false, "ollama", "ollama_chat", true, calls},
		{"Ollama generate", text, lined(httpClient, h.sim.CompatibleURL("ollama")+"/api/generate", `{"model":"llama3.2","prompt":"`+prompt+`"}`), false, "ollama", "ollama_generate", true, nil},
		{"Ollama breaks", "mid_error; after=2", lined(httpClient, h.sim.CompatibleURL("ollama")+"/api/generate", `{"model":"llama3.2","prompt":"`+prompt+`"}`),
			false, "ollama", "ollama_generate", true, failed(200, event.ErrTypeStream)},
	} {
		t.Run(c.name, func(t *testing.T) {
			sim.how = c.sim
			ctx := hedgerow.WithTrace(hedgerow.WithUser(t.Context(), "ada"), "trace-7")
			if err := c.call(ctx); (err != nil) != c.fails {
				t.Fatalf("%v", err)
			}
			e := h.one()
			if e.Provider != c.provider || e.Operation != c.operation || e.Stream.Value != c.streams || e.DistinctID != "ada" || e.TraceID != "trace-7" || e.ParseError != "" || !strings.Contains(string(e.Content.Input), prompt) {
				t.Errorf("%+v\n%s", e, e.Content.Input)
			}
			ok := !e.IsError && strings.Contains(string(e.Content.Output), "The hedge grows slowly.") && e.Usage.Input.Value > 0 && e.Usage.Output.Value > 0 && e.StopReason == "stop" && e.TimeToFirstToken.Known == c.streams
			if c.check != nil {
				ok = c.check(e)
			}
			if !ok {
				t.Errorf("%+v\n%s", e, e.Content.Output)
			}
		})
	}
}

func calls(e *event.Event) bool {
	return !e.IsError && strings.Contains(string(e.Content.Output), `"get_weather"`) && strings.Contains(string(e.Content.Tools), "get_weather") && e.Usage.Output.Value > 0
}

func failed(status int, kind string) func(*event.Event) bool {
	return func(e *event.Event) bool {
		return e.IsError && e.HTTPStatus == status && e.ErrorType == kind && e.ErrorMessage != ""
	}
}

// lined is a call of Ollama's own API as its package for Go makes it.
func lined(c *http.Client, url, body string) func(context.Context) error {
	return func(ctx context.Context) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
		if err != nil {
			return err
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Accept", "application/x-ndjson")
		res, err := c.Do(r)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, res.Body)
		return errors.Join(err, res.Body.Close())
	}
}
