package enrich_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/enrich"
)

var at = time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)

const id = "0195c0de-7000-7000-8000-000000000001"

func TestNormalise(t *testing.T) {
	long := strings.Repeat("ä", 500)
	get := func(f func(*event.Event) any) func(*event.Event) any { return f }
	for _, tt := range []struct {
		name string
		in   event.Event
		of   func(*event.Event) any
		want any
	}{
		{"uuid upper case", event.Event{UUID: strings.ToUpper(id)}, get(func(e *event.Event) any { return e.UUID }), id},
		{"uuid in braces", event.Event{UUID: "{" + id + "}"}, get(func(e *event.Event) any { return e.UUID }), id},
		{"uuid missing", event.Event{}, get(func(e *event.Event) any { return uuid.MustParse(e.UUID).Version() }), uuid.Version(7)},
		{"uuid nil", event.Event{UUID: uuid.Nil.String()}, get(func(e *event.Event) any { return uuid.MustParse(e.UUID).Version() }), uuid.Version(7)},
		{"not a uuid", event.Event{UUID: "order-17"}, get(func(e *event.Event) any { return uuid.MustParse(e.UUID).Version() }), uuid.Version(5)},

		{"no time", event.Event{}, get(func(e *event.Event) any { return e.Timestamp }), at},
		{"1970", event.Event{Timestamp: time.Unix(5, 0)}, get(func(e *event.Event) any { return e.Timestamp }), at},
		{"tomorrow", event.Event{Timestamp: at.Add(24 * time.Hour)}, get(func(e *event.Event) any { return e.Timestamp }), at},
		{"in an hour", event.Event{Timestamp: at.Add(time.Hour)}, get(func(e *event.Event) any { return e.Timestamp }), at.Add(time.Hour)},
		{"last year", event.Event{Timestamp: at.AddDate(-1, 0, 0)}, get(func(e *event.Event) any { return e.Timestamp }), at.AddDate(-1, 0, 0)},
		{"another zone, nanoseconds", event.Event{Timestamp: at.Add(999).In(time.FixedZone("x", 7200))}, get(func(e *event.Event) any { return e.Timestamp }), at},
		{"year 12000", event.Event{Timestamp: time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC)}, get(func(e *event.Event) any { return e.Timestamp }), at},

		{"name trimmed", event.Event{Name: "  prompt\nshared "}, get(func(e *event.Event) any { return e.Name }), "prompt shared"},
		{"name cut", event.Event{Name: long}, get(func(e *event.Event) any { return e.Name }), long[:400]},
		{"distinct id cut", event.Event{DistinctID: " " + long}, get(func(e *event.Event) any { return e.DistinctID }), long[:400]},
		{"NUL", event.Event{DistinctID: "a\x00b"}, get(func(e *event.Event) any { return e.DistinctID }), "a\uFFFDb"},
		{"not UTF-8", event.Event{DistinctID: "a\xffb"}, get(func(e *event.Event) any { return e.DistinctID }), "a\uFFFDb"},
		{"provider", event.Event{Provider: " OpenRouter\t"}, get(func(e *event.Event) any { return e.Provider }), "openrouter"},
		{"model keeps its case", event.Event{Model: " Prod-GPT4 "}, get(func(e *event.Event) any { return e.Model }), "Prod-GPT4"},
		{"surface", event.Event{Surface: " Playbook "}, get(func(e *event.Event) any { return e.Surface }), "Playbook"},
		{"environment", event.Event{Environment: " staging "}, get(func(e *event.Event) any { return e.Environment }), "staging"},
		{"error keeps its lines", event.Event{ErrorMessage: " a\nb\x00 "}, get(func(e *event.Event) any { return e.ErrorMessage }), "a\nb\uFFFD"},
		{"error cut", event.Event{ErrorMessage: strings.Repeat("x", 20_000)}, get(func(e *event.Event) any { return len(e.ErrorMessage) }), 10_000},

		{"trace id cleaned", event.Event{TraceID: " a b/c "}, get(func(e *event.Event) any { return e.TraceID }), "a_b_c"},
		{"trace of an outcome", event.Event{Name: "llm_task_completed", Properties: map[string]json.RawMessage{"trace_id": json.RawMessage(`" a b "`)}}, get(func(e *event.Event) any { return e.TraceID + string(e.Properties["trace_id"]) }), `a_b" a b "`},
		{"a call's prompt by plain names", event.Event{Name: event.Generation, Properties: map[string]json.RawMessage{"prompt_name": json.RawMessage(`"p"`), "prompt_version": json.RawMessage(`3`), "prompt_version_id": json.RawMessage(`"pv_1"`)}}, get(func(e *event.Event) any { return e.PromptName + " " + e.PromptVersion + " " + e.PromptVersionID }), "p 3 pv_1"},
		{"a call's prompt by both names", event.Event{Name: event.Generation, PromptName: "wins", Properties: map[string]json.RawMessage{"prompt_name": json.RawMessage(`"p"`), "prompt_version": json.RawMessage(`"3"`)}}, get(func(e *event.Event) any { return e.PromptName + " " + e.PromptVersion }), "wins "},
		{"an error's message", event.Event{Name: event.Generation, Properties: map[string]json.RawMessage{"$ai_error": json.RawMessage(`{"message":"no such model","code":404}`)}}, get(func(e *event.Event) any {
			return e.ErrorMessage + string(e.WireProperties()["$ai_error"])
		}), "no such model" + `{"message":"no such model","code":404}`},
		{"an error within an error", event.Event{Name: event.Generation, Properties: map[string]json.RawMessage{"$ai_error": json.RawMessage(`{"error":{"message":"quota"}}`)}}, get(func(e *event.Event) any {
			return e.ErrorMessage + string(e.WireProperties()["$ai_error"])
		}), "quota" + `{"error":{"message":"quota"}}`},
		{"an error's text", event.Event{Name: event.Generation, Properties: map[string]json.RawMessage{"$ai_error": json.RawMessage(`{"error":"too long"}`)}}, get(func(e *event.Event) any {
			return e.ErrorMessage + string(e.WireProperties()["$ai_error"])
		}), "too long" + `{"error":"too long"}`},
		{"an error without a message", event.Event{Name: event.Generation, Properties: map[string]json.RawMessage{"$ai_error": json.RawMessage(`{"code":404}`)}}, get(func(e *event.Event) any {
			return e.ErrorMessage + string(e.WireProperties()["$ai_error"])
		}), "" + `{"code":404}`},
		{"an outcome's prompt", event.Event{Name: "own", Properties: map[string]json.RawMessage{"prompt_name": json.RawMessage(`"p"`), "prompt_version_id": json.RawMessage(`"pv_1"`)}}, get(func(e *event.Event) any { return e.PromptName + " " + e.PromptVersionID }), "p pv_1"},
		{"an outcome's call", event.Event{Name: "llm_output_rated", Properties: map[string]json.RawMessage{"span_id": json.RawMessage(`"s"`), "generation_id": json.RawMessage(`"g"`)}}, get(func(e *event.Event) any { return e.ParentID }), "s"},
		{"an outcome's generation", event.Event{Name: "llm_output_rated", Properties: map[string]json.RawMessage{"generation_id": json.RawMessage(`"g"`)}}, get(func(e *event.Event) any { return e.ParentID }), "g"},
		{"target of a PostHog evaluation", event.Event{Name: "$ai_evaluation", Properties: map[string]json.RawMessage{"$ai_target_event_id": json.RawMessage(`"g"`)}}, get(func(e *event.Event) any { return e.ParentID }), "g"},
		{"a call has no such parent", event.Event{Name: event.Generation, Properties: map[string]json.RawMessage{"generation_id": json.RawMessage(`"g"`)}}, get(func(e *event.Event) any { return e.ParentID }), ""},
		{"an outcome's own trace wins", event.Event{Name: "own", TraceID: "t", Properties: map[string]json.RawMessage{"trace_id": json.RawMessage(`"u"`)}}, get(func(e *event.Event) any { return e.TraceID }), "t"},
		{"invalid trace id", event.Event{Name: "own", Properties: map[string]json.RawMessage{"trace_id": json.RawMessage(`["u"]`)}}, get(func(e *event.Event) any { return e.TraceID }), ""},
		{"a call is not renamed", event.Event{Name: event.Generation, UUID: id, Properties: map[string]json.RawMessage{"trace_id": json.RawMessage(`"u"`)}}, get(func(e *event.Event) any { return e.TraceID }), id},
		{"a call's ids", event.Event{Name: event.Generation, UUID: id}, get(func(e *event.Event) any { return e.TraceID + " " + e.SpanID }), id + " " + id},
		{"a call's own ids", event.Event{Name: event.Generation, TraceID: "t", SpanID: "s"}, get(func(e *event.Event) any { return e.TraceID + " " + e.SpanID }), "t s"},
		{"a trace has no span id", event.Event{Name: event.Trace, UUID: id}, get(func(e *event.Event) any { return e.TraceID + " " + e.SpanID }), id + " "},
		{"feedback makes no trace", event.Event{Name: event.Feedback}, get(func(e *event.Event) any { return e.TraceID }), ""},
		{"a product event has no trace", event.Event{Name: "prompt_shared"}, get(func(e *event.Event) any { return e.TraceID + e.SpanID }), ""},
		{"own parent", event.Event{Name: event.Span, SpanID: "s", ParentID: "s"}, get(func(e *event.Event) any { return e.ParentID }), ""},

		{"total", event.Event{Name: event.Generation, Usage: event.Usage{Input: event.Some[int64](3), Output: event.Some[int64](4)}}, usage(func(u event.Usage) event.Int { return u.Total }), event.Some[int64](7)},
		{"total is kept", event.Event{Usage: event.Usage{Input: event.Some[int64](3), Output: event.Some[int64](4), Total: event.Some[int64](9)}}, usage(func(u event.Usage) event.Int { return u.Total }), event.Some[int64](9)},
		{"total with exclusive cache", event.Event{Usage: event.Usage{Input: event.Some[int64](3), Output: event.Some[int64](4), CacheRead: event.Some[int64](5), CacheExclusive: event.Some(true)}}, usage(func(u event.Usage) event.Int { return u.Total }), event.Some[int64](12)},
		{"total if it is unknown whether input includes cached tokens", event.Event{Usage: event.Usage{Input: event.Some[int64](3), Output: event.Some[int64](4), CacheRead: event.Some[int64](5)}}, usage(func(u event.Usage) event.Int { return u.Total }), event.Int{}},
		{"total without output", event.Event{Name: event.Generation, Usage: event.Usage{Input: event.Some[int64](3)}}, usage(func(u event.Usage) event.Int { return u.Total }), event.Int{}},
		{"total of an embedding", event.Event{Name: event.Embedding, Usage: event.Usage{Input: event.Some[int64](3)}}, usage(func(u event.Usage) event.Int { return u.Total }), event.Some[int64](3)},
		{"zero is known", event.Event{Usage: event.Usage{Output: event.Some[int64](0)}}, usage(func(u event.Usage) event.Int { return u.Output }), event.Some[int64](0)},
		{"negative is not", event.Event{Usage: event.Usage{Output: event.Some[int64](-4)}}, usage(func(u event.Usage) event.Int { return u.Output }), event.Int{}},
		{"cache writes", event.Event{Usage: event.Usage{CacheWrite5m: event.Some[int64](2), CacheWrite1h: event.Some[int64](3)}}, usage(func(u event.Usage) event.Int { return u.CacheWrite }), event.Some[int64](5)},
		{"negative latency", event.Event{Latency: event.Some(-time.Second)}, get(func(e *event.Event) any { return e.Latency.Known }), false},
		{"negative cost", event.Event{Cost: event.Cost{Total: event.Some(decimal.New(-1, 0))}}, get(func(e *event.Event) any { return e.Cost.Total.Known }), false},
		{"absurd cost", event.Event{Cost: event.Cost{Total: event.Some(decimal.New(1, 999_999_999))}}, get(func(e *event.Event) any { return e.Cost.Total.Known }), false},
		{"free", event.Event{Cost: event.Cost{Total: event.Some(decimal.Zero)}}, get(func(e *event.Event) any { return e.Cost.Total.Known }), true},
		{"invalid HTTP status", event.Event{HTTPStatus: 7}, get(func(e *event.Event) any { return e.HTTPStatus }), 0},

		{"success", event.Event{Name: event.Generation, HTTPStatus: 200}, outcome, "success false"},
		{"success without HTTP", event.Event{Name: event.Generation}, outcome, "success false"},
		{"429", event.Event{Name: event.Generation, HTTPStatus: 429}, outcome, "error true"},
		{"error without HTTP", event.Event{Name: event.Span, IsError: true}, outcome, "error true"},
		{"400", event.Event{Name: event.Generation, HTTPStatus: 400}, outcome, "validation_failed true"},
		{"400 of a filter", event.Event{Name: event.Generation, HTTPStatus: 400, ErrorType: "content_policy_violation"}, outcome, "blocked true"},
		{"504", event.Event{Name: event.Generation, HTTPStatus: 504}, outcome, "timeout true"},
		{"timeout", event.Event{Name: event.Generation, IsError: true, ErrorType: event.ErrTypeTimeout}, outcome, "timeout true"},
		{"refusal", event.Event{Name: event.Generation, HTTPStatus: 200, StopReason: "refusal"}, outcome, "blocked true"},
		{"Gemini's safety", event.Event{Name: event.Generation, HTTPStatus: 200, StopReason: "SAFETY"}, outcome, "blocked true"},
		{"status of the caller", event.Event{Name: event.Generation, HTTPStatus: 200, Status: "Validation_Failed"}, outcome, "validation_failed true"},
		{"unknown status of the caller", event.Event{Name: event.Generation, HTTPStatus: 500, Status: "nope"}, outcome, "error true"},
		{"a product event's status is its own", event.Event{Name: "order_changed", Status: "Shipped"}, outcome, "Shipped false"},
		{"a metric has no outcome", event.Event{Name: event.Metric}, outcome, " false"},

		{"the user of a header", event.Event{Name: event.Generation, Source: event.SourceGateway, DistinctID: "u1"}, get(func(e *event.Event) any { return e.User }), "u1"},
		{"the user of the body", event.Event{Name: event.Generation, Source: event.SourceGateway, DistinctID: "u1", User: "b"}, get(func(e *event.Event) any { return e.User }), "b"},
		{"an SDK's user", event.Event{Name: event.Generation, Source: event.SourceIngest, DistinctID: "u1"}, get(func(e *event.Event) any { return e.User }), ""},
		{"an error that is an object", event.Event{Name: event.Generation, IsError: true, Properties: map[string]json.RawMessage{"$ai_error": json.RawMessage(`{"message":"m","type":"tokens","code":"rate_limit_exceeded"}`)}},
			get(func(e *event.Event) any { return e.ErrorType + " " + e.ErrorCode + " " + e.ErrorMessage }), "tokens rate_limit_exceeded m"},
		{"a reported call", event.Event{Name: event.RequestCompleted, HTTPStatus: 0, Properties: map[string]json.RawMessage{"status": json.RawMessage(`"validation_failed"`)}}, outcome, "validation_failed true"},
		{"a reported failure", event.Event{Name: event.RequestFailed, Properties: map[string]json.RawMessage{"request_id": json.RawMessage(`"r 1"`), "span_id": json.RawMessage(`"s"`)}}, get(func(e *event.Event) any { return fmt.Sprint(e.Status, e.IsError, e.SpanID, e.TraceID, e.ParentID) }), "errortruer_1r_1"},
		{"a reported start", event.Event{Name: event.RequestStarted, Properties: map[string]json.RawMessage{"model": json.RawMessage(`"m"`)}}, get(func(e *event.Event) any { return fmt.Sprint(e.Status, e.IsError, e.ModelName()) }), "falsem"},
		{"a rating's call", event.Event{Name: event.OutputRated, Properties: map[string]json.RawMessage{"request_id": json.RawMessage(`"r"`)}}, get(func(e *event.Event) any { return e.ParentID }), "r"},
		{"an id in place of a version", event.Event{PromptName: "p", PromptVersion: "pv_9"}, get(func(e *event.Event) any { return e.PromptVersion + " " + e.PromptVersionID }), " pv_9"},
		{"derived fields set by the caller", event.Event{Name: event.Generation, Properties: map[string]json.RawMessage{"output_category": json.RawMessage(`"cited"`), "input_length_bucket": json.RawMessage(`"long"`), "task_type": json.RawMessage(`"reply"`)}}, get(func(e *event.Event) any { return e.OutputCategory + " " + e.InputLengthBucket + " " + e.TaskType }), "cited long reply"},

		{"tags", event.Event{Tags: []string{" a ", "", "a", "b\n"}}, get(func(e *event.Event) any { return e.Tags }), []string{"a", "b"}},
		{"flags", event.Event{Flags: map[string]string{" f ": " v ", "": "x"}}, get(func(e *event.Event) any { return e.Flags }), map[string]string{"f": "v"}},
		{"invalid JSON", event.Event{Properties: map[string]json.RawMessage{" p ": json.RawMessage(`{a`), "q": json.RawMessage(``), "r": json.RawMessage("\"\xff\"")}},
			get(func(e *event.Event) any { return fmt.Sprintf("%s", e.Properties) }), "map[p:\"{a\" r:\"\uFFFD\"]"},
		{"content is not JSON", event.Event{Content: event.Content{Input: json.RawMessage("hello"), Output: json.RawMessage{}}},
			get(func(e *event.Event) any { return fmt.Sprintf("%s %t", e.Content.Input, e.Content.Output == nil) }), `"hello" true`},
		{"too deep", event.Event{Content: event.Content{Input: json.RawMessage(strings.Repeat("[", 5000) + strings.Repeat("]", 5000))}},
			get(func(e *event.Event) any { return string(e.Content.Input[:3]) }), `"[[`},
		{"brackets in a string", event.Event{Content: event.Content{Input: json.RawMessage(`"\"` + strings.Repeat("[", 5000) + `"`)}},
			get(func(e *event.Event) any { return string(e.Content.Input[:4]) }), `"\"[`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := tt.in
			enrich.Normalise(&e, at)
			if got := tt.of(&e); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
			again := *e.Clone()
			enrich.Normalise(&again, at.Add(time.Minute))
			if !reflect.DeepEqual(&again, e.Clone()) {
				t.Errorf("normalising twice changes the event:\n%+v\n%+v", e, again)
			}
		})
	}
}

func usage(f func(event.Usage) event.Int) func(*event.Event) any {
	return func(e *event.Event) any { return f(e.Usage) }
}

func outcome(e *event.Event) any { return fmt.Sprintf("%s %t", e.Status, e.IsError) }

// A retry with the same generated id must be the same event.
func TestForeignIDsAreStable(t *testing.T) {
	a, b, c := event.Event{ProjectID: "p", UUID: "order-17"}, event.Event{ProjectID: "p", UUID: "order-17"}, event.Event{ProjectID: "q", UUID: "order-17"}
	for _, e := range []*event.Event{&a, &b, &c} {
		enrich.Normalise(e, at)
	}
	if a.UUID != b.UUID || a.UUID == c.UUID {
		t.Errorf("%s, %s, %s: want the first two equal, the third of another project not", a.UUID, b.UUID, c.UUID)
	}
}

func TestBoundsAreNoted(t *testing.T) {
	e := event.Event{Properties: map[string]json.RawMessage{}, Flags: map[string]string{}}
	for i := range 400 {
		e.Properties[fmt.Sprintf("p%03d", i)] = json.RawMessage("1")
		e.Flags[fmt.Sprintf("f%03d", i)] = "on"
		e.Tags = append(e.Tags, fmt.Sprintf("t%03d", i))
	}
	shared := e.Properties
	enrich.Normalise(&e, at)
	if len(e.Properties) != 301 || len(e.Flags) != 200 || len(e.Tags) != 50 || len(shared) != 400 {
		t.Errorf("%d properties, %d flags, %d tags, %d in the source's map; want 301 with the note, 200, 50, 400", len(e.Properties), len(e.Flags), len(e.Tags), len(shared))
	}
	if got, want := string(e.Properties[enrich.Note]), `"350 tags left out; 200 feature flags left out; 100 properties left out"`; got != want {
		t.Errorf("note %s, want %s", got, want)
	}
	enrich.Normalise(&e, at)
	if len(e.Properties) != 301 {
		t.Errorf("%d properties after the second time, want 301", len(e.Properties))
	}
}

func TestLargePropertiesGiveWay(t *testing.T) {
	text, _ := json.Marshal(strings.Repeat("x", 2<<20))
	list := json.RawMessage("[" + strings.Repeat(`"ab",`, 1<<19) + "1]")
	e := event.Event{Properties: map[string]json.RawMessage{"text": text, "list": list, "small": json.RawMessage(`"kept"`)}}
	enrich.Normalise(&e, at)
	if got := e.Properties["text"]; len(got) > 9<<10 || !strings.Contains(string(got), "[truncated]") {
		t.Errorf("text has %d bytes, want it cut", len(got))
	}
	if e.Properties["list"] != nil || string(e.Properties["small"]) != `"kept"` {
		t.Error("want the list removed and the small one kept")
	}
	if got, want := string(e.Properties[enrich.Note]), `"1 properties shortened; 1 properties left out"`; got != want {
		t.Errorf("note %s, want %s", got, want)
	}
}

func BenchmarkNormalise(b *testing.B) {
	text, _ := json.Marshal(strings.Repeat("How do I make a hedge grow faster? ", 117))
	e := &event.Event{UUID: id, ProjectID: "default", Name: event.Generation, Timestamp: at, Provider: " OpenAI ", Model: " gpt-4.1-mini-2025-04-14 ", HTTPStatus: 200}
	e.Content.Input = json.RawMessage(`[{"role":"user","content":` + string(text) + `}]`)
	b.ReportAllocs()
	for b.Loop() {
		enrich.Normalise(e, at)
	}
}
