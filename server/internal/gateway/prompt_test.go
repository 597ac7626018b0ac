package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/gateway"
)

// fakePrompts has one prompt, support; it keeps the last request.
type fakePrompts struct {
	asked    gateway.PromptRequest
	response gateway.Prompt
}

func (f *fakePrompts) Render(_ context.Context, ask gateway.PromptRequest) (gateway.Prompt, error) {
	f.asked = ask
	if ask.Name != "support" {
		return gateway.Prompt{}, event.NewError(event.CodeNotFound, "prompt \""+ask.Name+"\" not found", "list the prompts", nil)
	}
	if ask.Variables["name"] == nil {
		return gateway.Prompt{}, event.Invalid("the variable name has no value", "")
	}
	return f.response, nil
}

// promptRig is a gateway in front of a provider that keeps the request.
func promptRig(t *testing.T, f *fakePrompts) (*rig, func() (*http.Request, string)) {
	t.Helper()
	var last *http.Request
	var body []byte
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		last = r
		body, _ = io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"id":"x","object":"chat.completion","model":"gpt-5","choices":[{"index":0,"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1}}`)
	}))
	t.Cleanup(srv.Close)
	c := gateway.Config{Upstreams: map[string]gateway.Upstream{"openai": {BaseURL: srv.URL}, "anthropic": {BaseURL: srv.URL}, "azure": {BaseURL: "http://{resource}.invalid"}}}
	if f != nil {
		c.Prompts = f
	}
	return start(t, c), func() (*http.Request, string) { return last, string(body) }
}

func postPrompt(t *testing.T, r *rig, path, ref, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer sk-test")
	if ref != "" {
		req.Header.Set("X-Hedgerow-Prompt", ref)
	}
	res, err := http.DefaultClient.Do(req)
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

func warm() gateway.Prompt {
	return gateway.Prompt{Provider: "openai", Model: "gpt-5", Params: map[string]any{"temperature": 0.2, "top_p": 0.9},
		Messages: []gateway.PromptMessage{{Role: "system", Content: "Be warm & <brief> with Ann."}, {Role: "user", Content: "Hello."}},
		Mark: func(e *event.Event) {
			e.PromptName, e.PromptVersion, e.PromptVersionID, e.Flags = "support", "2", "pv_2", map[string]string{"support-prompt": "treatment"}
		}}
}

func TestPromptRendered(t *testing.T) {
	for name, c := range map[string]struct{ path, body, want string }{
		"chat": {"/openai/v1/chat/completions", `{"model":"any","temperature":1,"prompt_variables":{"name":"Ann"},"messages":[{"role":"user","content":"My order?"}],"user":"u-7"}`,
			`{"model":"gpt-5","temperature":1,"messages":[{"role":"system","content":"Be warm & <brief> with Ann."},{"role":"user","content":"Hello."},{"role":"user","content":"My order?"}],"user":"u-7","top_p":0.9}`},
		"chat without messages": {"/openai/v1/chat/completions", `{"prompt_variables":{"name":"Ann"}}`,
			`{"temperature":0.2,"top_p":0.9,"model":"gpt-5","messages":[{"role":"system","content":"Be warm & <brief> with Ann."},{"role":"user","content":"Hello."}]}`},
		"responses": {"/openai/v1/responses", `{"model":"any","input":"My order?","prompt_variables":{"name":"Ann"}}`,
			`{"model":"gpt-5","input":[{"role":"system","content":"Be warm & <brief> with Ann."},{"role":"user","content":"Hello."},{"role":"user","content":"My order?"}],"temperature":0.2,"top_p":0.9}`},
		"responses with items": {"/openai/v1/responses", `{"input":[{"role":"user","content":[{"type":"input_text","text":"Hi"}]}],"prompt_variables":{"name":"Ann"},"top_p":1}`,
			`{"input":[{"role":"system","content":"Be warm & <brief> with Ann."},{"role":"user","content":"Hello."},{"role":"user","content":[{"type":"input_text","text":"Hi"}]}],"top_p":1,"temperature":0.2,"model":"gpt-5"}`},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fakePrompts{response: warm()}
			r, came := promptRig(t, f)
			if status, body := postPrompt(t, r, c.path, "support@staging", c.body); status != 200 {
				t.Fatalf("%d %s", status, body)
			}
			req, got := came()
			if got != c.want {
				t.Errorf("the provider got\n%s\nwant\n%s", got, c.want)
			}
			if req.Header.Get("X-Hedgerow-Prompt") != "" || req.ContentLength != int64(len(c.want)) {
				t.Errorf("%v, %d bytes announced", req.Header, req.ContentLength)
			}
			if f.asked.Version != "staging" || f.asked.ProjectID != "p1" || name == "chat" && f.asked.DistinctID != "u-7" {
				t.Errorf("asked for %+v", f.asked)
			}
			e := r.sink.await(t, 1)[0]
			if e.PromptName != "support" || e.PromptVersion != "2" || e.PromptVersionID != "pv_2" || e.Flags["support-prompt"] != "treatment" || e.ModelAsked != "gpt-5" {
				t.Errorf("the event has %s@%s %s %v on %s", e.PromptName, e.PromptVersion, e.PromptVersionID, e.Flags, e.ModelAsked)
			}
		})
	}
}

func TestPromptRenderedForAnthropic(t *testing.T) {
	for name, c := range map[string]struct{ body, want string }{
		"no system":    {`{"max_tokens":9,"messages":[{"role":"user","content":"Hi"}],"prompt_variables":{"name":"Ann"}}`, `"Be warm & <brief> with Ann."`},
		"text":         {`{"max_tokens":9,"system":"Own.","messages":[],"prompt_variables":{"name":"Ann"}}`, `"Be warm & <brief> with Ann.\n\nOwn."`},
		"blocks":       {`{"max_tokens":9,"system":[{"type":"text","text":"Own."}],"prompt_variables":{"name":"Ann"}}`, `[{"text":"Be warm & <brief> with Ann.","type":"text"},{"type":"text","text":"Own."}]`},
		"user in meta": {`{"max_tokens":9,"metadata":{"user_id":"u-9"},"prompt_variables":{"name":"Ann"}}`, `"Be warm & <brief> with Ann."`},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fakePrompts{response: warm()}
			f.response.Provider, f.response.Params = "anthropic", nil
			r, came := promptRig(t, f)
			if status, body := postPrompt(t, r, "/anthropic/v1/messages", "support", c.body); status != 200 {
				t.Fatalf("%d %s", status, body)
			}
			_, got := came()
			var in struct {
				System   json.RawMessage
				Model    string
				Messages []struct{ Role string }
			}
			if err := json.Unmarshal([]byte(got), &in); err != nil {
				t.Fatal(err)
			}
			var system bytes.Buffer
			system.Write(in.System)
			if system.String() != c.want || in.Model != "gpt-5" || len(in.Messages) == 0 || in.Messages[0].Role != "user" || strings.Contains(got, "prompt_variables") {
				t.Errorf("the provider got %s", got)
			}
			if name == "user in meta" && f.asked.DistinctID != "u-9" {
				t.Errorf("asked for %q", f.asked.DistinctID)
			}
		})
	}
}

// A call that does not request rendering is forwarded byte for byte.
func TestPromptNotNamed(t *testing.T) {
	const plain = `{ "model": "m",  "messages": [{"role":"user","content":"say prompt_variables"}] }`
	const named = `{"model":"m","messages":[],"prompt_variables":{"name":"Ann"}}`
	for name, c := range map[string]struct{ path, ref, body string }{
		"no header":        {"/openai/v1/chat/completions", "", named},
		"no member":        {"/openai/v1/chat/completions", "support@3", plain},
		"not JSON":         {"/openai/v1/chat/completions", "support", `{"prompt_variables":{"name":"Ann"}`},
		"member elsewhere": {"/openai/v1/chat/completions", "support", `{"model":"m","messages":[{"prompt_variables":{}}]}`},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fakePrompts{response: warm()}
			r, came := promptRig(t, f)
			if status, body := postPrompt(t, r, c.path, c.ref, c.body); status != 200 {
				t.Fatalf("%d %s", status, body)
			}
			if _, got := came(); got != c.body || f.asked.Name != "" {
				t.Errorf("the provider got %s", got)
			}
		})
	}
}

func TestPromptRefused(t *testing.T) {
	for name, c := range map[string]struct {
		path, ref, body string
		status          int
		says            string
	}{
		"unknown prompt":          {"/openai/v1/chat/completions", "nothing", `{"prompt_variables":{"name":"Ann"}}`, 404, `prompt \"nothing\" not found`},
		"missing variable":        {"/openai/v1/chat/completions", "support", `{"prompt_variables":{}}`, 400, "variable name has no value"},
		"variables not an object": {"/openai/v1/chat/completions", "support", `{"prompt_variables":[1]}`, 400, "is not a JSON object"},
		"messages not a list":     {"/openai/v1/chat/completions", "support", `{"messages":"hi","prompt_variables":{"name":"Ann"}}`, 400, "cannot be parsed"},
		"other provider":          {"/anthropic/v1/messages", "support", `{"prompt_variables":{"name":"Ann"}}`, 400, "is for openai"},
		"other call":              {"/openai/v1/embeddings", "support", `{"input":"x","prompt_variables":{"name":"Ann"}}`, 400, "this kind of call"},
	} {
		t.Run(name, func(t *testing.T) {
			r, came := promptRig(t, &fakePrompts{response: warm()})
			status, body := postPrompt(t, r, c.path, c.ref, c.body)
			if status != c.status || !strings.Contains(body, c.says) || !strings.Contains(body, `"error"`) {
				t.Errorf("%d %s, want %d with %s", status, body, c.status, c.says)
			}
			if req, _ := came(); req != nil {
				t.Error("the provider was called")
			}
		})
	}
}

// TestPromptToNamedHost has a caller without a key choose the host that a
// stored prompt would be sent to.
func TestPromptToNamedHost(t *testing.T) {
	f := &fakePrompts{response: gateway.Prompt{Messages: []gateway.PromptMessage{{Role: "system", Content: "the stored words"}}}}
	r, _ := promptRig(t, f)
	const body = `{"model":"m","messages":[],"prompt_variables":{"name":"Ann"}}`
	status, response := postPrompt(t, r, "/azure/stolen/openai/deployments/x/chat/completions", "support", body)
	if status != 401 || !strings.Contains(response, "requires a key") || f.asked.Name != "" {
		t.Errorf("%d %s, asked for %q", status, response, f.asked.Name)
	}
	if status, response = postPrompt(t, r, "/openai/v1/chat/completions", "support", body); status != 200 {
		t.Errorf("%d %s", status, response)
	}
}
