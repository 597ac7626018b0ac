package mcp_test

import (
	"testing"

	"github.com/hedgerow/hedgerow/server/internal/project"
)

func TestListEvents(t *testing.T) {
	f := newFixture(t)
	c := f.dial(f.viewer)
	got := c.must("list_events", nil)
	if n := len(at(got, "events").([]any)); n != 20 || at(got, "next_cursor") == nil {
		t.Errorf("%d events, next %v", n, at(got, "next_cursor"))
	}
	first := at(got, "events", 0).(map[string]any)
	if first["model"] != "gpt-4.1-mini" || first["cost_usd"] != 0.000056 || first["output_tokens"] != 0.0 || first["latency_ms"] != 250.0 || first["content"] != "kept" ||
		first["url"] != "https://hedgerow.example/traces/trace-0" || at(first, "properties", "plan") != "pro" {
		t.Errorf("first: %v", first)
	}
	if failed := at(got, "events", 4).(map[string]any); failed["is_error"] != true || failed["cost_usd"] != nil || failed["input_tokens"] != nil {
		t.Errorf("what is unknown is there: %v", failed)
	}
	got = c.must("list_events", args{"cursor": at(got, "next_cursor")})
	if n := len(at(got, "events").([]any)); n != 5 || at(got, "next_cursor") != nil {
		t.Errorf("second page: %d events", n)
	}
	for _, tt := range []struct {
		args args
		want int
	}{
		{args{"surface": "Playbook"}, 5},
		{args{"status": "error", "model": "claude-sonnet-4.6", "error_type": "rate_limit_error"}, 5},
		{args{"from": "-10m30s"}, 10},
		{args{"from": "2026-03-30", "to": "-10m30s", "limit": 200}, 15},
		{args{"to": "2026-03-30T15:00:00Z", "from": "-1d", "limit": 200}, 21},
		{args{"trace_id": "trace-1", "tag": "beta", "properties": args{"plan": "pro"}}, 5},
		{args{"user": "nobody"}, 0},
		{args{"limit": 3}, 3},
	} {
		if n := len(at(c.must("list_events", tt.args), "events").([]any)); n != tt.want {
			t.Errorf("%v: %d events, want %d", tt.args, n, tt.want)
		}
	}
	c.fails("list_events", args{"modle": "x"}, `unknown argument "modle"`, "model")
	c.fails("list_events", args{"limit": 201}, "1 to 200")
	c.fails("list_events", args{"limit": -1}, "1 to 200")
	c.fails("list_events", args{"from": "yesterday"}, `"from" is not a time`)
	c.fails("list_events", args{"from": "--7d"}, `"from" is not a time`)
	c.fails("list_events", args{"cursor": "x"}, "invalid")
	c.fails("list_events", args{"properties": args{"plan": 1}}, "a string")
}

func TestGetTrace(t *testing.T) {
	f := newFixture(t)
	c := f.dial(f.viewer)
	got := c.must("get_trace", args{"trace_id": "trace-0"})
	spans := at(got, "spans").([]any)
	if len(spans) != 5 || at(got, "totals", "calls") != 5.0 || at(got, "totals", "errors") != 1.0 || at(got, "totals", "cost_usd") != 0.000224 || at(got, "totals", "uncosted_calls") != 1.0 {
		t.Errorf("trace: %v", got)
	}
	depths := make(map[any]any)
	for _, s := range spans {
		depths[at(s, "event", "span_id")] = at(s, "depth")
		if at(s, "input") != nil || at(s, "output") != nil {
			t.Errorf("content that nobody asked for: %v", s)
		}
	}
	if depths["span-0"] != 1.0 || depths["span-1"] != 0.0 {
		t.Errorf("depths: %v", depths)
	}
	got = c.must("get_trace", args{"trace_id": "trace-0", "include_content": true, "max_content_chars": 12, "max_spans": 2})
	if len(at(got, "spans").([]any)) != 2 || at(got, "more_spans") != 3.0 || at(got, "totals", "calls") != 5.0 {
		t.Errorf("two spans: %v", got)
	}
	if s := at(got, "spans", 0); at(s, "input") != `[{"role":"us…` || at(s, "content_cut") != true {
		t.Errorf("cut content: %v", s)
	}
	got = c.must("get_trace", args{"trace_id": "trace-0", "include_content": true})
	if s := at(got, "spans", 0); at(s, "output") != `[{"role":"assistant","content":"the answer"}]` || at(s, "content_cut") != nil {
		t.Errorf("content: %v", s)
	}
	if _, err := f.registry.UpdateProject(t.Context(), project.DefaultID, func(p *project.Project) error { p.Settings.ContentRole = project.RoleAdmin; return nil }); err != nil {
		t.Fatal(err)
	}
	c.fails("get_trace", args{"trace_id": "trace-0", "include_content": true}, "may not read the prompts and responses")
	c.fails("get_trace", nil, `"trace_id" is missing`, "list_events")
	c.fails("get_trace", args{"trace_id": "nix"}, "not_found")
	c.fails("get_trace", args{"trace_id": "trace-0", "max_spans": 1001}, "1 to 1000")
}

func TestGetStats(t *testing.T) {
	f := newFixture(t)
	c := f.dial(f.viewer)
	got := c.must("get_stats", args{"group_by": "model", "compare": true})
	if at(got, "from") != "2026-03-23T15:04:05Z" || at(got, "totals", "calls") != 25.0 || at(got, "totals", "errors") != 5.0 || at(got, "totals", "error_rate") != 0.2 ||
		at(got, "totals", "cost_usd") != 0.00112 || at(got, "previous", "calls") != 0.0 || at(got, "previous", "cost_usd") != nil {
		t.Errorf("stats: %v", got)
	}
	if at(got, "groups", 0, "key") != "gpt-4.1-mini" || at(got, "groups", 1, "totals", "errors") != 5.0 {
		t.Errorf("groups: %v", at(got, "groups"))
	}
	if got := c.must("get_stats", args{"group_by": "user", "limit": 1}); len(at(got, "groups").([]any)) != 1 || at(got, "more_groups") != true {
		t.Errorf("one group: %v", got)
	}
	if got := c.must("get_stats", args{"group_by": "day", "time_zone": "Europe/Berlin", "from": "-2d"}); len(at(got, "groups").([]any)) != 3 {
		t.Errorf("days: %v", got)
	}
	if got := c.must("get_stats", args{"surface": "Playbook"}); at(got, "totals", "calls") != 5.0 || at(got, "groups") != nil {
		t.Errorf("filtered: %v", got)
	}
	c.fails("get_stats", args{"group_by": "colour"}, "use model, ")
	c.fails("get_stats", args{"time_zone": "Mars"}, "invalid")
	c.fails("get_stats", args{"from": "-1d", "to": "-2d"}, "empty")
}
