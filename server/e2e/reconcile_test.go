package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/reconcile"
)

// TestReconcile compares a bill that differs from the recorded calls by known causes:
// calls outside the gateway, a model without a price, a batch recorded as standard, web
// searches and rounding. API, command line and page name each to the cent, and the parts
// sum up to the difference exactly. A backup has the bill.
func TestReconcile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start()
	// Calls through the gateway, of which the provider bills twice as many, and calls
	// that an SDK reports: of a model without a price and of one that runs in batches.
	for range 3 {
		if status, _, err := p.post(t.Context(), "/v1/chat/completions", "", chatBody); err != nil || status != 200 {
			t.Fatalf("%d %v", status, err)
		}
	}
	var batch []string
	for i, model := range []string{"acme-nine", "acme-nine", "gpt-4.1", "gpt-4.1"} {
		batch = append(batch, fmt.Sprintf(`{"event":"$ai_generation","distinct_id":"u","timestamp":%q,"properties":{"$ai_provider":"openai","$ai_model":%q,"$ai_trace_id":"r%d","$ai_input_tokens":1000000,"$ai_output_tokens":100000}}`, time.Now().UTC().Format(time.RFC3339), model, i))
	}
	p.call("POST", "/batch/", fmt.Sprintf(`{"api_key":%q,"batch":[%s]}`, p.token(), strings.Join(batch, ",")), nil)
	events := p.awaitStored("event=$ai_generation", 7)
	day := events[0].Timestamp.UTC().Truncate(24 * time.Hour)
	if events[len(events)-1].Timestamp.Before(day) {
		t.Skip("midnight in UTC parts the calls")
	}
	var model string
	var in, out, inUSD, outUSD, recorded decimal.Decimal
	for _, e := range events {
		recorded = recorded.Add(event.Opt[decimal.Decimal](e.Cost.Total).Value)
		if e.Source == event.SourceGateway {
			model = e.Model
			in, out = in.Add(decimal.NewFromInt(e.Usage.Input.Value)), out.Add(decimal.NewFromInt(e.Usage.Output.Value))
			inUSD, outUSD = inUSD.Add(e.Cost.Input.Value), outUSD.Add(e.Cost.Output.Value)
		}
	}
	// As much again of a million times the tokens is outside.
	million := decimal.New(1, 6)
	billIn, billOut := in.Mul(million), out.Mul(million)
	costs, usage := filepath.Join(t.TempDir(), "costs.csv"), filepath.Join(t.TempDir(), "usage.json")
	lines := []string{"start_time,end_time,amount_value,amount_currency,line_item,project_id,billing_note"}
	for _, l := range [][2]string{
		{model + ", input", inUSD.Mul(million).StringFixed(4)}, {model + ", output", outUSD.Mul(million).StringFixed(4)},
		{"acme-nine, input", "3.0000"}, {"acme-nine, output", "1.0000"},
		{"gpt-4.1, input", "2.0000"}, {"gpt-4.1, output", "0.8000"}, // half of 4 and 1.6
		{"web search tool calls", "0.2500"},
	} {
		lines = append(lines, fmt.Sprintf(`%d,%d,%s,usd,"%s",proj_1,x`, day.Unix(), day.AddDate(0, 0, 1).Unix(), l[1], l[0]))
	}
	results := []string{}
	for _, u := range []struct {
		model   string
		in, out decimal.Decimal
		calls   int
		batch   bool
	}{{model, billIn, billOut, 9, false}, {"acme-nine", decimal.New(2, 6), decimal.New(2, 5), 2, false}, {"gpt-4.1", decimal.New(2, 6), decimal.New(2, 5), 2, true}} {
		results = append(results, fmt.Sprintf(`{"object":"organization.usage.completions.result","input_tokens":%s,"input_cached_tokens":0,"output_tokens":%s,"num_model_requests":%d,"model":%q,"batch":%t,"service_tier":"default"}`, u.in, u.out, u.calls, u.model, u.batch))
	}
	for file, text := range map[string]string{costs: strings.Join(lines, "\n") + "\n", usage: fmt.Sprintf(`{"object":"page","data":[{"object":"bucket","start_time":%d,"end_time":%d,"results":[%s]}],"has_more":false}`, day.Unix(), day.AddDate(0, 0, 1).Unix(), strings.Join(results, ","))} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if said := w.mustRun("reconcile", "import", costs, usage); !strings.Contains(said, "openai-costs: imported") || !strings.Contains(said, "openai-usage-completions: imported") || !strings.Contains(said, "not read: billing_note") {
		t.Errorf("import: %s", said)
	}
	if said := w.mustRun("reconcile", "import", costs); !strings.Contains(said, "already imported") {
		t.Errorf("again: %s", said)
	}
	if said, err := w.run("reconcile", "import", filepath.Join(w.dir, "secret.key")); exitCode(err) != 2 || !strings.Contains(said, "secret.key: ") || !strings.Contains(said, "import one of") {
		t.Errorf("a file that is no export: %d %s", exitCode(err), said)
	}

	path := "/api/v1/reconcile?provider=openai&from=" + day.Format(time.DateOnly) + "&to=" + day.AddDate(0, 0, 1).Format(time.DateOnly)
	check := func(p *proc) {
		t.Helper()
		var r reconcile.Report
		p.get(path, &r)
		outside := inUSD.Add(outUSD).Mul(million).Sub(inUSD.Add(outUSD))
		want := map[reconcile.Reason]string{
			reconcile.ReasonOutside: outside.StringFixed(2), reconcile.ReasonUnknownPrices: "4.00", reconcile.ReasonTiers: "-2.80", reconcile.ReasonTools: "0.25", reconcile.ReasonRounding: "0.00", reconcile.ReasonOpen: "0.00",
		}
		sum := decimal.Zero
		for _, c := range r.Total.Causes {
			if sum = sum.Add(c.USD.Value); c.USD.Value.StringFixed(2) != want[c.Reason] && c.USD.Value.Neg().StringFixed(2) != want[c.Reason] {
				t.Errorf("%s is %s, want %s", c.Label, c.USD.Value, want[c.Reason])
			}
			if (c.USD.Value.Sign() < 0) != strings.HasPrefix(want[c.Reason], "-") && c.Reason != reconcile.ReasonRounding {
				t.Errorf("%s is %s, want %s", c.Label, c.USD.Value, want[c.Reason])
			}
			if c.Reason == reconcile.ReasonOpen && !c.USD.Value.IsZero() {
				t.Errorf("%s is open", c.USD.Value)
			}
			if c.Reason != reconcile.ReasonRounding {
				delete(want, c.Reason)
			}
		}
		delete(want, reconcile.ReasonRounding)
		if len(want) > 0 || !sum.Equal(r.Total.Difference.Value) || !r.Total.HedgerowUSD.Value.Equal(recorded) || !r.Total.ProviderUSD.Value.Sub(recorded).Equal(sum) || r.Total.Calls != 7 || r.Total.UncostedCalls != 2 {
			t.Errorf("without %v, %s of %+v", want, sum, r.Total)
		}
	}
	check(p)
	if said := w.mustRun("reconcile", "show", "openai", "--from", day.Format(time.DateOnly)); !strings.Contains(said, "Unknown prices") || !strings.Contains(said, "-2.80") || !strings.Contains(said, "acme-nine") {
		t.Errorf("show: %s", said)
	}

	// The page has the same, and each of hedgerow's figures leads to the calls that it counts.
	link := regexp.MustCompile(`/sign-in\?token=(\w+)`).FindStringSubmatch(w.mustRun("project", "sign-in-link"))
	jar, err := cookiejar.New(nil)
	if err != nil || link == nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar, Timeout: patience}
	read := func(resp *http.Response, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	read(browser.PostForm(p.base+"/sign-in/link", url.Values{"token": {link[1]}}))
	body := read(browser.Get(p.base + "/p/default/reconcile"))
	for _, want := range []string{"Calls outside the gateway", "Unknown prices", "+$4.00", "Service tiers", "−$2.80", "web search tool calls", "billing_note", "acme-nine", "OpenAI costs"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	links := regexp.MustCompile(`href="(/p/default/events\?[^"]*measure=calls[^"]*)">([0-9,]+)<`).FindAllStringSubmatch(body, -1)
	if len(links) < 4 {
		t.Errorf("%d links to calls", len(links))
	}
	for _, l := range links {
		list := read(browser.Get(p.base + strings.ReplaceAll(l[1], "&amp;", "&")))
		if n := strings.Count(list, `href="/p/default/events/0`); n == 0 || fmt.Sprint(n) != l[2] && !strings.Contains(list, l[2]) {
			t.Errorf("%s calls, %d are listed at %s", l[2], n, l[1])
		}
	}

	folder := filepath.Join(t.TempDir(), "backup")
	w.mustRun("backup", folder)
	key, err := os.ReadFile(filepath.Join(w.dir, "secret.key"))
	if err != nil {
		t.Fatal(err)
	}
	p.stop()
	w.dir = filepath.Join(t.TempDir(), "restored")
	w.mustRun("restore", folder)
	if err := os.WriteFile(filepath.Join(w.dir, "secret.key"), key, 0o600); err != nil {
		t.Fatal(err)
	}
	p = w.start()
	var st query.Stats
	w.await(func() bool { p.get("/api/v1/stats", &st); return st.Totals.Calls == 7 }, func() string { return fmt.Sprint(st.Totals) })
	check(p)
}
