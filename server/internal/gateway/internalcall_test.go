package gateway_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/privacy"
	simprovider "github.com/hedgerow/hedgerow/internal/simulate/provider"
	"github.com/hedgerow/hedgerow/server/internal/gateway"
)

// ownAuthorize has a key for openai and anthropic for the project of an own
// call, and rejects everyone else.
func ownAuthorize(_ string, r *http.Request) (gateway.Grant, error) {
	id, ok := gateway.InternalProject(r)
	if !ok {
		return gateway.Grant{}, event.NewError(event.CodeUnauthorized, "not an own call", "", nil)
	}
	return gateway.Grant{ProjectID: id, ProviderKey: func(name string) (string, bool) {
		return providerKey, name == "openai" || name == "anthropic" || name == "gemini"
	}}, nil
}

func TestOwnCall(t *testing.T) {
	for _, c := range []struct {
		provider string
		path     string
		want     []string // in the body
		never    []string
	}{
		{"openai", "/v1/chat/completions", []string{`"max_completion_tokens":77`, `"response_format":{"json_schema"`, `"role":"system"`, `"content":"one\ntwo"`, `"temperature":0.5`}, []string{`"stream"`, `"type":"text"`}},
		{"anthropic", "/v1/messages", []string{`"max_tokens":77`, `"system":"Be brief."`, `"content":"one\ntwo"`, `"temperature":0.5`}, []string{`"stream"`, `"role":"system"`, `response_format`}},
		{"gemini", "/v1beta/models/gemini-2.5-flash:generateContent", []string{`"maxOutputTokens":77`, `"systemInstruction":{"parts":[{"text":"Be brief."}]}`, `"contents":[{"role":"user","parts":[{"text":"one\ntwo"}]}]`, `"temperature":0.5`, `"responseMimeType":"application/json"`, `"responseJsonSchema":{"type":"object"}`}, []string{`"stream"`, `"role":"system"`, `"model"`, `"messages"`}},
	} {
		t.Run(c.provider, func(t *testing.T) {
			r, sim := simulate(t, gateway.Config{Authorize: ownAuthorize})
			sim.Script(simprovider.Behavior{Text: "forty-two"})
			id := event.NewID()
			own := gateway.InternalCall{
				ProjectID: "p7", UUID: id, Provider: c.provider, Model: map[string]string{"openai": "gpt-4.1-mini", "anthropic": "claude-sonnet-4-5", "gemini": "gemini-2.5-flash"}[c.provider], MaxTokens: 77,
				Messages: []gateway.InternalMessage{{Role: "system", Content: json.RawMessage(`"Be brief."`)}, {Role: "user", Content: json.RawMessage(`[{"type":"text","text":"one"},{"type":"text","text":"two"}]`)}},
				Params:   map[string]json.RawMessage{"temperature": json.RawMessage("0.5"), "stream": json.RawMessage("true")},
				Schema:   json.RawMessage(`{"type":"object"}`),
				Header:   http.Header{"X-Posthog-Trace-Id": {"trace-7"}, "X-Hedgerow-Surface": {"Judge"}, "X-Posthog-Properties": {`{"eval_name":"helpful"}`}},
			}
			e, err := r.Call(t.Context(), own)
			if err != nil {
				t.Fatal(err)
			}
			if text, _ := privacy.AnswerText(e.Content.Output); text != "forty-two" || !e.Usage.Input.Known || !e.Usage.Output.Known || !e.Latency.Known || e.IsError {
				t.Errorf("%q %+v", text, e)
			}
			// The same generation is recorded.
			got := r.one(t)
			for _, x := range []*event.Event{e, got} {
				if x.UUID != id || x.SpanID != id || x.TraceID != "trace-7" || x.Surface != "Judge" || x.ProjectID != "p7" || string(x.Properties["eval_name"]) != `"helpful"` || x.Name != event.Generation {
					t.Errorf("%+v", x)
				}
			}
			arrived := sim.Requests()[0]
			if !strings.HasSuffix(arrived.Path, c.path) || strings.Contains(strings.Join(arrived.Header["Authorization"], ""), "hr_") {
				t.Errorf("%s %v", arrived.Path, arrived.Header)
			}
			for _, want := range c.want {
				if !strings.Contains(string(arrived.Body), want) {
					t.Errorf("the body lacks %s: %s", want, arrived.Body)
				}
			}
			for _, never := range c.never {
				if strings.Contains(string(arrived.Body), never) {
					t.Errorf("the body has %s: %s", never, arrived.Body)
				}
			}
		})
	}
}

// An error of the provider is in the event, and the key of an own call is valid
// for no one else.
func TestOwnCallFails(t *testing.T) {
	r, sim := simulate(t, gateway.Config{Authorize: ownAuthorize})
	own := gateway.InternalCall{ProjectID: "p7", UUID: event.NewID(), Provider: "openai", Model: "m", Messages: []gateway.InternalMessage{{Role: "user", Content: json.RawMessage(`"x"`)}}}
	for _, f := range []simprovider.Failure{simprovider.RateLimit, simprovider.ServerError, simprovider.Reset, simprovider.Unauthorized} {
		sim.Script(simprovider.Behavior{Fail: f})
		if e, err := r.Call(t.Context(), own); err != nil || !e.IsError {
			t.Errorf("%s: %v, %+v", f, err, e)
		}
	}
	for name, p := range map[string]string{"no key": "openrouter", "no such provider": "unknown", "no resource": "azure"} {
		o := own
		o.Provider = p
		if _, err := r.Call(t.Context(), o); err == nil || event.AsError(err).Hint == "" || event.AsError(err).HTTPStatus() >= 500 {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, m := range []gateway.InternalMessage{{Role: "tool", Content: json.RawMessage(`"x"`)}, {Role: "user", Content: json.RawMessage(`[{"type":"image_url","image_url":{"url":"https://x"}}]`)}, {Role: "user", Content: json.RawMessage(`null`)}} {
		o := own
		o.Provider, o.Messages = "gemini", []gateway.InternalMessage{m}
		if _, err := r.Call(t.Context(), o); err == nil || !strings.Contains(err.Error(), "cannot be sent to Gemini") {
			t.Errorf("%s: %v", m.Content, err)
		}
	}
	before := len(sim.Requests())
	o := own
	o.Provider, o.Model = "gemini", "gemini-2.5-flash"
	o.Params = map[string]json.RawMessage{"top_p": json.RawMessage("0.9"), "stop": json.RawMessage(`"END"`), "generationConfig": json.RawMessage(`{"seed":4}`), "safetySettings": json.RawMessage(`[]`), "thinkingConfig": json.RawMessage(`{"thinkingBudget":0}`)}
	o.Messages = []gateway.InternalMessage{{Role: "user", Content: json.RawMessage(`[{"inlineData":{"mimeType":"image/png","data":"AA=="}},{"type":"text","text":"What?"}]`)}, {Role: "assistant", Content: json.RawMessage(`"A dot."`)}, {Role: "user", Content: json.RawMessage(`"Sure?"`)}}
	if e, err := r.Call(t.Context(), o); err != nil || e.IsError {
		t.Errorf("%v %+v", err, e)
	}
	const want = `{"contents":[{"role":"user","parts":[{"inlineData":{"mimeType":"image/png","data":"AA=="}},{"text":"What?"}]},{"role":"model","parts":[{"text":"A dot."}]},{"role":"user","parts":[{"text":"Sure?"}]}],"generationConfig":{"seed":4,"stopSequences":["END"],"thinkingConfig":{"thinkingBudget":0},"topP":0.9},"safetySettings":[]}`
	if got := sim.Requests()[before:]; len(got) != 1 || string(got[0].Body) != want {
		t.Errorf("Gemini got %s", got[0].Body)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if e, err := r.Call(ctx, own); err != nil || !e.IsError || e.ErrorType != event.ErrTypeClientGone {
		t.Errorf("cancelled: %v, %+v", err, e)
	}
	if got := call(t, "POST", r.url+"/openai/v1/chat/completions", `{}`, "Authorization: Bearer hr_own_call"); got.status != 401 || !strings.Contains(got.body, "not an own call") {
		t.Errorf("%d %s", got.status, got.body)
	}
}
