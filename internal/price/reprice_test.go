package price_test

import (
	"encoding/json"
	"testing"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/price"
)

// TestPriceAgain: events that were priced by one table are priced by another, which
// differs in the price of gpt-t, has one of gpt-new and none of gpt-bare. want is the
// total in USD per million calls, ? where unknown.
func TestPriceAgain(t *testing.T) {
	before := price.Default().With(rows(t, testPrices)...)
	after := price.Default().With(rows(t, `
- {provider: openai, model: gpt-t, input: 4, output: 8, cache_read: 0.5, periods: [{to: 2026-11-01, input: 3, output: 8}]}
- {provider: openai, model: gpt-new, input: 1, output: 1}
- {provider: openai, model: gpt-search, input: 2, output: 8}
- {provider: anthropic, model: claude-t, input: 3, output: 15, cache_read: 0.3, cache_write: 3.75, cache_write_1h: 6, web_search: 0.01}
`)...)
	usage := event.Usage{Input: n(1000), Output: n(100)}
	sdk := func(change func(*event.Event)) func(*event.Event) {
		return func(e *event.Event) { e.Source = event.SourceIngest; change(e) }
	}
	for _, c := range []struct {
		name, model string
		usage       event.Usage
		change      func(*event.Event)
		old         func(*event.Event) // what an older version had recorded
		reported    bool
		first, want string
		again       price.Repricing
	}{
		{name: "a price that has changed", model: "gpt-t", usage: usage, first: "2800", want: "4800", again: price.Repricing{Changed: true}},
		{name: "the price of its day", model: "gpt-t", usage: usage, change: func(e *event.Event) { e.Timestamp = e.Timestamp.AddDate(0, -2, 0) }, first: "2800", want: "3800", again: price.Repricing{Changed: true}},
		{name: "a price that was unknown", model: "gpt-new", usage: usage, first: "?", want: "1100", again: price.Repricing{Changed: true}},
		{name: "the same price", model: "claude-t", usage: usage, first: "4500", want: "4500"},
		{name: "still unknown", model: "gpt-nobody", usage: usage, first: "?", want: "?", again: price.Repricing{Unknown: price.UnknownModel}},
		{name: "nothing counted", model: "gpt-t", first: "?", want: "?", again: price.Repricing{Unknown: price.UnknownCounts}},
		{name: "no price any more", model: "gpt-bare", usage: usage, first: "2800", want: "2800", again: price.Repricing{Kept: price.KeptPriced}},
		{name: "a part has no price any more", model: "gpt-search", usage: event.Usage{Input: n(1000), Output: n(100), WebSearches: n(2)}, first: "22800", want: "22800", again: price.Repricing{Kept: price.KeptPriced}},
		{name: "a tier without a price", model: "gpt-new", usage: usage, change: func(e *event.Event) { e.ServiceTier = "scale" }, first: "?", want: "?", again: price.Repricing{Changed: true, Unknown: "service_tier scale"}},
		{name: "reported by the provider", model: "gpt-t", usage: event.Usage{Input: n(1000), Output: n(100), ReportedCost: usd("0.5")}, first: "500000", want: "500000", again: price.Repricing{Kept: price.KeptReported}},
		{name: "reported, and asked for", model: "gpt-t", usage: event.Usage{Input: n(1000), Output: n(100), ReportedCost: usd("0.5")}, reported: true, first: "500000", want: "4800", again: price.Repricing{Changed: true}},
		{name: "reported, asked for, without a price", model: "gpt-nobody", usage: event.Usage{Input: n(1000), Output: n(100), ReportedCost: usd("0.5")}, reported: true, first: "500000", want: "500000", again: price.Repricing{Kept: price.KeptPriced}},
		{name: "a total of the client", model: "gpt-t", usage: usage, change: sdk(func(e *event.Event) { e.Cost.Total = usd("0.25") }), first: "250000", want: "250000", again: price.Repricing{Kept: price.KeptReported}},
		{name: "reported by the caller", model: "gpt-t", usage: usage, change: sdk(func(e *event.Event) {
			e.Name, e.Cost.Total, e.Cost.Source = event.RequestCompleted, usd("0.25"), event.CostCaller
		}), first: "250000", want: "250000", again: price.Repricing{Kept: price.KeptReported}},
		{name: "prices of the event's own", model: "gpt-t", usage: usage, change: sdk(func(e *event.Event) {
			e.Properties = map[string]json.RawMessage{"$ai_input_token_price": json.RawMessage("0.000001"), "$ai_output_token_price": json.RawMessage("0.000001")}
		}), first: "1100", want: "1100"},
		{name: "a part of the client stays", model: "gpt-t", usage: usage, change: sdk(func(e *event.Event) { e.Cost.Request = usd("0.001") }), first: "3800", want: "5800", again: price.Repricing{Changed: true}},
		{name: "a part of the client, and no price before", model: "gpt-new", usage: usage, change: sdk(func(e *event.Event) { e.Cost.Request = usd("0.001") }), first: "?", want: "2100", again: price.Repricing{Changed: true}},
		{name: "an older version's event with a part of the client", model: "gpt-t", usage: usage, change: sdk(func(e *event.Event) { e.Cost.WebSearch = usd("0.001") }),
			old: func(e *event.Event) { delete(e.Properties, price.GivenProperty) }, first: "3800", want: "3800", again: price.Repricing{Kept: price.KeptParts}},
		{name: "what a client says of the parts is no matter", model: "gpt-t", usage: usage, change: sdk(func(e *event.Event) {
			e.Properties = map[string]json.RawMessage{price.GivenProperty: json.RawMessage(`"input"`)}
		}), first: "2800", want: "4800", again: price.Repricing{Changed: true}},
		{name: "an advisor's tokens", model: "claude-t", usage: usage, change: func(e *event.Event) {
			e.ProviderMetadata = map[string]json.RawMessage{event.OtherModels: json.RawMessage(`[{"model":"claude-t","usage":{"input":1000,"output":0}}]`)}
		}, first: "7500", want: "7500"},
	} {
		provider := "openai"
		if c.model == "claude-t" {
			provider = "anthropic"
		}
		e := call(provider, c.model, c.usage)
		if c.change != nil {
			c.change(e)
		}
		before.Price(e)
		if c.old != nil {
			c.old(e)
		}
		if got := totalOf(e); got != c.first {
			t.Errorf("%s: first %s, want %s", c.name, got, c.first)
		}
		was := e.Clone()
		got := after.Reprice(e, c.reported)
		if got != c.again || totalOf(e) != c.want {
			t.Errorf("%s: %+v, total %s; want %+v, %s", c.name, got, totalOf(e), c.again, c.want)
		}
		if !got.Changed && (e.Cost != was.Cost || len(e.Properties) != len(was.Properties)) {
			t.Errorf("%s: unchanged, yet %+v of %+v", c.name, e.Cost, was.Cost)
		}
		if e.Usage.ReportedCost != was.Usage.ReportedCost {
			t.Errorf("%s: the provider's own cost is lost", c.name)
		}
		if second := after.Reprice(e, false); second.Changed || totalOf(e) != c.want {
			t.Errorf("%s: a second time: %+v, total %s", c.name, second, totalOf(e))
		}
	}
}

func totalOf(e *event.Event) string {
	if !e.Cost.Total.Known {
		return "?"
	}
	return e.Cost.Total.Value.Shift(6).String()
}
