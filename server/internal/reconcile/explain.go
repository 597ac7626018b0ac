package reconcile

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

// The difference of one day and model is taken apart by quantities. Let P(t,k) be the
// provider's quantity of tier t and kind k, H(t,k) hedgerow's, of which U(t,k) are of
// calls without a known cost, r(t,k) the provider's own rate, billed amount by quantity,
// T what the provider billed for usage, N what it billed for tools and other lines, and
// h and n hedgerow's costs of both. Then
//
//	T + N − h − n  =  Σ r (P − H)  +  Σ r U  +  (Σ r (H − U) − h)  +  (N − n)
//
// since Σ r P = T. The first sum is taken apart further: what one tier has more of a
// kind and less of another is counted as other kinds (cached); what is left, one tier
// more and another less, as another tier; the rest is more, or less, use. The third is
// another price for the same use or, within what the bill's rounding allows, rounding.
// Where a quantity or a rate is missing, the part that needs it is unknown and stays in
// the remainder, so that the parts and the remainder always sum up to the difference.

// precision is the number of digits behind the point in divisions, and of parts.
const (
	precision = 24
	parts     = 12
)

// comp is what has one rate.
type comp struct {
	model string // its key
	tier  string
	kind  Kind
}

// cell is one day of one model or, if the bill names no models, of all.
type cell struct {
	day      string
	key      string
	billed   []Line // lines with amounts
	step     decimal.Decimal
	counted  map[comp]decimal.Decimal // the provider's quantities
	requests event.Int
	calls    []query.BilledCalls
	names    map[string]string // a name of each model, for its price
	// billedNames are the models as lines write them.
	billedNames map[string]bool

	costs bool // there is a bill of the day, with or without lines of the model
	usage bool // there is usage of the day
}

// Reason names a cause of a difference.
type Reason string

// The reasons, in the order in which they are shown.
const (
	ReasonOutside       Reason = "outside"        // usage that the provider counts and hedgerow does not
	ReasonNotBilled     Reason = "not_billed"     // usage that hedgerow counts and the provider does not
	ReasonUnknownPrices Reason = "unknown_prices" // calls that hedgerow recorded and could not price
	ReasonTiers         Reason = "tiers"          // billed by another tier than recorded
	ReasonCached        Reason = "cached"         // billed as other kinds of tokens than recorded: cached input and others
	ReasonTools         Reason = "tools"          // tools, taxes, credits and other lines that are no tokens
	ReasonOtherPrices   Reason = "prices"         // another price for the same usage
	ReasonRounding      Reason = "rounding"
	ReasonOpen          Reason = "open" // the remainder
)

// reasons lists all with how they are called.
var reasons = []struct {
	Reason
	Label string
}{
	{ReasonOutside, "Calls outside the gateway"}, {ReasonNotBilled, "Recorded, not on the bill"}, {ReasonUnknownPrices, "Unknown prices"}, {ReasonTiers, "Service tiers"}, {ReasonCached, "Cached and other token kinds"},
	{ReasonTools, "Tools and other lines"}, {ReasonOtherPrices, "Other prices than hedgerow’s"}, {ReasonRounding, "Rounding"}, {ReasonOpen, "Still open"},
}

// Label is how a reason is called.
func (r Reason) Label() string {
	for _, x := range reasons {
		if x.Reason == r {
			return x.Label
		}
	}
	return string(r)
}

// Cause is a part of a difference.
type Cause struct {
	Reason Reason `json:"reason"`
	Label  string `json:"label"`
	USD    USD    `json:"usd"`              // null: it applies, and its amount cannot be computed
	Detail string `json:"detail,omitempty"` // what it consists of
	Items  []Item `json:"items,omitempty"`  // of tools and other lines: what is billed
}

// Item is a billed line.
type Item struct {
	Name string `json:"name"`
	USD  USD    `json:"usd"`
}

// explained is the result for one cell.
type explained struct {
	provider, hedgerow Amount
	amounts            map[Reason]decimal.Decimal
	details            map[Reason][]string
	lacking            map[Reason]bool // apply, without a known amount
	items              map[string]decimal.Decimal
}

func (x *explained) add(r Reason, usd decimal.Decimal, detail string) {
	x.amounts[r] = x.amounts[r].Add(usd.Round(parts))
	if detail != "" && !usd.IsZero() {
		x.details[r] = append(x.details[r], detail)
	}
}

func (x *explained) lack(r Reason, detail string) {
	x.lacking[r] = true
	x.details[r] = append(x.details[r], detail)
}

// explain takes the difference of a cell apart.
func (c *cell) explain(t Prices, provider string) *explained {
	x := &explained{amounts: make(map[Reason]decimal.Decimal), details: make(map[Reason][]string), lacking: make(map[Reason]bool), items: make(map[string]decimal.Decimal)}
	h, hTools, unpriced := c.recorded()
	x.hedgerow = event.Some(h)
	if !c.costs {
		return x
	}
	var usage []Line
	billed, tools := decimal.Zero, decimal.Zero
	kinds := slices.ContainsFunc(c.billed, func(l Line) bool { return l.Kind.usage() })
	for _, l := range c.billed {
		billed = billed.Add(l.USD.Value)
		if l.Kind == Other && l.Model != "" && !kinds && len(c.counted) > 0 {
			l.Kind = Total // of a model whose lines are in words that are not known
		}
		if l.Kind.usage() || l.Kind == Total {
			usage = append(usage, l)
			continue
		}
		tools = tools.Add(l.USD.Value)
		name := l.Item
		if name == "" {
			name = string(l.Kind)
		}
		x.items[name] = x.items[name].Add(l.USD.Value)
	}
	x.provider = event.Some(billed)
	difference := billed.Sub(h)
	if !hTools.IsZero() {
		x.items["recorded by hedgerow for tools"] = hTools.Neg()
	}
	x.add(ReasonTools, tools.Sub(hTools), "")

	prices, uncounted, missing := false, decimal.Zero, ""
	switch {
	case len(c.calls) == 0 && len(usage) > 0:
		x.add(ReasonOutside, billed.Sub(tools), "no call is recorded"+requestWords(c.requests))
	case len(usage) == 0 && len(c.counted) == 0:
		x.add(ReasonNotBilled, hTools.Sub(h), countWords(calls(c.calls), "recorded call")+" of a model without a line on the bill")
		if unpriced > 0 {
			x.lack(ReasonUnknownPrices, countWords(unpriced, "call")+" without a known cost, not on the bill")
		}
	case len(c.counted) == 0:
		if missing = "import the usage export, by model, to compare tokens"; c.usage {
			missing = "the imported usage has no tokens of this model"
		}
		if unpriced > 0 {
			x.lack(ReasonUnknownPrices, countWords(unpriced, "call")+" without a known cost")
		}
	default:
		prices, uncounted = c.quantities(x, t, provider, usage)
	}
	rest := difference
	for _, usd := range x.amounts {
		rest = rest.Sub(usd)
	}
	rows := 0
	for _, l := range c.billed {
		rows += l.Rows
	}
	limit := c.step.Div(decimal.NewFromInt(2)).Mul(decimal.NewFromInt(int64(rows))).Add(decimal.New(1, -9))
	switch {
	case rest.IsZero():
	case rest.Abs().LessThanOrEqual(limit):
		x.add(ReasonRounding, rest, fmt.Sprintf("amounts in steps of %s USD", c.step))
	case missing != "":
		x.lack(ReasonOutside, missing)
	case prices:
		x.add(ReasonOtherPrices, rest.Sub(uncounted), "for the same usage, the bill’s own rates differ from those that hedgerow applied")
	}
	if !uncounted.IsZero() {
		x.details[ReasonOpen] = append(x.details[ReasonOpen], uncounted.String()+" USD are billed for what the usage export does not count")
	}
	open := difference
	for _, usd := range x.amounts {
		open = open.Sub(usd)
	}
	x.amounts[ReasonOpen] = open
	return x
}

// recorded is hedgerow's cost of the cell, its part for tools, and the number of calls
// that lack a cost and probably had one.
func (c *cell) recorded() (usd, tools decimal.Decimal, unpriced int64) {
	for _, b := range c.calls {
		usd = usd.Add(event.Opt[decimal.Decimal](b.CostUSD).Or(decimal.Zero))
		tools = tools.Add(event.Opt[decimal.Decimal](b.ToolsUSD).Or(decimal.Zero))
		if !b.Costed {
			unpriced += b.Calls - b.Failed
		}
	}
	return usd, tools, unpriced
}

// quantities computes the parts that need quantities. own reports whether what is left
// is a difference of prices: the rates of all priced usage are the bill's own.
// uncounted is billed for what the provider's usage does not count.
func (c *cell) quantities(x *explained, t Prices, provider string, usage []Line) (own bool, uncounted decimal.Decimal) {
	priced, unpriced := c.quantitiesOf(t, provider)
	noTier := c.align(usage, priced, unpriced)
	more := maps.Clone(c.counted)
	for _, m := range []map[comp]decimal.Decimal{priced, unpriced} {
		for k, n := range m {
			more[k] = more[k].Sub(n)
		}
	}
	rates, uncounted := c.rates(t, provider, usage, noTier, more)
	own = true
	for k := range priced {
		own = own && rates[k].own
	}
	var noCost, unmetered int64
	for _, b := range c.calls {
		if !b.Costed {
			noCost += b.Calls - b.Failed - b.Unmetered
			unmetered += b.Unmetered
		}
	}
	if noCost > 0 {
		usd, known := decimal.Zero, true
		for k, n := range unpriced {
			known = known && rates[k].usd.Known
			usd = usd.Add(n.Mul(rates[k].usd.Value))
		}
		if known {
			x.add(ReasonUnknownPrices, usd, countWords(noCost, "call")+" without a known cost, at the bill’s rates")
		} else {
			x.lack(ReasonUnknownPrices, countWords(noCost, "call")+" without a known cost, of tokens without a rate")
		}
	}
	c.moves(x, more, rates, unmetered)
	return own, uncounted
}

// quantitiesOf are hedgerow's quantities by rate, of calls with and without a known
// cost.
func (c *cell) quantitiesOf(t Prices, provider string) (priced, unpriced map[comp]decimal.Decimal) {
	priced, unpriced = make(map[comp]decimal.Decimal), make(map[comp]decimal.Decimal)
	for _, b := range c.calls {
		to := unpriced
		if b.Costed {
			to = priced
		}
		tier := tierOf(b.Tier)
		if tier == "" {
			tier = Standard
		}
		if s := strings.ToLower(b.Speed); tier == Standard && s != "" && s != Standard && s != "default" {
			tier = s
		}
		shortWrites := b.CacheWrite - b.CacheWrite1h - b.CacheWrite12h
		media := b.Input == 0 && b.Output == 0 // else tokens are billed, not pieces
		for k, n := range map[Kind]int64{
			Input: max(b.Input-b.CacheRead-b.CacheWrite-b.InputAudio-b.InputImage, 0), CacheRead: b.CacheRead, CacheWrite: max(shortWrites, 0), CacheWrite1h: b.CacheWrite1h, CacheWrite12h: b.CacheWrite12h,
			InputAudio: b.InputAudio, InputImage: b.InputImage, Output: max(b.Output-b.OutputAudio-b.OutputImage, 0), OutputAudio: b.OutputAudio, OutputImage: b.OutputImage,
		} {
			addTo(to, comp{modelKey(t, provider, b.Model), tier, k}, decimal.NewFromInt(n))
		}
		if media {
			model := modelKey(t, provider, b.Model)
			addTo(to, comp{model, tier, Images}, decimal.NewFromInt(b.Images))
			addTo(to, comp{model, tier, Characters}, decimal.NewFromInt(b.Characters))
			addTo(to, comp{model, tier, Seconds}, decimal.New(b.MediaTime.Milliseconds(), -3))
		}
	}
	return priced, unpriced
}

func addTo(m map[comp]decimal.Decimal, k comp, n decimal.Decimal) {
	if !n.IsZero() {
		m[k] = m[k].Add(n)
	}
}

// align brings both sides to what both distinguish: tiers only if the
// provider's usage names them, audio and images only if it counts or bills them
// separately. It returns the models without tiers.
func (c *cell) align(usage []Line, recorded ...map[comp]decimal.Decimal) map[string]bool {
	noTier, kinds := make(map[string]bool), make(map[Kind]bool)
	for k := range c.counted {
		noTier[k.model] = noTier[k.model] || k.tier == ""
		kinds[k.kind] = true
	}
	for _, l := range usage {
		kinds[l.Kind] = true
	}
	fold := map[Kind]Kind{InputAudio: Input, InputImage: Input, OutputAudio: Output, OutputImage: Output}
	for _, m := range append(recorded, c.counted) {
		for _, k := range slices.Collect(maps.Keys(m)) {
			to := k
			if noTier[k.model] {
				to.tier = ""
			}
			if into, ok := fold[k.kind]; ok && !kinds[k.kind] {
				to.kind = into
			}
			if to != k {
				n := m[k]
				delete(m, k)
				addTo(m, to, n)
			}
		}
	}
	return noTier
}

// rate is what one unit costs.
type rate struct {
	usd Amount
	own bool // the bill's, not hedgerow's table
}

// rates finds the bill's own rates: each billed amount is spread over the quantities
// that it covers, in the proportions of hedgerow's prices where it covers several. A
// counted quantity that no amount covers was billed at 0. What the provider did not
// count has hedgerow's rate. all has every comp that needs a rate. uncounted is billed
// for no quantity.
func (c *cell) rates(t Prices, provider string, usage []Line, noTier map[string]bool, all map[comp]decimal.Decimal) (out map[comp]rate, uncounted decimal.Decimal) {
	table := make(map[comp]Amount, len(all))
	for k := range all {
		at := k
		if at.tier == "" {
			at.tier = Standard
		}
		table[k] = rateOf(t, provider, c.names[k.model], at, c.day)
	}
	amounts := make(map[comp]decimal.Decimal) // by what lines say
	for _, l := range usage {
		k := comp{modelKey(t, provider, l.Model), l.Tier, l.Kind}
		if noTier[k.model] {
			k.tier = ""
		}
		amounts[k] = amounts[k].Add(l.USD.Value)
	}
	out = make(map[comp]rate, len(all))
	spread := func(usd decimal.Decimal, over []comp) {
		if len(over) == 0 {
			uncounted = uncounted.Add(usd)
		}
		sum, even := decimal.Zero, false
		weight := func(k comp) decimal.Decimal {
			if even {
				return c.counted[k]
			}
			return c.counted[k].Mul(table[k].Value)
		}
		for _, k := range over {
			even = even || !table[k].Known
		}
		for _, k := range over {
			sum = sum.Add(weight(k))
		}
		if even = even || sum.IsZero(); even {
			sum = decimal.Zero
			for _, k := range over {
				sum = sum.Add(weight(k))
			}
		}
		for _, k := range over {
			r := usd.Mul(weight(k)).DivRound(sum.Mul(c.counted[k]), precision)
			out[k] = rate{event.Some(out[k].usd.Or(decimal.Zero).Add(r)), true}
		}
	}
	counted := slices.SortedFunc(maps.Keys(c.counted), compareComps)
	for k, usd := range amounts {
		if k.kind == Total {
			continue
		}
		spread(usd, filter(counted, func(x comp) bool {
			if x.model != k.model || x.kind != k.kind {
				return false
			}
			_, apart := amounts[x] // this tier has a line of its own
			return x.tier == k.tier || k.tier == "" && !apart
		}))
	}
	covered := maps.Clone(out)
	for k, usd := range amounts {
		if k.kind == Total {
			spread(usd, filter(counted, func(x comp) bool {
				_, has := covered[x]
				return !has && (k.model == "" || x.model == k.model) && (k.tier == "" || k.tier == x.tier)
			}))
		}
	}
	for k := range all {
		if _, ok := out[k]; ok {
			continue
		}
		if _, ok := c.counted[k]; ok {
			out[k] = rate{event.Some(decimal.Zero), true}
		} else {
			out[k] = rate{usd: table[k]}
		}
	}
	return out, uncounted
}

func compareComps(a, b comp) int {
	return strings.Compare(a.model+"\x00"+a.tier+"\x00"+string(a.kind), b.model+"\x00"+b.tier+"\x00"+string(b.kind))
}

func filter(list []comp, f func(comp) bool) (out []comp) {
	for _, k := range list {
		if f(k) {
			out = append(out, k)
		}
	}
	return out
}

// moves takes apart by how much the provider counts more, or less, of each comp.
func (c *cell) moves(x *explained, more map[comp]decimal.Decimal, rates map[comp]rate, unmetered int64) {
	type group struct{ model, side string }
	groups := make(map[group][]comp)
	for _, k := range slices.SortedFunc(maps.Keys(more), compareComps) {
		g := group{k.model, k.kind.side()}
		groups[g] = append(groups[g], k)
	}
	outside, less := decimal.Zero, decimal.Zero
	unknown := false
	rest := make(map[string]decimal.Decimal) // by side
	for g, list := range groups {
		tiers := make(map[string][]comp)
		for _, k := range list {
			tiers[k.tier] = append(tiers[k.tier], k)
		}
		for _, same := range tiers {
			n, usd, known := match(same, more, rates)
			c.moved(x, ReasonCached, n, usd, known, g.side)
		}
		n, usd, known := match(list, more, rates)
		c.moved(x, ReasonTiers, n, usd, known, g.side)
		for _, k := range list {
			n := more[k]
			if n.IsZero() {
				continue
			}
			if unknown = unknown || !rates[k].usd.Known; n.IsPositive() {
				outside = outside.Add(n.Mul(rates[k].usd.Value))
			} else {
				less = less.Add(n.Mul(rates[k].usd.Value))
			}
			rest[g.side] = rest[g.side].Add(n)
		}
	}
	c.remaining(x, outside, less, unknown, rest, unmetered)
}

// match cancels what is more against what is less among comps, each in proportion, and
// returns how much that was and what it changes in USD.
func match(list []comp, more map[comp]decimal.Decimal, rates map[comp]rate) (n, usd decimal.Decimal, known bool) {
	plus, minus := decimal.Zero, decimal.Zero
	known = true
	for _, k := range list {
		if more[k].IsPositive() {
			plus = plus.Add(more[k])
		} else {
			minus = minus.Sub(more[k])
		}
	}
	if n = decimal.Min(plus, minus); n.IsZero() {
		return n, usd, known
	}
	for _, k := range list {
		all := plus
		if more[k].IsNegative() {
			all = minus
		}
		part := more[k].Mul(n).DivRound(all, precision)
		if more[k].IsZero() {
			continue
		}
		if all.Equal(n) {
			part = more[k]
		}
		more[k] = more[k].Sub(part)
		known = known && rates[k].usd.Known
		usd = usd.Add(part.Mul(rates[k].usd.Value))
	}
	return n, usd, known
}

func (c *cell) moved(x *explained, r Reason, n, usd decimal.Decimal, known bool, side string) {
	if n.IsZero() {
		return
	}
	detail := unitWords(n, side) + " billed as another kind than recorded"
	if r == ReasonTiers {
		detail = unitWords(n, side) + " billed in another tier than recorded"
	}
	if !known {
		x.lack(r, detail+", without a rate")
		return
	}
	x.add(r, usd, detail)
}

// remaining notes what is left after the moves: use that one of both does not count.
// Calls that hedgerow recorded without counts have a part of what the provider counts
// more, by their share of the calls.
func (c *cell) remaining(x *explained, outside, less decimal.Decimal, unknown bool, rest map[string]decimal.Decimal, unmetered int64) {
	var sides []string
	for _, side := range slices.Sorted(maps.Keys(rest)) {
		if n := rest[side]; !n.IsZero() {
			sides = append(sides, unitWords(n.Abs(), side)+map[bool]string{true: " more", false: " less"}[n.IsPositive()])
		}
	}
	detail := strings.Join(sides, ", ") + " on the bill"
	if len(sides) == 0 {
		return
	}
	if unknown {
		x.lack(ReasonOutside, detail+", without a rate")
		return
	}
	var recorded int64
	for _, b := range c.calls {
		recorded += b.Calls - b.Failed
	}
	beyond := c.requests.Value - recorded
	if unmetered > 0 && outside.IsPositive() {
		part := outside
		if c.requests.Known && beyond > 0 {
			part = outside.Mul(decimal.NewFromInt(unmetered)).DivRound(decimal.NewFromInt(unmetered+beyond), parts)
		}
		x.add(ReasonUnknownPrices, part, countWords(unmetered, "call")+" without token counts, by their share of the calls that the bill has more tokens for")
		outside = outside.Sub(part.Round(parts))
	}
	if c.requests.Known && beyond > 0 {
		detail += ", " + countWords(beyond, "call") + " more"
	}
	x.add(ReasonOutside, outside, detail)
	x.add(ReasonNotBilled, less, detail)
}

func calls(list []query.BilledCalls) (n int64) {
	for _, b := range list {
		n += b.Calls
	}
	return n
}

func countWords(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if head, ok := strings.CutSuffix(noun, " and model"); ok {
		return fmt.Sprintf("%d %ss and models", n, head)
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func requestWords(n event.Int) string {
	if !n.Known {
		return ""
	}
	return "; the bill has " + countWords(n.Value, "call")
}

func unitWords(n decimal.Decimal, side string) string {
	switch side {
	case "input", "output":
		return n.Round(0).String() + " " + side + " tokens"
	}
	return n.Round(2).String() + " " + side
}
