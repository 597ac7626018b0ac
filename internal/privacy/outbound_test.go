package privacy_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/privacy"
)

// contentful returns an event with the text in every field that can hold
// content.
func contentful(text string) *event.Event {
	q, _ := json.Marshal(text)
	s := string(q)
	inner, _ := json.Marshal(`{"q":` + s + `}`)
	props := map[string]json.RawMessage{
		"request":        raw(`{"messages":[{"role":"user","content":` + s + `}],"n":1}`),
		"trace":          raw(`{"steps":[{"name":"plan","userPrompt":` + s + `}]}`),
		"turns":          raw(`[{"role":"user","content":` + s + `}]`),
		"anything":       raw(`"` + strings.Repeat("long text ", 200) + s[1:]),
		"plan":           raw(`"pro"`),
		"accepted":       raw(`true`),
		"retry_count":    raw(`2`),
		"output_ok":      raw(`true`),
		"input":          raw(`12`),
		"prompt_label":   raw(`"production"`),
		"ticket_id_hash": raw(`"ticket_91ab_hash"`),
	}
	for _, name := range []string{
		"$ai_input", "$ai_output", "$ai_output_choices", "$ai_input_state", "$ai_output_state", "$ai_instructions", "$ai_feedback_text", "$ai_error", "$ai_tools",
		"gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions", "gen_ai.prompt.0.content", "gen_ai.completion.0.content",
		"gen_ai.tool.call.arguments", "ai.prompt.messages", "ai.response.text", "traceloop.entity.input", "input.value", "llm.input_messages.0.message.content",
		"prompt", "completion", "input_text", "output", "messages", "userPrompt", "system-prompt", "last_answer", "Question", "retrieved_documents", "context",
	} {
		props[name] = q
	}
	return &event.Event{
		UUID: "0198c0de-0000-7000-8000-000000000001", ProjectID: "p", Name: event.Generation, DistinctID: "user_1", User: "user_1",
		Timestamp: time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC), TraceID: "t", SpanID: "s", SessionID: "c", SpanName: "answer", TraceName: "support",
		Provider: "openai", Model: "gpt-4.1-mini", HTTPStatus: 400, IsError: true,
		ErrorType: "invalid_request_error", ErrorMessage: "Invalid value: " + text, StopReason: "stop", ParseError: "near " + text,
		ModelParameters: map[string]json.RawMessage{
			"temperature": raw(`0.5`), "stop": raw(`[` + s + `]`), "metadata": raw(`{"note":` + s + `}`), "logit_bias": raw(`{` + s + `:1}`),
			"response_format": raw(`{"type":"json_schema","json_schema":{"name":"x","description":` + s + `}}`), "user": q, "service_tier": raw(`"flex"`),
			"tool_choice": raw(`{"type":"function","function":{"name":` + s + `}}`), "reasoning": raw(`{"effort":"high","summary":"auto"}`), "stream": raw(`true`),
			text: raw(`1`), "effort": q,
		},
		ProviderMetadata: map[string]json.RawMessage{"system_fingerprint": raw(`"fp_1"`), "note": q, "echo": raw(`{"prompt":` + s + `}`), "region": q},
		Properties:       props, Tags: []string{"beta"}, Flags: map[string]string{"exp": "b"}, Surface: "Compose",
		Content: event.Content{
			Input:       raw(`[{"role":"system","content":` + s + `},{"role":"user","content":[{"type":"text","text":` + s + `}]}]`),
			Output:      raw(`[{"role":"assistant","content":[{"type":"text","text":` + s + `},{"type":"function","function":{"name":"f","arguments":` + string(inner) + `}}]}]`),
			Tools:       raw(`[{"type":"function","function":{"name":"get_weather","description":` + s + `,"parameters":{"type":"object","properties":{` + s + `:{}}}}},{"name":"search","input_schema":{"description":` + s + `}},{"type":"web_search_20250305","name":"web_search"},{"name":` + s + `}]`),
			InputState:  raw(`{"q":` + s + `}`),
			OutputState: q,
		},
	}
}

func wire(t *testing.T, e *event.Event) (string, map[string]json.RawMessage) {
	t.Helper()
	b, err := e.MarshalPostHog(event.Wire{IgnoreSentAt: true})
	if err != nil {
		t.Fatal(err)
	}
	var w struct{ Properties map[string]json.RawMessage }
	if err := json.Unmarshal(b, &w); err != nil {
		t.Fatal(err)
	}
	return string(b), w.Properties
}

func TestOutboundInPrivacyMode(t *testing.T) {
	e := contentful("Where is my parcel, Mr Smith?")
	before, err := e.AppendFrame(nil)
	if err != nil {
		t.Fatal(err)
	}
	out := privacy.Outbound(e, privacy.OutboundPolicy{PrivacyMode: true})
	if after, _ := e.AppendFrame(nil); !bytes.Equal(before, after) {
		t.Fatal("the event itself was changed")
	}
	body, props := wire(t, out)
	if strings.Contains(body, "parcel") {
		t.Fatalf("content was sent: %s", body)
	}
	for name, want := range map[string]string{
		"$ai_input": "null", "$ai_output_choices": "null", "$ai_error": `"request not valid (HTTP 400)"`, "$ai_error_type": `"invalid_request_error"`,
		"$ai_tools":             `[{"type":"function","function":{"name":"get_weather"}},{"name":"search"},{"type":"web_search_20250305","name":"web_search"}]`,
		"$ai_model_parameters":  `{"reasoning":{"effort":"high","summary":"auto"},"response_format":{"type":"json_schema"},"service_tier":"flex","stream":true,"temperature":0.5,"tool_choice":{"type":"function"}}`,
		"$ai_provider_metadata": `{"system_fingerprint":"fp_1"}`, "$ai_span_name": `"answer"`, "$ai_trace_name": `"support"`, "$ai_user": `"user_1"`,
		"plan": `"pro"`, "accepted": "true", "retry_count": "2", "output_ok": "true", "input": "12", "prompt_label": `"production"`, "ticket_id_hash": `"ticket_91ab_hash"`,
		"beta": "true", "$feature/exp": `"b"`, "surface": `"Compose"`, "feedback_length": "29", "$ai_stop_reason": `"stop"`,
	} {
		if got := string(props[name]); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	for _, name := range []string{"prompt", "request", "trace", "turns", "anything", "$ai_instructions", "$ai_input_state", "$ai_output_state", "gen_ai.input.messages", "$ai_feedback_text"} {
		if v, ok := props[name]; ok {
			t.Errorf("%s is %s, want it removed", name, v)
		}
	}
}

func TestOutboundWithContent(t *testing.T) {
	e := contentful("Where is my parcel?")
	e.Content.Output = raw(`"` + strings.Repeat("a", 300_000) + `"`)
	e.Content.InputState = raw(`"data:image/png;base64,` + strings.Repeat("iVBORw0KGgoAA", 20) + `"`)
	out := privacy.Outbound(e, privacy.OutboundPolicy{})
	if out.Private || string(out.Content.Input) != string(e.Content.Input) || out.ErrorMessage != e.ErrorMessage || out.Properties["prompt"] == nil {
		t.Errorf("content is missing: %+v", out)
	}
	if n := len(out.Content.Output); n != privacy.MaxString+2 || !strings.HasSuffix(string(out.Content.Output), `... [truncated]"`) {
		t.Errorf("output of %d bytes", n)
	}
	if string(out.Content.InputState) != `"[base64 image/png redacted]"` {
		t.Errorf("state %s", out.Content.InputState)
	}
	e.Private = true
	if out := privacy.Outbound(e, privacy.OutboundPolicy{}); !out.Content.IsZero() && string(out.Content.Input) != "" {
		t.Error("the content of a private event was sent")
	}
}

func TestOutboundKeepsNamedProperties(t *testing.T) {
	e := contentful("x y")
	out := privacy.Outbound(e, privacy.OutboundPolicy{PrivacyMode: true, SendProperties: []string{"context"}})
	if string(out.Properties["context"]) != `"x y"` || out.Properties["prompt"] != nil {
		t.Errorf("context %s, prompt %s", out.Properties["context"], out.Properties["prompt"])
	}
}

func TestOutboundLeavesProductEventsAlone(t *testing.T) {
	props := map[string]json.RawMessage{
		"$current_url": raw(`"https://example.com/a"`), "$el_text": raw(`"Buy"`), "button_text": raw(`"Buy now"`), "query": raw(`"shoes"`), "note": raw(`"` + strings.Repeat("n", 3000) + `"`),
		"$set": raw(`{"name":"Ann"}`), "items": raw(`[{"type":"shoe","sku":"1"}]`),
	}
	e := &event.Event{Name: "prompt_shared", DistinctID: "u", Properties: props}
	if out := privacy.Outbound(e, privacy.OutboundPolicy{PrivacyMode: true}); !reflect.DeepEqual(out.Properties, props) {
		t.Errorf("got %s", out.Properties)
	}
	e.Properties = map[string]json.RawMessage{"prompt": raw(`"write a poem"`), "prompt_id": raw(`"p1"`)}
	if out := privacy.Outbound(e, privacy.OutboundPolicy{PrivacyMode: true}); out.Properties["prompt"] != nil || out.Properties["prompt_id"] == nil {
		t.Errorf("got %s", out.Properties)
	}
}

// Outcomes in the llm_events schema describe responses: their text is withheld,
// their verdicts are sent.
func TestOutboundOfOutcomes(t *testing.T) {
	e := &event.Event{Name: "llm_output_rated", DistinctID: "u", Properties: map[string]json.RawMessage{
		"comment": raw(`"it told me x"`), "feedback_text": raw(`"x"`), "expected": raw(`"y"`), "note": raw(`"` + strings.Repeat("n", 3000) + `"`),
		"user_feedback": raw(`"negative"`), "accepted_output": raw(`false`), "eval_reason_code": raw(`"wrong_format"`), "eval_score": raw(`0.5`), "trace_id": raw(`"t"`)}}
	out := privacy.Outbound(e, privacy.OutboundPolicy{PrivacyMode: true})
	if len(out.Properties) != 5 || out.Properties["user_feedback"] == nil || out.Properties["accepted_output"] == nil || out.Properties["eval_reason_code"] == nil {
		t.Errorf("got %s", out.Properties)
	}
}

func TestHashedIDs(t *testing.T) {
	key, other := []byte("project key"), []byte("another key")
	p := privacy.OutboundPolicy{HashDistinctIDs: true, HashKey: key}
	// printf 'ann@example.com' | openssl dgst -sha256 -hmac 'project key'
	hash := privacy.HashID(key, "ann@example.com")
	if len(hash) != 64 || hash == privacy.HashID(other, "ann@example.com") || hash != privacy.HashID(key, "ann@example.com") || privacy.HashID(key, "") != "" || privacy.HashID(nil, "ann") != "" {
		t.Fatalf("hash %q", hash)
	}
	quoted := raw(`"` + hash + `"`)
	for _, tt := range []struct {
		name string
		e    event.Event
		want map[string]json.RawMessage
	}{
		{"generation", event.Event{Name: event.Generation, User: "ann@example.com", SessionID: "conv", TraceID: "trace"}, map[string]json.RawMessage{"$ai_user": quoted, "$ai_session_id": raw(`"conv"`), "$ai_trace_id": raw(`"trace"`)}},
		{"identify", event.Event{Name: "$identify", Properties: map[string]json.RawMessage{"$anon_distinct_id": raw(`"ann@example.com"`), "$set": raw(`{"email":"ann@example.com"}`), "$set_once": raw(`{"x":1}`), "$ip": raw(`"10.0.0.1"`)}}, map[string]json.RawMessage{"$anon_distinct_id": quoted}},
		{"alias", event.Event{Name: "$create_alias", Properties: map[string]json.RawMessage{"alias": raw(`"ann@example.com"`), "distinct_id": raw(`"ann@example.com"`)}}, map[string]json.RawMessage{"alias": quoted, "distinct_id": quoted}},
		{"own properties", event.Event{Name: "x", Properties: map[string]json.RawMessage{"email": raw(`"ann@example.com"`), "user_id": raw(`"ann@example.com"`), "plan": raw(`"pro"`)}}, map[string]json.RawMessage{"user_id": quoted, "plan": raw(`"pro"`)}},
		{"model parameters", event.Event{Name: event.Generation, ModelParameters: map[string]json.RawMessage{"user": raw(`"ann@example.com"`)}}, map[string]json.RawMessage{"$ai_model_parameters": raw(`{"user":` + string(quoted) + `}`)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.e.DistinctID, tt.e.Timestamp = "ann@example.com", time.Unix(1, 0)
			out := privacy.Outbound(&tt.e, p)
			body, props := wire(t, out)
			if strings.Contains(body, "ann@") || strings.Contains(body, "10.0.0.1") || out.DistinctID != hash || tt.e.DistinctID != "ann@example.com" {
				t.Errorf("wire %s", body)
			}
			for name, want := range tt.want {
				if string(props[name]) != string(want) {
					t.Errorf("%s is %s, want %s", name, props[name], want)
				}
			}
			if string(props["$geoip_disable"]) != "true" || props["$set"] != nil || props["$set_once"] != nil {
				t.Errorf("wire %s", body)
			}
			p := p
			p.HashKey = nil
			if body, _ := wire(t, privacy.Outbound(&tt.e, p)); strings.Contains(body, "ann@") || strings.Contains(body, hash) {
				t.Errorf("without a key: %s", body)
			}
		})
	}
	number := event.Event{Name: "x", DistinctID: "7", Properties: map[string]json.RawMessage{"user_id": raw(`7`)}}
	if out := privacy.Outbound(&number, p); string(out.Properties["user_id"]) != `"`+out.DistinctID+`"` {
		t.Errorf("the same user as a number and as text: %s and %s", out.Properties["user_id"], out.DistinctID)
	}
}

func TestSafeError(t *testing.T) {
	for _, tt := range []struct {
		kind, message string
		status        int
		want          string
	}{
		{"rate_limit_error", "Rate limit reached for gpt-4o in organization org-Ab12 on tokens per min", 429, "rate limit reached (HTTP 429)"},
		{"insufficient_quota", "You exceeded your current quota, please check your plan", 429, "quota or credit exhausted (HTTP 429)"},
		{"invalid_request_error", "This model's maximum context length is 8192 tokens. However, you requested 9000", 400, "input too long for the model (HTTP 400)"},
		{"invalid_request_error", `messages.0.content: "tell me a secret" is odd`, 400, "request not valid (HTTP 400)"},
		{"authentication_error", "invalid x-api-key", 401, "authentication failed (HTTP 401)"},
		{"overloaded_error", "Overloaded", 529, "provider overloaded (HTTP 529)"},
		{"connection_error", "dial tcp 10.0.0.1:443: connect: connection refused", 0, "connection failed"},
		{"timeout", "context deadline exceeded", 0, "timed out"},
		{"", "my grandmother's recipe", 0, "error"},
		{"", "", 500, ""},
	} {
		got := privacy.SafeError(tt.kind, tt.message, tt.status)
		if got != tt.want {
			t.Errorf("%s %q: %q, want %q", tt.kind, tt.message, got, tt.want)
		}
		if again := privacy.SafeError(tt.kind, got, tt.status); again != got {
			t.Errorf("not idempotent: %q becomes %q", got, again)
		}
	}
}

// FuzzOutbound puts any text into every field that can hold content and
// searches for it in what is sent. Texts that are part of an event without
// content are skipped.
func FuzzOutbound(f *testing.F) {
	for _, s := range []string{"Where is my parcel?", "秘密の言葉", "a \"quoted\" \\ text", "MARKER-0123456789-MARKER", "<b>bold</b>", "{\"role\":\"user\"}", "\u0000\u2028 odd"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		text = strings.ToValidUTF8(text, "")
		if len(strings.TrimSpace(text)) < 8 {
			return
		}
		if reflect.DeepEqual(wordOnly(text), text) {
			text += " and more" // a single word may be a tool's name
		}
		quoted, _ := json.Marshal(text)
		needle := string(quoted[1 : len(quoted)-1])
		bare, _ := wire(t, privacy.Outbound(contentful("?? ??"), privacy.OutboundPolicy{PrivacyMode: true}))
		if strings.Contains(bare, needle) || strings.Contains(bare, text) {
			return
		}
		for _, e := range []*event.Event{contentful(text), atHome(contentful(text), true), atHome(contentful(text), false)} {
			body, _ := wire(t, privacy.Outbound(e, privacy.OutboundPolicy{PrivacyMode: true}))
			if strings.Contains(body, needle) || strings.Contains(body, text) {
				t.Fatalf("%q was sent in %s", text, body)
			}
		}
	})
}

func atHome(e *event.Event, keep bool) *event.Event {
	privacy.ApplyStorage(e, privacy.StoragePolicy{KeepContent: keep})
	return e
}

func wordOnly(s string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune("-_.:/", r) || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return -1
	}, s)
}

func BenchmarkOutbound(b *testing.B) {
	e := contentful(string(prose[100:1500]))
	for _, private := range []bool{true, false} {
		b.Run(fmt.Sprintf("privacy=%v", private), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				privacy.Outbound(e, privacy.OutboundPolicy{PrivacyMode: private})
			}
		})
	}
}
