package privacy_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/privacy"
)

// What is sent of one property in privacy mode, by its source. want is "" if
// nothing is sent, and why is then the reason.
func TestAllowList(t *testing.T) {
	long := `"` + strings.Repeat("n", 201) + `"`
	for _, tt := range []struct {
		source, event, name, value string
		want                       string // "=": unchanged
		why                        privacy.Reason
	}{
		// Callers' own.
		{event.SourceGateway, event.Generation, "plan", `"pro"`, "=", ""},
		{event.SourceGateway, event.Generation, "seats", `12.5`, "=", ""},
		{event.SourceGateway, event.Generation, "beta", `true`, "=", ""},
		{event.SourceGateway, event.Generation, "nothing", `null`, "=", ""},
		{event.SourceSDK, event.Span, "note", `"two words"`, "=", ""},
		{event.SourceIngest, event.Generation, "note", `"` + strings.Repeat("ü", 200) + `"`, "=", ""},
		{event.SourceIngest, event.Generation, "note", long, "", privacy.ReasonLong},
		{event.SourceIngest, event.Generation, "note", `"one\ntwo"`, "", privacy.ReasonLines},
		{event.SourceIngest, event.Generation, "note", `"one\u2028two"`, "", privacy.ReasonLines},
		{event.SourceIngest, event.Generation, "note", `["a"]`, "", privacy.ReasonNested},
		{event.SourceIngest, event.Generation, "note", `{"a":1}`, "", privacy.ReasonNested},
		{event.SourceIngest, event.Generation, "note", `"{\"a\":\"b\"}"`, "", privacy.ReasonNested},
		{event.SourceIngest, event.Generation, "user_prompt", `"hi"`, "", privacy.ReasonContent},
		{event.SourceIngest, event.Generation, "prompt", `12`, "=", ""},
		{event.SourceIngest, event.Generation, "status", `"waiting for the customer"`, "=", ""},
		{event.SourceIngest, event.Generation, "usage", `"heavy user"`, "=", ""},
		{event.SourceIngest, event.Generation, strings.Repeat("name ", 50), `1`, "", privacy.ReasonUnknown},

		// PostHog's names and hedgerow's.
		{event.SourceIngest, event.Generation, "$lib", `"posthog-node"`, "=", ""},
		{event.SourceIngest, event.Generation, "$lib", `"what is my balance?"`, "", privacy.ReasonKind},
		{event.SourceIngest, event.Generation, "$ai_new_property", `"a text"`, "", privacy.ReasonUnknown},
		{event.SourceIngest, event.Generation, "$ai_new_figure", `3`, "=", ""},
		{event.SourceIngest, event.Generation, "$ai_usage", `{"input":12,"text":"hi","details":{"cached":1,"note":"x"}}`, `{"details":{"cached":1},"input":12}`, ""},
		{event.SourceIngest, event.Generation, "$ai_span_data", `{"input":"hi"}`, "", privacy.ReasonNested},
		{event.SourceIngest, event.Generation, "$ai_instructions", `"be short"`, "", privacy.ReasonContent},
		{event.SourceIngest, event.Generation, "$current_url", `"https://example.com/a?b=c"`, "=", ""},
		{event.SourceIngest, event.Generation, "$active_feature_flags", `["a","b"]`, "=", ""},
		{event.SourceIngest, event.Generation, "$set", `{"plan":"pro","prompt":"hi","$initial_os":"Linux","list":[1]}`, `{"$initial_os":"Linux","plan":"pro"}`, ""},
		{event.SourceIngest, event.Metric, "$ai_metric_value", `"good"`, "=", ""},
		{event.SourceIngest, event.Metric, "$ai_metric_value", long, "", privacy.ReasonKind},
		{event.SourceIngest, "llm_output_rated", "feedback_text", `"it told me x"`, "", privacy.ReasonContent},
		{event.SourceIngest, "llm_output_rated", "eval_score", `0.5`, "=", ""},

		// Attributes of spans and resources.
		{event.SourceOTLP, event.Span, "service.name", `"shop"`, "=", ""},
		{event.SourceOTLP, event.Span, "gen_ai.tool.name", `"get_weather"`, "=", ""},
		{event.SourceOTLP, event.Span, "gen_ai.usage.new_kind", `12`, "=", ""},
		{event.SourceOTLP, event.Span, "gen_ai.usage.new_kind", `"12"`, "=", ""},
		{event.SourceOTLP, event.Span, "gen_ai.usage.new_kind", `"hi there"`, "", privacy.ReasonKind},
		{event.SourceOTLP, event.Span, "gen_ai.tool.call.id", `"call_1"`, "=", ""},
		{event.SourceOTLP, event.Span, "gen_ai.tool.call.id", `"where is it"`, "", privacy.ReasonKind},
		{event.SourceOTLP, event.Trace, "ai.value", `"hi"`, "", privacy.ReasonAttribute},
		{event.SourceOTLP, event.Span, "new_library.step", `"hi"`, "", privacy.ReasonAttribute},
		{event.SourceOTLP, event.Span, "new_library.count", `3`, "", privacy.ReasonAttribute},
		{event.SourceOTLP, event.Span, "plan", `"pro"`, "", privacy.ReasonAttribute},
		{event.SourceOTLP, event.Span, "mastra.model_chunk.output", `"{\"text\":\"hi\"}"`, "", privacy.ReasonAttribute},
		// … except for attributes that exporters use for the caller's metadata.
		{event.SourceOTLP, event.Span, "ai.telemetry.metadata.plan", `"pro"`, "=", ""},
		{event.SourceOTLP, event.Span, "ai.telemetry.metadata.question", `"hi"`, "", privacy.ReasonContent},
		{event.SourceOTLP, event.Span, "traceloop.association.properties.tier", `"gold"`, "=", ""},
		{event.SourceOTLP, event.Span, "langfuse.trace.metadata.plan", `"pro"`, "=", ""},
		{event.SourceOTLP, event.Span, "mastra.metadata.modelMetadata", `"{\"id\":\"resp_1\"}"`, "", privacy.ReasonNested},
		{event.SourceOTLP, event.Span, "metadata", `{"plan":"pro","n":1,"prompt":"hi","deep":{"a":1}}`, `{"n":1,"plan":"pro"}`, ""},
		{event.SourceOTLP, event.Span, "metadata", `"{\"plan\":\"pro\",\"text\":\"hi\"}"`, `{"plan":"pro"}`, ""},

		// Product events are the customer's own data, except for names known
		// for content.
		{event.SourceIngest, "order_placed", "items", `[{"sku":"1"}]`, "=", ""},
		{event.SourceIngest, "order_placed", "note", long, "=", ""},
		{event.SourceIngest, "survey sent", "$survey_response", `"it is fine\nreally"`, "=", ""},
		{event.SourceIngest, "$exception", "$exception_list", `[{"type":"E","value":"boom"}]`, "=", ""},
		{event.SourceIngest, "order_placed", "prompt", `"hi"`, "", privacy.ReasonContent},
	} {
		e := &event.Event{UUID: event.NewID(), ProjectID: "p", Source: tt.source, Name: tt.event, DistinctID: "u", Timestamp: time.Unix(1_780_000_000, 0),
			Properties: map[string]json.RawMessage{tt.name: raw(tt.value)}}
		o := privacy.ApplyOutbound(e, privacy.OutboundPolicy{PrivacyMode: true})
		if tt.want == "=" {
			tt.want = tt.value
		}
		if got := string(o.Event.Properties[tt.name]); got != tt.want {
			t.Errorf("%s of %s from %s, %.60s: sent %.60q, want %.60q", tt.name, tt.event, tt.source, tt.value, got, tt.want)
		}
		var why privacy.Reason
		for _, h := range o.Withheld {
			why = h.Reason
			if h.Attribute != (tt.source == event.SourceOTLP && !strings.Contains(tt.name, "metadata.")) {
				t.Errorf("%s from %s is an attribute: %t", tt.name, tt.source, h.Attribute)
			}
		}
		if why != tt.why {
			t.Errorf("%s of %s from %s, %.60s: withheld for %q, want %q", tt.name, tt.event, tt.source, tt.value, why, tt.why)
		}
		// Allowed by name it is sent unchanged; in the wrong list it is not.
		p := privacy.OutboundPolicy{PrivacyMode: true, SendProperties: []string{tt.name}}
		q := privacy.OutboundPolicy{PrivacyMode: true, SendAttributes: []string{tt.name}}
		if tt.source == event.SourceOTLP && !strings.Contains(tt.name, "metadata.") {
			p, q = q, p
		}
		if got := string(privacy.ApplyOutbound(e, p).Event.Properties[tt.name]); got != tt.value {
			t.Errorf("%s allowed by the connection: sent %.60q", tt.name, got)
		}
		if got := string(privacy.ApplyOutbound(e, q).Event.Properties[tt.name]); got != tt.want {
			t.Errorf("%s allowed in the other list: sent %.60q", tt.name, got)
		}
	}
}

// The event's own texts must have one line of at most 200 characters.
func TestAllowListOfFields(t *testing.T) {
	bad := "line one\nline two"
	e := &event.Event{UUID: event.NewID(), ProjectID: "p", Name: event.Span, DistinctID: "u", TraceID: "t", SpanID: "s", Timestamp: time.Unix(1, 0),
		SpanName: bad, TraceName: bad, Surface: bad, TaskType: strings.Repeat("x", 300), Environment: bad, PromptName: bad, Model: bad, User: bad,
		Tags: []string{bad, "fine"}, Flags: map[string]string{"a": bad, "b": "on"}, Groups: map[string]string{"company": bad, "team": "red"}}
	o := privacy.ApplyOutbound(e, privacy.OutboundPolicy{PrivacyMode: true})
	body, props := wire(t, o.Event)
	if strings.Contains(body, "line two") || strings.Contains(body, "xxx") || len(o.Withheld) != 11 {
		t.Errorf("%s; held %v", body, o.Withheld)
	}
	for name, want := range map[string]string{"fine": "true", "$feature/b": `"on"`, "$groups": `{"team":"red"}`} {
		if string(props[name]) != want {
			t.Errorf("%s is %s, want %s", name, props[name], want)
		}
	}
}

// Exceptions of calls quote the provider, whose message may quote the prompt.
func TestExceptionOfACall(t *testing.T) {
	e := &event.Event{UUID: event.NewID(), ProjectID: "p", Name: "$exception", DistinctID: "u", TraceID: "trace", Timestamp: time.Unix(1, 0), Properties: map[string]json.RawMessage{
		"$exception_list": raw(`[{"type":"BadRequestError","value":"Error code: 429 rate limit: my secret question","mechanism":{"type":"generic","handled":true},
			"stacktrace":{"type":"raw","frames":[{"filename":"app.py","function":"ask","lineno":3,"in_app":true,"context_line":"ask('my secret question')","vars":{"q":"my secret question"},"pre_context":["secret"]}]}}]`),
		"$exception_message": raw(`"my secret question"`), "$exception_values": raw(`["my secret question"]`), "$exception_types": raw(`["BadRequestError"]`),
		"$exception_type": raw(`"BadRequestError"`), "$exception_fingerprint": raw(`"my secret question"`), "$exception_stack_trace_raw": raw(`"[{\"context_line\":\"secret\"}]"`),
		"$exception_steps": raw(`[{"message":"my secret question"}]`), "$sentry_exception_message": raw(`"my secret question"`), "$sentry_exception": raw(`{"values":[{"value":"my secret question"}]}`),
		"code_variables": raw(`{"q":"my secret question"}`)}}
	body, props := wire(t, privacy.Outbound(e, privacy.OutboundPolicy{PrivacyMode: true}))
	if strings.Contains(body, "secret") || !strings.Contains(string(props["$exception_list"]), `"value":"rate limit reached"`) || !strings.Contains(string(props["$exception_list"]), `"filename":"app.py"`) || string(props["$exception_types"]) != `["BadRequestError"]` || string(props["$exception_type"]) != `"BadRequestError"` {
		t.Error(body)
	}
	e.TraceID = ""
	if body, _ := wire(t, privacy.Outbound(e, privacy.OutboundPolicy{PrivacyMode: true})); !strings.Contains(body, "secret") {
		t.Error("an exception without a call was changed")
	}
}
