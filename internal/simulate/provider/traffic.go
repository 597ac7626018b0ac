package provider

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// Traffic simulates a small team's product: about forty people, seven features,
// each with its own prompts, models and patterns. Every call goes through hedgerow's
// gateway to the simulated providers, with the attribution headers that an
// application would set. It is for the demo only.
//
// Failures are requested by the X-Sim header, so that they are consistent:
// version 8 of the prompt "compose-draft" is worse than version 7.
type Traffic struct {
	BaseURL string       // hedgerow's address: http://127.0.0.1:4100
	Key     string       // hedgerow API key, sent as X-Hedgerow-Key; "" sends none
	Rate    float64      // calls per second on average. Defaults to 2
	Seed    uint64       // determines the sequence of calls
	Client  *http.Client // Defaults to one without a timeout
	Logger  *slog.Logger // Defaults to none

	sent, failed atomic.Int64
}

// Counts returns how many calls have been made and how many of them failed or
// were aborted.
func (t *Traffic) Counts() (sent, failed int64) { return t.sent.Load(), t.failed.Load() }

// callsPerVisit is the average over the features, weighted by their share.
const callsPerVisit = 2.6

// Run generates traffic until ctx ends, waits for calls in progress, and
// returns nil.
func (t *Traffic) Run(ctx context.Context) error {
	client, log, rate := t.Client, t.Logger, t.Rate
	if client == nil {
		tr := http.DefaultTransport.(*http.Transport).Clone()
		tr.Proxy, tr.MaxIdleConnsPerHost = nil, 64
		client = &http.Client{Transport: tr}
		defer tr.CloseIdleConnections()
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if rate <= 0 {
		rate = 2
	}
	rng := rand.New(rand.NewPCG(t.Seed, 0x4ed6e))
	people := makePeople(rng)
	places := make(chan struct{}, 64) // concurrent visits
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		pause := time.Duration(rng.ExpFloat64() * callsPerVisit / rate * float64(time.Second))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(min(pause, 30*time.Second)):
		}
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		v := &visit{t: t, client: client, log: log, rng: rand.New(rand.NewPCG(rng.Uint64(), rng.Uint64()))}
		v.person = people[min(rng.IntN(len(people)), rng.IntN(len(people)))] // some are more active than others
		v.trace, v.session = v.id(), v.person.session(rng)
		feature := pickFeature(rng)
		wg.Go(func() {
			defer func() { <-places }()
			feature(ctx, v)
		})
	}
}

type person struct {
	id, plan, variant string
	current           string // conversation
	left              int    // visits until they start another one
}

// session returns the person's conversation, which lasts for a few visits.
func (p *person) session(rng *rand.Rand) string {
	if p.left == 0 {
		p.current, p.left = newID(rng), 2+rng.IntN(5)
	}
	p.left--
	return p.current
}

func makePeople(rng *rand.Rand) []*person {
	names := []string{"ada", "alan", "barbara", "claude", "donald", "dorothy", "edsger", "frances", "grace", "hedy", "ivan", "jean", "john", "karen", "katherine", "ken", "leslie", "lynn", "margaret", "mary",
		"niklaus", "ole", "peter", "radia", "rob", "robin", "sophie", "stephanie", "tim", "tony", "ursula", "vera", "vint", "whitfield", "xenia", "yukihiro", "zora", "shafi", "silvio", "adele"}
	people := make([]*person, len(names))
	for i, n := range names {
		people[i] = &person{id: "user_" + n, plan: []string{"free", "free", "team", "business"}[rng.IntN(4)], variant: []string{"control", "test"}[rng.IntN(2)]}
	}
	return people
}

func newID(rng *rand.Rand) string {
	var b [16]byte
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	id, _ := uuid.FromBytes(b[:]) // sixteen bytes are always one
	return id.String()
}

// pickFeature chooses a feature by its share of use.
func pickFeature(rng *rand.Rand) func(context.Context, *visit) {
	switch n := rng.IntN(100); {
	case n < 34:
		return conversation
	case n < 54:
		return compose
	case n < 66:
		return guide
	case n < 78:
		return playbook
	case n < 87:
		return orchestrate
	case n < 94:
		return conduct
	}
	return nightlyTest
}

// visit is one person using one feature: one trace.
type visit struct {
	t              *Traffic
	client         *http.Client
	log            *slog.Logger
	rng            *rand.Rand
	person         *person
	trace, session string
}

func (v *visit) id() string { return newID(v.rng) }

func (v *visit) one(of ...string) string { return of[v.rng.IntN(len(of))] }

func (v *visit) chance(p float64) bool { return v.rng.Float64() < p }

// think is the person's pause between two calls.
func (v *visit) think(ctx context.Context, most time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(time.Duration(v.rng.Int64N(int64(most)))):
		return true
	}
}

// step is one call of a visit.
type step struct {
	path    string
	body    map[string]any
	surface string
	prompt  string // name@version
	task    string
	tags    string
	span    string // name of the step within the trace
	sim     string
	hangUp  bool
}

// trouble is an occasional failure of any call.
func (v *visit) trouble() string {
	switch n := v.rng.IntN(1000); {
	case n < 12:
		return "rate_limit"
	case n < 20:
		return "server_error"
	case n < 24:
		return "overloaded"
	case n < 26:
		return "quota"
	case n < 30:
		return "mid_error; after=6"
	case n < 42:
		return "refusal"
	case n < 52:
		return "length"
	}
	return ""
}

// reply is the result of a step.
type reply struct {
	ok    bool
	text  string
	tools []calledTool
}

type calledTool struct{ id, name, args string }

// do makes one call as an application would, and reads the response to its end,
// or disconnects early.
func (v *visit) do(ctx context.Context, s step) reply {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if s.sim == "" {
		s.sim = v.trouble()
	}
	method, body := http.MethodPost, io.Reader(nil)
	if s.body == nil {
		method = http.MethodGet
	} else {
		if s.span != "" && !strings.HasPrefix(s.path, "/anthropic") {
			s.body["trace"] = map[string]any{"trace_name": s.surface + " " + s.task, "span_name": s.span}
		}
		b, err := json.Marshal(s.body)
		if err != nil {
			panic(err) // built here from plain values
		}
		body = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(v.t.BaseURL, "/")+s.path, body)
	if err != nil {
		v.log.Warn("simulated traffic: bad base URL", "err", err)
		return reply{}
	}
	h := r.Header
	set := func(name, value string) {
		if value != "" {
			h.Set(name, value)
		}
	}
	set("Content-Type", "application/json")
	if strings.HasPrefix(s.path, "/anthropic") {
		set("X-Api-Key", "sk-ant-simulated")
		set("Anthropic-Version", "2023-06-01")
	} else {
		set("Authorization", "Bearer sk-simulated")
	}
	set("X-Hedgerow-Key", v.t.Key)
	set("X-PostHog-Distinct-Id", v.person.id)
	set("X-PostHog-Trace-Id", v.trace)
	set("X-PostHog-Session-Id", v.session)
	set("X-PostHog-Property-Plan", v.person.plan)
	set("X-PostHog-Flag-New-Composer", v.person.variant)
	set("X-Hedgerow-Surface", s.surface)
	set("X-Hedgerow-Prompt", s.prompt)
	set("X-Hedgerow-Task-Type", s.task)
	set("X-Hedgerow-Tags", s.tags)
	set("X-Sim", s.sim)

	v.t.sent.Add(1)
	resp, err := v.client.Do(r)
	if err != nil {
		v.t.failed.Add(1)
		if ctx.Err() == nil {
			v.log.Debug("simulated traffic: call failed", "err", err)
		}
		return reply{}
	}
	defer resp.Body.Close()
	out, err := readReply(resp, s.hangUp)
	switch {
	case err != nil, resp.StatusCode >= 400:
		v.t.failed.Add(1)
		return reply{}
	case s.hangUp:
		v.t.failed.Add(1)
	}
	out.ok = !s.hangUp
	return out
}

var errStream = errors.New("error in the stream")

// readReply reads a response in any of the three formats, streamed or not.
func readReply(resp *http.Response, hangUp bool) (reply, error) {
	var out reply
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			return out, err
		}
		var whole struct {
			Choices []struct {
				Message struct {
					Content   string
					ToolCalls []struct {
						ID       string
						Function struct{ Name, Arguments string }
					} `json:"tool_calls"`
				}
			}
			Content []struct {
				Type, Text, ID, Name string
				Input                json.RawMessage
			}
			Output []struct {
				Type, Name, Arguments string
				CallID                string `json:"call_id"`
				Content               []struct{ Text string }
			}
		}
		_ = json.Unmarshal(b, &whole) // embeddings and errors have no such members
		for _, c := range whole.Choices {
			out.text += c.Message.Content
			for _, t := range c.Message.ToolCalls {
				out.tools = append(out.tools, calledTool{t.ID, t.Function.Name, t.Function.Arguments})
			}
		}
		for _, c := range whole.Content {
			out.text += c.Text
			if c.Type == "tool_use" {
				out.tools = append(out.tools, calledTool{c.ID, c.Name, string(c.Input)})
			}
		}
		for _, o := range whole.Output {
			for _, c := range o.Content {
				out.text += c.Text
			}
			if o.Type == "function_call" {
				out.tools = append(out.tools, calledTool{o.CallID, o.Name, o.Arguments})
			}
		}
		return out, nil
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 4<<20)
	for n := 0; lines.Scan(); {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		if n++; hangUp && n > 8 {
			return out, nil
		}
		var e struct {
			Type    string
			Error   json.RawMessage
			Choices []struct{ Delta struct{ Content string } }
			Delta   json.RawMessage
		}
		if json.Unmarshal([]byte(data), &e) != nil {
			continue // [DONE]
		}
		if e.Type == "error" || len(e.Error) > 0 && string(e.Error) != "null" {
			return out, errStream
		}
		for _, c := range e.Choices {
			out.text += c.Delta.Content
		}
		var text string
		var block struct{ Text string }
		if json.Unmarshal(e.Delta, &text) == nil && e.Type == "response.output_text.delta" {
			out.text += text
		} else if json.Unmarshal(e.Delta, &block) == nil {
			out.text += block.Text
		}
	}
	return out, lines.Err()
}

func system(text string) map[string]any { return map[string]any{"role": "system", "content": text} }
func user(text string) map[string]any   { return map[string]any{"role": "user", "content": text} }
func said(text string) map[string]any   { return map[string]any{"role": "assistant", "content": text} }

const basePrompt = "You are the assistant of a small planning tool. Answer briefly and kindly, name the next step, and never invent figures. "

var searchNotes = map[string]any{"type": "function", "function": map[string]any{
	"name": "search_notes", "description": "Search the team's notes", "parameters": map[string]any{
		"type": "object", "properties": map[string]any{"query": map[string]any{"type": "string"}, "limit": map[string]any{"type": "integer"}}, "required": []string{"query"},
	},
}}

var bookReview = map[string]any{"type": "function", "function": map[string]any{
	"name": "book_review", "description": "Put a review into the calendar", "parameters": map[string]any{
		"type": "object", "properties": map[string]any{"topic": map[string]any{"type": "string"}, "day": map[string]any{"type": "string", "enum": []string{"Monday", "Wednesday", "Friday"}}}, "required": []string{"topic", "day"},
	},
}}

func (v *visit) question() string {
	return v.one(
		"What is left to do before the release on Friday?",
		"Can you summarise the customer interviews of this week?",
		"Which hedge grows fastest on heavy soil?",
		"How should I split this task between two people?",
		"Please explain the difference between the two drafts.",
		"Who asked for the export feature, and why?",
		"Suggest a title for the autumn newsletter.",
		"What did we decide about the pricing page?",
		"Give me three ideas for the team's next workshop.",
	)
}

// conversation: retrieval, then some turns of streamed chat, sometimes with a
// tool.
func conversation(ctx context.Context, v *visit) {
	const surface = "Conversation"
	prompt := v.one("assistant@3", "assistant@3", "assistant@4")
	q := v.question()
	v.do(ctx, step{path: "/openai/v1/embeddings", surface: surface, task: "retrieval", span: "embed question",
		body: map[string]any{"model": "text-embedding-3-small", "input": q, "encoding_format": "base64"}})
	messages := []any{system(basePrompt + "Use the notes that you are given."), user(q)}
	model := v.one("gpt-4.1-mini", "gpt-4.1-mini", "gpt-4o")
	for turn := range 1 + v.rng.IntN(3) {
		if turn > 0 && !v.think(ctx, 8*time.Second) {
			return
		}
		body := map[string]any{"model": model, "messages": messages, "stream": true, "temperature": 0.3}
		if v.chance(0.25) {
			body["stream"], body["tools"] = false, []any{searchNotes}
		}
		out := v.do(ctx, step{path: "/openai/v1/chat/completions", body: body, surface: surface, prompt: prompt, task: "answer", span: fmt.Sprintf("turn %d", turn+1), hangUp: v.chance(0.03)})
		if !out.ok {
			return
		}
		if len(out.tools) > 0 {
			messages = append(messages, map[string]any{"role": "assistant", "tool_calls": toolCalls(out.tools)})
			for _, t := range out.tools {
				messages = append(messages, map[string]any{"role": "tool", "tool_call_id": t.id, "content": "Two notes were found: the kick-off of Monday and the review of last week."})
			}
			out = v.do(ctx, step{path: "/openai/v1/chat/completions", surface: surface, prompt: prompt, task: "answer", span: "answer with notes",
				body: map[string]any{"model": model, "messages": messages, "tools": []any{searchNotes}, "stream": true}})
			if !out.ok {
				return
			}
		}
		messages = append(messages, said(out.text), user(v.question()))
	}
}

func toolCalls(tools []calledTool) []any {
	var out []any
	for _, t := range tools {
		out = append(out, map[string]any{"id": t.id, "type": "function", "function": map[string]any{"name": t.name, "arguments": t.args}})
	}
	return out
}

// compose: a draft by Claude, streamed. Version 8 of its prompt is worse: it
// reaches the token limit and is rejected or aborted more often.
func compose(ctx context.Context, v *visit) {
	s := step{path: "/anthropic/v1/messages", surface: "Compose", prompt: "compose-draft@7", task: "draft", span: "draft"}
	instructions := basePrompt + "Write a first draft of at most two hundred words."
	if v.person.variant == "test" {
		s.prompt = "compose-draft@8"
		instructions = basePrompt + "Write a first draft. Consider every aspect in full depth, restate the task, list all alternatives, and then write the draft itself at length."
		switch n := v.rng.IntN(100); {
		case n < 14:
			s.sim = "length"
		case n < 21:
			s.sim = "refusal"
		case n < 26:
			s.sim = "mid_error; after=20"
		case n < 36:
			s.hangUp = true
		}
	}
	s.body = map[string]any{"model": "claude-sonnet-4-5", "max_tokens": 800, "stream": true, "system": instructions,
		"messages": []any{user("Draft: " + v.question())}, "metadata": map[string]any{"user_id": v.person.id}}
	if v.chance(0.2) {
		s.body["thinking"] = map[string]any{"type": "enabled", "budget_tokens": 1024}
		s.body["max_tokens"] = 2048
	}
	out := v.do(ctx, s)
	if out.ok && v.chance(0.5) && v.think(ctx, 6*time.Second) {
		v.do(ctx, step{path: "/anthropic/v1/messages", surface: "Compose", prompt: "compose-shorten@2", task: "rewrite", span: "shorten",
			body: map[string]any{"model": "claude-haiku-4-5", "max_tokens": 400, "messages": []any{user("Shorten this: " + out.text)}}})
	}
}

// guide: help in the product, with a long cached handbook.
func guide(ctx context.Context, v *visit) {
	handbook := []any{map[string]any{"type": "text", "text": strings.Repeat(basePrompt+strings.Join(answers, " ")+" ", 5), "cache_control": map[string]any{"type": "ephemeral"}}}
	body := map[string]any{"model": "claude-haiku-4-5", "max_tokens": 500, "system": handbook, "messages": []any{user(v.question())}}
	if v.chance(0.1) {
		v.do(ctx, step{path: "/anthropic/v1/messages/count_tokens", surface: "Guide", task: "count", body: map[string]any{"model": body["model"], "system": handbook, "messages": body["messages"]}})
	}
	body["stream"] = true
	v.do(ctx, step{path: "/anthropic/v1/messages", surface: "Guide", prompt: "guide@12", task: "help", span: "answer", body: body, hangUp: v.chance(0.04)})
}

// playbook: a plan by a reasoning model, then the steps of the plan.
func playbook(ctx context.Context, v *visit) {
	const surface = "Playbook"
	plan := v.do(ctx, step{path: "/openai/v1/responses", surface: surface, prompt: "playbook-plan@5", task: "plan", span: "plan",
		body: map[string]any{"model": "o4-mini", "input": "Plan the work for: " + v.question(), "reasoning": map[string]any{"effort": "low", "summary": "auto"}, "stream": v.chance(0.5)}})
	if !plan.ok {
		return
	}
	for i := range 1 + v.rng.IntN(3) {
		if !v.think(ctx, 2*time.Second) {
			return
		}
		out := v.do(ctx, step{path: "/openai/v1/chat/completions", surface: surface, prompt: "playbook-step@5", task: "step", span: fmt.Sprintf("step %d", i+1),
			body: map[string]any{"model": v.one("gpt-4.1-mini", "gpt-4o"), "messages": []any{system(basePrompt), user("Do the next step of this plan: " + plan.text)}, "max_completion_tokens": 300}})
		if !out.ok {
			return
		}
	}
}

// orchestrate: an agent that calls tools until it is done.
func orchestrate(ctx context.Context, v *visit) {
	messages := []any{system(basePrompt + "Use the tools."), user(v.question())}
	for i := range 4 {
		out := v.do(ctx, step{path: "/openai/v1/chat/completions", surface: "Orchestrate", prompt: "agent@2", task: "agent", tags: "agent", span: fmt.Sprintf("loop %d", i+1),
			body: map[string]any{"model": "gpt-4o", "messages": messages, "tools": []any{searchNotes, bookReview}, "parallel_tool_calls": false}})
		if !out.ok || len(out.tools) == 0 {
			return
		}
		messages = append(messages, map[string]any{"role": "assistant", "tool_calls": toolCalls(out.tools)})
		for _, t := range out.tools {
			messages = append(messages, map[string]any{"role": "tool", "tool_call_id": t.id, "content": "done"})
		}
		if v.chance(0.5) {
			messages = append(messages, user("Go on, please."))
		}
		if !v.think(ctx, time.Second) {
			return
		}
	}
}

// conduct: the same question to several models by OpenRouter.
func conduct(ctx context.Context, v *visit) {
	q := v.question()
	for range 1 + v.rng.IntN(2) {
		v.do(ctx, step{path: "/openrouter/api/v1/chat/completions", surface: "Conduct", prompt: "conduct@1", task: "compare", span: "ask",
			body: map[string]any{"model": v.one("anthropic/claude-haiku-4.5", "google/gemini-2.5-flash", "meta-llama/llama-3.3-70b-instruct", "deepseek/deepseek-r1", "openai/gpt-4.1-mini"),
				"messages": []any{system(basePrompt), user(q)}, "stream": v.chance(0.6), "user": v.person.id}})
	}
}

// nightlyTest: an evaluation run that requests JSON.
func nightlyTest(ctx context.Context, v *visit) {
	v.do(ctx, step{path: "/openai/v1/models", surface: "Test", task: "evaluation", tags: "nightly"})
	for range 2 {
		v.do(ctx, step{path: "/openai/v1/chat/completions", surface: "Test", prompt: v.one("judge@1", "judge@2"), task: "evaluation", tags: "nightly,evaluation", span: "judge",
			body: map[string]any{"model": "gpt-4o-mini", "temperature": 0, "messages": []any{system("Judge the answer."), user(v.question())},
				"response_format": map[string]any{"type": "json_schema", "json_schema": map[string]any{"name": "verdict", "strict": true, "schema": map[string]any{
					"type": "object", "properties": map[string]any{"verdict": map[string]any{"type": "string", "enum": []string{"good", "bad"}}, "score": map[string]any{"type": "number"}}}}}}})
	}
}
