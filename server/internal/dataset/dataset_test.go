package dataset_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/dataset"
	"github.com/hedgerow/hedgerow/server/internal/eval"
	"github.com/hedgerow/hedgerow/server/internal/journal"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/prompt"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

// model answers the calls of runs.
type model struct {
	mu     sync.Mutex
	asked  []eval.Request
	now    int // calls in progress
	most   int
	cost   string
	answer func(eval.Request) (*event.Event, error)
	gate   chan struct{} // if set, a call waits for a word
}

func (m *model) Call(ctx context.Context, r eval.Request) (*event.Event, error) {
	m.mu.Lock()
	m.asked = append(m.asked, r)
	m.now++
	m.most = max(m.most, m.now)
	m.mu.Unlock()
	defer func() { m.mu.Lock(); m.now--; m.mu.Unlock() }()
	if m.gate != nil {
		select {
		case <-m.gate:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if m.answer != nil {
		return m.answer(r)
	}
	return says(r, "the answer of "+r.Model, m.cost), nil
}

func (m *model) calls() []eval.Request {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]eval.Request(nil), m.asked...)
}

func says(r eval.Request, text, usd string) *event.Event {
	out, _ := json.Marshal([]map[string]string{{"role": "assistant", "content": text}})
	e := &event.Event{UUID: r.UUID, ProjectID: r.ProjectID, SpanID: r.UUID, TraceID: r.TraceID, Name: event.Generation, Timestamp: time.Now(), Latency: event.Some(120 * time.Millisecond), Model: r.Model,
		Usage: event.Usage{Input: event.Some[int64](10), Output: event.Some[int64](5)}, Content: event.Content{Output: out}, Properties: map[string]json.RawMessage{}}
	for k, v := range r.Properties {
		_ = e.SetProperty(k, v)
	}
	if usd != "" {
		e.Cost.Total = event.Some(decimal.RequireFromString(usd))
	}
	return e
}

// prompts has one prompt, in two versions.
type prompts struct{}

func (prompts) Version(projectID, name, ref string) (prompt.Version, bool) {
	v := prompt.Version{ID: "pv_1", Prompt: "support", Number: 1, Provider: "openai", Model: "gpt-4.1-mini", Params: map[string]any{"temperature": 0.2},
		Messages: []prompt.Message{{Role: "system", Content: "You are brief."}}}
	if ref == "2" {
		v.ID, v.Number = "pv_2", 2
		v.Messages = []prompt.Message{{Role: "system", Content: "You help {{company}}."}, {Role: "user", Content: "{{question}}"}}
		v.Variables = []prompt.Variable{{Name: "company", Type: "string"}, {Name: "question", Type: "string"}}
	}
	return v, projectID == "p1" && name == "support" && (ref == "" || ref == "1" || ref == "2")
}

type appended struct {
	mu     sync.Mutex
	events []*event.Event
}

func (a *appended) Append(_ context.Context, events ...*event.Event) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.events = append(a.events, events...)
	return nil
}

type rig struct {
	*dataset.Registry
	t      *testing.T
	runner *dataset.Runner
	model  *model
	kept   *appended
	checks *eval.Registry
	mu     sync.Mutex
	audit  []string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	j, err := journal.Open(t.Context(), journal.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close(context.Background()) })
	r := &rig{t: t, model: &model{cost: "0.01"}, kept: &appended{}}
	kv := func(name string) jetstream.KeyValue {
		t.Helper()
		kv, err := j.KeyValue(t.Context(), name, 1)
		if err != nil {
			t.Fatal(err)
		}
		return kv
	}
	b := dataset.Buckets{Sets: kv("sets"), Runs: kv("runs"), Items: kv("items")}
	note := func(_ context.Context, e project.AuditEntry) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.audit = append(r.audit, e.Action+" "+e.Target)
		return nil
	}
	if r.Registry, err = dataset.Open(t.Context(), b, dataset.Options{Audit: note}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Registry.Close() })
	if r.checks, err = eval.Open(t.Context(), kv("checks"), kv("spending"), eval.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.checks.Close() })
	r.runner = &dataset.Runner{Registry: r.Registry, Prompts: prompts{}, Checks: r.checks, Evals: &eval.Runner{Caller: r.model, Budget: r.checks.Budget()}, Caller: r.model, Append: r.kept}
	t.Cleanup(func() { _ = r.runner.Close(context.Background()) })
	return r
}

// fill makes a dataset of n examples.
func (r *rig) fill(n int) dataset.Set {
	r.t.Helper()
	s, err := r.Create(r.t.Context(), "p1", fmt.Sprint("set ", n), "")
	if err != nil {
		r.t.Fatal(err)
	}
	var list []dataset.Example
	for i := range n {
		list = append(list, dataset.Example{ID: fmt.Sprintf("ex%03d", i), Provider: "openai", Model: "gpt-4.1",
			Messages:  []eval.Message{eval.Text("system", "You were long."), eval.Text("user", fmt.Sprint("question ", i))},
			Variables: map[string]any{"company": "Acme", "question": fmt.Sprint("variable ", i)}})
	}
	if _, err := r.Add(r.t.Context(), "p1", s.ID, list...); err != nil {
		r.t.Fatal(err)
	}
	return s
}

func (r *rig) start(s dataset.Set, p dataset.Plan) dataset.Run {
	r.t.Helper()
	run, err := r.runner.Start(r.t.Context(), "p1", s.ID, p)
	if err != nil {
		r.t.Fatal(err)
	}
	return run
}

func (r *rig) ended(id string) dataset.Run {
	r.t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(2 * time.Millisecond) {
		run, err := r.Run("p1", id)
		if err != nil {
			r.t.Fatal(err)
		}
		if run.Status != dataset.Running {
			return run
		}
		if time.Now().After(end) {
			r.t.Fatalf("still running: %+v", run)
		}
	}
}

func TestRun(t *testing.T) {
	r := newRig(t)
	s := r.fill(12)
	c, err := r.checks.Create(t.Context(), eval.Check{ProjectID: "p1", Name: "short", Kind: eval.KindLength, MaxChars: 10})
	if err != nil {
		t.Fatal(err)
	}
	run := r.ended(r.start(s, dataset.Plan{Prompt: "support", Checks: []string{"short"}, Concurrency: 3, BudgetUSD: 1}).ID)
	if run.Status != dataset.Done || run.Finished != 12 || run.Errors != 0 || run.CostUSD.String() != "0.12" || run.Version != "1" || run.VersionID != "pv_1" || run.Name != "support@1 with gpt-4.1-mini" {
		t.Errorf("%+v", run)
	}
	if r.model.most > 3 {
		t.Errorf("%d calls at one time", r.model.most)
	}
	for _, q := range r.model.calls() {
		// The version's instructions take the place of the example's.
		if len(q.Messages) != 2 || string(q.Messages[0].Content) != `"You are brief."` || !strings.HasPrefix(string(q.Messages[1].Content), `"question `) {
			t.Fatalf("%s", q.Messages)
		}
		if q.Surface != "Dataset" || q.PromptName != "support" || q.PromptVersion != "1" || q.Model != "gpt-4.1-mini" || string(q.Params["temperature"]) != "0.2" || q.Properties["dataset_run_id"] != run.ID || q.Properties["dataset_example_id"] == nil {
			t.Fatalf("%+v", q)
		}
	}
	results, err := r.Results(t.Context(), "p1", run.ID)
	if err != nil || len(results) != 12 {
		t.Fatalf("%d, %v", len(results), err)
	}
	one := results[0]
	if one.Output != "the answer of gpt-4.1-mini" || one.CostUSD.Value.String() != "0.01" || one.LatencyMS.Value != 120 || one.OutputTokens.Value != 5 || one.TraceID != run.ID+"-"+one.ExampleID || len(one.Evals) != 1 || one.Evals[0].ReasonCode != "too_long" || one.Evals[0].CheckID != c.ID {
		t.Errorf("%+v", one)
	}
	if len(r.kept.events) != 12 || string(r.kept.events[0].Properties["dataset_run_id"]) != `"`+run.ID+`"` {
		t.Errorf("%d judgments", len(r.kept.events))
	}

	// Another version has its own user message, with variables.
	second := r.ended(r.start(s, dataset.Plan{Prompt: "support", Version: "2", Model: "gpt-4o", Checks: []string{c.ID}, BudgetUSD: 1}).ID)
	last := r.model.calls()[len(r.model.calls())-1]
	if len(last.Messages) != 2 || string(last.Messages[0].Content) != `"You help Acme."` || !strings.HasPrefix(string(last.Messages[1].Content), `"variable `) || last.Model != "gpt-4o" {
		t.Errorf("%s", last.Messages)
	}
	cmp, err := r.Compare(t.Context(), "p1", run.ID, second.ID)
	if err != nil {
		t.Fatal(err)
	}
	if len(cmp.Pairs) != 12 || cmp.Pairs[3].Example.ID != "ex003" || cmp.Pairs[0].Same || cmp.SumA.Answers != 12 || cmp.SumB.CostUSD.Value.String() != "0.12" || cmp.SumA.LatencyMS.Value != 120 || len(cmp.Evals) != 1 || cmp.Evals[0].Examples != 12 || cmp.Evals[0].PassA.Value != 0 {
		t.Errorf("%+v %+v %+v", cmp.SumA, cmp.SumB, cmp.Evals)
	}
	// All fail in both runs, cost and last the same.
	if pass := cmp.Evals[0].Pass; cmp.Figures != 4 || cmp.Level != 0.9875 || pass == nil || pass.Examples != 12 || pass.Verdict != dataset.NotShown || pass.Lower.Value >= 0 || pass.Upper.Value <= 0 || !pass.Detectable.Known ||
		cmp.Evals[0].Score != nil || cmp.Errors.Verdict != dataset.NotShown || cmp.Latency.Verdict != dataset.Equal || cmp.Cost.Lower.Known {
		t.Errorf("%+v %+v", cmp, cmp.Evals[0].Pass)
	}
	if tally := dataset.Tallies(results); len(tally) != 1 || tally[0].Name != "short" || tally[0].Judged != 12 || tally[0].Upper.Value < 0.26 || tally[0].Upper.Value > 0.27 || tally[0].Score.Known {
		t.Errorf("%+v", tally)
	}
	if got := r.Runs("p1", s.ID); len(got) != 2 || got[0].ID != second.ID {
		t.Errorf("%+v", got)
	}
	if err := r.Delete(t.Context(), "p1", s.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Results(t.Context(), "p1", run.ID); err == nil {
		t.Error("the results of a deleted dataset are there")
	}
	if got := strings.Join(r.audit, "; "); got != "dataset.create set 12; dataset.add set 12; dataset.run set 12; dataset.run set 12; dataset.delete set 12" {
		t.Error(got)
	}
}

// The budget is not exceeded, regardless of the number of concurrent calls.
func TestBudget(t *testing.T) {
	r := newRig(t)
	s := r.fill(30)
	run := r.ended(r.start(s, dataset.Plan{Model: "m", Concurrency: 8, BudgetUSD: 0.105}).ID)
	if run.Status != dataset.OverBudget || run.CostUSD.String() != "0.1" || run.Finished != 10 {
		t.Errorf("%+v", run)
	}
	// Of a model without a price one call is made, and then none.
	r.model.cost = ""
	before := len(r.model.calls())
	run = r.ended(r.start(s, dataset.Plan{Model: "m", Concurrency: 8, BudgetUSD: 1}).ID)
	if run.Status != dataset.Failed || !strings.Contains(run.Problem, "cost of the model is unknown") || len(r.model.calls())-before != 1 {
		t.Errorf("%+v", run)
	}
	// A model only needs a known price of 0 to be free.
	r.model.cost = "0"
	if run = r.ended(r.start(s, dataset.Plan{Model: "m", Concurrency: 8, BudgetUSD: 1}).ID); run.Status != dataset.Done || run.Finished != 30 {
		t.Errorf("%+v", run)
	}
}

func TestFailures(t *testing.T) {
	r := newRig(t)
	s := r.fill(5)
	r.model.answer = func(q eval.Request) (*event.Event, error) {
		e := says(q, "", "")
		e.IsError, e.ErrorType, e.HTTPStatus, e.ErrorMessage = true, "rate_limit_error", 429, "quotes the prompt"
		return e, nil
	}
	run := r.ended(r.start(s, dataset.Plan{Model: "m", BudgetUSD: 1}).ID)
	results, err := r.Results(t.Context(), "p1", run.ID)
	if err != nil || run.Status != dataset.Done || run.Errors != 5 || len(results) != 5 || results[0].Error != "rate_limit_error (429)" {
		t.Errorf("%+v %+v %v", run, results, err)
	}
	r.model.answer = func(eval.Request) (*event.Event, error) {
		return nil, event.Invalid("the project keeps no key for openai", "keep one")
	}
	if run := r.ended(r.start(s, dataset.Plan{Model: "m", BudgetUSD: 1}).ID); run.Status != dataset.Failed || run.Problem != "the project keeps no key for openai; keep one" {
		t.Errorf("%+v", run)
	}
	empty, err := r.Create(t.Context(), "p1", "empty", "")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		set  string
		plan dataset.Plan
		says string
	}{
		"no budget":           {s.ID, dataset.Plan{Model: "m"}, "no budget"},
		"too many at once":    {s.ID, dataset.Plan{Model: "m", BudgetUSD: 1, Concurrency: 17}, "out of range"},
		"no such prompt":      {s.ID, dataset.Plan{Prompt: "x", BudgetUSD: 1}, "prompt or version not found"},
		"no such check":       {s.ID, dataset.Plan{Model: "m", BudgetUSD: 1, Checks: []string{"x"}}, "check not found"},
		"no examples":         {empty.ID, dataset.Plan{Model: "m", BudgetUSD: 1}, "no examples"},
		"no such dataset":     {"x", dataset.Plan{Model: "m", BudgetUSD: 1}, "dataset not found"},
		"missing a variable":  {lacking(r), dataset.Plan{Prompt: "support", Version: "2", BudgetUSD: 1}, "example 1"},
		"instructions and no": {lacking(r), dataset.Plan{BudgetUSD: 1, Model: "m", Provider: "openai"}, "only a system prompt"},
	} {
		if _, err := r.runner.Start(t.Context(), "p1", c.set, c.plan); err == nil || !strings.Contains(event.AsError(err).Message, c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// lacking is a dataset whose example has neither variables nor a question.
func lacking(r *rig) string {
	s, err := r.Set("p1", "lacking")
	if err != nil {
		if s, err = r.Create(r.t.Context(), "p1", "lacking", ""); err != nil {
			r.t.Fatal(err)
		}
		if _, err := r.Add(r.t.Context(), "p1", s.ID, dataset.Example{Messages: []eval.Message{eval.Text("system", "Be brief.")}}); err != nil {
			r.t.Fatal(err)
		}
	}
	return s.ID
}

func TestCancel(t *testing.T) {
	r := newRig(t)
	s := r.fill(20)
	r.model.gate = make(chan struct{}, 20)
	for range 3 {
		r.model.gate <- struct{}{}
	}
	run := r.start(s, dataset.Plan{Model: "m", Concurrency: 2, BudgetUSD: 1})
	for len(r.model.calls()) < 5 { // three answered, two wait
		time.Sleep(time.Millisecond)
	}
	if err := r.DeleteRun(t.Context(), "p1", run.ID); err == nil {
		t.Error("a running run is deleted")
	}
	if err := r.runner.Cancel(t.Context(), "p2", run.ID); err == nil {
		t.Error("another project cancels the run")
	}
	if err := r.runner.Cancel(t.Context(), "p1", run.ID); err != nil {
		t.Fatal(err)
	}
	got := r.ended(run.ID)
	if got.Status != dataset.Cancelled || got.Finished != 3 || got.EndedAt.IsZero() {
		t.Errorf("%+v", got)
	}
	if err := r.runner.Cancel(t.Context(), "p1", run.ID); err == nil {
		t.Error("a run that has ended is cancelled")
	}
	// A stopping process records that.
	other := r.start(s, dataset.Plan{Model: "m", Concurrency: 2, BudgetUSD: 1})
	if err := r.runner.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := r.ended(other.ID); got.Status != dataset.Interrupted {
		t.Errorf("%+v", got)
	}
}

// An interrupted run continues with examples without a result, once.
func TestResume(t *testing.T) {
	r := newRig(t)
	s := r.fill(20)
	r.model.gate = make(chan struct{}, 40)
	for range 3 {
		r.model.gate <- struct{}{}
	}
	run := r.start(s, dataset.Plan{Model: "m", Concurrency: 2, BudgetUSD: 1})
	if _, err := r.runner.Resume(t.Context(), "p1", run.ID); err == nil {
		t.Error("a running run is resumed")
	}
	for len(r.model.calls()) < 5 {
		time.Sleep(time.Millisecond)
	}
	if err := r.runner.Cancel(t.Context(), "p1", run.ID); err != nil {
		t.Fatal(err)
	}
	r.ended(run.ID)
	if _, err := r.runner.Resume(t.Context(), "p2", run.ID); err == nil {
		t.Error("another project resumes the run")
	}
	for range 40 {
		select {
		case r.model.gate <- struct{}{}:
		default:
		}
	}
	again, err := r.runner.Resume(t.Context(), "p1", run.ID)
	if err != nil || again.Status != dataset.Running || again.Finished != 3 || again.Total != 20 || !again.StartedAt.Equal(run.StartedAt) {
		t.Fatalf("%+v %v", again, err)
	}
	got := r.ended(run.ID)
	if got.Status != dataset.Done || got.Finished != 20 || got.CostUSD.String() != "0.2" || got.Cancel || got.Problem != "" {
		t.Errorf("%+v", got)
	}
	results, err := r.Results(t.Context(), "p1", run.ID)
	if err != nil || len(results) != 20 {
		t.Errorf("%d results, %v", len(results), err)
	}
	asked := map[any]int{}
	for _, q := range r.model.calls() {
		asked[q.Properties[eval.PropExample]]++
	}
	twice := 0
	for _, n := range asked {
		twice += n - 1
	}
	if len(asked) != 20 || twice != 2 { // the two calls that were broken off
		t.Errorf("%d examples were asked, %d twice", len(asked), twice)
	}
	if _, err := r.runner.Resume(t.Context(), "p1", run.ID); err == nil {
		t.Error("a run that is done is resumed")
	}

	// The budget is the run's, not each attempt's.
	poor := r.start(s, dataset.Plan{Model: "m", Concurrency: 1, BudgetUSD: 0.05})
	if got := r.ended(poor.ID); got.Status != dataset.OverBudget {
		t.Errorf("%+v", got)
	}
	if _, err := r.runner.Resume(t.Context(), "p1", poor.ID); err == nil {
		t.Error("a run that has spent its budget is resumed")
	}
}

func TestFromGeneration(t *testing.T) {
	q := &query.Event{UUID: "u1", Name: event.Generation, TraceID: "t1", Provider: "openai", Model: "gpt-4.1-2025", ModelAsked: "gpt-4.1", Content: &query.Content{
		Input: json.RawMessage(`[{"role":"user","content":"hi"}]`), Output: json.RawMessage(`[{"role":"assistant","content":[{"type":"text","text":"hello"}]}]`), Tools: json.RawMessage("null")}}
	x, err := dataset.FromGeneration(q)
	if err != nil || x.Answer != "hello" || x.Model != "gpt-4.1" || len(x.Messages) != 1 || x.Tools != nil || x.GenerationID != "u1" || x.Expected != "" {
		t.Errorf("%+v, %v", x, err)
	}
	for _, bad := range []*query.Event{{Name: event.Span}, {Name: event.Generation}, {Name: event.Generation, Content: &query.Content{Input: json.RawMessage(`"text"`)}}} {
		if _, err := dataset.FromGeneration(bad); err == nil || event.AsError(err).Hint == "" {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func TestJSONL(t *testing.T) {
	r := newRig(t)
	in, err := os.ReadFile(filepath.Join("testdata", "examples.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	list, err := dataset.ParseJSONL(bytes.NewReader(in))
	if err != nil || len(list) != 3 {
		t.Fatalf("%d, %v", len(list), err)
	}
	s, err := r.Create(t.Context(), "p1", "imported", "")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the same ids take the same places
		if _, err := r.Add(t.Context(), "p1", s.Name, list...); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	if err := r.WriteJSONL(t.Context(), &out, "p1", s.ID); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join("testdata", "examples.out.jsonl"))
	if err != nil || out.String() != string(want) {
		t.Errorf("%v\n%s", err, out.String())
	}
	if s, _ := r.Set("p1", s.ID); s.Examples != 3 {
		t.Errorf("%d examples", s.Examples)
	}
	if err := r.Remove(t.Context(), "p1", s.ID, "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Example(t.Context(), "p1", s.ID, "a"); err == nil {
		t.Error("a removed example is there")
	}
	if _, err := r.Example(t.Context(), "p1", s.ID, "*"); err == nil {
		t.Error("a pattern is an example")
	}
	for in, says := range map[string]string{"": "no examples", "{": "line 1", `{"messages":[]}`: "neither messages", `{"nope":1}`: `unknown field "nope"`, "\n" + `{"input":"x","id":"a.b"}`: "line 2", `{"messages":[{"role":"user"}]}`: "no content"} {
		if _, err := dataset.ParseJSONL(strings.NewReader(in)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func TestSets(t *testing.T) {
	r := newRig(t)
	s := r.fill(1)
	var told *event.Error
	if _, err := r.Create(t.Context(), "p1", "SET 1", ""); !errors.As(err, &told) || told.Code != event.CodeConflict {
		t.Errorf("%v", err)
	}
	if _, err := r.Create(t.Context(), "p1", " ", ""); err == nil {
		t.Error("a dataset has no name")
	}
	for _, f := range []func() error{
		func() error { _, err := r.Set("p2", s.ID); return err },
		func() error { _, err := r.Examples(t.Context(), "p2", s.ID); return err },
		func() error { _, err := r.Add(t.Context(), "p2", s.ID, dataset.Example{}); return err },
		func() error { return r.Delete(t.Context(), "p2", s.ID) },
	} {
		if err := f(); !errors.As(err, &told) || told.Code != event.CodeNotFound {
			t.Errorf("another project: %v", err)
		}
	}
	if err := r.Erase(t.Context(), "p1"); err != nil || len(r.Sets("p1")) != 0 {
		t.Errorf("%v", err)
	}
}

// FuzzParseJSONL: parsed examples can be written and parsed again.
func FuzzParseJSONL(f *testing.F) {
	f.Add([]byte(`{"messages":[{"role":"user","content":"x"}],"expected":"y"}`))
	f.Add([]byte("{\"input\":\"x\",\"output\":\"y\"}\n\n{\"variables\":{\"a\":1}}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := dataset.ParseJSONL(bytes.NewReader(b))
		if err != nil {
			return
		}
		var out bytes.Buffer
		for _, x := range list {
			if err := json.NewEncoder(&out).Encode(x); err != nil {
				t.Fatal(err)
			}
		}
		again, err := dataset.ParseJSONL(&out)
		if err != nil || len(again) != len(list) {
			t.Fatalf("%d of %d: %v", len(again), len(list), err)
		}
	})
}
