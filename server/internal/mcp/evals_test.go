package mcp_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/eval"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// evalRig has doubles of what evaluations and datasets need.
type evalRig struct {
	kept   []*event.Event
	checks *eval.Registry
}

func (r *evalRig) Append(_ context.Context, events ...*event.Event) error {
	r.kept = append(r.kept, events...)
	return nil
}

func (r *evalRig) Call(_ context.Context, q eval.Request) (*event.Event, error) {
	out, _ := json.Marshal([]map[string]string{{"role": "assistant", "content": "from " + q.Model}})
	e := &event.Event{UUID: q.UUID, TraceID: q.TraceID, Name: event.Generation, Timestamp: now, Model: q.Model, Content: event.Content{Output: out}}
	e.Cost.Total = event.Some(decimal.RequireFromString("0.01"))
	return e, nil
}

func TestEvalTools(t *testing.T) {
	f := newFixture(t)
	m, v := f.dial(f.member), f.dial(f.viewer)
	if _, err := f.evals.checks.Create(t.Context(), eval.Check{ProjectID: project.DefaultID, Name: "short", Kind: eval.KindLength, MaxChars: 3}); err != nil {
		t.Fatal(err)
	}
	if out := v.must("list_checks", args{}); at(out, "checks", 0, "name") != "short" {
		t.Errorf("%v", out)
	}
	page := v.must("list_events", args{"event": "$ai_generation", "limit": 1})
	id, _ := at(page, "events", 0, "uuid").(string)
	v.fails("record_eval", args{"generation_id": id, "eval_name": "x", "eval_passed": true}, "scope ingest")
	m.must("record_eval", args{"generation_id": id, "eval_name": "correctness", "eval_passed": false, "eval_score": 0.5})
	m.must("record_feedback", args{"trace_id": "t1", "rating": "negative", "text": "Wrong."})
	if k := f.evals.kept; len(k) != 3 || string(k[0].Properties["generation_id"]) != `"`+id+`"` || string(k[1].Properties["user_feedback"]) != `"negative"` || k[2].TraceID != "t1" {
		t.Errorf("%v", k)
	}
	m.fails("record_eval", args{"eval_name": "x", "eval_passed": true}, "generation_id")
	m.fails("record_eval", args{"trace_id": "t", "eval_name": "x"}, "eval_passed")
	m.fails("record_feedback", args{"trace_id": "t"}, "is empty")

	withContent := ""
	for _, e := range page["events"].([]any) {
		if at(e, "content") == "kept" {
			withContent, _ = at(e, "uuid").(string)
		}
	}
	if withContent == "" {
		list := v.must("list_events", args{"event": "$ai_generation", "limit": 200})
		for _, e := range list["events"].([]any) {
			if at(e, "content") == "kept" {
				withContent, _ = at(e, "uuid").(string)
			}
		}
	}
	m.must("save_example", args{"dataset": "golden", "generation_id": withContent})
	run := func(model string) string {
		t.Helper()
		out := m.must("run_dataset", args{"dataset": "golden", "provider": "openai", "model": model, "budget_usd": 1, "checks": []any{"short"}})
		id, _ := at(out, "id").(string)
		for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
			out := v.must("get_dataset_run", args{"run": id})
			if at(out, "run", "status") == "done" {
				if at(out, "answers", 0, "output") != "from "+model || at(out, "answers", 0, "failed", 0) != "short" || at(out, "checks", 0, "upper") != 0.975 || at(out, "checks", 0, "judged") != 1.0 {
					t.Errorf("%v", out)
				}
				return id
			}
			if time.Now().After(end) {
				t.Fatalf("%v", out)
			}
		}
	}
	a, b := run("m1"), run("m2")
	if out := v.must("compare_dataset_runs", args{"a": a, "b": b}); at(out, "a", "answers") != 1.0 || at(out, "differ") != 1.0 || at(out, "evals", 0, "eval_name") != "short" || at(out, "level") != 0.9875 ||
		at(out, "evals", 0, "pass_rate_difference", "verdict") != "too_few" || at(out, "cost_difference", "warning") != "1 example is too few to show any difference" {
		t.Errorf("%v", out)
	}
	if out := v.must("list_datasets", args{}); at(out, "datasets", 0, "examples") != 1.0 || !strings.HasPrefix(at(out, "datasets", 0, "runs", 0, "id").(string), "run_") {
		t.Errorf("%v", out)
	}
	f.dial(f.other).fails("get_dataset_run", args{"run": a}, "run not found")
	f.dial(f.other).fails("resume_dataset_run", args{"run": a}, "run not found")
	m.fails("resume_dataset_run", args{"run": a}, "conflict", "done")
}
