package web_test

import (
	"encoding/csv"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/server/internal/project"
)

// TestExplore builds charts from addresses: figures counted by hand, and what
// is no chart.
func TestExplore(t *testing.T) {
	s := newSite(t, story()...)
	s.client = s.as(s.person("reader@example.com", project.RoleViewer, "default"))
	for q, want := range map[string][]string{
		"": {"Calls", `value="calls" selected`, "24"},
		"m=error_rate&by=prompt&over=total&draw=bar":            {"Error rate by prompt version", "answer@2", "50.0 %", `value="total" selected`},
		"m=calls&m=cost_usd&over=total&draw=table&by=user":      {"Calls, Cost by user", "12</td>", "$0.0053"},
		"m=cost_usd&draw=number&prompt_version=2":               {`<p class="chart big"`, "$0.0035"},
		"m=calls&of=calls&kind=errors&by=error_type&over=total": {"Calls, share of all calls by error type", "Share of all calls", "16.7 %", `value="calls" selected`},
		"m=errors&of=calls":                                     {"Errors, share of all calls", "Share of all calls", "16.7 %"},
		"m=cost_usd&of=calls":                                   {"$0.01", "this metric is not normalised"},
		"m=calls&by=property:plan&over=total":                   {"Calls by plan", "property plan", "pro"},
		"m=calls&by=property:&by_name=plan&over=total":          {"Calls by plan", "pro"},
	} {
		resp, body := s.get("/p/default/explore?range=7d&" + q)
		if resp.StatusCode != 200 || strings.Contains(body, "Add to a dashboard") {
			t.Errorf("%s: %d, or a viewer may save", q, resp.StatusCode)
		}
		for _, w := range want {
			if !strings.Contains(body, w) {
				t.Errorf("%s lacks %q", q, w)
			}
		}
	}
	for _, q := range []string{"m=beauty", "by=beauty", "draw=pie", "limit=0", "limit=x", "limit=100000", "range=9y"} {
		if resp, _ := s.get("/p/default/explore?" + q); resp.StatusCode != 400 {
			t.Errorf("%s: status %d", q, resp.StatusCode)
		}
		if resp, _ := s.get("/p/default/chart.csv?" + q); resp.StatusCode != 400 {
			t.Errorf("file of %s: status %d", q, resp.StatusCode)
		}
	}
}

// TestFiles reads the CSV files: numbers in full, and no formula of a stranger.
func TestFiles(t *testing.T) {
	events := story()
	evil := sample("default")
	evil.DistinctID, evil.PromptName, evil.Model, evil.ModelAsked = `=HYPERLINK("http://evil.example")`, "", "odd,\"model\"", "odd,\"model\""
	s := newSite(t, append(events, evil)...)
	s.client = s.as(s.person("reader@example.com", project.RoleViewer, "default"))
	read := func(path string) [][]string {
		resp, body := s.get("/p/default" + path)
		if resp.StatusCode != 200 || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/csv") || !strings.HasPrefix(resp.Header.Get("Content-Disposition"), "attachment; filename=") {
			t.Fatalf("%s: %d %v", path, resp.StatusCode, resp.Header)
		}
		rows, err := csv.NewReader(strings.NewReader(body)).ReadAll()
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		return rows
	}
	rows := read("/chart.csv?m=calls&m=error_rate&m=cost_usd&by=prompt&over=total&range=7d")
	want := [][]string{{"Group", "Calls", "Error rate (%)", "Cost (USD)"}, {"answer@1", "16", "0", "0.007"}, {"answer@2", "8", "50", "0.0035"}}
	for _, w := range want {
		if !slices.ContainsFunc(rows, func(r []string) bool { return slices.Equal(r, w) }) {
			t.Errorf("the chart's file lacks %q: %q", w, rows)
		}
	}
	if rows := read("/chart.csv?m=calls&range=7d"); len(rows) != 8 || rows[7][0] != "2026-11-21" || rows[7][1] != "5" {
		t.Errorf("days: %q", rows)
	}
	if rows := read("/chart.csv?m=calls&by=user&over=total&range=7d"); !slices.ContainsFunc(rows, func(r []string) bool { return r[0] == `'=HYPERLINK("http://evil.example")` }) {
		t.Errorf("a formula goes into a spreadsheet: %q", rows)
	}
	all := read("/events.csv?range=7d&kind=calls&sort=cost")
	if len(all) != 26 || slices.Index(all[0], "cost_usd") < 0 {
		t.Fatalf("%d lines of events, want a heading and 25: %q", len(all), all[0])
	}
	cost, user := slices.Index(all[0], "cost_usd"), slices.Index(all[0], "user")
	if all[1][cost] != "0.0004375" || !slices.ContainsFunc(all, func(r []string) bool { return strings.HasPrefix(r[user], "'=") }) {
		t.Errorf("events: %q", all[1])
	}
	if _, body := s.get("/p/default/events.csv"); strings.Contains(body, "question") || strings.Contains(body, "metres") {
		t.Error("the file has prompts or answers")
	}
	if rows := read("/agents.csv?of=steps&range=7d"); !slices.Equal(rows[1], []string{"lookup", "true", "24", "0", "0", "100"}) {
		t.Errorf("steps: %q", rows)
	}
	if rows := read("/agents.csv?of=calls&range=7d"); len(rows) < 2 || rows[0][0] != "calls" {
		t.Errorf("calls of traces: %q", rows)
	}
	if resp, _ := s.get("/p/default/agents.csv?of=beauty"); resp.StatusCode != 400 {
		t.Errorf("no such table: %d", resp.StatusCode)
	}
}

func TestDashboards(t *testing.T) {
	s := newSite(t, append(story(), sample("other"))...)
	s.client = s.as(s.person("member@example.com", project.RoleMember, "default"))
	s.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	post := func(path string, fields ...string) (int, string) {
		t.Helper()
		v := url.Values{}
		for i := 0; i < len(fields); i += 2 {
			v.Set(fields[i], fields[i+1])
		}
		resp, body := s.send("/p/default"+path, v)
		return resp.StatusCode, body
	}
	find := func() project.Dashboard {
		t.Helper()
		list := s.Registry.Snapshot().Dashboards("default")
		if len(list) != 1 {
			t.Fatalf("%d dashboards", len(list))
		}
		return list[0]
	}
	if _, body := s.get("/p/default/dashboards"); !strings.Contains(body, "No dashboards yet") {
		t.Error("the empty list says nothing")
	}
	if status, body := post("/charts", "title", "Bad ones", "new", "Support", "query", "m=error_rate&by=prompt&draw=bar&over=total&prompt_version=2&range=30d&csrf=x"); status != 303 {
		t.Fatalf("save: %d %s", status, body)
	}
	d := find()
	if d.Name != "Support" || len(d.Charts) != 1 || strings.Contains(d.Charts[0].Query, "range") {
		t.Errorf("saved %+v", d)
	}
	for _, q := range []string{"m=calls&by=surface&draw=stack", "m=cost_usd&draw=number"} {
		if status, body := post("/charts", "title", "Of "+q[2:7], "dashboard", d.ID, "query", q); status != 303 {
			t.Fatalf("add: %d %s", status, body)
		}
	}
	_, body := s.get("/p/default/dashboards/" + d.ID + "?range=7d")
	for _, w := range []string{"Bad ones", "Of calls", "Of cost_", "50.0 %", "$0.01", "Arrange", "/explore?dashboard=" + d.ID} {
		if !strings.Contains(body, w) {
			t.Errorf("the dashboard lacks %q", w)
		}
	}
	if strings.Contains(body, "answer@1") {
		t.Error("the chart's own filter does not hold")
	}
	// A filter of the page counts for every chart.
	if _, body := s.get("/p/default/dashboards/" + d.ID + "?range=7d&prompt_version=1"); !strings.Contains(body, "$0.007") || !strings.Contains(body, "50.0 %") {
		t.Error("the page's filter does not hold, or is stronger than the chart's own")
	}
	ids := func() []string {
		var out []string
		for _, c := range find().Charts {
			out = append(out, c.ID)
		}
		return out
	}
	begin := ids()
	a, b, c := begin[0], begin[1], begin[2]
	for _, x := range []struct {
		fields []string
		want   []string
	}{
		{[]string{"do", "later", "chart", a}, []string{b, a, c}},
		{[]string{"do", "earlier", "chart", c}, []string{b, c, a}},
		{[]string{"do", "earlier", "chart", b}, []string{b, c, a}},
		{[]string{"do", "later", "chart", a}, []string{b, c, a}},
		{[]string{"do", "order", "order", a + "," + b}, []string{a, b, c}},
		{[]string{"do", "width", "chart", b}, []string{a, b, c}},
		{[]string{"do", "remove", "chart", c}, []string{a, b}},
		{[]string{"do", "rename", "name", "Support team"}, []string{a, b}},
	} {
		if status, _ := post("/dashboards/"+d.ID, x.fields...); status != 303 {
			t.Errorf("%v: status %d", x.fields, status)
		}
		if got := ids(); !slices.Equal(got, x.want) {
			t.Errorf("%v: %v, want %v", x.fields, got, x.want)
		}
	}
	if d := find(); !d.Charts[1].Wide || d.Name != "Support team" {
		t.Errorf("arranged: %+v", d)
	}
	if status, _ := post("/charts", "title", "Calls of all", "dashboard", d.ID, "chart", a, "query", "m=calls"); status != 303 || find().Charts[0].Title != "Calls of all" || len(ids()) != 2 {
		t.Errorf("edited: %+v", find())
	}
	if resp, _ := s.get("/p/default/explore?dashboard=" + d.ID + "&chart=" + a); resp.StatusCode != 303 || !strings.Contains(resp.Header.Get("Location"), "m=calls") {
		t.Errorf("editing leads to %d %s", resp.StatusCode, resp.Header.Get("Location"))
	}
	for _, x := range [][]string{{"do", "dance"}, {"do", "rename", "name", ""}} {
		if status, _ := post("/dashboards/"+d.ID, x...); status != 400 {
			t.Errorf("%v: status %d", x, status)
		}
	}
	if status, _ := post("/dashboards/"+d.ID, "do", "remove", "chart", "h_none"); status != 404 {
		t.Errorf("a chart that is not there: %d", status)
	}
	for _, q := range []string{"m=beauty", "%zz"} {
		if status, _ := post("/charts", "title", "x", "dashboard", d.ID, "query", q); status != 400 {
			t.Errorf("%s: status %d", q, status)
		}
	}
	// What cannot be drawn any more says so, and leaves the others alone.
	if _, err := s.Registry.UpdateDashboard(t.Context(), "default", d.ID, "", func(d *project.Dashboard) error { d.Charts[0].Query = "m=beauty"; return nil }); err != nil {
		t.Fatal(err)
	}
	if resp, body := s.get("/p/default/dashboards/" + d.ID); resp.StatusCode != 200 || !strings.Contains(body, "Unknown metric: beauty") || !strings.Contains(body, "Of calls") {
		t.Errorf("one bad chart: %d", resp.StatusCode)
	}
	log := s.Registry.AuditLog("default", 0)
	for _, action := range []string{"dashboard.create", "dashboard.update"} {
		if !slices.ContainsFunc(log, func(e project.AuditEntry) bool {
			return e.Action == action && e.Actor != "system" && strings.HasPrefix(e.Target, "Support")
		}) {
			t.Errorf("the audit log lacks %s", action)
		}
	}

	// Viewers look; other projects have nothing of it.
	member := s.client
	s.client = s.as(s.person("reader@example.com", project.RoleViewer, "default"))
	if resp, body := s.get("/p/default/dashboards/" + d.ID + "?edit=1"); resp.StatusCode != 200 || strings.Contains(body, "Earlier") || strings.Contains(body, "Add a chart") {
		t.Errorf("a viewer: %d, or may arrange", resp.StatusCode)
	}
	s.client = member
	if resp, _ := s.get("/p/default/dashboards/d_none"); resp.StatusCode != 404 {
		t.Errorf("no such dashboard: %d", resp.StatusCode)
	}
	if status, _ := post("/dashboards/" + d.ID + "/delete"); status != 303 || len(s.Registry.Snapshot().Dashboards("default")) != 0 {
		t.Errorf("deleted: %d", status)
	}
}
