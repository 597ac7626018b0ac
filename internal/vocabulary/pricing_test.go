package vocabulary_test

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/price"
	"github.com/hedgerow/hedgerow/internal/simulate/posthog"
	"github.com/hedgerow/hedgerow/internal/vocabulary"
)

// TestPostHogTakesCosts: what hedgerow has priced, in whole or in part, PostHog does not
// price again by its own table. What hedgerow has no price for at all PostHog does price.
func TestPostHogTakesCosts(t *testing.T) {
	n := func(v int64) event.Int { return event.Some(v) }
	usd := func(s string) event.Opt[decimal.Decimal] { return event.Some(decimal.RequireFromString(s)) }
	for _, tt := range []struct {
		name, provider, model string
		change                func(*event.Event)
		want                  string // the total that PostHog has
		incomplete            bool
		source                string
	}{
		{"tokens", "openai", "gpt-4.1", func(e *event.Event) { e.Usage = event.Usage{Input: n(1000), Output: n(1000)} }, "0.01", false, posthog.CostPassthrough},
		{"cached input, of which only hedgerow knows all prices", "deepseek", "deepseek-flash", func(e *event.Event) {
			e.Usage = event.Usage{Input: n(1000), CacheRead: n(1000), Output: n(1)}
		}, "0.0000036", false, posthog.CostPassthrough},
		{"a tier", "openai", "gpt-5", func(e *event.Event) { e.ServiceTier, e.Usage = "flex", event.Usage{Input: n(1000), Output: n(1000)} }, "0.005625", false, posthog.CostPassthrough},
		{"input only", "openai", "text-embedding-3-small", func(e *event.Event) { e.Name, e.Usage = event.Embedding, event.Usage{Input: n(1000)} }, "0.00002", false, posthog.CostPassthrough},
		{"no output", "openai", "gpt-4.1", func(e *event.Event) { e.Usage = event.Usage{Input: n(1000), Output: n(0)} }, "0.002", false, posthog.CostPassthrough},
		{"free", "openai", "omni-moderation-latest", func(e *event.Event) { e.Usage = event.Usage{Input: n(1000), Output: n(1000)} }, "0", false, posthog.CostPassthrough},
		{"pieces", "openai", "dall-e-3", func(e *event.Event) { e.Usage = event.Usage{Images: n(2)} }, "0.08", false, posthog.CostPassthrough},
		{"a search that has no price", "openai", "gpt-3.5-turbo", func(e *event.Event) { e.Usage = event.Usage{Input: n(1000), Output: n(0), WebSearches: n(3)} }, "0.0005", true, posthog.CostPassthrough},
		{"the same with output", "openai", "gpt-3.5-turbo", func(e *event.Event) { e.Usage = event.Usage{Input: n(1000), Output: n(1000), WebSearches: n(3)} }, "0.002", true, posthog.CostPassthrough},
		{"an output that is estimated", "openai", "gpt-4.1", func(e *event.Event) { e.Usage = event.Usage{Input: n(1000), OutputEstimated: n(500)} }, "0.002", true, posthog.CostPassthrough},
		{"the provider's word", "openrouter", "openai/gpt-4.1", func(e *event.Event) {
			e.Usage = event.Usage{Input: n(1000), Output: n(1000), ReportedCost: usd("0.007")}
		}, "0.007", false, posthog.CostPassthrough},
		{"a tier without a price: no part is known", "openai", "gpt-3.5-turbo", func(e *event.Event) {
			e.ServiceTier, e.Usage = "scale", event.Usage{Input: n(1000), Output: n(1000)}
		}, "2000000", false, posthog.CostTable},
		{"no price at all", "openai", "no-such-model", func(e *event.Event) { e.Usage = event.Usage{Input: n(1000), Output: n(1000)} }, "2000000", false, posthog.CostTable},
	} {
		e := &event.Event{UUID: event.NewID(), Name: event.Generation, TraceID: "t", Provider: tt.provider, Model: tt.model, Timestamp: time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)}
		tt.change(e)
		price.Default().Price(e)
		for _, out := range vocabulary.Events(event.SchemaPostHog, e, e) {
			b, err := out.MarshalPostHog(event.Wire{})
			if err != nil {
				t.Fatal(err)
			}
			var got posthog.Event
			var wire struct{ Properties map[string]json.RawMessage }
			if err := json.Unmarshal(b, &wire); err != nil {
				t.Fatal(err)
			}
			got.Properties = wire.Properties
			// A table in which everything is so dear that pricing again shows.
			table := map[string]posthog.Price{tt.model: {Input: 1000, Output: 1000, Request: 1000, WebSearch: 1000}}
			total, source, known := got.Cost(table)
			want, _ := decimal.RequireFromString(tt.want).Float64()
			wanted := want
			if tt.source == posthog.CostTable {
				wanted += 1000 // the request
			}
			if !known || source != tt.source || math.Abs(total-wanted) > 1e-12 {
				t.Errorf("%s: PostHog has %v from %q, want %s from %q: %s", tt.name, total, source, tt.want, tt.source, b)
			}
			if mark := string(got.Properties[vocabulary.CostIncomplete]) == "true"; mark != tt.incomplete {
				t.Errorf("%s: the mark of an incomplete cost is %v", tt.name, mark)
			}
		}
	}
}
