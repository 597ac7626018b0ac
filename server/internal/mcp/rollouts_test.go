package mcp_test

import "testing"

func TestRolloutTools(t *testing.T) {
	f := newFixture(t)
	m, v := f.dial(f.member), f.dial(f.viewer)
	m.must("save_prompt", args{"name": "support", "messages": []any{args{"content": "Be brief."}}, "model": "gpt-5-mini"})
	m.must("save_prompt", args{"name": "support", "messages": []any{args{"content": "Be warm."}}, "model": "gpt-5-mini"})
	variants := []any{args{"variant": "control", "version": "1", "share": 0}, args{"variant": "treatment", "version": "2", "model": "gpt-5", "share": 100}}
	out := m.must("set_rollout", args{"prompt": "support", "flag": "support-prompt", "percent": 100, "arms": variants})
	if at(out, "rollout", "arms", 1, "model") != "gpt-5" || at(out, "rollout", "percent") != 100.0 || at(out, "rollout", "arms", 1, "share") != 100.0 {
		t.Errorf("%v", out)
	}
	if out = v.must("list_rollouts", args{}); at(out, "rollouts", 0, "flag") != "support-prompt" {
		t.Errorf("%v", out)
	}
	if out = m.must("resolve_prompt", args{"prompt": "support", "distinct_id": "ann"}); at(out, "version") != 2.0 || at(out, "variant") != "treatment" || at(out, "model") != "gpt-5" || at(out, "reason") != "own" {
		t.Errorf("%v", out)
	}
	out = m.must("stop_rollout", args{"prompt": "support", "reason": "slow"})
	if at(out, "rollout", "stopped") != true || at(out, "rollout", "reason") != "slow" {
		t.Errorf("%v", out)
	}
	if out = m.must("resolve_prompt", args{"prompt": "support", "distinct_id": "ann"}); at(out, "version") != 1.0 || at(out, "reason") != "stopped" {
		t.Errorf("%v", out)
	}
}
