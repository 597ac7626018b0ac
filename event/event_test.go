package event_test

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
)

func full() *event.Event {
	d := func(s string) event.Opt[decimal.Decimal] { return event.Some(decimal.RequireFromString(s)) }
	e := &event.Event{
		UUID: "0192b1c0-7e1a-7c3e-9a51-0123456789ab", Name: event.Generation, DistinctID: "user_1",
		Timestamp: time.Date(2026, 11, 21, 6, 30, 0, 123456000, time.UTC),
		TraceID:   "trace_1", SpanID: "span_1", ParentID: "p", SessionID: "s", TraceName: "Ticket", SpanName: "answer", User: "u",
		Provider: "openai", ModelAsked: "gpt-4.1-mini", Model: "gpt-4.1-mini-2025-04-14", Operation: "chat",
		BaseURL: "https://api.openai.com/v1", RequestURL: "https://api.openai.com/v1/chat/completions",
		Usage: event.Usage{Input: event.Some[int64](1284), Output: event.Some[int64](312), Total: event.Some[int64](1596),
			CacheRead: event.Some[int64](1024), CacheExclusive: event.Some(false), Reasoning: event.Some[int64](0)},
		Cost:    event.Cost{Input: d("0.0002064"), Output: d("0.0004992"), Total: d("0.0007056"), ModelUsed: "gpt-4.1-mini", Source: event.CostTable, Provider: "openai"},
		Latency: event.Some(1840 * time.Millisecond), TimeToFirstToken: event.Some(412 * time.Millisecond), Stream: event.Some(true),
		HTTPStatus: 200, RequestBytes: 4096, ResponseBytes: 1024, Status: event.StatusSuccess, StopReason: "stop",
		CompletionID: "chatcmpl-1", SystemFingerprint: "fp_1", ServiceTier: "default",
		ModelParameters:  map[string]json.RawMessage{"temperature": json.RawMessage("0.2")},
		ProviderMetadata: map[string]json.RawMessage{"request_id": json.RawMessage(`"req_1"`)},
		PromptName:       "support_answer", PromptVersion: "3", PromptVersionID: "pv_3", PromptHash: "sha256:9f2c",
		Surface: "Conversation", TaskType: "support_reply", Environment: "production",
		Flags: map[string]string{"prompt-test": "treatment"}, Groups: map[string]string{"company": "acme"},
		InputChars: event.Some[int64](4000), OutputChars: event.Some[int64](900), InputLengthBucket: "1k_2k_tokens", OutputCategory: "text",
		Properties: map[string]json.RawMessage{"feature": json.RawMessage(`"shopping"`), "n": json.RawMessage("1.50")},
		Content: event.Content{Input: json.RawMessage(`[{"role":"user","content":"hi"}]`), Output: json.RawMessage(`[{"role":"assistant","content":"ho"}]`),
			Tools: json.RawMessage(`[]`)},
	}
	return e
}

func TestFrameRoundTrip(t *testing.T) {
	e := full()
	e.ProjectID, e.Source, e.Tags = "p1", event.SourceGateway, []string{"beta"}
	e.Usage.ReportedCost = event.Some(decimal.RequireFromString("0.00014"))
	e.MarkRawValid() // like events read from a frame
	b, err := e.AppendFrame([]byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := event.DecodeFrame(b[1:])
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, e) {
		t.Errorf("frame round trip\n got %+v\nwant %+v", got, e)
	}
	for i := 1; i < len(b)-1; i++ {
		if _, err := event.DecodeFrame(b[1:i]); err == nil {
			t.Fatalf("a frame cut to %d of %d bytes was accepted", i-1, len(b)-1)
		}
	}
}

func TestPostHogRoundTrip(t *testing.T) {
	e := full()
	b, err := e.MarshalPostHog(event.Wire{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := event.UnmarshalPostHog(b)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, e) {
		g, _ := json.MarshalIndent(got, "", " ")
		w, _ := json.MarshalIndent(e, "", " ")
		t.Errorf("PostHog round trip\n got %s\nwant %s", g, w)
	}
}

func TestMarshalPostHog(t *testing.T) {
	props := func(e *event.Event, w event.Wire) (string, map[string]any) {
		t.Helper()
		b, err := e.MarshalPostHog(w)
		if err != nil {
			t.Fatal(err)
		}
		var v struct {
			DistinctID string         `json:"distinct_id"`
			Properties map[string]any `json:"properties"`
		}
		if err := json.Unmarshal(b, &v); err != nil {
			t.Fatal(err)
		}
		return v.DistinctID, v.Properties
	}
	t.Run("UnknownIsAbsent", func(t *testing.T) {
		_, p := props(&event.Event{UUID: event.NewID(), Name: event.Generation, TraceID: "t"}, event.Wire{})
		for _, name := range []string{"$ai_input_tokens", "$ai_output_tokens", "$ai_total_cost_usd", "$ai_latency", "$ai_cost_passthrough", "$ai_input"} {
			if v, ok := p[name]; ok {
				t.Errorf("%s = %v, want it absent", name, v)
			}
		}
	})
	t.Run("NoUserIsPersonless", func(t *testing.T) {
		id, p := props(&event.Event{UUID: event.NewID(), Name: event.Generation, TraceID: "trace_9"}, event.Wire{})
		if id != "trace_9" || p["$process_person_profile"] != false {
			t.Errorf("distinct_id %q, $process_person_profile %v", id, p["$process_person_profile"])
		}
	})
	t.Run("PrivateIsNull", func(t *testing.T) {
		e := full()
		e.DropContent()
		e.Private = true
		_, p := props(e, event.Wire{})
		for _, name := range []string{"$ai_input", "$ai_output_choices"} {
			if v, ok := p[name]; !ok || v != nil {
				t.Errorf("%s = %v (present %v), want null", name, v, ok)
			}
		}
	})
	t.Run("UnitsAndExactCosts", func(t *testing.T) {
		b, _ := full().MarshalPostHog(event.Wire{Lib: "hedgerow", IgnoreSentAt: true, TraceURL: "http://h/traces/1"})
		for _, want := range []string{`"$ai_latency":1.84`, `"$ai_time_to_first_token":0.412`, `"$ai_total_cost_usd":0.0007056`, `"$ignore_sent_at":true`,
			`"$lib":"hedgerow"`, `"$ai_prompt_version":3`, `"timestamp":"2026-11-21T06:30:00.123456Z"`, `"$feature/prompt-test":"treatment"`, `"trace_url":"http://h/traces/1"`} {
			if !strings.Contains(string(b), want) {
				t.Errorf("no %s in %s", want, b)
			}
		}
	})
	t.Run("RelayedEventKeepsItsLib", func(t *testing.T) {
		e := &event.Event{UUID: event.NewID(), Name: event.Generation, Properties: map[string]json.RawMessage{"$lib": json.RawMessage(`"posthog-node"`), "$lib_version": json.RawMessage(`"5.1.0"`)}}
		_, p := props(e, event.Wire{Lib: "hedgerow", LibVersion: "1"})
		if p["$lib"] != "posthog-node" || p["$lib_version"] != "5.1.0" || p["$ai_lib"] != nil {
			t.Errorf("$lib %v %v, $ai_lib %v", p["$lib"], p["$lib_version"], p["$ai_lib"])
		}
	})
	t.Run("CallerCannotOverride", func(t *testing.T) {
		e := full()
		e.Properties["$ai_model"] = json.RawMessage(`"forged"`)
		if _, p := props(e, event.Wire{}); p["$ai_model"] != "gpt-4.1-mini-2025-04-14" {
			t.Errorf("$ai_model = %v", p["$ai_model"])
		}
	})
}

// TestThoughtsOnTheWire checks that PostHog's output count excludes the
// reasoning tokens of Gemini, and only of Gemini.
func TestThoughtsOnTheWire(t *testing.T) {
	const compatible, google = "http://litellm.test:4000/v1", "https://generativelanguage.googleapis.com/v1beta/openai"
	for _, c := range []struct {
		model, provider, base string
		wire                  string
	}{
		{"gemini-2.5-flash", "", "", "8"}, {"google/gemini-3-pro-preview", "", "", "8"}, {"gemini-2.0-flash", "", "", "46"}, {"o3", "", "", "46"}, {"gemini-3", "", "", "46"},
		{"GEMINI-2.5-PRO", "gemini", "", "8"}, {"gemini-4-argon", "", "", "8"}, {"gemini-10-x", "", "", "8"}, {"gemini-flash-latest", "", "", "8"},
		{"gemini-2.0-flash-thinking-exp", "", "", "8"}, {"gemini-1.5-pro", "", "", "46"}, {"gemini-embedding-001", "", "", "46"},
		{"google/gemini-2.5-pro", "openrouter", "", "46"}, {"google/gemini-2.5-pro", "openai", "https://openrouter.ai/api/v1", "46"},
		{"gemini-2.5-pro", "openai", compatible, "46"}, {"gemini-2.5-pro", "openai", google, "8"}, {"gemini-2.5-pro", "openai", "", "8"},
	} {
		e := &event.Event{Name: event.Generation, DistinctID: "u", Model: c.model, Provider: c.provider, BaseURL: c.base, Usage: event.Usage{Output: event.Some(int64(46)), Reasoning: event.Some(int64(38))}}
		p := e.WireProperties()
		if got := string(p["$ai_output_tokens"]); got != c.wire {
			t.Errorf("%s: $ai_output_tokens %s, want %s", c.model, got, c.wire)
		}
		back := &event.Event{Name: event.Generation}
		back.SetWireProperties(p)
		back.SetWireProperties(map[string]json.RawMessage{"surface": json.RawMessage(`"Test"`)}) // no count, no change
		if back.Usage.Output != e.Usage.Output || back.Usage.Reasoning != e.Usage.Reasoning {
			t.Errorf("%s: read back as %+v", c.model, back.Usage)
		}
	}
}

func TestUnmarshalPostHogKeepsWhatItCannotRead(t *testing.T) {
	e, err := event.UnmarshalPostHog([]byte(`{"event":"$ai_generation","properties":{"distinct_id":7,"$ai_input_tokens":"many","$ai_error":{"message":"x"},"$ai_trace_id":42,"$ai_latency":"soon"}}`))
	if err != nil {
		t.Fatal(err)
	}
	if e.DistinctID != "7" || e.TraceID != "42" || e.Usage.Input.Known || e.Latency.Known {
		t.Errorf("got %+v", e)
	}
	for _, name := range []string{"$ai_input_tokens", "$ai_error", "$ai_latency"} {
		if e.Properties[name] == nil {
			t.Errorf("%s was lost", name)
		}
	}
}

// Flags, groups and withheld content of a client survive a round trip.
func TestWirePropertiesRoundTrip(t *testing.T) {
	for _, in := range []string{
		`{"$feature/a":true,"$feature/b":false,"$feature/c":"variant","$feature/d":null,"$feature/e":3}`,
		`{"$groups":{"company":"acme"}}`,
		`{"$groups":{"company":5,"team":"x"}}`,
		`{"$groups":{}}`,
		`{"$ai_model_parameters":{},"$ai_provider_metadata":{}}`,
	} {
		e, err := event.UnmarshalPostHog([]byte(`{"event":"$ai_span","distinct_id":"u","properties":` + in + `}`))
		if err != nil {
			t.Fatal(err)
		}
		got, err := json.Marshal(e.WireProperties())
		if err != nil || string(got) != in {
			t.Errorf("%s became %s (%v)", in, got, err)
		}
	}
	for in, private := range map[string]bool{
		`{"$ai_input":null,"$ai_output_choices":null}`: true,
		`{"$ai_input":[],"$ai_output_choices":null}`:   false, // interrupted before the response
	} {
		e, err := event.UnmarshalPostHog([]byte(`{"event":"$ai_generation","properties":` + in + `}`))
		if err != nil || e.Private != private {
			t.Errorf("%s: private %v (%v), want %v", in, e.Private, err, private)
		}
	}
}

func TestValidate(t *testing.T) {
	ok := full()
	ok.ProjectID = "p"
	if err := ok.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*event.Event){
		"NoProject": func(e *event.Event) { e.ProjectID = "" }, "NoName": func(e *event.Event) { e.Name = "" },
		"LongName": func(e *event.Event) { e.Name = strings.Repeat("é", 201) }, "BadUUID": func(e *event.Event) { e.UUID = "7" },
		"NoTime": func(e *event.Event) { e.Timestamp = time.Time{} }, "LongDistinctID": func(e *event.Event) { e.DistinctID = strings.Repeat("x", 201) },
	} {
		t.Run(name, func(t *testing.T) {
			e := *ok
			spoil(&e)
			if err := event.AsError(e.Validate()); err == nil || err.HTTPStatus() != 400 || err.Hint == "" {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestCleanID(t *testing.T) {
	for in, want := range map[string]string{"trace_01J7ZP8E9K4VQ2": "trace_01J7ZP8E9K4VQ2", "a b/c": "a_b_c", "é": "_", "": "", strings.Repeat("x", 300): strings.Repeat("x", 200)} {
		if got := event.CleanID(in); got != want {
			t.Errorf("CleanID(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestTokens(t *testing.T) {
	n := event.Some[int64]
	for _, c := range []struct {
		name string
		u    event.Usage
		want event.Int
	}{
		{"Unknown", event.Usage{}, event.Int{}},
		{"Zero", event.Usage{Input: n(0)}, n(0)},
		{"Inclusive", event.Usage{Input: n(10), Output: n(5), CacheRead: n(8)}, n(15)},
		{"Exclusive", event.Usage{Input: n(10), Output: n(5), CacheRead: n(8), CacheWrite: n(2), CacheExclusive: event.Some(true)}, n(25)},
		{"Named", event.Usage{Input: n(10), Output: n(5), Total: n(99)}, n(99)},
	} {
		if got := c.u.Tokens(); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func FuzzDecodeFrame(f *testing.F) {
	b, _ := full().AppendFrame(nil)
	f.Add(b)
	f.Add([]byte("HRE1\x02{}\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := event.DecodeFrame(b)
		if err == nil && e == nil {
			t.Fatal("neither event nor error")
		}
	})
}

func FuzzUnmarshalPostHog(f *testing.F) {
	b, _ := full().MarshalPostHog(event.Wire{})
	f.Add(b)
	f.Add([]byte(`{"event":"x","distinct_id":"y","timestamp":"2026-01-01T00:00:00+02:00"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := event.UnmarshalPostHog(b)
		if err != nil {
			return
		}
		w, err := e.MarshalPostHog(event.Wire{})
		if err != nil {
			t.Fatalf("read but cannot be written: %v", err)
		}
		if !json.Valid(w) {
			t.Fatalf("invalid JSON written: %q", w)
		}
	})
}

// Fields that PostHog has no property for are sent to hedgerow servers only.
func TestHomeProperty(t *testing.T) {
	e := &event.Event{UUID: event.NewID(), Name: event.Generation, Timestamp: time.Unix(0, 0), ModelAsked: "gpt-4.1-mini", Method: "POST", Tags: []string{"beta", "eu"}, DistinctID: "ada"}
	_ = e.SetProperty("true_but_no_tag", true)
	b, err := e.MarshalPostHog(event.Wire{Home: true})
	if err != nil {
		t.Fatal(err)
	}
	got, err := event.UnmarshalPostHog(b)
	if err != nil {
		t.Fatal(err)
	}
	if got.ModelAsked != e.ModelAsked || got.Model != "" || got.Method != "POST" || !slices.Equal(got.Tags, e.Tags) || len(got.Properties) != 1 {
		t.Errorf("%+v", got)
	}
	if b, _ := e.MarshalPostHog(event.Wire{}); strings.Contains(string(b), "$hedgerow") {
		t.Errorf("PostHog gets %s", b)
	}
	e.Model = "gpt-4.1-mini-2025-04-14"
	b, _ = e.MarshalPostHog(event.Wire{Home: true})
	if got, _ = event.UnmarshalPostHog(b); got.Model != e.Model || got.ModelAsked != e.ModelAsked {
		t.Errorf("model %q, asked %q", got.Model, got.ModelAsked)
	}
	for _, bad := range []string{`1`, `{"tags":"x"}`, `null`} {
		got, err := event.UnmarshalPostHog([]byte(`{"event":"e","distinct_id":"a","properties":{"$hedgerow":` + bad + `,"x":true}}`))
		if err != nil || got.Properties["x"] == nil || len(got.Tags) != 0 {
			t.Errorf("%s: %+v, %v", bad, got, err)
		}
	}
}

func TestNestedDeeper(t *testing.T) {
	for _, tt := range []struct {
		json   string
		levels int
		want   bool
	}{
		{`[[[]]]`, 3, false},
		{`[[[]]]`, 2, true},
		{`{"a":[{"b":1}]}`, 2, true},
		{`[[],[],[],[]]`, 2, false},
		{`["[[[[", "\"[[[["]`, 1, false},
		{`["a\\", [[]]]`, 2, true},
		{strings.Repeat("[", 5000), 4999, true},
		{`"` + strings.Repeat("[", 5000), 10, false},
	} {
		if got := event.NestedDeeper(tt.json, tt.levels); got != tt.want {
			t.Errorf("%.20s is nested deeper than %d: %v", tt.json, tt.levels, got)
		}
		if got := event.NestedDeeper([]byte(tt.json), tt.levels); got != tt.want {
			t.Errorf("the bytes of %.20s are nested deeper than %d: %v", tt.json, tt.levels, got)
		}
	}
}

// FuzzValidJSON compares ValidJSON with encoding/json.
func FuzzValidJSON(f *testing.F) {
	for _, s := range []string{``, `{}`, ` [1, -0.5e+3, "\u00e9\n", true, null] `, `{"a":{"b":[{}]}}`, `01`, `1.`, `-`, `"\x"`, "\"\x01\"", "\"\xff\"", `{"a":1,}`, `[1 2]`, `nul`, `{}{}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, want := event.ValidJSON(b), json.Valid(b); got != want {
			t.Errorf("%q: %v, encoding/json: %v", b, got, want)
		}
	})
}
