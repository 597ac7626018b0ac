package gateway_test

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/gateway"
)

// TestAttributionFields sends attribution in the body to providers that reject
// unknown fields: it is read, fields that are not the provider's are removed,
// and every other byte arrives as it was sent.
func TestAttributionFields(t *testing.T) {
	const own = "Content-Type: application/json"
	for _, c := range []struct {
		name, path, body, arrives   string
		user, session, feature, tid string
	}{
		{name: "all fields", path: "/openai/v1/chat/completions",
			body:    `{"model":"gpt-4.1-mini","messages":[{"role":"user","content":"x"}],"user":"user_123","session":"session_456","feature":"product_recommendations"}`,
			arrives: `{"model":"gpt-4.1-mini","messages":[{"role":"user","content":"x"}],"user":"user_123"}`,
			user:    "user_123", session: "session_456", feature: `"product_recommendations"`},
		{name: "escapes, space and duplicates", path: "/openai/v1/chat/completions",
			body:    "{ \"featur\\u0065\" : {\"a\":[\"}\",1.50]} ,\n\t\"model\":\"gpt-4.1-mini\",\"session_id\":\"one\",\"messages\":[{\"role\":\"user\",\"content\":\"\\u00e9 \\/ {\\\"feature\\\":1}\"}] ,\"session_id\":\"two\",\"metadata\": {\"k\":\"v\"}, \"feature\": 1.0 }\n",
			arrives: "{ \"model\":\"gpt-4.1-mini\",\"messages\":[{\"role\":\"user\",\"content\":\"\\u00e9 \\/ {\\\"feature\\\":1}\"}] ,\"metadata\": {\"k\":\"v\"} }\n",
			session: "two", feature: "1.0"},
		{name: "session_id before session", path: "/openai/v1/chat/completions",
			body:    `{"model":"gpt-4.1-mini","session_id":"a","session":"b","messages":[{"role":"user","content":"x"}]}`,
			arrives: `{"model":"gpt-4.1-mini","messages":[{"role":"user","content":"x"}]}`, session: "a"},
		{name: "a provider's own fields", path: "/openai/v1/responses",
			body:    `{"model":"gpt-4.1-mini","safety_identifier":"si","metadata":{"feature":"m"},"trace":{"trace_id":"t1"},"session":7,"input":"x"}`,
			arrives: `{"model":"gpt-4.1-mini","safety_identifier":"si","metadata":{"feature":"m"},"input":"x"}`,
			user:    "si", session: "7", feature: `"m"`, tid: "t1"},
		{name: "embeddings", path: "/openai/v1/embeddings",
			body:    `{"feature":"f","input":"x","model":"text-embedding-3-small"}`,
			arrives: `{"input":"x","model":"text-embedding-3-small"}`, feature: `"f"`},
		{name: "anthropic", path: "/anthropic/v1/messages",
			body:    `{"model":"claude-sonnet-4-5","user":"u","feature":"f","max_tokens":9,"metadata":{"user_id":"mu"},"session":"s","messages":[{"role":"user","content":"x"}]}`,
			arrives: `{"model":"claude-sonnet-4-5","max_tokens":9,"metadata":{"user_id":"mu"},"messages":[{"role":"user","content":"x"}]}`,
			user:    "u", session: "s", feature: `"f"`},
		{name: "gemini", path: "/gemini/v1beta/models/gemini-2.5-flash:generateContent",
			body:    `{"contents":[{"role":"user","parts":[{"text":"x"}]}],"user":"u","session":"s","feature":"f","trace":{"trace_id":"t2"}}`,
			arrives: `{"contents":[{"role":"user","parts":[{"text":"x"}]}]}`,
			user:    "u", session: "s", feature: `"f"`, tid: "t2"},
		{name: "openrouter's own", path: "/openrouter/api/v1/chat/completions",
			body:    `{"model":"openai/gpt-4.1-mini","messages":[{"role":"user","content":"x"}],"user":"u","session_id":"s","trace":{"trace_id":"t3"},"feature":"f"}`,
			arrives: `{"model":"openai/gpt-4.1-mini","messages":[{"role":"user","content":"x"}],"user":"u","session_id":"s","trace":{"trace_id":"t3"}}`,
			user:    "u", session: "s", feature: `"f"`, tid: "t3"},
		{name: "mistral has no user", path: "/mistral/v1/chat/completions",
			body:    `{"model":"mistral-small-latest","messages":[{"role":"user","content":"x"}],"user":"u","feature":true}`,
			arrives: `{"model":"mistral-small-latest","messages":[{"role":"user","content":"x"}]}`,
			user:    "u", feature: "true"},
	} {
		t.Run(c.name, func(t *testing.T) {
			sim := providers(t)
			r := start(t, gateway.Config{
				Upstreams: map[string]gateway.Upstream{
					"openai": {BaseURL: sim.OpenAIURL()}, "anthropic": {BaseURL: sim.AnthropicURL()}, "openrouter": {BaseURL: sim.OpenRouterURL()},
					"gemini": {BaseURL: sim.GeminiURL()}, "mistral": {BaseURL: sim.CompatibleURL("mistral")},
				},
				Authorize: func(string, *http.Request) (gateway.Grant, error) {
					return gateway.Grant{ProjectID: "p1", AttributionFields: []string{"feature"}}, nil
				},
			})
			headers := []string{own, "X-Sim: known_only", "Authorization: Bearer sk-x", "X-Api-Key: k", "X-Goog-Api-Key: k", "Anthropic-Version: 2023-06-01"}
			if got := call(t, "POST", r.url+c.path, c.body, headers...); got.status != 200 {
				t.Errorf("status %d: %s", got.status, got.body)
			}
			if got := string(sim.Requests()[0].Body); got != c.arrives {
				t.Errorf("arrived\n%s\nwant\n%s", got, c.arrives)
			}
			e := r.one(t)
			if e.DistinctID != c.user || e.SessionID != c.session || string(e.Properties["feature"]) != c.feature || c.tid != "" && e.TraceID != c.tid {
				t.Errorf("user %q, session %q, feature %s, trace %q", e.DistinctID, e.SessionID, e.Properties["feature"], e.TraceID)
			}
		})
	}
}

// TestAttributionFieldsLeft sends bodies that must not be changed.
func TestAttributionFieldsLeft(t *testing.T) {
	const body = `{"model":"m","session":"s","feature":"f","messages":[]}`
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write([]byte(body))
	_ = z.Close()
	for _, c := range []struct {
		name, path, body string
		headers          []string
		limit            int
		session          string
	}{
		{name: "compressed", body: packed.String(), headers: []string{"Content-Encoding: gzip"}, session: "s"},
		{name: "above the size limit", body: body, limit: 20},
		{name: "not JSON", body: body[:len(body)-1], session: "s"},
		{name: "a form", body: body, headers: []string{"Content-Type: text/plain"}, session: "s"},
		{name: "a list", body: "[" + body + "]"},
		{name: "invalid member", body: `{"model":"m","feature":{"a":]},"messages":[]}`},
		{name: "not a generation", path: "/openai/v1/realtime/client_secrets", body: `{"session":{"type":"realtime"},"feature":"f"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			up := newUpstreamCases(t)
			r := start(t, gateway.Config{
				Upstreams: map[string]gateway.Upstream{"openai": {BaseURL: up.URL}}, Limits: gateway.Limits{RequestBytes: c.limit},
				Authorize: func(string, *http.Request) (gateway.Grant, error) {
					return gateway.Grant{ProjectID: "p1", AttributionFields: []string{"feature"}}, nil
				},
			})
			if c.path == "" {
				c.path = "/openai/v1/chat/completions"
			}
			if !strings.Contains(strings.Join(c.headers, " "), "Content-Type") {
				c.headers = append(c.headers, "Content-Type: application/json")
			}
			call(t, "POST", r.url+c.path, c.body, c.headers...)
			if got := up.got().Body; got != c.body {
				t.Errorf("arrived %q, sent %q", got, c.body)
			}
			if e := r.one(t); e.SessionID != c.session && c.limit == 0 {
				t.Errorf("session %q, want %q", e.SessionID, c.session)
			}
		})
	}
}

// TestLabels checks where surface, environment and task type are read from, and
// which value takes precedence.
func TestLabels(t *testing.T) {
	const body = `{"model":"m","trace":{"surface":"trace","environment":"trace"},"metadata":{"surface":"meta","task_type":"meta","$environment":"x"},"messages":[]}`
	for name, c := range map[string]struct {
		body                  string
		headers               []string
		surface, environ, typ string
	}{
		"hedgerow's headers":   {body, []string{"X-Hedgerow-Surface: own", "X-Hedgerow-Environment: own", "X-Hedgerow-Task-Type: own", "X-PostHog-Property-Surface: p", "X-PostHog-Property-Environment: p", "X-PostHog-Property-Task_Type: p"}, "own", "own", "own"},
		"property headers":     {body, []string{"X-PostHog-Property-Surface: p", `X-PostHog-Properties: {"surface":"object","$environment":"object","task_type":"object"}`}, "p", "object", "object"},
		"the body's trace":     {body, nil, "trace", "trace", "meta"},
		"metadata":             {`{"model":"m","metadata":{"surface":"meta","deployment.environment":"old","deployment.environment.name":"new"},"messages":[]}`, nil, "meta", "new", ""},
		"an attribution field": {`{"model":"m","environment":"listed","messages":[]}`, nil, "of the key", "listed", ""},
		"from the key":         {`{"model":"m","messages":[]}`, nil, "of the key", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, gateway.Config{
				Upstreams: map[string]gateway.Upstream{"openai": {BaseURL: newUpstreamCases(t).URL}},
				Authorize: func(string, *http.Request) (gateway.Grant, error) {
					return gateway.Grant{ProjectID: "p1", AttributionFields: []string{"environment"}, Surface: "of the key"}, nil
				},
			})
			chat(t, r.url, c.body, c.headers...)
			e := r.one(t)
			if e.Surface != c.surface || e.Environment != c.environ || e.TaskType != c.typ {
				t.Errorf("surface %q, environment %q, task type %q; want %q, %q, %q", e.Surface, e.Environment, e.TaskType, c.surface, c.environ, c.typ)
			}
			wire := e.WireProperties()
			for _, name := range []string{"surface", "environment", "task_type"} {
				if got := *e.Label(name); got != "" && string(wire[name]) != `"`+got+`"` {
					t.Errorf("%s is sent as %s", name, wire[name])
				}
			}
			if _, ok := e.Properties["surface"]; ok || e.Name != event.Generation {
				t.Errorf("%s with properties %s", e.Name, e.Properties)
			}
		})
	}
}
