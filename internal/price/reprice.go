package price

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/hedgerow/hedgerow/event"
)

// GivenProperty is the property in which [Table.Price] lists, separated by commas, the
// parts of a cost that came with an event whose other parts it computed: input,
// output, request, web_search, tools. [Table.Reprice] keeps these parts.
const GivenProperty = "cost_given"

// Reasons of [Table.Reprice] for a cost that stays as it is.
const (
	KeptReported = "cost reported by the provider or sent with the event"
	KeptPriced   = "no price for it in today's table"
	KeptParts    = "a part of the cost was sent with the event, and it is not known which"
)

// Reasons of [Table.Reprice] for a cost that is unknown and stays unknown; what
// was counted and has no price is named as in Cost.Unpriced.
const (
	UnknownModel  = "no price for the model"
	UnknownCounts = "nothing was counted that has a price"
)

// scale is the number of decimals with which the store keeps an amount.
const scale = 18

// Repricing is what [Table.Reprice] has found.
type Repricing struct {
	Changed bool   // some part of the cost, or its source, is another
	Kept    string // why the cost stays although the event has one, or a part; "" otherwise
	Unknown string // why the total is unknown; "" where it is known
}

// Reprice prices an event that was priced before, in place: by this table, at the
// price that was in force at the event's time, with the rules of [Table.Price].
//
// A cost that was reported by the provider or sent with the event stays, unless
// reported is true: then it is computed as if it had not been sent, and stays where
// that gives no total. Parts that were sent with an event whose other parts were
// computed always stay. A known total is never replaced by an unknown one.
//
// Amounts are rounded to 18 decimals, as the store does, so that an event that is
// read back and priced again is unchanged. The property [WarningProperty] is set as
// [Table.Price] sets it; the usage stays.
func (t *Table) Reprice(e *event.Event, reported bool) (a Repricing) {
	if !e.IsCall() {
		return Repricing{}
	}
	old := *e
	wasReported := old.Cost.Source == event.CostPassthrough || old.Cost.Source == event.CostCaller
	keep := func(why string) Repricing {
		*e = old
		return Repricing{Kept: why, Unknown: t.unknown(e)}
	}
	cost := event.Cost{Before: old.Cost.Before, Repricing: old.Cost.Repricing}
	switch {
	case wasReported && !reported:
		return keep(KeptReported)
	case !wasReported && !given(&old, &cost):
		return keep(KeptParts)
	}
	if old.Cost.Source != "" { // else the provider's word would win again
		e.Usage.ReportedCost = USD{}
	}
	e.Properties = withoutWarning(e.Properties)
	e.Cost = cost
	t.Price(e)
	e.Usage = old.Usage
	e.BoundCost()
	for _, v := range []*USD{&e.Cost.Input, &e.Cost.Output, &e.Cost.Request, &e.Cost.WebSearch, &e.Cost.Tools, &e.Cost.Total, &e.Cost.CacheSaved} {
		if v.Known {
			v.Value = v.Value.RoundBank(scale)
		}
	}
	if old.Cost.Total.Known && !e.Cost.Total.Known {
		return keep(KeptPriced)
	}
	a = Repricing{Changed: !old.Cost.Same(&e.Cost), Unknown: t.unknown(e)}
	if !a.Changed {
		*e = old
	}
	return a
}

// unknown says why the total of an event that was priced is unknown.
func (t *Table) unknown(e *event.Event) string {
	switch {
	case e.Cost.Total.Known:
		return ""
	case e.Cost.Unpriced != "":
		return e.Cost.Unpriced
	case t.matchEvent(providerOf(e), e).row == nil:
		return UnknownModel
	}
	return UnknownCounts
}

// partsOf are the parts of a cost by their names in [GivenProperty].
func partsOf(c *event.Cost) []namedPart {
	return []namedPart{{"input", &c.Input}, {"output", &c.Output}, {"request", &c.Request}, {"web_search", &c.WebSearch}, {"tools", &c.Tools}}
}

type namedPart struct {
	name string
	usd  *USD
}

// noteGiven notes in [GivenProperty] which parts came with an event that is about to
// be priced, and removes that property where a client sent it.
func noteGiven(e *event.Event) {
	var names []string
	for _, p := range partsOf(&e.Cost) {
		// An input or output of 0 is computed anyway.
		if p.usd.Known && (!p.usd.Value.IsZero() || p.name != "input" && p.name != "output") {
			names = append(names, p.name)
		}
	}
	if len(names) > 0 {
		_ = e.SetProperty(GivenProperty, strings.Join(names, ",")) // a string marshals always
	} else {
		delete(e.Properties, GivenProperty)
	}
}

// given sets in cost the parts of an event's cost that came with it. It reports
// false where they are not known: the costs of other models were added to them,
// or an event of an older version, which has no [GivenProperty], has a part
// that was not computed, since what it would be computed from was not counted.
func given(e *event.Event, cost *event.Cost) bool {
	to := partsOf(cost)
	others := len(e.ProviderMetadata[event.OtherModels]) > 0
	if raw, ok := e.Properties[GivenProperty]; ok {
		names := strings.Split(rawString(raw), ",")
		for i, p := range partsOf(&e.Cost) {
			if slices.Contains(names, p.name) {
				*to[i].usd = *p.usd
			}
		}
		return !others
	}
	switch {
	case e.Source == event.SourceGateway, others:
		return true // the gateway is sent no costs
	case e.Cost.Source == "": // nothing was computed: what is known was sent
		for i, p := range partsOf(&e.Cost) {
			*to[i].usd = *p.usd
		}
		return true
	}
	u := &e.Usage
	counted := func(list ...event.Int) bool {
		return slices.ContainsFunc(list, func(n event.Int) bool { return n.Known })
	}
	input := counted(u.Input, u.CacheRead, u.CacheWrite, u.CacheWrite5m, u.CacheWrite1h, u.CacheWrite12h, u.InputAudio, u.CacheReadAudio, u.InputImage, u.CacheReadImage, u.InputVideo, u.InputText, u.Pages, u.Characters)
	output := counted(u.Output, u.Reasoning, u.OutputAudio, u.OutputImage, u.OutputVideo, u.OutputText, u.Images)
	for _, p := range []struct {
		usd     USD
		counted bool
	}{
		{e.Cost.Input, input || u.MediaTime.Known},
		{e.Cost.Output, output || u.MediaTime.Known},
		{e.Cost.WebSearch, counted(u.WebSearches)},
		{e.Cost.Tools, counted(u.FileSearches, u.CodeSessions)},
	} {
		if p.usd.Known && !p.counted {
			return false
		}
	}
	return true
}

// withoutWarning is a copy of properties without [WarningProperty].
func withoutWarning(p map[string]json.RawMessage) map[string]json.RawMessage {
	out := make(map[string]json.RawMessage, len(p))
	for k, v := range p {
		if k != WarningProperty {
			out[k] = v
		}
	}
	return out
}
