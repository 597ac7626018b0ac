package api_test

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/server/internal/project"
)

func TestPrompts(t *testing.T) {
	f := newFixture(t)
	want := func(key, method, target string, body any, status int, has ...string) answer {
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
		return a
	}
	text := func(s string) []any { return []any{map[string]any{"role": "system", "content": s}} }
	want(f.viewer, "GET", "/api/v1/prompts", nil, 200, `{"prompts":[]}`)
	want(f.viewer, "POST", "/api/v1/prompts", map[string]any{"name": "support", "messages": text("Answer.")}, 403)
	want(f.member, "POST", "/api/v1/prompts", map[string]any{"name": "support", "messages": text("Answer."), "model": "gpt-4.1-mini", "typo": 1}, 400)
	want(f.member, "POST", "/api/v1/prompts", map[string]any{"name": "support", "messages": []any{}}, 400, `"hint"`)
	want(f.member, "POST", "/api/v1/prompts", map[string]any{"name": "support", "description": "tickets", "messages": text("Answer."), "model": "gpt-4.1-mini", "params": map[string]any{"temperature": 0.2}},
		200, `"number":1`, `"production"`, `"author":"key k_`)
	want(f.member, "POST", "/api/v1/prompts/support/versions", map[string]any{"messages": text("Answer {{n}} tickets."), "variables": []any{map[string]any{"name": "n", "type": "integer"}}, "note": "counts"},
		200, `"added":true`, `"number":2`)
	want(f.member, "POST", "/api/v1/prompts/support/versions", map[string]any{"messages": text("Answer {{n}} tickets."), "variables": []any{map[string]any{"name": "n", "type": "integer"}}}, 200, `"added":false`)
	want(f.viewer, "GET", "/api/v1/prompts/support", nil, 200, `"latest_version":2`, `"description":"tickets"`)
	want(f.viewer, "GET", "/api/v1/prompts/support/versions/production", nil, 200, `"number":1`)
	want(f.viewer, "GET", "/api/v1/prompts/support/versions/9", nil, 404)
	want(f.viewer, "GET", "/api/v1/prompts/nothing", nil, 404)
	want(f.other, "GET", "/api/v1/prompts/support", nil, 404)
	want(f.member, "PATCH", "/api/v1/prompts/support", map[string]any{"description": "all tickets"}, 200, "all tickets")

	want(f.viewer, "POST", "/api/v1/prompts/support/render", map[string]any{"version": "latest", "variables": map[string]any{"n": 3}}, 200, `"content":"Answer 3 tickets."`)
	want(f.viewer, "POST", "/api/v1/prompts/support/render", map[string]any{"version": "2", "variables": map[string]any{"n": "secret words"}}, 400, `not of type integer`)
	want(f.viewer, "POST", "/api/v1/prompts/support/render", map[string]any{}, 200, `"content":"Answer."`, `"model":"gpt-4.1-mini"`, `"temperature":0.2`)

	want(f.viewer, "PUT", "/api/v1/prompts/support/labels/production", map[string]any{"version": "2"}, 403)
	want(f.member, "PUT", "/api/v1/prompts/support/labels/production", map[string]any{"version": "2", "reason": "good"}, 200, `"from":1`, `"reason":"good"`)
	want(f.member, "PUT", "/api/v1/prompts/support/labels/canary", map[string]any{"version": "1"}, 200)
	want(f.member, "DELETE", "/api/v1/prompts/support/labels/canary", nil, 200)
	want(f.member, "DELETE", "/api/v1/prompts/support/labels/canary", nil, 404)

	export := httptest.NewRequestWithContext(t.Context(), "GET", "/api/v1/prompts/support/export", nil)
	export.Header.Set("Authorization", "Bearer "+f.viewer)
	w := httptest.NewRecorder()
	f.api.ServeHTTP(w, export)
	file := w.Body.String()
	if w.Code != 200 || !strings.Contains(w.Header().Get("Content-Disposition"), "support.yaml") || !strings.Contains(file, "name: support") || !strings.Contains(file, "Answer {{n}} tickets.") {
		t.Errorf("the file is %d %v\n%s", w.Code, w.Header(), file)
	}
	want(f.viewer, "GET", "/api/v1/prompts/support/export?format=json&version=1", nil, 200, `"name": "support"`)
	want(f.viewer, "GET", "/api/v1/prompts/support/export?format=toml", nil, 400)
	want(f.member, "POST", "/api/v1/prompts/import", map[string]any{"file": file}, 200, `"added":false`)
	want(f.member, "POST", "/api/v1/prompts/import", map[string]any{"file": strings.Replace(file, "name: support", "name: copy", 1), "label": "staging"}, 200, `"added":true`, `"prompt":"copy"`)
	want(f.viewer, "GET", "/api/v1/prompts/copy", nil, 200, `"staging"`)
	want(f.member, "POST", "/api/v1/prompts/import", map[string]any{"file": "name: x\nmesages: []"}, 400)
	r := httptest.NewRequestWithContext(t.Context(), "POST", "/api/v1/prompts/import?label=next", strings.NewReader("name: copy\nmessages:\n  - content: |\n      Hello.\n"))
	r.Header.Set("Authorization", "Bearer "+f.member)
	r.Header.Set("Content-Type", "application/yaml")
	if a := do(t, f.api, r); a.status != 200 || !strings.Contains(a.raw, `"number":2`) {
		t.Errorf("a YAML body: %d %s", a.status, a.raw)
	}

	want(f.member, "DELETE", "/api/v1/prompts/copy", nil, 400)
	want(f.member, "DELETE", "/api/v1/prompts/copy?confirm=copy", nil, 200)
	want(f.viewer, "GET", "/api/v1/prompts", nil, 200, `"support"`)
	var actions []string
	for _, e := range f.registry.AuditLog(project.DefaultID, 0) {
		if strings.HasPrefix(e.Action, "prompt.") {
			actions = append(actions, e.Action)
		}
	}
	if got, want := strings.Join(actions, " "), "prompt.delete prompt.label prompt.version prompt.label prompt.create prompt.label prompt.label prompt.label prompt.update prompt.version prompt.create"; got != want {
		t.Errorf("audit log %s, want %s", got, want)
	}
}

// What PostHog's prompt clients ask and read; e2e asks with @posthog/ai itself.
func TestPostHogPrompts(t *testing.T) {
	f := newFixture(t)
	for _, name := range []string{"a", "b"} {
		f.ask(f.member, "POST", "/api/v1/prompts", map[string]any{"name": name, "messages": []any{map[string]any{"content": "first of " + name}}, "model": "m"})
	}
	f.ask(f.member, "POST", "/api/v1/prompts/a/versions", map[string]any{"messages": []any{map[string]any{"content": "second {{x}}"}, map[string]any{"role": "user", "content": "{{x}}"}}})
	f.ask(f.member, "PUT", "/api/v1/prompts/b/labels/mine", map[string]any{"version": "1"})
	pr, _ := f.registry.Snapshot().Project(project.DefaultID)
	get := func(key, path string, status int) map[string]any {
		t.Helper()
		a := f.ask(key, "GET", path, nil)
		if a.status != status {
			t.Fatalf("%s: %d %s, want %d", path, a.status, a.raw, status)
		}
		return a.body
	}
	const base = "/api/environments/@current/llm_prompts/"
	token := "?token=" + pr.Token
	p := get(f.viewer, base+"name/a/"+token, 200)
	if p["prompt"] != "second {{x}}" || p["version"] != 2.0 || p["name"] != "a" || p["label"] != nil || p["deleted"] != false {
		t.Errorf("the newest version is %v", p)
	}
	if c, _ := json.Marshal(p["config"]); !strings.Contains(string(c), `"messages":[`) {
		t.Errorf("config %s has no messages", c)
	}
	p = get(f.viewer, base+"name/a/"+token+"&label=production", 200)
	if p["prompt"] != "first of a" || p["label"] != "production" || p["version"] != 1.0 {
		t.Errorf("production is %v", p)
	}
	if p = get(f.viewer, "/api/projects/7/llm_prompts/name/a"+token+"&version=1", 200); p["version"] != 1.0 {
		t.Errorf("version 1 is %v", p)
	}
	get(f.viewer, base+"name/a/"+token+"&version=x", 400)
	get(f.viewer, base+"name/a/"+token+"&version=1&label=production", 400)
	get(f.viewer, base+"name/a/"+token+"&label=none", 404)
	get(f.viewer, base+"name/none/"+token, 404)
	get(f.other, base+"name/a/"+token, 403)
	get("", base+"name/a/"+token, 401)

	list := get(f.viewer, base+token+"&content=full", 200)
	if list["count"] != 2.0 || list["next"] != nil {
		t.Errorf("list %v", list)
	}
	mine := get(f.viewer, base+token+"&content=full&label=mine", 200)["results"].([]any)
	if len(mine) != 1 || mine[0].(map[string]any)["name"] != "b" {
		t.Errorf("with the label: %v", mine)
	}
	if page := get(f.viewer, base+token+"&offset=1", 200); len(page["results"].([]any)) != 1 || page["previous"] == nil {
		t.Errorf("the second page is %v", page)
	}
}
