package mcp_test

import (
	"testing"

	"github.com/hedgerow/hedgerow/server/internal/project"
)

func TestPromptTools(t *testing.T) {
	f := newFixture(t)
	m, v := f.dial(f.member), f.dial(f.viewer)
	text := func(s string) []any { return []any{args{"content": s}} }

	out := m.must("save_prompt", args{"name": "support", "description": "answers tickets", "messages": text("Answer."), "model": "gpt-4.1-mini"})
	if at(out, "created") != true || at(out, "version", "number") != 1.0 || at(out, "version", "messages", 0, "role") != "system" {
		t.Errorf("made %v", out)
	}
	out = m.must("save_prompt", args{"name": "support", "messages": text("Answer {{n}} tickets."), "variables": []any{args{"name": "n", "type": "integer", "default": 1}}, "note": "counts"})
	if at(out, "created") != false || at(out, "added") != true || at(out, "version", "number") != 2.0 || at(out, "next") == nil {
		t.Errorf("saved %v", out)
	}
	if out = m.must("get_prompt", args{"name": "support"}); at(out, "version", "number") != 1.0 || at(out, "prompt", "labels", 0, "label") != "production" || at(out, "versions", 0, "number") != 2.0 {
		t.Errorf("read %v", out)
	}
	if out = v.must("render_prompt", args{"name": "support", "version": "2", "variables": args{"n": 4}}); at(out, "messages", 0, "content") != "Answer 4 tickets." {
		t.Errorf("rendered %v", out)
	}
	v.fails("render_prompt", args{"name": "support", "version": "2", "variables": args{"n": "four words"}}, `"n" is not of type integer`)
	v.fails("set_prompt_label", args{"name": "support", "label": "production", "version": "2"}, "scope write")
	if out = m.must("set_prompt_label", args{"name": "support", "label": "production", "version": "latest", "reason": "the user asked"}); at(out, "from") != 1.0 || at(out, "to") != 2.0 {
		t.Errorf("moved %v", out)
	}
	m.fails("set_prompt_label", args{"name": "support", "label": "production", "version": "7"}, "no version")
	if out = v.must("list_prompts", args{}); at(out, "prompts", 0, "name") != "support" || at(out, "prompts", 0, "labels", 0, "version") != 2.0 {
		t.Errorf("listed %v", out)
	}
	f.dial(f.other).fails("get_prompt", args{"name": "support"}, "not found")
	m.fails("delete_prompt", args{"name": "support", "confirm": "yes"}, "not confirmed")
	m.must("delete_prompt", args{"name": "support", "confirm": "support"})
	m.fails("get_prompt", args{"name": "support"}, "not found")
	if log := f.registry.AuditLog(project.DefaultID, 1); len(log) != 1 || log[0].Action != "prompt.delete" {
		t.Errorf("audit log %v", log)
	}
}
