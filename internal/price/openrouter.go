package price

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
)

// notOpenRouterHint reports what [ParseOpenRouter] can read.
const notOpenRouterHint = `give the address or a saved copy of OpenRouter's models list: {"data": [{"id": "vendor/model", "pricing": {"prompt": "0.0000004", "completion": "0.0000016"}}]}`

// openRouterPrices are the members of "pricing" that price a token, and the rate
// that each is. The prices of pictures (image, image_output) are per picture;
// events count their tokens, so they are left out.
var openRouterPrices = []struct {
	name string
	at   func(*Rates) *USD
}{
	{"prompt", func(r *Rates) *USD { return &r.Input }},
	{"completion", func(r *Rates) *USD { return &r.Output }},
	{"input_cache_read", func(r *Rates) *USD { return &r.CacheRead }},
	{"input_cache_write", func(r *Rates) *USD { return &r.CacheWrite }},
	{"input_cache_write_1h", func(r *Rates) *USD { return &r.CacheWrite1h }},
	{"internal_reasoning", func(r *Rates) *USD { return &r.Reasoning }},
	{"audio", func(r *Rates) *USD { return &r.InputAudio }},
	{"audio_output", func(r *Rates) *USD { return &r.OutputAudio }},
	{"input_audio_cache", func(r *Rates) *USD { return &r.CacheReadAudio }},
	{"image_token", func(r *Rates) *USD { return &r.InputImage }},
}

// ParseOpenRouter reads prices in the form of OpenRouter's GET /api/v1/models
// (schema PublicPricing of its OpenAPI document): data[].id and data[].pricing,
// whose members are decimal strings in USD per token; request and web_search
// are USD each. Members that it does not know are skipped. The rows are those
// of provider "openrouter", sorted by model, without source and date.
//
// A price of 0 means there that nothing is charged apart, so it is unknown here;
// only the ":free" variants of models cost nothing. A model has no row
//
//   - if its price varies (-1) or no price of its tokens can be read;
//   - if it is on discount: the list does not say whether its prices have that
//     taken off, and the vendor's own price is without it;
//   - if it is one of the moving names ("~vendor/family-latest").
//
// A cache write below the price of plain input is what OpenRouter adds to it for five
// minutes of storage (Gemini): the price is the sum. Entries of "overrides" whose only condition
// is min_prompt_tokens become tiers; those by time of day are left out.
//
// Errors are [*event.Error]: what was read is not such a list, or has no price.
func ParseOpenRouter(r io.Reader) ([]Row, error) {
	var list struct {
		Data []json.RawMessage `json:"data"`
	}
	if err := json.NewDecoder(r).Decode(&list); err != nil {
		// The reader's own errors (too large, connection lost) say more than ours.
		if e := (*event.Error)(nil); errors.As(err, &e) {
			return nil, err
		}
		return nil, event.NewError(event.CodeInvalid, "the list of prices is not in the form of OpenRouter's models API", notOpenRouterHint, err)
	}
	rows := []Row{}
	seen := make(map[string]bool)
	for _, item := range list.Data {
		row, ok := openRouterRow(item)
		if key := nameKey(row.Model); ok && !seen[key] {
			seen[key] = true
			rows = append(rows, row)
		}
	}
	if len(rows) == 0 {
		return nil, event.Invalid(fmt.Sprintf("none of the %d models in the list has a price", len(list.Data)), notOpenRouterHint)
	}
	slices.SortFunc(rows, func(a, b Row) int { return strings.Compare(a.Model, b.Model) })
	return rows, nil
}

func openRouterRow(item json.RawMessage) (Row, bool) {
	var m struct {
		ID      string                     `json:"id"`
		Pricing map[string]json.RawMessage `json:"pricing"`
	}
	if json.Unmarshal(item, &m) != nil {
		return Row{}, false
	}
	id := strings.ToLower(strings.TrimSpace(m.ID))
	if id == "" || len(id) > maxName || strings.HasPrefix(id, "~") || listed(m.Pricing["discount"]).IsPositive() {
		return Row{}, false
	}
	r := Row{Provider: "openrouter", Model: id, Origin: event.CostSynced}
	if strings.HasSuffix(id, ":free") {
		r.Rates = Rates{Input: zero, Output: zero}
		return r, true
	}
	if listed(m.Pricing["prompt"]).IsNegative() || listed(m.Pricing["completion"]).IsNegative() {
		return Row{}, false
	}
	r.Rates = openRouterRates(m.Pricing)
	if r.Rates == (Rates{}) {
		return Row{}, false
	}
	r.Rates.tidy(r.Rates)
	r.Request = listedPrice(m.Pricing["request"], maxPerUse)
	r.WebSearch = listedPrice(m.Pricing["web_search"], maxPerUse)
	r.Tiers = openRouterTiers(m.Pricing["overrides"], r.Rates)
	return r, true
}

func openRouterRates(pricing map[string]json.RawMessage) Rates {
	var r Rates
	for _, p := range openRouterPrices {
		*p.at(&r) = listedPrice(pricing[p.name], maxPerToken)
	}
	return r
}

// tidy derives prices from values that are not prices by themselves, given the
// rates that apply where r has none.
func (r *Rates) tidy(base Rates) {
	in, out := r.Input, r.Output
	if !in.Known {
		in = base.Input
	}
	if !out.Known {
		out = base.Output
	}
	if r.CacheWrite.Known && r.CacheWrite.Value.LessThan(in.Value) {
		r.CacheWrite.Value = r.CacheWrite.Value.Add(in.Value)
	}
	if r.Reasoning.Known && equal(r.Reasoning, out) {
		r.Reasoning = USD{}
	}
}

// openRouterTiers reads the overrides. There each adds to those before it; here
// each tier holds all that applies from its number of tokens on.
func openRouterTiers(raw json.RawMessage, base Rates) []Tier {
	var overrides []map[string]json.RawMessage
	if len(raw) == 0 || json.Unmarshal(raw, &overrides) != nil {
		return nil
	}
	var tiers []Tier
	for _, o := range overrides {
		n := listed(o["min_prompt_tokens"])
		if !n.IsInteger() || !n.IsPositive() || n.GreaterThan(decimal.New(1, 12)) || hasOtherCondition(o) {
			continue
		}
		t := Tier{Above: max(n.IntPart()-1, 1), Rates: openRouterRates(o)}
		t.tidy(base)
		if t.Rates != (Rates{}) {
			tiers = append(tiers, t)
		}
	}
	slices.SortStableFunc(tiers, func(a, b Tier) int { return cmp.Compare(a.Above, b.Above) })
	merged := tiers[:0]
	for _, t := range tiers {
		if n := len(merged); n > 0 {
			t.Rates = t.Rates.over(merged[n-1].Rates)
			if merged[n-1].Above == t.Above {
				merged = merged[:n-1]
			}
		}
		merged = append(merged, t)
	}
	return merged
}

// hasOtherCondition reports whether an override holds only at some times, or
// under conditions that are news to us. Everything that is not a price is one.
func hasOtherCondition(override map[string]json.RawMessage) bool {
	for name, raw := range override {
		if name == "min_prompt_tokens" || string(raw) == "null" {
			continue
		}
		if name == "image" || name == "image_output" || name == "request" || name == "web_search" {
			continue // prices that tiers do not have
		}
		known := false
		for _, p := range openRouterPrices {
			known = known || p.name == name
		}
		if !known {
			return true
		}
	}
	return false
}

// listedPrice is a price of the list; 0, below 0 and beyond limit are unknown.
func listedPrice(raw json.RawMessage, limit decimal.Decimal) USD {
	d := listed(raw)
	if !d.IsPositive() || d.GreaterThan(limit) {
		return USD{}
	}
	return event.Some(d)
}

// listed reads a number that may be in a string; 0 if there is none.
func listed(raw json.RawMessage) decimal.Decimal {
	d, _ := parseDecimal(strings.TrimSpace(strings.Trim(string(raw), `"`)))
	return d
}
