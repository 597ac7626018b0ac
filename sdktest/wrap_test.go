package sdktest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	"github.com/openai/openai-go/v3"
	openaioption "github.com/openai/openai-go/v3/option"

	"github.com/hedgerow/hedgerow"
	"github.com/hedgerow/hedgerow/event"
	simposthog "github.com/hedgerow/hedgerow/internal/simulate/posthog"
	simprovider "github.com/hedgerow/hedgerow/internal/simulate/provider"
)

// hedge is a client whose events stay in the test, and a simulated provider.
type hedge struct {
	*hedgerow.Client
	t   *testing.T
	ph  *simposthog.Server
	sim *simprovider.Server
	mu  sync.Mutex
	got []*event.Event
}

func newHedge(t *testing.T, set func(*hedgerow.Config)) *hedge {
	t.Helper()
	h := &hedge{t: t, ph: simposthog.New(simposthog.Options{}), sim: simprovider.New(simprovider.Options{Seed: 1})}
	if err := h.sim.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.sim.Close() })
	c := hedgerow.Config{
		APIKey: simposthog.Token, Host: host, HTTPClient: &http.Client{Transport: h.ph.Transport()}, Logger: slog.New(slog.DiscardHandler),
		FlushInterval: time.Hour, FlushAt: 1000, SendContent: true,
		BeforeSend: func(e *event.Event) *event.Event {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.got = append(h.got, e)
			return e
		},
	}
	if set != nil {
		set(&c)
	}
	var err error
	if h.Client, err = hedgerow.New(c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close(context.Background()) })
	return h
}

// events returns what has been captured since the last call.
func (h *hedge) events() []*event.Event {
	h.t.Helper()
	if err := h.Flush(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	got := h.got
	h.got = nil
	return got
}

func (h *hedge) one() *event.Event {
	h.t.Helper()
	got := h.events()
	if len(got) != 1 {
		h.t.Fatalf("%d events, want one: %+v", len(got), got)
	}
	return got[0]
}

const callerKey = "sk-proj-caller-000000000000000000000000"

func (h *hedge) openai(o ...openaioption.RequestOption) openai.Client {
	return openai.NewClient(append([]openaioption.RequestOption{
		openaioption.WithBaseURL(h.sim.OpenAIURL() + "/v1"), openaioption.WithAPIKey(callerKey), openaioption.WithMiddleware(h.Middleware())}, o...)...)
}

func (h *hedge) anthropic(o ...anthropicoption.RequestOption) anthropic.Client {
	return anthropic.NewClient(append([]anthropicoption.RequestOption{
		anthropicoption.WithBaseURL(h.sim.AnthropicURL()), anthropicoption.WithAPIKey("sk-ant-caller"), anthropicoption.WithMiddleware(h.Middleware())}, o...)...)
}

func sim(s string) openaioption.RequestOption { return openaioption.WithHeader("X-Sim", s) }

var chat = openai.ChatCompletionNewParams{Model: "gpt-4.1-mini", Messages: []openai.ChatCompletionMessageParamUnion{openai.SystemMessage("Be brief."), openai.UserMessage(prompt)}}

var message = anthropic.MessageNewParams{Model: "claude-sonnet-4-5", MaxTokens: 100, Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock(prompt))}}

func TestMiddlewareOpenAI(t *testing.T) {
	h := newHedge(t, nil)
	oa := h.openai()
	ctx := hedgerow.WithUser(hedgerow.WithSession(hedgerow.WithTrace(t.Context(), "trace-1"), "session-1"), "ada")
	ctx = hedgerow.WithPrompt(hedgerow.WithSurface(hedgerow.WithTags(ctx, "beta", "eu"), "Compose"), "welcome", "3")
	ctx = hedgerow.WithGroups(hedgerow.WithProperties(ctx, hedgerow.Properties{"plan": "pro"}), map[string]string{"company": "acme"})
	ctx = hedgerow.WithFlag(hedgerow.WithTaskType(hedgerow.WithPromptVersionID(ctx, "pv_3"), "greet"), "new-model", "test")
	res, err := oa.Chat.Completions.New(ctx, chat)
	if err != nil {
		t.Fatal(err)
	}
	e := h.one()
	if e.Name != event.Generation || e.Provider != "openai" || e.Model != res.Model || e.CompletionID != res.ID || e.Operation != "chat" ||
		e.Usage.Input != event.Some(res.Usage.PromptTokens) || e.Usage.Output != event.Some(res.Usage.CompletionTokens) || e.HTTPStatus != 200 || e.IsError || e.ParseError != "" {
		t.Errorf("%+v", e)
	}
	if e.TraceID != "trace-1" || e.SessionID != "session-1" || e.DistinctID != "ada" || e.SpanID == "" || e.Surface != "Compose" || e.PromptName != "welcome" ||
		e.PromptVersion != "3" || e.PromptVersionID != "pv_3" || e.TaskType != "greet" || fmt.Sprint(e.Tags) != "[beta eu]" || e.Groups["company"] != "acme" || e.Flags["new-model"] != "test" ||
		string(e.Properties["plan"]) != `"pro"` || e.Source != event.SourceSDK {
		t.Errorf("attribution: %+v", e)
	}
	if e.BaseURL != h.sim.OpenAIURL() || e.RequestURL != h.sim.OpenAIURL()+"/v1/chat/completions" {
		t.Errorf("base %s, URL %s", e.BaseURL, e.RequestURL)
	}
	if !bytes.Contains(e.Content.Input, []byte(prompt)) || !bytes.Contains(e.Content.Output, []byte("assistant")) || e.PromptHash == "" || !e.Latency.Known {
		t.Errorf("content %s, %s", e.Content.Input, e.Content.Output)
	}
	if raw := h.ph.Events()[0].Raw; bytes.Contains(raw, []byte("caller")) {
		t.Errorf("the caller's key left: %s", raw)
	}
}

func TestMiddlewareStream(t *testing.T) {
	h := newHedge(t, nil)
	plain := openai.NewClient(openaioption.WithBaseURL(h.sim.OpenAIURL()+"/v1"), openaioption.WithAPIKey("k"))
	for _, behavior := range []string{"text=one two three four", "crlf; one_byte; comments; text=one two three", "tools=1", "no_done; text=one two"} {
		t.Run(behavior, func(t *testing.T) {
			chunks := func(c openai.Client, p openai.ChatCompletionNewParams) (all []string) {
				s := c.Chat.Completions.NewStreaming(t.Context(), p, sim(behavior))
				for s.Next() {
					raw := s.Current().RawJSON()
					all = append(all, strings.ReplaceAll(raw, s.Current().ID, "id"))
				}
				if err := s.Err(); err != nil {
					t.Fatal(err)
				}
				return all
			}
			want, got := chunks(plain, chat), chunks(h.openai(), chat)
			e := h.one()
			if !e.Usage.Input.Known || !e.Usage.Output.Known || !e.TimeToFirstToken.Known || e.Stream != event.Some(true) || e.IsError {
				t.Errorf("usage %+v, ttft %v, stream %v, error %q", e.Usage, e.TimeToFirstToken, e.Stream, e.ErrorType)
			}
			if e.ModelParameters["stream_options"] != nil {
				t.Error("the event shows what the caller did not send")
			}
			if strings.Contains(strings.Join(got, ""), `"usage"`) {
				t.Errorf("the caller sees what he did not ask for:\n%s", strings.Join(got, "\n"))
			}
			if strings.Contains(behavior, "text=") && stripTimes(want) != stripTimes(got) {
				t.Errorf("the caller sees\n%s\nwithout hedgerow he sees\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			// Who asks himself, sees it.
			asked := chat
			asked.StreamOptions.IncludeUsage = openai.Bool(true)
			all := chunks(h.openai(), asked)
			if !strings.Contains(all[len(all)-1], "prompt_tokens") {
				t.Error("the usage that the caller asked for was taken out")
			}
			h.one()
		})
	}
}

var changing = regexp.MustCompile(`"created":\d+|,"obfuscation":"\w+"`)

// stripTimes joins chunks without what differs from call to call.
func stripTimes(chunks []string) string {
	return changing.ReplaceAllString(strings.Join(chunks, "\n"), "")
}

func TestMiddlewareRefusedStreamOptions(t *testing.T) {
	h := newHedge(t, nil)
	oa := h.openai()
	for range 2 {
		s := oa.Chat.Completions.NewStreaming(t.Context(), chat, sim("no_stream_options"))
		n := 0
		for s.Next() {
			n++
		}
		if s.Err() != nil || n == 0 {
			t.Fatalf("%d chunks, %v", n, s.Err())
		}
		if e := h.one(); e.IsError || e.Usage.Input.Known {
			t.Errorf("error %v, usage %+v", e.IsError, e.Usage)
		}
	}
	if n := len(h.sim.Requests()); n != 3 {
		t.Errorf("%d requests: a refusal is to be remembered", n)
	}
}

func TestMiddlewareLeaveUsage(t *testing.T) {
	h := newHedge(t, func(c *hedgerow.Config) { c.LeaveUsage = true })
	oa := h.openai()
	s := oa.Chat.Completions.NewStreaming(t.Context(), chat)
	for s.Next() {
	}
	if e := h.one(); e.Usage.Input.Known {
		t.Errorf("%+v", e.Usage)
	}
	if r := h.sim.Requests()[0]; bytes.Contains(r.Body, []byte("stream_options")) {
		t.Error("usage was asked for")
	}
}

func TestMiddlewareAnthropic(t *testing.T) {
	h := newHedge(t, nil)
	an := h.anthropic()
	res, err := an.Messages.New(t.Context(), message, anthropicoption.WithHeader("X-Sim", "cached=100; cache_write=20"))
	if err != nil {
		t.Fatal(err)
	}
	e := h.one()
	if e.Name != event.Generation || e.Provider != "anthropic" || e.Operation != "messages" || e.CompletionID != res.ID || e.Usage.Input != event.Some(res.Usage.InputTokens) ||
		e.Usage.CacheRead != event.Some[int64](100) || !e.Usage.CacheExclusive.Value || e.StopReason != string(res.StopReason) {
		t.Errorf("%+v", e)
	}
	s := an.Messages.NewStreaming(t.Context(), message)
	for s.Next() {
	}
	if s.Err() != nil {
		t.Fatal(s.Err())
	}
	if e := h.one(); e.IsError || !e.Usage.Output.Known || !e.TimeToFirstToken.Known || e.Stream != event.Some(true) {
		t.Errorf("%+v", e)
	}
	if _, err := an.Messages.New(t.Context(), message, anthropicoption.WithHeader("X-Sim", "bad_request")); err == nil {
		t.Fatal("no error")
	}
	if e := h.one(); !e.IsError || e.HTTPStatus != 400 || e.ErrorType == "" || e.ErrorMessage == "" {
		t.Errorf("%+v", e)
	}
}

// However often the client tries, a call is one event.
func TestRetriesAreOneEvent(t *testing.T) {
	h := newHedge(t, nil)
	oa, an := h.openai(), h.anthropic()
	quick := func(r *http.Request, next openaioption.MiddlewareNext) (*http.Response, error) {
		res, err := next(r)
		if res != nil {
			res.Header.Set("Retry-After-Ms", "1")
		}
		return res, err
	}
	for _, tt := range []struct {
		name    string
		script  []simprovider.Behavior
		retries string
		isError bool
		status  int
	}{
		{"then well", []simprovider.Behavior{{Fail: simprovider.ServerError}, {Fail: simprovider.Unavailable}, {}}, "2", false, 200},
		{"never well", []simprovider.Behavior{{Fail: simprovider.ServerError}, {Fail: simprovider.ServerError}, {Fail: simprovider.Unavailable}}, "2", true, 503},
		{"reset, then well", []simprovider.Behavior{{Fail: simprovider.Reset}, {}}, "1", false, 200},
		{"not to be tried again", []simprovider.Behavior{{Fail: simprovider.BadRequest}}, "", true, 400},
	} {
		h.sim.Script(tt.script...)
		_, err := oa.Chat.Completions.New(t.Context(), chat, openaioption.WithMiddleware(quick))
		if (err != nil) != tt.isError {
			t.Errorf("%s: %v", tt.name, err)
		}
		e := h.one()
		if string(e.Properties["retries"]) != tt.retries || e.IsError != tt.isError || e.HTTPStatus != tt.status {
			t.Errorf("%s: retries %s, error %v, status %d", tt.name, e.Properties["retries"], e.IsError, e.HTTPStatus)
		}
	}
	h.sim.Script(simprovider.Behavior{Fail: simprovider.Overloaded}, simprovider.Behavior{})
	if _, err := an.Messages.New(t.Context(), message, anthropicoption.WithMiddleware(quick)); err != nil {
		t.Fatal(err)
	}
	if e := h.one(); string(e.Properties["retries"]) != "1" || e.IsError {
		t.Errorf("%+v", e)
	}
	// A client that does not try again: the event waits for no longer than Flush.
	if _, err := oa.Chat.Completions.New(t.Context(), chat, openaioption.WithMaxRetries(0), sim("server_error")); err == nil {
		t.Fatal("no error")
	}
	if e := h.one(); !e.IsError || e.HTTPStatus != 500 || e.ErrorMessage == "" {
		t.Errorf("%+v", e)
	}
}

func TestCallsThatBreakOff(t *testing.T) {
	h := newHedge(t, nil)
	oa, an := h.openai(openaioption.WithMaxRetries(0)), h.anthropic(anthropicoption.WithMaxRetries(0))
	stream := func(ctx context.Context, behavior string, stop int) error {
		s := oa.Chat.Completions.NewStreaming(ctx, chat, sim(behavior))
		defer s.Close()
		for n := 0; s.Next(); {
			if n++; n == stop {
				return nil
			}
		}
		return s.Err()
	}
	t.Run("the caller hangs up", func(t *testing.T) {
		if err := stream(t.Context(), "chunks=50; gap=5ms", 2); err != nil {
			t.Fatal(err)
		}
		if e := h.one(); e.ErrorType != event.ErrTypeClientGone || !e.IsError || !bytes.Contains(e.Content.Output, []byte("assistant")) {
			t.Errorf("type %q, output %s", e.ErrorType, e.Content.Output)
		}
	})
	t.Run("the caller cancels", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(30*time.Millisecond, cancel)
		if err := stream(ctx, "mid_hang", 0); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		if e := h.one(); e.ErrorType != event.ErrTypeClientGone {
			t.Errorf("type %q", e.ErrorType)
		}
	})
	t.Run("the caller's patience ends", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := oa.Chat.Completions.New(ctx, chat, sim("hang")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		if e := h.one(); e.ErrorType != event.ErrTypeTimeout || e.Status != event.StatusTimeout || e.HTTPStatus != 0 {
			t.Errorf("type %q, status %s, %d", e.ErrorType, e.Status, e.HTTPStatus)
		}
	})
	t.Run("the stream breaks", func(t *testing.T) {
		if err := stream(t.Context(), "mid_reset", 0); err == nil {
			t.Error("no error")
		}
		if e := h.one(); e.ErrorType != event.ErrTypeStream || !e.IsError || e.HTTPStatus != 200 {
			t.Errorf("type %q", e.ErrorType)
		}
	})
	t.Run("the stream bears an error", func(t *testing.T) {
		s := an.Messages.NewStreaming(t.Context(), message, anthropicoption.WithHeader("X-Sim", "mid_error"))
		for s.Next() {
		}
		_ = s.Close() // a stream that is neither read to its end nor closed has not ended
		if s.Err() == nil {
			t.Error("no error")
		}
		if e := h.one(); e.ErrorType != "overloaded_error" || !e.IsError {
			t.Errorf("type %q", e.ErrorType)
		}
	})
	t.Run("nobody answers", func(t *testing.T) {
		oa := h.openai(openaioption.WithMaxRetries(0), openaioption.WithBaseURL("http://127.0.0.1:1/v1"))
		if _, err := oa.Chat.Completions.New(t.Context(), chat); err == nil {
			t.Error("no error")
		}
		if e := h.one(); e.ErrorType != event.ErrTypeUnreachable || e.HTTPStatus != 0 || !bytes.Contains(e.Content.Input, []byte(prompt)) {
			t.Errorf("type %q, input %s", e.ErrorType, e.Content.Input)
		}
	})
}

func post(t *testing.T, c *http.Client, url, body string, header ...string) (status int, answer string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

func TestTransport(t *testing.T) {
	h := newHedge(t, nil)
	c := &http.Client{Transport: h.Transport(nil)}
	defer c.CloseIdleConnections()
	const body = `{"model":"gpt-4.1-mini","user":"grace","messages":[{"role":"user","content":"hi"}]}`
	const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	if status, answer := post(t, c, h.sim.OpenAIURL()+"/v1/chat/completions?api-version=1&key=secret", body, "Traceparent", trace, "Authorization", "Bearer "+callerKey); status != 200 {
		t.Fatal(answer)
	}
	e := h.one()
	if e.Name != event.Generation || e.DistinctID != "grace" || e.User != "grace" || e.TraceID != "0af7651916cd43dd8448eb211c80319c" || e.ParentID != "b7ad6b7169203331" || strings.Contains(e.RequestURL, "secret") {
		t.Errorf("%+v", e)
	}
	if status, _ := post(t, c, h.sim.AnthropicURL()+"/v1/messages", `{"model":"claude-sonnet-4-5","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}`, "X-Api-Key", "sk-ant-x", "Anthropic-Version", "2023-06-01"); status != 200 {
		t.Fatal(status)
	}
	if e := h.one(); e.Provider != "anthropic" || e.Name != event.Generation {
		t.Errorf("%+v", e)
	}
	if status, _ := post(t, c, h.sim.OpenAIURL()+"/v1/embeddings", `{"model":"text-embedding-3-small","input":"hi"}`, "Authorization", "Bearer "+callerKey); status != 200 {
		t.Fatal(status)
	}
	if e := h.one(); e.Name != event.Embedding {
		t.Errorf("%+v", e)
	}

	// What is no call to a model passes, and so does what a middleware has seen.
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }))
	defer other.Close()
	if _, answer := post(t, c, other.URL+"/v1/orders", body); answer != body {
		t.Errorf("%s", answer)
	}
	if got := h.events(); len(got) != 0 {
		t.Errorf("%+v", got[0])
	}
	oa := h.openai(openaioption.WithHTTPClient(c))
	if _, err := oa.Chat.Completions.New(t.Context(), chat); err != nil {
		t.Fatal(err)
	}
	h.one()
}

// fake answers requests in the process, so that hosts can have any name.
type fake func(*http.Request) (*http.Response, error)

func (f fake) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestTransportProviders(t *testing.T) {
	h := newHedge(t, func(c *hedgerow.Config) { c.Providers = map[string]string{"llm.internal:8080": "vllm"} })
	c := &http.Client{Transport: h.Transport(fake(func(r *http.Request) (*http.Response, error) {
		if r.Body != nil {
			_, _ = io.Copy(io.Discard, r.Body)
		}
		return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader("{}")), ContentLength: 2, Request: r}, nil
	}))}
	for _, tt := range []struct{ url, provider, base, operation string }{
		{"https://api.openai.com/v1/chat/completions", "openai", "https://api.openai.com", "chat"},
		{"https://eu.api.openai.com/v1/responses", "openai", "https://eu.api.openai.com", "responses"},
		{"https://evilapi.openai.com.example/v1/orders", "", "", ""},
		{"https://api.anthropic.com/v1/messages", "anthropic", "https://api.anthropic.com", "messages"},
		{"https://openrouter.ai/api/v1/chat/completions", "openrouter", "https://openrouter.ai", "chat"},
		{"https://res.openai.azure.com/openai/deployments/gpt/chat/completions?api-version=1", "azure", "https://res.openai.azure.com", "chat"},
		{"https://api.groq.com/openai/v1/chat/completions", "groq", "https://api.groq.com", "chat"},
		{"https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:generateContent", "gemini", "https://generativelanguage.googleapis.com", "-"},
		{"http://localhost:11434/v1/chat/completions", "ollama", "http://localhost:11434", "chat"},
		{"http://localhost:11434/api/chat", "ollama", "http://localhost:11434", "ollama_chat"},
		{"http://gpu.internal/models/api/embed", "ollama", "http://gpu.internal/models", "embeddings"},
		{"https://ollama.com/api/generate", "ollama", "https://ollama.com", "ollama_generate"},
		{"https://shop.server/internal/api/chat", "", "", ""},
		{"http://llm.internal:8080/v1/models", "vllm", "http://llm.internal:8080", "models"},
		{"http://gw.internal/team/v1/chat/completions", "openai", "http://gw.internal/team", "chat"},
		{"http://gw.internal/v1/messages", "anthropic", "http://gw.internal", "messages"},
		{"http://shop.internal/v1/orders", "", "", ""},
	} {
		post(t, c, tt.url, "{}")
		got := h.events()
		if tt.provider == "" {
			if len(got) != 0 {
				t.Errorf("%s was captured", tt.url)
			}
			continue
		}
		if len(got) != 1 {
			t.Errorf("%s: %d events", tt.url, len(got))
			continue
		}
		if e := got[0]; e.Provider != tt.provider || e.BaseURL != tt.base || tt.operation != "-" && e.Operation != tt.operation {
			t.Errorf("%s: provider %q, base %s, operation %q", tt.url, e.Provider, e.BaseURL, e.Operation)
		}
	}
}

// Bodies of other kinds pass as they come, their size unbounded.
func TestTransportUpload(t *testing.T) {
	h := newHedge(t, nil)
	var sent int64
	c := &http.Client{Transport: h.Transport(fake(func(r *http.Request) (*http.Response, error) {
		sent, _ = io.Copy(io.Discard, r.Body)
		_ = r.Body.Close()
		return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"audio/mpeg"}}, Body: io.NopCloser(strings.NewReader(strings.Repeat("x", 3<<20))), ContentLength: -1, Request: r}, nil
	}))}
	if _, answer := post(t, c, "https://api.openai.com/v1/audio/transcriptions", strings.Repeat("y", 1<<20), "Content-Type", "multipart/form-data; boundary=b"); len(answer) != 3<<20 {
		t.Errorf("%d bytes", len(answer))
	}
	if e := h.one(); sent != 1<<20 || e.RequestBytes != 1<<20 || e.ResponseBytes != 3<<20 {
		t.Errorf("sent %d, recorded %d and %d", sent, e.RequestBytes, e.ResponseBytes)
	}
}

// A long answer is kept at both ends, where its usage is.
func TestLongStream(t *testing.T) {
	h := newHedge(t, nil)
	var b strings.Builder
	for range 30_000 {
		b.WriteString(`data: {"id":"chatcmpl-1","object":"chat.completion.chunk","model":"gpt-4.1-mini","choices":[{"index":0,"delta":{"content":"the wren nests in the blackthorn "}}]}` + "\n\n")
	}
	b.WriteString(`data: {"id":"chatcmpl-1","object":"chat.completion.chunk","model":"gpt-4.1-mini","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":30000,"total_tokens":30007}}` + "\n\ndata: [DONE]\n\n")
	c := &http.Client{Transport: h.Transport(fake(func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: io.NopCloser(strings.NewReader(b.String())), ContentLength: -1, Request: r}, nil
	}))}
	_, answer := post(t, c, "https://api.openai.com/v1/chat/completions", `{"model":"gpt-4.1-mini","stream":true,"messages":[]}`)
	if strings.Contains(answer, "usage") || !strings.HasSuffix(answer, "[DONE]\n\n") {
		t.Errorf("the caller sees …%s", answer[max(0, len(answer)-300):])
	}
	if e := h.one(); e.Usage.Output != event.Some[int64](30000) || e.IsError {
		t.Errorf("%+v", e.Usage)
	}
}

// A stream that a caller reads event by event is not delayed.
func TestStreamIsNotDelayed(t *testing.T) {
	h := newHedge(t, nil)
	pr, pw := io.Pipe()
	c := &http.Client{Transport: h.Transport(fake(func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: pr, ContentLength: -1, Request: r}, nil
	}))}
	req, _ := http.NewRequest(http.MethodPost, "https://api.openai.com/v1/chat/completions", strings.NewReader(`{"model":"m","stream":true}`))
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	const chunk = `data: {"choices":[{"delta":{"content":"a"}}],"usage":null}` + "\n\n"
	const want = `data: {"choices":[{"delta":{"content":"a"}}]}` + "\n\n"
	buf := make([]byte, 1000)
	for range 3 {
		go func() { _, _ = io.WriteString(pw, chunk) }()
		n, err := res.Body.Read(buf)
		if err != nil || string(buf[:n]) != want {
			t.Fatalf("%q, %v", buf[:n], err)
		}
	}
	go pw.Close()
	if _, err := res.Body.Read(buf); err != io.EOF {
		t.Errorf("%v", err)
	}
	h.one()
}

func TestDisabledWrappers(t *testing.T) {
	var none *hedgerow.Client
	base := fake(func(*http.Request) (*http.Response, error) { return nil, io.ErrClosedPipe })
	if _, err := none.Transport(base).RoundTrip(httptest.NewRequest("GET", "/", nil)); err != io.ErrClosedPipe {
		t.Errorf("%v", err)
	}
	if none.Transport(nil) != http.DefaultTransport {
		t.Error("no default transport")
	}
	if _, err := none.Middleware()(httptest.NewRequest("GET", "/", nil), base); err != io.ErrClosedPipe {
		t.Errorf("%v", err)
	}
}

func TestSpanContext(t *testing.T) {
	h := newHedge(t, func(c *hedgerow.Config) {
		c.SpanContext = func(context.Context) (string, string) { return "aa", "bb" }
	})
	oa := h.openai()
	if _, err := oa.Chat.Completions.New(t.Context(), chat); err != nil {
		t.Fatal(err)
	}
	if e := h.one(); e.TraceID != "aa" || e.ParentID != "bb" {
		t.Errorf("trace %s, parent %s", e.TraceID, e.ParentID)
	}
	if _, err := oa.Chat.Completions.New(hedgerow.WithTrace(t.Context(), "cc"), chat); err != nil {
		t.Fatal(err)
	}
	if e := h.one(); e.TraceID != "cc" || e.ParentID != "" {
		t.Errorf("trace %s, parent %s", e.TraceID, e.ParentID)
	}
}
