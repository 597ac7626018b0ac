package reconcile

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/price"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

// table has the models of the tests: m costs 2 USD per million tokens of input, 0.5 of
// cached input, 8 of output, half in batches; n is unknown; p costs 0.04 USD a picture.
var table = sync.OnceValue(func() *price.Table {
	usd := func(s string) price.USD { return event.Some(decimal.RequireFromString(s)) }
	half := price.Rates{Input: usd("0.000001"), CacheRead: usd("0.00000025"), Output: usd("0.000004")}
	return price.Default().With(
		price.Row{Provider: OpenAI, Model: "m", Rates: price.Rates{Input: usd("0.000002"), CacheRead: usd("0.0000005"), Output: usd("0.000008")}, Variants: []price.Variant{{When: "processing=batch", Rates: half}}},
		price.Row{Provider: OpenAI, Model: "p", Rates: price.Rates{Image: usd("0.04")}},
	)
})

const day1 = "2026-11-01"

func dec(s string) decimal.Decimal { return decimal.RequireFromString(s) }

func some(s string) Amount {
	if s == "" {
		return Amount{}
	}
	return event.Some(dec(s))
}

// cost is a billed line, quantity a counted one.
func cost(model, tier string, k Kind, usd string) Line {
	return Line{Day: day1, Model: model, Tier: tier, Kind: k, USD: some(usd), Rows: 1, Item: string(k)}
}

func quantity(model, tier string, k Kind, n string, requests int64) Line {
	l := Line{Day: day1, Model: model, Tier: tier, Kind: k, Quantity: some(n)}
	if requests > 0 {
		l.Requests = event.Some(requests)
	}
	return l
}

func called(model, tier string, n int64, in, cached, out int64, usd string) query.BilledCalls {
	return query.BilledCalls{Day: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), Provider: OpenAI, Model: model, Tier: tier, Costed: usd != "", Calls: n, Input: in, CacheRead: cached, Output: out, CostUSD: query.USD(some(usd)), ToolsUSD: query.USD(some("0"))}
}

// compared is the report of one day.
func compared(t testing.TB, bill, usage []Line, step string, calls ...query.BilledCalls) *Report {
	t.Helper()
	var records []dayRecord
	if bill != nil {
		records = append(records, dayRecord{Feed: OpenAICosts, Account: "default", Day: day1, Step: dec(step), Lines: bill})
	}
	if usage != nil {
		records = append(records, dayRecord{Feed: usageFeed("completions"), Account: "default", Day: day1, Lines: usage})
	}
	from := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	r := build(Question{Project: "default", Provider: OpenAI, From: from, To: from.AddDate(0, 0, 1)}, records, calls, table())
	for _, row := range append(append(append([]Row{r.Total}, r.Days...), r.Models...), r.Cells...) {
		sumsUp(t, row)
	}
	return r
}

// sumsUp checks that the causes sum up to the difference, exactly.
func sumsUp(t testing.TB, r Row) {
	t.Helper()
	if !r.Difference.Known {
		if len(r.Causes) > 0 {
			t.Errorf("%s %s: causes of an unknown difference: %+v", r.Day, r.Model, r.Causes)
		}
		return
	}
	if !r.ProviderUSD.Value.Sub(r.HedgerowUSD.Value).Equal(r.Difference.Value) {
		t.Errorf("%s %s: %s − %s is not %s", r.Day, r.Model, r.ProviderUSD.Value, r.HedgerowUSD.Value, r.Difference.Value)
	}
	sum := decimal.Zero
	for _, c := range r.Causes {
		sum = sum.Add(c.USD.Value)
		items := decimal.Zero
		for _, i := range c.Items {
			items = items.Add(i.USD.Value)
		}
		if c.Reason == ReasonTools && !items.Equal(c.USD.Value) {
			t.Errorf("%s %s: the lines of %s sum up to %s, not %s", r.Day, r.Model, c.Label, items, c.USD.Value)
		}
	}
	if !sum.Equal(r.Difference.Value) {
		t.Errorf("%s %s: the causes sum up to %s, the difference is %s: %+v", r.Day, r.Model, sum, r.Difference.Value, r.Causes)
	}
	if r.Causes[len(r.Causes)-1].Reason != ReasonOpen {
		t.Errorf("%s %s: the remainder is not named: %+v", r.Day, r.Model, r.Causes)
	}
}

func causesOf(r Row) string {
	var out []string
	for _, c := range r.Causes {
		usd := "?"
		if c.USD.Known {
			usd = c.USD.Value.String()
		}
		out = append(out, string(c.Reason)+" "+usd)
	}
	return strings.Join(out, ", ")
}

func TestExplain(t *testing.T) {
	// 1,000,000 input and 100,000 output tokens of m: 2 + 0.8 USD.
	same := []Line{cost("m", "", Input, "2"), cost("m", "", Output, "0.8")}
	use := []Line{quantity("m", "standard", Input, "1000000", 10), quantity("m", "standard", Output, "100000", 0)}
	recorded := called("m", "", 10, 1_000_000, 0, 100_000, "2.8")
	for _, c := range []struct {
		name        string
		bill, usage []Line
		step        string
		calls       []query.BilledCalls
		want        string
	}{
		{"equal", same, use, "0.0001", []query.BilledCalls{recorded}, "open 0"},
		{"equal without usage", same, nil, "0.0001", []query.BilledCalls{recorded}, "open 0"},
		{"rounding", []Line{cost("m", "", Input, "2"), cost("m", "", Output, "0.79")}, use, "0.01", []query.BilledCalls{called("m", "", 10, 1_000_000, 0, 100_000, "2.798")}, "rounding -0.008, open 0"},
		{"rounding without usage", []Line{cost("m", "", Input, "2"), cost("m", "", Output, "0.79")}, nil, "0.01", []query.BilledCalls{called("m", "", 10, 1_000_000, 0, 100_000, "2.798")}, "rounding -0.008, open 0"},
		{"outside", []Line{cost("m", "", Input, "3"), cost("m", "", Output, "1.6")},
			[]Line{quantity("m", "standard", Input, "1500000", 14), quantity("m", "standard", Output, "200000", 0)}, "0.0001", []query.BilledCalls{recorded}, "outside 1.8, open 0"},
		{"all outside", same, use, "0.0001", nil, "outside 2.8, open 0"},
		{"outside without usage", []Line{cost("m", "", Input, "3"), cost("m", "", Output, "1.6")}, nil, "0.0001", []query.BilledCalls{recorded}, "outside ?, open 1.8"},
		{"not on the bill", []Line{}, []Line{}, "0.0001", []query.BilledCalls{recorded}, "not_billed -2.8, open 0"},
		{"fewer on the bill", []Line{cost("m", "", Input, "1"), cost("m", "", Output, "0.4")},
			[]Line{quantity("m", "standard", Input, "500000", 5), quantity("m", "standard", Output, "50000", 0)}, "0.0001", []query.BilledCalls{recorded}, "not_billed -1.4, open 0"},
		{"unknown prices", []Line{cost("n", "", Input, "3"), cost("n", "", Output, "1")},
			[]Line{quantity("n", "standard", Input, "1000000", 10), quantity("n", "standard", Output, "100000", 0)}, "0.0001", []query.BilledCalls{called("n", "", 10, 1_000_000, 0, 100_000, "")}, "unknown_prices 4, open 0"},
		{"some prices unknown", []Line{cost("m", "", Input, "3"), cost("m", "", Output, "1.2")},
			[]Line{quantity("m", "standard", Input, "1500000", 15), quantity("m", "standard", Output, "150000", 0)}, "0.0001", []query.BilledCalls{recorded, called("m", "", 5, 500_000, 0, 50_000, "")}, "unknown_prices 1.4, open 0"},
		{"no counts recorded", []Line{cost("m", "", Input, "3"), cost("m", "", Output, "1.6")},
			[]Line{quantity("m", "standard", Input, "1500000", 14), quantity("m", "standard", Output, "200000", 0)}, "0.0001",
			[]query.BilledCalls{recorded, {Day: recorded.Day, Provider: OpenAI, Model: "m", Calls: 4, Unmetered: 4}}, "unknown_prices 1.8, open 0"},
		{"half without counts", []Line{cost("m", "", Input, "3"), cost("m", "", Output, "1.6")},
			[]Line{quantity("m", "standard", Input, "1500000", 14), quantity("m", "standard", Output, "200000", 0)}, "0.0001",
			[]query.BilledCalls{recorded, {Day: recorded.Day, Provider: OpenAI, Model: "m", Calls: 2, Unmetered: 2}}, "outside 0.9, unknown_prices 0.9, open 0"},
		{"failed calls cost nothing", same, use, "0.0001", []query.BilledCalls{recorded, {Day: recorded.Day, Provider: OpenAI, Model: "m", Calls: 3, Failed: 3}}, "open 0"},
		{"batch recorded as standard", []Line{cost("m", "", Input, "1"), cost("m", "", Output, "0.4")},
			[]Line{quantity("m", "batch", Input, "1000000", 10), quantity("m", "batch", Output, "100000", 0)}, "0.0001", []query.BilledCalls{recorded}, "tiers -1.4, open 0"},
		{"half in batches", []Line{cost("m", "", Input, "1.5"), cost("m", "", Output, "0.6")},
			[]Line{quantity("m", "batch", Input, "500000", 5), quantity("m", "batch", Output, "50000", 0), quantity("m", "standard", Input, "500000", 5), quantity("m", "standard", Output, "50000", 0)}, "0.0001", []query.BilledCalls{recorded}, "tiers -0.7, open 0"},
		{"priority, as the bill says", []Line{cost("m", "priority", Input, "4"), cost("m", "priority", Output, "1.6")},
			[]Line{quantity("m", "priority", Input, "1000000", 10), quantity("m", "priority", Output, "100000", 0)}, "0.0001", []query.BilledCalls{recorded}, "tiers 2.8, open 0"},
		{"outside in batches", []Line{cost("m", "", Input, "2.5"), cost("m", "", Output, "0.8")},
			append([]Line{quantity("m", "batch", Input, "500000", 1)}, use...), "0.0001", []query.BilledCalls{recorded}, "outside 0.5, open 0"},
		{"cached input recorded as uncached", []Line{cost("m", "", Input, "0.8"), cost("m", "", CacheRead, "0.3"), cost("m", "", Output, "0.8")},
			[]Line{quantity("m", "standard", Input, "400000", 10), quantity("m", "standard", CacheRead, "600000", 0), quantity("m", "standard", Output, "100000", 0)}, "0.0001", []query.BilledCalls{recorded}, "cached -0.9, open 0"},
		{"tools", append([]Line{cost("", "", WebSearch, "0.25"), cost("", "", Other, "0.1")}, same...), use, "0.0001", []query.BilledCalls{recorded}, "tools 0.35, open 0"},
		{"tools on both sides", append([]Line{cost("", "", WebSearch, "0.25")}, same...), use, "0.0001",
			[]query.BilledCalls{{Day: recorded.Day, Provider: OpenAI, Model: "m", Costed: true, Calls: 10, Input: 1_000_000, Output: 100_000, CostUSD: query.USD(some("3.05")), ToolsUSD: query.USD(some("0.25"))}}, "tools 0, open 0"},
		{"discount", []Line{cost("m", "", Input, "1.8"), cost("m", "", Output, "0.72")}, use, "0.0001", []query.BilledCalls{recorded}, "prices -0.28, open 0"},
		{"one total of the model", []Line{cost("m", "", Total, "2.8")}, use, "0.0001", []query.BilledCalls{recorded}, "open 0"},
		{"one total and calls outside", []Line{cost("m", "", Total, "3.8")}, append([]Line{quantity("m", "standard", CacheRead, "2000000", 1)}, use...), "0.0001", []query.BilledCalls{recorded}, "outside 1, open 0"},
		{"one total of the day", []Line{cost("", "", Total, "3")}, use, "0.0001", []query.BilledCalls{recorded}, "prices 0.2, open 0"},
		{"tiers that usage does not name", same, []Line{quantity("m", "", Input, "1000000", 10), quantity("m", "", Output, "100000", 0)}, "0.0001",
			[]query.BilledCalls{called("m", "default", 5, 500_000, 0, 50_000, "1.4"), called("m", "", 5, 500_000, 0, 50_000, "1.4")}, "open 0"},
		{"pictures", []Line{cost("p", "", Images, "0.4")}, []Line{quantity("p", "", Images, "10", 10)}, "0.0001",
			[]query.BilledCalls{{Day: recorded.Day, Provider: OpenAI, Model: "p", Costed: true, Calls: 8, Images: 8, CostUSD: query.USD(some("0.32"))}}, "outside 0.08, open 0"},
		{"a kind without a quantity", append([]Line{cost("m", "", InputAudio, "0.5")}, same...), use, "0.0001", []query.BilledCalls{recorded}, "open 0.5"},
		{"no rate for what only hedgerow counts", same, use, "0.0001",
			[]query.BilledCalls{called("m", "ultrafast", 10, 1_000_000, 0, 100_000, "2.8")}, "tiers ?, open 0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := compared(t, c.bill, c.usage, c.step, c.calls...)
			if got := causesOf(r.Total); got != c.want {
				t.Errorf("%s, want %s\n%+v", got, c.want, r.Cells)
			}
			if causesOf(r.Days[0]) != causesOf(r.Total) {
				t.Errorf("the day has %s", causesOf(r.Days[0]))
			}
		})
	}
}

// TestNoBill: without a bill the provider's figure and the difference are unknown, and
// the day is in no sum.
func TestNoBill(t *testing.T) {
	r := compared(t, nil, []Line{quantity("m", "standard", Input, "5", 1)}, "0", called("m", "", 1, 5, 0, 0, "0.00001"))
	if r.Total.Difference.Known || r.Total.ProviderUSD.Known || r.Total.HedgerowUSD.Known || len(r.NoBill) != 1 || len(r.Models) != 0 {
		t.Errorf("%+v", r)
	}
	if d := r.Days[0]; d.ProviderUSD.Known || d.HedgerowUSD.Value.String() != "0.00001" || d.ProviderTokens.Value != 5 {
		t.Errorf("%+v", d)
	}
}

// TestSums: for any bill, counts and records, the causes sum up exactly.
func TestSums(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	models, tiers := []string{"m", "n", "p", ""}, []string{"", "standard", "batch", "flex"}
	kinds := []Kind{Input, CacheRead, CacheWrite1h, InputAudio, Output, OutputImage, Images, Seconds, WebSearch, Other, Total}
	pick := func(list []string) string { return list[rnd.IntN(len(list))] }
	for range 300 {
		bill, usage, calls := []Line{}, []Line{}, []query.BilledCalls{}
		for range rnd.IntN(6) {
			bill = append(bill, cost(pick(models), pick(tiers), kinds[rnd.IntN(len(kinds))], fmt.Sprintf("%d.%07d", rnd.IntN(3), rnd.IntN(10_000_000))))
		}
		for range rnd.IntN(6) {
			usage = append(usage, quantity(pick(models), pick(tiers), kinds[rnd.IntN(len(kinds)-3)], fmt.Sprint(rnd.IntN(1_000_000)), rnd.Int64N(20)))
		}
		for range rnd.IntN(5) {
			usd := ""
			if rnd.IntN(3) > 0 {
				usd = fmt.Sprintf("%d.%07d", rnd.IntN(3), rnd.IntN(10_000_000))
			}
			b := called(pick(models), pick(tiers), 1+rnd.Int64N(20), rnd.Int64N(1_000_000), rnd.Int64N(1000), rnd.Int64N(100_000), usd)
			b.Images, b.Failed, b.CacheWrite = rnd.Int64N(3), rnd.Int64N(2), rnd.Int64N(50)
			if usd == "" {
				b.Unmetered, b.ToolsUSD = rnd.Int64N(2), query.USD{}
			}
			calls = append(calls, b)
		}
		compared(t, bill, usage, "0.0000001", calls...)
	}
}

// TestModelKey: names of one model have one key, those of different ones do not.
func TestModelKey(t *testing.T) {
	prices := price.Default()
	for _, c := range []struct {
		provider string
		same     []string
	}{
		{OpenAI, []string{"gpt-4o-mini", "gpt-4o-mini-2024-07-18", "GPT-4o-mini"}},
		{OpenAI, []string{"gpt-4o-2024-05-13"}},
		{OpenAI, []string{"gpt-4o", "gpt-4o-2024-08-06"}},
		{OpenAI, []string{"my-model"}},
		{Anthropic, []string{"claude-haiku-4-5", "claude-haiku-4-5-20251001", "Claude Haiku 4.5"}},
		{Anthropic, []string{"claude-3-5-sonnet-20241022", "Claude 3.5 Sonnet 2024-10-22", "Claude 3.5 Sonnet"}},
		{Anthropic, []string{"claude-opus-4-20250514", "Claude Opus 4"}},
		{Anthropic, []string{"claude-opus-4-1-20250805", "Claude Opus 4.1"}},
		{Bedrock, []string{"anthropic.claude-sonnet-4-6", "us.anthropic.claude-sonnet-4-6", "Claude4.6Sonnet", "Claude Sonnet 4.6"}},
		{Bedrock, []string{"anthropic.claude-3-5-sonnet-20241022-v2:0", "Claude 3.5 Sonnet v2", "Claude3.5Sonnet"}},
		{Bedrock, []string{"amazon.nova-lite-v1:0", "eu.amazon.nova-lite-v1:0", "NovaLite"}},
		{Bedrock, []string{"amazon.nova-2-lite-v1:0", "Nova2.0Lite"}},
		{Bedrock, []string{"openai.gpt-oss-120b-1:0", "openai.gpt-oss-120b"}},
		{Bedrock, []string{"meta.llama3-3-70b-instruct-v1:0", "us.meta.llama3-3-70b-instruct-v1:0", "Llama3.3-70B-Instruct"}},
		{OpenRouter, []string{"openai/gpt-4o-mini", "openai/gpt-4o-mini-2024-07-18"}},
		{OpenRouter, []string{"anthropic/claude-sonnet-4.5", "anthropic/claude-4.5-sonnet-20250929"}},
	} {
		for _, name := range c.same {
			if got, want := modelKey(prices, c.provider, name), modelKey(prices, c.provider, c.same[0]); got != want || got == "" {
				t.Errorf("%s: %s is %s, %s is %s", c.provider, name, got, c.same[0], want)
			}
		}
	}
	for _, pair := range [][3]string{
		{OpenAI, "gpt-4o", "gpt-4o-2024-05-13"}, {OpenAI, "gpt-4o", "gpt-4o-mini"}, {Anthropic, "claude-opus-4-1", "claude-opus-4"}, {Anthropic, "claude-sonnet-4-6", "claude-sonnet-4-5"},
		{Bedrock, "NovaLite", "Nova2.0Lite"}, {Bedrock, "NovaLite", "NovaPro"}, {Bedrock, "Claude4.6Sonnet", "Claude4.6Opus"},
	} {
		if a, b := modelKey(prices, pair[0], pair[1]), modelKey(prices, pair[0], pair[2]); a == b {
			t.Errorf("%s and %s are both %s", pair[1], pair[2], a)
		}
	}
}

// TestManyModels: a bill with very many models is compared in about a second.
func TestManyModels(t *testing.T) {
	var bill []Line
	for i := range 20_000 {
		bill = append(bill, cost("model-"+strconv.Itoa(i), "", Output, "0.01"))
	}
	begin := time.Now()
	r := compared(t, bill, nil, "0.01")
	if took := time.Since(begin); len(r.Models) != 20_000 || r.Total.ProviderUSD.Value.String() != "200" || took > 20*time.Second {
		t.Errorf("%d models, %s USD, after %s", len(r.Models), r.Total.ProviderUSD.Value, took)
	}
}
