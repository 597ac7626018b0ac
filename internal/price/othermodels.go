package price

import (
	"cmp"
	"encoding/json"

	"github.com/hedgerow/hedgerow/event"
)

// others adds what the call used of other models, each at its own price: an
// advisor's tokens, or those of a model that another one replaced. Where one of
// them has no price the total is unknown.
func (t *Table) others(e *event.Event) {
	raw := e.ProviderMetadata[event.OtherModels]
	if len(raw) == 0 || e.Cost.Source == event.CostPassthrough {
		return
	}
	var list []event.ModelUsage
	if json.Unmarshal(raw, &list) != nil {
		return
	}
	for _, m := range list {
		part := event.Event{Name: e.Name, Timestamp: e.Timestamp, Provider: e.Provider, BaseURL: e.BaseURL, Model: m.Model, Usage: m.Usage, ServiceTier: e.ServiceTier, Speed: e.Speed, InferenceGeo: e.InferenceGeo}
		t.Price(&part)
		addTo(&e.Cost.Input, part.Cost.Input)
		addTo(&e.Cost.Output, part.Cost.Output)
		switch total := part.Cost.Total; {
		case !total.Known:
			e.Cost.Total, e.Cost.Unpriced = USD{}, cmp.Or(part.Cost.Unpriced, "model "+event.FirstChars(m.Model, 100))
		case e.Cost.Total.Known:
			addTo(&e.Cost.Total, total)
		}
	}
}
