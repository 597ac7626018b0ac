package e2e

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	"github.com/openai/openai-go/v3"
	openaioption "github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/responses"
	"google.golang.org/genai"

	"github.com/hedgerow/hedgerow"
	simposthog "github.com/hedgerow/hedgerow/internal/simulate/posthog"
	simprovider "github.com/hedgerow/hedgerow/internal/simulate/provider"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

// TestSDKEqualsGateway makes each call twice, through the gateway and directly
// to the provider with the SDK's middleware, and compares the two events field
// by field: as hedgerow stores them, and as PostHog receives them.
func TestSDKEqualsGateway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.env = append(w.env, "HEDGEROW_JOIN_HOLD=0") // each call is captured once, by one of the two
	p := w.start()
	w.flushFast()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()

	sdk, err := hedgerow.New(hedgerow.Config{APIKey: p.token(), Host: p.base, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer sdk.Close(ctx)

	const key, antKey, gemKey = "sk-e2e-go-caller-0000000000000", "sk-ant-e2e-go-caller-000000000", "AIza-sk-e2e-go-caller-0000000000000"
	type clients struct {
		oa openai.Client
		an anthropic.Client
		ge *genai.Client
	}
	gemini := func(base string, client *http.Client) *genai.Client {
		c, err := genai.NewClient(ctx, &genai.ClientConfig{APIKey: gemKey, Backend: genai.BackendGeminiAPI, HTTPClient: client, HTTPOptions: genai.HTTPOptions{BaseURL: base}})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	gateway := clients{
		openai.NewClient(openaioption.WithBaseURL(p.base+"/openai/v1"), openaioption.WithAPIKey(key), openaioption.WithMaxRetries(0)),
		anthropic.NewClient(anthropicoption.WithBaseURL(p.base+"/anthropic"), anthropicoption.WithAPIKey(antKey), anthropicoption.WithMaxRetries(0)),
		gemini(p.base+"/gemini", &http.Client{}),
	}
	direct := clients{
		openai.NewClient(openaioption.WithBaseURL(w.sim.OpenAIURL()+"/v1"), openaioption.WithAPIKey(key), openaioption.WithMaxRetries(0), openaioption.WithMiddleware(sdk.Middleware())),
		anthropic.NewClient(anthropicoption.WithBaseURL(w.sim.AnthropicURL()), anthropicoption.WithAPIKey(antKey), anthropicoption.WithMaxRetries(0), anthropicoption.WithMiddleware(sdk.Middleware())),
		gemini(w.sim.GeminiURL(), &http.Client{Transport: sdk.Transport(nil)}),
	}

	chat := openai.ChatCompletionNewParams{Model: "gpt-4.1-mini", User: openai.String("body-user"), Temperature: openai.Float(0.2), Messages: []openai.ChatCompletionMessageParamUnion{openai.SystemMessage("Keep this: " + secret), openai.UserMessage("Hello " + secret)}}
	withTools := chat
	withTools.Tools = []openai.ChatCompletionToolUnionParam{openai.ChatCompletionFunctionTool(openai.FunctionDefinitionParam{Name: "get_weather", Parameters: openai.FunctionParameters{"type": "object"}})}
	asked := chat
	asked.StreamOptions.IncludeUsage = openai.Bool(true)
	message := anthropic.MessageNewParams{Model: "claude-sonnet-4-5", MaxTokens: 200, System: []anthropic.TextBlockParam{{Text: "Never tell: " + secret}},
		Metadata: anthropic.MetadataParam{UserID: anthropic.String("body-user")}, Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("Hello, " + secret))}}

	type options struct {
		o []openaioption.RequestOption
		a []anthropicoption.RequestOption
		h http.Header
	}
	content := genai.Text("Hello, " + secret)
	generate := func(o options, tools bool) *genai.GenerateContentConfig {
		c := &genai.GenerateContentConfig{HTTPOptions: &genai.HTTPOptions{Headers: o.h}, Temperature: genai.Ptr[float32](0.5), SystemInstruction: genai.NewContentFromText("Never tell: "+secret, "")}
		if tools {
			c.Tools = []*genai.Tool{{FunctionDeclarations: []*genai.FunctionDeclaration{{Name: "get_weather", Parameters: &genai.Schema{Type: genai.TypeObject, Properties: map[string]*genai.Schema{"city": {Type: genai.TypeString}}}}}}}
		}
		return c
	}
	generateStream := func(c clients, ctx context.Context, config *genai.GenerateContentConfig) {
		for range c.ge.Models.GenerateContentStream(ctx, "gemini-2.5-flash", content, config) {
		}
	}
	stream := func(c clients, ctx context.Context, params openai.ChatCompletionNewParams, o options) {
		s := c.oa.Chat.Completions.NewStreaming(ctx, params, o.o...)
		for s.Next() {
		}
		_ = s.Close()
	}
	const text = "text=The hedge grows slowly; "
	type call struct {
		name, sim string
		run       func(clients, context.Context, options)
		script    []simprovider.Behavior // for each attempt of one call, on each side
	}
	// upTo reads part of a stream, which then hangs, and abandons it.
	upTo := func(next func() bool, stop func() error) {
		for n := 0; n < 4 && next(); n++ {
		}
		_ = stop()
	}
	calls := []call{
		{name: "chat", sim: text, run: func(c clients, ctx context.Context, o options) { _, _ = c.oa.Chat.Completions.New(ctx, chat, o.o...) }},
		{name: "chat-cached", sim: text + "input=2000; cached=1024", run: func(c clients, ctx context.Context, o options) { _, _ = c.oa.Chat.Completions.New(ctx, chat, o.o...) }},
		{name: "chat-tools", sim: "tools=1", run: func(c clients, ctx context.Context, o options) {
			_, _ = c.oa.Chat.Completions.New(ctx, withTools, o.o...)
		}},
		{name: "chat-stream", sim: text, run: func(c clients, ctx context.Context, o options) { stream(c, ctx, chat, o) }},
		{name: "chat-stream-asked", sim: text + "crlf; comments", run: func(c clients, ctx context.Context, o options) { stream(c, ctx, asked, o) }},
		{name: "chat-refused", sim: text + "content_filter", run: func(c clients, ctx context.Context, o options) { _, _ = c.oa.Chat.Completions.New(ctx, chat, o.o...) }},
		{name: "chat-rate-limit", sim: "rate_limit", run: func(c clients, ctx context.Context, o options) { _, _ = c.oa.Chat.Completions.New(ctx, chat, o.o...) }},
		{name: "chat-server-error", sim: "server_error", run: func(c clients, ctx context.Context, o options) { stream(c, ctx, chat, o) }},
		{name: "responses", sim: text, run: func(c clients, ctx context.Context, o options) {
			_, _ = c.oa.Responses.New(ctx, responses.ResponseNewParams{Model: "gpt-4.1-mini", Input: responses.ResponseNewParamsInputUnion{OfString: openai.String(secret)}}, o.o...)
		}},
		{name: "responses-stream", sim: text, run: func(c clients, ctx context.Context, o options) {
			s := c.oa.Responses.NewStreaming(ctx, responses.ResponseNewParams{Model: "gpt-4.1-mini", Input: responses.ResponseNewParamsInputUnion{OfString: openai.String(secret)}}, o.o...)
			for s.Next() {
			}
			_ = s.Close()
		}},
		{name: "embeddings", sim: "", run: func(c clients, ctx context.Context, o options) {
			_, _ = c.oa.Embeddings.New(ctx, openai.EmbeddingNewParams{Model: "text-embedding-3-small", Input: openai.EmbeddingNewParamsInputUnion{OfString: openai.String(secret)}}, o.o...)
		}},
		{name: "models", sim: "", run: func(c clients, ctx context.Context, o options) { _, _ = c.oa.Models.List(ctx, o.o...) }},
		{name: "messages", sim: text, run: func(c clients, ctx context.Context, o options) { _, _ = c.an.Messages.New(ctx, message, o.a...) }},
		{name: "messages-cached", sim: text + "cached=1500; cache_write=300", run: func(c clients, ctx context.Context, o options) { _, _ = c.an.Messages.New(ctx, message, o.a...) }},
		{name: "messages-stream", sim: text, run: func(c clients, ctx context.Context, o options) {
			s := c.an.Messages.NewStreaming(ctx, message, o.a...)
			for s.Next() {
			}
			_ = s.Close()
		}},
		{name: "messages-mid-error", sim: text + "mid_error; after=3", run: func(c clients, ctx context.Context, o options) {
			s := c.an.Messages.NewStreaming(ctx, message, o.a...)
			for s.Next() {
			}
			_ = s.Close()
		}},
		{name: "messages-overloaded", sim: "overloaded", run: func(c clients, ctx context.Context, o options) { _, _ = c.an.Messages.New(ctx, message, o.a...) }},
		{name: "count-tokens", sim: "", run: func(c clients, ctx context.Context, o options) {
			_, _ = c.an.Messages.CountTokens(ctx, anthropic.MessageCountTokensParams{Model: "claude-sonnet-4-5", Messages: message.Messages}, o.a...)
		}},
	}
	calls = append(calls,
		call{name: "chat-stream-cancelled", sim: text + "chunks=8; mid_hang; after=3", run: func(c clients, ctx context.Context, o options) {
			ctx, cancel := context.WithCancel(ctx)
			s := c.oa.Chat.Completions.NewStreaming(ctx, chat, o.o...)
			upTo(s.Next, func() error { cancel(); s.Next(); return s.Close() })
		}},
		call{name: "chat-stream-closed", sim: text + "chunks=8; mid_hang; after=3", run: func(c clients, ctx context.Context, o options) {
			s := c.oa.Chat.Completions.NewStreaming(ctx, chat, o.o...)
			upTo(s.Next, s.Close)
		}},
		call{name: "chat-retried", run: func(c clients, ctx context.Context, o options) {
			_, _ = c.oa.Chat.Completions.New(ctx, chat, append(o.o, openaioption.WithMaxRetries(2))...)
		}, script: []simprovider.Behavior{{Fail: simprovider.ServerError}, {Text: "The hedge grows slowly; "}}},
		call{name: "chat-stream-retried", run: func(c clients, ctx context.Context, o options) {
			o.o = append(o.o, openaioption.WithMaxRetries(2))
			stream(c, ctx, chat, o)
		}, script: []simprovider.Behavior{{Fail: simprovider.RateLimit}, {Text: "The hedge grows slowly; "}}},
		call{name: "messages-never-well", run: func(c clients, ctx context.Context, o options) {
			_, _ = c.an.Messages.New(ctx, message, append(o.a, anthropicoption.WithMaxRetries(1))...)
		}, script: []simprovider.Behavior{{Fail: simprovider.Overloaded}, {Fail: simprovider.ServerError}}},
	)
	for _, g := range []struct {
		name, sim string
		stream    bool
		tools     bool
	}{
		{"gemini", text + "cached=20; input=90", false, false}, {"gemini-tools", "tools=1", false, true}, {"gemini-blocked", "refusal", false, false}, {"gemini-overloaded", "overloaded", false, false},
		{"gemini-stream", text + "reasoning=40", true, false}, {"gemini-stream-tools", "tools=2", true, true}, {"gemini-stream-filtered", text + "content_filter", true, false},
		{"gemini-stream-error", "rate_limit", true, false}, {"gemini-mid-error", text + "mid_error; after=3", true, false},
	} {
		calls = append(calls, call{name: g.name, sim: g.sim, run: func(c clients, ctx context.Context, o options) {
			if g.stream {
				generateStream(c, ctx, generate(o, g.tools))
				return
			}
			_, _ = c.ge.Models.GenerateContent(ctx, "gemini-2.5-flash", content, generate(o, g.tools))
		}})
	}
	calls = append(calls,
		call{name: "gemini-embed", run: func(c clients, ctx context.Context, o options) {
			_, _ = c.ge.Models.EmbedContent(ctx, "gemini-embedding-001", content, &genai.EmbedContentConfig{HTTPOptions: &genai.HTTPOptions{Headers: o.h}})
		}},
		call{name: "gemini-count-tokens", run: func(c clients, ctx context.Context, o options) {
			_, _ = c.ge.Models.CountTokens(ctx, "gemini-2.5-flash", content, &genai.CountTokensConfig{HTTPOptions: &genai.HTTPOptions{Headers: o.h}})
		}})
	tries := 0 // of all calls, at the gateway
	for _, c := range calls {
		t.Run(c.name, func(t *testing.T) {
			viaGateway, viaSDK := options{h: http.Header{}}, options{h: http.Header{}}
			both := func(o *options, name, value string) {
				o.o = append(o.o, openaioption.WithHeader(name, value))
				o.a = append(o.a, anthropicoption.WithHeader(name, value))
				o.h.Set(name, value)
			}
			if c.sim != "" {
				both(&viaGateway, "X-Sim", c.sim)
				both(&viaSDK, "X-Sim", c.sim)
			}
			for name, value := range map[string]string{
				"X-PostHog-Trace-Id": "gw-" + c.name, "X-PostHog-Session-Id": "session-1", "X-PostHog-Distinct-Id": "ada", "X-Hedgerow-Surface": "Test",
				"X-Hedgerow-Prompt": "welcome@3", "X-Hedgerow-Task-Type": "greet", "X-Hedgerow-Tags": "beta, eu", "X-PostHog-Properties": `{"plan":"pro","seats":3}`, "X-PostHog-Flag-new-model": "test",
			} {
				both(&viaGateway, name, value)
			}
			w.sim.Script(c.script...)
			c.run(gateway, ctx, viaGateway)

			said := hedgerow.WithUser(hedgerow.WithSession(hedgerow.WithTrace(ctx, "sdk-"+c.name), "session-1"), "ada")
			said = hedgerow.WithTags(hedgerow.WithTaskType(hedgerow.WithPrompt(hedgerow.WithSurface(said, "Test"), "welcome", "3"), "greet"), "beta", "eu")
			said = hedgerow.WithFlag(hedgerow.WithProperties(said, hedgerow.Properties{"plan": "pro", "seats": 3}), "new-model", "test")
			w.sim.Script(c.script...)
			c.run(direct, said, viaSDK)
			if err := sdk.Flush(ctx); err != nil {
				t.Fatal(err)
			}

			// The gateway records each attempt; for the SDK they are one call
			// with the result of the last.
			n := max(1, len(c.script))
			tries += n
			want, got := p.storedFields(t, "gw-"+c.name, n), p.storedFields(t, "sdk-"+c.name, 1)
			wantPH, gotPH := w.inPostHog(t, p, want["uuid"]), w.inPostHog(t, p, got["uuid"])
			if n > 1 {
				var props map[string]json.RawMessage
				if err := json.Unmarshal(got["properties"], &props); err != nil {
					t.Fatal(err)
				}
				if string(props["retries"]) != strconv.Itoa(n-1) || string(gotPH["retries"]) != strconv.Itoa(n-1) {
					t.Errorf("retries: stored %s, in PostHog %s", props["retries"], gotPH["retries"])
				}
				delete(props, "retries")
				delete(gotPH, "retries")
				got["properties"], _ = json.Marshal(props)
			}
			differences(t, "stored", want, got)
			differences(t, "in PostHog", wantPH, gotPH)
		})
	}
	if s := sdk.Stats(); s.Lost() != 0 || s.Sent != int64(len(calls)) {
		t.Errorf("%+v", s)
	}
	checkPrivate(t, p, len(calls)+tries)
	p.stop()
}

// ownOfEach are the fields that differ between any two calls, and those that name
// the sender.
var ownOfEach = []string{
	"uuid", "timestamp", "trace_id", "span_id", "completion_id", "latency_ms", "latency", "ttft_ms", "time_to_first_token_ms", "received_at", "stored_at", "source", "trace_url",
	"$ai_trace_id", "$ai_span_id", "$ai_completion_id", "$ai_latency", "$ai_time_to_first_token",
	"$lib", "$lib_version", "$ai_lib", "$ai_lib_version", "$geoip_disable",
}

// varying are the members of a field that differ between responses.
var varying = regexp.MustCompile(`^(request_id|.*_(remaining|reset)(_.*)?|processing_ms)$`)

// storedFields returns the latest of a trace's n events.
func (p *proc) storedFields(t *testing.T, trace string, n int) map[string]json.RawMessage {
	t.Helper()
	got := p.awaitStored("trace_id="+url.QueryEscape(trace), n)
	if len(got) != n {
		t.Fatalf("%d events of %s stored, want %d", len(got), trace, n)
	}
	b, err := json.Marshal(slices.MaxFunc(got, func(a, b *query.Event) int { return a.Timestamp.Compare(b.Timestamp) }))
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(b, &fields); err != nil {
		t.Fatal(err)
	}
	return fields
}

func (w *world) inPostHog(t *testing.T, p *proc, uuid json.RawMessage) map[string]json.RawMessage {
	t.Helper()
	var id string
	if err := json.Unmarshal(uuid, &id); err != nil {
		t.Fatal(err)
	}
	var got []simposthog.Event
	w.await(func() bool { got = w.ph.ByUUID(id); return len(got) == 1 }, func() string { return "not in PostHog\n" + p.logs() })
	fields := maps.Clone(got[0].Properties)
	fields["event"], fields["distinct_id"] = json.RawMessage(got[0].Name), json.RawMessage(got[0].DistinctID)
	return fields
}

func differences(t *testing.T, where string, want, got map[string]json.RawMessage) {
	t.Helper()
	names := maps.Clone(want)
	maps.Copy(names, got)
	for _, fields := range []map[string]json.RawMessage{want, got} {
		for _, name := range []string{"properties", "provider_metadata", "$ai_provider_metadata"} {
			var members map[string]json.RawMessage
			if json.Unmarshal(fields[name], &members) != nil || members == nil {
				continue
			}
			maps.DeleteFunc(members, func(k string, _ json.RawMessage) bool {
				return varying.MatchString(k) || slices.Contains(ownOfEach, k)
			})
			fields[name], _ = json.Marshal(members)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if !slices.Contains(ownOfEach, name) && string(want[name]) != string(got[name]) {
			t.Errorf("%s, %s: by the SDK %s, by the gateway %s", where, name, got[name], want[name])
		}
	}
	if len(want) < 15 {
		t.Errorf("%s: only %d fields to compare", where, len(want))
	}
}
