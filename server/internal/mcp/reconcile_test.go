package mcp_test

import "testing"

// A bill is imported, compared and erased.
func TestReconcileTools(t *testing.T) {
	f := newFixture(t)
	c := f.dial(f.admin)
	const bill = `{"data":[{"date":"2026-03-01","model":"openai/gpt-4o-mini","usage":0.015,"requests":5,"prompt_tokens":50000,"completion_tokens":12500,"surprise":1}]}`
	got := c.must("import_bill", args{"content": bill, "name": "activity.json", "account": "main"})
	if at(got, "imports", 0, "report") != "openrouter-activity" || at(got, "imports", 0, "unknown_columns", 0) != "surprise" || at(got, "imports", 0, "usd") != 0.015 || at(got, "imports", 0, "accounts", 0) != "main" {
		t.Errorf("imported %v", got)
	}
	c.fails("import_bill", args{"content": "a,b\n1,2\n"}, "the columns match no known export", "import one of")
	question := args{"provider": "openrouter", "from": "2026-03-01", "to": "2026-03-03"}
	got = c.must("reconcile_bill", question)
	if at(got, "total", "difference_usd") != 0.015 || at(got, "total", "causes", 0, "reason") != "outside" || at(got, "rows", 0, "model") != "openai/gpt-4o-mini" || at(got, "days_without_bill", 0) != "2026-03-02" {
		t.Errorf("compared %v", got)
	}
	question["by"] = "day"
	if got = c.must("reconcile_bill", question); at(got, "rows", 1, "day") != "2026-03-02" || at(got, "rows", 1, "provider_usd") != nil {
		t.Errorf("by day %v", got)
	}
	question["by"] = "day_and_model"
	if got = c.must("reconcile_bill", question); at(got, "rows", 0, "day") != "2026-03-01" || at(got, "rows", 0, "provider_calls") != float64(5) {
		t.Errorf("by day and model %v", got)
	}
	c.fails("reconcile_bill", args{"provider": "groq"}, "no bills of this provider")
	c.fails("reconcile_bill", args{"provider": "openai", "from": "March"}, "from is not a day")
	c.fails("fetch_bill", args{"provider": "openrouter"}, "no stored admin key for openrouter")
	id := at(c.must("list_bills", nil), "imports", 0, "id").(string)
	if got := c.must("delete_bill", args{"id": id}); at(got, "deleted") != id || len(at(c.must("list_bills", nil), "imports").([]any)) != 0 {
		t.Errorf("erased %v", got)
	}
	c.fails("delete_bill", args{"id": id}, "not found")
}
