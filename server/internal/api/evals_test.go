package api_test

import (
	"context"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/eval"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// judge simulates a model behind the gateway.
type judge struct {
	text  string
	asked []eval.Request
}

func (j *judge) Call(_ context.Context, r eval.Request) (*event.Event, error) {
	j.asked = append(j.asked, r)
	out, _ := json.Marshal([]map[string]string{{"role": "assistant", "content": j.text}})
	e := &event.Event{UUID: r.UUID, Name: event.Generation, TraceID: r.TraceID, Content: event.Content{Output: out}}
	e.Cost.Total = event.Some(decimal.RequireFromString("0.001"))
	return e, nil
}

func TestRecordEvals(t *testing.T) {
	f := newFixture(t)
	of := f.events[3]
	const missing = "01890a5d-ac96-774b-bcce-b302099a8057"
	for _, c := range []struct {
		name, body string
		status     int
		says       string
	}{
		{"by its generation", `{"generation_id":"` + of.UUID + `","eval_name":"correctness","eval_passed":false,"eval_score":0.25,"eval_reason_code":"wrong_fact","properties":{"suite":"nightly","$ai_model":"x"}}`, 200, ""},
		{"by its trace", `{"trace_id":"t 9","span_id":"s9","distinct_id":"u9","eval_name":"tone","eval_passed":true}`, 200, ""},
		{"on its way", `{"generation_id":"` + missing + `","trace_id":"t8","eval_name":"tone","eval_score":1}`, 200, ""},
		{"a list", `[{"trace_id":"a","eval_name":"x","eval_passed":true},{"trace_id":"b","eval_name":"x","eval_passed":true,"uuid":"` + missing + `"}]`, 200, ""},
		{"about nothing", `{"eval_name":"x","eval_passed":true}`, 400, "generation_id"},
		{"not there", `{"generation_id":"` + missing + `","eval_name":"x","eval_passed":true}`, 404, "trace_id"},
		{"of no verdict", `{"trace_id":"a","eval_name":"x"}`, 400, "eval_passed"},
		{"of no name", `{"trace_id":"a","eval_passed":true}`, 400, "eval_name"},
		{"a reason in words", `{"trace_id":"a","eval_name":"x","eval_passed":true,"eval_reason_code":"because of this and that"}`, 400, "one word"},
		{"an unknown field", `{"trace_id":"a","eval_name":"x","eval_passed":true,"score":1}`, 400, "no field"},
		{"a wrong id", `{"generation_id":"7","eval_name":"x","eval_passed":true}`, 400, "UUID"},
		{"one bad of a list", `[{"trace_id":"a","eval_name":"x","eval_passed":true},{"trace_id":"a"}]`, 400, "event 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := f.ask(f.member, "POST", "/api/v1/evals", c.body)
			if a.status != c.status || !strings.Contains(a.raw, c.says) {
				t.Fatalf("%d %s", a.status, a.raw)
			}
		})
	}
	if a := f.ask(f.viewer, "POST", "/api/v1/evals", `{}`); a.status != 403 {
		t.Errorf("a viewer: %d", a.status)
	}
	if a := f.ask(f.other, "POST", "/api/v1/evals", `{"generation_id":"`+of.UUID+`","eval_name":"x","eval_passed":true}`); a.status != 404 {
		t.Errorf("another project's generation: %d", a.status)
	}
	got := f.appended.events
	if len(got) != 5 {
		t.Fatalf("%d events", len(got))
	}
	e := got[0]
	if e.Name != "llm_output_rated" || e.TraceID != of.TraceID || e.ParentID != of.SpanID || e.DistinctID != of.DistinctID || e.Model != of.Model || e.Surface != "Test" || e.ProjectID != project.DefaultID ||
		string(e.Properties["eval_passed"]) != "false" || string(e.Properties["eval_score"]) != "0.25" || string(e.Properties["suite"]) != `"nightly"` || e.Properties["$ai_model"] != nil || string(e.Properties["generation_id"]) != `"`+of.UUID+`"` {
		t.Errorf("%+v", e)
	}
	if e := got[1]; e.TraceID != "t_9" || e.ParentID != "s9" || e.DistinctID != "u9" {
		t.Errorf("%+v", e)
	}
	if e := got[2]; e.TraceID != "t8" || e.ParentID != missing {
		t.Errorf("%+v", e)
	}
	if got[4].UUID != missing {
		t.Errorf("uuid %s", got[4].UUID)
	}
}

func TestRecordFeedback(t *testing.T) {
	f := newFixture(t)
	of := f.events[0]
	a := f.ask(f.member, "POST", "/api/v1/feedback", `{"generation_id":"`+of.UUID+`","rating":"down","text":"It is wrong.","accepted_output":false}`)
	if a.status != 200 || len(f.appended.events) != 2 {
		t.Fatalf("%d %s", a.status, a.raw)
	}
	rated, said := f.appended.events[0], f.appended.events[1]
	if rated.Name != "llm_output_rated" || string(rated.Properties["user_feedback"]) != `"negative"` || string(rated.Properties["accepted_output"]) != "false" || rated.ParentID != of.SpanID {
		t.Errorf("%+v", rated)
	}
	if said.Name != event.Feedback || string(said.Properties["$ai_feedback_text"]) != `"It is wrong."` || said.TraceID != of.TraceID || said.UUID == rated.UUID {
		t.Errorf("%+v", said)
	}
	for body, says := range map[string]string{`{"trace_id":"t"}`: "is empty", `{"trace_id":"t","rating":"meh"}`: "unknown rating", `{"rating":"up"}`: "neither a generation nor a trace", `{"trace_id":"t","rating":"up","uuid":"7"}`: "UUID", `{"trace_id":"t","rating":"up","timestamp":"soon"}`: "timestamp"} {
		if a := f.ask(f.member, "POST", "/api/v1/feedback", body); a.status != 400 || !strings.Contains(a.raw, says) {
			t.Errorf("%s: %d %s", body, a.status, a.raw)
		}
	}
}

func TestChecks(t *testing.T) {
	f := newFixture(t)
	const good = `{"name":"short","kind":"length","max_chars":5,"filter":{"surfaces":["Test"]}}`
	if a := f.ask(f.member, "POST", "/api/v1/evals/checks", good); a.status != 403 {
		t.Errorf("a member: %d", a.status)
	}
	a := f.ask(f.admin, "POST", "/api/v1/evals/checks", good)
	c, _ := a.body["check"].(map[string]any)
	if a.status != 200 || c["enabled"] != true || c["sample_rate"] != 1.0 {
		t.Fatalf("%d %s", a.status, a.raw)
	}
	id, _ := c["id"].(string)
	if a := f.ask(f.admin, "POST", "/api/v1/evals/checks", good); a.status != 409 {
		t.Errorf("the same again: %d", a.status)
	}
	for body, says := range map[string]string{`{"name":"x","kind":"smell"}`: "unknown check kind", `{"name":"x","kind":"json_schema","schema":{"type":"thing"}}`: "schema", `{"name":"x","kind":"required_pattern","patterns":["("]}`: "pattern 1", `{"nam":"x"}`: "does not match this route"} {
		if a := f.ask(f.admin, "POST", "/api/v1/evals/checks", body); a.status != 400 || !strings.Contains(a.raw, says) {
			t.Errorf("%s: %d %s", body, a.status, a.raw)
		}
	}
	if a := f.ask(f.admin, "PATCH", "/api/v1/evals/checks/short", `{"max_chars":50,"enabled":false}`); a.status != 200 || !strings.Contains(a.raw, `"max_chars":50`) || !strings.Contains(a.raw, `"surfaces":["Test"]`) {
		t.Errorf("%d %s", a.status, a.raw)
	}
	try := func(body string) answer { return f.ask(f.member, "POST", "/api/v1/evals/try", body) }
	if a := try(`{"check":"short","generation_id":"` + f.events[0].UUID + `"}`); a.status != 200 || !strings.Contains(a.raw, `"eval_passed":true`) {
		t.Errorf("%d %s", a.status, a.raw)
	}
	if a := try(`{"definition":{"kind":"forbidden_pattern","patterns":["answer"]},"generation_id":"` + f.events[0].UUID + `"}`); a.status != 200 || !strings.Contains(a.raw, `"eval_reason_code":"pattern_found"`) {
		t.Errorf("%d %s", a.status, a.raw)
	}
	const asks = `"kind":"judge","judge":{"provider":"openai","model":"m","instruction":"It is right.","daily_usd":1}`
	if a := try(`{"definition":{` + asks + `},"generation_id":"` + f.events[0].UUID + `"}`); a.status != 403 || len(f.judge.asked) != 0 {
		t.Errorf("a member's own judge: %d %s", a.status, a.raw)
	}
	if a := f.ask(f.admin, "POST", "/api/v1/evals/checks", `{"name":"right",`+asks+`}`); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.raw)
	}
	f.judge.text = `{"explanation":"Yes.","score":0.9,"reason_code":"correct"}`
	if a := try(`{"check":"right","generation_id":"` + f.events[0].UUID + `"}`); a.status != 200 || !strings.Contains(a.raw, `"eval_score":0.9`) || len(f.judge.asked) != 1 {
		t.Errorf("%d %s", a.status, a.raw)
	}
	f.judge.text = "Rather good."
	if a := try(`{"check":"right","generation_id":"` + f.events[0].UUID + `"}`); a.status != 503 || strings.Contains(a.raw, "Rather") {
		t.Errorf("%d %s", a.status, a.raw)
	}
	if a := f.ask(f.other, "GET", "/api/v1/evals/checks/"+id, nil); a.status != 404 {
		t.Errorf("another project sees it: %d", a.status)
	}
	if a := f.ask(f.admin, "DELETE", "/api/v1/evals/checks/short", nil); a.status != 200 {
		t.Errorf("%d %s", a.status, a.raw)
	}
	if a := f.get("/api/v1/evals/checks"); !strings.Contains(a.raw, `"right"`) || strings.Contains(a.raw, `"short"`) {
		t.Error(a.raw)
	}
	if a := f.get("/api/v1/evals?from=-1d"); !strings.Contains(a.raw, `"evals":[]`) {
		t.Error(a.raw)
	}
	if len(f.appended.events) != 0 {
		t.Error("a try was kept")
	}
}

// Pass rates have an interval, which is wide where few users gave the answers.
func TestPassRates(t *testing.T) {
	f := newFixture(t)
	var results []*event.Event
	for i, passed := range []bool{true, true, true, true, true, true, true, false, false, false} {
		results = append(results, eval.Result{Name: "tone", Passed: event.Some(passed)}.Event(f.events[i], f.events[i].Timestamp.Add(time.Second)))
	}
	if _, err := f.store.Write(t.Context(), results); err != nil {
		t.Fatal(err)
	}
	a := f.get("/api/v1/evals?from=-30d")
	var got struct{ Evals []map[string]any }
	if err := json.Unmarshal([]byte(a.raw), &got); err != nil || len(got.Evals) != 1 {
		t.Fatalf("%v %s", err, a.raw)
	}
	e := got.Evals[0]
	lower, _ := e["pass_rate_lower"].(float64)
	upper, _ := e["pass_rate_upper"].(float64)
	if e["pass_rate"] != 0.7 || e["judged"] != 10.0 || e["level"] != 0.95 || e["users"] != 3.0 || math.Abs(lower-0.0337742) > 1e-6 || math.Abs(upper-0.9996380) > 1e-6 {
		t.Errorf("%s", a.raw)
	}
}
