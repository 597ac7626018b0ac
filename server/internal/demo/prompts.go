package demo

import (
	"cmp"
	"context"
	"strconv"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/prompt"
	"github.com/hedgerow/hedgerow/server/internal/services"
)

// demoPrompts are the prompts that the demo's past names, with what is noted of
// each version.
var demoPrompts = []struct {
	name, description string
	notes             []string
	production        string // the version that has the label; "" is the newest
}{
	{"support_answer", "Answers a customer's ticket", []string{"the first one", "cites its sources", "briefer", "tries to answer everything at once", "back to one question at a time"}, ""},
	{"agent_plan", "Plans the steps of a piece of research", []string{"the first planner", "fewer, larger steps"}, ""},
	{"summarise", "Sums a thread up for whoever comes late", []string{"the first one", "shorter", "names who said what", "no quotes", "in the reader's language", "three points at most", "one sentence each", "says what was decided first"}, "7"},
}

// demoInstructions is the text of a version, as the demo's past sends it.
func demoInstructions(name, version string) string {
	return "You are the assistant of Acme. Answer briefly and cite what you used. (" + name + ", version " + version + ")"
}

// keepDemoPrompts puts the demo's prompts into the registry, unless they are
// there.
func keepDemoPrompts(ctx context.Context, s *services.Services) error {
	const actor = "local"
	for _, p := range demoPrompts {
		if _, ok := s.Prompts.Prompt(project.DefaultID, p.name); ok {
			continue
		}
		for i, note := range p.notes {
			version := strconv.Itoa(i + 1)
			d := prompt.Draft{Messages: []prompt.Message{{Role: "system", Content: demoInstructions(p.name, version)}, {Role: "user", Content: "{{question}}"}},
				Params: map[string]any{"temperature": 0.3, "max_tokens": 1024}, Note: note}
			var err error
			if i == 0 {
				_, err = s.Prompts.Create(ctx, actor, project.DefaultID, p.name, p.description, d)
			} else {
				_, _, err = s.Prompts.AddVersion(ctx, actor, project.DefaultID, p.name, d)
			}
			if err != nil && event.AsError(err).Code != event.CodeConflict {
				return err
			}
		}
		if err := s.Prompts.SetLabel(ctx, actor, project.DefaultID, p.name, prompt.Production, cmp.Or(p.production, prompt.Latest), "as it has been in use"); err != nil {
			return err
		}
	}
	return nil
}
