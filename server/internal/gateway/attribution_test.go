package gateway_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/gateway"
)

// attributed is the part of an event that attribution sets.
type attributed struct {
	Distinct, User, Trace, Session, Parent, TraceName, SpanName string
	Surface, Prompt, Version, VersionID, Task                   string
	Tags                                                        []string
	Flags                                                       map[string]string
	Properties                                                  map[string]string // as JSON
	Private                                                     bool
}

func attributionOf(e *event.Event) attributed {
	t := attributed{
		Distinct: e.DistinctID, User: e.User, Trace: e.TraceID, Session: e.SessionID, Parent: e.ParentID, TraceName: e.TraceName,
		Surface: e.Surface, Prompt: e.PromptName, Version: e.PromptVersion, VersionID: e.PromptVersionID, Task: e.TaskType, Tags: e.Tags, Flags: e.Flags, Private: e.Private,
	}
	if e.SpanName != "POST /v1/chat/completions" && e.SpanName != "POST /v1/messages" {
		t.SpanName = e.SpanName
	}
	for k, v := range e.Properties {
		if t.Properties == nil {
			t.Properties = make(map[string]string)
		}
		t.Properties[k] = string(v)
	}
	return t
}

// TestAttribution checks which value takes precedence where several are sent.
func TestAttribution(t *testing.T) {
	const (
		parent      = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
		parentTrace = "0af7651916cd43dd8448eb211c80319c"
		parentSpan  = "b7ad6b7169203331"
	)
	const body = `{"model":"m","user":"u","session_id":"bs","trace":{"trace_id":"bt","trace_name":"tn","span_name":"sn","parent_span_id":"bp","feature":"f","n":1},"metadata":{"team":"x"},"messages":[{"role":"user","content":"x"}]}`
	props := func(kv ...string) map[string]string {
		m := make(map[string]string)
		for i := 0; i < len(kv); i += 2 {
			m[kv[i]] = kv[i+1]
		}
		return m
	}
	for _, c := range []struct {
		name    string
		path    string
		body    string
		headers []string
		want    attributed
		newID   bool // a new trace id is generated
	}{
		{name: "nothing", newID: true},
		{name: "headers", headers: []string{
			"X-PostHog-Distinct-Id: d", "X-PostHog-Trace-Id: t", "X-PostHog-Session-Id: s", `X-PostHog-Properties: {"plan":"pro","n":1.50,"list":[1, 2],"nil":null}`,
			"X-PostHog-Property-Region: eu", "X-PostHog-Property-Plan_Tier: gold", "X-PostHog-Flag-New-Prompt: variant-b", "X-Hedgerow-Surface: Playbook", "X-Hedgerow-Prompt: greet@3",
			"X-Hedgerow-Task-Type: summary", "X-Hedgerow-Tags: beta, nightly ,beta,,$x", "X-Hedgerow-Tags: third", "X-Hedgerow-Privacy: on",
		}, want: attributed{
			Distinct: "d", Trace: "t", Session: "s", Surface: "Playbook", Prompt: "greet", Version: "3", Task: "summary", Tags: []string{"beta", "nightly", "third"}, Private: true,
			Flags: map[string]string{"new-prompt": "variant-b"}, Properties: props("plan", `"pro"`, "n", "1.50", "list", "[1, 2]", "nil", "null", "region", `"eu"`, "plan_tier", `"gold"`),
		}},
		{name: "body", body: body, want: attributed{
			Distinct: "u", User: "u", Trace: "bt", Session: "bs", Parent: "bp", TraceName: "tn", SpanName: "sn", Properties: props("feature", `"f"`, "n", "1", "team", `"x"`),
		}},
		{name: "tags and agents in the body", body: strings.Replace(body, `"feature":"f","n":1`, `"tags":["beta"," nightly ","beta","$x",7],"agent_config_id":"cfg_7","agent_step_name":"plan","tool_name":"search"`, 1), want: attributed{
			Distinct: "u", User: "u", Trace: "bt", Session: "bs", Parent: "bp", TraceName: "tn", SpanName: "sn", Tags: []string{"beta", "nightly", "7"},
			Properties: props("agent_config_id", `"cfg_7"`, "agent_step_name", `"plan"`, "tool_name", `"search"`, "team", `"x"`),
		}},
		{name: "agents in headers", headers: []string{"X-PostHog-Property-agent_config_id: cfg_7", "X-PostHog-Property-agent_step_name: plan", "X-PostHog-Property-tool_name: search"}, newID: true,
			want: attributed{Properties: props("agent_config_id", `"cfg_7"`, "agent_step_name", `"plan"`, "tool_name", `"search"`)}},
		{name: "headers win", body: body, headers: []string{"X-PostHog-Distinct-Id: d", "X-PostHog-Trace-Id: t", "X-PostHog-Session-Id: s", `X-PostHog-Properties: {"feature":"h"}`, "X-PostHog-Property-Team: h"}, want: attributed{
			Distinct: "d", User: "u", Trace: "t", Session: "s", Parent: "bp", TraceName: "tn", SpanName: "sn", Properties: props("feature", `"h"`, "n", "1", "team", `"h"`),
		}},
		{name: "a property's own header wins over the object", headers: []string{`X-PostHog-Properties: {"a":"object","b":"object"}`, "X-PostHog-Property-A: header"}, newID: true,
			want: attributed{Properties: props("a", `"header"`, "b", `"object"`)}},
		{name: "traceparent", headers: []string{"Traceparent: " + parent}, want: attributed{Trace: parentTrace, Parent: parentSpan}},
		{name: "traceparent over the body", body: body, headers: []string{"Traceparent: " + parent}, want: attributed{
			Distinct: "u", User: "u", Trace: parentTrace, Parent: parentSpan, Session: "bs", TraceName: "tn", SpanName: "sn", Properties: props("feature", `"f"`, "n", "1", "team", `"x"`),
		}},
		{name: "trace id over traceparent", headers: []string{"Traceparent: " + parent, "X-PostHog-Trace-Id: t"}, want: attributed{Trace: "t"}},
		{name: "traceparent of a later version", headers: []string{"Traceparent: cc" + parent[2:] + "-more"}, want: attributed{Trace: parentTrace, Parent: parentSpan}},
		{name: "invalid traceparent", headers: []string{"Traceparent: " + strings.ToUpper(parent)}, newID: true},
		{name: "all-zero traceparent", headers: []string{"Traceparent: 00-00000000000000000000000000000000-b7ad6b7169203331-01"}, newID: true},
		{name: "traceparent too long", headers: []string{"Traceparent: " + parent + "-more"}, newID: true},
		{name: "traceparent of version ff", headers: []string{"Traceparent: ff" + parent[2:]}, newID: true},
		{name: "properties not an object", headers: []string{`X-PostHog-Properties: ["a"]`, `X-PostHog-Properties: {"b":1}`}, newID: true,
			want: attributed{Properties: props("attribution_error", `"X-PostHog-Properties is not a JSON object"`, "b", "1")}},
		{name: "PostHog's own names", headers: []string{`X-PostHog-Properties: {"$ai_model":"forged","$set":{"a":1},"ok":1}`, "X-PostHog-Property-$ai_model: forged"}, newID: true, want: attributed{Properties: props("ok", "1")}},
		{name: "prompt without a version", headers: []string{"X-Hedgerow-Prompt: greet"}, newID: true, want: attributed{Prompt: "greet"}},
		{name: "prompt in the body", body: `{"model":"m","trace":{"trace_id":"bt","prompt_name":"greet","prompt_version":3,"prompt_version_id":"pv_a"},"messages":[]}`,
			want: attributed{Trace: "bt", Prompt: "greet", Version: "3", VersionID: "pv_a"}},
		{name: "prompt in the header over the body's", headers: []string{"X-Hedgerow-Prompt: other@1"},
			body: `{"model":"m","trace":{"trace_id":"bt","prompt_name":"greet","prompt_version_id":"pv_a"},"messages":[]}`, want: attributed{Trace: "bt", Prompt: "other", Version: "1"}},
		{name: "prompt with a label", headers: []string{"X-Hedgerow-Prompt: a@b @ production"}, newID: true, want: attributed{Prompt: "a@b", Version: "production"}},
		{name: "ids with invalid characters", headers: []string{"X-PostHog-Trace-Id: a b/c", "X-PostHog-Session-Id: \t é "}, want: attributed{Trace: "a_b_c", Session: "_"}},
		{name: "long values", headers: []string{"X-PostHog-Distinct-Id: " + strings.Repeat("d", 500), "X-PostHog-Trace-Id: " + strings.Repeat("t", 500), "X-Hedgerow-Surface: " + strings.Repeat("s", 5000)},
			want: attributed{Distinct: strings.Repeat("d", 200), Trace: strings.Repeat("t", 200), Surface: strings.Repeat("s", 1000)}},
		{name: "privacy off", headers: []string{"X-Hedgerow-Privacy: off"}, newID: true},
		{name: "anthropic", path: "/anthropic/v1/messages", body: `{"model":"m","max_tokens":1,"metadata":{"user_id":"mu"},"messages":[{"role":"user","content":"x"}]}`, newID: true, want: attributed{Distinct: "mu", User: "mu"}},
		{name: "anthropic, user wins", path: "/anthropic/v1/messages", body: `{"model":"m","max_tokens":1,"user":"u","metadata":{"user_id":"mu"},"messages":[{"role":"user","content":"x"}]}`, newID: true, want: attributed{Distinct: "u", User: "u"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			up := newUpstreamCases(t)
			r := start(t, gateway.Config{Upstreams: map[string]gateway.Upstream{"openai": {BaseURL: up.URL}, "anthropic": {BaseURL: up.URL}}})
			if c.path == "" {
				c.path = "/openai/v1/chat/completions"
			}
			if c.body == "" {
				c.body = `{"model":"m","messages":[{"role":"user","content":"x"}]}`
			}
			call(t, "POST", r.url+c.path, c.body, append([]string{"Content-Type: application/json"}, c.headers...)...)
			e := r.one(t)
			got := attributionOf(e)
			if c.newID {
				if len(got.Trace) != 36 {
					t.Errorf("trace id %q, want a new one", got.Trace)
				}
				got.Trace = ""
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
			if e.SpanID == "" || e.Validate() != nil {
				t.Errorf("span %q: %v", e.SpanID, e.Validate())
			}
			for name := range up.got().Header {
				if strings.HasPrefix(name, "X-Posthog") || strings.HasPrefix(name, "X-Hedgerow") {
					t.Errorf("%s arrived", name)
				}
			}
		})
	}
}

// TestDebugHeaders requests the added time and the trace id, which must be the
// event's.
func TestDebugHeaders(t *testing.T) {
	for name, c := range map[string]struct{ body, header, want string }{
		"new":        {chatBody, "X-A: 1", ""},
		"header":     {chatBody, "X-PostHog-Trace-Id: mine", "mine"},
		"body":       {`{"model":"m","trace":{"trace_id":"from body"},"messages":[]}`, "X-A: 1", "from_body"},
		"both":       {`{"model":"m","trace":{"trace_id":"from body"},"messages":[]}`, "X-PostHog-Trace-Id: mine", "mine"},
		"not forged": {`{"model":"m","trace":"x","messages":[]}`, "X-A: 1", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, at(newUpstreamCases(t).URL))
			got := chat(t, r.url, c.body, "X-Hedgerow-Debug: timing", c.header)
			id := got.header.Get("X-Hedgerow-Trace-Id")
			if e := r.one(t); id == "" || e.TraceID != id || c.want != "" && id != c.want {
				t.Errorf("sent %q, recorded %q, want %q", id, e.TraceID, c.want)
			}
			if v := got.header.Get("X-Hedgerow-Added-Us"); v == "" || !json.Valid([]byte(v)) {
				t.Errorf("added %q µs", v)
			}
		})
	}
	r := start(t, at(newUpstreamCases(t).URL))
	if got := chat(t, r.url, chatBody); got.header.Get("X-Hedgerow-Trace-Id") != "" || got.header.Get("X-Hedgerow-Added-Us") != "" {
		t.Errorf("debug headers without a request: %v", got.header)
	}
}
