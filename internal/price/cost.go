package price

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
)

// WarningProperty is the property in which [Table.Price] says what was wrong with
// an event's counts or costs: a list of the warnings below, parted by commas.
const WarningProperty = "cost_warning"

// Warnings about amounts that were taken as 0 or as unknown.
const (
	WarnCacheExceedsInput    = "cache_exceeds_input"    // more cached tokens than input that should include them
	WarnModalityExceedsInput = "modality_exceeds_input" // more audio and image tokens than input
	WarnModalityExceedsTotal = "modality_exceeds_output"
	WarnNegativeCount        = "negative_count"
	WarnNegativeCost         = "negative_cost"
	WarnUnreadableCost       = "unreadable_cost" // a number with thousands of digits
)

// Fall-backs of Anthropic's cache prices, as multiples of the input price, and
// of every other provider's.
var (
	zero              = event.Some(decimal.Zero)
	claudeCacheRead   = decimal.New(1, -1)
	claudeCacheWrite  = decimal.New(125, -2)
	claudeCacheWrite1 = decimal.New(2, 0)
	otherCacheRead    = decimal.New(5, -1)
)

// Price sets the event's cost, and what it determined on the way:
// Usage.CacheExclusive, Cost.ModelUsed, Cost.Source and Cost.Provider. Events that
// cannot have a cost, or have been priced, are left unchanged. It does no I/O and is
// safe for concurrent use on different events.
//
// The first rule that applies is used (contract section 4):
//
//  1. The provider's own word, Usage.ReportedCost, unless a total came with the
//     event: the total is it, the parts stay as they are. Source passthrough.
//  2. Input and output costs that came with the event, neither of them 0: the
//     total is the one that came too, or the sum. Source passthrough.
//  3. A total that came with the event, 0 included. Source passthrough. PostHog asks
//     for $ai_cost_passthrough here and fills the parts without it; hedgerow
//     takes a total for an answer either way.
//  4. Prices that came with the event: $ai_input_token_price and
//     $ai_output_token_price, both, in USD per token, and optionally
//     $ai_cache_read_token_price, $ai_cache_write_token_price,
//     $ai_cache_write_1h_token_price, $ai_request_price, $ai_web_search_price.
//     Source custom.
//  5. The row that [Table.Match] finds for the model that answered; an own price
//     or an alias for the model that was asked for wins over it. Source manual,
//     openrouter (synced) or table.
//
// Where none applies, the cost is unknown, never 0. So is a part without a count
// or a rate, and the total where a count of tokens has no rate. Otherwise the
// total is the sum of the known parts.
//
// Input: cache reads and writes lie inside Usage.Input unless CacheExclusive.
// Where that is unknown it becomes true for Anthropic and Claude models, but not
// through OpenRouter, which counts in OpenAI's way whatever the model (PostHog
// charges those twice), and false for all others; Vercel's SDK is judged by the
// counts. Cache reads cost the row's rate, or a tenth of the input rate for
// Claude and half of it for others; writes cost the row's rates, or 1.25 × (five
// minutes) and 2 × (one hour) the input rate for Claude. Other models' writes
// are input like any other unless their row has a rate for them. Audio and image
// tokens leave the pool of text and cost their own rate, or else that of text.
//
// Output: Usage.Output includes reasoning, which therefore costs nothing more,
// save at a rate of its own where the row has one.
//
// A request price is charged once a call, or $ai_request_count times; not for a
// failed call that used nothing. Searches cost the row's price each.
//
// Counts that contradict each other cannot make a cost negative: what would be
// below 0 is taken as 0, and the property [WarningProperty] says so.
func (t *Table) Price(e *event.Event) {
	if !e.IsCall() || e.Cost.Total.Known && e.Cost.Source != "" {
		return
	}
	c := pricing{e: e}
	c.checkCosts()
	c.checkCounts()
	provider := providerOf(e)
	m := t.matchEvent(provider, e)
	c.claude = m.claude
	c.resolveExclusive(provider)
	switch {
	case c.passThrough():
	case c.custom():
	case m.row != nil:
		c.row(m.row)
	}
	t.others(e)
	c.warn()
}

// matchEvent finds the row of the model that answered. What the user has said of
// the model asked for, an own price or an alias, goes before what the table says
// of the one that answered: a deployment is known by its own name.
func (t *Table) matchEvent(provider string, e *event.Event) match {
	m := t.match(provider, e.ModelName())
	if e.ModelAsked == "" || e.Model == "" || m.private || len(t.own) == 0 && len(t.aliases) == 0 {
		return m
	}
	if asked := t.match(provider, e.ModelAsked); asked.private {
		return asked
	}
	return m
}

// pricing is the work on one event.
type pricing struct {
	e        *event.Event
	claude   bool
	warnings []string

	// Counts, 0 where unknown.
	input, output, cacheRead, write5m, write1h    int64
	reasoning, inAudio, outAudio, cacheAudio      int64
	inImage, outImage, inText, outText            int64
	inputKnown, outputKnown, inSide, outSide, exc bool

	unpriced bool // tokens were counted for which there is no rate
}

func (c *pricing) note(warning string) {
	if !slices.Contains(c.warnings, warning) {
		c.warnings = append(c.warnings, warning)
	}
}

func (c *pricing) warn() {
	if len(c.warnings) > 0 {
		// A string marshals always.
		_ = c.e.SetProperty(WarningProperty, strings.Join(c.warnings, ","))
	}
}

// checkCosts makes what came with the event safe to add up.
func (c *pricing) checkCosts() {
	cost := &c.e.Cost
	for _, v := range []*USD{&cost.Input, &cost.Output, &cost.Request, &cost.WebSearch, &cost.Total, &c.e.Usage.ReportedCost} {
		switch {
		case !v.Known:
		case !sane(v.Value):
			*v = USD{}
			c.note(WarnUnreadableCost)
		case v.Value.IsNegative():
			*v = zero
			c.note(WarnNegativeCost)
		}
	}
}

func (c *pricing) checkCounts() {
	u := &c.e.Usage
	count := func(n event.Int, side *bool) int64 {
		if n.Known {
			*side = true
		}
		if n.Value < 0 && n.Known {
			c.note(WarnNegativeCount)
			return 0
		}
		return n.Or(0)
	}
	c.inputKnown, c.outputKnown = u.Input.Known, u.Output.Known
	c.input = count(u.Input, &c.inSide)
	c.cacheRead = count(u.CacheRead, &c.inSide)
	all := count(u.CacheWrite, &c.inSide)
	c.write5m = count(u.CacheWrite5m, &c.inSide)
	c.write1h = count(u.CacheWrite1h, &c.inSide)
	// Writes of no stated lifetime are of the default one, five minutes.
	c.write5m = max(c.write5m, all-c.write1h)
	c.inAudio = count(u.InputAudio, &c.inSide)
	c.cacheAudio = min(count(u.CacheReadAudio, &c.inSide), c.inAudio, c.cacheRead)
	c.inImage = count(u.InputImage, &c.inSide)
	c.inText = count(u.InputText, &c.inSide)
	c.output = count(u.Output, &c.outSide)
	c.reasoning = count(u.Reasoning, &c.outSide)
	c.outAudio = count(u.OutputAudio, &c.outSide)
	c.outImage = count(u.OutputImage, &c.outSide)
	c.outText = count(u.OutputText, &c.outSide)
	if !c.inputKnown {
		c.input = c.inText + c.inAudio + c.inImage
	}
}

// resolveExclusive settles whether cached tokens lie outside the input count,
// and writes the answer back.
func (c *pricing) resolveExclusive(provider string) {
	u := &c.e.Usage
	if u.CacheExclusive.Known || !c.inSide {
		c.exc = u.CacheExclusive.Value
		return
	}
	switch {
	case !c.claude, provider == "openrouter":
		c.exc = false
	case (provider == "gateway" || provider == "anthropic") && rawString(c.e.Properties["$ai_framework"]) == "vercel":
		c.exc = c.input < c.cacheRead+c.write5m+c.write1h
	default:
		c.exc = true
	}
	u.CacheExclusive = event.Some(c.exc)
}

// passThrough takes over a cost that someone else has worked out.
func (c *pricing) passThrough() bool {
	cost, reported := &c.e.Cost, c.e.Usage.ReportedCost
	nonZero := func(v USD) bool { return v.Known && !v.Value.IsZero() }
	switch {
	case !cost.Total.Known && reported.Known:
		cost.Total = reported
	case nonZero(cost.Input) && nonZero(cost.Output):
		if !nonZero(cost.Total) {
			cost.Total = sum(cost)
		}
	case !cost.Total.Known:
		return false
	}
	cost.Source = event.CostPassthrough
	return true
}

// custom prices the event by rates that came with it.
func (c *pricing) custom() bool {
	in, out := c.property("$ai_input_token_price"), c.property("$ai_output_token_price")
	if !in.Known || !out.Known {
		return false
	}
	r := Rates{
		Input: in, Output: out,
		CacheRead:    c.property("$ai_cache_read_token_price"),
		CacheWrite:   c.property("$ai_cache_write_token_price"),
		CacheWrite1h: c.property("$ai_cache_write_1h_token_price"),
	}
	c.compute(&r, c.property("$ai_request_price"), c.property("$ai_web_search_price"))
	c.named("custom", "custom", event.CostCustom)
	return true
}

func (c *pricing) row(r *entry) {
	prompt := c.input
	if c.exc {
		prompt += c.cacheRead + c.write5m + c.write1h
	}
	rates := &r.Rates
	for i := range r.ready {
		if prompt > r.ready[i].Above {
			rates = &r.ready[i].Rates
		}
	}
	c.compute(rates, r.Request, r.WebSearch)
	c.named(r.Model, r.Provider, r.Origin)
}

// named records where the price is from, if there is one.
func (c *pricing) named(model, provider, source string) {
	cost := &c.e.Cost
	if cost.Total.Known || cost.Input.Known || cost.Output.Known {
		cost.ModelUsed, cost.Provider, cost.Source = model, provider, source
	}
}

// compute fills the parts that did not come with the event, and the total.
func (c *pricing) compute(r *Rates, request, search USD) {
	cost := &c.e.Cost
	absent := func(v USD) bool { return !v.Known || v.Value.IsZero() }
	if c.inSide && absent(cost.Input) {
		cost.Input = c.inputCost(r)
	}
	if c.outSide && absent(cost.Output) {
		cost.Output = c.outputCost(r)
	}
	failed := c.e.IsError && !c.inSide && !c.outSide
	if request.Known && !failed && !cost.Request.Known {
		cost.Request = event.Some(c.requests().Mul(request.Value))
	}
	if n := c.e.Usage.WebSearches; search.Known && n.Known && !cost.WebSearch.Known {
		if n.Value < 0 {
			c.note(WarnNegativeCount)
		}
		cost.WebSearch = event.Some(times(max(n.Value, 0), search.Value))
	}
	if !c.unpriced {
		cost.Total = sum(cost)
	}
}

func (c *pricing) inputCost(r *Rates) USD {
	if !r.Input.Known {
		c.unpriced = c.unpriced || c.input+c.cacheRead+c.write5m+c.write1h > 0
		return USD{}
	}
	in := r.Input.Value
	text := c.input - c.inAudio - c.inImage
	if text < 0 {
		c.note(WarnModalityExceedsInput)
		text = 0
	}
	cachedText := c.cacheRead - c.cacheAudio
	writes := c.write5m + c.write1h
	apart := c.claude || r.CacheWrite.Known // writes have a price of their own
	if !c.exc {
		text -= cachedText
		if apart {
			text -= writes
		}
	} else if !apart {
		text += writes
	}
	if text < 0 {
		// Without an input count there is nothing that could hold the cached tokens.
		if c.inputKnown {
			c.note(WarnCacheExceedsInput)
		}
		text = 0
	}
	total := times(text, in)
	var saved decimal.Decimal
	if cachedText > 0 {
		total = total.Add(times(cachedText, c.cacheReadRate(r)))
		saved = times(cachedText, in.Sub(c.cacheReadRate(r)))
	}
	if apart && c.write5m > 0 {
		total = total.Add(times(c.write5m, orTimes(r.CacheWrite, in, claudeCacheWrite)))
	}
	if apart && c.write1h > 0 {
		rate := r.CacheWrite1h
		if !rate.Known && !c.claude {
			rate = r.CacheWrite
		}
		total = total.Add(times(c.write1h, orTimes(rate, in, claudeCacheWrite1)))
	}
	if c.inAudio > 0 {
		total = total.Add(times(c.inAudio-c.cacheAudio, r.InputAudio.Or(in)))
		if c.cacheAudio > 0 {
			total = total.Add(times(c.cacheAudio, c.cacheAudioRate(r)))
			saved = saved.Add(times(c.cacheAudio, r.InputAudio.Or(in).Sub(c.cacheAudioRate(r))))
		}
	}
	if c.inImage > 0 {
		total = total.Add(times(c.inImage, r.InputImage.Or(in)))
	}
	if c.e.Usage.CacheRead.Known {
		c.e.Cost.CacheSaved = event.Some(decimal.Max(saved, decimal.Zero))
	}
	return event.Some(total)
}

func (c *pricing) cacheReadRate(r *Rates) decimal.Decimal {
	if c.claude {
		return orTimes(r.CacheRead, r.Input.Value, claudeCacheRead)
	}
	return orTimes(r.CacheRead, r.Input.Value, otherCacheRead)
}

func (c *pricing) cacheAudioRate(r *Rates) decimal.Decimal {
	if r.CacheReadAudio.Known {
		return r.CacheReadAudio.Value
	}
	return orTimes(r.CacheRead, r.Input.Value, otherCacheRead)
}

func (c *pricing) outputCost(r *Rates) USD {
	var text int64
	switch {
	case c.outputKnown: // the count of text leaves the thoughts out, at Google and elsewhere
		text = c.output - c.outAudio - c.outImage
	case c.e.Usage.OutputText.Known:
		text = c.outText
	default:
		text = c.reasoning
	}
	if text < 0 {
		c.note(WarnModalityExceedsTotal)
		text = 0
	}
	if !r.Output.Known {
		if text > 0 || c.outAudio > 0 && !r.OutputAudio.Known || c.outImage > 0 && !r.OutputImage.Known {
			c.unpriced = true
			return USD{}
		}
		if c.outAudio+c.outImage == 0 {
			return USD{} // an embedding has no output to price
		}
	}
	out := r.Output.Value
	total := decimal.Zero
	if r.Reasoning.Known {
		thought := min(c.reasoning, text)
		text -= thought
		total = times(thought, r.Reasoning.Value)
	}
	total = total.Add(times(text, out))
	if c.outAudio > 0 {
		total = total.Add(times(c.outAudio, r.OutputAudio.Or(out)))
	}
	if c.outImage > 0 {
		total = total.Add(times(c.outImage, r.OutputImage.Or(out)))
	}
	return event.Some(total)
}

// requests is how many requests the event stands for.
func (c *pricing) requests() decimal.Decimal {
	if n := c.property("$ai_request_count"); n.Known {
		return n.Value
	}
	return decimal.NewFromInt(1)
}

// property reads a number among the event's own properties.
func (c *pricing) property(name string) USD {
	raw, ok := c.e.Properties[name]
	if !ok {
		return USD{}
	}
	d, ok := parseDecimal(strings.Trim(string(raw), `"`))
	if !ok {
		return USD{}
	}
	if d.IsNegative() {
		c.note(WarnNegativeCost)
		return zero
	}
	return event.Some(d)
}

func sum(c *event.Cost) USD {
	var total USD
	for _, part := range []USD{c.Input, c.Output, c.Request, c.WebSearch} {
		if part.Known {
			total = event.Some(total.Value.Add(part.Value))
		}
	}
	return total
}

func times(n int64, rate decimal.Decimal) decimal.Decimal {
	if n == 0 {
		return decimal.Zero
	}
	return decimal.NewFromInt(n).Mul(rate)
}

// orTimes is the rate or, if it is unknown, a multiple of another.
func orTimes(rate USD, base, factor decimal.Decimal) decimal.Decimal {
	if rate.Known {
		return rate.Value
	}
	return base.Mul(factor)
}

func rawString(raw json.RawMessage) string {
	var s string
	if raw == nil || json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}
