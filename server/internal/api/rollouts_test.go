package api_test

import (
	"strings"
	"testing"
)

func TestRollouts(t *testing.T) {
	f := newFixture(t)
	want := func(key, method, target string, body any, status int, has ...string) {
		t.Helper()
		a := f.ask(key, method, target, body)
		if a.status != status {
			t.Errorf("%s %s: %d %s, want %d", method, target, a.status, a.raw, status)
		}
		for _, s := range has {
			if !strings.Contains(a.raw, s) {
				t.Errorf("%s %s has no %s: %s", method, target, s, a.raw)
			}
		}
	}
	type object = map[string]any
	text := func(s string) []any { return []any{object{"role": "system", "content": s}} }
	want(f.member, "POST", "/api/v1/prompts", object{"name": "support", "messages": text("Be brief."), "model": "gpt-5-mini"}, 200)
	want(f.member, "POST", "/api/v1/prompts/support/versions", object{"messages": text("Be warm with {{name}}.")}, 200)

	want(f.viewer, "GET", "/api/v1/rollouts", nil, 200, `{"rollouts":[]}`)
	want(f.viewer, "GET", "/api/v1/prompts/support/rollout", nil, 404, "PUT /api/v1/prompts")
	variants := object{"control": object{"version": "1"}, "treatment": object{"version": "2", "model": "gpt-5"}}
	set := object{"flag": "support-prompt", "arms": variants, "percent": 100, "shares": object{"control": 0, "treatment": 100}}
	want(f.viewer, "PUT", "/api/v1/prompts/support/rollout", set, 403)
	want(f.other, "PUT", "/api/v1/prompts/support/rollout", set, 404)
	want(f.member, "PUT", "/api/v1/prompts/support/rollout", object{"flag": "support-prompt", "arms": variants, "percent": 5}, 400, "both percent and shares")
	want(f.member, "PUT", "/api/v1/prompts/support/rollout", object{"flag": "support-prompt", "arms": object{"treatment": object{"version": "7"}}}, 404)
	want(f.member, "PUT", "/api/v1/prompts/support/rollout", set, 200, `"percent":100`, `"treatment":100`, `"by":"key k_`, `"stopped":false`)
	want(f.viewer, "GET", "/api/v1/rollouts", nil, 200, `"flag":"support-prompt"`)

	want(f.viewer, "POST", "/api/v1/prompts/support/resolve", object{"distinct_id": "ann", "variables": object{"name": "Ann"}}, 200,
		`"number":2`, `"variant":"treatment"`, `"reason":"own"`, `"model":"gpt-5"`, `"content":"Be warm with Ann."`, `"$feature/support-prompt":"treatment"`, `"posthog_flag":"support-prompt"`)
	want(f.viewer, "POST", "/api/v1/prompts/support/resolve", object{"distinct_id": "ann"}, 200, `"number":2`, `"properties":{`)
	want(f.viewer, "POST", "/api/v1/prompts/support/resolve", object{"distinct_id": "ann", "variables": object{}}, 400, "name")
	want(f.viewer, "POST", "/api/v1/prompts/support/resolve", object{}, 200, `"number":1`, `"reason":"no_user"`, `"$feature/support-prompt":false`)
	want(f.viewer, "POST", "/api/v1/prompts/support/resolve", object{"distinct_id": "ann", "version": "1"}, 200, `"reason":"pinned"`, `"content":"Be brief."`)
	want(f.member, "POST", "/api/v1/prompts/nothing/resolve", object{}, 404)

	want(f.viewer, "POST", "/api/v1/prompts/support/rollout/stop", object{}, 403)
	want(f.member, "POST", "/api/v1/prompts/support/rollout/stop", object{"reason": "too slow"}, 200, `"stopped":true`, `"reason":"too slow"`)
	want(f.viewer, "POST", "/api/v1/prompts/support/resolve", object{"distinct_id": "ann"}, 200, `"number":1`, `"reason":"stopped"`)
	want(f.member, "DELETE", "/api/v1/prompts/support/rollout", nil, 200)
	want(f.member, "DELETE", "/api/v1/prompts/support/rollout", nil, 404)
}
