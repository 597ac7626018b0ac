package eval_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/privacy"
	"github.com/hedgerow/hedgerow/server/internal/eval"
)

var start = time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)

// generation is an answered call.
func generation(text string) *event.Event {
	out, _ := json.Marshal([]map[string]any{{"role": "assistant", "content": text}})
	e := &event.Event{
		UUID: "01939f7e-0000-7000-8000-000000000001", ProjectID: "p1", Name: event.Generation, DistinctID: "user-1", Timestamp: start, Latency: event.Some(1500 * time.Millisecond),
		TraceID: "trace-1", SpanID: "span-1", SessionID: "session-1", Provider: "openai", Model: "gpt-4.1-mini-2025-04-14", ModelAsked: "gpt-4.1-mini",
		PromptName: "support", PromptVersion: "3", Surface: "Conversation", Status: event.StatusSuccess,
		Properties: map[string]json.RawMessage{"posthog_flag_variant": json.RawMessage(`"concise"`), "team": json.RawMessage(`"blue"`)},
		Content:    event.Content{Input: json.RawMessage(`[{"role":"user","content":"hello"}]`), Output: out},
	}
	privacy.Derive(e)
	return e
}

func TestBuiltIn(t *testing.T) {
	schema := json.RawMessage(`{"type":"object","required":["answer"],"additionalProperties":false,"properties":{"answer":{"type":"string","minLength":2},"kind":{"enum":["a","b"]}}}`)
	tools := generation("")
	tools.Content.Output = json.RawMessage(`[{"role":"assistant","content":[{"type":"function","id":"c1","function":{"name":"f","arguments":{"x":1}}}]}]`)
	tools.OutputCategory, tools.OutputChars = "", event.Int{}
	privacy.Derive(tools)
	dropped := generation("I'm sorry, but I can't help with that.")
	dropped.DropContent()
	blocked := generation("")
	blocked.Status = event.StatusBlocked
	english := "The invoice was sent on Monday morning, and the customer has already answered that everything is fine."
	german := "Die Rechnung wurde am Montagmorgen verschickt, und die Kundin hat schon geantwortet, dass alles in Ordnung ist."
	for _, c := range []struct {
		name  string
		check eval.Check
		of    *event.Event
		want  string // "pass", the reason code, or "-" if it does not apply
	}{
		{"schema fits", eval.Check{Kind: eval.KindSchema, Schema: schema}, generation(`{"answer":"yes"}`), "pass"},
		{"schema, not JSON", eval.Check{Kind: eval.KindSchema, Schema: schema}, generation(`Sure! {"answer":"yes"}`), "not_json"},
		{"schema, two values", eval.Check{Kind: eval.KindSchema, Schema: schema}, generation(`{"answer":"yes"} {"answer":"no"}`), "not_json"},
		{"schema, lacking", eval.Check{Kind: eval.KindSchema, Schema: schema}, generation(`{}`), "schema_required"},
		{"schema, wrong type", eval.Check{Kind: eval.KindSchema, Schema: schema}, generation(`{"answer":7}`), "schema_type"},
		{"schema, too much", eval.Check{Kind: eval.KindSchema, Schema: schema}, generation(`{"answer":"yes","x":1}`), "schema_additionalProperties"},
		{"schema, enum", eval.Check{Kind: eval.KindSchema, Schema: schema}, generation(`{"answer":"yes","kind":"c"}`), "schema_enum"},
		{"schema, empty", eval.Check{Kind: eval.KindSchema, Schema: schema}, generation(""), "empty_output"},
		{"schema of draft 7", eval.Check{Kind: eval.KindSchema, Schema: json.RawMessage(`{"$schema":"http://json-schema.org/draft-07/schema#","definitions":{"n":{"type":"integer"}},"items":{"$ref":"#/definitions/n"}}`)}, generation(`[1,"2"]`), "schema_type"},
		{"schema, an absurd number", eval.Check{Kind: eval.KindSchema, Schema: json.RawMessage(`{"items":{"multipleOf":3}}`)}, generation(`[1e999999999]`), "schema_number"},
		{"a tool call is no answer", eval.Check{Kind: eval.KindSchema, Schema: schema}, tools, "-"},
		{"required, there", eval.Check{Kind: eval.KindRequired, Patterns: []string{`(?i)invoice`, `\bMonday\b`}}, generation(english), "pass"},
		{"required, one missing", eval.Check{Kind: eval.KindRequired, Patterns: []string{`(?i)invoice`, `refund`}}, generation(english), "pattern_missing"},
		{"forbidden, absent", eval.Check{Kind: eval.KindForbidden, Patterns: []string{`https?://`}}, generation(english), "pass"},
		{"forbidden, there", eval.Check{Kind: eval.KindForbidden, Patterns: []string{`x`, `Monday`}}, generation(english), "pattern_found"},
		{"patterns without content", eval.Check{Kind: eval.KindForbidden, Patterns: []string{`x`}}, dropped, "-"},
		{"length", eval.Check{Kind: eval.KindLength, MinChars: 5, MaxChars: 5}, generation("häßli"), "pass"},
		{"too short", eval.Check{Kind: eval.KindLength, MinChars: 6}, generation("häßli"), "too_short"},
		{"too long", eval.Check{Kind: eval.KindLength, MaxChars: 4}, generation("häßli"), "too_long"},
		{"length without content", eval.Check{Kind: eval.KindLength, MaxChars: 4}, dropped, "too_long"},
		{"length of a tool call", eval.Check{Kind: eval.KindLength, MinChars: 4}, tools, "-"},
		{"language", eval.Check{Kind: eval.KindLanguage, Languages: []string{"EN"}}, generation(english), "pass"},
		{"another language", eval.Check{Kind: eval.KindLanguage, Languages: []string{"en", "fr"}}, generation(german), "language_de"},
		{"Japanese", eval.Check{Kind: eval.KindLanguage, Languages: []string{"ja"}}, generation("請求書は月曜日の朝に送られました。お客様からはすでに返事が来ています。"), "pass"},
		{"too few letters for a language", eval.Check{Kind: eval.KindLanguage, Languages: []string{"en"}}, generation("Ja, 42."), "-"},
		{"no refusal", eval.Check{Kind: eval.KindRefusal}, generation(english), "pass"},
		{"refusal", eval.Check{Kind: eval.KindRefusal}, generation("I'm sorry, but I can't help with that."), "refused"},
		{"refusal without content", eval.Check{Kind: eval.KindRefusal}, dropped, "refused"},
		{"blocked by a filter", eval.Check{Kind: eval.KindRefusal}, blocked, "refused"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.check.Name = "check"
			got := "-"
			out, err := new(eval.Runner).Run(t.Context(), &c.check, c.of)
			switch {
			case err != nil:
				t.Fatal(err)
			case out.OK && out.Passed.Value:
				got = "pass"
			case out.OK:
				got = out.ReasonCode
			case out.Skipped == "":
				t.Error("nothing says why there is no result")
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if out.OK && got == "pass" && out.ReasonCode != "" {
				t.Errorf("passed with the reason %q", out.ReasonCode)
			}
		})
	}
}

// A judgment has its generation's fields, and is one event however often it is
// made.
func TestResultEvent(t *testing.T) {
	of := generation("hello")
	r := eval.Result{Name: "valid", Kind: eval.KindSchema, CheckID: "ev_1", Passed: event.Some(false), Score: event.Some(0.25), ReasonCode: "not_json"}
	at := of.Timestamp.Add(of.Latency.Value)
	e := r.Event(of, at)
	if again := r.Event(of, at); again.UUID != e.UUID {
		t.Error("the same judgment has two uuids")
	}
	other := r
	other.CheckID = "ev_2"
	if other.Event(of, at).UUID == e.UUID {
		t.Error("two checks have one uuid")
	}
	if err := e.Validate(); err != nil {
		t.Fatal(err)
	}
	if e.Name != "llm_output_rated" || e.TraceID != "trace-1" || e.ParentID != "span-1" || e.DistinctID != "user-1" || e.PromptName != "support" || e.PromptVersion != "3" || e.Surface != "Conversation" || e.ModelAsked != "gpt-4.1-mini" {
		t.Errorf("%+v", e)
	}
	if !e.Content.IsZero() || e.Latency.Known || e.Usage != (event.Usage{}) {
		t.Error("it has what is the generation's own")
	}
	for name, want := range map[string]string{
		"eval_name": `"valid"`, "eval_passed": "false", "eval_score": "0.25", "eval_reason_code": `"not_json"`, "eval_kind": `"json_schema"`, "eval_check_id": `"ev_1"`,
		"generation_id": `"` + of.UUID + `"`, "trace_id": `"trace-1"`, "posthog_flag_variant": `"concise"`, "team": "",
	} {
		if got := string(e.Properties[name]); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

func TestFeedback(t *testing.T) {
	of := generation("hello")
	f := eval.Feedback{Rating: "thumbs_down", Text: " it is wrong ", Edited: event.Some(true)}
	if err := f.Validate(); err != nil {
		t.Fatal(err)
	}
	list := f.Events(of, start)
	if len(list) != 2 || list[0].Name != "llm_output_rated" || list[1].Name != event.Feedback {
		t.Fatalf("%d events", len(list))
	}
	if string(list[0].Properties["user_feedback"]) != `"negative"` || string(list[0].Properties["edited_output"]) != "true" || list[0].Properties["accepted_output"] != nil || list[0].Properties[eval.PropFeedbackText] != nil {
		t.Errorf("%s", list[0].Properties)
	}
	if string(list[1].Properties[eval.PropFeedbackText]) != `"it is wrong"` || list[1].TraceID != "trace-1" || list[1].ParentID != "span-1" {
		t.Errorf("%+v", list[1])
	}
	for _, bad := range []eval.Feedback{{}, {Rating: "meh"}, {Text: strings.Repeat("x", 10_001)}} {
		if bad.Validate() == nil {
			t.Errorf("%.40v is accepted", bad)
		}
	}
}

func TestResultValidate(t *testing.T) {
	yes := event.Some(true)
	for _, r := range []eval.Result{
		{Passed: yes}, {Name: "x"}, {Name: strings.Repeat("n", 101), Passed: yes}, {Name: "x", Passed: yes, ReasonCode: "It said so, and more"}, {Name: "x", Score: event.Some(1e12)},
	} {
		if r.Validate() == nil {
			t.Errorf("%+v is accepted", r)
		}
	}
	good := eval.Result{Name: " x ", Score: event.Some(-1.0), ReasonCode: "missing_citation"}
	if err := good.Validate(); err != nil || good.Name != "x" {
		t.Errorf("%v %q", err, good.Name)
	}
}

func TestWants(t *testing.T) {
	c := eval.Check{ID: "ev_1", Enabled: true, Sample: 1}
	for _, x := range []struct {
		name string
		edit func(*eval.Check, *event.Event)
		want bool
	}{
		{"all", func(*eval.Check, *event.Event) {}, true},
		{"off", func(c *eval.Check, _ *event.Event) { c.Enabled = false }, false},
		{"not a generation", func(_ *eval.Check, e *event.Event) { e.Name = event.Span }, false},
		{"a failed call", func(_ *eval.Check, e *event.Event) { e.IsError = true }, false},
		{"a judge's own call", func(_ *eval.Check, e *event.Event) { e.Surface = eval.SurfaceJudge }, false},
		{"a dataset's call", func(_ *eval.Check, e *event.Event) { e.Properties[eval.PropRun] = json.RawMessage(`"r"`) }, false},
		{"its prompt", func(c *eval.Check, _ *event.Event) { c.Filter.Prompts = []string{"other", "support"} }, true},
		{"its version", func(c *eval.Check, _ *event.Event) { c.Filter.Prompts = []string{"support@3"} }, true},
		{"another version", func(c *eval.Check, _ *event.Event) { c.Filter.Prompts = []string{"support@2"} }, false},
		{"its surface", func(c *eval.Check, _ *event.Event) { c.Filter.Surfaces = []string{"Conversation"} }, true},
		{"another surface", func(c *eval.Check, _ *event.Event) { c.Filter.Surfaces = []string{"Test"} }, false},
		{"the model asked for", func(c *eval.Check, _ *event.Event) { c.Filter.Models = []string{"gpt-4.1-mini"} }, true},
		{"another model", func(c *eval.Check, _ *event.Event) { c.Filter.Models = []string{"gpt-5"} }, false},
	} {
		c, e := c, generation("hello")
		x.edit(&c, e)
		if got := c.Wants(e); got != x.want {
			t.Errorf("%s: %v", x.name, got)
		}
	}
	// A sample is a part of all, and always the same part.
	c.Sample = 0.25
	n := 0
	for i := range 4000 {
		e := generation("hello")
		e.UUID = fmt.Sprintf("01939f7e-0000-7000-8000-%012d", i)
		wanted := c.Wants(e)
		if wanted {
			n++
		}
		if c.Wants(e) != wanted {
			t.Fatal("a sample changes its mind")
		}
	}
	if n < 900 || n > 1100 {
		t.Errorf("a quarter of 4000 is %d", n)
	}
}

// FuzzBuiltIn: no answer makes a check panic or fail without a reason.
func FuzzBuiltIn(f *testing.F) {
	f.Add(`{"answer":"yes"}`)
	f.Add("Die Rechnung ist da, und die Kundin hat schon geantwortet.")
	f.Add(`[1e999999, {"a":{"a":{"a":[[[["\ud800"]]]]}}}]`)
	checks := []eval.Check{
		{Name: "s", Kind: eval.KindSchema, Schema: json.RawMessage(`{"type":"object","required":["answer"],"properties":{"answer":{"type":["string","number"],"multipleOf":3}}}`)},
		{Name: "r", Kind: eval.KindRequired, Patterns: []string{`(a|b)+c`}},
		{Name: "l", Kind: eval.KindLength, MinChars: 1, MaxChars: 100},
		{Name: "g", Kind: eval.KindLanguage, Languages: []string{"en"}},
		{Name: "n", Kind: eval.KindRefusal},
	}
	f.Fuzz(func(t *testing.T, text string) {
		e := generation(text)
		for i := range checks {
			out, err := new(eval.Runner).Run(context.Background(), &checks[i], e)
			if err != nil {
				t.Fatal(err)
			}
			if out.OK == (out.Skipped != "") {
				t.Fatalf("%s: %+v", checks[i].Kind, out)
			}
			if out.OK && !out.Passed.Value && out.ReasonCode == "" {
				t.Fatalf("%s failed without a reason", checks[i].Kind)
			}
		}
	})
}
