package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	"github.com/openai/openai-go/v3"
	openaioption "github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/responses"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

// secret is in every prompt. It must never reach PostHog.
const secret = "the wren nests in the blackthorn"

// seen is what a caller received for one call.
type seen struct {
	Name, Trace   string
	Model, ID     string
	Input, Output int64
	Error         int
	Message       string
	Counted       int64
	UsageSeen     bool
	EmptyChoices  bool
}

// check compares what the caller received with the stored event and the one
// that PostHog received.
func check(t *testing.T, p *proc, s seen, wantName string) *query.Event {
	t.Helper()
	got := p.awaitStored("trace_id="+url.QueryEscape(s.Trace), 1)
	if len(got) != 1 {
		t.Fatalf("%s: %d events stored, want 1", s.Name, len(got))
	}
	e := got[0]
	if e.Name != wantName {
		t.Errorf("%s: stored as %s, want %s", s.Name, e.Name, wantName)
	}
	if s.Model != "" && e.Model != s.Model {
		t.Errorf("%s: model %q, the caller received %q", s.Name, e.Model, s.Model)
	}
	if s.ID != "" && e.CompletionID != s.ID {
		t.Errorf("%s: completion id %q, the caller received %q", s.Name, e.CompletionID, s.ID)
	}
	if s.Input > 0 && e.Usage.Input != event.Some(s.Input) {
		t.Errorf("%s: input tokens %v, the caller received %d", s.Name, e.Usage.Input, s.Input)
	}
	if s.Output > 0 && e.Usage.Output != event.Some(s.Output) {
		t.Errorf("%s: output tokens %v, the caller received %d", s.Name, e.Usage.Output, s.Output)
	}
	if s.Error != 0 && (!e.IsError || e.HTTPStatus.Value != int64(s.Error) || e.ErrorType == "") {
		t.Errorf("%s: the caller received %d; the event has status %v, error %v, type %q", s.Name, s.Error, e.HTTPStatus, e.IsError, e.ErrorType)
	}
	costed := (wantName == event.Generation || wantName == event.Embedding) && s.Error == 0 && s.Name != "chat-stream-refusing-stream-options" && s.Name != "messages-mid-error"
	if costed && (!e.Cost.Total.Known || !e.Cost.Total.Value.IsPositive()) {
		t.Errorf("%s: no cost for %s", s.Name, e.Model)
	}
	if e.ParseError != "" {
		t.Errorf("%s: not parsed: %s", s.Name, e.ParseError)
	}
	p.w.await(func() bool { return len(p.w.ph.ByUUID(e.UUID)) == 1 }, func() string { return s.Name + ": not in PostHog\n" + p.logs() })
	ph := p.w.ph.ByUUID(e.UUID)[0]
	if costed {
		var cost json.Number
		if err := json.Unmarshal(ph.Properties["$ai_total_cost_usd"], &cost); err != nil || cost.String() != e.Cost.Total.Value.String() {
			t.Errorf("%s: PostHog got cost %s, the store has %s", s.Name, ph.Properties["$ai_total_cost_usd"], e.Cost.Total.Value)
		}
	}
	if costed && string(ph.Properties["$ai_input"]) != "null" {
		t.Errorf("%s: PostHog got $ai_input %s, want null", s.Name, ph.Properties["$ai_input"])
	}
	return e
}

// checkPrivate fails if any request to PostHog has the secret text or a
// caller's key, or if PostHog received more events than calls were made.
func checkPrivate(t *testing.T, p *proc, calls int) {
	t.Helper()
	for i, e := range p.w.ph.Events() {
		raw := e.Raw
		for _, no := range []string{secret, "blackthorn", "sk-e2e", "sk-ant-e2e"} {
			if bytes.Contains(raw, []byte(no)) {
				t.Errorf("event %d in PostHog contains %q", i, no)
			}
		}
	}
	if logs := p.logs(); strings.Contains(logs, "blackthorn") || strings.Contains(logs, "sk-e2e") || strings.Contains(logs, "sk-ant-e2e") || strings.Contains(logs, phKey) {
		t.Errorf("the log contains content or a key:\n%s", logs)
	}
	if n := len(p.stored("")); n != calls {
		t.Errorf("%d events stored for %d calls", n, calls)
	}
	p.w.await(func() bool { return len(p.w.ph.Events()) >= calls }, func() string { return "PostHog has too few events" })
	if n := len(p.w.ph.Events()); n != calls {
		t.Errorf("PostHog has %d events for %d calls", n, calls)
	}
}

// kinds are the events that the calls of clients.mjs and of TestGoClients
// become.
var kinds = map[string]string{"embeddings": event.Embedding, "models": event.Span, "count-tokens": event.Span}

func kind(name string) string {
	if k := kinds[name]; k != "" {
		return k
	}
	return event.Generation
}

func TestNodeClients(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("node_modules/openai"); err != nil {
		t.Fatal("the npm packages are not installed: run make setup")
	}
	w := newWorld(t)
	p := w.start()
	w.flushFast()
	cmd := exec.Command("node", "clients.mjs", p.base)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("clients.mjs: %v\n%s%s", err, out, stderr.String())
	}
	calls := 0
	for s := bufio.NewScanner(bytes.NewReader(out)); s.Scan(); calls++ {
		var got seen
		if err := json.Unmarshal(s.Bytes(), &got); err != nil {
			t.Fatalf("%v in %s", err, s.Bytes())
		}
		if got.Message != "" {
			t.Errorf("%s: %d %s", got.Name, got.Error, got.Message)
			continue
		}
		e := check(t, p, got, kind(got.Name))
		if e.DistinctID != "user-js" || e.Surface != "Test" {
			t.Errorf("%s: user %q, surface %q", got.Name, e.DistinctID, e.Surface)
		}
		if got.Name == "chat-stream" {
			if got.UsageSeen || got.EmptyChoices {
				t.Errorf("the caller received usage that it did not request: %+v", got)
			}
			if !e.Usage.Input.Known || !e.Usage.Output.Known || !e.TTFTMS.Known {
				t.Errorf("no usage or time to first token on a stream: %+v", e.Usage)
			}
		}
	}
	if calls != 11 {
		t.Errorf("%d calls reported, want 11", calls)
	}
	checkPrivate(t, p, calls)
	p.stop()
}

func TestGoClients(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start()
	w.flushFast()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	oa := openai.NewClient(openaioption.WithBaseURL(p.base+"/openai/v1"), openaioption.WithAPIKey("sk-e2e-go-caller-0000000000000"), openaioption.WithMaxRetries(0))
	an := anthropic.NewClient(anthropicoption.WithBaseURL(p.base+"/anthropic"), anthropicoption.WithAPIKey("sk-ant-e2e-go-caller-000000000"), anthropicoption.WithMaxRetries(0))
	user := []openai.ChatCompletionMessageParamUnion{openai.UserMessage("Keep this: " + secret)}
	chat := openai.ChatCompletionNewParams{Model: "gpt-4.1-mini", Messages: user}
	withTools := chat
	withTools.Tools = []openai.ChatCompletionToolUnionParam{openai.ChatCompletionFunctionTool(openai.FunctionDefinitionParam{
		Name: "get_weather", Parameters: openai.FunctionParameters{"type": "object", "properties": map[string]any{"place": map[string]any{"type": "string"}}}})}
	messages := anthropic.MessageNewParams{Model: "claude-sonnet-4-5", MaxTokens: 200,
		System:   []anthropic.TextBlockParam{{Text: "Never tell: " + secret}},
		Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("Hello, " + secret))}}

	type result struct {
		seen
		err error
	}
	sim := func(b string) openaioption.RequestOption { return openaioption.WithHeader("X-Sim", b) }
	asim := func(b string) anthropicoption.RequestOption { return anthropicoption.WithHeader("X-Sim", b) }
	runChat := func(o ...openaioption.RequestOption) result {
		r, err := oa.Chat.Completions.New(ctx, chat, o...)
		if err != nil {
			return result{err: err}
		}
		return result{seen: seen{Model: r.Model, ID: r.ID, Input: r.Usage.PromptTokens, Output: r.Usage.CompletionTokens}}
	}
	runChatStream := func(params openai.ChatCompletionNewParams, o ...openaioption.RequestOption) result {
		s := oa.Chat.Completions.NewStreaming(ctx, params, o...)
		acc := openai.ChatCompletionAccumulator{}
		for s.Next() {
			acc.AddChunk(s.Current())
		}
		return result{seen: seen{Model: acc.Model, ID: acc.ID, Input: acc.Usage.PromptTokens, Output: acc.Usage.CompletionTokens}, err: s.Err()}
	}
	runMessages := func(o ...anthropicoption.RequestOption) result {
		r, err := an.Messages.New(ctx, messages, o...)
		if err != nil {
			return result{err: err}
		}
		return result{seen: seen{Model: string(r.Model), ID: r.ID, Input: r.Usage.InputTokens, Output: r.Usage.OutputTokens}}
	}
	runMessagesStream := func(o ...anthropicoption.RequestOption) result {
		s := an.Messages.NewStreaming(ctx, messages, o...)
		var acc anthropic.Message
		for s.Next() {
			if err := acc.Accumulate(s.Current()); err != nil {
				return result{err: err}
			}
		}
		return result{seen: seen{Model: string(acc.Model), ID: acc.ID, Input: acc.Usage.InputTokens, Output: acc.Usage.OutputTokens}, err: s.Err()}
	}
	asked := chat
	asked.StreamOptions = openai.ChatCompletionStreamOptionsParam{IncludeUsage: openai.Bool(true)}
	calls := []struct {
		name   string
		status int // status code of the error that the caller must receive; 0 is none
		errs   bool
		run    func(o []openaioption.RequestOption, a []anthropicoption.RequestOption) result
	}{
		{name: "chat", run: func(o []openaioption.RequestOption, _ []anthropicoption.RequestOption) result { return runChat(o...) }},
		{name: "chat-gzip", run: func(o []openaioption.RequestOption, _ []anthropicoption.RequestOption) result {
			return runChat(append(o, sim("gzip"))...)
		}},
		{name: "chat-cached", run: func(o []openaioption.RequestOption, _ []anthropicoption.RequestOption) result {
			return runChat(append(o, sim("input=2000; cached=1024"))...)
		}},
		{name: "chat-stream", run: func(o []openaioption.RequestOption, _ []anthropicoption.RequestOption) result {
			return runChatStream(chat, o...)
		}},
		{name: "chat-stream-asked", run: func(o []openaioption.RequestOption, _ []anthropicoption.RequestOption) result {
			return runChatStream(asked, o...)
		}},
		{name: "chat-stream-crlf-bytes", run: func(o []openaioption.RequestOption, _ []anthropicoption.RequestOption) result {
			return runChatStream(chat, append(o, sim("crlf; one_byte; comments"))...)
		}},
		{name: "chat-tools-stream", run: func(o []openaioption.RequestOption, _ []anthropicoption.RequestOption) result {
			return runChatStream(withTools, append(o, sim("tools=2"))...)
		}},
		{name: "responses", run: func(o []openaioption.RequestOption, _ []anthropicoption.RequestOption) result {
			r, err := oa.Responses.New(ctx, responses.ResponseNewParams{Model: "gpt-4.1-mini", Input: responses.ResponseNewParamsInputUnion{OfString: openai.String(secret)}}, o...)
			if err != nil {
				return result{err: err}
			}
			return result{seen: seen{Model: string(r.Model), ID: r.ID, Input: r.Usage.InputTokens, Output: r.Usage.OutputTokens}}
		}},
		{name: "embeddings", run: func(o []openaioption.RequestOption, _ []anthropicoption.RequestOption) result {
			r, err := oa.Embeddings.New(ctx, openai.EmbeddingNewParams{Model: "text-embedding-3-small", Input: openai.EmbeddingNewParamsInputUnion{OfString: openai.String(secret)}}, o...)
			if err != nil {
				return result{err: err}
			}
			return result{seen: seen{Model: r.Model, Input: r.Usage.PromptTokens}}
		}},
		{name: "rate-limit", status: 429, run: func(o []openaioption.RequestOption, _ []anthropicoption.RequestOption) result {
			return runChat(append(o, sim("rate_limit"))...)
		}},
		{name: "quota", status: 429, run: func(o []openaioption.RequestOption, _ []anthropicoption.RequestOption) result {
			return runChat(append(o, sim("quota"))...)
		}},
		{name: "server-error", status: 500, run: func(o []openaioption.RequestOption, _ []anthropicoption.RequestOption) result {
			return runChatStream(chat, append(o, sim("server_error"))...)
		}},
		{name: "messages", run: func(_ []openaioption.RequestOption, a []anthropicoption.RequestOption) result {
			return runMessages(a...)
		}},
		{name: "messages-cached", run: func(_ []openaioption.RequestOption, a []anthropicoption.RequestOption) result {
			return runMessages(append(a, asim("cached=1500; cache_write=300"))...)
		}},
		{name: "messages-stream", run: func(_ []openaioption.RequestOption, a []anthropicoption.RequestOption) result {
			return runMessagesStream(a...)
		}},
		{name: "messages-overloaded", status: 529, run: func(_ []openaioption.RequestOption, a []anthropicoption.RequestOption) result {
			return runMessages(append(a, asim("overloaded"))...)
		}},
		{name: "messages-mid-error", errs: true, run: func(_ []openaioption.RequestOption, a []anthropicoption.RequestOption) result {
			return runMessagesStream(append(a, asim("mid_error"))...)
		}},
		{name: "count-tokens", run: func(_ []openaioption.RequestOption, a []anthropicoption.RequestOption) result {
			r, err := an.Messages.CountTokens(ctx, anthropic.MessageCountTokensParams{Model: "claude-sonnet-4-5", Messages: messages.Messages}, a...)
			if err != nil {
				return result{err: err}
			}
			return result{seen: seen{Counted: r.InputTokens}}
		}},
		// Last, because hedgerow remembers a provider that rejects the option.
		{name: "chat-stream-refusing-stream-options", run: func(o []openaioption.RequestOption, _ []anthropicoption.RequestOption) result {
			return runChatStream(chat, append(o, sim("no_stream_options"))...)
		}},
	}
	for _, c := range calls {
		t.Run(c.name, func(t *testing.T) {
			trace := "go-" + c.name
			r := c.run([]openaioption.RequestOption{openaioption.WithHeader("X-PostHog-Trace-Id", trace)}, []anthropicoption.RequestOption{anthropicoption.WithHeader("X-PostHog-Trace-Id", trace)})
			if (r.err != nil) != (c.status != 0 || c.errs) {
				t.Fatalf("the caller saw %v", r.err)
			}
			r.Name, r.Trace, r.Error = c.name, trace, c.status
			if c.name == "messages-mid-error" {
				r.Output = 0 // the placeholder of message_start, which is no count
			}
			e := check(t, p, r.seen, kind(c.name))
			switch c.name {
			case "chat-cached":
				if e.Usage.CacheRead != event.Some[int64](1024) {
					t.Errorf("cached tokens %v, want 1024", e.Usage.CacheRead)
				}
			case "quota":
				if e.ErrorType != "insufficient_quota" {
					t.Errorf("error type %q, want insufficient_quota", e.ErrorType)
				}
			case "messages-cached":
				if !e.Usage.CacheExclusive.Value || e.Usage.CacheRead != event.Some[int64](1500) {
					t.Errorf("usage %+v", e.Usage)
				}
			case "messages-mid-error":
				if !e.IsError || e.ErrorType != "overloaded_error" || !e.Usage.Input.Known {
					t.Errorf("error %v, type %q, input %v", e.IsError, e.ErrorType, e.Usage.Input)
				}
				ph := p.w.ph.ByUUID(e.UUID)[0]
				if e.Usage.Output.Known || e.Cost.Total.Known || string(ph.Properties["hedgerow_cost_incomplete"]) != "true" {
					t.Errorf("output %v, cost %v, PostHog has hedgerow_cost_incomplete %s", e.Usage.Output, e.Cost.Total, ph.Properties["hedgerow_cost_incomplete"])
				}
			case "chat-stream-refusing-stream-options":
				if e.Usage.Input.Known || e.Usage.Output.Known {
					t.Errorf("usage %+v, want unknown", e.Usage)
				}
			}
			if strings.HasPrefix(c.name, "chat-stream") && !e.TTFTMS.Known {
				t.Error("no time to first token")
			}
		})
	}
	checkPrivate(t, p, len(calls))
	p.stop()
}
