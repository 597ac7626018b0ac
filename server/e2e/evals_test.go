package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	simprovider "github.com/hedgerow/hedgerow/internal/simulate/provider"
	"github.com/hedgerow/hedgerow/server/internal/eval"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

// evalWord is in prompts and responses of these tests, and must not be sent to
// PostHog.
const evalWord = "perspicacious"

// withKey stores a provider key for the project.
func (p *proc) withKey() {
	p.call("PUT", "/api/v1/projects/default/provider-keys/openai", `{"key":"sk-e2e-kept"}`, nil)
}

// say makes a call with a known response, and returns its event.
func (p *proc) say(trace, text string) *query.Event {
	p.w.t.Helper()
	p.w.sim.Script(simprovider.Behavior{Text: text})
	status, answer, err := p.post(p.w.t.Context(), "/openai/v1/chat/completions", "", `{"model":"gpt-4.1-mini","messages":[{"role":"user","content":"Be `+evalWord+`."}]}`,
		"X-PostHog-Trace-Id", trace, "X-Hedgerow-Surface", "Conversation", "X-Hedgerow-Prompt", "support@3", "X-PostHog-Distinct-Id", "ada")
	if err != nil || status != 200 {
		p.w.t.Fatalf("%d %s %v", status, answer, err)
	}
	return p.awaitStored("event=%24ai_generation&trace_id="+trace, 1)[0]
}

func prop(e *query.Event, name string) string { return strings.Trim(string(e.Properties[name]), `"`) }

// TestEvals covers evaluations from end to end: a check that runs on capture, a
// judge with a budget, evaluations and feedback through the API, and a restart.
func TestEvals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start()
	w.flushFast()
	p.withKey()
	p.call("POST", "/api/v1/evals/checks", `{"name":"valid_json","kind":"json_schema","schema":{"type":"object","required":["answer"]},"filter":{"surfaces":["Conversation"]}}`, nil)
	p.call("POST", "/api/v1/evals/checks", `{"name":"helpful","kind":"judge","judge":{"provider":"openai","model":"gpt-4.1-nano","instruction":"It is helpful.","daily_usd":0.5}}`, nil)
	waitQueues(p, 2)
	of := p.say("t1", `{"words":"`+evalWord+`"}`)
	results := p.awaitStored("event=llm_output_rated&trace_id=t1", 2)
	byName := map[string]*query.Event{}
	for _, e := range results {
		byName[prop(e, "eval_name")] = e
	}
	if e := byName["valid_json"]; e == nil || prop(e, "eval_passed") != "false" || prop(e, "eval_reason_code") != "schema_required" || e.ParentID != of.SpanID || e.PromptName != "support" || e.DistinctID != "ada" || prop(e, "generation_id") != of.UUID {
		t.Errorf("valid_json: %+v", e)
	}
	if e := byName["helpful"]; e == nil || prop(e, "eval_score") == "" || prop(e, "eval_passed") == "" || prop(e, "judge_trace_id") == "" {
		t.Errorf("helpful: %+v", e)
	}
	// The judge's call is a generation with a cost, which is not judged itself.
	judged := p.awaitStored("event=%24ai_generation&surface=Judge", 1)
	if len(judged) != 1 || !judged[0].Cost.Total.Known || prop(judged[0], "judged_event_id") != of.UUID || judged[0].TraceID != prop(byName["helpful"], "judge_trace_id") {
		t.Errorf("%+v", judged)
	}
	for _, r := range w.sim.Requests() {
		if strings.Contains(string(r.Body), "You judge the answer") && r.Header.Get("Authorization") != "Bearer sk-e2e-kept" {
			t.Errorf("the judge was called with %q", r.Header.Get("Authorization"))
		}
	}

	// Evaluations from other programs: by the API and by PostHog's protocol.
	p.call("POST", "/api/v1/evals", `{"generation_id":"`+of.UUID+`","eval_name":"correctness","eval_passed":true,"eval_score":0.75}`, nil)
	p.call("POST", "/api/v1/feedback", `{"generation_id":"`+of.UUID+`","rating":"negative","text":"It is not `+evalWord+`."}`, nil)
	p.call("POST", "/batch/", fmt.Sprintf(`{"api_key":%q,"batch":[{"event":"llm_output_rated","distinct_id":"ada","properties":{"trace_id":"t1","generation_id":%q,"eval_name":"tone","eval_passed":false}}]}`, p.token(), of.SpanID), nil)
	p.awaitStored("event=llm_output_rated&trace_id=t1", 5)
	var sums struct {
		Evals []struct {
			Name     string   `json:"eval_name"`
			Results  float64  `json:"results"`
			PassRate *float64 `json:"pass_rate"`
		} `json:"evals"`
	}
	p.call("GET", "/api/v1/evals?prompt_name=support&from=-1d", "", &sums)
	if len(sums.Evals) != 4 {
		t.Errorf("%+v", sums)
	}

	// PostHog gets the verdicts, and no word of the conversation.
	w.await(func() bool { return len(w.ph.Named("llm_output_rated")) >= 5 }, func() string { return fmt.Sprint(len(w.ph.Named("llm_output_rated")), " judgments in PostHog") })
	all, err := json.Marshal(w.ph.Events())
	if err != nil || strings.Contains(string(all), evalWord) || strings.Contains(string(all), "You judge the answer") {
		t.Errorf("PostHog has words of the conversation: %v", err)
	}

	// A killed process loses no evaluations: captured calls are evaluated after
	// the restart.
	p.kill()
	p = w.start()
	p.say("t2", `{"answer":"yes"}`)
	e := p.awaitStored("event=llm_output_rated&trace_id=t2&property.eval_name=valid_json", 1)[0]
	if prop(e, "eval_passed") != "true" {
		t.Errorf("%+v", e)
	}
	p.call("PATCH", "/api/v1/evals/checks/helpful", `{"enabled":false}`, nil)
	waitQueues(p, 1)
}

// waitQueues waits until the given number of check cursors is open.
func waitQueues(p *proc, n int) {
	p.w.t.Helper()
	have := 0
	p.w.await(func() bool {
		var s struct {
			Server struct {
				Journal struct{ Queues []struct{ Name string } }
			}
			Journal struct{ Queues []struct{ Name string } }
		}
		p.call("GET", "/api/v1/status", "", &s)
		have = 0
		for _, q := range append(s.Journal.Queues, s.Server.Journal.Queues...) {
			if strings.HasPrefix(q.Name, "eval-") || strings.HasPrefix(q.Name, "judge-") {
				have++
			}
		}
		return have == n
	}, func() string { return fmt.Sprintf("%d cursors of checks, want %d", have, n) })
}

// TestDatasetRun saves a response as an example, runs the dataset with two
// models, and compares.
func TestDatasetRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start()
	p.withKey()
	of := p.say("d1", "It is "+evalWord+".")
	p.call("POST", "/api/v1/datasets", `{"name":"golden"}`, nil)
	p.call("POST", "/api/v1/datasets/golden/examples", `{"from_generation":"`+of.UUID+`","expected":"It is so."}`, nil)
	p.call("POST", "/api/v1/datasets/golden/import", `{"input":"Say hi.","provider":"openai","model":"gpt-4.1-mini"}`+"\n"+`{"input":"Say bye.","provider":"openai","model":"gpt-4.1-mini"}`, nil)
	p.call("POST", "/api/v1/prompts", `{"name":"support","messages":[{"role":"system","content":"You are brief."}],"provider":"openai","model":"gpt-4.1-mini"}`, nil)
	p.call("POST", "/api/v1/evals/checks", `{"name":"short","kind":"length","max_chars":20,"enabled":false}`, nil)
	run := func(plan string) string {
		t.Helper()
		var started struct{ Run struct{ ID string } }
		p.call("POST", "/api/v1/datasets/golden/runs", plan, &started)
		var at struct {
			Run struct {
				Status, Problem string
				Finished        int
				CostUSD         string `json:"cost_usd"`
			}
			Results []struct {
				Output, Model string
				TraceID       string `json:"trace_id"`
				Evals         []eval.Result
			}
		}
		w.await(func() bool {
			p.call("GET", "/api/v1/datasets/golden/runs/"+started.Run.ID, "", &at)
			return at.Run.Status != "running"
		}, func() string { return fmt.Sprintf("%+v", at) })
		if at.Run.Status != "done" || at.Run.Finished != 3 || at.Run.CostUSD == "0" || len(at.Results) != 3 || len(at.Results[0].Evals) == 0 {
			t.Errorf("%+v", at)
		}
		// Each call has its own trace, with the surface Dataset.
		e := p.awaitStored("event=%24ai_generation&surface=Dataset&trace_id="+at.Results[0].TraceID, 1)[0]
		if prop(e, "dataset_run_id") != started.Run.ID || prop(e, "dataset_example_id") == "" || e.PromptName != "support" {
			t.Errorf("%+v", e)
		}
		return started.Run.ID
	}
	a := run(`{"prompt":"support","checks":["short"],"budget_usd":1}`)
	b := run(`{"prompt":"support","model":"gpt-4.1","checks":["short"],"budget_usd":1,"concurrency":2}`)
	// Gemini runs and judges in its own format.
	p.call("PUT", "/api/v1/projects/default/provider-keys/gemini", `{"key":"e2e-gemini-kept"}`, nil)
	p.call("POST", "/api/v1/evals/checks", `{"name":"fair","kind":"judge","enabled":false,"judge":{"provider":"gemini","model":"gemini-2.5-flash","instruction":"It is fair.","daily_usd":0.5}}`, nil)
	var third struct {
		Results []struct {
			Model string
			Evals []eval.Result
		}
	}
	p.call("GET", "/api/v1/datasets/golden/runs/"+run(`{"prompt":"support","provider":"gemini","model":"gemini-2.5-flash","checks":["fair"],"budget_usd":1}`), "", &third)
	for _, r := range third.Results {
		if !slices.ContainsFunc(r.Evals, func(e eval.Result) bool { return e.Name == "fair" && e.Score.Known }) || !strings.HasPrefix(r.Model, "gemini-2.5") {
			t.Errorf("by Gemini: %+v", r)
		}
	}
	var cmp struct {
		Evals []struct {
			Name     string `json:"eval_name"`
			Examples int
		}
		Pairs []struct{ A, B *struct{ Output string } }
	}
	p.call("GET", "/api/v1/datasets/golden/compare?a="+a+"&b="+b, "", &cmp)
	if len(cmp.Pairs) != 3 || cmp.Pairs[0].A == nil || cmp.Pairs[0].B == nil || len(cmp.Evals) != 2 {
		t.Errorf("%+v", cmp)
	}

	// A backup contains the dataset.
	folder := t.TempDir() + "/backup"
	w.mustRun("backup", folder)
	p.stop()
	key, err := os.ReadFile(w.dir + "/secret.key")
	if err != nil {
		t.Fatal(err)
	}
	w.dir = t.TempDir() + "/restored"
	w.mustRun("restore", folder)
	if err := os.WriteFile(w.dir+"/secret.key", key, 0o600); err != nil {
		t.Fatal(err)
	}
	p = w.start()
	var list struct {
		Datasets []struct {
			Name     string
			Examples int
		}
	}
	p.call("GET", "/api/v1/datasets", "", &list)
	if len(list.Datasets) != 1 || list.Datasets[0].Examples != 3 {
		t.Errorf("%+v", list)
	}
}

// TestDatasetResume kills hedgerow in the middle of a run and resumes the run
// after the restart: examples that have a result are not run again.
func TestDatasetResume(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start()
	p.withKey()
	p.call("POST", "/api/v1/datasets", `{"name":"golden"}`, nil)
	var lines strings.Builder
	for i := range 9 {
		fmt.Fprintf(&lines, "{\"input\":\"Say the number %d.\",\"provider\":\"openai\",\"model\":\"gpt-4.1-mini\"}\n", i)
	}
	p.call("POST", "/api/v1/datasets/golden/import", lines.String(), nil)
	const before = 4
	w.sim.Script(slices.Repeat([]simprovider.Behavior{{Text: "a number"}}, before)...)
	w.sim.Script(simprovider.Behavior{Fail: simprovider.Hang}) // the call in progress when hedgerow is killed
	var at struct {
		Run struct {
			ID, Status, Problem string
			Finished, Total     int
		}
		Results []struct {
			ExampleID string `json:"example_id"`
		}
	}
	p.call("POST", "/api/v1/datasets/golden/runs", `{"budget_usd":1,"concurrency":1}`, &at)
	path := "/api/v1/datasets/golden/runs/" + at.Run.ID
	w.await(func() bool {
		p.call("GET", path, "", &at)
		return len(at.Results) == before && len(w.sim.Requests()) == before+1
	}, func() string { return fmt.Sprintf("%+v", at) })
	p.kill()
	p = w.start()
	if p.call("GET", path, "", &at); at.Run.Status != "interrupted" || at.Run.Problem == "" || len(at.Results) != before {
		t.Errorf("after the restart: %+v", at)
	}
	p.call("POST", path+"/resume", "", &at)
	w.await(func() bool { p.call("GET", path, "", &at); return at.Run.Status != "running" }, func() string { return fmt.Sprintf("%+v", at) })
	if at.Run.Status != "done" || at.Run.Finished != 9 || at.Run.Total != 9 || len(at.Results) != 9 {
		t.Errorf("%+v", at)
	}
	asked := map[string]int{}
	for _, r := range w.sim.Requests() {
		asked[string(r.Body)]++
	}
	twice := 0
	for _, n := range asked {
		twice += n - 1
	}
	if len(asked) != 9 || twice != 1 {
		t.Errorf("%d examples were run, %d of them twice: only the one in progress may be", len(asked), twice)
	}
}

// TestEvalPages opens the pages in a real browser, from a check to two runs
// side by side.
func TestEvalPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start()
	p.withKey()
	for i := range 3 {
		p.say(fmt.Sprint("p", i), "Dear customer, your order is on its way and will be there on Friday. Is there anything else?")
	}
	var reports []struct {
		Name, Path      string
		Trouble         []string
		Overflow        int
		Unnamed, Inline int
		Grave           []string
	}
	for line := range strings.Lines(string(browse(t, p, "evals.mjs", "evals", "SAVED_KEY="+w.key))) {
		reports = append(reports, struct {
			Name, Path      string
			Trouble         []string
			Overflow        int
			Unnamed, Inline int
			Grave           []string
		}{})
		if err := json.Unmarshal([]byte(line), &reports[len(reports)-1]); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
	}
	if len(reports) < 20 {
		t.Errorf("%d pages were checked", len(reports))
	}
	for _, r := range reports {
		if len(r.Trouble) > 0 || r.Overflow > 0 || r.Unnamed > 0 || r.Inline > 0 || len(r.Grave) > 0 {
			t.Errorf("%+v", r)
		}
	}
}
