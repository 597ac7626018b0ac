package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/flag"
	"github.com/hedgerow/hedgerow/server/internal/dataset"
	"github.com/hedgerow/hedgerow/server/internal/eval"
	"github.com/hedgerow/hedgerow/server/internal/experiment"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/prompt"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/services"
)

// What the demo rolls out, and to whom.
const (
	demoSummary = "summarise"
	demoFlag    = "summary-style"
	demoSet     = "tickets that went wrong"
)

func demoSplit() *flag.Definition {
	return prompt.Split(demoFlag, 100, map[string]float64{prompt.Control: 50, "treatment": 50})
}

// demoTrial is when the demo's experiments began.
func demoTrial(now time.Time) time.Time { return now.Add(-9 * 24 * time.Hour).Truncate(time.Hour) }

// demoChecks look at the answers of the past and of what comes in.
var demoChecks = []eval.Check{
	{Name: "brief", Kind: eval.KindLength, MaxChars: 80, Filter: eval.Filter{Prompts: []string{"support_answer"}}, Enabled: true},
	{Name: "promises no day", Kind: eval.KindForbidden, Patterns: []string{`(?i)\bon (mon|tues|wednes|thurs|fri|satur|sun)day\b`}, Filter: eval.Filter{Prompts: []string{"support_answer"}}, Enabled: true},
}

// keepDemoLoop makes the demo's checks, its rollout with an experiment, one that
// compares versions without a flag, and a dataset, unless they are there.
func keepDemoLoop(ctx context.Context, s *services.Services, now time.Time) error {
	const actor = "local"
	for _, c := range demoChecks {
		if c.ProjectID = project.DefaultID; absent(s.Checks.Check(c.ProjectID, c.Name)) {
			if _, err := s.Checks.Create(ctx, c); err != nil {
				return err
			}
		}
	}
	if _, ok := s.Prompts.Rollout(project.DefaultID, demoSummary); !ok {
		ro := prompt.Rollout{Prompt: demoSummary, Flag: demoFlag, Own: demoSplit(), Variants: map[string]prompt.Variant{prompt.Control: {Version: "7"}, "treatment": {Version: "8"}}}
		if _, err := s.Prompts.SetRollout(ctx, actor, project.DefaultID, ro); err != nil {
			return err
		}
	}
	if len(s.Experiments.Experiments(project.DefaultID)) == 0 {
		for _, spec := range demoExperiments() {
			if _, err := s.Experiments.Create(ctx, actor, experiment.Definition{Project: project.DefaultID, Spec: spec, Started: demoTrial(now)}); err != nil {
				return err
			}
		}
	}
	if !absent(s.Datasets.Set(project.DefaultID, demoSet)) {
		return nil
	}
	set, err := s.Datasets.Create(ctx, project.DefaultID, demoSet, "questions that a version of the past failed")
	if err != nil {
		return err
	}
	_, err = s.Datasets.Add(ctx, project.DefaultID, set.ID, demoExamples()...)
	return err
}

func absent[T any](_ T, err error) bool {
	return err != nil && event.AsError(err).Code == event.CodeNotFound
}

// demoExperiments are one that has found nothing yet, and one that has; the last is
// on top of the list.
func demoExperiments() []experiment.Spec {
	guard := func(m query.Measure, limit float64, relative bool) experiment.Guardrail {
		return experiment.Guardrail{Metric: experiment.Metric{Metric: query.Metric{Measure: m}}, Limit: limit, Relative: relative}
	}
	variants := func(control, treatment string) []experiment.Variant {
		return []experiment.Variant{{Key: control, Share: 50}, {Key: treatment, Share: 50}}
	}
	done := experiment.Metric{Metric: query.Metric{Measure: query.CompletionRate}}
	return []experiment.Spec{
		{Name: "Fewer, larger steps", Description: "A plan of fewer steps comes to its end more often.", Prompt: "agent_plan", Variants: variants("1", "2"), Primary: done,
			Guardrails: []experiment.Guardrail{guard(query.CostPerTask, 0.5, false)}, Segments: []query.GroupBy{query.ByProperty("plan")}},
		{Name: "Decisions first", Description: "Who comes late wants to know what was decided: fewer ask again.", Flag: demoFlag, Prompt: demoSummary, Variants: variants(prompt.Control, "treatment"), Primary: done, Detect: 0.1, Planned: 400,
			Guardrails: []experiment.Guardrail{guard(query.EscalationRate, 0.05, true), guard(query.LatencyP95, 30_000, false), guard(query.CostPerTask, 0.05, false)},
			Segments:   []query.GroupBy{query.ByProperty("plan"), query.BySurface}, StopOnBreach: true},
	}
}

// demoExamples are questions as customers ask them.
func demoExamples() []dataset.Example {
	var out []dataset.Example
	for i, q := range []string{"Where is my order 4417?", "The invoice of last month is wrong, please correct it.", "How do I change the address of our workspace?", "My export fails with a timeout since this morning.",
		"Can I move my plan to another card?", "Do you ship to Norway?", "How many seats do we have?", "Please delete my account."} {
		question, _ := json.Marshal(q) // a string always marshals
		out = append(out, dataset.Example{ID: fmt.Sprintf("demo_%02d", i+1), Messages: []eval.Message{{Role: "user", Content: question}}, Variables: map[string]any{"question": q},
			Provider: "openai", Model: "gpt-4.1-mini", PromptName: "support_answer"})
	}
	return out
}

// judged are the judgments of the checks on events of the past.
func judged(ctx context.Context, s *services.Services, checks []eval.Check, events []*event.Event) []*event.Event {
	var out []*event.Event
	for _, e := range events {
		for i := range checks {
			if c := &checks[i]; c.Wants(e) {
				if o, err := s.Runner.Run(ctx, c, e); err == nil && o.OK {
					out = append(out, o.Result.Event(e, e.Timestamp.Add(e.Latency.Or(0))))
				}
			}
		}
	}
	return out
}

// runDemoSet runs the demo's dataset with two versions of a prompt, unless it was
// run before. The simulated provider takes any key.
func runDemoSet(ctx context.Context, s *services.Services) error {
	set, err := s.Datasets.Set(project.DefaultID, demoSet)
	if err != nil || len(s.Datasets.Runs(project.DefaultID, set.ID)) > 0 {
		return err
	}
	if err := s.Registry.SetProviderKey(ctx, project.DefaultID, "openai", "sk-simulated"); err != nil {
		return err
	}
	for _, version := range []string{"3", "5"} {
		if _, err := s.Runs.Start(ctx, project.DefaultID, set.ID, dataset.Plan{Prompt: "support_answer", Version: version, Provider: "openai", Model: "gpt-4.1-mini", Checks: []string{demoChecks[1].Name}, BudgetUSD: 1}); err != nil {
			return err
		}
	}
	return nil
}
