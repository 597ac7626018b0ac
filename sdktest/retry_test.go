package sdktest_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
	openaioption "github.com/openai/openai-go/v3/option"

	"github.com/hedgerow/hedgerow"
	simprovider "github.com/hedgerow/hedgerow/internal/simulate/provider"
)

// retry_count is what is known: the client's own count, or that the same request of
// the same task came again after it failed. Else it is absent.
func TestRetryCount(t *testing.T) {
	h := newHedge(t, nil)
	quick := func(r *http.Request, next openaioption.MiddlewareNext) (*http.Response, error) {
		res, err := next(r)
		if res != nil {
			res.Header.Set("Retry-After-Ms", "1")
		}
		return res, err
	}
	counts := func() string {
		t.Helper()
		var all []string
		for _, e := range h.events() {
			s := string(e.Properties["retry_count"])
			if s == "" {
				s = "unknown"
			}
			all = append(all, s)
		}
		return strings.Join(all, " ")
	}
	oa := h.openai()
	for want, script := range map[string][]simprovider.Behavior{
		"0": {{}},
		"2": {{Fail: simprovider.ServerError}, {Fail: simprovider.Unavailable}, {}},
	} {
		h.sim.Script(script...)
		if _, err := oa.Chat.Completions.New(t.Context(), chat, openaioption.WithMiddleware(quick)); err != nil {
			t.Fatal(err)
		}
		if got := counts(); got != want {
			t.Errorf("openai-go: %s, want %s", got, want)
		}
	}

	c := &http.Client{Transport: h.Transport(nil)}
	say := func(ctx func(*http.Request) *http.Request, body string, fail bool) {
		t.Helper()
		if fail {
			h.sim.Script(simprovider.Behavior{Fail: simprovider.Unavailable})
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.sim.OpenAIURL()+"/v1/chat/completions", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		res, err := c.Do(ctx(req))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
	}
	const body = `{"model":"gpt-4.1-mini","messages":[{"role":"user","content":"hedge"}]}`
	bare := func(r *http.Request) *http.Request { return r }
	traced := func(id string) func(*http.Request) *http.Request {
		return func(r *http.Request) *http.Request { return r.WithContext(hedgerow.WithTrace(r.Context(), id)) }
	}
	user := hedgerow.WithUser(t.Context(), "ada")
	one := func(r *http.Request) *http.Request { return r.WithContext(user) }
	for _, tt := range []struct {
		name string
		ctx  []func(*http.Request) *http.Request
		fail []bool
		body []string
		want string
	}{
		{"same trace", []func(*http.Request) *http.Request{traced("a"), traced("a"), traced("a")}, []bool{true, true, false}, []string{body, body, body}, "unknown 1 2"},
		{"same context", []func(*http.Request) *http.Request{one, one}, []bool{true, false}, []string{body, body}, "unknown 1"},
		{"again after success", []func(*http.Request) *http.Request{traced("b"), traced("b")}, []bool{false, false}, []string{body, body}, "unknown unknown"},
		{"another trace", []func(*http.Request) *http.Request{traced("c"), traced("d")}, []bool{true, false}, []string{body, body}, "unknown unknown"},
		{"another request", []func(*http.Request) *http.Request{traced("e"), traced("e")}, []bool{true, false}, []string{body, strings.Replace(body, "hedge", "row", 1)}, "unknown unknown"},
		{"nobody says whose", []func(*http.Request) *http.Request{bare, bare}, []bool{true, false}, []string{body, body}, "unknown unknown"},
	} {
		for i := range tt.ctx {
			say(tt.ctx[i], tt.body[i], tt.fail[i])
		}
		if got := counts(); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// An outcome has the retries of its trace's calls, as far as they are known.
func TestOutcomeRetryCount(t *testing.T) {
	h := newHedge(t, nil)
	oa := h.openai()
	h.sim.Script(simprovider.Behavior{Fail: simprovider.ServerError}, simprovider.Behavior{}, simprovider.Behavior{})
	ctx := hedgerow.WithTrace(t.Context(), "retried")
	for range 2 {
		if _, err := oa.Chat.Completions.New(ctx, chat, openaioption.WithMaxRetries(2)); err != nil {
			t.Fatal(err)
		}
	}
	steady := hedgerow.WithTrace(t.Context(), "steady")
	if _, err := oa.Chat.Completions.New(steady, openai.ChatCompletionNewParams{Model: "gpt-4.1-mini", Messages: chat.Messages}); err != nil {
		t.Fatal(err)
	}
	h.events()
	for _, tt := range []struct {
		outcome hedgerow.Outcome
		want    string
	}{
		{hedgerow.Outcome{TraceID: "retried"}, "1"},
		{hedgerow.Outcome{TraceID: "steady"}, "0"},
		{hedgerow.Outcome{TraceID: "unseen"}, ""},
		{hedgerow.Outcome{}, ""},
		{hedgerow.Outcome{TraceID: "retried", Retries: 4}, "4"},
		{hedgerow.Outcome{TraceID: "retried", Properties: hedgerow.Properties{"retry_count": 0}}, "0"},
	} {
		h.CaptureOutcome(t.Context(), tt.outcome)
		if got := string(h.one().Properties["retry_count"]); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.outcome, got, tt.want)
		}
	}
	h.CaptureOutcome(ctx, hedgerow.Outcome{Completed: true})
	if got := string(h.one().Properties["retry_count"]); got != "1" {
		t.Errorf("by the context: %q", got)
	}
}
