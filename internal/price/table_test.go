package price_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/price"
)

// TestBuiltinTable checks what can be checked of thousands of prices without knowing them:
// each is complete, in proportion, and the only one of its name.
func TestBuiltinTable(t *testing.T) {
	rows := price.Default().Rows()
	providers := map[string]int{}
	names := map[string]string{}
	for _, r := range rows {
		id := r.Provider + "/" + r.Model
		providers[r.Provider]++
		if r.Provider == "" || r.Model == "" || !strings.Contains(r.Source, "https://") {
			t.Errorf("%s: provider, model or source is missing", id)
		}
		if r.Date.Before(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)) || r.Date.After(time.Now()) {
			t.Errorf("%s: date is %s", id, r.Date)
		}
		if r.Origin != event.CostTable {
			t.Errorf("%s: origin is %q", id, r.Origin)
		}
		if r.Rates == (price.Rates{}) {
			t.Errorf("%s: it has no price", id)
		}
		if odd[id] != "" || r.Free() {
			continue
		}
		checkRates(t, id, r.Rates)
		for i, tier := range r.Tiers {
			if i > 0 && tier.Above <= r.Tiers[i-1].Above {
				t.Errorf("%s: tiers do not ascend", id)
			}
			if tier.Input.Known && tier.Input.Value.LessThan(r.Input.Value) {
				t.Errorf("%s: long prompts are cheaper", id)
			}
			checkRates(t, id, tier.Rates)
		}
		for _, name := range append([]string{r.Model}, r.Aliases...) {
			key := r.Provider + "/" + strings.ToLower(strings.NewReplacer(".", "-", "_", "-", "@", "-").Replace(name))
			if other, taken := names[key]; taken {
				t.Errorf("%s: %s is also a name of %s", id, name, other)
			}
			names[key] = id
			if got, ok := price.Default().Match(r.Provider, name); !ok || got.Model != r.Model || got.Provider != r.Provider {
				t.Errorf("%s at %s leads to %s/%s, %t, not to its own row", name, r.Provider, got.Provider, got.Model, ok)
			}
		}
	}
	if len(rows) < 300 || len(providers) < 8 {
		t.Errorf("%d rows of %d providers", len(rows), len(providers))
	}
	for p, least := range map[string]int{"openai": 40, "anthropic": 15, "google": 15, "mistral": 10, "amazon-bedrock": 20, "xai": 8, "groq": 8, "together": 15, "fireworks": 15, "perplexity": 4, "cohere": 4, "deepseek": 2, "openrouter": 30} {
		if providers[p] < least {
			t.Errorf("%d models of %s, want %d", providers[p], p, least)
		}
	}
}

// odd are prices that look wrong and are not, or are wrong in their source, with the
// reason. Nothing else may look wrong.
var odd = map[string]string{
	"cloudflare/@cf/meta/llama-guard-3-8b":     "a classifier: its output is cheap at the provider, too",
	"minimax/MiniMax-M2.1-highspeed":           "the provider charges cache writes as for the model of ordinary speed",
	"minimax/MiniMax-M2.5-highspeed":           "as above",
	"minimax/MiniMax-M2.7-highspeed":           "as above",
	"openai/gpt-5-image-mini":                  "its text output is cheaper than its input at the provider, too",
	"openrouter/openai/gpt-5-image-mini":       "as above",
	"openinfer/@oi/Qwen3.5-9B":                 "LiteLLM's figure, of a provider without a page of prices",
	"openrouter/~deepseek/deepseek-pro-latest": "a moving name, whose two prices are of different days in the source",
}

// checkRates finds prices of 0 that should be unknown, slips of the decimal point,
// and rates in the wrong column.
func checkRates(t *testing.T, id string, r price.Rates) {
	t.Helper()
	low, high := decimal.RequireFromString("0.000000001"), decimal.RequireFromString("0.001")
	for name, v := range map[string]price.USD{
		"input": r.Input, "output": r.Output, "cache read": r.CacheRead, "cache write": r.CacheWrite, "cache write 1 h": r.CacheWrite1h,
		"reasoning": r.Reasoning, "audio input": r.InputAudio, "audio output": r.OutputAudio, "cached audio": r.CacheReadAudio,
		"image input": r.InputImage, "image output": r.OutputImage,
	} {
		if v.Known && (v.Value.LessThan(low) || v.Value.GreaterThan(high)) {
			t.Errorf("%s: %s is %s a token", id, name, v.Value)
		}
	}
	above := func(what string, a, b price.USD) {
		if a.Known && b.Known && a.Value.GreaterThan(b.Value) {
			t.Errorf("%s: %s (%s > %s)", id, what, a.Value, b.Value)
		}
	}
	above("input costs more than output", r.Input, r.Output)
	above("reading the cache costs more than input", r.CacheRead, r.Input)
	above("a cache write costs less than input", r.Input, r.CacheWrite)
	above("an hour's cache write costs less than five minutes'", r.CacheWrite, r.CacheWrite1h)
}

func TestRowsAreSortedOwnFirst(t *testing.T) {
	tab := price.Default().With(rows(t, `[{model: zz, input: 1}, {model: aa, input: 1}]`)...)
	got := tab.Rows()
	if got[0].Model != "aa" || got[1].Model != "zz" || got[0].Origin != event.CostManual {
		t.Errorf("the first rows are %v, %v", got[0], got[1])
	}
	if !slices.IsSortedFunc(got[2:], func(a, b price.Row) int {
		return strings.Compare(a.Provider+"\x00"+a.Model, b.Provider+"\x00"+b.Model)
	}) {
		t.Error("the table's rows are not sorted")
	}
	if len(price.Default().Rows())+2 != len(got) {
		t.Error("With changed the table it was called on")
	}
}

func TestWithSynced(t *testing.T) {
	day := time.Date(2027, 1, 2, 0, 0, 0, 0, time.UTC)
	sheet := func(date time.Time, yaml string) price.Overlay {
		return price.Overlay{Source: "https://example.com/models", Date: date, Rows: rows(t, yaml)}
	}
	tests := []struct {
		name            string
		overlay         price.Overlay
		provider, model string
		want            string // input/output/cache_read/cache_write_1h per million, origin
	}{
		{"newer wins, and so for the vendor", sheet(day, `[{provider: openrouter, model: openai/gpt-4.1-mini, input: 0.3, output: 1.2}]`),
			"openai", "gpt-4.1-mini-2025-04-14", "0.3/1.2/0.1/? openrouter"},
		{"older does not win", sheet(day.AddDate(-3, 0, 0), `[{provider: openrouter, model: openai/gpt-4.1-mini, input: 0.3, output: 1.2}]`),
			"openai", "gpt-4.1-mini", "0.4/1.6/0.1/? table"},
		{"equal prices keep the detail", sheet(day, `[{provider: openrouter, model: anthropic/claude-sonnet-4.6, input: 3, output: 15}]`),
			"anthropic", "claude-sonnet-4-6-20260217", "3/15/0.3/6 openrouter"},
		{"a new closed model is the vendor's too", sheet(day, `[{provider: openrouter, model: x-ai/grok-99, input: 3, output: 15}]`),
			"xai", "grok-99", "3/15/?/? openrouter"},
		{"an open model is not", sheet(day, `[{provider: openrouter, model: deepseek/deepseek-v99, input: 3, output: 15}]`),
			"deepseek", "deepseek-v99", "none"},
		{"a variant is not", sheet(day, `[{provider: openrouter, model: "openai/gpt-4.1-mini:batch", input: 9, output: 9}]`),
			"openai", "gpt-4.1-mini", "0.4/1.6/0.1/? table"},
		// gpt-5.6 is an alias of gpt-5.6-sol in the built-in table.
		{"a row of the name beats an alias", sheet(day, `[{provider: openrouter, model: openai/gpt-5.6, input: 7, output: 8}, {provider: openrouter, model: openai/gpt-5.6-sol, input: 4, output: 20}]`),
			"openai", "gpt-5.6", "7/8/0.4/? openrouter"},
		{"in any order", sheet(day, `[{provider: openrouter, model: openai/gpt-5.6-sol, input: 4, output: 20}, {provider: openrouter, model: openai/gpt-5.6, input: 7, output: 8}]`),
			"openai", "gpt-5.6", "7/8/0.4/? openrouter"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := "none"
			if r, ok := price.Default().WithSynced(tt.overlay).Match(tt.provider, tt.model); ok {
				got = fmt.Sprintf("%s/%s/%s/%s %s", perMillion(r.Input), perMillion(r.Output), perMillion(r.CacheRead), perMillion(r.CacheWrite1h), r.Origin)
				if r.Origin == event.CostSynced && (r.Source != tt.overlay.Source || !r.Date.Equal(day)) {
					t.Errorf("source %q, date %s", r.Source, r.Date)
				}
			}
			if got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
	own := price.Default().With(rows(t, `[{provider: openai, model: gpt-4.1-mini, input: 99, output: 99}]`)...).WithSynced(sheet(day, `[{provider: openrouter, model: openai/gpt-4.1-mini, input: 0.3, output: 1.2}]`))
	if r, _ := own.Match("openai", "gpt-4.1-mini"); r.Origin != event.CostManual {
		t.Errorf("a synced price won over an own one: %v", r)
	}
}

// TestNewerPrices: one rule holds for a refresh and for a sync. A row replaces what it
// states; what it does not state stays, with its source.
func TestNewerPrices(t *testing.T) {
	day := time.Date(2027, 1, 2, 0, 0, 0, 0, time.UTC)
	refreshed := func(tab *price.Table, model, yaml string) *price.Table {
		return tab.WithRefreshed(price.Overlay{Source: "https://example.com/list", Date: day, Rows: rows(t, "[{provider: openai, model: "+model+", "+yaml+"}]")})
	}
	synced := func(tab *price.Table, model, yaml string) *price.Table {
		return tab.WithSynced(price.Overlay{Source: "https://example.com/list", Date: day, Rows: rows(t, "[{provider: openrouter, model: openai/"+model+", "+yaml+"}]")})
	}
	usage := func(tab *price.Table, model, tier string, input, cached, output int64) string {
		e := &event.Event{Name: event.Generation, Provider: "openai", Model: model, ServiceTier: tier, Timestamp: day.AddDate(0, 0, 1)}
		e.Usage.Input, e.Usage.CacheRead, e.Usage.Output = event.Some(input), event.Some(cached), event.Some(output)
		tab.Price(e)
		if !e.Cost.Total.Known {
			return "unknown"
		}
		return e.Cost.Total.Value.String()
	}
	const million = 1_000_000
	for _, tt := range []struct {
		name, model, yaml string
		tier              string
		input, cached     int64
		refresh, sync     string // cost of the usage with a million tokens of output
		kept              string // in the provenance
	}{
		{"a price that falls is taken", "gpt-4o", "input: 2, output: 8", "", million, 0, "10", "10", "processing=batch"},
		{"a price that rises is taken", "gpt-4o", "input: 3, output: 12", "", million, 0, "15", "15", ""},
		{"the price of the cache stays", "gpt-4o", "input: 2, output: 8", "", million, million, "9.25", "9.25", "cache_read"},
		{"a stated one is taken", "gpt-4o", "input: 2, output: 8, cache_read: 1", "", million, million, "9", "9", "processing=batch"},
		{"batches stay", "gpt-4o", "input: 2, output: 8", "batch", million, 0, "6.25", "6.25", "processing=batch"},
		{"priority stays, with its cache", "gpt-4o", "input: 2, output: 8", "priority", million, million, "19.125", "19.125", "service_tier=priority"},
		{"equal prices change nothing", "gpt-4o", "input: 2.5, output: 10", "priority", million, million, "19.125", "19.125", "cache_read"},
		// The feed had tiers and has none now. OpenRouter's list may just not have them.
		{"tiers", "gpt-5.6-sol", "input: 3, output: 15", "", million, 0, "18", "38", ""},
	} {
		for how, got := range map[string]*price.Table{"refresh": refreshed(price.Default(), tt.model, tt.yaml), "sync": synced(price.Default(), tt.model, tt.yaml)} {
			want := tt.refresh
			if how == "sync" {
				want = tt.sync
			}
			if cost := usage(got, tt.model, tt.tier, tt.input, tt.cached, million); cost != want {
				t.Errorf("%s, %s: it costs %s, want %s", tt.name, how, cost, want)
			}
			row, _ := got.Match("openai", tt.model)
			source, kept, _ := strings.Cut(row.Provenance(), "; ")
			if !strings.Contains(source, "https://example.com/list, 2027-01-02") || !strings.Contains(kept, tt.kept) || !strings.Contains(kept, "the built-in table, https://pypi.org/project/genai-prices") {
				t.Errorf("%s, %s: the price is of %s", tt.name, how, row.Provenance())
			}
		}
	}
	// A sync over a refresh: each part is from the newest that states it.
	both := synced(refreshed(price.Default(), "gpt-4o", "input: 2, output: 8, cache_read: 1"), "gpt-4o", "input: 1.5, output: 6")
	if cost := usage(both, "gpt-4o", "", million, million, million); cost != "7" {
		t.Errorf("a sync over a refresh: %s, want 7", cost)
	}
	own := synced(price.Default().With(rows(t, `[{provider: openai, model: gpt-4o, input: 99, output: 99}]`)...), "gpt-4o", "input: 2, output: 8")
	if cost := usage(own, "gpt-4o", "", million, 0, million); cost != "198" {
		t.Errorf("a sync over an own price: %s, want 198", cost)
	}
	// What LiteLLM and the corrections add to a price stays when that changes.
	for _, r := range price.Default().Rows() {
		for _, k := range r.Kept {
			if r.Provider != "openai" || k.Source == "https://pypi.org/project/genai-prices/0.2.3" {
				continue
			}
			row, _ := refreshed(price.Default(), r.Model, "input: 0.77, output: 7.7").Match("openai", r.Model)
			for _, part := range k.Parts {
				if part != "tiers" && part != "periods" && !slices.ContainsFunc(row.Kept, func(k price.Kept) bool { return slices.Contains(k.Parts, part) }) {
					t.Errorf("%s lost its %s (%s) in a refresh", r.Model, part, k.Source)
				}
			}
		}
	}
	// A name that only the built-in prices have leads to the same model after a refresh.
	if row, ok := refreshed(price.Default(), "gpt-4o", "input: 2, output: 8").Match("openai", "gpt-4o-2024-11-20"); !ok || perMillion(row.Input) != "2" {
		t.Errorf("an alias is lost: %v", row)
	}
}

func perMillion(v price.USD) string {
	if !v.Known {
		return "?"
	}
	return v.Value.Shift(6).String()
}
