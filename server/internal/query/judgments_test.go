package query_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

// A trace with two calls of two prompts: a judgment belongs to the call that it
// names, and to the first where it names none.
func TestJudgments(t *testing.T) {
	f := newFixture(t)
	at := now.Add(-time.Hour)
	call := func(span, prompt, model string, after time.Duration) *event.Event {
		return &event.Event{UUID: event.NewID(), ProjectID: "evals", Name: event.Generation, Timestamp: at.Add(after), TraceID: "t1", SpanID: span, PromptName: prompt, PromptVersion: "1", ModelAsked: model}
	}
	judged := func(name, parent string, props map[string]string) *event.Event {
		e := &event.Event{UUID: event.NewID(), ProjectID: "evals", Name: name, Timestamp: at.Add(time.Minute), TraceID: "t1", ParentID: parent, Properties: map[string]json.RawMessage{}}
		for k, v := range props {
			e.Properties[k] = json.RawMessage(v)
		}
		return e
	}
	f.write(t, call("s1", "plan", "gpt-4.1", 0), call("s2", "answer", "gpt-4.1-mini", time.Second),
		judged("llm_output_rated", "s2", map[string]string{"eval_name": `"tone"`, "eval_passed": "false", "eval_score": "0.2"}),
		judged("llm_output_rated", "s1", map[string]string{"eval_name": `"tone"`, "eval_passed": "true", "eval_score": "0.6"}),
		judged("$ai_evaluation", "s2", map[string]string{"$ai_evaluation_name": `"facts"`, "$ai_evaluation_result": "true"}),
		judged("llm_output_rated", "", map[string]string{"user_feedback": `"negative"`}),
		judged("llm_output_rated", "nowhere", map[string]string{"eval_name": `"tone"`, "eval_passed": "true"}))
	ask := func(by query.GroupBy, fl query.Filter) map[string]query.Values {
		t.Helper()
		fl.From, fl.To = now.Add(-2*time.Hour), now
		s, err := f.Series(t.Context(), query.SeriesQuery{Project: "evals", Filter: fl, By: by, Limit: 10, Measures: []query.Measure{query.Evals, query.EvalsJudged, query.EvalPassRate, query.EvalScore, query.NegativeRate, query.Rated}})
		if err != nil {
			t.Fatal(err)
		}
		out := make(map[string]query.Values)
		for _, g := range s.Groups {
			out[g.Key] = g.Total
		}
		return out
	}
	is := func(got query.Values, m query.Measure, want float64) {
		t.Helper()
		if v := got.Get(m); !v.Known || v.Value != want {
			t.Errorf("%s: %+v, want %v", m, v, want)
		}
	}
	byPrompt := ask(query.ByPromptName, query.Filter{})
	is(byPrompt["answer"], query.Evals, 2)
	is(byPrompt["answer"], query.EvalPassRate, 0.5)
	is(byPrompt["answer"], query.EvalScore, 0.2)
	is(byPrompt["plan"], query.Evals, 2) // one names it, one a call that is not there
	is(byPrompt["plan"], query.EvalPassRate, 1)
	is(byPrompt["plan"], query.NegativeRate, 1)
	byModel := ask(query.ByModelAsked, query.Filter{PromptName: "answer"})
	is(byModel["gpt-4.1-mini"], query.Evals, 2)
	if len(byModel) != 1 {
		t.Errorf("%v", byModel)
	}
	byEval := ask(query.ByEval, query.Filter{})
	is(byEval["tone"], query.Evals, 3)
	is(byEval["tone"], query.EvalsJudged, 3)
	is(byEval["facts"], query.EvalPassRate, 1)
	is(byEval[""], query.EvalsJudged, 0)
	is(byEval[""], query.Evals, 0)

	list, err := f.Judgments(t.Context(), "evals", "t1")
	if err != nil || len(list) != 5 {
		t.Fatalf("%d, %v", len(list), err)
	}
	if other, err := f.Judgments(t.Context(), "default", "t1"); err != nil || len(other) != 0 {
		t.Errorf("another project sees %d, %v", len(other), err)
	}
	if _, err := f.Judgments(t.Context(), "evals", ""); err == nil {
		t.Error("no trace is a trace")
	}
}
