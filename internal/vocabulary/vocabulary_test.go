package vocabulary_test

import (
	"strings"
	"testing"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/vocabulary"
)

// A cost that is known in part leaves as "at least that", in each schema, and the
// event itself keeps an unknown total.
func TestIncompleteCost(t *testing.T) {
	usd := func(s string) event.Opt[decimal.Decimal] { return event.Some(decimal.RequireFromString(s)) }
	for _, tt := range []struct {
		name  string
		cost  event.Cost
		total string // "" is none
		mark  bool
	}{
		{"all known", event.Cost{Input: usd("0.1"), Output: usd("0.2"), Total: usd("0.3")}, "0.3", false},
		{"in part", event.Cost{Input: usd("0.1"), Request: usd("0.01")}, "0.11", true},
		{"nothing known", event.Cost{}, "", false},
	} {
		for _, schema := range []event.Schema{event.SchemaPostHog, event.SchemaLLMEvents, event.SchemaBoth} {
			e := &event.Event{UUID: event.NewID(), Name: event.Generation, TraceID: "t", Cost: tt.cost}
			for _, out := range vocabulary.Events(schema, e, e) {
				if out.Name == vocabulary.RequestStarted {
					continue
				}
				b, err := out.MarshalPostHog(event.Wire{})
				if err != nil {
					t.Fatal(err)
				}
				name := `"$ai_total_cost_usd":`
				if out.Name == vocabulary.RequestCompleted {
					name = `"estimated_cost_usd":`
				}
				if has := strings.Contains(string(b), name); has != (tt.total != "") || has && !strings.Contains(string(b), name+tt.total+",") {
					t.Errorf("%s, %s: %s", tt.name, schema, b)
				}
				if strings.Contains(string(b), `"hedgerow_cost_incomplete":true`) != tt.mark {
					t.Errorf("%s, %s: mark %v: %s", tt.name, schema, tt.mark, b)
				}
			}
			if e.Cost.Total.Known != tt.cost.Total.Known || e.Properties[vocabulary.CostIncomplete] != nil {
				t.Errorf("%s: the event has been changed", tt.name)
			}
		}
	}
}
