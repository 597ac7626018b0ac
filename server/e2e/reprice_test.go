package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/reprice"
)

// TestReprice: calls of a model without a price get one after it is known, through a
// dry run, a run that is killed and continued, and the journal; figures are exact, a
// second run changes nothing, and PostHog learns of the difference once.
func TestReprice(t *testing.T) {
	t.Parallel()
	const calls, tokens = 4500, 1000
	w := newWorld(t)
	p := w.start()
	w.flushFast()
	at := time.Now().UTC().AddDate(0, 0, -1).Truncate(24 * time.Hour)
	var batch []string
	for i := range calls {
		batch = append(batch, fmt.Sprintf(`{"event":"$ai_generation","distinct_id":"u%d","timestamp":%q,"properties":{"$ai_provider":"openrouter","$ai_model":"acme/nine","$ai_trace_id":"t%d","$ai_input_tokens":%d,"$ai_output_tokens":%d}}`,
			i%7, at.Add(time.Duration(i)*time.Second).Format(time.RFC3339), i, tokens+i, i))
		if len(batch) == 1500 {
			p.call("POST", "/batch/", fmt.Sprintf(`{"api_key":%q,"batch":[%s]}`, p.token(), strings.Join(batch, ",")), nil)
			batch = batch[:0]
		}
	}
	days := fmt.Sprintf("from=%s&to=%s", at.Format(time.DateOnly), at.AddDate(0, 0, 1).Format(time.DateOnly))
	cost := func() query.Totals {
		t.Helper()
		var s query.Stats
		p.get("/api/v1/stats?"+days, &s)
		return s.Totals
	}
	w.await(func() bool { return cost().Calls == calls }, func() string { return fmt.Sprint(cost()) })
	if c := cost(); c.CostUSD.Known {
		t.Fatalf("a cost without a price: %v", c.CostUSD)
	}
	day := []string{"prices", "reprice", "--from", at.Format(time.DateOnly), "--to", at.Format(time.DateOnly)}
	if out := w.mustRun(day...); !strings.Contains(out, "unknown or kept: 4500 calls, no price for the model") || !strings.Contains(out, "--apply changes 0 calls") {
		t.Errorf("without a price:\n%s", out)
	}
	list := filepath.Join(t.TempDir(), "models.json")
	if err := os.WriteFile(list, []byte(`{"data":[{"id":"acme/nine","pricing":{"prompt":"0.0000004","completion":"0.0000016"}}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	w.mustRun("prices", "sync", "--from", list)
	// The sums of tokens are n × 1000 + n(n-1)/2 and n(n-1)/2.
	half := decimal.NewFromInt(calls * (calls - 1) / 2)
	want := half.Add(decimal.NewFromInt(calls * tokens)).Mul(decimal.New(4, -7)).Add(half.Mul(decimal.New(16, -7)))
	if out := w.mustRun(day...); !strings.Contains(out, "–       "+want.StringFixed(6)+"  4500 → 0") || !strings.Contains(out, "dry run: nothing was changed; --apply changes 4500 calls") {
		t.Errorf("dry run:\n%s", out)
	}
	if c := cost(); c.CostUSD.Known {
		t.Fatalf("a dry run has changed costs: %v", c.CostUSD)
	}

	const path = "/api/v1/prices/reprice"
	body := fmt.Sprintf(`{"from":%q,"to":%q,"apply":true,"posthog":true}`, at.Format(time.DateOnly), at.Format(time.DateOnly))
	var run reprice.Run
	p.call("POST", path, body, &run)
	id := run.ID
	w.await(func() bool { run = reprice.Run{}; p.get(path, &run); return run.Done > 0 }, func() string { return fmt.Sprint(run) })
	if !run.Active() {
		t.Error("the run has ended before it could be killed: make it longer")
	}
	p.kill()
	p = w.start()
	w.await(func() bool { run = reprice.Run{}; p.get(path, &run); return !run.Active() }, func() string { return fmt.Sprintf("%+v\n%s", run, p.logs()) })
	if run.ID != id || run.Status != reprice.Done || run.Sum.Changed != calls || run.Sent != 1 || !run.Sum.After.Value.Equal(want) {
		t.Errorf("continued: %+v", run)
	}
	if c := cost(); !c.CostUSD.Value.Equal(want) {
		t.Errorf("cost %v, want %v", c.CostUSD, want)
	}
	var page query.EventsPage
	p.get("/api/v1/events?limit=1&"+days, &page)
	one := page.Events[0]
	if one.Cost.Repricing != id || one.Cost.Before.Known || !one.Cost.Total.Known {
		t.Errorf("an event: %+v", one.Cost)
	}
	if out := w.mustRun(append(day, "--apply")...); !strings.Contains(out, "changed 0 calls") {
		t.Errorf("a second run:\n%s", out)
	}
	if c := cost(); !c.CostUSD.Value.Equal(want) {
		t.Errorf("cost %v after the second run, want %v", c.CostUSD, want)
	}
	w.await(func() bool { return len(w.ph.Named(reprice.Correction)) > 0 }, p.logs)
	sent := w.ph.Named(reprice.Correction)
	var told decimal.Decimal
	if err := json.Unmarshal(sent[0].Properties["newly_priced_cost_usd"], &told); err != nil || len(sent) != 1 || !told.Equal(want) || string(sent[0].Properties["newly_priced_calls"]) != "4500" || string(sent[0].Properties["model"]) != `"acme/nine"` {
		t.Errorf("PostHog got %d corrections, of %v: %s", len(sent), told, sent[0].Raw)
	}
	if n := len(w.ph.Named("$ai_generation")); n > calls {
		t.Errorf("PostHog got %d generations of %d", n, calls)
	}
}
