package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/flag"
	"github.com/hedgerow/hedgerow/server/internal/app"
	"github.com/hedgerow/hedgerow/server/internal/pipeline"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/store"
)

// historyDays is how far back the demo's made-up past goes.
const historyDays = 30

// storeOnly lets enriched events into the store without the journal: the past
// is not sent to PostHog, as it would not be when one is connected today.
type storeOnly struct{ *store.DuckDB }

func (s storeOnly) Append(ctx context.Context, events ...*event.Event) error {
	_, err := s.Write(ctx, events)
	return err
}

// writeHistory gives the demo a past, unless it has one: a month of a support
// assistant, its agents and a few smaller features. It contains a story that the
// pages can show: a weekday rhythm; a cheaper model from the 16th day before now
// on; an overloaded provider on the 12th; and, on the last Tuesday, a prompt
// version that fails its validation and its users, taken back on Wednesday.
func writeHistory(ctx context.Context, a *app.App, now time.Time) (int, error) {
	old, err := a.Query.Events(ctx, query.EventsQuery{Project: project.DefaultID, Filter: query.Filter{To: now.AddDate(0, 0, -2)}, Limit: 1})
	if err != nil || len(old.Events) > 0 {
		return 0, err
	}
	if err := keepDemoPrompts(ctx, &a.Services); err != nil {
		return 0, err
	}
	if err := keepDemoLoop(ctx, &a.Services, now); err != nil {
		return 0, err
	}
	checks := a.Checks.Checks(project.DefaultID)
	in, err := pipeline.New(pipeline.Config{Price: a.Price, Policy: a.StoragePolicy, Logger: a.Logger().With("part", "demo")})
	if err != nil {
		return 0, err
	}
	in.Open(storeOnly{a.Store}, a.Prompts)
	h := newHistory(now)
	var batch []*event.Event
	n := 0
	flush := func() error {
		batch = slices.DeleteFunc(batch, func(e *event.Event) bool { return e.Timestamp.After(now) })
		batch = append(batch, judged(ctx, &a.Services, checks, batch)...)
		n += len(batch)
		err := in.Append(ctx, batch...)
		batch = nil
		return err
	}
	for h.next(&batch) {
		if len(batch) >= 2000 {
			if err := flush(); err != nil {
				return n, err
			}
		}
	}
	return n, flush()
}

// history makes events hour by hour.
type history struct {
	rng   *rand.Rand
	now   time.Time
	hour  time.Time
	seen  map[string]bool // users who have reached their first value
	bad   [2]time.Time    // while the worse prompt version was out
	over  [2]time.Time    // while a provider was overloaded
	cheap time.Time       // when the cheaper model came
	plan2 time.Time       // when the second agent config came
	trial time.Time       // when the experiments began
	style *flag.Set       // who gets which summary
}

func newHistory(now time.Time) *history {
	now = now.UTC()
	midnight := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, time.UTC)
	tuesday := midnight.AddDate(0, 0, -1)
	for tuesday.Weekday() != time.Tuesday {
		tuesday = tuesday.AddDate(0, 0, -1)
	}
	return &history{
		rng: rand.New(rand.NewPCG(30, uint64(midnight.Unix()))), now: now, hour: midnight.AddDate(0, 0, -historyDays+1), seen: make(map[string]bool),
		bad:   [2]time.Time{tuesday.Add(9 * time.Hour), tuesday.Add(33 * time.Hour)},
		over:  [2]time.Time{midnight.AddDate(0, 0, -12).Add(13 * time.Hour), midnight.AddDate(0, 0, -12).Add(16 * time.Hour)},
		cheap: midnight.AddDate(0, 0, -16).Add(10 * time.Hour), plan2: midnight.AddDate(0, 0, -10).Add(8 * time.Hour), trial: demoTrial(now), style: flag.NewSet([]flag.Definition{*demoSplit()}, nil, nil, false),
	}
}

func within(t time.Time, span [2]time.Time) bool { return !t.Before(span[0]) && t.Before(span[1]) }

// next appends the events of one hour. It is false at the present.
func (h *history) next(out *[]*event.Event) bool {
	if !h.hour.Before(h.now) {
		return false
	}
	// People work from nine to six, have lunch, and rest on Saturday.
	of := float64(h.hour.Hour())
	weight := 0.12 + math.Exp(-(of-10.5)*(of-10.5)/8) + 0.9*math.Exp(-(of-15.5)*(of-15.5)/7)
	switch h.hour.Weekday() {
	case time.Saturday:
		weight *= 0.18
	case time.Sunday:
		weight *= 0.24
	case time.Monday:
		weight *= 1.15
	}
	growth := 0.75 + 0.25*h.hour.Sub(h.now.AddDate(0, 0, -historyDays)).Hours()/(24*historyDays)
	n := int(28*weight*growth*(0.85+0.3*h.rng.Float64()) + 0.5)
	for range n {
		at := h.hour.Add(time.Duration(h.rng.Int64N(int64(time.Hour))))
		if at.After(h.now.Add(-2 * time.Minute)) {
			continue
		}
		switch p := h.rng.IntN(100); {
		case p < 46:
			h.support(out, at)
		case p < 66:
			h.single(out, at, "summarise", "7", "Compose", "claude-sonnet-4-5", "summary", 2200, 320)
		case p < 84:
			h.single(out, at, "classify", "2", "Guide", "gpt-4.1-nano", "triage", 420, 12)
		default:
			h.agent(out, at)
		}
	}
	h.hour = h.hour.Add(time.Hour)
	return true
}

func (h *history) chance(p float64) bool { return h.rng.Float64() < p }

func (h *history) pick(of ...string) string { return of[h.rng.IntN(len(of))] }

// around is a number that is mostly near mean, and sometimes well above.
func (h *history) around(mean float64) float64 { return mean * math.Exp(0.35*h.rng.NormFloat64()) }

func (h *history) seconds(mean float64) event.Opt[time.Duration] {
	return event.Some(time.Duration(h.around(mean) * float64(time.Second)).Truncate(time.Microsecond))
}

// scene is what the events of one trace share.
type scene struct {
	user, trace, session, name, environment, surface, task, prompt, version string
	at                                                                      time.Time
	plan, config                                                            string
	flags                                                                   map[string]string
}

func (h *history) scene(at time.Time) scene {
	// A few people ask most.
	i := int(math.Pow(h.rng.Float64(), 2.2) * 140)
	s := scene{user: fmt.Sprintf("user_%03d", i+1), trace: fmt.Sprintf("%016x%016x", h.rng.Uint64(), h.rng.Uint64()), at: at, environment: "production", plan: "free"}
	if i%3 == 0 {
		s.plan = "pro"
	}
	if h.chance(0.08) {
		s.environment = "staging"
	}
	s.session = fmt.Sprintf("chat_%03d_%s", i+1, at.Format("0102_15"))
	return s
}

func (s *scene) event(name string, at time.Time) *event.Event {
	e := &event.Event{UUID: event.NewID(), ProjectID: project.DefaultID, Name: name, DistinctID: s.user, Timestamp: at, Source: event.SourceGateway, TraceID: s.trace, TraceName: s.name,
		SessionID: s.session, Flags: s.flags, Environment: s.environment, Surface: s.surface, TaskType: s.task, Properties: map[string]json.RawMessage{"plan": json.RawMessage(`"` + s.plan + `"`)}}
	if s.config != "" {
		e.Properties[agentConfigProperty] = json.RawMessage(`"` + s.config + `"`)
	}
	return e
}

// agentConfigProperty is what the page of agents breaks down by.
const agentConfigProperty = "agent_config"

// models are what the past calls, and how fast they answer: seconds to the
// first token, and tokens a second.
var models = map[string]struct {
	provider, answers string
	first, speed      float64
}{
	"gpt-4.1":           {"openai", "gpt-4.1-2025-04-14", 0.62, 85},
	"gpt-4.1-mini":      {"openai", "gpt-4.1-mini-2025-04-14", 0.41, 120},
	"gpt-4.1-nano":      {"openai", "gpt-4.1-nano-2025-04-14", 0.3, 170},
	"claude-sonnet-4-5": {"anthropic", "claude-sonnet-4-5-20250929", 0.95, 65},
}

// call makes one generation; length is in tokens.
func (h *history) call(s *scene, at time.Time, span, parent, model string, in, out float64) *event.Event {
	m := models[model]
	e := s.event(event.Generation, at)
	e.SpanID, e.ParentID, e.SpanName = span, parent, s.prompt
	e.Provider, e.ModelAsked, e.Model, e.Method, e.HTTPStatus, e.Stream = m.provider, model, m.answers, "POST", 200, event.Some(true)
	e.PromptName, e.PromptVersion = s.prompt, s.version
	e.PromptVersionID = "pv_" + s.prompt + "_" + s.version
	e.Operation, e.BaseURL, e.RequestURL = "chat", "https://api.openai.com/v1", "https://api.openai.com/v1/chat/completions"
	if m.provider == "anthropic" {
		e.Operation, e.BaseURL, e.RequestURL = "messages", "https://api.anthropic.com/v1", "https://api.anthropic.com/v1/messages"
	}
	input, output := math.Round(h.around(in)), math.Max(1, math.Round(h.around(out)))
	e.Usage.Input, e.Usage.Output = event.Some(int64(input)), event.Some(int64(output))
	if input > 1000 && h.chance(0.6) {
		e.Usage.CacheRead, e.Usage.CacheExclusive = event.Some(int64(input*(0.35+0.45*h.rng.Float64()))), event.Some(m.provider == "anthropic")
	}
	first := h.around(m.first * (1 + input/20000))
	e.TimeToFirstToken = event.Some(time.Duration(first*1e6) * time.Microsecond)
	e.Latency = event.Some(time.Duration((first+output/h.around(m.speed))*1e6) * time.Microsecond)
	e.StopReason, e.CompletionID = "stop", "chatcmpl-"+s.trace[:12]+span
	if m.provider == "anthropic" {
		e.StopReason, e.CompletionID = "end_turn", "msg_"+s.trace[:12]+span
	}
	e.ModelParameters = map[string]json.RawMessage{"temperature": json.RawMessage("0.3"), "max_tokens": json.RawMessage("1024")}
	question := h.pick("Where is my order 4417?", "The invoice of last month is wrong, please correct it.", "How do I change the address of our workspace?", "Can you summarise this thread for the team?", "My export fails with a timeout since this morning.")
	answer := h.pick("It left our warehouse yesterday and arrives on Thursday.", "I have corrected the invoice; the new one is in your inbox.", "Open Settings, then Workspace, and choose Change address.", "Three points were agreed: the date, the owner and the budget.", "Exports above 50 MB are cut into parts; I have started yours again.")
	if s.prompt == "support_answer" && s.version == "4" { // all at once
		answer += " " + h.pick("Open Settings, then Workspace, and choose Change address.", "Exports above 50 MB are cut into parts; I have started yours again.")
	}
	e.Content.Input = messages([2]string{"system", demoInstructions(s.prompt, s.version)}, [2]string{"user", question})
	e.Content.Output = messages([2]string{"assistant", answer})
	h.trouble(e)
	return e
}

// messages is PostHog's form of a conversation.
func messages(list ...[2]string) json.RawMessage {
	type message struct {
		Role    string `json:"role"`
		Content string `json:"content"`
	}
	out := make([]message, len(list))
	for i, m := range list {
		out[i] = message{m[0], m[1]}
	}
	b, _ := json.Marshal(out) // strings always marshal
	return b
}

// trouble lets a call fail: now and then, often while its provider is
// overloaded or its prompt is the worse one.
func (h *history) trouble(e *event.Event) {
	slow := 1.0
	fail := func(status int, kind, text string, outcome event.Status) {
		e.IsError, e.ErrorType, e.ErrorMessage, e.Status, e.HTTPStatus = true, kind, text, outcome, status
		e.Content.Output, e.Model, e.StopReason, e.CompletionID = nil, "", "", ""
		e.Usage, e.TimeToFirstToken = event.Usage{}, event.Opt[time.Duration]{}
		slow = 0.3
	}
	id := fmt.Sprintf("req_%012x", h.rng.Uint64()>>16)
	switch p := h.rng.Float64(); {
	case e.Provider == "anthropic" && within(e.Timestamp, h.over):
		if slow = 3.5; p < 0.45 {
			fail(529, "overloaded_error", "Overloaded ("+id+")", event.StatusError)
		}
	case e.PromptName == "support_answer" && e.PromptVersion == "4":
		if slow = 1.5; p < 0.21 {
			output := e.Content.Output
			fail(200, "validation_error", fmt.Sprintf("answer does not match the schema: citations[%d].url is missing (%s)", h.rng.IntN(5), id), event.StatusValidationFailed)
			e.Content.Output = output
			e.Usage.Input, e.Usage.Output = event.Some(int64(h.around(1500))), event.Some(int64(h.around(420)))
		}
	case p < 0.006:
		fail(429, "rate_limit_exceeded", fmt.Sprintf("Rate limit reached for requests per minute: limit 500, used 500. Please try again in %dms. (%s)", 100+h.rng.IntN(900), id), event.StatusError)
	case p < 0.009:
		fail(500, "server_error", "The server had an error while processing your request ("+id+")", event.StatusError)
	case p < 0.011:
		fail(0, event.ErrTypeTimeout, "the provider did not answer within 60s", event.StatusTimeout)
		e.Latency.Value = time.Minute
		slow = 1
	}
	e.Latency.Value = time.Duration(float64(e.Latency.Value) * slow).Truncate(time.Microsecond)
	if e.TimeToFirstToken.Known {
		e.TimeToFirstToken.Value = time.Duration(float64(e.TimeToFirstToken.Value) * slow).Truncate(time.Microsecond)
	}
}

// end adds the product's events of a trace: a finished task, a rating.
func (h *history) end(out *[]*event.Event, s *scene, at time.Time, good float64, failed bool) {
	if failed {
		good *= 0.25
	}
	done := h.chance(good)
	truth := map[bool]json.RawMessage{true: json.RawMessage("true"), false: json.RawMessage("false")}
	if h.chance(0.8) {
		e := s.event("llm_task_completed", at.Add(time.Duration(20+h.rng.IntN(200))*time.Second))
		e.SpanID, e.PromptName, e.PromptVersion, e.PromptVersionID = "", s.prompt, s.version, "pv_"+s.prompt+"_"+s.version
		e.Properties["task_completed"] = truth[done]
		retries := 0
		if !done || h.chance(0.1) {
			retries = 1 + h.rng.IntN(2)
		}
		e.Properties["retry_count"] = json.RawMessage(fmt.Sprint(retries))
		e.Properties["escalated_to_human"] = truth[!done && h.chance(0.5)]
		e.Properties["accepted_output"], e.Properties["edited_output"] = truth[done && h.chance(0.9)], truth[h.chance(0.18)]
		score := math.Min(1, math.Max(0, 0.45+0.45*good+0.08*h.rng.NormFloat64()))
		e.Properties["eval_name"], e.Properties["eval_score"], e.Properties["eval_passed"] = json.RawMessage(`"accuracy"`), json.RawMessage(fmt.Sprintf("%.2f", score)), truth[score > 0.7]
		*out = append(*out, e)
		if done && !h.seen[s.user] {
			h.seen[s.user] = true
			f := s.event(event.FirstValue, e.Timestamp)
			*out = append(*out, f)
		}
	}
	if h.chance(0.4) {
		// The rating names its trace only: the page finds the prompt by it.
		e := s.event("llm_output_rated", at.Add(time.Duration(5+h.rng.IntN(60))*time.Second))
		e.Properties["user_feedback"] = json.RawMessage(`"` + map[bool]string{true: "positive", false: "negative"}[h.chance(good)] + `"`)
		*out = append(*out, e)
	}
}

// single is a feature that makes one call.
func (h *history) single(out *[]*event.Event, at time.Time, prompt, version, surface, model, task string, in, answer float64) {
	s := h.scene(at)
	s.name, s.surface, s.task, s.prompt, s.version = prompt, surface, task, prompt, version
	good := 0.9
	if prompt == demoSummary {
		good = h.summary(&s)
	}
	e := h.call(&s, at, "a", "", model, in, answer)
	*out = append(*out, e)
	h.end(out, &s, at.Add(e.Latency.Value), good, e.IsError)
}

// summary is for a reader of threads: many people, seldom. Since the experiment
// began half of them have a version that serves them better.
func (h *history) summary(s *scene) (good float64) {
	s.user = fmt.Sprintf("reader_%03d", 1+h.rng.IntN(600))
	good = 0.74
	if s.at.Before(h.trial) {
		return good
	}
	v, err := h.style.Evaluate(demoFlag, flag.User{DistinctID: s.user})
	if err != nil {
		return good // a split of percentages always decides
	}
	if s.flags = map[string]string{demoFlag: v.String()}; v.Variant == "treatment" {
		s.version, good = "8", 0.95
	}
	return good
}

// support is a turn of the support assistant: it searches, and answers.
func (h *history) support(out *[]*event.Event, at time.Time) {
	s := h.scene(at)
	s.name, s.surface, s.task, s.prompt, s.version = "answer a question", "Conversation", "support_reply", "support_answer", "3"
	good := 0.82
	switch {
	case within(at, h.bad):
		s.version, good = "4", 0.42
	case at.After(h.bad[1]):
		s.version, good = "5", 0.89
	}
	model := "gpt-4.1"
	if at.After(h.cheap) {
		model = "gpt-4.1-mini"
	}
	next := at.Add(4 * time.Millisecond)
	found := s.event(event.Embedding, next)
	found.SpanID, found.ParentID, found.SpanName = "b", "a", "embed the question"
	found.Provider, found.ModelAsked, found.Model, found.Operation, found.HTTPStatus = "openai", "text-embedding-3-small", "text-embedding-3-small", "embeddings", 200
	found.Usage.Input, found.Latency = event.Some(int64(h.around(40))), h.seconds(0.09)
	found.Usage.Total = found.Usage.Input
	next = next.Add(found.Latency.Value)
	search := h.tool(&s, next, "c", "a", "search_docs", 0.18, 0.015)
	next = next.Add(search.Latency.Value)
	parts := []*event.Event{found, search}
	if h.chance(0.35) {
		order := h.tool(&s, next, "d", "a", "lookup_order", 0.3, 0.05)
		next = next.Add(order.Latency.Value)
		parts = append(parts, order)
	}
	answer := h.call(&s, next, "e", "a", model, 1500, 260)
	parts = append(parts, answer)
	next = next.Add(answer.Latency.Value)
	failed := answer.IsError
	if failed && h.chance(0.6) {
		again := h.call(&s, next, "f", "a", model, 1500, 260)
		next, failed = next.Add(again.Latency.Value), again.IsError
		parts = append(parts, again)
	}
	root := s.event(event.Trace, at)
	root.SpanID, root.SpanName, root.Latency, root.IsError = "a", s.name, event.Some(next.Sub(at)), failed
	*out = append(append(*out, root), parts...)
	h.end(out, &s, next, good, failed)
}

func (h *history) tool(s *scene, at time.Time, span, parent, name string, mean, fails float64) *event.Event {
	e := s.event(event.Span, at)
	e.SpanID, e.ParentID, e.SpanName, e.Operation, e.Latency = span, parent, name, "execute_tool", h.seconds(mean)
	e.Properties["$ai_span_type"] = json.RawMessage(`"tool"`)
	if h.chance(fails) {
		e.IsError, e.ErrorType, e.ErrorMessage = true, "tool_error", fmt.Sprintf("%s: upstream answered 503 after %d ms", name, 200+h.rng.IntN(4000))
	}
	return e
}

// agent is a playbook: it plans, uses tools, tries again, and writes.
func (h *history) agent(out *[]*event.Event, at time.Time) {
	s := h.scene(at)
	s.name, s.surface, s.task, s.prompt, s.version, s.config = "research playbook", "Playbook", "research", "agent_plan", "1", "planner-v1"
	good, flaky, rounds := 0.7, 0.13, 2+h.rng.IntN(4)
	if at.After(h.plan2) && flag.Hash("planner", s.user, "") < 0.5 {
		s.config, s.version, good, flaky = "planner-v2", "2", 0.85, 0.06
	}
	model := "claude-sonnet-4-5"
	next, n := at.Add(3*time.Millisecond), 0
	id := func() string { n++; return fmt.Sprintf("s%d", n) }
	var parts []*event.Event
	failed := false
	for round := range rounds {
		step := s.event(event.Span, next)
		step.SpanID, step.ParentID, step.SpanName, step.Operation = id(), "a", map[bool]string{true: "plan", false: "gather"}[round == 0], "invoke_agent"
		begin := next
		think := h.call(&s, next, id(), step.SpanID, model, 3200, 180)
		next = next.Add(think.Latency.Value)
		parts = append(parts, step, think)
		failed = think.IsError
		if failed {
			step.Latency, step.IsError = event.Some(next.Sub(begin)), true
			break
		}
		name := h.pick("web_search", "web_search", "read_page", "run_query", "write_file")
		try := 0
		for ; ; try++ {
			use := h.tool(&s, next, id(), step.SpanID, name, 0.9, flaky+map[bool]float64{true: 0.1}[name == "run_query"])
			next = next.Add(use.Latency.Value)
			parts = append(parts, use)
			if !use.IsError || try == 2 {
				break
			}
		}
		step.Latency = event.Some(next.Sub(begin))
		step.Properties["agent_step_name"], step.Properties["retry_count"] = json.RawMessage(strconv.Quote(step.SpanName)), json.RawMessage(strconv.Itoa(try))
	}
	if !failed {
		last := h.call(&s, next, id(), "a", model, 5200, 700)
		parts, next, failed = append(parts, last), next.Add(last.Latency.Value), last.IsError
	}
	root := s.event(event.Trace, at)
	root.SpanID, root.SpanName, root.Latency, root.IsError = "a", s.name, event.Some(next.Sub(at)), failed
	*out = append(append(*out, root), parts...)
	h.end(out, &s, next, good, failed)
}
