package api_test

import (
	"bytes"
	"mime/multipart"
	"net/http/httptest"
	"strings"
	"testing"
)

const openRouterBill = `{"data":[{"date":"2026-03-01","model":"openai/gpt-4o-mini","usage":0.015,"requests":5,"prompt_tokens":50000,"completion_tokens":12500,"reasoning_tokens":0,"cached_tokens":0,"surprise":1}]}`

func TestReconcile(t *testing.T) {
	f := newFixture(t)
	const imports = "/api/v1/reconcile/imports"
	if a := f.ask(f.member, "POST", imports, openRouterBill); a.status != 403 {
		t.Errorf("a member imports: %d", a.status)
	}
	a := f.ask(f.admin, "POST", imports+"?name=activity.json&account=main", openRouterBill)
	if a.status != 200 || !strings.Contains(a.raw, `"unknown_columns":["surprise"]`) || !strings.Contains(a.raw, `"accounts":["main"]`) || !strings.Contains(a.raw, `"files":["activity.json"]`) || !strings.Contains(a.raw, `"usd":0.015`) {
		t.Fatalf("%d %s", a.status, a.raw)
	}
	if a := f.ask(f.admin, "POST", imports+"?account=main", openRouterBill); a.status != 200 || !strings.Contains(a.raw, `"unchanged":true`) {
		t.Errorf("%d %s", a.status, a.raw)
	}
	if a := f.ask(f.admin, "POST", imports+"?name=x.csv", "a,b\n1,2\n"); a.status != 400 || !strings.Contains(a.raw, "x.csv: the columns match no known export") || !strings.Contains(a.raw, "import one of") {
		t.Errorf("%d %s", a.status, a.raw)
	}
	a = f.get("/api/v1/reconcile?provider=openrouter&from=2026-03-01&to=2026-03-03")
	for _, want := range []string{`"provider_usd":0.015,"hedgerow_usd":0,"difference_usd":0.015`, `"reason":"outside"`, `"usd":0.015`, `"reason":"open"`, `"days_without_bill":["2026-03-02"]`, `"provider_calls":5`} {
		if !strings.Contains(a.raw, want) {
			t.Errorf("no %s in %s", want, a.raw)
		}
	}
	// The other account has nothing, nor has the other project.
	if a := f.get("/api/v1/reconcile?provider=openrouter&from=2026-03-01&to=2026-03-02&account=none"); !strings.Contains(a.raw, `"provider_usd":null`) || !strings.Contains(a.raw, `"accounts":["main"]`) {
		t.Errorf("%s", a.raw)
	}
	if a := f.ask(f.other, "GET", imports, nil); a.status != 200 || !strings.Contains(a.raw, `"imports":[]`) {
		t.Errorf("%d %s", a.status, a.raw)
	}
	for _, q := range []string{"", "?provider=groq", "?provider=openai&from=yesterday", "?provider=openai&from=2026-03-02&to=2026-03-01", "?provider=openai&from=2025-01-01"} {
		if a := f.ask(f.viewer, "GET", "/api/v1/reconcile"+q, nil); a.status != 400 {
			t.Errorf("%s: %d %s", q, a.status, a.raw)
		}
	}

	// Several files in a form, the pages of one report, are one import.
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	for _, day := range []string{"2026-03-01", "2026-03-02"} {
		part, err := w.CreateFormFile("file", day+".json")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = part.Write([]byte(strings.ReplaceAll(openRouterBill, "2026-03-01", day)))
	}
	_ = w.Close()
	req := httptest.NewRequestWithContext(t.Context(), "POST", imports, &body)
	req.Header.Set("Authorization", "Bearer "+f.admin)
	req.Header.Set("Content-Type", w.FormDataContentType())
	rec := httptest.NewRecorder()
	f.api.ServeHTTP(rec, req)
	if rec.Code != 200 || !strings.Contains(rec.Body.String(), `"files":["2026-03-01.json","2026-03-02.json"]`) || !strings.Contains(rec.Body.String(), `"days":2`) {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}

	list := f.get(imports).body["imports"].([]any)
	if len(list) != 2 {
		t.Fatalf("%v", list)
	}
	id := list[0].(map[string]any)["id"].(string)
	if a := f.ask(f.member, "DELETE", imports+"/"+id, nil); a.status != 403 {
		t.Errorf("a member erases: %d", a.status)
	}
	if a := f.ask(f.admin, "DELETE", imports+"/"+id, nil); a.status != 200 || len(f.get(imports).body["imports"].([]any)) != 1 {
		t.Errorf("%d %s", a.status, a.raw)
	}
	if a := f.ask(f.admin, "DELETE", imports+"/"+id, nil); a.status != 404 {
		t.Errorf("%d %s", a.status, a.raw)
	}
	var audited []string
	for _, e := range f.registry.AuditLog("default", 10) {
		audited = append(audited, e.Action)
	}
	if log := strings.Join(audited, " "); !strings.Contains(log, "bill.erase bill.import bill.import") {
		t.Errorf("audit log: %s", log)
	}
}

func TestAdminKeys(t *testing.T) {
	f := newFixture(t)
	const keys = "/api/v1/reconcile/keys"
	if a := f.ask(f.admin, "PUT", keys+"/openai", `{"key":"sk-proj-not-one"}`); a.status != 400 || !strings.Contains(a.raw, "sk-admin-") || strings.Contains(a.raw, "not-one") {
		t.Errorf("%d %s", a.status, a.raw)
	}
	if a := f.ask(f.admin, "PUT", keys+"/amazon-bedrock", `{"key":"AKIA"}`); a.status != 400 || !strings.Contains(a.raw, "as files") {
		t.Errorf("%d %s", a.status, a.raw)
	}
	if a := f.ask(f.admin, "PUT", keys+"/openai", `{"key":" sk-admin-0123456789wxyz "}`); a.status != 200 {
		t.Errorf("%d %s", a.status, a.raw)
	}
	if a := f.ask(f.admin, "GET", keys, nil); a.status != 200 || !strings.Contains(a.raw, `"last_four":"wxyz"`) || !strings.Contains(a.raw, `"host":"https://api.openai.com"`) || strings.Contains(a.raw, "0123456789") {
		t.Errorf("%d %s", a.status, a.raw)
	}
	if a := f.ask(f.member, "GET", keys, nil); a.status != 403 {
		t.Errorf("a member: %d", a.status)
	}
	// The test's server has nothing to fetch with.
	if a := f.ask(f.admin, "POST", "/api/v1/reconcile/fetch", `{"provider":"openai"}`); a.status != 503 {
		t.Errorf("%d %s", a.status, a.raw)
	}
	if a := f.ask(f.admin, "DELETE", keys+"/openai", nil); a.status != 200 {
		t.Errorf("%d %s", a.status, a.raw)
	}
}
